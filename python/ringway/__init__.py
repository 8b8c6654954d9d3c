"""ringway: a brokerless message bus in shared memory for the processes of one Linux host.

    import ringway

    with ringway.Bus.open("demo") as bus:
        orders = bus.queue("orders")
        orders.sender().send(b"order 1")
        with orders.receiver() as receiver:
            message = receiver.receive(timeout=1.0)
            print(message.body)
            receiver.delete(message)

        trucks = bus.stream("trucks", shards=4)
        trucks.producer().put("truck-7", b"52.5,13.4")
        news = bus.topic("news")
        news.subscribe("orders", filter={"kind": ["order"]}, raw=True)
        news.publisher().publish(b"order 2", attributes={"kind": "order"})

Handles are context managers, and close when nobody refers to them any more. Senders, receivers,
producers, readers, publishers and listeners are for one thread at a time; the others for any. After a fork every handle of the
parent raises in the child: open the bus again there (with multiprocessing use "spawn", or open in the
worker). Calls that wait release the GIL, and Ctrl-C ends them.

Bytes go in as anything with a buffer (bytes, bytearray, memoryview, numpy arrays). They come out copied,
as bytes, or in place, as a memoryview: see View.
"""

from ._errors import Empty, Error, Full, Lagged, NotNow
from .bus import Bus, ObjectInfo
from .channel import Channel, PinnedRecord, Producer, Reader, Record
from .place import Loan, View
from .queue import (
    Attribute,
    Message,
    Outgoing,
    Parked,
    Queue,
    Receipt,
    Receiver,
    Sender,
    Sent,
    wait_any,
)
from .stream import (
    ConsumerInfo,
    Put,
    SequenceNumber,
    ShardInfo,
    Stream,
    StreamBatch,
    StreamProducer,
    StreamReader,
    StreamRecord,
)
from .topic import Listener, Notification, Published, Publisher, Subscription, Topic

__all__ = [
    "Attribute",
    "Bus",
    "Channel",
    "ConsumerInfo",
    "Empty",
    "Error",
    "Full",
    "Lagged",
    "Listener",
    "Loan",
    "Message",
    "NotNow",
    "Notification",
    "ObjectInfo",
    "Outgoing",
    "Parked",
    "PinnedRecord",
    "Producer",
    "Published",
    "Publisher",
    "Put",
    "Queue",
    "Reader",
    "Receipt",
    "Receiver",
    "Record",
    "Sender",
    "Sent",
    "SequenceNumber",
    "ShardInfo",
    "Stream",
    "StreamBatch",
    "StreamProducer",
    "StreamReader",
    "StreamRecord",
    "Subscription",
    "Topic",
    "View",
    "wait_any",
]
