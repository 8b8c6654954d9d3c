//! L3: the payload pool. Chunks of size classes in segment files, lent to producers, attached to
//! records, freed by whoever makes the record go.
//!
//! # States of a chunk
//! ```text
//!          take (CAS, any)                 attach (CAS, owner, behind the commit)
//!  FREE(v) ───────────────▶ OWNED(me,v) ─────────────────────────▶ ATTACHED(v)
//!    ▲                         │  ▲                                   │
//!    │  give back, or the owner│  └── recycle: OWNED(me,v+1) ─────────┤ exactly this version,
//!    │  is dead and no record  │                                      │ ring and position
//!    └── names it: FREE(v+1) ◀─┴──────────────────────────────────────┘
//! ```
//! The version rises whenever the chunk leaves a record or an owner, so a stale reference never
//! matches. Beside the word stand the ring and position of the record that is to name it; they are
//! written before the commit. A death between commit and attach leaves OWNED(dead) that a
//! committed record names: the reaper attaches it. A loan holds no place in any order.

pub mod chunk;
#[cfg(not(loom))]
pub mod lend;
#[cfg(not(loom))]
pub mod segment;
