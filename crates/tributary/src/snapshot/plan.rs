//! What is read when: big relations in pieces, many small ones together.
//!
//! Owns: the sizes of relations as the source has them, and the rule that makes tasks of them.
//! Does not: read rows or columns; what a task needs to know of its relations is asked for when it runs (`query`).
//! Holds: every block of every relation is in exactly one piece, whatever the relation grows to; planning takes no two locks at a time.
//! Fails: as the source does.

use pgoutput::Oid;
use tokio_postgres::Row;

use crate::error::{Error, Result};
use crate::source::Sql;
use crate::source::catalog::IS_HEAP;
use crate::source::sql::get;

/// A relation with rows of its own, as it was at the point.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// The relation: a plain table or a leaf.
    pub oid: Oid,
    /// What it is read for: the table that its rows belong to, or a leaf that is read by itself.
    pub root: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Changes whenever the relation is rewritten or truncated: rows are then where they were not before.
    pub filenode: u32,
    /// How many blocks it has.
    pub blocks: u32,
    /// What its blocks hold, in bytes.
    pub heap_bytes: u64,
    /// What lies beside them for being large, in bytes.
    pub toast_bytes: u64,
    /// How many rows it has, as the last VACUUM or ANALYZE estimated; `None` if there was none.
    pub rows: Option<u64>,
    /// Whether block numbers mean something: not to access methods of extensions.
    pub has_blocks: bool,
}

impl Relation {
    /// What reading it moves, about.
    pub fn bytes(&self) -> u64 {
        self.heap_bytes.saturating_add(self.toast_bytes)
    }
}

/// A range of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocks {
    /// From this one.
    pub from: u32,
    /// Up to this one, which is not in it; to the relation's end if there is none.
    pub until: Option<u32>,
}

impl Blocks {
    /// The whole relation.
    pub const ALL: Blocks = Blocks { from: 0, until: None };
}

/// A relation or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is read for.
    pub root: Oid,
    /// The relation.
    pub relation: Oid,
    /// Which blocks of it.
    pub blocks: Blocks,
    /// What reading it moves, about.
    pub bytes: u64,
}

/// What one worker reads in one go: one piece of a big relation, or many small relations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// In this order.
    pub pieces: Vec<Piece>,
    /// What reading it moves, about.
    pub bytes: u64,
}

/// How large a task gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Heap and TOAST of a piece, and of small relations together.
    pub bytes: u64,
    /// Relations of a task.
    pub relations: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 64 << 20, relations: 200 }
    }
}

/// Divides relations into tasks, in the order of roots and then relations.
pub fn tasks(mut relations: Vec<Relation>, limits: Limits) -> Vec<Task> {
    relations.sort_by_key(|relation| (relation.root, relation.oid));
    relations.dedup_by_key(|relation| (relation.root, relation.oid));
    let mut tasks = Vec::new();
    let mut open = Task::default();
    for relation in &relations {
        let bytes = relation.bytes();
        if bytes > limits.bytes && relation.has_blocks && relation.blocks > 1 {
            tasks.extend(pieces(relation, limits.bytes));
            continue;
        }
        let is_full =
            open.pieces.len() >= limits.relations || open.bytes.saturating_add(bytes) > limits.bytes;
        if is_full && !open.pieces.is_empty() {
            tasks.push(std::mem::take(&mut open));
        }
        let (root, relation) = (relation.root, relation.oid);
        open.pieces.push(Piece { root, relation, blocks: Blocks::ALL, bytes });
        open.bytes = open.bytes.saturating_add(bytes);
    }
    if !open.pieces.is_empty() {
        tasks.push(open);
    }
    tasks
}

/// Pieces of about the same size, and of at most `bytes_max` if TOAST is spread evenly; a task each. The last has no end: the relation
/// may have been larger than it was when its size was asked for.
fn pieces(relation: &Relation, bytes_max: u64) -> impl Iterator<Item = Task> {
    let blocks = u64::from(relation.blocks);
    let wanted = relation.bytes().div_ceil(bytes_max.max(1)).clamp(1, blocks);
    let each = blocks.div_ceil(wanted);
    let count = blocks.div_ceil(each);
    let (root, oid) = (relation.root, relation.oid);
    let total = relation.bytes();
    (0..count).map(move |index| {
        let block = |index: u64| u32::try_from(index.saturating_mul(each)).unwrap_or(u32::MAX);
        let until = (index + 1 < count).then(|| block(index + 1));
        let bytes = total / count;
        let piece = Piece { root, relation: oid, blocks: Blocks { from: block(index), until }, bytes };
        Task { pieces: vec![piece], bytes }
    })
}

/// The relations among `(relation, root)` that have rows of their own and can be published, as they were at the snapshot of
/// the session's transaction; see [`super::worker::transaction`].
///
/// Sizes are of now. They are only hints, so a relation that somebody holds exclusively is not waited for.
pub async fn relations(sql: &Sql, wanted: &[(Oid, Oid)]) -> Result<Vec<Relation>> {
    let mut found = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(RELATIONS_A_QUERY) {
        let (relations, roots): (Vec<u32>, Vec<u32>) =
            wanted.iter().map(|(relation, root)| (relation.0, root.0)).unzip();
        let rows = sql.query("sizes of the tables", &sizes(), &[&relations, &roots]).await?;
        for row in &rows {
            found.push(relation(row)?);
        }
    }
    Ok(found)
}

fn relation(row: &Row) -> Result<Relation> {
    let size = |column: usize| -> Result<u64> { Ok(u64::try_from(get::<i64>(row, column)?).unwrap_or(0)) };
    let heap_bytes = size(5)?;
    let block_bytes = size(7)?;
    let rows: f64 = get(row, 8)?;
    Ok(Relation {
        oid: Oid(get(row, 0)?),
        root: Oid(get(row, 1)?),
        schema: get(row, 2)?,
        name: get(row, 3)?,
        filenode: get(row, 4)?,
        blocks: u32::try_from(heap_bytes.checked_div(block_bytes).unwrap_or(0))
            .map_err(|_| Error::bug("a relation of more blocks than there can be"))?,
        heap_bytes,
        toast_bytes: size(6)?,
        rows: whole(rows),
        has_blocks: get(row, 9)?,
    })
}

/// `reltuples`, which is -1 where nobody has counted.
fn whole(rows: f64) -> Option<u64> {
    // Exact: it is a float4 on the server, and the text of one is a whole number.
    if rows < 0.0 { None } else { format!("{rows:.0}").parse().ok() }
}

const RELATIONS_A_QUERY: usize = 5_000;

/// `pg_relation_size` locks the relation and releases it at once; of one that is gone it gives NULL, and of one whose file is missing 0:
/// that a size is 0 does not prove that there are no rows.
fn sizes() -> String {
    format!(
        "WITH held AS MATERIALIZED ( \
        SELECT l.relation FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() \
        WHERE l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL) \
      SELECT c.oid, w.root, n.nspname::text, c.relname::text, c.relfilenode, \
        CASE WHEN held.relation IS NULL THEN coalesce(pg_relation_size(c.oid), 0) \
          ELSE c.relpages::int8 * block.bytes END, \
        CASE WHEN held.relation IS NULL AND c.reltoastrelid <> 0 THEN coalesce(pg_relation_size(c.reltoastrelid), 0) \
          ELSE 0 END, \
        block.bytes, c.reltuples::float8, \
        {IS_HEAP} \
      FROM unnest($1::oid[], $2::oid[]) AS w(oid, root) \
      JOIN pg_class c ON c.oid = w.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
      LEFT JOIN (SELECT DISTINCT relation FROM held) AS held ON held.relation = c.oid \
      CROSS JOIN (SELECT current_setting('block_size')::int8) AS block(bytes) \
      WHERE c.relkind = 'r' AND c.relpersistence = 'p'"
    )
}

#[cfg(test)]
mod tests;
