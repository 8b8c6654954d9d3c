/* What topics deliver to, their archives, listeners that choose; and messages that nobody could handle: each
   call does what its comment says. One process. */

#include "check.h"
#include <poll.h>

static ringway_published_t publish(
    ringway_publisher_t *publisher, const char *group, const char *body) {
    ringway_outgoing_t said;
    ringway_published_t published;
    ringway_outgoing_init(&said);
    said.body = body;
    said.len = strlen(body);
    said.group = group;
    said.dedup_id = group == NULL ? NULL : body;
    DONE(ringway_publisher_publish(publisher, &said, 0, &published));
    return published;
}

static void consume(ringway_receiver_t *receiver, const char *body) {
    char buffer[2048];
    ringway_received_t received;
    DONE(ringway_receiver_consume(receiver, buffer, sizeof buffer, RINGWAY_SECOND, &received));
    CHECK(received.len == strlen(body) && memcmp(buffer, body, received.len) == 0);
}

static void targets(ringway_bus_t *bus) {
    ringway_topic_t *topic;
    ringway_publisher_t *publisher;
    ringway_stream_t *stream;
    ringway_stream_reader_t *reader;
    ringway_queue_t *queue;
    ringway_receiver_t *receiver;
    ringway_subscription_config_t wish;
    ringway_subscription_t all[4];
    size_t count = 0;
    uint64_t to_stream = 0;
    DONE(ringway_topic_open(bus, "news", NULL, &topic));
    DONE(ringway_stream_open(bus, "log", NULL, &stream));
    DONE(ringway_stream_reader_open(stream, NULL, &reader));
    DONE(ringway_queue_open(bus, "jobs", NULL, &queue));
    DONE(ringway_receiver_open(queue, NULL, &receiver));
    ringway_subscription_config_init(&wish);
    wish.endpoint = "log";
    EXPECT(RINGWAY_E_FOREIGN, ringway_topic_subscribe(topic, &wish, NULL));
    wish.protocol = RINGWAY_TO_STREAM;
    wish.raw = RINGWAY_ON;
    wish.delivery_policy = "{\"healthyRetryPolicy\": 1}";
    EXPECT(RINGWAY_E_POLICY, ringway_topic_subscribe(topic, &wish, NULL));
    wish.delivery_policy = "{\"healthyRetryPolicy\": {\"numRetries\": 3}}";
    wish.replay = "{}";
    EXPECT(RINGWAY_E_OPTION, ringway_topic_subscribe(topic, &wish, NULL));
    wish.replay = NULL;
    DONE(ringway_topic_subscribe(topic, &wish, &to_stream));
    wish.endpoint = "jobs";
    wish.protocol = RINGWAY_TO_EXEC;
    DONE(ringway_topic_subscribe(topic, &wish, NULL));
    wish.protocol = 5;
    EXPECT(RINGWAY_E_ARGUMENT, ringway_topic_subscribe(topic, &wish, NULL));

    /* Under its message group in the stream, and in the queue for commands. */
    DONE(ringway_publisher_open(topic, &publisher));
    publish(publisher, NULL, "one");
    ringway_stream_record_t record;
    DONE(ringway_stream_read(reader, 1, RINGWAY_SECOND, &record, &count));
    CHECK(record.len == 3 && memcmp(record.data, "one", 3) == 0);
    consume(receiver, "one");

    /* A text for each protocol. */
    ringway_outgoing_t said;
    ringway_outgoing_init(&said);
    said.body = "{\"default\": \"all\", \"kinesis\": \"streams\"}";
    said.len = strlen(said.body);
    said.trace_header = "Root=1";
    said.per_protocol = RINGWAY_ON;
    DONE(ringway_publisher_publish(publisher, &said, 0, NULL));
    DONE(ringway_stream_read(reader, 1, RINGWAY_SECOND, &record, &count));
    CHECK(record.len == 7 && memcmp(record.data, "streams", 7) == 0);
    ringway_message_t *message;
    ringway_message_parts_t parts;
    ringway_received_t received;
    DONE(ringway_message_open(&message));
    DONE(ringway_receiver_receive_message(receiver, message, RINGWAY_SECOND, &received));
    DONE(ringway_message_parts(message, &parts, sizeof parts));
    CHECK(parts.len == 3 && memcmp(parts.body, "all", 3) == 0);
    CHECK(parts.trace_header != NULL && strcmp(parts.trace_header, "Root=1") == 0);
    said.body = "no JSON";
    said.len = 7;
    EXPECT(RINGWAY_E_OPTION, ringway_publisher_publish(publisher, &said, 0, NULL));
    ringway_sender_t *sender;
    DONE(ringway_sender_open(queue, &sender));
    EXPECT(RINGWAY_E_OPTION, ringway_sender_send_message(sender, &said, NULL));

    DONE(ringway_topic_subscriptions(topic, all, 4, &count));
    CHECK(count == 2);
    const ringway_subscription_t *streamed = &all[all[0].id != to_stream];
    CHECK(streamed->protocol == RINGWAY_TO_STREAM && strcmp(streamed->endpoint, "log") == 0);
    CHECK(streamed->delivered == 2 && streamed->failed == 0 && streamed->replay == 0);
    CHECK(all[all[0].id == to_stream].protocol == RINGWAY_TO_EXEC);
    void *handles[8] = {sender, message, publisher, reader, receiver, stream, queue, topic};
    for (int i = 0; i < 8; i++) {
        DONE(ringway_close(handles[i]));
    }
}

/* Who subscribes late gets first what a FIFO topic has kept. */
static void replayed(ringway_bus_t *bus) {
    ringway_topic_config_t keeping;
    ringway_topic_t *topic;
    ringway_publisher_t *publisher;
    ringway_queue_config_t fifo;
    ringway_queue_t *queue;
    ringway_receiver_t *receiver;
    ringway_subscription_config_t wish;
    ringway_subscription_t subscription;
    size_t count = 0;
    ringway_topic_config_init(&keeping);
    keeping.kind = RINGWAY_FIFO;
    keeping.archive_days = 366;
    EXPECT(RINGWAY_E_OPTION, ringway_topic_open(bus, "trips", &keeping, &topic));
    keeping.archive_days = 1;
    keeping.archive_slots = 1024;
    DONE(ringway_topic_open(bus, "trips", &keeping, &topic));
    DONE(ringway_publisher_open(topic, &publisher));
    publish(publisher, "truck-1", "first");
    publish(publisher, "truck-1", "second");
    ringway_queue_config_init(&fifo);
    fifo.kind = RINGWAY_FIFO;
    DONE(ringway_queue_open(bus, "trips", &fifo, &queue));
    DONE(ringway_receiver_open(queue, NULL, &receiver));
    ringway_subscription_config_init(&wish);
    wish.endpoint = "trips";
    wish.raw = RINGWAY_ON;
    wish.replay = "{\"PointType\": \"Timestamp\", \"StartingPoint\": \"2001-01-01T00:00:00.000Z\"}";
    DONE(ringway_topic_subscribe(topic, &wish, NULL));
    publish(publisher, "truck-1", "third");
    consume(receiver, "first");
    consume(receiver, "second");
    consume(receiver, "third");
    DONE(ringway_topic_subscriptions(topic, &subscription, 1, &count));
    CHECK(count == 1 && subscription.replay == RINGWAY_REPLAY_COMPLETED);
    CHECK(subscription.delivered == 3 && subscription.protocol == RINGWAY_TO_QUEUE);
    void *handles[4] = {publisher, receiver, queue, topic};
    for (int i = 0; i < 4; i++) {
        DONE(ringway_close(handles[i]));
    }
}

static void listeners(ringway_bus_t *bus) {
    ringway_topic_config_t small;
    ringway_topic_t *topic;
    ringway_publisher_t *publisher;
    ringway_listener_config_t config;
    ringway_listener_t *listener, *blocking;
    ringway_message_t *message;
    ringway_message_parts_t parts;
    ringway_topic_config_init(&small);
    small.listen_slots = 1024;
    DONE(ringway_topic_open(bus, "ticks", &small, &topic));
    DONE(ringway_publisher_open(topic, &publisher));
    DONE(ringway_message_open(&message));

    /* Only what its policy wants. */
    ringway_listener_config_init(&config);
    config.filter = "{";
    EXPECT(RINGWAY_E_POLICY, ringway_listener_open(topic, &config, &listener));
    config.filter = "{\"kind\": [\"sport\"]}";
    config.scope = RINGWAY_IN_BODY;
    config.behind = RINGWAY_BEHIND_FAIL;
    EXPECT(RINGWAY_E_ARGUMENT, ringway_listener_open(topic, &config, &listener));
    config.behind = RINGWAY_BEHIND_EVICT;
    DONE(ringway_listener_open(topic, &config, &listener));
    void *const waiting[1] = {listener};
    size_t ready = 7;
    int32_t fd = -1, again = -2;
    EXPECT(RINGWAY_EMPTY, ringway_wait_any(waiting, 1, 0, &ready));
    DONE(ringway_poll_fd(listener, &fd));
    DONE(ringway_poll_fd(listener, &again));
    CHECK(fd >= 0 && fd == again);
    publish(publisher, NULL, "{\"kind\": \"news\"}");
    publish(publisher, NULL, "{\"kind\": \"sport\"}");
    DONE(ringway_wait_any(waiting, 1, RINGWAY_FOREVER, &ready));
    struct pollfd polled = {fd, POLLIN, 0};
    CHECK(ready == 0 && poll(&polled, 1, 10000) == 1);
    void *const twice[2] = {listener, listener};
    EXPECT(RINGWAY_E_BUSY_HANDLE, ringway_wait_any(twice, 2, 0, &ready));
    DONE(ringway_listener_hear(listener, message, RINGWAY_SECOND, NULL));
    DONE(ringway_message_parts(message, &parts, sizeof parts));
    CHECK(parts.len == 17);
    EXPECT(RINGWAY_EMPTY, ringway_listener_hear(listener, message, 0, NULL));

    /* One that misses nothing holds publishers up, as long as they say; the other one is put out. */
    ringway_listener_config_init(&config);
    config.behind = RINGWAY_BEHIND_BLOCK;
    DONE(ringway_listener_open(topic, &config, &blocking));
    ringway_outgoing_t said;
    ringway_outgoing_init(&said);
    int32_t status;
    int published = 0;
    while ((status = ringway_publisher_publish(publisher, &said, 0, NULL)) == RINGWAY_OK) {
        published++;
    }
    CHECK(status == RINGWAY_STALLED && published > 900);
    EXPECT(RINGWAY_STALLED, ringway_publisher_publish(publisher, &said, RINGWAY_MILLISECOND, NULL));
    int heard = 0;
    while (ringway_listener_hear(blocking, message, 0, NULL) == RINGWAY_OK) {
        heard++;
    }
    CHECK(heard >= published);
    DONE(ringway_publisher_publish(publisher, &said, 0, NULL));
    DONE(ringway_close(blocking));
    for (int i = 0; i < 3000; i++) {
        DONE(ringway_publisher_publish(publisher, &said, 0, NULL));
    }
    EXPECT(RINGWAY_E_STALE, ringway_listener_hear(listener, message, 0, NULL));
    void *handles[4] = {message, listener, publisher, topic};
    for (int i = 0; i < 4; i++) {
        DONE(ringway_close(handles[i]));
    }
}

/* A message that was received too often stays, and is read and taken out by who looks after it. */
static void parked(ringway_bus_t *bus) {
    ringway_queue_t *queue;
    ringway_sender_t *sender;
    ringway_receiver_t *receiver;
    ringway_parked_t list[2];
    ringway_received_t received;
    char buffer[64];
    size_t count = 7, len = 0;
    DONE(ringway_queue_open(bus, "poison", NULL, &queue));
    DONE(ringway_sender_open(queue, &sender));
    DONE(ringway_receiver_open(queue, NULL, &receiver));
    DONE(ringway_queue_parked(queue, NULL, 0, &count));
    CHECK(count == 0);
    for (int i = 0; i < 2; i++) {
        DONE(ringway_sender_send(sender, "poison", 6, 0, NULL));
        for (int times = 0; times < 1000; times++) {
            DONE(ringway_receiver_receive(
                receiver, buffer, sizeof buffer, 10 * RINGWAY_SECOND, &received));
            DONE(ringway_queue_nack(queue, &received.receipt, 0));
        }
        /* Whoever comes upon it then sets it aside. */
        while (count < (size_t)i + 1) {
            const int32_t status =
                ringway_receiver_receive(receiver, buffer, sizeof buffer, 1000, &received);
            CHECK(status == RINGWAY_TIMEOUT);
            DONE(ringway_queue_parked(queue, NULL, 0, &count));
        }
    }
    DONE(ringway_queue_parked(queue, list, 2, &count));
    CHECK(count == 2 && list[0].receives == 1000 && list[0].sent_ms > 0);
    CHECK(list[0].position < list[1].position);
    const uint64_t at = list[0].position;
    EXPECT(RINGWAY_E_BUFFER_TOO_SMALL, ringway_queue_read_parked(queue, at, 1, buffer, 3, &len));
    CHECK(len == 6);
    EXPECT(RINGWAY_E_BUFFER_TOO_SMALL, ringway_queue_read_parked(queue, at, 0, NULL, 0, &len));
    DONE(ringway_queue_read_parked(queue, at, 0, buffer, sizeof buffer, &len));
    CHECK(len == 6 && memcmp(buffer, "poison", 6) == 0);
    DONE(ringway_queue_read_parked(queue, at, 1, buffer, sizeof buffer, &len));
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_queue_read_parked(queue, at, 0, buffer, sizeof buffer, &len));
    DONE(ringway_queue_read_parked(queue, list[1].position, 1, NULL, 0, NULL));
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_queue_read_parked(queue, at, 1, NULL, 0, NULL));
    DONE(ringway_queue_parked(queue, list, 2, &count));
    CHECK(count == 0);
    void *handles[3] = {receiver, sender, queue};
    for (int i = 0; i < 3; i++) {
        DONE(ringway_close(handles[i]));
    }
}

/* A backlog that lies on a disk, and how far a queue on disk is. */
static void on_disk(ringway_bus_t *bus) {
    ringway_queue_config_t config;
    ringway_queue_t *queue;
    ringway_queue_stats_t stats;
    ringway_queue_config_init(&config);
    config.spill = RINGWAY_ON;
    config.kind = RINGWAY_FIFO;
    EXPECT(RINGWAY_E_OPTION, ringway_queue_open(bus, "spilled", &config, &queue));
    config.kind = 0;
    DONE(ringway_queue_open(bus, "spilled", &config, &queue));
    DONE(ringway_queue_stats(queue, &stats, sizeof stats));
    CHECK(stats.durable_position == 0 && stats.journal_bytes == 0);
    DONE(ringway_close(queue));
    config.spill = RINGWAY_OFF;
    EXPECT(RINGWAY_E_MISMATCH, ringway_queue_open(bus, "spilled", &config, &queue));

    ringway_sender_t *sender;
    uint64_t position = 0;
    ringway_queue_config_init(&config);
    config.slots = 1024;
    config.durability = RINGWAY_DURABLE;
    DONE(ringway_queue_open(bus, "kept", &config, &queue));
    DONE(ringway_sender_open(queue, &sender));
    DONE(ringway_sender_send(sender, "x", 1, 0, &position));
    DONE(ringway_queue_stats(queue, &stats, sizeof stats));
    CHECK(stats.durable_position > position && stats.unwritten == 0 && stats.journal_bytes > 0);
    DONE(ringway_close(sender));
    DONE(ringway_close(queue));
    DONE(ringway_bus_remove(bus, "kept", 0));
}

/* A topic on disk, which a config of the first version can't ask for. */
static void durable_topic(ringway_bus_t *bus) {
    ringway_topic_config_t config;
    ringway_topic_t *topic;
    ringway_queue_t *queue;
    ringway_receiver_t *receiver;
    ringway_publisher_t *publisher;
    ringway_topic_config_init(&config);
    config.durability = RINGWAY_ASYNC;
    EXPECT(RINGWAY_E_OPTION, ringway_topic_open(bus, "lasting", &config, &topic));
    config.durability = RINGWAY_DURABLE;
    DONE(ringway_topic_open(bus, "lasting", &config, &topic));
    DONE(ringway_close(topic));
    config.durability = RINGWAY_MEMORY;
    EXPECT(RINGWAY_E_MISMATCH, ringway_topic_open(bus, "lasting", &config, &topic));
    config.size = offsetof(ringway_topic_config_t, durability);
    DONE(ringway_topic_open(bus, "lasting", &config, &topic));

    /* What a command makes files of. */
    ringway_subscription_config_t wish;
    ringway_subscription_t all[2];
    size_t count = 0;
    ringway_subscription_config_init(&wish);
    wish.endpoint = "lake";
    wish.protocol = RINGWAY_TO_FIREHOSE;
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_topic_subscribe(topic, &wish, NULL));
    DONE(ringway_queue_open(bus, "lake", NULL, &queue));
    wish.endpoint = "targets/lake";
    wish.raw = RINGWAY_ON;
    DONE(ringway_topic_subscribe(topic, &wish, NULL));
    DONE(ringway_publisher_open(topic, &publisher));
    publish(publisher, NULL, "kept");
    DONE(ringway_receiver_open(queue, NULL, &receiver));
    consume(receiver, "kept");
    DONE(ringway_topic_subscriptions(topic, all, 2, &count));
    CHECK(count == 1 && all[0].protocol == RINGWAY_TO_FIREHOSE && all[0].delivered == 1);
    CHECK(strcmp(all[0].endpoint, "targets/lake") == 0);

    /* Who may deliver. */
    char text[256];
    size_t len = 7;
    DONE(ringway_bus_queue_policy(bus, "lake", text, sizeof text, &len));
    CHECK(len == 0 && text[0] == 0);
    const char *const nobody = "{\"Statement\": {\"Effect\": \"Deny\", \"Principal\": \"*\", "
                               "\"Action\": \"*\", \"Resource\": \"*\"}}";
    EXPECT(RINGWAY_E_POLICY, ringway_bus_set_queue_policy(bus, "lake", "{}"));
    CHECK(strstr(ringway_last_error(), "Statement") != NULL);
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_bus_set_queue_policy(bus, "nowhere", nobody));
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_bus_queue_policy(bus, "nowhere", text, sizeof text, &len));
    DONE(ringway_bus_set_queue_policy(bus, "lake", nobody));
    EXPECT(RINGWAY_E_BUFFER_TOO_SMALL, ringway_bus_queue_policy(bus, "lake", NULL, 0, &len));
    CHECK(len == strlen(nobody));
    EXPECT(RINGWAY_E_BUFFER_TOO_SMALL, ringway_bus_queue_policy(bus, "lake", text, len, &len));
    DONE(ringway_bus_queue_policy(bus, "lake", text, len + 1, &len));
    CHECK(len == strlen(nobody) && strcmp(text, nobody) == 0);
    publish(publisher, NULL, "refused");
    char buffer[16];
    ringway_received_t received;
    EXPECT(RINGWAY_EMPTY, ringway_receiver_consume(receiver, buffer, sizeof buffer, 0, &received));
    DONE(ringway_topic_subscriptions(topic, all, 2, &count));
    CHECK(all[0].failed == 1);
    DONE(ringway_bus_set_queue_policy(bus, "lake", NULL));
    publish(publisher, NULL, "admitted");
    consume(receiver, "admitted");
    void *handles[4] = {publisher, receiver, queue, topic};
    for (int i = 0; i < 4; i++) {
        DONE(ringway_close(handles[i]));
    }
    DONE(ringway_bus_remove(bus, "lasting", RINGWAY_TOPIC));
}

int main(void) {
    ringway_bus_t *bus;
    ringway_bus_config_t config;
    ringway_bus_config_init(&config);
    config.journal_root = getenv("RINGWAY_TEST_DISK");
    DONE(ringway_bus_open("targets", &config, &bus));
    targets(bus);
    replayed(bus);
    listeners(bus);
    parked(bus);
    on_disk(bus);
    durable_topic(bus);
    DONE(ringway_close(bus));
    DONE(ringway_bus_destroy("targets", &config, 0));
    puts("targets: ok");
    return 0;
}
