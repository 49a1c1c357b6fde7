//! Tables whose files are laid out by their own columns.
//!
//! Owns: tables with every transform, values that paths cannot hold, more partitions than may be open, updates where none should be, kills.
//! Does not: compute a partition; `tests/oracle/layout.py` does, and PyIceberg where it is installed.
//! Holds: DuckDB and PyArrow find every row once, by the values of its folders, and open only the folders that a filter names.
//! Fails: with the rows that lie elsewhere or differ from the source.

use anyhow::{Result, ensure};
use testkit::daemon::Lake;
use testkit::postgres::DATABASE;
use testkit::wait::seconds;
use testkit::{Cluster, Pipeline, Stage, lister, oracle, scenario};

use crate::rig::{self, Kind, LakeRig};

const TABLES: &str = "
    create table events (id int8 primary key, created_at timestamptz, note text);
    create table odd (id int8 primary key, region text, n int4, price numeric(12,2), flag bool);
    create table times (id int8 primary key, d date, at timestamp, short text, big int8);
    create table plain (id int8 primary key, n int4);
    alter table odd alter column region set storage external;
    create publication tributary for table events, odd, times, plain;";

const OVERRIDES: &str = r#"
[[tables.override]]
match = "public.*"
insert_only = true
partition_by = ["day(created_at)"]
open_partitions = 7
[[tables.override]]
match = "public.odd"
insert_only = true
partition_by = ["identity(region)", "truncate(10, n)", "bucket(3, price)", "identity(flag)"]
[[tables.override]]
match = "public.times"
insert_only = true
partition_by = ["year(d)", "hour(at)", "truncate(3, short)", "bucket(4, big)"]
[[tables.override]]
match = "public.plain"
partition_by = []
"#;

const BY_DAY: &[&str] = &["created_at_day=day(created_at)"];
const BY_ODD: &[&str] = &[
    "region_identity=identity(region)",
    "n_trunc=truncate(10, n)",
    "price_bucket=bucket(3, price)",
    "flag_identity=identity(flag)",
];
const BY_TIMES: &[&str] =
    &["d_year=year(d)", "at_hour=hour(at)", "short_trunc=truncate(3, short)", "big_bucket=bucket(4, big)"];

/// Rows of 300 days around 1970 and of odd values; ids from here on.
fn rows(first: u64) -> String {
    format!(
        "insert into events select {first} + g, timestamptz '1969-08-01 23:59:59.999999+00' + (g % 300) * interval '25 hours', 'n' || g
           from generate_series(0, 1999) g;
         insert into events values ({first} + 2000, null, 'null'), ({first} + 2001, 'infinity', 'end'), ({first} + 2002, '0044-03-15 BC', 'ides');
         insert into odd select {first} + g, r, g * 7 - 40, (g - 9) * 1.37, g % 3 = 0 from unnest(array['a/b', 'c:d=e', '100%', 'back\\slash', '',
           null, '__HIVE_DEFAULT_PARTITION__', 'Ünï 日本', '..', ' ', '_hidden', '.hidden', 'x''y\"z', E'tab\\there', 'eu', 'eu ', 'EU', '*?[]{{}}^#'])
           with ordinality as t(r, g);
         insert into odd select {first} + 100 + g, repeat(md5(g::text), 400), null, null, null from generate_series(1, 3) g;
         insert into odd values ({first} + 200, 'eu', -2147483648, 'NaN', null), ({first} + 201, 'eu', 2147483647, -0.01, true);
         insert into times select {first} + g, date '1969-12-30' + g::int, timestamp '1969-12-31 22:30:00' + g * interval '45 minutes',
           substr('日本語テキスト', 1 + g::int % 4), g * -1234567890123 from generate_series(0, 20) g;
         insert into times values ({first} + 100, null, null, null, null), ({first} + 101, '0001-01-01', '0001-01-01', '', -9223372036854775808),
           ({first} + 102, '9999-12-31', '9999-12-31 23:59:59.999999', 'a', 9223372036854775807);
         insert into plain select {first} + g, g from generate_series(0, 99) g;"
    )
}

async fn cluster(stage: &Stage, version: u32, tables: &str) -> Result<Cluster> {
    let cluster = Cluster::start(stage, version, &[]).await?;
    cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
    cluster.execute(tables).await?;
    Ok(cluster)
}

async fn pipeline(stage: &Stage, cluster: &Cluster, lake: Lake) -> Result<Pipeline> {
    rig::pipeline(stage, cluster, lake, |settings| {
        settings.overrides = OVERRIDES.to_owned();
        settings.snapshot = "initial";
    })
    .await
}

async fn look(stage: &Stage, cluster: &Cluster, lake: &str, table: &str, by: &[&str]) -> Result<()> {
    let dsn = cluster.dsn();
    let mut arguments = vec!["--dsn", &dsn, "--lake", lake, "--table", table, "--key", "id"];
    by.iter().for_each(|by| arguments.extend(["--by", by]));
    let outcome = oracle::script(stage, "layout.py", &arguments).await?;
    stage.say(format!("{table}: {}", outcome.text().trim()));
    ensure!(outcome.code == 0, "{table} is not laid out as it should be");
    Ok(())
}

/// What the lake says of the table that stays by commit time, and of rows that moved.
async fn ask(stage: &Stage, pipeline: &Pipeline, table: &str, sql: &str) -> Result<String> {
    let folder = format!("{}/public/{table}", pipeline.lake_url());
    Ok(oracle::script(stage, "query.py", &[&folder, sql]).await?.success()?.stdout.trim().to_owned())
}

#[test]
fn rows_lie_by_their_own_values() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let cluster = cluster(stage, 18, TABLES).await?;
        cluster.execute(&rows(1)).await?;
        let pipeline = pipeline(stage, &cluster, rig::directory(stage)).await?;
        let checked = pipeline.run(&["check"]).await?.success()?;
        ensure!(
            checked.stdout.contains("public.events is laid out by day(created_at)"),
            "{}",
            checked.text()
        );
        let mut daemon = pipeline.start_streaming().await?;
        cluster.execute(&rows(10_000)).await?;
        daemon.kill()?;
        daemon = pipeline.start_streaming().await?;
        cluster.execute(&rows(20_000)).await?;
        // What should not be there is not lost: by the values that it has, or with NULL where Postgres sends none.
        cluster
            .execute(
                "update events set created_at = '2026-11-24 12:00+00', note = 'moved' where id < 20;
                 update events set note = 'stays' where id between 30 and 40;
                 delete from events where id between 50 and 60;
                 update odd set n = 77 where id in (102, 103);
                 delete from odd where id = 2;
                 alter table events add column created_at_day text;
                 insert into events values (90000, '2026-11-25 00:00+00', 'new', 'a column with the name of a key');",
            )
            .await?;
        let end = cluster.wal_lsn().await?;
        cluster.execute("insert into plain values (1000000, 1)").await?;
        daemon.wait_until_published(end, seconds(60)).await?;
        let metrics = String::from_utf8_lossy(&daemon.get("/metrics").await?.body).into_owned();
        ensure!(metrics.contains("tributary_not_inserts_total{table=\"public.events\"} 41"), "{metrics}");
        daemon.stop().await?;
        pipeline.run_within(&["run", "--until", "now"], seconds(60)).await?.success()?;
        let lake = stage.path("lake").display().to_string();
        for (table, by) in [("public.odd", BY_ODD), ("public.times", BY_TIMES)] {
            look(stage, &cluster, &lake, table, by).await?;
        }
        let named =
            "select count(distinct id) from lake where created_at_day = '2026-11-25' and note = 'new'";
        ensure!(ask(stage, &pipeline, "events", named).await? == "1", "the key is the key");
        cluster.execute("alter table events drop column created_at_day").await?;
        look(stage, &cluster, &lake, "public.events", BY_DAY).await?;
        // A renamed column keeps its folders, at the next start as well.
        let renaming = "alter table times rename column d to dd; insert into times values (99999, '2031-05-05', null, null, null);";
        cluster.execute(renaming).await?;
        pipeline.run(&["check"]).await?.success()?;
        for _ in 0..2 {
            pipeline.run_within(&["run", "--until", "now"], seconds(60)).await?.success()?;
        }
        let renamed = "select count(distinct id) from lake where d_year::text = '2031' and dd = '2031-05-05'";
        ensure!(ask(stage, &pipeline, "times", renamed).await? == "1", "the folder keeps its name");
        ensure!(
            ask(stage, &pipeline, "plain", "select count(distinct id) from lake where cdc_hour is not null")
                .await?
                == "301"
        );
        pipeline.refuse_unexpected_lines(&[
            "a table that is laid out by columns as an insert-only one has updates or deletions",
            "rows go to more partitions at once than may be open",
            "a column of rows that were written before may differ",
        ])
    })
}

#[test]
fn rows_lie_by_their_own_values_in_s3() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let cluster = cluster(stage, 15, TABLES).await?;
        let rig = LakeRig::new(stage, Kind::S3).await?;
        let pipeline = pipeline(stage, &cluster, rig.lake.clone()).await?;
        cluster.execute(&rows(1)).await?;
        pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.success()?;
        let keys = lister::files(&pipeline.place())?;
        for folder in [
            "region_identity=a%2Fb/n_trunc=-40/price_bucket=",
            "region_identity=c%3Ad%3De/",
            "region_identity=Ünï 日本/",
            "region_identity=__HIVE_DEFAULT_PARTITION__/",
            "region_identity=%5F_HIVE_DEFAULT_PARTITION__/",
            "created_at_day=1969-08-01/",
            "created_at_day=__HIVE_DEFAULT_PARTITION__/",
        ] {
            ensure!(keys.iter().any(|key| key.contains(folder)), "no file lies in {folder}: {keys:?}");
        }
        pipeline.refuse_unexpected_lines(&["rows go to more partitions at once than may be open"])
    })
}

#[test]
fn tables_that_cannot_be_laid_out_so_are_refused() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let table = "create table t (id int8 primary key, f float8, j jsonb, a int4[], at timestamptz);
                     create publication tributary for table t";
        let cluster = cluster(stage, 16, table).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |_| {}).await?;
        let refused = async |name: &str, insert_only: bool, by: &str, words: &str| -> Result<()> {
            let changed = pipeline.variant(stage, name, |settings| {
                settings.overrides =
                    format!("[[tables.override]]\nmatch = \"public.t\"\ninsert_only = {insert_only}\npartition_by = [\"{by}\"]");
            })?;
            for command in [&["check"][..], &["run", "--until", "now"]] {
                let outcome = changed.run(command).await?;
                let text = outcome.text();
                ensure!(outcome.code == 2 && text.contains(words), "{command:?}: {} {text}", outcome.code);
            }
            Ok(())
        };
        refused(
            "float",
            true,
            "identity(f)",
            "public.t.f is double in the lake, which `identity(f)` does not take",
        )
        .await?;
        refused("json", true, "bucket(4, j)", "public.t.j is JSON in the lake").await?;
        refused("list", true, "identity(a)", "public.t.a is list<int> in the lake").await?;
        refused("missing", true, "day(created)", "public.t has no column `created`").await?;
        refused(
            "changing",
            false,
            "day(at)",
            "public.t is laid out by columns, and may have updates and deletions",
        )
        .await?;
        // Where nothing else is published, nothing has to be said.
        cluster.execute("alter publication tributary set (publish = 'insert, truncate')").await?;
        let inserts = pipeline.variant(stage, "inserts", |settings| {
            settings.overrides =
                "[[tables.override]]\nmatch = \"public.t\"\npartition_by = [\"day(at)\"]".to_owned();
            settings.lake = Lake::Directory(stage.path("lake-inserts"));
            settings.slot = "inserts".to_owned();
        })?;
        inserts.setup().await?;
        cluster.execute("insert into t values (1, 1, null, null, '2026-11-24 23:30+00')").await?;
        inserts.run(&["run", "--until", "now"]).await?.success()?;
        let found = ask(
            stage,
            &inserts,
            "t",
            "select id, created_day from (select id, at_day as created_day from lake)",
        )
        .await?;
        ensure!(found == "1|2026-11-24", "{found}");
        // Another layout from the next start on; what is written stays where it is.
        let hours = inserts.variant(stage, "hours", |settings| settings.overrides.clear())?;
        cluster.execute("insert into t values (2, 1, null, null, '2026-11-25 23:30+00')").await?;
        hours.run(&["run", "--until", "now"]).await?.success()?;
        let files = lister::files(&hours.place())?;
        let lies_in = |folder: &str| {
            files.iter().filter(|key| key.starts_with(folder) && key.ends_with(".parquet")).count()
        };
        ensure!(
            lies_in("public/t/data/at_day=2026-11-24/") == 1 && lies_in("public/t/data/cdc_date=") == 1,
            "{files:?}"
        );
        Ok(())
    })
}
