//! The examples: the same names in three languages, and the same output.

use crate::tools::{built, program_with, project, run, scratch, source, succeed, text};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each prints.
const EXAMPLES: [(&str, &str); 4] = [
    ("hello_queue", "hello"),
    ("work_pool", "1000 jobs done, their sum is 500500"),
    (
        "zero_copy",
        "1048576 bytes seen in place, their sum is 7340032",
    ),
    ("crash_recovery", "order 1, received 2 times"),
];

/// A Rust example as cargo builds it with the tests of the workspace; built here where it is not there,
/// or is older than its source, since this test alone was asked for.
pub fn rust_example(package: &str, name: &str, source: &str) -> PathBuf {
    let profile = built().parent().unwrap().to_owned();
    let example = profile.join("examples").join(name);
    let age = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified());
    let is_new = age(&example).is_ok_and(|built| built >= age(&project().join(source)).unwrap());
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
fn every_example_is_there_in_every_language_and_is_run() {
    for (language, suffix) in [("c", "c"), ("cpp", "cpp"), ("rust", "rs")] {
        let found = std::fs::read_dir(project().join("examples").join(language)).unwrap();
        let mut found: Vec<_> = found
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut expected = EXAMPLES.map(|(name, _)| format!("{name}.{suffix}"));
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
