//! Receiving in a task: no runtime is asked for, any executor will do.
//!
//! A thread of the receiver watches the queue as a blocking receiver would, with the same bounded
//! sleeps, and wakes the task ([`crate::object::poll`]). So there is no reactor to be driven, and no
//! dependency on one; the price is that thread and one hop of about 7 µs.

use super::wait::QueueWatch;
use super::{Incoming, QueueReceiver, Received};
use crate::error::ReceiveError;
use crate::object::poll::Watcher;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// A receiver whose waiting is a future. One task at a time waits on it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = std::env::temp_dir().join(format!("ringway-doc-async-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
/// use ringway::Incoming;
/// let orders = bus.queue("orders").open_or_create()?;
/// let mut receiver = orders.receiver()?.into_async()?;
/// orders.sender()?.send(b"order 1")?;
/// pollster::block_on(async {
///     let mut incoming = Incoming::new();
///     let received = receiver.receive(&mut incoming).await?;
///     assert_eq!(incoming.body(), b"order 1");
///     receiver.get_mut().delete(&received.receipt)?;
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// # drop((receiver, orders, bus));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok(())
/// # }
/// ```
pub struct AsyncReceiver {
    receiver: QueueReceiver,
    watcher: Watcher,
}

impl QueueReceiver {
    /// Becomes a receiver for a task. Starts one small thread, and does not wait for it; allocates.
    ///
    /// # Errors
    /// When the system gives no thread, or the handle was made before a fork.
    pub fn into_async(mut self) -> io::Result<AsyncReceiver> {
        let watcher = Watcher::of_task(QueueWatch::new(&self)?)?;
        self.watch_by(watcher.shared());
        Ok(AsyncReceiver {
            receiver: self,
            watcher,
        })
    }
}

impl AsyncReceiver {
    /// Waits for a message and receives it whole into `incoming`. Dropping the future loses nothing:
    /// a message is leased by the very poll that returns it.
    ///
    /// # Errors
    /// As [`QueueReceiver::receive_message`], and when the queue is gone.
    pub async fn receive(&mut self, incoming: &mut Incoming) -> Result<Received, ReceiveError> {
        poll_fn(|context| self.poll_receive(context, incoming)).await
    }

    /// One poll of [`receive`](Self::receive), for futures and streams of your own. Never blocks. The
    /// task of the last poll is woken.
    ///
    /// # Errors
    /// As there.
    pub fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        incoming: &mut Incoming,
    ) -> Poll<Result<Received, ReceiveError>> {
        // Before the look: from the look on that finds nothing, whatever comes wakes this task.
        self.watcher.shared().wake_next(context.waker());
        match self.receiver.receive_message(incoming) {
            Ok(Some(received)) => Poll::Ready(Ok(received)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The receiver itself, to settle messages and to set how they are received.
    pub fn get_mut(&mut self) -> &mut QueueReceiver {
        &mut self.receiver
    }

    /// The receiver without the thread.
    pub fn into_inner(self) -> QueueReceiver {
        self.receiver
    }
}
