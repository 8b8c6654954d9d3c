//! `ringway queue`, completions, and wrong usage.

use crate::place::{Outcome, Place, until};
use std::time::Duration;

#[test]
fn a_queue_is_created_with_its_settings_listed_shown_and_removed() {
    let place = Place::new();
    let flags = "queue create b q --visibility 90s --delay 1m --retention 14days --max-message 1M \
                 --slots 2048 --stride 512 --redeliver-on-death false --stall-timeout 50ms";
    let created = place.run(&flags.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        created.ok(),
        "created q: standard, 2048 slots of 512 bytes\n"
    );
    let definition = place.queue().definition().clone();
    assert_eq!(definition.visibility, Duration::from_secs(90));
    assert_eq!(definition.delay, Duration::from_secs(60));
    assert_eq!(definition.retention, Duration::from_secs(14 * 86_400));
    assert_eq!(definition.max_message_bytes, 1 << 20);
    assert!(!definition.redeliver_on_death);
    assert_eq!(definition.stall_timeout, Duration::from_millis(50));

    place.fill(&["a", "b"]); // delayed
    let stat = place.run(&["queue", "stat", "b", "q", "--json"]).json();
    assert_eq!(stat["settings"]["visibility_ms"], 90_000);
    assert_eq!(stat["messages"]["delayed"], 2);
    assert_eq!(stat["totals"]["sent"], 2);
    let table = place.run(&["queue", "stat", "b", "q"]).ok();
    assert!(
        table.contains("visibility time-out        1m 30s\n"),
        "{table}"
    );
    let list = place.run(&["queue", "ls", "b"]).ok();
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.lines().nth(1).unwrap().starts_with("q "), "{list}");

    assert_eq!(place.run(&["queue", "rm", "b", "q"]).ok(), "removed q\n");
    assert_eq!(
        place.run(&["queue", "ls", "b", "--json"]).json(),
        serde_json::json!([])
    );
}

#[test]
fn settings_change_while_a_queue_is_in_use() {
    let place = Place::new();
    let queue = place.queue();
    let flags = "queue set b q --visibility 5m --receive-wait 20s --redeliver-on-death false";
    let set = place
        .run(&flags.split_whitespace().collect::<Vec<_>>())
        .ok();
    assert!(set.contains("visibility time-out        5m\n"), "{set}");
    let settings = queue.settings();
    assert_eq!(settings.visibility, Duration::from_secs(300));
    assert_eq!(settings.receive_wait, Duration::from_secs(20));
    assert_eq!(settings.delay, Duration::ZERO);
    assert!(!settings.redeliver_on_death);

    // A receive that does not say how long it waits goes by the queue.
    let child = place.start(&["receive", "b", "q", "--delete"]);
    until("a second participant", || {
        place.bus.participants().unwrap().len() == 2
    });
    place.fill(&["there"]);
    assert_eq!(
        Outcome::from(child.wait_with_output().unwrap()).ok(),
        "there\n"
    );
}

#[test]
fn limits_are_waited_for_and_then_named() {
    let place = Place::new();
    let create = "queue create b q --max-messages 3 --max-in-flight 1";
    let create: Vec<_> = create.split_whitespace().collect();
    place.run(&create).ok();
    let again = [&create[..], &["--if-missing"]].concat();
    place.run(&again).ok();
    let other = [
        "queue",
        "create",
        "b",
        "q",
        "--if-missing",
        "--max-messages",
        "none",
    ];
    let other = place.run(&other).refused(1);
    assert!(other.contains("other limits"), "{other}");
    let send = ["send", "b", "q", "--lines", "-", "--timeout", "50ms"];
    let sent = place.run_with(&send, b"a\nb\nc\nd\n");
    assert_eq!(sent.out, "sent 3\n");
    let said = sent.refused(1);
    assert!(
        said.contains("line 4") && said.contains("larger max_messages"),
        "{said}"
    );
    let held = place
        .run(&["receive", "b", "q", "--max", "1", "--json"])
        .json();
    let refused = place
        .run(&["receive", "b", "q", "--wait", "20ms"])
        .refused(1);
    assert!(refused.contains("larger max_in_flight"), "{refused}");
    let child = place.start(&[
        "receive", "b", "q", "--wait", "60s", "--max", "1", "--delete",
    ]);
    until("a second participant", || {
        place.bus.participants().unwrap().len() == 2
    });
    let receipt = held["receipt"].as_str().unwrap();
    place.run(&["queue", "delete", "b", "q", receipt]).ok();
    assert_eq!(Outcome::from(child.wait_with_output().unwrap()).ok(), "b\n");
    let none = ["queue", "set", "b", "q", "--max-in-flight", "none"];
    assert!(
        place
            .run(&none)
            .ok()
            .contains("most in flight             no limit")
    );
    let pool = ["work", "b", "q", "--max", "2", "--drain", "--", "true"];
    assert_eq!(place.run(&pool).code, Some(0));
}

#[test]
fn creating_twice_is_refused_unless_it_is_only_to_be_there() {
    let place = Place::new();
    place.run(&["queue", "create", "b", "q"]).ok();
    let again = place.run(&["queue", "create", "b", "q"]).refused(1);
    assert!(
        again.contains("already; open it with --if-missing"),
        "{again}"
    );
    let found = place
        .run(&["queue", "create", "b", "q", "--if-missing"])
        .ok();
    assert!(found.starts_with("found q"), "{found}");
    let other = [
        "queue",
        "create",
        "b",
        "q",
        "--if-missing",
        "--slots",
        "1024",
    ];
    let other = place.run(&other).refused(1);
    assert!(other.contains("exists with slots = 16384"), "{other}");
}

#[test]
fn a_dead_letter_queue_is_given_shown_and_taken_by_name() {
    let place = Place::new();
    place
        .run(&["queue", "create", "b", "dead", "--allow-sources", "none"])
        .ok();
    let create = "queue create b q --dead-letter dead --max-receives 1";
    let create: Vec<_> = create.split_whitespace().collect();
    // The refusal leaves no queue behind.
    let refused = place.run(&create).refused(1);
    assert!(refused.contains("does not allow"), "{refused}");
    assert_eq!(place.bus.objects().unwrap().len(), 1);
    let set = place.run(&["queue", "set", "b", "dead", "--allow-sources", "all"]);
    assert!(set.ok().contains("allowed sources            all"));
    place.run(&create).ok();
    let again = [&create[..], &["--if-missing"]].concat();
    place.run(&again).ok();
    let other = [&create[..create.len() - 1], &["2", "--if-missing"]].concat();
    let other = place.run(&other).refused(1);
    assert!(other.contains("another dead-letter policy"), "{other}");

    let stat = place.run(&["queue", "stat", "b", "q", "--json"]).json();
    assert_eq!(stat["settings"]["dead_letter"]["queue"], "dead");
    assert_eq!(stat["settings"]["dead_letter"]["max_receives"], 1);
    let table = place.run(&["queue", "stat", "b", "dead"]).ok();
    assert!(table.contains("the dead-letter queue of q\n"), "{table}");
    let listed = ["queue", "set", "b", "dead", "--allow-sources", "q"];
    assert!(
        place
            .run(&listed)
            .ok()
            .contains("allowed sources            q\n")
    );
    let more = ["queue", "set", "b", "q", "--max-receives", "7"];
    assert!(place.run(&more).ok().contains("dead after 7 receives"));
    let none = place
        .run(&["queue", "set", "b", "q", "--no-dead-letter"])
        .ok();
    assert!(none.contains("dead-letter queue          none"), "{none}");
}

#[test]
fn a_purge_says_how_many_messages_it_removed() {
    let place = Place::new();
    place.fill(&["a", "b", "c"]);
    assert_eq!(
        place.run(&["queue", "purge", "b", "q"]).ok(),
        "purged 3 messages of q\n"
    );
    assert_eq!(
        place.run(&["queue", "purge", "b", "q", "--json"]).json()["purged"],
        0
    );
}

#[test]
fn receipts_are_settled_from_a_shell() {
    let place = Place::new();
    place.fill(&["a", "b", "c"]);
    let lines = place.run(&["receive", "b", "q", "--json"]).ok();
    let receipts: Vec<String> = lines
        .lines()
        .map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            message["receipt"].as_str().unwrap().to_owned()
        })
        .collect();
    let [a, b, c] = receipts.each_ref_array();

    let deleted = place.run(&["queue", "delete", "b", "q", a, b]).ok();
    assert_eq!(deleted, format!("deleted {a}\ndeleted {b}\n"));
    assert_eq!(
        place.run(&["queue", "delete", "b", "q", a]).ok(),
        format!("gone {a}\n")
    );
    place
        .run(&["queue", "extend", "b", "q", c, "--visibility", "1h"])
        .ok();
    assert_eq!(place.queue().stats().in_flight, 1);
    place.run(&["queue", "nack", "b", "q", c]).ok();
    assert_eq!(place.queue().stats().visible, 1);

    // Received again, the old receipt is stale, and what can be settled is.
    let again = place.run(&["receive", "b", "q", "--json"]).ok();
    assert!(again.contains("\"receives\":2"), "{again}");
    let stale = place.run(&["queue", "delete", "b", "q", c, a]);
    assert_eq!(stale.out, format!("gone {a}\n"));
    assert!(
        stale.err.contains(&format!("{c}: this receipt is stale")),
        "{}",
        stale.err
    );
    assert_eq!(stale.code, Some(1));
}

trait EachRef {
    fn each_ref_array<const N: usize>(&self) -> [&str; N];
}

impl EachRef for Vec<String> {
    fn each_ref_array<const N: usize>(&self) -> [&str; N] {
        assert_eq!(self.len(), N);
        std::array::from_fn(|index| self[index].as_str())
    }
}

#[test]
fn wrong_usage_gets_a_sentence_that_helps() {
    let place = Place::new();
    place.bus.queue("orders").create().unwrap();
    place.bus.queue("mail").create().unwrap();
    place.bus.queue("trips").fifo().create().unwrap();
    place.bus.channel("ticks").create().unwrap();
    let receipt = "00000000000000ff-12-1";
    let cases: &[(&[&str], i32, &str)] = &[
        (&["send", "b", "ordres", "x"], 1, "did you mean orders?"),
        (&["receive", "b", "xyz"], 1, "there is mail, orders, trips"),
        (
            &["queue", "stat", "b", "ordes"],
            1,
            "`ringway queue create b ordes` makes it",
        ),
        (&["queue", "ls", "B"], 1, "there is no bus \"B\" under"),
        (&["queue", "ls", "bb"], 1, "did you mean b?"),
        (
            &["queue", "rm", "b", "ticks"],
            2,
            "`ringway channel rm b ticks`",
        ),
        (&["queue", "rm", "b", "oders"], 1, "did you mean orders?"),
        (&["send", "b", "ticks", "x"], 1, "is a channel, not a queue"),
        (
            &["queue", "create", "b", "q", "--slots", "1000"],
            2,
            "a power of two",
        ),
        (
            &["queue", "create", "b", "q", "--visibility", "13h"],
            2,
            "visibility",
        ),
        (
            &["queue", "create", "b", "q", "--delay", "soon"],
            2,
            "is no time such as",
        ),
        (&["queue", "create", "b", "a/b"], 2, "is no valid name"),
        (&["queue", "delete", "b", "orders"], 2, "<RECEIPTS>"),
        (
            &["queue", "delete", "b", "orders", "xyz"],
            2,
            "invalid value 'xyz'",
        ),
        (
            &["queue", "delete", "b", "orders", receipt],
            2,
            "is of queue 00000000000000ff",
        ),
        (&["receive", "b", "orders", "--max", "0"], 2, "--max"),
        (
            &["receive", "b", "orders", "--all", "--follow"],
            2,
            "cannot be used with",
        ),
        (
            &["send", "b", "orders", "x", "--lines", "-"],
            2,
            "cannot be used with",
        ),
        (
            &["send", "b", "orders", "x", "--body-column", "a"],
            2,
            "--body-column needs --csv",
        ),
        (
            &["send", "b", "trips", "x"],
            2,
            "trips is a FIFO queue, and every message needs a message group: give --group",
        ),
        (
            &["send", "b", "trips", "x", "--group", "g", "--delay", "1s"],
            2,
            "set the delay of the queue",
        ),
        (
            &["queue", "set", "b", "orders"],
            2,
            "there is nothing to set",
        ),
        (
            &["queue", "set", "b", "orders", "--retention", "1s"],
            2,
            "retention",
        ),
        (
            &["send", "b", "orders", "x", "--attribute", "a"],
            2,
            "write name=value",
        ),
        (
            &["send", "b", "orders", "x", "--attribute", "a:Number=x"],
            2,
            "--attribute: ",
        ),
        (
            &["send", "b", "orders", "--lines", "-", "--dedup-id", "x"],
            2,
            "cannot be used with",
        ),
        (
            &["send", "b", "orders", "x", "--group-column", "a"],
            2,
            "--group-column needs --csv",
        ),
        (
            &["send", "b", "orders", "--lines", "/no/such"],
            1,
            "can't open \"/no/such\"",
        ),
        (
            &["send", "b", "orders", "x", "--delay", "16m"],
            2,
            "0 to 900 s",
        ),
    ];
    for (arguments, code, sentence) in cases {
        let said = place.run(arguments);
        assert!(said.err.contains(sentence), "{arguments:?}: {}", said.err);
        assert_eq!(said.code, Some(*code), "{arguments:?}: {}", said.err);
        assert_eq!(said.out, "", "{arguments:?}");
    }
}

#[test]
fn help_teaches_with_examples_and_completions_know_the_verbs() {
    let place = Place::new();
    for verb in [&["send"][..], &["receive"], &["queue", "create"]] {
        let help = place.run(&[verb, &["--help"]].concat()).ok();
        assert!(help.contains("Examples:\n  ringway "), "{verb:?}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).ok();
        for verb in ["receive", "purge", "visibility"] {
            assert!(script.contains(verb), "{shell} does not know {verb}");
        }
    }
}
