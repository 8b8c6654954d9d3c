/* A worker dies with a message in its hands; another one receives it at once. */
#include <ringway.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int32_t status) {
    if (status != RINGWAY_OK) {
        fprintf(stderr, "%s: %s\n", ringway_status_text(status), ringway_last_error());
        exit(1);
    }
}

static ringway_bus_t *bus;
static ringway_queue_t *queue;
static ringway_receiver_t *receiver;

/* Each process opens the bus itself: handles don't survive a fork. */
static void open_all(void) {
    check(ringway_bus_open("crash", NULL, &bus));
    check(ringway_queue_open(bus, "orders", NULL, &queue));
    check(ringway_receiver_open(queue, NULL, &receiver));
}

int main(void) {
    ringway_received_t received;
    char body[64];
    pid_t worker = fork();
    if (worker == 0) {
        open_all();
        check(ringway_receiver_receive(receiver, body, sizeof body, RINGWAY_FOREVER, &received));
        raise(SIGKILL); /* received, not deleted */
    }
    open_all();
    ringway_sender_t *sender;
    check(ringway_sender_open(queue, &sender));
    check(ringway_sender_send(sender, "order 1", 7, 0, NULL));
    waitpid(worker, NULL, 0);

    /* The kernel says that the worker is dead: nobody waits for its lease of 30 s to end. */
    check(ringway_receiver_receive(receiver, body, sizeof body, 10 * RINGWAY_SECOND, &received));
    printf("%.*s, received %d times\n", (int)received.len, body, (int)received.receipt.receives);
    check(ringway_receiver_delete(receiver, &received.receipt));

    check(ringway_close(sender));
    check(ringway_close(receiver));
    check(ringway_close(queue));
    check(ringway_close(bus));
    check(ringway_bus_destroy("crash", NULL, 0));
    return 0;
}
