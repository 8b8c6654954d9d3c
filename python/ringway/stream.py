"""Streams: shards of records, in order by key, read again and shared by groups. The Kinesis model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union, cast

from ._config import BEHIND, IDLES, Config, choice, counts, either, listed, ms, switch
from ._errors import NOTHING, Error, Lagged, check, error
from ._handle import Buffer, Handle, bytes_of, opened, patiently, text
from ._native import ffi, lib
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

    @staticmethod
    def _put(c: Any) -> Optional["SequenceNumber"]:
        """None where it was gathered alone."""
        return None if c.shard == lib.RINGWAY_NONE else SequenceNumber._of(c)


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
    there is, of the next one, and of the first that is not on disk (0: it has none), and whether it is "open",
    "closed" or "retired"."""

    shard: int
    parents: Tuple[int, ...]
    first: int
    last: int
    created_ms: int
    closed_ms: Optional[int]
    oldest: int
    next: int
    durable_position: int
    state: str


@dataclass(frozen=True)
class ConsumerInfo:
    """A registered consumer: what happens when it falls behind, and by their names in ringway.h when it was
    registered, which participant reads as it (0: none), how far it is behind, and totals."""

    name: str
    behind: str
    counts: Mapping[str, int]


_NO_COUNTS = ("name", "policy", "reserved")


def _hash_key(c: Any) -> int:
    return int(c.high) << 64 | int(c.low)


def _halves(hash_key: int) -> List[int]:
    return [hash_key >> 64, hash_key & (1 << 64) - 1]


def _say(place: Any, record: Put, kept: List[Any]) -> None:
    key, data = text(record.partition_key), bytes_of(record.data)
    place.partition_key, place.data, place.len = key, data, len(data)
    kept += [key, data]
    if record.hash_key is not None:
        hash_key = ffi.new("ringway_hash_key_t *", _halves(record.hash_key))
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
    ) -> Optional[SequenceNumber]:
        """Puts a record; its number, or None where this producer gathers records to put many as one. Waits up
        to `timeout` seconds for room (None: for ever), then raises Full."""
        kept: List[Any] = []
        place, outcome = ffi.new("ringway_put_t *"), ffi.new("ringway_put_outcome_t *")
        _say(place, Put(partition_key, data, hash_key), kept)
        call, full = lib.ringway_stream_put, (lib.RINGWAY_FULL,)
        check(patiently(lambda ns: call(self._handle, place, ns, outcome), timeout, full))
        return SequenceNumber._put(outcome.sequence_number)

    def put_batch(
        self, records: Sequence[Put], timeout: float = 0
    ) -> List[Union[SequenceNumber, Error, None]]:
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
            SequenceNumber._put(one.sequence_number) if one.status == 0 else error(one.status)
            for one in outcomes
        ]

    def flush(self, timeout: Optional[float] = 0) -> None:
        """Puts what was gathered, and waits until all that anybody put is on the stream's disk, if it has one.
        Waits up to `timeout` seconds for room (None: for ever), then raises Full, and what was not put is put by
        the next put or flush."""
        call, full = lib.ringway_stream_flush, (lib.RINGWAY_FULL,)
        check(patiently(lambda ns: call(self._handle, ns), timeout, full))


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
    """Reads a stream, alone, as a worker of a group, or as a registered consumer. One thread at a time."""

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
        return self._producer(Config("stream_producer"))

    def aggregating(
        self,
        *,
        max_bytes: Optional[int] = None,
        max_records: Optional[int] = None,
        linger: Optional[float] = None,
    ) -> StreamProducer:
        """Becomes a producer that puts many small records as one: put() gathers them, and returns None. What
        was gathered is put when a record of so many bytes or records is full or the first has waited for
        `linger` seconds (each put looks), by flush(), and at the end of the with statement; before that no
        process has it but this one."""
        return self._producer(
            Config(
                "stream_producer",
                aggregate=lib.RINGWAY_ON,
                aggregate_bytes=max_bytes,
                aggregate_records=max_records,
                linger_ms=ms(linger),
            )
        )

    def _producer(self, config: Config) -> StreamProducer:
        call = lib.ringway_stream_producer_open
        return StreamProducer(
            opened("ringway_stream_producer_t", lambda out: call(self._handle, config.c, out))
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
        return self._reader(
            Config(
                "stream_reader",
                iterator=choice(_ITERATORS, iterator),
                shard=shard,
                sequence_number=sequence_number,
                timestamp_ms=timestamp_ms,
                reliability=either(reliable, lib.RINGWAY_RELIABLE, lib.RINGWAY_LOSSY),
                idle=choice(IDLES, idle),
            )
        )

    def worker(
        self, group: str, start: str = "trim_horizon", *, idle: str = "spin_then_park"
    ) -> StreamReader:
        """Becomes a worker of a group, which is made if there is none, to read from "trim_horizon" or
        "latest" on."""
        return self._reader(
            Config(
                "stream_reader",
                group=group,
                iterator=choice(_ITERATORS, start),
                idle=choice(IDLES, idle),
            )
        )

    def consumer(
        self,
        name: str,
        iterator: str = "latest",
        *,
        sequence_number: Optional[SequenceNumber] = None,
        timestamp_ms: Optional[int] = None,
        take_over: bool = False,
    ) -> StreamReader:
        """Reads as a registered consumer, see register_consumer(). One reader at a time, unless it is to take
        the place of the present one."""
        return self._reader(
            Config(
                "stream_reader",
                consumer=name,
                iterator=choice(_ITERATORS, iterator),
                sequence_number=sequence_number,
                timestamp_ms=timestamp_ms,
                take_over=switch(take_over),
            )
        )

    def _reader(self, config: Config) -> StreamReader:
        call = lib.ringway_stream_reader_open
        return StreamReader(
            opened("ringway_stream_reader_t", lambda out: call(self._handle, config.c, out))
        )

    def _change(self, what: int, **fields: Any) -> Any:
        config, changed = Config("change", what=what, **fields), ffi.new("ringway_changed_t *")
        check(lib.ringway_stream_change(self._handle, config.c, changed))
        return changed

    def split(self, shard: int, hash_key: Optional[int] = None) -> Tuple[int, int]:
        """Replaces a shard by two, cut at a hash key or in the middle; the two."""
        at = None
        if hash_key is not None:
            at = ffi.new("ringway_hash_key_t *", _halves(hash_key))
        changed = self._change(lib.RINGWAY_SPLIT, shard=shard, hash_key=at)
        return int(changed.shards[0]), int(changed.shards[1])

    def merge(self, shard: int, second: int) -> int:
        """Replaces two shards whose hash keys follow each other by one; the one."""
        return int(self._change(lib.RINGWAY_MERGE, shard=shard, second=second).shards[0])

    def scale(self, count: int) -> int:
        """Splits and merges until so many shards of equal ranges are open; how many changes that took."""
        return int(self._change(lib.RINGWAY_SCALE, count=count).count)

    def retire(self) -> int:
        """Gives back the memory of closed shards that everybody has read; of how many."""
        return int(self._change(lib.RINGWAY_RETIRE).count)

    def retain(
        self, age: Optional[float] = None, *, bytes_per_shard: Optional[int] = None
    ) -> None:
        """Keeps the records of a durable stream for `age` seconds, and so many bytes of each shard at most;
        what is None stays as it is."""
        self._change(
            lib.RINGWAY_RETAIN, retention_ms=ms(age), retention_bytes=bytes_per_shard
        )

    def register_consumer(self, name: str, behind: str = "block") -> None:
        """Registers a consumer. When it falls behind, puts wait for it ("block") or fail ("fail"), it is told
        what it missed ("drop_oldest"), or it loses its place ("evict")."""
        self._change(lib.RINGWAY_REGISTER, name=name, behind=choice(BEHIND, behind))

    def deregister_consumer(self, name: str) -> None:
        """Deregisters a consumer; who reads as it is told."""
        self._change(lib.RINGWAY_DEREGISTER, name=name)

    def remove_group(self, name: str) -> None:
        """Removes a group with its checkpoints; its workers are told."""
        self._change(lib.RINGWAY_REMOVE_GROUP, name=name)

    def consumers(self) -> List[ConsumerInfo]:
        """The registered consumers."""
        words, call = {number: word for word, number in BEHIND.items()}, lib.ringway_stream_consumers
        return listed(
            "consumer_info",
            lambda all_, room, count: call(self._handle, all_, room, count),
            lambda one: ConsumerInfo(
                ffi.string(one.name).decode(),
                words.get(one.policy, "unknown"),
                {name: int(getattr(one, name)) for name in dir(one) if name not in _NO_COUNTS},
            ),
        )

    def shards(self) -> List[ShardInfo]:
        """Every shard that was ever made, by number."""
        call = lib.ringway_stream_shards
        return listed(
            "shard_info",
            lambda all_, room, count: call(self._handle, all_, room, count),
            lambda one: ShardInfo(
                int(one.shard),
                tuple(int(parent) for parent in one.parents if parent != lib.RINGWAY_NONE),
                _hash_key(one.first),
                _hash_key(one.last),
                int(one.created_ms),
                int(one.closed_ms) or None,
                int(one.oldest),
                int(one.next),
                int(one.durable_position),
                _STATES.get(one.state, "unknown"),
            ),
        )

    def stats(self) -> Dict[str, int]:
        """Counts."""
        return counts("stream", self._handle)
