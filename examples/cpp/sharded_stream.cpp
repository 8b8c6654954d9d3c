// Twelve trucks report to a stream of four shards; two workers share them, each truck is read in order.
#include <atomic>
#include <iostream>
#include <ringway.hpp>
#include <thread>

namespace {
constexpr int trucks = 12, reports = 50;
std::atomic<int> done, out_of_order;
std::array<std::atomic<int>, trucks> expected; // a shard that passes on takes its trucks along

void work(const ringway::Stream &stream) {
    auto worker = stream.worker("dispatch").value();
    while (done < trucks * reports) {
        auto records = worker.read(64, std::chrono::milliseconds(20));
        if (records.not_now()) {
            continue;
        }
        for (const auto &record : records.value()) {
            auto &next = expected.at(std::stoul(record.partition_key + 6));
            const int report = *ringway::Bytes(record.data, record.len).as<int>();
            out_of_order += report != next;
            next = report + 1;
        }
        done += static_cast<int>(records->size());
        worker.checkpoint().value(); // done with them, whoever reads on
    }
}
} // namespace

int main() {
    {
        auto bus = ringway::Bus::open("fleet").value();
        ringway::StreamConfig config;
        config.shards = 4;
        auto stream = bus.stream("trucks", config).value();
        std::vector<std::thread> workers;
        for (int i = 0; i < 2; i++) {
            workers.emplace_back([&] { work(stream); });
        }
        auto producer = stream.producer().value();
        for (int report = 0; report < reports; report++) {
            for (int truck = 0; truck < trucks; truck++) {
                const auto key = "truck-" + std::to_string(truck);
                const ringway::Bytes data(&report, sizeof report);
                producer.put(key.c_str(), data, ringway::forever).value();
            }
        }
        for (auto &worker : workers) {
            worker.join();
        }
    }
    std::cout << done << " reports of " << trucks << " trucks, " << out_of_order
              << " out of order\n";
    ringway::Bus::destroy("fleet").value();
}
