//! Publications: what they publish, whether that changed, and which tables they would hurt.
//!
//! Owns: [`Publication`] with its definition's hash, and the check of replica identities.
//! Does not: create or alter publications.
//! Holds: the hash changes with every change that can add, drop or filter rows or columns (T36, T46).
//! Fails: as `fault` classifies the server's errors.

use std::collections::BTreeMap;

use super::catalog::{published_tree, whole_tree};
use super::sql::{Sql, get};
use crate::error::Result;

/// A publication as the catalogs have it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// FOR ALL TABLES.
    pub all_tables: bool,
    /// `publish_via_partition_root`.
    pub via_root: bool,
    /// Publishes inserts.
    pub insert: bool,
    /// Publishes updates.
    pub update: bool,
    /// Publishes deletes.
    pub delete: bool,
    /// Publishes truncates.
    pub truncate: bool,
    /// SHA-256 over its options, tables, column lists, row filters and schemas, in hexadecimal.
    pub definition_hash: String,
}

/// What publications do beyond the tables that they name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// One of them has `publish_via_partition_root`.
    pub via_root: bool,
    /// One of them publishes tables that do not exist yet: FOR ALL TABLES, or TABLES IN SCHEMA.
    pub is_open: bool,
}

/// What these publications do beyond the tables that they name.
pub async fn reach(sql: &Sql, names: &[String]) -> Result<Reach> {
    let in_schema = match sql.server_version() {
        150_000.. => "EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)",
        _ => "false",
    };
    let query = format!(
        "SELECT coalesce(bool_or(p.pubviaroot), false), coalesce(bool_or(p.puballtables OR {in_schema}), false) \
         FROM pg_publication p WHERE p.pubname = ANY($1::text[])"
    );
    let rows = sql.query("publications", &query, &[&names]).await?;
    let Some(row) = rows.first() else { return Ok(Reach::default()) };
    Ok(Reach { via_root: get(row, 0)?, is_open: get(row, 1)? })
}

/// The publications of these names that exist, by name.
pub async fn publication(sql: &Sql, names: &[String]) -> Result<Vec<Publication>> {
    let rows = sql.query("publications", &publication_query(sql.server_version()), &[&names]).await?;
    rows.iter()
        .map(|row| {
            Ok(Publication {
                name: get(row, 0)?,
                all_tables: get(row, 1)?,
                via_root: get(row, 2)?,
                insert: get(row, 3)?,
                update: get(row, 4)?,
                delete: get(row, 5)?,
                truncate: get(row, 6)?,
                definition_hash: get(row, 7)?,
            })
        })
        .collect()
}

/// The parts of the publications' definition, each with its hash: options, tables with their column lists and row filters, schemas. None
/// if they are more than [`MEMBERS_MAX`], for the log would have to hold them all.
pub async fn publication_members(sql: &Sql, names: &[String]) -> Result<BTreeMap<String, String>> {
    let (generated, filters) = parts_of(sql.server_version());
    let schemas = if sql.server_version() >= 150_000 {
        "UNION ALL SELECT p.pubname || ' schema ' || s.pnnspid, '' FROM pg_publication_namespace s \
         JOIN pg_publication p ON p.oid = s.pnpubid \
         WHERE p.pubname = ANY($1::text[]) "
    } else {
        ""
    };
    let query = format!(
        "SELECT p.pubname || ' options', md5(concat(p.oid, p.puballtables, p.pubviaroot, p.pubinsert, p.pubupdate, p.pubdelete, \
           p.pubtruncate, {generated})) FROM pg_publication p WHERE p.pubname = ANY($1::text[]) \
         {schemas}\
         UNION ALL SELECT p.pubname || ' table ' || r.prrelid, md5({filters}) \
           FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = ANY($1::text[]) \
         LIMIT {}",
        MEMBERS_MAX + 1
    );
    let rows = sql.query("members of the publications", &query, &[&names]).await?;
    if rows.len() > MEMBERS_MAX {
        return Ok(BTreeMap::new());
    }
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// What of a definition depends on the server's version: generated columns, and column lists with row filters.
fn parts_of(server_version: u32) -> (&'static str, &'static str) {
    let generated = if server_version >= 180_000 { "p.pubgencols::text" } else { "''" };
    let filters = if server_version >= 150_000 {
        "coalesce(r.prattrs::text, '-') || ' ' || coalesce(pg_get_expr(r.prqual, r.prrelid), '-')"
    } else {
        "'- -'"
    };
    (generated, filters)
}

/// The definition is hashed by the server: the list of tables may be long.
fn publication_query(server_version: u32) -> String {
    let (generated, filters) = parts_of(server_version);
    let schemas = if server_version >= 150_000 {
        "(SELECT string_agg(s.pnnspid::text, ' ' ORDER BY s.pnnspid) \
         FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)"
    } else {
        "NULL"
    };
    format!(
        "SELECT p.pubname::text, p.puballtables, p.pubviaroot, \
         p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, \
         encode(sha256(convert_to(concat_ws(E'\\n', \
           concat(p.puballtables, p.pubviaroot, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, {generated}), \
           coalesce({schemas}, ''), \
           (SELECT string_agg(r.prrelid::text || ' ' || {filters}, E'\\n' ORDER BY r.prrelid) \
            FROM pg_publication_rel r WHERE r.prpubid = p.oid)), getdatabaseencoding())), 'hex') \
         FROM pg_publication p WHERE p.pubname = ANY($1::text[]) ORDER BY 1"
    )
}

/// Why Postgres would refuse to update or delete rows of a published table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityReason {
    /// The replica identity is the primary key, and there is none.
    NoPrimaryKey,
    /// The replica identity is nothing.
    Nothing,
    /// The replica identity is an index that is gone.
    IndexGone,
}

/// A table whose updates and deletes fail at the source while it is published (T47).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProblem {
    /// Schema of the table, or of the root of its partitions.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// What is wrong.
    pub reason: IdentityReason,
    /// How many relations are like that: 1 for a table, any number of partitions for a root.
    pub relations: u64,
    /// One of them, `schema.name`.
    pub example: String,
}

/// The tables whose updates and deletes fail for being in these publications; without names, that would if every table
/// were published.
pub async fn identity_problems(sql: &Sql, publications: &[String]) -> Result<Vec<IdentityProblem>> {
    let tree = if publications.is_empty() {
        // The parameter is there, but selects nothing.
        whole_tree()
    } else {
        let condition = "p.pubname = ANY($1::text[]) AND (p.pubupdate OR p.pubdelete)";
        published_tree(sql.server_version(), condition)
    };
    let query = format!("{tree} {IDENTITY_PROBLEMS}");
    let rows = sql.query("replica identities", &query, &[&publications]).await?;
    rows.iter()
        .map(|row| {
            let relations: i64 = get(row, 3)?;
            Ok(IdentityProblem {
                schema: get(row, 0)?,
                table: get(row, 1)?,
                reason: match get::<&str>(row, 2)? {
                    "n" => IdentityReason::Nothing,
                    "i" => IdentityReason::IndexGone,
                    _ => IdentityReason::NoPrimaryKey,
                },
                relations: u64::try_from(relations).unwrap_or(0),
                example: get(row, 4)?,
            })
        })
        .collect()
}

/// Members that the log holds: some megabytes.
const MEMBERS_MAX: usize = 20_000;

/// A deferrable primary key is no replica identity.
const IDENTITY_PROBLEMS: &str = "SELECT rn.nspname::text, r.relname::text, c.relreplident::text, count(*), \
      min(cn.nspname::text || '.' || c.relname::text) \
      FROM pg_class c JOIN tree ON tree.oid = c.oid JOIN pg_namespace cn ON cn.oid = c.relnamespace \
      JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid)::oid, c.oid) \
      JOIN pg_namespace rn ON rn.oid = r.relnamespace \
      LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
        AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END \
      WHERE c.relkind = 'r' AND $1::text[] IS NOT NULL \
      AND (c.relreplident = 'n' OR c.relreplident IN ('d', 'i') AND i.indexrelid IS NULL) \
      GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
