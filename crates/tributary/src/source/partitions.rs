//! Which relations are partitions of which, as the catalogs have it now.
//!
//! Owns: the queries that find out what was attached, detached and dropped since somebody looked last.
//! Does not: remember what it found, or decide what becomes of it.
//! Holds: nothing is locked; looking costs one scan of `pg_inherits` if nothing changed, whatever there is.
//! Fails: as `fault` classifies the server's errors.

use pgoutput::Oid;

use super::catalog::IS_HEAP;
use super::sql::{Sql, get};
use crate::error::{Error, Result};

/// A partition, and the transaction that attached it: another one, if it was detached and attached again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The partition; it may be partitioned itself.
    pub partition: Oid,
    /// `xmin` of its row in `pg_inherits`.
    pub by: u32,
}

/// A number that is another one once any partition was attached, detached or dropped.
pub async fn fingerprint(sql: &Sql) -> Result<String> {
    let rows =
        sql.query("partitions of the database", &format!("SELECT {FINGERPRINT} {PARTITIONS}"), &[]).await?;
    let row = rows.first().ok_or_else(|| Error::transient("the source told nothing of its partitions"))?;
    get(row, 0)
}

/// All partitions of the database.
pub async fn attached(sql: &Sql) -> Result<Vec<Attached>> {
    let query = format!("SELECT i.inhrelid, i.xmin::text::int8 {PARTITIONS}");
    let rows = sql.query("partitions of the database", &query, &[]).await?;
    rows.iter()
        .map(|row| {
            let by = u32::try_from(get::<i64>(row, 1)?).unwrap_or_default();
            Ok(Attached { partition: Oid(get(row, 0)?), by })
        })
        .collect()
}

/// The leaves at and below relations that exist, each with the one it lies below.
pub async fn leaves_below(sql: &Sql, relations: &[Oid]) -> Result<Vec<(Oid, Oid)>> {
    let relations: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    let rows = sql.query("leaves of partitions", BELOW, &[&relations]).await?;
    rows.iter().map(|row| Ok((Oid(get(row, 0)?), Oid(get(row, 1)?)))).collect()
}

/// Those of the relations that exist.
pub async fn existing(sql: &Sql, relations: &[Oid]) -> Result<Vec<Oid>> {
    let relations: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    let query = "SELECT oid FROM pg_class WHERE oid = ANY($1::oid[])";
    let rows = sql.query("relations that are left", query, &[&relations]).await?;
    rows.iter().map(|row| Ok(Oid(get(row, 0)?))).collect()
}

/// Those of the relations that have no byte of rows. One that somebody holds exclusively is waited for.
pub async fn empty(sql: &Sql, relations: &[Oid]) -> Result<Vec<Oid>> {
    let relations: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    // Of a heap alone a size tells.
    let query = format!(
        "SELECT c.oid FROM pg_class c WHERE c.oid = ANY($1::oid[]) AND c.relkind = 'r' AND {IS_HEAP} AND pg_relation_size(c.oid) = 0"
    );
    let rows = sql.query("sizes of partitions", &query, &[&relations]).await?;
    rows.iter().map(|row| Ok(Oid(get(row, 0)?))).collect()
}

/// A partition that DETACH CONCURRENTLY is about to leave is none for anybody who looks now.
const PARTITIONS: &str = "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
      WHERE c.relispartition AND c.relkind IN ('r', 'p') AND NOT i.inhdetachpending";

const FINGERPRINT: &str =
    "coalesce(sum(hashint8extended((i.inhrelid::int8 << 32) | i.xmin::text::int8, 0)::numeric), 0)::text";

/// Not by `pg_partition_tree`, which locks all of them at once.
const BELOW: &str = "WITH RECURSIVE below(top, oid) AS (SELECT c.oid, c.oid FROM pg_class c WHERE c.oid = ANY($1::oid[]) \
      UNION ALL SELECT b.top, i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid \
      JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition AND NOT i.inhdetachpending) \
      SELECT b.oid, b.top FROM below b JOIN pg_class c ON c.oid = b.oid WHERE c.relkind <> 'p'";
