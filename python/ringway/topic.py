"""Topics: what is published reaches every queue that wants it, and every listener. The SNS model."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union, cast

from ._errors import NOTHING, Error, Lagged, check, error
from ._handle import Buffer, Handle, opened, patiently, text
from ._native import ffi, lib
from .queue import Attribute, Outgoing, attributes_of, parts_of, say, string

_SCOPES = {"attributes": 1, "body": 2}


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
    """A subscription; `filtered` is "attributes", "body" or None: it takes all."""

    id: int
    queue: str
    raw: bool
    dead_letter: Optional[str]
    filtered: Optional[str]


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
    ) -> Published:
        """Publishes a message to every queue and listener that wants it. When it returns, the message
        survives this process, and mostly it is delivered."""
        message = Outgoing(
            body, group=group, dedup_id=dedup_id, attributes=attributes or {}, subject=subject
        )
        outcome = self.publish_batch([message])[0]
        if isinstance(outcome, Error):
            raise outcome
        return outcome

    def publish_batch(self, messages: Sequence[Outgoing]) -> List[Union[Published, Error]]:
        """Publishes messages in order; what became of each."""
        kept: List[Any] = []
        places = ffi.new("ringway_outgoing_t[]", len(messages))
        published = ffi.new("ringway_published_t[]", len(messages))
        for at, message in enumerate(messages):
            say(ffi.addressof(places, at), message, kept)
        call = lib.ringway_publisher_publish_batch
        check(call(self._handle, places, len(messages), published))
        return [
            Published(_id(one.message_id), bool(one.duplicate))
            if one.status == 0
            else error(one.status)
            for one in published
        ]


class Listener(Handle):
    """Hears what is published to a topic, and holds nobody up. One thread at a time."""

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

    def listener(self) -> Listener:
        """Becomes a listener: hears every message whose publish begins from now on."""
        call = lib.ringway_listener_open
        return Listener(opened("ringway_listener_t", lambda out: call(self._handle, out)))

    def subscribe(
        self,
        queue: str,
        *,
        filter: Union[str, Mapping[str, Any], None] = None,
        scope: str = "attributes",
        raw: bool = False,
        dead_letter: Optional[str] = None,
    ) -> int:
        """Subscribes a queue by name; the subscription's number. `filter` is a policy as in SNS, as JSON or
        as what that is made of; scope: "attributes" or "body". Not raw, it gets JSON notifications."""
        policy = json.dumps(filter) if isinstance(filter, Mapping) else filter
        kept = (text(queue), text(policy), text(dead_letter))
        config, out = ffi.new("ringway_subscription_config_t *"), ffi.new("uint64_t *")
        lib.ringway_subscription_config_init(config)
        config.queue, config.filter, config.dead_letter = kept
        config.scope = _SCOPES[scope]
        config.raw = lib.RINGWAY_ON if raw else lib.RINGWAY_OFF
        check(lib.ringway_topic_subscribe(self._handle, config, out))
        return int(out[0])

    def unsubscribe(self, subscription: Union[int, Subscription]) -> None:
        """Ends a subscription. What was published before may still be delivered."""
        number = subscription.id if isinstance(subscription, Subscription) else subscription
        check(lib.ringway_topic_unsubscribe(self._handle, number))

    def subscriptions(self) -> List[Subscription]:
        """All of them, by number."""
        count = ffi.new("size_t *", 16)
        while True:
            room = count[0]
            all_ = ffi.new("ringway_subscription_t[]", room)
            check(lib.ringway_topic_subscriptions(self._handle, all_, room, count))
            if count[0] <= room:
                break
        return [
            Subscription(
                int(one.id),
                str(ffi.string(one.queue).decode()),
                one.raw == lib.RINGWAY_ON,
                ffi.string(one.dead_letter).decode() or None,
                {1: "attributes", 2: "body"}.get(one.scope),
            )
            for one in all_[0 : count[0]]
        ]

    def stats(self) -> Dict[str, int]:
        """Counts."""
        stats = ffi.new("ringway_topic_stats_t *")
        check(lib.ringway_topic_stats(self._handle, stats, ffi.sizeof(stats[0])))
        return {name: int(getattr(stats, name)) for name in dir(stats)}
