//! A session that reads relations as they were at the point.
//!
//! Owns: the transaction on the point's snapshot, the lock on the one relation that is read, and what an error means.
//! Does not: retry, wait between tries, or keep rows.
//! Holds: a relation is locked no longer than it takes to read the piece, and nothing else is locked meanwhile, so that nobody's DDL waits
//! for longer or deadlocks with us; the lock table does not fill. A relation is read only if nothing has altered, rewritten or
//! truncated it since the point: a snapshot sees a table that was rewritten later as empty.
//! Fails: as the source does; [`verdict`] says what to do.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::Stream as _;
use pgoutput::{Oid, Tuple};
use tokio_postgres::{CopyOutStream, Statement};

use super::copy::Rows;
use super::plan::Blocks;
use super::point::begin;
use super::query::{self, DEFINITION, Shape, Since};
use crate::error::{Error, Result};
use crate::source::fault::{from_sql, server_error};
use crate::source::sql::get;
use crate::source::{ConnectOptions, Sql, connect_sql};

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

/// A session in a transaction on the point's snapshot.
#[derive(Debug)]
pub struct Worker {
    sql: Sql,
    /// Sees the catalogs as they are now, which the transaction does not.
    catalogs: Arc<Sql>,
    /// Asks them what a relation is now.
    now: Statement,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is locked.
    Idle,
    /// Behind the savepoint something is, or an error ended what was behind it.
    Begun,
    /// Rows are on their way.
    Reading,
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
    stream: Pin<Box<CopyOutStream>>,
    rows: Rows,
    what: String,
    bytes: u64,
    has_ended: bool,
}

/// A session in a transaction that sees what the snapshot shows, for [`super::plan::relations`] and for workers.
pub async fn transaction(options: &ConnectOptions, snapshot: &str, patience: Patience) -> Result<Sql> {
    let sql = connect_sql(options).await?;
    sql.execute("snapshot of the point", &begin(snapshot)).await.map_err(lost)?;
    let statement = patience.statement.map_or(0, |bound| bound.as_millis());
    let settings = format!(
        "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {}; SET LOCAL row_security = off; \
         SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_tidscan = on; \
         SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', true) \
         WHERE pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'; SAVEPOINT relation",
        patience.lock.as_millis().max(1)
    );
    sql.execute("settings of the snapshot", &settings).await?;
    Ok(sql)
}

impl Worker {
    /// Opens a session on the snapshot. `catalogs` is one of the same server, which many workers may share.
    pub async fn open(
        options: &ConnectOptions,
        snapshot: &str,
        catalogs: Arc<Sql>,
        patience: Patience,
    ) -> Result<Worker> {
        let sql = transaction(options, snapshot, patience).await?;
        let now = catalogs.prepare("columns of a table", &now_query()).await?;
        Ok(Worker { sql, catalogs, now, phase: Phase::Idle })
    }

    /// What the publications had of relations at the point. One that was not there or not published is left out.
    pub async fn shapes(&mut self, publications: &[String], relations: &[Oid]) -> Result<Vec<Shape>> {
        self.rewind().await?;
        self.phase = Phase::Begun;
        let shapes = query::shapes(&self.sql, publications, relations).await?;
        self.rewind().await?;
        Ok(shapes)
    }

    /// How the stream announces relations, as it was at the point.
    pub async fn announcements(&mut self, relations: &[Oid]) -> Result<Vec<query::Announcement>> {
        self.rewind().await?;
        self.phase = Phase::Begun;
        let found = query::announcements(&self.sql, relations).await?;
        self.rewind().await?;
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
        self.rewind().await?;
        self.phase = Phase::Begun;
        let what = format!("{}.{}", shape.schema, shape.name);
        // It locks as `LOCK TABLE … IN ACCESS SHARE MODE` does, and is content with SELECT on single columns.
        let lock = format!("SELECT FROM ONLY {} LIMIT 0", shape.quoted_name());
        match self.sql.execute(&what, &lock).await {
            Ok(()) => {}
            Err(error) if names_nothing(&error) => {
                let now = self.now(shape).await?;
                self.rewind().await?;
                return Ok(if now == Now::Gone { Begun::Gone } else { Begun::Changed });
            }
            Err(error) => return Err(advised(error)),
        }
        match self.now(shape).await? {
            Now::Same => {}
            Now::Other => {
                self.rewind().await?;
                return Ok(Begun::Changed);
            }
            Now::Gone => {
                self.rewind().await?;
                return Ok(Begun::Gone);
            }
        }
        let copy = query::copy(shape, texts, blocks, since);
        let stream = self.sql.client().copy_out(copy.as_str()).await;
        let stream = stream.map_err(|error| advised(from_sql(error, &what)))?;
        self.phase = Phase::Reading;
        let rows = Rows::new(texts.into());
        let (stream, has_ended) = (Box::pin(stream), false);
        Ok(Begun::Reading(Reading { worker: self, stream, rows, what, bytes: 0, has_ended }))
    }

    /// The connection is gone; a retry needs a new worker, and new `catalogs` if theirs is gone as well.
    pub fn is_closed(&self) -> bool {
        self.sql.is_closed()
    }

    /// Releases what was locked; also mends the transaction after an error.
    async fn rewind(&mut self) -> Result<()> {
        if self.phase != Phase::Idle {
            self.sql.execute("end of a table", "ROLLBACK TO SAVEPOINT relation").await?;
            self.phase = Phase::Idle;
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

impl Drop for Worker {
    fn drop(&mut self) {
        // Nobody takes the rows that are still on their way.
        if self.phase == Phase::Reading {
            self.sql.abandon();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Same,
    Other,
    Gone,
}

impl Reading<'_> {
    /// Waits for rows. False once they are all there. Nothing is lost if it is cancelled.
    pub async fn fill(&mut self) -> Result<bool> {
        if self.has_ended {
            return Ok(false);
        }
        let Reading { stream, rows, what, bytes, has_ended, .. } = self;
        let mut got = 0;
        poll_fn(|cx| {
            while got < FILL_BYTES {
                match stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(chunk))) => {
                        got += chunk.len();
                        *bytes += u64::try_from(chunk.len()).unwrap_or(0);
                        rows.push(chunk);
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(advised(from_sql(error, what)))),
                    Poll::Ready(None) => {
                        *has_ended = true;
                        break;
                    }
                    Poll::Pending if got == 0 => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(got > 0))
        })
        .await
    }

    /// Hands out the rows that are there.
    pub fn drain(&mut self, row: impl FnMut(Tuple<'_>) -> Result<()>) -> Result<()> {
        self.rows.drain(row)
    }

    /// What was received, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the piece, and with it the lock: how many rows there were. An error if they are not all there.
    pub async fn end(mut self) -> Result<u64> {
        while self.fill().await? {
            self.rows.drain(|_| Err(Error::bug("a piece was ended before its rows were taken")))?;
        }
        self.rows.finish()?;
        self.worker.phase = Phase::Begun;
        self.worker.rewind().await?;
        Ok(self.rows.rows())
    }
}

/// What is taken of what is there before rows are handed out: some read buffers, so that a row costs no waking up.
const FILL_BYTES: usize = 256 << 10;

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
