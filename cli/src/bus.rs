//! `ringway bus`: create, list, inspect, remove.

use crate::output::{Place, parse_bytes, parse_mode};
use crate::stat;
use anyhow::Context;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a bus
    Create {
        /// 1 to 80 characters of A-Z a-z 0-9 _ -
        name: String,
        /// Permission bits of every file, whatever the umask
        #[arg(long, default_value = "600", value_parser = parse_mode)]
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
    Ls,
    /// The same as `ringway stat`
    Stat(stat::Args),
    /// Remove a bus and everything on it
    Rm {
        /// The bus
        name: String,
        /// Although processes live on it; they are told that it is gone
        #[arg(long)]
        force: bool,
    },
}

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
            let bus = if if_missing {
                builder.open_or_create()?
            } else {
                builder.create()?
            };
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
            place.builder(&name).remove(force)?;
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
