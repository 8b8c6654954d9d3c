//! The `ringway` command as people use it: the real binary, real pipes, real signals.
//!
//! One module a verb. Nothing here sleeps for an event: a test waits until it sees it.

mod agent;
mod demo;
mod exec;
mod firehose;
mod journal;
mod log;
mod metrics;
mod moves;
mod names;
mod place;
mod queue;

mod readme;
mod receive;
mod send;
mod stat;
mod stream;
mod top;
mod topic;
mod watch;
mod work;
