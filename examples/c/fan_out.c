/* Orders are published once; billing gets all of them, shipping those that it asks for. */
#include <ringway.h>
#include <stdio.h>
#include <stdlib.h>

enum { ORDERS = 100 };

static void check(int32_t status) {
    if (status != RINGWAY_OK) {
        fprintf(stderr, "%s: %s\n", ringway_status_text(status), ringway_last_error());
        exit(1);
    }
}

static ringway_bus_t *bus;

static int received(const char *name) {
    ringway_queue_t *queue;
    ringway_receiver_t *receiver;
    ringway_received_t order;
    char body[64];
    int count = 0;
    check(ringway_queue_open(bus, name, NULL, &queue));
    check(ringway_receiver_open(queue, NULL, &receiver));
    while (ringway_receiver_consume(receiver, body, sizeof body, 0, &order) == RINGWAY_OK) {
        count++;
    }
    check(ringway_close(receiver));
    check(ringway_close(queue));
    return count;
}

static void subscribe(const ringway_topic_t *topic, const char *name, const char *filter) {
    ringway_queue_t *queue;
    ringway_subscription_config_t config;
    check(ringway_queue_open(bus, name, NULL, &queue));
    ringway_subscription_config_init(&config);
    config.endpoint = name;
    config.filter = filter;
    config.raw = RINGWAY_ON; /* the order itself, not a JSON notification of it */
    check(ringway_topic_subscribe(topic, &config, NULL));
    check(ringway_close(queue));
}

int main(void) {
    ringway_topic_t *topic;
    ringway_publisher_t *publisher;
    check(ringway_bus_open("shop", NULL, &bus));
    check(ringway_topic_open(bus, "orders", NULL, &topic));
    subscribe(topic, "billing", NULL);
    subscribe(topic, "shipping", "{\"kind\": [\"parcel\"]}");

    check(ringway_publisher_open(topic, &publisher));
    for (int i = 0; i < ORDERS; i++) {
        const ringway_attribute_t parcel = {"kind", NULL, "parcel", 6, RINGWAY_STRING, 0};
        const ringway_attribute_t ticket = {"kind", NULL, "ticket", 6, RINGWAY_STRING, 0};
        ringway_outgoing_t order;
        ringway_outgoing_init(&order);
        order.body = &i;
        order.len = sizeof i;
        order.attributes = i % 4 == 0 ? &parcel : &ticket;
        order.attribute_count = 1;
        check(ringway_publisher_publish(publisher, &order, 0, NULL));
    }
    int billed = received("billing"), shipped = received("shipping");
    printf("%d orders published, %d billed, %d shipped\n", ORDERS, billed, shipped);

    check(ringway_close(publisher));
    check(ringway_close(topic));
    check(ringway_close(bus));
    check(ringway_bus_destroy("shop", NULL, 0));
    return 0;
}
