//! Each operation, killed and stopped at every instruction.
//!
//! A victim is stepped through one call by ptrace and gets SIGKILL, or a real SIGSTOP, before each
//! of its instructions in turn, in a fresh world each time; the survivor then looks at everything
//! (see `survivor`). A stopped victim is continued afterwards and has to finish; in a third round
//! it is killed while stopped.
//!
//! ```text
//! cargo test --release --test step                      a subset: about 40 places of each sweep
//! RINGWAY_FULL=1 cargo test --release --test step       every instruction of all but the longest
//! RINGWAY_PLACES=200 … step -- batch                    about 200 places, of some operations
//! RINGWAY_SEED=n                                        the offset of the subset
//! ```

mod book;
mod operations;
mod published;
mod redriven;
mod stage;
mod streamed;
mod survivor;

use operations::{OPERATIONS, Operation};
use ringway_harness::seed;
use ringway_harness::step::{Mode, Point, Stepper, Sweep};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use survivor::{Wings, World};

ringway_harness::roles! {
    victim => operations::victim,
    corpse => operations::corpse,
}

/// Others have to go on within this time.
const PROGRESS: Duration = Duration::from_millis(50);
/// Only a multiple of it counts as a failure, and only if it happens twice at the same place: a
/// shared machine pauses.
const STUCK: Duration = Duration::from_millis(500);
/// In a full run stretches of so many steps are visited at each of them; longer ones (system calls,
/// formatting, the scan of the pool) at about `FULL_PLACES`.
const WHOLE: u64 = 3000;
const FULL_PLACES: u64 = 500;
/// Stages that play at the same time: while a victim is stepped, one of a pair of processes waits.
const STAGES: usize = 2;

/// What becomes of the victim at its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Continued,
    KilledWhileStopped,
}

#[derive(Default)]
struct Tally {
    total: u64,
    visited: u64,
    strayed: u64,
    failures: u64,
    slow: Vec<u64>,
    stuck: Vec<u64>,
    progress: Duration,
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let number = |key: &str| {
        std::env::var(key)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let full = number("RINGWAY_FULL") == Some(1);
    let places = number("RINGWAY_PLACES").unwrap_or(if full { FULL_PLACES } else { 40 });
    let whole = if full { WHOLE } else { 0 };
    let seed = seed::announce("stepping");
    let fates: &[Fate] = if full {
        &[Fate::Killed, Fate::Continued, Fate::KilledWhileStopped]
    } else {
        &[Fate::Killed, Fate::Continued]
    };
    let is_wanted = |operation: &&'static Operation| {
        wanted
            .iter()
            .all(|word| operation.name.contains(word.as_str()))
    };
    let operations = OPERATIONS.iter().filter(is_wanted);
    let sweeps: Vec<_> = operations
        .flat_map(|operation| fates.iter().map(move |fate| (operation, *fate)))
        .collect();
    println!("operation, fate: steps, visited, strayed, failures, over 50 ms, slowest progress");
    let (next, tallies) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for stage in 0..STAGES {
            let (next, tallies, sweeps) = (&next, &tallies, &sweeps);
            scope.spawn(move || {
                let mut wings = Wings::new(stage).expect("the wings of the stage");
                while let Some((operation, fate)) = sweeps.get(next.fetch_add(1, SeqCst)) {
                    let mut sweep = Sweep::new(operation.name, mode(*fate))
                        .about(places, seed)
                        .whole_up_to(whole);
                    if operation.each_call {
                        sweep = sweep.around_system_calls();
                    }
                    let tally = play(operation, *fate, &sweep, &mut wings);
                    tally.tell(operation, *fate);
                    tallies.lock().unwrap().push((operation.name, tally));
                }
            });
        }
    });
    let tallies = tallies.into_inner().unwrap();
    let in_part = tallies.iter().filter(|(_, tally)| !tally.is_whole());
    let in_part: BTreeSet<_> = in_part.map(|(operation, _)| operation).collect();
    let all: BTreeSet<_> = tallies.iter().map(|(operation, _)| operation).collect();
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(|(_, tally)| of(tally)).sum::<u64>();
    let failures = sum(|tally| tally.failures);
    let slowest = tallies.iter().map(|(_, tally)| tally.progress).max();
    println!(
        "{{\"target\":\"R1\",\"operations_whole\":{},\"steps\":{},\"failures\":{failures},\"progress_ms\":{:.1}}}",
        all.len() - in_part.len(),
        sum(|tally| tally.visited),
        slowest.unwrap_or_default().as_secs_f64() * 1e3
    );
    stage::end(failures)
}

impl Tally {
    /// Whether every step was visited.
    fn is_whole(&self) -> bool {
        self.visited > self.total
    }

    fn tell(&self, operation: &Operation, fate: Fate) {
        println!(
            "{}, {fate:?}: {} steps, {} visited, {} strayed, {} failures, {} over 50 ms, {:.1} ms",
            operation.name,
            self.total,
            self.visited,
            self.strayed,
            self.failures,
            self.slow.len(),
            self.progress.as_secs_f64() * 1e3
        );
    }
}

fn mode(fate: Fate) -> Mode {
    if fate == Fate::Killed {
        Mode::Kill
    } else {
        Mode::Stop
    }
}

fn play(operation: &'static Operation, fate: Fate, sweep: &Sweep, wings: &mut Wings) -> Tally {
    let mut tally = visit(operation, fate, sweep, wings);
    for k in std::mem::take(&mut tally.stuck) {
        let again = visit(
            operation,
            fate,
            &Sweep::new(operation.name, mode(fate)).only(k),
            wings,
        );
        tally.failures += again.failures + again.stuck.len() as u64;
        if !again.stuck.is_empty() {
            println!("{}: others were stuck at step {k}, twice", operation.name);
        }
    }
    tally
}

fn visit(operation: &'static Operation, fate: Fate, sweep: &Sweep, wings: &mut Wings) -> Tally {
    let tally = RefCell::new(Tally::default());
    let wings = RefCell::new(wings);
    let launch = |_| wings.borrow_mut().open(operation);
    let check = |at: &Point, victim: &mut Stepper, world: &mut World| {
        if fate != Fate::Killed {
            // A parity that no stride of a subset hides.
            world.go_on_beside_the_stopped(at.k.count_ones().is_multiple_of(2))?;
            match fate {
                Fate::Continued => victim.resume_success()?,
                _ => drop(victim.kill()?),
            }
        }
        let verdict = world.settle(&wings.borrow(), fate == Fate::KilledWhileStopped);
        let mut tally = tally.borrow_mut();
        tally.progress = tally.progress.max(world.progress);
        if world.progress > PROGRESS {
            tally.slow.push(at.k);
        }
        if world.progress > STUCK {
            tally.stuck.push(at.k);
        }
        verdict
    };
    let summary = sweep.run(launch, check);
    let mut tally = tally.into_inner();
    match summary {
        Ok(summary) => {
            tally.total = summary.total;
            tally.visited = summary.visited;
            tally.strayed = summary.strayed;
            tally.failures = summary.failures.len() as u64;
        }
        Err(fault) => {
            println!("{}: the stage collapsed: {fault}", operation.name);
            tally.failures += 1;
        }
    }
    tally
}
