//! What of a durable topic lies on a disk: what it is, and every change of its subscriptions.
//!
//! One file beside the journals, `.topic-NAME`, of lines of text; its messages lie in the journal of its transit, a
//! durable queue. A line is added by one write at the end, which the kernel gives a place of its own, and is on the
//! disk before the change is in the log in memory: what anybody has seen is there behind a restart. Nothing is
//! written over, so nobody waits for anybody, and whoever dies in a write leaves a line that was never acknowledged.
//!
//! ```text
//! line    newline | bytes of JSON, 8 digits hex | CRC32C of those digits and the JSON, 8 digits hex | space | JSON
//! first   {"topic", "id", "kind", "listen_slots", "of"}       of: the directory of its bus
//! others  {"topic": its id, "subscribe": id, "said": a record of the log} or {"topic", "unsubscribe": id}
//! ```
//! A line that ends too early is one that a death or a full disk cut off: it is passed over. One that is whole
//! and does not fit its sum is damage: the file is refused, and named. One that names another topic was added by
//! somebody who stood still until that one was gone and another had its name: it is passed over, too.
//!
//! Behind a restart whoever asks for the topic first [makes it again](recover): the log of subscriptions whole under
//! the name that its id gives it, then its page. Two who do so write the same, and the second finds both there.
//!
//! Who read the file, and makes the page when file and topic are gone, takes the page away again. Until then, or for
//! good where he died, it is a page without its file: nobody who opens it takes it for a topic
//! ([`open_kept`](super::file::open_kept)), and who creates one of that name puts it away first.

use super::file::{part, publish};
use super::log::{self, Log};
use super::{TopicDefinition, TopicInner, TopicKind};
use crate::error::OpenError;
use crate::layout::topic::RECORD_SUBSCRIBE;
use crate::object::Site;
use crate::queue::Durability;
use crate::sys::clock::{self, Deadline};
use crate::sys::directory::Directory;
use crate::sys::{disk, file};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long who takes one of these files away waits for another who does.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the names of these files begin with.
const PREFIX: &str = ".topic-";
/// Bytes of a line in front of its JSON.
const HEAD: usize = 17;

/// A topic, as its file says.
pub(crate) struct Kept {
    pub definition: TopicDefinition,
    pub id: u64,
    /// Those that did not end, in the order in which they were made.
    subscriptions: Vec<(u64, String)>,
    of: String,
}

/// One line.
#[derive(Debug, PartialEq)]
enum Line {
    Whole(Value),
    /// It was cut off.
    Torn,
    Damaged,
}

fn line(json: &Value) -> String {
    let json = json.to_string();
    let bytes = format!("{:08x}", json.len());
    let sum = crc32c::crc32c_append(crc32c::crc32c(bytes.as_bytes()), json.as_bytes());
    format!("\n{bytes}{sum:08x} {json}")
}

fn parse(line: &[u8]) -> Line {
    let is_hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    if line.len() < HEAD {
        return match is_hex(line) {
            true => Line::Torn,
            false => Line::Damaged,
        };
    }
    let (head, body) = line.split_at(HEAD);
    let number = |bytes: &[u8]| {
        let text = core::str::from_utf8(bytes).ok().filter(|_| is_hex(bytes));
        text.and_then(|text| u32::from_str_radix(text, 16).ok())
    };
    let (Some(bytes), Some(sum), b' ') = (number(&head[..8]), number(&head[8..16]), head[16])
    else {
        return Line::Damaged;
    };
    let found = format!("{:08x}", body.len());
    let fits = crc32c::crc32c_append(crc32c::crc32c(found.as_bytes()), body) == sum;
    match (fits, body.len().cmp(&(bytes as usize))) {
        (true, core::cmp::Ordering::Equal) => {
            serde_json::from_slice(body).map_or(Line::Damaged, Line::Whole)
        }
        (false, core::cmp::Ordering::Less) => Line::Torn,
        _ => Line::Damaged,
    }
}

/// Where the file of a topic lies.
fn place<'a>(site: &'a Site, name: &str) -> Option<(&'a Path, String)> {
    let journals = site.journals.as_deref()?;
    Some((journals, format!("{PREFIX}{name}")))
}

fn needs_journals() -> OpenError {
    OpenError::InvalidOption {
        option: "journal_root",
        given: "none".to_owned(),
        rule: "a directory on a disk, for a durable topic".to_owned(),
    }
}

/// The directory of a bus, as its topics say it.
fn bus_of(topics: &Path) -> String {
    let directory = topics.parent().unwrap_or(topics);
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    directory.to_string_lossy().into_owned()
}

/// Writes down a topic that is to be. `AlreadyExists` when there is one.
pub(crate) fn create(site: &Site, definition: &TopicDefinition, id: u64) -> Result<(), OpenError> {
    let (journals, file) = place(site, &definition.name).ok_or_else(needs_journals)?;
    let at = |error| OpenError::io(journals.join(&file), error);
    let first = line(&json!({
        "topic": definition.name,
        "id": format!("{id:016x}"),
        "kind": match definition.kind {
            TopicKind::Standard => "standard",
            TopicKind::Fifo => "fifo",
        },
        "listen_slots": definition.listen_slots,
        "of": bus_of(&site.directory),
    }));
    disk::create_directories(journals).map_err(at)?;
    let directory = Directory::open(journals).map_err(at)?;
    directory.create_small(&file, first.as_bytes()).map_err(at)
}

/// Writes down a change of a subscription; it is on the disk when this returns.
pub(super) fn append(topic: &TopicInner, id: u64, kind: u32, json: &[u8]) -> Result<(), OpenError> {
    if topic.definition.durability == Durability::Memory {
        return Ok(());
    }
    let (journals, file) = place(topic.host.site(), &topic.name).ok_or_else(needs_journals)?;
    let at = |error| OpenError::io(journals.join(&file), error);
    let [of, id] = [topic.id, id].map(|id| format!("{id:016x}"));
    let change = match kind {
        RECORD_SUBSCRIBE => {
            json!({"topic": of, "subscribe": id, "said": String::from_utf8_lossy(json)})
        }
        _ => json!({"topic": of, "unsubscribe": id}),
    };
    let directory = Directory::open(journals).map_err(at)?;
    directory
        .append(&file, line(&change).as_bytes())
        .map_err(at)
}

/// What the file of a topic says, if there is one.
pub(crate) fn read(site: &Site, name: &str) -> Result<Option<Kept>, OpenError> {
    let Some((journals, file)) = place(site, name) else {
        return Ok(None);
    };
    let path = journals.join(&file);
    let bytes = Directory::open(journals).and_then(|directory| directory.read_small(&file));
    match bytes {
        Ok(bytes) => of_bytes(&bytes, name, path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io(path, error)),
    }
}

/// The lines of a file. Zeros are what a power cut leaves of one that was to become longer; no line has any.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .map(|line| line.split(|byte| *byte == 0).next().unwrap_or_default())
        .filter(|line| !line.is_empty())
}

/// What the first line of a file says, whatever the others do.
fn head_of(bytes: &[u8], name: &str) -> Option<Kept> {
    match parse(lines(bytes).next()?) {
        Line::Whole(value) => head(&value, name),
        Line::Torn | Line::Damaged => None,
    }
}

fn of_bytes(bytes: &[u8], name: &str, path: PathBuf) -> Result<Kept, OpenError> {
    let damaged = |what| OpenError::Scribbled {
        path: path.clone(),
        what,
    };
    let mut kept: Option<Kept> = None;
    for line in lines(bytes) {
        let value = match parse(line) {
            Line::Whole(value) => value,
            Line::Torn if kept.is_some() => continue,
            Line::Torn | Line::Damaged => return Err(damaged("a line does not fit its checksum")),
        };
        match &mut kept {
            None => {
                kept = head(&value, name);
                if kept.is_none() {
                    return Err(damaged("it says another topic, or none"));
                }
            }
            Some(kept) => kept
                .change(&value)
                .ok_or_else(|| damaged("a line is no change of a subscription"))?,
        }
    }
    kept.ok_or_else(|| damaged("it is empty"))
}

fn id_of(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?, 16).ok()
}

fn head(value: &Value, name: &str) -> Option<Kept> {
    let kind = match value["kind"].as_str()? {
        "standard" => TopicKind::Standard,
        "fifo" => TopicKind::Fifo,
        _ => return None,
    };
    let definition = TopicDefinition {
        name: name.to_owned(),
        kind,
        listen_slots: value["listen_slots"].as_u64()?,
        archive_days: 0,
        archive_slots: crate::layout::ring::MIN_SLOTS,
        durability: Durability::Durable,
    };
    (value["topic"].as_str()? == name).then_some(Kept {
        definition,
        id: id_of(&value["id"]).filter(|id| *id != 0)?,
        subscriptions: Vec::new(),
        of: value["of"].as_str()?.to_owned(),
    })
}

impl Kept {
    fn change(&mut self, value: &Value) -> Option<()> {
        if id_of(&value["topic"])? != self.id {
            return Some(());
        }
        if let Some(id) = value.get("subscribe") {
            let said = value["said"].as_str()?;
            self.subscriptions.push((id_of(id)?, said.to_owned()));
            return Some(());
        }
        let ended = id_of(value.get("unsubscribe")?)?;
        self.subscriptions.retain(|(id, _)| *id != ended);
        Some(())
    }
}

/// Whether the file of that name is of the topic of that id, as far as anybody can say: where it can't be read
/// it may be.
pub(super) fn is_of(site: &Site, name: &str, id: u64) -> bool {
    let Some((journals, file)) = place(site, name) else {
        return true;
    };
    let Ok(directory) = Directory::open(journals) else {
        return true;
    };
    match directory.read_small(&file) {
        Ok(bytes) => head_of(&bytes, name).is_none_or(|kept| kept.id == id),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Takes away what is written down of the topic of that id, or of one that can't be read: that is what its
/// error message advises. Whoever calls holds the lock on its page.
pub(super) fn remove(site: &Site, name: &str, id: u64) -> Result<(), OpenError> {
    let its = |kept: Option<Kept>| kept.is_none_or(|kept| kept.id == id);
    remove_if(site, name, |bytes| its(head_of(bytes, name))).map(drop)
}

/// Takes back what was written down of a topic that could not be made.
pub(crate) fn take_back(site: &Site, name: &str, id: u64) -> Result<(), OpenError> {
    let its = |kept: Option<Kept>| kept.is_some_and(|kept| kept.id == id);
    remove_if(site, name, |bytes| its(head_of(bytes, name))).map(drop)
}

/// Takes away what is written down of a topic that can't be read; whether it did.
pub(crate) fn remove_damaged(site: &Site, name: &str) -> Result<bool, OpenError> {
    let is_damaged = |bytes: &[u8]| of_bytes(bytes, name, PathBuf::new()).is_err();
    remove_if(site, name, is_damaged)
}

fn remove_if(site: &Site, name: &str, is_meant: impl Fn(&[u8]) -> bool) -> Result<bool, OpenError> {
    let Some((journals, file)) = place(site, name) else {
        return Ok(false);
    };
    let at = |error| OpenError::io(journals.join(&file), error);
    let deadline = Deadline::after(PATIENCE);
    loop {
        let removed = Directory::open(journals)
            .and_then(|directory| directory.remove_small(&file, &is_meant));
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            removed => return removed.map_err(at),
        }
        if deadline.passed() {
            return Err(at(io::Error::new(
                io::ErrorKind::TimedOut,
                "another process is removing this topic, and stands still; continue or kill it",
            )));
        }
        clock::pause(Duration::from_millis(1));
    }
}

/// Names of the durable topics of a bus, whether anybody has asked for them since the machine was started or not.
/// One that can't say whose it is is everybody's, so that it is seen, and can be removed.
pub(crate) fn names(site: &Site) -> Vec<String> {
    let of = bus_of(&site.directory);
    let Some(directory) = site.journals.as_deref().map(Directory::open) else {
        return Vec::new();
    };
    let Ok(directory) = directory else {
        return Vec::new();
    };
    let is_its = |name: &String| {
        let bytes = directory.read_small(&format!("{PREFIX}{name}"));
        bytes.is_ok_and(|bytes| head_of(&bytes, name).is_none_or(|kept| kept.of == of))
    };
    let mut names = all(site.journals.as_deref());
    names.retain(is_its);
    names
}

fn all(journals: Option<&Path>) -> Vec<String> {
    let files = journals.map(file::names);
    let files = files.and_then(Result::ok).unwrap_or_default();
    let name = |file: String| file.strip_prefix(PREFIX).map(str::to_owned);
    files.into_iter().filter_map(name).collect()
}

/// Has the names of what is written down on the disk.
fn sync(site: &Site) -> Result<(), OpenError> {
    let journals = site.journals.as_deref().ok_or_else(needs_journals)?;
    let synced = Directory::open(journals).and_then(|directory| directory.sync());
    synced.map_err(|error| OpenError::io(journals, error))
}

/// Makes a topic again that nobody has asked for since the machine was started. Whether there is one, or one that
/// is being removed and has the name still.
pub(crate) fn recover(site: &Site, me: u16, name: &str) -> Result<bool, OpenError> {
    loop {
        let Some(kept) = read(site, name)? else {
            return Ok(false);
        };
        // Whoever gave it its name may have died before that was on the disk, and what is acknowledged from here
        // on stands on it.
        sync(site)?;
        let log = log::path(site, &part(name, kept.id));
        log::create_with(site, &log, kept.id, |log: &mut Log| {
            for (id, said) in &kept.subscriptions {
                log.append(me, *id, RECORD_SUBSCRIBE, said.as_bytes())?;
            }
            log.note_made_again();
            Ok(())
        })?;
        match publish(site, &kept.definition, kept.id, true) {
            Ok(()) => {}
            Err(OpenError::AlreadyExists { path }) => match super::file::open(site, name) {
                Ok(found) if found.id == kept.id => {}
                // Made again from a file that was gone: this one is of another topic.
                Ok(found) if found.is_kept_here => {
                    super::file::remove_late(site, name, found.id)?;
                    continue;
                }
                Ok(_) => {
                    let _ = file::remove(&log);
                    return Err(OpenError::AlreadyExists { path });
                }
                Err(OpenError::NotFound { .. }) => continue,
                Err(OpenError::Removed { .. }) => return Ok(true),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
        // It may have been removed while we made it again from what we had read.
        if read(site, name)?.is_none_or(|now| now.id != kept.id) {
            super::file::remove_late(site, name, kept.id)?;
            continue;
        }
        return Ok(true);
    }
}

/// Removes what is written down of the topics of a bus that is removed, whose objects lay in `objects`; how many.
pub(crate) fn remove_all(journals: &Path, objects: &Path) -> usize {
    let of = bus_of(objects);
    let Ok(directory) = Directory::open(journals) else {
        return 0;
    };
    let remove = |name: &String| {
        let its = |kept: Option<Kept>| kept.is_none_or(|kept| kept.of == of);
        let file = format!("{PREFIX}{name}");
        let removed = directory.remove_small(&file, |bytes| its(head_of(bytes, name)));
        removed.is_ok_and(|removed| removed)
    };
    let names = all(Some(journals));
    names.iter().filter(|name| remove(name)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_passed_over_and_every_flipped_bit_is_found() {
        let json = json!({"unsubscribe": "00000000000000ab"});
        let whole = line(&json);
        let whole = &whole.as_bytes()[1..];
        assert_eq!(parse(whole), Line::Whole(json));
        for end in 1..whole.len() {
            assert_eq!(parse(&whole[..end]), Line::Torn, "{end}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A digit that became the same one in capitals says the same.
            let is_same = flipped.eq_ignore_ascii_case(whole) && bit / 8 < HEAD;
            assert!(parse(&flipped) == Line::Damaged || is_same, "bit {bit}");
        }
        let longer = [whole, b"}"].concat();
        assert_eq!(parse(&longer), Line::Damaged);
    }

    #[test]
    fn a_file_says_what_is_left_and_refuses_what_is_damaged() {
        let head =
            json!({"topic": "t", "id": "7", "kind": "fifo", "listen_slots": 1024, "of": "/b"});
        let said = |id: &str| json!({"topic": "7", "subscribe": id, "said": "{}"});
        let mut text = line(&head) + &line(&said("1")) + &line(&said("2"));
        // A full disk cut this one off; the next begins a line of its own.
        text += &line(&said("3"))[..30];
        text += &line(&json!({"topic": "7", "unsubscribe": "1"}));
        // Of one that had the name before, by somebody who was late.
        text += &line(&json!({"topic": "8", "subscribe": "4", "said": "{}"}));
        text += &line(&json!({"topic": "8", "unsubscribe": "2"}));
        let read = |bytes: &[u8]| of_bytes(bytes, "t", PathBuf::from("t"));
        let ids = |kept: Kept| {
            kept.subscriptions
                .iter()
                .map(|(id, _)| *id)
                .collect::<Vec<_>>()
        };
        let kept = read(text.as_bytes()).unwrap();
        assert_eq!((kept.id, kept.definition.kind), (7, TopicKind::Fifo));
        assert_eq!(ids(kept), [2]);
        let zeros = [text.as_bytes(), &[0; 100]].concat();
        assert_eq!(ids(read(&zeros).unwrap()), [2]);
        // Also where the file was gone on with behind them.
        let on = [&zeros[..], line(&said("5")).as_bytes()].concat();
        assert_eq!(ids(read(&on).unwrap()), [2, 5]);
        for at in [3, 40, text.len() - 3] {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            assert!(
                matches!(read(&damaged), Err(OpenError::Scribbled { .. })),
                "{at}"
            );
        }
        // Of a damaged one the first line says whose it is.
        assert_eq!(
            head_of(&text.as_bytes()[..text.len() - 3], "t").unwrap().id,
            7
        );
        assert!(head_of(b"\n0000", "t").is_none() && head_of(b"", "t").is_none());
        assert!(read(b"").is_err() && read(&text.as_bytes()[..20]).is_err());
        assert!(of_bytes(text.as_bytes(), "other", PathBuf::new()).is_err());
    }
}
