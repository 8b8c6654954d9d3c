//! Message groups: the hash that stands for an id.
//!
//! A group is known by the SipHash-1-3 of its id, 128 bits, under a random key of the queue: two ids
//! share one by chance once in 2^64 groups, and nobody who can't read the queue's file can make them.
//! Ids have to be short, so that hashing costs some 10 ns; the id itself travels as an attribute.

use crate::ring::delivery::link::GroupHash;
use siphasher::sip128::SipHasher13;

/// The hash of a group's id under the key of its queue.
#[inline]
pub(super) fn hash(key: &[u8; 16], group: &str) -> GroupHash {
    let hash = SipHasher13::new_with_key(key).hash(group.as_bytes());
    GroupHash(hash.h1, hash.h2)
}

/// What stands for a group in the header of a standard queue's message: never 0, and shared by other
/// groups now and then, which then count as one tenant ([`crate::ring::delivery::fair`]).
pub(super) fn tenant(key: &[u8; 16], group: &str) -> u16 {
    (hash(key, group).0 % u64::from(u16::MAX)) as u16 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_queues_hash_apart() {
        let of = |key: u8, group| hash(&[key; 16], group);
        assert_eq!(of(1, "a"), of(1, "a"));
        assert_ne!(of(1, "a"), of(1, "b"));
        assert_ne!(of(1, "a"), of(2, "a"));
    }
}
