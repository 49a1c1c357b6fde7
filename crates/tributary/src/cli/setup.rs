//! `tributary setup`: what Postgres needs before the daemon can run, printed as SQL or created.
//!
//! Owns: the order publication, slot, first log entry (a slot that is older than its publication can never be read, T51),
//! and saying what was done.
//! Does not: create roles or grant anything: a role cannot do that for itself, so that SQL is only printed.
//! Holds: with `--apply` only what is missing is created; repeated, nothing changes.
//! Fails: `SourceHalted` when slot and log do not belong together; `Config` when the role may not do it.

use std::time::Duration;

use lake::log;
use serde_json::{Value, json};

use super::Answer;
use crate::config::{Config, SnapshotMode};
use crate::error::{Error, Kind, Result};
use crate::pipeline::offline;
use crate::pipeline::{self, bootstrap, publication};
use crate::source::sql::Sql;
use crate::source::{ConnectOptions, Session, catalog, connect_sql, slot, standby};

mod identity;
mod plan;
mod statements;

pub(crate) use identity::{Remedy, remedies};
use plan::Plan;
pub(crate) use plan::{DdlEvents, ddl_events, publication_statement};
pub(crate) use statements::drop_ddl_events;

/// Arguments of `setup`.
#[derive(Clone, Debug, clap::Args)]
pub struct SetupArgs {
    /// Create what is missing: publication, slot, first log entry
    #[arg(long)]
    pub apply: bool,
    /// Begin the lake at the position of a slot that exists already
    #[arg(long, requires = "apply")]
    pub adopt_slot: bool,
    /// Have the stream tell of DDL, so that partitions that come and go are found at once (event triggers; a superuser makes them)
    #[arg(long)]
    pub ddl_events: bool,
    /// Record that the definition of the publication was changed on purpose
    #[arg(long)]
    pub accept_publication: bool,
}

pub(super) async fn run(args: &SetupArgs, config: &Config) -> Result<Answer> {
    let options = config.source_options()?;
    let sql = match connect_sql(&options).await {
        Ok(sql) => sql,
        // The very first time there is no role to sign in as; its SQL is what is asked for.
        Err(error) if !args.apply && !args.accept_publication && error.kind() == Kind::Config => {
            return Ok(offline(config, &options, &error));
        }
        Err(error) => return Err(error),
    };
    if args.accept_publication {
        return accept_publication(config, &sql).await;
    }
    let plan = plan::make(&sql, config, &options, args.ddl_events).await?;
    if args.apply { apply(args, config, &options, &sql, &plan).await } else { Ok(print(&plan)) }
}

/// The SQL, without a look at the database.
fn offline(config: &Config, options: &ConnectOptions, error: &Error) -> Answer {
    let role = statements::create_role(&options.user);
    let publication = config.source.publication.first().map(String::as_str).unwrap_or_default();
    let mut out = format!(
        "-- {} did not let us in: {}\n-- This is what it needs in any case; run `tributary setup` again once the role exists.\n\n",
        options.address(),
        error.chain()
    );
    out.push_str(&format!("{role}\n{}\n", statements::grant_connect(&options.database, &options.user)));
    let document = json!({"applied": false, "connected": false, "publication": publication, "steps": [
        {"step": "role", "state": "unknown", "sql": [role]},
    ]});
    Answer::new(out, document)
}

fn print(plan: &Plan) -> Answer {
    let mut out = String::from(
        "-- What Tributary needs in Postgres. Run it as an administrator, or let `tributary setup --apply` create\n-- publication and slot.\n",
    );
    for step in &plan.steps {
        out.push_str(&format!("\n-- {}: {}\n", step.title, step.state.label()));
        for statement in &step.sql {
            // What is there already is shown, but not to be run again.
            let prefix = if step.state == plan::StepState::Present { "-- " } else { "" };
            for line in statement.lines() {
                out.push_str(&format!("{prefix}{line}\n"));
            }
        }
    }
    out.push_str(&warnings_text(plan));
    out.push_str("\n-- Then: `tributary setup --apply` (or the first `tributary run`) creates the slot and the first log entry.\n");
    Answer::new(
        out,
        json!({"applied": false, "connected": true, "steps": steps(plan), "warnings": warnings(plan)}),
    )
}

async fn apply(
    args: &SetupArgs,
    config: &Config,
    options: &ConnectOptions,
    sql: &Sql,
    plan: &Plan,
) -> Result<Answer> {
    let store = pipeline::open_store(config).await?;
    store::probe(store.as_ref()).await.map_err(lake::Error::from)?;
    let slot = &config.source.slot;
    let has_log = log::load(store.as_ref()).await?.is_some();
    if has_log {
        refuse_missing_slot(sql, slot).await?;
    }
    let mut said: Vec<String> = Vec::new();
    for step in plan.steps.iter().filter(|step| step.state == plan::StepState::Administrator) {
        said.push(format!("needs an administrator: {}\n  {}", step.title, step.sql.join("\n  ")));
    }
    let missing: Vec<_> = plan.steps.iter().filter(|step| step.state == plan::StepState::Missing).collect();
    let mut created = Vec::new();
    let mut has_published = false;
    let writer = if missing.is_empty() { None } else { writer(config, sql, &missing).await? };
    for step in missing {
        for statement in &step.sql {
            let writer = writer.as_ref().unwrap_or(sql);
            writer.execute(&step.title, statement).await.map_err(|error| may_not(error, statement))?;
        }
        said.push(format!("created: {}", step.title));
        created.push(step.title.clone());
        has_published |= step.name == "publication";
    }
    if let Some(writer) = &writer {
        replayed(writer, sql).await?;
    }
    let done = bootstrap::create(store.as_ref(), config, options, sql, args.adopt_slot).await?;
    if let Some(lsn) = done.slot_created {
        said.push(format!("created: slot `{slot}` at {lsn}"));
    }
    if let Some(lsn) = done.slot_adopted {
        said.push(format!("took over: slot `{slot}` at {lsn}"));
    }
    if done.log_created {
        said.push(format!("created: the log of the lake at {}", store.url()));
    }
    let kept_by_standbys = keep_at_standbys(config, options, sql).await?;
    said.extend(kept_by_standbys.clone());
    if done == bootstrap::Done::default() && created.is_empty() && kept_by_standbys.is_none() {
        said.push("everything is there already; nothing was changed".to_owned());
    }
    let mut text = said.join("\n");
    text.push('\n');
    if has_log && has_published {
        // T52
        text.push_str(
            "warning: the slot is older than this publication; if its tables changed while there was none, the stream stops there\n",
        );
    }
    text.push_str(&warnings_text(plan));
    let document = json!({
        "applied": true, "connected": true, "created": created,
        "slot_created": done.slot_created, "slot_adopted": done.slot_adopted, "log_created": done.log_created,
        "steps": steps(plan), "warnings": warnings(plan),
    });
    Ok(Answer::new(text, document))
}

/// A session with the server that can be written to, if the source is a standby.
async fn writer(config: &Config, sql: &Sql, missing: &[&plan::Step]) -> Result<Option<Sql>> {
    if !catalog::server(sql).await?.in_recovery {
        return Ok(None);
    }
    if let Some(primary) = config.primary_options()? {
        return connect_sql(&primary).await.map(Some);
    }
    let statements: Vec<&str> = missing.iter().flat_map(|step| &step.sql).map(String::as_str).collect();
    Err(Error::config("the source is a standby, at which nothing can be created").hint(format!(
        "set `source.primary_url`, or run this on the primary, then `tributary setup --apply` again:\n{}",
        statements.join("\n")
    )))
}

/// What was created at the primary has to be there before a slot of the standby is made (T51).
async fn replayed(writer: &Sql, sql: &Sql) -> Result<()> {
    let Some(lsn) = catalog::written_lsn(writer).await? else { return Ok(()) };
    tokio::time::timeout(REPLAY_WAIT, standby::wait_for_replay(sql, lsn)).await.unwrap_or_else(|_elapsed| {
        Err(Error::transient(format!("the standby has not replayed {lsn} of its primary within {} s", REPLAY_WAIT.as_secs()))
            .hint("does it follow `source.primary_url`, and is its replay paused or delayed? then `tributary setup --apply` again"))
    })
}

/// A slot that was made without FAILOVER is given it; says so. `None` if there is nothing to do, or it cannot be done.
async fn keep_at_standbys(config: &Config, options: &ConnectOptions, sql: &Sql) -> Result<Option<String>> {
    let server = catalog::server(sql).await?;
    let name = &config.source.slot;
    if !config.source.failover || server.in_recovery || server.version < bootstrap::FIRST_WITH_FAILOVER {
        return Ok(None);
    }
    match slot::slot(sql, name).await? {
        Some(found) if found.failover == Some(false) && !found.active => {
            Session::connect(options).await?.alter_slot_to_failover(name).await?;
            Ok(Some(format!(
                "changed: standbys with sync_replication_slots keep a copy of slot `{name}` (FAILOVER)"
            )))
        }
        // `check` says what is to be done while it is in use.
        Some(_) | None => Ok(None),
    }
}

/// Records the publications as they are now, once a person has looked at them.
async fn accept_publication(config: &Config, sql: &Sql) -> Result<Answer> {
    let store = pipeline::open_store(config).await?;
    bootstrap::refuse_missing_publications(sql, config).await?;
    offline::refuse_while_active(sql, &config.source.slot).await?;
    let accepted = publication::accept(store.as_ref(), sql, &config.source.publication).await?;
    let names = config.source.publication.join(", ");
    let text = if accepted {
        let gained = match config.snapshot.mode {
            SnapshotMode::Initial => "tables that it gained are read by the next `tributary run`",
            SnapshotMode::Never => "tables that it gained come with what changes while they are published",
        };
        format!(
            "accepted the definition of publication {names}\n\
             what it left out of the other tables until now is not in the lake; {gained}\n"
        )
    } else {
        format!("publication {names} is what the log recorded; nothing was changed\n")
    };
    Ok(Answer::new(text, json!({"accepted": accepted})))
}

/// The log is there, so its slot has to be: one that is gone is never made anew beside it.
async fn refuse_missing_slot(sql: &Sql, name: &str) -> Result<()> {
    match slot::slot(sql, name).await? {
        Some(_) => Ok(()),
        None => Err(Error::halted(format!("the lake has a log, and its slot `{name}` does not exist"))
            .hint("what committed since the log's end cannot be read any more: set up a new `lake.url` prefix and slot")),
    }
}

fn may_not(error: Error, statement: &str) -> Error {
    let is_denied = crate::source::fault::server_error(&error).is_some_and(|server| server.code == "42501");
    if !is_denied {
        return error;
    }
    error.hint(format!(
        "this role may not; run it as an administrator, then `tributary setup --apply` again:\n{statement}"
    ))
}

fn steps(plan: &Plan) -> Value {
    let steps = plan.steps.iter().map(
        |step| json!({"step": step.name, "title": step.title, "state": step.state.label(), "sql": step.sql}),
    );
    Value::Array(steps.collect())
}

fn warnings(plan: &Plan) -> Value {
    let broken = plan.broken.iter().map(Remedy::document);
    json!({"update_and_delete_fail": broken.collect::<Vec<_>>(), "other": plan.warnings})
}

fn warnings_text(plan: &Plan) -> String {
    let mut out = String::new();
    for warning in &plan.warnings {
        out.push_str(&format!("\n-- warning: {warning}\n"));
    }
    if plan.broken.is_empty() {
        return out;
    }
    out.push_str("\n-- warning: while published, UPDATE and DELETE fail on these tables at the source, in your application:\n");
    for remedy in plan.broken.iter().take(BROKEN_SHOWN) {
        out.push_str(&format!("--   {}\n{}\n", remedy.what, remedy.sql));
    }
    if plan.broken.len() > BROKEN_SHOWN {
        out.push_str(&format!("--   and {} more tables: see --json\n", plan.broken.len() - BROKEN_SHOWN));
    }
    out
}

const BROKEN_SHOWN: usize = 50;
const REPLAY_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
