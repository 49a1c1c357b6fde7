//! Tables that are leaves of another one by their names, or by inheritance.
//!
//! Owns: sharded tables without a parent, and inheritance, while the daemon runs, is killed, or is down.
//! Does not: attach or detach partitions (`partitions`).
//! Holds: the current state of the table is the rows of all its leaves, each with what its name tells.
//! Fails: with the oracle's differences.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::{FAULTS, Lake, Settings};
use testkit::postgres::DATABASE;
use testkit::random::Random;
use testkit::wait::{both, pause, seconds};
use testkit::{Cluster, Pipeline, Stage, scenario};

use crate::rig;

#[test]
fn two_hundred_tables_are_one_on_postgres_18() -> Result<()> {
    shards(18)
}

#[test]
fn two_hundred_tables_are_one_on_postgres_14() -> Result<()> {
    shards(14)
}

/// The same ids are in all of them, so that what their names tell is part of the key.
fn shards(version: u32) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let mut random = Random::new(rig::seed(stage)?);
        let cluster = Cluster::start(stage, version, &["wal_sender_timeout = 10s"]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster.execute(SHARDS).await?;
        let pipeline = by_name(stage, &cluster, "mark").await?;
        let kills_at: Vec<u64> = (0..KILLS).map(|_| random.between(500, 3000)).collect();
        let load = async {
            for round in 0..ROUNDS {
                cluster.execute(&change(&mut random, round)).await?;
                match round {
                        20 => cluster.execute("drop table orders_13").await?,
                        30 => cluster.execute(STAGED).await?,
                    35 => cluster.execute("alter table staged rename to orders_201; insert into orders_201 values (10, 'd', 'late')").await?,
                        40 => cluster
                            .execute(
                                "alter table orders_7 add column later text; update orders_7 set later = 'l'",
                            )
                            .await?,
                        50 => cluster.execute("truncate orders_21, orders_22").await?,
                        _ => {}
                    }
                pause(Duration::from_millis(100)).await;
            }
            Ok(())
        };
        let kills = async {
            for millis in kills_at {
                let mut daemon = pipeline.start()?;
                pause(Duration::from_millis(millis)).await;
                let ended = daemon.exited()?;
                ensure!(ended.is_none(), "the daemon ended with {ended:?}: {}", daemon.tail());
                daemon.kill()?;
            }
            Ok(())
        };
        both(load, kills).await?;
        rig::finish(stage, &cluster, &pipeline, &shards_options(&["--lax"])).await?;
        // What was read is not read again.
        let read = pipeline.log()?.matches("attached, its rows are read").count();
        rig::finish(stage, &cluster, &pipeline, &shards_options(&["--lax"])).await?;
        let again = pipeline.log()?.matches("attached, its rows are read").count();
        ensure!(again == read, "{again} tables were read by themselves, and {read} before the last start");
        let told = pipeline.run(&["resync", "public.orders_5"]).await?.success()?.text();
        ensure!(told.contains("public.orders_5\n"), "{told}");
        rig::finish(stage, &cluster, &pipeline, &shards_options(&["--lax"])).await?;
        pipeline.refuse_unexpected_lines(&[FAULTS, SNAPSHOT_FAULTS].concat())
    })
}

/// Its first rows are in no stream.
#[test]
fn what_is_published_later_is_read_by_itself() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 15, &[]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster
            .execute("create table orders_1 (id bigint primary key, note text); insert into orders_1 values (1, 'one'); create publication tributary for table orders_1")
            .await?;
        let pipeline = by_name(stage, &cluster, "mark").await?;
        let mut daemon = pipeline.start_streaming().await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        cluster
            .execute("create table orders_2 (id bigint primary key, note text); insert into orders_2 values (1, 'early'), (2, 'early')")
            .await?;
        cluster.execute("alter publication tributary add table orders_2").await?;
        cluster.execute("insert into orders_2 values (3, 'late'); delete from orders_2 where id = 2").await?;
        settle(&pipeline, "attached, its rows are read", 1).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &shards_options(&["--lax"])).await?;
        rig::finish(stage, &cluster, &pipeline, &shards_options(&["--lax"])).await?;
        let read = pipeline.log()?.matches("attached, its rows are read").count();
        ensure!(read == 1, "it was read {read} times");
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// T30: nobody can ask the catalogs what it was.
#[test]
fn what_came_and_went_unseen_is_known_by_its_name() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 17, &[]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        let made = "create table orders_3 (id bigint primary key, note text); insert into orders_3 values (1, 'unseen'), (2, 'unseen')";
        cluster
            .execute("create table orders_1 (id bigint primary key, note text); insert into orders_1 values (1, 'one'); create publication tributary for all tables")
            .await?;
        let pipeline = by_name(stage, &cluster, "keep").await?;
        pipeline.run_within(&["run", "--until", "now"], seconds(60)).await?.success()?;
        cluster.execute(made).await?;
        cluster.execute("update orders_3 set note = 'seen' where id = 2; drop table orders_3").await?;
        cluster.execute("insert into orders_1 values (2, 'two')").await?;
        pipeline.run_within(&["run", "--until", "now"], seconds(60)).await?.success()?;
        if let Lake::Directory(lake) = &pipeline.settings.lake {
            ensure!(!Path::new(lake).join("public/orders_3").exists(), "it has a table of its own");
        }
        // As if it had not been dropped; the daemon does not see it.
        cluster.execute(made).await?;
        cluster.execute("update orders_3 set note = 'seen' where id = 2").await?;
        rig::compare(stage, &cluster, &pipeline, &shards_options(&[])).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

#[test]
fn what_inherits_is_folded() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let cluster = Cluster::start(stage, 16, &[]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster.execute(HEIRS).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |settings| {
            marking(settings, "mark");
            settings.folding = "inherit = [\"public.events\"]".to_owned();
        })
        .await?;
        rig::finish(stage, &cluster, &pipeline, HEIRS_OPTIONS).await?;
        let mut daemon = pipeline.start_streaming().await?;
        cluster
            .execute(
                "update events set v = v || 'u' where id % 3 = 0; delete from events where id % 7 = 0; insert into events values (100, 'own');
                insert into events_a1 values (310, 'a1', 'detail'); create table events_c (primary key (id)) inherits (events);
                insert into events_c values (500, 'c'), (501, 'c')",
            )
            .await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        cluster.execute("alter table events_a1 no inherit events_a").await?;
        settle(&pipeline, "partitions are gone", 1).await?;
        // The marker is in the next cut.
        pause(seconds(3)).await;
        rig::compare(stage, &cluster, &pipeline, HEIRS_OPTIONS).await?;
        let before = pipeline.log()?.matches("attached, its rows are read").count();
        cluster
            .execute("update events_a1 set v = 'apart' where id = 300; delete from events_a1 where id = 301; alter table events_a1 inherit events_a")
            .await?;
        settle(&pipeline, "attached, its rows are read", before + 1).await?;
        cluster
            .execute(
                "truncate events_c; insert into events_a1 values (311, 'back', 'd'); drop table events_b",
            )
            .await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, HEIRS_OPTIONS).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

fn marking(settings: &mut Settings, on_gone: &'static str) {
    settings.snapshot = "initial";
    settings.on_gone = on_gone;
    settings.refresh = "1s";
}

async fn by_name(stage: &Stage, cluster: &Cluster, on_gone: &'static str) -> Result<Pipeline> {
    rig::pipeline(stage, cluster, rig::directory(stage), |settings| {
        marking(settings, on_gone);
        settings.folding = format!("[[partitions.pattern]]\nmatch = '{PATTERN}'\ninto = \"public.orders\"\n");
    })
    .await
}

fn shards_options<'o>(more: &[&'o str]) -> Vec<&'o str> {
    [&["--pattern", PATTERN, "public.orders", "--table", "public.orders"][..], more].concat()
}

/// Changes of some tables; each round has ids of its own.
fn change(random: &mut Random, round: u64) -> String {
    let [one, other, third] = [(); 3].map(|()| {
        loop {
            let number = random.between(1, TABLES);
            if number != 13 {
                break number;
            }
        }
    });
    let first = 1_000 + round * 10;
    format!(
        "insert into orders_{one} (id, note, doc) select g, 'r{round}', repeat('y', 3000) from generate_series({first}, {first} + 3) g;
         update orders_{one} set note = note || 'u' where id <= 3; update orders_{other} set id = {first} + 5 where id = 5;
         delete from orders_{third} where id = 4; insert into orders_default (id, note) values ({first}, 'r{round}');
         update orders_default set note = 'later' where id < {first} - 30"
    )
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

/// Python and Rust read it alike.
const PATTERN: &str = r"public\.orders_(?P<number>\d+|default)";
const TABLES: u64 = 200;
const ROUNDS: u64 = 100;
const KILLS: usize = 5;
/// What kills do to the reading of tables.
const SNAPSHOT_FAULTS: &[&str] = &["the snapshot"];
const HEIRS_OPTIONS: &[&str] =
    &["--lax", "--renamed-leaves", "--inherit", "public.events", "--table", "public.events"];

const SHARDS: &str = "
do $$ begin
  for n in 1..200 loop
    execute format('create table orders_%s (id bigint primary key, note text, doc text)', n);
    execute format('insert into orders_%s select g, ''before'', repeat(''x'', 3000) from generate_series(1, 5) g', n);
  end loop;
end $$;
create table orders_default (doc text, id bigint primary key, note text);
alter table orders_7 add column extra text; update orders_7 set extra = 'e' || id;
create publication tributary for all tables;
";

/// Its first rows are those of another table.
const STAGED: &str = "create table staged (id bigint primary key, doc text, note text);
insert into staged select g, 'd', 'early' from generate_series(1, 9) g";

const HEIRS: &str = "
create table events (id bigint primary key, v text);
create table events_a (primary key (id)) inherits (events);
create table events_a1 (detail text, primary key (id)) inherits (events_a);
create table events_b (primary key (id)) inherits (events);
insert into events select g, 'own' from generate_series(1, 9) g;
insert into events_a select g, 'a' from generate_series(200, 209) g;
insert into events_a1 select g, 'a1', 'detail' from generate_series(300, 309) g;
insert into events_b select g, 'b' from generate_series(400, 409) g;
create publication tributary for all tables;
";
