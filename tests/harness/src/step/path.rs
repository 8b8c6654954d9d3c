//! The recorded path of a stretch, and the hops by which each of its steps is found quickly.
//!
//! Stepping to each of n steps in turn costs n²/2 single steps. But standing at step i,
//! a breakpoint on the address of step j stops exactly at j, if that address doesn't occur
//! on the path from i to j − 1. So a *hop* goes to the last such j up to the target: over
//! straight code in one, through a loop in one a round. (A virtual machine pays twice for
//! a single step what it pays for a breakpoint: 17 and 8 µs on an EPYC Milan guest.) The
//! stepper checks the address it arrives at; a run that took another path is recognised.

use std::collections::HashMap;

#[derive(Debug)]
pub(super) struct Path {
    addresses: Vec<u64>,
    /// For each step, the step before it at the same address, plus one; 0 if there is none.
    before: Vec<usize>,
}

impl Path {
    pub(super) fn new(addresses: Vec<u64>) -> Path {
        let mut met = HashMap::new();
        let visits = addresses.iter().enumerate();
        let before = visits
            .map(|(step, at)| met.insert(*at, step + 1).unwrap_or(0))
            .collect();
        Path { addresses, before }
    }

    /// Steps from begin to end.
    pub(super) fn total(&self) -> u64 {
        self.addresses.len() as u64 - 1
    }

    pub(super) fn address(&self, k: u64) -> Option<u64> {
        self.addresses.get(k as usize).copied()
    }

    /// The steps at one of `addresses`.
    pub(super) fn steps_at(&self, addresses: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut known = HashMap::new();
        let mut steps = (0..=self.total()).collect::<Vec<_>>();
        steps.retain(|step| {
            let address = self.addresses[*step as usize];
            *known.entry(address).or_insert_with(|| addresses(address))
        });
        steps
    }

    /// From step `here`, the hop towards step `k`: its step and address. None: the next
    /// instruction stands at the same address again, and only a single step leads on.
    pub(super) fn hop(&self, here: u64, k: u64) -> Option<(u64, u64)> {
        let (here, k) = (here as usize, k as usize);
        let lands = (here + 1..=k)
            .rev()
            .find(|step| self.before[*step] <= here)?;
        Some((lands as u64, self.addresses[lands]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(addresses: &[u64], k: u64) -> Vec<u64> {
        let path = Path::new(addresses.to_vec());
        let mut steps = vec![0];
        while let Some((step, address)) = path.hop(*steps.last().unwrap(), k) {
            assert_eq!(path.address(step), Some(address));
            steps.push(step);
        }
        steps
    }

    #[test]
    fn straight_code_is_one_hop() {
        assert_eq!(hops(&[10, 11, 12, 13, 14], 4), [0, 4]);
    }

    #[test]
    fn a_loop_is_at_least_a_hop_a_round_and_one_past_it() {
        let path = [10, 11, 12, 13, 11, 12, 13, 11, 12, 13, 14];
        assert_eq!(hops(&path, 10), [0, 10], "behind the loop");
        assert_eq!(hops(&path, 8), [0, 3, 5, 7, 8]);
    }

    #[test]
    fn a_repeated_instruction_has_no_hop() {
        assert_eq!(Path::new(vec![10, 11, 11, 11, 12]).hop(1, 3), None);
        assert_eq!(Path::new(vec![10, 11, 11, 11, 12]).hop(1, 4), Some((4, 12)));
    }
}
