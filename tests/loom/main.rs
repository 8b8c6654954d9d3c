//! The protocol under `loom`: the code of `src/ring`, `src/pool/chunk.rs` and
//! `src/bus/participant.rs` itself, on small rings, in every execution.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --test loom -- --nocapture --test-threads=1
//! RINGWAY_FULL=1 RUSTFLAGS="--cfg loom" cargo test --release --test loom -- --nocapture --test-threads=1
//! ```
//! The first is the quick run (about a minute): every model but the few large ones is exhausted,
//! those run with at most three preemptions, and every weakened ordering meets the model that must
//! notice. The second exhausts the large ones too and puts every weakened ordering before every
//! model (an hour). `explore` judges, `world` holds what the models share, `weakened` is the proof
//! that the models look at every ordering; the rest are the models, one file a part.
//!
//! What this does not show: loom never lets a load see a store that comes later in time (so an
//! ordering that only keeps a load above a later store is watched through accesses in place, which
//! must be ordered), it knows no death (a participant stops and says so by a flag that the kernel's
//! lock stands for), and it sees a label as a whole, not each place that uses it.
#![cfg(loom)]
// loom runs the threads of a model one at a time on one thread.
#![allow(clippy::arc_with_non_send_sync)]

mod append;
mod batch;
mod dedup;
mod durable;
mod explore;
mod fifo;
mod lease;
mod log;
mod moving;
mod pool;
mod queue;
mod read;
mod reap;
mod reclaim;
mod reshard;
mod role;
mod seal;
mod view;
mod wait;
mod weakened;
mod world;
