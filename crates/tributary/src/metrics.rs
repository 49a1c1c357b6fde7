//! Every metric of the daemon, with its unit and its help.
//!
//! Owns: the registry, and what `/metrics` prints.
//! Does not: measure; the pipeline does, through `status`.
//! Holds: names are `tributary_<thing>_<unit>[_total]` in base units; labels are bounded: after [`TABLES_MAX`] tables the
//! rest share one label, and so do columns after [`LOSSY_COLUMNS_MAX`].
//! Fails: never; a metric that cannot be made stops the first test.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use lake::log::Reading;
use pgoutput::Lsn;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use tables::types::Loss;

use crate::status::VERSION;

/// The metrics; most are set through `status::Shared`, together with what it shows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    tables: Mutex<BTreeSet<String>>,
    lossy_columns: Mutex<BTreeSet<(String, String)>>,
    pub(crate) received_lsn: IntGauge,
    pub(crate) cut_lsn: IntGauge,
    pub(crate) logged_lsn: IntGauge,
    pub(crate) published_lsn: IntGauge,
    pub(crate) confirmed_lsn: IntGauge,
    pub(crate) lag_bytes: IntGauge,
    pub(crate) lag_seconds: Gauge,
    pub(crate) slot_retained_bytes: IntGauge,
    pub(crate) ready: IntGauge,
    pub(crate) reading_paused: IntGauge,
    pub(crate) streamed_transactions: IntGauge,
    pub(crate) spooled_bytes: IntGauge,
    pub(crate) log_seconds: Histogram,
    pub(crate) publish_seconds: Histogram,
    rows: IntCounterVec,
    files: IntCounterVec,
    bytes: IntCounterVec,
    lossy_cells: IntCounterVec,
    not_inserts: IntCounterVec,
    needs_resync: IntGaugeVec,
    snapshot_rows: IntCounterVec,
    snapshot_bytes: IntCounterVec,
    snapshot_chunks: IntGaugeVec,
    snapshot_state: IntGaugeVec,
    snapshot_tables: IntGaugeVec,
    log_entries: IntCounterVec,
    errors: IntCounterVec,
    memory: IntGaugeVec,
    pub(crate) cuts: IntCounter,
    /// Streams that ended and were begun again.
    pub reconnects: IntCounter,
}

impl Metrics {
    /// All of them, at zero.
    pub(crate) fn new() -> Metrics {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, label: &str| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), &[label]))
        };
        let gauges = |name: &str, help: &str, label: &str| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), &[label]))
        };
        let seconds = |name: &str, help: &str| {
            let buckets = SECONDS_BUCKETS.to_vec();
            register(&registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
        };
        let lag_seconds =
            Gauge::new("tributary_lag_seconds", "Age of the oldest committed row that is not published yet.");
        gauges("tributary_build_info", "Always 1; the version is the label.", "version")
            .with_label_values(&[VERSION])
            .set(1);
        let metrics = Metrics {
            tables: Mutex::default(),
            lossy_columns: Mutex::default(),
            received_lsn: gauge(
                "tributary_received_lsn",
                "End of the last transaction received from Postgres.",
            ),
            cut_lsn: gauge("tributary_cut_lsn", "End of the last cut."),
            logged_lsn: gauge("tributary_logged_lsn", "End of the last cut whose log entry is durable."),
            published_lsn: gauge("tributary_published_lsn", "End of the last cut whose files are visible."),
            confirmed_lsn: gauge("tributary_confirmed_lsn", "What Postgres was told it may forget."),
            lag_bytes: gauge(
                "tributary_lag_bytes",
                "Bytes of log that were received and are not published yet.",
            ),
            lag_seconds: register(&registry, lag_seconds),
            slot_retained_bytes: gauge(
                "tributary_slot_retained_bytes",
                "Bytes of log that Postgres keeps for the slot.",
            ),
            ready: gauge("tributary_ready", "1 while the stream runs."),
            reading_paused: gauge(
                "tributary_reading_paused",
                "1 while the memory budget is used up and nothing is read.",
            ),
            streamed_transactions: gauge(
                "tributary_streamed_transactions",
                "Transactions that Postgres streams and that have not committed yet.",
            ),
            spooled_bytes: gauge(
                "tributary_spooled_bytes",
                "Bytes of such transactions, and of one that just committed, in memory and on disk.",
            ),
            log_seconds: seconds("tributary_log_seconds", "From the end of a cut to its durable log entry."),
            publish_seconds: seconds(
                "tributary_publish_seconds",
                "From the durable log entry to the last visible file.",
            ),
            rows: counters("tributary_rows_total", "Rows published.", "table"),
            files: counters("tributary_files_total", "Files published.", "table"),
            bytes: counters("tributary_bytes_total", "Bytes of files published.", "table"),
            lossy_cells: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "tributary_lossy_cells_total",
                        "Cells whose exact text went to _cdc_raw, by what their lake type cannot hold.",
                    ),
                    &["table", "column", "reason"],
                ),
            ),
            not_inserts: counters(
                "tributary_not_inserts_total",
                "Updates, deletions and truncations of tables that are laid out by columns as insert-only ones.",
                "table",
            ),
            needs_resync: gauges(
                "tributary_table_needs_resync",
                "1 for a table whose older rows may differ from Postgres until it is read again.",
                "table",
            ),
            snapshot_rows: counters("tributary_snapshot_rows_total", "Rows read by snapshots.", "table"),
            snapshot_bytes: counters(
                "tributary_snapshot_bytes_total",
                "Bytes read by snapshots, as Postgres sent them.",
                "table",
            ),
            snapshot_chunks: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "tributary_snapshot_chunks",
                        "Parts of the table's last snapshot that are read since the daemon runs, and that were to be read.",
                    ),
                    &["table", "chunks"],
                ),
            ),
            snapshot_state: gauges(
                "tributary_snapshot_state",
                "1 while the table's rows are being read, 2 when they are, 3 if it was set aside.",
                "table",
            ),
            snapshot_tables: gauges(
                "tributary_snapshot_tables",
                "Tables that have or had a snapshot, by its state.",
                "state",
            ),
            log_entries: counters("tributary_log_entries_total", "Log entries written.", "kind"),
            errors: counters("tributary_errors_total", "Errors, by what had to happen next.", "kind"),
            memory: gauges(
                "tributary_memory_bytes",
                "Bytes of the memory budget in use, by purpose.",
                "part",
            ),
            cuts: counter("tributary_cuts_total", "Cuts published."),
            reconnects: counter("tributary_reconnects_total", "Streams that ended and were begun again."),
            registry: registry.clone(),
        };
        metrics.declare_labels();
        metrics
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
        for part in ["buffers", "encoders", "parts", "spool"] {
            self.memory.with_label_values(&[part]);
        }
    }
}

/// A position as a gauge.
pub(crate) fn set_lsn(gauge: &IntGauge, lsn: Lsn) {
    gauge.set(lsn.as_i64());
}

fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("names, labels and buckets are constants, and every test makes them");
    registry.register(Box::new(metric.clone())).expect("every name stands once");
    metric
}

/// From a folder on a fast disk to a store in trouble.
const SECONDS_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// Tables with a label of their own; up to eight series each.
const TABLES_MAX: usize = 1_000;
/// The label of all others.
const OTHER_TABLES: &str = "(others)";
/// Columns with labels of their own where cells are lossy; a series for each reason that occurred.
const LOSSY_COLUMNS_MAX: usize = 2_000;
/// The label of all others.
const OTHER_COLUMNS: &str = "(others)";

#[cfg(test)]
mod tests;
