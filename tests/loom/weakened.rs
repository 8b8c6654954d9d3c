//! Every ordering of the protocol, weakened once: a model has to notice.
//!
//! Each label of `sync.rs` is weakened alone (its ordering becomes `Relaxed`, its fence goes) and
//! the model named here is run in a process of its own, since a model that failed leaves `loom`
//! unusable. The full run puts every label before every model and prints the whole table.

use crate::explore::{FULL_VARIABLE, WEAKEN_VARIABLE, is_full};
use ringway::sync::Label;
use std::process::Command;

/// What weakening a label does.
enum Effect {
    /// Each of these models fails.
    CaughtBy(&'static [&'static str]),
    /// Every model passes, for this reason.
    #[allow(dead_code)] // none today; the table must be able to say so
    Unnoticed(&'static str),
}

fn effect(label: Label) -> Effect {
    use Effect::CaughtBy;
    match label {
        // Not by a run: it takes the slot without a look at what is in it, and the CAS acquires.
        Label::ClaimLoad => CaughtBy(&["append::a_record_is_judged_by_its_own_header"]),
        Label::ClaimCas => CaughtBy(&["read::what_another_producer_dropped_is_told"]),
        Label::ClaimFence | Label::ReadFence => CaughtBy(&[
            "read::a_copy_under_an_overwrite_is_found_out_and_told",
            "batch::copies_of_a_batch_under_a_run_are_found_out",
            "batch::copies_of_a_batch_under_an_exclusive_run_are_found_out",
        ]),
        Label::CommitStore | Label::ReadLoad => CaughtBy(&[
            "read::a_record_is_seen_whole_or_not_at_all",
            "batch::a_batch_is_read_up_to_what_is_committed",
            "batch::a_batch_of_an_exclusive_producer_is_read_up_to_what_is_committed",
        ]),
        Label::VoidStore => CaughtBy(&[
            "append::a_slot_given_back_is_written_by_the_next_owner_alone",
            "batch::a_run_takes_a_slot_only_when_it_was_given_back",
        ]),
        Label::GoneFence => CaughtBy(&["read::a_copy_under_an_overwrite_is_found_out_and_told"]),
        Label::CursorStore => CaughtBy(&[
            "reclaim::a_reliable_reader_is_overwritten_only_behind_its_cursor",
            "batch::a_run_overwrites_only_what_was_read_as_a_batch",
            "batch::an_exclusive_run_overwrites_only_what_was_read_as_a_batch",
        ]),
        Label::PinFence | Label::TrimFence | Label::ScanLoad => {
            CaughtBy(&["reclaim::a_pinned_record_is_never_overwritten"])
        }
        Label::ReclaimStore | Label::ReclaimLoad => {
            CaughtBy(&["reclaim::what_was_viewed_is_overwritten_by_another_only_behind_the_scan"])
        }
        Label::ChunkFree | Label::ChunkTake => {
            CaughtBy(&["pool::a_chunk_is_rewritten_only_behind_its_last_reader"])
        }
        Label::ChunkFence => CaughtBy(&["pool::a_copied_payload_is_never_another_ones"]),
        Label::ChunkAttach | Label::SweepLoad => {
            CaughtBy(&["pool::a_sweep_keeps_a_chunk_that_was_just_attached"])
        }
        Label::SleepFence | Label::WakeFence => CaughtBy(&["wait::no_wake_is_lost"]),
        Label::WakeStore | Label::SleepLoad => {
            CaughtBy(&["wait::no_wake_is_lost_behind_another_wake"])
        }
        Label::ReapStore | Label::JoinCas => {
            CaughtBy(&["reap::an_entry_is_described_anew_only_behind_the_sweep"])
        }
        Label::DoneStore | Label::ReuseLoad => {
            CaughtBy(&["queue::a_slot_is_reused_only_behind_the_last_look_of_who_deleted"])
        }
        Label::LeaseFence => CaughtBy(&["queue::a_copy_under_a_lost_lease_is_found_out"]),
        Label::DueFence => CaughtBy(&[
            "queue::no_lease_is_forgotten_by_the_due_words",
            "fifo::a_batch_goes_on_only_while_nobody_else_has_the_group",
        ]),
        Label::SweepFence => CaughtBy(&["queue::no_lease_is_forgotten_by_the_due_words"]),
        Label::LinkStore | Label::LinkLoad => {
            CaughtBy(&["fifo::the_first_of_a_group_is_taken_by_one_and_the_next_by_nobody"])
        }
        Label::LinkFence => {
            CaughtBy(&["fifo::the_next_of_a_group_is_known_to_who_deletes_or_to_who_links"])
        }
        Label::SettleFence => CaughtBy(&[
            "fifo::the_next_of_a_group_is_known_to_who_deletes_or_to_who_links",
            "fifo::what_is_deleted_out_of_turn_is_done_when_the_first_is",
        ]),
        Label::TurnLoad => CaughtBy(&["fifo::the_work_on_a_group_is_ordered"]),
        Label::HintStore | Label::HintLoad => {
            CaughtBy(&["fifo::who_takes_a_hint_sees_what_it_is_about"])
        }
        Label::MoveFence => {
            CaughtBy(&["moving::a_mover_that_is_taken_for_stalled_leaves_one_copy"])
        }
        Label::SealStore => CaughtBy(&["seal::what_stands_under_the_seal_is_received"]),
        Label::DedupWrite | Label::DedupRead => {
            CaughtBy(&["dedup::an_entry_that_changes_hands_is_seen_whole"])
        }
        Label::DedupPublish | Label::DedupLoad => {
            CaughtBy(&["dedup::an_entry_is_not_taken_from_a_living_claim"])
        }
        Label::DedupFence => CaughtBy(&["dedup::of_two_senders_of_one_id_one_is_seen"]),
        Label::ViewPin | Label::ViewScan => {
            CaughtBy(&["view::a_message_is_purged_before_it_is_looked_at_or_under_the_view"])
        }
        Label::ViewEnd | Label::ViewLook => CaughtBy(&[
            "view::a_slot_is_not_written_while_it_is_looked_at",
            "view::a_producer_comes_to_a_message_that_was_deleted_under_a_view",
        ]),
        Label::ViewClose | Label::ViewKept => {
            CaughtBy(&["view::a_payload_is_freed_by_who_deletes_it_or_who_looked_last"])
        }
        Label::DurableStore | Label::DurableLoad => {
            CaughtBy(&["durable::a_slot_is_used_again_only_behind_the_copy_for_the_journal"])
        }
        Label::ChangedNote | Label::ChangedTake | Label::NoteFence | Label::FlushFence => {
            CaughtBy(&["durable::what_was_deleted_before_a_flush_began_is_in_it"])
        }
        Label::RecordCommit | Label::RecordLoad => CaughtBy(&[
            "log::a_subscription_is_seen_whole_or_not_at_all_and_is_seen_once_it_returned",
        ]),
        Label::RoleRelease | Label::RoleTake => {
            CaughtBy(&["role::a_role_that_is_given_back_passes_on_with_the_work"])
        }
    }
}

/// Whether `model` fails when `label` is weakened, and how.
fn failure(label: Label, model: &str) -> Option<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", model, "--nocapture", "--test-threads=1"])
        .env(WEAKEN_VARIABLE, (label as usize).to_string())
        .env("RUST_BACKTRACE", "0")
        .env_remove(FULL_VARIABLE) // few preemptions show it
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("running 1 test"), "there is no model {model}");
    if output.status.success() {
        return None;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let what = errors
        .lines()
        .skip_while(|line| !line.contains("panicked at"))
        .nth(1);
    Some(what.unwrap_or("died").trim().to_string())
}

/// The other tests of this binary.
fn models() -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("--list")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| !name.starts_with("weakened::"))
        .map(str::to_string)
        .collect()
}

#[test]
fn every_weakened_ordering_is_noticed() {
    if std::env::var(WEAKEN_VARIABLE).is_ok() {
        return;
    }
    let models = if is_full() { models() } else { Vec::new() };
    let (mut caught, mut wrong) = (0, Vec::new());
    println!();
    for label in Label::ALL {
        let name = format!("{label:?}");
        match effect(label) {
            Effect::CaughtBy(models) => {
                let before = wrong.len();
                for model in models {
                    match failure(label, model) {
                        Some(how) => println!("{name:<12} caught by {model}: {how}"),
                        None => wrong.push(format!("{name} is not caught by {model}")),
                    }
                }
                caught += usize::from(wrong.len() == before);
            }
            Effect::Unnoticed(because) => println!("{name:<12} NOT CAUGHT: {because}"),
        }
        for model in &models {
            if let Some(how) = failure(label, model) {
                println!("{:<12}        by {model}: {how}", "");
                if let Effect::Unnoticed(_) = effect(label) {
                    wrong.push(format!("{name} is caught after all, by {model}"));
                }
            }
        }
    }
    println!(
        "{caught} of {} weakened orderings are caught",
        Label::ALL.len()
    );
    println!(
        "{{\"target\":\"R2\",\"labels\":{},\"caught_percent\":{}}}",
        Label::ALL.len(),
        caught * 100 / Label::ALL.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        caught * 10 >= Label::ALL.len() * 9,
        "fewer than nine in ten"
    );
}
