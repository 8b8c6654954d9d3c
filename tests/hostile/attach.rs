//! Attaching to files that somebody has changed: every bit flip, truncation, extreme value and lie
//! is either refused with a typed error or works; nothing crashes, panics, hangs or faults.
//!
//! Each kind of file is a target. First come the systematic mutations of it, then seeded ones. Most
//! executions open the one object and use it through an attachment that stays; some, and all that
//! change several files, do everything there is to do with a bus opened behind the change. They run in a child process; a child that
//! dies or stands still is a crash, printed with its seed and the mutation. `RINGWAY_SEED` repeats a
//! run, `RINGWAY_MUTATION` one mutation of it, `RINGWAY_FULL=1` makes it long.

#[path = "effort.rs"]
mod effort;
#[path = "exercise.rs"]
mod exercise;
#[path = "files.rs"]
mod files;

use files::{Mutation, Prey, Template};
use ringway::{Builder, Bus};
use ringway_harness::seed::{self, Random};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, deadline};
use std::time::{Duration, Instant};

ringway_harness::roles! { attach => attach }

/// Counters of the board.
const DONE: usize = 0;
const WORKED: usize = 1;
const WHOLE: usize = 2;
/// More than any file of the bus needs.
const MOST_BYTES: u64 = 64 << 20;
/// Every so manyth seeded execution changes any file, and does everything.
const WHOLE_EVERY: u64 = 1024;
/// Every so manyth systematic one does everything; which ones, the seed says.
const WHOLE_SYSTEMATIC: u64 = 8;
/// What a bus file needs every time: header, roles, the first entries.
const HEAD_OF_BUS: usize = 8 * files::PAGE;

/// One execution: what is changed, and whether everything is done then or only what the target is
/// about.
struct Execution {
    mutation: Mutation,
    is_whole: bool,
}

/// Execution `number`: first the systematic ones of the target, then the seeded ones.
fn execution(
    template: &Template,
    systematic: &[Mutation],
    target: usize,
    seed: u64,
    number: u64,
) -> Execution {
    if let Some(mutation) = systematic.get(number as usize) {
        let is_chosen = number % WHOLE_SYSTEMATIC == seed % WHOLE_SYSTEMATIC;
        return Execution {
            mutation: mutation.clone(),
            is_whole: is_chosen || matches!(mutation, Mutation::All(_)),
        };
    }
    let is_whole = number.is_multiple_of(WHOLE_EVERY);
    let mut random = Random::new(seed ^ number.wrapping_mul(0x9E37));
    let file = (!is_whole).then_some(target);
    Execution {
        mutation: Mutation::draw(template, file, &mut random),
        is_whole,
    }
}

/// The bus of one child.
struct Scene<'a> {
    root: &'a std::path::Path,
    template: &'a Template,
    prey: Vec<Prey>,
    builder: Builder,
    /// For targets that are used through one attachment.
    bus: Option<Bus>,
    target: usize,
}

impl Scene<'_> {
    /// Files that are not the ones of the template any more are written anew.
    fn restore_all(&mut self) {
        self.bus = None;
        if !files::are_in_place(&self.prey, self.root) {
            files::remove(self.root);
            self.template.restore(self.root);
            self.prey = files::prey(self.template, self.root);
        }
        self.prey.iter_mut().for_each(Prey::restore);
    }

    /// Does everything to a bus of which anything may be changed. Whether it could be opened.
    fn whole(&mut self, mutation: &Mutation, number: u64) -> Result<bool, String> {
        self.restore_all();
        mutation.apply(&mut self.prey);
        let worked = exercise::everything(self.root, number);
        // A length that only the header claims must cost no memory.
        for (name, prey) in files::NAMES.iter().zip(&self.prey) {
            let bytes = prey.bytes_used();
            if bytes > MOST_BYTES {
                return Err(format!("{name} has grown to {bytes} bytes"));
            }
        }
        self.restore_all();
        Ok(worked)
    }

    /// Opens the changed object and uses it. Whether it could be opened.
    fn quick(&mut self, mutation: &Mutation, number: u64) -> bool {
        if self.target == 0 && !number.is_multiple_of(16) {
            files::bury().apply(&mut self.prey); // every open would sweep all objects
        }
        mutation.apply(&mut self.prey);
        let target = self.target;
        let worked = if target == 0 {
            exercise::bus(self.builder.clone(), number)
        } else {
            let open = || self.builder.clone().open().expect("it is whole");
            let bus = self.bus.get_or_insert_with(open);
            match target {
                files::SEGMENT => exercise::segment(bus, number),
                _ => exercise::object(bus, target, number),
            }
        };
        if target == files::SEGMENT && (worked || number.is_multiple_of(64)) {
            self.bus = None; // an attachment never opens a segment twice
        }
        if target == 0 {
            mutation.undo(0, &mut self.prey[0]);
            let all = number.is_multiple_of(64);
            self.prey[0].restore_up_to(if all { usize::MAX } else { HEAD_OF_BUS });
        } else {
            self.prey[target].restore();
        }
        // What lies in the pool belongs to messages that are there again.
        self.prey[files::SEGMENT].restore_up_to(files::CHUNKS_AT);
        if target == files::QUEUE {
            self.prey[files::DEAD_LETTERS].restore();
        }
        if target == files::SEGMENT && number.is_multiple_of(64) {
            self.prey.iter_mut().for_each(Prey::restore);
        }
        worked
    }
}

fn attach(stage: &Stage) -> Result<(), String> {
    let root = stage.path("root");
    let (seed, until): (u64, u64) = (stage.get("seed"), stage.get("until"));
    let target: usize = stage.get("target");
    let board = stage.board("board");
    let template = Template::read(&stage.path("template"));
    let systematic = Mutation::extremes(&template, target);
    files::remove(&root);
    template.restore(&root);
    let mut scene = Scene {
        root: &root,
        template: &template,
        prey: files::prey(&template, &root),
        builder: Bus::builder(files::BUS).root(&root).pre_touch(false),
        bus: None,
        target,
    };
    while board.get(DONE) < until {
        let number = board.get(DONE);
        let Execution { mutation, is_whole } =
            execution(&template, &systematic, target, seed, number);
        let worked = if is_whole {
            board.add(WHOLE, 1);
            scene.whole(&mutation, number)?
        } else {
            scene.quick(&mutation, number)
        };
        board.add(WORKED, u64::from(worked));
        board.set(DONE, number + 1);
    }
    Ok(())
}

/// Makes `quick` or `full` executions of a target, each of them another mutation.
fn attack(target: usize, name: &str, quick: u64, full: u64) {
    let seed = seed::announce(name);
    let (pristine, root) = (TempBus::new().unwrap(), TempBus::new().unwrap());
    let template = Template::make(pristine.path());
    template.restore(pristine.path());
    let systematic = Mutation::extremes(&template, target);
    let until = systematic.len() as u64 + effort::executions(quick, full);
    let board = AckBoard::new(3).unwrap();
    // One mutation alone, to look at what it does.
    let only = std::env::var("RINGWAY_MUTATION")
        .ok()
        .and_then(|number| number.parse().ok());
    let until = only.map_or(until, |only: u64| {
        board.set(DONE, only);
        only + 1
    });
    let launch = Launch::role("attach")
        .board("board", &board)
        .set("seed", seed)
        .set("target", target)
        .set("until", until);
    let launch = launch
        .env("RUST_BACKTRACE", "0")
        .set("root", root.path().display())
        .set("template", pristine.path().display());
    let mut crashes = Vec::new();
    while board.get(DONE) < until && crashes.len() < 20 {
        let mut child = launch.spawn().unwrap();
        let (mut seen, mut since) = (board.get(DONE), Instant::now());
        let stands_still = loop {
            if child
                .exited_by(Instant::now() + Duration::from_millis(50))
                .unwrap()
            {
                break false;
            }
            if board.get(DONE) != seen {
                (seen, since) = (board.get(DONE), Instant::now());
            } else if since.elapsed() > deadline() / 2 {
                break true;
            }
        };
        let exit = if stands_still {
            child.kill()
        } else {
            child.wait()
        }
        .unwrap();
        if stands_still || !exit.is_success() {
            let number = board.get(DONE);
            let what = execution(&template, &systematic, target, seed, number).mutation;
            let how = if stands_still {
                "hung".to_owned()
            } else {
                exit.to_string()
            };
            eprintln!("{name}: mutation {number} of RINGWAY_SEED={seed}: {how}: {what:?}");
            crashes.push(number);
            // The next child begins with whole files, whatever this one left.
            board.set(DONE, number + 1);
        }
    }
    let worked = board.get(WORKED);
    effort::report(
        name,
        board.get(DONE),
        crashes.len() as u64,
        &[
            ("worked", worked),
            ("whole", board.get(WHOLE)),
            ("seed", seed),
        ],
    );
    assert!(
        crashes.is_empty(),
        "{name}: mutations {crashes:?} of RINGWAY_SEED={seed} crash or hang"
    );
    if only.is_some() {
        return;
    }
    // A mutation that is always refused, or never, tests nothing.
    assert!(
        worked > until / 10 && worked < until,
        "{worked} of {until} worked"
    );
}

#[test]
fn a_changed_bus_file_is_refused_or_works_and_never_crashes() {
    attack(0, "attach bus", 5_000, 10_000_000);
}

#[test]
fn a_changed_shared_channel_is_refused_or_works_and_never_crashes() {
    attack(1, "attach shared channel", 20_000, 10_000_000);
}

#[test]
fn a_changed_exclusive_channel_is_refused_or_works_and_never_crashes() {
    attack(2, "attach exclusive channel", 20_000, 10_000_000);
}

#[test]
fn a_changed_segment_is_refused_or_works_and_never_crashes() {
    attack(files::SEGMENT, "attach segment", 5_000, 10_000_000);
}

#[test]
fn a_changed_queue_is_refused_or_works_and_never_crashes() {
    attack(files::QUEUE, "attach queue", 10_000, 10_000_000);
}

#[test]
fn a_changed_fifo_queue_is_refused_or_works_and_never_crashes() {
    attack(files::FIFO, "attach fifo queue", 10_000, 10_000_000);
}
