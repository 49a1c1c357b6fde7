//! Which relations are partitions of which, as the catalogs have it now.
//!
//! Owns: the queries that find out what was attached, detached and dropped since somebody looked last.
//! Does not: remember what it found, or decide what becomes of it.
//! Holds: nothing is locked; looking costs one scan of `pg_inherits` if nothing changed, whatever there is.
//! Fails: as `fault` classifies the server's errors.

use pgoutput::{Oid, Xid};
use rustc_hash::FxHashMap;
use tokio_postgres::Row;

use super::catalog::{self, IS_HEAP};
use super::folding::Folding;
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
    rows.iter().map(attached_of).collect()
}

/// The partitions that were attached before anything that a slot has to tell.
pub async fn attached_before(sql: &Sql, slot: &str) -> Result<Vec<Attached>> {
    let query = format!("SELECT i.inhrelid, i.xmin::text::int8 {PARTITIONS} AND {BEFORE_SLOT}");
    let rows = sql.query("partitions of the database", &query, &[&slot]).await?;
    rows.iter().map(attached_of).collect()
}

/// The published tables that are leaves by a rule of the configuration, each as if a transaction had attached it; only those of before anything
/// that a slot has to tell, if there is one. By its name alone a table is a leaf for as long as it has that name.
pub async fn folded(
    sql: &Sql,
    publications: &[String],
    folding: &Folding,
    slot: Option<&str>,
) -> Result<Vec<Attached>> {
    if !folding.has_rules() {
        return Ok(Vec::new());
    }
    let leaves = catalog::published_names(sql, publications, folding).await?.leaves;
    let oids: Vec<u32> = leaves.iter().map(|leaf| leaf.oid.0).collect();
    let query = format!(
        "SELECT i.inhrelid, max(i.xmin::text::int8), coalesce(bool_and($2::text IS NULL OR {}), false) \
         FROM pg_inherits i WHERE i.inhrelid = ANY($1::oid[]) GROUP BY i.inhrelid",
        BEFORE_SLOT.replace("$1", "$2")
    );
    let rows = sql.query("tables that inherit", &query, &[&oids, &slot]).await?;
    let mut inherits: FxHashMap<Oid, (u32, bool)> = FxHashMap::default();
    for row in &rows {
        let Attached { partition, by } = attached_of(row)?;
        inherits.insert(partition, (by, get(row, 2)?));
    }
    let attached = leaves.iter().filter_map(|leaf| {
        let (by, is_before) = inherits.get(&leaf.oid).copied().unwrap_or((BY_NAME, true));
        is_before.then_some(Attached { partition: leaf.oid, by })
    });
    Ok(attached.collect())
}

/// A number that is another one once any table was published, made, renamed, or made to inherit.
pub async fn names_fingerprint(sql: &Sql) -> Result<String> {
    let in_schemas = match sql.server_version() {
        150_000.. => "(SELECT coalesce(sum(oid::int8), 0) FROM pg_publication_namespace)",
        _ => "0",
    };
    let query = format!(
        "SELECT concat_ws(' ', {in_schemas}, (SELECT coalesce(sum(oid::int8), 0) FROM pg_publication_rel), \
           (SELECT coalesce(sum(hashtextextended(concat_ws(' ', c.oid, c.relnamespace, c.relname), 0)::numeric), 0) FROM pg_class c \
            WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p' AND c.oid >= 16384), \
           (SELECT {FINGERPRINT} FROM pg_inherits i))"
    );
    let rows = sql.query("names of the database", &query, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::transient("the source told nothing of its tables"))?;
    get(row, 0)
}

fn attached_of(row: &Row) -> Result<Attached> {
    let by = u32::try_from(get::<i64>(row, 1)?).unwrap_or_default();
    Ok(Attached { partition: Oid(get(row, 0)?), by })
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

/// Those of the partitions that were published partitions from the moment they were made, so that every row they ever had was a partition's, and is
/// in the stream. Of those that were made before this transaction nothing is known.
///
/// `since` is the next transaction's id when this session began, with a server that was no standby: it has not crashed since.
pub async fn born(sql: &Sql, partitions: &[Oid], publications: &[String], since: Xid) -> Result<Vec<Oid>> {
    let partitions: Vec<u32> = partitions.iter().map(|oid| oid.0).collect();
    let rows =
        sql.query("birth of partitions", BORN, &[&partitions, &since.0.to_string(), &publications]).await?;
    rows.iter().map(|row| Ok(Oid(get(row, 0)?))).collect()
}

/// `BootstrapTransactionId`, which attached no table.
const BY_NAME: u32 = 1;

/// A partition that DETACH CONCURRENTLY is about to leave is none for anybody who looks now.
const PARTITIONS: &str = "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
      WHERE c.relispartition AND c.relkind IN ('r', 'p') AND NOT i.inhdetachpending";

/// A slot keeps the catalogs from this transaction on. One that is older than half of all ids seems to be of the future.
const BEFORE_SLOT: &str = "age(i.xmin) NOT BETWEEN 0 AND \
      (SELECT age(s.catalog_xmin) FROM pg_replication_slots s WHERE s.slot_name = $1::text)";

const FINGERPRINT: &str =
    "coalesce(sum(hashint8extended((i.inhrelid::int8 << 32) | i.xmin::text::int8, 0)::numeric), 0)::text";

/// Not by `pg_partition_tree`, which locks all of them at once.
const BELOW: &str = "WITH RECURSIVE below(top, oid) AS (SELECT c.oid, c.oid FROM pg_class c WHERE c.oid = ANY($1::oid[]) \
      UNION ALL SELECT b.top, i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid \
      JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition AND NOT i.inhdetachpending) \
      SELECT b.oid, b.top FROM below b JOIN pg_class c ON c.oid = b.oid WHERE c.relkind <> 'p'";

/// Of what was made as a partition the entry of a column lies before that of the first system column, and one command wrote both; if it has a
/// default, it was written anew since, but that is seldom so for all of them. ATTACH writes those of all columns anew (`MergeAttributesIntoExisting`), perhaps
/// in the transaction that made the table, but by another command and to another place. Either witness alone may be mistaken: what a rolled back
/// command began to change has that command's `cmin`, and seems whole again once it is frozen; and a place before may have become free. After
/// a crash, and on a standby, there is no first witness, since replay makes every `cmin` 0. What is mistaken the other way, as a column at
/// the end of a block, is only read without need. What was unlogged once had rows that are in no stream; `SET LOGGED` gives it another file.
///
/// Published it was if its root, or everything, was already; a publication of single partitions, or of a schema, may have got it later.
const BORN: &str = "SELECT i.inhrelid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
      JOIN pg_attribute made ON made.attrelid = i.inhrelid AND made.attname = 'ctid' AND made.attnum < 0 \
      WHERE i.inhrelid = ANY($1::oid[]) AND i.xmin = made.xmin AND made.xmax = '0'::xid AND age(made.xmin) <= age($2::text::xid) \
      AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.inhrelid AND a.attnum > 0 AND NOT a.attislocal \
        AND a.xmin = made.xmin AND a.cmin = made.cmin AND a.xmax = '0'::xid \
        AND (a.ctid::text::point)[0] = (made.ctid::text::point)[0] AND a.ctid < made.ctid) \
      AND c.relpersistence = 'p' AND (c.relkind = 'p' OR c.relfilenode = c.oid) \
      AND EXISTS (SELECT FROM pg_publication p WHERE p.pubname = ANY($3::text[]) \
        AND (p.puballtables AND age(p.xmin) > age(made.xmin) \
          OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = pg_partition_root(i.inhrelid) \
            AND age(r.xmin) > age(made.xmin))))";
