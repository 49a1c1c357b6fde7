//! The proof: the Parquet files, read by themselves, equal Postgres.
//!
//! Owns: the comparison, table by table, row by row and column by column.
//! Does not: use the daemon's log, status or code; its own walk, rendering and replay are in `files`, `cells`, `replay`.
//! Holds: a proof is equal only if every count, key and cell is; differences name the table, the key and the columns.
//! Fails: [`Error`] when a file or Postgres cannot be read; a difference is no failure but a finding.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::pin::pin;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::cells::Fingerprint;
use super::cluster::{Cluster, Link, refused};
use super::daemon::DATABASE;
use super::files::{self, Op, TableChanges, append_key};
use super::load::{Ledger, Ops};
use super::replay::{self, State};
use super::shop::{Shop, Spec, Table};
use crate::error::{Error, Result};

/// Findings of one sort: how many, and the first few.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    pub(super) count: u64,
    pub(super) first: Vec<String>,
}

impl Findings {
    fn add(&mut self, finding: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < FIRST_MAX {
            self.first.push(finding());
        }
    }
}

/// What was found of one table.
#[derive(Debug, Default, Serialize)]
pub(super) struct TableProof {
    pub(super) table: String,
    pub(super) partitioning: &'static str,
    pub(super) leaves: usize,
    /// Leaves that rows in the files say they came from.
    pub(super) leaves_seen: usize,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// As Postgres acknowledged them to the load.
    pub(super) changes_made: Ops,
    /// As the files hold them.
    pub(super) changes_in_files: Ops,
    pub(super) rows_in_postgres: u64,
    pub(super) rows_in_lake: u64,
    pub(super) cells_compared: u64,
    /// Changes with cells that the stream did not send, taken from the row before.
    pub(super) carried_over: u64,
    pub(super) missing: Findings,
    pub(super) extra: Findings,
    pub(super) different: Findings,
    pub(super) odd: Findings,
    /// Rows in the folder of another hour than their commit's.
    pub(super) misplaced: u64,
}

impl TableProof {
    /// Nothing is missing, double or different.
    pub(super) fn is_equal(&self) -> bool {
        let findings = [&self.missing, &self.extra, &self.different, &self.odd];
        self.changes_made == self.changes_in_files
            && self.rows_in_postgres == self.rows_in_lake
            && self.misplaced == 0
            && findings.iter().all(|findings| findings.count == 0)
    }
}

/// What was found of all tables.
#[derive(Debug, Default, Serialize)]
pub(super) struct Proof {
    pub(super) tables: Vec<TableProof>,
    /// `(_cdc_lsn, _cdc_seq)` that more than one row of all files has.
    pub(super) duplicates: Findings,
    /// Files that belong to none of the tables.
    pub(super) strange_files: Findings,
    /// Files that changed or went away after they had been visible.
    pub(super) disturbed_files: Findings,
    /// How often the files were looked at while the lake grew.
    pub(super) looks: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

impl Proof {
    /// Everything is equal.
    pub(super) fn is_equal(&self) -> bool {
        let findings = [&self.duplicates, &self.strange_files, &self.disturbed_files];
        self.tables.iter().all(TableProof::is_equal) && findings.iter().all(|findings| findings.count == 0)
    }

    /// What is wrong, a line each.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut list = |what: &str, findings: &Findings| {
            if findings.count > 0 {
                lines.push(format!("{what}: {}, first {}", findings.count, findings.first.join("; ")));
            }
        };
        list("(_cdc_lsn, _cdc_seq) found twice", &self.duplicates);
        list("files of no table of the demo", &self.strange_files);
        list("files that changed or went away", &self.disturbed_files);
        for table in &self.tables {
            let name = &table.table;
            list(&format!("{name}: rows that the lake lacks"), &table.missing);
            list(&format!("{name}: rows that only the lake has"), &table.extra);
            list(&format!("{name}: rows that differ"), &table.different);
            list(&format!("{name}: changes that do not follow from one another"), &table.odd);
        }
        for table in &self.tables {
            let (name, made, found) = (&table.table, table.changes_made, table.changes_in_files);
            if made != found {
                lines.push(format!("{name}: changes made {made}; in the files {found}"));
            }
            if table.misplaced > 0 {
                lines.push(format!("{name}: {} rows are in the folder of another hour", table.misplaced));
            }
        }
        lines
    }
}

/// Reads all files and all tables, and compares them.
pub(super) async fn prove(
    cluster: &Cluster,
    shop: &Shop,
    ledger: &Ledger,
    lake: &Path,
    watch: &files::Watch,
) -> Result<Proof> {
    let link = cluster.connect(DATABASE).await?;
    let mut proof = Proof { looks: watch.looks(), ..Proof::default() };
    for path in &watch.disturbed {
        proof.disturbed_files.add(|| path.display().to_string());
    }
    let mut by_table: BTreeMap<Option<String>, Vec<PathBuf>> = BTreeMap::new();
    for file in files::walk(lake)? {
        by_table.entry(files::table_of(lake, &file)).or_default().push(file);
    }
    let mut positions = HashSet::new();
    for (number, table) in shop.tables.iter().enumerate() {
        let paths = by_table.remove(&Some(table.qualified())).unwrap_or_default();
        let (changes, state) = read_and_replay(table, paths).await?;
        for change in &changes.changes {
            if !positions.insert(change.position) {
                let (lsn, seq) = change.position;
                proof.duplicates.add(|| format!("({lsn}, {seq}) in {}", table.qualified()));
            }
        }
        let mut found = table_proof(table, ledger.ops(number), &changes, &state);
        compare(&link, table.spec, state, &mut found).await?;
        proof.files += found.files;
        proof.bytes += found.bytes;
        proof.rows += found.changes_in_files.total();
        proof.tables.push(found);
    }
    for path in by_table.into_values().flatten() {
        proof.strange_files.add(|| path.display().to_string());
    }
    Ok(proof)
}

async fn read_and_replay(table: &Table, paths: Vec<PathBuf>) -> Result<(TableChanges, State)> {
    let (spec, root) = (table.spec, table.qualified());
    let reading = tokio::task::spawn_blocking(move || {
        let mut changes = files::read_table(spec, &paths)?;
        let state = replay::replay(&mut changes, &root);
        Ok((changes, state))
    });
    reading.await.unwrap_or_else(|error| Err(Error::bug("reading the files panicked").caused_by(error)))
}

fn table_proof(table: &Table, made: Ops, changes: &TableChanges, state: &State) -> TableProof {
    let mut found = TableProof {
        table: table.qualified(),
        partitioning: table.spec.partitioning,
        leaves: if table.is_partitioned() { table.leaves.len() } else { 0 },
        files: changes.files,
        bytes: changes.bytes,
        changes_made: made,
        rows_in_lake: u64::try_from(state.rows.len()).unwrap_or(u64::MAX),
        leaves_seen: table.leaves.iter().filter(|leaf| changes.relation(&leaf.qualified()).is_some()).count(),
        misplaced: changes.misplaced,
        ..TableProof::default()
    };
    for change in &changes.changes {
        found.carried_over += u64::from(change.unchanged != 0);
        let counted = &mut found.changes_in_files;
        *match change.op {
            Op::Insert => &mut counted.inserts,
            Op::Update => &mut counted.updates,
            Op::Delete => &mut counted.deletes,
            Op::Truncate => &mut counted.truncates,
        } += 1;
    }
    for oddity in &state.oddities {
        found.odd.add(|| oddity.clone());
    }
    found
}

/// Meets every row of Postgres with its row of the lake's state; what is left over is only in the lake.
async fn compare(link: &Link, spec: &'static Spec, mut state: State, found: &mut TableProof) -> Result<()> {
    let expressions: Vec<String> = spec.columns.iter().map(super::shop::Column::comparable_sql).collect();
    let sql = format!("select {} from {}", expressions.join(", "), files::qualified(spec));
    let mut rows = pin!(link.client.simple_query_raw(&sql).await.map_err(refused)?);
    while let Some(message) = rows.try_next().await.map_err(refused)? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        found.rows_in_postgres += 1;
        let (key, cells) = read_row(spec, &row);
        let Some(in_lake) = state.rows.remove(key.as_str()) else {
            found.missing.add(|| key);
            continue;
        };
        found.cells_compared += u64::try_from(cells.len()).unwrap_or(0);
        let unequal: Vec<&str> = spec
            .columns
            .iter()
            .zip(cells.iter().zip(in_lake.cells.iter()))
            .filter(|(_, (postgres, lake))| postgres != lake)
            .map(|(column, _)| column.name)
            .collect();
        if !unequal.is_empty() {
            found.different.add(|| format!("{key} in {}", unequal.join(", ")));
        }
    }
    let mut left: Vec<Box<str>> = state.rows.into_keys().collect();
    left.sort_unstable();
    for key in left {
        found.extra.add(|| key.into());
    }
    Ok(())
}

fn read_row(spec: &Spec, row: &SimpleQueryRow) -> (String, Vec<Fingerprint>) {
    let (mut key, mut cells) = (String::new(), Vec::with_capacity(spec.columns.len()));
    for (position, column) in spec.columns.iter().enumerate() {
        let text = row.get(position);
        cells.push(Fingerprint::of(text));
        if spec.key.contains(&column.name) {
            append_key(&mut key, column.name, text);
        }
    }
    (key, cells)
}

/// Findings that are kept with their keys.
const FIRST_MAX: usize = 5;

#[cfg(test)]
mod tests;
