//! `ringway send`.

use crate::place::{Place, signal, until};
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn a_message_is_an_argument_or_all_of_standard_input() {
    let place = Place::new();
    place.queue();
    assert_eq!(place.run(&["send", "b", "q", "one\ntwo"]).ok(), "sent 1\n");
    assert_eq!(
        place
            .run_with(&["send", "b", "q", "--json"], b"\0\xff\n\n")
            .json()["sent"],
        1
    );
    let mut receiver = place.queue().receiver().unwrap();
    let messages = receiver.receive(10, Duration::ZERO, None).unwrap();
    assert_eq!(messages[0].body, b"one\ntwo");
    assert_eq!(messages[1].body, b"\0\xff\n\n");
}

#[test]
fn a_delay_holds_a_message_back() {
    let place = Place::new();
    place.queue();
    place
        .run(&["send", "b", "q", "later", "--delay", "15m"])
        .ok();
    assert_eq!(place.queue().stats().delayed, 1);
}

#[test]
fn a_hundred_thousand_lines_come_out_each_once_and_as_they_went_in() {
    let place = Place::new();
    place.queue();
    // More than the queue holds: the sender waits for the receiver.
    let mut text = Vec::new();
    for number in 0..100_000u32 {
        let pad = "x".repeat((number % 97) as usize);
        writeln!(text, "{number} {pad}").unwrap();
    }
    let receive = [
        "receive", "b", "q", "--follow", "--count", "100000", "--delete", "--max", "100",
    ];
    let receiver = place.start(&receive);
    let output = std::thread::spawn(|| receiver.wait_with_output().unwrap());
    let sent = place.run_with(&["send", "b", "q", "--lines", "-"], &text);
    assert_eq!(sent.ok(), "sent 100000\n");
    let output = output.join().unwrap();
    assert!(output.status.success());
    let left = place.queue().stats();
    // In their order, also where the sender stood still and was stepped over: it sent anew what it had claimed
    // before anything else.
    let numbers = output
        .stdout
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            let digits = line.split(|byte| *byte == b' ').next().unwrap();
            std::str::from_utf8(digits).unwrap().parse::<u32>().unwrap()
        });
    let broken = numbers.zip(0..).find(|(number, place)| number != place);
    assert_eq!(broken, None, "{} claims were abandoned", left.abandoned);
    assert_eq!(Sha256::digest(&output.stdout), Sha256::digest(&text));
    assert_eq!(
        (left.visible, left.in_flight, left.deleted),
        (0, 0, 100_000)
    );
}

#[test]
fn rows_of_a_csv_file_keep_their_bytes() {
    let place = Place::new();
    place.queue();
    let file = place.path().join("rows.csv");
    let rows: [&[u8]; 4] = [
        b"1,\"a \"\"quoted\"\", and\nbroken\",",
        b",,",
        b"3,\"\",\xff\xfe",
        b" 4 , x,\"y\"",
    ];
    let mut text = b"id,what,n\r\n".to_vec();
    for row in rows {
        text.extend_from_slice(row);
        text.extend_from_slice(b"\r\n");
    }
    std::fs::write(&file, text).unwrap();
    let sent = place.run(&["send", "b", "q", "--csv", file.to_str().unwrap()]);
    assert_eq!(sent.ok(), "sent 4\n");
    let mut receiver = place.queue().receiver().unwrap();
    let messages = receiver.receive(10, Duration::ZERO, None).unwrap();
    let bodies: Vec<_> = messages
        .iter()
        .map(|message| message.body.as_slice())
        .collect();
    assert_eq!(bodies, rows);
}

#[test]
fn flags_say_what_there_is_to_say_about_a_message() {
    let place = Place::new();
    place.queue();
    let flags = "send b q body --group g --dedup-id d --trace-header t --attribute city=Graz \
                 --attribute n:Number.kg=5 --attribute seal:Binary=/wA=";
    place
        .run(&flags.split_whitespace().collect::<Vec<_>>())
        .ok();
    let line = place.run(&["receive", "b", "q", "--json"]).json();
    assert_eq!(line["body"], "body");
    assert_eq!(
        (&line["group"], &line["dedup_id"]),
        (&"g".into(), &"d".into())
    );
    assert_eq!(line["trace_header"], "t");
    let attributes = serde_json::json!({
        "city": {"type": "String", "value": "Graz"},
        "n": {"type": "Number.kg", "value": "5"},
        "seal": {"type": "Binary", "value_base64": "/wA="},
    });
    assert_eq!(line["attributes"], attributes);
}

#[test]
fn a_column_says_when_a_row_becomes_visible() {
    let place = Place::new();
    place.queue();
    let flags = ["send", "b", "q", "--csv", "-", "--delay-column", "wait"];
    let text = b"id,wait\n1,10m\n2,\n3,0\n";
    assert_eq!(place.run_with(&flags, text).ok(), "sent 3\n");
    let stats = place.queue().stats();
    assert_eq!((stats.visible, stats.delayed), (2, 1));
    let refused = place.run_with(&flags, b"id,wait\n4,soon\n").refused(1);
    assert!(
        refused.contains("line 2 was not sent") && refused.contains("soon"),
        "{refused}"
    );
}

#[test]
fn columns_say_what_there_is_to_say_about_a_row() {
    let place = Place::new();
    place.queue();
    let text = b"id,tail,carrier,km\n1,N1,\"A\"\"A\",100\n2,,,\n";
    let flags = "send b q --csv - --group-column tail --group none --dedup-column id \
                 --attribute-column carrier --attribute-column km:Number --attribute all=1";
    let flags: Vec<_> = flags.split_whitespace().collect();
    assert_eq!(place.run_with(&flags, text).ok(), "sent 2\n");
    let lines = place.run(&["receive", "b", "q", "--json"]).ok();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["body"], "1,N1,\"A\"\"A\",100");
    assert_eq!(
        (&lines[0]["group"], &lines[0]["dedup_id"]),
        (&"N1".into(), &"1".into())
    );
    let attributes = serde_json::json!({
        "all": {"type": "String", "value": "1"},
        "carrier": {"type": "String", "value": "A\"A"},
        "km": {"type": "Number", "value": "100"},
    });
    assert_eq!(lines[0]["attributes"], attributes);
    // An empty value is no attribute, and no group of its own.
    assert_eq!(
        (&lines[1]["group"], &lines[1]["body"]),
        (&"none".into(), &"2,,,".into())
    );
    assert_eq!(
        lines[1]["attributes"],
        serde_json::json!({"all": {"type": "String", "value": "1"}})
    );

    let refused = place.run_with(&flags, b"id,tail,carrier,km\n3,N1,A,1\n4,N1,A,NA\n");
    assert_eq!(refused.out, "sent 1\n");
    let said = refused.refused(1);
    assert!(
        said.contains("line 3 was not sent") && said.contains("\"km\""),
        "{said}"
    );
}

#[test]
fn rows_keep_their_order_within_each_group_of_a_fifo_queue() {
    let place = Place::new();
    let created = place.run(&["queue", "create", "b", "q", "--fifo"]).ok();
    assert!(created.starts_with("created q: FIFO, "), "{created}");
    let planes = ["N1", "N2", "N3"];
    let mut text = "plane,leg\n".to_owned();
    for leg in 0..20 {
        for plane in planes {
            text += &format!("{plane},{leg}\n");
        }
    }
    let send = ["send", "b", "q", "--csv", "-", "--group-column", "plane"];
    assert_eq!(place.run_with(&send, text.as_bytes()).ok(), "sent 60\n");
    // What is in flight hides the rest of its group.
    let held = place.run(&["receive", "b", "q", "--max", "1"]).ok();
    let receive = ["receive", "b", "q", "--all", "--delete", "--max", "1"];
    let others = place.run(&receive).ok();
    let hidden = held.split(',').next().unwrap();
    assert!(!others.contains(hidden), "{others}");
    for plane in planes.iter().filter(|plane| **plane != hidden) {
        let legs: Vec<String> = (0..20).map(|leg| format!("{plane},{leg}")).collect();
        let received: Vec<&str> = others.lines().filter(|l| l.starts_with(plane)).collect();
        assert_eq!(received, legs);
    }

    let refused = place.run_with(&send, b"plane,leg\nN1,1\n,2\n");
    assert_eq!(refused.out, "sent 1\n");
    let said = refused.refused(1);
    assert!(
        said.contains("line 3 was not sent") && said.contains("group column is empty"),
        "{said}"
    );
}

#[test]
fn a_queue_grows_up_to_its_bytes_before_anybody_waits() {
    let place = Place::new();
    let create = "queue create b q --slots 1024 --stride 64 --max-bytes 1M";
    place
        .run(&create.split_whitespace().collect::<Vec<_>>())
        .ok();
    let text: String = (0..3000).map(|n| format!("{n}\n")).collect();
    let sent = place.run_with(&["send", "b", "q", "--lines", "-"], text.as_bytes());
    assert_eq!(sent.ok(), "sent 3000\n");
    let stat = place.run(&["queue", "stat", "b", "q", "--json"]).json();
    assert_eq!(stat["max_bytes"], 1 << 20);
    assert!(stat["messages"]["rings"].as_u64() > Some(1), "{stat}");
    let all = ["receive", "b", "q", "--all", "--delete", "--max", "100"];
    assert_eq!(place.run(&all).ok(), text);
}

#[test]
fn repeated_rows_are_told_and_delivered_once() {
    let place = Place::new();
    let create = "queue create b q --fifo --dedup 2000 --dedup-window 1h --dedup-scope group";
    let create: Vec<_> = create.split_whitespace().collect();
    place.run(&create).ok();
    let stat = place.run(&["queue", "stat", "b", "q", "--json"]).json();
    let dedup = serde_json::json!({
        "ids": 2000, "window_ms": 3_600_000, "scope": "group", "by_content": false,
        "optional": false,
    });
    assert_eq!(stat["dedup"], dedup);
    let send = [
        "send",
        "b",
        "q",
        "--csv",
        "-",
        "--group-column",
        "g",
        "--dedup-column",
        "id",
    ];
    let rows = b"id,g\n1,A\n2,A\n1,A\n1,B\n";
    let told = place.run_with(&send, rows).ok();
    assert_eq!(told, "sent 3; 1 more repeat earlier ones\n");
    let again = place
        .run_with(&[&send[..], &["--json"]].concat(), rows)
        .json();
    assert_eq!(again, serde_json::json!({"sent": 0, "duplicates": 4}));
    let bodies = place.run(&["receive", "b", "q", "--all", "--delete"]).ok();
    assert_eq!(bodies, "1,A\n2,A\n1,B\n");
    let none = place
        .run(&["send", "b", "q", "x", "--group", "A"])
        .refused(2);
    assert!(none.contains("give --dedup-id ID"), "{none}");
}

#[test]
fn a_fifo_queue_compares_ids_without_being_told_to() {
    let place = Place::new();
    place.run(&["queue", "create", "b", "q", "--fifo"]).ok();
    let once = ["send", "b", "q", "x", "--group", "A", "--dedup-id", "1"];
    place.run(&once).ok();
    place.run(&once).ok();
    place.run(&["send", "b", "q", "y", "--group", "A"]).ok();
    let bodies = place.run(&["receive", "b", "q", "--all", "--delete"]).ok();
    assert_eq!(bodies, "x\ny\n");

    let plain = ["queue", "create", "b", "plain", "--fifo", "--dedup", "none"];
    place.run(&plain).ok();
    let to_plain = ["send", "b", "plain", "x", "--group", "A", "--dedup-id", "1"];
    let refused = place.run(&to_plain).refused(1);
    assert!(
        refused.contains("created without deduplication"),
        "{refused}"
    );
    let both = [&plain[..], &["--dedup-by-content"]].concat();
    let refused = place.run(&both).refused(2);
    assert!(refused.contains("--dedup none leaves nothing"), "{refused}");
}

#[test]
fn what_can_not_be_sent_is_named_by_its_line_and_nothing_behind_it_is_sent() {
    let place = Place::new();
    place.bus.queue("q").max_message_bytes(5).create().unwrap();
    let lines = place.run_with(&["send", "b", "q", "--lines", "-"], b"1\n2\n123456\n4\n");
    assert_eq!(lines.out, "sent 2\n");
    assert!(lines.refused(1).contains("line 3 was not sent"));
    assert_eq!(place.queue().stats().visible, 2);
    let rows = place.run_with(&["send", "b", "q", "--csv", "-"], b"a,b\n1,2\n3\n4,5\n");
    assert_eq!(rows.out, "sent 1\n");
    assert!(rows.refused(1).contains("line 3 was not sent"));
    assert_eq!(place.queue().stats().visible, 3);
}

#[test]
fn a_full_queue_is_waited_for_and_then_named_with_the_line() {
    let place = Place::new();
    place.bus.queue("q").slots(1024).create().unwrap();
    let text: String = (1..=1030).map(|n| format!("{n}\n")).collect();
    let send = ["send", "b", "q", "--timeout", "20ms", "--lines", "-"];
    let refused = place.run_with(&send, text.as_bytes());
    assert_eq!(refused.out, "sent 1024\n");
    let said = refused.refused(1);
    assert!(
        said.contains("line 1025 was not sent") && said.contains("--timeout"),
        "{said}"
    );
}

#[test]
fn a_line_is_sent_as_soon_as_it_is_there() {
    let place = Place::new();
    let queue = place.queue();
    let mut send = place.command(&["send", "b", "q", "--lines", "-"]);
    let mut child = send.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"first\nsec").unwrap();
    until("the first line", || queue.stats().visible == 1);
    stdin.write_all(b"ond\n").unwrap();
    until("the second line", || queue.stats().visible == 2);
    // Interrupted while it waits for more, it says how far it came.
    signal(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "sent 2\n");
    assert_eq!(crate::place::Outcome::from(output).signal, Some(15));
    drop(stdin);
}

#[test]
fn a_send_that_waits_for_room_is_interrupted() {
    let place = Place::new();
    let queue = place.bus.queue("q").slots(1024).create().unwrap();
    let file = place.path().join("lines");
    std::fs::write(&file, "x\n".repeat(2000)).unwrap();
    let child = place.start(&["send", "b", "q", "--lines", file.to_str().unwrap()]);
    until("a full queue", || queue.stats().visible == 1024);
    signal(&child, Signal::INT);
    let outcome = crate::place::Outcome::from(child.wait_with_output().unwrap());
    assert_eq!(
        (outcome.signal, outcome.out.as_str()),
        (Some(2), "sent 1024\n")
    );
}
