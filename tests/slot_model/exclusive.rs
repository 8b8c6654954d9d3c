//! An exclusive ring: plain stores, a producer that dies anywhere, a successor, a reliable reader,
//! and a lossy one that voids the claims of the dead.

use crate::queue::{Ctl, Word};
use crate::search::{State, bound, holds, is_found_out};

const N: usize = 2;
const LAPS: u8 = bound(2, 4);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Step {
    #[default]
    Take,
    Clean,
    Claim,
    Write,
    Commit,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Producer {
    step: Step,
    position: u8,
    is_dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Mutant {
    None,
    /// The successor does not ask whether the holder is dead.
    TakesFromTheLiving,
    /// The successor starts at the last claim instead of behind it.
    ForgetsTheClaim,
    /// The reader voids what it saw without comparing the word again.
    VoidsBlindly,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Ring {
    mutant: Mutant,
    ctl: [Word; N],
    header: [u8; N],
    /// The producer word: who holds it.
    holder: u8,
    producers: [Producer; 2],
    cursor: u8,
    /// A claim that a lossy reader waits for, whose owner it has found dead: slot and word.
    seen: Option<(u8, Word)>,
    claimed: u16,
    committed: u16,
    read: u16,
    broken: Option<&'static str>,
}

const TWICE: &str = "a position was given out twice";
const MISREAD: &str = "the reader passed a record by, or read one that was never committed";
const UNREAD: &str = "a committed record was never read";

fn start(mutant: Mutant) -> Ring {
    Ring {
        mutant,
        ctl: [Word::default(); N],
        header: [0; N],
        holder: 0,
        producers: [Producer::default(); 2],
        cursor: 0,
        seen: None,
        claimed: 0,
        committed: 0,
        read: 0,
        broken: None,
    }
}

fn lap(position: u8) -> u8 {
    position / N as u8 + 1
}

impl Ring {
    /// The first position that is not taken.
    fn tail(&self) -> u8 {
        let taken = |position: &u8| self.ctl[usize::from(*position) % N].lap >= lap(*position);
        (0..).take_while(taken).count() as u8
    }

    /// Where the successor goes on: a claim that was left is void.
    fn clean(&mut self) -> u8 {
        let tail = self.tail();
        let Some(last) = tail.checked_sub(1) else {
            return tail;
        };
        let word = &mut self.ctl[usize::from(last) % N];
        if word.state != Ctl::Claimed {
            return tail;
        }
        if self.mutant == Mutant::ForgetsTheClaim {
            return last;
        }
        *word = Word {
            state: Ctl::Void,
            owner: 0,
            lap: lap(last),
        };
        tail
    }

    fn step_producer(mut self, who: usize, out: &mut Vec<Self>) {
        let me = who as u8 + 1;
        let p = self.producers[who];
        let index = usize::from(p.position) % N;
        let word = |state| Word {
            state,
            owner: me,
            lap: lap(p.position),
        };
        let mut then = p;
        match p.step {
            Step::Take => {
                let free = self.holder == 0 || self.producers[usize::from(self.holder) - 1].is_dead;
                if !free && self.mutant != Mutant::TakesFromTheLiving {
                    return;
                }
                self.holder = me;
                then.step = Step::Clean;
            }
            Step::Clean => {
                then.position = self.clean();
                then.step = Step::Claim;
            }
            Step::Claim => {
                if lap(p.position) > LAPS || p.position >= self.cursor + N as u8 {
                    return;
                }
                if self.claimed & 1 << p.position != 0 {
                    self.broken = Some(TWICE);
                }
                self.claimed |= 1 << p.position;
                self.ctl[index] = word(Ctl::Claimed);
                then.step = Step::Write;
            }
            Step::Write => {
                self.header[index] = p.position;
                then.step = Step::Commit;
            }
            Step::Commit => {
                self.ctl[index] = word(Ctl::Committed);
                self.committed |= 1 << p.position;
                then.position += 1;
                then.step = Step::Claim;
            }
        }
        self.producers[who] = then;
        out.push(self);
    }

    fn step_reader(mut self, out: &mut Vec<Self>) {
        let index = usize::from(self.cursor) % N;
        let word = self.ctl[index];
        if word.lap < lap(self.cursor) {
            return;
        }
        if word.state == Ctl::Claimed {
            return; // waits; the other reader resolves
        }
        let is_record = word.state == Ctl::Committed && self.header[index] == self.cursor;
        if is_record {
            self.read |= 1 << self.cursor;
        }
        if is_record != (self.committed & 1 << self.cursor != 0) {
            self.broken = Some(MISREAD);
        }
        self.cursor += 1;
        out.push(self);
    }

    /// Loads a claim and probes its owner; then CASes exactly that word. It holds nobody back.
    fn step_lossy(mut self, out: &mut Vec<Self>) {
        if let Some((index, seen)) = self.seen.take() {
            let word = &mut self.ctl[usize::from(index)];
            if *word == seen || self.mutant == Mutant::VoidsBlindly {
                *word = Word {
                    state: Ctl::Void,
                    owner: 0,
                    lap: word.lap,
                };
            }
            out.push(self);
            return;
        }
        for (index, word) in self.ctl.into_iter().enumerate() {
            if word.state == Ctl::Claimed && self.producers[usize::from(word.owner) - 1].is_dead {
                self.seen = Some((index as u8, word));
                out.push(self);
            }
        }
    }
}

impl State for Ring {
    fn next(&self, out: &mut Vec<Self>) {
        for who in 0..2 {
            if !self.producers[who].is_dead {
                self.step_producer(who, out);
            }
        }
        self.step_reader(out);
        self.step_lossy(out);
        if !self.producers[0].is_dead {
            let mut then = *self;
            then.producers[0].is_dead = true;
            out.push(then);
        }
    }

    fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    fn broken_at_the_end(&self) -> Option<&'static str> {
        (self.read != self.committed).then_some(UNREAD)
    }
}

#[test]
fn a_successor_goes_on_where_the_dead_producer_stopped() {
    holds("exclusive", start(Mutant::None));
    is_found_out(
        "taken from the living",
        start(Mutant::TakesFromTheLiving),
        TWICE,
    );
    is_found_out(
        "the claim is forgotten",
        start(Mutant::ForgetsTheClaim),
        TWICE,
    );
    is_found_out("voided blindly", start(Mutant::VoidsBlindly), MISREAD);
}
