//! Sending to queues, and what a loan is.

use crate::argument::{self, timeout};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{close, keep, shared, with};
use crate::layout::{OutgoingStruct, Sent, Slice};
use crate::queue::QueueHandle;
use crate::said::{Said, each, structs};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use ringway::{Attributes, Loan, QueueSender};

/// A sender, and memory for the attributes of a message sent alone.
pub struct SenderHandle(QueueSender, Attributes);

impl SenderHandle {
    fn send_message(&mut self, said: &OutgoingStruct) -> Result<ringway::Sent, Failure> {
        let said = Said::of(said, core::mem::take(&mut self.1))?;
        let sent = self.0.send_message(&said.outgoing()?)?;
        self.1 = said.into_attributes();
        Ok(sent)
    }
}

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

fn sent_out(outcome: Result<ringway::Sent, Failure>) -> Sent {
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

abi! {
    /// Becomes a sender.
    fn ringway_sender_open(queue: *const c_void, sender: *mut *mut c_void) {
        let sender = argument::out(sender, "sender")?;
        let opened = shared::<QueueHandle>(queue)?.0.sender()?;
        sender.write(keep(SenderHandle(opened, Attributes::new()))?);
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
        with::<SenderHandle>(sender, |SenderHandle(sender, _)| {
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
        let places = argument::room(sent, count, "sent")?;
        let mut said = structs(messages, count, "messages")?;
        with::<SenderHandle>(sender, |handle| {
            if let [place] = places {
                let only = said.next().and_then(Result::ok);
                let only = only.ok_or_else(|| Failure::new(Code::Argument, "no message"))?;
                place.write(sent_out(handle.send_message(&only)));
                return Ok(Code::Ok);
            }
            let said: Vec<_> = said
                .map(|one| Said::of(&one?, Attributes::new()))
                .collect();
            let taken: Vec<_> = said
                .iter()
                .map(|one| one.as_ref().map_err(|failure| *failure)?.outgoing())
                .collect();
            let send = |messages: Vec<&ringway::Outgoing<'_>>| {
                let messages: Vec<_> = messages.into_iter().copied().collect();
                let outcomes = handle.0.send_message_batch(&messages).into_iter();
                outcomes.map(|outcome| outcome.map_err(Failure::from))
            };
            each(&taken, send, |at, outcome| {
                places[at].write(sent_out(outcome));
            });
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
        with::<SenderHandle>(sender, |SenderHandle(sender, _)| {
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
        with::<SenderHandle>(sender, |SenderHandle(sender, _)| {
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
