//! What the snapshot would read: an estimate, and what it could not.
//!
//! Owns: the estimate, by the plan's own rule, and the question whether our role may read.
//! Does not: read rows or lock for longer than a size is asked for.
//! Holds: of very many relations only what the last VACUUM noted is summed.
//! Fails: as the source does.

use std::collections::BTreeSet;

use pgoutput::Oid;
use tables::fold::Selection;
use tables::lineage::Facts;

use super::Report;
use crate::cli::text;
use crate::error::Result;
use crate::snapshot::plan::{self, Limits};
use crate::source::Sql;
use crate::source::sql::get;

/// About what is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Estimate {
    rows: u64,
    /// Relations that nobody ever counted.
    uncounted: u64,
    bytes: u64,
    chunks: u64,
}

pub(super) async fn look(report: &mut Report, sql: &Sql, host: &str, selection: &Selection, facts: &Facts) {
    let wanted = facts.roots.iter().filter(|root| selection.includes(&root.schema, &root.name));
    let roots: BTreeSet<Oid> = wanted.map(|root| root.oid).collect();
    let relations = facts.relations_of(|root| roots.contains(&root));
    if let Some(estimate) = report.take("snapshot", estimate(sql, &relations).await) {
        let uncounted = match estimate.uncounted {
            0 => String::new(),
            count => format!(", without {count} relations that were never analyzed"),
        };
        report.ok(
            "snapshot",
            format!(
                "reads {} tables from {host}: about {} rows{uncounted}, {} in {} chunks",
                roots.len(),
                text::grouped(estimate.rows),
                text::bytes(estimate.bytes),
                text::grouped(estimate.chunks)
            ),
        );
    }
    if let Some((count, example)) = report.take("snapshot", unreadable(sql, &relations).await).flatten() {
        report.warn(
            "snapshot",
            format!("our role may not read {count} relations ({example} …): their tables will be set aside"),
            format!(
                "GRANT SELECT ON {example} TO …;  -- each partition by itself; under row security also ALTER ROLE … BYPASSRLS"
            ),
        );
    }
}

async fn estimate(sql: &Sql, relations: &[(Oid, Oid)]) -> Result<Estimate> {
    if relations.len() <= SIZED_MAX {
        let found = plan::relations(sql, relations).await?;
        let sum = |sum: Estimate, relation: &plan::Relation| Estimate {
            rows: sum.rows + relation.rows.unwrap_or(0),
            uncounted: sum.uncounted + u64::from(relation.rows.is_none()),
            bytes: sum.bytes + relation.bytes(),
            chunks: 0,
        };
        let sum = found.iter().fold(Estimate::default(), sum);
        let chunks = plan::tasks(found, Limits::default()).len();
        return Ok(Estimate { chunks: u64::try_from(chunks).unwrap_or(u64::MAX), ..sum });
    }
    noted(sql, relations).await
}

/// From what VACUUM and ANALYZE noted: no relation is touched.
async fn noted(sql: &Sql, relations: &[(Oid, Oid)]) -> Result<Estimate> {
    let limits = Limits::default();
    let oids: Vec<u32> = relations.iter().map(|(relation, _)| relation.0).collect();
    let chunk_bytes = i64::try_from(limits.bytes).unwrap_or(i64::MAX);
    let found = sql.query("sizes of the tables", NOTED, &[&oids, &chunk_bytes]).await?;
    let Some(row) = found.first() else { return Ok(Estimate::default()) };
    let number = |column: usize| -> Result<u64> { Ok(u64::try_from(get::<i64>(row, column)?).unwrap_or(0)) };
    let (small, small_bytes) = (number(4)?, number(5)?);
    let each = u64::try_from(limits.relations).unwrap_or(u64::MAX);
    Ok(Estimate {
        rows: number(0)?,
        uncounted: number(1)?,
        bytes: number(2)?,
        chunks: number(3)? + small.div_ceil(each).max(small_bytes.div_ceil(limits.bytes)),
    })
}

/// How many relations our role may not read, or not all rows of, and one of them.
async fn unreadable(sql: &Sql, relations: &[(Oid, Oid)]) -> Result<Option<(i64, String)>> {
    let oids: Vec<u32> = relations.iter().map(|(relation, _)| relation.0).collect();
    let found = sql.query("privileges on the tables", UNREADABLE, &[&oids]).await?;
    let Some(row) = found.first() else { return Ok(None) };
    let example: Option<String> = get(row, 1)?;
    let count = get(row, 0)?;
    Ok(example.map(|example| (count, example)))
}

/// Above it, asking each relation for its size takes too long.
const SIZED_MAX: usize = 20_000;

const NOTED: &str = "WITH sized AS ( \
      SELECT c.reltuples, (c.relpages::int8 + coalesce(t.relpages, 0)) * current_setting('block_size')::int8 AS bytes \
      FROM unnest($1::oid[]) AS w(oid) JOIN pg_class c ON c.oid = w.oid \
      LEFT JOIN pg_class t ON t.oid = c.reltoastrelid \
      WHERE c.relkind = 'r' AND c.relpersistence = 'p') \
    SELECT coalesce(sum(reltuples::float8) FILTER (WHERE reltuples > 0), 0)::int8, \
      count(*) FILTER (WHERE reltuples < 0), \
      coalesce(sum(bytes), 0)::int8, \
      coalesce(sum((bytes + $2 - 1) / $2) FILTER (WHERE bytes > $2), 0)::int8, \
      count(*) FILTER (WHERE bytes <= $2), \
      coalesce(sum(bytes) FILTER (WHERE bytes <= $2), 0)::int8 \
    FROM sized";

const UNREADABLE: &str = "SELECT count(*), min(quote_ident(n.nspname) || '.' || quote_ident(c.relname)) \
      FROM unnest($1::oid[]) AS w(oid) JOIN pg_class c ON c.oid = w.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
        AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT') \
          AND NOT row_security_active(c.oid))";
