//! Queues: opening, counting, settings, settling by receipt.

use crate::argument::Sized0 as _;
use crate::argument::{self, DEFAULT, How, NONE, choice, given, given_ms, switch};
use crate::bus::BusHandle;
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, shared};
use crate::layout::{FIRST_QUEUE_STATS, QueueConfig, QueueStats, Receipt, SettingsStruct};
use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;
use core::time::Duration;
use ringway::{
    Bus, DedupScope, Deduplication, Durability, Queue, QueueKind, QueueSettings, Redrive,
    RedriveAllow, Settings,
};

pub struct QueueHandle(pub Queue);

/// `RINGWAY_DEDUP_NONE`.
const NO_DEDUP: i32 = 4;
/// Longest text of a receipt, its final 0 included.
const RECEIPT_TEXT: usize = 48;

/// Words of a receipt: queue, position, receives. A receipt and what begins with one are words alone.
const RECEIPT_WORDS: usize = 3;
const _: () = assert!(size_of::<Receipt>() == RECEIPT_WORDS * size_of::<u64>());

#[cold]
#[inline(never)]
fn no_receipt(queue: u64, position: u64, receives: u64) -> Failure {
    let receives = u16::try_from(receives).unwrap_or(0);
    match ringway::Receipt::from_parts(queue, position, receives) {
        Err(error) => error.into(),
        Ok(_) => Failure::new(Code::Receipt, "no receipt"),
    }
}

#[inline(always)]
pub fn receipt_in(receipt: *const Receipt) -> Result<ringway::Receipt, Failure> {
    let seen = argument::seen(receipt, "receipt")?;
    // SAFETY: a struct of three words, as asserted above.
    let (queue, position, receives) = unsafe {
        (
            argument::word(seen, 0),
            argument::word(seen, 1),
            argument::word(seen, 2),
        )
    };
    let fitting = u16::try_from(receives).unwrap_or(0); // 0 is as little a count as more than fits
    match ringway::Receipt::of_parts(queue, position, fitting) {
        Some(receipt) => Ok(receipt),
        None => Err(no_receipt(queue, position, receives)),
    }
}

/// [`receipt_in`] for a short way: `None` for what it refuses.
#[inline(always)]
pub fn receipt_at_once(receipt: *const Receipt) -> Option<ringway::Receipt> {
    if receipt.is_null() || !receipt.is_aligned() {
        return None;
    }
    // SAFETY: as in `receipt_in`.
    let (queue, position, receives) = unsafe {
        (
            argument::word(receipt, 0),
            argument::word(receipt, 1),
            argument::word(receipt, 2),
        )
    };
    ringway::Receipt::of_parts(queue, position, u16::try_from(receives).ok()?)
}

/// Writes a receipt to where a result begins.
#[inline(always)]
pub fn put_receipt<T>(place: &mut MaybeUninit<T>, receipt: &ringway::Receipt) {
    const { assert!(size_of::<T>() >= size_of::<Receipt>()) };
    // SAFETY: results begin with three words of a receipt.
    unsafe {
        argument::put_word(place, 0, receipt.queue());
        argument::put_word(place, 1, receipt.position());
        argument::put_word(place, 2, receipt.receives().into());
    }
}

#[inline(always)]
pub fn receipt_out(receipt: ringway::Receipt) -> Receipt {
    Receipt {
        queue: receipt.queue(),
        position: receipt.position(),
        receives: receipt.receives().into(),
    }
}

/// What is said about deduplication, if anything: then what is not said is as by default.
fn deduplication(config: &QueueConfig) -> Result<Option<Option<Deduplication>>, Failure> {
    let wants = [(1, (false, false)), (2, (true, false)), (3, (false, true))];
    let is_said = config.dedup_ids != DEFAULT
        || config.dedup_window_ms != DEFAULT
        || (config.dedup, config.dedup_scope) != (0, 0);
    if !is_said || config.dedup == NO_DEDUP {
        return Ok((config.dedup == NO_DEDUP).then_some(None));
    }
    let mut dedup = Deduplication::default();
    if let Some((by_content, optional)) = choice(config.dedup, &wants, "dedup")? {
        (dedup.by_content, dedup.optional) = (by_content, optional);
    }
    if let Some(ids) = given(config.dedup_ids) {
        dedup.ids = ids;
    }
    if let Some(window) = given_ms(config.dedup_window_ms) {
        dedup.window = window;
    }
    let scopes = [(1, DedupScope::Queue), (2, DedupScope::MessageGroup)];
    if let Some(scope) = choice(config.dedup_scope, &scopes, "dedup_scope")? {
        dedup.scope = scope;
    }
    Ok(Some(Some(dedup)))
}

/// The level that a field names, if it names one.
pub fn durability(field: i32) -> Result<Option<Durability>, Failure> {
    let levels = [
        (1, Durability::Memory),
        (2, Durability::Durable),
        (3, Durability::Async),
    ];
    choice(field, &levels, "durability")
}

fn open(bus: &Bus, name: &str, config: Option<QueueConfig>) -> Result<Queue, Failure> {
    let mut builder = bus.queue(name);
    let mut how = How::OpenOrCreate;
    if let Some(config) = config {
        how = argument::how(config.how)?;
        macro_rules! say {
            ($($field:ident $given:ident $method:ident;)*) => {$(
                if let Some(value) = $given(config.$field) {
                    builder = builder.$method(value);
                }
            )*};
        }
        say! {
            slots given slots;
            stride given stride;
            max_bytes given max_bytes;
            max_message_bytes given max_message_bytes;
            visibility_ms given_ms visibility;
            delay_ms given_ms delay;
            retention_ms given_ms retention;
            receive_wait_ms given_ms receive_wait;
            stall_timeout_ms given_ms stall_timeout;
        }
        let kinds = [(1, QueueKind::Standard), (2, QueueKind::Fifo)];
        if let Some(kind) = choice(config.kind, &kinds, "kind")? {
            builder = builder.kind(kind);
        }
        if let Some(redeliver) = switch(config.redeliver_on_death, "redeliver_on_death")? {
            builder = builder.redeliver_on_death(redeliver);
        }
        if let Some(huge_pages) = switch(config.huge_pages, "huge_pages")? {
            builder = builder.huge_pages(huge_pages);
        }
        if let Some(durability) = durability(config.durability)? {
            builder = builder.durability(durability);
        }
        if let Some(read_ahead) = switch(config.read_ahead, "read_ahead")? {
            builder = builder.read_ahead(read_ahead);
        }
        if let Some(spill) = switch(config.spill, "spill")? {
            builder = builder.spill(spill);
        }
        if let Some(bytes) = given(config.journal_max_bytes) {
            builder = builder.journal_max_bytes((bytes != NONE).then_some(bytes));
        }
        if let Some(dedup) = deduplication(&config)? {
            builder = builder.deduplicate(dedup);
        }
    }
    Ok(match how {
        How::OpenOrCreate => builder.open_or_create()?,
        How::Open => builder.open()?,
        How::Create => builder.create()?,
    })
}

fn stats(queue: &Queue) -> QueueStats {
    let stats = queue.stats();
    QueueStats {
        visible: stats.visible,
        in_flight: stats.in_flight,
        delayed: stats.delayed,
        parked: stats.parked,
        moving: stats.moving,
        oldest_age_ms: stats
            .oldest_age
            .map_or(u64::MAX, |age| age.as_millis() as u64),
        capacity: stats.capacity,
        rings: stats.rings,
        bytes: stats.bytes,
        sent: stats.sent,
        received: stats.received,
        deleted: stats.deleted,
        expired: stats.expired,
        released: stats.released,
        purged: stats.purged,
        moved: stats.moved,
        arrived: stats.arrived,
        duplicates: stats.duplicates,
        damaged: stats.damaged,
        durable_position: stats.durable_position,
        unwritten: stats.unwritten,
        journal_bytes: stats.journal_bytes,
    }
}

fn settings_out(id: u64, settings: &QueueSettings) -> SettingsStruct {
    let ms = |time: Duration| time.as_millis() as u64;
    let mut out = SettingsStruct::initial();
    out.id = id;
    out.visibility_ms = ms(settings.visibility);
    out.delay_ms = ms(settings.delay);
    out.retention_ms = ms(settings.retention);
    out.max_message_bytes = settings.max_message_bytes;
    out.receive_wait_ms = ms(settings.receive_wait);
    out.max_messages = settings.max_messages.unwrap_or(NONE);
    out.max_in_flight = settings.max_in_flight.unwrap_or(NONE);
    out.dead_letter = settings.redrive.map_or(NONE, |redrive| redrive.target);
    out.max_receives = settings
        .redrive
        .map_or(DEFAULT, |redrive| redrive.max_receives.into());
    out.redeliver_on_death = if settings.redeliver_on_death { 1 } else { 2 };
    out.redrive_allow = match &settings.redrive_allow {
        RedriveAllow::All => 1,
        RedriveAllow::None => 2,
        RedriveAllow::Queues(queues) => {
            for (place, queue) in out.redrive_sources.iter_mut().zip(queues) {
                *place = *queue;
            }
            3
        }
    };
    out
}

fn settings_in(queue: &Queue, given_in: &SettingsStruct) -> Result<Settings, Failure> {
    let mut settings = Settings::new();
    macro_rules! say {
        ($($field:ident $given:ident $method:ident;)*) => {$(
            if let Some(value) = $given(given_in.$field) {
                settings = settings.$method(value);
            }
        )*};
    }
    say! {
        visibility_ms given_ms visibility;
        delay_ms given_ms delay;
        retention_ms given_ms retention;
        max_message_bytes given max_message_bytes;
        receive_wait_ms given_ms receive_wait;
    }
    if let Some(most) = given(given_in.max_messages) {
        settings = settings.max_messages((most != NONE).then_some(most));
    }
    if let Some(most) = given(given_in.max_in_flight) {
        settings = settings.max_in_flight((most != NONE).then_some(most));
    }
    if let Some(redeliver) = switch(given_in.redeliver_on_death, "redeliver_on_death")? {
        settings = settings.redeliver_on_death(redeliver);
    }
    let (target, receives) = (given(given_in.dead_letter), given(given_in.max_receives));
    if target == Some(NONE) {
        settings = settings.redrive(None);
    } else if target.is_some() || receives.is_some() {
        settings = settings.redrive(redrive(queue, target, receives)?);
    }
    let allows = [
        (1, RedriveAllow::All),
        (2, RedriveAllow::None),
        (3, RedriveAllow::Queues(Vec::new())),
    ];
    let number = given_in.redrive_allow;
    match allows.into_iter().find(|(allow, _)| *allow == number) {
        Some((_, RedriveAllow::Queues(_))) => {
            let listed = given_in.redrive_sources.iter().copied();
            let listed = listed.filter(|id| *id != 0).collect();
            settings = settings.redrive_allow(RedriveAllow::Queues(listed));
        }
        Some((_, allow)) => settings = settings.redrive_allow(allow),
        None if number == 0 => {}
        None => {
            let text = "redrive_allow is none of the constants of ringway.h";
            return Err(Failure::new(Code::Argument, text));
        }
    }
    Ok(settings)
}

/// Of the two parts of a redrive policy the one that is not given stays as it is.
fn redrive(queue: &Queue, target: Option<u64>, receives: Option<u64>) -> Result<Redrive, Failure> {
    let present = queue.settings().redrive;
    let missing = |what: &str| {
        let text = format!("a dead-letter queue needs {what} too");
        Failure::new(Code::Option, text)
    };
    let target = target.or(present.map(|present| present.target));
    let receives = receives.or(present.map(|present| present.max_receives.into()));
    let receives = receives.ok_or_else(|| missing("max_receives"))?;
    Ok(Redrive {
        target: target.ok_or_else(|| missing("dead_letter"))?,
        // More than there may be are refused by the core, with the rule.
        max_receives: u16::try_from(receives).unwrap_or(u16::MAX),
    })
}

abi! {
    /// Opens or creates a queue.
    fn ringway_queue_open(
        bus: *const c_void,
        name: *const c_char,
        config: *const QueueConfig,
        queue: *mut *mut c_void,
    ) {
        let queue = argument::out(queue, "queue")?;
        let name = argument::text(name, "name")?;
        let config = argument::sized(config, "config")?;
        let opened = open(&shared::<BusHandle>(bus)?.0, name, config)?;
        queue.write(keep(QueueHandle(opened))?);
        Ok(Code::Ok)
    }

    /// What is there.
    fn ringway_queue_stats(
        queue: *const c_void,
        result: *mut QueueStats,
        size: usize,
    ) {
        let queue = &shared::<QueueHandle>(queue)?.0;
        argument::write_known(&stats(queue), FIRST_QUEUE_STATS, result, size, "stats")
    }

    /// The settings as they are.
    fn ringway_queue_settings(
        queue: *const c_void,
        result: *mut SettingsStruct,
        size: usize,
    ) {
        let queue = &shared::<QueueHandle>(queue)?.0;
        let mut settings = settings_out(queue.id(), &queue.settings());
        settings.size = size;
        let first = SettingsStruct::FIRST;
        argument::write_known(&settings, first, result, size, "settings")
    }

    /// Changes settings.
    fn ringway_queue_set(queue: *const c_void, settings: *const SettingsStruct) {
        let queue = &shared::<QueueHandle>(queue)?.0;
        let given = argument::sized(settings, "settings")?;
        let given = given.ok_or_else(|| Failure::new(Code::Argument, "settings is NULL"))?;
        queue.set(&settings_in(queue, &given)?)?;
        Ok(Code::Ok)
    }

    /// Removes every message.
    fn ringway_queue_purge(queue: *const c_void, purged: *mut u64) {
        let out = argument::optional(purged, "purged")?;
        let purged = shared::<QueueHandle>(queue)?.0.purge()?;
        if let Some(out) = out {
            out.write(purged);
        }
        Ok(Code::Ok)
    }

    /// Waits for the disk.
    fn ringway_queue_flush(queue: *const c_void) {
        shared::<QueueHandle>(queue)?.0.flush()?;
        Ok(Code::Ok)
    }

    /// Deletes a message.
    fn ringway_queue_delete(queue: *const c_void, receipt: *const Receipt) {
        shared::<QueueHandle>(queue)?.0.delete(&receipt_in(receipt)?)?;
        Ok(Code::Ok)
    }

    /// Keeps a message invisible.
    fn ringway_queue_extend(
        queue: *const c_void,
        receipt: *const Receipt,
        visibility_ms: u64,
    ) {
        let visibility = Duration::from_millis(visibility_ms);
        let queue = &shared::<QueueHandle>(queue)?.0;
        queue.change_visibility(&receipt_in(receipt)?, visibility)?;
        Ok(Code::Ok)
    }

    /// Gives a message back.
    fn ringway_queue_nack(
        queue: *const c_void,
        receipt: *const Receipt,
        delay_ms: u64,
    ) {
        let delay = Duration::from_millis(delay_ms);
        shared::<QueueHandle>(queue)?.0.nack(&receipt_in(receipt)?, delay)?;
        Ok(Code::Ok)
    }

    /// A receipt as text.
    fn ringway_receipt_format(
        receipt: *const Receipt,
        text: *mut c_char,
        capacity: usize,
    ) {
        let written = receipt_in(receipt)?.to_string();
        let needed = written.len() + 1;
        if needed > RECEIPT_TEXT.min(capacity) {
            let text = format!("{needed} bytes are needed, {capacity} given");
            return Err(Failure::new(Code::BufferTooSmall, text));
        }
        let room = argument::room(text.cast::<u8>(), needed, "text")?;
        for (place, byte) in room.iter_mut().zip(written.bytes().chain([0])) {
            place.write(byte);
        }
        Ok(Code::Ok)
    }

    /// A receipt from text.
    fn ringway_receipt_parse(text: *const c_char, receipt: *mut Receipt) {
        let out = argument::out(receipt, "receipt")?;
        let receipt: ringway::Receipt = argument::text(text, "text")?.parse()?;
        out.write(receipt_out(receipt));
        Ok(Code::Ok)
    }
}
