"""Channels: every reader sees every record, in one order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, cast

from ._config import IDLES, Config, choice, counts, either
from ._errors import NOTHING, Lagged, check, error
from ._handle import Buffer, Handle, bytes_of, descriptor, opened, patiently
from ._native import ffi, lib
from .place import Loan, View

_STARTS = {"earliest": 1, "latest": 2}


@dataclass(frozen=True)
class Record:
    """A record that was read. Positions grow, with gaps where sends were abandoned."""

    position: int
    body: bytes


class PinnedRecord(View[int]):
    """A record that stays in place while its reader goes on; `about` is its position."""


class Producer(Handle):
    """Sends to a channel. One thread at a time."""

    def send(self, body: Buffer, timeout: Optional[float] = 0) -> int:
        """Sends a record; its position. Waits up to `timeout` seconds for room (None: for ever), then
        raises Full."""
        data, position = bytes_of(body), ffi.new("uint64_t *")
        call = lib.ringway_producer_send
        full = (lib.RINGWAY_FULL, lib.RINGWAY_STALLED)
        check(patiently(lambda ns: call(self._handle, data, len(data), ns, position), timeout, full))
        return int(position[0])

    def send_batch(self, bodies: Sequence[Buffer]) -> int:
        """Sends as many as there is room for, in order; how many. Raises Full when not even one."""
        return send_batch(lib.ringway_producer_send_batch, self._handle, bodies)

    def loan(self, length: int) -> Loan:
        """Bytes to fill and send without a copy."""
        return lend(self, length)


def send_batch(call: Any, handle: Any, bodies: Sequence[Buffer]) -> int:
    kept = [bytes_of(body) for body in bodies]
    slices = ffi.new("ringway_slice_t[]", len(kept))
    for place, data in zip(slices, kept):
        place.data, place.len = data, len(data)
    sent = ffi.new("size_t *")
    check(call(handle, slices, len(kept), sent))
    return int(sent[0])


def lend(sender: Handle, length: int) -> Loan:
    loan, data = ffi.new("ringway_loan_t **"), ffi.new("void **")
    check(lib.ringway_loan_open(sender._handle, length, loan, data))

    def send_it(handle: Any, size: int, position: Any) -> int:
        return int(lib.ringway_loan_send(sender._handle, handle, size, position))

    return Loan(send_it, loan[0], data[0], length)


class Reader(Handle):
    """Reads a channel. One thread at a time."""

    def __init__(self, handle: Any) -> None:
        super().__init__(handle)
        self._buffer = bytearray(4096)

    def _missed(self, status: int, record: Any) -> None:
        if status == lib.RINGWAY_LAGGED:
            lagged = cast(Lagged, error(status))
            lagged.missed, lagged.position = int(record.missed), int(record.position)
            raise lagged

    def read(self, timeout: Optional[float] = 0) -> Optional[Record]:
        """The next record, copied; None when none came within `timeout` seconds (None: for ever).
        Raises Lagged when a lossy reader missed some."""
        record = ffi.new("ringway_record_t *")
        call = lib.ringway_reader_read
        while True:
            buffer = ffi.from_buffer("char[]", self._buffer)
            status = patiently(
                lambda ns: call(self._handle, buffer, len(buffer), ns, record), timeout, NOTHING
            )
            if status == lib.RINGWAY_E_BUFFER_TOO_SMALL:
                self._buffer = bytearray(int(record.len))
                continue
            if status in NOTHING:
                return None
            self._missed(status, record)
            check(status)
            return Record(int(record.position), bytes(ffi.buffer(buffer, record.len)))

    def read_batch(self, maximum: int, timeout: Optional[float] = 0) -> List[Record]:
        """Up to `maximum` records as soon as there is one; none when none came in time."""
        entries, count = ffi.new("ringway_entry_t[]", max(maximum, 1)), ffi.new("size_t *")
        call = lib.ringway_reader_read_batch
        status = patiently(
            lambda ns: call(self._handle, maximum, ns, entries, count), timeout, NOTHING
        )
        if status in NOTHING:
            return []
        self._missed(status, entries[0].record)
        check(status)
        return [
            Record(int(entry.record.position), bytes(ffi.buffer(entry.body, entry.record.len)))
            for entry in entries[0 : count[0]]
        ]

    def view(self, timeout: Optional[float] = 0) -> Optional[View[int]]:
        """The next record in place, for a with statement; `about` is its position."""
        record, data = ffi.new("ringway_record_t *"), ffi.new("const void **")
        call = lib.ringway_reader_view
        status = patiently(lambda ns: call(self._handle, ns, record, data), timeout, NOTHING)
        if status in NOTHING:
            return None
        self._missed(status, record)
        check(status)
        end = lambda: check(lib.ringway_release(self._handle))  # noqa: E731
        return View(end, int(record.position), data[0], int(record.len))

    def pin(self, timeout: Optional[float] = 0) -> Optional[PinnedRecord]:
        """The next record in place, to be kept while the reader goes on; up to 14 at a time."""
        view, record = ffi.new("ringway_view_t **"), ffi.new("ringway_record_t *")
        data = ffi.new("const void **")
        call = lib.ringway_reader_pin
        status = patiently(lambda ns: call(self._handle, ns, view, record, data), timeout, NOTHING)
        if status in NOTHING:
            return None
        self._missed(status, record)
        check(status)
        pinned = view[0]
        end = lambda: check(lib.ringway_close(pinned))  # noqa: E731
        return PinnedRecord(end, int(record.position), data[0], int(record.len))

    def records(self, timeout: Optional[float] = None) -> Iterator[Record]:
        """Records as they come, until none has come for `timeout` seconds."""
        while True:
            record = self.read(timeout)
            if record is None:
                return
            yield record

    def fileno(self) -> int:
        """A descriptor for select, poll or asyncio: readable when there is something. Then read until
        None, which arms it again."""
        return descriptor(self)


class Channel(Handle):
    """A channel, open here. Any thread."""

    def producer(self) -> Producer:
        """Becomes a producer."""
        call = lib.ringway_producer_open
        return Producer(opened("ringway_producer_t", lambda out: call(self._handle, out)))

    def reader(
        self,
        start: str = "latest",
        *,
        position: Optional[int] = None,
        reliable: Optional[bool] = None,
        idle: str = "spin_then_park",
    ) -> Reader:
        """Becomes a reader, from the "earliest" or "latest" record or from a position on. Producers wait
        for a reliable one; others are told what they missed."""
        config = Config(
            "reader",
            start=lib.RINGWAY_AT if position is not None else choice(_STARTS, start),
            position=position,
            reliability=either(reliable, lib.RINGWAY_RELIABLE, lib.RINGWAY_LOSSY),
            idle=choice(IDLES, idle),
        )
        call = lib.ringway_reader_open
        return Reader(opened("ringway_reader_t", lambda out: call(self._handle, config.c, out)))

    def stats(self) -> Dict[str, int]:
        """Positions and counters."""
        return counts("channel", self._handle)
