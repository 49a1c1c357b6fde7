//! A week in the life of tables that pg_partman manages.
//!
//! Owns: two parents, by day and by id, and seven days of load, splits of the default partition, retention and undoing, while the daemon
//! runs, is killed, or is down.
//! Does not: do what pg_partman does not do (`partitions`).
//! Holds: the clock stands, and the days come: what is stored lies ahead, and retention counts from the day that it is.
//! Fails: with the oracle's differences.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::daemon::FAULTS;
use testkit::partman::{self, Partman};
use testkit::postgres::DATABASE;
use testkit::wait::{pause, seconds};
use testkit::{Cluster, Pipeline, Stage, scenario};

use crate::rig;

/// T30, T31, T32
#[test]
fn a_week_of_pg_partman() -> Result<()> {
    week(15, Partman::Package)
}

#[test]
fn a_week_of_pg_partman_on_postgres_18() -> Result<()> {
    week(18, Partman::Package)
}

/// They fill a partition before they attach it, and a session of this version does not notice that.
#[test]
fn a_week_of_the_statements_of_pg_partman() -> Result<()> {
    week(14, Partman::Statements)
}

fn week(version: u32, wanted: Partman) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let cluster = Cluster::start(stage, version, &[]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster.execute(&format!("alter database {DATABASE} set timezone = 'UTC'")).await?;
        let installed = partman::install(&cluster, wanted).await?;
        if installed != wanted {
            stage.say("pg_partman is not here, and its statements stand in for it");
        }
        cluster.execute(TABLES).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |settings| {
            settings.snapshot = "initial";
            settings.on_gone = "mark";
            settings.refresh = "1s";
        })
        .await?;
        finish(stage, &cluster, &pipeline).await?;

        let mut waited = 0;
        let mut daemon = pipeline.start_streaming().await?;
        for day in 0..DAYS {
            cluster.execute(&load(day)).await?;
            cluster.execute(&changes(day)).await?;
            waited += in_default(&cluster).await?;
            for (i, statement) in maintenance(day).iter().enumerate() {
                cluster.execute(statement).await?;
                if (day, i) == KILLED {
                    daemon.kill()?;
                    daemon = pipeline.start()?;
                }
            }
            let left = in_default(&cluster).await?;
            ensure!(left == 0, "{left} rows are in the default partitions after day {day}");
            cluster.execute(&changes(day)).await?;
            if day + 1 == DOWN {
                daemon.kill()?;
                finish(stage, &cluster, &pipeline).await?;
                continue;
            }
            if day == DOWN {
                daemon = pipeline.start()?;
            }
            daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
            // So that somebody looked at what is gone before more goes.
            pause(seconds(3)).await;
        }
        ensure!(waited == WAITED, "{waited} rows were in the default partitions");
        cluster.execute(UNDO).await?;
        cluster.execute(&changes(DAYS)).await?;
        daemon.stop().await?;
        finish(stage, &cluster, &pipeline).await?;
        let gone = gone(&pipeline).await?;
        ensure!(gone == GONE, "the log tells of {gone} partitions that are gone");
        pipeline.refuse_unexpected_lines(FAULTS)
    })
}

async fn in_default(cluster: &Cluster) -> Result<u64> {
    let count = "select (select count(*) from visits_default) + (select count(*) from jobs_default)";
    Ok(cluster.value(count).await?.context("a number")?.parse()?)
}

/// The day's rows. Every third day brings some for a day that has no partition yet, so that this one is made out of turn, and the days between
/// have none when they come. At last rows come for days that are over: their partition was dropped, or is no partition any more.
fn load(day: i32) -> String {
    let visits = |ids: i32, at: i32, rows: i32| {
        format!(
            "insert into visits select {ids} + g, day({at}) + g * interval '20 minutes', 'page', {DOC} from generate_series(1, {rows}) g;"
        )
    };
    let jobs = |ids: i32, rows: i32| {
        format!("insert into jobs select {ids} + g, 'new', {DOC} from generate_series(1, {rows}) g;")
    };
    let first = day * 100;
    let mut sql = visits(first, day, 60) + &jobs(first, 50);
    if day % 3 == 0 {
        sql += &visits(first + 60, day + 3, 20);
        sql += &jobs(first + 370, 20);
    }
    if day >= DOWN {
        sql += &visits(first + 80, day - 5, 10);
    }
    sql
}

/// Rows everywhere change, with and without their large values. Some go to the day before, some get another id.
fn changes(day: i32) -> String {
    format!(
        "update visits set page = page || '.' where id % 5 = {day} % 5;
         update visits set doc = repeat(md5(page), 100) where id % 17 = {day};
         update visits set at = at - interval '1 day' where id % 23 = {day} and at >= day({day}) and at < day({day} + 1);
         delete from visits where id % 13 = {day};
         update jobs set state = state || '.' where id % 5 = {day} % 5;
         update jobs set id = id + 50 where id % 100 = {day} + 1;
         delete from jobs where id % 13 = {day}"
    )
}

/// What is called every day. Retention keeps two days and 400 ids, and by turns drops and detaches what is older.
fn maintenance(day: i32) -> [String; 4] {
    let keep = day % 2 == 1;
    [
        format!(
            "update partman.part_config set retention_keep_table = {keep},
             retention = case control when 'at' then (now() - day({day}) + interval '36 hours')::text else '400' end"
        ),
        "call partman.partition_data_proc('public.jobs', p_wait := 0)".to_owned(),
        "call partman.run_maintenance_proc()".to_owned(),
        "call partman.partition_data_proc('public.visits', p_wait := 0)".to_owned(),
    ]
}

/// Partitions of which the log says that they are gone, as often as it does.
async fn gone(pipeline: &Pipeline) -> Result<usize> {
    let outcome = pipeline.run(&["inspect", "log", "--last", "1000", "--json"]).await?.success()?;
    let log: Value = serde_json::from_str(&outcome.stdout).context("inspect log --json")?;
    let entries = log.as_array().context("entries")?;
    let events = entries.iter().filter_map(|entry| entry.get("events")?.as_array()).flatten();
    let detached = events.filter(|event| event.get("kind").and_then(Value::as_str) == Some("detach"));
    Ok(detached.filter_map(|event| Some(event.get("leaves")?.as_array()?.len())).sum())
}

async fn finish(stage: &Stage, cluster: &Cluster, pipeline: &Pipeline) -> Result<()> {
    let roots = ["--lax", "--renamed-leaves", "--table", "public.visits", "--table", "public.jobs"];
    rig::finish(stage, cluster, pipeline, &roots).await
}

const DAYS: i32 = 7;
/// The day, and the step of its maintenance, after which the daemon is killed and started again.
const KILLED: (i32, usize) = (2, 2);
/// The day that the daemon does not see.
const DOWN: i32 = 4;
/// Rows that maintenance finds in the default partitions, all days together.
const WAITED: u64 = 337;
/// Partitions that go. Two of them bear the same name.
const GONE: usize = 13;

/// Some of them are large, and stored out of line.
const DOC: &str = "case when g % 9 = 0 then repeat(md5(g::text), 100) else 'small' end";

const TABLES: &str = "
create table calendar as select date_trunc('day', now()) as today;
create function day(n int) returns timestamptz language sql stable return (select today + n * interval '1 day' from calendar);
create table visits (id bigint, at timestamptz, page text, doc text, primary key (id, at)) partition by range (at);
create table jobs (id bigint primary key, state text, doc text) partition by range (id);
alter table visits alter doc set storage external;
alter table jobs alter doc set storage external;
create table visits_template (like visits);
create unique index on visits_template (id);
select partman.create_parent('public.visits', 'at', 'native', 'daily', p_premake := 1, p_template_table := 'public.visits_template');
select partman.create_parent('public.jobs', 'id', 'native', '100', p_premake := 1);
update partman.part_config set ignore_default_data = true;
insert into visits select -g, day(-1) + g * interval '1 hour', 'before', repeat('x', 3000) from generate_series(1, 20) g;
create table jobs_apart (like jobs);
create publication tributary for table visits, jobs with (publish_via_partition_root = false);
";

/// Two partitions of one table become rows of another.
const UNDO: &str = "select partman.undo_partition('public.jobs', p_keep_table := false, p_target_table := 'public.jobs_apart')";
