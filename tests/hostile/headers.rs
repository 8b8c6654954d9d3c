//! Opening a file whose header lies, as fast as it can be done: one file per kind, its header
//! changed in place, opened and checked, millions of times in one process.
//!
//! The systematic and the slow mutations are `attach.rs`'s; here it is numbers. The seed is printed
//! and repeats the run; `RINGWAY_FULL=1` makes 10 million executions of each target.

#[path = "effort.rs"]
mod effort;
#[path = "files.rs"]
#[allow(dead_code)]
mod files;

use files::{NAMES, Template};
use ringway::{Bus, OpenError};
use ringway_harness::TempBus;
use ringway_harness::seed::{self, Random};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes of each header that mean something; the rest is reserved.
const MEANING: [usize; 4] = [88, 248, 248, 96];

struct Target {
    root: TempBus,
    file: File,
    pristine: Vec<u8>,
    len: u64,
}

impl Target {
    fn new(number: usize) -> Target {
        let root = TempBus::new().unwrap();
        let template = Template::make(root.path());
        template.restore(root.path());
        let path = files::path(root.path(), number);
        let file = File::options().read(true).write(true).open(path).unwrap();
        let bytes = &template.files[number];
        let pristine = bytes[..MEANING[number]].to_vec();
        Target {
            root,
            file,
            pristine,
            len: bytes.len() as u64,
        }
    }

    /// Opens `executions` times what `open` opens; every header is another, one in sixteen is whole.
    fn run(&self, target: &str, executions: u64, mut open: impl FnMut() -> bool) {
        let seed = seed::announce(target);
        let mut random = Random::new(seed);
        let (mut opened, mut crashes) = (0, 0);
        for number in 0..executions {
            let mut header = self.pristine.clone();
            let changes = if number % 16 == 0 {
                0
            } else {
                1 + random.below(3)
            };
            for _ in 0..changes {
                change(&mut header, &mut random);
            }
            let resized = random.percent(2) && changes > 0;
            if resized {
                self.file.set_len(random.below(2 * self.len)).unwrap();
            }
            self.file.write_all_at(&header, 0).unwrap();
            match catch_unwind(AssertUnwindSafe(&mut open)) {
                Ok(worked) => {
                    opened += u64::from(worked);
                    assert!(worked || changes > 0, "{target}: a whole header is refused");
                }
                Err(_) => {
                    crashes += 1;
                    eprintln!("{target}: execution {number} of RINGWAY_SEED={seed}: {header:02x?}");
                }
            }
            if resized {
                self.file.set_len(self.len).unwrap();
            }
        }
        effort::report(
            target,
            executions,
            crashes,
            &[("opened", opened), ("seed", seed)],
        );
        assert_eq!(crashes, 0, "RINGWAY_SEED={seed}");
        assert!(opened < executions, "no change was ever refused");
    }
}

fn change(header: &mut [u8], random: &mut Random) {
    let at = random.below(header.len() as u64 - 7) as usize;
    match random.below(4) {
        0 => header[at] ^= 1 << random.below(8),
        1 => {
            let at = at & !7;
            header[at..at + 8].copy_from_slice(&files::plausible(random).to_le_bytes());
        }
        2 => {
            let at = at & !3;
            let value = files::plausible(random) as u32;
            header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        _ => header[at] = random.next_u64() as u8,
    }
}

fn refused(error: &OpenError) -> bool {
    assert!(!error.to_string().is_empty());
    false
}

#[test]
fn a_bus_header_that_lies_is_refused_or_harmless() {
    let target = Target::new(0);
    let builder = Bus::builder(files::BUS)
        .root(target.root.path())
        .pre_touch(false);
    let executions = effort::executions(20_000, 10_000_000);
    target.run("bus header", executions, || match builder.clone().open() {
        Ok(bus) => bus.participant(bus.me()).is_some(),
        Err(error) => refused(&error),
    });
}

#[test]
fn a_ring_header_that_lies_is_refused_or_harmless() {
    let target = Target::new(1);
    let bus = Bus::builder(files::BUS)
        .root(target.root.path())
        .pre_touch(false)
        .open()
        .unwrap();
    let executions = effort::executions(60_000, 10_000_000);
    target.run("ring header", executions, || {
        match bus.channel("shared").open() {
            Ok(channel) => channel.stats().tail <= u64::MAX / 2,
            Err(error) => refused(&error),
        }
    });
}

#[test]
fn a_segment_header_that_lies_is_refused_or_harmless() {
    let target = Target::new(3);
    let builder = Bus::builder(files::BUS)
        .root(target.root.path())
        .pre_touch(false);
    let executions = effort::executions(20_000, 10_000_000);
    target.run(NAMES[3], executions, || {
        let bus = builder.clone().open().expect("the bus file is whole");
        let channel = bus
            .channel("shared")
            .open()
            .expect("the ring file is whole");
        let mut producer = channel.producer().expect("it is shared");
        // A loan maps the segment; one that fits is written from end to end.
        match producer.loan(500) {
            Ok(mut loan) => {
                loan.fill(7);
                true
            }
            Err(error) => error.to_string().is_empty(),
        }
    });
}
