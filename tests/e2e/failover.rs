//! The source moves: a standby is promoted, or a clone goes on by itself.
//!
//! Owns: standbys whose copy of the slot is kept in step by Postgres (17 and newer), standbys without, and clones with the same slot.
//! Does not: read rows from standbys; `standby` does.
//! Holds: behind a promotion the lake goes on only where nothing that it has was lost; of two servers with one past, only one feeds it.
//! Fails: on another exit code, or with the oracle's differences from the server that was promoted.

use anyhow::{Result, ensure};
use testkit::daemon::{FAULTS, Settings};
use testkit::postgres::{DATABASE, Stop};
use testkit::wait::{self, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Pipeline, Stage, scenario};

use crate::rig;
use crate::snapshot::LEAVES_DIFFER;

#[test]
fn a_synced_standby_of_postgres_17_goes_on() -> Result<()> {
    a_synced_standby_goes_on(17)
}

#[test]
fn a_synced_standby_of_postgres_18_goes_on() -> Result<()> {
    a_synced_standby_goes_on(18)
}

/// The primary dies under load. It sends nothing that the standby does not have, so the lake cannot have more than it.
fn a_synced_standby_goes_on(version: u32) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let (mut primary, standby) = pair(stage, version).await?;
        let pipeline = Pipeline::new(stage, "pipeline", settings(stage, &primary))?;
        pipeline.setup().await?;
        let mut daemon = pipeline.start_streaming().await?;
        let workload = Workload::new(&primary, Load::new(seed));
        workload
            .during(async {
                wait::until("a slot that is in step", seconds(60), async || {
                    primary.execute("select pg_log_standby_snapshot()").await?;
                    let synced =
                        standby.value("select synced and not temporary from pg_replication_slots where slot_name = 'tributary'").await?;
                    ensure!(synced.as_deref() == Some("t"), "synced: {synced:?}");
                    Ok(())
                })
                .await?;
                let checked = pipeline.run(&["check", "--standby", &standby.url(DATABASE)]).await?.success()?.text();
                ensure!(checked.contains("keeps a copy of slot `tributary` that is good for a promotion"), "{checked}");
                wait::pause(seconds(4)).await;
                primary.stop(Stop::Immediate).await?;
                wait::pause(seconds(1)).await;
                ensure!(
                    daemon.exited()?.is_none(),
                    "a primary that is down ended the daemon: {}",
                    daemon.tail()
                );
                daemon.kill()
            })
            .await?;
        let done = workload.finish().await?;
        stage.say(format!("{} transactions committed", done.committed));
        promote(&standby).await?;
        let moved = pipeline.variant(stage, "moved", |settings| settings.source = standby.url(DATABASE))?;
        rig::some_rows(&standby, 2_000_000).await?;
        rig::finish(stage, &standby, &moved, &[]).await?;
        // The one that is down comes back, and nobody told the daemon's old configuration.
        primary.resume().await?;
        rig::some_rows(&primary, 3_000_000).await?;
        let outcome = pipeline.run(&["run", "--until", "now"]).await?.expect(4)?;
        ensure!(outcome.text().contains("old primary"), "{}", outcome.text());
        rig::compare(stage, &standby, &moved, &[]).await?;
        pipeline.refuse_unexpected_lines(&[FAULTS, &[LEAVES_DIFFER, "old primary"]].concat())?;
        moved.refuse_unexpected_lines(&[FAULTS, &[LEAVES_DIFFER]].concat())
    })
}

/// T76: the stream waits for a standby that the primary names, and is none the worse for it.
#[test]
fn a_named_standby_that_is_away_is_waited_for() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let (primary, mut standby) = pair(stage, 18).await?;
        let pipeline = Pipeline::new(stage, "pipeline", settings(stage, &primary))?;
        pipeline.setup().await?;
        let mut daemon = pipeline.start_streaming().await?;
        rig::some_rows(&primary, 1_000_000).await?;
        daemon.wait_until_published(primary.wal_lsn().await?, seconds(60)).await?;
        for round in 0..2 {
            standby.stop(Stop::Fast).await?;
            rig::some_rows(&primary, 2_000_000 + round * 1000).await?;
            wait::until("a word about the standby", seconds(30), async || {
                ensure!(daemon.exited()?.is_none(), "the daemon ended: {}", daemon.tail());
                ensure!(daemon.tail().contains("the stream waits for a standby"), "{}", daemon.tail());
                Ok(())
            })
            .await?;
            standby.resume().await?;
            daemon.wait_until_published(primary.wal_lsn().await?, seconds(60)).await?;
        }
        daemon.stop().await?;
        rig::finish(stage, &primary, &pipeline, &[]).await?;
        pipeline
            .refuse_unexpected_lines(&[FAULTS, &[LEAVES_DIFFER, "the stream waits for a standby"]].concat())
    })
}

/// A slot that nobody copied is not there behind the promotion, and none is made.
#[test]
fn a_standby_without_the_slot_halts() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (mut primary, standby) = pair(stage, 16).await?;
        let pipeline = Pipeline::new(stage, "pipeline", settings(stage, &primary))?;
        pipeline.setup().await?;
        rig::some_rows(&primary, 1000).await?;
        rig::finish(stage, &primary, &pipeline, &[]).await?;
        let end = primary.wal_lsn().await?;
        wait::until("the replay", seconds(30), async || {
            let replayed = standby.value("select pg_last_wal_replay_lsn()").await?.unwrap_or_default();
            ensure!(testkit::postgres::parse_lsn(&replayed)? >= end, "replayed up to {replayed}");
            Ok(())
        })
        .await?;
        primary.stop(Stop::Immediate).await?;
        promote(&standby).await?;
        rig::some_rows(&standby, 2000).await?;
        let moved = pipeline.variant(stage, "moved", |settings| settings.source = standby.url(DATABASE))?;
        let outcome = moved.run(&["run", "--until", "now"]).await?.expect(4)?;
        for words in ["does not exist", "promoted without it", "hint"] {
            ensure!(outcome.text().contains(words), "no {words:?} in: {}", outcome.text());
        }
        let slots =
            standby.value("select count(*) from pg_replication_slots where slot_type = 'logical'").await?;
        ensure!(slots.as_deref() == Some("0"), "a slot was created silently");
        Ok(())
    })
}

/// A copy of the server, slot and all, that was made to try something out, is given the lake. From then on the first one may not write to it.
#[test]
fn of_a_server_and_its_clone_only_one_feeds_the_lake() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let mut cluster = rig::cluster(stage, 18, false, &[]).await?;
        let pipeline = Pipeline::new(stage, "pipeline", settings(stage, &cluster))?;
        pipeline.setup().await?;
        rig::some_rows(&cluster, 1000).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        cluster.stop(Stop::Fast).await?;
        let mut clone = cluster.copy(stage)?;
        cluster.resume().await?;
        clone.promote_at_start()?;
        clone.resume().await?;

        let mut first = pipeline.start_streaming().await?;
        let of_clone = pipeline.variant(stage, "clone", |settings| settings.source = clone.url(DATABASE))?;
        // The slot of the clone is its own, and free.
        let second = of_clone.start_streaming().await?;
        rig::some_rows(&cluster, 2000).await?;
        let code = first.exit_code(seconds(60)).await?;
        ensure!(code == 3, "exit code {code}: {}", first.tail());
        rig::some_rows(&clone, 3000).await?;
        second.stop().await?;
        rig::finish(stage, &clone, &of_clone, &[]).await?;
        let outcome = pipeline.run(&["run", "--until", "now"]).await?.expect(4)?;
        ensure!(outcome.text().contains("timeline"), "{}", outcome.text());
        rig::compare(stage, &clone, &of_clone, &[]).await
    })
}

fn settings(stage: &Stage, cluster: &Cluster) -> Settings {
    Settings::new(cluster.url(DATABASE), rig::directory(stage))
}

/// A primary with the workload's tables, and a standby that can be promoted.
async fn pair(stage: &Stage, version: u32) -> Result<(Cluster, Cluster)> {
    let mut primary = rig::cluster(stage, version, false, &[]).await?;
    primary.execute("select pg_create_physical_replication_slot('standby', true)").await?;
    let primary_conninfo =
        format!("primary_conninfo = 'host=127.0.0.1 port={} user=postgres dbname=postgres'", primary.port);
    let mut settings =
        vec![primary_conninfo.as_str(), "primary_slot_name = 'standby'", "hot_standby_feedback = on"];
    if version >= 17 {
        primary.configure("synchronized_standby_slots = 'standby'")?;
        settings.extend(["synchronized_standby_slots = ''", "sync_replication_slots = on"]);
    }
    let standby = primary.standby(stage, &settings).await?;
    Ok((primary, standby))
}

async fn promote(standby: &Cluster) -> Result<()> {
    // By way of the database that is there in any case.
    let promoted = standby.value("select pg_promote()").await?;
    ensure!(promoted.as_deref() == Some("t"), "promoted: {promoted:?}");
    Ok(())
}

/// T74: each condition of a copy that a promotion needs, and that `check` finds it.
#[test]
fn check_finds_what_a_promotion_would_lack() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let (primary, standby) = pair(stage, 17).await?;
        let pipeline = Pipeline::new(stage, "pipeline", settings(stage, &primary))?;
        // Made by hand, without FAILOVER.
        primary.execute("select pg_create_logical_replication_slot('tributary', 'pgoutput')").await?;
        let checks = async |words: &'static [&'static str]| {
            wait::until("what check says", seconds(60), async || {
                primary.execute("select pg_log_standby_snapshot()").await?;
                let text = pipeline.run(&["check", "--standby", &standby.url(DATABASE)]).await?.text();
                for word in words {
                    ensure!(text.contains(word), "no {word:?} in: {text}");
                }
                Ok(())
            })
            .await
        };
        checks(&["is not kept by standbys", "it has no copy of slot `tributary` yet"]).await?;
        let text = pipeline.run(&["setup", "--apply", "--adopt-slot"]).await?.success()?.text();
        ensure!(text.contains("keep a copy of slot `tributary` (FAILOVER)"), "{text}");
        pipeline.run(&["run", "--until", "now"]).await?.success()?;
        checks(&["good for a promotion"]).await?;
        let lacks: [(&str, &'static [&'static str]); 4] = [
            ("sync_replication_slots = off", &["sync_replication_slots is off"]),
            ("hot_standby_feedback = off", &["hot_standby_feedback is off"]),
            ("primary_conninfo = 'host=127.0.0.1 user=postgres'", &["names no dbname"]),
            ("primary_slot_name = ''", &["primary_slot_name is not set"]),
        ];
        for (settings, words) in lacks {
            standby.configure(settings)?;
            standby.execute("select pg_reload_conf()").await?;
            checks(words).await?;
        }
        primary.configure("synchronized_standby_slots = ''")?;
        primary.execute("select pg_reload_conf()").await?;
        checks(&["synchronized_standby_slots is empty"]).await
    })
}
