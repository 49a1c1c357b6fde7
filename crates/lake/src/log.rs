//! The commit log: what was done, in order, decided by one conditional creation each.
//!
//! Owns: the form of log entries, the state that they fold to, its checkpoints, and appending (steps 2 of the protocol).
//! Does not: upload or publish files, or know what an event means to Postgres.
//! Holds: I5, an entry is created with put-if-absent; entries are consecutive, and each begins where the one before ended.
//! Fails: [`Error::Fenced`] when the number was taken by another writer; [`Error::Chain`] and [`Error::Unreadable`] when the
//! log on the store is not one.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use pgoutput::Lsn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ambient;
use crate::error::Error;
use crate::kill_points::within;
use crate::layout::{self, Partition};
use crate::retry::transient;
use crate::store::{Created, Part, Store};

mod checkpoint;
mod snapshot;
mod state;

pub use checkpoint::write_checkpoint;
pub(crate) use checkpoint::{Found, heads, read_checkpoint};
pub use snapshot::{Chunk, ReadPiece, ReadRelation, Reading, TableSnapshot};
pub use state::{Document, Lineage, State, TableState, Totals};

/// The version of the form of log entries.
pub const FORMAT: u32 = 1;

/// After how many entries the folded state is written beside the log.
pub const CHECKPOINT_INTERVAL: u64 = 100;

/// What a log entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A daemon took over: from here on the one before can log nothing.
    Open,
    /// A cut: files and progress together.
    Commit,
    /// Progress without rows.
    Idle,
    /// The entry before it counts no more; its range is streamed again.
    Void,
}

impl EntryKind {
    /// The word for it in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            EntryKind::Open => "open",
            EntryKind::Commit => "commit",
            EntryKind::Idle => "idle",
            EntryKind::Void => "void",
        }
    }
}

/// One log entry, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`FORMAT`]
    pub format: u32,
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// Random; tells our own entry from another's after an unknown outcome.
    pub nonce: String,
    /// Which daemon start wrote it: counts up by one with every `open`.
    pub epoch: u64,
    /// Who wrote it, for people: host and process.
    pub owner: String,
    /// What it records.
    pub kind: EntryKind,
    /// The source's system identifier.
    pub system_id: String,
    /// The source's timeline.
    pub timeline: u32,
    /// The replication slot.
    pub slot: String,
    /// Where it begins: the `to_lsn` of the entry before.
    pub from_lsn: Lsn,
    /// Where a resume starts after it.
    pub to_lsn: Lsn,
    /// Commit time of the last transaction it holds, RFC 3339; absent when it holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_commit_ts: Option<String>,
    /// When it was written, RFC 3339; for people, never used for a decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_at: Option<String>,
    /// The files, by table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableFiles>,
    /// What else happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

impl Entry {
    /// The entry that begins the log of a slot at a position; it holds nothing yet.
    pub fn first(
        owner: String,
        system_id: &str,
        timeline: u32,
        slot: &str,
        start: Lsn,
    ) -> Result<Entry, Error> {
        Ok(Entry {
            format: FORMAT,
            seq: 1,
            nonce: nonce()?,
            epoch: 1,
            owner,
            kind: EntryKind::Open,
            system_id: system_id.to_owned(),
            timeline,
            slot: slot.to_owned(),
            from_lsn: start,
            to_lsn: start,
            to_commit_ts: None,
            written_at: None,
            tables: Vec::new(),
            events: Vec::new(),
        })
    }

    /// Whether there are schema documents to publish with it.
    fn has_schemas(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Schema { .. }))
    }
}

/// The files of one table in a cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableFiles {
    /// `schema.table` as Postgres names it.
    pub table: String,
    /// The OID of the root table.
    pub relation: u32,
    /// The version of the schema that all these files have.
    pub schema_id: u32,
    /// The files.
    pub files: Vec<FileEntry>,
}

/// One data file: enough to publish it, and to check it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its key.
    pub key: String,
    /// The upload that holds its parts.
    pub upload_id: String,
    /// The parts.
    pub parts: Vec<Part>,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Rows by `_cdc_op`.
    pub ops: BTreeMap<String, u64>,
    /// What its rows have in common: their hour, counted from 1970, or their values by the keys of the folders.
    pub partition: Partition,
    /// Lowest and highest `_cdc_lsn`.
    pub lsn_range: [Lsn; 2],
    /// Lowest and highest `_cdc_commit_ts`, RFC 3339.
    pub ts_range: [String; 2],
    /// CRC-32 of the whole file, eight hexadecimal digits.
    pub crc: String,
}

/// What else happened in the range of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A table appeared, or its schema got a new version.
    Schema {
        /// `schema.table` as Postgres names it.
        table: String,
        /// Postgres's schema name.
        schema_name: String,
        /// Postgres's table name.
        table_name: String,
        /// The OID of the root table.
        relation: u32,
        /// Its folder in the lake.
        path: String,
        /// The version.
        schema_id: u32,
        /// The schema itself.
        document: Value,
    },
    /// Leaves that belong to a root.
    Attach {
        /// The OID of the root.
        root: u32,
        /// OID and name of each leaf.
        leaves: Vec<(u32, String)>,
    },
    /// Leaves that are no leaves of the root any more.
    Detach {
        /// The root table as Postgres names it.
        table: String,
        /// The OID of the root.
        root: u32,
        /// OID and name of each leaf.
        leaves: Vec<(u32, String)>,
        /// They do not exist any more.
        dropped: bool,
        /// They were leaves until here at the latest.
        lsn: Lsn,
        /// Commit time of the last transaction before that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit_ts: Option<String>,
        /// Their rows count no more: each has a `T` in this entry.
        marked: bool,
    },
    /// The partitions of the database whose rows are in the lake, or are being read, or are not wanted.
    Partitions {
        /// Each with the transaction that attached it.
        attached: Vec<(u32, u32)>,
        /// What is no partition any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gone: Vec<u32>,
    },
    /// A relation was truncated.
    Truncate {
        /// The root table.
        table: String,
        /// The relation that was truncated.
        relation: String,
        /// `commit_lsn` of the transaction.
        commit_lsn: Lsn,
    },
    /// A table has another name or schema in Postgres; in the lake it keeps its folder.
    Rename {
        /// `schema.table` as the lake knows it.
        table: String,
        /// The OID of the root table.
        relation: u32,
        /// Postgres's schema name now.
        schema_name: String,
        /// Postgres's table name now.
        table_name: String,
    },
    /// Rows written before may differ from Postgres in a column, and no change will say how: the table has to be read again.
    NeedsResync {
        /// `schema.table` as Postgres names it.
        table: String,
        /// The OID of the root table.
        relation: u32,
        /// The column, by its Postgres name.
        column: String,
        /// Why.
        reason: String,
    },
    /// The rows that a table has already are going to be read.
    SnapshotStart {
        /// `schema.table` as Postgres names it.
        table: String,
        /// The OID of the root table, or of the leaf.
        relation: u32,
        /// The OID of the root table, if only a leaf of it is read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<u32>,
        /// What was in the lake before counts no more once the snapshot is done.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        supersedes: bool,
        /// What was read of it counts no more, either.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anew: bool,
    },
    /// A part of it is read, and in files of this entry.
    SnapshotChunk(Chunk),
    /// All of it is read, or cannot be.
    SnapshotEnd {
        /// `schema.table` as Postgres names it.
        table: String,
        /// The OID of the root table, or of the leaf.
        relation: u32,
        /// The consistent point of its oldest rows that count.
        lsn: Lsn,
        /// How many rows were read.
        rows: u64,
        /// Why it was set aside, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The source is on a newer timeline.
    Timeline {
        /// The timeline before.
        from: u32,
        /// The timeline now.
        to: u32,
    },
    /// The publications that are read, and a hash of their definition.
    Publication {
        /// Their names.
        names: Vec<String>,
        /// Hash of their definition.
        definition: String,
        /// The parts of their definition, each with its hash, so that what was added is told from what was changed; empty
        /// if they are too many.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        members: BTreeMap<String, String>,
    },
    /// The relation of rows was unknown to the catalogs and the log: they went to a table of their own.
    Orphan {
        /// The OID.
        relation: u32,
        /// Its name in the stream.
        table: String,
    },
    /// The entry before counts no more.
    Void {
        /// The number of that entry.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// Something that this version does not know; kept as it is.
    #[serde(untagged)]
    Other(Value),
}

/// Who appends to the log.
#[derive(Clone, Debug)]
pub struct Author {
    /// The epoch of this daemon start.
    pub epoch: u64,
    /// Host and process, for people.
    pub owner: String,
}

/// A random nonce of 128 bits, in hexadecimal.
pub fn nonce() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    ambient::random(&mut bytes)
        .map_err(|error| Error::Bug(format!("the system gives no randomness: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Appends one entry: the put that decides.
///
/// An unknown outcome is resolved by reading the entry back and comparing nonces: ours, it is logged; another's, we are
/// fenced; absent, the put is repeated. Store trouble is waited out.
pub async fn append(store: &dyn Store, entry: &Entry) -> Result<(), Error> {
    let key = layout::log_key(entry.seq);
    let bytes = Bytes::from(to_json(entry)?);
    loop {
        match within("log-put-sent", store.put_if_absent(&key, bytes.clone())).await {
            Ok(Created::New) => return Ok(()),
            Ok(Created::Exists) => {}
            Err(error) if error.is_transient() => {
                tracing::warn!(key, error = %error, "the outcome of a log entry is unknown, reading it back");
            }
            Err(error) => return Err(error.into()),
        }
        // I5: whoever is in the log under this number won.
        match transient(|| store.get(&key)).await? {
            Some(object) => {
                let found: Entry = parse(&key, &object.bytes)?;
                if found.nonce == entry.nonce {
                    return Ok(());
                }
                return Err(Error::Fenced {
                    seq: entry.seq,
                    owner: found.owner,
                    epoch: found.epoch,
                    ours: entry.epoch,
                });
            }
            None => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
}

/// Takes the log over: appends an `open` entry behind whatever the log's end is by now, from where on the owner before can log nothing more.
///
/// `ours` is the epoch of our last one; another at the log's end means that somebody else took over since. `fill` says what the entry
/// records of the source. `None` if the log keeps growing, so that another daemon must be writing it.
pub async fn open(
    store: &dyn Store,
    state: &mut State,
    ours: Option<u64>,
    owner: String,
    fill: impl Fn(&State, Entry) -> Entry,
) -> Result<Option<Author>, Error> {
    for _ in 0..OPEN_TRIES {
        follow_on(store, state).await?;
        state.refuse_fenced(ours)?;
        let author = Author { epoch: state.epoch + 1, owner: owner.clone() };
        let entry = fill(state, state.next_entry(&author, EntryKind::Open)?);
        match append(store, &entry).await {
            Ok(()) => {
                state.advance(&entry)?;
                return Ok(Some(author));
            }
            // The last put of the owner before us landed late. Its cut counts: read the tail again.
            Err(Error::Fenced { seq, owner, .. }) => {
                tracing::info!(seq, owner, "the log grew while it was opened, reading on");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The state that the whole log folds to; `None` if there is no log.
pub async fn load(store: &dyn Store) -> Result<Option<State>, Error> {
    let mut state = checkpoint::latest(store).await?;
    let mut after = layout::log_key(state.as_ref().map_or(0, |state| state.seq));
    // Checkpoints sort behind all entries.
    while after.as_str() < layout::CHECKPOINT_PREFIX {
        let listed = transient(|| store.list(layout::LOG_PREFIX, Some(&after), LIST_LIMIT)).await?;
        let Some(last) = listed.last() else { break };
        let next_after = last.key.clone();
        let keys = listed.into_iter().map(|object| object.key).filter(|key| layout::log_seq(key).is_some());
        let reads: Vec<BoxFuture<'_, _>> = keys.map(|key| read(store, key).boxed()).collect();
        let entries: Vec<Entry> = stream::iter(reads).buffered(READS_IN_FLIGHT).try_collect().await?;
        for entry in entries {
            State::fold(&mut state, &entry)?;
        }
        after = next_after;
    }
    follow(store, &mut state).await?;
    Ok(state)
}

/// Folds entries that were appended since the state was read.
pub async fn follow(store: &dyn Store, state: &mut Option<State>) -> Result<(), Error> {
    if state.is_none() {
        let Some(entry) = read_if_there(store, 1).await? else { return Ok(()) };
        State::fold(state, &entry)?;
    }
    match state {
        Some(state) => follow_on(store, state).await,
        None => Ok(()),
    }
}

/// Folds entries that were appended since the state was read.
pub async fn follow_on(store: &dyn Store, state: &mut State) -> Result<(), Error> {
    while let Some(entry) = next(store, state).await? {
        state.advance(&entry)?;
    }
    Ok(())
}

/// The entry behind those that the state was folded from, if somebody has appended one.
pub(crate) async fn next(store: &dyn Store, state: &State) -> Result<Option<Entry>, Error> {
    read_if_there(store, state.seq + 1).await
}

/// Reads one entry, if somebody has appended it.
pub async fn read_if_there(store: &dyn Store, seq: u64) -> Result<Option<Entry>, Error> {
    let key = layout::log_key(seq);
    match transient(|| store.get(&key)).await? {
        Some(object) => parse(&key, &object.bytes).map(Some),
        None => Ok(None),
    }
}

/// Reads one entry that must be there.
pub async fn read(store: &dyn Store, key: String) -> Result<Entry, Error> {
    match transient(|| store.get(&key)).await? {
        Some(object) => parse(&key, &object.bytes),
        None => Err(Error::Unreadable { key, reason: "it was listed and is gone".to_owned() }),
    }
}

/// Stores what a control object holds, as people may read it.
pub fn to_json<T: Serialize>(document: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document)
        .map_err(|error| Error::Bug(format!("a control object cannot be written: {error}")))
}

pub(crate) fn parse<T: for<'de> Deserialize<'de>>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let unreadable = |reason: String| Error::Unreadable { key: key.to_owned(), reason };
    let Versioned { format } =
        serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
    if format != FORMAT {
        return Err(unreadable(format!("it has format {format}, and this version reads format {FORMAT}")));
    }
    serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))
}

/// How often the log may grow under an opening; each time means that one late put landed.
const OPEN_TRIES: usize = 10;
/// Objects a listing asks for at once: what S3 gives at most.
const LIST_LIMIT: usize = 1_000;
/// Log entries read at once at start-up: 16 requests of some kilobytes.
const READS_IN_FLIGHT: usize = 16;

#[cfg(test)]
mod tests;
