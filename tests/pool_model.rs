//! Loans and the pool against a model of a few lines: whatever is lent, filled, dropped, sent,
//! read, viewed and pinned in whatever order, every reader sees every record with its bytes, a loan
//! keeps its bytes, a view keeps its bytes, and no chunk is lost or handed out twice.
//!
//! The sequences shrink to the shortest that fails. `RINGWAY_SEED` repeats a run, `RINGWAY_FULL=1`
//! makes it long.

#[path = "hostile/effort.rs"]
mod effort;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ringway::{Bus, Loan, PinnedView, Producers, Reader, SendError, Start};
use ringway_harness::TempBus;
use ringway_harness::seed::{self, Random};
use std::time::Duration;

const READERS: usize = 2;
const POOL_BYTES: u64 = 24 << 20;
/// The position of a record sent in a batch, until a reader tells it.
const IN_BATCH: u64 = u64::MAX;
/// Pins of one reader.
const VIEWS: usize = 14;

#[derive(Clone, Debug)]
enum Step {
    Lend(usize),
    /// Drop, or send, or shorten and send the loan of this number (modulo how many there are).
    Unlend(usize),
    Send(usize),
    SendShortened(usize, usize),
    Copy(usize),
    SendWaiting(usize),
    Small(u16),
    Batch(Vec<usize>),
    Read(usize),
    View(usize),
    Pin(usize),
    Unpin(usize),
    ReadBatch(usize, usize),
    Census,
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 97usize..600,
        3 => prop_oneof![Just(512), Just(513), Just(1024), Just(1025), Just(4096)],
        2 => 4097usize..100_000,
        1 => (1usize << 20)..(3 << 20),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let reader = 0..READERS;
    prop_oneof![
        6 => len().prop_map(Step::Lend),
        2 => any::<usize>().prop_map(Step::Unlend),
        5 => any::<usize>().prop_map(Step::Send),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(loan, cut)| Step::SendShortened(loan, cut)),
        4 => len().prop_map(Step::Copy),
        1 => len().prop_map(Step::SendWaiting),
        3 => (1u16..400).prop_map(Step::Small),
        2 => proptest::collection::vec(1usize..700, 1..8).prop_map(Step::Batch),
        6 => reader.clone().prop_map(Step::Read),
        4 => reader.clone().prop_map(Step::View),
        4 => reader.clone().prop_map(Step::Pin),
        4 => any::<usize>().prop_map(Step::Unpin),
        4 => (reader, 1usize..600).prop_map(|(reader, most)| Step::ReadBatch(reader, most)),
        1 => Just(Step::Census),
    ]
}

/// The bytes of the record or loan of this number.
fn fill(bytes: &mut [u8], number: u64) {
    let mut random = Random::new(number);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.next_u64().to_le_bytes()[..chunk.len()]);
    }
}

fn is_filled(bytes: &[u8], number: u64) -> bool {
    let mut random = Random::new(number);
    bytes
        .chunks(8)
        .all(|chunk| chunk == &random.next_u64().to_le_bytes()[..chunk.len()])
}

struct World {
    readers: Vec<Reader>,
    /// What every reader must see: position, fill number, length.
    sent: Vec<(u64, u64, usize)>,
    /// How many of them each reader has read.
    read: [usize; READERS],
    loans: Vec<(u64, Loan)>,
    views: Vec<(u64, usize, PinnedView)>,
    numbers: u64,
    buffer: Vec<u8>,
    chunks: u64,
    refused: u64,
}

impl World {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A refusal for want of room is the pool's right; anything else is a failure.
    fn sent(
        &mut self,
        outcome: Result<u64, SendError>,
        number: u64,
        len: usize,
    ) -> Result<(), TestCaseError> {
        match outcome {
            Ok(position) => {
                let last = self.sent.last().map(|last| last.0);
                let grows = last.is_none_or(|last| last == IN_BATCH || position > last);
                prop_assert!(grows, "position {} behind {:?}", position, last);
                self.sent.push((position, number, len));
                Ok(())
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&mut self, error: &SendError) -> Result<(), TestCaseError> {
        self.refused += 1;
        let room = matches!(
            error,
            SendError::Full { .. } | SendError::Stalled { .. } | SendError::PoolExhausted { .. }
        );
        prop_assert!(room, "{error:?}");
        Ok(())
    }

    fn next(&self, reader: usize) -> Option<(u64, u64, usize)> {
        self.sent.get(self.read[reader]).copied()
    }
}

macro_rules! expect_record {
    ($world:ident, $reader:expr, $record:expr, $bytes:expr) => {{
        let expected = $world.next($reader);
        let (position, number, len) =
            expected.ok_or_else(|| TestCaseError::fail("a record nobody sent"))?;
        prop_assert_eq!(($record.position, $record.len), (position, len));
        prop_assert!(
            is_filled($bytes, number),
            "record {} of position {}",
            number,
            position
        );
        $world.read[$reader] += 1;
    }};
}

fn play(producers: Producers, steps: &[Step]) -> Result<u64, TestCaseError> {
    let root = TempBus::new().unwrap();
    let bus = Bus::builder("b")
        .root(root.path())
        .pool_bytes(POOL_BYTES)
        .create()
        .unwrap();
    let channel = bus
        .channel("c")
        .slots(1024)
        .producers(producers)
        .create()
        .unwrap();
    let mut producer = channel.producer().unwrap();
    let reader = || {
        channel
            .reader()
            .start(Start::Earliest)
            .reliable()
            .join()
            .unwrap()
    };
    let mut world = World {
        readers: (0..READERS).map(|_| reader()).collect(),
        sent: Vec::new(),
        read: [0; READERS],
        loans: Vec::new(),
        views: Vec::new(),
        numbers: 0,
        buffer: vec![0; 3 << 20],
        chunks: 0,
        refused: 0,
    };
    for step in steps {
        match step {
            Step::Lend(len) => match producer.loan(*len) {
                Ok(mut loan) => {
                    let number = world.number();
                    prop_assert_eq!(loan.len(), *len);
                    fill(&mut loan, number);
                    world.loans.push((number, loan));
                }
                Err(error) => world.refuse(&error)?,
            },
            Step::Unlend(which) if !world.loans.is_empty() => {
                let (number, loan) = world.loans.swap_remove(which % world.loans.len());
                prop_assert!(
                    is_filled(&loan, number),
                    "loan {} changed in our hands",
                    number
                );
            }
            Step::Send(which) | Step::SendShortened(which, _) if !world.loans.is_empty() => {
                let (number, mut loan) = world.loans.swap_remove(which % world.loans.len());
                prop_assert!(
                    is_filled(&loan, number),
                    "loan {} changed in our hands",
                    number
                );
                if let Step::SendShortened(_, cut) = step {
                    loan.truncate(cut % (loan.len() + 1));
                }
                let len = loan.len();
                match producer.try_send_loan(loan) {
                    Ok(position) => world.sent(Ok(position), number, len)?,
                    Err((error, loan)) => {
                        prop_assert!(
                            is_filled(&loan, number),
                            "loan {} came back changed",
                            number
                        );
                        world.refuse(&error)?;
                    }
                }
            }
            Step::Copy(len) | Step::SendWaiting(len) => {
                let number = world.number();
                let mut body = vec![0; *len];
                fill(&mut body, number);
                let outcome = match step {
                    Step::Copy(_) => producer.try_send(&body),
                    _ => producer.send(&body, Duration::from_micros(100)),
                };
                world.sent(outcome, number, *len)?;
            }
            Step::Small(count) => {
                for _ in 0..*count {
                    let number = world.number();
                    let len = number as usize % 97;
                    let outcome = producer.try_send_with(len, |bytes| fill(bytes, number));
                    world.sent(outcome, number, len)?;
                }
            }
            Step::Batch(lens) => {
                let first = world.numbers + 1;
                let bodies: Vec<_> = lens
                    .iter()
                    .map(|len| {
                        let mut body = vec![0; *len];
                        fill(&mut body, world.number());
                        body
                    })
                    .collect();
                let before = channel.stats().tail;
                match producer.try_send_batch(&bodies) {
                    Ok(count) => {
                        prop_assert!(count > 0 && count <= lens.len());
                        // Which positions they got, the readers tell: nobody else sends.
                        for (at, len) in lens[..count].iter().enumerate() {
                            let number = first + at as u64;
                            world.sent.push((IN_BATCH, number, *len));
                        }
                        prop_assert!(channel.stats().tail >= before + count as u64);
                    }
                    Err(error) => world.refuse(&error)?,
                }
            }
            Step::Read(reader) => {
                let mut buffer = std::mem::take(&mut world.buffer);
                let read = world.readers[*reader].try_read(&mut buffer);
                match read.map_err(|error| TestCaseError::fail(error.to_string()))? {
                    Some(record) => {
                        settle(&mut world, *reader, record.position);
                        expect_record!(world, *reader, record, &buffer[..record.len]);
                    }
                    None => prop_assert!(world.next(*reader).is_none(), "a record is missing"),
                }
                world.buffer = buffer;
            }
            Step::View(reader) => {
                let mut taken = std::mem::take(&mut world.readers);
                let view = taken[*reader].try_view();
                match view.map_err(|error| TestCaseError::fail(error.to_string()))? {
                    Some(view) => {
                        settle(&mut world, *reader, view.record().position);
                        expect_record!(world, *reader, view.record(), &view[..]);
                    }
                    None => prop_assert!(world.next(*reader).is_none(), "a record is missing"),
                }
                world.readers = taken;
            }
            Step::Pin(reader) => {
                let pinned = world.views.iter().filter(|view| view.1 == *reader).count();
                match world.readers[*reader].try_view_pinned() {
                    Ok(Some(view)) => {
                        let number = world.next(*reader).map_or(0, |next| next.1);
                        settle(&mut world, *reader, view.record().position);
                        expect_record!(world, *reader, view.record(), &view[..]);
                        world.views.push((number, *reader, view));
                    }
                    Ok(None) => prop_assert!(world.next(*reader).is_none(), "a record is missing"),
                    Err(error) => prop_assert!(pinned == VIEWS, "{error} with {pinned} views open"),
                }
            }
            Step::Unpin(which) if !world.views.is_empty() => {
                let (number, _, view) = world.views.swap_remove(which % world.views.len());
                prop_assert!(
                    is_filled(&view, number),
                    "record {} changed under its view",
                    number
                );
            }
            Step::ReadBatch(reader, most) => {
                let mut taken = std::mem::take(&mut world.readers);
                let mut verdict = Ok(());
                let read = taken[*reader].read_batch(*most, |record, bytes| {
                    let mut check = || {
                        settle(&mut world, *reader, record.position);
                        expect_record!(world, *reader, record, bytes);
                        Ok(())
                    };
                    if verdict.is_ok() {
                        verdict = check();
                    }
                });
                verdict?;
                let read = read.map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert!(
                    read == *most || world.next(*reader).is_none(),
                    "a batch ends too early"
                );
                world.readers = taken;
            }
            Step::Census => census(&bus, &mut world)?,
            Step::Unlend(_) | Step::Send(_) | Step::SendShortened(..) | Step::Unpin(_) => {}
        }
    }
    for (number, _, view) in &world.views {
        prop_assert!(
            is_filled(view, *number),
            "record {} changed under its view",
            number
        );
    }
    for (number, loan) in &world.loans {
        prop_assert!(
            is_filled(loan, *number),
            "loan {} changed in our hands",
            number
        );
    }
    census(&bus, &mut world)?;
    // Everybody goes; nothing is lost, and nothing is in anybody's hands.
    world.loans.clear();
    world.views.clear();
    world.readers.clear();
    drop(producer);
    let report = bus.doctor(true).unwrap();
    prop_assert!(report.is_clean() && report.damaged_slots == 0, "{report:?}");
    prop_assert_eq!(report.chunks[1], 0, "{:?}", report);
    prop_assert!(
        report.chunks.iter().sum::<u64>() >= world.chunks,
        "{report:?}"
    );
    Ok(world.refused)
}

/// The position of a record sent in a batch, now that a reader has told it.
fn settle(world: &mut World, reader: usize, position: u64) {
    let next = world.read[reader];
    if let Some(entry) = world.sent.get_mut(next).filter(|entry| entry.0 == IN_BATCH) {
        entry.0 = position;
    }
}

fn census(bus: &Bus, world: &mut World) -> Result<(), TestCaseError> {
    let report = bus.doctor(false).unwrap();
    prop_assert!(report.is_clean(), "{report:?}");
    let total = report.chunks.iter().sum::<u64>();
    prop_assert!(
        total >= world.chunks,
        "{} chunks, then {total}",
        world.chunks
    );
    prop_assert!(report.chunks[1] >= world.loans.len() as u64, "{report:?}");
    world.chunks = total;
    Ok(())
}

#[test]
fn loans_records_and_views_agree_with_the_model() {
    let seed = seed::announce("loans");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let cases = effort::executions(60, 5000) as u32;
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let producers = prop_oneof![Just(Producers::Shared), Just(Producers::Exclusive)];
    let refused = std::cell::Cell::new(0);
    let steps = proptest::collection::vec(step(), 1..300);
    let verdict = runner.run(&(producers, steps), |(producers, steps)| {
        refused.set(refused.get() + play(producers, &steps)?);
        Ok(())
    });
    if let Err(error) = verdict {
        panic!("RINGWAY_SEED={seed}: {error}");
    }
    effort::report(
        "loans",
        u64::from(cases),
        0,
        &[("refused", refused.get()), ("seed", seed)],
    );
    assert!(refused.get() > 0, "neither pool nor ring was ever full");
}
