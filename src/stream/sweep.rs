//! What a dead participant left in a stream, swept by the reaper before its number is given to another: the
//! leases of its workers, and behind them their entries in the groups; the role of the writer of a journal.
//! Claims and seats are those of rings,
//! and swept there; a change that it had begun is finished by whoever comes.

use super::file::{StreamFile, open, shard_file};
use super::lease::place_in;
use crate::channel;
use crate::error::OpenError;
use crate::layout::stream::{GROUPS, MEMBERS, SHARDS};
use crate::layout::word::{Lease, Role, Shard};
use crate::object::Site;
use crate::shm::durable::DurableWords;
use crate::sync::{Label, Ordering, order};
use std::sync::Arc;

/// Sweeps what the dead `owner` left in the stream of that file, if it is one.
///
/// # Errors
/// When something can't be opened now: the number must not be given away then.
pub(crate) fn sweep_dead(site: &Site, file_name: &str, owner: u16) -> Result<(), OpenError> {
    let site = Site {
        pre_touch: false,
        ..site.clone()
    };
    let stream = match open(&site, file_name) {
        Ok(stream) => stream,
        Err(error @ (OpenError::Io { .. } | OpenError::Permission { .. })) => return Err(error),
        // No stream, gone, or damaged for good.
        Err(_) => return Ok(()),
    };
    release_writers(&stream, &site, owner)?;
    let words = &stream.words;
    let mut dead = Vec::new();
    for group in 0..GROUPS {
        for member in 0..MEMBERS {
            let word = Role(words.member(group, member).load(Ordering::Acquire));
            if word.owner() == owner {
                dead.push((group, member, word));
            }
        }
    }
    if dead.is_empty() {
        return Ok(());
    }
    let count = words.count().load(Ordering::Acquire).min(SHARDS);
    for shard in 0..count as u32 {
        if Shard(words.shard(shard).load(Ordering::Acquire)).state() == Shard::RETIRED {
            continue;
        }
        let ring = match channel::open_ring(&site, &shard_file(stream.family, shard)) {
            Ok(ring) => ring,
            Err(error @ (OpenError::Io { .. } | OpenError::Permission { .. })) => {
                return Err(error);
            }
            Err(_) => continue, // retired meanwhile, or damaged for good
        };
        for (group, member, word) in &dead {
            let lease = place_in(&ring.memory, *group).lease;
            let held = Lease(lease.load(order(Label::RoleTake, Ordering::Acquire)));
            let is_its = held.state() == Lease::HELD
                && usize::from(held.owner()) == member + 1
                && words.member(*group, *member).load(Ordering::Acquire) == word.0;
            if is_its {
                let _ = lease.compare_exchange(
                    held.0,
                    held.given_back().0,
                    order(Label::RoleRelease, Ordering::AcqRel),
                    Ordering::Relaxed, // somebody else was faster
                );
            }
        }
    }
    for (group, member, word) in dead {
        let _ = words.member(group, member).compare_exchange(
            word.0,
            word.released().0,
            order(Label::RoleRelease, Ordering::AcqRel),
            Ordering::Relaxed,
        );
        words.changes(group).fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Lays down the roles of the dead `owner` as writer of journals: whoever is given its number next would be
/// taken for a writer that stands still.
fn release_writers(stream: &StreamFile, site: &Site, owner: u16) -> Result<(), OpenError> {
    if stream.journals.is_none() {
        return Ok(());
    }
    let release = |mapping| {
        if let Some(words) = DurableWords::without_bits(mapping) {
            words.release_writer(owner);
        }
    };
    release(Arc::clone(&stream.mapping));
    let count = stream.words.count().load(Ordering::Acquire).min(SHARDS);
    for shard in 0..count as u32 {
        if Shard(stream.words.shard(shard).load(Ordering::Acquire)).state() == Shard::RETIRED {
            continue;
        }
        match channel::open_ring(site, &shard_file(stream.family, shard)) {
            Ok(ring) => release(ring.mapping),
            Err(error @ (OpenError::Io { .. } | OpenError::Permission { .. })) => {
                return Err(error);
            }
            Err(_) => {} // retired meanwhile, or damaged for good
        }
    }
    Ok(())
}
