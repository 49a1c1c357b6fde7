//! Rows of one table, as they become a record batch.
//!
//! Owns: the metadata columns, and what goes to `_cdc_unchanged` and `_cdc_raw`.
//! Does not: choose tables or partitions, or decide when a batch is large enough.
//! Holds: every value lands exactly, or its exact Postgres text is in `_cdc_raw` of the same row; a value
//! that the stream left out is named in `_cdc_unchanged`; a NULL is otherwise Postgres's own.
//! Fails: [`CellError`]; the builder then holds half of a row and refuses everything after.

mod sparse;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use pgoutput::{Cell, Lsn, OldTuple};

use self::sparse::{SPARSE_ROW_BYTES, Sparse, Texts};
use crate::change::{Change, Image, Plan, TxStamp};
use crate::columns::{ColumnBuilder, Landed, Refusal, reserve, room};
use crate::schema::{Column, METADATA_COLUMNS, TableSchema, UTC};
use crate::types::Loss;

/// Rows of one table and schema version on their way to a [`RecordBatch`].
pub struct BatchBuilder {
    schema: Arc<TableSchema>,
    arrow: SchemaRef,
    metadata: Metadata,
    columns: Vec<ColumnBuilder>,
    rows: usize,
    bytes: usize,
    /// What there is room for since the last batch, in bytes.
    room_bytes: usize,
    /// What every row takes: values, offsets and validity of all columns.
    row_bytes: usize,
    lsn_range: Option<(Lsn, Lsn)>,
    is_broken: bool,
    /// A value that its lake type does not hold is an error.
    refuses_loss: bool,
    losses: Vec<Lossy>,
    /// Old rows, where the schema has a column for them.
    before: Option<Before>,
    scratch: Vec<u8>,
}

/// Cells of one column whose exact text went to `_cdc_raw` for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lossy {
    /// The place of the column in the schema.
    pub column: usize,
    /// The reason.
    pub loss: Loss,
    /// How many.
    pub cells: u64,
}

/// What one row added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Bytes that the builder grew by, estimated.
    pub bytes: usize,
    /// Cells whose exact text went to `_cdc_raw`.
    pub raw_cells: u32,
}

impl BatchBuilder {
    /// An empty batch of a table's schema.
    pub fn new(schema: Arc<TableSchema>) -> BatchBuilder {
        let arrow = schema.arrow();
        let before = schema.before.then(|| Before::new(&schema));
        let fields = arrow.fields().iter().skip(METADATA_COLUMNS.len() + usize::from(schema.before));
        let columns: Vec<ColumnBuilder> = schema
            .columns
            .iter()
            .zip(fields)
            .map(|(column, field)| ColumnBuilder::new(&column.codec, field.data_type()))
            .collect();
        let row_bits: usize = columns.iter().map(ColumnBuilder::row_bits).sum();
        BatchBuilder {
            schema,
            arrow,
            metadata: Metadata::default(),
            columns,
            rows: 0,
            bytes: 0,
            room_bytes: 0,
            row_bytes: Metadata::ROW_BYTES
                + before.as_ref().map_or(0, |_| Before::ROW_BYTES)
                + row_bits.div_ceil(8),
            lsn_range: None,
            is_broken: false,
            refuses_loss: false,
            losses: Vec::new(),
            before,
            scratch: Vec::new(),
        }
    }

    /// Makes a value that its lake type does not hold an error.
    pub fn refuse_loss(&mut self) {
        self.refuses_loss = true;
    }

    /// Cells whose exact text went to `_cdc_raw` since the last call.
    pub fn take_losses(&mut self) -> Vec<Lossy> {
        std::mem::take(&mut self.losses)
    }

    /// Appends one row. After an error the builder is of no more use.
    pub fn append(&mut self, stamp: &TxStamp, change: &Change<'_, '_>) -> Result<Appended, CellError> {
        if self.is_broken {
            return Err(CellError::Broken);
        }
        self.is_broken = true;
        let appended = match change.image {
            Image::Empty => {
                self.columns.iter_mut().for_each(ColumnBuilder::null);
                Appended { bytes: 0, raw_cells: 0 }
            }
            Image::Row { tuple, fill } => {
                self.check_plan(change.plan, tuple.len())?;
                let appended = match fill {
                    None => self.append_cells(change.plan, tuple.cells())?,
                    Some(fill) => {
                        self.append_cells(change.plan, filled(tuple.cells(), fill.tuple().cells()))?
                    }
                };
                self.append_absent(change.plan, appended)?
            }
            Image::Old(old) => {
                self.check_plan(change.plan, old.tuple().len())?;
                let appended = self.append_cells(change.plan, old.tuple().cells())?;
                self.append_absent(change.plan, appended)?
            }
        };
        let before_bytes = self.append_before(change)?;
        let metadata_bytes = self.metadata.append(stamp, change);
        self.rows += 1;
        let bytes = self.row_bytes + metadata_bytes + before_bytes + appended.bytes;
        self.bytes += bytes;
        self.lsn_range = Some(match self.lsn_range {
            None => (stamp.commit_lsn, stamp.commit_lsn),
            Some((first, last)) => (first.min(stamp.commit_lsn), last.max(stamp.commit_lsn)),
        });
        self.is_broken = false;
        Ok(Appended { bytes, ..appended })
    }

    /// The batch, and an empty builder in its place.
    pub fn finish(&mut self) -> Result<RecordBatch, CellError> {
        let batch = self.finish_with(ColumnBuilder::finish)?;
        self.room_bytes = 0;
        Ok(batch)
    }

    /// The batch, and in its place an empty builder with room for as much again: as many rows are about to come. Of a batch of large values, of
    /// which another need not come, no room is kept.
    pub fn finish_full(&mut self) -> Result<RecordBatch, CellError> {
        let (rows, bytes) = (self.rows, self.bytes);
        if bytes > ROOM_BYTES_MAX {
            return self.finish();
        }
        let batch = self.finish_with(ColumnBuilder::finish_full)?;
        self.metadata.ops.reserve_exact(room(rows));
        self.metadata.seqs.reserve_exact(room(rows));
        self.room_bytes = room(bytes);
        Ok(batch)
    }

    fn finish_with(
        &mut self,
        finish: fn(&mut ColumnBuilder) -> Result<ArrayRef, ArrowError>,
    ) -> Result<RecordBatch, CellError> {
        if self.is_broken {
            return Err(CellError::Broken);
        }
        self.is_broken = true;
        let rows = self.rows;
        let mut arrays = self.metadata.finish(&self.arrow)?;
        if let Some(before) = &mut self.before {
            let field = self.arrow.fields().get(METADATA_COLUMNS.len());
            arrays.push(before.texts.finish(rows, field.map(|field| field.data_type()))?);
        }
        for column in &mut self.columns {
            arrays.push(finish(column)?);
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.arrow), arrays)?;
        (self.rows, self.bytes, self.lsn_range) = (0, 0, None);
        self.is_broken = false;
        Ok(batch)
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of heap that its rows hold, estimated: values, offsets and validity.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of heap that it holds, estimated: its rows, or the room for them.
    pub fn held_bytes(&self) -> usize {
        self.bytes.max(self.room_bytes)
    }

    /// The least and the greatest commit LSN of its rows.
    pub fn lsn_range(&self) -> Option<(Lsn, Lsn)> {
        self.lsn_range
    }

    /// The schema of its batches.
    pub fn arrow_schema(&self) -> &SchemaRef {
        &self.arrow
    }

    /// The schema of its rows.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Whether a change surely fits: no column can then reach the 2 GiB at which Arrow's offsets end.
    ///
    /// A caller that cuts batches by size never meets the limit but with single values of a gigabyte.
    pub fn has_room_for(&self, change: &Change<'_, '_>) -> bool {
        let wire_bytes = match change.image {
            Image::Empty => 0,
            Image::Row { tuple, fill } => {
                tuple.wire_bytes().saturating_add(fill.map_or(0, |fill| fill.tuple().wire_bytes()))
            }
            Image::Old(old) => old.tuple().wire_bytes(),
        };
        // A byte of an invalid text takes four in `_cdc_raw`; one of a bit string is eight digits, here and there.
        let names = self.before.as_ref().map_or(0, |before| before.names_bytes);
        let more = wire_bytes.saturating_mul(16).saturating_add(change.plan.relation.len().max(names));
        reserve(self.bytes, more).is_ok()
    }

    fn check_plan(&self, plan: &Plan, cells: usize) -> Result<(), CellError> {
        if !Arc::ptr_eq(&plan.schema, &self.schema) && plan.schema.id != self.schema.id {
            let (planned, batch) = (plan.schema.id, self.schema.id);
            return Err(CellError::SchemaMismatch {
                relation: plan.relation.as_ref().into(),
                planned,
                batch,
            });
        }
        if cells != plan.columns.len() || cells + plan.absent.len() != self.columns.len() {
            let columns = plan.columns.len();
            return Err(CellError::CellCount { relation: plan.relation.as_ref().into(), cells, columns });
        }
        Ok(())
    }

    fn append_cells<'a>(
        &mut self,
        plan: &Plan,
        cells: impl Iterator<Item = Cell<'a>>,
    ) -> Result<Appended, CellError> {
        let mut appended = Appended { bytes: 0, raw_cells: 0 };
        for (cell, index) in cells.zip(&plan.columns) {
            let place = usize::try_from(*index).ok();
            let Some(builder) = place.and_then(|place| self.columns.get_mut(place)) else {
                return Err(no_column(plan, *index));
            };
            let landed = match cell {
                Cell::Null => {
                    builder.null();
                    continue;
                }
                Cell::Binary(bytes) => builder.binary(bytes),
                Cell::Text(bytes) => builder.text(bytes),
                Cell::Unchanged => {
                    builder.null();
                    self.append_inexact(plan, *index, cell, Ok(Landed::EXACT), &mut appended)?;
                    continue;
                }
            };
            match landed {
                Ok(Landed { loss: None, bytes }) => appended.bytes += bytes,
                landed => self.append_inexact(plan, *index, cell, landed, &mut appended)?,
            }
        }
        Ok(appended)
    }

    /// What a cell needs beside its column: a value that the stream left out, one that the lake type does not hold, and one that is none.
    #[cold]
    fn append_inexact(
        &mut self,
        plan: &Plan,
        index: u32,
        cell: Cell<'_>,
        landed: Result<Landed, Refusal>,
        appended: &mut Appended,
    ) -> Result<(), CellError> {
        let BatchBuilder { schema, metadata, scratch, losses, refuses_loss, .. } = self;
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(column) = schema.columns.get(place) else { return Err(no_column(plan, index)) };
        let beside = landed.and_then(|landed| {
            appended.bytes += landed.bytes;
            match landed.loss {
                None if cell == Cell::Unchanged => metadata.unchanged(&column.name),
                None => Ok(0),
                Some(loss) if *refuses_loss => Err(Refusal::Unrepresentable(loss)),
                Some(loss) => {
                    appended.raw_cells += 1;
                    count_loss(losses, place, loss);
                    metadata.raw.add(metadata.ops.len(), column, cell, scratch)
                }
            }
        });
        appended.bytes += beside.map_err(|refusal| CellError::of(refusal, plan, column, cell))?;
        Ok(())
    }

    /// Keeps the old row in so far as it is known, in files that have a column for it; what it took.
    fn append_before(&mut self, change: &Change<'_, '_>) -> Result<usize, CellError> {
        let BatchBuilder { schema, before, scratch, rows, .. } = self;
        let Some(before) = before else { return Ok(0) };
        let Some(old) = change.old() else { return Ok(0) };
        before.append(*rows, schema, change.plan, old, scratch)
    }

    /// Columns that the relation does not have read NULL, or what the plan says of all of its rows.
    fn append_absent(&mut self, plan: &Plan, mut appended: Appended) -> Result<Appended, CellError> {
        for (index, text) in &plan.absent {
            let place = usize::try_from(*index).ok();
            let column = place.and_then(|place| self.schema.columns.get(place));
            let builder = place.and_then(|place| self.columns.get_mut(place));
            let (Some(column), Some(builder)) = (column, builder) else {
                return Err(no_column(plan, *index));
            };
            let Some(text) = text else {
                builder.null();
                continue;
            };
            let landed = builder.text(text.as_bytes());
            let cell = Cell::Text(text.as_bytes());
            appended.bytes += landed.map_err(|refusal| CellError::of(refusal, plan, column, cell))?.bytes;
        }
        Ok(appended)
    }
}

#[cold]
fn no_column(plan: &Plan, index: u32) -> CellError {
    CellError::NoColumn { relation: plan.relation.as_ref().into(), index }
}

fn count_loss(losses: &mut Vec<Lossy>, column: usize, loss: Loss) {
    match losses.iter_mut().find(|counted| counted.column == column && counted.loss == loss) {
        Some(counted) => counted.cells += 1,
        None => losses.push(Lossy { column, loss, cells: 1 }),
    }
}

/// The cells of a row, where an old value takes the place of one that was left out as unchanged.
fn filled<'a>(
    cells: impl Iterator<Item = Cell<'a>>,
    fill: impl Iterator<Item = Cell<'a>>,
) -> impl Iterator<Item = Cell<'a>> {
    let fill = fill.map(Some).chain(std::iter::repeat(None));
    cells.zip(fill).map(|(cell, old)| match (cell, old) {
        (Cell::Unchanged, Some(old @ (Cell::Text(_) | Cell::Binary(_)))) => old,
        // T24: a NULL beside an unchanged value is no value; the old tuple held the key alone.
        (cell @ (Cell::Null | Cell::Unchanged | Cell::Text(_) | Cell::Binary(_)), _) => cell,
    })
}

/// The column of old rows.
struct Before {
    texts: Texts,
    /// The names of all columns together, which an old row has at most.
    names_bytes: usize,
}

impl Before {
    /// An offset and validity.
    const ROW_BYTES: usize = ENTRY_BYTES;

    fn new(schema: &TableSchema) -> Before {
        let names_bytes = schema.columns.iter().map(|column| column.name.len()).sum();
        Before { texts: Texts::default(), names_bytes }
    }

    /// Adds the cells that Postgres sent of the old row. A NULL that only stands for a column that was not sent is none of them
    /// (T08, T24): those of an identity are never NULL.
    fn append(
        &mut self,
        row: usize,
        schema: &TableSchema,
        plan: &Plan,
        old: OldTuple<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<usize, CellError> {
        let knows_nulls = match old {
            OldTuple::Key(_) => false,
            OldTuple::Full(_) => plan.old_is_whole,
        };
        let (cells, columns) = (old.tuple().len(), plan.columns.len());
        if cells != columns {
            return Err(CellError::CellCount { relation: plan.relation.as_ref().into(), cells, columns });
        }
        let told = plan
            .absent
            .iter()
            .filter_map(|(index, text)| Some((Cell::Text(text.as_deref()?.as_bytes()), index)));
        let mut bytes = 0;
        for (cell, index) in told.chain(old.tuple().cells().zip(&plan.columns)) {
            if cell == Cell::Null && !knows_nulls {
                continue;
            }
            let place = usize::try_from(*index).ok();
            let Some(column) = place.and_then(|place| schema.columns.get(place)) else {
                return Err(no_column(plan, *index));
            };
            let added = self.texts.add(row, column, cell, scratch);
            bytes += added.map_err(|refusal| CellError::of(refusal, plan, column, cell))?;
        }
        Ok(if bytes > 0 { bytes + SPARSE_ROW_BYTES } else { 0 })
    }
}

/// A batch that is larger was made so by large values.
const ROOM_BYTES_MAX: usize = 4 << 20;

/// The columns that every file begins with.
#[derive(Default)]
struct Metadata {
    ops: Vec<u8>,
    seqs: Vec<i64>,
    /// Transactions and relations, each with the number of its first row: they come in runs.
    stamps: Vec<(usize, TxStamp)>,
    relations: Vec<(usize, Arc<str>)>,
    unchanged: Sparse,
    unchanged_names: StringBuilder,
    raw: Texts,
}

impl Metadata {
    /// Four columns of 64 bits; op, relation, `_cdc_unchanged` and `_cdc_raw` with an offset each, the last two
    /// with validity, and the letter of the op.
    const ROW_BYTES: usize = 4 * 8 + 4 * 4 + 1 + 1;

    /// Appends the rest of a row whose cells are done; what it took beyond [`Metadata::ROW_BYTES`].
    fn append(&mut self, stamp: &TxStamp, change: &Change<'_, '_>) -> usize {
        let row = self.ops.len();
        if !self.stamps.last().is_some_and(|(_, last)| last == stamp) {
            self.stamps.push((row, *stamp));
        }
        let relation = &change.plan.relation;
        if !self.relations.last().is_some_and(|(_, last)| Arc::ptr_eq(last, relation)) {
            self.relations.push((row, Arc::clone(relation)));
        }
        self.ops.extend_from_slice(change.op.as_str().as_bytes());
        self.seqs.push(change.seq);
        relation.len()
    }

    /// Names a column whose value the stream left out of the row at hand.
    fn unchanged(&mut self, name: &str) -> Result<usize, Refusal> {
        reserve(self.unchanged_names.values_slice().len(), name.len())?;
        self.unchanged_names.append_value(name);
        self.unchanged.add(self.ops.len());
        Ok(name.len() + ENTRY_BYTES)
    }

    /// The arrays, in the order of [`METADATA_COLUMNS`].
    fn finish(&mut self, schema: &SchemaRef) -> Result<Vec<ArrayRef>, CellError> {
        let rows = self.ops.len();
        let ops = std::mem::take(&mut self.ops);
        let op_offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(1, rows));
        let stamps = std::mem::take(&mut self.stamps);
        let of_stamps = |value: fn(&TxStamp) -> i64| -> Vec<i64> {
            let mut values = Vec::with_capacity(rows);
            for (stamp, count) in runs(&stamps, rows) {
                values.extend(std::iter::repeat_n(value(stamp), count));
            }
            values
        };
        let commit_times = of_stamps(|stamp| stamp.commit_time_unix_micros);
        let data_type = |place: usize| schema.fields().get(place).map(|field| field.data_type());
        let unchanged = self.finish_unchanged(rows, data_type(6))?;
        let raw = self.raw.finish(rows, data_type(7))?;
        Ok(vec![
            Arc::new(StringArray::try_new(op_offsets, Buffer::from_vec(ops), None)?),
            Arc::new(Int64Array::from(of_stamps(|stamp| stamp.commit_lsn.as_i64()))),
            Arc::new(Int64Array::from(std::mem::take(&mut self.seqs))),
            Arc::new(TimestampMicrosecondArray::from(commit_times).with_timezone(UTC)),
            Arc::new(Int64Array::from(of_stamps(|stamp| i64::from(stamp.xid.0)))),
            Arc::new(self.finish_relations(rows)?),
            unchanged,
            raw,
        ])
    }

    fn finish_relations(&mut self, rows: usize) -> Result<StringArray, CellError> {
        let found = std::mem::take(&mut self.relations);
        let mut bytes = 0;
        for (relation, count) in runs(&found, rows) {
            let more = relation.len().saturating_mul(count);
            if reserve(bytes, more).is_err() {
                return Err(CellError::Full {
                    relation: relation.as_ref().into(),
                    column: "_cdc_relation".into(),
                });
            }
            bytes += more;
        }
        let mut relations = StringBuilder::with_capacity(rows, bytes);
        for (relation, count) in runs(&found, rows) {
            relations.append_value_n(relation, count);
        }
        Ok(relations.finish())
    }

    fn finish_unchanged(&mut self, rows: usize, data_type: Option<&DataType>) -> Result<ArrayRef, CellError> {
        let Some(DataType::List(element)) = data_type else { return Err(CellError::Broken) };
        let (offsets, validity) = std::mem::take(&mut self.unchanged).finish(rows)?;
        let names = Arc::new(self.unchanged_names.finish());
        Ok(Arc::new(ListArray::try_new(FieldRef::clone(element), offsets, names, validity)?))
    }
}

/// Values that come in runs, each with its count, of so many rows in all.
fn runs<T>(starts: &[(usize, T)], rows: usize) -> impl Iterator<Item = (&T, usize)> {
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain(std::iter::once(rows));
    starts.iter().zip(ends).map(|((start, value), end)| (value, end.saturating_sub(*start)))
}

/// A row that cannot be appended: a cell that cannot be read at all, or a plan that is not of this batch.
///
/// Names column, type, format and length, never the value.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// A cell is no value of its type.
    #[error("{relation}.{column}: {format} of {length} bytes is not a {type_name}")]
    Malformed {
        /// The relation it came from.
        relation: Box<str>,
        /// The column, by its Postgres name.
        column: Box<str>,
        /// Its type.
        type_name: Box<str>,
        /// `text` or `binary`.
        format: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A binary cell of a type whose binary form is not read.
    #[error("{relation}.{column}: binary of {length} bytes, but {type_name} is read as text only")]
    NoBinaryReader {
        /// The relation it came from.
        relation: Box<str>,
        /// The column, by its Postgres name.
        column: Box<str>,
        /// Its type.
        type_name: Box<str>,
        /// Its length in bytes.
        length: usize,
    },
    /// A value that its lake type does not hold, where that is not wanted.
    #[error(
        "{relation}.{column}: the lake type of {type_name} does not hold a value ({loss}; {format} of {length} bytes)"
    )]
    Unrepresentable {
        /// The relation it came from.
        relation: Box<str>,
        /// The column, by its Postgres name.
        column: Box<str>,
        /// Its type.
        type_name: Box<str>,
        /// The reason.
        loss: Loss,
        /// `text` or `binary`.
        format: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A column of the batch would pass 2 GiB.
    #[error("{relation}.{column}: the batch would hold more than 2 GiB of it")]
    Full {
        /// The relation the row came from.
        relation: Box<str>,
        /// The column.
        column: Box<str>,
    },
    /// A tuple and its plan disagree.
    #[error("{relation}: {cells} cells in a row that is planned for {columns}")]
    CellCount {
        /// The relation.
        relation: Box<str>,
        /// Cells of the tuple.
        cells: usize,
        /// Columns of the plan.
        columns: usize,
    },
    /// A plan names a column that the schema does not have.
    #[error("{relation}: planned for column {index}, which the schema does not have")]
    NoColumn {
        /// The relation.
        relation: Box<str>,
        /// The index.
        index: u32,
    },
    /// A row was planned for another version of the schema.
    #[error("{relation}: planned for schema {planned}, but the batch has schema {batch}")]
    SchemaMismatch {
        /// The relation.
        relation: Box<str>,
        /// Version of the plan.
        planned: u32,
        /// Version of the batch.
        batch: u32,
    },
    /// An error came before, or the metadata columns are not those of the schema.
    #[error("the batch is not usable after an error")]
    Broken,
    /// Arrow refuses the columns.
    #[error("the columns are not a record batch")]
    Arrow(#[from] ArrowError),
}

impl CellError {
    fn of(refusal: Refusal, plan: &Plan, column: &Column, cell: Cell<'_>) -> CellError {
        let relation = plan.relation.as_ref().into();
        let type_name = column.type_name.as_str().into();
        let column = column.source_name.as_str().into();
        let (format, length) = match cell {
            Cell::Null => ("null", 0),
            Cell::Unchanged => ("unchanged", 0),
            Cell::Text(bytes) => ("text", bytes.len()),
            Cell::Binary(bytes) => ("binary", bytes.len()),
        };
        match refusal {
            Refusal::Malformed => CellError::Malformed { relation, column, type_name, format, length },
            Refusal::NoBinaryReader => CellError::NoBinaryReader { relation, column, type_name, length },
            Refusal::Unrepresentable(loss) => {
                CellError::Unrepresentable { relation, column, type_name, loss, format, length }
            }
            Refusal::Full => CellError::Full { relation, column },
        }
    }
}

/// An entry of a list or map of text: an offset, and a bit of validity rounded up.
const ENTRY_BYTES: usize = 5;

#[cfg(test)]
mod tests;
