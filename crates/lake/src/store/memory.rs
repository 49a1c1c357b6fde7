//! A store in memory, for tests and simulation.
//!
//! Owns: objects and unfinished uploads, in ordered maps behind one lock.
//! Does not: fail on its own; a test that wants faults wraps it.
//! Holds: every request is atomic; clones share the content, so a clone survives the "crash" of the other.
//! Fails: `Refused` where S3 refuses: a part of an unknown upload, parts that were never uploaded or leave a gap.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{Completed, Created, Listed, Object, Part, Store, StoreError, Unfinished};

/// A store that lives as long as its last clone.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    part_size: usize,
}

/// What all clones see.
#[derive(Default)]
struct Shared {
    objects: BTreeMap<String, Stored>,
    /// By key, then upload id: the order in which S3 lists uploads.
    uploads: BTreeMap<(String, String), BTreeMap<u32, Uploaded>>,
    /// Counts every write and upload; names etags and uploads.
    versions: u64,
}

struct Stored {
    bytes: Bytes,
    etag: String,
}

struct Uploaded {
    offset: u64,
    bytes: Bytes,
    etag: String,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::with_part_size(PART_SIZE_DEFAULT)
    }

    /// An empty store that asks the writer for parts of this size.
    pub fn with_part_size(part_size: usize) -> MemoryStore {
        MemoryStore { shared: Arc::default(), part_size }
    }

    /// The keys of all visible objects, in order.
    pub fn objects(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// Everything visible, in key order.
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        self.lock().objects.iter().map(|(key, stored)| (key.clone(), stored.bytes.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // No code panics while it holds the lock with half a change made, so a poisoned lock is still sound.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.lock();
        f.debug_struct("MemoryStore")
            .field("objects", &shared.objects.len())
            .field("uploads", &shared.uploads.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn url(&self) -> String {
        "memory://".to_owned()
    }

    fn part_size(&self) -> usize {
        self.part_size
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let shared = self.lock();
        let stored = shared.objects.get(key);
        Ok(stored.map(|stored| Object { bytes: stored.bytes.clone(), etag: Some(stored.etag.clone()) }))
    }

    async fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        let shared = self.lock();
        let Some(stored) = shared.objects.get(key) else { return Ok(None) };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        if from >= stored.bytes.len() {
            return Err(refused("get_range", key, format!("byte {offset} is not in it")));
        }
        Ok(Some(stored.bytes.slice(from..from.saturating_add(length).min(stored.bytes.len()))))
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.lock().objects.get(key).map(|stored| length(&stored.bytes)))
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let mut shared = self.lock();
        if shared.objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        shared.store(key, bytes);
        Ok(Created::New)
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.lock().store(key, bytes);
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let from = start_after.filter(|after| *after > prefix).unwrap_or(prefix).to_owned();
        let shared = self.lock();
        let listed = shared
            .objects
            .range(from..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| start_after.is_none_or(|after| key.as_str() > after))
            .take(limit)
            .map(|(key, stored)| Listed { key: key.clone(), bytes: length(&stored.bytes) });
        Ok(listed.collect())
    }

    async fn create_upload(&self, key: &str) -> Result<String, StoreError> {
        let mut shared = self.lock();
        let upload_id = format!("upload-{}", shared.next_version());
        shared.uploads.insert((key.to_owned(), upload_id.clone()), BTreeMap::new());
        Ok(upload_id)
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Part, StoreError> {
        let mut shared = self.lock();
        let etag = format!("\"{}\"", shared.next_version());
        let part = Part { number, etag: etag.clone(), crc32: None, bytes: length(&bytes) };
        let Some(parts) = shared.uploads.get_mut(&(key.to_owned(), upload_id.to_owned())) else {
            return Err(refused("upload_part", key, format!("there is no upload {upload_id}")));
        };
        parts.insert(number, Uploaded { offset, bytes, etag });
        Ok(part)
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Completed, StoreError> {
        let mut shared = self.lock();
        let name = (key.to_owned(), upload_id.to_owned());
        let Some(uploaded) = shared.uploads.get(&name) else {
            return Ok(Completed::NoSuchUpload);
        };
        let bytes = join(key, uploaded, parts)?;
        shared.uploads.remove(&name);
        shared.store(key, bytes);
        Ok(Completed::Done)
    }

    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        self.lock().uploads.remove(&(key.to_owned(), upload_id.to_owned()));
        Ok(())
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        let shared = self.lock();
        let unfinished = shared.uploads.keys().filter(|(key, _)| key.starts_with(prefix));
        Ok(unfinished
            .map(|(key, upload_id)| Unfinished { key: key.clone(), upload_id: upload_id.clone() })
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.lock().objects.remove(key);
        Ok(())
    }
}

impl Shared {
    fn store(&mut self, key: &str, bytes: Bytes) {
        let etag = format!("\"{}\"", self.next_version());
        self.objects.insert(key.to_owned(), Stored { bytes, etag });
    }

    fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }
}

/// The object that these parts make, if they are the ones that were uploaded and lie end to end.
///
/// S3 ignores offsets; a writer that gets them wrong must fail in tests and not only on a directory.
fn join(key: &str, uploaded: &BTreeMap<u32, Uploaded>, parts: &[Part]) -> Result<Bytes, StoreError> {
    let refuse = |reason: String| Err(refused("complete_upload", key, reason));
    if parts.is_empty() {
        return refuse("an object needs at least one part".to_owned());
    }
    let mut joined = BytesMut::new();
    let mut previous = 0;
    for part in parts {
        if part.number <= previous {
            return refuse(format!("part {} comes after part {previous}", part.number));
        }
        previous = part.number;
        let Some(found) = uploaded.get(&part.number) else {
            return refuse(format!("part {} was not uploaded", part.number));
        };
        if found.etag != part.etag || length(&found.bytes) != part.bytes {
            return refuse(format!("part {} is not the one that was uploaded last", part.number));
        }
        let end = length(&joined);
        if found.offset != end {
            return refuse(format!("part {} starts at {} and not at {end}", part.number, found.offset));
        }
        joined.extend_from_slice(&found.bytes);
    }
    Ok(joined.freeze())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn refused(operation: &'static str, key: &str, reason: String) -> StoreError {
    StoreError::Refused { operation, key: key.to_owned(), reason, hint: None, source: None }
}

/// Small, so that tests write files of several parts without much data.
const PART_SIZE_DEFAULT: usize = 64 * 1024;

#[cfg(test)]
mod tests;
