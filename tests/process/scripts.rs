//! Scripts whose system calls fail: lives of channels, queues, streams and topics, from the first call to the last,
//! and a diary of what was promised in them.
//!
//! A script goes on behind whatever is refused: each of its steps ends with what it wanted or with a typed error,
//! which goes into the diary, and what needs the step is left out. It takes the same way each time and is run
//! again by whoever comes next; numbers tell the messages of one life from those of another.

use crate::stage::{text, write_body};
use ringway::{
    Bus, ConsumerPolicy, Durability, GroupStart, ListenOptions, MoveOptions, Notification,
    Outgoing, Publication, PutRecord, Queue, QueueReceiver, Received, Redrive, Settings, ShardId,
    Start, Stream, StreamIterator, SubscribeOptions, Topic, Waitable, wait_any,
};
use ringway_harness::deadline;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A body that lies in its slot, and one that does not.
const SMALL: usize = 16;
const LARGE: usize = 3000;
/// For how long is waited for what does not come.
const MOMENT: Duration = Duration::from_millis(2);

/// Where a life is lived.
pub struct Place {
    pub memory: PathBuf,
    pub disk: PathBuf,
}

impl Place {
    fn builder(&self) -> ringway::Builder {
        crate::stage::bus(&self.memory).journal_root(&self.disk)
    }

    /// For who looks at what a life has left.
    pub fn bus(&self) -> Result<Bus, String> {
        self.builder().open_or_create().map_err(text)
    }
}

/// What happened.
#[derive(Default)]
pub struct Diary {
    /// Errors: at which step, and what was said.
    pub told: Vec<String>,
    /// Acknowledged, by object.
    pub kept: BTreeSet<(String, u64)>,
    /// Tried, and perhaps there.
    pub tried: BTreeSet<(String, u64)>,
    /// Handed out, and perhaps deleted.
    pub seen: BTreeSet<(String, u64)>,
    /// Deleted, and acknowledged.
    pub gone: BTreeSet<(String, u64)>,
    /// The longest step.
    pub longest: (Duration, String),
}

impl Diary {
    /// One step of a script.
    fn step<T, E: std::error::Error>(
        &mut self,
        name: &str,
        step: impl FnOnce() -> Result<T, E>,
    ) -> Option<T> {
        let begun = Instant::now();
        let ended = step();
        let took = begun.elapsed();
        if took > self.longest.0 {
            self.longest = (took, name.to_owned());
        }
        match ended {
            Ok(ended) => Some(ended),
            Err(error) => {
                self.told.push(format!("{name}: {error}"));
                None
            }
        }
    }

    /// A step that gives message `number` to `object`.
    fn give<T, E: std::error::Error>(
        &mut self,
        object: &str,
        number: u64,
        step: impl FnOnce() -> Result<T, E>,
    ) {
        self.tried.insert((object.to_owned(), number));
        if self.step(&format!("to {object}"), step).is_some() {
            self.kept.insert((object.to_owned(), number));
        }
    }

    /// As lines of text.
    pub fn write(&self) -> String {
        let mut lines = String::new();
        for (kind, entries) in self.books() {
            for (object, number) in entries {
                writeln!(lines, "{kind} {object} {number}").expect("memory");
            }
        }
        for told in &self.told {
            writeln!(lines, "told {}", told.replace('\n', " ")).expect("memory");
        }
        writeln!(
            lines,
            "longest {} {}",
            self.longest.0.as_micros(),
            self.longest.1
        )
        .expect("memory");
        lines
    }

    fn books(&self) -> [(&'static str, &BTreeSet<(String, u64)>); 4] {
        [
            ("kept", &self.kept),
            ("tried", &self.tried),
            ("seen", &self.seen),
            ("gone", &self.gone),
        ]
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(lines: &str) -> Result<Diary, String> {
        let mut diary = Diary::default();
        for line in lines.lines() {
            let (kind, rest) = line.split_once(' ').ok_or(line)?;
            let entry = || -> Option<(String, u64)> {
                let (object, number) = rest.split_once(' ')?;
                Some((object.to_owned(), number.parse().ok()?))
            };
            let book = match kind {
                "told" => {
                    diary.told.push(rest.to_owned());
                    continue;
                }
                "longest" => {
                    let (us, name) = rest.split_once(' ').ok_or(line)?;
                    let us = us.parse().map_err(text)?;
                    diary.longest = (Duration::from_micros(us), name.to_owned());
                    continue;
                }
                "kept" => &mut diary.kept,
                "tried" => &mut diary.tried,
                "seen" => &mut diary.seen,
                "gone" => &mut diary.gone,
                _ => return Err(format!("a line of a diary: {line}")),
            };
            book.insert(entry().ok_or(line)?);
        }
        Ok(diary)
    }

    /// Holds what is there against what was promised.
    pub fn hold(&self, object: &str, there: &[u64]) -> Result<(), String> {
        let of = |book: &BTreeSet<(String, u64)>| -> BTreeSet<u64> {
            let mine = book.iter().filter(|(name, _)| name == object);
            mine.map(|(_, number)| *number).collect()
        };
        let (kept, tried, seen, gone) = (
            of(&self.kept),
            of(&self.tried),
            of(&self.seen),
            of(&self.gone),
        );
        let found: BTreeSet<u64> = there.iter().copied().collect();
        if found.len() != there.len() {
            return Err(format!("{object} has a message twice: {there:?}"));
        }
        if let Some(lost) = kept
            .iter()
            .find(|it| !found.contains(it) && !seen.contains(it))
        {
            return Err(format!(
                "{object} has lost {lost}, which was acknowledged; there are {there:?}"
            ));
        }
        if let Some(back) = found.iter().find(|it| gone.contains(it)) {
            return Err(format!("{object} has {back} again, which was deleted"));
        }
        match found.iter().find(|it| !tried.contains(it)) {
            Some(strange) => Err(format!("{object} has {strange}, which nobody gave it")),
            None => Ok(()),
        }
    }
}

fn body(number: u64, len: usize) -> Vec<u8> {
    let mut body = vec![0; len];
    write_body(number, &mut body);
    body
}

/// How everything in an object is found.
type Find = fn(bus: &Bus, name: &str) -> Result<Vec<u64>, String>;

/// A script, and what is left of what it gave to each object.
pub struct Script {
    pub name: &'static str,
    /// Numbers of this life begin at `base`.
    pub live: fn(diary: &mut Diary, place: &Place, base: u64) -> Option<()>,
    /// The objects, and how everything in one is found.
    pub left: &'static [(&'static str, Find)],
    /// Whether it is on disk, in part or so that everything in memory may be gone before one looks.
    pub disk: Disk,
}

/// What a script has on a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    Nothing,
    /// What does not fit into memory.
    Spill,
    /// All that was acknowledged.
    Everything,
}

pub const SCRIPTS: &[Script] = &[
    Script {
        name: "channel",
        live: channel,
        left: &[],
        disk: Disk::Nothing,
    },
    Script {
        name: "queue",
        live: |diary, place, base| queue(diary, place, base, Durability::Memory),
        left: &[("q", in_both)],
        disk: Disk::Nothing,
    },
    Script {
        name: "growing queue",
        live: |diary, place, base| growing_queue(diary, place, base, false),
        left: &[("grows", in_queue)],
        disk: Disk::Nothing,
    },
    Script {
        name: "spilling queue",
        live: |diary, place, base| growing_queue(diary, place, base, true),
        left: &[("grows", in_queue)],
        disk: Disk::Spill,
    },
    Script {
        name: "waits and wakes",
        live: waits,
        left: &[("calls", in_queue), ("answers", in_queue)],
        disk: Disk::Nothing,
    },
    Script {
        name: "topic",
        live: topic,
        left: &[("inbox", behind_topic), ("ordered.fifo", behind_topic)],
        disk: Disk::Nothing,
    },
    Script {
        name: "stream",
        live: |diary, place, base| stream(diary, place, base, Durability::Memory),
        left: &[("s", in_stream)],
        disk: Disk::Nothing,
    },
    Script {
        name: "durable queue",
        live: |diary, place, base| queue(diary, place, base, Durability::Durable),
        left: &[("q", in_both)],
        disk: Disk::Everything,
    },
    Script {
        name: "durable stream",
        live: |diary, place, base| stream(diary, place, base, Durability::Durable),
        left: &[("s", in_stream)],
        disk: Disk::Everything,
    },
    Script {
        name: "looking and removing",
        live: look_and_remove,
        left: &[],
        disk: Disk::Nothing,
    },
];

/// Takes everything out of a queue.
fn in_queue(bus: &Bus, name: &str) -> Result<Vec<u64>, String> {
    let queue = match bus.queue(name).open() {
        Ok(queue) => queue,
        Err(ringway::OpenError::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(text(error)),
    };
    let mut receiver = queue.receiver().map_err(text)?;
    let mut numbers = Vec::new();
    loop {
        let batch = receiver.receive(100, MOMENT, None).map_err(text)?;
        let stats = queue.stats();
        if batch.is_empty() && stats.visible + stats.in_flight == 0 {
            return Ok(numbers);
        }
        for message in batch {
            numbers.push(crate::stage::id_of(&message.body)?);
            receiver.delete(&message.received.receipt).map_err(text)?;
        }
    }
}

/// Takes everything out of a queue and of the one that its messages are moved to.
fn in_both(bus: &Bus, name: &str) -> Result<Vec<u64>, String> {
    let mut numbers = in_queue(bus, name)?;
    numbers.extend(in_queue(bus, "dead")?);
    Ok(numbers)
}

/// Takes everything out of a queue, when everything that was published has been handed on: what could not be was put
/// off, and whoever comes goes on with it.
fn behind_topic(bus: &Bus, name: &str) -> Result<Vec<u64>, String> {
    let topic = match bus.topic("news").open() {
        Ok(topic) => topic,
        Err(ringway::OpenError::NotFound { .. }) => return in_queue(bus, name),
        Err(error) => return Err(text(error)),
    };
    let mut dispatcher = topic.dispatcher().map_err(text)?;
    let begun = Instant::now();
    loop {
        dispatcher.dispatch_within(MOMENT).map_err(text)?;
        let stats = topic.stats().map_err(text)?;
        if stats.failed > 0 {
            return Err(format!("a delivery was given up: {stats:?}"));
        }
        if stats.waiting == 0 {
            return in_queue(bus, name);
        }
        if begun.elapsed() > deadline() {
            return Err(format!("something is never handed on: {stats:?}"));
        }
    }
}

/// Reads everything in a stream.
fn in_stream(bus: &Bus, name: &str) -> Result<Vec<u64>, String> {
    let stream = match bus.stream(name).open() {
        Ok(stream) => stream,
        Err(ringway::OpenError::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(text(error)),
    };
    let reader = stream.reader().iterator(StreamIterator::TrimHorizon);
    let mut reader = reader.lossy().open().map_err(text)?;
    let (mut numbers, mut wrong) = (Vec::new(), None);
    let mut each = |record: ringway::StreamRecord<'_>| match crate::stage::id_of(record.data) {
        Ok(number) => numbers.push(number),
        Err(error) => wrong = Some(error),
    };
    while reader.try_read_batch(1000, &mut each).map_err(text)? > 0 {}
    match wrong {
        Some(error) => Err(error),
        None => Ok(numbers),
    }
}

fn open(diary: &mut Diary, place: &Place) -> Option<Bus> {
    diary.step("bus", || place.builder().open_or_create())
}

fn channel(diary: &mut Diary, place: &Place, base: u64) -> Option<()> {
    let bus = open(diary, place)?;
    let builder = bus.channel("c").slots(1024).stride(64).readers(8);
    let channel = diary.step("channel", || builder.open_or_create())?;
    let reader = diary.step("reader", || {
        channel.reader().start(Start::Latest).reliable().join()
    });
    let producer = diary.step("producer", || channel.producer());
    let mut written = Vec::new();
    if let Some(mut producer) = producer {
        for (number, len) in [(base, SMALL), (base + 1, LARGE)] {
            let sent = diary.step("send", || producer.send(&body(number, len), MOMENT));
            written.extend(sent.map(|_| number));
        }
        let loan = diary.step("loan", || producer.loan(LARGE));
        if let Some(mut loan) = loan {
            write_body(base + 2, &mut loan);
            let sent = diary.step("send a loan", || {
                producer.try_send_loan(loan).map_err(|(error, _)| error)
            });
            written.extend(sent.map(|_| base + 2));
        }
    }
    let mut reader = reader?;
    let mut buffer = vec![0; LARGE];
    for number in written {
        let record = diary.step("read", || reader.read(&mut buffer, MOMENT))?;
        let record = record.expect("what was sent is there");
        let read = crate::stage::id_of(&buffer[..record.len]);
        assert_eq!(read, Ok(number), "a record of the channel");
    }
    // Nothing is there: it sleeps.
    diary.step("read nothing", || reader.read(&mut buffer, MOMENT))?;
    Some(())
}

/// Receives one, and deletes it.
fn take(diary: &mut Diary, name: &str, receiver: &mut QueueReceiver) -> Option<Received> {
    let mut buffer = vec![0; LARGE];
    let received = diary.step("receive", || receiver.receive_into(&mut buffer, MOMENT))??;
    let number = crate::stage::id_of(&buffer[..received.len]).expect("a whole message");
    diary.seen.insert((name.to_owned(), number));
    let deleted = diary.step("delete", || receiver.delete(&received.receipt))?;
    if deleted {
        diary.gone.insert((name.to_owned(), number));
    }
    Some(received)
}

fn open_queue(diary: &mut Diary, bus: &Bus, name: &str, durability: Durability) -> Option<Queue> {
    let queue = bus
        .queue(name)
        .slots(1024)
        .stride(96)
        .durability(durability);
    diary.step(name, || queue.open_or_create())
}

fn queue(diary: &mut Diary, place: &Place, base: u64, durability: Durability) -> Option<()> {
    let bus = open(diary, place)?;
    let queue = open_queue(diary, &bus, "q", durability)?;
    let mut sender = diary.step("sender", || queue.sender())?;
    for number in base..base + 4 {
        let len = if number % 2 == 0 { SMALL } else { LARGE };
        diary.give("q", number, || sender.send(&body(number, len)));
    }
    let batch = [body(base + 4, SMALL), body(base + 5, SMALL)];
    let sent = diary
        .step("a batch", || sender.send_batch(&batch))
        .unwrap_or(0);
    for number in base + 4..base + 6 {
        diary.tried.insert(("q".into(), number));
        if number - base - 4 < sent as u64 {
            diary.kept.insert(("q".into(), number));
        }
    }
    let mut receiver = diary.step("receiver", || queue.receiver())?;
    for _ in 0..2 {
        take(diary, "q", &mut receiver);
    }
    // Two go on to another queue.
    let dead = open_queue(diary, &bus, "dead", durability)?;
    let moved = diary.step("move", || {
        let options = MoveOptions::new().destination(&dead);
        queue
            .move_messages(&options)?
            .run(|status| status.moved < 2)
    });
    let _ = moved;
    diary.step("settings", || {
        queue.set(&Settings::new().redrive(Redrive::to(&dead, 1)))
    });
    diary.step("purge nothing", || dead.flush());
    Some(())
}

fn growing_queue(diary: &mut Diary, place: &Place, base: u64, spills: bool) -> Option<()> {
    let bus = open(diary, place)?;
    let builder = bus
        .queue("grows")
        .slots(1024)
        .stride(64)
        .max_bytes(64 << 20)
        .spill(spills);
    let queue = diary.step("grows", || builder.open_or_create())?;
    let mut sender = diary.step("sender", || queue.sender())?;
    let mut refused = 0;
    for number in base..base + 5000 {
        // Refused is refused: enough is enough.
        if refused < 3 {
            let before = diary.told.len();
            diary.give("grows", number, || sender.send(&body(number, SMALL)));
            refused += diary.told.len() - before;
        }
    }
    let mut receiver = diary.step("receiver", || queue.receiver())?;
    let mut failed = 0;
    while failed < 3 {
        let before = diary.told.len();
        let taken = take(diary, "grows", &mut receiver);
        failed += diary.told.len() - before;
        if taken.is_none() && diary.told.len() == before {
            break;
        }
    }
    Some(())
}

/// Somebody in another process answers on `answers` what comes on `calls`.
fn waits(diary: &mut Diary, place: &Place, base: u64) -> Option<()> {
    let bus = open(diary, place)?;
    let calls = open_queue(diary, &bus, "calls", Durability::Memory)?;
    let answers = open_queue(diary, &bus, "answers", Durability::Memory)?;
    let mut sender = diary.step("sender", || calls.sender())?;
    let mut receiver = diary.step("receiver", || answers.receiver())?;
    let descriptor = diary.step("a descriptor", || receiver.poll_descriptor());
    drop(descriptor);
    let mut other = diary.step("another receiver", || calls.receiver())?;
    let both: &mut [&mut dyn Waitable] = &mut [&mut receiver, &mut other];
    diary.step("wait for both", || wait_any(both, MOMENT));
    for number in base..base + 3 {
        diary.give("calls", number, || sender.send(&body(number, SMALL)));
        diary.step("wait", || receiver.wait(MOMENT));
    }
    Some(())
}

fn topic(diary: &mut Diary, place: &Place, base: u64) -> Option<()> {
    let bus = open(diary, place)?;
    let inbox = open_queue(diary, &bus, "inbox", Durability::Memory)?;
    let topic: Topic = diary.step("topic", || {
        bus.topic("news").listen_slots(1024).open_or_create()
    })?;
    let fifo = bus.queue("ordered.fifo").fifo().slots(1024);
    let fifo = diary.step("ordered.fifo", || fifo.open_or_create());
    let is_there = |diary: &mut Diary, name: &str| {
        let known = diary.step("subscriptions", || topic.subscriptions());
        known.map(|known| known.iter().any(|it| it.endpoint == name))
    };
    let mut subscribed = Vec::new();
    for name in ["inbox", "ordered.fifo"] {
        let is_queue = name == "inbox" || fifo.is_some();
        match is_there(diary, name) {
            Some(true) => subscribed.push(name),
            Some(false) if is_queue => {
                let options = SubscribeOptions::new(name).raw(true);
                let done = diary.step("subscribe", || topic.subscribe(&options));
                subscribed.extend(done.map(|_| name));
            }
            _ => {}
        }
    }
    let listener = diary.step("listen", || topic.listen_with(&ListenOptions::new()));
    let mut publisher = diary.step("publisher", || topic.publisher())?;
    for number in base..base + 3 {
        for name in ["inbox", "ordered.fifo"] {
            diary.tried.insert((name.into(), number));
        }
        let (body, id) = (body(number, SMALL), number.to_string());
        let message = Publication::new(&body).group("g").dedup_id(&id);
        if diary
            .step("publish", || publisher.publish(&message))
            .is_some()
        {
            for name in &subscribed {
                diary.kept.insert(((*name).into(), number));
            }
        }
    }
    if let Some(mut listener) = listener {
        let mut heard = Notification::new();
        for _ in 0..4 {
            diary.step("hear", || listener.hear(&mut heard, MOMENT));
        }
    }
    diary.step("dispatch", || publisher.dispatcher().dispatch(100));
    let mut receiver = diary.step("receiver", || inbox.receiver())?;
    take(diary, "inbox", &mut receiver);
    diary.step("statistics", || topic.stats());
    Some(())
}

fn stream(diary: &mut Diary, place: &Place, base: u64, durability: Durability) -> Option<()> {
    let bus = open(diary, place)?;
    let builder = bus.stream("s").shards(2).slots(1024).durability(durability);
    let builder = match durability {
        Durability::Memory => builder,
        _ => builder.segment_bytes(256 << 10),
    };
    let stream: Stream = diary.step("stream", || builder.open_or_create())?;
    let mut producer = diary.step("producer", || stream.producer())?;
    for number in base..base + 3 {
        let len = if number % 2 == 0 { SMALL } else { LARGE };
        let (key, body) = (format!("k{number}"), body(number, len));
        diary.give("s", number, || producer.put(&key, &body));
    }
    let bodies = [body(base + 3, SMALL), body(base + 4, SMALL)];
    let records = [
        PutRecord::new("a", &bodies[0]),
        PutRecord::new("b", &bodies[1]),
    ];
    let mut outcomes = producer.put_batch(&records).into_iter();
    for number in base + 3..base + 5 {
        let outcome = outcomes.next().expect("an outcome for each");
        diary.give("s", number, || outcome);
    }
    let reader = stream.reader().iterator(StreamIterator::TrimHorizon);
    if let Some(mut reader) = diary.step("reader", || reader.lossy().open()) {
        diary.step("read", || reader.read_batch(100, MOMENT, |_| ()));
    }
    let group = diary.step("group", || {
        stream.group_or_create("g", GroupStart::TrimHorizon)
    });
    if let Some(group) = group
        && let Some(mut worker) = diary.step("worker", || group.join())
    {
        diary.step("work", || worker.read_batch(100, MOMENT, |_| ()));
        diary.step("checkpoint", || worker.checkpoint());
    }
    // An earlier life may have left it behind.
    diary.step("deregister", || stream.deregister_consumer("c"));
    let consumer = diary.step("consumer", || {
        stream.register_consumer("c", ConsumerPolicy::DropOldest)
    });
    if let Some(consumer) = consumer {
        let subscription = diary.step("subscription", || {
            consumer.subscribe(StreamIterator::Latest)
        });
        if let Some(mut subscription) = subscription {
            diary.step("consume", || subscription.read_batch(100, MOMENT, |_| ()));
        }
    }
    diary.step("deregister", || stream.deregister_consumer("c"));
    let open: Vec<ShardId> = diary
        .step("shards", || stream.shards())?
        .iter()
        .map(|it| it.id)
        .collect();
    if open.len() == 2 {
        diary.step("split", || stream.split(ShardId(0), None));
    }
    let body = body(base + 5, SMALL);
    diary.give("s", base + 5, || producer.put("behind", &body));
    Some(())
}

fn look_and_remove(diary: &mut Diary, place: &Place, base: u64) -> Option<()> {
    let bus = open(diary, place)?;
    let queue = open_queue(diary, &bus, "short", Durability::Memory);
    let stream = diary.step("stream", || {
        bus.stream("brief").slots(1024).open_or_create()
    });
    if let Some(queue) = &queue
        && let Some(mut sender) = diary.step("sender", || queue.sender())
    {
        let id = base.to_string();
        let body = body(base, LARGE);
        diary.step("send", || {
            sender.send_message(&Outgoing::new(&body).trace_header(&id))
        });
    }
    diary.step("observe", || -> Result<(), ringway::OpenError> {
        let observer = place.builder().observe()?;
        observer.objects()?;
        observer.queue("short")?;
        observer.stream("brief")?;
        Ok(())
    });
    diary.step("doctor", || bus.doctor(false));
    diary.step("reap", || bus.reap());
    drop((queue, stream));
    diary.step("remove a queue", || bus.remove("short"));
    diary.step("remove a stream", || bus.remove("brief"));
    Some(())
}

/// Directories below `root` and the files in them.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found
}
