//! What the catalogs say of published tables, their partitions and their types.
//!
//! Owns: the queries for [`Facts`], whose number does not depend on how many tables there are.
//! Does not: keep what it read, or decide which table a row belongs to (`tables::fold`).
//! Holds: an ordinary REPLICATION role may run all of it; a table, partition or type that was asked for and is gone is said
//! to be gone.
//! Fails: as `fault` classifies the server's errors.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pgoutput::{Oid, ReplicaIdentity};
use tables::lineage::{ColumnFacts, Facts, LeafFacts, Link, RootFacts};
use tables::types::{Attribute, TypeFacts, TypeKind};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::folding::Folding;
use super::sql::{Sql, get};
use crate::error::{Error, Result};

pub use super::published::{
    IdentityProblem, IdentityReason, Publication, Reach, identity_problems, publication, publication_members,
    reach,
};
pub use super::server::{
    OpenTransaction, ServerFacts, next_xid, oldest_transaction, rolled_back, sees, server, written_lsn,
};

/// Everything about the tables of these publications: what is published, what lies above it (the root of a published
/// leaf) and below it (the leaves of a published root, which the stream announces as well).
///
/// Where leaves do not fold to their roots, every relation is its own root, and no leaves are told of.
pub async fn facts_all(sql: &Sql, publications: &[String], folding: &Folding) -> Result<Facts> {
    let fold_to_root = folding.to_root;
    let tree = published_tree(sql.server_version(), "p.pubname = ANY($1::text[])");
    let mut facts = Facts::default();
    if fold_to_root {
        // The root of each, asked of Postgres, is most of the time that 100,000 leaves take: only of what lies below nothing published.
        let query = format!(
            "{tree} SELECT c.oid, n.nspname::text, c.relname::text, \
               CASE WHEN above.oid IS NULL THEN {ROOT} ELSE above.oid END, c.relreplident::text, above.oid IS NULL \
             FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN ({PARTITIONED}) above ON above.oid = i.inhparent AND NOT i.inhdetachpending WHERE {IS_LEAF}"
        );
        let what = "partitions of the published tables";
        let leaf = |row: &Row| Ok((leaf(row)?, get::<bool>(row, 5)?));
        facts.leaves = with_roots(sql.read_each(what, &query, &[&publications], leaf).await?);
    }
    // Joined: under an OR, `IN (SELECT oid FROM tree)` outgrows work_mem and is scanned again for every table.
    let query = format!(
        "{tree}, wanted(oid) AS ( \
           SELECT unnest($2::oid[]) \
           UNION SELECT tree.oid FROM tree JOIN pg_class c ON c.oid = tree.oid WHERE NOT $3::bool OR NOT c.relispartition \
         ) SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident::text, '{{}}'::text[] \
         FROM wanted JOIN pg_class c ON c.oid = wanted.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {IS_TABLE}"
    );
    let above = roots_of(&facts.leaves);
    let parameters: [&(dyn ToSql + Sync); 3] = [&publications, &above, &fold_to_root];
    facts.roots = sql.read_each("published tables", &query, &parameters, root).await?;
    let roots: Vec<u32> = facts.roots.iter().map(|root| root.oid.0).collect();
    // Apart, for these tables and at once: with the tables the keys of all that there are would be looked up, or every one by itself.
    let query = format!(
        "SELECT i.indrelid, array_agg(a.attname::text ORDER BY k.position) {PRIMARY_KEYS} AND i.indrelid = ANY($1::oid[]) GROUP BY i.indrelid"
    );
    let key = |row: &Row| Ok((get::<u32>(row, 0)?, get::<Vec<String>>(row, 1)?));
    let keys = sql.read_each("primary keys of the published tables", &query, &[&roots], key).await?;
    let mut keys: HashMap<u32, Vec<String>> = keys.into_iter().collect();
    for root in &mut facts.roots {
        root.primary_key = keys.remove(&root.oid.0).unwrap_or_default();
    }
    facts.types = types(sql, &roots, &[]).await?;
    folding.apply(sql, &mut facts).await?;
    Ok(facts)
}

/// Leaves with their roots, out of leaves that come with their root and true, or with what lies right above them and false.
fn with_roots(mut found: Vec<(LeafFacts, bool)>) -> Vec<LeafFacts> {
    let above: HashMap<Oid, (Oid, bool)> =
        found.iter().map(|(leaf, is_root)| (leaf.oid, (leaf.root, *is_root))).collect();
    for (leaf, is_root) in &mut found {
        // As deep as there are leaves at most, so that contradicting facts end.
        for _ in 0..above.len() {
            match above.get(&leaf.root) {
                Some((root, of_root)) if !*is_root => (leaf.root, *is_root) = (*root, *of_root),
                Some(_) | None => break,
            }
        }
    }
    found.into_iter().map(|(leaf, _)| leaf).collect()
}

/// Which roots there are: the OIDs of what [`facts_all`] tells of, for a fraction of its price.
pub async fn published_roots(sql: &Sql, publications: &[String], folding: &Folding) -> Result<Vec<Oid>> {
    if folding.has_rules() {
        let facts = published_names(sql, publications, folding).await?;
        return Ok(facts.roots.iter().map(|root| root.oid).collect());
    }
    let fold_to_root = folding.to_root;
    let tree = published_tree(sql.server_version(), "p.pubname = ANY($1::text[])");
    let query = format!(
        "{tree} SELECT array_agg(CASE WHEN $2::bool AND c.relispartition THEN {ROOT} ELSE c.oid END) FROM ( \
           SELECT oid FROM tree \
           EXCEPT SELECT i.inhrelid FROM ({PARTITIONED}) above JOIN pg_inherits i ON i.inhparent = above.oid WHERE $2::bool AND NOT i.inhdetachpending \
         ) AS top JOIN pg_class c ON c.oid = top.oid"
    );
    let rows = sql.query("which tables are published", &query, &[&publications, &fold_to_root]).await?;
    let oids: Option<Vec<u32>> = rows.first().map(|row| get(row, 0)).transpose()?.flatten();
    Ok(oids.unwrap_or_default().into_iter().map(Oid).collect())
}

/// The published tables by their names alone, and those of them that are leaves without being partitions. Nothing is told of keys.
pub async fn published_names(sql: &Sql, publications: &[String], folding: &Folding) -> Result<Facts> {
    let tree = published_tree(sql.server_version(), "p.pubname = ANY($1::text[])");
    let query = format!(
        "{tree}, top(oid) AS ( \
           SELECT DISTINCT CASE WHEN $2::bool AND c.relispartition THEN {ROOT} ELSE c.oid END FROM ( \
             SELECT oid FROM tree \
             EXCEPT SELECT i.inhrelid FROM ({PARTITIONED}) above JOIN pg_inherits i ON i.inhparent = above.oid WHERE $2::bool \
           ) AS found JOIN pg_class c ON c.oid = found.oid \
         ) SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident::text, '{{}}'::text[] \
         FROM top JOIN pg_class c ON c.oid = top.oid JOIN pg_namespace n ON n.oid = c.relnamespace"
    );
    let parameters: [&(dyn ToSql + Sync); 2] = [&publications, &folding.to_root];
    let roots = sql.read_each("names of the published tables", &query, &parameters, root).await?;
    let mut facts = Facts { roots, ..Facts::default() };
    folding.apply(sql, &mut facts).await?;
    Ok(facts)
}

/// How many relations are published: tables and all partitions below them.
pub async fn published_count(sql: &Sql, publications: &[String]) -> Result<usize> {
    let tree = published_tree(sql.server_version(), "p.pubname = ANY($1::text[])");
    let query = format!("{tree} SELECT count(*) FROM tree");
    let rows = sql.query("how many tables are published", &query, &[&publications]).await?;
    let count: i64 = rows.first().map_or(Ok(0), |row| get(row, 0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// What a stream needs to know of relations and types that it met for the first time, and of the columns of tables that changed.
pub async fn facts_for(
    sql: &Sql,
    folding: &Folding,
    relations: &[Oid],
    wanted: &[Oid],
    changed: &[Oid],
) -> Result<Facts> {
    let mut facts = Facts::default();
    if !changed.is_empty() {
        let changed: Vec<u32> = changed.iter().map(|oid| oid.0).collect();
        facts.columns = columns(sql, &changed).await?;
        // A column of the key may have a new name.
        let query = format!(
            "{} WHERE {IS_TABLE} AND c.oid = ANY($1::oid[]) AND NOT c.relispartition",
            root_columns()
        );
        let rows = sql.query("tables that changed", &query, &[&changed]).await?;
        facts.roots = rows.iter().map(root).collect::<Result<_>>()?;
    }
    let relations: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    let wanted: Vec<u32> = wanted.iter().map(|oid| oid.0).collect();
    if !relations.is_empty() {
        let query = format!(
            "SELECT c.oid, n.nspname::text, c.relname::text, {ROOT}, c.relreplident::text \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1::oid[]) AND {IS_LEAF}"
        );
        let rows = sql.query("partitions that appeared in the stream", &query, &[&relations]).await?;
        facts.leaves = rows.iter().map(leaf).collect::<Result<_>>()?;
        let query = format!(
            "{} WHERE {IS_TABLE} AND (c.oid = ANY($2::oid[]) \
             OR c.oid = ANY($1::oid[]) AND NOT c.relispartition)",
            root_columns()
        );
        let above = roots_of(&facts.leaves);
        let rows = sql.query("tables that appeared in the stream", &query, &[&relations, &above]).await?;
        facts.roots.extend(rows.iter().map(root).collect::<Result<Vec<_>>>()?);
        let known: BTreeSet<u32> = facts
            .roots
            .iter()
            .map(|root| root.oid.0)
            .chain(facts.leaves.iter().map(|leaf| leaf.oid.0))
            .collect();
        facts.gone = relations.iter().filter(|oid| !known.contains(oid)).map(|oid| Oid(*oid)).collect();
    }
    facts.types = types(sql, &relations, &wanted).await?;
    let known: BTreeSet<u32> = facts.types.iter().map(|facts| facts.oid.0).collect();
    facts.gone.extend(wanted.iter().filter(|oid| !known.contains(oid)).map(|oid| Oid(*oid)));
    folding.apply(sql, &mut facts).await?;
    // A table that only patterns make is in no catalog.
    let made_up: Vec<RootFacts> = facts.gone.iter().filter_map(|oid| folding.made_up(*oid)).collect();
    facts.gone.retain(|oid| made_up.iter().all(|root| root.oid != *oid));
    facts.roots.extend(made_up);
    Ok(facts)
}

/// `WITH RECURSIVE … tree(oid)`: what the publications that `condition` selects name, with all partitions below.
///
/// Through the indexes of pg_inherits and not through `pg_get_publication_tables`, which is quadratic in the partitions of
/// a schema, and hides leaves or roots depending on `publish_via_partition_root`.
pub(super) fn published_tree(server_version: u32, condition: &str) -> String {
    let schemas = if server_version >= 150_000 {
        format!(
            "UNION SELECT c.oid FROM pg_class c JOIN pg_publication_namespace s ON s.pnnspid = c.relnamespace \
             JOIN pg_publication p ON p.oid = s.pnpubid WHERE {condition} AND {IS_TABLE} AND c.relpersistence = 'p'"
        )
    } else {
        String::new()
    };
    format!(
        "WITH RECURSIVE member(oid) AS ( \
           SELECT r.prrelid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE {condition} \
           {schemas} \
           UNION SELECT c.oid FROM pg_class c \
           WHERE {IS_TABLE} AND {MAY_BE_PUBLISHED} \
           AND EXISTS (SELECT FROM pg_publication p WHERE {condition} AND p.puballtables) \
         ), {TREE}"
    )
}

/// `WITH RECURSIVE … tree(oid)`: every table that could be published.
pub(super) fn whole_tree() -> String {
    format!(
        "WITH RECURSIVE member(oid) AS (SELECT c.oid FROM pg_class c WHERE {IS_TABLE} AND {MAY_BE_PUBLISHED}), {TREE}"
    )
}

/// What lies below a partitioned table is a partition; `pg_class` would tell as well, but is read as a whole for it at every level.
const TREE: &str = "tree(oid) AS ( \
                    SELECT oid FROM member \
                    UNION SELECT i.inhrelid FROM tree JOIN pg_partitioned_table t ON t.partrelid = tree.oid \
                    JOIN pg_inherits i ON i.inhparent = t.partrelid)";

/// Those of a tree that have partitions. One that `DETACH … CONCURRENTLY` is about to take away is in the tree still, but for `pg_partition_root` and
/// for whoever selects from its root it is a table of its own.
const PARTITIONED: &str =
    "SELECT t.partrelid AS oid FROM tree JOIN pg_partitioned_table t ON t.partrelid = tree.oid";

/// Whether relation `c` is a heap: its size tells whether it is empty, and block numbers mean something.
pub(crate) const IS_HEAP: &str =
    "EXISTS (SELECT FROM pg_am m WHERE m.oid = c.relam AND m.amhandler = 'heap_tableam_handler'::regproc)";

pub(super) const IS_TABLE: &str = "c.relkind IN ('r', 'p')";

/// A partition on the way to a leaf counts as a leaf: with `publish_via_partition_root` rows can arrive under it.
const IS_LEAF: &str = "c.relispartition AND c.relkind IN ('r', 'p')";

/// Permanent, and not of the system: objects of initdb have lower OIDs.
const MAY_BE_PUBLISHED: &str = "c.relpersistence = 'p' AND c.oid >= 16384";

/// The topmost partitioned table above relation `c`, which is a partition.
pub(super) const ROOT: &str = "coalesce(pg_partition_root(c.oid)::oid, c.oid)";

/// The columns of primary keys, one by one.
const PRIMARY_KEYS: &str = "FROM pg_index i \
       CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position) \
       JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
       WHERE i.indisprimary AND k.position <= i.indnkeyatts";

/// Of few tables: each looks its key up.
pub(super) fn root_columns() -> String {
    format!(
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident::text, \
         (SELECT coalesce(array_agg(a.attname::text ORDER BY k.position), '{{}}'::text[]) {PRIMARY_KEYS} AND i.indrelid = c.oid) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    )
}

fn roots_of(leaves: &[LeafFacts]) -> Vec<u32> {
    let roots: BTreeSet<u32> = leaves.iter().map(|leaf| leaf.root.0).collect();
    roots.into_iter().collect()
}

fn leaf(row: &Row) -> Result<LeafFacts> {
    Ok(LeafFacts {
        oid: Oid(get(row, 0)?),
        schema: get(row, 1)?,
        name: get(row, 2)?,
        root: Oid(get(row, 3)?),
        link: Link::Partition,
        replica_identity: identity(get(row, 4)?)?,
    })
}

pub(super) fn root(row: &Row) -> Result<RootFacts> {
    Ok(RootFacts {
        oid: Oid(get(row, 0)?),
        schema: get(row, 1)?,
        name: get(row, 2)?,
        primary_key: get(row, 4)?,
        replica_identity: identity(get(row, 3)?)?,
    })
}

fn identity(letter: &str) -> Result<ReplicaIdentity> {
    Ok(match letter {
        "d" => ReplicaIdentity::Default,
        "n" => ReplicaIdentity::Nothing,
        "f" => ReplicaIdentity::Full,
        "i" => ReplicaIdentity::Index,
        _ => {
            return Err(Error::definite(format!("replica identity `{letter}` is not known to this version")));
        }
    })
}

/// The columns of relations as they are now; none for one that is gone.
async fn columns(sql: &Sql, relations: &[u32]) -> Result<Vec<(Oid, Vec<ColumnFacts>)>> {
    let rows = sql.query("columns of tables that changed", COLUMNS, &[&relations]).await?;
    let mut columns: BTreeMap<u32, Vec<ColumnFacts>> =
        relations.iter().map(|oid| (*oid, Vec::new())).collect();
    for row in &rows {
        columns.entry(get(row, 0)?).or_default().push(ColumnFacts {
            name: get(row, 1)?,
            attnum: get(row, 2)?,
            missing: get(row, 3)?,
            has_default: get(row, 4)?,
            is_generated: get(row, 5)?,
        });
    }
    Ok(columns.into_iter().map(|(oid, columns)| (Oid(oid), columns)).collect())
}

/// `attmissingval` is an array of one element, of the column's type. A partitioned table stores no rows: its oldest leaf tells.
/// Not by `pg_partition_tree`, which locks all leaves at once.
const COLUMNS: &str = "WITH RECURSIVE below(top, oid) AS (SELECT c.oid, c.oid FROM pg_class c WHERE c.oid = ANY($1::oid[]) \
        UNION ALL SELECT b.top, i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid \
        JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition), \
      relation(oid, stored) AS (SELECT b.top, min(b.oid::int8)::oid FROM below b \
        JOIN pg_class c ON c.oid = b.oid WHERE c.relkind <> 'p' GROUP BY b.top) \
      SELECT r.oid, a.attname::text, a.attnum, \
        (SELECT value FROM pg_attribute s, unnest(s.attmissingval::text::text[]) AS value \
         WHERE s.attrelid = r.stored AND s.attname = a.attname AND s.atthasmissing), \
        a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' \
      FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid WHERE a.attnum > 0 AND NOT a.attisdropped \
      ORDER BY r.oid, a.attnum";

/// The columns of tables, as the stream announces them: generated ones are not in it, unless a publication of 18 says so,
/// and then a Relation message does.
pub async fn columns_of(sql: &Sql, tables: &[Oid]) -> Result<Vec<PublishedColumn>> {
    let oids: Vec<u32> = tables.iter().map(|table| table.0).collect();
    let rows = sql.query("columns of the published tables", PUBLISHED_COLUMNS, &[&oids]).await?;
    rows.iter()
        .map(|row| {
            Ok(PublishedColumn {
                table: Oid(get(row, 0)?),
                name: get(row, 1)?,
                type_oid: Oid(get(row, 2)?),
                type_modifier: get(row, 3)?,
            })
        })
        .collect()
}

/// Of these columns by their names, those that relations have: relation and column.
pub async fn columns_named(sql: &Sql, relations: &[Oid], names: &[&str]) -> Result<Vec<(Oid, String)>> {
    let relations: Vec<u32> = relations.iter().map(|oid| oid.0).collect();
    let query = "SELECT a.attrelid, a.attname::text FROM pg_attribute a WHERE a.attrelid = ANY($1::oid[]) \
         AND a.attname = ANY($2::text[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2";
    let rows = sql.query("columns that have the names of groups", query, &[&relations, &names]).await?;
    rows.iter().map(|row| Ok((Oid(get(row, 0)?), get(row, 1)?))).collect()
}

/// The types of the published tables' columns save for the `usual` ones, each once a table. Partitions have the types of what they are
/// partitions of, so that only what the publications name is looked at: a partition that is named itself, and not what is right above it, is one more.
pub async fn published_types(
    sql: &Sql,
    publications: &[String],
    usual: &[Oid],
) -> Result<Vec<PublishedType>> {
    let usual: Vec<u32> = usual.iter().map(|oid| oid.0).collect();
    let tree = published_tree(sql.server_version(), "p.pubname = ANY($1::text[])");
    let query = format!(
        "{tree} SELECT DISTINCT n.nspname::text, c.relname::text, c.relispartition, a.atttypid \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid <> ALL($2::oid[]) AND c.oid = ANY(ARRAY( \
           SELECT oid FROM member EXCEPT SELECT i.inhrelid FROM member JOIN pg_partitioned_table t ON t.partrelid = member.oid \
           JOIN pg_inherits i ON i.inhparent = t.partrelid))"
    );
    let rows = sql.query("types of the published tables", &query, &[&publications, &usual]).await?;
    rows.iter()
        .map(|row| {
            Ok(PublishedType {
                schema: get(row, 0)?,
                table: get(row, 1)?,
                is_partition: get(row, 2)?,
                oid: Oid(get(row, 3)?),
            })
        })
        .collect()
}

/// A type that a published table has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedType {
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The table is a partition of one that is not published.
    pub is_partition: bool,
    /// The type.
    pub oid: Oid,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedColumn {
    /// The table.
    pub table: Oid,
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
    /// The type's modifier, -1 for none.
    pub type_modifier: i32,
}

const PUBLISHED_COLUMNS: &str = "SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod FROM pg_attribute a \
      WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
      ORDER BY a.attrelid, a.attnum";

/// The types that are not built in among the columns of `relations`, the `wanted` ones, and what either is made of.
async fn types(sql: &Sql, relations: &[u32], wanted: &[u32]) -> Result<Vec<TypeFacts>> {
    let rows = sql.query("types of the published columns", TYPES, &[&relations, &wanted]).await?;
    rows.iter().map(type_facts).collect()
}

/// A row type's attributes come as three arrays.
const TYPES: &str = "WITH RECURSIVE used(oid) AS ( \
       SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = ANY($1::oid[]) \
       AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384 \
       UNION SELECT unnest($2::oid[]) \
       UNION SELECT part.oid FROM used JOIN pg_type t ON t.oid = used.oid \
       CROSS JOIN LATERAL ( \
         VALUES (t.typbasetype), (t.typelem) \
         UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid \
         UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid \
         UNION ALL SELECT a.atttypid FROM pg_attribute a \
         WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
       ) AS part(oid) WHERE part.oid >= 16384 \
     ) \
     SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typbasetype, t.typtypmod, t.typelem, \
     t.typsubscript = 'array_subscript_handler'::regproc, ascii(t.typdelim::text), t.typsend <> 0, \
     coalesce((SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid), 0::oid), \
     coalesce((SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid), 0::oid), \
     attributes.names, attributes.types, attributes.modifiers \
     FROM used JOIN pg_type t ON t.oid = used.oid JOIN pg_namespace n ON n.oid = t.typnamespace \
     CROSS JOIN LATERAL ( \
       SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}'::text[]) AS names, \
       coalesce(array_agg(a.atttypid ORDER BY a.attnum), '{}'::oid[]) AS types, \
       coalesce(array_agg(a.atttypmod ORDER BY a.attnum), '{}'::int4[]) AS modifiers \
       FROM pg_attribute a \
       WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
     ) AS attributes";

fn type_facts(row: &Row) -> Result<TypeFacts> {
    let is_array: bool = get(row, 7)?;
    let kind = match get::<&str>(row, 3)? {
        "d" => TypeKind::Domain { base: Oid(get(row, 4)?), type_modifier: get(row, 5)? },
        "e" => TypeKind::Enum,
        "c" => TypeKind::Composite { attributes: attributes(row)? },
        "r" => TypeKind::Range { bound: Oid(get(row, 10)?) },
        "m" => TypeKind::Multirange { range: Oid(get(row, 11)?) },
        "b" if is_array => TypeKind::Array { element: Oid(get(row, 6)?) },
        "b" => {
            let delimiter = u8::try_from(get::<i32>(row, 8)?).unwrap_or(b',');
            TypeKind::Base { delimiter, is_sent: get(row, 9)? }
        }
        // Pseudo-type, and whatever comes.
        _ => TypeKind::Other,
    };
    Ok(TypeFacts { oid: Oid(get(row, 0)?), schema: get(row, 1)?, name: get(row, 2)?, kind })
}

fn attributes(row: &Row) -> Result<Vec<Attribute>> {
    let (names, types, modifiers): (Vec<String>, Vec<u32>, Vec<i32>) =
        (get(row, 12)?, get(row, 13)?, get(row, 14)?);
    let attributes = names.into_iter().zip(types).zip(modifiers);
    Ok(attributes
        .map(|((name, type_oid), type_modifier)| Attribute { name, type_oid: Oid(type_oid), type_modifier })
        .collect())
}
