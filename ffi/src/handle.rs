//! Handles: numbers that name objects in one table, checked at every use.
//!
//! ```text
//! token:  index 16 | kind 6 | generation 42        never 0: kinds begin at 1
//! slot:   word = the token while the object is there, else 0      object, busy, generation, next
//! ```
//! The table is static, so any token at all may be looked up; a token that was closed, made up or of
//! another kind is not what its slot says. A generation comes again after 2⁴² uses of one slot. Of the
//! table's 4 MiB only what was ever used takes memory.
//!
//! States: free (in the list of free slots) → word = token → word = 0, dropped, free again. Objects that
//! one thread uses at a time are marked busy meanwhile: by plain stores, since an honest program never
//! meets the mark, and a wrong one nearly always does. The table takes no lock: a fork may happen at any
//! instruction, and the child closes what its parent had.

use crate::code::{Code, Failure};
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

const INDEX_BITS: u32 = 16;
const KIND_BITS: u32 = 6;
/// Handles of a process at a time.
const SLOTS: usize = 1 << INDEX_BITS;

/// What a handle can stand for.
pub trait Kept: Sized {
    /// 1 to 63, never given out twice.
    const KIND: u64;
    /// As errors call it.
    const NAME: &'static str;
}

macro_rules! kept {
    ($($kind:literal $name:literal $object:ty;)*) => {
        $(impl Kept for $object {
            const KIND: u64 = $kind;
            const NAME: &'static str = $name;
        })*

        /// Drops the object of a slot.
        ///
        /// # Safety
        /// `object` was kept as an object of `kind`, and nobody uses it any more.
        unsafe fn drop_kept(kind: u64, object: *mut ()) {
            match kind {
                // SAFETY: `keep` made it by `Box::into_raw` of that very type.
                $($kind => drop(unsafe { Box::from_raw(object.cast::<$object>()) }),)*
                _ => {}
            }
        }
    };
}

kept! {
    1 "bus" crate::bus::BusHandle;
    2 "channel" crate::channel::ChannelHandle;
    3 "producer" crate::channel::ProducerHandle;
    4 "reader" crate::channel::ReaderHandle;
    5 "view" crate::channel::ViewHandle;
    6 "queue" crate::queue::QueueHandle;
    7 "sender" crate::send::SenderHandle;
    8 "receiver" crate::receive::ReceiverHandle;
    9 "loan" crate::loan::LoanHandle;
    10 "message" crate::message::MessageHandle;
    11 "stream" crate::stream::StreamHandle;
    12 "stream producer" crate::put::StreamProducerHandle;
    13 "stream reader" crate::stream::StreamReaderHandle;
    14 "topic" crate::topic::TopicHandle;
    15 "publisher" crate::publish::PublisherHandle;
    16 "listener" crate::publish::ListenerHandle;
}

/// A line for each: a thread's mark does not disturb the others.
#[repr(align(64))]
struct Slot {
    word: AtomicU64,
    object: AtomicPtr<()>,
    busy: AtomicU32,
    /// Of the free slot behind this one, its index + 1.
    next: AtomicU32,
    generation: AtomicU64,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        word: AtomicU64::new(0),
        object: AtomicPtr::new(core::ptr::null_mut()),
        busy: AtomicU32::new(0),
        next: AtomicU32::new(0),
        generation: AtomicU64::new(0),
    }
}; SLOTS];
/// A count that changes with every change, and the first free slot's index + 1.
static FREE: AtomicU64 = AtomicU64::new(0);
/// Slots that were ever used.
static USED: AtomicU64 = AtomicU64::new(0);

#[inline(always)]
fn slot(word: u64) -> &'static Slot {
    &TABLE[word as usize & (SLOTS - 1)]
}

/// The kind that a handle says it is of. Whether it is one, its use tells.
pub fn kind(token: *const c_void) -> u64 {
    kind_of(token.addr() as u64)
}

#[inline(always)]
fn kind_of(word: u64) -> u64 {
    (word >> INDEX_BITS) & ((1 << KIND_BITS) - 1)
}

fn fresh() -> Option<u32> {
    let index = USED.fetch_add(1, Ordering::Relaxed);
    if index as usize >= SLOTS {
        USED.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    Some(index as u32)
}

fn take_free() -> Option<u32> {
    let mut head = FREE.load(Ordering::Acquire);
    loop {
        let first = head as u32;
        if first == 0 {
            return fresh();
        }
        let next = slot(u64::from(first) - 1).next.load(Ordering::Relaxed);
        let wanted = ((head >> 32) + 1) << 32 | u64::from(next);
        match FREE.compare_exchange_weak(head, wanted, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(first - 1),
            Err(seen) => head = seen,
        }
    }
}

fn give_free(index: u32, slot: &Slot) {
    let mut head = FREE.load(Ordering::Acquire);
    loop {
        slot.next.store(head as u32, Ordering::Relaxed);
        let wanted = ((head >> 32) + 1) << 32 | u64::from(index + 1);
        match FREE.compare_exchange_weak(head, wanted, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(seen) => head = seen,
        }
    }
}

/// Puts an object into the table; its token.
pub fn keep<T: Kept>(object: T) -> Result<*mut c_void, Failure> {
    let full = || Failure::new(Code::TooMany, "all 65,536 handles are in use; close some");
    let index = take_free().ok_or_else(full)?;
    let slot = slot(index.into());
    let generation = slot.generation.load(Ordering::Relaxed);
    let token = generation << (INDEX_BITS + KIND_BITS) | T::KIND << INDEX_BITS | u64::from(index);
    slot.object
        .store(Box::into_raw(Box::new(object)).cast(), Ordering::Relaxed);
    slot.busy.store(0, Ordering::Relaxed);
    slot.word.store(token, Ordering::Release);
    Ok(core::ptr::without_provenance_mut(token as usize))
}

#[cold]
fn no_handle<T: Kept>(token: *const c_void) -> Failure {
    let what = if token.is_null() {
        "NULL"
    } else {
        "a handle that was closed, or is of another kind"
    };
    let text = format!(
        "the {} is {what}; pass one that was opened and not closed",
        T::NAME
    );
    Failure::new(Code::Handle, text)
}

#[cold]
fn busy<T: Kept>() -> Failure {
    let text = format!(
        "the {} is being used: by another thread, twice in this call, or since a bug in ringway",
        T::NAME
    );
    Failure::new(Code::BusyHandle, text)
}

#[inline(always)]
fn look_up<T: Kept>(token: *const c_void) -> Option<(&'static Slot, *mut T)> {
    let word = token.addr() as u64;
    let slot = slot(word);
    let is_there = kind_of(word) == T::KIND && slot.word.load(Ordering::Acquire) == word;
    is_there.then(|| (slot, slot.object.load(Ordering::Relaxed).cast()))
}

#[inline(always)]
fn find<T: Kept>(token: *const c_void) -> Result<(&'static Slot, *mut T), Failure> {
    look_up(token).ok_or_else(|| no_handle::<T>(token))
}

/// The object of a handle that any thread may use.
#[inline(always)]
pub fn shared<T: Kept + Sync>(token: *const c_void) -> Result<&'static T, Failure> {
    let (_, object) = find::<T>(token)?;
    // SAFETY: there while the token is in its slot, and the caller does not close it meanwhile
    // (ringway.h, Threads).
    Ok(unsafe { &*object })
}

/// The object of a handle that one thread uses at a time, marked until [`leave`].
///
/// # Safety
/// The reference is not used behind `leave` or `close` of the same token.
#[inline(always)]
pub unsafe fn enter<T: Kept>(token: *const c_void) -> Result<&'static mut T, Failure> {
    let (slot, object) = find::<T>(token)?;
    if slot.busy.load(Ordering::Acquire) != 0 {
        return Err(busy::<T>());
    }
    slot.busy.store(1, Ordering::Relaxed);
    // SAFETY: as in `shared`; the mark keeps this thread from coming here again, and others by
    // ringway.h.
    Ok(unsafe { &mut *object })
}

/// Takes the mark away.
#[inline(always)]
pub fn leave(token: *const c_void) {
    slot(token.addr() as u64).busy.store(0, Ordering::Release);
}

/// Runs `body` with the object of a handle that one thread uses at a time. A panic in it leaves the
/// mark.
#[inline(always)]
pub fn with<T: Kept>(
    token: *const c_void,
    body: impl FnOnce(&mut T) -> Result<Code, Failure>,
) -> Result<Code, Failure> {
    let (slot, object) = find::<T>(token)?;
    if slot.busy.load(Ordering::Acquire) != 0 {
        return Err(busy::<T>());
    }
    slot.busy.store(1, Ordering::Relaxed);
    // SAFETY: as in `enter`; the reference ends with `body`.
    let outcome = body(unsafe { &mut *object });
    slot.busy.store(0, Ordering::Release);
    outcome
}

/// [`with`] for a short way: `None` too where there is no such object or it is being used, which `with` says.
#[inline(always)]
pub fn with_at_once<T: Kept>(
    token: *const c_void,
    body: impl FnOnce(&mut T) -> Option<()>,
) -> Option<()> {
    let (slot, object) = look_up::<T>(token)?;
    if slot.busy.load(Ordering::Acquire) != 0 {
        return None;
    }
    slot.busy.store(1, Ordering::Relaxed);
    // SAFETY: as in `with`.
    let outcome = body(unsafe { &mut *object });
    slot.busy.store(0, Ordering::Release);
    outcome
}

/// Takes the object out of the table and drops it, whatever it is.
pub fn close(token: *const c_void) -> Result<Code, Failure> {
    if token.is_null() {
        return Ok(Code::Ok);
    }
    let word = token.addr() as u64;
    let none = || Failure::new(Code::Handle, "the handle was closed already, or is none");
    let slot = slot(word);
    if slot.word.load(Ordering::Acquire) != word {
        return Err(none());
    }
    if slot.busy.load(Ordering::Acquire) != 0 {
        let text = "the handle is being used: by another thread, or since a bug in ringway";
        return Err(Failure::new(Code::BusyHandle, text));
    }
    slot.word
        .compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed)
        .map_err(|_| none())?;
    let object = slot.object.swap(core::ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: the swap of the word made this call the only one that has it; its kind is in the token.
    unsafe { drop_kept(kind_of(word), object) };
    let generation = slot.generation.load(Ordering::Relaxed);
    let most = (1 << (64 - INDEX_BITS - KIND_BITS)) - 1;
    slot.generation
        .store((generation + 1) & most, Ordering::Relaxed);
    give_free(word as u32 & (SLOTS as u32 - 1), slot);
    Ok(Code::Ok)
}

crate::fence::abi! {
    /// Closes a handle of any kind.
    fn ringway_close(handle: *mut c_void) {
        close(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ProducerHandle;
    use crate::message::MessageHandle;

    fn code(outcome: Result<Code, Failure>) -> Code {
        outcome.unwrap_or_else(|failure| failure.code)
    }

    #[test]
    fn a_closed_token_stays_closed_though_its_slot_is_used_again() {
        let first = keep(MessageHandle::default()).ok().unwrap();
        assert_eq!(code(close(first)), Code::Ok);
        let second = keep(MessageHandle::default()).ok().unwrap();
        assert_eq!(code(close(first)), Code::Handle);
        assert_eq!(
            code(with::<MessageHandle>(first, |_| Ok(Code::Ok))),
            Code::Handle
        );
        assert_eq!(
            code(with::<MessageHandle>(second, |_| Ok(Code::Ok))),
            Code::Ok
        );
        assert_eq!(code(close(second)), Code::Ok);
    }

    #[test]
    fn a_handle_of_another_kind_is_none() {
        let message = keep(MessageHandle::default()).ok().unwrap();
        assert_eq!(
            code(with::<ProducerHandle>(message, |_| Ok(Code::Ok))),
            Code::Handle
        );
        assert_eq!(code(close(message)), Code::Ok);
    }

    #[test]
    fn a_handle_within_its_own_call_is_busy() {
        let message = keep(MessageHandle::default()).ok().unwrap();
        let nested = with::<MessageHandle>(message, |_| {
            assert_eq!(code(close(message)), Code::BusyHandle);
            with::<MessageHandle>(message, |_| Ok(Code::Ok))
        });
        assert_eq!(code(nested), Code::BusyHandle);
        assert_eq!(code(close(message)), Code::Ok);
    }

    #[test]
    fn threads_that_open_and_close_never_get_the_same_slot() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..5_000 {
                        let tokens: Vec<_> = (0..3)
                            .map(|_| keep(MessageHandle::default()).ok().unwrap())
                            .collect();
                        for token in tokens {
                            assert_eq!(code(close(token)), Code::Ok);
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
