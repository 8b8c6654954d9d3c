//! Changing a stream while it is used, and its registered consumers.

use crate::argument::{self, choice, given, given_ms};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::shared;
use crate::layout::{ChangeConfig, Changed, ConsumerInfo, name_in};
use crate::put::hash_key;
use crate::stream::{StreamHandle, small};
use core::ffi::c_void;
use ringway::{ConsumerPolicy, ShardId, Stream};

/// `enum ringway_change`.
#[derive(Clone, Copy)]
enum What {
    Split,
    Merge,
    Scale,
    Retire,
    Retain,
    Register,
    Deregister,
    RemoveGroup,
}

const CHANGES: [(i32, What); 8] = [
    (1, What::Split),
    (2, What::Merge),
    (3, What::Scale),
    (4, What::Retire),
    (5, What::Retain),
    (6, What::Register),
    (7, What::Deregister),
    (8, What::RemoveGroup),
];

/// `enum ringway_behind`.
const POLICIES: [(i32, ConsumerPolicy); 4] = [
    (1, ConsumerPolicy::Block),
    (2, ConsumerPolicy::Fail),
    (3, ConsumerPolicy::DropOldest),
    (4, ConsumerPolicy::Evict),
];

fn needed(field: u64, what: &str) -> Result<u32, Failure> {
    let missing = || Failure::new(Code::Option, format!("{what} is not given, and is needed"));
    Ok(small(given(field).ok_or_else(missing)?))
}

fn retain(stream: &Stream, config: &ChangeConfig) -> Result<(), Failure> {
    // Of a stream in memory the core says that it has none.
    let mut retention = stream.retention().unwrap_or_default();
    if let Some(age) = given_ms(config.retention_ms) {
        retention.age = age;
    }
    if let Some(bytes) = given(config.retention_bytes) {
        retention.bytes = (bytes != argument::NONE).then_some(bytes);
    }
    Ok(stream.set_retention(retention)?)
}

#[cold]
fn no_one(what: &str, name: &str) -> Failure {
    Failure::new(Code::NotFound, format!("there is no {what} {name:?}"))
}

fn change(stream: &Stream, config: &ChangeConfig) -> Result<Changed, Failure> {
    let mut changed = Changed {
        shards: [argument::NONE; 2],
        count: 0,
    };
    let name = || argument::text(config.name, "name");
    let what = choice(config.what, &CHANGES, "what")?;
    let unsaid = || Failure::new(Code::Argument, "what says nothing: enum ringway_change");
    match what.ok_or_else(unsaid)? {
        What::Split => {
            let shard = ShardId(needed(config.shard, "shard")?);
            let at = match config.hash_key.is_null() {
                true => None,
                false => Some(hash_key(&argument::read(config.hash_key, "hash_key")?)),
            };
            changed.shards = stream.split(shard, at)?.map(|shard| shard.0.into());
        }
        What::Merge => {
            let first = ShardId(needed(config.shard, "shard")?);
            let second = ShardId(needed(config.second, "second")?);
            changed.shards[0] = stream.merge(first, second)?.0.into();
        }
        What::Scale => {
            let changes = stream.update_shard_count(needed(config.count, "count")?)?;
            changed.count = changes as u64;
        }
        What::Retire => changed.count = stream.retire_closed()? as u64,
        What::Retain => retain(stream, config)?,
        What::Register => {
            let policy = choice(config.behind, &POLICIES, "behind")?.unwrap_or_default();
            stream.register_consumer(name()?, policy)?;
        }
        What::Deregister => {
            let name = name()?;
            if !stream.deregister_consumer(name)? {
                return Err(no_one("consumer", name));
            }
        }
        What::RemoveGroup => {
            let name = name()?;
            if !stream.remove_group(name)? {
                return Err(no_one("group", name));
            }
        }
    }
    Ok(changed)
}

fn info(consumer: &ringway::ConsumerInfo) -> ConsumerInfo {
    let known = POLICIES.iter().find(|(_, of)| *of == consumer.policy);
    ConsumerInfo {
        registered_ms: consumer.registered_ms,
        subscriber: consumer.subscriber.map_or(0, |by| by.0.into()),
        behind: consumer.behind,
        records: consumer.records,
        bytes: consumer.bytes,
        gaps: consumer.gaps,
        lost: consumer.lost,
        waits: consumer.waits,
        refusals: consumer.refusals,
        evictions: consumer.evictions,
        subscriptions: consumer.subscriptions,
        policy: known.map_or(0, |(number, _)| *number),
        reserved: 0,
        name: name_in(&consumer.name),
    }
}

abi! {
    /// Changes a stream.
    fn ringway_stream_change(
        stream: *const c_void,
        config: *const ChangeConfig,
        changed: *mut Changed,
    ) {
        let out = argument::optional(changed, "changed")?;
        let config = argument::sized(config, "config")?;
        let config = config.ok_or_else(|| Failure::new(Code::Argument, "config is NULL"))?;
        let changed = change(&shared::<StreamHandle>(stream)?.0, &config)?;
        if let Some(out) = out {
            out.write(changed);
        }
        Ok(Code::Ok)
    }

    /// Lists the registered consumers.
    fn ringway_stream_consumers(
        stream: *const c_void,
        consumers: *mut ConsumerInfo,
        capacity: usize,
        count: *mut usize,
    ) {
        let room = argument::room(consumers, capacity, "consumers")?;
        let count = argument::out(count, "count")?;
        let found = shared::<StreamHandle>(stream)?.0.consumers()?;
        for (place, consumer) in room.iter_mut().zip(&found) {
            place.write(info(consumer));
        }
        count.write(found.len());
        Ok(Code::Ok)
    }
}
