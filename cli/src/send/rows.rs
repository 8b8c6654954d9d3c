//! One message per row of a CSV file: the row's bytes exactly as they stand there, or one column.
//!
//! The csv crate finds where a row ends; the bytes between two ends are kept beside it, so that quotes,
//! empty fields and line breaks inside of quotes stay what they are. The line break that ends a row,
//! blank lines, and the header row are no part of any body.

use super::batch::unsent;
use super::said::Typed;
use super::{Item, Source};
use crate::find;
use crate::output::{Usage, parse_duration};
use anyhow::{Context, anyhow};
use csv::{ByteRecord, ErrorKind};
use ringway::Attributes;
use std::io::Read;

/// Which column is what.
#[derive(clap::Args)]
pub struct Columns {
    /// With --csv: the body is this column's value
    #[arg(long, value_name = "COLUMN")]
    body_column: Option<String>,
    /// With --csv: this column's value is the row's message group
    #[arg(long, value_name = "COLUMN")]
    group_column: Option<String>,
    /// With --csv: this column's value is the row's deduplication id
    #[arg(long, value_name = "COLUMN")]
    dedup_column: Option<String>,
    /// With --csv: this column's value, unless it is empty, says when the row's message becomes visible
    #[arg(long, value_name = "COLUMN")]
    delay_column: Option<String>,
    /// With --csv: this column's value, unless it is empty, is an attribute of the column's name; may
    /// be repeated
    #[arg(long = "attribute-column", value_name = "COLUMN[:TYPE]", value_parser = Typed::parse)]
    attribute_columns: Vec<Typed>,
    /// With --csv: what stands between two columns [default: ,]
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<char>,
}

impl Columns {
    /// Rows whose group is the value of one column.
    pub fn keyed_by(key: &str, body: Option<&str>, delimiter: Option<char>) -> Self {
        Self {
            body_column: body.map(str::to_owned),
            group_column: Some(key.to_owned()),
            dedup_column: None,
            delay_column: None,
            attribute_columns: Vec::new(),
            delimiter,
        }
    }

    /// Whether rows say their group.
    pub fn has_group(&self) -> bool {
        self.group_column.is_some()
    }

    /// Whether rows say their id.
    pub fn has_dedup_id(&self) -> bool {
        self.dedup_column.is_some()
    }

    /// Refuses column flags without a file that has columns.
    pub fn check(&self, has_csv: bool) -> Result<(), Usage> {
        let given = [
            ("--body-column", self.body_column.is_some()),
            ("--group-column", self.group_column.is_some()),
            ("--dedup-column", self.dedup_column.is_some()),
            ("--delay-column", self.delay_column.is_some()),
            ("--attribute-column", !self.attribute_columns.is_empty()),
            ("--delimiter", self.delimiter.is_some()),
        ];
        match given.iter().find(|(_, given)| *given && !has_csv) {
            Some((flag, _)) => Err(Usage(format!("{flag} needs --csv FILE"))),
            None => Ok(()),
        }
    }
}

/// Keeps what passes until it is taken.
struct Kept<R> {
    input: R,
    bytes: Vec<u8>,
    /// Of the file, what `bytes` begins with.
    from: u64,
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

impl<R> Kept<R> {
    /// The bytes up to `to` of the file that were not taken yet.
    fn take(&mut self, to: u64) -> Vec<u8> {
        let count = usize::try_from(to - self.from).unwrap_or(usize::MAX);
        self.from = to;
        self.bytes.drain(..count.min(self.bytes.len())).collect()
    }
}

pub struct Rows {
    reader: csv::Reader<Kept<Box<dyn Read>>>,
    record: ByteRecord,
    /// Of the next byte that is taken: the csv crate's own count is one too low behind a CR LF.
    line: u64,
    body: Option<usize>,
    group: Option<usize>,
    dedup_id: Option<usize>,
    delay: Option<usize>,
    attributes: Vec<(usize, Typed)>,
    /// Of every message.
    base: Attributes,
}

impl Rows {
    pub fn new(input: Box<dyn Read>, columns: &Columns, base: &Attributes) -> anyhow::Result<Self> {
        let delimiter = columns.delimiter.unwrap_or(',');
        let delimiter = u8::try_from(delimiter)
            .ok()
            .filter(u8::is_ascii)
            .ok_or_else(|| Usage(format!("the delimiter {delimiter:?} is not one ASCII byte")))?;
        let kept = Kept {
            input,
            bytes: Vec::new(),
            from: 0,
        };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .buffer_capacity(1 << 16)
            .from_reader(kept);
        let header = reader.byte_headers().context("can't read the header row")?;
        let header = header.clone();
        let to = reader.position().byte();
        let line = 1 + breaks(&reader.get_mut().take(to));
        let find = |name: &Option<String>| {
            let name = name.as_deref();
            name.map(|name| column(&header, name)).transpose()
        };
        let attributes = columns.attribute_columns.iter();
        let attributes = attributes.map(|typed| Ok((column(&header, &typed.name)?, typed.clone())));
        let attributes: Result<_, Usage> = attributes.collect();
        Ok(Self {
            reader,
            record: ByteRecord::new(),
            line,
            body: find(&columns.body_column)?,
            group: find(&columns.group_column)?,
            dedup_id: find(&columns.dedup_column)?,
            delay: find(&columns.delay_column)?,
            attributes: attributes?,
            base: base.clone(),
        })
    }

    /// The value of a column as text; `None` where it is empty.
    fn text(&self, column: usize) -> anyhow::Result<Option<&str>> {
        let value = std::str::from_utf8(&self.record[column]);
        let value = value.with_context(|| format!("its column {} is no UTF-8", column + 1))?;
        Ok((!value.is_empty()).then_some(value))
    }

    /// The message of the row that was read.
    fn item(&self, line: u64, row: &[u8]) -> anyhow::Result<Item> {
        let text = |column: Option<usize>| match column {
            Some(column) => self.text(column),
            None => Ok(None),
        };
        let mut attributes = None;
        for (column, typed) in &self.attributes {
            if let Some(value) = self.text(*column)? {
                let attributes = attributes.get_or_insert_with(|| self.base.clone());
                typed.add(attributes, value)?;
            }
        }
        Ok(Item {
            line: Some(line),
            body: match self.body {
                Some(column) => self.record[column].to_vec(),
                None => row.to_vec(),
            },
            group: text(self.group)?.map(str::to_owned),
            dedup_id: text(self.dedup_id)?.map(str::to_owned),
            delay: text(self.delay)?.map(parse_duration).transpose()?,
            attributes,
        })
    }
}

/// The index of the column `name`.
fn column(header: &ByteRecord, name: &str) -> Result<usize, Usage> {
    let found = header.iter().position(|title| title == name.as_bytes());
    found.ok_or_else(|| {
        let titles = header.iter().map(|title| String::from_utf8_lossy(title));
        let titles: Vec<String> = titles.map(|title| title.into_owned()).collect();
        Usage(format!(
            "the header row has no column {name:?}{}",
            find::near(name, &titles)
        ))
    })
}

/// The blank lines in front of a row, and the row without the break that ends it.
fn trimmed(raw: &[u8]) -> (&[u8], &[u8]) {
    let start = raw.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let (blank, row) = raw.split_at(start.unwrap_or(raw.len()));
    let ends = [&b"\r\n"[..], b"\n", b"\r"];
    let row = ends.iter().find_map(|end| row.strip_suffix(*end));
    (blank, row.unwrap_or(&raw[blank.len()..]))
}

/// Line breaks in `bytes`.
fn breaks(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl Source for Rows {
    fn next(&mut self) -> anyhow::Result<Option<Item>> {
        let read = self.reader.read_byte_record(&mut self.record);
        let to = self.reader.position().byte();
        let raw = self.reader.get_mut().take(to);
        let (blank, row) = trimmed(&raw);
        let line = self.line + breaks(blank);
        self.line += breaks(&raw);
        match read {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                let error = match error.kind() {
                    ErrorKind::UnequalLengths {
                        expected_len, len, ..
                    } => anyhow!("it has {len} columns, the header row has {expected_len}"),
                    _ => error.into(),
                };
                return Err(unsent(line, error));
            }
        }
        let item = self.item(line, row);
        item.map(Some).map_err(|error| unsent(line, error))
    }

    fn may_block(&self) -> bool {
        !self.reader.get_ref().bytes.contains(&b'\n')
    }

    fn bytes(&self) -> u64 {
        self.reader.position().byte()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Columns = Columns {
        body_column: None,
        group_column: None,
        dedup_column: None,
        delay_column: None,
        attribute_columns: Vec::new(),
        delimiter: None,
    };

    fn bodies(input: &'static [u8], columns: &Columns) -> anyhow::Result<Vec<(u64, Vec<u8>)>> {
        let mut rows = Rows::new(Box::new(input), columns, &Attributes::new())?;
        let mut found = Vec::new();
        while let Some(item) = rows.next()? {
            found.push((item.line.unwrap(), item.body));
        }
        Ok(found)
    }

    #[test]
    fn a_row_is_its_bytes_as_they_stand_there() {
        let input = b"id,what,n\r\n1,\"a \"\"b\"\",\nc\",\r\n\n,,\n\"\",x,\xff\r\n3,\"\",end";
        let found = bodies(input, &PLAIN).unwrap();
        let expected: [(u64, &[u8]); 4] = [
            (2, b"1,\"a \"\"b\"\",\nc\","),
            (5, b",,"),
            (6, b"\"\",x,\xff"),
            (7, b"3,\"\",end"),
        ];
        assert_eq!(found.len(), expected.len());
        for ((line, body), (wanted_line, wanted)) in found.iter().zip(expected) {
            assert_eq!(
                (String::from_utf8_lossy(body), line),
                (String::from_utf8_lossy(wanted), &wanted_line)
            );
        }
    }

    #[test]
    fn a_mark_of_byte_order_belongs_to_no_row() {
        let found = bodies(b"\xef\xbb\xbfid,n\n1,2\n3,4\n", &PLAIN).unwrap();
        assert_eq!(found, [(2, b"1,2".to_vec()), (3, b"3,4".to_vec())]);
    }

    #[test]
    fn a_column_is_its_value_without_quotes() {
        let columns = Columns {
            body_column: Some("what".into()),
            delimiter: Some(';'),
            ..PLAIN
        };
        let found = bodies(b"id;what\n1;\"a;\"\"b\"\"\"\n2;\n", &columns).unwrap();
        assert_eq!(found, [(2, b"a;\"b\"".to_vec()), (3, Vec::new())]);
    }

    #[test]
    fn a_missing_column_and_a_short_row_are_named() {
        let columns = Columns {
            body_column: Some("waht".into()),
            ..PLAIN
        };
        let error = bodies(b"id,what\n", &columns).unwrap_err().to_string();
        assert!(error.contains("did you mean what?"), "{error}");
        let error = bodies(b"id,what\n1,2\n3\n", &PLAIN).unwrap_err();
        let told = "line 3 was not sent, nor any behind it: it has 1 columns, the header row has 2";
        assert_eq!(format!("{error:#}"), told);
    }
}
