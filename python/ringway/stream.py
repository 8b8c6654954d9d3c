"""Streams: shards of records, in order by key, read again and shared by groups. The Kinesis model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union, cast

from ._errors import NOTHING, Error, Lagged, check, error
from ._handle import Buffer, Handle, bytes_of, opened, patiently, text
from ._native import ffi, lib
from .channel import IDLES
from .place import View

_ITERATORS = {
    "trim_horizon": 1,
    "latest": 2,
    "at_sequence_number": 3,
    "after_sequence_number": 4,
    "at_timestamp": 5,
}
_STATES = {1: "open", 2: "closed", 3: "retired"}


class SequenceNumber(NamedTuple):
    """The number of a record: of two records the later one is the greater. int() is the number that
    Kinesis would show."""

    shard: int
    position: int

    def __int__(self) -> int:
        return self.shard << 64 | self.position

    @staticmethod
    def _of(c: Any) -> "SequenceNumber":
        return SequenceNumber(int(c.shard), int(c.position))


@dataclass(frozen=True)
class Put:
    """A record to put; `hash_key` (128 bits) says where it belongs whatever its key says."""

    partition_key: str
    data: Buffer
    hash_key: Optional[int] = None


@dataclass(frozen=True)
class StreamRecord:
    """A record that was read; arrival_ms since the Unix epoch. sub_sequence_number: which it is of those
    that were put as one under its number."""

    sequence_number: SequenceNumber
    arrival_ms: int
    partition_key: str
    data: bytes
    sub_sequence_number: int = 0


@dataclass(frozen=True)
class ShardInfo:
    """A shard: what it replaced, its hash keys from first to last, the positions of the oldest record
    there is and of the next one, and whether it is "open", "closed" or "retired"."""

    shard: int
    parents: Tuple[int, ...]
    first: int
    last: int
    created_ms: int
    closed_ms: Optional[int]
    oldest: int
    next: int
    state: str


def _hash_key(c: Any) -> int:
    return int(c.high) << 64 | int(c.low)


def _say(place: Any, record: Put, kept: List[Any]) -> None:
    key, data = text(record.partition_key), bytes_of(record.data)
    place.partition_key, place.data, place.len = key, data, len(data)
    kept += [key, data]
    if record.hash_key is not None:
        hash_key = ffi.new("ringway_hash_key_t *")
        hash_key.high, hash_key.low = record.hash_key >> 64, record.hash_key & (1 << 64) - 1
        place.hash_key = hash_key
        kept.append(hash_key)


class StreamProducer(Handle):
    """Puts records into a stream. One thread at a time."""

    def put(
        self,
        partition_key: str,
        data: Buffer,
        *,
        hash_key: Optional[int] = None,
        timeout: Optional[float] = 0,
    ) -> SequenceNumber:
        """Puts a record; its number. Waits up to `timeout` seconds for room (None: for ever), then raises
        Full."""
        kept: List[Any] = []
        place, outcome = ffi.new("ringway_put_t *"), ffi.new("ringway_put_outcome_t *")
        _say(place, Put(partition_key, data, hash_key), kept)
        call, full = lib.ringway_stream_put, (lib.RINGWAY_FULL,)
        check(patiently(lambda ns: call(self._handle, place, ns, outcome), timeout, full))
        return SequenceNumber._of(outcome.sequence_number)

    def put_batch(
        self, records: Sequence[Put], timeout: float = 0
    ) -> List[Union[SequenceNumber, Error]]:
        """Puts records in order; what became of each. One that fails does not keep the others, except
        those behind it that go to the same shard if that is full."""
        kept: List[Any] = []
        places = ffi.new("ringway_put_t[]", len(records))
        outcomes = ffi.new("ringway_put_outcome_t[]", len(records))
        for at, record in enumerate(records):
            _say(ffi.addressof(places, at), record, kept)
        ns = max(0, int(timeout * 1e9))
        check(lib.ringway_stream_put_batch(self._handle, places, len(records), ns, outcomes))
        return [
            SequenceNumber._of(one.sequence_number) if one.status == 0 else error(one.status)
            for one in outcomes
        ]


class StreamBatch:
    """Records that were read, in the memory of their reader, for a with statement: `views()` shows their
    data without another copy. Until it ends its reader reads nothing else."""

    def __init__(self, reader: "StreamReader", records: Any, count: int) -> None:
        self._reader = reader
        self._records = records
        self._views: List[View[SequenceNumber]] = []
        for at in range(count):
            one = records[at]
            number = SequenceNumber._of(one.sequence_number)
            self._views.append(View(lambda: None, number, one.data, int(one.len)))

    def views(self) -> List[View[SequenceNumber]]:
        """One for each record: `data` is a memoryview, `array()` a numpy array, `about` its number."""
        return self._views

    def keys(self) -> List[str]:
        """The partition key of each."""
        return [
            str(ffi.string(self._records[at].partition_key).decode())
            for at in range(len(self._views))
        ]

    def __len__(self) -> int:
        return len(self._views)

    def close(self) -> None:
        """Ends all views. BufferError while arrays or slices of one are alive."""
        for view in self._views:
            view.close()
        self._views = []
        self._reader._batch = None

    def __enter__(self) -> "StreamBatch":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class StreamReader(Handle):
    """Reads a stream, alone or as a worker of a group. One thread at a time."""

    _batch: Optional[StreamBatch] = None

    def _read(self, maximum: int, timeout: Optional[float]) -> Tuple[Any, int]:
        if self._batch is not None and len(self._batch) > 0:
            raise BufferError("a batch of this reader is open; end it first")
        records, count = ffi.new("ringway_stream_record_t[]", max(maximum, 1)), ffi.new("size_t *")
        call = lib.ringway_stream_read
        status = patiently(
            lambda ns: call(self._handle, maximum, ns, records, count), timeout, NOTHING
        )
        if status in NOTHING or status == lib.RINGWAY_END:
            return records, 0
        if status == lib.RINGWAY_LAGGED:
            lagged = cast(Lagged, error(status))
            lagged.missed = int(records[0].missed)
            lagged.position = int(records[0].sequence_number.position)
            raise lagged
        check(status)
        return records, int(count[0])

    def read(self, maximum: int = 100, timeout: Optional[float] = 0) -> List[StreamRecord]:
        """Up to `maximum` records as soon as there is one, copied; none when none came within `timeout`
        seconds (None: for ever), or the one shard that is read is read to its end. Those of a key come in
        the order they were put in. Raises Lagged when some were dropped unread."""
        records, count = self._read(maximum, timeout)
        return [
            StreamRecord(
                SequenceNumber._of(one.sequence_number),
                int(one.arrival_ms),
                str(ffi.string(one.partition_key).decode(errors="replace")),
                bytes(ffi.buffer(one.data, one.len)),
                int(one.sub_sequence_number),
            )
            for one in records[0:count]
        ]

    def batch(self, maximum: int = 100, timeout: Optional[float] = 0) -> StreamBatch:
        """The same, to be looked at in the memory of the reader."""
        records, count = self._read(maximum, timeout)
        self._batch = StreamBatch(self, records, count)
        return self._batch

    def records(self, timeout: Optional[float] = None) -> Iterator[StreamRecord]:
        """Records as they come, until none has come for `timeout` seconds."""
        while True:
            records = self.read(100, timeout)
            if not records:
                return
            yield from records

    def checkpoint(self, done: Union[SequenceNumber, StreamRecord, None] = None) -> None:
        """Says that a worker is done with this record and all before it in its shard; None: with all that
        it was given."""
        if isinstance(done, StreamRecord):
            done = done.sequence_number
        number = ffi.NULL
        if done is not None:
            number = ffi.new("ringway_sequence_number_t *")
            number.shard, number.position = done
        check(lib.ringway_stream_checkpoint(self._handle, number))


class Stream(Handle):
    """A stream, open here. Any thread."""

    def producer(self) -> StreamProducer:
        """Becomes a producer."""
        call = lib.ringway_stream_producer_open
        return StreamProducer(
            opened("ringway_stream_producer_t", lambda out: call(self._handle, out))
        )

    def reader(
        self,
        iterator: str = "latest",
        *,
        shard: Optional[int] = None,
        sequence_number: Optional[SequenceNumber] = None,
        timestamp_ms: Optional[int] = None,
        reliable: Optional[bool] = None,
        idle: str = "spin_then_park",
    ) -> StreamReader:
        """Becomes a reader of everything, or of one shard; iterator: "trim_horizon", "latest",
        "at_sequence_number", "after_sequence_number" or "at_timestamp"."""
        config = ffi.new("ringway_stream_reader_config_t *")
        lib.ringway_stream_reader_config_init(config)
        config.iterator, config.idle = _ITERATORS[iterator], IDLES[idle]
        if shard is not None:
            config.shard = shard
        if sequence_number is not None:
            config.sequence_number.shard, config.sequence_number.position = sequence_number
        if timestamp_ms is not None:
            config.timestamp_ms = timestamp_ms
        if reliable is not None:
            config.reliability = lib.RINGWAY_RELIABLE if reliable else lib.RINGWAY_LOSSY
        return self._open(config)

    def worker(
        self, group: str, start: str = "trim_horizon", *, idle: str = "spin_then_park"
    ) -> StreamReader:
        """Becomes a worker of a group, which is made if there is none, to read from "trim_horizon" or
        "latest" on."""
        config = ffi.new("ringway_stream_reader_config_t *")
        lib.ringway_stream_reader_config_init(config)
        name = text(group)
        config.group, config.iterator, config.idle = name, _ITERATORS[start], IDLES[idle]
        return self._open(config)

    def _open(self, config: Any) -> StreamReader:
        call = lib.ringway_stream_reader_open
        return StreamReader(
            opened("ringway_stream_reader_t", lambda out: call(self._handle, config, out))
        )

    def shards(self) -> List[ShardInfo]:
        """Every shard that was ever made, by number."""
        count = ffi.new("size_t *", 16)
        while True:
            room = count[0]
            shards = ffi.new("ringway_shard_info_t[]", room)
            check(lib.ringway_stream_shards(self._handle, shards, room, count))
            if count[0] <= room:
                break
        return [
            ShardInfo(
                int(one.shard),
                tuple(int(parent) for parent in one.parents if parent != lib.RINGWAY_NONE),
                _hash_key(one.first),
                _hash_key(one.last),
                int(one.created_ms),
                int(one.closed_ms) or None,
                int(one.oldest),
                int(one.next),
                _STATES.get(one.state, "unknown"),
            )
            for one in shards[0 : count[0]]
        ]

    def stats(self) -> Dict[str, int]:
        """Counts."""
        stats = ffi.new("ringway_stream_stats_t *")
        check(lib.ringway_stream_stats(self._handle, stats, ffi.sizeof(stats[0])))
        return {name: int(getattr(stats, name)) for name in dir(stats)}
