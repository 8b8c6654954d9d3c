//! Attaching to files that somebody has changed: every bit flip, truncation, extreme value and lie
//! is either refused with a typed error or works; nothing crashes, panics, hangs or faults.
//!
//! The mutations run in a child process; a child that dies or stands still is a crash, printed
//! with its seed and the mutation. `RINGWAY_SEED` repeats a run, `RINGWAY_MUTATION` one mutation of
//! it, `RINGWAY_FULL=1` makes it long.

#[path = "effort.rs"]
mod effort;
#[path = "exercise.rs"]
mod exercise;
#[path = "files.rs"]
mod files;

use files::{Mutation, Template};
use ringway_harness::seed::{self, Random};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, deadline};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

ringway_harness::roles! { attach => attach }

/// Counters of the board.
const DONE: usize = 0;
const WORKED: usize = 1;
/// More than any file of the bus needs.
const MOST_BYTES: u64 = 512 << 20;

/// The mutation of `number`: first the systematic ones, then the seeded ones.
fn mutation(template: &Template, systematic: &[Mutation], seed: u64, number: u64) -> Mutation {
    match systematic.get(number as usize) {
        Some(mutation) => mutation.clone(),
        None => Mutation::draw(
            template,
            &mut Random::new(seed ^ number.wrapping_mul(0x9E37)),
        ),
    }
}

fn attach(stage: &Stage) -> Result<(), String> {
    let root = stage.path("root");
    let (seed, until): (u64, u64) = (stage.get("seed"), stage.get("until"));
    let board = stage.board("board");
    let template = Template::read(&stage.path("template"));
    let systematic = Mutation::extremes(&template);
    while board.get(DONE) < until {
        let number = board.get(DONE);
        template.restore(&root);
        mutation(&template, &systematic, seed, number).apply(&root);
        board.add(WORKED, u64::from(exercise::everything(&root, number)));
        // A length that only the header claims must cost no memory.
        for file in 0..files::NAMES.len() {
            let blocks =
                std::fs::metadata(files::path(&root, file)).map_or(0, |meta| meta.blocks());
            if blocks * 512 > MOST_BYTES {
                return Err(format!(
                    "{} has grown to {} bytes",
                    files::NAMES[file],
                    blocks * 512
                ));
            }
        }
        board.set(DONE, number + 1);
    }
    Ok(())
}

#[test]
fn changed_files_are_refused_or_work_and_never_crash() {
    let seed = seed::announce("mutations");
    let (pristine, root) = (TempBus::new().unwrap(), TempBus::new().unwrap());
    let template = Template::make(pristine.path());
    template.restore(pristine.path());
    let systematic = Mutation::extremes(&template);
    let until = systematic.len() as u64 + effort::executions(1500, 300_000);
    let board = AckBoard::new(2).unwrap();
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
                .exited_by(Instant::now() + std::time::Duration::from_millis(50))
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
            let what = mutation(&template, &systematic, seed, number);
            let how = if stands_still {
                "hung".to_owned()
            } else {
                exit.to_string()
            };
            eprintln!("mutation {number} of RINGWAY_SEED={seed}: {how}: {what:?}");
            crashes.push(number);
            // The file system may hold a huge sparse file: it is written anew by the next child.
            board.set(DONE, number + 1);
        }
    }
    let worked = board.get(WORKED);
    effort::report(
        "attach",
        board.get(DONE),
        crashes.len() as u64,
        &[("worked", worked), ("seed", seed)],
    );
    assert!(
        crashes.is_empty(),
        "mutations {crashes:?} of RINGWAY_SEED={seed} crash or hang"
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
