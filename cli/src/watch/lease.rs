//! Whether anybody has a file open for writing: asked of the kernel by a lease that it refuses then.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Whether somebody has the file open for writing. Where that can't be told (it is another user's, or on a file
/// system without leases) nobody has.
pub fn has_writers(path: &Path) -> bool {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path);
    let Ok(file) = opened else {
        return false;
    };
    // SAFETY: F_SETLEASE takes a number, and the descriptor is open for as long as `file` lives.
    let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    // The lease goes with the descriptor.
    taken == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_harness::TempBus;

    #[test]
    fn a_file_has_writers_until_the_last_has_closed_it() {
        let root = TempBus::new().unwrap();
        let path = root.path().join("file");
        let (first, second) = (
            std::fs::File::create(&path),
            OpenOptions::new().append(true).open(&path),
        );
        assert!(has_writers(&path));
        drop(first);
        assert!(has_writers(&path));
        drop(second);
        assert!(!has_writers(&path) && !has_writers(&path));
        let _reader = std::fs::File::open(&path);
        assert!(!has_writers(&path));
    }
}
