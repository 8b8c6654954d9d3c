//! What happens, for whoever subscribed: events and spans of the crate `tracing`, with the feature of that name.
//!
//! Without the feature nothing is left of them, not even the evaluation of what they would say. With it, and
//! nobody listening at their level, each is one relaxed load and a branch: what they say is asked for behind that
//! branch, and handed by value to a function that is never inlined. By value, since what is borrowed there has an
//! address, and so lies in memory for everybody: a result that was put together in memory is moved by loads that
//! are wider than the stores before them, and waits until those are in the cache
//! (docs/decisions/0059-what-a-message-costs-in-instructions.md). A subscriber is called in the thread in which it happens, and
//! may do there what it likes: block, allocate, make system calls.
//!
//! TRACE: one message or record on its way (sent, received, deleted, given back, put, published). DEBUG: what
//! comes seldom (a queue made again, a writer displaced, the dead reaped, a queue grown, a stream changed).

/// An event: `event!(TRACE, "sent", position = position)`.
macro_rules! event {
    ($level:ident, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        #[cfg(feature = "tracing")]
        {
            if $crate::trace::is_told(::tracing::Level::$level) {
                let ($($field,)*) = ($($value,)*);
                $crate::trace::tell(move || {
                    ::tracing::event!(::tracing::Level::$level, $($field = $field,)* $message);
                });
            }
        }
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

/// Whether somebody may listen at this level.
#[cfg(feature = "tracing")]
#[inline(always)]
pub fn is_told(level: tracing::Level) -> bool {
    level <= tracing::level_filters::LevelFilter::current()
}

#[cfg(feature = "tracing")]
#[cold]
#[inline(never)]
pub fn tell(event: impl FnOnce()) {
    event();
}
