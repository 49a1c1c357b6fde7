//! A standby that rows are read from, while changes come from another server.
//!
//! Owns: the check that both have the same log, waiting for the standby, and the point that is found on it.
//! Does not: read tables.
//! Holds: no point is before what the source had when it was asked: what committed in between would be neither in the snapshot nor in the
//! stream, and rows that were read at a later point before could not be told from older ones. The catalogs
//! that go with the point are those of the standby, and as new.
//! Fails: `Config` if the server can never do it, transient if it cannot now.

use std::time::Duration;

use pgoutput::Lsn;

use super::point::Point;
use crate::error::{Error, Result};
use crate::source::catalog::{ServerFacts, server, written_lsn};
use crate::source::{ConnectOptions, Session, Sql, connect_sql, standby};

/// A server with the source's log, as far as the source had it when it was asked.
#[derive(Debug)]
pub struct Replica {
    /// The server that can be asked to log what a standby waits for.
    writer: ConnectOptions,
    options: ConnectOptions,
    /// It has the log up to here, and more by now.
    lsn: Lsn,
}

impl Replica {
    /// Waits until the server at `options`, where `sql` is a session, has all that the source has now. `primary` is that of a source that is a
    /// standby itself.
    pub async fn caught_up(
        source: &ConnectOptions,
        primary: Option<&ConnectOptions>,
        options: &ConnectOptions,
        sql: &Sql,
        wait: Duration,
    ) -> Result<Replica> {
        if let Some(error) = unfit(&server(sql).await?) {
            return Err(error);
        }
        let [ours, theirs] = [
            Box::pin(Session::connect(options)).await?.identify_system().await?,
            Box::pin(Session::connect(source)).await?.identify_system().await?,
        ];
        if ours.id != theirs.id || options.database != source.database {
            return Err(Error::config(format!(
                "{} is no replica of {}",
                options.address(),
                source.address()
            ))
            .hint(
                "`snapshot.url` and `source.catalog_url` name the source's database on a physical standby",
            ));
        }
        if ours.timeline != theirs.timeline {
            let (ours, theirs) = (ours.timeline, theirs.timeline);
            return Err(Error::transient(format!(
                "{} is on timeline {ours}, and the source on {theirs}",
                options.address()
            ))
            .hint("a standby follows its primary to a new timeline; one that was promoted itself can be read no more"));
        }
        // What the catalogs there show may not be flushed.
        let written = written_lsn(&connect_sql(source).await?).await?.unwrap_or_default();
        let lsn = written.max(theirs.wal_lsn);
        let replayed = tokio::time::timeout(wait, standby::wait_for_replay(sql, lsn));
        match replayed.await {
            Ok(replayed) => replayed?,
            Err(_) => {
                let at = written_lsn(sql).await?.unwrap_or_default();
                return Err(Error::transient(format!(
                    "{} has replayed up to {at}, and not to the source's {lsn} within {} s",
                    options.address(),
                    wait.as_secs()
                ))
                // T84
                .hint("is its replay paused or delayed (recovery_min_apply_delay), or held up by a query there?"));
            }
        }
        let writer = primary.unwrap_or(source).clone();
        Ok(Replica { writer, options: options.clone(), lsn })
    }

    /// Finds a point, as [`Point::find`] does.
    pub async fn find(&self, slot: &str, wait: Duration) -> Result<Point> {
        let point = find(Some(&self.writer), &self.options, slot, wait).await?;
        if point.lsn < self.lsn {
            return Err(Error::transient(format!(
                "a point at {}, before the source's {}",
                point.lsn, self.lsn
            )));
        }
        Ok(point)
    }
}

/// Finds a point; on a standby with the help of the server that it follows, if that may be asked.
pub(crate) async fn find(
    writer: Option<&ConnectOptions>,
    options: &ConnectOptions,
    slot: &str,
    wait: Duration,
) -> Result<Point> {
    // It may be away, which only makes finding a point take longer.
    let writer = match writer {
        Some(writer) => standby::reach_primary(writer).await,
        None => None,
    };
    let Some(writer) = writer else { return Point::find(options, slot, wait).await };
    tokio::select! {
        found = Point::find_waiting_for(Some(&writer), options, slot, wait) => found,
        never = standby::log_running_transactions(&writer) => never,
    }
}

/// Why rows cannot be read from this server beside a stream, however long one waits.
pub fn unfit(server: &ServerFacts) -> Option<Error> {
    if !server.in_recovery {
        return None;
    }
    let major = server.version / 10_000;
    if major < FIRST_THAT_DECODES {
        return Some(
            Error::config(format!("a standby of Postgres {major} cannot say which changes its rows have"))
                .hint("`snapshot.url` names the primary, or a standby of 16 or newer; without it `source.catalog_url` is read"),
        );
    }
    (server.wal_level != "logical").then(|| {
        Error::config(format!(
            "wal_level is {} on the standby, which cannot say then which changes its rows have",
            server.wal_level
        ))
        .hint("ALTER SYSTEM SET wal_level = 'logical';  -- on the standby as on its primary, then restart it; or `snapshot.url` names the primary")
    })
}

const FIRST_THAT_DECODES: u32 = 16;
