//! Reading the rows that tables have already.
//!
//! Owns: the consistent point, on the source or on a standby of it, the plan of what is read when, the queries, the reading of COPY, and one
//! worker's transaction.
//! Does not: put rows into tables, log or upload them, or decide when a snapshot is wanted.
//! Holds: no lock but ACCESS SHARE, and that only while the one relation is read; a relation that is not any more what it was at the
//! point is never read.
//! Fails: [`crate::error::Error`]; [`worker::verdict`] says what to do about one that came while reading.

pub mod copy;
pub mod plan;
pub mod point;
pub mod query;
pub mod replica;
pub mod worker;
