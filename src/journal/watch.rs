//! Who is asked before, and told behind, every call that is made to a disk: a test that records a real run, to
//! play back what the power would have left of it, or that lets a call fail.
//!
//! Nobody is, unless somebody says so for a directory; then whoever opens that in this process asks him.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A call. Files are known by their inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// The directory is listed.
    Names,
    /// A file of zeros is made.
    Create {
        name: &'a str,
        bytes: u64,
        file: u64,
    },
    /// A file is opened.
    Open { name: &'a str },
    /// A file gets another name.
    Rename { from: &'a str, to: &'a str },
    /// A name is taken away.
    Remove { name: &'a str },
    /// Names become durable.
    SyncDirectory,
    /// Writes are set up.
    Lane,
    /// The length of a file is asked for.
    Length,
    /// A file is read.
    Read,
    /// A file becomes durable.
    Sync,
    /// A file is written to, durably when this is over.
    Write {
        file: u64,
        offset: u64,
        bytes: &'a [u8],
    },
    /// A write from a buffer of a lane begins.
    Submit {
        file: u64,
        buffer: usize,
        offset: u64,
        bytes: &'a [u8],
    },
    /// It is over.
    Complete { buffer: usize },
}

/// See the module. Called by whoever makes the call, in the midst of it: it must not make one.
pub trait Watch: Send + Sync {
    /// An error is what the call says, and it is not made. The inode of a file that is created is 0 yet.
    fn before(&self, call: Call<'_>) -> io::Result<()>;
    /// The call did what it was to do.
    fn behind(&self, call: Call<'_>);
}

/// Ends with it.
#[must_use = "the watch ends with it"]
#[derive(Debug)]
pub struct Watching(PathBuf);

type Watches = Vec<(PathBuf, Arc<dyn Watch>)>;

static WATCHES: RwLock<Watches> = RwLock::new(Vec::new());
/// How many there are: nobody takes the lock while there is none.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Has `watch` asked about every call to `directory`, from the next time on that it is opened.
pub fn watch(directory: &Path, watch: Arc<dyn Watch>) -> Watching {
    let mut watches = WATCHES.write().unwrap_or_else(PoisonError::into_inner);
    watches.push((directory.to_owned(), watch));
    // Relaxed: whoever opens the directory later is told so by other means.
    COUNT.store(watches.len(), Ordering::Relaxed);
    Watching(directory.to_owned())
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watches = WATCHES.write().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|(directory, _)| *directory != self.0);
        COUNT.store(watches.len(), Ordering::Relaxed);
    }
}

/// Whoever watches that directory.
#[derive(Clone, Default)]
pub(super) struct Watcher(Option<Arc<dyn Watch>>);

impl Watcher {
    pub fn of(directory: &Path) -> Self {
        if COUNT.load(Ordering::Relaxed) == 0 {
            return Self(None);
        }
        let watches = WATCHES.read().unwrap_or_else(PoisonError::into_inner);
        let found = watches.iter().find(|(watched, _)| watched == directory);
        Self(found.map(|(_, watch)| Arc::clone(watch)))
    }

    /// Whether there is one: the inode of a file is asked for only then.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    pub fn before(&self, call: Call<'_>) -> io::Result<()> {
        match &self.0 {
            Some(watch) => watch.before(call),
            None => Ok(()),
        }
    }

    pub fn behind(&self, call: Call<'_>) {
        if let Some(watch) = &self.0 {
            watch.behind(call);
        }
    }

    /// Makes a call between the two.
    pub fn around<T>(&self, call: Call<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.before(call)?;
        let made = make()?;
        self.behind(call);
        Ok(made)
    }
}

impl core::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Watcher").field(&self.is_there()).finish()
    }
}
