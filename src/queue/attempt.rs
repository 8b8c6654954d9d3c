//! Receiving again what a receive has brought already: `ReceiveRequestAttemptId`.
//!
//! Whoever lost the answer of a receive, to a failure of its own, asks with the same attempt id and
//! gets the messages that are still its own, instead of waiting until they become visible. The attempts
//! are remembered by the receiver, up to [`MOST`] of them for [`KEPT`]: in one process that is where an
//! answer is lost. When the process dies its messages are visible to others at once, and a receipt
//! that outlived it can be settled by anybody.

use super::{Message, QueueReceiver};
use crate::error::ReceiveError;
use std::time::Duration;

/// How long an attempt can be made again: five minutes, as in SQS.
const KEPT: Duration = Duration::from_secs(300);
/// Attempts that are remembered; of more the oldest is forgotten.
const MOST: usize = 64;

/// A receive, and what it brought.
pub(super) struct Attempt {
    id: String,
    /// In ms since the queue's epoch.
    made: u64,
    messages: Vec<Message>,
}

impl QueueReceiver {
    /// As [`receive`](Self::receive), once for each `attempt`: called again with the same id, of any
    /// length, within five minutes, it hands out the messages of the first call that are still in
    /// flight by the same receipts, with their bodies, and their visibility begins anew
    /// (`ReceiveRequestAttemptId`). Where none is, because they were deleted, given back, or received
    /// again, it receives afresh. Known to this receiver only, not to another one or a later process;
    /// holds the bodies meanwhile, of up to 64 attempts.
    ///
    /// Source: "Using the receive request attempt ID in Amazon SQS" (SQS developer guide).
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_attempt(
        &mut self,
        attempt: &str,
        max: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> Result<Vec<Message>, ReceiveError> {
        if self.is_of_parent() {
            return Err(ReceiveError::Forked);
        }
        let now = self.now_ms();
        let oldest = now.saturating_sub(KEPT.as_millis() as u64);
        self.attempts.retain(|attempt| attempt.made >= oldest);
        if let Some(at) = self.attempts.iter().position(|made| made.id == attempt) {
            let mut made = self.attempts.remove(at);
            let again = match visibility {
                Some(visibility) => visibility,
                None => Duration::from_millis(self.visibility_ms().into()),
            };
            made.messages.retain(|message| {
                let receipt = &message.received.receipt;
                self.change_visibility(receipt, again).is_ok()
            });
            if !made.messages.is_empty() {
                let messages = made.messages.clone();
                self.attempts.push(made);
                return Ok(messages);
            }
        }
        let messages = self.receive(max, wait, visibility)?;
        if !messages.is_empty() {
            if self.attempts.len() >= MOST {
                self.attempts.remove(0);
            }
            let made = self.now_ms();
            self.attempts.push(Attempt {
                id: attempt.to_owned(),
                made,
                messages: messages.clone(),
            });
        }
        Ok(messages)
    }
}
