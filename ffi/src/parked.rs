//! Messages of a queue that are not offered any more: which there are, what is in one, an end to it.

use crate::argument;
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::shared;
use crate::layout::Parked;
use crate::queue::QueueHandle;
use core::ffi::c_void;
use ringway::{JoinError, Queue};

/// Looking says nothing of a fork: who would send is told.
fn check(queue: &Queue) -> Result<(), Failure> {
    match queue.sender() {
        Err(error @ JoinError::Forked) => Err(error.into()),
        _ => Ok(()),
    }
}

#[cold]
fn none(position: u64) -> Failure {
    let text = format!("no message is parked at position {position}; list those that are");
    Failure::new(Code::NotFound, text)
}

abi! {
    /// Lists what is parked.
    fn ringway_queue_parked(
        queue: *const c_void,
        parked: *mut Parked,
        capacity: usize,
        count: *mut usize,
    ) {
        let room = argument::room(parked, capacity, "parked")?;
        let count = argument::out(count, "count")?;
        let queue = &shared::<QueueHandle>(queue)?.0;
        check(queue)?;
        let found = queue.parked();
        for (place, message) in room.iter_mut().zip(&found) {
            place.write(Parked {
                position: message.position,
                receives: message.receives.into(),
                sent_ms: message.sent_ms,
            });
        }
        count.write(found.len());
        Ok(Code::Ok)
    }

    /// Reads, and deletes, a parked message.
    fn ringway_queue_read_parked(
        queue: *const c_void,
        position: u64,
        remove: i32,
        buffer: *mut c_void,
        capacity: usize,
        len: *mut usize,
    ) {
        let room = argument::buffer(buffer, capacity)?;
        let is_wanted = !buffer.is_null() || !len.is_null() || remove == 0;
        let len = argument::optional(len, "len")?;
        let queue = &shared::<QueueHandle>(queue)?.0;
        check(queue)?;
        if is_wanted {
            let body = queue.read_parked(position).ok_or_else(|| none(position))?;
            if let Some(len) = len {
                len.write(body.len());
            }
            let Some(room) = room.get_mut(..body.len()) else {
                let text = format!("{} bytes are needed, {capacity} given", body.len());
                return Err(Failure::new(Code::BufferTooSmall, text));
            };
            room.copy_from_slice(&body);
        }
        if remove != 0 && !queue.delete_parked(position)? {
            return Err(none(position));
        }
        Ok(Code::Ok)
    }
}
