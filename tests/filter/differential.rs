//! The index against looking at each policy, on policies and messages that are made up: from few keys and
//! values, so that they often meet. Policies come and go between the messages.
//!
//! `RINGWAY_EXECUTIONS=n` makes n pairs of a policy and a message in each scope.

use super::naive;
use ringway::filter::{FilterIndex, FilterMessage, Matches, Policy, PolicyLimits, Scope};
use ringway_harness::seed::{self, Random};
use serde_json::{Map, Value, json};

#[path = "../hostile/effort.rs"]
mod effort;

/// Policies in the index at a time.
const POLICIES: usize = 200;
const KEYS: [&str; 5] = ["a", "b", "c", "a.b", "kind"];
const TEXTS: [&str; 16] = [
    "",
    "a",
    "ab",
    "abc",
    "ABC",
    "abcabc",
    "aXc",
    "football",
    "foot",
    "ball",
    "10.0.0.7",
    "10.0.1.9",
    "2001:db8::1",
    "straße",
    "STRASSE",
    "a*b",
];
const PATTERNS: [&str; 12] = [
    "*", "a*", "*c", "a*c", "*b*", "f*t*l", "abc", "", "*ß*", "a\\*b", "*oo*all", "*abcab*",
];
const BLOCKS: [&str; 6] = [
    "10.0.0.0/24",
    "10.0.0.0/8",
    "10.0.0.7/32",
    "0.0.0.0/0",
    "2001:db8::/32",
    "::/0",
];
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "1.0",
    "2.5",
    "-3",
    "100",
    "100.00001",
    "1e2",
    "5e9",
    "0.1",
    "1e18",
    "99.999994",
];

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len() as u64) as usize]
}

fn text(random: &mut Random) -> Value {
    pick(random, &TEXTS).into()
}

fn number(random: &mut Random) -> Value {
    serde_json::from_str(pick(random, &NUMBERS)).unwrap()
}

/// A number that a policy may have whatever its limits.
fn bound(random: &mut Random) -> Value {
    loop {
        let number = number(random);
        if number.as_f64().unwrap() < 1e13 {
            return number;
        }
    }
}

fn value(random: &mut Random) -> Value {
    match random.below(10) {
        0..5 => text(random),
        5..8 => bound(random),
        8 => json!(random.percent(50)),
        _ => Value::Null,
    }
}

fn several(random: &mut Random, make: impl Fn(&mut Random) -> Value) -> Value {
    (0..1 + random.below(3)).map(|_| make(random)).collect()
}

fn condition(random: &mut Random) -> Value {
    let pattern = |random: &mut Random| Value::from(pick(random, &PATTERNS));
    match random.below(15) {
        0..4 => value(random),
        4 => json!({"prefix": text(random)}),
        5 => json!({"suffix": text(random)}),
        6 => json!({"equals-ignore-case": text(random)}),
        7 | 8 => json!({"wildcard": pattern(random)}),
        9 => json!({"cidr": pick(random, &BLOCKS)}),
        10 => json!({"exists": random.percent(50)}),
        11 | 12 => {
            let (low, high) = (bound(random), bound(random));
            match random.below(3) {
                0 if low.as_f64() < high.as_f64() => {
                    let (from, to) = (pick(random, &[">", ">="]), pick(random, &["<", "<="]));
                    json!({"numeric": [from, low, to, high]})
                }
                1 => json!({"numeric": ["=", low]}),
                _ => json!({"numeric": [pick(random, &["<", "<=", ">", ">="]), low]}),
            }
        }
        _ => match random.below(5) {
            0 => json!({"anything-but": value(random)}),
            1 => json!({"anything-but": several(random, value)}),
            2 => json!({"anything-but": {"prefix": several(random, text)}}),
            3 => json!({"anything-but": {"suffix": text(random)}}),
            _ => json!({"anything-but": {"wildcard": several(random, pattern)}}),
        },
    }
}

fn policy(random: &mut Random, scope: Scope, depth: u64) -> Value {
    let mut keys = Map::new();
    for _ in 0..1 + random.below(3) {
        let key = pick(random, &KEYS).to_owned();
        let nested = scope == Scope::Body && depth < 2 && random.percent(20);
        let wanted = if nested {
            policy(random, scope, depth + 1)
        } else {
            several(random, condition)
        };
        keys.insert(key, wanted);
    }
    if depth < 2 && random.percent(15) {
        let make = |random: &mut Random| policy(random, scope, depth + 1);
        keys.insert("$or".into(), json!([make(random), make(random)]));
    }
    Value::Object(keys)
}

fn message(random: &mut Random, scope: Scope, depth: u64) -> Value {
    let mut keys = Map::new();
    for _ in 0..random.below(5) {
        let is_body = scope == Scope::Body;
        let leaf = |random: &mut Random| {
            if random.percent(25) {
                number(random)
            } else {
                value(random)
            }
        };
        let found = match random.below(10) {
            0..2 if is_body && depth < 2 => message(random, scope, depth + 1),
            2 if is_body && depth < 2 => {
                several(random, |random| message(random, scope, depth + 1))
            }
            3 | 4 => several(random, leaf),
            5 => json!([]),
            // An attribute has no other types, and is not empty.
            _ if !is_body => loop {
                let found = leaf(random);
                if found.is_number() || found.as_str().is_some_and(|text| !text.is_empty()) {
                    break found;
                }
            },
            _ => leaf(random),
        };
        keys.insert(pick(random, &KEYS).to_owned(), found);
    }
    Value::Object(keys)
}

/// The attributes that say the same as the keys of a message.
fn attributes(message: &Value) -> ringway::Attributes {
    let keys = message.as_object().unwrap().iter();
    let given: Vec<(&str, &str, String)> = keys
        .map(|(key, value)| match value {
            Value::String(text) => (key.as_str(), "String", text.clone()),
            Value::Array(_) => (key.as_str(), "String.Array", value.to_string()),
            _ => (key.as_str(), "Number", value.to_string()),
        })
        .collect();
    let given: Vec<_> = given.iter().map(|(n, t, v)| (*n, *t, v.as_str())).collect();
    super::attributes(&given)
}

fn compare(scope: Scope) {
    let seed = seed::announce(&format!("{scope:?}"));
    let mut random = Random::new(seed);
    let pairs = effort::executions(200_000, 5_000_000);
    let mut index = FilterIndex::new();
    let mut policies: Vec<(Value, Policy)> = Vec::new();
    let (mut matches, mut matched) = (Matches::new(), 0);
    for round in 0..pairs.div_ceil(POLICIES as u64) {
        for _ in 0..if round == 0 {
            POLICIES as u64
        } else {
            random.below(8)
        } {
            let json = policy(&mut random, scope, 0);
            let parsed = Policy::parse(&json.to_string(), scope, &PolicyLimits::NONE);
            let parsed = parsed.unwrap_or_else(|error| panic!("{json}: {error}"));
            if policies.len() < POLICIES {
                policies.push((json, parsed));
                let place = policies.len() - 1;
                assert!(index.insert(place as u64, Some(&policies[place].1)));
                continue;
            }
            let place = random.below(POLICIES as u64) as usize;
            policies[place] = (json, parsed);
            // In its place, or away and back.
            if random.percent(50) {
                assert!(index.remove(place as u64) && !index.remove(place as u64));
            }
            index.insert(place as u64, Some(&policies[place].1));
        }
        let message = message(&mut random, scope, 0);
        let (attributes, body) = match scope {
            Scope::Attributes => (attributes(&message), Vec::new()),
            Scope::Body => (ringway::Attributes::new(), message.to_string().into_bytes()),
        };
        let seen = FilterMessage {
            attributes: attributes.as_ref(),
            body: &body,
        };
        let mut found = index.matches(&seen, &mut matches).to_vec();
        found.sort_unstable();
        let flat = naive::flatten(&message);
        for (place, (json, parsed)) in policies.iter().enumerate() {
            let wanted = naive::matches(json, "", &flat);
            let what = || format!("RINGWAY_SEED={seed}: {json} and {message}");
            assert_eq!(parsed.matches(&seen), wanted, "alone, {}", what());
            assert_eq!(
                found.binary_search(&(place as u64)).is_ok(),
                wanted,
                "{}",
                what()
            );
            matched += u64::from(wanted);
        }
        let count = found.len();
        found.dedup();
        assert_eq!(found.len(), count, "RINGWAY_SEED={seed}: each once");
    }
    let more = [("matched", matched), ("seed", seed)];
    effort::report(&format!("filter policies, {scope:?}"), pairs, 0, &more);
    // Where everything or nothing matches, nothing is compared.
    assert!(
        (pairs / 50..pairs / 2).contains(&matched),
        "{matched} of {pairs}"
    );
    for place in 0..POLICIES as u64 {
        assert!(index.remove(place));
    }
    assert!(
        index.is_empty() && index.is_fresh(),
        "what was inserted is gone"
    );
}

#[test]
fn the_index_finds_what_looking_at_each_policy_finds_in_attributes() {
    compare(Scope::Attributes);
}

#[test]
fn the_index_finds_what_looking_at_each_policy_finds_in_bodies() {
    compare(Scope::Body);
}
