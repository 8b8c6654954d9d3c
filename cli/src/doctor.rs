//! `ringway doctor`: what dead processes left, and its removal.

use crate::output::Place;
use serde_json::json;
use std::process::ExitCode;

/// Report what dead processes left on a bus, and mend it
///
/// Claims, reader entries, roles, pool chunks, temporary files; and objects that are damaged. Safe at
/// any time: live processes are not disturbed, and whoever waits on the bus does the same once a second.
///
/// Exit status: 0 the bus is clean, or was mended; 1 something is left; 2 the call is wrong.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    #[arg(value_name = "BUS")]
    name: String,
    /// Only report
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "Examples:
  ringway doctor demo
  ringway doctor demo --dry-run --json | jq .broken_objects";

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let bus = place.open(&args.name)?;
    let found = bus.doctor(!args.dry_run)?;
    let clean_now = if args.dry_run {
        found.is_clean()
    } else {
        bus.doctor(false)?.is_clean()
    };
    let [free, owned, attached] = found.chunks;
    let json = json!({
        "bus": args.name, "was_clean": found.is_clean(), "clean": clean_now,
        "participants": found.participants, "objects": found.objects,
        "pool_chunks": {"free": free, "owned": owned, "attached": attached},
        "open_claims": found.open_claims, "damaged_slots": found.damaged_slots,
        "dead_participants": found.dead_participants, "dead_claims": found.dead_claims,
        "dead_readers": found.dead_readers, "dead_roles": found.dead_roles,
        "lost_chunks": found.lost_chunks, "temporary_files": found.temporary_files,
        "broken_objects": found.broken_objects,
    });
    place.say(json, || {
        let mut text = format!(
            "{}: {} participants, {} objects, pool chunks {free} free, {owned} owned, {attached} attached\n",
            args.name, found.participants, found.objects
        );
        for (count, what) in [
            (found.dead_participants, "dead participants"),
            (found.dead_claims, "claims of the dead"),
            (found.dead_readers, "reader entries of the dead"),
            (found.dead_roles, "roles of the dead"),
            (found.lost_chunks, "pool chunks nobody names"),
            (found.temporary_files, "temporary files of the dead"),
        ] {
            if count > 0 {
                text += &format!("  {count} {what}\n");
            }
        }
        for broken in &found.broken_objects {
            text += &format!("  damaged: {broken}\n");
        }
        if found.damaged_slots > 0 {
            text += &format!("  {} damaged slots counted since creation\n", found.damaged_slots);
        }
        text += match (found.is_clean(), clean_now, args.dry_run) {
            (true, _, _) => "clean",
            (false, true, _) => "mended: clean now",
            (false, false, true) => "not clean; run without --dry-run to mend it",
            (false, false, false) => "not clean: what is left can't be mended; see above",
        };
        text
    });
    Ok(if clean_now {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
