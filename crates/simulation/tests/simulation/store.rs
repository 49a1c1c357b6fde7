//! A store that fails as stores do.
//!
//! Owns: what becomes of each request, by the seed and the weather.
//! Does not: hold objects (`lake`'s store in memory does).
//! Holds: a request is applied once, never, or later than its sender waits; what S3 would refuse is refused. One that is under way
//! lands though its sender dies.
//! Fails: as often as the weather wants.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lake::store::memory::MemoryStore;
use lake::store::{Completed, Created, Listed, Object, Part, Store, StoreError, Unfinished};
use tokio::time::Instant;

use crate::random::Random;
use crate::seen;
use crate::trace::Trace;

/// How much goes wrong, in percent of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Refused with 500, 503 or 409: not applied.
    pub(crate) fails: u64,
    /// Applied, and the answer is lost.
    pub(crate) unknown: u64,
    /// Given up by the sender, and applied later.
    pub(crate) late: u64,
    /// Takes as long as some of our timeouts.
    pub(crate) stalls: u64,
}

impl Weather {
    pub(crate) const FAIR: Weather = Weather { fails: 0, unknown: 0, late: 0, stalls: 0 };
    pub(crate) const SHOWERS: Weather = Weather { fails: 5, unknown: 5, late: 3, stalls: 1 };
    pub(crate) const STORM: Weather = Weather { fails: 25, unknown: 20, late: 10, stalls: 3 };
    pub(crate) const OUTAGE: Weather = Weather { fails: 97, unknown: 1, late: 1, stalls: 1 };
}

/// What all processes share.
#[derive(Debug)]
struct Sky {
    random: Random,
    weather: Weather,
    /// How many log entries in a hundred find their daemon frozen when it is about to send them.
    lapses: u64,
}

/// The lake's store, from outside.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) objects: MemoryStore,
    sky: Arc<Mutex<Sky>>,
    /// Counts requests that landed.
    landed: Arc<AtomicU64>,
    trace: Trace,
}

/// The store as one process sees it.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    bucket: Bucket,
    process: String,
    /// Nothing of it gets through before this.
    frozen_until: Arc<Mutex<Option<Instant>>>,
    /// It froze by itself, until then, and nobody was told yet.
    lapse: Arc<Mutex<Option<Instant>>>,
}

enum Verdict {
    Done,
    Fails(&'static str),
    Unknown,
    Late(Duration),
}

impl Bucket {
    pub(crate) fn new(random: Random, part_size: usize, trace: Trace) -> Bucket {
        let sky = Arc::new(Mutex::new(Sky { random, weather: Weather::FAIR, lapses: 0 }));
        Bucket { objects: MemoryStore::with_part_size(part_size), sky, landed: Arc::default(), trace }
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner).weather = weather;
    }

    /// In percent of log entries.
    pub(crate) fn set_lapses(&self, lapses: u64) {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner).lapses = lapses;
    }

    /// How long a daemon stands still that is about to write a log entry, if it does: the moment in which another one may take over.
    fn lapse(&self) -> Option<Duration> {
        let Sky { random, lapses, .. } = &mut *self.sky.lock().unwrap_or_else(PoisonError::into_inner);
        (*lapses > 0 && random.chance(*lapses)).then(|| random.millis(15_000, 60_000))
    }

    /// Another number once anything has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.landed.load(Ordering::Relaxed)
    }

    pub(crate) fn of_process(&self, process: &str) -> Faulty {
        Faulty {
            bucket: self.clone(),
            process: process.to_owned(),
            frozen_until: Arc::default(),
            lapse: Arc::default(),
        }
    }

    /// How long a request takes until it is there and until its answer is back, and what becomes of it.
    fn judge(&self, may_be_late: bool) -> (Duration, Verdict, Duration) {
        let Sky { random, weather, .. } = &mut *self.sky.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut there, back) = (random.millis(1, 20), random.millis(1, 10));
        if random.chance(weather.stalls) {
            there += random.millis(2_000, 70_000);
        }
        let dice = random.below(100);
        let verdict = if dice < weather.fails {
            const ANSWERS: [&str; 3] = ["500", "503 SlowDown", "409 ConditionalRequestConflict"];
            Verdict::Fails(random.pick::<&str>(&ANSWERS))
        } else if dice < weather.fails + weather.unknown {
            Verdict::Unknown
        } else if dice < weather.fails + weather.unknown + weather.late && may_be_late {
            Verdict::Late(random.millis(10, 40_000))
        } else {
            Verdict::Done
        };
        (there, verdict, back)
    }
}

impl Faulty {
    pub(crate) fn freeze(&self, until: Instant) {
        *self.frozen_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Until when the process stands still since it was about to write a log entry; told once.
    pub(crate) fn take_lapse(&self) -> Option<Instant> {
        self.lapse.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sends a request. It is a task of its own, as it is a packet on the way: whoever sent it may die.
    async fn send<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        may_be_late: bool,
        effect: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        if operation == "PUT if absent"
            && key.starts_with("_tributary/log/")
            && let Some(length) = self.bucket.lapse()
        {
            let until = Instant::now() + length;
            self.freeze(until);
            *self.lapse.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
        let frozen = *self.frozen_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = frozen {
            tokio::time::sleep_until(until).await;
        }
        let (there, verdict, back) = self.bucket.judge(may_be_late);
        let (trace, landed) = (self.bucket.trace.clone(), Arc::clone(&self.bucket.landed));
        let effect = async move {
            let done = effect.await;
            landed.fetch_add(1, Ordering::Relaxed);
            done
        };
        let name = format!("{} {operation} {}", self.process, short(key));
        let failed = |reason: &str| StoreError::Transient {
            operation,
            key: key.to_owned(),
            reason: reason.to_owned(),
            source: None,
        };
        match verdict {
            Verdict::Done => {
                let task = tokio::spawn(async move {
                    tokio::time::sleep(there).await;
                    let done = effect.await;
                    trace.say(format!("{name}{}", if done.is_ok() { "" } else { " REFUSED" }));
                    done
                });
                let done = task.await.expect("a request does not panic");
                tokio::time::sleep(back).await;
                done
            }
            Verdict::Fails(status) => {
                tokio::time::sleep(there).await;
                seen::note("a request was refused for now");
                trace.say(format!("{name} {status}"));
                Err(failed(status))
            }
            Verdict::Unknown => {
                let task = tokio::spawn(async move {
                    tokio::time::sleep(there).await;
                    drop(effect.await);
                    seen::note("an answer was lost");
                    trace.say(format!("{name} applied, the answer is lost"));
                });
                task.await.expect("a request does not panic");
                tokio::time::sleep(back).await;
                Err(failed("the answer was lost"))
            }
            Verdict::Late(delay) => {
                tokio::spawn(async move {
                    tokio::time::sleep(there + delay).await;
                    drop(effect.await);
                    seen::note("a request landed late");
                    trace.say(format!("{name} applied late"));
                });
                tokio::time::sleep(there).await;
                Err(failed("given up"))
            }
        }
    }
}

/// Without the folders of a table, which everybody knows.
fn short(key: &str) -> &str {
    key.rsplit_once("cdc_date=").map_or(key, |(_, rest)| rest)
}

/// A request with its arguments, owned.
macro_rules! request {
    ($self:ident, $operation:literal, $key:expr, $late:literal, |$store:ident, $owned:ident| $call:expr) => {{
        let name: &str = $key;
        let ($store, $owned) = ($self.bucket.objects.clone(), name.to_owned());
        $self.send($operation, name, $late, async move { $call.await }).await
    }};
}

#[async_trait]
impl Store for Faulty {
    fn url(&self) -> String {
        self.bucket.objects.url()
    }

    fn part_size(&self) -> usize {
        self.bucket.objects.part_size()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        request!(self, "GET", key, false, |store, key| store.get(&key))
    }

    async fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        request!(self, "GET range", key, false, |store, key| store.get_range(&key, offset, length))
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        request!(self, "HEAD", key, false, |store, key| store.head(&key))
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        request!(self, "PUT if absent", key, true, |store, key| store.put_if_absent(&key, bytes))
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        request!(self, "PUT", key, true, |store, key| store.put(&key, bytes))
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let start_after = start_after.map(str::to_owned);
        request!(self, "LIST", prefix, false, |store, prefix| store.list(
            &prefix,
            start_after.as_deref(),
            limit
        ))
    }

    async fn create_upload(&self, key: &str) -> Result<String, StoreError> {
        request!(self, "CreateUpload", key, true, |store, key| store.create_upload(&key))
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Part, StoreError> {
        let id = upload_id.to_owned();
        // In S3 one that lands late is the same again, by its number and content; in memory it would have another tag.
        request!(self, "UploadPart", key, false, |store, key| store
            .upload_part(&key, &id, number, offset, bytes))
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Completed, StoreError> {
        let (id, parts) = (upload_id.to_owned(), parts.to_vec());
        request!(self, "CompleteUpload", key, true, |store, key| store.complete_upload(&key, &id, &parts))
    }

    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        let id = upload_id.to_owned();
        request!(self, "AbortUpload", key, true, |store, key| store.abort_upload(&key, &id))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        request!(self, "ListUploads", prefix, false, |store, prefix| store.list_uploads(&prefix))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        request!(self, "DELETE", key, true, |store, key| store.delete(&key))
    }
}
