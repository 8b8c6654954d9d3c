//! The attribute block in front of a body: encoded by a sender, parsed by a receiver.
//!
//! The layout is that of [`AttributeBlock`]. Parsing works on a private copy, borrows from it,
//! allocates nothing, and takes any bytes: what is no block is `None`. Names and values are checked
//! for what their types need (UTF-8), not against the rules of
//! [`Attributes`](super::Attributes): those bind who sends.

use super::attributes::{Attribute, AttributeValue, AttributesRef};
use crate::layout::attributes::{
    AttributeBlock, AttributeEntry, MAX_ATTRIBUTES, MAX_BLOCK_BYTES, OriginRecord, attribute,
};

/// Bytes of the head of a block.
pub(super) const HEAD: usize = size_of::<AttributeBlock>();
/// Bytes of the head of an entry.
pub(super) const ENTRY: usize = size_of::<AttributeEntry>();

/// What travels in front of a body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Envelope<'a> {
    pub group: Option<&'a str>,
    pub dedup_id: Option<&'a str>,
    pub trace_header: Option<&'a str>,
    /// Where it was moved from.
    pub origin: Option<OriginRecord>,
    pub attributes: AttributesRef<'a>,
}

impl<'a> Envelope<'a> {
    /// The system attributes that are there, by kind.
    fn system(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let text = |value: Option<&'a str>| value.map(str::as_bytes);
        [
            (attribute::GROUP, text(self.group)),
            (attribute::DEDUP_ID, text(self.dedup_id)),
            (attribute::TRACE_HEADER, text(self.trace_header)),
            (
                attribute::ORIGIN,
                self.origin.as_ref().map(bytemuck::bytes_of),
            ),
        ]
        .into_iter()
        .filter_map(|(kind, value)| Some((kind, value?)))
    }

    /// Whether nothing has to travel in front of the body.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty() && self.system().next().is_none()
    }

    /// Bytes of the block.
    pub fn block_bytes(&self) -> usize {
        let system: usize = self.system().map(|(_, value)| ENTRY + value.len()).sum();
        (HEAD + system + self.attributes.encoded().len()).next_multiple_of(8)
    }

    /// Appends the block to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let from = out.len();
        let bytes = self.block_bytes();
        let head = AttributeBlock {
            bytes: bytes as u32,
            entries: (self.system().count() + self.attributes.len()) as u16,
            reserved: 0,
        };
        out.extend_from_slice(bytemuck::bytes_of(&head));
        for (kind, value) in self.system() {
            encode_entry(out, kind, "", "", value);
        }
        out.extend_from_slice(self.attributes.encoded());
        out.resize(from + bytes, 0);
    }

    /// The envelope in a block of exactly the bytes that its head says.
    pub fn parse(block: &'a [u8]) -> Option<Self> {
        let head: AttributeBlock = bytemuck::pod_read_unaligned(block.get(..HEAD)?);
        if head.bytes as usize != block.len() {
            return None;
        }
        let mut envelope = Self::default();
        let mut rest = &block[HEAD..];
        let mut last_kind = 0;
        for done in 0..head.entries {
            let (entry, behind) = Entry::split(rest)?;
            if entry.kind < attribute::GROUP {
                let count = usize::from(head.entries - done);
                let (attributes, behind) = AttributesRef::parse(rest, count)?;
                envelope.attributes = attributes;
                rest = behind;
                break;
            }
            if entry.kind <= last_kind || !entry.name.is_empty() || !entry.label.is_empty() {
                return None;
            }
            last_kind = entry.kind;
            let text = || core::str::from_utf8(entry.value).ok();
            match entry.kind {
                attribute::GROUP => envelope.group = Some(text()?),
                attribute::DEDUP_ID => envelope.dedup_id = Some(text()?),
                attribute::TRACE_HEADER => envelope.trace_header = Some(text()?),
                attribute::ORIGIN => {
                    let origin = bytemuck::try_pod_read_unaligned(entry.value);
                    envelope.origin = Some(origin.ok()?);
                }
                _ => return None,
            }
            rest = behind;
        }
        (rest.len() < 8).then_some(envelope)
    }
}

/// The bytes of a block by its head; `None` when no block says that.
pub(super) fn block_bytes(head: [u8; HEAD]) -> Option<usize> {
    let head: AttributeBlock = bytemuck::cast(head);
    let bytes = head.bytes as usize;
    (bytes.is_multiple_of(8) && (HEAD..=MAX_BLOCK_BYTES).contains(&bytes)).then_some(bytes)
}

/// Appends one entry. The lengths are the caller's to keep within their fields.
pub(super) fn encode_entry(out: &mut Vec<u8>, kind: u8, name: &str, label: &str, value: &[u8]) {
    let head = AttributeEntry {
        value_bytes: value.len() as u32,
        name_bytes: name.len() as u16,
        label_bytes: label.len() as u8,
        kind,
    };
    out.extend_from_slice(bytemuck::bytes_of(&head));
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(label.as_bytes());
    out.extend_from_slice(value);
}

/// One entry, its fields told apart and not yet understood.
struct Entry<'a> {
    kind: u8,
    name: &'a [u8],
    label: &'a [u8],
    value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The first entry of `bytes` and what lies behind it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, bytes) = bytes.split_at_checked(ENTRY)?;
        let head: AttributeEntry = bytemuck::pod_read_unaligned(head);
        let (name, bytes) = bytes.split_at_checked(head.name_bytes.into())?;
        let (label, bytes) = bytes.split_at_checked(head.label_bytes.into())?;
        let (value, bytes) = bytes.split_at_checked(head.value_bytes as usize)?;
        let entry = Self {
            kind: head.kind,
            name,
            label,
            value,
        };
        Some((entry, bytes))
    }
}

/// The first attribute of `bytes` and what lies behind it.
pub(super) fn split_attribute(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let (entry, behind) = Entry::split(bytes)?;
    let text = |bytes| core::str::from_utf8(bytes).ok();
    let value = match entry.kind {
        attribute::STRING => AttributeValue::String(text(entry.value)?),
        attribute::NUMBER => AttributeValue::Number(text(entry.value)?),
        attribute::BINARY => AttributeValue::Binary(entry.value),
        _ => return None,
    };
    let label = text(entry.label)?;
    let attribute = Attribute {
        name: text(entry.name)?,
        value,
        label: (!label.is_empty()).then_some(label),
    };
    Some((attribute, behind))
}

impl<'a> AttributesRef<'a> {
    /// `count` attributes in a row, and what lies behind them.
    pub(crate) fn parse(bytes: &'a [u8], count: usize) -> Option<(Self, &'a [u8])> {
        if count > MAX_ATTRIBUTES {
            return None;
        }
        let mut behind = bytes;
        for _ in 0..count {
            behind = split_attribute(behind)?.1;
        }
        let len = bytes.len() - behind.len();
        Some((Self::of(&bytes[..len], count), behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Attributes;
    use proptest::prelude::*;

    fn encoded(envelope: &Envelope<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        envelope.encode(&mut out);
        out
    }

    /// Looks at everything a parse hands out.
    fn walk(envelope: &Envelope<'_>) -> usize {
        let texts = [envelope.group, envelope.dedup_id, envelope.trace_header];
        let texts: usize = texts.into_iter().flatten().map(str::len).sum();
        let attributes = envelope.attributes.iter();
        texts
            + attributes
                .map(|a| a.name.len() + a.bytes().len())
                .sum::<usize>()
    }

    #[test]
    fn a_block_is_padded_so_that_the_body_is_aligned() {
        for len in 1..20 {
            let group = "g".repeat(len);
            let envelope = Envelope {
                group: Some(&group),
                ..Envelope::default()
            };
            let block = encoded(&envelope);
            assert_eq!(block.len() % 8, 0);
            assert_eq!(block.len(), envelope.block_bytes());
            assert_eq!(
                block_bytes(block[..8].try_into().unwrap()),
                Some(block.len())
            );
            assert_eq!(Envelope::parse(&block).unwrap().group, Some(&*group));
        }
    }

    #[test]
    fn system_attributes_out_of_order_twice_or_named_are_no_block() {
        let block = |entries: &[(u8, &str)]| {
            let mut out = vec![0; HEAD];
            for (kind, name) in entries {
                encode_entry(&mut out, *kind, name, "", b"v");
            }
            out.resize(out.len().next_multiple_of(8), 0);
            let head = AttributeBlock {
                bytes: out.len() as u32,
                entries: entries.len() as u16,
                reserved: 0,
            };
            out[..HEAD].copy_from_slice(bytemuck::bytes_of(&head));
            out
        };
        let (group, dedup) = (attribute::GROUP, attribute::DEDUP_ID);
        assert!(Envelope::parse(&block(&[(group, ""), (dedup, ""), (1, "n")])).is_some());
        for wrong in [
            &[(dedup, ""), (group, "")][..],
            &[(group, ""), (group, "")],
            &[(group, "n")],
            &[(1, "n"), (group, "")],
            &[(20, "")],
            &[(0, "n")],
            &[(4, "n")],
            &[(1, "n"); MAX_ATTRIBUTES + 1],
        ] {
            assert!(Envelope::parse(&block(wrong)).is_none(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_block_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(envelope) = Envelope::parse(&bytes) {
                prop_assert!(walk(&envelope) <= bytes.len());
            }
            if bytes.len() >= HEAD {
                let mut bytes = bytes;
                // With a head that lets the parser in.
                let head = AttributeBlock {
                    bytes: bytes.len() as u32,
                    entries: u16::from(bytes[4]) % 14,
                    reserved: 0,
                };
                bytes[..HEAD].copy_from_slice(bytemuck::bytes_of(&head));
                if let Some(envelope) = Envelope::parse(&bytes) {
                    prop_assert!(walk(&envelope) <= bytes.len());
                }
            }
        }

        #[test]
        fn a_block_with_any_byte_changed_is_parsed_or_refused(
            value in "[a-z]{1,30}",
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut attributes = Attributes::new();
            attributes.string("first", &value).unwrap();
            attributes.binary("second", value.as_bytes()).unwrap();
            let envelope = Envelope {
                group: Some("g"),
                trace_header: Some(&value),
                attributes: attributes.as_ref(),
                ..Envelope::default()
            };
            let mut block = encoded(&envelope);
            let at = at.index(block.len());
            block[at] = byte;
            if let Some(envelope) = Envelope::parse(&block) {
                prop_assert!(walk(&envelope) <= block.len());
            }
        }

        #[test]
        fn what_was_encoded_is_parsed(
            group in proptest::option::of("[!-~]{1,128}"),
            dedup_id in proptest::option::of("[!-~]{1,128}"),
            trace_header in proptest::option::of("[ -~]{1,200}"),
            origin in any::<bool>(),
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..60), 0..10),
        ) {
            let mut attributes = Attributes::new();
            for (i, value) in values.iter().enumerate() {
                attributes.binary(&format!("name{i}"), value).unwrap();
            }
            let envelope = Envelope {
                group: group.as_deref(),
                dedup_id: dedup_id.as_deref(),
                trace_header: trace_header.as_deref(),
                origin: origin.then_some(OriginRecord {
                    queue: 7,
                    position: 77,
                    receives: 3,
                    sender: 1,
                    reserved: 0,
                }),
                attributes: attributes.as_ref(),
            };
            let block = encoded(&envelope);
            let parsed = Envelope::parse(&block).unwrap();
            prop_assert_eq!(parsed.origin, envelope.origin);
            prop_assert_eq!(parsed.group, group.as_deref());
            prop_assert_eq!(parsed.dedup_id, dedup_id.as_deref());
            prop_assert_eq!(parsed.trace_header, trace_header.as_deref());
            let seen: Vec<_> = parsed.attributes.iter().map(|a| a.bytes().to_vec()).collect();
            prop_assert_eq!(seen, values);
        }
    }
}
