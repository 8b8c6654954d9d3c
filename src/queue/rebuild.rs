//! The rings of a queue, made again while its journal is read.
//!
//! Each ring is a file under a temporary name, made when the journal first says something of one of its positions, in which
//! that is written down where it will stand ([`Sketch`]): memory is bounded by a piece of the journal and,
//! where further rings lie on a disk, by one of them. A ring in which nothing is left goes at once.
//!
//! # Until it is a queue
//! ```text
//! reading     temporary files; the reaper takes them with whoever dies
//! prepared    the first file is whole, and has no name: it says what the further ones are named by
//! named       the further rings have their names, which nobody looks for, and no doctor takes for orphans
//! there       the first file has its name, and all of it is the queue
//! ```
//! A death in front of *there* leaves temporary files and, behind *named*, orphans: what they are named by comes once,
//! so whoever makes the queue again afterwards has others. In the order of first positions the rings are
//! numbered anew, without a gap; all but the last are sealed where they were. If the last has messages it is
//! sealed too, where the journal ends, and followed by an empty one: so all of them are received in their order.

use super::Since;
use super::definition::QueueDefinition;
use super::file::{Identity, Parts, create_as};
use super::grown::{chain_of, grown_name, publish_grown};
use super::spill;
use crate::error::OpenError;
use crate::layout::durable::{Durable, MessageHead, POSITIONS, RingEntry};
use crate::layout::geometry::Geometry;
use crate::layout::queue::{BLOCK_SLOTS, CLOCK_BASE_MS, GrownHeader, MAX_RINGS, QueueHeader};
use crate::layout::ring::{ChunkRef, MAX_SLOTS, MIN_SLOTS};
use crate::object::Site;
use crate::object::file::{Spare, reserve_from};
use crate::ring::delivery::Delivery;
use crate::ring::delivery::restore::{Restart, Sketch};
use crate::ring::{Liveness, Overflow, Producers, SlotRing};
use crate::shm::durable::DurableWords;
use crate::shm::queue::QueueWords;
use crate::shm::ring::RingMemory;
use crate::sync::Ordering;
use crate::sys::file::{self as files, CreateFailure};
use crate::sys::host;
use crate::sys::mapping::Mapping;
use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a journal between two times that pages of rings on a disk are given back.
const RELEASE_BYTES: usize = 32 << 20;

/// A ring that the journal has told of.
struct Ring {
    slots: u64,
    /// Where it is sealed, if that is known.
    end: Option<u64>,
    is_drained: bool,
    file: Option<(Spare, Sketch)>,
}

/// See the module.
pub(super) struct Rings<'a> {
    /// Of the first ring, and of the others.
    site: &'a Site,
    further: Site,
    definition: &'a QueueDefinition,
    /// By first position; the first of them is always there.
    by_first: BTreeMap<u64, Ring>,
    read_bytes: usize,
}

/// What the journal says of the queue as a whole, when all of it is read.
pub(super) struct Whole<'a> {
    pub header: &'a QueueHeader,
    /// How far it reaches.
    pub durable: Durable,
    /// The route of the message at a position that may have gone to another queue.
    pub route: &'a dyn Fn(&Delivery, u64) -> Option<u8>,
    /// Stores what else there is into the first file, whose clock is the last argument.
    pub fill: &'a Fill<'a>,
    /// Told slots that are laid out, and slots to be laid out in all.
    pub progress: &'a dyn Fn(u64, u64),
}

/// See [`Whole::fill`].
pub(super) type Fill<'a> = dyn Fn(&Arc<Mapping>, &Delivery, &ClockAt) + 'a;
/// What the clock of a queue says at a Unix time in ms.
pub(super) type ClockAt = dyn Fn(u64) -> u64;

/// Why an entry can't be taken in.
pub(super) enum Refused {
    /// It is not what it says.
    NoEntry,
    /// A ring can't be made.
    NoRing(OpenError),
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Self {
        Self::NoRing(error)
    }
}

impl<'a> Rings<'a> {
    /// Of a queue that `definition` is of, whose rings were named by `chain` in its last life.
    pub fn new(
        site: &'a Site,
        definition: &'a QueueDefinition,
        chain: u64,
    ) -> Result<Self, OpenError> {
        for name in files::names(&site.directory).unwrap_or_default() {
            if super::grown_of(&name).is_some_and(|(id, _)| id == chain) {
                let _ = files::remove(&site.directory.join(name));
            }
        }
        let directory = match definition.spill {
            true => {
                spill::prepare(site)?;
                spill::remove_rings_of(site, chain);
                spill::directory(site)
            }
            false => None,
        };
        let first = Ring {
            slots: definition.slots,
            end: None,
            is_drained: false,
            file: None,
        };
        let mut rings = Self {
            site,
            further: super::further_site(site, directory.as_deref()),
            definition,
            by_first: BTreeMap::from([(0, first)]),
            read_bytes: 0,
        };
        rings.sketch(0)?;
        Ok(rings)
    }

    /// A ring begins at `first`. `None` when it can't.
    pub fn take_ring(&mut self, first: u64, entry: &RingEntry) -> Option<()> {
        let slots = 1u64.checked_shl(entry.slots_log2.into())?;
        let fits = (MIN_SLOTS..=MAX_SLOTS).contains(&slots)
            && first.is_multiple_of(slots)
            && first < POSITIONS
            && entry.before <= first;
        if !fits {
            return None;
        }
        if first == 0 {
            return (slots == self.definition.slots).then_some(());
        }
        let known = self.by_first.entry(first).or_insert(Ring {
            slots,
            end: None,
            is_drained: false,
            file: None,
        });
        if known.slots != slots {
            return None;
        }
        if self.by_first.len() > 2 * MAX_RINGS {
            self.by_first.retain(|_, ring| !ring.is_drained);
            if self.by_first.len() > 2 * MAX_RINGS {
                return None;
            }
        }
        let (_, before) = self.by_first.range_mut(..first).next_back()?;
        before.end = Some(before.end.map_or(entry.before, |end| end.min(entry.before)));
        Some(())
    }

    /// Nothing is left in the ring that begins at `first`.
    pub fn take_drained(&mut self, first: u64) {
        if let Some(ring) = self.by_first.get_mut(&first).filter(|_| first > 0) {
            ring.is_drained = true;
            ring.file = None;
        }
    }

    /// Of the rings up to the last of these first positions, which are in order, those are left and no other. Nothing,
    /// where the first of all is not among them.
    pub fn keep_only(&mut self, listed: &[u64]) {
        let (Some(0), Some(last)) = (listed.first(), listed.last()) else {
            return;
        };
        for (first, ring) in self.by_first.range_mut(..=*last) {
            if listed.binary_search(first).is_err() {
                ring.is_drained = true;
                ring.file = None;
            }
        }
    }

    /// The ring of `position`; `None` where it is one that is gone.
    fn of(&mut self, position: u64) -> Result<Option<&mut Sketch>, OpenError> {
        let found = self.by_first.range(..=position).next_back();
        let Some((first, ring)) = found else {
            return Ok(None);
        };
        if ring.is_drained || ring.end.is_some_and(|end| position >= end) {
            return Ok(None);
        }
        let first = *first;
        self.sketch(first).map(Some)
    }

    fn sketch(&mut self, first: u64) -> Result<&mut Sketch, OpenError> {
        let site = if first == 0 { self.site } else { &self.further };
        let ring = self.by_first.get_mut(&first).expect("it was told of");
        if ring.file.is_none() {
            ring.file = Some(make(site, self.definition, first, ring.slots)?);
        }
        let (_, sketch) = ring.file.as_mut().expect("made just now");
        Ok(sketch)
    }

    /// A message; or one that was written again.
    pub fn put(
        &mut self,
        position: u64,
        head: &MessageHead,
        bytes: &[u8],
    ) -> Result<(), OpenError> {
        self.read_bytes += bytes.len() + size_of::<MessageHead>();
        if self.read_bytes >= RELEASE_BYTES {
            self.read_bytes = 0;
            self.release_pages();
        }
        if let Some(sketch) = self.of(position)? {
            sketch.put(position, head, bytes); // what fits into no slot is none
        }
        Ok(())
    }

    fn release_pages(&self) {
        if self.definition.spill {
            let further = self.by_first.range(1..);
            let files = further.filter_map(|(_, ring)| ring.file.as_ref());
            files.for_each(|(_, sketch)| sketch.release_pages());
        }
    }

    /// Nothing is left of `position` and what stood in its slot before.
    pub fn spend(&mut self, position: u64) -> Result<(), OpenError> {
        if let Some(sketch) = self.of(position)? {
            sketch.spend(position);
        }
        Ok(())
    }

    /// A message was received so often.
    pub fn note_received(&mut self, position: u64, receives: u16) -> Result<(), OpenError> {
        if let Some(sketch) = self.of(position)? {
            sketch.note_received(position, receives);
        }
        Ok(())
    }

    /// Messages whose bodies are to be put into the pool.
    pub fn bodiless(&self) -> u64 {
        self.files().map(Sketch::bodiless).sum()
    }

    fn files(&self) -> impl Iterator<Item = &Sketch> {
        let files = self.by_first.values().filter_map(|ring| ring.file.as_ref());
        files.map(|(_, sketch)| sketch)
    }

    /// The ring of the message at `position` whose body is to be put into the pool; `None` where there is none.
    pub fn wants_body(&mut self, position: u64) -> bool {
        let sketch = self.of(position).ok().flatten();
        sketch.is_some_and(|sketch| sketch.wants_body(position))
    }

    /// Its body lies there.
    pub fn put_body(&mut self, position: u64, reference: &ChunkRef) {
        if let Some(sketch) = self.of(position).ok().flatten() {
            sketch.put_body(position, reference);
        }
    }

    /// The first position that nobody can have claimed, of a journal that reaches up to `next`.
    pub fn start(&self, next: u64) -> u64 {
        let (first, last) = self.by_first.last_key_value().expect("the first is there");
        // A block of slots: the oldest, from which on those that are due are offered, stand behind it.
        (next.max(*first) + last.slots).next_multiple_of(BLOCK_SLOTS)
    }

    /// Makes the queue of what was read; what its rings are named by. `AlreadyExists` when somebody was first.
    pub fn publish(mut self, whole: &Whole<'_>) -> Result<u64, OpenError> {
        let next = whole.durable.position();
        let start = self.start(next);
        let mut last = *self.by_first.last_key_value().expect("as above").0;
        let left = self.sketch(last)?.left();
        if last > 0 && left > 0 && last < next {
            let slots = self.definition.slots;
            last = start.next_multiple_of(slots);
            let ring = RingEntry {
                before: next,
                number: 0,
                slots_log2: slots.trailing_zeros() as u16,
                following: 0,
            };
            let path = || self.site.directory.join(&self.definition.name);
            if self.take_ring(last, &ring).is_none() {
                return Err(OpenError::Scribbled {
                    path: path(),
                    what: "its journal tells of a ring behind the last position",
                });
            }
            self.sketch(last)?;
        }
        let start = self.start(next);
        // Where each is sealed: by the next one at the latest.
        let mut above = None;
        for (first, ring) in self.by_first.iter_mut().rev() {
            ring.end = above.map(|above: u64| ring.end.unwrap_or(u64::MAX).min(above).max(*first));
            above = Some(*first);
        }
        self.by_first.retain(|first, ring| {
            let is_left = ring.file.as_ref().is_some_and(|(_, it)| it.left() > 0);
            *first == 0 || *first == last || is_left
        });
        let identity = Identity {
            object_id: whole.header.preamble.object_id,
            chain_id: host::random_u64() | 1,
            group_key: whole.header.group_key,
            dedup_key: whole.header.dedup_key,
        };
        let chain = identity.chain_id;
        let Ring { end, file, .. } = self.by_first.remove(&0).expect("it is always there");
        let first_file = file.map(|(spare, _)| spare);
        let count = self.by_first.len() as u32;
        let further = self.by_first.values().map(|ring| ring.slots);
        let total = self.definition.slots + further.sum::<u64>();
        let far = Cell::new(0);
        let step = |slots| {
            far.set(far.get() + slots);
            (whole.progress)(far.get(), total);
        };
        let queue = RefCell::new(None);
        let fill = |mapping: &Arc<Mapping>, header: &QueueHeader| {
            let delivery = first_delivery(mapping, header, self.definition);
            let unix_base = header.preamble.created_ms.wrapping_sub(CLOCK_BASE_MS);
            let clock_at = move |unix_ms: u64| unix_ms.saturating_sub(unix_base);
            (whole.fill)(mapping, &delivery, &clock_at);
            delivery.restore(&Restart {
                start: end.unwrap_or(start),
                is_sealed: end.is_some(),
                durable: Some(whole.durable),
                clock_at: &clock_at,
                route: &|position| (whole.route)(&delivery, position),
            });
            let newest = delivery.words().newest();
            newest.store(count.into(), Ordering::Relaxed); // the name publishes it
            step(header.slots);
            *queue.borrow_mut() = Some((delivery, unix_base));
        };
        let (mut further, mut named, mut made_rings) = (self.by_first, Vec::new(), Vec::new());
        let site = &self.further;
        let definition = self.definition;
        let name_them = |_: &QueueHeader| {
            let queue = queue.borrow();
            let (delivery, unix_base) = queue.as_ref().expect("filled just now");
            for ((first, ring), number) in core::mem::take(&mut further).into_iter().zip(1..) {
                named.push(grown_name(chain, number));
                let restart = Restart {
                    start: ring.end.unwrap_or(start),
                    is_sealed: ring.end.is_some(),
                    durable: None,
                    clock_at: &|unix_ms| unix_ms.saturating_sub(*unix_base),
                    route: &|position| (whole.route)(delivery, position),
                };
                let (named, slots) = ((chain, number), ring.slots);
                let ring = (first, ring);
                made_rings.push(publish_ring(
                    site, definition, named, ring, delivery, &restart,
                )?);
                step(slots);
            }
            Ok(())
        };
        let made = create_as(
            self.site,
            self.definition,
            Some(identity),
            first_file,
            fill,
            name_them,
        );
        let is_there = |(name, ring): (&String, &Delivery)| {
            let is_gone = files::is_gone(&site.directory.join(name)).unwrap_or(false);
            // Asked behind that look: whoever writes says in a drained ring that it is, and then takes it away. By
            // now the queue may be in use.
            !is_gone || ring.words().drained().load(Ordering::Acquire) != 0
        };
        match made {
            Ok(()) if named.iter().zip(&made_rings).all(is_there) => Ok(chain),
            Ok(()) => {
                let path = self.site.directory.join(&self.definition.name);
                // Not another one of that name, which somebody made of the same journal since.
                if chain_of(&path) == Some(chain) {
                    let _ = files::remove(&path);
                }
                let why = "its rings were removed while they were made; open the queue again";
                Err(OpenError::io(path, std::io::Error::other(why)))
            }
            Err(error) => {
                for name in &named {
                    let _ = files::remove(&site.directory.join(name));
                }
                Err(error)
            }
        }
    }
}

/// A file of zeroes for the ring that begins at `first`.
fn make(
    site: &Site,
    definition: &QueueDefinition,
    first: u64,
    slots: u64,
) -> Result<(Spare, Sketch), OpenError> {
    let path = site.directory.join(&definition.name);
    let refused = |failure| match failure {
        CreateFailure::NoSpace(room) => OpenError::NoSpace {
            path: path.clone(),
            needed: room.needed,
            available: room.available,
        },
        CreateFailure::Io(error) => OpenError::io(&path, error),
    };
    let mut spare = Spare::new(site).map_err(refused)?;
    let (slots_offset, bytes) = definition.shape("", slots).extent();
    spare.extend(bytes).map_err(refused)?;
    let mapping = spare.map().map_err(|error| OpenError::io(&path, error))?;
    let memory = Geometry::new(slots, definition.stride, 1)
        .and_then(|geometry| geometry.starting_at(first))
        .and_then(|geometry| RingMemory::new(Arc::new(mapping), geometry, slots_offset));
    let memory = memory.ok_or(OpenError::Scribbled {
        path,
        what: "a ring that the journal tells of can not be",
    })?;
    let is_fifo = definition.kind == super::QueueKind::Fifo;
    Ok((spare, Sketch::new(memory, is_fifo)))
}

/// The first ring, in a file that was just laid out with `header`.
fn first_delivery(
    mapping: &Arc<Mapping>,
    header: &QueueHeader,
    definition: &QueueDefinition,
) -> Delivery {
    let parts = Parts::of(mapping, header, definition).expect("laid out just now");
    let ring = SlotRing::new(
        parts.memory.clone(),
        Arc::new(Nobody),
        0,
        Producers::Shared,
        Overflow::Refuse,
        0,
    );
    let epoch_ms = header.epoch_ms.wrapping_sub(header.clock_base_ms);
    let durable = parts.durable.expect("it is on disk");
    let queue = Delivery::new(ring, parts.words, Arc::new(Since(epoch_ms)));
    let queue = match &parts.dedup {
        Some(dedup) => queue.with_dedup(dedup.clone()),
        None => queue,
    };
    queue.with_durable(durable)
}

/// Makes a further ring what it was, and names it; that ring.
fn publish_ring(
    site: &Site,
    definition: &QueueDefinition,
    named: (u64, u32),
    (first, ring): (u64, Ring),
    queue: &Delivery,
    restart: &Restart<'_>,
) -> Result<Delivery, OpenError> {
    let name = grown_name(named.0, named.1);
    let shape = definition.shape(&name, ring.slots);
    let spare = ring.file.map(|(spare, _)| spare);
    let reserved = reserve_from(site, &shape, spare)?;
    let mut made = None;
    publish_grown(reserved, definition, named, first, |mapping, header| {
        let further = further_delivery(mapping, header, queue);
        further.restore(restart);
        further.ring().memory().release_pages();
        made = Some(further);
    })?;
    Ok(made.expect("restored before it had its name"))
}

fn further_delivery(mapping: &Arc<Mapping>, header: &GrownHeader, first: &Delivery) -> Delivery {
    let geometry = Geometry::new(header.slots, header.stride, 1)
        .and_then(|geometry| geometry.starting_at(header.first_position))
        .expect("made with it");
    let (from, until) = (header.due_offset, header.slots_offset);
    let memory = RingMemory::new(Arc::clone(mapping), geometry, until).expect("laid out just now");
    let words = QueueWords::new(Arc::clone(mapping), memory.geometry(), from, until);
    let changed = header.changed_offset;
    let durable = DurableWords::new(Arc::clone(mapping), memory.geometry(), changed, from, until);
    first.beside(memory, words.expect("laid out just now"), durable)
}

/// Nobody else is in a file that has no name yet.
struct Nobody;

impl Liveness for Nobody {
    fn is_dead(&self, _owner: u16) -> bool {
        true
    }
}
