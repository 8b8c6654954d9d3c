//! Files that appear whole or not at all, with an explicit mode and group.
//!
//! A file is built under a temporary name, filled to its full length with `fallocate` (a sparse
//! file would be a SIGBUS later), and published with `renameat2(RENAME_NOREPLACE)`. Mode and
//! group are set by `fchmod`/`fchown` on the descriptor, so no umask has a say.

use super::directory::names_of;
use rustix::fs::{self as rfs, FallocateFlags, Gid, Mode, OFlags, RenameFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Not enough room: what was asked for and what there is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSpace {
    pub needed: u64,
    pub available: u64,
}

/// Why a file could not be made.
#[derive(Debug)]
pub enum CreateFailure {
    NoSpace(NoSpace),
    Io(io::Error),
}

impl From<io::Error> for CreateFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for CreateFailure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Permission bits and group of everything that belongs to one bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub mode: u32,
    pub group: Option<u32>,
}

impl Access {
    /// Directories get the search bit wherever the files get the read bit, and set-group-id.
    fn directory_mode(self) -> u32 {
        0o2000 | self.mode | (self.mode & 0o444) >> 2 | 0o100
    }
}

/// Somebody outside the group can't give files to it. That matters only where the group may do
/// more than everybody.
fn give_to_group(file: &File, access: Access) -> io::Result<()> {
    let Some(group) = access.group else {
        return Ok(());
    };
    if self::group(file)? == group {
        return Ok(());
    }
    let everybody_may = access.mode >> 3 & 0o7 == access.mode & 0o7;
    match rfs::fchown(file, None, Some(Gid::from_raw(group))) {
        Err(rustix::io::Errno::PERM) if everybody_may => Ok(()),
        other => Ok(other?),
    }
}

/// Makes `path` with full access rights of `access`; fails if it exists.
pub fn create_directory(path: &Path, access: Access) -> io::Result<()> {
    rfs::mkdir(path, Mode::from_raw_mode(0o700))?;
    let directory = File::open(path)?;
    give_to_group(&directory, access)?;
    rfs::fchmod(&directory, Mode::from_raw_mode(access.directory_mode()))?;
    Ok(())
}

/// Makes a temporary file of `len` zero bytes that really exist; more may follow by [`allocate`]. It is
/// removed again on failure.
pub fn create_temporary(path: &Path, len: u64, access: Access) -> Result<File, CreateFailure> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let filled = (|| {
        allocate(&file, 0, len)?;
        give_to_group(&file, access)?;
        rfs::fchmod(&file, Mode::from_raw_mode(access.mode))?;
        Ok(())
    })();
    match filled {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

/// Makes a file at least `len` bytes long, with zero bytes that really exist; the first `have` do
/// already. Never shorter.
pub fn allocate(file: &File, have: u64, len: u64) -> Result<(), CreateFailure> {
    if len <= have {
        return Ok(());
    }
    let available = look_for_room(file, len - have)?;
    let no_space = || {
        CreateFailure::NoSpace(NoSpace {
            needed: len - have,
            available,
        })
    };
    loop {
        return match rfs::fallocate(file, FallocateFlags::empty(), have, len - have) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::FBIG) => {
                Err(no_space())
            }
            Err(error) => Err(error.into()),
        };
    }
}

/// Bytes that the file system of a file has left, seen before `wanted` more are asked of it. An error where not even the
/// superuser gets so many: trying would fill the disk for a moment, to others' harm.
pub(super) fn look_for_room(file: &File, wanted: u64) -> Result<u64, CreateFailure> {
    let Ok(free) = rfs::fstatvfs(file) else {
        return Ok(0);
    };
    let available = free.f_bavail.saturating_mul(free.f_frsize);
    // A tmpfs without a limit says 0 of everything.
    if free.f_blocks > 0 && free.f_bfree.saturating_mul(free.f_frsize) < wanted {
        let needed = wanted;
        return Err(CreateFailure::NoSpace(NoSpace { needed, available }));
    }
    Ok(available)
}

/// Gives a finished file its name. `AlreadyExists` if somebody was first.
pub fn publish(temporary: &Path, name: &Path) -> io::Result<()> {
    rfs::renameat_with(rfs::CWD, temporary, rfs::CWD, name, RenameFlags::NOREPLACE)?;
    Ok(())
}

/// Makes a temporary file of these bytes. It is removed again on failure.
#[cfg_attr(
    not(feature = "topics"),
    expect(dead_code, reason = "topics alone use it")
)]
pub fn write_temporary(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = create_temporary(path, 0, access).map_err(|failure| match failure {
        CreateFailure::Io(error) => error,
        CreateFailure::NoSpace(_) => io::ErrorKind::StorageFull.into(),
    })?;
    file.write_all_at(bytes, 0).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

/// Gives a finished file its name, in the place of whatever had it.
#[cfg_attr(
    not(feature = "topics"),
    expect(dead_code, reason = "topics alone use it")
)]
pub fn replace(temporary: &Path, name: &Path) -> io::Result<()> {
    Ok(rfs::rename(temporary, name)?)
}

/// A file of `most` bytes at most, read whole.
#[cfg_attr(
    not(feature = "topics"),
    expect(dead_code, reason = "topics alone use it")
)]
pub fn read_small(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    open_to_read(path)?
        .take(most as u64 + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() > most {
        true => Err(io::ErrorKind::InvalidData.into()),
        false => Ok(bytes),
    }
}

/// Lets two names that both exist change places.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    rfs::renameat_with(rfs::CWD, one, rfs::CWD, other, RenameFlags::EXCHANGE)?;
    Ok(())
}

/// Opens read-write, close-on-exec, not following a link in the last step.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// The same, to be read alone: who may not write may do that. A pipe that somebody put there has no writer,
/// and is not waited for: it reads as an empty file.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Removes a directory that has nothing in it.
pub fn remove_empty_directory(path: &Path) -> io::Result<()> {
    std::fs::remove_dir(path)
}

/// Opens `path` to be locked, made if there is none.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path)
}

/// Whether `path`, or the nearest of its parents that there is, lies in memory (tmpfs, ramfs).
pub fn is_in_memory(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let there = path.ancestors().find_map(|path| rfs::statfs(path).ok());
    there.is_some_and(|found| matches!(found.f_type as u64, TMPFS | RAMFS))
}

/// Asks once more where nothing can be told, for want of memory or by a signal: "it is not there" has to be an
/// answer, not the lack of one.
fn ask<T>(question: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match question() {
        Err(error) if !is_an_answer(&error) => question(),
        answered => answered,
    }
}

fn is_an_answer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether `path` still leads to the file behind the descriptor.
pub fn is_at(file: &File, path: &Path) -> bool {
    leads_to(path, file).unwrap_or(false)
}

/// The same, for who may not guess: where nobody can say that is an error.
pub fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let theirs = match ask(|| std::fs::symlink_metadata(path)) {
        Err(error) if is_an_answer(&error) => return Ok(false),
        theirs => theirs?,
    };
    let ours = ask(|| file.metadata())?;
    Ok(ours.ino() == theirs.ino() && ours.dev() == theirs.dev())
}

/// Whether `path` leads nowhere. Where nobody can say that is an error.
pub fn is_gone(path: &Path) -> io::Result<bool> {
    match ask(|| std::fs::symlink_metadata(path)) {
        Ok(_) => Ok(false),
        Err(error) if is_an_answer(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether both lead to one directory, through whatever links.
pub fn is_same_directory(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    one == other || matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

/// Two words at an offset of a small file.
pub fn read_words(file: &File, offset: u64) -> io::Result<[u64; 2]> {
    let mut bytes = [0; 16];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, offset)?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
    Ok([word(0), word(8)])
}

/// Writes them.
pub fn write_words(file: &File, offset: u64, words: [u64; 2]) -> io::Result<()> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::os::unix::fs::FileExt::write_all_at(file, &bytes, offset)
}

/// Names in a directory, unsorted; names that are not UTF-8 are none of ours.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    names_of(rfs::Dir::new(rfs::open(directory, flags, Mode::empty())?)?)
}

/// Takes a name away. A directory is none of the things this removes.
pub fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

/// Removes a directory and everything in it.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    std::fs::remove_dir_all(path)
}

/// Length of the file at `path`.
pub fn len(path: &Path) -> io::Result<u64> {
    Ok(std::fs::symlink_metadata(path)?.len())
}

/// Group of the file behind the descriptor.
pub fn group(file: &File) -> io::Result<u32> {
    Ok(file.metadata()?.gid())
}

/// Whether `path` is a real directory, not a link to one.
pub fn is_directory(path: &Path) -> bool {
    ask(|| std::fs::symlink_metadata(path)).is_ok_and(|meta| meta.is_dir())
}

/// Whether `path` is a file itself: no directory, no link, no pipe.
pub fn is_regular(path: &Path) -> bool {
    check_regular(path).unwrap_or(false)
}

/// The same for whoever draws conclusions from what is not there: an error where nobody can say.
pub fn check_regular(path: &Path) -> io::Result<bool> {
    match ask(|| std::fs::symlink_metadata(path)) {
        Ok(meta) => Ok(meta.is_file()),
        Err(error) if is_an_answer(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Locks a directory until the returned descriptor closes, or its process dies. `None` when
/// somebody else holds it.
pub fn lock_directory(path: &Path) -> io::Result<Option<File>> {
    let directory = File::open(path)?;
    match rfs::flock(&directory, rfs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(directory)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether `path` was last changed more than `age` ago. `false` when that can't be told.
pub fn is_older(path: &Path, age: std::time::Duration) -> bool {
    std::fs::symlink_metadata(path)
        .and_then(|meta| meta.modified())
        .is_ok_and(|changed| changed.elapsed().is_ok_and(|since| since > age))
}

/// A fresh open file description of the same file, whatever its name leads to by now.
pub fn reopen(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(true).open(path)
}

/// The first `out.len()` bytes of a file, without mapping it: a file that shrinks meanwhile is an
/// error and no signal.
pub fn read_head(file: &File, out: &mut [u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    file.read_exact_at(out, 0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::host;

    #[test]
    fn what_no_disk_has_room_for_is_refused_with_what_there_is_and_takes_none_of_it() {
        let path = std::env::temp_dir().join(format!("ringway-room-{:016x}", host::random_u64()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path);
        let file = file.unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(4096).unwrap();
        const NEEDED: u64 = 1 << 43; // 8 TiB; ext4 has files of 16
        let refused = allocate(&file, 4096, 4096 + NEEDED);
        let Err(CreateFailure::NoSpace(NoSpace { needed, available })) = refused else {
            panic!("a disk of 8 TiB?");
        };
        assert_eq!(needed, NEEDED);
        assert!((1..NEEDED).contains(&available), "{available}");
        assert_eq!(file.metadata().unwrap().blocks(), 0);
    }
}
