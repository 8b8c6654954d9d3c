//! Finding a bus, or what is on it, by its name; where there is none, the near names, and the command that makes one.

use crate::output::{Place, Usage};
use anyhow::anyhow;
use ringway::{Bus, Channel, ObjectKind, Observer, OpenError, Queue, Stream};
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

    /// Why the bus `bus` could not be opened, made or removed, for who typed its name.
    pub fn explain_bus(&self, bus: &str, error: OpenError) -> anyhow::Error {
        let root = self.root();
        match error {
            OpenError::NotFound { .. } => {
                let mut text = format!("there is no bus {bus:?} under {}", root.display());
                text += &near(bus, &self.buses().unwrap_or_default());
                anyhow!("{text}; `ringway bus create {bus}` makes it")
            }
            OpenError::AlreadyExists { .. } => anyhow!(
                "there is a bus {bus:?} under {} already; open it with --if-missing, or remove it with \
                 `ringway bus rm {bus}`",
                root.display()
            ),
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

    /// The open bus and channel, or an error that says which there are.
    pub fn channel(&self, bus: &str, name: &str) -> anyhow::Result<(Bus, Channel)> {
        let open = self.open(bus)?;
        match open.channel(name).open() {
            Ok(channel) => Ok((open, channel)),
            Err(error) => Err(explain(&open, Noun::Channel, name, error)),
        }
    }

    /// The open bus and queue, or an error that says which there are.
    pub fn queue(&self, bus: &str, name: &str) -> anyhow::Result<(Bus, Queue)> {
        let open = self.open(bus)?;
        match open.queue(name).open() {
            Ok(queue) => Ok((open, queue)),
            Err(error) => Err(explain(&open, Noun::Queue, name, error)),
        }
    }

    /// The open bus and stream, or an error that says which there are.
    pub fn stream(&self, bus: &str, name: &str) -> anyhow::Result<(Bus, Stream)> {
        let open = self.open(bus)?;
        match open.stream(name).open() {
            Ok(stream) => Ok((open, stream)),
            Err(error) => Err(explain(&open, Noun::Stream, name, error)),
        }
    }
}

/// What a name on a bus stands for. Topics have names of their own, beside those of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    Channel,
    Queue,
    Stream,
    Topic,
}

impl Noun {
    const ALL: [Self; 4] = [Self::Channel, Self::Queue, Self::Stream, Self::Topic];

    /// The word for it, which is also the command that looks after it.
    fn word(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Queue => "queue",
            Self::Stream => "stream",
            Self::Topic => "topic",
        }
    }

    /// The commands that work with one.
    fn verbs(self) -> &'static str {
        match self {
            Self::Channel => "`ringway channel`",
            Self::Queue => "`ringway queue`, `send` and `receive`",
            Self::Stream => "`ringway stream`, `put` and `read`",
            Self::Topic => "`ringway topic`, `publish` and `subscribe`",
        }
    }

    /// Names of all of them on a bus, in order.
    pub fn names(self, bus: &Bus) -> Result<Vec<String>, OpenError> {
        let kind = match self {
            Self::Channel => ObjectKind::Channel,
            Self::Queue => ObjectKind::Queue,
            Self::Stream => ObjectKind::Stream,
            Self::Topic => return bus.topics(),
        };
        let objects = bus.objects()?.into_iter();
        let of_kind = objects.filter(|object| object.kind == kind);
        Ok(of_kind.map(|object| object.name).collect())
    }

    /// What goes by `name` on a bus, if none of these does.
    fn instead(self, bus: &Bus, name: &str) -> Option<Self> {
        let is_there = |noun: Self| {
            let names = noun.names(bus).unwrap_or_default();
            names.iter().any(|there| there == name)
        };
        let others = || Self::ALL.into_iter().filter(|other| *other != self);
        (!is_there(self)).then(|| others().find(|other| is_there(*other)))?
    }
}

/// Why the one called `name` could not be opened, made or removed, for who typed its name.
pub fn explain(bus: &Bus, noun: Noun, name: &str, error: OpenError) -> anyhow::Error {
    let (word, on) = (noun.word(), bus.name());
    let is_of_the_name = matches!(
        error,
        OpenError::NotFound { .. } | OpenError::Foreign { .. } | OpenError::AlreadyExists { .. }
    );
    if is_of_the_name && let Some(other) = noun.instead(bus, name) {
        return anyhow!(
            "{name:?} is a {}, not a {word}: use {}",
            other.word(),
            other.verbs()
        );
    }
    match error {
        OpenError::NotFound { .. } => {
            let mut text = format!("there is no {word} {name:?} on bus {on:?}");
            text += &near(name, &noun.names(bus).unwrap_or_default());
            anyhow!("{text}; `ringway {word} create {on} {name}` makes it")
        }
        OpenError::AlreadyExists { .. } => anyhow!(
            "there is a {word} {name:?} on bus {on:?} already; open it with --if-missing, or remove it with \
             `ringway {word} rm {on} {name}`"
        ),
        other => other.into(),
    }
}

/// Removes an object as what it was named. What is whole and something else is refused; one that is damaged has no
/// known kind, and may be removed as any.
pub fn remove(bus: &Bus, noun: Noun, name: &str) -> anyhow::Result<()> {
    if let Some(other) = noun.instead(bus, name)
        && other != Noun::Topic
    {
        let (other, on) = (other.word(), bus.name());
        let text = format!("{name:?} is a {other}; `ringway {other} rm {on} {name}` removes it");
        return Err(Usage(text).into());
    }
    let removed = bus.remove(name);
    removed.map_err(|error| explain(bus, noun, name, error))
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
