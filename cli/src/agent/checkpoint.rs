//! The checkpoint of an agent: of each file how far it was put.
//!
//! Written behind each batch that was acknowledged, under another name and renamed: whoever reads it finds
//! one or the other. What an agent had put and not written down when it was killed is put again: one batch of
//! one file. A lock beside it keeps a second agent away, and goes with its process.

use super::follow::{Head, Id};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    pub offset: u64,
    pub head_bytes: usize,
    pub head: String,
    /// It was rotated away, and is read to its end.
    pub drained: bool,
}

impl Place {
    pub fn id(&self) -> Id {
        Id {
            device: self.device,
            inode: self.inode,
        }
    }

    pub fn head(&self) -> Head {
        Head {
            bytes: self.head_bytes,
            hash: self.head.clone(),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    bus: String,
    stream: String,
    files: Vec<Place>,
}

/// The file, and the lock beside it.
pub struct Checkpoint {
    path: PathBuf,
    bus: String,
    stream: String,
    _lock: File,
}

impl Checkpoint {
    /// Locks it, and reads what stands there.
    pub fn open(path: &Path, bus: &str, stream: &str) -> anyhow::Result<(Self, Vec<Place>)> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if let Some(directory) = directory {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("can't make {}", directory.display()))?;
        }
        let at = beside(path, ".lock");
        let lock = File::create(&at).with_context(|| format!("can't make {}", at.display()))?;
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if rustix::fs::flock(&lock, exclusive).is_err() {
            bail!(
                "another agent runs with {}; end it, or give this one another --checkpoint",
                path.display()
            );
        }
        let places = match std::fs::read(path) {
            Ok(bytes) => {
                let say = || {
                    format!(
                        "{} is no checkpoint of an agent; move it away",
                        path.display()
                    )
                };
                let document: Document = serde_json::from_slice(&bytes).with_context(say)?;
                if document.version != VERSION {
                    bail!(
                        "{} is of version {}, not {VERSION}",
                        path.display(),
                        document.version
                    );
                }
                if (document.bus.as_str(), document.stream.as_str()) != (bus, stream) {
                    bail!(
                        "{} is of stream {:?} on bus {:?}; give this agent another --checkpoint",
                        path.display(),
                        document.stream,
                        document.bus
                    );
                }
                document.files
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("can't read {}", path.display()));
            }
        };
        let checkpoint = Self {
            path: path.to_owned(),
            bus: bus.to_owned(),
            stream: stream.to_owned(),
            _lock: lock,
        };
        Ok((checkpoint, places))
    }

    /// Replaces what stands there.
    pub fn write(&self, files: Vec<Place>) -> anyhow::Result<()> {
        let document = Document {
            version: VERSION,
            bus: self.bus.clone(),
            stream: self.stream.clone(),
            files,
        };
        let new = beside(&self.path, ".new");
        let bytes = serde_json::to_vec(&document)?;
        std::fs::write(&new, bytes)
            .and_then(|()| std::fs::rename(&new, &self.path))
            .with_context(|| format!("can't write the checkpoint {}", self.path.display()))
    }
}

/// The same path with something behind.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
