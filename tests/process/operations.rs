//! The operations that are stepped through: what each needs, what its victim does, and what a
//! stopped victim may cost the others.
//!
//! A victim's act has three parts: its own preparations, the stretch between [`begin`] and [`end`]
//! with the call and its acknowledgement on the board, and a sequel that shows that the handles
//! are as good as new. Killed, it never comes to the sequel; stopped and continued, it must.

mod channels;
mod queues;
mod scenes;
mod streams;
mod topics;

use channels::*;
use queues::*;
use scenes::*;
use streams::*;
use topics::*;

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
