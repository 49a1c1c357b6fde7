//! One change of a table, on its way from a message to a batch.
//!
//! Owns: the words between the fold, which makes changes, and the batches, which append them.
//! Does not: decide anything; it carries.
//! Holds: a [`Change`] borrows its cells from the frame and its [`Plan`] from the fold, and copies neither.
//! Fails: never.

use std::ops::Deref;
use std::sync::Arc;

use pgoutput::{Lsn, OldTuple, Tuple, Xid};

use crate::schema::TableSchema;

/// What a row of the lake says happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A row was inserted.
    Insert,
    /// A row was updated; its key stayed.
    Update,
    /// A row was deleted, or left for another key.
    Delete,
    /// Everything older of the table, or of one relation of it, is superseded.
    Truncate,
    /// A row read by a snapshot.
    Row,
}

impl Op {
    /// Each of them.
    pub const ALL: [Op; 5] = [Op::Insert, Op::Update, Op::Delete, Op::Truncate, Op::Row];

    /// As `_cdc_op` holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Insert => "I",
            Op::Update => "U",
            Op::Delete => "D",
            Op::Truncate => "T",
            Op::Row => "R",
        }
    }
}

/// `_cdc_seq` of a marker: before every row that a snapshot read at its position, and before the changes of a transaction.
pub const MARKER_SEQ: i64 = -2;

/// What all rows of one transaction have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxStamp {
    /// Position of the commit record (`Begin::final_lsn`).
    pub commit_lsn: Lsn,
    /// When it committed, in microseconds since 1970-01-01 UTC.
    pub commit_time_unix_micros: i64,
    /// Its transaction id.
    pub xid: Xid,
}

/// A table of the fold, by its place in `Fold::tables`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableIndex(pub u32);

/// One change of a root table, borrowing the frame (`'a`) and the fold (`'f`).
#[derive(Clone, Copy, Debug)]
pub struct Change<'f, 'a> {
    /// The table it belongs to.
    pub table: TableIndex,
    /// What happened.
    pub op: Op,
    /// Ordinal in the transaction from 1; -1 for a snapshot row, -2 for a re-snapshot marker.
    pub seq: i64,
    /// Where the cells land.
    pub plan: &'f Plan,
    /// The cells.
    pub image: Image<'a>,
}

/// The cells of a change.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// No cells: every column of the table is NULL.
    Empty,
    /// A row that is there now. All tuples are in the order of the relation's columns.
    Row {
        /// The row.
        tuple: Tuple<'a>,
        /// The row before, if it was sent. A value in it takes the place of an unchanged cell of `tuple` at the same position.
        /// A NULL in it does not: a value that was left out for its size was never NULL, so that NULL only says
        /// that the old tuple held the key alone.
        fill: Option<OldTuple<'a>>,
    },
    /// A row that was there before.
    Old(OldTuple<'a>),
}

impl<'a> Change<'_, 'a> {
    /// The row before this change, if it was sent. An insertion has none: where a row comes from another key, its old row is
    /// that of the deletion just before.
    pub fn old(&self) -> Option<OldTuple<'a>> {
        match (self.image, self.op) {
            (Image::Row { fill, .. }, Op::Update) => fill,
            (Image::Old(old), _) => Some(old),
            (Image::Row { .. }, Op::Insert | Op::Delete | Op::Truncate | Op::Row) | (Image::Empty, _) => None,
        }
    }
}

/// Where the rows of one relation go. It is small, and leaves of one shape share the rest: rows of 20,000 of them, in no order, find it in a
/// processor's own memory.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `schema.name` of the relation that the rows physically come from.
    pub relation: Arc<str>,
    /// Where their cells land; what it has reads as the plan's own.
    pub landing: Arc<Landing>,
}

/// How the cells of relations of one shape land in the columns of their table.
#[derive(Clone, Debug)]
pub struct Landing {
    /// The schema whose columns `columns` counts.
    pub schema: Arc<TableSchema>,
    /// For every cell of a tuple, the index of its column in `schema.columns`; no index occurs twice.
    pub columns: Vec<u32>,
    /// The columns that no cell lands in, ascending, each with the text that it has in all rows of the relation; NULL without.
    pub absent: Vec<(u32, Option<Arc<str>>)>,
    /// The cells that identify a row; empty for a table without a key.
    pub key: Vec<u16>,
    /// A NULL in an `O` tuple is one. It is not where rows of a root come from a leaf whose own identity is not FULL (T24).
    pub old_is_whole: bool,
}

impl Deref for Plan {
    type Target = Landing;

    fn deref(&self) -> &Landing {
        &self.landing
    }
}

impl Plan {
    /// A plan that shares nothing with another.
    pub fn new(relation: impl Into<Arc<str>>, landing: Landing) -> Plan {
        Plan { relation: relation.into(), landing: Arc::new(landing) }
    }
}

impl Landing {
    /// A landing of rows without cells.
    pub fn of_markers(schema: Arc<TableSchema>) -> Landing {
        Landing { schema, columns: Vec::new(), absent: Vec::new(), key: Vec::new(), old_is_whole: false }
    }

    /// The columns of a schema that none of the cells of `columns` lands in, ascending; all of them NULL.
    pub fn absent(schema: &TableSchema, columns: &[u32]) -> Vec<(u32, Option<Arc<str>>)> {
        let mut has_cell = vec![false; schema.columns.len()];
        for index in columns {
            if let Some(has_cell) = usize::try_from(*index).ok().and_then(|at| has_cell.get_mut(at)) {
                *has_cell = true;
            }
        }
        let absent = (0..).zip(has_cell).filter(|(_, has_cell)| !has_cell);
        absent.map(|(index, _)| (index, None)).collect()
    }

    /// Goes on under a schema that has columns more, in which no cell lands.
    pub(crate) fn extend_to(&mut self, schema: &Arc<TableSchema>) {
        let more = self.schema.columns.len()..schema.columns.len();
        self.absent.extend(more.filter_map(|at| Some((u32::try_from(at).ok()?, None))));
        self.schema = Arc::clone(schema);
    }
}
