//! What is shown: a table, sorted and filtered, and the keys that change it. Knows no terminal.

use super::rows::{Row, Tab, rows};
use super::watch::Seen;
use crate::snapshot::Snapshot;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;
use std::path::PathBuf;
use std::time::Duration;

const INTERVALS: [Duration; 8] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(60),
];
/// A page, whatever the height of the terminal.
const PAGE: u16 = 10;

/// What follows from a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Deed {
    GoOn,
    End,
    LookEvery(Duration),
}

pub struct Screen {
    pub root: PathBuf,
    bus: Option<String>,
    pub interval: Duration,
    pub tab: Tab,
    /// By table: the column, and whether the other way round.
    sort: [(usize, bool); Tab::ALL.len()],
    pub filter: String,
    pub is_filtering: bool,
    pub is_paused: bool,
    pub is_helping: bool,
    pub table: TableState,
    seen: Vec<Seen>,
    pub has_looked: bool,
}

impl Screen {
    pub fn new(root: PathBuf, bus: Option<String>, interval: Duration) -> Self {
        Self {
            root,
            bus,
            interval,
            tab: Tab::Queues,
            sort: [(0, false); Tab::ALL.len()],
            filter: String::new(),
            is_filtering: false,
            is_paused: false,
            is_helping: false,
            table: TableState::new(),
            seen: Vec::new(),
            has_looked: false,
        }
    }

    /// The only bus that is watched.
    pub fn bus(&self) -> Option<String> {
        self.bus.clone()
    }

    /// A new look.
    pub fn take(&mut self, seen: Vec<Seen>) {
        self.seen = seen;
        self.has_looked = true;
    }

    pub fn buses(&self) -> usize {
        self.seen.len()
    }

    pub fn snapshots(&self) -> Vec<&Snapshot> {
        let seen = self.seen.iter();
        seen.filter_map(|seen| seen.looked.as_ref().ok()).collect()
    }

    /// Whether the bus that was asked for can't be looked at.
    pub fn has_failed(&self) -> bool {
        self.bus.is_some() && self.snapshots().is_empty()
    }

    /// What is wrong with what.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        for Seen { bus, looked } in &self.seen {
            match looked {
                Err(why) => troubles.push(format!("{bus}: {why}")),
                Ok(snapshot) => {
                    for damaged in &snapshot.damaged {
                        troubles.push(format!("{bus}/{}: {}", damaged.object, damaged.why));
                    }
                }
            }
        }
        troubles
    }

    /// The rows of a table, as they are shown.
    pub fn rows(&self, tab: Tab) -> Vec<Row> {
        let mut rows = rows(tab, &self.seen, self.bus.is_none());
        let wanted = self.filter.to_lowercase();
        rows.retain(|row| {
            let mut cells = row.cells.iter();
            wanted.is_empty() || cells.any(|cell| cell.text().to_lowercase().contains(&wanted))
        });
        let (column, is_reversed) = self.sort[tab as usize];
        rows.sort_by(|one, other| {
            let compared = match (one.cells.get(column), other.cells.get(column)) {
                (Some(one), Some(other)) => one.compare(other),
                // One that can't be looked at has only a name.
                (one, other) => other.is_some().cmp(&one.is_some()),
            };
            match is_reversed {
                true => compared.reverse(),
                false => compared,
            }
        });
        rows
    }

    /// The column that a table is sorted by, and whether the other way round.
    pub fn sorted_by(&self, tab: Tab) -> (usize, bool) {
        self.sort[tab as usize]
    }

    fn go_to(&mut self, tab: Tab) {
        self.tab = tab;
        self.table = TableState::new();
    }

    /// Obeys a key.
    pub fn obey(&mut self, key: KeyEvent) -> Deed {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Deed::End,
                _ => Deed::GoOn,
            };
        }
        if self.is_filtering {
            match key.code {
                KeyCode::Enter => self.is_filtering = false,
                KeyCode::Esc => {
                    self.filter.clear();
                    self.is_filtering = false;
                }
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(c) => self.filter.push(c),
                _ => {}
            }
            return Deed::GoOn;
        }
        if self.is_helping {
            self.is_helping = false;
            return match key.code {
                KeyCode::Char('q') => Deed::End,
                _ => Deed::GoOn,
            };
        }
        self.obey_in_table(key.code)
    }

    fn obey_in_table(&mut self, code: KeyCode) -> Deed {
        let tabs = Tab::ALL.len();
        let columns = self.tab.columns().len();
        let sort = &mut self.sort[self.tab as usize];
        match code {
            KeyCode::Char('q') => return Deed::End,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab | KeyCode::Right => self.go_to(Tab::ALL[(self.tab as usize + 1) % tabs]),
            KeyCode::BackTab | KeyCode::Left => {
                self.go_to(Tab::ALL[(self.tab as usize + tabs - 1) % tabs]);
            }
            KeyCode::Char(digit @ '1'..='7') => {
                self.go_to(Tab::ALL[digit as usize - '1' as usize]);
            }
            KeyCode::Char('s') => *sort = ((sort.0 + 1) % columns, false),
            KeyCode::Char('S') => *sort = ((sort.0 + columns - 1) % columns, false),
            KeyCode::Char('r') => sort.1 = !sort.1,
            KeyCode::Char('/') => self.is_filtering = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('?' | 'h') => self.is_helping = true,
            KeyCode::Down => self.table.scroll_down_by(1),
            KeyCode::Up => self.table.scroll_up_by(1),
            KeyCode::PageDown => self.table.scroll_down_by(PAGE),
            KeyCode::PageUp => self.table.scroll_up_by(PAGE),
            KeyCode::Home => self.table.select_first(),
            KeyCode::End => self.table.select_last(),
            KeyCode::Char('+') => {
                let longer = INTERVALS.iter().find(|step| **step > self.interval);
                self.interval = *longer.unwrap_or(&self.interval);
                return Deed::LookEvery(self.interval);
            }
            KeyCode::Char('-') => {
                let shorter = INTERVALS.iter().rfind(|step| **step < self.interval);
                self.interval = *shorter.unwrap_or(&self.interval);
                return Deed::LookEvery(self.interval);
            }
            _ => {}
        }
        Deed::GoOn
    }
}
