//! The stream of changes, and what is told back.
//!
//! Owns: the copy loop, status messages, and an orderly end.
//! Does not: decode messages, time anything but its own writes, or know what is durable; it is told.
//! Holds: `flush` is never more than the caller said, and never goes back; a frame borrows the buffer, nothing is copied.
//! Fails: transient when the connection breaks, as `fault` classifies what the server says, halted when it skips changes.
//!
//! The messages: <https://www.postgresql.org/docs/current/protocol-replication.html>

use std::io::{self, ErrorKind};
use std::time::Duration;

use pgoutput::{Lsn, PgTimestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::dial::Io;
use super::fault::ServerError;
use super::frames::{Frame, Frames};
use super::pace::{PAUSES, Pace, UNIX_PAUSES};
use super::{session, settings, startup};
use crate::clock;
use crate::error::{Error, Result};

/// What to stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Whose stream.
    pub slot: String,
    /// The resume point. The server forwards one that is behind the slot, silently (T60).
    pub from: Lsn,
    /// Which changes.
    pub publications: Vec<String>,
    /// Ask for binary cells where a type has them.
    pub binary: bool,
    /// Ask for large transactions before they have committed.
    pub streaming: bool,
    /// How often the caller means to send a status.
    pub status_interval: Duration,
}

/// A message of the stream, borrowed from its buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A pgoutput message. Positions of it are no progress (T04, T20).
    Wal {
        /// Where it starts; 0/0 for some.
        wal_start: Lsn,
        /// How far the server's log is; 0/0 for some.
        wal_end: Lsn,
        /// When it was sent, by the server's clock.
        sent_at: PgTimestamp,
        /// The message.
        message: &'a [u8],
    },
    /// The server lives.
    Keepalive {
        /// How far decoding is. Not monotone (T55).
        wal_end: Lsn,
        /// It wants a status soon, or ends the session (T56).
        reply_requested: bool,
    },
    /// The server ends the stream, for its shutdown (T63) as a rule. Nothing comes after it.
    Ended,
}

/// A running stream.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    frames: Frames,
    /// Bytes for the server that were not written yet, after a `send_status` that was cancelled.
    out: Vec<u8>,
    write: Lsn,
    flush: Lsn,
    status_interval: Duration,
    pace: Pace,
    arrivals: Arrivals,
    ended: bool,
    /// What the server said last.
    said: Option<(ServerError, Instant)>,
}

impl Stream {
    pub(super) fn new(io: Io, start: &Start) -> Stream {
        let pace = Pace::new(if io.is_unix() { &UNIX_PAUSES } else { &PAUSES });
        Stream {
            io,
            frames: Frames::new(),
            out: Vec::new(),
            // Nothing is told before the caller knows something; the server ignores 0/0 (T53).
            write: Lsn::ZERO,
            flush: Lsn::ZERO,
            status_interval: start.status_interval,
            pace,
            arrivals: Arrivals::default(),
            ended: false,
            said: None,
        }
    }

    /// Reads what is there, at least one byte, after a pause if the stream is late. Cancelled, it has read nothing.
    pub async fn fill(&mut self) -> Result<usize> {
        match self.read().await {
            Ok(0) if self.ended => Err(Error::transient("the stream has ended")),
            Ok(0) => Err(Error::transient("the server closed the connection")),
            Ok(bytes) => {
                self.pace.note(bytes, Instant::now());
                Ok(bytes)
            }
            // Postgres ends TLS without a word when it gives up a session.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(Error::transient("the server closed the connection"))
            }
            Err(error) => Err(broken(error)),
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        // A deaf socket that always has something never waits, and would leave nothing to others on this thread.
        tokio::task::consume_budget().await;
        if !self.pace.is_late() {
            return self.io.read_buf(self.frames.room()).await;
        }
        self.io.deafen()?;
        if self.arrivals.are_small() {
            self.io.limit_arrivals()?;
        }
        loop {
            let resume = self.pace.resume();
            if let Some(resume) = resume {
                self.pause_until(resume).await;
            }
            match self.io.read_arrived(self.frames.room()) {
                Some(read) => return read,
                None if resume.is_none() && self.pace.rest(Instant::now()) => {}
                // Nothing came in a whole pause: it may be a while.
                None => return self.io.read_buf(self.frames.room()).await,
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "shorter than a millisecond, which the runtime's timer does not know; others have their turn after each"
    )]
    async fn pause_until(&self, resume: Instant) {
        if self.io.is_unix() {
            std::thread::sleep(resume.saturating_duration_since(Instant::now()));
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep_until(resume).await;
        }
    }

    /// Whether what was read last is of long ago, so that it is no matter if what follows is read some milliseconds later.
    pub fn set_late(&mut self, is_late: bool) {
        self.pace.set_late(is_late);
    }

    /// The next message in the buffer; `None` asks for [`Stream::fill`].
    pub fn pop(&mut self) -> Result<Option<Received<'_>>> {
        let body = loop {
            if self.ended {
                return Ok(Some(Received::Ended));
            }
            match self.frames.next()? {
                None => return Ok(None),
                Some(Frame { tag: b'd', body }) => break body,
                Some(frame) => self.control(&frame)?,
            }
        };
        self.arrivals.note(body.len());
        parse_copy_data(self.frames.bytes(body)).map(Some)
    }

    /// What the next status says: received up to `write`, durable up to `flush`. Neither ever goes back.
    ///
    /// # Panics
    /// I1: if more is durable than was received.
    pub fn set_positions(&mut self, write: Lsn, flush: Lsn) {
        assert!(flush <= write, "I1: confirmed {flush} is after received {write}");
        self.write = self.write.max(write);
        self.flush = self.flush.max(flush);
    }

    /// Tells the server the positions; with `reply`, asks it for a keepalive. Cancelled, the rest goes out with the next.
    pub async fn send_status(&mut self, reply: bool) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        if self.out.len() < OUT_BYTES_MAX {
            self.out.extend_from_slice(&status(self.write, self.flush, clock::pg_micros(), reply));
        }
        self.write_out().await
    }

    /// Ends the stream so that the server knows the last positions, and signs off. Takes at most [`STOP_TIME_MAX`].
    pub async fn stop(mut self) -> Result<()> {
        if self.ended {
            // The server has left, or is about to.
            let goodbye = tokio::time::timeout(STOP_TIME_MAX, self.sign_off(&COPY_DONE));
            let _ = goodbye.await;
            return Ok(());
        }
        self.send_status(true).await?;
        match tokio::time::timeout(STOP_TIME_MAX, self.finish()).await {
            Ok(finished) => finished,
            Err(_) => {
                // In the middle of a big transaction the server does not look up.
                tracing::debug!("the server did not end the stream in time");
                Ok(())
            }
        }
    }

    /// Bytes received and not popped yet.
    pub fn buffered(&self) -> usize {
        self.frames.unread()
    }

    /// Heap held by the receive buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.frames.capacity()
    }

    /// How often a status is due.
    pub fn status_interval(&self) -> Duration {
        self.status_interval
    }

    /// Everything that is not a change or a keepalive.
    fn control(&mut self, frame: &Frame) -> Result<()> {
        let body = self.frames.bytes(frame.body.clone());
        match frame.tag {
            b'N' => session::hear(&mut self.said, body),
            b'E' => Err(ServerError::parse(body).into_error("the stream")),
            b'S' => match startup::parameter_status(body) {
                Some((name, value)) if !settings::still_pinned(&name, &value) => {
                    Err(Error::halted(format!("setting {name} became `{value}` while streaming")))
                }
                _ => Ok(()),
            },
            // CopyDone; or CommandComplete `COPY 0` of a server that shuts down.
            b'c' | b'C' => {
                self.ended = true;
                Ok(())
            }
            b'Z' | b'A' => Ok(()),
            tag => {
                Err(Error::transient(format!("the stream holds a message of type {}", tag.escape_ascii())))
            }
        }
    }

    async fn write_out(&mut self) -> Result<()> {
        let timeout = tokio::time::timeout(WRITE_TIME_MAX, async {
            while !self.out.is_empty() {
                let written = self.io.write(&self.out).await?;
                if written == 0 {
                    return Err(ErrorKind::WriteZero.into());
                }
                self.out.drain(..written);
            }
            self.io.flush().await
        });
        match timeout.await {
            Ok(written) => written.map_err(|error| Error::transient("status to the source").caused_by(error)),
            Err(_) => {
                Err(Error::transient(format!("the source took no status for {} s", WRITE_TIME_MAX.as_secs())))
            }
        }
    }

    /// CopyDone, then everything until the server is ready for another command, then goodbye.
    async fn finish(&mut self) -> Result<()> {
        self.out.extend_from_slice(&COPY_DONE);
        self.write_out().await?;
        loop {
            while let Some(frame) = self.frames.next()? {
                match frame.tag {
                    b'Z' => return self.sign_off(&[]).await,
                    b'E' => {
                        return Err(
                            ServerError::parse(self.frames.bytes(frame.body)).into_error("end of the stream")
                        );
                    }
                    _ => {}
                }
            }
            match self.io.read_buf(self.frames.room()).await {
                // A server that shuts down closes without more words.
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => {}
            }
        }
    }

    async fn sign_off(&mut self, before: &[u8]) -> Result<()> {
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(&TERMINATE);
        self.write_out().await?;
        self.io.shutdown().await.map_err(|error| Error::transient("end of the stream").caused_by(error))
    }
}

/// How large messages are.
#[derive(Debug, Default)]
struct Arrivals {
    messages: usize,
    bytes: usize,
}

impl Arrivals {
    fn note(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Whether it pays that the server joins them; once in [`ARRIVALS`], which are then forgotten.
    fn are_small(&mut self) -> bool {
        let are_many = self.messages >= ARRIVALS;
        let are_small = are_many && self.bytes / self.messages < SMALL_BYTES;
        if are_many {
            *self = Arrivals::default();
        }
        are_small
    }
}

/// So many messages tell how large they are.
const ARRIVALS: usize = 4096;
/// Of a packet with more than this, the packet itself is no more most of what it costs.
const SMALL_BYTES: usize = 512;

/// The longest that [`Stream::stop`] waits for the server.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// A server that takes no byte for this long is given up.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// No more statuses are queued behind ones that could not be written.
const OUT_BYTES_MAX: usize = 4 << 10;

fn broken(error: io::Error) -> Error {
    Error::transient("connection to the source").caused_by(error)
}

const COPY_DONE: [u8; 5] = [b'c', 0, 0, 0, 4];
/// Goodbye, of any session.
pub(super) const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// Body of `CopyData` from the server.
fn parse_copy_data(body: &[u8]) -> Result<Received<'_>> {
    let received = match body.split_first() {
        Some((b'w', rest)) => wal(rest),
        Some((b'k', rest)) => keepalive(rest),
        _ => None,
    };
    received
        .ok_or_else(|| Error::transient(format!("the stream holds {} bytes that are no message", body.len())))
}

fn wal(rest: &[u8]) -> Option<Received<'_>> {
    let (wal_start, rest) = rest.split_first_chunk::<8>()?;
    let (wal_end, rest) = rest.split_first_chunk::<8>()?;
    let (sent_at, message) = rest.split_first_chunk::<8>()?;
    let sent_at = PgTimestamp(i64::from_be_bytes(*sent_at));
    let lsn = |bytes: &[u8; 8]| Lsn(u64::from_be_bytes(*bytes));
    Some(Received::Wal { wal_start: lsn(wal_start), wal_end: lsn(wal_end), sent_at, message })
}

fn keepalive(rest: &[u8]) -> Option<Received<'_>> {
    let (wal_end, rest) = rest.split_first_chunk::<8>()?;
    let (_send_time, rest) = rest.split_first_chunk::<8>()?;
    let [reply] = rest else { return None };
    Some(Received::Keepalive { wal_end: Lsn(u64::from_be_bytes(*wal_end)), reply_requested: *reply != 0 })
}

/// A standby status update as a whole `CopyData` message. What is durable here is applied as well.
fn status(write: Lsn, flush: Lsn, pg_micros: i64, reply: bool) -> [u8; 39] {
    let mut message = [0_u8; 39];
    let fields: [&[u8]; 8] = [
        b"d",
        &38_i32.to_be_bytes(),
        b"r",
        &write.0.to_be_bytes(),
        &flush.0.to_be_bytes(),
        &flush.0.to_be_bytes(),
        &pg_micros.to_be_bytes(),
        &[u8::from(reply)],
    ];
    for (slot, byte) in message.iter_mut().zip(fields.into_iter().flatten()) {
        *slot = *byte;
    }
    message
}

#[cfg(test)]
mod tests;
