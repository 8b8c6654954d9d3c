//! The level between memory and disk: streams whose puts do not wait, and are on disk soon all the same. And what
//! whoever writes does beside writing: he says how far it is on disk, and waits for nobody who stands still.
//!
//! A restart of the machine is played by opening a copy of the journals.

use ringway::{
    Bus, Durability, GroupStart, OwnedRecord, ShardId, Stream, StreamBuilder, StreamIterator,
};
use ringway_harness::Machine;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NOW: Duration = Duration::ZERO;
/// Longer than anything takes that is waited for.
const HANGING: Duration = Duration::from_secs(60);

fn new_machine() -> Machine {
    Machine::under(env!("CARGO_TARGET_TMPDIR"))
}

fn attach(machine: &Machine) -> Bus {
    let builder = Bus::builder("bus").root(machine.memory());
    let builder = builder.journal_root(machine.disk());
    builder.open_or_create().unwrap()
}

/// What a process that lives and makes no step would leave in every shard: nobody writes for half a
/// second.
fn occupy_the_roles(machine: &Machine, by: &Bus) {
    const WRITING: u64 = 2;
    const PERSISTER: u64 = 7296;
    let role = WRITING << 62 | u64::from(by.me().0) << 52 | 1 << 40;
    for entry in std::fs::read_dir(machine.objects()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with(".shard-") {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&role.to_le_bytes(), PERSISTER).unwrap();
        }
    }
}

fn asynchronous(bus: &Bus) -> StreamBuilder {
    bus.stream("s").durability(Durability::Async).slots(1024)
}

fn put(stream: &Stream, numbers: core::ops::Range<u32>) {
    let mut producer = stream.producer().unwrap();
    for number in numbers {
        let key = format!("key-{}", number % 7);
        producer.put(&key, &number.to_le_bytes()).unwrap();
    }
}

fn number_of(record: &OwnedRecord) -> u32 {
    u32::from_le_bytes(record.data[..].try_into().unwrap())
}

/// The numbers of all records that are there.
fn numbers(stream: &Stream) -> Vec<u32> {
    let iterator = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(iterator).open().unwrap();
    let mut found = Vec::new();
    while reader
        .read_batch(1000, NOW, |record| {
            found.push(number_of(&record.to_owned()))
        })
        .unwrap()
        > 0
    {}
    found.sort_unstable();
    found
}

fn all(numbers: core::ops::Range<u32>) -> Vec<u32> {
    numbers.collect()
}

/// The file of the only shard of the only stream.
fn shard_file(machine: &Machine) -> PathBuf {
    let objects = machine.objects();
    let mut paths = std::fs::read_dir(objects)
        .unwrap()
        .map(|it| it.unwrap().path());
    let is_shard = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(".shard-")
    };
    paths.find(is_shard).unwrap()
}

/// Leaves what a process that lives leaves when it stops behind its claim at a position of the first lap.
fn leave_a_claim(file: &Path, position: u64, by: &Bus) {
    const CLAIMED: u64 = 1;
    const STRIDE_AND_SLOTS: u64 = 72;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut words = [0; 16];
    file.read_exact_at(&mut words, STRIDE_AND_SLOTS).unwrap();
    let word = |at: usize| u64::from_le_bytes(words[at..at + 8].try_into().unwrap());
    let ctl = CLAIMED << 62 | u64::from(by.me().0) << 52 | 1;
    file.write_all_at(&ctl.to_le_bytes(), word(8) + word(0) * position)
        .unwrap();
}

/// What `wait` returns, unless it hangs.
fn in_time<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(wait()));
    told.recv_timeout(HANGING).expect("it hangs")
}

/// Segments of all journals that are there.
fn segments(machine: &Machine) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![machine.disk()]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false if path.extension().is_some_and(|it| it == "segment") => found.push(path),
                false => {}
            }
        }
    }
    found
}

/// Changes many bits of the last block of a segment that holds anything.
fn damage_the_last_block(segment: &Path) {
    let bytes = std::fs::read(segment).unwrap();
    let is_block = |at: &usize| {
        let used = u32::from_le_bytes(bytes[at + 44..at + 48].try_into().unwrap());
        bytes[*at..].starts_with(b"RWBK") && used > 104
    };
    let last = (8192..bytes.len()).step_by(4096).rfind(is_block);
    let at = last.unwrap() + 120;
    let changed: Vec<_> = bytes[at..at + 64].iter().map(|byte| byte ^ 0x5A).collect();
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&changed, at as u64).unwrap();
}

/// Damages what was acknowledged last in one journal, in a copy that another machine opens.
fn is_told(machine: &Machine, is_it: impl Fn(&Path) -> bool) {
    let image = machine.image(env!("CARGO_TARGET_TMPDIR"));
    let found = segments(&image);
    damage_the_last_block(found.iter().find(|path| is_it(path)).unwrap());
    let refused = attach(&image).stream("s").open().map(drop);
    let refused = refused.expect_err("what was acknowledged last is dropped in silence");
    assert!(refused.to_string().contains("damaged"), "{refused}");
}

/// Whether a segment is one of the table's, which lie in the directory of the stream.
fn is_table(segment: &Path) -> bool {
    segment
        .parent()
        .is_some_and(|directory| directory.ends_with("s"))
}

/// The ends of all shards.
fn ends(stream: &Stream) -> Vec<(ShardId, u64)> {
    let shards = stream.shards().unwrap();
    let end = |shard: ShardId| stream.positions(shard).unwrap().end;
    shards.iter().map(|it| (it.id, end(it.id))).collect()
}

#[test]
fn what_was_flushed_is_on_disk_and_what_was_put_is_so_soon_by_itself() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = asynchronous(&bus).shards(3).create().unwrap();
    assert_eq!(stream.definition().durability, Durability::Async);
    put(&stream, 0..500);
    stream.flush().unwrap();
    assert_eq!(stream.stats().unwrap().unwritten, 0);
    let image = machine.image(env!("CARGO_TARGET_TMPDIR"));
    let there = attach(&image).stream("s").open().unwrap();
    assert_eq!(there.definition().durability, Durability::Async);
    assert_eq!(numbers(&there), all(0..500));

    // Nobody does anything any more, and it comes to the disk.
    let mut producer = stream.producer().unwrap();
    for number in 500..600_u32 {
        producer.put("key", &number.to_le_bytes()).unwrap();
    }
    for (shard, end) in ends(&stream) {
        while stream.durable_position(shard).unwrap() < end {
            std::thread::yield_now();
        }
    }
    let image = machine.image(env!("CARGO_TARGET_TMPDIR"));
    let there = attach(&image).stream("s").open().unwrap();
    assert_eq!(numbers(&there), all(0..600));

    // What is left when the stream is closed is written then.
    put(&stream, 600..650);
    drop((producer, stream, bus));
    let image = machine.image(env!("CARGO_TARGET_TMPDIR"));
    let there = attach(&image).stream("s").open().unwrap();
    assert_eq!(numbers(&there), all(0..650));
}

#[test]
fn a_put_and_a_checkpoint_return_and_records_are_read_while_nobody_can_write() {
    let machine = new_machine();
    let (bus, idle) = (attach(&machine), attach(&machine));
    let stream = asynchronous(&bus).create().unwrap();
    let shard = stream.shards().unwrap()[0].id;
    let group = stream.group_or_create("g", GroupStart::TrimHorizon);
    let mut worker = group.unwrap().join().unwrap();
    let mut reader = stream.reader().open().unwrap();
    let mut producer = stream.producer().unwrap();
    let (mut count, mut seen_ahead) = (0_u32, false);
    while !seen_ahead {
        // Its thread has written what it was woken for: else it has taken the role over in half a second.
        stream.flush().unwrap();
        occupy_the_roles(&machine, &idle);
        let put = producer.put("key", &count.to_le_bytes()).unwrap();
        count += 1;
        let mut read = 0;
        reader.read_batch(10, NOW, |_| read += 1).unwrap();
        assert_eq!(read, 1, "it is read at once");
        let mut given = 0;
        while given == 0 {
            given = worker.read_batch(10, NOW, |_| ()).unwrap();
        }
        assert_eq!(worker.checkpoint().unwrap(), 1);
        // Unless half a second has passed since.
        let position = put.sequence_number.position();
        seen_ahead = stream.durable_position(shard).unwrap() <= position;
    }
    stream.flush().unwrap();
    let stats = stream.stats().unwrap();
    assert_eq!(stats.unwritten, 0);
    assert!(stats.flushes > 1 && stats.take_overs > 0, "{stats:?}");
    let image = machine.image(env!("CARGO_TARGET_TMPDIR"));
    let there = attach(&image).stream("s").open().unwrap();
    assert_eq!(numbers(&there), all(0..count));
    let group = &there.groups().unwrap()[0];
    let checkpoint = group.shards[0].checkpoint.position();
    assert_eq!(checkpoint, u64::from(count), "the checkpoint is there too");
}

#[test]
fn no_producer_is_further_ahead_of_the_disk_than_half_of_its_shard() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = asynchronous(&bus).create().unwrap();
    let shard = stream.shards().unwrap()[0].id;
    let mut producer = stream.producer().unwrap();
    for number in 0..20_000_u32 {
        let put = producer.put("key", &number.to_le_bytes()).unwrap();
        let position = put.sequence_number.position();
        let ahead = position.saturating_sub(stream.durable_position(shard).unwrap());
        assert!(ahead <= 512, "record {number} is {ahead} ahead");
    }
    stream.flush().unwrap();
    assert_eq!(numbers(&stream).len(), 20_000);
}

#[test]
fn the_end_of_a_shard_is_on_disk_before_what_replaces_it_takes_records() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = asynchronous(&bus).create().unwrap();
    let parent = stream.shards().unwrap()[0].id;
    put(&stream, 0..100);
    stream.split(parent, None).unwrap();
    let end = stream.positions(parent).unwrap().end;
    assert_eq!(end, 100);
    assert_eq!(stream.durable_position(parent).unwrap(), end);

    put(&stream, 100..200);
    stream.update_shard_count(1).unwrap();
    for shard in stream.shards().unwrap() {
        if shard.state == ringway::ShardState::Closed {
            let end = stream.positions(shard.id).unwrap().end;
            assert_eq!(stream.durable_position(shard.id).unwrap(), end);
        }
    }
    let image = machine.image(env!("CARGO_TARGET_TMPDIR"));
    let there = attach(&image).stream("s").open().unwrap();
    assert_eq!(numbers(&there), all(0..200));
}

#[test]
fn what_was_acknowledged_last_is_missed_when_it_is_damaged_once_the_stream_is_closed() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = asynchronous(&bus)
        .durability(Durability::Durable)
        .create()
        .unwrap();
    put(&stream, 0..3);
    drop(stream);
    is_told(&machine, |path| !is_table(path));
    is_told(&machine, is_table);
}

#[test]
fn what_was_acknowledged_last_is_missed_when_it_is_damaged_once_somebody_waits() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = asynchronous(&bus)
        .durability(Durability::Durable)
        .create()
        .unwrap();
    let mut reader = stream.reader().open().unwrap();
    put(&stream, 0..3);
    while reader.next(Duration::from_millis(700)).unwrap().is_some() {}
    is_told(&machine, |path| !is_table(path));
}

#[test]
fn nobody_waits_for_a_claim_that_is_the_last_and_stays_open() {
    let machine = new_machine();
    let (bus, idle) = (attach(&machine), attach(&machine));
    let stream = asynchronous(&bus).create().unwrap();
    put(&stream, 0..1);
    stream.flush().unwrap();
    leave_a_claim(&shard_file(&machine), 1, &idle);
    in_time({
        let stream = stream.clone();
        move || stream.flush().unwrap()
    });
    put(&stream, 1..2);
    assert_eq!(numbers(&stream), all(0..2));
    assert_eq!(
        stream
            .positions(stream.shards().unwrap()[0].id)
            .unwrap()
            .end,
        3
    );
}
