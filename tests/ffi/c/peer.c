/* One side of what goes between languages, in C: see peer.rs. */

#include "check.h"
#include <fcntl.h>
#include <unistd.h>

static int board;

static size_t body(uint64_t number, unsigned char *out) {
    memcpy(out, &number, 8);
    memset(out + 8, (int)(number % 251), number % 200);
    return 8 + number % 200;
}

static void note(uint64_t acknowledged, off_t at) {
    CHECK(pwrite(board, &acknowledged, 8, at) == 8);
}

static void see(const void *seen, size_t len) {
    unsigned char expected[512];
    uint64_t number;
    CHECK(len >= 8);
    memcpy(&number, seen, 8);
    CHECK(len == body(number, expected) && memcmp(seen, expected, len) == 0);
    CHECK(pwrite(board, "\1", 1, (off_t)(16 + number)) == 1);
}

static int is_whole(size_t count) {
    char *seen = malloc(count);
    CHECK(pread(board, seen, count, 16) == (ssize_t)count);
    int whole = memchr(seen, 0, count) == NULL;
    free(seen);
    return whole;
}

static void put(ringway_bus_t *bus, const char *name, uint64_t number, uint64_t count) {
    unsigned char buffer[512];
    char key[16];
    ringway_stream_t *stream;
    ringway_stream_producer_t *producer;
    DONE(ringway_stream_open(bus, name, NULL, &stream));
    DONE(ringway_stream_producer_open(stream, NULL, &producer));
    for (; number < count; number++) {
        snprintf(key, sizeof key, "key-%d", (int)(number % 7));
        const ringway_put_t record = {key, buffer, body(number, buffer), NULL};
        DONE(ringway_stream_put(producer, &record, RINGWAY_FOREVER, NULL));
        note(number + 1, 0);
    }
}

static void work(ringway_bus_t *bus, const char *name, uint64_t count) {
    ringway_stream_t *stream;
    ringway_stream_reader_t *worker;
    ringway_stream_reader_config_t config;
    ringway_stream_reader_config_init(&config);
    config.group = "peers";
    DONE(ringway_stream_open(bus, name, NULL, &stream));
    DONE(ringway_stream_reader_open(stream, &config, &worker));
    while (!is_whole(count)) {
        ringway_stream_record_t records[100];
        size_t read = 0;
        CHECK(ringway_stream_read(worker, 100, 50 * RINGWAY_MILLISECOND, records, &read) >= 0);
        for (size_t i = 0; i < read; i++) {
            see(records[i].data, records[i].len);
        }
        DONE(ringway_stream_checkpoint(worker, NULL));
    }
}

static void announce(ringway_bus_t *bus, const char *name, uint64_t number, uint64_t count) {
    unsigned char buffer[512];
    ringway_topic_t *topic;
    ringway_publisher_t *publisher;
    ringway_outgoing_t message;
    ringway_outgoing_init(&message);
    message.body = buffer;
    DONE(ringway_topic_open(bus, name, NULL, &topic));
    DONE(ringway_publisher_open(topic, &publisher));
    for (; number < count; number++) {
        message.len = body(number, buffer);
        DONE(ringway_publisher_publish(publisher, &message, 0, NULL));
        note(number + 1, 0);
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 5);
    const char *verb = argv[1], *name = argv[2];
    uint64_t count = strtoull(argv[4], NULL, 10), number = 0;
    board = open(argv[3], O_RDWR);
    CHECK(board >= 0 && pread(board, &number, 8, 0) == 8);
    unsigned char buffer[512];
    ringway_bus_t *bus;
    DONE(ringway_bus_open("peers", NULL, &bus));
    if (strcmp(verb, "put") == 0) {
        return put(bus, name, number, count), 0;
    }
    if (strcmp(verb, "work") == 0) {
        return work(bus, name, count), 0;
    }
    if (strcmp(verb, "announce") == 0) {
        return announce(bus, name, number, count), 0;
    }
    if (strcmp(verb, "send") == 0 || strcmp(verb, "receive") == 0) {
        ringway_queue_t *queue;
        ringway_sender_t *sender;
        ringway_receiver_t *receiver;
        DONE(ringway_queue_open(bus, name, NULL, &queue));
        if (strcmp(verb, "send") == 0) {
            DONE(ringway_sender_open(queue, &sender));
            for (; number < count; number++) {
                size_t len = body(number, buffer);
                DONE(ringway_sender_send(sender, buffer, len, RINGWAY_FOREVER, NULL));
                note(number + 1, 0);
            }
            return 0;
        }
        DONE(ringway_receiver_open(queue, NULL, &receiver));
        while (!is_whole(count)) {
            /* Batches, in C. */
            ringway_delivery_t deliveries[10];
            size_t taken = 0;
            while (ringway_receiver_receive_batch(receiver, 10, 50 * RINGWAY_MILLISECOND,
                       deliveries, &taken) == RINGWAY_OK) {
                for (size_t i = 0; i < taken; i++) {
                    see(deliveries[i].body, deliveries[i].received.len);
                    DONE(ringway_queue_delete(queue, &deliveries[i].received.receipt));
                }
            }
        }
        return 0;
    }
    ringway_channel_t *channel;
    DONE(ringway_channel_open(bus, name, NULL, &channel));
    if (strcmp(verb, "publish") == 0) {
        ringway_producer_t *producer;
        DONE(ringway_producer_open(channel, &producer));
        for (; number < count; number++) {
            size_t len = body(number, buffer);
            DONE(ringway_producer_send(producer, buffer, len, RINGWAY_FOREVER, NULL));
            note(number + 1, 0);
        }
        return 0;
    }
    CHECK(strcmp(verb, "read") == 0);
    ringway_reader_t *reader;
    ringway_reader_config_t config;
    ringway_reader_config_init(&config);
    config.start = RINGWAY_EARLIEST;
    DONE(ringway_reader_open(channel, &config, &reader));
    note(1, 8);
    while (!is_whole(count)) {
        ringway_record_t record;
        const void *seen;
        while (ringway_reader_view(reader, 50 * RINGWAY_MILLISECOND, &record, &seen) == RINGWAY_OK) {
            see(seen, record.len);
            DONE(ringway_release(reader));
        }
    }
    return 0;
}
