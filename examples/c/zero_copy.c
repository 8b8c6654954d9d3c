/* A megabyte that is written where its reader finds it, and never copied. */
#include <ringway.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME = 1 << 20 };

static void check(int32_t status) {
    if (status != RINGWAY_OK) {
        fprintf(stderr, "%s: %s\n", ringway_status_text(status), ringway_last_error());
        exit(1);
    }
}

int main(void) {
    ringway_bus_t *bus;
    ringway_channel_t *channel;
    ringway_producer_t *producer;
    ringway_reader_t *reader;
    check(ringway_bus_open("frames", NULL, &bus));
    check(ringway_channel_open(bus, "camera", NULL, &channel));
    check(ringway_reader_open(channel, NULL, &reader));
    check(ringway_producer_open(channel, &producer));

    ringway_loan_t *loan;
    void *frame;
    check(ringway_loan_open(producer, FRAME, &loan, &frame));
    memset(frame, 7, FRAME); /* as long as you like: it blocks nobody */
    check(ringway_loan_send(producer, loan, FRAME, NULL));

    ringway_record_t record;
    const void *seen;
    check(ringway_reader_view(reader, RINGWAY_SECOND, &record, &seen));
    long sum = 0;
    for (size_t i = 0; i < record.len; i++) {
        sum += ((const unsigned char *)seen)[i];
    }
    printf("%zu bytes seen in place, their sum is %ld\n", record.len, sum);
    check(ringway_release(reader)); /* until here the bytes stay */

    check(ringway_close(reader));
    check(ringway_close(producer));
    check(ringway_close(channel));
    check(ringway_close(bus));
    check(ringway_bus_destroy("frames", NULL, 0));
    return 0;
}
