//! Parts of end-to-end tests.
//!
//! Owns: what surrounds the daemon under test: servers, faults, load, and the eyes that watch its lake.
//! Does not: depend on any crate of the daemon; it knows what a user knows (command line, configuration, HTTP, files).
//! Holds: every process that it starts ends with the test, however the test ends; all of it listens on loopback only.
//! Fails: with `anyhow` errors that carry the end of the log concerned.

mod client;
pub mod clock;
pub mod daemon;
pub mod http;
pub mod large;
pub mod lister;
pub mod machine;
pub mod oracle;
pub mod partitions;
pub mod partman;
pub mod place;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod random;
pub mod s3;
pub mod shuffle;
pub mod stage;
pub mod storm;
pub mod terminal;
pub mod wait;
pub mod workload;

pub use client::again_and_again;
pub use clock::Clock;
pub use daemon::{Daemon, Pipeline};
pub use lister::Lister;
pub use machine::Machine;
pub use postgres::Cluster;
pub use proxy::Proxy;
pub use stage::{Stage, scenario};
pub use storm::Storm;
