//! Sending to queues.

use crate::argument::{self, timeout};
use crate::code::{Code, Failure};
use crate::fence::{abi, abi_at_once};
use crate::handle::{keep, shared, with, with_at_once};
use crate::layout::{OutgoingStruct, Sent, Slice};
use crate::loan::Lender;
use crate::queue::QueueHandle;
use crate::said::{Carrier, Said, carry};
use core::ffi::c_void;
use ringway::{Attributes, Loan, Outgoing, QueueSender};

/// A sender, and memory for the attributes of a message sent alone.
pub struct SenderHandle(QueueSender, Attributes);

impl Lender for SenderHandle {
    fn lend(&mut self, len: usize) -> Result<Loan, Failure> {
        Ok(self.0.loan(len)?)
    }

    fn send_loan(&mut self, loan: Loan) -> Result<u64, (Failure, Loan)> {
        let sent = self.0.send_loan(loan);
        sent.map_err(|(error, loan)| (error.into(), loan))
    }
}

impl Carrier for SenderHandle {
    type Message<'a> = Outgoing<'a>;
    type Outcome = ringway::Sent;
    type Out = Sent;

    fn memory(&mut self) -> &mut Attributes {
        &mut self.1
    }

    fn message(said: &Said) -> Result<Outgoing<'_>, Failure> {
        said.outgoing()
    }

    fn one(&mut self, message: &Outgoing<'_>) -> Result<ringway::Sent, Failure> {
        Ok(self.0.send_message(message)?)
    }

    fn batch(&mut self, messages: &[Outgoing<'_>]) -> Vec<Result<ringway::Sent, Failure>> {
        let outcomes = self.0.send_message_batch(messages).into_iter();
        outcomes.map(|outcome| Ok(outcome?)).collect()
    }

    fn out(outcome: Result<ringway::Sent, Failure>) -> Sent {
        match outcome {
            Ok(sent) => Sent {
                position: sent.position,
                status: 0,
                duplicate: sent.duplicate.into(),
            },
            Err(failure) => Sent {
                position: 0,
                status: failure.code as i32,
                duplicate: 0,
            },
        }
    }
}

/// A body of the caller, checked: `Slice` is laid out otherwise than `&[u8]`.
#[repr(transparent)]
pub struct Body(Slice);

impl AsRef<[u8]> for Body {
    #[inline(always)]
    fn as_ref(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        // SAFETY: checked in `bodies`; the caller's until the call returns.
        unsafe { core::slice::from_raw_parts(self.0.data.cast(), self.0.len) }
    }
}

/// Checks every body of a batch before any is sent.
pub fn bodies(slices: *const Slice, count: usize) -> Result<&'static [Body], Failure> {
    let slices = argument::slice(slices, count, "bodies")?;
    for slice in slices {
        argument::bytes(slice.data, slice.len)?;
    }
    // SAFETY: `Body` is transparent over `Slice`.
    Ok(unsafe { core::slice::from_raw_parts(slices.as_ptr().cast(), slices.len()) })
}

/// Calls that may wait are out of the way of those that don't.
#[cold]
#[inline(never)]
fn send_within(sender: &mut QueueSender, body: &[u8], timeout_ns: i64) -> Result<u64, Failure> {
    Ok(sender.send_timeout(body, timeout(timeout_ns)?)?)
}

abi! {
    /// Becomes a sender.
    fn ringway_sender_open(queue: *const c_void, sender: *mut *mut c_void) {
        let sender = argument::out(sender, "sender")?;
        let opened = shared::<QueueHandle>(queue)?.0.sender()?;
        sender.write(keep(SenderHandle(opened, Attributes::new()))?);
        Ok(Code::Ok)
    }

    /// Sends messages.
    fn ringway_sender_send_batch(
        sender: *mut c_void,
        slices: *const Slice,
        count: usize,
        sent: *mut usize,
    ) {
        let bodies = bodies(slices, count)?;
        let sent = argument::out(sent, "sent")?;
        with::<SenderHandle>(sender, |SenderHandle(sender, _)| {
            sent.write(sender.send_batch(bodies)?);
            Ok(Code::Ok)
        })
    }

    /// Sends messages with what is said about them.
    fn ringway_sender_send_messages(
        sender: *mut c_void,
        messages: *const OutgoingStruct,
        count: usize,
        sent: *mut Sent,
    ) {
        carry::<SenderHandle>(sender, messages, count, sent, |_| ())
    }
}

abi_at_once! {
    /// Sends a message.
    fn ringway_sender_send(
        sender: *mut c_void,
        body: *const c_void,
        len: usize,
        timeout_ns: i64,
        position: *mut u64,
    ) {
        let body = argument::bytes_at_once(body, len)?;
        if timeout_ns != 0 || !position.is_aligned() {
            return None;
        }
        with_at_once::<SenderHandle>(sender, |SenderHandle(sender, _)| {
            let sent = sender.send_at_once(body)?;
            if !position.is_null() {
                // SAFETY: aligned, and by ringway.h room for a position.
                unsafe { position.write(sent) };
            }
            Some(())
        })
    } else {
        let body = argument::bytes(body, len)?;
        let position = argument::optional(position, "position")?;
        with::<SenderHandle>(sender, |SenderHandle(sender, _)| {
            let sent = if timeout_ns == 0 {
                sender.send_with_care(body)?
            } else {
                send_within(sender, body, timeout_ns)?
            };
            if let Some(position) = position {
                position.write(sent);
            }
            Ok(Code::Ok)
        })
    }
}
