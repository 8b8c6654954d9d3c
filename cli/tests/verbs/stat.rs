//! `ringway stat`: a whole bus in one document, which looking does not change.

use crate::place::Place;
use ringway::{GroupStart, SubscribeOptions};
use serde_json::json;

#[test]
fn a_bus_is_shown_whole_with_who_holds_what() {
    let place = Place::new();
    let me = place.bus.me().0;
    place.fill(&["a", "b", "c"]);
    let queue = place.queue();
    let mut receiver = queue.receiver().unwrap();
    receiver.try_receive(&mut [0; 16]).unwrap().unwrap();
    let channel = place.bus.channel("c").create().unwrap();
    let _reader = channel.reader().join().unwrap();
    channel.producer().unwrap().try_send(b"x").unwrap();
    let stream = place.bus.stream("s").shards(2).create().unwrap();
    stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    stream.producer().unwrap().put("key", b"x").unwrap();
    let topic = place.bus.topic("t").create().unwrap();
    topic.subscribe(&SubscribeOptions::new("q")).unwrap();

    let stat = place.run(&["stat", "b", "--json"]).json();
    assert_eq!(stat["bus"], "b");
    // The command itself is none of them.
    assert_eq!(stat["participants"].as_array().unwrap().len(), 1);
    let participant = &stat["participants"][0];
    assert_eq!(
        (&participant["entry"], &participant["leases"]),
        (&json!(me), &json!(1))
    );
    let queue = &stat["queues"][0];
    assert_eq!(
        (&queue["name"], &queue["level"]),
        (&json!("q"), &json!("memory"))
    );
    assert_eq!(queue["messages"]["visible"], 2);
    assert_eq!(queue["messages"]["in_flight"], 1);
    assert_eq!(
        queue["holders"],
        json!([{"participant": me, "claims": 0, "leases": 1}])
    );
    assert_eq!(queue["sent_per_s"], json!(null));
    let channel = &stat["channels"][0];
    assert_eq!(
        (&channel["tail"], &channel["readers"][0]["lag"]),
        (&json!(1), &json!(1))
    );
    let stream = &stat["streams"][0];
    assert_eq!(
        (&stream["open_shards"], &stream["positions"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(stream["groups"][0]["behind"], 1);
    assert_eq!(stat["topics"][0]["subscriptions"], 1);
    assert_eq!(stat["damaged"], json!([]));

    let rates = place
        .run(&["stat", "b", "--interval", "100ms", "--json"])
        .json();
    assert!(rates["interval_ms"].as_u64() >= Some(100), "{rates}");
    assert_eq!(rates["queues"][0]["sent_per_s"], 0.0);

    let table = place.run(&["stat", "b"]).ok();
    for told in [
        "participant",
        "q ",
        "held by",
        "1 leases",
        "group g: 0 workers, 1 behind",
        "pool:",
    ] {
        assert!(table.contains(told), "{told:?} in {table}");
    }
    assert_eq!(
        place.run(&["bus", "stat", "b"]).ok().lines().next(),
        table.lines().next()
    );
}

#[test]
fn what_is_damaged_is_told_and_the_rest_is_shown() {
    let place = Place::new();
    place.fill(&["a"]);
    std::fs::write(place.bus.directory().join("objects/wreck"), [7; 8192]).unwrap();
    let stat = place.run(&["stat", "b", "--json"]).json();
    assert_eq!(stat["damaged"][0]["object"], "wreck");
    assert_eq!(stat["queues"][0]["messages"]["visible"], 1);
    let table = place.run(&["stat", "b"]).ok();
    assert!(table.contains("can't look at wreck: "), "{table}");
    let refused = place.run(&["stat", "c"]).refused(1);
    assert!(refused.contains("there is b"), "{refused}");
}
