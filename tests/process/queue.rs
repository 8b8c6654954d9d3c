//! Receivers that are killed and stopped with messages in their hands.

mod stage;

use ringway::{Idle, Queue, QueueReceiver, Receipt, Received, SettleError};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, Victim, deadline};
use stage::{INLINE, LARGE, body, id_of, text};
use std::process::ExitCode;
use std::time::{Duration, Instant};

ringway_harness::roles! { hold => hold, settle => settle }

/// A lease that no test sees the end of.
const FOR_EVER: Duration = Duration::from_secs(43_200);
/// Board: how many messages the child holds; whether it may settle; how its delete ended.
const HELD: usize = 0;
const SETTLE: usize = 1;
const OUTCOME: usize = 2;
const DELETED: u64 = 1;
const STALE: u64 = 2;

fn main() -> ExitCode {
    stage::run(&[
        (
            "a killed receiver's messages come again at once, payloads too",
            killed,
        ),
        (
            "a killed receiver's message comes again at once where everybody is busy",
            busy,
        ),
        (
            "a killed receiver's messages come again by the reaper alone",
            reaped,
        ),
        (
            "where the queue says so, a killed receiver's lease runs on",
            runs_on,
        ),
        (
            "a stopped receiver keeps its message and deletes it",
            stopped,
        ),
        (
            "a stopped receiver whose lease ends is stale when it goes on",
            overtaken,
        ),
        (
            "a receipt that was handed over outlives a change of holder",
            handed_over,
        ),
        (
            "a receipt that was sent to another process settles there, and outlives it",
            sent_away,
        ),
    ])
}

/// Receives as many messages as it was told, says so, and waits; then deletes the last.
fn hold(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let queue = bus.queue("q").open().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let mut buffer = [0; 1024];
    let mut last = None;
    for held in 1..=stage.get("count") {
        let received = receiver.try_receive(&mut buffer).map_err(text)?;
        last = Some(received.ok_or("nothing to receive")?.receipt);
        board.set(HELD, held);
    }
    while board.get(SETTLE) == 0 {
        std::thread::yield_now();
    }
    let outcome = match receiver.delete(&last.ok_or("nothing held")?) {
        Ok(true) => DELETED,
        Err(SettleError::StaleReceipt { .. }) => STALE,
        other => return Err(format!("{other:?}")),
    };
    board.set(OUTCOME, outcome);
    Ok(())
}

/// Settles the receipts it was sent: deletes the first, gives the second back, extends the third,
/// and finds the first gone.
fn settle(stage: &Stage) -> Result<(), String> {
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let queue = bus.queue("q").open().map_err(text)?;
    let receipt = |key| stage.text(key).parse::<Receipt>().map_err(text);
    let (delete, nack, extend) = (receipt("delete")?, receipt("nack")?, receipt("extend")?);
    if !queue.delete(&delete).map_err(text)? {
        return Err("the message was gone".to_owned());
    }
    queue.nack(&nack, Duration::ZERO).map_err(text)?;
    queue.change_visibility(&extend, FOR_EVER).map_err(text)?;
    match queue.delete(&delete) {
        Ok(false) => Ok(()),
        other => Err(format!("deleted twice: {other:?}")),
    }
}

/// A queue with messages in a child's hands.
struct Scene {
    victim: Victim,
    receiver: QueueReceiver,
    queue: Queue,
    board: AckBoard,
    bus: ringway::Bus,
    _root: TempBus,
}

impl Scene {
    fn new(lens: &[usize], visibility: Duration, redeliver: bool) -> Result<Self, String> {
        let root = TempBus::new()?;
        let bus = stage::bus(root.path()).create().map_err(text)?;
        let builder = bus
            .queue("q")
            .slots(stage::SLOTS)
            .stride(stage::QUEUE_STRIDE);
        let builder = builder.visibility(visibility).redeliver_on_death(redeliver);
        let queue = builder.create().map_err(text)?;
        let mut sender = queue.sender().map_err(text)?;
        for (id, len) in lens.iter().enumerate() {
            sender.send(&body(id as u64, *len)).map_err(text)?;
        }
        let board = AckBoard::new(3)?;
        let launch = Launch::role("hold")
            .set("root", root.path().display())
            .set("count", lens.len())
            .board("board", &board);
        let victim = launch.spawn()?;
        board.await_at_least(HELD, lens.len() as u64, &victim, "the leases")?;
        let mut receiver = queue.receiver().map_err(text)?;
        receiver.set_idle(Idle::Park);
        Ok(Self {
            victim,
            receiver,
            queue,
            board,
            bus,
            _root: root,
        })
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<(u64, Received)>, String> {
        let mut buffer = [0; 1024];
        let received = self
            .receiver
            .receive_into(&mut buffer, wait)
            .map_err(text)?;
        received
            .map(|received| Ok((id_of(&buffer[..received.len])?, received)))
            .transpose()
    }

    /// Receives and deletes messages until there was one of each id below `count`, each for the
    /// second time.
    fn receive_all(&mut self, count: usize) -> Result<(), String> {
        let mut seen = vec![false; count];
        while seen.contains(&false) {
            let (id, received) = self.receive(deadline())?.ok_or("a message is lost")?;
            if received.receives() != 2 || std::mem::replace(&mut seen[id as usize], true) {
                return Err(format!("message {id}: {received:?}"));
            }
            self.receiver.delete(&received.receipt).map_err(text)?;
        }
        let stats = self.queue.stats();
        if (stats.visible, stats.in_flight, stats.damaged) == (0, 0, 0) {
            Ok(())
        } else {
            Err(format!("{stats:?}"))
        }
    }

    fn expect_nothing(&mut self, wait: Duration) -> Result<(), String> {
        match self.receive(wait)? {
            None => Ok(()),
            Some(seen) => Err(format!("received {seen:?}")),
        }
    }

    fn go_on(&mut self, outcome: u64) -> Result<(), String> {
        self.board.set(SETTLE, 1);
        self.victim.cont()?;
        self.victim.wait_success()?;
        match self.board.get(OUTCOME) {
            seen if seen == outcome => Ok(()),
            other => Err(format!("its delete ended with {other}, not {outcome}")),
        }
    }
}

fn killed() -> Result<(), String> {
    let mut times = Vec::new();
    for _ in 0..20 {
        let mut scene = Scene::new(&[INLINE, LARGE, INLINE], FOR_EVER, true)?;
        scene.expect_nothing(Duration::from_millis(20))?;
        let start = Instant::now();
        scene.victim.kill()?;
        scene.receive_all(3)?;
        times.push(start.elapsed());
        // A sweep may have come before the reaper.
        scene.bus.reap().map_err(text)?;
        let report = scene.bus.doctor(false).map_err(text)?;
        if !report.is_clean() || report.chunks[1..] != [0, 0] {
            return Err(format!("left behind: {report:?}"));
        }
    }
    report("redelivery", &mut times);
    Ok(())
}

/// Whoever receives always finds a message: nobody waits, nobody sleeps.
fn busy() -> Result<(), String> {
    let mut times = Vec::new();
    for _ in 0..20 {
        let mut scene = Scene::new(&[INLINE], FOR_EVER, true)?;
        let mut sender = scene.queue.sender().map_err(text)?;
        let mut other = scene.queue.receiver().map_err(text)?;
        scene.victim.kill()?;
        let start = Instant::now();
        let mut buffer = [0; INLINE];
        for round in 1.. {
            sender.send(&body(round, INLINE)).map_err(text)?;
            let receiver = match round % 2 {
                0 => &mut scene.receiver,
                _ => &mut other,
            };
            let received = receiver.try_receive(&mut buffer).map_err(text)?;
            let received = received.ok_or("a message is lost")?;
            receiver.delete(&received.receipt).map_err(text)?;
            if id_of(&buffer)? == 0 {
                break;
            }
            if start.elapsed() > deadline() {
                return Err("the message of the dead is lost".into());
            }
        }
        times.push(start.elapsed());
    }
    report("redelivery_busy", &mut times);
    Ok(())
}

fn report(figure: &str, times: &mut [Duration]) {
    times.sort();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    println!(
        "{{\"figure\":\"{figure}\",\"samples\":{},\"p50_ms\":{:.3},\"max_ms\":{:.3}}}",
        times.len(),
        ms(times.len() / 2),
        ms(times.len() - 1)
    );
}

fn reaped() -> Result<(), String> {
    let mut scene = Scene::new(&[INLINE, LARGE], FOR_EVER, true)?;
    scene.victim.kill()?;
    // Who reaps may have seen the victim alive a moment ago, but not its lock byte.
    if scene.bus.reap().map_err(text)? != 1 {
        return Err("nobody was reaped".into());
    }
    let stats = scene.queue.stats();
    if (stats.visible, stats.in_flight, stats.released) != (2, 0, 2) {
        return Err(format!("{stats:?}"));
    }
    scene.receive_all(2)
}

fn runs_on() -> Result<(), String> {
    const VISIBILITY: Duration = Duration::from_millis(700);
    let before = Instant::now();
    let mut scene = Scene::new(&[INLINE], VISIBILITY, false)?;
    scene.victim.kill()?;
    scene.bus.reap().map_err(text)?;
    if !scene.bus.doctor(false).map_err(text)?.is_clean() {
        return Err("a lease of the dead is left".into());
    }
    scene.receive_all(1)?;
    if before.elapsed() < VISIBILITY {
        return Err(format!("it came again after {:?}", before.elapsed()));
    }
    Ok(())
}

fn stopped() -> Result<(), String> {
    let mut scene = Scene::new(&[INLINE], FOR_EVER, true)?;
    scene.victim.stop()?;
    scene.bus.reap().map_err(text)?;
    scene.bus.doctor(true).map_err(text)?;
    scene.expect_nothing(Duration::from_millis(100))?;
    scene.go_on(DELETED)?;
    scene.expect_nothing(Duration::from_millis(1))
}

fn overtaken() -> Result<(), String> {
    let mut scene = Scene::new(&[INLINE], Duration::from_millis(300), true)?;
    scene.victim.stop()?;
    let (_, received) = scene.receive(deadline())?.ok_or("the message is lost")?;
    if received.receives() != 2 {
        return Err(format!("{received:?}"));
    }
    let long = Duration::from_secs(600);
    let receipt = received.receipt;
    scene
        .receiver
        .change_visibility(&receipt, long)
        .map_err(text)?;
    scene.go_on(STALE)?;
    match scene.receiver.delete(&receipt) {
        Ok(true) => Ok(()),
        other => Err(format!("the new holder: {other:?}")),
    }
}

/// Who extends a lease holds it: the death of the first holder then matters to nobody.
fn handed_over() -> Result<(), String> {
    let mut scene = Scene::new(&[INLINE], FOR_EVER, true)?;
    let text_of_receipt = format!("{:016x}-0-1", scene.queue.id());
    let receipt = text_of_receipt.parse().map_err(text)?;
    let hour = Duration::from_secs(3600);
    scene
        .queue
        .change_visibility(&receipt, hour)
        .map_err(text)?;
    scene.victim.kill()?;
    scene.bus.reap().map_err(text)?;
    scene.expect_nothing(Duration::from_millis(50))?;
    match scene.queue.delete(&receipt) {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// The receipts travel as text, the leases stay where they are.
fn sent_away() -> Result<(), String> {
    let root = TempBus::new()?;
    let bus = stage::bus(root.path()).create().map_err(text)?;
    let builder = bus.queue("q").slots(stage::SLOTS).visibility(FOR_EVER);
    let queue = builder.create().map_err(text)?;
    let mut sender = queue.sender().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let mut launch = Launch::role("settle").set("root", root.path().display());
    let mut receipts = Vec::new();
    let mut buffer = [0; 1024];
    for (id, key) in ["delete", "nack", "extend"].into_iter().enumerate() {
        sender.send(&body(id as u64, INLINE)).map_err(text)?;
        let received = receiver.try_receive(&mut buffer).map_err(text)?;
        let receipt = received.ok_or("nothing to receive")?.receipt;
        launch = launch.set(key, receipt);
        receipts.push(receipt);
    }
    launch.spawn()?.wait_success()?;
    let again = receiver.receive_into(&mut buffer, deadline());
    let again = again.map_err(text)?.ok_or("nothing was given back")?;
    if (again.position(), again.receives()) != (1, 2) {
        return Err(format!("{again:?}"));
    }
    for (receipt, deletes) in [
        (receipts[0], false),
        (again.receipt, true),
        (receipts[2], true),
    ] {
        let deleted = queue.delete(&receipt).map_err(text)?;
        if deleted != deletes {
            return Err(format!("{receipt}: {deleted}"));
        }
    }
    match receiver.delete(&receipts[1]) {
        Ok(false) => Ok(()),
        other => Err(format!("the receipt of a first receive: {other:?}")),
    }
}
