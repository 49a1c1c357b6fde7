//! The lake, as somebody sees it who only lists and reads objects.
//!
//! Owns: what was seen so far, and what must hold whenever somebody looks.
//! Does not: use a line of the daemon's, but its decoder of Parquet, which is Arrow's.
//! Holds: files are read once, and compared with what they were at every look.
//! Fails: with what is wrong, in words.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pgoutput::Lsn;
use serde_json::Value;

use crate::expected::{self, Row};
use crate::postgres::database::Database;

/// Who looks, again and again.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    files: BTreeMap<String, Bytes>,
    entries: BTreeMap<u64, (Bytes, Entry)>,
    /// By position and ordinal, which no two rows of the lake have in common.
    rows: BTreeMap<(i64, i64), Row>,
    /// Transactions that are known to be in the lake whole.
    checked: usize,
    /// Everything up to here can be seen.
    pub(crate) published: Lsn,
    pub(crate) logged: Lsn,
    pub(crate) epoch: u64,
}

/// A log entry, as far as it matters here.
#[derive(Debug)]
struct Entry {
    kind: String,
    epoch: u64,
    from_lsn: Lsn,
    to_lsn: Lsn,
    files: Vec<String>,
}

impl Reader {
    /// Looks at all there is.
    pub(crate) fn look(
        &mut self,
        objects: &BTreeMap<String, Bytes>,
        database: &Database,
    ) -> Result<(), String> {
        self.read_log(objects)?;
        self.read_files(objects)?;
        self.check_rows(database)
    }

    /// I3 and I5, and what everybody can see.
    pub(crate) fn read_log(&mut self, objects: &BTreeMap<String, Bytes>) -> Result<(), String> {
        let mut next = 1;
        for (key, bytes) in objects.range("_tributary/log/0".to_owned().."_tributary/log/9".to_owned()) {
            let seq: u64 = key["_tributary/log/".len()..]
                .trim_end_matches(".json")
                .parse()
                .map_err(|_| format!("{key} is no entry"))?;
            if seq != next {
                return Err(format!("I5: entry {next} is missing, and {seq} is there"));
            }
            next += 1;
            match self.entries.get(&seq) {
                Some((known, _)) if known == bytes => {}
                Some(_) => return Err(format!("I5: entry {seq} has changed")),
                None => drop(self.entries.insert(seq, (bytes.clone(), Entry::parse(bytes)?))),
            }
        }
        if next <= u64::try_from(self.entries.len()).expect("few") {
            return Err(format!("I5: entry {next} is gone"));
        }
        let (mut end, mut epoch, mut unpublished) = (None, 0, None);
        self.published = Lsn::ZERO;
        for (seq, (_, entry)) in &self.entries {
            if end.is_some_and(|end| end != entry.from_lsn) {
                return Err(format!(
                    "entry {seq} begins at {} and not where the one before ends",
                    entry.from_lsn
                ));
            }
            end = Some(entry.to_lsn);
            match entry.kind.as_str() {
                "open" if entry.epoch <= epoch => return Err(format!("I5: entry {seq} has no new epoch")),
                "open" => epoch = entry.epoch,
                _ if entry.epoch != epoch => {
                    return Err(format!(
                        "I5: entry {seq} is of epoch {}, and the lake was opened as {epoch}",
                        entry.epoch
                    ));
                }
                _ => {}
            }
            if let Some(before) = unpublished
                && entry.kind != "open"
            {
                return Err(format!("I3: entry {seq} is there, and entry {before} is not published"));
            }
            if entry.files.iter().any(|file| !objects.contains_key(file)) {
                unpublished = Some(*seq);
            } else if unpublished.is_none() {
                self.published = entry.to_lsn;
            }
        }
        self.logged = end.unwrap_or(Lsn::ZERO);
        self.epoch = epoch;
        Ok(())
    }

    /// I4, and that a file stays as it is.
    fn read_files(&mut self, objects: &BTreeMap<String, Bytes>) -> Result<(), String> {
        let data = |key: &&String| key.ends_with(".parquet");
        for key in self.files.keys() {
            if !objects.contains_key(key) {
                return Err(format!("{key} was there, and is gone"));
            }
        }
        let mut named = None;
        for key in objects.keys().filter(data) {
            let bytes = &objects[key];
            if let Some(known) = self.files.get(key) {
                if known != bytes {
                    return Err(format!("{key} has changed"));
                }
                continue;
            }
            let named: &BTreeSet<&String> = named
                .get_or_insert_with(|| self.entries.values().flat_map(|(_, entry)| &entry.files).collect());
            if !named.contains(key) {
                return Err(format!("I4: {key} can be seen, and no entry names it"));
            }
            let table = key.split('/').nth(1).unwrap_or_default().to_owned();
            for row in decode(&table, bytes)? {
                let name = (row.lsn, row.seq);
                if let Some(other) = self.rows.insert(name, row) {
                    return Err(format!("{key} repeats a row: {other:?}"));
                }
            }
            self.files.insert(key.clone(), bytes.clone());
        }
        Ok(())
    }

    /// Everything up to where the lake is said to be complete is here, and as it must be.
    fn check_rows(&mut self, database: &Database) -> Result<(), String> {
        let names = database.names();
        while let Some(transaction) = database.wal.get(self.checked) {
            if transaction.end_lsn > self.published {
                break;
            }
            self.checked += 1;
            if transaction.final_lsn < database.consistent_point {
                continue;
            }
            for expected in expected::rows(transaction, &names) {
                match self.rows.get(&(expected.lsn, expected.seq)) {
                    Some(found) if *found == expected => {}
                    Some(found) => return Err(format!("a row is {found:?}\n     and must be {expected:?}")),
                    None => {
                        return Err(format!(
                            "published up to {}, and a row is missing: {expected:?}",
                            self.published
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// At the end: every row of every transaction once, and no other.
    pub(crate) fn is_whole(&self, database: &Database) -> Result<(), String> {
        if self.checked < database.wal.len() {
            return Err(format!("the lake is at {}, and transactions follow", self.published));
        }
        let names = database.names();
        let counted =
            database.wal.iter().filter(|transaction| transaction.final_lsn >= database.consistent_point);
        let mut expected = BTreeSet::new();
        for transaction in counted {
            expected.extend(expected::rows(transaction, &names).into_iter().map(|row| (row.lsn, row.seq)));
        }
        match self.rows.iter().find(|(name, _)| !expected.contains(name)) {
            Some((_, row)) => Err(format!("a row that nobody wrote: {row:?}")),
            None => Ok(()),
        }
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "{} entries, {} files, {} rows, epoch {}",
            self.entries.len(),
            self.files.len(),
            self.rows.len(),
            self.epoch
        )
    }
}

impl Entry {
    fn parse(bytes: &Bytes) -> Result<Entry, String> {
        let entry: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let lsn =
            |name: &str| entry[name].as_str().and_then(|text| text.parse().ok()).ok_or(format!("no {name}"));
        let tables = entry["tables"].as_array().into_iter().flatten();
        let files = tables.flat_map(|table| table["files"].as_array().into_iter().flatten());
        Ok(Entry {
            kind: entry["kind"].as_str().unwrap_or_default().to_owned(),
            epoch: entry["epoch"].as_u64().unwrap_or_default(),
            from_lsn: lsn("from_lsn")?,
            to_lsn: lsn("to_lsn")?,
            files: files.filter_map(|file| file["key"].as_str().map(str::to_owned)).collect(),
        })
    }
}

fn decode(table: &str, bytes: &Bytes) -> Result<Vec<Row>, String> {
    let said = |error: parquet::errors::ParquetError| error.to_string();
    let batches =
        ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).map_err(said)?.build().map_err(said)?;
    let mut rows = Vec::new();
    for batch in batches {
        let batch = batch.map_err(|error| error.to_string())?;
        for at in 0..batch.num_rows() {
            rows.push(row_of(table, &batch, at)?);
        }
    }
    Ok(rows)
}

fn row_of(table: &str, batch: &RecordBatch, at: usize) -> Result<Row, String> {
    let options = FormatOptions::default();
    let column = |name: &str| batch.column_by_name(name).ok_or(format!("no column {name}"));
    let shown = |column: &dyn Array| -> Result<Option<String>, String> {
        if column.is_null(at) {
            return Ok(None);
        }
        let formatter = ArrayFormatter::try_new(column, &options).map_err(|error| error.to_string())?;
        Ok(Some(formatter.value(at).to_string()))
    };
    let number = |name: &str| Ok::<i64, String>(column(name)?.as_primitive::<Int64Type>().value(at));
    let word = |name: &str| Ok::<String, String>(shown(column(name)?)?.unwrap_or_default());
    let list = word("_cdc_unchanged")?;
    let list = list.trim_start_matches('[').trim_end_matches(']');
    let mut values = BTreeMap::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !field.name().starts_with("_cdc_")
            && let Some(value) = shown(column)?
        {
            values.insert(field.name().clone(), value);
        }
    }
    if column("_cdc_raw")?.is_valid(at) {
        return Err(format!("a value of {table} went to _cdc_raw"));
    }
    Ok(Row {
        table: table.to_owned(),
        op: word("_cdc_op")?,
        lsn: number("_cdc_lsn")?,
        seq: number("_cdc_seq")?,
        commit_ts: column("_cdc_commit_ts")?.as_primitive::<TimestampMicrosecondType>().value(at),
        xid: number("_cdc_xid")?,
        relation: word("_cdc_relation")?,
        unchanged: list.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        values,
    })
}
