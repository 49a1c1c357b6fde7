//! Whether there are rows that the stream will never bring: those that were there before the slot.
//!
//! Owns: the question, for tables that are published and included.
//! Does not: count or read rows; a table that takes up space is taken to have some.
//! Holds: one query, whatever the number of tables, and no privilege on them is needed.
//! Fails: as the source and the lake do.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::source::{Sql, catalog};

/// Tables with rows.
pub(crate) struct Existing {
    /// How many relations.
    pub(crate) count: u64,
    /// One of them.
    pub(crate) example: String,
}

/// Published and included tables that take up space.
pub(crate) async fn in_published(sql: &Sql, config: &Config) -> Result<Option<Existing>> {
    let selection = config.tables.selection()?;
    let facts =
        catalog::facts_all(sql, &config.source.publication, config.partitions.folds_to_root()).await?;
    let is_wanted = |root: &tables::lineage::RootFacts| selection.includes(&root.schema, &root.name);
    let roots: BTreeSet<u32> =
        facts.roots.iter().filter(|root| is_wanted(root)).map(|root| root.oid.0).collect();
    let leaves = facts.leaves.iter().filter(|leaf| roots.contains(&leaf.root.0));
    let relations: Vec<u32> = leaves.map(|leaf| leaf.oid.0).chain(roots.iter().copied()).collect();
    let rows = sql.query("tables that have rows already", WITH_SPACE, &[&relations]).await?;
    let broken = |error| Error::bug("a column of a catalog query").caused_by(error);
    let Some(row) = rows.first() else { return Ok(None) };
    let count: i64 = row.try_get(0).map_err(broken)?;
    let example: Option<String> = row.try_get(1).map_err(broken)?;
    Ok(example.map(|example| Existing { count: u64::try_from(count).unwrap_or(0), example }))
}

const WITH_SPACE: &str = "SELECT count(*), min(n.nspname::text || '.' || c.relname::text) \
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE c.oid = ANY($1::oid[]) AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0";
