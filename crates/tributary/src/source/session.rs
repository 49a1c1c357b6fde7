//! A replication session before it streams.
//!
//! Owns: the commands of the replication protocol, and the options that each server version takes.
//! Does not: stream (`stream`), or judge the positions it is told.
//! Holds: every setting that changes how values print is pinned and read back before anything is decoded (T87).
//! Fails: as `fault` classifies the server's errors; an answer that does not come in time is transient.
//!
//! The commands: <https://www.postgresql.org/docs/current/protocol-replication.html>

use std::time::Duration;

use bytes::Bytes;
use pgoutput::Lsn;
use pgoutput::lsn::ParseLsnError;
use pgwire_replication::protocol::framing::{self, MessageReader};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::dial::{self, Attempt, Io};
use super::fault::{self, ServerError};
use super::options::ConnectOptions;
use super::sql::{check_slot_name, check_version, quote_identifier, quote_literal};
use super::startup::{self, SignedIn};
use super::stream::{Start, Stream};
use super::{connect, settings};
use crate::error::{Error, Kind, Result};

/// A session that takes commands.
pub struct Session {
    io: Io,
    reader: MessageReader,
    options: ConnectOptions,
    version: u32,
    cancel_key: Option<Bytes>,
    /// An answer was given up half-way: what comes next belongs to an older command.
    out_of_step: bool,
}

/// Who the server is, and how far its log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// The cluster's identity, made by initdb.
    pub id: String,
    /// The current timeline.
    pub timeline: u32,
    /// Flushed up to here; replayed up to here on a standby.
    pub wal_lsn: Lsn,
}

/// Where a timeline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that ended.
    pub timeline: u32,
    /// The first position that is not its any more.
    pub switch_lsn: Lsn,
}

/// A slot that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSlot {
    /// The stream holds every transaction that commits from here on.
    pub consistent_point: Lsn,
    /// A snapshot of the state before, until the next command of this session.
    pub snapshot: Option<String>,
}

impl Session {
    /// Opens a session for the replication of the options' database.
    pub async fn connect(options: &ConnectOptions) -> Result<Session> {
        let SignedIn { io, reader, parameters, cancel_key } =
            connect::open(options, |io, options, password| Box::pin(startup::sign_in(io, options, password)))
                .await?;
        let mut session =
            Session { io, reader, options: options.clone(), version: 0, cancel_key, out_of_step: false };
        let version = session.one_row("SELECT pg_catalog.current_setting('server_version_num')").await?;
        session.version = version.text(0)?.parse().unwrap_or(0);
        check_version(session.version)?;
        let encoding =
            settings::client_encoding(parameters.get("server_encoding").map_or("", String::as_str));
        session.command(&settings::after_startup(session.version, encoding), COMMAND_TIME_MAX).await?;
        let found = session.one_row(&settings::verification()).await?;
        settings::verify(&found.0, encoding)?;
        Ok(session)
    }

    /// The server's `server_version_num`, 150018 for 15.18.
    pub fn server_version(&self) -> u32 {
        self.version
    }

    /// Who the server is.
    pub async fn identify_system(&mut self) -> Result<System> {
        let row = self.one_row("IDENTIFY_SYSTEM").await?;
        Ok(System { id: row.text(0)?.to_owned(), timeline: row.number(1)?, wal_lsn: row.lsn(2)? })
    }

    /// Where the timelines before this one ended, oldest first.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<Vec<TimelineSwitch>> {
        // The first timeline has no history, and the server no file of it.
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let row = self.one_row(&format!("TIMELINE_HISTORY {timeline}")).await?;
        parse_history(row.text(1)?)
    }

    /// Creates a slot that exports a snapshot. Waits for every transaction that is open now to end (T70), up to `timeout`.
    pub async fn create_slot(&mut self, slot: &str, timeout: Duration) -> Result<CreatedSlot> {
        self.create_slot_that(slot, "", "", timeout).await
    }

    /// Creates a slot that exports a snapshot, and vanishes with this session. Waits as [`Session::create_slot`] does.
    pub async fn create_temporary_slot(&mut self, slot: &str, timeout: Duration) -> Result<CreatedSlot> {
        self.create_slot_that(slot, "TEMPORARY ", "", timeout).await
    }

    /// Creates a slot that exports a snapshot, and of which standbys keep a copy (T74). For a primary of 17 or newer.
    pub async fn create_failover_slot(&mut self, slot: &str, timeout: Duration) -> Result<CreatedSlot> {
        self.create_slot_that(slot, "", ", FAILOVER true", timeout).await
    }

    /// Has standbys keep a copy of a slot that nobody uses. For a primary of 17 or newer.
    pub async fn alter_slot_to_failover(&mut self, slot: &str) -> Result<()> {
        check_slot_name(slot)?;
        let command = format!("ALTER_REPLICATION_SLOT {slot} (FAILOVER true)");
        self.command(&command, COMMAND_TIME_MAX).await.map(|_| ())
    }

    async fn create_slot_that(
        &mut self,
        slot: &str,
        lasts: &str,
        more: &str,
        timeout: Duration,
    ) -> Result<CreatedSlot> {
        check_slot_name(slot)?;
        let snapshot = match self.version {
            150_000.. => format!("(SNAPSHOT 'export'{more})"),
            _ => "EXPORT_SNAPSHOT".to_owned(),
        };
        let command = format!("CREATE_REPLICATION_SLOT {slot} {lasts}LOGICAL pgoutput {snapshot}");
        let row = self.command(&command, timeout).await?.into_one_row()?;
        Ok(CreatedSlot { consistent_point: row.lsn(1)?, snapshot: row.optional(2) })
    }

    /// Drops a slot. Works on a session that may not run SQL as well.
    pub async fn drop_slot(&mut self, slot: &str) -> Result<()> {
        check_slot_name(slot)?;
        self.command(&format!("DROP_REPLICATION_SLOT {slot}"), COMMAND_TIME_MAX).await.map(|_| ())
    }

    /// Starts to stream.
    pub async fn start(mut self, start: &Start) -> Result<Stream> {
        let command = start_command(start, self.version)?;
        self.send(&command).await?;
        let started = tokio::time::timeout(COMMAND_TIME_MAX, self.wait_for_copy());
        started.await.unwrap_or_else(|_| Err(no_answer("START_REPLICATION", COMMAND_TIME_MAX)))?;
        // The reader took whole messages only, so the next byte of `io` begins the stream.
        Ok(Stream::new(self.io, start))
    }

    async fn wait_for_copy(&mut self) -> Result<()> {
        loop {
            let message = self.reader.read(&mut self.io).await.map_err(startup::broken)?;
            match message.tag {
                b'W' => return Ok(()),
                b'E' => return Err(ServerError::parse(&message.payload).into_error("start of the stream")),
                b'N' => notice(&message.payload)?,
                b'S' => {}
                _ => return Err(Error::transient("START_REPLICATION was not answered by a stream")),
            }
        }
    }

    async fn one_row(&mut self, command: &str) -> Result<RowText> {
        self.command(command, COMMAND_TIME_MAX).await?.into_one_row()
    }

    /// Runs one command and takes its whole answer.
    async fn command(&mut self, command: &str, timeout: Duration) -> Result<Answer> {
        if self.out_of_step {
            return Err(Error::transient("an earlier command of this session was given up"));
        }
        let name = command.split(' ').next().unwrap_or_default();
        let asked = Instant::now();
        self.send(command).await?;
        let mut answer = Answer::default();
        self.out_of_step = true;
        if let Ok(done) = tokio::time::timeout(timeout, self.collect(&mut answer)).await {
            done?;
        } else {
            // A slot would otherwise come to be after we have gone.
            self.cancel().await?;
            let rest = tokio::time::timeout(CANCEL_TIME_MAX, self.collect(&mut answer));
            rest.await.unwrap_or_else(|_| Err(no_answer(name, timeout)))?;
        }
        self.io.answered_within(asked.elapsed());
        self.out_of_step = false;
        match answer.error.take() {
            None => Ok(answer),
            Some(error) if error.code == CANCELED => Err(no_answer(name, timeout).caused_by(error)),
            Some(error) => Err(error.into_error(name)),
        }
    }

    async fn send(&mut self, command: &str) -> Result<()> {
        framing::write_query(&mut self.io, command).await.map_err(startup::broken)
    }

    /// Adds to an answer until it is whole. Cancelled, it can be called again.
    async fn collect(&mut self, answer: &mut Answer) -> Result<()> {
        loop {
            let message = self.reader.read(&mut self.io).await.map_err(startup::broken)?;
            match message.tag {
                b'D' => answer.rows.push(RowText::parse(&message.payload)?),
                b'E' => answer.error = Some(ServerError::parse(&message.payload)),
                b'N' => notice(&message.payload)?,
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Asks the server, on a connection of its own, to give up the running command.
    async fn cancel(&self) -> Result<()> {
        let Some(key) = &self.cancel_key else { return Ok(()) };
        let attempt = if self.io.is_tls() { Attempt::Tls } else { Attempt::Plain };
        let request = async {
            let mut io = dial::dial(&self.options, attempt).await?;
            let length = i32::try_from(key.len() + 8).unwrap_or_default();
            let message = [length.to_be_bytes().as_slice(), &CANCEL_REQUEST.to_be_bytes(), key].concat();
            io.write_all(&message)
                .await
                .map_err(|error| Error::transient("cancel request").caused_by(error))?;
            io.shutdown().await.map_err(|error| Error::transient("cancel request").caused_by(error))
        };
        let request = tokio::time::timeout(CANCEL_TIME_MAX, Box::pin(request));
        request.await.unwrap_or_else(|_| Err(no_answer("cancel request", CANCEL_TIME_MAX)))
    }
}

/// Bound of commands that wait for nobody.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);

/// Bound of cancelling a command that waited for too long.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(10);

const CANCEL_REQUEST: i32 = 80_877_102;

/// SQLSTATE `query_canceled`.
const CANCELED: &str = "57014";

/// An answer did not come in time.
pub(super) fn no_answer(command: &str, timeout: Duration) -> Error {
    Error::transient(format!("{command}: no answer within {} s", timeout.as_secs()))
}

/// A notice of the server. T23: one of them means that changes are missing.
pub(super) fn notice(body: &[u8]) -> Result<()> {
    hear(&mut None, body)
}

/// The same of a stream, in which the server says one thing again and again, while it waits for a standby for example.
pub(super) fn hear(last: &mut Option<(ServerError, Instant)>, body: &[u8]) -> Result<()> {
    let notice = ServerError::parse(body);
    if notice.tells_of_skipped_changes() {
        return Err(Error::new(Kind::SourceHalted, "the server leaves out changes of a publication")
            .hint("create the publication again, then resync: its changes meanwhile are not in the stream")
            .caused_by(notice));
    }
    if last.as_ref().is_some_and(|(said, at)| *said == notice && at.elapsed() < SAID_AGAIN) {
        return Ok(());
    }
    match notice.severity.as_str() {
        "WARNING" if notice.is_about_standbys() => tracing::warn!(
            code = %notice.code,
            message = %notice,
            hint = "start that standby, or take its slot out of synchronized_standby_slots: until then the stream waits for it, and log is kept",
            "the stream waits for a standby"
        ),
        "WARNING" => tracing::warn!(code = %notice.code, message = %notice, "the server warns"),
        _ => tracing::info!(severity = %notice.severity, message = %notice, "the server says"),
    }
    *last = Some((notice, Instant::now()));
    Ok(())
}

/// How long the server may repeat itself.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// `START_REPLICATION` with the options that this version knows: an unknown one is an error there.
fn start_command(start: &Start, version: u32) -> Result<String> {
    check_slot_name(&start.slot)?;
    if start.publications.is_empty() {
        return Err(Error::config("no publication to stream"));
    }
    let names: Vec<String> = start.publications.iter().map(|name| quote_identifier(name)).collect();
    let binary = if start.binary { ", binary 'true'" } else { "" };
    // Not `parallel`: it only adds to what a stream abort says.
    let streaming = if start.streaming { ", streaming 'on'" } else { "" };
    Ok(format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '{}', publication_names {}, messages 'true'{binary}{streaming})",
        start.slot,
        start.from,
        proto_version(version),
        quote_literal(&names.join(",")),
    ))
}

/// The newest protocol version that a server speaks.
pub fn proto_version(server_version: u32) -> u8 {
    match server_version / 10_000 {
        ..=14 => 2,
        15 => 3,
        16.. => 4,
    }
}

/// Lines of `timeline<TAB>switch point<TAB>reason`.
fn parse_history(text: &str) -> Result<Vec<TimelineSwitch>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let switch = |line: &str| -> Option<TimelineSwitch> {
        let mut fields = line.split_whitespace();
        let timeline = fields.next()?.parse().ok()?;
        Some(TimelineSwitch { timeline, switch_lsn: fields.next()?.parse().ok()? })
    };
    lines
        .map(|line| switch(line).ok_or_else(|| Error::halted("the timeline history has a line that is none")))
        .collect()
}

/// What a command was answered.
#[derive(Default)]
struct Answer {
    rows: Vec<RowText>,
    error: Option<ServerError>,
}

impl Answer {
    fn into_one_row(self) -> Result<RowText> {
        self.rows.into_iter().next().ok_or_else(|| unreadable("no row"))
    }
}

/// A row of texts.
#[derive(Debug, PartialEq, Eq)]
struct RowText(Vec<Option<String>>);

impl RowText {
    fn parse(body: &[u8]) -> Result<RowText> {
        let cells = || -> Option<Vec<Option<String>>> {
            let (count, mut rest) = body.split_first_chunk::<2>()?;
            let mut cells = Vec::new();
            for _ in 0..u16::from_be_bytes(*count) {
                let (length, after) = rest.split_first_chunk::<4>()?;
                let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                    cells.push(None);
                    rest = after;
                    continue;
                };
                let (text, after) = after.split_at_checked(length)?;
                cells.push(Some(String::from_utf8_lossy(text).into_owned()));
                rest = after;
            }
            Some(cells)
        };
        cells().map(RowText).ok_or_else(|| unreadable("a row cut short"))
    }

    fn text(&self, column: usize) -> Result<&str> {
        let cell = self.0.get(column).and_then(|cell| cell.as_deref());
        cell.ok_or_else(|| unreadable("a column missing"))
    }

    fn optional(&self, column: usize) -> Option<String> {
        self.0.get(column).cloned().flatten()
    }

    fn number(&self, column: usize) -> Result<u32> {
        self.text(column)?.parse().map_err(|_| unreadable("a column that is not a number"))
    }

    fn lsn(&self, column: usize) -> Result<Lsn> {
        let text = self.text(column)?;
        text.parse()
            .map_err(|error: ParseLsnError| unreadable("a column that is no position").caused_by(error))
    }
}

fn unreadable(what: &str) -> Error {
    Error::transient(format!("the answer to a replication command has {what}"))
}

/// Whether creating a slot ended because open transactions did not (T70).
pub fn is_slot_wait(error: &Error) -> bool {
    fault::server_error(error).is_some_and(|server| server.code == CANCELED)
}

#[cfg(test)]
mod tests;
