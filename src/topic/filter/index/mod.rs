//! The policies of all subscriptions of a topic, in one structure.
//!
//! A match costs what the message has and what matches it, not how many subscriptions there are:
//! 1. Each value of the message is looked up in the [dictionary](names) of its path: which of the
//!    texts, numbers, prefixes, blocks that any policy asks for does it fulfil? A few look-ups.
//! 2. From the root of the [graph](graph) only clauses are followed that one of these fulfils, by one
//!    look-up each. Equal beginnings of policies are one way. Clauses that few messages fulfil come
//!    first on the way, so what is common (`"type": ["order"]`) is asked only of what is nearly there.
//! 3. Only ranges of numbers, `anything-but` and absence are kept node by node, ranges in a
//!    [tree of intervals](intervals).
//!
//! Insert and remove change what belongs to that one policy. Private memory, no locks: whoever
//! dispatches has an index of its own. Derived: it can be built again from the policies at any time.

mod graph;
mod intervals;
mod names;

use super::leaf::{FilterMessage, Leaf};
use super::policy::{Policy, Scope};
use super::walk::Leaves;
use graph::Graph;
use std::collections::HashMap;

/// The filter policies of a topic's subscriptions, by the number that the caller gave each.
///
/// Sync; changing it takes `&mut`.
///
/// ```
/// # #[cfg(feature = "topics")] {
/// use ringway::filter::{FilterIndex, FilterMessage, Matches, Policy, PolicyLimits, Scope};
/// let mut index = FilterIndex::new();
/// for (id, store) in [(1, "corner"), (2, "corner"), (3, "mall")] {
///     let text = format!(r#"{{"store": ["{store}"]}}"#);
///     let policy = Policy::parse(&text, Scope::Body, &PolicyLimits::SNS).unwrap();
///     index.insert(id, Some(&policy));
/// }
/// index.insert(4, None); // wants everything
/// index.remove(1);
///
/// let mut matches = Matches::new(); // reused from message to message
/// let message = FilterMessage { body: br#"{"store": "corner"}"#, ..Default::default() };
/// let mut ids = index.matches(&message, &mut matches).to_vec();
/// ids.sort();
/// assert_eq!(ids, [2, 4]);
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct FilterIndex {
    attributes: Graph,
    body: Graph,
    /// Those who want everything.
    all: Vec<u64>,
    homes: HashMap<u64, Home>,
}

/// Where a subscription is.
#[derive(Clone, Copy, Debug)]
enum Home {
    /// At this place in `all`.
    All(usize),
    Attributes(u32),
    Body(u32),
}

/// What a match needs while it runs, and what it found. Kept from message to message, it allocates only
/// to grow.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    ids: Vec<u64>,
    walk: graph::Walk,
    path: String,
    values: Vec<(u32, Leaf<'static>)>,
}

impl Matches {
    /// Room that grows when it is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// The subscriptions that matched, each once, in no order.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }
}

impl FilterIndex {
    /// Of no subscription yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.homes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.homes.is_empty()
    }

    /// Whether nothing is left of any policy that was ever inserted: no path, term, node or edge.
    #[doc(hidden)]
    pub fn is_fresh(&self) -> bool {
        self.all.is_empty() && self.attributes.is_fresh() && self.body.is_fresh()
    }

    /// Adds a subscription with its policy, in place of an earlier one of that number; none wants
    /// everything. Allocates. Whether the number is new.
    pub fn insert(&mut self, id: u64, policy: Option<&Policy>) -> bool {
        let is_new = !self.remove(id);
        let home = match policy {
            Some(policy) if !policy.is_empty() => match policy.scope() {
                Scope::Attributes => Home::Attributes(self.attributes.insert(id, policy)),
                Scope::Body => Home::Body(self.body.insert(id, policy)),
            },
            _ => {
                self.all.push(id);
                Home::All(self.all.len() - 1)
            }
        };
        self.homes.insert(id, home);
        is_new
    }

    /// Removes a subscription. Whether there was one of that number.
    pub fn remove(&mut self, id: u64) -> bool {
        match self.homes.remove(&id) {
            None => return false,
            Some(Home::Attributes(place)) => self.attributes.remove(place),
            Some(Home::Body(place)) => self.body.remove(place),
            Some(Home::All(place)) => {
                self.all.swap_remove(place);
                if let Some(moved) = self.all.get(place) {
                    self.homes.insert(*moved, Home::All(place));
                }
            }
        }
        true
    }

    /// The subscriptions that want `message`, each once, in no order; also kept in `matches`.
    pub fn matches<'m>(&self, message: &FilterMessage<'_>, matches: &'m mut Matches) -> &'m [u64] {
        matches.ids.clear();
        matches.ids.extend_from_slice(&self.all);
        for (scope, graph) in [
            (Scope::Attributes, &self.attributes),
            (Scope::Body, &self.body),
        ] {
            if graph.is_empty() {
                continue;
            }
            let mut leaves = Leaves {
                values: core::mem::take(&mut matches.values),
                has_any: false,
            };
            if leaves.read(message, scope, graph.names(), &mut matches.path) {
                graph.walk(&leaves, &mut matches.walk, &mut matches.ids);
            }
            leaves.values.clear();
            // An empty vector of values that live for ever, of the same memory.
            let forget = |_| unreachable!("it is empty");
            matches.values = leaves.values.into_iter().map(forget).collect();
        }
        &matches.ids
    }
}
