//! `ringway stream`, `put` and `read`.

use crate::place::{Place, until};
use serde_json::{Value, json};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_stream_is_created_listed_shown_and_removed() {
    let place = Place::new();
    let created = place
        .run(&[
            "stream", "create", "b", "s", "--shards", "5", "--slots", "1024",
        ])
        .ok();
    assert_eq!(created, "created s: 5 shards of 1024 slots of 256 bytes\n");
    let found = place
        .run(&[
            "stream",
            "create",
            "b",
            "s",
            "--shards",
            "5",
            "--if-missing",
        ])
        .ok();
    assert!(found.starts_with("found s"), "{found}");
    place.run(&["put", "b", "s", "--key", "a", "one"]).ok();
    let list = place.run(&["stream", "ls", "b", "--json"]).json();
    assert_eq!(
        (&list[0]["name"], &list[0]["open_shards"]),
        (&json!("s"), &json!(5))
    );
    assert_eq!(list[0]["retained"], 1);
    let stat = place.run(&["stream", "stat", "b", "s"]).ok();
    assert!(stat.contains("shards    5 open, 0 closed"), "{stat}");
    let refused = place
        .run(&["stream", "create", "b", "t", "--shards", "0"])
        .refused(2);
    assert!(refused.contains("1 to 1000"), "{refused}");
    assert_eq!(place.run(&["stream", "rm", "b", "s"]).ok(), "removed s\n");
    let refused = place.run(&["read", "b", "s"]).refused(1);
    assert!(
        refused.contains("`ringway stream create b s` makes it"),
        "{refused}"
    );
}

#[test]
fn what_is_put_is_read_by_shard_and_from_any_place() {
    let place = Place::new();
    place
        .run(&["stream", "create", "b", "s", "--shards", "2"])
        .ok();
    let put = place
        .run_with(
            &["put", "b", "s", "--key", "abc", "--lines", "-", "--json"],
            b"1\n2\n3\n",
        )
        .json();
    assert_eq!(put["put"], 3);
    assert_eq!(put["by_shard"], json!({"shardId-000000000001": 3}));
    place
        .run(&[
            "put",
            "b",
            "s",
            "--hash-key",
            "0",
            "--key",
            "k",
            "first shard",
        ])
        .ok();
    assert_eq!(
        place.run(&["read", "b", "s", "--shard", "1"]).ok(),
        "1\n2\n3\n"
    );
    let records = lines(
        &place
            .run(&["read", "b", "s", "--shard", "1", "--json"])
            .ok(),
    );
    assert_eq!(
        (&records[0]["partition_key"], &records[0]["data"]),
        (&json!("abc"), &json!("1"))
    );
    let second = records[1]["sequence_number"].as_str().unwrap();
    for (kind, expected) in [("at", "2\n3\n"), ("after", "3\n")] {
        let from = format!("{kind}:{second}");
        let arguments = ["read", "b", "s", "--shard", "1", "--iterator", &from];
        assert_eq!(place.run(&arguments).ok(), expected);
        let refused = place
            .run(&["read", "b", "s", "--iterator", &from])
            .refused(2);
        assert!(refused.contains("say which shard"), "{refused}");
    }
    assert_eq!(
        place.run(&["read", "b", "s", "--iterator", "latest"]).ok(),
        ""
    );
    assert_eq!(
        place
            .run(&[
                "read",
                "b",
                "s",
                "--iterator",
                "at-timestamp:2100-01-01T00:00:00Z"
            ])
            .ok(),
        ""
    );
    assert_eq!(
        place
            .run(&["read", "b", "s", "--count", "2"])
            .ok()
            .lines()
            .count(),
        2
    );
}

#[test]
fn rows_go_by_a_column_and_keep_their_bytes() {
    let place = Place::new();
    place
        .run(&["stream", "create", "b", "s", "--shards", "4"])
        .ok();
    let file = place.path().join("rows.csv");
    std::fs::write(&file, "plane,n\nN1,\"a, b\"\nN2,2\nN1,3\n").unwrap();
    let file = file.to_str().unwrap();
    let put = place
        .run(&[
            "put",
            "b",
            "s",
            "--csv",
            file,
            "--key-column",
            "plane",
            "--json",
        ])
        .json();
    assert_eq!(put["put"], 3);
    let records = lines(&place.run(&["read", "b", "s", "--json"]).ok());
    let of_n1: Vec<_> = records
        .iter()
        .filter(|r| r["partition_key"] == "N1")
        .map(|r| &r["data"])
        .collect();
    assert_eq!(of_n1, ["N1,\"a, b\"", "N1,3"]);
    let refused = place
        .run(&["put", "b", "s", "--csv", file, "--key-column", "plain"])
        .refused(2);
    assert!(refused.contains("plain"), "{refused}");
}

#[test]
fn shards_are_split_merged_and_scaled_while_lineage_is_listed() {
    let place = Place::new();
    place
        .run(&[
            "stream", "create", "b", "s", "--shards", "2", "--slots", "1024",
        ])
        .ok();
    place
        .run_with(
            &["put", "b", "s", "--key", "abc", "--lines", "-"],
            b"1\n2\n",
        )
        .ok();
    let split = place
        .run(&["stream", "split", "b", "s", "1", "--json"])
        .json();
    assert_eq!(
        split["into"],
        json!(["shardId-000000000002", "shardId-000000000003"])
    );
    place
        .run_with(&["put", "b", "s", "--key", "abc", "--lines", "-"], b"3\n")
        .ok();
    let merged = place.run(&["stream", "merge", "b", "s", "2", "3"]).ok();
    assert!(merged.ends_with("into shardId-000000000004\n"), "{merged}");
    place
        .run_with(&["put", "b", "s", "--key", "abc", "--lines", "-"], b"4\n")
        .ok();
    assert_eq!(place.run(&["read", "b", "s"]).ok(), "1\n2\n3\n4\n");
    let shards = place.run(&["stream", "shards", "b", "s", "--json"]).json();
    assert_eq!(shards[1]["state"], "closed");
    assert_eq!(
        shards[4]["parents"],
        json!(["shardId-000000000002", "shardId-000000000003"])
    );
    let refused = place
        .run(&["stream", "merge", "b", "s", "1", "4"])
        .refused(2);
    assert!(refused.contains("closed"), "{refused}");
    let scaled = place.run(&["stream", "scale", "b", "s", "6"]).ok();
    assert!(scaled.starts_with("s has 6 shards now"), "{scaled}");
    let open = place
        .run(&["stream", "shards", "b", "s", "--open", "--json"])
        .json();
    assert_eq!(open.as_array().unwrap().len(), 6);
    assert_eq!(
        place
            .run(&["stream", "retire", "b", "s"])
            .ok()
            .split(' ')
            .next(),
        Some("retired")
    );
}

#[test]
fn workers_of_a_group_share_what_is_put_and_go_on_where_they_stopped() {
    let place = Place::new();
    place
        .run(&["stream", "create", "b", "s", "--shards", "3"])
        .ok();
    place
        .run_with(&["put", "b", "s", "--lines", "-"], b"1\n2\n3\n4\n5\n")
        .ok();
    let read = |count: &str| {
        place
            .run(&[
                "read", "b", "s", "--group", "g", "--count", count, "--wait", "20s",
            ])
            .ok()
    };
    let mut all: Vec<String> = [read("2"), read("3")]
        .iter()
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4", "5"]);
    let stat = place.run(&["stream", "stat", "b", "s", "--json"]).json();
    assert_eq!(stat["groups"][0]["group"], "g");
    let behind = stat["groups"][0]["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["behind"].as_u64().unwrap());
    assert_eq!(behind.sum::<u64>(), 0);
    let mut worker = place.start(&["read", "b", "s", "--group", "g", "--follow"]);
    until("a worker", || {
        place.bus.stream("s").open().unwrap().groups().unwrap()[0].workers == 1
    });
    worker.kill().unwrap();
    worker.wait().unwrap();
    until("its end", || {
        place.bus.stream("s").open().unwrap().groups().unwrap()[0].workers == 0
    });
    let refused = place.run(&["stream", "rm-group", "b", "s", "f"]).refused(1);
    assert!(refused.contains('g'), "{refused}");
    place.run(&["stream", "rm-group", "b", "s", "g"]).ok();
}

#[test]
fn a_registered_consumer_is_subscribed_as_listed_and_deregistered() {
    let place = Place::new();
    place.run(&["stream", "create", "b", "s"]).ok();
    let register = ["stream", "register", "b", "s", "billing"];
    let said = place
        .run(&[&register[..], &["--when-behind", "evict"]].concat())
        .ok();
    assert_eq!(
        said,
        "registered billing: behind, it loses its subscription\n"
    );
    let again = place.run(&register).refused(1);
    assert!(again.contains("is registered"), "{again}");
    place.run(&["put", "b", "s", "--key", "k", "one"]).ok();
    let read = ["read", "b", "s", "--consumer", "billing"];
    assert_eq!(place.run(&read).ok(), "one\n");
    let list = place
        .run(&["stream", "consumers", "b", "s", "--json"])
        .json();
    let seen = (
        &list[0]["consumer"],
        &list[0]["records"],
        &list[0]["when_behind"],
    );
    assert_eq!(seen, (&json!("billing"), &json!(1), &json!("evict")));
    let stat = place.run(&["stream", "stat", "b", "s"]).ok();
    assert!(
        stat.contains("billing") && stat.contains("nobody"),
        "{stat}"
    );
    place
        .run(&["stream", "deregister", "b", "s", "billing"])
        .ok();
    let gone = place.run(&read).refused(1);
    assert!(gone.contains("no consumer \"billing\""), "{gone}");
}

#[test]
fn lines_that_are_put_as_one_are_read_one_by_one() {
    let place = Place::new();
    place.run(&["stream", "create", "b", "s"]).ok();
    let input: String = (0..5000).map(|n| format!("{n}\n")).collect();
    let put = place
        .run_with(
            &[
                "put",
                "b",
                "s",
                "--lines",
                "-",
                "--key",
                "k",
                "--aggregate",
                "--json",
            ],
            input.as_bytes(),
        )
        .json();
    assert_eq!(
        (&put["put"], &put["by_shard"]["shardId-000000000000"]),
        (&json!(5000), &json!(5000))
    );
    assert_eq!(place.run(&["read", "b", "s"]).ok(), input);
    let stat = place.run(&["stream", "stat", "b", "s", "--json"]).json();
    assert!(stat["positions"].as_u64().unwrap() < 50, "{stat}");
    let first = lines(
        &place
            .run(&["read", "b", "s", "--count", "3", "--json"])
            .ok(),
    );
    let subs: Vec<_> = first
        .iter()
        .map(|record| &record["sub_sequence_number"])
        .collect();
    assert_eq!(subs, [0, 1, 2]);
}

#[test]
fn a_stream_on_demand_says_that_it_split() {
    let place = Place::new();
    let create = [
        "stream",
        "create",
        "b",
        "s",
        "--on-demand",
        "--min-shards",
        "1",
        "--max-shards",
        "2",
        "--shard-records",
        "10",
        "--window",
        "20ms",
    ];
    assert!(place.run(&create).ok().contains("s: 1 shards"));
    let mut said = String::new();
    until("a split by load", || {
        let input: String = (0..50_000).map(|n| format!("{n}\n")).collect();
        let put = place.run_with(&["put", "b", "s", "--lines", "-"], input.as_bytes());
        said += &put.err;
        said.contains("s has 2 shards now, by load: split shardId-000000000000")
    });
    let stat = place.run(&["stream", "stat", "b", "s"]).ok();
    assert!(stat.contains("1 splits, 0 merges, the last at"), "{stat}");
    let refused = place
        .run(&["stream", "create", "b", "t", "--window", "1s"])
        .refused(2);
    assert!(refused.contains("--on-demand"), "{refused}");
}

#[test]
fn an_exclusive_stream_says_so_and_stays_in_memory() {
    let place = Place::new();
    let create = ["stream", "create", "b", "ticks", "--exclusive"];
    place.run(&create).ok();
    place.run(&["put", "b", "ticks", "--key", "a", "one"]).ok();
    let stat = ["stream", "stat", "b", "ticks"];
    assert_eq!(
        place.run(&[&stat[..], &["--json"]].concat()).json()["producers"],
        "exclusive"
    );
    let stat = place.run(&stat).ok();
    assert!(stat.contains("one producer for each shard"), "{stat}");
    let refused = place.run(&["stream", "split", "b", "ticks", "0"]);
    let refused = refused.refused(2);
    assert!(refused.contains("keeps its shards"), "{refused}");
    let on_disk = ["--durability", "durable"];
    let create = ["stream", "create", "b", "disk", "--exclusive"];
    let refused = place.run(&[&create[..], &on_disk].concat()).refused(2);
    assert!(refused.contains("in memory"), "{refused}");
}
