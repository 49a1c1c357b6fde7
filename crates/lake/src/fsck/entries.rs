//! What a log entry says of its files, against itself, their names and their tables.
//!
//! Owns: which of an entry's words have to agree, and what entries said of tables so far.
//! Does not: look at a file (`contents`), or compare entries with each other (`chain`).
//! Holds: an entry that a daemon wrote never disagrees; what may differ for a reason is not compared.
//! Fails: never.

use std::collections::BTreeMap;

use pgoutput::Lsn;

use crate::layout;
use crate::log::{Entry, Event, FileEntry, State, TableFiles};

/// The tables of all entries so far, by the OID of the root.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<u32, Table>);

#[derive(Debug)]
struct Table {
    name: String,
    path: String,
    versions: Versions,
}

/// Versions of a schema.
#[derive(Debug, Default)]
struct Versions {
    /// Up to here there may be any: a checkpoint has only the newest.
    all_to: u32,
    others: Vec<u32>,
}

impl Tables {
    /// What an entry says of tables.
    pub(super) fn learn(&mut self, entry: &Entry) {
        for event in &entry.events {
            if let Event::Schema { table, relation, path, schema_id, .. } = event {
                self.table(*relation, table, path).others.push(*schema_id);
            }
        }
    }

    /// What a checkpoint says of them, behind entries that are not there.
    pub(super) fn adopt(&mut self, state: &State) {
        for (relation, table) in &state.tables {
            self.table(*relation, &table.table, &table.path).all_to = table.schema_id;
        }
    }

    fn table(&mut self, relation: u32, name: &str, path: &str) -> &mut Versions {
        let new = || Table { name: name.to_owned(), path: path.to_owned(), versions: Versions::default() };
        let table = self.0.entry(relation).or_insert_with(new);
        name.clone_into(&mut table.name);
        path.clone_into(&mut table.path);
        &mut table.versions
    }
}

/// What cannot be. `known` is what entries up to this one say of tables; `None` if not all of them were read.
pub(super) fn disagreements(entry: &Entry, known: Option<&Tables>) -> Vec<String> {
    let mut found = Vec::new();
    for table in &entry.tables {
        found.extend(known.and_then(|known| of_table(table, known)));
        let path = known.and_then(|known| known.0.get(&table.relation)).map(|known| known.path.as_str());
        found.extend(table.files.iter().flat_map(|file| of_file(entry.seq, file, path)));
    }
    found
}

fn of_table(files: &TableFiles, known: &Tables) -> Option<String> {
    let TableFiles { table, relation, schema_id, .. } = files;
    let Some(known) = known.0.get(relation) else {
        return Some(format!("it has files of {table}, relation {relation}, of which no entry has a schema"));
    };
    if known.name != *table {
        return Some(format!("relation {relation} is {}, and it calls it {table}", known.name));
    }
    let Versions { all_to, others } = &known.versions;
    let is_known = (1..=*all_to).contains(schema_id) || others.contains(schema_id);
    (!is_known).then(|| format!("its files of {table} have schema {schema_id}, and no entry has that"))
}

fn of_file(seq: u64, file: &FileEntry, path: Option<&str>) -> Vec<String> {
    let key = &file.key;
    let mut found = Vec::new();
    let by_op = file.ops.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
    if by_op != file.rows {
        found.push(format!("of `{key}` it says {} rows, and {by_op} by their operations", file.rows));
    }
    let in_parts = file.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.bytes));
    if in_parts != file.bytes {
        found.push(format!("of `{key}` it says {} bytes, and {in_parts} in its parts", file.bytes));
    }
    let Some(name) = Name::of(key) else {
        found.push(format!("`{key}` is a name that no daemon gives"));
        return found;
    };
    let partition = file.partition.path();
    let is_in_place = match path {
        Some(path) => name.folder == format!("{}{partition}", layout::data_folder(path)),
        None => name.folder.ends_with(&format!("/data/{partition}")),
    };
    if !is_in_place {
        let path = path.unwrap_or("…");
        found.push(format!(
            "`{key}` is not in the folder of its table and partition, `{path}/data/{partition}/`"
        ));
    }
    if name.seq > seq {
        found.push(format!("`{key}` was begun for entry {} or a later one", name.seq));
    }
    let [first, last] = file.lsn_range;
    if !name.fits(first, last) {
        found.push(format!("of `{key}` it says commits {first} to {last}, and the name says otherwise"));
    }
    found
}

/// The number in the name of a data file, if it is such as a daemon gives.
pub(super) fn file_seq(key: &str) -> Option<u64> {
    Name::of(key).map(|name| name.seq)
}

/// What [`layout::data_key`] put into a key.
struct Name<'a> {
    folder: &'a str,
    seq: u64,
    first: Lsn,
    last: Lsn,
}

impl Name<'_> {
    fn of(key: &str) -> Option<Name<'_>> {
        let (folder, name) = key.rsplit_once('/')?;
        let mut words = name.strip_suffix(layout::DATA_SUFFIX)?.split('-');
        let seq = layout::data_seq(key)?;
        words.next()?;
        let (first, last) = (lsn(words.next()?)?, lsn(words.next()?)?);
        let part = words.next()?;
        let is_part = part.len() >= 4 && part.bytes().all(|digit| digit.is_ascii_digit());
        (is_part && words.next().is_none()).then_some(Name { folder, seq, first, last })
    }

    /// A file that was begun before its end was known is named with the highest LSN there is; what came later may be of a lower
    /// position than what it began with.
    fn fits(&self, first: Lsn, last: Lsn) -> bool {
        let is_whole = self.last != Lsn(u64::MAX);
        let fits = if is_whole { (first, last) == (self.first, self.last) } else { first <= self.first };
        fits && first <= last
    }
}

fn lsn(word: &str) -> Option<Lsn> {
    let is_hex = word.len() == 16 && word.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(word, 16).ok().map(Lsn)).flatten()
}
