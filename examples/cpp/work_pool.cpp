// Four workers share a queue of a thousand jobs; each job is done by one of them.
#include <atomic>
#include <iostream>
#include <ringway.hpp>
#include <thread>

namespace {
constexpr int jobs = 1000;
std::atomic<int> done;
std::atomic<long> sum;

void work(const ringway::Queue &queue) {
    auto receiver = queue.receiver().value(); // one for each thread
    while (done < jobs) {
        auto job = receiver.receive_value<int>(std::chrono::milliseconds(20));
        if (job.not_now()) {
            continue;
        }
        sum += job->value;
        receiver.remove(job->about.receipt).value();
        done++;
    }
}
} // namespace

int main() {
    {
        auto bus = ringway::Bus::open("pool").value();
        auto queue = bus.queue("jobs").value();
        std::vector<std::thread> workers;
        for (int i = 0; i < 4; i++) {
            workers.emplace_back([&] { work(queue); });
        }
        auto sender = queue.sender().value();
        for (int job = 1; job <= jobs; job++) {
            sender.send_value(job, ringway::forever).value();
        }
        for (auto &worker : workers) {
            worker.join();
        }
    }
    std::cout << done << " jobs done, their sum is " << sum << "\n";
    ringway::Bus::destroy("pool").value();
}
