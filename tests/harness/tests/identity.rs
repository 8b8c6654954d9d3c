//! Processes whose identity lies: the aids make real ones, or say why they can't.

use ringway_harness::liveness::{self, Dumping, PidNamespace, Zombie};
use ringway_harness::{AckBoard, Exit, Launch, Stage, TempBus, Victim};

ringway_harness::roles! { tell => tell }

/// Writes down who it is, then waits to be ended.
fn tell(stage: &Stage) -> Result<(), String> {
    liveness::grow_for_core_dump();
    let board = stage.board("board");
    board.set(1, u64::from(std::process::id()));
    // SAFETY: getuid takes nothing.
    board.set(2, u64::from(unsafe { libc::getuid() }));
    board.set(0, 1);
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

struct Teller {
    board: AckBoard,
    launch: Launch,
}

impl Teller {
    fn new() -> Teller {
        let board = AckBoard::new(3).unwrap();
        let launch = Launch::role("tell").board("board", &board);
        Teller { board, launch }
    }

    /// (pid, uid) as the child sees them.
    fn told(&self, child: &Victim) -> (i32, u32) {
        self.board
            .await_at_least(0, 1, child, "the child to tell")
            .unwrap();
        (self.board.get(1) as i32, self.board.get(2) as u32)
    }
}

fn start_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat[stat.rfind(')').unwrap() + 2..]
        .split(' ')
        .nth(19)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_reused_pid_is_the_same_number_for_another_process() {
    let teller = Teller::new();
    let mut first = teller.launch.spawn().unwrap();
    teller.told(&first);
    let born = start_time(first.pid());
    first.kill().unwrap();
    teller.board.set(0, 0);
    let answer = liveness::reuse_pid(&first, &teller.launch).unwrap();
    let Some(second) = answer.or_announce("reused pid") else {
        return;
    };
    assert_eq!(second.pid(), first.pid());
    assert_eq!(teller.told(&second).0, first.pid());
    assert!(start_time(second.pid()) >= born);
}

#[test]
fn twins_have_equal_pids_and_are_both_alive() {
    let (one, other) = (Teller::new(), Teller::new());
    let answer = liveness::twins(&one.launch, &other.launch).unwrap();
    let Some((a, b)) = answer.or_announce("twins") else {
        return;
    };
    assert_eq!((one.told(&a).0, other.told(&b).0), (1, 1));
    assert_ne!(a.pid(), b.pid(), "seen from outside");
}

#[test]
fn a_namesake_sees_itself_under_the_pid_of_its_model() {
    let (model, copy) = (Teller::new(), Teller::new());
    let first = model.launch.spawn().unwrap();
    let answer = liveness::namesake(&first, &copy.launch).unwrap();
    let Some(second) = answer.or_announce("namesake") else {
        return;
    };
    assert_eq!(copy.told(&second).0, model.told(&first).0);
    assert_ne!(first.pid(), second.pid(), "seen from outside");
}

#[test]
fn a_thread_launches_into_its_own_namespace_again_after_another() {
    if let Err(refused) = PidNamespace::new() {
        eprintln!("SKIPPED namespaces: {refused}");
        return;
    }
    let teller = Teller::new();
    let model = teller.launch.spawn().unwrap();
    drop(liveness::namesake(&model, &Teller::new().launch).unwrap());
    let here = Teller::new();
    let child = here.launch.spawn().unwrap();
    assert_eq!(here.told(&child).0, child.pid());
}

#[test]
fn a_zombie_answers_to_signal_0_until_it_is_reaped() {
    let teller = Teller::new();
    let zombie = Zombie::make(teller.launch.spawn().unwrap()).unwrap();
    let pid = zombie.pid();
    // SAFETY: signal 0 only asks whether the pid exists.
    let answers = || unsafe { libc::kill(pid, 0) } == 0;
    assert!(answers());
    assert!(zombie.reap().unwrap().is_kill());
    assert!(!answers());
}

#[test]
fn a_core_dump_is_caught_under_way() {
    let (teller, directory) = (Teller::new(), TempBus::new().unwrap());
    let launch = liveness::prepare_core_dump(&teller.launch, directory.path(), 256);
    let child = launch.spawn().unwrap();
    teller.told(&child);
    let Some(dumping) = Dumping::start(child).unwrap().or_announce("core dump") else {
        return;
    };
    let exit = dumping.finish().unwrap();
    assert_eq!(
        exit,
        Exit::Signal {
            signal: libc::SIGABRT,
            dumped: true
        }
    );
}

#[test]
fn a_machine_without_core_dumps_is_a_skip_not_a_success() {
    let teller = Teller::new();
    let child = teller.launch.spawn().unwrap(); // no core limit: nothing is dumped
    teller.told(&child);
    let liveness::Aid::Skipped(reason) = Dumping::start(child).unwrap() else {
        panic!()
    };
    assert!(reason.contains("may dump no core: signal 6"), "{reason}");
}

#[test]
fn nobody_runs_with_a_board_and_dies_with_its_guard() {
    let teller = Teller::new();
    let answer = liveness::as_nobody(&teller.launch).unwrap();
    let Some(mut child) = answer.or_announce("other uid") else {
        return;
    };
    assert_eq!(teller.told(&child).1, 65534);
    assert!(child.kill().unwrap().is_kill());
}
