//! Where the id of a send goes: an entry of its two buckets that says nothing any more.
//!
//! Expired, given up and unused ones are told by a look at the entry. Where none is, the ring is asked what became
//! of the claims that the others name.

use super::{Dedup, Fate, Key, Room, fate, load};
use crate::layout::dedup::Entry;
use crate::layout::word::Ctl;
use crate::ring::SlotRing;
use crate::shm::dedup::{BucketWords, ENTRIES};
use crate::sync::{Label, Ordering, order};

/// A bucket with so many expired entries needs no look at the other.
const ENOUGH: u32 = ENTRIES as u32 / 2;

impl Dedup {
    /// An entry to take: in the first bucket while half of it has expired, then in the emptier one.
    #[inline(always)]
    pub(super) fn room(&self, ring: &SlotRing, key: &Key, now: u64) -> Option<Room> {
        let (index, mut expired) = self.emptier(key, now);
        let bucket = self.table.bucket(index);
        while expired != 0 {
            let place = expired.trailing_zeros() as usize;
            let word = load(bucket, place);
            if is_free(bucket, place, word, now) {
                bucket.prefetch_hash(place);
                return Some(Room {
                    bucket: index,
                    place,
                    word,
                });
            }
            expired &= expired - 1;
        }
        self.look_for_room(ring, key, now)
    }

    /// The first bucket while half of it has expired, else the emptier one; its expired entries.
    #[inline(always)]
    fn emptier(&self, key: &Key, now: u64) -> (usize, u32) {
        let (first, second) = key.buckets;
        let expired = self.expired_in(first, now);
        if expired.count_ones() < ENOUGH {
            let other = self.expired_in(second, now);
            if other.count_ones() > expired.count_ones() {
                return (second, other);
            }
        }
        (first, expired)
    }

    /// Asks for the line of the entry that a send of this id will likely take, once the lines of
    /// [`prefetch`](Self::prefetch) are there.
    #[inline(always)]
    pub fn prefetch_room(&self, key: &Key, now: u64) {
        let (index, expired) = self.emptier(key, now);
        let place = expired.trailing_zeros() as usize;
        self.table.bucket(index).prefetch_hash(place);
    }

    /// The entries of a bucket whose time is over, by bit; of those never used it always is. What it
    /// says of entries in the hands of a sender does not matter: their words are looked at next.
    #[inline(always)]
    fn expired_in(&self, index: usize, now: u64) -> u32 {
        let bucket = self.table.bucket(index);
        (0..ENTRIES).fold(0, |expired, place| {
            let expiry = bucket.expiry(place).load(Ordering::Relaxed);
            expired | u32::from(expiry <= now) << place
        })
    }

    /// The same by a look at every entry, given up ones and those of the dead among them.
    #[cold]
    pub(super) fn look_for_room(&self, ring: &SlotRing, key: &Key, now: u64) -> Option<Room> {
        for index in [key.buckets.0, key.buckets.1] {
            let bucket = self.table.bucket(index);
            for place in 0..ENTRIES {
                let word = load(bucket, place);
                if is_free(bucket, place, word, now) {
                    return Some(Room {
                        bucket: index,
                        place,
                        word,
                    });
                }
            }
        }
        self.room_by_fate(ring, key, now)
    }

    /// An entry whose claim came to nothing, or whose message has expired.
    #[cold]
    fn room_by_fate(&self, ring: &SlotRing, key: &Key, now: u64) -> Option<Room> {
        for index in [key.buckets.0, key.buckets.1] {
            let bucket = self.table.bucket(index);
            for place in 0..ENTRIES {
                let word = load(bucket, place);
                let expiry = bucket.expiry(place).load(Ordering::Relaxed);
                let is_free = match word.state() {
                    Entry::WRITING => !is_being_written(ring, word),
                    Entry::LIVE => match fate(ring, word.position()) {
                        Fate::Never => true,
                        Fate::Committed => expiry <= now,
                        Fate::Open(claim) => ends_with_owner(ring, word.position(), claim),
                    },
                    _ => is_free(bucket, place, word, now),
                };
                if is_free {
                    return Some(Room {
                        bucket: index,
                        place,
                        word,
                    });
                }
            }
        }
        None
    }
}

/// Whether an entry is free by a look at it alone: never used, given up, or expired.
#[inline(always)]
fn is_free(bucket: BucketWords<'_>, place: usize, word: Entry, now: u64) -> bool {
    // Relaxed: written before the word; if it is not the word's, the CAS of the word fails.
    let expiry = bucket.expiry(place).load(Ordering::Relaxed);
    word.state() == Entry::FREE || word.state() == Entry::SEALED && expiry <= now
}

/// Whether the owner of a WRITING entry may still write. Its claim was there before the entry and is
/// given up behind it, so without that claim the owner was proven dead.
#[cold]
fn is_being_written(ring: &SlotRing, entry: Entry) -> bool {
    let slot = ring.memory().slot(entry.position());
    let word = Ctl(slot.ctl().load(order(Label::ClaimLoad, Ordering::Acquire)));
    let lap = ring.memory().geometry().lap_of(entry.position());
    let is_claimed = match word.state() {
        Ctl::CLAIMED => word.lap() == lap,
        Ctl::HELD => word.lap() >= lap,
        _ => false,
    };
    is_claimed
        && word.owner() == entry.owner()
        && !ends_with_owner(ring, entry.position(), word)
}

/// Voids a claim whose owner is proven dead. Whether that was so.
fn ends_with_owner(ring: &SlotRing, position: u64, claim: Ctl) -> bool {
    ring.is_dead(claim.owner()) && ring.void_dead(ring.memory().slot(position), claim)
}
