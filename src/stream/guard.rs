//! The guard of a new shard: until the readers of what it replaced have joined it, nothing of it is dropped.
//!
//! A split publishes shards that no reader knows of yet. Each begins with its guard, a standing entry at its
//! first position; a producer that finds the shard full, held by nobody that it can name, takes the guard
//! away when nobody needs it any more:
//! - the guards of the parents are gone (else somebody may not have joined even those), and
//! - each participant that reads in a parent, and lives, has as many seats in the shard as there.
//!
//! A reader joins a child before it gives its seat in the parent up, so it is seen in one of the two. A
//! guard may come back by the hand of a helper that slept; the next producer that it is in the way of takes
//! it away again.

use super::Inner;
use super::lease::place;
use super::table::ShardState;
use crate::error::{OpenError, ShardId};
use crate::layout::ring::{NO_PIN, READER_RELIABLE};
use crate::layout::stream::GUARD;
use crate::layout::word::Role;
use crate::ring::SlotRing;
use crate::sync::{Label, Ordering, order};
use std::collections::HashMap;

impl Inner {
    /// Before a new shard is published.
    pub(super) fn guard(&self, shard: u32) -> Result<(), OpenError> {
        let channel = self.ring(shard)?;
        let cursor = place(&channel.inner.ring, GUARD).cursor;
        let _ = cursor.compare_exchange(
            NO_PIN,
            0,
            order(Label::CursorStore, Ordering::AcqRel),
            Ordering::Relaxed, // somebody else was faster
        );
        Ok(())
    }

    /// Takes the guard of a shard away if nobody needs it; whether it has none now.
    pub(super) fn drop_guard(&self, shard: u32) -> Result<bool, OpenError> {
        let table = self.table()?;
        let Some(known) = table.get(ShardId(shard)) else {
            return Ok(false); // not published yet
        };
        if known.state == ShardState::Retired {
            return Ok(true);
        }
        let Some(channel) = self.ring_if_there(shard)? else {
            return Ok(true);
        };
        let ring = &channel.inner.ring;
        let cursor = place(ring, GUARD).cursor;
        let guarded = cursor.load(order(Label::ScanLoad, Ordering::Acquire));
        if guarded == NO_PIN {
            return Ok(true);
        }
        for parent in known.lineage() {
            // Parents have lower numbers: this ends.
            if !self.drop_guard(parent.0)? {
                return Ok(false);
            }
            // Of one that was retired everybody has joined what replaced it: else it would be here.
            let Some(parent) = self.ring_if_there(parent.0)? else {
                continue;
            };
            // In this order: who has left the parent is in the child already.
            let in_parent = self.seats(&parent.inner.ring);
            let here = self.seats(ring);
            let has_joined =
                |(owner, count): (&u16, &usize)| here.get(owner).is_some_and(|here| here >= count);
            if !in_parent.iter().all(has_joined) {
                return Ok(false);
            }
        }
        let _ = cursor.compare_exchange(
            guarded,
            NO_PIN,
            order(Label::CursorStore, Ordering::AcqRel),
            Ordering::Relaxed, // somebody else was faster
        );
        Ok(true)
    }

    /// Seats that hold producers back, by participant. Those of the dead are freed.
    fn seats(&self, ring: &SlotRing) -> HashMap<u16, usize> {
        let mut seats = HashMap::new();
        for index in 0..ring.readers_in_use() {
            let word = ring.memory().reader(index).word;
            let word = Role(word.load(order(Label::ScanLoad, Ordering::Acquire)));
            if word.owner() != 0
                && word.state() == READER_RELIABLE
                && (word.owner() == self.me || !ring.evict_if_dead(word.owner()))
            {
                *seats.entry(word.owner()).or_default() += 1;
            }
        }
        seats
    }
}
