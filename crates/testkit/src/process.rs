//! A process that ends with the test.
//!
//! Owns: the child, its log file, its end.
//! Does not: know what the program is.
//! Holds: the child is killed when this is dropped, and by the kernel when the test's own process dies.
//! Fails: with the end of the log.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal};

use crate::place;
use crate::wait;

/// Who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Us.
    Own,
    /// User `postgres` if we are root, as Postgres refuses to run as root.
    Server,
}

/// A command that the kernel kills when the thread that spawns it dies.
pub fn command(program: impl AsRef<OsStr>, user: User) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if user == User::Server && place::is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    command.arg("--").arg(program);
    command
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts it; standard output and error are appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Process { name: name.to_owned(), child, log: log.to_path_buf(), status: None })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_some() {
            bail!("{} has ended already", self.name);
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        if self.status.is_none() {
            self.child.kill().with_context(|| format!("killing {}", self.name))?;
            self.status = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits for its end by itself.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        let what = format!("the end of {name}");
        let outcome =
            wait::until(&what, limit, async || self.exited()?.ok_or_else(|| anyhow!("it still runs"))).await;
        outcome.with_context(|| format!("{name}: {}", self.tail()))
    }

    /// Fails if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.exited()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}: {}", self.name, self.tail()),
        }
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }

    /// Its largest resident size so far, in bytes.
    pub fn peak_rss(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmHWM")?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a process that cannot be killed.
        self.kill().ok();
    }
}

/// What a finished command said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Fails unless it ended with 0.
    pub fn success(self) -> Result<Outcome> {
        self.expect(0)
    }

    /// Fails unless it ended with this code.
    pub fn expect(self, code: i32) -> Result<Outcome> {
        if self.code != code {
            bail!("exit code {} instead of {code}\n{}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self)
    }

    /// Both outputs.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end, without blocking the test's other tasks.
pub async fn run(name: &str, mut command: Command, folder: &Path, limit: Duration) -> Result<Outcome> {
    let (out, err) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
    let child = command.spawn().with_context(|| format!("starting {name}"))?;
    let mut process = Process { name: name.to_owned(), child, log: err.clone(), status: None };
    let status = process.wait(limit).await?;
    let read = |path: &Path| -> Result<String> { Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned()) };
    Ok(Outcome { code: status.code().unwrap_or(-1), stdout: read(&out)?, stderr: read(&err)? })
}

/// The end of a log.
pub fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    format!("the end of {}:\n{}", log.display(), lines.get(from..).unwrap_or_default().join("\n"))
}

const TAIL_LINES: usize = 25;
