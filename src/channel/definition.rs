//! What a channel is: fixed at creation, the same for every process.

use crate::error::OpenError;
use crate::layout::ring::{MAX_READERS, MAX_SLOTS, MAX_STRIDE, MIN_SLOTS, MIN_STRIDE};
use crate::ring::{Overflow, Producers};
use std::time::Duration;

/// Slots of a channel whose creator does not say. With the default stride a ring of 4 MiB, which
/// lies between L2 and L3 in size: there the consumer reads from L3 instead of pulling dirty lines
/// out of the producer's core (see docs/decisions/0004-ring-size.md).
pub const DEFAULT_SLOTS: u64 = 32 * 1024;
/// Stride of a channel whose creator does not say: 96 bytes of body in two cache lines.
pub const DEFAULT_STRIDE: u64 = 128;
/// Reader entries of a channel whose creator does not say.
pub const DEFAULT_READERS: u32 = 64;
/// After this long a live but stopped producer's claim is stepped over.
pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_millis(20);

/// The definition of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Slots, a power of two from 1,024 to 16,777,216.
    pub slots: u64,
    /// Bytes from slot to slot, a multiple of 32 from 64 to 4,096; 32 of them are header.
    pub stride: u64,
    /// Reader entries, 1 to 1,024.
    pub readers: u32,
    /// Who may send.
    pub producers: Producers,
    /// What a full ring does.
    pub overflow: Overflow,
    /// After this long a live but stopped producer's claim is stepped over.
    pub stall_timeout: Duration,
    /// Whether huge pages were asked for.
    pub huge_pages: bool,
}

impl Definition {
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            slots: DEFAULT_SLOTS,
            stride: DEFAULT_STRIDE,
            readers: DEFAULT_READERS,
            producers: Producers::Shared,
            overflow: Overflow::Refuse,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            huge_pages: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let refuse = |option, given: String, rule: String| {
            Err(OpenError::InvalidOption {
                option,
                given,
                rule,
            })
        };
        if !self.slots.is_power_of_two() || !(MIN_SLOTS..=MAX_SLOTS).contains(&self.slots) {
            let rule = format!("a power of two from {MIN_SLOTS} to {MAX_SLOTS}");
            return refuse("slots", self.slots.to_string(), rule);
        }
        if !self.stride.is_multiple_of(32) || !(MIN_STRIDE..=MAX_STRIDE).contains(&self.stride) {
            let rule = format!("a multiple of 32 from {MIN_STRIDE} to {MAX_STRIDE}");
            return refuse("stride", self.stride.to_string(), rule);
        }
        if !(1..=MAX_READERS).contains(&self.readers) {
            return refuse(
                "readers",
                self.readers.to_string(),
                format!("1 to {MAX_READERS}"),
            );
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&self.stall_timeout) {
            let given = format!("{:?}", self.stall_timeout);
            return refuse("stall_timeout", given, "1 ms to 60 s".to_owned());
        }
        Ok(())
    }
}
