//! The words of a queue that is on disk for model checks: the same names, words of `loom`, one block.

use crate::sync::{AtomicU32, AtomicU64};
use std::sync::Arc;

struct Words {
    durable: AtomicU64,
    persister: AtomicU64,
    begun: AtomicU64,
    finished: AtomicU64,
    flushed: AtomicU32,
    waiting: AtomicU32,
    changed: AtomicU64,
    cursor: AtomicU64,
    /// What nothing in a model hangs on.
    plain: [core::sync::atomic::AtomicU64; 5],
}

type Plain = core::sync::atomic::AtomicU64;

/// See the module. A clone is another attachment's view of the same memory.
#[derive(Clone)]
pub struct DurableWords(Arc<Words>);

impl DurableWords {
    /// A fresh queue: nothing is on disk.
    pub fn model() -> Self {
        let word = || AtomicU64::new(0);
        Self(Arc::new(Words {
            durable: word(),
            persister: word(),
            begun: word(),
            finished: word(),
            flushed: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            changed: word(),
            cursor: word(),
            plain: core::array::from_fn(|_| Plain::new(0)),
        }))
    }
    pub fn durable(&self) -> &AtomicU64 {
        &self.0.durable
    }
    pub fn persister(&self) -> &AtomicU64 {
        &self.0.persister
    }
    pub fn cursor(&self) -> &AtomicU64 {
        &self.0.cursor
    }
    pub fn begun(&self) -> &AtomicU64 {
        &self.0.begun
    }
    pub fn finished(&self) -> &AtomicU64 {
        &self.0.finished
    }
    pub fn flushed(&self) -> &AtomicU32 {
        &self.0.flushed
    }
    pub fn waiting(&self) -> &AtomicU32 {
        &self.0.waiting
    }
    pub fn steps(&self) -> &Plain {
        &self.0.plain[0]
    }
    pub fn failed(&self) -> &Plain {
        &self.0.plain[1]
    }
    pub fn frozen(&self) -> &Plain {
        &self.0.plain[2]
    }
    pub fn flushes(&self) -> &Plain {
        &self.0.plain[3]
    }
    pub fn take_overs(&self) -> &Plain {
        &self.0.plain[4]
    }
    pub fn note_touched(&self) {}
    pub fn is_touched(&self) -> bool {
        true
    }
    pub fn changed_words(&self) -> u64 {
        1
    }
    pub fn changed(&self, _number: u64) -> &AtomicU64 {
        &self.0.changed
    }
    pub fn changed_of(&self, _index: usize) -> (&AtomicU64, u64) {
        (&self.0.changed, 1)
    }
}
