//! Sending to queues, and what a loan is.

use crate::argument::{self, given, timeout};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{close, keep, shared, with};
use crate::layout::{OutgoingStruct, Sent, Slice};
use crate::message::AttributesHandle;
use crate::queue::QueueHandle;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::time::Duration;
use ringway::{Loan, Outgoing, QueueSender};

pub struct SenderHandle(QueueSender);

/// A loan; it is not there only while it is being sent.
pub struct LoanHandle(Option<Loan>);

impl LoanHandle {
    /// Sends it; on failure it is here again, no longer than it was to be sent.
    pub fn send<E: Into<Failure>>(
        &mut self,
        len: usize,
        send: impl FnOnce(Loan) -> Result<u64, (E, Loan)>,
    ) -> Result<u64, Failure> {
        let gone = || Failure::new(Code::Handle, "the loan was sent already");
        let mut loan = self.0.take().ok_or_else(gone)?;
        if len > loan.len() {
            let text = format!("{len} bytes of a loan of {}", loan.len());
            self.0 = Some(loan);
            return Err(Failure::new(Code::Argument, text));
        }
        loan.truncate(len);
        send(loan).map_err(|(error, loan)| {
            self.0 = Some(loan);
            error.into()
        })
    }
}

/// Hands a loan out.
pub fn lend(
    mut lent: Loan,
    loan: &mut MaybeUninit<*mut c_void>,
    data: &mut MaybeUninit<*mut c_void>,
) -> Result<Code, Failure> {
    let bytes = lent.as_mut_ptr().cast();
    loan.write(keep(LoanHandle(Some(lent)))?);
    data.write(bytes);
    Ok(Code::Ok)
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

fn outgoing(said: &OutgoingStruct) -> Result<Outgoing<'static>, Failure> {
    let mut outgoing = Outgoing::new(argument::bytes(said.body, said.len)?);
    if let Some(delay_ms) = given(said.delay_ms) {
        outgoing = outgoing.delay(Duration::from_millis(delay_ms));
    }
    if let Some(group) = argument::optional_text(said.group, "group")? {
        outgoing = outgoing.group(group);
    }
    if let Some(id) = argument::optional_text(said.dedup_id, "dedup_id")? {
        outgoing = outgoing.dedup_id(id);
    }
    if let Some(header) = argument::optional_text(said.trace_header, "trace_header")? {
        outgoing = outgoing.trace_header(header);
    }
    if !said.attributes.is_null() {
        outgoing = outgoing.attributes(&shared::<AttributesHandle>(said.attributes)?.0);
    }
    Ok(outgoing)
}

fn message(message: *const OutgoingStruct) -> Result<OutgoingStruct, Failure> {
    let said = argument::sized(message, "message")?;
    said.ok_or_else(|| Failure::new(Code::Argument, "message is NULL"))
}

/// The messages of an array whose elements have the size of the first.
fn messages(first: *const OutgoingStruct, count: usize) -> Result<Vec<Outgoing<'static>>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let size = message(first)?.size;
    let bytes: &[u8] = argument::slice(first.cast(), count.saturating_mul(size), "messages")?;
    let each = bytes.chunks_exact(size);
    each.map(|one| outgoing(&message(one.as_ptr().cast())?))
        .collect()
}

fn sent_out(sent: ringway::Sent) -> Sent {
    Sent {
        position: sent.position,
        status: 0,
        duplicate: sent.duplicate.into(),
    }
}

abi! {
    /// Becomes a sender.
    fn ringway_sender_open(queue: *const c_void, sender: *mut *mut c_void) {
        let sender = argument::out(sender, "sender")?;
        let opened = shared::<QueueHandle>(queue)?.0.sender()?;
        sender.write(keep(SenderHandle(opened))?);
        Ok(Code::Ok)
    }

    /// Sends a message.
    fn ringway_sender_send(
        sender: *mut c_void,
        body: *const c_void,
        len: usize,
        timeout_ns: i64,
        position: *mut u64,
    ) {
        let body = argument::bytes(body, len)?;
        let position = argument::optional(position, "position")?;
        with::<SenderHandle>(sender, |SenderHandle(sender)| {
            let sent = if timeout_ns == 0 {
                sender.send(body)?
            } else {
                send_within(sender, body, timeout_ns)?
            };
            if let Some(position) = position {
                position.write(sent);
            }
            Ok(Code::Ok)
        })
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
        with::<SenderHandle>(sender, |SenderHandle(sender)| {
            sent.write(sender.send_batch(bodies)?);
            Ok(Code::Ok)
        })
    }

    /// Sends a message with what is said about it.
    fn ringway_sender_send_message(
        sender: *mut c_void,
        said: *const OutgoingStruct,
        sent: *mut Sent,
    ) {
        let out = argument::optional(sent, "sent")?;
        let outgoing = outgoing(&message(said)?)?;
        with::<SenderHandle>(sender, |SenderHandle(sender)| {
            let sent = sender.send_message(&outgoing)?;
            if let Some(out) = out {
                out.write(sent_out(sent));
            }
            Ok(Code::Ok)
        })
    }

    /// Sends messages with what is said about them.
    fn ringway_sender_send_messages(
        sender: *mut c_void,
        said: *const OutgoingStruct,
        count: usize,
        sent: *mut Sent,
    ) {
        let out = argument::room(sent, count, "sent")?;
        let outgoing = messages(said, count)?;
        with::<SenderHandle>(sender, |SenderHandle(sender)| {
            let outcomes = sender.send_message_batch(&outgoing);
            for (place, outcome) in out.iter_mut().zip(outcomes) {
                place.write(match outcome {
                    Ok(sent) => sent_out(sent),
                    Err(error) => {
                        let failure = Failure::from(error);
                        Sent { position: 0, status: failure.code as i32, duplicate: 0 }
                    }
                });
            }
            Ok(Code::Ok)
        })
    }

    /// Lends bytes of the pool.
    fn ringway_sender_loan(
        sender: *mut c_void,
        len: usize,
        loan: *mut *mut c_void,
        data: *mut *mut c_void,
    ) {
        let loan = argument::out(loan, "loan")?;
        let data = argument::out(data, "data")?;
        with::<SenderHandle>(sender, |SenderHandle(sender)| {
            lend(sender.loan(len)?, loan, data)
        })
    }

    /// Sends a loan.
    fn ringway_sender_send_loan(
        sender: *mut c_void,
        loan: *mut c_void,
        len: usize,
        position: *mut u64,
    ) {
        let position = argument::optional(position, "position")?;
        with::<SenderHandle>(sender, |SenderHandle(sender)| {
            with::<LoanHandle>(loan, |loan| {
                let sent = loan.send(len, |loan| sender.send_loan(loan))?;
                if let Some(position) = position {
                    position.write(sent);
                }
                Ok(Code::Ok)
            })?;
            close(loan)
        })
    }
}
