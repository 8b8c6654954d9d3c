//! A server for one round: `redis-server` on a Unix socket in a directory of its own.
//!
//! Started before the sides, ended and reaped when dropped, and told by the kernel to die with its
//! starter. It listens on no port, and keeps its commands on disk only if it is asked to; the directory is the caller's to
//! remove. It is bound to no core: the sides sleep while it works.

use ringway_measure::Result;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub(super) struct Server {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

/// It takes some 20 ms; a machine that needs longer than this can't be measured anyway.
const PATIENCE: Duration = Duration::from_secs(5);

impl Server {
    /// Starts one in `dir` that keeps nothing, and waits until it can be connected to.
    pub(super) fn start(dir: &Path) -> Result<Server> {
        Self::start_with(dir, &["--appendonly", "no"])
    }

    /// The same, but every command is on the disk before its reply.
    pub(super) fn start_durable(dir: &Path) -> Result<Server> {
        Self::start_with(dir, &["--appendonly", "yes", "--appendfsync", "always"])
    }

    fn start_with(dir: &Path, keeping: &[&str]) -> Result<Server> {
        let program = program()?;
        let (socket, log) = (dir.join("redis.sock"), dir.join("redis.log"));
        let said = File::create(&log)?;
        let mut command = Command::new(&program);
        command
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .args(["--port", "0", "--save", ""])
            .args(keeping)
            .args(["--daemonize", "no", "--loglevel", "warning"])
            .arg("--dir")
            .arg(dir)
            .arg("--unixsocket")
            .arg(&socket);
        // SAFETY: prctl is async-signal-safe, and all that runs between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command
            .spawn()
            .map_err(|error| format!("can't run {}: {error}", program.display()))?;
        let mut server = Server { child, socket, log };
        let until = Instant::now() + PATIENCE;
        while server.connect().is_err() {
            server.check()?;
            if Instant::now() > until {
                return Err("redis-server did not open its socket within 5 s".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    /// A connection of the caller's own.
    pub(super) fn connect(&self) -> Result<::redis::Connection> {
        let address = format!("redis+unix://{}", self.socket.display());
        Ok(::redis::Client::open(address)?.get_connection()?)
    }

    /// Fails once the server has ended, which it must not before the round has.
    fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = said.lines().last().unwrap_or("no word");
        Err(format!("redis-server ended ({status}): {last}").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("redis-server"))
        .find(|file| file.is_file())
        .ok_or_else(|| "not installed: there is no redis-server on PATH".into())
}

/// Whether a server could be started.
pub(super) fn available() -> Result<()> {
    program().map(drop)
}
