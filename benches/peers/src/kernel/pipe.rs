//! Two pipes, one for each direction, of 1 MiB where the kernel allows it.
//!
//! A pipe is a stream of bytes; since every message has the same size, taking
//! that many bytes takes one message.

use super::channel::{self, Channel};
use ringway_measure::{Contender, Kind, Offer, Plan, Result, Round};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::FromRawFd;

pub(super) struct Pipe;

impl Contender for Pipe {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn about(&self) -> &'static str {
        "a pipe each way, blocking write and read"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn offers(&self) -> Vec<Offer> {
        channel::offers(0)
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        channel::round(plan, &Pipes([ends()?, ends()?]))
    }
}

/// For each direction the end to read and the end to write.
struct Pipes([(File, File); 2]);

/// Large enough that throughput isn't bounded by switching sides.
const PIPE_BYTES: libc::c_int = 1 << 20;

fn ends() -> io::Result<(File, File)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // A refusal (unprivileged, many pipes) leaves the default size, which works.
    // SAFETY: sets a number on a descriptor that is open.
    unsafe { libc::fcntl(fds[1], libc::F_SETPIPE_SZ, PIPE_BYTES) };
    // SAFETY: both were just opened and belong to nobody else.
    let [read, write] = fds.map(|fd| unsafe { File::from_raw_fd(fd) });
    Ok((read, write))
}

impl Channel for Pipes {
    #[inline]
    fn put(&self, side: usize, message: &[u8]) -> io::Result<()> {
        (&self.0[side].1).write_all(message)
    }

    #[inline]
    fn take(&self, side: usize, message: &mut [u8]) -> io::Result<()> {
        (&self.0[1 - side].0).read_exact(message)
    }
}
