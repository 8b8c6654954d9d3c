//! The MD5 digests of SQS (`MD5OfBody`, `MD5OfMessageAttributes`, `MD5OfMessageSystemAttributes`):
//! what its SDKs compare to see that a message arrived as it was sent. No protection against anybody.
//!
//! Source: "Calculating the MD5 message digest for message attributes" in "Amazon SQS message
//! metadata",
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>:
//! sort by name; of each, length (4 bytes, big-endian) and bytes of the name, of the data type, then
//! one byte 1 (String, Number) or 2 (Binary), then length and bytes of the value.

use super::attributes::{Attribute, AttributeValue, Attributes, AttributesRef};
use super::{Incoming, Message, Outgoing};
use crate::layout::attributes::MAX_ATTRIBUTES;
use core::fmt;
use md5::{Digest, Md5};

/// The name under which a trace header is digested.
const TRACE_HEADER: &str = "AWSTraceHeader";

/// A digest; displayed as SQS does, 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Md5Digest(pub [u8; 16]);

impl fmt::Display for Md5Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl AttributesRef<'_> {
    /// `MD5OfMessageAttributes`; `None` where there is none. Allocates nothing.
    pub fn md5(&self) -> Option<Md5Digest> {
        let mut sorted = [None; MAX_ATTRIBUTES];
        let count = self.len().min(MAX_ATTRIBUTES);
        let sorted = &mut sorted[..count];
        for (place, attribute) in sorted.iter_mut().zip(self.iter()) {
            *place = Some(attribute);
        }
        sorted.sort_unstable_by_key(|attribute| attribute.map(|attribute| attribute.name));
        of_attributes(sorted.iter().flatten())
    }
}

impl Attributes {
    /// `MD5OfMessageAttributes`; `None` where there is none. Allocates nothing.
    pub fn md5(&self) -> Option<Md5Digest> {
        self.as_ref().md5()
    }
}

macro_rules! digests {
    ($type:ty, $body:expr) => {
        impl $type {
            /// `MD5OfBody`.
            pub fn md5_of_body(&self) -> Md5Digest {
                let body: fn(&Self) -> &[u8] = $body;
                Md5Digest(Md5::digest(body(self)).into())
            }

            /// `MD5OfMessageSystemAttributes`: of the trace header; `None` where there is none.
            pub fn md5_of_system_attributes(&self) -> Option<Md5Digest> {
                let value = AttributeValue::String(self.envelope().trace_header?);
                let attribute = Attribute {
                    name: TRACE_HEADER,
                    value,
                    label: None,
                };
                of_attributes([attribute].iter())
            }

            /// `MD5OfMessageAttributes`; `None` where there is none.
            pub fn md5_of_attributes(&self) -> Option<Md5Digest> {
                self.envelope().attributes.md5()
            }
        }
    };
}

digests!(Message, |message| &message.body);
digests!(Incoming, |incoming| incoming.body());
digests!(Outgoing<'_>, |outgoing| outgoing.body());

fn of_attributes<'a>(sorted: impl Iterator<Item = &'a Attribute<'a>>) -> Option<Md5Digest> {
    let mut digest = Md5::new();
    let mut is_any = false;
    for attribute in sorted {
        is_any = true;
        let label = attribute.label.map(|label| [".", label]);
        let label = label.as_ref().map_or(&[][..], |parts| &parts[..]);
        let type_name = attribute.type_name();
        let type_bytes = type_name.len() + label.iter().map(|part| part.len()).sum::<usize>();
        let kind = match attribute.value {
            AttributeValue::String(_) | AttributeValue::Number(_) => 1,
            AttributeValue::Binary(_) => 2,
        };
        add_length(&mut digest, attribute.name.len());
        digest.update(attribute.name);
        add_length(&mut digest, type_bytes);
        digest.update(type_name);
        label.iter().for_each(|part| digest.update(part));
        digest.update([kind]);
        add_length(&mut digest, attribute.bytes().len());
        digest.update(attribute.bytes());
    }
    is_any.then(|| Md5Digest(digest.finalize().into()))
}

fn add_length(digest: &mut Md5, len: usize) {
    digest.update((len as u32).to_be_bytes());
}
