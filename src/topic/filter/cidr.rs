//! Blocks of IP addresses, as `10.0.0.0/24` or `2001:db8::/32`.
//!
//! An address is its bits, aligned to the left, and its family: an IPv4 address is in no IPv6 block,
//! not even where it is mapped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address, or the first of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    is_v6: bool,
    bits: u128,
}

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Block {
    pub first: Address,
    pub prefix_bits: u8,
}

impl Address {
    pub fn parse(text: &str) -> Option<Self> {
        let (is_v6, bits) = match text.parse().ok()? {
            IpAddr::V4(address) => (false, u128::from(address.to_bits()) << 96),
            IpAddr::V6(address) => (true, address.to_bits()),
        };
        Some(Self { is_v6, bits })
    }

    pub fn is_v6(self) -> bool {
        self.is_v6
    }

    /// The block of that many bits that this address is in.
    pub fn block(self, prefix_bits: u8) -> Block {
        let mask = u128::MAX
            .checked_shl(128 - u32::from(prefix_bits))
            .unwrap_or(0);
        let bits = self.bits & mask;
        Block {
            first: Self { bits, ..self },
            prefix_bits,
        }
    }
}

impl Block {
    /// Parses a block; else what SNS says is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let (Some(address), Some(bits), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err("Malformed CIDR, one '/' required".into());
        };
        let Ok(prefix_bits) = bits.parse::<u8>() else {
            return Err("Malformed CIDR, mask bits must be an integer".into());
        };
        let Some(first) = Address::parse(address) else {
            return Err(format!("Nonstandard IP address: {address}"));
        };
        let most = if first.is_v6 { 128 } else { 32 };
        if prefix_bits > most {
            return Err(format!("Malformed CIDR, mask bits must not exceed {most}"));
        }
        Ok(first.block(prefix_bits))
    }

    pub fn contains(&self, address: Address) -> bool {
        address.block(self.prefix_bits) == *self
    }
}

impl core::fmt::Display for Block {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let address: IpAddr = match self.first {
            Address { is_v6: true, bits } => Ipv6Addr::from_bits(bits).into(),
            Address { bits, .. } => Ipv4Addr::from_bits((bits >> 96) as u32).into(),
        };
        write!(f, "{address}/{}", self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_the_addresses_that_begin_with_its_bits() {
        let holds = |block: &str, address: &str| {
            let block = Block::parse(block).unwrap();
            block.contains(Address::parse(address).unwrap())
        };
        assert!(holds("10.0.0.0/24", "10.0.0.255") && !holds("10.0.0.0/24", "10.0.1.0"));
        assert!(holds("0.0.0.0/0", "255.1.2.3") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("10.0.0.1/32", "10.0.0.1") && !holds("10.0.0.1/32", "10.0.0.2"));
        assert!(holds("2001:db8::/32", "2001:db8:1::5") && !holds("::/0", "1.2.3.4"));
        assert!(holds("::1/128", "0:0::1") && !holds("::1/128", "::2"));
        for wrong in [
            "10.0.0.0",
            "a/8",
            "10.0.0.0/33",
            "::/129",
            "1.1.1.1/-1",
            "1/2/3",
        ] {
            assert!(Block::parse(wrong).is_err(), "{wrong}");
        }
    }
}
