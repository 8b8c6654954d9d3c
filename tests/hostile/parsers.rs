//! What is parsed, thrown at the parsers by the million, in one process: attribute blocks that were
//! changed where they lie, in a slot or in a chunk, and receipts that nobody handed out.
//!
//! Parsed or refused, never a panic. The seed is printed and repeats the run; `RINGWAY_FULL=1` makes
//! 10 million executions of each.

#[path = "effort.rs"]
mod effort;
#[path = "exercise.rs"]
#[allow(dead_code)]
mod exercise;
#[path = "files.rs"]
#[allow(dead_code)]
mod files;

use ringway::{Attributes, Bus, Incoming, Outgoing, Queue, Receipt};
use ringway_harness::TempBus;
use ringway_harness::seed::{self, Random};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const SLOTS: u64 = 1024;
/// Where the block begins in a slot, and in a message's header its length and kind.
const BLOCK: usize = 40;
const META: usize = 24;

/// Counts what one execution came to, and reports it all.
fn run(target: &str, mut execute: impl FnMut(&mut Random, u64) -> bool) {
    let seed = seed::announce(target);
    let executions = effort::executions(50_000, 10_000_000);
    let mut random = Random::new(seed);
    let (mut accepted, mut crashes) = (0, 0);
    for number in 0..executions {
        match catch_unwind(AssertUnwindSafe(|| execute(&mut random, number))) {
            Ok(worked) => accepted += u64::from(worked),
            Err(_) => {
                crashes += 1;
                eprintln!("{target}: execution {number} of RINGWAY_SEED={seed} panicked");
            }
        }
    }
    let more = [("accepted", accepted), ("seed", seed)];
    effort::report(target, executions, crashes, &more);
    assert_eq!(crashes, 0, "RINGWAY_SEED={seed}");
    // A change that is always refused, or never, tests nothing.
    assert!(
        accepted > executions / 100 && accepted < executions,
        "{accepted} of {executions} accepted"
    );
}

fn queue(root: &TempBus, stride: u64) -> Queue {
    let bus = Bus::builder("parsers").root(root.path());
    let bus = bus.pool_bytes(2 << 20).create().unwrap();
    let queue = bus.queue("q").slots(SLOTS).stride(stride);
    queue.visibility(Duration::ZERO).create().unwrap()
}

/// Some bytes of a block as an attacker would have them.
fn change(block: &mut [u8], random: &mut Random) {
    // Mostly the heads: what lies behind them is names and values.
    let reach = if random.percent(70) { 48 } else { block.len() };
    let at = random.below(reach.min(block.len()) as u64 - 3) as usize;
    match random.below(5) {
        0 => block[at] ^= 1 << random.below(8),
        1 => block[at] = random.next_u64() as u8,
        2 => {
            let at = at & !1;
            let value = [0, 1, 8, 10, 11, 255, 256, 0xFFFF][random.below(8) as usize];
            block[at..at + 2].copy_from_slice(&u16::to_le_bytes(value));
        }
        3 => {
            let at = at & !3;
            let len = block.len() as u32;
            let values = [0, 7, 8, len - 8, len, len + 8, 1 << 20, 1 << 31, u32::MAX];
            let value = values[random.below(9) as usize];
            block[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        _ => block[at] = [1, 2, 3, 16, 17, 18, 19, 20][random.below(8) as usize],
    }
}

fn message<'a>(attributes: &'a Attributes, text: &'a str, number: u64) -> Outgoing<'a> {
    let message = Outgoing::new(text.as_bytes());
    match number % 4 {
        0 => message.group(text).dedup_id("d").trace_header(text),
        1 => message.attributes(attributes),
        2 => message.group("g").attributes(attributes),
        _ => message.dedup_id(text).attributes(attributes),
    }
}

/// Sends a message, changes it where it lies, receives it. Whether it was received.
fn blocks(target: &str, stride: u64, place: impl Fn(u64) -> (usize, usize)) {
    let root = TempBus::new().unwrap();
    let queue = queue(&root, stride);
    let mut attributes = Attributes::new();
    attributes.string("city", "Graz").unwrap();
    attributes.number("seats", 12).unwrap();
    attributes.binary("picture", &[7; 40]).unwrap();
    let text = "a-text-that-is-a-group,-an-id,-and-a-body";
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut incoming = Incoming::new();
    let mut maps: Option<(memmap2::MmapRaw, memmap2::MmapRaw)> = None;
    run(target, |random, number| {
        // Also of what was refused nothing stays: there is room for one segment.
        let sent = sender.send_message(&message(&attributes, text, number));
        let position = sent.expect("the one before was deleted").position;
        let (ring, pool) = maps.get_or_insert_with(|| {
            let map = |name: &str| {
                let path = root.path().join("ringway-parsers").join(name);
                let file = std::fs::File::options().read(true).write(true).open(path);
                memmap2::MmapOptions::new().map_raw(&file.unwrap()).unwrap()
            };
            let ring = map("objects/q");
            let has_pool = root.path().join("ringway-parsers/pool/00000").exists();
            (ring, map(if has_pool { "pool/00000" } else { "objects/q" }))
        });
        let slot = files::QUEUE_SLOTS + (position % SLOTS) as usize * stride as usize;
        // SAFETY: the queue's file has 1,024 slots of `stride` from there on; nobody else is there.
        let slot = unsafe {
            let at = ring.as_mut_ptr().add(slot);
            std::slice::from_raw_parts_mut(at, stride as usize)
        };
        let reference = u64::from_le_bytes(slot[BLOCK..BLOCK + 8].try_into().unwrap());
        let (offset, len) = place(reference >> 32);
        if offset == 0 {
            let end = BLOCK + u32::from_le_bytes(slot[META..META + 4].try_into().unwrap()) as usize;
            for _ in 0..random.below(4) {
                change(&mut slot[BLOCK..end], random);
            }
            if random.percent(10) {
                slot[META] = random.next_u64() as u8; // the length of block and body
            }
        } else {
            // SAFETY: the segment has that chunk, as its sender says; nobody else is there.
            let chunk = unsafe {
                let at = pool.as_mut_ptr().add(offset);
                std::slice::from_raw_parts_mut(at, len)
            };
            for _ in 0..random.below(4) {
                change(chunk, random);
            }
        }
        match receiver.receive_message(&mut incoming) {
            Ok(Some(received)) => {
                exercise::look_at(&incoming);
                drop(
                    incoming
                        .attributes()
                        .to_attributes()
                        .map_err(|e| e.to_string()),
                );
                receiver
                    .delete(&received.receipt)
                    .expect("it was just received");
                true
            }
            // Damaged: it is gone.
            Ok(None) => false,
            Err(error) => error.to_string().is_empty(),
        }
    });
}

#[test]
fn a_changed_attribute_block_in_a_slot_is_parsed_or_refused() {
    blocks("parse attribute blocks in slots", 512, |_| (0, 0));
}

#[test]
fn a_changed_attribute_block_in_a_chunk_is_parsed_or_refused() {
    // 2,048 chunks of 512 bytes behind their table.
    let chunks_at = files::PAGE + 2048 * 32;
    blocks("parse attribute blocks in chunks", 64, move |chunk| {
        (chunks_at + chunk as usize * 512, 200)
    });
}

#[test]
fn a_receipt_that_nobody_handed_out_is_refused_or_does_what_it_says() {
    let root = TempBus::new().unwrap();
    let queue = queue(&root, 64);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for i in 0..600u64 {
        sender.send(&i.to_le_bytes()).unwrap();
    }
    let mut buffer = [0; 8];
    let first = receiver.try_receive(&mut buffer).unwrap().unwrap().receipt;
    run("parse receipts", |random, number| {
        let receipt = if number % 2 == 0 {
            let mut bytes = first.to_bytes();
            for _ in 0..1 + random.below(4) {
                // Mostly of this queue, else nothing but its id is looked at.
                let from = if random.percent(90) { 8 } else { 0 };
                let at = (from + random.below(18 - from)) as usize;
                bytes[at] = match random.below(3) {
                    0 => bytes[at] ^ 1 << random.below(8),
                    1 => 0,
                    _ => random.next_u64() as u8,
                };
            }
            Receipt::from_bytes(bytes)
        } else {
            let mut text = first.to_string().into_bytes();
            for _ in 0..1 + random.below(3) {
                let at = random.below(text.len() as u64 + 1) as usize;
                let bytes = b"0123456789abcdefF-+ .\xc3\xa9\0";
                let byte = bytes[random.below(bytes.len() as u64) as usize];
                match random.below(3) {
                    0 => text.insert(at, byte),
                    1 if at < text.len() => text[at] = byte,
                    1 => text.push(byte),
                    _ => text.truncate(at.max(1)),
                }
            }
            String::from_utf8_lossy(&text).parse()
        };
        let receipt: Receipt = match receipt {
            Ok(receipt) => receipt,
            Err(error) => return error.to_string().is_empty(),
        };
        assert_eq!(receipt.to_string().parse::<Receipt>().unwrap(), receipt);
        let settled = match number % 5 {
            0 => queue.delete(&receipt).map(drop),
            1 => queue.nack(&receipt, Duration::ZERO),
            2 => queue.change_visibility(&receipt, Duration::from_secs(1)),
            3 => receiver.delete(&receipt).map(drop),
            _ => receiver.nack(&receipt, Duration::from_millis(1)),
        };
        settled
            .map_err(|error| error.to_string())
            .err()
            .is_none_or(|text| !text.is_empty())
    });
}
