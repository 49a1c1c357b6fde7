//! Metrics, alerts and dashboards, in a real Prometheus that scrapes a real daemon.
//!
//! Owns: `promtool` on the rules; every alert made to fire; every query of the dashboards asked.
//! Does not: draw; Grafana does.
//! Holds: what is asked is what is shipped, with shorter times. Thresholds that a test cannot reach are lowered in alerts of their own
//! (`…Lowered`), so that a healthy daemon fires none of the others.
//! Fails: with the alerts that do not fire, the queries that have no data, or the metric that is not true.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::daemon::{FAULTS, Lake, Settings};
use testkit::postgres::{DATABASE, Stop};
use testkit::process::{self, User, command};
use testkit::prometheus::Prometheus;
use testkit::proxy::Wire;
use testkit::s3::Server;
use testkit::wait::{pause, seconds};
use testkit::{Cluster, Pipeline, Proxy, Stage, place, scenario, wait};

/// Says so where Prometheus cannot be had.
fn is_missing() -> Result<bool> {
    let is_missing = !place::has_prometheus()?;
    if is_missing {
        eprintln!("SKIP: Prometheus could not be had, so nothing is known about alerts and dashboards");
    }
    Ok(is_missing)
}

fn shipped(name: &str) -> Result<String> {
    let path = place::repository()?.join("deploy").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[test]
fn the_rules_are_valid_and_do_what_their_tests_say() -> Result<()> {
    if is_missing()? {
        return Ok(());
    }
    scenario(seconds(60), async |stage| {
        for (what, file) in [("check", "tributary.rules.yaml"), ("test", "tributary.rules.test.yaml")] {
            let mut promtool = command(place::prometheus("promtool")?, User::Own);
            promtool.args([what, "rules"]).arg(place::repository()?.join("deploy/prometheus").join(file));
            process::run(&format!("promtool-{what}"), promtool, stage.folder(), seconds(60))
                .await?
                .success()?;
        }
        Ok(())
    })
}

/// Tables of every kind of trouble, and a daemon that may not read one of them.
struct Rig {
    cluster: Cluster,
    store: Proxy,
    _server: Server,
    pipeline: Pipeline,
}

impl Rig {
    async fn new(stage: &Stage) -> Result<Rig> {
        let settings = ["max_slot_wal_keep_size = '2GB'", "checkpoint_timeout = 1h", "max_wal_size = 4GB"];
        let cluster = Cluster::start(stage, 17, &settings).await?;
        cluster.execute_in("postgres", &format!("create database {DATABASE}")).await.ok();
        cluster.execute(TABLES).await?;
        let server = Server::ministack(stage).await?;
        let store = Proxy::start(server.port)?;
        let lake = Lake::S3 {
            server: server.port,
            daemon: store.port,
            prefix: "metrics".to_owned(),
            checksums: "always",
        };
        let mut settings = Settings::new(cluster.url(DATABASE), lake);
        settings.snapshot = "initial";
        settings.budget = "64MiB";
        // More than any test here fills: beyond it the daemon would halt.
        settings.env.push(("TRIBUTARY_SOURCE__WAL_BUDGET".to_owned(), "1GiB".to_owned()));
        let setup = Pipeline::new(stage, "setup", settings)?;
        setup.setup().await?;
        // Publications need their owner, and setup a superuser; it is the daemon that may not read.
        cluster.execute(READER).await?;
        let url = cluster.url(DATABASE).replace("postgres@", "reader@");
        let pipeline = setup.variant(stage, "pipeline", |settings| settings.source = url)?;
        Ok(Rig { cluster, store, _server: server, pipeline })
    }

    /// Values that no type of the lake holds, and a column that rows of before do not have as Postgres shows them.
    async fn trouble(&self) -> Result<()> {
        self.cluster.execute("insert into items (id, at) values (100001, 'infinity')").await?;
        pause(seconds(4)).await;
        self.cluster
            .execute(
                "alter table items add column later int default 7;
                 insert into items (id, at) values (100002, 'infinity'), (100003, now());
                 update items set note = 'n' where id = 1;",
            )
            .await
    }
}

#[test]
fn every_alert_can_be_made_to_fire() -> Result<()> {
    if is_missing()? {
        return Ok(());
    }
    scenario(seconds(300), async |stage| {
        let mut rig = Rig::new(stage).await?;
        let rules = shipped("prometheus/tributary.rules.yaml")?;
        let (shortened, lowered) = (shortened(&rules), lowered(&rules)?);
        let port = rig.pipeline.http_port();
        let mut daemon = rig.pipeline.start_streaming().await?;
        // Prometheus sees one daemon that runs.
        let rule_files = [("shortened.yaml", shortened.as_str()), ("lowered.yaml", lowered.as_str())];
        let prometheus = Prometheus::start(stage, &[port], &rule_files).await?;
        let known = prometheus.rules().await?;
        ensure!(
            known.iter().all(|rule| rule.get("health").is_none_or(|health| health != "err")),
            "{known:?}"
        );
        prometheus.wait_until_firing(&["TributarySnapshotSetAside"], seconds(40)).await?;
        pause(seconds(12)).await;
        let is_expected =
            |alert: &&String| alert.ends_with("Lowered") || *alert == "TributarySnapshotSetAside";
        let firing = prometheus.firing().await?;
        let unexpected: Vec<&String> = firing.iter().filter(|alert| !is_expected(alert)).collect();
        ensure!(unexpected.is_empty(), "a healthy daemon fires {unexpected:?}");

        stage.say("trouble with tables");
        let lock = rig.cluster.connect(DATABASE).await?;
        lock.batch_execute("begin; lock table held in access exclusive mode").await?;
        rig.pipeline.run(&["resync", "public.held"]).await?.success()?;
        rig.trouble().await?;
        let alerts = [
            "TributaryLossyCells",
            "TributaryNeedsResync",
            "TributarySnapshotStalled",
            "TributaryMemoryHighLowered",
            "TributaryFileDescriptorsLowered",
        ];
        prometheus.wait_until_firing(&alerts, seconds(40)).await?;
        lock.batch_execute("commit").await?;

        stage.say("the store is gone");
        rig.store.set(Wire::Cut);
        rig.cluster.execute(MUCH).await?;
        rig.cluster.execute("alter system set max_slot_wal_keep_size = '1MB'").await?;
        rig.cluster.execute("select pg_reload_conf()").await?;
        let alerts = [
            "TributaryStoreFailing",
            "TributaryPublishingStalled",
            "TributaryReadingPaused",
            "TributaryLaggingLowered",
            "TributarySlotRetainsWalLowered",
            "TributaryWalBudgetLowered",
            "TributaryWalBudgetNearlyUsedLowered",
            "TributarySlotNotAdvancingLowered",
            "TributarySlotNearLimitLowered",
            "TributarySlotInDanger",
            "TributaryCatalogHeldLowered",
            "TributaryStoreSlowLowered",
        ];
        prometheus.wait_until_firing(&alerts, seconds(60)).await?;
        rig.cluster.execute("alter system reset max_slot_wal_keep_size").await?;
        rig.cluster.execute("select pg_reload_conf()").await?;
        rig.store.set(Wire::Works);
        prometheus.wait_until_firing(&["TributaryNotFreshLowered"], seconds(60)).await?;
        daemon.wait_until_published(rig.cluster.wal_lsn().await?, seconds(90)).await?;

        stage.say("Postgres is gone");
        rig.cluster.stop(Stop::Fast).await?;
        let alerts = ["TributaryNotStreaming", "TributaryReconnectingLowered"];
        prometheus.wait_until_firing(&alerts, seconds(40)).await?;
        rig.cluster.resume().await?;

        stage.say("the daemon is gone, and comes back again and again");
        daemon.kill()?;
        prometheus.wait_until_firing(&["TributaryDown", "TributaryAbsent"], seconds(30)).await?;
        for _ in 0..3 {
            daemon = rig.pipeline.start()?;
            pause(seconds(3)).await;
            daemon.kill()?;
        }
        prometheus.wait_until_firing(&["TributaryRestarting"], seconds(10)).await?;

        let fired = prometheus
            .query("count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[10m]))")
            .await?;
        let fired: BTreeSet<&str> = fired
            .iter()
            .filter_map(|one| Some(one.pointer("/metric/alertname")?.as_str()?.trim_end_matches("Lowered")))
            .collect();
        let missing: Vec<&str> = alerts_of(&rules).filter(|alert| !fired.contains(alert)).collect();
        ensure!(missing.is_empty(), "these never fired: {missing:?}");
        for rule in prometheus.rules().await? {
            ensure!(!rule.to_string().contains("error expanding"), "a template is wrong: {rule}");
        }
        let expected =
            [FAULTS, &["is set aside", "needs to be read again", "may differ", "the store does not answer"]]
                .concat();
        rig.pipeline.refuse_unexpected_lines(&expected)
    })
}

#[test]
fn dashboards_have_data_of_a_running_daemon() -> Result<()> {
    if is_missing()? {
        return Ok(());
    }
    scenario(seconds(180), async |stage| {
        let rig = Rig::new(stage).await?;
        let mut daemon = rig.pipeline.start_streaming().await?;
        let prometheus = Prometheus::start(stage, &[rig.pipeline.http_port()], &[]).await?;
        // What comes later is in the stream and nowhere else.
        crate::snapshot::wait_until_read(&daemon, seconds(60)).await?;
        rig.trouble().await?;
        for round in 1..=12 {
            rig.cluster.execute(&format!("insert into items (id, at, note) select g, now(), 'x' from generate_series({round}000001, {round}000999) g")).await?;
            pause(seconds(1)).await;
        }
        // The slot is looked at every ten seconds, and curves need two points.
        let lsn = rig.cluster.wal_lsn().await?;
        daemon.wait_until_published(lsn, seconds(30)).await?;
        let mut asked = 0;
        for name in ["grafana/fleet.json", "grafana/pipeline.json"] {
            let dashboard: Value = serde_json::from_str(&shipped(name)?)?;
            for (title, expression) in expressions(&dashboard) {
                let query = expression
                    .replace("$job", "tributary")
                    .replace("$instance", ".*")
                    .replace("$__rate_interval", "20s");
                ensure!(!query.contains('$'), "{title}: a variable is left in {query}");
                wait::until(&format!("data of {name}, {title}: {query}"), seconds(15), async || {
                    let series = prometheus.query(&query).await?;
                    ensure!(!series.is_empty(), "no data");
                    Ok(())
                })
                .await?;
                asked += 1;
            }
        }
        stage.say(format!("{asked} queries have data"));
        figures_are_true(stage, &rig, &prometheus).await?;
        daemon.stop().await?;
        rig.pipeline.refuse_unexpected_lines(&["is set aside", "may differ"])
    })
}

/// Some of what is shown, against what Postgres and the store say.
async fn figures_are_true(stage: &Stage, rig: &Rig, prometheus: &Prometheus) -> Result<()> {
    wait::until("true figures", seconds(30), async || {
        let confirmed = rig.cluster.confirmed("tributary").await?;
        let shown = prometheus.value("tributary_confirmed_lsn").await?;
        let (confirmed, rows) = (
            confirmed as f64,
            rig.cluster.value("select count(*) + 1 from items").await?.context("rows")?.parse::<f64>()?,
        );
        ensure!((shown - confirmed).abs() < 1.0, "confirmed is {confirmed}, shown is {shown}");
        let published = prometheus.value("tributary_rows_total{table=\"public.items\"}").await?;
        ensure!((published - rows).abs() < 1.0, "{rows} rows and one update, shown are {published}");
        let keeps = prometheus.value("tributary_slot_wal_status{wal_status=\"reserved\"}").await?;
        ensure!((keeps - 1.0).abs() < 0.1, "the slot is reserved");
        let fresh =
            prometheus.value("tributary_freshness_seconds_sum / tributary_freshness_seconds_count").await?;
        ensure!((0.05..10.0).contains(&fresh), "cuts every second are {fresh} s old");
        let stages = prometheus.query("tributary_stage_seconds_count > 0").await?;
        ensure!(stages.len() == 7, "seven stages take time: {stages:?}");
        Ok(())
    })
    .await?;
    stage.say("what is shown is true");
    Ok(())
}

/// Titles and expressions of all panels.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard.get("panels").and_then(Value::as_array).into_iter().flatten();
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    panels
        .flat_map(|panel| {
            let title = text(panel, "title");
            let targets = panel.get("targets").and_then(Value::as_array).into_iter().flatten();
            targets.map(move |target| (title.clone(), text(target, "expr")))
        })
        .collect()
}

fn alerts_of(rules: &str) -> impl Iterator<Item = &str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "))
}

/// The rules with times that a test can wait for.
fn shortened(rules: &str) -> String {
    let mut text = String::new();
    for line in rules.lines() {
        let mut line = line.to_owned();
        if line.trim().starts_with("for: ") {
            "        for: 2s".clone_into(&mut line);
        }
        // Starts are seconds apart.
        let window = if line.contains("process_start_time_seconds") { "[60s]" } else { "[10s]" };
        for long in ["[10m]", "[15m]", "[30m]", "[1h]"] {
            line = line.replace(long, window);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Those whose thresholds a test cannot reach, with lower ones.
fn lowered(rules: &str) -> Result<String> {
    let mut text = shortened(rules);
    for (high, low) in [
        ("tributary_lag_seconds > 600", "tributary_lag_seconds > 5"),
        (
            "tributary_freshness_seconds_bucket[10s]))) > 600",
            "tributary_freshness_seconds_bucket[10s]))) > 5",
        ),
        ("tributary_slot_retained_bytes > 50e9", "tributary_slot_retained_bytes > 50e6"),
        ("tributary_wal_budget_bytes > 0.6", "tributary_wal_budget_bytes > 0.03"),
        ("tributary_wal_budget_bytes > 0.8", "tributary_wal_budget_bytes > 0.04"),
        ("tributary_slot_lag_bytes > 1e9", "tributary_slot_lag_bytes > 50e6"),
        ("tributary_slot_retained_bytes) < 0.25", "tributary_slot_retained_bytes) < 0.99"),
        ("_transactions > 100e6", "_transactions > 0"),
        ("(tributary_reconnects_total[10s]) > 5", "(tributary_reconnects_total[10s]) > 1"),
        ("complete_upload\"}[10s]))) > 5", "complete_upload\"}[10s]))) > 0.0001"),
        ("2 * tributary_memory_budget_bytes + 500e6", "0.1 * tributary_memory_budget_bytes"),
        ("(process_max_fds > 0) > 0.8", "(process_max_fds > 0) > 0.000001"),
    ] {
        ensure!(text.contains(high), "the rules have no {high} any more");
        text = text.replace(high, low);
    }
    for alert in alerts_of(rules) {
        text = text.replace(&format!("- alert: {alert}\n"), &format!("- alert: {alert}Lowered\n"));
    }
    Ok(text.replace("- name: tributary\n", "- name: lowered\n"))
}

const TABLES: &str = "
create table items (id bigint primary key, at timestamptz, note text);
insert into items select g, now(), 'x' from generate_series(1, 2000) g;
create table held (id int primary key);
insert into held select generate_series(1, 10);
create table denied (id int primary key);
insert into denied values (1);
create table heavy (id bigint primary key, body text);
create publication tributary for table items, held, denied, heavy;
";
const READER: &str = "
create role reader login replication;
grant select on all tables in schema public to reader;
revoke select on denied from reader;
grant create on database shop to reader;
";
/// More than the memory budget.
const MUCH: &str = "
insert into heavy select g, (select string_agg(md5((g * 100 + n)::text), '') from generate_series(1, 60) n) from generate_series(1, 60000) g;
";
