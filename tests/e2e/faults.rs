//! One fault at a time, and what must not follow from it.
//!
//! Owns: a store that stalls for longer than Postgres waits for a reader, a wire to Postgres that goes silent, a stop without store.
//! Does not: mix them; the round trips do.
//! Holds: what a fault does not touch goes on.
//! Fails: with the daemon's log.

use anyhow::{Result, ensure};
use testkit::daemon::FAULTS;
use testkit::proxy::Wire;
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Proxy, scenario};

use crate::rig::{self, Kind, LakeRig};

/// Backpressure must not cost the connection: status updates go on while reading is paused.
#[test]
fn a_store_that_stalls_does_not_break_the_stream() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 18, false, &["wal_sender_timeout = 4s"]).await?;
        let lake = LakeRig::new(stage, Kind::S3).await?;
        let pipeline =
            rig::pipeline(stage, &cluster, lake.lake.clone(), |settings| settings.budget = "64MiB").await?;
        let daemon = pipeline.start_streaming().await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        workload.during_seconds(3).await?;
        if let Some(proxy) = &lake.proxy {
            proxy.set(Wire::Silent);
            workload.during_seconds(16).await?;
            proxy.set(Wire::Works);
        }
        workload.during_seconds(5).await?;
        workload.finish().await?;
        daemon.stop().await?;
        let only_the_store: Vec<&str> = FAULTS
            .iter()
            .copied()
            .filter(|words| words.contains("store") || words.contains("log entry"))
            .collect();
        pipeline.refuse_unexpected_lines(&only_the_store)?;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

/// A host that vanished sends no goodbye.
#[test]
fn a_silent_server_is_noticed_and_the_stream_goes_on() -> Result<()> {
    scenario(seconds(300), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 15, false, &["wal_sender_timeout = 4s"]).await?;
        let proxy = Proxy::start(cluster.port)?;
        let url = cluster
            .url(testkit::postgres::DATABASE)
            .replace(&cluster.port.to_string(), &proxy.port.to_string());
        let pipeline =
            rig::pipeline(stage, &cluster, rig::directory(stage), |settings| settings.source = url).await?;
        let mut daemon = pipeline.start_streaming().await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        for wire in [Wire::Cut, Wire::Works, Wire::Silent, Wire::Cut, Wire::Works] {
            workload.during_seconds(4).await?;
            stage.say(format!("the wire to Postgres: {wire:?}"));
            proxy.set(wire);
        }
        workload.finish().await?;
        daemon.wait_until_streaming(seconds(90)).await?;
        daemon.wait_until_published(cluster.confirmed("tributary").await? + 1, seconds(60)).await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(FAULTS)
    })
}

/// Whoever stops the daemon while its store is down gets an end in bounded time, and loses nothing.
#[test]
fn a_stop_without_store_ends_and_loses_nothing() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        let lake = LakeRig::new(stage, Kind::S3).await?;
        let pipeline = rig::pipeline(stage, &cluster, lake.lake.clone(), |_| {}).await?;
        let mut daemon = pipeline.start_streaming().await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        workload.during_seconds(3).await?;
        if let Some(proxy) = &lake.proxy {
            proxy.set(Wire::Cut);
            workload.during_seconds(2).await?;
            let code = workload.during(daemon.terminate(seconds(60))).await?;
            stage.say(format!("exit code {code}"));
            ensure!(code == 0 || code == 1, "exit code {code}: {}", daemon.tail());
            proxy.set(Wire::Works);
        }
        workload.finish().await?;
        pause(seconds(1)).await;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}
