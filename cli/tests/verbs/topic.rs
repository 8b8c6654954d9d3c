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
