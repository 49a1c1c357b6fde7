//! Columns in a form that only few have: structs, maps, bytes of another kind, numbers instead of text.
//!
//! Owns: the builders of these forms, and the way of a cell into them.
//! Does not: know which column has which form (`types`), or read what `forms` reads.
//! Holds: a cell lands the same, whether it came as text or as binary; where only the text form has a reader, a binary
//! cell is rendered first.
//! Fails: as the builders of `columns` do.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Decimal128Builder, FixedSizeBinaryBuilder, Float64Builder, Int64Builder,
    MapArray, NullBufferBuilder, StringBuilder, StructArray, Time64MicrosecondBuilder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::ArrowError;
use pgoutput::Cell;

use super::{
    Bounds, ColumnBuilder, Landed, ListBuilder, Refusal, TextBuilder, json, put, put_bytes, refusal_of,
    render, reserve,
};
use crate::binary;
use crate::forms;
use crate::text::{self, Held, MICROS_PER_DAY, Malformed};
use crate::types::{Codec, Form, Loss};

/// A column in such a form.
pub(crate) struct Shaped {
    kind: Kind,
    /// Texts and bytes on their way.
    scratch: Vec<u8>,
    rendered: Vec<u8>,
}

enum Kind {
    /// `numeric` as the nearest double.
    Double(Float64Builder),
    Money(Decimal128Builder, u8),
    Xid8(Decimal128Builder, u8),
    PgLsn(Int64Builder),
    Micros(Int64Builder),
    Time(Time64MicrosecondBuilder),
    Uuid(FixedSizeBinaryBuilder),
    /// `char(n)` without the blanks at its end.
    Trim(TextBuilder),
    Base64(TextBuilder),
    Bits {
        builder: BinaryBuilder,
        has_width: bool,
    },
    Iso8601(TextBuilder),
    Json(TextBuilder, Codec),
    Interval(Parts),
    Point(Parts),
    Sparsevec(Parts),
    Range(Parts),
    Multirange(ListBuilder),
    Record(Parts, Codec),
    Vector(ListBuilder),
    Halfvec(ListBuilder),
    Hstore(Box<Pairs>),
    Wkb {
        builder: BinaryBuilder,
        srid: i32,
    },
    /// A form that the type does not have, which only a damaged schema says.
    Nothing,
}

impl Shaped {
    /// An empty column of a type in a form, or of one whose first form is among these.
    pub(super) fn new(of: &Codec, form: Option<Form>, data_type: &DataType) -> Shaped {
        Shaped { kind: Kind::new(of, form, data_type), scratch: Vec::new(), rendered: Vec::new() }
    }

    /// Appends a cell that is not NULL.
    pub(super) fn value(&mut self, cell: Cell<'_>) -> Result<Landed, Refusal> {
        let Shaped { kind, scratch, rendered } = self;
        match kind {
            Kind::Double(builder) => {
                let (value, loss) = double(text_of(&Codec::NumericText, cell, rendered)?)?;
                builder.append_option(value);
                Ok(Landed { loss, bytes: 0 })
            }
            Kind::Money(builder, precision) => {
                let cents =
                    read(cell, forms::money::hundredths_from_text, forms::money::hundredths_from_binary)?;
                put(
                    builder,
                    text::signed(Some(cents.unsigned_abs().into()), cents < 0, *precision),
                    Bounds::Clamp,
                )
            }
            Kind::Xid8(builder, precision) => {
                let xid = read(cell, forms::system::xid8_from_text, forms::system::xid8_from_binary)?;
                put(builder, text::signed(Some(xid.into()), false, *precision), Bounds::Clamp)
            }
            Kind::PgLsn(builder) => {
                let lsn = read(cell, forms::system::lsn_from_text, forms::system::lsn_from_binary)?;
                let held = i64::try_from(lsn).map_or(Held::Nothing(Loss::OutOfRange), Held::Exact);
                put(builder, held, Bounds::Clamp)
            }
            Kind::Micros(builder) => put(builder, Held::Exact(micros_of_day(cell)?), Bounds::Clamp),
            Kind::Time(builder) => {
                let held = match micros_of_day(cell)? {
                    // 24:00:00, which `time` of Postgres has and that of the lake has not.
                    MICROS_PER_DAY => Held::Clamped(MICROS_PER_DAY - 1, Loss::OutOfRange),
                    micros => Held::Exact(micros),
                };
                put(builder, held, Bounds::Clamp)
            }
            Kind::Uuid(builder) => {
                let bytes = read(cell, uuid_from_text, |bytes| bytes.try_into().map_err(|_| Malformed))?;
                // It refuses only what is not of its width.
                builder.append_value(bytes).map_err(|_| Refusal::Malformed)?;
                Ok(Landed::EXACT)
            }
            Kind::Trim(builder) => {
                let (Cell::Text(text) | Cell::Binary(text)) = cell else { return Err(Refusal::Malformed) };
                builder.put(without_blanks(text))
            }
            Kind::Base64(builder) => {
                scratch.clear();
                base64(bytea(cell, rendered)?, scratch);
                builder.put(scratch)
            }
            Kind::Bits { builder, has_width } => {
                scratch.clear();
                let width = bits(cell, scratch)?;
                let landed = put_bytes(builder, scratch)?;
                let is_exact = *has_width || width.is_multiple_of(8);
                Ok(if is_exact { landed } else { landed.with(Landed::lossy(Loss::BitWidth)) })
            }
            Kind::Iso8601(builder) => {
                scratch.clear();
                interval(cell)?.iso8601(scratch);
                builder.put(scratch)
            }
            Kind::Json(builder, codec) => {
                scratch.clear();
                let loss = json::write(codec, text_of(codec, cell, rendered)?, scratch)?;
                let landed = builder.put(scratch)?;
                Ok(Landed { loss: loss.or(landed.loss), ..landed })
            }
            Kind::Interval(parts) => match interval(cell)?.held() {
                Held::Exact(interval) => parts.row([
                    Cell::Binary(&interval.months.to_be_bytes()),
                    Cell::Binary(&interval.days.to_be_bytes()),
                    Cell::Binary(&interval.micros.to_be_bytes()),
                ]),
                Held::Clamped(_, loss) | Held::Nothing(loss) => parts.nothing(loss),
            },
            Kind::Point(parts) => {
                let point =
                    read(cell, forms::geometric::Point::from_text, forms::geometric::Point::from_binary)?;
                parts.row([Cell::Binary(&point.x.to_be_bytes()), Cell::Binary(&point.y.to_be_bytes())])
            }
            Kind::Sparsevec(parts) => sparsevec(parts, cell),
            Kind::Range(parts) => {
                let range = read(cell, forms::ranges::Range::from_text, forms::ranges::Range::from_binary)?;
                range_row(parts, &range, cell)
            }
            Kind::Multirange(list) => multirange(list, cell),
            Kind::Record(parts, codec) => record(parts, codec, cell),
            Kind::Vector(list) => vector(list, cell, false),
            Kind::Halfvec(list) => vector(list, cell, true),
            Kind::Hstore(pairs) => pairs.row(cell),
            Kind::Wkb { builder, srid } => wkb(builder, *srid, cell, rendered, scratch),
            Kind::Nothing => Err(Refusal::Malformed),
        }
    }

    pub(super) fn null(&mut self) {
        match &mut self.kind {
            Kind::Double(builder) => builder.append_null(),
            Kind::Money(builder, _) | Kind::Xid8(builder, _) => builder.append_null(),
            Kind::PgLsn(builder) | Kind::Micros(builder) => builder.append_null(),
            Kind::Time(builder) => builder.append_null(),
            Kind::Uuid(builder) => builder.append_null(),
            Kind::Trim(builder) | Kind::Base64(builder) | Kind::Iso8601(builder) | Kind::Json(builder, _) => {
                builder.append_null();
            }
            Kind::Bits { builder, .. } | Kind::Wkb { builder, .. } => builder.append_null(),
            Kind::Interval(parts)
            | Kind::Point(parts)
            | Kind::Sparsevec(parts)
            | Kind::Range(parts)
            | Kind::Record(parts, _) => parts.null(),
            Kind::Multirange(list) | Kind::Vector(list) | Kind::Halfvec(list) => list.null(),
            Kind::Hstore(pairs) => pairs.null(),
            Kind::Nothing => {}
        }
    }

    pub(super) fn row_bits(&self) -> usize {
        match &self.kind {
            Kind::Money(..) | Kind::Xid8(..) | Kind::Uuid(_) => 128 + 1,
            Kind::Double(_) | Kind::PgLsn(_) | Kind::Micros(_) | Kind::Time(_) => 64 + 1,
            Kind::Trim(_)
            | Kind::Base64(_)
            | Kind::Iso8601(_)
            | Kind::Json(..)
            | Kind::Bits { .. }
            | Kind::Wkb { .. }
            | Kind::Multirange(_)
            | Kind::Vector(_)
            | Kind::Halfvec(_)
            | Kind::Hstore(_)
            | Kind::Nothing => 32 + 1,
            Kind::Interval(parts)
            | Kind::Point(parts)
            | Kind::Sparsevec(parts)
            | Kind::Range(parts)
            | Kind::Record(parts, _) => parts.row_bits(),
        }
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match &mut self.kind {
            Kind::Double(builder) => Arc::new(builder.finish()),
            Kind::Money(builder, _) | Kind::Xid8(builder, _) => Arc::new(builder.finish()),
            Kind::PgLsn(builder) | Kind::Micros(builder) => Arc::new(builder.finish()),
            Kind::Time(builder) => Arc::new(builder.finish()),
            Kind::Uuid(builder) => Arc::new(builder.finish()),
            Kind::Trim(builder) | Kind::Base64(builder) | Kind::Iso8601(builder) | Kind::Json(builder, _) => {
                Arc::new(builder.finish()?)
            }
            Kind::Bits { builder, .. } | Kind::Wkb { builder, .. } => Arc::new(builder.finish()),
            Kind::Interval(parts)
            | Kind::Point(parts)
            | Kind::Sparsevec(parts)
            | Kind::Range(parts)
            | Kind::Record(parts, _) => Arc::new(parts.finish()?),
            Kind::Multirange(list) | Kind::Vector(list) | Kind::Halfvec(list) => Arc::new(list.finish()?),
            Kind::Hstore(pairs) => Arc::new(pairs.finish()?),
            Kind::Nothing => {
                return Err(ArrowError::SchemaError("a form that its type does not have".to_owned()));
            }
        })
    }
}

impl Kind {
    fn new(of: &Codec, form: Option<Form>, data_type: &DataType) -> Kind {
        match (of, form) {
            (Codec::NumericText, Some(Form::Double)) => Kind::Double(Float64Builder::new()),
            (Codec::Money, Some(Form::Decimal { precision, .. })) => {
                Kind::Money(decimals(data_type), precision)
            }
            (Codec::Xid8, Some(Form::Decimal { precision, .. })) => {
                Kind::Xid8(decimals(data_type), precision)
            }
            (Codec::PgLsn, Some(Form::Long)) => Kind::PgLsn(Int64Builder::new()),
            (Codec::Time, Some(Form::Micros)) => Kind::Micros(Int64Builder::new()),
            (Codec::Time, Some(Form::Time)) => Kind::Time(Time64MicrosecondBuilder::new()),
            (Codec::Uuid, Some(Form::Native | Form::Binary)) => Kind::Uuid(FixedSizeBinaryBuilder::new(16)),
            (Codec::Bpchar, Some(Form::Trim)) => Kind::Trim(TextBuilder::new()),
            (Codec::Bytea, Some(Form::Base64)) => Kind::Base64(TextBuilder::new()),
            (Codec::Bit | Codec::Varbit, Some(Form::Binary)) => {
                Kind::Bits { builder: BinaryBuilder::new(), has_width: *of == Codec::Bit }
            }
            (Codec::Interval, Some(Form::Iso8601)) => Kind::Iso8601(TextBuilder::new()),
            (Codec::Array(_) | Codec::Record(_) | Codec::Hstore, Some(Form::Json)) => {
                Kind::Json(TextBuilder::new(), of.clone())
            }
            (Codec::Interval, Some(Form::Struct)) => {
                Kind::Interval(Parts::new(&[Codec::Int4, Codec::Int4, Codec::Int8], data_type))
            }
            (Codec::Point, Some(Form::Struct)) => {
                Kind::Point(Parts::new(&[Codec::Float8, Codec::Float8], data_type))
            }
            (Codec::Sparsevec, Some(Form::Struct)) => {
                let list = |codec| Codec::Array(Box::new(codec));
                let parts = [Codec::Int4, list(Codec::Int4), list(Codec::Float4)];
                Kind::Sparsevec(Parts::new(&parts, data_type))
            }
            (Codec::Range(bound), Some(Form::Struct)) => Kind::Range(range_parts(bound, data_type)),
            (Codec::Multirange(bound), Some(Form::ListOfStructs)) => {
                let range = Codec::As { form: Form::Struct, of: Box::new(Codec::Range(bound.clone())) };
                Kind::Multirange(ListBuilder::new(&range, b',', data_type))
            }
            (Codec::Record(fields), Some(Form::Struct)) => {
                let codecs: Vec<Codec> = fields.iter().map(|field| field.codec.clone()).collect();
                Kind::Record(Parts::new(&codecs, data_type), of.clone())
            }
            (Codec::Vector, None) => Kind::Vector(ListBuilder::new(&Codec::Float4, b',', data_type)),
            (Codec::Halfvec, None) => Kind::Halfvec(ListBuilder::new(&Codec::Float4, b',', data_type)),
            (Codec::Hstore, None) => Kind::Hstore(Box::new(Pairs::new(data_type))),
            (Codec::Geometry { srid }, None) => Kind::Wkb { builder: BinaryBuilder::new(), srid: *srid },
            _ => Kind::Nothing,
        }
    }
}

fn decimals(data_type: &DataType) -> Decimal128Builder {
    Decimal128Builder::new().with_data_type(data_type.clone())
}

/// A column of structs.
struct Parts {
    fields: Fields,
    children: Vec<ColumnBuilder>,
    validity: NullBufferBuilder,
    rows: usize,
}

impl Parts {
    fn new(codecs: &[Codec], data_type: &DataType) -> Parts {
        let fields = match data_type {
            DataType::Struct(fields) => fields.clone(),
            // A damaged schema, which the batch refuses.
            _ => Fields::empty(),
        };
        let children =
            codecs.iter().zip(&fields).map(|(codec, field)| ColumnBuilder::new(codec, field.data_type()));
        Parts { children: children.collect(), fields, validity: NullBufferBuilder::new(0), rows: 0 }
    }

    fn row<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) -> Result<Landed, Refusal> {
        let mut row = Landed::EXACT;
        for (child, cell) in self.children.iter_mut().zip(cells) {
            row = row.with(child.cell(cell)?);
        }
        self.validity.append_non_null();
        self.rows += 1;
        Ok(row)
    }

    fn null(&mut self) {
        self.children.iter_mut().for_each(ColumnBuilder::null);
        self.validity.append_null();
        self.rows += 1;
    }

    fn nothing(&mut self, loss: Loss) -> Result<Landed, Refusal> {
        self.null();
        Ok(Landed::lossy(loss))
    }

    fn row_bits(&self) -> usize {
        1 + self.children.iter().map(ColumnBuilder::row_bits).sum::<usize>()
    }

    fn finish(&mut self) -> Result<StructArray, ArrowError> {
        let children = self.children.iter_mut().map(ColumnBuilder::finish).collect::<Result<Vec<_>, _>>()?;
        let rows = std::mem::take(&mut self.rows);
        StructArray::try_new_with_length(self.fields.clone(), children, self.validity.finish(), rows)
    }
}

/// A column of maps from text to text.
struct Pairs {
    entry: FieldRef,
    keys: StringBuilder,
    values: StringBuilder,
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
}

impl Pairs {
    fn new(data_type: &DataType) -> Pairs {
        let entry = match data_type {
            DataType::Map(entry, _) => Arc::clone(entry),
            // A damaged schema, which the batch refuses.
            other => Arc::new(arrow::datatypes::Field::new("key_value", other.clone(), false)),
        };
        Pairs {
            entry,
            keys: StringBuilder::new(),
            values: StringBuilder::new(),
            offsets: vec![0],
            validity: NullBufferBuilder::new(0),
        }
    }

    fn row(&mut self, cell: Cell<'_>) -> Result<Landed, Refusal> {
        let pairs: Vec<forms::hstore::Pair<'_>> = match cell {
            Cell::Text(text) => forms::hstore::pairs_from_text(text).collect::<Result<_, _>>()?,
            Cell::Binary(bytes) => forms::hstore::pairs_from_binary(bytes)
                .and_then(|pairs| pairs.collect::<Result<_, _>>())
                .map_err(|malformed| refusal_of(&Codec::Hstore, malformed))?,
            Cell::Null | Cell::Unchanged => return Err(Refusal::Malformed),
        };
        let texts: Option<Vec<(&str, Option<&str>)>> = pairs.iter().map(texts_of).collect();
        let Some(texts) = texts else {
            self.null();
            return Ok(Landed::lossy(Loss::InvalidEncoding));
        };
        let mut bytes = 0_usize;
        for (key, value) in texts {
            reserve(self.keys.values_slice().len(), key.len())?;
            reserve(self.values.values_slice().len(), value.map_or(0, str::len))?;
            self.keys.append_value(key);
            self.values.append_option(value);
            bytes = bytes.saturating_add(key.len() + value.map_or(0, str::len) + PAIR_BYTES);
        }
        self.offsets.push(i32::try_from(self.keys.offsets_slice().len() - 1).map_err(|_| Refusal::Full)?);
        self.validity.append_non_null();
        Ok(Landed::exact(bytes))
    }

    fn null(&mut self) {
        self.validity.append_null();
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
    }

    fn finish(&mut self) -> Result<MapArray, ArrowError> {
        let DataType::Struct(fields) = self.entry.data_type() else {
            return Err(ArrowError::SchemaError("a map without keys and values".to_owned()));
        };
        let columns: Vec<ArrayRef> = vec![Arc::new(self.keys.finish()), Arc::new(self.values.finish())];
        let entries = StructArray::try_new(fields.clone(), columns, None)?;
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        MapArray::try_new(Arc::clone(&self.entry), offsets, entries, self.validity.finish(), false)
    }
}

fn texts_of<'p>((key, value): &'p forms::hstore::Pair<'_>) -> Option<(&'p str, Option<&'p str>)> {
    let key = std::str::from_utf8(key).ok()?;
    match value {
        None => Some((key, None)),
        Some(value) => Some((key, Some(std::str::from_utf8(value).ok()?))),
    }
}

/// The bytes of a `numeric`'s text as a double, and whether the double reads back as another number.
fn double(text: &[u8]) -> Result<(Option<f64>, Option<Loss>), Malformed> {
    match text {
        b"NaN" => return Ok((Some(f64::NAN), None)),
        b"Infinity" => return Ok((Some(f64::INFINITY), None)),
        b"-Infinity" => return Ok((Some(f64::NEG_INFINITY), None)),
        _ => text::numeric(text)?,
    }
    let value: f64 = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)?;
    if value.is_infinite() {
        return Ok((None, Some(Loss::OutOfRange)));
    }
    let is_same = digits_of(text) == digits_of(format!("{value:e}").as_bytes());
    Ok((Some(value), (!is_same).then_some(Loss::Precision)))
}

/// The significant digits of a number, and the power of ten of the first one.
fn digits_of(number: &[u8]) -> (Vec<u8>, i64) {
    let mut parts = number.split(|byte| *byte == b'e');
    let mantissa = parts.next().unwrap_or_default();
    let exponent = parts.next().and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    let mut digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).collect();
    let whole =
        mantissa.iter().take_while(|byte| **byte != b'.').filter(|byte| byte.is_ascii_digit()).count();
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..zeros);
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    if digits.is_empty() {
        return (digits, 0);
    }
    let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    (digits, exponent.unwrap_or(0) + count(whole) - count(zeros))
}

fn micros_of_day(cell: Cell<'_>) -> Result<i64, Refusal> {
    read(cell, text::micros_of_day, binary::micros_of_day)
}

fn interval(cell: Cell<'_>) -> Result<forms::interval::Interval, Refusal> {
    read(cell, forms::interval::Interval::from_text, forms::interval::Interval::from_binary)
}

/// Reads a cell by its tag.
fn read<'a, T>(
    cell: Cell<'a>,
    from_text: impl Fn(&'a [u8]) -> Result<T, Malformed>,
    from_binary: impl Fn(&'a [u8]) -> Result<T, Malformed>,
) -> Result<T, Refusal> {
    match cell {
        Cell::Text(text) => Ok(from_text(text)?),
        Cell::Binary(bytes) => Ok(from_binary(bytes)?),
        Cell::Null | Cell::Unchanged => Err(Refusal::Malformed),
    }
}

/// The text of a cell, as it came or rendered.
fn text_of<'a>(codec: &Codec, cell: Cell<'a>, rendered: &'a mut Vec<u8>) -> Result<&'a [u8], Refusal> {
    match cell {
        Cell::Text(text) => Ok(text),
        Cell::Binary(bytes) => {
            rendered.clear();
            render(codec, bytes, rendered)?;
            Ok(rendered)
        }
        Cell::Null | Cell::Unchanged => Err(Refusal::Malformed),
    }
}

/// Only blanks: `char(n)` keeps every other white space.
fn without_blanks(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    text.get(..end).unwrap_or_default()
}

fn uuid_from_text(text: &[u8]) -> Result<[u8; 16], Malformed> {
    let text = text::uuid(text)?;
    let mut digits = text.iter().filter(|byte| **byte != b'-').map(|digit| text::hex_digit(*digit));
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        let (high, low) = digits.next().zip(digits.next()).ok_or(Malformed)?;
        *byte = (high << 4) | (low & 0x0F);
    }
    Ok(bytes)
}

/// The bytes of a bytea.
fn bytea<'a>(cell: Cell<'a>, bytes: &'a mut Vec<u8>) -> Result<&'a [u8], Refusal> {
    match cell {
        Cell::Binary(bytes) => Ok(bytes),
        Cell::Text(text) => {
            bytes.clear();
            unhex(text::bytea_digits(text)?, bytes)?;
            Ok(bytes)
        }
        Cell::Null | Cell::Unchanged => Err(Refusal::Malformed),
    }
}

fn unhex(digits: &[u8], bytes: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut chunk = [0; 32];
    for digits in digits.chunks(64) {
        let length = text::unhex(digits, &mut chunk)?;
        bytes.extend(chunk.iter().take(length));
    }
    Ok(())
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8], text: &mut Vec<u8>) {
    let letter = |bits: u32| BASE64.get(usize::try_from(bits & 0x3F).unwrap_or(0)).copied().unwrap_or(b'=');
    for chunk in bytes.chunks(3) {
        let mut padded = [0_u8; 4];
        for (place, byte) in padded.iter_mut().skip(1).zip(chunk) {
            *place = *byte;
        }
        let bits = u32::from_be_bytes(padded);
        let letters = [letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)];
        text.extend(letters.iter().take(chunk.len() + 1));
        text.extend(std::iter::repeat_n(b'=', 3 - chunk.len()));
    }
}

/// The bytes of a bit string, whose first bit is the highest, and its width.
fn bits(cell: Cell<'_>, packed: &mut Vec<u8>) -> Result<usize, Refusal> {
    match cell {
        Cell::Text(text) => {
            forms::bits::bytes_from_text(text, packed)?;
            Ok(text.len())
        }
        Cell::Binary(bytes) => {
            packed.extend_from_slice(forms::bits::bytes_from_binary(bytes)?);
            Ok(forms::bits::width_from_binary(bytes)?)
        }
        Cell::Null | Cell::Unchanged => Err(Refusal::Malformed),
    }
}

fn range_parts(bound: &Codec, data_type: &DataType) -> Parts {
    Parts::new(&[bound.clone(), bound.clone(), Codec::Bool, Codec::Bool, Codec::Bool], data_type)
}

/// A range; its bounds are in the format of the cell that it came in.
fn range_row(parts: &mut Parts, range: &forms::ranges::Range<'_>, of: Cell<'_>) -> Result<Landed, Refusal> {
    use forms::ranges::Range;
    let flag = |is_set: bool| Cell::Binary(if is_set { &[1] } else { &[0] });
    match range {
        Range::Empty => parts.row([Cell::Null, Cell::Null, flag(false), flag(false), flag(true)]),
        Range::Between { lower, upper } => parts.row([
            part_of(of, lower.value.as_deref()),
            part_of(of, upper.value.as_deref()),
            flag(lower.is_inclusive),
            flag(upper.is_inclusive),
            flag(false),
        ]),
    }
}

/// A part of a cell, which is in the cell's format.
fn part_of<'a>(cell: Cell<'_>, value: Option<&'a [u8]>) -> Cell<'a> {
    match (value, cell) {
        (None, _) | (_, Cell::Null | Cell::Unchanged) => Cell::Null,
        (Some(text), Cell::Text(_)) => Cell::Text(text),
        (Some(bytes), Cell::Binary(_)) => Cell::Binary(bytes),
    }
}

fn multirange(list: &mut ListBuilder, cell: Cell<'_>) -> Result<Landed, Refusal> {
    let count_before = list.element_count;
    let mut landed = Landed::EXACT;
    let mut push = |range: Result<forms::ranges::Range<'_>, Malformed>| {
        list.element_count += 1;
        match &mut list.elements {
            ColumnBuilder::Shaped(shaped) => match &mut shaped.kind {
                Kind::Range(parts) => range_row(parts, &range?, cell),
                _ => Err(Refusal::Malformed),
            },
            _ => Err(Refusal::Malformed),
        }
    };
    match cell {
        Cell::Text(text) => {
            for range in forms::ranges::ranges_from_text(text)? {
                landed = landed.with(push(range)?);
            }
        }
        Cell::Binary(bytes) => {
            for range in forms::ranges::ranges_from_binary(bytes)? {
                landed = landed.with(push(range)?);
            }
        }
        Cell::Null | Cell::Unchanged => return Err(Refusal::Malformed),
    }
    list.close(landed, count_before)
}

/// A row type's value. Its attributes may be others than they were when the column was made: then nothing lands.
fn record(parts: &mut Parts, codec: &Codec, cell: Cell<'_>) -> Result<Landed, Refusal> {
    let Codec::Record(fields) = codec else { return Err(Refusal::Malformed) };
    match cell {
        Cell::Text(text) => {
            // One more than there should be is enough to know.
            let values = forms::records::fields_from_text(text)?.take(fields.len() + 1);
            let values = values.collect::<Result<Vec<_>, _>>()?;
            if values.len() != fields.len() {
                return parts.nothing(Loss::Shape);
            }
            parts.row(values.iter().map(|value| value.as_deref().map_or(Cell::Null, Cell::Text)))
        }
        Cell::Binary(bytes) => {
            let values = forms::records::fields_from_binary(bytes)?.take(fields.len() + 1);
            let values = values.collect::<Result<Vec<_>, _>>()?;
            let is_same = values.len() == fields.len()
                && values.iter().zip(fields).all(|(value, field)| value.type_oid == field.type_oid);
            if !is_same {
                return Err(Refusal::NoBinaryReader);
            }
            parts.row(values.iter().map(|value| value.value.map_or(Cell::Null, Cell::Binary)))
        }
        Cell::Null | Cell::Unchanged => Err(Refusal::Malformed),
    }
}

fn sparsevec(parts: &mut Parts, cell: Cell<'_>) -> Result<Landed, Refusal> {
    let vector = read(cell, forms::vectors::Sparse::from_text, forms::vectors::Sparse::from_binary)?;
    let [dim, idx, val] = parts.children.as_mut_slice() else { return Err(Refusal::Malformed) };
    let (ColumnBuilder::Array(idx), ColumnBuilder::Array(val)) = (idx, val) else {
        return Err(Refusal::Malformed);
    };
    dim.binary(&vector.dimensions.to_be_bytes())?;
    let subscripts = list_of(idx, vector.elements.iter().map(|(subscript, _)| Ok(subscript.to_be_bytes())))?;
    let values = list_of(val, vector.elements.iter().map(|(_, value)| Ok(value.to_be_bytes())))?;
    parts.validity.append_non_null();
    parts.rows += 1;
    Ok(subscripts.with(values))
}

/// A list of elements in their send form.
fn list_of(
    list: &mut ListBuilder,
    elements: impl Iterator<Item = Result<[u8; 4], Malformed>>,
) -> Result<Landed, Refusal> {
    let count_before = list.element_count;
    for element in elements {
        list.push(Cell::Binary(&element?))?;
    }
    list.close(Landed::EXACT, count_before)
}

fn vector(list: &mut ListBuilder, cell: Cell<'_>, is_half: bool) -> Result<Landed, Refusal> {
    match cell {
        Cell::Text(text) => {
            let floats = forms::vectors::floats_from_text(text)?;
            list_of(list, floats.map(|float| float.map(f32::to_be_bytes)))
        }
        Cell::Binary(bytes) if is_half => {
            list_of(list, forms::vectors::halfvec_from_binary(bytes)?.map(|float| Ok(float.to_be_bytes())))
        }
        Cell::Binary(bytes) => {
            list_of(list, forms::vectors::vector_from_binary(bytes)?.map(|float| Ok(float.to_be_bytes())))
        }
        Cell::Null | Cell::Unchanged => Err(Refusal::Malformed),
    }
}

/// ISO WKB has no place for the spatial reference: only that of the column is known from the schema.
fn wkb(
    builder: &mut BinaryBuilder,
    srid: i32,
    cell: Cell<'_>,
    ewkb: &mut Vec<u8>,
    wkb: &mut Vec<u8>,
) -> Result<Landed, Refusal> {
    wkb.clear();
    let found = match cell {
        Cell::Text(text) => {
            ewkb.clear();
            forms::postgis::ewkb_from_text(text, ewkb)?;
            forms::postgis::iso_wkb(ewkb, wkb)?
        }
        Cell::Binary(bytes) => forms::postgis::iso_wkb(bytes, wkb)?,
        Cell::Null | Cell::Unchanged => return Err(Refusal::Malformed),
    };
    match found {
        Held::Exact(found) => {
            let landed = put_bytes(builder, wkb)?;
            Ok(if found == srid { landed } else { landed.with(Landed::lossy(Loss::Srid)) })
        }
        Held::Clamped(_, loss) | Held::Nothing(loss) => {
            builder.append_null();
            Ok(Landed::lossy(loss))
        }
    }
}

/// Two offsets, and two bits of validity rounded up.
const PAIR_BYTES: usize = 9;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
