//! The dead-letter queue of a queue, by names: policies name queues by their ids, people by their
//! names.

use crate::find::{self, Noun};
use crate::output::Usage;
use anyhow::bail;
use ringway::{Bus, Queue, QueueSettings, Redrive, RedriveAllow};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Receives before a message goes to the dead-letter queue, where only that is named: as in SQS.
const MAX_RECEIVES: u16 = 10;

#[derive(clap::Args)]
pub struct Policy {
    /// The queue of the same bus that gets what was received --max-receives times and not deleted
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<String>,
    /// 1 to 1000 [default: 10]
    #[arg(long, value_name = "N")]
    max_receives: Option<u16>,
    /// Which queues may have this one as their dead-letter queue: all, none, or up to ten names with
    /// commas between them [default: all]
    #[arg(long, value_name = "all|none|QUEUE,...")]
    allow_sources: Option<String>,
}

impl Policy {
    pub fn is_empty(&self) -> bool {
        self.dead_letter.is_none() && self.max_receives.is_none() && self.allow_sources.is_none()
    }

    /// Adds it to `settings` of the queue `name`, which has `present` ones, if it is there.
    pub fn add(
        &self,
        mut settings: ringway::Settings,
        bus: &Bus,
        name: &str,
        present: Option<&QueueSettings>,
    ) -> anyhow::Result<ringway::Settings> {
        if let Some(redrive) = self.redrive(bus, name, present)? {
            settings = settings.redrive(redrive);
        }
        match self.allow_sources.as_deref() {
            None => Ok(settings),
            Some("all") => Ok(settings.redrive_allow(RedriveAllow::All)),
            Some("none") => Ok(settings.redrive_allow(RedriveAllow::None)),
            Some(names) => {
                let names = names.split(',').map(str::trim);
                let ids: anyhow::Result<_> = names.map(|name| Ok(open(bus, name)?.id())).collect();
                Ok(settings.redrive_allow(RedriveAllow::Queues(ids?)))
            }
        }
    }

    fn redrive(
        &self,
        bus: &Bus,
        name: &str,
        present: Option<&QueueSettings>,
    ) -> anyhow::Result<Option<Redrive>> {
        let present = present.and_then(|settings| settings.redrive);
        if self.dead_letter.as_deref() == Some(name) {
            let text = format!("{name} can't be its own dead-letter queue; name another one");
            return Err(Usage(text).into());
        }
        let target = match (&self.dead_letter, self.max_receives, present) {
            (None, None, _) => return Ok(None),
            (Some(target), ..) => open(bus, target)?.id(),
            (None, Some(_), Some(present)) => present.target,
            (None, Some(_), None) => {
                let text = "--max-receives needs --dead-letter QUEUE".to_owned();
                return Err(Usage(text).into());
            }
        };
        let max_receives = self.max_receives;
        let max_receives = max_receives.or(present.map(|present| present.max_receives));
        Ok(Some(Redrive {
            target,
            max_receives: max_receives.unwrap_or(MAX_RECEIVES),
        }))
    }

    /// Whether the queue `name`, which was there, has what is asked for.
    pub fn agree(&self, bus: &Bus, name: &str, present: &QueueSettings) -> anyhow::Result<()> {
        // What is asked for on top of what there is changes nothing.
        let same = ringway::Settings::new()
            .redrive(present.redrive)
            .redrive_allow(present.redrive_allow.clone());
        if self.add(same.clone(), bus, name, Some(present))? != same {
            bail!(
                "{name} exists with another dead-letter policy; `ringway queue set {} {name}` changes it",
                bus.name()
            );
        }
        Ok(())
    }
}

/// The queue that somebody named.
pub fn open(bus: &Bus, name: &str) -> anyhow::Result<Queue> {
    let opened = bus.queue(name).open();
    opened.map_err(|error| find::explain(bus, Noun::Queue, name, error))
}

/// Names of the queues of a bus by their ids.
pub struct Names(HashMap<u64, String>);

impl Names {
    pub fn of(bus: &Bus) -> anyhow::Result<Self> {
        let names = Noun::Queue.names(bus)?.into_iter();
        // One that can't be opened has no id that anybody could name.
        let opened = names.filter_map(|name| Some((bus.queue(&name).open().ok()?.id(), name)));
        Ok(Self(opened.collect()))
    }

    pub fn get(&self, id: u64) -> Option<&str> {
        self.0.get(&id).map(String::as_str)
    }

    /// The name, or what is left of one that was removed.
    pub fn told(&self, id: u64) -> String {
        match self.get(id) {
            Some(name) => name.to_owned(),
            None => format!("{id:016x} (removed)"),
        }
    }
}

pub fn describe(settings: &QueueSettings, names: &Names) -> (Value, Value) {
    let dead_letter = settings.redrive.map(|redrive| {
        json!({
            "queue": names.get(redrive.target),
            "queue_id": format!("{:016x}", redrive.target),
            "max_receives": redrive.max_receives,
        })
    });
    let allow = match &settings.redrive_allow {
        RedriveAllow::All => json!("all"),
        RedriveAllow::None => json!("none"),
        RedriveAllow::Queues(ids) => {
            json!(ids.iter().map(|id| names.told(*id)).collect::<Vec<_>>())
        }
    };
    (json!(dead_letter), allow)
}

pub fn rows(settings: &QueueSettings, names: &Names) -> [(&'static str, String); 2] {
    let dead_letter = match settings.redrive {
        None => "none".to_owned(),
        Some(redrive) => {
            let target = names.told(redrive.target);
            format!("{target} after {} receives", redrive.max_receives)
        }
    };
    let allow = match &settings.redrive_allow {
        RedriveAllow::All => "all".to_owned(),
        RedriveAllow::None => "none".to_owned(),
        RedriveAllow::Queues(ids) => {
            let told: Vec<_> = ids.iter().map(|id| names.told(*id)).collect();
            told.join(", ")
        }
    };
    [
        ("dead-letter queue", dead_letter),
        ("allowed sources", allow),
    ]
}
