//! The files of a small valid bus, and what can be done to them.
//!
//! The bus has a shared channel, an exclusive one that drops its oldest, one pool segment, a queue
//! with its dead-letter queue, and what a dead participant leaves: claims, a reader entry, a chunk, a
//! role, leases, messages between two queues. All are as small as the format allows, so that they are
//! changed, used and put back tens of thousands of times a second. Offsets are those of the
//! documented format; nothing here goes through the crate's own checks.

use memmap2::{MmapOptions, MmapRaw};
use ringway::{Bus, Deduplication, Outgoing, Overflow, Producers, Queue, Redrive, Settings, Start};
use ringway_harness::seed::Random;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const BUS: &str = "b";
pub const PAGE: usize = 4096;
/// First reader entry of a ring file; entries have 256 bytes.
pub const READERS: usize = 8192;
/// First participant entry of a bus file (number 0, never used); entries have 512 bytes.
pub const PARTICIPANTS: usize = 8192;
/// Reader entries of both channels.
const READER_ENTRIES: usize = 4;
/// First slot of a channel's file: what lies in front of it is padded to a page.
pub const SLOTS: usize = READERS + (READER_ENTRIES * 256).next_multiple_of(PAGE);
pub const STRIDE: usize = 128;
pub const SLOT_COUNT: usize = 1024;
/// First due word of a queue file, behind the pins of views.
pub const DUE: usize = 8448 + 8192;
/// First slot of a standard queue's file.
pub const QUEUE_SLOTS: usize = (DUE + 8 * DUE_WORDS).next_multiple_of(PAGE);
/// Due words of a queue of [`SLOT_COUNT`].
const DUE_WORDS: usize = 17;
/// Chunks of the segment, of 512 bytes.
pub const CHUNKS: usize = 128;
const CHUNK_BYTES: usize = 512;
/// First chunk of the segment.
pub const CHUNKS_AT: usize = PAGE + CHUNKS * 32;
/// The chunk that the dead participant of the template has in its hands.
const DEAD_CHUNK: usize = CHUNKS - 1;
/// The dead participant of the template.
const DEAD: u64 = 5;
/// Every so manyth message lies in the pool.
const POOLED: u64 = 50;

pub const NAMES: [&str; 7] = [
    "bus",
    "objects/shared",
    "objects/exclusive",
    "pool/00000",
    "objects/work",
    "objects/dead",
    "objects/order",
];
/// Of [`NAMES`].
pub const SEGMENT: usize = 3;
pub const QUEUE: usize = 4;
pub const DEAD_LETTERS: usize = 5;
/// Its slots lie behind hints and group table.
pub const FIFO: usize = 6;

/// `state | owner | count` of any word of the format.
pub fn word(state: u64, owner: u64, count: u64) -> u64 {
    state << 62 | (owner & 1023) << 52 | count & ((1 << 52) - 1)
}

/// Values that arithmetic trips over.
pub const EXTREMES: [u64; 10] = [
    0,
    1,
    u64::MAX,
    u64::MAX - 1,
    1 << 63,
    1 << 61,
    (1 << 52) - 1,
    1 << 32,
    0x7FFF_FFFF,
    4096,
];

/// The pristine bytes of [`NAMES`].
pub struct Template {
    pub files: Vec<Vec<u8>>,
}

pub fn directory(root: &Path) -> PathBuf {
    root.join(format!("ringway-{BUS}"))
}

pub fn path(root: &Path, file: usize) -> PathBuf {
    directory(root).join(NAMES[file])
}

/// Makes the bus with its channels under `root`; the handle of its maker.
pub fn make_bus(root: &Path) -> Bus {
    let bus = Bus::builder(BUS)
        .root(root)
        .pool_bytes(1 << 20) // a second segment is always refused
        .create()
        .expect("a fresh bus");
    make_segment(root);
    let shared = bus
        .channel("shared")
        .slots(SLOT_COUNT as u64)
        .readers(READER_ENTRIES as u32);
    shared
        .stride(STRIDE as u64)
        .create()
        .expect("a fresh channel");
    let exclusive = bus
        .channel("exclusive")
        .slots(SLOT_COUNT as u64)
        .readers(READER_ENTRIES as u32);
    let exclusive = exclusive
        .producers(Producers::Exclusive)
        .overflow(Overflow::DropOldest);
    exclusive
        .stride(STRIDE as u64)
        .create()
        .expect("a fresh channel");
    let queue = |name| {
        let queue = bus.queue(name).slots(SLOT_COUNT as u64);
        queue.stride(STRIDE as u64).create().expect("a fresh queue")
    };
    let (work, dead) = (queue("work"), queue("dead"));
    let order = bus.queue("order").fifo().slots(SLOT_COUNT as u64);
    let order = order.deduplicate(Deduplication {
        by_content: true,
        ..Deduplication::of_ids(2048)
    });
    order.stride(STRIDE as u64).create().expect("a fresh queue");
    let redrive = Settings::new().redrive(Redrive::to(&dead, 5));
    work.set(&redrive).expect("the dead-letter queue allows it");
    bus
}

/// The smallest segment, before anybody makes the usual one.
fn make_segment(root: &Path) {
    let mut bytes = fs::read(path(root, 0)).unwrap()[..64].to_vec();
    bytes[..8].copy_from_slice(b"RNGWPOOL");
    bytes.resize(CHUNKS_AT + CHUNKS * CHUNK_BYTES, 0);
    let len = bytes.len();
    let mut put = |offset: usize, value: usize| {
        bytes[offset..offset + 8].copy_from_slice(&(value as u64).to_le_bytes());
    };
    put(48, 0);
    put(64, CHUNK_BYTES);
    put(72, CHUNKS_AT);
    put(80, len);
    put(88, CHUNKS);
    fs::write(path(root, SEGMENT), bytes).unwrap();
}

/// The dead participant was reaped.
pub fn bury() -> Mutation {
    Mutation::word64(0, PARTICIPANTS + DEAD as usize * 512, word(0, 0, 4))
}

/// Three groups with messages consumed, leased and waiting.
fn fill_groups(queue: &Queue) {
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut buffer = [0; 600];
    for i in 0..1200u64 {
        let body = vec![i as u8; if i % POOLED == 0 { 400 } else { 7 }];
        let group = ["red", "green", "blue"][i as usize % 3];
        let id = i.to_string(); // no two messages are the same
        let message = Outgoing::new(&body).group(group).dedup_id(&id);
        sender.send_message(&message).unwrap();
        if i < 1100 {
            receiver.receive_and_delete(&mut buffer).unwrap();
        }
    }
    receiver.try_receive(&mut buffer).unwrap();
}

/// Messages in every state: consumed, leased, given back, delayed, waiting; the last is 1,499.
fn fill_queue(queue: &Queue, messages: u64) {
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut buffer = [0; 600];
    for i in 0..messages {
        let body = vec![i as u8; if i % POOLED == 0 { 500 } else { 60 }];
        if i % 100 == 99 {
            sender.send_delayed(&body, Duration::from_secs(60)).unwrap();
        } else {
            sender.send(&body).unwrap();
        }
        if i < messages - 100 {
            receiver.receive_and_delete(&mut buffer).unwrap();
        }
    }
    for i in 0..40 {
        let received = receiver.try_receive(&mut buffer).unwrap().unwrap();
        if i % 4 == 0 {
            receiver.nack(&received.receipt, Duration::ZERO).unwrap();
        }
    }
}

impl Template {
    /// Makes the bus under `root` and takes its bytes, with what a dead participant left.
    pub fn make(root: &Path) -> Template {
        let bus = make_bus(root);
        for name in ["shared", "exclusive"] {
            let channel = bus.channel(name).open().unwrap();
            let mut reader = channel.reader().start(Start::Earliest).join().unwrap();
            let mut producer = channel.producer().unwrap();
            for i in 0..1500u64 {
                producer
                    .try_send(&vec![i as u8; if i % POOLED == 0 { 500 } else { 90 }])
                    .unwrap();
                if i < 1400 {
                    while reader.read_batch(1, |_, _| ()).is_err() {}
                }
            }
        }
        fill_queue(&bus.queue("work").open().unwrap(), 1500);
        fill_queue(&bus.queue("dead").open().unwrap(), 140);
        fill_groups(&bus.queue("order").open().unwrap());
        drop(bus);
        let mut files: Vec<_> = (0..NAMES.len())
            .map(|file| fs::read(path(root, file)).unwrap())
            .collect();
        let mut put = |file: usize, offset: usize, value: u64| {
            files[file][offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(0, PARTICIPANTS + DEAD as usize * 512, word(1, DEAD, 3));
        put(0, PARTICIPANTS + DEAD as usize * 512 + 40, u64::MAX); // it joined everything
        put(0, PAGE + 8 * 7, word(1, DEAD, 1)); // role 7
        for ring in [1, 2] {
            put(ring, READERS + 256, word(1, DEAD, 9));
            put(ring, READERS + 256 + 8, 1450);
            put(ring, SLOTS + (1500 % SLOT_COUNT) * STRIDE, word(1, DEAD, 2)); // position 1500
        }
        put(SEGMENT, PAGE + DEAD_CHUNK * 32, word(1, DEAD, 4));
        for (queue, first) in [(QUEUE, 1460), (DEAD_LETTERS, 100)] {
            let slot = |position: u64| QUEUE_SLOTS + position as usize % SLOT_COUNT * STRIDE;
            let lap = |position: u64| position / SLOT_COUNT as u64 + 1;
            put(queue, 5248, 1 << DEAD); // it may hold leases
            put(queue, slot(first + 40), word(1, DEAD, lap(first + 40)));
            let moving =
                |owner: u64, count: u64, low: u64| 3 << 62 | owner << 52 | count << 42 | low;
            let leased = 1 << 62 | DEAD << 52 | 3 << 42 | u64::from(u32::MAX) << 10;
            for (position, dlv) in [
                (first + 1, moving(0, 5, first + 1)),    // parked
                (first + 2, moving(DEAD, 4, 102)),       // on its way
                (first + 3, moving(DEAD, 0, first + 3)), // arriving
                (first + 4, leased | lap(first + 4)),    // leased by the dead, over
                (first + 5, leased & !(1 << 41) | lap(first + 5)),
            ] {
                put(queue, slot(position) + 8, dlv);
            }
        }
        Template { files }
    }

    /// The bytes that [`make`](Self::make) took, once they were written back.
    pub fn read(root: &Path) -> Template {
        let read = |file| fs::read(path(root, file)).expect("the template");
        Template {
            files: (0..NAMES.len()).map(read).collect(),
        }
    }

    /// Writes every file as it was, also where there is none.
    pub fn restore(&self, root: &Path) {
        for (file, bytes) in self.files.iter().enumerate() {
            let target = path(root, file);
            fs::create_dir_all(target.parent().expect("a directory")).unwrap();
            fs::write(target, bytes).expect("there is room");
        }
    }

    fn bytes_at(&self, file: usize, offset: usize) -> &[u8] {
        &self.files[file][offset..]
    }
}

/// A file that is changed and put back in place, through a mapping of its own.
pub struct Prey {
    file: File,
    map: MmapRaw,
    pristine: Vec<u8>,
    is_resized: bool,
}

/// The files of a bus under `root`, ready to be changed.
pub fn prey(template: &Template, root: &Path) -> Vec<Prey> {
    let open = |file: usize| {
        let options = File::options()
            .read(true)
            .write(true)
            .open(path(root, file));
        let handle = options.expect("the bus is there");
        Prey {
            map: MmapOptions::new().map_raw(&handle).expect("it maps"),
            file: handle,
            pristine: template.files[file].clone(),
            is_resized: false,
        }
    };
    (0..NAMES.len()).map(open).collect()
}

/// Whether the files under `root` are still these.
pub fn are_in_place(prey: &[Prey], root: &Path) -> bool {
    prey.iter().enumerate().all(|(file, prey)| {
        let there = fs::metadata(path(root, file)).map(|meta| meta.ino());
        there.is_ok_and(|inode| prey.file.metadata().unwrap().ino() == inode)
    })
}

/// Removes everything under `root`.
pub fn remove(root: &Path) {
    for entry in fs::read_dir(root).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
}

impl Prey {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if self.is_resized {
            // What lies behind the end grows the file, as a write does.
            self.file.write_all_at(bytes, offset as u64).unwrap();
            return;
        }
        assert!(offset + bytes.len() <= self.map.len());
        // SAFETY: inside the mapping, just checked; the file has its full length, and whoever else
        // maps it does so at another address.
        unsafe {
            let at = self.map.as_mut_ptr().add(offset);
            at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    fn resize(&mut self, len: u64) {
        self.file.set_len(len).unwrap();
        self.is_resized = true;
    }

    /// As it was.
    pub fn restore(&mut self) {
        self.restore_up_to(usize::MAX);
    }

    /// Its first bytes as they were, and its length; all of it if the length was another.
    pub fn restore_up_to(&mut self, end: usize) {
        let mut end = end.min(self.pristine.len());
        if self.is_resized {
            self.file.set_len(self.pristine.len() as u64).unwrap();
            self.is_resized = false;
            end = self.pristine.len();
        }
        let pristine = std::mem::take(&mut self.pristine);
        self.put(0, &pristine[..end]);
        self.pristine = pristine;
    }

    /// What a mutation changed, as it was.
    pub fn restore_range(&mut self, range: std::ops::Range<usize>) {
        let pristine = std::mem::take(&mut self.pristine);
        self.put(range.start, &pristine[range]);
        self.pristine = pristine;
    }

    /// Bytes on the file system.
    pub fn bytes_used(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.blocks() * 512)
    }
}

/// A change to the files. Its `Debug` form is what a failure prints.
#[derive(Clone)]
pub enum Mutation {
    Set {
        file: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    Resize {
        file: usize,
        len: u64,
    },
    Swap {
        a: usize,
        b: usize,
    },
    /// The bytes of another file of the bus, with its length.
    Copy {
        from: usize,
        to: usize,
    },
    All(Vec<Mutation>),
}

impl fmt::Debug for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mutation::Set {
                file,
                offset,
                bytes,
            } => {
                let shown = &bytes[..bytes.len().min(16)];
                write!(
                    f,
                    "{}[{offset}..+{}] := {shown:02x?}",
                    NAMES[*file],
                    bytes.len()
                )
            }
            Mutation::Resize { file, len } => write!(f, "{} resized to {len}", NAMES[*file]),
            Mutation::Swap { a, b } => write!(f, "{} and {} swapped", NAMES[*a], NAMES[*b]),
            Mutation::Copy { from, to } => write!(f, "{} := {}", NAMES[*to], NAMES[*from]),
            Mutation::All(parts) => write!(
                f,
                "{} changes, first {:?}",
                parts.len(),
                &parts[..parts.len().min(4)]
            ),
        }
    }
}

impl Mutation {
    pub fn word64(file: usize, offset: usize, value: u64) -> Mutation {
        Mutation::Set {
            file,
            offset,
            bytes: value.to_le_bytes().to_vec(),
        }
    }

    /// Does it.
    pub fn apply(&self, prey: &mut [Prey]) {
        match self {
            Mutation::Set {
                file,
                offset,
                bytes,
            } => prey[*file].put(*offset, bytes),
            Mutation::Resize { file, len } => prey[*file].resize(*len),
            Mutation::Swap { a, b } => {
                let (first, second) = (prey[*a].pristine.clone(), prey[*b].pristine.clone());
                for (file, bytes) in [(*a, second), (*b, first)] {
                    prey[file].resize(bytes.len() as u64);
                    prey[file].put(0, &bytes);
                }
            }
            Mutation::Copy { from, to } => {
                let bytes = prey[*from].pristine.clone();
                prey[*to].resize(bytes.len() as u64);
                prey[*to].put(0, &bytes);
            }
            Mutation::All(parts) => parts.iter().for_each(|part| part.apply(prey)),
        }
    }

    /// Puts the bytes of `file` back that it changed, where its length is what it was.
    pub fn undo(&self, file: usize, prey: &mut Prey) {
        match self {
            Mutation::Set {
                file: changed,
                offset,
                bytes,
            } if *changed == file && !prey.is_resized => {
                prey.restore_range(*offset..*offset + bytes.len());
            }
            Mutation::All(parts) => parts.iter().for_each(|part| part.undo(file, prey)),
            _ => {}
        }
    }

    /// Every word of `target` that means something, at every extreme; and a few tales that need
    /// several words, or files.
    pub fn extremes(template: &Template, target: usize) -> Vec<Mutation> {
        let mut all = Vec::new();
        {
            let file = target;
            for offset in (0..368).step_by(4) {
                for value in EXTREMES.map(|value| value as u32).into_iter().take(7) {
                    let bytes = value.to_le_bytes().to_vec();
                    all.push(Mutation::Set {
                        file,
                        offset,
                        bytes,
                    });
                }
                if offset % 8 == 0 {
                    all.extend(EXTREMES.map(|value| Mutation::word64(file, offset, value)));
                }
            }
            let words: Vec<usize> = match file {
                0 => [PAGE, PAGE + 56]
                    .into_iter()
                    .chain([1, 5, 1023].into_iter().flat_map(|p| {
                        [0, 8, 40, 48, 192].map(|field| PARTICIPANTS + p * 512 + field)
                    }))
                    .collect(),
                SEGMENT => (0..4)
                    .map(|field| PAGE + field * 8)
                    .chain([PAGE + DEAD_CHUNK * 32])
                    .collect(),
                QUEUE | DEAD_LETTERS | FIFO => (0..32)
                    .flat_map(|pair| [0, 8, 16, 56].map(|word| PAGE + pair * 128 + word))
                    .chain((0..DUE_WORDS).map(|word| DUE + 8 * word))
                    .chain(
                        [96, 100, 101, 102, 436, 437, 438, 439, 440, 476]
                            .into_iter()
                            .flat_map(|slot| {
                                [0, 8, 16, 24, 32, 40, 48]
                                    .map(|field| QUEUE_SLOTS + slot * STRIDE + field)
                            }),
                    )
                    .collect(),
                _ => (0..6)
                    .map(|pair| PAGE + pair * 128)
                    .chain((1..7).map(|counter| PAGE + 5 * 128 + counter * 8))
                    .chain([
                        READERS,
                        READERS + 8,
                        READERS + 128,
                        READERS + 256,
                        READERS + 256 + 8,
                    ])
                    .chain([0, 1, 376, 451, 471, 476].into_iter().flat_map(|slot| {
                        [0, 16, 24, 32, 40, 48].map(|field| SLOTS + slot * STRIDE + field)
                    }))
                    .collect(),
            };
            for offset in words {
                all.extend(EXTREMES.map(|value| Mutation::word64(file, offset, value)));
                let lap = word(2, 1, 1 << 50);
                all.push(Mutation::word64(file, offset, lap));
            }
            let len = template.files[file].len() as u64;
            for len in [
                0,
                1,
                63,
                64,
                4095,
                4096,
                4097,
                8192,
                len / 2,
                len - 4096,
                len - 1,
                len + 1,
                len + 4096,
                1 << 30,
            ] {
                all.push(Mutation::Resize { file, len });
            }
        }
        all.extend(Self::tales(template));
        all
    }

    /// Lies that hold together.
    fn tales(template: &Template) -> Vec<Mutation> {
        let mut tales = Vec::new();
        // A file that is longer, with a header that agrees.
        for (file, field) in [
            (0, 80),
            (1, 88),
            (2, 88),
            (SEGMENT, 80),
            (QUEUE, 88),
            (FIFO, 88),
        ] {
            for longer in [4096u64, 2 << 20, 2 << 30] {
                let len = template.files[file].len() as u64 + longer;
                tales.push(Mutation::All(vec![
                    Mutation::Resize { file, len },
                    Mutation::word64(file, field, len),
                ]));
            }
        }
        // Chunks of a size that is no class, in a segment that is otherwise right.
        for chunk_bytes in [64, 448, 576, 1024, 4096] {
            tales.push(Mutation::word64(SEGMENT, 64, chunk_bytes));
        }
        // Everybody is being reaped by his neighbour, and all are dead.
        let chain = (1..1024).map(|slot| {
            Mutation::word64(0, PARTICIPANTS + slot as usize * 512, word(2, slot - 1, 7))
        });
        tales.push(Mutation::All(chain.collect()));
        // Nobody can join.
        let crowd = (1..1024)
            .map(|slot| Mutation::word64(0, PARTICIPANTS + slot as usize * 512, word(3, 0, slot)));
        tales.push(Mutation::All(crowd.collect()));
        // Counters whose sum does not fit.
        let damaged = PAGE + 5 * 128 + 24;
        tales.push(Mutation::All(vec![
            Mutation::word64(1, damaged, u64::MAX),
            Mutation::word64(2, damaged, u64::MAX),
        ]));
        // Every slot claims to be committed in a lap far ahead, with the tail and trim to match.
        for lap in [1u64 << 40, 1 << 51, (1 << 52) - 2] {
            for ring in [1, 2, QUEUE, DEAD_LETTERS] {
                let position = (lap - 1).wrapping_mul(SLOT_COUNT as u64);
                let first = if ring < QUEUE { SLOTS } else { QUEUE_SLOTS };
                let slots = (0..SLOT_COUNT).flat_map(|slot| {
                    let at = first + slot * STRIDE;
                    [
                        Mutation::word64(ring, at, word(2, 1, lap)),
                        Mutation::word64(ring, at + 16, position.wrapping_add(slot as u64)),
                    ]
                });
                let marks = [
                    Mutation::word64(ring, PAGE, position),
                    Mutation::word64(ring, PAGE + 128, position),
                    Mutation::word64(ring, PAGE + 256, position),
                ];
                tales.push(Mutation::All(slots.chain(marks).collect()));
            }
        }
        // The payload of every record names a chunk of another version.
        tales.push(Mutation::All(
            (0..CHUNKS)
                .map(|chunk| Mutation::word64(SEGMENT, PAGE + chunk * 32, word(2, 0, 77)))
                .collect(),
        ));
        tales
    }

    /// One of the seeded ones, of `file` if that is given.
    pub fn draw(template: &Template, file: Option<usize>, random: &mut Random) -> Mutation {
        let parts = if random.percent(25) {
            2 + random.below(4)
        } else {
            1
        };
        let mut drawn: Vec<_> = (0..parts)
            .map(|_| Self::draw_one(template, file, random))
            .collect();
        if drawn.len() == 1 {
            drawn.remove(0)
        } else {
            Mutation::All(drawn)
        }
    }

    fn draw_one(template: &Template, target: Option<usize>, random: &mut Random) -> Mutation {
        let file = target.unwrap_or_else(|| random.below(NAMES.len() as u64) as usize);
        let len = template.files[file].len();
        let mut any_of = |bound: usize| random.below(bound as u64) as usize;
        // What is only behind a header that is believed, and costs most, has its turn in one of four.
        let is_header = matches!(target, Some(0 | SEGMENT)) && any_of(4) > 0;
        let region = match any_of(4) {
            _ if is_header => 0..96,
            0 => 0..368,
            1 => PAGE..PAGE * 3,
            2 => PAGE * 3..PAGE * 5,
            _ => 0..len - 8,
        };
        let offset = (region.start + any_of(region.len())) & !7;
        match any_of(12) {
            0..3 => {
                let bytes = template.bytes_at(file, offset)[..8].to_vec();
                let mut value = u64::from_le_bytes(bytes.try_into().unwrap());
                for _ in 0..1 + any_of(6) {
                    value ^= 1 << any_of(64);
                }
                Mutation::word64(file, offset, value)
            }
            3..6 => Mutation::word64(file, offset, plausible(random)),
            6 => Mutation::Resize {
                file,
                len: random.below(2 * len as u64),
            },
            7 => {
                let len = 1 + any_of((len - offset).min(20_000));
                Mutation::Set {
                    file,
                    offset,
                    bytes: vec![0; len],
                }
            }
            8 => {
                let len = 8 * (1 + any_of((len - offset).min(8192) / 8));
                let bytes = (0..len / 8)
                    .flat_map(|_| random.next_u64().to_le_bytes())
                    .collect();
                Mutation::Set {
                    file,
                    offset,
                    bytes,
                }
            }
            9 => {
                let words = 1 + any_of(200);
                let bytes = (0..words.min((len - offset) / 8))
                    .flat_map(|_| plausible(random).to_le_bytes());
                Mutation::Set {
                    file,
                    offset,
                    bytes: bytes.collect(),
                }
            }
            10 if target.is_some() => Mutation::Copy {
                from: any_of(NAMES.len()),
                to: file,
            },
            10 => Mutation::Swap {
                a: file,
                b: any_of(NAMES.len()),
            },
            _ => {
                let words = 4 * (1 + any_of(64));
                let value = plausible(random);
                let bytes = (0..words)
                    .flat_map(|_| value.to_le_bytes())
                    .collect::<Vec<_>>();
                let fits = bytes.len().min(len - offset);
                Mutation::Set {
                    file,
                    offset,
                    bytes: bytes[..fits].to_vec(),
                }
            }
        }
    }
}

/// A word that could be one: a state with a wrong lap, a position near an edge, a size.
pub fn plausible(random: &mut Random) -> u64 {
    let near =
        |random: &mut Random, value: u64| value.wrapping_add(random.below(5)).wrapping_sub(2);
    match random.below(9) {
        0 => random.next_u64(),
        1 => EXTREMES[random.below(EXTREMES.len() as u64) as usize],
        2 => {
            let owner = [0, 1, 2, 5, 6, 1023][random.below(6) as usize];
            let lap = random.below(5);
            word(random.below(4), owner, lap)
        }
        3 => word(random.below(4), random.below(1024), random.next_u64()),
        4 => near(random, 1 << 61),
        5 => near(random, 0),
        6 => random.below(4096),
        7 => 1 << random.below(64),
        // A slot's meta word: a kind, and a length that fits or does not.
        _ => {
            let lens = [0, 16, 24, 96, 97, 600, 1 << 20, u64::from(u32::MAX)];
            lens[random.below(8) as usize] | (1 + random.below(3)) << 32
        }
    }
}
