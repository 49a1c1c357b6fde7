//! Rows that are read from a standby, while changes come from its primary.
//!
//! Owns: standbys under load, standbys that cancel what is read there, and servers that are no good as one.
//! Does not: stream from a standby.
//! Holds: the current state of the lake is the primary's; the primary is asked for no rows.
//! Fails: with the oracle's differences.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::daemon::Settings;
use testkit::postgres::DATABASE;
use testkit::random::Random;
use testkit::shuffle::{self, Shuffle};
use testkit::wait::{self, pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Pipeline, scenario};

use crate::rig;
use crate::snapshot::{self, LEAVES_DIFFER, SNAPSHOT_FAULTS};

#[test]
fn rows_come_from_a_standby() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let mut cluster = rig::cluster(stage, 17, false, &["log_statement = 'all'"]).await?;
        shuffle::create(&cluster).await?;
        snapshot::fill(&cluster, seed, false).await?;
        let standby = cluster.standby(stage, &["hot_standby_feedback = on"]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), reads(&standby)).await?;
        let checked = pipeline.run(&["check"]).await?.success()?.text();
        ensure!(checked.contains(&format!("rows are read from 127.0.0.1:{}/", standby.port)), "{checked}");
        let workload = Workload::new(&cluster, Load::new(seed));
        workload
            .during(async {
                let shuffle = Shuffle::start(&cluster, seed);
                let daemon = pipeline.start_streaming().await?;
                snapshot::wait_until_read(&daemon, seconds(120)).await?;
                pipeline.run(&["resync", "public.orders", "public.ledger"]).await?.success()?;
                pause(seconds(2)).await;
                snapshot::wait_until_read(&daemon, seconds(120)).await?;
                shuffle.stop().await;
                daemon.stop().await
            })
            .await?;
        workload.finish().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[SNAPSHOT_FAULTS, &[LEAVES_DIFFER]].concat())?;
        let copies = |log: &str| log.matches("COPY (").count();
        let (here, there) = (copies(&cluster.log()?), copies(&standby.log()?));
        ensure!(here == 0 && there > 10, "{here} reads at the primary and {there} at the standby");
        let slots = standby.value("select count(*) from pg_replication_slots").await?;
        ensure!(slots.as_deref() == Some("0"), "slots are left on the standby: {slots:?}");
        snapshot::only_our_slot(&cluster).await
    })
}

/// A standby without patience, whose primary removes what is read: nothing that it shows lives for long. And sessions that somebody ends while
/// they read.
#[test]
fn a_standby_that_cancels_is_read_again() -> Result<()> {
    scenario(seconds(300), async |stage| {
        let seed = rig::seed(stage)?;
        let mut random = Random::new(seed);
        let mut cluster = rig::cluster(stage, 16, false, &["autovacuum = off"]).await?;
        shuffle::create(&cluster).await?;
        snapshot::fill(&cluster, seed, false).await?;
        let standby = cluster.standby(stage, &["max_standby_streaming_delay = 0"]).await?;
        let settings = |settings: &mut Settings| {
            reads(&standby)(settings);
            settings.env.push(("TRIBUTARY_SNAPSHOT__MAX_RATE".to_owned(), "24MiB".to_owned()));
        };
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), settings).await?;
        let workload = Workload::new(&cluster, Load { ddl: false, workers: 2, ..Load::new(seed) });
        workload
            .during(async {
                let shuffle = Shuffle::start(&cluster, seed);
                let daemon = pipeline.start_streaming().await?;
                wait::until("a cancelled query", seconds(60), async || {
                    pause(Duration::from_millis(random.between(300, 1500))).await;
                    cluster.execute("vacuum").await?;
                    let cancelled = standby.value(CANCELLED).await?;
                    ensure!(cancelled.as_deref().is_some_and(|count| count != "0"), "none was cancelled");
                    Ok(())
                })
                .await?;
                standby.configure("max_standby_streaming_delay = 30s\nhot_standby_feedback = on")?;
                on_a_busy_standby(&standby, "select pg_reload_conf()").await?;
                for _ in 0..3 {
                    pause(Duration::from_millis(random.between(1000, 4000))).await;
                    on_a_busy_standby(&standby, END_SESSIONS).await?;
                }
                shuffle.stop().await;
                snapshot::wait_until_read(&daemon, seconds(150)).await?;
                daemon.stop().await
            })
            .await?;
        workload.finish().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        let log = pipeline.log()?;
        let lost = log.matches("the snapshot's point is lost").count();
        let again = log.matches("is tried again").count();
        stage.say(format!("{lost} points lost, {again} tries again"));
        ensure!(lost + again > 0, "nothing was ended: {log}");
        let at_start = "rows cannot be read from the replica now";
        pipeline.refuse_unexpected_lines(&[SNAPSHOT_FAULTS, &[LEAVES_DIFFER, at_start]].concat())
    })
}

/// By the replay, of any database.
const CANCELLED: &str = "select sum(confl_lock + confl_snapshot + confl_bufferpin + confl_deadlock)::text from pg_stat_database_conflicts";

/// Whose replay may end the one who asks as well.
async fn on_a_busy_standby(standby: &Cluster, sql: &str) -> Result<()> {
    wait::until(sql, seconds(20), async || standby.execute(sql).await).await
}

/// A standby that is down does not stop the stream; rows come once it is there. By a role that may not ask the primary to log what a
/// standby waits for.
#[test]
fn a_standby_that_is_down_is_waited_for() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let mut cluster = rig::cluster(stage, 18, false, &[]).await?;
        snapshot::fill(&cluster, 1, false).await?;
        let mut standby = cluster.standby(stage, &[]).await?;
        let setup = rig::pipeline(stage, &cluster, rig::directory(stage), reads(&standby)).await?;
        cluster.execute(READER).await?;
        let pipeline = setup.variant(stage, "reader", |settings| {
            settings.source = settings.source.replace("postgres@", "reader@");
            for (_, value) in &mut settings.env {
                *value = value.replace("postgres@", "reader@");
            }
        })?;
        let checked = pipeline.run(&["check"]).await?.success()?.text();
        ensure!(
            checked.contains("GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO \"reader\""),
            "{checked}"
        );
        ensure!(checked.contains("hot_standby_feedback is off there"), "{checked}");
        standby.stop(testkit::postgres::Stop::Immediate).await?;
        let mut daemon = pipeline.start_streaming().await?;
        rig::some_rows(&cluster, 1000).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        standby.resume().await?;
        // Behind the stream: a point there would be one that the stream does not know of.
        standby.execute("select pg_wal_replay_pause()").await?;
        rig::some_rows(&cluster, 2000).await?;
        pause(seconds(4)).await;
        standby.execute("select pg_wal_replay_resume()").await?;
        snapshot::wait_until_read(&daemon, seconds(100)).await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        let faults = ["rows cannot be read from the replica now", "the replica does not answer"];
        pipeline.refuse_unexpected_lines(&[SNAPSHOT_FAULTS, &[LEAVES_DIFFER], &faults].concat())
    })
}

#[test]
fn servers_that_are_no_good_are_refused() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let mut cluster = rig::cluster(stage, 15, false, &[]).await?;
        let standby = cluster.standby(stage, &[]).await?;
        let good = rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.snapshot = "initial").await?;
        let pipeline = good.variant(stage, "old", reads(&standby))?;
        refused(&pipeline, "a standby of Postgres 15 cannot say", "a standby of 16 or newer").await?;
        let stranger = Cluster::start_anew(stage, 15, &[]).await?;
        stranger.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        let pipeline = good.variant(stage, "stranger", reads(&stranger))?;
        refused(&pipeline, "is no replica of", "on a physical standby").await?;
        // By way of `source.catalog_url`, and only as long as rows are read at all.
        let catalogs = |mode: &'static str| {
            let url = standby.url(DATABASE);
            move |settings: &mut Settings| {
                settings.snapshot = mode;
                settings.env.push(("TRIBUTARY_SOURCE__CATALOG_URL".to_owned(), url));
            }
        };
        let pipeline = good.variant(stage, "catalogs", catalogs("initial"))?;
        refused(&pipeline, "a standby of Postgres 15 cannot say", "`source.catalog_url` is read").await?;
        let pipeline = good.variant(stage, "never", catalogs("never"))?;
        pipeline.run(&["run", "--until", "now"]).await?.success().map(drop)
    })
}

async fn refused(pipeline: &Pipeline, why: &str, hint: &str) -> Result<()> {
    for arguments in [&["check"][..], &["run", "--until", "now"]] {
        let text = pipeline.run(arguments).await?.expect(2)?.text();
        ensure!(text.contains(why) && text.contains(hint), "{arguments:?}: {text}");
    }
    Ok(())
}

fn reads(standby: &Cluster) -> impl FnOnce(&mut Settings) + use<> {
    let url = standby.url(DATABASE);
    move |settings| {
        settings.snapshot = "initial";
        settings.env.push(("TRIBUTARY_SNAPSHOT__URL".to_owned(), url));
    }
}

const READER: &str = "create role reader login replication; grant select on all tables in schema public to reader; grant create on database shop to reader";
const END_SESSIONS: &str = "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
