//! The daemon: sessions with Postgres, the pipeline, configuration, command line, metrics and HTTP.
//!
//! Owns: everything that waits, and the one loop that moves rows from Postgres to the lake.
//! Does not: decode the wire (`pgoutput`), give it meaning (`tables`), or write objects (`lake`, `store`).
//! Holds: `confirmed <= published <= logged <= cut <= received` (I1).
//! Fails: [`error::Error`], whose kind is the next action and the exit code.

pub mod buffers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod http;
pub mod layouts;
pub mod logging;
pub mod metrics;
pub mod pipeline;
pub mod pulse;
pub mod reading;
pub mod resync;
pub mod retry;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod supervisor;
pub mod transactions;
pub mod verify;
pub mod wal_budget;
