//! Buses: opening, listing, removing.

use crate::argument::{self, How, given, switch};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, shared};
use crate::layout::{BusConfig, ObjectInfo, name_in};
use core::ffi::{c_char, c_void};
use ringway::{Builder, Bus, ObjectKind};

pub struct BusHandle(pub Bus);

/// `RINGWAY_TOPIC`.
const TOPIC: i32 = 4;
/// What a topic takes by itself.
const PAGE: u64 = 4096;

/// A field that has to fit into 32 bits.
fn narrow(field: u64, what: &str) -> Result<Option<u32>, Failure> {
    given(field)
        .map(u32::try_from)
        .transpose()
        .map_err(|_| Failure::new(Code::Option, format!("{what} is more than 32 bits hold")))
}

/// A bus as a config describes it, and how it is to be opened.
fn described(name: &str, config: Option<BusConfig>) -> Result<(Builder, How), Failure> {
    let mut builder = Bus::builder(name);
    let Some(config) = config else {
        return Ok((builder, How::OpenOrCreate));
    };
    if let Some(root) = argument::optional_text(config.root, "root")? {
        builder = builder.root(root);
    }
    if let Some(name) = argument::optional_text(config.participant_name, "participant_name")? {
        builder = builder.participant_name(name);
    }
    if let Some(root) = argument::optional_text(config.journal_root, "journal_root")? {
        builder = builder.journal_root(root);
    }
    if let Some(bytes) = given(config.pool_bytes) {
        builder = builder.pool_bytes(bytes);
    }
    if let Some(mode) = narrow(config.mode, "mode")? {
        builder = builder.mode(mode);
    }
    if let Some(group) = narrow(config.group, "group")? {
        builder = builder.group(group);
    }
    if let Some(pre_touch) = switch(config.pre_touch, "pre_touch")? {
        builder = builder.pre_touch(pre_touch);
    }
    Ok((builder, argument::how(config.how)?))
}

fn open(name: &str, config: Option<BusConfig>) -> Result<Bus, Failure> {
    let (builder, how) = described(name, config)?;
    Ok(match how {
        How::OpenOrCreate => builder.open_or_create()?,
        How::Open => builder.open()?,
        How::Create => builder.create()?,
    })
}

abi! {
    /// Opens or creates a bus.
    fn ringway_bus_open(
        name: *const c_char,
        config: *const BusConfig,
        bus: *mut *mut c_void,
    ) {
        let bus = argument::out(bus, "bus")?;
        let name = argument::text(name, "name")?;
        let opened = open(name, argument::sized(config, "config")?)?;
        bus.write(keep(BusHandle(opened))?);
        Ok(Code::Ok)
    }

    /// Lists the objects of a bus.
    fn ringway_bus_objects(
        bus: *const c_void,
        objects: *mut ObjectInfo,
        capacity: usize,
        count: *mut usize,
    ) {
        let room = argument::room(objects, capacity, "objects")?;
        let count = argument::out(count, "count")?;
        let bus = &shared::<BusHandle>(bus)?.0;
        let (found, topics) = (bus.objects()?, bus.topics()?);
        let objects = found.iter().map(|object| info(&object.name, number(object.kind), object.bytes));
        let topics = topics.iter().map(|name| info(name, TOPIC, PAGE));
        let mut all = 0;
        let mut places = room.iter_mut();
        for one in objects.chain(topics) {
            all += 1;
            if let Some(place) = places.next() {
                place.write(one);
            }
        }
        count.write(all);
        Ok(Code::Ok)
    }

    /// Removes an object of a bus.
    fn ringway_bus_remove(bus: *const c_void, name: *const c_char, kind: i32) {
        let name = argument::text(name, "name")?;
        let bus = &shared::<BusHandle>(bus)?.0;
        match argument::choice(kind, &[(TOPIC, ())], "kind")? {
            Some(()) => bus.remove_topic(name)?,
            None => bus.remove(name)?,
        }
        Ok(Code::Ok)
    }

    /// Says which topics may deliver to a queue.
    fn ringway_bus_set_queue_policy(
        bus: *const c_void,
        queue: *const c_char,
        policy: *const c_char,
    ) {
        let queue = argument::text(queue, "queue")?;
        let policy = argument::optional_text(policy, "policy")?;
        shared::<BusHandle>(bus)?.0.set_queue_policy(queue, policy)?;
        Ok(Code::Ok)
    }

    /// Copies what was said so.
    fn ringway_bus_queue_policy(
        bus: *const c_void,
        queue: *const c_char,
        text: *mut c_char,
        capacity: usize,
        len: *mut usize,
    ) {
        let buffer = argument::buffer(text.cast(), capacity)?;
        let len = argument::out(len, "len")?;
        let queue = argument::text(queue, "queue")?;
        let policy = shared::<BusHandle>(bus)?.0.queue_policy(queue)?;
        let policy = policy.unwrap_or_default();
        len.write(policy.len());
        let room = buffer.get_mut(..=policy.len()).ok_or_else(|| {
            let text = format!("the policy has {} bytes, and a 0 behind it", policy.len());
            Failure::new(Code::BufferTooSmall, text)
        })?;
        let (text, end) = room.split_at_mut(policy.len());
        text.copy_from_slice(policy.as_bytes());
        end.fill(0);
        Ok(Code::Ok)
    }

    /// Removes a whole bus.
    fn ringway_bus_destroy(name: *const c_char, config: *const BusConfig, force: i32) {
        let name = argument::text(name, "name")?;
        let (builder, _) = described(name, argument::sized(config, "config")?)?;
        builder.remove(force != 0)?;
        Ok(Code::Ok)
    }

    /// Pins the calling thread.
    fn ringway_pin_thread(core: u32) {
        ringway::affinity::pin_current_thread(core as usize)
            .map_err(|error| Failure::new(Code::Option, error.to_string()))?;
        Ok(Code::Ok)
    }
}

fn number(kind: ObjectKind) -> i32 {
    match kind {
        ObjectKind::Channel => 1,
        ObjectKind::Queue => 2,
        ObjectKind::Stream => 3,
        _ => 0,
    }
}

fn info(name: &str, object: i32, bytes: u64) -> ObjectInfo {
    ObjectInfo {
        bytes,
        object,
        reserved: 0,
        name: name_in(name),
    }
}
