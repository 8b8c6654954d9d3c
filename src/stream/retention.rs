//! How long a stream on disk keeps its records, and changing that.

use super::Stream;
use super::definition::Retention;
use crate::error::OpenError;
use crate::sync::Ordering;

impl Stream {
    /// How long records are kept (`RetentionPeriodHours`); `None` for a stream in memory, which keeps as
    /// many as it has slots, and in a forked child.
    pub fn retention(&self) -> Option<Retention> {
        let inner = &self.inner;
        (inner.is_on_disk() && !inner.words.is_forked())
            .then(|| Retention::of_words(inner.words.retention()))
    }

    /// Changes it, up or down (`IncreaseStreamRetentionPeriod`, `DecreaseStreamRetentionPeriod`): readers
    /// go by it at once, in every process, and segments that are over are given back before this returns.
    /// What was given back does not come back. Blocks for the disk. May be called by any thread at any
    /// time; after a fork it returns `Forked`.
    ///
    /// # Errors
    /// [`OpenError::InvalidOption`] for less than 24 h, more than 365 days, or a stream in memory; the disk.
    pub fn set_retention(&self, retention: Retention) -> Result<(), OpenError> {
        retention.check()?;
        self.set_retention_unchecked(retention)
    }

    /// The same, however short: for tests, which can't wait for a day.
    #[doc(hidden)]
    pub fn set_retention_unchecked(&self, retention: Retention) -> Result<(), OpenError> {
        let inner = &self.inner;
        inner.check()?;
        if !inner.is_on_disk() {
            return Err(OpenError::InvalidOption {
                option: "retention",
                given: format!("{:?}", retention.age),
                rule: "of a stream on disk; one in memory keeps as many records as it has slots"
                    .to_owned(),
            });
        }
        let (age_ms, bytes) = retention.words();
        // Settings, each by itself; the fences of the writes below come behind both.
        inner.words.retention_ms().store(age_ms, Ordering::Relaxed);
        inner
            .words
            .retention_bytes()
            .store(bytes, Ordering::Relaxed);
        // In this order: on a full disk it makes room for what is written next.
        let given_back = inner.give_segments_back();
        inner.write_table()?;
        given_back
    }

    /// Bytes of its journals on the disk, segments that wait to be used among them; 0 in memory.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn disk_bytes(&self) -> Result<u64, OpenError> {
        self.inner.check()?;
        self.inner.disk_bytes()
    }

    /// Gives back what the retention has ended of: whoever writes does so, and this is for a stream that
    /// nobody puts to. Blocks for the disk.
    ///
    /// # Errors
    /// As [`shards`](Self::shards); the disk.
    pub fn give_segments_back(&self) -> Result<(), OpenError> {
        self.inner.check()?;
        self.inner.give_segments_back()
    }
}
