//! The files of a small valid bus, and what can be done to them.
//!
//! The bus has a shared channel, an exclusive one that drops its oldest, one pool segment, and
//! what a dead participant leaves: a claim, a reader entry, a chunk, a role. Offsets are those of
//! the documented format; nothing here goes through the crate's own checks.

use ringway::{Bus, Overflow, Producers, Start};
use ringway_harness::seed::Random;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub const BUS: &str = "b";
pub const PAGE: usize = 4096;
/// First reader entry of a ring file; entries have 256 bytes.
pub const READERS: usize = 8192;
/// First participant entry of a bus file (number 0, never used); entries have 512 bytes.
pub const PARTICIPANTS: usize = 8192;
/// Reader entries of both channels.
const READER_ENTRIES: usize = 4;
/// First slot of both ring files: the reader table is padded to a page.
pub const SLOTS: usize = READERS + (READER_ENTRIES * 256).next_multiple_of(PAGE);
pub const STRIDE: usize = 128;
pub const SLOT_COUNT: usize = 1024;
/// The dead participant of the template.
const DEAD: u64 = 5;

pub const NAMES: [&str; 4] = ["bus", "objects/shared", "objects/exclusive", "pool/00000"];

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
        .pool_bytes(8 << 20)
        .create()
        .expect("a fresh bus");
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
    bus
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
                    .try_send(&vec![i as u8; if i % 5 == 0 { 500 } else { 90 }])
                    .unwrap();
                if i < 1400 {
                    while reader.read_batch(1, |_, _| ()).is_err() {}
                }
            }
        }
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
        put(3, PAGE + 2000 * 32, word(1, DEAD, 4));
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
            let target = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(target)
                .unwrap();
            if target.metadata().unwrap().len() != bytes.len() as u64 {
                target.set_len(0).unwrap();
            }
            target.write_all_at(bytes, 0).expect("there is room");
        }
    }

    fn bytes_at(&self, file: usize, offset: usize) -> &[u8] {
        &self.files[file][offset..]
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

    /// Does it to the files under `root`.
    pub fn apply(&self, root: &Path) {
        let open = |file| {
            File::options()
                .read(true)
                .write(true)
                .open(path(root, file))
                .unwrap()
        };
        match self {
            Mutation::Set {
                file,
                offset,
                bytes,
            } => {
                open(*file).write_all_at(bytes, *offset as u64).unwrap();
            }
            Mutation::Resize { file, len } => open(*file).set_len(*len).unwrap(),
            Mutation::Swap { a, b } => {
                let (first, second) = (
                    fs::read(path(root, *a)).unwrap(),
                    fs::read(path(root, *b)).unwrap(),
                );
                fs::write(path(root, *a), second).unwrap();
                fs::write(path(root, *b), first).unwrap();
            }
            Mutation::All(parts) => parts.iter().for_each(|part| part.apply(root)),
        }
    }

    /// Every word that means something, at every extreme; and a few tales that need several words.
    pub fn extremes(template: &Template) -> Vec<Mutation> {
        let mut all = Vec::new();
        for file in 0..NAMES.len() {
            for offset in (0..160).step_by(4) {
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
                3 => (0..4)
                    .map(|field| PAGE + field * 8)
                    .chain([PAGE + 2000 * 32])
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
        for (file, field) in [(0, 80), (1, 88), (2, 88), (3, 80)] {
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
            tales.push(Mutation::word64(3, 64, chunk_bytes));
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
            for ring in [1, 2] {
                let position = (lap - 1).wrapping_mul(SLOT_COUNT as u64);
                let slots = (0..SLOT_COUNT).flat_map(|slot| {
                    let at = SLOTS + slot * STRIDE;
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
            (0..2048)
                .map(|chunk| Mutation::word64(3, PAGE + chunk * 32, word(2, 0, 77)))
                .collect(),
        ));
        tales
    }

    /// One of the seeded ones.
    pub fn draw(template: &Template, random: &mut Random) -> Mutation {
        let parts = if random.percent(25) {
            2 + random.below(4)
        } else {
            1
        };
        let mut drawn: Vec<_> = (0..parts)
            .map(|_| Self::draw_one(template, random))
            .collect();
        if drawn.len() == 1 {
            drawn.remove(0)
        } else {
            Mutation::All(drawn)
        }
    }

    fn draw_one(template: &Template, random: &mut Random) -> Mutation {
        let file = random.below(NAMES.len() as u64) as usize;
        let len = template.files[file].len();
        let mut any_of = |bound: usize| random.below(bound as u64) as usize;
        let region = match any_of(4) {
            0 => 0..256,
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
