//! How a child is started: what it runs, what it is handed, and what it may not keep.
//!
//! One path for all children: prepare everything, `clone3`, then only async-signal-safe
//! calls until `execveat`. So a launch is safe from a process with many threads, and can
//! ask for what `std::process::Command` can't: a given pid, another pid namespace, another
//! uid, a ptrace stop at exec. Every child dies with the thread that launched it
//! (PR_SET_PDEATHSIG). A failure before exec comes back as a [`Fault`] that names the call.
//!
//! Between clone and exec the child holds copies of all descriptors of the launching
//! process, so an open file description (and its lock) can outlive a close by that moment.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::liveness::PidNamespace;
use crate::{AckBoard, Fault, Victim, os, role};

/// A recipe for children; may be used many times. See the module.
///
/// ```no_run
/// # use ringway_harness::{AckBoard, Launch};
/// let acks = AckBoard::new(1).unwrap();
/// let mut sender = Launch::role("send_forever")
///     .set("root", "/dev/shm/some-bus")
///     .set("count", 1000)
///     .board("acks", &acks)
///     .spawn()
///     .unwrap();
/// acks.await_at_least(0, 10, &sender, "ten acks").unwrap();
/// sender.kill().unwrap();
/// ```
#[derive(Clone)]
pub struct Launch {
    pub(crate) name: String,
    program: PathBuf,
    argv: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    boards: Vec<Arc<OwnedFd>>,
    directory: Option<PathBuf>,
    uid: Option<u32>,
    wanted_pid: Option<i32>,
    namespace: Namespace,
    core_limit: Option<u64>,
    quiet: bool,
}

#[derive(Clone)]
enum Namespace {
    Ours,
    Fresh,
    Of(Arc<PidNamespace>),
}

impl Launch {
    /// This very binary again, in the role `name` (see [`roles!`](crate::roles)).
    pub fn role(name: &str) -> Launch {
        let exe = std::env::current_exe().expect("/proc/self/exe is readable");
        Launch::program(exe).named(name).env(role::ROLE, name)
    }

    /// Any program.
    pub fn program(path: impl Into<PathBuf>) -> Launch {
        let program = path.into();
        Launch {
            name: program.display().to_string(),
            argv: vec![program.clone().into()],
            program,
            env: BTreeMap::new(),
            boards: Vec::new(),
            directory: None,
            uid: None,
            wanted_pid: None,
            namespace: Namespace::Ours,
            core_limit: None,
            quiet: false,
        }
    }

    /// The name by which messages call the child.
    pub fn named(mut self, name: &str) -> Launch {
        self.name = name.to_owned();
        self
    }

    /// Adds a command-line argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Launch {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Sets an environment variable; the rest of the environment is inherited.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Launch {
        self.env
            .insert(key.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets a parameter of the role: [`Stage::text`](crate::Stage::text) and its like read it.
    pub fn set(self, key: &str, value: impl ToString) -> Launch {
        self.env(format!("{}{key}", role::ARG), value.to_string())
    }

    /// Hands a board to the role, which finds it by [`Stage::board`](crate::Stage::board).
    pub fn board(mut self, name: &str, board: &AckBoard) -> Launch {
        let fd = board.fd();
        self = self.env(format!("{}{name}", role::BOARD), fd.as_raw_fd().to_string());
        self.boards.push(fd);
        self
    }

    /// Runs in `directory`.
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Launch {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Runs as `uid` with the group of the same number and no others. Needs root.
    pub fn uid(mut self, uid: u32) -> Launch {
        self.uid = Some(uid);
        self
    }

    /// Gets exactly this pid, in its namespace. Needs root, and the pid free.
    pub fn with_pid(mut self, pid: i32) -> Launch {
        self.wanted_pid = Some(pid);
        self
    }

    /// Is process 1 of a pid namespace of its own. Needs root.
    pub fn in_fresh_namespace(mut self) -> Launch {
        self.namespace = Namespace::Fresh;
        self
    }

    /// Lives in `namespace`, which stays for as long as the child does.
    pub fn in_namespace(mut self, namespace: &Arc<PidNamespace>) -> Launch {
        self.namespace = Namespace::Of(namespace.clone());
        self
    }

    /// The size to which the child may dump core; 0 unless set, whatever the shell allows.
    pub fn core_limit(mut self, bytes: u64) -> Launch {
        self.core_limit = Some(bytes);
        self
    }

    /// Sends standard output and error to `/dev/null`: for children that are meant to fail.
    pub fn quiet(mut self) -> Launch {
        self.quiet = true;
        self
    }

    /// Starts a child. Blocks until it has exec'd.
    pub fn spawn(&self) -> Result<Victim, Fault> {
        let (pid, pidfd) = self.start(Traced::No, &[])?;
        let keeps = match &self.namespace {
            Namespace::Of(namespace) => Some(namespace.clone()),
            _ => None,
        };
        Ok(Victim::adopt(self.name.clone(), pid, pidfd, keeps))
    }

    /// The clone and exec behind every launch. With `Traced::Yes` the caller's thread is
    /// the tracer and the child stops at exec.
    pub(crate) fn start(&self, traced: Traced, inherit: &[RawFd]) -> Result<(i32, OwnedFd), Fault> {
        let script = Script::prepare(self, traced, inherit)?;
        let (mut news, telltale) = pipe()?;
        let outside = match &self.namespace {
            Namespace::Of(namespace) => Some(namespace.enter()?),
            _ => None,
        };
        let wanted = self.wanted_pid.unwrap_or(0);
        let mut raw_pidfd: i32 = -1;
        let fresh = matches!(self.namespace, Namespace::Fresh);
        // SAFETY: clone_args is plain data for which all zeroes is a value.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = libc::CLONE_PIDFD as u64 | if fresh { libc::CLONE_NEWPID as u64 } else { 0 };
        args.pidfd = &raw mut raw_pidfd as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        if self.wanted_pid.is_some() {
            args.set_tid = &raw const wanted as u64;
            args.set_tid_size = 1;
        }
        // SAFETY: no CLONE_VM: the child works on a copy of this memory, and until exec calls
        // nothing but the kernel (Script::play), so no lock held by another thread matters.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of_val(&args)) };
        if pid == 0 {
            script.play(telltale.as_raw_fd());
        }
        let cloned = os::check(pid);
        drop(outside);
        drop(telltale);
        let pid = cloned.map_err(|e| Fault::os(format!("clone3 for {}", self.name), e))? as i32;
        // SAFETY: CLONE_PIDFD made this descriptor for us alone.
        let pidfd = unsafe { OwnedFd::from_raw_fd(raw_pidfd) };
        let mut answer = [0u8; 8];
        let mut got = 0;
        while let n @ 1.. = news.read(&mut answer[got..]).unwrap_or(0) {
            got += n;
        }
        if got == 0 {
            return Ok((pid, pidfd));
        }
        let _ = os::waitid(pid, libc::WEXITED | libc::__WALL);
        let (step, errno) = answer.split_at(4);
        let step = u32::from_ne_bytes(step.try_into().expect("four bytes")) as usize;
        let errno = i32::from_ne_bytes(errno.try_into().expect("four bytes"));
        let what = format!("{} before exec, at {}", self.name, CALLS[step]);
        Err(Fault::os(what, std::io::Error::from_raw_os_error(errno)))
    }

    fn environment(&self) -> Vec<CString> {
        let ours = |key: &OsStr| {
            let key = key.as_bytes();
            [role::ROLE, role::ARG, role::BOARD, role::ZYGOTE]
                .iter()
                .any(|own| key.starts_with(own.as_bytes()))
        };
        let mut env: BTreeMap<OsString, OsString> =
            std::env::vars_os().filter(|(key, _)| !ours(key)).collect();
        env.extend(self.env.clone());
        env.into_iter()
            .map(|(key, value)| {
                let line = [key.as_bytes(), b"=", value.as_bytes()].concat();
                CString::new(line).expect("an environment without NUL")
            })
            .collect()
    }
}

/// Whether the launching thread becomes the tracer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traced {
    /// An ordinary child.
    No,
    /// Stops at exec, with fixed addresses.
    Yes,
}

/// A close-on-exec pipe: (read end, write end).
pub(crate) fn pipe() -> Result<(File, OwnedFd), Fault> {
    let mut ends = [0i32; 2];
    // SAFETY: room for the two descriptors.
    os::check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }.into())
        .map_err(|e| Fault::os("pipe2", e))?;
    // SAFETY: pipe2 just made both descriptors for us alone.
    Ok(unsafe { (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// The calls of `Script::play` in order, for the message of a failure.
const CALLS: [&str; 9] = [
    "chdir",
    "setrlimit(core)",
    "setgroups",
    "setresgid",
    "setresuid",
    "prctl(PDEATHSIG)",
    "fcntl(inherit)",
    "ptrace(TRACEME)",
    "execveat",
];

/// Everything the child needs between clone and exec, allocated beforehand.
struct Script {
    program: OwnedFd,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
    directory: Option<CString>,
    core_limit: u64,
    uid: Option<u32>,
    inherit: Vec<RawFd>,
    null: Option<File>,
    traced: Traced,
}

impl Script {
    fn prepare(launch: &Launch, traced: Traced, inherit: &[RawFd]) -> Result<Script, Fault> {
        let text = |s: &OsStr| CString::new(s.as_bytes()).expect("no NUL in an argument or path");
        let path = text(launch.program.as_os_str());
        // SAFETY: path is a C string; the flags make no promise about memory.
        let program = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
        let program = os::check(program.into())
            .map_err(|e| Fault::os(format!("open {}", launch.program.display()), e))?;
        // SAFETY: open just made this descriptor for us alone.
        let program = unsafe { OwnedFd::from_raw_fd(program as i32) };
        let args: Vec<CString> = launch.argv.iter().map(|a| text(a)).collect();
        let env = launch.environment();
        let pointers = |strings: &[CString]| {
            strings
                .iter()
                .map(|s| s.as_ptr())
                .chain([std::ptr::null()])
                .collect::<Vec<_>>()
        };
        let (argv, envp) = (pointers(&args), pointers(&env));
        let mut all = inherit.to_vec();
        all.extend(launch.boards.iter().map(|fd| fd.as_raw_fd()));
        let null = File::options().write(true).open("/dev/null");
        let null = launch.quiet.then_some(null).transpose();
        Ok(Script {
            program,
            argv,
            envp,
            _strings: args.into_iter().chain(env).collect(),
            directory: launch
                .directory
                .as_ref()
                .map(|d| CString::new(d.clone().into_os_string().into_vec()).expect("no NUL")),
            core_limit: launch.core_limit.unwrap_or(0),
            uid: launch.uid,
            inherit: all,
            null: null.map_err(|e| Fault::os("open /dev/null", e))?,
            traced,
        })
    }

    /// The child's life between clone and exec. Allocates nothing, locks nothing, returns never.
    fn play(&self, telltale: RawFd) -> ! {
        let failed = self.try_play();
        // SAFETY: __errno_location is this thread's errno.
        let errno = unsafe { *libc::__errno_location() };
        let words = [failed as u32, errno as u32];
        // SAFETY: eight bytes from a local array; then the process ends.
        unsafe {
            libc::write(telltale, words.as_ptr().cast(), 8);
            libc::_exit(127)
        }
    }

    /// Returns the index in `CALLS` of the call that failed.
    fn try_play(&self) -> usize {
        // SAFETY: sigset_t is plain data, filled by sigemptyset; only this child's mask changes.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        }
        // SAFETY: raw calls with integers, and with pointers into self, which outlives them. Raw
        // because the wrappers of setgroups and its like would signal threads that only the
        // launching process has.
        unsafe {
            if let Some(directory) = &self.directory
                && libc::chdir(directory.as_ptr()) == -1
            {
                return 0;
            }
            let core = libc::rlimit {
                rlim_cur: self.core_limit,
                rlim_max: self.core_limit,
            };
            if libc::setrlimit(libc::RLIMIT_CORE, &core) == -1 {
                return 1;
            }
            if let Some(uid) = self.uid {
                if libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) == -1 {
                    return 2;
                }
                if libc::syscall(libc::SYS_setresgid, uid, uid, uid) == -1 {
                    return 3;
                }
                if libc::syscall(libc::SYS_setresuid, uid, uid, uid) == -1 {
                    return 4;
                }
            }
            // After the uid: a change of credentials clears it.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return 5;
            }
            for fd in &self.inherit {
                if libc::fcntl(*fd, libc::F_SETFD, 0) == -1 {
                    return 6;
                }
            }
            if let Some(null) = &self.null {
                libc::dup2(null.as_raw_fd(), 1);
                libc::dup2(null.as_raw_fd(), 2);
            }
            if self.traced == Traced::Yes {
                // Equal addresses in every run: a step can be named and found again.
                libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
                if libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0) == -1 {
                    return 7;
                }
            }
            libc::syscall(
                libc::SYS_execveat,
                self.program.as_raw_fd(),
                c"".as_ptr(),
                self.argv.as_ptr(),
                self.envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        8
    }
}
