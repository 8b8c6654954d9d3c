//! Values as messages: plain old data ([`bytemuck::Pod`]) whose bytes are the body. Nothing is
//! serialised; a value is copied once on either side, straight between its own memory and the slot
//! or chunk.
//!
//! The bytes are those of this machine, and sender and receiver have to mean the same type: what is
//! checked is the length. For a large value that shall not even be copied fill a
//! [`loan`](QueueSender::loan), whose bytes are aligned to 64, through `bytemuck::from_bytes_mut`.

use super::{Incoming, QueueReceiver, QueueSender, Receipt, Received};
use crate::error::{QueueSendError, ReceiveError};
use crate::sys::clock::Deadline;
use bytemuck::Pod;
use std::time::Duration;

/// Receiving a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// The message is no value of the type. It is leased all the same, and so counted as received:
    /// delete it, give it back, or let it come again.
    #[error(
        "the message has {len} bytes, a value of the type asked for {expected}; delete it by its receipt {receipt}, or receive it as bytes when it comes again"
    )]
    WrongLength {
        /// Of the message.
        receipt: Receipt,
        /// Bytes of its body.
        len: usize,
        /// Bytes of the type.
        expected: usize,
    },
    /// Its bytes lie where a value of the type can't. Bodies are aligned to 8; those from
    /// 64 bytes on that lie in the payload pool and have no attributes to 64.
    #[error(
        "the message lies at an address that is no multiple of {align}; copy it with `bytemuck::pod_read_unaligned`, and delete it by its receipt {receipt}"
    )]
    Misaligned {
        /// Of the message.
        receipt: Receipt,
        /// What the type needs.
        align: usize,
    },
    /// Nothing was leased.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}

impl QueueSender {
    /// Sends a value with the queue's delay; its position. Costs what [`send`](Self::send) costs.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = std::env::temp_dir().join(format!("ringway-doc-pod-{}", std::process::id()));
    /// # std::fs::create_dir_all(&root)?;
    /// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
    /// #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
    /// #[repr(C)]
    /// struct Fix { seconds: u64, latitude: f64, longitude: f64 }
    ///
    /// let fixes = bus.queue("fixes").open_or_create()?;
    /// let fix = Fix { seconds: 7, latitude: 47.07, longitude: 15.44 };
    /// fixes.sender()?.send_pod(&fix)?;
    /// let (received, seen) = fixes.receiver()?.receive_pod::<Fix>()?.expect("a fix");
    /// assert_eq!(seen, fix);
    /// fixes.delete(&received.receipt)?;
    /// # drop((fixes, bus));
    /// # std::fs::remove_dir_all(&root)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send).
    #[inline]
    pub fn send_pod<T: Pod>(&mut self, value: &T) -> Result<u64, QueueSendError> {
        self.send(bytemuck::bytes_of(value))
    }
}

impl QueueReceiver {
    /// Receives a value. `None` when there is none to be received now. Never blocks; costs what
    /// [`try_receive`](Self::try_receive) costs.
    ///
    /// # Errors
    /// [`PodError::WrongLength`] when the message is longer or shorter than a `T`; others as
    /// [`try_receive`](Self::try_receive), but for `BufferTooSmall`.
    #[inline]
    pub fn receive_pod<T: Pod>(&mut self) -> Result<Option<(Received, T)>, PodError> {
        let mut value = T::zeroed();
        match self.try_receive(bytemuck::bytes_of_mut(&mut value)) {
            Ok(Some(received)) if received.len == size_of::<T>() => Ok(Some((received, value))),
            Ok(None) => Ok(None),
            Ok(Some(received)) => Err(wrong_length::<T>(&received)),
            Err(ReceiveError::BufferTooSmall { .. }) => self.receive_pod_of_any_length(),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits up to `wait` for a value (long polling). `None` after that. Blocks by the
    /// [`Idle`](crate::Idle) that was set.
    ///
    /// # Errors
    /// As [`receive_pod`](Self::receive_pod).
    pub fn receive_pod_within<T: Pod>(
        &mut self,
        wait: Duration,
    ) -> Result<Option<(Received, T)>, PodError> {
        let deadline = Deadline::after(wait);
        loop {
            if let Some(received) = self.receive_pod()? {
                return Ok(Some(received));
            }
            if !self.wait(deadline.remaining())? {
                return Ok(None);
            }
        }
    }

    /// Leases a message that is too long, so that it can be named. Another may be met by now.
    #[cold]
    fn receive_pod_of_any_length<T: Pod>(&mut self) -> Result<Option<(Received, T)>, PodError> {
        let mut incoming = Incoming::new();
        let Some(received) = self.receive_message(&mut incoming)? else {
            return Ok(None);
        };
        match bytemuck::try_pod_read_unaligned(incoming.body()) {
            Ok(value) => Ok(Some((received, value))),
            Err(_) => Err(wrong_length::<T>(&received)),
        }
    }
}

#[cold]
pub(super) fn wrong_length<T>(received: &Received) -> PodError {
    PodError::WrongLength {
        receipt: received.receipt,
        len: received.len,
        expected: size_of::<T>(),
    }
}
