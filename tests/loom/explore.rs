//! Runs a model through every execution that `loom` can reach and judges the outcomes.
//!
//! A model is a closure that plays a few threads and says how it ended, and a table that lists
//! every ending as allowed or forbidden with the reason. A forbidden or unlisted ending, a failed
//! assertion, two unordered accesses of a body in place, or a deadlock fails the model. An allowed
//! ending that was never seen is reported: the model may be too small for it.

use ringway::sync::{Label, WEAKENED};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The label to weaken, by number; set for the subject of a weakened run.
pub const WEAKEN_VARIABLE: &str = "RINGWAY_LOOM_WEAKEN";
/// Set: runs what is too long for every change.
pub const FULL_VARIABLE: &str = "RINGWAY_FULL";

/// Preemptions of one execution in the quick run of a large model.
const QUICK_PREEMPTIONS: usize = 3;

/// Most scheduling points of one execution; more means a loop that waits for another thread.
const MAX_BRANCHES: usize = 20_000;

/// One line of an outcome table.
pub struct Expect {
    ending: &'static str,
    is_allowed: bool,
    because: &'static str,
}

/// This ending is right.
pub const fn allowed(ending: &'static str, because: &'static str) -> Expect {
    Expect {
        ending,
        is_allowed: true,
        because,
    }
}

/// This ending breaks a promise.
pub const fn forbidden(ending: &'static str, because: &'static str) -> Expect {
    Expect {
        ending,
        is_allowed: false,
        because,
    }
}

/// How far a model goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every execution.
    Exhaustive,
    /// Every execution in the full run; in the quick one those with few preemptions.
    Large,
}

impl Depth {
    fn bound(self) -> Option<usize> {
        match self {
            Self::Large if !is_full() => Some(QUICK_PREEMPTIONS),
            Self::Exhaustive | Self::Large => None,
        }
    }
}

/// Whether the long models were asked for.
pub fn is_full() -> bool {
    std::env::var_os(FULL_VARIABLE).is_some()
}

/// Explores `play`. The name is the path of the test.
pub fn explore<const ENDINGS: usize>(
    name: &'static str,
    depth: Depth,
    table: [Expect; ENDINGS],
    play: impl Fn() -> String + Sync + Send + 'static,
) {
    let weakened = weaken();
    let table = Arc::new(table);
    let seen: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let executions = Arc::new(AtomicU64::new(0));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = MAX_BRANCHES;
    builder.preemption_bound = depth.bound();
    let started = Instant::now();
    builder.check({
        let (seen, executions) = (Arc::clone(&seen), Arc::clone(&executions));
        let table = Arc::clone(&table);
        move || {
            let ending = play();
            executions.fetch_add(1, Ordering::Relaxed);
            let expect = table.iter().find(|expect| expect.ending == ending);
            match expect {
                Some(expect) if expect.is_allowed => {}
                Some(expect) => panic!("{name}: forbidden: {ending}: {}", expect.because),
                None if weakened.is_some() => panic!("{name}: not in the table: {ending}"),
                None => {} // all of them are shown below
            }
            *seen.lock().unwrap().entry(ending).or_default() += 1;
        }
    });
    let seen = seen.lock().unwrap();
    let mut report = format!(
        "\n{name}: {} executions in {:.1} s, {}{}\n",
        executions.load(Ordering::Relaxed),
        started.elapsed().as_secs_f64(),
        match depth.bound() {
            None => "exhaustive".to_string(),
            Some(bound) => format!("at most {bound} preemptions"),
        },
        weakened.map_or(String::new(), |label| format!(", {label:?} weakened")),
    );
    for expect in table.iter() {
        let count = seen.get(expect.ending).copied().unwrap_or(0);
        let verdict = match (expect.is_allowed, count) {
            (true, 0) => "allowed, NEVER SEEN",
            (true, _) => "allowed",
            (false, _) => "forbidden",
        };
        let _ = writeln!(
            report,
            "  {count:>9}  {verdict:<10} {:<44} {}",
            expect.ending, expect.because
        );
    }
    let listed = |ending: &String| table.iter().any(|expect| expect.ending == *ending);
    let mut strangers = 0;
    for (ending, count) in seen.iter().filter(|(ending, _)| !listed(ending)) {
        strangers += 1;
        let _ = writeln!(report, "  {count:>9}  NOT IN THE TABLE: {ending}");
    }
    print!("{report}");
    assert_eq!(strangers, 0, "{name}: endings that the table does not list");
}

fn weaken() -> Option<Label> {
    let number: usize = std::env::var(WEAKEN_VARIABLE).ok()?.parse().ok()?;
    let label = Label::ALL
        .into_iter()
        .find(|label| *label as usize == number);
    WEAKENED.store(label.map_or(0, |label| label as usize), Ordering::Relaxed);
    label
}
