//! What does it cost to find the subscriptions that want a message? By the number of those that don't,
//! and for a mixture of policies of which ten match. In one process; nothing is delivered.
//!
//! `RINGWAY_SUBSCRIPTIONS=12500000 cargo bench --features topics --bench filter -- 12500000` measures as many as SNS
//! has for one topic: some 9 GB of memory, and a minute or two to make the index.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::Attributes;
use ringway::filter::{FilterIndex, FilterMessage, Matches, Policy, PolicyLimits, Scope};
use std::hint::black_box;

fn parse(text: &str, scope: Scope) -> Policy {
    Policy::parse(text, scope, &PolicyLimits::SNS).expect("a policy")
}

/// Policies of several kinds, none of which wants the message; ten of a thousand do with `wanted`.
fn text(number: u64, wanted: bool) -> String {
    let (kind, customer) = match wanted && number.is_multiple_of(100) {
        true => ("order", 7),
        false => ("order", 1_000 + number),
    };
    match number / 100 % 5 {
        0 => format!(r#"{{"kind": ["{kind}"], "customer": ["c{customer}"]}}"#),
        1 => format!(
            r#"{{"customer": [{{"prefix": "c{customer}"}}], "price": [{{"numeric": [">", 5]}}]}}"#
        ),
        2 => format!(r#"{{"customer": ["c{customer}"], "city": [{{"anything-but": ["Wien"]}}]}}"#),
        3 => format!(
            r#"{{"customer": [{{"equals-ignore-case": "C{customer}"}}], "city": ["Graz", "Linz"]}}"#
        ),
        _ => format!(
            r#"{{"kind": ["{kind}"], "price": [{{"numeric": [">", {low}, "<=", {high}]}}]}}"#,
            low = if customer == 7 { 10 } else { number },
            high = if customer == 7 { 99 } else { number + 1 },
        ),
    }
}

fn index(subscriptions: u64, scope: Scope, wanted: bool) -> FilterIndex {
    let mut index = FilterIndex::new();
    for number in 0..subscriptions {
        // Far above the message's price, so that no range holds it by chance.
        let number_in_policy = if wanted { number } else { number + 100_000 };
        index.insert(number, Some(&parse(&text(number_in_policy, wanted), scope)));
    }
    index
}

/// What this process has in memory.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = pages
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number of pages") * 4096
}

fn filter(criterion: &mut Criterion) {
    let mut attributes = Attributes::new();
    attributes
        .string("kind", "order")
        .and_then(|a| a.string("customer", "c7"))
        .and_then(|a| a.string("city", "Graz"))
        .and_then(|a| a.number("price", 42))
        .expect("attributes");
    let message = FilterMessage {
        attributes: attributes.as_ref(),
        body: br#"{"kind": "order", "customer": "c7", "city": "Graz", "price": 42, "id": 12345}"#,
    };
    let mut matches = Matches::new();
    let mut group = criterion.benchmark_group("filter");
    group.throughput(Throughput::Elements(1));
    for scope in [Scope::Attributes, Scope::Body] {
        let wanted = index(1_000, scope, true);
        assert_eq!(wanted.matches(&message, &mut matches).len(), 10);
        let name = format!("{scope:?}, 10 of 1,000 match");
        group.bench_function(&name, |bencher| {
            bencher.iter(|| wanted.matches(black_box(&message), &mut matches).len());
        });
        let more = std::env::var("RINGWAY_SUBSCRIPTIONS").ok();
        let more = more.and_then(|number| number.parse().ok());
        // Once is enough of what takes gigabytes.
        let more = more.filter(|_| matches!(scope, Scope::Attributes));
        let mut counts = vec![1_000, 10_000, 100_000, 1_000_000];
        if let Some(more) = more {
            counts = vec![more];
        }
        for subscriptions in counts {
            let before = resident_bytes();
            let index = index(subscriptions, scope, false);
            println!(
                "{{\"figure\":\"filter index\",\"subscriptions\":{subscriptions},\"bytes_each\":{}}}",
                resident_bytes().saturating_sub(before) / subscriptions
            );
            assert!(index.matches(&message, &mut matches).is_empty());
            let name = format!("{scope:?}, none matches");
            group.bench_function(BenchmarkId::new(name, subscriptions), |bencher| {
                bencher.iter(|| index.matches(black_box(&message), &mut matches).len());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, filter);
criterion_main!(benches);
