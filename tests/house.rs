//! The rules of the house: arrows point down, siblings do not know each other, only `sys` makes
//! system calls, `unsafe` stays where it is expected, files stay readable, what documents say of files and
//! dependencies is so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Floors from the ground up; a file may use its own floor's module and any lower floor, never a
/// sibling or a higher one.
const FLOORS: &[&[&str]] = &[
    &["sync", "sys", "trace"],
    &["layout"],
    &["shm"],
    &["error"],
    &["ring", "pool", "journal"],
    &["object"],
    &["persist"],
    &["channel", "queue"],
    &["stream"],
    &["topic"],
    &["bus"],
];

/// Files with `unsafe`: the mappings, and the places that lend bytes out.
const UNSAFE_ROOMS: &[&str] = &[
    "sys/",
    "shm/",
    "object/loan.rs",
    "channel/producer/in_place.rs",
    "channel/reader",
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
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == "unsafe");
        let room = UNSAFE_ROOMS
            .iter()
            .any(|room| source.path.starts_with(room));
        (has && !room).then(|| line.trim().to_owned())
    });
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_file_opens_with_its_contract_and_stays_readable() {
    for crate_sources in [
        "src",
        "ffi/src",
        "cli/src",
        "xtask/src",
        "benches/measure/src",
        "tests/harness/src",
    ] {
        let sources = sources_of(crate_sources);
        assert!(
            sources.len() > 3,
            "the sources of {crate_sources} were not found"
        );
        for source in sources {
            let path = format!("{crate_sources}/{}", source.path);
            assert!(source.text.starts_with("//!"), "{path} has no contract");
            let lines = source.text.lines().count();
            assert!(
                lines <= 800,
                "{path} has {lines} lines: what is its second noun?"
            );
        }
    }
}

/// Every document of the house, relative to its root.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(root.join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = directory.join(&name);
            let is_made = name.starts_with('.') || name == "target";
            if entry.path().is_dir() && !is_made {
                open.push(path);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What a document links to: `](target)`, where that is no page of the web and no place in itself.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

fn document(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn every_link_of_a_document_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = documents();
    assert!(documents.len() > 20, "the documents were not found");
    let (mut broken, mut followed) = (Vec::new(), 0);
    for path in &documents {
        let directory = root.join(path).parent().unwrap().to_path_buf();
        for link in links(&document(path.to_str().unwrap())) {
            followed += 1;
            if !directory.join(link).exists() {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(followed > 150, "{followed} links");
    let seen: Vec<_> = links("[a](b.md) [c](https://d) [e](#f) [g](h.rs#i)").collect();
    assert_eq!(seen, ["b.md", "h.rs"]);
}

#[test]
fn each_word_of_the_glossary_names_its_file_and_is_found_from_both_doors() {
    for door in ["README.md", "ARCHITECTURE.md"] {
        let text = document(door);
        assert!(
            links(&text).any(|link| link == "docs/glossary.md"),
            "{door}"
        );
    }
    let glossary = document("docs/glossary.md");
    let rows = glossary.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<_> = rows.filter(|row| !row.starts_with("| word |")).collect();
    assert!(rows.len() > 60, "{}", rows.len());
    let mut words = BTreeSet::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert!(links(cells[3]).count() > 0, "no file: {row}");
        // What it is, or what others call it: one of the two says something.
        assert!(!cells[1].is_empty() || !cells[2].is_empty(), "{row}");
        assert!(words.insert(cells[0]), "twice: {row}");
    }
}

/// Names of the dependencies of the core, of all features and of model checks.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut is_inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_inside = line == "[dependencies]" || line == "[target.'cfg(loom)'.dependencies]";
        } else if is_inside && let Some((name, _)) = line.split_once(" = ") {
            found.insert(name);
        }
    }
    found
}

#[test]
fn each_dependency_of_the_core_is_listed_with_a_reason_and_used() {
    let manifest = document("Cargo.toml");
    let needed = dependencies(&manifest);
    assert!(needed.len() > 10, "{needed:?}");
    let architecture = document("ARCHITECTURE.md");
    let section = architecture
        .split("## Dependencies of the core")
        .nth(1)
        .unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut listed = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        if cells[0] == "crate" {
            continue;
        }
        assert!(cells.len() == 2 && cells[1].len() > 5, "no reason: {row}");
        listed.extend(cells[0].split(", "));
    }
    assert_eq!(listed, needed, "ARCHITECTURE.md and Cargo.toml");
    let sources = sources();
    for name in needed {
        // The one that is imported by another name than its own.
        let name = if name == "md-5" { "md5" } else { name };
        let module = name.replace('-', "_");
        let [path, import] = [format!("{module}::"), format!("use {module}")];
        let mut texts = sources.iter().map(|source| &source.text);
        let is_used = texts.any(|text| text.contains(&path) || text.contains(&import));
        assert!(is_used, "{name} is not used");
    }
}

#[test]
fn the_quickstart_of_the_readme_is_the_one_that_is_run() {
    let readme = document("README.md");
    let shown = readme.split("```rust\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap();
    assert_eq!(shown, document("tests/readme/quickstart.rs"));
}
