//! R6: each call that a scripted run makes to the disk, and each completion, fails once, in each way. The error
//! is typed and final for its writer; nothing acknowledged is lost, nothing hangs, no file, lane or temporary
//! name is left.

use crate::crash;
use crate::disk::{Fault, How, Sim};
use crate::effort;
use crate::script::Run;
use crate::world::World;
use ringway::JournalError;
use ringway_harness::seed::Random;

const STEPS: u64 = 150;
const SEEDS: u64 = 6;

/// How many steps failed, and the calls that could have.
fn run(seed: u64, fault: Option<Fault>) -> (Vec<JournalError>, Vec<&'static str>, Sim, bool) {
    let sim = Sim::new(World::default(), seed);
    sim.fail_at(fault);
    let mut run = Run::new(sim.clone(), seed);
    let mut errors = Vec::new();
    for _ in 0..STEPS {
        if let Err(error) = run.step() {
            errors.push(error);
        }
    }
    let calls = sim.calls();
    sim.fail_at(None);
    let finished = run.finish().expect("the disk is well again");
    let is_stray = finished.has_strayed;
    drop(finished);
    (errors, calls, sim, is_stray)
}

#[test]
fn every_call_fails_once_and_nothing_is_lost_or_left() {
    let mut executions = 0;
    for seed in 0..SEEDS {
        let (errors, calls, ..) = run(seed, None);
        assert!(errors.is_empty(), "{errors:?}");
        for how in [How::Eio, How::Enospc, How::Short] {
            for call in 0..calls.len() as u64 {
                let what = calls[call as usize];
                let case = format!("seed {seed}: {what} (call {call}) fails with {how:?}");
                let told = std::panic::catch_unwind(|| {
                    let (errors, _, sim, is_stray) = run(seed, Some(Fault { call, how }));
                    assert!(
                        errors.len() <= 1,
                        "one failure, {} errors: {errors:?}",
                        errors.len()
                    );
                    for error in &errors {
                        assert_eq!(
                            matches!(error, JournalError::NoSpace { .. }),
                            how == How::Enospc,
                            "told as {error}"
                        );
                        assert!(!error.to_string().is_empty());
                    }
                    // What may fail in silence: footers and spares are there to save time.
                    let is_silent = [
                        "completion",
                        "create",
                        "rename",
                        "remove",
                        "open",
                        "length",
                        "names",
                    ];
                    assert!(
                        !errors.is_empty() || is_stray || is_silent.contains(&what),
                        "nobody was told"
                    );
                    assert_eq!(sim.open(), (0, 0), "files or lanes are left open");
                    sim.world(|world| {
                        let left = world.names.keys().filter(|name| name.starts_with(".tmp-"));
                        assert_eq!(left.count(), 0, "{:?}", world.names.keys());
                    });
                    let promise = sim.promised();
                    let mut random = Random::new(seed ^ call);
                    for _ in 0..2 {
                        let state = sim.world(|world| world.crash(&mut random));
                        crash::check(state, &promise, &mut random);
                    }
                });
                if let Err(panic) = told {
                    eprintln!("{case}");
                    std::panic::resume_unwind(panic);
                }
                executions += 1;
            }
        }
    }
    effort::report(
        "R6",
        executions,
        0,
        &[
            ("failures_injected", executions),
            ("untyped", 0),
            ("leaks", 0),
        ],
    );
}

#[test]
fn a_full_disk_is_told_and_the_writer_goes_on_when_there_is_space() {
    let mut world = World::default();
    world.capacity = Some(3 * (64 << 10));
    let sim = Sim::new(world, 3);
    let mut run = Run::new(sim.clone(), 3);
    let mut told = 0;
    for _ in 0..2_000 {
        match run.fill() {
            Ok(()) => {}
            Err(JournalError::NoSpace {
                needed, available, ..
            }) => {
                assert!(available < needed, "{available} of {needed}");
                told += 1;
                if told == 5 {
                    sim.world(|world| world.capacity = None);
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(told, 5);
    assert_eq!(run.epoch(), 1, "the writer was not frozen");
    drop(run.finish().expect("there is space"));
    let state = sim.world(|world| world.crash(&mut Random::new(1)));
    crash::check(state, &sim.promised(), &mut Random::new(1));
}
