//! Conditions: what a policy can ask of one value.
//!
//! Several conditions on a path are alternatives, and a path with several values fulfils a condition if
//! one of them does. That holds for `anything-but` too: `["rugby", "baseball"]` is something other than
//! rugby.

use super::cidr::{Address, Block};
use super::leaf::Leaf;
use super::number::Decimal;
use super::wildcard::Pattern;
use core::fmt::{Display, Formatter, Result};
use serde_json::Value;

/// One condition. Ordered, so that equal sets of them can be found to be equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Condition {
    Text(Box<str>),
    Number(Decimal),
    Bool(bool),
    Null,
    Prefix(Box<str>),
    Suffix(Box<str>),
    /// In lower case.
    IgnoreCase(Box<str>),
    Wildcard(Pattern),
    Cidr(Block),
    /// From one to the other, both included.
    Range(Decimal, Decimal),
    Exists,
    /// Nothing at this path, in a message that has something.
    Absent,
    /// None of these.
    AnythingBut(Box<[Condition]>),
}

impl Condition {
    /// Whether a value fulfils it. `Absent` none does.
    pub fn holds(&self, leaf: &Leaf<'_>) -> bool {
        match self {
            Self::Text(wanted) => leaf.text() == Some(wanted),
            Self::Number(wanted) => leaf.number() == Some(*wanted),
            Self::Bool(wanted) => *leaf == Leaf::Bool(*wanted),
            Self::Null => *leaf == Leaf::Null,
            Self::Prefix(wanted) => leaf.text().is_some_and(|text| text.starts_with(&**wanted)),
            Self::Suffix(wanted) => leaf.text().is_some_and(|text| text.ends_with(&**wanted)),
            Self::IgnoreCase(wanted) => leaf
                .text()
                .is_some_and(|text| text.to_lowercase() == **wanted),
            Self::Wildcard(pattern) => leaf.text().is_some_and(|text| pattern.matches(text)),
            Self::Cidr(block) => {
                let address = leaf.text().and_then(Address::parse);
                address.is_some_and(|address| block.contains(address))
            }
            Self::Range(from, to) => leaf.number().is_some_and(|n| (from..=to).contains(&&n)),
            Self::Exists => leaf.is_something(),
            Self::Absent => false,
            Self::AnythingBut(excluded) => excluded.iter().all(|one| !one.holds(leaf)),
        }
    }

    /// Operator and text of a condition that is made of these.
    fn pattern(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Prefix(text) => Some(("prefix", text.to_string())),
            Self::Suffix(text) => Some(("suffix", text.to_string())),
            Self::IgnoreCase(text) => Some(("equals-ignore-case", text.to_string())),
            Self::Wildcard(pattern) => Some(("wildcard", pattern.to_string())),
            _ => None,
        }
    }
}

impl Display for Condition {
    /// As a policy says it.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Text(text) => write!(f, "{}", Value::from(&**text)),
            Self::Number(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Null => f.write_str("null"),
            Self::Prefix(_) | Self::Suffix(_) | Self::IgnoreCase(_) | Self::Wildcard(_) => {
                let (operator, text) = self.pattern().expect("these are patterns");
                write!(f, "{{\"{operator}\":{}}}", Value::from(text))
            }
            Self::Cidr(block) => write!(f, "{{\"cidr\":\"{block}\"}}"),
            Self::Range(from, to) => match (from.0, to.0) {
                (i64::MIN, _) => write!(f, "{{\"numeric\":[\"<=\",{to}]}}"),
                (_, i64::MAX) => write!(f, "{{\"numeric\":[\">=\",{from}]}}"),
                _ => write!(f, "{{\"numeric\":[\">=\",{from},\"<=\",{to}]}}"),
            },
            Self::Exists => f.write_str("{\"exists\":true}"),
            Self::Absent => f.write_str("{\"exists\":false}"),
            Self::AnythingBut(excluded) => match excluded.first().and_then(Self::pattern) {
                None => {
                    f.write_str("{\"anything-but\":")?;
                    list(excluded, f)?;
                    f.write_str("}")
                }
                Some((operator, _)) => {
                    let texts = excluded.iter().filter_map(Self::pattern);
                    let texts = Value::from_iter(texts.map(|(_, text)| text));
                    write!(f, "{{\"anything-but\":{{\"{operator}\":{texts}}}}}")
                }
            },
        }
    }
}

/// Conditions as a JSON array.
pub(super) fn list(conditions: &[Condition], f: &mut Formatter<'_>) -> Result {
    f.write_str("[")?;
    for (index, condition) in conditions.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(f, "{comma}{condition}")?;
    }
    f.write_str("]")
}
