//! One column of a batch as it grows.
//!
//! Owns: the Arrow builders, one for every codec, and the way of a cell into them.
//! Does not: know names, tuples or what is done with a cell that does not land exactly (`batch`).
//! Holds: every call that succeeds adds one row, NULL or a value; no call allocates but to grow a buffer.
//! Fails: [`Refusal`]; the column has then none or half of the row and must not be used again.

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int32Builder, Int64Builder, ListArray, NullBufferBuilder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef};
use arrow::error::ArrowError;

use crate::binary::{self, ArrayBinary};
use crate::schema::UTC;
use crate::text::{self, ArrayText, Element, Held, Malformed};
use crate::types::Codec;

/// How a cell landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landed {
    /// It is the value; otherwise it is the nearest one or NULL, and the exact text belongs elsewhere.
    pub(crate) is_exact: bool,
    /// What it took beyond the width that every row of the column takes.
    pub(crate) bytes: usize,
}

/// Why a cell cannot land at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no value of its type.
    Malformed,
    /// It is binary, and its type's binary form is not read.
    NoBinaryReader,
    /// Offsets of a column end at 2 GiB.
    Full,
}

impl From<Malformed> for Refusal {
    fn from(Malformed: Malformed) -> Refusal {
        Refusal::Malformed
    }
}

/// A column's builder, by how its cells are read.
pub(crate) enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int2(Int32Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Oid(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Decimal {
        builder: Decimal128Builder,
        precision: u8,
        scale: i8,
    },
    NumericText(StringBuilder),
    /// Types whose text and binary form are the same bytes.
    Text(StringBuilder),
    Jsonb(StringBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Timestamptz(TimestampMicrosecondBuilder),
    Time(StringBuilder),
    Uuid(StringBuilder),
    Array(Box<ListBuilder>),
    Other(StringBuilder),
}

impl ColumnBuilder {
    /// An empty column; `data_type` is the Arrow type that its codec's lake type has.
    pub(crate) fn new(codec: &Codec, data_type: &DataType) -> ColumnBuilder {
        match codec {
            Codec::Bool => ColumnBuilder::Bool(BooleanBuilder::new()),
            Codec::Int2 => ColumnBuilder::Int2(Int32Builder::new()),
            Codec::Int4 => ColumnBuilder::Int4(Int32Builder::new()),
            Codec::Int8 => ColumnBuilder::Int8(Int64Builder::new()),
            Codec::Oid => ColumnBuilder::Oid(Int64Builder::new()),
            Codec::Float4 => ColumnBuilder::Float4(Float32Builder::new()),
            Codec::Float8 => ColumnBuilder::Float8(Float64Builder::new()),
            Codec::Decimal { precision, scale } => {
                let data_type = DataType::Decimal128(*precision, *scale);
                let builder = Decimal128Builder::new().with_data_type(data_type);
                ColumnBuilder::Decimal { builder, precision: *precision, scale: *scale }
            }
            Codec::NumericText => ColumnBuilder::NumericText(StringBuilder::new()),
            Codec::Text | Codec::Json | Codec::Enum => ColumnBuilder::Text(StringBuilder::new()),
            Codec::Jsonb => ColumnBuilder::Jsonb(StringBuilder::new()),
            Codec::Bytea => ColumnBuilder::Bytea(BinaryBuilder::new()),
            Codec::Date => ColumnBuilder::Date(Date32Builder::new()),
            Codec::Timestamp => ColumnBuilder::Timestamp(TimestampMicrosecondBuilder::new()),
            Codec::Timestamptz => {
                ColumnBuilder::Timestamptz(TimestampMicrosecondBuilder::new().with_timezone(UTC))
            }
            Codec::Time => ColumnBuilder::Time(StringBuilder::new()),
            Codec::Uuid => ColumnBuilder::Uuid(StringBuilder::new()),
            Codec::Array(element) => ColumnBuilder::Array(Box::new(ListBuilder::new(element, data_type))),
            Codec::Other => ColumnBuilder::Other(StringBuilder::new()),
        }
    }

    /// Appends NULL.
    pub(crate) fn null(&mut self) {
        match self {
            ColumnBuilder::Bool(builder) => builder.append_null(),
            ColumnBuilder::Int2(builder) | ColumnBuilder::Int4(builder) => builder.append_null(),
            ColumnBuilder::Int8(builder) | ColumnBuilder::Oid(builder) => builder.append_null(),
            ColumnBuilder::Float4(builder) => builder.append_null(),
            ColumnBuilder::Float8(builder) => builder.append_null(),
            ColumnBuilder::Decimal { builder, .. } => builder.append_null(),
            ColumnBuilder::NumericText(builder)
            | ColumnBuilder::Text(builder)
            | ColumnBuilder::Jsonb(builder)
            | ColumnBuilder::Time(builder)
            | ColumnBuilder::Uuid(builder)
            | ColumnBuilder::Other(builder) => builder.append_null(),
            ColumnBuilder::Bytea(builder) => builder.append_null(),
            ColumnBuilder::Date(builder) => builder.append_null(),
            ColumnBuilder::Timestamp(builder) | ColumnBuilder::Timestamptz(builder) => builder.append_null(),
            ColumnBuilder::Array(builder) => builder.null(),
        }
    }

    /// Appends a text cell.
    pub(crate) fn text(&mut self, cell: &[u8]) -> Result<Landed, Refusal> {
        match self {
            ColumnBuilder::Bool(builder) => builder.append_value(text::boolean(cell)?),
            ColumnBuilder::Int2(builder) => builder.append_value(text::int16(cell)?.into()),
            ColumnBuilder::Int4(builder) => builder.append_value(text::int32(cell)?),
            ColumnBuilder::Int8(builder) => builder.append_value(text::int64(cell)?),
            ColumnBuilder::Oid(builder) => builder.append_value(text::uint32(cell)?.into()),
            ColumnBuilder::Float4(builder) => builder.append_value(text::float32(cell)?),
            ColumnBuilder::Float8(builder) => builder.append_value(text::float64(cell)?),
            ColumnBuilder::Decimal { builder, precision, scale } => {
                return Ok(put(builder, text::decimal(cell, *precision, *scale)?));
            }
            ColumnBuilder::NumericText(builder) => {
                text::numeric(cell)?;
                return put_text(builder, cell);
            }
            ColumnBuilder::Text(builder) | ColumnBuilder::Jsonb(builder) | ColumnBuilder::Other(builder) => {
                return put_text(builder, cell);
            }
            ColumnBuilder::Bytea(builder) => return put_hex(builder, text::bytea_digits(cell)?),
            ColumnBuilder::Date(builder) => return Ok(put(builder, text::date(cell)?)),
            ColumnBuilder::Timestamp(builder) => return Ok(put(builder, text::timestamp(cell)?)),
            ColumnBuilder::Timestamptz(builder) => return Ok(put(builder, text::timestamptz(cell)?)),
            ColumnBuilder::Time(builder) => return put_text(builder, &text::time(cell)?),
            ColumnBuilder::Uuid(builder) => return put_text(builder, &text::uuid(cell)?),
            ColumnBuilder::Array(builder) => return builder.text(cell),
        }
        Ok(EXACT)
    }

    /// Appends a binary cell.
    pub(crate) fn binary(&mut self, cell: &[u8]) -> Result<Landed, Refusal> {
        match self {
            ColumnBuilder::Bool(builder) => builder.append_value(binary::boolean(cell)?),
            ColumnBuilder::Int2(builder) => builder.append_value(binary::int16(cell)?.into()),
            ColumnBuilder::Int4(builder) => builder.append_value(binary::int32(cell)?),
            ColumnBuilder::Int8(builder) => builder.append_value(binary::int64(cell)?),
            ColumnBuilder::Oid(builder) => builder.append_value(binary::uint32(cell)?.into()),
            ColumnBuilder::Float4(builder) => builder.append_value(binary::float32(cell)?),
            ColumnBuilder::Float8(builder) => builder.append_value(binary::float64(cell)?),
            ColumnBuilder::Decimal { builder, precision, scale } => {
                return Ok(put(builder, binary::decimal(cell, *precision, *scale)?));
            }
            ColumnBuilder::NumericText(builder) => {
                let mut text = Vec::new();
                binary::numeric_text(cell, &mut text)?;
                return put_text(builder, &text);
            }
            ColumnBuilder::Text(builder) => return put_text(builder, cell),
            ColumnBuilder::Jsonb(builder) => return put_text(builder, binary::jsonb(cell)?),
            ColumnBuilder::Bytea(builder) => {
                reserve(builder.values_slice().len(), cell.len())?;
                builder.append_value(cell);
                return Ok(Landed { is_exact: true, bytes: cell.len() });
            }
            ColumnBuilder::Date(builder) => return Ok(put(builder, binary::date(cell)?)),
            ColumnBuilder::Timestamp(builder) | ColumnBuilder::Timestamptz(builder) => {
                return Ok(put(builder, binary::timestamp(cell)?));
            }
            ColumnBuilder::Time(builder) => return put_text(builder, &binary::time(cell)?),
            ColumnBuilder::Uuid(builder) => return put_text(builder, &binary::uuid(cell)?),
            ColumnBuilder::Array(builder) => return builder.binary(cell),
            ColumnBuilder::Other(_) => return Err(Refusal::NoBinaryReader),
        }
        Ok(EXACT)
    }

    /// What every row takes, in bits: the value or offset, and the validity.
    pub(crate) fn row_bits(&self) -> usize {
        match self {
            ColumnBuilder::Bool(_) => 1 + 1,
            ColumnBuilder::Int2(_)
            | ColumnBuilder::Int4(_)
            | ColumnBuilder::Float4(_)
            | ColumnBuilder::Date(_)
            | ColumnBuilder::NumericText(_)
            | ColumnBuilder::Text(_)
            | ColumnBuilder::Jsonb(_)
            | ColumnBuilder::Bytea(_)
            | ColumnBuilder::Time(_)
            | ColumnBuilder::Uuid(_)
            | ColumnBuilder::Other(_)
            | ColumnBuilder::Array(_) => 32 + 1,
            ColumnBuilder::Int8(_)
            | ColumnBuilder::Oid(_)
            | ColumnBuilder::Float8(_)
            | ColumnBuilder::Timestamp(_)
            | ColumnBuilder::Timestamptz(_) => 64 + 1,
            ColumnBuilder::Decimal { .. } => 128 + 1,
        }
    }

    /// The column, and an empty builder in its place.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            ColumnBuilder::Bool(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Int2(builder) | ColumnBuilder::Int4(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Int8(builder) | ColumnBuilder::Oid(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Float4(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Float8(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Decimal { builder, .. } => Arc::new(builder.finish()),
            ColumnBuilder::NumericText(builder)
            | ColumnBuilder::Text(builder)
            | ColumnBuilder::Jsonb(builder)
            | ColumnBuilder::Time(builder)
            | ColumnBuilder::Uuid(builder)
            | ColumnBuilder::Other(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Bytea(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Date(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Timestamp(builder) | ColumnBuilder::Timestamptz(builder) => {
                Arc::new(builder.finish())
            }
            ColumnBuilder::Array(builder) => Arc::new(builder.finish()?),
        })
    }
}

/// A column of lists.
pub(crate) struct ListBuilder {
    field: FieldRef,
    elements: ColumnBuilder,
    element_count: usize,
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    /// The unescaped form of the element at hand.
    unescaped: Vec<u8>,
}

impl ListBuilder {
    fn new(element: &Codec, data_type: &DataType) -> ListBuilder {
        let field = match data_type {
            DataType::List(field) => Arc::clone(field),
            // A schema whose types disagree with its codecs, which only a damaged file holds: the batch refuses
            // the column when it is finished.
            other => Arc::new(arrow::datatypes::Field::new("element", other.clone(), true)),
        };
        let elements = ColumnBuilder::new(element, field.data_type());
        ListBuilder {
            field,
            elements,
            element_count: 0,
            offsets: vec![0],
            validity: NullBufferBuilder::new(0),
            unescaped: Vec::new(),
        }
    }

    fn null(&mut self) {
        self.validity.append_null();
        // The offset of an empty list is the one before it, which was in range.
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
    }

    fn text(&mut self, cell: &[u8]) -> Result<Landed, Refusal> {
        let (starts_at_one, mut elements) = match text::array(cell)? {
            ArrayText::Nested => {
                self.null();
                return Ok(Landed { is_exact: false, bytes: 0 });
            }
            ArrayText::Flat { starts_at_one, elements } => (starts_at_one, elements),
        };
        let mut list = Landed { is_exact: starts_at_one, bytes: 0 };
        let count_before = self.element_count;
        while let Some(element) = elements.next(&mut self.unescaped)? {
            let landed = match element {
                Element::Null => {
                    self.elements.null();
                    EXACT
                }
                Element::Value(text) => self.elements.text(text)?,
            };
            self.element_count += 1;
            list = both(list, landed);
        }
        self.close(list, count_before)
    }

    fn binary(&mut self, cell: &[u8]) -> Result<Landed, Refusal> {
        let array = ArrayBinary::read(cell)?;
        if array.is_nested() {
            self.null();
            return Ok(Landed { is_exact: false, bytes: 0 });
        }
        let mut list = Landed { is_exact: array.starts_at_one(), bytes: 0 };
        let count_before = self.element_count;
        for element in array.elements()? {
            let landed = match element? {
                None => {
                    self.elements.null();
                    EXACT
                }
                Some(bytes) => self.elements.binary(bytes)?,
            };
            self.element_count += 1;
            list = both(list, landed);
        }
        self.close(list, count_before)
    }

    fn close(&mut self, list: Landed, count_before: usize) -> Result<Landed, Refusal> {
        self.offsets.push(i32::try_from(self.element_count).map_err(|_| Refusal::Full)?);
        self.validity.append_non_null();
        let element_bits = (self.element_count - count_before).saturating_mul(self.elements.row_bits());
        Ok(Landed { bytes: list.bytes.saturating_add(element_bits.div_ceil(8)), ..list })
    }

    fn finish(&mut self) -> Result<ListArray, ArrowError> {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        self.element_count = 0;
        ListArray::try_new(
            Arc::clone(&self.field),
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            self.elements.finish()?,
            self.validity.finish(),
        )
    }
}

fn both(list: Landed, element: Landed) -> Landed {
    Landed { is_exact: list.is_exact && element.is_exact, bytes: list.bytes.saturating_add(element.bytes) }
}

fn put<T: ArrowPrimitiveType>(
    builder: &mut arrow::array::PrimitiveBuilder<T>,
    held: Held<T::Native>,
) -> Landed {
    let is_exact = matches!(held, Held::Exact(_));
    match held {
        Held::Exact(value) | Held::Clamped(value) => builder.append_value(value),
        Held::Nothing => builder.append_null(),
    }
    Landed { is_exact, bytes: 0 }
}

fn put_text(builder: &mut StringBuilder, text: &[u8]) -> Result<Landed, Refusal> {
    reserve(builder.values_slice().len(), text.len())?;
    match std::str::from_utf8(text) {
        Ok(text) => builder.append_value(text),
        Err(_) => {
            builder.append_null();
            return Ok(Landed { is_exact: false, bytes: 0 });
        }
    }
    Ok(Landed { is_exact: true, bytes: text.len() })
}

fn put_hex(builder: &mut BinaryBuilder, digits: &[u8]) -> Result<Landed, Refusal> {
    reserve(builder.values_slice().len(), digits.len() / 2)?;
    let mut bytes = [0; 32];
    for digits in digits.chunks(64) {
        let length = text::unhex(digits, &mut bytes)?;
        let written = bytes.get(..length).unwrap_or_default();
        builder.write_all(written).map_err(|_| Refusal::Full)?;
    }
    builder.append_value([]);
    Ok(Landed { is_exact: true, bytes: digits.len() / 2 })
}

/// Whether so many bytes more leave offsets that 32 bits hold; the builders panic if they do not.
pub(crate) fn reserve(held: usize, more: usize) -> Result<(), Refusal> {
    match held.checked_add(more).map(i32::try_from) {
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) | None => Err(Refusal::Full),
    }
}

const EXACT: Landed = Landed { is_exact: true, bytes: 0 };

#[cfg(test)]
mod tests;
