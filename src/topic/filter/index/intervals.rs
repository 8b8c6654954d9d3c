//! Closed intervals of numbers: which of them hold a number?
//!
//! A treap over the lower ends (then the upper ones, then the value), each node with the largest upper end
//! below it (Cormen et al., "Interval trees"). Inserting and removing take O(log n), a question
//! O(log n) for each answer at most. The priorities are a hash of the node's number, so the shape is
//! that of a random tree whatever comes in, and no state is kept for it.

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node {
    from: i64,
    to: i64,
    value: u32,
    largest: i64,
    left: u32,
    right: u32,
}

/// Intervals with a value each. The same value may be there several times, an equal interval with an
/// equal value once.
#[derive(Clone, Debug)]
pub(super) struct Intervals {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
        }
    }
}

/// SplitMix64's last step (Steele, Lea, Flood 2014).
fn priority(node: u32) -> u64 {
    let z = u64::from(node).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Intervals {
    pub fn is_empty(&self) -> bool {
        self.root == NONE
    }

    pub fn insert(&mut self, from: i64, to: i64, value: u32) {
        let node = Node {
            from,
            to,
            value,
            largest: to,
            left: NONE,
            right: NONE,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.nodes[number as usize] = node;
                number
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        let (left, right) = self.split(self.root, (from, to, value));
        let left = self.merge(left, number);
        self.root = self.merge(left, right);
    }

    pub fn remove(&mut self, from: i64, to: i64, value: u32) {
        let key = (from, to, value);
        let (left, rest) = self.split(self.root, key);
        let (least, rest) = self.split_least(rest);
        debug_assert!(least == NONE || self.key(least) == key);
        if least != NONE {
            self.free.push(least);
        }
        self.root = self.merge(left, rest);
    }

    /// The values of the intervals that hold `number`.
    pub fn holding(&self, number: i64, found: &mut impl FnMut(u32)) {
        self.holding_below(self.root, number, found);
    }

    fn holding_below(&self, mut at: u32, number: i64, found: &mut impl FnMut(u32)) {
        // To the left by recursion, to the right by a loop.
        while at != NONE && self.node(at).largest >= number {
            let node = self.node(at);
            self.holding_below(node.left, number, found);
            if node.from > number {
                return;
            }
            if node.to >= number {
                found(node.value);
            }
            at = node.right;
        }
    }

    fn node(&self, number: u32) -> &Node {
        &self.nodes[number as usize]
    }

    fn key(&self, number: u32) -> (i64, i64, u32) {
        let node = self.node(number);
        (node.from, node.to, node.value)
    }

    fn update(&mut self, number: u32) {
        let node = self.node(number);
        let mut largest = node.to;
        for child in [node.left, node.right] {
            if child != NONE {
                largest = largest.max(self.node(child).largest);
            }
        }
        self.nodes[number as usize].largest = largest;
    }

    /// What is below `key`, and the rest.
    fn split(&mut self, at: u32, key: (i64, i64, u32)) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        if self.key(at) < key {
            let (left, right) = self.split(self.node(at).right, key);
            self.nodes[at as usize].right = left;
            self.update(at);
            (at, right)
        } else {
            let (left, right) = self.split(self.node(at).left, key);
            self.nodes[at as usize].left = right;
            self.update(at);
            (left, at)
        }
    }

    /// The least, and the rest.
    fn split_least(&mut self, at: u32) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        if self.node(at).left == NONE {
            return (at, self.node(at).right);
        }
        let (least, rest) = self.split_least(self.node(at).left);
        self.nodes[at as usize].left = rest;
        self.update(at);
        (least, at)
    }

    /// Both, where all of the one is below all of the other.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        if priority(left) > priority(right) {
            let merged = self.merge(self.node(left).right, right);
            self.nodes[left as usize].right = merged;
            self.update(left);
            left
        } else {
            let merged = self.merge(left, self.node(right).left);
            self.nodes[right as usize].left = merged;
            self.update(right);
            right
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_answers_as_a_list_does() {
        let mut list: Vec<(i64, i64, u32)> = Vec::new();
        let mut tree = Intervals::default();
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for step in 0..20_000u32 {
            if random(5) < 3 || list.is_empty() {
                let from = random(100) as i64;
                let to = from + random(30) as i64;
                let ends = [(from, to), (i64::MIN, to), (from, i64::MAX)];
                let (from, to) = ends[random(3) as usize];
                list.push((from, to, step));
                tree.insert(from, to, step);
            } else {
                let at = random(list.len() as u64) as usize;
                let (from, to, value) = list.swap_remove(at);
                tree.remove(from, to, value);
            }
            let number = random(140) as i64 - 5;
            let mut found = Vec::new();
            tree.holding(number, &mut |value| found.push(value));
            let holds = |(from, to, _): &&(i64, i64, u32)| (*from..=*to).contains(&number);
            let mut wanted: Vec<u32> = list.iter().filter(holds).map(|entry| entry.2).collect();
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "{number} at step {step}");
        }
    }
}
