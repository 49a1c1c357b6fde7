//! Backoff with jitter, and the retrying of store requests.
//!
//! Owns: how long to wait before the next try.
//! Does not: decide what is worth a retry; the error's kind says that.
//! Holds: delays double from `first` to `most`, each drawn from the upper half of its step.
//! Fails: [`transient`] gives back the first error that a retry cannot mend.

use std::future::Future;
use std::time::Duration;

use tracing::warn;

use crate::ambient;
use crate::store::StoreError;

/// Repeats a store request until it succeeds or fails for good.
///
/// There is no limit to the tries: while the store is away, reading from Postgres pauses by the memory budget and nothing
/// is lost. Whoever must not wait drops the future.
pub async fn transient<T, F>(mut request: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match request().await {
            Err(error) if error.is_transient() => {
                let delay = backoff.next_delay();
                warn!(error = %error, failures = backoff.failures(), ?delay, "store request failed, trying again");
                tokio::time::sleep(delay).await;
            }
            outcome => return outcome,
        }
    }
}

/// A series of delays.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Delays from about `first` up to `most`.
    pub fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, failures: 0 }
    }

    /// It worked: the next failure starts from `first` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed once more: how long to wait.
    pub fn next_delay(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let step = doubled.min(self.most);
        step / 2 + step.mul_f64(random_fraction() / 2.0)
    }
}

/// A number in `[0, 1)`; 0.5 if the system has no randomness to give.
fn random_fraction() -> f64 {
    let mut bytes = [0_u8; 4];
    match ambient::random(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_most_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for step in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay().as_millis();
            assert!(delay >= step / 2 && delay <= step, "{delay} for a step of {step}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
