//! The consistent cut that any reader can use.
//!
//! Owns: `_tributary/watermark.json`.
//! Does not: decide anything; the log does. A watermark that moves back for a moment only makes readers see an older cut.
//! Holds: it is written after every file of its cut is visible.
//! Fails: store errors, after transient ones were waited out.

use bytes::Bytes;
use pgoutput::Lsn;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::layout;
use crate::log::{self, Entry, FORMAT, State, to_json};
use crate::retry::transient;
use crate::store::Store;

/// Everything that committed up to here is visible, over all tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The version of this form.
    pub format: u32,
    /// The log entry it stands for; the files that count are those named by entries up to it.
    pub seq: u64,
    /// Every transaction whose commit ended at or before this LSN is in.
    pub to_lsn: Lsn,
    /// Commit time of the last of them, RFC 3339.
    pub to_commit_ts: Option<String>,
    /// The writer's epoch.
    pub epoch: u64,
    /// The source's system identifier.
    pub system_id: String,
    /// The source's timeline.
    pub timeline: u32,
}

impl Watermark {
    /// That of an entry, with the commit time of the last transaction up to it.
    pub fn of(entry: &Entry, to_commit_ts: Option<String>) -> Watermark {
        Watermark {
            format: FORMAT,
            seq: entry.seq,
            to_lsn: entry.to_lsn,
            to_commit_ts,
            epoch: entry.epoch,
            system_id: entry.system_id.clone(),
            timeline: entry.timeline,
        }
    }

    pub(crate) async fn put(&self, store: &dyn Store) -> Result<(), Error> {
        let bytes = Bytes::from(to_json(self)?);
        transient(|| store.put(layout::WATERMARK, bytes.clone())).await?;
        Ok(())
    }
}

/// The watermark; none if there is none, or it cannot be read (`fsck` tells).
pub async fn read(store: &dyn Store) -> Result<Option<Watermark>, Error> {
    let found = transient(|| store.get(layout::WATERMARK)).await?;
    Ok(found.and_then(|object| serde_json::from_slice(&object.bytes).ok()))
}

/// Whether the watermark stands for this entry, or a later one: then every file of it was visible.
pub async fn stands_for(store: &dyn Store, seq: u64) -> Result<bool, Error> {
    Ok(read(store).await?.is_some_and(|watermark| watermark.seq >= seq))
}

/// Refuses a log whose end is gone: the watermark stands for an entry behind it. Who went on would give its number to another one, and stream
/// rows again that are in the lake.
pub async fn refuse_lost_entries(store: &dyn Store, state: &mut State) -> Result<(), Error> {
    let Some(watermark) = read(store).await? else { return Ok(()) };
    if watermark.seq > state.seq {
        // Somebody else may have gone on meanwhile.
        log::follow_on(store, state).await?;
    }
    if watermark.seq > state.seq {
        let reason = format!("it is gone, and the watermark stands for entry {}", watermark.seq);
        return Err(Error::Chain { seq: state.seq + 1, reason });
    }
    Ok(())
}

/// Writes the watermark of an entry that is published.
pub async fn write(store: &dyn Store, entry: &Entry, to_commit_ts: Option<String>) -> Result<(), Error> {
    Watermark::of(entry, to_commit_ts).put(store).await
}
