//! An eventfd as something that epoll can watch.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;

/// A non-blocking, close-on-exec eventfd.
pub fn event_descriptor() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Makes it readable.
pub fn raise(fd: &OwnedFd) {
    // A full counter (EAGAIN) is readable already.
    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
}

/// Makes it unreadable.
pub fn clear(fd: &OwnedFd) {
    let mut count = [0u8; 8];
    // EAGAIN: it was clear.
    let _ = rustix::io::read(fd, &mut count);
}
