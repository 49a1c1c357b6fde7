//! The few things that can be mended without losing anything, also beside a running daemon.
//!
//! Owns: aborting uploads that nobody can log, completing uploads that the log names, and writing again what follows from the log.
//! Does not: delete an object, or append to the log.
//! Holds: each is something that the daemon does by itself, may be done twice, and may be done by anybody who read the log.
//! Fails: as the store does; what was not mended by then stays a finding of the next check.

use serde_json::Value;

use super::{Finding, watermark};
use crate::error::Error;
use crate::log::{self, FileEntry};
use crate::retry::transient;
use crate::store::{Completed, Store};
use crate::watermark::Watermark;

/// What mends a finding.
#[derive(Debug)]
pub(super) enum Action {
    Abort { upload_id: String },
    Complete(Box<FileEntry>),
    WriteSchema(Value),
    Watermark { found: Option<Watermark>, target: Watermark },
}

pub(super) async fn run(store: &dyn Store, findings: &mut [Finding]) -> Result<(), Error> {
    for finding in findings {
        let Some(action) = &finding.action else { continue };
        finding.repaired = match action {
            Action::Abort { upload_id } => {
                transient(|| store.abort_upload(&finding.key, upload_id)).await?;
                true
            }
            Action::Complete(file) => complete(store, file).await?,
            Action::WriteSchema(document) => {
                let bytes = bytes::Bytes::from(log::to_json(document)?);
                transient(|| store.put(&finding.key, bytes.clone())).await?;
                true
            }
            Action::Watermark { found, target } => write_watermark(store, found.as_ref(), target).await?,
        };
    }
    Ok(())
}

async fn complete(store: &dyn Store, file: &FileEntry) -> Result<bool, Error> {
    let completed = transient(|| store.complete_upload(&file.key, &file.upload_id, &file.parts)).await?;
    match completed {
        Completed::Done => Ok(true),
        Completed::NoSuchUpload => Ok(transient(|| store.head(&file.key)).await? == Some(file.bytes)),
    }
}

/// A daemon may have written a newer one since; between this look and the write it still can, and then its next cut writes it again.
async fn write_watermark(
    store: &dyn Store,
    found: Option<&Watermark>,
    target: &Watermark,
) -> Result<bool, Error> {
    let is_newer = match watermark::read(store).await? {
        watermark::Found::Says(now) => now.seq > target.seq && Some(&now) != found,
        watermark::Found::Absent | watermark::Found::Unreadable(_) => false,
    };
    if !is_newer {
        target.put(store).await?;
    }
    Ok(true)
}
