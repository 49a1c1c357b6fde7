//! One column of a batch as it grows.
//!
//! Owns: the Arrow builders, one for every codec, and the way of a cell into them.
//! Does not: know names, tuples or what is done with a cell that does not land exactly (`batch`).
//! Holds: every call that succeeds adds one row, NULL or a value; no call allocates but to grow a buffer.
//! Fails: [`Refusal`]; the column has then none or half of the row and must not be used again.

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int32Builder, Int64Builder, ListArray, NullBufferBuilder, PrimitiveBuilder, StringArray,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef};
use arrow::error::ArrowError;
use pgoutput::Cell;

use crate::binary::{self, ArrayBinary};
use crate::schema::UTC;
use crate::text::{self, ArrayText, Element, Held, Malformed};
use crate::types::{Codec, Form, Loss};

mod json;
mod shaped;

use shaped::Shaped;

/// How a cell landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landed {
    /// Nothing if it is the value; otherwise it is the nearest one or NULL, and the exact text belongs elsewhere.
    pub(crate) loss: Option<Loss>,
    /// What it took beyond the width that every row of the column takes.
    pub(crate) bytes: usize,
}

impl Landed {
    /// The value, in the width that every row of the column takes.
    pub(crate) const EXACT: Landed = Landed { loss: None, bytes: 0 };

    fn exact(bytes: usize) -> Landed {
        Landed { loss: None, bytes }
    }

    fn lossy(loss: Loss) -> Landed {
        Landed { loss: Some(loss), bytes: 0 }
    }

    /// Together with a part of it.
    fn with(self, part: Landed) -> Landed {
        Landed { loss: self.loss.or(part.loss), bytes: self.bytes.saturating_add(part.bytes) }
    }
}

/// Why a cell cannot land at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no value of its type.
    Malformed,
    /// It is binary, and its type's binary form is not read.
    NoBinaryReader,
    /// The lake type does not hold it, and that is not wanted.
    Unrepresentable(Loss),
    /// Offsets of a column end at 2 GiB.
    Full,
}

impl From<Malformed> for Refusal {
    fn from(Malformed: Malformed) -> Refusal {
        Refusal::Malformed
    }
}

/// What becomes of a value beyond the bounds of its lake type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    Clamp,
    Null,
    Error,
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
    NumericText(TextBuilder),
    /// Types whose text and binary form are the same bytes.
    Text(TextBuilder),
    Jsonb(TextBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder, Bounds),
    Timestamp(TimestampMicrosecondBuilder, Bounds),
    Timestamptz(TimestampMicrosecondBuilder, Bounds),
    Time(TextBuilder),
    Uuid(TextBuilder),
    Array(Box<ListBuilder>),
    /// Text that Postgres prints, for types whose binary form is another.
    Rendered(Box<Rendered>),
    /// What only few columns are.
    Shaped(Box<Shaped>),
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
            Codec::NumericText => ColumnBuilder::NumericText(TextBuilder::new()),
            Codec::Text | Codec::Bpchar | Codec::Json | Codec::Enum => {
                ColumnBuilder::Text(TextBuilder::new())
            }
            Codec::Jsonb => ColumnBuilder::Jsonb(TextBuilder::new()),
            Codec::Bytea => ColumnBuilder::Bytea(BinaryBuilder::new()),
            Codec::Date => ColumnBuilder::date(Bounds::Clamp),
            Codec::Timestamp => ColumnBuilder::timestamp(Bounds::Clamp),
            Codec::Timestamptz => ColumnBuilder::timestamptz(Bounds::Clamp),
            Codec::Time => ColumnBuilder::Time(TextBuilder::new()),
            Codec::Uuid => ColumnBuilder::Uuid(TextBuilder::new()),
            Codec::Array(element) => {
                ColumnBuilder::Array(Box::new(ListBuilder::new(element, codec.delimiter(), data_type)))
            }
            Codec::As { form, of } => ColumnBuilder::in_form(*form, of, data_type),
            Codec::Hstore | Codec::Vector | Codec::Halfvec | Codec::Geometry { .. } => {
                ColumnBuilder::Shaped(Box::new(Shaped::new(codec, None, data_type)))
            }
            Codec::Timetz
            | Codec::Interval
            | Codec::Char
            | Codec::Money
            | Codec::Bit
            | Codec::Varbit
            | Codec::Xid8
            | Codec::PgLsn
            | Codec::Tid
            | Codec::Int2Vector
            | Codec::OidVector
            | Codec::Snapshot
            | Codec::Inet
            | Codec::Cidr
            | Codec::Macaddr
            | Codec::Macaddr8
            | Codec::Point
            | Codec::Line
            | Codec::Lseg
            | Codec::Box
            | Codec::Path
            | Codec::Polygon
            | Codec::Circle
            | Codec::Tsvector
            | Codec::Tsquery
            | Codec::VersionedText
            | Codec::Cube
            | Codec::Sparsevec
            | Codec::Range(_)
            | Codec::Multirange(_)
            | Codec::Record(_)
            | Codec::Unsent
            | Codec::Other => ColumnBuilder::Rendered(Box::new(Rendered::new(codec))),
        }
    }

    fn in_form(form: Form, of: &Codec, data_type: &DataType) -> ColumnBuilder {
        let bounds = match form {
            Form::Null => Bounds::Null,
            Form::Error => Bounds::Error,
            _ => Bounds::Clamp,
        };
        match (form, of) {
            (Form::String, of) => ColumnBuilder::Rendered(Box::new(Rendered::new(of))),
            (Form::Json, Codec::Json | Codec::Jsonb) | (Form::Clamp, _) => ColumnBuilder::new(of, data_type),
            (Form::Null | Form::Error, Codec::Date) => ColumnBuilder::date(bounds),
            (Form::Null | Form::Error, Codec::Timestamp) => ColumnBuilder::timestamp(bounds),
            (Form::Null | Form::Error, Codec::Timestamptz) => ColumnBuilder::timestamptz(bounds),
            (form, of) => ColumnBuilder::Shaped(Box::new(Shaped::new(of, Some(form), data_type))),
        }
    }

    fn date(bounds: Bounds) -> ColumnBuilder {
        ColumnBuilder::Date(Date32Builder::new(), bounds)
    }

    fn timestamp(bounds: Bounds) -> ColumnBuilder {
        ColumnBuilder::Timestamp(TimestampMicrosecondBuilder::new(), bounds)
    }

    fn timestamptz(bounds: Bounds) -> ColumnBuilder {
        ColumnBuilder::Timestamptz(TimestampMicrosecondBuilder::new().with_timezone(UTC), bounds)
    }

    /// Appends a cell that has a value, or NULL.
    pub(crate) fn cell(&mut self, cell: Cell<'_>) -> Result<Landed, Refusal> {
        match cell {
            Cell::Null | Cell::Unchanged => {
                self.null();
                Ok(Landed::EXACT)
            }
            Cell::Text(text) => self.text(text),
            Cell::Binary(bytes) => self.binary(bytes),
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
            | ColumnBuilder::Uuid(builder) => builder.append_null(),
            ColumnBuilder::Bytea(builder) => builder.append_null(),
            ColumnBuilder::Date(builder, _) => builder.append_null(),
            ColumnBuilder::Timestamp(builder, _) | ColumnBuilder::Timestamptz(builder, _) => {
                builder.append_null();
            }
            ColumnBuilder::Array(builder) => builder.null(),
            ColumnBuilder::Rendered(rendered) => rendered.builder.append_null(),
            ColumnBuilder::Shaped(shaped) => shaped.null(),
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
                return put(builder, text::decimal(cell, *precision, *scale)?, Bounds::Clamp);
            }
            ColumnBuilder::NumericText(builder) => {
                text::numeric(cell)?;
                return builder.put(cell);
            }
            ColumnBuilder::Text(builder) | ColumnBuilder::Jsonb(builder) => return builder.put(cell),
            ColumnBuilder::Bytea(builder) => return put_hex(builder, text::bytea_digits(cell)?),
            ColumnBuilder::Date(builder, bounds) => return put(builder, text::date(cell)?, *bounds),
            ColumnBuilder::Timestamp(builder, bounds) => {
                return put(builder, text::timestamp(cell)?, *bounds);
            }
            ColumnBuilder::Timestamptz(builder, bounds) => {
                return put(builder, text::timestamptz(cell)?, *bounds);
            }
            ColumnBuilder::Time(builder) => return builder.put(&text::time(cell)?),
            ColumnBuilder::Uuid(builder) => return builder.put(&text::uuid(cell)?),
            ColumnBuilder::Array(builder) => return builder.text(cell),
            ColumnBuilder::Rendered(rendered) => return rendered.text(cell),
            ColumnBuilder::Shaped(shaped) => return shaped.value(Cell::Text(cell)),
        }
        Ok(Landed::EXACT)
    }

    /// Appends a binary cell.
    #[inline]
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
                return put(builder, binary::decimal(cell, *precision, *scale)?, Bounds::Clamp);
            }
            ColumnBuilder::NumericText(builder) => {
                let mut text = Vec::new();
                binary::numeric_text(cell, &mut text)?;
                return builder.put(&text);
            }
            ColumnBuilder::Text(builder) => return builder.put(cell),
            ColumnBuilder::Jsonb(builder) => return builder.put(binary::jsonb(cell)?),
            ColumnBuilder::Bytea(builder) => return put_bytes(builder, cell),
            ColumnBuilder::Date(builder, bounds) => return put(builder, binary::date(cell)?, *bounds),
            ColumnBuilder::Timestamp(builder, bounds) | ColumnBuilder::Timestamptz(builder, bounds) => {
                return put(builder, binary::timestamp(cell)?, *bounds);
            }
            ColumnBuilder::Time(builder) => return builder.put(&binary::time(cell)?),
            ColumnBuilder::Uuid(builder) => return builder.put(&binary::uuid(cell)?),
            ColumnBuilder::Array(builder) => return builder.binary(cell),
            ColumnBuilder::Rendered(rendered) => return rendered.binary(cell),
            ColumnBuilder::Shaped(shaped) => return shaped.value(Cell::Binary(cell)),
        }
        Ok(Landed::EXACT)
    }

    /// What every row takes, in bits: the value or offset, and the validity.
    pub(crate) fn row_bits(&self) -> usize {
        match self {
            ColumnBuilder::Bool(_) => 1 + 1,
            ColumnBuilder::Int2(_)
            | ColumnBuilder::Int4(_)
            | ColumnBuilder::Float4(_)
            | ColumnBuilder::Date(..)
            | ColumnBuilder::NumericText(_)
            | ColumnBuilder::Text(_)
            | ColumnBuilder::Jsonb(_)
            | ColumnBuilder::Bytea(_)
            | ColumnBuilder::Time(_)
            | ColumnBuilder::Uuid(_)
            | ColumnBuilder::Rendered(_)
            | ColumnBuilder::Array(_) => 32 + 1,
            ColumnBuilder::Int8(_)
            | ColumnBuilder::Oid(_)
            | ColumnBuilder::Float8(_)
            | ColumnBuilder::Timestamp(..)
            | ColumnBuilder::Timestamptz(..) => 64 + 1,
            ColumnBuilder::Decimal { .. } => 128 + 1,
            ColumnBuilder::Shaped(shaped) => shaped.row_bits(),
        }
    }

    /// The column, and in its place a builder with room for as much again and a little more, where growing would cost.
    pub(crate) fn finish_full(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            ColumnBuilder::Int2(builder) | ColumnBuilder::Int4(builder) => refill(builder),
            ColumnBuilder::Int8(builder) | ColumnBuilder::Oid(builder) => refill(builder),
            ColumnBuilder::Float4(builder) => refill(builder),
            ColumnBuilder::Float8(builder) => refill(builder),
            ColumnBuilder::Decimal { builder, .. } => refill(builder),
            ColumnBuilder::Date(builder, _) => refill(builder),
            ColumnBuilder::Timestamp(builder, _) | ColumnBuilder::Timestamptz(builder, _) => refill(builder),
            ColumnBuilder::NumericText(builder)
            | ColumnBuilder::Text(builder)
            | ColumnBuilder::Jsonb(builder)
            | ColumnBuilder::Time(builder)
            | ColumnBuilder::Uuid(builder) => {
                let array = builder.finish()?;
                *builder = TextBuilder::with_capacity(room(array.len()), room(array.value_data().len()));
                Arc::new(array)
            }
            ColumnBuilder::Bytea(builder) => {
                let array = builder.finish();
                *builder = BinaryBuilder::with_capacity(room(array.len()), room(array.value_data().len()));
                Arc::new(array)
            }
            // Small, or of parts.
            ColumnBuilder::Bool(_)
            | ColumnBuilder::Array(_)
            | ColumnBuilder::Rendered(_)
            | ColumnBuilder::Shaped(_) => return self.finish(),
        })
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
            | ColumnBuilder::Uuid(builder) => Arc::new(builder.finish()?),
            ColumnBuilder::Bytea(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Date(builder, _) => Arc::new(builder.finish()),
            ColumnBuilder::Timestamp(builder, _) | ColumnBuilder::Timestamptz(builder, _) => {
                Arc::new(builder.finish())
            }
            ColumnBuilder::Array(builder) => Arc::new(builder.finish()?),
            ColumnBuilder::Rendered(rendered) => Arc::new(rendered.builder.finish()?),
            ColumnBuilder::Shaped(shaped) => shaped.finish()?,
        })
    }
}

/// The column, and in its place an empty one of the same type with room.
fn refill<T: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>) -> ArrayRef {
    let array = builder.finish();
    *builder = PrimitiveBuilder::with_capacity(room(array.len())).with_data_type(array.data_type().clone());
    Arc::new(array)
}

/// Room for as much again, and for the little more that one batch has than another: a buffer that is full by a single value would be twice as large.
pub(crate) fn room(filled: usize) -> usize {
    filled + filled / 16
}

/// A column of text. What goes in is checked to be text one by one, which says where a wrong one is; most are ASCII, which is seen fast.
pub(crate) struct TextBuilder {
    values: Vec<u8>,
    /// Where each text ends.
    ends: Vec<i32>,
    validity: NullBufferBuilder,
}

impl TextBuilder {
    fn new() -> TextBuilder {
        TextBuilder::with_capacity(0, 0)
    }

    fn with_capacity(rows: usize, bytes: usize) -> TextBuilder {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        TextBuilder { values: Vec::with_capacity(bytes), ends, validity: NullBufferBuilder::new(rows) }
    }

    fn append_null(&mut self) {
        self.ends.push(self.ends.last().copied().unwrap_or_default());
        self.validity.append_null();
    }

    /// Appends a text; bytes that are none land as NULL.
    #[inline]
    fn put(&mut self, text: &[u8]) -> Result<Landed, Refusal> {
        let end = end_of(self.values.len(), text.len())?;
        if !text.is_ascii() && std::str::from_utf8(text).is_err() {
            self.append_null();
            return Ok(Landed::lossy(Loss::InvalidEncoding));
        }
        self.values.extend_from_slice(text);
        self.ends.push(end);
        self.validity.append_non_null();
        Ok(Landed::exact(text.len()))
    }

    fn finish(&mut self) -> Result<StringArray, ArrowError> {
        let TextBuilder { values, ends, mut validity } = std::mem::replace(self, TextBuilder::new());
        let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
        StringArray::try_new(ends, Buffer::from_vec(values), validity.finish())
    }
}

/// A column of the text that Postgres prints.
pub(crate) struct Rendered {
    codec: Codec,
    builder: TextBuilder,
    text: Vec<u8>,
}

impl Rendered {
    fn new(codec: &Codec) -> Rendered {
        Rendered { codec: codec.clone(), builder: TextBuilder::new(), text: Vec::new() }
    }

    fn text(&mut self, cell: &[u8]) -> Result<Landed, Refusal> {
        self.builder.put(cell)
    }

    fn binary(&mut self, cell: &[u8]) -> Result<Landed, Refusal> {
        self.text.clear();
        render(&self.codec, cell, &mut self.text)?;
        self.builder.put(&self.text)
    }
}

/// Writes the text that Postgres would have sent for a binary cell.
pub(crate) fn render(codec: &Codec, cell: &[u8], text: &mut Vec<u8>) -> Result<(), Refusal> {
    if !codec.can_render() {
        return Err(Refusal::NoBinaryReader);
    }
    binary::render(codec, cell, text).map_err(|malformed| refusal_of(codec, malformed))
}

/// What bytes that are not of a type's form mean.
fn refusal_of(codec: &Codec, malformed: Malformed) -> Refusal {
    if codec.prefers_text() { Refusal::NoBinaryReader } else { malformed.into() }
}

/// A column of lists.
pub(crate) struct ListBuilder {
    field: FieldRef,
    delimiter: u8,
    elements: ColumnBuilder,
    element_count: usize,
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    /// The unescaped form of the element at hand.
    unescaped: Vec<u8>,
}

impl ListBuilder {
    fn new(element: &Codec, delimiter: u8, data_type: &DataType) -> ListBuilder {
        let field = match data_type {
            DataType::List(field) => Arc::clone(field),
            // A schema whose types disagree with its codecs, which only a damaged file holds: the batch refuses
            // the column when it is finished.
            other => Arc::new(arrow::datatypes::Field::new("element", other.clone(), true)),
        };
        let elements = ColumnBuilder::new(element, field.data_type());
        ListBuilder {
            field,
            delimiter,
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
        let (starts_at_one, mut elements) = match text::array(cell, self.delimiter)? {
            ArrayText::Nested => {
                self.null();
                return Ok(Landed::lossy(Loss::NestedArray));
            }
            ArrayText::Flat { starts_at_one, elements } => (starts_at_one, elements),
        };
        let mut list = Landed { loss: loss_of_bounds(starts_at_one), bytes: 0 };
        let count_before = self.element_count;
        while let Some(element) = elements.next(&mut self.unescaped)? {
            let landed = match element {
                Element::Null => {
                    self.elements.null();
                    Landed::EXACT
                }
                Element::Value(text) => self.elements.text(text)?,
            };
            self.element_count += 1;
            list = list.with(landed);
        }
        self.close(list, count_before)
    }

    fn binary(&mut self, cell: &[u8]) -> Result<Landed, Refusal> {
        let array = ArrayBinary::read(cell)?;
        if array.is_nested() {
            self.null();
            return Ok(Landed::lossy(Loss::NestedArray));
        }
        let mut list = Landed { loss: loss_of_bounds(array.starts_at_one()), bytes: 0 };
        let count_before = self.element_count;
        for element in array.elements()? {
            let cell = element?.map_or(Cell::Null, Cell::Binary);
            list = list.with(self.push(cell)?);
        }
        self.close(list, count_before)
    }

    /// Appends an element to the list that is open; [`ListBuilder::close`] ends it.
    fn push(&mut self, element: Cell<'_>) -> Result<Landed, Refusal> {
        self.element_count += 1;
        self.elements.cell(element)
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

fn loss_of_bounds(starts_at_one: bool) -> Option<Loss> {
    if starts_at_one { None } else { Some(Loss::LowerBound) }
}

#[inline]
fn put<T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    held: Held<T::Native>,
    bounds: Bounds,
) -> Result<Landed, Refusal> {
    let (value, loss) = match (held, bounds) {
        (Held::Exact(value), _) => (Some(value), None),
        (Held::Clamped(value, loss), Bounds::Clamp) => (Some(value), Some(loss)),
        (Held::Clamped(_, loss) | Held::Nothing(loss), Bounds::Clamp | Bounds::Null) => (None, Some(loss)),
        (Held::Clamped(_, loss) | Held::Nothing(loss), Bounds::Error) => {
            return Err(Refusal::Unrepresentable(loss));
        }
    };
    builder.append_option(value);
    Ok(Landed { loss, bytes: 0 })
}

fn put_bytes(builder: &mut BinaryBuilder, bytes: &[u8]) -> Result<Landed, Refusal> {
    reserve(builder.values_slice().len(), bytes.len())?;
    builder.append_value(bytes);
    Ok(Landed::exact(bytes.len()))
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
    Ok(Landed::exact(digits.len() / 2))
}

/// Whether so many bytes more leave offsets that 32 bits hold; the builders panic if they do not.
pub(crate) fn reserve(held: usize, more: usize) -> Result<(), Refusal> {
    end_of(held, more).map(|_| ())
}

/// The offset behind so many bytes more.
fn end_of(held: usize, more: usize) -> Result<i32, Refusal> {
    held.checked_add(more).and_then(|end| i32::try_from(end).ok()).ok_or(Refusal::Full)
}

#[cfg(test)]
mod tests;
