//! One budget bounds memory, whatever comes.
//!
//! Owns: a transaction of three million rows, and a gigabyte of large cells.
//! Does not: measure speed.
//! Holds: the largest resident size stays below the budget and what the program itself takes.
//! Fails: with the size, or with what is missing in the lake.

use anyhow::{Context as _, Result, ensure};
use testkit::postgres::DATABASE;
use testkit::wait::seconds;
use testkit::{Cluster, Pipeline, Stage, oracle, scenario};

use crate::rig;

#[test]
fn a_transaction_of_three_million_rows() -> Result<()> {
    three_million_rows("off")
}

#[test]
fn a_streamed_transaction_of_three_million_rows() -> Result<()> {
    three_million_rows("on")
}

fn three_million_rows(streaming: &'static str) -> Result<()> {
    scenario(seconds(540), async |stage| {
        let (cluster, pipeline) = prepare(
            stage,
            streaming,
            "create table big (id bigint, part int, v text, primary key (id, part)) partition by list (part);
             create table big_0 partition of big for values in (0); create table big_1 partition of big for values in (1);",
        )
        .await?;
        let rows = "insert into big select g, g % 2, 'value ' || g from generate_series(1, 3000000) g";
        stream(stage, &cluster, &pipeline, rows).await?;
        let sql = "select count(*), count(distinct _cdc_seq), min(_cdc_seq), max(_cdc_seq), sum(id), sum(length(v)), count(distinct _cdc_lsn) from lake";
        let lake = query(stage, &pipeline, "big", sql).await?;
        let source =
            "select concat_ws('|', count(*), count(*), 1, count(*), sum(id), sum(length(v)), 1) from big";
        let source = cluster.value(source).await?.context("a row")?;
        ensure!(lake == source, "lake {lake}, source {source}");
        Ok(())
    })
}

#[test]
fn a_gigabyte_of_large_cells() -> Result<()> {
    scenario(seconds(540), async |stage| {
        let (cluster, pipeline) = prepare(
            stage,
            "off",
            "create table big (id int primary key, v text); alter table big alter v set storage external;
             create table base as select b, string_agg(md5(random()::text), '') v from generate_series(1, 10) b, generate_series(1, 32768) g group by b;",
        )
        .await?;
        // Every cell is another turn of a random text, which no compression takes away.
        let rows = "insert into big select g, substr(v, g * 1000) || substr(v, 1, g * 1000 - 1) from generate_series(1, 1000) g join base on b = 1 + g % 10";
        stream(stage, &cluster, &pipeline, rows).await?;
        let sql = "select count(*), count(distinct (_cdc_lsn, _cdc_seq)), sum(length(v)), md5(string_agg(md5(v), '' order by id)) from lake";
        let lake = query(stage, &pipeline, "big", sql).await?;
        let source = "select count(*) || '|' || count(*) || '|' || sum(length(v)) || '|' || md5(string_agg(md5(v), '' order by id)) from big";
        let source = cluster.value(source).await?.context("a row")?;
        ensure!(lake == source, "lake {lake}, source {source}");
        Ok(())
    })
}

async fn prepare(stage: &Stage, streaming: &'static str, sql: &str) -> Result<(Cluster, Pipeline)> {
    let cluster = Cluster::start(stage, 18, &["max_wal_size = 4GB"]).await?;
    cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
    cluster.execute(sql).await?;
    cluster
        .execute(
            "create table marker (id int primary key); create publication tributary for table big, marker",
        )
        .await?;
    let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |settings| {
        settings.streaming = streaming;
        settings.budget = "256MiB";
        settings.interval = "5s";
        settings.file_size = "128MiB";
    });
    let pipeline = pipeline.await?;
    Ok((cluster, pipeline))
}

/// Lets the daemon publish the rows, and looks at its size.
async fn stream(stage: &Stage, cluster: &Cluster, pipeline: &Pipeline, rows: &str) -> Result<()> {
    let mut daemon = pipeline.start_streaming().await?;
    cluster.execute(rows).await?;
    stage.say("the transaction committed");
    // A position behind its commit; another transaction gets the daemon there at once.
    let end = cluster.wal_lsn().await?;
    cluster.execute("insert into marker values (1)").await?;
    daemon.wait_until_published(end, seconds(300)).await?;
    let peak = daemon.peak_rss()? >> 20;
    stage.say(format!("published; the largest resident size was {peak} MiB"));
    daemon.stop().await?;
    // Beside the budget: what the allocator keeps of buffers of many megabytes, which is 50 MiB more on a busy machine than on an idle one.
    ensure!(peak < 448, "the daemon took {peak} MiB with a budget of 256 MiB");
    pipeline.refuse_unexpected_lines(&[])
}

async fn query(stage: &Stage, pipeline: &Pipeline, table: &str, sql: &str) -> Result<String> {
    let outcome =
        oracle::script(stage, "query.py", &[&format!("{}/public/{table}", pipeline.lake_url()), sql]).await?;
    Ok(outcome.success()?.stdout.trim().to_owned())
}
