//! A real Postgres server for one test.
//!
//! Owns: the data folder, the server process, stop and start in every manner, copies of the folder, standbys.
//! Does not: know what is stored in it.
//! Holds: it listens on one free loopback port, which stays the same over restarts.
//! Fails: with the end of the server's log.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::Signal;
use tokio_postgres::{Client, NoTls};

use crate::place;
use crate::process::{Process, User, command};
use crate::stage::Stage;
use crate::wait::{self, seconds};

/// A server with its data.
#[derive(Debug)]
pub struct Cluster {
    /// The major version.
    pub version: u32,
    /// The port.
    pub port: u16,
    /// The data folder.
    pub data: PathBuf,
    prefix: PathBuf,
    log: PathBuf,
    is_standby: bool,
    process: Option<Process>,
}

/// How to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended; walsenders are told what is left.
    Fast,
    /// No goodbye; recovery at the next start.
    Immediate,
    /// SIGKILL, as by the kernel when memory is out.
    Kill,
}

impl Cluster {
    /// Copies the version's template and starts it. `settings` are lines of `postgresql.conf`.
    pub async fn start(stage: &Stage, version: u32, settings: &[&str]) -> Result<Cluster> {
        let data = stage.path(&format!("pg-{}", free_port()?));
        copy_folder(&place::template(version)?, &data)?;
        Cluster::open(version, data, settings).await
    }

    /// Makes a cluster anew, with a system identifier of its own, and starts it.
    pub async fn start_anew(stage: &Stage, version: u32, settings: &[&str]) -> Result<Cluster> {
        let data = stage.path(&format!("pg-{}", free_port()?));
        fs::create_dir(&data)?;
        give_to_server(&data)?;
        let mut initdb = command(place::postgres(version)?.join("bin/initdb"), User::Server);
        initdb.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]);
        crate::process::run("initdb", initdb, stage.folder(), seconds(60)).await?.success()?;
        Cluster::open(version, data, settings).await
    }

    async fn open(version: u32, data: PathBuf, settings: &[&str]) -> Result<Cluster> {
        let port = free_port()?;
        let mut conf = String::new();
        for line in BASE_SETTINGS.iter().chain(settings) {
            writeln!(conf, "{line}")?;
        }
        let mut cluster = Cluster {
            version,
            port,
            log: data.with_extension("log"),
            data,
            prefix: place::postgres(version)?,
            is_standby: false,
            process: None,
        };
        cluster.configure(&format!("{conf}port = {port}"))?;
        cluster.resume().await?;
        Ok(cluster)
    }

    /// Adds lines to `postgresql.conf`; later ones win. They count from the next start, or reload.
    pub fn configure(&self, lines: &str) -> Result<()> {
        self.append("postgresql.conf", lines)
    }

    /// Puts lines before all others of `pg_hba.conf`.
    pub fn authenticate(&self, lines: &str) -> Result<()> {
        let path = self.data.join("pg_hba.conf");
        let old = fs::read_to_string(&path)?;
        fs::write(&path, format!("{lines}\n{old}"))?;
        Ok(())
    }

    /// Makes a file in the data folder, readable for the server.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.data.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        give_to_server(&path)?;
        Ok(path)
    }

    fn append(&self, name: &str, lines: &str) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.data.join(name))?;
        writeln!(file, "{lines}")?;
        Ok(())
    }

    /// Starts the server again. The children of one that was killed may live a little longer, and keep its memory until then.
    pub async fn resume(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the server runs already");
        for _ in 0..CHILDREN_WAITS {
            let before = fs::metadata(&self.log).map_or(0, |log| log.len());
            let Err(error) = self.start_once().await else { return Ok(()) };
            let log = fs::read(&self.log)?;
            let since = log.get(usize::try_from(before)?..).unwrap_or_default();
            if !String::from_utf8_lossy(since).contains("pre-existing shared memory block") {
                return Err(error);
            }
            self.process = None;
            wait::pause(Duration::from_millis(500)).await;
        }
        self.start_once().await
    }

    async fn start_once(&mut self) -> Result<()> {
        let mut postgres = command(self.prefix.join("bin/postgres"), User::Server);
        postgres.arg("-D").arg(&self.data);
        self.process = Some(Process::spawn("postgres", postgres, &self.log)?);
        let what = format!("the start of Postgres {}", self.version);
        let is_standby = self.is_standby;
        let started = wait::until(&what, START_LIMIT, async || {
            // An end is an answer, too.
            if let Some(process) = &mut self.process
                && let Err(error) = process.must_run()
            {
                return Ok(Some(error));
            }
            let client = self.connect("postgres").await?;
            let in_recovery: bool = client.query_one("select pg_is_in_recovery()", &[]).await?.try_get(0)?;
            ensure!(is_standby || !in_recovery, "it is still in recovery");
            Ok(None)
        });
        let ended = started.await.with_context(|| crate::process::tail(&self.log))?;
        ended.map_or(Ok(()), |error| Err(error.context(what.clone())))
    }

    /// Stops the server and waits for its end.
    pub async fn stop(&mut self, how: Stop) -> Result<()> {
        let mut process = self.process.take().context("the server does not run")?;
        match how {
            Stop::Fast => process.signal(Signal::INT)?,
            Stop::Immediate => process.signal(Signal::QUIT)?,
            Stop::Kill => process.kill()?,
        }
        process.wait(STOP_LIMIT).await.map(drop)
    }

    /// Stops and starts.
    pub async fn restart(&mut self, how: Stop) -> Result<()> {
        self.stop(how).await?;
        self.resume().await
    }

    /// A server on a copy of this one's data, which must be stopped. It does not run yet.
    pub fn copy(&self, stage: &Stage) -> Result<Cluster> {
        ensure!(self.process.is_none(), "only a stopped server can be copied");
        let port = free_port()?;
        let data = stage.path(&format!("pg-{port}"));
        copy_folder(&self.data, &data)?;
        let copy = Cluster {
            version: self.version,
            port,
            log: data.with_extension("log"),
            data,
            prefix: self.prefix.clone(),
            is_standby: false,
            process: None,
        };
        copy.configure(&format!("port = {port}"))?;
        Ok(copy)
    }

    /// A standby of this server, which is stopped for a moment: it replays what it is sent. `settings` are lines of its `postgresql.conf`.
    pub async fn standby(&mut self, stage: &Stage, settings: &[&str]) -> Result<Cluster> {
        // Not every version has pg_basebackup here, and a stopped server is its own backup.
        self.stop(Stop::Fast).await?;
        let mut standby = self.copy(stage)?;
        self.resume().await?;
        standby.is_standby = true;
        let primary = format!("primary_conninfo = 'host=127.0.0.1 port={} user=postgres'", self.port);
        standby.configure(&format!("{primary}\n{}", settings.join("\n")))?;
        standby.write("standby.signal", "")?;
        standby.resume().await?;
        Ok(standby)
    }

    /// What the server has logged.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// Lets the next start end recovery on a new timeline, as a promoted standby or a restored backup does.
    pub fn promote_at_start(&self) -> Result<()> {
        self.configure("restore_command = 'false'")?;
        self.write("recovery.signal", "").map(drop)
    }

    /// A connection.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        // It ends with the client.
        tokio::spawn(async move { connection.await.ok() });
        Ok(client)
    }

    /// Runs SQL in database `shop`, connecting for it.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.execute_in(DATABASE, sql).await
    }

    /// Runs SQL in a database, connecting for it.
    pub async fn execute_in(&self, database: &str, sql: &str) -> Result<()> {
        let client = self.connect(database).await?;
        client.batch_execute(sql).await.with_context(|| sql.chars().take(200).collect::<String>())
    }

    /// The first cell of the first row, as text.
    pub async fn value(&self, sql: &str) -> Result<Option<String>> {
        let client = self.connect(DATABASE).await?;
        let rows = client.simple_query(sql).await.with_context(|| sql.to_owned())?;
        Ok(rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// The end of the server's log, as a position.
    pub async fn wal_lsn(&self) -> Result<u64> {
        let text = self.value("select pg_current_wal_insert_lsn()").await?.context("an LSN")?;
        parse_lsn(&text)
    }

    /// `confirmed_flush_lsn` of a slot.
    pub async fn confirmed(&self, slot: &str) -> Result<u64> {
        let sql = format!("select confirmed_flush_lsn from pg_replication_slots where slot_name = '{slot}'");
        parse_lsn(&self.value(&sql).await?.with_context(|| format!("slot {slot}"))?)
    }

    /// The URL for libpq clients.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The connection string for the oracle.
    pub fn dsn(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname={DATABASE}", self.port)
    }
}

/// `X/Y` as a number.
pub fn parse_lsn(text: &str) -> Result<u64> {
    let (high, low) = text.split_once('/').with_context(|| format!("not an LSN: {text}"))?;
    let half = |hex: &str| u64::from_str_radix(hex, 16).map_err(|_| anyhow!("not an LSN: {text}"));
    Ok((half(high)? << 32) | half(low)?)
}

/// A port that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status()?;
    ensure!(copied.success(), "copying {} to {}", from.display(), to.display());
    Ok(())
}

fn give_to_server(path: &Path) -> Result<()> {
    if !place::is_root() {
        return Ok(());
    }
    let id = |flag: &str| -> Result<u32> {
        let output = Command::new("id").args([flag, "postgres"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    };
    Ok(chown(path, Some(id("-u")?), Some(id("-g")?))?)
}

/// The database of all tests.
pub const DATABASE: &str = "shop";

const BASE_SETTINGS: [&str; 9] = [
    "listen_addresses = '127.0.0.1'",
    "unix_socket_directories = ''",
    "wal_level = logical",
    "max_wal_senders = 10",
    "max_replication_slots = 10",
    "shared_buffers = 64MB",
    // Crashes of the machine are not simulated; those of the server lose nothing without it.
    "fsync = off",
    "max_wal_size = 512MB",
    "log_min_messages = warning",
];
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often a killed server's children are waited for.
const CHILDREN_WAITS: u32 = 20;
const STOP_LIMIT: Duration = Duration::from_secs(90);
