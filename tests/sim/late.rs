//! Writers that die by the thousand, and one that makes a segment late: when those who went on meanwhile have
//! filled it and given it back.

use crate::crash;
use crate::disk::Sim;
use crate::script::{DATA, OBJECT, Run, body, definition, options};
use crate::world::World;
use ringway::JournalError;
use ringway::journal::{Pushed, Reading, Recovery, SegmentId, Writer};
use ringway_harness::seed::{self, Random};
use std::sync::{Arc, Mutex};

/// Ten times as many as any header could list, and as a window of five minutes has seen.
const DEATHS: u64 = 2_200;
/// So many of them leave a segment that stays.
const KEPT: u64 = 550;

#[test]
fn thousands_of_writers_die_and_the_journal_goes_on() {
    let sim = Sim::new(World::default(), 7);
    let mut random = Random::new(seed::announce("thousands_of_writers_die"));
    let mut run = Run::new(sim.clone(), 7);
    for death in 1..=DEATHS {
        run.fill().expect("there is always another epoch");
        run.dies().expect("the disk is well");
        if death.is_multiple_of(KEPT) {
            let state = sim.world(|world| world.crash(&mut random));
            crash::check(state, &sim.promised(), &mut random);
            run.fill().expect("there is always another epoch");
            run.gives_back().expect("the disk is well");
            assert!(sim.world(|world| world.names.len()) < 5);
        }
    }
    assert!(run.epoch() >= DEATHS);
    drop(run.finish().expect("the disk is well"));
    let state = sim.world(|world| world.crash(&mut random));
    crash::check(state, &sim.promised(), &mut random);
}

fn push(writer: &mut Writer<Sim>) -> Result<(), JournalError> {
    let position = writer.next();
    while writer.push(DATA, position as u8, position, &[&body(position)])? == Pushed::Full {
        writer.complete_one()?;
    }
    writer.submit()
}

/// Fills up to segment `index`.
fn fill(writer: &mut Writer<Sim>, index: u64) {
    while writer.watermark().cursor.segment < index {
        push(writer).expect("the disk is well");
        writer.complete(true).expect("the disk is well");
    }
}

/// What is there: positions, and the segments.
fn read(sim: &Sim) -> (Vec<u64>, Vec<SegmentId>) {
    let recovery = Recovery::open(Arc::new(sim.clone()), Some(OBJECT), false).unwrap();
    let mut positions = Vec::new();
    let read = recovery.read(&Reading::default(), |entry| {
        positions.push(entry.position);
        Ok::<_, JournalError>(())
    });
    read.expect("nothing is damaged");
    (positions, recovery.segments().map(|it| it.id).collect())
}

/// Gives them back, once their footers are written.
fn give_back(writer: &mut Writer<Sim>, over: &[SegmentId]) {
    let mut taken = 0;
    while taken < over.len() {
        writer.complete(true).unwrap();
        taken += writer.release(over).unwrap();
    }
}

fn begin(sim: &Sim, epoch: u64, start: u64) -> Writer<Sim> {
    let storage = Arc::new(sim.clone());
    Writer::take_over(storage, options(2), OBJECT, epoch, start, &definition()).unwrap()
}

/// Lets one who needs the next segment stop in front of `call`; `others` fill it, go on, and give it back.
/// What it hears then, and whoever went on.
fn late(
    sim: &Sim,
    call: &'static str,
    others: impl FnOnce(Writer<Sim>) -> Writer<Sim> + Send + 'static,
) -> (JournalError, Writer<Sim>) {
    let mut first = begin(sim, 1, 0);
    while first.watermark().cursor.offset < 48 << 10 {
        push(&mut first).unwrap();
        first.complete(true).unwrap();
    }
    let cursor = first.cursor().expect("it is idle");
    let next = first.next();
    let storage = Arc::new(sim.clone());
    let mut late = Writer::resume(storage, options(2), OBJECT, 1, cursor, next).unwrap();
    let gone_on = Arc::new(Mutex::new(None));
    let meanwhile = {
        let gone_on = Arc::clone(&gone_on);
        move || *gone_on.lock().unwrap() = Some(others(first))
    };
    sim.before(call, meanwhile);
    let told = loop {
        // What it writes is lost where others write meanwhile: it was never told that it leads.
        match push(&mut late).and_then(|()| late.complete(true)) {
            Ok(_) if gone_on.lock().unwrap().is_none() => {}
            Ok(_) => panic!("it made a segment that was over"),
            Err(error) => break error,
        }
    };
    let gone_on = gone_on.lock().unwrap().take().expect("it came so far");
    (told, gone_on)
}

#[test]
fn one_who_makes_a_segment_late_leaves_none_where_its_epoch_goes_on() {
    for call in ["create", "rename"] {
        let sim = Sim::new(World::default(), 11);
        let (told, mut others) = late(&sim, call, |mut others| {
            fill(&mut others, 2);
            let over = [0, 1].map(|index| SegmentId { epoch: 1, index });
            give_back(&mut others, &over);
            others
        });
        assert!(!told.to_string().is_empty());
        push(&mut others).unwrap();
        let mark = others.complete(true).unwrap();
        let (positions, segments) = read(&sim);
        assert_eq!(
            segments,
            [SegmentId { epoch: 1, index: 2 }],
            "{call}: {told}"
        );
        assert_eq!(positions.last(), Some(&(mark.position - 1)));
    }
}

#[test]
fn one_who_makes_a_segment_late_leaves_none_where_another_epoch_has_begun() {
    for call in ["create", "rename"] {
        let sim = Sim::new(World::default(), 13);
        let storage = sim.clone();
        let (told, mut others) = late(&sim, call, move |first| {
            let start = first.next();
            let mut others = begin(&storage, 2, start);
            fill(&mut others, 1);
            give_back(&mut others, &[SegmentId { epoch: 1, index: 0 }]);
            others
        });
        push(&mut others).unwrap();
        others.complete(true).unwrap();
        let (_, segments) = read(&sim);
        assert!(
            segments.iter().all(|id| id.epoch == 2),
            "{call}: {told}: {segments:?}"
        );
    }
}

#[test]
fn a_segment_is_given_back_only_when_all_before_it_are() {
    let sim = Sim::new(World::default(), 17);
    let mut writer = begin(&sim, 1, 0);
    fill(&mut writer, 3);
    let ids = [0, 1, 2].map(|index| SegmentId { epoch: 1, index });
    assert_eq!(writer.release(&ids[1..]).unwrap(), 0);
    let mut taken = 0;
    while taken == 0 {
        writer.complete(true).unwrap();
        taken = writer.release(&[ids[2], ids[0]]).unwrap();
    }
    assert_eq!(taken, 1);
    give_back(&mut writer, &ids[1..]);
}
