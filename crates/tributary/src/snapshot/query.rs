//! What of a relation is read, and the COPY that reads it.
//!
//! Owns: the published columns and rows of a relation, and the text of the query.
//! Does not: run it (`worker`), or decide what a column becomes in the lake.
//! Holds: columns and rows are those that the stream has of the relation: what pgoutput makes of lists, filters, generated columns and
//! `publish_via_partition_root`; a column whose binary form is not surely read comes as the exact text that the stream has.
//! Fails: as the source does.

use pgoutput::{Oid, ReplicaIdentity};
use tables::types::{Codec, TypeCatalog};
use tokio_postgres::Row;

use super::plan::Blocks;
use super::point::Point;
use crate::error::Result;
use crate::source::Sql;
use crate::source::catalog::IS_HEAP;
use crate::source::sql::{get, quote_identifier};

/// What is published of a relation, and what it was when that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The relation.
    pub relation: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Under whose name the stream has its changes: itself, or the root with `publish_via_partition_root`.
    pub announced: Oid,
    /// The topmost table that it is a partition of; itself, if it is none.
    pub root: Oid,
    /// The tables that it is a partition of, or inherits from, at whatever distance.
    pub above: Vec<Above>,
    /// Where its rows lie.
    pub filenode: u32,
    /// Whether block numbers and transaction ids of rows mean something: not to access methods of extensions.
    pub has_blocks: bool,
    /// A hash over all its columns: numbers, names, types, and whether they are generated.
    pub definition: i64,
    /// The published columns, in its own order.
    pub columns: Vec<Column>,
    /// Only rows that satisfy one of these are published; all, if there is none.
    pub filters: Vec<String>,
}

/// A table that another one is a partition of, or inherits from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above {
    /// The table.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

/// A published column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its number in the relation.
    pub attnum: i16,
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
    /// The type's modifier, -1 for none.
    pub type_modifier: i32,
}

impl Shape {
    /// `schema.name`, quoted.
    pub(crate) fn quoted_name(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// For every column, whether it is selected as text. `converts` says that the server converts between encodings.
    ///
    /// A type that `types` has not learnt is text, so nothing has to be known of it.
    pub fn texts(&self, types: &TypeCatalog, converts: bool) -> Box<[bool]> {
        let is_text = |column: &Column| {
            let found = types.resolve(column.type_oid, column.type_modifier);
            let is_sent = *found.codec.natural() != Codec::Unsent;
            let is_binary = found.has_binary_decoder && is_sent && !found.codec.prefers_text();
            !is_binary || (converts && found.codec.is_sent_unconverted())
        };
        self.columns.iter().map(is_text).collect()
    }
}

/// Only rows that may have been written since an earlier point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// The first transaction that the earlier point may not have shown.
    xid: u32,
}

impl Since {
    /// Rows that `point` shows and a point with this `xmin` may not have shown. None if so much was written between the two that
    /// transaction ids do not tell: then all have to be read.
    pub fn point(earlier_xmin: u64, point: &Point) -> Option<Since> {
        Since::at(earlier_xmin, point.xmax)
    }

    fn at(earlier_xmin: u64, xmax: u64) -> Option<Since> {
        let written = xmax.saturating_sub(earlier_xmin);
        if written >= XIDS_TOLD_APART || earlier_xmin & 0xFFFF_FFFF < FIRST_NORMAL_XID {
            return None;
        }
        u32::try_from(earlier_xmin & 0xFFFF_FFFF).ok().map(|xid| Since { xid })
    }

    /// `age` is the distance from the newest transaction, and `i32::MAX` for rows that an old version froze. The row of a transaction
    /// so old that its id is in use again looks new, which only reads it once more; an `xid` that has grown as old looks newer than now,
    /// and then nothing is left out.
    fn condition(self) -> String {
        let age = format!("pg_catalog.age('{}'::pg_catalog.xid)", self.xid);
        format!("({age} < 0 OR pg_catalog.age(xmin) <= {age})")
    }
}

/// Half of what 32 bits count.
const XIDS_TOLD_APART: u64 = 1 << 31;

/// `FirstNormalTransactionId`: those below stand for no transaction.
const FIRST_NORMAL_XID: u64 = 3;

/// The COPY of a relation's published columns and rows, within `blocks`. A relation without blocks has only [`Blocks::ALL`], and is read
/// whole whatever `since` says.
pub fn copy(shape: &Shape, texts: &[bool], blocks: Blocks, since: Option<Since>) -> String {
    let texts = texts.iter().copied().chain(std::iter::repeat(true));
    let columns: Vec<String> =
        shape.columns.iter().zip(texts).map(|(column, is_text)| selected(column, is_text)).collect();
    let mut conditions = Vec::new();
    if blocks.from > 0 {
        conditions.push(format!("ctid >= '({},0)'::pg_catalog.tid", blocks.from));
    }
    if let Some(until) = blocks.until {
        conditions.push(format!("ctid < '({until},0)'::pg_catalog.tid"));
    }
    if let Some(since) = since.filter(|_| shape.has_blocks) {
        conditions.push(since.condition());
    }
    if !shape.filters.is_empty() {
        let filters: Vec<String> = shape.filters.iter().map(|filter| format!("({filter})")).collect();
        conditions.push(format!("({})", filters.join(" OR ")));
    }
    let condition =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!(
        "COPY (SELECT {} FROM ONLY {}{condition}) TO STDOUT (FORMAT binary)",
        columns.join(", "),
        shape.quoted_name()
    )
}

/// As text it is what the type's output function prints, which a cast to text is not for all types. A row of NULLs is no NULL, though
/// `IS NULL` says so.
fn selected(column: &Column, is_text: bool) -> String {
    let name = quote_identifier(&column.name);
    if is_text {
        format!("CASE WHEN {name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {name}) END")
    } else {
        name
    }
}

/// What these publications have of relations, in the session's snapshot. One that is gone or not published is left out.
pub async fn shapes(sql: &Sql, publications: &[String], relations: &[Oid]) -> Result<Vec<Shape>> {
    let relations: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    let query = shapes_query(sql.server_version());
    let rows = sql.query("columns of the tables to read", &query, &[&publications, &relations]).await?;
    rows.iter().map(shape).collect()
}

fn shape(row: &Row) -> Result<Shape> {
    let (attnums, names, types, modifiers): (Vec<i16>, Vec<String>, Vec<u32>, Vec<i32>) =
        (get(row, 5)?, get(row, 6)?, get(row, 7)?, get(row, 8)?);
    let columns = attnums.into_iter().zip(names).zip(types).zip(modifiers);
    let (oids, schemas, above): (Vec<u32>, Vec<String>, Vec<String>) =
        (get(row, 13)?, get(row, 14)?, get(row, 15)?);
    let above = oids.into_iter().zip(schemas).zip(above);
    Ok(Shape {
        relation: Oid(get(row, 0)?),
        schema: get(row, 1)?,
        name: get(row, 2)?,
        filenode: get(row, 3)?,
        definition: get(row, 4)?,
        columns: columns
            .map(|(((attnum, name), type_oid), type_modifier)| Column {
                attnum,
                name,
                type_oid: Oid(type_oid),
                type_modifier,
            })
            .collect(),
        filters: get::<Option<Vec<String>>>(row, 9)?.unwrap_or_default(),
        has_blocks: get(row, 10)?,
        announced: Oid(get(row, 11)?),
        root: Oid(get(row, 12)?),
        above: above.map(|((oid, schema), name)| Above { oid: Oid(oid), schema, name }).collect(),
    })
}

/// How the stream announces a relation, beside its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The relation.
    pub relation: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// How old rows are identified.
    pub replica_identity: ReplicaIdentity,
    /// The columns of the identity; none under FULL.
    pub identity: Vec<String>,
}

/// The announcements of relations, in the session's snapshot.
pub async fn announcements(sql: &Sql, relations: &[Oid]) -> Result<Vec<Announcement>> {
    let relations: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    let rows = sql.query("identities of the tables to read", ANNOUNCEMENTS, &[&relations]).await?;
    let announcement = |row: &Row| {
        let identity: &str = get(row, 3)?;
        Ok(Announcement {
            relation: Oid(get(row, 0)?),
            schema: get(row, 1)?,
            name: get(row, 2)?,
            replica_identity: match identity {
                "f" => ReplicaIdentity::Full,
                "i" => ReplicaIdentity::Index,
                "n" => ReplicaIdentity::Nothing,
                _ => ReplicaIdentity::Default,
            },
            identity: get(row, 4)?,
        })
    };
    rows.iter().map(announcement).collect()
}

const ANNOUNCEMENTS: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident::text, \
      coalesce((SELECT array_agg(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
        WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END), \
        '{}'::text[]) \
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1::oid[])";

/// A hash over the columns of relation `c`.
pub(super) const DEFINITION: &str = "(SELECT coalesce(hashtextextended(string_agg(format('%s %I %s %s %s %s', d.attnum, d.attname, \
      d.atttypid, d.atttypmod, d.attgenerated, d.attidentity), ', ' ORDER BY d.attnum), 0), 0) \
      FROM pg_attribute d WHERE d.attrelid = c.oid AND d.attnum > 0 AND NOT d.attisdropped)";

/// How pgoutput decides: of the relation and its ancestors the topmost counts that a publication with `publish_via_partition_root` has,
/// and publications that name one below it do not count. What FOR ALL TABLES and TABLES IN SCHEMA publish has no filter.
///
/// <https://www.postgresql.org/docs/current/logical-replication-row-filter.html>
fn shapes_query(server_version: u32) -> String {
    let (in_schema, filter, listed) = if server_version >= 150_000 {
        (
            "EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid \
             AND s.pnnspid = (SELECT i.relnamespace FROM pg_class i WHERE i.oid = k.ancestor))",
            "r.prqual",
            "r.prattrs::int2[]",
        )
    } else {
        ("false", "NULL::pg_node_tree", "NULL::int2[]")
    };
    let generated = if server_version >= 180_000 { "p.pubgencols = 's'" } else { "false" };
    // One relation after the other, each by lookups of indexes, which `OFFSET 0` keeps apart: whatever the statistics of the catalogs say, or
    // if there are none, no part of it reads a catalog whole.
    format!(
        "WITH RECURSIVE above(oid, ancestor, level, is_partition) AS ( \
           SELECT w.oid, w.oid, 0, true FROM unnest($2::oid[]) AS w(oid) \
           UNION SELECT a.oid, i.inhparent, a.level + 1, \
             a.is_partition AND (SELECT k.relispartition FROM pg_class k WHERE k.oid = a.ancestor) \
           FROM above a CROSS JOIN LATERAL (SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = a.ancestor OFFSET 0) AS i \
         ), path AS ( \
           SELECT a.oid, array_agg(a.ancestor ORDER BY a.level) FILTER (WHERE a.is_partition) AS tables, \
             array_agg(DISTINCT a.ancestor) FILTER (WHERE a.level > 0) AS above \
           FROM above a GROUP BY a.oid \
         ) \
         SELECT c.oid, (SELECT n.nspname::text FROM pg_namespace n WHERE n.oid = c.relnamespace), c.relname::text, c.relfilenode, {DEFINITION}, \
           columns.numbers, columns.names, columns.types, columns.modifiers, \
           CASE WHEN NOT t.is_unfiltered THEN t.filters END, {IS_HEAP}, t.announced, path.tables[cardinality(path.tables)], \
           ancestors.oids, ancestors.schemas, ancestors.names \
         FROM path \
         CROSS JOIN LATERAL (SELECT * FROM pg_class k WHERE k.oid = path.oid AND k.relkind = 'r' OFFSET 0) AS c \
         CROSS JOIN LATERAL ( \
           SELECT max(term.ancestor) AS announced, bool_or(term.filter IS NULL) AS is_unfiltered, bool_or(term.listed IS NULL) AS is_whole, \
             bool_or(term.listed IS NULL AND term.is_generated) AS is_generated, \
             array_agg(DISTINCT pg_get_expr(term.filter, term.ancestor)) AS filters, \
             array_agg(DISTINCT l.attname::text) AS listed \
           FROM ( \
             SELECT k.ancestor, CASE WHEN p.puballtables OR {in_schema} THEN NULL ELSE {filter} END AS filter, \
               CASE WHEN p.puballtables THEN NULL ELSE {listed} END AS listed, {generated} AS is_generated \
             FROM ( \
               SELECT m.oid, m.level, max(m.level) OVER () AS top FROM ( \
                 SELECT p.oid, CASE WHEN p.pubviaroot THEN max(k.level) ELSE 1 END AS level \
                 FROM pg_publication p, unnest(path.tables) WITH ORDINALITY AS k(ancestor, level) \
                 WHERE p.pubname = ANY($1::text[]) AND (p.puballtables OR {in_schema} \
                   OR (SELECT true FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = k.ancestor)) \
                 GROUP BY p.oid, p.pubviaroot \
               ) AS m \
             ) AS m JOIN pg_publication p ON p.oid = m.oid \
             CROSS JOIN LATERAL (SELECT path.tables[m.level] AS ancestor) AS k \
             LEFT JOIN LATERAL (SELECT * FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = k.ancestor OFFSET 0) AS r ON true \
             WHERE m.level = m.top \
           ) AS term LEFT JOIN LATERAL (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = term.ancestor \
             AND a.attnum = ANY(term.listed::int2[]) OFFSET 0) AS l ON true \
           HAVING count(*) > 0 \
         ) AS t \
         CROSS JOIN LATERAL ( \
           SELECT coalesce(array_agg(a.attnum ORDER BY a.attnum), '{{}}'::int2[]) AS numbers, \
             coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{{}}'::text[]) AS names, \
             coalesce(array_agg(a.atttypid ORDER BY a.attnum), '{{}}'::oid[]) AS types, \
             coalesce(array_agg(a.atttypmod ORDER BY a.attnum), '{{}}'::int4[]) AS modifiers \
           FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
           AND CASE WHEN a.attname = ANY(t.listed) THEN a.attgenerated IN ('', 's') \
             ELSE t.is_whole AND (a.attgenerated = '' OR a.attgenerated = 's' AND t.is_generated) END \
         ) AS columns \
         CROSS JOIN LATERAL ( \
           SELECT coalesce(array_agg(k.oid ORDER BY k.oid), '{{}}'::oid[]) AS oids, \
             coalesce(array_agg(m.nspname::text ORDER BY k.oid), '{{}}'::text[]) AS schemas, \
             coalesce(array_agg(k.relname::text ORDER BY k.oid), '{{}}'::text[]) AS names \
           FROM unnest(path.above) AS up(oid) \
           CROSS JOIN LATERAL (SELECT * FROM pg_class k WHERE k.oid = up.oid OFFSET 0) AS k \
           CROSS JOIN LATERAL (SELECT * FROM pg_namespace n WHERE n.oid = k.relnamespace OFFSET 0) AS m \
         ) AS ancestors \
         WHERE t.is_unfiltered OR array_position(t.filters, NULL) IS NULL"
    )
}

#[cfg(test)]
mod tests;
