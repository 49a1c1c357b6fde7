//! A source that is a standby: what it lacks, and whom it follows.
//!
//! Owns: waiting for its replay, the record that a new slot on it waits for, and [`Follower`], which knows when it went to another timeline.
//! Does not: create slots, or decide whether a timeline fits the lake.
//! Holds: nothing is written at a standby; what has to be written is written at its primary, by a session there.
//! Fails: as `fault` classifies the server's errors; an answer that does not come in time is transient.

use std::time::Duration;

use pgoutput::Lsn;

use super::options::ConnectOptions;
use super::server::{ServerFacts, written_lsn};
use super::session::Session;
use super::sql::{Sql, connect_sql, get};
use crate::error::{Error, Result};

/// Why this server can never be streamed from; `None` for a primary.
pub fn unfit(server: &ServerFacts) -> Option<Error> {
    if !server.in_recovery {
        return None;
    }
    let major = server.version / 10_000;
    if major < FIRST_THAT_DECODES {
        return Some(
            Error::config(format!("a standby of Postgres {major} cannot be streamed from"))
                .hint("Postgres 16 is the first that decodes on a standby; `source.url` names the primary"),
        );
    }
    (server.wal_level != "logical").then(|| {
        Error::halted(format!(
            "wal_level is {} on the standby: nothing can be decoded there",
            server.wal_level
        ))
        .hint("ALTER SYSTEM SET wal_level = 'logical';  -- on the primary, then on the standby; restart both")
    })
}

/// What a standby lacks that keeps the slots on it safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What was found.
    pub found: &'static str,
    /// What mends it.
    pub remedy: &'static str,
}

/// T81: without these, what the primary removes can invalidate a slot on the standby.
pub fn lacks(server: &ServerFacts) -> Vec<Lack> {
    let mut lacks = Vec::new();
    if !server.in_recovery {
        return lacks;
    }
    if !server.hot_standby_feedback {
        lacks.push(Lack {
            found: "hot_standby_feedback is off: vacuum at the primary will invalidate our slot here (rows_removed)",
            remedy: "ALTER SYSTEM SET hot_standby_feedback = on;  -- on the standby; then SELECT pg_reload_conf()",
        });
    }
    if server.primary_slot_name.is_empty() {
        lacks.push(Lack {
            found: "primary_slot_name is not set: while the standby is disconnected its primary may remove what our slot needs",
            remedy: "SELECT pg_create_physical_replication_slot('standby', true);  -- at the primary\nALTER SYSTEM SET primary_slot_name = 'standby';  -- on the standby; then SELECT pg_reload_conf()",
        });
    }
    lacks
}

/// How the replay of a standby goes (T84).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replay {
    /// Somebody paused it.
    pub is_paused: bool,
    /// `recovery_min_apply_delay`
    pub apply_delay_millis: i64,
    /// Since the commit of the last transaction that was replayed.
    pub seconds_behind: Option<f64>,
}

/// Reads [`Replay`]. Also of a server that was promoted meanwhile.
pub async fn replay(sql: &Sql) -> Result<Replay> {
    let rows = sql.query("replay of the standby", REPLAY, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::transient("the standby told nothing of its replay"))?;
    Ok(Replay { is_paused: get(row, 0)?, apply_delay_millis: get(row, 1)?, seconds_behind: get(row, 2)? })
}

const REPLAY: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END, \
      (SELECT setting::int8 FROM pg_settings WHERE name = 'recovery_min_apply_delay'), \
      extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8";

/// Whether it is one now; it may have been promoted.
pub async fn is_one(sql: &Sql) -> Result<bool> {
    let rows = sql.query("state of the source", "SELECT pg_is_in_recovery()", &[]).await?;
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

/// A session with the primary, if it answers soon. Behind a fail-over it never does.
pub async fn reach_primary(options: &ConnectOptions) -> Option<Sql> {
    match tokio::time::timeout(REACH_TIME_MAX, connect_sql(options)).await {
        Ok(Ok(sql)) => Some(sql),
        Ok(Err(error)) => {
            tracing::debug!(error = error.chain(), "the primary cannot be asked");
            None
        }
        Err(_elapsed) => None,
    }
}

/// Waits until a standby has replayed up to there.
pub async fn wait_for_replay(sql: &Sql, lsn: Lsn) -> Result<()> {
    while written_lsn(sql).await?.is_none_or(|at| at < lsn) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// T82: a standby waits for its primary to log which transactions run. By itself that does so every 15 seconds, and only if something
/// was written.
pub async fn log_running_transactions(primary: &Sql) -> ! {
    let mut is_permitted = true;
    loop {
        tokio::time::sleep(if is_permitted { LOG_EVERY } else { WRITE_EVERY }).await;
        let asked = if is_permitted { LOG } else { WRITE };
        if let Err(error) = primary.query("running transactions", asked, &[]).await {
            // A server that is a standby itself can do neither.
            tracing::debug!(error = error.chain(), "the primary does not log its running transactions");
            is_permitted = false;
        }
    }
}

/// Knows when a standby that is streamed from goes to another timeline: promoted, or following another primary.
///
/// The stream goes on over that without a word, and what it brings then is of a timeline that the log does not name. Asked after something came,
/// it vouches for all of it: the server tells the timeline of what it replayed last, and that never goes back.
pub struct Follower {
    session: Session,
    timeline: u32,
}

impl Follower {
    /// `timeline` is that of the stream's beginning.
    pub async fn open(options: &ConnectOptions, timeline: u32) -> Result<Follower> {
        Ok(Follower { session: Session::connect(options).await?, timeline })
    }

    /// Fails if what came by now may be of another timeline.
    pub async fn vouch(&mut self) -> Result<()> {
        let asked = tokio::time::timeout(VOUCH_TIME_MAX, self.session.identify_system()).await;
        let system =
            asked.map_err(|_elapsed| Error::transient("the standby did not tell its timeline in time"))??;
        if system.timeline == self.timeline {
            return Ok(());
        }
        Err(Error::transient(format!(
            "the standby went from timeline {} to {}, promoted or following another primary: the stream begins anew there",
            self.timeline, system.timeline
        )))
    }
}

/// Only superusers may, and whom they permit it.
const LOG: &str = "SELECT pg_log_standby_snapshot()";
/// A message that nobody asks the stream for.
const WRITE: &str = "SELECT pg_logical_emit_message(false, 'tributary', '')";
const LOG_EVERY: Duration = Duration::from_millis(500);
const WRITE_EVERY: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const REACH_TIME_MAX: Duration = Duration::from_secs(5);
/// Shorter than a stop may take.
const VOUCH_TIME_MAX: Duration = Duration::from_secs(5);
const FIRST_THAT_DECODES: u32 = 16;
