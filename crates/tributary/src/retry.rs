//! Backoff with jitter, as the lake does it.
//!
//! Owns: nothing; the one implementation stands in [`lake::retry`].
//! Does not: decide what is worth a retry; `error::Kind` says that.
//! Holds: see [`lake::retry`].
//! Fails: never.

pub use lake::retry::Backoff;
