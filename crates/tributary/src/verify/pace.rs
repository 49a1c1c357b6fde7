//! How fast both sides are read, and how far the reading is.
//!
//! Owns: the bound of bytes in a second, of the source and of the lake each, and the counts that a progress bar shows.
//! Does not: draw.
//! Holds: what was read faster than it may be is waited for before more is read.
//! Fails: never.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One side.
#[derive(Debug)]
pub struct Pace {
    rate: Option<u64>,
    began: Instant,
    moved: AtomicU64,
    total: AtomicU64,
}

impl Pace {
    /// Bounded by so many bytes a second, or not.
    pub fn new(rate: Option<u64>) -> Pace {
        Pace { rate, began: Instant::now(), moved: AtomicU64::new(0), total: AtomicU64::new(0) }
    }

    /// So much more will be read.
    pub fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much was read: waits for as long as that may take.
    pub async fn moved(&self, bytes: u64) {
        let moved = self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(rate) = self.rate {
            let micros = u128::from(moved) * 1_000_000 / u128::from(rate.max(1));
            let due = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
            tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
        }
    }

    /// What was read, and what there is in all as far as it is known.
    pub fn progress(&self) -> (u64, u64) {
        let moved = self.moved.load(Ordering::Relaxed);
        (moved, self.total.load(Ordering::Relaxed).max(moved))
    }
}
