//! Every error that a user can meet, met: each variant comes out of a real situation, and its
//! message says what to do next.
//!
//! What the machine refuses (mounts and other users need root) is announced as SKIPPED, and fails
//! under `RINGWAY_REQUIRE_ALL=1`.

use ringway::{
    Bus, JoinError, OpenError, Origin, Overflow, Producers, QueueSendError, ReadError, SendError,
    Start,
};
use ringway_harness::liveness::{self, Aid};
use ringway_harness::{AckBoard, Launch, Stage, TempBus};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

ringway_harness::roles! {
    replace => replace, intrude => intrude, mask => mask, fork => fork, lag => lag,
    by_variable => by_variable, guest => guest,
}

fn root() -> TempBus {
    TempBus::new().expect("a root under /dev/shm")
}

fn bus_in(root: &Path) -> Bus {
    Bus::builder("b")
        .root(root)
        .pool_bytes(8 << 20)
        .create()
        .expect("a fresh bus")
}

fn at(root: &Path, inside: &str) -> PathBuf {
    root.join("ringway-b").join(inside)
}

fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, offset)
        .unwrap();
}

/// The error, whose message names every one of `advice`.
fn says<T, E: std::fmt::Display>(result: Result<T, E>, advice: &[&str]) -> E {
    let error = result.err().expect("this must be refused");
    let message = error.to_string();
    for part in advice {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
    error
}

macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?, $($advice:expr),+) => {{
        let error = says($result, &[$($advice),+]);
        assert!(matches!(error, $pattern $(if $guard)?), "{error:?}");
        error
    }};
}

// ---------------------------------------------------------------- opening

#[test]
fn a_name_that_breaks_the_rule_is_told_the_rule() {
    let root = root();
    let bus = bus_in(root.path());
    for name in [
        "",
        "a/b",
        "..",
        "a b",
        "ä",
        &"x".repeat(81),
        "a.fifo.fifo",
        ".tmp-1",
    ] {
        let opened = Bus::builder(name).root(root.path()).open_or_create();
        assert_error!(
            opened,
            OpenError::InvalidName { .. },
            "no valid name",
            "1 to 80 characters"
        );
        let opened = bus.channel(name).open_or_create();
        assert_error!(opened, OpenError::InvalidName { .. }, "1 to 80 characters");
        assert_error!(
            bus.remove(name),
            OpenError::InvalidName { .. },
            "1 to 80 characters"
        );
        let removed = Bus::remove_bus(name, Some(root.path()), false);
        assert_error!(removed, OpenError::InvalidName { .. }, "1 to 80 characters");
    }
}

#[test]
fn an_impossible_option_is_named_with_its_bounds() {
    let root = root();
    for mode in [0o060, 0o400, 0o1666, 0o10600] {
        let created = Bus::builder("m").root(root.path()).mode(mode).create();
        assert_error!(
            created,
            OpenError::InvalidOption { option: "mode", .. },
            "permission bits",
            "0o660"
        );
    }
    let bus = bus_in(root.path());
    let invalid = |builder: ringway::ChannelBuilder, wanted: &'static str, bounds: &str| {
        let error = says(builder.create(), &["is not possible", bounds]);
        assert!(
            matches!(error, OpenError::InvalidOption { option, .. } if option == wanted),
            "{error:?}"
        );
    };
    for slots in [0, 1, 512, 1025, 1 << 25, u64::MAX] {
        invalid(
            bus.channel("c").slots(slots),
            "slots",
            "a power of two from 1024 to 16777216",
        );
    }
    for stride in [0, 32, 65, 72, 4128, u64::MAX] {
        invalid(
            bus.channel("c").stride(stride),
            "stride",
            "a multiple of 32 from 64 to 4096",
        );
    }
    for readers in [0, 1025, u32::MAX] {
        invalid(bus.channel("c").readers(readers), "readers", "1 to 1024");
    }
    for timeout in [Duration::ZERO, Duration::from_secs(61), Duration::MAX] {
        invalid(
            bus.channel("c").stall_timeout(timeout),
            "stall_timeout",
            "1 ms to 60 s",
        );
    }
    assert!(bus.objects().unwrap().is_empty());
}

#[test]
fn what_is_not_there_and_what_is_there_already_say_so() {
    let root = root();
    let nowhere = root.path().join("no-such-root");
    assert_error!(
        Bus::builder("b").root(root.path()).open(),
        OpenError::NotFound { .. },
        "does not exist",
        "open_or_create"
    );
    assert_error!(
        Bus::builder("b").root(&nowhere).create(),
        OpenError::NotFound { .. },
        "no-such-root",
        "does not exist"
    );
    assert_error!(
        Bus::remove_bus("b", Some(root.path()), true),
        OpenError::NotFound { .. },
        "does not exist"
    );
    let bus = bus_in(root.path());
    assert_error!(
        Bus::builder("b").root(root.path()).create(),
        OpenError::AlreadyExists { .. },
        "exists already",
        "open it"
    );
    assert_error!(
        bus.channel("c").open(),
        OpenError::NotFound { .. },
        "objects/c does not exist"
    );
    assert_error!(
        bus.remove("c"),
        OpenError::NotFound { .. },
        "objects/c does not exist"
    );
    bus.channel("c").create().unwrap();
    assert_error!(
        bus.channel("c").create(),
        OpenError::AlreadyExists { .. },
        "objects/c exists already"
    );
}

#[test]
fn every_option_that_differs_is_a_mismatch_that_names_both_values() {
    let root = root();
    let bus = bus_in(root.path());
    bus.channel("c")
        .slots(2048)
        .stride(64)
        .readers(3)
        .create()
        .unwrap();
    let other = |builder: ringway::ChannelBuilder, wanted: &'static str, values: [&str; 2]| {
        let result = builder.open_or_create();
        let error = says(
            result,
            &[wanted, values[0], values[1], "open it without that option"],
        );
        assert!(
            matches!(error, OpenError::Mismatch { option, .. } if option == wanted),
            "{error:?}"
        );
    };
    other(bus.channel("c").slots(4096), "slots", ["2048", "4096"]);
    other(bus.channel("c").stride(128), "stride", ["64", "128"]);
    other(bus.channel("c").readers(4), "readers", ["3", "4"]);
    other(
        bus.channel("c").producers(Producers::Exclusive),
        "producers",
        ["Shared", "Exclusive"],
    );
    other(
        bus.channel("c").overflow(Overflow::DropOldest),
        "overflow",
        ["Refuse", "DropOldest"],
    );
    other(
        bus.channel("c").stall_timeout(Duration::from_millis(5)),
        "stall_timeout",
        ["20ms", "5ms"],
    );
    assert_error!(
        bus.channel("c").slots(4096).open(),
        OpenError::Mismatch { .. },
        "2048"
    );
    bus.channel("c").slots(2048).stride(64).open().unwrap();
}

#[test]
fn another_format_is_named_with_what_this_build_reads() {
    let root = root();
    let bus = bus_in(root.path());
    bus.channel("c").create().unwrap();
    bus.queue("q").slots(1024).create().unwrap();
    let open_bus = || Bus::builder("b").root(root.path()).open();
    for (version, found) in [
        ([2u8, 0, 0, 0], "2.0"),
        ([0, 0, 0, 0], "0.0"),
        ([1, 0, 9, 0], "1.9"),
    ] {
        for file in ["bus", "objects/c", "objects/q"] {
            let restored = [1u8, 0, 0, 0];
            patch(&at(root.path(), file), 8, &version);
            let advice = [found, "this build reads 1.0", "matching version"];
            let error = if file == "bus" {
                let created = Bus::builder("b").root(root.path()).open_or_create();
                says(created, &advice); // it must not replace what a newer version may still use
                says(open_bus(), &advice)
            } else if file == "objects/q" {
                let created = bus.queue("q").slots(1024).open_or_create();
                says(created, &advice); // nor what its messages lie in
                says(bus.queue("q").open(), &advice)
            } else {
                says(bus.channel("c").open(), &advice)
            };
            assert!(matches!(error, OpenError::WrongFormat { .. }), "{error:?}");
            patch(&at(root.path(), file), 8, &restored);
        }
    }
    for file in ["bus", "objects/c", "objects/q"] {
        patch(&at(root.path(), file), 16, &[0, 0, 4]);
        let error = if file == "bus" {
            says(open_bus(), &["0x40000", "newer version"])
        } else if file == "objects/q" {
            says(bus.queue("q").open(), &["0x40000", "newer version"])
        } else {
            says(bus.channel("c").open(), &["0x40000", "newer version"])
        };
        assert!(
            matches!(
                error,
                OpenError::UnknownFeatures {
                    unknown: 0x40000,
                    ..
                }
            ),
            "{error:?}"
        );
        patch(&at(root.path(), file), 16, &[0, 0, 0]);
    }
    open_bus().unwrap();
    bus.channel("c").open().unwrap();
    bus.queue("q").open().unwrap();
}

/// Two builds may share a bus for a while: the older one can't read what the newer one made, reaps, and
/// heals.
#[test]
fn payloads_of_what_another_build_made_are_left_alone() {
    let root = root();
    let bus = bus_in(root.path());
    let queue = bus.queue("q").slots(1024).stride(64).max_bytes(1 << 20);
    let queue = queue.create().unwrap();
    let mut sender = queue.sender().unwrap();
    let sent = 1200u64;
    for n in 0..sent {
        sender.send(&vec![n as u8; 600]).unwrap();
    }
    let names = fs::read_dir(at(root.path(), "objects")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "it has grown: {names:?}");
    for name in &names {
        let path = at(root.path(), "objects").join(name);
        for (offset, there) in [(10, 9u8), (18, 4)] {
            let mut was = [0];
            let file = File::open(&path).unwrap();
            file.read_exact_at(&mut was, offset).unwrap();
            patch(&path, offset, &[there]);
            let older = Bus::builder("b").root(root.path()).open().unwrap();
            let report = older.doctor(true).unwrap();
            assert_eq!(
                (report.lost_chunks, report.chunks[2]),
                (0, sent),
                "{name:?}"
            );
            assert!(!report.broken_objects.is_empty(), "it says which");
            patch(&path, offset, &was);
        }
    }
    let mut receiver = queue.receiver().unwrap();
    let mut buffer = [0; 600];
    for n in 0..sent {
        let received = receiver.receive_and_delete(&mut buffer).unwrap();
        assert_eq!(received.expect("everything is there").len, 600);
        assert!(buffer.iter().all(|byte| *byte == n as u8), "message {n}");
    }
}

#[test]
fn a_foreign_file_is_shown_by_its_first_bytes() {
    let root = root();
    let bus = bus_in(root.path());
    fs::write(at(root.path(), "objects/text"), "#!/bin/sh\n".repeat(1000)).unwrap();
    let advice = [
        "not a ringway ring file",
        "[23, 21, 2f",
        "another name or root",
    ];
    let error = says(bus.channel("text").open(), &advice);
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert_error!(
        bus.channel("text").open_or_create(),
        OpenError::Foreign { .. },
        "move the file away"
    );
    // A file of ours in the wrong place is as foreign.
    fs::copy(at(root.path(), "bus"), at(root.path(), "objects/bus")).unwrap();
    assert_error!(
        bus.channel("bus").open(),
        OpenError::Foreign { .. },
        "not a ringway ring file"
    );
    fs::create_dir_all(root.path().join("ringway-f")).unwrap();
    fs::write(root.path().join("ringway-f/bus"), vec![b'x'; 600_000]).unwrap();
    let opened = Bus::builder("f").root(root.path()).open_or_create();
    assert_error!(
        opened,
        OpenError::Foreign {
            expected: "bus",
            ..
        },
        "not a ringway bus file",
        "[78, 78"
    );
}

#[test]
fn a_file_of_another_length_says_which_length_it_should_have() {
    let root = root();
    let bus = bus_in(root.path());
    bus.channel("c").create().unwrap();
    let file = File::options()
        .write(true)
        .open(at(root.path(), "objects/c"))
        .unwrap();
    let len = file.metadata().unwrap().len();
    for wrong in [len + (1 << 20), len + 1, len - 1, 4096, 100, 0] {
        file.set_len(wrong).unwrap();
        let advice = [
            format!("{wrong} bytes long"),
            "truncated or overwritten".into(),
            "create it anew".into(),
        ];
        let advice: Vec<_> = advice.iter().map(String::as_str).collect();
        let error = says(bus.channel("c").open(), &advice);
        assert!(
            matches!(error, OpenError::WrongLength { actual, .. } if actual == wrong),
            "{error:?}"
        );
    }
    // As advised.
    bus.remove("c").unwrap();
    bus.channel("c").create().unwrap();
    drop(bus);
    let file = File::options()
        .write(true)
        .open(at(root.path(), "bus"))
        .unwrap();
    for wrong in [532_479, 4096, 0] {
        file.set_len(wrong).unwrap();
        let opened = Bus::builder("b").root(root.path()).open();
        assert_error!(
            opened,
            OpenError::WrongLength { .. },
            "bytes long",
            "create it anew"
        );
    }
    Bus::remove_bus("b", Some(root.path()), false).unwrap();
    bus_in(root.path());
}

#[test]
fn a_header_that_contradicts_itself_says_what_is_damaged() {
    let root = root();
    let bus = bus_in(root.path());
    let cases: [(u64, &[u8], &str); 9] = [
        (12, &[0; 4], "the ready word"),
        (64, &[0; 8], "slots, stride or readers"),
        (64, &2048u64.to_le_bytes(), ""),
        (72, &100u64.to_le_bytes(), "slots, stride or readers"),
        (80, &7u64.to_le_bytes(), "do not fit"),
        (96, &u32::MAX.to_le_bytes(), "slots, stride or readers"),
        (100, &9u32.to_le_bytes(), "unknown kind of producers"),
        (104, &9u32.to_le_bytes(), "unknown overflow policy"),
        (120, b"d", "names another object"),
    ];
    for (offset, bytes, what) in cases {
        bus.channel("c").slots(1024).create().unwrap();
        patch(&at(root.path(), "objects/c"), offset, bytes);
        let error = says(
            bus.channel("c").open(),
            &["is damaged", what, "remove it and create it anew"],
        );
        assert!(
            matches!(error, OpenError::Scribbled { .. }),
            "{offset}: {error:?}"
        );
        bus.remove("c").unwrap();
    }
    drop(bus);
    for (offset, bytes) in [
        (12, &[1u8, 2, 3, 4][..]),
        (24, &[0; 8]),
        (64, &u32::MAX.to_le_bytes()),
    ] {
        patch(&at(root.path(), "bus"), offset, bytes);
        let opened = Bus::builder("b").root(root.path()).open_or_create();
        assert_error!(
            opened,
            OpenError::Scribbled { .. },
            "is damaged",
            "create it anew"
        );
        Bus::remove_bus("b", Some(root.path()), false).unwrap();
        drop(bus_in(root.path()));
    }
}

#[test]
fn a_file_copied_from_another_bus_or_another_boot_is_told_apart() {
    let (root, other) = (root(), root());
    let (bus, origin) = (bus_in(root.path()), bus_in(other.path()));
    origin.channel("c").create().unwrap();
    fs::copy(at(other.path(), "objects/c"), at(root.path(), "objects/c")).unwrap();
    assert_error!(
        bus.channel("c").open(),
        OpenError::OtherBus { .. },
        "belongs to another bus",
        "create it anew"
    );
    bus.remove("c").unwrap();
    bus.channel("c").create().unwrap();
    patch(&at(root.path(), "objects/c"), 32, &[0xAB; 16]);
    assert_error!(
        bus.channel("c").open(),
        OpenError::OtherBoot { .. },
        "before the last boot"
    );
}

#[test]
fn a_bus_from_before_the_boot_is_replaced_once_however_many_try() {
    for round in 0..6 {
        let root = root();
        let bus = bus_in(root.path());
        bus.channel("old").create().unwrap();
        drop(bus);
        patch(&at(root.path(), "bus"), 32, &[round; 16]);
        let opened = Bus::builder("b").root(root.path()).open();
        assert_error!(
            opened,
            OpenError::OtherBoot { .. },
            "before the last boot",
            "open_or_create"
        );
        let board = AckBoard::new(8).unwrap();
        let launch = Launch::role("replace")
            .board("board", &board)
            .set("root", root.path().display());
        let mut children: Vec<_> = (0..6).map(|_| launch.spawn().unwrap()).collect();
        for child in &children {
            board
                .await_at_least(0, 6, child, "everybody at the line")
                .unwrap();
        }
        board.set(1, 1);
        children
            .iter_mut()
            .for_each(|child| child.wait_success().unwrap());
        let [replaced, created, opened] = [2, 3, 4].map(|index| board.get(index));
        assert_eq!(
            (replaced, created, opened),
            (1, 0, 5),
            "replaced, created, opened"
        );
        // All of them met on one bus, and nothing else is left.
        assert_eq!(board.get(5), 6, "participants seen by the last one");
        let left: Vec<_> = fs::read_dir(root.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["ringway-b"]);
    }
}

fn replace(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    board.add(0, 1);
    while board.get(1) == 0 {
        std::hint::spin_loop();
    }
    let bus = Bus::builder("b")
        .root(stage.path("root"))
        .open_or_create()
        .map_err(|e| e.to_string())?;
    let index = match bus.origin() {
        Origin::ReplacedAfterBoot => 2,
        Origin::Created => 3,
        Origin::Opened => 4,
    };
    board.add(index, 1);
    // Nobody leaves before everybody is in.
    board.add(6, 1);
    while board.get(6) < 6 {
        std::thread::yield_now();
    }
    let here = bus.participants().map_err(|e| e.to_string())?.len() as u64;
    board[5].fetch_max(here, std::sync::atomic::Ordering::SeqCst);
    board.add(7, 1);
    while board.get(7) < 6 {
        std::thread::yield_now();
    }
    if bus.objects().map_err(|e| e.to_string())?.is_empty() {
        Ok(())
    } else {
        Err("old objects".into())
    }
}

// ---------------------------------------------------------------- space and rights

/// A small tmpfs of its own, unmounted with its guard.
struct Mounted(TempBus);

impl Mounted {
    fn tmpfs(options: &str) -> Aid<Mounted> {
        let point = root();
        let target = std::ffi::CString::new(point.path().to_str().unwrap()).unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        // SAFETY: C strings that outlive the call.
        let answer = unsafe {
            libc::mount(
                c"ringway-test".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                options.as_ptr().cast(),
            )
        };
        Self::mounted(answer, point)
    }

    fn bind(source: &Path) -> Aid<Mounted> {
        let point = root();
        let text = |path: &Path| std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let (source, target) = (text(source), text(point.path()));
        // SAFETY: C strings that outlive the call; a bind mount takes no type and no data.
        let answer = unsafe {
            libc::mount(
                source.as_ptr(),
                target.as_ptr(),
                std::ptr::null(),
                libc::MS_BIND,
                std::ptr::null(),
            )
        };
        Self::mounted(answer, point)
    }

    #[allow(clippy::self_named_constructors)] // a verb here: it answers whether it was mounted
    fn mounted(answer: i32, point: TempBus) -> Aid<Mounted> {
        match answer {
            0 => Aid::Ready(Mounted(point)),
            _ => Aid::Skipped(format!("mount: {}", std::io::Error::last_os_error())),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let target = std::ffi::CString::new(self.0.path().to_str().unwrap()).unwrap();
        // SAFETY: a C string that outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn a_full_file_system_says_how_much_is_needed_and_how_much_is_there() {
    let Some(small) = Mounted::tmpfs("size=2m").or_announce("no space") else {
        return;
    };
    let filler = File::create(small.path().join("filler")).unwrap();
    filler.write_all_at(&vec![1; 1_700_000], 0).unwrap();
    let created = Bus::builder("b").root(small.path()).create();
    let error = says(
        created,
        &[
            "no space for",
            "532480 bytes needed",
            "available",
            "choose smaller sizes",
        ],
    );
    assert!(
        matches!(error, OpenError::NoSpace { needed: 532_480, available, .. } if available < 532_480),
        "{error:?}"
    );
    let left: Vec<_> = fs::read_dir(small.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["filler"], "a failed creation leaves nothing");

    filler.set_len(0).unwrap();
    let bus = Bus::builder("b")
        .root(small.path())
        .pool_bytes(1 << 30)
        .create()
        .unwrap();
    let created = bus.channel("big").slots(65_536).create();
    let error = says(created, &["no space for", "bytes needed", "available"]);
    assert!(matches!(error, OpenError::NoSpace { .. }), "{error:?}");
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    let error = says(
        producer.try_send(&[1; 5000]),
        &["no space for another pool segment", "bytes needed"],
    );
    assert!(
        matches!(error, SendError::NoSpace { needed, available } if needed > available),
        "{error:?}"
    );
    // No page is missing: with the file system full to the last byte, every slot can be written.
    let left = rustix::fs::statvfs(small.path()).unwrap();
    let mut offset = 0;
    while filler.write_all_at(&[1; 4096], offset).is_ok() {
        offset += 4096;
    }
    assert!(offset >= left.f_bavail * left.f_frsize / 2);
    let mut buffer = [0; 96];
    for i in 0..5000u64 {
        producer.try_send(&i.to_le_bytes()).unwrap();
        assert!(reader.try_read(&mut buffer).unwrap().is_some());
    }
    let sibling = Bus::builder("b").root(small.path()).open().unwrap();
    assert!(sibling.doctor(true).unwrap().is_clean());
    assert!(
        bus.objects()
            .unwrap()
            .iter()
            .all(|object| object.name == "c")
    );
}

#[test]
fn a_queue_that_finds_no_room_to_grow_says_so_and_goes_on_with_what_it_has() {
    let Some(small) = Mounted::tmpfs("size=4m").or_announce("growth on a full file system") else {
        return;
    };
    let bus = Bus::builder("b").root(small.path()).create().unwrap();
    let builder = bus.queue("q").slots(1024).stride(64).max_bytes(1 << 30);
    let queue = builder.create().unwrap();
    let filler = File::create(small.path().join("filler")).unwrap();
    let mut offset = 0;
    while filler.write_all_at(&[1; 4096], offset).is_ok() {
        offset += 4096;
    }
    let mut sender = queue.sender().unwrap();
    for number in 0..1024u64 {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    let error = says(
        sender.send(&[0; 8]),
        &[
            "no space for",
            "ring of the queue",
            "bytes needed",
            "available",
        ],
    );
    assert!(
        matches!(error, QueueSendError::NoSpace { needed, available } if needed > available),
        "{error:?}"
    );
    assert_eq!(queue.stats().rings, 1);
    let objects = small.path().join("ringway-b/objects");
    assert_eq!(
        fs::read_dir(objects).unwrap().count(),
        1,
        "nothing is left of it"
    );
    // It is not sealed: what is deleted makes room.
    let mut receiver = queue.receiver().unwrap();
    let mut buffer = [0; 8];
    receiver.receive_and_delete(&mut buffer).unwrap().unwrap();
    sender.send(&1024u64.to_le_bytes()).unwrap();
    filler.set_len(0).unwrap();
    while let Err(error) = sender.send(&1025u64.to_le_bytes()) {
        // As long as the refusal is remembered.
        assert!(matches!(error, QueueSendError::NoSpace { .. }), "{error:?}");
    }
    assert_eq!(queue.stats().rings, 2);
    for number in 1..1026u64 {
        receiver.receive_and_delete(&mut buffer).unwrap().unwrap();
        assert_eq!(u64::from_le_bytes(buffer), number);
    }
}

#[test]
fn a_sparse_copy_on_a_full_file_system_is_refused_and_faults_nobody() {
    let Some(small) = Mounted::tmpfs("size=4m").or_announce("sparse file") else {
        return;
    };
    let bus = Bus::builder("b").root(small.path()).create().unwrap();
    bus.channel("c").slots(1024).create().unwrap();
    let path = small.path().join("ringway-b/objects/c");
    // What a copy that "saves space" does: the same bytes, but holes for zeroes.
    let bytes = fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_all_at(&bytes[..4096], 0).unwrap();
    let filler = File::create(small.path().join("filler")).unwrap();
    let mut offset = 0;
    while filler.write_all_at(&[1; 4096], offset).is_ok() {
        offset += 4096;
    }
    let error = says(bus.channel("c").open(), &["objects/c"]);
    assert!(
        matches!(error, OpenError::NoSpace { .. } | OpenError::Io { .. }),
        "{error:?}"
    );
    filler.set_len(0).unwrap();
    bus.channel("c").open().unwrap();
}

#[test]
fn who_may_not_write_is_told_whom_to_ask() {
    let root = root();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    let bus = bus_in(root.path());
    bus.channel("c").create().unwrap();
    for (mode, verdict) in [(0o600, "permission"), (0o666, "works")] {
        let bus = Bus::builder("n")
            .root(root.path())
            .mode(mode)
            .pool_bytes(8 << 20)
            .create()
            .unwrap();
        let launch = Launch::role("intrude")
            .set("root", root.path().display())
            .set("verdict", verdict);
        let Some(mut nobody) = liveness::as_nobody(&launch)
            .unwrap()
            .or_announce("permission")
        else {
            return;
        };
        nobody.wait_success().unwrap();
        drop(bus);
        Bus::remove_bus("n", Some(root.path()), true).unwrap();
    }
}

fn intrude(stage: &Stage) -> Result<(), String> {
    let root = stage.path("root");
    let opened = Bus::builder("n").root(&root).open();
    // The root belongs to somebody else: nothing can be created there.
    assert_error!(
        Bus::builder("mine").root(&root).create(),
        OpenError::Permission { .. },
        "no permission",
        "Builder::mode"
    );
    if stage.text("verdict") == "permission" {
        assert_error!(
            opened,
            OpenError::Permission { .. },
            "no permission",
            "Builder::mode",
            "Builder::group"
        );
        let opened = Bus::builder("n").root(&root).open_or_create();
        assert_error!(opened, OpenError::Permission { .. }, "no permission");
        let removed = Bus::remove_bus("n", Some(&root), true);
        assert_error!(removed, OpenError::Permission { .. }, "no permission");
        return Ok(());
    }
    let bus = opened.map_err(|e| e.to_string())?;
    let channel = bus
        .channel("c")
        .open_or_create()
        .map_err(|e| e.to_string())?;
    let mut reader = channel.reader().join().map_err(|e| e.to_string())?;
    channel
        .producer()
        .unwrap()
        .try_send(&[5; 5000])
        .map_err(|e| e.to_string())?;
    let read = reader.try_read(&mut [0; 5000]).map_err(|e| e.to_string())?;
    assert_eq!(read.map(|record| record.len), Some(5000));
    Ok(())
}

#[test]
fn mode_and_group_are_what_was_asked_for_whatever_the_umask() {
    for umask in [0o077, 0o000, 0o777, 0o022] {
        for mode in [0o600, 0o660, 0o666, 0o640] {
            let root = root();
            let launch = Launch::role("mask")
                .set("root", root.path().display())
                .set("umask", umask)
                .set("mode", mode);
            launch.spawn().unwrap().wait_success().unwrap();
            for file in ["bus", "objects/c", "pool/00000"] {
                let meta = fs::metadata(at(root.path(), file)).unwrap();
                assert_eq!(meta.mode() & 0o7777, mode, "{file} under umask {umask:o}");
            }
            // Set-group-id: what others create inside belongs to the same group.
            let searchable = 0o2000 | mode | (mode & 0o444) >> 2 | 0o100;
            for directory in ["", "objects", "pool"] {
                let meta = fs::metadata(at(root.path(), directory)).unwrap();
                assert_eq!(
                    meta.mode() & 0o7777,
                    searchable,
                    "{directory:?} under umask {umask:o}"
                );
            }
        }
    }
    // SAFETY: geteuid takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        return Aid::<()>::Skipped("another group needs root".into())
            .or_announce("group")
            .unwrap_or(());
    }
    let root = root();
    let bus = Bus::builder("b")
        .root(root.path())
        .mode(0o660)
        .group(65534)
        .pool_bytes(8 << 20)
        .create()
        .unwrap();
    bus.channel("c")
        .create()
        .unwrap()
        .producer()
        .unwrap()
        .try_send(&[0; 5000])
        .unwrap();
    for file in ["", "bus", "objects", "objects/c", "pool", "pool/00000"] {
        assert_eq!(
            fs::metadata(at(root.path(), file)).unwrap().gid(),
            65534,
            "{file}"
        );
    }
}

fn mask(stage: &Stage) -> Result<(), String> {
    // SAFETY: umask takes an integer.
    unsafe { libc::umask(stage.get("umask")) };
    let bus = Bus::builder("b")
        .root(stage.path("root"))
        .mode(stage.get("mode"))
        .pool_bytes(8 << 20);
    let bus = bus.create().map_err(|e| e.to_string())?;
    let channel = bus.channel("c").create().map_err(|e| e.to_string())?;
    channel
        .producer()
        .unwrap()
        .try_send(&[1; 5000])
        .map(drop)
        .map_err(|e| e.to_string())
}

// ---------------------------------------------------------------- handles that went stale

#[test]
fn a_forked_child_is_told_to_open_the_bus_again() {
    let root = root();
    let launch = Launch::role("fork").set("root", root.path().display());
    launch.spawn().unwrap().wait_success().unwrap();
}

fn fork(stage: &Stage) -> Result<(), String> {
    let root = stage.path("root");
    let bus = bus_in(&root);
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    producer.try_send(b"before").unwrap();
    producer.try_send(b"before too").unwrap();
    let view = reader.try_view_pinned().unwrap().unwrap();
    let loan = producer.loan(5000).unwrap();
    // SAFETY: this process has one thread; the child only runs the checks below.
    match unsafe { libc::fork() } {
        0 => {
            let advice = ["made before a fork", "open the bus again"];
            let told = |message: String| {
                advice
                    .iter()
                    .for_each(|part| assert!(message.contains(part), "{message}"))
            };
            macro_rules! forked {
                ($result:expr, $kind:ident) => {
                    match $result {
                        Err(error @ $kind::Forked) => told(error.to_string()),
                        Err(error) => panic!("{error:?}"),
                        Ok(_) => panic!("it worked in the child: {}", stringify!($result)),
                    }
                };
            }
            forked!(bus.participants(), OpenError);
            forked!(bus.objects(), OpenError);
            forked!(bus.reap(), OpenError);
            forked!(bus.doctor(false), OpenError);
            forked!(bus.remove("c"), OpenError);
            forked!(bus.channel("c").open(), OpenError);
            forked!(bus.channel("d").create(), OpenError);
            assert!(bus.participant(bus.me()).is_none());
            forked!(channel.producer(), JoinError);
            forked!(channel.reader().join(), JoinError);
            forked!(producer.try_send(b"x"), SendError);
            forked!(producer.send(b"x", Duration::ZERO), SendError);
            forked!(producer.try_send(&[0; 5000]), SendError);
            forked!(producer.try_send_with(4, |_| ()), SendError);
            forked!(producer.try_send_batch(&[b"x"]), SendError);
            forked!(producer.loan(5000), SendError);
            forked!(
                producer.try_send_loan(loan).map_err(|(error, _)| error),
                SendError
            );
            forked!(reader.try_read(&mut [0; 96]), ReadError);
            forked!(reader.try_view().map(|_| ()), ReadError);
            forked!(reader.try_view_pinned().map(|_| ()), ReadError);
            forked!(reader.read_batch(4, |_, _| ()), ReadError);
            forked!(reader.wait(Duration::ZERO), ReadError);
            drop((view, reader, producer, channel, bus));
            // A bus of the child's own works beside what it inherited.
            let own = Bus::builder("b").root(&root).open().unwrap();
            own.channel("c")
                .open()
                .unwrap()
                .producer()
                .unwrap()
                .try_send(b"from the child")
                .unwrap();
            std::process::exit(0);
        }
        child => {
            let mut status = 0;
            // SAFETY: our child and a valid status word.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child failed");
        }
    }
    // Nothing the child did touched the parent's handles.
    assert_eq!(&view[..], b"before");
    let mut buffer = [0; 96];
    for expected in [&b"before too"[..], b"from the child"] {
        let record = reader.try_read(&mut buffer).unwrap().expect("a record");
        assert_eq!(&buffer[..record.len], expected);
    }
    producer
        .try_send_loan(loan)
        .map_err(|(error, _)| error.to_string())
        .map(drop)
}

#[test]
fn a_file_deleted_or_replaced_under_a_handle_is_noticed() {
    let replace = |path: &Path| {
        fs::copy(path, path.with_extension("copy")).unwrap();
        fs::rename(path.with_extension("copy"), path).unwrap();
    };
    let delete = |path: &Path| fs::remove_file(path).unwrap();
    for (what, harm) in [
        ("deleted", &delete as &dyn Fn(&Path)),
        ("replaced", &replace),
    ] {
        let root = root();
        let bus = bus_in(root.path());
        let channel = bus.channel("c").slots(1024).create().unwrap();
        let mut reader = channel.reader().join().unwrap();
        let mut producer = channel.producer().unwrap();
        harm(&at(root.path(), "objects/c"));
        let advice = "deleted or replaced outside ringway; open the channel again";
        assert_error!(channel.producer(), JoinError::Unlinked, advice);
        assert_error!(channel.reader().join(), JoinError::Unlinked, advice);
        assert_error!(
            reader.wait(Duration::from_secs(60)),
            ReadError::Unlinked,
            advice
        );
        // A producer looks at the file system only while it is refused.
        let refused = (0..1_000_000).find_map(|_| match producer.try_send(b"x") {
            Err(SendError::Full { .. }) | Ok(_) => None,
            other => Some(other),
        });
        assert_error!(
            refused.unwrap_or_else(|| panic!("never noticed that it was {what}")),
            SendError::Unlinked,
            advice
        );
    }
}

#[test]
fn a_removed_channel_says_so_to_everybody_who_has_it_open() {
    let root = root();
    let (bus, remover) = (
        bus_in(root.path()),
        Bus::builder("b").root(root.path()).open().unwrap(),
    );
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut producer = channel.producer().unwrap();
    let mut spinner = channel.reader().idle(ringway::Idle::Spin).join().unwrap();
    let mut sleeper = channel.reader().idle(ringway::Idle::Park).join().unwrap();
    let remove = std::sync::Barrier::new(3);
    let wait = |reader: &mut ringway::Reader| {
        remove.wait();
        reader.wait(Duration::from_secs(600)).map(drop)
    };
    std::thread::scope(|scope| {
        let spinning = scope.spawn(|| wait(&mut spinner));
        let sleeping = scope.spawn(|| wait(&mut sleeper));
        remove.wait();
        remover.remove("c").unwrap();
        for thread in [spinning, sleeping] {
            // Woken by the removal it looks ready, and the next look tells; or it is told at once.
            if let Err(error) = thread.join().unwrap() {
                assert!(matches!(error, ReadError::Removed), "{error:?}");
            }
        }
    });
    let advice = "has been removed; open or create it again";
    assert_error!(spinner.try_read(&mut [0; 96]), ReadError::Removed, advice);
    assert_error!(sleeper.try_view().map(|_| ()), ReadError::Removed, advice);
    assert_error!(sleeper.read_batch(9, |_, _| ()), ReadError::Removed, advice);
    assert_error!(channel.producer(), JoinError::Removed, advice);
    assert_error!(channel.reader().join(), JoinError::Removed, advice);
    let refused = (0..2000).find_map(|_| producer.try_send(b"x").err());
    assert!(matches!(refused, Some(SendError::Removed)), "{refused:?}");
    assert_error!(
        bus.channel("c").open(),
        OpenError::NotFound { .. },
        "does not exist"
    );
}

#[test]
fn a_removal_that_died_half_way_is_finished_by_the_next() {
    let root = root();
    let bus = bus_in(root.path());
    for way in 0..3 {
        bus.channel("c").create().unwrap();
        patch(
            &at(root.path(), "objects/c"),
            12,
            &0x0DEA_D0B1u32.to_le_bytes(),
        );
        assert_error!(
            bus.channel("c").open(),
            OpenError::Removed { .. },
            "has been removed"
        );
        match way {
            0 => drop(bus.channel("c").open_or_create().unwrap()),
            1 => assert!(bus.doctor(true).is_ok()),
            _ => bus.remove("c").unwrap(),
        }
        if way > 0 {
            assert!(bus.objects().unwrap().is_empty(), "way {way}");
        } else {
            bus.remove("c").unwrap();
        }
    }
}

#[test]
fn a_bus_in_use_is_removed_only_by_force_and_then_tells_its_users() {
    let root = root();
    let bus = bus_in(root.path());
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    let removed = Bus::remove_bus("b", Some(root.path()), false);
    let error = says(
        removed,
        &["in use by 1 live participants", "stop them, or force"],
    );
    assert!(
        matches!(
            error,
            OpenError::InUse {
                participants: 1,
                ..
            }
        ),
        "{error:?}"
    );
    producer.try_send(b"still here").unwrap();
    assert!(reader.try_read(&mut [0; 96]).unwrap().is_some());
    Bus::remove_bus("b", Some(root.path()), true).unwrap();
    assert_error!(
        reader.try_read(&mut [0; 96]),
        ReadError::Removed,
        "has been removed"
    );
    assert!((0..2000).any(|_| matches!(producer.try_send(b"x"), Err(SendError::Removed))));
    assert_error!(
        Bus::builder("b").root(root.path()).open(),
        OpenError::NotFound { .. },
        "does not exist"
    );
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    bus_in(root.path());
}

#[test]
fn a_bus_marked_removed_in_mid_removal_is_reported_and_recreated() {
    let root = root();
    drop(bus_in(root.path()));
    patch(&at(root.path(), "bus"), 12, &0x0DEA_D0B1u32.to_le_bytes());
    assert_error!(
        Bus::builder("b").root(root.path()).open(),
        OpenError::Removed { .. },
        "has been removed"
    );
    Bus::remove_bus("b", Some(root.path()), false).unwrap();
    bus_in(root.path());
}

#[test]
fn a_handle_whose_entry_was_given_away_is_stale() {
    let root = root();
    let bus = bus_in(root.path());
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    // The reader entry freed by somebody's hand: word at the start of the reader table.
    patch(&at(root.path(), "objects/c"), 8192, &7u64.to_le_bytes());
    assert_error!(
        reader.wait(Duration::from_secs(60)),
        ReadError::Stale,
        "given to somebody else",
        "join again"
    );
    let mut reader = channel.reader().join().unwrap();
    // The participant's word freed the same way.
    patch(
        &at(root.path(), "bus"),
        8192 + 512 * u64::from(bus.me().0),
        &7u64.to_le_bytes(),
    );
    assert_error!(
        reader.wait(Duration::from_secs(60)),
        ReadError::Stale,
        "join again"
    );
    let refused = (0..5000).find_map(|_| match producer.try_send(b"x") {
        Err(SendError::Full { .. }) | Ok(_) => None,
        Err(other) => Some(other),
    });
    let refused = refused.expect("it must notice");
    assert!(matches!(refused, SendError::Stale), "{refused:?}");
    assert!(
        refused.to_string().contains("open the bus again"),
        "{refused}"
    );
}

// ---------------------------------------------------------------- joining, sending, reading

#[test]
fn joining_too_many_or_as_the_wrong_kind_is_refused() {
    let root = root();
    let bus = bus_in(root.path());
    let channel = bus.channel("c").readers(3).slots(1024).create().unwrap();
    let readers: Vec<_> = (0..3).map(|_| channel.reader().join().unwrap()).collect();
    assert_error!(
        channel.reader().join(),
        JoinError::TooManyReaders { limit: 3 },
        "all 3 reader entries",
        "more readers"
    );
    drop(readers);
    channel.reader().join().unwrap();
    let lossy = bus
        .channel("l")
        .overflow(Overflow::DropOldest)
        .create()
        .unwrap();
    assert_error!(
        lossy.reader().reliable().join(),
        JoinError::NotReliable,
        "lossy reader",
        "Overflow::Refuse"
    );
    let alone = bus
        .channel("e")
        .producers(Producers::Exclusive)
        .create()
        .unwrap();
    let first = alone.producer().unwrap();
    let by = bus.me();
    assert_error!(alone.producer(), JoinError::Busy { by: who } if who == by, &by.to_string(), "close or die first");
    drop(first);
    alone.producer().unwrap();
}

#[test]
fn sending_too_much_says_what_stands_in_the_way() {
    let root = root();
    let bus = bus_in(root.path());
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    let me = bus.me();
    for _ in 0..1024 {
        producer.try_send(b"x").unwrap();
    }
    assert_error!(producer.try_send(b"x"), SendError::Full { by: Some(by) } if by == me, "held by", "read on");
    assert_error!(
        producer.try_send_batch(&[b"x"]),
        SendError::Full { .. },
        "the channel is full"
    );
    assert_error!(producer.send(b"x", Duration::from_millis(200)), SendError::Stalled { by } if by == me, "has not moved", "continue it, kill it");
    assert_error!(
        producer.send(b"x", Duration::ZERO),
        SendError::Full { .. },
        "the channel is full"
    );
    assert_eq!(reader.read_batch(2000, |_, _| ()).unwrap(), 1024);
    assert_error!(
        producer.try_send_with(97, |_| ()),
        SendError::TooLarge { len: 97, max: 96 },
        "97 bytes",
        "the 96",
        "larger pool"
    );
    assert_error!(
        producer.loan((1 << 40) + 1),
        SendError::TooLarge { .. },
        "1099511627777 bytes"
    );
    assert_error!(
        producer.loan(usize::MAX),
        SendError::TooLarge { .. },
        "more than"
    );
    let loans: Vec<_> = std::iter::from_fn(|| producer.loan(900_000).ok()).collect();
    let error = assert_error!(
        producer.loan(900_000),
        SendError::PoolExhausted { .. },
        "payload pool is used up",
        "900000 bytes needed",
        "larger pool"
    );
    assert!(
        matches!(error, SendError::PoolExhausted { used, quota, .. } if used <= quota && quota == 8 << 20),
        "{error:?}"
    );
    assert!(loans.len() >= 4, "{}", loans.len());
    drop(loans);
    producer.loan(900_000).unwrap();
    // A loan of another bus comes back.
    let other = root_with_bus();
    let foreign = other
        .1
        .channel("c")
        .create()
        .unwrap()
        .producer()
        .unwrap()
        .loan(600)
        .unwrap();
    let (error, loan) = producer.try_send_loan(foreign).expect_err("refused");
    assert!(
        matches!(&error, SendError::Pool(_)) && error.to_string().contains("another bus"),
        "{error}"
    );
    assert_eq!(loan.len(), 600);
}

fn root_with_bus() -> (TempBus, Bus) {
    let root = root();
    let bus = bus_in(root.path());
    (root, bus)
}

#[test]
fn a_damaged_pool_or_ring_is_named_and_nothing_is_sent() {
    let (root, bus) = root_with_bus();
    let channel = bus.channel("c").slots(1024).create().unwrap();
    channel.producer().unwrap().try_send(&[1; 5000]).unwrap();
    patch(&at(root.path(), "pool/00000"), 0, b"SCRIBBLE");
    let late = Bus::builder("b").root(root.path()).open().unwrap();
    let late = late.channel("c").open().unwrap();
    let mut producer = late.producer().unwrap();
    assert_error!(
        producer.loan(5000),
        SendError::Pool(_),
        "pool/00000 is damaged"
    );
    assert_error!(
        producer.try_send(&[0; 5000]),
        SendError::Pool(_),
        "can't be used"
    );
    let sent = producer.try_send(b"inline still works").unwrap();
    assert_eq!(sent, 1);
    // The slot of the next position says that it was claimed in a lap that nobody can reach.
    let next = 8192 + 64 * 256 + 128 * (sent + 1);
    patch(
        &at(root.path(), "objects/c"),
        next,
        &((2u64 << 62) | ((1 << 52) - 7)).to_le_bytes(),
    );
    assert_error!(
        producer.try_send(b"x"),
        SendError::Corrupt { .. },
        "corrupt near position",
        "wrote over it",
        "create it anew"
    );
}

#[test]
fn a_segment_whose_chunks_have_no_class_is_damaged() {
    let (root, bus) = root_with_bus();
    let channel = bus.channel("c").slots(1024).create().unwrap();
    channel.producer().unwrap().try_send(&[1; 5000]).unwrap();
    let path = at(root.path(), "pool/00000");
    let header = fs::read(&path).unwrap();
    let word = |offset: usize| u64::from_le_bytes(header[offset..offset + 8].try_into().unwrap());
    let (chunk_bytes, data_offset, len) = (word(64), word(72), word(80));
    assert_eq!((chunk_bytes, len), (8192, header.len() as u64));
    // Everything adds up to the length of the file; only the size is none that is ever lent.
    let odd = chunk_bytes + 64;
    let chunks = (len - data_offset) / odd;
    patch(&path, 64, &odd.to_le_bytes());
    patch(&path, 72, &(len - chunks * odd).to_le_bytes());
    patch(&path, 88, &(chunks as u32).to_le_bytes());
    let late = Bus::builder("b").root(root.path()).open().unwrap();
    let mut producer = late.channel("c").open().unwrap().producer().unwrap();
    assert_error!(
        producer.loan(5000),
        SendError::Pool(_),
        "pool/00000 is damaged"
    );
}

#[test]
fn reading_says_what_was_missed_what_is_too_small_and_what_is_damaged() {
    let (root, bus) = root_with_bus();
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    producer.try_send(&[7; 96]).unwrap();
    for given in [0, 95] {
        let read = reader.try_read(&mut vec![0; given]);
        assert_error!(read, ReadError::BufferTooSmall { needed: 96, given: g } if g == given, "has 96 bytes", "a larger one");
    }
    assert_eq!(
        reader.try_read(&mut [0; 96]).unwrap().map(|r| r.position),
        Some(0)
    );
    for _ in 0..16 {
        producer.try_send(b"v").unwrap();
    }
    let views: Vec<_> = (0..14)
        .map(|_| reader.try_view_pinned().unwrap().unwrap())
        .collect();
    assert_error!(
        reader.try_view_pinned().map(|_| ()),
        ReadError::TooManyViews { limit: 14 },
        "14 views are open",
        "drop one"
    );
    drop(views);
    assert!(reader.try_view_pinned().unwrap().is_some());
    // A record whose kind nobody knows: damage, and the next one is read.
    let slot = 8192 + 64 * 256 + 128 * reader.position();
    patch(&at(root.path(), "objects/c"), slot + 24, &[9; 8]);
    let position = reader.position();
    assert_error!(reader.try_read(&mut [0; 96]), ReadError::Corrupt { position: p } if p == position, "corrupt near position", "wrote over it");
    assert_eq!(channel.stats().damaged, 1);
    producer.try_send(b"next").unwrap();
    assert_eq!(
        reader.try_read(&mut [0; 96]).unwrap().map(|r| r.position),
        Some(position + 1)
    );
    let launch = Launch::role("lag").set("root", root.path().display());
    launch.spawn().unwrap().wait_success().unwrap();
}

/// In a process of its own, since what it guards against is a read that never returns.
fn lag(stage: &Stage) -> Result<(), String> {
    let bus = Bus::builder("b").root(stage.path("root")).open().unwrap();
    for producers in [Producers::Shared, Producers::Exclusive] {
        let channel = bus
            .channel("lossy")
            .slots(1024)
            .overflow(Overflow::DropOldest)
            .producers(producers);
        let channel = channel.create().unwrap();
        let mut producer = channel.producer().unwrap();
        let lossy = || channel.reader().start(Start::Earliest).join().unwrap();
        let mut readers = [lossy(), lossy(), lossy(), lossy()];
        for _ in 0..1024 {
            producer.try_send(b"x").unwrap();
        }
        let mut buffer = [0; 600];
        for reader in &mut readers {
            for _ in 0..10 {
                reader.try_read(&mut buffer).unwrap();
            }
        }
        // One more drops the oldest eighth, but overwrites only position 0.
        producer.try_send(b"x").unwrap();
        let [copying, viewing, pinning, batching] = &mut readers;
        let lagged = |error: ReadError| {
            let message = error.to_string();
            assert!(
                matches!(error, ReadError::Lagged { from: 10, to: 128 }),
                "{error:?}"
            );
            assert!(
                message.contains("missed positions 10 to 127")
                    && message.contains("goes on at 128"),
                "{message}"
            );
        };
        lagged(viewing.try_view().map(|_| ()).expect_err("dropped"));
        lagged(pinning.try_view_pinned().map(|_| ()).expect_err("dropped"));
        lagged(batching.read_batch(5, |_, _| ()).expect_err("dropped"));
        // A copy may still have it, or be told.
        match copying.try_read(&mut buffer) {
            Ok(record) => assert_eq!(record.map(|r| r.position), Some(10)),
            Err(error) => lagged(error),
        }
        for reader in &mut [viewing, pinning, batching] {
            assert_eq!(
                reader
                    .try_view()
                    .unwrap()
                    .map(|view| view.record().position),
                Some(128)
            );
        }
        drop((readers, producer, channel));
        bus.remove("lossy").unwrap();
    }
    // Payloads that a producer under pressure has taken back are gone, and the reader is told.
    let channel = bus
        .channel("heavy")
        .slots(1024)
        .overflow(Overflow::DropOldest)
        .create()
        .unwrap();
    let mut producer = channel.producer().unwrap();
    let mut reader = channel.reader().start(Start::Earliest).join().unwrap();
    let mut sent = 0;
    while sent < 200 && producer.try_send(&vec![sent as u8; 300_000]).is_ok() {
        sent += 1;
    }
    let mut buffer = vec![0; 300_000];
    let (mut seen, mut missed) = (0, 0);
    loop {
        match reader.try_read(&mut buffer) {
            Ok(Some(record)) => {
                assert!(
                    buffer.iter().all(|b| *b == record.position as u8),
                    "position {}",
                    record.position
                );
                seen += 1;
            }
            Ok(None) => break,
            Err(ReadError::Lagged { from, to }) => missed += to - from,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(seen + missed, sent);
    assert!(missed > 0, "8 MiB held {sent} payloads of 300 kB");
    Ok(())
}

// ---------------------------------------------------------------- places

#[test]
fn the_root_comes_from_the_environment_unless_it_is_given() {
    let (root, other) = (root(), root());
    let launch = Launch::role("by_variable").env("RINGWAY_ROOT", root.path());
    launch
        .set("other", other.path().display())
        .spawn()
        .unwrap()
        .wait_success()
        .unwrap();
    assert!(root.path().join("ringway-v/bus").exists());
    assert!(other.path().join("ringway-v/bus").exists());
    let left = Path::new("/dev/shm/ringway-v");
    assert!(!left.exists());
}

fn by_variable(stage: &Stage) -> Result<(), String> {
    let here = Bus::open_or_create("v").map_err(|e| e.to_string())?;
    let there = Bus::builder("v")
        .root(stage.path("other"))
        .create()
        .map_err(|e| e.to_string())?;
    let root = std::env::var_os("RINGWAY_ROOT").expect("set");
    assert_eq!(here.directory(), Path::new(&root).join("ringway-v"));
    assert_eq!(there.directory(), stage.path("other").join("ringway-v"));
    assert_eq!(
        Bus::open("v")
            .map_err(|e| e.to_string())?
            .participants()
            .unwrap()
            .len(),
        2
    );
    Ok(())
}

/// Two processes' worth of use over two paths to the same bus.
fn exchange(one: &Path, other: &Path) {
    let bus = bus_in(one);
    let channel = bus.channel("c").create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let launch = Launch::role("guest")
        .set("root", other.display())
        .set("host", bus.me().0);
    launch.spawn().unwrap().wait_success().unwrap();
    let mut buffer = vec![0; 5000];
    for len in [3, 5000] {
        assert_eq!(
            reader
                .try_read(&mut buffer)
                .unwrap()
                .map(|record| record.len),
            Some(len)
        );
    }
    drop((reader, channel, bus));
    Bus::remove_bus("b", Some(other), false).unwrap();
}

fn guest(stage: &Stage) -> Result<(), String> {
    let bus = Bus::builder("b")
        .root(stage.path("root"))
        .open()
        .map_err(|e| e.to_string())?;
    let host = ringway::ParticipantId(stage.get("host"));
    assert!(bus.participant(host).expect("it is there").alive);
    let mut producer = bus.channel("c").open().unwrap().producer().unwrap();
    producer.try_send(b"hey").unwrap();
    producer
        .try_send(&[1; 5000])
        .map(drop)
        .map_err(|e| e.to_string())
}

#[test]
fn a_bus_lies_on_any_tmpfs_and_is_reached_through_a_bind_mount() {
    let Some(tmpfs) = Mounted::tmpfs("size=64m").or_announce("another tmpfs") else {
        return;
    };
    exchange(tmpfs.path(), tmpfs.path());
    let Some(bound) = Mounted::bind(tmpfs.path()).or_announce("bind mount") else {
        return;
    };
    exchange(tmpfs.path(), bound.path());
    exchange(bound.path(), tmpfs.path());
}

#[test]
fn a_bus_lies_on_a_disk() {
    let root = TempBus::under(
        std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or(env!("CARGO_TARGET_TMPDIR").into()),
    )
    .unwrap();
    exchange(root.path(), root.path());
}

#[test]
fn a_symbolic_link_in_the_place_of_a_file_is_refused() {
    let (root, elsewhere) = (root(), root());
    let (bus, decoy) = (bus_in(root.path()), bus_in(elsewhere.path()));
    decoy.channel("c").create().unwrap();
    symlink(
        at(elsewhere.path(), "objects/c"),
        at(root.path(), "objects/c"),
    )
    .unwrap();
    says(bus.channel("c").open(), &["objects/c", "symbolic link"]);
    says(
        bus.channel("c").open_or_create(),
        &["objects/c", "symbolic link"],
    );
    assert_error!(
        bus.channel("c").create(),
        OpenError::AlreadyExists { .. },
        "exists already"
    );
    drop(bus);
    fs::rename(at(root.path(), "bus"), at(root.path(), "real")).unwrap();
    symlink(at(root.path(), "real"), at(root.path(), "bus")).unwrap();
    says(
        Bus::builder("b").root(root.path()).open(),
        &["ringway-b/bus", "symbolic link"],
    );
    // A dangling link where a bus should be made is not followed either.
    symlink(
        elsewhere.path().join("nowhere"),
        root.path().join("ringway-d"),
    )
    .unwrap();
    assert_error!(
        Bus::builder("d").root(root.path()).create(),
        OpenError::AlreadyExists { .. },
        "exists already"
    );
    assert!(!elsewhere.path().join("nowhere").exists());
}

#[test]
fn a_stranger_among_the_objects_harms_only_itself() {
    let root = root();
    let bus = bus_in(root.path());
    bus.channel("c").create().unwrap();
    fs::create_dir(at(root.path(), "objects/directory")).unwrap();
    fs::write(at(root.path(), "objects/text"), "text").unwrap();
    symlink("/nowhere", at(root.path(), "objects/dangling")).unwrap();
    symlink(
        at(root.path(), "objects/c"),
        at(root.path(), "objects/link"),
    )
    .unwrap();
    let pipe = std::ffi::CString::new(at(root.path(), "objects/pipe").to_str().unwrap()).unwrap();
    // SAFETY: a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let other = Bus::builder("b").root(root.path()).open().unwrap();
    other.reap().unwrap();
    let report = other.doctor(true).unwrap();
    for name in ["directory", "text", "dangling", "link", "pipe"] {
        assert!(
            report.broken_objects.iter().any(|why| why.contains(name)),
            "{name}: {report:?}"
        );
        assert!(other.channel(name).open().is_err(), "{name}");
    }
    let mut reader = other.channel("c").open().unwrap().reader().join().unwrap();
    bus.channel("c")
        .open()
        .unwrap()
        .producer()
        .unwrap()
        .try_send(b"works")
        .unwrap();
    assert!(reader.try_read(&mut [0; 96]).unwrap().is_some());
    for name in ["text", "dangling", "link", "pipe"] {
        other
            .remove(name)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    drop((reader, bus, other));
    Bus::remove_bus("b", Some(root.path()), false).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn the_last_entry_is_given_and_the_next_participant_is_refused() {
    let root = root();
    let open = || Bus::builder("b").root(root.path()).open_or_create();
    // One of the 1,023 entries is kept for whoever has to sweep a full registry.
    let crowd: Vec<_> = (0..1022).map(|_| open().unwrap()).collect();
    assert_error!(
        open(),
        OpenError::TooManyParticipants { limit: 1022 },
        "all 1022 participant entries",
        "ringway doctor"
    );
    drop(crowd);
    open().unwrap();
}
