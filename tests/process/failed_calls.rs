//! R6 at the kernel's door: each system call of each script, and each completion of an io_uring, fails once, in each
//! way that a kernel has of failing it.
//!
//! A child lives a script (see `scripts`) under ptrace, and one of its calls is not made and answers with an error,
//! or is made and said to have failed. Whatever it was, the child goes on: each step ends with what it wanted or
//! with a typed error, none hangs, nothing panics, and when everything is closed no descriptor, no mapping, no
//! thread and no temporary file is left. Then the next process comes: the doctor mends and finds nothing more, what
//! was acknowledged is there, and the same script succeeds.
//!
//! ```text
//! cargo test --release --test failed_calls                   one place in some, each time others
//! RINGWAY_FULL=1 cargo test --release --test failed_calls    all of them
//! RINGWAY_PLACES=500 … failed_calls -- queue                 about so many, of some scripts
//! RINGWAY_CALL=332 … failed_calls                            calls of that number
//! ```

mod scripts;
mod stage;

use ringway::{Bus, Report};
use ringway_harness::seed::{Random, announce};
use ringway_harness::step::{Call, Mishap, Stepper, begin, can_fail_calls, end};
use ringway_harness::{AckBoard, Exit, Launch, Stage, TempBus, deadline};
use scripts::{Diary, Disk, Place, SCRIPTS, Script, files};
use stage::text;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

ringway_harness::roles! { live => live }

/// Numbers of the child, of who comes next, and of who answers.
const FIRST: u64 = 1 << 20;
const SECOND: u64 = 2 << 20;
const ANSWERS: u64 = 3 << 20;
/// A failure makes nobody sleep for so much longer, in a whole life: by what the sleeps were given, which is the same
/// on any machine.
const HANGING: Duration = Duration::from_secs(1);
/// And no step of a script may take so long, nor ten times what the longest took where nothing failed: a busy disk
/// takes its time. Judged where it is long at the same place three times, for a shared machine pauses.
const LONG: Duration = HANGING;
const TRIES: usize = 3;

/// Long enough for threads that were told to end.
const SOON: Duration = Duration::from_secs(5);

/// Words of the board.
const PANICKED: usize = 0;
const DESCRIPTORS: usize = 1;
const MAPPINGS: usize = 2;
const THREADS: usize = 3;
const WORDS: usize = 4;

fn count(directory: &str) -> u64 {
    std::fs::read_dir(directory).map_or(0, |entries| entries.count() as u64)
}

/// Mappings of files below `place`.
fn mappings(place: &Place) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let roots = [&place.memory, &place.disk].map(|root| root.display().to_string());
    let is_ours = |line: &&str| roots.iter().any(|root| line.contains(root));
    maps.lines().filter(is_ours).count() as u64
}

/// The child.
fn live(stage: &Stage) -> Result<(), String> {
    let place = Place {
        memory: stage.path("memory"),
        disk: stage.path("disk"),
    };
    let board = stage.board("board");
    let script = stage.text("script");
    let script = SCRIPTS.iter().find(|it| it.name == script).ok_or(script)?;
    let panicked = stage.board("board");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        panicked.add(PANICKED, 1);
        hook(panic);
    }));
    let mut diary = Diary::default();
    let descriptors = count("/proc/self/fd");
    begin();
    (script.live)(&mut diary, &place, FIRST);
    end();
    let open = || count("/proc/self/fd").saturating_sub(descriptors);
    let others = || count("/proc/self/task").saturating_sub(1);
    // A thread that was told to end takes its moment.
    let told = Instant::now();
    while open() + others() > 0 && told.elapsed() < SOON {
        std::thread::yield_now();
    }
    board.set(DESCRIPTORS, open());
    board.set(MAPPINGS, mappings(&place));
    board.set(THREADS, others());
    std::fs::write(stage.path("diary"), diary.write()).map_err(text)
}

/// What a kernel may say to which calls, as their manual pages have it. Those that are in no row can't fail, or
/// have no answer.
const WAYS: &[(&[libc::c_long], &[i32])] = {
    use libc::*;
    &[
        (
            &[SYS_openat],
            &[EMFILE, ENFILE, ENOMEM, ENOSPC, EACCES, EIO, EINTR],
        ),
        (
            &[SYS_newfstatat, SYS_fstat, SYS_statx],
            &[ENOMEM, EIO, EACCES],
        ),
        (&[SYS_fstatfs, SYS_statfs], &[EIO, EINTR]),
        (&[SYS_fcntl], &[ENOLCK, EINTR, EIO]),
        (&[SYS_flock], &[ENOLCK, EINTR]),
        (&[SYS_fallocate], &[ENOSPC, EINTR, EIO, EDQUOT]),
        (&[SYS_ftruncate], &[ENOSPC, EINTR, EIO]),
        (&[SYS_mmap], &[ENOMEM, EAGAIN]),
        (&[SYS_mprotect, SYS_mremap], &[ENOMEM]),
        (&[SYS_madvise], &[ENOMEM, EAGAIN, EFAULT]),
        (&[SYS_read, SYS_pread64], &[EIO, EINTR, EAGAIN]),
        (
            &[SYS_write, SYS_pwrite64, SYS_pwritev2],
            &[EIO, ENOSPC, EINTR, EDQUOT],
        ),
        (&[SYS_fsync, SYS_fdatasync], &[EIO, ENOSPC]),
        (&[SYS_renameat, SYS_renameat2], &[EIO, ENOSPC, EACCES]),
        (&[SYS_unlinkat], &[EIO, EACCES, EBUSY]),
        (&[SYS_mkdirat], &[ENOSPC, EACCES, EMLINK]),
        (&[SYS_fchmod, SYS_fchown], &[EPERM, EIO]),
        (&[SYS_getdents64], &[EIO, ENOENT]),
        (&[SYS_readlinkat], &[EIO, EACCES]),
        (&[SYS_eventfd2], &[EMFILE, ENOMEM]),
        (&[SYS_clone, SYS_clone3], &[EAGAIN, ENOMEM]),
        (&[SYS_futex], &[EINTR, EAGAIN]),
        (&[SYS_futex_waitv], &[EINTR, EAGAIN, ENOMEM, ENOSYS, EPERM]),
        (&[SYS_ppoll], &[EINTR, ENOMEM]),
        (&[SYS_clock_nanosleep, SYS_nanosleep], &[EINTR]),
        (&[SYS_getrandom], &[EINTR]),
        (&[SYS_membarrier], &[EINVAL, EPERM, ENOSYS]),
        (
            &[SYS_sched_getaffinity, SYS_sched_setaffinity],
            &[EINVAL, EPERM],
        ),
        (&[SYS_prctl], &[EINVAL]),
        (&[SYS_io_uring_setup], &[ENOSYS, EPERM, ENOMEM, EMFILE]),
        (&[SYS_io_uring_register], &[ENOMEM, EINVAL, EBUSY]),
        (&[SYS_io_uring_enter], &[EINTR, EAGAIN, EBUSY, EIO]),
        #[cfg(target_arch = "x86_64")]
        (
            &[SYS_open],
            &[EMFILE, ENFILE, ENOMEM, ENOSPC, EACCES, EIO, EINTR],
        ),
        #[cfg(target_arch = "x86_64")]
        (&[SYS_stat, SYS_lstat], &[ENOMEM, EIO, EACCES]),
        #[cfg(target_arch = "x86_64")]
        (&[SYS_rename], &[EIO, ENOSPC, EACCES]),
        #[cfg(target_arch = "x86_64")]
        (&[SYS_unlink, SYS_rmdir], &[EIO, EACCES, EBUSY]),
        #[cfg(target_arch = "x86_64")]
        (&[SYS_mkdir], &[ENOSPC, EACCES, EMLINK]),
        #[cfg(target_arch = "x86_64")]
        (&[SYS_chmod], &[EPERM, EIO]),
        #[cfg(target_arch = "x86_64")]
        (&[SYS_readlink], &[EIO, EACCES]),
        #[cfg(target_arch = "x86_64")]
        (&[SYS_poll], &[EINTR, ENOMEM]),
    ]
};

/// Each way in which a call may fail.
fn mishaps(call: &Call) -> Vec<Mishap> {
    let hidden: &[i32] = match call.number {
        // The kernel closes, whatever it says.
        libc::SYS_close => &[libc::EIO, libc::EINTR],
        libc::SYS_munmap => &[libc::ENOMEM],
        _ => &[],
    };
    let completions: &[i32] = match call.completions {
        0 => &[],
        _ => &[libc::EIO, libc::ENOSPC, libc::EAGAIN, libc::EINTR],
    };
    let rows = WAYS
        .iter()
        .filter(|(numbers, _)| numbers.contains(&call.number));
    let refused = rows.flat_map(|(_, errors)| *errors);
    let refused = refused.map(|errno| Mishap::Refused(*errno));
    let hidden = hidden.iter().map(|errno| Mishap::Hidden(*errno));
    let completions = completions.iter().map(|errno| Mishap::Completion(*errno));
    refused.chain(hidden).chain(completions).collect()
}

/// Whether memory of its own was asked for: where there is none, a process of Rust ends itself.
fn is_for_the_heap(call: &Call) -> bool {
    let is_anonymous = call.arguments[3] & libc::MAP_ANONYMOUS as u64 != 0;
    match call.number {
        libc::SYS_mremap | libc::SYS_mprotect => true,
        libc::SYS_mmap => is_anonymous,
        _ => false,
    }
}

fn is_removal(call: &Call) -> bool {
    #[cfg(target_arch = "x86_64")]
    let is_old = [libc::SYS_unlink, libc::SYS_rmdir].contains(&call.number);
    #[cfg(not(target_arch = "x86_64"))]
    let is_old = false;
    is_old || call.number == libc::SYS_unlinkat
}

/// Answers calls, where somebody calls.
fn answer(bus: &Bus, is_over: &AtomicBool) -> Result<(), String> {
    let queue = |name: &str| bus.queue(name).slots(1024).stride(96).open_or_create();
    let (calls, answers) = (
        queue("calls").map_err(text)?,
        queue("answers").map_err(text)?,
    );
    let mut receiver = calls.receiver().map_err(text)?;
    let mut sender = answers.sender().map_err(text)?;
    let mut number = ANSWERS;
    while !is_over.load(Ordering::Relaxed) {
        if receiver.wait(Duration::from_millis(5)).map_err(text)? {
            let mut body = vec![0; 16];
            stage::write_body(number, &mut body);
            match sender.send(&body) {
                Ok(_) => number += 1,
                // It is asked more often than anybody listens.
                Err(ringway::QueueSendError::Full { .. }) => {}
                Err(error) => return Err(text(error)),
            }
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// One life under the eyes of the tracer, and what it left.
struct Ran {
    calls: Vec<Call>,
    diary: Option<Diary>,
    longest: Duration,
    /// The step that took so long.
    step: String,
}

impl Ran {
    /// For how long the life slept in vain, all in all.
    fn slept(&self) -> Duration {
        Duration::from_nanos(self.calls.iter().map(|call| call.slept).sum())
    }
}

/// A call of a script that fails: its place, what it was where nothing failed, and how.
type Case = (usize, Call, Mishap);

/// Runs `script`. What is wrong with it is the error.
fn run(script: &Script, case: Option<&Case>) -> Result<Ran, String> {
    let failing = case.map(|(_, call, _)| call);
    let memory = TempBus::new()?;
    let disk = match script.disk {
        Disk::Nothing => TempBus::new()?,
        _ => TempBus::under(env!("CARGO_TARGET_TMPDIR"))?,
    };
    let place = Place {
        memory: memory.path().join("memory"),
        disk: disk.path().join("disk"),
    };
    std::fs::create_dir(&place.memory).map_err(text)?;
    std::fs::create_dir(&place.disk).map_err(text)?;
    let page = memory.path().join("diary");
    let board = AckBoard::new(WORDS)?;
    let launch = Launch::role("live")
        .set("memory", place.memory.display())
        .set("disk", place.disk.display())
        .set("script", script.name)
        .set("diary", page.display())
        .board("board", &board);
    // Somebody answers, where that is what the script is about.
    let others = (script.name == "waits and wakes")
        .then(|| place.bus())
        .transpose()?;
    let is_over = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        let answers = others
            .as_ref()
            .map(|bus| scope.spawn(|| answer(bus, &is_over)));
        let mut child = Stepper::spawn(&launch)?;
        let calls = match case {
            None => child.run_to_end(),
            Some((at, call, mishap)) => child.run_failing((*at, call.number), *mishap),
        };
        let ended = match &calls {
            Ok(_) => child.resume()?,
            Err(fault) => child.exit().ok_or_else(|| fault.to_string())?,
        };
        is_over.store(true, Ordering::Relaxed);
        if let Some(answers) = answers {
            let answered = answers.join().map_err(|_| "who answers panicked")?;
            answered.map_err(|error| format!("who answers: {error}"))?;
        }
        Ok::<_, String>((calls.unwrap_or_default(), ended))
    });
    is_over.store(true, Ordering::Relaxed);
    let (calls, ended) = ended?;
    if board.get(PANICKED) > 0 {
        return Err("it panicked, see above".into());
    }
    let diary = match ended {
        Exit::Code(0) => {
            let diary = std::fs::read_to_string(&page).map_err(text)?;
            Some(Diary::read(&diary)?)
        }
        // No memory: nobody is told, as ever in Rust.
        Exit::Signal {
            signal: libc::SIGABRT,
            ..
        } if failing.is_some_and(is_for_the_heap) => None,
        other => return Err(format!("it ended with {other}")),
    };
    if diary.is_some() {
        let is_unmapping = failing.is_some_and(|call| call.number == libc::SYS_munmap);
        let left = [
            ("descriptors", DESCRIPTORS),
            ("mappings", MAPPINGS),
            ("threads", THREADS),
        ];
        for (what, word) in left {
            if board.get(word) > 0 && !(word == MAPPINGS && is_unmapping) {
                return Err(format!("{} {what} are left", board.get(word)));
            }
        }
        let is_temporary = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(".tmp-")
        };
        let mut left = files(&place.memory);
        left.extend(files(&place.disk));
        left.retain(is_temporary);
        if !left.is_empty() && !failing.is_some_and(is_removal) {
            return Err(format!("temporary files are left: {left:?}"));
        }
    }
    drop(others);
    let (longest, step) = diary
        .as_ref()
        .map_or_else(Default::default, |diary| diary.longest.clone());
    come_next(script, &place, diary.as_ref())?;
    Ok(Ran {
        calls,
        diary,
        longest,
        step,
    })
}

/// The next process: what does it find, and does the script succeed?
fn come_next(script: &Script, place: &Place, before: Option<&Diary>) -> Result<(), String> {
    let restart = || -> Result<(), String> {
        if script.disk == Disk::Everything {
            std::fs::remove_dir_all(&place.memory).map_err(text)?;
            std::fs::create_dir(&place.memory).map_err(text)?;
        }
        Ok(())
    };
    restart()?;
    let bus = place.bus()?;
    mend(&bus)?;
    let look = |diary: &Diary| -> Result<(), String> {
        for (object, find) in script.left {
            let mut there = find(&bus, object)?;
            there.retain(|number| *number < ANSWERS);
            diary.hold(object, &there)?;
        }
        Ok(())
    };
    // What it takes away it may not miss later: queues are emptied by a look.
    let mut first = before
        .map_or(Ok(()), look)
        .map_err(|wrong| format!("then {wrong}"));
    let mut second = Diary::default();
    if first.is_ok() {
        let emptied: BTreeSet<_> = before.map(|diary| diary.tried.clone()).unwrap_or_default();
        (script.live)(&mut second, place, SECOND);
        if !second.told.is_empty() {
            first = Err(format!("who came next was told {:?}", second.told));
        }
        second.seen.extend(emptied.iter().cloned());
        second.tried.extend(emptied);
    }
    first?;
    mend(&bus)?;
    for (object, find) in script.left {
        let mut there = find(&bus, object)?;
        there.retain(|number| (SECOND..ANSWERS).contains(number));
        second
            .hold(object, &there)
            .map_err(|wrong| format!("then, of the next, {wrong}"))?;
    }
    Ok(())
}

fn mend(bus: &Bus) -> Result<(), String> {
    let report = bus.doctor(true).map_err(text)?;
    if !report.broken_objects.is_empty() {
        return Err(format!("the doctor can't open {:?}", report.broken_objects));
    }
    let again: Report = bus.doctor(false).map_err(text)?;
    match again.is_clean() {
        true => Ok(()),
        false => Err(format!("the doctor finds, behind mending, {again:?}")),
    }
}

/// The calls that are to fail, if not all.
fn wanted_number() -> Option<i64> {
    std::env::var("RINGWAY_CALL").ok()?.parse().ok()
}

#[derive(Default)]
struct Tally {
    runs: u64,
    told: u64,
    failures: u64,
    longest: Duration,
}

fn play(
    script: &Script,
    places: Option<usize>,
    random: &mut Random,
    tally: &mut Tally,
) -> Result<(), String> {
    let healthy = run(script, None)?;
    let diary = healthy.diary.as_ref().ok_or("it did not end")?;
    if !diary.told.is_empty() {
        return Err(format!("without any failure it was told {:?}", diary.told));
    }
    let long = match places {
        None => LONG.max(10 * healthy.longest),
        // Whoever looks at a few does so on a machine that has other things to do.
        Some(_) => deadline(),
    };
    let mut cases = Vec::new();
    let mut never = BTreeMap::<i64, u64>::new();
    for (at, call) in healthy.calls.iter().enumerate() {
        let ways = mishaps(call);
        if ways.is_empty() {
            *never.entry(call.number).or_default() += 1;
        }
        cases.extend(ways.into_iter().map(|way| (at, *call, way)));
    }
    if let Some(number) = wanted_number() {
        cases.retain(|(_, call, _)| call.number == number);
    }
    let all = cases.len();
    if let Some(places) = places.filter(|places| *places < all) {
        for chosen in 0..places {
            let other = chosen + random.below((all - chosen) as u64) as usize;
            cases.swap(chosen, other);
        }
        cases.truncate(places);
    }
    let mut told = 0;
    for case in &cases {
        let (at, call, mishap) = case;
        let mut ran = run(script, Some(case));
        for _ in 1..TRIES {
            if ran.as_ref().is_ok_and(|ran| ran.longest > long) {
                ran = run(script, Some(case));
            }
        }
        let ran = ran.and_then(|ran| match ran.longest > long {
            true => Err(format!("{} takes {:?}, each time", ran.step, ran.longest)),
            false => Ok(ran),
        });
        let ran = ran.and_then(|ran| match ran.slept() > healthy.slept() + HANGING {
            true => Err(format!(
                "it slept for {:?}, {} at most",
                ran.slept(),
                ran.step
            )),
            false => Ok(ran),
        });
        match ran {
            Ok(ran) => {
                told += u64::from(ran.diary.is_none_or(|diary| !diary.told.is_empty()));
                tally.longest = tally.longest.max(ran.longest);
            }
            Err(wrong) => {
                tally.failures += 1;
                let name = script.name;
                println!(
                    "{name}: call {at} (number {}), {mishap:?}: {wrong}",
                    call.number
                );
            }
        }
    }
    tally.runs += cases.len() as u64;
    tally.told += told;
    println!(
        "{}: {} calls, {} of {all} failures visited, {told} told; never failed, by number: {never:?}",
        script.name,
        healthy.calls.len(),
        cases.len(),
    );
    Ok(())
}

fn main() -> ExitCode {
    if !can_fail_calls() {
        println!("SKIPPED: this machine lets no call fail");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let is_full = std::env::var("RINGWAY_FULL").is_ok_and(|it| it == "1");
    let asked = std::env::var("RINGWAY_PLACES")
        .ok()
        .and_then(|it| it.parse().ok());
    // Fewer where each life waits for a disk.
    let places = |script: &Script| match script.disk {
        _ if is_full => None,
        Disk::Nothing => Some(asked.unwrap_or(12)),
        _ => Some(asked.unwrap_or(3)),
    };
    let mut random = Random::new(announce("which calls fail"));
    let mut tally = Tally::default();
    for script in SCRIPTS {
        if !wanted
            .iter()
            .all(|word| script.name.contains(word.as_str()))
        {
            continue;
        }
        if let Err(wrong) = play(script, places(script), &mut random, &mut tally) {
            tally.failures += 1;
            println!("{}: {wrong}", script.name);
        }
    }
    let Tally {
        runs,
        told,
        failures,
        longest,
    } = tally;
    println!(
        "{{\"target\":\"R6\",\"failed_calls\":{runs},\"told\":{told},\"failures\":{failures},\"longest_step_ms\":{:.1}}}",
        longest.as_secs_f64() * 1e3
    );
    let shown = match failures {
        0 => Ok(()),
        _ => Err(format!("{failures} of {runs} cases, see above")),
    };
    stage::run_one(
        "each system call fails once, and whoever it concerns is told and nothing is left",
        shown,
    )
}
