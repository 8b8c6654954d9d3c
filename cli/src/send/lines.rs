//! One message per line, and one message that is everything.
//!
//! A line is what stands in front of a newline, byte by byte; the last one may lack it. An empty line
//! is an empty message.

use super::{Item, Source};
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Read};

pub struct Lines {
    input: BufReader<Box<dyn Read>>,
    /// The largest body.
    most: usize,
    line: u64,
    bytes: u64,
}

impl Lines {
    pub fn new(input: Box<dyn Read>, most: usize) -> Self {
        Self {
            input: BufReader::with_capacity(1 << 20, input),
            most,
            line: 0,
            bytes: 0,
        }
    }
}

impl Source for Lines {
    fn next(&mut self) -> anyhow::Result<Option<Item>> {
        let line = self.line + 1;
        let mut body = Vec::new();
        // A line that is too long is refused before it is all in memory.
        let bound = (self.most as u64).saturating_add(1);
        let read = (&mut self.input).take(bound).read_until(b'\n', &mut body);
        let read = read.with_context(|| format!("can't read line {line}"))?;
        if read == 0 {
            return Ok(None);
        }
        if body.last() == Some(&b'\n') {
            body.pop();
        } else if body.len() > self.most {
            bail!(
                "line {line} was not sent, nor any behind it: it is longer than the {} bytes a \
                 message of this queue may have",
                self.most
            );
        }
        self.line = line;
        self.bytes += read as u64;
        Ok(Some(Item::plain(Some(line), body)))
    }

    fn may_block(&self) -> bool {
        !self.input.buffer().contains(&b'\n')
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

pub struct Single {
    body: Option<Vec<u8>>,
}

impl Single {
    pub fn new(body: Vec<u8>) -> Self {
        Self { body: Some(body) }
    }
}

impl Source for Single {
    fn next(&mut self) -> anyhow::Result<Option<Item>> {
        Ok(self.body.take().map(|body| Item::plain(None, body)))
    }

    fn may_block(&self) -> bool {
        false
    }

    fn bytes(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(input: &'static [u8], most: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut lines = Lines::new(Box::new(input), most);
        let mut bodies = Vec::new();
        while let Some(item) = lines.next()? {
            assert_eq!(item.line, Some(bodies.len() as u64 + 1));
            bodies.push(item.body);
        }
        Ok(bodies)
    }

    #[test]
    fn a_line_is_every_byte_in_front_of_its_newline() {
        let found = bodies(b"a\r\n\n \xff\0\nlast", 10).unwrap();
        assert_eq!(found, [&b"a\r"[..], b"", b" \xff\0", b"last"]);
        assert!(bodies(b"", 10).unwrap().is_empty());
        assert_eq!(bodies(b"12345\n12345", 5).unwrap().len(), 2);
    }

    #[test]
    fn a_line_that_is_too_long_is_named() {
        let error = bodies(b"12345\n123456\n", 5).unwrap_err().to_string();
        assert!(error.starts_with("line 2 was not sent"), "{error}");
    }
}
