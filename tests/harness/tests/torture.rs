//! The scheduler of kill torture: it reaches its kills, leaves nobody, and trusts nobody.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use ringway_harness::chaos::{Report, Torture, Troupe};
use ringway_harness::{AckBoard, Fault, Launch, Stage};

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
    let torture = Torture::kills(180);
    let report = troupe.torture(&torture, |_| Ok(())).unwrap();
    assert_eq!(report.kills, 180);
    assert_eq!(
        report.births,
        180 + MEMBERS as u64,
        "each of the killed was born again"
    );
    assert_eq!(report.births, births.load(SeqCst));
    assert!(report.stops > 0 && report.kills_of_stopped > 0, "{report}");
    assert_all_move_on(&troupe, &board, &report);
    // Ten ends more, since an end at which nobody happens to be stopped proves little.
    for round in 0..10 {
        let short = Torture {
            seed: torture.seed.wrapping_add(1 + round),
            kills: 2,
            ..torture.clone()
        };
        let report = troupe.torture(&short, |_| Ok(())).unwrap();
        assert_all_move_on(&troupe, &board, &report);
    }
    let pids: Vec<i32> = troupe.victims().map(|victim| victim.pid()).collect();
    assert_eq!(pids.len(), MEMBERS);
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

/// Nobody is stopped any more, by the books and by their work.
fn assert_all_move_on(troupe: &Troupe, board: &AckBoard, report: &Report) {
    assert_eq!(
        report.stops,
        report.continues + report.kills_of_stopped,
        "{report}"
    );
    for (i, victim) in troupe.victims().enumerate() {
        let word = 2 * i + 1;
        let seen = board.get(word);
        board
            .await_at_least(word, seen + 1, victim, "work after the torture")
            .unwrap();
    }
}

#[test]
fn a_member_that_fails_by_itself_ends_the_torture_with_its_name_and_seed() {
    let mut troupe = Troupe::new();
    troupe.join("the weak one", |_| Ok(Launch::role("fail")));
    let mut torture = Torture::kills(50);
    torture.seed = 77;
    torture.kill_percent = 0;
    let unnoticed = |report: &Report| {
        let what = "its first end passed unnoticed".to_owned();
        if report.births < 3 {
            Ok(())
        } else {
            Err(Fault::Victim { what })
        }
    };
    let fault = troupe.torture(&torture, unnoticed).unwrap_err().to_string();
    assert!(
        fault.contains("the weak one") && fault.contains("exit code 3"),
        "{fault}"
    );
    assert!(fault.contains("RINGWAY_SEED=77"), "{fault}");
}
