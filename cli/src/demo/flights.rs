//! The input: flights, a row each, in the order of the file. The plane is the group and the key.

use anyhow::Context;
use flate2::read::GzDecoder;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The column that names the plane.
const PLANE_COLUMN: &str = "tailnum";
/// Two thousand flights of the first days of 2013 (`nycflights13`, CC0).
const CUT: &str = include_str!("../../../tests/data/flights.csv");

/// Rows, and of each its plane and how many of the plane come before it.
pub struct Flights {
    pub header: String,
    pub rows: Vec<Row>,
    pub planes: Vec<String>,
}

pub struct Row {
    /// As it stands in the file, its line end included.
    pub text: String,
    pub plane: u32,
    pub rank: u32,
}

impl Flights {
    /// The flights of `path`, which may be gzipped; those that come with the program without one.
    pub fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        match path {
            None => Self::parse(CUT),
            Some(path) => {
                let named = || format!("can't read {}", path.display());
                let mut file = File::open(path).with_context(named)?;
                let mut whole = String::new();
                if path.extension().is_some_and(|extension| extension == "gz") {
                    GzDecoder::new(file).read_to_string(&mut whole)
                } else {
                    file.read_to_string(&mut whole)
                }
                .with_context(named)?;
                Self::parse(&whole).with_context(named)
            }
        }
    }

    pub fn parse(whole: &str) -> anyhow::Result<Self> {
        let mut lines = whole.split_inclusive('\n');
        let header = lines.next().context("it is empty")?.to_owned();
        let column = header
            .trim_end()
            .split(',')
            .position(|name| name == PLANE_COLUMN)
            .with_context(|| format!("no column of its first line is called {PLANE_COLUMN}"))?;
        let (mut rows, mut planes, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = HashMap::new();
        for (text, number) in lines.zip(2u64..) {
            let name = text
                .trim_end()
                .split(',')
                .nth(column)
                .with_context(|| format!("line {number} has no {PLANE_COLUMN}"))?;
            let plane = *known.entry(name).or_insert_with(|| {
                planes.push(name.to_owned());
                counts.push(0);
                planes.len() - 1
            });
            rows.push(Row {
                text: text.to_owned(),
                plane: plane as u32,
                rank: counts[plane],
            });
            counts[plane] += 1;
        }
        anyhow::ensure!(!rows.is_empty(), "there is nothing behind its first line");
        Ok(Self {
            header,
            rows,
            planes,
        })
    }

    /// Which column has that name.
    pub fn column(&self, name: &str) -> anyhow::Result<usize> {
        let mut names = self.header.trim_end().split(',');
        let found = names.position(|column| column == name);
        found.with_context(|| format!("no column of the flights is called {name}"))
    }

    /// The group or key of each plane; some rows name none.
    pub fn groups(&self) -> Vec<String> {
        let named = |plane: &String| format!("plane-{plane}");
        self.planes.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_for_their_plane_and_keep_their_bytes() {
        let flights = Flights::parse("a,tailnum\n1,X\n2,Y\n3,X\n4,").unwrap();
        let seen: Vec<_> = flights
            .rows
            .iter()
            .map(|row| (row.plane, row.rank))
            .collect();
        assert_eq!(seen, [(0, 0), (1, 0), (0, 1), (2, 0)]);
        assert_eq!(flights.planes, ["X", "Y", ""]);
        let whole: String = flights.rows.iter().map(|row| &row.text[..]).collect();
        assert_eq!(flights.header + &whole, "a,tailnum\n1,X\n2,Y\n3,X\n4,");
        for wrong in ["", "a,b\n1,2\n", "tailnum\n", "a,tailnum\n1\n"] {
            assert!(Flights::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_cut_that_comes_along_is_whole() {
        assert_eq!(Flights::read(None).unwrap().rows.len(), 2_000);
    }
}
