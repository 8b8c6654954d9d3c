//! Which topics may deliver to a queue: its policy (`Policy` of SQS), in the language of AWS.
//!
//! A queue without a policy takes messages from every topic: who may write to the bus may do as much himself.
//! One with a policy takes those that a statement allows and none denies. The policy is asked by whoever hands
//! messages on. What is not known here is refused when a policy is set, so that none says less than it seems to.
//!
//! A topic has the ARN `arn:aws:sns:BUS:000000000000:TOPIC`, and `arn:aws:sns:local:000000000000:TOPIC` on the bus
//! of the queue, as notifications say it (a topic of another bus that is really called `local` has `bus.local` in that
//! place, which is no name of a bus); a queue `arn:aws:sqs:local:000000000000:QUEUE`. Source: "Basic examples of
//! Amazon SQS policies", "IAM JSON policy elements reference".

use serde_json::{Map, Value};

/// Longest policy.
pub(crate) const MAX_POLICY_BYTES: usize = 20_480;
/// The service that delivers what topics publish.
const SERVICE: &str = "sns.amazonaws.com";
/// The bus of the queue, in an ARN.
const LOCAL: &str = "local";
/// Another bus that is called so.
const CALLED_LOCAL: &str = "bus.local";
/// What a statement may be about.
const ACTIONS: [&str; 3] = ["sqs:sendmessage", "sqs:*", "*"];

/// A queue's policy, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuePolicy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    allows: bool,
    /// Whether it speaks of what topics deliver.
    is_of_topics: bool,
    /// Patterns of the queue, one of which has to match.
    resources: Vec<String>,
    /// Of the topic: of each condition one has to match.
    conditions: Vec<Vec<Pattern>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    has_wildcards: bool,
}

/// A topic, as a policy knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub bus: &'a str,
    pub topic: &'a str,
    /// Whether that is the queue's bus.
    pub is_neighbour: bool,
}

impl QueuePolicy {
    /// Reads a policy.
    ///
    /// # Errors
    /// What is wrong with it, or not known here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = |reason: String| format!("Invalid value for the parameter Policy: {reason}");
        if text.len() > MAX_POLICY_BYTES {
            return Err(invalid(format!(
                "it has {} bytes, {MAX_POLICY_BYTES} are possible",
                text.len()
            )));
        }
        let parsed: Value = serde_json::from_str(text)
            .map_err(|error| invalid(format!("it is no JSON ({error})")))?;
        let Value::Object(policy) = parsed else {
            return Err(invalid("it is no JSON object".to_owned()));
        };
        Self::of(&policy).map_err(invalid)
    }

    fn of(policy: &Map<String, Value>) -> Result<Self, String> {
        known(policy, &["Version", "Id", "Statement"])?;
        let versions = [None, Some("2012-10-17"), Some("2008-10-17")];
        if !versions.contains(
            &policy
                .get("Version")
                .map(|version| version.as_str().unwrap_or("")),
        ) {
            return Err("Version must be 2012-10-17 or 2008-10-17".to_owned());
        }
        let statements = match policy.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().map(Statement::of).collect(),
            Some(one @ Value::Object(_)) => Statement::of(one).map(|one| vec![one]),
            _ => Err("Statement must be an object or a list of them".to_owned()),
        };
        Ok(Self {
            statements: statements?,
        })
    }

    /// Whether it lets a topic deliver to `queue`.
    pub(crate) fn allows(&self, queue: &str, source: &Source<'_>) -> bool {
        let queue = format!("arn:aws:sqs:local:000000000000:{queue}");
        let topic = |bus| arn(bus, source.topic);
        let names = match (source.is_neighbour, source.bus) {
            (true, bus) => vec![topic(LOCAL), topic(bus)],
            (false, LOCAL) => vec![topic(CALLED_LOCAL)],
            (false, bus) => vec![topic(bus)],
        };
        let mut is_allowed = false;
        for statement in &self.statements {
            if statement.speaks_of(&queue, &names) {
                if !statement.allows {
                    return false;
                }
                is_allowed = true;
            }
        }
        is_allowed
    }
}

fn arn(region: &str, topic: &str) -> String {
    format!("arn:aws:sns:{region}:000000000000:{topic}")
}

/// Refuses what is not one of `names`.
fn known(object: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !names.contains(&key.as_str())) {
        Some(other) => Err(format!("{other} is not known here")),
        None => Ok(()),
    }
}

/// A text, or a list of them.
fn texts(value: Option<&Value>, what: &str) -> Result<Vec<String>, String> {
    let refused = || format!("{what} must be a text or a list of texts");
    match value {
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(list)) if !list.is_empty() => {
            let texts = list.iter().map(|one| one.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(refused)
        }
        _ => Err(refused()),
    }
}

impl Statement {
    fn of(statement: &Value) -> Result<Self, String> {
        let Value::Object(statement) = statement else {
            return Err("a statement must be an object".to_owned());
        };
        let names = [
            "Sid",
            "Effect",
            "Principal",
            "Action",
            "Resource",
            "Condition",
        ];
        known(statement, &names)?;
        let allows = match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err("Effect must be Allow or Deny".to_owned()),
        };
        for action in texts(statement.get("Action"), "Action")? {
            if !ACTIONS.contains(&action.to_ascii_lowercase().as_str()) {
                return Err(format!(
                    "Action {action} can't be granted here; there is sqs:SendMessage"
                ));
            }
        }
        let conditions = match statement.get("Condition") {
            None => Vec::new(),
            Some(Value::Object(condition)) => conditions(condition)?,
            Some(_) => return Err("Condition must be an object".to_owned()),
        };
        Ok(Self {
            allows,
            is_of_topics: principal(statement.get("Principal"))?,
            resources: texts(statement.get("Resource"), "Resource")?,
            conditions,
        })
    }

    fn speaks_of(&self, queue: &str, topic: &[String]) -> bool {
        let is_source = |pattern: &Pattern| topic.iter().any(|name| pattern.matches(name));
        self.is_of_topics
            && self
                .resources
                .iter()
                .any(|resource| is_like(resource, queue))
            && self.conditions.iter().all(|any| any.iter().any(is_source))
    }
}

/// Whether a principal is who delivers what topics publish.
fn principal(principal: Option<&Value>) -> Result<bool, String> {
    let refused = || format!("Principal must be \"*\", or a Service such as {SERVICE}");
    match principal {
        Some(Value::String(all)) if all == "*" => Ok(true),
        Some(Value::Object(who)) if who.len() == 1 => match (who.get("Service"), who.get("AWS")) {
            (service @ Some(_), None) => {
                let services = texts(service, "Service")?;
                Ok(services.iter().any(|one| one == SERVICE || one == "*"))
            }
            (None, Some(Value::String(all))) if all == "*" => Ok(true),
            _ => Err(refused()),
        },
        _ => Err(refused()),
    }
}

fn conditions(condition: &Map<String, Value>) -> Result<Vec<Vec<Pattern>>, String> {
    let mut all = Vec::new();
    for (operator, keys) in condition {
        let has_wildcards = match operator.as_str() {
            "ArnEquals" | "ArnLike" | "StringLike" => true,
            "StringEquals" => false,
            other => return Err(format!("Condition {other} is not known here")),
        };
        let Value::Object(keys) = keys else {
            return Err(format!("Condition {operator} must be an object"));
        };
        for (key, values) in keys {
            if !key.eq_ignore_ascii_case("aws:SourceArn") {
                return Err(format!("{key} is not known here; there is aws:SourceArn"));
            }
            let pattern = |text| Pattern {
                text,
                has_wildcards,
            };
            all.push(texts(Some(values), key)?.into_iter().map(pattern).collect());
        }
    }
    Ok(all)
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        match self.has_wildcards {
            true => is_like(&self.text, text),
            false => self.text == text,
        }
    }
}

/// Whether `text` is as `pattern` says, in which `*` is any characters and `?` any one. The last star alone is
/// gone back to: as many steps as both have characters, multiplied.
fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut in_text) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[in_text] => {
                at += 1;
                in_text += 1;
            }
            _ => match &mut star {
                None => return false,
                Some((of_star, taken)) => {
                    *taken += 1;
                    (at, in_text) = (*of_star + 1, *taken);
                }
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_TOPIC: &str = r#"{"Version": "2012-10-17", "Statement": [{"Sid": "1", "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": "arn:aws:sqs:local:000000000000:q",
        "Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:local:000000000000:news"}}}]}"#;

    fn from<'a>(bus: &'a str, topic: &'a str) -> Source<'a> {
        Source {
            bus,
            topic,
            is_neighbour: bus == "here",
        }
    }

    #[test]
    fn what_no_statement_allows_is_not_allowed_and_what_one_denies_neither() {
        let policy = QueuePolicy::parse(ONE_TOPIC).unwrap();
        assert!(policy.allows("q", &from("here", "news")));
        assert!(!policy.allows("q", &from("here", "sport")), "another topic");
        assert!(!policy.allows("r", &from("here", "news")), "another queue");
        assert!(!policy.allows("q", &from("there", "news")), "another bus");
        let deny = r#", {"Effect": "Deny", "Principal": "*", "Action": ["SQS:*"], "Resource": "*",
            "Condition": {"StringLike": {"aws:sourcearn": ["*:new?", "*:old"]}}}]}"#;
        let denied = ONE_TOPIC
            .replace("]}", deny)
            .replace("ArnEquals", "ArnLike");
        let denied = QueuePolicy::parse(&denied).unwrap();
        assert!(!denied.allows("q", &from("here", "news")));
        let there = ONE_TOPIC.replace("sns:local", "sns:th*");
        let there = QueuePolicy::parse(&there).unwrap();
        assert!(there.allows("q", &from("there", "news")));
        assert!(!there.allows("q", &from("here", "news")));
        let exact = ONE_TOPIC
            .replace("ArnEquals", "StringEquals")
            .replace(":news", ":n*");
        let exact = QueuePolicy::parse(&exact).unwrap();
        assert!(
            exact.allows("q", &from("here", "n*")) && !exact.allows("q", &from("here", "news"))
        );
        let of_s3 = ONE_TOPIC.replace("sns.amazonaws", "s3.amazonaws");
        let of_s3 = QueuePolicy::parse(&of_s3).unwrap();
        assert!(!of_s3.allows("q", &from("here", "news")), "another service");
        assert!(!QueuePolicy::default().allows("q", &from("here", "news")));
    }

    #[test]
    fn what_is_not_known_is_refused_and_named() {
        for (of, to, says) in [
            ("Statement", "Statements", "Statements is not known"),
            ("2012-10-17", "2013-10-17", "Version must be"),
            ("Allow", "Permit", "Effect must be"),
            (
                "\"Resource\"",
                "\"NotResource\"",
                "NotResource is not known",
            ),
            (
                "sqs:SendMessage",
                "sqs:ReceiveMessage",
                "sqs:ReceiveMessage can't be granted",
            ),
            ("ArnEquals", "IpAddress", "Condition IpAddress is not known"),
            ("aws:SourceArn", "aws:SourceIp", "there is aws:SourceArn"),
            ("{\"Service\"", "{\"Federated\"", "Principal must be"),
            (
                "\"arn:aws:sns:local:000000000000:news\"",
                "5",
                "must be a text",
            ),
            ("{\"Version\"", "[\"Version\"", "no JSON"),
        ] {
            let refused = QueuePolicy::parse(&ONE_TOPIC.replace(of, to)).unwrap_err();
            assert!(refused.contains(says), "{to}: {refused}");
        }
        let long = ONE_TOPIC.replace("\"1\"", &format!("\"{}\"", "x".repeat(MAX_POLICY_BYTES)));
        assert!(QueuePolicy::parse(&long).unwrap_err().contains("20480"));
    }

    #[test]
    fn patterns_match_as_stars_and_question_marks_say() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "", false),
            ("a?c", "abc", true),
            ("**a", "bca", true),
            ("a", "ab", false),
        ] {
            assert_eq!(is_like(pattern, text), matches, "{pattern} {text}");
        }
    }
}
