/* Every function of the ABI does what its comment says. One process; buses under $RINGWAY_ROOT. */

#include "check.h"
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

static void channels(ringway_bus_t *bus) {
    ringway_channel_config_t config;
    ringway_channel_config_init(&config);
    config.slots = 1024;
    config.how = RINGWAY_CREATE;
    ringway_channel_t *channel;
    DONE(ringway_channel_open(bus, "ticks", &config, &channel));
    EXPECT(RINGWAY_E_EXISTS, ringway_channel_open(bus, "ticks", &config, &channel));
    config.how = RINGWAY_OPEN;
    config.slots = 2048;
    ringway_channel_t *other;
    EXPECT(RINGWAY_E_MISMATCH, ringway_channel_open(bus, "ticks", &config, &other));

    ringway_producer_t *producer;
    ringway_reader_t *reader, *lossy;
    DONE(ringway_producer_open(channel, &producer));
    DONE(ringway_reader_open(channel, NULL, &reader));
    ringway_reader_config_t joining;
    ringway_reader_config_init(&joining);
    joining.reliability = RINGWAY_LOSSY;
    joining.start = RINGWAY_EARLIEST;
    joining.idle = RINGWAY_PARK;
    DONE(ringway_reader_open(channel, &joining, &lossy));

    /* A copy. */
    char buffer[64];
    ringway_record_t record;
    uint64_t position = 0;
    EXPECT(RINGWAY_EMPTY, ringway_reader_read(reader, buffer, sizeof buffer, 0, &record));
    EXPECT(RINGWAY_TIMEOUT, ringway_reader_read(reader, buffer, sizeof buffer, 1000, &record));
    DONE(ringway_producer_send(producer, "hello", 5, 0, &position));
    EXPECT(RINGWAY_E_BUFFER_TOO_SMALL, ringway_reader_read(reader, buffer, 4, 0, &record));
    CHECK(record.len == 5);
    DONE(ringway_reader_read(reader, buffer, sizeof buffer, RINGWAY_SECOND, &record));
    CHECK(record.len == 5 && record.position == position && memcmp(buffer, "hello", 5) == 0);

    /* A batch, one of it empty. */
    ringway_slice_t slices[3] = {{"one", 3}, {NULL, 0}, {"three", 5}};
    size_t count = 0;
    DONE(ringway_producer_send_batch(producer, slices, 3, &count));
    CHECK(count == 3);
    ringway_entry_t entries[8];
    DONE(ringway_reader_read_batch(reader, 8, 0, entries, &count));
    CHECK(count == 3 && entries[1].record.len == 0);
    CHECK(memcmp(entries[0].body, "one", 3) == 0 && memcmp(entries[2].body, "three", 5) == 0);
    EXPECT(RINGWAY_EMPTY, ringway_reader_read_batch(reader, 8, 0, entries, &count));

    /* No copy: a megabyte lent, filled, sent, looked at. */
    ringway_loan_t *loan;
    void *lent;
    const void *seen;
    DONE(ringway_loan_open(producer, 1 << 20, &loan, &lent));
    memset(lent, 7, 1 << 20);
    EXPECT(RINGWAY_E_ARGUMENT, ringway_loan_send(producer, loan, (1 << 20) + 1, NULL));
    DONE(ringway_loan_send(producer, loan, 1 << 20, &position));
    EXPECT(RINGWAY_E_HANDLE, ringway_close(loan));
    DONE(ringway_reader_view(reader, 0, &record, &seen));
    CHECK(record.len == 1 << 20 && ((const char *)seen)[12345] == 7);
    EXPECT(RINGWAY_E_BUSY_HANDLE, ringway_reader_read(reader, buffer, sizeof buffer, 0, &record));
    DONE(ringway_release(reader));
    DONE(ringway_release(reader));

    /* A view that stays while the reader goes on. */
    ringway_view_t *view;
    DONE(ringway_producer_send(producer, "kept", 4, 0, NULL));
    DONE(ringway_producer_send(producer, "next", 4, 0, NULL));
    DONE(ringway_reader_pin(reader, 0, &view, &record, &seen));
    DONE(ringway_reader_read(reader, buffer, sizeof buffer, 0, &record));
    CHECK(memcmp(buffer, "next", 4) == 0 && memcmp(seen, "kept", 4) == 0);
    DONE(ringway_close(view));

    /* A descriptor. */
    int32_t fd, same;
    DONE(ringway_poll_fd(reader, &fd));
    DONE(ringway_poll_fd(reader, &same));
    CHECK(fd >= 0 && fd == same);
    EXPECT(RINGWAY_EMPTY, ringway_reader_read(reader, buffer, sizeof buffer, 0, &record));
    DONE(ringway_producer_send(producer, "wake", 4, 0, NULL));
    struct pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
    CHECK(poll(&polled, 1, 10000) == 1);
    DONE(ringway_reader_read(reader, buffer, sizeof buffer, 0, &record));

    /* Full; and what a lossy reader misses meanwhile. */
    uint64_t sent = 0;
    int32_t status;
    while ((status = ringway_producer_send(producer, "x", 1, 0, NULL)) == RINGWAY_OK) {
        sent++;
    }
    CHECK(status == RINGWAY_FULL && sent >= 512);
    EXPECT(RINGWAY_STALLED, ringway_producer_send(producer, "x", 1, 60 * RINGWAY_MILLISECOND, NULL));
    CHECK(strstr(ringway_last_error(), "stopped") != NULL);
    for (uint64_t read = 0; read < sent; read++) {
        DONE(ringway_reader_read(reader, buffer, sizeof buffer, 0, &record));
    }
    while (ringway_producer_send(producer, "x", 1, 0, NULL) == RINGWAY_OK) {
        DONE(ringway_reader_read(reader, buffer, sizeof buffer, 0, &record));
        if (sent++ > 4096) {
            break;
        }
    }
    status = ringway_reader_read(lossy, buffer, sizeof buffer, 0, &record);
    CHECK(status == RINGWAY_LAGGED && record.missed > 0);
    position = record.position;
    DONE(ringway_reader_read(lossy, buffer, sizeof buffer, 0, &record));
    CHECK(record.position >= position);

    ringway_channel_stats_t stats;
    DONE(ringway_channel_stats(channel, &stats, sizeof stats));
    CHECK(stats.readers == 2 && stats.tail > 4096);
    DONE(ringway_close(channel));
    DONE(ringway_producer_send(producer, "still", 5, 0, NULL));
    DONE(ringway_close(producer));
    DONE(ringway_close(reader));
    DONE(ringway_close(lossy));
}

static void queues(ringway_bus_t *bus) {
    ringway_queue_config_t config;
    ringway_queue_config_init(&config);
    config.slots = 1024;
    config.visibility_ms = 20000;
    ringway_queue_t *queue, *dead;
    DONE(ringway_queue_open(bus, "orders", &config, &queue));
    DONE(ringway_queue_open(bus, "dead", NULL, &dead));

    ringway_sender_t *sender;
    ringway_receiver_t *receiver;
    DONE(ringway_sender_open(queue, &sender));
    DONE(ringway_receiver_open(queue, NULL, &receiver));

    /* Send, receive, settle by a receipt that went through text. */
    char buffer[64], text[RINGWAY_RECEIPT_TEXT];
    ringway_received_t received;
    ringway_receipt_t receipt;
    uint64_t position = 0;
    DONE(ringway_sender_send(sender, "one", 3, 0, &position));
    EXPECT(RINGWAY_E_BUFFER_TOO_SMALL, ringway_receiver_receive(receiver, buffer, 2, 0, &received));
    CHECK(received.len == 3);
    DONE(ringway_receiver_receive(receiver, buffer, sizeof buffer, RINGWAY_SECOND, &received));
    CHECK(received.len == 3 && memcmp(buffer, "one", 3) == 0 && received.sent_ms > 0);
    CHECK(received.receipt.position == position && received.receipt.receives == 1);
    DONE(ringway_receipt_format(&received.receipt, text, sizeof text));
    DONE(ringway_receipt_parse(text, &receipt));
    CHECK(memcmp(&receipt, &received.receipt, sizeof receipt) == 0);
    DONE(ringway_queue_extend(queue, &receipt, 60000));
    DONE(ringway_queue_nack(queue, &receipt, 0));
    EXPECT(RINGWAY_E_NOT_IN_FLIGHT, ringway_queue_extend(queue, &receipt, 60000));
    DONE(ringway_receiver_receive(receiver, buffer, sizeof buffer, RINGWAY_SECOND, &received));
    CHECK(received.receipt.receives == 2);
    EXPECT(RINGWAY_E_STALE_RECEIPT, ringway_queue_delete(queue, &receipt));
    EXPECT(RINGWAY_E_OTHER_QUEUE, ringway_queue_delete(dead, &received.receipt));
    DONE(ringway_receiver_delete(receiver, &received.receipt));
    DONE(ringway_queue_delete(queue, &received.receipt));
    EXPECT(RINGWAY_E_GONE, ringway_queue_nack(queue, &received.receipt, 0));
    EXPECT(RINGWAY_EMPTY, ringway_receiver_receive(receiver, buffer, sizeof buffer, 0, &received));
    EXPECT(RINGWAY_EMPTY,
        ringway_receiver_receive(receiver, buffer, sizeof buffer, RINGWAY_QUEUE_WAIT, &received));

    /* Batches. */
    ringway_slice_t slices[4] = {{"a", 1}, {"bb", 2}, {NULL, 0}, {"dddd", 4}};
    size_t count = 0;
    DONE(ringway_sender_send_batch(sender, slices, 4, &count));
    CHECK(count == 4);
    ringway_delivery_t deliveries[10];
    DONE(ringway_receiver_receive_batch(receiver, 10, 0, deliveries, &count));
    CHECK(count == 4 && deliveries[3].received.len == 4);
    CHECK(memcmp(deliveries[3].body, "dddd", 4) == 0 && memcmp(deliveries[1].body, "bb", 2) == 0);
    ringway_receipt_t receipts[4];
    for (size_t i = 0; i < 4; i++) {
        receipts[i] = deliveries[i].received.receipt;
    }
    int32_t statuses[4];
    size_t failed = 9;
    receipts[2].queue ^= 1;
    EXPECT(RINGWAY_E_OTHER_QUEUE,
        ringway_receiver_delete_batch(receiver, receipts, 4, statuses, &failed));
    CHECK(failed == 1 && statuses[2] == RINGWAY_E_OTHER_QUEUE && statuses[3] == RINGWAY_OK);
    receipts[2].queue ^= 1;
    DONE(ringway_receiver_delete_batch(receiver, receipts, 4, NULL, NULL));

    /* What is said beside a body. */
    ringway_attribute_t attributes[2] = {{"city", NULL, "Graz", 4, RINGWAY_STRING, 0},
        {"city", "kg", "3.5", 3, RINGWAY_NUMBER, 0}};
    ringway_outgoing_t outgoing[2];
    ringway_outgoing_init(&outgoing[0]);
    outgoing[0].body = "said";
    outgoing[0].len = 4;
    outgoing[0].group = "truck-7";
    outgoing[0].trace_header = "Root=1";
    outgoing[0].attributes = attributes;
    outgoing[0].attribute_count = 2;
    ringway_sent_t sent[2];
    EXPECT(RINGWAY_E_ATTRIBUTE, ringway_sender_send_message(sender, &outgoing[0], &sent[0]));
    attributes[1].name = "weight";
    DONE(ringway_sender_send_message(sender, &outgoing[0], &sent[0]));
    CHECK(sent[0].duplicate == 0);
    ringway_message_t *message;
    ringway_message_parts_t parts;
    const ringway_attribute_t *found;
    DONE(ringway_message_open(&message));
    DONE(ringway_receiver_receive_message(receiver, message, 0, &received));
    DONE(ringway_message_parts(message, &parts, sizeof parts));
    CHECK(parts.len == 4 && memcmp(parts.body, "said", 4) == 0 && parts.attribute_count == 2);
    CHECK(strcmp(parts.group, "truck-7") == 0 && strcmp(parts.trace_header, "Root=1") == 0);
    CHECK(parts.dedup_id == NULL && parts.sender > 0 && parts.origin_queue == 0);
    found = ringway_message_attribute(&parts, "weight");
    CHECK(strcmp(found->label, "kg") == 0 && found->len == 3 && memcmp(found->value, "3.5", 3) == 0);
    CHECK(strcmp(parts.attributes[0].name, "city") == 0 && parts.attributes[0].label == NULL);
    CHECK(ringway_message_attribute(&parts, "none") == NULL && parts.message_id[0] == 0);
    DONE(ringway_queue_delete(queue, &received.receipt));
    DONE(ringway_sender_send(sender, "plain", 5, 0, NULL));
    DONE(ringway_receiver_receive_message(receiver, message, 0, &received));
    DONE(ringway_message_parts(message, &parts, sizeof parts));
    CHECK(parts.group == NULL && parts.attribute_count == 0 && parts.len == 5);
    DONE(ringway_queue_delete(queue, &received.receipt));

    /* A message of its own bounds does not keep the other. */
    outgoing[1] = outgoing[0];
    outgoing[0].delay_ms = 1000000;
    DONE(ringway_sender_send_messages(sender, outgoing, 2, sent));
    CHECK(sent[0].status == RINGWAY_E_OPTION && sent[1].status == RINGWAY_OK);
    outgoing[0].delay_ms = RINGWAY_DEFAULT;
    outgoing[0].subject = "of topics alone";
    EXPECT(RINGWAY_E_OPTION, ringway_sender_send_message(sender, &outgoing[0], NULL));
    DONE(ringway_receiver_consume(receiver, buffer, sizeof buffer, 0, &received));
    CHECK(received.len == 4);

    /* No copy. */
    ringway_loan_t *loan;
    void *lent;
    ringway_delivery_t delivery;
    DONE(ringway_loan_open(sender, 100000, &loan, &lent));
    memset(lent, 3, 100000);
    DONE(ringway_loan_send(sender, loan, 70000, NULL));
    DONE(ringway_receiver_view(receiver, 0, &delivery));
    CHECK(delivery.received.len == 70000 && ((const char *)delivery.body)[69999] == 3);
    EXPECT(RINGWAY_E_BUSY_HANDLE, ringway_receiver_delete(receiver, &delivery.received.receipt));
    DONE(ringway_queue_delete(queue, &delivery.received.receipt));
    CHECK(((const char *)delivery.body)[69999] == 3);
    DONE(ringway_release(receiver));
    DONE(ringway_loan_open(sender, 100, &loan, &lent));
    DONE(ringway_close(loan));

    /* Waiting for several. */
    ringway_receiver_t *idle;
    DONE(ringway_receiver_open(dead, NULL, &idle));
    void *waitables[2] = {idle, receiver};
    size_t ready = 9;
    EXPECT(RINGWAY_TIMEOUT, ringway_wait_any(waitables, 2, 1000, &ready));
    DONE(ringway_sender_send(sender, "wake", 4, 0, NULL));
    DONE(ringway_wait_any(waitables, 2, RINGWAY_FOREVER, &ready));
    CHECK(ready == 1);
    waitables[0] = waitables[1];
    EXPECT(RINGWAY_E_BUSY_HANDLE, ringway_wait_any(waitables, 2, 0, &ready));
    DONE(ringway_receiver_consume(receiver, buffer, sizeof buffer, 0, &received));
    int32_t fd;
    DONE(ringway_poll_fd(receiver, &fd));
    EXPECT(RINGWAY_EMPTY, ringway_receiver_receive(receiver, buffer, sizeof buffer, 0, &received));
    DONE(ringway_sender_send(sender, "wake", 4, 0, NULL));
    struct pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
    CHECK(poll(&polled, 1, 10000) == 1);

    /* Counting, settings, purge. */
    ringway_queue_stats_t stats;
    DONE(ringway_queue_stats(queue, &stats, sizeof stats));
    CHECK(stats.visible == 1 && stats.in_flight == 0 && stats.capacity == 1024);
    uint64_t purged = 0, id = 0;
    DONE(ringway_queue_purge(queue, &purged));
    CHECK(purged == 1);
    ringway_settings_t settings;
    ringway_settings_init(&settings);
    DONE(ringway_queue_settings(dead, &settings, sizeof settings));
    id = settings.id;
    ringway_settings_init(&settings);
    settings.visibility_ms = 5000;
    settings.dead_letter = id;
    settings.max_receives = 3;
    settings.max_messages = 2;
    DONE(ringway_queue_set(queue, &settings));
    ringway_settings_init(&settings);
    settings.max_receives = 1;
    DONE(ringway_queue_set(queue, &settings));
    DONE(ringway_queue_settings(queue, &settings, sizeof settings));
    CHECK(settings.visibility_ms == 5000 && settings.dead_letter == id);
    CHECK(settings.max_receives == 1 && settings.max_messages == 2);
    CHECK(settings.max_in_flight == RINGWAY_NONE && settings.redrive_allow == RINGWAY_ALLOW_ALL);
    CHECK(settings.redeliver_on_death == RINGWAY_ON && settings.retention_ms == 4 * 86400000ULL);
    ringway_settings_init(&settings);
    settings.delay_ms = 900001;
    EXPECT(RINGWAY_E_OPTION, ringway_queue_set(queue, &settings));
    DONE(ringway_sender_send_batch(sender, slices, 4, &count));
    CHECK(count == 2);
    EXPECT(RINGWAY_OVER_LIMIT, ringway_sender_send(sender, "x", 1, 0, NULL));

    DONE(ringway_close(message));
    DONE(ringway_close(idle));
    DONE(ringway_close(sender));
    DONE(ringway_close(receiver));
    DONE(ringway_close(dead));
    DONE(ringway_close(queue));
}

/* The messages of one queue to another one, and back to where they came from. */
static void moving(ringway_bus_t *bus) {
    ringway_queue_t *from, *to;
    ringway_sender_t *sender;
    ringway_move_config_t config;
    ringway_move_status_t status;
    DONE(ringway_queue_open(bus, "from", NULL, &from));
    DONE(ringway_queue_open(bus, "to", NULL, &to));
    DONE(ringway_sender_open(from, &sender));
    for (int i = 0; i < 200; i++) {
        DONE(ringway_sender_send(sender, "x", 1, 0, NULL));
    }
    ringway_move_config_init(&config);
    config.what = RINGWAY_LOOK;
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_queue_move(from, &config, 0, &status, sizeof status));
    config.what = RINGWAY_RESUME;
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_queue_move(from, &config, 0, NULL, 0));
    config.what = RINGWAY_MOVE;
    config.destination = from;
    EXPECT(RINGWAY_E_REDRIVE, ringway_queue_move(from, &config, 0, NULL, 0));
    config.destination = to;
    config.max_per_second = 10;
    EXPECT(RINGWAY_TIMEOUT, ringway_queue_move(from, &config, 0, &status, sizeof status));
    CHECK(status.state == RINGWAY_STOPPED && status.moved == 10 && status.to_move == 200);
    config.what = RINGWAY_CANCEL;
    DONE(ringway_queue_move(from, &config, 0, &status, sizeof status));
    CHECK(status.state == RINGWAY_CANCELLED && status.moved == 10);
    config.what = RINGWAY_MOVE;
    config.max_per_second = RINGWAY_DEFAULT;
    DONE(ringway_queue_move(from, &config, RINGWAY_FOREVER, &status, sizeof status));
    CHECK(status.state == RINGWAY_COMPLETED && status.moved == 190 && status.started_ms > 0);
    ringway_queue_stats_t stats;
    DONE(ringway_queue_stats(to, &stats, sizeof stats));
    CHECK(stats.visible == 200 && stats.arrived == 200);
    DONE(ringway_queue_move(to, NULL, RINGWAY_FOREVER, &status, sizeof status));
    CHECK(status.moved == 200 && status.destination == RINGWAY_NONE);
    DONE(ringway_queue_stats(from, &stats, sizeof stats));
    CHECK(stats.visible == 200);
    DONE(ringway_close(sender));
    DONE(ringway_close(from));
    DONE(ringway_close(to));
}

/* What was acknowledged is there when the bus is gone. */
static void durable(const char *journals) {
    ringway_bus_config_t config;
    ringway_queue_config_t level;
    ringway_bus_t *bus;
    ringway_queue_t *queue;
    ringway_sender_t *sender;
    ringway_receiver_t *receiver;
    char buffer[64];
    ringway_received_t received;
    ringway_bus_config_init(&config);
    config.journal_root = journals;
    ringway_queue_config_init(&level);
    level.durability = RINGWAY_DURABLE;
    DONE(ringway_bus_open("durable", &config, &bus));
    DONE(ringway_queue_open(bus, "bills", &level, &queue));
    DONE(ringway_sender_open(queue, &sender));
    DONE(ringway_sender_send(sender, "paid", 4, 0, NULL));
    DONE(ringway_queue_flush(queue));
    ringway_stream_config_t kept;
    ringway_stream_t *stream;
    ringway_stream_producer_t *producer;
    ringway_stream_reader_t *reader;
    ringway_stream_reader_config_t oldest;
    ringway_put_outcome_t outcome;
    const ringway_put_t put = {"truck-7", "here", 4, NULL};
    ringway_stream_config_init(&kept);
    kept.durability = RINGWAY_DURABLE;
    kept.retention_ms = 48 * 3600 * 1000;
    DONE(ringway_stream_open(bus, "trucks", &kept, &stream));
    DONE(ringway_stream_producer_open(stream, NULL, &producer));
    DONE(ringway_stream_put(producer, &put, RINGWAY_FOREVER, &outcome));
    void *all[5] = {producer, stream, sender, queue, bus};
    for (int i = 0; i < 5; i++) {
        DONE(ringway_close(all[i]));
    }
    /* As a restart of the machine does. */
    CHECK(system("rm -r ringway-durable") == 0);
    DONE(ringway_bus_open("durable", &config, &bus));
    level.how = RINGWAY_OPEN;
    DONE(ringway_queue_open(bus, "bills", &level, &queue));
    DONE(ringway_receiver_open(queue, NULL, &receiver));
    DONE(ringway_receiver_consume(receiver, buffer, sizeof buffer, 0, &received));
    CHECK(received.len == 4 && memcmp(buffer, "paid", 4) == 0);
    ringway_stream_record_t record;
    size_t count = 0;
    kept.how = RINGWAY_OPEN;
    ringway_stream_reader_config_init(&oldest);
    oldest.iterator = RINGWAY_TRIM_HORIZON;
    DONE(ringway_stream_open(bus, "trucks", &kept, &stream));
    DONE(ringway_stream_reader_open(stream, &oldest, &reader));
    DONE(ringway_stream_read(reader, 1, RINGWAY_SECOND, &record, &count));
    CHECK(record.len == 4 && memcmp(record.data, "here", 4) == 0);
    CHECK(record.sequence_number.position == outcome.sequence_number.position);
    DONE(ringway_close(reader));
    DONE(ringway_close(stream));
    DONE(ringway_bus_remove(bus, "trucks", 0));
    ringway_queue_t *other;
    level.durability = RINGWAY_MEMORY;
    EXPECT(RINGWAY_E_MISMATCH, ringway_queue_open(bus, "bills", &level, &other));
    level.durability = RINGWAY_ASYNC;
    level.how = RINGWAY_CREATE;
    DONE(ringway_queue_open(bus, "notes", &level, &other));
    DONE(ringway_sender_open(other, &sender));
    DONE(ringway_sender_send(sender, "soon", 4, 0, NULL));
    DONE(ringway_queue_flush(other));
    DONE(ringway_close(sender));
    DONE(ringway_close(other));
    DONE(ringway_close(receiver));
    DONE(ringway_close(queue));
    DONE(ringway_bus_remove(bus, "bills", 0));
    DONE(ringway_close(bus));
    DONE(ringway_bus_destroy("durable", &config, 0));
}

static void fifo(ringway_bus_t *bus) {
    ringway_queue_config_t config;
    ringway_queue_config_init(&config);
    config.kind = RINGWAY_FIFO;
    config.dedup = RINGWAY_DEDUP_BY_ID;
    config.dedup_ids = 1024;
    ringway_queue_t *queue;
    ringway_sender_t *sender;
    ringway_receiver_t *receiver;
    DONE(ringway_queue_open(bus, "trips.fifo", &config, &queue));
    DONE(ringway_sender_open(queue, &sender));
    DONE(ringway_receiver_open(queue, NULL, &receiver));
    EXPECT(RINGWAY_E_MISSING_GROUP, ringway_sender_send(sender, "x", 1, 0, NULL));
    ringway_outgoing_t outgoing[4];
    ringway_sent_t sent[4];
    for (int i = 0; i < 4; i++) {
        ringway_outgoing_init(&outgoing[i]);
        outgoing[i].body = i % 2 == 0 ? "red" : "blue";
        outgoing[i].len = strlen(outgoing[i].body);
        outgoing[i].group = outgoing[i].body;
        outgoing[i].dedup_id = i == 3 ? "1" : i == 2 ? "2" : i == 1 ? "1" : "0";
    }
    DONE(ringway_sender_send_messages(sender, outgoing, 4, sent));
    CHECK(sent[3].status == RINGWAY_OK && sent[3].duplicate == 1);
    CHECK(sent[3].position == sent[1].position);
    outgoing[0].dedup_id = NULL;
    EXPECT(RINGWAY_E_MISSING_DEDUP_ID, ringway_sender_send_message(sender, &outgoing[0], NULL));
    ringway_delivery_t deliveries[10];
    size_t count = 0;
    DONE(ringway_receiver_receive_batch(receiver, 2, 0, deliveries, &count));
    CHECK(count >= 1 && memcmp(deliveries[0].body, "red", 3) == 0);
    DONE(ringway_close(sender));
    DONE(ringway_close(receiver));
    DONE(ringway_close(queue));
}

/* In the child each handle of the parent says so, and closing is harmless. */
static void forked(ringway_bus_t *bus) {
    ringway_queue_t *queue;
    ringway_sender_t *sender;
    ringway_receiver_t *receiver;
    DONE(ringway_queue_open(bus, "forked", NULL, &queue));
    DONE(ringway_sender_open(queue, &sender));
    DONE(ringway_receiver_open(queue, NULL, &receiver));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char buffer[8];
        size_t count;
        ringway_received_t received;
        ringway_sender_t *another;
        EXPECT(RINGWAY_E_FORKED, ringway_sender_send(sender, "x", 1, 0, NULL));
        EXPECT(RINGWAY_E_FORKED, ringway_receiver_receive(receiver, buffer, 8, 0, &received));
        EXPECT(RINGWAY_E_FORKED, ringway_sender_open(queue, &another));
        EXPECT(RINGWAY_E_FORKED, ringway_bus_objects(bus, NULL, 0, &count));
        DONE(ringway_close(sender));
        DONE(ringway_close(receiver));
        DONE(ringway_close(queue));
        DONE(ringway_close(bus));
        DONE(ringway_bus_open("calls", NULL, &bus));
        DONE(ringway_close(bus));
        exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    DONE(ringway_sender_send(sender, "x", 1, 0, NULL));
    DONE(ringway_close(sender));
    DONE(ringway_close(receiver));
    DONE(ringway_close(queue));
}

int main(void) {
    CHECK(ringway_version(RINGWAY_API) == RINGWAY_API_VERSION);
    CHECK(ringway_version(RINGWAY_ABI) == RINGWAY_ABI_VERSION);
    CHECK(ringway_version(RINGWAY_FORMAT) >> 16 == 1 && ringway_version(0) == 0);
    CHECK(strcmp(ringway_last_error(), "") == 0);
    CHECK(strcmp(ringway_status_text(RINGWAY_E_GONE), "RINGWAY_E_GONE: the message is gone") == 0);
    CHECK(strstr(ringway_status_text(12345), "RINGWAY_E_OTHER: ") != NULL);

    ringway_bus_config_t config;
    ringway_bus_config_init(&config);
    config.how = RINGWAY_OPEN;
    ringway_bus_t *bus;
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_bus_open("calls", &config, &bus));
    CHECK(strstr(ringway_last_error(), "does not exist") != NULL);
    config.how = RINGWAY_CREATE;
    config.pool_bytes = 64 << 20;
    config.participant_name = "calls";
    config.mode = 0640;
    DONE(ringway_bus_open("calls", &config, &bus));
    channels(bus);
    queues(bus);
    fifo(bus);
    moving(bus);
    forked(bus);
    CHECK(getenv("RINGWAY_TEST_DISK") != NULL);
    durable(getenv("RINGWAY_TEST_DISK"));

    ringway_object_info_t objects[2];
    size_t count = 0;
    DONE(ringway_bus_objects(bus, objects, 2, &count));
    CHECK(count == 7 && strcmp(objects[0].name, "dead") == 0 && objects[0].object == RINGWAY_QUEUE);
    DONE(ringway_bus_remove(bus, "dead", 0));
    EXPECT(RINGWAY_E_NOT_FOUND, ringway_bus_remove(bus, "dead", 0));
    EXPECT(RINGWAY_E_IN_USE, ringway_bus_destroy("calls", NULL, 0));
    uint32_t core = 0;
    while (ringway_pin_thread(core) != RINGWAY_OK) {
        CHECK(++core < 1024);
    }
    EXPECT(RINGWAY_E_OPTION, ringway_pin_thread(99999));
    DONE(ringway_close(bus));
    EXPECT(RINGWAY_E_HANDLE, ringway_close(bus));
    DONE(ringway_bus_destroy("calls", NULL, 0));
    puts("calls: ok");
    return 0;
}
