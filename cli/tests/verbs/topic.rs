//! `ringway topic`.

use crate::place::Place;

const POLICY: &str = r#"{"store": ["corner"], "price": [{"numeric": [">", 5]}]}"#;

#[test]
fn a_policy_is_tried_on_a_message_and_the_failing_key_is_named() {
    let place = Place::new();
    let tried = |more: &[&str]| {
        let mut arguments = vec!["topic", "match", "--policy", POLICY];
        arguments.extend(more);
        place.run(&arguments)
    };
    let wanted = tried(&["--message", r#"{"store": "corner", "price": 5.5}"#]);
    assert_eq!(wanted.ok().lines().next(), Some("match"));
    let outcome = tried(&[
        "--attribute",
        "store=corner",
        "--attribute",
        "price:Number=5",
    ]);
    assert_eq!((outcome.code, &*outcome.err), (Some(1), ""));
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert_eq!(lines[0], "no match");
    assert!(
        lines[1].contains("yes  store") && lines[2].contains("no   price"),
        "{lines:?}"
    );
    assert!(lines[2].ends_with("found 5"), "{lines:?}");
    let json = tried(&[
        "--json",
        "--attributes",
        r#"{"store": ["x", "corner"], "price": 1}"#,
    ]);
    assert_eq!(json.code, Some(1));
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["matches"], false);
    assert_eq!(
        json["alternatives"][0][0]["found"],
        serde_json::json!(["x", "corner"])
    );
    assert_eq!(json["alternatives"][0][1]["holds"], false);
    let unreadable = tried(&["--json", "--message", "-"]);
    let json: serde_json::Value = serde_json::from_str(&unreadable.out).unwrap();
    assert_eq!(
        (unreadable.code, &json["readable"]),
        (Some(1), &false.into())
    );
}

#[test]
fn a_policy_and_a_message_come_from_files_and_from_standard_input() {
    let place = Place::new();
    let file = place.path().join("policy.json");
    std::fs::write(&file, POLICY).unwrap();
    let arguments = [
        "topic",
        "match",
        "--policy",
        file.to_str().unwrap(),
        "--message",
        "-",
    ];
    let message = br#"{"store": "corner", "price": 7}"#;
    assert!(
        place
            .run_with(&arguments, message)
            .ok()
            .starts_with("match")
    );
    let outcome = place.run_with(&arguments, b"{}");
    assert_eq!(outcome.code, Some(1));
    std::fs::remove_file(&file).unwrap();
    assert!(place.run(&arguments).refused(2).contains("nor a file"));
}

#[test]
fn what_is_no_policy_is_refused_with_the_reason_of_sns() {
    let place = Place::new();
    let six = r#"{"a": [1], "b": [1], "c": [1], "d": [1], "e": [1], "f": [1]}"#;
    let refused = place.run(&["topic", "match", "--policy", six]).refused(2);
    assert!(
        refused.contains("Filter policy can not have more than 5 keys"),
        "{refused}"
    );
    let arguments = [
        "topic",
        "match",
        "--no-limits",
        "--policy",
        six,
        "--message",
        "{}",
    ];
    assert_eq!(place.run(&arguments).code, Some(1));
    let empty = place
        .run(&["topic", "match", "--policy", "{\"a\": []}"])
        .refused(2);
    assert!(empty.contains("Empty arrays are not allowed"), "{empty}");
}

#[test]
fn three_commands_make_a_topic_subscribe_a_queue_and_publish() {
    let place = Place::new();
    place.queue();
    place.run(&["topic", "create", "b", "news"]).ok();
    let filter = r#"{"kind": ["sport"]}"#;
    let arguments = ["subscribe", "b", "news", "q", "--raw", "--filter", filter];
    let id = place.run(&arguments).ok().trim().to_owned();
    let publish = |body: &str, kind: &str| {
        let attribute = format!("kind={kind}");
        place
            .run(&["publish", "b", "news", body, "--attribute", &attribute])
            .ok()
    };
    publish("1:0", "sport");
    publish("rain", "weather");
    let received = place.run(&["receive", "b", "q", "--all", "--delete"]).ok();
    assert_eq!(received, "1:0\n");
    let stat = place.run(&["topic", "stat", "b", "news", "--json"]).json();
    assert_eq!(
        (&stat["published"], &stat["delivered"]),
        (&2.into(), &1.into())
    );
    assert_eq!(stat["subscriptions"][0]["id"], id);
    assert_eq!(stat["subscriptions"][0]["filter"]["kind"][0], "sport");
    assert_eq!(place.run(&["topic", "ls", "b"]).ok(), "news\n");
    place.run(&["unsubscribe", "b", "news", &id]).ok();
    assert!(
        place
            .run(&["unsubscribe", "b", "news", &id])
            .refused(1)
            .contains("no subscription")
    );
    let wrong = place
        .run(&["subscribe", "b", "news", "q", "--filter", "{\"a\": 1}"])
        .refused(2);
    assert!(wrong.contains("must be an object or an array"), "{wrong}");
    let missing = place.run(&["publish", "b", "new", "x"]).refused(1);
    assert!(missing.contains("did you mean news?"), "{missing}");
    place.run(&["topic", "rm", "b", "news"]).ok();
    assert_eq!(place.run(&["topic", "ls", "b"]).ok(), "no topic on b\n");
}

#[test]
fn a_listener_prints_what_is_published_line_by_line() {
    let place = Place::new();
    place.run(&["topic", "create", "b", "news"]).ok();
    let mut listener = place.start(&["listen", "b", "news", "--count", "3", "--json", "--ready"]);
    let mut line = String::new();
    let mut said = std::io::BufReader::new(listener.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert_eq!(line, "listening\n");
    let published = place.run_with(
        &["publish", "b", "news", "--lines", "-", "--subject", "s"],
        b"one\ntwo\nthree",
    );
    assert_eq!(published.ok(), "published 3\n");
    let output = listener.wait_with_output().unwrap();
    let heard = String::from_utf8(output.stdout).unwrap();
    let bodies: Vec<serde_json::Value> = heard
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said: Vec<_> = bodies
        .iter()
        .map(|one| one["body"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["one", "two", "three"]);
    assert_eq!(bodies[0]["subject"], "s");
}

#[test]
fn topics_reach_queues_of_other_buses_and_those_that_admit_them() {
    let place = Place::new();
    let west = ringway::Bus::builder("west")
        .root(place.path())
        .create()
        .unwrap();
    let far = west.queue("copy").create().unwrap();
    place.queue();
    place.run(&["topic", "create", "b", "news"]).ok();
    place
        .run(&["subscribe", "b", "news", "west/copy", "--raw"])
        .ok();
    place.run(&["subscribe", "b", "news", "q", "--raw"]).ok();
    let access = |flags: &[&str]| place.run(&[&["queue", "access", "b", "q"], flags].concat());
    assert_eq!(access(&[]).ok(), "all topics may deliver\n");
    let told = access(&["--topics", "sport,west/news", "--json"]).json();
    let arns = &told["policy"]["Statement"][0]["Condition"]["ArnLike"]["aws:SourceArn"];
    assert_eq!(arns[1], "arn:aws:sns:west:000000000000:news");
    let told = access(&["--topics", "local/news,west/news", "--json"]).json();
    let arns = &told["policy"]["Statement"][0]["Condition"]["ArnLike"]["aws:SourceArn"];
    assert_eq!(arns[0], "arn:aws:sns:bus.local:000000000000:news");
    place.run(&["publish", "b", "news", "one"]).ok();
    access(&["--topics", "n*"]).ok();
    place.run(&["publish", "b", "news", "two"]).ok();
    assert_eq!(place.run(&["receive", "b", "q", "--all"]).ok(), "two\n");
    assert_eq!(far.stats().visible, 2);
    assert_eq!(access(&["--all"]).ok(), "all topics may deliver\n");
    let refused = access(&["--policy", "{}"]).refused(2);
    assert!(
        refused.contains("--policy: Invalid value for the parameter Policy"),
        "{refused}"
    );
    let refused = access(&["--all", "--topics", "x"]).refused(2);
    assert!(refused.contains("cannot be used with"), "{refused}");
}

#[test]
fn a_durable_topic_that_nobody_has_asked_for_since_the_restart_is_not_damaged() {
    let place = Place::new();
    let disk = place.path().join("disk");
    let run = |arguments: &[&str]| {
        let root = ["--journal-root", disk.to_str().unwrap()];
        place.run(&[&root, arguments].concat())
    };
    let create = ["topic", "create", "b", "news", "--durability", "durable"];
    run(&create).ok();
    // What was in memory is gone.
    std::fs::remove_dir_all(place.bus.directory().join("topics")).unwrap();
    let told = run(&["stat", "b", "--json"]).json();
    assert_eq!(told["damaged"].as_array().unwrap().len(), 0, "{told}");
    assert_eq!(run(&["topic", "ls", "b"]).ok(), "news\n");
    // A file that says nothing any more is listed, told of, and removed.
    let file = disk.join("ringway-b/.topic-news");
    std::fs::write(&file, "nothing").unwrap();
    assert_eq!(run(&["topic", "ls", "b"]).ok(), "news\n");
    let refused = run(&["topic", "stat", "b", "news"]).refused(1);
    assert!(refused.contains(".topic-news is damaged"), "{refused}");
    run(&["topic", "rm", "b", "news"]).ok();
    assert!(!file.exists());
    run(&create).ok();
}
