//! The daemon's one loop, from frames to confirmed positions, and the attempts around it.
//!
//! Owns: one attempt after the other, each from opening the lake to the end of its stream.
//! Does not: decode, encode or store; it moves what others make.
//! Holds: I1, Postgres is told only what is published. One task owns every mutable thing.
//! Fails: with the first error that a new attempt cannot mend; transient ones are retried with backoff for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use lake::gauge::Gauge;
use lake::store::{Store, StoreError};
use pgoutput::Lsn;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::{Config, SnapshotMode, StreamingMode};
use crate::error::{Error, Kind, Result};
use crate::metrics::Measured;
use crate::retry::Backoff;
use crate::snapshot::replica::Replica;
use crate::source::{ConnectOptions, connect_sql};
use crate::status::{Shared, State};

pub(crate) mod adoption;
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
pub(crate) mod wal;
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
    /// Of the primary, if the source is a standby and the configuration names it.
    pub(crate) primary_options: Option<ConnectOptions>,
    pub(crate) wal: wal::Watch,
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
            biased;
            () = stopped(&mut self.shutdown) => Err(Error::transient(STOPPED)),
            () = self.shared.pulse().during(tokio::time::sleep(delay)) => Ok(()),
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
    let store = Measured::around(open_store(config).await?, Arc::clone(&shared));
    Box::pin(run_on(store, config, shared, until, shutdown)).await
}

/// The same with a store that is open, whatever `lake.url` says.
pub async fn run_on(
    store: Arc<dyn Store>,
    config: &Config,
    shared: Arc<Shared>,
    until: Until,
    shutdown: watch::Receiver<bool>,
) -> Result<()> {
    let mut told = shutdown.clone();
    tokio::select! {
        biased;
        () = stopped(&mut told) => return Ok(()),
        probed = shared.pulse().during(lake::retry::transient(|| store::probe(store.as_ref()))) => drop(probed.map_err(lake::Error::from)?),
    }
    let (options, primary_options) = (config.source_options()?, config.primary_options()?);
    let config = Arc::new(config.clone());
    let wal = wal::Watch::start(&config, &options, primary_options.as_ref(), &shared);
    let mut used_up = wal.looks();
    let mut context = Context {
        gauge: Gauge::new(config.memory.budget.as_usize()),
        catalog_options: config.catalog_options()?,
        snapshot_options: config.snapshot_options()?,
        config,
        store,
        shared,
        options,
        primary_options,
        wal,
        until,
        shutdown,
        epoch: None,
        text_only: false,
        commits_only: CommitsOnly::Not,
    };
    tokio::select! {
        biased;
        () = stopped(&mut told) => return Ok(()),
        looked = context.shared.pulse().during(Box::pin(look_at_replica(&context))) => looked?,
    }
    let used_up = tokio::select! {
        outcome = attempts(&mut context) => Ok(outcome),
        look = wal::used_up(&mut used_up) => Err(look),
    };
    context.shared.ready(false);
    let outcome = match used_up {
        Ok(outcome) => outcome,
        // The stream is gone with its attempt, and what it had not logged comes again, if anything does.
        Err(look) => {
            let error = wal::act(look, &context.config, &context.options, &context.shared).await;
            error!(
                error = error.chain(),
                hint = error.hint_text(),
                kind = error.kind().label(),
                "stopped for good"
            );
            Err(error)
        }
    };
    if let Err(error) = &outcome {
        context.shared.state(State::Halted);
        context.shared.error(error);
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
        let primary = context.primary_options.as_ref();
        Replica::caught_up(&context.options, primary, options, &sql, Duration::from_secs(1)).await
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
                context.shared.error(&error);
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
                context.shared.metrics().retries("stream").inc();
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
    let (mut shutdown, shared) = (context.shutdown.clone(), Arc::clone(&context.shared));
    let opened = tokio::select! {
        biased;
        () = stopped(&mut shutdown) => return Err(Error::transient(STOPPED)),
        opened = shared.pulse().during(Box::pin(opening::open(context))) => opened?,
    };
    Box::pin(streaming::Streaming::new(context, opened)?.run()).await
}

/// The store that the configuration names.
pub async fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    let store: Arc<dyn Store> = match config.lake.location()? {
        crate::config::Location::S3 { bucket, prefix } => {
            let settings = config.lake.s3_settings(bucket, prefix);
            Arc::new(store::S3::connect(settings).await.map_err(not_set_up)?)
        }
        crate::config::Location::Directory(path) => {
            Arc::new(store::Directory::open(path).map_err(lake::Error::from)?)
        }
    };
    Ok(store)
}

/// What is refused before the store was asked for anything is a setting, which no retry mends.
fn not_set_up(error: StoreError) -> Error {
    let is_setting = matches!(error, StoreError::Refused { .. });
    let error = Error::from(lake::Error::from(error));
    if is_setting { error.of_kind(Kind::Config) } else { error }
}

/// Who we are, for people who read the log.
pub(crate) fn owner() -> String {
    lake::ambient::process()
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
