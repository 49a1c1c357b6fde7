//! What a person types.
//!
//! Owns: setup, check, run, status, inspect, teardown, the pages of the daemon, and a clean stop.
//! Does not: break anything.
//! Holds: every command's exit code is as documented, and `--json` is JSON.
//! Fails: with what the command said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::daemon::{Lake, Settings};
use testkit::postgres::DATABASE;
use testkit::wait::{self, pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Pipeline, scenario};

use crate::rig;

#[test]
fn sigterm_publishes_everything_and_exits_0() -> Result<()> {
    scenario(seconds(150), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 15, false, &[]).await?;
        // Nothing would be cut by its age.
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.interval = "10m").await?;
        let daemon = pipeline.start_streaming().await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        workload.during_seconds(8).await?;
        workload.finish().await?;
        wait_until_received(&cluster, &daemon).await?;
        daemon.stop().await?;
        rig::compare(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// A last transaction that is larger than what the server may log by itself behind it.
async fn wait_until_received(cluster: &Cluster, daemon: &testkit::Daemon) -> Result<()> {
    cluster.execute("insert into ledger select -1, repeat(md5(random()::text), 30), 0, null").await?;
    let end = cluster.wal_lsn().await?;
    wait::until("receiving", seconds(30), async || {
        let received = daemon.position("received").await?;
        ensure!(received + 256 >= end, "received {received:X} of {end:X}");
        Ok(())
    })
    .await
}

#[test]
fn run_until_stops_by_itself() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.interval = "10m").await?;
        // Nothing happened yet.
        pipeline.run(&["run", "--until", "now"]).await?.success()?;
        rig::some_rows(&cluster, 1000).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        rig::some_rows(&cluster, 2000).await?;
        let lsn = cluster.value("select pg_current_wal_lsn()").await?.context("an LSN")?;
        pipeline.run(&["run", "--until", &lsn]).await?.success()?;
        rig::compare(stage, &cluster, &pipeline, &[]).await
    })
}

/// A wrong `lake.url` is found at once, whatever one wants to do there.
#[test]
fn a_lake_without_a_log_is_said_to_have_none() -> Result<()> {
    scenario(seconds(60), async |stage| {
        let cluster = rig::cluster(stage, 17, false, &[]).await?;
        let settings = Settings::new(cluster.url(DATABASE), rig::directory(stage));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        let commands: [&[&str]; 6] = [
            &["resync", "public.orders"],
            &["fsck"],
            &["verify"],
            &["repair"],
            &["inspect", "log"],
            &["setup", "--accept-publication"],
        ];
        for command in commands {
            let text = pipeline.run(command).await?.expect(1)?.text();
            ensure!(text.contains("has no log"), "{command:?}: {text}");
        }
        Ok(())
    })
}

#[test]
fn setup_repeated_changes_nothing() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let cluster = Cluster::start(stage, 15, &[]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster.execute("create table t (id int primary key, v text); create table no_key (v text);").await?;
        let settings = Settings::new(cluster.url(DATABASE), rig::directory(stage));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        // Without --apply it only prints the SQL.
        let printed = pipeline.run(&["setup"]).await?.success()?.stdout;
        ensure!(printed.to_lowercase().contains("create publication"), "no SQL in: {printed}");
        ensure!(slots(&cluster).await? == "0", "a slot was made without --apply");
        let first = pipeline.setup().await?;
        ensure!(
            first.text().contains("no_key"),
            "no warning of the table whose updates would fail: {}",
            first.text()
        );
        let (before, slot) = (lake_files(&pipeline)?, slot_position(&cluster).await?);
        pipeline.setup().await?;
        ensure!(lake_files(&pipeline)? == before, "the lake changed");
        ensure!(slot_position(&cluster).await? == slot && slots(&cluster).await? == "1", "the slot changed");
        cluster.execute("insert into t values (1, 'x')").await?;
        pipeline.run(&["run", "--until", "now"]).await?.success()?;
        rig::compare(stage, &cluster, &pipeline, &["--exclude", "public.no_key"]).await
    })
}

async fn slots(cluster: &Cluster) -> Result<String> {
    Ok(cluster.value("select count(*) from pg_replication_slots").await?.unwrap_or_default())
}

async fn slot_position(cluster: &Cluster) -> Result<u64> {
    cluster.confirmed("tributary").await
}

fn lake_files(pipeline: &Pipeline) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let Lake::Directory(folder) = &pipeline.settings.lake else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    collect(folder, &mut found)?;
    Ok(found)
}

fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else {
            found.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(())
}

#[test]
fn check_names_what_is_wrong_and_how_to_mend_it() -> Result<()> {
    scenario(seconds(90), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        let settings = Settings::new(cluster.url(DATABASE), rig::directory(stage));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        pipeline.setup().await?;
        let good = pipeline.run(&["check", "--json"]).await?.success()?;
        serde_json::from_str::<Value>(&good.stdout).context("check --json")?;
        pipeline.run(&["check"]).await?.success()?;
        for (names, is_good) in [("*", false), ("", true)] {
            cluster.configure(&format!("synchronous_standby_names = '{names}'"))?;
            cluster.value("select pg_reload_conf()").await?;
            pause(seconds(1)).await;
            let checked = pipeline.run(&["check"]).await?;
            ensure!((checked.code == 0) == is_good, "'{names}': {}", checked.text());
            ensure!(checked.text().contains("synchronous_standby_names") != is_good, "{}", checked.text());
        }
        cluster.execute("drop publication tributary").await?;
        let bad = pipeline.run(&["check"]).await?;
        ensure!(bad.code != 0 && bad.text().contains("tributary setup"), "{}", bad.text());
        Ok(())
    })
}

/// T12, T45, T46, T48: what the publications will not send, or not as it happened.
#[test]
fn t45_t46_t48_check_names_what_is_not_sent() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = Cluster::start(stage, 18, &[]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster
            .execute(
                "create table kept (id int primary key, note text, n int);
                 create table key_only (path text primary key, n int);
                 create table whole (id int primary key, note text); alter table whole replica identity full;
                 create table lists (id int primary key, a int, b int);
                 create table same (id int primary key, a int);
                 create table parts (id int primary key) partition by range (id);
                 create unlogged table parts_1 partition of parts for values from (0) to (10);
                 create schema shown; create unlogged table shown.queue (id int);
                 create unlogged table elsewhere (id int);
                 create publication one for table lists (id, a), same (id, a), parts,
                   kept where (id > 10), key_only where (n > 10 and path > ''), whole where (id > 10);
                 create publication two for table lists (id, b), same;
                 create publication three for tables in schema shown;",
            )
            .await?;
        let settings = Settings {
            publication: "one".to_owned(),
            ..Settings::new(cluster.url(DATABASE), rig::directory(stage))
        };
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        let told = checks(&pipeline).await?;
        ensure!(told.contains("warn row filters public.kept, public.key_only, public.whole:"), "{told}");
        ensure!(told.contains("warn row filters public.kept: a row that"), "{told}");
        ensure!(told.contains("warn unlogged tables public.parts_1:"), "{told}");
        ensure!(
            !told.contains("column lists") && !told.contains("queue") && !told.contains("elsewhere"),
            "{told}"
        );
        let both = pipeline
            .variant(stage, "both", |settings| settings.publication = "one\", \"two\", \"three".to_owned())?;
        let told = checks(&both).await?;
        ensure!(
            told.contains("fail column lists the publications name different columns of public.lists:"),
            "{told}"
        );
        ensure!(told.contains("warn unlogged tables public.parts_1, shown.queue:"), "{told}");
        Ok(())
    })
}

#[test]
fn status_pages_inspect_and_teardown() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |_| {}).await?;
        let mut daemon = pipeline.start_streaming().await?;
        rig::some_rows(&cluster, 1000).await?;
        daemon.wait_until_published(cluster.confirmed("tributary").await? + 1, seconds(60)).await?;
        pause(seconds(3)).await;
        for (path, word) in [
            ("/healthz", ""),
            ("/readyz", ""),
            ("/metrics", "tributary_"),
            ("/status.json", "published"),
            ("/", "<"),
        ] {
            let reply = daemon.get(path).await?;
            ensure!(
                reply.status == 200 && reply.text().contains(word),
                "{path}: {} {}",
                reply.status,
                reply.text()
            );
        }
        let running = status(&pipeline).await?;
        ensure!(running.get("state").is_some_and(|state| state == "streaming"), "{running}");
        daemon.stop().await?;
        let stopped = status(&pipeline).await?;
        ensure!(stopped.get("state").is_some_and(|state| state == "stopped"), "{stopped}");
        let rows = |document: &Value| -> Option<u64> {
            let tables = document.get("tables")?.as_array()?;
            let orders =
                tables.iter().find(|table| table.get("table").is_some_and(|name| name == "public.orders"))?;
            orders.get("rows")?.as_u64()
        };
        ensure!(rows(&stopped) == Some(102), "orders in {stopped}");
        pipeline.run(&["status"]).await?.success()?;
        pipeline.run(&["inspect"]).await?.success()?;
        pipeline.run(&["teardown", "--yes"]).await?.success()?;
        ensure!(slots(&cluster).await? == "0", "the slot is still there");
        pipeline.refuse_unexpected_lines(&[])
    })
}

/// What `check` found, a line each.
async fn checks(pipeline: &Pipeline) -> Result<String> {
    let outcome = pipeline.run(&["check", "--json"]).await?;
    let document: Value = serde_json::from_str(&outcome.stdout).context("check --json")?;
    let checks = document.get("checks").and_then(Value::as_array).context("checks")?;
    let word =
        |check: &Value, name: &str| check.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let line =
        |check| format!("{} {} {}\n", word(check, "state"), word(check, "check"), word(check, "found"));
    Ok(checks.iter().map(line).collect())
}

async fn status(pipeline: &Pipeline) -> Result<Value> {
    let outcome = pipeline.run(&["status", "--json"]).await?.success()?;
    serde_json::from_str(&outcome.stdout).context("status --json")
}
