//! A session that reads relations as they were at the point.
//!
//! Owns: the transaction on the point's snapshot, the lock on the one relation that is read, and what an error means.
//! Does not: retry, wait between tries, or keep rows.
//! Holds: a relation is locked no longer than it takes to read the piece, and nothing else is locked meanwhile, so that nobody's DDL waits
//! for longer or deadlocks with us; the lock table does not fill. A relation is read only if nothing has altered, rewritten or
//! truncated it since the point: a snapshot sees a table that was rewritten later as empty.
//! Fails: as the source does; [`verdict`] says what to do.

use std::sync::Arc;
use std::time::Duration;

use pgoutput::{Oid, Tuple};
use tokio_postgres::Statement;

use super::copy::Rows;
use super::plan::Blocks;
use super::point::begin;
use super::query::{self, DEFINITION, Shape, Since};
use crate::error::{Error, Result};
use crate::source::copy_out::Copied;
use crate::source::fault::server_error;
use crate::source::sql::get;
use crate::source::{ConnectOptions, CopyOut, Sql, connect_sql};

/// How long the source may be kept busy or waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Of one piece; `None` for no bound, whatever the role or the database has set.
    pub statement: Option<Duration>,
    /// Of waiting for the lock on a relation.
    pub lock: Duration,
}

/// Without a bound of one piece: the server looks at `statement_timeout` between two rows only, and not while it waits for us to take them. So it
/// would never end what is slow because of us, but pieces that a slow disk or a low `snapshot.max_rate` makes last, and these would be
/// read again and again. What bounds a piece is its size; a reader that is gone is found out by TCP.
impl Default for Patience {
    fn default() -> Patience {
        Patience { statement: None, lock: Duration::from_secs(5) }
    }
}

/// Two sessions in transactions on the point's snapshot: one asks what relations are, the other one locks and reads them.
#[derive(Debug)]
pub struct Worker {
    sql: Sql,
    rows: CopyOut,
    /// Sees the catalogs as they are now, which the transaction does not.
    catalogs: Arc<Sql>,
    /// Asks them what a relation is now.
    now: Statement,
    /// Behind the savepoint of `sql` something is, or an error ended what was behind it.
    has_asked: bool,
    /// The same of `rows`: a relation may be locked.
    has_locked: bool,
}

/// How reading a piece began.
pub enum Begun<'w> {
    /// The rows come.
    Reading(Reading<'w>),
    /// The relation was altered, rewritten, truncated or renamed since the point: it has to be read at a new one.
    Changed,
    /// The relation was dropped since the point.
    Gone,
}

/// Rows on their way.
pub struct Reading<'w> {
    worker: &'w mut Worker,
    rows: Rows,
    what: String,
    bytes: u64,
    has_ended: bool,
}

/// A session in a transaction that sees what the snapshot shows, for [`super::plan::relations`] and for workers.
pub async fn transaction(options: &ConnectOptions, snapshot: &str, patience: Patience) -> Result<Sql> {
    let sql = connect_sql(options).await?;
    sql.execute("snapshot of the point", &begin(snapshot)).await.map_err(lost)?;
    sql.execute("settings of the snapshot", &settings(patience)).await?;
    Ok(sql)
}

fn settings(patience: Patience) -> String {
    let statement = patience.statement.map_or(0, |bound| bound.as_millis());
    format!(
        "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {}; SET LOCAL row_security = off; \
         SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_tidscan = on; \
         SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', true) \
         WHERE pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'; SAVEPOINT relation",
        patience.lock.as_millis().max(1)
    )
}

impl Worker {
    /// Opens the sessions on the snapshot. `catalogs` is one of the same server, which many workers may share.
    pub async fn open(
        options: &ConnectOptions,
        snapshot: &str,
        catalogs: Arc<Sql>,
        patience: Patience,
    ) -> Result<Worker> {
        let sql = transaction(options, snapshot, patience).await?;
        let mut rows = CopyOut::connect(options, sql.server_version()).await?;
        rows.execute("snapshot of the point", &begin(snapshot)).await.map_err(lost)?;
        rows.execute("settings of the snapshot", &settings(patience)).await?;
        let now = catalogs.prepare("columns of a table", &now_query()).await?;
        Ok(Worker { sql, rows, catalogs, now, has_asked: false, has_locked: false })
    }

    /// What the publications had of relations at the point. One that was not there or not published is left out.
    pub async fn shapes(&mut self, publications: &[String], relations: &[Oid]) -> Result<Vec<Shape>> {
        self.begin_asking().await?;
        let shapes = query::shapes(&self.sql, publications, relations).await?;
        self.end_asking().await?;
        Ok(shapes)
    }

    /// How the stream announces relations, as it was at the point.
    pub async fn announcements(&mut self, relations: &[Oid]) -> Result<Vec<query::Announcement>> {
        self.begin_asking().await?;
        let found = query::announcements(&self.sql, relations).await?;
        self.end_asking().await?;
        Ok(found)
    }

    /// Begins to read a piece. `texts` are those of [`Shape::texts`].
    ///
    /// After an error, and after an outcome that is not read to its end, the worker can read the next piece.
    pub async fn read(
        &mut self,
        shape: &Shape,
        texts: &[bool],
        blocks: Blocks,
        since: Option<Since>,
    ) -> Result<Begun<'_>> {
        self.unlock().await?;
        self.has_locked = true;
        let what = format!("{}.{}", shape.schema, shape.name);
        // It locks as `LOCK TABLE … IN ACCESS SHARE MODE` does, and is content with SELECT on single columns.
        let lock = format!("SELECT FROM ONLY {} LIMIT 0", shape.quoted_name());
        match self.rows.execute(&what, &lock).await {
            Ok(()) => {}
            Err(error) if names_nothing(&error) => {
                let now = self.now(shape).await?;
                self.unlock().await?;
                return Ok(if now == Now::Gone { Begun::Gone } else { Begun::Changed });
            }
            Err(error) => return Err(advised(error)),
        }
        match self.now(shape).await? {
            Now::Same => {}
            Now::Other => {
                self.unlock().await?;
                return Ok(Begun::Changed);
            }
            Now::Gone => {
                self.unlock().await?;
                return Ok(Begun::Gone);
            }
        }
        let copy = query::copy(shape, texts, blocks, since);
        self.rows.copy(&what, &copy).await.map_err(advised)?;
        let rows = Rows::new(texts.into());
        Ok(Begun::Reading(Reading { worker: self, rows, what, bytes: 0, has_ended: false }))
    }

    /// The connection is gone; a retry needs a new worker, and new `catalogs` if theirs is gone as well.
    pub fn is_closed(&self) -> bool {
        self.sql.is_closed() || self.rows.is_closed()
    }

    /// Ends the sessions.
    pub async fn close(self) {
        self.rows.close().await;
    }

    /// Mends the transaction after an error. What is locked is released first: a question may have to wait for who waits for us.
    async fn begin_asking(&mut self) -> Result<()> {
        self.unlock().await?;
        self.end_asking().await?;
        self.has_asked = true;
        Ok(())
    }

    async fn end_asking(&mut self) -> Result<()> {
        if self.has_asked {
            self.sql.execute("end of a question", REWIND).await?;
            self.has_asked = false;
        }
        Ok(())
    }

    /// Releases what was locked; also mends the transaction after an error.
    async fn unlock(&mut self) -> Result<()> {
        if self.has_locked {
            self.rows.execute("end of a table", REWIND).await?;
            self.has_locked = false;
        }
        Ok(())
    }

    /// What the relation is now.
    async fn now(&self, shape: &Shape) -> Result<Now> {
        let rows = self.catalogs.query("columns of a table", &self.now, &[&shape.relation.0]).await?;
        let Some(row) = rows.first() else { return Ok(Now::Gone) };
        let (schema, name): (&str, &str) = (get(row, 0)?, get(row, 1)?);
        let (filenode, definition): (u32, i64) = (get(row, 2)?, get(row, 3)?);
        let is_same = (schema, name) == (&shape.schema, &shape.name)
            && filenode == shape.filenode
            && definition == shape.definition;
        Ok(if is_same { Now::Same } else { Now::Other })
    }
}

fn now_query() -> String {
    format!(
        "SELECT n.nspname::text, c.relname::text, c.relfilenode, {DEFINITION} \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid"
    )
}

const REWIND: &str = "ROLLBACK TO SAVEPOINT relation";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Same,
    Other,
    Gone,
}

impl Reading<'_> {
    /// Waits for rows. False once they are all there. Nothing is lost if it is cancelled.
    pub async fn fill(&mut self) -> Result<bool> {
        if !self.has_ended {
            self.worker.rows.fill().await?;
        }
        Ok(!self.has_ended)
    }

    /// Hands out the rows that are there.
    pub fn drain(&mut self, mut row: impl FnMut(Tuple<'_>) -> Result<()>) -> Result<()> {
        let Reading { worker, rows, what, bytes, has_ended } = self;
        while let Some(copied) = worker.rows.pop(what).map_err(advised)? {
            match copied {
                Copied::Data(data) => {
                    *bytes += u64::try_from(data.len()).unwrap_or(0);
                    rows.take(data, &mut row)?;
                }
                Copied::Ended => {
                    *has_ended = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// What was received, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the piece, and with it the lock: how many rows there were. An error if they are not all there.
    pub async fn end(mut self) -> Result<u64> {
        while self.fill().await? {
            self.drain(|_| Err(Error::bug("a piece was ended before its rows were taken")))?;
        }
        self.rows.finish()?;
        self.worker.unlock().await?;
        Ok(self.rows.rows())
    }
}

/// The snapshot is not there any more: whoever kept it has ended, or the server started anew.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot is gone")]
pub struct SnapshotGone(#[source] Error);

/// What the server says of a snapshot that it does not know, or cannot give to a transaction.
fn lost(error: Error) -> Error {
    let code = server_error(&error).map(|server| server.code.as_str());
    match code {
        Some("22023" | "42704" | "55000" | "72000") => {
            Error::transient("snapshot of the point").caused_by(SnapshotGone(error))
        }
        _ => error,
    }
}

fn is_gone(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<SnapshotGone>())
}

/// What to do about an error that came while a relation was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would come again: this relation is left out, and the others go on.
    SetAside,
    /// Try again after a while, with a new worker if the connection is gone.
    Retry,
    /// The snapshot is lost: what is not finished is read at a new point.
    NewPoint,
}

/// What to do about an error of [`Worker`]. A limit of tries is the caller's; after it, the relation is set aside.
pub fn verdict(error: &Error) -> Verdict {
    if is_gone(error) {
        return Verdict::NewPoint;
    }
    // No answer, a broken connection or a damaged copy. If the point is lost, the next worker finds that out.
    let Some(server) = server_error(error) else { return Verdict::Retry };
    match (server.code.as_str(), server.code.get(..2).unwrap_or_default()) {
        // `old_snapshot_threshold`, up to 16.
        ("72000", _) => Verdict::NewPoint,
        // A lock was not had in time; cancelled, by a bound or a person; a conflict on a standby; a deadlock.
        ("55P03" | "57014" | "40001" | "40P01", _) => Verdict::Retry,
        // Not permitted, and row security.
        ("42501", _) => Verdict::SetAside,
        // A damaged page or index, a file that is not there, a block that cannot be read.
        ("XX001" | "XX002" | "58P01" | "58030", _) => Verdict::SetAside,
        // T93: a value that is too long as text.
        ("XX000", _) if server.message.starts_with("invalid memory alloc request size") => Verdict::SetAside,
        // A value that has no form in the encoding; not supported; an object that is not there, or of another kind; a limit.
        (_, "22" | "0A" | "42" | "54") => Verdict::SetAside,
        _ => Verdict::Retry,
    }
}

/// A standby had to go on with its replay. However often that happens, it says nothing against the relation.
pub fn is_recovery_conflict(error: &Error) -> bool {
    // Nobody writes in our transactions, so that they conflict with nothing else.
    server_error(error).is_some_and(|server| server.code == "40001")
}

/// No relation has the name.
fn names_nothing(error: &Error) -> bool {
    server_error(error).is_some_and(|server| matches!(server.code.as_str(), "42P01" | "3F000"))
}

fn advised(error: Error) -> Error {
    if server_error(&error).is_some_and(|server| server.code == "42501") {
        return error.hint("GRANT SELECT on it, and USAGE on its schema; a table with row security needs a role with BYPASSRLS");
    }
    error
}

#[cfg(test)]
mod tests;
