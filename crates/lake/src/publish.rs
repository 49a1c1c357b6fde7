//! Makes logged files visible, and cleans up what was never logged.
//!
//! Owns: step 3 of the protocol, roll forward, and the aborting of abandoned uploads.
//! Does not: decide what is logged.
//! Holds: I4, only files of an entry that is durable are completed. Completing is idempotent, so anybody who read the entry may do it.
//! Uploads are aborted by the owner of the log only.
//! Fails: [`Error::UploadGone`] when a logged file can be had no more; nothing is skipped. [`Error::Fenced`] when somebody else owns the log.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::Value;
use tracing::{debug, warn};

use crate::error::Error;
use crate::kill_points::{kill_point, within};
use crate::layout;
use crate::log::{self, Entry, Event, FileEntry, State};
use crate::retry::transient;
use crate::store::{Completed, Store, StoreError};
use crate::watermark;

/// Makes every file of the entry visible.
pub async fn publish(store: &dyn Store, entry: &Entry) -> Result<(), Error> {
    let files = entry.tables.iter().flat_map(|table| &table.files);
    let completions: Vec<BoxFuture<'_, _>> =
        files.map(|file| publish_file(store, entry, file).boxed()).collect();
    stream::iter(completions).buffer_unordered(COMPLETIONS_IN_FLIGHT).try_collect().await
}

async fn publish_file(store: &dyn Store, entry: &Entry, file: &FileEntry) -> Result<(), Error> {
    let completed = transient(|| store.complete_upload(&file.key, &file.upload_id, &file.parts));
    match within("file-completing", completed).await? {
        Completed::Done => {
            kill_point("file-completed");
            return Ok(());
        }
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

/// Finishes what the owner before may have left half done: the last cut is logged, so it has to become visible. Call it once the `open`
/// entry is the end of the log. Gives how many uploads it aborted that no entry names.
pub async fn roll_forward(store: &dyn Store, state: &State) -> Result<usize, Error> {
    if let Some(entry) = &state.last_cut {
        // The watermark follows the last file: what is gone now was visible, and Postgres may have been told to forget it.
        if watermark::stands_for(store, entry.seq).await? {
            tell_lost(store, entry).await?;
            publish_schemas(store, entry).await?;
            return abort_abandoned(store, state).await;
        }
        publish(store, entry).await?;
        kill_point("rolling-forward");
        publish_schemas(store, entry).await?;
        watermark::write(store, entry, state.to_commit_ts.clone()).await?;
    }
    abort_abandoned(store, state).await
}

/// Says which files of a published entry are gone. Readers miss their rows, and the stream has no part in it.
async fn tell_lost(store: &dyn Store, entry: &Entry) -> Result<(), Error> {
    let files =
        entry.tables.iter().flat_map(|table| table.files.iter().map(move |file| (&table.table, file)));
    let looks: Vec<BoxFuture<'_, Result<(), Error>>> = files
        .map(|(table, file)| {
            async move {
                if transient(|| store.head(&file.key)).await? != Some(file.bytes) {
                    warn!(
                        table,
                        file = file.key,
                        hint = "`tributary fsck` looks at the whole lake; `tributary resync` of the table heals its current state",
                        "a file that was published is gone, or has another size"
                    );
                }
                Ok(())
            }
            .boxed()
        })
        .collect();
    stream::iter(looks).buffer_unordered(COMPLETIONS_IN_FLIGHT).try_collect().await
}

/// Aborts all uploads under the prefix. Nothing names them: the last cut is published, and nobody has begun another one.
async fn abort_abandoned(store: &dyn Store, state: &State) -> Result<usize, Error> {
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
    // I5: publishing may have taken longer than the slot was ours. Whoever opened the log since uploads only behind its entry, so while there
    // is none behind ours, nothing that was listed before is of somebody else.
    if let Some(entry) = log::next(store, state).await? {
        let Entry { seq, owner, epoch, .. } = entry;
        return Err(Error::Fenced { seq, owner, epoch, ours: state.epoch });
    }
    for upload in &unfinished {
        transient(|| store.abort_upload(&upload.key, &upload.upload_id)).await?;
    }
    Ok(unfinished.len())
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
    for (key, document) in entry.events.iter().filter_map(schema_document) {
        let bytes = bytes::Bytes::from(crate::log::to_json(&document)?);
        transient(|| store.put(&key, bytes.clone())).await?;
    }
    Ok(())
}

/// The key and the content of the document of a schema event.
pub(crate) fn schema_document(event: &Event) -> Option<(String, Value)> {
    let Event::Schema { table, relation, path, schema_id, document, .. } = event else { return None };
    let mut document = document.clone();
    if let Some(fields) = document.as_object_mut() {
        // A reader of the file alone should know whose schema it is, also after a rename.
        fields.insert("table".to_owned(), table.as_str().into());
        fields.insert("relation".to_owned(), (*relation).into());
    }
    Some((layout::schema_key(path, *schema_id), document))
}

/// Completions at once; each is one small request.
const COMPLETIONS_IN_FLIGHT: usize = 16;
