//! What an object store must do for us, and a store in memory for tests.
//!
//! Owns: the [`Store`] trait, its outcomes, and [`memory::MemoryStore`].
//! Does not: know any real store; those live in the `store` crate.
//! Holds: keys are relative to the lake's prefix, with `/` between their parts and none in front.
//! Fails: [`StoreError`], which always tells whether the request may have been applied.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub mod memory;

/// An object's content and the tag that a conditional replacement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub bytes: Bytes,
    /// The store's tag of this version, exactly as the store gave it.
    pub etag: Option<String>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What a conditional creation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is ours.
    New,
    /// There was one already (412). After a retry it may be ours all the same: the caller compares a nonce.
    Exists,
}

/// What a completed upload found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// The object is visible now.
    Done,
    /// The store knows no such upload: it was completed before, or aborted. Whether the object is there tells which.
    NoSuchUpload,
}

/// One uploaded part, as completing needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// The tag that the store gave it.
    pub etag: String,
    /// Its checksum, where the store stores one (base64 of CRC-32).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The key that it would create.
    pub key: String,
    /// The store's name for it.
    pub upload_id: String,
}

/// Why a request did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store, or the way to it, is in trouble; the request may or may not have been applied. Worth a retry.
    #[error("{operation} of `{key}`: {reason}")]
    Transient {
        /// What was asked, in the words of the store's API.
        operation: &'static str,
        /// Of what.
        key: String,
        /// What came back, without secrets.
        reason: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The store refused (permissions, no such bucket, bad request); nothing was applied, and a retry will not help.
    #[error("{operation} of `{key}` was refused: {reason}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Of what.
        key: String,
        /// What came back, without secrets.
        reason: String,
        /// What the user can do about it.
        hint: Option<&'static str>,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The store cannot do this at all (501). The caller decides whether it can do without.
    #[error("the store does not support {operation}")]
    Unsupported {
        /// What was asked.
        operation: &'static str,
    },
}

impl StoreError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Transient { .. })
    }
}

/// An object store under one prefix.
///
/// Implementations retry nothing on their own that is not idempotent; callers retry.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Where this store is, for people: `s3://bucket/prefix` or `file:///path`. Without secrets.
    fn url(&self) -> String;

    /// The smallest part but the last, in bytes; what the writer collects before it uploads a part.
    fn part_size(&self) -> usize;

    /// The object, or `None`.
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError>;

    /// Up to `length` bytes of the object from `offset` on, or `None` if there is no object. What is asked for must begin inside of it.
    async fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, StoreError>;

    /// The object's size in bytes, or `None`.
    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError>;

    /// Whether the checksum that the store keeps of the object is that of these parts; `None` if it keeps none, or does not tell.
    async fn is_made_of(&self, _key: &str, _parts: &[Part]) -> Result<Option<bool>, StoreError> {
        Ok(None)
    }

    /// Creates the object only if there is none (`If-None-Match: *`). Durable once it returns `New`.
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError>;

    /// Creates or replaces the object.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// Up to `limit` objects under `prefix` whose key sorts after `start_after`, in key order.
    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError>;

    /// Begins an upload; nothing is visible.
    async fn create_upload(&self, key: &str) -> Result<String, StoreError>;

    /// Uploads a part; nothing is visible. Idempotent by number. Durable once it returns.
    ///
    /// `offset` is the position of the part's first byte in the file, for stores that write parts in place.
    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Part, StoreError>;

    /// Makes the object visible, whole. Durable once it returns `Done`. Idempotent.
    async fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Completed, StoreError>;

    /// Throws an upload away. An unknown upload is no error.
    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), StoreError>;

    /// Uploads under `prefix` that are neither completed nor aborted.
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError>;

    /// Deletes the object; only `repair`, the probe and folded log states ask for it. An absent object is no error.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
}
