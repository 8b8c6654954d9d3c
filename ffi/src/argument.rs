//! What C passes: pointers, lengths, strings, structs with their size. Each is checked as far as a
//! callee can, and copied or borrowed once.

use crate::code::{Code, Failure};
use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::time::Duration;
use std::time::Instant;

#[cold]
fn refused(what: &str, rule: &str) -> Failure {
    Failure::new(Code::Argument, format!("{what} {rule}"))
}

#[inline(always)]
fn check<T>(pointer: *const T, count: usize, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(refused(what, "is NULL"));
    }
    if !pointer.is_aligned() {
        return Err(refused(what, "is misaligned"));
    }
    // So long that no address space has it, wherever it begins.
    if count > isize::MAX as usize / size_of::<T>() {
        return Err(refused(what, "is longer than any object can be"));
    }
    Ok(())
}

/// Where a result goes.
#[inline(always)]
pub fn out<T>(pointer: *mut T, what: &str) -> Result<&'static mut MaybeUninit<T>, Failure> {
    check(pointer, 1, what)?;
    // SAFETY: not null, aligned, and by ringway.h room for a T that only this call uses.
    Ok(unsafe { &mut *pointer.cast() })
}

/// Where a result goes that nobody has to want.
#[inline(always)]
pub fn optional<T>(
    pointer: *mut T,
    what: &str,
) -> Result<Option<&'static mut MaybeUninit<T>>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    out(pointer, what).map(Some)
}

/// [`out`] for a short way: `None` for what `out` refuses.
#[inline(always)]
pub fn out_at_once<T>(pointer: *mut T) -> Option<&'static mut MaybeUninit<T>> {
    let is_one = !pointer.is_null() && pointer.is_aligned();
    // SAFETY: as in `out`.
    is_one.then(|| unsafe { &mut *pointer.cast() })
}

/// The bytes of a body for a short way: at least one; `None` for what [`bytes`] refuses.
#[inline(always)]
pub fn bytes_at_once(pointer: *const core::ffi::c_void, len: usize) -> Option<&'static [u8]> {
    let are_some = !pointer.is_null() && (1..=isize::MAX as usize).contains(&len);
    // SAFETY: as in `slice`.
    are_some.then(|| unsafe { core::slice::from_raw_parts(pointer.cast(), len) })
}

/// The same of a buffer, which may be [`buffer`]'s.
#[inline(always)]
pub fn buffer_at_once(pointer: *mut core::ffi::c_void, len: usize) -> Option<&'static mut [u8]> {
    let is_some = !pointer.is_null() && len <= isize::MAX as usize;
    // SAFETY: as in `buffer`.
    is_some.then(|| unsafe { core::slice::from_raw_parts_mut(pointer.cast(), len) })
}

/// A struct that is read.
#[inline(always)]
pub fn read<T: Copy>(pointer: *const T, what: &str) -> Result<T, Failure> {
    check(pointer, 1, what)?;
    // SAFETY: not null, aligned, and by ringway.h a T.
    Ok(unsafe { pointer.read() })
}

/// A word of a struct of the caller, loaded as it was stored (see [`put_word`]).
///
/// # Safety
/// `first` leads to a struct that was checked, whose word number `at` this is.
#[inline(always)]
pub unsafe fn word<T>(first: *const T, at: usize) -> u64 {
    // SAFETY: by the caller.
    unsafe { first.cast::<u64>().add(at).read_volatile() }
}

/// Writes a word of a result. Volatile, so that a result is not put together in memory and moved as a
/// whole: that is done by loads that are wider than the stores before them, and such a load waits until
/// they are in the cache, a dozen cycles each time.
///
/// # Safety
/// The result has a word number `at`.
#[inline(always)]
pub unsafe fn put_word<T>(place: &mut MaybeUninit<T>, at: usize, word: u64) {
    // SAFETY: by the caller.
    unsafe {
        place
            .as_mut_ptr()
            .cast::<u64>()
            .add(at)
            .write_volatile(word)
    }
}

/// Whether a struct of the caller may be looked at.
#[inline(always)]
pub fn seen<T>(pointer: *const T, what: &str) -> Result<*const T, Failure> {
    check(pointer, 1, what)?;
    Ok(pointer)
}

/// Bytes of the caller; NULL where there are none.
#[inline(always)]
pub fn bytes(pointer: *const core::ffi::c_void, len: usize) -> Result<&'static [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    slice(pointer.cast(), len, "the body")
}

/// `count` values of the caller; NULL where there are none.
#[inline(always)]
pub fn slice<T>(pointer: *const T, count: usize, what: &str) -> Result<&'static [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    check(pointer, count, what)?;
    // SAFETY: checked as far as it goes; by ringway.h so many values, which stay as they are until
    // the call returns.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// Room for `count` values; NULL where there is none.
#[inline(always)]
pub fn room<T>(
    pointer: *mut T,
    count: usize,
    what: &str,
) -> Result<&'static mut [MaybeUninit<T>], Failure> {
    if count == 0 {
        return Ok(&mut []);
    }
    check(pointer, count, what)?;
    // SAFETY: as in `slice`, and only this call uses them.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer.cast(), count) })
}

/// A buffer for a body.
#[inline(always)]
pub fn buffer(pointer: *mut core::ffi::c_void, len: usize) -> Result<&'static mut [u8], Failure> {
    let room = room(pointer.cast::<u8>(), len, "the buffer")?;
    // SAFETY: bytes have no invalid values, C's memory is initialised as far as this language is
    // concerned (it comes from outside), and nothing reads them before it wrote them.
    Ok(unsafe { &mut *(room as *mut [MaybeUninit<u8>] as *mut [u8]) })
}

/// A string.
pub fn text(pointer: *const c_char, what: &str) -> Result<&'static str, Failure> {
    if pointer.is_null() {
        return Err(refused(what, "is NULL"));
    }
    // SAFETY: by ringway.h it ends with a 0 and stays as it is until the call returns.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| refused(what, "is no UTF-8"))
}

/// A string that need not be there.
pub fn optional_text(pointer: *const c_char, what: &str) -> Result<Option<&'static str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    text(pointer, what).map(Some)
}

/// A struct that begins with its size.
///
/// # Safety
/// `Self` is `repr(C)`, begins with a `usize`, and any bytes are a value of it.
pub unsafe trait Sized0: Copy {
    /// Its size in the first version of the ABI: no caller has a smaller one.
    const FIRST: usize;
    /// What it is when nothing is said.
    fn initial() -> Self;
}

#[cold]
fn unknown_size(size: usize, most: usize) -> Failure {
    let text = format!(
        "a struct says it has {size} bytes, this library knows up to {most}; call its _init, or use a newer library"
    );
    Failure::new(Code::StructSize, text)
}

/// A sized struct: what the caller does not know of it is as it is initially. `None` where it is NULL.
#[inline]
pub fn sized<T: Sized0>(pointer: *const T, what: &str) -> Result<Option<T>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    check(pointer.cast::<usize>(), 1, what)?;
    // SAFETY: not null, aligned for its first field, which is its size.
    let size = unsafe { pointer.cast::<usize>().read() };
    if !(T::FIRST..=size_of::<T>()).contains(&size) {
        return Err(unknown_size(size, size_of::<T>()));
    }
    let mut value = T::initial();
    // SAFETY: `size` bytes are there by ringway.h and by the check no more than a T has; any bytes
    // are a T.
    unsafe {
        core::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut value).cast::<u8>(), size);
    }
    Ok(Some(value))
}

/// Whether a result can be written so far as the caller knows it: `size` bytes, at least `first`.
pub fn knows<T>(first: usize, pointer: *mut T, size: usize, what: &str) -> Result<(), Failure> {
    if !(first..=size_of::<T>()).contains(&size) {
        return Err(unknown_size(size, size_of::<T>()));
    }
    check(pointer, 1, what)
}

/// Writes as much of a result as the caller knows.
pub fn write_known<T: Copy>(
    value: &T,
    first: usize,
    pointer: *mut T,
    size: usize,
    what: &str,
) -> Result<Code, Failure> {
    knows(first, pointer, size, what)?;
    // SAFETY: by ringway.h there is room for `size` bytes, and by the check no more than a T has.
    unsafe {
        core::ptr::copy_nonoverlapping((&raw const *value).cast::<u8>(), pointer.cast(), size);
    }
    Ok(Code::Ok)
}

/// For `timeout_ns`.
const FOREVER: i64 = -1;
/// Longer than any machine runs.
const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A wait; zero is none.
#[inline(always)]
pub fn timeout(ns: i64) -> Result<Duration, Failure> {
    if ns >= 0 {
        return Ok(Duration::from_nanos(ns as u64));
    }
    if ns == FOREVER {
        return Ok(FOR_EVER);
    }
    Err(refused("timeout_ns", "is negative and not RINGWAY_FOREVER"))
}

/// What a wait that brought nothing is called.
#[inline(always)]
pub fn nothing(timeout_ns: i64) -> Code {
    if timeout_ns == 0 {
        Code::Empty
    } else {
        Code::Timeout
    }
}

/// When a wait ends.
pub fn deadline(wait: Duration) -> Instant {
    Instant::now() + wait
}

/// A field that may say nothing.
pub const DEFAULT: u64 = u64::MAX;
/// No limit, no queue.
pub const NONE: u64 = u64::MAX - 1;

/// What a field says, if anything.
pub fn given(field: u64) -> Option<u64> {
    (field != DEFAULT).then_some(field)
}

/// The same of a field in ms.
pub fn given_ms(field: u64) -> Option<Duration> {
    given(field).map(Duration::from_millis)
}

/// The choice that `field` names, 0 for none.
pub fn choice<T: Copy>(field: i32, choices: &[(i32, T)], what: &str) -> Result<Option<T>, Failure> {
    if field == 0 {
        return Ok(None);
    }
    let found = choices.iter().find(|(number, _)| *number == field);
    let no_constant = || refused(what, "is none of the constants of ringway.h");
    found
        .map(|(_, choice)| Some(*choice))
        .ok_or_else(no_constant)
}

/// On or off.
pub fn switch(field: i32, what: &str) -> Result<Option<bool>, Failure> {
    choice(field, &[(1, true), (2, false)], what)
}

/// How to open.
#[derive(Clone, Copy)]
pub enum How {
    OpenOrCreate,
    Open,
    Create,
}

pub fn how(field: i32) -> Result<How, Failure> {
    let choices = [(1, How::Open), (2, How::Create)];
    Ok(choice(field, &choices, "how")?.unwrap_or(How::OpenOrCreate))
}
