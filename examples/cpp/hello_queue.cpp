// A message is sent, received and deleted.
#include <iostream>
#include <ringway.hpp>

int main() try {
    auto bus = ringway::Bus::open("demo").value();
    auto queue = bus.queue("orders").value();
    queue.sender().value().send("hello").value();

    auto receiver = queue.receiver().value();
    std::array<char, 256> body{};
    auto got = receiver.receive(body, std::chrono::seconds(1)).value();
    receiver.remove(got.receipt).value();
    std::cout << ringway::Bytes(body.data(), got.len).text() << "\n";
} catch (const ringway::Error &error) {
    std::cerr << error.what() << "\n";
    return 1;
}
