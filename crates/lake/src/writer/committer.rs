//! The ordered half of the writer: log, then publish, then tell.
//!
//! Owns: the log's end while this daemon owns it.
//! Does not: encode or upload; it waits for those who do.
//! Holds: I3 and I4. One cut is logged and published before the next is logged.
//! Fails: the first error is announced and ends the task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgoutput::Lsn;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::debug;

use super::{Cut, FileSpec, Shared};
use crate::error::Error;
use crate::kill_points::kill_point;
use crate::log::{self, Author, CHECKPOINT_INTERVAL, Entry, EntryKind, FileEntry, State, TableFiles, Totals};
use crate::publish;
use crate::time;
use crate::watermark;

/// A cut whose files take no more rows.
pub(super) struct Sealed {
    pub(super) seq: u64,
    pub(super) cut: Cut,
    pub(super) files: Vec<SealedFile>,
}

/// The files of one table and hour, on their way to the store.
pub(super) struct SealedFile {
    pub(super) spec: FileSpec,
    pub(super) task: JoinSet<Result<Vec<FileEntry>, Error>>,
}

/// A cut that every reader can see.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its log entry.
    pub seq: u64,
    /// What the entry records.
    pub kind: EntryKind,
    /// Postgres may be told that everything up to here is safe.
    pub to_lsn: Lsn,
    /// Commit time of its first transaction in microseconds since 1970.
    pub from_commit_time: Option<i64>,
    /// Commit time of its last transaction in microseconds since 1970.
    pub to_commit_time: Option<i64>,
    /// When the last of its files became visible.
    pub published_at: Instant,
    /// What it added, by table name.
    pub tables: Vec<(String, Totals)>,
    /// From the seal to the durable entry.
    pub log_duration: Duration,
    /// From the durable entry to the last visible file.
    pub publish_duration: Duration,
}

/// The task that logs and publishes.
pub(super) struct Committer {
    shared: Arc<Shared>,
    state: State,
    author: Author,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, state: State, author: Author) -> Committer {
        Committer { shared, state, author }
    }

    pub(super) async fn run(
        mut self,
        mut sealed: mpsc::Receiver<Sealed>,
        announce: mpsc::Sender<Result<Published, Error>>,
    ) {
        while let Some(cut) = sealed.recv().await {
            let outcome = self.commit(cut).await;
            let failed = outcome.is_err();
            if announce.send(outcome).await.is_err() || failed {
                return;
            }
        }
    }

    async fn commit(&mut self, sealed: Sealed) -> Result<Published, Error> {
        let begun = Instant::now();
        let Sealed { seq, cut, files } = sealed;
        let tables = match collect(files).await {
            Ok(tables) => tables,
            Err(error) => return Err(self.cause_of(error).await),
        };
        kill_point("parts-uploaded");
        let (from_commit_time, to_commit_time) = (cut.from_commit_time, cut.to_commit_time);
        let entry = self.entry(cut, tables)?;
        // The files of the cut are named with it.
        assert_eq!(entry.seq, seq, "a cut out of turn");
        let store = self.shared.store.as_ref();
        log::append(store, &entry).await?;
        match entry.kind {
            EntryKind::Idle => kill_point("idle-logged"),
            EntryKind::Open | EntryKind::Commit | EntryKind::Void => kill_point("entry-logged"),
        }
        self.state.advance(&entry)?;
        let log_duration = begun.elapsed();

        publish::publish(store, &entry).await?;
        kill_point("files-published");
        publish::publish_schemas(store, &entry).await?;
        watermark::write(store, &entry, self.state.to_commit_ts.clone()).await?;
        kill_point("watermark-written");
        let published_at = Instant::now();
        let publish_duration = published_at.duration_since(begun).saturating_sub(log_duration);
        debug!(seq, to_lsn = %entry.to_lsn, tables = entry.tables.len(), "published cut");

        if seq.is_multiple_of(CHECKPOINT_INTERVAL) {
            log::write_checkpoint(store, &mut self.state).await?;
        }
        let tables = entry.tables.iter().map(|table| (table.table.clone(), Totals::of(table))).collect();
        Ok(Published {
            seq,
            kind: entry.kind,
            to_lsn: entry.to_lsn,
            from_commit_time,
            to_commit_time,
            published_at,
            tables,
            log_duration,
            publish_duration,
        })
    }

    /// Why files could not be uploaded: whoever opened the log since has aborted what we had begun (I5), and of that the store knows nothing.
    async fn cause_of(&self, error: Error) -> Error {
        match log::next(self.shared.store.as_ref(), &self.state).await {
            Ok(Some(Entry { seq, owner, epoch, .. })) if epoch != self.author.epoch => {
                Error::Fenced { seq, owner, epoch, ours: self.author.epoch }
            }
            Ok(_) | Err(_) => error,
        }
    }

    fn entry(&self, cut: Cut, tables: Vec<TableFiles>) -> Result<Entry, Error> {
        let kind = if tables.is_empty() { EntryKind::Idle } else { EntryKind::Commit };
        Ok(Entry {
            to_lsn: cut.to_lsn,
            to_commit_ts: cut.to_commit_time.map(time::rfc3339),
            written_at: Some(cut.written_at),
            tables,
            events: cut.events,
            ..self.state.next_entry(&self.author, kind)?
        })
    }
}

/// Waits for the files of a cut, and groups them by table and schema version.
async fn collect(files: Vec<SealedFile>) -> Result<Vec<TableFiles>, Error> {
    let mut tables: BTreeMap<(u32, u32), TableFiles> = BTreeMap::new();
    for SealedFile { spec, mut task } in files {
        let Some(outcome) = task.join_next().await else {
            return Err(Error::Bug(format!("the file task of {} was never started", spec.table)));
        };
        let entries = outcome
            .map_err(|error| Error::Bug(format!("the file task of {} ended: {error}", spec.table)))??;
        let table = tables.entry((spec.relation, spec.schema_id)).or_insert_with(|| TableFiles {
            table: spec.table,
            relation: spec.relation,
            schema_id: spec.schema_id,
            files: Vec::new(),
        });
        table.files.extend(entries);
    }
    let mut tables: Vec<TableFiles> = tables.into_values().filter(|table| !table.files.is_empty()).collect();
    for table in &mut tables {
        table.files.sort_by(|a, b| a.key.cmp(&b.key));
    }
    Ok(tables)
}
