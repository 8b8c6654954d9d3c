//! An object event as S3 says it: "Event message structure", version 2.1, one record a message.
//!
//! What a file system does not have is left out of it (`userIdentity`, request ids, version ids) or said of this
//! host: the region is `local`, the entity tag changes with the file, without a look at its bytes.

use super::tree::{Change, State};
use serde_json::{Value, json};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What objects events are about.
pub struct Bucket {
    pub name: String,
    /// Of the last event (`sequencer`); they rise, over restarts too, as long as the clock does.
    sequencer: u64,
}

/// One event.
pub struct ObjectEvent {
    /// `ObjectCreated:Put` or `ObjectRemoved:Delete`.
    pub name: &'static str,
    /// The path below the directory, as it is.
    pub key: String,
    pub sequencer: String,
    pub json: Value,
}

impl Bucket {
    pub fn new(name: String) -> Self {
        Self { name, sequencer: 0 }
    }

    pub fn event(&mut self, change: &Change) -> ObjectEvent {
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let nanoseconds = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.sequencer = nanoseconds.max(self.sequencer + 1);
        let sequencer = format!("{:016X}", self.sequencer);
        let (name, path, state) = match change {
            Change::Created(path, state) => ("ObjectCreated:Put", path, Some(state)),
            Change::Removed(path) => ("ObjectRemoved:Delete", path, None),
        };
        let mut object = json!({"key": encoded(path), "sequencer": sequencer});
        if let Some(state) = state {
            object["size"] = state.size.into();
            object["eTag"] = tag(state).into();
        }
        let json = json!({"Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "local",
            "eventTime": humantime::format_rfc3339_millis(now).to_string(),
            "eventName": name,
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "ringway-watch",
                "bucket": {
                    "name": self.name,
                    "arn": format!("arn:aws:s3:::{}", self.name),
                },
                "object": object,
            },
        }]});
        ObjectEvent {
            name,
            key: path.to_string_lossy().into_owned(),
            sequencer,
            json,
        }
    }
}

fn tag(state: &State) -> String {
    format!("{:x}-{:x}-{:x}", state.inode, state.size, state.modified_ns)
}

/// As a form encodes it, but for `/`: so S3 says keys.
fn encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'*' => {
                text.push(*byte as char);
            }
            b' ' => text.push('+'),
            other => {
                let _ = write!(text, "%{other:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_said_as_a_form_says_them() {
        let said = encoded(Path::new("images/red flower ü+.jpg"));
        assert_eq!(said, "images/red+flower+%C3%BC%2B.jpg");
    }

    #[test]
    fn a_later_event_has_the_greater_sequencer() {
        let mut bucket = Bucket::new("b".to_owned());
        let change = Change::Removed("x".into());
        let all: Vec<String> = (0..100).map(|_| bucket.event(&change).sequencer).collect();
        assert!(all.is_sorted_by(|a, b| a < b));
    }
}
