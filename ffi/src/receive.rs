//! Receiving from queues: copies, batches, whole messages, messages in place.

use crate::argument::{self, choice, given_ms, timeout};
use crate::code::{Code, Failure};
use crate::fence::{abi, abi_at_once};
use crate::handle::{keep, shared, with, with_at_once};
use crate::layout::{Delivery, Receipt, Received, ReceiverConfig};
use crate::message::MessageHandle;
use crate::queue::{QueueHandle, put_receipt, receipt_at_once, receipt_in};
use core::ffi::c_void;
use core::mem::{MaybeUninit, offset_of};
use core::ptr::NonNull;
use core::time::Duration;
use ringway::{Durability, Idle, MessageView, PollDescriptor, QueueReceiver, ReceiveError};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Bodies of a batch lie at multiples of this.
const ALIGN: usize = 16;

/// Memory for the bodies of a batch. It grows to the largest batch it ever held; while a batch is made
/// bodies are known by their offset, since growing moves them.
#[derive(Default)]
pub struct Arena(Vec<u128>, usize);

impl Arena {
    pub fn clear(&mut self) {
        self.1 = 0;
    }

    /// Copies a body; its offset, as a pointer.
    #[inline]
    pub fn push(&mut self, body: &[u8]) -> *const c_void {
        let at = self.1;
        let units = body.len().div_ceil(ALIGN);
        if self.0.len() < at + units {
            self.0.resize((at + units).next_power_of_two(), 0);
        }
        self.1 = at + units;
        // SAFETY: `units` units from `at` on were made room for, and hold body.len() bytes.
        unsafe {
            copy(self.0.as_mut_ptr().add(at).cast::<u8>(), body);
        }
        core::ptr::without_provenance(at)
    }

    /// Copies text and a final 0; its offset, as a pointer.
    pub fn push_text(&mut self, text: &[u8]) -> *const c_void {
        let at = self.1;
        let units = (text.len() + 1).div_ceil(ALIGN);
        if self.0.len() < at + units {
            self.0.resize((at + units).next_power_of_two(), 0);
        }
        self.1 = at + units;
        // What lies behind the text in the last unit ends it.
        self.0[at + units - 1] = 0;
        // SAFETY: `units` units from `at` on were made room for, and hold more than text.len() bytes.
        unsafe {
            let place = self.0.as_mut_ptr().add(at).cast::<u8>();
            core::ptr::copy_nonoverlapping(text.as_ptr(), place, text.len());
        }
        core::ptr::without_provenance(at)
    }

    /// Where the body of an offset lies now.
    #[inline]
    pub fn at(&self, offset: *const c_void) -> *const c_void {
        self.0.as_ptr().wrapping_add(offset.addr()).cast()
    }
}

/// Copies a body that may have been written a moment ago, 16 bytes at a time: what moves it at once by wider loads
/// waits until the stores that wrote it are in the cache.
///
/// # Safety
/// There is room for it at `place`.
#[inline(always)]
unsafe fn copy(place: *mut u8, body: &[u8]) {
    let (from, len) = (body.as_ptr(), body.len());
    if !(32..=64).contains(&len) {
        // SAFETY: by the caller.
        return unsafe { core::ptr::copy_nonoverlapping(from, place, len) };
    }
    for at in [0, 16, len - 32, len - 16] {
        // SAFETY: 16 bytes that lie inside the body, whose length is 32 to 64.
        unsafe { core::ptr::copy_nonoverlapping(from.add(at), place.add(at), 16) };
    }
}

/// A receiver and the one view that may be open on it; as a reader's.
pub struct ReceiverHandle {
    view: Option<MessageView<'static>>,
    batch: Arena,
    poll: Option<PollDescriptor>,
    /// Whether its queue keeps a journal.
    is_on_disk: bool,
    receiver: NonNull<QueueReceiver>,
}

impl Drop for ReceiverHandle {
    fn drop(&mut self) {
        self.view = None;
        self.poll = None;
        // SAFETY: made by `Box::leak` in `ringway_receiver_open`, and the view that borrowed it is
        // gone.
        drop(unsafe { Box::from_raw(self.receiver.as_ptr()) });
    }
}

impl ReceiverHandle {
    #[inline(always)]
    pub fn receiver(&mut self) -> Result<&mut QueueReceiver, Failure> {
        if self.view.is_some() {
            return Err(viewing());
        }
        // SAFETY: valid until drop; the view that would borrow it is not there, and `self` is
        // borrowed exclusively.
        Ok(unsafe { self.receiver.as_mut() })
    }

    /// The same, `None` while a view is open.
    #[inline(always)]
    fn receiver_at_once(&mut self) -> Option<&mut QueueReceiver> {
        match self.view {
            // SAFETY: as in `receiver`.
            None => Some(unsafe { self.receiver.as_mut() }),
            Some(_) => None,
        }
    }

    /// The descriptor, made by `make` when it is first asked for.
    pub fn descriptor(
        &mut self,
        make: impl FnOnce(&mut QueueReceiver) -> Result<PollDescriptor, Failure>,
    ) -> Result<i32, Failure> {
        if self.poll.is_none() {
            self.poll = Some(make(self.receiver()?)?);
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
    let text =
        "a view of this receiver is open; call ringway_release first, or settle by the queue";
    Failure::new(Code::BusyHandle, text)
}

/// How to wait.
pub fn idle(field: i32) -> Result<Option<Idle>, Failure> {
    let idles = [(1, Idle::Spin), (2, Idle::SpinThenPark), (3, Idle::Park)];
    choice(field, &idles, "idle")
}

/// `RINGWAY_QUEUE_WAIT`.
const QUEUE_WAIT: i64 = i64::MIN;

#[inline(always)]
fn wait_of(receiver: &QueueReceiver, timeout_ns: i64) -> Result<Duration, Failure> {
    if timeout_ns == QUEUE_WAIT {
        return Ok(receiver.receive_wait());
    }
    timeout(timeout_ns)
}

/// What a wait that brought nothing is called.
fn nothing(wait: Duration) -> Code {
    if wait.is_zero() {
        Code::Empty
    } else {
        Code::Timeout
    }
}

/// Calls that may wait are out of the way of those that don't.
#[cold]
#[inline(never)]
fn receive_within(
    receiver: &mut QueueReceiver,
    buffer: &mut [u8],
    wait: Duration,
) -> Result<Option<ringway::Received>, ReceiveError> {
    receiver.receive_into(buffer, wait)
}

/// Looks, and waits where that is wanted and nothing is there.
#[inline(always)]
fn within<T>(
    receiver: &mut QueueReceiver,
    wait: Duration,
    mut look: impl FnMut(&mut QueueReceiver) -> Result<Option<T>, ReceiveError>,
) -> Result<Option<T>, ReceiveError> {
    let found = look(receiver)?;
    if found.is_some() || wait.is_zero() {
        return Ok(found);
    }
    let end = argument::deadline(wait);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if !receiver.wait(left)? {
            return Ok(None);
        }
        let found = look(receiver)?;
        if found.is_some() || left.is_zero() {
            return Ok(found);
        }
    }
}

/// Writes what was received to where a result begins.
#[inline(always)]
fn put_received<T>(place: &mut MaybeUninit<T>, received: &ringway::Received) {
    const {
        assert!(size_of::<T>() >= size_of::<Received>());
        assert!(offset_of!(Received, sent_ms) == 24 && offset_of!(Received, len) == 32);
    }
    put_receipt(place, &received.receipt);
    // SAFETY: as asserted, words 3 and 4 of what begins as a `Received`.
    unsafe {
        argument::put_word(place, 3, received.sent_ms);
        argument::put_word(place, 4, received.len as u64);
    }
}

/// Writes a message of a batch, whose body is at an offset yet.
#[inline(always)]
fn put_delivery(
    place: &mut MaybeUninit<Delivery>,
    received: &ringway::Received,
    body: *const c_void,
) {
    const { assert!(offset_of!(Delivery, body) == 40 && size_of::<Delivery>() == 48) };
    put_received(place, received);
    // SAFETY: as asserted, word 5.
    unsafe { argument::put_word(place, 5, body.addr() as u64) };
}

/// What an error says of a message: how long it is.
#[cold]
fn refused(error: ReceiveError, tell: impl FnOnce(Received)) -> Failure {
    if let ReceiveError::BufferTooSmall { needed, .. } = error {
        let receipt = Receipt {
            queue: 0,
            position: 0,
            receives: 0,
        };
        tell(Received {
            receipt,
            sent_ms: 0,
            len: needed,
        });
    }
    error.into()
}

fn open(queue: &ringway::Queue, config: Option<ReceiverConfig>) -> Result<QueueReceiver, Failure> {
    let mut receiver = queue.receiver()?;
    if let Some(config) = config {
        if let Some(visibility) = given_ms(config.visibility_ms) {
            receiver.set_visibility(visibility)?;
        }
        if let Some(idle) = idle(config.idle)? {
            receiver.set_idle(idle);
        }
    }
    Ok(receiver)
}

/// Deletes messages of a durable queue: with one wait for the disk.
#[cold]
fn delete_on_disk(
    receiver: &mut QueueReceiver,
    receipts: &[Receipt],
    tell: &mut dyn FnMut(usize, Result<(), Failure>),
) {
    let (mut whole, mut places) = (Vec::new(), Vec::new());
    for (at, receipt) in receipts.iter().enumerate() {
        match receipt_in(receipt) {
            Ok(receipt) => {
                whole.push(receipt);
                places.push(at);
            }
            Err(failure) => tell(at, Err(failure)),
        }
    }
    let mut outcomes: Vec<_> = places.iter().map(|_| Ok(())).collect();
    for (index, error) in receiver.delete_batch(&whole) {
        outcomes[index] = Err(error.into());
    }
    for (at, outcome) in places.into_iter().zip(outcomes) {
        tell(at, outcome);
    }
}

abi! {
    /// Becomes a receiver.
    fn ringway_receiver_open(
        queue: *const c_void,
        config: *const ReceiverConfig,
        receiver: *mut *mut c_void,
    ) {
        let receiver = argument::out(receiver, "receiver")?;
        let config = argument::sized(config, "config")?;
        let queue = &shared::<QueueHandle>(queue)?.0;
        let opened = open(queue, config)?;
        receiver.write(keep(ReceiverHandle {
            is_on_disk: queue.definition().durability != Durability::Memory,
            view: None,
            batch: Arena::default(),
            poll: None,
            receiver: NonNull::from(Box::leak(Box::new(opened))),
        })?);
        Ok(Code::Ok)
    }

    /// Receives a message and deletes it.
    fn ringway_receiver_consume(
        receiver: *mut c_void,
        buffer: *mut c_void,
        capacity: usize,
        timeout_ns: i64,
        received: *mut Received,
    ) {
        let buffer = argument::buffer(buffer, capacity)?;
        let out = argument::out(received, "received")?;
        with::<ReceiverHandle>(receiver, |handle| {
            let receiver = handle.receiver()?;
            let wait = wait_of(receiver, timeout_ns)?;
            match within(receiver, wait, |receiver| receiver.receive_and_delete(buffer)) {
                Ok(Some(ref received)) => {
                    put_received(out, received);
                    Ok(Code::Ok)
                }
                Ok(None) => Ok(nothing(wait)),
                Err(error) => Err(refused(error, |received| {
                    out.write(received);
                })),
            }
        })
    }

    /// Receives messages into the memory of the receiver.
    fn ringway_receiver_receive_batch(
        receiver: *mut c_void,
        max: usize,
        timeout_ns: i64,
        deliveries: *mut Delivery,
        count: *mut usize,
    ) {
        let room = argument::room(deliveries, max, "deliveries")?;
        let count = argument::out(count, "count")?;
        with::<ReceiverHandle>(receiver, |handle| {
            let wait = wait_of(handle.receiver()?, timeout_ns)?;
            // SAFETY: no view is open, as was just seen, and `batch` is another field.
            let (receiver, batch) = (unsafe { handle.receiver.as_mut() }, &mut handle.batch);
            let mut places = room.iter_mut();
            batch.clear();
            let taken = within(receiver, wait, |receiver| {
                let taken = receiver.receive_each(max, |received, body| {
                    let body = batch.push(body);
                    if let Some(place) = places.next() {
                        put_delivery(place, &received, body);
                    }
                })?;
                Ok((taken > 0 || max == 0).then_some(taken))
            })?;
            let Some(taken) = taken else {
                return Ok(nothing(wait));
            };
            for place in &mut room[..taken.min(max)] {
                // SAFETY: written above, one for each message.
                let delivery = unsafe { place.assume_init_mut() };
                delivery.body = batch.at(delivery.body);
            }
            count.write(taken);
            Ok(Code::Ok)
        })
    }

    /// Receives a message whole.
    fn ringway_receiver_receive_message(
        receiver: *mut c_void,
        message: *mut c_void,
        timeout_ns: i64,
        received: *mut Received,
    ) {
        let out = argument::out(received, "received")?;
        with::<MessageHandle>(message, |message| {
            with::<ReceiverHandle>(receiver, |handle| {
                let receiver = handle.receiver()?;
                let wait = wait_of(receiver, timeout_ns)?;
                let incoming = message.incoming();
                let received =
                    within(receiver, wait, |receiver| receiver.receive_message(incoming))?;
                let Some(received) = received else {
                    return Ok(nothing(wait));
                };
                put_received(out, &received);
                Ok(Code::Ok)
            })
        })
    }

    /// Receives a message and shows it in place.
    fn ringway_receiver_view(
        receiver: *mut c_void,
        timeout_ns: i64,
        delivery: *mut Delivery,
    ) {
        let out = argument::out(delivery, "delivery")?;
        with::<ReceiverHandle>(receiver, |handle| {
            let wait = wait_of(handle.receiver()?, timeout_ns)?;
            let receiver: *mut QueueReceiver = handle.receiver.as_ptr();
            // SAFETY: no view is open. What is borrowed here for ever is used through the view alone
            // until that is dropped: by `receiver()` and by the drop of the handle.
            let viewed = unsafe { (*receiver).receive_view_within(wait)? };
            let Some(view) = viewed else {
                return Ok(nothing(wait));
            };
            put_received(out, &view.received());
            // SAFETY: the struct is there, and its other fields were just written.
            unsafe { (*out.as_mut_ptr()).body = view.as_ptr().cast() };
            handle.view = Some(view);
            Ok(Code::Ok)
        })
    }

    /// Deletes messages.
    fn ringway_receiver_delete_batch(
        receiver: *mut c_void,
        receipts: *const Receipt,
        count: usize,
        statuses: *mut i32,
        failed: *mut usize,
    ) {
        let receipts = argument::slice(receipts, count, "receipts")?;
        let statuses = if statuses.is_null() {
            None
        } else {
            Some(argument::room(statuses, count, "statuses")?)
        };
        let failed = argument::optional(failed, "failed")?;
        with::<ReceiverHandle>(receiver, |handle| {
            let is_on_disk = handle.is_on_disk;
            let receiver = handle.receiver()?;
            let (mut last, mut failures) = (None, 0);
            let mut places = statuses;
            let mut tell = |at: usize, deleted: Result<(), Failure>| {
                let code = deleted.map_or_else(|failure| failure.code, |()| Code::Ok);
                if let Some(places) = &mut places {
                    places[at].write(code as i32);
                }
                if let Err(failure) = deleted {
                    failures += 1;
                    last = Some(failure); // whose words are kept
                }
            };
            if is_on_disk {
                delete_on_disk(receiver, receipts, &mut tell);
            } else {
                for (at, receipt) in receipts.iter().enumerate() {
                    let receipt = receipt_in(receipt);
                    let deleted = receipt.and_then(|receipt| {
                        receiver.delete(&receipt).map(|_| ()).map_err(Failure::from)
                    });
                    tell(at, deleted);
                }
            }
            if let Some(failed) = failed {
                failed.write(failures);
            }
            last.map_or(Ok(Code::Ok), Err)
        })
    }
}

abi_at_once! {
    /// Receives a message.
    fn ringway_receiver_receive(
        receiver: *mut c_void,
        buffer: *mut c_void,
        capacity: usize,
        timeout_ns: i64,
        received: *mut Received,
    ) {
        let buffer = argument::buffer_at_once(buffer, capacity)?;
        let out = argument::out_at_once(received)?;
        if timeout_ns != 0 {
            return None;
        }
        with_at_once::<ReceiverHandle>(receiver, |handle| {
            let received = handle.receiver_at_once()?.receive_at_once(buffer)?;
            put_received(out, &received);
            Some(())
        })
    } else {
        let buffer = argument::buffer(buffer, capacity)?;
        let out = argument::out(received, "received")?;
        with::<ReceiverHandle>(receiver, |handle| {
            let receiver = handle.receiver()?;
            let received = if timeout_ns == 0 {
                receiver.try_receive(buffer)
            } else {
                receive_within(receiver, buffer, wait_of(receiver, timeout_ns)?)
            };
            match received {
                Ok(Some(ref received)) => {
                    put_received(out, received);
                    Ok(Code::Ok)
                }
                Ok(None) => Ok(nothing(wait_of(receiver, timeout_ns)?)),
                Err(error) => Err(refused(error, |received| {
                    out.write(received);
                })),
            }
        })
    }

    /// Deletes a message.
    fn ringway_receiver_delete(receiver: *mut c_void, receipt: *const Receipt) {
        let receipt = receipt_at_once(receipt)?;
        with_at_once::<ReceiverHandle>(receiver, |handle| {
            let is_deleted = handle.receiver_at_once()?.delete_at_once(&receipt);
            is_deleted.then_some(())
        })
    } else {
        let receipt = receipt_in(receipt)?;
        with::<ReceiverHandle>(receiver, |handle| {
            handle.receiver()?.delete(&receipt)?;
            Ok(Code::Ok)
        })
    }
}
