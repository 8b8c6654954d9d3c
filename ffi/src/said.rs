//! What a C program says about a message, taken over and checked: to queues and to topics alike.

use crate::argument::{self, Sized0, given, switch};
use crate::code::{Code, Failure};
use crate::handle::{Kept, with};
use crate::layout::{Attribute, OutgoingStruct};
use core::ffi::c_void;
use core::time::Duration;
use ringway::{AttributeValue, Attributes, Outgoing, Publication};

/// A message; borrows from its caller until the call returns.
pub struct Said {
    body: &'static [u8],
    group: Option<&'static str>,
    dedup_id: Option<&'static str>,
    trace_header: Option<&'static str>,
    subject: Option<&'static str>,
    delay: Option<Duration>,
    is_per_protocol: bool,
    attributes: Attributes,
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

impl Said {
    /// `attributes` is memory to use again.
    pub fn of(said: &OutgoingStruct, mut attributes: Attributes) -> Result<Self, Failure> {
        attributes.clear();
        let given_in = argument::slice(said.attributes, said.attribute_count, "the attributes")?;
        for attribute in given_in {
            attributes.insert(ringway::Attribute {
                name: argument::text(attribute.name, "the name of an attribute")?,
                value: value(attribute)?,
                label: argument::optional_text(attribute.label, "the label of an attribute")?,
            })?;
        }
        Ok(Self {
            body: argument::bytes(said.body, said.len)?,
            group: argument::optional_text(said.group, "group")?,
            dedup_id: argument::optional_text(said.dedup_id, "dedup_id")?,
            trace_header: argument::optional_text(said.trace_header, "trace_header")?,
            subject: argument::optional_text(said.subject, "subject")?,
            delay: given(said.delay_ms).map(Duration::from_millis),
            is_per_protocol: switch(said.per_protocol, "per_protocol")? == Some(true),
            attributes,
        })
    }

    /// To be sent to a queue.
    pub fn outgoing(&self) -> Result<Outgoing<'_>, Failure> {
        let mut outgoing = Outgoing::new(self.body).attributes(&self.attributes);
        if let Some(delay) = self.delay {
            outgoing = outgoing.delay(delay);
        }
        if let Some(group) = self.group {
            outgoing = outgoing.group(group);
        }
        if let Some(id) = self.dedup_id {
            outgoing = outgoing.dedup_id(id);
        }
        if let Some(header) = self.trace_header {
            outgoing = outgoing.trace_header(header);
        }
        if self.subject.is_some() || self.is_per_protocol {
            let text =
                "messages of queues have no subject and no text per protocol; publish to a topic";
            return Err(Failure::new(Code::Option, text));
        }
        Ok(outgoing)
    }

    /// To be published to a topic.
    pub fn publication(&self) -> Result<Publication<'_>, Failure> {
        let mut publication = Publication::new(self.body).attributes(&self.attributes);
        if let Some(group) = self.group {
            publication = publication.group(group);
        }
        if let Some(id) = self.dedup_id {
            publication = publication.dedup_id(id);
        }
        if let Some(header) = self.trace_header {
            publication = publication.trace_header(header);
        }
        if let Some(header) = self.trace_header {
            publication = publication.trace_header(header);
        }
        if self.is_per_protocol {
            publication = publication.per_protocol();
        }
        if let Some(subject) = self.subject {
            publication = publication.subject(subject);
        }
        if self.delay.is_some() {
            let text = "what is published is not delayed; give the queue a delay";
            return Err(Failure::new(Code::Option, text));
        }
        Ok(publication)
    }

    /// The memory, to be used again.
    pub fn into_attributes(self) -> Attributes {
        self.attributes
    }
}

/// The structs of an array whose elements have the size of the first, each a copy.
pub fn structs<T: Sized0>(
    first: *const T,
    count: usize,
    what: &str,
) -> Result<impl Iterator<Item = Result<T, Failure>>, Failure> {
    let none = || Failure::new(Code::Argument, format!("{what} is NULL"));
    let size = match count {
        0 => size_of::<T>(),
        _ => {
            // The first says how long each is.
            argument::sized(first, what)?.ok_or_else(none)?;
            // SAFETY: not null and aligned, as was just checked; its first field is its size.
            unsafe { first.cast::<usize>().read() }
        }
    };
    let bytes: &[u8] = argument::slice(first.cast(), count.saturating_mul(size), what)?;
    let what = what.to_owned();
    Ok(bytes.chunks_exact(size).map(move |one| {
        argument::sized(one.as_ptr().cast(), &what)?
            .ok_or_else(|| Failure::new(Code::Argument, format!("{what} is NULL")))
    }))
}

/// Gives each of a batch what became of it: of those that could be taken over what `send` says, in their
/// order, of the others why not.
pub fn each<P: Copy, T>(
    taken: &[Result<P, Failure>],
    send: impl FnOnce(&[P]) -> Vec<Result<T, Failure>>,
    mut place: impl FnMut(usize, Result<T, Failure>),
) {
    let whole: Vec<P> = taken.iter().filter_map(|one| one.ok()).collect();
    let mut outcomes = send(&whole).into_iter();
    for (at, one) in taken.iter().enumerate() {
        match one {
            Err(failure) => place(at, Err(*failure)),
            Ok(_) => {
                let missing = || Failure::new(Code::Other, "a message without an outcome");
                place(at, outcomes.next().unwrap_or_else(|| Err(missing())));
            }
        }
    }
}

/// Who takes messages with what is said about them: a sender, a publisher.
pub trait Carrier: Kept {
    /// What it takes,
    type Message<'a>: Copy;
    /// what it says became of one,
    type Outcome;
    /// and how that is told.
    type Out: 'static;

    /// Memory for the attributes of a message sent alone.
    fn memory(&mut self) -> &mut Attributes;
    fn message(said: &Said) -> Result<Self::Message<'_>, Failure>;
    fn one(&mut self, message: &Self::Message<'_>) -> Result<Self::Outcome, Failure>;
    fn batch(&mut self, messages: &[Self::Message<'_>]) -> Vec<Result<Self::Outcome, Failure>>;
    fn out(outcome: Result<Self::Outcome, Failure>) -> Self::Out;
}

/// One message, whose attributes need no memory of their own.
fn carry_one<C: Carrier>(
    carrier: &mut C,
    only: Option<Result<OutgoingStruct, Failure>>,
) -> Result<C::Outcome, Failure> {
    let only = only.ok_or_else(|| Failure::new(Code::Argument, "no message"))??;
    let said = Said::of(&only, core::mem::take(carrier.memory()))?;
    let outcome = carrier.one(&C::message(&said)?)?;
    *carrier.memory() = said.into_attributes();
    Ok(outcome)
}

/// Takes over the messages of a call, has them sent, and says of each what became of it.
pub fn carry<C: Carrier>(
    carrier: *mut c_void,
    messages: *const OutgoingStruct,
    count: usize,
    outcomes: *mut C::Out,
    prepare: impl FnOnce(&mut C),
) -> Result<Code, Failure> {
    let places = argument::room(outcomes, count, "the outcomes")?;
    let mut said = structs(messages, count, "messages")?;
    with::<C>(carrier, |carrier| {
        prepare(carrier);
        if let [place] = places {
            place.write(C::out(carry_one(carrier, said.next())));
            return Ok(Code::Ok);
        }
        let said: Vec<_> = said.map(|one| Said::of(&one?, Attributes::new())).collect();
        let taken: Vec<_> = said
            .iter()
            .map(|one| C::message(one.as_ref().map_err(|failure| *failure)?))
            .collect();
        let send = |whole: &[C::Message<'_>]| carrier.batch(whole);
        each(&taken, send, |at, outcome| {
            places[at].write(C::out(outcome));
        });
        Ok(Code::Ok)
    })
}
