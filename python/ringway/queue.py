"""Queues: every message is consumed once. The SQS model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ._config import IDLES, Config, choice, counts, listed, ms
from ._errors import NOTHING, Error, check, error
from ._handle import Buffer, Handle, bytes_of, descriptor, opened, patiently, text
from ._native import ffi, lib
from .channel import Reader, lend, send_batch
from .place import Loan, View

if TYPE_CHECKING:
    from .topic import Listener

Attribute = Union[str, int, float, bytes]
"""Text, a number, or bytes. A received number is what it was sent as: see Message.attributes."""


@dataclass(frozen=True)
class Receipt:
    """Names one receive of one message; as text it may go to another process."""

    queue: int
    position: int
    receives: int

    def __str__(self) -> str:
        out = ffi.new("char[]", lib.RINGWAY_RECEIPT_TEXT)
        check(lib.ringway_receipt_format(self._c(), out, len(out)))
        return str(ffi.string(out).decode())

    @staticmethod
    def parse(written: str) -> "Receipt":
        """The receipt that str() wrote."""
        out = ffi.new("ringway_receipt_t *")
        check(lib.ringway_receipt_parse(text(written), out))
        return Receipt._of(out)

    @staticmethod
    def _of(c: Any) -> "Receipt":
        return Receipt(int(c.queue), int(c.position), int(c.receives))

    def _c(self) -> Any:
        out = ffi.new("ringway_receipt_t *")
        out.queue, out.position, out.receives = self.queue, self.position, self.receives
        return out


@dataclass(frozen=True)
class Message:
    """A message that was received. `attributes` has text as str, numbers as the text they were sent as
    in a str too (`types` tells), binary values as bytes."""

    body: bytes
    receipt: Receipt
    sent_ms: int
    group: Optional[str] = None
    dedup_id: Optional[str] = None
    trace_header: Optional[str] = None
    attributes: Mapping[str, Union[str, bytes]] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)

    @property
    def receives(self) -> int:
        """How often it was received, this time included."""
        return self.receipt.receives


@dataclass(frozen=True)
class Sent:
    """What became of a message: its position, and whether it repeats one that was sent before."""

    position: int
    duplicate: bool


@dataclass(frozen=True)
class Outgoing:
    """A message and what is said about it; the delay, in seconds, to queues alone, the subject to topics.
    per_protocol: a topic is given JSON, a text for each protocol and one for "default"."""

    body: Buffer
    group: Optional[str] = None
    dedup_id: Optional[str] = None
    trace_header: Optional[str] = None
    delay: Optional[float] = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    subject: Optional[str] = None
    per_protocol: bool = False


@dataclass(frozen=True)
class Parked:
    """A message that is not offered any more: received too often, and no dead-letter queue took it."""

    position: int
    receives: int
    sent_ms: int


Settled = Union[Receipt, Message, View[Message]]
_MOVES = {"move": 1, "resume": 2, "cancel": 3, "look": 4}


def _receipt(of: Settled) -> Any:
    if isinstance(of, View):
        of = of.about
    return (of.receipt if isinstance(of, Message) else of)._c()


def _attributes(attributes: Mapping[str, Attribute], kept: List[Any]) -> Any:
    all_ = ffi.new("ringway_attribute_t[]", len(attributes))
    for one, (name, value) in zip(all_, attributes.items()):
        kind, data = lib.RINGWAY_BINARY, b""
        if isinstance(value, str):
            kind, data = lib.RINGWAY_STRING, value.encode()
        elif isinstance(value, (int, float)):
            kind, data = lib.RINGWAY_NUMBER, repr(value).encode()
        else:
            data = bytes(value)
        called, bytes_ = text(name), ffi.from_buffer("char[]", data)
        one.name, one.value, one.len, one.data_type = called, bytes_, len(data), kind
        kept += [called, bytes_]
    kept.append(all_)
    return all_


def say(place: Any, message: Outgoing, kept: List[Any]) -> None:
    """Writes a message into a struct; `kept` holds what that points to."""
    lib.ringway_outgoing_init(place)
    data = bytes_of(message.body)
    place.body, place.len = data, len(data)
    group, dedup_id = text(message.group), text(message.dedup_id)
    trace_header, subject = text(message.trace_header), text(message.subject)
    place.group, place.dedup_id = group, dedup_id
    place.trace_header, place.subject = trace_header, subject
    if message.per_protocol:
        place.per_protocol = lib.RINGWAY_ON
    if message.delay is not None:
        place.delay_ms = round(message.delay * 1000)
    kept += [data, group, dedup_id, trace_header, subject]
    if message.attributes:
        place.attributes = _attributes(message.attributes, kept)
        place.attribute_count = len(message.attributes)


def string(c: Any) -> Optional[str]:
    """A string of C that may not be there."""
    return None if c == ffi.NULL else str(ffi.string(c).decode())


def parts_of(message: Any) -> Any:
    """What lies in the memory of a message."""
    parts = ffi.new("ringway_message_parts_t *")
    check(lib.ringway_message_parts(message, parts, ffi.sizeof(parts[0])))
    return parts


def attributes_of(parts: Any) -> Tuple[Dict[str, Union[str, bytes]], Dict[str, str]]:
    """Values and types of the attributes of a message, by name."""
    values: Dict[str, Union[str, bytes]] = {}
    types: Dict[str, str] = {}
    names = {1: "String", 2: "Number", 3: "Binary"}
    for at in range(parts.attribute_count):
        one = parts.attributes[at]
        name, value = ffi.string(one.name).decode(), bytes(ffi.buffer(one.value, one.len))
        values[name] = value if one.data_type == lib.RINGWAY_BINARY else value.decode()
        label = "" if one.label == ffi.NULL else "." + ffi.string(one.label).decode()
        types[name] = names[one.data_type] + label
    return values, types


class Sender(Handle):
    """Sends to a queue. One thread at a time."""

    def send(self, body: Buffer, timeout: Optional[float] = 0) -> int:
        """Sends a message; its position. Waits up to `timeout` seconds for room (None: for ever), then
        raises Full. When it returns, the message survives the death of every process."""
        data, position = bytes_of(body), ffi.new("uint64_t *")
        call, full = lib.ringway_sender_send, (lib.RINGWAY_FULL,)
        check(patiently(lambda ns: call(self._handle, data, len(data), ns, position), timeout, full))
        return int(position[0])

    def send_batch(self, bodies: Sequence[Buffer]) -> int:
        """Sends as many as there is room for, in order; how many. Raises Full when not even one."""
        return send_batch(lib.ringway_sender_send_batch, self._handle, bodies)

    def send_message(self, message: Outgoing) -> Sent:
        """Sends a message with what is said about it."""
        kept: List[Any] = []
        place, sent = ffi.new("ringway_outgoing_t *"), ffi.new("ringway_sent_t *")
        say(place, message, kept)
        check(lib.ringway_sender_send_messages(self._handle, place, 1, sent))
        check(sent.status)
        return Sent(int(sent.position), bool(sent.duplicate))

    def send_messages(self, messages: Sequence[Outgoing]) -> List[Union[Sent, Error]]:
        """Sends messages in order; what became of each. One that can't be sent for a reason of its own
        does not keep the others."""
        kept: List[Any] = []
        places = ffi.new("ringway_outgoing_t[]", len(messages))
        sent = ffi.new("ringway_sent_t[]", len(messages))
        for at, message in enumerate(messages):
            say(ffi.addressof(places, at), message, kept)
        check(lib.ringway_sender_send_messages(self._handle, places, len(messages), sent))
        return [
            Sent(int(one.position), bool(one.duplicate)) if one.status == 0 else error(one.status)
            for one in sent
        ]

    def loan(self, length: int) -> Loan:
        """Bytes to fill and send without a copy."""
        return lend(self, length)


class Receiver(Handle):
    """Receives from a queue. One thread at a time."""

    def __init__(self, handle: Any) -> None:
        super().__init__(handle)
        self._message = opened("ringway_message_t", lib.ringway_message_open)

    def close(self) -> None:
        """Closes; what was received stays in flight until its time-out."""
        message, self._message = getattr(self, "_message", ffi.NULL), ffi.NULL
        lib.ringway_close(message)
        super().close()

    def __del__(self) -> None:
        if getattr(self, "_message", ffi.NULL) != ffi.NULL and lib is not None:
            lib.ringway_close(self._message)
            self._message = ffi.NULL
        super().__del__()

    def receive(self, timeout: Optional[float] = 0) -> Optional[Message]:
        """A message, whole; None when none came within `timeout` seconds (None: for ever). It is
        invisible to others until it is deleted or its visibility time-out passes."""
        received = ffi.new("ringway_received_t *")
        call = lib.ringway_receiver_receive_message
        status = patiently(
            lambda ns: call(self._handle, self._message, ns, received), timeout, NOTHING
        )
        if status in NOTHING:
            return None
        check(status)
        return self._whole(received)

    def _whole(self, received: Any) -> Message:
        parts = parts_of(self._message)
        attributes, types = attributes_of(parts)
        return Message(
            bytes(ffi.buffer(parts.body, parts.len)),
            Receipt._of(received.receipt),
            int(received.sent_ms),
            string(parts.group),
            string(parts.dedup_id),
            string(parts.trace_header),
            attributes,
            types,
        )

    def receive_batch(self, maximum: int = 10, timeout: Optional[float] = 0) -> List[Message]:
        """Up to `maximum` messages as soon as there is one, bodies alone; none when none came in
        time."""
        deliveries, count = ffi.new("ringway_delivery_t[]", max(maximum, 1)), ffi.new("size_t *")
        call = lib.ringway_receiver_receive_batch
        status = patiently(
            lambda ns: call(self._handle, maximum, ns, deliveries, count), timeout, NOTHING
        )
        if status in NOTHING:
            return []
        check(status)
        return [
            Message(
                bytes(ffi.buffer(one.body, one.received.len)),
                Receipt._of(one.received.receipt),
                int(one.received.sent_ms),
            )
            for one in deliveries[0 : count[0]]
        ]

    def view(self, timeout: Optional[float] = 0) -> Optional[View[Message]]:
        """A message in place, for a with statement; `about` is the message without its body. Settle it
        by the queue, or behind the view."""
        delivery = ffi.new("ringway_delivery_t *")
        call = lib.ringway_receiver_view
        status = patiently(lambda ns: call(self._handle, ns, delivery), timeout, NOTHING)
        if status in NOTHING:
            return None
        check(status)
        received = delivery.received
        about = Message(b"", Receipt._of(received.receipt), int(received.sent_ms))
        end = lambda: check(lib.ringway_release(self._handle))  # noqa: E731
        return View(end, about, delivery.body, int(received.len))

    def messages(self, timeout: Optional[float] = None) -> Iterator[Message]:
        """Messages as they come, until none has come for `timeout` seconds. Delete each when it is
        done."""
        while True:
            message = self.receive(timeout)
            if message is None:
                return
            yield message

    def delete(self, message: Settled) -> None:
        """Deletes a message; twice is no error."""
        check(lib.ringway_receiver_delete(self._handle, _receipt(message)))

    def delete_batch(self, messages: Sequence[Settled]) -> None:
        """Deletes messages; raises for the first that could not be, when all were tried."""
        receipts = ffi.new("ringway_receipt_t[]", len(messages))
        for at, message in enumerate(messages):
            receipts[at] = _receipt(message)[0]
        none = ffi.NULL
        check(
            lib.ringway_receiver_delete_batch(self._handle, receipts, len(messages), none, none)
        )

    def fileno(self) -> int:
        """A descriptor for select, poll or asyncio: readable when there is a message. Then receive until
        None, which arms it again."""
        return descriptor(self)


class Queue(Handle):
    """A queue, open here. Any thread."""

    @property
    def id(self) -> int:
        """Its number on the bus: what the settings of others name it by."""
        out = ffi.new("ringway_settings_t *")
        check(lib.ringway_queue_settings(self._handle, out, ffi.sizeof(out[0])))
        return int(out.id)

    def sender(self) -> Sender:
        """Becomes a sender."""
        call = lib.ringway_sender_open
        return Sender(opened("ringway_sender_t", lambda out: call(self._handle, out)))

    def receiver(
        self, *, visibility: Optional[float] = None, idle: str = "spin_then_park"
    ) -> Receiver:
        """Becomes a receiver; `visibility` in seconds instead of what the queue says."""
        config = Config("receiver", idle=choice(IDLES, idle), visibility_ms=ms(visibility))
        call = lib.ringway_receiver_open
        return Receiver(opened("ringway_receiver_t", lambda out: call(self._handle, config.c, out)))

    def delete(self, message: Settled) -> None:
        """Deletes a message; twice is no error."""
        check(lib.ringway_queue_delete(self._handle, _receipt(message)))

    def extend(self, message: Settled, visibility: float) -> None:
        """Keeps a message invisible for so many seconds from now."""
        ms = round(visibility * 1000)
        check(lib.ringway_queue_extend(self._handle, _receipt(message), ms))

    def nack(self, message: Settled, delay: float = 0) -> None:
        """Gives a message back: visible after `delay` seconds."""
        check(lib.ringway_queue_nack(self._handle, _receipt(message), round(delay * 1000)))

    def parked(self) -> List[Parked]:
        """The messages that are not offered any more, by position."""
        call = lib.ringway_queue_parked
        return listed(
            "parked",
            lambda all_, room, count: call(self._handle, all_, room, count),
            lambda one: Parked(int(one.position), int(one.receives), int(one.sent_ms)),
        )

    def read_parked(self, parked: Union[Parked, int]) -> bytes:
        """The body of a parked message, which stays: to put it back into the queue send that, then
        delete_parked()."""
        position = parked.position if isinstance(parked, Parked) else parked
        room, length = bytearray(), ffi.new("size_t *")
        while True:
            into = ffi.from_buffer("char[]", room)
            status = lib.ringway_queue_read_parked(
                self._handle, position, 0, into, len(room), length
            )
            if status != lib.RINGWAY_E_BUFFER_TOO_SMALL:
                check(status)
                return bytes(room[: length[0]])
            room = bytearray(length[0])

    def delete_parked(self, parked: Union[Parked, int]) -> None:
        """Deletes a parked message."""
        position = parked.position if isinstance(parked, Parked) else parked
        none = ffi.NULL
        check(lib.ringway_queue_read_parked(self._handle, position, 1, none, 0, none))

    def purge(self) -> int:
        """Removes every message; how many."""
        out = ffi.new("uint64_t *")
        check(lib.ringway_queue_purge(self._handle, out))
        return int(out[0])

    def flush(self) -> None:
        """Waits until everything that was sent and deleted is on disk."""
        check(lib.ringway_queue_flush(self._handle))

    def move(
        self,
        destination: Optional["Queue"] = None,
        *,
        max_per_second: Optional[int] = None,
        what: str = "move",
        timeout: Optional[float] = None,
    ) -> Dict[str, int]:
        """Moves its messages to another queue, or (None) back to where they came from, for up to `timeout`
        seconds (None: to the end); what: "move", "resume", "cancel" or "look". How the task stands."""
        config = Config("move", what=choice(_MOVES, what), max_per_second=max_per_second)
        moved = ffi.new("ringway_move_status_t *")
        if destination is not None:
            config.c.destination = destination._handle

        def call(ns: int) -> int:
            size = ffi.sizeof(moved[0])
            status = lib.ringway_queue_move(self._handle, config.c, ns, moved, size)
            if status == lib.RINGWAY_TIMEOUT:
                config.c.what = lib.RINGWAY_RESUME
            return int(status)

        status = patiently(call, timeout, NOTHING)
        if status != lib.RINGWAY_TIMEOUT:
            check(status)
        return {name: int(getattr(moved, name)) for name in dir(moved) if name != "reserved"}

    def stats(self) -> Dict[str, int]:
        """What is there, and totals."""
        return counts("queue", self._handle)

    def settings(self) -> Dict[str, Optional[int]]:
        """The settings as they are now, in the words of ringway.h; None: no limit, no queue."""
        out = ffi.new("ringway_settings_t *")
        check(lib.ringway_queue_settings(self._handle, out, ffi.sizeof(out[0])))
        absent = (lib.RINGWAY_NONE, lib.RINGWAY_DEFAULT)
        names = [name for name in dir(out) if name not in ("size", "id", "redrive_sources")]
        values = {name: int(getattr(out, name)) for name in names}
        return {name: None if value in absent else value for name, value in values.items()}

    def set(self, **settings: Optional[int]) -> None:
        """Changes settings for every process at once, by the names of settings(); None: no limit, no
        dead-letter queue."""
        wanted = ffi.new("ringway_settings_t *")
        lib.ringway_settings_init(wanted)
        for name, value in settings.items():
            if name in ("size", "id") or name not in dir(wanted):
                raise TypeError(f"{name!r} is no setting")
            setattr(wanted, name, lib.RINGWAY_NONE if value is None else value)
        check(lib.ringway_queue_set(self._handle, wanted))


def wait_any(
    waiting: Sequence[Union[Reader, Receiver, "Listener"]], timeout: Optional[float] = None
) -> Optional[int]:
    """Waits until one of several readers, receivers and listeners has something; its number in the list. None when
    none had within `timeout` seconds."""
    all_ = ffi.new("void *[]", [one._handle for one in waiting])
    ready = ffi.new("size_t *")
    call = lib.ringway_wait_any
    status = patiently(lambda ns: call(all_, len(waiting), ns, ready), timeout, NOTHING)
    if status in NOTHING:
        return None
    check(status)
    return int(ready[0])
