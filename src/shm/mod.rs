//! L2: mapped bytes become checked references.
//!
//! A `RingMemory` or `SegmentMemory` is made once, from a file whose header passed every check
//! against the length of the mapping; its geometry is private and immutable from then on, so a
//! peer that scribbles over the header moves no pointer here. Every shared word is reached as an
//! atomic; bodies are copied by word-wise relaxed atomics or an opaque copy instruction, never
//! through a `&[u8]` into bytes that may change.

#[cfg(not(loom))]
pub mod copy;
#[cfg(not(loom))]
pub mod dedup;
#[cfg(not(loom))]
pub mod durable;
#[cfg(not(loom))]
mod prefetch;
#[cfg(not(loom))]
pub mod queue;
#[cfg(not(loom))]
pub mod ring;
#[cfg(not(loom))]
pub mod segment;
#[cfg(not(loom))]
pub mod words;

#[cfg(any(feature = "topics", loom))]
pub mod record;

#[cfg(loom)]
pub mod dedup_model;
#[cfg(loom)]
pub mod durable_model;
#[cfg(loom)]
pub mod model;
#[cfg(loom)]
pub mod queue_model;
#[cfg(loom)]
pub use dedup_model as dedup;
#[cfg(loom)]
pub use durable_model as durable;
#[cfg(loom)]
pub use model as ring;
#[cfg(loom)]
pub use queue_model as queue;
