//! The file of a topic: one page, whole or not there.
//!
//! It lies in `topics/`, its log beside it; transit, listeners' ring and archive are hidden objects. These parts
//! carry the topic's name and its object id, which no other topic ever has: what is made late, for a topic that
//! is gone, is in nobody's way. A removal marks the file first; from then on nobody uses the topic, and whoever
//! meets the mark finishes it. Who made a part looks for the mark behind that, and takes his part away again: of
//! him and the remover one sees the other. One that died between leaves it to his reaper, or to the doctor.

use super::kept;
use super::log::{self, open_error};
use super::{TopicDefinition, TopicKind};
use crate::error::OpenError;
use crate::layout::durable::{DURABLE, MEMORY};
use crate::layout::topic::{
    JOURNALS_BYTES, KIND_FIFO, KIND_STANDARD, MAGIC, TopicHeader, words as offsets,
};
use crate::layout::{
    FEATURES_REQUIRED, FORMAT_MAJOR, FORMAT_MINOR, PAGE, Preamble, READY, READY_OFFSET, REMOVED,
};
use crate::object::Site;
use crate::object::file::{check_preamble, read_header};
use crate::queue::Durability;
use crate::shm::words;
use crate::sync::{self, Ordering};
use crate::sys::mapping::{MapOptions, Mapping};
use crate::sys::{clock, file, host, lock};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// The first minor version of FORMAT in which parts carry the id of their topic.
const IDS_SINCE: u16 = 2;
/// How long a remover waits for another.
const PATIENCE: Duration = Duration::from_secs(2);

/// A checked and mapped topic.
pub struct TopicFile {
    pub definition: TopicDefinition,
    pub id: u64,
    /// What its parts are called, behind what says which part it is.
    pub part: String,
    /// Whether it is durable, and its file is to be found where this process looks for such files.
    pub is_kept_here: bool,
    pub mapping: Mapping,
}

/// What the parts of a topic are called.
pub fn part(name: &str, id: u64) -> String {
    format!("{name}-{id:016x}")
}

/// The name and the id of the topic that a part of this name is of; `None` of a part that carries no id.
pub fn part_of(part: &str) -> Option<(&str, u64)> {
    let (name, id) = part.split_at_checked(part.len().checked_sub(17)?)?;
    let id = id.strip_prefix('-')?;
    let is_id = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match id.bytes().all(is_id) {
        true => Some((name, u64::from_str_radix(id, 16).ok()?)),
        false => None,
    }
}

/// What the parts of a topic with this preamble are called.
fn part_by(preamble: &Preamble, name: &str) -> String {
    match preamble.minor < IDS_SINCE {
        true => name.to_owned(),
        false => part(name, preamble.object_id),
    }
}

/// Creates the file of `definition`. `AlreadyExists` when somebody was first.
pub fn create(site: &Site, definition: &TopicDefinition) -> Result<(), OpenError> {
    publish(site, definition, host::random_u64() | 1, false)
}

/// The same of a topic that has its id, and its log.
pub(super) fn publish(
    site: &Site,
    definition: &TopicDefinition,
    id: u64,
    is_subscribed: bool,
) -> Result<(), OpenError> {
    let path = site.directory.join(&definition.name);
    let temporary = format!("{}{:016x}", site.temporary_prefix, host::random_u64());
    let temporary = site.directory.join(temporary);
    let made = file::create_temporary(&temporary, PAGE as u64, site.access);
    let made = made.map_err(|failure| open_error(&path, failure))?;
    let mut name = [0; 128];
    name[..definition.name.len()].copy_from_slice(definition.name.as_bytes());
    let (journals_bytes, journals) = match definition.durability {
        Durability::Memory => (0, [0; JOURNALS_BYTES]),
        Durability::Async | Durability::Durable => journals_of(site),
    };
    let published = Mapping::new(&made, MapOptions::default()).and_then(|mapping| {
        let header = TopicHeader {
            preamble: Preamble {
                magic: MAGIC,
                major: FORMAT_MAJOR,
                minor: FORMAT_MINOR,
                ready: 0,
                features: FEATURES_REQUIRED,
                bus_id: site.bus_id,
                boot_id: site.boot_id,
                object_id: id,
                created_ms: clock::unix_ms(),
            },
            kind: match definition.kind {
                TopicKind::Standard => KIND_STANDARD,
                TopicKind::Fifo => KIND_FIFO,
            },
            name_bytes: definition.name.len() as u32,
            name,
            listen_slots: definition.listen_slots,
            archive_days: definition.archive_days,
            durability: match definition.durability {
                Durability::Memory => MEMORY,
                Durability::Async | Durability::Durable => DURABLE,
            },
            archive_slots: definition.archive_slots,
            journals_bytes,
            reserved0: 0,
            journals,
            reserved: [0; PAGE - 232 - JOURNALS_BYTES],
        };
        words::write_header(&mapping, &header);
        let subscribed = words::word64(&mapping, offsets::SUBSCRIBED);
        subscribed.store(is_subscribed.into(), Ordering::Relaxed); // nobody sees it yet
        words::word32(&mapping, READY_OFFSET).store(READY, Ordering::Release);
        file::publish(&temporary, &path)
    });
    published.map_err(|error| {
        let _ = file::remove(&temporary);
        OpenError::io(&path, error)
    })
}

/// The directory that has the files of durable topics, as a header has it.
fn journals_of(site: &Site) -> (u32, [u8; JOURNALS_BYTES]) {
    let mut journals = [0; JOURNALS_BYTES];
    let path = site.journals.as_deref().map_or(&[][..], |path| {
        let path = path.as_os_str().as_bytes();
        if path.len() > JOURNALS_BYTES {
            &[]
        } else {
            path
        }
    });
    journals[..path.len()].copy_from_slice(path);
    (path.len() as u32, journals)
}

/// The same, unless it is a durable one that was made again from a file which is gone by now, by somebody who had
/// read it before: that one is taken away, and is none. Who looks for such files elsewhere can't say, nor
/// can who only observes.
pub fn open_kept(site: &Site, name: &str) -> Result<TopicFile, OpenError> {
    let opened = open(site, name)?;
    if site.observed || !opened.is_kept_here || kept::is_of(site, name, opened.id) {
        return Ok(opened);
    }
    remove_late(site, name, opened.id)?;
    let path = site.directory.join(name);
    Err(OpenError::NotFound { path })
}

/// Opens, checks and maps the topic `name`.
pub fn open(site: &Site, name: &str) -> Result<TopicFile, OpenError> {
    let path = site.directory.join(name);
    let at = |error| OpenError::io(&path, error);
    let opened = site.open(&path).map_err(at)?;
    let actual = opened.metadata().map_err(at)?.len();
    if actual != PAGE as u64 {
        let expected = PAGE as u64;
        return Err(OpenError::WrongLength {
            path,
            expected,
            actual,
        });
    }
    let header: TopicHeader = read_header(&opened).map_err(at)?;
    check_preamble(&header.preamble, MAGIC, "topic", &path)?;
    if header.preamble.bus_id != site.bus_id {
        return Err(OpenError::OtherBus { path });
    }
    if header.preamble.boot_id != site.boot_id {
        return Err(OpenError::OtherBoot { path });
    }
    let scribbled = |what| OpenError::Scribbled {
        path: path.clone(),
        what,
    };
    if header.name.get(..header.name_bytes as usize) != Some(name.as_bytes()) {
        return Err(scribbled("its header names another topic"));
    }
    let kind = match header.kind {
        KIND_STANDARD => TopicKind::Standard,
        KIND_FIFO => TopicKind::Fifo,
        _ => return Err(scribbled("unknown kind of topic")),
    };
    let durability = match header.durability {
        MEMORY => Durability::Memory,
        DURABLE => Durability::Durable,
        _ => return Err(scribbled("unknown level of durability")),
    };
    let mapping = Mapping::new(&opened, site.map_options()).map_err(at)?;
    if mapping.len() < PAGE {
        return Err(scribbled("it was truncated"));
    }
    let (bytes, journals) = journals_of(site);
    let found = (header.journals_bytes, &header.journals);
    let is_kept_here = durability != Durability::Memory && bytes > 0 && found == (bytes, &journals);
    Ok(TopicFile {
        definition: TopicDefinition {
            name: name.to_owned(),
            kind,
            listen_slots: header.listen_slots,
            archive_days: header.archive_days,
            archive_slots: header.archive_slots,
            durability,
        },
        id: header.preamble.object_id,
        part: part_by(&header.preamble, name),
        is_kept_here,
        mapping,
    })
}

/// Marks the topic `name` removed, has `hidden` remove its objects, and takes its files away. Also where a
/// remover died half-way. Waits for another remover for 2 s at most.
pub fn remove(
    site: &Site,
    name: &str,
    hidden: impl FnOnce(&str) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    remove_within(PATIENCE, site, name, Which::Any, hidden)
}

/// The same, unless what has the name is one that nobody has marked: the one that was met is gone then.
pub fn remove_marked(
    site: &Site,
    name: &str,
    hidden: impl FnOnce(&str) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    remove_within(PATIENCE, site, name, Which::Marked, hidden)
}

/// Which topic of a name is to be removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Any,
    /// One that somebody has begun to remove.
    Marked,
    /// The one with this id, of which nothing is written down any more.
    Id(u64),
}

fn remove_within(
    patience: Duration,
    site: &Site,
    name: &str,
    which: Which,
    hidden: impl FnOnce(&str) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let path = site.directory.join(name);
    let at = |error| OpenError::io(&path, error);
    let opened = file::open(&path).map_err(at)?;
    // Everyone who takes the name away holds this byte of the very file, so a fresh topic is never hit.
    let deadline = clock::Deadline::after(patience);
    while !lock::try_lock(&opened, crate::layout::bus::RESET_LOCK).map_err(at)? {
        if deadline.passed() {
            return Err(at(io::Error::new(
                io::ErrorKind::TimedOut,
                "another process is removing this topic, and stands still; continue or kill it",
            )));
        }
        clock::pause(Duration::from_millis(1));
    }
    if !file::is_at(&opened, &path) {
        return Err(at(io::Error::from(io::ErrorKind::NotFound)));
    }
    let is_whole = opened.metadata().map_err(at)?.len() >= PAGE as u64;
    if !is_whole && which != Which::Any {
        return Ok(());
    }
    if is_whole {
        let mapping = Mapping::new(&opened, MapOptions::default()).map_err(at)?;
        let before: TopicHeader = read_header(&opened).map_err(at)?;
        let is_meant = match which {
            Which::Any => true,
            Which::Marked => before.preamble.ready == REMOVED,
            Which::Id(id) => before.preamble.object_id == id,
        };
        if !is_meant {
            return Ok(());
        }
        words::word32(&mapping, READY_OFFSET).store(REMOVED, Ordering::Release);
        // The mark before a look at what is there: who makes a part has the opposite order.
        sync::fence(Ordering::SeqCst);
        // Of one that was scribbled over these may be none of its parts: the doctor finds those.
        let header: TopicHeader = read_header(&opened).map_err(at)?;
        let part = part_by(&header.preamble, name);
        hidden(&part)?;
        // Before the name goes: from what is written down the topic would be made again. What is written down of
        // another one stays.
        if !matches!(which, Which::Id(_)) {
            kept::remove(site, name, header.preamble.object_id)?;
        }
        match file::remove(&log::path(site, &part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
    }
    file::remove(&path).map_err(at)
}

/// Takes away a topic of that id that was made again from a file which is gone by now.
pub(super) fn remove_late(site: &Site, name: &str, id: u64) -> Result<(), OpenError> {
    match open(site, name) {
        Ok(opened) if opened.id == id => {}
        _ => return Ok(()), // somebody else has seen to it
    }
    match remove_within(PATIENCE, site, name, Which::Id(id), |_| Ok(())) {
        Err(OpenError::NotFound { .. }) => Ok(()),
        removed => removed,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::subscription::Subscriptions;
    use super::*;
    use crate::{Bus, Publication, SubscribeOptions, Topic};
    use ringway_harness::TempBus;
    use std::sync::Arc;

    /// Names of what a topic's parts are, in both directories.
    fn parts(bus: &Bus) -> Vec<String> {
        let files = ["objects", "topics"].map(|part| file::names(&bus.directory().join(part)));
        let files = files.into_iter().flat_map(Result::unwrap);
        let mut parts: Vec<String> = files.filter(|file| file.starts_with('.')).collect();
        parts.sort();
        parts
    }

    /// Makes all parts that a topic may have.
    fn use_all(topic: &Topic) {
        topic.subscribe(&SubscribeOptions::new("q")).unwrap();
        let _listener = topic.listen().unwrap();
        let message = Publication::new(b"m").group("g").dedup_id("1");
        topic.publisher().unwrap().publish(&message).unwrap();
    }

    #[test]
    fn who_makes_a_part_of_a_topic_that_is_gone_is_in_nobodys_way() {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("late").root(root.path()).create().unwrap();
        let queue = bus.queue("q").slots(1024).create().unwrap();
        // Whoever has this one open was stopped behind his look whether it is there.
        let old = bus.topic("news").listen_slots(1024).create().unwrap();
        bus.remove_topic("news").unwrap();
        let fresh = bus.topic("news").fifo().listen_slots(2048).archive_days(1);
        let fresh = fresh.archive_slots(2048).create().unwrap();
        let (late, host) = (&old.inner, || Arc::clone(&old.inner.host));
        let made = [
            host().listeners(late).map(drop),
            host().transit(late).map(drop),
            host().archive(late).map(drop),
            Subscriptions::new().log(late).map(drop),
        ];
        use_all(&fresh);
        assert_eq!(queue.stats().visible, 1);
        let is_removed =
            |made: &&Result<(), OpenError>| matches!(made, Err(OpenError::Removed { .. }));
        let refused = made.iter().filter(is_removed);
        assert_eq!(refused.count(), 4, "{made:?}");
        let wanted = ["archive", "listen", "subs", "transit"];
        let wanted = wanted.map(|kind| format!(".{kind}-news-{:016x}", fresh.inner.id));
        assert_eq!(parts(&bus), wanted, "nothing of the old one stays");
        assert!(bus.doctor(false).unwrap().is_clean());
    }

    #[test]
    fn what_a_late_maker_left_that_died_is_mended_and_everything_else_stays() {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("late").root(root.path()).create().unwrap();
        bus.queue("q").slots(1024).create().unwrap();
        let builder = |bus: &Bus, name: &str| {
            let topic = bus.topic(name).fifo().listen_slots(1024).archive_days(1);
            topic.archive_slots(1024).create().unwrap()
        };
        let old = builder(&bus, "news");
        use_all(&old);
        let aside = root.path().join("aside");
        std::fs::create_dir(&aside).unwrap();
        let of_old = parts(&bus);
        for (from, to) in [(true, false), (false, true)] {
            for part in &of_old {
                let directory = match part.starts_with(log::PREFIX) {
                    true => "topics",
                    false => "objects",
                };
                let there = bus.directory().join(directory).join(part);
                let (from, to) = match (from, to) {
                    (true, _) => (there, aside.join(part)),
                    _ => (aside.join(part), there),
                };
                std::fs::copy(from, to).unwrap();
            }
            if from {
                bus.remove_topic("news").unwrap();
            }
        }
        assert_eq!(of_old.len(), 4);
        let fresh = builder(&bus, "news");
        use_all(&fresh);
        let found = bus.doctor(false).unwrap();
        assert_eq!((found.temporary_files, found.is_clean()), (4, false));
        assert_eq!(parts(&bus).len(), 8, "it only looked");
        bus.doctor(true).unwrap();
        let of_fresh = format!("{:016x}", fresh.inner.id);
        let left = parts(&bus);
        assert!(
            left.len() == 4 && left.iter().all(|part| part.ends_with(&of_fresh)),
            "{left:?}"
        );
        assert!(bus.doctor(false).unwrap().is_clean());
    }

    #[test]
    fn a_remover_that_stands_still_is_named_and_not_waited_for() {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("late").root(root.path()).create().unwrap();
        let topic = bus.topic("news").create().unwrap();
        let site = topic.inner.host.site();
        let held = file::open(&site.directory.join("news")).unwrap();
        assert!(lock::try_lock(&held, crate::layout::bus::RESET_LOCK).unwrap());
        let mut is_reached = false;
        let removed = remove_within(Duration::from_millis(5), site, "news", Which::Any, |_| {
            is_reached = true;
            Ok(())
        });
        let error = removed.unwrap_err().to_string();
        assert!(error.contains("continue or kill it"), "{error}");
        assert!(!is_reached && !topic.inner.is_removed());
        drop(held);
        bus.remove_topic("news").unwrap();
    }

    #[test]
    fn a_remover_that_met_another_topic_of_the_name_leaves_this_one() {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("late").root(root.path()).create().unwrap();
        let topic = bus.topic("news").create().unwrap();
        let (site, id) = (topic.inner.host.site(), topic.inner.id);
        let patience = Duration::from_millis(5);
        for which in [Which::Marked, Which::Id(id ^ 1)] {
            let nothing = |_: &str| panic!("its parts are another's");
            remove_within(patience, site, "news", which, nothing).unwrap();
            assert!(!topic.inner.is_removed());
        }
        assert_eq!(bus.topic("news").open().unwrap().inner.id, id);
        remove_within(patience, site, "news", Which::Id(id), |_| Ok(())).unwrap();
        assert!(topic.inner.is_removed() && bus.topics().unwrap().is_empty());
    }

    #[test]
    fn a_part_says_of_which_topic_it_is() {
        let id = 0x0123_4567_89ab_cdef;
        for name in ["a", "a-b", "trucks.fifo", "a-0123456789abcdef"] {
            assert_eq!(part_of(&part(name, id)), Some((name, id)));
        }
        for none in [
            "",
            "a",
            "a-0123456789abcde",
            "a-0123456789ABCDEF",
            "aä0123456789abcdef",
        ] {
            assert_eq!(part_of(none), None, "{none}");
        }
    }

    #[test]
    fn a_topic_of_format_1_1_has_the_parts_that_it_had() {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("old").root(root.path()).create().unwrap();
        bus.queue("q").slots(1024).create().unwrap();
        drop(bus.topic("news").create().unwrap());
        let page = file::open(&bus.directory().join("topics/news")).unwrap();
        let page = Mapping::new(&page, MapOptions::default()).unwrap();
        let mut versions = [0; 8];
        words::read_bytes(&page, 8, &mut versions);
        versions[2] = 1; // the minor one
        words::write_bytes(&page, 8, &versions);
        let topic = bus.topic("news").open().unwrap();
        topic.subscribe(&SubscribeOptions::new("q")).unwrap();
        topic
            .publisher()
            .unwrap()
            .publish(&Publication::new(b"m"))
            .unwrap();
        assert_eq!(parts(&bus), [".subs-news", ".transit-news"]);
        assert!(bus.doctor(true).unwrap().is_clean());
        bus.remove_topic("news").unwrap();
        assert_eq!(parts(&bus), [""; 0]);
    }
}
