//! A scripted Postgres: real protocol bytes about a database of the mind.
//!
//! Owns: the server that everybody connects to, whichever machine that is after a fail-over.
//! Does not: decide what happens when (`world`).
//! Holds: one stream has the slot.
//! Fails: never by itself.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pgoutput::{Lsn, UNIX_TO_PG_EPOCH_MICROS};
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::random::{EPOCH_MICROS, Random};
use crate::seen;
use crate::trace::Trace;

mod catalog;
pub(crate) mod database;
mod session;
mod walsender;

use database::Database;

/// Judges a confirmed position.
pub(crate) type Audit = Arc<dyn Fn(Lsn) + Send + Sync>;

/// The server.
#[derive(Clone)]
pub(crate) struct Server {
    database: Arc<Mutex<Database>>,
    trace: Trace,
    random: Arc<Mutex<Random>>,
    /// Something was written.
    news: watch::Sender<u64>,
    begun: Instant,
    /// How much the clock is wrong, in microseconds.
    wrong: Arc<AtomicI64>,
    audit: Audit,
}

impl Server {
    pub(crate) fn new(database: Database, random: Random, trace: Trace, audit: Audit) -> Server {
        Server {
            database: Arc::new(Mutex::new(database)),
            trace,
            random: Arc::new(Mutex::new(random)),
            news: watch::Sender::new(0),
            begun: Instant::now(),
            wrong: Arc::default(),
            audit,
        }
    }

    pub(crate) fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().expect("no panic before")
    }

    /// Wakes the streams up.
    pub(crate) fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    pub(crate) async fn serve(self, io: DuplexStream) {
        session::serve(self, io).await;
    }

    /// The time that a command takes.
    async fn think(&self) {
        let pause = self.random().millis(0, 8);
        tokio::time::sleep(pause).await;
    }

    fn random(&self) -> MutexGuard<'_, Random> {
        self.random.lock().expect("no panic before")
    }

    pub(crate) fn unix_micros(&self) -> i64 {
        let passed = i64::try_from(self.begun.elapsed().as_micros()).expect("a short simulation");
        EPOCH_MICROS + passed + self.wrong.load(Ordering::Relaxed)
    }

    /// Somebody sets the clock, or a machine wakes up: days back or forth, or right again.
    pub(crate) fn jump(&self) {
        seen::note("the server's clock jumped");
        let days = {
            let mut random = self.random();
            *random.pick(&[-400, -3, 0, 0, 2, 300])
        };
        self.trace.say(format!("postgres: its clock is wrong by {days} days"));
        self.wrong.store(days * 86_400_000_000, Ordering::Relaxed);
    }

    fn pg_micros(&self) -> i64 {
        self.unix_micros() - UNIX_TO_PG_EPOCH_MICROS
    }

    /// A status: the slot moves forward, and never back.
    fn confirmed(&self, flush: Lsn) {
        (self.audit)(flush);
        let mut database = self.database();
        let Some(slot) = &mut database.slot else { return };
        if flush > slot.confirmed {
            slot.confirmed = flush;
            self.trace.say(format!("postgres: confirmed {flush}"));
            if self.random().chance(30) {
                slot.saved = flush;
            }
        }
    }
}
