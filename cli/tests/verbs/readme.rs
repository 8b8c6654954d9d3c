//! The shell's part of README.md, line by line as it stands there.

use crate::place::{Outcome, Place};
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../../README.md");
const FLIGHTS: &str = include_str!("../../../tests/data/flights.csv");

/// The lines that are run, and how.
fn script() -> String {
    let block = README.split("## From a shell").nth(1).unwrap();
    let block = block.split("```sh\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    // What runs in the background goes with the script, also where a line fails.
    let mut script = String::from("set -eu\nbehind=\ntrap 'kill $behind 2>/dev/null || :' EXIT\n");
    for line in block.lines() {
        let code = line.split(" # ").next().unwrap_or_default().trim_end();
        match code {
            // Done by who built this test; and a receipt that somebody else was given.
            "cargo install --path cli" => continue,
            code if code.starts_with("ringway queue delete demo orders ") => continue,
            // It ends when it is interrupted, as it stands; here when it has done some.
            code if code.starts_with("ringway work ") => {
                script += &code.replace(" -- ", " --count 50 -- ");
            }
            // Another one may listen there.
            "ringway metrics &" => script += "ringway metrics --listen 127.0.0.1:0 &",
            // Its answer is that it does not match.
            code if code.starts_with("ringway topic match ") => {
                script += code;
                script += " || true";
            }
            code => script += code,
        }
        if script.ends_with('&') {
            script += "\nbehind=\"$behind $!\"";
        }
        script += "\n";
    }
    script + "kill $behind 2>/dev/null || :\nwait\nbehind=\necho everything was run\n"
}

#[test]
fn the_quickstart_of_a_shell_runs_from_its_first_line_to_its_last() {
    let place = Place::new();
    let here = place.path().join("here");
    std::fs::create_dir(&here).unwrap();
    std::fs::write(here.join("flights.csv"), FLIGHTS).unwrap();
    std::os::unix::fs::symlink("/bin/true", here.join("handle-order")).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_ringway")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let journals = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme-journals");
    let mut command = Command::new("sh");
    command.args(["-c", &script()]).current_dir(&here);
    command.env("PATH", path).env("RINGWAY_ROOT", place.path());
    command.env("RINGWAY_JOURNAL_ROOT", &journals);
    let outcome = Outcome::from(command.output().unwrap());
    let _ = std::fs::remove_dir_all(&journals);
    assert_eq!(outcome.code, Some(0), "{} {}", outcome.out, outcome.err);
    assert!(
        outcome.out.contains("everything was run\n"),
        "{}",
        outcome.out
    );
    for told in ["one of these", "52.5,13.4", "removed demo"] {
        assert!(outcome.out.contains(told), "{told} in {}", outcome.out);
    }
    assert!(!place.path().join("ringway-demo").exists());
}
