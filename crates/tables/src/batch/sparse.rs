//! Metadata columns that most rows leave NULL.
//!
//! Owns: the offsets of lists and maps, and maps from column names to exact Postgres text.
//! Does not: decide which cells go there (`batch`).
//! Holds: a row without an entry is NULL, never empty; entries are added row by row.
//! Fails: [`Refusal`], for a cell whose text is not known or has no room.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, MapArray, NullBufferBuilder, StringBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef};
use pgoutput::Cell;

use super::{CellError, ENTRY_BYTES};
use crate::binary;
use crate::columns::{Refusal, render, reserve};
use crate::schema::Column;

/// Offsets of a list or map column that most rows leave NULL.
#[derive(Default)]
pub(super) struct Sparse {
    /// Entries of all rows so far.
    entries: usize,
    /// Rows that have any, each with the number of entries at its end.
    rows: Vec<(usize, usize)>,
}

impl Sparse {
    pub(super) fn add(&mut self, row: usize) {
        self.entries += 1;
        match self.rows.last_mut() {
            Some((last, end)) if *last == row => *end = self.entries,
            Some(_) | None => self.rows.push((row, self.entries)),
        }
    }

    pub(super) fn finish(self, rows: usize) -> Result<(OffsetBuffer<i32>, Option<NullBuffer>), CellError> {
        let mut offsets = Vec::with_capacity(rows + 1);
        let mut validity = NullBufferBuilder::new(rows);
        let mut before = 0;
        offsets.push(before);
        for (row, end) in self.rows {
            let nulls = row.saturating_sub(offsets.len() - 1);
            offsets.extend(std::iter::repeat_n(before, nulls));
            validity.append_n_nulls(nulls);
            before = i32::try_from(end).map_err(|_| CellError::Broken)?;
            offsets.push(before);
            validity.append_non_null();
        }
        let nulls = (rows + 1).saturating_sub(offsets.len());
        offsets.extend(std::iter::repeat_n(before, nulls));
        validity.append_n_nulls(nulls);
        Ok((OffsetBuffer::new(ScalarBuffer::from(offsets)), validity.finish()))
    }
}

/// A column of maps from column names to the text that Postgres prints.
#[derive(Default)]
pub(super) struct Texts {
    offsets: Sparse,
    names: StringBuilder,
    texts: StringBuilder,
}

impl Texts {
    /// Adds the exact text of a cell, NULL for NULL, to the map of a row; what it took. An unchanged cell has none.
    pub(super) fn add(
        &mut self,
        row: usize,
        column: &Column,
        cell: Cell<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<usize, Refusal> {
        let text = match cell {
            Cell::Unchanged => return Ok(0),
            Cell::Null => None,
            Cell::Text(text) => Some(escape_invalid(text)),
            Cell::Binary(bytes) => {
                scratch.clear();
                render(&column.codec, bytes, scratch)?;
                Some(escape_invalid(scratch))
            }
        };
        let length = text.as_ref().map_or(0, |text| text.len());
        reserve(self.names.values_slice().len(), column.name.len())?;
        reserve(self.texts.values_slice().len(), length)?;
        self.names.append_value(&column.name);
        self.texts.append_option(text);
        self.offsets.add(row);
        Ok(column.name.len() + length + 2 * ENTRY_BYTES)
    }

    /// The column, and an empty one in its place.
    pub(super) fn finish(
        &mut self,
        rows: usize,
        data_type: Option<&DataType>,
    ) -> Result<ArrayRef, CellError> {
        let Some(DataType::Map(entry, is_sorted)) = data_type else { return Err(CellError::Broken) };
        let DataType::Struct(fields) = entry.data_type() else { return Err(CellError::Broken) };
        let (offsets, validity) = std::mem::take(&mut self.offsets).finish(rows)?;
        let (names, texts) = (Arc::new(self.names.finish()), Arc::new(self.texts.finish()));
        let entries = StructArray::try_new(fields.clone(), vec![names, texts], None)?;
        Ok(Arc::new(MapArray::try_new(FieldRef::clone(entry), offsets, entries, validity, *is_sorted)?))
    }
}

/// What [`Sparse`] keeps of a row that is not NULL.
pub(super) const SPARSE_ROW_BYTES: usize = size_of::<(usize, usize)>();

/// A text as it is if it is UTF-8; otherwise every byte that is not as `\xHH`, and backslashes twice.
fn escape_invalid(text: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(text) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        escaped.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            let [high, low] = binary::hex(*byte).map(char::from);
            escaped.extend(['\\', 'x', high, low]);
        }
    }
    Cow::Owned(escaped)
}
