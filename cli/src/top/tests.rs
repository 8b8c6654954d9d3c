//! Frames of a bus that is really there, in a terminal that is not.

use super::draw;
use super::rows::Tab;
use super::screen::{Deed, Screen};
use super::watch::Seen;
use crate::output::Place;
use crate::snapshot::Snapshot;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ringway::{Bus, GroupStart, SubscribeOptions};
use ringway_harness::TempBus;
use std::time::Duration;

/// A bus with something of everything, and a screen that has looked at it, and at one that is damaged.
fn screen(root: &TempBus) -> (Bus, Screen) {
    let bus = Bus::builder("b")
        .root(root.path())
        .participant_name("a test");
    let bus = bus.create().unwrap();
    for (name, messages) in [("orders", 3), ("mail", 5), ("empty", 0)] {
        let queue = bus.queue(name).create().unwrap();
        let mut sender = queue.sender().unwrap();
        for _ in 0..messages {
            sender.send(b"x").unwrap();
        }
        let _ = queue.receiver().unwrap().try_receive(&mut [0; 16]).unwrap();
        std::mem::forget(queue); // its leases stay
    }
    let ticks = bus.channel("ticks").create().unwrap();
    ticks.producer().unwrap().try_send(b"x").unwrap();
    let trucks = bus.stream("trucks").shards(2).create().unwrap();
    trucks
        .group_or_create("drivers", GroupStart::TrimHorizon)
        .unwrap();
    trucks.producer().unwrap().put("key", b"x").unwrap();
    let news = bus.topic("news").create().unwrap();
    news.subscribe(&SubscribeOptions::new("mail")).unwrap();
    let place = Place {
        root: Some(root.path().to_owned()),
        journal_root: None,
        json: false,
    };
    let mut screen = Screen::new(root.path().to_owned(), None, Duration::from_secs(1));
    screen.take(vec![
        Seen {
            bus: "b".to_owned(),
            looked: Snapshot::take(&place, "b").map_err(|error| error.to_string()),
        },
        Seen {
            bus: "wreck".to_owned(),
            looked: Err("its first bytes are none of ringway's".to_owned()),
        },
    ]);
    (bus, screen)
}

fn shown(screen: &mut Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::frame(frame, screen)).unwrap();
    draw::lines(terminal.backend().buffer())
}

fn press(screen: &mut Screen, keys: &str) -> Deed {
    let mut deed = Deed::GoOn;
    for key in keys.chars() {
        let code = match key {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            key => KeyCode::Char(key),
        };
        deed = screen.obey(KeyEvent::new(code, KeyModifiers::NONE));
    }
    deed
}

#[test]
fn every_table_fits_into_eighty_columns_with_whole_titles() {
    let root = TempBus::new().unwrap();
    let (_bus, mut screen) = screen(&root);
    for (number, tab) in Tab::ALL.iter().enumerate() {
        press(&mut screen, &(number + 1).to_string());
        assert_eq!(screen.tab, *tab);
        let text = shown(&mut screen, 80, 24);
        assert_eq!(text.lines().count(), 24);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("ringway top  "), "{text}");
        assert!(lines[1].contains("7 participants"), "{text}");
        for (title, _) in tab.columns() {
            assert!(lines[2].contains(title), "{title} in {text}");
        }
        assert!(lines[3].starts_with("b"), "{text}");
        assert!(lines[22].starts_with("! wreck: its first bytes"), "{text}");
        assert!(lines[23].contains("? help"), "{text}");
    }
}

#[test]
fn what_is_held_and_by_whom_is_shown() {
    let root = TempBus::new().unwrap();
    let (bus, mut screen) = screen(&root);
    let text = draw::text(&screen, 100);
    let words = |begin: &str| {
        let mut lines = text.lines();
        let found = lines.find(|line| line.starts_with(begin));
        let line = found.unwrap_or_else(|| panic!("{begin} in {text}"));
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // Visible, in flight, delayed, parked, and no rates of one look.
    assert_eq!(words("b/orders ")[1..7], ["2", "1", "0", "0", "-", "-"]);
    // Shards, retained, and the group: nobody works, one record waits.
    let trucks = words("b/trucks ");
    assert_eq!(trucks[1..], ["2", "1", "-", "drivers", "0", "1", "-"]);
    assert_eq!(words("b/news ")[1..4], ["1", "0", "0"]);
    let me = bus.me().0;
    assert!(text.contains(&format!("{me} a test")), "{text}");
    screen.filter = "leases".to_owned();
    assert_eq!(screen.rows(Tab::Holders).len(), 2, "of orders and mail");
}

#[test]
fn keys_sort_filter_pause_and_end() {
    let root = TempBus::new().unwrap();
    let (_bus, mut screen) = screen(&root);
    let names = |screen: &Screen| {
        let rows = screen.rows(Tab::Queues);
        let names = rows.iter().map(|row| row.cells[0].text().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&screen), ["b/empty", "b/mail", "b/orders"]);
    press(&mut screen, "s");
    assert_eq!(
        names(&screen),
        ["b/mail", "b/orders", "b/empty"],
        "most first"
    );
    press(&mut screen, "r");
    assert_eq!(names(&screen), ["b/empty", "b/orders", "b/mail"]);
    press(&mut screen, "/MAIL");
    assert!(shown(&mut screen, 80, 24).ends_with("/MAIL_  enter keeps it, escape forgets it"));
    press(&mut screen, "\n");
    assert_eq!(names(&screen), ["b/mail"]);
    press(&mut screen, "/x\n");
    assert!(shown(&mut screen, 80, 24).contains("no queues with \"MAILx\""));
    press(&mut screen, "\x1b");
    assert_eq!(names(&screen).len(), 3);
    press(&mut screen, "p");
    assert!(screen.is_paused && shown(&mut screen, 80, 24).contains("paused"));
    press(&mut screen, "?");
    assert!(shown(&mut screen, 80, 24).contains("any key goes back"));
    assert_eq!(press(&mut screen, "x"), Deed::GoOn);
    assert!(!screen.is_helping);
    assert_eq!(
        press(&mut screen, "+"),
        Deed::LookEvery(Duration::from_secs(2))
    );
    assert_eq!(
        press(&mut screen, "--"),
        Deed::LookEvery(Duration::from_millis(500))
    );
    assert_eq!(press(&mut screen, "q"), Deed::End);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.obey(control_c), Deed::End);
}

#[test]
fn a_terminal_of_any_size_is_drawn_on() {
    let root = TempBus::new().unwrap();
    let (_bus, mut screen) = screen(&root);
    for (width, height) in [(1, 1), (7, 2), (80, 4), (3, 40), (300, 90), (80, 24)] {
        for tab in 1..=7 {
            press(&mut screen, &tab.to_string());
            screen.table.select(Some(1000));
            shown(&mut screen, width, height);
            press(&mut screen, "?");
            shown(&mut screen, width, height);
            press(&mut screen, "?");
        }
    }
    screen.take(Vec::new());
    assert!(shown(&mut screen, 80, 24).contains("no participants"));
}

#[test]
fn more_than_fits_is_scrolled_to() {
    let root = TempBus::new().unwrap();
    let (bus, _) = screen(&root);
    for number in 10..60 {
        bus.channel(&format!("c{number}"))
            .slots(1024)
            .create()
            .unwrap();
    }
    let place = Place {
        root: Some(root.path().to_owned()),
        journal_root: None,
        json: false,
    };
    let only = Some("b".to_owned());
    let mut screen = Screen::new(root.path().to_owned(), only, Duration::from_secs(1));
    screen.take(vec![Seen {
        bus: "b".to_owned(),
        looked: Snapshot::take(&place, "b").map_err(|error| error.to_string()),
    }]);
    screen.tab = Tab::Channels;
    let text = shown(&mut screen, 80, 24);
    assert!(text.contains("c10 ") && !text.contains("ticks"), "{text}");
    screen.obey(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
    let text = shown(&mut screen, 80, 24);
    assert!(text.contains("ticks ") && !text.contains("c10 "), "{text}");
}
