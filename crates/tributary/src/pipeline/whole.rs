//! Tables of which no snapshot is needed, when a lake begins.
//!
//! Owns: finding tables that were empty when the slot was made.
//! Does not: read rows.
//! Holds: such a table has no row now, behind the slot's position, so every row that it will ever have is in the stream. What is not surely
//! empty is read.
//! Fails: never; a table that cannot be looked at is read.

use std::collections::BTreeSet;

use lake::log::Event;
use pgoutput::{Lsn, Oid};
use tables::fold::is_made_up;
use tables::lineage::Facts;
use tracing::debug;

use crate::config::{Config, SnapshotMode};
use crate::error::{Error, Result};
use crate::source::sql::{get, quote_identifier};
use crate::source::{Sql, catalog};

/// The end of the snapshot of every table that needs none: all, if the lake begins at the position of a slot that somebody else made.
pub(super) async fn ends(sql: &Sql, config: &Config, start: Lsn, is_adopted: bool) -> Vec<Event> {
    if config.snapshot.mode == SnapshotMode::Never {
        return Vec::new();
    }
    match tables(sql, config, is_adopted).await {
        Ok(tables) => {
            let end = |(root, table): (Oid, String)| Event::SnapshotEnd {
                table,
                relation: root.0,
                lsn: start,
                rows: 0,
                reason: None,
            };
            tables.into_iter().map(end).collect()
        }
        Err(error) => {
            debug!(error = error.chain(), "which tables are empty is unknown, so all are read");
            Vec::new()
        }
    }
}

async fn tables(sql: &Sql, config: &Config, is_adopted: bool) -> Result<Vec<(Oid, String)>> {
    if !is_adopted && catalog::published_count(sql, &config.source.publication).await? > RELATIONS_MAX {
        return Err(Error::transient("there are too many tables to look at each"));
    }
    let folding = config.partitions.folding(None)?;
    let facts = catalog::facts_all(sql, &config.source.publication, &folding).await?;
    let selection = config.tables.selection()?;
    let roots = facts.roots.iter().filter(|root| selection.includes(&root.schema, &root.name));
    let roots: Vec<(Oid, String)> =
        roots.map(|root| (root.oid, format!("{}.{}", root.schema, root.name))).collect();
    if is_adopted {
        return Ok(roots);
    }
    // Somebody may hold a table; the session is of use for more than this.
    sql.execute("wait for locks", &format!("SET lock_timeout = {LOCK_WAIT_MILLIS}")).await?;
    let filled = filled(sql, &facts).await;
    sql.execute("wait for locks", "RESET lock_timeout").await?;
    let filled = filled?;
    Ok(roots.into_iter().filter(|(root, _)| !filled.contains(root)).collect())
}

/// The roots that have a row, in whatever relation.
async fn filled(sql: &Sql, facts: &Facts) -> Result<BTreeSet<Oid>> {
    let roots = facts.roots.iter().filter(|root| !is_made_up(root.oid));
    let roots = roots.map(|root| (root.oid, &root.schema, &root.name));
    let leaves = facts.leaves.iter().map(|leaf| (leaf.root, &leaf.schema, &leaf.name));
    let looks: Vec<String> = roots
        .chain(leaves)
        .map(|(root, schema, name)| {
            // A partitioned table has no rows of its own, and ONLY says so.
            let relation = format!("{}.{}", quote_identifier(schema), quote_identifier(name));
            format!("SELECT {}::oid WHERE EXISTS (SELECT FROM ONLY {relation})", root.0)
        })
        .collect();
    let mut filled = BTreeSet::new();
    for looks in looks.chunks(RELATIONS_A_QUERY) {
        for row in sql.query("tables that have rows", &looks.join(" UNION ALL "), &[]).await? {
            filled.insert(Oid(get(&row, 0)?));
        }
    }
    Ok(filled)
}

/// Where there are more, a snapshot of the empty ones costs less than looking first.
const RELATIONS_MAX: usize = 5_000;
/// Locks of one query; it holds them no longer than it runs.
const RELATIONS_A_QUERY: usize = 100;
/// How long a lock is waited for.
const LOCK_WAIT_MILLIS: u32 = 2_000;
