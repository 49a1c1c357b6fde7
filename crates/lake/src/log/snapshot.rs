//! How far the reading of the rows that a table has already got.
//!
//! Owns: [`TableSnapshot`], and how events change it.
//! Does not: know what a block or a filenode means to Postgres; it remembers.
//! Holds: what is said to be read is in files of the same entry or an earlier one.
//! Fails: never.

use std::collections::BTreeMap;

use pgoutput::Lsn;
use serde::{Deserialize, Serialize};

/// How far a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Asked for, or begun.
    #[default]
    Running,
    /// Every row is in the lake.
    Done,
    /// It cannot be read; the reason says why.
    SetAside,
}

impl Reading {
    /// The word for it in status and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Reading::Running => "running",
            Reading::Done => "done",
            Reading::SetAside => "set_aside",
        }
    }
}

/// The snapshot of one table, or of one leaf.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableSnapshot {
    /// `schema.table` as Postgres names it.
    pub table: String,
    /// The OID of the root, if only a leaf of it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<u32>,
    /// How far it is.
    pub state: Reading,
    /// What was in the lake before counts no more once the snapshot is done: a `T` is its last row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub supersedes: bool,
    /// The consistent point of the oldest rows that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<Lsn>,
    /// What is read of each relation, by OID; forgotten when the table is done.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relations: BTreeMap<u32, ReadRelation>,
    /// Rows read.
    #[serde(default)]
    pub rows: u64,
    /// Bytes read, as Postgres sent them.
    #[serde(default)]
    pub bytes: u64,
    /// Why it was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is read of a relation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadRelation {
    /// Where its rows were: another filenode is another relation.
    pub filenode: u32,
    /// A hash over its columns.
    pub definition: i64,
    /// Rows written by this transaction or a later one may not have been seen.
    pub xmin: u64,
    /// The block ranges that are read, in order; a range without an end goes to the end of the relation.
    pub ranges: Vec<(u32, Option<u32>)>,
}

/// A range of blocks of a relation that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadPiece {
    /// The relation.
    pub relation: u32,
    /// As [`ReadRelation::filenode`].
    pub filenode: u32,
    /// As [`ReadRelation::definition`].
    pub definition: i64,
    /// Its first block.
    pub from: u32,
    /// Up to this block, which is not in it; to the end of the relation if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u32>,
}

/// Pieces that were read at one point, and are in files of the same entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// `schema.table` as Postgres names it.
    pub table: String,
    /// The OID of the root table, or of the leaf if only that is read.
    pub relation: u32,
    /// The consistent point.
    pub lsn: Lsn,
    /// As [`ReadRelation::xmin`].
    pub xmin: u64,
    /// What was read.
    pub pieces: Vec<ReadPiece>,
    /// How many rows.
    pub rows: u64,
    /// How many bytes, as Postgres sent them.
    pub bytes: u64,
}

impl TableSnapshot {
    /// A table that is to be read. What was read before, without an end, is forgotten if `anew`.
    pub(super) fn start(&mut self, table: &str, root: Option<u32>, supersedes: bool, anew: bool) {
        if anew || self.state != Reading::Running {
            *self = TableSnapshot::default();
        }
        table.clone_into(&mut self.table);
        self.root = root;
        self.supersedes |= supersedes;
    }

    /// Adds a chunk.
    pub fn add(&mut self, chunk: &Chunk) {
        self.lsn = Some(self.lsn.map_or(chunk.lsn, |lsn| lsn.min(chunk.lsn)));
        self.rows += chunk.rows;
        self.bytes += chunk.bytes;
        for piece in &chunk.pieces {
            let fresh = ReadRelation {
                filenode: piece.filenode,
                definition: piece.definition,
                xmin: chunk.xmin,
                ranges: Vec::new(),
            };
            let read = self.relations.entry(piece.relation).or_insert_with(|| fresh.clone());
            if (read.filenode, read.definition) != (piece.filenode, piece.definition) {
                *read = fresh;
            }
            read.xmin = read.xmin.min(chunk.xmin);
            read.ranges.push((piece.from, piece.until));
            read.ranges = joined(std::mem::take(&mut read.ranges));
        }
    }

    /// Ends it; with a reason, it is set aside.
    pub fn end(&mut self, lsn: Lsn, reason: Option<&str>) {
        self.state = if reason.is_some() { Reading::SetAside } else { Reading::Done };
        self.reason = reason.map(str::to_owned);
        self.lsn = Some(self.lsn.unwrap_or(lsn));
        self.relations.clear();
    }
}

/// Ranges in order, those that touch or overlap joined.
fn joined(mut ranges: Vec<(u32, Option<u32>)>) -> Vec<(u32, Option<u32>)> {
    ranges.sort_unstable_by_key(|(from, _)| *from);
    let mut joined: Vec<(u32, Option<u32>)> = Vec::with_capacity(ranges.len());
    for (from, until) in ranges {
        match joined.last_mut() {
            Some((_, None)) => {}
            Some((_, last)) if last.is_some_and(|end| end >= from) => {
                *last = until.map(|until| until.max(last.unwrap_or(until)))
            }
            Some(_) | None => joined.push((from, until)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(relation: u32, filenode: u32, from: u32, until: Option<u32>) -> ReadPiece {
        ReadPiece { relation, filenode, definition: 7, from, until }
    }

    fn chunk(lsn: u64, xmin: u64, pieces: Vec<ReadPiece>) -> Chunk {
        Chunk { table: "s.t".to_owned(), relation: 1, lsn: Lsn(lsn), xmin, pieces, rows: 5, bytes: 50 }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        assert_eq!(
            joined(vec![(10, Some(20)), (0, Some(5)), (20, None), (5, Some(7))]),
            [(0, Some(7)), (10, None)]
        );
        assert_eq!(joined(vec![(0, None), (3, Some(5))]), [(0, None)]);
        assert_eq!(joined(vec![(0, Some(9)), (3, Some(5))]), [(0, Some(9))]);
    }

    #[test]
    fn what_is_read_counts_from_its_oldest_point() {
        let mut snapshot = TableSnapshot::default();
        snapshot.start("s.t", None, false, false);
        snapshot.add(&chunk(100, 50, vec![piece(1, 9, 0, Some(8))]));
        snapshot.add(&chunk(200, 70, vec![piece(1, 9, 8, None), piece(2, 4, 0, None)]));
        assert_eq!(snapshot.lsn, Some(Lsn(100)));
        assert_eq!((snapshot.rows, snapshot.bytes), (10, 100));
        assert_eq!(snapshot.relations[&1].xmin, 50);
        assert_eq!(snapshot.relations[&1].ranges, [(0, None)]);
        assert_eq!(snapshot.relations[&2].xmin, 70);
        // Rewritten: what was read of it before is not what it is now.
        snapshot.add(&chunk(300, 90, vec![piece(2, 5, 3, Some(4))]));
        assert_eq!(
            snapshot.relations[&2],
            ReadRelation { filenode: 5, definition: 7, xmin: 90, ranges: vec![(3, Some(4))] }
        );
        snapshot.end(Lsn(300), None);
        assert_eq!((snapshot.state, snapshot.lsn), (Reading::Done, Some(Lsn(100))));
        assert!(snapshot.relations.is_empty());
        snapshot.start("s.t", None, true, false);
        assert_eq!(
            snapshot,
            TableSnapshot { table: "s.t".to_owned(), supersedes: true, ..TableSnapshot::default() }
        );
    }
}
