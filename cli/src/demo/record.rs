//! What travels and what is written down: a message's body, and a consumer's record of a row.
//!
//! A consumer appends a record to a file of its own *before* it settles the row, so a row that was
//! settled is in a file, and one whose consumer was killed in between is in two. A record that is cut
//! short by the kill is no record.

use super::flights::{Flights, Row};
use crate::output::now_ns;
use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Bytes in front of the row, in a body.
const BODY_HEAD: usize = 24;
/// Bytes in front of the row, in a record.
const RECORD_HEAD: usize = 40;

/// The body of row `number`.
pub fn body(flights: &Flights, number: usize, into: &mut Vec<u8>) {
    let row = &flights.rows[number];
    into.clear();
    into.extend_from_slice(&(number as u64).to_le_bytes());
    into.extend_from_slice(&row.plane.to_le_bytes());
    into.extend_from_slice(&row.rank.to_le_bytes());
    into.extend_from_slice(&now_ns().to_le_bytes());
    into.extend_from_slice(row.text.as_bytes());
}

/// Those of several rows.
pub fn bodies(flights: &Flights, numbers: &[usize]) -> Vec<Vec<u8>> {
    let mut bodies = vec![Vec::new(); numbers.len()];
    for (number, into) in numbers.iter().zip(&mut bodies) {
        body(flights, *number, into);
    }
    bodies
}

/// Appends the record of a body that was received now.
pub fn record(body: &[u8], into: &mut Vec<u8>) -> anyhow::Result<()> {
    copy(0, body, into)
}

/// The same, of the copy for one of several places.
pub fn copy(copy: usize, body: &[u8], into: &mut Vec<u8>) -> anyhow::Result<()> {
    let (head, row) = body
        .split_first_chunk::<BODY_HEAD>()
        .context("a body that is too short to be a row")?;
    into.extend_from_slice(&now_ns().to_le_bytes());
    into.extend_from_slice(&head[..8]);
    into.extend_from_slice(&(copy as u64).to_le_bytes());
    into.extend_from_slice(&head[16..]);
    into.extend_from_slice(&(row.len() as u64).to_le_bytes());
    into.extend_from_slice(row);
    Ok(())
}

/// A record: when it was received and sent, its row's number and bytes, and for which place it was.
struct Record<'a> {
    received: u64,
    number: u64,
    copy: u64,
    sent: u64,
    row: &'a [u8],
}

fn split(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD>()?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[8 * at + byte]));
    let (row, rest) = rest.split_at_checked(usize::try_from(word(4)).ok()?)?;
    let [received, number, copy, sent] = [0, 1, 2, 3].map(word);
    Some((
        Record {
            received,
            number,
            copy,
            sent,
            row,
        },
        rest,
    ))
}

/// What became of the rows.
pub struct Findings {
    /// What was promised about it.
    pub order: Order,
    /// Rows that had to come, for all places.
    pub wanted: u64,
    /// Rows of these that are in no file.
    pub lost: u64,
    /// Rows that came before the one in front of them in their plane.
    pub inversions: u64,
    /// Rows that were processed again, behind a kill.
    pub repeats: u64,
    /// SHA-256 of the input, and of its first line with the rows that came, sorted by their number.
    pub input: String,
    pub output: String,
    /// From send to receive, ns.
    pub latency: Histogram<u64>,
}

impl Findings {
    pub fn is_whole(&self) -> bool {
        (self.lost, self.inversions) == (0, 0) && self.input == self.output
    }
}

/// When a row came first and last, its bytes, and which consumers had it, the first one in front.
struct Came<'a> {
    first: u64,
    last: u64,
    had_by: Vec<usize>,
    row: &'a [u8],
}

/// In which order the rows of a plane have to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In that of the file, for the first time and for the last. One may come before the one in front of it has
    /// come for the last time only to a consumer that had that too: who receives both at once and dies leaves both
    /// to be received again.
    OneByOne,
    /// In that of the file, and from some row on in that order again.
    FromCheckpoints,
    /// In none.
    None,
}

/// Reads every file of `directory`: each row has to be there for each of `copies` places that wants it.
pub fn check(
    directory: &Path,
    flights: &Flights,
    order: Order,
    copies: usize,
    wants: impl Fn(usize, &Row) -> bool,
) -> anyhow::Result<Findings> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        files.push(std::fs::read(entry?.path())?);
    }
    let mut latency = Histogram::new_with_bounds(1, 3_600_000_000_000, 3)?;
    let rows = flights.rows.len();
    let mut came: Vec<Option<Came<'_>>> = (0..rows * copies).map(|_| None).collect();
    let mut repeats = 0;
    for (consumer, file) in files.iter().enumerate() {
        let mut rest = &file[..];
        while let Some((record, behind)) = split(rest) {
            rest = behind;
            let (number, copy) = (record.number as usize, record.copy as usize);
            let Some(row) = flights.rows.get(number).filter(|_| copy < copies) else {
                bail!("row {number} came, and was never sent");
            };
            if !wants(copy, row) {
                bail!("row {number} came to place {copy}, which does not want it");
            }
            latency.saturating_record(record.received.saturating_sub(record.sent));
            match &mut came[copy * rows + number] {
                Some(known) if known.row != record.row => {
                    bail!("row {number} came again with other bytes")
                }
                Some(known) => {
                    repeats += 1;
                    match record.received < known.first {
                        true => known.had_by.insert(0, consumer),
                        false => known.had_by.push(consumer),
                    }
                    known.first = known.first.min(record.received);
                    known.last = known.last.max(record.received);
                }
                none => {
                    *none = Some(Came {
                        first: record.received,
                        last: record.received,
                        had_by: vec![consumer],
                        row: record.row,
                    });
                }
            }
        }
    }
    let mut input = Sha256::new_with_prefix(&flights.header);
    let mut output = input.clone();
    let (mut wanted, mut lost, mut inversions) = (0, 0, 0);
    for copy in 0..copies {
        let mut before_of_plane: Vec<Option<&Came<'_>>> = vec![None; flights.planes.len()];
        for (number, row) in flights.rows.iter().enumerate() {
            if !wants(copy, row) {
                continue;
            }
            wanted += 1;
            input.update(&row.text);
            let Some(came) = &came[copy * rows + number] else {
                lost += 1;
                continue;
            };
            output.update(came.row);
            let before = &mut before_of_plane[row.plane as usize];
            if let Some(front) = before.replace(came) {
                let together = front.had_by.contains(&came.had_by[0]);
                inversions += u64::from(match order {
                    Order::OneByOne => {
                        came.first < front.first
                            || came.last < front.last
                            || came.first < front.last && !together
                    }
                    Order::FromCheckpoints => came.first < front.first,
                    Order::None => false,
                });
            }
        }
    }
    Ok(Findings {
        order,
        wanted,
        lost,
        inversions,
        repeats,
        input: hex(&input.finalize()),
        output: hex(&output.finalize()),
        latency,
    })
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Findings about rows of one plane that came in this order, each to one of the consumers.
    fn found(order: &[(usize, usize)], rule: Order) -> Findings {
        let flights = Flights::parse("tailnum\nX\nX\nX\n").unwrap();
        let name = format!("ringway-record-{}-{order:?}{rule:?}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let (mut sent, mut others, mut records) = (Vec::new(), Vec::new(), Vec::new());
        for (number, consumer) in order {
            body(&flights, *number, &mut sent);
            let into = if *consumer == 0 {
                &mut records
            } else {
                &mut others
            };
            record(&sent, into).unwrap();
        }
        // The last one was cut short.
        body(&flights, 0, &mut sent);
        let whole = records.len();
        record(&sent, &mut records).unwrap();
        records.truncate(whole + RECORD_HEAD + 1);
        std::fs::write(directory.join("0-0"), &records).unwrap();
        std::fs::write(directory.join("1-0"), &others).unwrap();
        let findings = check(&directory, &flights, rule, 1, |_, _| true);
        std::fs::remove_dir_all(&directory).unwrap();
        findings.unwrap()
    }

    #[test]
    fn what_is_missing_or_out_of_order_is_found() {
        let told_of = |order: &[(usize, usize)], rule| {
            let found = found(order, rule);
            (
                found.lost,
                found.inversions,
                found.repeats,
                found.is_whole(),
            )
        };
        let told = |order: &[usize], rule| {
            let by_one: Vec<_> = order.iter().map(|number| (*number, 0)).collect();
            told_of(&by_one, rule)
        };
        assert_eq!(told(&[0, 1, 2], Order::OneByOne), (0, 0, 0, true));
        assert_eq!(told(&[0, 2], Order::OneByOne), (1, 0, 0, false));
        assert_eq!(told(&[1, 0, 2], Order::FromCheckpoints), (0, 1, 0, false));
        // Read again from a checkpoint on.
        assert_eq!(
            told(&[0, 1, 0, 1, 2], Order::FromCheckpoints),
            (0, 0, 2, true)
        );
        // Received together, and again behind a kill; and one that came while the one in front of it was out.
        assert_eq!(told(&[0, 1, 0, 1, 2], Order::OneByOne), (0, 0, 2, true));
        assert_eq!(told(&[0, 1, 0, 2], Order::OneByOne), (0, 1, 1, false));
        let again = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1)];
        assert_eq!(told_of(&again, Order::OneByOne), (0, 0, 2, true));
        // To somebody else, while the one in front was out.
        let apart = [(0, 0), (1, 1), (0, 0), (1, 0), (2, 0)];
        assert_eq!(told_of(&apart, Order::OneByOne), (0, 1, 2, false));
    }
}
