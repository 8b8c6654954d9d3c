//! Filter policies, as simply as can be: the JSON of the policy against the JSON of the message, one
//! condition after the other. It shares no line with the library.

use serde_json::Value;

/// Values by path.
pub type Flat = Vec<(String, Value)>;

const OPERATORS: [&str; 8] = [
    "prefix",
    "suffix",
    "anything-but",
    "numeric",
    "exists",
    "cidr",
    "equals-ignore-case",
    "wildcard",
];

/// A message as its values by path, and whether it has anything at all.
pub fn flatten(object: &Value) -> (Flat, bool) {
    let mut flat = Vec::new();
    into(&mut flat, "", object);
    (
        flat,
        object.as_object().is_some_and(|keys| !keys.is_empty()),
    )
}

fn into(flat: &mut Flat, path: &str, value: &Value) {
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                into(flat, &join(path, key), value);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| into(flat, path, value)),
        leaf => flat.push((path.to_owned(), leaf.clone())),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Whether the keys of a policy, which are below `path`, all hold.
pub fn matches(policy: &Value, path: &str, message: &(Flat, bool)) -> bool {
    policy
        .as_object()
        .unwrap()
        .iter()
        .all(|(key, wanted)| match wanted {
            Value::Array(objects) if key == "$or" && is_or(objects) => {
                objects.iter().any(|object| matches(object, path, message))
            }
            Value::Array(conditions) => {
                let path = join(path, key);
                let found: Vec<&Value> = message
                    .0
                    .iter()
                    .filter(|(at, _)| *at == path)
                    .map(|(_, v)| v)
                    .collect();
                conditions
                    .iter()
                    .any(|condition| match condition.get("exists") {
                        Some(Value::Bool(false)) => found.is_empty() && message.1,
                        _ => found.iter().any(|value| holds(condition, value)),
                    })
            }
            below => matches(below, &join(path, key), message),
        })
}

fn is_or(objects: &[Value]) -> bool {
    let is_one = |object: &Value| {
        let keys = object.as_object();
        keys.is_some_and(|keys| keys.keys().all(|key| !OPERATORS.contains(&key.as_str())))
    };
    objects.len() > 1 && objects.iter().all(is_one)
}

fn units(value: &Value) -> Option<i128> {
    let number = value.as_f64()?;
    (number.abs() < 9.2e13).then_some((number * 1e5).round() as i128)
}

fn equal(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::Number(_) => units(wanted).is_some() && units(wanted) == units(value),
        wanted => wanted == value,
    }
}

fn holds(condition: &Value, value: &Value) -> bool {
    let Some((operator, operand)) = condition
        .as_object()
        .and_then(|object| object.iter().next())
    else {
        return equal(condition, value);
    };
    let text = value.as_str();
    let wanted = operand.as_str().unwrap_or_default();
    match operator.as_str() {
        "exists" => !value.is_null() && text != Some(""),
        "prefix" => text.is_some_and(|text| text.starts_with(wanted)),
        "suffix" => text.is_some_and(|text| text.ends_with(wanted)),
        "equals-ignore-case" => {
            text.is_some_and(|text| text.to_lowercase() == wanted.to_lowercase())
        }
        "wildcard" => text.is_some_and(|text| wildcard(wanted, text)),
        "cidr" => text.is_some_and(|text| cidr(wanted, text)),
        "numeric" => operand.as_array().unwrap().chunks(2).all(|bound| {
            let (Some(value), Some(bound_value)) = (units(value), units(&bound[1])) else {
                return false;
            };
            match bound[0].as_str().unwrap() {
                "=" => value == bound_value,
                "<" => value < bound_value,
                "<=" => value <= bound_value,
                ">" => value > bound_value,
                _ => value >= bound_value,
            }
        }),
        _ => match operand {
            Value::Object(pattern) => {
                let (operator, operand) = pattern.iter().next().unwrap();
                let list = match operand {
                    Value::Array(list) => list.clone(),
                    one => vec![one.clone()],
                };
                !list
                    .into_iter()
                    .any(|one| holds(&serde_json::json!({operator: one}), value))
            }
            Value::Array(list) => !list.iter().any(|one| equal(one, value)),
            one => !equal(one, value),
        },
    }
}

fn wildcard(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return text.is_empty();
    };
    let rest = &pattern[first.len_utf8()..];
    if first == '*' {
        let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        return ends.into_iter().any(|at| wildcard(rest, &text[at..]));
    }
    let (wanted, rest) = match first {
        '\\' => (rest.chars().next().unwrap(), &rest[1..]),
        other => (other, rest),
    };
    text.strip_prefix(wanted)
        .is_some_and(|text| wildcard(rest, text))
}

fn cidr(block: &str, text: &str) -> bool {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let (address, bits) = block.split_once('/').unwrap();
    let bits: usize = bits.parse().unwrap();
    let bits_of = |text: &str| -> Option<String> {
        let v4 = text
            .parse()
            .map(|v4: Ipv4Addr| format!("{:032b}", v4.to_bits()));
        let v6 = text
            .parse()
            .map(|v6: Ipv6Addr| format!("{:0128b}", v6.to_bits()));
        v4.or(v6).ok()
    };
    let (Some(first), Some(found)) = (bits_of(address), bits_of(text)) else {
        return false;
    };
    first.len() == found.len() && first[..bits] == found[..bits]
}
