//! Transactions that are streamed before they commit give the lake that they give when they are not.
//!
//! Owns: two pipelines on one source, one for each setting, under large and small transactions and `kill -9`; what an open
//! transaction must not hold up; a spool without room.
//! Does not: look into the protocol; unit tests do.
//! Holds: rows are a pure function of the log, so both lakes are the same, row by row and column by column.
//! Fails: with the rows that only one of them has, or the oracle's differences.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::{FAULTS, Lake, Settings};
use testkit::postgres::{DATABASE, Stop};
use testkit::random::Random;
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Pipeline, Stage, oracle, scenario};

use crate::rig;

#[test]
fn postgres_14_on_is_off() -> Result<()> {
    on_is_off(14, false)
}

#[test]
fn postgres_16_on_is_off_via_root() -> Result<()> {
    on_is_off(16, true)
}

#[test]
fn postgres_18_on_is_off() -> Result<()> {
    on_is_off(18, false)
}

fn on_is_off(version: u32, via_root: bool) -> Result<()> {
    scenario(seconds(400), async |stage| {
        let seed = rig::seed(stage)?;
        let settings = ["logical_decoding_work_mem = 64kB", "wal_sender_timeout = 10s"];
        let mut cluster = rig::cluster(stage, version, via_root, &settings).await?;
        // When somebody looks, and so what is read of a partition that appears, is not the same twice.
        let ignore = |settings: &mut Settings| settings.on_attach = "ignore";
        let off = rig::pipeline(stage, &cluster, rig::directory(stage), ignore).await?;
        let on = off.variant(stage, "on", |settings| {
            settings.slot = "streamed".to_owned();
            settings.streaming = "on";
            settings.lake = Lake::Directory(stage.path("lake-on"));
        })?;
        on.setup().await?;
        let load = Load { large: 3, truncate_leaves: !via_root, ..Load::new(seed) };
        let workload = Workload::new(&cluster, load);
        workload.during(kill_daemons(stage, seed, &mut cluster, [&off, &on])).await?;
        let done = workload.finish().await?;
        stage.say(format!("{} transactions committed, {} undone", done.committed, done.undone));
        stream_two(&cluster, &on).await?;
        for pipeline in [&off, &on] {
            rig::finish(stage, &cluster, pipeline, &[]).await?;
            pipeline.refuse_unexpected_lines(
                &[FAULTS, &["a leaf has another replica identity than its root"]].concat(),
            )?;
            let left = std::fs::read_dir(pipeline.spool()).map_or(0, Iterator::count);
            ensure!(left == 0, "{left} files are left in {}", pipeline.spool().display());
        }
        let outcome = oracle::script(stage, "same.py", &[&off.lake_url(), &on.lake_url()]).await?;
        stage.say(outcome.text().trim());
        ensure!(outcome.code == 0, "the lakes differ");
        let streamed = streamed(&cluster, "streamed").await?;
        stage.say(format!("{streamed} transactions were streamed"));
        ensure!(streamed >= 2, "only {streamed} transactions were streamed");
        ensure!(self::streamed(&cluster, "tributary").await? == 0, "transactions were streamed unasked");
        Ok(())
    })
}

/// Kills both daemons every few seconds, and the server once. Then they run on for a while.
async fn kill_daemons(
    stage: &Stage,
    seed: u64,
    cluster: &mut Cluster,
    pipelines: [&Pipeline; 2],
) -> Result<()> {
    let mut random = Random::new(seed);
    for round in 0..ROUNDS {
        let mut daemons = Vec::new();
        for pipeline in pipelines {
            daemons.push(pipeline.start()?);
        }
        pause(Duration::from_millis(random.between(1000, 5000))).await;
        if round == 3 {
            stage.say("restarting Postgres, immediate");
            cluster.restart(Stop::Immediate).await?;
            pause(seconds(3)).await;
        }
        if round + 1 == ROUNDS {
            pause(seconds(5)).await;
            for mut daemon in daemons {
                daemon.wait_until_streaming(seconds(90)).await?;
                daemon.stop().await?;
            }
            continue;
        }
        for mut daemon in daemons {
            let ended = daemon.exited()?;
            ensure!(ended.is_none(), "the daemon ended with {ended:?}: {}", daemon.tail());
            daemon.kill()?;
        }
    }
    Ok(())
}

/// Two large transactions, of which the server streams both: one that began before the stream did would be read at its commit, and what it
/// streamed before it crashed the server has forgotten.
async fn stream_two(cluster: &Cluster, pipeline: &Pipeline) -> Result<()> {
    pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.success()?;
    let mut daemon = pipeline.start_streaming().await?;
    let large = "insert into ledger select g % 40, 'entry', g % 7, repeat(md5(g::text), 5) from generate_series(1, 2000) g";
    for _ in 0..2 {
        cluster.execute(large).await?;
    }
    daemon.wait_until_published(cluster.wal_lsn().await?, seconds(90)).await?;
    daemon.stop().await
}

/// How many transactions were streamed to a slot since its server started.
async fn streamed(cluster: &Cluster, slot: &str) -> Result<u64> {
    let sql = format!("select stream_txns from pg_stat_replication_slots where slot_name = '{slot}'");
    Ok(cluster.value(&sql).await?.context("the slot's statistics")?.parse()?)
}

/// T58: what is in no cut yet holds up neither cuts, nor the slot, nor the end.
#[test]
fn an_open_transaction_holds_nothing_up() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 15, false, &["logical_decoding_work_mem = 64kB"]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.streaming = "on").await?;
        let client = cluster.connect(DATABASE).await?;
        let large = "insert into ledger select g, 'open', 1, repeat(md5(g::text), 10) from generate_series(1, 20000) g";
        client.batch_execute(&format!("begin; {large}")).await?;
        rig::some_rows(&cluster, 1000).await?;
        pipeline.run(&["run", "--until", "now"]).await?.success()?;

        let mut daemon = pipeline.start_streaming().await?;
        client
            .batch_execute(&format!("rollback; begin; {large}; savepoint s; {large}; rollback to s; {large}"))
            .await?;
        rig::some_rows(&cluster, 2000).await?;
        let committed = cluster.wal_lsn().await?;
        rig::some_rows(&cluster, 3000).await?;
        daemon.wait_until_published(committed, seconds(30)).await?;
        let metrics = String::from_utf8_lossy(&daemon.get("/metrics").await?.body).into_owned();
        ensure!(metrics.contains("\ntributary_streamed_transactions 1\n"), "{metrics}");
        let confirmed = cluster.confirmed("tributary").await?;
        ensure!(confirmed >= committed, "confirmed {confirmed:X}, published {committed:X}");
        daemon.stop().await?;

        // It is read again from its beginning, which is far behind what was confirmed.
        let mut daemon = pipeline.start_streaming().await?;
        client.batch_execute("insert into ledger values (0, 'the last', 1, null); commit").await?;
        let committed = cluster.wal_lsn().await?;
        rig::some_rows(&cluster, 4000).await?;
        daemon.wait_until_published(committed, seconds(30)).await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[
            "the stream ended, trying again",
            "a leaf has another replica identity than its root",
        ])
    })
}

/// A part that was on the disk of Postgres as a whole before it was streamed, since a value of many pieces cannot be streamed by halves.
#[test]
fn t17_a_rollback_that_postgres_does_not_tell_of() -> Result<()> {
    for version in [14, 16, 18] {
        scenario(seconds(120), async |stage| {
            let cluster = rig::cluster(stage, version, false, &["logical_decoding_work_mem = 64kB"]).await?;
            let pipeline =
                rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.streaming = "on").await?;
            let mut daemon = pipeline.start_streaming().await?;
            let client = cluster.connect(DATABASE).await?;
            let rows = |entry: &str, rows: u32| {
                format!(
                    "insert into ledger select g, '{entry}', 1, repeat(md5(g::text), 10) from generate_series(1, {rows}) g;"
                )
            };
            // More than 4,096 pieces of some 2,000 bytes. The table is announced within the part that rolls back, and never again.
            let piece = "insert into profiles select 900000, 'undone', string_agg(md5(g::text || random()), '') from generate_series(1, 600000) g;";
            let undone = format!("savepoint a; {piece} savepoint b; {}", rows("undone", 3000));
            client.batch_execute(&format!("begin; {} {undone}", rows("kept", 1))).await?;
            pause(seconds(1)).await;
            let end = "rollback to a; insert into profiles values (900010, 'kept', 'd'); insert into ledger values (0, 'kept', 1, null); commit";
            client.batch_execute(end).await?;
            daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
            daemon.stop().await?;
            let told = "parts rolled back and the stream did not tell";
            ensure!(pipeline.log()?.contains(told), "Postgres told of everything: this tests nothing");
            rig::finish(stage, &cluster, &pipeline, &[]).await?;
            pipeline.refuse_unexpected_lines(&["a leaf has another replica identity than its root"])
        })?;
    }
    Ok(())
}

/// Postgres reads a transaction again from its beginning after a restart. While it is open it then may neither tell of rollbacks nor see
/// the columns that it added.
#[test]
fn a_transaction_that_was_open_before_the_stream_is_read_at_its_commit() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 17, false, &["logical_decoding_work_mem = 64kB"]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.streaming = "on").await?;
        let client = cluster.connect(DATABASE).await?;
        let rows = |entry: &str, rows: u32| {
            format!(
                "insert into ledger select g, '{entry}', 1, repeat(md5(g::text), 10) from generate_series(1, {rows}) g;"
            )
        };
        client
            .batch_execute(&format!("begin; {} savepoint a; {}", rows("kept", 1), rows("undone", 10_000)))
            .await?;
        let mut daemon = pipeline.start_streaming().await?;
        rig::some_rows(&cluster, 1000).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        daemon.stop().await?;

        let mut daemon = pipeline.start_streaming().await?;
        client
            .batch_execute(&format!(
                "{} rollback to a; alter table profiles add column p text",
                rows("undone", 3000)
            ))
            .await?;
        let end =
            "insert into profiles select g, 'kept', 'd', 'p' from generate_series(900000, 903000) g; commit";
        client.batch_execute(end).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        // A new transaction on the next stream.
        daemon.stop().await?;
        let told = "was open when the stream began: it is read once it has committed";
        ensure!(pipeline.log()?.contains(told), "it was taken while it was open");
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[
            "the stream ended, trying again",
            "a leaf has another replica identity than its root",
        ])
    })
}

#[test]
fn a_spool_without_room_only_means_to_wait_for_commits() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 17, false, &[]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |settings| {
            settings.streaming = "on";
            settings.spool_size = "64MiB";
        });
        let pipeline = pipeline.await?;
        let mut daemon = pipeline.start_streaming().await?;
        let client = cluster.connect(DATABASE).await?;
        let large = "insert into ledger select g, 'large', 1, repeat(md5(g::text), 60) from generate_series(1, 80000) g";
        client.batch_execute(&format!("begin; {large}")).await?;
        pause(seconds(4)).await;
        client.batch_execute("commit").await?;
        let committed = cluster.wal_lsn().await?;
        rig::some_rows(&cluster, 1000).await?;
        daemon.wait_until_published(committed, seconds(60)).await?;
        daemon.stop().await?;
        ensure!(pipeline.log()?.contains("more than `source.spool_size` of 64MiB"), "it had room");
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[
            "the stream ended, trying again",
            "a leaf has another replica identity than its root",
        ])
    })
}

const ROUNDS: u32 = 7;
