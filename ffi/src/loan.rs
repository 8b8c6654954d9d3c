//! Loans: bytes of the payload pool that are filled at leisure, and sent without a copy by a producer of a
//! channel or by a sender.

use crate::argument;
use crate::channel::ProducerHandle;
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{Kept, close, keep, kind, with};
use crate::send::SenderHandle;
use core::ffi::c_void;
use ringway::Loan;

/// A loan; it is not there only while it is being sent.
pub struct LoanHandle(Option<Loan>);

impl LoanHandle {
    /// Sends it; on failure it is here again, no longer than it was to be sent.
    fn send(&mut self, len: usize, by: &mut impl Lender) -> Result<u64, Failure> {
        let gone = || Failure::new(Code::Handle, "the loan was sent already");
        let mut loan = self.0.take().ok_or_else(gone)?;
        if len > loan.len() {
            let text = format!("{len} bytes of a loan of {}", loan.len());
            self.0 = Some(loan);
            return Err(Failure::new(Code::Argument, text));
        }
        loan.truncate(len);
        by.send_loan(loan).map_err(|(failure, loan)| {
            self.0 = Some(loan);
            failure
        })
    }
}

/// Who lends, and sends what it lent.
pub trait Lender: Kept {
    fn lend(&mut self, len: usize) -> Result<Loan, Failure>;
    fn send_loan(&mut self, loan: Loan) -> Result<u64, (Failure, Loan)>;
}

fn lend<L: Lender>(lender: *mut c_void, len: usize) -> Result<Loan, Failure> {
    let mut lent = None;
    with::<L>(lender, |lender| {
        lent = Some(lender.lend(len)?);
        Ok(Code::Ok)
    })?;
    lent.ok_or_else(|| Failure::new(Code::Other, "a loan that is none"))
}

fn send<L: Lender>(lender: *mut c_void, loan: *mut c_void, len: usize) -> Result<u64, Failure> {
    let mut sent = 0;
    with::<L>(lender, |lender| {
        with::<LoanHandle>(loan, |loan| {
            sent = loan.send(len, lender)?;
            Ok(Code::Ok)
        })
    })?;
    Ok(sent)
}

fn is_sender(token: *const c_void) -> bool {
    kind(token) == SenderHandle::KIND
}

abi! {
    /// Lends bytes of the pool.
    fn ringway_loan_open(
        lender: *mut c_void,
        len: usize,
        loan: *mut *mut c_void,
        data: *mut *mut c_void,
    ) {
        let out = argument::out(loan, "loan")?;
        let data = argument::out(data, "data")?;
        let mut lent = match is_sender(lender) {
            true => lend::<SenderHandle>(lender, len)?,
            false => lend::<ProducerHandle>(lender, len)?,
        };
        let bytes = lent.as_mut_ptr().cast();
        out.write(keep(LoanHandle(Some(lent)))?);
        data.write(bytes);
        Ok(Code::Ok)
    }

    /// Sends a loan.
    fn ringway_loan_send(
        lender: *mut c_void,
        loan: *mut c_void,
        len: usize,
        position: *mut u64,
    ) {
        let position = argument::optional(position, "position")?;
        let sent = match is_sender(lender) {
            true => send::<SenderHandle>(lender, loan, len)?,
            false => send::<ProducerHandle>(lender, loan, len)?,
        };
        if let Some(position) = position {
            position.write(sent);
        }
        close(loan)
    }
}
