//! What holds of the store after every step, whatever anybody believes.
//!
//! Owns: the invariants, over objects and the slot.
//! Does not: read rows but at the end; until then the log's counts are compared with the transactions.
//! Holds: it reads the objects that a user could read.
//! Fails: with what is wrong, in words.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::{Array, Int64Array};
use bytes::Bytes;
use lake::layout;
use lake::log::{Entry, EntryKind, Event, State};
use lake::watermark::Watermark;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pgoutput::Lsn;

use crate::daemon;
use crate::source::{Server, TABLES};

/// The lake as it is now.
pub(crate) struct Truth<'a> {
    contents: &'a BTreeMap<String, Bytes>,
    pub(crate) log: Vec<Entry>,
    pub(crate) state: State,
}

impl<'a> Truth<'a> {
    pub(crate) fn of(contents: &'a BTreeMap<String, Bytes>) -> Result<Truth<'a>, String> {
        let mut state = None;
        let mut log: Vec<Entry> = Vec::new();
        for (_, bytes) in contents.iter().filter(|(key, _)| layout::log_seq(key).is_some()) {
            let entry: Entry = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            State::fold(&mut state, &entry).map_err(|error| error.to_string())?;
            log.push(entry);
        }
        Ok(Truth { contents, log, state: state.ok_or("no log")? })
    }

    /// Everything but what takes reading rows.
    pub(crate) fn check(&self, server: &Server) -> Result<(), String> {
        self.visible_is_logged()?;
        self.entries_are_in_order()?;
        self.log_has_all_once(server)?;
        let published = self.published();
        if server.confirmed > published {
            return Err(format!("I1: confirmed {} beyond what is published, {published}", server.confirmed));
        }
        self.watermark_is_published()
    }

    /// The cuts that count.
    fn cuts(&self) -> Vec<&Entry> {
        let voided: BTreeSet<u64> = self
            .log
            .iter()
            .flat_map(|entry| &entry.events)
            .filter_map(|event| match event {
                Event::Void { seq, .. } => Some(*seq),
                _ => None,
            })
            .collect();
        let is_cut = |entry: &&Entry| entry.kind == EntryKind::Commit && !voided.contains(&entry.seq);
        self.log.iter().filter(is_cut).collect()
    }

    fn is_published(&self, cut: &Entry) -> bool {
        let mut files = cut.tables.iter().flat_map(|table| &table.files);
        files.all(|file| self.contents.contains_key(&file.key))
    }

    fn published(&self) -> Lsn {
        let missing = self.cuts().into_iter().find(|cut| !self.is_published(cut));
        missing.map_or(self.state.to_lsn, |cut| cut.from_lsn)
    }

    fn data_files(&self) -> impl Iterator<Item = (&String, &Bytes)> {
        self.contents.iter().filter(|(key, _)| key.ends_with(".parquet"))
    }

    /// I4, and that nothing is there twice: each file is of one cut, and cuts have nothing in common.
    fn visible_is_logged(&self) -> Result<(), String> {
        let cuts = self.cuts();
        let files = cuts.iter().flat_map(|cut| &cut.tables).flat_map(|table| &table.files);
        let named: HashMap<&str, u64> = files.map(|file| (file.key.as_str(), file.bytes)).collect();
        for (key, bytes) in self.data_files() {
            let length = u64::try_from(bytes.len()).expect("a small file");
            match named.get(key.as_str()) {
                None => return Err(format!("I4: {key} is visible, and no cut that counts names it")),
                Some(logged) if *logged != length => {
                    return Err(format!("{key} has {length} bytes, not {logged}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// I3 and I5.
    fn entries_are_in_order(&self) -> Result<(), String> {
        let mut owner = (0, String::new());
        for entry in &self.log {
            match entry.kind {
                EntryKind::Open | EntryKind::Void if entry.epoch <= owner.0 => {
                    return Err(format!("I5: entry {} has no new epoch", entry.seq));
                }
                EntryKind::Open | EntryKind::Void => owner = (entry.epoch, entry.owner.clone()),
                EntryKind::Commit | EntryKind::Idle if (entry.epoch, &entry.owner) != (owner.0, &owner.1) => {
                    return Err(format!(
                        "I5: entry {} is of {} and not of the owner, {}",
                        entry.seq, entry.owner, owner.1
                    ));
                }
                EntryKind::Commit | EntryKind::Idle => {}
            }
        }
        let progress =
            self.log.iter().filter(|entry| matches!(entry.kind, EntryKind::Commit | EntryKind::Idle));
        let last = progress.map(|entry| entry.seq).max().unwrap_or(0);
        match self.cuts().into_iter().find(|cut| cut.seq < last && !self.is_published(cut)) {
            Some(cut) => Err(format!("I3: entry {last} is there, and {} is not published", cut.seq)),
            None => Ok(()),
        }
    }

    /// Cuts lie end to end but where one was taken back, and have the rows of the transactions that ended in them.
    fn log_has_all_once(&self, server: &Server) -> Result<(), String> {
        let mut counted = [0; TABLES];
        for cut in self.cuts() {
            for table in &cut.tables {
                let place =
                    (0..TABLES).find(|place| daemon::name(*place) == table.table).ok_or("another table")?;
                counted[place] += table.files.iter().map(|file| file.rows).sum::<u64>();
            }
        }
        let ended = server.transactions.iter().filter(|transaction| transaction.end_lsn <= self.state.to_lsn);
        let mut expected = [0; TABLES];
        for transaction in ended {
            for (sum, rows) in expected.iter_mut().zip(transaction.rows) {
                *sum += rows;
            }
        }
        if counted == expected {
            return Ok(());
        }
        Err(format!(
            "up to {} the log has {counted:?} rows, and {expected:?} were written",
            self.state.to_lsn
        ))
    }

    fn watermark_is_published(&self) -> Result<(), String> {
        let Some(bytes) = self.contents.get(layout::WATERMARK) else { return Ok(()) };
        let watermark: Watermark = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match self.cuts().into_iter().find(|cut| cut.seq <= watermark.seq && !self.is_published(cut)) {
            Some(cut) => {
                Err(format!("the watermark is at entry {}, and {} is not published", watermark.seq, cut.seq))
            }
            None => Ok(()),
        }
    }

    /// At the end: every row of every transaction once, by what a glob finds; and the schema of every table.
    pub(crate) fn is_whole(&self, server: &Server) -> Result<(), String> {
        if server.confirmed != self.state.to_lsn {
            return Err(format!("confirmed {} and logged {}", server.confirmed, self.state.to_lsn));
        }
        for table in 0..TABLES {
            let mut expected: Vec<(i64, i64)> = Vec::new();
            for transaction in &server.transactions {
                let lsn = i64::try_from(transaction.final_lsn.0).expect("a small position");
                let rows = i64::try_from(transaction.rows[table]).expect("few rows");
                expected.extend((1..=rows).map(|row| (lsn, row)));
            }
            let folder = format!("public/t{table}/");
            let mut found = Vec::new();
            for (_, bytes) in self.data_files().filter(|(key, _)| key.starts_with(&folder)) {
                found.extend(rows_of(bytes));
            }
            found.sort_unstable();
            if found != expected {
                return Err(format!("{folder} has the rows {found:?}, and {expected:?} were written"));
            }
        }
        for table in self.state.tables.values() {
            let key = layout::schema_key(&table.path, table.schema_id);
            if !self.contents.contains_key(&key) {
                return Err(format!("{key} is missing"));
            }
        }
        Ok(())
    }
}

/// Position and number of every row of a file.
fn rows_of(bytes: &Bytes) -> Vec<(i64, i64)> {
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let numbers = |column: usize| {
            let column: &dyn Array = batch.column(column);
            column.as_any().downcast_ref::<Int64Array>().unwrap().clone()
        };
        rows.extend(numbers(1).values().iter().copied().zip(numbers(2).values().iter().copied()));
    }
    rows
}
