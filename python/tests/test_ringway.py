"""The package as its users see it. Tests are sentences; each has a directory of its own."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading

import pytest

import ringway


@pytest.fixture
def bus(tmp_path, monkeypatch):
    monkeypatch.setenv("RINGWAY_ROOT", str(tmp_path))
    # Also where the directory lies in memory: journals are never left in that of the machine.
    monkeypatch.setenv("RINGWAY_JOURNAL_ROOT", str(tmp_path / "journals"))
    with ringway.Bus.open("py", pool_bytes=64 << 20) as bus:
        yield bus


def test_a_message_is_sent_received_and_deleted(bus):
    queue = bus.queue("orders")
    position = queue.sender().send(b"one")
    with queue.receiver() as receiver:
        message = receiver.receive(timeout=1)
        assert (message.body, message.receives) == (b"one", 1)
        assert message.receipt.position == position
        receiver.delete(message)
        receiver.delete(message)
        assert receiver.receive() is None
        assert receiver.receive(timeout=0.01) is None


def test_a_receipt_goes_through_text_and_settles(bus):
    queue = bus.queue("orders")
    queue.sender().send(b"one")
    receiver = queue.receiver()
    receipt = ringway.Receipt.parse(str(receiver.receive().receipt))
    queue.extend(receipt, 60)
    queue.nack(receipt)
    again = receiver.receive(timeout=1)
    assert again.receives == 2
    with pytest.raises(ringway.Error) as stale:
        queue.delete(receipt)
    assert stale.value.name == "RINGWAY_E_STALE_RECEIPT"
    queue.delete(again)
    with pytest.raises(ringway.Error, match="RINGWAY_E_RECEIPT"):
        ringway.Receipt.parse("none")


def test_what_is_said_about_a_message_arrives_with_it(bus):
    queue = bus.queue("orders")
    said = {"city": "Graz", "seats": 12, "weight": 3.5, "seal": b"\x07\x00"}
    sent = queue.sender().send_message(
        ringway.Outgoing(b"said", group="truck-7", trace_header="Root=1", attributes=said)
    )
    assert not sent.duplicate
    message = queue.receiver().receive()
    assert (message.group, message.trace_header, message.dedup_id) == ("truck-7", "Root=1", None)
    assert message.attributes == {"city": "Graz", "seats": "12", "weight": "3.5", "seal": b"\x07\x00"}
    assert message.types["seats"] == "Number" and message.types["seal"] == "Binary"


def test_fifo_keeps_order_and_drops_repeats(bus):
    queue = bus.queue("trips.fifo", fifo=True, dedup_ids=1024)
    messages = [ringway.Outgoing(b"%d" % i, group="g", dedup_id=str(i % 3)) for i in range(4)]
    outcomes = queue.sender().send_messages(messages)
    assert [one.duplicate for one in outcomes] == [False, False, False, True]
    batch = queue.receiver().receive_batch(10)
    assert [message.body for message in batch] == [b"0", b"1", b"2"]
    with pytest.raises(ringway.Error, match="RINGWAY_E_MISSING_GROUP"):
        queue.sender().send(b"alone")


def test_batches_are_sent_received_and_deleted(bus):
    queue = bus.queue("orders")
    assert queue.sender().send_batch([b"a", bytearray(b"bb"), memoryview(b"")]) == 3
    receiver = queue.receiver()
    batch = receiver.receive_batch(10)
    assert [message.body for message in batch] == [b"a", b"bb", b""]
    receiver.delete_batch(batch)
    assert queue.stats()["visible"] == 0 and queue.stats()["in_flight"] == 0


def test_a_full_queue_raises_full_and_waits_where_asked(bus):
    queue = bus.queue("small", slots=1024)
    sender = queue.sender()
    with pytest.raises(ringway.Full):
        while True:
            sender.send(b"x")
    with pytest.raises(ringway.NotNow):
        sender.send(b"x", timeout=0.01)
    assert queue.purge() >= 1024
    queue.set(max_messages=1)
    sender.send(b"x")
    with pytest.raises(ringway.Full):
        sender.send(b"x")
    assert queue.settings()["max_messages"] == 1
    queue.set(max_messages=None)
    assert queue.settings()["max_messages"] is None
    with pytest.raises(TypeError):
        queue.set(colour=1)


def test_a_view_shows_the_bytes_in_place_and_ends_in_time(bus):
    queue = bus.queue("frames")
    with queue.sender().loan(100_000) as loan:
        loan.data[:] = b"\x07" * 100_000
        loan.send(50_000)
    receiver = queue.receiver()
    with receiver.view(timeout=1) as view:
        assert view.data.readonly and len(view) == 50_000 and view.data[49_999] == 7
        with pytest.raises(ringway.Error, match="RINGWAY_E_BUSY_HANDLE"):
            receiver.receive()
        queue.delete(view)
        data = view.data
    with pytest.raises(ValueError):
        data[0]
    assert receiver.receive() is None


def test_numpy_looks_at_the_shared_memory_and_keeps_the_view_open(bus):
    numpy = pytest.importorskip("numpy")
    channel = bus.channel("camera")
    reader = channel.reader()
    with channel.producer().loan(1 << 20) as loan:
        pixels = loan.array("float32")
        pixels[:] = numpy.arange(1 << 18)
        with pytest.raises(BufferError):
            loan.send()
        del pixels
        loan.send()
    view = reader.view()
    seen = view.array("float32")
    assert seen[12345] == 12345 and not seen.flags.owndata and not seen.flags.writeable
    with pytest.raises(BufferError):
        view.close()
    del seen
    view.close()
    channel.producer().send(numpy.arange(4, dtype="int16"))
    assert reader.read().body == numpy.arange(4, dtype="int16").tobytes()


def test_channels_show_every_record_to_every_reader(bus):
    channel = bus.channel("ticks", slots=1024)
    one, two = channel.reader(), channel.reader(idle="park")
    producer = channel.producer()
    producer.send(b"first")
    producer.send_batch([b"second", b"x" * 10_000])
    assert [record.body[:6] for record in one.records(timeout=0)] == [b"first", b"second", b"xxxxxx"]
    assert len(two.read_batch(10)) == 3
    lossy = channel.reader("earliest", reliable=False)
    for _ in range(3_000):
        producer.send(b"y")
        one.read(), two.read()
    with pytest.raises(ringway.Lagged) as lagged:
        for _ in range(10):
            lossy.read()
    assert lagged.value.missed > 0 and lagged.value.position > 0
    kept = lossy.pin()
    assert bytes(kept.data) == b"y"
    kept.close()
    assert channel.stats()["readers"] == 3


def test_a_descriptor_tells_select(bus):
    queue = bus.queue("orders")
    receiver = queue.receiver()
    assert receiver.receive() is None
    assert select.select([receiver], [], [], 0)[0] == []
    queue.sender().send(b"wake")
    assert select.select([receiver], [], [], 10)[0] == [receiver]


def test_one_waits_for_several(bus):
    reader, receiver = bus.channel("ticks").reader(), bus.queue("orders").receiver()
    assert ringway.wait_any([reader, receiver], timeout=0.01) is None
    bus.queue("orders").sender().send(b"wake")
    assert ringway.wait_any([reader, receiver]) == 1


def test_a_wait_lets_other_threads_run_and_is_ended_by_a_signal(bus):
    queue = bus.queue("orders")
    got = []
    waiting = threading.Thread(target=lambda: got.append(queue.receiver().receive(timeout=None)))
    waiting.start()
    queue.sender().send(b"late")
    waiting.join()
    assert got[0].body == b"late"

    class Rung(Exception):
        pass

    def ring(*_):
        raise Rung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Rung):
            bus.queue("quiet").receiver().receive(timeout=None)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_handles_close_once_and_say_so(bus):
    queue = bus.queue("orders")
    sender = queue.sender()
    sender.close()
    sender.close()
    assert sender.closed
    with pytest.raises(ringway.Error, match="RINGWAY_E_HANDLE"):
        sender.send(b"x")
    with pytest.raises(TypeError):
        queue.sender().send("text")


def test_a_child_has_to_open_the_bus_again(bus):
    queue = bus.queue("orders")
    child = os.fork()
    if child == 0:
        try:
            queue.sender()
            os._exit(1)
        except ringway.Error as error:
            os._exit(0 if error.name == "RINGWAY_E_FORKED" else 2)
    assert os.waitpid(child, 0)[1] == 0


def test_what_a_killed_process_had_received_comes_again_at_once(bus, tmp_path):
    queue = bus.queue("orders")
    queue.sender().send(b"order 1")
    program = (
        "import os, ringway\n"
        "queue = ringway.Bus.open('py').queue('orders')\n"
        "receiver = queue.receiver()\n"
        "assert receiver.receive(timeout=10)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    message = queue.receiver().receive(timeout=20)
    assert message.receives == 2


def test_objects_are_listed_and_removed(bus):
    bus.queue("orders"), bus.channel("ticks"), bus.stream("trucks"), bus.topic("news")
    assert [(one.name, one.kind) for one in bus.objects()] == [
        ("orders", "queue"),
        ("ticks", "channel"),
        ("trucks", "stream"),
        ("news", "topic"),
    ]
    bus.remove("ticks")
    with pytest.raises(ringway.Error, match="RINGWAY_E_NOT_FOUND"):
        bus.channel("ticks", "open")
    with pytest.raises(ringway.Error, match="RINGWAY_E_IN_USE"):
        ringway.Bus.destroy("py")


def test_a_stream_is_read_in_order_by_key_and_again(bus):
    stream = bus.stream("trucks", shards=4, slots=1024)
    producer = stream.producer()
    first = producer.put("truck-7", b"0")
    outcomes = producer.put_batch(
        [ringway.Put("truck-7", b"1"), ringway.Put("", b"no key"), ringway.Put("truck-8", b"x", 0)]
    )
    assert outcomes[0] > first and outcomes[2].shard == 0
    assert outcomes[1].name == "RINGWAY_E_ID"
    reader = stream.reader("trim_horizon")
    records = list(reader.records(timeout=0.01))
    assert [record.data for record in records if record.partition_key == "truck-7"] == [b"0", b"1"]
    behind = stream.reader("after_sequence_number", shard=first.shard, sequence_number=first)
    assert behind.read(1)[0].sequence_number == outcomes[0]
    assert reader.read() == [] and int(first) == first.shard << 64 | first.position
    shards = stream.shards()
    assert len(shards) == 4 and shards[0].first == 0 and shards[3].last == (1 << 128) - 1
    assert shards[first.shard].next >= 2 and shards[0].state == "open" and shards[0].parents == ()
    assert stream.stats()["open_shards"] == 4
    with pytest.raises(ringway.Error, match="RINGWAY_E_OPTION"):
        reader.checkpoint()


def test_workers_of_a_group_go_on_where_the_last_checkpoint_was(bus):
    stream = bus.stream("trucks")
    producer = stream.producer()
    with stream.worker("dispatch") as worker:
        for number in range(5):
            producer.put("truck", b"%d" % number)
        records = worker.read(10, timeout=10)
        assert [record.data for record in records] == [b"0", b"1", b"2", b"3", b"4"]
        worker.checkpoint(records[2])
        with pytest.raises(ringway.Error, match="RINGWAY_E_OUT_OF_RANGE"):
            worker.checkpoint(records[2])
    with stream.worker("dispatch") as worker:
        assert [record.data for record in worker.read(10, timeout=10)] == [b"3", b"4"]
        worker.checkpoint()


def test_numpy_looks_at_a_batch_of_records_and_keeps_it(bus):
    numpy = pytest.importorskip("numpy")
    stream = bus.stream("fixes")
    reader = stream.reader()
    stream.producer().put("a", numpy.arange(8, dtype="int32"))
    stream.producer().put("b", b"")
    with reader.batch(10, timeout=1) as batch:
        views = dict(zip(batch.keys(), batch.views()))
        seen = views["a"].array("int32")
        assert seen[7] == 7 and not seen.flags.owndata and len(views["b"]) == 0
        with pytest.raises(BufferError):
            reader.read()
        with pytest.raises(BufferError):
            batch.close()
        del seen, views
    assert reader.read() == []


def test_a_full_shard_raises_full_and_a_dropping_one_tells_what_was_missed(bus):
    held = bus.stream("held", slots=1024, drop_oldest=False)
    held.worker("slow")
    producer = held.producer()
    with pytest.raises(ringway.Full):
        while True:
            producer.put("key", b"x")
    stream = bus.stream("fast", slots=1024, drop_oldest=True)
    reader, producer = stream.reader(), stream.producer()
    for _ in range(3_000):
        producer.put("key", b"x")
    with pytest.raises(ringway.Lagged) as lagged:
        reader.read()
    assert lagged.value.missed > 0 and reader.read(1)


def test_an_exclusive_stream_has_one_producer_for_each_shard(bus):
    stream = bus.stream("ticks", slots=1024, exclusive=True)
    first, second = stream.producer(), stream.producer()
    first.put("key", b"1")
    with pytest.raises(ringway.Error, match="RINGWAY_E_BUSY"):
        second.put("key", b"2")
    first.close()
    second.put("key", b"2")
    with pytest.raises(ringway.Error, match="RINGWAY_E_MISMATCH"):
        bus.stream("ticks", exclusive=False)


def test_a_topic_reaches_the_queues_that_want_it_and_its_listeners(bus):
    topic = bus.topic("news")
    everything, sport = bus.queue("everything"), bus.queue("sport")
    topic.subscribe("everything")
    subscription = topic.subscribe("sport", filter={"kind": ["sport"]}, raw=True, dead_letter="everything")
    assert {(one.endpoint, one.filtered, one.raw) for one in topic.subscriptions()} == {
        ("everything", None, False),
        ("sport", "attributes", True),
    }
    publisher, listener = topic.publisher(), topic.listener()
    published = publisher.publish(b"1:0", subject="goal", attributes={"kind": "sport", "minute": 7})
    publisher.publish(b"rain")
    assert sport.receiver().receive(timeout=1).body == b"1:0"
    assert sport.receiver().receive() is None
    assert b"MessageId" in everything.receiver().receive(timeout=1).body
    heard = listener.hear(timeout=1)
    assert (heard.body, heard.subject, heard.message_id) == (b"1:0", "goal", published.message_id)
    assert heard.attributes == {"kind": "sport", "minute": "7"} and heard.published_ms > 0
    assert [heard.body for heard in listener.notifications(timeout=0)] == [b"rain"]
    topic.unsubscribe(subscription)
    with pytest.raises(ringway.Error, match="RINGWAY_E_NOT_FOUND"):
        topic.unsubscribe(subscription)
    with pytest.raises(ringway.Error, match="RINGWAY_E_POLICY"):
        topic.subscribe("sport", filter={"kind": 7})
    assert topic.stats()["subscriptions"] == 1
    bus.remove_topic("news")
    with pytest.raises(ringway.Error, match="RINGWAY_E_REMOVED"):
        topic.publisher()


def test_a_durable_topic_is_there_when_the_memory_of_its_bus_is_gone(tmp_path):
    memory, disk = tmp_path / "memory", os.environ.get("RINGWAY_TEST_DISK", str(tmp_path / "disk"))
    memory.mkdir()
    places = {"root": str(memory), "journal_root": disk}
    with ringway.Bus.open("lasting", **places) as bus:
        topic = bus.topic("news", durability="durable")
        with pytest.raises(ringway.Error, match="RINGWAY_E_OPTION"):
            bus.topic("other", durability="async")
        bus.queue("lake", durability="durable")
        topic.subscribe("lake", protocol="firehose", raw=True)
        publisher = topic.publisher()
        publisher.publish(b"kept")
        del publisher, topic
    shutil.rmtree(memory / "ringway-lasting")
    with ringway.Bus.open("lasting", **places) as bus:
        (subscription,) = bus.topic("news", "open").subscriptions()
        assert (subscription.protocol, subscription.endpoint) == ("firehose", "lake")
        assert bus.queue("lake", "open").receiver().receive().body == b"kept"
        bus.remove_topic("news")
    ringway.Bus.destroy("lasting", **places)


def test_a_queue_says_which_topics_may_deliver_to_it(bus):
    queue, topics = bus.queue("orders"), [bus.topic("news"), bus.topic("sport")]
    for topic in topics:
        topic.subscribe("orders", raw=True)
    assert bus.queue_policy("orders") is None
    arn = "arn:aws:sns:local:000000000000:news"
    policy = {
        "Statement": {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": "*",
            "Condition": {"ArnEquals": {"aws:SourceArn": arn}},
        }
    }
    bus.set_queue_policy("orders", policy)
    assert json.loads(bus.queue_policy("orders")) == policy
    for topic in topics:
        topic.publisher().publish(b"x")
    receiver = queue.receiver()
    assert receiver.receive(timeout=1).body == b"x" and receiver.receive() is None
    assert [topic.stats()["failed"] for topic in topics] == [0, 1]
    with pytest.raises(ringway.Error, match="RINGWAY_E_POLICY"):
        bus.set_queue_policy("orders", "{}")
    with pytest.raises(ringway.Error, match="RINGWAY_E_NOT_FOUND"):
        bus.queue_policy("nowhere")
    bus.set_queue_policy("orders", None)
    assert bus.queue_policy("orders") is None


def test_a_fifo_topic_publishes_a_repeat_once(bus):
    publisher = bus.topic("trips", fifo=True).publisher()
    once = publisher.publish(b"departed", group="truck-7", dedup_id="1")
    again = publisher.publish(b"departed", group="truck-7", dedup_id="1")
    assert (once.duplicate, again.duplicate) == (False, True)
    outcomes = publisher.publish_batch([ringway.Outgoing(b"x"), ringway.Outgoing(b"x", group="g")])
    assert outcomes[0].name == "RINGWAY_E_MISSING_GROUP" and not outcomes[1].duplicate


def test_messages_are_moved_to_another_queue_and_back(bus):
    dead, orders = bus.queue("dead"), bus.queue("orders")
    orders.sender().send_batch([b"a", b"b", b"c"])
    moved = orders.move(dead, timeout=0)
    assert moved["moved"] == 3 and dead.stats()["visible"] == 3
    assert dead.move()["moved"] == 3 and orders.stats()["visible"] == 3
    assert dead.move(what="look")["state"] == moved["state"]


def test_shards_are_split_merged_and_scaled_while_order_is_kept(bus):
    stream = bus.stream("trucks")
    producer, reader = stream.producer(), stream.reader("trim_horizon")
    producer.put("truck-7", b"0")
    left, right = stream.split(0)
    producer.put("truck-7", b"1")
    assert stream.merge(left, right) == right + 1
    producer.put("truck-7", b"2")
    assert stream.scale(4) > 0 and stream.stats()["open_shards"] == 4
    first, second = stream.split(stream.shards()[-1].shard, hash_key=(1 << 128) - 7)
    assert [one.first for one in stream.shards() if one.shard == second] == [(1 << 128) - 7]
    with pytest.raises(ringway.Error, match="RINGWAY_E_OPTION"):
        stream.merge(left, right)
    read = []
    while len(read) < 3:
        read += [record.data for record in reader.read(10, timeout=5)]
    assert read == [b"0", b"1", b"2"]
    reader.close()
    assert stream.retire() > 0
    stream.worker("billing").close()
    stream.remove_group("billing")
    with pytest.raises(ringway.Error, match="RINGWAY_E_NOT_FOUND"):
        stream.remove_group("billing")
    with pytest.raises(ringway.Error, match="RINGWAY_E_OPTION"):
        stream.retain(86_400)


def test_a_registered_consumer_is_handed_everything_and_is_told_what_it_missed(bus):
    stream = bus.stream("trucks", slots=1024)
    producer = stream.producer()
    stream.register_consumer("billing", behind="drop_oldest")
    with pytest.raises(ringway.Error, match="RINGWAY_E_EXISTS"):
        stream.register_consumer("billing")
    with pytest.raises(ValueError, match="drop_oldest"):
        stream.register_consumer("other", behind="somehow")
    reader = stream.consumer("billing", "trim_horizon")
    producer.put("key", b"x")
    assert [record.data for record in reader.read(timeout=1)] == [b"x"]
    with pytest.raises(ringway.Error, match="RINGWAY_E_BUSY"):
        stream.consumer("billing")
    for _ in range(3_000):
        producer.put("key", b"y")
    with pytest.raises(ringway.Lagged) as lagged:
        reader.read()
    [info] = stream.consumers()
    assert (info.name, info.behind, info.counts["lost"]) == ("billing", "drop_oldest", lagged.value.missed)
    other = stream.consumer("billing", take_over=True)
    with pytest.raises(ringway.Error, match="RINGWAY_E_STALE"):
        reader.read()
    stream.deregister_consumer("billing")
    with pytest.raises(ringway.Error, match="RINGWAY_E_STALE"):
        other.read()


def test_many_small_records_are_put_as_one_and_read_one_by_one(bus):
    stream = bus.stream("clicks")
    reader = stream.reader()
    with stream.aggregating(linger=3600) as producer:
        assert producer.put("user-1", b"home") is None
        assert producer.put_batch([ringway.Put("user-2", b"cart")]) == [None]
        assert reader.read() == []
        producer.flush()
        home, cart = reader.read(timeout=1)
        assert home.sequence_number == cart.sequence_number and cart.sub_sequence_number == 1
        producer.put("user-1", b"paid")
    assert [record.data for record in reader.read(timeout=1)] == [b"paid"]


def test_a_topic_reaches_streams_and_replays_its_archive(bus):
    topic = bus.topic("trips", fifo=True, archive_days=1)
    publisher, log = topic.publisher(), bus.stream("log")
    reader = log.reader()
    topic.subscribe("log", protocol="stream", raw=True, delivery_policy={"healthyRetryPolicy": {}})
    publisher.publish(b"first", group="truck-7", dedup_id="1")
    assert [(one.partition_key, one.data) for one in reader.read(timeout=1)] == [("truck-7", b"first")]
    late = bus.queue("late", fifo=True)
    since = {"PointType": "Timestamp", "StartingPoint": "2001-01-01T00:00:00.000Z"}
    topic.subscribe("late", raw=True, replay=since)
    publisher.publish(b"second", group="truck-7", dedup_id="2")
    receiver = late.receiver()
    for body in (b"first", b"second"):
        message = receiver.receive(timeout=5)
        assert message.body == body
        receiver.delete(message)
    states = {(one.protocol, one.endpoint, one.replay, one.delivered) for one in topic.subscriptions()}
    assert states == {("stream", "log", None, 2), ("queue", "late", "completed", 2)}


def test_listeners_choose_and_may_hold_publishers_up(bus):
    topic = bus.topic("ticks", listen_slots=1024)
    sport = topic.listener(filter={"kind": ["sport"]})
    idle = bus.queue("idle").receiver()
    assert ringway.wait_any([idle, sport], timeout=0) is None
    blocking = topic.listener(behind="block")
    publisher = topic.publisher()
    publisher.publish(b"1:0", attributes={"kind": "sport"})
    publisher.publish(b"rain", trace_header="Root=1")
    assert ringway.wait_any([idle, sport]) == 1
    assert select.select([sport], [], [], 10)[0] == [sport]
    assert [heard.body for heard in sport.notifications(timeout=0)] == [b"1:0"]
    with pytest.raises(ringway.Full):
        while True:
            publisher.publish(b"x", timeout=0.001)
    assert blocking.hear().body == b"1:0"
    texts = b'{"default": "all", "sqs": "queues"}'
    bus.queue("all")
    topic.subscribe("all", raw=True)
    assert len(list(blocking.notifications(timeout=0))) > 900
    publisher.publish(texts, per_protocol=True, timeout=1)
    assert bus.queue("all").receiver().receive(timeout=1).body == b"queues"


def test_what_nobody_could_handle_is_listed_read_and_taken_out(bus):
    queue = bus.queue("poison")
    queue.sender().send(b"poison")
    receiver = queue.receiver()
    for _ in range(1000):
        queue.nack(receiver.receive(timeout=10))
    while not queue.parked():
        assert receiver.receive(timeout=0.001) is None
    [parked] = queue.parked()
    assert parked.receives == 1000 and queue.read_parked(parked) == b"poison"
    queue.delete_parked(parked)
    with pytest.raises(ringway.Error, match="RINGWAY_E_NOT_FOUND"):
        queue.read_parked(parked)
    assert queue.parked() == []
    with pytest.raises(ringway.Error, match="RINGWAY_E_OPTION"):
        bus.queue("both", fifo=True, spill=True)
