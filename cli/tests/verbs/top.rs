//! `ringway top` in a terminal of its own: it survives what happens to buses and to the terminal, and gives
//! the terminal back.

use crate::place::{Place, signal, until};
use ringway::Bus;
use rustix::process::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Child;
use std::sync::{Arc, Mutex};

/// `ringway top` with the other side of its terminal.
struct Terminal {
    child: Child,
    master: File,
    shown: Arc<Mutex<vt100::Parser>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut terminal = Self::start_unread(place, arguments, |_| ());
        let (mut from, into) = (
            terminal.master.try_clone().unwrap(),
            Arc::clone(&terminal.shown),
        );
        terminal.reader = Some(std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            // An error when the other side is closed.
            while let Ok(read @ 1..) = from.read(&mut bytes) {
                into.lock().unwrap().process(&bytes[..read]);
            }
        }));
        terminal
    }

    /// The same where nobody takes what it shows, and `before` was written to it.
    fn start_unread(place: &Place, arguments: &[&str], before: impl FnOnce(&OwnedFd)) -> Self {
        let (mut master, mut slave) = (0, 0);
        let size = window(80, 24);
        let (name, modes) = (std::ptr::null_mut(), std::ptr::null());
        // SAFETY: the pointers are to live values of the right types, or null where that is allowed.
        let opened = unsafe { libc::openpty(&mut master, &mut slave, name, modes, &size) };
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both were just opened, and belong to nobody else.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        // It would keep its own terminal open, and those that are begun beside it.
        rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC).unwrap();
        rustix::io::fcntl_setfd(&slave, rustix::io::FdFlags::CLOEXEC).unwrap();
        before(&slave);
        let mut command = place.command(arguments);
        command.env("TERM", "xterm");
        command.stdin(slave.try_clone().unwrap());
        command.stdout(slave.try_clone().unwrap()).stderr(slave);
        // SAFETY: two system calls, and nothing else, between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop(command); // and its side of the terminal
        Self {
            child,
            master,
            shown: Arc::new(Mutex::new(parser(80, 24))),
            reader: None,
        }
    }

    /// Whether it is as a shell leaves it: by lines, with echo.
    fn is_cooked(&self) -> bool {
        let mut modes = std::mem::MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: the descriptor is open, and all zeroes is a value of the struct that is filled in.
        let modes = unsafe {
            assert_eq!(
                libc::tcgetattr(self.master.as_raw_fd(), modes.as_mut_ptr()),
                0
            );
            modes.assume_init()
        };
        modes.c_lflag & (libc::ICANON | libc::ECHO) == libc::ICANON | libc::ECHO
    }

    /// Waits until the terminal shows this.
    #[track_caller]
    fn shows(&self, text: &str) {
        until(text, || {
            let shown = self.shown.lock().unwrap();
            shown.screen().alternate_screen() && shown.screen().contents().contains(text)
        });
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = window(columns, rows);
        let mut shown = self.shown.lock().unwrap();
        let [columns_shown, rows_shown] = [columns, rows].map(length);
        shown.screen_mut().set_size(rows_shown, columns_shown);
        // SAFETY: the descriptor is open, and the request takes such a struct.
        let set = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(set, 0);
    }

    /// How it ended; the terminal is as it was.
    fn end(mut self) -> std::process::ExitStatus {
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let shown = self.shown.lock().unwrap();
        let screen = shown.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert_eq!(screen.contents().trim(), "", "nothing was complained of");
        status
    }
}

impl Drop for Terminal {
    /// Behind a failure it does not stay.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn length(length: u16) -> NonZero<u16> {
    length.try_into().unwrap()
}

fn parser(columns: u16, rows: u16) -> vt100::Parser {
    vt100::Parser::new(length(rows), length(columns), 0)
}

fn window(columns: u16, rows: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

#[test]
fn it_lives_through_what_happens_to_buses_and_to_the_terminal() {
    let place = Place::new();
    place.fill(&["a", "b", "c"]);
    let mut top = Terminal::start(&place, &["top", "--interval", "100ms"]);
    top.shows("b/q");
    // A new bus, and what is on it.
    let other = Bus::builder("other").root(place.path()).create().unwrap();
    other.queue("new-queue").create().unwrap();
    top.shows("other/new-queue");
    top.press("6");
    top.shows("no holders");
    top.press("7");
    top.shows("alive");
    top.press("1");
    top.shows("PEERS");
    top.resize(40, 10);
    top.press("?");
    top.shows("tab shift-tab 1-7   tables");
    top.press("x");
    top.resize(120, 40);
    top.shows("CHANS");
    top.press("?");
    top.shows("any key goes back");
    top.press("x2");
    top.shows("other/new-queue");
    // Its files are cut off, then it is gone.
    drop(other);
    let directory = place.path().join("ringway-other");
    let cut = |name: &str| {
        let file = File::options().write(true).open(directory.join(name));
        file.unwrap().set_len(4096).unwrap();
    };
    cut("objects/new-queue");
    top.shows("! other/new-queue");
    cut("bus");
    top.shows("! other: ");
    std::fs::remove_dir_all(&directory).unwrap();
    // The one that is left is seen still.
    place.fill(&["d"]);
    place.bus.queue("another").create().unwrap();
    top.shows("b/another");
    top.press("q");
    assert!(top.end().success());
}

#[test]
fn a_key_beside_a_change_of_size_is_obeyed() {
    let place = Place::new();
    place.fill(&["a"]);
    let mut top = Terminal::start(&place, &["top", "--interval", "100ms"]);
    top.shows("b/q");
    // Each key but the last comes together with a signal.
    for (rows, key, shown) in [(24, "?", "any key goes back"), (30, "x", "VISIBLE")].repeat(20) {
        top.resize(80, rows);
        top.press(key);
        top.shows(shown);
    }
    top.press("q");
    assert!(top.end().success());
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_given_back() {
    let place = Place::new();
    place.fill(&["a"]);
    for ends in [Signal::TERM, Signal::INT, Signal::HUP] {
        let top = Terminal::start(&place, &["top", "b"]);
        top.shows("VISIBLE");
        signal(&top.child, ends);
        assert_eq!(top.end().signal(), Some(ends.as_raw()));
    }
    let mut top = Terminal::start(&place, &["top", "b"]);
    top.shows("VISIBLE");
    top.press("\x03"); // control-c is a key there
    assert!(top.end().success());
}

/// Writes to a terminal until it takes nothing more, also when the kernel has moved on what it took.
fn fill(terminal: &OwnedFd) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(terminal).unwrap();
    fcntl_setfl(terminal, flags | OFlags::NONBLOCK).unwrap();
    for _ in 0..20 {
        while rustix::io::write(terminal, &[b'x'; 4096]).is_ok() {}
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    fcntl_setfl(terminal, flags).unwrap();
}

#[test]
fn a_signal_ends_it_where_the_terminal_takes_nothing_more() {
    let place = Place::new();
    place.fill(&["a"]);
    let mut top = Terminal::start_unread(&place, &["top", "b"], fill);
    until("it has the terminal", || !top.is_cooked());
    signal(&top.child, Signal::TERM);
    until("it has ended", || top.child.try_wait().unwrap().is_some());
    let ended = top.child.wait().unwrap();
    assert_eq!(ended.signal(), Some(Signal::TERM.as_raw()));
    assert!(top.is_cooked());
}

#[test]
fn without_a_terminal_every_table_is_printed_once() {
    let place = Place::new();
    place.fill(&["a", "b"]);
    let queue = place.queue();
    let mut receiver = queue.receiver().unwrap();
    receiver.try_receive(&mut [0; 16]).unwrap().unwrap();
    let quick = ["top", "--interval", "100ms"];
    let text = place.run(&quick).ok();
    for told in ["BUS", "QUEUE", "b/q ", "leases", "PARTICIPANT"] {
        assert!(text.contains(told), "{told} in {text}");
    }
    assert!(!text.contains('\x1b') && !text.contains("TOPIC "), "{text}");
    let json = place.run(&[&quick[..], &["--json"]].concat()).json();
    assert_eq!(json[0]["queues"][0]["messages"]["in_flight"], 1);
    assert!(json[0]["interval_ms"].as_u64() >= Some(100));

    let refused = place.run(&["top", "c", "--once"]).refused(1);
    assert!(refused.contains("there is b"), "{refused}");
    let wreck = place.path().join("ringway-wreck");
    std::fs::create_dir(&wreck).unwrap();
    std::fs::write(wreck.join("bus"), [7; 8192]).unwrap();
    let only = place.run(&["top", "wreck", "--once", "--interval", "100ms"]);
    assert_eq!((only.code, &only.err[..]), (Some(1), ""));
    assert!(
        only.out.starts_with("BUS") && only.out.contains("! wreck: "),
        "{}",
        only.out
    );
    let refused = place.run(&["top", "--interval", "1ms"]).refused(2);
    assert!(refused.contains("100ms"), "{refused}");
}
