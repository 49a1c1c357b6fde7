//! `tributary adopt`: what came and went while nobody looked becomes what it was.
//!
//! Owns: a partition that was made, written and dropped while the daemon was down, and the command that folds it.
//! Does not: fold by names (`patterns`), or watch partitions (`partitions`).
//! Holds: its rows are the root's, those that the stream brings later too.
//! Fails: with the oracle's differences.

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::Lake;
use testkit::postgres::DATABASE;
use testkit::wait::seconds;
use testkit::{Cluster, Pipeline, scenario};

use crate::rig::{self, Kind, LakeRig};

#[test]
fn what_came_and_went_is_adopted() -> Result<()> {
    adopts(17, Kind::Directory)
}

#[test]
fn what_came_and_went_is_adopted_in_s3() -> Result<()> {
    adopts(14, Kind::S3)
}

/// T30
fn adopts(version: u32, kind: Kind) -> Result<()> {
    scenario(seconds(180), async |stage| {
        let cluster = Cluster::start(stage, version, &[]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster.execute(ROOT).await?;
        let lake = LakeRig::new(stage, kind).await?;
        let pipeline =
            rig::pipeline(stage, &cluster, lake.lake.clone(), |settings| settings.snapshot = "initial")
                .await?;
        pipeline.run_within(&["run", "--until", "now"], seconds(60)).await?.success()?;

        cluster.execute(MADE).await?;
        cluster.execute(CHANGED).await?;
        let between = cluster.value("select pg_current_wal_lsn()::text").await?.context("no position")?;
        // So much that the first run ends before what follows.
        cluster.execute("insert into narrow select g, 2, 'v' from generate_series(1, 200000) g").await?;
        cluster.execute(CHANGED_LATER).await?;
        cluster
            .execute("drop table orders_3; insert into orders values (3, 1, 'other', 'd', null, null)")
            .await?;
        pipeline.run_within(&["run", "--until", &between], seconds(60)).await?.success()?;

        let refused = pipeline.run(&["adopt", "public.orders_4", "public.orders"]).await?;
        ensure!(
            refused.code == 1 && refused.stderr.contains("the lake has no table public.orders_4"),
            "{refused:?}"
        );
        let refused = pipeline.run(&["adopt", "public.orders_3", "public.narrow"]).await?;
        ensure!(
            refused.code == 1 && refused.stderr.contains("cannot be folded onto public.narrow"),
            "{refused:?}"
        );
        let adopted = pipeline.run(&["adopt", "public.orders_3", "public.orders"]).await?.success()?;
        ensure!(adopted.text().contains("public.orders_3 is a leaf of it"), "{}", adopted.text());
        let again = pipeline.run(&["adopt", "public.orders_3", "public.orders"]).await?.success()?;
        ensure!(again.text().contains("nothing to do"), "{}", again.text());

        // Rows of it that come now are the root's by themselves.
        pipeline.run_within(&["run", "--until", "now"], seconds(60)).await?.success()?;
        let log = pipeline.run(&["inspect", "log", "--json"]).await?.success()?.text();
        ensure!(log.matches("\"orphan\"").count() == 1, "{log}");
        // As if it had not been dropped; the daemon does not see it.
        cluster.execute(MADE).await?;
        cluster.execute(CHANGED).await?;
        cluster.execute(CHANGED_LATER).await?;
        rig::compare(
            stage,
            &cluster,
            &pipeline,
            &["--exclude", "public.orders_3", "--adopted", "public.orders_3"],
        )
        .await?;
        refuse_more_of_it(&pipeline).await?;
        pipeline.refuse_unexpected_lines(&[ORPHANED])
    })
}

/// Its own table has what it had, and no more.
async fn refuse_more_of_it(pipeline: &Pipeline) -> Result<()> {
    let status = pipeline.run(&["inspect", "--json"]).await?.success()?;
    let status: serde_json::Value = serde_json::from_str(&status.stdout)?;
    let tables = status.pointer("/tables").and_then(|tables| tables.as_object()).into_iter().flatten();
    let is_it =
        |table: &&serde_json::Value| table.pointer("/table").is_some_and(|name| name == "public.orders_3");
    let rows: Vec<_> =
        tables.map(|(_, table)| table).filter(is_it).map(|table| table.pointer("/totals/rows")).collect();
    ensure!(rows == [Some(&serde_json::json!(ROWS))], "{rows:?}");
    Ok(())
}

/// A daemon was there, and no row of it is gone.
#[test]
fn what_postgres_still_has_is_not_adopted() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 16, &[]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster.execute(ROOT).await?;
        cluster.execute("create table orders_9 (like orders including all)").await?;
        let lake = Lake::Directory(stage.path("lake"));
        let pipeline = rig::pipeline(stage, &cluster, lake, |settings| settings.snapshot = "initial").await?;
        cluster.execute("insert into orders_9 values (1, 9, 'v', null, null, null); insert into orders values (9, 1, 'v', null, null, null)").await?;
        let mut daemon = pipeline.start_streaming().await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        let refused = pipeline.run(&["adopt", "public.orders_9", "public.orders"]).await?;
        ensure!(refused.code == 1 && refused.stderr.contains("stop the daemon first"), "{refused:?}");
        daemon.stop().await?;
        let refused = pipeline.run(&["adopt", "public.orders_9", "public.orders"]).await?;
        ensure!(
            refused.code == 1 && refused.stderr.contains("Postgres still has public.orders_9"),
            "{refused:?}"
        );
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

const ROOT: &str = "create table orders (id bigint, tenant int, v text, doc text, tags text[], at timestamptz, primary key (id, tenant)) partition by list (tenant);
    create table orders_1 partition of orders for values in (1);
    create table narrow (id bigint, tenant int, v text, primary key (id, tenant));
    insert into orders values (1, 1, 'v', 'd', '{a,null}', now()), (2, 1, 'v', 'd', null, null);
    insert into narrow values (1, 1, 'v');
    create publication tributary for all tables";

const MADE: &str = "create table orders_3 (v text, id bigint not null, tenant int not null, tags text[], doc text, at timestamptz, primary key (id, tenant));
    alter table orders attach partition orders_3 for values in (3);
    insert into orders_3 select 'v', g, 3, array['t' || g, null], repeat('d', 3000), 'infinity' from generate_series(1, 100) g";
/// Unchanged long values, a key that changes, and rows that go.
const CHANGED: &str = "update orders set v = 'w' where tenant = 3 and id <= 10; update orders set id = 1000 where tenant = 3 and id = 50; delete from orders where tenant = 3 and id between 96 and 100";
/// Inserted, updated, one deleted and inserted under another key, deleted; and the `T` at the end.
const ROWS: u64 = 100 + 10 + 2 + 5 + 1;
const CHANGED_LATER: &str = "update orders set v = 'x' where tenant = 3 and id between 5 and 20; delete from orders where tenant = 3 and id = 1000";

const ORPHANED: &str = "its rows go to a table of their own";
