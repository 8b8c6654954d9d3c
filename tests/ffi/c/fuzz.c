/* Calls by chance: every function that uses what is open, with arguments of which some are right, some NULL,
   misaligned, closed, of another kind, no constant, or longer than any object. Each call returns one of the
   statuses that the header lists, and behind all of them everything still works. Where only the caller can know
   (a pointer that is aligned and leads nowhere) nothing is tried.

   A call takes what its arguments take: each makes only those it needs, bodies are short but for some, and what
   grows for ever (shards, subscriptions, memory of the pool) is begun anew now and then.

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
static int seldom(void) { return below(32) == 0; }

/* Handles that live, of every kind, and one of each that was closed. */
enum {
    BUS, CHANNEL, PRODUCER, READER, VIEW, QUEUE, SENDER, RECEIVER, LOAN, MESSAGE,
    STREAM, PUTTER, AGGREGATOR, TAKER, WORKER, CONSUMER, TOPIC, PUBLISHER, LISTENER, KINDS
};
enum { SCRATCH = 1 << 16, RENEWED = 20000 };
static void *lives[KINDS];
static void *closed[KINDS];

/* Room for any result or buffer, and for structs whose pointers are written by `of`. */
static union {
    uint64_t align;
    unsigned char bytes[SCRATCH];
} scratch, other;
/* Results that are written beside those have room of their own. */
static uint64_t beside[8];

/* Mostly the handle that is wanted. */
static void *handle(int kind) {
    switch (below(16)) {
    case 0: return NULL;
    case 1: return closed[below(KINDS)];
    case 2: return lives[below(KINDS)];
    case 3: return (void *)(uintptr_t)chance();
    default: return lives[kind];
    }
}

/* Where a result goes: mostly room. */
static void *out(void) {
    switch (below(16)) {
    case 0: return NULL;
    case 1: return other.bytes + 1;
    default: return other.bytes;
    }
}

/* A pointer to something: at times NULL or misaligned. */
static const void *of(const void *whole) {
    switch (below(16)) {
    case 0: return NULL;
    case 1: return (const unsigned char *)whole + 1;
    default: return whole;
    }
}

/* A length that fits the scratch, mostly a short one, or none that any object has. */
static size_t length(size_t most) {
    switch (below(16)) {
    case 0: return SIZE_MAX;
    case 1: return SIZE_MAX / 2 + 1 + below(100);
    case 2: return 0;
    case 3: return (size_t)below(most + 1);
    default: return (size_t)below(most < 64 ? most + 1 : 65);
    }
}

static void *buffer(void) { return below(8) == 0 ? NULL : scratch.bytes; }

static const char *text(void) {
    static const char *const texts[] = {"", "x", "\xff\xfe", "no/name", "queue", "stream", "topic", "group",
        "consumer", "{\"a\": [1]}", "{\"a\": [{\"prefix\": \"x\"}]}", "{", "truck-7",
        "{\"healthyRetryPolicy\": {\"numRetries\": 3}}", "{\"PointType\": \"Timestamp\"}",
        "{\"default\": \"x\"}",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456"};
    return below(8) == 0 ? NULL : texts[below(sizeof texts / sizeof texts[0])];
}

static const char *maybe(void) { return below(2) == 0 ? NULL : text(); }

static int64_t wait(void) {
    static const int64_t waits[] = {0, 0, 0, 0, 0, 0, 1, -7, INT64_MIN, INT64_MIN + 1};
    return seldom() ? 1000 : waits[below(sizeof waits / sizeof waits[0])];
}

static int32_t constant(void) { return below(8) == 0 ? (int32_t)chance() : (int32_t)below(6); }

static uint64_t number(void) {
    static const uint64_t numbers[] = {0, 1, 7, 64, 1024, 30000, UINT64_MAX, UINT64_MAX - 1};
    return below(4) == 0 ? chance() : numbers[below(sizeof numbers / sizeof numbers[0])];
}

static uint64_t maybe_number(void) { return below(4) == 0 ? number() : RINGWAY_DEFAULT; }

/* A body: bytes that are there, or a length that is none. */
static const void *body(size_t *len) {
    *len = length(SCRATCH);
    return below(8) == 0 ? NULL : scratch.bytes;
}

static size_t size(size_t right) {
    switch (below(12)) {
    case 0: return (size_t)number();
    case 1: return right - 8;
    case 2: return right + 8;
    default: return right;
    }
}

static ringway_slice_t slice(void) {
    ringway_slice_t slice;
    slice.data = body(&slice.len);
    return slice;
}

static ringway_outgoing_t outgoing(void) {
    static ringway_attribute_t attributes[12];
    ringway_outgoing_t said;
    ringway_outgoing_init(&said);
    said.size = size(sizeof said);
    said.body = body(&said.len);
    said.group = maybe();
    said.dedup_id = maybe();
    said.trace_header = maybe();
    said.subject = maybe();
    said.delay_ms = maybe_number();
    said.per_protocol = below(4) == 0 ? constant() : 0;
    if (below(2) == 0) {
        said.attribute_count = below(16) == 0 ? SIZE_MAX / 2 : (size_t)below(13);
        for (size_t i = 0; i < 12 && i < said.attribute_count; i++) {
            attributes[i].name = text();
            attributes[i].label = maybe();
            attributes[i].data_type = constant();
            attributes[i].value = body(&attributes[i].len);
        }
        said.attributes = of(attributes);
    }
    return said;
}

static ringway_put_t put(void) {
    static const ringway_hash_key_t key = {7, 7};
    ringway_put_t record = {text(), NULL, 0, below(2) == 0 ? NULL : of(&key)};
    record.data = body(&record.len);
    return record;
}

/* One that was received, or any. */
static ringway_receipt_t receipt(void) {
    ringway_received_t received;
    if (below(4) == 0 && ringway_receiver_receive(lives[RECEIVER], scratch.bytes, SCRATCH, 0, &received) == RINGWAY_OK) {
        return received.receipt;
    }
    const ringway_receipt_t any = {number(), number(), number()};
    return any;
}

static int32_t to_channels(uint64_t which) {
    switch (which) {
    case 0: {
        ringway_slice_t one = slice();
        return ringway_producer_send_batch(handle(PRODUCER), of(&one), below(2), out());
    }
    case 1: {
        size_t len;
        const void *bytes = body(&len);
        return ringway_producer_send(handle(PRODUCER), bytes, len, wait(), out());
    }
    case 2: return ringway_reader_read(handle(READER), buffer(), length(SCRATCH), wait(), out());
    case 3: return ringway_reader_read_batch(handle(READER), length(64), wait(), out(), beside);
    case 4: {
        const void *seen = NULL;
        return ringway_reader_view(handle(READER), wait(), out(), of(&seen) == &seen ? &seen : NULL);
    }
    case 5: {
        ringway_view_t *view = NULL;
        const void *seen = NULL;
        const int32_t status = ringway_reader_pin(handle(READER), wait(), &view, out(), &seen);
        CHECK(status != RINGWAY_OK || ringway_close(view) == RINGWAY_OK);
        return status;
    }
    case 6: return ringway_channel_stats(handle(CHANNEL), out(), size(sizeof(ringway_channel_stats_t)));
    case 7: return ringway_release(handle(below(2) == 0 ? READER : RECEIVER));
    default: {
        ringway_loan_t *loan = NULL;
        void *data = NULL;
        int32_t status = ringway_loan_open(handle(below(2) == 0 ? SENDER : PRODUCER), length(4096), &loan, &data);
        if (status == RINGWAY_OK) {
            status = ringway_loan_send(handle(below(2) == 0 ? SENDER : PRODUCER), loan, length(4096), NULL);
            CHECK(status == RINGWAY_OK || ringway_close(loan) == RINGWAY_OK);
        }
        return status;
    }
    }
}

static int32_t to_queues(uint64_t which) {
    ringway_receipt_t wanted;
    switch (which) {
    case 0: {
        ringway_slice_t one = slice();
        return ringway_sender_send_batch(handle(SENDER), of(&one), below(2), out());
    }
    case 1: {
        size_t len;
        const void *bytes = body(&len);
        return ringway_sender_send(handle(SENDER), bytes, len, wait(), out());
    }
    case 2: {
        ringway_outgoing_t said = outgoing();
        return ringway_sender_send_messages(handle(SENDER), of(&said), below(2), out());
    }
    case 3: return ringway_receiver_receive(handle(RECEIVER), buffer(), length(SCRATCH), wait(), out());
    case 4: return ringway_receiver_consume(handle(RECEIVER), buffer(), length(SCRATCH), wait(), out());
    case 5: return ringway_receiver_receive_batch(handle(RECEIVER), length(64), wait(), out(), beside);
    case 6: return ringway_receiver_receive_message(handle(RECEIVER), handle(MESSAGE), wait(), out());
    case 7: return ringway_receiver_view(handle(RECEIVER), wait(), out());
    case 8: wanted = receipt(); return ringway_receiver_delete(handle(RECEIVER), of(&wanted));
    case 9:
        wanted = receipt();
        return ringway_receiver_delete_batch(handle(RECEIVER), of(&wanted), below(2), out(), below(2) == 0 ? NULL : beside);
    case 10: wanted = receipt(); return ringway_queue_delete(handle(QUEUE), of(&wanted));
    case 11: wanted = receipt(); return ringway_queue_extend(handle(QUEUE), of(&wanted), number());
    case 12: wanted = receipt(); return ringway_queue_nack(handle(QUEUE), of(&wanted), number());
    case 13: wanted = receipt(); return ringway_receipt_format(of(&wanted), out(), length(64));
    case 14: return below(2) == 0 ? ringway_receipt_parse(text(), out()) : ringway_queue_flush(handle(QUEUE));
    case 15: return ringway_queue_settings(handle(QUEUE), out(), size(sizeof(ringway_settings_t)));
    case 16: return ringway_message_parts(handle(MESSAGE), out(), size(sizeof(ringway_message_parts_t)));
    case 17: return ringway_queue_read_parked(handle(QUEUE), number(), constant(), buffer(), length(SCRATCH), out());
    default:
        /* These look at every slot. */
        switch (seldom() ? below(4) : 4) {
        case 0: return ringway_queue_parked(handle(QUEUE), out(), length(64), beside);
        case 1: return ringway_queue_stats(handle(QUEUE), out(), size(sizeof(ringway_queue_stats_t)));
        case 2: {
            ringway_move_config_t config = {size(sizeof config), handle(QUEUE), number(), constant(), 0};
            return ringway_queue_move(handle(QUEUE), of(&config), wait() == 0 ? 0 : -7, out(), size(sizeof(ringway_move_status_t)));
        }
        case 3: {
            void *waiting[3] = {handle(READER), handle(RECEIVER), handle((int)below(KINDS))};
            return ringway_wait_any((void *const *)of(waiting), length(3), wait(), out());
        }
        default: {
            ringway_settings_t settings;
            ringway_settings_init(&settings);
            settings.size = size(sizeof settings);
            settings.visibility_ms = maybe_number();
            settings.delay_ms = below(2) == 0 ? RINGWAY_DEFAULT : 900001;
            settings.max_receives = maybe_number();
            settings.dead_letter = maybe_number();
            settings.redrive_allow = constant();
            return ringway_queue_set(handle(QUEUE), of(&settings));
        }
        }
    }
}

static int32_t open_reader(void) {
    ringway_stream_reader_config_t config;
    ringway_stream_reader_t *opened = NULL;
    ringway_stream_reader_config_init(&config);
    config.size = size(sizeof config);
    config.group = below(4) == 0 ? text() : NULL;
    config.consumer = below(4) == 0 ? text() : NULL;
    config.shard = maybe_number();
    config.sequence_number.shard = below(3);
    config.sequence_number.position = number();
    config.timestamp_ms = number();
    config.iterator = constant();
    config.reliability = below(2) == 0 ? 0 : constant();
    config.idle = below(2) == 0 ? 0 : constant();
    config.take_over = constant();
    const int32_t status = ringway_stream_reader_open(handle(STREAM), of(&config), &opened);
    CHECK(status != RINGWAY_OK || ringway_close(opened) == RINGWAY_OK);
    return status;
}

static int32_t change(void) {
    static const ringway_hash_key_t key = {UINT64_MAX / 3, 7};
    ringway_change_config_t config;
    ringway_change_config_init(&config);
    config.size = size(sizeof config);
    config.what = constant();
    if (below(2) == 0) {
        config.what = (int32_t)below(9);
    }
    config.name = text();
    config.hash_key = below(2) == 0 ? NULL : of(&key);
    config.shard = below(2) == 0 ? below(8) : number();
    config.second = below(2) == 0 ? below(8) : number();
    config.count = below(2) == 0 ? 1 + below(4) : below(2) == 0 ? 0 : number() | 1024;
    config.retention_ms = maybe_number();
    config.retention_bytes = maybe_number();
    config.behind = constant();
    return ringway_stream_change(handle(STREAM), of(&config), out());
}

static int32_t to_streams(uint64_t which) {
    ringway_put_t record = put();
    const int producer = below(2) == 0 ? PUTTER : AGGREGATOR;
    const int reader = TAKER + (int)below(3);
    switch (which) {
    case 0: case 1: return ringway_stream_put(handle(producer), of(&record), wait(), out());
    case 2: return ringway_stream_put_batch(handle(producer), of(&record), below(2), wait(), out());
    case 3: return ringway_stream_flush(handle(producer), wait());
    case 4: case 5: return ringway_stream_read(handle(reader), length(64), wait(), out(), beside);
    case 6: return ringway_stream_checkpoint(handle(reader), below(2) == 0 ? NULL : of(beside));
    case 7: return ringway_stream_stats(handle(STREAM), out(), size(sizeof(ringway_stream_stats_t)));
    case 8: return ringway_stream_shards(handle(STREAM), out(), length(32), beside);
    case 9: return ringway_stream_consumers(handle(STREAM), out(), length(32), beside);
    default: return below(16) != 0 ? ringway_stream_checkpoint(handle(reader), NULL) : below(2) == 0 ? change() : open_reader();
    }
}

static int32_t subscribe(void) {
    ringway_subscription_config_t config;
    uint64_t id = 0;
    ringway_subscription_config_init(&config);
    config.size = size(sizeof config);
    config.endpoint = text();
    config.filter = maybe();
    config.dead_letter = maybe();
    config.delivery_policy = maybe();
    config.replay = below(4) == 0 ? text() : NULL;
    config.protocol = constant();
    config.scope = constant();
    config.raw = constant();
    const int32_t status = ringway_topic_subscribe(handle(TOPIC), of(&config), &id);
    CHECK(status != RINGWAY_OK || ringway_topic_unsubscribe(lives[TOPIC], id) == RINGWAY_OK);
    return status;
}

static int32_t to_topics(uint64_t which) {
    switch (which) {
    case 0: case 1: {
        ringway_outgoing_t said = outgoing();
        return ringway_publisher_publish_batch(handle(PUBLISHER), of(&said), below(2), wait(), out());
    }
    case 2: case 3: return ringway_listener_hear(handle(LISTENER), handle(MESSAGE), wait(), out());
    case 4: return ringway_topic_unsubscribe(handle(TOPIC), number());
    case 5: return ringway_topic_subscriptions(handle(TOPIC), out(), length(32), beside);
    case 6: return ringway_topic_stats(handle(TOPIC), out(), size(sizeof(ringway_topic_stats_t)));
    case 7: return ringway_bus_objects(handle(BUS), out(), length(32), beside);
    case 8: return ringway_bus_queue_policy(handle(BUS), maybe(), buffer(), length(SCRATCH), beside);
    case 9: return seldom() ? ringway_bus_set_queue_policy(handle(BUS), maybe(), maybe()) : RINGWAY_OK;
    default:
        if (!seldom()) {
            return ringway_topic_unsubscribe(handle(TOPIC), number());
        }
        if (below(2) == 0) {
            return subscribe();
        }
        ringway_listener_config_t config = {size(sizeof config), maybe(), constant(), constant(), constant(), 0};
        ringway_listener_t *opened = NULL;
        const int32_t status = ringway_listener_open(handle(TOPIC), of(&config), &opened);
        CHECK(status != RINGWAY_OK || ringway_close(opened) == RINGWAY_OK);
        return status;
    }
}

static int32_t call(void) {
    switch (below(4)) {
    case 0: return to_channels(below(9));
    case 1: return to_queues(below(19));
    case 2: return to_streams(below(11));
    default: return to_topics(below(11));
    }
}

static void open_streams(void **all) {
    ringway_stream_config_t config;
    ringway_stream_producer_config_t many;
    ringway_change_config_t registering;
    ringway_stream_reader_config_t reading;
    ringway_stream_config_init(&config);
    config.slots = 1024;
    config.overflow = RINGWAY_DROP_OLDEST;
    DONE(ringway_stream_open(all[BUS], "stream", &config, (ringway_stream_t **)&all[STREAM]));
    DONE(ringway_stream_producer_open(all[STREAM], NULL, (ringway_stream_producer_t **)&all[PUTTER]));
    ringway_stream_producer_config_init(&many);
    many.aggregate = RINGWAY_ON;
    DONE(ringway_stream_producer_open(all[STREAM], &many, (ringway_stream_producer_t **)&all[AGGREGATOR]));
    DONE(ringway_stream_reader_open(all[STREAM], NULL, (ringway_stream_reader_t **)&all[TAKER]));
    ringway_stream_reader_config_init(&reading);
    reading.group = "workers";
    DONE(ringway_stream_reader_open(all[STREAM], &reading, (ringway_stream_reader_t **)&all[WORKER]));
    ringway_change_config_init(&registering);
    registering.what = RINGWAY_REGISTER;
    registering.name = "consumer";
    registering.behind = RINGWAY_BEHIND_DROP_OLDEST;
    const int32_t status = ringway_stream_change(all[STREAM], &registering, NULL);
    CHECK(status == RINGWAY_OK || status == RINGWAY_E_EXISTS);
    ringway_stream_reader_config_init(&reading);
    reading.consumer = "consumer";
    DONE(ringway_stream_reader_open(all[STREAM], &reading, (ringway_stream_reader_t **)&all[CONSUMER]));
}

static void open_topics(void **all) {
    DONE(ringway_topic_open(all[BUS], "topic", NULL, (ringway_topic_t **)&all[TOPIC]));
    DONE(ringway_publisher_open(all[TOPIC], (ringway_publisher_t **)&all[PUBLISHER]));
    DONE(ringway_listener_open(all[TOPIC], NULL, (ringway_listener_t **)&all[LISTENER]));
}

static void open_all(void **all) {
    ringway_bus_config_t untouched;
    ringway_queue_config_t config;
    ringway_record_t record;
    const void *seen;
    void *data;
    ringway_queue_config_init(&config);
    config.slots = 1024;
    /* To fault pages in beforehand would be nine tenths of the time: calls that list map what they look at. */
    ringway_bus_config_init(&untouched);
    untouched.pre_touch = RINGWAY_OFF;
    DONE(ringway_bus_open("fuzz", &untouched, (ringway_bus_t **)&all[BUS]));
    DONE(ringway_channel_open(all[BUS], "channel", NULL, (ringway_channel_t **)&all[CHANNEL]));
    DONE(ringway_producer_open(all[CHANNEL], (ringway_producer_t **)&all[PRODUCER]));
    DONE(ringway_reader_open(all[CHANNEL], NULL, (ringway_reader_t **)&all[READER]));
    DONE(ringway_producer_send(all[PRODUCER], "x", 1, 0, NULL));
    DONE(ringway_reader_pin(all[READER], 0, (ringway_view_t **)&all[VIEW], &record, &seen));
    DONE(ringway_queue_open(all[BUS], "queue", &config, (ringway_queue_t **)&all[QUEUE]));
    DONE(ringway_sender_open(all[QUEUE], (ringway_sender_t **)&all[SENDER]));
    DONE(ringway_receiver_open(all[QUEUE], NULL, (ringway_receiver_t **)&all[RECEIVER]));
    DONE(ringway_loan_open(all[SENDER], 100, (ringway_loan_t **)&all[LOAN], &data));
    DONE(ringway_message_open((ringway_message_t **)&all[MESSAGE]));
    open_streams(all);
    open_topics(all);
}

static void close_from(void **all, int first) {
    for (int i = KINDS - 1; i >= first; i--) {
        DONE(ringway_close(all[i]));
    }
}

/* What is full is emptied, so that there is more than one way to go. */
static void drain(void) {
    ringway_record_t record;
    CHECK(ringway_release(lives[READER]) == RINGWAY_OK && ringway_release(lives[RECEIVER]) == RINGWAY_OK);
    CHECK(ringway_queue_purge(lives[QUEUE], NULL) >= 0);
    while (ringway_reader_read(lives[READER], scratch.bytes, SCRATCH, 0, &record) == RINGWAY_OK) {
    }
}

/* Shards and subscriptions have numbers for a life, which are used up in time. */
static void renew(void) {
    close_from(lives, STREAM);
    DONE(ringway_bus_remove(lives[BUS], "stream", 0));
    DONE(ringway_bus_remove(lives[BUS], "topic", RINGWAY_TOPIC));
    open_streams(lives);
    open_topics(lives);
}

int main(int argc, char **argv) {
    const unsigned long calls = argc > 2 ? strtoul(argv[2], NULL, 10) : 20000;
    unsigned long done = 0;
    state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    CHECK(state != 0);
    open_all(closed);
    close_from(closed, 0);
    open_all(lives);
    for (unsigned long i = 0; i < calls; i++) {
        const uint64_t before = state;
        const int32_t status = call();
        const char *words = ringway_status_text(status);
        const int known = status == RINGWAY_E_OTHER || strstr(words, "RINGWAY_E_OTHER: ") == NULL;
        if (!known || status == RINGWAY_E_PANIC) {
            fprintf(stderr, "call %lu from state %llu returned %d: %s\n", i,
                (unsigned long long)before, status, ringway_last_error());
            return 1;
        }
        done += status == RINGWAY_OK;
        if (i % 1000 == 999) {
            drain();
        }
        if (i % RENEWED == RENEWED - 1) {
            renew();
        }
    }
    CHECK(done > calls / 20);
    /* After all that everything works. */
    char small[8];
    ringway_received_t received;
    ringway_settings_t settings;
    drain();
    ringway_settings_init(&settings);
    settings.dead_letter = RINGWAY_NONE;
    settings.visibility_ms = 30000;
    DONE(ringway_queue_set(lives[QUEUE], &settings));
    DONE(ringway_sender_send(lives[SENDER], "fine", 4, 0, NULL));
    DONE(ringway_receiver_consume(lives[RECEIVER], small, sizeof small, RINGWAY_SECOND, &received));
    CHECK(received.len == 4 && memcmp(small, "fine", 4) == 0);
    close_from(lives, 0);
    DONE(ringway_bus_destroy("fuzz", NULL, 1));
    printf("fuzz: ok\n");
    return 0;
}
