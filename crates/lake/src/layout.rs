//! Where every object lies: keys, relative to the lake's prefix.
//!
//! Owns: the names of data files and control objects, and the partition of a row.
//! Does not: touch a store.
//! Holds: names of tables map to paths one to one; no data path has a part that query engines hide (`_`, `.`), and no control
//! object ends in `.parquet`. A row's partition is its transaction's commit hour, or what transforms make of its own values (I7).
//! Fails: never.

use pgoutput::Lsn;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time;
use crate::transform::{PartitionBy, Transform};

mod values;

pub use values::Values;

/// What identifies the lake: who writes it, from which slot.
pub const LAKE: &str = "_tributary/lake.json";
/// The last published cut.
pub const WATERMARK: &str = "_tributary/watermark.json";
/// Under which all log entries lie.
pub const LOG_PREFIX: &str = "_tributary/log/";
/// Under which the folded states of the log lie.
pub const CHECKPOINT_PREFIX: &str = "_tributary/log/_checkpoint/";

/// Under which what they are made of lies.
pub const CHECKPOINT_PARTS_PREFIX: &str = "_tributary/log/_checkpoint_parts/";

/// Under which the versions of all schemas lie.
pub const SCHEMA_PREFIX: &str = "_tributary/schemas/";

/// Under which everything lies that is no data.
pub const CONTROL_PREFIX: &str = "_tributary/";

/// What every data file ends in, and no control object.
pub const DATA_SUFFIX: &str = ".parquet";

/// A folder of data files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Partition {
    /// One hour of commit time.
    Hour(Hour),
    /// Of rows with the same values, as transforms see them.
    Values(Values),
}

/// One UTC hour of commit time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hour {
    /// Hours since 1970-01-01 00:00 UTC.
    pub hour: i64,
}

/// How the files of a table are laid out by its own columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSpec {
    /// From the outermost folder to the innermost.
    pub fields: Vec<PartitionField>,
    /// So many files are open at once, at most; beyond it, the one that waits longest for a row ends.
    pub open_max: usize,
}

/// One level of folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionField {
    /// The name of its folders: `created_at_day`.
    pub key: String,
    /// The column of the files.
    pub column: String,
    /// What it makes of it.
    pub transform: Transform,
}

impl Hour {
    /// The hour of a transaction that committed at this time.
    pub fn of(commit_unix_micros: i64) -> Hour {
        Hour { hour: commit_unix_micros.div_euclid(3_600_000_000) }
    }
}

impl Partition {
    /// `cdc_date=2026-08-01/cdc_hour=00`, or `created_at_day=2026-08-01/id_bucket=3`
    pub fn path(&self) -> String {
        match self {
            Partition::Hour(Hour { hour }) => {
                let date = time::date_of_day(hour.div_euclid(24));
                let hour = hour.rem_euclid(24);
                format!("cdc_date={:04}-{:02}-{:02}/cdc_hour={hour:02}", date.year, date.month, date.day)
            }
            Partition::Values(values) => values.path(),
        }
    }
}

impl PartitionBy {
    /// The name of its folders: `created_at_day`.
    pub fn key(&self) -> String {
        format!("{}_{}", path_name(&self.column), self.transform.suffix())
    }
}

/// The folder of a table, `schema/table`, in names that every query engine accepts.
///
/// A name of `[a-z0-9_]` that does not begin with an underscore stays as it is. Any other is spelt in those letters and gets
/// eight hexadecimal digits of its SHA-256, so that two names never meet by accident; who assigns paths compares them all the same.
pub fn table_path(schema: &str, table: &str) -> String {
    format!("{}/{}", path_name(schema), path_name(table))
}

fn path_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.is_empty() && !name.starts_with('_') && name.chars().all(is_plain) {
        return name.to_owned();
    }
    let spelt: String =
        name.chars().map(|c| c.to_ascii_lowercase()).map(|c| if is_plain(c) { c } else { '_' }).collect();
    let digest = Sha256::digest(name.as_bytes());
    let suffix: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}_{suffix}", spelt.trim_start_matches('_')).trim_start_matches('_').to_owned()
}

/// The key of a data file.
///
/// `last_lsn` is not known yet when an upload has to begin before its file is complete; such a file is named with the highest
/// LSN there is, which is a true upper bound. The log entry holds the exact range.
pub fn data_key(
    path: &str,
    partition: &Partition,
    seq: u64,
    first_lsn: Lsn,
    last_lsn: Option<Lsn>,
    part: u32,
) -> String {
    let last = last_lsn.map_or(u64::MAX, |lsn| lsn.0);
    let folder = data_folder(path);
    format!("{folder}{}/{seq:020}-{:016x}-{last:016x}-{part:04}.parquet", partition.path(), first_lsn.0)
}

/// Under which all data files of a table lie, by the folder of the table.
pub fn data_folder(path: &str) -> String {
    format!("{path}/data/")
}

/// The number that a data file's name begins with: the entry that names the file has this one or a later one.
pub fn data_seq(key: &str) -> Option<u64> {
    let (_, name) = key.rsplit_once('/')?;
    let (seq, _) = name.strip_suffix(DATA_SUFFIX)?.split_once('-')?;
    seq.parse().ok().filter(|_| seq.len() == 20)
}

/// The key of a log entry.
pub fn log_key(seq: u64) -> String {
    format!("{LOG_PREFIX}{seq:020}.json")
}

/// The number of a log entry by its key; `None` for any other object.
pub fn log_seq(key: &str) -> Option<u64> {
    key.strip_prefix(LOG_PREFIX)?.strip_suffix(".json")?.parse().ok()
}

/// The key of the folded state through a log entry.
pub fn checkpoint_key(seq: u64) -> String {
    format!("{CHECKPOINT_PREFIX}{seq:020}.json")
}

/// The key of a part that checkpoints name, from the log entry that it goes up to. Never written twice: two daemons that write a
/// checkpoint of the same entry have other nonces.
pub fn checkpoint_part_key(seq: u64, nonce: &str, number: usize) -> String {
    format!("{CHECKPOINT_PARTS_PREFIX}{seq:020}-{nonce}-{number:04}.json.zst")
}

/// The key of a version of a table's schema.
pub fn schema_key(path: &str, schema_id: u32) -> String {
    format!("{SCHEMA_PREFIX}{}/{schema_id}.json", path.replace('/', "."))
}

#[cfg(test)]
mod tests;
