//! Time as a parameter: a clock that tests set, for what takes half a day or seven weeks.
//!
//! The deliveries are the real ones over a real file; only the clock is not. A clock is set at once
//! for all, and whoever passes an older time was stopped since it read it.

use super::definition::{QueueDefinition, QueueKind};
use super::{create_queue, open_queue};
use crate::layout::ring::Meta;
use crate::object::Site;
use crate::ring::claim::{Appender, Blocked};
use crate::ring::delivery::consume::{Consumer, Finder};
use crate::ring::delivery::heads::Heads;
use crate::ring::delivery::link::GroupHash;
use crate::ring::delivery::settle::Settled;
use crate::ring::delivery::sweep::Census;
use crate::ring::delivery::{Clock, Delivery, Standing};
use crate::ring::{Liveness, Overflow, Producers, SlotRing, Tenant};
use crate::sys::file::{self, Access};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HOUR: u64 = 3_600_000;
const TWELVE_HOURS: u32 = 43_200_000;
/// Where the 32 bits of a deadline come round.
const WRAP: u64 = 1 << 32;

struct Set(AtomicU64);

impl Clock for Set {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everybody lives but this one.
const DEAD: u16 = 9;

struct Alive;

impl Liveness for Alive {
    fn is_dead(&self, owner: u16) -> bool {
        owner == DEAD
    }
}

struct Nothing;

impl Tenant for Nothing {
    fn vacated(&mut self, _: u64, _: [u8; 24]) {}
}

struct Stage {
    queue: Delivery,
    /// The same queue, as the one sees it who is dead.
    of_the_dead: Delivery,
    clock: Arc<Set>,
    appender: Appender,
    consumer: Consumer,
    heads: Heads,
    path: PathBuf,
}

impl Stage {
    /// A queue of 1,024 slots that is `now` old.
    fn new(now: u64, retention: Duration) -> Self {
        Self::of_kind(QueueKind::Standard, now, retention)
    }

    fn of_kind(kind: QueueKind, now: u64, retention: Duration) -> Self {
        let unique = crate::sys::host::random_u64();
        let name = format!("ringway-aging-{unique:016x}");
        let site = Site {
            directory: std::env::temp_dir(),
            access: Access {
                mode: 0o600,
                group: None,
            },
            bus_id: 1,
            boot_id: [1; 16],
            temporary_prefix: ".tmp-".into(),
            pre_touch: false,
            journals: None,
            on_recovery: None,
            read_only: false,
            observed: false,
        };
        let mut definition = QueueDefinition::named(&name);
        (definition.slots, definition.stride, definition.retention) = (1024, 128, retention);
        definition.kind = kind;
        create_queue(&site, &definition).unwrap();
        let file = open_queue(&site, &name).unwrap();
        let clock = Arc::new(Set(now.into()));
        let seen_by = |me| {
            let ring = SlotRing::new(
                file.memory.clone(),
                Arc::new(Alive),
                me,
                Producers::Shared,
                Overflow::Refuse,
                20_000_000,
            );
            let clock = Arc::clone(&clock) as Arc<dyn Clock>;
            Delivery::new(ring, file.words.clone(), clock)
        };
        let queue = seen_by(1);
        Self {
            appender: Appender::new(queue.ring()),
            consumer: Consumer::new(&queue),
            heads: Heads::default(),
            of_the_dead: seen_by(DEAD),
            queue,
            clock,
            path: file.path,
        }
    }

    /// A message of the one group of a FIFO queue.
    fn send_in_turn(&mut self) -> u64 {
        let claim = self.appender.claim_message(&self.queue, &mut Nothing);
        let (claim, now) = (claim.unwrap(), self.clock.now_ms());
        let word = self.queue.first_word(claim.position, now, 0);
        let meta = Meta::new(8, Meta::INLINE, 0);
        claim.fill_message_of(GroupHash(1, 2), 0, meta, word, now, &[7; 8]);
        self.appender.commit(self.queue.ring(), claim).unwrap()
    }

    /// Position and receive count of what is received of a FIFO queue now.
    fn receive_in_turn(&mut self, for_ms: u32) -> Option<(u64, u16)> {
        let now = self.now();
        let found = self.heads.find(&self.queue, now, &mut Nothing)?;
        let lease = self.queue.lease(found, now, for_ms)?;
        let stays = self.heads.confirm(&self.queue, &lease, now);
        stays.then_some((lease.standing.position, lease.receives()))
    }

    /// Every slot is looked at.
    fn sweep_in_turn(&mut self, now: u64) {
        for _ in 0..2 {
            let first = self.queue.next_sweep();
            let heads = &mut self.heads;
            self.queue.sweep_heads_from(first, heads, now, &mut Nothing);
        }
    }

    fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    fn set(&self, now: u64) {
        self.clock.0.store(now, Ordering::Relaxed);
    }

    fn send(&mut self, delay_ms: u32) -> Result<u64, Blocked> {
        let claim = self.appender.claim_message(&self.queue, &mut Nothing)?;
        let (position, now) = (claim.position, self.clock.now_ms());
        let word = self.queue.first_word(position, now, delay_ms);
        claim.fill_message(Meta::new(8, Meta::INLINE, 0), word, now, &[7; 8]);
        let sent = self.appender.commit(self.queue.ring(), claim).unwrap();
        self.queue.confirm_delay(position, now, delay_ms);
        Ok(sent)
    }

    fn sweep(&mut self, now: u64) {
        if self.queue.begins_sweep(now) {
            let first = self.queue.next_sweep();
            let consumer = &mut self.consumer;
            self.queue.sweep_from(first, consumer, now, &mut Nothing);
        }
    }

    fn find(&mut self, now: u64) -> Option<Standing<'_>> {
        self.sweep(now);
        self.consumer.find(&self.queue, now, &mut Nothing)
    }

    /// Position and receive count of what is received now.
    fn receive(&mut self, for_ms: u32) -> Option<(u64, u16)> {
        let now = self.now();
        self.sweep(now);
        let standing = self.consumer.find(&self.queue, now, &mut Nothing)?;
        let lease = self.queue.lease(standing, now, for_ms)?;
        Some((lease.standing.position, lease.receives()))
    }

    fn census(&self) -> Census {
        self.queue.census(self.now())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = file::remove(&self.path);
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_time_of_half_a_day_ago_takes_no_lease_and_ends_none() {
    let start = 100 * HOUR;
    let mut stage = Stage::new(start, DAY);
    stage.send(0).unwrap();
    // Somebody reads the clock and is stopped. Meanwhile the message is leased for the longest time.
    let old = stage.now();
    stage.set(start + HOUR);
    assert_eq!(stage.receive(TWELVE_HOURS), Some((0, 1)));
    assert!(stage.find(old).is_none(), "its lease runs for twelve hours");
    assert_eq!(
        stage.queue.extend(0, 1, old, TWELVE_HOURS),
        Settled::Done,
        "it runs"
    );
    assert_eq!(stage.queue.nack(0, 1, old, 900_000), Settled::Done);
    stage.set(start + HOUR + 900_002);
    assert_eq!(stage.receive(1000), Some((0, 2)));
}

#[test]
fn a_lease_by_an_old_time_is_given_anew_and_never_of_a_message_of_another_or_of_the_past() {
    let start = 100 * HOUR;
    let mut stage = Stage::new(start, Duration::from_secs(60));
    for _ in 0..3 {
        stage.send(0).unwrap();
    }
    let queue = stage.queue.clone();
    let lease_by_old_time = |position| {
        let standing = queue.examine(position).expect("it was sent");
        queue.lease(standing, start, 500).expect("it is ready")
    };
    // Half a second later than the end that it was given by the old time, its end is half a second ahead.
    let lease = lease_by_old_time(0);
    stage.set(start + 1_000);
    let anew = queue.lease_anew(&lease, stage.now(), 500, &mut Nothing);
    let anew = anew.expect("nobody had it meanwhile");
    assert_eq!((anew.receives(), anew.stands()), (1, true));
    assert!(!anew.has_ended(start + 1_500) && anew.has_ended(start + 1_501));
    stage.set(start + 1_500);
    assert_eq!(
        stage.census().in_flight,
        1,
        "its end is that of the new lease"
    );
    stage.set(start + 1_501);
    assert_eq!(stage.census().in_flight, 0, "and then it is visible");
    // Another one is received by somebody else before: then it is not this one's.
    let lease = lease_by_old_time(2);
    stage.set(start + 2_000);
    let taken = stage
        .of_the_dead
        .examine(2)
        .expect("its lease by the old time is over");
    assert!(stage.of_the_dead.lease(taken, stage.now(), 500).is_some());
    assert!(
        queue
            .lease_anew(&lease, stage.now(), 500, &mut Nothing)
            .is_none()
    );
    // Past its retention it is nobody's.
    let lease = lease_by_old_time(1);
    stage.set(start + 60_001);
    assert!(
        queue
            .lease_anew(&lease, stage.now(), 500, &mut Nothing)
            .is_none()
    );
    assert!(queue.examine(1).is_none(), "it is consumed");
}

#[test]
fn a_time_of_half_a_day_ago_keeps_a_leased_message_that_is_past_its_retention() {
    let start = 100 * HOUR;
    let mut stage = Stage::new(start, Duration::from_secs(60));
    stage.send(0).unwrap();
    assert_eq!(stage.receive(TWELVE_HOURS), Some((0, 1)));
    stage.set(start + 61_000);
    let old = stage.now();
    stage.set(start + HOUR);
    assert_eq!(
        stage.queue.extend(0, 1, start + HOUR, TWELVE_HOURS),
        Settled::Done
    );
    // Sweeps by the old time come round to every slot.
    for later in 0..3 {
        assert!(stage.find(old + later).is_none());
    }
    assert_eq!(
        stage.census().in_flight,
        1,
        "its holder may still delete it"
    );
    assert_eq!(stage.queue.delete(0, 1, &mut Nothing), Settled::Done);
}

#[test]
fn a_lease_of_the_past_is_known_as_one() {
    let start = 100 * HOUR;
    let mut stage = Stage::new(start, DAY);
    stage.send(0).unwrap();
    let old = stage.now();
    stage.set(start + 5_000);
    let standing = stage
        .consumer
        .find(&stage.queue, old, &mut Nothing)
        .unwrap();
    let lease = stage.queue.lease(standing, old, 4_000).unwrap();
    assert!(lease.has_ended(stage.now()) && !lease.has_ended(start + 4_000));
    assert_eq!(
        stage.queue.extend(0, 1, old, 4_000),
        Settled::Over,
        "extended into the past"
    );
    assert_eq!(stage.receive(1_000), Some((0, 2)));
}

#[test]
fn two_clocks_a_little_apart_sweep_once_a_millisecond() {
    let start = 100 * HOUR;
    let mut stage = Stage::new(start, DAY);
    let at = |stage: &Stage| stage.queue.slots_swept();
    let mut swept = Vec::new();
    for now in [
        start,
        start + 1,
        start,
        start + 1,
        start,
        start + 2,
        start + 1,
    ] {
        stage.find(now);
        swept.push(at(&stage) / 512);
    }
    assert_eq!(swept, [1, 2, 2, 2, 2, 3, 3]);
    // A scribbled time of the last sweep ends none.
    stage.find(start + 3_600_000);
    stage.find(start + 10);
    assert_eq!(at(&stage) / 512, 5);
}

/// 49.7 days behind the epoch deadlines come round. Everything goes on across it.
#[test]
fn leases_delays_and_retention_run_across_the_wrap_of_a_deadline() {
    for lap in [1, 2, 7] {
        let wrap = lap * WRAP;
        for before in [1, 2, 500, 999, 30_000, u64::from(TWELVE_HOURS)] {
            let start = wrap - before;
            let mut stage = Stage::new(start, Duration::from_secs(14 * 86_400));
            stage.send(0).unwrap();
            stage.send(1_000).unwrap();
            assert_eq!(stage.receive(30_000), Some((0, 1)));
            assert_eq!(stage.receive(30_000), None, "the other is delayed");
            assert_eq!((stage.census().in_flight, stage.census().delayed), (1, 1));
            assert_eq!(stage.queue.next_due(), start + 1_001);
            stage.set(start + 1_000);
            assert!(!stage.queue.is_due(stage.now()));
            assert_eq!(stage.receive(30_000), None, "{before} before the wrap");
            stage.set(start + 1_001);
            assert!(stage.queue.is_due(stage.now()));
            assert_eq!(stage.receive(30_000), Some((1, 1)));
            stage.set(start + 30_000);
            assert_eq!(stage.receive(30_000), None, "{before} before the wrap");
            stage.set(start + 30_001);
            assert_eq!(stage.receive(TWELVE_HOURS), Some((0, 2)));
            let end = start + 30_001 + u64::from(TWELVE_HOURS);
            stage.set(end);
            assert_eq!(stage.receive(1), Some((1, 2)), "{before} before the wrap");
            assert_eq!(stage.receive(1), None, "{before} before the wrap");
            stage.set(end + 1);
            assert_eq!(stage.receive(1), Some((0, 3)));
            // Nothing is left of either when the retention has passed.
            stage.set(start + 14 * 86_400_000 + 60_000);
            assert_eq!(stage.receive(1), None);
            assert_eq!(stage.census(), Census::default());
        }
    }
}

/// Whatever nobody looked at for longer than a deadline can say is past its retention; at most it
/// looks leased for twelve hours more, once in 49.7 days.
#[test]
fn what_nobody_looked_at_for_seven_weeks_is_gone_within_twelve_hours() {
    for weeks_later in [
        WRAP - 1_000,
        WRAP + 1,
        3 * WRAP - u64::from(TWELVE_HOURS) + 5,
    ] {
        let start = 5_000;
        let mut stage = Stage::new(start, DAY);
        stage.send(0).unwrap();
        stage.send(900_000).unwrap();
        assert_eq!(stage.receive(30_000), Some((0, 1)));
        stage.set(start + weeks_later);
        assert_eq!(stage.receive(1), None, "{weeks_later}");
        stage.set(start + weeks_later + u64::from(TWELVE_HOURS) + 900_000);
        for _ in 0..3 {
            stage.set(stage.now() + 1);
            assert_eq!(stage.receive(1), None, "{weeks_later}");
        }
        assert_eq!(stage.census(), Census::default(), "{weeks_later}");
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn in_a_fifo_queue_too_a_time_of_half_a_day_ago_keeps_a_leased_message_past_its_retention() {
    let start = 100 * HOUR;
    let mut stage = Stage::of_kind(QueueKind::Fifo, start, MINUTE);
    stage.send_in_turn();
    assert_eq!(stage.receive_in_turn(TWELVE_HOURS), Some((0, 1)));
    stage.set(start + 61_000);
    let old = stage.now();
    stage.set(start + HOUR);
    let extended = stage.queue.extend(0, 1, start + HOUR, TWELVE_HOURS);
    assert_eq!(extended, Settled::Done);
    stage.sweep_in_turn(old);
    assert_eq!(stage.census().in_flight, 1);
    assert_eq!(stage.queue.delete(0, 1, &mut Nothing), Settled::Done);
}

/// What its group waits for: a message that is received too often and finds no room where it is to go.
#[test]
fn a_message_that_waits_to_be_moved_is_gone_all_the_same_when_its_retention_has_passed() {
    let start = 100 * HOUR;
    let mut stage = Stage::of_kind(QueueKind::Fifo, start, MINUTE);
    let words = stage.queue.words();
    words.max_receives().store(1, Ordering::Relaxed);
    words.redrive_target().store(77, Ordering::Relaxed);
    stage.send_in_turn();
    stage.set(start + 30_000);
    stage.send_in_turn();
    assert_eq!(stage.receive_in_turn(1_000), Some((0, 1)));
    stage.set(start + 31_002);
    assert_eq!(stage.receive_in_turn(1_000), None);
    stage.sweep_in_turn(stage.now());
    assert_eq!((stage.census().parked, stage.census().visible), (1, 1));
    stage.set(start + 60_001);
    stage.sweep_in_turn(stage.now());
    assert_eq!(stage.receive_in_turn(1_000), Some((1, 1)));
}

/// The first of a batch waits for a later one, which is deleted by somebody who dies before he hints.
#[test]
fn who_finds_the_dead_finds_what_waited_for_their_delete() {
    let start = 100 * HOUR;
    let mut stage = Stage::of_kind(QueueKind::Fifo, start, DAY);
    stage.send_in_turn();
    stage.send_in_turn();
    stage.heads.begin_batch();
    assert_eq!(stage.receive_in_turn(100), Some((0, 1)));
    assert_eq!(stage.receive_in_turn(10_000), Some((1, 1)));
    stage.heads.end_batch();
    stage.set(start + 200);
    assert_eq!(stage.receive_in_turn(100), None, "a later one is in flight");
    let deleted = stage.of_the_dead.delete(1, 1, &mut Nothing);
    assert_eq!(deleted, Settled::Done);
    let hinted = Heads::default()
        .find(&stage.of_the_dead, stage.now(), &mut Nothing)
        .map(|standing| standing.position);
    assert_eq!(hinted, Some(0), "the hint is lost with him");
    stage.queue.release_dead(DEAD);
    assert_eq!(stage.receive_in_turn(100), Some((0, 2)));
}

#[test]
fn receivers_that_come_and_go_wait_no_longer_for_a_stopped_sender_than_one_that_stays() {
    let start = 100 * HOUR;
    let mut stage = Stage::of_kind(QueueKind::Fifo, start, DAY);
    let other = stage.queue.clone();
    let mut stopped = Appender::new(other.ring());
    let claim = stopped.claim_message(&other, &mut Nothing);
    let Ok(claim) = claim else {
        panic!("an empty ring");
    };
    stage.send_in_turn();
    let mut waited = 0;
    let found = loop {
        let now = start + waited;
        let mut heads = Heads::default();
        let found = heads.find(&stage.queue, now, &mut Nothing);
        heads.leave(&stage.queue);
        match found {
            Some(standing) => break standing.position,
            None => waited += 1,
        }
        assert!(waited <= 100, "they wait for ever");
    };
    assert_eq!((found, waited), (1, 20), "the stall time-out");
    assert!(stopped.commit(other.ring(), claim).is_err());
}
