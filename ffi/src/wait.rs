//! Waiting for several readers and receivers at once.

use crate::argument::{self, nothing, timeout};
use crate::channel::ReaderHandle;
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{enter, leave};
use crate::layout::Waitable;
use core::ffi::c_void;
use core::time::Duration;
use ringway::wait_any;
use std::io;

/// Why there is no descriptor.
#[cold]
pub fn no_descriptor(error: &io::Error) -> Failure {
    let is_forked = error.get_ref().is_some_and(|inner| {
        matches!(inner.downcast_ref(), Some(ringway::ReadError::Forked))
            || matches!(inner.downcast_ref(), Some(ringway::ReceiveError::Forked))
    });
    let code = if is_forked { Code::Forked } else { Code::Io };
    Failure::new(code, error.to_string())
}

/// Marks the handle of a waitable as being used.
fn take(
    waitable: &Waitable,
) -> Result<(*const c_void, &'static mut dyn ringway::Waitable), Failure> {
    match (waitable.reader.is_null(), waitable.receiver.is_null()) {
        (false, true) => {
            // SAFETY: used until `leave` only, in `wait`.
            let reader = unsafe { enter::<ReaderHandle>(waitable.reader)? };
            let reader = reader.reader().inspect_err(|_| leave(waitable.reader))?;
            Ok((waitable.reader, reader))
        }
        (true, false) => {
            // SAFETY: as above.
            let receiver = unsafe { enter::<crate::receive::ReceiverHandle>(waitable.receiver)? };
            let receiver = receiver
                .receiver()
                .inspect_err(|_| leave(waitable.receiver))?;
            Ok((waitable.receiver, receiver))
        }
        _ => {
            let text = "a waitable has a reader or a receiver, and not both";
            Err(Failure::new(Code::Argument, text))
        }
    }
}

fn wait(waitables: &[Waitable], timeout: Duration) -> Result<Option<usize>, Failure> {
    let mut taken = Vec::with_capacity(waitables.len());
    let mut marked: Vec<*const c_void> = Vec::with_capacity(waitables.len());
    let mut refused = None;
    for waitable in waitables {
        match take(waitable) {
            Ok((token, one)) => {
                marked.push(token);
                taken.push(one);
            }
            Err(failure) => {
                refused = Some(failure);
                break;
            }
        }
    }
    let waited = match refused {
        Some(failure) => Err(failure),
        None => wait_any(&mut taken, timeout).map_err(Failure::from),
    };
    drop(taken);
    for token in marked {
        leave(token);
    }
    waited
}

abi! {
    /// Waits for one of several.
    fn ringway_wait_any(
        waitables: *const Waitable,
        count: usize,
        timeout_ns: i64,
        ready: *mut usize,
    ) {
        let waitables = argument::slice(waitables, count, "waitables")?;
        let ready = argument::out(ready, "ready")?;
        let time = timeout(timeout_ns)?;
        let Some(index) = wait(waitables, time)? else {
            return Ok(nothing(timeout_ns));
        };
        ready.write(index);
        Ok(Code::Ok)
    }
}
