/* Every function of streams and topics does what its comment says. One process. */

#include "check.h"
#include <sys/wait.h>
#include <unistd.h>

static const char *const keys[3] = {"truck-1", "truck-2", "truck-3"};

/* Reads until `count` records were seen; of each key they come in order. */
static size_t read_all(ringway_stream_reader_t *reader, size_t count) {
    int last[3] = {-1, -1, -1};
    size_t seen = 0;
    while (seen < count) {
        ringway_stream_record_t records[16];
        size_t read = 0;
        DONE(ringway_stream_read(reader, 16, 10 * RINGWAY_SECOND, records, &read));
        for (size_t i = 0; i < read; i++) {
            int number, key = records[i].partition_key[6] - '1';
            CHECK(records[i].len == sizeof number && records[i].arrival_ms > 0);
            CHECK(strcmp(records[i].partition_key, keys[key]) == 0);
            memcpy(&number, records[i].data, sizeof number);
            CHECK(number > last[key]);
            last[key] = number;
        }
        seen += read;
    }
    return seen;
}

static void streams(ringway_bus_t *bus) {
    ringway_stream_config_t config;
    ringway_stream_config_init(&config);
    config.shards = 4;
    config.slots = 1024;
    config.overflow = RINGWAY_REFUSE;
    config.how = RINGWAY_CREATE;
    ringway_stream_t *stream;
    ringway_stream_producer_t *producer;
    DONE(ringway_stream_open(bus, "trucks", &config, &stream));
    EXPECT(RINGWAY_E_EXISTS, ringway_stream_open(bus, "trucks", &config, &stream));
    DONE(ringway_stream_producer_open(stream, NULL, &producer));

    /* A worker of a group, which is made, and a reader that sees everything. */
    ringway_stream_reader_config_t joining;
    ringway_stream_reader_config_init(&joining);
    joining.group = "dispatch";
    joining.idle = RINGWAY_PARK;
    ringway_stream_reader_t *worker, *reader, *one;
    DONE(ringway_stream_reader_open(stream, &joining, &worker));
    DONE(ringway_stream_reader_open(stream, NULL, &reader));
    ringway_stream_record_t records[16];
    size_t count = 0;
    EXPECT(RINGWAY_EMPTY, ringway_stream_read(reader, 16, 0, records, &count));
    EXPECT(RINGWAY_TIMEOUT, ringway_stream_read(worker, 16, 1000, records, &count));
    DONE(ringway_stream_read(worker, 0, 0, NULL, &count));

    /* One, many, and one where its hash key says. */
    int number = 0;
    ringway_put_t put = {"truck-1", &number, sizeof number, NULL};
    ringway_put_outcome_t outcome, outcomes[4];
    DONE(ringway_stream_put(producer, &put, 0, &outcome));
    CHECK(outcome.status == RINGWAY_OK && outcome.sequence_number.shard < 4);
    const ringway_sequence_number_t first = outcome.sequence_number;
    ringway_put_t puts[4];
    const int numbers[4] = {1, 2, 3, 4};
    for (int i = 0; i < 4; i++) {
        const ringway_put_t one_put = {keys[i % 3], &numbers[i], sizeof(int), NULL};
        puts[i] = one_put;
    }
    puts[2].partition_key = "";
    DONE(ringway_stream_put_batch(producer, puts, 4, 0, outcomes));
    CHECK(outcomes[2].status == RINGWAY_E_ID && outcomes[3].status == RINGWAY_OK);
    CHECK(outcomes[0].sequence_number.shard == first.shard);
    CHECK(outcomes[0].sequence_number.position > first.position);
    const ringway_hash_key_t last = {UINT64_MAX, UINT64_MAX};
    puts[2].partition_key = "truck-3";
    puts[2].hash_key = &last;
    DONE(ringway_stream_put(producer, &puts[2], RINGWAY_SECOND, &outcome));
    CHECK(outcome.sequence_number.shard == 3);
    CHECK(read_all(reader, 5) == 5 && read_all(worker, 5) == 5);

    /* Iterators: everything of a shard, from a record on, behind it, from now on. */
    joining.group = NULL;
    joining.shard = first.shard;
    const int32_t iterators[4] = {RINGWAY_TRIM_HORIZON, RINGWAY_AT_SEQUENCE_NUMBER,
        RINGWAY_AFTER_SEQUENCE_NUMBER, RINGWAY_AT_TIMESTAMP};
    for (int i = 0; i < 4; i++) {
        joining.iterator = iterators[i];
        joining.sequence_number = first;
        DONE(ringway_stream_reader_open(stream, &joining, &one));
        DONE(ringway_stream_read(one, 1, RINGWAY_SECOND, records, &count));
        CHECK(count == 1 && records[0].sequence_number.shard == first.shard);
        const uint64_t at = records[0].sequence_number.position;
        CHECK(i == 2 ? at > first.position : at == first.position);
        DONE(ringway_close(one));
    }
    joining.shard = RINGWAY_DEFAULT;
    joining.iterator = RINGWAY_AT_SEQUENCE_NUMBER;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_reader_open(stream, &joining, &one));
    joining.shard = 77;
    joining.iterator = RINGWAY_LATEST;
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_stream_reader_open(stream, &joining, &one));

    /* Checkpoints: what the first worker checkpointed its successor is not given. */
    EXPECT(RINGWAY_E_OPTION, ringway_stream_checkpoint(reader, NULL));
    ringway_sequence_number_t wrong = first;
    wrong.position += 1000;
    EXPECT(RINGWAY_E_OUT_OF_RANGE, ringway_stream_checkpoint(worker, &wrong));
    wrong.shard = 99;
    EXPECT(RINGWAY_E_NO_LEASE, ringway_stream_checkpoint(worker, &wrong));
    DONE(ringway_stream_checkpoint(worker, &first));
    DONE(ringway_stream_checkpoint(worker, NULL));
    DONE(ringway_stream_put(producer, &put, 0, NULL));
    DONE(ringway_close(worker));
    ringway_stream_reader_config_init(&joining);
    joining.group = "dispatch";
    DONE(ringway_stream_reader_open(stream, &joining, &worker));
    DONE(ringway_stream_read(worker, 16, 10 * RINGWAY_SECOND, records, &count));
    CHECK(count == 1 && records[0].sequence_number.position > first.position);
    joining.shard = 0;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_reader_open(stream, &joining, &one));

    /* Shards, counts, and a shard that its group holds. */
    ringway_shard_info_t shards[2];
    DONE(ringway_stream_shards(stream, shards, 2, &count));
    CHECK(count == 4 && shards[1].shard == 1 && shards[1].state == RINGWAY_SHARD_OPEN);
    CHECK(shards[0].first.high == 0 && shards[0].last.high < shards[1].first.high);
    CHECK(shards[0].parents[0] == RINGWAY_NONE && shards[0].closed_ms == 0);
    ringway_stream_stats_t stats;
    DONE(ringway_stream_stats(stream, &stats, sizeof stats));
    CHECK(stats.open_shards == 4 && stats.positions >= 6 && stats.damaged == 0);
    int32_t status;
    while ((status = ringway_stream_put(producer, &put, 0, NULL)) == RINGWAY_OK) {
    }
    CHECK(status == RINGWAY_FULL);
    DONE(ringway_stream_put_batch(producer, puts, 2, 1000, outcomes));
    CHECK(outcomes[0].status == RINGWAY_FULL);

    /* One producer for each shard at a time. */
    ringway_stream_t *ticks;
    ringway_stream_producer_t *holder, *second;
    ringway_stream_config_init(&config);
    config.slots = 1024;
    config.producers = 9;
    EXPECT(RINGWAY_E_ARGUMENT, ringway_stream_open(bus, "ticks", &config, &ticks));
    config.producers = RINGWAY_EXCLUSIVE;
    config.durability = RINGWAY_DURABLE;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_open(bus, "ticks", &config, &ticks));
    config.durability = 0;
    DONE(ringway_stream_open(bus, "ticks", &config, &ticks));
    DONE(ringway_stream_producer_open(ticks, NULL, &holder));
    DONE(ringway_stream_producer_open(ticks, NULL, &second));
    DONE(ringway_stream_put(holder, &put, 0, NULL));
    EXPECT(RINGWAY_E_BUSY, ringway_stream_put(second, &put, 0, NULL));
    DONE(ringway_close(holder));
    DONE(ringway_stream_put(second, &put, 0, NULL));
    DONE(ringway_close(second));
    DONE(ringway_close(ticks));
    config.producers = RINGWAY_SHARED;
    EXPECT(RINGWAY_E_MISMATCH, ringway_stream_open(bus, "ticks", &config, &ticks));
    /* By who was built before there was such a choice. */
    config.size = offsetof(ringway_stream_config_t, producers);
    DONE(ringway_stream_open(bus, "ticks", &config, &ticks));
    DONE(ringway_close(ticks));
    DONE(ringway_bus_remove(bus, "ticks", 0));

    DONE(ringway_close(stream));
    DONE(ringway_close(producer));
    DONE(ringway_close(reader));
    DONE(ringway_close(worker));

    /* One that drops its oldest tells who missed them. */
    config.overflow = RINGWAY_DROP_OLDEST;
    config.shards = 1;
    DONE(ringway_stream_open(bus, "fixes", &config, &stream));
    DONE(ringway_stream_producer_open(stream, NULL, &producer));
    DONE(ringway_stream_reader_open(stream, NULL, &reader));
    for (int i = 0; i < 5000; i++) {
        DONE(ringway_stream_put(producer, &put, 0, NULL));
    }
    EXPECT(RINGWAY_LAGGED, ringway_stream_read(reader, 16, 0, records, &count));
    CHECK(records[0].missed > 0 && records[0].sequence_number.position >= records[0].missed);
    DONE(ringway_stream_read(reader, 16, 0, records, &count));
    DONE(ringway_bus_remove(bus, "fixes", 0));
    EXPECT(RINGWAY_E_REMOVED, ringway_stream_stats(stream, &stats, sizeof stats));
    DONE(ringway_close(stream));
    DONE(ringway_close(producer));
    DONE(ringway_close(reader));
}

static void topics(ringway_bus_t *bus) {
    ringway_topic_t *topic;
    ringway_queue_t *all, *sport;
    ringway_receiver_t *to_all, *to_sport;
    ringway_publisher_t *publisher;
    ringway_listener_t *listener;
    ringway_topic_config_t config;
    ringway_topic_config_init(&config);
    config.listen_slots = 1024;
    DONE(ringway_topic_open(bus, "news", &config, &topic));
    DONE(ringway_queue_open(bus, "all", NULL, &all));
    DONE(ringway_queue_open(bus, "sport", NULL, &sport));
    DONE(ringway_receiver_open(all, NULL, &to_all));
    DONE(ringway_receiver_open(sport, NULL, &to_sport));

    /* Two queues: one takes everything as a notification, one what it wants as it is. */
    ringway_subscription_config_t wish;
    ringway_subscription_config_init(&wish);
    wish.endpoint = "nowhere";
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_topic_subscribe(topic, &wish, NULL));
    wish.endpoint = "all";
    uint64_t id = 0, sports = 0;
    DONE(ringway_topic_subscribe(topic, &wish, &id));
    wish.endpoint = "sport";
    wish.dead_letter = "all";
    wish.raw = RINGWAY_ON;
    wish.filter = "{\"kind\": 5}";
    EXPECT(RINGWAY_E_POLICY, ringway_topic_subscribe(topic, &wish, &sports));
    wish.filter = "{\"kind\": [\"sport\"]}";
    DONE(ringway_topic_subscribe(topic, &wish, &sports));
    ringway_subscription_t subscriptions[4];
    size_t count = 0;
    DONE(ringway_topic_subscriptions(topic, subscriptions, 4, &count));
    CHECK(count == 2);
    const ringway_subscription_t *of_sport = &subscriptions[subscriptions[1].id == sports];
    CHECK(of_sport->id == sports && strcmp(of_sport->endpoint, "sport") == 0);
    CHECK(of_sport->raw == RINGWAY_ON && of_sport->scope == RINGWAY_IN_ATTRIBUTES);
    CHECK(strcmp(of_sport->dead_letter, "all") == 0);

    DONE(ringway_publisher_open(topic, &publisher));
    DONE(ringway_listener_open(topic, NULL, &listener));
    const ringway_attribute_t kind = {"kind", NULL, "sport", 5, RINGWAY_STRING, 0};
    ringway_outgoing_t said[3];
    ringway_published_t published[3];
    for (int i = 0; i < 3; i++) {
        ringway_outgoing_init(&said[i]);
        said[i].body = "1:0";
        said[i].len = 3;
    }
    said[0].attributes = &kind;
    said[0].attribute_count = 1;
    said[0].subject = "goal";
    DONE(ringway_publisher_publish(publisher, &said[0], 0, &published[0]));
    CHECK(published[0].message_id[0] != 0 && published[0].duplicate == 0);
    said[1].delay_ms = 5;
    DONE(ringway_publisher_publish_batch(publisher, said + 1, 2, 0, published + 1));
    CHECK(published[1].status == RINGWAY_E_OPTION && published[2].status == RINGWAY_OK);

    char buffer[2048];
    ringway_received_t received;
    DONE(ringway_receiver_consume(to_sport, buffer, sizeof buffer, RINGWAY_SECOND, &received));
    CHECK(received.len == 3 && memcmp(buffer, "1:0", 3) == 0);
    EXPECT(RINGWAY_EMPTY, ringway_receiver_consume(to_sport, buffer, sizeof buffer, 0, &received));
    DONE(ringway_receiver_consume(to_all, buffer, sizeof buffer, RINGWAY_SECOND, &received));
    CHECK(memchr(buffer, '{', received.len) == buffer);

    /* A listener hears both, with what was said about them. */
    ringway_message_t *message;
    ringway_message_parts_t parts;
    DONE(ringway_message_open(&message));
    DONE(ringway_listener_hear(listener, message, RINGWAY_SECOND, NULL));
    DONE(ringway_message_parts(message, &parts, sizeof parts));
    CHECK(parts.len == 3 && strcmp(parts.subject, "goal") == 0 && parts.published_ms > 0);
    CHECK(memcmp(parts.message_id, published[0].message_id, 16) == 0);
    CHECK(ringway_message_attribute(&parts, "kind")->len == 5);
    CHECK(ringway_message_attribute(&parts, "none") == NULL);
    DONE(ringway_listener_hear(listener, message, 0, NULL));
    EXPECT(RINGWAY_EMPTY, ringway_listener_hear(listener, message, 0, NULL));
    EXPECT(RINGWAY_TIMEOUT, ringway_listener_hear(listener, message, 1000, NULL));
    DONE(ringway_topic_unsubscribe(topic, sports));
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_topic_unsubscribe(topic, sports));
    uint64_t missed = 0;
    for (int i = 0; i < 3000; i++) {
        DONE(ringway_publisher_publish(publisher, &said[0], 0, NULL));
    }
    EXPECT(RINGWAY_LAGGED, ringway_listener_hear(listener, message, 0, &missed));
    CHECK(missed > 0);
    EXPECT(RINGWAY_EMPTY, ringway_receiver_consume(to_sport, buffer, sizeof buffer, 0, &received));
    DONE(ringway_close(publisher));
    ringway_topic_stats_t stats;
    DONE(ringway_topic_stats(topic, &stats, sizeof stats));
    CHECK(stats.published == 3002 && stats.subscriptions == 1 && stats.listeners == 1);
    CHECK(stats.delivered == 3003 && stats.failed == 0 && stats.waiting == 0);

    /* FIFO: in order, and once. */
    config.kind = RINGWAY_FIFO;
    ringway_topic_t *trips;
    DONE(ringway_topic_open(bus, "trips", &config, &trips));
    DONE(ringway_publisher_open(trips, &publisher));
    said[0].dedup_id = "1";
    EXPECT(RINGWAY_E_MISSING_GROUP, ringway_publisher_publish(publisher, &said[0], 0, NULL));
    said[0].group = "truck-1";
    DONE(ringway_publisher_publish(publisher, &said[0], 0, NULL));
    DONE(ringway_publisher_publish(publisher, &said[0], 0, &published[0]));
    CHECK(published[0].duplicate == 1);
    DONE(ringway_close(publisher));
    DONE(ringway_close(trips));

    ringway_object_info_t objects[8];
    DONE(ringway_bus_objects(bus, objects, 8, &count));
    CHECK(count == 5 && objects[3].object == RINGWAY_TOPIC && objects[2].object == RINGWAY_STREAM);
    DONE(ringway_bus_remove(bus, "news", RINGWAY_TOPIC));
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_bus_remove(bus, "news", RINGWAY_TOPIC));
    EXPECT(RINGWAY_E_REMOVED, ringway_publisher_open(topic, &publisher));
    void *handles[7] = {message, listener, topic, to_all, to_sport, all, sport};
    for (int i = 0; i < 7; i++) {
        DONE(ringway_close(handles[i]));
    }
}

/* In the child each handle of the parent says so, and closing is harmless. */
static void forked(ringway_bus_t *bus) {
    ringway_stream_t *stream;
    ringway_stream_producer_t *producer;
    ringway_stream_reader_t *reader, *worker;
    ringway_topic_t *topic;
    ringway_publisher_t *publisher;
    ringway_listener_t *listener;
    ringway_message_t *message;
    ringway_stream_reader_config_t joining;
    ringway_stream_reader_config_init(&joining);
    joining.group = "group";
    DONE(ringway_stream_open(bus, "forked", NULL, &stream));
    DONE(ringway_stream_producer_open(stream, NULL, &producer));
    DONE(ringway_stream_reader_open(stream, NULL, &reader));
    DONE(ringway_stream_reader_open(stream, &joining, &worker));
    DONE(ringway_topic_open(bus, "forked", NULL, &topic));
    DONE(ringway_publisher_open(topic, &publisher));
    DONE(ringway_listener_open(topic, NULL, &listener));
    DONE(ringway_message_open(&message));
    void *all[7] = {producer, reader, worker, stream, publisher, listener, topic};
    ringway_put_t put = {"key", "x", 1, NULL};
    ringway_outgoing_t said;
    ringway_outgoing_init(&said);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        ringway_stream_record_t record;
        ringway_shard_info_t shard;
        size_t count;
        EXPECT(RINGWAY_E_FORKED, ringway_stream_put(producer, &put, 0, NULL));
        EXPECT(RINGWAY_E_FORKED, ringway_stream_read(reader, 1, 0, &record, &count));
        EXPECT(RINGWAY_E_FORKED, ringway_stream_read(worker, 1, 0, &record, &count));
        EXPECT(RINGWAY_E_FORKED, ringway_stream_checkpoint(worker, NULL));
        EXPECT(RINGWAY_E_FORKED, ringway_stream_shards(stream, &shard, 1, &count));
        EXPECT(RINGWAY_E_FORKED, ringway_publisher_publish(publisher, &said, 0, NULL));
        EXPECT(RINGWAY_E_FORKED, ringway_listener_hear(listener, message, 0, NULL));
        EXPECT(RINGWAY_E_FORKED, ringway_topic_unsubscribe(topic, 1));
        for (int i = 0; i < 7; i++) {
            DONE(ringway_close(all[i]));
        }
        exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    DONE(ringway_stream_put(producer, &put, 0, NULL));
    DONE(ringway_publisher_publish(publisher, &said, 0, NULL));
    DONE(ringway_close(message));
    for (int i = 0; i < 7; i++) {
        DONE(ringway_close(all[i]));
    }
}

int main(void) {
    ringway_bus_t *bus;
    DONE(ringway_bus_open("streams", NULL, &bus));
    streams(bus);
    topics(bus);
    forked(bus);
    DONE(ringway_close(bus));
    DONE(ringway_bus_destroy("streams", NULL, 0));
    puts("streams: ok");
    return 0;
}
