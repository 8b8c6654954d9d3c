//! Who is dead, and who only looks like it. Death is what the kernel says by releasing a lock; so
//! no living participant is ever called dead, whatever happens to pids, namespaces, users and the
//! scheduler, and the dead are known within a look.
//!
//! Every probe goes through the public API. A probe that calls a living participant dead is false,
//! and one is too many: 10^5 are made in the quick run, 10^6 with `RINGWAY_FULL=1`.

#[path = "../hostile/effort.rs"]
mod effort;

use ringway::{Bus, JoinError, OpenError, ParticipantId, Producers, ReadError, Start};
use ringway_harness::liveness::{self, Dumping, Zombie};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, Victim, await_condition};
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

ringway_harness::roles! {
    live => live, fork_away => fork_away, exec_away => exec_away, sit => sit, crowd => crowd,
    reap_slowly => reap_slowly, probe => probe,
}

/// Counters of a board: how far the role is, its participant, a second one, false deaths it saw.
const STEP: usize = 0;
const ID: usize = 1;
const SECOND: usize = 2;
const FALSE: usize = 3;
const PROBES: usize = 4;

/// Probes of all tests of this process, and how many the whole run is meant to make.
static PROBED: AtomicU64 = AtomicU64::new(0);

fn open(root: &Path) -> Bus {
    Bus::builder("b")
        .root(root)
        .pool_bytes(8 << 20)
        .open_or_create()
        .expect("a bus")
}

struct Scene {
    root: TempBus,
    bus: Bus,
    board: AckBoard,
}

impl Scene {
    fn new() -> Scene {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("b")
            .root(root.path())
            .mode(0o666)
            .pool_bytes(8 << 20)
            .create()
            .unwrap();
        Scene {
            root,
            bus,
            board: AckBoard::new(5).unwrap(),
        }
    }

    fn launch(&self, role: &str) -> Launch {
        Launch::role(role)
            .board("board", &self.board)
            .set("root", self.root.path().display())
    }

    /// Its participant, once `child` has joined.
    fn joined(&self, child: &Victim) -> ParticipantId {
        self.board
            .await_at_least(STEP, 1, child, "the child to join")
            .unwrap();
        ParticipantId(self.board.get(ID) as u16)
    }

    fn says_alive(&self, id: ParticipantId) -> bool {
        PROBED.fetch_add(1, Relaxed);
        self.bus.participant(id).expect("its entry is in use").alive
    }

    /// Many probes in both ways of asking: all of them say alive.
    fn is_alive(&self, id: ParticipantId, probes: u64) {
        for number in 0..probes {
            assert!(
                self.says_alive(id),
                "probe {number} calls the living {id} dead"
            );
            if number % 64 == 0 {
                let all = self.bus.participants().unwrap();
                PROBED.fetch_add(all.len() as u64, Relaxed);
                assert!(
                    all.iter().any(|p| p.slot == id.0 && p.alive),
                    "{id} in {all:?}"
                );
            }
        }
    }

    /// The next look says dead, and so does everyone after it.
    fn is_dead(&self, id: ParticipantId) {
        for _ in 0..100 {
            assert!(!self.says_alive(id), "{id} is dead and called alive");
        }
    }

    fn is_reaped(&self, id: ParticipantId) {
        let generation = self.bus.participant(id).expect("not reaped yet").generation;
        assert_eq!(self.bus.reap().unwrap(), 1);
        assert_eq!(self.bus.participant(id), None);
        // The entry is used again, one generation later.
        let next = open(self.root.path());
        assert_eq!(next.me(), id);
        assert_eq!(next.participant(id).unwrap().generation, generation + 1);
    }
}

/// Joins, says so, and lives until it is ended.
fn live(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    liveness::grow_for_core_dump();
    let bus = open(&stage.path("root"));
    if let Some(role) = stage.find::<usize>("role") {
        bus.take_role(role)
            .map_err(|by| format!("{by} holds role {role}"))?;
    }
    let channels = stage.find::<String>("channels").unwrap_or_default();
    let channels = channels.split_terminator(',');
    let _producers: Vec<_> = channels
        .map(|name| bus.channel(name).open().unwrap().producer().unwrap())
        .collect();
    board.set(ID, u64::from(bus.me().0));
    board.set(STEP, 1);
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

#[test]
fn a_killed_process_is_dead_at_the_next_look_and_its_entry_is_used_again() {
    let scene = Scene::new();
    for _ in 0..5 {
        let mut child = scene.launch("live").spawn().unwrap();
        let id = scene.joined(&child);
        scene.is_alive(id, 200);
        child.kill().unwrap();
        scene.is_dead(id);
        scene.is_reaped(id);
        scene.board.set(STEP, 0);
    }
}

#[test]
fn a_zombie_is_dead_though_its_pid_still_answers() {
    let scene = Scene::new();
    let child = scene.launch("live").spawn().unwrap();
    let id = scene.joined(&child);
    let zombie = Zombie::make(child).unwrap();
    // SAFETY: signal 0 only asks whether the pid exists.
    assert_eq!(unsafe { libc::kill(zombie.pid(), 0) }, 0);
    scene.is_dead(id);
    scene.is_reaped(id);
    zombie.reap().unwrap();
}

#[test]
fn a_stopped_process_is_alive_and_keeps_its_role() {
    let scene = Scene::new();
    let mut child = scene.launch("live").set("role", 9).spawn().unwrap();
    let id = scene.joined(&child);
    assert!(child.stop().unwrap());
    scene.is_alive(id, 2000);
    assert_eq!(scene.bus.reap().unwrap(), 0);
    assert_eq!(
        scene.bus.take_role(9),
        Err(id),
        "a role is not stolen from the stopped"
    );
    assert_eq!(scene.bus.role_holder(9), Some(id));
    assert!(scene.bus.doctor(true).unwrap().is_clean());
    child.cont().unwrap();
    scene.is_alive(id, 200);
    child.kill().unwrap();
    scene.is_dead(id);
    // At death it passes on, before anybody reaps.
    assert_eq!(scene.bus.take_role(9), Ok(()));
    assert_eq!(scene.bus.role_holder(9), Some(scene.bus.me()));
    scene.is_reaped(id);
    assert_eq!(
        scene.bus.role_holder(9),
        Some(scene.bus.me()),
        "reaping takes only what the dead hold"
    );
    assert!(scene.bus.release_role(9));
    assert_eq!(scene.bus.role_holder(9), None);
}

#[test]
fn a_process_with_the_pid_of_a_dead_one_is_somebody_else() {
    let scene = Scene::new();
    let mut first = scene.launch("live").spawn().unwrap();
    let old = scene.joined(&first);
    first.kill().unwrap();
    let other = AckBoard::new(5).unwrap();
    let launch = scene.launch("live").board("board", &other);
    let Some(second) = liveness::reuse_pid(&first, &launch)
        .unwrap()
        .or_announce("reused pid")
    else {
        return;
    };
    other
        .await_at_least(STEP, 1, &second, "the second to join")
        .unwrap();
    let new = ParticipantId(other.get(ID) as u16);
    assert_eq!(second.pid(), first.pid());
    // An open may reap first; then the old one is gone, which is as good as dead.
    if new == old {
        assert_eq!(scene.bus.participant(new).unwrap().generation, 1);
    } else if scene.bus.participant(old).is_some() {
        scene.is_dead(old);
    }
    scene.is_alive(new, 500);
    scene.bus.reap().unwrap();
    scene.is_alive(new, 500);
}

#[test]
fn equal_pids_in_two_namespaces_are_two_participants() {
    let scene = Scene::new();
    let other = AckBoard::new(5).unwrap();
    let launches = [
        scene.launch("live"),
        scene.launch("live").board("board", &other),
    ];
    let twins = liveness::twins(&launches[0], &launches[1])
        .unwrap()
        .or_announce("pid namespaces");
    let Some((mut one, two)) = twins else { return };
    let first = scene.joined(&one);
    other
        .await_at_least(STEP, 1, &two, "the twin to join")
        .unwrap();
    let second = ParticipantId(other.get(ID) as u16);
    let info = |id| scene.bus.participant(id).unwrap();
    assert_eq!((info(first).pid, info(second).pid), (1, 1));
    assert_ne!(info(first).pid_namespace, info(second).pid_namespace);
    scene.is_alive(first, 500);
    one.kill().unwrap();
    scene.is_dead(first);
    scene.is_alive(second, 1000);
    scene.is_reaped(first);
    scene.is_alive(second, 500);
}

#[test]
fn a_process_that_dumps_core_is_alive_until_the_kernel_releases_its_lock() {
    let scene = Scene::new();
    let dumps = TempBus::new().unwrap();
    let launch = liveness::prepare_core_dump(&scene.launch("live"), dumps.path(), 256);
    let child = launch.spawn().unwrap();
    let id = scene.joined(&child);
    let Some(dumping) = Dumping::start(child).unwrap().or_announce("core dump") else {
        return;
    };
    let mut during = 0;
    loop {
        let alive = scene.says_alive(id);
        if !dumping.under_way() {
            break;
        }
        // Between two looks that both found it dumping: its memory is still being read.
        assert!(alive, "called dead while it dumps core");
        during += 1;
    }
    assert!(during > 0, "the dump was over before it was probed");
    dumping.finish().unwrap();
    scene.is_dead(id);
    scene.is_reaped(id);
}

#[test]
fn another_user_probes_and_is_probed() {
    let scene = Scene::new();
    std::fs::set_permissions(
        scene.root.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let launch = scene
        .launch("probe")
        .set("host", scene.bus.me().0)
        .set("probes", 2000);
    let Some(mut nobody) = liveness::as_nobody(&launch)
        .unwrap()
        .or_announce("another uid")
    else {
        return;
    };
    let id = scene.joined(&nobody);
    scene.is_alive(id, 2000);
    scene
        .board
        .await_at_least(STEP, 2, &nobody, "nobody's probes")
        .unwrap();
    assert_eq!(scene.board.get(FALSE), 0, "nobody called us dead");
    PROBED.fetch_add(scene.board.get(PROBES), Relaxed);
    nobody.kill().unwrap();
    scene.is_dead(id);
    scene.is_reaped(id);
}

/// Probes participant `host`, which lives, and counts what says otherwise.
fn probe(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let bus = Bus::builder("b")
        .root(stage.path("root"))
        .open()
        .map_err(|e| e.to_string())?;
    board.set(ID, u64::from(bus.me().0));
    board.set(STEP, 1);
    let host = ParticipantId(stage.get("host"));
    for _ in 0..stage.get::<u64>("probes") {
        let alive = bus.participant(host).is_some_and(|info| info.alive);
        board.add(FALSE, u64::from(!alive));
        board.add(PROBES, 1);
    }
    board.set(STEP, 2);
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

#[test]
fn a_forked_child_neither_keeps_its_parent_alive_nor_dies_with_it() {
    let scene = Scene::new();
    let mut parent = scene.launch("fork_away").spawn().unwrap();
    let of_parent = scene.joined(&parent);
    scene
        .board
        .await_at_least(STEP, 2, &parent, "the child to join")
        .unwrap();
    let of_child = ParticipantId(scene.board.get(SECOND) as u16);
    assert_ne!(of_parent, of_child);
    scene.is_alive(of_parent, 500);
    scene.is_alive(of_child, 500);
    parent.kill().unwrap();
    scene.is_dead(of_parent);
    scene.is_alive(of_child, 1000);
    scene.is_reaped(of_parent);
    // Told to go, the child says what it thinks of its parent's handle, and leaves in order.
    scene.board.set(STEP, 3);
    await_condition("the child to leave", || {
        scene.bus.participant(of_child).is_none()
    })
    .unwrap();
    assert_eq!(scene.board.get(FALSE), 0);
}

fn fork_away(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let bus = open(&stage.path("root"));
    board.set(ID, u64::from(bus.me().0));
    board.set(STEP, 1);
    // SAFETY: this process has one thread.
    if unsafe { libc::fork() } == 0 {
        board.add(
            FALSE,
            u64::from(!matches!(bus.participants(), Err(OpenError::Forked))),
        );
        let own = open(&stage.path("root"));
        board.set(SECOND, u64::from(own.me().0));
        board.set(STEP, 2);
        // Its parent dies meanwhile, and with it the harness's hold: it ends by itself.
        let told = await_condition("the order to go", || board.get(STEP) == 3);
        board.add(
            FALSE,
            u64::from(!own.participant(own.me()).is_some_and(|me| me.alive)),
        );
        drop((own, bus));
        std::process::exit(i32::from(told.is_err()));
    }
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

#[test]
fn exec_ends_the_participant_though_the_process_goes_on() {
    let scene = Scene::new();
    let mut child = scene.launch("exec_away").spawn().unwrap();
    let id = scene.joined(&child);
    scene.is_alive(id, 500);
    scene.board.set(SECOND, 1);
    scene
        .board
        .await_at_least(STEP, 2, &child, "the program behind exec")
        .unwrap();
    assert_eq!(
        child.state().map(|state| state != 'Z'),
        Some(true),
        "the process lives"
    );
    scene.is_dead(id);
    scene.is_reaped(id);
    child.kill().unwrap();
}

fn exec_away(stage: &Stage) -> Result<(), String> {
    use std::os::unix::process::CommandExt;
    let board = stage.board("board");
    let bus = open(&stage.path("root"));
    let _channel = bus
        .channel("c")
        .create()
        .map_err(|e| e.to_string())?
        .producer()
        .unwrap();
    board.set(ID, u64::from(bus.me().0));
    board.set(STEP, 1);
    await_condition("the order to exec", || board.get(SECOND) == 1).map_err(|e| e.to_string())?;
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let error = std::process::Command::new(program)
        .env("RINGWAY_ROLE", "sit")
        .exec();
    Err(error.to_string())
}

/// A program that knows nothing of the bus.
fn sit(stage: &Stage) -> Result<(), String> {
    stage.board("board").set(STEP, 2);
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

#[test]
fn attachments_of_one_process_live_and_die_each_by_itself() {
    let scene = Scene::new();
    let mut siblings: Vec<_> = (0..20).map(|_| open(scene.root.path())).collect();
    let ids: BTreeSet<_> = siblings.iter().map(|bus| bus.me()).collect();
    assert_eq!(ids.len(), 20, "several participants");
    while let Some(leaver) = siblings.pop() {
        let gone = leaver.me();
        // A sibling is not dead to its siblings, nor to itself, nor to others.
        for sibling in &siblings {
            assert!(leaver.participant(sibling.me()).unwrap().alive);
            assert!(sibling.participant(gone).unwrap().alive);
            scene.is_alive(sibling.me(), 5);
            assert_eq!(sibling.reap().unwrap(), 0);
        }
        drop(leaver);
        assert_eq!(scene.bus.participant(gone), None);
    }
    // A clone is no attachment: the participant stays until the last handle goes.
    let bus = open(scene.root.path());
    let (clone, id) = (bus.clone(), bus.me());
    let reader = bus.channel("c").create().unwrap().reader().join().unwrap();
    drop(bus);
    scene.is_alive(id, 5);
    drop(clone);
    scene.is_alive(id, 5);
    drop(reader);
    assert_eq!(scene.bus.participant(id), None);
}

#[test]
fn threads_that_come_go_and_probe_never_see_the_living_dead() {
    let scene = Scene::new();
    let stop = AtomicBool::new(false);
    let (opened, wanted) = (AtomicU64::new(0), effort::executions(300, 5000));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while opened.fetch_add(1, Relaxed) < wanted {
                    let bus = open(scene.root.path());
                    let channel = bus.channel("c").open_or_create().unwrap();
                    let mut reader = channel.reader().start(Start::Latest).join().unwrap();
                    // It sends and reads like the living, and is never evicted.
                    channel.producer().unwrap().try_send(b"x").unwrap();
                    assert!(reader.try_read(&mut [0; 96]).unwrap().is_some());
                    assert!(bus.participant(bus.me()).unwrap().alive);
                }
                stop.store(true, Relaxed);
            });
        }
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                scene.is_alive(scene.bus.me(), 64);
                scene.bus.reap().unwrap();
            }
        });
    });
}

#[test]
fn whoever_sweeps_the_dead_leaves_the_next_owner_of_the_entry_alone() {
    let scene = Scene::new();
    // Rings that take a while to sweep.
    for name in ["a", "b", "c"] {
        scene
            .bus
            .channel(name)
            .slots(1 << 18)
            .stride(64)
            .create()
            .unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    scene.bus.reap().unwrap();
                }
            });
        }
        for _ in 0..effort::executions(20, 400) {
            let mut child = scene
                .launch("live")
                .set("channels", "a,b,c")
                .spawn()
                .unwrap();
            let id = scene.joined(&child);
            scene.board.set(STEP, 0);
            child.kill().unwrap();
            // The entry passes on as soon as it is swept; perhaps some thread still sweeps.
            let next = loop {
                let bus = open(scene.root.path());
                if bus.me() == id {
                    break bus;
                }
            };
            let channel = next.channel("c").open().unwrap();
            let mut reader = channel.reader().join().unwrap();
            let mut producer = channel.producer().unwrap();
            for round in 0..30_000u64 {
                match producer.try_send(&round.to_le_bytes()) {
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
                match reader.try_read(&mut [0; 96]) {
                    Ok(Some(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            match reader.wait(Duration::ZERO) {
                Ok(_) => {}
                Err(ReadError::Stale) => panic!("a sweep took the new owner's reader entry"),
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn a_crowd_that_dies_is_reaped_by_anyone_and_everybody_fits_again() {
    let scene = Scene::new();
    let launch = scene.launch("crowd");
    let mut child = launch.spawn().unwrap();
    scene
        .board
        .await_at_least(STEP, 1, &child, "the crowd")
        .unwrap();
    let crowd = scene.board.get(SECOND);
    assert_eq!(
        crowd, 1021,
        "one of 1,023 is ours, one is kept for who sweeps a full registry"
    );
    let refused = Bus::builder("b")
        .root(scene.root.path())
        .open()
        .err()
        .expect("full");
    assert!(
        matches!(refused, OpenError::TooManyParticipants { .. }),
        "{refused}"
    );
    let all = scene.bus.participants().unwrap();
    PROBED.fetch_add(all.len() as u64, Relaxed);
    assert!(all.len() as u64 == crowd + 1 && all.iter().all(|p| p.alive));
    child.kill().unwrap();
    let all = scene.bus.participants().unwrap();
    assert_eq!(
        all.iter()
            .filter(|p| p.alive)
            .map(|p| p.slot)
            .collect::<Vec<_>>(),
        [scene.bus.me().0]
    );
    // A newcomer gets in, whether it has to sweep for that or not.
    let newcomer = open(scene.root.path());
    newcomer.reap().unwrap();
    assert_eq!(scene.bus.participants().unwrap().len(), 2);
    let all: Vec<_> = (0..50).map(|_| open(scene.root.path())).collect();
    assert!(
        all.iter()
            .any(|bus| bus.participant(bus.me()).unwrap().generation == 1)
    );
}

fn crowd(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let root = stage.path("root");
    let mut crowd = Vec::new();
    while let Ok(bus) = Bus::builder("b").root(&root).open() {
        crowd.push(bus);
    }
    board.set(SECOND, crowd.len() as u64);
    board.set(STEP, 1);
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

#[test]
fn a_reaper_killed_in_mid_sweep_is_followed_by_the_next() {
    let scene = Scene::new();
    for name in ["a", "b", "c", "d"] {
        scene
            .bus
            .channel(name)
            .slots(1 << 17)
            .stride(64)
            .create()
            .unwrap();
    }
    let registry = std::fs::File::open(scene.root.path().join("ringway-b/bus")).unwrap();
    let word_of = |id: ParticipantId| {
        let registry = &registry;
        move || {
            let mut word = [0; 8];
            let at = 8192 + 512 * u64::from(id.0);
            registry.read_exact_at(&mut word, at).unwrap();
            // State and reaper; the generation rises from round to round.
            u64::from_le_bytes(word) >> 52
        }
    };
    let mut followed = 0;
    for round in 0..effort::executions(20, 300) {
        let mut dead = scene
            .launch("live")
            .set("channels", "a,b,c,d")
            .spawn()
            .unwrap();
        let corpse = scene.joined(&dead);
        let other = AckBoard::new(5).unwrap();
        let mut reaper = scene
            .launch("reap_slowly")
            .board("board", &other)
            .spawn()
            .unwrap();
        other
            .await_at_least(STEP, 1, &reaper, "the reaper to join")
            .unwrap();
        let reaping = ParticipantId(other.get(ID) as u16);
        dead.kill().unwrap();
        other.set(SECOND, 1);
        await_reaping(&word_of(corpse), reaping);
        // Somewhere in its sweep; where, the machine decides.
        for _ in 0..(round * 997) % 40_000 {
            std::hint::spin_loop();
        }
        reaper.kill().unwrap();
        followed += u64::from(word_of(corpse)() == reaping_word(reaping));
        assert!(scene.bus.reap().unwrap() >= 1);
        assert_eq!(scene.bus.participant(corpse), None);
        assert_eq!(scene.bus.participant(reaping), None);
        assert!(scene.bus.doctor(false).unwrap().is_clean());
        scene.board.set(STEP, 0);
    }
    println!("{followed} reapers were followed");
    assert!(followed > 0, "no reaper died in mid sweep");
}

/// State and owner of an entry that `reaper` sweeps.
fn reaping_word(reaper: ParticipantId) -> u64 {
    2 << 10 | u64::from(reaper.0)
}

/// Blocks until the sweep has begun, or is over.
fn await_reaping(word: &dyn Fn() -> u64, reaper: ParticipantId) {
    const FREE: u64 = 0;
    let start = std::time::Instant::now();
    while word() != reaping_word(reaper) && word() != FREE {
        assert!(
            start.elapsed() < ringway_harness::deadline(),
            "no reaper came"
        );
    }
}

/// Joins, and at the order reaps whoever is dead.
fn reap_slowly(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let bus = open(&stage.path("root"));
    board.set(ID, u64::from(bus.me().0));
    board.set(STEP, 1);
    while board.get(SECOND) == 0 {
        std::hint::spin_loop();
    }
    loop {
        bus.reap().map_err(|e| e.to_string())?;
    }
}

#[test]
fn an_exclusive_producer_passes_on_at_death_and_not_while_it_is_stopped() {
    let scene = Scene::new();
    let channel = scene
        .bus
        .channel("c")
        .producers(Producers::Exclusive)
        .create()
        .unwrap();
    let mut child = scene.launch("live").set("channels", "c").spawn().unwrap();
    let id = scene.joined(&child);
    assert!(child.stop().unwrap());
    for _ in 0..1000 {
        let refused = channel.producer().err().expect("it lives");
        assert!(
            matches!(refused, JoinError::Busy { by } if by == id),
            "{refused:?}"
        );
    }
    child.kill().unwrap();
    // "Alive" may be believed for a millisecond; "dead" never is.
    let mut taken = None;
    await_condition("the role to pass on", || {
        taken = channel.producer().ok();
        taken.is_some()
    })
    .unwrap();
    taken.unwrap().try_send(b"mine now").unwrap();
}

#[test]
fn a_million_probes_of_the_living_find_nobody_dead() {
    let scene = Scene::new();
    let wanted = effort::executions(100_000, 1_000_000);
    // One that runs, one that is stopped, one of another namespace, one that forked; and churn.
    let boards: Vec<_> = (0..3).map(|_| AckBoard::new(5).unwrap()).collect();
    let launch = |number: usize| scene.launch("live").board("board", &boards[number]);
    let mut living = vec![launch(0).spawn().unwrap(), launch(1).spawn().unwrap()];
    match launch(2).in_fresh_namespace().spawn() {
        Ok(child) => living.push(child),
        Err(refused) => {
            liveness::Aid::<()>::Skipped(refused.to_string()).or_announce("namespace");
        }
    }
    let ids: Vec<_> = living
        .iter()
        .zip(&boards)
        .map(|(child, board)| {
            board.await_at_least(STEP, 1, child, "it to join").unwrap();
            ParticipantId(board.get(ID) as u16)
        })
        .collect();
    assert!(living[1].stop().unwrap());
    let stop = AtomicBool::new(false);
    let false_deaths = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            while !stop.load(Relaxed) {
                let mut mayfly = scene.launch("live").spawn().unwrap();
                scene.joined(&mayfly);
                scene.board.set(STEP, 0);
                mayfly.kill().unwrap();
            }
        });
        let mut number = 0u64;
        while PROBED.load(Relaxed) < wanted
            && false_deaths.load(Relaxed) == 0
            && !churn.is_finished()
        {
            for id in &ids {
                false_deaths.fetch_add(u64::from(!scene.says_alive(*id)), Relaxed);
            }
            number += 1;
            if number.is_multiple_of(16) {
                for participant in scene.bus.participants().unwrap() {
                    PROBED.fetch_add(1, Relaxed);
                    let lives = ids.iter().any(|id| id.0 == participant.slot)
                        || participant.slot == scene.bus.me().0;
                    false_deaths.fetch_add(u64::from(lives && !participant.alive), Relaxed);
                }
            }
            if number.is_multiple_of(512) {
                scene.bus.reap().unwrap();
            }
        }
        stop.store(true, Relaxed);
    });
    let false_deaths = false_deaths.load(Relaxed);
    effort::report(
        "liveness",
        PROBED.load(Relaxed),
        0,
        &[("false_dead", false_deaths)],
    );
    assert_eq!(false_deaths, 0);
    assert!(PROBED.load(Relaxed) >= wanted);
}
