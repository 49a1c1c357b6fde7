//! The proof that lake and source are equal: it holds where they are, and finds each kind of damage where they are not.
//!
//! Owns: proofs beside a daemon under load and after its death, on standbys, and of lakes that are damaged by hand.
//! Does not: look at every type; `types` does.
//! Holds: nothing is stopped for a proof, and it changes nothing.
//! Fails: with the answer of `tributary verify`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::daemon::{FAULTS, Settings};
use testkit::lister;
use testkit::postgres::DATABASE;
use testkit::wait::{self, pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Daemon, Pipeline, Stage, oracle, scenario};

use crate::rig;
use crate::snapshot::{LEAVES_DIFFER, SNAPSHOT_FAULTS};

#[test]
fn equal_under_load_by_leaf_14() -> Result<()> {
    equal_under_load(14, false)
}

#[test]
fn equal_under_load_by_leaf_18() -> Result<()> {
    equal_under_load(18, false)
}

#[test]
fn equal_under_load_via_root_18() -> Result<()> {
    equal_under_load(18, true)
}

/// Beside writers, and beside a daemon that dies in between.
fn equal_under_load(version: u32, via_root: bool) -> Result<()> {
    scenario(seconds(300), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, version, via_root, &["wal_sender_timeout = 5s"]).await?;
        rig::some_rows(&cluster, 1_000_000).await?;
        let pipeline =
            rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.snapshot = "initial").await?;
        let load = Load { truncate_leaves: !via_root, ddl: false, ..Load::new(seed) };
        let workload = Workload::new(&cluster, load);
        workload
            .during(async {
                for _ in 0..3 {
                    let mut daemon = pipeline.start_streaming().await?;
                    read(&daemon).await?;
                    for _ in 0..2 {
                        let report = verify(&pipeline, &[], None).await?;
                        ensure!(number(&report, "different") == 0, "{report:#}");
                        ensure!(number(&report, "equal") > 3, "{report:#}");
                    }
                    daemon.kill()?;
                }
                Ok(())
            })
            .await?;
        workload.finish().await?;
        let daemon = pipeline.start_streaming().await?;
        let report = verify(&pipeline, &[], Some(0)).await?;
        ensure!((number(&report, "different"), number(&report, "skipped")) == (0, 0), "{report:#}");
        let rows: u64 = tables(&report).map(|table| number(table, "rows")).sum();
        ensure!(rows > 100, "{report:#}");
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[FAULTS, SNAPSHOT_FAULTS, &[LEAVES_DIFFER]].concat())
    })
}

/// The snapshot of the standby is what is compared; the primary is asked for nothing.
#[test]
fn equal_on_a_standby() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let mut cluster = rig::cluster(stage, 17, false, &[]).await?;
        let standby = cluster.standby(stage, &["hot_standby_feedback = on"]).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |_| {}).await?;
        let there = pipeline.variant(stage, "standby", |settings: &mut Settings| {
            let url = standby.url(DATABASE);
            settings.env.push(("TRIBUTARY_SNAPSHOT__URL".to_owned(), url));
        })?;
        let workload = Workload::new(&cluster, Load { ddl: false, ..Load::new(seed) });
        let daemon = pipeline.start_streaming().await?;
        workload
            .during(async {
                pause(seconds(2)).await;
                for _ in 0..3 {
                    let report =
                        verify(&there, &["public.ledger", "public.customers", "public.profiles"], None)
                            .await?;
                    ensure!(number(&report, "different") == 0, "{report:#}");
                }
                Ok(())
            })
            .await?;
        workload.finish().await?;
        // A standby that stands still is compared where it stands.
        standby.execute("select pg_wal_replay_pause()").await?;
        let at = standby.value("select pg_last_wal_replay_lsn()::text").await?.context("no position")?;
        rig::some_rows(&cluster, 5_000_000).await?;
        let report = verify(&there, &["public.customers", "--at", &at], Some(0)).await?;
        ensure!(report.get("lsn").and_then(Value::as_str) == Some(&at), "{at}: {report:#}");
        standby.execute("select pg_wal_replay_resume()").await?;
        daemon.stop().await
    })
}

/// A transaction whose commit is logged and streamed, and that nobody sees since its session waits for a synchronous standby.
#[test]
fn what_waits_for_a_standby_does_not_count_yet() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let (cluster, pipeline) = own_tables(stage, 18).await?;
        let mut daemon = pipeline.start_streaming().await?;
        cluster.configure("synchronous_standby_names = 'nobody'")?;
        cluster.execute("select pg_reload_conf()").await?;
        let waiting =
            cluster.execute("set synchronous_commit = on; insert into proof values (777, 'waits', 'x')");
        let mut first = Value::Null;
        let proof = async {
            pause(seconds(3)).await;
            daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
            first = verify(&pipeline, &["public.proof"], Some(0)).await?;
            cluster.configure("synchronous_standby_names = ''")?;
            cluster.execute("select pg_reload_conf()").await
        };
        wait::both(waiting, proof).await?;
        let second = verify(&pipeline, &["public.proof"], Some(0)).await?;
        let rows = |report: &Value| tables(report).map(|table| number(table, "rows")).sum::<u64>();
        ensure!(rows(&second) == rows(&first) + 1, "{first:#} {second:#}");
        daemon.stop().await
    })
}

/// One kind of damage after the other: what `verify` says of it, and what `fsck` does.
#[test]
fn damage_is_found_and_narrowed() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let (cluster, pipeline) = own_tables(stage, 18).await?;
        let mut daemon = pipeline.start_streaming().await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        let clean = verify(&pipeline, &[], Some(0)).await?;
        ensure!(number(&clean, "equal") == 3, "{clean:#}");
        cluster.execute("update proof set note = 'changed' where id = 5").await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        verify(&pipeline, &[], Some(0)).await?;

        // A value that somebody edited: the key and the column are named, and no other value of the row.
        let path = newest(&pipeline, "public/proof/")?;
        let content = fs::read(&path)?;
        let file = path.display().to_string();
        let edited = oracle::script(stage, "damage.py", &[&file, "note", "forged"]).await?;
        ensure!(edited.code == 0, "{}", edited.text());
        let outcome = pipeline.run(&["verify"]).await?.expect(1)?.stdout;
        ensure!(
            outcome.contains("DIFFERENT  public.proof") && outcome.contains("id = 5: differs in note"),
            "{outcome}"
        );
        ensure!(!outcome.contains("forged") && !outcome.contains("changed"), "a value is shown: {outcome}");
        let outcome = pipeline.run(&["verify", "--keys", "0"]).await?.expect(1)?.stdout;
        ensure!(!outcome.contains("id = 5"), "{outcome}");
        pipeline.run(&["fsck", "--deep"]).await?.expect(1)?;
        fs::write(&path, &content)?;

        // A file that is gone.
        fs::remove_file(&path)?;
        let report = verify(&pipeline, &["public.*"], Some(1)).await?;
        let proof =
            tables(&report).find(|table| said(table, "table") == "public.proof").context("no table")?;
        ensure!(
            proof.get("files").is_some_and(|files| files.to_string().contains("it is missing")),
            "{proof:#}"
        );
        ensure!((number(&report, "equal"), number(&report, "different")) == (2, 1), "{report:#}");
        pipeline.run(&["fsck"]).await?.expect(1)?;
        fs::write(&path, &content)?;

        // A copy that no entry names: whoever reads the folder counts its rows, too.
        let copy = path.with_file_name("copy.parquet");
        fs::write(&copy, &content)?;
        let outcome = pipeline.run(&["verify"]).await?.expect(1)?.stdout;
        ensure!(
            outcome.contains("DIFFERENT  public.proof")
                && outcome.contains("/copy.parquet: no log entry that counts names it")
                && outcome.contains("2 tables with"),
            "{outcome}"
        );
        let found = pipeline.run(&["fsck"]).await?.expect(1)?.text();
        ensure!(found.contains("named by no log entry"), "{found}");
        fs::remove_file(&copy)?;

        // A log entry that is gone.
        let entry = pipeline_folder(&pipeline)?.join("_tributary/log/00000000000000000002.json");
        let logged = fs::read(&entry)?;
        fs::remove_file(&entry)?;
        let outcome = pipeline.run(&["verify"]).await?.expect(1)?.text();
        ensure!(outcome.contains("entry 2 is missing") && outcome.contains("tributary fsck"), "{outcome}");
        pipeline.run(&["fsck"]).await?.expect(1)?;
        fs::write(&entry, &logged)?;

        verify(&pipeline, &[], Some(0)).await?;
        daemon.stop().await
    })
}

/// What differs on purpose, what is not there, and what nobody brings up to date.
#[test]
fn answers_and_exit_codes() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let (cluster, pipeline) = own_tables(stage, 15).await?;
        let mut daemon = pipeline.start_streaming().await?;
        let metrics = stage.path("verify.prom");
        let report = verify(&pipeline, &["--metrics-file", &metrics.display().to_string()], Some(0)).await?;
        ensure!(report.get("proved") == Some(&Value::Bool(true)), "{report:#}");
        let text = fs::read_to_string(&metrics)?;
        ensure!(text.contains("tributary_verify_tables{verdict=\"equal\"} 3"), "{text}");
        pipeline.run(&["verify", "public.nothing"]).await?.expect(1)?;
        // A label that is renamed stays what it was in rows that are written.
        cluster.execute("alter type mood rename value 'low' to 'blue'").await?;
        let report = verify(&pipeline, &["public.feelings"], Some(1)).await?;
        let columns = report.pointer("/tables/0/rows/0/columns").map(Value::to_string);
        ensure!(columns.as_deref() == Some("[\"mood\"]"), "{report:#}");
        cluster.execute("alter type mood rename value 'blue' to 'low'").await?;
        // A column without a row yet is said.
        cluster.execute("alter table proof add column late int default 7").await?;
        let report = verify(&pipeline, &["public.proof"], Some(0)).await?;
        ensure!(report.to_string().contains("column late is not compared"), "{report:#}");
        cluster.execute("update proof set note = 'x' where id = 9").await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        verify(&pipeline, &["public.proof"], Some(0)).await?;
        // Truncated and filled again and again: whatever point is taken, it holds, or the table was changed under it.
        for round in 0..5 {
            cluster
                .execute(&format!("truncate proof; insert into proof values ({round}, 'again', null)"))
                .await?;
            let report = verify(&pipeline, &["public.proof"], Some(0)).await?;
            ensure!(tables(&report).all(|table| number(table, "rows") == 1), "{report:#}");
        }
        daemon.stop().await?;
        cluster.execute("insert into proof values (4711, 'late', null)").await?;
        let outcome = pipeline.run(&["verify", "--wait", "2"]).await?.expect(1)?.text();
        ensure!(outcome.contains("did not come to the source's"), "{outcome}");
        Ok(())
    })
}

/// A table that we may not read is said to be so, and the others are compared. A key that changes leaves rows that it does not supersede.
#[test]
fn what_cannot_be_compared_is_said() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let (cluster, pipeline) = own_tables(stage, 17).await?;
        cluster
            .execute(
                "create table scales (id int primary key, v numeric(60, 20)); create role reader login replication;
                 grant select on all tables in schema public to reader; revoke select on feelings from reader;
                 insert into scales values (1, 1.5), (2, 0)",
            )
            .await?;
        let url = cluster.url(DATABASE).replace("postgres@", "reader@");
        let pipeline = pipeline.variant(stage, "reader", |settings: &mut Settings| {
            settings.source = url;
            settings.overrides = "[types.override]\nnumeric = \"decimal(38,9)\"\n".to_owned();
        })?;
        let mut daemon = pipeline.start_streaming().await?;
        let report = verify(&pipeline, &[], Some(0)).await?;
        ensure!((number(&report, "equal"), number(&report, "skipped")) == (3, 1), "{report:#}");
        ensure!(report.to_string().contains("permission denied for table feelings"), "{report:#}");
        verify(&pipeline, &["public.feelings"], Some(1)).await?;

        cluster.execute("update proof set note = 'none' where note is null").await?;
        cluster
            .execute("alter table proof drop constraint proof_pkey, add primary key (id, note); update proof set note = 'other' where id = 2")
            .await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        let report = verify(&pipeline, &["public.proof"], Some(1)).await?;
        ensure!(report.to_string().contains("the key changed"), "{report:#}");
        let status = pipeline.run(&["status"]).await?.success()?.text();
        ensure!(status.contains("needs resync: ") && status.contains("the key changed"), "{status}");
        cluster.execute("grant select on feelings to reader").await?;
        pipeline.run(&["resync", "public.proof"]).await?.success()?;
        read(&daemon).await?;
        verify(&pipeline, &[], Some(0)).await?;
        daemon.stop().await
    })
}

/// Many more keys than fit into memory at once, and leaves by the hundred.
#[test]
fn a_large_table_takes_little_memory() -> Result<()> {
    scenario(seconds(300), async |stage| {
        let cluster = Cluster::start(stage, 18, &[]).await?;
        workload_database(&cluster).await?;
        cluster
            .execute(
                "create table big (id int8 primary key, note text) partition by hash (id);
                 do $$ begin for leaf in 0..299 loop
                   execute format('create table big_%s partition of big for values with (modulus 300, remainder %s)', leaf, leaf);
                 end loop; end $$;
                 create publication tributary for all tables",
            )
            .await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.budget = "64MiB").await?;
        let mut daemon = pipeline.start_streaming().await?;
        for round in 0..4 {
            let rows = format!(
                "insert into big select g, 'n' || g from generate_series({round} * 250000 + 1, {round} * 250000 + 250000) g"
            );
            cluster.execute(&rows).await?;
        }
        cluster
            .execute("update big set note = 'changed' where id % 10 = 0; delete from big where id % 1000 = 1")
            .await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(120)).await?;
        let report = verify(&pipeline, &["public.big"], Some(0)).await?;
        ensure!(tables(&report).all(|table| number(table, "rows") == 999_000), "{report:#}");
        daemon.stop().await
    })
}

async fn workload_database(cluster: &Cluster) -> Result<()> {
    cluster.execute_in("postgres", &format!("create database {DATABASE}")).await
}

/// Three tables of our own, with a key, with an enum and without a key, whose every row is in the stream.
async fn own_tables(stage: &Stage, version: u32) -> Result<(Cluster, Pipeline)> {
    let cluster = Cluster::start(stage, version, &[]).await?;
    workload_database(&cluster).await?;
    cluster
        .execute(
            "create type mood as enum ('low', 'high');
             create table proof (id int primary key, note text, doc text);
             create table feelings (id int primary key, mood mood);
             create table heap (entry text, amount numeric);
             alter table heap replica identity full;
             alter table proof alter doc set storage external;
             create publication tributary for all tables",
        )
        .await?;
    let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |_| {}).await?;
    cluster
        .execute(
            "insert into proof select g, 'n' || g, repeat('x', 3000 + g) from generate_series(1, 300) g;
             update proof set note = 'updated' where id % 3 = 0;
             update proof set id = id + 1000 where id % 50 = 0;
             update proof set id = id + 1000, note = null where id > 1000;
             delete from proof where id = 7;
             insert into feelings values (1, 'low'), (2, 'high');
             insert into heap values ('a', 1.50), ('a', 1.50), (null, 'NaN'), ('', -0.0);
             update heap set amount = 2 where ctid = '(0,1)';
             delete from heap where entry = ''",
        )
        .await?;
    Ok((cluster, pipeline))
}

/// The newest file of a table.
fn newest(pipeline: &Pipeline, prefix: &str) -> Result<PathBuf> {
    let files = lister::files(&pipeline.place())?;
    let name = |key: &String| key.rsplit('/').next().unwrap_or_default().to_owned();
    let newest = files.into_iter().filter(|key| key.starts_with(prefix)).max_by_key(name);
    Ok(pipeline_folder(pipeline)?.join(newest.context("no file")?))
}

fn pipeline_folder(pipeline: &Pipeline) -> Result<PathBuf> {
    match pipeline.place() {
        lister::Place::Directory(folder) => Ok(folder),
        lister::Place::Bucket { .. } => anyhow::bail!("not a folder"),
    }
}

/// Waits until the rows of before are in the lake.
async fn read(daemon: &Daemon) -> Result<()> {
    crate::snapshot::wait_until_read(daemon, seconds(60)).await.map(drop)
}

/// Runs a proof, which may end with a code only.
async fn verify(pipeline: &Pipeline, arguments: &[&str], code: Option<i32>) -> Result<Value> {
    let all = [&["verify", "--json", "--wait", "60"][..], arguments].concat();
    let outcome = pipeline.run_within(&all, seconds(120)).await?;
    let outcome = match code {
        Some(code) => outcome.expect(code)?,
        None => outcome,
    };
    serde_json::from_str(&outcome.stdout).with_context(|| outcome.text())
}

fn tables(report: &Value) -> impl Iterator<Item = &Value> {
    report.get("tables").and_then(Value::as_array).into_iter().flatten()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn said<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
