//! L4: the journal behind an object in shared memory, and the group commit that fills it.
//!
//! ```text
//! directory whose journals are where, the lock on one, and how it goes
//! journal   one open's side of it: the disk, and the writer of the last flush from here
//! reach     who waits: sleeps while somebody writes, and takes over from who is dead or stands still
//! write     who writes for all: takes the role, flushes, tells, lays the role down
//! room      what that one does beside: the mark of an idle journal, and room on a full disk
//! behind    a thread that writes for those who do not wait
//! ```
//! An object (a queue, a shard of a stream, the table of a stream) says by [`Source`] what there is to be
//! written, and waits by [`reach`]. Who may write, and what a death in that role leaves, is the floor's
//! below ([`crate::ring::persister`]); what is kept on the disk, and what a crash leaves there, is the
//! journal's.

mod behind;
pub mod directory;
mod journal;
mod reach;
mod room;
mod write;

pub use behind::Behind;
pub use journal::{Journal, Kept, push, push_gap};
pub use reach::{Goal, NotOnDisk, Source, reach};
pub use room::mark;
pub use write::keep_role;
