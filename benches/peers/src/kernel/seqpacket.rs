//! Unix sockets of type SOCK_SEQPACKET: messages, in order, both ways.
//!
//! Made before the fork and inherited, so there is no name to clean up.

use super::channel::{self, Channel, whole};
use ringway_measure::{Contender, Kind, Offer, Plan, Result, Round};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub(super) struct Seqpacket;

/// Fits the default send buffer of the kernel (212,992 bytes) with its overhead.
const MAX_SIZE: usize = 128 * 1024;

impl Contender for Seqpacket {
    fn name(&self) -> &'static str {
        "seqpacket"
    }

    fn about(&self) -> &'static str {
        "Unix socket pair of type SOCK_SEQPACKET, blocking send and recv"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn offers(&self) -> Vec<Offer> {
        channel::offers(MAX_SIZE)
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        channel::round(plan, &Pair::new()?)
    }
}

struct Pair([OwnedFd; 2]);

impl Pair {
    fn new() -> io::Result<Pair> {
        let mut fds = [0; 2];
        // SAFETY: `fds` has room for the two descriptors.
        let rc = unsafe {
            libc::socketpair(
                libc::AF_UNIX,
                libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
                0,
                fds.as_mut_ptr(),
            )
        };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just opened and belong to nobody else.
        Ok(Pair(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })))
    }
}

impl Channel for Pair {
    #[inline]
    fn put(&self, side: usize, message: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length are of one live slice.
        let sent = unsafe {
            libc::send(
                self.0[side].as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        whole(sent, message.len())
    }

    #[inline]
    fn take(&self, side: usize, message: &mut [u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length are of one live, exclusive slice.
        let came = unsafe {
            libc::recv(
                self.0[side].as_raw_fd(),
                message.as_mut_ptr().cast(),
                message.len(),
                0,
            )
        };
        whole(came, message.len())
    }
}
