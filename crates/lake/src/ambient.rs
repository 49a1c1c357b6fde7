//! What comes from the machine and not from a caller: the time of day, randomness, its name, and threads for work that blocks.
//!
//! Owns: the one door to each, so that a simulation can put a seed in their place.
//! Does not: drive timers (tokio's clock does, and tests pause that one).
//! Holds: outside of a simulation it is the system's, and nothing stands in between.
//! Fails: as the system does.

use std::num::NonZero;
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01 UTC; a clock before that reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the door to it")]
pub fn unix_micros() -> i64 {
    #[cfg(feature = "simulation")]
    if let Some(micros) = simulated::with(|world| world.unix_micros()) {
        return micros;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Random bytes that nobody can guess.
pub fn random(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    #[cfg(feature = "simulation")]
    if simulated::with(|world| world.random(bytes)).is_some() {
        return Ok(());
    }
    getrandom::fill(bytes)
}

/// Host and process, for people.
pub fn process() -> String {
    #[cfg(feature = "simulation")]
    if simulated::with(|_| ()).is_some() {
        return "simulated:1".to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}:{}", if host.is_empty() { "unknown" } else { host }, std::process::id())
}

/// How many threads can run at once.
pub fn parallelism() -> usize {
    #[cfg(feature = "simulation")]
    if simulated::with(|_| ()).is_some() {
        return 2;
    }
    std::thread::available_parallelism().map_or(2, NonZero::get)
}

/// Runs work that blocks where that is allowed.
///
/// Whichever thread was idle last takes it, so that few of them run, and what they keep of memory and caches is used again.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Ended> {
    #[cfg(feature = "simulation")]
    if let Some(pause) = simulated::with(|world| world.pause()) {
        tokio::time::sleep(pause).await;
        return Ok(work());
    }
    // A clock that is stopped waits for what runs on tokio's own threads, and for nothing else.
    #[cfg(feature = "simulation")]
    return tokio::task::spawn_blocking(work).await.map_err(|_| Ended);
    #[cfg(not(feature = "simulation"))]
    threads::run(work).await
}

/// The thread of some work ended before the work did: it panicked, or there are no more threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its thread ended, or could not begin")]
pub struct Ended;

#[cfg(any(test, not(feature = "simulation")))]
mod threads;

/// Another machine than this one, for the tasks of one thread.
#[cfg(feature = "simulation")]
pub mod simulated {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    /// What the machine gives.
    pub trait World {
        /// Microseconds since 1970-01-01 UTC.
        fn unix_micros(&self) -> i64;
        /// Fills with the next bytes of the seed.
        fn random(&self, bytes: &mut [u8]);
        /// How long the next work that blocks takes.
        fn pause(&self) -> Duration;
    }

    thread_local! {
        static WORLD: RefCell<Option<Rc<dyn World>>> = const { RefCell::new(None) };
    }

    /// Everything on this thread is in that world from here on; in the machine's again with `None`.
    pub fn enter(world: Option<Rc<dyn World>>) {
        WORLD.with_borrow_mut(|entered| *entered = world);
    }

    pub(super) fn with<T>(ask: impl FnOnce(&dyn World) -> T) -> Option<T> {
        WORLD.with_borrow(Option::clone).map(|world| ask(&*world))
    }
}
