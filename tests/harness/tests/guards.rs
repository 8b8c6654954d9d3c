//! Children, boards and directories: what survives, what ends, and what is named.
//!
//! Every guard is shown to end what it guards, also on panic and when the launching
//! thread is gone; every failure of a child is shown to come back with its name.

use std::time::{Duration, Instant};

use ringway_harness::{
    AckBoard, Exit, Fault, Launch, Stage, TempBus, await_condition, leftovers, seed::Random,
};

ringway_harness::roles! {
    count_for_ever => count_for_ever,
    refuse => refuse,
    panic => panic,
    echo_parameters => echo_parameters,
    wait_for_sleeper => wait_for_sleeper,
    wait_for_nothing => wait_for_nothing,
}

fn count_for_ever(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    loop {
        board.add(0, 1);
    }
}

fn refuse(_: &Stage) -> Result<(), String> {
    Err("as planted".into())
}

fn panic(_: &Stage) -> Result<(), String> {
    panic!("as planted")
}

fn echo_parameters(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    board.set(0, stage.get("number"));
    board.set(1, stage.text("text").len() as u64);
    board.set(2, stage.find("absent").unwrap_or(99));
    board.set(
        3,
        u64::from(std::env::current_dir().unwrap() == stage.path("directory")),
    );
    Ok(())
}

/// With a deadline of one second, waits for a child that never ends.
fn wait_for_sleeper(_: &Stage) -> Result<(), String> {
    let board = AckBoard::new(1)?;
    let mut endless = Launch::role("count_for_ever")
        .board("board", &board)
        .spawn()?;
    match endless.wait() {
        Err(Fault::Hung { what, .. }) if what.contains("count_for_ever") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// With a deadline of one second, waits for a condition that never holds.
fn wait_for_nothing(_: &Stage) -> Result<(), String> {
    await_condition("what is", || true)?;
    match await_condition("what never comes", || false) {
        Err(Fault::Hung { what, .. }) if what == "what never comes" => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn counting() -> (AckBoard, Launch) {
    let board = AckBoard::new(1).unwrap();
    let launch = Launch::role("count_for_ever").board("board", &board);
    (board, launch)
}

fn is_gone(pid: i32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_board_keeps_what_a_killed_child_wrote() {
    let (board, launch) = counting();
    let mut child = launch.spawn().unwrap();
    board
        .await_at_least(0, 1000, &child, "a thousand counts")
        .unwrap();
    assert!(child.kill().unwrap().is_kill());
    let left = board.get(0);
    assert!(left >= 1000);
    assert_eq!(board.get(0), left, "nobody counts any more");
}

#[test]
fn a_stopped_child_stands_still_and_a_continued_one_moves() {
    let (board, launch) = counting();
    let child = launch.spawn().unwrap();
    board
        .await_at_least(0, 1, &child, "the first count")
        .unwrap();
    assert!(child.stop().unwrap());
    assert_eq!(child.state(), Some('T'));
    let still = board.get(0);
    for _ in 0..100 {
        std::thread::yield_now();
    }
    assert_eq!(board.get(0), still);
    child.cont().unwrap();
    board
        .await_at_least(0, still + 1, &child, "a count after SIGCONT")
        .unwrap();
}

#[test]
fn a_dropped_guard_leaves_no_process() {
    let (_board, launch) = counting();
    let child = launch.spawn().unwrap();
    let pid = child.pid();
    drop(child);
    assert!(is_gone(pid));
}

#[test]
fn a_child_dies_with_the_thread_that_launched_it() {
    let (board, launch) = counting();
    let mut child = std::thread::scope(|scope| {
        let launching = scope.spawn(|| {
            let child = launch.spawn().unwrap();
            board
                .await_at_least(0, 1, &child, "the first count")
                .unwrap();
            child
        });
        launching.join().unwrap()
    });
    assert!(child.wait().unwrap().is_kill());
}

#[test]
fn a_role_answers_by_its_exit_code() {
    let end = |role: &str| Launch::role(role).quiet().spawn().unwrap().wait().unwrap();
    assert_eq!(end("refuse"), Exit::Code(1));
    assert_eq!(end("panic"), Exit::Code(101));
    assert_eq!(end("no_such_role"), Exit::Code(2));
    let fault = Launch::role("refuse")
        .quiet()
        .spawn()
        .unwrap()
        .wait_success()
        .unwrap_err();
    assert!(
        fault.to_string().contains("refuse ended with exit code 1"),
        "{fault}"
    );
}

#[test]
fn parameters_and_directory_reach_the_role() {
    let (board, bus) = (AckBoard::new(4).unwrap(), TempBus::new().unwrap());
    let launch = Launch::role("echo_parameters")
        .set("number", 42)
        .set("text", "übung macht den meister = ja")
        .set("directory", bus.path().display())
        .directory(bus.path())
        .board("board", &board);
    launch.spawn().unwrap().wait_success().unwrap();
    let seen: Vec<u64> = (0..4).map(|i| board.get(i)).collect();
    assert_eq!(
        seen,
        [42, "übung macht den meister = ja".len() as u64, 99, 1]
    );
}

#[test]
fn a_launch_that_fails_names_the_call() {
    let fault = Launch::role("refuse")
        .directory("/nowhere/at/all")
        .spawn()
        .unwrap_err();
    assert!(fault.to_string().contains("chdir"), "{fault}");
    assert_eq!(fault.errno(), Some(libc::ENOENT));
    let fault = Launch::program("/dev/null").spawn().unwrap_err();
    assert!(fault.to_string().contains("execveat"), "{fault}");
}

#[test]
fn any_program_can_be_launched() {
    let mut child = Launch::program("/bin/sh")
        .arg("-c")
        .arg("exit 9")
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Code(9));
}

#[test]
fn a_wait_for_ever_is_turned_into_a_named_fault() {
    for role in ["wait_for_sleeper", "wait_for_nothing"] {
        let driver = Launch::role(role).env("RINGWAY_DEADLINE_S", "1");
        driver.spawn().unwrap().wait_success().unwrap();
    }
}

#[test]
fn a_child_that_ended_is_not_waited_for_on_its_board() {
    let board = AckBoard::new(1).unwrap();
    let mut child = Launch::role("refuse").quiet().spawn().unwrap();
    let fault = board
        .await_at_least(0, 1, &child, "a sign of life")
        .unwrap_err();
    assert!(
        fault.to_string().contains("ended before a sign of life"),
        "{fault}"
    );
    assert!(
        child
            .exited_by(Instant::now() + Duration::from_secs(60))
            .unwrap()
    );
    child.wait().unwrap();
}

#[test]
fn a_directory_goes_with_its_guard_also_on_panic() {
    let bus = TempBus::new().unwrap();
    let path = bus.path().to_owned();
    std::fs::create_dir(path.join("inner")).unwrap();
    std::fs::write(path.join("inner/file"), b"x").unwrap();
    assert!(
        !leftovers().contains(&path),
        "a guarded directory is no leftover"
    );
    let panicked = std::thread::spawn(move || {
        let _bus = bus;
        std::panic::panic_any("planted");
    });
    assert!(panicked.join().is_err());
    assert!(!path.exists());
}

#[test]
fn a_directory_whose_maker_is_gone_is_a_leftover() {
    let mut gone = Launch::program("/bin/true").spawn().unwrap();
    gone.wait().unwrap();
    let planted = std::path::PathBuf::from(format!("/dev/shm/ringway-test-{}-7", gone.pid()));
    let guard = TempBus::at(&planted).unwrap();
    assert!(!leftovers().contains(&planted), "still guarded here");
    drop(guard);
    std::fs::create_dir(&planted).unwrap();
    let found = leftovers();
    std::fs::remove_dir(&planted).unwrap();
    assert!(found.contains(&planted), "{found:?}");
}

#[test]
fn equal_seeds_draw_equal_numbers_within_bounds() {
    let draw = |seed| {
        let mut random = Random::new(seed);
        (0..1000).map(|_| random.below(10)).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert!((0..10).all(|n| draw(1).contains(&n)) && draw(1).iter().all(|n| *n < 10));
}
