//! The stepper against stretches whose every instruction is known.
//!
//! The roles are inline assembly of counted instructions, or loops over a board, so that
//! the number of steps and what each leaves behind can be told exactly. The planted
//! faults: a check that fails at one step, a child that blocks, exits or strays in its
//! stretch. All of it on x86-64, whose instructions the roles are written in.

#![cfg(target_arch = "x86_64")]

use std::arch::asm;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

use ringway_harness::step::{self, Mode, Outcome, Point, Stepper, Summary, Sweep, Zygote};
use ringway_harness::{AckBoard, Exit, Fault, Launch, Stage};

ringway_harness::roles! {
    nothing => nothing,
    ten_nops => ten_nops,
    one_syscall => one_syscall,
    no_syscall => no_syscall,
    fill_100_bytes => fill_100_bytes,
    store_all => store_all,
    add_up => add_up,
    handle_a_signal => handle_a_signal,
    sleep_for_ever => sleep_for_ever,
    leave_early => leave_early,
    trap_elsewhere => trap_elsewhere,
    impatient_driver => impatient_driver,
}

fn nothing(_: &Stage) -> Result<(), String> {
    step::begin();
    step::end();
    Ok(())
}

fn ten_nops(_: &Stage) -> Result<(), String> {
    step::begin();
    // SAFETY: ten instructions that do nothing.
    unsafe { asm!(".rept 10", "nop", ".endr") };
    step::end();
    Ok(())
}

fn one_syscall(_: &Stage) -> Result<(), String> {
    step::begin();
    // SAFETY: getppid takes nothing; syscall clobbers rcx and r11, as declared.
    unsafe { asm!("mov eax, 110", "syscall", "nop", out("rax") _, out("rcx") _, out("r11") _) };
    step::end();
    Ok(())
}

fn no_syscall(_: &Stage) -> Result<(), String> {
    step::begin();
    // SAFETY: instructions that do nothing but clobber what is declared.
    unsafe { asm!("mov eax, 110", "nop", "nop", out("rax") _, out("rcx") _, out("r11") _) };
    step::end();
    Ok(())
}

fn fill_100_bytes(_: &Stage) -> Result<(), String> {
    let mut bytes = [0u8; 100];
    let at = bytes.as_mut_ptr();
    step::begin();
    // SAFETY: 100 bytes at `at`, which are all of the array.
    unsafe {
        asm!("mov ecx, 100", "rep stosb", inout("rdi") at => _, out("rcx") _, in("al") 7u8);
    };
    step::end();
    if bytes == [7; 100] {
        Ok(())
    } else {
        Err("not filled".into())
    }
}

const STORES: usize = 16;

#[inline(never)]
fn store_all(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let at = board.words().as_ptr();
    assert!(board.words().len() >= STORES);
    step::begin();
    // SAFETY: stores of the 16 words at `at`, which the board has.
    unsafe {
        asm!(
            ".set i, 0", ".rept 16", "mov qword ptr [{at} + 8 * i], 1", ".set i, i + 1", ".endr",
            at = in(reg) at,
        );
    };
    step::end();
    Ok(())
}

/// `rounds` increments of counter 0, in a loop.
fn add_up(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let rounds: u64 = stage.get("rounds");
    let word = &board[0];
    step::begin();
    for _ in 0..rounds {
        word.fetch_add(1, SeqCst);
    }
    step::end();
    Ok(())
}

fn handle_a_signal(stage: &Stage) -> Result<(), String> {
    static HANDLED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    extern "C" fn handler(_: i32) {
        HANDLED.fetch_add(1, SeqCst);
    }
    let board = stage.board("board");
    let function: extern "C" fn(i32) = handler;
    // SAFETY: the handler only adds to an atomic.
    unsafe { libc::signal(libc::SIGUSR1, function as usize) };
    step::begin();
    // SAFETY: raise takes a signal number.
    unsafe { libc::raise(libc::SIGUSR1) };
    step::end();
    board.set(0, HANDLED.load(SeqCst));
    Ok(())
}

fn sleep_for_ever(_: &Stage) -> Result<(), String> {
    step::begin();
    // SAFETY: pause takes nothing.
    unsafe { libc::pause() };
    step::end();
    Ok(())
}

fn leave_early(_: &Stage) -> Result<(), String> {
    step::begin();
    std::process::exit(7);
}

fn trap_elsewhere(_: &Stage) -> Result<(), String> {
    step::begin();
    // SAFETY: a breakpoint that is no marker; the tracer takes it.
    unsafe { asm!("int3") };
    step::end();
    Ok(())
}

/// Runs with a deadline of one second and steps into a sleep.
fn impatient_driver(_: &Stage) -> Result<(), String> {
    let mut held = Stepper::spawn(&Launch::role("sleep_for_ever"))?;
    match held.step_to(1_000_000) {
        Err(Fault::Hung { what, .. }) if what.contains("sleep_for_ever") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn steps_of(role: &str) -> u64 {
    let mut held = Stepper::spawn(&Launch::role(role)).unwrap();
    let Outcome::Ended(total) = held.step_to(u64::MAX).unwrap() else {
        panic!("endless")
    };
    held.resume_success().unwrap();
    total
}

#[test]
fn every_instruction_is_one_step() {
    let markers = steps_of("nothing");
    assert_eq!(steps_of("ten_nops") - markers, 10);
}

#[test]
fn a_system_call_is_one_step() {
    assert_eq!(steps_of("one_syscall"), steps_of("no_syscall"));
}

#[test]
fn each_round_of_a_string_instruction_is_one_step() {
    let steps = steps_of("fill_100_bytes");
    assert!((101..110).contains(&steps), "{steps}");
}

type Start<'a> = dyn FnMut(&AckBoard, u64) -> Result<Stepper, Fault> + 'a;

/// Sweeps `start`'s children and returns what each step left on the board.
fn sums_by_step(sweep: Sweep, start: &mut Start) -> (Summary, BTreeMap<u64, u64>) {
    let mut sums = BTreeMap::new();
    let launch = |k| {
        let board = AckBoard::new(STORES)?;
        Ok((start(&board, k)?, board))
    };
    let check = |at: &Point, child: &mut Stepper, board: &mut AckBoard| {
        assert!(
            child.exit().is_some_and(Exit::is_kill),
            "dead before the check"
        );
        sums.insert(at.k, board.sum());
        Ok(())
    };
    let summary = sweep.run(launch, check).unwrap();
    summary.assert_clean();
    (summary, sums)
}

fn exec(role: &'static str) -> impl FnMut(&AckBoard, u64) -> Result<Stepper, Fault> {
    move |board, _| Stepper::spawn(&Launch::role(role).set("rounds", 6).board("board", board))
}

#[test]
fn kill_at_each_step_leaves_exactly_the_stores_before_it() {
    let (summary, sums) = sums_by_step(Sweep::new("stores", Mode::Kill), &mut exec("store_all"));
    assert_eq!(summary.visited, summary.total + 1, "all places, none twice");
    let sums: Vec<u64> = sums.into_values().collect();
    let first = sums
        .iter()
        .position(|sum| *sum == 1)
        .expect("a first store");
    let expected: Vec<u64> = (0..sums.len())
        .map(|k| (k + 1).saturating_sub(first).min(STORES) as u64)
        .collect();
    assert_eq!(sums, expected, "one more store with each step of them");
    assert_eq!(sums[sums.len() - 1], STORES as u64);
}

#[test]
fn the_quick_way_to_a_step_leads_to_the_same_place_as_single_steps() {
    let sweep = |name| Sweep::new(name, Mode::Kill);
    let quick = sums_by_step(sweep("by path"), &mut exec("add_up"));
    let slow = sums_by_step(sweep("by steps").by_single_steps(), &mut exec("add_up"));
    assert_eq!(quick.1, slow.1);
    assert_eq!((quick.0.strayed, slow.0.strayed), (0, 0));
    assert_eq!(quick.1.values().max(), Some(&6));
}

#[test]
fn children_of_a_zygote_are_stepped_like_those_of_exec() {
    let board = AckBoard::new(STORES).unwrap();
    let launch = Launch::role("add_up")
        .set("rounds", 0)
        .board("board", &board);
    let mut zygote = Zygote::spawn(&launch).unwrap();
    let mut last = BTreeMap::new();
    let launch = |_| {
        board.set(0, 0);
        Ok((zygote.fork(&[("rounds", "6")])?, ()))
    };
    let check = |at: &Point, _: &mut Stepper, (): &mut ()| {
        last.insert(at.k, board.get(0));
        Ok(())
    };
    let summary = step::for_each_step("zygote", Mode::Kill, launch, check).unwrap();
    summary.assert_clean();
    assert_eq!(summary.strayed, 0);
    let by_exec = sums_by_step(Sweep::new("exec", Mode::Kill), &mut exec("add_up"));
    assert_eq!(last, by_exec.1);
}

fn held_then_resumed(mode: Mode, state: char, by_zygote: bool) {
    let board = AckBoard::new(STORES).unwrap();
    let recipe = Launch::role("store_all").board("board", &board);
    let mut zygote = by_zygote.then(|| Zygote::spawn(&recipe).unwrap());
    let launch = |_| {
        board.words().iter().for_each(|word| word.store(0, SeqCst));
        let child = match &mut zygote {
            Some(zygote) => zygote.fork(&[])?,
            None => Stepper::spawn(&recipe)?,
        };
        Ok((child, ()))
    };
    let check = |at: &Point, child: &mut Stepper, (): &mut ()| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
        let seen = stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap();
        let before = board.sum();
        for _ in 0..20 {
            std::thread::yield_now();
        }
        if (seen, board.sum()) != (state, before) {
            return Err(format!(
                "state {seen}, {before} stores, then {}",
                board.sum()
            ));
        }
        if before > at.k {
            return Err(format!("{before} stores after {} steps", at.k));
        }
        child.resume_success()?;
        let after = board.sum();
        if after == STORES as u64 {
            Ok(())
        } else {
            Err(format!("{after} stores at the end"))
        }
    };
    let summary = step::for_each_step("hold and resume", mode, launch, check).unwrap();
    summary.assert_clean();
    assert_eq!(summary.visited, summary.total + 1);
}

#[test]
fn a_frozen_child_stands_still_and_finishes_when_resumed() {
    held_then_resumed(Mode::Freeze, 't', false);
    held_then_resumed(Mode::Freeze, 't', true);
}

#[test]
fn a_child_under_sigstop_stands_still_and_finishes_when_resumed() {
    held_then_resumed(Mode::Stop, 'T', false);
    held_then_resumed(Mode::Stop, 'T', true);
}

#[test]
fn a_stopped_child_can_be_killed_without_another_instruction() {
    let board = AckBoard::new(STORES).unwrap();
    let recipe = Launch::role("store_all").board("board", &board);
    let mut zygote = Zygote::spawn(&recipe).unwrap();
    for mut held in [Stepper::spawn(&recipe).unwrap(), zygote.fork(&[]).unwrap()] {
        board.words().iter().for_each(|word| word.store(0, SeqCst));
        held.step_to(8).unwrap();
        held.stop().unwrap();
        let before = board.sum();
        assert!(held.kill().unwrap().is_kill());
        assert_eq!(board.sum(), before);
    }
}

#[test]
fn a_signal_handler_runs_under_the_stepper() {
    let board = AckBoard::new(1).unwrap();
    let launch = Launch::role("handle_a_signal").board("board", &board);
    let mut held = Stepper::spawn(&launch).unwrap();
    assert!(matches!(held.step_to(u64::MAX).unwrap(), Outcome::Ended(_)));
    held.resume_success().unwrap();
    assert_eq!(board.get(0), 1);
}

#[test]
fn a_failing_check_is_reported_with_its_step_and_function() {
    let launch = |_| {
        let board = AckBoard::new(STORES)?;
        Ok((
            Stepper::spawn(&Launch::role("store_all").board("board", &board))?,
            board,
        ))
    };
    let check = |_: &Point, _: &mut Stepper, board: &mut AckBoard| {
        assert_ne!(board.sum(), 5, "planted");
        if board.sum() == 7 {
            Err("planted too".to_owned())
        } else {
            Ok(())
        }
    };
    let summary = step::for_each_step("planted", Mode::Kill, launch, check).unwrap();
    let [five, seven] = &summary.failures[..] else {
        panic!("{summary}")
    };
    assert_eq!(seven.k, five.k + 2);
    assert!(five.why.contains("planted"), "{summary}");
    assert!(
        five.symbol.contains("store_all") || five.symbol.contains('+'),
        "{summary}"
    );
    assert!(std::panic::catch_unwind(|| summary.assert_clean()).is_err());
}

#[test]
fn a_run_on_another_path_is_recognised_and_visited_slowly() {
    // Odd launches do more rounds than the reference did.
    let mut launches = 0u64;
    let mut start = |board: &AckBoard, _| {
        launches += 1;
        let rounds = if launches % 4 == 2 { 0 } else { 5 };
        Stepper::spawn(
            &Launch::role("add_up")
                .set("rounds", rounds)
                .board("board", board),
        )
    };
    let (summary, sums) = sums_by_step(Sweep::new("strays", Mode::Kill), &mut start);
    assert!(summary.strayed > 0, "{summary}");
    assert_eq!(sums.values().max(), Some(&5));
}

#[test]
fn a_subset_says_what_it_left_out() {
    let sweep = Sweep::new("subset", Mode::Kill).every(3).shard(1, 2);
    let (summary, sums) = sums_by_step(sweep, &mut exec("store_all"));
    assert!(sums.keys().all(|k| k % 6 == 3), "{sums:?}");
    assert_eq!(summary.visited + summary.left_out, summary.total + 1);
}

#[test]
fn a_child_that_blocks_in_its_stretch_is_named_not_waited_for() {
    let driver = Launch::role("impatient_driver").env("RINGWAY_DEADLINE_S", "1");
    driver.spawn().unwrap().wait_success().unwrap();
}

#[test]
fn a_child_that_leaves_its_stretch_is_a_fault_not_a_step() {
    let mut early = Stepper::spawn(&Launch::role("leave_early")).unwrap();
    let fault = early.step_to(u64::MAX).unwrap_err().to_string();
    assert!(fault.contains("exit code 7"), "{fault}");
    assert_eq!(early.exit(), Some(Exit::Code(7)));
    let mut trapped = Stepper::spawn(&Launch::role("trap_elsewhere")).unwrap();
    let fault = trapped.step_to(u64::MAX).unwrap_err().to_string();
    assert!(fault.contains("no marker"), "{fault}");
}

#[test]
fn markers_pass_where_nobody_traces() {
    Launch::role("ten_nops")
        .spawn()
        .unwrap()
        .wait_success()
        .unwrap();
}
