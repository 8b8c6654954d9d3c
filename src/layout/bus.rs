//! The bytes of the bus file: who takes part.
//!
//! ```text
//! 0      BusHeader                 one page
//! 4096   roles[64] u64             one line pair each would waste nothing here: roles change rarely
//! 8192   ParticipantEntry[1024]    512 B each; entry 0 is never used (owner 0 is nobody)
//! ```
//! The lock byte of participant `i` is byte `LOCK_BASE + i` of this file (an open file
//! description lock; bytes past the end may be locked).

use super::{PAGE, Preamble};
use core::mem::offset_of;

/// File magic of a bus.
pub const MAGIC: [u8; 8] = *b"RNGW_BUS";
/// Entries of the registry, entry 0 included.
pub const PARTICIPANTS: usize = 1024;
/// Role words of a bus.
pub const ROLES: usize = 64;
/// First lock byte.
pub const LOCK_BASE: i64 = 1 << 40;
/// The lock byte for putting a stale bus aside.
pub const RESET_LOCK: i64 = (1 << 40) - 1;

/// Immutable after creation, but for `preamble.ready` and `policies`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct BusHeader {
    pub preamble: Preamble,
    /// Permission bits of every file of the bus.
    pub mode: u32,
    /// Group of every file of the bus, `u32::MAX` for the creator's.
    pub group: u32,
    /// Most bytes of payload-pool segments.
    pub pool_bytes: u64,
    pub file_bytes: u64,
    /// Since 1.2. A word: raised whenever a policy of a queue was changed.
    pub policies: u64,
    pub reserved: [u8; PAGE - 64 - 32],
}

const _: () = {
    assert!(size_of::<BusHeader>() == PAGE);
    assert!(offset_of!(BusHeader, pool_bytes) == 72);
    assert!(offset_of!(BusHeader, policies) == POLICIES_OFFSET);
};

/// Offset of the word that policies of queues raise.
pub const POLICIES_OFFSET: usize = 88;
/// Offset of the role words.
pub const ROLES_OFFSET: usize = PAGE;
/// Offset of the participant table.
pub const PARTICIPANTS_OFFSET: usize = 2 * PAGE;
/// Objects an entry can name before the reaper has to look at all.
pub const JOINED: usize = 40;
/// `joined_count` of a participant that joined more objects than fit.
pub const JOINED_ALL: u64 = u64::MAX;

/// One participant. Only `word` owns a fact; the rest is for people and for the reaper, written
/// by the participant itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ParticipantEntry {
    pub word: u64,
    pub pid: u64,
    pub pid_namespace: u64,
    /// Field 22 of /proc/PID/stat.
    pub start_time: u64,
    pub joined_ms: u64,
    /// Entries of `joined` in use, or `JOINED_ALL`.
    pub joined_count: u64,
    pub name: [u8; 48],
    pub reserved: [u64; 12],
    /// Hashes of the names of the objects this participant may have left something in.
    pub joined: [u64; JOINED],
}

const _: () = {
    assert!(size_of::<ParticipantEntry>() == 512);
    assert!(offset_of!(ParticipantEntry, name) == 48);
    assert!(offset_of!(ParticipantEntry, joined) == 192);
};

/// Length of the bus file.
pub const BUS_FILE_BYTES: usize =
    PARTICIPANTS_OFFSET + PARTICIPANTS * size_of::<ParticipantEntry>();
const _: () = assert!(BUS_FILE_BYTES.is_multiple_of(PAGE));
