// A worker dies with a message in its hands; another one receives it at once.
#include <csignal>
#include <iostream>
#include <ringway.hpp>
#include <sys/wait.h>
#include <unistd.h>

int main() {
    std::array<char, 64> body{};
    const pid_t worker = fork();
    if (worker == 0) {
        // Each process opens the bus itself: handles don't survive a fork.
        auto bus = ringway::Bus::open("crash").value();
        auto receiver = bus.queue("orders").value().receiver().value();
        receiver.receive(body, ringway::forever).value();
        std::raise(SIGKILL); // received, not deleted
    }
    {
        auto bus = ringway::Bus::open("crash").value();
        auto queue = bus.queue("orders").value();
        queue.sender().value().send("order 1").value();
        waitpid(worker, nullptr, 0);

        // The kernel says that the worker is dead: nobody waits for its lease of 30 s to end.
        auto receiver = queue.receiver().value();
        auto received = receiver.receive(body, std::chrono::seconds(10)).value();
        std::cout << ringway::Bytes(body.data(), received.len).text() << ", received "
                  << received.receipt.receives << " times\n";
        receiver.remove(received.receipt).value();
    }
    ringway::Bus::destroy("crash").value();
}
