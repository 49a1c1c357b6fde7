//! What publications leave out of the stream, or send otherwise than it happened.
//!
//! Owns: the queries for column lists that disagree (T45), row filters (T12, T46) and unlogged tables (T48).
//! Does not: judge them; `check` does.
//! Holds: reads the definitions and not `pg_publication_tables`, which is quadratic in the partitions of a schema.
//! Fails: as `fault` classifies the server's errors.

use super::catalog::published_tree;
use super::sql::{Sql, get};
use crate::error::Result;

/// A table that is published through a row filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filtered {
    /// Its `schema.name`.
    pub table: String,
    /// An update may bring a row in as an INSERT that lacks values which are stored out of line (T12).
    pub may_lack_values: bool,
}

/// Tables for which the publications name different columns: decoding any of their changes is an error (T45).
pub async fn disagreeing_column_lists(sql: &Sql, publications: &[String]) -> Result<Vec<String>> {
    if sql.server_version() < FIRST_WITH_LISTS_AND_FILTERS {
        return Ok(Vec::new());
    }
    let rows = sql.query("column lists", COLUMN_LISTS, &[&publications]).await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// Tables with a row filter.
pub async fn filtered(sql: &Sql, publications: &[String]) -> Result<Vec<Filtered>> {
    if sql.server_version() < FIRST_WITH_LISTS_AND_FILTERS {
        return Ok(Vec::new());
    }
    let rows = sql.query("row filters", FILTERS, &[&publications]).await?;
    rows.iter().map(|row| Ok(Filtered { table: get(row, 0)?, may_lack_values: get(row, 1)? })).collect()
}

/// Schema and name of unlogged tables where all tables, or all of a schema or of a root, are published: but these (T48).
pub async fn unlogged(sql: &Sql, publications: &[String]) -> Result<Vec<(String, String)>> {
    let tree = published_tree(sql.server_version(), "p.pubname = ANY($1::text[])");
    let of_schema = if sql.server_version() < FIRST_WITH_LISTS_AND_FILTERS {
        "false"
    } else {
        "EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)"
    };
    let query = format!(
        "{tree} SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND c.oid >= 16384 AND (EXISTS (SELECT FROM tree WHERE tree.oid = c.oid) \
         OR EXISTS (SELECT FROM pg_publication p WHERE p.pubname = ANY($1::text[]) AND (p.puballtables OR {of_schema}))) ORDER BY 1, 2"
    );
    let rows = sql.query("unlogged tables", &query, &[&publications]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

const FIRST_WITH_LISTS_AND_FILTERS: u32 = 150_000;

/// A list of all columns is the same as none.
const COLUMN_LISTS: &str = "WITH pub AS (SELECT oid, puballtables FROM pg_publication WHERE pubname = ANY($1::text[])), \
      listed AS (SELECT r.prrelid AS relation, CASE WHEN cardinality(r.prattrs::int2[]) < \
          (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum > 0 AND NOT a.attisdropped \
           AND a.attgenerated = '') THEN r.prattrs::text END AS columns \
        FROM pg_publication_rel r JOIN pub ON pub.oid = r.prpubid), \
      whole AS (SELECT l.relation, NULL::text FROM listed l JOIN pg_class c ON c.oid = l.relation JOIN pub \
        ON pub.puballtables OR EXISTS \
          (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = pub.oid AND s.pnnspid = c.relnamespace)) \
      SELECT n.nspname::text || '.' || c.relname::text FROM (SELECT * FROM listed UNION SELECT * FROM whole) AS m \
      JOIN pg_class c ON c.oid = m.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
      GROUP BY 1 HAVING count(DISTINCT coalesce(m.columns, '*')) > 1 ORDER BY 1";

const FILTERS: &str = "SELECT n.nspname::text || '.' || c.relname::text, bool_or(p.pubupdate AND c.relreplident <> 'f' AND EXISTS ( \
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        AND a.attlen = -1 AND a.attstorage <> 'p' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid \
          AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END AND a.attnum = ANY(i.indkey::int2[])))) \
      FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
      JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE p.pubname = ANY($1::text[]) AND r.prqual IS NOT NULL GROUP BY 1 ORDER BY 1";
