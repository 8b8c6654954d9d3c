//! The rules of the house: arrows point down, siblings do not know each other, only `sys` makes
//! system calls, `unsafe` stays where it is expected, files stay readable.

use std::path::{Path, PathBuf};

/// Floors from the ground up; a file may use its own floor's module and any lower floor, never a
/// sibling or a higher one.
const FLOORS: &[&[&str]] = &[
    &["sync", "sys"],
    &["layout"],
    &["shm"],
    &["error"],
    &["ring", "pool", "journal"],
    &["object"],
    &["persist"],
    &["channel", "queue"],
    &["topic", "stream"],
    &["bus"],
];

/// Files with `unsafe`: the mappings, and the places that lend bytes out.
const UNSAFE_ROOMS: &[&str] = &[
    "sys/",
    "shm/",
    "object/loan.rs",
    "channel/producer.rs",
    "channel/reader.rs",
    "channel/view.rs",
    "queue/view.rs",
];

struct Source {
    /// Relative to src.
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let found = sources_of("src");
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The sources of one crate of the house.
fn sources_of(directory: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path
                    .strip_prefix(&root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found
}

fn floor(module: &str) -> Option<(usize, &'static str)> {
    FLOORS
        .iter()
        .enumerate()
        .find_map(|(height, floor)| floor.iter().find(|m| **m == module).map(|m| (height, *m)))
}

fn module(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Code lines with their numbers: no comments, nothing behind `#[cfg(test)]`.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
        .take_while(|(_, line)| !line.contains("all(test, not(loom))"))
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or("")))
}

/// What a line breaks, given the module it stands in.
fn broken_arrow(own: &str, line: &str) -> Option<String> {
    let (height, own) = floor(own)?;
    line.split("crate::").skip(1).find_map(|rest| {
        let used: String = rest
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        let (used_height, used) = floor(&used)?;
        let allowed = used == own || used_height < height;
        (!allowed).then(|| format!("{own} knows {used}"))
    })
}

fn is_system_call(line: &str) -> bool {
    [
        "libc::",
        "rustix::",
        "std::fs::read",
        "std::fs::remove",
        "std::fs::metadata",
        "std::fs::OpenOptions",
        "thread::sleep",
        "File::open",
        "File::create",
    ]
    .iter()
    .any(|call| line.contains(call))
}

fn complaints(check: impl Fn(&Source, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in code(&source.text) {
            if let Some(complaint) = check(&source, line) {
                found.push(format!("src/{}:{number}: {complaint}", source.path));
            }
        }
    }
    found
}

#[test]
fn arrows_point_down_and_siblings_do_not_know_each_other() {
    let broken = complaints(|source, line| broken_arrow(module(&source.path), line));
    assert!(broken.is_empty(), "{broken:#?}");
    // The check itself can fail.
    assert!(broken_arrow("ring", "use crate::pool::lend;").is_some());
    assert!(broken_arrow("layout", "use crate::ring::Producers;").is_some());
    assert!(broken_arrow("bus", "use crate::ring::Producers;").is_none());
}

#[test]
fn only_sys_makes_system_calls() {
    let broken = complaints(|source, line| {
        (module(&source.path) != "sys" && is_system_call(line)).then(|| line.trim().to_owned())
    });
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(is_system_call("rustix::fs::open(path)"));
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let broken = complaints(|source, line| {
        let has = line
            .split_whitespace()
            .any(|word| word.trim_matches('(') == "unsafe");
        let room = UNSAFE_ROOMS
            .iter()
            .any(|room| source.path.starts_with(room));
        (has && !room).then(|| line.trim().to_owned())
    });
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_file_opens_with_its_contract_and_stays_readable() {
    let abi = sources_of("ffi/src");
    assert!(!abi.is_empty(), "the sources of the C ABI were not found");
    for source in sources().into_iter().chain(abi) {
        assert!(
            source.text.starts_with("//!"),
            "src/{} has no contract",
            source.path
        );
        let lines = source.text.lines().count();
        assert!(
            lines <= 800,
            "src/{} has {lines} lines: what is its second noun?",
            source.path
        );
    }
}
