//! A store behind a gate: each request waits until it is told what comes of it.
//!
//! Owns: what waits, and what was given up by its sender and may still land.
//! Does not: choose; `main` does, by its seed.
//! Holds: in one order whatever the tasks did meanwhile, so that the same seed makes the same walk.
//! Fails: `Transient`, as often as it is told to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use lake::store::memory::MemoryStore;
use lake::store::{Completed, Created, Listed, Object, Part, Store, StoreError, Unfinished};
use tokio::sync::oneshot;

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done, and its sender is told. The number is for who has a choice.
    Done(u64),
    /// It is done, and its sender hears of a failure.
    Unknown,
    /// It is not done, or not yet.
    Failed,
}

/// A request that changes the store, to be done whenever it lands.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    PutIfAbsent(String, Bytes),
    Put(String, Bytes),
    CreateUpload(String),
    Complete { key: String, upload_id: String, parts: Vec<Part> },
    Abort { key: String, upload_id: String },
    Delete(String),
}

/// Something that a task waits for.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) process: u64,
    pub(crate) operation: &'static str,
    pub(crate) key: String,
    pub(crate) request: Option<Request>,
    pub(crate) answer: oneshot::Sender<Verdict>,
}

/// What waits of all processes.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<Vec<Waiting>>);

impl Gate {
    pub(crate) async fn ask(
        &self,
        process: u64,
        operation: &'static str,
        key: &str,
        request: Option<Request>,
    ) -> Verdict {
        let (answer, told) = oneshot::channel();
        self.lock().push(Waiting { process, operation, key: key.to_owned(), request, answer });
        // Nobody forgets a request but by ending the walk.
        told.await.unwrap_or(Verdict::Failed)
    }

    /// Everything that waits, in one order; and apart what its sender gave up.
    pub(crate) fn take(&self) -> (Vec<Waiting>, Vec<Waiting>) {
        let mut all = std::mem::take(&mut *self.lock());
        all.sort_by(|a, b| (a.process, a.operation, &a.key).cmp(&(b.process, b.operation, &b.key)));
        all.into_iter().partition(|waiting| !waiting.answer.is_closed())
    }

    /// They wait on.
    pub(crate) fn put_back(&self, waiting: Vec<Waiting>) {
        self.lock().extend(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    /// It lands, and nobody waits for the answer.
    pub(crate) async fn land(self, store: &MemoryStore) {
        match self {
            Request::PutIfAbsent(key, bytes) => drop(store.put_if_absent(&key, bytes).await),
            Request::Put(key, bytes) => drop(store.put(&key, bytes).await),
            Request::CreateUpload(key) => drop(store.create_upload(&key).await),
            Request::Complete { key, upload_id, parts } => {
                drop(store.complete_upload(&key, &upload_id, &parts).await)
            }
            Request::Abort { key, upload_id } => drop(store.abort_upload(&key, &upload_id).await),
            Request::Delete(key) => drop(store.delete(&key).await),
        }
    }
}

/// The store as one process sees it.
#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) inner: MemoryStore,
    pub(crate) gate: Arc<Gate>,
    pub(crate) process: u64,
}

impl Gated {
    async fn read<T>(
        &self,
        operation: &'static str,
        key: &str,
        done: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.through(operation, key, None, done).await
    }

    async fn through<T>(
        &self,
        operation: &'static str,
        key: &str,
        request: Option<Request>,
        done: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let failed = |reason: &str| StoreError::Transient {
            operation,
            key: key.to_owned(),
            reason: reason.to_owned(),
            source: None,
        };
        match self.gate.ask(self.process, operation, key, request).await {
            Verdict::Done(_) => done.await,
            Verdict::Unknown => {
                drop(done.await);
                Err(failed("the answer was lost"))
            }
            Verdict::Failed => Err(failed("no answer")),
        }
    }
}

#[async_trait]
impl Store for Gated {
    fn url(&self) -> String {
        self.inner.url()
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.read("get", key, self.inner.get(key)).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        self.read("get_range", key, self.inner.get_range(key, offset, length)).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.read("head", key, self.inner.head(key)).await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let request = Request::PutIfAbsent(key.to_owned(), bytes.clone());
        self.through("put_if_absent", key, Some(request), self.inner.put_if_absent(key, bytes)).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let request = Request::Put(key.to_owned(), bytes.clone());
        self.through("put", key, Some(request), self.inner.put(key, bytes)).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.read("list", prefix, self.inner.list(prefix, start_after, limit)).await
    }

    async fn create_upload(&self, key: &str) -> Result<String, StoreError> {
        let request = Request::CreateUpload(key.to_owned());
        self.through("create_upload", key, Some(request), self.inner.create_upload(key)).await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Part, StoreError> {
        // One that lands late is the same again, by its number and its content.
        self.through("upload_part", key, None, self.inner.upload_part(key, upload_id, number, offset, bytes))
            .await
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Completed, StoreError> {
        let (owned, id) = (key.to_owned(), upload_id.to_owned());
        let request = Request::Complete { key: owned, upload_id: id, parts: parts.to_vec() };
        self.through("complete_upload", key, Some(request), self.inner.complete_upload(key, upload_id, parts))
            .await
    }

    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        let request = Request::Abort { key: key.to_owned(), upload_id: upload_id.to_owned() };
        self.through("abort_upload", key, Some(request), self.inner.abort_upload(key, upload_id)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        self.read("list_uploads", prefix, self.inner.list_uploads(prefix)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let request = Request::Delete(key.to_owned());
        self.through("delete", key, Some(request), self.inner.delete(key)).await
    }
}
