//! What is written about the metrics elsewhere: the reference, rules, runbooks and dashboards.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

/// A path of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         The daemon serves them at `/metrics` of `http.listen`, by default `127.0.0.1:9187`, in the text format of Prometheus. `deploy/prometheus` has alerts\n\
         and `deploy/grafana` has dashboards that are made of them; [runbooks.md](runbooks.md) says what to do.\n\n\
         This file is made from their declarations: `UPDATE_GOLDEN=1 cargo test -p tributary reference` writes it anew.\n\n\
         Labels are bounded: after a thousand tables the rest share `table=\"(others)\"`, and after two thousand lossy columns those do. A histogram has\n\
         `_bucket`, `_sum` and `_count`. What is not known has no series.\n",
    );
    let mut section = "";
    for declared in Metrics::new().declared() {
        if declared.section != section {
            section = declared.section;
            let _ = write!(
                text,
                "\n## {section}\n\n| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n"
            );
        }
        let Declared { name, kind, unit, labels, help, .. } = declared;
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {} | {help} |", unit.label(), labels.join(", "));
    }
    text
}

#[test]
fn the_reference_is_current() {
    let made = reference();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path("docs/metrics.md"), &made).unwrap();
    }
    assert!(
        text("docs/metrics.md") == made,
        "docs/metrics.md is not what the declarations say; write it anew with UPDATE_GOLDEN=1"
    );
}

/// Names of metrics in a text, whatever surrounds them.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|symbol: char| !symbol.is_ascii_alphanumeric() && symbol != '_' && symbol != ':');
    let is_metric = |word: &&str| {
        (word.starts_with("tributary_") || word.starts_with("process_")) && !word.ends_with('_')
    };
    words.filter(is_metric).map(str::to_owned).collect()
}

/// In words a histogram has its own name, in a query that of one of its parts.
fn refuse_unknown_names(of: &str, text: &str) {
    let (metrics, is_prose) = (Metrics::new(), of.ends_with(".md"));
    let known = |name: &str| {
        metrics.declared().iter().any(|declared| {
            let rest = name.strip_prefix(declared.name);
            match declared.kind {
                "histogram" => {
                    matches!(rest, Some("_bucket" | "_sum" | "_count")) || (is_prose && rest == Some(""))
                }
                _ => rest == Some(""),
            }
        })
    };
    let unknown: Vec<String> = names(text).into_iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{of} names metrics that there are not: {unknown:?}");
}

#[test]
fn rules_name_only_metrics_that_there_are() {
    for name in ["deploy/prometheus/tributary.rules.yaml", "deploy/prometheus/tributary.rules.test.yaml"] {
        let text = text(name);
        assert!(names(&text).len() > 10, "{name} names some");
        refuse_unknown_names(name, &text);
    }
}

#[test]
fn every_alert_has_a_runbook_and_a_test_and_every_runbook_an_alert() {
    let (rules, tests) =
        (text("deploy/prometheus/tributary.rules.yaml"), text("deploy/prometheus/tributary.rules.test.yaml"));
    let runbooks = text("docs/runbooks.md");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    let sections: Vec<&str> =
        runbooks.split("\n## ").skip(1).filter(|section| section.starts_with("Tributary")).collect();
    let named: Vec<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
    assert_eq!(named, alerts, "a section for each alert, in the same order");
    for (alert, section) in alerts.iter().zip(sections) {
        for part in ["**What it means.**", "**Look at.**", "**Do.**", "**Never.**"] {
            assert!(section.contains(part), "{alert} has no {part}");
        }
        let anchor = format!("/docs/runbooks.md#{}\n", alert.to_ascii_lowercase());
        assert_eq!(rules.matches(&anchor).count(), 1, "{alert} links to its runbook");
        assert!(tests.contains(alert), "{alert} has a test");
    }
    assert_eq!(
        rules.matches("severity: critical").count() + rules.matches("severity: warning").count(),
        alerts.len()
    );
    refuse_unknown_names("docs/runbooks.md", &runbooks);
}

/// Every `expr` of a dashboard.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr" | "query", Value::String(text)) => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn dashboards_name_only_metrics_that_there_are() {
    let mut uids = BTreeSet::new();
    for name in ["deploy/grafana/fleet.json", "deploy/grafana/pipeline.json"] {
        let dashboard: Value = serde_json::from_str(&text(name)).unwrap();
        let mut found = Vec::new();
        expressions(&dashboard, &mut found);
        assert!(found.len() > 5, "{name} has queries");
        for expression in &found {
            assert!(
                !names(expression).is_empty()
                    || expression.starts_with("up{")
                    || expression.contains("ALERTS")
                    || expression == "prometheus",
                "{name}: {expression}"
            );
            refuse_unknown_names(name, expression);
        }
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{name} has an id of its own");
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: two panels have one id");
            assert!(
                panel["type"] == "row"
                    || panel["description"].as_str().is_some_and(|text| text.ends_with('.')),
                "{name}: {}",
                panel["title"]
            );
        }
    }
}
