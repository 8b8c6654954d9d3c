//! Every function from C: as it is meant, and with arguments that are not; and both once more under
//! AddressSanitizer, and under valgrind where that is installed and wanted:
//!
//! ```text
//! RINGWAY_EXECUTIONS=10000000 cargo test --release -p ringway-ffi --test ffi by_chance      a minute
//! RINGWAY_SEED=7 cargo test …                                                               the same calls again
//! RINGWAY_FULL=1 cargo test --release -p ringway-ffi --test ffi valgrind                    two minutes
//! ```

use crate::tools::{Disk, has, program_with, run, scratch, succeed, text};
use std::path::Path;
use std::process::Command;

fn passes(source: &str, name: &str, flags: &[&str]) {
    passes_with(source, name, flags, &[]);
}

fn passes_with(source: &str, name: &str, flags: &[&str], arguments: &[String]) {
    let directory = scratch();
    let built = program_with(source, directory.path(), flags);
    let mut program = run(&built, directory.path());
    ends_well(program.args(arguments), directory.path(), name);
}

/// Runs a program that lies in `directory`.
fn ends_well(program: &mut Command, directory: &Path, name: &str) {
    let disk = Disk::new();
    let printed = text(&succeed(program.env("RINGWAY_TEST_DISK", &disk.0)));
    assert_eq!(printed.trim(), format!("{name}: ok"));
    // It has cleaned up: the program alone is there.
    let left = std::fs::read_dir(directory).unwrap().count();
    assert_eq!(left, 1, "{name} left something");
}

#[test]
fn every_function_does_from_c_what_its_comment_says() {
    for name in ["calls", "streams", "changes", "targets"] {
        passes(&format!("tests/ffi/c/{name}.c"), name, &[]);
    }
}

#[test]
fn the_cpp_header_does_the_same_with_exceptions_and_without() {
    passes("tests/ffi/cpp/calls.cpp", "calls", &[]);
    passes(
        "tests/ffi/cpp/calls.cpp",
        "calls",
        &["-fno-exceptions", "-fno-rtti"],
    );
}

#[test]
fn wrong_arguments_get_a_status_each_and_break_nothing() {
    passes("tests/ffi/c/hostile.c", "hostile", &[]);
}

/// Seed and number of calls by chance: `RINGWAY_SEED`, or the time; `RINGWAY_EXECUTIONS`, or a few.
fn by_chance(calls: u64) -> [String; 2] {
    let given = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let calls = given("RINGWAY_EXECUTIONS").unwrap_or(calls);
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let by_time = || now().map_or(1, |since| since.as_nanos() as u64 | 1);
    let seed: u64 = given("RINGWAY_SEED").unwrap_or_else(by_time);
    println!("calls by chance: seed {seed}, {calls} calls");
    [seed.to_string(), calls.to_string()]
}

#[test]
fn calls_by_chance_get_a_status_each_and_break_nothing() {
    passes_with("tests/ffi/c/fuzz.c", "fuzz", &[], &by_chance(100_000));
}

/// Slow, so not with every change: AddressSanitizer is, and finds what valgrind finds but for reads of what was
/// never written.
#[test]
fn valgrind_finds_nothing_in_the_same_programs() {
    let is_full = std::env::var("RINGWAY_FULL").is_ok_and(|it| it == "1");
    if !is_full || !has("valgrind") {
        return;
    }
    for name in ["calls", "streams", "changes", "targets", "hostile"] {
        let directory = scratch();
        let built = program_with(&format!("tests/ffi/c/{name}.c"), directory.path(), &[]);
        let mut valgrind = run(Path::new("valgrind"), directory.path());
        valgrind.args([
            "-q",
            "--error-exitcode=9",
            "--leak-check=full",
            "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite",
        ]);
        ends_well(valgrind.arg(&built), directory.path(), name);
    }
}

const SANITIZED: [&str; 3] = [
    "-fsanitize=address",
    "-fno-omit-frame-pointer",
    "-Wno-use-after-free",
];

/// Whether the compiler has AddressSanitizer; announced if not.
fn has_address_sanitizer(directory: &Path) -> bool {
    let source = directory.join("empty.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let there = Command::new("gcc")
        .args(["-fsanitize=address", "-o"])
        .arg(directory.join("empty"))
        .arg(&source)
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        println!("SKIPPED for want of AddressSanitizer: the C programs under it");
    }
    there
}

#[test]
fn address_sanitizer_finds_nothing_in_the_same_programs() {
    let directory = scratch();
    if !has_address_sanitizer(directory.path()) {
        return;
    }
    for name in ["calls", "streams", "changes", "targets", "hostile"] {
        passes(&format!("tests/ffi/c/{name}.c"), name, &SANITIZED);
    }
    passes("tests/ffi/cpp/calls.cpp", "calls", &SANITIZED);
    let calls = by_chance(20_000);
    passes_with("tests/ffi/c/fuzz.c", "fuzz", &SANITIZED, &calls);
    // And it does find something, where there is something.
    let source = directory.path().join("wrong.c");
    std::fs::write(
        &source,
        "#include <ringway.h>\n#include <stdlib.h>\n#include <string.h>\nint main(void) {\n\
         char *body = malloc(8); ringway_receipt_t receipt;\n\
         free(body); strcpy(body, \"no\");\n\
         return ringway_receipt_parse(body, &receipt) == 0; }\n",
    )
    .unwrap();
    let wrong = program_with(source.to_str().unwrap(), directory.path(), &SANITIZED);
    let output = run(&wrong, directory.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("heap-use-after-free"));
}
