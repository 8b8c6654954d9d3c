//! The recorded path of a stretch, and from where on it each step can be found quickly.
//!
//! Stepping to each of n steps in turn costs n²/2 single steps. But if an address occurs
//! on the path for the first time at step j, a breakpoint there stops exactly at j. So
//! step k is reached by a run at full speed to the last such j ≤ k, its *anchor*, and
//! k − j single steps. The stepper checks the address it arrives at; a run that took
//! another path is recognised, not trusted.

use std::collections::HashSet;

#[derive(Debug)]
pub(super) struct Path {
    addresses: Vec<u64>,
    anchors: Vec<usize>,
}

impl Path {
    pub(super) fn new(addresses: Vec<u64>) -> Path {
        let mut met = HashSet::new();
        let mut last = 0;
        let anchors = addresses.iter().enumerate().map(|(step, address)| {
            if met.insert(*address) {
                last = step;
            }
            last
        });
        let anchors = anchors.collect();
        Path { addresses, anchors }
    }

    /// Steps from begin to end.
    pub(super) fn total(&self) -> u64 {
        self.addresses.len() as u64 - 1
    }

    pub(super) fn address(&self, k: u64) -> Option<u64> {
        self.addresses.get(k as usize).copied()
    }

    /// The anchor of step `k` (or of the last step) and its address.
    pub(super) fn anchor(&self, k: u64) -> (u64, u64) {
        let step = self.anchors[(k as usize).min(self.anchors.len() - 1)];
        (step as u64, self.addresses[step])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_the_last_first_visit() {
        let path = Path::new(vec![10, 11, 12, 11, 12, 13]);
        let anchors: Vec<_> = (0..6).map(|k| path.anchor(k).0).collect();
        assert_eq!(anchors, [0, 1, 2, 2, 2, 5]);
        assert_eq!(path.total(), 5);
    }
}
