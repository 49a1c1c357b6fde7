//! A throw-away Postgres cluster.
//!
//! Owns: finding the server's programs, initdb, start, connections and stop.
//! Does not: create tables, or install anything (`scripts/quickstart.sh` does).
//! Holds: it listens on loopback only, with a random password; the server never runs as root, which it refuses.
//! Fails: [`Error`] with what to install, or with the end of the server's log.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use super::children::{self, Signal};
use crate::error::{Error, Result};

/// Where the server's programs are, and which version they are of.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    pub(super) bin: PathBuf,
    pub(super) version: String,
}

/// The oldest version that can be read from.
const OLDEST_MAJOR: u32 = 14;

/// Finds the server's programs: on the PATH, else the newest that an installer left where installers do.
pub(super) async fn find() -> Result<Installation> {
    let mut too_old = None;
    for bin in candidates().await {
        let Some((major, version)) = version(&bin).await else { continue };
        if major >= OLDEST_MAJOR {
            return Ok(Installation { bin, version });
        }
        too_old = Some(version);
    }
    let message = match too_old {
        Some(version) => {
            format!("the newest Postgres server here is {version}; {OLDEST_MAJOR} or later is needed")
        }
        None => "no Postgres server programs (postgres, initdb) are installed here".to_owned(),
    };
    Err(Error::definite(message).hint(
        "`make quickstart` installs them; by hand: `apt-get install postgresql`, `dnf install postgresql-server`, \
         `apk add postgresql` or `brew install postgresql@17`",
    ))
}

async fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(bindir) = children::run(children::command("pg_config").arg("--bindir")).await {
        found.push(PathBuf::from(bindir.trim()));
    }
    let mut installed: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix, below) in INSTALLERS {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(number) = name.strip_prefix(prefix) {
                let major = number.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
                installed.push((major, entry.path().join(below)));
            }
        }
    }
    installed.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.extend(installed.into_iter().map(|(_, bin)| bin));
    // A link on the PATH may stand alone; the programs find their own files through where it leads.
    let mut real: Vec<PathBuf> = found.iter().filter_map(|bin| home_of(bin)).collect();
    real.dedup();
    real
}

/// The directory that really holds both programs.
fn home_of(bin: &Path) -> Option<PathBuf> {
    let postgres = fs::canonicalize(bin.join("postgres")).ok()?;
    let home = postgres.parent()?;
    home.join("initdb").exists().then(|| home.to_path_buf())
}

/// Where installers put versions: Debian and Ubuntu, PGDG's RPMs, Alpine, Homebrew on both kinds of Mac.
const INSTALLERS: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

async fn version(bin: &Path) -> Option<(u32, String)> {
    let text = children::run(children::command(bin.join("postgres")).arg("--version")).await.ok()?;
    parse_version(&text)
}

/// Major version and full version of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.split_once("(PostgreSQL)")?.1.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, version.to_owned()))
}

/// The account that the server runs under, when ours is root.
#[derive(Clone, Copy, Debug)]
struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// None: we are not root, and the server runs as we do.
    async fn choose() -> Result<Option<Account>> {
        if id(&["-u"]).await? != 0 {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let (Ok(user), Ok(group)) = (id(&["-u", name]).await, id(&["-g", name]).await) {
                return Ok(Some(Account { user, group }));
            }
        }
        Err(Error::definite(
            "Postgres does not run as root, and there is no user `postgres` or `nobody` to run it",
        )
        .hint("run the demo as an ordinary user, or `useradd --system postgres` first"))
    }
}

async fn id(arguments: &[&str]) -> Result<u32> {
    let text = children::run(children::command("id").args(arguments)).await?;
    text.trim().parse().map_err(|_| Error::definite("the `id` program gives no number"))
}

/// A cluster, running once [`Cluster::start`] is done.
pub(super) struct Cluster {
    child: Option<Child>,
    home: PathBuf,
    account: Option<Account>,
    pub(super) installation: Installation,
    pub(super) port: u16,
    pub(super) password_file: PathBuf,
    password: String,
}

impl Cluster {
    /// Makes a cluster under `home`, which must not exist. The password goes to `password_file`.
    pub(super) async fn prepare(
        installation: Installation,
        home: &Path,
        password_file: &Path,
    ) -> Result<Cluster> {
        let account = Account::choose().await?;
        let password = random_password()?;
        fs::create_dir(home).map_err(|error| unwritable(home, error))?;
        write_secret(password_file, &password)?;
        let password_copy = home.join("password");
        write_secret(&password_copy, &password)?;
        if let Some(account) = account {
            for path in [home, &password_copy] {
                chown(path, Some(account.user), Some(account.group))
                    .map_err(|error| unwritable(path, error))?;
            }
        }
        fs::set_permissions(home, fs::Permissions::from_mode(0o700))
            .map_err(|error| unwritable(home, error))?;
        let (home, password_file) = (home.to_path_buf(), password_file.to_path_buf());
        let cluster = Cluster { child: None, home, account, installation, port: 0, password_file, password };
        let made = cluster.initdb(&password_copy).await;
        let _ = fs::remove_file(&password_copy);
        made.map(|()| cluster)
    }

    async fn initdb(&self, password_file: &Path) -> Result<()> {
        let mut initdb = self.command("initdb");
        initdb.arg("--pgdata").arg(self.data()).arg("--pwfile").arg(password_file).args(INITDB);
        children::run(&mut initdb).await.map_err(|error| match self.account {
            Some(_) => error.hint(format!(
                "the server runs as another user than root, who must be able to reach {} and {}",
                self.home.display(),
                self.installation.bin.display()
            )),
            None => error,
        })?;
        let settings = self.data().join("postgresql.conf");
        let mut file =
            OpenOptions::new().append(true).open(&settings).map_err(|error| unwritable(&settings, error))?;
        file.write_all(SETTINGS.as_bytes()).map_err(|error| unwritable(&settings, error))
    }

    /// Starts the server on a free port. Another program may take the port in between: then on the next one.
    pub(super) async fn start(&mut self) -> Result<()> {
        for _ in 0..START_TRIES {
            self.port = free_port()?;
            let mut postgres = self.command("postgres");
            postgres.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
            children::log_to(&mut postgres, &self.log())?;
            self.child = Some(children::spawn(&mut postgres)?);
            if self.accepts_connections().await {
                return Ok(());
            }
            self.stop().await;
        }
        let log_tail = children::tail(&self.log(), 20);
        Err(Error::definite(format!("the demo's Postgres does not start; the end of its log:\n{log_tail}")))
    }

    async fn accepts_connections(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline && self.is_running() {
            if Link::open(self.port, &self.password, "postgres").await.is_ok() {
                return true;
            }
            sleep(Duration::from_millis(100)).await;
        }
        false
    }

    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The server's process.
    pub(super) fn child(&self) -> Option<&Child> {
        self.child.as_ref()
    }

    /// Where its log is.
    pub(super) fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    /// Where the cluster's data directory is.
    pub(super) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Connects to a database.
    pub(super) async fn connect(&self, database: &str) -> Result<Link> {
        Link::open(self.port, &self.password, database).await.map_err(|error| {
            Error::definite("cannot connect to the demo's Postgres")
                .caused_by(error)
                .hint(format!("the end of its log:\n{}", children::tail(&self.log(), 10)))
        })
    }

    /// Stops the server: fast, then at once, then by force.
    pub(super) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        for (signal, limit) in [(Signal::Interrupt, 15), (Signal::Quit, 10), (Signal::Kill, 5)] {
            let _ = children::signal(&child, signal).await;
            if children::wait(&mut child, Duration::from_secs(limit)).await.is_some() {
                return;
            }
        }
    }

    /// A server program under the account that the server runs under.
    fn command(&self, program: &str) -> Command {
        let mut command = children::command(self.installation.bin.join(program));
        command.current_dir(&self.home).env_remove("LC_ALL").env("LC_MESSAGES", "C");
        if let Some(account) = self.account {
            command.uid(account.user).gid(account.group);
        }
        command
    }
}

/// A connection; its driver ends with it.
pub(super) struct Link {
    pub(super) client: Client,
    _driver: JoinSet<()>,
}

impl Link {
    async fn open(port: u16, password: &str, database: &str) -> Result<Link, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user(SUPERUSER).password(password).dbname(database);
        config.application_name("tributary demo").connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(NoTls).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error reaches whoever uses the client.
            let _ = connection.await;
        });
        Ok(Link { client, _driver: driver })
    }

    /// Runs statements that return nothing.
    pub(super) async fn execute(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(refused)
    }

    /// The first column of the first row, as text.
    pub(super) async fn value(&self, sql: &str) -> Result<Option<String>> {
        let messages = self.client.simple_query(sql).await.map_err(refused)?;
        Ok(messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }
}

/// Wraps an error of the demo's own SQL.
pub(super) fn refused(error: tokio_postgres::Error) -> Error {
    Error::definite("the demo's Postgres refused a statement").caused_by(error)
}

/// The name of the cluster's superuser.
pub(super) const SUPERUSER: &str = "postgres";

fn random_password() -> Result<String> {
    let mut seed = [0_u8; 16];
    getrandom::fill(&mut seed).map_err(|_| Error::definite("the system gives no random numbers"))?;
    Ok(seed.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A port of loopback that nobody listens on just now.
pub(super) fn free_port() -> Result<u16> {
    let failed = |error| Error::definite("cannot listen on 127.0.0.1").caused_by(error);
    Ok(TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?.local_addr().map_err(failed)?.port())
}

fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| unwritable(path, error))?;
    writeln!(file, "{secret}").map_err(|error| unwritable(path, error))
}

/// Wraps a failure to write.
pub(super) fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::definite(format!("cannot write {}", path.display())).caused_by(error)
}

const START_TRIES: usize = 3;
const INITDB: [&str; 9] =
    ["--username", SUPERUSER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"];

/// For a cluster that lives for minutes: what is lost when the machine itself fails does not matter. A truncate of
/// a root locks all of its leaves, with their indexes and TOAST tables, at once.
const SETTINGS: &str = "
# The demo's own.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
max_wal_senders = 8
max_replication_slots = 8
max_connections = 50
max_locks_per_transaction = 2048
max_wal_size = '2GB'
fsync = off
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = off
";

#[cfg(test)]
mod tests;
