//! Every metric of the daemon, with its unit and its help; `docs/metrics.md` is made of them.
//!
//! Owns: the registry, and what `/metrics` prints.
//! Does not: measure; the pipeline does, through `status`.
//! Holds: names are `tributary_<thing>_<unit>[_total]` in base units, and `process_…` as every program has them; labels are bounded:
//! after [`TABLES_MAX`] tables the rest share one label, and so do columns after [`LOSSY_COLUMNS_MAX`]. Nothing is counted row by row.
//! Fails: never; a metric that cannot be made stops the first test.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lake::log::Reading;
use pgoutput::Lsn;
use prometheus::{
    Counter, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use tables::types::Loss;

use crate::status::{State, VERSION};

mod declare;
mod process;
mod requests;
mod slot;

use declare::Declarations;
pub(crate) use declare::OptionalGauge;
pub use declare::{Declared, Unit};
use process::ProcessMetrics;
pub use requests::Measured;
use requests::StoreMetrics;
use slot::SlotMetrics;

/// The metrics; most are set through `status::Shared`, together with what it shows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    declared: Vec<Declared>,
    tables: Mutex<BTreeSet<String>>,
    lossy_columns: Mutex<BTreeSet<(String, String)>>,
    pipeline: IntGaugeVec,
    states: IntGaugeVec,
    pub(crate) ready: IntGauge,
    pub(crate) received_lsn: IntGauge,
    pub(crate) cut_lsn: IntGauge,
    pub(crate) logged_lsn: IntGauge,
    pub(crate) published_lsn: IntGauge,
    pub(crate) confirmed_lsn: IntGauge,
    pub(crate) lag_bytes: OptionalGauge,
    pub(crate) lag_seconds: OptionalGauge,
    pub(crate) published_commit_time: OptionalGauge,
    freshness: Histogram,
    stages: HistogramVec,
    pub(crate) slot: SlotMetrics,
    rows: IntCounterVec,
    files: IntCounterVec,
    bytes: IntCounterVec,
    lossy_cells: IntCounterVec,
    not_inserts: IntCounterVec,
    needs_resync: IntGaugeVec,
    pub(crate) cuts: IntCounter,
    pub(crate) cuts_in_flight: IntGauge,
    log_entries: IntCounterVec,
    snapshot_rows: IntCounterVec,
    snapshot_bytes: IntCounterVec,
    snapshot_chunks: IntGaugeVec,
    snapshot_state: IntGaugeVec,
    snapshot_tables: IntGaugeVec,
    memory: IntGaugeVec,
    pub(crate) memory_budget: IntGauge,
    pub(crate) buffered_rows: IntGauge,
    pub(crate) reading_paused: IntGauge,
    pub(crate) paused_seconds: Counter,
    pub(crate) streamed_transactions: IntGauge,
    pub(crate) spooled_bytes: IntGauge,
    errors: IntCounterVec,
    retries: IntCounterVec,
    /// Streams that ended and were begun again.
    pub reconnects: IntCounter,
    store: StoreMetrics,
    process: ProcessMetrics,
}

/// A part of the way from Postgres to the lake that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the server's sending to our having it.
    Read,
    /// What came with one read is decoded, folded and put into builders.
    Decode,
    /// Rows become Parquet.
    Encode,
    /// A part goes to the store.
    Upload,
    /// From the end of a cut to its durable entry.
    Log,
    /// From there to the last visible file.
    Publish,
    /// From there until Postgres is told.
    Confirm,
}

impl Stage {
    const ALL: [Stage; 7] = [
        Stage::Read,
        Stage::Decode,
        Stage::Encode,
        Stage::Upload,
        Stage::Log,
        Stage::Publish,
        Stage::Confirm,
    ];

    fn label(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Decode => "decode",
            Stage::Encode => "encode",
            Stage::Upload => "upload",
            Stage::Log => "log",
            Stage::Publish => "publish",
            Stage::Confirm => "confirm",
        }
    }
}

impl Metrics {
    /// All of them, at zero.
    pub(crate) fn new() -> Metrics {
        let mut declare = Declarations::default();
        let d = &mut declare;
        d.section("The daemon");
        d.gauges("tributary_build_info", Unit::Flag, &["version"], "Always 1; the version is the label.")
            .with_label_values(&[VERSION])
            .set(1);
        let pipeline = d.gauges(
            "tributary_pipeline_info",
            Unit::Flag,
            &["pipeline", "lake"],
            "Always 1; the labels are the slot's name and where the lake is.",
        );
        let states = d.gauges(
            "tributary_state",
            Unit::Flag,
            &["state"],
            "1 for what the daemon is doing: starting, waiting_for_slot, streaming, paused, stopping, halted.",
        );
        let ready = d.gauge("tributary_ready", Unit::Flag, "1 while the stream runs.");
        let errors = d.counters(
            "tributary_errors_total",
            Unit::Count("errors"),
            &["kind"],
            "Errors, by what had to happen next.",
        );
        let retries = d.counters(
            "tributary_retries_total",
            Unit::Count("retries"),
            &["cause"],
            "What was tried again: store (a request), stream (from its opening on), snapshot (a part, or at a new point), partitions (a look at the catalogs).",
        );
        let reconnects = d.counter(
            "tributary_reconnects_total",
            Unit::Count("streams"),
            "Streams that ended and were begun again.",
        );

        d.section("Positions and lag");
        let received_lsn = d.gauge(
            "tributary_received_lsn",
            Unit::Lsn,
            "End of the last transaction received from Postgres.",
        );
        let cut_lsn = d.gauge("tributary_cut_lsn", Unit::Lsn, "End of the last cut.");
        let logged_lsn =
            d.gauge("tributary_logged_lsn", Unit::Lsn, "End of the last cut whose log entry is durable.");
        let published_lsn =
            d.gauge("tributary_published_lsn", Unit::Lsn, "End of the last cut whose files are visible.");
        let confirmed_lsn =
            d.gauge("tributary_confirmed_lsn", Unit::Lsn, "What Postgres was told it may forget.");
        let lag_bytes = d.optional_gauge(
            "tributary_lag_bytes",
            Unit::Bytes,
            "Bytes of log that were received and are not published yet; no series without a stream.",
        );
        let lag_seconds = d.optional_gauge(
            "tributary_lag_seconds",
            Unit::Seconds,
            "Age of the oldest committed row that is not published yet; no series without a stream.",
        );
        let published_commit_time = d.optional_gauge(
            "tributary_published_commit_timestamp_seconds",
            Unit::Time,
            "Commit time of the last transaction that is published; no series before the first one.",
        );
        let freshness = d.histogram(
            "tributary_freshness_seconds",
            &FRESHNESS_BUCKETS,
            "From the commit of the oldest transaction of a cut, by the clock of Postgres, until its rows are visible.",
        );
        let stages = d.histograms(
            "tributary_stage_seconds",
            &SECONDS_BUCKETS,
            &["stage"],
            "How long it takes: read (from the server's sending, by both clocks), decode (what came with one read), encode (a batch), \
             upload (a part), log (from the end of a cut to its durable entry), publish (from there to the last visible file), confirm \
             (from there until Postgres is told).",
        );

        let slot = SlotMetrics::declare(d);

        d.section("Tables");
        let rows = d.counters("tributary_rows_total", Unit::Count("rows"), &["table"], "Rows published.");
        let files = d.counters("tributary_files_total", Unit::Count("files"), &["table"], "Files published.");
        let bytes = d.counters("tributary_bytes_total", Unit::Bytes, &["table"], "Bytes of files published.");
        let lossy_cells = d.counters(
            "tributary_lossy_cells_total",
            Unit::Count("cells"),
            &["table", "column", "reason"],
            "Cells whose exact text went to _cdc_raw, by what their lake type cannot hold.",
        );
        let not_inserts = d.counters(
            "tributary_not_inserts_total",
            Unit::Count("rows"),
            &["table"],
            "Updates, deletions and truncations of tables that are laid out by columns as insert-only ones.",
        );
        let needs_resync = d.gauges(
            "tributary_table_needs_resync",
            Unit::Flag,
            &["table"],
            "1 for a table whose older rows may differ from Postgres until it is read again.",
        );

        d.section("Cuts");
        let cuts = d.counter("tributary_cuts_total", Unit::Count("cuts"), "Cuts published.");
        let cuts_in_flight = d.gauge(
            "tributary_cuts_in_flight",
            Unit::Count("cuts"),
            "Cuts that are made and not published yet.",
        );
        let log_entries = d.counters(
            "tributary_log_entries_total",
            Unit::Count("entries"),
            &["kind"],
            "Log entries written.",
        );

        d.section("Snapshots");
        let snapshot_rows = d.counters(
            "tributary_snapshot_rows_total",
            Unit::Count("rows"),
            &["table"],
            "Rows read by snapshots.",
        );
        let snapshot_bytes = d.counters(
            "tributary_snapshot_bytes_total",
            Unit::Bytes,
            &["table"],
            "Bytes read by snapshots, as Postgres sent them.",
        );
        let snapshot_chunks = d.gauges(
            "tributary_snapshot_chunks",
            Unit::Count("parts"),
            &["table", "chunks"],
            "Parts of the table's last snapshot that are read since the daemon runs, and that were to be read.",
        );
        let snapshot_state = d.gauges(
            "tributary_snapshot_state",
            Unit::Count("1, 2 or 3"),
            &["table"],
            "1 while the table's rows are being read, 2 when they are, 3 if it was set aside.",
        );
        let snapshot_tables = d.gauges(
            "tributary_snapshot_tables",
            Unit::Count("tables"),
            &["state"],
            "Tables that have or had a snapshot, by its state.",
        );

        d.section("Memory and backpressure");
        let memory = d.gauges(
            "tributary_memory_bytes",
            Unit::Bytes,
            &["part"],
            "Bytes of the memory budget in use, by purpose.",
        );
        let memory_budget = d.gauge(
            "tributary_memory_budget_bytes",
            Unit::Bytes,
            "The budget; reading pauses at half of it.",
        );
        let buffered_rows = d.gauge("tributary_buffered_rows", Unit::Count("rows"), "Rows of the open cut.");
        let reading_paused = d.gauge(
            "tributary_reading_paused",
            Unit::Flag,
            "1 while nothing is read, since the memory budget is used up, or encoders have enough to do.",
        );
        let paused_seconds = d.float_counter(
            "tributary_reading_paused_seconds_total",
            Unit::Seconds,
            "For how long nothing was read, since the memory budget was used up, or encoders had enough to do.",
        );
        let streamed_transactions = d.gauge(
            "tributary_streamed_transactions",
            Unit::Count("transactions"),
            "Transactions that Postgres streams and that have not committed yet.",
        );
        let spooled_bytes = d.gauge(
            "tributary_spooled_bytes",
            Unit::Bytes,
            "Bytes of such transactions, and of one that just committed, in memory and on disk.",
        );

        let store = StoreMetrics::declare(d);
        let process = ProcessMetrics::declare(d);
        let (registry, declared) = declare.finish();
        let metrics = Metrics {
            registry,
            declared,
            tables: Mutex::default(),
            lossy_columns: Mutex::default(),
            pipeline,
            states,
            ready,
            received_lsn,
            cut_lsn,
            logged_lsn,
            published_lsn,
            confirmed_lsn,
            lag_bytes,
            lag_seconds,
            published_commit_time,
            freshness,
            stages,
            slot,
            rows,
            files,
            bytes,
            lossy_cells,
            not_inserts,
            needs_resync,
            cuts,
            cuts_in_flight,
            log_entries,
            snapshot_rows,
            snapshot_bytes,
            snapshot_chunks,
            snapshot_state,
            snapshot_tables,
            memory,
            memory_budget,
            buffered_rows,
            reading_paused,
            paused_seconds,
            streamed_transactions,
            spooled_bytes,
            errors,
            retries,
            reconnects,
            store,
            process,
        };
        metrics.declare_labels();
        metrics
    }

    /// Every metric, in the order of their sections.
    pub fn declared(&self) -> &[Declared] {
        &self.declared
    }

    /// Names the pipeline.
    pub(crate) fn pipeline(&self, slot: &str, lake: &str) {
        self.pipeline.with_label_values(&[slot, lake]).set(1);
    }

    /// Says what the daemon is doing.
    pub(crate) fn state(&self, state: State) {
        for known in State::ALL {
            self.states.with_label_values(&[known.label()]).set(i64::from(known == state));
        }
    }

    /// Times a part of the way.
    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        self.stages.with_label_values(&[stage.label()]).observe(took.as_secs_f64());
    }

    /// How old the oldest transaction of a cut was when it became visible, in microseconds.
    pub(crate) fn freshness(&self, micros: i64) {
        // Two clocks: a row that is visible before its commit is as fresh as can be.
        self.freshness.observe(seconds_of(micros.max(0)));
    }

    /// What counts that something is tried again.
    pub(crate) fn retries(&self, cause: &str) -> IntCounter {
        self.retries.with_label_values(&[cause])
    }

    /// Counts what was published of a table.
    pub(crate) fn published(&self, table: &str, rows: u64, bytes: u64, files: u64) {
        let label = [self.table_label(table)];
        self.rows.with_label_values(&label).inc_by(rows);
        self.bytes.with_label_values(&label).inc_by(bytes);
        self.files.with_label_values(&label).inc_by(files);
    }

    /// Counts cells that went to `_cdc_raw`.
    pub(crate) fn lossy_cells(&self, table: &str, column: &str, loss: Loss, cells: u64) {
        let (table, column) = self.column_labels(table, column);
        self.lossy_cells.with_label_values(&[table, column, loss.label()]).inc_by(cells);
    }

    /// Counts changes that an insert-only table should not have; whether they are the first.
    pub(crate) fn not_inserts(&self, table: &str, rows: u64) -> bool {
        let counter = self.not_inserts.with_label_values(&[self.table_label(table)]);
        let is_first = counter.get() == 0;
        counter.inc_by(rows);
        is_first
    }

    /// Marks a table whose older rows may differ from Postgres.
    pub(crate) fn needs_resync(&self, table: &str) {
        self.needs_resync.with_label_values(&[self.table_label(table)]).set(1);
    }

    /// Counts what a snapshot read of a table.
    pub(crate) fn snapshot_read(&self, table: &str, rows: u64, bytes: u64) {
        let label = [self.table_label(table)];
        self.snapshot_rows.with_label_values(&label).inc_by(rows);
        self.snapshot_bytes.with_label_values(&label).inc_by(bytes);
    }

    /// Sets how many parts are read and were to be: by the difference, since tables may share a label.
    pub(crate) fn snapshot_chunks(&self, table: &str, before: (u64, u64), after: (u64, u64)) {
        let table = self.table_label(table);
        for (name, before, after) in [("done", before.0, after.0), ("expected", before.1, after.1)] {
            let difference = i64::try_from(i128::from(after) - i128::from(before)).unwrap_or(0);
            self.snapshot_chunks.with_label_values(&[table, name]).add(difference);
        }
    }

    /// Notes that a table's snapshot is in another state. Tables that share a label have no state of their own.
    pub(crate) fn snapshot_turned(&self, table: &str, before: Option<Reading>, after: Reading) {
        if let Some(before) = before {
            self.snapshot_tables.with_label_values(&[before.label()]).dec();
        }
        self.snapshot_tables.with_label_values(&[after.label()]).inc();
        let label = self.table_label(table);
        if label == OTHER_TABLES {
            return;
        }
        let state = match after {
            Reading::Running => 1,
            Reading::Done => 2,
            Reading::SetAside => 3,
        };
        self.snapshot_state.with_label_values(&[label]).set(state);
    }

    /// Counts a log entry of a kind.
    pub(crate) fn log_entry(&self, kind: &str) {
        self.log_entries.with_label_values(&[kind]).inc();
    }

    /// Counts an error.
    pub(crate) fn error(&self, kind: &str) {
        self.errors.with_label_values(&[kind]).inc();
    }

    /// Sets what the memory budget is used for.
    pub(crate) fn memory(&self, part: &str, bytes: usize) {
        self.memory.with_label_values(&[part]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        self.process.update();
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "the metrics cannot be printed");
        }
        text
    }

    /// A table's own label, or the shared one once there are too many.
    fn table_label<'a>(&self, table: &'a str) -> &'a str {
        let mut known = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(table) {
            return table;
        }
        if known.len() >= TABLES_MAX {
            return OTHER_TABLES;
        }
        known.insert(table.to_owned());
        table
    }

    /// A column's own labels, or the shared ones once there are too many. Only columns that ever lost something have any.
    fn column_labels<'a>(&self, table: &'a str, column: &'a str) -> (&'a str, &'a str) {
        let mut known = self.lossy_columns.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (table.to_owned(), column.to_owned());
        if known.len() >= LOSSY_COLUMNS_MAX && !known.contains(&key) {
            return (OTHER_TABLES, OTHER_COLUMNS);
        }
        known.insert(key);
        (table, column)
    }

    /// Labels whose values are known start at zero, so that a rate has a beginning.
    fn declare_labels(&self) {
        for kind in ["open", "commit", "idle", "void"] {
            self.log_entries.with_label_values(&[kind]);
        }
        for kind in ["config", "definite", "transient", "fenced", "source_halted", "bug"] {
            self.errors.with_label_values(&[kind]);
        }
        for state in [Reading::Running, Reading::Done, Reading::SetAside] {
            self.snapshot_tables.with_label_values(&[state.label()]);
        }
        for part in ["buffers", "waiting", "encoders", "parts", "spool"] {
            self.memory.with_label_values(&[part]);
        }
        for cause in ["store", "stream", "snapshot", "partitions"] {
            self.retries.with_label_values(&[cause]);
        }
        for stage in Stage::ALL {
            self.stages.with_label_values(&[stage.label()]);
        }
        self.state(State::Starting);
    }
}

/// A position as a gauge.
pub(crate) fn set_lsn(gauge: &IntGauge, lsn: Lsn) {
    gauge.set(lsn.as_i64());
}

/// Microseconds as Prometheus has them.
pub(crate) fn seconds_of(micros: i64) -> f64 {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}

/// From a read that is there already, by a folder on a fast disk, to a store in trouble.
const SECONDS_BUCKETS: [f64; 13] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// From a cut every second to a day that was missed.
const FRESHNESS_BUCKETS: [f64; 14] =
    [0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 90.0, 120.0, 300.0, 600.0, 1_800.0, 7_200.0, 86_400.0];
/// Tables with a label of their own; up to ten series each.
const TABLES_MAX: usize = 1_000;
/// The label of all others.
const OTHER_TABLES: &str = "(others)";
/// Columns with labels of their own where cells are lossy; a series for each reason that occurred.
const LOSSY_COLUMNS_MAX: usize = 2_000;
/// The label of all others.
const OTHER_COLUMNS: &str = "(others)";

#[cfg(test)]
mod tests;
