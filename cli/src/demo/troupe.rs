//! The processes of the demonstration: this program again, each with a part of its own.

use super::part::Part;
use anyhow::{Context, bail};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Ended when it is dropped, so that no way out of the demonstration leaves a process behind.
pub struct Player {
    part: Part,
    child: Child,
}

impl Player {
    pub fn start(part: Part) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where is this program?")?;
        let child = Command::new(&program)
            .arg("demo-part")
            .arg(serde_json::to_string(&part)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("can't start {}", program.display()))?;
        Ok(Self { part, child })
    }

    /// Kills it, with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts another one in its place.
    pub fn replace(&mut self) -> anyhow::Result<()> {
        let mut part = self.part.clone();
        part.life += 1;
        *self = Self::start(part)?;
        Ok(())
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails if it has ended badly.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            Some(status) if !status.success() => {
                bail!("a process of the demonstration failed: {status}")
            }
            _ => Ok(()),
        }
    }

    pub fn wait(&mut self) -> anyhow::Result<()> {
        self.child.wait()?;
        self.check()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // One that has ended needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
