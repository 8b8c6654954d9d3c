//! `ringway listen`: what is published to a topic, to standard output.

use super::open;
use crate::interrupt::Signal;
use crate::output::{Place, parse_duration, write_line};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringway::{Notification, ReadError};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a wait lasts before it looks whether it was interrupted.
const SLICE: Duration = Duration::from_millis(50);

/// Print what is published to a topic from now on, one body a line, until interrupted
///
/// It holds no publisher up: when it falls behind it says what it missed. Who has to get everything
/// subscribes a queue.
#[derive(clap::Args)]
pub struct Args {
    /// The bus
    bus: String,
    /// The topic
    #[arg(value_name = "TOPIC")]
    name: String,
    /// Stop after this many messages
    #[arg(long)]
    count: Option<u64>,
    /// Stop when none comes within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Say on standard error when it listens
    #[arg(long)]
    ready: bool,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, topic) = open(place, &args.bus, &args.name)?;
    let mut listener = topic.listen()?;
    let signal = Signal::default();
    let _watch = signal.watch(|| {})?;
    if args.ready {
        eprintln!("listening");
    }
    let (mut heard, mut count) = (Notification::new(), 0);
    let mut last = Instant::now();
    while args.count.is_none_or(|most| count < most) {
        signal.check()?;
        match listener.hear(&mut heard, SLICE) {
            Ok(true) => {
                print(place, &heard);
                count += 1;
                last = Instant::now();
            }
            Ok(false) if args.wait.is_some_and(|wait| last.elapsed() >= wait) => break,
            Ok(false) => {}
            Err(lagged @ ReadError::Lagged { .. }) => eprintln!("ringway: {lagged}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(place: &Place, heard: &Notification) {
    if !place.json {
        return write_line(heard.body());
    }
    let mut object = json!({"id": heard.id().to_string(), "published_ms": heard.published_ms()});
    match std::str::from_utf8(heard.body()) {
        Ok(text) => object["body"] = text.into(),
        Err(_) => object["body_base64"] = BASE64_STANDARD.encode(heard.body()).into(),
    }
    for (name, value) in [("subject", heard.subject()), ("group", heard.group())] {
        if let Some(value) = value {
            object[name] = value.into();
        }
    }
    let attributes = heard.attributes();
    let attributes = attributes.iter().map(|attribute| {
        let value = match attribute.text() {
            Some(text) => json!({"type": attribute.data_type(), "value": text}),
            None => json!({
                "type": attribute.data_type(),
                "value_base64": BASE64_STANDARD.encode(attribute.bytes()),
            }),
        };
        (attribute.name.to_owned(), value)
    });
    object["attributes"] = Value::Object(attributes.collect());
    write_line(object.to_string().as_bytes());
}
