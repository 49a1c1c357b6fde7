//! Sessions with real servers.
//!
//! Owns: what can only be believed of a live Postgres: sign-in, TLS, settings, positions, errors and the catalogs.
//! Does not: start servers; `TRIBUTARY_TEST_PG=15=5432,18=5433` names ports on 127.0.0.1 that trust `postgres`.
//! Holds: every test has its own database and slots; name only servers to throw away, since `pg_hba.conf`, certificates,
//! roles and databases stay changed.
//! Fails: when no server is named; `make unit` starts some.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test; the lints spare only its test functions"
)]

#[path = "session/catalogs.rs"]
mod catalogs;
#[path = "session/held.rs"]
mod held;
#[path = "session/partitions.rs"]
mod partitions;
#[path = "session/sign_in.rs"]
mod sign_in;
#[path = "session/snapshot.rs"]
mod snapshot;
#[path = "session/streaming.rs"]
mod streaming;

use std::time::{Duration, Instant};

use pgoutput::Lsn;
use tributary::source::{ConnectOptions, Received, Session, Sql, Start, Stream, connect_sql};

/// A server to test with.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) major: u32,
    pub(crate) port: u16,
}

/// The servers of an environment variable.
pub(crate) fn servers_of(variable: &str) -> Vec<Server> {
    let list = std::env::var(variable).unwrap_or_default();
    let servers: Vec<Server> = list
        .split(',')
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let (major, port) = entry.split_once('=').expect("MAJOR=PORT");
            Server { major: major.parse().expect("a version"), port: port.parse().expect("a port") }
        })
        .collect();
    assert!(!servers.is_empty(), "{variable} names no server, like 15=5432,18=5433: `make unit` starts some");
    servers
}

pub(crate) fn servers() -> Vec<Server> {
    servers_of("TRIBUTARY_TEST_PG")
}

impl Server {
    /// Options of a user for a database; `query` is added to the URL.
    pub(crate) fn options(&self, user: &str, database: &str, query: &str) -> ConnectOptions {
        self.options_at("127.0.0.1", user, database, query)
    }

    pub(crate) fn options_at(&self, host: &str, user: &str, database: &str, query: &str) -> ConnectOptions {
        let url = format!("postgresql://{user}@{host}:{}/{database}?{query}", self.port);
        ConnectOptions::parse(&url, None).unwrap_or_else(|error| panic!("{url}: {error:?}"))
    }

    pub(crate) async fn sql(&self, database: &str) -> Sql {
        let sql =
            connect_sql(&self.options("postgres", database, "sslmode=disable")).await.expect("a session");
        sql.execute("path", "SET search_path = public").await.expect("set");
        sql
    }

    /// An empty database of this name, without slots left over from an earlier run.
    pub(crate) async fn database(&self, name: &str) -> Sql {
        let sql = self.sql("postgres").await;
        let slots = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = '{name}' AND active"
        );
        sql.query("left-over sessions", &slots, &[]).await.expect("terminated");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let slots = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{name}'"
        );
        sql.query("left-over slots", &slots, &[]).await.expect("dropped");
        sql.execute("left-over database", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await
            .unwrap();
        sql.execute("database", &format!("CREATE DATABASE {name}")).await.expect("a database");
        self.sql(name).await
    }

    /// A role with REPLICATION and nothing else, and the database's grants as they are by default.
    pub(crate) async fn replication_role(&self, name: &str) {
        let sql = self.sql("postgres").await;
        // Tests run at once.
        let role = format!(
            "DO $$ BEGIN CREATE ROLE {name} LOGIN REPLICATION; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        sql.execute("role", &role).await.expect("a role");
    }
}

pub(crate) fn start(slot: &str, from: Lsn, publication: &str) -> Start {
    Start {
        slot: slot.to_owned(),
        from,
        publications: vec![publication.to_owned()],
        binary: false,
        streaming: false,
        status_interval: Duration::from_secs(10),
    }
}

/// Creates a slot and streams from it, as the same user.
pub(crate) async fn stream_from_new_slot(
    options: &ConnectOptions,
    slot: &str,
    publication: &str,
) -> (Stream, Lsn) {
    let mut session = Session::connect(options).await.expect("a session");
    let created = session.create_slot(slot, Duration::from_secs(30)).await.expect("a slot");
    let stream = session.start(&start(slot, created.consistent_point, publication)).await.expect("a stream");
    (stream, created.consistent_point)
}

/// A WAL message, copied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Got {
    Wal(Vec<u8>),
    Keepalive { wal_end: Lsn, reply_requested: bool },
    Ended,
}

impl Got {
    /// The message holds this text.
    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            Got::Wal(message) => message.windows(text.len()).any(|window| window == text.as_bytes()),
            Got::Keepalive { .. } | Got::Ended => false,
        }
    }
}

/// The next message, within ten seconds.
pub(crate) async fn next(stream: &mut Stream) -> tributary::error::Result<Got> {
    let get = async {
        loop {
            match stream.pop()? {
                Some(Received::Wal { message, .. }) => return Ok(Got::Wal(message.to_vec())),
                Some(Received::Keepalive { wal_end, reply_requested }) => {
                    return Ok(Got::Keepalive { wal_end, reply_requested });
                }
                Some(Received::Ended) => return Ok(Got::Ended),
                None => {}
            }
            stream.fill().await?;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), get).await.expect("something within ten seconds")
}

/// Everything up to the message that holds `text`, without keepalives. Statuses go out by the clock, as they must: a
/// keepalive that asks for one is behind everything that was sent before it (T56).
pub(crate) async fn until(stream: &mut Stream, text: &str) -> tributary::error::Result<Vec<Got>> {
    let mut all = Vec::new();
    let mut told = Instant::now();
    loop {
        if told.elapsed() > Duration::from_millis(500) {
            stream.send_status(false).await?;
            told = Instant::now();
        }
        let got = next(stream).await?;
        let found = got.holds(text);
        if got == Got::Ended {
            panic!("the stream ended before `{text}`");
        }
        match got {
            Got::Keepalive { .. } | Got::Ended => {}
            Got::Wal(_) => all.push(got),
        }
        if found {
            return Ok(all);
        }
    }
}
