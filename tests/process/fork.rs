//! Forked children: every handle of the parent answers `Forked`, dropping one there harms nobody,
//! and a child keeps nothing of a parent that dies.

mod stage;

use ringway::{
    Aggregation, CheckpointError, ConsumerError, ConsumerEvent, ConsumerPolicy, Durability,
    FlushError, GroupError, GroupStart, JoinError, OpenError, Outgoing, PodError, Producers,
    PutError, PutRecord, QueueSendError, ReadError, ReceiveError, ReshardError, SendError,
    SettleError, ShardId, Start, StreamIterator, StreamReadError, WaitError,
};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, await_condition};
use stage::{INLINE, LARGE, body, id_of, text};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

ringway_harness::roles! {
    fork_with_handles => fork_with_handles,
    fork_with_queue => fork_with_queue,
    fork_with_durable_queue => fork_with_durable_queue,
    fork_with_stream => fork_with_stream,
    fork_in_a_read => fork_in_a_read,
    leave_a_child => leave_a_child,
    live_elsewhen => live_elsewhen,
}

/// Runs `child` in a forked process and returns its pid.
fn fork(child: impl FnOnce() -> Result<(), String>) -> Result<i32, String> {
    // SAFETY: a role's process has one thread, so the child may do whatever its parent could.
    match unsafe { libc::fork() } {
        -1 => Err(text(std::io::Error::last_os_error())),
        0 => {
            let verdict = catch_unwind(AssertUnwindSafe(child));
            let code = match verdict {
                Ok(Ok(())) => 0,
                Ok(Err(why)) => {
                    eprintln!("forked child: {why}");
                    1
                }
                Err(_) => 101,
            };
            // SAFETY: ends this process at once; nothing of the parent's is run.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid),
    }
}

fn wait_for(pid: i32) -> Result<(), String> {
    let mut status = 0;
    // SAFETY: status is valid for the kernel to fill; the pid is a child of ours.
    let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
    if waited == pid && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        Ok(())
    } else {
        Err(format!("the child ended with status {status:#x}"))
    }
}

macro_rules! forked {
    ($call:expr, $error:path) => {
        match $call {
            Err($error) => {}
            Err(other) => return Err(format!("{}: {other}", stringify!($call))),
            Ok(_) => return Err(format!("{} succeeded", stringify!($call))),
        }
    };
}

fn fork_with_handles(stage: &Stage) -> Result<(), String> {
    let producers = match stage.text("producers") {
        "shared" => Producers::Shared,
        _ => Producers::Exclusive,
    };
    let bus = stage::bus(&stage.path("root")).create().map_err(text)?;
    let channel = stage::channel(&bus, "c", producers)?;
    let mut reader = channel
        .reader()
        .start(Start::Earliest)
        .join()
        .map_err(text)?;
    let mut producer = channel.producer().map_err(text)?;
    bus.take_role(1).map_err(text)?;
    for n in 0..4 {
        producer
            .try_send(&body(n, if n % 2 == 0 { INLINE } else { LARGE }))
            .map_err(text)?;
    }
    let pinned = reader.try_view_pinned().map_err(text)?.ok_or("a record")?;
    let loan = producer.loan(LARGE).map_err(text)?;
    let root = stage.path("root");

    // The child gets copies of all handles; its parent keeps the originals.
    let (mut producer, mut reader) = (Some(producer), Some(reader));
    let (mut loan, mut pinned) = (Some(loan), Some(pinned));
    let (mut bus, mut channel) = (Some(bus), Some(channel));
    let child = fork(|| {
        let mut buffer = [0; 1024];
        {
            let producer = producer.as_mut().ok_or("a producer")?;
            forked!(producer.try_send(b"x"), SendError::Forked);
            forked!(producer.try_send(&[0; LARGE]), SendError::Forked);
            forked!(producer.try_send_with(1, |_| ()), SendError::Forked);
            forked!(producer.try_send_batch(&[b"x"]), SendError::Forked);
            forked!(
                producer.send(b"x", std::time::Duration::ZERO),
                SendError::Forked
            );
            forked!(producer.loan(LARGE), SendError::Forked);
            let Err((SendError::Forked, back)) =
                producer.try_send_loan(loan.take().ok_or("a loan")?)
            else {
                return Err("try_send_loan of the parent's loan".into());
            };
            std::panic::set_hook(Box::new(|_| {})); // the panic is what is wanted
            let touched = catch_unwind(AssertUnwindSafe(|| back.first().copied()));
            drop(std::panic::take_hook());
            if touched.is_ok() {
                return Err("the bytes of the parent's loan could be touched".into());
            }
            let reader = reader.as_mut().ok_or("a reader")?;
            forked!(reader.try_read(&mut buffer), ReadError::Forked);
            forked!(
                reader.read(&mut buffer, std::time::Duration::ZERO),
                ReadError::Forked
            );
            forked!(reader.try_view(), ReadError::Forked);
            forked!(reader.try_view_pinned(), ReadError::Forked);
            forked!(reader.read_batch(1, |_, _| ()), ReadError::Forked);
            forked!(reader.wait(std::time::Duration::ZERO), ReadError::Forked);
            let channel = channel.as_ref().ok_or("a channel")?;
            forked!(channel.producer(), JoinError::Forked);
            forked!(channel.reader().join(), JoinError::Forked);
            let bus = bus.as_ref().ok_or("a bus")?;
            forked!(bus.channel("c").open(), OpenError::Forked);
            forked!(bus.channel("d").create(), OpenError::Forked);
            forked!(bus.participants(), OpenError::Forked);
            forked!(bus.objects(), OpenError::Forked);
            forked!(bus.remove("c"), OpenError::Forked);
            forked!(bus.reap(), OpenError::Forked);
            forked!(bus.doctor(true), OpenError::Forked);
        }
        // Dropped here, nothing happens there.
        drop((reader.take(), loan.take(), pinned.take(), producer.take()));
        drop((channel.take(), bus.take()));
        // Opened anew, the child is a participant of its own.
        let bus = stage::bus(&root).open().map_err(text)?;
        let alive = bus
            .participants()
            .map_err(text)?
            .iter()
            .filter(|p| p.alive)
            .count();
        if alive != 2 {
            return Err(format!(
                "{alive} participants are alive, not parent and child"
            ));
        }
        let mut reader = stage::channel(&bus, "c", producers)?
            .reader()
            .start(Start::Earliest)
            .join()
            .map_err(text)?;
        match reader.try_read(&mut buffer).map_err(text)? {
            Some(record) if id_of(&buffer[..record.len]) == Ok(0) => Ok(()),
            other => Err(format!("the child read {other:?}")),
        }
    })?;
    wait_for(child)?;

    // The parent goes on with every handle as if nothing had been.
    let mut producer = producer.ok_or("a producer")?;
    let mut reader = reader.ok_or("a reader")?;
    let bus = bus.ok_or("a bus")?;
    if id_of(&pinned.ok_or("a view")?) != Ok(0) {
        return Err("the pinned view changed".into());
    }
    let mut loan = loan.ok_or("a loan")?;
    loan.copy_from_slice(&body(4, LARGE));
    producer
        .try_send_loan(loan)
        .map_err(|(error, _)| text(error))?;
    for n in 5..2 * stage::SLOTS {
        let mut buffer = [0; 1024];
        producer.try_send(&body(n, INLINE)).map_err(text)?;
        let record = reader
            .try_read(&mut buffer)
            .map_err(text)?
            .ok_or("a record")?;
        if id_of(&buffer[..record.len]) != Ok(n - 4) {
            return Err(format!(
                "record {}: {:?}",
                n - 4,
                id_of(&buffer[..record.len])
            ));
        }
    }
    if bus.role_holder(1) != Some(bus.me()) {
        return Err("the role is gone".into());
    }
    bus.reap().map_err(text)?;
    let report = bus.doctor(false).map_err(text)?;
    if report.is_clean() && report.participants == 1 {
        Ok(())
    } else {
        Err(format!("{report:?}"))
    }
}

/// The same for the handles of a queue.
fn fork_with_queue(stage: &Stage) -> Result<(), String> {
    let bus = stage::bus(&stage.path("root")).create().map_err(text)?;
    let builder = bus.queue("q").slots(stage::SLOTS);
    let queue = builder.stride(stage::QUEUE_STRIDE).create().map_err(text)?;
    let mut sender = queue.sender().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let mut buffer = [0; 1024];
    for n in 0..3 {
        let len = if n == 1 { LARGE } else { INLINE };
        sender.send(&body(n, len)).map_err(text)?;
    }
    let held = receiver.try_receive(&mut buffer).map_err(text)?;
    let receipt = held.ok_or("a message")?.receipt;
    let loan = sender.loan(LARGE).map_err(text)?;
    let (mut handles, mut loan) = (Some((sender, receiver, queue)), Some(loan));
    let child = fork(|| {
        let zero = std::time::Duration::ZERO;
        let (sender, receiver, queue) = handles.as_mut().ok_or("handles")?;
        forked!(sender.send(b"x"), QueueSendError::Forked);
        forked!(sender.send(&[0; LARGE]), QueueSendError::Forked);
        forked!(sender.send_batch(&[b"x"]), QueueSendError::Forked);
        forked!(sender.send_delayed(b"x", zero), QueueSendError::Forked);
        forked!(sender.send_timeout(b"x", zero), QueueSendError::Forked);
        let message = Outgoing::new(b"x").group("g");
        forked!(sender.send_message(&message), QueueSendError::Forked);
        forked!(
            sender.send_message(&Outgoing::new(b"x")),
            QueueSendError::Forked
        );
        for outcome in sender.send_message_batch(&[message, message]) {
            forked!(outcome, QueueSendError::Forked);
        }
        forked!(sender.send_pod(&7u64), QueueSendError::Forked);
        forked!(sender.loan(LARGE), QueueSendError::Forked);
        if (queue.settings().delay, receiver.receive_wait()) != (zero, zero) {
            return Err("the settings of another queue".into());
        }
        let lent = loan.take().ok_or("a loan")?;
        let Err((QueueSendError::Forked, _)) = sender.send_loan(lent) else {
            return Err("send_loan of the parent's loan".into());
        };
        forked!(receiver.try_receive(&mut buffer), ReceiveError::Forked);
        forked!(
            receiver.receive_into(&mut buffer, zero),
            ReceiveError::Forked
        );
        forked!(receiver.receive(1, zero, None), ReceiveError::Forked);
        forked!(receiver.receive_each(1, |_, _| ()), ReceiveError::Forked);
        forked!(
            receiver.receive_and_delete(&mut buffer),
            ReceiveError::Forked
        );
        forked!(receiver.wait(zero), ReceiveError::Forked);
        let mut incoming = ringway::Incoming::new();
        forked!(
            receiver.receive_message(&mut incoming),
            ReceiveError::Forked
        );
        forked!(
            ringway::wait_any(&mut [&mut *receiver], zero),
            WaitError::Forked
        );
        let Err(PodError::Receive(ReceiveError::Forked)) = receiver.receive_pod::<u64>() else {
            return Err("a value of the parent's receiver".into());
        };
        let Some(Err(ReceiveError::Forked)) = receiver.messages(zero).next() else {
            return Err("messages of the parent's receiver".into());
        };
        if receiver.poll_descriptor().is_ok() {
            return Err("a descriptor of the parent's receiver".into());
        }
        forked!(receiver.delete(&receipt), SettleError::Forked);
        forked!(receiver.nack(&receipt, zero), SettleError::Forked);
        forked!(queue.change_visibility(&receipt, zero), SettleError::Forked);
        forked!(queue.sender(), JoinError::Forked);
        forked!(queue.receiver(), JoinError::Forked);
        forked!(bus.queue("q").open(), OpenError::Forked);
        forked!(queue.purge(), SettleError::Forked);
        forked!(queue.delete_parked(0), SettleError::Forked);
        let nothing = (queue.stats(), queue.parked().len());
        if nothing != (ringway::QueueStats::default(), 0) {
            return Err(format!("the child sees {nothing:?}"));
        }
        drop(handles.take()); // nothing happens there
        Ok(())
    })?;
    wait_for(child)?;
    let (mut sender, mut receiver, queue) = handles.ok_or("handles")?;
    sender
        .send_loan({
            let mut loan = loan.ok_or("a loan")?;
            loan.copy_from_slice(&body(3, LARGE));
            loan
        })
        .map_err(|(error, _)| text(error))?;
    if !receiver.delete(&receipt).map_err(text)? {
        return Err("the message went with the child".into());
    }
    for n in 1..4 {
        let received = receiver.receive_and_delete(&mut buffer).map_err(text)?;
        let received = received.ok_or("a message")?;
        if id_of(&buffer[..received.len]) != Ok(n) || received.receives() != 1 {
            return Err(format!("message {n}: {received:?}"));
        }
    }
    let stats = queue.stats();
    drop((sender, receiver, queue));
    let report = bus.doctor(false).map_err(text)?;
    if report.is_clean() && report.chunks[1..] == [0, 0] && stats.in_flight == 0 {
        Ok(())
    } else {
        Err(format!("{report:?}, {stats:?}"))
    }
}

/// The same for what waits for a disk.
fn fork_with_durable_queue(stage: &Stage) -> Result<(), String> {
    let builder = stage::bus(&stage.path("root")).journal_root(stage.path("disk"));
    let bus = builder.create().map_err(text)?;
    let queue = bus
        .queue("q")
        .durability(Durability::Durable)
        .create()
        .map_err(text)?;
    let mut sender = queue.sender().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    sender.send(b"x").map_err(text)?;
    let mut buffer = [0; 64];
    let held = receiver.try_receive(&mut buffer).map_err(text)?;
    let receipt = held.ok_or("a message")?.receipt;
    let mut handles = Some((sender, receiver, queue));
    let child = fork(|| {
        let (sender, receiver, queue) = handles.as_mut().ok_or("handles")?;
        forked!(sender.send(b"x"), QueueSendError::Forked);
        forked!(sender.send_batch(&[b"x"]), QueueSendError::Forked);
        forked!(
            receiver.receive_and_delete(&mut buffer),
            ReceiveError::Forked
        );
        forked!(receiver.delete(&receipt), SettleError::Forked);
        forked!(queue.delete(&receipt), SettleError::Forked);
        let failed = receiver.delete_batch(&[receipt, receipt]);
        let is_forked = |(_, error): &(usize, SettleError)| matches!(error, SettleError::Forked);
        if failed.len() != 2 || !failed.iter().all(is_forked) {
            return Err(format!("delete_batch: {failed:?}"));
        }
        forked!(queue.purge(), SettleError::Forked);
        forked!(queue.flush(), FlushError::Forked);
        drop(handles.take());
        Ok(())
    })?;
    wait_for(child)?;
    let (_sender, mut receiver, _queue) = handles.ok_or("handles")?;
    match receiver.delete_batch(&[receipt]).is_empty() {
        true => Ok(()),
        false => Err("the message went with the child".into()),
    }
}

/// The same for the handles of a stream.
fn fork_with_stream(stage: &Stage) -> Result<(), String> {
    let bus = stage::bus(&stage.path("root")).create().map_err(text)?;
    let stream = bus.stream("s").slots(stage::SLOTS).create().map_err(text)?;
    let policy = ConsumerPolicy::DropOldest;
    let consumer = stream.register_consumer("c", policy).map_err(text)?;
    let newest = StreamIterator::Latest;
    let subscription = consumer.subscribe(newest).map_err(text)?;
    let group = stream.group_or_create("g", GroupStart::Latest);
    let group = group.map_err(text)?;
    let mut worker = group.join().map_err(text)?;
    let mut reader = stream.reader().open().map_err(text)?;
    let mut tail = stream.tail(true).map_err(text)?;
    let mut producer = stream.producer().map_err(text)?;
    let mut gathering = stream.producer().map_err(text)?.aggregating(Aggregation {
        linger: Duration::from_secs(3600),
        ..Aggregation::default()
    });
    gathering.put("k", b"gathered").map_err(text)?;
    let mut handles = Some((gathering, subscription));
    let child = fork(|| {
        let zero = Duration::ZERO;
        let shard = ShardId(0);
        let (mut gathering, mut subscription) = handles.take().ok_or("handles")?;
        forked!(producer.put("k", b"x"), PutError::Forked);
        for outcome in producer.put_batch(&[PutRecord::new("k", b"x")]) {
            forked!(outcome, PutError::Forked);
        }
        forked!(gathering.put("k", b"x"), PutError::Forked);
        forked!(gathering.flush(), PutError::Forked);
        drop(gathering); // what it gathered is the parent's to put
        forked!(reader.try_read_batch(1, |_| ()), StreamReadError::Forked);
        forked!(reader.read_batch(1, zero, |_| ()), StreamReadError::Forked);
        forked!(reader.millis_behind_latest(), StreamReadError::Forked);
        forked!(worker.try_read_batch(1, |_| ()), StreamReadError::Forked);
        forked!(worker.checkpoint(), CheckpointError::Forked);
        forked!(tail.try_next(), StreamReadError::Forked);
        let Err(ConsumerError::Read(StreamReadError::Forked)) =
            subscription.try_read_batch(1, |_| ())
        else {
            return Err("a subscription of the parent".into());
        };
        forked!(stream.shards(), OpenError::Forked);
        forked!(stream.stats(), OpenError::Forked);
        forked!(stream.positions(shard), OpenError::Forked);
        forked!(stream.producer(), OpenError::Forked);
        forked!(stream.groups(), OpenError::Forked);
        forked!(stream.disk_bytes(), OpenError::Forked);
        forked!(group.info(), OpenError::Forked);
        macro_rules! forked_inside {
            ($error:ident: $($call:expr,)*) => {$(
                if !matches!($call, Err($error::Open(OpenError::Forked))) {
                    return Err(format!("{} is no fork", stringify!($call)));
                }
            )*};
        }
        forked_inside! { ReshardError:
            stream.split(shard, None), stream.merge(shard, shard), stream.update_shard_count(2),
            stream.retire_closed(),
        }
        forked_inside! { GroupError: stream.group("g"), stream.remove_group("g"), group.join(), }
        forked_inside! { ConsumerError:
            stream.consumers(), stream.consumer("c"), stream.deregister_consumer("c"),
            consumer.info(), consumer.subscribe(newest),
        }
        let nothing = (stream.retention(), stream.scaling(), worker.behind());
        if nothing != (None, None, 0) || stream.balance() {
            return Err(format!("the child sees {nothing:?}"));
        }
        Ok(())
    })?;
    wait_for(child)?;
    let (gathering, _) = handles.as_mut().ok_or("handles")?;
    gathering.flush().map_err(text)?;
    let mut seen = 0;
    while seen == 0 {
        seen += worker
            .read_batch(1, Duration::from_secs(1), |_| ())
            .map_err(text)?;
    }
    let record = reader.next(Duration::from_secs(1)).map_err(text)?;
    match record.map(|record| record.data) {
        Some(data) if data == b"gathered" => Ok(()),
        other => Err(format!("the parent reads {other:?}")),
    }
}

/// Forks inside the function that it hands records to, of a stream whose first records are in the journal
/// alone: the child that returns from there is told, and its parent reads on.
fn fork_in_a_read(stage: &Stage) -> Result<(), String> {
    let bus = stage::bus(&stage.path("root")).journal_root(stage.path("disk"));
    let bus = bus.create().map_err(text)?;
    let is_aggregated = stage.text("records") == "aggregated";
    let stream = match stage.text("level") {
        "memory" => bus.stream("s"),
        _ => bus.stream("s").durability(Durability::Durable),
    };
    let stream = stream.slots(stage::SLOTS).create().map_err(text)?;
    let consumer = stream
        .register_consumer("c", ConsumerPolicy::DropOldest)
        .map_err(text)?;
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .map_err(text)?;
    let records = match stage.text("level") {
        "memory" => stage::SLOTS / 2,
        _ => 6 * stage::SLOTS,
    };
    let numbers: Vec<[u8; 8]> = (0..records).map(u64::to_le_bytes).collect();
    let puts: Vec<_> = numbers.iter().map(|n| PutRecord::new("k", n)).collect();
    let mut producer = stream.producer().map_err(text)?;
    if is_aggregated {
        let mut producer = producer.aggregating(Aggregation {
            max_records: 4,
            ..Aggregation::default()
        });
        for put in &puts {
            producer.put(put.partition_key, put.data).map_err(text)?;
        }
        producer.flush().map_err(text)?;
    } else {
        for outcome in producer.put_batch(&puts) {
            outcome.map_err(text)?;
        }
    }
    let oldest = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(oldest).open().map_err(text)?;
    let mut worker = group.join().map_err(text)?;
    let mut subscription = consumer.subscribe(oldest).map_err(text)?;
    for who in ["reader", "worker", "subscription"] {
        let mut seen = 0;
        let mut child = None;
        let mut each = |data: &[u8]| {
            assert_eq!(data, u64::to_le_bytes(seen), "{who}");
            seen += 1;
            if seen == 3 {
                // SAFETY: a role's process has one thread, so the child may do whatever its parent could.
                child = Some(unsafe { libc::fork() });
            }
        };
        let read = match who {
            "reader" => reader.read_batch(10, SOON, |record| each(record.data)),
            "worker" => worker.read_batch(10, SOON, |record| each(record.data)),
            _ => match subscription.read_batch(10, SOON, |event| match event {
                ConsumerEvent::Record(record) => each(record.data),
                ConsumerEvent::Gap { .. } => panic!("nothing was missed"),
            }) {
                Ok(count) => Ok(count),
                Err(ConsumerError::Read(error)) => Err(error),
                Err(other) => return Err(text(other)),
            },
        };
        match child {
            Some(0) => {
                let code = match (read, seen) {
                    (Err(StreamReadError::Forked), 3) => 0,
                    _ => 1,
                };
                // SAFETY: ends this process at once; nothing of the parent's is run.
                unsafe { libc::_exit(code) }
            }
            Some(pid) if pid > 0 => wait_for(pid).map_err(|why| format!("{who}: {why}"))?,
            other => return Err(format!("{who}: {other:?} is no child")),
        }
        let mut left = read.map_err(text)? as u64;
        while left < records {
            let each = |data: &[u8]| assert_eq!(data, u64::to_le_bytes(left), "{who}");
            left += match who {
                "reader" => reader.read_batch(1, SOON, |record| each(record.data)),
                "worker" => worker.read_batch(1, SOON, |record| each(record.data)),
                _ => break,
            }
            .map_err(text)? as u64;
        }
    }
    Ok(())
}

/// Forks a child that outlives it, and tells on the board how that one fares.
fn leave_a_child(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let channel = bus.channel("c").open().map_err(text)?;
    let mut producer = channel.producer().map_err(text)?;
    let reader = channel.reader().join().map_err(text)?;
    let mut kept = Some((bus, channel, reader));
    fork(|| {
        // It keeps the handles, and their descriptors, for as long as it lives.
        let _kept = kept.take();
        let tester = format!("/proc/{}", board.get(4));
        while board.get(2) == 0 && std::path::Path::new(&tester).exists() {
            board.add(1, 1);
            std::thread::yield_now();
        }
        board.set(3, 1);
        Ok(())
    })?;
    let sent = producer.try_send_with(INLINE, |_| {
        board.set(0, 1);
        loop {
            // SAFETY: pause takes nothing.
            unsafe { libc::pause() };
        }
    });
    sent.map(drop).map_err(text)
}

#[test]
fn handles_of_the_parent_answer_forked_in_the_child_and_work_on_in_the_parent() {
    for producers in ["shared", "exclusive"] {
        let root = TempBus::new().unwrap();
        let launch = Launch::role("fork_with_handles").set("root", root.path().display());
        launch
            .set("producers", producers)
            .spawn()
            .unwrap()
            .wait_success()
            .unwrap();
    }
}

#[test]
fn handles_of_a_queue_answer_forked_in_the_child_and_work_on_in_the_parent() {
    let root = TempBus::new().unwrap();
    let launch = Launch::role("fork_with_queue").set("root", root.path().display());
    launch.spawn().unwrap().wait_success().unwrap();
}

#[test]
fn handles_of_a_durable_queue_answer_forked_in_the_child_and_work_on_in_the_parent() {
    let (root, disk) = (
        TempBus::new().unwrap(),
        TempBus::under(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    );
    let launch = Launch::role("fork_with_durable_queue")
        .set("root", root.path().display())
        .set("disk", disk.path().display());
    launch.spawn().unwrap().wait_success().unwrap();
}

#[test]
fn handles_of_a_stream_answer_forked_in_the_child_and_work_on_in_the_parent() {
    let root = TempBus::new().unwrap();
    let launch = Launch::role("fork_with_stream").set("root", root.path().display());
    launch.spawn().unwrap().wait_success().unwrap();
}

#[test]
fn who_forks_in_the_middle_of_a_read_is_told_in_the_child_and_reads_on_in_the_parent() {
    for level in ["memory", "durable"] {
        for records in ["single", "aggregated"] {
            let root = TempBus::new().unwrap();
            let disk = TempBus::under(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let launch = Launch::role("fork_in_a_read").set("root", root.path().display());
            let launch = launch.set("disk", disk.path().display());
            let launch = launch.set("level", level).set("records", records);
            launch.spawn().unwrap().wait_success().unwrap();
        }
    }
}

#[test]
fn a_parent_is_seen_dead_while_its_forked_child_lives() {
    for producers in [Producers::Shared, Producers::Exclusive] {
        let root = TempBus::new().unwrap();
        let bus = stage::bus(root.path()).create().unwrap();
        let channel = stage::channel(&bus, "c", producers).unwrap();
        let mut reader = channel.reader().join().unwrap();
        let board = AckBoard::new(5).unwrap();
        board.set(4, std::process::id().into());
        let launch = Launch::role("leave_a_child").set("root", root.path().display());
        let mut parent = launch.board("board", &board).spawn().unwrap();
        board.await_at_least(0, 1, &parent, "the claim").unwrap();
        board.await_at_least(1, 1, &parent, "the child").unwrap();
        let alive = |bus: &ringway::Bus| {
            bus.participants()
                .unwrap()
                .iter()
                .filter(|p| p.alive)
                .count()
        };
        assert_eq!(alive(&bus), 2, "the parent and this process");

        parent.kill().unwrap();
        await_condition("the parent to be seen dead", || alive(&bus) == 1).unwrap();
        let mut producer = None;
        await_condition("the dead producer's place", || {
            producer = channel.producer().ok();
            producer.is_some()
        })
        .unwrap();
        producer.unwrap().try_send(&body(7, INLINE)).unwrap();
        let mut buffer = [0; 64];
        let read = || reader.try_read(&mut buffer).unwrap().is_some();
        await_condition("the record behind the dead claim", read).unwrap();
        bus.reap().unwrap();
        let report = bus.doctor(false).unwrap();
        assert!(report.is_clean() && report.participants == 1, "{report:?}");

        // All the while the child was there.
        let before = board.get(1);
        await_condition("the child to go on", || board.get(1) > before).unwrap();
        board.set(2, 1);
        await_condition("the child to end", || board.get(3) == 1).unwrap();
    }
}

/// Where CLOCK_BOOTTIME of a child stands: further ahead than the longest lease is.
const AHEAD_S: u64 = 13 * 3600;
/// Board: there are no time namespaces here; the child saw everything as it was.
const NONE_HERE: usize = 0;
const AS_IT_WAS: usize = 1;

/// Children of this process are in a time namespace of their own. `false` where that is refused.
fn leave_the_time_of_children() -> bool {
    // SAFETY: both change the namespaces of later children, and nothing of this process's memory.
    unsafe {
        libc::unshare(libc::CLONE_NEWTIME) == 0
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWTIME) == 0
    }
}

fn live_elsewhen(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let offsets = "/proc/self/timens_offsets";
    if !leave_the_time_of_children()
        || std::fs::write(offsets, format!("boottime {AHEAD_S} 0")).is_err()
    {
        board.set(NONE_HERE, 1);
        return Ok(());
    }
    let root = stage.path("root");
    let child = fork(|| {
        let bus = stage::bus(&root).open().map_err(text)?;
        let queue = bus.queue("q").open().map_err(text)?;
        let mut receiver = queue.receiver().map_err(text)?;
        let mut buffer = [0; INLINE];
        // The parent of all leased one message for an hour and sent another just now.
        let received = receiver.try_receive(&mut buffer).map_err(text)?;
        let received = received.ok_or("nothing to receive")?;
        if (id_of(&buffer)?, received.receives()) != (2, 1) {
            return Err(format!("received {received:?}"));
        }
        if receiver.try_receive(&mut buffer).map_err(text)?.is_some() {
            return Err("a lease of an hour was taken".into());
        }
        let stats = queue.stats();
        let age = stats.oldest_age.ok_or("it is empty")?;
        if stats.in_flight != 2 || age > std::time::Duration::from_secs(600) {
            return Err(format!("{stats:?}"));
        }
        bus.doctor(true).map_err(text)?;
        // Of a namespace that is neither the machine's nor its children's nothing can be told.
        if leave_the_time_of_children() {
            match stage::bus(&root).open() {
                Err(OpenError::Unsupported { .. }) => {}
                other => return Err(format!("{:?}", other.map(|bus| bus.me()))),
            }
        }
        board.set(AS_IT_WAS, 1);
        std::mem::forget(receiver);
        Ok(())
    })?;
    wait_for(child)
}

/// The reaper and the child measure by one clock, though what they are shown differs by 13 hours.
#[test]
fn a_lease_is_as_long_in_every_time_namespace() {
    let root = TempBus::new().unwrap();
    let bus = stage::bus(root.path()).create().unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let builder = bus
        .queue("q")
        .slots(stage::SLOTS)
        .stride(stage::QUEUE_STRIDE);
    let queue = builder.visibility(hour).create().unwrap();
    let mut sender = queue.sender().unwrap();
    let mut receiver = queue.receiver().unwrap();
    sender.send(&body(1, INLINE)).unwrap();
    let mut buffer = [0; INLINE];
    let held = receiver
        .try_receive(&mut buffer)
        .unwrap()
        .expect("a message");
    sender.send(&body(2, INLINE)).unwrap();
    let board = AckBoard::new(2).unwrap();
    let launch = Launch::role("live_elsewhen").board("board", &board);
    let mut child = launch.set("root", root.path().display()).spawn().unwrap();
    child.wait_success().unwrap();
    if board.get(NONE_HERE) == 1 {
        println!("this machine has no time namespaces for us");
        return;
    }
    assert_eq!(board.get(AS_IT_WAS), 1);
    // It died with its lease; that of this process is as good as ever.
    let waited = receiver.receive_into(&mut buffer, ringway_harness::deadline());
    let received = waited.unwrap().expect("the message of the dead");
    assert_eq!((id_of(&buffer), received.receives()), (Ok(2), 2));
    assert!(receiver.delete(&held.receipt).unwrap());
}
