//! Partition keys, hash keys, ranges: where a record belongs, exactly as in Kinesis.
//!
//! A partition key is hashed by MD5 to a number of 128 bits (the digest, read big-endian); the shard
//! whose range holds the number takes the record. Pure functions.
//!
//! Source: "Amazon Kinesis Data Streams Terminology and Concepts", partition key; "CreateStream": the
//! ranges of n shards have ⌊2^128 / n⌋ keys each, the last one what is left.

use md5::{Digest, Md5};

/// Fewest and most characters of a partition key.
pub const KEY_CHARS: core::ops::RangeInclusive<usize> = 1..=256;

/// The hash key of a partition key. Allocates nothing.
///
/// ```
/// assert_eq!(ringway::hash_key_of("a") >> 120, 0x0c); // md5("a") = 0cc175b9…
/// ```
pub fn hash_key_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// Keys whose places are remembered, a power of two: as many trucks as one producer speaks for.
const REMEMBERED: usize = 256;
/// Bytes at either end of a key by which it is looked for, and compared at once.
const END: usize = 8;
/// Bytes between its ends of the longest key that is remembered: with them an entry is a cache line.
const BETWEEN: usize = 27;
/// No shard.
const UNKNOWN: u32 = u32::MAX;

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Known {
    hash_key: u128,
    ends: Ends,
    /// Where it was routed to last.
    shard: u32,
    len: u8,
    between: [u8; BETWEEN],
}

const _: () = assert!(size_of::<Known>() == 64);

/// The first and the last bytes of a key. Up to twice as many they and its length are the key.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    first: u64,
    last: u64,
}

impl Ends {
    #[inline(always)]
    fn of(key: &[u8]) -> Self {
        if let (Some(first), Some(last)) = (key.first_chunk::<END>(), key.last_chunk::<END>()) {
            return Self {
                first: u64::from_le_bytes(*first),
                last: u64::from_le_bytes(*last),
            };
        }
        if let (Some(first), Some(last)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
            return Self {
                first: u32::from_le_bytes(*first).into(),
                last: u32::from_le_bytes(*last).into(),
            };
        }
        let at = |index| u64::from(key.get(index).copied().unwrap_or(0));
        Self {
            first: at(0),
            last: at(1) << 8 | at(2),
        }
    }

    /// Where a key with these is remembered.
    #[inline(always)]
    fn place(self, len: usize) -> usize {
        let mixed = (self.last ^ self.first.rotate_left(29))
            .wrapping_add(len as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as usize % REMEMBERED
    }
}

/// Where keys belong that one producer has needed: MD5 takes several times as long as the rest of a put.
/// Private to its process, so what it says is what it was told.
pub(super) struct Hashes(Box<[Known; REMEMBERED]>);

impl Default for Hashes {
    fn default() -> Self {
        let empty = Known {
            hash_key: 0,
            ends: Ends { first: 0, last: 0 },
            shard: UNKNOWN,
            len: 0, // no key is empty
            between: [0; BETWEEN],
        };
        Self(Box::new([empty; REMEMBERED]))
    }
}

impl Hashes {
    /// As [`hash_key_of`].
    #[inline(always)]
    pub fn hash_key_of(&mut self, key: &str) -> u128 {
        match self.find(key.as_bytes()) {
            Ok(known) => known.hash_key,
            Err(_) => self.hash(key),
        }
    }

    /// The shard that the key was routed to last, if it is remembered. It may be closed by now: then nobody
    /// has a producer of it, and its number is given to no other.
    #[inline(always)]
    pub fn shard_of(&self, key: &str) -> Option<u32> {
        let known = self.find(key.as_bytes()).ok()?;
        (known.shard != UNKNOWN).then_some(known.shard)
    }

    /// Remembers where a key is routed to whose hash key is remembered.
    pub fn route(&mut self, key: &str, shard: u32) {
        let place = Ends::of(key.as_bytes()).place(key.len());
        if self.find(key.as_bytes()).is_ok() {
            self.0[place].shard = shard;
        }
    }

    /// What is remembered of a key, or where it would be.
    #[inline(always)]
    fn find(&self, key: &[u8]) -> Result<&Known, usize> {
        let ends = Ends::of(key);
        let place = ends.place(key.len());
        let known = &self.0[place];
        let is_it = known.ends == ends
            && usize::from(known.len) == key.len()
            && (key.len() <= 2 * END || between(key) == &known.between[..key.len() - 2 * END]);
        match is_it {
            true => Ok(known),
            false => Err(place),
        }
    }

    #[cold]
    #[inline(never)]
    fn hash(&mut self, key: &str) -> u128 {
        let hash_key = hash_key_of(key);
        let bytes = key.as_bytes();
        let ends = Ends::of(bytes);
        let middle = between(bytes);
        if middle.len() <= BETWEEN {
            let known = &mut self.0[ends.place(bytes.len())];
            (known.hash_key, known.ends, known.shard) = (hash_key, ends, UNKNOWN);
            known.len = bytes.len() as u8;
            known.between[..middle.len()].copy_from_slice(middle);
        }
        hash_key
    }
}

/// The bytes of a key between its ends.
#[inline(always)]
fn between(key: &[u8]) -> &[u8] {
    match key.len() > 2 * END {
        true => &key[END..key.len() - END],
        false => &[],
    }
}

/// Where shard `index` of `shards` with uniform ranges begins.
pub fn uniform_start(index: u32, shards: u32) -> u128 {
    // ⌊2^128 / n⌋: 2^128 itself has no room. Only powers of two divide it.
    let width = u128::MAX / u128::from(shards) + u128::from(shards.is_power_of_two());
    width.wrapping_mul(u128::from(index)) // one shard: its width is 2^128, its start 0
}

/// Where it ends, its last key included.
pub fn uniform_end(index: u32, shards: u32) -> u128 {
    if index + 1 == shards {
        return u128::MAX;
    }
    uniform_start(index + 1, shards) - 1
}

/// Whether a partition key has the length that one may have.
pub fn is_partition_key(key: &str) -> bool {
    // Bytes first: most keys are short, and need no count.
    !key.is_empty() && (key.len() <= *KEY_CHARS.end() || key.chars().count() <= *KEY_CHARS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_ranges_are_those_of_kinesis() {
        // As DescribeStream shows them for streams of 1, 2, 3 and 5 shards.
        assert_eq!((uniform_start(0, 1), uniform_end(0, 1)), (0, u128::MAX));
        let half = 170_141_183_460_469_231_731_687_303_715_884_105_728;
        assert_eq!((uniform_end(0, 2), uniform_start(1, 2)), (half - 1, half));
        let third = 113_427_455_640_312_821_154_458_202_477_256_070_485;
        assert_eq!((uniform_end(0, 3), uniform_start(1, 3)), (third - 1, third));
        assert_eq!(
            uniform_start(2, 3),
            226_854_911_280_625_642_308_916_404_954_512_140_970
        );
        let fifth = 68_056_473_384_187_692_692_674_921_486_353_642_291;
        assert_eq!((uniform_end(0, 5), uniform_start(1, 5)), (fifth - 1, fifth));
        assert_eq!(uniform_end(4, 5), u128::MAX);
    }

    #[test]
    fn a_remembered_hash_key_is_that_of_its_key() {
        let mut hashes = Hashes::default();
        let mut keys: Vec<String> = (0..1000).map(|n| format!("truck-{n}")).collect();
        keys.extend((1..=256).map(|len| "x".repeat(len)));
        keys.extend(["a", "ba", "b"].map(str::to_owned));
        for round in 0..3 {
            for (number, key) in (0..).zip(&keys) {
                let before = hashes.shard_of(key);
                assert!(
                    before.is_none_or(|shard| round > 0 && shard == number),
                    "{key}"
                );
                assert_eq!(hashes.hash_key_of(key), hash_key_of(key), "{key}");
                hashes.route(key, number);
                let short = key.len() <= 2 * END + BETWEEN;
                assert_eq!(hashes.shard_of(key), short.then_some(number), "{key}");
            }
        }
    }

    #[test]
    fn keys_that_differ_in_one_byte_are_told_apart() {
        let mut hashes = Hashes::default();
        for len in 1..=2 * END + BETWEEN {
            let key = vec![b'k'; len];
            for at in 0..len {
                let mut other = key.clone();
                other[at] = b'j';
                for key in [&key, &other] {
                    let key = core::str::from_utf8(key).unwrap();
                    assert_eq!(hashes.hash_key_of(key), hash_key_of(key), "{len} {at}");
                }
            }
        }
    }

    #[test]
    fn hash_keys_are_the_md5_of_partition_keys() {
        // RFC 1321, appendix A.5.
        for (key, digest) in [
            ("a", 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661),
            ("abc", 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72),
            ("message digest", 0xf96b_697d_7cb7_938d_525a_2f31_aaf1_61d0),
        ] {
            assert_eq!(hash_key_of(key), digest, "{key}");
        }
    }
}
