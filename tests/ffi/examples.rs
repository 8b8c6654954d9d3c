//! The examples: the same names in three languages, and the same output.

use crate::tools::{built, program_with, project, run, scratch, source, succeed, text};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What each prints.
const EXAMPLES: [(&str, &str); 6] = [
    ("hello_queue", "hello"),
    ("work_pool", "1000 jobs done, their sum is 500500"),
    ("fan_out", "100 orders published, 100 billed, 25 shipped"),
    ("sharded_stream", "600 reports of 12 trucks, 0 out of order"),
    (
        "zero_copy",
        "1048576 bytes seen in place, their sum is 7340032",
    ),
    ("crash_recovery", "order 1, received 2 times"),
];

/// The last change of anything in `directory` or below.
fn newest(directory: &Path) -> SystemTime {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap());
    let each = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    });
    each.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A Rust example as cargo builds it with the tests of the workspace; built here where it is not there,
/// or is older than its source or the core's, since this test alone was asked for.
pub fn rust_example(package: &str, name: &str, source: &str) -> PathBuf {
    let profile = built().parent().unwrap().to_owned();
    let example = profile.join("examples").join(name);
    let age = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified());
    let changed = age(&project().join(source))
        .unwrap()
        .max(newest(&project().join("src")));
    let is_new = age(&example).is_ok_and(|built| built >= changed);
    if !is_new {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", package, "--example", name]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        succeed(cargo.current_dir(project()));
    }
    example
}

#[test]
fn every_example_prints_the_same_in_c_cpp_and_rust() {
    for (name, expected) in EXAMPLES {
        let directory = scratch();
        let c = program_with(&format!("examples/c/{name}.c"), directory.path(), &[]);
        let printed = text(&succeed(&mut run(&c, directory.path())));
        assert_eq!(printed.trim(), expected, "{name} in C");

        let directory = scratch();
        let cpp = program_with(&format!("examples/cpp/{name}.cpp"), directory.path(), &[]);
        let printed = text(&succeed(&mut run(&cpp, directory.path())));
        assert_eq!(printed.trim(), expected, "{name} in C++");

        let directory = scratch();
        let rust = rust_example("ringway", name, &format!("examples/rust/{name}.rs"));
        let printed = text(&succeed(&mut run(&rust, directory.path())));
        assert_eq!(printed.trim(), expected, "{name} in Rust");
    }
}

#[test]
fn every_example_in_c_or_cpp_is_run_and_has_its_twins() {
    for (language, suffix) in [("c", "c"), ("cpp", "cpp"), ("rust", "rs")] {
        let found = std::fs::read_dir(project().join("examples").join(language)).unwrap();
        let mut found: Vec<_> = found
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut expected = EXAMPLES.map(|(name, _)| format!("{name}.{suffix}"));
        // Rust has more: of what has no C ABI yet.
        found.retain(|name| language != "rust" || expected.contains(name));
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "examples/{language}");
    }
}

#[test]
fn the_first_program_of_readme_is_the_example_and_has_at_most_20_lines() {
    let program = source("examples/c/hello_queue.c");
    assert!(
        program.lines().count() <= 20,
        "{} lines",
        program.lines().count()
    );
    let readme = source("README.md");
    assert!(
        readme.contains(&format!("```c\n{program}```")),
        "README shows another program"
    );
}
