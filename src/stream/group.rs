//! Consumer groups: workers that share the records of a stream, shard by shard.
//!
//! A group is a place in the control file and an entry in every shard that holds the records it has not
//! checkpointed, whoever of its workers lives. Making and removing one is a [change](super::change), so it
//! and a split know of each other.

use super::lease::{checkpoint, place};
use super::number::SequenceNumber;
use super::table::{ShardInfo, ShardState, Table};
use super::worker::GroupWorker;
use super::{Inner, Stream};
use crate::ParticipantId;
use crate::error::{GroupError, OpenError, ShardId};
use crate::layout::stream::{ADD_GROUP, GROUPS, MEMBERS, REMOVE_GROUP, WishEntry};
use crate::layout::word::{Lease, Role};
use crate::sync::Ordering;
use std::sync::Arc;

/// Where a group begins when it is made. In shards that are made later: with their first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupStart {
    /// With the oldest record there is.
    #[default]
    TrimHorizon,
    /// With what is put from now on.
    Latest,
}

/// A consumer group of a stream, open in this process. Cheap to clone; thread-safe. In a forked child every
/// call returns `Forked`: open the bus again there.
#[derive(Clone)]
pub struct Group {
    pub(super) inner: Arc<Inner>,
    pub(super) number: u32,
    name: String,
}

/// What anyone may know about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// Workers that live.
    pub workers: usize,
    /// The shards it has not read to their end.
    pub shards: Vec<GroupShard>,
}

/// A group in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupShard {
    /// The shard.
    pub shard: ShardId,
    /// Who reads it.
    pub worker: Option<ParticipantId>,
    /// The fencing token: how often it changed hands.
    pub token: u64,
    /// The first record that is not checkpointed.
    pub checkpoint: SequenceNumber,
    /// Positions from there to the end of the shard: of those on disk that are still there, and without what is
    /// left out where a life of the stream begins.
    pub behind: u64,
    /// Whether it is read, or waits until what it replaced is.
    pub waits_for_parents: bool,
}

/// Whether that may name a group or a registered consumer; if not, what an error says of it.
pub(super) fn is_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    match (1..=128).contains(&name.len()) && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(name.chars().take(140).collect()),
    }
}

fn check_name(name: &str) -> Result<(), GroupError> {
    is_name(name).map_err(|name| GroupError::InvalidName { name })
}

impl Stream {
    /// The group of that name.
    ///
    /// # Errors
    /// [`GroupError::NoGroup`]; the stream is gone.
    pub fn group(&self, name: &str) -> Result<Group, GroupError> {
        check_name(name)?;
        self.inner.check()?;
        self.inner.table()?;
        self.find_group(name).ok_or_else(|| GroupError::NoGroup {
            name: name.to_owned(),
        })
    }

    /// The group of that name, made if there is none. Making it is a change: it goes on with one that is
    /// under way first, makes system calls, and blocks for the disk where the stream is on one.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn group_or_create(&self, name: &str, start: GroupStart) -> Result<Group, GroupError> {
        check_name(name)?;
        let inner = &self.inner;
        let mut no_place = false;
        inner.change(|table| {
            if self.find_group(name).is_some() {
                return Ok(None);
            }
            let is_free = |group: &u32| inner.words.group(*group).load(Ordering::Acquire) == 0;
            let Some(group) = (0..GROUPS).find(is_free) else {
                no_place = true;
                return Ok(None);
            };
            let mut wish = WishEntry {
                kind: ADD_GROUP,
                first: group,
                child: table.shards.len() as u32,
                latest: u32::from(start == GroupStart::Latest),
                name_bytes: name.len() as u64,
                ..bytemuck::Zeroable::zeroed()
            };
            wish.name[..name.len()].copy_from_slice(name.as_bytes());
            Ok(Some(wish))
        })?;
        if no_place {
            return Err(GroupError::TooManyGroups { limit: GROUPS });
        }
        self.group(name)
    }

    /// Removes a group: its checkpoints are gone, its workers are told, and it holds nobody back. Whether
    /// there was one. A change, as making one.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn remove_group(&self, name: &str) -> Result<bool, GroupError> {
        check_name(name)?;
        let wish = self.inner.change(|_| {
            let group = self.find_group(name);
            Ok(group.map(|group| WishEntry {
                kind: REMOVE_GROUP,
                first: group.number,
                ..bytemuck::Zeroable::zeroed()
            }))
        })?;
        Ok(wish.is_some())
    }

    /// Every group, with where it stands. Opens shards that were not open here; allocates.
    ///
    /// # Errors
    /// When a shard can't be opened now.
    pub fn groups(&self) -> Result<Vec<GroupInfo>, OpenError> {
        self.inner.check()?;
        self.inner.table()?;
        let inner = &self.inner;
        inner
            .live_groups()
            .map(|number| self.named(number).info())
            .collect()
    }

    fn find_group(&self, name: &str) -> Option<Group> {
        let inner = &self.inner;
        let named = |group: &u32| inner.words.group_name(*group) == name.as_bytes();
        let number = inner.live_groups().find(named)?;
        Some(self.named(number))
    }

    fn named(&self, number: u32) -> Group {
        let name = self.inner.words.group_name(number);
        Group {
            inner: Arc::clone(&self.inner),
            number,
            name: String::from_utf8_lossy(&name).into_owned(),
        }
    }
}

impl Group {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Becomes a worker: it is given shards by and by, while the others give up theirs. Waits for nobody;
    /// allocates.
    ///
    /// # Errors
    /// [`GroupError::TooManyWorkers`]; the stream or the group is gone.
    pub fn join(&self) -> Result<GroupWorker, GroupError> {
        self.inner.check()?;
        GroupWorker::join(self.clone())
    }

    /// Its workers, its shards, and where it stands in them. Opens shards that were not open here;
    /// allocates.
    ///
    /// # Errors
    /// When a shard can't be opened now.
    pub fn info(&self) -> Result<GroupInfo, OpenError> {
        self.inner.check()?;
        let table = self.inner.table()?;
        let finished = self.inner.finished(self.number, &table)?;
        let mut shards = Vec::new();
        for shard in &table.shards {
            if shard.state == ShardState::Retired || finished[shard.id.0 as usize] {
                continue;
            }
            let Some(channel) = self.inner.ring_if_there(shard.id.0)? else {
                continue;
            };
            let ring = &channel.inner.ring;
            let Some(position) = checkpoint(ring, self.number) else {
                continue;
            };
            let lease = Lease(place(ring, self.number).lease.load(Ordering::Acquire));
            shards.push(GroupShard {
                shard: shard.id,
                worker: self.holder(lease),
                token: lease.token(),
                checkpoint: SequenceNumber::new(shard.id.0, position),
                behind: self.inner.unread(shard.id.0, ring, position)?,
                waits_for_parents: !is_ready(shard, &finished),
            });
        }
        let workers = (0..MEMBERS).filter(|member| self.participant(*member).is_some());
        Ok(GroupInfo {
            name: self.name.clone(),
            workers: workers.count(),
            shards,
        })
    }

    fn holder(&self, lease: Lease) -> Option<ParticipantId> {
        if lease.state() != Lease::HELD {
            return None;
        }
        self.participant(usize::from(lease.owner().checked_sub(1)?))
    }

    /// Whose worker `member` is, if it lives.
    fn participant(&self, member: usize) -> Option<ParticipantId> {
        if member >= MEMBERS {
            return None;
        }
        let word = Role(
            self.inner
                .words
                .member(self.number, member)
                .load(Ordering::Acquire),
        );
        let lives = word.owner() != 0 && !self.inner.is_dead(word.owner());
        lives.then_some(ParticipantId(word.owner()))
    }
}

impl Inner {
    /// Whether a participant is proven dead. This one is not.
    pub(super) fn is_dead(&self, owner: u16) -> bool {
        owner != self.me && self.liveness.is_dead(owner)
    }

    /// Of each shard, whether a group has read it to its end, and all that it came from before. An empty
    /// one is read to its end from the beginning, but not before its parents are.
    pub(super) fn finished(&self, group: u32, table: &Table) -> Result<Vec<bool>, OpenError> {
        let mut finished = Vec::with_capacity(table.shards.len());
        for shard in &table.shards {
            let is_ready = is_ready(shard, &finished);
            finished.push(is_ready && self.has_finished(group, shard)?);
        }
        Ok(finished)
    }
}

/// Whether everything that `shard` replaced is finished. Parents have lower numbers.
pub(super) fn is_ready(shard: &ShardInfo, finished: &[bool]) -> bool {
    let is_finished = |parent: ShardId| finished.get(parent.0 as usize) == Some(&true);
    shard.lineage().all(is_finished)
}
