//! Rows that tables have before the first stream are read beside it.
//!
//! Owns: full tables before setup, on all kinds of servers and stores; kills and restarts in the middle of a snapshot; tables that cannot be
//! read, and tables that come later; what is left of slots.
//! Does not: look at chunks and points; the oracle knows what rows of a snapshot must look like.
//! Holds: the current state of the lake is the source's, whatever changed while it was read.
//! Fails: with the oracle's differences.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::daemon::{Daemon, FAULTS};
use testkit::postgres::Stop;
use testkit::random::Random;
use testkit::shuffle::{self, Shuffle};
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Pipeline, Stage, scenario, wait};

use crate::rig::{self, Kind, LakeRig};

#[test]
fn existing_rows_arrive_from_postgres_14() -> Result<()> {
    existing_rows_arrive(14, Kind::Directory, false)
}

#[test]
fn existing_rows_arrive_from_postgres_18() -> Result<()> {
    existing_rows_arrive(18, Kind::Directory, false)
}

#[test]
fn existing_rows_arrive_via_root() -> Result<()> {
    existing_rows_arrive(16, Kind::Directory, true)
}

#[test]
fn existing_rows_arrive_in_s3() -> Result<()> {
    existing_rows_arrive(15, Kind::S3, false)
}

fn existing_rows_arrive(version: u32, kind: Kind, via_root: bool) -> Result<()> {
    scenario(seconds(180), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, version, via_root, &[]).await?;
        fill(&cluster, seed, via_root).await?;
        let counted = "select count(*) from orders";
        let rows: u64 = cluster.value(counted).await?.context("a count")?.parse()?;
        ensure!(rows > 300, "only {rows} rows were there before");
        let lake = LakeRig::new(stage, kind).await?;
        let pipeline = initial(stage, &cluster, lake.lake.clone()).await?;
        let mut daemon = pipeline.start()?;
        let workload = Workload::new(&cluster, Load { truncate_leaves: !via_root, ..Load::new(seed) });
        workload
            .during(async {
                daemon.wait_until_streaming(seconds(60)).await?;
                let snapshot = wait_until_read(&daemon, seconds(60)).await?;
                // Beside partitions of `orders` that appear meanwhile.
                let is_table = |table: &&Value| !table.to_string().contains("public.orders_new");
                let count = tables(&snapshot).filter(is_table).count();
                ensure!(count == testkit::workload::TABLES.len(), "other tables: {snapshot}");
                ensure!(read(&snapshot) > rows, "{} rows were read: {snapshot}", read(&snapshot));
                Ok(())
            })
            .await?;
        workload.finish().await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[LEAVES_DIFFER, "a part of the snapshot is tried again"])?;
        only_our_slot(&cluster).await
    })
}

/// Rows that come between the creation of the slot and the first run are in the stream: they are not read as well.
#[test]
fn tables_that_were_empty_are_not_read() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 15, false, &[]).await?;
        cluster.execute("insert into profiles select g, 'before', 'd' from generate_series(1, 10) g").await?;
        let pipeline = initial(stage, &cluster, rig::directory(stage)).await?;
        rig::some_rows(&cluster, 1000).await?;
        cluster.execute("insert into profiles values (11, 'after', 'd')").await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        let log = pipeline.run(&["inspect", "log", "--json"]).await?.success()?.text();
        stage.say(&log);
        let read = log.matches("snapshot_chunk").count();
        ensure!(read == 1, "{read} tables were read");
        let status = pipeline.run(&["status", "--json"]).await?.success()?.text();
        let status: Value = serde_json::from_str(&status)?;
        let rows = |table: &str| {
            let tables = status.get("tables").and_then(Value::as_array).into_iter().flatten();
            let named = tables.filter(|known| known.get("table").is_some_and(|name| name == table));
            named.filter_map(|known| known.get("rows")?.as_u64()).sum::<u64>()
        };
        ensure!(rows("public.orders") == 102, "{status}");
        // 10 before, and the 11th both ways.
        ensure!(rows("public.profiles") == 12, "{status}");
        Ok(())
    })
}

/// With nothing else going on, the last cuts of a snapshot end where the one before ended: that must not look like the end.
#[test]
fn a_run_ends_with_every_row_published() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        shuffle::create(&cluster).await?;
        let settings = |settings: &mut testkit::daemon::Settings| {
            settings.snapshot = "initial";
            // So little that cuts are made early.
            settings.budget = "64MiB";
        };
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), settings).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[LEAVES_DIFFER])?;
        only_our_slot(&cluster).await
    })
}

/// Readers that wait for memory keep none, neither rows nor the room that rows left: the others, and the stream, would wait for it for ever.
#[test]
fn large_rows_are_read_within_the_smallest_budget() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let cluster = rig::cluster(stage, 17, false, &[]).await?;
        for table in 1..=4 {
            // A batch of four rows is as much as room is kept for.
            let many = format!(
                "create table large_{table} (id int primary key, doc text);
                alter table large_{table} alter doc set storage external;
                alter publication tributary add table large_{table};
                insert into large_{table} select g, repeat(md5(g::text), 28000) from generate_series(1, 40) g;
                insert into large_{table} select g, repeat(md5(g::text), 160000) from generate_series(41, 50) g"
            );
            cluster.execute(&many).await?;
        }
        let settings = |settings: &mut testkit::daemon::Settings| {
            settings.snapshot = "initial";
            settings.budget = "32MiB";
        };
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), settings).await?;
        let mut daemon = pipeline.start()?;
        daemon.wait_until_streaming(seconds(60)).await?;
        wait_until_read(&daemon, seconds(120)).await?;
        cluster.execute("insert into large_1 values (51, repeat('x', 5000000)); update large_2 set doc = 'small' where id = 1").await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

/// What was deleted from the lake's view by hand, and rows that nobody streamed, are mended by reading a table anew under load.
#[test]
fn resync_mends_a_table_under_load() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 16, false, &[]).await?;
        fill(&cluster, seed, false).await?;
        let pipeline = initial(stage, &cluster, rig::directory(stage)).await?;
        let mut daemon = pipeline.start()?;
        daemon.wait_until_streaming(seconds(60)).await?;
        wait_until_read(&daemon, seconds(60)).await?;
        // Neither is in the stream: a row that goes, one that comes and one that changes.
        let unseen = "begin; set local session_replication_role = replica; alter publication tributary drop table ledger, customers, orders;
            delete from orders_0 where id in (select min(id) from orders_0); insert into orders_0 (id, bucket, customer) values (987654321, 0, 'unseen');
            delete from ledger where ctid in (select ctid from ledger limit 5); insert into ledger values (4711, 'unseen', 1, 'm');
            update customers set name = 'unseen' where email in (select email from customers limit 3);
            delete from customers where email in (select max(email) from customers);
            alter publication tributary add table ledger, customers, orders; commit";
        cluster.execute(unseen).await?;
        let workload = Workload::new(&cluster, Load { ddl: false, ..Load::new(seed) });
        workload
            .during(async {
                let told =
                    pipeline.run(&["resync", "public.ledger", "public.customers", "public.orders_0"]).await?;
                let told = told.success()?.text();
                ensure!(told.lines().any(|line| line == "public.orders_0"), "{told}");
                pause(seconds(3)).await;
                wait_until_read(&daemon, seconds(60)).await.map(drop)
            })
            .await?;
        workload.finish().await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        // Without a daemon the log is told.
        cluster.execute("insert into ledger values (4712, 'seen', 1, 'm')").await?;
        pipeline.run(&["resync", "public.ledger"]).await?.success()?;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

/// What is read at several points must fit together, whatever moved and changed in between.
#[test]
fn kill_in_the_middle() -> Result<()> {
    scenario(seconds(300), async |stage| {
        let seed = rig::seed(stage)?;
        let mut random = Random::new(seed);
        let mut cluster = rig::cluster(stage, 17, false, &["wal_sender_timeout = 10s"]).await?;
        shuffle::create(&cluster).await?;
        fill(&cluster, seed, false).await?;
        // So that it is not over before the first kill.
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), slow("32MiB")).await?;
        let workload = Workload::new(&cluster, Load { ddl: false, workers: 2, ..Load::new(seed) });
        let (cluster_ref, random_ref) = (&mut cluster, &mut random);
        workload
            .during(async {
                let shuffle = Shuffle::start(cluster_ref, seed);
                for round in 0..ROUNDS {
                    let mut daemon = pipeline.start()?;
                    pause(Duration::from_millis(random_ref.between(1500, 4500))).await;
                    if round == 2 {
                        stage.say("restarting Postgres, immediate");
                        cluster_ref.restart(Stop::Immediate).await?;
                        pause(seconds(3)).await;
                    }
                    let ended = daemon.exited()?;
                    ensure!(ended.is_none(), "the daemon ended with {ended:?}: {}", daemon.tail());
                    if let Ok(status) = daemon.status().await {
                        stage.say(status.pointer("/snapshot").map(Value::to_string).unwrap_or_default());
                    }
                    daemon.kill()?;
                }
                let mut daemon = pipeline.start_streaming().await?;
                wait_until_read(&daemon, seconds(120)).await?;
                pause(seconds(2)).await;
                shuffle.stop().await;
                daemon.wait_until_published(cluster_ref.wal_lsn().await?, seconds(60)).await?;
                daemon.stop().await
            })
            .await?;
        let done = workload.finish().await?;
        stage.say(format!("{} transactions committed, {} undone", done.committed, done.undone));
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        let starts = pipeline.log()?.matches("reading the rows that tables have already").count();
        ensure!(starts >= 2, "the snapshot was not interrupted: it began {starts} times");
        only_our_slot(&cluster).await?;
        pipeline.refuse_unexpected_lines(&[FAULTS, &[LEAVES_DIFFER]].concat())
    })
}

#[test]
fn a_table_that_cannot_be_read_is_set_aside() -> Result<()> {
    refused("revoke select on customers from reader", "permission denied")
}

/// Rows that a policy hides must not be missing without a word.
#[test]
fn row_security_refuses() -> Result<()> {
    refused(
        "alter table customers enable row level security; create policy partly on customers using (email < 'c2')",
        "row-level security",
    )
}

fn refused(how: &str, why: &str) -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 16, false, &[]).await?;
        fill(&cluster, 1, false).await?;
        // Publications need their owner, and setup a superuser; it is the daemon that may not read.
        let setup = initial(stage, &cluster, rig::directory(stage)).await?;
        let reader = "create role reader login replication; grant select on all tables in schema public to reader; grant create on database shop to reader;";
        cluster.execute(&format!("{reader} {how}")).await?;
        let url = cluster.url(testkit::postgres::DATABASE).replace("postgres@", "reader@");
        let pipeline = setup.variant(stage, "reader", |settings| settings.source = url)?;
        let mut daemon = pipeline.start_streaming().await?;
        let snapshot = wait_until_read(&daemon, seconds(60)).await?;
        for table in tables(&snapshot) {
            let is_refused = table.get("table").and_then(Value::as_str) == Some("public.customers");
            let state = if is_refused { "set_aside" } else { "done" };
            ensure!(table.get("state").and_then(Value::as_str) == Some(state), "not {state}: {table}");
        }
        let log = pipeline.log()?;
        let line = log.lines().find(|line| line.contains("is set aside")).context("no word in the log")?;
        ensure!(line.contains("public.customers") && line.contains(why), "the log does not say why: {line}");
        rig::some_rows(&cluster, 700).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        daemon.stop().await?;
        // It is not waited for, either.
        pipeline.run_within(&["run", "--until", "now"], seconds(60)).await?.success()?;
        rig::compare(stage, &cluster, &pipeline, &["--exclude", "public.customers"]).await?;
        pipeline.refuse_unexpected_lines(&["is set aside", LEAVES_DIFFER])
    })
}

#[test]
fn tables_added_to_the_publication_arrive() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        fill(&cluster, 1, false).await?;
        let pipeline = initial(stage, &cluster, rig::directory(stage)).await?;
        let daemon = pipeline.start_streaming().await?;
        wait_until_read(&daemon, seconds(60)).await?;
        cluster.execute(ADDED).await?;
        rig::some_rows(&cluster, 1000).await?;
        daemon.stop().await?;
        let daemon = pipeline.start_streaming().await?;
        let snapshot = wait::until("the new tables", seconds(60), async || {
            let snapshot = wait_until_read(&daemon, seconds(30)).await?;
            let have: Vec<&str> =
                tables(&snapshot).filter_map(|table| table.get("table")?.as_str()).collect();
            let added = ["public.added", "public.added_heap", "public.added_parts"];
            ensure!(added.iter().all(|table| have.contains(table)), "they are not all there: {snapshot}");
            Ok(snapshot)
        });
        stage.say(snapshot.await?);
        cluster.execute("update added set body = 'changed' where id < 20; delete from added where id = 30; delete from added_heap where n = 3; insert into added_parts values (1000, 1)").await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[LEAVES_DIFFER])
    })
}

/// A slot that nobody reads would fill the source's disk; ours must move on while tables are read.
#[test]
fn no_slot_is_left() -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let mut random = Random::new(seed);
        let cluster = rig::cluster(stage, 15, false, &[]).await?;
        shuffle::create(&cluster).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), slow("6MiB")).await?;
        let workload = Workload::new(&cluster, Load { ddl: false, workers: 2, ..Load::new(seed) });
        workload
            .during(async {
                for _ in 0..4 {
                    let mut daemon = pipeline.start()?;
                    pause(Duration::from_millis(random.between(200, 1500))).await;
                    daemon.kill()?;
                }
                let daemon = pipeline.start_streaming().await?;
                let mut confirmed = Vec::new();
                loop {
                    let state = snapshot(&daemon).await?;
                    if state.get("state").and_then(Value::as_str) == Some("done") {
                        break;
                    }
                    confirmed.push(cluster.confirmed("tributary").await?);
                    pause(Duration::from_millis(500)).await;
                }
                let steps = confirmed.windows(2).filter(|pair| pair.first() < pair.last()).count();
                stage.say(format!("confirmed {steps} times in {} looks", confirmed.len()));
                ensure!(
                    confirmed.len() >= 4,
                    "the snapshot was too short to tell: {} looks",
                    confirmed.len()
                );
                ensure!(steps >= 2, "nothing was confirmed while tables were read: {confirmed:?}");
                only_our_slot(&cluster).await?;
                daemon.stop().await
            })
            .await?;
        workload.finish().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        only_our_slot(&cluster).await?;
        pipeline.refuse_unexpected_lines(&[FAULTS, &[LEAVES_DIFFER]].concat())
    })
}

/// Whoever starts the daemon by hand sees how far it is, and the lines of its log are whole.
#[test]
fn a_terminal_shows_bars_below_the_log() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 16, false, &[]).await?;
        fill(&cluster, 1, false).await?;
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), slow("6MiB")).await?;
        let columns = 90;
        let sent = pipeline.run_on_terminal(&["run", "--until", "now"], columns, 30).await?.success()?.stdout;
        let shown = |sent: &str| testkit::terminal::shown(sent, columns.into());
        // All six lines are there when the cursor goes up, to draw them again.
        let drawn = sent.rfind("\x1b[5A\r\x1b[2K").context("no bars")?;
        let middle = shown(sent.get(..drawn).unwrap_or_default());
        stage.say(middle.join("\n"));
        let bars = middle.iter().position(|line| line.starts_with("  snapshot, ")).context("no bar")?;
        ensure!(
            middle.iter().skip(bars).all(|line| line.starts_with("  ")),
            "a bar above the log: {middle:#?}"
        );
        let orders = |line: &String| line.starts_with("  public.orders") && line.contains('░');
        ensure!(middle.iter().any(orders), "no bar of a table: {middle:#?}");
        ensure!(middle.len() <= bars + 6, "too many bars: {middle:#?}");
        // What wraps at the end of a line is put together again.
        let mut end = shown(&sent);
        end.retain(|line| !line.is_empty());
        stage.say(end.join("\n"));
        ensure!(!end.iter().any(|line| line.contains(['░', '█'])), "bars are left: {end:#?}");
        let is_begin = |line: &str| line.starts_with("20") || line.starts_with("published up to");
        let begins = end.iter().filter(|line| is_begin(line)).count();
        let levels = end.join("").matches(" INFO ").count() + end.join("").matches(" WARN ").count();
        ensure!(levels >= 3 && begins == levels + 1, "{levels} lines in {begins}: {end:#?}");
        ensure!(
            end.last().is_some_and(|line| line.starts_with("published up to")),
            "the last line: {end:#?}"
        );
        rig::compare(stage, &cluster, &pipeline, &[]).await?;
        // A log that goes elsewhere is as it always was.
        let other = pipeline.run(&["run", "--until", "now"]).await?.success()?.text();
        ensure!(
            other.lines().all(|line| line.starts_with('{') || line.starts_with("published up to")),
            "{other}"
        );
        Ok(())
    })
}

/// The rows that are there are read at this rate.
fn slow(rate: &str) -> impl FnOnce(&mut testkit::daemon::Settings) {
    move |settings| {
        settings.snapshot = "initial";
        settings.env.push(("TRIBUTARY_SNAPSHOT__MAX_RATE".to_owned(), rate.to_owned()));
    }
}

async fn initial(stage: &Stage, cluster: &Cluster, lake: testkit::daemon::Lake) -> Result<Pipeline> {
    rig::pipeline(stage, cluster, lake, |settings| settings.snapshot = "initial").await
}

/// Rows in every table: those of the workload after some seconds, and some that are surely there.
pub(crate) async fn fill(cluster: &Cluster, seed: u64, via_root: bool) -> Result<()> {
    let workload =
        Workload::new(cluster, Load { truncate_leaves: !via_root, ddl: false, ..Load::new(seed ^ 1) });
    workload.during_seconds(3).await?;
    workload.finish().await?;
    cluster.execute(FILL).await
}

/// `snapshot` of the status.
async fn snapshot(daemon: &Daemon) -> Result<Value> {
    let status = daemon.status().await?;
    status.get("snapshot").cloned().with_context(|| format!("no snapshot in {status}"))
}

pub(crate) async fn wait_until_read(daemon: &Daemon, limit: Duration) -> Result<Value> {
    wait::until("the end of the snapshot", limit, async || {
        let snapshot = snapshot(daemon).await?;
        ensure!(snapshot.get("state").and_then(Value::as_str) == Some("done"), "not done: {snapshot}");
        Ok(snapshot)
    })
    .await
}

fn tables(snapshot: &Value) -> impl Iterator<Item = &Value> {
    snapshot.get("tables").and_then(Value::as_array).into_iter().flatten()
}

fn read(snapshot: &Value) -> u64 {
    tables(snapshot).filter_map(|table| table.get("rows").and_then(Value::as_u64)).sum()
}

pub(crate) async fn only_our_slot(cluster: &Cluster) -> Result<()> {
    let slots = cluster.value("select string_agg(slot_name, ' ') from pg_replication_slots").await?;
    ensure!(slots.as_deref() == Some("tributary"), "other slots than ours: {slots:?}");
    Ok(())
}

pub(crate) const LEAVES_DIFFER: &str = "a leaf has another replica identity than its root";
/// Warnings of a snapshot whose server is restarted.
pub(crate) const SNAPSHOT_FAULTS: &[&str] = &[
    "the snapshot waits, and is tried again",
    "a part of the snapshot is tried again",
    "the snapshot's point is lost",
];
const ROUNDS: u32 = 6;

const FILL: &str = "
insert into orders (id, bucket, customer, note, doc, tags, mood)
  select g, g % 6, 'c' || g, null, repeat(md5(g::text), 1 + g % 90), array['a', null], 'ok' from generate_series(5001, 5600) g;
insert into events (id, kind, body) select g, (array['click', 'view'])[1 + g % 2], repeat(md5(g::text), 1 + g % 90) from generate_series(5001, 5400) g;
insert into readings select g, g % 4, g, repeat(md5(g::text), 1 + g % 90) from generate_series(5001, 5400) g;
insert into customers (email, name, doc) select 'before' || g, 'b', repeat(md5(g::text), 1 + g % 90) from generate_series(1, 300) g;
insert into profiles select g, 'b', repeat(md5(g::text), 1 + g % 90) from generate_series(5001, 5300) g;
insert into ledger select g % 40, 'entry', 1, repeat('m', 3000 * (g % 2)) from generate_series(1, 400) g;
insert into oddities (n, d, ts, tz, t, un, f4, ints) select 'NaN', 'infinity', '-infinity', 'infinity', '24:00', 'NaN', 'NaN', '[5:6]={1,2}' from generate_series(1, 100);
";

const ADDED: &str = "
create table added (id int primary key, body text);
insert into added select g, repeat(md5(g::text), 80) from generate_series(1, 500) g;
create table added_heap (n int);
alter table added_heap replica identity full;
insert into added_heap select g % 10 from generate_series(1, 500) g;
create table added_parts (id int, part int, primary key (id, part)) partition by list (part);
create table added_parts_1 partition of added_parts for values in (1);
create table added_parts_2 partition of added_parts for values in (2);
insert into added_parts select g, 1 + g % 2 from generate_series(1, 200) g;
alter publication tributary add table added, added_heap, added_parts;
";
