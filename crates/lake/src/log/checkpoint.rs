//! The folded state beside the log, so that a start reads little of it.
//!
//! Owns: the head that names parts, the parts, and which of them a checkpoint writes anew.
//! Does not: know what a record means; `state` says which ones an entry changed.
//! Holds: a checkpoint costs what changed since the one before, whatever there is: a part is never changed, and named by one head after
//! the other until most of it is out of date. The head is written last; one whose parts are not all there counts as none.
//! Fails: as the store does. A checkpoint that cannot be read is no failure: an older one, or the log, tells the same.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::state::{Document, Lineage, State, TableState};
use super::{LIST_LIMIT, READS_IN_FLIGHT, TableSnapshot, nonce, parse, to_json};
use crate::error::Error;
use crate::kill_points::kill_point;
use crate::layout;
use crate::retry::transient;
use crate::store::Store;

/// The version of the form of heads and parts. Format 1 was the whole state in one object.
const FORMAT: u32 = 2;

/// What names the parts of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// [`FORMAT`]
    format: u32,
    /// The state without its records.
    state: State,
    /// Oldest first: a record of a later part counts.
    parts: Vec<PartName>,
}

/// A part, as a head names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PartName {
    key: String,
    /// It has what entries up to this one changed, behind that of the part before.
    through: u64,
    records: usize,
}

/// Some records. What is `None` is gone.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Part {
    /// [`FORMAT`]
    format: u32,
    /// Documents, each once: many tables have the same columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    documents: Vec<Document>,
    /// By the OID of the root, with the place of the document in `documents`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tables: BTreeMap<u32, (usize, TableState)>,
    /// Leaves by root.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    lineage: Leaves,
    /// Former leaves by root.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    detached: Leaves,
    /// Partitions with the transaction that attached them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    partitions: BTreeMap<u32, Option<u32>>,
    /// By the OID of the root or leaf.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    snapshots: BTreeMap<u32, Option<TableSnapshot>>,
}

/// By root and leaf.
type Leaves = BTreeMap<u32, BTreeMap<u32, Option<String>>>;

/// What an entry can change on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Record {
    Table(u32),
    Leaf { root: u32, leaf: u32 },
    Detached { root: u32, leaf: u32 },
    Partition(u32),
    Snapshot(u32),
}

/// What the newest checkpoint has, and what changed since its oldest part. Nothing that the log says: two states are equal without.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    parts: Vec<PartName>,
    /// The last entry that changed a record, for those that changed behind the first part.
    changed: BTreeMap<Record, u64>,
    documents: HashSet<Document>,
}

impl PartialEq for Marks {
    fn eq(&self, _: &Marks) -> bool {
        true
    }
}

impl Marks {
    /// An entry changed this. Without a checkpoint the first one has everything, changed or not.
    pub(super) fn note(&mut self, record: Record, seq: u64) {
        if !self.parts.is_empty() {
            self.changed.insert(record, seq);
        }
    }

    /// The same document, held once.
    pub(super) fn shared(&mut self, document: Document) -> Document {
        match self.documents.get(&document) {
            Some(known) => known.clone(),
            None => {
                self.documents.insert(document.clone());
                document
            }
        }
    }

    /// A checkpoint has everything now.
    fn checkpointed(&mut self, parts: Vec<PartName>) {
        let base = parts.first().map_or(0, |part| part.through);
        self.changed.retain(|_, changed| *changed > base);
        self.parts = parts;
        self.documents.retain(|document| !document.is_alone());
    }
}

/// Writes the folded state beside the log, and deletes all but the two newest of them.
pub async fn write_checkpoint(store: &dyn Store, state: &mut State) -> Result<(), Error> {
    let seq = state.seq;
    let kept = kept(&state.marks);
    let since = kept.last().map_or(0, |part| part.through);
    let records: Vec<Record> = match kept.is_empty() {
        true => state.records().collect(),
        false => {
            let changed = state.marks.changed.iter();
            changed.filter(|(_, changed)| **changed > since).map(|(record, _)| *record).collect()
        }
    };
    let mut parts = kept;
    let nonce = nonce()?;
    for (number, records) in records.chunks(RECORDS_A_PART).enumerate() {
        let key = layout::checkpoint_part_key(seq, &nonce, number);
        let bytes = compressed(&to_json(&part_of(state, records))?)?;
        transient(|| store.put(&key, bytes.clone())).await?;
        parts.push(PartName { key, through: seq, records: records.len() });
    }
    kill_point("checkpoint-parts-written");
    let head = Head { format: FORMAT, state: state.without_records(), parts: parts.clone() };
    let bytes = Bytes::from(to_json(&head)?);
    let key = layout::checkpoint_key(seq);
    transient(|| store.put(&key, bytes.clone())).await?;
    state.marks.checkpointed(parts);
    delete_older(store).await
}

/// The parts that a new checkpoint names again. Those behind them are written as one, with what changed since: a part that is not at
/// least twice as large as all that comes behind it is more out of date than it is worth. So there are few, and each record is
/// written again a few times at most, unless it changes.
fn kept(marks: &Marks) -> Vec<PartName> {
    let Marks { parts, changed, documents: _ } = marks;
    let groups: BTreeSet<u64> = parts.iter().map(|part| part.through).collect();
    let kept = groups.iter().rev().copied().find(|through| {
        let before = groups.range(..through).next_back();
        let of_group = parts.iter().filter(|part| part.through == *through);
        let size: usize = of_group.map(|part| part.records).sum();
        // What the first group has is not in `changed`; of the others, what is out of date does not count.
        let current = match before {
            Some(before) => changed.values().filter(|seq| **seq > *before && **seq <= *through).count(),
            None => size,
        };
        let behind = changed.values().filter(|seq| **seq > *through).count();
        current >= behind * 2
    });
    let through = kept.unwrap_or(0);
    parts.iter().filter(|part| part.through <= through).cloned().collect()
}

fn part_of(state: &State, records: &[Record]) -> Part {
    let mut part = Part { format: FORMAT, ..Part::default() };
    let mut places: BTreeMap<Document, usize> = BTreeMap::new();
    for record in records {
        match record {
            Record::Table(oid) => {
                let Some(table) = state.tables.get(oid) else { continue };
                let place = *places.entry(table.document.clone()).or_insert_with(|| {
                    part.documents.push(table.document.clone());
                    part.documents.len() - 1
                });
                let table = TableState { document: Document::default(), ..table.clone() };
                part.tables.insert(*oid, (place, table));
            }
            Record::Leaf { root, leaf } => {
                let known = state.lineage.get(root).and_then(|leaves| leaves.get(leaf));
                part.lineage.entry(*root).or_default().insert(*leaf, known.cloned());
            }
            Record::Detached { root, leaf } => {
                let known = state.detached.get(root).and_then(|leaves| leaves.get(leaf));
                part.detached.entry(*root).or_default().insert(*leaf, known.cloned());
            }
            Record::Partition(oid) => {
                part.partitions.insert(*oid, state.partitions.get(oid).copied());
            }
            Record::Snapshot(oid) => {
                part.snapshots.insert(*oid, state.snapshots.get(oid).cloned());
            }
        }
    }
    part
}

/// A checkpoint, as far as it is there.
#[derive(Debug)]
pub(crate) enum Found {
    /// The state, whole.
    Whole(Box<State>),
    /// The head was deleted since it was listed.
    Gone,
    /// This part, which the head names, is not there.
    WithoutPart(String),
}

/// The newest checkpoint that can be read; `None` if there is none.
pub(super) async fn latest(store: &dyn Store) -> Result<Option<State>, Error> {
    for key in heads(store).await?.iter().rev().take(HEADS_TRIED) {
        match read_checkpoint(store, key).await? {
            Found::Whole(state) => return Ok(Some(*state)),
            Found::Gone => {}
            Found::WithoutPart(_) => {
                tracing::warn!(key, "a part of this checkpoint is gone; an older one is read, or the log");
            }
        }
    }
    Ok(None)
}

/// The checkpoint with this head.
pub(crate) async fn read_checkpoint(store: &dyn Store, key: &str) -> Result<Found, Error> {
    let Some(object) = transient(|| store.get(key)).await? else { return Ok(Found::Gone) };
    let versioned: Versioned = read(key, &object.bytes)?;
    if versioned.format == super::FORMAT {
        return parse(key, &object.bytes).map(|state| Found::Whole(Box::new(state)));
    }
    if versioned.format != FORMAT {
        let reason = format!("it has format {}, and this version reads format {FORMAT}", versioned.format);
        return Err(Error::Unreadable { key: key.to_owned(), reason });
    }
    let Head { mut state, parts, .. } = read(key, &object.bytes)?;
    Ok(match take_parts(store, &mut state, parts).await? {
        None => Found::Whole(Box::new(state)),
        Some(missing) => Found::WithoutPart(missing),
    })
}

/// Gives back the first one that is not there.
async fn take_parts(
    store: &dyn Store,
    state: &mut State,
    parts: Vec<PartName>,
) -> Result<Option<String>, Error> {
    let base = parts.first().map_or(0, |part| part.through);
    state.marks.checkpointed(parts.clone());
    let reads: Vec<BoxFuture<'_, Result<_, Error>>> = parts
        .iter()
        .map(|name| async move { Ok((name, transient(|| store.get(&name.key)).await?)) }.boxed())
        .collect();
    let mut reads = stream::iter(reads).buffered(READS_IN_FLIGHT);
    while let Some((name, object)) = reads.try_next().await? {
        let Some(object) = object else { return Ok(Some(name.key.clone())) };
        let unreadable =
            |error: std::io::Error| Error::Unreadable { key: name.key.clone(), reason: error.to_string() };
        let part: Part = read(&name.key, &zstd::decode_all(&*object.bytes).map_err(unreadable)?)?;
        if part.format != FORMAT {
            let reason = format!("it has format {}, and this version reads format {FORMAT}", part.format);
            return Err(Error::Unreadable { key: name.key.clone(), reason });
        }
        take_part(state, part, (name.through > base).then_some(name.through))
            .map_err(|reason| Error::Unreadable { key: name.key.clone(), reason: reason.to_owned() })?;
    }
    Ok(None)
}

/// Records of a part behind the first ones are noted as changed then.
fn take_part(state: &mut State, part: Part, changed: Option<u64>) -> Result<(), &'static str> {
    let Part { format: _, documents, tables, lineage, detached, partitions, snapshots } = part;
    let marks = &mut state.marks;
    let documents: Vec<Document> = documents.into_iter().map(|document| marks.shared(document)).collect();
    let mut note = |record: Record| {
        if let Some(seq) = changed {
            marks.note(record, seq);
        }
    };
    for (oid, (place, table)) in tables {
        let document = documents.get(place).ok_or("a table names a schema that is not in it")?.clone();
        state.tables.insert(oid, TableState { document, ..table });
        note(Record::Table(oid));
    }
    take_leaves(&mut state.lineage, lineage, |root, leaf| note(Record::Leaf { root, leaf }));
    take_leaves(&mut state.detached, detached, |root, leaf| note(Record::Detached { root, leaf }));
    for (oid, transaction) in partitions {
        take(&mut state.partitions, oid, transaction);
        note(Record::Partition(oid));
    }
    for (oid, snapshot) in snapshots {
        take(&mut state.snapshots, oid, snapshot);
        note(Record::Snapshot(oid));
    }
    Ok(())
}

fn take_leaves(known: &mut BTreeMap<u32, Lineage>, leaves: Leaves, mut note: impl FnMut(u32, u32)) {
    for (root, leaves) in leaves {
        let of_root = known.entry(root).or_default();
        for (leaf, name) in leaves {
            take(of_root, leaf, name);
            note(root, leaf);
        }
        if of_root.is_empty() {
            known.remove(&root);
        }
    }
}

fn take<T>(known: &mut BTreeMap<u32, T>, oid: u32, found: Option<T>) {
    match found {
        Some(found) => drop(known.insert(oid, found)),
        None => drop(known.remove(&oid)),
    }
}

/// The keys of all heads, oldest first.
pub(crate) async fn heads(store: &dyn Store) -> Result<Vec<String>, Error> {
    let mut heads: Vec<String> = Vec::new();
    loop {
        let after = heads.last().cloned();
        let listed =
            transient(|| store.list(layout::CHECKPOINT_PREFIX, after.as_deref(), LIST_LIMIT)).await?;
        if listed.is_empty() {
            return Ok(heads);
        }
        heads.extend(listed.into_iter().map(|object| object.key));
    }
}

/// Deletes all heads but the two newest, each with the parts that those do not name.
///
/// What is named by a newer head stays, also if another daemon writes one meanwhile: it goes on from one of the two.
async fn delete_older(store: &dyn Store) -> Result<(), Error> {
    let heads = heads(store).await?;
    let (older, newest) = heads.split_at(heads.len().saturating_sub(HEADS_KEPT));
    if older.is_empty() {
        return Ok(());
    }
    let mut named: BTreeSet<String> = BTreeSet::new();
    for key in newest {
        named.extend(parts_of(store, key).await?);
    }
    for key in older {
        // The head first: without it the parts are only space.
        let parts = parts_of(store, key).await?;
        let unnamed = parts.iter().filter(|part| !named.contains(*part));
        for key in std::iter::once(key).chain(unnamed) {
            // A role without DeleteObject keeps them all, which costs some space, less than the entries do, and nothing else.
            if let Err(error) = store.delete(key).await {
                tracing::debug!(key, error = %error, "an old checkpoint stays");
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn parts_of(store: &dyn Store, key: &str) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Parts {
        #[serde(default)]
        parts: Vec<PartName>,
    }
    let Some(object) = transient(|| store.get(key)).await? else { return Ok(Vec::new()) };
    let Parts { parts } = read(key, &object.bytes)?;
    Ok(parts.into_iter().map(|part| part.key).collect())
}

#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

fn read<T: for<'de> Deserialize<'de>>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Unreadable { key: key.to_owned(), reason: error.to_string() })
}

fn compressed(json: &[u8]) -> Result<Bytes, Error> {
    let bytes = zstd::bulk::compress(json, ZSTD_LEVEL);
    bytes.map(Bytes::from).map_err(|error| Error::Bug(format!("a checkpoint cannot be compressed: {error}")))
}

/// Heads that stay: the newest, and one for whoever is reading.
const HEADS_KEPT: usize = 2;
/// Heads that are tried; behind them the log is read from its beginning.
const HEADS_TRIED: usize = 3;
/// Some megabytes of JSON, some hundred kilobytes of object.
const RECORDS_A_PART: usize = 20_000;
/// Names repeat; more effort gains little.
const ZSTD_LEVEL: i32 = 1;

#[cfg(test)]
mod tests;
