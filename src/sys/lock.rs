//! Open-file-description locks on single bytes (`F_OFD_SETLK`, Linux 3.15).
//!
//! The kernel drops such a lock when the last descriptor of the open file description goes: at
//! exit or SIGKILL, never before, whatever happens to pids, namespaces or the scheduler.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

fn request(kind: libc::c_int, byte: i64) -> libc::flock {
    // SAFETY: `flock` is plain data; all zero is a valid value of it.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    lock
}

fn control(fd: impl AsFd, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is borrowed and open; `lock` is a valid flock for the call.
        let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command, lock as *mut _) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Tries to write-lock `byte`; `false` when somebody else holds it. Never blocks.
pub fn try_lock(fd: impl AsFd, byte: i64) -> io::Result<bool> {
    match control(fd, libc::F_OFD_SETLK, &mut request(libc::F_WRLCK, byte)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether an error of this module means that the file system has no such locks.
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOLCK | libc::EOPNOTSUPP)
    )
}

/// Whether another open file description holds `byte`. `fd` itself must hold no lock there.
pub fn is_locked(fd: impl AsFd, byte: i64) -> io::Result<bool> {
    let mut lock = request(libc::F_WRLCK, byte);
    control(fd, libc::F_OFD_GETLK, &mut lock)?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}
