//! One policy and one message: does it match, and if not, why?
//!
//! It looks at clause after clause, without any index, so it is also what the index is measured by.

use super::condition::{self, Condition};
use super::leaf::{FilterMessage, Leaf};
use super::policy::{Clause, Policy, Scope};
use super::walk::{Leaves, PathUse, Paths};

/// Why a policy matches a message, or why it doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it matches.
    pub matches: bool,
    /// Whether there was something to look at: not where the policy looks at the body, and that is no
    /// JSON object.
    pub readable: bool,
    /// What `$or` comes to, each with its clauses in the order of the policy. One has to match.
    pub alternatives: Vec<Vec<ClauseOutcome>>,
}

/// What became of one clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClauseOutcome {
    /// The name of the attribute, or the keys to the property of the body, joined by periods.
    pub path: String,
    /// Whether it holds.
    pub holds: bool,
    /// The conditions of which one has to hold, as a JSON array.
    pub wanted: String,
    /// The values at that path, each as JSON.
    pub found: Vec<String>,
}

/// The paths of one policy: few.
struct OwnPaths<'a>(Vec<&'a str>);

impl Paths for OwnPaths<'_> {
    fn find(&self, path: &str) -> PathUse {
        let number = self.0.iter().position(|own| *own == path);
        let is_above = |own: &&str| {
            let below = own.strip_prefix(path);
            below.is_some_and(|below| below.starts_with('.'))
        };
        PathUse {
            number: number.map(|number| number as u32),
            is_above: self.0.iter().any(is_above),
        }
    }
}

impl Policy {
    /// Whether it matches a message. Allocates. For one policy; those of a topic are in a
    /// [`FilterIndex`](super::FilterIndex).
    pub fn matches(&self, message: &FilterMessage<'_>) -> bool {
        self.explain(message).matches
    }

    /// Whether and why it matches a message. Allocates.
    pub fn explain(&self, message: &FilterMessage<'_>) -> Explanation {
        let clauses = self.alternatives.iter().flatten();
        let mut paths: Vec<&str> = clauses.map(|clause| clause.path.as_str()).collect();
        paths.sort_unstable();
        paths.dedup();
        let paths = OwnPaths(paths);
        let mut leaves = Leaves::default();
        let readable = leaves.read(message, self.scope, &paths, &mut String::new());
        let look = |clause: &Clause| {
            let number = paths.find(&clause.path).number;
            let values = leaves.values.iter();
            let found: Vec<&Leaf<'_>> = values
                .filter(|(path, _)| Some(*path) == number)
                .map(|(_, leaf)| leaf)
                .collect();
            ClauseOutcome {
                path: clause.path.clone(),
                holds: readable && holds(clause, &found, leaves.has_any),
                wanted: Wanted(&clause.conditions).to_string(),
                found: found.iter().map(ToString::to_string).collect(),
            }
        };
        let explain = |clauses: &Vec<Clause>| clauses.iter().map(look).collect();
        let alternatives: Vec<Vec<ClauseOutcome>> = self.alternatives.iter().map(explain).collect();
        let matches = alternatives
            .iter()
            .any(|clauses| clauses.iter().all(|clause| clause.holds));
        Explanation {
            matches,
            readable: readable || self.scope == Scope::Attributes,
            alternatives,
        }
    }
}

fn holds(clause: &Clause, found: &[&Leaf<'_>], has_any: bool) -> bool {
    clause.conditions.iter().any(|condition| match condition {
        Condition::Absent => found.is_empty() && has_any,
        condition => found.iter().any(|leaf| condition.holds(leaf)),
    })
}

struct Wanted<'a>(&'a [Condition]);

impl core::fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        condition::list(self.0, f)
    }
}
