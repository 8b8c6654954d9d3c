//! Fair queues: a tenant with a large backlog does not keep the messages of the others waiting.
//!
//! A message of a standard queue may name a group, its tenant. A receiver remembers the tenants of what
//! it received last; when the message at its cursor is of one that had far more than others, it
//! looks ahead for one of a quieter tenant, and takes that instead. The cursor stays, so the message
//! that had to wait is met again by the next receive, by this receiver or another, and nothing has to
//! be remembered: what was taken ahead is stepped over when the cursor comes there.
//!
//! It looks at two places, a few slots each: where the last look ended, up to the end, so that what is
//! sent later is found by the next receive; and again and again at all that lies between, where a
//! message may be by now of a tenant that is quiet. So behind a backlog of n one is found within
//! n / [`LOOKS`] receives. As soon as the others had half as many, the noisy one is served again:
//! nobody starves.
//!
//! Everything here is private to one receiver and may be lost with it: at worst messages come in the
//! order they were sent in. Several receivers see the same mix, each by itself. A queue without groups
//! never comes here.
//!
//! The source of the idea: "Amazon SQS fair queues" (SQS developer guide), which tells noisy tenants by
//! their share of what is in flight. Here it is their share of what was received last, of which what is
//! in flight is the part that is not deleted yet.

use super::{Delivery, Standing};
use crate::ring::Tenant;

/// Receives that are remembered.
const REMEMBERED: usize = 64;
/// Receives of one tenant among them from which on it may be noisy.
const NOISY: u32 = 8;
/// Slots that one receive looks ahead at.
pub const LOOKS: u64 = 16;

/// See the module.
pub struct Fairness {
    recent: [u16; REMEMBERED],
    at: usize,
    /// Where the look ahead goes on; everything before it was looked at.
    ahead: u64,
    /// Where the next look at that goes on.
    again: u64,
}

impl Default for Fairness {
    fn default() -> Self {
        Self {
            recent: [0; REMEMBERED],
            at: 0,
            ahead: 0,
            again: 0,
        }
    }
}

impl Fairness {
    /// How many of the last receives were of `tenant`. The places of receives that never were, and of
    /// messages without a group, are 0, a tenant as any other.
    fn share(&self, tenant: u16) -> u32 {
        self.recent.iter().filter(|seen| **seen == tenant).count() as u32
    }

    fn note(&mut self, tenant: u16) {
        self.recent[self.at] = tenant;
        self.at = (self.at + 1) % REMEMBERED;
    }

    /// The message that is received in place of the one at the cursor, or that one.
    #[cold]
    #[inline(never)]
    pub fn choose<'a>(
        &mut self,
        queue: &'a Delivery,
        found: Standing<'a>,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Standing<'a> {
        let noisy = found.meta().tenant();
        let share = self.share(noisy);
        let chosen = if share >= NOISY {
            self.quieter(queue, &found, share, now, tenant)
        } else {
            None
        };
        let chosen = chosen.unwrap_or(found);
        self.note(chosen.meta().tenant());
        chosen
    }

    /// A message ahead, of a tenant that had less than half of `share`.
    fn quieter<'a>(
        &mut self,
        queue: &'a Delivery,
        found: &Standing<'_>,
        share: u32,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        let slots = queue.ring.memory.geometry().slots();
        // A cursor that went back, or round, begins anew.
        let reach = found.position + 1..found.position.saturating_add(slots);
        if !reach.contains(&self.ahead) {
            self.ahead = reach.start;
        }
        for _ in 0..LOOKS {
            if self.ahead >= reach.end || !queue.is_settled_at(self.ahead) {
                break;
            }
            self.ahead += 1;
            let standing = self.quiet_at(queue, self.ahead - 1, share, now, tenant);
            if standing.is_some() {
                return standing;
            }
        }
        for _ in 0..LOOKS {
            if !(reach.start..self.ahead).contains(&self.again) {
                self.again = reach.start;
            }
            self.again += 1;
            let standing = self.quiet_at(queue, self.again - 1, share, now, tenant);
            if standing.is_some() {
                return standing;
            }
        }
        None
    }

    fn quiet_at<'a>(
        &self,
        queue: &'a Delivery,
        position: u64,
        share: u32,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        if position >= queue.delivered_below() {
            return None;
        }
        let standing = queue.ready_at(position)?;
        (2 * self.share(standing.meta().tenant()) < share
            && queue.is_offered(&standing, now, tenant))
        .then_some(standing)
    }
}
