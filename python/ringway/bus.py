"""Buses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Type, TypeVar, Union

from ._config import HOW, Config, choice, either, listed, ms, switch
from ._errors import check
from ._handle import Handle, opened, text
from ._native import ffi, lib
from .channel import Channel
from .queue import Queue
from .stream import Stream
from .topic import Topic

_LEVELS = {"memory": 1, "durable": 2, "async": 3}
_DEDUPS = {"by_id": 1, "by_content": 2, "optional": 3, "none": 4}
_KINDS = {1: "channel", 2: "queue", 3: "stream", 4: "topic"}

Object = TypeVar("Object", Channel, Queue, Stream, Topic)


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a bus: its name, "channel", "queue", "stream", "topic" or "unknown", and the bytes of
    its files."""

    name: str
    kind: str
    bytes: int


class Bus(Handle):
    """This process's membership of a bus. Any thread."""

    @classmethod
    def open(
        cls,
        name: str,
        how: str = "open_or_create",
        *,
        root: Optional[str] = None,
        participant_name: Optional[str] = None,
        pool_bytes: Optional[int] = None,
        mode: Optional[int] = None,
        group: Optional[int] = None,
        journal_root: Optional[str] = None,
    ) -> "Bus":
        """Opens the bus, or creates it: how is "open_or_create", "open" or "create". `journal_root`: a
        directory on a disk, for durable queues."""
        config = Config(
            "bus",
            how=choice(HOW, how),
            root=root,
            participant_name=participant_name,
            journal_root=journal_root,
            pool_bytes=pool_bytes,
            mode=mode,
            group=group,
        )
        called = text(name)
        return cls(opened("ringway_bus_t", lambda out: lib.ringway_bus_open(called, config.c, out)))

    @staticmethod
    def destroy(
        name: str,
        *,
        root: Optional[str] = None,
        journal_root: Optional[str] = None,
        force: bool = False,
    ) -> None:
        """Removes a whole bus with its journals; refused while anybody lives on it, or a journal lies
        elsewhere, unless `force`."""
        config = Config("bus", root=root, journal_root=journal_root)
        check(lib.ringway_bus_destroy(text(name), config.c, int(force)))

    def _open(self, kind: Type[Object], name: str, config: Config) -> Object:
        word = kind.__name__.lower()
        call, called = getattr(lib, f"ringway_{word}_open"), text(name)
        return kind(
            opened(f"ringway_{word}_t", lambda out: call(self._handle, called, config.c, out))
        )

    def channel(
        self,
        name: str,
        how: str = "open_or_create",
        *,
        slots: Optional[int] = None,
        stride: Optional[int] = None,
        readers: Optional[int] = None,
        exclusive: Optional[bool] = None,
        drop_oldest: Optional[bool] = None,
        stall_timeout: Optional[float] = None,
    ) -> Channel:
        """Opens or creates a channel. Options that are given have to agree with one that exists."""
        config = Config(
            "channel",
            how=choice(HOW, how),
            slots=slots,
            stride=stride,
            readers=readers,
            stall_timeout_ms=ms(stall_timeout),
            producers=either(exclusive, lib.RINGWAY_EXCLUSIVE, lib.RINGWAY_SHARED),
            overflow=either(drop_oldest, lib.RINGWAY_DROP_OLDEST, lib.RINGWAY_REFUSE),
        )
        return self._open(Channel, name, config)

    def queue(
        self,
        name: str,
        how: str = "open_or_create",
        *,
        fifo: Optional[bool] = None,
        slots: Optional[int] = None,
        stride: Optional[int] = None,
        max_bytes: Optional[int] = None,
        visibility: Optional[float] = None,
        delay: Optional[float] = None,
        retention: Optional[float] = None,
        max_message_bytes: Optional[int] = None,
        receive_wait: Optional[float] = None,
        redeliver_on_death: Optional[bool] = None,
        dedup: Optional[str] = None,
        dedup_ids: Optional[int] = None,
        dedup_window: Optional[float] = None,
        dedup_in_group: Optional[bool] = None,
        durability: Optional[str] = None,
        read_ahead: Optional[bool] = None,
        journal_max_bytes: Optional[int] = None,
        spill: Optional[bool] = None,
    ) -> Queue:
        """Opens or creates a queue; times in seconds. Options that are given have to agree with one that
        exists. dedup: "by_id", "by_content", "optional" or "none"; FIFO queues only. durability: "memory",
        "async" or "durable"; spill: what does not fit into memory lies on a disk."""
        in_group, in_queue = lib.RINGWAY_DEDUP_IN_GROUP, lib.RINGWAY_DEDUP_IN_QUEUE
        config = Config(
            "queue",
            how=choice(HOW, how),
            kind=either(fifo, lib.RINGWAY_FIFO, lib.RINGWAY_STANDARD),
            slots=slots,
            stride=stride,
            max_bytes=max_bytes,
            max_message_bytes=max_message_bytes,
            visibility_ms=ms(visibility),
            delay_ms=ms(delay),
            retention_ms=ms(retention),
            receive_wait_ms=ms(receive_wait),
            redeliver_on_death=switch(redeliver_on_death),
            dedup=choice(_DEDUPS, dedup),
            dedup_ids=dedup_ids,
            dedup_window_ms=ms(dedup_window),
            dedup_scope=either(dedup_in_group, in_group, in_queue),
            durability=choice(_LEVELS, durability),
            read_ahead=switch(read_ahead),
            journal_max_bytes=journal_max_bytes,
            spill=switch(spill),
        )
        return self._open(Queue, name, config)

    def stream(
        self,
        name: str,
        how: str = "open_or_create",
        *,
        shards: Optional[int] = None,
        slots: Optional[int] = None,
        stride: Optional[int] = None,
        readers: Optional[int] = None,
        drop_oldest: Optional[bool] = None,
        exclusive: Optional[bool] = None,
        kinesis_limits: Optional[bool] = None,
        lease_timeout: Optional[float] = None,
        stall_timeout: Optional[float] = None,
        durability: Optional[str] = None,
        retention: Optional[float] = None,
        retention_bytes: Optional[int] = None,
        on_demand: Optional[bool] = None,
    ) -> Stream:
        """Opens or creates a stream; times in seconds. Options that are given have to agree with one that
        exists, but for the number of shards. durability: "memory", "async" or "durable", the latter two with
        a retention. exclusive: one producer for each shard at a time, in memory."""
        config = Config(
            "stream",
            how=choice(HOW, how),
            shards=shards,
            slots=slots,
            stride=stride,
            readers=readers,
            overflow=either(drop_oldest, lib.RINGWAY_DROP_OLDEST, lib.RINGWAY_REFUSE),
            producers=either(exclusive, lib.RINGWAY_EXCLUSIVE, lib.RINGWAY_SHARED),
            kinesis_limits=switch(kinesis_limits),
            lease_timeout_ms=ms(lease_timeout),
            stall_timeout_ms=ms(stall_timeout),
            durability=choice(_LEVELS, durability),
            retention_ms=ms(retention),
            retention_bytes=retention_bytes,
            on_demand=switch(on_demand),
        )
        return self._open(Stream, name, config)

    def topic(
        self,
        name: str,
        how: str = "open_or_create",
        *,
        fifo: Optional[bool] = None,
        listen_slots: Optional[int] = None,
        archive_days: Optional[int] = None,
        archive_slots: Optional[int] = None,
        durability: Optional[str] = None,
    ) -> Topic:
        """Opens or creates a topic. A FIFO topic may keep what was published for so many days, and so many
        messages at most, to be replayed to new subscriptions. durability: "memory" or "durable": a publish waits
        for the disk, and subscriptions and what was not delivered survive the machine."""
        config = Config(
            "topic",
            how=choice(HOW, how),
            kind=either(fifo, lib.RINGWAY_FIFO, lib.RINGWAY_STANDARD),
            listen_slots=listen_slots,
            archive_days=archive_days,
            archive_slots=archive_slots,
            durability=choice(_LEVELS, durability),
        )
        return self._open(Topic, name, config)

    def set_queue_policy(self, queue: str, policy: Union[str, Mapping[str, Any], None]) -> None:
        """Says which topics may deliver to a queue, as JSON or as what that is made of, in the words of SQS; None:
        all may. It counts for every process from the next message on, until the machine is restarted."""
        said = json.dumps(policy) if isinstance(policy, Mapping) else policy
        check(lib.ringway_bus_set_queue_policy(self._handle, text(queue), text(said)))

    def queue_policy(self, queue: str) -> Optional[str]:
        """What was said so, as JSON; None: all may."""
        call, len_, room = lib.ringway_bus_queue_policy, ffi.new("size_t *"), 1
        while True:
            buffer = ffi.new("char[]", room)
            status = call(self._handle, text(queue), buffer, room, len_)
            if status != lib.RINGWAY_E_BUFFER_TOO_SMALL:
                check(status)
                said: bytes = ffi.string(buffer)
                return said.decode() or None
            room = len_[0] + 1

    def objects(self) -> List[ObjectInfo]:
        """Every object, by name, and behind them the topics."""
        call = lib.ringway_bus_objects
        return listed(
            "object_info",
            lambda all_, room, count: call(self._handle, all_, room, count),
            lambda one: ObjectInfo(
                ffi.string(one.name).decode(), _KINDS.get(one.object, "unknown"), one.bytes
            ),
        )

    def remove(self, name: str) -> None:
        """Removes a channel, queue or stream; whoever has it open is told."""
        check(lib.ringway_bus_remove(self._handle, text(name), 0))

    def remove_topic(self, name: str) -> None:
        """Removes a topic; whoever has it open is told."""
        check(lib.ringway_bus_remove(self._handle, text(name), lib.RINGWAY_TOPIC))
