/* Arguments that are not what the header asks for: a status each, never a crash. */

#include "check.h"

/* Handles of every kind, all closed; and what is none at all. */
static void *closed[11];
static ringway_bus_t *bus;
static ringway_channel_t *channel;
static ringway_producer_t *producer;
static ringway_reader_t *reader;
static ringway_queue_t *queue;
static ringway_sender_t *sender;
static ringway_receiver_t *receiver;
static ringway_message_t *message;
static ringway_attributes_t *attributes;

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
    ringway_attribute_t attribute = {"n", NULL, "v", 1, RINGWAY_STRING, 0};
    ringway_message_parts_t parts;
    ringway_slice_t slice = {"x", 1};
    ringway_receipt_t receipt;
    DONE(ringway_receipt_parse("00000000000000ff-12-1", &receipt));
    ringway_settings_init(&settings);
    ringway_outgoing_init(&outgoing);

#define NO_HANDLE(call) EXPECT(RINGWAY_E_HANDLE, call)
    NO_HANDLE(ringway_bus_objects(h, NULL, 0, &count));
    NO_HANDLE(ringway_bus_remove(h, "x"));
    NO_HANDLE(ringway_channel_open(h, "x", NULL, &c));
    NO_HANDLE(ringway_channel_stats(h, &channel_stats, sizeof channel_stats));
    NO_HANDLE(ringway_producer_open(h, &p));
    NO_HANDLE(ringway_producer_send(h, "x", 1, 0, NULL));
    NO_HANDLE(ringway_producer_send_batch(h, &slice, 1, &count));
    NO_HANDLE(ringway_producer_loan(h, 1, &l, &data));
    NO_HANDLE(ringway_producer_send_loan(h, NULL, 1, NULL));
    NO_HANDLE(ringway_producer_send_loan(producer, h, 1, NULL));
    NO_HANDLE(ringway_reader_open(h, NULL, &r));
    NO_HANDLE(ringway_reader_read(h, buffer, 8, 0, &record));
    NO_HANDLE(ringway_reader_read_batch(h, 1, 0, &entry, &count));
    NO_HANDLE(ringway_reader_view(h, 0, &record, &seen));
    NO_HANDLE(ringway_reader_release(h));
    NO_HANDLE(ringway_reader_pin(h, 0, &w, &record, &seen));
    NO_HANDLE(ringway_reader_seek(h, 0));
    NO_HANDLE(ringway_reader_poll_fd(h, &fd));
    NO_HANDLE(ringway_queue_open(h, "x", NULL, &q));
    NO_HANDLE(ringway_queue_id(h, &number));
    NO_HANDLE(ringway_queue_stats(h, &queue_stats, sizeof queue_stats));
    NO_HANDLE(ringway_queue_settings(h, &settings, sizeof settings));
    NO_HANDLE(ringway_queue_set(h, &settings));
    NO_HANDLE(ringway_queue_purge(h, NULL));
    NO_HANDLE(ringway_queue_delete(h, &receipt));
    NO_HANDLE(ringway_queue_extend(h, &receipt, 1));
    NO_HANDLE(ringway_queue_nack(h, &receipt, 1));
    NO_HANDLE(ringway_sender_open(h, &s));
    NO_HANDLE(ringway_sender_send(h, "x", 1, 0, NULL));
    NO_HANDLE(ringway_sender_send_batch(h, &slice, 1, &count));
    NO_HANDLE(ringway_sender_send_message(h, &outgoing, &sent));
    NO_HANDLE(ringway_sender_send_messages(h, &outgoing, 1, &sent));
    NO_HANDLE(ringway_sender_loan(h, 1, &l, &data));
    NO_HANDLE(ringway_sender_send_loan(h, NULL, 1, NULL));
    NO_HANDLE(ringway_sender_send_loan(sender, h, 1, NULL));
    NO_HANDLE(ringway_attributes_add(h, &attribute));
    NO_HANDLE(ringway_receiver_open(h, NULL, &v));
    NO_HANDLE(ringway_receiver_receive(h, buffer, 8, 0, &received));
    NO_HANDLE(ringway_receiver_consume(h, buffer, 8, 0, &received));
    NO_HANDLE(ringway_receiver_receive_batch(h, 1, 0, &delivery, &count));
    NO_HANDLE(ringway_receiver_receive_message(h, message, 0, &received));
    NO_HANDLE(ringway_receiver_receive_message(receiver, h, 0, &received));
    NO_HANDLE(ringway_receiver_view(h, 0, &delivery));
    NO_HANDLE(ringway_receiver_release(h));
    NO_HANDLE(ringway_receiver_delete(h, &receipt));
    NO_HANDLE(ringway_receiver_delete_batch(h, &receipt, 1, NULL, NULL));
    NO_HANDLE(ringway_receiver_poll_fd(h, &fd));
    NO_HANDLE(ringway_message_parts(h, &parts, sizeof parts));
    NO_HANDLE(ringway_message_attribute(h, 0, &attribute));
    NO_HANDLE(ringway_message_find(h, "x", &attribute));
    if (h != NULL) {
        NO_HANDLE(ringway_close(h));
        outgoing.attributes = h;
        NO_HANDLE(ringway_sender_send_message(sender, &outgoing, &sent));
        ringway_waitable_t waitables[2] = {{reader, NULL}, {NULL, h}};
        NO_HANDLE(ringway_wait_any(waitables, 2, 0, &count));
        waitables[1].reader = h;
        waitables[1].receiver = NULL;
        NO_HANDLE(ringway_wait_any(waitables, 2, 0, &count));
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
        REFUSED(ringway_producer_loan(producer, 1, bad, &data));
        REFUSED(ringway_producer_loan(producer, 1, &loan, bad));
        REFUSED(ringway_reader_open(channel, NULL, bad));
        REFUSED(ringway_reader_read(reader, buffer, 8, 0, bad));
        REFUSED(ringway_reader_read_batch(reader, 1, 0, bad, &count));
        REFUSED(ringway_reader_read_batch(reader, 1, 0, entries, bad));
        REFUSED(ringway_reader_view(reader, 0, bad, &seen));
        REFUSED(ringway_reader_view(reader, 0, &record, bad));
        REFUSED(ringway_reader_pin(reader, 0, bad, &record, &seen));
        REFUSED(ringway_reader_pin(reader, 0, &view, bad, &seen));
        REFUSED(ringway_reader_poll_fd(reader, bad));
        REFUSED(ringway_queue_open(bus, "x", NULL, bad));
        REFUSED(ringway_queue_id(queue, bad));
        REFUSED(ringway_queue_stats(queue, bad, sizeof(ringway_queue_stats_t)));
        REFUSED(ringway_queue_settings(queue, bad, sizeof settings));
        REFUSED(ringway_queue_set(queue, bad));
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
        REFUSED(ringway_attributes_open(bad));
        REFUSED(ringway_attributes_add(attributes, bad));
        REFUSED(ringway_receiver_open(queue, NULL, bad));
        REFUSED(ringway_receiver_receive(receiver, buffer, 8, 0, bad));
        REFUSED(ringway_receiver_consume(receiver, buffer, 8, 0, bad));
        REFUSED(ringway_receiver_receive_batch(receiver, 1, 0, bad, &count));
        REFUSED(ringway_receiver_receive_batch(receiver, 1, 0, deliveries, bad));
        REFUSED(ringway_receiver_receive_message(receiver, message, 0, bad));
        REFUSED(ringway_receiver_view(receiver, 0, bad));
        REFUSED(ringway_receiver_delete(receiver, bad));
        REFUSED(ringway_receiver_delete_batch(receiver, bad, 1, NULL, NULL));
        REFUSED(ringway_receiver_poll_fd(receiver, bad));
        REFUSED(ringway_message_open(bad));
        REFUSED(ringway_message_parts(message, bad, sizeof(ringway_message_parts_t)));
        REFUSED(ringway_message_attribute(message, 0, bad));
        REFUSED(ringway_message_find(message, "x", bad));
        REFUSED(ringway_wait_any(bad, 1, 0, &count));
        REFUSED(ringway_cores(bad, 1, &count));
        REFUSED(ringway_cores(NULL, 0, bad));
    }
    REFUSED(ringway_bus_open("x", crooked, &bus));
    REFUSED(ringway_bus_open(NULL, NULL, &bus));
    REFUSED(ringway_bus_remove(bus, NULL));
    REFUSED(ringway_bus_remove(bus, "\xff\xfe"));
    REFUSED(ringway_bus_destroy(NULL, NULL, 0));
    REFUSED(ringway_queue_open(bus, NULL, NULL, &queue));
    REFUSED(ringway_receipt_parse(NULL, &receipt));
    REFUSED(ringway_message_find(message, NULL, (ringway_attribute_t *)(void *)room));

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
    REFUSED(ringway_wait_any((const ringway_waitable_t *)(const void *)room, SIZE_MAX, 0, &count));
    slice.len = huge;
    REFUSED(ringway_sender_send_batch(sender, &slice, 1, &count));
    REFUSED(ringway_producer_send_batch(producer, &slice, 1, &count));
    EXPECT(RINGWAY_E_TOO_LARGE, ringway_producer_loan(producer, huge, &loan, &data));
    EXPECT(RINGWAY_E_TOO_LARGE, ringway_sender_loan(sender, SIZE_MAX, &loan, &data));
    REFUSED(ringway_sender_send(sender, "x", 1, -7, NULL));
    REFUSED(ringway_receiver_receive(receiver, buffer, 8, -7, &received));
    REFUSED(ringway_reader_read(reader, buffer, 8, RINGWAY_QUEUE_WAIT, &record));
    ringway_waitable_t neither = {NULL, NULL}, both = {reader, receiver};
    REFUSED(ringway_wait_any(&neither, 1, 0, &count));
    REFUSED(ringway_wait_any(&both, 1, 0, &count));

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
    DONE(ringway_queue_id(queue, &receipt.queue));
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
    REFUSED(ringway_attributes_add(attributes, &attribute));
    attribute.data_type = RINGWAY_STRING;
    attribute.value = "\xff";
    EXPECT(RINGWAY_E_ATTRIBUTE, ringway_attributes_add(attributes, &attribute));
    attribute.len = huge;
    REFUSED(ringway_attributes_add(attributes, &attribute));
    outgoing.group = "";
    EXPECT(RINGWAY_E_ID, ringway_sender_send_message(sender, &outgoing, &sent));
    outgoing.group = "\xff";
    REFUSED(ringway_sender_send_message(sender, &outgoing, &sent));
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
        DONE(ringway_attributes_open(&attributes));
        if (round == 1) {
            break;
        }
        ringway_bus_t *second;
        DONE(ringway_bus_open("hostile", NULL, &second));
        DONE(ringway_producer_send(producer, "x", 1, 0, NULL));
        DONE(ringway_reader_pin(reader, 0, &view, &record, &seen));
        DONE(ringway_sender_loan(sender, 100, &loan, &data));
        void *all[11] = {second, channel, producer, reader, view, queue, sender, receiver, loan,
            message, attributes};
        for (int i = 0; i < 11; i++) {
            DONE(ringway_close(all[i]));
            closed[i] = all[i];
        }
    }

    with_handle(NULL);
    for (int i = 0; i < 11; i++) {
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
    EXPECT(RINGWAY_E_HANDLE, ringway_reader_seek((ringway_reader_t *)(void *)bus, 0));
    with_pointers();

    /* After all that everything works. */
    char buffer[8];
    ringway_received_t received;
    DONE(ringway_sender_send(sender, "fine", 4, 0, NULL));
    DONE(ringway_receiver_receive(receiver, buffer, 8, 0, &received));
    CHECK(received.len == 4 && memcmp(buffer, "fine", 4) == 0);
    void *all[9] = {message, attributes, receiver, sender, queue, reader, producer, channel, bus};
    for (int i = 0; i < 9; i++) {
        DONE(ringway_close(all[i]));
        EXPECT(RINGWAY_E_HANDLE, ringway_close(all[i]));
    }
    DONE(ringway_bus_destroy("hostile", NULL, 0));
    puts("hostile: ok");
    return 0;
}
