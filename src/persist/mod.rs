//! L4: the journal behind an object in shared memory, and the group commit that fills it.
//!
//! ```text
//! journal   one open's side of it: the disk, and the writer of the last flush from here
//! write     who waits writes for all: takes the role, flushes, tells, lays the role down
//! ```
//! An object (a queue, a shard of a stream, the table of a stream) says by [`Source`] what there is to be
//! written, and waits by [`reach`]. Who may write, and what a death in that role leaves, is the floor's
//! below ([`crate::ring::persister`]); what is kept on the disk, and what a crash leaves there, is the
//! journal's.

mod journal;
mod write;

pub use journal::{Journal, Kept, push, push_gap};
pub use write::{Goal, NotOnDisk, Source, reach};
