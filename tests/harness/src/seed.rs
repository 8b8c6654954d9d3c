//! Seeded randomness: one small generator, and a seed that is always printed.
//!
//! The seed comes from `RINGWAY_SEED` or from the kernel; whoever draws one prints it,
//! so that any failure can be run again. SplitMix64 (Steele, Lea, Flood 2014): every
//! seed is good, the state is one word. Not for secrets.

use std::hash::{BuildHasher, RandomState};

/// A seeded generator. Not thread-safe; clone it to fork a stream.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound` (by multiplication; the bias is below 2⁻³² for small bounds).
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below 0");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// `RINGWAY_SEED`, else a fresh seed; printed on standard error with `what` it is for.
pub fn announce(what: &str) -> u64 {
    let given = std::env::var("RINGWAY_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
    eprintln!("{what}: RINGWAY_SEED={seed}");
    seed
}
