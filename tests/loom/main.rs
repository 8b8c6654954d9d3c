//! The protocol under `loom`.
#![cfg(loom)]

mod append;
mod explore;
mod pool;
mod read;
mod reap;
mod reclaim;
mod role;
mod wait;
mod weakened;
mod world;
