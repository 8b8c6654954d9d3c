//! Filter policies and the messages that they look at, thrown at the parsers by the million: both come
//! from whoever may subscribe or publish.
//!
//! Parsed or refused, never a panic; what is accepted matches alone as it does in an index, and leaves
//! nothing behind in it. The seed is printed and repeats the run; `RINGWAY_FULL=1` makes 10 million
//! executions.

#[path = "effort.rs"]
mod effort;

use ringway::filter::{FilterIndex, FilterMessage, Matches, Policy, PolicyLimits, Scope};
use ringway::{Attribute, AttributeValue, Attributes};
use ringway_harness::seed::{self, Random};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Policies to begin with: every operator is in one of them.
const POLICIES: [&str; 7] = [
    r#"{"a": ["x", 1, true, null], "b": {"c": [{"prefix": "p"}, {"suffix": "s"}]}}"#,
    r#"{"a": [{"anything-but": ["x", 5]}], "b": [{"anything-but": {"wildcard": ["*a", "b*"]}}]}"#,
    r#"{"a": [{"numeric": [">", -1.5, "<=", 2e3]}, {"numeric": ["=", 0]}], "b": [{"exists": false}]}"#,
    r#"{"a": [{"cidr": "10.0.0.0/8"}, {"cidr": "2001:db8::/32"}, {"exists": true}]}"#,
    r#"{"a": [{"equals-ignore-case": "ß"}, {"wildcard": "a\\*b*c"}], "a.b": ["\u00fc"]}"#,
    r#"{"$or": [{"a": [1]}, {"b": [2], "$or": [{"c": [3]}, {"d": ["x"]}]}], "e": ["x"]}"#,
    "{}",
];
const MESSAGES: [&str; 4] = [
    r#"{"a": "x", "b": {"c": ["pqs", 5]}, "d": null, "e": "x"}"#,
    r#"{"a": [1, {"b": "\u00fc"}, [[true]]], "b": "10.1.2.3", "e": -1e300}"#,
    r#"{"a": "10.1.2.3", "c": 3, "e": "x", "$or": 1}"#,
    r#"["x", 5, null, "2001:db8::7", "a*bxc"]"#,
];
/// What a change puts in.
const PIECES: [&str; 22] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "*",
    "\\",
    "1e9",
    "-0.00001",
    "99999999999999999999",
    "null",
    "\"$or\"",
    "{\"exists\": false}",
    "{\"numeric\": [\"<\", 5]}",
    "{\"wildcard\": \"*\"}",
    "\\ud800",
    "\u{fffd}",
    ".",
    "[]",
    "{}",
];

/// The text with some changes; what is no UTF-8 any more is said otherwise.
fn changed(random: &mut Random, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at.max(1)),
            3 => {
                let from = random.below(at as u64 + 1) as usize;
                let copy = bytes[from..at].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len() as u64) as usize];
                bytes.splice(at..at, piece.bytes());
            }
        }
    }
    bytes
}

fn one_of<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len() as u64) as usize]
}

/// Parses a changed policy and asks it, alone and in an index of others, about a changed message.
fn execute(random: &mut Random, index: &mut FilterIndex, matches: &mut Matches) -> bool {
    let original = one_of(random, &POLICIES);
    let text = changed(random, original);
    let text = String::from_utf8_lossy(&text);
    let scope = [Scope::Attributes, Scope::Body][random.below(2) as usize];
    let limits = [PolicyLimits::SNS, PolicyLimits::NONE][random.below(2) as usize];
    let policy = match Policy::parse(&text, scope, &limits) {
        Ok(policy) => policy,
        Err(error) => return error.to_string().is_empty() || error.reason().is_empty(),
    };
    let original = one_of(random, &MESSAGES);
    let body = changed(random, original);
    let value = String::from_utf8_lossy(&body);
    let mut attributes = Attributes::new();
    let label = random.percent(50).then_some("Array");
    for name in ["a", "b"] {
        // Also text that no attribute may have is offered, and refused.
        let value = AttributeValue::String(&value);
        drop(attributes.insert(Attribute { name, value, label }));
    }
    let message = FilterMessage {
        attributes: attributes.as_ref(),
        body: &body,
    };
    let id = random.below(64);
    index.insert(id, Some(&policy));
    let found = index.matches(&message, matches).contains(&id);
    let said = String::from_utf8_lossy(&body);
    assert_eq!(found, policy.matches(&message), "{text} {said}");
    let explained = policy.explain(&message);
    let clauses = explained.alternatives.iter().flatten();
    clauses.for_each(|clause| drop(format!("{} {:?}", clause.wanted, clause.found)));
    if random.percent(50) {
        index.remove(id);
    }
    true
}

#[test]
fn a_changed_policy_is_parsed_or_refused_and_means_one_thing() {
    let seed = seed::announce("filter policies");
    let executions = effort::executions(50_000, 10_000_000);
    let mut random = Random::new(seed);
    let (mut accepted, mut crashes) = (0, 0);
    let (mut index, mut matches) = (FilterIndex::new(), Matches::new());
    for number in 0..executions {
        let run = || execute(&mut random, &mut index, &mut matches);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(worked) => accepted += u64::from(worked),
            Err(_) => {
                crashes += 1;
                eprintln!("execution {number} of RINGWAY_SEED={seed} panicked");
                index = FilterIndex::new();
            }
        }
    }
    let more = [("accepted", accepted), ("seed", seed)];
    effort::report("parse filter policies", executions, crashes, &more);
    assert_eq!(crashes, 0, "RINGWAY_SEED={seed}");
    assert!(
        accepted > executions / 100 && accepted < executions,
        "{accepted} of {executions} accepted"
    );
    for id in 0..64 {
        index.remove(id);
    }
    assert!(index.is_fresh(), "RINGWAY_SEED={seed}: something is left");
}
