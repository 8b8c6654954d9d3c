//! Buses: opening, listing, removing.

use crate::argument::{self, How, given, switch};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, shared};
use crate::layout::{BusConfig, ObjectInfo};
use core::ffi::{c_char, c_void};
use ringway::{Bus, ObjectKind};
use std::path::Path;

pub struct BusHandle(pub Bus);

/// A field that has to fit into 32 bits.
fn narrow(field: u64, what: &str) -> Result<Option<u32>, Failure> {
    given(field)
        .map(u32::try_from)
        .transpose()
        .map_err(|_| Failure::new(Code::Option, format!("{what} is more than 32 bits hold")))
}

fn open(name: &str, config: Option<BusConfig>) -> Result<Bus, Failure> {
    let mut builder = Bus::builder(name);
    let mut how = How::OpenOrCreate;
    if let Some(config) = config {
        how = argument::how(config.how)?;
        if let Some(root) = argument::optional_text(config.root, "root")? {
            builder = builder.root(root);
        }
        if let Some(name) = argument::optional_text(config.participant_name, "participant_name")? {
            builder = builder.participant_name(name);
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
    }
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
        let found = shared::<BusHandle>(bus)?.0.objects()?;
        for (place, object) in room.iter_mut().zip(&found) {
            place.write(info(&object.name, object.kind, object.bytes));
        }
        count.write(found.len());
        Ok(Code::Ok)
    }

    /// Removes an object of a bus.
    fn ringway_bus_remove(bus: *const c_void, object: *const c_char) {
        let object = argument::text(object, "object")?;
        shared::<BusHandle>(bus)?.0.remove(object)?;
        Ok(Code::Ok)
    }

    /// Removes a whole bus.
    fn ringway_bus_destroy(name: *const c_char, root: *const c_char, force: i32) {
        let name = argument::text(name, "name")?;
        let root = argument::optional_text(root, "root")?;
        Bus::remove_bus(name, root.map(Path::new), force != 0)?;
        Ok(Code::Ok)
    }

    /// Pins the calling thread.
    fn ringway_pin_thread(core: u32) {
        ringway::affinity::pin_current_thread(core as usize)
            .map_err(|error| Failure::new(Code::Option, error.to_string()))?;
        Ok(Code::Ok)
    }

    /// Lists the cores of the calling thread.
    fn ringway_cores(cores: *mut u32, capacity: usize, count: *mut usize) {
        let room = argument::room(cores, capacity, "cores")?;
        let count = argument::out(count, "count")?;
        let found = ringway::affinity::cores();
        for (place, core) in room.iter_mut().zip(&found) {
            place.write(u32::try_from(*core).unwrap_or(u32::MAX));
        }
        count.write(found.len());
        Ok(Code::Ok)
    }
}

fn info(name: &str, kind: ObjectKind, bytes: u64) -> ObjectInfo {
    let mut info = ObjectInfo {
        bytes,
        object: match kind {
            ObjectKind::Channel => 1,
            ObjectKind::Queue => 2,
            _ => 0,
        },
        reserved: 0,
        name: [0; 88],
    };
    // The last byte stays 0. Names of objects are shorter; others lie there by accident.
    let room = info.name.len() - 1;
    for (place, byte) in info.name[..room].iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    info
}
