//! What the help of every verb says beside its own words.
//!
//! A verb says what it does, and shows it with examples. How times and sizes are written and what the exit status
//! means holds for all of them: it is written here, and put under each verb that takes a time or a size, or that does
//! not speak of its own exit status. The options of every verb stand under a heading of their own.

use clap::Command;

/// The heading of the options that every verb has.
pub const EVERYWHERE: &str = "Everywhere";

const TIMES: &str = "TIME is 250us, 20ms, 5s, 1h 30m, 4days; a bare number is seconds.";
const SIZES: &str = "BYTES is 4096, 64K, 16M, 1G, 2T, in powers of 1,024.";
const STATUS: &str =
    "Exit status: 0 done, 1 it failed (standard error says why), 2 the call is wrong.";

/// The command with all of its help.
pub fn finish(command: Command) -> Command {
    let command = command.mut_subcommands(finish);
    let is_verb = !command.has_subcommands() || command.get_positionals().next().is_some();
    let has_text = command.get_after_help().is_some();
    if !is_verb && !has_text {
        return command;
    }
    let mut text = command
        .get_after_help()
        .map_or(String::new(), |text| format!("{text}\n"));
    for (name, says) in [("TIME", TIMES), ("BYTES", SIZES)] {
        if takes(&command, name) {
            text += says;
            text.push('\n');
        }
    }
    let about = command.get_long_about().map(ToString::to_string);
    if !about.unwrap_or_default().contains("Exit status:") && !text.contains("Exit status:") {
        text += STATUS;
    }
    command.after_help(text.trim_end().to_owned())
}

/// Whether one of its options is given a `name`.
fn takes(command: &Command, name: &str) -> bool {
    let mut names = command
        .get_arguments()
        .filter_map(|arg| arg.get_value_names());
    names.any(|names| names.iter().any(|of_arg| of_arg.as_str() == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, CommandFactory};

    /// Each verb that people call, by its words.
    fn verbs(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let path = format!("{path} {}", verb.get_name());
            match verb.has_subcommands() {
                true => verbs(verb, &path, found),
                false => found.push((path, verb.clone())),
            }
        }
    }

    fn all() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        verbs(&finish(crate::Cli::command()), "ringway", &mut found);
        assert!(found.len() > 60, "{}", found.len());
        found
    }

    #[test]
    fn every_verb_shows_an_example_of_itself_and_says_what_its_exit_status_means() {
        let mut missing = Vec::new();
        for (path, mut verb) in all() {
            let help = verb.render_long_help().to_string();
            // Behind its usage, which names it too.
            let shown = help.split_once("Example").map_or("", |(_, shown)| shown);
            let mut lines = shown.lines().map(|line| format!("{} ", line.trim_end()));
            if !lines.any(|line| line.contains(&format!("{path} "))) {
                missing.push(format!("an example of {path}"));
            }
            if !help.contains("Exit status") {
                missing.push(format!("the exit status of {path}"));
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn every_argument_and_option_says_what_it_is() {
        let mut silent = Vec::new();
        for (path, verb) in all() {
            let arguments = verb.get_arguments().filter(|arg| !arg.is_hide_set());
            let of_verb = arguments.filter(|arg| arg.get_help().is_none());
            silent.extend(of_verb.map(|arg| format!("{path}: {}", arg.get_id())));
        }
        assert!(silent.is_empty(), "{silent:#?}");
    }

    #[test]
    fn examples_are_as_narrow_as_help_is_shown() {
        const WIDTH: usize = 100;
        let mut wide = Vec::new();
        for (path, verb) in all() {
            let text = verb.get_after_help().map(ToString::to_string);
            for line in text.unwrap_or_default().lines() {
                // One that is broken can't be copied.
                if line.starts_with("  ") && line.chars().count() > WIDTH {
                    wide.push(format!("{path}: {line}"));
                }
            }
        }
        assert!(wide.is_empty(), "{wide:#?}");
    }

    #[test]
    fn what_holds_for_all_is_said_once_under_each() {
        let plain = Command::new("send")
            .about("x")
            .arg(Arg::new("wait").long("wait").value_name("TIME"));
        let text = finish(plain).get_after_help().unwrap().to_string();
        assert_eq!(text, format!("{TIMES}\n{STATUS}"));
        let own = Command::new("match")
            .long_about("x\n\nExit status: 0 it matches.")
            .after_help("Examples:\n  match");
        assert_eq!(
            finish(own).get_after_help().unwrap().to_string(),
            "Examples:\n  match"
        );
    }
}
