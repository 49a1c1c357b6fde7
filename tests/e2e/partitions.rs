//! Partitions that come, go and change their place.
//!
//! Owns: attached, detached, dropped, swapped and renamed partitions, with and without rows, while the daemon runs, is killed, or is down.
//! Does not: change columns (`ddl`), or count what it costs.
//! Holds: with the policy `mark` the current state of every root is the source's; with `keep` what was detached stays.
//! Fails: with the oracle's differences.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::{Daemon, FAULTS, NO_IDENTITY, Settings};
use testkit::partitions::{self, Partitions, Publish};
use testkit::random::Random;
use testkit::wait::{both, pause, seconds, until};
use testkit::{Cluster, Pipeline, Stage, scenario};

use crate::rig;

/// T29, T30, T31
#[test]
fn what_is_attached_is_read_and_what_is_detached_is_marked() -> Result<()> {
    lives(15, Publish::Leaves)
}

#[test]
fn what_is_attached_is_read_in_postgres_18() -> Result<()> {
    lives(18, Publish::Leaves)
}

/// Of what is detached nothing is marked there, so that nothing is detached for good.
#[test]
fn what_is_attached_is_read_via_root() -> Result<()> {
    lives(16, Publish::Roots)
}

/// A detached partition goes on as a table of its own there.
#[test]
fn what_is_detached_is_a_table_of_its_own() -> Result<()> {
    lives(17, Publish::All)
}

fn lives(version: u32, publish: Publish) -> Result<()> {
    let via_root = publish == Publish::Roots;
    scenario(seconds(180), async |stage| {
        let cluster = Cluster::start(stage, version, &[]).await?;
        partitions::create(&cluster, publish).await?;
        let pipeline = marking(stage, &cluster, "initial").await?;
        finish(stage, &cluster, &pipeline).await?;
        let mut daemon = pipeline.start_streaming().await?;
        let attach = "create table flat_2 (v text, id bigint not null, tenant int not null, doc text, part int not null, primary key (id, tenant, part));
            insert into flat_2 select 'filled', g, 2, repeat('d', 3000), 0 from generate_series(1, 20) g;
            alter table flat attach partition flat_2 for values in (2);
            update flat set v = 'changed' where id < 5;
            create table keyless_2 (like keyless); alter table keyless_2 replica identity full;
            insert into keyless_2 select 1, 2, 0, 'twice', null from generate_series(1, 3);
            alter table keyless attach partition keyless_2 for values in (2);
            delete from keyless where ctid in (select ctid from keyless where tenant = 2 limit 1)";
        cluster.execute(attach).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        settle(&pipeline, "attached, its rows are read", 2).await?;
        finish_running(stage, &cluster, &pipeline, daemon).await?;

        // Rows that are written while a partition is none are in no stream.
        let daemon = pipeline.start_streaming().await?;
        // Via the root, that they are gone cannot be told.
        let gone = |condition: &str| if via_root { "false" } else { condition }.to_owned();
        let again = format!(
            "alter table flat detach partition flat_2; delete from flat_2 where {}; insert into flat_2 values ('apart', 70, 2, null, 0);
            update flat_2 set v = 'apart' where id = 8; alter table flat attach partition flat_2 for values in (2);
            alter table deep detach partition deep_1; delete from deep_1 where {}; insert into deep_1 values (70, 1, 0, 'apart', null);
            alter table deep attach partition deep_1 for values in (1)",
            gone("id = 7"),
            gone("id = -5")
        );
        cluster.execute(&again).await?;
        settle(&pipeline, "attached, its rows are read", 5).await?;
        finish_running(stage, &cluster, &pipeline, daemon).await?;
        if via_root {
            return Ok(());
        }

        // All of this while nobody looks.
        let down = "drop table flat_1_n0; alter table keyless detach partition keyless_2; alter table deep_1 detach partition deep_1_part_0a;
            create table flat_3 partition of flat for values in (3); insert into flat values (1, 3, 0, 'new', 'd');
            insert into flat_2 values ('rest', 71, 2, null, 0);
            create table flat_1_n0 partition of flat for values in (1); insert into flat values (-1, 1, 0, 'same name', 'd')";
        cluster.execute(down).await?;
        finish(stage, &cluster, &pipeline).await?;
        let log = pipeline.run(&["inspect", "log", "--json"]).await?.success()?.text();
        let gone = log.matches("\"detach\"").count();
        ensure!(gone == 3, "{gone} events of partitions that are gone: {log}");
        if publish == Publish::All {
            cluster.execute("insert into keyless_2 select 3, 2, 0, 'alone', null; update deep_1_part_0a set v = 'alone'").await?;
            pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.success()?;
            rig::compare(stage, &cluster, &pipeline, &["--lax", "--renamed-leaves"]).await?;
        }
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// The archive of what was dropped stays, whatever takes its name.
#[test]
fn what_is_kept_stays() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 17, &[]).await?;
        partitions::create(&cluster, Publish::Leaves).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |settings| {
            settings.snapshot = "initial";
            settings.refresh = "1s";
        })
        .await?;
        finish(stage, &cluster, &pipeline).await?;
        // What was deleted while it was none is nowhere else.
        let mut daemon = pipeline.start_streaming().await?;
        cluster
            .execute("alter table keyless detach partition keyless_1_n0; delete from keyless_1_n0")
            .await?;
        settle(&pipeline, "partitions are gone", 1).await?;
        cluster.execute("alter table keyless attach partition keyless_1_n0 for values in (1)").await?;
        settle(&pipeline, "attached, its rows are read", 1).await?;
        // What is made as a partition while somebody looks has all of its rows in the stream.
        cluster
            .execute("create table flat_5 partition of flat for values in (5); insert into flat values (5, 5, 0, 'born', 'd')")
            .await?;
        pause(seconds(3)).await;
        cluster
            .execute("insert into keyless select 1, 1, 0, 'gone soon', null from generate_series(1, 3); alter table keyless detach partition keyless_1_n0")
            .await?;
        settle(&pipeline, "partitions are gone", 2).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        daemon.stop().await?;
        let read = pipeline.log()?.matches("attached, its rows are read").count();
        ensure!(read == 1, "{read} partitions were read");
        cluster
            .execute(
                "truncate keyless_1_n0; alter table keyless attach partition keyless_1_n0 for values in (1)",
            )
            .await?;
        let swap = "drop table flat_1_n0; create table flat_1_n0 (like flat including all); insert into flat_1_n0 values (1, 1, 0, 'next', 'd');
            alter table flat attach partition flat_1_n0 for values in (1); truncate flat_1_n0; insert into flat values (2, 1, 0, 'last', 'd')";
        cluster.execute(swap).await?;
        pipeline.run_within(&["run", "--until", "now"], seconds(60)).await?.success()?;
        // As if nothing had been dropped.
        cluster.execute("insert into flat select g, 1, abs(g) % 4, 'before', repeat('x', 3000) from generate_series(-100, -1) g").await?;
        let tables = ["--lax", "--renamed-leaves", "--table", "public.flat", "--table", "public.keyless"];
        rig::compare(stage, &cluster, &pipeline, &tables).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// What an override says of a table wins over `[partitions]`.
#[test]
fn policies_are_a_tables_own() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 16, &[]).await?;
        partitions::create(&cluster, Publish::Leaves).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |settings| {
            settings.snapshot = "initial";
            settings.on_gone = "mark";
            settings.refresh = "1s";
            settings.overrides =
                "[[tables.override]]\nmatch = \"*.flat\"\non_detach = \"keep\"\non_attach = \"ignore\"\n\
                [[tables.override]]\nmatch = \"public.deep\"\non_truncate = \"keep\"\n"
                    .to_owned();
        })
        .await?;
        finish(stage, &cluster, &pipeline).await?;
        let mut daemon = pipeline.start_streaming().await?;
        cluster
            .execute(
                "alter table flat detach partition flat_1_n0; alter table keyless detach partition keyless_1_n0; truncate deep_1_part_0a;
                create table flat_3 (like flat including all); insert into flat_3 values (1, 3, 0, 'own', 'd');
                alter table flat attach partition flat_3 for values in (3); insert into flat values (2, 3, 0, 'attached', 'd')",
            )
            .await?;
        settle(&pipeline, "partitions are gone", 2).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        daemon.stop().await?;
        // As if none of this had happened to those whose rows are kept, and the other one had never had its own.
        let before = "select g, 1, abs(g) % 4, 'before', repeat('x', 3000) from generate_series(-100, -1) g";
        cluster
            .execute(&format!(
                "create table flat_1 partition of flat for values in (1); insert into flat {before};
                delete from flat where v = 'own'; insert into deep {before} where abs(g) % 4 < 2"
            ))
            .await?;
        // A TRUNCATE that leaves no row has its number all the same.
        rig::compare(stage, &cluster, &pipeline, &[ROOTS, &["--gaps"]].concat()).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// T31: a walsender of 14 remembers that it does not send a table, also once that is a partition.
#[test]
fn what_changed_before_it_was_attached_is_streamed_from_postgres_14() -> Result<()> {
    changed_before(Publish::Leaves)
}

#[test]
fn what_changed_before_it_was_attached_is_streamed_from_postgres_14_via_root() -> Result<()> {
    changed_before(Publish::Roots)
}

fn changed_before(publish: Publish) -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 14, &[]).await?;
        partitions::create(&cluster, publish).await?;
        let pipeline = marking(stage, &cluster, "initial").await?;
        let mut daemon = pipeline.start_streaming().await?;
        cluster
            .execute(
                "create table flat_7 (like flat including all); insert into flat_7 select g, 7, 0, 'own', 'd' from generate_series(1, 9) g;
                create table deep_7 (like deep including all) partition by list (part); create table deep_7_a partition of deep_7 default;
                insert into deep_7 select g, 7, 0, 'own', 'd' from generate_series(1, 9) g",
            )
            .await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        cluster
            .execute(
                "alter table flat attach partition flat_7 for values in (7); insert into flat values (70, 7, 0, 'attached', 'd');
                delete from deep_7; alter table deep attach partition deep_7 for values in (7)",
            )
            .await?;
        settle(&pipeline, "attached, its rows are read", 2).await?;
        for id in 71..80 {
            cluster
                .execute(&format!(
                    "insert into flat values ({id}, 7, 0, 'streamed', 'd'); update flat set v = 'streamed' where tenant = 7 and id = {id} - 71;
                    insert into deep values ({id}, 7, 0, 'streamed', 'd')"
                ))
                .await?;
            pause(Duration::from_millis(200)).await;
        }
        // One that was made as a partition never was anything else.
        cluster
            .execute("create table flat_6 partition of flat for values in (6); insert into flat values (6, 6, 0, 'born', 'd')")
            .await?;
        pause(seconds(3)).await;
        let renewed = pipeline.log()?.matches("streaming anew").count();
        ensure!(renewed == 1, "the stream began anew {renewed} times");
        finish_running(stage, &cluster, &pipeline, daemon).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// What was attached since the slot was made has rows that are in no stream, although the lake begins at the slot.
#[test]
fn what_was_attached_before_a_slot_was_adopted_is_read() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 15, &[]).await?;
        partitions::create(&cluster, Publish::Leaves).await?;
        cluster.execute("truncate flat, deep, keyless").await?;
        cluster.value("select pg_create_logical_replication_slot('tributary', 'pgoutput')").await?;
        cluster
            .execute(
                "create table flat_7 (like flat including all); insert into flat_7 select g, 7, 0, 'own', 'd' from generate_series(1, 9) g;
                alter table flat attach partition flat_7 for values in (7); insert into flat values (70, 7, 0, 'attached', 'd'), (70, 1, 0, 'old', 'd')",
            )
            .await?;
        let mut settings = Settings::new(cluster.url(testkit::postgres::DATABASE), rig::directory(stage));
        settings.snapshot = "initial";
        settings.on_gone = "mark";
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        pipeline.run(&["setup", "--apply", "--adopt-slot"]).await?.success()?;
        finish(stage, &cluster, &pipeline).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// Whoever names a partition and what lies below it gets every row once.
#[test]
fn what_is_asked_for_twice_is_read_once() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 17, &[]).await?;
        partitions::create(&cluster, Publish::Leaves).await?;
        cluster
            .execute(
                "create table keyless_2 partition of keyless for values in (2) partition by list (part);
                create table keyless_2_a partition of keyless_2 default; alter table keyless_2_a replica identity full;
                insert into keyless select 1, 2, 0, 'thrice', null from generate_series(1, 3)",
            )
            .await?;
        let pipeline = marking(stage, &cluster, "initial").await?;
        finish(stage, &cluster, &pipeline).await?;
        let daemon = pipeline.start_streaming().await?;
        let told = pipeline.run(&["resync", "public.keyless_2*"]).await?.success()?.text();
        ensure!(told.contains("public.keyless_2\n") && told.contains("public.keyless_2_a"), "{told}");
        finish_running(stage, &cluster, &pipeline, daemon).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// A commit is streamed once it is flushed. Its session may wait for a synchronous standby then, and until that is over nobody sees a new partition.
#[test]
fn a_partition_that_nobody_sees_yet_is_waited_for() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 16, &[]).await?;
        partitions::create(&cluster, Publish::Leaves).await?;
        let pipeline = marking(stage, &cluster, "initial").await?;
        let mut daemon = pipeline.start_streaming().await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        let settings = |value: &str| {
            cluster.configure(&format!("synchronous_standby_names = '{value}'"))?;
            Ok::<_, anyhow::Error>("select pg_reload_conf()")
        };
        cluster.value(settings("nobody")?).await?;
        wait_for(&cluster, "show synchronous_standby_names", "nobody").await?;
        let before = cluster.wal_lsn().await?;
        let unseen = cluster.execute(
            "begin; create table flat_6 partition of flat for values in (6); insert into flat select g, 6, 0, 'unseen', 'd' from generate_series(1, 50) g; commit",
        );
        let release = async {
            let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
            wait_for(&cluster, waits, "1").await?;
            pause(seconds(3)).await;
            let published = daemon.position("published").await?;
            ensure!(published <= before, "published {published:x}, and the transaction began at {before:x}");
            cluster.value(settings("")?).await.map(drop)
        };
        both(unseen, release).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        finish_running(stage, &cluster, &pipeline, daemon).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// T24, T47: a new partition has not the replica identity of its root.
#[test]
fn a_partition_that_cannot_be_updated_is_told_of() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 18, &[]).await?;
        partitions::create(&cluster, Publish::Leaves).await?;
        let pipeline = marking(stage, &cluster, "never").await?;
        let daemon = pipeline.start_streaming().await?;
        cluster.execute("create table keyless_3 partition of keyless for values in (3)").await?;
        settle(&pipeline, NO_IDENTITY, 1).await?;
        ensure!(pipeline.log()?.contains("\"first\":\"public.keyless_3\""), "another one is named");
        let check = pipeline.run(&["check"]).await?.text();
        ensure!(check.contains("REPLICA IDENTITY FULL"), "{check}");
        cluster.execute("create table keyless_4 partition of keyless for values in (4)").await?;
        settle(&pipeline, NO_IDENTITY, 2).await?;
        cluster
            .execute("alter table keyless_3 replica identity full; alter table keyless_4 replica identity full; create table flat_3 partition of flat for values in (3)")
            .await?;
        pause(seconds(4)).await;
        daemon.stop().await?;
        pipeline.refuse_unexpected_lines(&[NO_IDENTITY])?;
        let said = pipeline.log()?.matches(NO_IDENTITY).count();
        ensure!(said == 2, "said {said} times");
        Ok(())
    })
}

/// Nobody looks for an hour, unless the stream tells of DDL.
#[test]
fn what_event_triggers_tell_is_found_at_once() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 16, &[]).await?;
        partitions::create(&cluster, Publish::Leaves).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |settings| {
            settings.snapshot = "initial";
            settings.on_gone = "mark";
            settings.refresh = "1h";
        })
        .await?;
        let setup = ["setup", "--apply", "--ddl-events"];
        let said = pipeline.run(&setup).await?.success()?.text();
        ensure!(said.contains("created: event triggers") && !said.contains("warning"), "{said}");
        let said = pipeline.run(&setup).await?.success()?.text();
        ensure!(said.contains("everything is there already"), "{said}");
        let check = pipeline.run(&["check"]).await?.text();
        ensure!(check.contains("event triggers tell the stream"), "{check}");
        // What runs as a superuser at everybody's DDL must not look at everybody's tables.
        let trap = "create role mallory; grant create on schema public to mallory; create table stolen (who text); grant insert on stolen to mallory;
            set role mallory;
            create function public.steal() returns oid language plpgsql as 'begin insert into public.stolen values (current_user); return 0; end';
            create function public.plan() returns oid language plpgsql immutable as 'begin return public.steal(); end';
            create temp view pg_class as select public.plan() as oid, 'r'::\"char\" as relkind, 'p'::\"char\" as relpersistence;
            create table public.bait (x int); reset role; drop view pg_temp.pg_class";
        cluster.execute(trap).await?;
        let stolen = cluster.value("select count(*) from stolen").await?;
        ensure!(stolen.as_deref() == Some("0"), "{stolen:?} calls in the superuser's name");
        let daemon = pipeline.start_streaming().await?;
        // So that the first look is over.
        settle(&pipeline, "streaming", 1).await?;
        pause(seconds(2)).await;
        cluster
            .execute(
                "create table flat_2 (like flat including all); insert into flat_2 select g, 2, 0, 'filled', 'd' from generate_series(1, 20) g;
                create temp table passing (like flat); drop table passing;
                alter table flat attach partition flat_2 for values in (2)",
            )
            .await?;
        settle(&pipeline, "attached, its rows are read", 1).await?;
        cluster.execute("drop table keyless_1_n0").await?;
        settle(&pipeline, "partitions are gone", 1).await?;
        cluster.execute("alter table flat detach partition flat_1_n0 concurrently").await?;
        settle(&pipeline, "partitions are gone", 2).await?;
        finish_running(stage, &cluster, &pipeline, daemon).await?;
        let left = pipeline.run(&["teardown", "--yes", "--json"]).await?.success()?.text();
        ensure!(left.contains("\"ddl_events\": true"), "{left}");
        pipeline.refuse_unexpected_lines(&[])
    })
}

async fn wait_for(cluster: &Cluster, query: &str, expected: &str) -> Result<()> {
    until(query, seconds(20), async || {
        let found = cluster.value(query).await?;
        ensure!(found.as_deref() == Some(expected), "{found:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_storm_of_partitions_on_postgres_14() -> Result<()> {
    storm(14, Publish::Leaves)
}

/// T30
#[test]
fn a_storm_of_partitions_on_postgres_18() -> Result<()> {
    storm(18, Publish::Leaves)
}

/// T33: what does not come by way of the root is not done.
#[test]
fn a_storm_of_partitions_via_root_on_postgres_15() -> Result<()> {
    storm(15, Publish::Roots)
}

#[test]
fn a_storm_of_partitions_via_root_on_postgres_17() -> Result<()> {
    storm(17, Publish::Roots)
}

fn storm(version: u32, publish: Publish) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let mut random = Random::new(seed ^ 1);
        let cluster = Cluster::start(stage, version, &["wal_sender_timeout = 10s"]).await?;
        partitions::create(&cluster, publish).await?;
        let pipeline = marking(stage, &cluster, "initial").await?;
        let mut storm = Partitions::new(&cluster, seed, publish);
        let kills = async {
            for _ in 0..KILLS {
                let mut daemon = pipeline.start()?;
                pause(Duration::from_millis(random.between(1000, 5000))).await;
                let ended = daemon.exited()?;
                ensure!(ended.is_none(), "the daemon ended with {ended:?}: {}", daemon.tail());
                daemon.kill()?;
            }
            Ok(())
        };
        storm.during(seconds(20), kills).await?;
        stage.say(storm.done());
        finish(stage, &cluster, &pipeline).await?;
        let via_root = if publish == Publish::Roots { VIA_ROOT_FAULTS } else { &[] };
        pipeline.refuse_unexpected_lines(&[FAULTS, STORM_FAULTS, via_root].concat())
    })
}

async fn marking(stage: &Stage, cluster: &Cluster, snapshot: &'static str) -> Result<Pipeline> {
    let settings = |settings: &mut Settings| {
        settings.snapshot = snapshot;
        settings.on_gone = "mark";
        settings.refresh = "1s";
    };
    rig::pipeline(stage, cluster, rig::directory(stage), settings).await
}

/// Waits until the log file has a line so many times.
async fn settle(pipeline: &Pipeline, line: &str, times: usize) -> Result<()> {
    for _ in 0..300 {
        if pipeline.log()?.matches(line).count() >= times {
            return Ok(());
        }
        pause(Duration::from_millis(100)).await;
    }
    let log = pipeline.log()?;
    Err(anyhow::anyhow!("`{line}` does not come {times} times")).with_context(|| log)
}

async fn finish_running(stage: &Stage, cluster: &Cluster, pipeline: &Pipeline, daemon: Daemon) -> Result<()> {
    daemon.stop().await?;
    finish(stage, cluster, pipeline).await
}

async fn finish(stage: &Stage, cluster: &Cluster, pipeline: &Pipeline) -> Result<()> {
    rig::finish(stage, cluster, pipeline, ROOTS).await
}

/// Compares the roots, and no former partition that is a table of its own.
const ROOTS: &[&str] = &[
    "--lax",
    "--renamed-leaves",
    "--table",
    "public.flat",
    "--table",
    "public.deep",
    "--table",
    "public.keyless",
];

const KILLS: usize = 5;

/// What a storm does to the reading of partitions. Of one that came and went while nobody looked nothing is known.
const STORM_FAULTS: &[&str] = &["the snapshot", "the catalogs do not know this relation any more"];

/// What one by way of the root does besides.
const VIA_ROOT_FAULTS: &[&str] = &["their rows cannot be told from others"];
