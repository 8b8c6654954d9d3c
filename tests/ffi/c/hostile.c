/* Arguments that are not what the header asks for: a status each, never a crash. */

#include "check.h"

/* Handles of every kind, all closed; and what is none at all. */
static void *closed[16];
static ringway_bus_t *bus;
static ringway_channel_t *channel;
static ringway_producer_t *producer;
static ringway_reader_t *reader;
static ringway_queue_t *queue;
static ringway_sender_t *sender;
static ringway_receiver_t *receiver;
static ringway_message_t *message;
static ringway_stream_t *stream;
static ringway_stream_producer_t *putter;
static ringway_stream_reader_t *taker;
static ringway_topic_t *topic;
static ringway_publisher_t *publisher;
static ringway_listener_t *listener;

/* Misaligned by one, and with room behind. */
static char room[4096];
static void *crooked;
/* Longer than any object. */
static const size_t huge = SIZE_MAX / 2 + 1;

/* Every function that takes a handle, with one that is none. */
static void with_handle(void *h) {
    char buffer[8];
    void *data;
    const void *seen;
    size_t count;
    uint64_t number;
    int32_t fd;
    ringway_stream_t *t;
    ringway_stream_producer_t *u;
    ringway_stream_reader_t *x;
    ringway_topic_t *n;
    ringway_publisher_t *z;
    ringway_listener_t *y;
    ringway_channel_t *c;
    ringway_producer_t *p;
    ringway_reader_t *r;
    ringway_queue_t *q;
    ringway_sender_t *s;
    ringway_receiver_t *v;
    ringway_loan_t *l;
    ringway_view_t *w;
    ringway_record_t record;
    ringway_entry_t entry;
    ringway_received_t received;
    ringway_delivery_t delivery;
    ringway_sent_t sent;
    ringway_channel_stats_t channel_stats;
    ringway_queue_stats_t queue_stats;
    ringway_settings_t settings;
    ringway_outgoing_t outgoing;
    ringway_published_t published;
    ringway_message_parts_t parts;
    ringway_stream_stats_t stream_stats;
    ringway_topic_stats_t topic_stats;
    ringway_shard_info_t shard;
    ringway_subscription_t subscription;
    ringway_stream_record_t stream_record;
    ringway_put_outcome_t outcome;
    ringway_put_t put = {"key", "x", 1, NULL};
    ringway_move_config_t move;
    ringway_subscription_config_t wish;
    ringway_change_config_t change;
    ringway_move_config_init(&move);
    ringway_change_config_init(&change);
    change.what = RINGWAY_RETIRE;
    ringway_subscription_config_init(&wish);
    wish.endpoint = "q";
    ringway_slice_t slice = {"x", 1};
    ringway_receipt_t receipt;
    DONE(ringway_receipt_parse("00000000000000ff-12-1", &receipt));
    ringway_settings_init(&settings);
    ringway_outgoing_init(&outgoing);

#define NO_HANDLE(call) EXPECT(RINGWAY_E_HANDLE, call)
    NO_HANDLE(ringway_bus_objects(h, NULL, 0, &count));
    NO_HANDLE(ringway_bus_remove(h, "x", 0));
    NO_HANDLE(ringway_bus_remove(h, "x", RINGWAY_TOPIC));
    NO_HANDLE(ringway_bus_set_queue_policy(h, "x", NULL));
    NO_HANDLE(ringway_bus_queue_policy(h, "x", NULL, 0, &count));
    NO_HANDLE(ringway_channel_open(h, "x", NULL, &c));
    NO_HANDLE(ringway_channel_stats(h, &channel_stats, sizeof channel_stats));
    NO_HANDLE(ringway_producer_open(h, &p));
    NO_HANDLE(ringway_producer_send(h, "x", 1, 0, NULL));
    NO_HANDLE(ringway_producer_send_batch(h, &slice, 1, &count));
    NO_HANDLE(ringway_loan_open(h, 1, &l, &data));
    NO_HANDLE(ringway_loan_send(h, NULL, 1, NULL));
    NO_HANDLE(ringway_loan_send(producer, h, 1, NULL));
    NO_HANDLE(ringway_reader_open(h, NULL, &r));
    NO_HANDLE(ringway_reader_read(h, buffer, 8, 0, &record));
    NO_HANDLE(ringway_reader_read_batch(h, 1, 0, &entry, &count));
    NO_HANDLE(ringway_reader_view(h, 0, &record, &seen));
    NO_HANDLE(ringway_reader_pin(h, 0, &w, &record, &seen));
    NO_HANDLE(ringway_queue_open(h, "x", NULL, &q));
    NO_HANDLE(ringway_queue_stats(h, &queue_stats, sizeof queue_stats));
    NO_HANDLE(ringway_queue_settings(h, &settings, sizeof settings));
    NO_HANDLE(ringway_queue_set(h, &settings));
    NO_HANDLE(ringway_queue_purge(h, NULL));
    NO_HANDLE(ringway_queue_flush(h));
    NO_HANDLE(ringway_queue_parked(h, NULL, 0, &count));
    NO_HANDLE(ringway_queue_read_parked(h, 1, 1, NULL, 0, NULL));
    NO_HANDLE(ringway_queue_delete(h, &receipt));
    NO_HANDLE(ringway_queue_extend(h, &receipt, 1));
    NO_HANDLE(ringway_queue_nack(h, &receipt, 1));
    NO_HANDLE(ringway_sender_open(h, &s));
    NO_HANDLE(ringway_sender_send(h, "x", 1, 0, NULL));
    NO_HANDLE(ringway_sender_send_batch(h, &slice, 1, &count));
    NO_HANDLE(ringway_sender_send_message(h, &outgoing, &sent));
    NO_HANDLE(ringway_sender_send_messages(h, &outgoing, 1, &sent));
    NO_HANDLE(ringway_loan_send(sender, h, 1, NULL));
    NO_HANDLE(ringway_receiver_open(h, NULL, &v));
    NO_HANDLE(ringway_receiver_receive(h, buffer, 8, 0, &received));
    NO_HANDLE(ringway_receiver_consume(h, buffer, 8, 0, &received));
    NO_HANDLE(ringway_receiver_receive_batch(h, 1, 0, &delivery, &count));
    NO_HANDLE(ringway_receiver_receive_message(h, message, 0, &received));
    NO_HANDLE(ringway_receiver_receive_message(receiver, h, 0, &received));
    NO_HANDLE(ringway_receiver_view(h, 0, &delivery));
    NO_HANDLE(ringway_receiver_delete(h, &receipt));
    NO_HANDLE(ringway_receiver_delete_batch(h, &receipt, 1, NULL, NULL));
    NO_HANDLE(ringway_queue_move(h, NULL, 0, NULL, 0));
    NO_HANDLE(ringway_poll_fd(h, &fd));
    NO_HANDLE(ringway_release(h));
    NO_HANDLE(ringway_stream_open(h, "x", NULL, &t));
    NO_HANDLE(ringway_stream_stats(h, &stream_stats, sizeof stream_stats));
    NO_HANDLE(ringway_stream_shards(h, &shard, 1, &count));
    NO_HANDLE(ringway_stream_change(h, &change, NULL));
    NO_HANDLE(ringway_stream_consumers(h, NULL, 0, &count));
    NO_HANDLE(ringway_stream_flush(h, 0));
    NO_HANDLE(ringway_stream_producer_open(h, NULL, &u));
    NO_HANDLE(ringway_stream_put(h, &put, 0, &outcome));
    NO_HANDLE(ringway_stream_put_batch(h, &put, 1, 0, &outcome));
    NO_HANDLE(ringway_stream_reader_open(h, NULL, &x));
    NO_HANDLE(ringway_stream_read(h, 1, 0, &stream_record, &count));
    NO_HANDLE(ringway_stream_checkpoint(h, NULL));
    NO_HANDLE(ringway_topic_open(h, "x", NULL, &n));
    NO_HANDLE(ringway_topic_stats(h, &topic_stats, sizeof topic_stats));
    NO_HANDLE(ringway_topic_subscribe(h, &wish, &number));
    NO_HANDLE(ringway_topic_unsubscribe(h, 1));
    NO_HANDLE(ringway_topic_subscriptions(h, &subscription, 1, &count));
    NO_HANDLE(ringway_publisher_open(h, &z));
    NO_HANDLE(ringway_publisher_publish_batch(h, &outgoing, 1, 0, &published));
    NO_HANDLE(ringway_listener_open(h, NULL, &y));
    NO_HANDLE(ringway_listener_hear(h, message, 0, &number));
    NO_HANDLE(ringway_listener_hear(listener, h, 0, &number));
    NO_HANDLE(ringway_message_parts(h, &parts, sizeof parts));
    if (h != NULL) {
        NO_HANDLE(ringway_close(h));
        move.destination = h;
        NO_HANDLE(ringway_queue_move(queue, &move, 0, NULL, 0));
        void *waiting[2] = {reader, h};
        NO_HANDLE(ringway_wait_any(waiting, 2, 0, &count));
    }
    CHECK(strlen(ringway_last_error()) > 0);
}

/* Every pointer once as NULL and once misaligned, every length once as no object's. */
static void with_pointers(void) {
    char buffer[8];
    void *data;
    const void *seen;
    size_t count;
    ringway_loan_t *loan;
    ringway_view_t *view;
    ringway_record_t record;
    ringway_entry_t entries[1];
    ringway_delivery_t deliveries[1];
    ringway_received_t received;
    ringway_sent_t sent;
    ringway_slice_t slice = {"x", 1};
    ringway_receipt_t receipt;
    ringway_outgoing_t outgoing;
    ringway_settings_t settings;
    ringway_published_t published;
    ringway_stream_record_t stream_record;
    ringway_put_outcome_t outcome;
    ringway_put_t put = {"key", "x", 1, NULL};
    uint64_t number;
    ringway_outgoing_init(&outgoing);
    ringway_settings_init(&settings);
    DONE(ringway_receipt_parse("00000000000000ff-12-1", &receipt));

#define REFUSED(call) EXPECT(RINGWAY_E_ARGUMENT, call)
    for (int i = 0; i < 2; i++) {
        void *bad = i == 0 ? NULL : crooked;
        REFUSED(ringway_bus_open("x", NULL, bad));
        REFUSED(ringway_bus_objects(bus, bad, 3, &count));
        REFUSED(ringway_bus_objects(bus, NULL, 0, bad));
        REFUSED(ringway_channel_open(bus, "x", NULL, bad));
        REFUSED(ringway_channel_stats(channel, bad, sizeof(ringway_channel_stats_t)));
        REFUSED(ringway_producer_open(channel, bad));
        REFUSED(ringway_producer_send_batch(producer, bad, 1, &count));
        REFUSED(ringway_producer_send_batch(producer, &slice, 1, bad));
        REFUSED(ringway_loan_open(producer, 1, bad, &data));
        REFUSED(ringway_loan_open(producer, 1, &loan, bad));
        REFUSED(ringway_reader_open(channel, NULL, bad));
        REFUSED(ringway_reader_read(reader, buffer, 8, 0, bad));
        REFUSED(ringway_reader_read_batch(reader, 1, 0, bad, &count));
        REFUSED(ringway_reader_read_batch(reader, 1, 0, entries, bad));
        REFUSED(ringway_reader_view(reader, 0, bad, &seen));
        REFUSED(ringway_reader_view(reader, 0, &record, bad));
        REFUSED(ringway_reader_pin(reader, 0, bad, &record, &seen));
        REFUSED(ringway_reader_pin(reader, 0, &view, bad, &seen));
        REFUSED(ringway_queue_open(bus, "x", NULL, bad));
        REFUSED(ringway_queue_stats(queue, bad, sizeof(ringway_queue_stats_t)));
        REFUSED(ringway_queue_settings(queue, bad, sizeof settings));
        REFUSED(ringway_queue_set(queue, bad));
        REFUSED(ringway_queue_parked(queue, bad, 1, &count));
        REFUSED(ringway_queue_parked(queue, NULL, 0, bad));
        REFUSED(ringway_queue_read_parked(queue, 1, 0, NULL, 1, &count));
        REFUSED(ringway_queue_delete(queue, bad));
        REFUSED(ringway_queue_extend(queue, bad, 1));
        REFUSED(ringway_queue_nack(queue, bad, 1));
        REFUSED(ringway_receipt_format(bad, buffer, 8));
        REFUSED(ringway_receipt_parse("00000000000000ff-12-1", bad));
        REFUSED(ringway_sender_open(queue, bad));
        REFUSED(ringway_sender_send_batch(sender, bad, 1, &count));
        REFUSED(ringway_sender_send_message(sender, bad, &sent));
        REFUSED(ringway_sender_send_messages(sender, bad, 1, &sent));
        REFUSED(ringway_sender_send_messages(sender, &outgoing, 1, bad));
        REFUSED(ringway_receiver_open(queue, NULL, bad));
        REFUSED(ringway_receiver_receive(receiver, buffer, 8, 0, bad));
        REFUSED(ringway_receiver_consume(receiver, buffer, 8, 0, bad));
        REFUSED(ringway_receiver_receive_batch(receiver, 1, 0, bad, &count));
        REFUSED(ringway_receiver_receive_batch(receiver, 1, 0, deliveries, bad));
        REFUSED(ringway_receiver_receive_message(receiver, message, 0, bad));
        REFUSED(ringway_receiver_view(receiver, 0, bad));
        REFUSED(ringway_receiver_delete(receiver, bad));
        REFUSED(ringway_receiver_delete_batch(receiver, bad, 1, NULL, NULL));
        REFUSED(ringway_message_open(bad));
        REFUSED(ringway_message_parts(message, bad, sizeof(ringway_message_parts_t)));
        REFUSED(ringway_wait_any(bad, 1, 0, &count));
        REFUSED(ringway_poll_fd(reader, bad));
        REFUSED(ringway_poll_fd(receiver, bad));
        REFUSED(ringway_stream_open(bus, "x", NULL, bad));
        REFUSED(ringway_stream_stats(stream, bad, sizeof(ringway_stream_stats_t)));
        REFUSED(ringway_stream_shards(stream, bad, 1, &count));
        REFUSED(ringway_stream_shards(stream, NULL, 0, bad));
        REFUSED(ringway_stream_producer_open(stream, NULL, bad));
        REFUSED(ringway_stream_put(putter, bad, 0, &outcome));
        REFUSED(ringway_stream_put_batch(putter, bad, 1, 0, &outcome));
        REFUSED(ringway_stream_put_batch(putter, &put, 1, 0, bad));
        REFUSED(ringway_stream_reader_open(stream, NULL, bad));
        REFUSED(ringway_stream_read(taker, 1, 0, bad, &count));
        REFUSED(ringway_stream_read(taker, 1, 0, &stream_record, bad));
        REFUSED(ringway_bus_queue_policy(bus, "q", NULL, 0, bad));
        REFUSED(ringway_topic_open(bus, "x", NULL, bad));
        REFUSED(ringway_topic_stats(topic, bad, sizeof(ringway_topic_stats_t)));
        REFUSED(ringway_topic_subscribe(topic, bad, &number));
        REFUSED(ringway_topic_subscriptions(topic, bad, 1, &count));
        REFUSED(ringway_topic_subscriptions(topic, NULL, 0, bad));
        REFUSED(ringway_publisher_open(topic, bad));
        REFUSED(ringway_publisher_publish_batch(publisher, bad, 1, 0, &published));
        REFUSED(ringway_publisher_publish_batch(publisher, &outgoing, 1, 0, bad));
        REFUSED(ringway_listener_open(topic, NULL, bad));
    }
    REFUSED(ringway_bus_open("x", crooked, &bus));
    REFUSED(ringway_bus_open(NULL, NULL, &bus));
    REFUSED(ringway_bus_remove(bus, NULL, 0));
    REFUSED(ringway_bus_remove(bus, "\xff\xfe", 0));
    REFUSED(ringway_bus_remove(bus, "q", 99));
    REFUSED(ringway_bus_destroy(NULL, NULL, 0));
    REFUSED(ringway_queue_open(bus, NULL, NULL, &queue));
    REFUSED(ringway_receipt_parse(NULL, &receipt));

    /* Bodies and buffers. */
    REFUSED(ringway_producer_send(producer, NULL, 1, 0, NULL));
    REFUSED(ringway_producer_send(producer, "x", huge, 0, NULL));
    REFUSED(ringway_sender_send(sender, NULL, 1, 0, NULL));
    REFUSED(ringway_sender_send(sender, "x", SIZE_MAX, 0, NULL));
    REFUSED(ringway_sender_send(sender, "x", 1, 0, crooked));
    REFUSED(ringway_reader_read(reader, NULL, 8, 0, &record));
    REFUSED(ringway_reader_read(reader, buffer, huge, 0, &record));
    REFUSED(ringway_receiver_receive(receiver, NULL, 8, 0, &received));
    REFUSED(ringway_receiver_receive(receiver, buffer, SIZE_MAX, 0, &received));
    REFUSED(ringway_receiver_receive_batch(receiver, SIZE_MAX, 0, deliveries, &count));
    REFUSED(ringway_receiver_receive_batch(receiver, huge, 0, deliveries, &count));
    REFUSED(ringway_reader_read_batch(reader, SIZE_MAX / 8, 0, entries, &count));
    REFUSED(ringway_receiver_delete_batch(receiver, &receipt, SIZE_MAX, NULL, NULL));
    REFUSED(ringway_sender_send_batch(sender, &slice, SIZE_MAX, &count));
    REFUSED(ringway_sender_send_messages(sender, &outgoing, SIZE_MAX, &sent));
    REFUSED(ringway_wait_any((void *const *)(const void *)room, SIZE_MAX, 0, &count));
    slice.len = huge;
    REFUSED(ringway_sender_send_batch(sender, &slice, 1, &count));
    REFUSED(ringway_producer_send_batch(producer, &slice, 1, &count));
    EXPECT(RINGWAY_E_TOO_LARGE, ringway_loan_open(producer, huge, &loan, &data));
    EXPECT(RINGWAY_E_TOO_LARGE, ringway_loan_open(sender, SIZE_MAX, &loan, &data));
    REFUSED(ringway_sender_send(sender, "x", 1, -7, NULL));
    REFUSED(ringway_receiver_receive(receiver, buffer, 8, -7, &received));
    REFUSED(ringway_reader_read(reader, buffer, 8, RINGWAY_QUEUE_WAIT, &record));
    void *neither[1] = {NULL};
    EXPECT(RINGWAY_E_HANDLE, ringway_wait_any(neither, 1, 0, &count));

    /* Receipts that no receive hands out; a buffer without room for one. */
    EXPECT(RINGWAY_E_BUFFER_TOO_SMALL, ringway_receipt_format(&receipt, buffer, sizeof buffer));
    EXPECT(RINGWAY_E_RECEIPT, ringway_receipt_parse("no receipt", &receipt));
    receipt.receives = 0;
    EXPECT(RINGWAY_E_RECEIPT, ringway_queue_delete(queue, &receipt));
    receipt.receives = 60000;
    EXPECT(RINGWAY_E_RECEIPT, ringway_receiver_delete(receiver, &receipt));
    receipt.receives = 1;
    receipt.position = UINT64_MAX;
    EXPECT(RINGWAY_E_RECEIPT, ringway_queue_nack(queue, &receipt, 0));
    DONE(ringway_queue_settings(queue, &settings, sizeof settings));
    receipt.queue = settings.id;
    ringway_settings_init(&settings);
    receipt.position = 1ULL << 40;
    DONE(ringway_queue_delete(queue, &receipt));
    EXPECT(RINGWAY_E_OPTION, ringway_queue_extend(queue, &receipt, UINT64_MAX));
    EXPECT(RINGWAY_E_OPTION, ringway_queue_nack(queue, &receipt, UINT64_MAX));

    /* Structs of any size, constants that are none. */
    ringway_queue_config_t config;
    ringway_queue_t *another;
    ringway_queue_config_init(&config);
    size_t sizes[] = {0, 1, 8, sizeof config - 8, sizeof config + 8, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        config.size = sizes[i];
        EXPECT(RINGWAY_E_STRUCT_SIZE, ringway_queue_open(bus, "other", &config, &another));
        outgoing.size = sizes[i];
        if (sizes[i] != sizeof outgoing) {
            EXPECT(RINGWAY_E_STRUCT_SIZE, ringway_sender_send_messages(sender, &outgoing, 1, &sent));
        }
        ringway_queue_stats_t *stats = (void *)room;
        EXPECT(RINGWAY_E_STRUCT_SIZE,
            ringway_queue_stats(queue, stats, sizes[i] > 8 ? SIZE_MAX : sizes[i]));
    }
    ringway_outgoing_init(&outgoing);
    for (int i = 0; i < 6; i++) {
        ringway_queue_config_init(&config);
        int32_t *choices[6] = {&config.how, &config.kind, &config.redeliver_on_death,
            &config.huge_pages, &config.dedup, &config.dedup_scope};
        *choices[i] = 99;
        REFUSED(ringway_queue_open(bus, "other", &config, &another));
        *choices[i] = -1;
        REFUSED(ringway_queue_open(bus, "other", &config, &another));
    }
    uint64_t *numbers[] = {&config.slots, &config.stride, &config.visibility_ms, &config.delay_ms,
        &config.retention_ms, &config.max_message_bytes, &config.receive_wait_ms,
        &config.stall_timeout_ms};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ringway_queue_config_init(&config);
        *numbers[i] = UINT64_MAX - 1;
        EXPECT(RINGWAY_E_OPTION, ringway_queue_open(bus, "other", &config, &another));
    }
    EXPECT(RINGWAY_E_NAME, ringway_queue_open(bus, "no/name", NULL, &another));
    EXPECT(RINGWAY_E_NAME, ringway_queue_open(bus, "", NULL, &another));
    ringway_attribute_t attribute = {"n", NULL, "v", 1, 9, 0};
    outgoing.attributes = &attribute;
    outgoing.attribute_count = 1;
    REFUSED(ringway_sender_send_message(sender, &outgoing, &sent));
    REFUSED(ringway_publisher_publish(publisher, &outgoing, 0, &published));
    attribute.data_type = RINGWAY_STRING;
    attribute.value = "\xff";
    EXPECT(RINGWAY_E_ATTRIBUTE, ringway_sender_send_message(sender, &outgoing, &sent));
    attribute.len = huge;
    REFUSED(ringway_sender_send_message(sender, &outgoing, &sent));
    attribute.name = NULL;
    REFUSED(ringway_sender_send_message(sender, &outgoing, &sent));
    outgoing.attribute_count = huge;
    REFUSED(ringway_sender_send_message(sender, &outgoing, &sent));
    outgoing.attributes = crooked;
    outgoing.attribute_count = 1;
    REFUSED(ringway_sender_send_message(sender, &outgoing, &sent));
    outgoing.attributes = NULL;
    outgoing.attribute_count = 0;
    DONE(ringway_sender_send_messages(sender, NULL, 0, NULL));
    outgoing.group = "";
    EXPECT(RINGWAY_E_ID, ringway_sender_send_message(sender, &outgoing, &sent));
    EXPECT(RINGWAY_E_ID, ringway_publisher_publish(publisher, &outgoing, 0, &published));
    outgoing.group = "\xff";
    REFUSED(ringway_sender_send_message(sender, &outgoing, &sent));
    outgoing.group = NULL;
    outgoing.subject = "\n";
    EXPECT(RINGWAY_E_ID, ringway_publisher_publish(publisher, &outgoing, 0, &published));
    outgoing.subject = NULL;
    settings.redrive_allow = 7;
    REFUSED(ringway_queue_set(queue, &settings));
    settings.redrive_allow = 0;
    settings.dead_letter = 12345;
    EXPECT(RINGWAY_E_OPTION, ringway_queue_set(queue, &settings));
    settings.max_receives = 3;
    EXPECT(RINGWAY_E_REDRIVE, ringway_queue_set(queue, &settings));
    settings.max_receives = UINT64_MAX - 1;
    EXPECT(RINGWAY_E_OPTION, ringway_queue_set(queue, &settings));
    (void)deliveries;
}

/* The same for what streams, topics and moves have of their own. */
static void with_streams_and_topics(void) {
    ringway_put_t put = {"key", NULL, 1, NULL};
    ringway_put_outcome_t outcome;
    ringway_stream_record_t record;
    size_t count;
    uint64_t number;
    REFUSED(ringway_stream_put(putter, &put, 0, NULL));
    put.data = "x";
    put.len = huge;
    REFUSED(ringway_stream_put(putter, &put, 0, NULL));
    put.len = (11 << 20);
    put.data = calloc(1, put.len);
    EXPECT(RINGWAY_E_TOO_LARGE, ringway_stream_put(putter, &put, 0, NULL));
    free((void *)(uintptr_t)put.data);
    put.data = "x";
    put.len = 1;
    put.partition_key = NULL;
    REFUSED(ringway_stream_put(putter, &put, 0, NULL));
    put.partition_key = "\xff";
    REFUSED(ringway_stream_put(putter, &put, 0, NULL));
    DONE(ringway_stream_put_batch(putter, &put, 1, 0, &outcome));
    CHECK(outcome.status == RINGWAY_E_ARGUMENT);
    put.partition_key = "";
    EXPECT(RINGWAY_E_ID, ringway_stream_put(putter, &put, 0, NULL));
    put.partition_key = "key";
    put.hash_key = crooked;
    REFUSED(ringway_stream_put(putter, &put, 0, NULL));
    put.hash_key = NULL;
    REFUSED(ringway_stream_put(putter, &put, -7, NULL));
    REFUSED(ringway_stream_put(putter, &put, 0, crooked));
    REFUSED(ringway_stream_put_batch(putter, &put, SIZE_MAX, 0, &outcome));
    REFUSED(ringway_stream_put_batch(putter, &put, huge, 0, &outcome));
    REFUSED(ringway_stream_read(taker, SIZE_MAX, 0, &record, &count));
    REFUSED(ringway_stream_read(taker, huge, 0, &record, &count));
    REFUSED(ringway_stream_read(taker, 1, -7, &record, &count));
    REFUSED(ringway_stream_checkpoint(taker, crooked));
    REFUSED(ringway_listener_hear(listener, message, -7, NULL));
    REFUSED(ringway_listener_hear(listener, message, 0, crooked));

    ringway_stream_reader_config_t joining;
    ringway_stream_reader_t *reading;
    for (int i = 0; i < 5; i++) {
        ringway_stream_reader_config_init(&joining);
        int32_t *choices[3] = {&joining.iterator, &joining.reliability, &joining.idle};
        if (i < 3) {
            *choices[i] = 99;
            REFUSED(ringway_stream_reader_open(stream, &joining, &reading));
            *choices[i] = 0;
        }
        joining.iterator = RINGWAY_AT_SEQUENCE_NUMBER + i % 2;
        joining.shard = 0;
        joining.sequence_number.shard = (uint64_t)i * 77;
        joining.sequence_number.position = i == 0 ? UINT64_MAX : 1;
        EXPECT(RINGWAY_E_OPTION, ringway_stream_reader_open(stream, &joining, &reading));
        joining.size = (size_t)i;
        EXPECT(RINGWAY_E_STRUCT_SIZE, ringway_stream_reader_open(stream, &joining, &reading));
    }
    ringway_stream_reader_config_init(&joining);
    joining.group = "no/name";
    EXPECT(RINGWAY_E_NAME, ringway_stream_reader_open(stream, &joining, &reading));
    joining.group = "\xff";
    REFUSED(ringway_stream_reader_open(stream, &joining, &reading));

    ringway_stream_config_t config;
    ringway_stream_t *another;
    ringway_stream_config_init(&config);
    uint64_t *numbers[] = {&config.shards, &config.slots, &config.stride, &config.readers,
        &config.lease_timeout_ms, &config.stall_timeout_ms};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ringway_stream_config_init(&config);
        *numbers[i] = UINT64_MAX - 1;
        EXPECT(RINGWAY_E_OPTION, ringway_stream_open(bus, "other", &config, &another));
    }
    int32_t *choices[] = {&config.how, &config.overflow, &config.kinesis_limits, &config.huge_pages};
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        ringway_stream_config_init(&config);
        *choices[i] = 99;
        REFUSED(ringway_stream_open(bus, "other", &config, &another));
    }
    ringway_topic_config_t kind;
    ringway_topic_t *other;
    ringway_topic_config_init(&kind);
    kind.listen_slots = 7;
    EXPECT(RINGWAY_E_OPTION, ringway_topic_open(bus, "other", &kind, &other));
    kind.kind = 9;
    REFUSED(ringway_topic_open(bus, "other", &kind, &other));
    kind.kind = 0;
    kind.durability = 9;
    REFUSED(ringway_topic_open(bus, "other", &kind, &other));
    size_t policy_len = 0;
    REFUSED(ringway_bus_set_queue_policy(bus, NULL, NULL));
    REFUSED(ringway_bus_set_queue_policy(bus, "q", "\xff"));
    REFUSED(ringway_bus_queue_policy(bus, NULL, NULL, 0, &policy_len));
    REFUSED(ringway_bus_queue_policy(bus, "q", NULL, 1, &policy_len));
    EXPECT(RINGWAY_E_NAME, ringway_bus_set_queue_policy(bus, "../q", NULL));
    EXPECT(RINGWAY_E_NAME, ringway_topic_open(bus, "no/name", NULL, &other));

    ringway_subscription_config_t wish;
    ringway_subscription_config_init(&wish);
    REFUSED(ringway_topic_subscribe(topic, &wish, &number));
    wish.endpoint = "q";
    wish.scope = 7;
    REFUSED(ringway_topic_subscribe(topic, &wish, &number));
    wish.scope = 0;
    wish.raw = 7;
    REFUSED(ringway_topic_subscribe(topic, &wish, &number));
    wish.raw = 0;
    REFUSED(ringway_topic_subscribe(topic, &wish, crooked));
    const char *const policies[] = {"", "{", "[]", "{\"a\": {}}", "{\"a\": [{\"numeric\": [\"?\", 1]}]}"};
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        wish.filter = policies[i];
        EXPECT(RINGWAY_E_POLICY, ringway_topic_subscribe(topic, &wish, &number));
    }

    ringway_move_config_t move;
    ringway_move_status_t status;
    ringway_move_config_init(&move);
    move.what = 9;
    REFUSED(ringway_queue_move(queue, &move, 0, &status, sizeof status));
    move.what = 0;
    move.max_per_second = 0;
    EXPECT(RINGWAY_E_OPTION, ringway_queue_move(queue, &move, 0, &status, sizeof status));
    REFUSED(ringway_queue_move(queue, NULL, -7, &status, sizeof status));
    REFUSED(ringway_queue_move(queue, NULL, 0, crooked, sizeof status));
    EXPECT(RINGWAY_E_STRUCT_SIZE, ringway_queue_move(queue, NULL, 0, &status, 7));
}

int main(void) {
    crooked = room + 1;
    ringway_bus_config_t config;
    ringway_bus_config_init(&config);
    config.pool_bytes = 16 << 20;
    DONE(ringway_bus_open("hostile", &config, &bus));
    ringway_loan_t *loan;
    ringway_view_t *view;
    ringway_record_t record;
    const void *seen;
    void *data;
    /* The second round closes its own: tokens whose slots are used again. */
    for (int round = 0; round < 2; round++) {
        DONE(ringway_channel_open(bus, "c", NULL, &channel));
        DONE(ringway_producer_open(channel, &producer));
        DONE(ringway_reader_open(channel, NULL, &reader));
        DONE(ringway_queue_open(bus, "q", NULL, &queue));
        DONE(ringway_sender_open(queue, &sender));
        DONE(ringway_receiver_open(queue, NULL, &receiver));
        DONE(ringway_message_open(&message));
        DONE(ringway_stream_open(bus, "s", NULL, &stream));
        DONE(ringway_stream_producer_open(stream, NULL, &putter));
        DONE(ringway_stream_reader_open(stream, NULL, &taker));
        DONE(ringway_topic_open(bus, "t", NULL, &topic));
        DONE(ringway_publisher_open(topic, &publisher));
        DONE(ringway_listener_open(topic, NULL, &listener));
        if (round == 1) {
            break;
        }
        ringway_bus_t *second;
        DONE(ringway_bus_open("hostile", NULL, &second));
        DONE(ringway_producer_send(producer, "x", 1, 0, NULL));
        DONE(ringway_reader_pin(reader, 0, &view, &record, &seen));
        DONE(ringway_loan_open(sender, 100, &loan, &data));
        void *all[16] = {second, channel, producer, reader, view, queue, sender, receiver, loan,
            message, stream, putter, taker, topic, publisher, listener};
        for (int i = 0; i < 16; i++) {
            DONE(ringway_close(all[i]));
            closed[i] = all[i];
        }
    }

    with_handle(NULL);
    for (int i = 0; i < 16; i++) {
        with_handle(closed[i]);
    }
    with_handle(room);
    with_handle(crooked);
    with_handle((void *)(uintptr_t)UINT64_MAX);
    /* The same for numbers by chance, half of them near to one that is right. */
    uint64_t random = 0x9E3779B97F4A7C15;
    for (int i = 0; i < 20000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t near = (uint64_t)(uintptr_t)sender ^ (1ULL << (random % 64)) ^ (random % 2 << 40);
        uint64_t made_up = i % 2 == 0 ? random : near;
        void *handle = (void *)(uintptr_t)made_up;
        if (handle == (void *)sender || handle == NULL) {
            continue;
        }
        EXPECT(RINGWAY_E_HANDLE, ringway_sender_send(handle, "x", 1, 0, NULL));
    }
    /* One kind for another. */
    EXPECT(RINGWAY_E_HANDLE, ringway_sender_send((ringway_sender_t *)(void *)receiver, "x", 1, 0, NULL));
    EXPECT(RINGWAY_E_HANDLE, ringway_queue_purge((const ringway_queue_t *)(void *)channel, NULL));
    EXPECT(RINGWAY_E_HANDLE, ringway_release(bus));
    EXPECT(RINGWAY_E_HANDLE, ringway_stream_checkpoint((ringway_stream_reader_t *)(void *)putter, NULL));
    with_pointers();
    with_streams_and_topics();

    /* After all that everything works. */
    char buffer[8];
    ringway_received_t received;
    DONE(ringway_sender_send(sender, "fine", 4, 0, NULL));
    DONE(ringway_receiver_receive(receiver, buffer, 8, 0, &received));
    CHECK(received.len == 4 && memcmp(buffer, "fine", 4) == 0);
    void *all[14] = {message, listener, publisher, topic, taker, putter, stream, receiver, sender, queue,
        reader, producer, channel, bus};
    for (int i = 0; i < 14; i++) {
        DONE(ringway_close(all[i]));
        EXPECT(RINGWAY_E_HANDLE, ringway_close(all[i]));
    }
    DONE(ringway_bus_destroy("hostile", NULL, 0));
    puts("hostile: ok");
    return 0;
}
