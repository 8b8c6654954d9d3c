/* Calls by chance: every function, with arguments of which some are right, some NULL, misaligned, closed, of
   another kind, no constant, or longer than any object. Each call returns one of the statuses that the header
   lists, and behind all of them everything still works. Where only the caller can know (a pointer that is
   aligned and leads nowhere) nothing is tried.

   fuzz SEED CALLS */

#include "check.h"

static uint64_t state;

static uint64_t chance(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545F4914F6CDD1D;
}

static uint64_t below(uint64_t end) { return (chance() >> 32) % end; }

/* Handles that live, of every kind, and one of each that was closed. */
enum { KINDS = 16, SCRATCH = 1 << 16 };
static void *lives[KINDS];
static void *closed[KINDS];
static ringway_bus_t *bus;

/* Room for any result or buffer, and for structs whose pointers are written by `of`. */
static union {
    uint64_t align;
    unsigned char bytes[SCRATCH];
} scratch, other;

/* Mostly the handle that is wanted. */
static void *handle(int kind) {
    switch (below(8)) {
    case 0: return NULL;
    case 1: return closed[below(KINDS)];
    case 2: return lives[below(KINDS)];
    case 3: return (void *)(uintptr_t)chance();
    default: return lives[kind];
    }
}

/* Where a result goes: mostly room. */
static void *out(void) {
    switch (below(8)) {
    case 0: return NULL;
    case 1: return other.bytes + 1;
    default: return other.bytes;
    }
}

/* A length that fits the scratch, or none that any object has. */
static size_t length(size_t most) {
    switch (below(8)) {
    case 0: return SIZE_MAX;
    case 1: return SIZE_MAX / 2 + 1 + below(100);
    case 2: return 0;
    default: return (size_t)below(most + 1);
    }
}

static const char *text(void) {
    static const char *const texts[] = {"", "x", "\xff\xfe", "no/name", "queue", "stream", "topic", "group",
        "{\"a\": [1]}", "{\"a\": [{\"prefix\": \"x\"}]}", "{", "truck-7",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456"};
    return below(8) == 0 ? NULL : texts[below(sizeof texts / sizeof texts[0])];
}

static int64_t wait(void) {
    static const int64_t waits[] = {0, 0, 0, 0, 1, 1000, -7, INT64_MIN, INT64_MIN + 1};
    return waits[below(sizeof waits / sizeof waits[0])];
}

static int32_t constant(void) { return below(4) == 0 ? (int32_t)chance() : (int32_t)below(6); }

static uint64_t number(void) {
    static const uint64_t numbers[] = {0, 1, 7, 64, 1024, 30000, UINT64_MAX, UINT64_MAX - 1};
    return below(4) == 0 ? chance() : numbers[below(sizeof numbers / sizeof numbers[0])];
}

/* A body: bytes that are there, or a length that is none. */
static const void *body(size_t *len) {
    *len = length(SCRATCH);
    return below(6) == 0 ? NULL : scratch.bytes;
}

/* The same where nothing but the pointer is wrong at times. */
static const void *of(const void *whole) {
    switch (below(8)) {
    case 0: return NULL;
    case 1: return (const unsigned char *)whole + 1;
    default: return whole;
    }
}

static size_t size(size_t right) {
    switch (below(6)) {
    case 0: return (size_t)number();
    case 1: return right - 8;
    case 2: return right + 8;
    default: return right;
    }
}

static ringway_outgoing_t outgoing(void) {
    static ringway_attribute_t attributes[12];
    ringway_outgoing_t said;
    ringway_outgoing_init(&said);
    said.size = size(sizeof said);
    said.body = body(&said.len);
    said.group = text();
    said.dedup_id = below(2) == 0 ? NULL : text();
    said.trace_header = below(2) == 0 ? NULL : text();
    said.subject = below(2) == 0 ? NULL : text();
    said.delay_ms = below(2) == 0 ? RINGWAY_DEFAULT : number();
    for (int i = 0; i < 12; i++) {
        attributes[i].name = text();
        attributes[i].label = below(2) == 0 ? NULL : text();
        attributes[i].data_type = constant();
        attributes[i].value = body(&attributes[i].len);
    }
    said.attribute_count = below(2) == 0 ? 0 : length(12);
    said.attributes = of(attributes);
    return said;
}

static ringway_put_t put(void) {
    static const ringway_hash_key_t key = {7, 7};
    ringway_put_t record = {text(), NULL, 0, below(2) == 0 ? NULL : of(&key)};
    record.data = body(&record.len);
    return record;
}

static ringway_receipt_t receipt(void) {
    const ringway_receipt_t any = {number(), number(), number()};
    return any;
}

static int32_t call(unsigned which) {
    void *room = out();
    size_t len, *count = out();
    const void *bytes = body(&len);
    ringway_outgoing_t said = outgoing();
    ringway_put_t record = put();
    ringway_receipt_t wanted = receipt();
    /* Results that are written beside `room` have room of their own. */
    static uint64_t beside[8];
    switch (which) {
    case 0: {
        ringway_slice_t slice = {bytes, len};
        return ringway_producer_send_batch(handle(2), of(&slice), below(2), count);
    }
    case 1: return ringway_producer_send(handle(2), bytes, len, wait(), room);
    case 2: return ringway_reader_read(handle(3), below(2) == 0 ? NULL : scratch.bytes, length(SCRATCH), wait(), room);
    case 3: return ringway_reader_read_batch(handle(3), length(64), wait(), room, beside);
    case 4: {
        ringway_slice_t slice = {bytes, len};
        return ringway_sender_send_batch(handle(6), of(&slice), below(2), count);
    }
    case 5: return ringway_sender_send(handle(6), bytes, len, wait(), room);
    case 6: return ringway_sender_send_messages(handle(6), of(&said), below(2), room);
    case 7: return ringway_receiver_receive(handle(7), below(2) == 0 ? NULL : scratch.bytes, length(SCRATCH), wait(), room);
    case 8: return ringway_receiver_consume(handle(7), below(2) == 0 ? NULL : scratch.bytes, length(SCRATCH), wait(), room);
    case 9: return ringway_receiver_receive_batch(handle(7), length(64), wait(), room, beside);
    case 10: return ringway_receiver_receive_message(handle(7), handle(9), wait(), room);
    case 11: return ringway_receiver_delete(handle(7), of(&wanted));
    case 12: return ringway_receiver_delete_batch(handle(7), of(&wanted), below(2), room, below(2) == 0 ? NULL : beside);
    case 13: return ringway_queue_delete(handle(5), of(&wanted));
    case 14: return ringway_queue_extend(handle(5), of(&wanted), number());
    case 15: return ringway_queue_nack(handle(5), of(&wanted), number());
    case 16: return ringway_queue_stats(handle(5), room, size(sizeof(ringway_queue_stats_t)));
    case 17: return ringway_queue_settings(handle(5), room, size(sizeof(ringway_settings_t)));
    case 18: return ringway_message_parts(handle(9), room, size(sizeof(ringway_message_parts_t)));
    case 19: {
        ringway_move_config_t config = {size(sizeof config), handle(5), number(), constant(), 0};
        return ringway_queue_move(handle(5), of(&config), wait() == 0 ? 0 : -7, room, size(sizeof(ringway_move_status_t)));
    }
    case 20: return ringway_stream_put(handle(11), of(&record), wait(), room);
    case 21: return ringway_stream_put_batch(handle(11), of(&record), below(2), wait(), room);
    case 22: return ringway_stream_read(handle(12), length(64), wait(), room, beside);
    case 23: return ringway_stream_checkpoint(handle(12), below(2) == 0 ? NULL : of(beside));
    case 24: return ringway_stream_stats(handle(10), room, size(sizeof(ringway_stream_stats_t)));
    case 25: return ringway_stream_shards(handle(10), room, length(32), beside);
    case 26: {
        ringway_stream_reader_config_t config;
        ringway_stream_reader_t *opened = NULL;
        ringway_stream_reader_config_init(&config);
        config.size = size(sizeof config);
        config.group = below(2) == 0 ? NULL : text();
        config.shard = number();
        config.sequence_number.shard = below(3);
        config.sequence_number.position = number();
        config.timestamp_ms = number();
        config.iterator = constant();
        config.reliability = constant();
        config.idle = constant();
        const int32_t status = ringway_stream_reader_open(handle(10), of(&config), &opened);
        CHECK(status != RINGWAY_OK || ringway_close(opened) == RINGWAY_OK);
        return status;
    }
    case 27: {
        ringway_subscription_config_t config = {size(sizeof config), text(), text(), text(), constant(), constant()};
        uint64_t id = 0;
        const int32_t status = ringway_topic_subscribe(handle(13), of(&config), &id);
        CHECK(status != RINGWAY_OK || ringway_topic_unsubscribe(lives[13], id) == RINGWAY_OK ||
              ringway_topic_unsubscribe(closed[13], id) == RINGWAY_E_HANDLE);
        return status;
    }
    case 28: return ringway_topic_unsubscribe(handle(13), number());
    case 29: return ringway_topic_subscriptions(handle(13), room, length(32), beside);
    case 30: return ringway_topic_stats(handle(13), room, size(sizeof(ringway_topic_stats_t)));
    case 31: return ringway_publisher_publish_batch(handle(14), of(&said), below(2), room);
    case 32: return ringway_listener_hear(handle(15), handle(9), wait(), room);
    case 33: {
        void *waiting[3] = {handle(3), handle(7), handle((int)below(KINDS))};
        return ringway_wait_any((void *const *)of(waiting), length(3), wait(), room);
    }
    case 34: return ringway_release(handle(below(2) == 0 ? 3 : 7));
    case 35: return ringway_channel_stats(handle(1), room, size(sizeof(ringway_channel_stats_t)));
    case 36: return ringway_bus_objects(handle(0), room, length(32), beside);
    case 37: return below(2) == 0 ? ringway_receipt_parse(text(), room) : ringway_queue_flush(handle(5));
    case 38: return ringway_receipt_format(of(&wanted), room, length(64));
    default: {
        ringway_loan_t *loan = NULL;
        void *data = NULL;
        int32_t status = ringway_sender_loan(handle(6), length(4096), &loan, &data);
        if (status == RINGWAY_OK) {
            status = ringway_sender_send_loan(handle(6), loan, length(4096), NULL);
            CHECK(status == RINGWAY_OK || ringway_close(loan) == RINGWAY_OK);
        }
        return status;
    }
    }
}

static void open_all(void **all) {
    ringway_bus_t *opened;
    ringway_queue_config_t config;
    ringway_loan_t *loan;
    ringway_view_t *view;
    ringway_record_t record;
    const void *seen;
    void *data;
    ringway_queue_config_init(&config);
    config.slots = 1024;
    DONE(ringway_bus_open("fuzz", NULL, &opened));
    all[0] = opened;
    DONE(ringway_channel_open(opened, "channel", NULL, (ringway_channel_t **)&all[1]));
    DONE(ringway_producer_open(all[1], (ringway_producer_t **)&all[2]));
    DONE(ringway_reader_open(all[1], NULL, (ringway_reader_t **)&all[3]));
    DONE(ringway_producer_send(all[2], "x", 1, 0, NULL));
    DONE(ringway_reader_pin(all[3], 0, &view, &record, &seen));
    all[4] = view;
    DONE(ringway_queue_open(opened, "queue", &config, (ringway_queue_t **)&all[5]));
    DONE(ringway_sender_open(all[5], (ringway_sender_t **)&all[6]));
    DONE(ringway_receiver_open(all[5], NULL, (ringway_receiver_t **)&all[7]));
    DONE(ringway_sender_loan(all[6], 100, &loan, &data));
    all[8] = loan;
    DONE(ringway_message_open((ringway_message_t **)&all[9]));
    DONE(ringway_stream_open(opened, "stream", NULL, (ringway_stream_t **)&all[10]));
    DONE(ringway_stream_producer_open(all[10], (ringway_stream_producer_t **)&all[11]));
    DONE(ringway_stream_reader_open(all[10], NULL, (ringway_stream_reader_t **)&all[12]));
    DONE(ringway_topic_open(opened, "topic", NULL, (ringway_topic_t **)&all[13]));
    DONE(ringway_publisher_open(all[13], (ringway_publisher_t **)&all[14]));
    DONE(ringway_listener_open(all[13], (ringway_listener_t **)&all[15]));
}

static void close_all(void **all) {
    for (int i = KINDS - 1; i >= 0; i--) {
        DONE(ringway_close(all[i]));
    }
}

int main(int argc, char **argv) {
    const unsigned long calls = argc > 2 ? strtoul(argv[2], NULL, 10) : 20000;
    unsigned long done = 0;
    state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    CHECK(state != 0);
    open_all(closed);
    close_all(closed);
    open_all(lives);
    bus = lives[0];
    for (unsigned long i = 0; i < calls; i++) {
        const unsigned which = (unsigned)below(40);
        const uint64_t before = state;
        const int32_t status = call(which);
        const char *words = ringway_status_text(status);
        const int known = status == RINGWAY_E_OTHER || strstr(words, "RINGWAY_E_OTHER: ") == NULL;
        if (!known || status == RINGWAY_E_PANIC) {
            fprintf(stderr, "call %u from state %llu returned %d: %s\n", which,
                (unsigned long long)before, status, ringway_last_error());
            return 1;
        }
        done += status == RINGWAY_OK;
        /* What is full is emptied, so that there is more than one way to go. */
        if (i % 1000 == 0) {
            CHECK(ringway_queue_purge(lives[5], NULL) >= 0);
            while (ringway_reader_read(lives[3], scratch.bytes, SCRATCH, 0, (ringway_record_t *)(void *)other.bytes) >= 0 &&
                   ringway_reader_read(lives[3], scratch.bytes, SCRATCH, 0, (ringway_record_t *)(void *)other.bytes) == RINGWAY_OK) {
            }
        }
    }
    CHECK(done > calls / 20);
    /* After all that everything works. */
    char buffer[8];
    ringway_received_t received;
    CHECK(ringway_queue_purge(lives[5], NULL) >= 0);
    DONE(ringway_release(lives[7]));
    DONE(ringway_sender_send(lives[6], "fine", 4, 0, NULL));
    DONE(ringway_receiver_consume(lives[7], buffer, sizeof buffer, RINGWAY_SECOND, &received));
    CHECK(received.len == 4 && memcmp(buffer, "fine", 4) == 0);
    close_all(lives);
    DONE(ringway_bus_destroy("fuzz", NULL, 1));
    puts("fuzz: ok");
    return 0;
}
