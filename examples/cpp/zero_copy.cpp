// A megabyte that is written where its reader finds it, and never copied.
#include <algorithm>
#include <iostream>
#include <numeric>
#include <ringway.hpp>

int main() {
    {
        auto bus = ringway::Bus::open("frames").value();
        auto channel = bus.channel("camera").value();
        auto reader = channel.reader().value();
        auto producer = channel.producer().value();

        auto frame = producer.loan(1 << 20).value();
        std::fill(frame.begin(), frame.end(), uint8_t{7}); // as long as you like: it blocks nobody
        producer.send(frame).value();

        auto view = reader.view(std::chrono::seconds(1)).value(); // until its end the bytes stay
        const auto seen = view.bytes();
        std::cout << seen.size() << " bytes seen in place, their sum is "
                  << std::accumulate(seen.begin(), seen.end(), 0L) << "\n";
    }
    ringway::Bus::destroy("frames").value();
}
