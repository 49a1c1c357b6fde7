//! Everything that is said to Postgres and heard from it.
//!
//! Owns: connections, the replication session, the slot, and what is read from the catalogs.
//! Does not: decide what a message means, or when to confirm.
//! Holds: SQL identifiers are quoted in `sql` only; every session pins the settings that change how values print.
//! Fails: [`crate::error::Error`]; transient unless proven definite, and a server's own error is kept as its cause.

pub mod catalog;
pub mod connect;
pub mod copy_out;
pub mod credentials;
mod dial;
pub mod fault;
pub mod folding;
mod frames;
pub mod held;
pub mod omissions;
pub mod options;
mod pace;
pub mod partitions;
mod published;
pub mod require_auth;
mod server;
pub mod session;
mod settings;
pub mod slot;
mod socket;
pub mod sql;
pub mod standby;
mod startup;
pub mod stream;
mod tls;

pub use connect::install_crypto;
pub use copy_out::CopyOut;
pub use credentials::{Credentials, Secret};
#[cfg(feature = "simulation")]
pub use dial::simulated;
pub use fault::{is_duplicate, is_internal, is_slot_active, is_undefined_function};
pub use folding::Folding;
pub use options::{ConnectOptions, SslMode};
pub use session::Session;
pub use sql::{Sql, connect_sql};
pub use stream::{Received, Start, Stream};

/// The prefix of the logical messages by which event triggers tell of DDL (`tributary setup --ddl-events`).
pub const DDL_PREFIX: &str = "tributary.ddl";
