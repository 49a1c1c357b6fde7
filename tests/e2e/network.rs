//! Wires that break in every way that wires break, to Postgres and to the store.
//!
//! Owns: connections that end after any number of bytes, storms of resets, wires that carry next to nothing, both wires silent at once.
//! Does not: kill processes; `faults` has one wire that is silent or cut for long, `roundtrip` mixes them with kills.
//! Holds: no part of a message or of a request is taken for the whole; once the wires work, everything arrives, once.
//! Fails: with the number of bytes after which the wire broke, or the oracle's differences.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::FAULTS;
use testkit::postgres::DATABASE;
use testkit::proxy::Wire;
use testkit::random::Random;
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Pipeline, Proxy, Stage, scenario};

use crate::rig::{self, Kind, LakeRig};
use crate::snapshot::LEAVES_DIFFER;

#[test]
fn the_wire_to_postgres_15_breaks_after_any_number_of_bytes() -> Result<()> {
    breaks_after_any_number_of_bytes(15, false)
}

#[test]
fn the_wire_to_postgres_18_breaks_after_any_number_of_bytes() -> Result<()> {
    breaks_after_any_number_of_bytes(18, false)
}

#[test]
fn the_wire_to_the_store_breaks_after_any_number_of_bytes() -> Result<()> {
    breaks_after_any_number_of_bytes(17, true)
}

/// Every run meets one break. A first one, which meets none, tells how many bytes there are to break after.
fn breaks_after_any_number_of_bytes(version: u32, is_store: bool) -> Result<()> {
    scenario(seconds(300), async |stage| {
        let seed = rig::seed(stage)?;
        let mut random = Random::new(seed);
        let wires = Wires::new(stage, version, if is_store { Kind::S3 } else { Kind::Directory }).await?;
        let wire = if is_store { wires.store()? } else { &wires.postgres };
        let workload = Workload::new(&wires.cluster, Load { workers: 2, ..Load::new(seed) });
        let mut broken = 0;
        let runs = (0..FIRST_BYTES).step_by(STRIDE).map(Some).chain((0..SAMPLE).map(|_| None));
        workload
            .during(async {
                workload_pause().await;
                let before = wire.carried();
                run(&wires.pipeline).await?;
                let all = wire.carried() - before;
                stage.say(format!("a run takes {all} bytes"));
                for bytes in runs {
                    let bytes =
                        bytes.unwrap_or_else(|| random.between(FIRST_BYTES, all.max(FIRST_BYTES + 1)));
                    workload_pause().await;
                    wire.set(Wire::BreaksAfter(bytes));
                    run(&wires.pipeline).await.with_context(|| format!("broken after {bytes} bytes"))?;
                    broken += u64::from(wire.wire() == Wire::Works);
                    wire.set(Wire::Works);
                }
                Ok(())
            })
            .await?;
        workload.finish().await?;
        stage.say(format!("broken {broken} times"));
        ensure!(broken > FIRST_BYTES / STRIDE as u64, "the wire broke only {broken} times");
        wires.finish(stage).await
    })
}

/// The workload goes on only while something is waited for.
async fn workload_pause() {
    pause(Duration::from_millis(200)).await;
}

async fn run(pipeline: &Pipeline) -> Result<()> {
    pipeline.run_within(&["run", "--until", "now"], seconds(60)).await?.success().map(drop)
}

#[test]
fn a_storm_of_resets_loses_nothing() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let mut random = Random::new(seed);
        let wires = Wires::new(stage, 18, Kind::S3).await?;
        let mut daemon = wires.pipeline.start_streaming().await?;
        let workload = Workload::new(&wires.cluster, Load::new(seed));
        workload
            .during(async {
                let begun = Instant::now();
                let mut resets = 0;
                while begun.elapsed() < seconds(20) {
                    pause(Duration::from_millis(random.between(20, 600))).await;
                    let wire = if random.chance(70) { wires.store()? } else { &wires.postgres };
                    wire.reset();
                    resets += 1;
                }
                stage.say(format!("{resets} resets"));
                daemon.wait_until_streaming(seconds(60)).await
            })
            .await?;
        workload.finish().await?;
        daemon.wait_until_published(wires.committed().await?, seconds(60)).await?;
        daemon.stop().await?;
        wires.finish(stage).await
    })
}

/// Neither the server nor the daemon gives up a session on which something moves, and requests that a store gives up come again.
#[test]
fn a_wire_that_carries_a_kilobyte_a_second_only_takes_its_time() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let wires = Wires::new(stage, 17, Kind::S3).await?;
        let mut daemon = wires.pipeline.start_streaming().await?;
        let workload = Workload::new(&wires.cluster, Load { workers: 2, ..Load::new(seed) });
        for wire in [&wires.postgres, wires.store()?] {
            wire.set(Wire::Slow(1000));
            workload.during_seconds(15).await?;
            wire.set(Wire::Works);
            workload.during_seconds(2).await?;
        }
        workload.finish().await?;
        daemon.wait_until_published(wires.committed().await?, seconds(60)).await?;
        daemon.stop().await?;
        wires.finish(stage).await
    })
}

/// A host that loses its network: all is silent, and then it is back, with the sessions of before.
#[test]
fn both_wires_are_silent_and_come_back() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let wires = Wires::new(stage, 16, Kind::S3).await?;
        let mut daemon = wires.pipeline.start_streaming().await?;
        let workload = Workload::new(&wires.cluster, Load::new(seed));
        // Shorter than the server waits for a reader, and longer.
        for silence in [2, 12] {
            workload.during_seconds(2).await?;
            for wire in [&wires.postgres, wires.store()?] {
                wire.set(Wire::Silent);
            }
            workload.during_seconds(silence).await?;
            for wire in [&wires.postgres, wires.store()?] {
                wire.set(Wire::Works);
            }
        }
        workload.finish().await?;
        daemon.wait_until_published(wires.committed().await?, seconds(90)).await?;
        daemon.stop().await?;
        wires.finish(stage).await
    })
}

/// A pipeline with a wire to each side.
struct Wires {
    cluster: Cluster,
    postgres: Proxy,
    lake: LakeRig,
    pipeline: Pipeline,
}

impl Wires {
    async fn new(stage: &Stage, version: u32, kind: Kind) -> Result<Wires> {
        let cluster = rig::cluster(stage, version, false, &["wal_sender_timeout = 5s"]).await?;
        let postgres = Proxy::start(cluster.port)?;
        let lake = LakeRig::new(stage, kind).await?;
        let url = cluster.url(DATABASE).replace(&cluster.port.to_string(), &postgres.port.to_string());
        let pipeline =
            rig::pipeline(stage, &cluster, lake.lake.clone(), |settings| settings.source = url).await?;
        Ok(Wires { cluster, postgres, lake, pipeline })
    }

    fn store(&self) -> Result<&Proxy> {
        self.lake.proxy.as_ref().context("a wire to the store")
    }

    /// A position behind all that has committed, which the stream comes to.
    async fn committed(&self) -> Result<u64> {
        let committed = self.cluster.wal_lsn().await?;
        rig::some_rows(&self.cluster, 1_000_000).await?;
        Ok(committed)
    }

    async fn finish(&self, stage: &Stage) -> Result<()> {
        rig::finish(stage, &self.cluster, &self.pipeline, &[]).await?;
        self.pipeline.refuse_unexpected_lines(&[FAULTS, &[LEAVES_DIFFER]].concat())
    }
}

/// Sign-in, and the first questions.
const FIRST_BYTES: u64 = 2000;
const STRIDE: usize = 181;
const SAMPLE: u64 = 16;
