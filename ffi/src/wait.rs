//! What readers of channels, receivers of queues and listeners have in common: waiting for several, a
//! descriptor, the end of a view.

use crate::argument::{self, nothing, timeout};
use crate::channel::ReaderHandle;
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{Kept, enter, kind, leave, with};
use crate::publish::ListenerHandle;
use crate::receive::ReceiverHandle;
use core::ffi::c_void;
use core::time::Duration;
use ringway::wait_any;
use std::io;

/// Why there is no descriptor.
#[cold]
pub fn no_descriptor(error: io::Error) -> Failure {
    let is_forked = error.get_ref().is_some_and(|inner| {
        matches!(inner.downcast_ref(), Some(ringway::ReadError::Forked))
            || matches!(inner.downcast_ref(), Some(ringway::ReceiveError::Forked))
    });
    let code = if is_forked { Code::Forked } else { Code::Io };
    Failure::new(code, error.to_string())
}

fn is_receiver(token: *const c_void) -> bool {
    kind(token) == ReceiverHandle::KIND
}

fn is_listener(token: *const c_void) -> bool {
    kind(token) == ListenerHandle::KIND
}

/// Marks one of them as being used.
fn take(token: *const c_void) -> Result<&'static mut dyn ringway::Waitable, Failure> {
    if is_receiver(token) {
        // SAFETY: used until `leave` only, in `wait`.
        let receiver = unsafe { enter::<ReceiverHandle>(token)? };
        return Ok(receiver.receiver().inspect_err(|_| leave(token))?);
    }
    if is_listener(token) {
        // SAFETY: as above.
        let ListenerHandle { listener, .. } = unsafe { enter(token)? };
        return Ok(listener);
    }
    // SAFETY: as above.
    let reader = unsafe { enter::<ReaderHandle>(token)? };
    Ok(reader.reader().inspect_err(|_| leave(token))?)
}

fn wait(tokens: &[*const c_void], timeout: Duration) -> Result<Option<usize>, Failure> {
    let mut taken = Vec::with_capacity(tokens.len());
    let mut refused = None;
    for token in tokens {
        match take(*token) {
            Ok(one) => taken.push(one),
            Err(failure) => {
                refused = Some(failure);
                break;
            }
        }
    }
    let marked = taken.len();
    let waited = match refused {
        Some(failure) => Err(failure),
        None => wait_any(&mut taken, timeout).map_err(Failure::from),
    };
    drop(taken);
    for token in &tokens[..marked] {
        leave(*token);
    }
    waited
}

abi! {
    /// Waits for one of several.
    fn ringway_wait_any(
        tokens: *const *const c_void,
        count: usize,
        timeout_ns: i64,
        ready: *mut usize,
    ) {
        let tokens = argument::slice(tokens, count, "waiting")?;
        let ready = argument::out(ready, "ready")?;
        let time = timeout(timeout_ns)?;
        let Some(index) = wait(tokens, time)? else {
            return Ok(nothing(timeout_ns));
        };
        ready.write(index);
        Ok(Code::Ok)
    }

    /// A descriptor to poll.
    fn ringway_poll_fd(token: *mut c_void, fd: *mut i32) {
        let fd = argument::out(fd, "fd")?;
        let mut made = -1;
        if is_listener(token) {
            with::<ListenerHandle>(token, |handle| {
                made = handle.descriptor()?;
                Ok(Code::Ok)
            })?;
        } else if is_receiver(token) {
            with::<ReceiverHandle>(token, |handle| {
                made = handle.descriptor(|of| of.poll_descriptor().map_err(no_descriptor))?;
                Ok(Code::Ok)
            })?;
        } else {
            with::<ReaderHandle>(token, |handle| {
                made = handle.descriptor(|of| of.poll_descriptor().map_err(no_descriptor))?;
                Ok(Code::Ok)
            })?;
        }
        fd.write(made);
        Ok(Code::Ok)
    }

    /// Ends a view.
    fn ringway_release(token: *mut c_void) {
        if is_receiver(token) {
            with::<ReceiverHandle>(token, |handle| {
                handle.release();
                Ok(Code::Ok)
            })
        } else {
            with::<ReaderHandle>(token, |handle| {
                handle.release();
                Ok(Code::Ok)
            })
        }
    }
}
