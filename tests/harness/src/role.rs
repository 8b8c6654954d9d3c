//! Roles: how a test binary runs again as one of its own children.
//!
//! [`roles!`](crate::roles), once per test binary, registers functions that a child
//! launched by [`Launch::role`](crate::Launch::role) runs instead of the tests: before
//! `main`, on the main thread, with no other thread about. So a role may be forked,
//! stepped and counted without a test runner in the picture. A binary with a `main` of
//! its own calls [`dispatch`] first thing instead.
//!
//! A role returns `Ok` for exit code 0, `Err(why)` for 1 (printed on standard error), and
//! a panic is 101. Parameters come by [`Stage`]. In the child SIGPIPE is ignored, as
//! under any Rust `main`, and SIGTRAP of the step markers passes when nobody traces.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::str::FromStr;

use crate::{AckBoard, step};

pub(crate) const ROLE: &str = "RINGWAY_ROLE";
pub(crate) const ARG: &str = "RINGWAY_ARG_";
pub(crate) const BOARD: &str = "RINGWAY_BOARD_";
pub(crate) const ZYGOTE: &str = "RINGWAY_ZYGOTE";

/// What a role is: a function of its stage.
pub type Role = fn(&Stage) -> Result<(), String>;

/// Registers the roles of a test binary; at most once per binary.
///
/// ```
/// use ringway_harness::{Launch, Stage};
///
/// ringway_harness::roles! { add => add_up }
///
/// fn add_up(stage: &Stage) -> Result<(), String> {
///     let (a, b): (u64, u64) = (stage.get("a"), stage.get("b"));
///     stage.board("sum").set(0, a + b);
///     Ok(())
/// }
///
/// fn main() {
///     let sum = ringway_harness::AckBoard::new(1).unwrap();
///     let launch = Launch::role("add").set("a", 40).set("b", 2).board("sum", &sum);
///     launch.spawn().unwrap().wait_success().unwrap();
///     assert_eq!(sum.get(0), 42);
/// }
/// ```
#[macro_export]
macro_rules! roles {
    ($($name:ident => $function:path),+ $(,)?) => {
        #[allow(unsafe_code)]
        const _: () = {
            extern "C" fn before_main() {
                $crate::role::dispatch(&[$((stringify!($name), $function)),+]);
            }
            // Runs before main in every start of this binary; does nothing but in a child.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static BEFORE_MAIN: extern "C" fn() = before_main;
        };
    };
}

/// In a child launched as a role: runs it and never returns. Elsewhere: returns at once.
pub fn dispatch(roles: &[(&str, Role)]) {
    let Ok(wanted) = std::env::var(ROLE) else {
        return;
    };
    let Some((_, role)) = roles.iter().find(|(name, _)| *name == wanted) else {
        let known: Vec<_> = roles.iter().map(|(name, _)| *name).collect();
        eprintln!("no role {wanted} in this binary, only {known:?}");
        std::process::exit(2);
    };
    // SAFETY: SIG_IGN is a disposition, not a function; no thread runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    step::pass_markers_untraced();
    let mut stage = Stage::from_environment(wanted);
    if let Some(orders) = std::env::var(ZYGOTE).ok().and_then(|fd| fd.parse().ok()) {
        // SAFETY: the launching process made this descriptor for the zygote alone.
        stage.wait_in_the_womb(unsafe { File::from_raw_fd(orders) });
    }
    let code = match catch_unwind(AssertUnwindSafe(|| role(&stage))) {
        Ok(Ok(())) => 0,
        Ok(Err(why)) => {
            eprintln!(
                "role {} (process {}): {why}",
                stage.role,
                std::process::id()
            );
            1
        }
        Err(_) => 101,
    };
    std::process::exit(code);
}

/// What a role finds: its parameters and boards.
#[derive(Debug)]
pub struct Stage {
    role: String,
    args: BTreeMap<String, String>,
}

impl Stage {
    fn from_environment(role: String) -> Stage {
        let args = std::env::vars()
            .filter_map(|(key, value)| key.strip_prefix(ARG).map(|key| (key.to_owned(), value)));
        Stage {
            role,
            args: args.collect(),
        }
    }

    /// The parameter `key` as text. Panics, naming it, if it wasn't set.
    pub fn text(&self, key: &str) -> &str {
        let found = self.args.get(key);
        found.unwrap_or_else(|| panic!("role {} was launched without {key}", self.role))
    }

    /// The parameter `key`, parsed. Panics, naming it, if it wasn't set or doesn't parse.
    pub fn get<T: FromStr>(&self, key: &str) -> T {
        let text = self.text(key);
        let parsed = text.parse().ok();
        parsed.unwrap_or_else(|| panic!("role {}: {key}={text} doesn't parse", self.role))
    }

    /// The parameter `key`, parsed, if it was set.
    pub fn find<T: FromStr>(&self, key: &str) -> Option<T> {
        self.args.contains_key(key).then(|| self.get(key))
    }

    /// The parameter `key` as a path.
    pub fn path(&self, key: &str) -> PathBuf {
        self.text(key).into()
    }

    /// The board handed over as `name`. Panics, naming it, if there is none.
    pub fn board(&self, name: &str) -> AckBoard {
        let fd = std::env::var(format!("{BOARD}{name}"))
            .ok()
            .and_then(|fd| fd.parse().ok());
        let fd =
            fd.unwrap_or_else(|| panic!("role {} was launched without board {name}", self.role));
        AckBoard::inherit(fd).unwrap_or_else(|fault| panic!("board {name}: {fault}"))
    }

    /// The fork server: for every order on the pipe a child is born, which returns from here
    /// with the order's parameters added. The zygote itself ends when the pipe does.
    fn wait_in_the_womb(&mut self, mut orders: File) {
        // Children are reaped by the kernel: their tracer has seen all there was to see.
        // SAFETY: SIG_IGN is a disposition, not a function.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let mut length = [0u8; 4];
        while orders.read_exact(&mut length).is_ok() {
            let mut order = vec![0u8; u32::from_ne_bytes(length) as usize];
            orders
                .read_exact(&mut order)
                .expect("an order has the length it says");
            // SAFETY: this process has one thread; the child goes on like any role.
            match unsafe { libc::fork() } {
                -1 => panic!("fork: {}", std::io::Error::last_os_error()),
                0 => {
                    // SAFETY: integers; the default action of SIGCHLD again for the child.
                    unsafe {
                        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
                    }
                    let text = String::from_utf8(order).expect("orders are text");
                    let mut fields = text.split('\0');
                    while let (Some(key), Some(value)) = (fields.next(), fields.next()) {
                        self.args.insert(key.to_owned(), value.to_owned());
                    }
                    return;
                }
                _ => {}
            }
        }
        std::process::exit(0);
    }
}
