//! A session for COPY … TO STDOUT, whose rows are read where they arrive.
//!
//! Owns: the session, its receive buffer, and the answers that are still to come.
//! Does not: know what the bytes of a row mean, or what a snapshot is.
//! Holds: a row is not copied before it is decoded; an answer that was given up is skipped before the next statement.
//! Fails: as `fault` classifies the server's errors; a broken connection is transient.
//!
//! The messages: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::FutureExt as _;
use pgwire_replication::protocol::framing;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::dial::Io;
use super::fault::ServerError;
use super::frames::{Frame, Frames};
use super::options::ConnectOptions;
use super::sql::within_query_time;
use super::startup::{self, SignedIn};
use super::stream::TERMINATE;
use super::{connect, settings};
use crate::error::{Error, Result};

/// A session that runs statements without rows, and copies.
#[derive(Debug)]
pub struct CopyOut {
    io: Io,
    frames: Frames,
    /// Statements whose answers have not ended.
    open_answers: u32,
    /// Rows may have come together with the word that they would.
    has_come: bool,
    /// The connection broke, or a statement was sent in part.
    is_broken: bool,
}

/// What comes of a copy.
#[derive(Debug, PartialEq, Eq)]
pub enum Copied<'a> {
    /// Bytes of rows: of a binary copy as a rule one row, and whatever stands before the first one.
    Data(&'a [u8]),
    /// That was all.
    Ended,
}

impl CopyOut {
    /// Opens a session with a server of this `server_version_num`, with the pinned settings.
    pub async fn connect(options: &ConnectOptions, server_version: u32) -> Result<CopyOut> {
        let SignedIn { io, .. } = connect::open(options, |io, options, password| {
            Box::pin(startup::sign_in_for_sql(io, options, password))
        })
        .await?;
        // Whoever signed us in took whole messages only, so the next byte begins one.
        let mut session =
            CopyOut { io, frames: Frames::new(), open_answers: 0, has_come: false, is_broken: false };
        session.execute("settings of the session", &settings::after_startup(server_version, "UTF8")).await?;
        Ok(session)
    }

    /// Runs statements, within [`super::sql::QUERY_TIME_MAX`]; rows of theirs are skipped, as is what is left of a copy.
    ///
    /// `what` says in an error what was asked for.
    pub async fn execute(&mut self, what: &str, sql: &str) -> Result<()> {
        let answer = async {
            self.send(sql).await?;
            self.skip_until(1, what).await?;
            self.finish(what).await
        };
        within_query_time(what, answer).await
    }

    /// Begins a copy. [`CopyOut::fill`] and [`CopyOut::pop`] bring its rows.
    ///
    /// Without a bound of its own: the server says that it began only together with its first rows.
    pub async fn copy(&mut self, what: &str, sql: &str) -> Result<()> {
        self.send(sql).await?;
        self.skip_until(1, what).await?;
        loop {
            while let Some(frame) = self.next(what)? {
                match frame.tag {
                    // CopyOutResponse
                    b'H' => {
                        self.has_come = self.frames.unread() > 0;
                        return Ok(());
                    }
                    _ => self.control(&frame, what)?,
                }
            }
            self.receive().await?;
        }
    }

    /// Waits until there may be something to [`CopyOut::pop`]. Cancelled, it has read nothing.
    pub async fn fill(&mut self) -> Result<()> {
        if std::mem::take(&mut self.has_come) { Ok(()) } else { self.receive().await }
    }

    async fn receive(&mut self) -> Result<()> {
        let mut got = self.read().await?;
        // What has arrived meanwhile is had without being woken for it.
        while got < FILL_BYTES {
            match self.read().now_or_never() {
                Some(Ok(more)) => got += more,
                // The next call meets an error again; what has come before it may say why.
                Some(Err(_)) | None => break,
            }
        }
        Ok(())
    }

    /// What came next of the copy; `None` asks for [`CopyOut::fill`].
    pub fn pop(&mut self, what: &str) -> Result<Option<Copied<'_>>> {
        let body = loop {
            match self.next(what)? {
                None => return Ok(None),
                Some(Frame { tag: b'd', body }) => break body,
                // ReadyForQuery
                Some(frame @ Frame { tag: b'Z', .. }) => {
                    self.control(&frame, what)?;
                    return Ok(Some(Copied::Ended));
                }
                Some(frame) => self.control(&frame, what)?,
            }
        };
        Ok(Some(Copied::Data(self.frames.bytes(body))))
    }

    /// The connection is of no more use.
    pub fn is_closed(&self) -> bool {
        self.is_broken
    }

    /// Says goodbye, so that the server does not miss us.
    pub async fn close(mut self) {
        // A server that does not listen finds the connection closed.
        let _ = tokio::time::timeout(CLOSE_TIME_MAX, self.io.write_all(&TERMINATE)).await;
        let _ = tokio::time::timeout(CLOSE_TIME_MAX, self.io.shutdown()).await;
    }

    async fn send(&mut self, sql: &str) -> Result<()> {
        if self.is_broken {
            return Err(Error::transient("the connection to the source is gone"));
        }
        self.is_broken = true;
        framing::write_query(&mut self.io, sql).await.map_err(startup::broken)?;
        self.open_answers += 1;
        self.is_broken = false;
        Ok(())
    }

    /// Skips answers to statements from before, until only so many are open.
    async fn skip_until(&mut self, open_answers: u32, what: &str) -> Result<()> {
        while self.open_answers > open_answers {
            match self.next(what)? {
                None => self.receive().await?,
                // An error of theirs was told, or interests nobody any more, but if it ends the session.
                Some(frame @ Frame { tag: b'E', .. }) => {
                    let error = self.control(&frame, what);
                    if self.is_broken {
                        return error;
                    }
                }
                Some(frame) => self.control(&frame, what)?,
            }
        }
        Ok(())
    }

    /// Takes an answer to its end.
    async fn finish(&mut self, what: &str) -> Result<()> {
        while self.open_answers > 0 {
            match self.next(what)? {
                None => self.receive().await?,
                Some(frame) => self.control(&frame, what)?,
            }
        }
        Ok(())
    }

    /// The next message. What makes no sense as one makes none of what follows.
    fn next(&mut self, what: &str) -> Result<Option<Frame>> {
        self.frames.next().map_err(|error| {
            self.is_broken = true;
            Error::transient(what).caused_by(error)
        })
    }

    /// Everything but the bytes of rows.
    fn control(&mut self, frame: &Frame, what: &str) -> Result<()> {
        let body = self.frames.bytes(frame.body.clone());
        match frame.tag {
            b'E' => {
                let error = ServerError::parse(body);
                self.is_broken |= matches!(error.severity.as_str(), "FATAL" | "PANIC");
                return Err(error.into_error(what));
            }
            b'Z' => self.open_answers = self.open_answers.saturating_sub(1),
            b'N' => tracing::debug!(notice = %ServerError::parse(body), "the server says"),
            // Rows and their ends, settings, and notifications.
            _ => {}
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<usize> {
        let lost = match self.io.read_buf(self.frames.room()).await {
            Ok(bytes) if bytes > 0 => return Ok(bytes),
            Ok(_) => Error::transient("the server closed the connection"),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Error::transient("the server closed the connection")
            }
            Err(error) => Error::transient("connection to the source").caused_by(error),
        };
        self.is_broken = true;
        Err(lost)
    }
}

/// What is taken of what is there before rows are handed out.
const FILL_BYTES: usize = 128 << 10;
/// How long a goodbye may take.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
