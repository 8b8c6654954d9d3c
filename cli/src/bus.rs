//! `ringway bus`: create, list, inspect, remove.

use crate::output::{Place, parse_bytes, parse_mode};
use crate::stat;
use anyhow::Context;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a bus
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// 1 to 80 characters of A-Z a-z 0-9 _ -
        name: String,
        /// Permission bits of every file, whatever the umask
        #[arg(long, default_value = "600", value_name = "OCTAL", value_parser = parse_mode)]
        mode: u32,
        /// Group id of every file [default: yours]
        #[arg(long, value_name = "GID")]
        group: Option<u32>,
        /// Most bytes of payload-pool segments; they are made when first needed
        #[arg(long, default_value = "1G", value_name = "BYTES", value_parser = parse_bytes)]
        pool: u64,
        /// Do nothing when it exists already
        #[arg(long)]
        if_missing: bool,
    },
    /// List the buses under the root
    #[command(after_help = LS_EXAMPLES)]
    Ls,
    /// The same as `ringway stat`
    Stat(stat::Args),
    /// Remove a bus and everything on it, with the journals of what is durable
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// The bus
        name: String,
        /// Although processes live on it; they are told that it is gone
        #[arg(long)]
        force: bool,
    },
}

const CREATE_EXAMPLES: &str = "Examples:
  ringway bus create demo
  ringway bus create demo --mode 660 --group 1001 --pool 4G
  ringway bus create demo --root /srv/buses --if-missing";

const LS_EXAMPLES: &str = "Examples:
  ringway bus ls
  ringway bus ls --json | jq -r '.buses[]'";

const RM_EXAMPLES: &str = "Examples:
  ringway bus rm demo
  ringway bus rm demo --force
What lives on it is listed by `ringway stat`.";

pub fn run(command: Command, place: &Place) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create {
            name,
            mode,
            group,
            pool,
            if_missing,
        } => {
            let mut builder = place.builder(&name).mode(mode).pool_bytes(pool);
            if let Some(group) = group {
                builder = builder.group(group);
            }
            let bus = match if_missing {
                true => builder.open_or_create(),
                false => builder.create(),
            };
            let bus = bus.map_err(|error| place.explain_bus(&name, error))?;
            let directory = bus.directory().display().to_string();
            let origin = format!("{:?}", bus.origin());
            let text = match bus.origin() {
                ringway::Origin::Opened => format!("{directory} was there"),
                ringway::Origin::Created => format!("created {directory}"),
                ringway::Origin::ReplacedAfterBoot => {
                    format!("{directory} was from before the last boot; it starts empty")
                }
            };
            place.say(
                json!({"bus": name, "directory": directory, "origin": origin}),
                || text,
            );
        }
        Command::Ls => list(place)?,
        Command::Stat(args) => return stat::run(&args, place),
        Command::Rm { name, force } => {
            let removed = place.builder(&name).remove(force);
            removed.map_err(|error| place.explain_bus(&name, error))?;
            place.say(json!({"removed": name}), || format!("removed {name}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(place: &Place) -> anyhow::Result<()> {
    let root = place.root();
    let names = place
        .buses()
        .with_context(|| format!("can't list {root:?}"))?;
    place.say(json!({"root": root, "buses": names}), || {
        if names.is_empty() {
            format!("no bus under {}", root.display())
        } else {
            names.join("\n")
        }
    });
    Ok(())
}
