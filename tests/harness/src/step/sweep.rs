//! The sweep: every step of a stretch visited by a fresh child, a check at each.
//!
//! A reference child is stepped through first: it gives the number of steps and the path.
//! Then for k = 0 ..= total a child is launched, moved to step k, killed or stopped
//! there, and the caller's check looks at what is left. Steps beyond the reference's total
//! are visited too, if some run turns out longer. `RINGWAY_STEP_EVERY=n` visits every n-th
//! step only, `RINGWAY_STEP_SHARD=i/n` one of n equal shares; both say so on standard error.
//!
//! `launch` must make a fresh world each time: a run that left the recorded path is thrown
//! away (killed) and the step is visited again, slowly but surely.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::path::Path;
use super::symbol::Map;
use super::{Outcome, Stepper};
use crate::Fault;

/// The `k` with which `launch` is called for the reference run, which isn't checked.
pub const REFERENCE: u64 = u64::MAX;

/// What happens to the child at its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// SIGKILL; dead and reaped when the check is called.
    Kill,
    /// Held by ptrace while the check runs, which may resume it.
    Freeze,
    /// Stopped by a true SIGSTOP while the check runs, which may resume it.
    Stop,
}

/// Where a child was killed or stopped.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Instructions executed since `begin`.
    pub k: u64,
    /// The instruction that was not executed any more.
    pub rip: u64,
    /// The steps of the reference run.
    pub total: u64,
}

/// A step whose check failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Instructions executed since `begin`.
    pub k: u64,
    /// The instruction that was not executed any more.
    pub rip: u64,
    /// The function and line of `rip`, as far as known.
    pub symbol: String,
    /// What the check, or the stage, said.
    pub why: String,
}

/// What a sweep found.
#[derive(Debug)]
pub struct Summary {
    /// The operation's name.
    pub name: String,
    /// What was done to the children.
    pub mode: Mode,
    /// Steps of the reference run: the stretch has `total + 1` places to be killed at.
    pub total: u64,
    /// Places visited and checked.
    pub visited: u64,
    /// Places not visited: those that a subset left out, or that a run too short never had.
    pub left_out: u64,
    /// Runs that left the recorded path, or were shorter than it.
    pub strayed: u64,
    /// Checks that failed; the sweep gives up after [`Sweep::max_failures`] of them.
    pub failures: Vec<Failure>,
    /// How long it took.
    pub took: Duration,
}

impl Summary {
    /// Panics, listing every failure, unless there is none.
    pub fn assert_clean(&self) {
        assert!(self.failures.is_empty(), "{self}");
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            name,
            mode,
            total,
            visited,
            left_out,
            strayed,
            failures,
            took,
        } = self;
        write!(
            f,
            "{name}, {mode:?} at each step: {total} steps, {visited} places visited, "
        )?;
        write!(
            f,
            "{left_out} left out, {strayed} strayed, {} failures, ",
            failures.len()
        )?;
        write!(f, "{:.1} s", took.as_secs_f64())?;
        for Failure {
            k,
            rip,
            symbol,
            why,
        } in failures
        {
            write!(f, "\n  step {k}, {rip:#x} {symbol}: {why}")?;
        }
        Ok(())
    }
}

/// A sweep with its options.
#[derive(Clone, Debug)]
pub struct Sweep {
    name: String,
    mode: Mode,
    every: u64,
    shard: (u64, u64),
    only: Option<u64>,
    /// About so many places, and what the offset of the first is drawn from.
    about: Option<(u64, u64)>,
    /// Stretches of at most so many steps are visited at every step all the same.
    whole_up_to: u64,
    /// Whether a subset has the places around each system call as well.
    system_calls: bool,
    by_path: bool,
    max_failures: usize,
}

/// [`Sweep::run`] with the options of the environment.
///
/// ```no_run
/// use ringway_harness::{AckBoard, Launch, TempBus, step};
///
/// let launch = |_k| {
///     let (bus, acks) = (TempBus::new()?, AckBoard::new(1)?);
///     let launch = Launch::role("send_once").set("root", bus.path().display()).board("acks", &acks);
///     Ok((step::Stepper::spawn(&launch)?, (bus, acks)))
/// };
/// let check = |at: &step::Point, _: &mut step::Stepper, (bus, acks): &mut (TempBus, AckBoard)| {
///     // receive from bus.path(): what acks counts must be there
///     Ok(())
/// };
/// let summary = step::for_each_step("send", step::Mode::Kill, launch, check).unwrap();
/// summary.assert_clean();
/// ```
pub fn for_each_step<World>(
    name: &str,
    mode: Mode,
    launch: impl FnMut(u64) -> Result<(Stepper, World), Fault>,
    check: impl FnMut(&Point, &mut Stepper, &mut World) -> Result<(), String>,
) -> Result<Summary, Fault> {
    Sweep::new(name, mode).run(launch, check)
}

impl Sweep {
    /// A sweep of all steps, or of the subset that the environment asks for:
    /// `RINGWAY_STEP_EVERY`, `RINGWAY_STEP_SHARD`, `RINGWAY_STEP_ONLY` (one step, to look at it).
    pub fn new(name: &str, mode: Mode) -> Sweep {
        let variable = |key| std::env::var(key).ok();
        let number = |key| variable(key).and_then(|text| text.parse::<u64>().ok());
        let shard = variable("RINGWAY_STEP_SHARD").and_then(|text| {
            let (i, n) = text.split_once('/')?;
            Some((i.parse().ok()?, n.parse().ok()?))
        });
        Sweep {
            name: name.to_owned(),
            mode,
            every: number("RINGWAY_STEP_EVERY").unwrap_or(1).max(1),
            shard: shard.filter(|(i, n)| i < n).unwrap_or((0, 1)),
            only: number("RINGWAY_STEP_ONLY"),
            about: None,
            whole_up_to: 0,
            system_calls: false,
            by_path: true,
            max_failures: 20,
        }
    }

    /// Visits every n-th step only.
    pub fn every(mut self, n: u64) -> Sweep {
        self.every = n.max(1);
        self
    }

    /// Visits the `index`-th of `count` equal shares of the steps.
    pub fn shard(mut self, index: u64, count: u64) -> Sweep {
        assert!(index < count, "shard {index} of {count}");
        self.shard = (index, count);
        self
    }

    /// Visits step `k` and no other.
    pub fn only(mut self, k: u64) -> Sweep {
        self.only = Some(k);
        self
    }

    /// Visits about `places` places, evenly apart, from an offset that follows from `seed`. A
    /// subset of the environment goes before.
    pub fn about(mut self, places: u64, seed: u64) -> Sweep {
        self.about = Some((places.max(1), seed));
        self
    }

    /// Visits all places of a stretch of at most `steps` steps, whatever [`about`](Self::about) says.
    pub fn whole_up_to(mut self, steps: u64) -> Sweep {
        self.whole_up_to = steps;
        self
    }

    /// Visits the places right before and right behind each system call, too, whatever
    /// [`about`](Self::about) says: where others see what a stretch has done so far change.
    pub fn around_system_calls(mut self) -> Sweep {
        self.system_calls = true;
        self
    }

    /// The same sweep of a stretch of `total` steps: how many places are how far apart.
    fn of_length(&self, total: u64) -> Sweep {
        let mut sweep = self.clone();
        if let Some((places, seed)) = sweep.about
            && (sweep.every, sweep.shard) == (1, (0, 1))
            && total > sweep.whole_up_to
        {
            let stride = (total + 1).div_ceil(places).max(1);
            sweep.shard = (seed % stride, stride);
        }
        sweep
    }

    /// Reaches each step by single steps alone, without the run at full speed along the
    /// recorded path. Slower by far; for stretches whose path differs from run to run.
    pub fn by_single_steps(mut self) -> Sweep {
        self.by_path = false;
        self
    }

    /// Gives up after `n` failures (20 unless set).
    pub fn max_failures(mut self, n: usize) -> Sweep {
        self.max_failures = n.max(1);
        self
    }

    /// Visits the steps; see the module. A [`Fault`] is the stage's collapse outside any
    /// step; at a step it is that step's failure. A check that panics has failed.
    pub fn run<World>(
        &self,
        mut launch: impl FnMut(u64) -> Result<(Stepper, World), Fault>,
        mut check: impl FnMut(&Point, &mut Stepper, &mut World) -> Result<(), String>,
    ) -> Result<Summary, Fault> {
        let start = Instant::now();
        let (path, map, calls) = {
            let (mut reference, _world) = launch(REFERENCE)?;
            let map = Map::of(reference.pid());
            let path = Path::new(reference.record()?);
            let mut calls = BTreeSet::new();
            if self.system_calls && self.only.is_none() {
                let steps = path.steps_at(|address| reference.enters_kernel(address));
                calls.extend(steps.into_iter().flat_map(|step| [step, step + 1]));
            }
            reference.resume_success()?;
            (path, map, calls)
        };
        let total = path.total();
        let sweep = self.of_length(total);
        sweep.announce(total);
        if !calls.is_empty() {
            eprintln!("{}: and around {} system calls", self.name, calls.len() / 2);
        }
        let mut summary = Summary {
            name: self.name.clone(),
            mode: self.mode,
            total,
            visited: 0,
            left_out: 0,
            strayed: 0,
            failures: Vec::new(),
            took: Duration::ZERO,
        };
        let mut last_word = Instant::now();
        for k in 0.. {
            if !sweep.wants(k) && !calls.contains(&k) {
                if k > total {
                    break;
                }
                summary.left_out += 1;
                continue;
            }
            let known = self.by_path && k <= total;
            let visit = self.visit(k, known.then_some(&path), total, &mut launch, &mut check);
            match visit {
                Visit::Passed { strayed } => {
                    summary.visited += 1;
                    summary.strayed += strayed;
                }
                Visit::Failed { rip, why } => {
                    summary.visited += 1;
                    let symbol = map.name(rip);
                    summary.failures.push(Failure {
                        k,
                        rip,
                        symbol,
                        why,
                    });
                }
                Visit::NoSuchStep if k > total => break,
                Visit::NoSuchStep => {
                    summary.strayed += 1;
                    summary.left_out += 1;
                }
            }
            if summary.failures.len() >= self.max_failures {
                break;
            }
            if last_word.elapsed() > Duration::from_secs(3) {
                last_word = Instant::now();
                let failures = summary.failures.len();
                eprintln!("{}: step {k} of {total}, {failures} failures", self.name);
            }
        }
        summary.took = start.elapsed();
        eprintln!("{summary}");
        Ok(summary)
    }

    fn announce(&self, total: u64) {
        let Sweep {
            name,
            mode,
            every,
            shard: (index, count),
            only,
            ..
        } = self;
        eprintln!("{name}: {total} steps, {mode:?} at each");
        if (*every, *count) != (1, 1) {
            eprintln!("{name}: a SUBSET only: every {every}th step, shard {index} of {count}");
        }
        if let Some(only) = only {
            eprintln!("{name}: a SUBSET only: step {only} and no other");
        }
    }

    fn wants(&self, k: u64) -> bool {
        let (index, count) = self.shard;
        match self.only {
            Some(only) => k == only,
            None => k.is_multiple_of(self.every) && (k / self.every) % count == index,
        }
    }

    fn visit<World>(
        &self,
        k: u64,
        path: Option<&Path>,
        total: u64,
        launch: &mut impl FnMut(u64) -> Result<(Stepper, World), Fault>,
        check: &mut impl FnMut(&Point, &mut Stepper, &mut World) -> Result<(), String>,
    ) -> Visit {
        let mut strayed = 0;
        let mut rip = path.and_then(|path| path.address(k)).unwrap_or(0);
        let mut arrive = || -> Result<Option<(Stepper, World)>, Fault> {
            if let Some(path) = path {
                let (mut child, world) = launch(k)?;
                if child.step_along(path, k)?.is_some() {
                    return Ok(Some((child, world)));
                }
                strayed = 1;
            }
            let (mut child, world) = launch(k)?;
            Ok(match child.step_to(k)? {
                Outcome::AtInstruction { rip: here, .. } => {
                    rip = here;
                    Some((child, world))
                }
                Outcome::Ended(_) => None,
            })
        };
        let verdict = match arrive() {
            Ok(None) => return Visit::NoSuchStep,
            Err(fault) => Err(fault.to_string()),
            Ok(Some((mut child, mut world))) => {
                let point = Point { k, rip, total };
                let done = match self.mode {
                    Mode::Kill => child.kill().map(drop),
                    Mode::Stop => child.stop(),
                    Mode::Freeze => {
                        child.freeze();
                        Ok(())
                    }
                };
                let judged = done.map_err(String::from).and_then(|()| {
                    let judge = AssertUnwindSafe(|| check(&point, &mut child, &mut world));
                    catch_unwind(judge).unwrap_or_else(|panic| Err(words_of(&*panic)))
                });
                // The child first: its world must outlive it.
                drop(child);
                judged
            }
        };
        match verdict {
            Ok(()) => Visit::Passed { strayed },
            Err(why) => Visit::Failed { rip, why },
        }
    }
}

enum Visit {
    Passed { strayed: u64 },
    Failed { rip: u64, why: String },
    NoSuchStep,
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the check panicked: {}", words.unwrap_or_default())
}
