//! Names that stand for something else than the verb thinks, or for nothing, and values that can't be.

use crate::place::Place;

/// One of each, by its initial; `t` is a topic and a queue.
fn bus_of_everything() -> Place {
    let place = Place::new();
    place.bus.channel("c").create().unwrap();
    place.bus.queue("q").create().unwrap();
    place.bus.queue("t").create().unwrap();
    place.bus.stream("s").create().unwrap();
    place.bus.topic("t").create().unwrap();
    place.bus.topic("news").create().unwrap();
    place
}

#[test]
fn nothing_is_removed_as_what_it_is_not() {
    let place = bus_of_everything();
    for (noun, name, is) in [
        ("channel", "q", "queue"),
        ("channel", "s", "stream"),
        ("queue", "c", "channel"),
        ("queue", "s", "stream"),
        ("stream", "c", "channel"),
        ("stream", "q", "queue"),
    ] {
        let said = place.run(&[noun, "rm", "b", name]).refused(2);
        let right = format!("{name:?} is a {is}; `ringway {is} rm b {name}` removes it");
        assert!(said.contains(&right), "{said}");
    }
    assert!(place.bus.queue("q").open().is_ok());
    assert!(place.bus.stream("s").open().is_ok());
    // A topic has a name of its own.
    place.run(&["queue", "rm", "b", "t"]).ok();
    place.run(&["topic", "stat", "b", "t"]).ok();
    let said = place.run(&["channel", "rm", "b", "tick"]).refused(1);
    assert!(
        said.contains("there is no channel \"tick\" on bus \"b\"; there is c"),
        "{said}"
    );
}

#[test]
fn a_name_of_another_kind_is_told_with_the_verbs_that_know_it() {
    let place = bus_of_everything();
    for (arguments, sentence) in [
        (
            &["channel", "stat", "b", "q"][..],
            "\"q\" is a queue, not a channel: use `ringway queue`",
        ),
        (
            &["channel", "read", "b", "s"],
            "\"s\" is a stream, not a channel",
        ),
        (
            &["send", "b", "s", "x"],
            "\"s\" is a stream, not a queue: use `ringway stream`, `put`",
        ),
        (&["put", "b", "q", "x"], "\"q\" is a queue, not a stream"),
        (&["read", "b", "news"], "\"news\" is a topic, not a stream"),
        (&["publish", "b", "q", "x"], "\"q\" is a queue, not a topic"),
        (
            &["queue", "create", "b", "c"],
            "\"c\" is a channel, not a queue",
        ),
        (
            &["queue", "create", "b", "c", "--if-missing"],
            "\"c\" is a channel, not a queue",
        ),
    ] {
        let said = place.run(arguments).refused(1);
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }
}

#[test]
fn what_is_not_there_or_there_already_is_told_in_the_words_of_the_command() {
    let place = bus_of_everything();
    for (arguments, sentence) in [
        (&["bus", "rm", "bb"][..], "there is no bus \"bb\" under"),
        (
            &["bus", "create", "b"],
            "open it with --if-missing, or remove it with `ringway bus rm b`",
        ),
        (
            &["channel", "create", "b", "c"],
            "already; open it with --if-missing, or remove it with `ringway channel rm b c`",
        ),
        (&["stream", "create", "b", "s"], "`ringway stream rm b s`"),
        (&["topic", "create", "b", "t"], "`ringway topic rm b t`"),
        (
            &["channel", "send", "b", "ticks", "x"],
            "`ringway channel create b ticks` makes it",
        ),
        (
            &["subscribe", "b", "t", "nowhere"],
            "there is no queue \"nowhere\" on bus \"b\"",
        ),
        (
            &["subscribe", "b", "t", "q", "--dead-letter", "dead"],
            "`ringway queue create b dead` makes it",
        ),
        (
            &["subscribe", "b", "t", "--stream", "river"],
            "there is no stream \"river\" on bus \"b\"",
        ),
        (
            &["subscribe", "b", "t", "west/q"],
            "there is no bus \"west\" under",
        ),
        (
            &["unsubscribe", "b", "t", "1"],
            "`ringway topic stat b t` lists them",
        ),
        (
            &["stream", "rm-group", "b", "s", "g"],
            "`ringway stream stat b s` lists them",
        ),
    ] {
        let said = place.run(arguments).refused(1).to_lowercase();
        assert!(
            said.contains(&sentence.to_lowercase()),
            "{arguments:?}: {said}"
        );
        assert!(!said.contains("open_or_create"), "{arguments:?}: {said}");
    }
    let found = place
        .run(&["channel", "create", "b", "c", "--if-missing"])
        .ok();
    assert!(found.starts_with("found c: "), "{found}");
    let found = place
        .run(&["topic", "create", "b", "t", "--if-missing", "--json"])
        .json();
    assert_eq!(found["created"], false);
}

#[test]
fn a_value_that_cannot_be_is_wrong_usage_whoever_refuses_it() {
    let place = bus_of_everything();
    for arguments in [
        &["bus", "create", "a.b"][..],
        &["channel", "create", "b", "d", "--slots", "1000"],
        &["channel", "create", "b", "d", "--stall-timeout", "0"],
        &["topic", "create", "b", "d", "--listen-slots", "7"],
        &["topic", "create", "b", "d", "--durability", "async"],
        &["stream", "create", "b", "d", "--shards", "0"],
        &["receive", "b", "q", "--visibility", "13h"],
        &["queue", "set", "b", "q", "--visibility", "13h"],
        &["stat", "b", "--interval", "0"],
        &["put", "b", "s", "x", "--key-column", "a"],
        &["put", "b", "s", "--lines", "-", "--delimiter", ";"],
    ] {
        place.run(arguments).refused(2);
    }
}

#[test]
fn an_agent_that_ends_says_what_matches_no_file() {
    let place = bus_of_everything();
    let (file, kept) = (place.path().join("no.log"), place.path().join("kept"));
    let (file, kept) = (file.to_str().unwrap(), kept.to_str().unwrap());
    let said = place
        .run(&["agent", "b", "s", file, "--once", "--checkpoint", kept])
        .refused(1);
    assert!(
        said.contains(&format!("there is no file {file:?}")),
        "{said}"
    );
}
