//! Waiting for something to become true.
//!
//! Owns: the loop.
//! Does not: know what is waited for.
//! Holds: asks ten times a second.
//! Fails: after the limit, with what was waited for and the last reason why not.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks until the answer is `Ok`.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if begun.elapsed() > limit => {
                bail!("{what} did not happen within {} s: {error:#}", limit.as_secs())
            }
            Err(_) => pause(Duration::from_millis(100)).await,
        }
    }
}

/// Does both at once; the first error ends it.
pub async fn both(
    one: impl Future<Output = Result<()>>,
    other: impl Future<Output = Result<()>>,
) -> Result<()> {
    tokio::try_join!(one, other).map(drop)
}

/// Sleeps.
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A duration in seconds.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
