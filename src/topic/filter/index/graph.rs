//! The graph: nodes that are joined by clauses, from the root to the ends of the policies.
//!
//! A node is a list of clauses that hold; the root is the empty one. Below a node hangs one child for
//! each clause that some policy goes on with. Policies that begin alike share nodes; each ends at the
//! nodes of its alternatives. A child is reached by the terms of its clause ([`super::names`]): `(node,
//! term)` leads to the children that the term may fulfil. What has no terms hangs at the node itself.
//!
//! Invariants: a node but the root has a subscription or a child; each of its conditions is under
//! exactly one of `edges`, `ranges`, `unlike`, `absent` of its parent.

use super::super::condition::Condition;
use super::super::policy::{Clause, Policy};
use super::super::walk::Leaves;
use super::intervals::Intervals;
use super::names::Names;
use rustc_hash::FxHashMap;
use std::hash::{BuildHasher, RandomState};

const ROOT: u32 = 0;
/// A condition that needs no second look when its term is fulfilled.
const SURE: u32 = u32::MAX;

/// Where a term leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edge {
    child: u32,
    /// The condition of the child's clause that the value has to be asked once more, or `SURE`.
    condition: u32,
}

/// One or more; one is the usual case and takes no memory of its own.
#[derive(Clone, Debug)]
enum Some1<T> {
    One(T),
    #[allow(
        clippy::box_collection,
        reason = "a vector would double the usual case"
    )]
    Many(Box<Vec<T>>),
}

impl<T: Copy + PartialEq> Some1<T> {
    fn push(&mut self, value: T) {
        match self {
            Self::One(one) => *self = Self::Many(Box::new(vec![*one, value])),
            Self::Many(many) => many.push(value),
        }
    }

    /// Whether it was the last.
    fn remove(&mut self, value: T) -> bool {
        match self {
            Self::One(one) => *one == value,
            Self::Many(many) => {
                if let Some(at) = many.iter().position(|one| *one == value) {
                    many.swap_remove(at);
                }
                many.is_empty()
            }
        }
    }

    fn all(&self) -> &[T] {
        match self {
            Self::One(one) => core::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Adds to what may not be there yet.
fn push<T: Copy + PartialEq>(to: &mut Option<Some1<T>>, value: T) {
    match to {
        None => *to = Some(Some1::One(value)),
        Some(some) => some.push(value),
    }
}

#[derive(Clone, Debug)]
struct Node {
    parent: u32,
    path: u32,
    /// Terms below it in `edges`.
    terms: u32,
    children: u32,
    /// How it hangs at its parent.
    conditions: Box<[Condition]>,
    subscriptions: Option<Some1<u32>>,
    loose: Option<Box<Loose>>,
}

/// What hangs at a node and has no terms, by path.
#[derive(Clone, Debug, Default)]
struct Loose {
    ranges: Vec<(u32, Intervals)>,
    unlike: Vec<(u32, Vec<Edge>)>,
    absent: Vec<(u32, Vec<u32>)>,
}

impl Loose {
    fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.unlike.is_empty() && self.absent.is_empty()
    }
}

/// The entry of a path, which is made if there is none.
fn entry<T: Default>(entries: &mut Vec<(u32, T)>, path: u32) -> &mut T {
    let at = entries.iter().position(|(of, _)| *of == path);
    let at = at.unwrap_or_else(|| {
        entries.push((path, T::default()));
        entries.len() - 1
    });
    &mut entries[at].1
}

/// Changes the entry of a path; drops it if it is empty then.
fn change<T>(entries: &mut Vec<(u32, T)>, path: u32, change: impl FnOnce(&mut T) -> bool) {
    let at = entries.iter().position(|(of, _)| *of == path);
    let at = at.expect("the condition is there");
    if change(&mut entries[at].1) {
        entries.swap_remove(at);
    }
}

#[derive(Clone, Debug)]
struct Subscription {
    id: u64,
    ends: Box<[u32]>,
}

#[derive(Clone, Debug)]
pub(super) struct Graph {
    names: Names,
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
    edges: FxHashMap<u64, Some1<Edge>>,
    /// Nodes by the hash of parent and clause.
    by_clause: FxHashMap<u64, u32>,
    hasher: RandomState,
    subscriptions: Vec<Subscription>,
    free_subscriptions: Vec<u32>,
}

/// What a walk remembers while it goes: which nodes and subscriptions it has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    now: u32,
    nodes: Vec<u32>,
    subscriptions: Vec<u32>,
    open: Vec<u32>,
    /// Terms that are fulfilled, each with the value that does.
    terms: Vec<(u32, u32)>,
}

impl Walk {
    fn begin(&mut self, nodes: usize, subscriptions: usize) {
        self.now = self.now.wrapping_add(1);
        if self.now == 0 {
            // After four thousand million messages.
            self.nodes.fill(0);
            self.subscriptions.fill(0);
            self.now = 1;
        }
        if self.nodes.len() < nodes {
            self.nodes.resize(nodes.next_power_of_two(), 0);
        }
        if self.subscriptions.len() < subscriptions {
            self.subscriptions
                .resize(subscriptions.next_power_of_two(), 0);
        }
        self.open.clear();
        self.terms.clear();
    }

    fn open(&mut self, node: u32) {
        let seen = &mut self.nodes[node as usize];
        if *seen != self.now {
            *seen = self.now;
            self.open.push(node);
        }
    }
}

fn edge_key(node: u32, term: u32) -> u64 {
    u64::from(node) << 32 | u64::from(term)
}

impl Default for Graph {
    fn default() -> Self {
        let root = Node {
            parent: ROOT,
            path: 0,
            terms: 0,
            children: 0,
            conditions: Box::new([]),
            subscriptions: None,
            loose: None,
        };
        Self {
            names: Names::default(),
            nodes: vec![root],
            free_nodes: Vec::new(),
            edges: FxHashMap::default(),
            by_clause: FxHashMap::default(),
            hasher: RandomState::new(),
            subscriptions: Vec::new(),
            free_subscriptions: Vec::new(),
        }
    }
}

impl Graph {
    pub fn is_empty(&self) -> bool {
        self.nodes[ROOT as usize].children == 0
    }

    /// Whether nothing is left of any policy.
    pub fn is_fresh(&self) -> bool {
        let root = &self.nodes[ROOT as usize];
        let is_root_bare = root.terms == 0 && root.children == 0 && root.loose.is_none();
        is_root_bare
            && self.nodes.len() == self.free_nodes.len() + 1
            && self.edges.is_empty()
            && self.by_clause.is_empty()
            && self.names.is_fresh()
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Adds a policy that is not empty. Where the subscription is then.
    pub fn insert(&mut self, id: u64, policy: &Policy) -> u32 {
        let ways = policy.alternatives.iter();
        let mut ends: Vec<u32> = ways.map(|clauses| self.way(clauses)).collect();
        ends.sort_unstable();
        ends.dedup();
        let place = self.free_subscriptions.pop().unwrap_or_else(|| {
            let ends = Box::new([]);
            self.subscriptions.push(Subscription { id, ends });
            self.subscriptions.len() as u32 - 1
        });
        for end in &ends {
            push(&mut self.nodes[*end as usize].subscriptions, place);
        }
        let ends = ends.into();
        self.subscriptions[place as usize] = Subscription { id, ends };
        place
    }

    pub fn remove(&mut self, place: u32) {
        let subscription = &mut self.subscriptions[place as usize];
        for end in core::mem::take(&mut subscription.ends) {
            let node = &mut self.nodes[end as usize];
            let subscriptions = node.subscriptions.as_mut().expect("it ends here");
            if subscriptions.remove(place) {
                node.subscriptions = None;
            }
            self.free_unused(end);
        }
        self.free_subscriptions.push(place);
    }

    /// The end of a way of these clauses, which is made as far as it is not there. The rare first.
    fn way(&mut self, clauses: &[Clause]) -> u32 {
        let mut ranked: Vec<(i32, &Clause)> = clauses
            .iter()
            .map(|clause| {
                let share = self.names.share(&clause.path, &clause.conditions);
                // In steps, so that equal policies go the same way while others come and go.
                ((share.log2() / 2.0).floor() as i32, clause)
            })
            .collect();
        ranked.sort_by(|(a, one), (b, other)| (a, &one.path).cmp(&(b, &other.path)));
        let mut node = ROOT;
        for (_, clause) in ranked {
            node = self.child(node, clause);
        }
        node
    }

    /// The child of a node by a clause.
    fn child(&mut self, parent: u32, clause: &Clause) -> u32 {
        let hash = self.clause_hash(parent, &clause.path, &clause.conditions);
        if let Some(child) = self.by_clause.get(&hash) {
            let node = &self.nodes[*child as usize];
            if node.parent == parent
                && *node.conditions == *clause.conditions
                && self.names.path(node.path) == clause.path
            {
                return *child;
            }
        }
        let path = self.names.add_path(&clause.path);
        let node = Node {
            parent,
            path,
            terms: 0,
            children: 0,
            conditions: clause.conditions.as_slice().into(),
            subscriptions: None,
            loose: None,
        };
        let child = match self.free_nodes.pop() {
            Some(child) => {
                self.nodes[child as usize] = node;
                child
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        for (index, condition) in clause.conditions.iter().enumerate() {
            self.hang(child, index as u32, condition);
        }
        self.nodes[parent as usize].children += 1;
        // Two clauses of one hash: the later one is just not found again.
        self.by_clause.entry(hash).or_insert(child);
        child
    }

    fn clause_hash(&self, parent: u32, path: &str, conditions: &[Condition]) -> u64 {
        self.hasher.hash_one((parent, path, conditions))
    }

    /// Hangs a child at its parent by one of its conditions.
    fn hang(&mut self, child: u32, index: u32, condition: &Condition) {
        let Node { parent, path, .. } = self.nodes[child as usize];
        let term = self.names.add_term(path, condition);
        let node = &mut self.nodes[parent as usize];
        if let Some(term) = term {
            let is_sure = !matches!(condition, Condition::Wildcard(_));
            let condition = if is_sure { SURE } else { index };
            let edge = Edge { child, condition };
            self.edges
                .entry(edge_key(parent, term))
                .and_modify(|edges| edges.push(edge))
                .or_insert(Some1::One(edge));
            node.terms += 1;
            return;
        }
        let loose = node.loose.get_or_insert_default();
        match condition {
            Condition::Range(from, to) => {
                entry(&mut loose.ranges, path).insert(from.0, to.0, child);
            }
            Condition::Absent => entry(&mut loose.absent, path).push(child),
            _ => entry(&mut loose.unlike, path).push(Edge {
                child,
                condition: index,
            }),
        }
    }

    /// Takes a child off its parent, by one of its conditions.
    fn unhang(&mut self, child: u32, index: u32, condition: &Condition) {
        let Node { parent, path, .. } = self.nodes[child as usize];
        if let Some(term) = self.names.term(path, condition) {
            let is_sure = !matches!(condition, Condition::Wildcard(_));
            let edge = Edge {
                child,
                condition: if is_sure { SURE } else { index },
            };
            let key = edge_key(parent, term);
            let edges = self.edges.get_mut(&key).expect("it hangs there");
            if edges.remove(edge) {
                self.edges.remove(&key);
            }
            self.nodes[parent as usize].terms -= 1;
            self.names.drop_term(path, condition);
            return;
        }
        let node = &mut self.nodes[parent as usize];
        let loose = node.loose.as_mut().expect("it hangs there");
        match condition {
            Condition::Range(from, to) => change(&mut loose.ranges, path, |ranges| {
                ranges.remove(from.0, to.0, child);
                ranges.is_empty()
            }),
            Condition::Absent => change(&mut loose.absent, path, |children| {
                children.retain(|one| *one != child);
                children.is_empty()
            }),
            _ => change(&mut loose.unlike, path, |edges| {
                edges.retain(|edge| edge.child != child || edge.condition != index);
                edges.is_empty()
            }),
        }
        if loose.is_empty() {
            node.loose = None;
        }
    }

    /// Frees a node that nothing ends at or hangs at, and what is above it likewise.
    fn free_unused(&mut self, mut child: u32) {
        while child != ROOT {
            let node = &self.nodes[child as usize];
            if node.subscriptions.is_some() || node.children > 0 {
                return;
            }
            let (parent, path) = (node.parent, node.path);
            let conditions = core::mem::take(&mut self.nodes[child as usize].conditions);
            let hash = self.clause_hash(parent, self.names.path(path), &conditions);
            if self.by_clause.get(&hash) == Some(&child) {
                self.by_clause.remove(&hash);
            }
            for (index, condition) in conditions.iter().enumerate() {
                self.unhang(child, index as u32, condition);
            }
            self.names.drop_path(path);
            self.free_nodes.push(child);
            self.nodes[parent as usize].children -= 1;
            child = parent;
        }
    }

    /// Appends the subscriptions that want these values, each once.
    pub fn walk(&self, leaves: &Leaves<'_>, walk: &mut Walk, ids: &mut Vec<u64>) {
        walk.begin(self.nodes.len(), self.subscriptions.len());
        for (index, (path, leaf)) in leaves.values.iter().enumerate() {
            let terms = &mut walk.terms;
            self.names
                .terms(*path, leaf, |term| terms.push((term, index as u32)));
        }
        walk.open(ROOT);
        while let Some(number) = walk.open.pop() {
            let node = &self.nodes[number as usize];
            if let Some(subscriptions) = &node.subscriptions {
                self.tell(subscriptions.all(), walk, ids);
            }
            if node.terms > 0 {
                self.follow_terms(number, leaves, walk);
            }
            if let Some(loose) = &node.loose {
                self.follow_loose(loose, leaves, walk);
            }
        }
    }

    fn tell(&self, subscriptions: &[u32], walk: &mut Walk, ids: &mut Vec<u64>) {
        for place in subscriptions {
            let subscription = &self.subscriptions[*place as usize];
            if subscription.ends.len() > 1 {
                let seen = &mut walk.subscriptions[*place as usize];
                if core::mem::replace(seen, walk.now) == walk.now {
                    continue;
                }
            }
            ids.push(subscription.id);
        }
    }

    fn follow_terms(&self, number: u32, leaves: &Leaves<'_>, walk: &mut Walk) {
        for at in 0..walk.terms.len() {
            let (term, leaf) = walk.terms[at];
            let Some(edges) = self.edges.get(&edge_key(number, term)) else {
                continue;
            };
            for edge in edges.all() {
                let is_sure = edge.condition == SURE;
                if is_sure || self.holds(*edge, leaves, leaf as usize) {
                    walk.open(edge.child);
                }
            }
        }
    }

    fn holds(&self, edge: Edge, leaves: &Leaves<'_>, leaf: usize) -> bool {
        let child = &self.nodes[edge.child as usize];
        child.conditions[edge.condition as usize].holds(&leaves.values[leaf].1)
    }

    fn follow_loose(&self, loose: &Loose, leaves: &Leaves<'_>, walk: &mut Walk) {
        for (index, (path, leaf)) in leaves.values.iter().enumerate() {
            if let Some(number) = leaf.number()
                && let Some((_, ranges)) = loose.ranges.iter().find(|(of, _)| of == path)
            {
                ranges.holding(number.0, &mut |child| walk.open(child));
            }
            if let Some((_, edges)) = loose.unlike.iter().find(|(of, _)| of == path) {
                for edge in edges {
                    if self.holds(*edge, leaves, index) {
                        walk.open(edge.child);
                    }
                }
            }
        }
        if !leaves.has_any {
            return;
        }
        for (path, children) in &loose.absent {
            if leaves.values.iter().all(|(of, _)| of != path) {
                children.iter().for_each(|child| walk.open(*child));
            }
        }
    }
}
