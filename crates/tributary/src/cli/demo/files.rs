//! The lake's files, found by walking its directories and read by themselves.
//!
//! Owns: the walk, the watch for files that change or vanish, and the changes in the files.
//! Does not: open anything under `_tributary`, or ask the daemon.
//! Holds: every `*.parquet` under the lake counts, whatever its name or folder.
//! Fails: [`Error`] naming the file that cannot be read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use arrow::array::{Array, AsArray, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;

use super::cells::{self, Fingerprint};
use super::shop::{SCHEMA, Spec};
use crate::error::{Error, Result};

/// One row of a data file.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// `(_cdc_lsn, _cdc_seq)`
    pub(super) position: (i64, i64),
    pub(super) op: Op,
    /// `_cdc_relation`, as an index of [`TableChanges::relations`].
    pub(super) relation: usize,
    /// `column=value` of the primary key; empty for a truncate.
    pub(super) key: Box<str>,
    /// The columns of the [`Spec`], in its order.
    pub(super) cells: Box<[Fingerprint]>,
    /// Columns of the [`Spec`] named in `_cdc_unchanged`, a bit each.
    pub(super) unchanged: u64,
}

/// `_cdc_op`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// What the files of one table hold.
#[derive(Debug, Default)]
pub(super) struct TableChanges {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) changes: Vec<Change>,
    pub(super) relations: Vec<String>,
    /// Rows whose `cdc_date=` and `cdc_hour=` folders are not those of their `_cdc_commit_ts`.
    pub(super) misplaced: u64,
}

impl TableChanges {
    /// The index of a relation's name, if any row is of it.
    pub(super) fn relation(&self, name: &str) -> Option<usize> {
        self.relations.iter().position(|known| known == name)
    }

    fn intern(&mut self, name: &str) -> usize {
        self.relation(name).unwrap_or_else(|| {
            self.relations.push(name.to_owned());
            self.relations.len() - 1
        })
    }
}

/// Every `*.parquet` under a directory, sorted; none if the directory is not there yet.
pub(super) fn walk(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(folder) = pending.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder, error))?;
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(path),
                Ok(_) if path.extension().is_some_and(|extension| extension == "parquet") => found.push(path),
                Ok(_) => {}
                Err(error) => return Err(unreadable(&path, error)),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// `schema/table` of a data file, from its path under the lake.
pub(super) fn table_of(lake: &Path, file: &Path) -> Option<String> {
    let mut parts = file.strip_prefix(lake).ok()?.iter().filter_map(|part| part.to_str());
    let (schema, table, data) = (parts.next()?, parts.next()?, parts.next()?);
    (data == "data").then(|| format!("{schema}.{table}"))
}

/// Reads all files of one table.
pub(super) fn read_table(spec: &Spec, files: &[PathBuf]) -> Result<TableChanges> {
    let mut table = TableChanges::default();
    for file in files {
        table.files += 1;
        table.bytes += fs::metadata(file).map_err(|error| unreadable(file, error))?.len();
        read_file(spec, file, &mut table)?;
    }
    Ok(table)
}

fn read_file(spec: &Spec, path: &Path, table: &mut TableChanges) -> Result<()> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    // Only what Parquet itself says of the types; not the Arrow schema that the writer may have left.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error| unreadable(path, error))?;
    for batch in reader {
        let batch = batch.map_err(|error| unreadable(path, error))?;
        let columns = Columns::of(spec, &batch).ok_or_else(|| {
            Error::definite(format!("{} lacks a metadata column or has one of another type", path.display()))
        })?;
        for row in 0..batch.num_rows() {
            let change = columns.change(spec, row, table)?;
            table.changes.push(change);
            table.misplaced += u64::from(!columns.belongs_in(path, row));
        }
    }
    Ok(())
}

/// The columns of a batch, by what they are to us.
struct Columns<'a> {
    op: &'a StringArray,
    lsn: &'a arrow::array::Int64Array,
    seq: &'a arrow::array::Int64Array,
    commit_time: &'a arrow::array::TimestampMicrosecondArray,
    relation: &'a StringArray,
    unchanged: &'a ListArray,
    user: Vec<Option<&'a dyn Array>>,
}

impl<'a> Columns<'a> {
    fn of(spec: &Spec, batch: &'a RecordBatch) -> Option<Columns<'a>> {
        let column = |name: &str| batch.column_by_name(name);
        Some(Columns {
            op: column("_cdc_op")?.as_string_opt()?,
            lsn: column("_cdc_lsn")?.as_primitive_opt::<Int64Type>()?,
            seq: column("_cdc_seq")?.as_primitive_opt::<Int64Type>()?,
            commit_time: column("_cdc_commit_ts")?.as_primitive_opt::<TimestampMicrosecondType>()?,
            relation: column("_cdc_relation")?.as_string_opt()?,
            unchanged: column("_cdc_unchanged")?.as_list_opt()?,
            user: spec.columns.iter().map(|wanted| column(wanted.name).map(|array| array.as_ref())).collect(),
        })
    }

    fn change(&self, spec: &Spec, row: usize, table: &mut TableChanges) -> Result<Change> {
        let op = match self.op.value(row) {
            "I" => Op::Insert,
            "U" => Op::Update,
            "D" => Op::Delete,
            "T" => Op::Truncate,
            other => {
                return Err(Error::definite(format!(
                    "a data file of {} has the operation `{other}`",
                    spec.name
                )));
            }
        };
        let (mut key, mut text) = (String::new(), String::new());
        let mut cells = vec![Fingerprint::NULL; spec.columns.len()];
        for ((column, array), cell) in spec.columns.iter().zip(&self.user).zip(&mut cells) {
            let Some(array) = array else { continue };
            let there = cells::render(*array, row, &mut text)?;
            *cell = Fingerprint::of(there.then_some(&text));
            if op != Op::Truncate && spec.key.contains(&column.name) {
                append_key(&mut key, column.name, there.then_some(&text));
            }
        }
        Ok(Change {
            position: (self.lsn.value(row), self.seq.value(row)),
            op,
            relation: table.intern(self.relation.value(row)),
            key: key.into(),
            cells: cells.into(),
            unchanged: self.unchanged_columns(spec, row)?,
        })
    }

    fn unchanged_columns(&self, spec: &Spec, row: usize) -> Result<u64> {
        if self.unchanged.is_null(row) {
            return Ok(0);
        }
        let names = self.unchanged.value(row);
        let mut bits = 0;
        for name in names.as_string_opt::<i32>().into_iter().flatten().flatten() {
            let position = spec.columns.iter().position(|column| column.name == name).ok_or_else(|| {
                Error::definite(format!("{}: _cdc_unchanged names `{name}`, which is no column", spec.name))
            })?;
            bits |= 1 << position;
        }
        Ok(bits)
    }

    /// Whether the file's folders are those of the row's commit time.
    fn belongs_in(&self, path: &Path, row: usize) -> bool {
        let micros = self.commit_time.value(row);
        let (date, hour) = date_and_hour(micros);
        let folders = [format!("cdc_date={date}"), format!("cdc_hour={hour:02}")];
        folders.iter().all(|folder| path.iter().any(|part| part == folder.as_str()))
    }
}

/// Appends `column=value` to a key's text; both sides of the comparison build their keys with it.
pub(super) fn append_key(key: &mut String, column: &str, text: Option<&str>) {
    if !key.is_empty() {
        key.push_str(", ");
    }
    key.push_str(column);
    key.push('=');
    key.push_str(text.unwrap_or("NULL"));
}

/// UTC date and hour of microseconds since 1970 (days to civil date after Howard Hinnant).
fn date_and_hour(micros: i64) -> (String, i64) {
    let hours = micros.div_euclid(3_600_000_000);
    let days = hours.div_euclid(24) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (format!("{year:04}-{month:02}-{day:02}"), hours.rem_euclid(24))
}

/// Looks at the lake while it grows.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: HashMap<PathBuf, (u64, Option<SystemTime>)>,
    rows: u64,
    looks: u64,
    /// Files that changed or went away after they had been seen.
    pub(super) disturbed: Vec<PathBuf>,
}

impl Watch {
    /// Looks once more. A new file's rows are read from its footer.
    pub(super) fn look(&mut self, lake: &Path) -> Result<()> {
        self.looks += 1;
        let disturbed = &mut self.disturbed;
        self.seen.retain(|path, _| {
            let there = path.exists();
            if !there {
                disturbed.push(path.clone());
            }
            there
        });
        for path in walk(lake)? {
            let facts = fs::metadata(&path).map_err(|error| unreadable(&path, error))?;
            let now = (facts.len(), facts.modified().ok());
            match self.seen.get(&path) {
                Some(before) if *before == now => {}
                Some(_) => {
                    self.disturbed.push(path.clone());
                    self.seen.insert(path, now);
                }
                None => {
                    self.rows += footer_rows(&path)?;
                    self.seen.insert(path, now);
                }
            }
        }
        Ok(())
    }

    /// Rows in the files seen so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// How often it looked.
    pub(super) fn looks(&self) -> u64 {
        self.looks
    }
}

fn footer_rows(path: &Path) -> Result<u64> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let reader = SerializedFileReader::new(file).map_err(|error| unreadable(path, error))?;
    Ok(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0))
}

fn unreadable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::definite(format!("cannot read {}", path.display())).caused_by(error)
}

/// The table's name as the lake's folders have it.
pub(super) fn qualified(spec: &Spec) -> String {
    format!("{SCHEMA}.{}", spec.name)
}

#[cfg(test)]
mod tests;
