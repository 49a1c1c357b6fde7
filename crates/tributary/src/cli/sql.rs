//! `tributary sql`: statements with which a query engine reads the lake.
//!
//! Owns: which tables are meant, and where their folders begin.
//! Does not: write the statements (`reading`), run them, or ask Postgres.
//! Holds: it only reads the log and the names of files.
//! Fails: `Definite` when the lake has no such table; `Config` when the engine cannot reach a folder.

use lake::layout;
use lake::log::{State, TableState};
use lake::store::Store;
use serde_json::json;
use tables::schema::TableSchema;

use super::Answer;
use crate::clock;
use crate::config::{Config, Location};
use crate::error::{Error, Result};
use crate::layouts::Layouts;
use crate::pipeline::{self, bootstrap};
use crate::reading::{self, Engine, Folders, LakeTable};

/// Arguments of `sql`.
#[derive(Clone, Debug, clap::Args)]
pub struct SqlArgs {
    /// The engine that is to read the lake
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub engine: Engine,
    /// Tables as schema.table; `*` and `?` are wild. All of them by default
    #[arg(value_name = "TABLE")]
    pub tables: Vec<String>,
}

pub(super) async fn run(args: &SqlArgs, config: &Config) -> Result<Answer> {
    let is_local = matches!(config.lake.location()?, Location::Directory(_));
    if is_local && !matches!(args.engine, Engine::DuckDb | Engine::Spark) {
        return Err(Error::config("the lake is a folder of this host, which only DuckDB and Spark can read")
            .hint("--engine duckdb, or --engine spark"));
    }
    let store = pipeline::open_store(config).await?;
    let state = bootstrap::require_log(store.as_ref()).await?;
    let layouts = config.tables.layouts()?;
    let mut found = Vec::new();
    for table in choose(&state, &args.tables)? {
        let document: TableSchema = table.document.read().map_err(|error| {
            Error::definite(format!("the log has no readable schema of {}", table.table)).caused_by(error)
        })?;
        let folders = folders(store.as_ref(), &layouts, table, &document).await?;
        found.push(LakeTable::new(table, &document, &config.lake.url, folders));
    }
    reading::tell_apart(&mut found);
    Ok(answer(args.engine, &found))
}

/// The tables that are meant, by the names that they have or had in Postgres.
fn choose<'s>(state: &'s State, globs: &[String]) -> Result<Vec<&'s TableState>> {
    let mut chosen: Vec<&TableState> = Vec::new();
    if globs.is_empty() {
        chosen.extend(state.tables.values());
    }
    for glob in globs {
        let wanted = tables::fold::Selection::new(std::slice::from_ref(glob), &[])
            .map_err(|error| Error::config(format!("`{glob}` names no table")).caused_by(error))?;
        let is_wanted = |table: &&TableState| {
            let renamed = table.renamed.as_ref().map(|(schema, name)| (schema.as_str(), name.as_str()));
            let names =
                std::iter::once((table.schema_name.as_str(), table.table_name.as_str())).chain(renamed);
            names.into_iter().any(|(schema, name)| wanted.includes(schema, name)) || table.table == *glob
        };
        let before = chosen.len();
        chosen.extend(state.tables.values().filter(is_wanted));
        if chosen.len() == before {
            return Err(Error::definite(format!("the lake has no table {glob}"))
                .hint("`tributary inspect` lists the tables; one that has no row yet is none"));
        }
    }
    chosen.sort_by(|one, other| one.path.cmp(&other.path));
    chosen.dedup_by(|one, other| one.path == other.path);
    Ok(chosen)
}

async fn folders(
    store: &dyn Store,
    layouts: &Layouts,
    table: &TableState,
    document: &TableSchema,
) -> Result<Folders> {
    let renamed = table.renamed.as_ref().map(|(schema, name)| (schema.as_str(), name.as_str()));
    let names = std::iter::once((table.schema_name.as_str(), table.table_name.as_str())).chain(renamed);
    if let Some(rule) = layouts.of(names) {
        let spec = rule.spec(&table.table, document)?;
        return Ok(Folders::ByColumns(spec.fields.iter().map(|field| field.key.clone()).collect()));
    }
    // The first one in the order of names is the oldest.
    let prefix = format!("{}cdc_date=", layout::data_folder(&table.path));
    let first = store.list(&prefix, None, 1).await.map_err(lake::Error::from)?;
    let day =
        first.first().and_then(|listed| listed.key.strip_prefix(&prefix)).and_then(|rest| rest.get(..10));
    let since = match day {
        Some(day) => day.to_owned(),
        None => lake::time::rfc3339(clock::unix_micros()).chars().take(10).collect(),
    };
    Ok(Folders::ByCommit { since })
}

fn answer(engine: Engine, tables: &[LakeTable]) -> Answer {
    let mut text = String::new();
    let mut made: Vec<String> = Vec::new();
    let mut documents = Vec::new();
    for table in tables {
        let mut statements = Vec::new();
        text.push_str(&format!("-- {}\n", table.name.replace(char::is_control, " ")));
        for statement in reading::statements(engine, table) {
            statements.push(json!({"sql": statement.sql, "remarks": statement.remarks}));
            // The schema of several tables is made once.
            if made.contains(&statement.sql) {
                continue;
            }
            for remark in &statement.remarks {
                text.push_str(&format!("-- {remark}\n"));
            }
            text.push_str(&statement.sql);
            text.push_str(";\n\n");
            made.push(statement.sql);
        }
        let (view, changes) = reading::names(engine, table);
        documents
            .push(json!({"table": table.name, "view": view, "changes": changes, "statements": statements}));
    }
    let engine = clap::ValueEnum::to_possible_value(&engine).map(|value| value.get_name().to_owned());
    Answer::new(text, json!({"engine": engine, "tables": documents}))
}
