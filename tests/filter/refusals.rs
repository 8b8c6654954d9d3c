//! What is no policy is refused, in the words of SNS; the limits can be lifted.

use ringway::filter::{Policy, PolicyError, PolicyLimits, Scope};

fn refused(text: &str, scope: Scope) -> PolicyError {
    match Policy::parse(text, scope, &PolicyLimits::SNS) {
        Err(error) => error,
        Ok(policy) => panic!("{text} is {policy:?}"),
    }
}

#[test]
fn what_is_no_policy_is_refused_with_the_reason_of_sns() {
    for (text, reason) in [
        ("", "failed to parse JSON."),
        ("{\"k\": [1]", "failed to parse JSON."),
        ("[1]", "Filter is not an object"),
        (r#"{"k": "x"}"#, r#""k" must be an object or an array"#),
        (r#"{"k": []}"#, "Empty arrays are not allowed"),
        (r#"{"k": {}}"#, "Empty objects are not allowed"),
        (
            r#"{"$or": [{}, {"a": [1]}]}"#,
            "Empty objects are not allowed",
        ),
        (
            r#"{"k": [["x"]]}"#,
            "Match value must be String, number, true, false, or null",
        ),
        (
            r#"{"k": [{"prefix": "a", "suffix": "b"}]}"#,
            "Only one key allowed in match expression",
        ),
        (r#"{"k": [{}]}"#, "Only one key allowed in match expression"),
        (r#"{"k": [{"like": "a"}]}"#, "Unrecognized match type like"),
        (
            r#"{"k": [{"prefix": 1}]}"#,
            "prefix match pattern must be a string",
        ),
        (
            r#"{"k": [{"suffix": ["a"]}]}"#,
            "suffix match pattern must be a string",
        ),
        (
            r#"{"k": [{"equals-ignore-case": null}]}"#,
            "equals-ignore-case match pattern must be a string",
        ),
        (
            r#"{"k": [{"exists": "yes"}]}"#,
            "exists match pattern must be either true or false.",
        ),
        (
            r#"{"k": [{"anything-but": []}]}"#,
            "Empty arrays are not allowed",
        ),
        (
            r#"{"k": [{"anything-but": {"numeric": ["=", 1]}}]}"#,
            "Unsupported anything-but pattern: numeric",
        ),
        (
            r#"{"k": [{"anything-but": [["x"]]}]}"#,
            "Match value must be String, number, true, false, or null",
        ),
        (
            r#"{"k": [{"cidr": 10}]}"#,
            "prefix match pattern must be a string",
        ),
        (
            r#"{"k": [{"cidr": "10.0.0.0"}]}"#,
            "Malformed CIDR, one '/' required",
        ),
        (
            r#"{"k": [{"cidr": "10.0.0.0/x"}]}"#,
            "Malformed CIDR, mask bits must be an integer",
        ),
        (
            r#"{"k": [{"cidr": "home/8"}]}"#,
            "Nonstandard IP address: home",
        ),
        (
            r#"{"k": [{"numeric": []}]}"#,
            "Invalid member in numeric match: ]",
        ),
        (
            r#"{"k": [{"numeric": ["!=", 1]}]}"#,
            "Unrecognized numeric range operator: !=",
        ),
        (
            r#"{"k": [{"numeric": ["=", "1"]}]}"#,
            "Value of equals must be numeric",
        ),
        (
            r#"{"k": [{"numeric": [">"]}]}"#,
            "Value of > must be numeric",
        ),
        (
            r#"{"k": [{"numeric": ["<", 1, ">", 0]}]}"#,
            "Too many elements in numeric expression",
        ),
        (
            r#"{"k": [{"numeric": [">", 1, ">", 2]}]}"#,
            "Bad numeric range operator: >",
        ),
        (
            r#"{"k": [{"numeric": [">", 2, "<", 2]}]}"#,
            "Bottom must be less than top",
        ),
        (
            r#"{"k": [{"numeric": [">", 1, "<", 2, "<", 3]}]}"#,
            "Too many terms in numeric range expression",
        ),
        (
            r#"{"k": [1000000001]}"#,
            "Value must be between -1.0E9 and 1.0E9, inclusive",
        ),
        (
            r#"{"k": [{"numeric": [">", -1e10]}]}"#,
            "Value must be between -1.0E9 and 1.0E9, inclusive",
        ),
        (
            r#"{"k": [{"wildcard": "a**b"}]}"#,
            "Consecutive wildcard characters at pos 2",
        ),
        (
            r#"{"k": [{"wildcard": "a\\n"}]}"#,
            "Invalid escape character at pos 1",
        ),
        (
            r#"{"k": [{"wildcard": "*a*b*c*"}]}"#,
            "A single pattern must not contain more than 3 wildcards",
        ),
        (
            r#"{"k": [1], "k": [2]}"#,
            "Path `k` cannot be allowed multiple times",
        ),
    ] {
        let error = refused(text, Scope::Body);
        assert_eq!(error.reason(), format!("FilterPolicy: {reason}"), "{text}");
        assert!(error.to_string().starts_with(&error.reason()), "{error}");
    }
    let error = refused(r#"{"a": {"b": [1]}}"#, Scope::Attributes);
    assert!(
        error
            .reason()
            .ends_with("MessageAttributes does not support nested filter policy")
    );
}

/// The largest that is allowed, one more, and what is said about it then.
fn bound(largest: &str, larger: &str, is_meant: fn(&PolicyError) -> bool) {
    let parse = |text, limits| Policy::parse(text, Scope::Body, &limits);
    parse(largest, PolicyLimits::SNS).expect("the largest");
    let error = parse(larger, PolicyLimits::SNS).expect_err("one more");
    assert!(is_meant(&error), "{error}");
    parse(larger, PolicyLimits::NONE).expect("without limits");
}

#[test]
fn five_keys_and_no_more() {
    bound(
        r#"{"a": [1], "b": [1], "c": [1], "d": [1], "e": {"f": [1], "g": [1]}}"#,
        r#"{"a": [1], "b": [1], "c": [1], "d": [1], "e": [1], "f": [1]}"#,
        |error| matches!(error, PolicyError::TooManyKeys { keys: 6, max: 5 }),
    );
}

#[test]
fn a_hundred_and_fifty_combinations_and_no_more() {
    let values = |count: usize| format!("{:?}", (0..count).collect::<Vec<_>>());
    let of = |a, b, c| {
        format!(
            "{{\"a\": {}, \"b\": {}, \"c\": {}}}",
            values(a),
            values(b),
            values(c)
        )
    };
    let is_meant = |error: &PolicyError| matches!(error, PolicyError::TooComplex { combinations, max: 150 } if *combinations > 150);
    bound(&of(10, 5, 3), &of(151, 1, 1), is_meant);
    // Each array counts as often as its key is deep: 3 × 4 × 2 × 3 = 72, and × 3 more = 216.
    let nested = r#"{"key_a": {"key_b": {"key_c": [1, 2, 3, 4]}}, "key_d": {"key_e": [1, 2, 3]}"#;
    bound(
        &format!("{nested}}}"),
        &format!("{nested}, \"key_f\": [1, 2, 3]}}"),
        is_meant,
    );
    // Alternatives are added: 2 × (50 + 25).
    let or = |n| {
        format!(
            "{{\"a\": [1, 2], \"$or\": [{{\"b\": {}}}, {{\"c\": {}}}]}}",
            values(50),
            values(n)
        )
    };
    bound(&or(25), &or(26), is_meant);
}

#[test]
fn wildcards_count_a_hundred_points_and_no_more() {
    let of = |patterns: &[&str]| {
        let list: Vec<_> = patterns
            .iter()
            .map(|p| format!("{{\"wildcard\": \"{p}\"}}"))
            .collect();
        format!("{{\"k\": [{}]}}", list.join(","))
    };
    let ten: Vec<String> = (0..11).map(|i| format!("*{i}")).collect();
    let ten: Vec<&str> = ten.iter().map(String::as_str).collect();
    // Ten of one star: (1 + … + 1) × 10 = 100. With more stars each counts 3.
    let is_meant =
        |error: &PolicyError| matches!(error, PolicyError::WildcardsTooComplex { max: 100, .. });
    bound(&of(&ten[..10]), &of(&ten), is_meant);
    let of_two = ["*a*", "*b*", "*c*", "*d*", "*e*", "*f*"];
    bound(&of(&of_two[..5]), &of(&of_two), is_meant);
}

#[test]
fn a_policy_of_256_kib_and_no_more() {
    let of = |bytes: usize| format!("{{\"k\": [\"{}\"]}}", "x".repeat(bytes - 11));
    assert_eq!(of(1000).len(), 1000);
    bound(&of(256 << 10), &of((256 << 10) + 1), |error| {
        matches!(
            error,
            PolicyError::TooLong {
                bytes: 262_145,
                max: 262_144
            }
        )
    });
}

#[test]
fn without_limits_there_is_still_an_end() {
    let pair = r#"[{"a": [1]}, {"b": [1]}]"#;
    // Each $or doubles the alternatives, one inside of the other's objects.
    let mut text = r#"{"z": [1]}"#.to_owned();
    for level in 0..13 {
        text = format!("{{\"k{level}\": {{\"$or\": {pair}}}, \"n\": {text}}}");
    }
    let error =
        Policy::parse(&text, Scope::Body, &PolicyLimits::NONE).expect_err("8,192 alternatives");
    assert!(
        matches!(error, PolicyError::TooComplex { max: 4096, .. }),
        "{error}"
    );
    let deep = format!("{}1{}", "{\"k\":".repeat(10_000), "}".repeat(10_000));
    let error = Policy::parse(&deep, Scope::Body, &PolicyLimits::NONE).expect_err("too deep");
    assert!(matches!(error, PolicyError::InvalidJson { .. }), "{error}");
}
