//! Filter policies do what the documentation of SNS says, and the index of many finds what looking at
//! each of them finds.

mod cases;
mod differential;
mod naive;
mod refusals;

use ringway::filter::{FilterIndex, FilterMessage, Matches, Policy, PolicyLimits, Scope};
use ringway::{Attribute, AttributeValue, Attributes};

/// The policy, with the limits of SNS.
fn policy(text: &str, scope: Scope) -> Policy {
    Policy::parse(text, scope, &PolicyLimits::SNS).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Attributes as `(name, type, value)`.
fn attributes(given: &[(&str, &str, &str)]) -> Attributes {
    let mut attributes = Attributes::new();
    for (name, data_type, value) in given {
        let (kind, label) = match data_type.split_once('.') {
            Some((kind, label)) => (kind, Some(label)),
            None => (*data_type, None),
        };
        let value = match kind {
            "String" => AttributeValue::String(value),
            "Number" => AttributeValue::Number(value),
            _ => AttributeValue::Binary(value.as_bytes()),
        };
        let added = attributes.insert(Attribute { name, value, label });
        added.expect("attributes by the rules");
    }
    attributes
}

/// Whether a policy matches, as the policy alone and an index say.
fn agreed(policy: &Policy, message: &FilterMessage<'_>) -> bool {
    let alone = policy.matches(message);
    let mut index = FilterIndex::new();
    index.insert(1, Some(policy));
    let found = index.matches(message, &mut Matches::new()).to_vec();
    assert_eq!(found, if alone { vec![1] } else { vec![] }, "{policy:?}");
    alone
}

/// Whether a policy matches a body.
fn body(text: &str, body: &str) -> bool {
    let message = FilterMessage {
        body: body.as_bytes(),
        ..FilterMessage::default()
    };
    agreed(&policy(text, Scope::Body), &message)
}

/// Whether a policy matches attributes.
fn with(text: &str, given: &[(&str, &str, &str)]) -> bool {
    let attributes = attributes(given);
    let message = FilterMessage {
        attributes: attributes.as_ref(),
        body: b"not looked at",
    };
    agreed(&policy(text, Scope::Attributes), &message)
}
