//! The bytes of a topic: its file, the log of its subscriptions, and a message on its way.
//!
//! ```text
//! topics/NAME            TopicHeader, one page; words in its second half
//! topics/.subs-NAME-ID   LogHeader, one page; then records, each from a multiple of 8
//! record              word u64 | id u64 | kind u32, bytes u32 | JSON, padded to 8
//! message             MessageHead | subject | group | deduplication id | trace header | attributes | body
//! ```

use super::{PAGE, Preamble};
use core::mem::offset_of;

/// File magic of a topic.
pub const MAGIC: [u8; 8] = *b"RNGTOPIC";
/// File magic of a log of subscriptions.
pub const LOG_MAGIC: [u8; 8] = *b"RNGTSUBS";

/// Messages in no particular order.
pub const KIND_STANDARD: u32 = 0;
/// Messages in order within their groups.
pub const KIND_FIFO: u32 = 1;

/// Immutable after creation, but for the words from [`words::LISTENED`] on.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TopicHeader {
    pub preamble: Preamble,
    pub kind: u32,
    /// Bytes of `name` in use.
    pub name_bytes: u32,
    pub name: [u8; 128],
    /// Slots of the ring of its listeners.
    pub listen_slots: u64,
    /// Days for which a FIFO topic keeps its messages to be replayed; 0: it does not.
    pub archive_days: u32,
    /// Since 1.2: [`super::durable::MEMORY`] or [`super::durable::DURABLE`].
    pub durability: u32,
    /// Slots of the archive.
    pub archive_slots: u64,
    /// Since 1.2: bytes of `journals` in use; 0 where nobody can say.
    pub journals_bytes: u32,
    pub reserved0: u32,
    /// Since 1.2: the directory that has the file of a durable topic.
    pub journals: [u8; JOURNALS_BYTES],
    pub reserved: [u8; PAGE - 232 - JOURNALS_BYTES],
}

/// Longest path of that directory.
pub const JOURNALS_BYTES: usize = 1024;

const _: () = {
    assert!(size_of::<TopicHeader>() == PAGE);
    assert!(offset_of!(TopicHeader, kind) == 64);
    assert!(offset_of!(TopicHeader, name) == 72);
    assert!(offset_of!(TopicHeader, listen_slots) == 200);
    assert!(offset_of!(TopicHeader, archive_days) == 208);
    assert!(offset_of!(TopicHeader, durability) == 212);
    assert!(offset_of!(TopicHeader, archive_slots) == 216);
    assert!(offset_of!(TopicHeader, journals) == 232);
    assert!(offset_of!(TopicHeader, reserved) <= words::LISTENED);
};

/// Offsets of the shared words of a topic. They only ever grow.
pub mod words {
    /// 1 once the ring of its listeners was made.
    pub const LISTENED: usize = 2048;
    /// 1 once the log of its subscriptions was made.
    pub const SUBSCRIBED: usize = 2056;
    /// 1 once the archive was made.
    pub const ARCHIVED: usize = 2064;
    /// Counter: messages published.
    pub const PUBLISHED: usize = 2176;
    /// Counter: deliveries to queues.
    pub const DELIVERED: usize = 2304;
    /// Counter: deliveries put off because a queue had no room.
    pub const RETRIED: usize = DELIVERED + 8;
    /// Counter: deliveries that went to a dead-letter queue.
    pub const DEAD_LETTERED: usize = DELIVERED + 16;
    /// Counter: deliveries that were given up.
    pub const FAILED: usize = DELIVERED + 24;
    /// Counter: messages and records that were no such.
    pub const DAMAGED: usize = DELIVERED + 32;
}

/// First page of a log.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct LogHeader {
    pub preamble: Preamble,
    /// Object id of its topic.
    pub topic: u64,
    /// Since 1.2: records in front of this were made again from a disk behind a restart; 0: none.
    pub made_again_bytes: u64,
    /// Since 1.2: when, in ms of CLOCK_BOOTTIME.
    pub made_again_ms: u64,
    pub reserved: [u8; PAGE - 64 - 24],
}

const _: () = {
    assert!(size_of::<LogHeader>() == PAGE);
    assert!(offset_of!(LogHeader, made_again_bytes) == 72);
    assert!(offset_of!(LogHeader, made_again_ms) == 80);
};

/// The first word of a record: `state 2 | owner 10 | 0 20 | length in units of 8 bytes 32`. Zero where
/// no record begins yet. The bytes of a log are used once, so no word repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordWord(pub u64);

impl RecordWord {
    pub const CLAIMED: u64 = 1;
    pub const COMMITTED: u64 = 2;
    pub const VOID: u64 = 3;

    pub fn new(state: u64, owner: u16, units: u32) -> Self {
        Self(state << 62 | u64::from(owner & 0x3FF) << 52 | u64::from(units))
    }
    pub fn state(self) -> u64 {
        self.0 >> 62
    }
    pub fn owner(self) -> u16 {
        (self.0 >> 52 & 0x3FF) as u16
    }
    /// Bytes of the record, this word included.
    pub fn bytes(self) -> usize {
        (self.0 as u32 as usize) * 8
    }
    pub fn with_state(self, state: u64) -> Self {
        Self(self.0 & !(3 << 62) | state << 62)
    }
}

/// What is behind the word of a record.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecordHead {
    /// Of the subscription.
    pub id: u64,
    pub kind: u32,
    /// Bytes of JSON behind this.
    pub bytes: u32,
}

const _: () = assert!(size_of::<RecordHead>() == 16);

/// A record: this subscription is there.
pub const RECORD_SUBSCRIBE: u32 = 1;
/// A record: it is gone.
pub const RECORD_UNSUBSCRIBE: u32 = 2;
/// Words behind the JSON of a record of a subscription, from the next multiple of 8 on: its counters. A record of
/// FORMAT 1.1 has none.
pub mod counters {
    /// Messages delivered.
    pub const DELIVERED: usize = 0;
    /// Deliveries put off.
    pub const RETRIED: usize = 1;
    /// Deliveries that went to its dead-letter queue.
    pub const DEAD_LETTERED: usize = 2;
    /// Deliveries that were given up.
    pub const FAILED: usize = 3;
    /// Of one that is fed from the archive: the next position there, + 1; 0 at first.
    pub const CURSOR: usize = 4;
    /// How many there are.
    pub const WORDS: usize = 5;
}
/// Bytes in front of the JSON of a record.
pub const RECORD_HEAD: usize = 8 + size_of::<RecordHead>();
/// Longest record.
pub const MAX_RECORD: usize = 1 << 20;
/// Length of a new log.
pub const LOG_BYTES: u64 = 4 * PAGE as u64;
/// Longest log.
pub const MAX_LOG_BYTES: u64 = 1 << 40;

/// The body is a JSON object with a text for each protocol (`MessageStructure` json).
pub const FLAG_PER_PROTOCOL: u32 = 1;
/// No message of anybody's: it says that subscription `target` has something to get from the archive.
pub const FLAG_TICK: u32 = 2;

/// What a message on its way begins with.
pub const MESSAGE_MAGIC: u32 = u32::from_le_bytes(*b"RWT1");

/// The head of a message in a topic's transit queue, and in the ring of its listeners.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct MessageHead {
    pub magic: u32,
    /// How often the delivery to `target` was tried.
    pub attempts: u32,
    /// Of the message: random, then counted.
    pub id: [u64; 2],
    /// The one subscription that it is for; 0: for all that want it.
    pub target: u64,
    /// Unix time.
    pub published_ms: u64,
    pub attribute_bytes: u32,
    pub subject_bytes: u16,
    pub trace_bytes: u16,
    pub attributes: u16,
    /// 0: it has none.
    pub group_bytes: u8,
    /// 0: it has none.
    pub dedup_bytes: u8,
    /// [`FLAG_PER_PROTOCOL`], [`FLAG_TICK`]; others are ignored.
    pub flags: u32,
}

const _: () = assert!(size_of::<MessageHead>() == 56);
