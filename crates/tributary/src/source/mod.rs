//! Everything that is said to Postgres and heard from it.
//!
//! Owns: connections, the replication session, the slot, and what is read from the catalogs.
//! Does not: decide what a message means, or when to confirm.
//! Holds: SQL identifiers are quoted in `sql` only; every session pins the settings that change how values print.
//! Fails: [`crate::error::Error`]; transient unless proven definite.

pub mod catalog;
pub mod connect;
pub mod session;
pub mod slot;
pub mod sql;
