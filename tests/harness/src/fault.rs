//! What can go wrong in the harness itself, each with the name of what was waited for.
//!
//! A `Fault` is never a verdict on the bus: a test that sees one knows that its stage
//! collapsed, not that its play was bad. Converts to `String`, so that checks which
//! return `Result<_, String>` may use `?`.

use std::{fmt, io, time::Duration};

/// A failure of the stage: a hang, a refusal by the kernel, or a child that left its script.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// A wait reached its deadline. The child concerned was killed; look at `seen`.
    Hung {
        /// What was waited for.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// What the kernel said about the child at that time.
        seen: String,
    },
    /// The kernel refused a call.
    Os {
        /// The call and its object.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// A child ended, trapped or answered in a way that its role doesn't allow.
    Victim {
        /// Which child, and what it did.
        what: String,
    },
}

impl Fault {
    pub(crate) fn os(what: impl Into<String>, source: io::Error) -> Self {
        Fault::Os {
            what: what.into(),
            source,
        }
    }

    pub(crate) fn last_os(what: impl Into<String>) -> Self {
        Self::os(what, io::Error::last_os_error())
    }

    pub(crate) fn victim(what: impl Into<String>) -> Self {
        Fault::Victim { what: what.into() }
    }

    /// The errno behind an [`Fault::Os`].
    pub fn errno(&self) -> Option<i32> {
        match self {
            Fault::Os { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Hung { what, waited, seen } => {
                write!(f, "hung: {what}, waited {waited:?}; {seen}")
            }
            Fault::Os { what, source } => write!(f, "{what}: {source}"),
            Fault::Victim { what } => f.write_str(what),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Fault::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> String {
        fault.to_string()
    }
}
