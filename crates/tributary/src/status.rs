//! What the daemon says of itself: `/status.json`, `/readyz` and `/metrics` read it, the pipeline writes it.
//!
//! Owns: [`Shared`] and the form of the status document.
//! Does not: decide anything; nothing reads a decision from here.
//! Holds: every position that is shown went through [`Shared::positions`], and so into the metrics too; the document is
//! bounded: the last errors, and the first tables beside those that need something.
//! Fails: never.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lake::gauge::{Gauge, Use};
use lake::log::{EntryKind, TableSnapshot};
use lake::writer::Published;
use pgoutput::Lsn;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tables::types::Loss;
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::metrics::{Metrics, Stage, seconds_of, set_lsn};
use crate::pulse::Pulse;
use crate::resync::Resync;
use crate::source::held::{self, Held, Holders, Stages};
use crate::source::slot::Slot;
use crate::wal_budget::Level;

mod history;
mod snapshot;

use history::History;
pub use history::Sample;
use snapshot::Snapshots;
pub(crate) use snapshot::number;
pub use snapshot::{SnapshotProgress, SnapshotStatus, SnapshotTable};

/// What the daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Opens lake and source.
    Starting,
    /// Another session has the slot.
    WaitingForSlot,
    /// Reads and writes.
    Streaming,
    /// Does not read, because the memory budget is used up, or encoders have enough to do.
    Paused,
    /// Was told to stop, and publishes what it has.
    Stopping,
    /// Ended with an error that needs a person.
    Halted,
    /// No daemon answers; what is shown is from the log.
    Stopped,
}

impl State {
    /// What a daemon may be doing.
    pub const ALL: [State; 6] = [
        State::Starting,
        State::WaitingForSlot,
        State::Streaming,
        State::Paused,
        State::Stopping,
        State::Halted,
    ];

    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::WaitingForSlot => "waiting_for_slot",
            State::Streaming => "streaming",
            State::Paused => "paused",
            State::Stopping => "stopping",
            State::Halted => "halted",
            State::Stopped => "stopped",
        }
    }
}

/// I1: each at most as far as the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Positions {
    /// End of the last transaction that came from Postgres.
    pub received: Lsn,
    /// End of the last cut.
    pub cut: Lsn,
    /// End of the last cut whose log entry is durable.
    pub logged: Lsn,
    /// End of the last cut whose files are visible.
    pub published: Lsn,
    /// What Postgres was told.
    pub confirmed: Lsn,
}

/// How far the lake is behind the server, where that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Bytes of log.
    pub bytes: Option<u64>,
    /// Age of the oldest transaction that is not published.
    pub seconds: Option<f64>,
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.bytes, self.seconds) {
            (Some(bytes), Some(seconds)) => write!(f, "{bytes} bytes, {seconds:.1} s"),
            (Some(bytes), None) => write!(f, "{bytes} bytes"),
            (None, Some(seconds)) => write!(f, "{seconds:.1} s"),
            (None, None) => f.write_str("unknown"),
        }
    }
}

/// What the server says of the slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotStatus {
    /// Its name.
    pub name: String,
    /// Whether a session has it.
    pub active: Option<bool>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// What it was told to forget.
    pub confirmed_flush: Option<Lsn>,
    /// Where its reading would begin.
    pub restart_lsn: Option<Lsn>,
    /// Bytes of log that are kept for it.
    pub retained_bytes: Option<u64>,
    /// Bytes until it is lost, where the server has a limit.
    pub safe_wal_bytes: Option<u64>,
    /// Why it is lost.
    pub invalidation: Option<String>,
    /// `source.wal_budget`, if there is one.
    pub budget_bytes: Option<u64>,
    /// How much of that is used.
    pub level: Level,
    /// Why the log is kept, the reason that holds most first.
    pub held: Vec<Held>,
    /// How much the server could remove if the slot were dropped; unknown while little is kept.
    pub drop_frees_bytes: Option<u64>,
    /// How many transactions old the catalog rows are that it keeps.
    pub catalog_xmin_age: Option<u32>,
}

impl SlotStatus {
    /// A slot of which nothing is known now.
    pub fn unknown(name: &str) -> SlotStatus {
        SlotStatus { name: name.to_owned(), ..SlotStatus::default() }
    }

    /// Of a slot as the catalogs show it.
    pub fn of(name: &str, slot: &Slot) -> SlotStatus {
        SlotStatus {
            name: name.to_owned(),
            active: Some(slot.active),
            wal_status: slot.wal_status.clone(),
            confirmed_flush: slot.confirmed_flush,
            restart_lsn: slot.restart_lsn,
            retained_bytes: slot.retained_bytes,
            // Below zero it is beyond the limit, and the next checkpoint may take it.
            safe_wal_bytes: slot.safe_wal_size.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
            invalidation: slot.invalidation.clone(),
            catalog_xmin_age: slot.catalog_xmin_age,
            ..SlotStatus::default()
        }
    }

    /// How far the server's log was beyond what it was told to forget.
    pub fn lag_bytes(&self) -> Option<u64> {
        let written = self.restart_lsn?.0.saturating_add(self.retained_bytes?);
        Some(written.saturating_sub(self.confirmed_flush?.0))
    }

    /// With the reasons why log is kept, under a budget if there is one; `stages` are those of the daemon, if one answers.
    pub fn held(
        self,
        budget: Option<u64>,
        slot: &Slot,
        holders: &Holders,
        stages: Option<Stages>,
    ) -> SlotStatus {
        let held = held::why(budget, slot, holders, stages);
        let drop_frees_bytes = (!held.is_empty()).then(|| holders.freed_without(slot));
        SlotStatus { held, drop_frees_bytes, ..self }
    }
}

/// What was published of a table since the lake began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// `schema.table`
    pub table: String,
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// `streaming`, or `needs_resync`
    pub state: String,
    /// Columns in which rows written before may differ from Postgres, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs_resync: BTreeMap<String, String>,
}

impl TableStatus {
    /// A table of which nothing is published.
    pub fn new(table: String) -> TableStatus {
        TableStatus {
            table,
            rows: 0,
            files: 0,
            bytes: 0,
            state: TABLE_STREAMING.to_owned(),
            needs_resync: BTreeMap::new(),
        }
    }
}

/// An error that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorStatus {
    /// When, RFC 3339.
    pub at: String,
    /// What had to happen next.
    pub kind: String,
    /// The error and its causes.
    pub error: String,
    /// What can be done about it, if it does not mend itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// `/status.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The slot's name, which is the pipeline's.
    pub pipeline: String,
    /// The daemon's version.
    pub version: String,
    /// What it is doing.
    pub state: State,
    /// Where the lake is.
    pub lake: String,
    /// How far it got.
    pub positions: Positions,
    /// How far it is behind.
    pub lag: Lag,
    /// The slot.
    pub slot: SlotStatus,
    /// The snapshot.
    pub snapshot: SnapshotStatus,
    /// The tables, by name; of very many, those that need something, and some.
    pub tables: Vec<TableStatus>,
    /// How many are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tables_not_listed: usize,
    /// Rows published of all tables, listed or not.
    #[serde(default)]
    pub rows: u64,
    /// The last errors, the newest last.
    pub errors: Vec<ErrorStatus>,
}

impl Document {
    /// A document about which nothing is known yet.
    pub fn new(config: &Config, state: State) -> Document {
        Document {
            pipeline: config.source.slot.clone(),
            version: VERSION.to_owned(),
            state,
            lake: config.lake.url.clone(),
            positions: Positions::default(),
            lag: Lag::default(),
            slot: SlotStatus::unknown(&config.source.slot),
            snapshot: SnapshotStatus::default(),
            tables: Vec::new(),
            tables_not_listed: 0,
            rows: 0,
            errors: Vec::new(),
        }
    }
}

/// The least that tells how it goes; a line for `systemctl status`.
#[derive(Clone, Debug, PartialEq)]
pub struct Brief {
    /// What the daemon is doing.
    pub state: State,
    /// What every reader can see.
    pub published: Lsn,
    /// How far that is behind.
    pub lag: Lag,
    /// Why it does not stream, if it does not.
    pub error: Option<String>,
}

impl Default for Brief {
    fn default() -> Brief {
        Brief { state: State::Starting, published: Lsn::default(), lag: Lag::default(), error: None }
    }
}

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state.label().replace('_', " "))?;
        if let Some(error) = &self.error {
            return write!(f, "; {error}");
        }
        if matches!(self.state, State::Streaming | State::Paused | State::Stopping) {
            write!(f, "; published up to {}", self.published)?;
            if self.lag != Lag::default() {
                write!(f, ", behind by {}", self.lag)?;
            }
        }
        Ok(())
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What every part of the daemon may write to, and HTTP reads.
#[derive(Debug)]
pub struct Shared {
    metrics: Metrics,
    pulse: Pulse,
    ready: AtomicBool,
    inner: Mutex<Inner>,
    /// To the stream that runs.
    resyncs: Mutex<Option<mpsc::Sender<Resync>>>,
}

#[derive(Debug)]
struct Inner {
    /// Without tables and errors, which are kept as below.
    document: Document,
    tables: BTreeMap<String, TableStatus>,
    snapshots: Snapshots,
    errors: VecDeque<ErrorStatus>,
    /// Since when nothing is read, as far as the metrics know.
    paused_since: Option<Instant>,
    history: History,
}

impl Shared {
    /// With nothing known yet.
    pub fn new(config: &Config) -> Arc<Shared> {
        let inner = Inner {
            document: Document::new(config, State::Starting),
            tables: BTreeMap::new(),
            snapshots: Snapshots::default(),
            errors: VecDeque::new(),
            paused_since: None,
            history: History::default(),
        };
        let metrics = Metrics::new();
        metrics.pipeline(&config.source.slot, &config.lake.url);
        Arc::new(Shared {
            metrics,
            pulse: Pulse::new(),
            ready: AtomicBool::new(false),
            inner: Mutex::new(inner),
            resyncs: Mutex::default(),
        })
    }

    /// Says what the daemon is doing.
    pub fn state(&self, state: State) {
        self.metrics.state(state);
        let mut inner = self.lock();
        inner.document.state = state;
        // Without a stream nobody knows how far the lake is behind.
        if matches!(state, State::Starting | State::WaitingForSlot | State::Halted) {
            inner.document.lag = Lag::default();
            self.metrics.lag_bytes.set(None);
            self.metrics.lag_seconds.set(None);
        }
    }

    /// Changes the positions.
    pub fn positions(&self, change: impl FnOnce(&mut Positions)) {
        let mut inner = self.lock();
        change(&mut inner.document.positions);
        let now = &mut inner.document.positions;
        // I1: what is published was logged.
        now.logged = now.logged.max(now.published);
        let now = *now;
        drop(inner);
        set_lsn(&self.metrics.received_lsn, now.received);
        set_lsn(&self.metrics.cut_lsn, now.cut);
        set_lsn(&self.metrics.logged_lsn, now.logged);
        set_lsn(&self.metrics.published_lsn, now.published);
        set_lsn(&self.metrics.confirmed_lsn, now.confirmed);
    }

    /// How far each stage is.
    pub(crate) fn stages(&self) -> Stages {
        let Positions { received, cut, logged, published, .. } = self.lock().document.positions;
        Stages { received, cut, logged, published }
    }

    /// Sets how far the lake is behind.
    pub fn lag(&self, bytes: u64, seconds: f64) {
        self.lock().document.lag = Lag { bytes: Some(bytes), seconds: Some(seconds) };
        self.metrics.lag_bytes.set(Some(number(bytes)));
        self.metrics.lag_seconds.set(Some(seconds));
    }

    /// Sets what the server says of the slot.
    pub fn slot(&self, slot: SlotStatus) {
        self.metrics.slot.set(&slot);
        self.lock().document.slot = slot;
    }

    /// Sets what is published of a table since the lake began, as the log has it; the metrics count what this process adds.
    pub fn table_published(&self, table: &str, rows: u64, bytes: u64, files: u64) {
        let status = TableStatus { rows, files, bytes, ..TableStatus::new(table.to_owned()) };
        self.lock().tables.insert(table.to_owned(), status);
    }

    /// Adds what a published log entry brought.
    pub fn published(&self, published: &Published) {
        self.metrics.log_entry(published.kind.label());
        if published.kind == EntryKind::Commit {
            self.metrics.cuts.inc();
            self.metrics.stage(Stage::Log, published.log_duration);
            self.metrics.stage(Stage::Publish, published.publish_duration);
        }
        if let Some(committed) = published.from_commit_time {
            self.metrics.freshness(clock::unix_micros().saturating_sub(committed));
        }
        if let Some(committed) = published.to_commit_time {
            self.metrics.published_commit_time.set(Some(seconds_of(committed)));
        }
        self.positions(|positions| {
            positions.logged = positions.logged.max(published.to_lsn);
            positions.published = positions.published.max(published.to_lsn);
        });
        for (table, added) in &published.tables {
            self.metrics.published(table, added.rows, added.bytes, added.files);
            let mut inner = self.lock();
            let known = inner.tables.entry(table.clone()).or_insert_with(|| TableStatus::new(table.clone()));
            known.rows += added.rows;
            known.files += added.files;
            known.bytes += added.bytes;
        }
    }

    /// Says that rows of a table may differ from Postgres in a column until it is read again.
    pub fn needs_resync(&self, table: &str, column: &str, reason: &str) {
        self.metrics.needs_resync(table);
        let mut inner = self.lock();
        let known =
            inner.tables.entry(table.to_owned()).or_insert_with(|| TableStatus::new(table.to_owned()));
        TABLE_NEEDS_RESYNC.clone_into(&mut known.state);
        known.needs_resync.insert(column.to_owned(), reason.to_owned());
    }

    /// Sets what the log knew of a table's snapshot when the stream began.
    pub fn snapshot_known(&self, table: &str, snapshot: &TableSnapshot) {
        let mut inner = self.lock();
        let before = inner.snapshots.chunks(table);
        let turn = inner.snapshots.known(table, snapshot);
        drop(inner);
        self.metrics.snapshot_turned(table, turn.0, turn.1);
        self.metrics.snapshot_chunks(table, before, (0, 0));
    }

    /// Says whether it is still to be found out what is left to read.
    pub fn snapshot_planning(&self, is_planning: bool) {
        self.lock().snapshots.is_planning = is_planning;
    }

    /// Says that a table is being read, and how much of it, about, still has to be. What `snapshot_known` said is read already.
    pub fn snapshot_begun(&self, table: &str, chunks: u64, bytes_expected: u64) {
        let mut inner = self.lock();
        let before = inner.snapshots.chunks(table);
        let turn = inner.snapshots.begun(table, chunks, bytes_expected, Instant::now());
        drop(inner);
        self.metrics.snapshot_turned(table, turn.0, turn.1);
        self.metrics.snapshot_chunks(table, before, (0, chunks));
    }

    /// Adds a part of a table that is read.
    pub fn snapshot_chunk(&self, table: &str, rows: u64, bytes: u64) {
        let mut inner = self.lock();
        let before = inner.snapshots.chunks(table);
        inner.snapshots.chunk(table, rows, bytes, Instant::now());
        let after = inner.snapshots.chunks(table);
        drop(inner);
        self.metrics.snapshot_read(table, rows, bytes);
        self.metrics.snapshot_chunks(table, before, after);
    }

    /// Says that all rows of a table are read, or why it was set aside.
    pub fn snapshot_ended(&self, table: &str, rows: u64, reason: Option<&str>) {
        let turn = self.lock().snapshots.ended(table, rows, reason);
        self.metrics.snapshot_turned(table, turn.0, turn.1);
    }

    /// Where requests to read tables anew arrive, for as long as it is kept. `None` while another stream listens.
    pub fn resyncs(&self) -> Option<mpsc::Receiver<Resync>> {
        let mut known = self.resyncs.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|sender| !sender.is_closed()) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(RESYNCS_WAITING);
        *known = Some(sender);
        Some(receiver)
    }

    /// Whom to ask to read tables anew; `None` while nothing is streamed.
    pub(crate) fn resync_sender(&self) -> Option<mpsc::Sender<Resync>> {
        let known = self.resyncs.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone().filter(|sender| self.is_ready() && !sender.is_closed())
    }

    /// Counts cells whose exact text went to `_cdc_raw`.
    pub fn lossy_cells(&self, table: &str, column: &str, loss: Loss, cells: u64) {
        self.metrics.lossy_cells(table, column, loss, cells);
    }

    /// Counts updates, deletions and truncations of a table that is laid out by columns.
    pub fn not_inserts(&self, table: &str, rows: u64) {
        if self.metrics.not_inserts(table, rows) {
            tracing::warn!(
                table,
                "a table that is laid out by columns as an insert-only one has updates or deletions; they are by the values that they \
                 have, or with those of NULL, so a query has to read all partitions to find the newest state of a row"
            );
        }
    }

    /// Sets what the memory budget is used for, and whether reading is paused for it.
    pub fn memory(&self, gauge: &Gauge, paused: bool) {
        self.metrics.memory("buffers", gauge.used_for(Use::Buffers));
        self.metrics.memory("waiting", gauge.used_for(Use::Waiting));
        self.metrics.memory("encoders", gauge.used_for(Use::Encoders));
        self.metrics.memory("parts", gauge.used_for(Use::Parts));
        self.metrics.memory("spool", gauge.used_for(Use::Spool));
        self.metrics.memory_budget.set(i64::try_from(gauge.budget()).unwrap_or(i64::MAX));
        self.metrics.reading_paused.set(i64::from(paused));
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(since) = std::mem::replace(&mut inner.paused_since, paused.then_some(now)) {
            self.metrics.paused_seconds.inc_by(now.duration_since(since).as_secs_f64());
        }
        let state = match (inner.document.state, paused) {
            (State::Streaming, true) => State::Paused,
            (State::Paused, false) => State::Streaming,
            _ => return,
        };
        inner.document.state = state;
        self.metrics.state(state);
    }

    /// Sets how many rows the open cut has, and how many cuts nobody can see yet.
    pub fn cuts(&self, open_rows: u64, in_flight: usize) {
        self.metrics.buffered_rows.set(i64::try_from(open_rows).unwrap_or(i64::MAX));
        self.metrics.cuts_in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }

    /// Sets how many streamed transactions are open, and how much of them is kept here.
    pub fn spool(&self, transactions: usize, bytes: u64) {
        self.metrics.streamed_transactions.set(i64::try_from(transactions).unwrap_or(i64::MAX));
        self.metrics.spooled_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Keeps an error; only the last [`ERRORS_MAX`] stay.
    pub fn error(&self, error: &Error) {
        let kind = error.kind().label();
        self.metrics.error(kind);
        let error = ErrorStatus {
            at: lake::time::rfc3339(clock::unix_micros()),
            kind: kind.to_owned(),
            error: error.chain(),
            hint: error.hint_text().map(str::to_owned),
        };
        let mut inner = self.lock();
        if inner.errors.len() >= ERRORS_MAX {
            inner.errors.pop_front();
        }
        inner.errors.push_back(error);
    }

    /// Says whether the stream runs.
    pub fn ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
        self.metrics.ready.set(i64::from(ready));
    }

    /// Whether the stream runs.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What is known now.
    pub fn snapshot(&self) -> Document {
        let inner = self.lock();
        let mut document = inner.document.clone();
        let mut left = TABLES_LISTED;
        let listed = inner.tables.values().filter(|table| {
            let is_listed = left > 0 || table.state != TABLE_STREAMING;
            left = left.saturating_sub(1);
            is_listed
        });
        document.tables = listed.cloned().collect();
        document.tables_not_listed = inner.tables.len() - document.tables.len();
        document.rows = inner.tables.values().map(|table| table.rows).sum();
        document.snapshot = inner.snapshots.status(Instant::now());
        document.errors = inner.errors.iter().cloned().collect();
        document
    }

    /// How it goes, without the tables.
    pub fn brief(&self) -> Brief {
        let inner = self.lock();
        let Document { state, positions, lag, .. } = &inner.document;
        let error = match state {
            State::Starting | State::WaitingForSlot | State::Halted => inner.errors.back(),
            State::Streaming | State::Paused | State::Stopping | State::Stopped => None,
        };
        Brief {
            state: *state,
            published: positions.published,
            lag: *lag,
            error: error.map(|last| last.error.clone()),
        }
    }

    /// Whether the loop lives.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// What is known of the snapshot now.
    pub fn snapshot_status(&self) -> SnapshotStatus {
        self.lock().snapshots.status(Instant::now())
    }

    /// Notes how things are now, for the curves of the page.
    pub fn sample(&self) {
        let mut inner = self.lock();
        let Inner { document, tables, history, .. } = &mut *inner;
        // Before the first stream everything would seem to come at once.
        if document.positions.received == Lsn::ZERO {
            return;
        }
        history.note(Sample {
            at: Instant::now(),
            received: document.positions.received,
            rows: tables.values().map(|table| table.rows).sum(),
            // Of a stream that does not run nobody knows how far it is behind.
            lag_seconds: document.lag.seconds.filter(|_| self.is_ready()),
        });
    }

    /// How things were, the oldest first.
    pub fn history(&self) -> Vec<Sample> {
        self.lock().history.samples()
    }

    /// What `/status.json` answers.
    pub fn document(&self) -> Value {
        serde_json::to_value(self.snapshot()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The daemon's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
const TABLE_STREAMING: &str = "streaming";
/// The state of a table whose rows may differ from Postgres until it is read again.
pub const TABLE_NEEDS_RESYNC: &str = "needs_resync";
/// How many tables are listed, besides those that need something.
const TABLES_LISTED: usize = 2_000;
/// How many errors are kept.
const ERRORS_MAX: usize = 20;
/// How many requests to read tables anew may wait for the stream.
const RESYNCS_WAITING: usize = 8;

#[cfg(test)]
mod tests;
