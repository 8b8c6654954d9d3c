//! `ringway metrics`: what `ringway stat` shows, for Prometheus.
//!
//! Each scrape looks anew, in a process of its own; several scrapes look at a time. What can't be looked at is
//! `ringway_bus_up 0`, and the others are there.

mod families;

use crate::interrupt::Signal;
use crate::output::{Place, Usage, write_line};
use crate::snapshot::take_apart;
use anyhow::{Context, anyhow};
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::registry::Registry;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tiny_http::{Header, Method, Request, Response, Server};

/// How often it looks whether it shall end.
const LOOK: Duration = Duration::from_millis(100);
/// Scrapes at a time; further ones wait for their turn.
const SCRAPERS: usize = 4;

/// Serve the metrics of buses to Prometheus, over HTTP
///
/// Text exposition format 0.0.4 under /metrics. Each scrape looks at the buses anew; looking takes no part in
/// them and changes nothing, and permission to read is enough. A bus that can't be looked at is
/// ringway_bus_up 0.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only these buses [default: all under the root, also those that come later]
    #[arg(value_name = "BUS")]
    buses: Vec<String>,
    /// Where to listen; port 0 takes a free one, which is told
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9464")]
    listen: SocketAddr,
    /// Listen on an address that other machines can reach; there is neither a password nor encryption
    #[arg(long)]
    allow_remote: bool,
    /// Print the metrics once, and end
    #[arg(long, conflicts_with_all = ["listen", "allow_remote"])]
    once: bool,
}

const EXAMPLES: &str = "Examples:
  ringway metrics --listen 127.0.0.1:9464 &
  curl -s http://127.0.0.1:9464/metrics | grep ringway_queue_messages
  ringway metrics demo --once
In prometheus.yml:
  scrape_configs:
    - job_name: ringway
      static_configs: [{targets: ['127.0.0.1:9464']}]
An alert on a queue that nobody drains:
  ringway_queue_oldest_message_age_seconds > 300";

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    if args.once {
        let text = exposition(place, &args.buses)?;
        write_line(text.trim_end().as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        let address = args.listen;
        return Err(Usage(format!(
            "other machines can reach {address}; listen on 127.0.0.1, or say --allow-remote"
        ))
        .into());
    }
    let signal = Signal::default();
    let _watch = signal.watch(|| {})?;
    let listening = || format!("can't listen on {}", args.listen);
    let listener = TcpListener::bind(args.listen).with_context(listening)?;
    let address = listener.local_addr()?;
    let server = Server::from_listener(listener, None).map_err(|error| anyhow!("{error}"))?;
    let server = Arc::new(server);
    place.say(
        serde_json::json!({"listening": address, "path": "/metrics"}),
        || format!("listening on http://{address}/metrics"),
    );
    std::thread::scope(|scope| {
        let scraper = || {
            while signal.check().is_ok() {
                match server.recv_timeout(LOOK) {
                    Ok(Some(request)) => answer(request, place, &args.buses),
                    Ok(None) => {}
                    // Of one connection; the next may be better.
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        };
        for _ in 0..SCRAPERS {
            scope.spawn(scraper);
        }
    });
    signal.check()?;
    Ok(ExitCode::SUCCESS)
}

fn answer(request: Request, place: &Place, buses: &[String]) {
    let path = request
        .url()
        .split('?')
        .next()
        .unwrap_or_default()
        .to_owned();
    let is_read = matches!(request.method(), Method::Get | Method::Head);
    let (code, text, kind) = match (is_read, path.as_str()) {
        (true, "/metrics") => match exposition(place, buses) {
            Ok(text) => (200, text, CONTENT_TYPE),
            Err(error) => (500, format!("{error:#}\n"), "text/plain; charset=utf-8"),
        },
        (true, _) => (404, "metrics are under /metrics\n".to_owned(), "text/plain"),
        (false, _) => (405, "only GET and HEAD\n".to_owned(), "text/plain"),
    };
    let mut response = Response::from_string(text).with_status_code(code);
    if let Ok(header) = Header::from_bytes("Content-Type", kind) {
        response = response.with_header(header);
    }
    // Who has gone away needs no answer.
    let _ = request.respond(response);
}

/// Everything there is to be told, in the text format.
fn exposition(place: &Place, buses: &[String]) -> anyhow::Result<String> {
    let buses = match buses {
        [] => place
            .buses()
            .with_context(|| format!("can't list {:?}", place.root()))?,
        named => named.to_vec(),
    };
    let mut metrics = families::Metrics::new();
    for bus in buses {
        let started = std::time::Instant::now();
        let looked = take_apart(place, &bus);
        metrics.add(&bus, looked, started.elapsed());
    }
    let mut registry = Registry::with_prefix("ringway");
    registry.register_collector(Box::new(metrics));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}
