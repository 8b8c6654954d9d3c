//! A bus of its own for each test, and the command on it.

use ringway::{Bus, Queue};
use ringway_harness::TempBus;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What the command says while it opens a durable object and that takes long.
const PROGRESS: &str = "ringway: reading the journal of ";

/// The bus is `b`, and goes with this value.
pub struct Place {
    root: TempBus,
    pub bus: Bus,
}

impl Place {
    pub fn new() -> Self {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("b").root(root.path()).create().unwrap();
        Self { root, bus }
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// A queue `q` with defaults.
    pub fn queue(&self) -> Queue {
        self.bus.queue("q").open_or_create().unwrap()
    }

    /// `ringway --root HERE arguments`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        // What is set around the tests is not what is tested.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"RINGWAY_") {
                command.env_remove(name);
            }
        }
        command
            .arg("--root")
            .arg(self.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs it to its end with `input`.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // It may have ended before it has read everything.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output.into()
    }

    /// Runs it in the background.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Sends `bodies` to `q`.
    pub fn fill(&self, bodies: &[&str]) {
        let mut sender = self.queue().sender().unwrap();
        for body in bodies {
            sender.send(body.as_bytes()).unwrap();
        }
    }
}

pub struct Outcome {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Outcome {
    /// What it printed; it has to have succeeded, and to have complained of nothing.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{} {}", self.out, self.err);
        // What takes a moment is shown, on a disk that is busy.
        let complaints = self.err.lines().filter(|line| !line.starts_with(PROGRESS));
        assert_eq!(complaints.collect::<Vec<_>>(), [""; 0]);
        self.out
    }

    /// As [`ok`](Self::ok), as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// What it complained of, with this exit status.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{} {}", self.out, self.err);
        self.err
    }
}

/// Waits until `seen`, and fails when that takes for ever.
#[track_caller]
pub fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let start = Instant::now();
    while !seen() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "never seen: {what}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}
