//! Objects: batches in, Parquet files and a commit log out, exactly once.
//!
//! Owns: the object layout, the Parquet files, the commit log, and the order in which files become visible.
//! Does not: speak to Postgres (of it, this crate knows only `Lsn`) or to AWS (it states the [`store::Store`] trait).
//! Holds: the invariants I3, I4 and I5 of ARCHITECTURE.md.
//! Fails: [`Error`]; `Fenced` when another writer lives.

pub mod ambient;
pub mod error;
pub mod fsck;
pub mod gauge;
pub mod kill_points;
pub mod layout;
pub mod log;
pub mod parquet;
pub mod publish;
pub mod retry;
pub mod store;
pub mod time;
pub mod transform;
pub mod watermark;
pub mod writer;

pub use error::Error;
