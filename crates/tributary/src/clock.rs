//! Wall time, in the units of the project.
//!
//! Owns: the mapping from the clock of [`lake::ambient`] to them.
//! Does not: drive timers (tokio's clock does, and tests pause that one).
//! Holds: wall time never enters a data row or its partition (I7); it is for status updates, logs and metrics.
//! Fails: never; a clock before 1970 reads as 1970.

use std::time::SystemTime;

/// Microseconds since 1970-01-01 UTC.
pub fn unix_micros() -> i64 {
    lake::ambient::unix_micros()
}

/// Now, for whoever signs requests.
#[expect(clippy::disallowed_methods, reason = "this is clock.rs")]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Microseconds since 2000-01-01 UTC, as Postgres's protocol has them.
pub fn pg_micros() -> i64 {
    unix_micros() - pgoutput::UNIX_TO_PG_EPOCH_MICROS
}
