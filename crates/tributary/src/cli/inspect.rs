//! `tributary inspect`: what the lake's log holds, and how types are mapped.
//!
//! Owns: finding entries, and showing them.
//! Does not: change anything.
//! Holds: reads only as many entries as it shows, however long the log is.
//! Fails: when there is no log, or an entry of it cannot be read.

use clap::Subcommand;
use lake::layout;
use lake::log::{self, Entry, EntryKind, Event, FileEntry, State, Totals};
use lake::store::Store;
use pgoutput::Lsn;
use serde_json::{Value, json};

use super::{Answer, text};
use crate::config::Config;
use crate::error::Result;
use crate::pipeline::{self, bootstrap};

mod types;

/// Arguments of `inspect`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct InspectArgs {
    /// Which log entry and files hold this LSN
    #[arg(long, value_name = "LSN")]
    pub lsn: Option<Lsn>,
    /// What to look at.
    #[command(subcommand)]
    pub what: Option<What>,
}

/// What can be looked at.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// The newest log entries
    Log {
        /// How many
        #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        last: u64,
        /// One entry, whole
        #[arg(long, value_name = "NUMBER", conflicts_with = "last", value_parser = clap::value_parser!(u64).range(1..))]
        seq: Option<u64>,
    },
    /// What the whole log folds to: where a resume starts, tables, leaves (also without a word)
    State,
    /// How the columns of the published tables are mapped
    Types,
}

pub(super) async fn run(args: &InspectArgs, config: &Config) -> Result<Answer> {
    if let Some(What::Types) = args.what {
        return types::run(config).await;
    }
    let store = pipeline::open_store(config).await?;
    let store = store.as_ref();
    let state = bootstrap::require_log(store).await?;
    match (&args.what, args.lsn) {
        (Some(What::Log { seq: Some(seq), .. }), _) => {
            let entry = log::read(store, layout::log_key(*seq)).await?;
            Ok(Answer::new(show_entry(&entry, None), json!(entry)))
        }
        (Some(What::Log { last, .. }), _) => show_log(store, &state, *last).await,
        (_, Some(lsn)) => show_lsn(store, &state, lsn).await,
        (_, None) => Ok(Answer::new(show_state(store, &state), json!(state))),
    }
}

async fn show_log(store: &dyn Store, state: &State, last: u64) -> Result<Answer> {
    let mut entries = Vec::new();
    for seq in state.seq.saturating_sub(last - 1).max(1)..=state.seq {
        entries.push(log::read(store, layout::log_key(seq)).await?);
    }
    let rows: Vec<Vec<String>> = entries.iter().map(log_row).collect();
    let header = ["seq", "kind", "from", "to", "files", "rows", "size", "commit time"];
    Ok(Answer::new(text::columns(&header, &[0, 4, 5, 6], &rows), json!(entries)))
}

fn log_row(entry: &Entry) -> Vec<String> {
    let totals = totals(entry);
    vec![
        entry.seq.to_string(),
        entry.kind.label().to_owned(),
        entry.from_lsn.to_string(),
        entry.to_lsn.to_string(),
        text::grouped(totals.files),
        text::grouped(totals.rows),
        text::bytes(totals.bytes),
        entry.to_commit_ts.clone().unwrap_or_default(),
    ]
}

fn totals(entry: &Entry) -> Totals {
    entry.tables.iter().map(Totals::of).fold(Totals::default(), |sum, table| Totals {
        rows: sum.rows + table.rows,
        files: sum.files + table.files,
        bytes: sum.bytes + table.bytes,
    })
}

/// The entry whole; with an LSN only the files that hold rows of that commit.
fn show_entry(entry: &Entry, lsn: Option<Lsn>) -> String {
    let mut out = format!(
        "log entry {}  {}  ({}, {}]  epoch {}  by {}\n",
        entry.seq,
        entry.kind.label(),
        entry.from_lsn,
        entry.to_lsn,
        entry.epoch,
        entry.owner
    );
    if let Some(time) = &entry.to_commit_ts {
        out.push_str(&format!("  complete up to commit time {time}\n"));
    }
    for event in &entry.events {
        out.push_str(&format!("  event  {}\n", event_line(event)));
    }
    let all: Vec<&FileEntry> = entry.tables.iter().flat_map(|table| &table.files).collect();
    let spans = |file: &FileEntry, lsn: Lsn| {
        let [first, last] = file.lsn_range;
        (first..=last).contains(&lsn)
    };
    let mut shown: Vec<&FileEntry> = match lsn {
        Some(lsn) => all.iter().copied().filter(|file| spans(file, lsn)).collect(),
        None => all.clone(),
    };
    if shown.is_empty() && !all.is_empty() {
        out.push_str("  no file has rows of commits on both sides of it; these are the entry's files\n");
        shown = all;
    }
    let rows: Vec<Vec<String>> = shown.into_iter().map(file_row).collect();
    if !rows.is_empty() {
        out.push_str(&text::columns(&["file", "rows", "size", "commit LSNs"], &[1, 2], &rows));
    }
    out
}

fn file_row(file: &FileEntry) -> Vec<String> {
    let [first, last] = file.lsn_range;
    vec![file.key.clone(), text::grouped(file.rows), text::bytes(file.bytes), format!("{first}..{last}")]
}

fn event_line(event: &Event) -> String {
    match event {
        Event::Schema { table, schema_id, .. } => format!("schema version {schema_id} of {table}"),
        Event::Attach { root, leaves } => format!("{} leaves of the root with OID {root}", leaves.len()),
        Event::Detach { table, leaves, dropped, lsn, marked, .. } => {
            let what = if *dropped { "dropped" } else { "detached" };
            let rows = if *marked { "their rows count no more" } else { "their rows stay" };
            format!("{} leaves of {table} were {what} before {lsn}; {rows}", leaves.len())
        }
        Event::Partitions { attached, gone } => {
            format!("{} partitions attached, {} gone", attached.len(), gone.len())
        }
        Event::Truncate { table, relation, commit_lsn } => {
            format!("truncate of {relation} (table {table}) at {commit_lsn}")
        }
        Event::SnapshotStart { table, supersedes: false, .. } => {
            format!("the rows of {table} are to be read")
        }
        Event::SnapshotStart { table, supersedes: true, .. } => {
            format!("the rows of {table} are to be read anew")
        }
        Event::SnapshotChunk(chunk) => {
            format!("{} rows of {} read at {}", chunk.rows, chunk.table, chunk.lsn)
        }
        Event::SnapshotEnd { table, reason: None, rows, .. } => {
            format!("all {rows} rows of {table} are read")
        }
        Event::SnapshotEnd { table, reason: Some(reason), .. } => format!("{table} cannot be read: {reason}"),
        Event::Timeline { from, to } => format!("timeline {from} became {to}"),
        Event::Publication { names, definition, .. } => {
            format!(
                "publication {} with definition {}",
                names.join(", "),
                definition.get(..12).unwrap_or(definition)
            )
        }
        Event::Rename { table, schema_name, table_name, .. } => {
            format!("{table} is called {schema_name}.{table_name} in Postgres")
        }
        Event::NeedsResync { table, column, reason, .. } => {
            format!("{table} needs a resync: column {column}, {reason}")
        }
        Event::Orphan { relation, table } => {
            format!("{table} (OID {relation}) became a table of its own: the catalogs do not know it")
        }
        Event::Void { seq, reason } => format!("log entry {seq} counts no more: {reason}"),
        Event::Other(value) => value.get("kind").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
    }
}

async fn show_lsn(store: &dyn Store, state: &State, lsn: Lsn) -> Result<Answer> {
    let found = find(state.seq, lsn, async |seq| Ok(log::read(store, layout::log_key(seq)).await?)).await?;
    match found {
        Found::In(entry) => {
            let document = json!({"lsn": lsn, "found": "logged", "entry": entry});
            Ok(Answer::new(show_entry(&entry, Some(lsn)), document))
        }
        Found::Before(from) => Ok(Answer::new(
            format!("{lsn} is before the lake's beginning, {from}\n"),
            json!({"lsn": lsn, "found": "before", "from": from}),
        )),
        Found::After => Ok(Answer::new(
            format!("{lsn} is not in the lake yet: the log ends at {}\n", state.to_lsn),
            json!({"lsn": lsn, "found": "after", "to": state.to_lsn}),
        )),
    }
}

/// Where an LSN is.
#[derive(Debug, PartialEq)]
enum Found {
    In(Box<Entry>),
    Before(Lsn),
    After,
}

/// The entry that counts for an LSN, by halving; a void entry is the one place where the log goes back.
async fn find(last: u64, lsn: Lsn, read: impl AsyncFn(u64) -> Result<Entry>) -> Result<Found> {
    let mut from = 1;
    loop {
        let (mut low, mut high) = (from, last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if read(middle).await?.to_lsn >= lsn { high = middle } else { low = middle + 1 }
        }
        if low > last {
            return Ok(Found::After);
        }
        let entry = read(low).await?;
        if entry.from_lsn >= lsn {
            return Ok(Found::Before(entry.from_lsn));
        }
        match voided_by(&entry, last, &read).await? {
            Some(void) => from = void + 1,
            None => return Ok(Found::In(Box::new(entry))),
        }
    }
}

/// The void entry that takes an entry back; only `open` entries can stand in between.
async fn voided_by(
    entry: &Entry,
    last: u64,
    read: &impl AsyncFn(u64) -> Result<Entry>,
) -> Result<Option<u64>> {
    for seq in entry.seq + 1..=last {
        match read(seq).await?.kind {
            EntryKind::Void => return Ok(Some(seq)),
            EntryKind::Open => {}
            EntryKind::Commit | EntryKind::Idle => return Ok(None),
        }
    }
    Ok(None)
}

fn show_state(store: &dyn Store, state: &State) -> String {
    let leaves: usize = state.lineage.values().map(|leaves| leaves.len()).sum();
    let publication = state.publication.as_ref().map_or_else(String::new, |(names, _)| names.join(", "));
    let lines = [
        ("lake", store.url()),
        ("log entries", state.seq.to_string()),
        ("epoch", format!("{} by {}", state.epoch, state.owner)),
        ("resume at", state.to_lsn.to_string()),
        ("complete to", state.to_commit_ts.clone().unwrap_or_default()),
        ("slot", state.slot.clone()),
        ("publication", publication),
        ("system", format!("{}, timeline {}", state.system_id, state.timeline)),
        ("leaves", text::grouped(u64::try_from(leaves).unwrap_or(u64::MAX))),
    ];
    let mut out = String::new();
    for (name, value) in lines {
        out.push_str(&format!("{name:<12} {value}\n"));
    }
    let rows: Vec<Vec<String>> = state
        .tables
        .iter()
        .map(|(oid, table)| {
            vec![
                table.table.clone(),
                oid.to_string(),
                table.schema_id.to_string(),
                text::grouped(table.totals.rows),
                text::grouped(table.totals.files),
                text::bytes(table.totals.bytes),
                table.path.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&text::columns(
            &["table", "OID", "schema", "rows", "files", "size", "folder"],
            &[1, 2, 3, 4, 5],
            &rows,
        ));
    }
    out
}

#[cfg(test)]
mod tests;
