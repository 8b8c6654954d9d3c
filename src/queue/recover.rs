//! Making a durable queue again from its journal: behind a restart of the machine, or when the
//! directory of its bus is gone.
//!
//! Whoever opens first does it, under a lock of the kernel that dies with its holder; the others wait
//! for it, or do it when he dies, or stands still for some seconds. The journal is read, nothing in it is changed but the footers that
//! say where an epoch ended; the rings are [built](super::rebuild) in files under temporary names and get their
//! names when they are whole. So a death in between leaves temporary files, and doing it twice gives the same twice.
//! What is read goes into the slots where it will stand: memory is for no more than a piece of the journal.
//!
//! What is left of the queue: its definition and its settings, its id, its keys; every message that was
//! acknowledged and not deleted, at its position, with its receive count; the deduplication ids of
//! the window. Leases are void. A message that was sent or deleted and not acknowledged may be there or
//! not.
//!
//! *Stopped while it does so.* Others turn away, and one of them may remove the journal. So it is looked for once
//! more behind the name: who removes moves the journal first and looks for the name behind that, so that one of the
//! two sees the other. A queue whose journal went meanwhile is taken away again.

use super::QueueKind;
use super::definition::QueueDefinition;
use super::file::{definition_of, journal_directory};
use super::journals::{Told, has_journal, lock_journal};
use super::persist::MOST_FLUSH_BYTES;
use super::rebuild::{ClockAt, Refused, Rings, Whole};
use super::release::MOST_AGAIN_BYTES;
use super::settings::restored_words;
use crate::error::{JournalError, OpenError};
use crate::journal::{Disk, Reading, Recovery};
use crate::layout::durable::{
    Durable, ENTRY_AGAIN, ENTRY_CONSUMED, ENTRY_DRAINED, ENTRY_ID, ENTRY_MESSAGE, ENTRY_MOVING,
    ENTRY_RECEIVED, ENTRY_RING, ENTRY_SETTINGS, MARK_ID, MessageHead, POSITIONS, RingEntry,
    SETTINGS, SentId,
};
use crate::layout::queue::{BLOCK_SLOTS, MAGIC, QueueHeader, control};
use crate::layout::ring::ChunkRef;
use crate::object::Site;
use crate::pool::lend::{Lender, Lent};
use crate::pool::segment::GrowFailure;
use crate::ring::delivery::Delivery;
use crate::shm::words::word64;
use crate::sync::Ordering;
use crate::sys::file as files;
use crate::sys::mapping::Mapping;
use crate::trace::{event, span};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// How a queue was made again.
#[must_use = "one whose journal is gone has to go too"]
pub(crate) enum Recovered {
    /// It is there.
    There,
    /// It was removed meanwhile: what was made, whose rings are named by that, has to go.
    Removed(u64),
}

/// Makes the queue `name` again; a queue that is there stays as it is. Blocks for the disk, and for
/// whoever is at it already.
///
/// # Errors
/// [`OpenError::NotFound`] when there is no journal, [`OpenError::Journal`] when it can't be read;
/// when the pool has no room for the bodies that lie there.
pub(crate) fn recover(site: &Site, name: &str, mut lender: Lender) -> Result<Recovered, OpenError> {
    let path = site.directory.join(name);
    let directory = match journal_directory(site, name) {
        Some(directory) if has_journal(site, name)? => directory,
        _ => return Err(OpenError::NotFound { path }),
    };
    let told = Told::of(site, name);
    let Some(locked) = lock_journal(&directory, &path, &told)? else {
        return match files::is_regular(&path) {
            true => Ok(Recovered::There),
            false => Err(OpenError::NotFound { path }),
        };
    };
    span!(DEBUG, "recover", queue = name);
    let note = |far, total| told.note(&locked, far, total);
    // By somebody who did not wait any longer; the journal moves on under what is read here.
    let is_there = || files::is_regular(&path);
    let opened = Disk::open(&directory).map(Arc::new);
    let looked = opened.map_err(OpenError::from).and_then(|disk| {
        let found = look(&disk, &path, name)?;
        Ok(found.map(|found| (disk, found)))
    });
    let (disk, (recovery, header, definition)) = match looked {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Recovered::There),
        Err(_) if is_there() => return Ok(Recovered::There),
        Err(error) => return Err(error),
    };
    let mut read = Read::new(header, &definition, site)?;
    match read.journal(&recovery, &directory, &note) {
        Err(_) if is_there() => return Ok(Recovered::There),
        other => other?,
    }
    // In this participant's hands until the queue has its name: nobody knows yet who refers to them.
    let lent = match read.lend_bodies(&recovery, &mut lender, &path, &note) {
        Err(_) if is_there() => return Ok(Recovered::There),
        other => other?,
    };
    let is_in_place = || {
        disk.is_in_place()
            .map_err(|error| OpenError::io(&directory, error))
    };
    let created = match is_in_place() {
        Ok(true) => read.publish(&note),
        Ok(false) => Err(OpenError::NotFound { path: path.clone() }),
        Err(error) => Err(error),
    };
    for lent in lent {
        match created {
            Ok(_) => lender.attach(lent),
            Err(_) => lender.put_back(lent),
        }
    }
    match created {
        // By somebody with another journal root.
        Err(OpenError::AlreadyExists { .. }) => Ok(Recovered::There),
        created => {
            event!(
                DEBUG,
                "made again",
                queue = name,
                is_there = created.is_ok()
            );
            let chain = created?;
            match is_in_place()? {
                true => Ok(Recovered::There),
                false => Ok(Recovered::Removed(chain)),
            }
        }
    }
}

/// A chunk for `len` bytes of a body of the queue at `path`.
fn lend(lender: &mut Lender, len: usize, path: &Path) -> Result<Lent, OpenError> {
    loop {
        if let Some(lent) = lender.cached(len) {
            return Ok(lent);
        }
        if lender.refill(len) {
            continue;
        }
        lender.grow(len).map_err(|failure| match failure {
            GrowFailure::Quota { quota, .. } => OpenError::InvalidOption {
                option: "pool_bytes",
                given: quota.to_string(),
                rule: "more than that: the large bodies of a queue on disk lie in the pool of the bus, \
                       and there is no room for all of them; create the bus with a larger one"
                    .to_owned(),
            },
            GrowFailure::NoSpace(room) => OpenError::NoSpace {
                path: path.to_owned(),
                needed: room.needed,
                available: room.available,
            },
            GrowFailure::Damaged(path) => OpenError::Scribbled {
                path,
                what: "a segment of the payload pool is damaged",
            },
            GrowFailure::Io(error) => OpenError::io(path, error),
        })?;
    }
}

/// What a journal says.
struct Read<'a> {
    header: QueueHeader,
    settings: [Option<u64>; SETTINGS],
    rings: Rings<'a>,
    /// Entries in front of the first that says which rings there are; `None` from then on.
    deferred: Option<Deferred>,
    /// First positions of the rings that were told of last, in order, if all in front of the last were.
    listed: Vec<u64>,
    /// Object ids of the queues that messages may have gone to.
    moving: HashMap<u64, u64>,
    /// By position: the deduplication id of the message, and when it was sent.
    ids: HashMap<u64, ([u64; 2], u64)>,
    next: u64,
    epoch: u64,
    /// Whether bodies lie in the pool.
    has_bodies: bool,
}

/// Entries that wait: kind, position, bytes.
#[derive(Default)]
struct Deferred {
    entries: Vec<(u8, u64, Box<[u8]>)>,
    bytes: usize,
    /// Whether a whole list of rings has begun: what ends it ends the waiting.
    in_list: bool,
}

/// What they may take: they are of one flush, or written again behind one, into segments of which the first that is
/// left has no list yet.
const MOST_DEFERRED: usize = 256 << 20;

const _: () = assert!(MOST_DEFERRED as u64 >= MOST_AGAIN_BYTES + MOST_FLUSH_BYTES);

/// Whether a ring is one of a list that goes on.
fn is_followed(bytes: &[u8]) -> bool {
    let entry: Result<RingEntry, _> = bytemuck::try_pod_read_unaligned(bytes);
    entry.is_ok_and(|entry| entry.following > 0)
}

/// Why an entry ends the reading.
struct Unreadable(OpenError);

impl From<JournalError> for Unreadable {
    fn from(error: JournalError) -> Self {
        Self(error.into())
    }
}

impl From<OpenError> for Unreadable {
    fn from(error: OpenError) -> Self {
        Self(error)
    }
}

/// The queue whose journal lies on `disk`, which is open for reading; `None` when it is there by then.
fn look(
    disk: &Arc<Disk>,
    queue: &Path,
    name: &str,
) -> Result<Option<(Recovery<Disk>, QueueHeader, QueueDefinition)>, OpenError> {
    let recovery = Recovery::open(Arc::clone(disk), None, false)?;
    // Whoever writes in a later epoch made the queue first: so none of the segments that were found
    // is written to, and to say where they end takes nothing away.
    if files::is_regular(queue) {
        return Ok(None);
    }
    let header: QueueHeader = bytemuck::pod_read_unaligned(recovery.definition());
    let scribbled = |what| OpenError::Scribbled {
        path: disk.directory().to_owned(),
        what,
    };
    if header.preamble.magic != MAGIC {
        return Err(scribbled("the journal is none of a queue"));
    }
    if header.name.get(..header.name_bytes as usize) != Some(name.as_bytes()) {
        return Err(scribbled("the journal is of a queue of another name"));
    }
    let definition = definition_of(&header, name).map_err(scribbled)?;
    definition.check()?;
    Ok(Some((recovery, header, definition)))
}

impl<'a> Read<'a> {
    /// Nothing of it yet.
    fn new(
        header: QueueHeader,
        definition: &'a QueueDefinition,
        site: &'a Site,
    ) -> Result<Self, OpenError> {
        let may_grow = definition.kind == QueueKind::Standard
            && definition.max_bytes > definition.ring_bytes(definition.slots);
        Ok(Self {
            rings: Rings::new(site, definition, header.chain())?,
            header,
            settings: [None; SETTINGS],
            deferred: may_grow.then(Deferred::default),
            listed: Vec::new(),
            moving: HashMap::new(),
            ids: HashMap::new(),
            next: 0,
            epoch: 0,
            has_bodies: false,
        })
    }

    /// Reads all of it.
    fn journal(
        &mut self,
        recovery: &Recovery<Disk>,
        directory: &Path,
        progress: &dyn Fn(u64, u64),
    ) -> Result<(), OpenError> {
        let scribbled = |what| OpenError::Scribbled {
            path: directory.to_owned(),
            what,
        };
        let refused = |refused| match refused {
            Refused::NoEntry => scribbled("an entry of the journal is not what it says"),
            Refused::NoRing(error) => error,
        };
        let total = core::cell::Cell::new(0);
        let note = |read, of| {
            total.set(of);
            progress(read, of);
        };
        let reading = Reading {
            seal: true,
            progress: &note,
            ..Reading::default()
        };
        let found = recovery.read(&reading, |entry| {
            let taken = self.take(entry.kind, entry.position, entry.bytes);
            taken.map_err(|why| Unreadable(refused(why)))
        });
        let found = found.map_err(|Unreadable(error)| error)?;
        self.take_deferred().map_err(refused)?; // of a queue that never came to write all of a flush
        progress(total.get(), total.get()); // what had not to be read, too
        (self.next, self.epoch) = (found.next, found.epoch);
        let fits = Durable::new(self.epoch, self.next).is_some()
            && self.rings.start(self.next) < POSITIONS;
        match fits {
            true => Ok(()),
            false => Err(scribbled("its positions or epochs have run out")),
        }
    }

    /// Reads it once more, for the bodies that do not lie in their slots, and copies them into the pool.
    fn lend_bodies(
        &mut self,
        recovery: &Recovery<Disk>,
        lender: &mut Lender,
        path: &Path,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Vec<Lent>, OpenError> {
        let (id, mut lent) = (self.header.preamble.object_id, Vec::new());
        if self.rings.bodiless() == 0 {
            return Ok(lent);
        }
        let reading = Reading {
            progress,
            ..Reading::default()
        };
        let rings = &mut self.rings;
        let read = recovery.read(&reading, |entry| {
            let is_message = matches!(entry.kind, ENTRY_MESSAGE | ENTRY_AGAIN);
            if !is_message || !rings.wants_body(entry.position) {
                return Ok(());
            }
            let head = size_of::<MessageHead>().min(entry.bytes.len());
            let body = &entry.bytes[head..];
            let made = lend(lender, body.len(), path)?;
            lender.write(made, body);
            lender.address(made, id, entry.position);
            lent.push(made);
            let reference = ChunkRef {
                segment: made.segment,
                chunk: made.chunk,
                version: made.version,
                len: body.len() as u64,
            };
            rings.put_body(entry.position, &reference);
            Ok(())
        });
        self.has_bodies = !lent.is_empty();
        match read {
            Ok(_) => Ok(lent),
            Err(Unreadable(error)) => {
                lent.into_iter().for_each(|lent| lender.put_back(lent));
                Err(error)
            }
        }
    }

    /// Takes an entry in, or lets it wait until it is known which rings there are.
    fn take(&mut self, kind: u8, position: u64, bytes: &[u8]) -> Result<(), Refused> {
        match (&mut self.deferred, kind) {
            (None, ENTRY_RING) => self.take_ring(position, bytes),
            // Not one that was begun to be written to, in a flush that crossed into this segment: the list of
            // all of them comes with the next flush.
            (Some(deferred), ENTRY_RING)
                if deferred.in_list || position == 0 || is_followed(bytes) =>
            {
                deferred.in_list = true;
                self.take_ring(position, bytes)
            }
            (Some(deferred), _) => {
                deferred.bytes += bytes.len();
                deferred.entries.push((kind, position, bytes.into()));
                match deferred.bytes > MOST_DEFERRED {
                    // It has one ring: a journal in which others are told of says so in time.
                    true => self.take_deferred(),
                    false => Ok(()),
                }
            }
            (None, _) => self.take_known(kind, position, bytes),
        }
    }

    fn take_deferred(&mut self) -> Result<(), Refused> {
        let deferred = self.deferred.take().unwrap_or_default();
        let mut entries = deferred.entries.into_iter();
        entries.try_for_each(|(kind, position, bytes)| self.take_known(kind, position, &bytes))
    }

    fn take_ring(&mut self, position: u64, bytes: &[u8]) -> Result<(), Refused> {
        let entry: RingEntry =
            bytemuck::try_pod_read_unaligned(bytes).map_err(|_| Refused::NoEntry)?;
        let taken = self.rings.take_ring(position, &entry);
        taken.ok_or(Refused::NoEntry)?;
        if position == 0 {
            self.listed.clear();
        }
        if position == 0 || self.listed.last().is_some_and(|last| *last < position) {
            self.listed.push(position);
        }
        if entry.following > 0 {
            return Ok(());
        }
        self.take_deferred()?;
        self.rings.keep_only(&self.listed);
        Ok(())
    }

    fn take_known(&mut self, kind: u8, position: u64, bytes: &[u8]) -> Result<(), Refused> {
        let value = || {
            let bytes = bytes.try_into().map_err(|_| Refused::NoEntry)?;
            Ok::<_, Refused>(u64::from_le_bytes(bytes))
        };
        match kind {
            ENTRY_MESSAGE | ENTRY_AGAIN => {
                let (head, body) = bytes
                    .split_at_checked(size_of::<MessageHead>())
                    .ok_or(Refused::NoEntry)?;
                let head: MessageHead = bytemuck::pod_read_unaligned(head);
                if head.marks & MARK_ID != 0 {
                    self.ids.insert(position, (head.id, head.sent_ms));
                }
                self.rings.put(position, &head, body)?;
            }
            ENTRY_CONSUMED => {
                let (words, rest) = bytes.as_chunks::<8>();
                if words.is_empty() || !rest.is_empty() {
                    return Err(Refused::NoEntry);
                }
                for (block, bits) in (0..).zip(words) {
                    self.take_consumed(position.saturating_add(BLOCK_SLOTS * block), *bits)?;
                }
            }
            ENTRY_RECEIVED => {
                let count = u16::try_from(value()?).map_err(|_| Refused::NoEntry)?;
                self.rings.note_received(position, count)?;
            }
            ENTRY_MOVING => {
                self.moving.insert(position, value()?);
            }
            ENTRY_ID => {
                let sent: SentId =
                    bytemuck::try_pod_read_unaligned(bytes).map_err(|_| Refused::NoEntry)?;
                self.ids.insert(position, (sent.id, sent.sent_ms));
            }
            ENTRY_SETTINGS => {
                let value = value()?;
                let place = usize::try_from(position).ok();
                let setting = place.and_then(|place| self.settings.get_mut(place));
                *setting.ok_or(Refused::NoEntry)? = Some(value);
            }
            ENTRY_DRAINED => self.rings.take_drained(position),
            ENTRY_RING => self.take_ring(position, bytes)?,
            // A gap; or of a later version, and not needed.
            _ => {}
        }
        Ok(())
    }

    fn take_consumed(&mut self, first: u64, bits: [u8; 8]) -> Result<(), Refused> {
        let bits = u64::from_le_bytes(bits);
        for bit in (0..64).filter(|bit| bits & 1 << bit != 0) {
            let position = first.checked_add(bit).ok_or(Refused::NoEntry)?;
            self.rings.spend(position)?;
            if !self.moving.is_empty() {
                self.moving.remove(&position);
            }
        }
        Ok(())
    }

    /// Makes the queue of it; what its rings are named by.
    fn publish(self, progress: &dyn Fn(u64, u64)) -> Result<u64, OpenError> {
        let (moving, ids) = (self.moving, self.ids);
        let (settings, has_bodies) = (self.settings, self.has_bodies);
        let fill = |mapping: &Arc<Mapping>, queue: &Delivery, at: &ClockAt| {
            for (place, value) in restored_words(&settings) {
                let word = word64(mapping, control::RETENTION + 8 * place);
                word.store(value, Ordering::Relaxed); // the name of the file publishes it
            }
            if has_bodies {
                let payloads = queue.ring().memory().payloads();
                payloads.store(1, Ordering::Relaxed);
            }
            let Some(dedup) = queue.dedup() else {
                return;
            };
            let now = queue.now_ms();
            for (position, (id, sent_ms)) in &ids {
                // What was sent before the clock began is older than any window.
                let expiry = at(*sent_ms).min(now) + dedup.window_ms();
                if expiry > now {
                    // The table had room for all of them.
                    dedup.restore(*id, *position, expiry);
                }
            }
        };
        self.rings.publish(&Whole {
            header: &self.header,
            durable: Durable::new(self.epoch, self.next).expect("checked when it was read"),
            route: &|queue, position| {
                let target = moving.get(&position)?;
                queue.route_to(*target)
            },
            fill: &fill,
            progress,
        })
    }
}
