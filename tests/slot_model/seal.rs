//! Sealing a ring: its tail slot gets a lap that no position has. Producers and readers that meet
//! it go to the next ring; what was committed before stays and is read.

use crate::queue::{Ctl, Word};
use crate::search::{State, holds, is_found_out};

const N: usize = 2;
const LAPS: u8 = 2;
/// The lap of a sealed slot.
const SEALED: u8 = u8::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Mutant {
    None,
    /// The seal is stored over whatever stands there by now.
    SealsBlindly,
    /// A claim under the seal stays CLAIMED.
    KeepsClaims,
    /// A slot is sealed whose position is taken already.
    SealsTheTaken,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Plan {
    #[default]
    Load,
    Swap,
    Write,
    Commit,
    Acknowledge,
    Moved,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Actor {
    plan: Plan,
    position: u8,
    seen: Word,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Ring {
    mutant: Mutant,
    ctl: [Word; N],
    header: [u8; N],
    producers: [Actor; 2],
    sealer: Actor,
    sealed_at: Option<u8>,
    cursor: u8,
    committed: u16,
    read: u16,
    broken: Option<&'static str>,
}

const BEHIND: &str = "a record was committed behind the seal";
const NO_HELD: &str = "an owner finds neither its claim nor its abandoned claim";
const UNREAD: &str = "a committed record was never read";

fn start(mutant: Mutant) -> Ring {
    Ring {
        mutant,
        ctl: [Word::default(); N],
        header: [0; N],
        producers: [Actor::default(); 2],
        sealer: Actor::default(),
        sealed_at: None,
        cursor: 0,
        committed: 0,
        read: 0,
        broken: None,
    }
}

fn lap(position: u8) -> u8 {
    position / N as u8 + 1
}

impl Ring {
    /// The append table; a record is free when the reader has passed it.
    fn step_producer(mut self, who: usize, out: &mut Vec<Self>) {
        let me = who as u8 + 1;
        let p = self.producers[who];
        let (index, lap) = (usize::from(p.position) % N, lap(p.position));
        let claimed = Word {
            state: Ctl::Claimed,
            owner: me,
            lap,
        };
        let mut then = p;
        then.plan = Plan::Load;
        match p.plan {
            Plan::Moved => return,
            Plan::Load if lap > LAPS => return,
            Plan::Load => {
                then.seen = self.ctl[index];
                if then.seen.lap == SEALED {
                    then.plan = Plan::Moved;
                } else if then.seen.lap < lap {
                    then.plan = Plan::Swap;
                } else {
                    then.position = (then.seen.lap - 1) * N as u8 + index as u8 + 1;
                }
            }
            Plan::Swap => {
                let is_held = matches!(p.seen.state, Ctl::Claimed | Ctl::Held);
                let is_full = p.seen.state == Ctl::Committed && self.header[index] >= self.cursor;
                if !is_full && self.ctl[index] == p.seen {
                    if is_held {
                        self.ctl[index] = Word {
                            state: Ctl::Held,
                            lap,
                            ..p.seen
                        };
                        then.position += 1;
                    } else {
                        self.ctl[index] = claimed;
                        then.plan = Plan::Write;
                    }
                }
            }
            Plan::Write => {
                self.header[index] = p.position;
                then.plan = Plan::Commit;
            }
            Plan::Commit => {
                if self.ctl[index] == claimed {
                    self.ctl[index].state = Ctl::Committed;
                    self.committed |= 1 << p.position;
                    if self.sealed_at.is_some_and(|tail| p.position >= tail) {
                        self.broken = Some(BEHIND);
                    }
                    then.position += 1;
                } else {
                    then.plan = Plan::Acknowledge;
                }
            }
            Plan::Acknowledge => {
                let word = self.ctl[index];
                if word.state != Ctl::Held || word.owner != me {
                    self.broken = Some(NO_HELD);
                }
                self.ctl[index] = Word {
                    state: Ctl::Void,
                    owner: 0,
                    lap: word.lap,
                };
                then.position += 1;
            }
        }
        self.producers[who] = then;
        out.push(self);
    }

    /// Walks to the tail and seals it in place.
    fn step_sealer(mut self, out: &mut Vec<Self>) {
        let s = self.sealer;
        let (index, lap) = (usize::from(s.position) % N, lap(s.position));
        if self.sealed_at.is_some() || lap > LAPS {
            return;
        }
        self.sealer.plan = Plan::Load;
        if s.plan == Plan::Load {
            self.sealer.seen = self.ctl[index];
            if self.sealer.seen.lap < lap || self.mutant == Mutant::SealsTheTaken {
                self.sealer.plan = Plan::Swap;
            } else {
                self.sealer.position += 1;
            }
        } else if self.ctl[index] == s.seen || self.mutant == Mutant::SealsBlindly {
            let is_claim = s.seen.state == Ctl::Claimed && self.mutant != Mutant::KeepsClaims;
            let state = if is_claim { Ctl::Held } else { s.seen.state };
            self.ctl[index] = Word {
                state,
                lap: SEALED,
                ..s.seen
            };
            self.sealed_at = Some(s.position);
        }
        out.push(self);
    }

    fn step_reader(mut self, out: &mut Vec<Self>) {
        let p = self.cursor;
        let index = usize::from(p) % N;
        let word = self.ctl[index];
        if word.lap < lap(p) {
            return;
        }
        if word.state == Ctl::Committed && self.header[index] == p {
            self.read |= 1 << p;
        } else if word.lap == SEALED && self.sealed_at == Some(p) {
            return; // the end: on to the next ring
        } else if word.state == Ctl::Claimed && word.lap == lap(p) {
            // Waited long enough: abandons it.
            self.ctl[index].state = Ctl::Held;
            out.push(self);
            return;
        }
        self.cursor += 1;
        out.push(self);
    }
}

impl State for Ring {
    fn next(&self, out: &mut Vec<Self>) {
        for who in 0..2 {
            self.step_producer(who, out);
        }
        self.step_sealer(out);
        self.step_reader(out);
    }

    fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    fn broken_at_the_end(&self) -> Option<&'static str> {
        (self.read != self.committed).then_some(UNREAD)
    }
}

#[test]
fn a_sealed_ring_takes_nothing_more_and_loses_nothing() {
    holds("sealed", start(Mutant::None));
    is_found_out("sealed blindly", start(Mutant::SealsBlindly), NO_HELD);
    is_found_out("claims are kept", start(Mutant::KeepsClaims), NO_HELD);
    is_found_out(
        "a taken slot is sealed",
        start(Mutant::SealsTheTaken),
        BEHIND,
    );
}
