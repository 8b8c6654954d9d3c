/* The loops of main.rs, through the C ABI. */

#include <ringway.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 10, BLOCK = 1000 };
static unsigned char body[64];
static ringway_bus_t *bus;
static ringway_producer_t *producer;
static ringway_reader_t *reader;
static ringway_sender_t *sender, *go_sender, *back_sender;
static ringway_receiver_t *receiver, *go_receiver, *back_receiver;
static uint64_t sum;

static void check(int32_t status) {
    if (status != RINGWAY_OK) {
        fprintf(stderr, "%s: %s\n", ringway_status_text(status), ringway_last_error());
        exit(1);
    }
}

static void relax(void) {
#if defined(__x86_64__)
    __asm__ volatile("pause");
#endif
}

/* One thread on one core. */

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

/* Two processes on two cores. */

static void send_by(ringway_sender_t *by) {
    int32_t status;
    while ((status = ringway_sender_send(by, body, sizeof body, 0, NULL)) == RINGWAY_FULL) {
        relax();
    }
    check(status);
}

static void receive_by(ringway_receiver_t *by) {
    unsigned char buffer[64];
    ringway_received_t received;
    int32_t status;
    while ((status = ringway_receiver_receive(by, buffer, sizeof buffer, 0, &received)) ==
           RINGWAY_EMPTY) {
        relax();
    }
    check(status);
    check(ringway_receiver_delete(by, &received.receipt));
}

static void ping(void) {
    send_by(sender);
    receive_by(receiver);
}

static void pong(void) {
    receive_by(receiver);
    send_by(sender);
}

static void give(void) {
    for (int i = 0; i < BLOCK; i++) {
        send_by(sender);
    }
    send_by(go_sender);
    receive_by(back_receiver);
}

static void take(void) {
    receive_by(go_receiver);
    for (int i = 0; i < BLOCK; i++) {
        receive_by(receiver);
    }
    send_by(back_sender);
}

static void open_sender(const char *name, ringway_sender_t **opened) {
    ringway_queue_t *queue_of;
    check(ringway_queue_open(bus, name, NULL, &queue_of));
    check(ringway_sender_open(queue_of, opened));
    check(ringway_close(queue_of));
}

static void open_receiver(const char *name, ringway_receiver_t **opened) {
    ringway_queue_t *queue_of;
    check(ringway_queue_open(bus, name, NULL, &queue_of));
    check(ringway_receiver_open(queue_of, NULL, opened));
    check(ringway_close(queue_of));
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 2;
    }
    const char *name = argv[1];
    long times = strtol(argv[2], NULL, 10);
    void (*work)(void) = batch;
    long each = 1;
    memset(body, 7, sizeof body);
    int32_t pinned = ringway_pin_thread((uint32_t)strtoul(argv[3], NULL, 10));
    (void)pinned;
    check(ringway_bus_open("abi", NULL, &bus));
    if (strcmp(name, "channel") == 0) {
        ringway_channel_t *opened;
        work = channel;
        check(ringway_channel_open(bus, "channel", NULL, &opened));
        check(ringway_reader_open(opened, NULL, &reader));
        check(ringway_producer_open(opened, &producer));
    } else if (strcmp(name, "give") == 0) {
        work = give;
        each = BLOCK;
        open_sender("there", &sender);
        open_sender("go", &go_sender);
        open_receiver("back", &back_receiver);
    } else if (strcmp(name, "take") == 0) {
        work = take;
        each = BLOCK;
        open_receiver("there", &receiver);
        open_receiver("go", &go_receiver);
        open_sender("back", &back_sender);
    } else if (strcmp(name, "ping") == 0) {
        work = ping;
        open_sender("there", &sender);
        open_receiver("back", &receiver);
    } else if (strcmp(name, "pong") == 0) {
        work = pong;
        open_receiver("there", &receiver);
        open_sender("back", &sender);
    } else {
        work = strcmp(name, "queue") == 0 ? queue : batch;
        open_sender(name, &sender);
        open_receiver(name, &receiver);
    }
    times /= each;
    for (long i = 0; i < times / 10; i++) {
        work();
    }
    double start = seconds();
    for (long i = 0; i < times; i++) {
        work();
    }
    printf("%.3f\n", (seconds() - start) * 1e9 / (double)(times * each));
    void *opened[] = {producer,    reader,        sender, receiver, go_sender, go_receiver,
                      back_sender, back_receiver, bus};
    for (size_t i = 0; i < sizeof opened / sizeof opened[0]; i++) {
        check(ringway_close(opened[i]));
    }
    return 0;
}
