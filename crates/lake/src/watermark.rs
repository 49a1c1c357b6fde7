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
use crate::log::{Entry, FORMAT, to_json};
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

/// Writes the watermark of an entry that is published.
pub async fn write(store: &dyn Store, entry: &Entry, to_commit_ts: Option<String>) -> Result<(), Error> {
    let watermark = Watermark {
        format: FORMAT,
        seq: entry.seq,
        to_lsn: entry.to_lsn,
        to_commit_ts,
        epoch: entry.epoch,
        system_id: entry.system_id.clone(),
        timeline: entry.timeline,
    };
    let bytes = Bytes::from(to_json(&watermark)?);
    transient(|| store.put(layout::WATERMARK, bytes.clone())).await?;
    Ok(())
}
