//! Values of the lake as the text that Postgres prints.
//!
//! Owns: the way back from Arrow to that text, for every type and form of the lake, and what both sides compare where a form does not keep the text.
//! Does not: share a line with what reads cells into the lake (`tables`): it is written anew, so that a mistake there does not hide here.
//! Holds: what is compared is the same for two values only if Postgres says that they are the same.
//! Fails: [`Unprintable`], for a file whose column is not what its schema says.

use arrow::array::{
    Array, AsArray as _, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, MapArray, StringArray,
    StructArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use tables::types::{Codec, Form, RecordField};

use super::sums::hex;

mod numbers;
mod quotes;
mod times;
mod wkb;

/// What is compared of the cells of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canon {
    /// The text that Postgres prints.
    Text,
    /// The bits of a `float4`, in hexadecimal.
    Float4,
    /// The bits of a `float8`.
    Float8,
    /// A `numeric` without the zeros at its end: its form does not keep how many are printed.
    Number,
    /// Without the blanks at its end.
    Trim,
    /// Microseconds, days and months, as `interval_send` has them.
    Interval,
    /// As `point_send` has it.
    Point,
    /// A `"char"` as Postgres 15 prints it, of a server that does not yet: from 0x80 on, a backslash and three octal digits.
    Char,
}

/// A column that is not what its schema says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unprintable;

type Printed = Result<(), Unprintable>;

impl Canon {
    /// What is compared of a type with a modifier, -1 for none; `None` for a form from which the value cannot be told again.
    pub fn of(codec: &Codec, modifier: i32) -> Option<Canon> {
        match codec {
            // One that the configuration wants of numbers that have another scale, or as many digits as they like.
            Codec::Decimal { scale, .. } if !has_scale(modifier, *scale) => Some(Canon::Number),
            Codec::Decimal { .. } => Some(Canon::Text),
            Codec::Array(element) if is_decimal_of(element, modifier) => Some(Canon::Text),
            Codec::Float4 => Some(Canon::Float4),
            Codec::Float8 => Some(Canon::Float8),
            Codec::As { form: Form::Double, .. } => Some(Canon::Number),
            Codec::As { form: Form::Decimal { .. }, of } if is_numeric(of) => Some(Canon::Number),
            Codec::As { form: Form::Trim, .. } => Some(Canon::Trim),
            Codec::As { form: Form::Struct | Form::Iso8601, of } if **of == Codec::Interval => {
                Some(Canon::Interval)
            }
            Codec::As { form: Form::Struct, of } if **of == Codec::Point => Some(Canon::Point),
            Codec::As { form: Form::Clamp | Form::Null | Form::Error | Form::List | Form::Map, of } => {
                Canon::of(of, modifier)
            }
            other if keeps_text(other) => Some(Canon::Text),
            _ => None,
        }
    }

    /// What is compared of a cell whose text is known: that of `_cdc_raw`, or of rows from before the column.
    pub fn of_text(self, text: &[u8]) -> Option<Vec<u8>> {
        let utf8 = || std::str::from_utf8(text).ok();
        match self {
            Canon::Text => Some(text.to_vec()),
            Canon::Char => Some(char(text)),
            Canon::Float4 => Some(float4(utf8()?.parse().ok()?).into_bytes()),
            Canon::Float8 => Some(float8(utf8()?.parse().ok()?).into_bytes()),
            Canon::Number => Some(numbers::trimmed(utf8()?).into_bytes()),
            Canon::Trim => Some(trimmed(text).to_vec()),
            Canon::Interval => times::interval_of_text(utf8()?).map(|send| hex(&send).into_bytes()),
            Canon::Point => None,
        }
    }
}

/// Appends what is compared of a value that is not NULL. `modifier` is that of its type in Postgres.
pub fn render(
    canon: Canon,
    codec: &Codec,
    modifier: i32,
    values: &dyn Array,
    row: usize,
    out: &mut Vec<u8>,
) -> Printed {
    match canon {
        Canon::Text | Canon::Char => text(codec, modifier, values, row, out),
        Canon::Float4 => {
            let value = values.as_primitive_opt::<Float32Type>().ok_or(Unprintable)?.value(row);
            push(out, &float4(value))
        }
        Canon::Float8 => push(out, &float8(double(values, row)?)),
        Canon::Number => match values.data_type() {
            DataType::Decimal128(_, scale) => {
                let value = values.as_primitive_opt::<Decimal128Type>().ok_or(Unprintable)?.value(row);
                push(out, &numbers::trimmed(&numbers::decimal(value, *scale)))
            }
            _ => push(out, &numbers::plain(double(values, row)?)),
        },
        Canon::Trim => {
            out.extend_from_slice(trimmed(utf8(values, row)?.as_bytes()));
            Ok(())
        }
        Canon::Interval => {
            let send = match values.as_struct_opt() {
                Some(parts) => interval_of_struct(parts, row)?,
                None => times::interval_of_iso8601(utf8(values, row)?).ok_or(Unprintable)?,
            };
            push(out, &hex(&send))
        }
        Canon::Point => {
            let point = values.as_struct_opt().ok_or(Unprintable)?;
            for coordinate in point.columns() {
                push(out, &hex(&double(coordinate, row)?.to_be_bytes()))?;
            }
            Ok(())
        }
    }
}

/// Whether that is the scale of the type's modifier: then so many digits are printed as the decimal has. It is in eleven bits, with its sign
/// (`numeric_typmod_scale`); a negative one prints none.
fn has_scale(modifier: i32, scale: i8) -> bool {
    let of_type = (((modifier - 4) & 0x7FF) ^ 1_024) - 1_024;
    modifier >= 4 && [of_type, of_type.max(0)].contains(&i32::from(scale))
}

fn is_decimal_of(element: &Codec, modifier: i32) -> bool {
    matches!(element, Codec::Decimal { scale, .. } if has_scale(modifier, *scale))
}

fn is_numeric(codec: &Codec) -> bool {
    matches!(codec, Codec::NumericText | Codec::Decimal { .. })
}

/// Whether the text that Postgres prints can be told from what the lake has, also within another type.
fn keeps_text(codec: &Codec) -> bool {
    match codec {
        Codec::Array(element) => keeps_text(element),
        // How many digits are printed is in a modifier that is not told here.
        Codec::Decimal { .. } => false,
        Codec::As { form, of } => match (form, &**of) {
            (Form::String, _) => true,
            (Form::Clamp | Form::Null | Form::Error | Form::List | Form::Map, of) => keeps_text(of),
            (Form::Decimal { .. }, Codec::Money | Codec::Xid8) | (Form::Long, Codec::PgLsn) => true,
            (Form::Micros | Form::Time, Codec::Time) => true,
            (Form::Native | Form::Binary, Codec::Uuid) | (Form::Base64, Codec::Bytea) => true,
            (Form::Binary, Codec::Bit | Codec::Varbit) | (Form::Json, Codec::Json | Codec::Jsonb) => true,
            (Form::Struct, Codec::Range(bound)) | (Form::ListOfStructs, Codec::Multirange(bound)) => {
                keeps_text(bound)
            }
            (Form::Struct, Codec::Record(fields)) => fields.iter().all(|field| keeps_text(&field.codec)),
            (Form::Struct, Codec::Sparsevec | Codec::Point) => true,
            _ => false,
        },
        _ => true,
    }
}

/// Appends the text that Postgres prints.
fn text(codec: &Codec, modifier: i32, values: &dyn Array, row: usize, out: &mut Vec<u8>) -> Printed {
    match codec {
        Codec::Bool => {
            let value = values.as_any().downcast_ref::<BooleanArray>().ok_or(Unprintable)?.value(row);
            push(out, if value { "t" } else { "f" })
        }
        Codec::Int2 | Codec::Int4 | Codec::Int8 | Codec::Oid => push(out, &integer(values, row)?.to_string()),
        Codec::Float4 => {
            let value = values.as_primitive_opt::<Float32Type>().ok_or(Unprintable)?.value(row);
            push(out, &numbers::float4(value))
        }
        Codec::Float8 => push(out, &numbers::float8(double(values, row)?)),
        Codec::Decimal { .. } => {
            let DataType::Decimal128(_, scale) = values.data_type() else { return Err(Unprintable) };
            let value = values.as_primitive_opt::<Decimal128Type>().ok_or(Unprintable)?.value(row);
            push(out, &numbers::decimal(value, *scale))
        }
        Codec::Bytea => push_bytea(binary(values, row)?, out),
        Codec::Geometry { srid } => {
            push(out, &hex(&wkb::ewkb(binary(values, row)?, *srid).ok_or(Unprintable)?).to_uppercase())
        }
        Codec::Date => {
            let days = values.as_primitive_opt::<Date32Type>().ok_or(Unprintable)?.value(row);
            push(out, &times::date(i64::from(days)))
        }
        Codec::Timestamp | Codec::Timestamptz => {
            let micros = values.as_primitive_opt::<TimestampMicrosecondType>().ok_or(Unprintable)?.value(row);
            push(out, &times::timestamp(micros))?;
            push(out, if *codec == Codec::Timestamptz { "+00" } else { "" })
        }
        Codec::Time => push(out, times::without_zeros(utf8(values, row)?)),
        Codec::Array(element) => {
            let list = values.as_any().downcast_ref::<ListArray>().ok_or(Unprintable)?.value(row);
            quotes::array(&cells(element, &list, 0..list.len())?, codec.delimiter(), out);
            Ok(())
        }
        Codec::Vector | Codec::Halfvec => {
            let list = values.as_any().downcast_ref::<ListArray>().ok_or(Unprintable)?.value(row);
            let floats = cells(&Codec::Float4, &list, 0..list.len())?;
            let floats: Vec<Vec<u8>> = floats.into_iter().map(Option::unwrap_or_default).collect();
            out.push(b'[');
            out.extend_from_slice(&floats.join(&b","[..]));
            out.push(b']');
            Ok(())
        }
        Codec::Hstore => hstore(values, row, out),
        Codec::As { form, of } => shaped(*form, of, modifier, values, row, out),
        _ => push(out, utf8(values, row)?),
    }
}

/// Of a type in a form that it does not have by itself.
fn shaped(
    form: Form,
    of: &Codec,
    modifier: i32,
    values: &dyn Array,
    row: usize,
    out: &mut Vec<u8>,
) -> Printed {
    match (form, of) {
        (Form::Clamp | Form::Null | Form::Error | Form::List | Form::Map, of) => {
            text(of, modifier, values, row, out)
        }
        (Form::Decimal { .. }, of) => {
            let DataType::Decimal128(_, scale) = values.data_type() else { return Err(Unprintable) };
            let value = values.as_primitive_opt::<Decimal128Type>().ok_or(Unprintable)?.value(row);
            push(
                out,
                &if *of == Codec::Money { numbers::money(value) } else { numbers::decimal(value, *scale) },
            )
        }
        (Form::Long, Codec::PgLsn) => {
            let lsn = integer(values, row)?.cast_unsigned();
            push(out, &format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF))
        }
        (Form::Micros, _) => push(out, &times::clock(integer(values, row)?)),
        (Form::Time, _) => {
            let micros = values.as_primitive_opt::<Time64MicrosecondType>().ok_or(Unprintable)?.value(row);
            push(out, &times::clock(micros))
        }
        (Form::Native | Form::Binary, Codec::Uuid) => {
            let bytes = values.as_any().downcast_ref::<FixedSizeBinaryArray>().ok_or(Unprintable)?.value(row);
            let digits = hex(bytes);
            let mut parts =
                [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().filter_map(|part| digits.get(part));
            push(out, parts.next().unwrap_or_default())?;
            parts.try_for_each(|part| push(out, "-").and_then(|()| push(out, part)))
        }
        (Form::Base64, _) => push_bytea(&quotes::base64(utf8(values, row)?).ok_or(Unprintable)?, out),
        (Form::Binary, _) => {
            let bytes = binary(values, row)?;
            // The width of `bit(n)` is in its type; that of another one was a whole number of bytes, or its text is in `_cdc_raw`.
            let width = match (of, usize::try_from(modifier)) {
                (Codec::Bit, Ok(width)) => width,
                _ => bytes.len() * 8,
            };
            let bits = bytes.iter().flat_map(|byte| (0..8).map(move |bit| b'0' + (byte >> (7 - bit) & 1)));
            out.extend(bits.take(width));
            Ok(())
        }
        (Form::Struct | Form::ListOfStructs, of) => structs(of, values, row, out),
        _ => push(out, utf8(values, row)?),
    }
}

fn structs(of: &Codec, values: &dyn Array, row: usize, out: &mut Vec<u8>) -> Printed {
    match of {
        Codec::Range(bound) => range(bound, values.as_struct_opt().ok_or(Unprintable)?, row, out),
        Codec::Multirange(bound) => {
            let list = values.as_any().downcast_ref::<ListArray>().ok_or(Unprintable)?.value(row);
            let ranges = list.as_struct_opt().ok_or(Unprintable)?;
            out.push(b'{');
            for at in 0..ranges.len() {
                if at > 0 {
                    out.push(b',');
                }
                range(bound, ranges, at, out)?;
            }
            out.push(b'}');
            Ok(())
        }
        Codec::Record(fields) => record(fields, values.as_struct_opt().ok_or(Unprintable)?, row, out),
        Codec::Point => {
            let point = values.as_struct_opt().ok_or(Unprintable)?;
            let [x, y] = point.columns() else { return Err(Unprintable) };
            push(out, &format!("({},{})", numbers::float8(double(x, row)?), numbers::float8(double(y, row)?)))
        }
        Codec::Sparsevec => sparsevec(values.as_struct_opt().ok_or(Unprintable)?, row, out),
        _ => Err(Unprintable),
    }
}

fn range(bound: &Codec, ranges: &StructArray, row: usize, out: &mut Vec<u8>) -> Printed {
    let [lower, upper, lower_inc, upper_inc, empty] = ranges.columns() else { return Err(Unprintable) };
    let flag = |flags: &dyn Array| {
        flags.as_any().downcast_ref::<BooleanArray>().map(|flags| flags.value(row)).ok_or(Unprintable)
    };
    if flag(empty)? {
        return push(out, "empty");
    }
    out.push(if flag(lower_inc)? { b'[' } else { b'(' });
    for (side, values) in [lower, upper].into_iter().enumerate() {
        if side > 0 {
            out.push(b',');
        }
        if let Some(Some(value)) = cells(bound, values, row..row + 1)?.pop() {
            quotes::piece(&value, b"\"\\()[],", out);
        }
    }
    out.push(if flag(upper_inc)? { b']' } else { b')' });
    Ok(())
}

fn record(fields: &[RecordField], records: &StructArray, row: usize, out: &mut Vec<u8>) -> Printed {
    if fields.len() != records.num_columns() {
        return Err(Unprintable);
    }
    out.push(b'(');
    for (place, (field, values)) in fields.iter().zip(records.columns()).enumerate() {
        if place > 0 {
            out.push(b',');
        }
        if let Some(Some(value)) = cells(&field.codec, values, row..row + 1)?.pop() {
            quotes::piece(&value, b"\"\\(),", out);
        }
    }
    out.push(b')');
    Ok(())
}

fn sparsevec(vectors: &StructArray, row: usize, out: &mut Vec<u8>) -> Printed {
    let [dim, idx, val] = vectors.columns() else { return Err(Unprintable) };
    let list = |values: &dyn Array| {
        values.as_any().downcast_ref::<ListArray>().map(|lists| lists.value(row)).ok_or(Unprintable)
    };
    let (idx, val) = (list(idx)?, list(val)?);
    let subscripts = cells(&Codec::Int4, &idx, 0..idx.len())?;
    let floats = cells(&Codec::Float4, &val, 0..val.len())?;
    out.push(b'{');
    for (place, pair) in subscripts.into_iter().zip(floats).enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend(pair.0.unwrap_or_default());
        out.push(b':');
        out.extend(pair.1.unwrap_or_default());
    }
    push(out, &format!("}}/{}", integer(dim, row)?))
}

fn hstore(values: &dyn Array, row: usize, out: &mut Vec<u8>) -> Printed {
    let pairs = values.as_any().downcast_ref::<MapArray>().ok_or(Unprintable)?.value(row);
    let [keys, texts] = pairs.columns() else { return Err(Unprintable) };
    for at in 0..pairs.len() {
        push(out, if at > 0 { ", " } else { "" })?;
        quotes::quoted(utf8(keys, at)?.as_bytes(), out);
        push(out, "=>")?;
        match texts.is_null(at) {
            true => push(out, "NULL")?,
            false => quotes::quoted(utf8(texts, at)?.as_bytes(), out),
        }
    }
    Ok(())
}

/// The texts of values within another one.
fn cells(
    codec: &Codec,
    values: &dyn Array,
    rows: std::ops::Range<usize>,
) -> Result<Vec<Option<Vec<u8>>>, Unprintable> {
    let cell = |row| {
        if values.is_null(row) {
            return Ok(None);
        }
        let mut out = Vec::new();
        text(codec, -1, values, row, &mut out).map(|()| Some(out))
    };
    rows.map(cell).collect()
}

fn interval_of_struct(parts: &StructArray, row: usize) -> Result<[u8; 16], Unprintable> {
    let [months, days, micros] = parts.columns() else { return Err(Unprintable) };
    let small = |values| integer(values, row).and_then(|value| i32::try_from(value).map_err(|_| Unprintable));
    Ok(times::interval_send(integer(micros, row)?, small(days)?, small(months)?))
}

fn integer(values: &dyn Array, row: usize) -> Result<i64, Unprintable> {
    match values.data_type() {
        DataType::Int32 => Ok(values.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Ok(values.as_primitive::<Int64Type>().value(row)),
        _ => Err(Unprintable),
    }
}

/// Files from before a column became wider have the narrower type.
fn double(values: &dyn Array, row: usize) -> Result<f64, Unprintable> {
    match values.data_type() {
        DataType::Float32 => Ok(values.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => Ok(values.as_primitive::<Float64Type>().value(row)),
        _ => Err(Unprintable),
    }
}

fn utf8(values: &dyn Array, row: usize) -> Result<&str, Unprintable> {
    Ok(values.as_any().downcast_ref::<StringArray>().ok_or(Unprintable)?.value(row))
}

fn binary(values: &dyn Array, row: usize) -> Result<&[u8], Unprintable> {
    Ok(values.as_any().downcast_ref::<BinaryArray>().ok_or(Unprintable)?.value(row))
}

fn push(out: &mut Vec<u8>, text: &str) -> Printed {
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn push_bytea(bytes: &[u8], out: &mut Vec<u8>) -> Printed {
    push(out, "\\x")?;
    push(out, &hex(bytes))
}

/// Without the blanks at its end.
fn trimmed(text: &[u8]) -> &[u8] {
    let mut text = text;
    while let [start @ .., b' '] = text {
        text = start;
    }
    text
}

/// What `_cdc_raw` has of a byte that is no text, `\xHH`, in octal.
fn char(text: &[u8]) -> Vec<u8> {
    let byte = match text {
        [b'\\', b'x', digits @ ..] => std::str::from_utf8(digits).ok(),
        _ => None,
    };
    let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    byte.map_or_else(|| text.to_vec(), |byte| format!("\\{byte:03o}").into_bytes())
}

/// The bits; every NaN is the same to Postgres.
fn float4(value: f32) -> String {
    if value.is_nan() { "NaN".to_owned() } else { hex(&value.to_be_bytes()) }
}

fn float8(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { hex(&value.to_be_bytes()) }
}

#[cfg(test)]
mod tests;
