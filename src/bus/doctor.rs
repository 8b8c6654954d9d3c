//! The doctor: what is there, what is wrong, and what was mended. And the removal of a whole bus.

use super::attachment::Attachment;
use super::builder::Builder;
use super::catalog::{ObjectKind, open_any};
use super::reap::remove_grown;
use super::rings::Rings;
use super::{BUS_FILE, OBJECTS, TEMPORARY, aside, name};
use crate::error::OpenError;
use crate::layout::ring::READER_STANDING;
use crate::layout::word::Ctl;
use crate::layout::{READY_OFFSET, REMOVED};
use crate::persist::directory::remove_all;
use crate::queue::{chain_of, check_grown, further_site, grown_of, remove_spilled};
use crate::ring::{Counter, Liveness};
use crate::shm::words;
use crate::sync::Ordering;
use crate::sys::file;
use crate::sys::mapping::{MapOptions, Mapping};
use std::collections::HashSet;
use std::path::Path;

/// What the doctor found. Everything but the first group is zero on a clean bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Live participants.
    pub participants: u64,
    /// Objects.
    pub objects: u64,
    /// Pool chunks that are free, in a participant's hands, attached to a record.
    pub chunks: [u64; 3],
    /// Claims of live participants, at this moment.
    pub open_claims: u64,
    /// Slots with an impossible header, counted since creation.
    pub damaged_slots: u64,

    /// Dead participants.
    pub dead_participants: u64,
    /// Their claims.
    pub dead_claims: u64,
    /// Their reader entries.
    pub dead_readers: u64,
    /// Messages of queues that they had received and not deleted, or were moving to another queue.
    pub dead_leases: u64,
    /// Their producer words and roles.
    pub dead_roles: u64,
    /// Pool chunks nobody owns or names.
    pub lost_chunks: u64,
    /// Temporary files of dead creators, parts of topics and policies of queues that are gone.
    pub temporary_files: u64,
    /// Object files that can't be opened, with the reason.
    pub broken_objects: Vec<String>,
    /// Whether what could be mended was.
    pub healed: bool,
}

impl Report {
    /// Whether nothing dead was found (before healing).
    pub fn is_clean(&self) -> bool {
        self.dead_participants == 0
            && self.dead_claims == 0
            && self.dead_readers == 0
            && self.dead_leases == 0
            && self.dead_roles == 0
            && self.lost_chunks == 0
            && self.temporary_files == 0
            && self.broken_objects.is_empty()
    }
}

impl Attachment {
    pub(super) fn doctor(&self, heal: bool) -> Result<Report, OpenError> {
        let mut report = Report {
            healed: heal,
            ..Default::default()
        };
        let dead = self.registry.dead();
        report.dead_participants = dead.len() as u64;
        self.examine_rings(&mut report)?;
        report.dead_roles += (0..crate::layout::bus::ROLES)
            .filter(|role| {
                let holder = self.registry.role_holder(*role);
                holder != 0 && self.liveness.is_dead(holder)
            })
            .count() as u64;
        report.temporary_files = self.temporary_files(heal)? + self.orphans(heal)?;
        report.temporary_files += self.orphan_shards(heal)?;
        for object in self.objects()? {
            report.objects += 1;
            let site = crate::object::Site {
                pre_touch: false,
                ..self.site.clone()
            };
            let opened = match object.kind {
                ObjectKind::Stream => self.examine_stream(&object.name),
                _ => open_any(&site, &object.name).map(|_| ()),
            };
            match opened {
                Ok(()) | Err(OpenError::NotFound { .. }) => {}
                Err(OpenError::Removed { .. }) if heal => self.finish_removal(&object.name)?,
                Err(error) => report.broken_objects.push(error.to_string()),
            }
        }
        self.examine_grown(&mut report)?;
        #[cfg(feature = "topics")]
        self.examine_topics(heal, &mut report)?;
        if heal {
            for reaped in self.reap_dead()? {
                report.lost_chunks += reaped.chunks.freed;
                report.temporary_files += reaped.temporary_files;
            }
            report.lost_chunks += self.sweep_attached_chunks()?.freed;
        } else {
            report.lost_chunks = self.count_lost_chunks(&dead)?;
        }
        report.participants = self
            .registry
            .participants()
            .iter()
            .filter(|participant| participant.alive)
            .count() as u64;
        report.chunks = self.segments.census();
        Ok(report)
    }

    fn examine_rings(&self, report: &mut Report) -> Result<(), OpenError> {
        let rings = Rings::open(self)?;
        rings.each(|ring, word| {
            if matches!(word.state(), Ctl::CLAIMED | Ctl::HELD) {
                if ring.is_dead(word.owner()) {
                    report.dead_claims += 1;
                } else {
                    report.open_claims += 1;
                }
            }
        });
        rings.each_lease(|ring, owner| {
            report.dead_leases += u64::from(ring.is_dead(owner));
        });
        for ring in rings.all() {
            let damaged = ring.memory().counter(Counter::Damaged.offset());
            let damaged = damaged.load(Ordering::Relaxed);
            report.damaged_slots = report.damaged_slots.saturating_add(damaged);
            for index in 0..ring.readers_in_use() {
                let word = ring.memory().reader(index).word.load(Ordering::Acquire);
                let word = crate::layout::word::Role(word);
                let dead = word.owner() != 0 && ring.is_dead(word.owner());
                report.dead_readers += u64::from(dead && word.state() != READER_STANDING);
            }
            let producer = ring.producer_holder();
            report.dead_roles += u64::from(producer != 0 && ring.is_dead(producer));
        }
        Ok(())
    }

    /// Without healing: chunks of the dead, and chunks attached to records that are gone.
    fn count_lost_chunks(&self, dead: &[u16]) -> Result<u64, OpenError> {
        let mut rings = Rings::open(self)?;
        let lost = self.segments.count_lost(dead, |ring, position, chunk| {
            rings.name_chunk(ring, position, chunk)
        });
        rings.finish()?;
        Ok(lost)
    }

    /// Rings that queues grew by and that can't be opened.
    fn examine_grown(&self, report: &mut Report) -> Result<(), OpenError> {
        for directory in self.grown_directories() {
            let site = further_site(&self.site, Some(&directory));
            for name in file::names(&directory).map_err(|e| OpenError::io(&directory, e))? {
                if let Some((queue, number)) = grown_of(&name) {
                    match check_grown(&site, queue, number) {
                        Ok(()) | Err(OpenError::NotFound { .. }) => {}
                        Err(error) => report.broken_objects.push(error.to_string()),
                    }
                }
            }
        }
        Ok(())
    }

    /// Files of rings that a queue grew by which is not there any more: its remover died, or somebody
    /// who made one had slept all the time.
    fn orphans(&self, heal: bool) -> Result<u64, OpenError> {
        let directory = &self.site.directory;
        let names = |directory: &Path| {
            file::names(directory).map_err(|error| OpenError::io(directory, error))
        };
        let mut grown = Vec::new();
        for directory in self.grown_directories() {
            grown.extend(names(&directory)?);
        }
        // Listed behind them: of whatever grew before, the queue is there, or about to be, or gone.
        // Twice: one that is given its name in between is missed once, and has it the second time.
        let mut queues = HashSet::new();
        for _ in 0..2 {
            let found = names(directory)?;
            let found = found.iter().filter(|name| grown_of(name).is_none());
            queues.extend(found.filter_map(|name| chain_of(&directory.join(name))));
        }
        let orphans = grown.iter().filter_map(|name| grown_of(name));
        let orphans: HashSet<u64> = orphans
            .map(|(queue, _)| queue)
            .filter(|queue| !queues.contains(queue))
            .collect();
        if heal {
            let directories = self.grown_directories();
            let removed = directories.map(|it| remove_grown(&it, |queue| orphans.contains(&queue)));
            return Ok(removed.sum());
        }
        Ok(orphans.len() as u64)
    }

    /// Temporary files whose creator is dead, or none of the registry's any more.
    fn temporary_files(&self, heal: bool) -> Result<u64, OpenError> {
        let root = self.directory.parent().unwrap_or(&self.directory);
        let mut found = aside::sweep(root, &self.name, heal);
        let others = [super::POOL, super::TOPICS].map(|name| self.directory.join(name));
        for directory in self.grown_directories().chain(others) {
            let names = match file::names(&directory) {
                // No topic yet.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                other => other.map_err(|e| OpenError::io(&directory, e))?,
            };
            for name in names {
                let Some(creator) = name.strip_prefix(TEMPORARY) else {
                    continue;
                };
                let mut parts = creator.split('-');
                let slot = parts.next().and_then(|slot| slot.parse::<u16>().ok());
                let generation = parts
                    .next()
                    .and_then(|generation| generation.parse::<u64>().ok());
                let alive = slot
                    .and_then(|slot| self.registry.info(slot))
                    .is_some_and(|info| info.alive && Some(info.generation) == generation);
                if !alive {
                    found += 1;
                    if heal {
                        let _ = file::remove(&directory.join(&name));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Removes what a bus has on disk; how much of it.
fn remove_kept(journals: &Path, objects: &Path) -> Result<usize, OpenError> {
    #[cfg(feature = "topics")]
    let topics = crate::topic::remove_kept_topics(journals, objects);
    #[cfg(not(feature = "topics"))]
    let topics = 0;
    Ok(topics + remove_all(journals, objects)?)
}

/// See [`Builder::remove`].
pub(super) fn remove_bus(builder: Builder, force: bool) -> Result<(), OpenError> {
    let builder = builder.participant_name("remove").pre_touch(false);
    let name = &builder.name.clone();
    name::check(name)?;
    let (journals, objects) = (builder.journals(), builder.directory().join(OBJECTS));
    let directory = builder.directory();
    let root = builder.root_directory();
    aside::sweep(&root, name, true);
    let bus_file = directory.join(BUS_FILE);
    match builder.open() {
        Ok(bus) => {
            let alive = bus.participants()?.iter().filter(|p| p.alive).count();
            let others = alive.saturating_sub(1);
            if others > 0 && !force {
                return Err(OpenError::InUse {
                    path: directory,
                    participants: others,
                });
            }
            let found = bus.objects()?;
            let mut checked = found.iter().filter(|_| !force);
            checked.try_for_each(|object| bus.check_journal_root(object))?;
            for object in found {
                // Its users are told. What is no object goes with the directory, and what is nothing but a
                // journal may be another bus's.
                if file::is_regular(&objects.join(&object.name)) {
                    let _ = bus.remove(&object.name);
                }
            }
            remove_spilled(&bus.inner.site);
            #[cfg(feature = "topics")]
            for topic in bus.topics()? {
                let _ = bus.remove_topic(&topic);
            }
        }
        // What can't be opened for good is removed all the same: its error message advises that.
        Err(
            OpenError::Foreign { .. }
            | OpenError::WrongFormat { .. }
            | OpenError::UnknownFeatures { .. }
            | OpenError::WrongLength { .. }
            | OpenError::Scribbled { .. }
            | OpenError::OtherBoot { .. }
            | OpenError::Removed { .. },
        ) => {}
        // Behind a restart, when nobody has opened it yet.
        Err(OpenError::NotFound { .. })
            if journals
                .as_deref()
                .map_or(Ok(0), |it| remove_kept(it, &objects))?
                > 0 =>
        {
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    if let Some(journals) = journals {
        remove_kept(&journals, &objects)?;
    }
    if let Ok(bus_file) = file::open(&bus_file)
        && let Ok(mapping) = Mapping::new(&bus_file, MapOptions::default())
        && mapping.len() >= crate::layout::PAGE
    {
        words::word32(&mapping, READY_OFFSET).store(REMOVED, Ordering::Release);
    }
    aside::remove(&root, name, &directory)
}
