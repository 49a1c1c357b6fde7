//! Two daemons on one slot: exactly one goes on.
//!
//! Owns: freezing the daemon that streams until the other has taken over.
//! Does not: say which one must win a race; only that there is one winner, and no row is lost or doubled.
//! Holds: the one that was frozen ends as fenced.
//! Fails: when both go on, both end, or the lake is not the source.

use anyhow::{Result, ensure};
use testkit::daemon::FAULTS;
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Daemon, Lister, Pipeline, Stage, scenario};

use crate::rig::{self, Kind, LakeRig};

#[test]
fn a_frozen_daemon_is_fenced_in_a_directory() -> Result<()> {
    takeover(Kind::Directory)
}

#[test]
fn a_frozen_daemon_is_fenced_in_s3() -> Result<()> {
    takeover(Kind::S3)
}

fn takeover(kind: Kind) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 18, false, &["wal_sender_timeout = 3s"]).await?;
        let lake = LakeRig::new(stage, kind).await?;
        let first = rig::pipeline(stage, &cluster, lake.lake.clone(), |_| {}).await?;
        let second = first.variant(stage, "second", |_| {})?;
        let lister = Lister::start(first.place())?;
        let workload = Workload::new(&cluster, Load::new(seed));
        let winner = workload.during(freeze_and_thaw(stage, &first, &second)).await?;
        workload.finish().await?;
        winner.stop().await?;
        finish(stage, &cluster, &second, lister).await?;
        first.refuse_unexpected_lines(&[FAULTS, &["\"kind\":\"fenced\""]].concat())?;
        second.refuse_unexpected_lines(FAULTS)
    })
}

async fn freeze_and_thaw(stage: &Stage, first: &Pipeline, second: &Pipeline) -> Result<Daemon> {
    let mut frozen = first.start_streaming().await?;
    let mut waiting = second.start()?;
    pause(seconds(5)).await;
    ensure!(
        frozen.exited()?.is_none() && waiting.exited()?.is_none(),
        "the second daemon has to wait for the slot"
    );
    let state = waiting.status().await?;
    ensure!(state.get("state").is_some_and(|state| state == "waiting_for_slot"), "waiting, but {state}");
    stage.say("freezing the daemon that streams");
    frozen.freeze()?;
    waiting.wait_until_streaming(seconds(60)).await?;
    pause(seconds(3)).await;
    stage.say("the other one streams; thawing the first");
    frozen.thaw()?;
    let code = frozen.exit_code(seconds(60)).await?;
    ensure!(code == 3, "the daemon that was frozen ended with {code} instead of 3: {}", frozen.tail());
    pause(seconds(3)).await;
    ensure!(waiting.exited()?.is_none(), "the other one ended: {}", waiting.tail());
    Ok(waiting)
}

async fn finish(stage: &Stage, cluster: &Cluster, pipeline: &Pipeline, lister: Lister) -> Result<()> {
    rig::finish(stage, cluster, pipeline, &[]).await?;
    lister.finish().map(drop)
}
