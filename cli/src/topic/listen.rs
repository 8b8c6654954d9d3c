//! `ringway listen`: what is published to a topic, to standard output.

use super::matching::ScopeArg;
use super::open;
use super::subscribe::policy_text;
use crate::interrupt::Signal;
use crate::output::{Place, Usage, parse_duration, write_line};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringway::filter::PolicyLimits;
use ringway::{ListenOptions, ListenPolicy, ListenerInfo, Notification, PublishError, ReadError};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a wait lasts before it looks whether it was interrupted.
const SLICE: Duration = Duration::from_millis(50);

/// Print what is published to a topic from now on, one body a line, until interrupted
///
/// It holds no publisher up: when it falls behind by the topic's --listen-slots it says what it missed. With
/// --when-behind block publishers wait for it instead, and with evict it ends there. Who has to get everything,
/// whether it runs or not, subscribes a queue.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The topic
    #[arg(value_name = "TOPIC")]
    name: String,
    /// Stop after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop when none comes within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Only messages that this filter policy wants; the policy, or the file it is in
    #[arg(long, value_name = "JSON|FILE")]
    filter: Option<String>,
    /// What the policy looks at
    #[arg(long, value_enum, default_value = "attributes", requires = "filter")]
    scope: ScopeArg,
    /// Accept a policy beyond the limits of SNS
    #[arg(long)]
    no_limits: bool,
    /// What becomes of it when it falls behind
    #[arg(long, value_name = "WHAT", value_enum, default_value = "drop-oldest")]
    when_behind: WhenBehind,
    /// Say on standard error when it listens
    #[arg(long)]
    ready: bool,
}

const EXAMPLES: &str = r#"Examples:
  ringway listen demo news
  ringway listen demo news --filter '{"kind": ["sport"]}' --json
  ringway listen demo news --count 1 --wait 10s --ready"#;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum WhenBehind {
    DropOldest,
    Block,
    Evict,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, topic) = open(place, &args.bus, &args.name)?;
    let mut options = ListenOptions::new().scope(args.scope.into());
    options = options.policy(match args.when_behind {
        WhenBehind::DropOldest => ListenPolicy::DropOldest,
        WhenBehind::Block => ListenPolicy::Block,
        WhenBehind::Evict => ListenPolicy::Evict,
    });
    if let Some(policy) = &args.filter {
        options = options.filter(&policy_text(policy, "--filter")?);
    }
    if args.no_limits {
        options = options.limits(PolicyLimits::NONE);
    }
    let mut listener = match topic.listen_with(&options) {
        Err(PublishError::Policy(error)) => return Err(Usage(format!("--filter: {error}")).into()),
        other => other?,
    };
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

pub fn as_json(listener: &ListenerInfo) -> Value {
    json!({
        "participant": listener.participant.0,
        "blocks": listener.blocks,
        "behind": listener.behind,
        "missed": listener.missed,
    })
}

pub fn as_text(listener: &ListenerInfo) -> String {
    let ListenerInfo {
        participant,
        blocks,
        behind,
        missed,
    } = listener;
    let blocks = if *blocks {
        ", publishers wait for it"
    } else {
        ""
    };
    format!("listener, {participant}: {behind} behind, {missed} missed{blocks}")
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
