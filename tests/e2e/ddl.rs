//! Tables that are altered all the time.
//!
//! Owns: the storm of alterations under a daemon that is killed.
//! Does not: test one alteration alone; the fold's scripts do.
//! Holds: the current state, columns known by their field ids, equals the source.
//! Fails: with the oracle's differences.

use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::random::Random;
use testkit::wait::{pause, seconds};
use testkit::{Cluster, Pipeline, Stage, Storm, oracle, scenario, storm};

use crate::rig;

#[test]
fn a_storm_of_alterations_by_leaf() -> Result<()> {
    storm(15, false)
}

#[test]
fn a_storm_of_alterations_via_root() -> Result<()> {
    storm(18, true)
}

fn storm(version: u32, via_root: bool) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = Cluster::start(stage, version, &[]).await?;
        storm::create(&cluster, via_root).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |_| {}).await?;
        let mut storm = Storm::new(&cluster, seed);
        storm.during(STORM, kill_again_and_again(stage, seed, &pipeline)).await?;
        stage.say(storm.done());
        storm.calm(&cluster).await?;
        pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.success()?;
        stage.say(oracle::verify(stage, &cluster, &pipeline, &[]).await?);
        Ok(())
    })
}

async fn kill_again_and_again(stage: &Stage, seed: u64, pipeline: &Pipeline) -> Result<()> {
    let mut random = Random::new(seed);
    let until = Instant::now() + STORM;
    while Instant::now() < until {
        let mut daemon = pipeline.start()?;
        pause(Duration::from_millis(random.between(1000, 5000))).await;
        let ended = daemon.exited()?;
        anyhow::ensure!(ended.is_none(), "the daemon ended with {ended:?}: {}", daemon.tail());
        daemon.kill()?;
        pause(Duration::from_millis(random.below(1500))).await;
    }
    stage.say("the storm is over");
    Ok(())
}

const STORM: Duration = Duration::from_secs(40);
