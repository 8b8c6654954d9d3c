//! The bytes of a queue file: a ring whose messages are consumed one by one.
//!
//! ```text
//! 0       QueueHeader           one page: what it was created with
//! 4096    the control words of a ring (tail | … | wake | counters), then those of the queue
//! 8192    one ReaderEntry, unused: nobody reads a queue by a cursor
//! 8448    1,024 pins, one u64 each: views that are open
//! due     due words: one u64 per group of 4,096 slots, then one per block of 64 slots
//! groups  FIFO queues: the hints, one u64 per slot, then the group table, four u64 per slot
//! dedup   FIFO queues that deduplicate: the buckets of the table ([`super::dedup`])
//! slots   stride × slots        from a page boundary (2 MiB boundary with huge pages)
//! ```
//! A slot is that of a ring. Its `dlv` says who consumes the message ([`super::word::Dlv`]); behind
//! its header lies the envelope, then comes the body inline, or a `ChunkRef` where the body lies in
//! the payload pool.
//!
//! ```text
//! standard    32 sent u64                                                            40 body …
//! FIFO        32 sent u64  40 prev u64  48 next u64  56 group[2] u64  72 dedup u64   80 body …
//! ```

use super::ring::{self, READERS_OFFSET, ReaderEntry};
use super::{LINE_PAIR, PAGE, Preamble};
use core::mem::offset_of;

/// File magic of a queue.
pub const MAGIC: [u8; 8] = *b"RNGQUEUE";

/// Longest visibility time-out: 12 hours, as in SQS.
pub const MAX_VISIBILITY_MS: u32 = 43_200_000;
/// Longest wait of a receive that names none: 20 seconds, as in SQS.
pub const MAX_RECEIVE_WAIT_MS: u32 = 20_000;
/// The largest body any queue can allow: what a chunk reference can say.
pub const MAX_MESSAGE_BYTES: u64 = 1 << 40;
/// The largest body that a queue on disk can allow: an entry of the journal is read whole.
pub const MAX_BODY_ON_DISK: u64 = 16 << 20;
/// The same with what travels beside it, which may be as long, and where it comes from.
pub const MAX_WHOLE_ON_DISK: u64 = 2 * MAX_BODY_ON_DISK;
/// Longest delay: 15 minutes, as in SQS.
pub const MAX_DELAY_MS: u32 = 900_000;
/// Shortest retention: a minute, as in SQS.
pub const MIN_RETENTION_MS: u32 = 60_000;
/// Longest retention: 14 days, as in SQS.
pub const MAX_RETENTION_MS: u32 = 1_209_600_000;
/// Without a redrive policy a message is parked after so many receives: the largest
/// `maxReceiveCount` of SQS, and below what the ten bits of a delivery word count.
pub const PARK_AFTER_RECEIVES: u16 = 1_000;

const _: () = {
    assert!(MAX_VISIBILITY_MS < super::word::LONGEST_LEASE_MS);
    assert!(MAX_DELAY_MS < super::word::LONGEST_LEASE_MS);
    assert!(PARK_AFTER_RECEIVES < super::word::RECEIVES_MAX);
    // A passed deadline counts as passed for longer than any message is kept.
    assert!(MAX_RETENTION_MS < u32::MAX - super::word::LONGEST_LEASE_MS - MAX_VISIBILITY_MS);
};

/// Immutable after creation, but for `preamble.ready`. What it says of settings is where their
/// words ([`control::RETENTION`] and those behind it) began. Copied to private memory at attach.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct QueueHeader {
    pub preamble: Preamble,
    /// Slots, a power of two.
    pub slots: u64,
    /// Bytes from slot to slot.
    pub stride: u64,
    /// Offset of slot 0 in the file.
    pub slots_offset: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// After this many microseconds a claim of a live owner is abandoned.
    pub stall_timeout_us: u32,
    /// Bytes of `name` in use.
    pub name_bytes: u32,
    /// 1 where the creator asked for huge pages.
    pub huge_pages: u32,
    /// 1: the message of a dead holder is received again at once, 0: when its lease ends.
    pub redeliver_on_death: u32,
    pub name: [u8; 128],
    /// Offset of the due words.
    pub due_offset: u64,
    /// CLOCK_BOOTTIME in ms when the queue was created: its times count from here.
    pub epoch_ms: u64,
    /// Longest body.
    pub max_message_bytes: u64,
    /// Visibility time-out of a receive that names none.
    pub visibility_ms: u32,
    /// Delay of a send that names none.
    pub delay_ms: u32,
    /// A message older than this is gone.
    pub retention_ms: u32,
    /// Wait of a receive that names none.
    pub receive_wait_ms: u32,
    /// [`STANDARD`] or [`FIFO`].
    pub kind: u32,
    /// Since 1.1: one of [`super::durable::MEMORY`] and those behind it.
    pub durability: u32,
    /// FIFO: offset of the hints, behind which lies the group table; 0 in a standard queue.
    pub groups_offset: u64,
    /// FIFO: key of the hash of group ids, random.
    pub group_key: [u8; 16],
    /// Bytes that the files of its rings may take together.
    pub max_bytes: u64,
    /// Offset of the deduplication table; 0 where there is none.
    pub dedup_offset: u64,
    /// Ids the table was made for; its buckets follow from it ([`super::dedup::buckets_for`]).
    pub dedup_ids: u64,
    /// Key of the hash of deduplication ids, random.
    pub dedup_key: [u8; 16],
    /// An id counts for so long.
    pub dedup_window_ms: u32,
    /// [`DEDUP_QUEUE`] or [`DEDUP_GROUP`].
    pub dedup_scope: u32,
    /// [`DEDUP_REQUIRED`], [`DEDUP_BY_CONTENT`] or [`DEDUP_OPTIONAL`].
    pub dedup_without_id: u32,
    /// Since 1.1. On disk: bytes of `journal` in use.
    pub journal_bytes: u32,
    /// On disk: offset of the bits of changed blocks; 0 in memory.
    pub changed_offset: u64,
    /// What the clock of the queue said at its epoch, in ms: more than any message is kept for where
    /// the queue is on disk, so that it can have messages from before the machine was started.
    pub clock_base_ms: u64,
    /// On disk: the directory of its journal. With `spills`: that of its further rings.
    pub journal: [u8; JOURNAL_PATH_BYTES],
    /// Since 1.2. On disk: sends are refused while its journal takes so many bytes; 0: never.
    pub journal_max_bytes: u64,
    /// Since 1.2. On disk: 1 where messages are received before the disk has them.
    pub read_ahead: u32,
    /// Since 1.2: 1 where its further rings lie on a disk: in memory in the directory that `journal`
    /// names, on disk in that of the bus beside its journal.
    pub spills: u32,
    /// Since 1.2: what the files of its further rings are named by; 0: the object id. A queue that was
    /// made again from its journal has another one each time.
    pub chain_id: u64,
    pub reserved: [u8; PAGE - 408 - JOURNAL_PATH_BYTES],
}

impl QueueHeader {
    /// What the files of its further rings are named by.
    pub const fn chain(&self) -> u64 {
        match self.chain_id {
            0 => self.preamble.object_id,
            id => id,
        }
    }
}

/// Longest path of a journal's directory.
pub const JOURNAL_PATH_BYTES: usize = 1024;
/// [`QueueHeader::clock_base_ms`] of a queue that is on disk: 15 days, one more than the longest
/// retention.
pub const CLOCK_BASE_MS: u64 = 1_296_000_000;

/// An id counts in the whole queue.
pub const DEDUP_QUEUE: u32 = 0;
/// An id counts in its message group.
pub const DEDUP_GROUP: u32 = 1;
/// A message without an id is refused.
pub const DEDUP_REQUIRED: u32 = 0;
/// A message without an id has the SHA-256 of its body for one.
pub const DEDUP_BY_CONTENT: u32 = 1;
/// A message without an id is not compared.
pub const DEDUP_OPTIONAL: u32 = 2;
/// Shortest and longest time that an id counts for.
pub const MIN_DEDUP_WINDOW_MS: u32 = 1_000;
/// See [`MIN_DEDUP_WINDOW_MS`].
pub const MAX_DEDUP_WINDOW_MS: u32 = MAX_RETENTION_MS;

/// At least once, best-effort order.
pub const STANDARD: u32 = 0;
/// Strict order within each message group.
pub const FIFO: u32 = 1;

const _: () = {
    assert!(size_of::<QueueHeader>() == PAGE);
    assert!(offset_of!(QueueHeader, slots) == 64);
    assert!(offset_of!(QueueHeader, stall_timeout_us) == 96);
    assert!(offset_of!(QueueHeader, name) == 112);
    assert!(offset_of!(QueueHeader, due_offset) == 240);
    assert!(offset_of!(QueueHeader, visibility_ms) == 264);
    assert!(offset_of!(QueueHeader, groups_offset) == 288);
    assert!(offset_of!(QueueHeader, group_key) == 296);
    assert!(offset_of!(QueueHeader, dedup_offset) == 320);
    assert!(offset_of!(QueueHeader, dedup_key) == 336);
    assert!(offset_of!(QueueHeader, dedup_window_ms) == 352);
    assert!(offset_of!(QueueHeader, durability) == 284);
    assert!(offset_of!(QueueHeader, journal_bytes) == 364);
    assert!(offset_of!(QueueHeader, changed_offset) == 368);
    assert!(offset_of!(QueueHeader, journal) == 384);
    assert!(offset_of!(QueueHeader, journal_max_bytes) == 384 + JOURNAL_PATH_BYTES);
    assert!(offset_of!(QueueHeader, read_ahead) == 392 + JOURNAL_PATH_BYTES);
    assert!(offset_of!(QueueHeader, spills) == 396 + JOURNAL_PATH_BYTES);
    assert!(offset_of!(QueueHeader, chain_id) == 400 + JOURNAL_PATH_BYTES);
    assert!(offset_of!(QueueHeader, reserved) == 408 + JOURNAL_PATH_BYTES);
    assert!(CLOCK_BASE_MS > MAX_RETENTION_MS as u64);
};

/// Offsets of the shared words of a queue, behind those of its ring. Facts are the holder bits, the settings,
/// the routes and the words of the move task; the rest is derived, checked before use, and rebuilt by a sweep, or
/// counts.
pub mod control {
    use super::super::{LINE_PAIR, PAGE};

    /// Receive hint: a position; below it every message was received once or is found by a sweep.
    pub const RECEIVE: usize = PAGE + 6 * LINE_PAIR;
    /// The slot at which the next sweep begins.
    pub const SWEEP: usize = PAGE + 7 * LINE_PAIR;
    /// When the last sweep began, in ms since the epoch.
    pub const SWEPT: usize = SWEEP + 8;
    /// No lease or delay ends before this time, in ms since the epoch; all ones: none is there.
    pub const DUE: usize = PAGE + 8 * LINE_PAIR;
    /// One bit per participant that may hold a lease here.
    pub const HOLDERS: usize = PAGE + 9 * LINE_PAIR;
    /// Words of holder bits.
    pub const HOLDER_WORDS: usize = super::super::bus::PARTICIPANTS / 64;
    /// Totals, added to by each handle every so often: messages sent.
    pub const SENT: usize = PAGE + 10 * LINE_PAIR;
    /// Leases given out.
    pub const RECEIVED: usize = SENT + 8;
    /// Messages deleted.
    pub const DELETED: usize = SENT + 16;
    /// Messages that were older than the retention allows.
    pub const EXPIRED: usize = SENT + 24;
    /// Messages that were parked.
    pub const PARKED: usize = SENT + 32;
    /// Leases that the dead left and others ended.
    pub const RELEASED: usize = SENT + 40;
    /// Messages that a purge removed.
    pub const PURGED: usize = SENT + 48;
    /// FIFO, link cursor: a position; every message below it is linked to its group.
    pub const LINK: usize = PAGE + 11 * LINE_PAIR;
    /// FIFO: how many hints were taken.
    pub const HINTS_TAKEN: usize = PAGE + 12 * LINE_PAIR;
    /// FIFO: how many hints were given.
    pub const HINTS_GIVEN: usize = PAGE + 13 * LINE_PAIR;

    /// Sends of an id that was sent already.
    pub const DUPLICATES: usize = PAGE + 14 * LINE_PAIR;

    /// Settings: each one word, stored whole by whoever changes it and loaded where it is used. A
    /// message older than so many ms is gone.
    pub const RETENTION: usize = PAGE + 15 * LINE_PAIR;
    /// Visibility time-out, in ms, of a receive that names none.
    pub const VISIBILITY: usize = RETENTION + 8;
    /// Delay, in ms, of a send that names none.
    pub const DELAY: usize = RETENTION + 16;
    /// Longest body.
    pub const MAX_MESSAGE: usize = RETENTION + 24;
    /// 1: the message of a dead holder is received again at once, 0: when its lease ends.
    pub const REDELIVER: usize = RETENTION + 32;
    /// Wait, in ms, of a receive that names none.
    pub const RECEIVE_WAIT: usize = RETENTION + 40;
    /// A message that was received so often and not deleted goes to the dead-letter queue.
    pub const MAX_RECEIVES: usize = RETENTION + 48;
    /// Object id of the dead-letter queue; 0: there is none.
    pub const REDRIVE_TARGET: usize = RETENTION + 56;
    /// Most messages in the queue; 0: as many as there is room for.
    pub const MAX_MESSAGES: usize = RETENTION + 64;
    /// Most messages in flight; 0: no limit.
    pub const MAX_IN_FLIGHT: usize = RETENTION + 72;
    /// FIFO: the open claim at the link cursor that a receiver left behind which went away, and when
    /// it was met first: position + 1 mod 2^32 | ms since the epoch mod 2^32; 0: none.
    pub const OPEN: usize = RETENTION + 80;
    /// Which queues may name this one as their dead-letter queue: one of [`super::ALLOW_ALL`] and
    /// those behind it.
    pub const REDRIVE_ALLOW: usize = PAGE + 16 * LINE_PAIR;
    /// Object ids of the queues that may, 0 for none.
    pub const REDRIVE_SOURCES: usize = REDRIVE_ALLOW + 8;
    /// Object ids of the queues that messages of this one are moved to, by the route in their words.
    /// Set once each, from 0.
    pub const ROUTES: usize = PAGE + 17 * LINE_PAIR;
    /// Total: messages that were moved to another queue.
    pub const MOVED: usize = PAGE + 18 * LINE_PAIR;
    /// Total: messages that arrived from another queue.
    pub const ARRIVED: usize = MOVED + 8;
    /// Who runs the move task ([`super::super::word::Role`]).
    pub const MOVE_ROLE: usize = MOVED + 64;
    /// How it stands: 0, or one of [`super::MOVE_RUNNING`] and those behind it.
    pub const MOVE_STATE: usize = MOVE_ROLE + 8;
    /// Object id of its destination; 0: where each message came from.
    pub const MOVE_DESTINATION: usize = MOVE_ROLE + 16;
    /// Messages a second, at most; 0: no limit.
    pub const MOVE_RATE: usize = MOVE_ROLE + 24;
    /// Positions from here on were sent after it began.
    pub const MOVE_UNTIL: usize = MOVE_ROLE + 32;
    /// Messages it has moved.
    pub const MOVE_DONE: usize = MOVE_ROLE + 40;
    /// Messages there were when it began.
    pub const MOVE_TOTAL: usize = MOVE_ROLE + 48;
    /// Unix time in ms when it began.
    pub const MOVE_STARTED: usize = MOVE_ROLE + 56;

    /// When somebody last looked for dead holders, in ms since the epoch.
    pub const PROBED: usize = PAGE + 21 * LINE_PAIR;
    /// The holder at which the next look begins.
    pub const PROBE_FROM: usize = PROBED + 8;
    /// 1 once a message of this queue was looked at in place.
    pub const VIEWS: usize = PAGE + 23 * LINE_PAIR;

    /// Growth: the highest number of a ring that is known to have been made. In the first file; a
    /// hint that only grows.
    pub const NEWEST: usize = PAGE + 19 * LINE_PAIR;
    /// Growth: 1 once the ring is known to be sealed and drained. In the file of each ring.
    pub const DRAINED: usize = PAGE + 20 * LINE_PAIR;
    /// Since 1.2. On disk, in the file of each further ring: 1 once something in it was consumed.
    pub const TOUCHED: usize = DRAINED + 8;
}

/// A move task is under way.
pub const MOVE_RUNNING: u64 = 1;
/// It is to end before its next message.
pub const MOVE_CANCELLING: u64 = 2;
/// It was ended.
pub const MOVE_CANCELLED: u64 = 3;
/// It has come to its end.
pub const MOVE_COMPLETED: u64 = 4;
/// Its destination is gone.
pub const MOVE_FAILED: u64 = 5;

/// Every queue may name this one as its dead-letter queue.
pub const ALLOW_ALL: u64 = 0;
/// No queue may.
pub const ALLOW_NONE: u64 = 1;
/// The listed ones may.
pub const ALLOW_LISTED: u64 = 2;
/// As many as SQS lists.
pub const MAX_REDRIVE_SOURCES: usize = 10;

const _: () = {
    assert!(control::RECEIVE > ring::control::PAYLOADS);
    assert!(control::HOLDER_WORDS * 8 <= LINE_PAIR);
    assert!(control::PURGED + 8 <= control::LINK);
    assert!(control::HINTS_GIVEN + LINE_PAIR <= control::DUPLICATES);
    assert!(control::DUPLICATES + LINE_PAIR <= control::RETENTION);
    assert!(control::OPEN + 8 <= control::RETENTION + LINE_PAIR);
    assert!(control::REDRIVE_SOURCES + 8 * MAX_REDRIVE_SOURCES <= control::ROUTES);
    assert!(control::ROUTES + 8 * super::word::ROUTES <= control::MOVED);
    assert!(control::VIEWS + LINE_PAIR <= ring::control::END);
};

/// File magic of a ring that a queue grew by.
pub const GROWN_MAGIC: [u8; 8] = *b"RNGQGROW";

/// Lock byte of a queue's first file: held by whoever makes the next ring.
pub const GROW_LOCK: i64 = (1 << 40) - 2;
/// Lock byte of a queue's first file: held by whoever prepares the next ring, for as long as that takes.
pub const PREPARE_LOCK: i64 = (1 << 40) - 3;
/// Most rings of a queue at a time.
pub const MAX_RINGS: usize = 256;

/// First page of a ring that a queue grew by: immutable. Everything else of the queue stands in the
/// file of its first ring; of the control words here only those of the ring itself are in use.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct GrownHeader {
    pub preamble: Preamble,
    /// Slots, a power of two.
    pub slots: u64,
    /// Bytes from slot to slot: as in the first ring.
    pub stride: u64,
    /// Offset of slot 0 in the file.
    pub slots_offset: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Which ring of the queue: 1 for the first that it grew by.
    pub number: u32,
    /// Bytes of `name` in use.
    pub name_bytes: u32,
    /// 1 where the creator of the queue asked for huge pages.
    pub huge_pages: u32,
    pub reserved_word: u32,
    /// Of the file.
    pub name: [u8; 128],
    /// Offset of the due words.
    pub due_offset: u64,
    /// Its first position: a multiple of `slots`, above every position of the ring before.
    pub first_position: u64,
    /// What the rings of the queue are named by ([`QueueHeader::chain`]).
    pub queue_id: u64,
    /// Since 1.2. On disk: offset of the bits of changed blocks; 0 in memory.
    pub changed_offset: u64,
    pub reserved: [u8; PAGE - 64 - 4 * 8 - 4 * 4 - 128 - 4 * 8],
}

const _: () = {
    assert!(size_of::<GrownHeader>() == PAGE);
    assert!(offset_of!(GrownHeader, number) == 96);
    assert!(offset_of!(GrownHeader, name) == 112);
    assert!(offset_of!(GrownHeader, due_offset) == 240);
    assert!(offset_of!(GrownHeader, queue_id) == 256);
    assert!(offset_of!(GrownHeader, changed_offset) == 264);
    assert!(offset_of!(QueueHeader, max_bytes) == 312);
    assert!(control::TOUCHED + 8 <= ring::control::END);
};

/// Slots of one due block.
pub const BLOCK_SLOTS: u64 = 64;
/// Blocks of one due group.
pub const GROUP_BLOCKS: u64 = 64;
/// Due word of a block or group in which no lease or delay ends.
pub const NEVER: u64 = u64::MAX;

/// Due words of a queue of `slots`: groups, blocks.
pub const fn due_words(slots: u64) -> (u64, u64) {
    let blocks = slots / BLOCK_SLOTS;
    (blocks.div_ceil(GROUP_BLOCKS), blocks)
}

/// Offset of the pins.
pub const PINS_OFFSET: usize =
    (READERS_OFFSET + size_of::<ReaderEntry>()).next_multiple_of(LINE_PAIR);
/// Pins of one bucket: a cache line. A position has its bucket, so who looks for its pins looks at
/// one line, however many views there are.
pub const BUCKET_PINS: usize = 8;
/// Buckets. As there are never fewer slots, all positions of a slot have the same one.
pub const PIN_BUCKETS: usize = 128;

const _: () = assert!(ring::MIN_SLOTS.is_multiple_of(PIN_BUCKETS as u64));

/// Offset of the due words in a new file.
pub const DUE_OFFSET: u64 = (PINS_OFFSET + 8 * BUCKET_PINS * PIN_BUCKETS) as u64;
/// Bytes between the slot's header and the body: when the message was sent, in ms since the epoch.
pub const ENVELOPE: usize = 8;
/// Bytes of body in the first cache line of a slot.
pub const FIRST_LINE_BODY: usize = 64 - ring::SLOT_HEADER - ENVELOPE;
/// The same in a FIFO queue: when it was sent; the message before it and the one behind it in its
/// group (its own position: not linked yet); the hash of its group; its entry in the
/// deduplication table and one, 0 for none.
pub const FIFO_ENVELOPE: usize = 48;
/// What lies between a slot's header and the body: the kind of the queue says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Envelope {
    Standard = ENVELOPE,
    Fifo = FIFO_ENVELOPE,
}

impl Envelope {
    /// Its bytes.
    #[inline(always)]
    pub const fn bytes(self) -> usize {
        self as usize
    }
}

/// Smallest stride of a FIFO queue: two cache lines, 48 bytes of body.
pub const MIN_FIFO_STRIDE: u64 = 128;
/// `prev` of a message before which its group had none that was not consumed.
pub const NO_MESSAGE: u64 = u64::MAX;

/// Words of one window of the group table: all that a look-up scans, two lines. With four words a
/// slot a window holds four groups on average when every slot holds a group of its own; one in a
/// million has to hold more than 16 then, and waits until one of these 16 has been consumed.
pub const WINDOW_WORDS: u64 = 16;
const TABLE_WORDS_PER_SLOT: u64 = 4;

/// Words behind `groups_offset` in a queue of `slots`: hints, group table.
pub const fn group_words(slots: u64) -> (u64, u64) {
    (slots, slots * TABLE_WORDS_PER_SLOT)
}

/// Offset of the hints in a new FIFO queue: a window lies in whole lines.
pub const fn groups_offset(slots: u64) -> u64 {
    let (groups, blocks) = due_words(slots);
    (DUE_OFFSET + 8 * (groups + blocks)).next_multiple_of(8 * WINDOW_WORDS)
}

const _: () = {
    assert!(super::ring::SLOT_HEADER + FIFO_ENVELOPE + 24 <= MIN_FIFO_STRIDE as usize);
    assert!((super::ring::MIN_SLOTS * TABLE_WORDS_PER_SLOT).is_multiple_of(WINDOW_WORDS));
};
