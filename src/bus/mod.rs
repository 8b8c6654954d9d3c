//! L6: the front door. A bus is a directory; whoever may open its files takes part.
//!
//! ```text
//! ROOT/ringway-NAME/        ROOT: $RINGWAY_ROOT, Builder::root, or /dev/shm
//!   bus                     header, roles, registry; one lock byte per participant
//!   objects/OBJECT          one file per object: the catalog is the directory
//!   topics/TOPIC            one file per topic, made with the first
//!   pool/00000 …            payload-pool segments
//! ```
//! The catalog needs no words of its own: an object appears by `renameat2(RENAME_NOREPLACE)` of a
//! finished file and goes by `unlink`, which the kernel makes atomic whatever dies
//! (docs/decisions/0003-directory-as-catalog.md).

mod aside;
mod attachment;
mod builder;
mod catalog;
mod doctor;
mod made;
mod name;
mod observe;
mod participant;
#[cfg(feature = "topics")]
mod policies;
mod queues;
mod reap;
mod registry;
mod rings;
mod streams;
#[cfg(feature = "topics")]
mod topics;

pub use attachment::Bus;
pub use builder::{Builder, DEFAULT_POOL_BYTES, DEFAULT_ROOT, Origin, ROOT_VARIABLE};
pub use catalog::{ChannelBuilder, ObjectInfo, ObjectKind};
pub use doctor::Report;
#[cfg(feature = "topics")]
pub use observe::ObservedTopic;
pub use observe::{
    Holder, ObservedChannel, ObservedQueue, ObservedShard, ObservedStream, Observer, PoolStats,
};
pub use queues::QueueBuilder;
pub use registry::ParticipantInfo;
pub use streams::StreamBuilder;
#[cfg(feature = "topics")]
pub use topics::TopicBuilder;

/// The bus file inside the directory.
const BUS_FILE: &str = "bus";
/// The objects inside the directory.
const OBJECTS: &str = "objects";
/// The pool inside the directory.
const POOL: &str = "pool";
/// The topics inside the directory, from the first of them on.
const TOPICS: &str = "topics";
/// Removed objects whose records somebody still may look at: `.removed-` and the object's id.
const REMOVED_PREFIX: &str = ".removed-";
/// Temporary names begin so; then participant slot and generation.
const TEMPORARY: &str = ".tmp-";
