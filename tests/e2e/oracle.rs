//! Who watches the watcher.
//!
//! Owns: that the oracle finds a lost row, a doubled one, a wrong value, and accepts an equal lake.
//! Does not: involve the daemon.
//! Holds: the small lakes are made by PyArrow, not by our writer.
//! Fails: with what the oracle did not find.

use anyhow::{Result, ensure};
use testkit::wait::seconds;
use testkit::{Cluster, oracle, scenario};

#[test]
fn the_oracle_finds_what_it_must() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let cluster = Cluster::start(stage, 18, &[]).await?;
        let dsn = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", cluster.port);
        let outcome = oracle::script(stage, "selftest.py", &["--dsn", &dsn]).await?;
        ensure!(outcome.code == 0, "{}", outcome.text());
        Ok(())
    })
}
