//! What the log folds to: where to resume, and what is known of every table.
//!
//! Owns: [`State`], and how each kind of entry changes it.
//! Does not: read or write objects.
//! Holds: folding the same entries gives the same state, with or without a checkpoint on the way.
//! Fails: [`Error::Chain`] when an entry does not continue the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgoutput::Lsn;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::checkpoint::{Marks, Record};
use super::{Author, Chunk, Entry, EntryKind, Event, FORMAT, TableFiles, TableSnapshot, nonce};
use crate::error::Error;

/// The leaves of one root: OID and name.
pub type Lineage = BTreeMap<u32, String>;

/// The log, folded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`]
    pub format: u32,
    /// The number of the last entry.
    pub seq: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Its author.
    pub owner: String,
    /// The source's system identifier.
    pub system_id: String,
    /// The source's timeline.
    pub timeline: u32,
    /// The replication slot.
    pub slot: String,
    /// Where a resume starts.
    pub to_lsn: Lsn,
    /// Commit time of the last transaction in the lake.
    #[serde(default)]
    pub to_commit_ts: Option<String>,
    /// The publications and the hash of their definition.
    #[serde(default)]
    pub publication: Option<(Vec<String>, String)>,
    /// The parts of that definition, if the log has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub publication_members: BTreeMap<String, String>,
    /// By the OID of the root.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<u32, TableState>,
    /// The leaves of every root that has any, by its OID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lineage: BTreeMap<u32, Lineage>,
    /// What were leaves once, by the OID of the last root: the names of their rows are not given to others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detached: BTreeMap<u32, Lineage>,
    /// The partitions of the database of which nothing is missing, each with the transaction that attached it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partitions: BTreeMap<u32, u32>,
    /// The snapshot of every table that has or had one, by the OID of the root; and of every leaf that is being read by itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub snapshots: BTreeMap<u32, TableSnapshot>,
    /// The last cut that may not be published yet: what a new daemon rolls forward.
    #[serde(default)]
    pub last_cut: Option<Entry>,
    /// What the newest checkpoint has of it.
    #[serde(skip)]
    pub marks: Marks,
}

/// What is known of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableState {
    /// `schema.table` as Postgres names it.
    pub table: String,
    /// Postgres's schema name.
    pub schema_name: String,
    /// Postgres's table name.
    pub table_name: String,
    /// Its folder in the lake.
    pub path: String,
    /// The newest version of its schema.
    pub schema_id: u32,
    /// That schema.
    #[serde(default, skip_serializing_if = "Document::is_empty")]
    pub document: Document,
    /// What was logged of it.
    #[serde(default)]
    pub totals: Totals,
    /// Postgres's schema and table name now, if it was renamed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed: Option<(String, String)>,
    /// Columns in which rows written before may differ from Postgres, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs_resync: BTreeMap<String, String>,
}

/// A schema as it is stored: its JSON, in memory once for all tables with the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Document(Arc<str>);

impl Document {
    /// What it says.
    pub fn read<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.0)
    }

    pub(super) fn of(value: &Value) -> Document {
        Document(value.to_string().into())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether nobody else has it.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: Value = self.read().map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
        Value::deserialize(deserializer).map(|value| Document::of(&value))
    }
}

/// Sums over all files of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Totals {
    /// The sums of one cut.
    pub fn of(files: &TableFiles) -> Totals {
        files.files.iter().fold(Totals::default(), |sum, file| Totals {
            rows: sum.rows + file.rows,
            files: sum.files + 1,
            bytes: sum.bytes + file.bytes,
        })
    }
}

impl State {
    /// Folds one more entry; the first one makes the state.
    pub fn fold(state: &mut Option<State>, entry: &Entry) -> Result<(), Error> {
        match state {
            Some(state) => state.advance(entry),
            None if entry.seq == 1 => state.insert(State::empty(entry)).advance(entry),
            None => Err(Error::Chain {
                seq: entry.seq,
                reason: "the log has no entry 1 and no checkpoint".to_owned(),
            }),
        }
    }

    /// Folds the entry that follows. The cost is that of the entry, whatever the state holds.
    pub fn advance(&mut self, entry: &Entry) -> Result<(), Error> {
        let broken = |reason: String| Error::Chain { seq: entry.seq, reason };
        if entry.seq != self.seq + 1 {
            return Err(broken(format!("entry {} is missing", self.seq + 1)));
        }
        if entry.from_lsn != self.to_lsn {
            return Err(broken(format!(
                "it begins at {} and the one before ends at {}",
                entry.from_lsn, self.to_lsn
            )));
        }
        if entry.epoch < self.epoch {
            return Err(broken(format!(
                "its epoch is {} and the one before has {}",
                entry.epoch, self.epoch
            )));
        }
        self.apply(entry);
        Ok(())
    }

    /// I5: after our first `open` entry, an epoch that is not ours means that another daemon took over; only one may go on.
    pub fn refuse_fenced(&self, ours: Option<u64>) -> Result<(), Error> {
        match ours {
            Some(ours) if self.epoch != ours => {
                Err(Error::Fenced { seq: self.seq, owner: self.owner.clone(), epoch: self.epoch, ours })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The entry that an author would append next: it begins and ends where the log ends, and holds nothing yet.
    pub fn next_entry(&self, author: &Author, kind: EntryKind) -> Result<Entry, Error> {
        Ok(Entry {
            format: FORMAT,
            seq: self.seq + 1,
            nonce: nonce()?,
            epoch: author.epoch,
            owner: author.owner.clone(),
            kind,
            system_id: self.system_id.clone(),
            timeline: self.timeline,
            slot: self.slot.clone(),
            from_lsn: self.to_lsn,
            to_lsn: self.to_lsn,
            to_commit_ts: None,
            written_at: None,
            tables: Vec::new(),
            events: Vec::new(),
        })
    }

    fn empty(entry: &Entry) -> State {
        State {
            format: FORMAT,
            seq: 0,
            epoch: 0,
            owner: String::new(),
            system_id: entry.system_id.clone(),
            timeline: entry.timeline,
            slot: entry.slot.clone(),
            to_lsn: entry.from_lsn,
            to_commit_ts: None,
            publication: None,
            publication_members: BTreeMap::new(),
            tables: BTreeMap::new(),
            lineage: BTreeMap::new(),
            detached: BTreeMap::new(),
            partitions: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            last_cut: None,
            marks: Marks::default(),
        }
    }

    /// What a checkpoint's head has: all but what grows with the number of tables.
    pub(super) fn without_records(&self) -> State {
        State {
            format: self.format,
            seq: self.seq,
            epoch: self.epoch,
            owner: self.owner.clone(),
            system_id: self.system_id.clone(),
            timeline: self.timeline,
            slot: self.slot.clone(),
            to_lsn: self.to_lsn,
            to_commit_ts: self.to_commit_ts.clone(),
            publication: self.publication.clone(),
            publication_members: self.publication_members.clone(),
            tables: BTreeMap::new(),
            lineage: BTreeMap::new(),
            detached: BTreeMap::new(),
            partitions: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            last_cut: self.last_cut.clone(),
            marks: Marks::default(),
        }
    }

    /// Everything that parts of a checkpoint have.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let leaves = self.lineage.iter().flat_map(|(root, leaves)| leaves.keys().map(|leaf| (*root, *leaf)));
        let detached =
            self.detached.iter().flat_map(|(root, leaves)| leaves.keys().map(|leaf| (*root, *leaf)));
        let tables = self.tables.keys().map(|oid| Record::Table(*oid));
        tables
            .chain(leaves.map(|(root, leaf)| Record::Leaf { root, leaf }))
            .chain(detached.map(|(root, leaf)| Record::Detached { root, leaf }))
            .chain(self.partitions.keys().map(|oid| Record::Partition(*oid)))
            .chain(self.snapshots.keys().map(|oid| Record::Snapshot(*oid)))
    }

    fn apply(&mut self, entry: &Entry) {
        self.seq = entry.seq;
        self.epoch = entry.epoch;
        self.owner.clone_from(&entry.owner);
        self.system_id.clone_from(&entry.system_id);
        self.timeline = entry.timeline;
        self.slot.clone_from(&entry.slot);
        self.to_lsn = entry.to_lsn;
        if entry.to_commit_ts.is_some() {
            self.to_commit_ts.clone_from(&entry.to_commit_ts);
        }
        for event in &entry.events {
            self.apply_event(event);
        }
        match entry.kind {
            EntryKind::Commit => {
                self.add_totals(&entry.tables);
                self.last_cut = Some(entry.clone());
            }
            EntryKind::Void => {
                if let Some(voided) = self.last_cut.take() {
                    self.subtract_totals(&voided.tables);
                    for event in &voided.events {
                        self.void(event);
                    }
                }
            }
            // Entry N+1 is created only after N is published, so an idle entry proves that the cut before it is. What is left to publish of
            // one without files is the schemas of files that are being filled.
            EntryKind::Idle => self.last_cut = entry.has_schemas().then(|| entry.clone()),
            EntryKind::Open => {}
        }
    }

    /// A record is not what it was: the next checkpoint writes it.
    fn note(&mut self, record: Record) {
        self.marks.note(record, self.seq);
    }

    fn apply_event(&mut self, event: &Event) {
        match event {
            Event::Schema { table, schema_name, table_name, relation, path, schema_id, document } => {
                self.note(Record::Table(*relation));
                let document = self.marks.shared(Document::of(document));
                let known = self.tables.remove(relation);
                let (totals, renamed, needs_resync) =
                    known.map(|known| (known.totals, known.renamed, known.needs_resync)).unwrap_or_default();
                self.tables.insert(
                    *relation,
                    TableState {
                        table: table.clone(),
                        schema_name: schema_name.clone(),
                        table_name: table_name.clone(),
                        path: path.clone(),
                        schema_id: *schema_id,
                        document,
                        totals,
                        renamed,
                        needs_resync,
                    },
                );
            }
            Event::Attach { root, leaves } => self.attach(*root, leaves),
            Event::Detach { root, leaves, .. } => self.detach(*root, leaves),
            Event::Partitions { attached, gone } => {
                for (partition, transaction) in attached {
                    self.partitions.insert(*partition, *transaction);
                    self.note(Record::Partition(*partition));
                }
                for partition in gone {
                    self.partitions.remove(partition);
                    self.note(Record::Partition(*partition));
                }
            }
            Event::Publication { names, definition, members } => {
                self.publication = Some((names.clone(), definition.clone()));
                self.publication_members.clone_from(members);
            }
            Event::Rename { relation, schema_name, table_name, .. } => {
                self.note(Record::Table(*relation));
                if let Some(known) = self.tables.get_mut(relation) {
                    known.renamed = Some((schema_name.clone(), table_name.clone()));
                }
            }
            Event::NeedsResync { relation, column, reason, .. } => {
                self.note(Record::Table(*relation));
                if let Some(known) = self.tables.get_mut(relation) {
                    known.needs_resync.insert(column.clone(), reason.clone());
                }
            }
            Event::SnapshotStart { table, relation, root, supersedes, anew } => {
                self.note(Record::Snapshot(*relation));
                self.snapshots.entry(*relation).or_default().start(table, *root, *supersedes, *anew);
            }
            Event::SnapshotChunk(chunk) => {
                self.note(Record::Snapshot(chunk.relation));
                self.snapshots.entry(chunk.relation).or_default().add(chunk);
            }
            Event::SnapshotEnd { table, relation, lsn, reason, .. } => {
                self.note(Record::Snapshot(*relation));
                self.note(Record::Table(*relation));
                let snapshot = self.snapshots.entry(*relation).or_default();
                table.clone_into(&mut snapshot.table);
                snapshot.end(*lsn, reason.as_deref());
                let is_whole = reason.is_none() && snapshot.supersedes;
                if reason.is_none() && snapshot.root.is_some() {
                    // A leaf that is as whole as its root needs no word of its own.
                    self.snapshots.remove(relation);
                }
                if is_whole && let Some(known) = self.tables.get_mut(relation) {
                    known.needs_resync.clear();
                }
            }
            Event::Truncate { .. }
            | Event::Timeline { .. }
            | Event::Orphan { .. }
            | Event::Void { .. }
            | Event::Other(_) => {}
        }
    }

    /// What was not of the stream is not streamed again, so it is made again: rows of a snapshot are read anew, and what is left of them counts no
    /// more; that a leaf was detached is found again.
    fn void(&mut self, event: &Event) {
        if let Event::Detach { root, leaves, .. } = event {
            self.attach(*root, leaves);
            for (leaf, _) in leaves {
                // Zero attaches nothing.
                self.partitions.insert(*leaf, 0);
                self.note(Record::Partition(*leaf));
            }
        }
        let (Event::SnapshotChunk(Chunk { table, relation, .. })
        | Event::SnapshotEnd { table, relation, .. }) = event
        else {
            return;
        };
        let root = self.snapshots.get(relation).and_then(|known| known.root);
        let root = root.or_else(|| self.root_of(*relation));
        self.note(Record::Snapshot(*relation));
        self.snapshots.entry(*relation).or_default().start(table, root, true, true);
    }

    /// The root of a leaf.
    fn root_of(&self, leaf: u32) -> Option<u32> {
        self.lineage.iter().find(|(_, leaves)| leaves.contains_key(&leaf)).map(|(root, _)| *root)
    }

    fn attach(&mut self, root: u32, leaves: &[(u32, String)]) {
        let is_known = |(leaf, _): &(u32, String)| self.partitions.contains_key(leaf);
        if leaves.iter().any(is_known) {
            // It may come from another root.
            let others: Vec<u32> = self.lineage.keys().copied().filter(|other| *other != root).collect();
            others.into_iter().for_each(|other| self.forget_leaves(other, leaves));
        }
        let detached: Vec<u32> = self.detached.keys().copied().collect();
        for root in detached {
            let Some(of_root) = self.detached.get_mut(&root) else { continue };
            for (leaf, _) in leaves {
                if of_root.remove(leaf).is_some() {
                    self.marks.note(Record::Detached { root, leaf: *leaf }, self.seq);
                }
            }
        }
        self.detached.retain(|_, of_root| !of_root.is_empty());
        for (leaf, name) in leaves {
            self.lineage.entry(root).or_default().insert(*leaf, name.clone());
            self.note(Record::Leaf { root, leaf: *leaf });
        }
    }

    fn detach(&mut self, root: u32, leaves: &[(u32, String)]) {
        self.forget_leaves(root, leaves);
        for (leaf, name) in leaves {
            if self.snapshots.get(leaf).is_some_and(|snapshot| snapshot.root.is_some()) {
                self.snapshots.remove(leaf);
                self.note(Record::Snapshot(*leaf));
            }
            self.detached.entry(root).or_default().insert(*leaf, name.clone());
            self.note(Record::Detached { root, leaf: *leaf });
        }
    }

    fn forget_leaves(&mut self, root: u32, leaves: &[(u32, String)]) {
        let Some(of_root) = self.lineage.get_mut(&root) else { return };
        for (leaf, _) in leaves {
            if of_root.remove(leaf).is_some() {
                self.marks.note(Record::Leaf { root, leaf: *leaf }, self.seq);
            }
        }
        if of_root.is_empty() {
            self.lineage.remove(&root);
        }
    }

    fn add_totals(&mut self, tables: &[TableFiles]) {
        for files in tables {
            self.note(Record::Table(files.relation));
            if let Some(known) = self.tables.get_mut(&files.relation) {
                let sum = Totals::of(files);
                known.totals.rows += sum.rows;
                known.totals.files += sum.files;
                known.totals.bytes += sum.bytes;
            }
        }
    }

    fn subtract_totals(&mut self, tables: &[TableFiles]) {
        for files in tables {
            self.note(Record::Table(files.relation));
            if let Some(known) = self.tables.get_mut(&files.relation) {
                let sum = Totals::of(files);
                known.totals.rows = known.totals.rows.saturating_sub(sum.rows);
                known.totals.files = known.totals.files.saturating_sub(sum.files);
                known.totals.bytes = known.totals.bytes.saturating_sub(sum.bytes);
            }
        }
    }
}
