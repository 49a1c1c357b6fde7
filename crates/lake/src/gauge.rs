//! One memory budget for everything that waits to become an object.
//!
//! Owns: the byte counts of buffers, encoders and parts in flight, and the budget they share.
//! Does not: decide what to encode early or when to stop reading; the pipeline does, by these numbers.
//! Holds: every reservation gives back exactly what it took, also when its task is cancelled (I8).
//! Fails: never.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What the memory is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Arrow builders, and batches that wait for their encoder.
    Buffers,
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
    buffers: AtomicUsize,
    encoders: AtomicUsize,
    parts: AtomicUsize,
    spool: AtomicUsize,
    shrunk: Notify,
}

impl Gauge {
    /// A gauge with a budget in bytes.
    pub fn new(budget: usize) -> Arc<Gauge> {
        Arc::new(Gauge {
            budget,
            buffers: AtomicUsize::new(0),
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
        [Use::Buffers, Use::Encoders, Use::Parts, Use::Spool]
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
}
