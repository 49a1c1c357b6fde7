//! A standby as the source: slot, stream and rows are its own, and it is promoted in the middle of it.
//!
//! Owns: what `setup` and `check` say and do there, kill, restart and promotion under load, and slots that a conflict invalidates.
//! Does not: read rows from a standby beside a stream of its primary; `standby` does.
//! Holds: the current state of the lake is the server's that was written to, on whatever timeline.
//! Fails: on another exit code, or with the oracle's differences.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::daemon::{FAULTS, Settings};
use testkit::postgres::{DATABASE, Stop, parse_lsn};
use testkit::wait::{self, pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Pipeline, Stage, scenario};

use crate::rig;
use crate::snapshot::{self, LEAVES_DIFFER, SNAPSHOT_FAULTS};

/// T85: the slot survives the promotion, and the timeline is another one.
#[test]
fn a_standby_of_postgres_16_is_streamed_from_and_promoted() -> Result<()> {
    a_standby_is_streamed_from_and_promoted(16)
}

#[test]
fn a_standby_of_postgres_17_is_streamed_from_and_promoted() -> Result<()> {
    a_standby_is_streamed_from_and_promoted(17)
}

#[test]
fn a_standby_of_postgres_18_is_streamed_from_and_promoted() -> Result<()> {
    a_standby_is_streamed_from_and_promoted(18)
}

/// Rows and changes come from the standby. Daemon and standby are killed under load; then the primary dies, and the standby takes its place
/// while the daemon streams from it.
fn a_standby_is_streamed_from_and_promoted(version: u32) -> Result<()> {
    scenario(seconds(360), async |stage| {
        let seed = rig::seed(stage)?;
        let (mut primary, mut standby) = pair(stage, version).await?;
        snapshot::fill(&primary, seed, false).await?;
        replayed(&primary, &standby).await?;
        let pipeline = rig::pipeline(stage, &standby, rig::directory(stage), of_standby(&primary)).await?;
        for (cluster, count) in [(&primary, "0"), (&standby, "1")] {
            let slots = cluster
                .value("select count(*) from pg_replication_slots where slot_type = 'logical'")
                .await?;
            ensure!(slots.as_deref() == Some(count), "{slots:?} logical slots at {}", cluster.port);
        }
        let mut daemon = pipeline.start_streaming().await?;
        let workload = Workload::new(&primary, Load::new(seed));
        let mut daemon = workload
            .during(async {
                snapshot::wait_until_read(&daemon, seconds(120)).await?;
                daemon.kill()?;
                let mut daemon = pipeline.start_streaming().await?;
                pause(seconds(2)).await;
                standby.restart(Stop::Fast).await?;
                daemon.wait_until_streaming(seconds(60)).await?;
                pause(seconds(2)).await;
                standby.restart(Stop::Kill).await?;
                daemon.wait_until_streaming(seconds(60)).await?;
                pause(seconds(2)).await;
                primary.stop(Stop::Immediate).await?;
                promote(&standby).await?;
                Ok(daemon)
            })
            .await?;
        workload.finish().await?;
        for batch in 0..20 {
            rig::some_rows(&standby, 2_000_000 + batch * 1000).await?;
            pause(Duration::from_millis(200)).await;
        }
        daemon.wait_until_published(standby.confirmed("tributary").await? + 1, seconds(60)).await?;
        ensure!(daemon.exited()?.is_none(), "the promotion ended the daemon: {}", daemon.tail());
        daemon.stop().await?;
        rig::finish(stage, &standby, &pipeline, &[]).await?;
        let log = pipeline.log()?;
        ensure!(log.contains("from timeline 1 to 2"), "the daemon did not notice the promotion");
        pipeline.refuse_unexpected_lines(&[FAULTS, SNAPSHOT_FAULTS, &[LEAVES_DIFFER]].concat())
    })
}

/// T83: nothing can be created at a standby: the publication is, at the primary. T82: it is asked for what the slot waits for. T81, T84: `check` says
/// what the standby lacks, and what keeps it from replaying.
#[test]
fn setup_creates_the_publication_at_the_primary() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let (primary, standby) = pair(stage, 17).await?;
        primary.execute("drop publication tributary").await?;
        replayed(&primary, &standby).await?;
        let settings = Settings::new(standby.url(DATABASE), rig::directory(stage));
        let alone = Pipeline::new(stage, "alone", settings)?;
        let text = alone.run(&["setup", "--apply"]).await?.expect(2)?.text();
        for words in ["source.primary_url", "run this on the primary", "CREATE PUBLICATION"] {
            ensure!(text.contains(words), "no {words:?} in: {text}");
        }
        let text = alone.run(&["check"]).await?.expect(4)?.text();
        ensure!(text.contains("`source.primary_url` is not set"), "{text}");
        let pipeline = alone.variant(stage, "both", of_standby(&primary))?;
        let text = pipeline.setup().await?.text();
        ensure!(text.contains("created: publication") && text.contains("created: slot"), "{text}");
        let again = pipeline.setup().await?.text();
        ensure!(again.contains("nothing was changed"), "{again}");
        let text = pipeline.run(&["check"]).await?.success()?.text();
        for words in ["the source is a standby of Postgres 17", "keeps what the standby needs", "is asked"] {
            ensure!(text.contains(words), "no {words:?} in: {text}");
        }
        rig::some_rows(&primary, 1000).await?;
        replayed(&primary, &standby).await?;
        pipeline.run(&["run", "--until", "now"]).await?.success()?;

        standby.configure("hot_standby_feedback = off\nrecovery_min_apply_delay = 1s")?;
        standby.value("select pg_reload_conf()").await?;
        standby.value("select pg_wal_replay_pause()").await?;
        wait::until("what check says", seconds(20), async || {
            let text = pipeline.run(&["check"]).await?.text();
            for words in
                ["hot_standby_feedback is off", "replay is paused", "recovery_min_apply_delay is 1000 ms"]
            {
                ensure!(text.contains(words), "no {words:?} in: {text}");
            }
            Ok(())
        })
        .await
    })
}

/// T81: without feedback, vacuum at the primary takes what the slot needs. T86: without `logical` at the primary nothing can be decoded.
#[test]
fn conflicts_halt_with_their_reason() -> Result<()> {
    scenario(seconds(240), async |stage| {
        for (version, name, reason, mend) in [
            (16, "rows16", "conflict with recovery", "hot_standby_feedback"),
            (17, "rows17", "rows_removed", "hot_standby_feedback"),
            (18, "level18", "wal_level_insufficient", "wal_level = logical"),
        ] {
            let (mut primary, standby) = pair(stage, version).await?;
            let settings =
                Settings::new(standby.url(DATABASE), testkit::daemon::Lake::Directory(stage.path(name)));
            let pipeline = Pipeline::new(stage, &format!("pipeline-{name}"), settings)?;
            let pipeline = pipeline.variant(stage, &format!("on-{name}"), of_standby(&primary))?;
            pipeline.setup().await?;
            let mut daemon = pipeline.start_streaming().await?;
            rig::some_rows(&primary, 1000).await?;
            if reason == "wal_level_insufficient" {
                primary.configure("wal_level = replica")?;
                // Its own logical slots would keep it from starting.
                primary.restart(Stop::Fast).await?;
            } else {
                // Without the physical slot's memory of what the standby needs.
                standby.configure("hot_standby_feedback = off\nprimary_slot_name = ''")?;
                standby.value("select pg_reload_conf()").await?;
                wait::until("a standby without slot", seconds(30), async || {
                    primary.execute("select pg_drop_replication_slot('standby')").await
                })
                .await?;
                for _ in 0..3 {
                    primary.execute("create table gone (id int); drop table gone").await?;
                    for table in ["full pg_class", "pg_attribute", "pg_class"] {
                        primary.execute(&format!("vacuum {table}")).await?;
                    }
                    rig::some_rows(&primary, 2000).await.ok();
                    primary.execute("select pg_switch_wal()").await?;
                }
            }
            let code = daemon.exit_code(seconds(60)).await?;
            let tail = daemon.tail();
            for words in [reason, mend, "is lost"] {
                ensure!(
                    code == 4 && tail.contains(words),
                    "{name}: exit code {code}, no {words:?} in {tail}"
                );
            }
        }
        Ok(())
    })
}

fn of_standby(primary: &Cluster) -> impl FnOnce(&mut Settings) + use<> {
    let url = primary.url(DATABASE);
    move |settings| {
        settings.snapshot = "initial";
        settings.env.push(("TRIBUTARY_SOURCE__PRIMARY_URL".to_owned(), url));
    }
}

/// A primary with the workload's tables, and a standby as it should be.
async fn pair(stage: &Stage, version: u32) -> Result<(Cluster, Cluster)> {
    let mut primary = rig::cluster(stage, version, false, &[]).await?;
    let standby =
        primary.standby(stage, &["hot_standby_feedback = on", "primary_slot_name = 'standby'"]).await?;
    primary.execute("select pg_create_physical_replication_slot('standby', true)").await?;
    wait::until("a standby that is connected", seconds(30), async || {
        let active =
            primary.value("select active from pg_replication_slots where slot_name = 'standby'").await?;
        ensure!(active.as_deref() == Some("t"), "its slot is active: {active:?}");
        Ok(())
    })
    .await?;
    Ok((primary, standby))
}

async fn replayed(primary: &Cluster, standby: &Cluster) -> Result<()> {
    let end = primary.wal_lsn().await?;
    wait::until("the replay", seconds(60), async || {
        let replayed = standby.value("select pg_last_wal_replay_lsn()").await?.unwrap_or_default();
        ensure!(parse_lsn(&replayed)? >= end, "replayed up to {replayed}");
        Ok(())
    })
    .await
}

async fn promote(standby: &Cluster) -> Result<()> {
    let promoted = standby.value("select pg_promote()").await?;
    ensure!(promoted.as_deref() == Some("t"), "promoted: {promoted:?}");
    Ok(())
}
