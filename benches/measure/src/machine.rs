//! The machine beside the figures: a figure without it says nothing.
//!
//! Read from /proc and uname; what can't be read is called "unknown", never guessed.

use serde::{Deserialize, Serialize};
use std::fs;

/// What a reader needs to place absolute figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub memory_gib: u64,
    /// A hypervisor shares the cores with strangers: expect drift and stalls.
    pub is_virtual: bool,
}

impl Machine {
    /// The one this runs on.
    pub fn here() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            cpu: field(&cpuinfo, "model name")
                .unwrap_or("unknown CPU")
                .to_owned(),
            cores: crate::pin::allowed_cores().map_or(0, |cores| cores.len()),
            kernel: match kernel.trim() {
                "" => "unknown".to_owned(),
                release => format!("Linux {release}"),
            },
            memory_gib: field(&meminfo, "MemTotal")
                .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kib| (kib + (1 << 19)) >> 20),
            is_virtual: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }

    /// One line for the head of a report.
    pub fn line(&self) -> String {
        let shared = if self.is_virtual { ", virtual" } else { "" };
        format!(
            "{}, {} cores{shared}, {} GiB, {}",
            self.cpu, self.cores, self.memory_gib, self.kernel
        )
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text
        .lines()
        .find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: A CPU\n";
        assert_eq!(field(text, "model name"), Some("A CPU"));
        assert_eq!(field(text, "model"), Some("17"));
        assert_eq!(field(text, "absent"), None);
    }
}
