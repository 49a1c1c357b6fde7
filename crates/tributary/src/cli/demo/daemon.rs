//! The daemon under test: this very program, as a child process.
//!
//! Owns: its configuration file, `setup`, start, kill, stop, and its status document.
//! Does not: call the daemon's code; it knows only what a user knows (the command line, the file, HTTP).
//! Holds: at most one daemon at a time.
//! Fails: [`Error`] with the end of the daemon's log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use pgoutput::Lsn;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::children::{self, Signal};
use super::cluster::{self, Cluster, SUPERUSER, unwritable};
use super::shop::SCHEMA;
use crate::error::{Error, Result};

/// The database that the demo's tables live in.
pub(super) const DATABASE: &str = "shop";
/// The replication slot.
pub(super) const SLOT: &str = "tributary";

/// The daemon.
pub(super) struct Daemon {
    program: PathBuf,
    child: Option<Child>,
    pub(super) config: PathBuf,
    pub(super) log: PathBuf,
    pub(super) http_port: u16,
}

/// What the demo reads of `/status.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) positions: Positions,
    #[serde(default)]
    pub(super) lag: Lag,
}

/// `positions` of `/status.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Positions {
    #[serde(default)]
    pub(super) published: Option<Lsn>,
}

/// `lag` of `/status.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Lag {
    #[serde(default)]
    pub(super) seconds: Option<f64>,
}

impl Daemon {
    /// Writes the configuration into `home`.
    pub(super) fn configure(cluster: &Cluster, home: &Path, lake: &Path) -> Result<Daemon> {
        let program = std::env::current_exe()
            .map_err(|error| Error::definite("this program cannot find its own file").caused_by(error))?;
        let http_port = cluster::free_port()?;
        let config = home.join("tributary.toml");
        let text = configuration(cluster.port, &cluster.password_file, lake, http_port);
        fs::write(&config, text).map_err(|error| unwritable(&config, error))?;
        Ok(Daemon { program, child: None, config, log: home.join("daemon.log"), http_port })
    }

    /// `tributary setup --apply`: role, publication, slot and the first log entry.
    pub(super) async fn setup(&self) -> Result<()> {
        let mut setup = children::command(&self.program);
        setup.args(["setup", "--apply", "--config"]).arg(&self.config);
        children::run(&mut setup).await.map(drop)
    }

    /// `tributary run`.
    pub(super) fn start(&mut self) -> Result<()> {
        let mut run = children::command(&self.program);
        run.args(["run", "--config"]).arg(&self.config);
        children::log_to(&mut run, &self.log)?;
        self.child = Some(children::spawn(&mut run)?);
        Ok(())
    }

    /// Waits until the stream has started.
    pub(super) async fn wait_until_streaming(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            self.must_run()?;
            if self.status().await.is_some_and(|status| status.state.eq_ignore_ascii_case("streaming")) {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(self.failed(&format!("the daemon does not stream after {} s", START_LIMIT.as_secs())))
    }

    /// Fails if it ended by itself.
    pub(super) fn must_run(&mut self) -> Result<()> {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        match ended {
            None => Ok(()),
            Some(status) => Err(self.failed(&format!("the daemon ended by itself with {status}"))),
        }
    }

    /// An error with the end of the daemon's log.
    pub(super) fn failed(&self, what: &str) -> Error {
        Error::definite(format!("{what}; the end of its log:\n{}", children::tail(&self.log, 30)))
    }

    /// Its process.
    pub(super) fn child(&self) -> Option<&Child> {
        self.child.as_ref()
    }

    /// Its process's number.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// `kill -9`: it gets no chance to do anything.
    pub(super) async fn kill(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        children::signal(child, Signal::Kill).await?;
        let ended = children::wait(child, Duration::from_secs(10)).await;
        self.child = None;
        ended.map(drop).ok_or_else(|| Error::definite("the daemon survives a kill -9"))
    }

    /// SIGTERM: it cuts, logs, publishes, confirms and ends.
    pub(super) async fn terminate(&mut self) -> Result<ExitStatus> {
        let Some(child) = &mut self.child else { return Err(Error::bug("there is no daemon to stop")) };
        children::signal(child, Signal::Terminate).await?;
        match children::wait(child, STOP_LIMIT).await {
            Some(status) => {
                self.child = None;
                Ok(status)
            }
            None => Err(self.failed(&format!("the daemon does not stop within {} s", STOP_LIMIT.as_secs()))),
        }
    }

    /// Its status document, if it answers.
    pub(super) async fn status(&self) -> Option<Status> {
        let body = timeout(Duration::from_secs(2), get(self.http_port, "/status.json")).await.ok()?.ok()?;
        serde_json::from_str(&body).ok()
    }

    /// Where a browser finds its status.
    pub(super) fn status_url(&self) -> String {
        format!("http://127.0.0.1:{}/status.json", self.http_port)
    }
}

/// The smallest HTTP client: one request a connection, to loopback.
async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // 1.0, so that the answer is not in chunks.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn configuration(port: u16, password_file: &Path, lake: &Path, http_port: u16) -> String {
    let text = |value: &dyn std::fmt::Display| toml::Value::String(value.to_string()).to_string();
    let url = format!("postgresql://{SUPERUSER}@127.0.0.1:{port}/{DATABASE}?sslmode=disable");
    format!(
        "# Written by `tributary demo`.\n\
         [source]\nurl = {}\npassword_file = {}\nslot = {}\npublication = [{}]\n\n\
         [lake]\nurl = {}\n\n\
         [tables]\ninclude = [{}]\n\n\
         [cut]\ninterval = \"2s\"\n\n\
         [memory]\nbudget = \"256MiB\"\n\n\
         [http]\nlisten = {}\n",
        text(&url),
        text(&password_file.display()),
        text(&SLOT),
        text(&SLOT),
        text(&format_args!("file://{}", lake.display())),
        text(&format_args!("{SCHEMA}.*")),
        text(&format_args!("127.0.0.1:{http_port}")),
    )
}

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
