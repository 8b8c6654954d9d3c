//! Ids that a journal keeps: read out of a table that is in use, and put into one that nobody knows yet.

use super::{Dedup, Fate, fate, load};
use crate::layout::dedup::{Entry, POSITIONS};
use crate::ring::SlotRing;
use crate::shm::dedup::ENTRIES;
use crate::sync::{Label, Ordering, fence_at};

impl Dedup {
    /// The hash of the id of the message at `position`, whose envelope names entry `number`; `None`
    /// when the entry has passed on.
    pub fn id_of(&self, number: u64, position: u64) -> Option<[u64; 2]> {
        let index = number.checked_sub(1)?;
        let (bucket, place) = (index / ENTRIES as u64, index as usize % ENTRIES);
        if bucket >= self.table.buckets() {
            return None;
        }
        let words = self.table.bucket(bucket as usize);
        let word = load(words, place);
        let names_it = matches!(word.state(), Entry::LIVE | Entry::SEALED)
            && word.position() == position & (POSITIONS - 1);
        let id = [
            words.low(place).load(Ordering::Relaxed),
            words.high(place).load(Ordering::Relaxed),
        ];
        fence_at(Label::DedupRead, Ordering::Acquire);
        let again = Entry(words.word(place).load(Ordering::Relaxed));
        let same_id = (again.0 | Entry::SEALED << 62) == (word.0 | Entry::SEALED << 62);
        (names_it && same_id).then_some(id)
    }

    /// Remembers that an id was sent, in a table that nobody else knows yet: the message at `position`
    /// had it, and until `expiry` it is not sent again. Whether there was room.
    pub fn restore(&self, id: [u64; 2], position: u64, expiry: u64) -> bool {
        let key = self.key(id[0], id[1]);
        for index in [key.buckets.0, key.buckets.1] {
            let bucket = self.table.bucket(index);
            for place in 0..ENTRIES {
                let word = bucket.word(place);
                // Relaxed, all of it: the name of the file publishes it.
                if word.load(Ordering::Relaxed) != 0 {
                    continue;
                }
                bucket.low(place).store(id[0], Ordering::Relaxed);
                bucket.high(place).store(id[1], Ordering::Relaxed);
                bucket.expiry(place).store(expiry, Ordering::Relaxed);
                let sealed = Entry::live(key.tag, position).sealed();
                word.store(sealed.0, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Shows every id that counts at `now`: its hash, the position of the message that had it, and when it
    /// ends.
    pub fn each(&self, ring: &SlotRing, now: u64, mut show: impl FnMut([u64; 2], u64, u64)) {
        for index in 0..self.table.buckets() {
            let bucket = self.table.bucket(index as usize);
            for place in 0..ENTRIES {
                let expiry = bucket.expiry(place).load(Ordering::Relaxed); // id_of tells whose
                let word = load(bucket, place);
                let is_sent = match word.state() {
                    Entry::SEALED => true,
                    Entry::LIVE => matches!(fate(ring, word.position()), Fate::Committed),
                    _ => false,
                };
                let number = index * ENTRIES as u64 + place as u64 + 1;
                if is_sent
                    && expiry > now
                    && let Some(id) = self.id_of(number, word.position())
                {
                    show(id, word.position(), expiry);
                }
            }
        }
    }
}
