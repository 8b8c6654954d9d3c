// The C++ header, with exceptions and without: everything a class offers, once.

#include <ringway.hpp>

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>

using namespace std::chrono_literals;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: %s is false (%s)\n", __FILE__, __LINE__, #condition,      \
                ringway_last_error());                                                             \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

namespace {

struct Fix {
    uint64_t seconds;
    double latitude;
    double longitude;
};

void channels(const ringway::Bus &bus) {
    ringway::ChannelConfig config;
    config.producers = RINGWAY_EXCLUSIVE;
    auto ticks = bus.channel("ticks", config).value();
    auto producer = ticks.producer().value();
    auto refused = ticks.producer();
    CHECK(!refused && refused.status() == RINGWAY_E_BUSY && !refused.not_now());
    auto reader = ticks.reader().value();

    std::array<char, 64> buffer{};
    auto none = reader.read(buffer);
    CHECK(!none && none.not_now() && none.status() == RINGWAY_EMPTY);
    producer.send("hello").value();
    auto record = reader.read(buffer, 1s);
    CHECK(record && record->len == 5 && std::string(buffer.data(), record->len) == "hello");
    producer.send_value(Fix{7, 47.07, 15.44}).value();
    auto fix = reader.read_value<Fix>().value();
    CHECK(fix.value.seconds == 7 && fix.value.longitude == 15.44);
    producer.send("short").value();
    CHECK(reader.read_value<Fix>().status() == RINGWAY_E_MISMATCH);
    char small[2];
    producer.send(std::string("long")).value();
    auto too_small = reader.read(small);
    CHECK(too_small.status() == RINGWAY_E_BUFFER_TOO_SMALL && too_small.told().len == 4);
    CHECK(reader.read_batch(8).value().size() == 1);

    auto loan = producer.loan(1 << 20).value();
    std::iota(loan.begin(), loan.end(), uint8_t{0});
    producer.send(loan).value();
    CHECK(!loan);
    {
        auto view = reader.view(1s).value();
        CHECK(view.bytes().size() == 1 << 20 && view.bytes().begin()[257] == 1);
        auto moved = std::move(view);
        CHECK(reader.read(buffer).status() == RINGWAY_E_BUSY_HANDLE);
    }
    producer.send("kept").value();
    producer.send("next").value();
    auto pinned = reader.pin().value();
    CHECK(reader.read(buffer));
    CHECK(pinned.bytes().text() == "kept");
    CHECK(ticks.stats().value().readers == 1);
    CHECK(reader.poll_fd().value() >= 0);
}

void queues(const ringway::Bus &bus) {
    ringway::QueueConfig config;
    config.slots = 1024;
    auto orders = bus.queue("orders", config).value();
    auto sender = orders.sender().value();
    auto receiver = orders.receiver().value();
    std::vector<char> buffer(64);

    sender.send("one").value();
    auto one = receiver.receive(buffer, 1s).value();
    auto text = ringway::to_text(one.receipt).value();
    auto receipt = ringway::to_receipt(text.c_str()).value();
    orders.extend(receipt, 60s).value();
    orders.nack(receipt).value();
    CHECK(receiver.receive(buffer, 1s).value().receipt.receives == 2);
    CHECK(orders.remove(receipt).status() == RINGWAY_E_STALE_RECEIPT);
    CHECK(orders.purge().value() == 1);

    sender.send_value(Fix{1, 2, 3}).value();
    auto fix = receiver.receive_value<Fix>(1s).value();
    CHECK(fix.value.latitude == 2);
    receiver.remove(fix.about.receipt).value();

    const std::vector<uint8_t> seal{1, 2};
    ringway::Attributes attributes;
    attributes.string("city", "Graz").number("seats", "12").binary("seal", seal);
    const auto wrong = ringway::Attributes().number("more", "many");
    CHECK(sender.send(ringway::Outgoing("x").attributes(wrong)).status() == RINGWAY_E_ATTRIBUTE);
    auto sent = sender.send(ringway::Outgoing("said").group("truck").attributes(attributes));
    CHECK(sent && sent->duplicate == 0);
    auto message = ringway::Message::make().value();
    auto received = receiver.receive(message).value();
    CHECK(message.body().text() == "said");
    CHECK(std::string(message.parts().value().group) == "truck");
    CHECK(message.attribute("seats").value().len == 2);
    CHECK(message.parts().value().attributes[2].data_type == RINGWAY_BINARY);
    CHECK(message.attribute("none").status() == RINGWAY_E_NOT_FOUND);
    receiver.remove(received.receipt).value();

    auto loan = sender.loan(sizeof(Fix) * 1000).value();
    for (int i = 0; i < 1000; i++) {
        loan.as<Fix>()[i] = {static_cast<uint64_t>(i), 0, 0};
    }
    sender.send(loan, sizeof(Fix) * 500).value();
    {
        auto view = receiver.view().value();
        CHECK(view.bytes().size() == sizeof(Fix) * 500 && view.bytes().as<Fix>() == nullptr);
        CHECK(static_cast<const Fix *>(view.bytes().data())[499].seconds == 499);
        orders.remove(view.about().receipt).value();
    }

    const ringway_slice_t bodies[] = {{"a", 1}, {"b", 1}, {"c", 1}};
    CHECK(sender.send_batch(bodies, 3).value() == 3);
    auto batch = receiver.receive_batch(10).value();
    std::vector<ringway::Receipt> receipts;
    for (const auto &delivery : batch) {
        receipts.push_back(delivery.received.receipt);
    }
    CHECK(receipts.size() == 3);
    receiver.remove(receipts).value();
    CHECK(receiver.consume(buffer).status() == RINGWAY_EMPTY);
    CHECK(receiver.receive(buffer, ringway::as_queue_says).status() == RINGWAY_EMPTY);

    auto ticks = bus.channel("ticks").value();
    auto reader = ticks.reader().value();
    CHECK(ringway::wait_any(1ms, reader, receiver).status() == RINGWAY_TIMEOUT);
    sender.send("wake").value();
    CHECK(ringway::wait_any(ringway::forever, reader, receiver).value() == 1);

    ringway::Settings settings;
    settings.visibility_ms = 1000;
    orders.set(settings).value();
    CHECK(orders.settings().value().visibility_ms == 1000);
    CHECK(orders.stats().value().visible == 1 && orders.id().value() != 0);
    CHECK(receiver.poll_fd().value() >= 0);

    auto others = bus.queue("others").value();
    ringway::MoveConfig move;
    move.destination = others.get();
    const auto moved = orders.move(move, ringway::forever).value();
    CHECK(moved.state == RINGWAY_COMPLETED && moved.moved == 1);
    bus.remove("others").value();
}

void streams(const ringway::Bus &bus) {
    ringway::StreamConfig config;
    config.shards = 2;
    auto trucks = bus.stream("trucks", config).value();
    auto producer = trucks.producer().value();
    auto reader = trucks.reader().value();
    auto worker = trucks.worker("dispatch").value();
    const auto first = producer.put("truck-7", "52.5,13.4").value();
    auto outcomes =
        producer.put_batch({ringway::Put("truck-7", "52.6,13.5"), ringway::Put("", "no key")}, 1s);
    CHECK(outcomes->at(0).status == RINGWAY_OK && outcomes->at(1).status == RINGWAY_E_ID);
    CHECK(first < outcomes->at(0).sequence_number);
    const auto records = reader.read(10, 1s).value();
    CHECK(records.size() == 2 && records[0].sequence_number == first);
    CHECK(ringway::Bytes(records[1].data, records[1].len).text() == "52.6,13.5");
    CHECK(std::string(records[0].partition_key) == "truck-7");
    CHECK(worker.read(10, 10s).value().size() == 2);
    CHECK(reader.checkpoint().status() == RINGWAY_E_OPTION);
    worker.checkpoint(first).value();
    worker.checkpoint().value();
    CHECK(worker.read(10).not_now());
    CHECK(trucks.shards().value().size() == 2 && trucks.stats().value().open_shards == 2);
}

void changed_streams(const ringway::Bus &bus) {
    auto clicks = bus.stream("clicks").value();
    const auto halves = clicks.split(0).value();
    CHECK(clicks.merge(halves[0], halves[1]).value() == halves[1] + 1);
    CHECK(clicks.scale(2).value() == 1 && clicks.stats().value().open_shards == 2);
    CHECK(clicks.retain(24h).status() == RINGWAY_E_OPTION);
    clicks.register_consumer("billing", RINGWAY_BEHIND_DROP_OLDEST).value();
    auto billing = clicks.consumer("billing").value();
    CHECK(clicks.consumer("billing").status() == RINGWAY_E_BUSY);
    auto producer = clicks.aggregating().value();
    CHECK(producer.put("user-1", "home").value().shard == RINGWAY_NONE);
    producer.flush().value();
    CHECK(ringway::Bytes(billing.read(1, 1s).value()[0].data, 4).text() == "home");
    CHECK(clicks.consumers().value()[0].records == 1);
    auto second = clicks.consumer("billing", RINGWAY_LATEST, true).value();
    CHECK(billing.read(1).status() == RINGWAY_E_STALE);
    clicks.deregister_consumer("billing").value();
    CHECK(second.read(1).status() == RINGWAY_E_STALE);
    (void)clicks.worker("dispatch").value();
    clicks.remove_group("dispatch").value();
    second.close();
    CHECK(clicks.retire().value() == 4);
    bus.remove("clicks").value();
}

void topics(const ringway::Bus &bus) {
    auto news = bus.topic("news").value();
    auto sport = bus.queue("sport").value();
    ringway::SubscriptionConfig wish("sport");
    wish.raw = RINGWAY_ON;
    wish.filter = R"({"kind": ["sport"]})";
    const auto id = news.subscribe(wish).value();
    const auto to_stream = ringway::SubscriptionConfig("trucks", RINGWAY_TO_STREAM);
    news.unsubscribe(news.subscribe(to_stream).value()).value();
    ringway::ListenerConfig choosy;
    choosy.filter = "{";
    CHECK(news.listener(choosy).status() == RINGWAY_E_POLICY);
    const std::string nobody = R"({"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}})";
    CHECK(bus.queue_policy("sport").value().empty());
    bus.set_queue_policy("sport", nobody.c_str()).value();
    CHECK(bus.queue_policy("sport").value() == nobody);
    bus.set_queue_policy("sport", nullptr).value();
    CHECK(bus.set_queue_policy("sport", "{").status() == RINGWAY_E_POLICY);
    CHECK(bus.queue_policy("nowhere").status() == RINGWAY_E_NOT_FOUND);
    const auto to_files = ringway::SubscriptionConfig("sport", RINGWAY_TO_FIREHOSE);
    news.unsubscribe(news.subscribe(to_files).value()).value();
    ringway::TopicConfig lasting;
    lasting.durability = RINGWAY_ASYNC;
    CHECK(bus.topic("lasting", lasting).status() == RINGWAY_E_OPTION);
    CHECK(sport.parked().value().empty());
    CHECK(sport.read_parked(1).status() == RINGWAY_E_NOT_FOUND);
    CHECK(sport.delete_parked(1).status() == RINGWAY_E_NOT_FOUND);
    CHECK(news.subscriptions().value().size() == 1);
    auto publisher = news.publisher().value();
    auto listener = news.listener().value();
    const auto kind = ringway::Attributes().string("kind", "sport");
    auto said = ringway::Outgoing("1:0").attributes(kind).subject("goal");
    const auto published = publisher.publish(said).value();
    CHECK(publisher.publish_batch({*said.c(), *ringway::Outgoing("x").c()}).value().size() == 2);
    std::array<char, 64> body{};
    auto receiver = sport.receiver().value();
    CHECK(receiver.consume(body, 1s)->len == 3 && receiver.consume(body)->len == 3);
    CHECK(receiver.consume(body).not_now());
    auto message = ringway::Message::make().value();
    listener.hear(message, 1s).value();
    CHECK(message.body().text() == "1:0" && message.attribute("kind").value().len == 5);
    CHECK(message.parts().value().message_id[0] == published.message_id[0]);
    news.unsubscribe(id).value();
    CHECK(news.stats().value().subscriptions == 0);
    bus.remove("news", RINGWAY_TOPIC).value();
    CHECK(news.publisher().status() == RINGWAY_E_REMOVED);
}

} // namespace

int main() {
    ringway::BusConfig config;
    config.pool_bytes = 64 << 20;
    auto bus = ringway::Bus::open("calls-cpp", config).value();
    channels(bus);
    queues(bus);
    streams(bus);
    changed_streams(bus);
    topics(bus);
    CHECK(bus.objects().value().size() == 4);
    bus.remove("orders").value();
#if defined(__cpp_exceptions)
    try {
        (void)bus.queue("no/name").value();
        CHECK(false);
    } catch (const ringway::Error &error) {
        CHECK(error.status() == RINGWAY_E_NAME);
        CHECK(std::string(error.what()).find("RINGWAY_E_NAME: no valid name: \"no/name\"") == 0);
    }
#else
    CHECK(bus.queue("no/name").status() == RINGWAY_E_NAME);
#endif
    bus.close();
    ringway::Bus::destroy("calls-cpp").value();
    std::puts("calls: ok");
}
