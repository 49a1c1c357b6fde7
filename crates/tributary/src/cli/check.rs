//! `tributary check`: everything the daemon needs, looked at before it runs.
//!
//! Owns: the list, the remedy of each failure, and the exit code: that of the first failure.
//! Does not: change anything but the probe's objects, which it deletes.
//! Holds: one failure does not hide the others; what cannot be looked at because of another failure is left out.
//! Fails: never by itself; a failure is an answer.

use serde_json::{Value, json};

use super::Answer;
use crate::config::{Config, StreamingMode};
use crate::error::{Error, Kind, Result};

mod lake_side;
mod old_rows;
mod omissions;
mod rows;
mod source_side;
mod standbys;

/// Arguments of `check`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CheckArgs {
    /// A standby that may be promoted, as a libpq URL: whether the lake would go on from there (Postgres 17 and newer). May be repeated
    #[arg(long, value_name = "URL")]
    pub standby: Vec<String>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What mends it: SQL, a setting, a command.
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    /// With what the daemon would exit with.
    Fail(Kind),
}

impl State {
    fn label(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail(_) => "fail",
        }
    }
}

/// The list, as it grows.
#[derive(Default)]
struct Report {
    checks: Vec<Check>,
}

impl Report {
    fn ok(&mut self, name: &'static str, found: impl Into<String>) {
        self.checks.push(Check { name, state: State::Ok, found: found.into(), remedy: None });
    }

    fn warn(&mut self, name: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        let remedy = Some(remedy.into());
        self.checks.push(Check { name, state: State::Warn, found: found.into(), remedy });
    }

    fn fail(&mut self, name: &'static str, kind: Kind, found: impl Into<String>, remedy: impl Into<String>) {
        let remedy = Some(remedy.into());
        self.checks.push(Check { name, state: State::Fail(kind), found: found.into(), remedy });
    }

    fn error(&mut self, name: &'static str, error: &Error) {
        let remedy = error.hint_text().map(str::to_owned);
        self.checks.push(Check { name, state: State::Fail(error.kind()), found: error.chain(), remedy });
    }

    /// Keeps the value, or the failure.
    fn take<T>(&mut self, name: &'static str, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.error(name, &error)).ok()
    }

    fn answer(self) -> Answer {
        let failure = self.checks.iter().find_map(|check| match check.state {
            State::Fail(kind) => Some(kind),
            State::Ok | State::Warn => None,
        });
        let code = failure.map_or(0, Kind::exit_code);
        let document = json!({
            "ok": failure.is_none(),
            "exit_code": code,
            "checks": self.checks.iter().map(document).collect::<Vec<Value>>(),
        });
        Answer { text: self.text(), document, code }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for check in &self.checks {
            out.push_str(&format!("{:<5} {:<19} {}\n", check.state.label(), check.name, check.found));
            for line in check.remedy.iter().flat_map(|remedy| remedy.lines()) {
                out.push_str(&format!("      {:<19} -> {line}\n", ""));
            }
        }
        let count = |label: &str| self.checks.iter().filter(|check| check.state.label() == label).count();
        out.push_str(&format!(
            "\n{} ok, {} warnings, {} failures\n",
            count("ok"),
            count("warn"),
            count("fail")
        ));
        out
    }
}

fn document(check: &Check) -> Value {
    json!({"check": check.name, "state": check.state.label(), "found": check.found, "remedy": check.remedy})
}

/// Looks at everything.
pub(super) async fn run(args: &CheckArgs, config: &Config) -> Result<Answer> {
    let mut report = Report::default();
    look_at_spool(&mut report, config);
    let log = Box::pin(lake_side::look(&mut report, config)).await;
    Box::pin(source_side::look(&mut report, args, config, log)).await;
    Ok(report.answer())
}

/// Where transactions are kept that Postgres sends before they have committed.
fn look_at_spool(report: &mut Report, config: &Config) {
    if config.source.streaming == StreamingMode::Off {
        return;
    }
    let room = config.source.spool();
    if report.take("spool", room.probe()).is_some() {
        report.ok(
            "spool",
            format!("{}: up to {} of open transactions", room.directory().display(), room.size()),
        );
    }
}

#[cfg(test)]
mod tests;
