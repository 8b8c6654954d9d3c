//! What the process tests share: bodies that tell whether they are whole, a bus to play on, and a
//! runner for tests that print tables and so have no harness of their own.

#![allow(dead_code, reason = "each test binary uses its part")]

use ringway::{Builder, Bus, Channel, Producers};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

/// The fewest slots a channel can have: a whole ring is filled in well under a millisecond.
pub const SLOTS: u64 = 1024;
/// One cache line a slot, 32 bytes of it body.
pub const STRIDE: u64 = 64;
/// The same for a queue, whose messages have eight bytes more in front of them.
pub const QUEUE_STRIDE: u64 = 96;
/// The same for a FIFO queue, whose messages have 48 bytes and their group in front of them.
pub const FIFO_STRIDE: u64 = 192;
/// A body that lies in the slot.
pub const INLINE: usize = 32;
/// A body that needs a chunk of the smallest class.
pub const LARGE: usize = 300;

/// The bus of a test under `root`.
pub fn bus(root: &Path) -> Builder {
    bus_called("stage", root)
}

/// Another bus beside it.
pub fn bus_called(name: &str, root: &Path) -> Builder {
    Bus::builder(name)
        .root(root)
        .pool_bytes(64 << 20)
        .pre_touch(false)
}

/// A small channel of it.
pub fn channel(bus: &Bus, name: &str, producers: Producers) -> Result<Channel, String> {
    let builder = bus.channel(name).slots(SLOTS).stride(STRIDE).readers(8);
    builder.producers(producers).open_or_create().map_err(text)
}

/// Any error as text.
pub fn text(error: impl Display) -> String {
    error.to_string()
}

fn byte(id: u64, at: usize) -> u8 {
    let mut z = (id ^ (at as u64) << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z ^= z >> 29;
    (z.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 56) as u8
}

/// Writes the body of record `id` over all of `out` (at least 16 bytes): the id, the length, and
/// bytes that follow from both.
pub fn write_body(id: u64, out: &mut [u8]) {
    let len = out.len() as u64;
    out[..8].copy_from_slice(&id.to_le_bytes());
    out[8..16].copy_from_slice(&len.to_le_bytes());
    for (at, out) in out.iter_mut().enumerate().skip(16) {
        *out = byte(id, at);
    }
}

/// The body of record `id`.
pub fn body(id: u64, len: usize) -> Vec<u8> {
    let mut body = vec![0; len];
    write_body(id, &mut body);
    body
}

/// Whose body this is, if every byte of it is what its writer wrote.
pub fn id_of(body: &[u8]) -> Result<u64, String> {
    let word = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?))
    };
    let (Some(id), Some(len)) = (word(0), word(8)) else {
        return Err(format!("a body of {} bytes", body.len()));
    };
    if len != body.len() as u64 {
        return Err(format!(
            "torn: id {id:#x} says {len} bytes, has {}",
            body.len()
        ));
    }
    match (16..body.len()).find(|at| body[*at] != byte(id, *at)) {
        None => Ok(id),
        Some(at) => Err(format!("torn: id {id:#x} is wrong from byte {at} of {len}")),
    }
}

/// Directories of this process that no guard will remove.
fn leftovers_of_ours() -> Vec<std::path::PathBuf> {
    let ours = format!("ringway-test-{}-", std::process::id());
    let mut left = ringway_harness::leftovers();
    left.retain(|path| path.to_string_lossy().contains(&ours));
    left
}

/// A test: a sentence, and how it is shown.
pub type Check = (&'static str, fn() -> Result<(), String>);

/// Runs the checks whose sentence contains every argument that is no option.
pub fn run(checks: &[Check]) -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let list = std::env::args().any(|arg| arg == "--list");
    let mut failed = 0;
    for (sentence, check) in checks {
        if !wanted.iter().all(|word| sentence.contains(word.as_str())) {
            continue;
        }
        if list {
            println!("{sentence}: test");
            continue;
        }
        let shown = catch_unwind(AssertUnwindSafe(check));
        let shown = shown.unwrap_or_else(|_| Err("it panicked, see above".to_owned()));
        failed += u64::from(!tell(sentence, shown));
    }
    end(failed)
}

/// The only test of a binary, whose arguments are its own.
pub fn run_one(sentence: &str, shown: Result<(), String>) -> ExitCode {
    end(u64::from(!tell(sentence, shown)))
}

fn tell(sentence: &str, shown: Result<(), String>) -> bool {
    match &shown {
        Ok(()) => println!("test {sentence} ... ok"),
        Err(why) => println!("test {sentence} ... FAILED: {why}"),
    }
    shown.is_ok()
}

/// The end of a test binary: it fails if anything did, or if a directory of it is left.
pub fn end(failed: u64) -> ExitCode {
    let left = leftovers_of_ours();
    if !left.is_empty() {
        println!("left behind: {left:?}");
    }
    match failed == 0 && left.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
