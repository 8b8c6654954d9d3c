//! Messages received or heard whole, in memory that is used again and again.

use crate::argument;
use crate::code::Code;
use crate::fence::abi;
use crate::handle::{keep, with};
use crate::layout::{Attribute, FIRST_MESSAGE_PARTS, MessageParts};
use core::ffi::{c_char, c_void};
use core::ptr;
use ringway::{AttributeValue, AttributesRef, Incoming, Notification};

/// A received message. C's strings end with a 0, which those of a message don't: they are copied when
/// they are first asked for.
#[derive(Default)]
pub struct MessageHandle {
    incoming: Incoming,
    notification: Notification,
    /// Which of the two it is.
    is_heard: bool,
    /// Strings with their final 0, one behind the other.
    strings: Vec<u8>,
    /// Of group, deduplication id, trace header and subject.
    parts: [Option<usize>; 4],
    /// They point into the strings, and into the message.
    attributes: Vec<Attribute>,
    is_indexed: bool,
}

/// Appends a string; where it begins.
fn add(strings: &mut Vec<u8>, text: &str) -> usize {
    let at = strings.len();
    strings.extend_from_slice(text.as_bytes());
    strings.push(0);
    at
}

fn attribute_of(attribute: &ringway::Attribute<'_>, strings: &mut Vec<u8>) -> Attribute {
    let at = |at: usize| ptr::without_provenance(at);
    Attribute {
        // Offsets until all strings are there: they move while they grow.
        name: at(add(strings, attribute.name)),
        label: attribute
            .label
            .map_or(ptr::null(), |label| at(add(strings, label))),
        value: attribute.bytes().as_ptr().cast(),
        len: attribute.bytes().len(),
        data_type: match attribute.value {
            AttributeValue::String(_) => 1,
            AttributeValue::Number(_) => 2,
            AttributeValue::Binary(_) => 3,
        },
        reserved: 0,
    }
}

impl MessageHandle {
    /// To be filled by a receiver.
    pub fn incoming(&mut self) -> &mut Incoming {
        (self.is_indexed, self.is_heard) = (false, false);
        &mut self.incoming
    }

    /// To be filled by a listener.
    pub fn notification(&mut self) -> &mut Notification {
        (self.is_indexed, self.is_heard) = (false, true);
        &mut self.notification
    }

    fn index(&mut self) {
        if self.is_indexed {
            return;
        }
        let Self {
            incoming,
            notification,
            strings,
            attributes,
            ..
        } = self;
        strings.clear();
        attributes.clear();
        let said: [Option<&str>; 4];
        let beside: AttributesRef<'_>;
        if self.is_heard {
            said = [notification.group(), None, None, notification.subject()];
            beside = notification.attributes();
        } else {
            let (group, id) = (incoming.group(), incoming.dedup_id());
            said = [group, id, incoming.trace_header(), None];
            beside = incoming.attributes();
        }
        self.parts = said.map(|part| part.map(|text| add(strings, text)));
        for attribute in beside {
            attributes.push(attribute_of(&attribute, strings));
        }
        let all: *const c_char = strings.as_ptr().cast();
        for attribute in attributes {
            let has_label = !attribute.label.is_null();
            attribute.name = all.wrapping_add(attribute.name.addr());
            if has_label {
                attribute.label = all.wrapping_add(attribute.label.addr());
            }
        }
        self.is_indexed = true;
    }

    fn string(&self, part: usize) -> *const c_char {
        self.parts[part]
            .and_then(|at| self.strings.get(at..))
            .map_or(ptr::null(), |string| string.as_ptr().cast())
    }

    fn parts(&mut self) -> MessageParts {
        self.index();
        let (body, origin) = match self.is_heard {
            true => (self.notification.body(), None),
            false => (self.incoming.body(), self.incoming.origin()),
        };
        let mut parts = MessageParts {
            body: body.as_ptr().cast(),
            len: body.len(),
            group: self.string(0),
            dedup_id: self.string(1),
            trace_header: self.string(2),
            subject: self.string(3),
            attributes: self.attributes.as_ptr(),
            attribute_count: self.attributes.len(),
            sender: 0,
            origin_queue: origin.map_or(0, |origin| origin.queue),
            origin_position: origin.map_or(0, |origin| origin.position),
            origin_receives: origin.map_or(0, |origin| origin.receives.into()),
            message_id: [0; 2],
            published_ms: 0,
        };
        if self.is_heard {
            parts.message_id = self.notification.id().halves();
            parts.published_ms = self.notification.published_ms();
        } else {
            parts.sender = self.incoming.sender().0.into();
        }
        parts
    }
}

abi! {
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
}
