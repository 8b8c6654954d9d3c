//! Message attributes: up to ten named and typed values beside the body, as in SQS.
//!
//! [`Attributes`] is what a sender builds: every rule is checked when a value is added, and the
//! values are kept encoded, so that a send only copies them. [`AttributesRef`] is what a receiver
//! sees: borrowed from the received bytes, nothing is allocated.
//!
//! Source of the rules: "Amazon SQS message metadata",
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>.

use super::envelope::{encode_entry, split_attribute};
use super::number;
use crate::error::AttributeError;
use crate::layout::attributes::{MAX_ATTRIBUTES, attribute};
use core::fmt;

/// Longest name.
const MAX_NAME: usize = 256;
/// Longest data type: `String`, `Number` or `Binary`, a period, the label.
const MAX_TYPE: usize = 256;
/// Bytes of the name of each type: String, Number, Binary.
const TYPE: usize = 6;
/// Most bytes of all attributes of a message, as they are counted towards its size: the largest
/// message of SQS.
const MAX_BYTES: usize = 1 << 20;

/// A value and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// Text, of the characters that XML allows.
    String(&'a str),
    /// A decimal number of up to 38 digits, 10⁻¹²⁸ to 10¹²⁶ or 0, of either sign. Kept as it was
    /// written.
    Number(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: AttributeValue<'a>,
    /// What is behind the type in `Number.float` or `Binary.gif`.
    pub label: Option<&'a str>,
}

impl<'a> Attribute<'a> {
    /// `String`, `Number` or `Binary`, without the label.
    pub fn type_name(&self) -> &'static str {
        match self.value {
            AttributeValue::String(_) => "String",
            AttributeValue::Number(_) => "Number",
            AttributeValue::Binary(_) => "Binary",
        }
    }

    /// The `DataType` of SQS: the type, and the label if there is one. Allocates.
    pub fn data_type(&self) -> String {
        match self.label {
            Some(label) => format!("{}.{label}", self.type_name()),
            None => self.type_name().to_owned(),
        }
    }

    /// The value as bytes.
    pub fn bytes(&self) -> &'a [u8] {
        match self.value {
            AttributeValue::String(text) | AttributeValue::Number(text) => text.as_bytes(),
            AttributeValue::Binary(bytes) => bytes,
        }
    }

    /// The value as text, if it is a string or a number.
    pub fn text(&self) -> Option<&'a str> {
        match self.value {
            AttributeValue::String(text) | AttributeValue::Number(text) => Some(text),
            AttributeValue::Binary(_) => None,
        }
    }

    fn type_bytes(&self) -> usize {
        TYPE + self.label.map_or(0, |label| 1 + label.len())
    }

    /// Bytes towards the size of its message: name, data type, value.
    pub(super) fn size(&self) -> usize {
        self.name.len() + self.type_bytes() + self.bytes().len()
    }

    fn kind(&self) -> u8 {
        match self.value {
            AttributeValue::String(_) => attribute::STRING,
            AttributeValue::Number(_) => attribute::NUMBER,
            AttributeValue::Binary(_) => attribute::BINARY,
        }
    }
}

/// The attributes of a message to be sent.
///
/// Every value is checked when it is added. Adding allocates now and then; sending does not.
/// [`clear`](Self::clear) keeps the memory for the next message.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ringway::{Attribute, AttributeValue, Attributes};
/// let mut attributes = Attributes::new();
/// attributes
///     .string("city", "Graz")?
///     .number("seats", 12)?
///     .binary("seal", &[7, 8])?;
/// attributes.insert(Attribute {
///     name: "weight",
///     value: AttributeValue::Number("3.5"),
///     label: Some("kg"),
/// })?;
/// assert_eq!(attributes.get("weight").unwrap().data_type(), "Number.kg");
/// assert!(attributes.string("AWS.mine", "x").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    encoded: Vec<u8>,
    count: usize,
    size: usize,
}

impl Attributes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds text.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn string(&mut self, name: &str, value: &str) -> Result<&mut Self, AttributeError> {
        self.insert(Attribute {
            name,
            value: AttributeValue::String(value),
            label: None,
        })
    }

    /// Adds a number: any that displays as one, or its text.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn number(
        &mut self,
        name: &str,
        value: impl fmt::Display,
    ) -> Result<&mut Self, AttributeError> {
        self.insert(Attribute {
            name,
            value: AttributeValue::Number(&value.to_string()),
            label: None,
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn binary(&mut self, name: &str, value: &[u8]) -> Result<&mut Self, AttributeError> {
        self.insert(Attribute {
            name,
            value: AttributeValue::Binary(value),
            label: None,
        })
    }

    /// Adds any attribute.
    ///
    /// # Errors
    /// [`AttributeError`] names the rule that it breaks; nothing was added then.
    pub fn insert(&mut self, attribute: Attribute<'_>) -> Result<&mut Self, AttributeError> {
        if self.count == MAX_ATTRIBUTES {
            return Err(AttributeError::TooMany {
                max: MAX_ATTRIBUTES,
            });
        }
        check(&attribute)?;
        if self.get(attribute.name).is_some() {
            return Err(AttributeError::DuplicateName {
                name: attribute.name.to_owned(),
            });
        }
        let size = self.size + attribute.size();
        if size > MAX_BYTES {
            return Err(AttributeError::TooLarge {
                size,
                max: MAX_BYTES,
            });
        }
        let (kind, label) = (attribute.kind(), attribute.label.unwrap_or(""));
        encode_entry(
            &mut self.encoded,
            kind,
            attribute.name,
            label,
            attribute.bytes(),
        );
        self.count += 1;
        self.size = size;
        Ok(self)
    }

    /// Removes all; the memory is kept.
    pub fn clear(&mut self) {
        self.encoded.clear();
        (self.count, self.size) = (0, 0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that they add to the size of a message: names, data types, values.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The attribute of that name.
    pub fn get(&self, name: &str) -> Option<Attribute<'_>> {
        self.as_ref().get(name)
    }

    /// All of them in the order in which they were added.
    pub fn iter(&self) -> AttributeIter<'_> {
        self.as_ref().iter()
    }

    /// As a receiver would see them.
    #[allow(clippy::should_implement_trait)]
    pub fn as_ref(&self) -> AttributesRef<'_> {
        AttributesRef::of(&self.encoded, self.count)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// The attributes of a received message, borrowed from it. Copying it copies two words and a count.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct AttributesRef<'a> {
    encoded: &'a [u8],
    count: usize,
}

impl<'a> AttributesRef<'a> {
    /// `count` entries that fill `encoded`.
    pub(super) fn of(encoded: &'a [u8], count: usize) -> Self {
        Self { encoded, count }
    }

    pub(crate) fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The attribute of that name: looks at one after the other.
    pub fn get(&self, name: &str) -> Option<Attribute<'a>> {
        self.iter().find(|attribute| attribute.name == name)
    }

    /// All of them in the order of the sender.
    pub fn iter(&self) -> AttributeIter<'a> {
        AttributeIter { rest: self.encoded }
    }

    /// A copy to be sent on. Allocates.
    ///
    /// # Errors
    /// [`AttributeError`] when they were not sent by these rules.
    pub fn to_attributes(&self) -> Result<Attributes, AttributeError> {
        let mut attributes = Attributes::new();
        for attribute in self.iter() {
            attributes.insert(attribute)?;
        }
        Ok(attributes)
    }
}

impl fmt::Debug for AttributesRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.iter().map(|a| (a.name, (a.data_type(), a.value)));
        f.debug_map().entries(entries).finish()
    }
}

impl<'a> IntoIterator for AttributesRef<'a> {
    type Item = Attribute<'a>;
    type IntoIter = AttributeIter<'a>;

    fn into_iter(self) -> AttributeIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a Attributes {
    type Item = Attribute<'a>;
    type IntoIter = AttributeIter<'a>;

    fn into_iter(self) -> AttributeIter<'a> {
        self.iter()
    }
}

/// Attributes one by one.
#[derive(Clone, Debug)]
pub struct AttributeIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for AttributeIter<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let (attribute, rest) = split_attribute(self.rest)?;
        self.rest = rest;
        Some(attribute)
    }
}

fn check(attribute: &Attribute<'_>) -> Result<(), AttributeError> {
    if let Some(rule) = broken_name_rule(attribute.name) {
        let name = attribute.name.chars().take(MAX_NAME).collect();
        return Err(AttributeError::InvalidName { name, rule });
    }
    let name = || attribute.name.to_owned();
    if let Some(label) = attribute.label {
        let is_label = !label.is_empty() && attribute.type_bytes() <= MAX_TYPE && is_text(label);
        if !is_label {
            return Err(AttributeError::InvalidLabel { name: name() });
        }
    }
    if attribute.bytes().is_empty() {
        return Err(AttributeError::EmptyValue { name: name() });
    }
    match attribute.value {
        AttributeValue::String(text) if !is_text(text) => {
            Err(AttributeError::InvalidText { name: name() })
        }
        AttributeValue::Number(text) if !number::is_valid(text) => {
            let value = text.chars().take(64).collect();
            Err(AttributeError::InvalidNumber {
                name: name(),
                value,
            })
        }
        _ => Ok(()),
    }
}

/// The rule of names that `name` breaks.
fn broken_name_rule(name: &str) -> Option<&'static str> {
    let is_reserved = |prefix: &str| {
        let start = name.as_bytes().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > MAX_NAME {
        Some("a name has 1 to 256 characters")
    } else if !name.chars().all(is_allowed) {
        Some("a name has only letters A-Z and a-z, digits, '_', '-' and '.'")
    } else if is_reserved("AWS.") || is_reserved("Amazon.") {
        Some("names that begin with AWS. or Amazon. in any case are reserved")
    } else if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        Some("a name neither begins nor ends with a period, nor has two in a row")
    } else {
        None
    }
}

/// Whether `text` has only the characters that SQS allows in a message body, those of XML 1.0:
/// #x9, #xA, #xD, #x20 to #xD7FF, #xE000 to #xFFFD, #x10000 to #x10FFFF.
pub(super) fn is_text(text: &str) -> bool {
    text.chars().all(|c| match c {
        '\t' | '\n' | '\r' => true,
        '\u{FFFE}' | '\u{FFFF}' => false,
        _ => c >= ' ',
    })
}
