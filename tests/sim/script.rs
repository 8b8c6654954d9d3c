//! A run that is drawn from a seed: entries and state pushed, blocks submitted, the lead handed on, lost and
//! taken over, segments released; and the promises it makes on the way.

use crate::disk::Sim;
use ringway::JournalError;
use ringway::journal::{
    Cursor, DEFINITION_BYTES, Options, Pushed, Reading, Recovery, SIDE, SegmentId, Writer,
};
use ringway_harness::seed::Random;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const OBJECT: u64 = 0xFEED;
/// Of entries.
pub const DATA: u8 = 1;
/// Of state that is numbered and promised.
pub const STATE: u8 = SIDE + 1;
/// Of state that a displaced writer writes: it may count or not.
pub const STRAY: u8 = SIDE + 2;

pub fn options(buffers: usize) -> Options {
    Options {
        segment_bytes: 64 << 10,
        buffer_bytes: 8 << 10,
        buffers,
        spares: 1,
        reserve_bytes: 0,
        background: false,
    }
}

pub fn definition() -> [u8; DEFINITION_BYTES] {
    core::array::from_fn(|i| (i * 13) as u8)
}

/// What position, or state, `number` says.
pub fn body(number: u64) -> Vec<u8> {
    let mut random = Random::new(number ^ 0xB0D1);
    let len = match random.below(40) {
        0 => random.below(20_000),
        1..4 => random.below(4_000),
        _ => random.below(300),
    };
    let words = (0..len.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes());
    words.take(len as usize).collect()
}

/// What is known of a run.
pub struct Run {
    pub sim: Sim,
    random: Random,
    writer: Option<Writer<Sim>>,
    displaced: Vec<Writer<Sim>>,
    epoch: u64,
    /// The next position, and the next number of state.
    next: u64,
    states: u64,
    acked: u64,
    acked_states: u64,
    needed_from: u64,
    states_from: u64,
    /// Of each segment, what its entries are below: position and state.
    bounds: BTreeMap<SegmentId, (u64, u64)>,
    pub acked_cursor: (u64, Cursor),
    /// A displaced writer had an error.
    pub has_strayed: bool,
}

impl Run {
    pub fn new(sim: Sim, seed: u64) -> Self {
        Self {
            sim,
            random: Random::new(seed),
            writer: None,
            displaced: Vec::new(),
            epoch: 0,
            next: 0,
            states: 0,
            acked: 0,
            acked_states: 0,
            needed_from: 0,
            states_from: 0,
            bounds: BTreeMap::new(),
            acked_cursor: (
                0,
                Cursor {
                    segment: 0,
                    offset: 0,
                },
            ),
            has_strayed: false,
        }
    }

    fn storage(&self) -> Arc<Sim> {
        Arc::new(self.sim.clone())
    }

    fn promise(&self) {
        let now = crate::disk::Promise {
            needed_from: self.needed_from,
            acked: self.acked,
            acked_states: self.acked_states,
            states_from: self.states_from,
            pushed: self.next,
            acked_cursor: self.acked_cursor,
        };
        self.sim.promise(|promise| *promise = now);
    }

    /// One step; an error is one of the journal's, and the next step takes over.
    pub fn step(&mut self) -> Result<(), JournalError> {
        let done = self.try_step();
        // Without space for the next segment the writer may try again.
        let may_go_on = matches!(&done, Ok(()) | Err(JournalError::NoSpace { .. }));
        if !may_go_on || self.writer.as_ref().is_some_and(Writer::is_frozen) {
            self.writer = None;
        }
        done
    }

    fn try_step(&mut self) -> Result<(), JournalError> {
        if self.writer.is_none() {
            return self.take_over();
        }
        match self.random.below(100) {
            0..55 => self.push(),
            55..70 => self.submit(),
            70..82 => self.complete(false),
            82..90 => self.complete(true),
            90..93 => self.mark(),
            93..95 => self.hand_over(),
            95..97 => self.release(),
            97 => self.displace(),
            98 => {
                // Its process dies; what is under way may still come.
                self.writer = None;
                self.recover()
            }
            _ => self.close(),
        }?;
        if self.random.percent(10) {
            self.stray();
        }
        Ok(())
    }

    fn take_over(&mut self) -> Result<(), JournalError> {
        self.epoch += 1;
        let options = options(2 + self.random.below(3) as usize);
        let writer = Writer::take_over(
            self.storage(),
            options,
            OBJECT,
            self.epoch,
            self.acked,
            &definition(),
        )?;
        self.writer = Some(writer);
        let (upto, upto_states) = (self.next, self.states);
        (self.next, self.states) = (self.acked, self.acked_states);
        // What was not acknowledged is pushed again.
        while self.states < upto_states {
            self.push_state()?;
        }
        while self.next < upto {
            self.push_entry()?;
        }
        Ok(())
    }

    fn writer(&mut self) -> &mut Writer<Sim> {
        self.writer.as_mut().expect("somebody leads")
    }

    fn push(&mut self) -> Result<(), JournalError> {
        match self.random.below(10) {
            0..2 => self.push_state(),
            _ => self.push_entry(),
        }
    }

    fn push_entry(&mut self) -> Result<(), JournalError> {
        let position = self.next;
        let body = body(position);
        let cut = body.len() / 3;
        let flags = position as u8;
        while self
            .writer()
            .push(DATA, flags, position, &[&body[..cut], &body[cut..]])?
            == Pushed::Full
        {
            self.complete(false)?;
        }
        self.next += 1;
        self.promise();
        Ok(())
    }

    fn push_state(&mut self) -> Result<(), JournalError> {
        let number = self.states;
        let body = body(number);
        let body = &body[..body.len().min(100)];
        while self.writer().push(STATE, 0, number, &[body])? == Pushed::Full {
            self.complete(false)?;
        }
        self.states += 1;
        Ok(())
    }

    fn submit(&mut self) -> Result<(), JournalError> {
        self.writer().submit()
    }

    fn complete(&mut self, wait: bool) -> Result<(), JournalError> {
        let mark = self.writer().complete(wait)?;
        self.acked = mark.position;
        self.acked_cursor = (self.epoch, mark.cursor);
        if self.writer().cursor().is_some() {
            self.acked_states = self.states;
        }
        self.bound(mark.cursor.segment);
        self.promise();
        Ok(())
    }

    /// Segments up to that one hold nothing that comes later.
    fn bound(&mut self, upto: u64) {
        let epoch = self.epoch;
        for index in 0..upto {
            let id = SegmentId { epoch, index };
            self.bounds.entry(id).or_insert((self.next, self.states));
        }
        let id = SegmentId { epoch, index: upto };
        self.bounds.insert(id, (u64::MAX, u64::MAX));
        // It was the last until now.
        for (_, bound) in self
            .bounds
            .iter_mut()
            .filter(|(of, bound)| **of < id && bound.0 == u64::MAX)
        {
            *bound = (self.next, self.states);
        }
    }

    fn mark(&mut self) -> Result<(), JournalError> {
        self.writer().mark()
    }

    fn hand_over(&mut self) -> Result<(), JournalError> {
        self.submit()?;
        self.complete(true)?;
        let cursor = self.writer().cursor().expect("it is idle");
        if self.random.percent(50) {
            let next = self.next;
            return self.writer().seek(cursor, next);
        }
        self.writer = None;
        let resumed = Writer::resume(
            self.storage(),
            options(3),
            OBJECT,
            self.epoch,
            cursor,
            self.next,
        )?;
        self.writer = Some(resumed);
        Ok(())
    }

    fn release(&mut self) -> Result<(), JournalError> {
        self.needed_from = self.acked - self.random.below(self.acked - self.needed_from + 1) / 2;
        self.states_from = self.acked_states;
        self.promise();
        let (position, state, epoch) = (self.needed_from, self.states_from, self.epoch);
        let names = self
            .sim
            .world(|world| Vec::from_iter(world.names.keys().cloned()));
        let over: Vec<_> = names
            .iter()
            .filter_map(|name| SegmentId::of_name(name))
            .filter(|id| match self.bounds.get(id) {
                Some(bound) => bound.0 <= position && bound.1 <= state,
                // Made by one who was displaced, for nothing.
                None => id.epoch < epoch,
            })
            .collect();
        self.writer().release(&over)?;
        Ok(())
    }

    /// It is stopped; somebody else takes over, and it goes on one day.
    fn displace(&mut self) -> Result<(), JournalError> {
        self.displaced.extend(self.writer.take());
        if self.displaced.len() > 2 {
            self.displaced.remove(0);
        }
        Ok(())
    }

    /// What a displaced writer does is nobody's concern any more.
    fn stray(&mut self) {
        let Some(stray) = self.displaced.last_mut() else {
            return;
        };
        let next = stray.next();
        let done = match self.random.below(4) {
            0 => stray.push(STRAY, 0, 0, &[b"stray"]).map(drop),
            1 => stray.push(DATA, next as u8, next, &[&body(next)]).map(drop),
            2 => stray.submit(),
            _ => stray.complete(false).map(drop),
        };
        self.has_strayed |= done.is_err();
    }

    fn recover(&mut self) -> Result<(), JournalError> {
        let recovery = Recovery::open(self.storage(), Some(OBJECT), false)?;
        let reading = Reading {
            seal: true,
            ..Reading::default()
        };
        let mut states = 0;
        let found = recovery.read(&reading, |entry| {
            if entry.kind == STATE {
                states = states.max(entry.position + 1);
            }
            Ok::<_, JournalError>(())
        })?;
        assert!(found.next >= self.acked, "{found:?}");
        self.acked = found.next;
        self.next = found.next;
        self.acked_states = self.acked_states.max(states);
        self.states = self.acked_states;
        let bound = (self.next, self.states);
        for segment in recovery.segments() {
            self.bounds.entry(segment.id).or_insert(bound);
        }
        self.promise();
        Ok(())
    }

    fn close(&mut self) -> Result<(), JournalError> {
        if let Some(writer) = self.writer.take() {
            let mark = writer.close()?;
            (self.acked, self.acked_states) = (self.next, self.states);
            self.acked_cursor = (self.epoch, mark.cursor);
            assert_eq!(mark.position, self.next);
            self.bound(mark.cursor.segment);
            self.promise();
        }
        Ok(())
    }

    /// The one who leads is killed, with a block under way that nobody was told of.
    pub fn dies(&mut self) -> Result<(), JournalError> {
        self.push_entry()?;
        self.submit()?;
        self.writer = None;
        Ok(())
    }

    /// Gives back what nobody needs.
    pub fn gives_back(&mut self) -> Result<(), JournalError> {
        self.needed_from = self.acked;
        self.release()
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Pushes one entry and waits for it.
    pub fn fill(&mut self) -> Result<(), JournalError> {
        if self.writer.is_none() {
            self.take_over()?;
        }
        self.push_entry()?;
        self.submit()?;
        self.complete(true)
    }

    /// Ends it as a process does that is asked to.
    pub fn finish(mut self) -> Result<Self, JournalError> {
        if self.writer.is_none() {
            self.take_over()?;
        }
        self.submit()?;
        self.complete(true)?;
        self.writer = None;
        self.displaced.clear();
        Ok(self)
    }
}
