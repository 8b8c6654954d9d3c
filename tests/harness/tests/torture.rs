//! The scheduler of kill torture: it reaches its kills, leaves nobody, and trusts nobody.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use ringway_harness::chaos::{Torture, Troupe};
use ringway_harness::{AckBoard, Launch, Stage};

ringway_harness::roles! {
    work => work,
    fail => fail,
    torturer => torture_reaches_its_kills_and_leaves_no_child,
}

/// Counts its births and its work until told to stop.
fn work(stage: &Stage) -> Result<(), String> {
    let (board, stop) = (stage.board("board"), stage.board("stop"));
    let i: usize = stage.get("i");
    board.add(2 * i, 1);
    while stop.get(0) == 0 {
        board.add(2 * i + 1, 1);
        std::hint::spin_loop();
    }
    Ok(())
}

fn fail(_: &Stage) -> Result<(), String> {
    std::process::exit(3)
}

/// In a process of its own, which can be asked whether it has any child left.
#[test]
fn torture_by_a_process_that_ends_up_childless() {
    Launch::role("torturer")
        .spawn()
        .unwrap()
        .wait_success()
        .unwrap();
}

fn torture_reaches_its_kills_and_leaves_no_child(_: &Stage) -> Result<(), String> {
    const MEMBERS: usize = 6;
    let (board, stop) = (
        AckBoard::new(2 * MEMBERS).unwrap(),
        AckBoard::new(1).unwrap(),
    );
    let births = AtomicU64::new(0);
    let mut pids = Vec::new();
    let mut troupe = Troupe::new();
    for i in 0..MEMBERS {
        let launch = Launch::role("work")
            .set("i", i)
            .board("board", &board)
            .board("stop", &stop);
        let births = &births;
        troupe.join(&format!("worker {i}"), move |birth| {
            births.fetch_add(1, SeqCst);
            Ok(launch.clone().set("birth", birth))
        });
    }
    let report = troupe.torture(&Torture::kills(200), |_| Ok(())).unwrap();
    pids.extend(troupe.victims().map(|victim| victim.pid()));
    assert_eq!(report.kills, 200);
    assert_eq!(report.births, births.load(SeqCst));
    assert_eq!(
        report.births,
        200 + MEMBERS as u64,
        "each of the killed was born again"
    );
    assert!(report.stops > 0 && report.kills_of_stopped > 0, "{report}");
    assert_eq!(pids.len(), MEMBERS);
    for (i, victim) in troupe.victims().enumerate() {
        // Alive, and none is stopped any more: each moves on.
        let seen = board.get(2 * i + 1);
        board
            .await_at_least(2 * i + 1, seen + 1, victim, "work after the torture")
            .unwrap();
    }
    stop.set(0, 1);
    troupe.finish().unwrap();
    drop(troupe);
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
    // SAFETY: waitpid with a null status only asks whether this process has any child.
    let any = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!(any, -1, "no child at all is left");
    Ok(())
}

#[test]
fn a_member_that_fails_by_itself_ends_the_torture_with_its_name_and_seed() {
    let mut troupe = Troupe::new();
    troupe.join("the weak one", |_| Ok(Launch::role("fail")));
    let mut torture = Torture::kills(10_000);
    torture.seed = 77;
    torture.kill_percent = 0;
    let fault = troupe
        .torture(&torture, |_| Ok(()))
        .unwrap_err()
        .to_string();
    assert!(
        fault.contains("the weak one") && fault.contains("exit code 3"),
        "{fault}"
    );
    assert!(fault.contains("RINGWAY_SEED=77"), "{fault}");
}
