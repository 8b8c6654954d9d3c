//! Partition keys of lines: what a pattern finds, a column, the name of the file, or a number of their own.

use super::follow::Follow;
use crate::output::Usage;
use anyhow::Context;
use regex::bytes::Regex;

/// Most characters of a partition key.
const KEY_CHARS: usize = 256;

pub enum Key {
    Fixed(String),
    /// Group `key` of the pattern, or its first, or all of what it matches.
    Pattern(Regex),
    /// By its number, from 0 on.
    Column(usize, u8),
    /// By its name in the first line of each file.
    Named(String, u8),
    FileName,
    /// A number of its own each, so that they spread.
    Spread(u64),
}

impl Key {
    pub fn column(name: &str, delimiter: char) -> anyhow::Result<Self> {
        let delimiter = u8::try_from(delimiter)
            .map_err(|_| Usage(format!("the delimiter {delimiter:?} is not one byte")))?;
        Ok(match name.parse::<usize>() {
            Ok(0) => return Err(Usage("columns count from 1".to_owned()).into()),
            Ok(number) => Self::Column(number - 1, delimiter),
            Err(_) => Self::Named(name.to_owned(), delimiter),
        })
    }

    /// The key of a record; that of its file where it has none.
    pub fn of(&mut self, follow: &Follow, data: &[u8]) -> anyhow::Result<String> {
        let found = match self {
            Self::Fixed(key) => return Ok(key.clone()),
            Self::FileName => None,
            Self::Spread(next) => {
                *next += 1;
                return Ok(next.to_string());
            }
            Self::Pattern(pattern) => pattern.captures(data).and_then(|found| {
                let group = found.name("key").or(found.get(1)).or(found.get(0))?;
                Some(group.as_bytes().to_vec())
            }),
            Self::Column(column, delimiter) => field(data, *column, *delimiter)?,
            Self::Named(name, delimiter) => {
                let header = follow.header.as_deref().unwrap_or_default();
                let names = fields(header, *delimiter)?;
                let column = names.iter().position(|field| *field == name.as_bytes());
                let column = column.with_context(|| {
                    format!(
                        "{} has no column {name:?} in its first line",
                        follow.path.display()
                    )
                })?;
                field(data, column, *delimiter)?
            }
        };
        let found = found.filter(|found| !found.is_empty());
        let bytes = found.unwrap_or_else(|| {
            let name = follow.path.file_name().unwrap_or(follow.path.as_os_str());
            name.as_encoded_bytes().to_vec()
        });
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.chars().take(KEY_CHARS).collect())
    }

    /// Whether the first line of each file says what its columns are called.
    pub fn needs_header(&self) -> bool {
        matches!(self, Self::Named(..))
    }
}

fn fields(line: &[u8], delimiter: u8) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut reader = csv::ReaderBuilder::new();
    reader
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter);
    let mut record = csv::ByteRecord::new();
    reader.from_reader(line).read_byte_record(&mut record)?;
    Ok(record.iter().map(<[u8]>::to_vec).collect())
}

fn field(line: &[u8], column: usize, delimiter: u8) -> anyhow::Result<Option<Vec<u8>>> {
    let mut fields = fields(line, delimiter)?;
    Ok((column < fields.len()).then(|| fields.swap_remove(column)))
}
