//! One measured figure and how it is printed.

use serde_json::json;

/// Which side of the goal is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    AtMost,
    AtLeast,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub id: &'static str,
    pub what: String,
    /// `None`: it could not be measured; `what` says why.
    pub measured: Option<f64>,
    pub better: Better,
    pub goal: f64,
    pub unit: &'static str,
    pub command: String,
}

impl Outcome {
    /// Whether the goal is met. What could not be measured is not met.
    pub fn met(&self) -> bool {
        self.measured.is_some_and(|measured| match self.better {
            Better::AtMost => measured <= self.goal,
            Better::AtLeast => measured >= self.goal,
        })
    }

    /// The line for programs.
    pub fn json(&self) -> String {
        let measured = self.measured.map(|m| (m * 1000.0).round() / 1000.0);
        let goal = match self.better {
            Better::AtMost => format!("<= {}", self.goal),
            Better::AtLeast => format!(">= {}", self.goal),
        };
        json!({"id": self.id, "what": self.what, "measured": measured, "goal": goal,
               "unit": self.unit, "met": self.met(), "command": self.command})
        .to_string()
    }

    /// The line for people.
    pub fn text(&self) -> String {
        let sign = match self.better {
            Better::AtMost => "≤",
            Better::AtLeast => "≥",
        };
        let measured = self
            .measured
            .map_or("not measured".to_owned(), |m| format!("{m:.3}"));
        let verdict = if self.met() { "met   " } else { "MISSED" };
        let goal = self.goal;
        format!(
            "{:<4} {verdict} {measured:>12} {sign} {goal} {}  {}",
            self.id, self.unit, self.what
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(measured: Option<f64>, better: Better) -> Outcome {
        let (what, command) = (String::new(), String::new());
        Outcome {
            id: "P0",
            what,
            measured,
            better,
            goal: 1.2,
            unit: "x",
            command,
        }
    }

    #[test]
    fn a_figure_beyond_the_goal_or_missing_is_not_met() {
        assert!(outcome(Some(1.2), Better::AtMost).met());
        assert!(!outcome(Some(1.21), Better::AtMost).met());
        assert!(outcome(Some(1.2), Better::AtLeast).met());
        assert!(!outcome(Some(1.19), Better::AtLeast).met());
        assert!(!outcome(None, Better::AtMost).met());
        assert!(
            outcome(None, Better::AtMost)
                .json()
                .contains("\"met\":false")
        );
    }
}
