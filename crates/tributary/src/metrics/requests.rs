//! Requests to the store, counted and timed.
//!
//! Owns: [`Measured`], a store whose every request is in the metrics, and those metrics.
//! Does not: repeat or change a request.
//! Holds: an operation has the name that the store's trait gives it.
//! Fails: as the store does.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use lake::store::{Completed, Created, Listed, Object, Part, Store, StoreError, Unfinished};
use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use super::declare::{Declarations, Unit};
use crate::status::Shared;

/// The metrics of the store.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    sent_bytes: IntCounter,
}

impl StoreMetrics {
    pub(super) fn declare(declare: &mut Declarations) -> StoreMetrics {
        declare.section("The store");
        let metrics = StoreMetrics {
            requests: declare.counters(
                "tributary_store_requests_total",
                Unit::Count("requests"),
                &["operation", "outcome"],
                "Requests to the store: ok, transient (tried again), refused, unsupported.",
            ),
            seconds: declare.histograms(
                "tributary_store_request_seconds",
                &super::SECONDS_BUCKETS,
                &["operation"],
                "How long a request took, with the repetitions of the S3 client.",
            ),
            sent_bytes: declare.counter(
                "tributary_store_sent_bytes_total",
                Unit::Bytes,
                "Bytes of objects and parts that the store took.",
            ),
        };
        for operation in OPERATIONS {
            metrics.seconds.with_label_values(&[operation]);
            for outcome in OUTCOMES {
                metrics.requests.with_label_values(&[operation, outcome]);
            }
        }
        metrics
    }

    fn count<T>(&self, operation: &str, begun: Instant, outcome: &Result<T, StoreError>) {
        let label = match outcome {
            Ok(_) => "ok",
            Err(StoreError::Transient { .. }) => "transient",
            Err(StoreError::Refused { .. }) => "refused",
            Err(StoreError::Unsupported { .. }) => "unsupported",
        };
        self.requests.with_label_values(&[operation, label]).inc();
        self.seconds.with_label_values(&[operation]).observe(begun.elapsed().as_secs_f64());
    }
}

/// A store whose requests are in the metrics.
#[derive(Debug)]
pub struct Measured {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
}

impl Measured {
    /// Measures a store.
    pub fn around(store: Arc<dyn Store>, shared: Arc<Shared>) -> Arc<dyn Store> {
        Arc::new(Measured { store, shared })
    }

    async fn ask<T>(
        &self,
        operation: &str,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let outcome = request.await;
        let metrics = self.shared.metrics();
        metrics.store.count(operation, begun, &outcome);
        if matches!(outcome, Err(StoreError::Transient { .. })) {
            metrics.retries("store").inc();
        }
        outcome
    }

    async fn send<T>(
        &self,
        operation: &str,
        length: usize,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let outcome = self.ask(operation, request).await;
        if outcome.is_ok() {
            let bytes = u64::try_from(length).unwrap_or(u64::MAX);
            self.shared.metrics().store.sent_bytes.inc_by(bytes);
        }
        outcome
    }
}

#[async_trait]
impl Store for Measured {
    fn url(&self) -> String {
        self.store.url()
    }

    fn part_size(&self) -> usize {
        self.store.part_size()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.ask("get", self.store.get(key)).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        self.ask("get_range", self.store.get_range(key, offset, length)).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.ask("head", self.store.head(key)).await
    }

    async fn is_made_of(&self, key: &str, parts: &[Part]) -> Result<Option<bool>, StoreError> {
        self.ask("head", self.store.is_made_of(key, parts)).await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        self.send("put_if_absent", bytes.len(), self.store.put_if_absent(key, bytes)).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.send("put", bytes.len(), self.store.put(key, bytes)).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.ask("list", self.store.list(prefix, start_after, limit)).await
    }

    async fn create_upload(&self, key: &str) -> Result<String, StoreError> {
        self.ask("create_upload", self.store.create_upload(key)).await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Part, StoreError> {
        let length = bytes.len();
        self.send("upload_part", length, self.store.upload_part(key, upload_id, number, offset, bytes)).await
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Completed, StoreError> {
        self.ask("complete_upload", self.store.complete_upload(key, upload_id, parts)).await
    }

    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        self.ask("abort_upload", self.store.abort_upload(key, upload_id)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        self.ask("list_uploads", self.store.list_uploads(prefix)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.ask("delete", self.store.delete(key)).await
    }
}

const OPERATIONS: [&str; 12] = [
    "get",
    "get_range",
    "head",
    "put_if_absent",
    "put",
    "list",
    "create_upload",
    "upload_part",
    "complete_upload",
    "abort_upload",
    "list_uploads",
    "delete",
];
const OUTCOMES: [&str; 4] = ["ok", "transient", "refused", "unsupported"];

#[cfg(test)]
mod tests;
