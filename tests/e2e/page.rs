//! The status page in a real Chromium, while the daemon runs.
//!
//! Owns: what is wrong with a page on any day, and whether its figures are true.
//! Does not: look at the pictures; a person does (`TRIBUTARY_KEEP=1` keeps them).
//! Holds: every name of a table is text, whatever it says.
//! Fails: with what the browser says, and the path of the pictures.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::daemon::{Daemon, Settings};
use testkit::postgres::DATABASE;
use testkit::proxy::Wire;
use testkit::wait::{self, pause, seconds};
use testkit::{Cluster, Pipeline, Proxy, Stage, oracle, place, scenario};

use crate::rig;

#[test]
fn the_page_is_legible_true_and_safe() -> Result<()> {
    let Some(chromium) = place::chromium() else {
        eprintln!("SKIP: Chromium could not be had, so nobody looks at the status page");
        return Ok(());
    };
    scenario(seconds(240), async |stage| {
        let cluster = Cluster::start(stage, 17, &["max_slot_wal_keep_size = '4GB'"]).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
        cluster.execute(TABLES).await?;
        let wire = Proxy::start(cluster.port)?;
        let mut settings = Settings::new(cluster.url(DATABASE), rig::directory(stage));
        settings.snapshot = "initial";
        settings.env.push(("TRIBUTARY_SOURCE__WAL_BUDGET".to_owned(), "256MiB".to_owned()));
        let setup = Pipeline::new(stage, "setup", settings)?;
        setup.setup().await?;
        cluster.execute(READER).await?;
        let url = format!("postgresql://reader@127.0.0.1:{}/{DATABASE}", wire.port);
        let pipeline = setup.variant(stage, "shop", |settings| settings.source = url)?;
        let mut daemon = pipeline.start_streaming().await?;
        crate::snapshot::wait_until_read(&daemon, seconds(60)).await?;
        // One table cannot be read for as long as somebody has it, so that the snapshot runs while the page is looked at.
        let lock = cluster.connect(DATABASE).await?;
        lock.batch_execute("begin; lock table held in access exclusive mode").await?;
        pipeline.run(&["resync", "public.held"]).await?.success()?;
        cluster.execute("alter table orders add column channel text default 'web'; insert into orders values (0, now(), 1, 'x', 'app')").await?;
        write(&cluster, 20).await?;
        wire.set(Wire::Cut);
        pause(seconds(2)).await;
        wire.set(Wire::Works);
        daemon.wait_until_streaming(seconds(60)).await?;
        pipeline.run(&["resync", "public.held"]).await?.success()?;
        write(&cluster, 25).await?;
        // The transaction that has the table keeps the log: two thirds of the budget and more, and less than four fifths.
        cluster.execute(FILL).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        wait::until("a budget that is used", seconds(30), async || {
            let status = daemon.status().await?;
            ensure!(status.pointer("/slot/level").and_then(Value::as_str) == Some("high"), "{status}");
            ensure!(
                status.pointer("/slot/held/0/by").and_then(Value::as_str) == Some("transaction"),
                "{status}"
            );
            Ok(())
        })
        .await?;
        let page = pipeline.get("/").await?.text();
        for words in [
            "<div class=\"card tile warn\" id=\"budget\">",
            " % of 256.0 MiB</span>",
            "commit it, or end its session",
        ] {
            ensure!(page.contains(words), "no {words:?} in {page}");
        }

        let port = pipeline.http_port();
        let arguments = [
            "--url",
            &format!("http://127.0.0.1:{port}/"),
            "--chromium",
            &chromium.display().to_string(),
            "--pictures",
            &stage.path("pictures").display().to_string(),
        ];
        let before = daemon.status().await?;
        let outcome = oracle::script(stage, "page.py", &arguments).await?.success()?;
        let after = daemon.status().await?;
        let looks: Value = serde_json::from_str(&outcome.stdout)?;
        let looks = looks.as_array().context("a list of looks")?;
        ensure!(looks.len() == 4, "two widths, light and dark");
        for look in looks {
            judge(look, &before, &after).with_context(|| look.to_string())?;
        }
        let grounds: Vec<&Value> = looks.iter().filter_map(|look| look.get("ground")).collect();
        ensure!(
            grounds.first() == grounds.get(2) && grounds.first() != grounds.get(1),
            "light and dark differ: {grounds:?}"
        );
        lock.batch_execute("commit").await?;
        stops(stage, daemon).await
    })
}

/// What one look saw, against what the daemon says of itself.
fn judge(look: &Value, before: &Value, after: &Value) -> Result<()> {
    let at = |path: &str| look.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let wrong = look.get("wrong").and_then(Value::as_array).context("what is wrong")?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    ensure!(look.get("requests").and_then(Value::as_u64) >= Some(2), "the page did not replace itself");
    ensure!(look.get("silent") == Some(&Value::Bool(false)), "the page believes that the daemon is gone");
    ensure!(at("/state") == "streaming" && at("/pipeline") == "tributary", "the heading");
    for name in ["received", "cut", "logged", "published", "confirmed"] {
        let of = |status: &Value| -> Result<u64> {
            let text = status
                .pointer(&format!("/positions/{name}"))
                .and_then(Value::as_str)
                .context("a position")?;
            testkit::postgres::parse_lsn(text)
        };
        let shown = testkit::postgres::parse_lsn(at(&format!("/positions/{name}")))?;
        ensure!((of(before)?..=of(after)?).contains(&shown), "{name} is shown as {shown:X}");
    }
    let tables = look.get("tables").and_then(Value::as_object).context("tables")?;
    let known = after.get("tables").and_then(Value::as_array).context("tables of the daemon")?;
    ensure!(tables.len() == known.len() && tables.len() >= 4, "{} tables are shown", tables.len());
    ensure!(tables.contains_key(&format!("public.{NASTY}")), "the table with a nasty name");
    for table in known {
        let name = table.get("table").and_then(Value::as_str).context("a name")?;
        let shown =
            tables.iter().find(|(shown, _)| shown.starts_with(name)).with_context(|| name.to_owned())?.1;
        let rows = shown.get(1).and_then(Value::as_str).context("rows")?.replace(',', "");
        ensure!(table.get("rows").map(Value::to_string) == Some(rows), "{name}: {shown} instead of {table}");
    }
    ensure!(at("/snapshot").contains("running") && at("/snapshot").contains("1 set aside"), "the snapshot");
    let errors = look.get("errors").and_then(Value::as_array).context("errors")?;
    ensure!(
        errors.iter().any(|error| error.as_str().is_some_and(|text| text.contains("tried again"))),
        "an error without a remedy"
    );
    ensure!(look.get("curves").and_then(Value::as_u64) >= Some(6), "the curves");
    Ok(())
}

async fn write(cluster: &Cluster, steps: u64) -> Result<()> {
    for step in 0..steps {
        let rows = 200 + 150 * (step % 7);
        cluster
            .execute(&format!(
                "insert into orders (at, customer, note) select now(), g, md5(g::text) from generate_series(1, {rows}) g;
                 insert into \"{NASTY}\" select coalesce(max(id), 0) + 1 from \"{NASTY}\";
                 update customers set name = name || '.' where id % 10 = {step} % 10;"
            ))
            .await?;
        pause(std::time::Duration::from_millis(400)).await;
    }
    Ok(())
}

async fn stops(stage: &Stage, daemon: Daemon) -> Result<()> {
    stage.say("the page was looked at four times");
    daemon.stop().await
}

const NASTY: &str = "<img src=x onerror=alert(1)>";
const TABLES: &str = "
create table orders (id bigint generated by default as identity primary key, at timestamptz, customer int, note text);
create table customers (id int primary key, name text);
insert into customers select g, 'c' || g from generate_series(1, 2000) g;
create table held (id int primary key, body text);
insert into held select g, repeat('x', 500) from generate_series(1, 20000) g;
create table denied (id int primary key);
insert into denied values (1);
create table filler (body text);
create table \"<img src=x onerror=alert(1)>\" (id int primary key);
create publication tributary for table orders, customers, held, denied, \"<img src=x onerror=alert(1)>\";
";
/// 170 MiB of log, and a little more, that nobody publishes.
const FILL: &str = "insert into filler select repeat('x', 1000) from generate_series(1, 170 * 950)";
const READER: &str = "
create role reader login replication;
grant select on all tables in schema public to reader;
revoke select on denied from reader;
grant create on database shop to reader;
";
