//! L0: Linux, and nothing of ringway. The only floor that makes system calls.
//!
//! Everything here returns `std::io::Error` or a small struct of facts; what a failure means to a
//! user is decided upstairs.

pub mod affinity;
pub mod clock;
pub mod directory;
pub mod disk;
pub mod file;
pub mod fork;
pub mod futex;
pub mod host;
pub mod lock;
pub mod mapping;
pub mod notify;
pub mod uring;
