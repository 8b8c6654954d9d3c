//! The operations that are stepped through: what each needs, what its victim does, and what a
//! stopped victim may cost the others.
//!
//! A victim's act has three parts: its own preparations, the stretch between [`begin`] and [`end`]
//! with the call and its acknowledgement on the board, and a sequel that shows that the handles
//! are as good as new. Killed, it never comes to the sequel; stopped and continued, it must.

use crate::book::Book;
use crate::published::{self, Published};
use crate::redriven::{self, Redriven};
use crate::stage::{self, INLINE, LARGE, body, id_of, text, write_body};
use crate::streamed::{self, Streamed};
use crate::survivor::{SURVIVOR, World};
use ringway::{
    Aggregation, Bus, Channel, CheckpointError, ConsumerPolicy, Deduplication, Message, Outgoing,
    Producers, Publication, PutRecord, Queue, QueueKind, QueueReceiver, QueueSender, ReadError,
    Reader, Received, ReshardError, Sent, ShardId, Start, Stream,
};
use ringway_harness::step::{begin, end};
use ringway_harness::{AckBoard, Stage, deadline};
use std::path::Path;
use std::time::{Duration, Instant};

/// Ids of the victim's records begin here.
pub const VICTIM: u64 = 2 << 32;
/// The bus that a victim creates beside the stage.
const OTHER: &str = "other";
/// Board counters that acknowledge the victim's records, by id.
pub const ACKS: usize = 8;
/// Records that a producer sends before it is stepped, where it is to be warm.
const WARM: u64 = 3;
/// The victim's last act, behind the stretch.
const SEQUEL: u64 = 7;
/// Queues: the board's counter of the survivor's message that the victim has deleted, plus one.
pub const DELETED: usize = 6;
/// Queues: the same of one that it had deleted before it was stepped.
pub const TAKEN: usize = 7;

/// What a stopped victim may cost the others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A slot or two.
    Slots,
    /// The exclusive producer's place: nobody else may send.
    Place,
    /// It reads reliably: the ring fills up behind it.
    Cursor,
}

/// One operation.
pub struct Operation {
    pub name: &'static str,
    pub producers: Producers,
    pub cost: Cost,
    /// Done by the survivor before the victim starts.
    pub scene: fn(&mut World) -> Result<(), String>,
    /// Then somebody else dies with everything in its hands ([`corpse`]).
    pub corpse: bool,
    /// Done by the victim.
    pub act: fn(&Player) -> Result<(), String>,
    /// Whether the places around each of its system calls are visited in every run.
    pub each_call: bool,
    /// Done by the survivor while the victim is stopped: what the victim is about.
    pub beside: fn(&mut World) -> Result<(), String>,
    /// What becomes of the object that the operation is about, before the survivor looks for what was
    /// left behind.
    pub outcome: fn(&mut World) -> Result<(), String>,
    /// What the survivor looks at in the end, beside all that it always looks at.
    pub after: fn(&mut World) -> Result<(), String>,
}

const SHARED: Operation = Operation {
    name: "",
    producers: Producers::Shared,
    cost: Cost::Slots,
    scene: some_records,
    corpse: false,
    each_call: false,
    act: |_| Ok(()),
    beside: |_| Ok(()),
    outcome: |_| Ok(()),
    after: |_| Ok(()),
};
const EXCLUSIVE: Operation = Operation {
    producers: Producers::Exclusive,
    cost: Cost::Place,
    ..SHARED
};

/// All of them, the small ones first.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "send, inline, shared",
        act: send_warm,
        scene: a_full_lap,
        ..SHARED
    },
    Operation {
        name: "send, inline, exclusive",
        act: send_warm,
        scene: a_full_lap,
        ..EXCLUSIVE
    },
    Operation {
        name: "first send, shared",
        act: send,
        ..SHARED
    },
    Operation {
        name: "first send, exclusive",
        act: send,
        ..EXCLUSIVE
    },
    Operation {
        name: "send that wakes a sleeper",
        act: send,
        scene: with_a_sleeper,
        ..SHARED
    },
    Operation {
        name: "send_with, shared",
        act: send_with,
        ..SHARED
    },
    Operation {
        name: "send_with, exclusive",
        act: send_with,
        ..EXCLUSIVE
    },
    Operation {
        name: "batch of 3, shared",
        act: batch,
        scene: a_full_lap,
        ..SHARED
    },
    Operation {
        name: "batch of 3, exclusive",
        act: batch,
        scene: a_full_lap,
        ..EXCLUSIVE
    },
    Operation {
        name: "loan, fill, drop",
        act: loan_and_drop,
        ..SHARED
    },
    Operation {
        name: "loan, fill, send",
        act: loan_and_send,
        ..SHARED
    },
    Operation {
        name: "large send, warm cache",
        act: large_send_warm,
        ..SHARED
    },
    Operation {
        name: "large send, exclusive",
        act: large_send_warm,
        ..EXCLUSIVE
    },
    Operation {
        name: "large send, cold cache",
        act: large_send_cold,
        ..SHARED
    },
    Operation {
        name: "read a copy, reliable",
        act: read_reliably,
        cost: Cost::Cursor,
        ..SHARED
    },
    Operation {
        name: "read a copy, lossy",
        act: read_lossily,
        ..SHARED
    },
    Operation {
        name: "read a large payload, reliable",
        act: read_reliably,
        scene: large_first,
        cost: Cost::Cursor,
        ..SHARED
    },
    Operation {
        name: "read a large payload, lossy",
        act: read_lossily,
        scene: large_first,
        ..SHARED
    },
    Operation {
        name: "view and drop, reliable",
        act: view,
        cost: Cost::Cursor,
        ..SHARED
    },
    Operation {
        name: "view and drop, lossy",
        act: view_lossily,
        ..SHARED
    },
    Operation {
        name: "view of a payload, lossy",
        act: view_lossily,
        scene: large_first,
        ..SHARED
    },
    Operation {
        name: "pinned view and drop",
        act: pinned_view,
        ..SHARED
    },
    Operation {
        name: "read a batch",
        act: read_batch,
        cost: Cost::Cursor,
        ..SHARED
    },
    Operation {
        name: "read past a dead claim",
        act: read_past_the_dead,
        corpse: true,
        ..SHARED
    },
    Operation {
        name: "read past a dead claim, exclusive",
        act: read_past_the_dead,
        corpse: true,
        cost: Cost::Place,
        ..EXCLUSIVE
    },
    Operation {
        name: "reader join, reliable",
        act: reader_join,
        cost: Cost::Cursor,
        ..SHARED
    },
    Operation {
        name: "reader drop, reliable",
        act: reader_drop,
        cost: Cost::Cursor,
        ..SHARED
    },
    Operation {
        name: "producer take, exclusive",
        act: producer_take,
        ..EXCLUSIVE
    },
    Operation {
        name: "producer drop, exclusive",
        act: producer_drop,
        ..EXCLUSIVE
    },
    Operation {
        name: "role take and release",
        act: role,
        after: the_role_is_free,
        ..SHARED
    },
    Operation {
        name: "trim and reclaim",
        act: send,
        scene: a_full_lap,
        ..SHARED
    },
    Operation {
        name: "trim and reclaim, exclusive",
        act: send,
        scene: a_full_lap,
        ..EXCLUSIVE
    },
    Operation {
        name: "bus detach",
        act: bus_detach,
        ..SHARED
    },
    Operation {
        name: "bus attach",
        act: bus_attach,
        ..SHARED
    },
    Operation {
        name: "channel open",
        act: channel_open,
        ..SHARED
    },
    Operation {
        name: "bus create",
        act: bus_create,
        each_call: true,
        beside: the_other_bus_works_long_after,
        after: the_other_bus_is_whole,
        ..SHARED
    },
    Operation {
        name: "bus open or create",
        act: bus_open_or_create,
        each_call: true,
        beside: the_other_bus_works_long_after,
        after: the_other_bus_is_whole,
        ..SHARED
    },
    Operation {
        name: "channel create",
        act: channel_create,
        each_call: true,
        beside: the_object_is_there,
        after: the_object_works,
        ..SHARED
    },
    Operation {
        name: "channel remove",
        act: channel_remove,
        scene: with_an_object,
        after: the_object_works,
        ..SHARED
    },
    Operation {
        name: "pool growth",
        act: large_send_cold,
        scene: |_| Ok(()),
        ..SHARED
    },
    Operation {
        name: "queue send, inline",
        act: queue_send_warm,
        scene: a_queue,
        ..SHARED
    },
    Operation {
        name: "queue send, large",
        act: queue_send_large,
        scene: a_queue,
        ..SHARED
    },
    Operation {
        name: "queue send, delayed",
        act: queue_send_delayed,
        scene: a_queue,
        ..SHARED
    },
    Operation {
        name: "queue send over a message in flight",
        act: queue_send,
        scene: a_queue_gone_round,
        ..SHARED
    },
    Operation {
        name: "queue send that grows the queue",
        act: queue_send,
        scene: a_queue_about_to_grow,
        each_call: true,
        ..SHARED
    },
    Operation {
        name: "queue receive that goes on to the next ring",
        act: queue_receive_on,
        scene: a_queue_that_has_grown,
        each_call: true,
        ..SHARED
    },
    Operation {
        name: "queue receive",
        act: queue_receive,
        scene: a_queue,
        ..SHARED
    },
    Operation {
        name: "queue receive, large",
        act: queue_receive,
        scene: a_queue_of_large,
        ..SHARED
    },
    Operation {
        name: "queue receive and delete",
        act: queue_take,
        scene: a_queue_to_take_from,
        ..SHARED
    },
    Operation {
        name: "queue delete",
        act: queue_delete,
        scene: a_queue_to_take_from,
        ..SHARED
    },
    Operation {
        name: "queue delete, large",
        act: queue_delete,
        scene: a_queue_of_large_to_take_from,
        ..SHARED
    },
    Operation {
        name: "queue extend",
        act: queue_extend,
        scene: a_queue,
        ..SHARED
    },
    Operation {
        name: "queue nack",
        act: queue_nack,
        scene: a_queue,
        ..SHARED
    },
    Operation {
        name: "queue open, receive, close",
        act: queue_close,
        scene: a_queue_to_leave,
        ..SHARED
    },
    Operation {
        name: "fifo send",
        act: fifo_send,
        scene: a_fifo_queue,
        ..SHARED
    },
    Operation {
        name: "fifo receive: link and take the first",
        act: queue_receive,
        scene: a_fifo_queue,
        ..SHARED
    },
    Operation {
        name: "fifo receive of a batch",
        act: fifo_batch,
        scene: a_fifo_queue,
        ..SHARED
    },
    Operation {
        name: "fifo receive and delete",
        act: queue_take,
        scene: a_fifo_queue_to_take_from,
        ..SHARED
    },
    Operation {
        name: "fifo delete in turn",
        act: queue_delete,
        scene: a_fifo_queue_to_take_from,
        ..SHARED
    },
    Operation {
        name: "fifo delete out of turn",
        act: fifo_delete_second,
        scene: a_fifo_queue_to_take_the_second_from,
        ..SHARED
    },
    Operation {
        name: "fifo delete of two in the wrong order",
        act: fifo_delete_behind,
        scene: a_fifo_queue_to_take_from,
        ..SHARED
    },
    Operation {
        name: "queue view",
        act: queue_view,
        scene: a_queue,
        ..SHARED
    },
    Operation {
        name: "queue view, large",
        act: queue_view,
        scene: a_queue_of_large,
        ..SHARED
    },
    Operation {
        name: "queue view, close",
        act: queue_view_close,
        scene: a_queue_of_large_to_take_from,
        ..SHARED
    },
    Operation {
        name: "queue delete under a view",
        act: queue_delete_under_view,
        scene: a_queue_to_take_from,
        ..SHARED
    },
    Operation {
        name: "queue delete under a view, large",
        act: queue_delete_under_view,
        scene: a_queue_of_large_to_take_from,
        ..SHARED
    },
    Operation {
        name: "queue redrive",
        act: queue_redrive,
        scene: two_queues,
        ..SHARED
    },
    Operation {
        name: "queue redrive, large",
        act: queue_redrive_large,
        scene: two_queues,
        ..SHARED
    },
    Operation {
        name: "queue redrive, the first",
        act: queue_redrive_first,
        scene: two_queues_with_poison,
        ..SHARED
    },
    Operation {
        name: "queue send once",
        act: queue_send_once,
        scene: a_queue_that_deduplicates,
        beside: send_once_beside,
        outcome: sent_exactly_once,
        ..SHARED
    },
    Operation {
        name: "queue send once, large",
        act: queue_send_once_large,
        scene: a_queue_that_deduplicates,
        beside: send_once_beside,
        outcome: sent_exactly_once,
        ..SHARED
    },
    Operation {
        name: "publish to two queues",
        act: topic_publish,
        scene: a_topic,
        ..SHARED
    },
    Operation {
        name: "publish to two queues, large",
        act: topic_publish_large,
        scene: a_topic,
        ..SHARED
    },
    Operation {
        name: "hand on to two queues what others published",
        act: topic_dispatch,
        scene: a_topic_with_a_backlog,
        ..SHARED
    },
    Operation {
        name: "publish, the first",
        act: topic_publish_first,
        scene: a_topic,
        ..SHARED
    },
    Operation {
        name: "subscribe a queue",
        act: topic_subscribe,
        scene: a_topic,
        ..SHARED
    },
    Operation {
        name: "publish to two queues and a listener",
        act: topic_publish,
        scene: a_topic_that_is_heard,
        ..SHARED
    },
    Operation {
        name: "publish to a listener, large",
        act: topic_publish_large,
        scene: a_topic_that_is_heard,
        ..SHARED
    },
    Operation {
        name: "unsubscribe a queue",
        act: topic_unsubscribe,
        scene: a_topic_of_three,
        ..SHARED
    },
    Operation {
        name: "stream put",
        act: stream_put,
        scene: a_stream,
        ..SHARED
    },
    Operation {
        name: "stream put of a batch of 3",
        act: stream_put_batch,
        scene: a_stream,
        ..SHARED
    },
    Operation {
        name: "stream put, aggregated",
        act: stream_put_aggregated,
        scene: a_stream,
        ..SHARED
    },
    Operation {
        name: "stream split",
        act: stream_split,
        scene: a_stream,
        ..SHARED
    },
    Operation {
        name: "stream merge",
        act: stream_merge,
        scene: a_stream,
        ..SHARED
    },
    Operation {
        name: "stream lease",
        act: stream_lease,
        scene: a_stream,
        ..SHARED
    },
    Operation {
        name: "stream checkpoint",
        act: stream_checkpoint,
        scene: a_stream,
        ..SHARED
    },
    Operation {
        name: "stream register",
        act: stream_register,
        scene: a_stream,
        ..SHARED
    },
    Operation {
        name: "reap of the dead",
        act: reap,
        corpse: true,
        ..SHARED
    },
];

// What the survivor prepares.

fn some_records(world: &mut World) -> Result<(), String> {
    world.send(&[INLINE, INLINE, LARGE, INLINE])
}

fn large_first(world: &mut World) -> Result<(), String> {
    world.send(&[LARGE, INLINE, LARGE])
}

/// The flag that a sleeper raised stands until somebody wakes it.
fn with_a_sleeper(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    world.drain()?;
    world.doze()
}

/// The next position is the first of the second lap, and everything below it is read: the sender
/// has to advance `trim` and to free the payloads below.
fn a_full_lap(world: &mut World) -> Result<(), String> {
    let mut lens = [INLINE; stage::SLOTS as usize];
    lens[..64].fill(LARGE);
    world.send(&lens)?;
    world.drain()
}

fn two_queues(world: &mut World) -> Result<(), String> {
    world.redriven = Some(Redriven::new(world.bus(), 2)?);
    Ok(())
}

fn a_stream(world: &mut World) -> Result<(), String> {
    world.streamed = Some(Streamed::new(world.bus())?);
    Ok(())
}

fn a_topic(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    world.published = Some(Published::new(world.bus())?);
    Ok(())
}

fn a_topic_with_a_backlog(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let mut published = Published::new(world.bus())?;
    published.leave(WARM + 3)?;
    world.published = Some(published);
    Ok(())
}

fn a_topic_that_is_heard(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    world.published = Some(Published::new(world.bus())?.listen()?);
    Ok(())
}

fn a_topic_of_three(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    world.published = Some(Published::new(world.bus())?.subscribe_late()?);
    Ok(())
}

fn two_queues_with_poison(world: &mut World) -> Result<(), String> {
    let mut redriven = Redriven::new(world.bus(), 1)?;
    redriven.poison(LARGE)?;
    world.redriven = Some(redriven);
    Ok(())
}

fn a_queue(world: &mut World) -> Result<(), String> {
    queue_of(world, &[INLINE, LARGE, INLINE], false)
}

fn a_queue_of_large(world: &mut World) -> Result<(), String> {
    queue_of(world, &[LARGE, INLINE], false)
}

fn a_queue_to_take_from(world: &mut World) -> Result<(), String> {
    queue_of(world, &[INLINE, LARGE], true)
}

fn a_queue_of_large_to_take_from(world: &mut World) -> Result<(), String> {
    queue_of(world, &[LARGE, INLINE], true)
}

fn a_queue_to_leave(world: &mut World) -> Result<(), String> {
    a_queue(world)?;
    world.book.iter_mut().for_each(|book| book.may_leave = true);
    Ok(())
}

fn queue_of(world: &mut World, lens: &[usize], may_take: bool) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::new(world.bus())?;
    book.send(lens)?;
    book.may_take = may_take.then_some(0);
    world.book = Some(book);
    Ok(())
}

fn a_fifo_queue(world: &mut World) -> Result<(), String> {
    fifo_of(world, None)
}

fn a_fifo_queue_to_take_from(world: &mut World) -> Result<(), String> {
    fifo_of(world, Some(0))
}

fn a_fifo_queue_to_take_the_second_from(world: &mut World) -> Result<(), String> {
    fifo_of(world, Some(1))
}

/// Three messages of one group.
fn fifo_of(world: &mut World, may_take: Option<u64>) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::of(world.bus(), QueueKind::Fifo)?;
    book.send(&[INLINE, LARGE, INLINE])?;
    book.end_group();
    book.may_take = may_take;
    world.book = Some(book);
    Ok(())
}

/// The next position is the first of the second round, and its slot holds a message in flight.
fn a_queue_gone_round(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::new(world.bus())?;
    book.send(&[INLINE; stage::SLOTS as usize])?;
    book.hold_the_first()?;
    world.book = Some(book);
    Ok(())
}

fn a_queue_that_deduplicates(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let builder = world.bus().queue("once").fifo().slots(stage::SLOTS);
    let builder = builder.deduplicate(Deduplication::of_ids(1024));
    let queue = builder.create().map_err(text)?;
    let other = Outgoing::new(b"other").group("g").dedup_id("other");
    let sent = queue.sender().map_err(text)?.send_message(&other);
    sent.map(drop).map_err(text)
}

/// Its first ring holds as many messages as it can, and there is room for another.
fn a_queue_about_to_grow(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::growing(world.bus())?;
    book.send(&[INLINE; stage::SLOTS as usize])?;
    world.book = Some(book);
    Ok(())
}

/// Nothing is in its first ring and in its second any more, but the second is still there; the third
/// has a message.
fn a_queue_that_has_grown(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::growing(world.bus())?;
    book.send(&[INLINE; 3 * stage::SLOTS as usize + 1])?;
    book.take(3 * stage::SLOTS)?;
    world.book = Some(book);
    Ok(())
}

fn with_an_object(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    stage::channel(world.bus(), "object", Producers::Shared).map(drop)
}

/// The survivor repeats the message that the victim is about.
fn send_once_beside(world: &mut World) -> Result<(), String> {
    send_once(world.bus(), INLINE).map(drop)
}

// What the survivor looks at.

/// However far the victim came, and whoever repeated it: one message of that id.
fn sent_exactly_once(world: &mut World) -> Result<(), String> {
    let sent = send_once(world.bus(), INLINE)?;
    let queue = world.bus().queue("once").open().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let mut positions = Vec::new();
    // The claim of the dead is met, and then found out.
    let start = Instant::now();
    while queue.stats().visible > 0 && start.elapsed() < deadline() {
        for message in receiver.receive(10, Duration::ZERO, None).map_err(text)? {
            receiver.delete(&message.received.receipt).map_err(text)?;
            if message.body != b"other" {
                id_of(&message.body)?;
                positions.push(message.received.position());
            }
        }
    }
    if positions != [sent.position] {
        return Err(format!("{sent:?}, received from {positions:?}"));
    }
    let again = send_once(world.bus(), INLINE)?;
    if !again.duplicate || again.position != sent.position {
        return Err(format!("{sent:?}, deleted, and then {again:?}"));
    }
    Ok(())
}

fn the_role_is_free(world: &mut World) -> Result<(), String> {
    world.take_role(3)
}

fn the_object_works(world: &mut World) -> Result<(), String> {
    world.timed(|world| works(world.bus(), LARGE))
}

/// The same without a payload that would stay in it.
fn the_object_is_there(world: &mut World) -> Result<(), String> {
    world.timed(|world| works(world.bus(), INLINE))
}

/// Whoever wants the bus that the victim creates has it, and sends and reads.
fn the_other_bus_works(world: &mut World) -> Result<(), String> {
    world.timed(|world| {
        let other = stage::bus_called(OTHER, world.root());
        works(&other.open_or_create().map_err(text)?, LARGE)
    })
}

/// The same when what the stopped victim is building looks abandoned by its age.
fn the_other_bus_works_long_after(world: &mut World) -> Result<(), String> {
    age_hidden_names(world.root())?;
    the_other_bus_works(world)
}

/// And nothing else is left, once what was being built is old enough to be called a leftover.
fn the_other_bus_is_whole(world: &mut World) -> Result<(), String> {
    the_other_bus_works(world)?;
    age_hidden_names(world.root())?;
    let bus = stage::bus_called(OTHER, world.root());
    let bus = bus.open().map_err(text)?;
    bus.doctor(true).map_err(text)?;
    let report = bus.doctor(false).map_err(text)?;
    let mut left = names(world.root())?;
    left.sort();
    if !report.is_clean() || report.participants != 1 || left != ["ringway-other", "ringway-stage"]
    {
        return Err(format!("{left:?}, {report:?}"));
    }
    Ok(())
}

fn names(root: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(root).map_err(text)?;
    let names = entries.map(|entry| Ok(entry.map_err(text)?.file_name().display().to_string()));
    names.collect()
}

/// An hour passes.
fn age_hidden_names(root: &Path) -> Result<(), String> {
    for name in names(root)?.iter().filter(|name| name.starts_with('.')) {
        let hidden = std::fs::File::open(root.join(name)).map_err(text)?;
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        hidden.set_modified(long_ago).map_err(text)?;
    }
    Ok(())
}

fn works(bus: &Bus, len: usize) -> Result<(), String> {
    let object = stage::channel(bus, "object", Producers::Shared)?;
    let mut reader = object.reader().join().map_err(text)?;
    object
        .producer()
        .map_err(text)?
        .try_send(&body(1, len))
        .map_err(text)?;
    match Player::read(&mut reader)? {
        Some(1) => Ok(()),
        other => Err(format!("the object gave {other:?}")),
    }
}

// What the victim does.

/// The victim's side of the stage.
pub struct Player<'a> {
    stage: &'a Stage,
    acks: AckBoard,
}

/// The role of every victim.
pub fn victim(stage: &Stage) -> Result<(), String> {
    let name = stage.text("operation");
    let operation = OPERATIONS.iter().find(|operation| operation.name == name);
    let player = Player {
        stage,
        acks: stage.board("acks"),
    };
    (operation.ok_or("no such operation")?.act)(&player)
}

/// The role of one that dies with everything in its hands: a reader entry, a chunk, a role, and a
/// claim, inside of which it is held.
pub fn corpse(stage: &Stage) -> Result<(), String> {
    let player = Player {
        stage,
        acks: stage.board("acks"),
    };
    let bus = player.bus()?;
    let channel = bus.channel("c").open().map_err(text)?;
    let reader = channel
        .reader()
        .start(Start::Earliest)
        .join()
        .map_err(text)?;
    let mut producer = channel.producer().map_err(text)?;
    bus.take_role(5).map_err(text)?;
    let loan = producer.loan(LARGE).map_err(text)?;
    let sent = producer.try_send_with(INLINE, |_| {
        begin();
        end();
    });
    drop((reader, loan));
    sent.map(drop).map_err(text)
}

impl Player<'_> {
    fn bus(&self) -> Result<Bus, String> {
        stage::bus(&self.stage.path("root")).open().map_err(text)
    }

    fn channel(&self) -> Result<Channel, String> {
        self.bus()?.channel("c").open().map_err(text)
    }

    /// Record `n` of ours was sent.
    #[inline(always)]
    fn ack<T, E>(&self, n: u64, sent: &Result<T, E>) {
        if sent.is_ok() {
            self.acks.set(n as usize, 1);
        }
    }

    fn sequel(&self, producer: &mut ringway::Producer) -> Result<(), String> {
        let sent = producer.try_send(&body(VICTIM + SEQUEL, LARGE));
        self.ack(SEQUEL, &sent);
        sent.map(drop).map_err(text)
    }

    /// The id of the next record.
    fn read(reader: &mut Reader) -> Result<Option<u64>, String> {
        let mut buffer = [0; 1024];
        let record = reader.try_read(&mut buffer).map_err(text)?;
        record
            .map(|record| id_of(&buffer[..record.len]))
            .transpose()
    }

    /// Reads on from the survivor's record `next` to the end and finds each of them.
    fn read_on(reader: &mut Reader, mut next: u64) -> Result<(), String> {
        let mut buffer = [0; 1024];
        loop {
            match reader.try_read(&mut buffer) {
                Ok(None) => return Ok(()),
                Ok(Some(record)) => {
                    let id = id_of(&buffer[..record.len])?;
                    if id >= VICTIM {
                        continue;
                    }
                    if id != SURVIVOR + next && (reader.is_reliable() || id < SURVIVOR + next) {
                        return Err(format!("read {id:#x}, expected {next}"));
                    }
                    next = id - SURVIVOR + 1;
                }
                Err(ReadError::Lagged { .. }) if !reader.is_reliable() => {}
                Err(error) => return Err(text(error)),
            }
        }
    }
}

/// The first sends of a producer look around; this is every later one.
fn send_warm(player: &Player) -> Result<(), String> {
    let mut producer = warm(player)?;
    let body = body(VICTIM + WARM, INLINE);
    begin();
    let sent = producer.try_send(&body);
    player.ack(WARM, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

/// A producer that has found the tail, room, and the next boundary of the tail hint.
fn warm(player: &Player) -> Result<ringway::Producer, String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    for n in 0..WARM {
        let sent = producer.try_send(&body(VICTIM + n, INLINE));
        player.ack(n, &sent);
        sent.map_err(text)?;
    }
    Ok(producer)
}

fn send(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    let body = body(VICTIM, INLINE);
    begin();
    let sent = producer.try_send(&body);
    player.ack(0, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

fn send_with(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    begin();
    let sent = producer.try_send_with(INLINE, |out| write_body(VICTIM, out));
    player.ack(0, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

fn batch(player: &Player) -> Result<(), String> {
    let mut producer = warm(player)?;
    let ids = [WARM, WARM + 1, WARM + 2];
    let bodies = ids.map(|n| body(VICTIM + n, INLINE));
    begin();
    let sent = producer.try_send_batch(&bodies);
    if let Ok(3) = sent {
        ids.iter().for_each(|n| player.ack(*n, &sent));
    }
    end();
    match sent {
        Ok(3) => player.sequel(&mut producer),
        other => Err(format!("a batch of 3: {other:?}")),
    }
}

fn loan_and_drop(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    drop(producer.loan(LARGE).map_err(text)?);
    let body = body(VICTIM, LARGE);
    begin();
    let loan = producer.loan(LARGE);
    if let Ok(mut loan) = loan {
        loan.copy_from_slice(&body);
    }
    end();
    player.sequel(&mut producer)
}

fn loan_and_send(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    drop(producer.loan(LARGE).map_err(text)?);
    let body = body(VICTIM, LARGE);
    begin();
    let sent = match producer.loan(LARGE) {
        Ok(mut loan) => {
            loan.copy_from_slice(&body);
            producer.try_send_loan(loan).map_err(|(error, _)| error)
        }
        Err(error) => Err(error),
    };
    player.ack(0, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

fn large_send_warm(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    drop(producer.loan(LARGE).map_err(text)?);
    large_send(player, producer)
}

fn large_send_cold(player: &Player) -> Result<(), String> {
    let producer = player.channel()?.producer().map_err(text)?;
    large_send(player, producer)
}

fn large_send(player: &Player, mut producer: ringway::Producer) -> Result<(), String> {
    let body = body(VICTIM, LARGE);
    begin();
    let sent = producer.try_send(&body);
    player.ack(0, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

fn reader(player: &Player, reliable: bool) -> Result<Reader, String> {
    let builder = player.channel()?.reader().start(Start::Earliest);
    let builder = if reliable {
        builder.reliable()
    } else {
        builder.lossy()
    };
    builder.join().map_err(text)
}

fn read_reliably(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, true)?;
    let mut buffer = [0; 1024];
    begin();
    let read = reader.try_read(&mut buffer);
    end();
    let record = read.map_err(text)?.ok_or("nothing to read")?;
    first_record(id_of(&buffer[..record.len])?)?;
    Player::read_on(&mut reader, 1)
}

fn read_lossily(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, false)?;
    let mut buffer = [0; 1024];
    begin();
    let read = reader.try_read(&mut buffer);
    end();
    match read {
        Ok(Some(record)) => first_record(id_of(&buffer[..record.len])?)?,
        Ok(None) | Err(ReadError::Lagged { .. }) => {}
        Err(error) => return Err(text(error)),
    }
    Player::read_on(&mut reader, 0)
}

fn first_record(id: u64) -> Result<(), String> {
    if id == SURVIVOR {
        Ok(())
    } else {
        Err(format!("the first record is {id:#x}"))
    }
}

fn view(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, true)?;
    begin();
    let id = reader.try_view().map(|view| view.map(|view| id_of(&view)));
    end();
    first_record(id.map_err(text)?.ok_or("nothing to see")??)?;
    Player::read_on(&mut reader, 1)
}

fn view_lossily(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, false)?;
    begin();
    let id = reader.try_view().map(|view| view.map(|view| id_of(&view)));
    end();
    match id {
        Ok(Some(id)) => first_record(id?)?,
        Ok(None) | Err(ReadError::Lagged { .. }) => {}
        Err(error) => return Err(text(error)),
    }
    Player::read_on(&mut reader, 0)
}

fn pinned_view(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, false)?;
    begin();
    let id = reader
        .try_view_pinned()
        .map(|view| view.map(|view| id_of(&view)));
    end();
    match id {
        Ok(Some(id)) => first_record(id?)?,
        Ok(None) | Err(ReadError::Lagged { .. }) => {}
        Err(error) => return Err(text(error)),
    }
    Player::read_on(&mut reader, 0)
}

fn read_batch(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, true)?;
    let mut ids = [0u64; 3];
    let mut count = 0;
    begin();
    let read = reader.read_batch(3, |_, body| {
        ids[count] = id_of(body).unwrap_or(0);
        count += 1;
    });
    end();
    if !matches!(read, Ok(3)) || ids != [0, 1, 2].map(|n| SURVIVOR + n) {
        return Err(format!("a batch of 3: {read:?}, {ids:x?}"));
    }
    Player::read_on(&mut reader, 3)
}

/// The claim has been met before; at this look its owner is old enough to be probed.
fn read_past_the_dead(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, false)?;
    while Player::read(&mut reader)?.is_some() {}
    let met = std::time::Instant::now();
    // The probe is due 50 µs after the claim was met: passed by working, not by sleeping.
    while met.elapsed() < std::time::Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    let mut buffer = [0; 1024];
    begin();
    let read = reader.try_read(&mut buffer);
    end();
    match read {
        Ok(Some(record)) => id_of(&buffer[..record.len]).map(drop)?,
        Ok(None) | Err(ReadError::Lagged { .. }) => {}
        Err(error) => return Err(text(error)),
    }
    Player::read_on(&mut reader, 0)
}

fn reader_join(player: &Player) -> Result<(), String> {
    let builder = player.channel()?.reader().start(Start::Earliest);
    begin();
    let reader = builder.join();
    end();
    let mut reader = reader.map_err(text)?;
    // What it finds depends on when it got its place, but from there on nothing may be missing.
    let Some(first) = Player::read(&mut reader)? else {
        return Ok(());
    };
    Player::read_on(&mut reader, first - SURVIVOR + 1)
}

fn reader_drop(player: &Player) -> Result<(), String> {
    let channel = player.channel()?;
    let reader = channel
        .reader()
        .start(Start::Earliest)
        .join()
        .map_err(text)?;
    begin();
    drop(reader);
    end();
    player.sequel(&mut channel.producer().map_err(text)?)
}

fn producer_take(player: &Player) -> Result<(), String> {
    let channel = player.channel()?;
    begin();
    let producer = channel.producer();
    end();
    match producer {
        Ok(mut producer) => player.sequel(&mut producer),
        // The survivor took the place before we did, and gave it back since.
        Err(ringway::JoinError::Busy { .. }) => {
            player.sequel(&mut channel.producer().map_err(text)?)
        }
        Err(error) => Err(text(error)),
    }
}

fn producer_drop(player: &Player) -> Result<(), String> {
    let channel = player.channel()?;
    let mut producer = channel.producer().map_err(text)?;
    let sent = producer.try_send(&body(VICTIM, LARGE));
    player.ack(0, &sent);
    begin();
    drop(producer);
    end();
    player.sequel(&mut channel.producer().map_err(text)?)
}

fn role(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    begin();
    let taken = bus.take_role(3);
    let released = bus.release_role(3);
    end();
    if taken.is_ok() == released {
        Ok(())
    } else {
        Err(format!("{taken:?}, {released}"))
    }
}

fn bus_attach(player: &Player) -> Result<(), String> {
    let builder = stage::bus(&player.stage.path("root")).participant_name("victim");
    begin();
    let bus = builder.open();
    end();
    let channel = bus.map_err(text)?.channel("c").open().map_err(text)?;
    player.sequel(&mut channel.producer().map_err(text)?)
}

fn bus_create(player: &Player) -> Result<(), String> {
    let builder = stage::bus_called(OTHER, &player.stage.path("root"));
    begin();
    let bus = builder.create();
    end();
    match bus {
        Ok(bus) => works(&bus, LARGE),
        // Somebody was first while we were stopped.
        Err(ringway::OpenError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

/// Whoever was first: afterwards there is one, and we are in it.
fn bus_open_or_create(player: &Player) -> Result<(), String> {
    let builder = stage::bus_called(OTHER, &player.stage.path("root"));
    begin();
    let bus = builder.open_or_create();
    end();
    works(&bus.map_err(text)?, LARGE)
}

fn bus_detach(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    begin();
    drop(bus);
    end();
    player.sequel(&mut player.channel()?.producer().map_err(text)?)
}

fn channel_open(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    let builder = bus.channel("c");
    begin();
    let channel = builder.open();
    end();
    player.sequel(&mut channel.map_err(text)?.producer().map_err(text)?)
}

fn channel_create(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    let builder = bus
        .channel("object")
        .slots(stage::SLOTS)
        .stride(stage::STRIDE)
        .readers(8);
    begin();
    let channel = builder.create();
    end();
    match channel {
        Ok(channel) => {
            let sent = channel
                .producer()
                .map_err(text)?
                .try_send(b"no reader, no matter");
            sent.map(drop).map_err(text)
        }
        // Somebody was first while we were stopped.
        Err(ringway::OpenError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

fn channel_remove(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    begin();
    let removed = bus.remove("object");
    end();
    match removed {
        Ok(()) | Err(ringway::OpenError::NotFound { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

fn queue(player: &Player) -> Result<Queue, String> {
    player.bus()?.queue("q").open().map_err(text)
}

fn queue_send_warm(player: &Player) -> Result<(), String> {
    let mut sender = queue(player)?.sender().map_err(text)?;
    for n in 0..WARM {
        let sent = sender.send(&body(VICTIM + n, INLINE));
        player.ack(n, &sent);
        sent.map_err(text)?;
    }
    queue_send_of(player, sender, WARM, INLINE, None)
}

fn queue_send(player: &Player) -> Result<(), String> {
    let sender = queue(player)?.sender().map_err(text)?;
    queue_send_of(player, sender, 0, INLINE, None)
}

fn queue_send_large(player: &Player) -> Result<(), String> {
    let mut sender = queue(player)?.sender().map_err(text)?;
    drop(sender.loan(LARGE).map_err(text)?);
    queue_send_of(player, sender, 0, LARGE, None)
}

fn queue_send_delayed(player: &Player) -> Result<(), String> {
    let sender = queue(player)?.sender().map_err(text)?;
    let moment = Duration::from_millis(2);
    queue_send_of(player, sender, 0, INLINE, Some(moment))
}

fn queue_send_of(
    player: &Player,
    mut sender: QueueSender,
    n: u64,
    len: usize,
    delay: Option<Duration>,
) -> Result<(), String> {
    let message = body(VICTIM + n, len);
    begin();
    let sent = match delay {
        None => sender.send(&message),
        Some(delay) => sender.send_delayed(&message, delay),
    };
    player.ack(n, &sent);
    end();
    sent.map_err(text)?;
    let sent = sender.send(&body(VICTIM + WARM + 1, LARGE));
    player.ack(WARM + 1, &sent);
    sent.map(drop).map_err(text)
}

/// Sends the message that all send.
fn send_once(bus: &Bus, len: usize) -> Result<Sent, String> {
    let queue = bus.queue("once").open().map_err(text)?;
    let mut sender = queue.sender().map_err(text)?;
    let body = body(VICTIM, len);
    let message = Outgoing::new(&body).group("g").dedup_id("the-same");
    sender.send_message(&message).map_err(text)
}

fn queue_send_once(player: &Player) -> Result<(), String> {
    queue_send_once_of(player, INLINE)
}

fn queue_send_once_large(player: &Player) -> Result<(), String> {
    queue_send_once_of(player, LARGE)
}

fn queue_send_once_of(player: &Player, len: usize) -> Result<(), String> {
    let bus = player.bus()?;
    let queue = bus.queue("once").open().map_err(text)?;
    let mut sender = queue.sender().map_err(text)?;
    let other = Outgoing::new(b"other").group("g").dedup_id("other");
    if !sender.send_message(&other).map_err(text)?.duplicate {
        return Err("the survivor has sent this before".into());
    }
    let body = body(VICTIM, len);
    let message = Outgoing::new(&body).group("g").dedup_id("the-same");
    begin();
    let sent = sender.send_message(&message);
    end();
    let sent = sent.map_err(text)?;
    let again = send_once(&bus, INLINE)?;
    if !again.duplicate || again.position != sent.position {
        return Err(format!("{sent:?}, and then {again:?}"));
    }
    Ok(())
}

/// The victim has deleted a message of the survivor.
#[inline(always)]
fn ack_deleted(player: &Player, id: u64) {
    player.acks.set(DELETED, id - SURVIVOR + 1);
}

/// Deletes what is held; the survivor may not have got it meanwhile.
fn delete_held(
    player: &Player,
    receiver: &mut QueueReceiver,
    (id, received): (u64, Received),
) -> Result<(), String> {
    if !(SURVIVOR..VICTIM).contains(&id) {
        return Err(format!("received {id:#x}"));
    }
    match receiver.delete(&received.receipt) {
        Ok(true) => {
            ack_deleted(player, id);
            Ok(())
        }
        other => Err(format!("the delete of a message that is held: {other:?}")),
    }
}

/// Receives the first message, before the stretch.
fn holding(player: &Player) -> Result<(QueueReceiver, (u64, Received)), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let mut buffer = [0; 1024];
    let received = receiver.try_receive(&mut buffer).map_err(text)?;
    let received = received.ok_or("nothing to receive")?;
    let id = id_of(&buffer[..received.len])?;
    Ok((receiver, (id, received)))
}

fn queue_receive(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let mut buffer = [0; 1024];
    begin();
    let received = receiver.try_receive(&mut buffer);
    end();
    // Stopped in the middle, it may find that the survivor has taken everything.
    match received.map_err(text)? {
        None => Ok(()),
        Some(received) => {
            let id = id_of(&buffer[..received.len])?;
            delete_held(player, &mut receiver, (id, received))
        }
    }
}

/// Walks over two sealed rings to the third, and gives the second back.
fn queue_receive_on(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let mut buffers = [[0; 1024]; 2];
    begin();
    let received = buffers
        .each_mut()
        .map(|buffer| receiver.try_receive(buffer));
    end();
    let [first, second] = received;
    if let Some(second) = second.map_err(text)? {
        let given_back = receiver.nack(&second.receipt, Duration::ZERO);
        given_back.map_err(text)?;
    }
    match first.map_err(text)? {
        None => Ok(()),
        Some(first) => {
            let id = id_of(&buffers[0][..first.len])?;
            delete_held(player, &mut receiver, (id, first))
        }
    }
}

fn queue_take(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let mut buffer = [0; 1024];
    begin();
    let received = receiver.receive_and_delete(&mut buffer);
    end();
    match received.map_err(text)? {
        None => Ok(()),
        Some(received) => {
            ack_deleted(player, id_of(&buffer[..received.len])?);
            Ok(())
        }
    }
}

fn queue_delete(player: &Player) -> Result<(), String> {
    let (mut receiver, (id, received)) = holding(player)?;
    begin();
    let deleted = receiver.delete(&received.receipt);
    if deleted.is_ok() {
        ack_deleted(player, id);
    }
    end();
    match deleted {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn queue_extend(player: &Player) -> Result<(), String> {
    let (mut receiver, held) = holding(player)?;
    begin();
    let extended = receiver.change_visibility(&held.1.receipt, Duration::from_secs(3600));
    end();
    extended.map_err(text)?;
    delete_held(player, &mut receiver, held)
}

fn queue_nack(player: &Player) -> Result<(), String> {
    let (mut receiver, (_, received)) = holding(player)?;
    begin();
    let given_back = receiver.nack(&received.receipt, Duration::ZERO);
    end();
    given_back.map_err(text)
}

/// Receives, and closes everything but the bus with the message in its hands; the receipt is good
/// beyond that.
fn queue_close(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    begin();
    let received = (|| {
        let queue = bus.queue("q").open().map_err(text)?;
        let mut receiver = queue.receiver().map_err(text)?;
        let mut buffer = [0; 1024];
        let received = receiver.try_receive(&mut buffer).map_err(text)?;
        received
            .map(|received| Ok((id_of(&buffer[..received.len])?, received)))
            .transpose()
    })();
    end();
    let received: Result<Option<(u64, Received)>, String> = received;
    let Some(held) = received? else {
        return Ok(());
    };
    let queue = bus.queue("q").open().map_err(text)?;
    delete_held(player, &mut queue.receiver().map_err(text)?, held)
}

fn fifo_send(player: &Player) -> Result<(), String> {
    let mut sender = queue(player)?.sender().map_err(text)?;
    let mut send = |n: u64, len: usize, is_watched: bool| {
        let message = body(VICTIM + n, len);
        let message = Outgoing::new(&message).group("first");
        if is_watched {
            begin();
        }
        let sent = sender.send_message(&message);
        player.ack(n, &sent.as_ref().map(|sent| sent.position));
        if is_watched {
            end();
        }
        sent.map(drop).map_err(text)
    };
    for n in 0..WARM {
        send(n, INLINE, false)?;
    }
    send(WARM, INLINE, true)?;
    send(WARM + 1, LARGE, false)
}

fn fifo_batch(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    begin();
    let received = receiver.receive(2, Duration::ZERO, None);
    end();
    // Given back: the survivor insists on each of them.
    for message in received.map_err(text)? {
        let receipt = message.received.receipt;
        receiver.nack(&receipt, Duration::ZERO).map_err(text)?;
    }
    Ok(())
}

/// The first two of the group, before the stretch.
fn holding_two(player: &Player) -> Result<(QueueReceiver, Vec<Message>), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let received = receiver.receive(2, Duration::ZERO, None).map_err(text)?;
    if received.len() != 2 {
        return Err(format!("received {received:?}"));
    }
    Ok((receiver, received))
}

/// Deletes the second; the first comes again.
fn fifo_delete_second(player: &Player) -> Result<(), String> {
    let (mut receiver, two) = holding_two(player)?;
    let id = id_of(&two[1].body)?;
    begin();
    let deleted = receiver.delete(&two[1].received.receipt);
    if deleted.is_ok() {
        ack_deleted(player, id);
    }
    end();
    if !matches!(deleted, Ok(true)) {
        return Err(format!("{deleted:?}"));
    }
    let first = &two[0].received.receipt;
    receiver.nack(first, Duration::ZERO).map_err(text)
}

/// Deletes the second before the stretch and the first in it, and so both.
fn fifo_delete_behind(player: &Player) -> Result<(), String> {
    let (mut receiver, two) = holding_two(player)?;
    player.acks.set(TAKEN, id_of(&two[1].body)? - SURVIVOR + 1);
    let second = receiver.delete(&two[1].received.receipt).map_err(text)?;
    let id = id_of(&two[0].body)?;
    begin();
    let deleted = receiver.delete(&two[0].received.receipt);
    if deleted.is_ok() {
        ack_deleted(player, id);
    }
    end();
    match (second, deleted) {
        (true, Ok(true)) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Looks at the first message in place, and deletes it.
fn queue_view(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    begin();
    let view = receiver.try_receive_view();
    end();
    // Stopped in the middle, it may find that the survivor has taken everything.
    let Some(view) = view.map_err(text)? else {
        return Ok(());
    };
    let held = (id_of(&view)?, view.received());
    drop(view);
    delete_held(player, &mut receiver, held)
}

/// Closes a view whose message was deleted under it.
fn queue_view_close(player: &Player) -> Result<(), String> {
    let queue = queue(player)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let view = receiver.try_receive_view().map_err(text)?;
    let view = view.ok_or("nothing to look at")?;
    let id = id_of(&view)?;
    match queue.delete(&view.receipt()) {
        Ok(true) => ack_deleted(player, id),
        other => return Err(format!("{other:?}")),
    }
    begin();
    drop(view);
    end();
    Ok(())
}

/// Deletes a message that it is looking at.
fn queue_delete_under_view(player: &Player) -> Result<(), String> {
    let queue = queue(player)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let view = receiver.try_receive_view().map_err(text)?;
    let view = view.ok_or("nothing to look at")?;
    let id = id_of(&view)?;
    begin();
    let deleted = queue.delete(&view.receipt());
    if deleted.is_ok() {
        ack_deleted(player, id);
    }
    end();
    match (deleted, id_of(&view)?) {
        (Ok(true), seen) if seen == id => Ok(()),
        other => Err(format!("{other:?}, not {id:#x}")),
    }
}

fn queue_redrive(player: &Player) -> Result<(), String> {
    queue_redrive_of(player, INLINE)
}

fn queue_redrive_large(player: &Player) -> Result<(), String> {
    queue_redrive_of(player, LARGE)
}

/// Moves a message, with the dead-letter queue open already.
fn queue_redrive_of(player: &Player, len: usize) -> Result<(), String> {
    let source = player.bus()?.queue(redriven::SOURCE).open().map_err(text)?;
    let mut receiver = source.receiver().map_err(text)?;
    redriven::poison(&source, &mut receiver, 0, len)?;
    receive_nothing(&mut receiver)?;
    redriven::poison(&source, &mut receiver, 1, len)?;
    begin();
    let moved = receive_nothing(&mut receiver);
    end();
    moved
}

/// Opens the dead-letter queue and moves a message.
fn queue_redrive_first(player: &Player) -> Result<(), String> {
    let source = player.bus()?.queue(redriven::SOURCE).open().map_err(text)?;
    let mut receiver = source.receiver().map_err(text)?;
    begin();
    let moved = receive_nothing(&mut receiver);
    end();
    moved
}

/// Receives from the source, where nothing is to be had, and so moves what is to be moved.
fn receive_nothing(receiver: &mut QueueReceiver) -> Result<(), String> {
    match receiver.try_receive(&mut [0; 1024]).map_err(text)? {
        None => Ok(()),
        Some(received) => Err(format!("received {received:?}")),
    }
}

fn topic_publish(player: &Player) -> Result<(), String> {
    topic_publish_of(player, WARM, INLINE)
}

fn topic_publish_large(player: &Player) -> Result<(), String> {
    topic_publish_of(player, WARM, LARGE)
}

/// Opens the transit and both queues, too.
fn topic_publish_first(player: &Player) -> Result<(), String> {
    topic_publish_of(player, 0, INLINE)
}

/// Publishes to two queues, the message behind `warm` others.
fn topic_publish_of(player: &Player, warm: u64, len: usize) -> Result<(), String> {
    let topic = player.bus()?.topic(published::TOPIC).open().map_err(text)?;
    let mut publisher = topic.publisher().map_err(text)?;
    for n in 0..warm {
        let body = body(VICTIM + n, len);
        player.ack(n, &publisher.publish(&Publication::new(&body)));
    }
    let next = body(VICTIM + warm, len);
    let message = Publication::new(&next);
    begin();
    let sent = publisher.publish(&message);
    player.ack(warm, &sent);
    end();
    sent.map_err(text)?;
    let last = body(VICTIM + warm + 1, INLINE);
    let sent = publisher.publish(&Publication::new(&last));
    player.ack(warm + 1, &sent);
    sent.map(drop).map_err(text)
}

/// Hands on one message of somebody else's, behind others, and one more.
fn topic_dispatch(player: &Player) -> Result<(), String> {
    let topic = player.bus()?.topic(published::TOPIC).open().map_err(text)?;
    let mut dispatcher = topic.dispatcher().map_err(text)?;
    dispatcher.dispatch(WARM as usize).map_err(text)?;
    begin();
    let handed_on = dispatcher.dispatch(1);
    end();
    // Somebody else may have handed on everything meanwhile.
    handed_on.map_err(text)?;
    dispatcher.dispatch(1).map(drop).map_err(text)
}

fn topic_subscribe(player: &Player) -> Result<(), String> {
    let topic = player.bus()?.topic(published::TOPIC).open().map_err(text)?;
    let options = published::options(published::QUEUES[2]);
    begin();
    let subscribed = topic.subscribe(&options);
    player.ack(published::SUBSCRIBED as u64, &subscribed);
    end();
    subscribed.map(drop).map_err(text)
}

fn topic_unsubscribe(player: &Player) -> Result<(), String> {
    let topic = player.bus()?.topic(published::TOPIC).open().map_err(text)?;
    let subscriptions = topic.subscriptions().map_err(text)?;
    let late = subscriptions
        .iter()
        .find(|one| one.endpoint == published::QUEUES[2])
        .ok_or("the third queue is not subscribed")?;
    begin();
    let unsubscribed = topic.unsubscribe(late.id);
    player.ack(published::UNSUBSCRIBED as u64, &unsubscribed);
    end();
    unsubscribed.map_err(text)
}

fn stream(player: &Player) -> Result<Stream, String> {
    let bus = player.bus()?;
    bus.stream(streamed::STREAM).open().map_err(text)
}

/// The first puts of a producer look around; this is every later one.
fn stream_put(player: &Player) -> Result<(), String> {
    let mut producer = stream(player)?.producer().map_err(text)?;
    for n in 0..WARM {
        player.ack(n, &producer.put("v", &body(VICTIM + n, INLINE)));
    }
    let next = body(VICTIM + WARM, INLINE);
    begin();
    let put = producer.put("v", &next);
    player.ack(WARM, &put);
    end();
    put.map_err(text)?;
    let put = producer.put("v", &body(VICTIM + WARM + 1, INLINE));
    player.ack(WARM + 1, &put);
    put.map(drop).map_err(text)
}

fn stream_put_batch(player: &Player) -> Result<(), String> {
    let mut producer = stream(player)?.producer().map_err(text)?;
    let bodies: Vec<_> = (0..5).map(|n| body(VICTIM + n, INLINE)).collect();
    player.ack(0, &producer.put("v", &bodies[0]));
    let records: Vec<_> = bodies[1..4]
        .iter()
        .map(|body| PutRecord::new("v", body))
        .collect();
    begin();
    let outcomes = producer.put_batch(&records);
    for (n, outcome) in (1..).zip(&outcomes) {
        player.ack(n, outcome);
    }
    end();
    for outcome in outcomes {
        outcome.map_err(text)?;
    }
    let put = producer.put("v", &bodies[4]);
    player.ack(4, &put);
    put.map(drop).map_err(text)
}

/// Two records of a user in one of the stream, that fits into a slot.
fn stream_put_aggregated(player: &Player) -> Result<(), String> {
    let mut producer = stream(player)?.producer().map_err(text)?;
    player.ack(0, &producer.put("v", &body(VICTIM, INLINE)));
    let mut producer = producer.aggregating(Aggregation::default());
    let bodies = [body(VICTIM + 1, 16), body(VICTIM + 2, 16)];
    for body in &bodies {
        producer.put("v", body).map_err(text)?;
    }
    begin();
    let flushed = producer.flush();
    player.ack(1, &flushed);
    player.ack(2, &flushed);
    end();
    flushed.map(drop).map_err(text)?;
    producer.put("v", &body(VICTIM + 3, INLINE)).map_err(text)?;
    let flushed = producer.flush();
    player.ack(3, &flushed);
    flushed.map(drop).map_err(text)
}

/// Another may have been quicker, when this one was stopped.
fn changed<T>(player: &Player, changed: Result<T, ReshardError>) -> Result<(), String> {
    player.ack(streamed::CHANGED as u64, &changed);
    match changed {
        Ok(_) | Err(ReshardError::NotOpen { .. } | ReshardError::NotAdjacent { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

fn stream_split(player: &Player) -> Result<(), String> {
    let stream = stream(player)?;
    begin();
    let split = stream.split(ShardId(0), None);
    player.ack(streamed::CHANGED as u64, &split);
    end();
    changed(player, split)
}

fn stream_merge(player: &Player) -> Result<(), String> {
    let stream = stream(player)?;
    begin();
    let merged = stream.merge(ShardId(0), ShardId(1));
    player.ack(streamed::CHANGED as u64, &merged);
    end();
    changed(player, merged)
}

fn stream_register(player: &Player) -> Result<(), String> {
    let stream = stream(player)?;
    begin();
    let registered = stream.register_consumer(streamed::CONSUMER, ConsumerPolicy::Block);
    player.ack(streamed::CHANGED as u64, &registered);
    end();
    registered.map(drop).map_err(text)
}

/// Takes the leases, and is handed what stands there.
fn stream_lease(player: &Player) -> Result<(), String> {
    let group = stream(player)?.group(streamed::GROUP).map_err(text)?;
    let mut worker = group.join().map_err(text)?;
    begin();
    let read = worker.try_read_batch(1000, |_| ());
    end();
    read.map(drop).map_err(text)
}

fn stream_checkpoint(player: &Player) -> Result<(), String> {
    let group = stream(player)?.group(streamed::GROUP).map_err(text)?;
    let mut worker = group.join().map_err(text)?;
    let mut read = 0;
    while read < streamed::FIRST as usize {
        read += worker
            .read_batch(1000, Duration::from_millis(1), |_| ())
            .map_err(text)?;
    }
    begin();
    let checkpointed = worker.checkpoint();
    player.ack(streamed::CHECKPOINTED as u64, &checkpointed);
    end();
    match checkpointed {
        // Its leases passed on while it was stopped.
        Ok(_) | Err(CheckpointError::Fenced { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

fn reap(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    let channel = bus.channel("c").open().map_err(text)?;
    begin();
    let reaped = bus.reap();
    end();
    reaped.map_err(text)?;
    player.sequel(&mut channel.producer().map_err(text)?)
}
