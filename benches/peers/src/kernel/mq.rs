//! Two POSIX message queues, one for each direction.
//!
//! Opened and at once unlinked before the fork: the descriptors are inherited,
//! and no name is left however the round ends.

use super::channel::{self, Channel, whole};
use ringway_measure::{Contender, Kind, Offer, Plan, Result, Round};
use std::ffi::CString;
use std::io;

pub(super) struct PosixMq;

/// The kernel's default limits (fs.mqueue.msg_max, msgsize_max).
const MAX_MESSAGES: libc::c_long = 10;
const MAX_SIZE: usize = 8192;

impl Contender for PosixMq {
    fn name(&self) -> &'static str {
        "posix-mq"
    }

    fn about(&self) -> &'static str {
        "a POSIX message queue each way, depth 10, blocking mq_send and mq_receive"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn offers(&self) -> Vec<Offer> {
        channel::offers(MAX_SIZE)
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        channel::round(
            plan,
            &Queues([Queue::open(0, plan.size)?, Queue::open(1, plan.size)?]),
        )
    }
}

/// For each direction its queue.
struct Queues([Queue; 2]);

struct Queue(libc::mqd_t);

impl Queue {
    fn open(direction: u32, size: usize) -> Result<Queue> {
        let name = CString::new(format!("/ringway-bench-{}-{direction}", std::process::id()))?;
        // SAFETY: mq_attr is plain numbers; the ones that matter are set below.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        attributes.mq_maxmsg = MAX_MESSAGES;
        attributes.mq_msgsize = size as libc::c_long;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        // SAFETY: the name is terminated and the attributes outlive the call.
        let queue =
            unsafe { libc::mq_open(name.as_ptr(), flags, 0o600 as libc::mode_t, &mut attributes) };
        if queue < 0 {
            let error = io::Error::last_os_error();
            return Err(format!(
                "can't open a message queue of {MAX_MESSAGES} times {size} bytes: {error}"
            )
            .into());
        }
        // SAFETY: the name is terminated. Only the name goes; the queue stays open.
        unsafe { libc::mq_unlink(name.as_ptr()) };
        Ok(Queue(queue))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: opened in open(), closed once.
        unsafe { libc::mq_close(self.0) };
    }
}

impl Channel for Queues {
    #[inline]
    fn put(&self, side: usize, message: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length are of one live slice.
        match unsafe { libc::mq_send(self.0[side].0, message.as_ptr().cast(), message.len(), 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    #[inline]
    fn take(&self, side: usize, message: &mut [u8]) -> io::Result<()> {
        let (at, len) = (message.as_mut_ptr().cast(), message.len());
        // SAFETY: the pointer and the length are of one live, exclusive slice; no priority is asked for.
        let came = unsafe { libc::mq_receive(self.0[1 - side].0, at, len, std::ptr::null_mut()) };
        whole(came, len)
    }
}
