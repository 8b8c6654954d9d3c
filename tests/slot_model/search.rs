//! Breadth-first search over all states.

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// One state of a model: what may happen next, and what must not have happened.
pub trait State: Copy + Eq + Hash + Debug {
    /// Every state that is one step away.
    fn next(&self, out: &mut Vec<Self>);
    /// A promise that this state breaks.
    fn broken(&self) -> Option<&'static str>;
    /// A promise that this state breaks when nothing can happen any more.
    fn broken_at_the_end(&self) -> Option<&'static str>;
}

/// What the search found.
pub struct Found {
    pub states: usize,
    pub ends: usize,
    /// The first broken promise, on a shortest way.
    pub broken: Option<&'static str>,
}

/// Searches until a promise is broken or nothing is left.
pub fn search<S: State>(start: S) -> Found {
    let mut seen: HashSet<S, BuildHasherDefault<Mix>> = HashSet::default();
    let mut queue = VecDeque::from([start]);
    let mut next = Vec::new();
    let mut ends = 0;
    seen.insert(start);
    while let Some(state) = queue.pop_front() {
        next.clear();
        state.next(&mut next);
        let mut broken = state.broken();
        if broken.is_none() && next.iter().all(|other| *other == state) {
            ends += 1;
            broken = state.broken_at_the_end();
        }
        if broken.is_some() {
            println!("{broken:?} in {state:?}");
            return Found {
                states: seen.len(),
                ends,
                broken,
            };
        }
        queue.extend(next.iter().filter(|state| seen.insert(**state)));
    }
    Found {
        states: seen.len(),
        ends,
        broken: None,
    }
}

/// The rules hold in every state.
pub fn holds<S: State>(name: &str, start: S) {
    let found = search(start);
    println!("{name}: {} states, {} ends", found.states, found.ends);
    assert_eq!(found.broken, None, "{name}");
    assert!(found.ends > 0, "{name}: the model never comes to an end");
}

/// A rule was left out, and the search finds what that breaks.
pub fn is_found_out<S: State>(name: &str, start: S, promise: &str) {
    let found = search(start);
    println!("{name}: found behind {} states", found.states);
    assert_eq!(found.broken, Some(promise), "{name}");
}

/// Bounds of a model: the larger ones need an optimised build.
pub const fn bound(debug: u8, release: u8) -> u8 {
    if cfg!(debug_assertions) {
        debug
    } else {
        release
    }
}

/// A fast hash for small plain states: rotate, mix in, multiply.
#[derive(Default)]
pub struct Mix(u64);

impl Mix {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.add(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.add(value.into());
    }
    fn write_isize(&mut self, value: isize) {
        self.add(value as u64);
    }
    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}
