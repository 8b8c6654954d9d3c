//! What happens, for whoever subscribed: events and spans of the crate `tracing`, with the feature of that name.
//!
//! Without the feature nothing is left of them, not even the evaluation of what they would say. With it, and
//! nobody listening at their level, each is one relaxed load and a branch: what they say is built in a function
//! that is never inlined, away from the hot path. A subscriber is called in the thread in which it happens, and
//! may do there what it likes: block, allocate, make system calls.
//!
//! TRACE: one message or record on its way (sent, received, deleted, given back, put, published). DEBUG: what
//! comes seldom (a queue made again, a writer displaced, the dead reaped, a queue grown, a stream changed).

/// An event: `event!(TRACE, "sent", position = position)`.
macro_rules! event {
    ($level:ident, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        #[cfg(feature = "tracing")]
        $crate::trace::tell(::tracing::Level::$level, || {
            ::tracing::event!(::tracing::Level::$level, $($field = $value,)* $message);
        });
    };
}

/// A span from here to the end of the block.
macro_rules! span {
    ($level:ident, $name:literal $(, $field:ident = $value:expr)* $(,)?) => {
        #[cfg(feature = "tracing")]
        let _span = ::tracing::span!(::tracing::Level::$level, $name, $($field = $value),*).entered();
    };
}

pub(crate) use {event, span};

/// Calls `event` if somebody may listen at this level.
#[cfg(feature = "tracing")]
#[inline(always)]
pub fn tell(level: tracing::Level, event: impl FnOnce()) {
    if level <= tracing::level_filters::LevelFilter::current() {
        tell_slowly(event);
    }
}

#[cfg(feature = "tracing")]
#[cold]
#[inline(never)]
fn tell_slowly(event: impl FnOnce()) {
    event();
}
