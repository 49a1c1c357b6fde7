//! Owns: stores that break the promise, each in its own way, and that the probe refuses every one.
//! Does not: test real stores.
//! Holds: nothing.
//! Fails: never.

use async_trait::async_trait;
use bytes::Bytes;
use lake::store::memory::MemoryStore;
use lake::store::{Completed, Created, Listed, Object, Part, Store, StoreError, Unfinished};

use super::probe;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Writes, whatever is there.
    IgnoresCondition,
    /// Says that the object exists, and replaces it all the same.
    ReplacesSilently,
    /// Looks, waits, and then writes.
    ChecksThenWrites,
    /// Answers 501 to the condition.
    RefusesCondition,
    /// Lacks the permission to delete.
    DeniesDelete,
    /// Cannot list uploads.
    ListsNoUploads,
    /// Is in trouble.
    Down,
}

#[derive(Debug)]
struct Faulty(MemoryStore, Fault);

#[async_trait]
impl Store for Faulty {
    fn url(&self) -> String {
        self.0.url()
    }

    fn part_size(&self) -> usize {
        self.0.part_size()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.0.get(key).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        self.0.get_range(key, offset, length).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.0.head(key).await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        match self.1 {
            Fault::IgnoresCondition => self.0.put(key, bytes).await.map(|()| Created::New),
            Fault::ReplacesSilently => {
                let created = self.0.put_if_absent(key, bytes.clone()).await?;
                self.0.put(key, bytes).await?;
                Ok(created)
            }
            Fault::ChecksThenWrites => {
                if self.0.head(key).await?.is_some() {
                    return Ok(Created::Exists);
                }
                tokio::task::yield_now().await;
                self.0.put(key, bytes).await.map(|()| Created::New)
            }
            Fault::RefusesCondition => Err(StoreError::Unsupported { operation: "PutObject" }),
            Fault::Down => Err(StoreError::Transient {
                operation: "PutObject",
                key: key.to_owned(),
                reason: "status 503".to_owned(),
                source: None,
            }),
            Fault::None | Fault::DeniesDelete | Fault::ListsNoUploads => {
                self.0.put_if_absent(key, bytes).await
            }
        }
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.0.put(key, bytes).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.0.list(prefix, start_after, limit).await
    }

    async fn create_upload(&self, key: &str) -> Result<String, StoreError> {
        self.0.create_upload(key).await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Part, StoreError> {
        self.0.upload_part(key, upload_id, number, offset, bytes).await
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Completed, StoreError> {
        self.0.complete_upload(key, upload_id, parts).await
    }

    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        self.0.abort_upload(key, upload_id).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        match self.1 {
            Fault::ListsNoUploads => Err(StoreError::Unsupported { operation: "ListMultipartUploads" }),
            _ => self.0.list_uploads(prefix).await,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.1 {
            Fault::DeniesDelete => Err(StoreError::Refused {
                operation: "DeleteObject",
                key: key.to_owned(),
                reason: "status 403".to_owned(),
                hint: None,
                source: None,
            }),
            _ => self.0.delete(key).await,
        }
    }
}

#[tokio::test]
async fn sound_stores_pass() {
    for (fault, lists_uploads, deletes) in
        [(Fault::None, true, true), (Fault::DeniesDelete, true, false), (Fault::ListsNoUploads, false, true)]
    {
        let memory = MemoryStore::new();
        let found = probe(&Faulty(memory.clone(), fault)).await.unwrap();
        assert_eq!((found.lists_uploads, found.deletes), (lists_uploads, deletes), "{fault:?}");
        assert_eq!(memory.objects().is_empty(), deletes, "{fault:?}");
        assert_eq!(memory.list_uploads("").await.unwrap(), []);
    }
}

#[tokio::test]
async fn unsound_stores_are_refused() {
    for fault in
        [Fault::IgnoresCondition, Fault::ReplacesSilently, Fault::ChecksThenWrites, Fault::RefusesCondition]
    {
        let memory = MemoryStore::new();
        let error = probe(&Faulty(memory.clone(), fault)).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { hint: Some(_), .. }), "{fault:?}: {error}");
        assert_eq!(memory.objects(), [""; 0], "{fault:?}");
    }
}

#[tokio::test]
async fn a_store_in_trouble_is_not_judged() {
    let error = probe(&Faulty(MemoryStore::new(), Fault::Down)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}
