//! A queue: two producers, consumers, leases that expire, views, deaths.
//!
//! A producer goes through the append table: load `ctl`, load `dlv` and probe, CAS exactly `ctl`,
//! write, commit; if the commit fails, acknowledge.

use crate::search::{State, bound, holds, is_found_out};

/// A control word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Word {
    pub state: Ctl,
    pub owner: u8,
    pub lap: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Ctl {
    #[default]
    Void,
    Claimed,
    Committed,
    Held,
}

/// A delivery word. Like the real one it never comes twice: owner, receives and position are in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Lease {
    state: Dlv,
    owner: u8,
    receives: u8,
    position: u8,
    viewed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Dlv {
    #[default]
    Done,
    Ready,
    Inflight,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Slot {
    ctl: Word,
    dlv: Lease,
    header: u8,
    /// Who leased it last; the words do not know it.
    holder: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Plan {
    #[default]
    Load,
    Judge,
    Take,
    Renew,
    Hold,
    Void,
    Write,
    Commit,
    Acknowledge,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Producer {
    plan: Plan,
    position: u8,
    seen: Word,
    is_dead: bool,
}

/// A consumer of a standard queue: it has seen a delivery word, then holds a receipt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Consumer {
    stage: Stage,
    slot: u8,
    word: Lease,
    pin: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Seen,
    Leased,
    Viewing,
}

/// What takes part, and which rule is left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Rules {
    laps: u8,
    deaths: u8,
    consumers: Consumers,
    mutant: Mutant,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Consumers {
    /// One, in position order, with a cursor; any lease may be deleted at any time.
    Ordered,
    /// Two threads of one participant, any message; leases expire at any time.
    Leasing,
    /// One that views in place; anybody else may delete what it has leased.
    Viewing,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Mutant {
    None,
    /// A leased record in the way is stepped over without renewing its word.
    NoRenewal,
    /// An abandoned slot is taken while its owner lives.
    ReusesHeld,
    /// A claim that takes long counts as dead.
    GuessesDeath,
    /// A delete asks only whether the message is leased.
    InexactReceipt,
    /// A receive leaves the count of receives as it was.
    SameReceives,
    /// A producer takes DONE for free, viewed or not.
    IgnoresViews,
    /// The pin is stored behind the lease.
    PinsLate,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Queue<const N: usize> {
    rules: Rules,
    slots: [Slot; N],
    producers: [Producer; 2],
    consumers: [Consumer; 2],
    deaths: u8,
    cursor: u8,
    committed: u8,
    deleted: u8,
    broken: Option<&'static str>,
}

const OVERLAP: &str = "two owners write one slot";
const OVERWRITE: &str = "a slot is written that is not the writer's";
const NO_HELD: &str = "an owner finds neither its claim nor its abandoned claim";
const SKIPPED: &str = "a record lies behind the cursor, unseen";
const UNDELETED: &str = "a committed message is neither deleted nor to be received";
const STALE: &str = "a stale receipt deletes somebody else's lease";
const VIEW_TORN: &str = "an open view shows another record";

impl<const N: usize> Queue<N> {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            slots: [Slot::default(); N],
            producers: [Producer::default(); 2],
            consumers: [Consumer::default(); 2],
            deaths: 0,
            cursor: 0,
            committed: 0,
            deleted: 0,
            broken: None,
        }
    }

    fn lap(position: u8) -> u8 {
        position / N as u8 + 1
    }

    fn slot(position: u8) -> usize {
        usize::from(position) % N
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.rules.mutant == mutant
    }

    /// One CAS of a control word.
    fn swap(&mut self, index: usize, seen: Word, to: Word) -> bool {
        let swapped = self.slots[index].ctl == seen;
        if swapped {
            self.slots[index].ctl = to;
        }
        swapped
    }

    /// What the table says about an older word.
    fn judge(&self, producer: &Producer) -> Plan {
        let slot = &self.slots[Self::slot(producer.position)];
        match producer.seen.state {
            Ctl::Void => Plan::Take,
            Ctl::Committed => match slot.dlv.state {
                Dlv::Done => {
                    let pinned = slot.dlv.viewed
                        && self
                            .consumers
                            .iter()
                            .any(|consumer| consumer.pin == Some(slot.header));
                    if pinned && !self.is(Mutant::IgnoresViews) {
                        Plan::Renew
                    } else {
                        Plan::Take
                    }
                }
                Dlv::Inflight => Plan::Renew,
                Dlv::Ready => Plan::Load, // full: try again
            },
            Ctl::Claimed | Ctl::Held => {
                let owner = &self.producers[usize::from(producer.seen.owner) - 1];
                if owner.is_dead || self.is(Mutant::GuessesDeath) {
                    Plan::Void
                } else if producer.seen.state == Ctl::Held && self.is(Mutant::ReusesHeld) {
                    Plan::Take
                } else {
                    Plan::Hold
                }
            }
        }
    }

    fn step_producer(mut self, who: usize, out: &mut Vec<Self>) {
        let me = who as u8 + 1;
        let p = self.producers[who];
        let (index, lap) = (Self::slot(p.position), Self::lap(p.position));
        let claimed = Word {
            state: Ctl::Claimed,
            owner: me,
            lap,
        };
        let mut then = p;
        then.plan = Plan::Load;
        match p.plan {
            Plan::Load if lap > self.rules.laps => return,
            Plan::Load => {
                let seen = self.slots[index].ctl;
                if seen.lap < lap {
                    (then.seen, then.plan) = (seen, Plan::Judge);
                } else {
                    // Taken, or this producer slept for laps.
                    then.position = (seen.lap - 1) * N as u8 + index as u8 + 1;
                }
            }
            Plan::Judge => then.plan = self.judge(&p),
            Plan::Take => {
                if self.swap(index, p.seen, claimed) {
                    then.plan = Plan::Write;
                }
            }
            Plan::Renew if self.is(Mutant::NoRenewal) => then.position += 1,
            Plan::Renew => {
                if self.swap(index, p.seen, Word { lap, ..p.seen }) {
                    then.position += 1;
                }
            }
            Plan::Hold => {
                if self.swap(
                    index,
                    p.seen,
                    Word {
                        state: Ctl::Held,
                        lap,
                        ..p.seen
                    },
                ) {
                    then.position += 1;
                }
            }
            Plan::Void => {
                self.swap(
                    index,
                    p.seen,
                    Word {
                        state: Ctl::Void,
                        owner: 0,
                        ..p.seen
                    },
                );
            }
            Plan::Write => {
                let other = &self.producers[1 - who];
                let writes = matches!(other.plan, Plan::Write | Plan::Commit) && !other.is_dead;
                if writes && Self::slot(other.position) == index {
                    self.broken = Some(OVERLAP);
                }
                let word = self.slots[index].ctl;
                if word.state == Ctl::Committed || word.owner != me {
                    self.broken = Some(OVERWRITE);
                }
                let ready = Lease {
                    state: Dlv::Ready,
                    position: p.position,
                    ..Lease::default()
                };
                self.slots[index].header = p.position;
                self.slots[index].dlv = ready;
                then.plan = Plan::Commit;
            }
            Plan::Commit => {
                if self.swap(
                    index,
                    claimed,
                    Word {
                        state: Ctl::Committed,
                        ..claimed
                    },
                ) {
                    self.committed += 1;
                    then.position += 1;
                } else {
                    then.plan = Plan::Acknowledge;
                }
            }
            Plan::Acknowledge => {
                let word = self.slots[index].ctl;
                if word.state != Ctl::Held || word.owner != me {
                    self.broken = Some(NO_HELD);
                }
                self.slots[index].ctl = Word {
                    state: Ctl::Void,
                    owner: 0,
                    lap: word.lap,
                };
                then.position += 1;
            }
        }
        if !matches!(
            then.plan,
            Plan::Judge | Plan::Take | Plan::Renew | Plan::Hold | Plan::Void
        ) {
            then.seen = Word::default(); // forgotten, so that fewer states differ
        }
        self.producers[who] = then;
        out.push(self);
    }

    /// A waiting reader: a claim may be abandoned at any time, voided when its owner is dead.
    fn resolve(&self, out: &mut Vec<Self>) {
        for (index, slot) in self.slots.iter().enumerate() {
            let word = slot.ctl;
            if !matches!(word.state, Ctl::Claimed | Ctl::Held) {
                continue;
            }
            let mut then = *self;
            if self.producers[usize::from(word.owner) - 1].is_dead {
                then.slots[index].ctl = Word {
                    state: Ctl::Void,
                    owner: 0,
                    lap: word.lap,
                };
                out.push(then);
            } else if word.state == Ctl::Claimed {
                then.slots[index].ctl.state = Ctl::Held;
                out.push(then);
            }
        }
    }

    fn die(&self, out: &mut Vec<Self>) {
        for who in 0..2 {
            let mut then = *self;
            if self.deaths < self.rules.deaths && !then.producers[who].is_dead {
                then.producers[who].is_dead = true;
                then.deaths += 1;
                out.push(then);
            }
        }
    }

    fn done(&mut self, index: usize) {
        self.slots[index].dlv.state = Dlv::Done;
        self.deleted += 1;
    }

    fn step_ordered(&self, out: &mut Vec<Self>) {
        let (index, lap) = (Self::slot(self.cursor), Self::lap(self.cursor));
        let slot = self.slots[index];
        if lap <= self.rules.laps && slot.ctl.lap >= lap {
            let mut then = *self;
            then.cursor += 1;
            if slot.ctl.state == Ctl::Committed && slot.header == self.cursor {
                then.slots[index].dlv.state = Dlv::Inflight;
                out.push(then);
            } else if slot.ctl.state != Ctl::Claimed || slot.ctl.lap > lap {
                out.push(then);
            }
        }
        for (index, slot) in self.slots.iter().enumerate() {
            if slot.dlv.state == Dlv::Inflight {
                let mut then = *self;
                then.done(index);
                out.push(then);
            }
        }
    }

    /// Load `dlv`, check `ctl` and header, CAS exactly that `dlv`; delete by receipt.
    fn step_leasing(&self, who: usize, out: &mut Vec<Self>) {
        let consumer = self.consumers[who];
        let index = usize::from(consumer.slot);
        let mut then = *self;
        match consumer.stage {
            Stage::Idle => {
                for (index, slot) in self.slots.iter().enumerate() {
                    // The model stops counting at two receives.
                    let expired = slot.dlv.state == Dlv::Inflight && slot.dlv.receives < 2;
                    let fits = slot.ctl.state == Ctl::Committed && slot.header == slot.dlv.position;
                    if fits && (slot.dlv.state == Dlv::Ready || expired) {
                        let slot_index = index as u8;
                        then.consumers[who] = Consumer {
                            stage: Stage::Seen,
                            slot: slot_index,
                            word: slot.dlv,
                            pin: None,
                        };
                        out.push(then);
                    }
                }
            }
            Stage::Seen => {
                let counts = u8::from(!self.is(Mutant::SameReceives));
                let leased = Lease {
                    state: Dlv::Inflight,
                    owner: 1,
                    receives: consumer.word.receives + counts,
                    ..consumer.word
                };
                then.consumers[who] = Consumer::default();
                if self.slots[index].dlv == consumer.word {
                    then.slots[index].dlv = leased;
                    then.slots[index].holder = who as u8;
                    then.consumers[who] = Consumer {
                        stage: Stage::Leased,
                        word: leased,
                        ..consumer
                    };
                }
                out.push(then);
            }
            Stage::Leased | Stage::Viewing => {
                // Forgets its receipt, or deletes by it.
                then.consumers[who] = Consumer::default();
                out.push(then);
                let dlv = self.slots[index].dlv;
                let inexact = self.is(Mutant::InexactReceipt) && dlv.state == Dlv::Inflight;
                if dlv == consumer.word || inexact {
                    then.done(index);
                    if self.slots[index].holder != who as u8 {
                        then.broken = Some(STALE);
                    }
                    out.push(then);
                }
            }
        }
    }

    /// Pin, CAS to INFLIGHT, look at the bytes at any later time, unpin. Meanwhile somebody else
    /// deletes the message behind the expired lease.
    fn step_viewing(&self, out: &mut Vec<Self>) {
        let consumer = self.consumers[0];
        let index = usize::from(consumer.slot);
        let mut then = *self;
        match consumer.stage {
            Stage::Idle => {
                for (index, slot) in self.slots.iter().enumerate() {
                    if slot.ctl.state == Ctl::Committed && slot.dlv.state == Dlv::Ready {
                        then.consumers[0] = Consumer {
                            stage: Stage::Seen,
                            slot: index as u8,
                            word: slot.dlv,
                            pin: (!self.is(Mutant::PinsLate)).then_some(slot.header),
                        };
                        out.push(then);
                    }
                }
            }
            Stage::Seen => {
                then.consumers[0] = Consumer::default();
                if self.slots[index].dlv == consumer.word {
                    then.slots[index].dlv.state = Dlv::Inflight;
                    then.slots[index].dlv.owner = 1;
                    then.consumers[0] = Consumer {
                        stage: Stage::Leased,
                        ..consumer
                    };
                }
                out.push(then);
            }
            Stage::Leased => {
                then.consumers[0].pin = Some(consumer.word.position);
                then.consumers[0].stage = Stage::Viewing;
                out.push(then);
            }
            Stage::Viewing => {
                if self.slots[index].header != consumer.word.position {
                    then.broken = Some(VIEW_TORN);
                }
                then.consumers[0] = Consumer::default();
                out.push(then);
            }
        }
        for (index, slot) in self.slots.iter().enumerate() {
            if slot.dlv.state == Dlv::Inflight {
                let mut then = *self;
                then.slots[index].dlv.viewed = true;
                then.done(index);
                out.push(then);
            }
        }
    }
}

impl<const N: usize> State for Queue<N> {
    fn next(&self, out: &mut Vec<Self>) {
        for who in 0..2 {
            if !self.producers[who].is_dead {
                self.step_producer(who, out);
            }
        }
        self.resolve(out);
        self.die(out);
        match self.rules.consumers {
            Consumers::Ordered => self.step_ordered(out),
            Consumers::Leasing => (0..2).for_each(|who| self.step_leasing(who, out)),
            Consumers::Viewing => self.step_viewing(out),
        }
    }

    fn broken(&self) -> Option<&'static str> {
        let skipped = self.rules.consumers == Consumers::Ordered
            && self.slots.iter().any(|slot| {
                slot.ctl.state == Ctl::Committed
                    && slot.dlv.state == Dlv::Ready
                    && slot.header < self.cursor
            });
        self.broken.or(skipped.then_some(SKIPPED))
    }

    fn broken_at_the_end(&self) -> Option<&'static str> {
        // A lease nobody ends would be received again if the model went on counting.
        let open = self
            .slots
            .iter()
            .filter(|slot| slot.ctl.state == Ctl::Committed && slot.dlv.state == Dlv::Inflight);
        (self.deleted + open.count() as u8 != self.committed).then_some(UNDELETED)
    }
}

const fn rules(consumers: Consumers, laps: u8, deaths: u8, mutant: Mutant) -> Rules {
    Rules {
        laps,
        deaths,
        consumers,
        mutant,
    }
}

#[test]
fn nothing_is_lost_or_torn_while_claims_are_abandoned() {
    use Consumers::Ordered;
    let laps = bound(2, 3);
    holds(
        "two slots",
        Queue::<2>::new(rules(Ordered, laps, 0, Mutant::None)),
    );
    holds(
        "three slots",
        Queue::<3>::new(rules(Ordered, 2, 0, Mutant::None)),
    );
    let start = Queue::<2>::new(rules(Ordered, 3, 0, Mutant::NoRenewal));
    is_found_out("no renewal", start, UNDELETED);
    let start = Queue::<2>::new(rules(Ordered, 3, 0, Mutant::ReusesHeld));
    is_found_out("a held slot is reused", start, OVERWRITE);
}

#[test]
fn what_the_dead_leave_is_void_and_only_the_dead_are_dead() {
    use Consumers::Ordered;
    let laps = bound(2, 3);
    holds(
        "one dies",
        Queue::<2>::new(rules(Ordered, laps, 1, Mutant::None)),
    );
    holds(
        "both die",
        Queue::<2>::new(rules(Ordered, 2, 2, Mutant::None)),
    );
    let start = Queue::<2>::new(rules(Ordered, 3, 0, Mutant::GuessesDeath));
    is_found_out("death is guessed", start, OVERWRITE);
}

#[test]
fn a_receipt_deletes_its_own_lease_or_nothing() {
    use Consumers::Leasing;
    let laps = bound(1, 2);
    holds(
        "two consumers",
        Queue::<2>::new(rules(Leasing, laps, 0, Mutant::None)),
    );
    let start = Queue::<2>::new(rules(Leasing, 2, 0, Mutant::InexactReceipt));
    is_found_out("an inexact receipt", start, STALE);
    let start = Queue::<2>::new(rules(Leasing, 2, 0, Mutant::SameReceives));
    is_found_out("receives are not counted", start, STALE);
}

#[test]
fn an_open_view_keeps_its_record() {
    use Consumers::Viewing;
    let laps = bound(2, 3);
    holds(
        "a view",
        Queue::<2>::new(rules(Viewing, laps, 0, Mutant::None)),
    );
    let start = Queue::<2>::new(rules(Viewing, 3, 0, Mutant::IgnoresViews));
    is_found_out("views are ignored", start, VIEW_TORN);
    let start = Queue::<2>::new(rules(Viewing, 3, 0, Mutant::PinsLate));
    is_found_out("the pin comes late", start, VIEW_TORN);
}
