//! Names for addresses: which function and line an instruction belongs to.
//!
//! Uses the process's memory map and, if installed, the `addr2line` tool; without it the
//! answer is file and offset. For messages only: nothing depends on what it says.

use std::process::Command;

/// The mapped files of a process, as they were when it was asked.
#[derive(Debug, Default)]
pub(super) struct Map {
    ranges: Vec<(u64, u64, String)>,
}

impl Map {
    pub(super) fn of(pid: i32) -> Map {
        let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let ranges = text.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (from, to) = fields.next()?.split_once('-')?;
            let name = fields.nth(4)?.to_owned();
            let number = |hex| u64::from_str_radix(hex, 16).ok();
            Some((number(from)?, number(to)?, name))
        });
        Map {
            ranges: ranges.collect(),
        }
    }

    /// `function at file:line`, or as much of it as can be had.
    pub(super) fn name(&self, address: u64) -> String {
        let hit = self
            .ranges
            .iter()
            .find(|(from, to, _)| (*from..*to).contains(&address));
        let Some((_, _, file)) = hit else {
            return format!("{address:#x}");
        };
        let base = self
            .ranges
            .iter()
            .filter(|r| r.2 == *file)
            .map(|r| r.0)
            .min();
        let offset = address - base.unwrap_or(0);
        let tool = Command::new("addr2line")
            .args(["-C", "-f", "-p", "-s", "-e", file, &format!("{offset:#x}")])
            .output();
        match tool {
            Ok(out) if out.status.success() && !out.stdout.starts_with(b"??") => {
                String::from_utf8_lossy(&out.stdout).trim().to_owned()
            }
            _ => format!("{file}+{offset:#x}"),
        }
    }
}
