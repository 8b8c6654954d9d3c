//! What travels beside a body: attributes to be sent, messages received whole.

use crate::argument;
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, with};
use crate::layout::{Attribute, FIRST_MESSAGE_PARTS, MessageParts};
use core::ffi::{c_char, c_void};
use ringway::{AttributeValue, Attributes, Incoming};

/// Attributes to be sent.
#[derive(Default)]
pub struct AttributesHandle(pub Attributes);

/// A received message. C's strings end with a 0, which those of a message don't: they are copied when
/// they are first asked for.
#[derive(Default)]
pub struct MessageHandle {
    incoming: Incoming,
    /// Strings with their final 0, one behind the other.
    strings: Vec<u8>,
    /// Of group, deduplication id and trace header.
    parts: [Option<usize>; 3],
    /// Of the name and label of each attribute.
    attributes: Vec<(usize, Option<usize>)>,
    is_indexed: bool,
}

impl MessageHandle {
    /// To be filled.
    pub fn incoming(&mut self) -> &mut Incoming {
        self.is_indexed = false;
        &mut self.incoming
    }

    fn index(&mut self) {
        if self.is_indexed {
            return;
        }
        self.strings.clear();
        self.attributes.clear();
        let strings = &mut self.strings;
        let mut add = |text: &str| {
            let at = strings.len();
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let incoming = &self.incoming;
        self.parts = [
            incoming.group(),
            incoming.dedup_id(),
            incoming.trace_header(),
        ]
        .map(|part| part.map(&mut add));
        for attribute in incoming.attributes() {
            let name = add(attribute.name);
            self.attributes.push((name, attribute.label.map(&mut add)));
        }
        self.is_indexed = true;
    }

    fn string(&self, at: Option<usize>) -> *const c_char {
        at.and_then(|at| self.strings.get(at..))
            .map_or(core::ptr::null(), |string| string.as_ptr().cast())
    }

    fn parts(&mut self) -> MessageParts {
        self.index();
        let origin = self.incoming.origin();
        let body = self.incoming.body();
        MessageParts {
            body: body.as_ptr().cast(),
            len: body.len(),
            group: self.string(self.parts[0]),
            dedup_id: self.string(self.parts[1]),
            trace_header: self.string(self.parts[2]),
            attributes: self.attributes.len(),
            sender: self.incoming.sender().0.into(),
            origin_queue: origin.map_or(0, |origin| origin.queue),
            origin_position: origin.map_or(0, |origin| origin.position),
            origin_receives: origin.map_or(0, |origin| origin.receives.into()),
        }
    }

    fn attribute(
        &mut self,
        is_it: impl Fn(usize, &ringway::Attribute<'_>) -> bool,
    ) -> Option<Attribute> {
        self.index();
        let attributes = self.incoming.attributes().into_iter().enumerate();
        let (index, found) = attributes
            .into_iter()
            .find(|(index, one)| is_it(*index, one))?;
        let (name, label) = *self.attributes.get(index)?;
        Some(Attribute {
            name: self.string(Some(name)),
            label: self.string(label),
            value: found.bytes().as_ptr().cast(),
            len: found.bytes().len(),
            data_type: match found.value {
                AttributeValue::String(_) => 1,
                AttributeValue::Number(_) => 2,
                AttributeValue::Binary(_) => 3,
            },
            reserved: 0,
        })
    }
}

#[cold]
fn no_attribute() -> Failure {
    Failure::new(Code::NotFound, "the message has no such attribute")
}

fn value(attribute: &Attribute) -> Result<AttributeValue<'static>, Failure> {
    let bytes = argument::bytes(attribute.value, attribute.len)?;
    let text = || {
        core::str::from_utf8(bytes)
            .map_err(|_| Failure::new(Code::Attribute, "the value is no UTF-8; send it as binary"))
    };
    match attribute.data_type {
        1 => Ok(AttributeValue::String(text()?)),
        2 => Ok(AttributeValue::Number(text()?)),
        3 => Ok(AttributeValue::Binary(bytes)),
        _ => {
            let text = "data_type is none of the constants of ringway.h";
            Err(Failure::new(Code::Argument, text))
        }
    }
}

abi! {
    /// Attributes to send.
    fn ringway_attributes_open(attributes: *mut *mut c_void) {
        let out = argument::out(attributes, "attributes")?;
        out.write(keep(AttributesHandle::default())?);
        Ok(Code::Ok)
    }

    /// Adds one.
    fn ringway_attributes_add(attributes: *mut c_void, attribute: *const Attribute) {
        let given = argument::read(attribute, "attribute")?;
        let name = argument::text(given.name, "the name")?;
        let label = argument::optional_text(given.label, "the label")?;
        let value = value(&given)?;
        with::<AttributesHandle>(attributes, |attributes| {
            attributes.0
                .insert(ringway::Attribute { name, value, label })
                .map_err(Failure::from)?;
            Ok(Code::Ok)
        })
    }

    /// Memory for received messages.
    fn ringway_message_open(message: *mut *mut c_void) {
        let out = argument::out(message, "message")?;
        out.write(keep(MessageHandle::default())?);
        Ok(Code::Ok)
    }

    /// What lies in it.
    fn ringway_message_parts(
        message: *const c_void,
        parts: *mut MessageParts,
        size: usize,
    ) {
        with::<MessageHandle>(message, |message| {
            argument::write_known(&message.parts(), FIRST_MESSAGE_PARTS, parts, size, "parts")
        })
    }

    /// An attribute of it by number.
    fn ringway_message_attribute(
        message: *const c_void,
        index: usize,
        attribute: *mut Attribute,
    ) {
        let out = argument::out(attribute, "attribute")?;
        with::<MessageHandle>(message, |message| {
            out.write(message.attribute(|at, _| at == index).ok_or_else(no_attribute)?);
            Ok(Code::Ok)
        })
    }

    /// An attribute of it by name.
    fn ringway_message_find(
        message: *const c_void,
        name: *const c_char,
        attribute: *mut Attribute,
    ) {
        let out = argument::out(attribute, "attribute")?;
        let name = argument::text(name, "name")?;
        with::<MessageHandle>(message, |message| {
            let found = message.attribute(|_, one| one.name == name);
            out.write(found.ok_or_else(no_attribute)?);
            Ok(Code::Ok)
        })
    }
}
