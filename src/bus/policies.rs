//! Policies of queues: which topics may deliver to them.
//!
//! A policy is a file beside the topics, `.policy-QUEUE-ID`, written whole and put in the place of the one before.
//! Behind that a word of the bus file is raised; whoever hands messages on compares it before each delivery,
//! and reads the policies of the queues that he has open again when it was. Dying between the two leaves a policy
//! that counts for who opens the queue from then on: to set it had not returned. One of a queue that is gone
//! carries an id that no queue has any more. What can't be read as a policy allows nothing.

use super::attachment::{Attachment, Bus};
use super::name;
use crate::error::{OpenError, QueuePolicyError};
use crate::layout::Preamble;
use crate::layout::queue::MAGIC;
use crate::sync::Ordering;
use crate::sys::file;
use crate::sys::host;
use crate::topic::{Gate, MAX_POLICY_BYTES, QueuePolicy, Source, part_of, topic_part};
use std::io;
use std::path::PathBuf;

/// What the names of policies begin with.
const PREFIX: &str = ".policy-";

impl Bus {
    /// Says which topics may deliver to a queue (`Policy`), in the language of AWS, or with `None` that all may.
    /// What a topic may not deliver goes to the dead-letter queue of its subscription, which has to allow it,
    /// or is counted as failed. Counts for every process from the next delivery on. In memory: behind a restart
    /// of the machine a durable queue has none.
    ///
    /// # Errors
    /// [`QueuePolicyError::Invalid`] says what is wrong with the policy; `Open` when there is no such queue.
    pub fn set_queue_policy(
        &self,
        queue: &str,
        policy: Option<&str>,
    ) -> Result<(), QueuePolicyError> {
        self.inner.check_fork()?;
        let path = self.inner.policy_path(queue)?;
        match policy {
            // Where there is none, somebody may have died behind taking it away, and nobody knows of that.
            None => match file::remove(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|error| OpenError::io(&path, error))?,
            },
            Some(text) => {
                QueuePolicy::parse(text).map_err(|reason| QueuePolicyError::Invalid { reason })?;
                self.inner.write_policy(&path, text)?;
            }
        }
        // Release: who finds it raised finds the file.
        let word = self.inner.registry.policies();
        word.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The policy of a queue, if it has one.
    ///
    /// # Errors
    /// `Open` when there is no such queue, or the file can't be read.
    pub fn queue_policy(&self, queue: &str) -> Result<Option<String>, QueuePolicyError> {
        self.inner.check_fork()?;
        let path = self.inner.policy_path(queue)?;
        match file::read_small(&path, MAX_POLICY_BYTES) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OpenError::io(&path, error).into()),
        }
    }
}

impl Attachment {
    /// Where the policy of a queue lies that is there.
    fn policy_path(&self, queue: &str) -> Result<PathBuf, OpenError> {
        name::check(queue)?;
        let id = self.queue_id(queue)?;
        let file = format!("{PREFIX}{}", topic_part(queue, id));
        Ok(self.topics_site().directory.join(file))
    }

    fn queue_id(&self, queue: &str) -> Result<u64, OpenError> {
        let path = self.site.directory.join(queue);
        let preamble: Preamble =
            super::catalog::preamble(&path).map_err(|error| OpenError::io(&path, error))?;
        match preamble.magic {
            MAGIC => Ok(preamble.object_id),
            found => Err(OpenError::Foreign {
                path,
                expected: "queue",
                found,
            }),
        }
    }

    fn write_policy(&self, path: &std::path::Path, text: &str) -> Result<(), OpenError> {
        let site = self.topics_site();
        let at = |error| OpenError::io(path, error);
        match file::create_directory(&site.directory, site.access) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(error)),
            _ => {}
        }
        let temporary = format!("{}{:016x}", site.temporary_prefix, host::random_u64());
        let temporary = site.directory.join(temporary);
        file::write_temporary(&temporary, text.as_bytes(), site.access).map_err(at)?;
        file::replace(&temporary, path).map_err(|error| {
            let _ = file::remove(&temporary);
            at(error)
        })
    }

    /// Policies of queues that are gone.
    pub(super) fn orphan_policies(&self, heal: bool) -> u64 {
        let directory = &self.topics_site().directory;
        let mut orphans = 0;
        for file in file::names(directory).unwrap_or_default() {
            let Some((queue, id)) = file.strip_prefix(PREFIX).and_then(part_of) else {
                continue;
            };
            let is_gone = match self.queue_id(queue) {
                Ok(found) => found != id,
                Err(OpenError::NotFound { .. } | OpenError::Foreign { .. }) => true,
                Err(_) => false,
            };
            if is_gone {
                orphans += 1;
                if heal {
                    let _ = file::remove(&directory.join(&file));
                }
            }
        }
        orphans
    }
}

impl Gate for Attachment {
    fn policies(&self) -> u64 {
        self.registry.policies().load(Ordering::Acquire)
    }

    fn admits(&self, queue: &str, id: u64, bus: &str, topic: &str) -> Option<bool> {
        let file = format!("{PREFIX}{}", topic_part(queue, id));
        let path = self.topics_site().directory.join(file);
        let text = match file::read_small(&path, MAX_POLICY_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(true),
            // No descriptor, no memory, no right to, a disk that fails: that says nothing of what it says.
            Err(error) if error.raw_os_error().is_some() => return None,
            read => read.ok().and_then(|bytes| String::from_utf8(bytes).ok()),
        };
        let source = Source {
            bus,
            topic,
            is_neighbour: bus == self.name,
        };
        let policy = text.and_then(|text| QueuePolicy::parse(&text).ok());
        Some(policy.is_some_and(|policy| policy.allows(queue, &source)))
    }
}
