#include <ringway.h>
#include <stdio.h>

int main(void) {
    ringway_bus_t *bus;
    ringway_queue_t *queue;
    ringway_sender_t *sender;
    ringway_receiver_t *receiver;
    ringway_received_t got;
    char body[256];
    if (ringway_bus_open("demo", NULL, &bus) || ringway_queue_open(bus, "orders", NULL, &queue) ||
        ringway_sender_open(queue, &sender) || ringway_receiver_open(queue, NULL, &receiver) ||
        ringway_sender_send(sender, "hello", 5, 0, NULL) ||
        ringway_receiver_receive(receiver, body, sizeof body, RINGWAY_SECOND, &got) ||
        ringway_receiver_delete(receiver, &got.receipt)) {
        return fprintf(stderr, "%s\n", ringway_last_error()), 1;
    }
    printf("%.*s\n", (int)got.len, body);
}
