//! `tributary sql`: what it prints works, in engines that are not ours.
//!
//! Owns: the statements of every engine held against another parser, and the views of DuckDB and Spark against the source.
//! Does not: ask Athena, Trino, Snowflake or Redshift.
//! Holds: a view has the rows of its table, whatever happened to them, and whatever their keys are.
//! Fails: with the differences.

use anyhow::{Context as _, Result, ensure};
use testkit::wait::seconds;
use testkit::workload::{self, Load, Workload};
use testkit::{Cluster, Pipeline, Stage, oracle, place, scenario};

use crate::rig;

#[test]
fn the_statements_of_every_engine_are_understood() -> Result<()> {
    scenario(seconds(60), async |stage| {
        let folder = place::repository()?.join("crates/tributary/src/reading/golden");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            files.push(entry?.path().display().to_string());
        }
        ensure!(files.len() == 6, "{files:?}");
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        stage.say(oracle::script(stage, "parse_sql.py", &files).await?.success()?.stdout);
        Ok(())
    })
}

#[test]
fn views_of_postgres_14_are_the_source() -> Result<()> {
    views(14, false)
}

#[test]
fn views_of_postgres_18_via_root_are_the_source() -> Result<()> {
    views(18, true)
}

fn views(version: u32, via_root: bool) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, version, via_root, &[]).await?;
        rig::some_rows(&cluster, 1000).await?;
        let pipeline =
            rig::pipeline(stage, &cluster, rig::directory(stage), |settings| settings.snapshot = "initial")
                .await?;
        let daemon = pipeline.start_streaming().await?;
        // By way of the root, Postgres does not send that a partition was truncated.
        let workload = Workload::new(&cluster, Load { truncate_leaves: !via_root, ..Load::new(seed) });
        workload.during_seconds(15).await?;
        workload.finish().await?;
        daemon.stop().await?;
        odd_things(&cluster).await?;
        odd_keys(&cluster).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        compare(stage, &cluster, &pipeline, "duckdb").await?;
        // A changed key whose document was never sent again, twice.
        cluster.execute("update docs set id = id + 100; update docs set id = id + 100").await?;
        pipeline.run(&["resync", "public.ledger"]).await?.success()?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        compare(stage, &cluster, &pipeline, "duckdb").await?;
        if std::env::var_os("TRIBUTARY_ENGINES").is_some_and(|value| value == "1") {
            compare(stage, &cluster, &pipeline, "spark").await?;
        }
        // Three times is too far for a view, and it says so.
        cluster.execute("update docs set id = id + 100").await?;
        pipeline.run(&["run", "--until", "now"]).await?.success()?;
        let outcome = look(stage, &cluster, &pipeline, "duckdb").await?;
        ensure!(
            outcome.code == 1 && outcome.stdout.contains("unresolved: public.docs: doc at"),
            "{}",
            outcome.text()
        );
        // The text of a large array of two dimensions stays in the row that brought it.
        cluster.execute("delete from docs; update grids set n = 1 where id = 1").await?;
        pipeline.run(&["run", "--until", "now"]).await?.success()?;
        let outcome = look(stage, &cluster, &pipeline, "duckdb").await?;
        ensure!(
            outcome.code == 1 && outcome.stdout.contains("unresolved: public.grids: steps at"),
            "{}",
            outcome.text()
        );
        Ok(())
    })
}

/// What the workload does not do: columns come, go and get other names, keys change beside large values, rows without a key repeat.
async fn odd_things(cluster: &Cluster) -> Result<()> {
    for sql in [
        "create table docs (id int primary key, doc text, remark text, n int)",
        "alter table docs alter doc set storage external",
        "alter publication tributary add table docs",
        "insert into docs select g, repeat(chr(64 + g), 5000), 'r' || g, g from generate_series(1, 20) g",
    ] {
        cluster.execute(sql).await?;
    }
    for sql in [
        "update docs set n = n + 1 where id < 10; update docs set doc = null where id = 3; update docs set n = 0 where id = 3",
        "alter table docs rename remark to note; update docs set note = note || '!' where id < 5",
        "alter table docs drop column n; alter table docs add column n bigint; update docs set n = 7 where id = 2",
        "delete from docs where id = 4; insert into docs values (4, 'anew', null, 1)",
        "insert into ledger select 9, 'twice', 5, null from generate_series(1, 3); delete from ledger where ctid = (select ctid from ledger where entry = 'twice' limit 1)",
    ] {
        cluster.execute(sql).await?;
    }
    Ok(())
}

/// Keys that are one value in the lake, where only `_cdc_raw` tells them apart: with large values beside them, deleted, changed and renamed.
async fn odd_keys(cluster: &Cluster) -> Result<()> {
    for sql in [
        "create table days (day date primary key, doc text, n int)",
        "alter table days alter doc set storage external",
        "create table moments (at timestamptz, steps int[], price numeric(6,2), n int, primary key (at, steps, price))",
        "create table spans (until timestamp, n int)",
        "alter table spans replica identity full",
        "create table grids (id int primary key, steps int[], n int)",
        "alter table grids alter steps set storage external",
        "alter publication tributary add table days, moments, spans, grids",
        "insert into grids select id, array[array_agg(g), array_agg(-g)], 0 from generate_series(1, 2000) g, generate_series(1, 2) id group by id",
        "insert into days select day, repeat(n::text, 5000), n from unnest(array['9999-12-31', '10000-01-01', '20000-01-01', 'infinity', '0001-01-01', '0044-03-15 BC', '-infinity']::date[]) with ordinality as every (day, n)",
        "insert into moments select at, steps, price, row_number() over () from unnest(array['9999-12-31 23:59:59.999999+00', '10000-01-01 00:00:00+00', 'infinity', '-infinity']::timestamptz[]) at, unnest(array[1.5, 'NaN']::numeric(6,2)[]) price, (values ('{1}'::int[]), ('[0:0]={1}'), ('{{1,2}}'), ('{{3,4}}')) as every (steps)",
        "insert into spans select until, 1 from unnest(array['9999-12-31 23:59:59.999999', '10000-01-01', 'infinity', 'infinity']::timestamp[]) until",
    ] {
        cluster.execute(sql).await?;
    }
    for sql in [
        "update days set n = n + 1",
        "delete from days where day in ('10000-01-01', '-infinity')",
        "alter table days rename day to today; update days set n = n + 1 where today = '20000-01-01'",
        "update days set today = '30000-01-01' where today = 'infinity'; insert into days values ('infinity', 'anew', 0)",
        "delete from days where today = '0044-03-15 BC'",
        "delete from moments where at = '10000-01-01 00:00:00+00' or steps = '{{3,4}}' or (at = 'infinity' and price = 'NaN')",
        "update moments set n = -n where steps = '{{1,2}}'",
        "delete from spans where until = '10000-01-01'; delete from spans where ctid = (select ctid from spans where until = 'infinity' limit 1)",
    ] {
        cluster.execute(sql).await?;
    }
    Ok(())
}

async fn compare(stage: &Stage, cluster: &Cluster, pipeline: &Pipeline, engine: &str) -> Result<()> {
    stage.say(look(stage, cluster, pipeline, engine).await?.success()?.stdout);
    Ok(())
}

async fn look(
    stage: &Stage,
    cluster: &Cluster,
    pipeline: &Pipeline,
    engine: &str,
) -> Result<testkit::process::Outcome> {
    let statements = pipeline.run(&["sql", "--engine", engine, "--json"]).await?.success().context("sql")?;
    let file = stage.path("statements.json");
    std::fs::write(&file, statements.stdout)?;
    let (dsn, file) = (cluster.dsn(), file.display().to_string());
    let arguments = [engine, "--dsn", &dsn, "--statements", &file, "--exclude", workload::UNPUBLISHED];
    if engine == "spark" {
        return oracle::script_of_engines(stage, "current.py", &arguments).await;
    }
    oracle::script(stage, "current.py", &arguments).await
}
