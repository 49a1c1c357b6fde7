//! The built daemon against real Postgres and S3 servers.
//!
//! Owns: what only a whole pipeline can show; `testkit` has the parts.
//! Does not: link any crate of the daemon; `TRIBUTARY_BIN` names the program, and `make test` sets it.
//! Holds: every test has servers, slot and lake of its own; the seed of chance is printed, and `TRIBUTARY_SEED` repeats it.
//! Fails: with the end of the logs concerned; the files of a failed test stay where it says.

mod adopt;
mod bank;
mod commands;
mod ddl;
mod deploy;
mod environment;
mod failover;
mod faults;
mod formats;
mod fsck;
mod identity;
mod idle;
mod kill_points;
mod layout;
mod memory;
mod metrics;
mod network;
mod odd;
mod oracle;
mod page;
mod partitions;
mod partman;
mod patterns;
mod reading;
mod rig;
mod roundtrip;
mod scene;
mod secrets;
mod sign_in;
mod snapshot;
mod standby;
mod standby_source;
mod startup;
mod stores;
mod streaming;
mod takeover;
mod tls;
mod types;
mod verify;
mod wal_budget;
