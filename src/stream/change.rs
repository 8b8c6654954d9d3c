//! Changes: split, merge, groups, the end of a closed shard. One at a time, and anybody goes on with it.
//!
//! ```text
//! prepare   the wish, in the place of this participant; the rings of new shards, by their numbers
//! begin     operation: rest, version v → being changed by me, v + 1 (CAS: nothing changed since v)
//! go on     steps that give the same whoever does them, and how often: seal the parents; let the groups
//!           protect the children; the children's entries; how many there are; the parents' states
//! end       operation: being changed, v + 1 → rest, v + 2
//! ```
//! # What each crash point leaves
//! - before `begin`: a wish that nobody reads, and rings of numbers that were not given yet: the next
//!   who needs the number finds its ring made, and empty, since nobody knows of it.
//! - behind `begin`: whoever reads the table, or meets the seal, goes on. Between the seal and the end
//!   producers have nowhere to put, so they do; it takes microseconds, as the rings are there already.
//! - a helper that wakes up late: every word it changes is changed by a CAS from a state that is never
//!   entered again (states of a shard, the count, a first checkpoint, the operation), and what else it
//!   stores it stores as it stands. Only a group's protection may come back for a group that was removed
//!   meanwhile; who finds a shard full for no reason takes it away ([`Inner::unblock`]).
//!
//! A wish is written by its participant alone, and not while the operation word names it; who copies it
//! looks at the word again.

use super::Inner;
use super::file::{create_shard, shard_file};
use super::table::{ShardInfo, Table};
use super::turn;
use crate::error::{OpenError, ReshardError, ShardId};
use crate::layout::stream::{
    ADD_CONSUMER, ADD_GROUP, GROUP_LIVE, GROUP_REMOVED, GROUPS, MERGE, NO_SHARD, REMOVE_CONSUMER,
    REMOVE_GROUP, RETIRE, SHARDS, SPLIT, WishEntry, key_of,
};
use crate::layout::word::{Role, Shard};
use crate::persist::Goal;
use crate::ring::Producers;
use crate::sync::{Label, Ordering, fence_at, order};
use crate::trace::event;
use std::collections::HashSet;

/// Looks at a stream that others change.
pub(super) const ATTEMPTS: usize = 1000;
/// Rounds of a seal that producers outrun.
const SEALS: usize = 1000;
/// The kind of the operation word while something is being changed.
const CHANGING: u64 = 1;

impl Inner {
    /// Makes one change: `plan` says what is wished, of a table; `Ok(None)` when nothing is.
    pub(super) fn change(
        &self,
        mut plan: impl FnMut(&Table) -> Result<Option<WishEntry>, ReshardError>,
    ) -> Result<Option<WishEntry>, ReshardError> {
        self.check()?;
        let _one_at_a_time = turn::take();
        for _ in 0..ATTEMPTS {
            let table = self.table()?;
            let Some(wish) = plan(&table)? else {
                return Ok(None);
            };
            // On a disk that is full a change is refused before it is begun.
            self.write_table()?;
            self.make_rings(&wish)?;
            let rest = Role(table.version);
            let operation = self.words.operation();
            if Role(operation.load(Ordering::Acquire)).owner() == self.me {
                self.finish_change()?; // a wish of ours stands: not to be written over
                continue;
            }
            self.words.set_wish(self.me, &wish);
            let begun = rest.taken(CHANGING, self.me);
            let swapped = operation.compare_exchange(
                rest.0,
                begun.0,
                order(Label::RoleTake, Ordering::AcqRel),
                Ordering::Relaxed, // looks again
            );
            if swapped.is_ok() {
                if !self.go_on(begun)? {
                    return Err(self.scribbled("its words do not allow a change").into());
                }
                self.write_rest_of(&wish);
                event!(
                    DEBUG,
                    "changed",
                    stream = self.definition.name.as_str(),
                    what = kind(&wish)
                );
                return Ok(Some(wish));
            }
        }
        Err(ReshardError::Busy { attempts: ATTEMPTS })
    }

    /// Room first: the rings of new shards.
    fn make_rings(&self, wish: &WishEntry) -> Result<(), ReshardError> {
        for child in children(wish) {
            if u64::from(child) >= SHARDS {
                return Err(ReshardError::NoNumbers { limit: SHARDS });
            }
            match create_shard(&self.site, &self.definition, self.family, child) {
                // Made by somebody who did not begin; nobody knew of it.
                Ok(()) | Err(OpenError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Goes on with what somebody began, if anybody did.
    pub(super) fn finish_change(&self) -> Result<(), OpenError> {
        let operation = self.words.operation();
        let seen = Role(operation.load(order(Label::RoleTake, Ordering::Acquire)));
        if seen.state() == 0 {
            return Ok(());
        }
        self.go_on(seen).map(drop)
    }

    /// Whether the change was one that can be made.
    fn go_on(&self, begun: Role) -> Result<bool, OpenError> {
        let operation = self.words.operation();
        let wish = self.words.wish(begun.owner());
        fence_at(Label::ReadFence, Ordering::Acquire);
        if operation.load(Ordering::Relaxed) != begun.0 {
            return Ok(true); // done meanwhile
        }
        let mut is_possible = self.is_possible(&wish);
        if is_possible {
            let done = match wish.kind {
                SPLIT | MERGE => self.replace(&wish),
                ADD_GROUP => self.add_group(&wish),
                REMOVE_GROUP => self.remove_group(&wish),
                ADD_CONSUMER | REMOVE_CONSUMER => self.change_consumer(&wish),
                _ => self.give_back(&wish),
            };
            match done {
                // One that others are through with may have led to what is not there any more.
                Err(_) if operation.load(Ordering::Acquire) != begun.0 => return Ok(true),
                // The rings of new shards are made before a change begins: this wish is none.
                Err(OpenError::NotFound { .. }) if self.lacks_rings(&wish) => is_possible = false,
                done => done?,
            }
            // Nobody reads the table meanwhile: so nothing is done by it that is not on disk.
            let written = self.write_table();
            if written.is_err() && operation.load(Ordering::Acquire) != begun.0 {
                return Ok(true);
            }
            written?;
            if wish.kind == RETIRE {
                self.forget_journal(wish.first);
            }
        }
        let _ = operation.compare_exchange(
            begun.0,
            begun.released().0,
            order(Label::RoleRelease, Ordering::AcqRel),
            Ordering::Relaxed, // somebody else was faster
        );
        Ok(is_possible)
    }

    /// Whether the words of a wish can be what somebody wrote. Scribbled ones change nothing.
    fn is_possible(&self, wish: &WishEntry) -> bool {
        match wish.kind {
            // Its producers store where others would swap, and would write over the seal.
            SPLIT | MERGE if self.definition.producers == Producers::Exclusive => false,
            SPLIT => {
                self.can_replace(wish, &[wish.first]) && {
                    let (start, end) = self.range(wish.first);
                    start < split_at(wish) && split_at(wish) <= end
                }
            }
            MERGE => {
                self.can_replace(wish, &[wish.first, wish.second]) && {
                    let (first, second) = (self.range(wish.first), self.range(wish.second));
                    let follows =
                        |a: (u128, u128), b: (u128, u128)| a.1.checked_add(1) == Some(b.0);
                    follows(first, second) || follows(second, first)
                }
            }
            ADD_GROUP => wish.first < GROUPS && u64::from(wish.child) <= SHARDS,
            REMOVE_GROUP | ADD_CONSUMER | REMOVE_CONSUMER => wish.first < GROUPS,
            RETIRE => matches!(self.state(wish.first), Some(Shard::CLOSED | Shard::RETIRED)),
            _ => false,
        }
    }

    /// Whether the children can be those of these parents: not made yet, or made by who goes on with this
    /// wish too.
    fn can_replace(&self, wish: &WishEntry, parents: &[u32]) -> bool {
        let is_parent = |parent: &u32| {
            matches!(self.state(*parent), Some(Shard::OPEN | Shard::CLOSED))
                && children(wish).all(|child| child > *parent)
        };
        let is_child = |child: u32| match self.state(child) {
            Some(Shard::NONE) => true,
            Some(_) => self.words.entry(child).parents == [wish.first, wish.second],
            None => false,
        };
        u64::from(wish.child) < SHARDS
            && parents.iter().all(is_parent)
            && children(wish).all(is_child)
    }

    /// The state of a shard; `None` for a number that there is not.
    fn state(&self, shard: u32) -> Option<u64> {
        let is_one = u64::from(shard) < SHARDS;
        is_one.then(|| Shard(self.words.shard(shard).load(Ordering::Acquire)).state())
    }

    /// Whether a new shard of the wish is not published, and can't be.
    fn lacks_rings(&self, wish: &WishEntry) -> bool {
        let lacks = |child| {
            self.state(child) == Some(Shard::NONE)
                && matches!(self.ring(child), Err(OpenError::NotFound { .. }))
        };
        children(wish).any(lacks)
    }

    fn range(&self, shard: u32) -> (u128, u128) {
        self.words.entry(shard).keys()
    }

    /// Split and merge.
    fn replace(&self, wish: &WishEntry) -> Result<(), OpenError> {
        let first = self.range(wish.first);
        let mut children_ranges = vec![first];
        if wish.kind == SPLIT {
            let at = split_at(wish);
            children_ranges = vec![(first.0, at - 1), (at, first.1)];
        } else {
            let second = self.range(wish.second);
            children_ranges[0] = (first.0.min(second.0), first.1.max(second.1));
        }
        // Nothing is closed for what can't be opened.
        for child in children(wish) {
            self.ring(child)?;
        }
        let parents = [wish.first, wish.second];
        let is_parent = |parent: &&u32| **parent != NO_SHARD;
        for parent in parents.iter().filter(is_parent) {
            let closed_at = self.seal(*parent)?;
            self.write_the_end(*parent, closed_at)?;
            self.words
                .closed_at(*parent)
                .store(closed_at, Ordering::Relaxed);
            self.words
                .closed_ms(*parent)
                .store(wish.created_ms, Ordering::Relaxed);
        }
        for (child, range) in children(wish).zip(children_ranges) {
            for group in self.live_groups() {
                self.protect(child, group, 0)?;
            }
            if !self.is_on_disk() {
                self.guard(child)?;
            }
            if self.state(child) == Some(Shard::NONE) {
                self.words
                    .fill_shard(child, range, parents, wish.created_ms);
                self.pass(child, Shard::NONE, Shard::OPEN);
            }
        }
        let _ = self.words.count().compare_exchange(
            wish.child.into(),
            u64::from(wish.child) + children(wish).count() as u64,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        for parent in parents.iter().filter(is_parent) {
            self.pass(*parent, Shard::OPEN, Shard::CLOSED);
            self.ring(*parent)?.wake_all();
        }
        Ok(())
    }

    /// On disk: who put last to what was replaced may be dead, and nobody puts there any more. Those who read
    /// without waiting come to its end all the same.
    fn write_rest_of(&self, wish: &WishEntry) {
        if !self.is_on_disk() || self.is_write_behind() || !matches!(wish.kind, SPLIT | MERGE) {
            return;
        }
        let parents = [wish.first, wish.second].into_iter();
        for parent in parents.filter(|parent| *parent != NO_SHARD) {
            let end = self.words.closed_at(parent).load(Ordering::Relaxed);
            if let (Some(last), Ok(Some(log))) = (end.checked_sub(1), self.log(parent)) {
                // Where it can't be written now, whoever waits for it tries again.
                let _ = log.reach(Goal::Position(last));
            }
        }
    }

    /// Lets a shard take no more; behind which position. The same whoever asks.
    fn seal(&self, shard: u32) -> Result<u64, OpenError> {
        let channel = self.ring(shard)?;
        let ring = &channel.inner.ring;
        for _ in 0..SEALS {
            if let Some(at) = ring.sealed() {
                return Ok(at);
            }
            if let Some(at) = ring.seal(ring.find_tail()) {
                return Ok(at);
            }
        }
        Err(self.scribbled("a shard can't be sealed: its words never rest"))
    }

    /// Where puts do not wait for the disk: what was put to a shard that takes no more is there before
    /// what replaces it takes any.
    fn write_the_end(&self, shard: u32, closed_at: u64) -> Result<(), OpenError> {
        let Some(last) = closed_at.checked_sub(1).filter(|_| self.is_write_behind()) else {
            return Ok(());
        };
        match self.log(shard)? {
            Some(log) => log
                .reach(Goal::Position(last))
                .map_err(|why| self.not_on_disk(why)),
            None => Ok(()),
        }
    }

    /// From one state of a shard to the next; for ever, since none comes twice.
    fn pass(&self, shard: u32, from: u64, to: u64) {
        let from = if from == Shard::NONE {
            Shard(0)
        } else {
            Shard::at(from)
        };
        let _ = self.words.shard(shard).compare_exchange(
            from.0,
            Shard::at(to).0,
            order(Label::RoleRelease, Ordering::AcqRel),
            Ordering::Relaxed, // somebody else was faster
        );
    }

    /// The end of a closed shard, if all groups that there are when it begins have read it, and whoever
    /// reads what it replaced has joined it.
    pub(super) fn retire(&self, shard: ShardId) -> Result<bool, ReshardError> {
        let wish = self.change(|table| {
            let known = table.get(shard).ok_or(ReshardError::NoShard { shard })?;
            let is_closed = known.state == super::ShardState::Closed;
            let goes = is_closed && self.is_done(known, table)? && self.is_joined(known, table)?;
            Ok(goes.then(|| WishEntry {
                kind: RETIRE,
                first: shard.0,
                ..bytemuck::Zeroable::zeroed()
            }))
        })?;
        Ok(wish.is_some())
    }

    fn give_back(&self, wish: &WishEntry) -> Result<(), OpenError> {
        self.pass(wish.first, Shard::CLOSED, Shard::RETIRED);
        match self.home.remove_ring(&shard_file(self.family, wish.first)) {
            Ok(()) | Err(OpenError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether every group has read a shard, and all that it came from, to the end.
    fn is_done(&self, shard: &ShardInfo, table: &Table) -> Result<bool, OpenError> {
        for group in self.live_groups() {
            let mut left = vec![shard];
            let mut met = HashSet::from([shard.id]);
            while let Some(shard) = left.pop() {
                if !self.has_finished(group, shard)? {
                    return Ok(false);
                }
                let unmet = shard.lineage().filter(|parent| met.insert(*parent));
                left.extend(unmet.filter_map(|parent| table.get(parent)));
            }
        }
        Ok(true)
    }

    /// Whether whoever reads a shard has joined what replaced it, and whoever reads what it replaced has joined
    /// it.
    fn is_joined(&self, shard: &ShardInfo, table: &Table) -> Result<bool, OpenError> {
        let mut children = table.shards.iter();
        while let Some(child) = children.find(|child| child.parents.contains(&Some(shard.id))) {
            if !self.drop_guard(child.id.0)? {
                return Ok(false);
            }
        }
        self.drop_guard(shard.id.0)
    }

    fn add_group(&self, wish: &WishEntry) -> Result<(), OpenError> {
        for shard in 0..wish.child {
            let state = Shard(self.words.shard(shard).load(Ordering::Acquire)).state();
            if state == Shard::RETIRED || state == Shard::NONE {
                continue;
            }
            let channel = self.ring(shard)?;
            let ring = &channel.inner.ring;
            let from = match wish.latest {
                0 if self.is_on_disk() => self.oldest_on_disk(shard)?,
                0 => ring.memory().trim().load(Ordering::Relaxed),
                _ => ring.tail_now(),
            };
            self.protect(shard, wish.first, from)?;
        }
        self.words
            .set_group_name(wish.first, wish.name_bytes.min(128), &wish.name);
        let _ = self.words.group(wish.first).compare_exchange(
            0,
            Role::new(GROUP_LIVE, 0, 1).0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        Ok(())
    }

    fn remove_group(&self, wish: &WishEntry) -> Result<(), OpenError> {
        let _ = self.words.group(wish.first).compare_exchange(
            Role::new(GROUP_LIVE, 0, 1).0,
            Role::new(GROUP_REMOVED, 0, 2).0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        let count = self.words.count().load(Ordering::Acquire).min(SHARDS);
        for shard in 0..count as u32 {
            let state = Shard(self.words.shard(shard).load(Ordering::Acquire)).state();
            if matches!(state, Shard::OPEN | Shard::CLOSED) {
                self.unprotect(shard, wish.first)?;
            }
        }
        Ok(())
    }
}

fn split_at(wish: &WishEntry) -> u128 {
    key_of(wish.at)
}

/// The numbers of new shards.
fn children(wish: &WishEntry) -> core::ops::Range<u32> {
    let count = match wish.kind {
        SPLIT => 2,
        MERGE => 1,
        _ => 0,
    };
    wish.child..wish.child.saturating_add(count)
}

/// What a change is called.
#[cfg(feature = "tracing")]
fn kind(wish: &WishEntry) -> &'static str {
    match wish.kind {
        SPLIT => "split",
        MERGE => "merge",
        ADD_GROUP => "group added",
        REMOVE_GROUP => "group removed",
        RETIRE => "shard retired",
        _ => "other",
    }
}
