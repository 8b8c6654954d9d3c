//! Channels: producers, readers, records in place.

use crate::argument::{self, How, choice, given, given_ms, nothing, switch, timeout};
use crate::bus::BusHandle;
use crate::code::{Code, Failure};
use crate::fence::{abi, abi_at_once};
use crate::handle::{keep, shared, with, with_at_once};
use crate::layout::{
    ChannelConfig, ChannelStats, Entry, FIRST_CHANNEL_STATS, ReaderConfig, Record, Slice,
};
use crate::loan::Lender;
use crate::receive::{Arena, idle};
use crate::send::bodies;
use core::ffi::{c_char, c_void};
use core::mem::{MaybeUninit, offset_of};
use core::ptr::NonNull;
use core::time::Duration;
use ringway::{
    Bus, Channel, Loan, Overflow, PinnedView, PollDescriptor, Producer, Producers, ReadError,
    Reader, Start, View,
};
use std::os::fd::AsRawFd;

pub struct ChannelHandle(pub Channel);
pub struct ProducerHandle(Producer);

impl Lender for ProducerHandle {
    fn lend(&mut self, len: usize) -> Result<Loan, Failure> {
        Ok(self.0.loan(len)?)
    }

    fn send_loan(&mut self, loan: Loan) -> Result<u64, (Failure, Loan)> {
        let sent = self.0.try_send_loan(loan);
        sent.map_err(|(error, loan)| (error.into(), loan))
    }
}

pub struct ViewHandle {
    _pinned: PinnedView,
}

/// A reader and the one view that may be open on it.
///
/// The view borrows the reader, which therefore lies behind a pointer: while `view` is there, nobody
/// else goes through `reader`.
pub struct ReaderHandle {
    view: Option<View<'static>>,
    batch: Arena,
    poll: Option<PollDescriptor>,
    reader: NonNull<Reader>,
}

impl Drop for ReaderHandle {
    fn drop(&mut self) {
        self.view = None;
        self.poll = None;
        // SAFETY: made by `Box::leak` in `ringway_reader_open`, and the view that borrowed it is gone.
        drop(unsafe { Box::from_raw(self.reader.as_ptr()) });
    }
}

impl ReaderHandle {
    #[inline(always)]
    pub fn reader(&mut self) -> Result<&mut Reader, Failure> {
        if self.view.is_some() {
            return Err(viewing());
        }
        // SAFETY: valid until drop; the view that would borrow it is not there, and `self` is
        // borrowed exclusively.
        Ok(unsafe { self.reader.as_mut() })
    }

    /// The same, `None` while a view is open.
    #[inline(always)]
    fn reader_at_once(&mut self) -> Option<&mut Reader> {
        match self.view {
            // SAFETY: as in `reader`.
            None => Some(unsafe { self.reader.as_mut() }),
            Some(_) => None,
        }
    }

    /// The descriptor, made by `make` when it is first asked for.
    pub fn descriptor(
        &mut self,
        make: impl FnOnce(&mut Reader) -> Result<PollDescriptor, Failure>,
    ) -> Result<i32, Failure> {
        if self.poll.is_none() {
            self.poll = Some(make(self.reader()?)?);
        }
        Ok(self.poll.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }

    /// Ends the view.
    pub fn release(&mut self) {
        self.view = None;
    }
}

#[cold]
fn viewing() -> Failure {
    let text = "a view of this reader is open; call ringway_release first";
    Failure::new(Code::BusyHandle, text)
}

/// Looks, and waits where that is wanted and nothing is there.
fn within<T>(
    reader: &mut Reader,
    wait: Duration,
    mut look: impl FnMut(&mut Reader) -> Result<Option<T>, ReadError>,
) -> Result<Option<T>, ReadError> {
    let found = look(reader)?;
    if found.is_some() || wait.is_zero() {
        return Ok(found);
    }
    let end = argument::deadline(wait);
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        if !reader.wait(left)? {
            return Ok(None);
        }
        let found = look(reader)?;
        if found.is_some() || left.is_zero() {
            return Ok(found);
        }
    }
}

fn record_of(record: ringway::Record) -> Record {
    Record {
        position: record.position,
        len: record.len,
        missed: 0,
    }
}

/// Writes a record to where a result begins.
#[inline(always)]
fn put_record<T>(place: &mut MaybeUninit<T>, record: &ringway::Record) {
    const {
        assert!(size_of::<T>() >= size_of::<Record>() && size_of::<Record>() == 24);
        assert!(offset_of!(Record, len) == 8 && offset_of!(Record, missed) == 16);
    }
    // SAFETY: as asserted, three words of what begins as a `Record`.
    unsafe {
        argument::put_word(place, 0, record.position);
        argument::put_word(place, 1, record.len as u64);
        argument::put_word(place, 2, 0);
    }
}

/// What an error says of a record: what was missed, what is needed.
#[cold]
fn unread(error: ReadError, tell: impl FnOnce(Record)) -> Failure {
    match error {
        ReadError::Lagged { from, to } => {
            tell(Record {
                position: to,
                len: 0,
                missed: to.saturating_sub(from),
            });
            Failure::not_now(Code::Lagged)
        }
        ReadError::BufferTooSmall { needed, .. } => {
            tell(Record {
                position: 0,
                len: needed,
                missed: 0,
            });
            error.into()
        }
        error => error.into(),
    }
}

/// Calls that may wait are out of the way of those that don't.
#[cold]
#[inline(never)]
fn send_within(producer: &mut Producer, body: &[u8], timeout_ns: i64) -> Result<u64, Failure> {
    Ok(producer.send(body, timeout(timeout_ns)?)?)
}

#[cold]
#[inline(never)]
fn read_within(
    reader: &mut Reader,
    buffer: &mut [u8],
    wait: Duration,
) -> Result<Option<ringway::Record>, ReadError> {
    reader.read(buffer, wait)
}

fn open(bus: &Bus, name: &str, config: Option<ChannelConfig>) -> Result<Channel, Failure> {
    let mut builder = bus.channel(name);
    let mut how = How::OpenOrCreate;
    if let Some(config) = config {
        how = argument::how(config.how)?;
        if let Some(slots) = given(config.slots) {
            builder = builder.slots(slots);
        }
        if let Some(stride) = given(config.stride) {
            builder = builder.stride(stride);
        }
        if let Some(readers) = given(config.readers) {
            // More than there may be are refused by the core, with the rule.
            builder = builder.readers(u32::try_from(readers).unwrap_or(u32::MAX));
        }
        if let Some(stall) = given_ms(config.stall_timeout_ms) {
            builder = builder.stall_timeout(stall);
        }
        let producers = [(1, Producers::Shared), (2, Producers::Exclusive)];
        if let Some(producers) = choice(config.producers, &producers, "producers")? {
            builder = builder.producers(producers);
        }
        let overflow = [(1, Overflow::Refuse), (2, Overflow::DropOldest)];
        if let Some(overflow) = choice(config.overflow, &overflow, "overflow")? {
            builder = builder.overflow(overflow);
        }
        if let Some(huge_pages) = switch(config.huge_pages, "huge_pages")? {
            builder = builder.huge_pages(huge_pages);
        }
    }
    Ok(match how {
        How::OpenOrCreate => builder.open_or_create()?,
        How::Open => builder.open()?,
        How::Create => builder.create()?,
    })
}

fn join(channel: &Channel, config: Option<ReaderConfig>) -> Result<Reader, Failure> {
    let mut builder = channel.reader();
    if let Some(config) = config {
        let starts = [
            (1, Start::Earliest),
            (2, Start::Latest),
            (3, Start::At(config.position)),
        ];
        if let Some(start) = choice(config.start, &starts, "start")? {
            builder = builder.start(start);
        }
        match choice(config.reliability, &[(1, true), (2, false)], "reliability")? {
            Some(true) => builder = builder.reliable(),
            Some(false) => builder = builder.lossy(),
            None => {}
        }
        if let Some(idle) = idle(config.idle)? {
            builder = builder.idle(idle);
        }
    }
    Ok(builder.join()?)
}

fn stats(channel: &Channel) -> ChannelStats {
    let stats = channel.stats();
    ChannelStats {
        tail: stats.tail,
        trim: stats.trim,
        readers: stats.readers.len() as u64,
        producer: stats.producer.map_or(0, |producer| producer.0.into()),
        abandoned: stats.abandoned,
        voided: stats.voided,
        renewed: stats.renewed,
        damaged: stats.damaged,
        dropped: stats.dropped,
    }
}

abi! {
    /// Opens or creates a channel.
    fn ringway_channel_open(
        bus: *const c_void,
        name: *const c_char,
        config: *const ChannelConfig,
        channel: *mut *mut c_void,
    ) {
        let channel = argument::out(channel, "channel")?;
        let name = argument::text(name, "name")?;
        let config = argument::sized(config, "config")?;
        let opened = open(&shared::<BusHandle>(bus)?.0, name, config)?;
        channel.write(keep(ChannelHandle(opened))?);
        Ok(Code::Ok)
    }

    /// Counters of a channel.
    fn ringway_channel_stats(
        channel: *const c_void,
        result: *mut ChannelStats,
        size: usize,
    ) {
        let channel = &shared::<ChannelHandle>(channel)?.0;
        argument::write_known(&stats(channel), FIRST_CHANNEL_STATS, result, size, "stats")
    }

    /// Becomes a producer.
    fn ringway_producer_open(channel: *const c_void, producer: *mut *mut c_void) {
        let producer = argument::out(producer, "producer")?;
        let opened = shared::<ChannelHandle>(channel)?.0.producer()?;
        producer.write(keep(ProducerHandle(opened))?);
        Ok(Code::Ok)
    }

    /// Sends records.
    fn ringway_producer_send_batch(
        producer: *mut c_void,
        slices: *const Slice,
        count: usize,
        sent: *mut usize,
    ) {
        let bodies = bodies(slices, count)?;
        let sent = argument::out(sent, "sent")?;
        with::<ProducerHandle>(producer, |ProducerHandle(producer)| {
            sent.write(producer.try_send_batch(bodies)?);
            Ok(Code::Ok)
        })
    }

    /// Becomes a reader.
    fn ringway_reader_open(
        channel: *const c_void,
        config: *const ReaderConfig,
        reader: *mut *mut c_void,
    ) {
        let reader = argument::out(reader, "reader")?;
        let config = argument::sized(config, "config")?;
        let joined = join(&shared::<ChannelHandle>(channel)?.0, config)?;
        reader.write(keep(ReaderHandle {
            view: None,
            batch: Arena::default(),
            poll: None,
            reader: NonNull::from(Box::leak(Box::new(joined))),
        })?);
        Ok(Code::Ok)
    }

    /// Copies records into the memory of the reader.
    fn ringway_reader_read_batch(
        reader: *mut c_void,
        max: usize,
        timeout_ns: i64,
        entries: *mut Entry,
        count: *mut usize,
    ) {
        let room = argument::room(entries, max, "entries")?;
        let count = argument::out(count, "count")?;
        let wait = timeout(timeout_ns)?;
        with::<ReaderHandle>(reader, |handle| {
            handle.reader()?;
            // SAFETY: no view is open, as was just seen, and `batch` is another field.
            let (reader, batch) = (unsafe { handle.reader.as_mut() }, &mut handle.batch);
            let mut records = room.iter_mut();
            batch.clear();
            let read = within(reader, wait, |reader| {
                let read = reader.read_batch(max, |record, body| {
                    let at = batch.push(body);
                    if let Some(place) = records.next() {
                        place.write(Entry { record: record_of(record), body: at });
                    }
                })?;
                Ok((read > 0 || max == 0).then_some(read))
            });
            match read {
                Ok(Some(read)) => {
                    for place in &mut room[..read.min(max)] {
                        // SAFETY: written above, one for each record.
                        let entry = unsafe { place.assume_init_mut() };
                        entry.body = batch.at(entry.body);
                    }
                    count.write(read);
                    Ok(Code::Ok)
                }
                Ok(None) => Ok(nothing(timeout_ns)),
                Err(error) => Err(unread(error, |record| {
                    if let Some(place) = room.first_mut() {
                        place.write(Entry { record, body: core::ptr::null() });
                    }
                })),
            }
        })
    }

    /// Shows the next record in place.
    fn ringway_reader_view(
        reader: *mut c_void,
        timeout_ns: i64,
        record: *mut Record,
        data: *mut *const c_void,
    ) {
        let out = argument::out(record, "record")?;
        let data = argument::out(data, "data")?;
        let wait = timeout(timeout_ns)?;
        with::<ReaderHandle>(reader, |handle| {
            handle.reader()?;
            // SAFETY: no view is open. What is borrowed here for ever is used through the view alone
            // until that is dropped: by `reader()` and by the drop of the handle.
            let reader: &'static mut Reader = unsafe { handle.reader.as_mut() };
            let reader: *mut Reader = reader;
            let mut end = None;
            loop {
                // SAFETY: as above; a borrow that brought no view has ended.
                match unsafe { (*reader).try_view() } {
                    Ok(Some(view)) => {
                        out.write(record_of(view.record()));
                        data.write(view.as_ptr().cast());
                        handle.view = Some(view);
                        return Ok(Code::Ok);
                    }
                    Ok(None) => {}
                    Err(error) => return Err(unread(error, |record| {
                        out.write(record);
                    })),
                }
                if wait.is_zero() {
                    return Ok(Code::Empty);
                }
                let end = *end.get_or_insert_with(|| argument::deadline(wait));
                let left = end.saturating_duration_since(std::time::Instant::now());
                // SAFETY: as above.
                if left.is_zero() || !unsafe { (*reader).wait(left)? } {
                    return Ok(nothing(timeout_ns));
                }
            }
        })
    }

    /// Keeps the next record in place.
    fn ringway_reader_pin(
        reader: *mut c_void,
        timeout_ns: i64,
        view: *mut *mut c_void,
        record: *mut Record,
        data: *mut *const c_void,
    ) {
        let view = argument::out(view, "view")?;
        let out = argument::out(record, "record")?;
        let data = argument::out(data, "data")?;
        let wait = timeout(timeout_ns)?;
        with::<ReaderHandle>(reader, |handle| {
            match within(handle.reader()?, wait, Reader::try_view_pinned) {
                Ok(Some(pinned)) => {
                    out.write(record_of(pinned.record()));
                    data.write(pinned.as_ptr().cast());
                    view.write(keep(ViewHandle { _pinned: pinned })?);
                    Ok(Code::Ok)
                }
                Ok(None) => Ok(nothing(timeout_ns)),
                Err(error) => Err(unread(error, |record| {
                    out.write(record);
                })),
            }
        })
    }
}

abi_at_once! {
    /// Sends a record.
    fn ringway_producer_send(
        producer: *mut c_void,
        body: *const c_void,
        len: usize,
        timeout_ns: i64,
        position: *mut u64,
    ) {
        let body = argument::bytes_at_once(body, len)?;
        if timeout_ns != 0 || !position.is_aligned() {
            return None;
        }
        with_at_once::<ProducerHandle>(producer, |ProducerHandle(producer)| {
            let sent = producer.try_send_at_once(body)?;
            if !position.is_null() {
                // SAFETY: aligned, and by ringway.h room for a position.
                unsafe { position.write(sent) };
            }
            Some(())
        })
    } else {
        let body = argument::bytes(body, len)?;
        let position = argument::optional(position, "position")?;
        with::<ProducerHandle>(producer, |ProducerHandle(producer)| {
            let sent = if timeout_ns == 0 {
                producer.try_send_slowly(body)?
            } else {
                send_within(producer, body, timeout_ns)?
            };
            if let Some(position) = position {
                position.write(sent);
            }
            Ok(Code::Ok)
        })
    }

    /// Copies the next record.
    fn ringway_reader_read(
        reader: *mut c_void,
        buffer: *mut c_void,
        capacity: usize,
        timeout_ns: i64,
        record: *mut Record,
    ) {
        let buffer = argument::buffer_at_once(buffer, capacity)?;
        let out = argument::out_at_once(record)?;
        if timeout_ns != 0 {
            return None;
        }
        with_at_once::<ReaderHandle>(reader, |handle| {
            let record = handle.reader_at_once()?.try_read_at_once(buffer)?;
            put_record(out, &record);
            Some(())
        })
    } else {
        let buffer = argument::buffer(buffer, capacity)?;
        let out = argument::out(record, "record")?;
        with::<ReaderHandle>(reader, |handle| {
            let reader = handle.reader()?;
            let read = if timeout_ns == 0 {
                reader.try_read(buffer)
            } else {
                read_within(reader, buffer, timeout(timeout_ns)?)
            };
            match read {
                Ok(Some(ref record)) => {
                    put_record(out, record);
                    Ok(Code::Ok)
                }
                Ok(None) => Ok(nothing(timeout_ns)),
                Err(error) => Err(unread(error, |record| {
                    out.write(record);
                })),
            }
        })
    }
}
