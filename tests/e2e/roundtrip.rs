//! Everything arrives, once, whatever is killed on the way.
//!
//! Owns: the matrix of servers, stores and publications under a load of all kinds of changes and a series of faults.
//! Does not: test one fault alone; the other modules do.
//! Holds: meanwhile a reader that lists the lake never sees a file change or disappear.
//! Fails: with the oracle's differences.

use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::daemon::FAULTS;
use testkit::postgres::Stop;
use testkit::proxy::Wire;
use testkit::random::Random;
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Lister, Pipeline, Stage, scenario};

use crate::rig::{self, Kind, LakeRig};

#[test]
fn postgres_14_directory_by_leaf() -> Result<()> {
    roundtrip(14, Kind::Directory, false)
}

#[test]
fn postgres_15_directory_by_leaf() -> Result<()> {
    roundtrip(15, Kind::Directory, false)
}

#[test]
fn postgres_15_directory_via_root() -> Result<()> {
    roundtrip(15, Kind::Directory, true)
}

#[test]
fn postgres_15_s3_by_leaf() -> Result<()> {
    roundtrip(15, Kind::S3, false)
}

#[test]
fn postgres_15_s3_via_root() -> Result<()> {
    roundtrip(15, Kind::S3, true)
}

#[test]
fn postgres_16_s3_via_root() -> Result<()> {
    roundtrip(16, Kind::S3, true)
}

#[test]
fn postgres_17_s3_by_leaf() -> Result<()> {
    roundtrip(17, Kind::S3, false)
}

#[test]
fn postgres_18_directory_by_leaf() -> Result<()> {
    roundtrip(18, Kind::Directory, false)
}

#[test]
fn postgres_18_directory_via_root() -> Result<()> {
    roundtrip(18, Kind::Directory, true)
}

#[test]
fn postgres_18_s3_by_leaf() -> Result<()> {
    roundtrip(18, Kind::S3, false)
}

#[test]
fn postgres_18_s3_via_root() -> Result<()> {
    roundtrip(18, Kind::S3, true)
}

fn roundtrip(version: u32, kind: Kind, via_root: bool) -> Result<()> {
    scenario(seconds(420), async |stage| {
        let seed = rig::seed(stage)?;
        let mut cluster = rig::cluster(stage, version, via_root, &["wal_sender_timeout = 5s"]).await?;
        let mut lake = LakeRig::new(stage, kind).await?;
        let pipeline = rig::pipeline(stage, &cluster, lake.lake.clone(), |_| {}).await?;
        let lister = Lister::start(pipeline.place())?;
        let load = Load { truncate_leaves: !via_root, ..Load::new(seed) };
        let workload = Workload::new(&cluster, load);
        workload.during(break_things(stage, seed, &mut cluster, &pipeline, &mut lake)).await?;
        let done = workload.finish().await?;
        stage.say(format!("{} transactions committed, {} undone", done.committed, done.undone));
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        let seen = lister.finish()?;
        stage.say(format!("{} files, listed {} times", seen.files, seen.listings));
        pipeline.refuse_unexpected_lines(
            &[FAULTS, &["a leaf has another replica identity than its root"]].concat(),
        )
    })
}

/// Kills the daemon every few seconds; in between, servers and wires break under a daemon that lives.
async fn break_things(
    stage: &Stage,
    seed: u64,
    cluster: &mut Cluster,
    pipeline: &Pipeline,
    lake: &mut LakeRig,
) -> Result<()> {
    let mut random = Random::new(seed);
    for round in 0..ROUNDS {
        let mut daemon = pipeline.start()?;
        pause(Duration::from_millis(random.between(500, 3500))).await;
        match round {
            1 => {
                stage.say("restarting Postgres, fast");
                cluster.restart(Stop::Fast).await?;
                daemon.wait_until_streaming(seconds(60)).await.context("after a fast restart")?;
            }
            3 => {
                stage.say("restarting Postgres, immediate");
                cluster.restart(Stop::Immediate).await?;
                daemon.wait_until_streaming(seconds(60)).await.context("after an immediate restart")?;
            }
            5 => break_store(stage, lake).await?,
            7 => {
                stage.say("killing Postgres and the daemon");
                cluster.stop(Stop::Kill).await?;
                daemon.kill()?;
                cluster.resume().await?;
            }
            _ => {}
        }
        pause(Duration::from_millis(random.below(2000))).await;
        if round + 1 == ROUNDS {
            daemon.wait_until_streaming(seconds(90)).await?;
            return daemon.stop().await;
        }
        // It must not have ended by itself; at round 7 it was killed.
        let ended = daemon.exited()?;
        anyhow::ensure!(ended.is_none() || round == 7, "the daemon ended with {ended:?}: {}", daemon.tail());
        daemon.kill()?;
    }
    Ok(())
}

async fn break_store(stage: &Stage, lake: &mut LakeRig) -> Result<()> {
    let (Some(proxy), Some(server)) = (&lake.proxy, &mut lake.server) else { return Ok(()) };
    for (wire, for_seconds) in [(Wire::LosesReplies, 2), (Wire::Works, 2), (Wire::Cut, 5), (Wire::Works, 2)] {
        stage.say(format!("the wire to the store: {wire:?}"));
        proxy.set(wire);
        pause(seconds(for_seconds)).await;
    }
    stage.say("freezing the store");
    server.freeze()?;
    pause(seconds(6)).await;
    server.thaw()?;
    pause(seconds(2)).await;
    Ok(())
}

const ROUNDS: u32 = 10;
