//! `tributary adopt`: folds a table that the catalogs did not know any more onto its root.
//!
//! Owns: which table of the lake each name means, and whether the one may be a leaf of the other.
//! Does not: copy rows (`pipeline::adoption`), or guess a root.
//! Holds: nothing is written while somebody streams, or while Postgres still has the leaf: it says better where that belongs.
//! Fails: `Definite`, naming the table and what is in the way.

use lake::log::{State, TableState};
use pgoutput::Oid;
use serde_json::json;

use super::{Answer, text};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline::adoption::{self, Pair};
use crate::pipeline::{self, bootstrap, offline};
use crate::source::{connect_sql, partitions};

/// Arguments of `adopt`.
#[derive(Clone, Debug, clap::Args)]
pub struct AdoptArgs {
    /// The table of the lake that was a partition, as schema.table
    #[arg(value_name = "LEAF")]
    pub leaf: String,
    /// The table that it was a partition of, as schema.table
    #[arg(value_name = "ROOT")]
    pub root: String,
}

pub(super) async fn run(args: &AdoptArgs, config: &Config) -> Result<Answer> {
    let store = pipeline::open_store(config).await?;
    let state = bootstrap::require_log(store.as_ref()).await?;
    let pair = Pair { leaf: find(&state, &args.leaf)?, root: find(&state, &args.root)? };
    let name = |oid: u32| state.tables.get(&oid).map(|table| table.table.clone()).unwrap_or_default();
    let (leaf, root) = (name(pair.leaf), name(pair.root));
    if state.lineage.get(&pair.root).is_some_and(|leaves| leaves.contains_key(&pair.leaf)) {
        let document = json!({"leaf": leaf, "root": root, "adopted": false});
        return Ok(Answer::new(format!("nothing to do: {leaf} is a leaf of {root} already\n"), document));
    }
    refuse_relatives(&state, pair)?;
    let sql = connect_sql(&config.source_options()?).await?;
    offline::refuse_while_active(&sql, &state.slot).await?;
    let there = partitions::existing(&sql, &[Oid(pair.leaf)]).await?;
    if !there.is_empty() {
        return Err(Error::definite(format!("Postgres still has {leaf}")).hint(format!(
            "attach it (`ALTER TABLE {root} ATTACH PARTITION …`), or fold it by a rule of `[[partitions.pattern]]`"
        )));
    }
    let copied = adoption::adopt(config, store, state, pair).await?;
    let answer = format!(
        "{} rows of {} files of {leaf} are rows of {root} now, and {leaf} is a leaf of it\n\
         they count no more in its own table\n",
        text::grouped(copied.rows),
        text::grouped(copied.files)
    );
    let document =
        json!({"leaf": leaf, "root": root, "adopted": true, "rows": copied.rows, "files": copied.files});
    Ok(Answer::new(answer, document))
}

/// The OID of a table of the lake by any of its names.
fn find(state: &State, name: &str) -> Result<u32> {
    let has_name = |table: &TableState| {
        let renamed = table.renamed.as_ref().map(|(schema, name)| format!("{schema}.{name}"));
        table.table == name || renamed.as_deref() == Some(name)
    };
    let mut found = state.tables.iter().filter(|(_, table)| has_name(table)).map(|(oid, _)| *oid);
    match (found.next(), found.next()) {
        (Some(oid), None) => Ok(oid),
        (Some(_), Some(_)) => Err(Error::definite(format!("two tables of the lake are called {name}"))
            .hint("say the name that `tributary inspect` shows")),
        (None, _) => Err(Error::definite(format!("the lake has no table {name}"))
            .hint("`tributary inspect` lists the tables; a root must have been written before")),
    }
}

fn refuse_relatives(state: &State, pair: Pair) -> Result<()> {
    let name = |oid: u32| state.tables.get(&oid).map(|table| table.table.as_str()).unwrap_or_default();
    let refuse = |why: String| {
        Err(Error::definite(format!("{} cannot be a leaf of {}: {why}", name(pair.leaf), name(pair.root))))
    };
    if pair.leaf == pair.root {
        return refuse("they are one table".to_owned());
    }
    let root_of = |oid: u32| {
        let found = state.lineage.iter().find(|(_, leaves)| leaves.contains_key(&oid));
        found.map(|(root, _)| name(*root).to_owned())
    };
    if let Some(other) = root_of(pair.leaf) {
        return refuse(format!("it is one of {other}"));
    }
    if let Some(above) = root_of(pair.root) {
        return refuse(format!("that is a leaf of {above} itself"));
    }
    if state.lineage.contains_key(&pair.leaf) {
        return refuse("it has leaves of its own".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
