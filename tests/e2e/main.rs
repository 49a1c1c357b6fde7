//! The built daemon against real Postgres and S3 servers.
//!
//! Owns: what only a whole pipeline can show; `testkit` has the parts.
//! Does not: link any crate of the daemon; `TRIBUTARY_BIN` names the program, and `make test` sets it.
//! Holds: every test has servers, slot and lake of its own; the seed of chance is printed, and `TRIBUTARY_SEED` repeats it.
//! Fails: with the end of the logs concerned; the files of a failed test stay where it says.

mod commands;
mod ddl;
mod faults;
mod formats;
mod identity;
mod idle;
mod layout;
mod memory;
mod odd;
mod oracle;
mod partitions;
mod partman;
mod rig;
mod roundtrip;
mod scene;
mod snapshot;
mod standby;
mod startup;
mod stores;
mod streaming;
mod takeover;
mod tls;
mod types;
