//! `ringway publish`: one message to a topic, or one per line.

use super::open;
use crate::output::{Place, Usage};
use crate::send::GivenAttribute;
use anyhow::Context;
use ringway::{Attributes, Publication, Publisher};
use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;

/// Publish a message to a topic: to every subscription that wants it, and every listener
///
/// With --lines one per line, in order. When the command ends, what was published is delivered, or waits in
/// the topic until somebody publishes again.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The topic
    #[arg(value_name = "TOPIC")]
    name: String,
    /// The body [default: all of standard input]
    body: Option<String>,
    /// One message per line of FILE; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    lines: Option<PathBuf>,
    /// The subject, 1 to 100 characters
    #[arg(long)]
    subject: Option<String>,
    /// An attribute: name=text, name:Number=5, name:String.Array=["a","b"], name:Binary=BASE64; up to ten
    #[arg(long = "attribute", value_name = "NAME[:TYPE]=VALUE", value_parser = GivenAttribute::parse)]
    attributes: Vec<GivenAttribute>,
    /// The message group
    #[arg(long)]
    group: Option<String>,
    /// The deduplication id, of a single message
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    dedup_id: Option<String>,
    /// The body is a JSON object with a text for each protocol: default, and sqs (queues), kinesis (streams),
    /// lambda (commands) as wanted
    #[arg(long)]
    per_protocol: bool,
    /// The trace header
    #[arg(long, value_name = "TEXT")]
    trace_header: Option<String>,
}

const EXAMPLES: &str = "Examples:
  ringway publish demo news 'it rains' --subject weather
  ringway publish demo news '{\"goals\": 3}' --attribute kind=sport --attribute year:Number=2026
  ringway publish demo news '{\"default\": \"it rains\", \"sqs\": \"rain\"}' --per-protocol
  seq 1 1000 | ringway publish demo news --lines -";

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, topic) = open(place, &args.bus, &args.name)?;
    let mut publisher = topic.publisher()?;
    let mut attributes = Attributes::new();
    for given in &args.attributes {
        let added = given.add(&mut attributes);
        added.map_err(|error| Usage(format!("--attribute: {error:#}")))?;
    }
    if let Some(path) = &args.lines {
        return lines(args, path, &attributes, &mut publisher, place);
    }
    let body = match &args.body {
        Some(body) => body.clone().into_bytes(),
        None => {
            let mut body = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut body);
            read.context("can't read standard input")?;
            body
        }
    };
    let published = publisher.publish(&args.about(&body, &attributes))?;
    let (id, duplicate) = (published.id.to_string(), published.duplicate);
    place.say(
        json!({"id": id, "duplicate": duplicate}),
        || match duplicate {
            true => "a repeat, not published again".to_owned(),
            false => id.clone(),
        },
    );
    Ok(ExitCode::SUCCESS)
}

fn lines(
    args: &Args,
    path: &PathBuf,
    attributes: &Attributes,
    publisher: &mut Publisher,
    place: &Place,
) -> anyhow::Result<ExitCode> {
    let input: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).with_context(|| format!("can't open {path:?}"))?),
    };
    let mut input = BufReader::with_capacity(1 << 20, input);
    let (mut body, mut published) = (Vec::new(), 0u64);
    loop {
        body.clear();
        let read = input.read_until(b'\n', &mut body);
        if read.with_context(|| format!("can't read line {}", published + 1))? == 0 {
            break;
        }
        if body.last() == Some(&b'\n') {
            body.pop();
        }
        let outcome = publisher.publish(&args.about(&body, attributes));
        outcome.with_context(|| {
            format!(
                "line {} was not published, nor any behind it",
                published + 1
            )
        })?;
        published += 1;
    }
    place.say(json!({"published": published}), || {
        format!("published {published}")
    });
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn about<'a>(&'a self, body: &'a [u8], attributes: &'a Attributes) -> Publication<'a> {
        let mut message = Publication::new(body).attributes(attributes);
        if let Some(subject) = &self.subject {
            message = message.subject(subject);
        }
        if let Some(group) = &self.group {
            message = message.group(group);
        }
        if let Some(id) = &self.dedup_id {
            message = message.dedup_id(id);
        }
        if self.per_protocol {
            message = message.per_protocol();
        }
        if let Some(header) = &self.trace_header {
            message = message.trace_header(header);
        }
        message
    }
}
