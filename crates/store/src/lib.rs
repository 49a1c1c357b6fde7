//! Object stores: S3 through the AWS SDK, and a local directory; and what else needs that SDK.
//!
//! Owns: how the requests of [`lake::store::Store`] are made, and how the answers are read.
//! Does not: decide what to store, or when to retry a request that failed.
//! Holds: an outcome is never better than what the store said; no secret is in an error or a `Debug`.
//! Fails: [`lake::store::StoreError`].

mod directory;
mod keys;
mod probe;
mod rds;
mod s3;

pub use directory::Directory;
pub use probe::{Probe, probe};
pub use rds::RdsSigner;
pub use s3::{Checksums, S3, S3Settings};

#[cfg(test)]
mod conformance;
