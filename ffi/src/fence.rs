//! The way into every function: no panic leaves it, and what failed can be asked for in words.
//!
//! A panic would be a bug of ours. It becomes `RINGWAY_E_PANIC`; the handle it happened on stays marked
//! as being used, so nothing half-changed is touched again.

use crate::code::{CODES, Code, Failure};
use core::cell::RefCell;
use core::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// What the last failing call of a thread was about; ends with a 0.
    static LAST: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs the body of a function of the ABI.
#[inline(always)]
pub fn fence(body: impl FnOnce() -> Result<Code, Failure>) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(code)) => code as i32,
        Ok(Err(failure)) => failure.code as i32,
        Err(panic) => panicked(&*panic),
    }
}

/// Runs the short way of a function: its status, or `None` where it has done nothing.
#[inline(always)]
pub fn at_once(short: impl FnOnce() -> Option<()>) -> Option<i32> {
    match catch_unwind(AssertUnwindSafe(short)) {
        Ok(done) => done.map(|()| Code::Ok as i32),
        Err(panic) => Some(panicked(&*panic)),
    }
}

/// Keeps the words for `ringway_last_error`.
pub fn remember(text: String) {
    let mut bytes = text.into_bytes();
    bytes.retain(|byte| *byte != 0);
    bytes.push(0);
    // Where a thread is ending there is nobody to ask any more.
    let _ = LAST.try_with(|last| *last.borrow_mut() = bytes);
}

#[cold]
#[inline(never)]
fn panicked(panic: &(dyn core::any::Any + Send)) -> i32 {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic");
    remember(format!("a bug in ringway, please report it: {said}"));
    Code::Panic as i32
}

/// Functions of the ABI that return a status.
macro_rules! abi {
    ($($(#[$about:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$about])*
        ///
        /// # Safety
        /// What is passed is what `include/ringway.h` asks for.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> i32 {
            $crate::fence::fence(|| $body)
        }
    )*};
}

/// Functions of the ABI that most calls of a program are: with a short way, which does all of it or nothing, and
/// behind `else` the whole, which does what is left and says what is wrong. The short way calls nothing out of
/// line and hands nothing on but the arguments, so that nothing has to be saved on its way in.
macro_rules! abi_at_once {
    ($($(#[$about:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $short:block else $body:block)*) => {$(
        $(#[$about])*
        ///
        /// # Safety
        /// What is passed is what `include/ringway.h` asks for.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> i32 {
            #[cold]
            #[inline(never)]
            extern "C" fn with_care($($argument: $type),*) -> i32 {
                $crate::fence::fence(|| $body)
            }
            match $crate::fence::at_once(|| $short) {
                Some(status) => status,
                None => with_care($($argument),*),
            }
        }
    )*};
}

pub(crate) use {abi, abi_at_once};

fn entry(status: i32) -> &'static (Code, &'static str, &'static str) {
    let of = |status: i32| CODES.iter().find(|(code, ..)| *code as i32 == status);
    of(status)
        .or_else(|| of(Code::Other as i32))
        .unwrap_or(&CODES[0])
}

#[unsafe(no_mangle)]
pub extern "C" fn ringway_status_text(status: i32) -> *const c_char {
    entry(status).2.as_ptr().cast()
}

#[unsafe(no_mangle)]
pub extern "C" fn ringway_last_error() -> *const c_char {
    let none = c"".as_ptr();
    LAST.try_with(|last| {
        let last = last.borrow();
        if last.is_empty() {
            none
        } else {
            last.as_ptr().cast()
        }
    })
    .unwrap_or(none)
}

/// Of the header.
const API: u32 = 1;
/// Of the calls.
const ABI: u32 = 0;

#[unsafe(no_mangle)]
pub extern "C" fn ringway_version(version_of: i32) -> u32 {
    match version_of {
        1 => API,
        2 => ABI,
        3 => u32::from(ringway::FORMAT.0) << 16 | u32::from(ringway::FORMAT.1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code_and_says_what_it_was() {
        assert_eq!(fence(|| panic!("lost {}", 7)), Code::Panic as i32);
        // SAFETY: a string with a final 0, until the next failure of this thread.
        let said = unsafe { core::ffi::CStr::from_ptr(ringway_last_error()) };
        assert!(said.to_str().unwrap().ends_with("lost 7"));
    }

    #[test]
    fn what_is_polled_leaves_the_last_error_alone() {
        fence(|| Err(Failure::new(Code::Io, "broken")));
        assert_eq!(fence(|| Err(Failure::not_now(Code::Full))), 1);
        // SAFETY: as above.
        let said = unsafe { core::ffi::CStr::from_ptr(ringway_last_error()) };
        assert_eq!(said, c"broken");
    }
}
