//! What a bus or an object may be called: the rule of SQS queue names, so that every object name
//! is also a file name and an AWS name.

use crate::error::OpenError;

const RULE: &str = "1 to 80 characters of A-Z a-z 0-9 _ - (a FIFO object ends in .fifo)";

/// `Ok` when `name` may name a bus or an object.
pub fn check(name: &str) -> Result<(), OpenError> {
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    let valid = !stem.is_empty()
        && name.len() <= 80
        && stem
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if valid {
        return Ok(());
    }
    Err(OpenError::InvalidName {
        name: name.chars().take(100).collect(),
        rule: RULE,
    })
}

/// A 64-bit hash (FNV-1a) by which a participant notes the objects it joined. Two names with one
/// hash cost a needless sweep, nothing else.
pub fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "orders", "Orders_2-x", "trucks.fifo", &"x".repeat(80)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".fifo",
            ".",
            "..",
            "a/b",
            "a b",
            "a.b",
            "ä",
            "a\0",
            "a.fifo.fifo",
            &"x".repeat(81),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
