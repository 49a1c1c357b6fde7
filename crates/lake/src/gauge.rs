//! One memory budget for everything that waits to become an object.
//!
//! Owns: the byte counts of buffers, encoders and parts in flight, and the budget they share.
//! Does not: decide what to encode early or when to stop reading; the pipeline does, by these numbers.
//! Holds: every reservation gives back exactly what it took, also when its task is cancelled (I8).
//! Fails: never.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::ambient;

/// What the memory is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Arrow builders, and what a snapshot has read ahead of its encoders.
    Buffers,
    /// Batches of the stream that wait for their encoder.
    Waiting,
    /// Row groups that are being encoded.
    Encoders,
    /// Encoded bytes that are being uploaded.
    Parts,
    /// Messages of transactions that have not committed yet.
    Spool,
}

/// The shared counts.
#[derive(Debug)]
pub struct Gauge {
    budget: usize,
    /// What may wait for the encoders.
    ahead: usize,
    buffers: AtomicUsize,
    waiting: AtomicUsize,
    encoders: AtomicUsize,
    parts: AtomicUsize,
    spool: AtomicUsize,
    shrunk: Notify,
}

impl Gauge {
    /// A gauge with a budget in bytes.
    pub fn new(budget: usize) -> Arc<Gauge> {
        // A batch for each encoder and one more keep them all busy; what is read further ahead of them only fills the budget, and caches.
        let batches = (ambient::parallelism() + 1) * BATCH_BYTES;
        Arc::new(Gauge {
            budget,
            ahead: batches.min(budget / 8),
            buffers: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            encoders: AtomicUsize::new(0),
            parts: AtomicUsize::new(0),
            spool: AtomicUsize::new(0),
            shrunk: Notify::new(),
        })
    }

    /// The budget in bytes.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Whether more may be read. Half of the budget is kept for what is not counted: the copies that encoders make of pages and
    /// row groups while they write them, parts that hold on to the row group they were cut from, and the slack of growing
    /// buffers. Measured with megabyte cells, that is about as much as what is counted.
    pub fn has_room(&self) -> bool {
        self.used() < self.budget / 2
    }

    /// Whether the encoders have little to do for the stream.
    pub fn encoders_keep_up(&self) -> bool {
        self.used_for(Use::Waiting) <= self.ahead
    }

    /// Whether memory should be given back before there is no room any more.
    pub fn is_short(&self) -> bool {
        self.used() > self.budget / 8 * 3
    }

    /// Bytes in use for one purpose.
    pub fn used_for(&self, purpose: Use) -> usize {
        self.counter(purpose).load(Ordering::Relaxed)
    }

    /// Bytes in use in all.
    pub fn used(&self) -> usize {
        [Use::Buffers, Use::Waiting, Use::Encoders, Use::Parts, Use::Spool]
            .map(|purpose| self.used_for(purpose))
            .iter()
            .sum()
    }

    /// Waits until some bytes were given back.
    pub async fn shrunk(&self) {
        self.shrunk.notified().await;
    }

    /// Takes bytes until the reservation is dropped.
    pub fn reserve(self: &Arc<Self>, purpose: Use, bytes: usize) -> Reservation {
        self.counter(purpose).fetch_add(bytes, Ordering::Relaxed);
        Reservation { gauge: Arc::clone(self), purpose, bytes }
    }

    fn counter(&self, purpose: Use) -> &AtomicUsize {
        match purpose {
            Use::Buffers => &self.buffers,
            Use::Waiting => &self.waiting,
            Use::Encoders => &self.encoders,
            Use::Parts => &self.parts,
            Use::Spool => &self.spool,
        }
    }
}

/// Bytes taken from the budget; dropping gives them back.
#[derive(Debug)]
pub struct Reservation {
    gauge: Arc<Gauge>,
    purpose: Use,
    bytes: usize,
}

impl Reservation {
    /// What it is for.
    pub fn purpose(&self) -> Use {
        self.purpose
    }

    /// How much is taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes how much is taken.
    pub fn resize(&mut self, bytes: usize) {
        let counter = self.gauge.counter(self.purpose);
        if bytes >= self.bytes {
            counter.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            counter.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.gauge.shrunk.notify_one();
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// Bytes after which a batch is handed to its encoder, whatever its rows: small enough that caches still have some of it.
pub const BATCH_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_give_back_exactly_what_they_took() {
        let gauge = Gauge::new(100);
        let mut buffers = gauge.reserve(Use::Buffers, 60);
        let parts = gauge.reserve(Use::Parts, 50);
        assert_eq!((gauge.used(), gauge.budget()), (110, 100));
        buffers.resize(20);
        assert_eq!((gauge.used(), gauge.used_for(Use::Buffers)), (70, 20));
        drop(parts);
        drop(buffers);
        assert_eq!(gauge.used(), 0);
    }

    #[test]
    fn what_waits_for_encoders_is_bounded_apart() {
        // Of a small budget an eighth, of a large one a batch for each encoder and one more.
        let batches = (ambient::parallelism() + 1) * BATCH_BYTES;
        for (budget, ahead) in [(8 << 20, 1 << 20), (64 << 30, batches)] {
            let gauge = Gauge::new(budget);
            let _read_by_a_snapshot = gauge.reserve(Use::Buffers, budget / 4);
            let mut waiting = gauge.reserve(Use::Waiting, ahead);
            assert!(gauge.has_room() && gauge.encoders_keep_up());
            waiting.resize(ahead + 1);
            assert!(gauge.has_room() && !gauge.encoders_keep_up());
            drop(waiting);
            assert!(gauge.encoders_keep_up());
        }
    }
}
