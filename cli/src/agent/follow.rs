//! One file that is followed: which one it is, how far it was put, and what it has for the next batch.
//!
//! ```text
//! identity   device, inode, and the hash of its first bytes: an inode that is given again is another file,
//!            and one whose first bytes changed was truncated and written anew
//! offset     everything before was put and acknowledged; the checkpoint says so
//! buffer     what was read from there on and not acknowledged
//! ```
//! FOLLOWED: its path is its own. DRAINED: it was rotated away, or is the copy that a rotation left; it is read
//! to its end, and left when it has not grown for the linger, the piece behind its last newline included.

use anyhow::Context;
use regex::bytes::Regex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes that tell one file from another.
const HEAD_BYTES: usize = 1024;
/// Read at a time.
const CHUNK: usize = 256 << 10;
/// A rotated file is left when it has not grown for so long: whoever has it open may still write.
pub const LINGER: Duration = Duration::from_secs(5);

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    pub device: u64,
    pub inode: u64,
}

impl Id {
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Of whatever has that path now.
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path)
            .ok()
            .map(|metadata| Self::of(&metadata))
    }
}

/// The first bytes of a file, as a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub bytes: usize,
    pub hash: String,
}

impl Head {
    /// Of the first `bytes` of `file`; `None` if it has fewer.
    pub fn of(file: &File, bytes: usize) -> std::io::Result<Option<Self>> {
        let mut head = vec![0; bytes];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let digest = Sha256::digest(&head);
        let hash = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Some(Self { bytes, hash }))
    }

    /// Whether `file` still begins so.
    pub fn is_of(&self, file: &File) -> std::io::Result<bool> {
        Ok(self.bytes == 0 || Self::of(file, self.bytes)?.as_ref() == Some(self))
    }
}

/// How bytes become records.
pub struct Cut {
    /// A record begins with a line that this matches; else each line is one.
    pub start: Option<Regex>,
    /// A record that no other follows is whole when nothing came for so long.
    pub patience: Duration,
    /// A longer one is cut.
    pub max_bytes: usize,
    /// The first line of each file says what its columns are called, and is no record.
    pub has_header: bool,
}

/// A record in the buffer, and where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub data: core::ops::Range<usize>,
    pub end: usize,
}

pub struct Follow {
    pub path: PathBuf,
    pub id: Id,
    pub offset: u64,
    pub head: Head,
    pub header: Option<Vec<u8>>,
    pub drained: bool,
    file: File,
    buffer: Vec<u8>,
    grown_at: Instant,
}

/// What a look at a file found.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Bytes were read.
    Grew,
    /// It has no more than was read.
    Same,
    /// It was truncated, and perhaps written anew.
    Truncated,
}

impl Follow {
    /// From `offset` on, if the file begins as `head` says.
    pub fn open(path: &Path, offset: u64, head: Head) -> anyhow::Result<Option<Self>> {
        let say = || format!("can't read {}", path.display());
        let file = File::open(path).with_context(say)?;
        let metadata = file.metadata().with_context(say)?;
        if !metadata.is_file() || !head.is_of(&file).with_context(say)? {
            return Ok(None);
        }
        Ok(Some(Self {
            path: path.to_owned(),
            id: Id::of(&metadata),
            offset,
            head,
            header: None,
            drained: false,
            file,
            buffer: Vec::new(),
            grown_at: Instant::now(),
        }))
    }

    /// The next bytes.
    pub fn look(&mut self) -> std::io::Result<Look> {
        let size = self.file.metadata()?.len();
        let read_to = self.offset + self.buffer.len() as u64;
        if size < read_to || !self.head.is_of(&self.file)? {
            return Ok(Look::Truncated);
        }
        if size == read_to {
            return Ok(Look::Same);
        }
        let begin = self.buffer.len();
        self.buffer
            .resize(begin + CHUNK.min((size - read_to) as usize), 0);
        let read = self.file.read_at(&mut self.buffer[begin..], read_to);
        self.buffer.truncate(begin + *read.as_ref().unwrap_or(&0));
        read?;
        self.grown_at = Instant::now();
        if self.head.bytes < HEAD_BYTES {
            let bytes = HEAD_BYTES.min(read_to as usize + self.buffer.len() - begin);
            if let Some(head) = Head::of(&self.file, bytes)? {
                self.head = head;
            }
        }
        Ok(Look::Grew)
    }

    /// How many bytes there are behind what was acknowledged.
    pub fn behind(&self) -> u64 {
        let size = self.file.metadata().map_or(0, |metadata| metadata.len());
        size.saturating_sub(self.offset)
    }

    /// Whether everything was put, and nobody is expected to write more.
    pub fn is_over(&self, linger: Duration) -> bool {
        self.drained && self.buffer.is_empty() && self.grown_at.elapsed() >= linger
    }

    /// From the beginning again, of what the file is now.
    pub fn begin_anew(&mut self) {
        self.offset = 0;
        self.head = Head::default();
        self.header = None;
        self.buffer.clear();
        self.grown_at = Instant::now();
    }

    /// The bytes of a piece.
    pub fn bytes(&self, piece: &Piece) -> &[u8] {
        &self.buffer[piece.data.clone()]
    }

    /// Up to `most` records of what was read; the last one only if it is whole, or `all` says that nothing
    /// is to come.
    pub fn pieces(&mut self, cut: &Cut, most: usize, all: bool) -> anyhow::Result<Vec<Piece>> {
        if cut.has_header && self.header.is_none() {
            self.read_header()?;
            if self.header.is_none() {
                return Ok(Vec::new());
            }
        }
        let begin = match (&self.header, cut.has_header) {
            // The header line is in the buffer as long as nothing behind it was acknowledged.
            (Some(header), true) if self.offset == 0 => (header.len() + 1).min(self.buffer.len()),
            _ => 0,
        };
        let idle = self.grown_at.elapsed();
        let all = all || self.drained && idle >= LINGER;
        let rests = all || idle >= cut.patience;
        if all && begin == self.buffer.len() {
            self.acknowledge(begin); // the first line, and nothing behind it
        }
        Ok(pieces(&self.buffer, begin, cut, most, all, rests))
    }

    /// Everything before `end` of the buffer was acknowledged.
    pub fn acknowledge(&mut self, end: usize) {
        self.buffer.drain(..end);
        self.offset += end as u64;
    }

    fn read_header(&mut self) -> std::io::Result<()> {
        let mut first = vec![0; CHUNK];
        let read = self.file.read_at(&mut first, 0)?;
        let line = first[..read].iter().position(|byte| *byte == b'\n');
        self.header = line.map(|end| first[..end].to_vec());
        Ok(())
    }
}

/// Cuts `buffer` from `begin` on into records. `all`: the piece behind the last newline is one too. `rests`:
/// nothing has come for a while, so the last record of several lines is whole.
fn pieces(
    buffer: &[u8],
    begin: usize,
    cut: &Cut,
    most: usize,
    all: bool,
    rests: bool,
) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = begin;
    let mut open: Option<Piece> = None;
    while pieces.len() < most && at < buffer.len() {
        let newline = buffer[at..].iter().position(|byte| *byte == b'\n');
        let (line_end, next) = match newline {
            Some(length) => (at + length, at + length + 1),
            None if all => (buffer.len(), buffer.len()),
            None if buffer.len() - at >= cut.max_bytes => (at + cut.max_bytes, at + cut.max_bytes),
            None => break,
        };
        let (line_end, next) = match line_end - at > cut.max_bytes {
            true => (at + cut.max_bytes, at + cut.max_bytes),
            false => (line_end, next),
        };
        let line = Piece {
            data: at..line_end,
            end: next,
        };
        at = next;
        let Some(start) = &cut.start else {
            pieces.push(line);
            continue;
        };
        let begins = start.is_match(&buffer[line.data.clone()]);
        match &mut open {
            Some(record) if !begins && line.end - record.data.start <= cut.max_bytes => {
                record.data.end = line.data.end;
                record.end = line.end;
            }
            _ => pieces.extend(open.replace(line)),
        }
    }
    let is_last = at >= buffer.len() || !buffer[at..].contains(&b'\n');
    if is_last && (all || rests) && pieces.len() < most {
        pieces.extend(open);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(start: Option<&str>, max_bytes: usize) -> Cut {
        Cut {
            start: start.map(|start| Regex::new(start).unwrap()),
            patience: Duration::ZERO,
            max_bytes,
            has_header: false,
        }
    }

    fn texts(text: &str, cut: &Cut, most: usize, all: bool, rests: bool) -> (Vec<String>, usize) {
        let pieces = pieces(text.as_bytes(), 0, cut, most, all, rests);
        let end = pieces.last().map_or(0, |piece| piece.end);
        let text = |piece: &Piece| text[piece.data.clone()].to_owned();
        (pieces.iter().map(text).collect(), end)
    }

    #[test]
    fn a_line_is_a_record_when_its_newline_is_there() {
        let by_line = cut(None, 100);
        let (records, end) = texts("a\n\nbc\nd", &by_line, 9, false, true);
        assert_eq!(
            (records, end),
            (vec!["a".into(), "".into(), "bc".into()], 6)
        );
        assert_eq!(texts("a\nb\nc\n", &by_line, 2, false, false).1, 4);
        assert_eq!(
            texts("a\nd", &by_line, 9, true, true),
            (vec!["a".into(), "d".into()], 3)
        );
    }

    #[test]
    fn a_record_of_several_lines_ends_where_the_next_begins_or_nothing_comes() {
        let by_start = cut(Some("^[0-9]"), 100);
        let text = "tail of one\n1 a\n  b\n2 c\n  d\n";
        let whole = vec!["tail of one".to_owned(), "1 a\n  b".to_owned()];
        assert_eq!(texts(text, &by_start, 9, false, false), (whole.clone(), 20));
        let (records, end) = texts(text, &by_start, 9, false, true);
        assert_eq!((records.len(), end), (3, text.len()));
        assert_eq!(records[2], "2 c\n  d");
        // A batch that is full leaves it for the next one.
        assert_eq!(texts(text, &by_start, 2, false, true), (whole, 20));
        // Half a line behind it may still be its own.
        assert_eq!(texts("1 a\n  b", &by_start, 9, false, false).0.len(), 0);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let by_line = cut(None, 4);
        let (records, end) = texts("abcdefghij\nk\n", &by_line, 9, false, false);
        assert_eq!(records, ["abcd", "efgh", "ij", "k"]);
        assert_eq!(end, 13);
        assert_eq!(
            texts("abcdef", &by_line, 9, false, false),
            (vec!["abcd".into()], 4)
        );
    }
}
