//! What the log folds to: where to resume, and what is known of every table.
//!
//! Owns: [`State`], and how each kind of entry changes it.
//! Does not: read or write objects.
//! Holds: folding the same entries gives the same state, with or without a checkpoint on the way.
//! Fails: [`Error::Chain`] when an entry does not continue the state.

use std::collections::BTreeMap;

use pgoutput::Lsn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    #[serde(default)]
    pub tables: BTreeMap<u32, TableState>,
    /// The leaves of every root, by its OID.
    #[serde(default)]
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
    pub document: Value,
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

fn forget(known: &mut Lineage, leaves: &[(u32, String)]) {
    for (leaf, _) in leaves {
        known.remove(leaf);
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
        }
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
            // Entry N+1 is created only after N is published, so an idle entry proves that the cut before it is.
            EntryKind::Idle => self.last_cut = None,
            EntryKind::Open => {}
        }
    }

    fn apply_event(&mut self, event: &Event) {
        match event {
            Event::Schema { table, schema_name, table_name, relation, path, schema_id, document } => {
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
                        document: document.clone(),
                        totals,
                        renamed,
                        needs_resync,
                    },
                );
            }
            Event::Attach { root, leaves } => self.attach(*root, leaves),
            Event::Detach { root, leaves, .. } => self.detach(*root, leaves),
            Event::Partitions { attached, gone } => {
                self.partitions.extend(attached.iter().copied());
                for partition in gone {
                    self.partitions.remove(partition);
                }
            }
            Event::Publication { names, definition, members } => {
                self.publication = Some((names.clone(), definition.clone()));
                self.publication_members.clone_from(members);
            }
            Event::Rename { relation, schema_name, table_name, .. } => {
                if let Some(known) = self.tables.get_mut(relation) {
                    known.renamed = Some((schema_name.clone(), table_name.clone()));
                }
            }
            Event::NeedsResync { relation, column, reason, .. } => {
                if let Some(known) = self.tables.get_mut(relation) {
                    known.needs_resync.insert(column.clone(), reason.clone());
                }
            }
            Event::SnapshotStart { table, relation, root, supersedes, anew } => {
                self.snapshots.entry(*relation).or_default().start(table, *root, *supersedes, *anew);
            }
            Event::SnapshotChunk(chunk) => {
                self.snapshots.entry(chunk.relation).or_default().add(chunk);
            }
            Event::SnapshotEnd { table, relation, lsn, reason, .. } => {
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
            // Zero attaches nothing.
            self.partitions.extend(leaves.iter().map(|(leaf, _)| (*leaf, 0)));
        }
        let (Event::SnapshotChunk(Chunk { table, relation, .. })
        | Event::SnapshotEnd { table, relation, .. }) = event
        else {
            return;
        };
        let root = self.snapshots.get(relation).and_then(|known| known.root);
        let root = root.or_else(|| self.root_of(*relation));
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
            let others = self.lineage.iter_mut().filter(|(other, _)| **other != root);
            others.for_each(|(_, of_other)| forget(of_other, leaves));
        }
        self.detached.values_mut().for_each(|of_root| forget(of_root, leaves));
        self.detached.retain(|_, of_root| !of_root.is_empty());
        self.lineage.entry(root).or_default().extend(leaves.iter().cloned());
    }

    fn detach(&mut self, root: u32, leaves: &[(u32, String)]) {
        if let Some(of_root) = self.lineage.get_mut(&root) {
            forget(of_root, leaves);
        }
        for (leaf, _) in leaves {
            if self.snapshots.get(leaf).is_some_and(|snapshot| snapshot.root.is_some()) {
                self.snapshots.remove(leaf);
            }
        }
        self.detached.entry(root).or_default().extend(leaves.iter().cloned());
    }

    fn add_totals(&mut self, tables: &[TableFiles]) {
        for files in tables {
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
            if let Some(known) = self.tables.get_mut(&files.relation) {
                let sum = Totals::of(files);
                known.totals.rows = known.totals.rows.saturating_sub(sum.rows);
                known.totals.files = known.totals.files.saturating_sub(sum.files);
                known.totals.bytes = known.totals.bytes.saturating_sub(sum.bytes);
            }
        }
    }
}
