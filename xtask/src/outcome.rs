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

    /// A row of a table in Markdown.
    pub fn markdown(&self) -> String {
        let measured = self.measured.map_or("not measured".to_owned(), rounded);
        let verdict = if self.met() { "met" } else { "**missed**" };
        let what = self.what.replace('|', "\\|");
        format!(
            "| {} | {what} | {} {} {} | {measured} | {verdict} | `{}` |",
            self.id,
            self.sign(),
            rounded(self.goal),
            self.unit,
            self.command
        )
    }

    fn sign(&self) -> &'static str {
        match self.better {
            Better::AtMost => "≤",
            Better::AtLeast => "≥",
        }
    }

    /// The line for people.
    pub fn text(&self) -> String {
        let sign = self.sign();
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

/// With as many digits as say something.
fn rounded(figure: f64) -> String {
    let decimals = match figure.abs() {
        1000.0.. => 0,
        10.0.. => 1,
        _ => 3,
    };
    let text = format!("{figure:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
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
    fn a_row_says_how_a_figure_stands_to_its_goal() {
        let row = outcome(Some(1_000_002.0), Better::AtLeast).markdown();
        assert_eq!(row, "| P0 |  | ≥ 1.2 x | 1000002 | met | `` |");
        let row = outcome(Some(12.0), Better::AtMost).markdown();
        assert!(row.contains("| 12 | **missed** |"), "{row}");
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
