"""One side of what goes between languages, in Python: see peer.rs."""

import os
import struct
import sys

import ringway


def body(number: int) -> bytes:
    return struct.pack("<Q", number) + bytes([number % 251]) * (number % 200)


def main(verb: str, name: str, path: str, count: int) -> None:
    board = os.open(path, os.O_RDWR)
    bus = ringway.Bus.open("peers", "open")
    acknowledged = struct.unpack("<Q", os.pread(board, 8, 0))[0]

    def see(seen: bytes) -> None:
        number = struct.unpack_from("<Q", seen)[0]
        assert seen == body(number), number
        os.pwrite(board, b"\1", 16 + number)

    def is_whole() -> bool:
        return 0 not in os.pread(board, count, 16)

    if verb in ("send", "publish"):
        to = bus.queue(name).sender() if verb == "send" else bus.channel(name).producer()
        for number in range(acknowledged, count):
            to.send(body(number), timeout=None)
            os.pwrite(board, struct.pack("<Q", number + 1), 0)
    elif verb == "put":
        producer = bus.stream(name).producer()
        for number in range(acknowledged, count):
            producer.put(f"key-{number % 7}", body(number), timeout=None)
            os.pwrite(board, struct.pack("<Q", number + 1), 0)
    elif verb == "announce":
        publisher = bus.topic(name).publisher()
        for number in range(acknowledged, count):
            publisher.publish(body(number))
            os.pwrite(board, struct.pack("<Q", number + 1), 0)
    elif verb == "work":
        worker = bus.stream(name).worker("peers")
        while not is_whole():
            for record in worker.read(100, timeout=0.05):
                see(record.data)
            worker.checkpoint()
    elif verb == "receive":
        receiver = bus.queue(name).receiver()
        while not is_whole():
            for message in receiver.messages(timeout=0.05):
                see(message.body)
                receiver.delete(message)
    elif verb == "read":
        reader = bus.channel(name).reader("earliest")
        os.pwrite(board, struct.pack("<Q", 1), 8)
        while not is_whole():
            while (view := reader.view(timeout=0.05)) is not None:
                with view:
                    see(bytes(view.data))
    else:
        raise SystemExit(f"{verb!r} is none of the verbs")


main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
