//! Which files there are, and a wake when something happens to them.
//!
//! Patterns are looked through every second, which is the guarantee. inotify on their directories wakes the
//! agent in between; where it is refused or overflows, the sweep is all there is.

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub struct Watch {
    patterns: Vec<String>,
    events: Option<OwnedFd>,
    watched: HashSet<PathBuf>,
}

impl Watch {
    /// Of files, directories (all that lies in them) and patterns.
    pub fn new(paths: &[String]) -> anyhow::Result<Self> {
        let mut patterns = Vec::new();
        for path in paths {
            let pattern = match Path::new(path).is_dir() {
                true => format!("{}/*", glob::Pattern::escape(path.trim_end_matches('/'))),
                false => path.clone(),
            };
            glob::Pattern::new(&pattern).with_context(|| format!("{pattern:?} is no pattern"))?;
            patterns.push(pattern);
        }
        Ok(Self {
            patterns,
            events: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok(),
            watched: HashSet::new(),
        })
    }

    /// The files that the patterns match now, each once.
    pub fn sweep(&mut self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for pattern in &self.patterns {
            let Ok(paths) = glob::glob(pattern) else {
                continue; // checked when it was given
            };
            // What can't be looked at now may be there at the next sweep.
            found.extend(paths.flatten().filter(|path| path.is_file()));
        }
        let directories: Vec<PathBuf> = found.iter().filter_map(|path| parent(path)).collect();
        let of_patterns = self
            .patterns
            .iter()
            .filter_map(|text| parent(Path::new(text)));
        for directory in directories
            .into_iter()
            .chain(of_patterns.collect::<Vec<_>>())
        {
            self.watch(&directory);
        }
        found
    }

    /// The patterns that match no file now.
    pub fn unmatched(&self) -> impl Iterator<Item = &str> {
        let patterns = self.patterns.iter().map(String::as_str);
        patterns.filter(|pattern| {
            let mut found = glob::glob(pattern).into_iter().flatten().flatten();
            !found.any(|path| path.is_file())
        })
    }

    fn watch(&mut self, directory: &Path) {
        if self.watched.contains(directory) {
            return;
        }
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
        if let Some(events) = &self.events
            && inotify::add_watch(events, directory, what).is_ok()
        {
            self.watched.insert(directory.to_owned());
        }
    }

    /// Until something happened, up to `timeout`.
    pub fn wait(&mut self, timeout: Duration) {
        let Some(events) = &self.events else {
            return std::thread::sleep(timeout);
        };
        let mut polled = [PollFd::new(events, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        if poll(&mut polled, timeout.as_ref()).is_ok_and(|ready| ready > 0) {
            // What happened does not matter: every file is looked at.
            let mut buffer = [0u8; 4096];
            while rustix::io::read(events, &mut buffer).is_ok_and(|read| read > 0) {}
        }
    }
}

/// The directory of a path.
pub fn parent(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(match parent.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => parent.to_owned(),
    })
}
