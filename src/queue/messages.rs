//! Messages one after the other, as an iterator.

use super::{Message, QueueReceiver};
use crate::error::ReceiveError;
use std::time::Duration;

/// See [`QueueReceiver::messages`].
pub struct Messages<'a> {
    receiver: &'a mut QueueReceiver,
    wait: Duration,
    has_ended: bool,
}

impl QueueReceiver {
    /// Messages as they come. Each step waits up to `wait` for the next one, by the
    /// [`Idle`](crate::Idle) that was set; the iteration ends when none has come by then, and behind
    /// an error. Each step allocates its message.
    ///
    /// A message is leased when it is handed out and nothing is deleted by itself: what the loop does
    /// not delete becomes visible again.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = std::env::temp_dir().join(format!("ringway-doc-messages-{}", std::process::id()));
    /// # std::fs::create_dir_all(&root)?;
    /// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
    /// # use std::time::Duration;
    /// let orders = bus.queue("orders").open_or_create()?;
    /// orders.sender()?.send_batch(&["order 1", "order 2"])?;
    /// for message in orders.receiver()?.messages(Duration::ZERO) {
    ///     let message = message?;
    ///     println!("{}", String::from_utf8_lossy(&message.body));
    ///     orders.delete(&message.received.receipt)?;
    /// }
    /// # assert_eq!(orders.stats().in_flight, 0);
    /// # drop((orders, bus));
    /// # std::fs::remove_dir_all(&root)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn messages(&mut self, wait: Duration) -> Messages<'_> {
        Messages {
            receiver: self,
            wait,
            has_ended: false,
        }
    }
}

impl Messages<'_> {
    /// The receiver, to settle a message between two steps.
    pub fn receiver(&mut self) -> &mut QueueReceiver {
        self.receiver
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, ReceiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        match self.receiver.receive(1, self.wait, None) {
            Ok(mut messages) => {
                let message = messages.pop();
                self.has_ended = message.is_none();
                message.map(Ok)
            }
            Err(error) => {
                self.has_ended = true;
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for Messages<'_> {}
