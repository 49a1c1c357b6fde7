//! The slot moves although nothing is published.
//!
//! Owns: an idle published set beside a busy table that is not published.
//! Does not: write to the published tables.
//! Holds: `confirmed_flush_lsn` follows the server within a minute, so that a quiet pipeline never fills its disk.
//! Fails: with how far it is behind.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use testkit::scenario;
use testkit::wait::{pause, seconds};

use crate::rig;

#[test]
fn the_slot_follows_beside_a_busy_unpublished_table() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let cluster = rig::cluster(stage, 15, false, &[]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.interval = "10s").await?;
        rig::some_rows(&cluster, 1000).await?;
        let daemon = pipeline.start_streaming().await?;
        let mut written = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < seconds(90) {
            let rows = "insert into unpublished (body) select repeat('x', 500) from generate_series(1, 500)";
            cluster.execute(rows).await?;
            written.push((Instant::now(), cluster.wal_lsn().await?));
            pause(seconds(1)).await;
        }
        let confirmed = cluster.confirmed("tributary").await?;
        let old = written.iter().rev().find(|(at, _)| at.elapsed() > seconds(60)).map(|(_, lsn)| *lsn);
        let old = old.context("a position of a minute ago")?;
        ensure!(confirmed >= old, "confirmed {confirmed:X}, and {old:X} was written a minute ago");
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}
