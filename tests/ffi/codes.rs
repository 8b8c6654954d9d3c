//! One table of statuses: the header has its numbers, and every error of the core has its place in it.

use crate::tools::source;
use ringway_ffi::CODES;
use std::collections::BTreeMap;

fn in_header() -> BTreeMap<String, i32> {
    let header = source("include/ringway.h");
    let listed = header.split("enum ringway_status {").nth(1).unwrap();
    let listed = listed.split("};").next().unwrap();
    listed
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.trim().strip_prefix("RINGWAY_")?.split_once(" = ")?;
            let number = rest.split([',', ' ']).next()?.parse().ok()?;
            Some((format!("RINGWAY_{name}"), number))
        })
        .collect()
}

#[test]
fn the_table_is_the_one_of_the_header() {
    let table: BTreeMap<_, _> = CODES
        .iter()
        .map(|(code, name, _)| ((*name).to_owned(), *code as i32))
        .collect();
    assert_eq!(table.len(), CODES.len(), "a name twice");
    assert_eq!(table, in_header());
    for (code, name, text) in CODES {
        let number = *code as i32;
        assert_eq!(number < 0, name.starts_with("RINGWAY_E_"), "{name}");
        assert!(
            text.starts_with(&format!("{name}: "))
                && text.ends_with('\0')
                && text.len() > name.len() + 6,
            "{name}"
        );
    }
}

/// The variants of every error enum of the core.
fn variants(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut of = None;
    let mut depth = 0;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("pub enum ") {
            of = Some(name.trim_end_matches(" {").to_owned());
            depth = 0;
        }
        let Some(name) = &of else { continue };
        let first: String = line
            .trim_start()
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        let is_variant = depth == 1 && first.starts_with(|c: char| c.is_ascii_uppercase());
        if is_variant {
            found.push((name.clone(), first));
        }
        let count = |c| line.matches(c).count() as i32;
        let is_attribute = line.trim_start().starts_with(['#', '"', '/']);
        if !is_attribute {
            depth += count('{') - count('}');
        }
        if depth == 0 && line == "}" {
            of = None;
        }
    }
    found
}

#[test]
fn every_error_of_the_core_has_a_code() {
    let table = source("ffi/src/code.rs");
    let mut all = variants(&source("src/error.rs"));
    for product in ["queue", "stream", "topic"] {
        all.extend(variants(&source(&format!("src/error/{product}.rs"))));
    }
    let mut checked = 0;
    for (name, variant) in &all {
        let block = table
            .split(&format!("failures! {{ {name}:"))
            .nth(1)
            .unwrap_or_else(|| panic!("{name} has no codes"));
        let block = block.split("\n}").next().unwrap();
        assert!(
            block.contains(&format!("    {variant} => ")),
            "{name}::{variant} has no code"
        );
        checked += 1;
    }
    assert!(checked > 120, "only {checked} variants were found");
    assert!(all.contains(&("QueueSendError".to_owned(), "DedupFull".to_owned())));
}
