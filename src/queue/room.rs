//! Room for what is sent: what the queue may hold, the next ring, the disk, the pool.
//!
//! A limit refuses; everything else is gone on for as far as it goes: a full ring to the next one ([`super::grow`]),
//! a claim that waits for the disk to a flush, an empty pool to another segment or to what the dead left. Only then a
//! send is told that there is none. Cold: no send comes here that finds a slot.

use super::chain::Link;
use super::grow::{Full, NoGrowth};
use super::persist::{Goal, Journal, NotOnDisk};
use super::{Inner, QueueSender};
use crate::ParticipantId;
use crate::error::QueueSendError;
use crate::layout::durable::POSITIONS;
use crate::object::loan::Loan;
use crate::pool::lend::Lent;
use crate::pool::segment::GrowFailure;
use crate::ring::claim::{Appender, Blocked};
use crate::ring::delivery::sweep::Census;
use crate::sync::Ordering;

/// Refusals between two looks at the file system: a full queue is polled, and each look is two
/// system calls.
const CHECK_LINK_EVERY: u32 = 1024;

impl QueueSender {
    /// Before a claim: whether the queue may hold one more message.
    #[inline(always)]
    pub(super) fn check_limit(&mut self) -> Result<(), QueueSendError> {
        if let Some(journal) = &self.inner.journal
            && journal.most_bytes != 0
        {
            self.check_disk_quota(journal)?;
        }
        let limit = self.delivery.max_messages();
        if limit != 0 {
            let now = self.clock.now_ms();
            if !self.share.take(&self.inner, limit, now, Census::messages) {
                return Err(QueueSendError::OverQuota { limit });
            }
        }
        Ok(())
    }

    /// Whether the journal may take more. Where it may not, segments in which nothing is left are given
    /// back first.
    #[cold]
    fn check_disk_quota(&self, journal: &Journal) -> Result<(), QueueSendError> {
        let (Some(words), quota) = (self.delivery.durable(), journal.most_bytes) else {
            return Ok(());
        };
        let bytes = || words.journal_bytes().load(Ordering::Relaxed);
        if bytes() < quota {
            return Ok(());
        }
        words.look_again().store(1, Ordering::Relaxed);
        let _ = self.inner.reach_consumed(); // a disk that refuses says so below
        match bytes() {
            bytes if bytes >= quota => Err(QueueSendError::OverDiskQuota { bytes, quota }),
            _ => Ok(()),
        }
    }

    /// The ring takes nothing now: on to the next one, which somebody has made or this sender makes,
    /// or why there is none. Blocks for as long as it takes to make a file.
    #[cold]
    pub(super) fn go_on(&mut self, blocked: Blocked) -> Result<(), QueueSendError> {
        if !self.inner.host.is_current() {
            return Err(QueueSendError::Stale);
        }
        if self.delivery.durable().is_some() && self.make_room_on_disk()? {
            return Ok(());
        }
        let by = match blocked {
            Blocked::Full { by } => by,
            Blocked::Sealed if self.inner.may_grow() => 0,
            // A queue that can't grow is never sealed.
            Blocked::Sealed | Blocked::Corrupt => {
                return Err(QueueSendError::Corrupt {
                    position: self.appender.next(),
                });
            }
        };
        let full = self.full(blocked == Blocked::Sealed);
        let refused = match self.inner.next_ring(&full) {
            Ok(link) => {
                if self.inner.definition.spill && self.number > 0 {
                    self.delivery.ring().memory().release_pages();
                }
                self.appender = appender(&self.inner, &link);
                self.delivery = link.delivery.clone();
                self.number = link.number;
                return Ok(());
            }
            Err(refused) => refused,
        };
        self.refusals = self.refusals.wrapping_add(1);
        if self.refusals.is_multiple_of(CHECK_LINK_EVERY) && self.inner.is_unlinked() {
            return Err(QueueSendError::Unlinked);
        }
        if self.inner.is_removed() {
            return Err(QueueSendError::Removed);
        }
        // What is in flight may fill more than half of the ring, if need be.
        if self.appender.is_impatient() {
            self.appender.set_patience(u64::MAX);
            return Ok(());
        }
        self.distance.at_end(self.appender.next());
        Err(match refused {
            NoGrowth::Quota => QueueSendError::Full {
                capacity: self.inner.capacity(),
                by: (by != 0).then_some(ParticipantId(by)),
            },
            NoGrowth::NoSpace { needed, available } => {
                QueueSendError::NoSpace { needed, available }
            }
            NoGrowth::Failed(why) => QueueSendError::Growth(why),
        })
    }

    /// A claim waits for the disk where what stood in its slot a lap ago is not there yet, or where there
    /// is no segment. Whether it did, and may be tried again.
    fn make_room_on_disk(&self) -> Result<bool, QueueSendError> {
        if self.delivery.is_frozen() {
            let thawed = self.inner.reach(Goal::Thawed);
            thawed.map_err(|why| QueueSendError::NotOnDisk {
                why: match why {
                    NotOnDisk::Journal(error) => error.to_string(),
                    other => other.to_string(),
                },
            })?;
            return Ok(true);
        }
        let next = self.appender.next();
        if next < self.delivery.claimable_below() || next + 1 >= POSITIONS {
            return Ok(false);
        }
        // Everything that was committed, so that the wait is one for many; in a ring that the journal does not
        // know, nothing was.
        let first = self.delivery.ring().memory().geometry().first_position();
        let is_known = self.delivery.on_disk_below() >= first;
        let last = if is_known { next } else { first }.saturating_sub(1);
        let reached = self.inner.reach(Goal::Position(last));
        reached.map_err(|why| QueueSendError::NotOnDisk {
            why: why.to_string(),
        })?;
        Ok(true)
    }

    /// A chunk: from the cache, from the shared words, from a new segment.
    fn lend(&mut self, len: usize) -> Result<Lent, QueueSendError> {
        let mut has_reaped = false;
        loop {
            if let Some(lent) = self.lender.cached(len) {
                return Ok(lent);
            }
            if self.lender.refill(len) {
                continue;
            }
            match self.lender.grow(len) {
                Ok(()) => {}
                // The dead may sit on chunks.
                Err(GrowFailure::Quota { .. } | GrowFailure::NoSpace(_)) if !has_reaped => {
                    has_reaped = true;
                    self.inner.host.reap_now();
                }
                Err(GrowFailure::Quota { used, quota }) => {
                    return Err(QueueSendError::PoolExhausted {
                        needed: len as u64,
                        used,
                        quota,
                    });
                }
                Err(GrowFailure::NoSpace(room)) => {
                    return Err(QueueSendError::NoSpace {
                        needed: room.needed,
                        available: room.available,
                    });
                }
                Err(GrowFailure::Damaged(path)) => {
                    return Err(QueueSendError::Pool(format!(
                        "{} is damaged",
                        path.display()
                    )));
                }
                Err(GrowFailure::Io(error)) => {
                    return Err(QueueSendError::Pool(error.to_string()));
                }
            }
        }
    }

    pub(super) fn lend_unchecked(&mut self, len: usize) -> Result<Loan, QueueSendError> {
        let lent = self.lend(len)?;
        let data = self
            .lender
            .data(lent)
            .ok_or_else(|| QueueSendError::Pool("segment lost".into()))?;
        Ok(self.loans.make(lent, len, data))
    }

    #[cold]
    pub(super) fn prepare_next_ring(&self) {
        if self.inner.may_grow() {
            self.inner.prepare(&self.full(false));
        }
    }

    /// The ring it sends to.
    fn full(&self, is_sealed: bool) -> Full<'_> {
        Full {
            number: self.number,
            delivery: &self.delivery,
            appender: &self.appender,
            is_sealed,
        }
    }
}

/// Of the ring `link`. Where there can be another ring, half of this one in flight is enough.
pub(super) fn appender(inner: &Inner, link: &Link) -> Appender {
    let ring = link.delivery.ring();
    let mut appender = Appender::new(ring);
    if inner.may_grow() {
        appender.set_patience(ring.memory().geometry().slots() / 2);
    }
    if link.delivery.durable().is_some() {
        appender.ask_each_time();
    }
    if link.number > 0 && inner.site.pre_touch {
        appender.touch_ahead(ring);
    }
    appender
}
