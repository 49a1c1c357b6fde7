//! The log that a slot keeps: its budget, and who holds it.
//!
//! Owns: 60, 80 and 100 % of `source.wal_budget` with both policies, while the store is away; transactions and slots that hold the log.
//! Does not: test the arithmetic, or each reason; unit tests do.
//! Holds: nothing is dropped but by policy; what was halted goes on, exact.
//! Fails: on another exit code, or a message without the words that a person needs.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::daemon::{Daemon, FAULTS, Settings};
use testkit::proxy::Wire;
use testkit::wait::{self, pause, seconds};
use testkit::{Cluster, Pipeline, Stage, scenario};

use crate::rig::{self, Kind, LakeRig};
use crate::snapshot::LEAVES_DIFFER;

#[test]
fn a_budget_that_is_used_up_halts_and_the_slot_stays() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let (cluster, lake, pipeline) = rig_with(stage, 18, "halt").await?;
        let mut daemon = use_up(&cluster, &lake, &pipeline).await?;
        let code = daemon.exit_code(seconds(60)).await?;
        for words in ["source.wal_budget", "the slot stays", "the lake is whole up to", "this daemon"] {
            ensure!(
                code == 4 && daemon.tail().contains(words),
                "exit code {code}, no {words:?}: {}",
                daemon.tail()
            );
        }
        ensure!(slots(&cluster).await? == "1", "the slot is gone");
        set(&lake, Wire::Works);
        let checked = pipeline.run(&["check"]).await?.success()?.text();
        ensure!(checked.contains("of log are held by our slot, which nobody reads"), "{checked}");
        // It begins above the budget, and may catch up.
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[FAULTS, BUDGET, &[LEAVES_DIFFER]].concat())
    })
}

#[test]
fn a_budget_that_is_used_up_drops_the_slot_where_that_is_wanted() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let (cluster, lake, pipeline) = rig_with(stage, 16, "drop-slot").await?;
        let mut daemon = use_up(&cluster, &lake, &pipeline).await?;
        let code = daemon.exit_code(seconds(120)).await?;
        for words in ["it was dropped", "the lake is intact up to", "to begin anew"] {
            ensure!(
                code == 4 && daemon.tail().contains(words),
                "exit code {code}, no {words:?}: {}",
                daemon.tail()
            );
        }
        ensure!(slots(&cluster).await? == "0", "the slot is still there");
        set(&lake, Wire::Works);
        let outcome = pipeline.run(&["run", "--until", "now"]).await?.expect(4)?;
        ensure!(outcome.text().contains("does not exist"), "{}", outcome.text());
        ensure!(slots(&cluster).await? == "0", "a slot was created silently");
        Ok(())
    })
}

/// 14 and 18: the catalogs differ.
#[test]
fn who_holds_the_log_is_named() -> Result<()> {
    scenario(seconds(300), async |stage| {
        for version in [14, 18] {
            let cluster = rig::cluster(stage, version, false, &["max_prepared_transactions = 5"]).await?;
            let lake = testkit::daemon::Lake::Directory(stage.path(&format!("lake-{version}")));
            let settings = Settings::new(cluster.url(testkit::postgres::DATABASE), lake);
            let pipeline = Pipeline::new(stage, &format!("pipeline-{version}"), settings)?;
            pipeline.setup().await?;
            let mut daemon = pipeline.start_streaming().await?;

            let client = cluster.connect(testkit::postgres::DATABASE).await?;
            client.batch_execute("begin; insert into unpublished (body) values ('open')").await?;
            fill(&cluster, 90).await?;
            held_by(&daemon, "transaction", "commit it, or end its session").await?;
            let checked = pipeline.run(&["check"]).await?.success()?.text();
            ensure!(checked.contains("it ends with that transaction"), "{checked}");
            client.batch_execute("prepare transaction 'forgotten'").await?;
            held_by(&daemon, "prepared_transaction", "`forgotten`").await?;
            client.batch_execute("commit prepared 'forgotten'").await?;

            cluster.execute("select pg_create_physical_replication_slot('elsewhere', true)").await?;
            fill(&cluster, 90).await?;
            held_by(&daemon, "slot", "`elsewhere`").await?;
            ensure!(daemon.exited()?.is_none(), "{}", daemon.tail());
            let status = pipeline.run(&["status"]).await?.success()?.text();
            ensure!(status.contains("held by") && status.contains("`elsewhere`"), "{status}");
            daemon.stop().await?;
            pipeline.refuse_unexpected_lines(&[LEAVES_DIFFER])?;
        }
        Ok(())
    })
}

/// Waits until the daemon says that most of the log is held so.
async fn held_by(daemon: &Daemon, by: &str, words: &str) -> Result<()> {
    wait::until(&format!("a log that is held by a {by}"), seconds(60), async || {
        let status = daemon.status().await?;
        let held = status.pointer("/slot/held/0").with_context(|| format!("nothing is held: {status}"))?;
        let what = held.pointer("/what").and_then(Value::as_str).unwrap_or_default();
        let is_it = held.pointer("/by").and_then(Value::as_str) == Some(by);
        ensure!(is_it && what.contains(words), "held: {held}");
        Ok(())
    })
    .await
}

/// A daemon with a budget of 128 MiB.
async fn rig_with(stage: &Stage, version: u32, policy: &'static str) -> Result<(Cluster, LakeRig, Pipeline)> {
    let cluster = rig::cluster(stage, version, false, &[]).await?;
    let lake = LakeRig::new(stage, Kind::S3).await?;
    let pipeline = rig::pipeline(stage, &cluster, lake.lake.clone(), |settings| {
        for (key, value) in [("WAL_BUDGET", "128MiB"), ("ON_WAL_BUDGET", policy)] {
            settings.env.push((format!("TRIBUTARY_SOURCE__{key}"), value.to_owned()));
        }
    })
    .await?;
    Ok((cluster, lake, pipeline))
}

/// The store goes away, and the log grows past each of the levels.
async fn use_up(cluster: &Cluster, lake: &LakeRig, pipeline: &Pipeline) -> Result<Daemon> {
    let daemon = pipeline.start_streaming().await?;
    rig::some_rows(cluster, 1000).await?;
    pause(seconds(3)).await;
    set(lake, Wire::Cut);
    rig::some_rows(cluster, 2000).await?;
    fill(cluster, 85).await?;
    level(&daemon, "high").await?;
    fill(cluster, 25).await?;
    level(&daemon, "tight").await?;
    let status = daemon.status().await?;
    let why = status.pointer("/slot/held/0/what").and_then(Value::as_str).unwrap_or_default();
    ensure!(why.contains("this daemon"), "{status}");
    for words in ["more than 60 %", "more than 80 %"] {
        ensure!(pipeline.log()?.contains(words), "no {words:?} in the log");
    }
    fill(cluster, 30).await?;
    Ok(daemon)
}

async fn level(daemon: &Daemon, level: &str) -> Result<()> {
    wait::until(&format!("the level {level}"), seconds(60), async || {
        let status = daemon.status().await?;
        let found = status.pointer("/slot/level").and_then(Value::as_str);
        ensure!(found == Some(level), "{found:?} in {status}");
        Ok(())
    })
    .await
}

/// So many mebibytes of log, and a little more, that nobody reads.
async fn fill(cluster: &Cluster, mebibytes: u32) -> Result<()> {
    cluster
        .execute(&format!(
            "insert into unpublished (body) select repeat('x', 1000) from generate_series(1, {mebibytes} * 950)"
        ))
        .await?;
    if cluster.version >= 16 {
        cluster.execute("select pg_log_standby_snapshot()").await?;
    }
    Ok(())
}

fn set(lake: &LakeRig, wire: Wire) {
    if let Some(proxy) = &lake.proxy {
        proxy.set(wire);
    }
}

async fn slots(cluster: &Cluster) -> Result<String> {
    Ok(cluster.value("select count(*) from pg_replication_slots").await?.unwrap_or_default())
}

/// Warnings of the budget.
const BUDGET: &[&str] = &["source.wal_budget", "stopped for good", "\"ended\""];
