//! Receipts: what a receive hands out and a delete asks for.

use crate::error::ReceiptError;
use crate::layout::ring::MAX_POSITION;
use crate::layout::word::RECEIVES_MAX;
use core::fmt;
use core::str::FromStr;

/// Names one receive of one message: the queue, the position, the receive count.
///
/// A receipt may be copied, stored, and sent to another process as bytes or as text; whoever has it
/// may delete the message or change its visibility. It fits until the message is received again or
/// gone, and never anything else.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let receipt: ringway::Receipt = "00000000000000ff-12-1".parse()?;
/// assert_eq!(receipt.position(), 12);
/// assert_eq!(ringway::Receipt::from_bytes(receipt.to_bytes())?, receipt);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt {
    queue: u64,
    position: u64,
    /// At most 1,023, and as wide as its neighbours: what copies a receipt loads what was stored, and does
    /// not wait for two halves to meet in the cache (a dozen cycles each time).
    receives: u64,
}

/// Bytes of a receipt.
const BYTES: usize = 18;

impl Receipt {
    #[inline(always)]
    pub(super) fn new(queue: u64, position: u64, receives: u16) -> Self {
        Self {
            queue,
            position,
            receives: receives.into(),
        }
    }

    /// The receipt of these parts.
    ///
    /// # Errors
    /// [`ReceiptError`] when no receive can have handed it out.
    #[inline]
    pub fn from_parts(queue: u64, position: u64, receives: u16) -> Result<Self, ReceiptError> {
        let receipt = Self::new(queue, position, receives);
        receipt.checked().ok_or_else(|| receipt.no_receipt())
    }

    /// The same, `None` where no receive can have handed it out: in registers, where an error is not.
    #[inline(always)]
    pub fn of_parts(queue: u64, position: u64, receives: u16) -> Option<Self> {
        Self::new(queue, position, receives).checked()
    }

    /// The object id of the queue.
    #[inline]
    pub fn queue(&self) -> u64 {
        self.queue
    }

    /// The position of the message.
    #[inline]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How often the message had been received, this time included: 1 to 1,023.
    #[inline]
    pub fn receives(&self) -> u16 {
        self.receives as u16
    }

    /// The receipt as bytes: queue, position, count, little-endian.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.queue.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.to_le_bytes());
        bytes[16..].copy_from_slice(&self.receives().to_le_bytes());
        bytes
    }

    /// The receipt of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`ReceiptError`] when no receive can have handed it out.
    pub fn from_bytes(bytes: [u8; BYTES]) -> Result<Self, ReceiptError> {
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| bytes[at + i]));
        Self::from_parts(word(0), word(8), u16::from_le_bytes([bytes[16], bytes[17]]))
    }

    #[cold]
    fn no_receipt(self) -> ReceiptError {
        ReceiptError {
            text: self.to_string(),
        }
    }

    #[inline(always)]
    fn checked(self) -> Option<Self> {
        let possible =
            (1..=RECEIVES_MAX).contains(&self.receives()) && self.position < MAX_POSITION;
        possible.then_some(self)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{}", self.queue, self.position, self.receives)
    }
}

impl FromStr for Receipt {
    type Err = ReceiptError;

    fn from_str(text: &str) -> Result<Self, ReceiptError> {
        let parse = || {
            let mut parts = text.split('-');
            let (queue, position) = (parts.next()?, parts.next()?);
            let receives = parts.next()?;
            let digits = [queue, position, receives]
                .iter()
                .all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            if parts.next().is_some() || queue.len() != 16 || !digits {
                return None;
            }
            let receipt = Self {
                queue: u64::from_str_radix(queue, 16).ok()?,
                position: position.parse().ok()?,
                receives: receives.parse::<u16>().ok()?.into(),
            };
            receipt.checked()
        };
        parse().ok_or_else(|| ReceiptError {
            text: text.chars().take(64).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_survives_bytes_and_text() {
        for (position, receives) in [(0, 1), (MAX_POSITION - 1, RECEIVES_MAX), (77, 5)] {
            let receipt = Receipt::new(0xFEED, position, receives);
            assert_eq!(Receipt::from_bytes(receipt.to_bytes()), Ok(receipt));
            assert_eq!(receipt.to_string().parse(), Ok(receipt));
        }
    }

    #[test]
    fn what_is_no_receipt_is_refused() {
        for text in [
            "",
            "-",
            "1-2-3",
            "000000000000feed-1-0",
            "000000000000feed-1-1024",
            "000000000000feed-+1-1",
            "000000000000feed-99999999999999999999-1",
            "000000000000feed-1-1-1",
            "000000000000feeg-1-1",
        ] {
            assert!(text.parse::<Receipt>().is_err(), "{text:?}");
        }
        assert!(Receipt::from_bytes([0; BYTES]).is_err());
        assert!(Receipt::from_bytes([0xFF; BYTES]).is_err());
    }
}
