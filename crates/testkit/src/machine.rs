//! A small system of its own, with a systemd as PID 1.
//!
//! Owns: its boot, commands in it, and files that come and go.
//! Does not: virtualize; it is namespaces on this kernel (`scripts/machine.sh`), and shares the network.
//! Holds: its disk is memory, and everything in it ends with the test.
//! Fails: with what the command said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::place;
use crate::process::{self, Outcome, Process, User, command};
use crate::stage::Stage;
use crate::wait::{self, seconds};

/// A booted system.
#[derive(Debug)]
pub struct Machine {
    folder: PathBuf,
    process: Process,
}

impl Machine {
    /// Boots it, and waits until it is up.
    pub async fn boot(stage: &Stage) -> Result<Machine> {
        let folder = stage.path("machine");
        fs::create_dir_all(folder.join("share"))?;
        let mut program = command(place::repository()?.join("scripts/machine.sh"), User::Own);
        program.env("TRIBUTARY_CACHE", place::cache()?).arg(&folder);
        let process = Process::spawn("machine", program, &folder.join("boot.log"))?;
        let mut machine = Machine { folder, process };
        wait::until("the boot of the machine", seconds(60), async || {
            machine.process.must_run()?;
            let state = machine.run(&["systemctl", "is-system-running"]).await?.stdout;
            ensure!(matches!(state.trim(), "running" | "degraded"), "{state}");
            Ok(())
        })
        .await
        .with_context(|| machine.process.tail())?;
        Ok(machine)
    }

    /// Runs a command in it.
    pub async fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        self.run_within(arguments, seconds(120)).await
    }

    /// Runs a command in it that is given this long.
    pub async fn run_within(&self, arguments: &[&str], limit: Duration) -> Result<Outcome> {
        let mut program = Command::new("nsenter");
        program.args(["--target", &self.init()?, "--mount", "--pid", "--uts", "--ipc", "--"]).args(arguments);
        process::run("command", program, &self.folder, limit).await
    }

    /// The id of its first process, outside.
    fn init(&self) -> Result<String> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        children.split_whitespace().next().map(str::to_owned).context("it has no first process yet")
    }

    /// Writes a file in it that is root's alone.
    pub async fn write(&self, path: &str, text: &str) -> Result<()> {
        fs::write(self.folder.join("share/file"), text)?;
        self.run(&["install", "-D", "-m", "600", "/share/file", path]).await?.success().map(drop)
    }

    /// Brings a file into it, and says where it is there.
    pub fn bring(&self, file: &Path) -> Result<String> {
        let name = file.file_name().context("a file has a name")?;
        fs::copy(file, self.folder.join("share").join(name)).with_context(|| file.display().to_string())?;
        Ok(format!("/share/{}", name.to_string_lossy()))
    }
}
