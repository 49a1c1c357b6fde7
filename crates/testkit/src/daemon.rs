//! The daemon under test: its configuration, its commands, and its process.
//!
//! Owns: one pipeline's folder with configuration and logs; starting, signalling and asking its daemons.
//! Does not: call the daemon's code; it runs the program that `TRIBUTARY_BIN` names.
//! Holds: every log is kept, one file a start, so that no warning gets lost.
//! Fails: with the end of the daemon's log.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::http;
use crate::lister::Place;
use crate::place;
use crate::postgres::{free_port, parse_lsn};
use crate::process::{self, Outcome, Process, User, command};
use crate::s3::{ACCESS_KEY, BUCKET, SECRET_KEY, endpoint};
use crate::stage::Stage;
use crate::wait::{self, seconds};

/// Where a pipeline's lake is.
#[derive(Clone, Debug)]
pub enum Lake {
    /// A folder.
    Directory(PathBuf),
    /// A prefix in the bucket of an S3 server.
    S3 {
        /// The server's own port, for eyes that must see through faults.
        server: u16,
        /// The port that the daemon is given: the server's, or a proxy's.
        daemon: u16,
        /// The prefix.
        prefix: String,
        /// `lake.s3.checksums`
        checksums: &'static str,
    },
}

/// What a pipeline's configuration says. Everything else has its default.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `source.url`
    pub source: String,
    /// `source.slot`
    pub slot: String,
    /// `source.publication`
    pub publication: String,
    /// `source.format`
    pub format: &'static str,
    /// `source.streaming`
    pub streaming: &'static str,
    /// `source.spool_size`
    pub spool_size: &'static str,
    /// `lake.url` and `lake.s3`
    pub lake: Lake,
    /// `cut.interval`
    pub interval: &'static str,
    /// `cut.file_size`
    pub file_size: &'static str,
    /// `memory.budget`
    pub budget: &'static str,
    /// `tables.exclude`
    pub exclude: Vec<String>,
    /// `tables.before`
    pub before: Vec<String>,
    /// `[[tables.override]]`, as it is written.
    pub overrides: String,
    /// `snapshot.mode`
    pub snapshot: &'static str,
    /// `partitions.on_detach` and `partitions.on_drop`
    pub on_gone: &'static str,
    /// `partitions.on_attach`
    pub on_attach: &'static str,
    /// `partitions.refresh`
    pub refresh: &'static str,
    /// `partitions.inherit` and `[[partitions.pattern]]`, as they are written.
    pub folding: String,
    /// Environment of the daemon.
    pub env: Vec<(String, String)>,
}

impl Settings {
    /// The defaults of a test.
    pub fn new(source: String, lake: Lake) -> Settings {
        Settings {
            source,
            slot: "tributary".to_owned(),
            publication: "tributary".to_owned(),
            format: "auto",
            streaming: "off",
            spool_size: "1GiB",
            lake,
            interval: "1s",
            file_size: "16MiB",
            budget: "128MiB",
            exclude: Vec::new(),
            before: Vec::new(),
            overrides: String::new(),
            snapshot: "never",
            on_gone: "keep",
            on_attach: "backfill",
            refresh: "30s",
            folding: String::new(),
            env: Vec::new(),
        }
    }
}

/// A configured pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// What it was configured with.
    pub settings: Settings,
    /// Its folder.
    pub folder: PathBuf,
    name: String,
    http_port: u16,
}

impl Pipeline {
    /// Writes the configuration. Names tell the pipelines of one test apart.
    pub fn new(stage: &Stage, name: &str, settings: Settings) -> Result<Pipeline> {
        let folder = stage.path(name);
        fs::create_dir_all(&folder)?;
        let pipeline = Pipeline { settings, folder, name: name.to_owned(), http_port: free_port()? };
        pipeline.write()?;
        Ok(pipeline)
    }

    /// The same lake and slot with another configuration: a second daemon, or a changed one.
    pub fn variant(&self, stage: &Stage, name: &str, change: impl FnOnce(&mut Settings)) -> Result<Pipeline> {
        let mut settings = self.settings.clone();
        change(&mut settings);
        Pipeline::new(stage, name, settings)
    }

    fn write(&self) -> Result<()> {
        let Settings {
            source,
            slot,
            publication,
            format,
            interval,
            file_size,
            budget,
            exclude,
            before,
            overrides,
            snapshot,
            on_gone,
            on_attach,
            refresh,
            folding,
            ..
        } = &self.settings;
        let mut toml = String::new();
        writeln!(toml, "[source]\nurl = \"{source}\"\nslot = \"{slot}\"\npublication = [\"{publication}\"]")?;
        let Settings { streaming, spool_size, .. } = &self.settings;
        let spool = self.spool();
        writeln!(toml, "format = \"{format}\"\nstreaming = \"{streaming}\"\nspool_size = \"{spool_size}\"")?;
        writeln!(
            toml,
            "spool_directory = \"{}\"\n\n[lake]\nurl = \"{}\"\n",
            spool.display(),
            self.lake_url()
        )?;
        if let Lake::S3 { daemon, checksums, .. } = &self.settings.lake {
            let endpoint = endpoint(*daemon);
            writeln!(
                toml,
                "[lake.s3]\nregion = \"us-east-1\"\nendpoint = \"{endpoint}\"\npath_style = true"
            )?;
            writeln!(toml, "checksums = \"{checksums}\"\n")?;
        }
        writeln!(
            toml,
            "[tables]\nexclude = {exclude:?}\nbefore = {before:?}\n{overrides}\n\n[snapshot]\nmode = \"{snapshot}\"\n\n\
             [partitions]\non_detach = \"{on_gone}\"\non_drop = \"{on_gone}\"\non_attach = \"{on_attach}\"\nrefresh = \"{refresh}\"\n{folding}\n"
        )?;
        writeln!(toml, "[cut]\ninterval = \"{interval}\"\nfile_size = \"{file_size}\"\n")?;
        writeln!(
            toml,
            "[memory]\nbudget = \"{budget}\"\n\n[http]\nlisten = \"127.0.0.1:{}\"",
            self.http_port
        )?;
        Ok(fs::write(self.config(), toml)?)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("tributary.toml")
    }

    /// `source.spool_directory`
    pub fn spool(&self) -> PathBuf {
        self.folder.with_extension("spool")
    }

    /// `lake.url`
    pub fn lake_url(&self) -> String {
        match &self.settings.lake {
            Lake::Directory(path) => format!("file://{}", path.display()),
            Lake::S3 { prefix, .. } => format!("s3://{BUCKET}/{prefix}"),
        }
    }

    /// Where a lister finds the lake.
    pub fn place(&self) -> Place {
        match &self.settings.lake {
            Lake::Directory(path) => Place::Directory(path.clone()),
            Lake::S3 { server, prefix, .. } => Place::Bucket { port: *server, prefix: prefix.clone() },
        }
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        Ok(self.command_of(place::tributary()?, arguments))
    }

    fn command_of(&self, program: PathBuf, arguments: &[&str]) -> Command {
        let mut program = command(program, User::Own);
        program.args(arguments).arg("--config").arg(self.config());
        program.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        program.env("AWS_EC2_METADATA_DISABLED", "true");
        for (name, value) in &self.settings.env {
            program.env(name, value);
        }
        program
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        self.run_within(arguments, seconds(120)).await
    }

    /// Runs a command that may take longer.
    pub async fn run_within(&self, arguments: &[&str], limit: Duration) -> Result<Outcome> {
        let name = format!("{:03}-{}", self.count_logs()?, arguments.first().copied().unwrap_or("tributary"));
        process::run(&name, self.command(arguments)?, &self.folder, limit).await
    }

    /// Runs a command on a terminal of this size, to its end; the terminal is sent what `stdout` has.
    pub async fn run_on_terminal(&self, arguments: &[&str], columns: u16, rows: u16) -> Result<Outcome> {
        let program = self.command(arguments)?;
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let line = format!("stty columns {columns} rows {rows}; exec {}", words.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        let known = program.get_envs().filter_map(|(name, value)| Some((name, value?)));
        script.envs(known).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        process::run(&format!("{:03}-terminal", self.count_logs()?), script, &self.folder, seconds(120)).await
    }

    /// `tributary setup --apply`
    pub async fn setup(&self) -> Result<Outcome> {
        self.run(&["setup", "--apply"]).await?.success().context("setup --apply")
    }

    /// The port of `http.listen`.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Starts a daemon.
    pub fn start(&self) -> Result<Daemon> {
        self.spawn(self.command(&["run"])?)
    }

    /// Starts a daemon of this configuration by another command.
    pub fn start_as(&self, program: Command) -> Result<Daemon> {
        self.spawn(program)
    }

    /// A page of its daemon, whoever started that.
    pub async fn get(&self, path: &str) -> Result<http::Reply> {
        http::get(self.http_port, path).await
    }

    /// `positions.<name>` of its daemon, whoever started that.
    pub async fn position(&self, name: &str) -> Result<u64> {
        Daemon::position_at(self.http_port, name).await
    }

    /// Starts a daemon that dies at a kill point: `entry-logged` at the first visit, `entry-logged:3` at the third, `log-put-sent:1:5` 5 ms into
    /// a request.
    pub fn start_to_die(&self, at: &str) -> Result<Daemon> {
        let mut program = self.command_of(place::tributary_with_kill_points()?, &["run"]);
        program.env("KILL_POINT", at);
        self.spawn(program)
    }

    fn spawn(&self, program: Command) -> Result<Daemon> {
        let log = self.folder.join(format!("{:03}-run.err", self.count_logs()?));
        let process = Process::spawn(&format!("daemon {}", self.name), program, &log)?;
        Ok(Daemon { process, http_port: self.http_port })
    }

    /// Starts a daemon, and waits until it streams.
    pub async fn start_streaming(&self) -> Result<Daemon> {
        let mut daemon = self.start()?;
        daemon.wait_until_streaming(seconds(60)).await?;
        Ok(daemon)
    }

    fn count_logs(&self) -> Result<usize> {
        Ok(fs::read_dir(&self.folder)?.count())
    }

    /// All lines that `run` has logged.
    pub fn log(&self) -> Result<String> {
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        paths.retain(|path| path.to_string_lossy().ends_with("-run.err"));
        paths.sort();
        let mut text = String::new();
        for path in paths {
            text.push_str(&fs::read_to_string(path)?);
        }
        Ok(text)
    }

    /// Fails on a warning, error or panic in the log that does not contain one of the expected texts.
    pub fn refuse_unexpected_lines(&self, expected: &[&str]) -> Result<()> {
        let text = self.log()?;
        let unexpected: Vec<&str> = text
            .lines()
            .filter(|line| is_loud(line) && !expected.iter().any(|words| line.contains(words)))
            .collect();
        let shown = unexpected.get(..unexpected.len().min(5)).unwrap_or_default().join("\n");
        ensure!(unexpected.is_empty(), "{} unexpected lines in the log:\n{shown}", unexpected.len());
        Ok(())
    }
}

fn is_loud(line: &str) -> bool {
    match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(fields)) => {
            fields.get("level").and_then(Value::as_str).is_some_and(|level| matches!(level, "WARN" | "ERROR"))
        }
        _ => line.contains("panicked at"),
    }
}

/// The warning of tables that are published without a replica identity.
pub const NO_IDENTITY: &str = "UPDATE and DELETE fail at the source";

/// Warnings of a daemon whose connections to Postgres or the store are broken on purpose.
pub const FAULTS: &[&str] = &[
    "the stream ended, trying again",
    "the connection broke, publishing what is whole",
    "store request failed, trying again",
    "the outcome of a log entry is unknown",
    "abandoned uploads cannot be listed",
    "partitions cannot be looked at, and are looked at again",
    "the snapshot waits, and is tried again",
    "a part of the snapshot is tried again",
    "the snapshot's point is lost",
];

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    http_port: u16,
}

impl Daemon {
    /// `/status.json`
    pub async fn status(&self) -> Result<Value> {
        let reply = http::get(self.http_port, "/status.json").await?;
        ensure!(reply.status == 200, "/status.json answers {}", reply.status);
        Ok(serde_json::from_slice(&reply.body)?)
    }

    /// A page of the daemon.
    pub async fn get(&self, path: &str) -> Result<http::Reply> {
        http::get(self.http_port, path).await
    }

    /// `positions.<name>`
    pub async fn position(&self, name: &str) -> Result<u64> {
        let status = self.status().await?;
        let text = status.pointer(&format!("/positions/{name}")).and_then(Value::as_str);
        parse_lsn(text.with_context(|| format!("no position {name} in {status}"))?)
    }

    /// Waits until `/readyz` answers 200.
    pub async fn wait_until_streaming(&mut self, limit: Duration) -> Result<()> {
        let port = self.http_port;
        let ready = wait::until("streaming", limit, async || {
            if let Some(status) = self.process.exited()? {
                return Ok(Some(status));
            }
            let reply = http::get(port, "/readyz").await?;
            ensure!(reply.status == 200, "/readyz answers {}", reply.status);
            Ok(None)
        });
        match ready.await {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                bail!("the daemon ended with {status} instead of streaming: {}", self.process.tail())
            }
            Err(error) => Err(error).with_context(|| self.process.tail()),
        }
    }

    /// Waits until everything up to a position is published.
    pub async fn wait_until_published(&mut self, lsn: u64, limit: Duration) -> Result<()> {
        let port = self.http_port;
        let published = wait::until("publishing", limit, async || {
            if let Some(status) = self.process.exited()? {
                return Ok(Some(status));
            }
            let published = Daemon::position_at(port, "published").await?;
            ensure!(published >= lsn, "published up to {published:X} of {lsn:X}");
            Ok(None)
        });
        match published.await {
            Ok(None) => Ok(()),
            Ok(Some(status)) => bail!("the daemon ended with {status}: {}", self.process.tail()),
            Err(error) => Err(error).with_context(|| self.process.tail()),
        }
    }

    async fn position_at(port: u16, name: &str) -> Result<u64> {
        let reply = http::get(port, "/status.json").await?;
        let status: Value = serde_json::from_slice(&reply.body)?;
        let text = status.pointer(&format!("/positions/{name}")).and_then(Value::as_str);
        parse_lsn(text.with_context(|| format!("no position {name} in {status}"))?)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGSTOP.
    pub fn freeze(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// SIGTERM, and the exit code.
    pub async fn terminate(&mut self, limit: Duration) -> Result<i32> {
        self.process.signal(Signal::TERM)?;
        self.exit_code(limit).await
    }

    /// SIGTERM, which must be followed by a clean end.
    pub async fn stop(mut self) -> Result<()> {
        let code = self.terminate(seconds(60)).await?;
        ensure!(code == 0, "exit code {code} after SIGTERM: {}", self.process.tail());
        Ok(())
    }

    /// SIGTERM, and no look back.
    pub fn tell_to_stop(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Waits until it has killed itself, as [`Pipeline::start_to_die`] was told.
    pub async fn wait_until_killed(&mut self, at: &str, limit: Duration) -> Result<()> {
        let status = self.process.wait(limit).await.with_context(|| format!("to die at {at}"))?;
        let tail = self.process.tail();
        let place = at.split(':').next().unwrap_or(at);
        ensure!(
            status.signal() == Some(Signal::ABORT.as_raw()) && tail.contains(&format!("killed at {place}")),
            "the daemon ended with {status}, and not at {at}: {tail}"
        );
        Ok(())
    }

    /// Waits until it ends by itself.
    pub async fn exit_code(&mut self, limit: Duration) -> Result<i32> {
        Ok(self.process.wait(limit).await?.code().unwrap_or(-1))
    }

    /// The exit code, if it has ended.
    pub fn exited(&mut self) -> Result<Option<i32>> {
        Ok(self.process.exited()?.map(|status| status.code().unwrap_or(-1)))
    }

    /// Its largest resident size so far, in bytes.
    pub fn peak_rss(&self) -> Result<u64> {
        self.process.peak_rss()
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

#[cfg(test)]
mod tests;
