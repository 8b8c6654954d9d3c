/* The loops of main.rs, through the C ABI. */

#include <ringway.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 10 };
static unsigned char body[64];
static ringway_producer_t *producer;
static ringway_reader_t *reader;
static ringway_sender_t *sender;
static ringway_receiver_t *receiver;
static uint64_t sum;

static void check(int32_t status) {
    if (status != RINGWAY_OK) {
        fprintf(stderr, "%s: %s\n", ringway_status_name(status), ringway_last_error());
        exit(1);
    }
}

static void channel(void) {
    unsigned char buffer[64];
    ringway_record_t record;
    check(ringway_producer_send(producer, body, sizeof body, 0, NULL));
    check(ringway_reader_read(reader, buffer, sizeof buffer, 0, &record));
}

static void queue(void) {
    unsigned char buffer[64];
    ringway_received_t received;
    check(ringway_sender_send(sender, body, sizeof body, 0, NULL));
    check(ringway_receiver_receive(receiver, buffer, sizeof buffer, 0, &received));
    check(ringway_receiver_delete(receiver, &received.receipt));
}

static void batch(void) {
    ringway_slice_t bodies[BATCH];
    ringway_delivery_t deliveries[BATCH];
    ringway_receipt_t receipts[BATCH];
    size_t count;
    for (int i = 0; i < BATCH; i++) {
        bodies[i].data = body;
        bodies[i].len = sizeof body;
    }
    check(ringway_sender_send_batch(sender, bodies, BATCH, &count));
    check(ringway_receiver_receive_batch(receiver, BATCH, 0, deliveries, &count));
    if (count != BATCH) {
        exit(1);
    }
    for (int i = 0; i < BATCH; i++) {
        sum += *(const unsigned char *)deliveries[i].body;
        receipts[i] = deliveries[i].received.receipt;
    }
    check(ringway_receiver_delete_batch(receiver, receipts, BATCH, NULL, NULL));
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    long times = strtol(argv[2], NULL, 10);
    void (*work)(void) = strcmp(argv[1], "queue") == 0 ? queue : batch;
    memset(body, 7, sizeof body);
    int32_t pinned = ringway_pin_thread(0);
    (void)pinned;
    ringway_bus_t *bus;
    check(ringway_bus_open("abi", NULL, &bus));
    if (strcmp(argv[1], "channel") == 0) {
        ringway_channel_t *opened;
        work = channel;
        check(ringway_channel_open(bus, "channel", NULL, &opened));
        check(ringway_reader_open(opened, NULL, &reader));
        check(ringway_producer_open(opened, &producer));
    } else {
        ringway_queue_t *opened;
        check(ringway_queue_open(bus, argv[1], NULL, &opened));
        check(ringway_sender_open(opened, &sender));
        check(ringway_receiver_open(opened, NULL, &receiver));
    }
    for (long i = 0; i < times / 10; i++) {
        work();
    }
    double start = seconds();
    for (long i = 0; i < times; i++) {
        work();
    }
    printf("%.3f\n", (seconds() - start) * 1e9 / (double)times);
    return 0;
}
