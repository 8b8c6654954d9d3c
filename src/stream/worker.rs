//! A worker of a group: takes leases, gives them up, reads what it holds.
//!
//! ```text
//! pass, every 10 ms and at each change of the group:
//!   say that I live; drop leases that passed on; free those of dead workers
//!   share = shards that can be read / workers that live; some have one more, while nobody has one less
//!   fewer than that: take what is free, or held by a worker that has shown no sign for the lease time-out
//!   more than that: stop reading a shard; give it back when all of it that was handed out is checkpointed
//! ```
//! # What each crash point leaves
//! - a worker that dies: its leases, which the kernel's lock tells the others to free, and its entry,
//!   freed behind them; what it had read since its last checkpoint is read again.
//! - between taking a lease and stamping the checkpoint: a lease of a dead worker. The worker before it
//!   may still checkpoint until the next one stamps.
//! - a worker that is stopped, or does not come back to its group for the lease time-out: its leases pass
//!   on, and when it wakes its checkpoint is refused by the stamp.
//!
//! A member's entry is freed only when no lease names it: so a lease names the worker it was taken by.

use super::group::{Group, is_ready};
use super::lease::{advance, fence, place};
use super::number::SequenceNumber;
use super::record::StreamRecord;
use super::share::{Colleague, Share, share};
use super::table::{ShardInfo, ShardState, Table};
use super::tap::Tap;
use super::{Inner, OwnedRecord};
use crate::ParticipantId;
use crate::channel::Channel;
use crate::error::{GroupError, OpenError, ReadError, ShardId, StreamReadError, WaitError};
use crate::layout::stream::MEMBERS;
use crate::layout::word::{Lease, Role};
use crate::object::wait::wait_any;
use crate::ring::seat::Start;
use crate::ring::standing;
use crate::ring::wait::Idle;
use crate::sync::{Label, Ordering, order};
use crate::sys::clock::{self, Deadline};
use crate::sys::fork;
use std::sync::Arc;
use std::time::Duration;

/// How often a worker looks after its group: a dead one's shards are taken within this and the few
/// milliseconds that the kernel takes to say so.
const PASS_EVERY: Duration = Duration::from_millis(10);
/// Ten passes: a worker that was not seen for so long is reading something, or stands still.
const LOOKS_WITHIN_MS: u64 = 100;
/// The kind of a member's word.
const MEMBER: u64 = 1;

/// A shard that this worker reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The shard.
    pub shard: ShardId,
    /// What its checkpoints are fenced by: higher than that of any worker before.
    pub token: u64,
    /// The first record that is not checkpointed.
    pub checkpoint: SequenceNumber,
    /// The first record that was not handed out yet.
    pub next: SequenceNumber,
}

pub(super) struct Held {
    pub lease: Lease,
    pub ring: Channel,
    pub tap: Tap,
    /// Everything below is checkpointed.
    pub checkpointed: u64,
    pub closed_at: Option<u64>,
    /// Another worker is to have it.
    leaving: bool,
}

impl Held {
    fn is_mine(&self, group: u32) -> bool {
        let lease = place(&self.ring.inner.ring, group).lease;
        lease.load(order(Label::RoleTake, Ordering::Acquire)) == self.lease.0
    }

    /// Everything below was handed out.
    pub fn next(&self) -> u64 {
        self.tap.handed_to
    }

    fn give_back(&self, group: u32) {
        let lease = place(&self.ring.inner.ring, group).lease;
        let _ = lease.compare_exchange(
            self.lease.0,
            self.lease.given_back().0,
            order(Label::RoleRelease, Ordering::AcqRel),
            Ordering::Relaxed, // it passed on
        );
    }
}

/// A worker of a consumer group.
///
/// May move to another thread, is not shared between threads. Records are handed out at least once, those
/// of a key in their order; [`checkpoint`](Self::checkpoint) says that what was handed out is done.
/// Dropping it gives its shards to the others. In a forked child every call returns `Forked`.
pub struct GroupWorker {
    pub(super) group: Group,
    member: usize,
    word: Role,
    pub(super) held: Vec<Held>,
    /// Leases that were found to have passed on, until the next checkpoint tells.
    pub(super) lost: Vec<ShardId>,
    turn: usize,
    passed_at: u64,
    changes: u64,
    version: u64,
    idle: Idle,
    failed: Option<StreamReadError>,
    generation: u64,
}

impl GroupWorker {
    pub(super) fn join(group: Group) -> Result<Self, GroupError> {
        let inner = &group.inner;
        let mut taken = None;
        for member in 0..MEMBERS {
            free_if_dead(inner, group.number, member)?;
            let word = inner.words.member(group.number, member);
            let seen = Role(word.load(order(Label::RoleTake, Ordering::Acquire)));
            if seen.owner() != 0 {
                continue;
            }
            inner
                .words
                .seen_ms(group.number, member)
                .store(clock::boot_ms(), Ordering::Relaxed);
            let mine = seen.taken(MEMBER, inner.me);
            let swapped = word.compare_exchange(
                seen.0,
                mine.0,
                order(Label::RoleTake, Ordering::AcqRel),
                Ordering::Relaxed,
            );
            if swapped.is_ok() {
                taken = Some((member, mine));
                break;
            }
        }
        let Some((member, word)) = taken else {
            return Err(GroupError::TooManyWorkers { limit: MEMBERS });
        };
        inner
            .words
            .changes(group.number)
            .fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            group,
            member,
            word,
            held: Vec::new(),
            lost: Vec::new(),
            turn: 0,
            passed_at: 0,
            changes: 0,
            version: 0,
            idle: Idle::default(),
            failed: None,
            generation: fork::generation(),
        })
    }

    /// How to wait. The default is [`Idle::SpinThenPark`].
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// The participant this worker belongs to.
    pub fn participant(&self) -> ParticipantId {
        ParticipantId(self.group.inner.me)
    }

    /// The shards that it reads.
    pub fn leases(&self) -> impl Iterator<Item = LeaseInfo> + '_ {
        self.held.iter().map(|held| LeaseInfo {
            shard: held.tap.shard,
            token: held.lease.token(),
            checkpoint: SequenceNumber::new(held.tap.shard.0, held.checkpointed),
            next: SequenceNumber::new(held.tap.shard.0, held.next()),
        })
    }

    pub(super) fn is_of_parent(&self) -> bool {
        self.generation != fork::generation()
    }

    /// Looks after the group if it is time. Reading does; a worker that is busy for longer than the lease
    /// time-out calls it meanwhile, so that nobody takes it for gone.
    ///
    /// # Errors
    /// [`StreamReadError::NotMember`] when the group was removed; a shard can't be opened now.
    pub fn keep_alive(&mut self) -> Result<(), StreamReadError> {
        if self.is_of_parent() {
            return Err(StreamReadError::Forked);
        }
        let now = clock::now();
        let words = &self.group.inner.words;
        let changes = words.changes(self.group.number).load(Ordering::Relaxed);
        let version = words.operation().load(Ordering::Relaxed);
        let is_time = now.saturating_sub(self.passed_at) >= PASS_EVERY.as_nanos() as u64;
        if is_time || changes != self.changes || version != self.version {
            self.passed_at = now;
            self.changes = changes;
            self.version = version;
            self.pass()?;
        }
        Ok(())
    }

    fn pass(&mut self) -> Result<(), StreamReadError> {
        let inner = Arc::clone(&self.group.inner);
        let group = self.group.number;
        let word = inner.words.member(group, self.member);
        if !inner.is_live(group) || word.load(Ordering::Acquire) != self.word.0 {
            self.held.clear();
            return Err(match inner.is_removed() {
                true => StreamReadError::Removed,
                false => StreamReadError::NotMember,
            });
        }
        let now = clock::boot_ms();
        inner
            .words
            .seen_ms(group, self.member)
            .store(now, Ordering::Relaxed);
        inner.balance();
        let table = inner.table()?;
        self.drop_lost();
        self.finish_shards(&table);
        let stopped = self.look_at_members(now)?;
        let finished = inner.finished(group, &table)?;
        let mut readable = Vec::new();
        for shard in &table.shards {
            if shard.state != ShardState::Retired
                && !finished[shard.id.0 as usize]
                && is_ready(shard, &finished)
            {
                readable.push(shard);
            }
        }
        let share = self.share(&readable, &stopped, now)?;
        for shard in readable {
            if self.held.len() >= share.take {
                break;
            }
            self.take_if_free(shard, &stopped)?;
        }
        for (index, held) in self.held.iter_mut().enumerate() {
            held.leaving = index >= share.keep;
        }
        self.give_up();
        Ok(())
    }

    fn drop_lost(&mut self) {
        let group = self.group.number;
        let lost = &mut self.lost;
        self.held.retain(|held| {
            let is_mine = held.is_mine(group);
            if !is_mine && held.checkpointed < held.next() {
                lost.push(held.tap.shard);
            }
            is_mine
        });
    }

    /// Of each member: none, or whether it lives without a sign. Dead ones are freed.
    fn look_at_members(&self, now: u64) -> Result<[Option<bool>; MEMBERS], OpenError> {
        let (inner, group) = (&self.group.inner, self.group.number);
        let timeout = inner.definition.lease_timeout.as_millis() as u64;
        let mut stopped = [None; MEMBERS];
        for (member, stopped) in stopped.iter_mut().enumerate() {
            free_if_dead(inner, group, member)?;
            let word = Role(inner.words.member(group, member).load(Ordering::Acquire));
            if word.owner() != 0 {
                let seen = inner.words.seen_ms(group, member).load(Ordering::Relaxed);
                // Far in the future is no sign either.
                let is_late = member != self.member && now.abs_diff(seen) > timeout;
                *stopped = Some(is_late);
            }
        }
        Ok(stopped)
    }

    /// What this worker is to have of the shards that can be read.
    fn share(
        &self,
        readable: &[&ShardInfo],
        stopped: &[Option<bool>; MEMBERS],
        now: u64,
    ) -> Result<Share, OpenError> {
        let (inner, group) = (&self.group.inner, self.group.number);
        let mut workers = [None; MEMBERS];
        for (member, worker) in workers.iter_mut().enumerate() {
            let seen = inner.words.seen_ms(group, member).load(Ordering::Relaxed);
            let looks = member == self.member || now.abs_diff(seen) <= LOOKS_WITHIN_MS;
            let (count, lives) = (0, stopped[member] == Some(false));
            *worker = lives.then_some(Colleague { count, looks });
        }
        let mut free = 0;
        for shard in readable {
            let Some(channel) = inner.ring_if_there(shard.id.0)? else {
                continue;
            };
            let lease = place(&channel.inner.ring, group).lease;
            let lease = Lease(lease.load(order(Label::RoleTake, Ordering::Acquire)));
            let member = usize::from(lease.owner().wrapping_sub(1));
            match workers.get_mut(member) {
                Some(Some(holder)) if lease.state() == Lease::HELD => holder.count += 1,
                _ => free += 1,
            }
        }
        if let Some(mine) = &mut workers[self.member] {
            mine.count = self.held.len();
        }
        Ok(share(&workers, self.member, readable.len(), free))
    }

    fn take_if_free(
        &mut self,
        shard: &ShardInfo,
        stopped: &[Option<bool>; MEMBERS],
    ) -> Result<(), StreamReadError> {
        let (inner, group) = (&self.group.inner, self.group.number);
        let Some(channel) = inner.ring_if_there(shard.id.0)? else {
            return Ok(());
        };
        let ring = &channel.inner.ring;
        let word = place(ring, group).lease;
        let seen = Lease(word.load(order(Label::RoleTake, Ordering::Acquire)));
        let is_free = match seen.state() {
            Lease::FREE => true,
            _ => {
                let member = usize::from(seen.owner().wrapping_sub(1));
                let is_known = self.held.iter().any(|held| held.tap.shard == shard.id);
                // A number that no member has is a scribble. An entry is given back behind its leases: one
                // that is nobody's now says that this lease is, or was written over.
                match stopped.get(member) {
                    None => true,
                    Some(_) if member == self.member => !is_known,
                    Some(stopped) => {
                        let entry = inner.words.member(group, member);
                        let entry = entry.load(order(Label::RoleTake, Ordering::Acquire));
                        *stopped == Some(true) || Role(entry).owner() == 0
                    }
                }
            }
        };
        if !is_free {
            return Ok(());
        }
        let Some(mine) = standing::take(&place(ring, group), seen, self.member as u16) else {
            return Ok(());
        };
        let Some(position) = fence(ring, group, mine) else {
            return Ok(());
        };
        // The token is told to nobody before it is on disk; where that can't be written now, the one that
        // is given behind a restart is higher all the same.
        let _ = inner.write_checkpoint(shard.id);
        // Lossy: the group's entry holds what it needs, and a stopped worker must hold nobody back.
        let tap = match Tap::join(inner, &channel, shard, Start::At(position), true, self.idle) {
            // Finished by another worker and retired, since the table was read.
            Err(StreamReadError::Join { .. }) if inner.is_retired(shard.id.0) => return Ok(()),
            Ok(tap) => tap,
            Err(error) => {
                // Or nobody would read it as long as this worker lives.
                let _ = word.compare_exchange(
                    mine.0,
                    mine.given_back().0,
                    order(Label::RoleRelease, Ordering::AcqRel),
                    Ordering::Relaxed, // it passed on
                );
                return Err(error);
            }
        };
        self.held.push(Held {
            lease: mine,
            tap,
            checkpointed: position,
            closed_at: shard.closed_at,
            ring: channel,
            leaving: false,
        });
        Ok(())
    }

    /// Gives back what another worker is to have and nothing of is open.
    fn give_up(&mut self) {
        let group = self.group.number;
        let words = &self.group.inner.words;
        self.held.retain(|held| {
            let goes = held.leaving && held.checkpointed >= held.next();
            if goes {
                held.give_back(group);
                words.changes(group).fetch_add(1, Ordering::Relaxed);
            }
            !goes
        });
    }

    /// What is read to its end, and checkpointed as far as anything was handed out, is finished.
    pub(super) fn finish_shards(&mut self, table: &Table) {
        let group = self.group.number;
        let words = &self.group.inner.words;
        self.held.retain_mut(|held| {
            held.closed_at = table.get(held.tap.shard).and_then(|shard| shard.closed_at);
            let Some(end) = held.closed_at else {
                return true;
            };
            let is_read = held.tap.position() >= end && !held.tap.has_rest();
            if !is_read || held.checkpointed < held.next() {
                return true;
            }
            if held.checkpointed < end {
                advance(&held.ring.inner.ring, group, held.lease, end);
            }
            held.give_back(group);
            words.changes(group).fetch_add(1, Ordering::Relaxed);
            false
        });
    }

    /// Hands up to `max` records to `each`, in place, those of a shard in their order; how many. 0 when
    /// there is none now, in the shards that this worker has. Never blocks, but for opening a shard.
    ///
    /// # Errors
    /// As [`StreamReader::try_read_batch`](super::StreamReader::try_read_batch);
    /// [`StreamReadError::NotMember`].
    pub fn try_read_batch(
        &mut self,
        max: usize,
        mut each: impl FnMut(StreamRecord<'_>),
    ) -> Result<usize, StreamReadError> {
        self.keep_alive()?;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let group = self.group.number;
        let oldest_ms = self.group.inner.horizon_ms();
        let mut given = 0;
        for _ in 0..self.held.len() {
            if given == max {
                break;
            }
            self.turn = (self.turn + 1) % self.held.len();
            let held = &mut self.held[self.turn];
            if held.leaving || !held.is_mine(group) {
                continue; // the next pass drops it
            }
            match held.tap.take(max - given, oldest_ms, &mut each) {
                Ok(count) => given += count,
                Err(ReadError::Forked) => return Err(StreamReadError::Forked), // by `each`, in the child
                Err(ReadError::Removed) if !self.group.inner.is_removed() => {
                    self.passed_at = 0; // it was retired; the next pass drops it
                }
                Err(error) => match self.told(self.turn, error) {
                    None => {} // the next pass drops it
                    Some(error) if given == 0 => return Err(error),
                    Some(error) => {
                        self.failed = Some(error);
                        break;
                    }
                },
            }
        }
        Ok(given)
    }

    /// What is told of an error that was met in a held shard: nothing, if the lease passed on meanwhile. What
    /// was dropped since, the next worker has read.
    pub(super) fn told(&self, index: usize, error: ReadError) -> Option<StreamReadError> {
        let held = &self.held[index];
        let is_mine = held.is_mine(self.group.number);
        is_mine.then(|| StreamReadError::of(held.tap.shard, error))
    }

    /// The same, waiting up to `timeout` for the first record.
    ///
    /// # Errors
    /// As [`try_read_batch`](Self::try_read_batch).
    pub fn read_batch(
        &mut self,
        max: usize,
        timeout: Duration,
        mut each: impl FnMut(StreamRecord<'_>),
    ) -> Result<usize, StreamReadError> {
        let deadline = Deadline::after(timeout);
        loop {
            let given = self.try_read_batch(max, &mut each)?;
            if given > 0 || max == 0 || deadline.passed() {
                return Ok(given);
            }
            self.wait(deadline.remaining().min(PASS_EVERY))?;
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), StreamReadError> {
        let readable = self.held.iter_mut().filter(|held| !held.leaving);
        // At its end a shard has nothing to wait for.
        let readable = readable.filter(|held| {
            let next = held.tap.position();
            held.closed_at.is_none_or(|end| next < end)
        });
        let mut first = None;
        let mut readers: Vec<&mut Tap> = Vec::new();
        for held in readable {
            first.get_or_insert(held.tap.shard);
            readers.push(&mut held.tap);
        }
        match first {
            Some(shard) => {
                match wait_any(&mut readers, timeout) {
                    // A shard that was retired is dropped by the next pass.
                    Err(WaitError::Removed | WaitError::Unlinked)
                        if self.group.inner.check().is_ok() =>
                    {
                        self.passed_at = 0;
                    }
                    Err(error) => return Err(StreamReadError::of_wait(shard, error)),
                    Ok(_) => {}
                }
            }
            None => clock::pause(timeout.min(Duration::from_millis(2))),
        }
        Ok(())
    }

    /// A copy of the next record; `None` when there is none within `timeout`. Allocates.
    ///
    /// # Errors
    /// As [`try_read_batch`](Self::try_read_batch).
    pub fn next(&mut self, timeout: Duration) -> Result<Option<OwnedRecord>, StreamReadError> {
        let mut copied = None;
        self.read_batch(1, timeout, |record| copied = Some(record.to_owned()))?;
        Ok(copied)
    }

    /// Positions that its shards have and that were not handed out.
    pub fn behind(&self) -> u64 {
        if self.is_of_parent() {
            return 0;
        }
        let end = |held: &Held| held.tap.end(&held.ring.inner.ring);
        let behind = |held: &Held| end(held).saturating_sub(held.next());
        self.held.iter().map(behind).sum()
    }
}

/// Frees the leases of a dead worker, and behind them its entry. Anyone may.
fn free_if_dead(inner: &Inner, group: u32, member: usize) -> Result<(), OpenError> {
    let word = inner.words.member(group, member);
    let seen = Role(word.load(order(Label::RoleTake, Ordering::Acquire)));
    if seen.owner() == 0 || !inner.is_dead(seen.owner()) {
        return Ok(());
    }
    free(inner, group, member, seen)
}

/// Frees the leases of the member whose word is `seen`, and behind them its entry.
fn free(inner: &Inner, group: u32, member: usize, seen: Role) -> Result<(), OpenError> {
    let word = inner.words.member(group, member);
    let table = inner.table()?;
    for shard in table
        .shards
        .iter()
        .filter(|shard| shard.state != ShardState::Retired)
    {
        let Some(channel) = inner.ring_if_there(shard.id.0)? else {
            continue;
        };
        let lease = place(&channel.inner.ring, group).lease;
        let held = Lease(lease.load(order(Label::RoleTake, Ordering::Acquire)));
        if held.state() != Lease::HELD || usize::from(held.owner()) != member + 1 {
            continue;
        }
        // Only while the entry is the dead one's is the lease.
        if word.load(order(Label::RoleTake, Ordering::Acquire)) != seen.0 {
            return Ok(());
        }
        let _ = lease.compare_exchange(
            held.0,
            held.given_back().0,
            order(Label::RoleRelease, Ordering::AcqRel),
            Ordering::Relaxed, // somebody else was faster
        );
    }
    let _ = word.compare_exchange(
        seen.0,
        seen.released().0,
        order(Label::RoleRelease, Ordering::AcqRel),
        Ordering::Relaxed,
    );
    inner.words.changes(group).fetch_add(1, Ordering::Relaxed);
    Ok(())
}

impl Drop for GroupWorker {
    fn drop(&mut self) {
        if self.is_of_parent() || self.group.inner.words.is_forked() {
            return;
        }
        self.held.clear();
        // Where that fails now, its death frees them.
        let _ = free(&self.group.inner, self.group.number, self.member, self.word);
    }
}
