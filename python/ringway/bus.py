"""Buses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional

from ._errors import check
from ._handle import Handle, opened, text
from ._native import ffi, lib
from .channel import Channel
from .queue import Queue
from .stream import Stream
from .topic import Topic

HOW = {"open_or_create": 0, "open": 1, "create": 2}
_LEVELS = {"memory": 1, "durable": 2, "async": 3}
_KINDS = {1: "channel", 2: "queue", 3: "stream", 4: "topic"}


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a bus: its name, "channel", "queue", "stream", "topic" or "unknown", and the bytes of
    its files."""

    name: str
    kind: str
    bytes: int


def _choice(config: Any, field: str, choices: dict[str, int], value: Optional[str]) -> None:
    if value is not None:
        setattr(config, field, choices[value])


def _number(config: Any, field: str, value: Optional[int]) -> None:
    if value is not None:
        setattr(config, field, value)


def _ms(config: Any, field: str, seconds: Optional[float]) -> None:
    if seconds is not None:
        setattr(config, field, round(seconds * 1000))


def _switch(config: Any, field: str, value: Optional[bool]) -> None:
    if value is not None:
        setattr(config, field, lib.RINGWAY_ON if value else lib.RINGWAY_OFF)


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
        config = ffi.new("ringway_bus_config_t *")
        lib.ringway_bus_config_init(config)
        kept = (text(name), text(root), text(participant_name), text(journal_root))
        config.root, config.participant_name, config.journal_root = kept[1], kept[2], kept[3]
        _choice(config, "how", HOW, how)
        _number(config, "pool_bytes", pool_bytes)
        _number(config, "mode", mode)
        _number(config, "group", group)
        return cls(opened("ringway_bus_t", lambda out: lib.ringway_bus_open(kept[0], config, out)))

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
        config = ffi.new("ringway_bus_config_t *")
        lib.ringway_bus_config_init(config)
        kept = (text(root), text(journal_root))
        config.root, config.journal_root = kept
        check(lib.ringway_bus_destroy(text(name), config, int(force)))

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
        config = ffi.new("ringway_channel_config_t *")
        lib.ringway_channel_config_init(config)
        _choice(config, "how", HOW, how)
        _number(config, "slots", slots)
        _number(config, "stride", stride)
        _number(config, "readers", readers)
        _ms(config, "stall_timeout_ms", stall_timeout)
        if exclusive is not None:
            config.producers = lib.RINGWAY_EXCLUSIVE if exclusive else lib.RINGWAY_SHARED
        if drop_oldest is not None:
            config.overflow = lib.RINGWAY_DROP_OLDEST if drop_oldest else lib.RINGWAY_REFUSE
        call = lib.ringway_channel_open
        return Channel(
            opened("ringway_channel_t", lambda out: call(self._handle, text(name), config, out))
        )

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
    ) -> Queue:
        """Opens or creates a queue; times in seconds. Options that are given have to agree with one that
        exists. dedup: "by_id", "by_content", "optional" or "none"; FIFO queues only. durability: "memory",
        "async" or "durable"."""
        config = ffi.new("ringway_queue_config_t *")
        lib.ringway_queue_config_init(config)
        _choice(config, "how", HOW, how)
        if fifo is not None:
            config.kind = lib.RINGWAY_FIFO if fifo else lib.RINGWAY_STANDARD
        _number(config, "slots", slots)
        _number(config, "stride", stride)
        _number(config, "max_bytes", max_bytes)
        _number(config, "max_message_bytes", max_message_bytes)
        _ms(config, "visibility_ms", visibility)
        _ms(config, "delay_ms", delay)
        _ms(config, "retention_ms", retention)
        _ms(config, "receive_wait_ms", receive_wait)
        _switch(config, "redeliver_on_death", redeliver_on_death)
        _choice(config, "dedup", {"by_id": 1, "by_content": 2, "optional": 3, "none": 4}, dedup)
        _choice(config, "durability", _LEVELS, durability)
        _switch(config, "read_ahead", read_ahead)
        _number(config, "journal_max_bytes", journal_max_bytes)
        _number(config, "dedup_ids", dedup_ids)
        _ms(config, "dedup_window_ms", dedup_window)
        if dedup_in_group is not None:
            config.dedup_scope = (
                lib.RINGWAY_DEDUP_IN_GROUP if dedup_in_group else lib.RINGWAY_DEDUP_IN_QUEUE
            )
        call = lib.ringway_queue_open
        return Queue(
            opened("ringway_queue_t", lambda out: call(self._handle, text(name), config, out))
        )

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
        kinesis_limits: Optional[bool] = None,
        lease_timeout: Optional[float] = None,
        stall_timeout: Optional[float] = None,
        durability: Optional[str] = None,
        retention: Optional[float] = None,
        retention_bytes: Optional[int] = None,
        on_demand: Optional[bool] = None,
    ) -> Stream:
        """Opens or creates a stream; times in seconds. Options that are given have to agree with one that
        exists, but for the number of shards. durability: "memory" or "durable", with a retention."""
        config = ffi.new("ringway_stream_config_t *")
        lib.ringway_stream_config_init(config)
        _choice(config, "how", HOW, how)
        _number(config, "shards", shards)
        _number(config, "slots", slots)
        _number(config, "stride", stride)
        _number(config, "readers", readers)
        _ms(config, "lease_timeout_ms", lease_timeout)
        _ms(config, "stall_timeout_ms", stall_timeout)
        _switch(config, "kinesis_limits", kinesis_limits)
        _switch(config, "on_demand", on_demand)
        _choice(config, "durability", _LEVELS, durability)
        _ms(config, "retention_ms", retention)
        _number(config, "retention_bytes", retention_bytes)
        if drop_oldest is not None:
            config.overflow = lib.RINGWAY_DROP_OLDEST if drop_oldest else lib.RINGWAY_REFUSE
        call = lib.ringway_stream_open
        return Stream(
            opened("ringway_stream_t", lambda out: call(self._handle, text(name), config, out))
        )

    def topic(
        self,
        name: str,
        how: str = "open_or_create",
        *,
        fifo: Optional[bool] = None,
        listen_slots: Optional[int] = None,
    ) -> Topic:
        """Opens or creates a topic."""
        config = ffi.new("ringway_topic_config_t *")
        lib.ringway_topic_config_init(config)
        _choice(config, "how", HOW, how)
        _number(config, "listen_slots", listen_slots)
        if fifo is not None:
            config.kind = lib.RINGWAY_FIFO if fifo else lib.RINGWAY_STANDARD
        call = lib.ringway_topic_open
        return Topic(
            opened("ringway_topic_t", lambda out: call(self._handle, text(name), config, out))
        )

    def objects(self) -> List[ObjectInfo]:
        """Every object, by name, and behind them the topics."""
        count = ffi.new("size_t *", 16)
        while True:
            room = count[0]
            objects = ffi.new("ringway_object_info_t[]", room)
            check(lib.ringway_bus_objects(self._handle, objects, room, count))
            if count[0] <= room:
                break
        return [
            ObjectInfo(
                ffi.string(objects[i].name).decode(),
                _KINDS.get(objects[i].object, "unknown"),
                objects[i].bytes,
            )
            for i in range(count[0])
        ]

    def remove(self, name: str) -> None:
        """Removes a channel, queue or stream; whoever has it open is told."""
        check(lib.ringway_bus_remove(self._handle, text(name), 0))

    def remove_topic(self, name: str) -> None:
        """Removes a topic; whoever has it open is told."""
        check(lib.ringway_bus_remove(self._handle, text(name), lib.RINGWAY_TOPIC))
