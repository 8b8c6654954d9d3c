//! The registry: who takes part, and who is dead.
//!
//! # States of an entry
//! ```text
//!  FREE(g) ── join: lock byte, look again, CAS ──▶ ALIVE(g) ── CAS by anyone who finds the byte
//!    ▲                                               │          unlocked ─▶ REAPING(r, g)
//!    │        leave: own sweep, CAS                  │                          │ sweep
//!    └──────────────── FREE(g+1) ◀───────────────────┴──────────────────────────┘
//! ```
//! Alive is who holds the entry's lock byte (an open-file-description lock): the kernel gives it
//! back at the death of the process, and at no other time. An entry becomes FREE only when nothing
//! of its old owner is left in any ring, so an owner number in a shared word needs no generation.
//! Crash points: between lock and CAS nothing is left; in a sweep the entry stays REAPING(r), which
//! passes on when r is proven dead; the sweep of r hands every REAPING(r) on before r's own entry
//! is freed, so the number r in such a word never means somebody else.

use super::participant;
#[cfg(feature = "topics")]
use crate::layout::bus::POLICIES_OFFSET;
use crate::layout::bus::{
    JOINED, JOINED_ALL, LOCK_BASE, PARTICIPANTS, PARTICIPANTS_OFFSET, ParticipantEntry, ROLES,
    ROLES_OFFSET,
};
use crate::layout::word::{Participant, Role};
use crate::ring::Liveness;
use crate::shm::words::{read_bytes, word64, write_bytes};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::fork::LockFd;
use crate::sys::mapping::Mapping;
use crate::sys::{clock, host, lock};
use core::mem::offset_of;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

/// "Alive" may be assumed for this long; "dead" is never remembered.
const ALIVE_CACHE_NS: u64 = 1_000_000;

/// The shared table and this process's way to probe it.
#[derive(Debug)]
pub struct Registry {
    mapping: Mapping,
    /// Probes go through this descriptor; it never holds a lock.
    probe: File,
    /// Coarse time of the last probe that found an entry alive.
    seen_alive: Box<[std::sync::atomic::AtomicU64]>,
}

/// One joined entry. Dropping it leaves the lock to the kernel; see [`Registry::leave`].
#[derive(Debug)]
pub struct Membership {
    pub slot: u16,
    pub generation: u64,
    _lock: Option<LockFd>,
    joined: Mutex<Vec<u64>>,
}

/// What people may know about a participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantInfo {
    /// Entry in the registry.
    pub slot: u16,
    /// How often the entry was used before.
    pub generation: u64,
    /// `true` when its lock byte is held. A stopped process is alive.
    pub alive: bool,
    /// Process id in its own pid namespace; informational.
    pub pid: u64,
    /// Inode of that pid namespace.
    pub pid_namespace: u64,
    /// When it joined, in ms since the Unix epoch.
    pub joined_ms: u64,
    /// Its name.
    pub name: String,
}

impl Membership {
    /// Of who only looks: entry 0, which is nobody's.
    pub fn of_nobody() -> Self {
        Self {
            slot: 0,
            generation: 0,
            _lock: None,
            joined: Mutex::default(),
        }
    }
}

impl Registry {
    /// Over a checked bus file.
    pub fn new(mapping: Mapping, probe: File) -> Self {
        let seen_alive = (0..PARTICIPANTS).map(|_| Default::default()).collect();
        Self {
            mapping,
            probe,
            seen_alive,
        }
    }

    /// Whether this process forked away from the one that attached.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.mapping.is_forked()
    }

    /// The bus file as seen by its descriptor.
    pub fn file(&self) -> &File {
        &self.probe
    }

    fn entry(slot: u16) -> usize {
        PARTICIPANTS_OFFSET + usize::from(slot) * size_of::<ParticipantEntry>()
    }

    fn word(&self, slot: u16) -> &AtomicU64 {
        word64(&self.mapping, Self::entry(slot))
    }

    fn load(&self, slot: u16) -> Participant {
        participant::load(self.word(slot))
    }

    /// Every entry that was ever used and may matter.
    pub fn slots() -> impl Iterator<Item = u16> {
        1..PARTICIPANTS as u16
    }

    /// Takes a free entry of `slots`. `lock_file` opens a fresh descriptor of the bus file. `None`
    /// when every one is taken.
    pub fn join(
        &self,
        name: &str,
        slots: core::ops::Range<u16>,
        lock_file: impl Fn() -> io::Result<File>,
    ) -> io::Result<Option<Membership>> {
        'descriptor: loop {
            let lock_fd = LockFd::open(|| lock_file().map(Into::into))?;
            for slot in slots.clone() {
                if self.load(slot).state() != Participant::FREE
                    || !lock::try_lock(lock_fd.fd(), LOCK_BASE + i64::from(slot))?
                {
                    continue;
                }
                // From the acquired FREE on, everything the predecessor left is swept and visible.
                if let Some(generation) = participant::join(self.word(slot)) {
                    self.describe(slot, name);
                    return Ok(Some(Membership {
                        slot,
                        generation,
                        _lock: Some(lock_fd),
                        joined: Mutex::default(),
                    }));
                }
                // Somebody reaped or joined in between; a fresh descriptor gives the byte back.
                continue 'descriptor;
            }
            return Ok(None);
        }
    }

    fn describe(&self, slot: u16, name: &str) {
        let at = Self::entry(slot);
        let store = |offset: usize, value: u64| {
            word64(&self.mapping, at + offset).store(value, Ordering::Relaxed);
        };
        store(offset_of!(ParticipantEntry, joined_count), 0);
        store(
            offset_of!(ParticipantEntry, pid),
            u64::from(std::process::id()),
        );
        store(
            offset_of!(ParticipantEntry, pid_namespace),
            host::pid_namespace(),
        );
        store(offset_of!(ParticipantEntry, start_time), host::start_time());
        store(offset_of!(ParticipantEntry, joined_ms), clock::unix_ms());
        let mut text = [0u8; 48];
        let len = name.len().min(text.len());
        text[..len].copy_from_slice(&name.as_bytes()[..len]);
        write_bytes(
            &self.mapping,
            at + offset_of!(ParticipantEntry, name),
            &text,
        );
    }

    /// Notes that `member` may leave something in the object of this name hash. Before it does.
    pub fn note_joined(&self, member: &Membership, hash: u64) {
        if member.slot == 0 {
            return; // who only looks leaves nothing
        }
        let mut joined = member
            .joined
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if joined.contains(&hash) {
            return;
        }
        let at = Self::entry(member.slot);
        let count = word64(
            &self.mapping,
            at + offset_of!(ParticipantEntry, joined_count),
        );
        if joined.len() < JOINED {
            let place = offset_of!(ParticipantEntry, joined) + 8 * joined.len();
            word64(&self.mapping, at + place).store(hash, Ordering::Relaxed);
            count.store(joined.len() as u64 + 1, Ordering::Release);
        } else {
            count.store(JOINED_ALL, Ordering::Release);
        }
        joined.push(hash);
    }

    /// The name hashes a participant noted; `None` when it may have left something anywhere.
    pub fn joined(&self, slot: u16) -> Option<Vec<u64>> {
        let at = Self::entry(slot);
        let count = word64(
            &self.mapping,
            at + offset_of!(ParticipantEntry, joined_count),
        )
        .load(Ordering::Acquire);
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= JOINED)?;
        let first = at + offset_of!(ParticipantEntry, joined);
        Some(
            (0..count)
                .map(|i| word64(&self.mapping, first + 8 * i).load(Ordering::Relaxed))
                .collect(),
        )
    }

    /// Whether the lock byte of `slot` is held by anyone. Errors count as held: only a kernel that
    /// says "unlocked" proves death.
    pub fn holds_lock(&self, slot: u16) -> bool {
        lock::is_locked(&self.probe, LOCK_BASE + i64::from(slot)).unwrap_or(true)
    }

    /// ALIVE or REAPING entries whose lock byte is free.
    pub fn dead(&self) -> Vec<u16> {
        Self::slots()
            .filter(|slot| self.load(*slot).state() != Participant::FREE && !self.holds_lock(*slot))
            .collect()
    }

    /// Entries in use.
    pub fn participants(&self) -> Vec<ParticipantInfo> {
        Self::slots().filter_map(|slot| self.info(slot)).collect()
    }

    /// One entry, if it is in use.
    pub fn info(&self, slot: u16) -> Option<ParticipantInfo> {
        if slot == 0 || usize::from(slot) >= PARTICIPANTS {
            return None;
        }
        let word = self.load(slot);
        if word.state() == Participant::FREE {
            return None;
        }
        let at = Self::entry(slot);
        let load = |offset: usize| word64(&self.mapping, at + offset).load(Ordering::Relaxed);
        let mut text = [0u8; 48];
        read_bytes(
            &self.mapping,
            at + offset_of!(ParticipantEntry, name),
            &mut text,
        );
        let len = text.iter().position(|b| *b == 0).unwrap_or(text.len());
        Some(ParticipantInfo {
            slot,
            generation: word.generation(),
            alive: word.state() == Participant::ALIVE && self.holds_lock(slot),
            pid: load(offset_of!(ParticipantEntry, pid)),
            pid_namespace: load(offset_of!(ParticipantEntry, pid_namespace)),
            joined_ms: load(offset_of!(ParticipantEntry, joined_ms)),
            name: String::from_utf8_lossy(&text[..len]).into_owned(),
        })
    }

    /// Whether `member` still owns its entry.
    pub fn is_current(&self, member: &Membership) -> bool {
        self.load(member.slot) == Participant::new(Participant::ALIVE, 0, member.generation)
    }

    /// Begins to reap a dead entry: ALIVE, or REAPING of a dead reaper, → REAPING(me). `None` when
    /// it is not dead, or somebody else's. The generation otherwise.
    pub fn begin_reap(&self, slot: u16, me: u16) -> Option<u64> {
        participant::begin_reap(self.word(slot), slot, me, |slot| self.holds_lock(slot))
    }

    /// Entries that the dead `reaper` was sweeping.
    pub fn reaped_by(&self, reaper: u16) -> Vec<u16> {
        Self::slots()
            .filter(|slot| {
                let word = self.load(*slot);
                word.state() == Participant::REAPING && word.owner() == reaper
            })
            .collect()
    }

    /// The sweep is done: REAPING(me, g) → FREE(g+1).
    pub fn end_reap(&self, slot: u16, me: u16, generation: u64) {
        participant::end_reap(self.word(slot), me, generation);
    }

    /// Gives an entry back whose owner has swept up after itself.
    pub fn leave(&self, member: &Membership) {
        participant::leave(self.word(member.slot), member.generation);
    }

    fn role(&self, role: usize) -> &AtomicU64 {
        word64(&self.mapping, ROLES_OFFSET + 8 * role.min(ROLES - 1))
    }

    /// Takes a role word from nobody or from the proven dead.
    ///
    /// # Errors
    /// The participant that holds it.
    pub fn take_role(&self, role: usize, me: u16) -> Result<(), u16> {
        participant::take_role(self.role(role), me, |slot| self.holds_lock(slot))
    }

    /// Gives a role back, if `owner` holds it.
    pub fn release_role(&self, role: usize, owner: u16) -> bool {
        participant::release_role(self.role(role), owner)
    }

    /// The word that is raised whenever a policy of a queue was changed.
    #[cfg(feature = "topics")]
    pub fn policies(&self) -> &AtomicU64 {
        word64(&self.mapping, POLICIES_OFFSET)
    }

    /// Who holds a role, 0 for nobody.
    pub fn role_holder(&self, role: usize) -> u16 {
        Role(self.role(role).load(Ordering::Relaxed)).owner()
    }
}

/// The registry answers "dead" only for an entry in use whose lock byte is free.
pub struct RegistryLiveness(pub Arc<Registry>);

impl Liveness for RegistryLiveness {
    fn is_dead(&self, owner: u16) -> bool {
        let registry = &self.0;
        let Some(seen) = registry.seen_alive.get(usize::from(owner)) else {
            return false;
        };
        let now = clock::coarse();
        let relaxed = std::sync::atomic::Ordering::Relaxed; // a private hint
        if now.saturating_sub(seen.load(relaxed)) < ALIVE_CACHE_NS {
            return false;
        }
        let dead = participant::is_dead(registry.word(owner), || registry.holds_lock(owner));
        if !dead {
            seen.store(now, relaxed);
        }
        dead
    }
}
