"""Topics: what is published reaches every queue that wants it, and every listener. The SNS model."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union, cast

from ._config import BEHIND, IDLES, SCOPES, Config, choice, counts, listed, switch
from ._errors import NOTHING, Error, Lagged, check, error
from ._handle import Buffer, Handle, descriptor, opened, patiently
from ._native import ffi, lib
from .queue import Attribute, Outgoing, attributes_of, parts_of, say, string

_PROTOCOLS = {"queue": 1, "stream": 2, "exec": 3, "firehose": 4}
_REPLAYS = {1: "pending", 2: "in_progress", 3: "completed"}


@dataclass(frozen=True)
class Published:
    """What became of a message: its id, and whether it repeats one to a FIFO topic and was not published
    again."""

    message_id: uuid.UUID
    duplicate: bool


@dataclass(frozen=True)
class Notification:
    """A message that was heard; attributes and types as those of Message."""

    body: bytes
    message_id: uuid.UUID
    published_ms: int
    subject: Optional[str] = None
    group: Optional[str] = None
    attributes: Mapping[str, Union[str, bytes]] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subscription:
    """A subscription: to a "queue", a "stream" or the queue of an "exec" or a "firehose". `filtered` is "attributes", "body" or
    None: it takes all; `replay` is "pending", "in_progress", "completed" or None: it began without one."""

    id: int
    protocol: str
    endpoint: str
    raw: bool
    dead_letter: Optional[str]
    filtered: Optional[str]
    replay: Optional[str]
    delivered: int
    retried: int
    dead_lettered: int
    failed: int


def _json(policy: Union[str, Mapping[str, Any], None]) -> Optional[str]:
    return json.dumps(policy) if isinstance(policy, Mapping) else policy


def _published(one: Any) -> Published:
    return Published(_id(one.message_id), bool(one.duplicate))


def _id(halves: Any) -> uuid.UUID:
    return uuid.UUID(int=int(halves[0]) << 64 | int(halves[1]))


class Publisher(Handle):
    """Publishes to a topic. One thread at a time."""

    def publish(
        self,
        body: Buffer,
        *,
        subject: Optional[str] = None,
        group: Optional[str] = None,
        dedup_id: Optional[str] = None,
        attributes: Optional[Mapping[str, Attribute]] = None,
        trace_header: Optional[str] = None,
        per_protocol: bool = False,
        timeout: Optional[float] = 0,
    ) -> Published:
        """Publishes a message to every queue, stream and listener that wants it. When it returns, the message
        survives this process, and mostly it is delivered. Waits up to `timeout` seconds (None: for ever) for
        a listener that is to miss nothing, then raises Full."""
        message = Outgoing(
            body,
            group=group,
            dedup_id=dedup_id,
            trace_header=trace_header,
            attributes=attributes or {},
            subject=subject,
            per_protocol=per_protocol,
        )
        held_up = (lib.RINGWAY_STALLED,)
        published: Any = None

        def call(ns: int) -> int:
            nonlocal published
            published = self._publish([message], ns)
            return int(published[0].status)

        check(patiently(call, timeout, held_up))
        return _published(published[0])

    def publish_batch(
        self, messages: Sequence[Outgoing], timeout: float = 0
    ) -> List[Union[Published, Error]]:
        """Publishes messages in order; what became of each, which waited up to `timeout` seconds."""
        published = self._publish(messages, max(0, int(timeout * 1e9)))
        return [_published(one) if one.status == 0 else error(one.status) for one in published]

    def _publish(self, messages: Sequence[Outgoing], ns: int) -> Any:
        kept: List[Any] = []
        places = ffi.new("ringway_outgoing_t[]", len(messages))
        published = ffi.new("ringway_published_t[]", len(messages))
        for at, message in enumerate(messages):
            say(ffi.addressof(places, at), message, kept)
        call = lib.ringway_publisher_publish_batch
        check(call(self._handle, places, len(messages), ns, published))
        return published


class Listener(Handle):
    """Hears what is published to a topic, and holds nobody up unless it is to. One thread at a time."""

    def __init__(self, handle: Any) -> None:
        super().__init__(handle)
        self._message = opened("ringway_message_t", lib.ringway_message_open)

    def close(self) -> None:
        """Closes; twice is no error."""
        message, self._message = getattr(self, "_message", ffi.NULL), ffi.NULL
        lib.ringway_close(message)
        super().close()

    def __del__(self) -> None:
        if getattr(self, "_message", ffi.NULL) != ffi.NULL and lib is not None:
            lib.ringway_close(self._message)
            self._message = ffi.NULL
        super().__del__()

    def hear(self, timeout: Optional[float] = 0) -> Optional[Notification]:
        """The next message; None when none came within `timeout` seconds (None: for ever). Raises Lagged
        when some were missed."""
        missed = ffi.new("uint64_t *")
        call = lib.ringway_listener_hear
        status = patiently(
            lambda ns: call(self._handle, self._message, ns, missed), timeout, NOTHING
        )
        if status in NOTHING:
            return None
        if status == lib.RINGWAY_LAGGED:
            lagged = cast(Lagged, error(status))
            lagged.missed = int(missed[0])
            raise lagged
        check(status)
        parts = parts_of(self._message)
        attributes, types = attributes_of(parts)
        return Notification(
            bytes(ffi.buffer(parts.body, parts.len)),
            _id(parts.message_id),
            int(parts.published_ms),
            string(parts.subject),
            string(parts.group),
            attributes,
            types,
        )

    def fileno(self) -> int:
        """A descriptor for select, poll or asyncio: readable when there is something. Then hear until None,
        which arms it again."""
        return descriptor(self)

    def notifications(self, timeout: Optional[float] = None) -> Iterator[Notification]:
        """Messages as they come, until none has come for `timeout` seconds."""
        while True:
            heard = self.hear(timeout)
            if heard is None:
                return
            yield heard


class Topic(Handle):
    """A topic, open here. Any thread."""

    def publisher(self) -> Publisher:
        """Becomes a publisher."""
        call = lib.ringway_publisher_open
        return Publisher(opened("ringway_publisher_t", lambda out: call(self._handle, out)))

    def listener(
        self,
        *,
        filter: Union[str, Mapping[str, Any], None] = None,
        scope: str = "attributes",
        behind: str = "drop_oldest",
        idle: str = "spin_then_park",
    ) -> Listener:
        """Becomes a listener: hears every message whose publish begins from now on, and that the policy
        `filter` wants. When it falls behind it is told what it missed ("drop_oldest"), publishers wait for it
        ("block"), or it hears no more ("evict")."""
        config = Config(
            "listener",
            filter=_json(filter),
            scope=choice(SCOPES, scope),
            behind=choice(BEHIND, behind),
            idle=choice(IDLES, idle),
        )
        call = lib.ringway_listener_open
        return Listener(opened("ringway_listener_t", lambda out: call(self._handle, config.c, out)))

    def subscribe(
        self,
        endpoint: str,
        *,
        protocol: str = "queue",
        filter: Union[str, Mapping[str, Any], None] = None,
        scope: str = "attributes",
        raw: bool = False,
        dead_letter: Optional[str] = None,
        delivery_policy: Union[str, Mapping[str, Any], None] = None,
        replay: Union[str, Mapping[str, Any], None] = None,
    ) -> int:
        """Subscribes a "queue", a "stream", or the queue of an "exec" (`ringway topic exec`) or a "firehose"
        (`ringway topic firehose`) by name, "BUS/NAME" of another bus; the subscription's number.
        Policies are as in SNS, as JSON or as what that is made of: `filter` says what it wants (scope:
        "attributes" or "body"), `delivery_policy` when what failed is tried again, `replay` what of the
        topic's archive it gets first. Not raw, it gets JSON notifications."""
        config, out = (
            Config(
                "subscription",
                endpoint=endpoint,
                protocol=choice(_PROTOCOLS, protocol),
                filter=_json(filter),
                scope=choice(SCOPES, scope),
                raw=switch(raw),
                dead_letter=dead_letter,
                delivery_policy=_json(delivery_policy),
                replay=_json(replay),
            ),
            ffi.new("uint64_t *"),
        )
        check(lib.ringway_topic_subscribe(self._handle, config.c, out))
        return int(out[0])

    def unsubscribe(self, subscription: Union[int, Subscription]) -> None:
        """Ends a subscription. What was published before may still be delivered."""
        number = subscription.id if isinstance(subscription, Subscription) else subscription
        check(lib.ringway_topic_unsubscribe(self._handle, number))

    def subscriptions(self) -> List[Subscription]:
        """All of them, by number."""
        call, protocols = lib.ringway_topic_subscriptions, {v: k for k, v in _PROTOCOLS.items()}
        return listed(
            "subscription",
            lambda all_, room, count: call(self._handle, all_, room, count),
            lambda one: Subscription(
                int(one.id),
                protocols.get(one.protocol, "unknown"),
                ffi.string(one.endpoint).decode(),
                one.raw == lib.RINGWAY_ON,
                ffi.string(one.dead_letter).decode() or None,
                {1: "attributes", 2: "body"}.get(one.scope),
                _REPLAYS.get(one.replay),
                int(one.delivered),
                int(one.retried),
                int(one.dead_lettered),
                int(one.failed),
            ),
        )

    def stats(self) -> Dict[str, int]:
        """Counts."""
        return counts("topic", self._handle)
