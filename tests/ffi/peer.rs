//! One side of what goes between languages, in Rust. The same commands as `c/peer.c`, `cpp/peer.cpp` and
//! the Python peer:
//!
//! ```text
//! peer send|publish|put|announce NAME BOARD COUNT     from what the board says was acknowledged, up to COUNT
//! peer receive|read|work NAME BOARD COUNT             until every one of COUNT was seen
//! ```
//! To a queue, a channel, a stream, a topic; from a queue, a channel, a stream as one of a group. The board is a file: 8 bytes with how many sends were acknowledged, 8 with whether a reader is there,
//! then a byte for each number that was seen. Message i is i as 8 bytes and i mod 200 bytes of i mod 251.

use ringway::{Bus, GroupStart, Publication, PutRecord, Start};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const LONG: Duration = Duration::from_secs(100);

fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(8 + (number % 200) as usize, (number % 251) as u8);
    body
}

fn see(board: &File, seen: &[u8]) -> Outcome {
    let number = u64::from_le_bytes(seen[..8].try_into()?);
    assert_eq!(seen, body(number), "message {number}");
    Ok(board.write_all_at(&[1], 16 + number)?)
}

fn is_whole(board: &File, count: usize) -> std::io::Result<bool> {
    let mut seen = vec![0; count];
    board.read_exact_at(&mut seen, 16)?;
    Ok(seen.iter().all(|byte| *byte == 1))
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, name, board, count] = &arguments[..] else {
        return Err("peer VERB NAME BOARD COUNT".into());
    };
    let board = File::options().read(true).write(true).open(board)?;
    let count: u64 = count.parse()?;
    let bus = Bus::open("peers")?;
    let mut word = [0; 8];
    board.read_exact_at(&mut word, 0)?;
    let acknowledged = u64::from_le_bytes(word);
    match verb.as_str() {
        "send" => {
            let mut sender = bus.queue(name).open()?.sender()?;
            for number in acknowledged..count {
                sender.send_timeout(&body(number), LONG)?;
                board.write_all_at(&(number + 1).to_le_bytes(), 0)?;
            }
        }
        "publish" => {
            let mut producer = bus.channel(name).open()?.producer()?;
            for number in acknowledged..count {
                producer.send(&body(number), LONG)?;
                board.write_all_at(&(number + 1).to_le_bytes(), 0)?;
            }
        }
        "put" => {
            let mut producer = bus.stream(name).open()?.producer()?;
            for number in acknowledged..count {
                let key = format!("key-{}", number % 7);
                producer.put_within(&PutRecord::new(&key, &body(number)), LONG)?;
                board.write_all_at(&(number + 1).to_le_bytes(), 0)?;
            }
        }
        "announce" => {
            let mut publisher = bus.topic(name).open()?.publisher()?;
            for number in acknowledged..count {
                publisher.publish(&Publication::new(&body(number)))?;
                board.write_all_at(&(number + 1).to_le_bytes(), 0)?;
            }
        }
        "work" => {
            let stream = bus.stream(name).open()?;
            let group = stream.group_or_create("peers", GroupStart::TrimHorizon)?;
            let mut worker = group.join()?;
            while !is_whole(&board, count as usize)? {
                let mut taken = Vec::new();
                let wait = Duration::from_millis(50);
                worker.read_batch(100, wait, |record| taken.push(record.data.to_vec()))?;
                for data in &taken {
                    see(&board, data)?;
                }
                worker.checkpoint()?;
            }
        }
        "receive" => {
            let mut receiver = bus.queue(name).open()?.receiver()?;
            let mut buffer = [0; 512];
            while !is_whole(&board, count as usize)? {
                let wait = Duration::from_millis(50);
                while let Some(received) = receiver.receive_into(&mut buffer, wait)? {
                    see(&board, &buffer[..received.len])?;
                    receiver.delete(&received.receipt)?;
                }
            }
        }
        "read" => {
            let channel = bus.channel(name).open()?;
            let mut reader = channel.reader().start(Start::Earliest).join()?;
            board.write_all_at(&1u64.to_le_bytes(), 8)?;
            let mut buffer = [0; 512];
            while !is_whole(&board, count as usize)? {
                let wait = Duration::from_millis(50);
                while let Some(record) = reader.read(&mut buffer, wait)? {
                    see(&board, &buffer[..record.len])?;
                }
            }
        }
        other => return Err(format!("{other:?} is none of the verbs").into()),
    }
    Ok(())
}
