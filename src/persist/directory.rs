//! The directories of journals: whose they are, who may read one to make its object again, and how one goes.
//!
//! An object has one, `PARENT/NAME`; one with several journals keeps the others in it, each in a directory
//! `FAMILY-NUMBER`. Whoever makes an object again, or removes its journals, holds a lock of the kernel on a
//! file in it, which dies with its holder.
//!
//! # Removal
//! ```text
//! move     PARENT/NAME → PARENT/.removed-RANDOM, durably: from here on the object has no journal
//! look     whether it is what was to be removed; if not, it goes back
//! empty    what is a journal's goes; a stranger's files go back to where they were
//! ```
//! The lock keeps nobody out for ever: others turn away from one who stands still. So whoever removes may have been
//! stopped between any look and the move, and another may have removed the journals meanwhile, and an object may
//! have been made, or made again, whose own these are now. What was moved can't be moved by anybody else, so the look
//! behind the move is the one that counts. Who has those files open goes on with them, wherever they lie.
//! Who is late with a write or a segment has the directory open, and leaves nothing in that of an object
//! which is created under the same name. A death in between leaves it aside, for the next removal.

use crate::error::OpenError;
use crate::journal::{self, Disk, SegmentId};
use crate::sys::clock::{self, Deadline};
use crate::sys::directory::Directory;
use crate::sys::{disk, file as files, host, lock};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

/// Of a directory that was moved aside, to be removed.
const ASIDE: &str = ".removed-";
/// Of one that was moved aside in error, and whose place was taken when it was to go back.
const KEPT: &str = ".kept-";
/// Who has not emptied it for so long is dead.
const LEFT: Duration = Duration::from_secs(60);
const LOCK_FILE: &str = "lock";
const LOCK_BYTE: i64 = 0;
/// Where in it its holder writes down how far he is: bytes read, and to be read.
pub const FAR: u64 = 8;
/// Pauses between two looks at that.
const LOOKS: u32 = 16;
/// Between two looks whether somebody else has made it.
const PAUSE: Duration = Duration::from_millis(1);
/// For one who holds the lock and comes no further.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the journals of a bus are labelled with, whose objects lie in `directory`.
pub fn label(directory: &Path) -> Vec<u8> {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    directory.into_os_string().into_encoded_bytes()
}

/// The name of the directory of one of several journals.
pub fn part_name(family: u64, number: u32) -> String {
    format!("{family:016x}-{number}")
}

fn is_part(name: &str) -> bool {
    name.split_once('-').is_some_and(|(family, number)| {
        let numbers = (u64::from_str_radix(family, 16), number.parse());
        matches!(numbers, (Ok(family), Ok(number)) if part_name(family, number) == name)
    })
}

/// Whether a directory holds a journal.
///
/// # Errors
/// When nobody can say: an object that was made then would hide what is in it.
pub fn is_journal(directory: &Path) -> Result<bool, OpenError> {
    match files::names(directory) {
        Ok(names) => Ok(names.iter().any(|name| SegmentId::of_name(name).is_some())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OpenError::io(directory, error)),
    }
}

/// Whether an object has journals beside that of its directory.
///
/// # Errors
/// When nobody can say.
pub fn has_parts(directory: &Path) -> Result<bool, OpenError> {
    let names = files::names(directory).map_err(|error| OpenError::io(directory, error))?;
    Ok(names.iter().any(|name| is_part(name)))
}

/// Bytes of all files of a directory, and of those in it.
///
/// # Errors
/// When one of them can't be listed; one that goes meanwhile has none.
pub fn bytes(directory: &Path) -> Result<u64, OpenError> {
    let mut open = vec![directory.to_owned()];
    let mut bytes = 0;
    while let Some(directory) = open.pop() {
        let names = match files::names(&directory) {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(OpenError::io(directory, error)),
        };
        for name in names {
            let path = directory.join(&name);
            if files::is_directory(&path) {
                open.push(path);
            } else {
                bytes += files::len(&path).unwrap_or(0);
            }
        }
    }
    Ok(bytes)
}

/// Removes the journals of an object, which is removed or of which nothing else is there. Whether there were
/// any. `is_its` says of the directory, where it was moved to, whether they are those. Blocks for whoever is making
/// the object again, and for the file system.
///
/// # Errors
/// When something can't be moved or removed now.
pub fn remove(
    directory: &Path,
    is_its: impl Fn(&Path) -> io::Result<bool>,
) -> Result<bool, OpenError> {
    if !files::is_directory(directory) {
        return Ok(false);
    }
    match lock(directory, || false, |_, _| ())? {
        Some(locked) => remove_locked(directory, &locked, is_its),
        None => Ok(false),
    }
}

/// The same, unless the object's file is there by the time that nobody else makes it again.
///
/// # Errors
/// As [`remove`].
pub fn remove_unopened(directory: &Path, object: &Path) -> Result<bool, OpenError> {
    if !files::is_directory(directory) {
        return Ok(false);
    }
    match lock_journal(directory, object, |_, _| ())? {
        // Whoever makes the object again looks for its journals behind giving it its name.
        Some(locked) => remove_locked(directory, &locked, |_| files::is_gone(object)),
        None => Ok(false),
    }
}

/// The same for whoever has the lock, or had it: others may have turned away from him since.
///
/// # Errors
/// As [`remove`].
pub fn remove_locked(
    directory: &Path,
    locked: &File,
    is_its: impl Fn(&Path) -> io::Result<bool>,
) -> Result<bool, OpenError> {
    let at = |error| OpenError::io(directory, error);
    let Some(parent) = directory.parent() else {
        return Ok(false);
    };
    let has_one = is_journal(directory)?;
    let random = host::random_u64();
    let aside = parent.join(format!("{ASIDE}{random:016x}"));
    match files::publish(directory, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        moved => moved.map_err(at)?,
    }
    let is_locked = files::leads_to(&aside.join(LOCK_FILE), locked);
    let looked = is_locked.and_then(|is_locked| Ok(is_locked && is_its(&aside)?));
    if !matches!(looked, Ok(true)) {
        let kept = parent.join(format!("{KEPT}{random:016x}"));
        put_back(&aside, directory, &kept)?;
        return looked.map_err(at);
    }
    sync(parent)?;
    empty(&aside, Some(directory))?;
    sweep_aside(parent);
    Ok(has_one)
}

/// Moves journals that were moved aside for others back to their place; to `kept`, where another directory has come
/// to be there meanwhile: then whoever looks at the error has to choose.
fn put_back(aside: &Path, directory: &Path, kept: &Path) -> Result<(), OpenError> {
    let moved = files::publish(aside, directory);
    if let Err(error) = moved {
        files::publish(aside, kept).map_err(|error| OpenError::io(aside, error))?;
        let why = format!(
            "{error}; the journals of this object lie in {}",
            kept.display()
        );
        return Err(OpenError::io(directory, io::Error::other(why)));
    }
    directory.parent().map_or(Ok(()), sync)
}

fn sync(directory: &Path) -> Result<(), OpenError> {
    let synced = Directory::open(directory).and_then(|directory| directory.sync());
    synced.map_err(|error| OpenError::io(directory, error))
}

/// Removes the journals of all objects of the bus whose files lay in `objects`, and their directory; how
/// many. Those of another bus of that name, which has the same place for its own, stay.
///
/// # Errors
/// As [`remove`].
pub fn remove_all(parent: &Path, objects: &Path) -> Result<usize, OpenError> {
    let (mut removed, label) = (0, label(objects));
    for name in files::names(parent).unwrap_or_default() {
        let directory = parent.join(&name);
        let is_its = |directory: &Path| {
            Disk::open(directory).is_ok_and(|disk| disk.label().as_ref() == Some(&label))
        };
        if !name.starts_with(ASIDE) && is_its(&directory) {
            removed += usize::from(remove(&directory, |there| Ok(is_its(there)))?);
        }
    }
    sweep_aside(parent);
    // Not empty: others have something there.
    let _ = files::remove_empty_directory(parent);
    Ok(removed)
}

/// Removes one of several journals, and its directory.
///
/// # Errors
/// When something can't be removed now.
pub fn remove_part(directory: &Path) -> Result<(), OpenError> {
    if let Ok(disk) = Disk::open(directory) {
        journal::remove(&disk)?;
        let _ = files::remove_empty_directory(directory);
    }
    Ok(())
}

/// Removes what is a journal's from a directory that was moved aside, and the directory.
fn empty(aside: &Path, back: Option<&Path>) -> Result<(), OpenError> {
    journal::remove(&Disk::open(aside)?)?;
    let _ = files::remove(&aside.join(LOCK_FILE));
    for name in files::names(aside).unwrap_or_default() {
        if is_part(&name) {
            remove_part(&aside.join(&name))?;
        }
    }
    if let Some(back) = back {
        for name in files::names(aside).unwrap_or_default() {
            let made = disk::create_directories(back);
            let moved = made.and_then(|()| files::publish(&aside.join(&name), &back.join(&name)));
            moved.map_err(|error| OpenError::io(back, error))?;
        }
    }
    // Not empty: a stranger's, and its place is taken.
    let _ = files::remove_empty_directory(aside);
    Ok(())
}

/// Removes what removals that died have left aside.
fn sweep_aside(parent: &Path) {
    for name in files::names(parent).unwrap_or_default() {
        let path = parent.join(&name);
        if name.starts_with(ASIDE) && files::is_older(&path, LEFT) {
            let _ = empty(&path, None);
        }
    }
}

/// The lock, for whoever makes the object of the file `object` again; `None` when that is there by then, or
/// its journal is not. `far` is told how far another one is. Whoever has the lock and stands still, by what he
/// writes down, is not waited for: two who read and write down the same do no harm.
///
/// # Errors
/// When the lock can't be asked for.
pub fn lock_journal(
    directory: &Path,
    object: &Path,
    far: impl Fn(u64, u64),
) -> Result<Option<File>, OpenError> {
    let is_made = || files::is_regular(object);
    let locked = lock(directory, is_made, far)?;
    Ok(locked.filter(|_| !is_made()))
}

/// The lock of a journal, or what was opened for it when patience is over; `None` when `is_over`, or where
/// there is no such directory any more.
fn lock(
    directory: &Path,
    is_over: impl Fn() -> bool,
    far: impl Fn(u64, u64),
) -> Result<Option<File>, OpenError> {
    let path = directory.join(LOCK_FILE);
    let at = |error| OpenError::io(&path, error);
    let mut deadline = Deadline::after(PATIENCE);
    let (mut seen, mut looks) = ([0; 2], 0_u32);
    loop {
        let file = match files::open_or_create(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(at)?,
        };
        while !lock::try_lock(&file, LOCK_BYTE).map_err(at)? && !deadline.remaining().is_zero() {
            if is_over() {
                return Ok(None);
            }
            looks = looks.wrapping_add(1);
            let [read, total] = files::read_words(&file, FAR).unwrap_or_default();
            if looks.is_multiple_of(LOOKS) && [read, total] != seen {
                (seen, deadline) = ([read, total], Deadline::after(PATIENCE));
                far(read, total);
            }
            clock::pause(PAUSE);
        }
        // Not of a directory that was moved aside meanwhile.
        if files::is_at(&file, &path) {
            return Ok(Some(file));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A place for journals, with those of one object.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            let random = host::random_u64();
            let place = Self(std::env::temp_dir().join(format!("ringway-journals-{random:016x}")));
            place.make();
            place
        }

        fn journals(&self) -> PathBuf {
            self.0.join("q")
        }

        fn make(&self) {
            let id = SegmentId { epoch: 1, index: 0 };
            fs::create_dir_all(self.journals()).unwrap();
            fs::write(self.journals().join(id.name()), b"a segment").unwrap();
        }

        fn lock(&self) -> File {
            let locked = lock(&self.journals(), || false, |_, _| ());
            locked.unwrap().unwrap()
        }

        fn names(&self) -> Vec<String> {
            files::names(&self.0).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn journals_that_are_another_objects_when_they_are_moved_go_back() {
        let place = Place::new();
        let (journals, locked) = (place.journals(), place.lock());
        let is_not = |there: &Path| {
            assert!(is_journal(there).unwrap() && !journals.exists());
            Ok(false)
        };
        assert!(!remove_locked(&journals, &locked, is_not).unwrap());
        assert!(is_journal(&journals).unwrap(), "{:?}", place.names());
        // Who can't say does not remove.
        let unknown = |_: &Path| Err(io::Error::other("nobody can say"));
        assert!(remove_locked(&journals, &locked, unknown).is_err());
        assert!(is_journal(&journals).unwrap(), "{:?}", place.names());
        assert!(remove_locked(&journals, &locked, |_| Ok(true)).unwrap());
        assert_eq!(place.names(), [""; 0]);
    }

    #[test]
    fn a_remover_whose_journals_others_have_removed_leaves_their_successors_alone() {
        let place = Place::new();
        let locked = place.lock();
        // Others did not wait for him, and made an object of that name again.
        fs::remove_dir_all(place.journals()).unwrap();
        place.make();
        assert!(!remove_locked(&place.journals(), &locked, |_| Ok(true)).unwrap());
        assert!(
            is_journal(&place.journals()).unwrap(),
            "{:?}",
            place.names()
        );
        assert_eq!(place.names(), ["q"]);
    }

    #[test]
    fn journals_of_an_object_that_is_made_again_before_they_are_moved_stay() {
        let place = Place::new();
        let object = place.0.join("object");
        let _held = place.lock();
        let locked = files::open_or_create(&place.journals().join(LOCK_FILE)).unwrap();
        fs::write(&object, b"made again").unwrap();
        let removed = remove_locked(&place.journals(), &locked, |_| files::is_gone(&object));
        assert!(!removed.unwrap());
        assert!(
            is_journal(&place.journals()).unwrap(),
            "{:?}",
            place.names()
        );
    }

    #[test]
    fn journals_whose_place_is_taken_when_they_are_to_go_back_are_kept_and_named() {
        let place = Place::new();
        let locked = place.lock();
        let taken = |_: &Path| {
            fs::create_dir(place.journals())?;
            Ok(false)
        };
        let told = remove_locked(&place.journals(), &locked, taken).unwrap_err();
        let mut names = place.names();
        names.sort();
        let kept = names[0].strip_prefix(KEPT).map(|_| &*names[0]).unwrap();
        assert!(told.to_string().contains(kept), "{told}");
        assert!(is_journal(&place.0.join(kept)).unwrap(), "{names:?}");
        assert_eq!(names[1..], ["q"]);
    }

    #[test]
    fn a_part_is_known_by_its_name_and_nothing_else_is() {
        assert!(is_part(&part_name(0x1F, 12)));
        for other in ["1f-12", "copy", "000000000000001f-012", "lock", "-"] {
            assert!(!is_part(other), "{other}");
        }
    }
}
