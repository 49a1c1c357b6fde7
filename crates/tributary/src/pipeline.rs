//! The daemon's one loop, from frames to confirmed positions, and the attempts around it.
//!
//! Owns: one attempt after the other, each from opening the lake to the end of its stream.
//! Does not: decode, encode or store; it moves what others make.
//! Holds: I1, Postgres is told only what is published. One task owns every mutable thing.
//! Fails: with the first error that a new attempt cannot mend; transient ones are retried with backoff for as long as it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lake::gauge::Gauge;
use lake::store::Store;
use pgoutput::Lsn;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{Config, SnapshotMode, StreamingMode};
use crate::error::{Error, Kind, Result};
use crate::retry::Backoff;
use crate::snapshot::replica::Replica;
use crate::source::{ConnectOptions, connect_sql};
use crate::status::{Shared, State};

mod audit;
pub mod bootstrap;
pub(crate) mod mapping;
pub(crate) mod offline;
mod opening;
mod partitions;
pub mod publication;
mod snapshots;
pub mod startup;
mod streaming;
mod whole;

use streaming::Ending;

/// When to stop by ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Forever,
    /// Once everything is published that had committed when we started.
    Now,
    /// Once everything up to this LSN is published.
    Lsn(Lsn),
}

/// What outlives an attempt.
pub(crate) struct Context {
    pub(crate) config: Arc<Config>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: ConnectOptions,
    pub(crate) catalog_options: ConnectOptions,
    pub(crate) snapshot_options: ConnectOptions,
    pub(crate) until: Until,
    pub(crate) shutdown: watch::Receiver<bool>,
    /// The epoch of our last `open` entry; anybody else's means that we are fenced.
    pub(crate) epoch: Option<u64>,
    /// A type without a binary decoder was met: text from here on.
    pub(crate) text_only: bool,
    /// For how long transactions are read once they have committed, although they could be taken while they are open.
    pub(crate) commits_only: CommitsOnly,
}

/// For how long transactions are read once they have committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitsOnly {
    /// Only if the configuration says so.
    Not,
    /// For one stream: transactions that were open at its beginning cannot be trusted.
    NextStream,
    /// The spool had no room, or the server failed: until the daemon starts anew.
    Always,
}

impl Context {
    /// Sleeps, unless the daemon is told to stop.
    pub(crate) async fn pause(&mut self, delay: Duration) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = stopped(&mut self.shutdown) => Err(Error::transient(STOPPED)),
        }
    }

    /// Whether large transactions are asked for before they have committed.
    pub(crate) fn streams(&self) -> bool {
        self.config.source.streaming == StreamingMode::On && self.commits_only == CommitsOnly::Not
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.shutdown.borrow()
    }
}

/// Runs until it is told to stop, `until` is reached, or something needs a person.
pub async fn run(
    config: &Config,
    shared: Arc<Shared>,
    until: Until,
    shutdown: watch::Receiver<bool>,
) -> Result<()> {
    if config.source.streaming == StreamingMode::On {
        config.source.spool().probe()?;
    }
    let store = open_store(config).await?;
    let mut told = shutdown.clone();
    tokio::select! {
        probed = lake::retry::transient(|| store::probe(store.as_ref())) => drop(probed.map_err(lake::Error::from)?),
        () = stopped(&mut told) => return Ok(()),
    }
    let options = config.source_options()?;
    let mut context = Context {
        config: Arc::new(config.clone()),
        gauge: Gauge::new(config.memory.budget.as_usize()),
        catalog_options: config.catalog_options()?,
        snapshot_options: config.snapshot_options()?,
        store,
        shared,
        options,
        until,
        shutdown,
        epoch: None,
        text_only: false,
        commits_only: CommitsOnly::Not,
    };
    tokio::select! {
        looked = Box::pin(look_at_replica(&context)) => looked?,
        () = stopped(&mut told) => return Ok(()),
    }
    let outcome = attempts(&mut context).await;
    context.shared.ready(false);
    if let Err(error) = &outcome {
        context.shared.state(State::Halted);
        context.shared.error(error.chain(), error.kind().label());
    }
    outcome
}

/// Refuses a server whose rows can never be read. One that is only down now keeps nothing but the snapshot waiting.
async fn look_at_replica(context: &Context) -> Result<()> {
    let (options, config) = (&context.snapshot_options, &context.config);
    let is_read = config.snapshot.mode == SnapshotMode::Initial || config.snapshot.url.is_some();
    if *options == context.options || !is_read {
        return Ok(());
    }
    let looked = tokio::time::timeout(REPLICA_WAIT, async {
        let sql = connect_sql(options).await?;
        Replica::caught_up(&context.options, options, &sql, Duration::from_secs(1)).await
    });
    match looked.await {
        Ok(Err(error)) if error.kind() == Kind::Config => Err(error),
        Ok(Err(error)) => {
            let (hint, error) = (error.hint_text(), error.chain());
            warn!(error, hint, "rows cannot be read from the replica now; the stream does not wait for that");
            Ok(())
        }
        Ok(Ok(_)) => {
            info!(server = options.address(), "rows of the snapshot are read from a replica");
            Ok(())
        }
        Err(_) => {
            warn!(server = options.address(), "the replica does not answer; the stream does not wait for it");
            Ok(())
        }
    }
}

async fn attempts(context: &mut Context) -> Result<()> {
    let mut backoff = Backoff::new(Duration::from_millis(250), RECONNECT_MAX);
    loop {
        context.shared.state(State::Starting);
        let begun = Instant::now();
        let outcome = attempt(context).await;
        context.shared.ready(false);
        match outcome {
            Ok(Ending::Done) => return Ok(()),
            Ok(Ending::Anew) => {}
            Err(_) if context.is_stopping() => {
                info!("stopped; what was not published yet is streamed again next time");
                return Ok(());
            }
            Err(error) if error.kind() == Kind::Transient => {
                context.shared.error(error.chain(), error.kind().label());
                if begun.elapsed() > HEALTHY {
                    backoff.reset();
                }
                let delay = backoff.next_delay();
                warn!(
                    error = error.chain(),
                    hint = error.hint_text(),
                    ?delay,
                    "the stream ended, trying again"
                );
                context.shared.metrics().reconnects.inc();
                // Told to stop while waiting: the next turn of the loop sees it.
                context.pause(delay).await.ok();
                if context.is_stopping() {
                    return Ok(());
                }
            }
            Err(error) => {
                error!(
                    error = error.chain(),
                    hint = error.hint_text(),
                    kind = error.kind().label(),
                    "stopped for good"
                );
                return Err(error);
            }
        }
    }
}

async fn attempt(context: &mut Context) -> Result<Ending> {
    let mut shutdown = context.shutdown.clone();
    let opened = tokio::select! {
        opened = Box::pin(opening::open(context)) => opened?,
        () = stopped(&mut shutdown) => return Err(Error::transient(STOPPED)),
    };
    Box::pin(streaming::Streaming::new(context, opened)?.run()).await
}

/// The store that the configuration names.
pub async fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    let store: Arc<dyn Store> = match config.lake.location()? {
        crate::config::Location::S3 { bucket, prefix } => {
            let settings = config.lake.s3_settings(bucket, prefix);
            Arc::new(store::S3::connect(settings).await.map_err(lake::Error::from)?)
        }
        crate::config::Location::Directory(path) => {
            Arc::new(store::Directory::open(path).map_err(lake::Error::from)?)
        }
    };
    Ok(store)
}

/// Who we are, for people who read the log.
pub(crate) fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}:{}", if host.is_empty() { "unknown" } else { host }, std::process::id())
}

/// Resolves once the daemon is told to stop.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        // Nobody can tell us any more.
        std::future::pending::<()>().await;
    }
}

/// How often Postgres hears of us at least; a sixth of the default `wal_sender_timeout`.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Longest delay between two attempts.
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// An attempt that lived this long was healthy: the backoff starts over.
const HEALTHY: Duration = Duration::from_secs(60);
/// How long the start waits for the replica.
const REPLICA_WAIT: Duration = Duration::from_secs(10);
const STOPPED: &str = "told to stop";
