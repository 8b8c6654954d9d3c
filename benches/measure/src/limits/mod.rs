//! What the machine itself allows: contenders made of loads, stores and copies, and of plain writes.
//!
//! Each is the least that could answer its scenario at all, with no bounds, no
//! recovery and no second user; a bus is measured by how near it comes. They
//! depend on nothing but this kit.

mod claim;
mod copy;
mod disk;
mod futex;
mod pingpong;
mod slots;

use crate::{Contender, Scenario};

/// All limits.
pub fn all() -> Vec<&'static dyn Contender> {
    vec![
        &pingpong::PLAIN,
        &pingpong::PAUSE,
        &slots::Slots,
        &claim::CAS,
        &claim::ADD,
        &copy::Copy,
        &futex::Futex,
        &disk::Disk,
        &disk::Deep,
    ]
}

/// The limit that a scenario's ratios refer to; none where the machine sets none.
pub fn of(scenario: Scenario, mode: crate::Mode) -> Option<&'static str> {
    use crate::Mode;
    let name = match (scenario, mode) {
        (Scenario::Depth, _) => return None,
        (Scenario::Wake, _)
        | (
            Scenario::Latency | Scenario::Zerocopy | Scenario::QueueLatency | Scenario::Topic,
            Mode::Block,
        ) => futex::NAME,
        (
            Scenario::Latency | Scenario::Zerocopy | Scenario::QueueLatency | Scenario::Topic,
            Mode::Spin,
        ) => pingpong::NAME,
        (
            Scenario::Throughput
            | Scenario::Batch
            | Scenario::Queue
            | Scenario::QueueBatch
            | Scenario::Fifo,
            _,
        ) => slots::NAME,
        (Scenario::Contended, _) => claim::NAME,
        (Scenario::Copy, _) => copy::NAME,
        (Scenario::DurableOne | Scenario::DurableGroup, _) => disk::NAME,
        (Scenario::DurableBatch | Scenario::DurableLarge, _) => disk::DEEP,
    };
    Some(name)
}
