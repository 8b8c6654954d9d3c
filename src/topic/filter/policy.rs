//! A filter policy: read, checked, and turned into alternatives of clauses.
//!
//! A clause is a path and conditions; the path of a nested key is its keys joined by periods, as SNS has
//! it, so `{"a": {"b": [1]}}` and `{"a.b": [1]}` are the same policy. An alternative holds if each of
//! its clauses does, a policy if one of its alternatives does. Without `$or` there is one alternative.

use super::condition::Condition;
use super::error::PolicyError;
use super::json::Json;
use super::operators::{self, OPERATORS};

/// Alternatives of a policy, whatever its limits: `$or`s beside each other multiply.
const MAX_ALTERNATIVES: usize = 4096;

/// Where a policy looks (`FilterPolicyScope`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// At the message's attributes (`MessageAttributes`).
    #[default]
    Attributes,
    /// At the message's body, which has to be a JSON object (`MessageBody`).
    Body,
}

/// What a policy may be at most. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Bytes of its text.
    pub bytes: Option<usize>,
    /// Keys at its top.
    pub keys: Option<usize>,
    /// The lengths of its arrays multiplied, each times the depth of its key.
    pub combinations: Option<u64>,
    /// Stars of one wildcard.
    pub stars: Option<usize>,
    /// What its wildcards count together.
    pub wildcard_points: Option<u64>,
    /// Whether numbers lie between -10⁹ and 10⁹; else up to ±9.2 × 10¹³.
    pub number_range: bool,
}

impl PolicyLimits {
    /// Those of SNS. Source: "Filter policy constraints in Amazon SNS",
    /// <https://docs.aws.amazon.com/sns/latest/dg/subscription-filter-policy-constraints.html>.
    pub const SNS: Self = Self {
        bytes: Some(256 << 10),
        keys: Some(5),
        combinations: Some(150),
        stars: Some(3),
        wildcard_points: Some(100),
        number_range: true,
    };
    /// None, but for those of the implementation: 4,096 alternatives after `$or`, 127 levels.
    pub const NONE: Self = Self {
        bytes: None,
        keys: None,
        combinations: None,
        stars: None,
        wildcard_points: None,
        number_range: false,
    };
}

impl Default for PolicyLimits {
    fn default() -> Self {
        Self::SNS
    }
}

/// A filter policy. Immutable; thread-safe.
///
/// ```
/// # #[cfg(feature = "topics")] {
/// use ringway::filter::{FilterMessage, Policy, PolicyLimits, Scope};
/// let text = r#"{"store": ["example_corp"], "price": [{"numeric": [">=", 100]}]}"#;
/// let policy = Policy::parse(text, Scope::Body, &PolicyLimits::SNS).unwrap();
/// let wants = |body: &str| {
///     let body = body.as_bytes();
///     policy.matches(&FilterMessage { body, ..Default::default() })
/// };
/// assert!(wants(r#"{"store": "example_corp", "price": 100.0}"#));
/// assert!(!wants(r#"{"store": "example_corp", "price": 99.99999}"#));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(super) scope: Scope,
    /// One of these, each of which is all of these.
    pub(super) alternatives: Vec<Vec<Clause>>,
}

/// A path, and conditions of which a value there has to fulfil one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clause {
    pub path: String,
    /// In order, without repeats.
    pub conditions: Vec<Condition>,
}

impl Policy {
    /// Reads and checks a policy. `{}` wants everything. Allocates; blocks on nothing.
    ///
    /// # Errors
    /// [`PolicyError`] says which rule it breaks.
    pub fn parse(text: &str, scope: Scope, limits: &PolicyLimits) -> Result<Self, PolicyError> {
        if let Some(max) = limits.bytes
            && text.len() > max
        {
            let bytes = text.len();
            return Err(PolicyError::TooLong { bytes, max });
        }
        let Json::Object(keys) = Json::parse(text)? else {
            return Err(PolicyError::NotAnObject);
        };
        if let Some(max) = limits.keys
            && keys.len() > max
        {
            let keys = keys.len();
            return Err(PolicyError::TooManyKeys { keys, max });
        }
        let mut reader = PolicyReader {
            scope,
            limits,
            wildcard_points: 0,
        };
        let start = Read {
            alternatives: vec![Vec::new()],
            combinations: 1,
        };
        let read = reader.object(&keys, "", 1, start)?;
        match limits.wildcard_points {
            Some(max) if reader.wildcard_points > max => Err(PolicyError::WildcardsTooComplex {
                points: reader.wildcard_points,
                max,
            }),
            _ => Ok(Self {
                scope,
                alternatives: read.alternatives,
            }),
        }
    }

    /// Where it looks.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether it wants everything: `{}`.
    pub fn is_empty(&self) -> bool {
        self.alternatives.iter().any(Vec::is_empty)
    }
}

/// What was read up to some key.
struct Read {
    alternatives: Vec<Vec<Clause>>,
    combinations: u64,
}

struct PolicyReader<'a> {
    scope: Scope,
    limits: &'a PolicyLimits,
    wildcard_points: u64,
}

impl PolicyReader<'_> {
    /// Reads the keys of an object whose own path is `above` behind what was read before.
    fn object(
        &mut self,
        keys: &[(String, Json)],
        above: &str,
        depth: u64,
        mut read: Read,
    ) -> Result<Read, PolicyError> {
        for (key, value) in keys {
            let path = match above {
                "" => key.clone(),
                above => format!("{above}.{key}"),
            };
            read = match value {
                Json::Array(objects) if key == "$or" && is_or(objects) => {
                    self.or(objects, above, depth, read)?
                }
                Json::Array(array) => {
                    let conditions = self.conditions(key, array)?;
                    let factor = (array.len() as u64).saturating_mul(depth);
                    read.combinations = read.combinations.saturating_mul(factor);
                    for alternative in &mut read.alternatives {
                        alternative.push(Clause {
                            path: path.clone(),
                            conditions: conditions.clone(),
                        });
                    }
                    read
                }
                Json::Object(_) if self.scope == Scope::Attributes => {
                    return Err(PolicyError::Nested { key: key.clone() });
                }
                Json::Object(keys) if keys.is_empty() => {
                    return Err(PolicyError::EmptyObject { key: key.clone() });
                }
                Json::Object(keys) => self.object(keys, &path, depth + 1, read)?,
                _ => return Err(PolicyError::NotAnArray { key: key.clone() }),
            };
            self.check(&read)?;
        }
        Ok(read)
    }

    /// Each of the objects behind each of the alternatives.
    fn or(
        &mut self,
        objects: &[Json],
        above: &str,
        depth: u64,
        read: Read,
    ) -> Result<Read, PolicyError> {
        let mut all = Read {
            alternatives: Vec::new(),
            combinations: 0,
        };
        for object in objects {
            let Json::Object(keys) = object else {
                continue; // `is_or` saw objects only
            };
            if keys.is_empty() {
                return Err(PolicyError::EmptyObject { key: "$or".into() });
            }
            let before = Read {
                alternatives: read.alternatives.clone(),
                combinations: read.combinations,
            };
            let one = self.object(keys, above, depth, before)?;
            all.combinations = all.combinations.saturating_add(one.combinations);
            all.alternatives.extend(one.alternatives);
            self.check(&all)?;
        }
        Ok(all)
    }

    fn check(&self, read: &Read) -> Result<(), PolicyError> {
        let combinations = read.combinations;
        match self.limits.combinations {
            Some(max) if combinations > max => Err(PolicyError::TooComplex { combinations, max }),
            _ if read.alternatives.len() > MAX_ALTERNATIVES => Err(PolicyError::TooComplex {
                combinations: read.alternatives.len() as u64,
                max: MAX_ALTERNATIVES as u64,
            }),
            _ => Ok(()),
        }
    }

    fn conditions(&mut self, key: &str, array: &[Json]) -> Result<Vec<Condition>, PolicyError> {
        if array.is_empty() {
            let key = key.to_owned();
            return Err(PolicyError::EmptyArray { key });
        }
        let read = array
            .iter()
            .map(|json| operators::condition(json, self.limits));
        let mut conditions: Vec<Condition> = read.collect::<Result<_, _>>()?;
        self.wildcard_points += wildcard_points(&conditions);
        conditions.sort();
        conditions.dedup();
        Ok(conditions)
    }
}

/// Whether an array below `$or` is one of alternatives, and not of conditions on a key of that name:
/// two objects at least, none of which has an operator among its keys.
fn is_or(objects: &[Json]) -> bool {
    let is_alternative = |json: &Json| match json {
        Json::Object(keys) => keys
            .iter()
            .all(|(key, _)| !OPERATORS.contains(&key.as_str())),
        _ => false,
    };
    objects.len() >= 2 && objects.iter().all(is_alternative)
}

/// What the wildcards of one key count: 1 for a single star, 3 for more, times how many they are.
fn wildcard_points(conditions: &[Condition]) -> u64 {
    let (mut points, mut patterns) = (0, 0);
    let mut count = |condition: &Condition| {
        if let Condition::Wildcard(pattern) = condition {
            points += if pattern.stars() > 1 { 3 } else { 1 };
            patterns += 1;
        }
    };
    for condition in conditions {
        match condition {
            Condition::AnythingBut(excluded) => excluded.iter().for_each(&mut count),
            one => count(one),
        }
    }
    points * patterns
}
