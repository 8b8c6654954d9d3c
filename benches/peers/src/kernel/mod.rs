//! What the kernel itself offers: pipes, Unix sockets, POSIX message queues.
//!
//! All of them sleep in the kernel while they wait, and copy every message in
//! and out of it; both is what they are for, so they have no polling mode here.

mod channel;
mod mq;
mod pipe;
mod seqpacket;

use ringway_measure::Contender;

pub(crate) fn all() -> [&'static dyn Contender; 3] {
    [&seqpacket::Seqpacket, &pipe::Pipe, &mq::PosixMq]
}
