//! A lossy reader against a producer that overwrites: look, copy, look again; dropped is told.

use crate::queue::{Ctl, Word};
use crate::search::{State, bound, holds, is_found_out};

const N: usize = 2;
const LAPS: u8 = bound(3, 5);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Mutant {
    None,
    /// The copy counts without a second look.
    NoSecondLook,
    /// The second look asks whether a record stands there, not which.
    AnyRecord,
    /// `trim` follows the record instead of going before its claim.
    TrimsLate,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Write {
    #[default]
    Trim,
    Claim,
    Header,
    Body,
    /// Commit, or give up and leave the position empty.
    Finish,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Read {
    #[default]
    Word,
    Header,
    Copy,
    WordAgain,
    HeaderAgain,
    /// Not the record: was it dropped, or never there?
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Ring {
    mutant: Mutant,
    ctl: [Word; N],
    header: [u8; N],
    body: [u8; N],
    trim: u8,
    write: Write,
    position: u8,
    read: Read,
    cursor: u8,
    copied: u8,
    committed: u16,
    broken: Option<&'static str>,
}

const WRONG_BODY: &str = "the body of another record was read";
const UNTOLD: &str = "a record was missed and nobody said so";
const STUCK: &str = "the reader never came to the end";

fn start(mutant: Mutant) -> Ring {
    Ring {
        mutant,
        ctl: [Word::default(); N],
        header: [0; N],
        body: [0; N],
        trim: 0,
        write: Write::Trim,
        position: 0,
        read: Read::Word,
        cursor: 0,
        copied: 0,
        committed: 0,
        broken: None,
    }
}

fn lap(position: u8) -> u8 {
    position / N as u8 + 1
}

impl Ring {
    fn step_producer(mut self, out: &mut Vec<Self>) {
        let p = self.position;
        let (index, lap) = (usize::from(p) % N, lap(p));
        if lap > LAPS {
            return;
        }
        let trim = (p + 1).saturating_sub(N as u8);
        let is_late = self.mutant == Mutant::TrimsLate;
        let word = |state| Word {
            state,
            owner: 1,
            lap,
        };
        match self.write {
            Write::Trim => {
                if !is_late {
                    self.trim = trim;
                }
                self.write = Write::Claim;
            }
            Write::Claim => {
                self.ctl[index] = word(Ctl::Claimed);
                self.write = Write::Header;
            }
            Write::Header => {
                self.header[index] = p;
                self.write = Write::Body;
            }
            Write::Body => {
                self.body[index] = p;
                self.write = Write::Finish;
            }
            Write::Finish => {
                if is_late {
                    self.trim = trim;
                }
                self.write = Write::Trim;
                self.position += 1;
                let mut given_up = self;
                given_up.ctl[index] = word(Ctl::Void);
                out.push(given_up);
                self.ctl[index] = word(Ctl::Committed);
                self.committed |= 1 << p;
            }
        }
        out.push(self);
    }

    fn step_reader(mut self, out: &mut Vec<Self>) {
        let p = self.cursor;
        let index = usize::from(p) % N;
        let word = self.ctl[index];
        match self.read {
            Read::Word if word.lap < lap(p) => return,
            Read::Word if word.state == Ctl::Claimed && word.lap == lap(p) => return,
            Read::Word if word.state == Ctl::Committed => self.read = Read::Header,
            Read::Word => self.read = Read::Gone,
            Read::Header if self.header[index] == p => self.read = Read::Copy,
            Read::Header => self.read = Read::Gone,
            Read::Copy => {
                self.copied = self.body[index];
                self.read = Read::WordAgain;
                if self.mutant == Mutant::NoSecondLook {
                    self.accept();
                }
            }
            Read::WordAgain if word.state != Ctl::Committed => self.read = Read::Gone,
            Read::WordAgain if self.mutant == Mutant::AnyRecord => self.accept(),
            Read::WordAgain => self.read = Read::HeaderAgain,
            Read::HeaderAgain if self.header[index] == p => self.accept(),
            Read::HeaderAgain => self.read = Read::Gone,
            Read::Gone => {
                self.read = Read::Word;
                if p < self.trim {
                    self.cursor = self.trim; // lagged, and told
                } else {
                    self.cursor += 1;
                    if self.committed & 1 << p != 0 {
                        self.broken = Some(UNTOLD);
                    }
                }
            }
        }
        out.push(self);
    }

    fn accept(&mut self) {
        if self.copied != self.cursor {
            self.broken = Some(WRONG_BODY);
        }
        self.cursor += 1;
        self.read = Read::Word;
    }
}

impl State for Ring {
    fn next(&self, out: &mut Vec<Self>) {
        self.step_producer(out);
        self.step_reader(out);
    }

    fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    fn broken_at_the_end(&self) -> Option<&'static str> {
        (self.cursor < self.position).then_some(STUCK)
    }
}

#[test]
fn what_is_read_is_whole_and_what_is_missed_is_told() {
    holds("lossy", start(Mutant::None));
    is_found_out("no second look", start(Mutant::NoSecondLook), WRONG_BODY);
    is_found_out("any record", start(Mutant::AnyRecord), WRONG_BODY);
    is_found_out("trim comes late", start(Mutant::TrimsLate), UNTOLD);
}
