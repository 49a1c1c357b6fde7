//! Does a store keep the promise on which exactly-once rests: that an object is created only once?
//!
//! Owns: the requests that find out, under `_tributary/probe/`.
//! Does not: prove it; a store that decides races by luck can pass. The known offenders do not.
//! Holds: leaves no object behind where deleting is allowed, and none that a reader of the lake would see.
//! Fails: `Refused` with a hint if the store ignores the condition or lets two win; else as the store does.

use bytes::Bytes;
use lake::store::{Created, Store, StoreError};

/// What a store turned out to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// It lists unfinished uploads; where it does not, only a lifecycle rule removes those that a crash leaves.
    pub lists_uploads: bool,
    /// It lets us delete; where it does not, the probe leaves small objects behind.
    pub deletes: bool,
}

/// Finds out whether the store can be trusted with a commit log; costs about 25 small requests.
pub async fn probe(store: &dyn Store) -> Result<Probe, StoreError> {
    let mut deletes = creates_once(store).await?;
    for _ in 0..RACES {
        deletes &= race_has_one_winner(store).await?;
    }
    let lists_uploads = lists_uploads(store).await?;
    Ok(Probe { lists_uploads, deletes })
}

/// Creates an object twice: the second attempt must change nothing.
async fn creates_once(store: &dyn Store) -> Result<bool, StoreError> {
    let key = random_key()?;
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    if create(store, &key, first.clone()).await? == Created::Exists {
        return Err(refused(&key, "an object that was never created is said to exist"));
    }
    let again = create(store, &key, second).await?;
    let found = store.get(&key).await?;
    let deletes = delete(store, &key).await?;
    if again == Created::New {
        return Err(refused(&key, "the store ignores If-None-Match: an object was created twice"));
    }
    match found {
        Some(object) if object.bytes == first => Ok(deletes),
        Some(_) => Err(refused(&key, "a creation that the store refused replaced the object all the same")),
        None => Err(refused(&key, "an object that was just created is not found")),
    }
}

/// Creates an object from several sides at once: one must win, and its content stand.
async fn race_has_one_winner(store: &dyn Store) -> Result<bool, StoreError> {
    let key = random_key()?;
    let side = |content: &'static [u8]| store.put_if_absent(&key, Bytes::from_static(content));
    let contents: [&'static [u8]; 4] = [b"0", b"1", b"2", b"3"];
    let [a, b, c, d] = contents;
    let outcomes: [_; 4] = tokio::join!(side(a), side(b), side(c), side(d)).into();
    let mut winners = Vec::new();
    let mut transient = None;
    for (outcome, content) in outcomes.into_iter().zip(contents) {
        match outcome {
            Ok(Created::New) => winners.push(content),
            Ok(Created::Exists) => {}
            // A conflict (409) loses the race like any other.
            Err(error) if error.is_transient() => transient = Some(error),
            Err(error) => return Err(not_conditional(error)),
        }
    }
    let found = store.get(&key).await?;
    let deletes = delete(store, &key).await?;
    match (winners.as_slice(), transient) {
        ([winner], _) if found.as_ref().is_some_and(|object| object.bytes == *winner) => Ok(deletes),
        ([_], None) => Err(refused(&key, "of several creations at once another than the winner's stands")),
        // The answer that got lost may have been the winner's.
        ([] | [_], Some(error)) => Err(error),
        ([], None) => Err(refused(&key, "of several creations at once none won")),
        (_, _) => Err(refused(&key, "of several creations at once more than one won")),
    }
}

/// Begins an upload, looks for it, and aborts it: also a check of three permissions.
async fn lists_uploads(store: &dyn Store) -> Result<bool, StoreError> {
    let key = random_key()?;
    let upload_id = store.create_upload(&key).await?;
    let listed = store.list_uploads(&key).await;
    store.abort_upload(&key, &upload_id).await?;
    match listed {
        Ok(uploads) => Ok(uploads.iter().any(|upload| upload.upload_id == upload_id)),
        Err(StoreError::Unsupported { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn create(store: &dyn Store, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
    store.put_if_absent(key, bytes).await.map_err(not_conditional)
}

/// Whether it could be deleted.
async fn delete(store: &dyn Store, key: &str) -> Result<bool, StoreError> {
    match store.delete(key).await {
        Ok(()) => Ok(true),
        Err(StoreError::Refused { .. } | StoreError::Unsupported { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A store that answers 501 to the condition is as unfit as one that ignores it.
fn not_conditional(error: StoreError) -> StoreError {
    match error {
        StoreError::Unsupported { .. } => refused(PROBES, "the store does not support If-None-Match"),
        error => error,
    }
}

fn random_key() -> Result<String, StoreError> {
    let mut bytes = [0_u8; 16];
    lake::ambient::random(&mut bytes).map_err(|error| StoreError::Transient {
        operation: OPERATION,
        key: PROBES.to_owned(),
        reason: "the system gave no random bytes".to_owned(),
        source: Some(error.to_string().into()),
    })?;
    Ok(format!("{PROBES}{:032x}", u128::from_be_bytes(bytes)))
}

fn refused(key: &str, reason: &str) -> StoreError {
    StoreError::Refused {
        operation: OPERATION,
        key: key.to_owned(),
        reason: reason.to_owned(),
        hint: Some(
            "two writers could not be told apart there; use a store with conditional writes, such as Amazon S3, Ceph 16 or newer, or a local directory",
        ),
        source: None,
    }
}

const OPERATION: &str = "probe";
const PROBES: &str = "_tributary/probe/";

/// A store that checks and then writes lets more than one of four win nearly every time.
const RACES: usize = 3;

#[cfg(test)]
mod tests;
