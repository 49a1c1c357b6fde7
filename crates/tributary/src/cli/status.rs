//! `tributary status`: what the daemon says of itself, or what the log says of the lake.
//!
//! Owns: where the answer comes from, and its text.
//! Does not: change anything.
//! Holds: the document has the same form either way. Whoever watches costs the daemon one request a second, and the lake none.
//! Fails: when no daemon answers and the lake has no log, or cannot be read.

use std::io::IsTerminal;
use std::time::Duration;

use lake::store::Store;
use lake::{log, watermark};
use pgoutput::Lsn;

use super::{Answer, print, text};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http;
use crate::pipeline;
use crate::source::{connect_sql, held, slot};
use crate::status::{
    Document, Positions, SlotStatus, SnapshotStatus, SnapshotTable, State, TABLE_NEEDS_RESYNC, TableStatus,
};
use crate::wal_budget::{Budget, Level};

/// Arguments of `status`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct StatusArgs {
    /// Show it again every second, for as long as the daemon answers
    #[arg(short, long)]
    pub watch: bool,
}

pub(super) async fn run(args: &StatusArgs, config: &Config, json: bool) -> Result<Answer> {
    let is_terminal = std::io::stdout().is_terminal();
    while args.watch
        && let Some(document) = from_daemon(config).await
    {
        print(&match json {
            true => format!("{}\n", serde_json::to_value(&document).unwrap_or_default()),
            false if is_terminal => format!("{CLEARED}{}", render(&document, true)),
            false => format!("{}\n", render(&document, false)),
        });
        tokio::time::sleep(WATCH_EVERY).await;
    }
    let document = match from_daemon(config).await {
        Some(document) => document,
        None => tokio::time::timeout(LOG_TIMEOUT, Box::pin(from_log(config))).await.unwrap_or_else(
            |_elapsed| {
                let limit = LOG_TIMEOUT.as_secs();
                let (listen, lake) = (&config.http.listen, &config.lake.url);
                Err(Error::transient(format!(
                    "no daemon answers at `{listen}`, and the lake at {lake} did not within {limit} s"
                )))
            },
        )?,
    };
    let text = render(&document, is_terminal);
    let json = serde_json::to_value(&document)
        .map_err(|error| Error::bug("the status cannot be written").caused_by(error))?;
    Ok(Answer::new(text, json))
}

/// What a daemon of this pipeline says, if one answers.
async fn from_daemon(config: &Config) -> Option<Document> {
    match config.http.listen.as_str() {
        "" => None,
        listen => http::ask_status(listen).await.filter(|document| document.pipeline == config.source.slot),
    }
}

/// Without a daemon.
async fn from_log(config: &Config) -> Result<Document> {
    let store = pipeline::open_store(config).await?;
    let state = log::load(store.as_ref()).await?.ok_or_else(|| {
        Error::definite(format!(
            "no daemon answers at `{}`, and the lake at {} has no log",
            config.http.listen,
            store.url()
        ))
        .hint("`tributary setup --apply` begins a lake, `tributary run` fills it")
    })?;
    let mut document = Document::new(config, State::Stopped);
    document.positions = Positions {
        received: state.to_lsn,
        cut: state.to_lsn,
        logged: state.to_lsn,
        published: published(store.as_ref(), &state).await?,
        confirmed: Lsn::ZERO,
    };
    document.tables = state
        .tables
        .values()
        .map(|table| TableStatus {
            table: table.table.clone(),
            rows: table.totals.rows,
            files: table.totals.files,
            bytes: table.totals.bytes,
            state: match table.needs_resync.is_empty() {
                true => "stopped".to_owned(),
                false => TABLE_NEEDS_RESYNC.to_owned(),
            },
            needs_resync: table.needs_resync.clone(),
        })
        .collect();
    document.snapshot = SnapshotStatus::of(state.snapshots.values().map(SnapshotTable::logged).collect());
    document.rows = document.tables.iter().map(|table| table.rows).sum();
    document.tables.sort_by(|a, b| a.table.cmp(&b.table));
    // The server may be down as well; what the log says is still worth having.
    let budget_bytes = config.source.wal_budget();
    document.slot = match tokio::time::timeout(SLOT_TIMEOUT, Box::pin(slot_of(config, &state.slot))).await {
        Ok(Ok(slot)) => SlotStatus { budget_bytes, ..slot },
        Ok(Err(_)) | Err(_) => SlotStatus { budget_bytes, ..SlotStatus::unknown(&state.slot) },
    };
    document.positions.confirmed = document.slot.confirmed_flush.unwrap_or_default();
    Ok(document)
}

/// Everything that is logged, unless the last cut was logged and its daemon ended before all of its files were visible.
async fn published(store: &dyn Store, state: &log::State) -> Result<Lsn> {
    let Some(cut) = &state.last_cut else { return Ok(state.to_lsn) };
    let is_published = watermark::stands_for(store, cut.seq).await?;
    Ok(if is_published { state.to_lsn } else { cut.from_lsn })
}

async fn slot_of(config: &Config, name: &str) -> Result<SlotStatus> {
    let sql = connect_sql(&config.source_options()?).await?;
    let Some(found) = slot::slot(&sql, name).await? else {
        return Ok(SlotStatus { invalidation: Some(MISSING.to_owned()), ..SlotStatus::unknown(name) });
    };
    let holders = held::holders(&sql, config.primary_options()?.as_ref(), name).await?;
    let budget = config.source.wal_budget();
    let level =
        budget.map_or(Level::Calm, |bytes| Budget::new(bytes).level(found.retained_bytes.unwrap_or(0)));
    let status = SlotStatus::of(name, &found).held(budget, &found, &holders, None);
    Ok(SlotStatus { level, ..status })
}

fn render(document: &Document, bars: bool) -> String {
    let positions = document.positions;
    let mut lines = vec![
        ("pipeline", format!("{} -> {}", document.pipeline, document.lake)),
        ("state", document.state.label().to_owned()),
        ("received", positions.received.to_string()),
        ("cut", positions.cut.to_string()),
        ("logged", positions.logged.to_string()),
        ("published", positions.published.to_string()),
        ("confirmed", positions.confirmed.to_string()),
        ("lag", document.lag.to_string()),
    ];
    if let Some(retained) = document.slot.retained_bytes {
        let status = document.slot.wal_status.as_deref().unwrap_or("unknown");
        lines.push(("slot", format!("keeps {} of log ({status})", text::bytes(retained))));
    }
    if let Some(budget) = document.slot.budget_bytes.filter(|bytes| *bytes > 0)
        && let Some(retained) = document.slot.retained_bytes
    {
        let percent = u128::from(retained) * 100 / u128::from(budget);
        let level = document.slot.level.label();
        lines.push(("budget", format!("{percent} % of {} ({level})", text::bytes(budget))));
    }
    for held in &document.slot.held {
        let bytes = held.bytes.map_or_else(String::new, |bytes| format!("{}, ", text::bytes(bytes)));
        lines.push(("held by", format!("{bytes}{held}")));
    }
    if let Some(frees) = document.slot.drop_frees_bytes {
        let what = match frees {
            0 => "would free nothing: another slot keeps as much".to_owned(),
            frees => {
                format!("would free at most {}, and the lake could not be continued", text::bytes(frees))
            }
        };
        lines.push(("teardown", what));
    }
    if let Some(reason) = &document.slot.invalidation {
        lines.push(("slot", format!("lost: {reason}")));
    }
    let mut out = String::new();
    for (name, value) in lines {
        out.push_str(&format!("{name:<10} {value}\n"));
    }
    out.push_str(&snapshot(&document.snapshot, bars));
    if !document.tables.is_empty() {
        out.push('\n');
        out.push_str(&tables(document));
        if document.tables_not_listed > 0 {
            out.push_str(&format!("and {} tables more\n", document.tables_not_listed));
        }
    }
    if !document.errors.is_empty() {
        out.push_str("\nlast errors\n");
        for error in document.errors.iter().rev().take(ERRORS_SHOWN) {
            out.push_str(&format!("  {}  {}: {}\n", error.at, error.kind, error.error));
            if let Some(hint) = &error.hint {
                out.push_str(&format!("    {hint}\n"));
            }
        }
    }
    out
}

/// A line for each table that is read, with a bar on a terminal; and what was set aside.
fn snapshot(status: &SnapshotStatus, bars: bool) -> String {
    let (lines, aside) = (status.running(), status.aside().count());
    let (done, running) = (status.done(), lines.len());
    if running + aside == 0 {
        return String::new();
    }
    let mut out = format!("\nsnapshot   {done} tables read, {running} to go, {aside} set aside\n");
    let row = |name: &str, percent: Option<f64>, rows: u64, speed: Option<f64>, eta: Option<u64>| {
        let read = percent.map_or_else(|| "waits".to_owned(), |percent| format!("{percent:.1} %"));
        let speed = speed.map_or_else(String::new, |rows| format!("{rows:.0} rows/s"));
        let left = eta.map_or_else(String::new, |seconds| format!("{} left", text::duration(seconds)));
        let mut row = vec![name.to_owned(), read, text::grouped(rows), speed, left];
        if bars {
            row.insert(1, text::bar(percent.unwrap_or(0.0)));
        }
        row
    };
    let mut rows: Vec<Vec<String>> = lines
        .iter()
        .take(SNAPSHOTS_SHOWN)
        .map(|table| row(&table.table, table.percent, table.rows, table.rows_per_second, table.eta_seconds))
        .collect();
    if !rows.is_empty() {
        let total = &status.total;
        if running > 1 && total.percent.is_some() {
            let all = row("all", total.percent, total.rows, total.rows_per_second, total.eta_seconds);
            rows.insert(0, all);
        }
        let (header, right): (&[&str], &[usize]) = match bars {
            true => (&["table", "", "read", "rows", "speed", ""], &[2, 3, 4, 5]),
            false => (&["table", "read", "rows", "speed", ""], &[1, 2, 3, 4]),
        };
        out.push_str(&text::columns(header, right, &rows));
    }
    if running > SNAPSHOTS_SHOWN {
        out.push_str(&format!("  and {} more\n", running - SNAPSHOTS_SHOWN));
    }
    for table in status.aside() {
        let (name, reason) = (&table.table, table.reason.as_deref().unwrap_or("unknown"));
        out.push_str(&format!("  {name} was set aside: {reason}; then: tributary resync {name}\n"));
    }
    out
}

fn tables(document: &Document) -> String {
    let rows: Vec<Vec<String>> = document
        .tables
        .iter()
        .map(|table| {
            vec![
                table.table.clone(),
                text::grouped(table.rows),
                text::grouped(table.files),
                text::bytes(table.bytes),
                match table.needs_resync.is_empty() {
                    true => table.state.clone(),
                    false => format!("needs resync: {}", reasons(table)),
                },
            ]
        })
        .collect();
    text::columns(&["table", "rows", "files", "size", "state"], &[1, 2, 3], &rows)
}

fn reasons(table: &TableStatus) -> String {
    let reasons = table.needs_resync.iter().map(|(column, reason)| format!("{column} ({reason})"));
    reasons.collect::<Vec<_>>().join(", ")
}

/// Of a store that works, whatever the log has to be read.
const LOG_TIMEOUT: Duration = Duration::from_secs(60);
/// Why a lake cannot be continued whose slot nobody has.
const MISSING: &str = "it does not exist; `tributary check` says what can be done";
const SLOT_TIMEOUT: Duration = Duration::from_secs(5);
const ERRORS_SHOWN: usize = 5;
const SNAPSHOTS_SHOWN: usize = 40;
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// The cursor at the top left of a terminal with nothing on it.
const CLEARED: &str = "\x1b[H\x1b[2J";

#[cfg(test)]
mod tests {
    use lake::log::Reading;

    use super::*;
    use crate::status::{ErrorStatus, Lag, SnapshotProgress};

    #[test]
    fn the_text_shows_what_the_document_holds() {
        let mut document = Document::new(&Config::default(), State::Streaming);
        document.lake = "file:///lake".to_owned();
        document.lag = Lag { bytes: Some(10), seconds: Some(1.5) };
        document.slot.retained_bytes = Some(3 << 20);
        document.slot.wal_status = Some("reserved".to_owned());
        document.tables.push(TableStatus {
            table: "public.orders".to_owned(),
            rows: 12_345,
            files: 3,
            bytes: 2_048,
            state: "needs_resync".to_owned(),
            needs_resync: [("price".to_owned(), "its type changed".to_owned())].into(),
        });
        document.errors.push(ErrorStatus {
            at: "2026-08-01T00:00:00.000000Z".to_owned(),
            kind: "transient".to_owned(),
            error: "the server is gone".to_owned(),
            hint: Some("start it".to_owned()),
        });
        assert_eq!(
            render(&document, false),
            "pipeline   tributary -> file:///lake\n\
             state      streaming\n\
             received   0/0\n\
             cut        0/0\n\
             logged     0/0\n\
             published  0/0\n\
             confirmed  0/0\n\
             lag        10 bytes, 1.5 s\n\
             slot       keeps 3.0 MiB of log (reserved)\n\
             \n  table            rows  files     size  state\n  \
             public.orders  12,345      3  2.0 KiB  needs resync: price (its type changed)\n\
             \n\
             last errors\n  \
             2026-08-01T00:00:00.000000Z  transient: the server is gone\n    \
             start it\n"
        );
    }

    #[test]
    fn a_snapshot_shows_what_runs_and_what_was_set_aside() {
        let table = |name: &str, state| SnapshotTable {
            percent: Some(50.0),
            chunks: Some(2),
            rows_per_second: Some(99.6),
            eta_seconds: Some(3_725),
            ..SnapshotTable::logged(&log::TableSnapshot {
                table: name.to_owned(),
                state,
                rows: 1_500,
                ..Default::default()
            })
        };
        let mut aside = table("public.a", Reading::SetAside);
        aside.reason = Some("permission denied".to_owned());
        let status = SnapshotStatus::of(vec![
            aside,
            table("public.b", Reading::Running),
            table("public.c", Reading::Done),
        ]);
        assert_eq!(
            snapshot(&status, false),
            "\nsnapshot   1 tables read, 1 to go, 1 set aside\n  \
             table       read   rows       speed\n  \
             public.b  50.0 %  1,500  100 rows/s  1 h 2 min left\n  \
             public.a was set aside: permission denied; then: tributary resync public.a\n"
        );
        assert!(snapshot(&status, true).contains("public.b  ##########----------  50.0 %"));
        let mut two = SnapshotStatus::of(vec![
            table("public.b", Reading::Running),
            table("public.c", Reading::Running),
        ]);
        two.total = SnapshotProgress { percent: Some(25.0), rows: 3_000, ..SnapshotProgress::default() };
        assert!(snapshot(&two, false).contains("  all       25.0 %  3,000\n"), "{}", snapshot(&two, false));
        assert_eq!(snapshot(&SnapshotStatus::of(vec![table("public.c", Reading::Done)]), false), "");
    }
}
