/* Twelve trucks report to a stream of four shards; two workers share them, each truck is read in order. */
#include <pthread.h>
#include <ringway.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { TRUCKS = 12, REPORTS = 50, WORKERS = 2, BATCH = 64 };
static ringway_stream_t *stream;
static atomic_int done, out_of_order;
static atomic_int next[TRUCKS]; /* a shard that passes on takes its trucks along */

static void check(int32_t status) {
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", ringway_status_text(status), ringway_last_error());
        exit(1);
    }
}

static void *work(void *unused) {
    ringway_stream_reader_t *worker;
    ringway_stream_reader_config_t config;
    ringway_stream_reader_config_init(&config);
    config.group = "dispatch";
    check(ringway_stream_reader_open(stream, &config, &worker));
    while (done < TRUCKS * REPORTS) {
        ringway_stream_record_t records[BATCH];
        size_t count = 0;
        check(ringway_stream_read(worker, BATCH, 20 * RINGWAY_MILLISECOND, records, &count));
        for (size_t i = 0; i < count; i++) {
            int truck = atoi(records[i].partition_key + 6);
            int report = *(const int *)records[i].data;
            out_of_order += report != next[truck];
            next[truck] = report + 1;
        }
        done += (int)count;
        check(ringway_stream_checkpoint(worker, NULL)); /* done with them, whoever reads on */
    }
    check(ringway_close(worker));
    return unused;
}

int main(void) {
    ringway_bus_t *bus;
    ringway_stream_config_t config;
    ringway_stream_producer_t *producer;
    check(ringway_bus_open("fleet", NULL, &bus));
    ringway_stream_config_init(&config);
    config.shards = 4;
    check(ringway_stream_open(bus, "trucks", &config, &stream));
    check(ringway_stream_producer_open(stream, NULL, &producer));

    pthread_t workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        pthread_create(&workers[i], NULL, work, NULL);
    }
    for (int report = 0; report < REPORTS; report++) {
        for (int truck = 0; truck < TRUCKS; truck++) {
            char key[16];
            snprintf(key, sizeof key, "truck-%d", truck);
            const ringway_put_t record = {key, &report, sizeof report, NULL};
            check(ringway_stream_put(producer, &record, RINGWAY_FOREVER, NULL));
        }
    }
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i], NULL);
    }
    printf("%d reports of %d trucks, %d out of order\n", done, TRUCKS, out_of_order);

    check(ringway_close(producer));
    check(ringway_close(stream));
    check(ringway_close(bus));
    check(ringway_bus_destroy("fleet", NULL, 0));
    return 0;
}
