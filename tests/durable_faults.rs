//! R6 for durable queues: each call that the life of one makes to a real disk, and each completion of a write,
//! fails once, in each way (with `RINGWAY_FULL=1`; else one in some). Whoever it concerns is told by a typed error; what was acknowledged is there when the
//! disk is well again, what was deleted is gone; nothing hangs, no descriptor and no temporary file is left.
//! And signals interrupt the real calls, which nobody sees.

use ringway::journal::{Call, Watch, watch};
use ringway::{Bus, Deduplication, Durability, OpenError, Outgoing, Queue};
use ringway_harness::seed::announce;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Far beyond what a life takes.
const HANGING: Duration = Duration::from_secs(30);

struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(number: usize) -> Self {
        let name = format!("ringway-durable-faults-{}-{number}", std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for part in ["memory", "disk"] {
            std::fs::create_dir_all(root.join(part)).unwrap();
        }
        Self { root }
    }

    fn journal(&self) -> PathBuf {
        self.root.join("disk/ringway-bus/q.fifo")
    }

    fn open(&self) -> Result<(Bus, Queue), OpenError> {
        let builder = Bus::builder("bus").root(self.root.join("memory"));
        let builder = builder
            .pre_touch(false)
            .journal_root(self.root.join("disk"));
        let bus = builder.open_or_create()?;
        let rules = Deduplication {
            ids: 1024,
            ..Deduplication::default()
        };
        let queue = bus.queue("q.fifo").durability(Durability::Durable).fifo();
        let queue = queue.deduplicate(rules).slots(1024).stride(192);
        let queue = queue.open_or_create()?;
        Ok((bus, queue))
    }

    fn restart(&self) {
        std::fs::remove_dir_all(self.root.join("memory")).unwrap();
        std::fs::create_dir(self.root.join("memory")).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Lets one call fail.
struct Fault {
    calls: AtomicUsize,
    at: usize,
    code: i32,
}

impl Watch for Fault {
    fn before(&self, _call: Call<'_>) -> io::Result<()> {
        match self.calls.fetch_add(1, Ordering::Relaxed) == self.at {
            true => Err(io::Error::from_raw_os_error(self.code)),
            false => Ok(()),
        }
    }

    fn behind(&self, _call: Call<'_>) {}
}

/// What was promised.
#[derive(Default)]
struct Promised {
    sent: BTreeSet<u32>,
    /// Perhaps.
    about: BTreeSet<u32>,
    deleted: BTreeSet<u32>,
    errors: Vec<String>,
}

impl Promised {
    /// One life of the queue: opened, sent to, received and deleted from, purged of nothing, closed.
    fn live(&mut self, machine: &Machine, life: u32) {
        let (_bus, queue) = match machine.open() {
            Ok(opened) => opened,
            Err(error) => return self.errors.push(error.to_string()),
        };
        let mut sender = queue.sender().unwrap();
        for number in 100 * life..100 * life + 6 {
            let (id, body) = (number.to_string(), number.to_le_bytes());
            let message = Outgoing::new(&body).group("g").dedup_id(&id);
            match sender.send_message(&message) {
                Ok(_) => _ = self.sent.insert(number),
                Err(error) => self.errors.push(error.to_string()),
            }
        }
        let mut receiver = queue.receiver().unwrap();
        for message in receiver.receive(3, Duration::ZERO, None).unwrap() {
            let number = u32::from_le_bytes(message.body[..].try_into().unwrap());
            self.about.insert(number);
            match receiver.delete(&message.received.receipt) {
                Ok(_) => _ = self.deleted.insert(number),
                Err(error) => self.errors.push(error.to_string()),
            }
        }
    }

    /// With a disk that is well.
    fn hold(&self, machine: &Machine) {
        machine.restart();
        let (_bus, queue) = machine.open().unwrap();
        let mut receiver = queue.receiver().unwrap();
        let mut there = BTreeSet::new();
        loop {
            let batch = receiver.receive(10, Duration::from_millis(2), None);
            let batch = batch.unwrap();
            if batch.is_empty() && queue.stats().visible == 0 {
                break;
            }
            for message in batch {
                let number = u32::from_le_bytes(message.body[..].try_into().unwrap());
                assert!(there.insert(number), "{number} is there twice");
                assert!(receiver.delete(&message.received.receipt).unwrap());
            }
        }
        let lost = self
            .sent
            .difference(&self.about)
            .find(|it| !there.contains(it));
        assert_eq!(lost, None, "acknowledged and lost");
        let back = self.deleted.iter().find(|it| there.contains(it));
        assert_eq!(back, None, "deleted and back");
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Two lives with a restart between, in which the call `at` fails with `code`. How many calls there were, and
/// what was heard.
fn run(number: usize, at: usize, code: i32) -> (usize, Vec<String>) {
    let begun = Instant::now();
    let machine = Machine::new(number);
    let fault = Arc::new(Fault {
        calls: AtomicUsize::new(0),
        at,
        code,
    });
    let mut promised = Promised::default();
    {
        let _watching = watch(&machine.journal(), Arc::clone(&fault) as _);
        promised.live(&machine, 1);
        machine.restart();
        promised.live(&machine, 2);
    }
    promised.hold(&machine);
    let names = std::fs::read_dir(machine.journal()).unwrap();
    let left = names.filter(|it| {
        let name = it.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with(".tmp-")
    });
    assert_eq!(left.count(), 0, "temporary files");
    assert!(begun.elapsed() < HANGING, "it hung");
    (fault.calls.load(Ordering::Relaxed), promised.errors)
}

/// Interrupts whatever system call is under way, ten thousand times a second.
fn interrupt() -> impl Drop {
    extern "C" fn nothing(_: libc::c_int) {}
    fn every(us: libc::suseconds_t) {
        let time = libc::timeval {
            tv_sec: 0,
            tv_usec: us,
        };
        let timer = libc::itimerval {
            it_interval: time,
            it_value: time,
        };
        // SAFETY: a valid timer.
        let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
        assert_eq!(set, 0);
    }
    struct Timer;
    impl Drop for Timer {
        fn drop(&mut self) {
            every(0);
        }
    }
    // SAFETY: plain data, of which all zero is a value; a handler that does nothing, without SA_RESTART.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        let set = libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
        assert_eq!(set, 0);
    }
    every(100);
    Timer
}

/// One test, for descriptors are counted and signals come to the whole process.
#[test]
fn every_call_fails_once_and_signals_interrupt_them_and_nothing_is_lost_or_left() {
    let never = usize::MAX;
    let (calls, errors) = run(0, never, 0);
    assert_eq!(errors, Vec::<String>::new());
    let before = descriptors();
    let is_full = std::env::var("RINGWAY_FULL").is_ok_and(|it| it == "1");
    // In the quick run of every change one call in some, each time others.
    let step = if is_full { 1 } else { 13 };
    let begin = announce("which calls fail") as usize;
    let (mut runs, mut told) = (0, 0);
    for code in [libc::EIO, libc::ENOSPC] {
        for at in ((begin + code as usize) % step..calls).step_by(step) {
            let case = format!("call {at} of {calls} fails with {code}");
            let ran = std::panic::catch_unwind(|| run(1 + at, at, code));
            let Ok((_, errors)) = ran else {
                panic!("{case}");
            };
            assert!(errors.iter().all(|error| !error.is_empty()));
            assert_eq!(descriptors(), before, "{case}: descriptors");
            runs += 1;
            told += usize::from(!errors.is_empty());
        }
    }
    assert!(told > 0, "no failure was ever told");
    let interrupted = {
        let _timer = interrupt();
        let (_, errors) = run(1 + calls, never, 0);
        errors
    };
    assert_eq!(interrupted, Vec::<String>::new(), "signals were seen");
    println!(
        "{{\"check\":\"R6 durable queue\",\"calls\":{calls},\"failures_injected\":{runs},\"told\":{told},\"lost\":0}}"
    );
}
