//! The table of situations at start-up, each provoked with a real server.
//!
//! Owns: whether the daemon goes on or halts, its exit code, and that its message says what to do.
//! Does not: test the decision by itself; unit tests do.
//! Holds: a doubt about the source halts with 4, and the lake stays as it was.
//! Fails: on another exit code, or a message without the words that a person needs.

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::Settings;
use testkit::lister::{self, Place};
use testkit::postgres::{DATABASE, Stop};
use testkit::wait::{self, seconds};
use testkit::{Cluster, Pipeline, Stage, scenario};

use crate::rig;

/// A lake that is up to date with its source.
async fn settled(stage: &Stage) -> Result<(Cluster, Pipeline)> {
    let cluster = rig::cluster(stage, 18, false, &[]).await?;
    let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |_| {}).await?;
    rig::some_rows(&cluster, 1000).await?;
    up_to_date(&pipeline).await?;
    Ok((cluster, pipeline))
}

async fn up_to_date(pipeline: &Pipeline) -> Result<()> {
    pipeline.run(&["run", "--until", "now"]).await?.success().map(drop)
}

/// A cut that was published and of which somebody deleted a file: damage, which stops nobody.
#[test]
fn a_lost_file_of_the_last_cut_is_healed_by_a_resync() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let cluster = rig::cluster(stage, 17, false, &[]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |_| {}).await?;
        let mut daemon = pipeline.start_streaming().await?;
        rig::some_rows(&cluster, 1000).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        daemon.stop().await?;
        let Place::Directory(folder) = pipeline.place() else { anyhow::bail!("not a folder") };
        let files = lister::files(&pipeline.place())?;
        let lost = files.iter().find(|key| key.starts_with("public/orders/data/")).context("no file")?;
        std::fs::remove_file(folder.join(lost))?;
        let found = pipeline.run(&["fsck"]).await?.expect(1)?.text();
        ensure!(
            found.contains(lost.as_str()) && found.contains("tributary resync 'public.orders'"),
            "{found}"
        );
        ensure!(!found.contains("nothing is lost"), "{found}");
        let repaired = pipeline.run(&["repair"]).await?.success()?.text();
        ensure!(repaired.contains("nothing to repair"), "{repaired}");
        let daemon = pipeline.start_streaming().await?;
        pipeline.run(&["resync", "public.orders"]).await?.success()?;
        crate::snapshot::wait_until_read(&daemon, seconds(60)).await?;
        daemon.stop().await?;
        // The changes are gone; the rows are not.
        rig::finish(stage, &cluster, &pipeline, &["--gaps", "--lax"]).await?;
        pipeline.refuse_unexpected_lines(&["is gone, or has another size"])
    })
}

/// The watermark tells of an entry that is not there: who went on would stream rows twice.
#[test]
fn a_log_whose_end_is_gone_is_refused() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        rig::some_rows(&cluster, 2000).await?;
        up_to_date(&pipeline).await?;
        let Place::Directory(folder) = pipeline.place() else { anyhow::bail!("not a folder") };
        let watermark: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("_tributary/watermark.json"))?)?;
        let published = watermark.get("seq").and_then(serde_json::Value::as_u64).context("seq")?;
        let mut gone = Vec::new();
        for entry in std::fs::read_dir(folder.join("_tributary/log"))? {
            let path = entry?.path();
            let seq = path.file_stem().and_then(|name| name.to_str()?.parse::<u64>().ok());
            if seq.is_some_and(|seq| seq >= published) {
                gone.push((path.clone(), std::fs::read(&path)?));
                std::fs::remove_file(&path)?;
            }
        }
        for command in [&["run", "--until", "now"][..], &["resync", "public.orders"]] {
            let outcome = pipeline.run(command).await?.expect(1)?.text();
            ensure!(
                outcome.contains("the watermark stands for entry") && outcome.contains("tributary fsck"),
                "{outcome}"
            );
        }
        for (path, bytes) in gone {
            std::fs::write(path, bytes)?;
        }
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

/// `run` must halt, say all these words, and give a hint.
async fn halts(pipeline: &Pipeline, words: &[&str]) -> Result<()> {
    let outcome = pipeline.run(&["run", "--until", "now"]).await?.expect(4)?;
    for word in [words, &["hint"]].concat() {
        ensure!(outcome.text().contains(word), "no {word:?} in: {}", outcome.text());
    }
    Ok(())
}

fn pointed_at(stage: &Stage, pipeline: &Pipeline, cluster: &Cluster) -> Result<Pipeline> {
    pipeline.variant(stage, "elsewhere", |settings: &mut Settings| settings.source = cluster.url(DATABASE))
}

#[test]
fn slot_log_and_server_agree() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        rig::some_rows(&cluster, 2000).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

#[test]
fn an_advanced_slot_halts() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        rig::some_rows(&cluster, 2000).await?;
        cluster.execute("select pg_replication_slot_advance('tributary', pg_current_wal_lsn())").await?;
        halts(&pipeline, &["tributary", "consumed"]).await
    })
}

/// Somebody who reads the slot takes from it what the lake does not have; somebody who only looks does not.
#[test]
fn a_slot_that_was_read_by_hand_halts() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        rig::some_rows(&cluster, 2000).await?;
        let by_hand = |how: &str| {
            format!(
                "select count(*) from pg_logical_slot_{how}_binary_changes('tributary', null, null, 'proto_version', '1', 'publication_names', 'tributary')"
            )
        };
        let seen = cluster.value(&by_hand("peek")).await?;
        ensure!(seen.as_deref().is_some_and(|count| count != "0"), "{seen:?} changes were seen");
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        rig::some_rows(&cluster, 3000).await?;
        cluster.value(&by_hand("get")).await?;
        halts(&pipeline, &["tributary", "consumed"]).await
    })
}

/// Whoever ends the session may drop the slot before the daemon is back, and make another one.
#[test]
fn a_slot_that_is_dropped_under_the_stream_halts() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        let mut daemon = pipeline.start_streaming().await?;
        rig::some_rows(&cluster, 2000).await?;
        cluster.execute(DROP_ACTIVE_SLOT).await?;
        let code = daemon.exit_code(seconds(60)).await?;
        ensure!(code == 4 && daemon.tail().contains("does not exist"), "exit code {code}: {}", daemon.tail());
        cluster.execute("select pg_create_logical_replication_slot('tributary', 'pgoutput')").await?;
        rig::some_rows(&cluster, 3000).await?;
        halts(&pipeline, &["tributary", "recreated"]).await
    })
}

/// 18 invalidates what nobody reads for long.
#[test]
fn a_slot_that_was_idle_for_too_long_halts() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        cluster.execute("alter system set idle_replication_slot_timeout = '1s'").await?;
        cluster.execute("select pg_reload_conf()").await?;
        rig::some_rows(&cluster, 2000).await?;
        wait::until("the end of the slot", seconds(30), async || {
            cluster.execute("checkpoint").await?;
            let reason = cluster.value("select invalidation_reason from pg_replication_slots").await?;
            ensure!(reason.as_deref() == Some("idle_timeout"), "the reason is {reason:?}");
            Ok(())
        })
        .await?;
        halts(&pipeline, &["tributary", "idle_timeout", "idle_replication_slot_timeout"]).await
    })
}

#[test]
fn a_recreated_slot_halts() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        rig::some_rows(&cluster, 2000).await?;
        cluster.execute("select pg_drop_replication_slot('tributary')").await?;
        cluster.execute("select pg_create_logical_replication_slot('tributary', 'pgoutput')").await?;
        halts(&pipeline, &["tributary", "recreated"]).await
    })
}

#[test]
fn a_restored_backup_halts() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (mut cluster, pipeline) = settled(stage).await?;
        cluster.stop(Stop::Fast).await?;
        let mut backup = cluster.copy(stage)?;
        cluster.resume().await?;
        rig::some_rows(&cluster, 2000).await?;
        up_to_date(&pipeline).await?;
        cluster.stop(Stop::Fast).await?;
        backup.resume().await?;
        halts(&pointed_at(stage, &pipeline, &backup)?, &["backup"]).await
    })
}

#[test]
fn a_newer_timeline_that_left_later_goes_on() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (mut cluster, pipeline) = settled(stage).await?;
        cluster.stop(Stop::Fast).await?;
        cluster.promote_at_start()?;
        cluster.resume().await?;
        let timeline = cluster.value("select left(pg_walfile_name(pg_current_wal_lsn()), 8)").await?;
        ensure!(timeline.as_deref() == Some("00000002"), "the server is on timeline {timeline:?}");
        rig::some_rows(&cluster, 2000).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

#[test]
fn a_newer_timeline_that_left_earlier_halts() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (mut cluster, pipeline) = settled(stage).await?;
        cluster.stop(Stop::Fast).await?;
        let mut promoted = cluster.copy(stage)?;
        cluster.resume().await?;
        rig::some_rows(&cluster, 2000).await?;
        up_to_date(&pipeline).await?;
        cluster.stop(Stop::Fast).await?;
        promoted.promote_at_start()?;
        promoted.resume().await?;
        for first in [3000, 4000, 5000] {
            rig::some_rows(&promoted, first).await?;
        }
        halts(&pointed_at(stage, &pipeline, &promoted)?, &["timeline 1"]).await
    })
}

#[test]
fn an_older_timeline_halts() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (mut cluster, pipeline) = settled(stage).await?;
        cluster.stop(Stop::Fast).await?;
        let mut old = cluster.copy(stage)?;
        cluster.promote_at_start()?;
        cluster.resume().await?;
        rig::some_rows(&cluster, 2000).await?;
        up_to_date(&pipeline).await?;
        cluster.stop(Stop::Fast).await?;
        old.resume().await?;
        halts(&pointed_at(stage, &pipeline, &old)?, &["timeline"]).await
    })
}

#[test]
fn another_cluster_halts() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (_cluster, pipeline) = settled(stage).await?;
        let other = Cluster::start_anew(stage, 18, &[]).await?;
        testkit::workload::create(&other, false).await?;
        halts(&pointed_at(stage, &pipeline, &other)?, &["system identifier"]).await
    })
}

#[test]
fn a_missing_slot_halts_and_is_not_created() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        cluster.execute("select pg_drop_replication_slot('tributary')").await?;
        halts(&pipeline, &["tributary", "does not exist"]).await?;
        let slots = cluster.value("select count(*) from pg_replication_slots").await?;
        ensure!(slots.as_deref() == Some("0"), "a slot was created silently");
        Ok(())
    })
}

#[test]
fn a_lost_slot_halts() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        cluster.execute("alter system set max_slot_wal_keep_size = '16MB'").await?;
        cluster.execute("alter system set max_wal_size = '64MB'").await?;
        cluster.execute("select pg_reload_conf()").await?;
        for _ in 0..8 {
            cluster
                .execute(
                    "insert into unpublished (body) select repeat('x', 1000) from generate_series(1, 5000)",
                )
                .await?;
            cluster.execute("select pg_switch_wal()").await?;
            cluster.execute("checkpoint").await?;
        }
        let status = cluster.value("select wal_status from pg_replication_slots").await?;
        ensure!(status.as_deref() == Some("lost"), "the slot is {status:?}");
        halts(&pipeline, &["tributary", "lost"]).await
    })
}

#[test]
fn a_slot_without_log_halts_until_it_is_adopted() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        cluster.execute("select pg_create_logical_replication_slot('tributary', 'pgoutput')").await?;
        let settings = Settings::new(cluster.url(DATABASE), rig::directory(stage));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        rig::some_rows(&cluster, 1000).await?;
        halts(&pipeline, &["tributary", "--adopt-slot"]).await?;
        pipeline.run(&["setup", "--apply"]).await?.expect(4).context("setup without --adopt-slot")?;
        pipeline.run(&["setup", "--apply", "--adopt-slot"]).await?.success()?;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

#[test]
fn a_physical_slot_is_refused() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        cluster.execute("select pg_create_physical_replication_slot('tributary')").await?;
        let settings = Settings::new(cluster.url(DATABASE), rig::directory(stage));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        halts(&pipeline, &["tributary", "pgoutput"]).await
    })
}

/// T51: a slot that is made before its publication can never be read.
#[test]
fn t51_no_slot_before_the_publication() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        cluster.execute("drop publication tributary").await?;
        let settings = Settings::new(cluster.url(DATABASE), rig::directory(stage));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        halts(&pipeline, &["publication", "tributary", "setup"]).await?;
        let slots = cluster.value("select count(*) from pg_replication_slots").await?;
        ensure!(slots.as_deref() == Some("0"), "a slot was made before its publication");
        pipeline.setup().await?;
        rig::some_rows(&cluster, 1000).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

/// T51, T52
#[test]
fn a_missing_publication_halts() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        cluster.execute("drop publication tributary").await?;
        rig::some_rows(&cluster, 2000).await?;
        halts(&pipeline, &["publication", "tributary"]).await
    })
}

/// T52: 18 would go on without it.
#[test]
fn a_publication_that_is_dropped_under_the_stream_halts() -> Result<()> {
    scenario(seconds(150), async |stage| {
        let (cluster, pipeline) = settled(stage).await?;
        let mut daemon = pipeline.start_streaming().await?;
        cluster.execute("drop publication tributary").await?;
        rig::some_rows(&cluster, 2000).await?;
        let code = daemon.exit_code(seconds(90)).await?;
        ensure!(code == 4, "exit code {code}: {}", daemon.tail());
        Ok(())
    })
}

/// T36, T49
#[test]
fn a_changed_publication_halts_until_it_is_accepted() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let (cluster, settled) = settled(stage).await?;
        let pipeline = settled.variant(stage, "initial", |settings: &mut Settings| {
            settings.env.push(("TRIBUTARY_SNAPSHOT__MODE".to_owned(), "initial".to_owned()));
        })?;
        cluster
            .execute(
                "alter publication tributary drop table profiles; alter publication tributary add table profiles where (id > 0)",
            )
            .await?;
        rig::some_rows(&cluster, 2000).await?;
        halts(&pipeline, &["publication", "--accept-publication"]).await?;
        pipeline.run(&["setup", "--accept-publication"]).await?.success()?;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

/// A table that is added leaves nothing out; one that is taken out does.
#[test]
fn an_added_table_needs_no_acceptance() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |_| {}).await?;
        up_to_date(&pipeline).await?;
        cluster
            .execute("create table late (id int primary key); alter publication tributary add table late")
            .await?;
        cluster.execute("insert into late values (1)").await?;
        rig::some_rows(&cluster, 2000).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        cluster.execute("alter publication tributary drop table late").await?;
        halts(&pipeline, &["publication", "--accept-publication"]).await
    })
}

#[test]
fn a_wrong_configuration_ends_with_2() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        let settings = Settings::new(cluster.url("nowhere"), rig::directory(stage));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        let outcome = pipeline.run(&["run"]).await?.expect(2).context("a database that does not exist")?;
        ensure!(outcome.text().contains("nowhere"), "{}", outcome.text());
        std::fs::write(pipeline.config(), "[source]\nurl = \"postgresql://127.0.0.1/x\"\nslott = \"x\"\n")?;
        let outcome = pipeline.run(&["run"]).await?.expect(2).context("a wrong key")?;
        for word in ["tributary.toml:3", "slott", "slot"] {
            ensure!(outcome.text().contains(word), "no {word:?} in: {}", outcome.text());
        }
        Ok(())
    })
}

/// The session takes a moment to end, and the daemon a little longer to come back.
const DROP_ACTIVE_SLOT: &str = "do $$ begin
  perform pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'tributary';
  for i in 1..200 loop
    begin perform pg_drop_replication_slot('tributary'); return; exception when object_in_use then perform pg_sleep(0.005); end;
  end loop;
end $$";
