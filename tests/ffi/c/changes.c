/* Streams that are changed while they are used, registered consumers, and many records put as one: each call
   does what its comment says. One process. */

#include "check.h"
#include <sys/wait.h>
#include <unistd.h>

static ringway_change_config_t change(int32_t what) {
    ringway_change_config_t config;
    ringway_change_config_init(&config);
    config.what = what;
    return config;
}

static void put(ringway_stream_producer_t *producer, const char *key, int number) {
    const ringway_put_t record = {key, &number, sizeof number, NULL};
    DONE(ringway_stream_put(producer, &record, RINGWAY_SECOND, NULL));
}

/* Reads `count` records; those of the key come in order from `first` on. */
static void read_in_order(ringway_stream_reader_t *reader, int first, size_t count) {
    size_t seen = 0;
    while (seen < count) {
        ringway_stream_record_t records[16];
        size_t read = 0;
        DONE(ringway_stream_read(reader, 16, 10 * RINGWAY_SECOND, records, &read));
        for (size_t i = 0; i < read; i++) {
            int number;
            CHECK(records[i].len == sizeof number);
            memcpy(&number, records[i].data, sizeof number);
            CHECK(number == first++);
        }
        seen += read;
    }
    CHECK(seen == count);
}

static void shards(ringway_bus_t *bus) {
    ringway_stream_t *stream;
    ringway_stream_producer_t *producer;
    ringway_stream_reader_t *reader;
    ringway_changed_t changed;
    ringway_change_config_t config = change(RINGWAY_SPLIT);
    DONE(ringway_stream_open(bus, "trucks", NULL, &stream));
    DONE(ringway_stream_producer_open(stream, NULL, &producer));
    DONE(ringway_stream_reader_open(stream, NULL, &reader));

    /* Order is kept across each change, and handles follow. */
    put(producer, "truck-1", 0);
    config.shard = 0;
    DONE(ringway_stream_change(stream, &config, &changed));
    CHECK(changed.shards[0] == 1 && changed.shards[1] == 2 && changed.count == 0);
    put(producer, "truck-1", 1);
    EXPECT(RINGWAY_E_OPTION, ringway_stream_change(stream, &config, NULL));
    config.shard = 99;
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_stream_change(stream, &config, NULL));
    const ringway_hash_key_t quarter = {UINT64_C(1) << 62, 0}, none = {0, 0};
    config.shard = 1;
    config.hash_key = &none;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_change(stream, &config, NULL));
    config.hash_key = &quarter;
    DONE(ringway_stream_change(stream, &config, &changed));
    ringway_shard_info_t all[8];
    size_t count = 0;
    DONE(ringway_stream_shards(stream, all, 8, &count));
    CHECK(count == 5 && all[4].first.high == quarter.high && all[4].parents[0] == 1);
    put(producer, "truck-1", 2);

    config = change(RINGWAY_MERGE);
    config.shard = 2;
    config.second = 3;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_change(stream, &config, &changed));
    config.shard = 4;
    DONE(ringway_stream_change(stream, &config, &changed));
    CHECK(changed.shards[0] == 5 && changed.shards[1] == RINGWAY_NONE);
    put(producer, "truck-1", 3);
    config.second = RINGWAY_DEFAULT;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_change(stream, &config, &changed));

    config = change(RINGWAY_SCALE);
    config.count = 4;
    DONE(ringway_stream_change(stream, &config, &changed));
    CHECK(changed.count == 2);
    config.count = 1001;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_change(stream, &config, NULL));
    put(producer, "truck-1", 4);
    read_in_order(reader, 0, 5);
    ringway_stream_stats_t stats;
    DONE(ringway_stream_stats(stream, &stats, sizeof stats));
    CHECK(stats.open_shards == 4 && stats.retention_ms == 0 && stats.journal_bytes == 0);
    DONE(ringway_stream_shards(stream, all, 8, &count));
    CHECK(all[0].durable_position == 0 && stats.unwritten == 0);

    /* What everybody has read is given back. */
    config = change(RINGWAY_RETIRE);
    DONE(ringway_stream_change(stream, &config, &changed));
    CHECK(changed.count == stats.closed_shards && changed.count > 0);

    /* A group is removed, and its worker is told. */
    ringway_stream_reader_config_t joining;
    ringway_stream_reader_t *worker;
    ringway_stream_record_t record;
    ringway_stream_reader_config_init(&joining);
    joining.group = "dispatch";
    DONE(ringway_stream_reader_open(stream, &joining, &worker));
    config = change(RINGWAY_REMOVE_GROUP);
    EXPECT(RINGWAY_E_ARGUMENT, ringway_stream_change(stream, &config, NULL));
    config.name = "no name";
    EXPECT(RINGWAY_E_NAME, ringway_stream_change(stream, &config, NULL));
    config.name = "dispatch";
    DONE(ringway_stream_change(stream, &config, NULL));
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_stream_change(stream, &config, NULL));
    EXPECT(RINGWAY_E_STALE, ringway_stream_read(worker, 1, 0, &record, &count));

    /* What it is not. */
    config.what = 0;
    EXPECT(RINGWAY_E_ARGUMENT, ringway_stream_change(stream, &config, NULL));
    EXPECT(RINGWAY_E_ARGUMENT, ringway_stream_change(stream, NULL, NULL));
    config = change(RINGWAY_RETAIN);
    config.retention_ms = 86400000;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_change(stream, &config, NULL));

    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        config = change(RINGWAY_SCALE);
        config.count = 2;
        EXPECT(RINGWAY_E_FORKED, ringway_stream_change(stream, &config, NULL));
        EXPECT(RINGWAY_E_FORKED, ringway_stream_consumers(stream, NULL, 0, &count));
        _exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    void *handles[4] = {worker, reader, producer, stream};
    for (int i = 0; i < 4; i++) {
        DONE(ringway_close(handles[i]));
    }
}

/* How long a stream on disk keeps what it has is changed, both parts by themselves. */
static void retention(ringway_bus_t *bus) {
    ringway_stream_config_t on_disk;
    ringway_stream_t *stream;
    ringway_stream_stats_t stats;
    ringway_stream_config_init(&on_disk);
    on_disk.durability = RINGWAY_DURABLE;
    on_disk.slots = 1024;
    on_disk.retention_bytes = UINT64_C(1) << 30;
    DONE(ringway_stream_open(bus, "kept", &on_disk, &stream));
    ringway_change_config_t config = change(RINGWAY_RETAIN);
    config.retention_ms = UINT64_C(7) * 86400000;
    DONE(ringway_stream_change(stream, &config, NULL));
    DONE(ringway_stream_stats(stream, &stats, sizeof stats));
    CHECK(stats.retention_ms == config.retention_ms && stats.retention_bytes == 1 << 30);
    CHECK(stats.journal_bytes > 0);
    config = change(RINGWAY_RETAIN);
    config.retention_bytes = RINGWAY_NONE;
    DONE(ringway_stream_change(stream, &config, NULL));
    DONE(ringway_stream_stats(stream, &stats, sizeof stats));
    CHECK(stats.retention_ms == UINT64_C(7) * 86400000 && stats.retention_bytes == 0);
    config.retention_ms = 1000;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_change(stream, &config, NULL));
    DONE(ringway_close(stream));
    DONE(ringway_bus_remove(bus, "kept", 0));

    /* Between memory and disk, and how far it is. */
    ringway_stream_producer_t *producer;
    ringway_shard_info_t shard;
    size_t count = 0;
    on_disk.durability = RINGWAY_ASYNC;
    DONE(ringway_stream_open(bus, "behind", &on_disk, &stream));
    DONE(ringway_stream_producer_open(stream, NULL, &producer));
    for (int i = 0; i < 100; i++) {
        put(producer, "key", i);
    }
    DONE(ringway_stream_flush(producer, 0));
    DONE(ringway_stream_stats(stream, &stats, sizeof stats));
    DONE(ringway_stream_shards(stream, &shard, 1, &count));
    CHECK(stats.unwritten == 0 && shard.next >= 100 && shard.durable_position == shard.next);
    DONE(ringway_close(producer));
    DONE(ringway_close(stream));
    DONE(ringway_bus_remove(bus, "behind", 0));
}

static void consumers(ringway_bus_t *bus) {
    ringway_stream_config_t small;
    ringway_stream_t *stream;
    ringway_stream_producer_t *producer;
    ringway_stream_reader_t *reader, *second;
    ringway_stream_reader_config_t as;
    ringway_stream_record_t records[16];
    ringway_consumer_info_t info[4];
    size_t count = 0;
    ringway_stream_config_init(&small);
    small.slots = 1024;
    DONE(ringway_stream_open(bus, "fixes", &small, &stream));
    DONE(ringway_stream_producer_open(stream, NULL, &producer));
    ringway_change_config_t config = change(RINGWAY_REGISTER);
    config.name = "billing";
    config.behind = RINGWAY_BEHIND_DROP_OLDEST;
    DONE(ringway_stream_change(stream, &config, NULL));
    EXPECT(RINGWAY_E_EXISTS, ringway_stream_change(stream, &config, NULL));
    config.name = "audit";
    config.behind = RINGWAY_BEHIND_EVICT;
    DONE(ringway_stream_change(stream, &config, NULL));
    config.behind = 9;
    EXPECT(RINGWAY_E_ARGUMENT, ringway_stream_change(stream, &config, NULL));

    ringway_stream_reader_config_init(&as);
    as.consumer = "nobody";
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_stream_reader_open(stream, &as, &reader));
    as.consumer = "billing";
    as.group = "dispatch";
    EXPECT(RINGWAY_E_OPTION, ringway_stream_reader_open(stream, &as, &reader));
    as.group = NULL;
    as.shard = 0;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_reader_open(stream, &as, &reader));
    as.shard = RINGWAY_DEFAULT;
    as.idle = RINGWAY_SPIN;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_reader_open(stream, &as, &reader));
    as.idle = 0;
    as.iterator = RINGWAY_TRIM_HORIZON;
    DONE(ringway_stream_reader_open(stream, &as, &reader));
    EXPECT(RINGWAY_E_BUSY, ringway_stream_reader_open(stream, &as, &second));
    EXPECT(RINGWAY_EMPTY, ringway_stream_read(reader, 16, 0, records, &count));
    EXPECT(RINGWAY_TIMEOUT, ringway_stream_read(reader, 16, 1000, records, &count));
    put(producer, "key", 0);
    read_in_order(reader, 0, 1);
    EXPECT(RINGWAY_E_OPTION, ringway_stream_checkpoint(reader, NULL));

    /* It is told what it missed; the other one is put out. */
    ringway_stream_reader_t *auditor;
    as.consumer = "audit";
    DONE(ringway_stream_reader_open(stream, &as, &auditor));
    for (int i = 0; i < 3000; i++) {
        put(producer, "key", i);
    }
    EXPECT(RINGWAY_LAGGED, ringway_stream_read(reader, 16, 0, records, &count));
    CHECK(records[0].missed > 0 && records[0].sequence_number.position > records[0].missed);
    DONE(ringway_stream_read(reader, 16, 0, records, &count));
    EXPECT(RINGWAY_E_STALE, ringway_stream_read(auditor, 16, 0, records, &count));
    DONE(ringway_close(auditor));

    /* Another one takes its place. */
    as.consumer = "billing";
    as.iterator = RINGWAY_LATEST;
    as.take_over = RINGWAY_ON;
    DONE(ringway_stream_reader_open(stream, &as, &second));
    EXPECT(RINGWAY_E_STALE, ringway_stream_read(reader, 16, 0, records, &count));
    put(producer, "key", 7);
    read_in_order(second, 7, 1);

    DONE(ringway_stream_consumers(stream, info, 4, &count));
    CHECK(count == 2);
    const ringway_consumer_info_t *billing = &info[strcmp(info[0].name, "billing") != 0];
    CHECK(strcmp(billing->name, "billing") == 0 && billing->policy == RINGWAY_BEHIND_DROP_OLDEST);
    CHECK(billing->gaps == 1 && billing->lost > 0 && billing->records == 18);
    CHECK(billing->subscriptions == 2 && billing->subscriber != 0 && billing->behind == 0);
    CHECK(info[billing == info].evictions == 1 && info[billing == info].subscriber == 0);

    config = change(RINGWAY_DEREGISTER);
    config.name = "billing";
    DONE(ringway_stream_change(stream, &config, NULL));
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_stream_change(stream, &config, NULL));
    EXPECT(RINGWAY_E_STALE, ringway_stream_read(second, 16, 0, records, &count));
    DONE(ringway_stream_consumers(stream, NULL, 0, &count));
    CHECK(count == 1);

    /* Where the oldest are dropped nobody holds puts back. */
    ringway_stream_t *dropping;
    small.overflow = RINGWAY_DROP_OLDEST;
    DONE(ringway_stream_open(bus, "dropping", &small, &dropping));
    config = change(RINGWAY_REGISTER);
    config.name = "billing";
    EXPECT(RINGWAY_E_NOT_RELIABLE, ringway_stream_change(dropping, &config, NULL));

    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        EXPECT(RINGWAY_E_FORKED, ringway_stream_read(second, 1, 0, records, &count));
        _exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    void *handles[5] = {reader, second, producer, stream, dropping};
    for (int i = 0; i < 5; i++) {
        DONE(ringway_close(handles[i]));
    }
}

static void aggregated(ringway_bus_t *bus) {
    ringway_stream_config_t small;
    ringway_stream_t *stream;
    ringway_stream_producer_config_t many;
    ringway_stream_producer_t *producer;
    ringway_stream_reader_t *reader;
    ringway_stream_record_t records[16];
    ringway_put_outcome_t outcome, outcomes[2];
    size_t count = 0;
    ringway_stream_config_init(&small);
    small.slots = 1024;
    DONE(ringway_stream_open(bus, "clicks", &small, &stream));
    DONE(ringway_stream_reader_open(stream, NULL, &reader));
    ringway_stream_producer_config_init(&many);
    many.aggregate = RINGWAY_ON;
    many.aggregate_bytes = 63;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_producer_open(stream, &many, &producer));
    many.aggregate_bytes = RINGWAY_DEFAULT;
    many.aggregate_records = 0;
    EXPECT(RINGWAY_E_OPTION, ringway_stream_producer_open(stream, &many, &producer));
    many.aggregate_records = 3;
    many.linger_ms = 3600000;
    DONE(ringway_stream_producer_open(stream, &many, &producer));

    /* Two are gathered, and are there when they are flushed, under one number. */
    const ringway_put_t record = {"user-1", "x", 1, NULL}, wrong = {"", "x", 1, NULL};
    const ringway_put_t two[2] = {record, wrong};
    DONE(ringway_stream_put(producer, &record, 0, &outcome));
    CHECK(outcome.sequence_number.shard == RINGWAY_NONE);
    DONE(ringway_stream_put_batch(producer, two, 2, 0, outcomes));
    CHECK(outcomes[0].status == RINGWAY_OK && outcomes[1].status == RINGWAY_E_ID);
    CHECK(outcomes[0].sequence_number.position == RINGWAY_NONE);
    EXPECT(RINGWAY_EMPTY, ringway_stream_read(reader, 16, 0, records, &count));
    DONE(ringway_stream_flush(producer, 0));
    DONE(ringway_stream_flush(producer, 0));
    while (count < 2) {
        size_t read = 0;
        DONE(ringway_stream_read(reader, 2 - count, RINGWAY_SECOND, records + count, &read));
        for (size_t i = count; i < count + read; i++) {
            CHECK(records[i].sub_sequence_number == i && strcmp(records[i].partition_key, "user-1") == 0);
        }
        count += read;
    }
    /* A fourth makes three be put. */
    for (int i = 0; i < 4; i++) {
        DONE(ringway_stream_put(producer, &record, 0, NULL));
    }
    DONE(ringway_stream_read(reader, 1, RINGWAY_SECOND, records, &count));
    /* Full: what was gathered is there still, and the record that did not fit is not. */
    int32_t status;
    uint64_t taken = 4;
    while ((status = ringway_stream_put(producer, &record, 0, NULL)) == RINGWAY_OK) {
        taken++;
    }
    CHECK(status == RINGWAY_FULL && taken > 3000);
    EXPECT(RINGWAY_FULL, ringway_stream_flush(producer, 1000));
    uint64_t seen = 1;
    while (ringway_stream_read(reader, 16, 0, records, &count) == RINGWAY_OK) {
        seen += count;
    }
    DONE(ringway_stream_flush(producer, 0));
    while (ringway_stream_read(reader, 16, 0, records, &count) == RINGWAY_OK) {
        seen += count;
    }
    CHECK(seen == taken);
    /* Closing puts what is left. */
    DONE(ringway_stream_put(producer, &record, 0, NULL));
    DONE(ringway_close(producer));
    DONE(ringway_stream_read(reader, 16, 0, records, &count));
    CHECK(count == 1);
    DONE(ringway_stream_producer_open(stream, NULL, &producer));
    DONE(ringway_stream_flush(producer, 0));
    DONE(ringway_close(producer));
    DONE(ringway_stream_producer_open(stream, &many, &producer));
    DONE(ringway_stream_put(producer, &record, 0, NULL));
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        EXPECT(RINGWAY_E_FORKED, ringway_stream_put(producer, &record, 0, NULL));
        EXPECT(RINGWAY_E_FORKED, ringway_stream_flush(producer, 0));
        DONE(ringway_close(producer));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    void *handles[3] = {producer, reader, stream};
    for (int i = 0; i < 3; i++) {
        DONE(ringway_close(handles[i]));
    }
}

int main(void) {
    ringway_bus_t *bus;
    ringway_bus_config_t config;
    ringway_bus_config_init(&config);
    config.journal_root = getenv("RINGWAY_TEST_DISK");
    DONE(ringway_bus_open("changes", &config, &bus));
    shards(bus);
    retention(bus);
    consumers(bus);
    aggregated(bus);
    DONE(ringway_close(bus));
    DONE(ringway_bus_destroy("changes", &config, 0));
    puts("changes: ok");
    return 0;
}
