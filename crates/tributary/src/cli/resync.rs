//! `tributary resync`: asks for tables to be read anew.
//!
//! Owns: whom to ask: the daemon that runs, else the log, where the next daemon finds it.
//! Does not: read anything.
//! Holds: the log is only written while nobody streams.
//! Fails: when no table matches; when a daemon streams that cannot be asked.

use lake::log::{EntryKind, Event};
use serde_json::json;

use super::Answer;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{self, ResyncAnswer};
use crate::pipeline::{self, bootstrap, offline};
use crate::resync;
use crate::source::{catalog, connect_sql};

/// Arguments of `resync`.
#[derive(Clone, Debug, clap::Args)]
pub struct ResyncArgs {
    /// Tables or partitions as schema.table; `*` and `?` are wild. With publish_via_partition_root a partition means its whole table
    #[arg(required = true, value_name = "GLOB")]
    pub tables: Vec<String>,
}

pub(super) async fn run(args: &ResyncArgs, config: &Config) -> Result<Answer> {
    let listen = config.http.listen.as_str();
    let running = match listen {
        "" => None,
        listen => http::ask_status(listen).await.filter(|found| found.pipeline == config.source.slot),
    };
    let (tables, by_daemon) = match running {
        Some(_) => (ask(listen, &args.tables).await?, true),
        None => (log(config, &args.tables).await?, false),
    };
    let mut text = String::new();
    for table in &tables {
        text.push_str(&format!("{table}\n"));
    }
    text.push_str(match by_daemon {
        true => "will be read anew; `tributary status` shows how far it is\n",
        false => "will be read anew by the next `tributary run`\n",
    });
    Ok(Answer::new(text, json!({"tables": tables, "by": if by_daemon { "daemon" } else { "next_run" }})))
}

async fn ask(listen: &str, globs: &[String]) -> Result<Vec<String>> {
    match http::ask_resync(listen, globs).await? {
        ResyncAnswer::Accepted(tables) => Ok(tables),
        ResyncAnswer::Refused(409, why) => Err(Error::definite(why)
            .hint("`tributary status` says what the daemon is doing; try again once it streams")),
        ResyncAnswer::Refused(_, why) => Err(Error::definite(why)),
    }
}

/// Without a daemon.
async fn log(config: &Config, globs: &[String]) -> Result<Vec<String>> {
    let store = pipeline::open_store(config).await?;
    let mut state = bootstrap::require_log(store.as_ref()).await?;
    let sql = connect_sql(&config.source_options()?).await?;
    let via_root = catalog::reach(&sql, &config.source.publication).await?.via_root;
    let chosen = resync::choose(&state, &config.tables.selection()?, globs, via_root);
    let chosen = chosen.map_err(Error::definite)?;
    offline::refuse_while_active(&sql, &state.slot).await.map_err(|error| {
        let listen = config.http.listen.as_str();
        error.hint(format!(
            "a daemon streams, and none answers at `http.listen` = \"{listen}\" of this configuration: \
             run `resync` with the daemon's configuration on its host, or stop it first"
        ))
    })?;
    let events = chosen.iter().map(|chosen| Event::SnapshotStart {
        table: chosen.table.clone(),
        relation: chosen.relation,
        root: chosen.root,
        supersedes: true,
        anew: true,
    });
    let (to_lsn, events) = (state.to_lsn, events.collect());
    offline::append(store.as_ref(), &mut state, EntryKind::Open, to_lsn, events).await?;
    Ok(chosen.iter().map(ToString::to_string).collect())
}
