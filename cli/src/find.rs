//! Finding a bus, a queue or a stream by its name; where there is none, the near names.

use crate::output::Place;
use anyhow::anyhow;
use ringway::{Bus, ObjectKind, Observer, OpenError, Queue, Stream};
use std::fmt::Write;

/// Names are near from this similarity (0 to 1) on.
const NEAR: f64 = 0.75;
/// As many near names are told.
const MOST: usize = 5;

impl Place {
    /// The open bus, or an error that says which there are.
    pub fn open(&self, bus: &str) -> anyhow::Result<Bus> {
        let opened = self.builder(bus).open();
        opened.map_err(|error| self.explain_bus(bus, error))
    }

    /// The bus to be looked at, or an error that says which there are.
    pub fn observe(&self, bus: &str) -> anyhow::Result<Observer> {
        let observer = self.builder(bus).observe();
        observer.map_err(|error| self.explain_bus(bus, error))
    }

    fn explain_bus(&self, bus: &str, error: OpenError) -> anyhow::Error {
        match error {
            OpenError::NotFound { .. } => {
                let mut text = format!("there is no bus {bus:?} under {}", self.root().display());
                text += &near(bus, &self.buses().unwrap_or_default());
                anyhow!("{text}; `ringway bus create {bus}` makes it")
            }
            other => other.into(),
        }
    }

    /// Names of the buses under the root, in order.
    pub fn buses(&self) -> std::io::Result<Vec<String>> {
        let root = self.root();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&root)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            // A directory that only looks like a bus is not listed.
            if let Some(bus) = name.strip_prefix("ringway-")
                && root.join(&name).join("bus").is_file()
            {
                names.push(bus.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The open bus and queue, or an error that says which there are.
    pub fn queue(&self, bus: &str, name: &str) -> anyhow::Result<(Bus, Queue)> {
        let open = self.open(bus)?;
        match open.queue(name).open() {
            Ok(queue) => Ok((open, queue)),
            Err(error) => Err(explain(&open, name, error)),
        }
    }

    /// The open bus and stream, or an error that says which there are.
    pub fn stream(&self, bus: &str, name: &str) -> anyhow::Result<(Bus, Stream)> {
        let open = self.open(bus)?;
        match open.stream(name).open() {
            Ok(stream) => Ok((open, stream)),
            Err(error) => Err(explain_stream(&open, name, error)),
        }
    }
}

/// Why the stream `name` could not be opened, for who typed its name.
pub fn explain_stream(bus: &Bus, name: &str, error: OpenError) -> anyhow::Error {
    let is_a = |kind| names(bus, kind).is_ok_and(|names| names.iter().any(|n| n == name));
    match error {
        OpenError::NotFound { .. } => {
            let mut text = format!("there is no stream {name:?} on bus {:?}", bus.name());
            text += &near(name, &names(bus, ObjectKind::Stream).unwrap_or_default());
            anyhow!(
                "{text}; `ringway stream create {} {name}` makes it",
                bus.name()
            )
        }
        OpenError::Foreign { .. } if is_a(ObjectKind::Channel) => {
            anyhow!("{name:?} is a channel, not a stream: use `ringway channel`")
        }
        OpenError::Foreign { .. } if is_a(ObjectKind::Queue) => {
            anyhow!("{name:?} is a queue, not a stream: use `ringway queue`, `send` and `receive`")
        }
        other => other.into(),
    }
}

/// Names of the objects of one kind on a bus, in order.
pub fn names(bus: &Bus, kind: ObjectKind) -> Result<Vec<String>, OpenError> {
    let objects = bus.objects()?.into_iter();
    let of_kind = objects.filter(|object| object.kind == kind);
    Ok(of_kind.map(|object| object.name).collect())
}

/// Why the queue `name` could not be opened or removed, for who typed its name.
pub fn explain(bus: &Bus, name: &str, error: OpenError) -> anyhow::Error {
    match error {
        OpenError::NotFound { .. } => {
            let mut text = format!("there is no queue {name:?} on bus {:?}", bus.name());
            text += &near(name, &names(bus, ObjectKind::Queue).unwrap_or_default());
            anyhow!(
                "{text}; `ringway queue create {} {name}` makes it",
                bus.name()
            )
        }
        OpenError::Foreign { .. }
            if names(bus, ObjectKind::Channel)
                .is_ok_and(|names| names.iter().any(|n| n == name)) =>
        {
            anyhow!("{name:?} is a channel, not a queue: use `ringway channel`")
        }
        OpenError::Foreign { .. }
            if names(bus, ObjectKind::Stream)
                .is_ok_and(|names| names.iter().any(|n| n == name)) =>
        {
            anyhow!("{name:?} is a stream, not a queue: use `ringway stream`, `put` and `read`")
        }
        other => other.into(),
    }
}

/// "; did you mean a or b?", or what there is at all.
pub fn near(wanted: &str, names: &[String]) -> String {
    let mut ranked: Vec<(f64, &String)> = names
        .iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut text = String::new();
    if !ranked.is_empty() {
        text += "; did you mean ";
        for (index, (_, name)) in ranked.iter().take(MOST).enumerate() {
            let between = if index > 0 { " or " } else { "" };
            let _ = write!(text, "{between}{name}");
        }
        text += "?";
    } else if !names.is_empty() {
        let told: Vec<_> = names.iter().take(MOST).map(String::as_str).collect();
        let _ = write!(text, "; there is {}", told.join(", "));
        if names.len() > MOST {
            let _ = write!(text, " and {} more", names.len() - MOST);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_told_first_and_all_names_where_none_is_near() {
        let names = ["orders", "orders-dead", "mail"].map(str::to_owned);
        assert!(near("ordres", &names).starts_with("; did you mean orders or orders-dead?"));
        assert_eq!(near("xyz", &names), "; there is orders, orders-dead, mail");
        assert_eq!(near("xyz", &[]), "");
    }
}
