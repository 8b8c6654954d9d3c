//! Who takes part: asked of the hosts, chosen by name, reported when missing.
//!
//! Hosts are this binary and `ringway-peers`, which is looked for where
//! $RINGWAY_PEERS says, beside this binary, and on PATH. Its absence is one
//! line on standard error, never a failure.

use anyhow::{Context, bail};
use ringway_measure::contender::Listed;
use ringway_measure::launch::Host;
use ringway_measure::{Kind, Mode, Offer, Scenario};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The environment variable that names the peers' binary.
const PEERS: &str = "RINGWAY_PEERS";

/// Somebody who can be asked for rounds, and the host to ask.
#[derive(Clone, Debug)]
pub(super) struct Entrant {
    pub(super) listed: Listed,
    pub(super) host: Rc<Host>,
    /// Named on the command line, or nobody was.
    chosen: bool,
}

/// All entrants, limits first.
#[derive(Debug)]
pub(super) struct Roster {
    entrants: Vec<Entrant>,
}

impl Roster {
    /// Asks the hosts, and checks `names` against what they list.
    pub(super) fn find(names: &[String], with_peers: bool) -> anyhow::Result<Roster> {
        let program =
            std::env::current_exe().context("can't find this binary, which has to run itself")?;
        let mut found = ask(Host::new(&program, &["bench"]), "host-list")?;
        if with_peers {
            match peers_program(&program) {
                Some(peers) => found.extend(ask(Host::new(&peers, &[]), "list")?),
                None => eprintln!(
                    "no ringway-peers beside this binary, on PATH or in ${PEERS}: no peers are measured"
                ),
            }
        }
        Roster::choose(found, names)
    }

    fn choose(mut entrants: Vec<Entrant>, names: &[String]) -> anyhow::Result<Roster> {
        for name in names {
            if !entrants
                .iter()
                .any(|entrant| entrant.listed.contender == *name)
            {
                let known: Vec<_> = entrants
                    .iter()
                    .map(|entrant| entrant.listed.contender.as_str())
                    .collect();
                bail!(
                    "no contender is called {name:?}; there are {}",
                    known.join(", ")
                );
            }
        }
        for entrant in &mut entrants {
            entrant.chosen = names.is_empty() || names.contains(&entrant.listed.contender);
        }
        Ok(Roster { entrants })
    }

    /// Those that offer this and can run here, with their offers, the limit that
    /// ratios refer to first. The limit is there even if it was not chosen, as
    /// long as anybody else is.
    pub(super) fn offering(&self, scenario: Scenario, modes: &[Mode]) -> Vec<(Entrant, Offer)> {
        let Some(first_mode) = modes.first() else {
            return Vec::new();
        };
        let limit = super::reference(scenario, *first_mode);
        let mut found = Vec::new();
        for entrant in self
            .entrants
            .iter()
            .filter(|entrant| entrant.listed.missing.is_none())
        {
            let is_limit = entrant.listed.contender == limit;
            let is_meant = |offer: &&Offer| {
                offer.scenario == scenario && (is_limit || modes.contains(&offer.mode))
            };
            if entrant.chosen || is_limit {
                found.extend(
                    entrant
                        .listed
                        .offers
                        .iter()
                        .find(is_meant)
                        .map(|offer| (entrant.clone(), *offer)),
                );
            }
        }
        found.sort_by_key(|(entrant, _)| {
            (entrant.listed.contender != limit, rank(entrant.listed.kind))
        });
        let is_asked =
            |(entrant, offer): &(Entrant, Offer)| entrant.chosen && modes.contains(&offer.mode);
        if found.iter().any(is_asked) {
            found
        } else {
            Vec::new()
        }
    }

    /// One line per reason for those that were to run one of `scenarios` but can't.
    pub(super) fn mention_missing(&self, scenarios: &[Scenario]) {
        let is_wanted = |entrant: &&Entrant| {
            let mut offers = entrant.listed.offers.iter();
            entrant.chosen && offers.any(|offer| scenarios.contains(&offer.scenario))
        };
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entrant in self.entrants.iter().filter(is_wanted) {
            if let Some(reason) = &entrant.listed.missing {
                reasons
                    .entry(reason)
                    .or_default()
                    .push(&entrant.listed.contender);
            }
        }
        for (reason, names) in reasons {
            eprintln!("left out: {} ({reason})", names.join(", "));
        }
    }

    /// For `--list`: each with what it is and offers.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        let width = self
            .entrants
            .iter()
            .map(|entrant| entrant.listed.contender.len())
            .max()
            .unwrap_or(0);
        for entrant in &self.entrants {
            let listed = &entrant.listed;
            let _ = writeln!(text, "{:width$}  {}", listed.contender, listed.about);
            let offers = listed
                .offers
                .iter()
                .map(|offer| format!("{} ({})", offer.scenario.word(), offer.mode.word()));
            let offers = offers.collect::<Vec<_>>().join(", ");
            match &listed.missing {
                Some(reason) => drop(writeln!(text, "{:width$}  {reason}", "")),
                None => drop(writeln!(text, "{:width$}  {offers}", "")),
            }
        }
        text
    }

    #[cfg(test)]
    pub(super) fn of(listed: Vec<Listed>, names: &[String]) -> anyhow::Result<Roster> {
        let host = Rc::new(Host::new(Path::new("/nowhere"), &[]));
        let entrants = listed
            .into_iter()
            .map(|listed| Entrant {
                listed,
                host: Rc::clone(&host),
                chosen: true,
            })
            .collect();
        Roster::choose(entrants, names)
    }
}

fn ask(host: Host, verb: &str) -> anyhow::Result<Vec<Entrant>> {
    let listed = host
        .list(verb)
        .map_err(anyhow::Error::from_boxed)
        .context("can't ask who can be measured")?;
    let host = Rc::new(host);
    Ok(listed
        .into_iter()
        .map(|listed| Entrant {
            listed,
            host: Rc::clone(&host),
            chosen: true,
        })
        .collect())
}

fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Limit => 0,
        Kind::Own => 1,
        Kind::Peer => 2,
    }
}

/// The peers' binary, where there is one.
fn peers_program(own: &Path) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(PEERS).filter(|named| !named.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = own
        .parent()
        .map(Path::to_owned)
        .into_iter()
        .chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join("ringway-peers"))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, kind: Kind, missing: Option<&str>) -> Listed {
        Listed {
            contender: name.into(),
            about: "for tests".into(),
            kind,
            missing: missing.map(str::to_owned),
            offers: vec![Offer::new(Scenario::Latency, Mode::Spin, 10)],
        }
    }

    fn names(roster: &Roster) -> Vec<String> {
        let offering = roster.offering(Scenario::Latency, &[Mode::Spin]);
        offering
            .into_iter()
            .map(|(entrant, _)| entrant.listed.contender)
            .collect()
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let all = vec![
            listed("limit-pingpong", Kind::Limit, None),
            listed("ringway", Kind::Own, None),
        ];
        let said = Roster::of(all, &["ringwy".into()])
            .expect_err("no such name")
            .to_string();
        assert!(
            said.contains("\"ringwy\"") && said.contains("limit-pingpong, ringway"),
            "{said}"
        );
    }

    #[test]
    fn the_limit_comes_first_and_comes_along() {
        let all = vec![
            listed("peer", Kind::Peer, None),
            listed("ringway", Kind::Own, None),
            listed("limit-pingpong", Kind::Limit, None),
        ];
        let roster = Roster::of(all, &["ringway".into()]).expect("it is known");
        assert_eq!(names(&roster), ["limit-pingpong", "ringway"]);
    }

    #[test]
    fn who_is_not_installed_does_not_run() {
        let all = vec![
            listed("limit-pingpong", Kind::Limit, None),
            listed("peer", Kind::Peer, Some("not installed")),
        ];
        let roster = Roster::of(all, &[]).expect("nothing was named");
        assert_eq!(names(&roster), ["limit-pingpong"]);
        assert!(roster.describe().contains("not installed"));
    }
}
