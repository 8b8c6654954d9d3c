//! The words of a queue for model checks: the same names, words of `loom`, one block in one group, two
//! hints, and one window of two words.

use crate::layout::queue::NEVER;
use crate::sync::AtomicU64;
use std::sync::Arc;

struct Words {
    receive: AtomicU64,
    sweep: AtomicU64,
    swept: AtomicU64,
    due: AtomicU64,
    group: AtomicU64,
    block: AtomicU64,
    holders: AtomicU64,
    views: AtomicU64,
    pins: [AtomicU64; 2],
    settings: Settings,
    link: AtomicU64,
    hints_taken: AtomicU64,
    hints_given: AtomicU64,
    hints: [AtomicU64; 2],
    window: [AtomicU64; 2],
    is_fifo: bool,
}

/// Nobody changes a setting in a model, so these are no words of `loom`.
struct Settings {
    retention: Plain,
    visibility: Plain,
    delay: Plain,
    max_message: Plain,
    redeliver: Plain,
    receive_wait: Plain,
    max_receives: Plain,
    redrive_target: Plain,
    route: Plain,
    max_messages: Plain,
    max_in_flight: Plain,
    open: Plain,
}

type Plain = core::sync::atomic::AtomicU64;

/// See the module. A clone is another attachment's view of the same memory.
#[derive(Clone)]
pub struct QueueWords(Arc<Words>);

impl QueueWords {
    /// A fresh queue.
    pub fn model() -> Self {
        Self::of_kind(false)
    }

    /// A fresh FIFO queue.
    pub fn model_fifo() -> Self {
        Self::of_kind(true)
    }

    fn of_kind(is_fifo: bool) -> Self {
        Self(Arc::new(Words {
            is_fifo,
            receive: AtomicU64::new(0),
            sweep: AtomicU64::new(0),
            swept: AtomicU64::new(0),
            due: AtomicU64::new(NEVER),
            group: AtomicU64::new(NEVER),
            block: AtomicU64::new(NEVER),
            holders: AtomicU64::new(0),
            views: AtomicU64::new(0),
            pins: core::array::from_fn(|_| AtomicU64::new(0)),
            settings: Settings {
                retention: Plain::new(1_000_000),
                visibility: Plain::new(30_000),
                delay: Plain::new(0),
                max_message: Plain::new(8),
                redeliver: Plain::new(1),
                receive_wait: Plain::new(0),
                max_receives: Plain::new(0),
                redrive_target: Plain::new(0),
                route: Plain::new(1),
                max_messages: Plain::new(0),
                max_in_flight: Plain::new(0),
                open: Plain::new(0),
            },
            link: AtomicU64::new(0),
            hints_taken: AtomicU64::new(0),
            hints_given: AtomicU64::new(0),
            hints: core::array::from_fn(|_| AtomicU64::new(0)),
            window: core::array::from_fn(|_| AtomicU64::new(0)),
        }))
    }

    pub fn receive(&self) -> &AtomicU64 {
        &self.0.receive
    }
    pub fn sweep(&self) -> &AtomicU64 {
        &self.0.sweep
    }
    pub fn swept(&self) -> &AtomicU64 {
        &self.0.swept
    }
    pub fn due(&self) -> &AtomicU64 {
        &self.0.due
    }
    pub fn holders(&self, _word: usize) -> &AtomicU64 {
        &self.0.holders
    }
    pub fn views(&self) -> &AtomicU64 {
        &self.0.views
    }
    pub fn pins_of(&self, _position: u64) -> &[AtomicU64] {
        &self.0.pins
    }
    pub fn retention(&self) -> &Plain {
        &self.0.settings.retention
    }
    pub fn visibility(&self) -> &Plain {
        &self.0.settings.visibility
    }
    pub fn delay(&self) -> &Plain {
        &self.0.settings.delay
    }
    pub fn max_message(&self) -> &Plain {
        &self.0.settings.max_message
    }
    pub fn redeliver(&self) -> &Plain {
        &self.0.settings.redeliver
    }
    pub fn receive_wait(&self) -> &Plain {
        &self.0.settings.receive_wait
    }
    pub fn max_receives(&self) -> &Plain {
        &self.0.settings.max_receives
    }
    pub fn redrive_target(&self) -> &Plain {
        &self.0.settings.redrive_target
    }
    pub fn max_messages(&self) -> &Plain {
        &self.0.settings.max_messages
    }
    pub fn max_in_flight(&self) -> &Plain {
        &self.0.settings.max_in_flight
    }
    /// A hint that is not looked at in a model: every receiver of one stays.
    pub fn open(&self) -> &Plain {
        &self.0.settings.open
    }
    pub fn route(&self, _route: usize) -> &Plain {
        &self.0.settings.route
    }
    pub fn group_of(&self, _index: usize) -> &AtomicU64 {
        &self.0.group
    }
    pub fn block_of(&self, _index: usize) -> &AtomicU64 {
        &self.0.block
    }
    pub fn is_fifo(&self) -> bool {
        self.0.is_fifo
    }
    pub fn link(&self) -> &AtomicU64 {
        &self.0.link
    }
    pub fn hints_taken(&self) -> &AtomicU64 {
        &self.0.hints_taken
    }
    pub fn hints_given(&self) -> &AtomicU64 {
        &self.0.hints_given
    }
    pub fn hint_count(&self) -> u64 {
        2
    }
    pub fn hint(&self, number: u64) -> &AtomicU64 {
        &self.0.hints[(number % 2) as usize]
    }
    pub fn window(&self, _hash: u64) -> &[AtomicU64] {
        &self.0.window
    }
}
