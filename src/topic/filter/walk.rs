//! A walk through a message: its values, each with the number that its path was given.
//!
//! Bytes of a message are input from anybody. A body that is no JSON object has no values, an array
//! attribute that is no JSON array has none either, and a message that is nested too deeply is no JSON.
//! What no policy asks for is skipped and not kept, but it has to be JSON too: whether a body is JSON
//! must not depend on what is asked for.

use super::leaf::{FilterMessage, Leaf};
use super::number::Decimal;
use super::policy::Scope;
use crate::queue::{Attribute, AttributeValue};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The label of `String.Array`, whose value is a JSON array.
const ARRAY: &str = "Array";

/// Who gives numbers to paths.
pub(super) trait Paths {
    fn find(&self, path: &str) -> PathUse;
}

/// What a path is to the policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PathUse {
    /// The number of a path that clauses ask for.
    pub number: Option<u32>,
    /// Whether longer paths that begin with it are asked for.
    pub is_above: bool,
}

/// The values of a message that are asked for.
#[derive(Debug, Default)]
pub(super) struct Leaves<'a> {
    pub values: Vec<(u32, Leaf<'a>)>,
    /// Whether the message has an attribute, or its body a key, whatever it is.
    pub has_any: bool,
}

impl<'a> Leaves<'a> {
    /// Takes the values of `message` in place of what was there. Whether there is something to look
    /// at: not in a body that is no JSON object. `path` is room for paths.
    pub fn read(
        &mut self,
        message: &FilterMessage<'a>,
        scope: Scope,
        paths: &impl Paths,
        path: &mut String,
    ) -> bool {
        self.values.clear();
        self.has_any = false;
        match scope {
            Scope::Attributes => {
                for attribute in message.attributes {
                    self.attribute(attribute, paths, path);
                }
                true
            }
            Scope::Body => self.body(message.body, paths, path),
        }
    }

    fn attribute(&mut self, attribute: Attribute<'a>, paths: &impl Paths, path: &mut String) {
        let value = match attribute.value {
            AttributeValue::Binary(_) => return,
            AttributeValue::String(text) | AttributeValue::Number(text) => text,
        };
        self.has_any = true;
        let Some(number) = paths.find(attribute.name).number else {
            return;
        };
        let leaf = match attribute.value {
            _ if attribute.label == Some(ARRAY) => {
                path.clear();
                path.push_str(attribute.name);
                self.json(value.as_bytes(), b'[', Shape::Array, paths, path);
                return;
            }
            AttributeValue::String(_) => Leaf::Text(Cow::Borrowed(value)),
            _ => Leaf::Number(Decimal::of_text(value)),
        };
        self.values.push((number, leaf));
    }

    fn body(&mut self, body: &'a [u8], paths: &impl Paths, path: &mut String) -> bool {
        path.clear();
        self.json(body, b'{', Shape::Any, paths, path)
    }

    /// The values of JSON that begins with `first`. Nothing was added if it is none.
    fn json(
        &mut self,
        text: &'a [u8],
        first: u8,
        shape: Shape,
        paths: &impl Paths,
        path: &mut String,
    ) -> bool {
        if text.trim_ascii_start().first() != Some(&first) {
            return false;
        }
        let (before, had_any) = (self.values.len(), self.has_any);
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let place = if path.is_empty() {
            PathUse::default()
        } else {
            paths.find(path)
        };
        let walk = Walk {
            leaves: self,
            paths,
            path,
            place,
            shape,
        };
        let walked = walk.deserialize(&mut deserializer);
        let is_json = walked.and_then(|()| deserializer.end()).is_ok();
        if !is_json {
            self.values.truncate(before);
            self.has_any = had_any;
        }
        is_json
    }
}

/// What is looked into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Any,
    /// An array, and nothing in its elements.
    Array,
    /// An element of that.
    Element,
}

/// One place in a message.
struct Walk<'w, 'a, P> {
    leaves: &'w mut Leaves<'a>,
    paths: &'w P,
    path: &'w mut String,
    place: PathUse,
    shape: Shape,
}

impl<'a, P> Walk<'_, 'a, P> {
    fn leaf(self, leaf: Leaf<'a>) {
        if let Some(number) = self.place.number {
            self.leaves.values.push((number, leaf));
        }
    }
}

impl<'de, P: Paths> DeserializeSeed<'de> for Walk<'_, 'de, P> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, P: Paths> Visitor<'de> for Walk<'_, 'de, P> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.leaf(Leaf::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.leaf(Leaf::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.leaf(Leaf::Number(Decimal::of_i64(value)));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.leaf(Leaf::Number(Decimal::of_u64(value)));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.leaf(Leaf::Number(Decimal::of_f64(value)));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        self.leaf(Leaf::Text(Cow::Borrowed(value)));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        if self.place.number.is_some() {
            self.leaf(Leaf::Text(Cow::Owned(value.to_owned())));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let shape = match self.shape {
            Shape::Any => Shape::Any,
            Shape::Array => Shape::Element,
            Shape::Element => {
                while values.next_element::<Skipped>()?.is_some() {}
                return Ok(());
            }
        };
        loop {
            let element = Walk {
                leaves: &mut *self.leaves,
                paths: self.paths,
                path: &mut *self.path,
                place: self.place,
                shape,
            };
            if values.next_element_seed(element)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let end = self.path.len();
        let is_root = end == 0;
        if self.shape != Shape::Any || !(is_root || self.place.is_above) {
            while entries.next_entry::<Skipped, Skipped>()?.is_some() {}
            return Ok(());
        }
        let key = Key {
            path: &mut *self.path,
            end,
        };
        let mut found = entries.next_key_seed(key)?;
        while found.is_some() {
            self.leaves.has_any |= is_root;
            let place = self.paths.find(self.path);
            if place == PathUse::default() {
                entries.next_value::<Skipped>()?;
            } else {
                entries.next_value_seed(Walk {
                    leaves: &mut *self.leaves,
                    paths: self.paths,
                    path: &mut *self.path,
                    place,
                    shape: Shape::Any,
                })?;
            }
            let key = Key {
                path: &mut *self.path,
                end,
            };
            found = entries.next_key_seed(key)?;
        }
        self.path.truncate(end);
        Ok(())
    }
}

/// A key, appended to the path of its object.
struct Key<'p> {
    path: &'p mut String,
    end: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        self.path.truncate(self.end);
        if self.end > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        Ok(())
    }
}

/// JSON that nobody asks for. It is parsed as any other, escapes and numbers too, which
/// `serde::de::IgnoredAny` would let pass unseen.
struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Skipped {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}
