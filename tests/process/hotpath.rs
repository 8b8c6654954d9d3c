//! What a message costs the kernel and the allocator once everything is warm: nothing.
//!
//! A role makes both ends, warms up for several laps, and then sends and reads ten thousand
//! messages in a stretch whose system calls and page faults are counted from outside and whose
//! allocations from within. That a single one of them would be noticed is a test, too.

mod stage;

use ringway::{Producer, Producers, QueueReceiver, QueueSender, Reader};
use ringway_harness::syscalls::{self, Stretch};
use ringway_harness::{AckBoard, Allocations, CountingAllocator, Launch, Stage, TempBus, step};
use stage::{INLINE, LARGE, text};

#[global_allocator]
static COUNTED: CountingAllocator = CountingAllocator;

ringway_harness::roles! {
    work => work,
    deliver => deliver,
}

const WARM_UP: u64 = 20_000;
const MESSAGES: u64 = 10_000;

/// One way to move messages: rounds of it are counted.
type Way = fn(&mut Producer, &mut Reader, u64) -> Result<(), String>;

const WAYS: &[(&str, Way)] = &[
    ("send and try_read", |producer, reader, n| {
        producer.try_send(&[n as u8; INLINE]).map_err(text)?;
        let mut buffer = [0; INLINE];
        expect(
            reader
                .try_read(&mut buffer)
                .map_err(text)?
                .map(|record| record.len),
            INLINE,
        )
    }),
    ("send_with and read", |producer, reader, n| {
        let sent = producer.try_send_with(INLINE, |body| body.fill(n as u8));
        sent.map_err(text)?;
        let mut buffer = [0; INLINE];
        let read = reader.read(&mut buffer, std::time::Duration::ZERO);
        expect(read.map_err(text)?.map(|record| record.len), INLINE)
    }),
    ("batches of 8", |producer, reader, n| {
        let sent = producer
            .try_send_batch(&[[n as u8; INLINE]; 8])
            .map_err(text)?;
        expect(Some(sent), 8)?;
        let mut sum = 0;
        let read = reader
            .read_batch(8, |_, body| sum += body.len())
            .map_err(text)?;
        expect(Some(sum), read * INLINE)
    }),
    ("view in place", |producer, reader, n| {
        producer.try_send(&[n as u8; INLINE]).map_err(text)?;
        expect(
            reader.try_view().map_err(text)?.map(|view| view.len()),
            INLINE,
        )
    }),
    ("pinned view", |producer, reader, n| {
        producer.try_send(&[n as u8; INLINE]).map_err(text)?;
        expect(
            reader
                .try_view_pinned()
                .map_err(text)?
                .map(|view| view.len()),
            INLINE,
        )
    }),
    ("large send and try_read", |producer, reader, n| {
        producer.try_send(&[n as u8; LARGE]).map_err(text)?;
        let mut buffer = [0; LARGE];
        expect(
            reader
                .try_read(&mut buffer)
                .map_err(text)?
                .map(|record| record.len),
            LARGE,
        )
    }),
    ("loan and view", |producer, reader, n| {
        let mut loan = producer.loan(LARGE).map_err(text)?;
        loan.fill(n as u8);
        producer
            .try_send_loan(loan)
            .map_err(|(error, _)| text(error))?;
        expect(
            reader.try_view().map_err(text)?.map(|view| view.len()),
            LARGE,
        )
    }),
    ("nothing to read", |_, reader, _| {
        match reader.try_read(&mut []) {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }),
];

/// Something that a stretch must not cost, and the counters must not miss.
enum Extra {
    Nothing,
    Call,
    /// The first touch of this page.
    Page(*mut u8),
    Allocation,
}

impl Extra {
    fn new(name: &str) -> Result<Extra, String> {
        Ok(match name {
            "nothing" => Extra::Nothing,
            "a system call" => Extra::Call,
            "a page fault" => {
                let (access, kind) = (
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                );
                // SAFETY: a fresh mapping at an address of the kernel's choice.
                let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, kind, -1, 0) };
                if page == libc::MAP_FAILED {
                    return Err(text(std::io::Error::last_os_error()));
                }
                Extra::Page(page.cast())
            }
            "an allocation" => Extra::Allocation,
            other => return Err(format!("nothing costs {other}")),
        })
    }

    /// Costs it, once.
    fn spend(&self) {
        match self {
            Extra::Nothing => {}
            Extra::Call => {
                // SAFETY: getppid takes nothing.
                std::hint::black_box(unsafe { libc::getppid() });
            }
            // SAFETY: one byte of the page that `new` mapped for this alone.
            Extra::Page(page) => unsafe { page.write_volatile(1) },
            Extra::Allocation => drop(std::hint::black_box(Box::new(7u64))),
        }
    }
}

fn expect(found: Option<usize>, wanted: usize) -> Result<(), String> {
    if found == Some(wanted) {
        Ok(())
    } else {
        Err(format!("{found:?} instead of {wanted}"))
    }
}

fn work(stage: &Stage) -> Result<(), String> {
    let (_, way) = WAYS
        .iter()
        .find(|(name, _)| *name == stage.text("way"))
        .ok_or("no such way")?;
    let producers = match stage.text("producers") {
        "shared" => Producers::Shared,
        _ => Producers::Exclusive,
    };
    // Pre-touched, as by default.
    let bus = stage::bus(&stage.path("root"))
        .pre_touch(true)
        .open_or_create()
        .map_err(text)?;
    let channel = stage::channel(&bus, "c", producers)?;
    let builder = channel.reader();
    let builder = if stage.text("reader") == "lossy" {
        builder.lossy()
    } else {
        builder
    };
    let mut reader = builder.join().map_err(text)?;
    let mut producer = channel.producer().map_err(text)?;
    for n in 0..WARM_UP {
        way(&mut producer, &mut reader, n)?;
    }
    let extra = Extra::new(stage.text("extra"))?;
    let before = Allocations::of_this_thread();
    let mut done = Ok(());
    step::begin();
    for n in 0..MESSAGES {
        done = way(&mut producer, &mut reader, n);
        if done.is_err() {
            break;
        }
        if n == MESSAGES / 2 {
            extra.spend();
        }
    }
    step::end();
    let cost = Allocations::of_this_thread() - before;
    let board = stage.board("allocations");
    board.set(0, cost.made);
    board.set(1, cost.released);
    done
}

/// What a stretch cost.
struct Cost {
    kernel: Stretch,
    made: u64,
    released: u64,
}

impl Cost {
    /// Of ten thousand rounds of a way, and of `extra` in the middle of them.
    fn of(way: &str, producers: &str, reader: &str, extra: &str) -> Cost {
        let root = TempBus::new().unwrap();
        let allocations = AckBoard::new(2).unwrap();
        let launch = Launch::role("work")
            .board("allocations", &allocations)
            .set("root", root.path().display());
        let launch = launch.set("way", way).set("producers", producers);
        let launch = launch.set("reader", reader).set("extra", extra);
        let kernel = syscalls::measure(&launch).unwrap();
        let (made, released) = (allocations.get(0), allocations.get(1));
        println!(
            "{way}, {producers}, {reader}, {extra}: {kernel}; {made} allocations and {released} \
             releases for {MESSAGES} rounds"
        );
        Cost {
            kernel,
            made,
            released,
        }
    }

    fn faults(&self) -> u64 {
        self.kernel.minor_faults + self.kernel.major_faults
    }

    fn allocations(&self) -> u64 {
        self.made + self.released
    }
}

#[test]
fn a_message_costs_no_system_call_no_page_fault_and_no_allocation_once_warm() {
    let (mut calls, mut faults, mut allocations) = (0, 0, 0);
    for (way, _) in WAYS {
        for producers in ["shared", "exclusive"] {
            for reader in ["reliable", "lossy"] {
                let cost = Cost::of(way, producers, reader, "nothing");
                let case = format!("{way}, {producers}, {reader}");
                calls += cost.kernel.total_calls();
                faults += cost.faults();
                allocations += cost.allocations();
                assert_eq!(cost.kernel.total_calls(), 0, "{case}: {}", cost.kernel);
                assert_eq!(cost.faults(), 0, "{case}: {}", cost.kernel);
                assert_eq!(cost.allocations(), 0, "{case}");
            }
        }
    }
    // Sums of what was counted.
    println!(
        "{{\"target\":\"P14\",\"system_calls\":{calls},\"page_faults\":{faults},\
         \"allocations\":{allocations}}}"
    );
}

/// One in ten thousand rounds is enough, and nothing is taken for something else.
#[test]
fn a_single_system_call_page_fault_or_allocation_would_be_counted() {
    for (extra, wanted) in [
        ("a system call", (1, 0, 0, 0)),
        ("a page fault", (0, 1, 0, 0)),
        ("an allocation", (0, 0, 1, 1)),
    ] {
        for (way, _) in WAYS {
            let cost = Cost::of(way, "shared", "reliable", extra);
            let calls = cost.kernel.total_calls();
            let counted = (calls, cost.faults(), cost.made, cost.released);
            assert_eq!(counted, wanted, "{way} and {extra}: {}", cost.kernel);
            let expected = u64::from(extra == "a system call");
            assert_eq!(cost.kernel.calls_of(libc::SYS_getppid), expected);
        }
    }
}

/// One way of a message through a queue.
type Delivery = fn(&mut QueueSender, &mut QueueReceiver, u64) -> Result<(), String>;

const DELIVERIES: &[(&str, Delivery)] = &[
    ("send, receive, delete", |sender, receiver, n| {
        deliver_one(sender, receiver, n, INLINE)
    }),
    ("send, receive, delete, large", |sender, receiver, n| {
        deliver_one(sender, receiver, n, LARGE)
    }),
    (
        "send, receive, extend, nack, receive, delete",
        |sender, receiver, n| {
            sender.send(&[n as u8; INLINE]).map_err(text)?;
            let mut buffer = [0; INLINE];
            let received = receiver.try_receive(&mut buffer).map_err(text)?;
            let received = received.ok_or("nothing to receive")?;
            let hour = std::time::Duration::from_secs(3600);
            receiver
                .change_visibility(&received.receipt, hour)
                .map_err(text)?;
            receiver
                .nack(&received.receipt, std::time::Duration::ZERO)
                .map_err(text)?;
            receive_and_delete(receiver, INLINE)
        },
    ),
    ("batches of 8", |sender, receiver, n| {
        let sent = sender.send_batch(&[[n as u8; INLINE]; 8]).map_err(text)?;
        expect(Some(sent), 8)?;
        let mut receipts = [None; 8];
        let mut count = 0;
        let received = receiver.receive_each(8, |received, _| {
            receipts[count] = Some(received.receipt);
            count += 1;
        });
        expect(Some(received.map_err(text)?), 8)?;
        for receipt in receipts.iter().flatten() {
            receiver.delete(receipt).map_err(text)?;
        }
        Ok(())
    }),
    ("send, view, delete", |sender, receiver, n| {
        sender.send(&[n as u8; INLINE]).map_err(text)?;
        view_and_delete(receiver, INLINE)
    }),
    ("send a loan, view, delete", |sender, receiver, n| {
        let mut loan = sender.loan(LARGE).map_err(text)?;
        loan.fill(n as u8);
        sender.send_loan(loan).map_err(|(error, _)| text(error))?;
        view_and_delete(receiver, LARGE)
    }),
    ("consume at once", |sender, receiver, n| {
        sender.send(&[n as u8; INLINE]).map_err(text)?;
        let taken = receiver.receive_and_delete(&mut [0; INLINE]);
        expect(taken.map_err(text)?.map(|received| received.len), INLINE)
    }),
    ("nothing to receive", |_, receiver, _| {
        expect(
            receiver
                .try_receive(&mut [])
                .map_err(text)?
                .map(|_| 1)
                .or(Some(0)),
            0,
        )
    }),
];

fn deliver_one(
    sender: &mut QueueSender,
    receiver: &mut QueueReceiver,
    n: u64,
    len: usize,
) -> Result<(), String> {
    sender.send(&[n as u8; LARGE][..len]).map_err(text)?;
    receive_and_delete(receiver, len)
}

fn receive_and_delete(receiver: &mut QueueReceiver, len: usize) -> Result<(), String> {
    let received = receiver.try_receive(&mut [0; LARGE]).map_err(text)?;
    let received = received.ok_or("nothing to receive")?;
    expect(Some(received.len), len)?;
    match receiver.delete(&received.receipt) {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn view_and_delete(receiver: &mut QueueReceiver, len: usize) -> Result<(), String> {
    let view = receiver.try_receive_view().map_err(text)?;
    let view = view.ok_or("nothing to look at")?;
    expect(Some(view.len()), len)?;
    match view.delete() {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn deliver(stage: &Stage) -> Result<(), String> {
    let (_, way) = DELIVERIES
        .iter()
        .find(|(name, _)| *name == stage.text("way"))
        .ok_or("no such way")?;
    let bus = stage::bus(&stage.path("root")).pre_touch(true);
    let bus = bus.open_or_create().map_err(text)?;
    let builder = bus.queue("q").slots(stage::SLOTS);
    let queue = builder.stride(stage::QUEUE_STRIDE).create().map_err(text)?;
    let mut sender = queue.sender().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    for n in 0..WARM_UP {
        way(&mut sender, &mut receiver, n)?;
    }
    let before = Allocations::of_this_thread();
    let mut done = Ok(());
    step::begin();
    for n in 0..MESSAGES {
        done = way(&mut sender, &mut receiver, n);
        if done.is_err() {
            break;
        }
    }
    step::end();
    let cost = Allocations::of_this_thread() - before;
    done?;
    if (cost.made, cost.released) == (0, 0) {
        Ok(())
    } else {
        Err(format!("{cost:?}"))
    }
}

#[test]
fn a_message_of_a_queue_costs_no_system_call_no_page_fault_and_no_allocation_once_warm() {
    for (way, _) in DELIVERIES {
        let root = TempBus::new().unwrap();
        let launch = Launch::role("deliver").set("root", root.path().display());
        let cost = syscalls::measure(&launch.set("way", way)).unwrap();
        println!("{way}: {cost} for {MESSAGES} rounds");
        assert_eq!(cost.total_calls(), 0, "{way}: {cost}");
        assert_eq!(cost.minor_faults, 0, "{way}: {cost}");
        assert_eq!(cost.major_faults, 0, "{way}: {cost}");
    }
}
