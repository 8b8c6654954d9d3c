//! One part of the story: where its rows stand, and what it says about itself in the end.

use super::flights::Row;
use super::part::Role;
use super::record::Order;
use serde_json::{Map, Value};

/// How far it is.
pub struct Stand {
    /// What was sent so far.
    pub sent: u64,
    /// What is not done of it.
    pub left: u64,
}

/// What happens when half of the rows are done.
pub enum HalfWay {
    GoOn,
    /// All processes are killed and [`Leg::restart`] is called; then they begin anew.
    KillEverybody,
}

pub trait Leg {
    /// Of the object, and of the directory with what its consumers wrote down.
    fn name(&self) -> &'static str;
    /// What the rows go through.
    fn road(&self) -> String;
    fn producer(&self) -> Role;
    fn consumer(&self) -> Role;
    fn stand(&mut self) -> anyhow::Result<Stand>;
    /// Called once, when half of the rows are done.
    fn half_way(&mut self) -> anyhow::Result<HalfWay>;
    /// As after a restart of the machine.
    fn restart(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    /// In which order the rows of a plane come.
    fn order(&self) -> Order;
    /// To how many places a row may go.
    fn copies(&self) -> usize {
        1
    }
    /// Whether a row goes to that place.
    fn wants(&self, _copy: usize, _row: &Row) -> bool {
        true
    }
    /// Further promises: what was promised, whether it was held, and how that is known.
    fn promises(&self, rows: u64) -> anyhow::Result<Vec<Promise>>;
}

pub struct Promise {
    pub name: &'static str,
    pub is_held: bool,
    pub told: String,
    pub figures: Map<String, Value>,
}

impl Promise {
    pub fn new(name: &'static str, is_held: bool, told: String) -> Self {
        Self {
            name,
            is_held,
            told,
            figures: Map::new(),
        }
    }

    /// With a figure for programs.
    pub fn figure(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.figures.insert(name.to_owned(), value.into());
        self
    }
}
