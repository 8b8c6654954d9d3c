//! Numbers: of a shard, of a record.

use crate::error::ShardId;
use crate::layout::ring::MAX_POSITION;
use core::fmt;
use core::str::FromStr;

/// No number of a shard or a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no {expected}")]
pub struct NumberError {
    /// What was given.
    pub given: String,
    /// What it should be, with an example.
    pub expected: &'static str,
}

impl FromStr for ShardId {
    type Err = NumberError;

    /// As displayed, or the number alone.
    fn from_str(text: &str) -> Result<Self, NumberError> {
        let digits = text.strip_prefix(ShardId::PREFIX).unwrap_or(text);
        digits.parse().map(Self).map_err(|_| NumberError {
            given: text.chars().take(64).collect(),
            expected: "shard; shards are called like shardId-000000000003, or 3",
        })
    }
}

/// The number of a record: of two records of a shard the later one has the higher number, and so it is
/// with records of a shard and of those that replaced it. Displayed in decimal, as in Kinesis.
///
/// ```text
/// shard 32 bits | position in the shard 64 bits
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceNumber(u128);

impl SequenceNumber {
    pub(crate) const fn new(shard: u32, position: u64) -> Self {
        Self((shard as u128) << 64 | position as u128)
    }

    /// The number of the record at `position` of `shard`.
    ///
    /// # Errors
    /// [`NumberError`] where no record can stand.
    pub fn from_parts(shard: ShardId, position: u64) -> Result<Self, NumberError> {
        let number = Self::new(shard.0, position);
        match position < MAX_POSITION {
            true => Ok(number),
            false => Err(NumberError::no_number(&number.to_string())),
        }
    }

    /// The shard that the record is in.
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> 64) as u32)
    }

    /// Where in the shard: positions grow, with gaps where puts were abandoned.
    pub const fn position(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for SequenceNumber {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        let number = text.parse().ok();
        let number = number
            .filter(|number: &u128| number >> 96 == 0 && Self(*number).position() < MAX_POSITION);
        number.map(Self).ok_or_else(|| NumberError::no_number(text))
    }
}

impl NumberError {
    fn no_number(given: &str) -> Self {
        Self {
            given: given.chars().take(64).collect(),
            expected: "sequence number; take one that a put or a record said",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_displayed() {
        let shard = ShardId(3);
        assert_eq!(shard.to_string(), "shardId-000000000003");
        assert_eq!(shard.to_string().parse(), Ok(shard));
        assert_eq!("3".parse(), Ok(shard));
        let number = SequenceNumber::new(3, 77);
        assert_eq!(number.to_string().parse(), Ok(number));
        assert_eq!((number.shard(), number.position()), (shard, 77));
        assert_eq!(SequenceNumber::from_parts(shard, 77), Ok(number));
        assert!(SequenceNumber::from_parts(shard, MAX_POSITION).is_err());
        assert!(number < SequenceNumber::new(3, 78) && number < SequenceNumber::new(4, 0));
        for wrong in ["", "-1", "x", &u128::MAX.to_string()] {
            assert!(wrong.parse::<SequenceNumber>().is_err(), "{wrong:?}");
        }
    }
}
