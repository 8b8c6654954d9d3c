//! Registered consumers (enhanced fan-out): readers with a name, cursors of their own, and a say in what
//! happens when they fall behind.
//!
//! ```text
//! word     0 → LIVE(1) → REMOVED(2) → LIVE(3) …   by a change of the stream; a place is only given again
//!                                                  to a consumer of the same name
//! policy   version of the word << 8 | policy       rises only
//! member   who has subscribed: a role word         taken by CAS, from nobody, the dead, or a displaced one
//! ```
//! # What each crash point leaves
//! - a change that stopped half-way: anybody goes on with it ([`super::change`]).
//! - a subscriber that dies: seats, which hold puts back until its death is found by the first put that they
//!   are in the way of, and a member word that the reaper or the next subscriber passes over.
//!
//! Counts are derived from nothing and guard nothing.

use super::group::is_name;
use super::number::SequenceNumber;
use super::subscription::ConsumerSubscription;
use super::table::ShardState;
use super::words::{ConsumerWord, StreamWords};
use super::{Backpressure, Inner, Stream, StreamIterator, lag};
use crate::ParticipantId;
use crate::error::{ConsumerError, OpenError};
use crate::layout::ring::NO_PIN;
use crate::layout::stream::{
    ADD_CONSUMER, CONSUMER_BLOCKS, CONSUMER_DROPS, CONSUMER_EVICTS, CONSUMER_FAILS, CONSUMER_LIVE,
    GROUP_REMOVED, GROUPS, REMOVE_CONSUMER, WishEntry,
};
use crate::layout::word::Role;
use crate::sync::Ordering;
use crate::sys::clock;
use std::sync::Arc;

/// Most consumers of a stream at a time, as in Kinesis.
pub(super) const CONSUMERS: usize = 20;

/// What happens when a registered consumer falls behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsumerPolicy {
    /// Puts wait for it as long as those of the stream wait.
    #[default]
    Block,
    /// Puts fail at once.
    Fail,
    /// Nobody waits for it: it is given a gap marker in the place of what it missed.
    DropOldest,
    /// Nobody waits for it: it loses its subscription.
    Evict,
}

impl ConsumerPolicy {
    /// Whether its cursors hold puts back.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Block | Self::Fail)
    }

    fn code(self) -> u64 {
        match self {
            Self::Block => CONSUMER_BLOCKS,
            Self::Fail => CONSUMER_FAILS,
            Self::DropOldest => CONSUMER_DROPS,
            Self::Evict => CONSUMER_EVICTS,
        }
    }

    /// Of a policy word. One that a peer scribbled holds nobody back.
    fn of(word: u64) -> Self {
        match word & 0xff {
            CONSUMER_BLOCKS => Self::Block,
            CONSUMER_FAILS => Self::Fail,
            CONSUMER_EVICTS => Self::Evict,
            _ => Self::DropOldest,
        }
    }
}

/// A registered consumer of a stream, open in this process. Cheap to clone; thread-safe. In a forked child
/// every call returns `Forked`.
#[derive(Clone)]
pub struct Consumer {
    pub(super) inner: Arc<Inner>,
    pub(super) place: u32,
    /// Its word: of this registration.
    pub(super) word: Role,
    name: String,
    policy: ConsumerPolicy,
}

/// What anyone may know about a registered consumer (`DescribeStreamConsumer`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// What happens when it falls behind.
    pub policy: ConsumerPolicy,
    /// When it was registered, Unix time in ms.
    pub registered_ms: u64,
    /// Who has subscribed, and lives.
    pub subscriber: Option<ParticipantId>,
    /// Positions between where its subscriber is and what is put now, in the shards that that one reads; 0
    /// without one.
    pub behind: u64,
    /// Records that were handed out.
    pub records: u64,
    /// Bytes of keys and data that were handed out.
    pub bytes: u64,
    /// Gaps that it was told of.
    pub gaps: u64,
    /// Positions in them.
    pub lost: u64,
    /// Puts that waited for it.
    pub waits: u64,
    /// Puts that failed because of it.
    pub refusals: u64,
    /// Times that it lost its subscription by falling behind.
    pub evictions: u64,
    /// Subscriptions that were begun.
    pub subscriptions: u64,
}

/// What readers of a consumer note beside their seats.
pub(super) fn note_of(place: u32) -> u8 {
    place as u8 + 1 // below GROUPS
}

fn check_name(name: &str) -> Result<(), ConsumerError> {
    is_name(name).map_err(|name| ConsumerError::InvalidName { name })
}

impl Stream {
    /// Registers a consumer (`RegisterStreamConsumer`): at most 20 at a time. It holds nobody back before
    /// it has subscribed. A change: it goes on with one that is under way first, makes system calls, and
    /// blocks for the disk where the stream is on one.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = std::env::temp_dir().join(format!("ringway-doc-consumer-{}", std::process::id()));
    /// # std::fs::create_dir_all(&root)?;
    /// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
    /// use ringway::{ConsumerEvent, ConsumerPolicy, StreamIterator};
    /// use std::time::Duration;
    /// let trucks = bus.stream("trucks").open_or_create()?;
    /// let billing = trucks.register_consumer("billing", ConsumerPolicy::DropOldest)?;
    /// let mut subscription = billing.subscribe(StreamIterator::TrimHorizon)?;
    /// trucks.producer()?.put("truck-7", b"52.5,13.4")?;
    /// subscription.read_batch(100, Duration::from_secs(1), |event| match event {
    ///     ConsumerEvent::Record(record) => assert_eq!(record.key(), "truck-7"),
    ///     ConsumerEvent::Gap { shard, lost, .. } => panic!("{lost} positions of {shard} were missed"),
    /// })?;
    /// assert_eq!(billing.info()?.records, 1);
    /// # drop((subscription, billing, trucks, bus));
    /// # std::fs::remove_dir_all(&root)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub fn register_consumer(
        &self,
        name: &str,
        policy: ConsumerPolicy,
    ) -> Result<Consumer, ConsumerError> {
        check_name(name)?;
        let inner = &self.inner;
        if policy.holds() && inner.definition.backpressure == Backpressure::DropOldest {
            return Err(ConsumerError::DropsOldest);
        }
        let mut refused = None;
        let wish = inner.change(|_| {
            refused = None;
            let place = match inner.place_for(name) {
                Ok(place) => place,
                Err(error) => {
                    refused = Some(error);
                    return Ok(None);
                }
            };
            let mut wish = WishEntry {
                kind: ADD_CONSUMER,
                first: place,
                latest: policy.code() as u32,
                at: [inner.words.group(place).load(Ordering::Acquire), 0],
                created_ms: clock::unix_ms(),
                name_bytes: name.len() as u64,
                ..bytemuck::Zeroable::zeroed()
            };
            wish.name[..name.len()].copy_from_slice(name.as_bytes());
            Ok(Some(wish))
        })?;
        match (wish, refused) {
            (Some(wish), _) => inner
                .consumer_at(wish.first)
                .ok_or(ConsumerError::Displaced),
            (None, Some(error)) => Err(error),
            (None, None) => Err(ConsumerError::Displaced),
        }
    }

    /// The registered consumer of that name.
    ///
    /// # Errors
    /// [`ConsumerError::NoConsumer`]; the stream is gone.
    pub fn consumer(&self, name: &str) -> Result<Consumer, ConsumerError> {
        check_name(name)?;
        self.inner.check()?;
        self.inner.table()?; // behind a change that somebody began
        let mut live = self.inner.live_consumers();
        live.find(|consumer| consumer.name == name)
            .ok_or_else(|| ConsumerError::NoConsumer {
                name: name.to_owned(),
            })
    }

    /// Deregisters a consumer (`DeregisterStreamConsumer`): its subscriber is told, and it holds nobody back
    /// from the subscriber's next call on. Whether there was one. A change, as
    /// [`register_consumer`](Self::register_consumer).
    ///
    /// # Errors
    /// [`ConsumerError`].
    pub fn deregister_consumer(&self, name: &str) -> Result<bool, ConsumerError> {
        check_name(name)?;
        let wish = self.inner.change(|_| {
            let mut live = self.inner.live_consumers();
            let consumer = live.find(|consumer| consumer.name == name);
            Ok(consumer.map(|consumer| WishEntry {
                kind: REMOVE_CONSUMER,
                first: consumer.place,
                at: [consumer.word.0, 0],
                ..bytemuck::Zeroable::zeroed()
            }))
        })?;
        Ok(wish.is_some())
    }

    /// Every registered consumer (`ListStreamConsumers`). Opens shards that were not open here; allocates.
    ///
    /// # Errors
    /// When a shard can't be opened now.
    pub fn consumers(&self) -> Result<Vec<ConsumerInfo>, ConsumerError> {
        Ok(self.look_at_consumers()?)
    }

    pub(crate) fn look_at_consumers(&self) -> Result<Vec<ConsumerInfo>, OpenError> {
        self.inner.check()?;
        self.inner.table()?;
        let live: Vec<Consumer> = self.inner.live_consumers().collect();
        live.iter().map(Consumer::look).collect()
    }
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What happens when it falls behind.
    pub fn policy(&self) -> ConsumerPolicy {
        self.policy
    }

    /// Subscribes (`SubscribeToShard`, to all shards, and to what replaces them): from then on everything
    /// from `iterator` on is pushed to the subscription. A consumer has one subscriber at a time.
    ///
    /// # Errors
    /// [`ConsumerError::Busy`] while another subscriber lives; as for any reader.
    pub fn subscribe(
        &self,
        iterator: StreamIterator,
    ) -> Result<ConsumerSubscription, ConsumerError> {
        ConsumerSubscription::begin(self.clone(), iterator, false)
    }

    /// The same, in the place of a subscriber that lives: that one is told
    /// ([`ConsumerError::Displaced`]) by its next call.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe), but for `Busy`.
    pub fn take_over(
        &self,
        iterator: StreamIterator,
    ) -> Result<ConsumerSubscription, ConsumerError> {
        ConsumerSubscription::begin(self.clone(), iterator, true)
    }

    /// Its subscriber, its counts, and how far it is behind. Opens shards that were not open here;
    /// allocates.
    ///
    /// # Errors
    /// When a shard can't be opened now.
    pub fn info(&self) -> Result<ConsumerInfo, ConsumerError> {
        Ok(self.look()?)
    }

    fn look(&self) -> Result<ConsumerInfo, OpenError> {
        self.inner.check()?;
        let member = Role(self.member().load(Ordering::Acquire));
        let mut behind = 0;
        for shard in &self.inner.table()?.shards {
            if shard.state == ShardState::Retired {
                continue;
            }
            if let Some(channel) = self.inner.ring_if_there(shard.id.0)? {
                let ring = &channel.inner.ring;
                if self.inner.is_on_disk() {
                    if let Some(at) = lag::said(ring, self.place, member) {
                        behind += self.inner.unread(shard.id.0, ring, at)?;
                    }
                    continue;
                }
                let end = super::lease::end(ring);
                let cursors = ring.noted_cursors(note_of(self.place));
                behind += cursors
                    .filter(|cursor| *cursor != NO_PIN)
                    .map(|cursor| end.saturating_sub(cursor))
                    .sum::<u64>();
            }
        }
        let lives = member.owner() != 0 && !self.inner.is_dead(member.owner());
        let count = |field| self.count(field).load(Ordering::Relaxed);
        Ok(ConsumerInfo {
            name: self.name.clone(),
            policy: self.policy,
            registered_ms: count(ConsumerWord::RegisteredMs),
            subscriber: lives.then_some(ParticipantId(member.owner())),
            behind,
            records: count(ConsumerWord::Records),
            bytes: count(ConsumerWord::Bytes),
            gaps: count(ConsumerWord::Gaps),
            lost: count(ConsumerWord::Lost),
            waits: count(ConsumerWord::Waits),
            refusals: count(ConsumerWord::Refusals),
            evictions: count(ConsumerWord::Evictions),
            subscriptions: count(ConsumerWord::Subscriptions),
        })
    }

    pub(super) fn member(&self) -> &crate::sync::AtomicU64 {
        self.inner.words.member(self.place, 0)
    }

    pub(super) fn count(&self, field: ConsumerWord) -> &crate::sync::AtomicU64 {
        self.inner.words.consumer(self.place, field)
    }

    /// Whether it is registered, and was all the time.
    pub(super) fn is_registered(&self) -> bool {
        self.inner.words.group(self.place).load(Ordering::Acquire) == self.word.0
    }

    pub(super) fn number(shard: crate::error::ShardId, position: u64) -> SequenceNumber {
        SequenceNumber::new(shard.0, position)
    }
}

/// The registered consumer whose cursor a put has come round to.
pub(super) struct Holder {
    pub name: String,
    place: u32,
    policy: ConsumerPolicy,
}

impl Holder {
    pub fn may_wait(&self) -> bool {
        self.policy != ConsumerPolicy::Fail
    }

    pub fn count(&self, words: &StreamWords, field: ConsumerWord) {
        words
            .consumer(self.place, field)
            .fetch_add(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn consumer_at(self: &Arc<Self>, place: u32) -> Option<Consumer> {
        let word = Role(self.words.group(place).load(Ordering::Acquire));
        if word.state() != CONSUMER_LIVE {
            return None;
        }
        let name = self.words.group_name(place);
        let policy = self.words.consumer(place, ConsumerWord::Policy);
        Some(Consumer {
            inner: Arc::clone(self),
            place,
            word,
            name: String::from_utf8_lossy(&name).into_owned(),
            policy: ConsumerPolicy::of(policy.load(Ordering::Relaxed)),
        })
    }

    fn live_consumers(self: &Arc<Self>) -> impl Iterator<Item = Consumer> + '_ {
        (0..GROUPS).filter_map(|place| self.consumer_at(place))
    }

    /// The consumer that holds a full shard back, if one does.
    pub(super) fn holder(self: &Arc<Self>, shard: u32) -> Option<Holder> {
        let channel = self.ring_if_there(shard).ok()??;
        let place = u32::from(channel.inner.ring.lowest_note().checked_sub(1)?);
        let consumer = (place < GROUPS).then(|| self.consumer_at(place))??;
        Some(Holder {
            name: consumer.name,
            place,
            policy: consumer.policy,
        })
    }

    /// Where a consumer of that name goes: where one of its name was, else where nothing was.
    fn place_for(self: &Arc<Self>, name: &str) -> Result<u32, ConsumerError> {
        let mut live = 0;
        let mut place = None;
        for at in 0..GROUPS {
            let word = Role(self.words.group(at).load(Ordering::Acquire));
            let was_consumer = self
                .words
                .consumer(at, ConsumerWord::Policy)
                .load(Ordering::Relaxed)
                != 0;
            let is_named = was_consumer && self.words.group_name(at) == name.as_bytes();
            match word.state() {
                CONSUMER_LIVE if is_named => {
                    let name = name.to_owned();
                    return Err(ConsumerError::AlreadyRegistered { name });
                }
                CONSUMER_LIVE => live += 1,
                GROUP_REMOVED if is_named => place = Some(at),
                _ if word.0 == 0 => place = place.or(Some(at)),
                _ => {}
            }
        }
        if live >= CONSUMERS {
            return Err(ConsumerError::TooManyConsumers { limit: CONSUMERS });
        }
        place.ok_or(ConsumerError::NoPlace { limit: GROUPS })
    }

    /// A step of a change: the same whoever does it, and however late. The name of a place stays what it
    /// is, the policy goes by the version of the word, and that is swapped from what the wish was made for.
    pub(super) fn change_consumer(&self, wish: &WishEntry) -> Result<(), OpenError> {
        let before = Role(wish.at[0]);
        let version = before.version() + 1;
        let after = if wish.kind == ADD_CONSUMER {
            self.words
                .set_group_name(wish.first, wish.name_bytes.min(128), &wish.name);
            let policy = version << 8 | u64::from(wish.latest) & 0xff;
            let word = self.words.consumer(wish.first, ConsumerWord::Policy);
            word.fetch_max(policy, Ordering::Relaxed);
            let registered = self.words.consumer(wish.first, ConsumerWord::RegisteredMs);
            registered.fetch_max(wish.created_ms, Ordering::Relaxed);
            Role::new(CONSUMER_LIVE, 0, version)
        } else {
            Role::new(GROUP_REMOVED, 0, version)
        };
        let _ = self.words.group(wish.first).compare_exchange(
            before.0,
            after.0,
            Ordering::AcqRel,
            Ordering::Relaxed, // somebody else was faster
        );
        Ok(())
    }
}
