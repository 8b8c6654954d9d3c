/* Four workers share a queue of a thousand jobs; each job is done by one of them. */
#include <pthread.h>
#include <ringway.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOBS = 1000, WORKERS = 4, BATCH = 10 };
static ringway_queue_t *queue;
static atomic_int done;
static atomic_long sum;

static void check(int32_t status) {
    if (status < 0) {
        fprintf(stderr, "%s\n", ringway_last_error());
        exit(1);
    }
}

static void *work(void *unused) {
    /* One receiver for each thread. */
    ringway_receiver_t *receiver;
    check(ringway_receiver_open(queue, NULL, &receiver));
    while (done < JOBS) {
        ringway_delivery_t jobs[BATCH];
        ringway_receipt_t receipts[BATCH];
        size_t count = 0;
        int32_t status = ringway_receiver_receive_batch(
            receiver, BATCH, 20 * RINGWAY_MILLISECOND, jobs, &count);
        check(status);
        if (status == RINGWAY_TIMEOUT) {
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            int job;
            memcpy(&job, jobs[i].body, sizeof job);
            sum += job;
            receipts[i] = jobs[i].received.receipt;
        }
        check(ringway_receiver_delete_batch(receiver, receipts, count, NULL, NULL));
        done += (int)count;
    }
    check(ringway_close(receiver));
    return unused;
}

int main(void) {
    ringway_bus_t *bus;
    ringway_sender_t *sender;
    check(ringway_bus_open("pool", NULL, &bus));
    check(ringway_queue_open(bus, "jobs", NULL, &queue));
    check(ringway_sender_open(queue, &sender));

    pthread_t workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        pthread_create(&workers[i], NULL, work, NULL);
    }
    for (int job = 1; job <= JOBS; job++) {
        check(ringway_sender_send(sender, &job, sizeof job, RINGWAY_FOREVER, NULL));
    }
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i], NULL);
    }
    printf("%d jobs done, their sum is %ld\n", done, sum);

    check(ringway_close(sender));
    check(ringway_close(queue));
    check(ringway_close(bus));
    check(ringway_bus_destroy("pool", NULL, 0));
    return 0;
}
