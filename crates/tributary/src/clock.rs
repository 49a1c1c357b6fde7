//! The only place that reads wall time.
//!
//! Owns: the mapping from the system clock to the units of the project.
//! Does not: drive timers (tokio's clock does, and tests pause that one).
//! Holds: wall time never enters a data row or its partition (I7); it is for status updates, logs and metrics.
//! Fails: never; a clock before 1970 reads as 1970.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01 UTC.
#[expect(clippy::disallowed_methods, reason = "this is clock.rs")]
pub fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Microseconds since 2000-01-01 UTC, as Postgres's protocol has them.
pub fn pg_micros() -> i64 {
    unix_micros() - pgoutput::UNIX_TO_PG_EPOCH_MICROS
}
