//! Makes logged files visible, and cleans up what was never logged.
//!
//! Owns: step 3 of the protocol, roll forward, and the aborting of abandoned uploads.
//! Does not: decide what is logged.
//! Holds: I4, only files of an entry that is durable are completed. Completing is idempotent, so anybody who read the entry may do it.
//! Fails: [`Error::UploadGone`] when a logged file can be had no more; nothing is skipped.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tracing::{debug, warn};

use crate::error::Error;
use crate::layout;
use crate::log::{Entry, FileEntry};
use crate::retry::transient;
use crate::store::{Completed, Store, StoreError};

/// Makes every file of the entry visible.
pub async fn publish(store: &dyn Store, entry: &Entry) -> Result<(), Error> {
    let files = entry.tables.iter().flat_map(|table| &table.files);
    let completions: Vec<BoxFuture<'_, _>> =
        files.map(|file| publish_file(store, entry, file).boxed()).collect();
    stream::iter(completions).buffer_unordered(COMPLETIONS_IN_FLIGHT).try_collect().await
}

async fn publish_file(store: &dyn Store, entry: &Entry, file: &FileEntry) -> Result<(), Error> {
    match transient(|| store.complete_upload(&file.key, &file.upload_id, &file.parts)).await? {
        Completed::Done => return Ok(()),
        Completed::NoSuchUpload => {}
    }
    // Completed before, by us with a lost reply or by the daemon before us; or aborted by somebody else.
    match transient(|| store.head(&file.key)).await? {
        Some(bytes) if bytes == file.bytes => Ok(()),
        Some(_) | None => {
            Err(Error::UploadGone { seq: entry.seq, key: file.key.clone(), from_lsn: entry.from_lsn })
        }
    }
}

/// Aborts uploads under the prefix that the entry does not name. Call it only as the owner of the log: after the `open` entry.
pub async fn abort_abandoned(store: &dyn Store, keep: Option<&Entry>) -> Result<usize, Error> {
    let named: BTreeSet<&str> = keep
        .iter()
        .flat_map(|entry| &entry.tables)
        .flat_map(|table| &table.files)
        .map(|file| file.upload_id.as_str())
        .collect();
    let unfinished = match transient(|| store.list_uploads("")).await {
        Ok(unfinished) => unfinished,
        Err(StoreError::Unsupported { .. }) => {
            debug!("the store does not list uploads; leave abandoned ones to a lifecycle rule");
            return Ok(0);
        }
        Err(error) => {
            // Leftovers cost space, not correctness; a role without ListBucketMultipartUploads may run.
            warn!(error = %error, "abandoned uploads cannot be listed; leave them to a lifecycle rule");
            return Ok(0);
        }
    };
    let mut aborted = 0;
    for upload in unfinished.iter().filter(|upload| !named.contains(upload.upload_id.as_str())) {
        transient(|| store.abort_upload(&upload.key, &upload.upload_id)).await?;
        aborted += 1;
    }
    Ok(aborted)
}

/// The first step of `repair` for an entry that can be published no more: aborts its uploads, so that nobody publishes them late.
pub async fn abort_entry(store: &dyn Store, entry: &Entry) -> Result<(), Error> {
    for file in entry.tables.iter().flat_map(|table| &table.files) {
        transient(|| store.abort_upload(&file.key, &file.upload_id)).await?;
    }
    Ok(())
}

/// Deletes those files of an entry that were published, before it is voided.
pub async fn delete_published(store: &dyn Store, entry: &Entry) -> Result<usize, Error> {
    let mut deleted = 0;
    for file in entry.tables.iter().flat_map(|table| &table.files) {
        if transient(|| store.head(&file.key)).await?.is_some() {
            transient(|| store.delete(&file.key)).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// Whether the files of an entry are all visible or can all be made so; the first that cannot.
pub async fn first_missing(store: &dyn Store, entry: &Entry) -> Result<Option<String>, Error> {
    let unfinished = match transient(|| store.list_uploads("")).await {
        Ok(unfinished) => Some(unfinished),
        Err(StoreError::Unsupported { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    for file in entry.tables.iter().flat_map(|table| &table.files) {
        let visible = transient(|| store.head(&file.key)).await? == Some(file.bytes);
        let pending = unfinished
            .as_ref()
            .is_none_or(|list| list.iter().any(|upload| upload.upload_id == file.upload_id));
        if !visible && !pending {
            return Ok(Some(file.key.clone()));
        }
    }
    Ok(None)
}

/// The schema documents of an entry's events, written where readers look for them.
pub async fn publish_schemas(store: &dyn Store, entry: &Entry) -> Result<(), Error> {
    for event in &entry.events {
        if let crate::log::Event::Schema { table, relation, path, schema_id, document, .. } = event {
            let mut document = document.clone();
            if let Some(fields) = document.as_object_mut() {
                // A reader of the file alone should know whose schema it is, also after a rename.
                fields.insert("table".to_owned(), table.as_str().into());
                fields.insert("relation".to_owned(), (*relation).into());
            }
            let bytes = bytes::Bytes::from(crate::log::to_json(&document)?);
            let key = layout::schema_key(path, *schema_id);
            transient(|| store.put(&key, bytes.clone())).await?;
        }
    }
    Ok(())
}

/// Completions at once; each is one small request.
const COMPLETIONS_IN_FLIGHT: usize = 16;
