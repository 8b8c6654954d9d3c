//! The examples of the documentation of SNS, and the cases that docs/decisions/0026 decides.

use super::{body, with};

/// The value of one attribute or property, in both scopes.
fn string(condition: &str, value: &str) -> bool {
    let policy = format!("{{\"k\": [{condition}]}}");
    let in_body = body(&policy, &serde_json::json!({"k": value}).to_string());
    assert_eq!(with(&policy, &[("k", "String", value)]), in_body);
    in_body
}

fn number(condition: &str, value: &str) -> bool {
    let policy = format!("{{\"k\": [{condition}]}}");
    let in_body = body(&policy, &format!("{{\"k\": {value}}}"));
    assert_eq!(with(&policy, &[("k", "Number", value)]), in_body);
    in_body
}

#[test]
fn a_policy_of_all_kinds_matches_the_message_of_the_documentation() {
    let policy = r#"{"store": ["example_corp"], "event": [{"anything-but": "order_cancelled"}],
        "customer_interests": ["rugby", "football", "baseball"],
        "price_usd": [{"numeric": [">=", 100]}]}"#;
    let message = |price: &'static str| {
        [
            ("store", "String", "example_corp"),
            ("event", "String", "order_placed"),
            (
                "customer_interests",
                "String.Array",
                r#"["soccer", "rugby", "hockey"]"#,
            ),
            ("price_usd", "Number", price),
        ]
    };
    assert!(with(policy, &message("210.75")));
    assert!(!with(policy, &message("99.99")));
    assert!(!with(policy, &message("210.75")[..3]));
}

#[test]
fn exact_texts_are_compared_with_their_case() {
    assert!(string(r#""rugby""#, "rugby") && !string(r#""rugby""#, "Rugby"));
    assert!(body(r#"{"k": ["rugby", "tennis"]}"#, r#"{"k": "tennis"}"#));
    assert!(!body(r#"{"k": ["rugby"]}"#, r#"{"K": "rugby"}"#));
}

#[test]
fn prefix_suffix_and_ignored_case_look_at_parts_of_a_text() {
    assert!(string(r#"{"prefix": "bas"}"#, "baseball") && !string(r#"{"prefix": "bas"}"#, "rugby"));
    assert!(
        string(r#"{"suffix": "ball"}"#, "football") && !string(r#"{"suffix": "ball"}"#, "ballet")
    );
    for value in ["TENNIS", "Tennis", "tennis"] {
        assert!(string(r#"{"equals-ignore-case": "tennis"}"#, value));
    }
    assert!(string(r#"{"equals-ignore-case": "STRAßE"}"#, "straße"));
    assert!(!string(r#"{"equals-ignore-case": "tennis"}"#, "rugby"));
    // A number has no prefix.
    assert!(!number(r#"{"prefix": "1"}"#, "12"));
}

#[test]
fn wildcards_match_any_run_of_characters() {
    assert!(string(r#"{"wildcard": "*ball"}"#, "football"));
    assert!(string(r#"{"wildcard": "foot*"}"#, "foot"));
    assert!(string(r#"{"wildcard": "a*/*.jpg"}"#, "abc/x.jpg"));
    assert!(!string(r#"{"wildcard": "a*/*.jpg"}"#, "abc.jpg"));
    assert!(string(r#"{"wildcard": "\\*"}"#, "*") && !string(r#"{"wildcard": "\\*"}"#, "x"));
    assert!(string(r#"{"wildcard": "*"}"#, "x") && !number(r#"{"wildcard": "*"}"#, "1"));
    assert!(
        string(r#"{"wildcard": "*ot*"}"#, "football")
            && string(r#"{"wildcard": "whole"}"#, "whole")
    );
}

#[test]
fn anything_but_excludes_values_lists_prefixes_suffixes_and_wildcards() {
    for (excluded, yes, no) in [
        (r#""rugby""#, "tennis", "rugby"),
        (r#"["rugby", "tennis"]"#, "baseball", "tennis"),
        (r#"{"prefix": "order-"}"#, "data-entry", "order-1"),
        (r#"{"suffix": "ball"}"#, "tennis", "baseball"),
        (r#"{"wildcard": "*bal*"}"#, "hockey", "football"),
        (r#"{"prefix": ["a", "b"]}"#, "cab", "bac"),
        (r#"{"wildcard": ["*a", "b*"]}"#, "ab", "ba"),
        (r#"{"equals-ignore-case": "Tennis"}"#, "rugby", "TENNIS"),
    ] {
        let condition = format!("{{\"anything-but\": {excluded}}}");
        assert!(
            string(&condition, yes) && !string(&condition, no),
            "{excluded}"
        );
    }
    assert!(number(r#"{"anything-but": [100, 500]}"#, "101"));
    assert!(number(r#"{"anything-but": [100, 500]}"#, "100.1"));
    assert!(!number(r#"{"anything-but": [100, 500]}"#, "100"));
    // Where there is nothing, there is nothing else either; with exists both are wanted.
    assert!(!body(
        r#"{"k": [{"anything-but": "x"}]}"#,
        r#"{"other": 1}"#
    ));
    let or_nothing = r#"{"k": [{"anything-but": "x"}, {"exists": false}]}"#;
    assert!(body(or_nothing, r#"{"other": 1}"#) && !body(or_nothing, r#"{"k": "x"}"#));
}

#[test]
fn a_value_of_an_array_is_enough() {
    let interests = |value: &str| {
        let policy = r#"{"interests": [{"anything-but": ["rugby", "tennis"]}]}"#;
        let in_body = body(policy, &format!("{{\"interests\": {value}}}"));
        let with = with(policy, &[("interests", "String.Array", value)]);
        assert_eq!(with, in_body);
        in_body
    };
    assert!(interests(r#"["rugby", "baseball"]"#) && !interests(r#"["rugby", "tennis"]"#));
    assert!(!interests("[]"));
    assert!(body(
        r#"{"k": [{"anything-but": [100, 500]}]}"#,
        r#"{"k": [100, 50]}"#
    ));
    assert!(with(
        r#"{"k": [3, true, null]}"#,
        &[("k", "String.Array", "[null]")]
    ));
    assert!(with(
        r#"{"k": [3, true, null]}"#,
        &[("k", "String.Array", "[false, 3.0]")]
    ));
    assert!(!with(
        r#"{"k": [3, true, null]}"#,
        &[("k", "String.Array", r#"["3", false]"#)]
    ));
    // Not an array after all: no values.
    for broken in ["[1, 2", "7", "{\"k\": 1}", "[1] 2"] {
        assert!(
            !with(r#"{"k": [1, 7]}"#, &[("k", "String.Array", broken)]),
            "{broken}"
        );
    }
}

#[test]
fn numbers_are_equal_whatever_way_they_are_written() {
    for value in ["301.5", "3.015e2", "301.50", "301.500001"] {
        assert!(
            number(r#"{"numeric": ["=", 301.5]}"#, value) && number("301.5", value),
            "{value}"
        );
    }
    assert!(!number("301.5", "301.50001"));
    // A text is no number, and a number no text.
    assert!(!string("1", "1") && !number(r#""1""#, "1"));
    assert!(!string(r#"{"numeric": [">", 0]}"#, "1"));
}

#[test]
fn ranges_include_what_they_say() {
    let range = r#"{"numeric": [">", 0, "<=", 150]}"#;
    for (value, is_in) in [
        ("0", false),
        ("0.00001", true),
        ("150", true),
        ("150.00001", false),
    ] {
        assert_eq!(number(range, value), is_in, "{value}");
    }
    assert!(
        number(r#"{"numeric": ["<", 0]}"#, "-0.00001") && !number(r#"{"numeric": ["<", 0]}"#, "0")
    );
    assert!(
        number(r#"{"numeric": [">=", 1, "<", 2]}"#, "1")
            && !number(r#"{"numeric": [">=", 1, "<", 2]}"#, "2")
    );
    assert!(
        number(r#"{"numeric": [">", 0]}"#, "5e9"),
        "a message may have larger ones"
    );
    assert!(number(r#"{"numeric": ["<=", -1e9]}"#, "-1000000000"));
    assert!(
        !number(r#"{"numeric": [">", 0]}"#, "1e20") && number(r#"{"anything-but": 1}"#, "1e20")
    );
}

#[test]
fn addresses_are_found_in_their_blocks() {
    assert!(string(r#"{"cidr": "10.0.0.0/24"}"#, "10.0.0.255"));
    assert!(!string(r#"{"cidr": "10.0.0.0/24"}"#, "10.0.1.1"));
    assert!(string(r#"{"cidr": "2001:db8::/32"}"#, "2001:DB8::7"));
    assert!(!string(r#"{"cidr": "2001:db8::/32"}"#, "2001:db9::7"));
    assert!(
        !string(r#"{"cidr": "0.0.0.0/0"}"#, "::1") && !string(r#"{"cidr": "0.0.0.0/0"}"#, "home")
    );
}

#[test]
fn exists_asks_for_a_value_and_its_absence_for_none() {
    let exists = r#"{"store": [{"exists": true}]}"#;
    assert!(body(exists, r#"{"store": "fans"}"#) && body(exists, r#"{"store": [false]}"#));
    for nothing in [
        r#"{"store": null}"#,
        r#"{"store": ""}"#,
        r#"{"store": []}"#,
        r#"{"x": 1}"#,
    ] {
        assert!(!body(exists, nothing), "{nothing}");
    }
    // Only leaves.
    assert!(!body(exists, r#"{"store": {"city": "Graz"}}"#));
    let absent = r#"{"store": [{"exists": false}]}"#;
    assert!(body(absent, r#"{"x": 1}"#) && body(absent, r#"{"store": {"city": "Graz"}}"#));
    assert!(!body(absent, r#"{"store": "fans"}"#) && !body(absent, r#"{"store": null}"#));
    // Not of a message that has nothing at all.
    assert!(!body(absent, "{}") && !with(absent, &[]));
    assert!(with(absent, &[("x", "Number", "1")]) && !with(absent, &[("store", "String", "fans")]));
    // Bytes are no attribute to a policy.
    assert!(
        !with(exists, &[("store", "Binary", "x")]) && !with(absent, &[("store", "Binary", "x")])
    );
}

#[test]
fn keys_are_all_wanted_and_or_wants_one() {
    let policy = r#"{"source": ["aws.cloudwatch"], "$or": [
        {"metricName": ["CPUUtilization"]}, {"namespace": ["AWS/EC2"]}]}"#;
    assert!(body(
        policy,
        r#"{"source": "aws.cloudwatch", "metricName": "CPUUtilization"}"#
    ));
    assert!(body(
        policy,
        r#"{"source": "aws.cloudwatch", "namespace": "AWS/EC2", "x": [1]}"#
    ));
    assert!(!body(
        policy,
        r#"{"source": "aws.cloudwatch", "namespace": "AWS/ES"}"#
    ));
    assert!(!body(
        policy,
        r#"{"source": "aws.sqs", "namespace": "AWS/EC2"}"#
    ));
    // Both alternatives are one match: `agreed` asks for each id once.
    assert!(body(
        policy,
        r#"{"source": "aws.cloudwatch", "metricName": "CPUUtilization", "namespace": "AWS/EC2"}"#
    ));
    let nested = r#"{"a": {"$or": [{"b": [1]}, {"c": [2], "$or": [{"d": [3]}, {"e": [4]}]}]}}"#;
    assert!(body(nested, r#"{"a": {"b": 1}}"#) && body(nested, r#"{"a": {"c": 2, "e": 4}}"#));
    assert!(!body(nested, r#"{"a": {"c": 2, "e": 5}}"#) && !body(nested, r#"{"b": 1}"#));
    // No alternatives, but conditions on an attribute of that name.
    let named = r#"{"$or": [{"numeric": ["=", 123]}, {"prefix": "abc"}]}"#;
    assert!(body(named, r#"{"$or": 123}"#) && body(named, r#"{"$or": "abcd"}"#));
    assert!(body(r#"{"$or": ["x"]}"#, r#"{"$or": "x"}"#));
}

#[test]
fn nested_keys_are_found_through_objects_and_arrays() {
    let policy = r#"{"order": {"item": {"name": ["ball"], "price": [{"numeric": ["<", 10]}]}}}"#;
    assert!(body(
        policy,
        r#"{"order": {"item": {"name": "ball", "price": 9.5}}}"#
    ));
    assert!(!body(
        policy,
        r#"{"order": {"item": {"name": "ball", "price": 10}}}"#
    ));
    assert!(!body(policy, r#"{"item": {"name": "ball", "price": 9.5}}"#));
    let items =
        r#"{"order": {"item": [{"name": "bat", "price": 20}, {"name": "ball", "price": 5}]}}"#;
    assert!(body(policy, items));
    // Each key by itself, also where its values are of different elements.
    assert!(body(
        policy,
        r#"{"order": [{"item": {"name": "ball"}}, {"item": {"price": 5}}]}"#
    ));
    // A path is its keys with periods between them.
    assert!(body(r#"{"a.b": [1]}"#, r#"{"a": {"b": 1}}"#));
    assert!(body(r#"{"a": {"b": [1]}}"#, r#"{"a.b": 1}"#));
    assert!(body(r#"{"k": ["ü\"\\"]}"#, r#"{"k": "\u00fc\"\\"}"#));
}

#[test]
fn a_body_that_is_no_object_matches_nothing_but_the_empty_policy() {
    for text in [
        "",
        "text",
        "[1]",
        "7",
        "{\"k\": 1",
        "{\"k\": 1} x",
        "\"k\"",
        "{\"k\": 1, }",
    ] {
        assert!(!body(r#"{"k": [1]}"#, text), "{text}");
        assert!(!body(r#"{"x": [{"exists": false}]}"#, text), "{text}");
        assert!(body("{}", text), "{text}");
    }
    // Nor where what is wrong is in a part that is not looked at.
    for part in [r#""\ud800""#, "1e999", "[nul]", "{1: 2}"] {
        assert!(
            !body(r#"{"k": [1]}"#, &format!("{{\"k\": 1, \"x\": {part}}}")),
            "{part}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(!body(r#"{"k": [1]}"#, &format!("{{\"k\": {deep}")));
    assert!(body(
        r#"{"k": [1]}"#,
        " {\"x\": {\"y\": [1, {}]}, \"k\": 1} "
    ));
}
