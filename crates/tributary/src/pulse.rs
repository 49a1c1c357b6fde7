//! Whether the loop lives: it beats, and others look when it last did.
//!
//! Owns: the time of the last beat.
//! Does not: act on it; `supervisor` lets systemd end a daemon whose loop stands still, `http` tells Kubernetes.
//! Holds: only the task that owns the stream beats, by its own turns, so that a loop that is stuck is silent whatever else runs.
//! Fails: never.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

/// When the loop last beat.
#[derive(Debug)]
pub struct Pulse {
    begun: Instant,
    /// Milliseconds since `begun`.
    last: AtomicU64,
}

impl Pulse {
    /// One that beats now.
    pub fn new() -> Pulse {
        Pulse { begun: Instant::now(), last: AtomicU64::new(0) }
    }

    /// The loop is where it should be.
    pub fn beat(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// When it last beat, by a clock of its own.
    pub fn last(&self) -> Duration {
        Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// How long ago it last beat.
    pub fn age(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.last())
    }

    /// Beats while the loop's own task waits for something that takes the time it takes: the store, the slot, another attempt.
    pub async fn during<T>(&self, waited: impl Future<Output = T>) -> T {
        let mut waited = pin!(waited);
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut waited => return done,
                _ = beats.tick() => self.beat(),
            }
        }
    }
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse::new()
    }
}

/// A loop that is silent for longer is stuck: no step of it may take half as long (the catalogs have 30 s).
pub const STUCK: Duration = Duration::from_secs(120);
/// How often a wait beats.
const BEAT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
