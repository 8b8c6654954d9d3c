//! What is said about messages beside their bodies, from flags: the same for every message, but for
//! what a row of a CSV file says itself.

use super::Item;
use crate::output::{Usage, parse_duration};
use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringway::{Attribute, AttributeError, AttributeValue, Attributes, Outgoing};
use std::time::Duration;

#[derive(clap::Args)]
pub struct Said {
    /// The message group [with --group-column: of rows where that column is empty]
    #[arg(long)]
    group: Option<String>,
    /// The deduplication id, of a single message
    #[arg(long, value_name = "ID", conflicts_with_all = ["lines", "csv"])]
    dedup_id: Option<String>,
    /// An attribute: name=text, name:Number=5, name:Binary=BASE64; up to ten
    #[arg(long = "attribute", value_name = "NAME[:TYPE]=VALUE", value_parser = GivenAttribute::parse)]
    attributes: Vec<GivenAttribute>,
    /// The trace header
    #[arg(long, value_name = "TEXT")]
    trace_header: Option<String>,
    /// When the messages become visible, 0 to 15m [default: what the queue says]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    delay: Option<Duration>,
}

impl Said {
    /// The attributes of every message.
    pub fn attributes(&self) -> Result<Attributes, Usage> {
        let mut attributes = Attributes::new();
        for given in &self.attributes {
            given
                .add(&mut attributes)
                .map_err(|error| Usage(format!("--attribute: {error:#}")))?;
        }
        Ok(attributes)
    }

    /// The message of an item; `attributes` are those of every message.
    pub fn about<'a>(&'a self, item: &'a Item, attributes: &'a Attributes) -> Outgoing<'a> {
        let mut message = Outgoing::new(&item.body);
        if let Some(group) = item.group.as_ref().or(self.group.as_ref()) {
            message = message.group(group);
        }
        if let Some(id) = item.dedup_id.as_ref().or(self.dedup_id.as_ref()) {
            message = message.dedup_id(id);
        }
        if let Some(header) = &self.trace_header {
            message = message.trace_header(header);
        }
        if let Some(delay) = item.delay.or(self.delay) {
            message = message.delay(delay);
        }
        message.attributes(item.attributes.as_ref().unwrap_or(attributes))
    }

    /// Whether every message has a group.
    pub fn has_group(&self) -> bool {
        self.group.is_some()
    }

    /// Whether the message has an id.
    pub fn has_dedup_id(&self) -> bool {
        self.dedup_id.is_some()
    }

    /// Whether the messages of lines are bodies and nothing else.
    pub fn is_nothing(&self) -> bool {
        self.group.is_none()
            && self.dedup_id.is_none()
            && self.attributes.is_empty()
            && self.trace_header.is_none()
            && self.delay.is_none()
    }
}

/// Name and type of an attribute as they are typed: `name`, `name:Number`, `name:Number.label`.
#[derive(Clone, Debug)]
pub struct Typed {
    pub name: String,
    kind: Kind,
    label: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    String,
    Number,
    Binary,
}

impl Typed {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, kind) = text.split_once(':').unwrap_or((text, "String"));
        let (kind, label) = match kind.split_once('.') {
            Some((kind, label)) => (kind, Some(label.to_owned())),
            None => (kind, None),
        };
        Ok(Self {
            name: name.to_owned(),
            kind: match kind {
                "String" => Kind::String,
                "Number" => Kind::Number,
                "Binary" => Kind::Binary,
                other => bail!("{other:?} is none of the types String, Number, Binary"),
            },
            label,
        })
    }

    /// Adds the attribute with a value as it is typed.
    pub fn add(&self, attributes: &mut Attributes, value: &str) -> anyhow::Result<()> {
        let decoded = match self.kind {
            Kind::Binary => BASE64_STANDARD
                .decode(value)
                .with_context(|| format!("the value of {:?} is no base64", self.name))?,
            Kind::String | Kind::Number => Vec::new(),
        };
        let value = match self.kind {
            Kind::String => AttributeValue::String(value),
            Kind::Number => AttributeValue::Number(value),
            Kind::Binary => AttributeValue::Binary(&decoded),
        };
        let added: Result<_, AttributeError> = attributes.insert(Attribute {
            name: &self.name,
            value,
            label: self.label.as_deref(),
        });
        added?;
        Ok(())
    }
}

/// An attribute as it is typed.
#[derive(Clone, Debug)]
pub struct GivenAttribute {
    name: Typed,
    value: String,
}

impl GivenAttribute {
    /// Adds it.
    pub fn add(&self, attributes: &mut Attributes) -> anyhow::Result<()> {
        self.name.add(attributes, &self.value)
    }

    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("{text:?} has no =; write name=value"))?;
        Ok(Self {
            name: Typed::parse(name)?,
            value: value.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_read_with_its_type_and_label() {
        for (text, data_type, bytes) in [
            ("city=a=b", "String", &b"a=b"[..]),
            ("n:Number=-5.5", "Number", b"-5.5"),
            ("w:Number.kg=3", "Number.kg", b"3"),
            ("b:Binary=/wA=", "Binary", b"\xff\0"),
        ] {
            let given = GivenAttribute::parse(text).unwrap();
            let mut attributes = Attributes::new();
            given.name.add(&mut attributes, &given.value).unwrap();
            let attribute = attributes.iter().next().unwrap();
            assert_eq!(
                (attribute.data_type(), attribute.bytes()),
                (data_type.into(), bytes)
            );
        }
        for wrong in ["city", "n:Float=1"] {
            assert!(GivenAttribute::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["n:Number=NA", "b:Binary=!", "e="] {
            let given = GivenAttribute::parse(wrong).unwrap();
            let added = given.name.add(&mut Attributes::new(), &given.value);
            assert!(added.is_err(), "{wrong}");
        }
    }
}
