//! A real Prometheus that scrapes daemons every second.
//!
//! Owns: its configuration, its process and its queries.
//! Does not: know what should be in it.
//! Holds: it looks at rules as often as it scrapes.
//! Fails: with the end of its log, or what it says of a query.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::http;
use crate::place;
use crate::postgres::free_port;
use crate::process::{Process, User, command};
use crate::stage::Stage;
use crate::wait::{self, seconds};

/// A running server.
#[derive(Debug)]
pub struct Prometheus {
    /// The port.
    pub port: u16,
    _process: Process,
}

impl Prometheus {
    /// Starts one that scrapes these ports of this host, with files of rules by their name and text.
    pub async fn start(stage: &Stage, targets: &[u16], rules: &[(&str, &str)]) -> Result<Prometheus> {
        let folder = stage.path("prometheus");
        fs::create_dir_all(&folder)?;
        for (name, text) in rules {
            fs::write(folder.join(name), text)?;
        }
        let targets: Vec<String> = targets.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let names: Vec<&str> = rules.iter().map(|(name, _)| *name).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: {names:?}\n\
             scrape_configs: [{{job_name: tributary, static_configs: [{{targets: {targets:?}}}]}}]\n"
        );
        let file = folder.join("prometheus.yml");
        fs::write(&file, config)?;
        let port = free_port()?;
        let mut program = command(place::prometheus("prometheus")?, User::Own);
        program.arg(format!("--config.file={}", file.display()));
        program.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        program.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=warn");
        let mut process = Process::spawn("prometheus", program, &stage.path("prometheus.log"))?;
        wait::until("the start of Prometheus", seconds(30), async || {
            process.must_run()?;
            let reply = http::get(port, "/-/ready").await?;
            ensure!(reply.status == 200, "it is not ready: {}", reply.text());
            Ok(())
        })
        .await
        .with_context(|| process.tail())?;
        Ok(Prometheus { port, _process: process })
    }

    /// The series that an expression gives now.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let data = self.ask(&format!("/api/v1/query?query={}", encoded(expression))).await?;
        let result = data.get("result").and_then(Value::as_array).cloned();
        result.with_context(|| format!("{expression}: no result in {data}"))
    }

    /// The value of the only series that an expression gives.
    pub async fn value(&self, expression: &str) -> Result<f64> {
        let series = self.query(expression).await?;
        let [one] = series.as_slice() else { anyhow::bail!("{expression}: {} series", series.len()) };
        let text = one.pointer("/value/1").and_then(Value::as_str);
        Ok(text.with_context(|| format!("{expression}: no value"))?.parse()?)
    }

    /// The names of the alerts that fire.
    pub async fn firing(&self) -> Result<BTreeSet<String>> {
        let series = self.query("ALERTS{alertstate=\"firing\"}").await?;
        Ok(series
            .iter()
            .filter_map(|one| Some(one.pointer("/metric/alertname")?.as_str()?.to_owned()))
            .collect())
    }

    /// Waits until all these alerts fire.
    pub async fn wait_until_firing(&self, alerts: &[&str], limit: Duration) -> Result<()> {
        wait::until("alerts", limit, async || {
            let firing = self.firing().await?;
            let missing: Vec<&&str> = alerts.iter().filter(|alert| !firing.contains(**alert)).collect();
            ensure!(missing.is_empty(), "{missing:?} do not fire, {firing:?} do");
            Ok(())
        })
        .await
    }

    /// The rules as it understands them, with their alerts.
    pub async fn rules(&self) -> Result<Vec<Value>> {
        let data = self.ask("/api/v1/rules").await?;
        let groups = data.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
        let rules = groups.iter().filter_map(|group| group.get("rules")?.as_array());
        Ok(rules.flatten().cloned().collect())
    }

    async fn ask(&self, path: &str) -> Result<Value> {
        let reply = http::get(self.port, path).await?;
        ensure!(reply.status == 200, "{path} answers {}: {}", reply.status, reply.text());
        let answer: Value = serde_json::from_slice(&reply.body)?;
        answer.get("data").cloned().with_context(|| format!("no data in {answer}"))
    }
}

/// As a part of a URL.
fn encoded(text: &str) -> String {
    let mut url = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            url.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}
