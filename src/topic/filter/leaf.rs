//! What a policy looks at: a message, and the values in it.

use super::number::Decimal;
use crate::queue::AttributesRef;
use std::borrow::Cow;

/// A message as filter policies see it. Borrows everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct FilterMessage<'a> {
    /// Its attributes, for policies of the scope `MessageAttributes`.
    pub attributes: AttributesRef<'a>,
    /// Its body, for policies of the scope `MessageBody`: matched if it is a JSON object.
    pub body: &'a [u8],
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf<'a> {
    Text(Cow<'a, str>),
    /// None: too large to be compared with any.
    Number(Option<Decimal>),
    Bool(bool),
    Null,
}

impl Leaf<'_> {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<Decimal> {
        match self {
            Self::Number(number) => *number,
            _ => None,
        }
    }

    /// Whether it is what `exists` asks for: neither null nor empty.
    pub fn is_something(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Null => false,
            _ => true,
        }
    }
}

impl core::fmt::Display for Leaf<'_> {
    /// As JSON.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", serde_json::Value::from(&**text)),
            Self::Number(Some(number)) => number.fmt(f),
            Self::Number(None) => f.write_str("(a number beyond comparison)"),
            Self::Bool(value) => value.fmt(f),
            Self::Null => f.write_str("null"),
        }
    }
}
