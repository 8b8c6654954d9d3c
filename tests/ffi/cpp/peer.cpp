// One side of what goes between languages, in C++: see peer.rs.

#include <ringway.hpp>

#include <algorithm>
#include <fcntl.h>
#include <iostream>
#include <stdexcept>
#include <string>
#include <unistd.h>

using namespace std::chrono_literals;

namespace {
int board;

void require(bool holds, const char *what) {
    if (!holds) {
        throw std::runtime_error(what);
    }
}

std::string body(uint64_t number) {
    std::string body(8 + number % 200, static_cast<char>(number % 251));
    std::memcpy(body.data(), &number, 8);
    return body;
}

void note(uint64_t acknowledged, off_t at) {
    require(pwrite(board, &acknowledged, 8, at) == 8, "the board");
}

void see(ringway::Bytes seen) {
    uint64_t number = 0;
    require(seen.size() >= 8, "a length");
    std::memcpy(&number, seen.data(), 8);
    require(seen.text() == body(number), "a body");
    require(pwrite(board, "\1", 1, static_cast<off_t>(16 + number)) == 1, "the board");
}

bool is_whole(std::size_t count) {
    std::string seen(count, '\0');
    require(pread(board, seen.data(), count, 16) == static_cast<ssize_t>(count), "the board");
    return seen.find('\0') == std::string::npos;
}
} // namespace

int main(int argc, char **argv) try {
    require(argc == 5, "peer VERB NAME BOARD COUNT");
    const std::string verb = argv[1];
    const uint64_t count = std::stoull(argv[4]);
    uint64_t number = 0;
    board = open(argv[3], O_RDWR);
    require(board >= 0 && pread(board, &number, 8, 0) == 8, "the board");
    auto bus = ringway::Bus::open("peers").value();
    if (verb == "send") {
        auto sender = bus.queue(argv[2]).value().sender().value();
        for (; number < count; number++) {
            sender.send(body(number), ringway::forever).value();
            note(number + 1, 0);
        }
    } else if (verb == "publish") {
        auto producer = bus.channel(argv[2]).value().producer().value();
        for (; number < count; number++) {
            producer.send(body(number), ringway::forever).value();
            note(number + 1, 0);
        }
    } else if (verb == "put") {
        auto producer = bus.stream(argv[2]).value().producer().value();
        for (; number < count; number++) {
            const auto key = "key-" + std::to_string(number % 7);
            producer.put(key.c_str(), body(number), ringway::forever).value();
            note(number + 1, 0);
        }
    } else if (verb == "announce") {
        auto publisher = bus.topic(argv[2]).value().publisher().value();
        for (; number < count; number++) {
            const auto text = body(number);
            publisher.publish(ringway::Outgoing(text)).value();
            note(number + 1, 0);
        }
    } else if (verb == "work") {
        auto worker = bus.stream(argv[2]).value().worker("peers").value();
        while (!is_whole(count)) {
            auto records = worker.read(100, 50ms);
            require(records || records.not_now(), "a worker");
            for (const auto &record : records.told()) {
                see({record.data, record.len});
            }
            worker.checkpoint().value();
        }
    } else if (verb == "receive") {
        auto receiver = bus.queue(argv[2]).value().receiver().value();
        std::array<char, 512> buffer{};
        while (!is_whole(count)) {
            while (auto received = receiver.receive(buffer, 50ms)) {
                see({buffer.data(), received->len});
                receiver.remove(received->receipt).value();
            }
        }
    } else {
        require(verb == "read", "no such verb");
        ringway::ReaderConfig config;
        config.start = RINGWAY_EARLIEST;
        auto reader = bus.channel(argv[2]).value().reader(config).value();
        note(1, 8);
        std::array<char, 512> buffer{};
        while (!is_whole(count)) {
            while (auto record = reader.read(buffer, 50ms)) {
                see({buffer.data(), record->len});
            }
        }
    }
} catch (const std::exception &error) {
    std::cerr << error.what() << "\n";
    return 1;
}
