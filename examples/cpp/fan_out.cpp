// Orders are published once; billing gets all of them, shipping those that it asks for.
#include <iostream>
#include <ringway.hpp>

namespace {
constexpr int orders = 100;

int received(const ringway::Bus &bus, const char *name) {
    auto receiver = bus.queue(name).value().receiver().value();
    std::array<char, 64> body{};
    int count = 0;
    while (receiver.consume(body)) {
        count++;
    }
    return count;
}

void subscribe(const ringway::Bus &bus, const ringway::Topic &topic, const char *name,
    const char *filter = nullptr) {
    bus.queue(name).value();
    ringway::SubscriptionConfig config(name);
    config.filter = filter;
    config.raw = RINGWAY_ON; // the order itself, not a JSON notification of it
    topic.subscribe(config).value();
}
} // namespace

int main() {
    {
        auto bus = ringway::Bus::open("shop").value();
        auto topic = bus.topic("orders").value();
        subscribe(bus, topic, "billing");
        subscribe(bus, topic, "shipping", R"({"kind": ["parcel"]})");

        auto publisher = topic.publisher().value();
        for (int order = 0; order < orders; order++) {
            ringway::Attributes kind;
            kind.string("kind", order % 4 == 0 ? "parcel" : "ticket");
            const ringway::Bytes body(&order, sizeof order);
            publisher.publish(ringway::Outgoing(body).attributes(kind)).value();
        }
        const int billed = received(bus, "billing"), shipped = received(bus, "shipping");
        std::cout << orders << " orders published, " << billed << " billed, " << shipped
                  << " shipped\n";
    }
    ringway::Bus::destroy("shop").value();
}
