//! Values from their Postgres send form, and the text that Postgres would have printed for it.
//!
//! Owns: the binary layout of every type that [`Codec::has_binary_decoder`] names, and [`render`].
//! Does not: know columns or builders (`columns`), or the text grammars (`text`).
//! Holds: a value is the same whether it came as text or binary; a rendered text is Postgres's own.
//! Fails: [`Malformed`] on a wrong length or a value that the type does not have.

use std::io::Write as _;
use std::ops::Range;

use pgoutput::Oid;

use crate::forms::{self, records::Field};
use crate::text::{
    DAY_MAX, DAY_MIN, Held, MICROS_MAX, MICROS_MIN, MICROS_PER_DAY, Malformed, POWERS_OF_TEN, clock_text,
    held_day, held_micros, signed,
};
use crate::types::{Codec, Loss, RecordField};

pub(crate) fn boolean(bytes: &[u8]) -> Result<bool, Malformed> {
    match bytes {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Malformed),
    }
}

pub(crate) fn int16(bytes: &[u8]) -> Result<i16, Malformed> {
    Ok(i16::from_be_bytes(whole(bytes)?))
}

/// Also of an `int2`, which a wider column reads.
pub(crate) fn int32(bytes: &[u8]) -> Result<i32, Malformed> {
    match bytes.len() {
        2 => int16(bytes).map(i32::from),
        _ => Ok(i32::from_be_bytes(whole(bytes)?)),
    }
}

/// Also of an `int2` or `int4`, which a wider column reads.
pub(crate) fn int64(bytes: &[u8]) -> Result<i64, Malformed> {
    match bytes.len() {
        2 | 4 => int32(bytes).map(i64::from),
        _ => Ok(i64::from_be_bytes(whole(bytes)?)),
    }
}

pub(crate) fn uint32(bytes: &[u8]) -> Result<u32, Malformed> {
    Ok(u32::from_be_bytes(whole(bytes)?))
}

pub(crate) fn float32(bytes: &[u8]) -> Result<f32, Malformed> {
    Ok(f32::from_be_bytes(whole(bytes)?))
}

/// Also of a `float4`, which a wider column reads.
pub(crate) fn float64(bytes: &[u8]) -> Result<f64, Malformed> {
    match bytes.len() {
        4 => float32(bytes).map(f64::from),
        _ => Ok(f64::from_be_bytes(whole(bytes)?)),
    }
}

/// A numeric as the unscaled integer of `Decimal128(precision, scale)`.
pub(crate) fn decimal(bytes: &[u8], precision: u8, scale: i8) -> Result<Held<i128>, Malformed> {
    let numeric = Numeric::read(bytes)?;
    let is_negative = match numeric.sign {
        NumericSign::Finite { is_negative } => is_negative,
        NumericSign::NotANumber => return Ok(Held::Nothing(Loss::NotANumber)),
        NumericSign::Infinity | NumericSign::MinusInfinity => return Ok(Held::Nothing(Loss::Infinity)),
    };
    let scale = i64::from(scale);
    if numeric.digits.len() > SHORT_NUMERIC_DIGITS || numeric.has_hidden_digits() {
        let mut text = Vec::new();
        numeric.render(&mut text);
        return crate::text::decimal(&text, precision, i8::try_from(scale).map_err(|_| Malformed)?);
    }
    // The digits, times ten to this power, are the unscaled value.
    let exponent = scale + 4 * (i64::from(numeric.weight) + 1 - count(numeric.digits.len()));
    if numeric.digits.len() <= TINY_NUMERIC_DIGITS {
        // Nearly every number: a division of 64 bits instead of one of 128.
        let digits =
            numeric.digits.iter().fold(0_u64, |value, digit| value * 10_000 + u64::from(digit_of(digit)));
        if digits == 0 {
            return Ok(Held::Exact(0));
        }
        let power = usize::try_from(-exponent).ok().and_then(|power| TINY_POWERS_OF_TEN.get(power));
        if let Some(power) = power {
            let unscaled = digits / power;
            return Ok(if unscaled * power == digits {
                signed(Some(unscaled.into()), is_negative, precision)
            } else {
                Held::Nothing(Loss::Precision)
            });
        }
    }
    let digits =
        numeric.digits.iter().fold(0_u128, |value, digit| value * 10_000 + u128::from(digit_of(digit)));
    if digits == 0 {
        return Ok(Held::Exact(0));
    }
    let power = usize::try_from(exponent.unsigned_abs()).ok().and_then(|power| POWERS_OF_TEN.get(power));
    let unscaled = match power {
        Some(power) if exponent >= 0 => digits.checked_mul(*power),
        Some(power) if digits.is_multiple_of(*power) => Some(digits / power),
        Some(_) => return Ok(Held::Nothing(Loss::Precision)),
        None if exponent < 0 => return Ok(Held::Nothing(Loss::Precision)),
        None => None,
    };
    Ok(signed(unscaled, is_negative, precision))
}

/// Writes a numeric's text.
pub(crate) fn numeric_text(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    Numeric::read(bytes)?.render(text);
    Ok(())
}

/// A numeric in its send form: base-10000 digits, of which the first has the weight `10000^weight`.
struct Numeric<'a> {
    sign: NumericSign,
    weight: i16,
    /// Decimal digits after the point.
    display_scale: u16,
    digits: &'a [[u8; 2]],
}

#[derive(Clone, Copy)]
enum NumericSign {
    Finite { is_negative: bool },
    NotANumber,
    Infinity,
    MinusInfinity,
}

impl<'a> Numeric<'a> {
    fn read(bytes: &'a [u8]) -> Result<Numeric<'a>, Malformed> {
        let mut rest = bytes;
        let digit_count = u16::from_be_bytes(take(&mut rest)?);
        let weight = i16::from_be_bytes(take(&mut rest)?);
        let sign = match u16::from_be_bytes(take(&mut rest)?) {
            0x0000 => NumericSign::Finite { is_negative: false },
            0x4000 => NumericSign::Finite { is_negative: true },
            0xC000 => NumericSign::NotANumber,
            0xD000 => NumericSign::Infinity,
            0xF000 => NumericSign::MinusInfinity,
            _ => return Err(Malformed),
        };
        let display_scale = u16::from_be_bytes(take(&mut rest)?);
        let (digits, odd) = rest.as_chunks::<2>();
        let is_numeric = odd.is_empty()
            && digits.len() == usize::from(digit_count)
            && display_scale <= DISPLAY_SCALE_MAX
            && digits.iter().all(|digit| digit_of(digit) < 10_000);
        is_numeric.then_some(Numeric { sign, weight, display_scale, digits }).ok_or(Malformed)
    }

    /// Whether digits other than zero lie beyond the display scale, which the text leaves out.
    fn has_hidden_digits(&self) -> bool {
        let after_point = 4 * (count(self.digits.len()) - 1 - i64::from(self.weight));
        match after_point - i64::from(self.display_scale) {
            ..=0 => false,
            hidden @ 1..=3 => {
                let power = match hidden {
                    1 => 10,
                    2 => 100,
                    _ => 1000,
                };
                self.digits.last().is_some_and(|digit| !digit_of(digit).is_multiple_of(power))
            }
            _ => true,
        }
    }

    /// As `get_str_from_var` of Postgres prints it.
    fn render(&self, text: &mut Vec<u8>) {
        match self.sign {
            NumericSign::NotANumber => return text.extend_from_slice(b"NaN"),
            NumericSign::Infinity => return text.extend_from_slice(b"Infinity"),
            NumericSign::MinusInfinity => return text.extend_from_slice(b"-Infinity"),
            NumericSign::Finite { is_negative: true } => text.push(b'-'),
            NumericSign::Finite { is_negative: false } => {}
        }
        let digit_at = |place: i64| {
            let digit = usize::try_from(place).ok().and_then(|place| self.digits.get(place));
            digit.map_or(0, digit_of)
        };
        let weight = i64::from(self.weight);
        if weight < 0 {
            text.push(b'0');
        }
        for place in 0..=weight {
            let [d1, d2, d3, d4] = four_digits(digit_at(place));
            let digits = [d1, d2, d3, d4];
            let zeros = digits.iter().take(3).take_while(|digit| place == 0 && **digit == b'0').count();
            text.extend(digits.iter().skip(zeros));
        }
        if self.display_scale > 0 {
            text.push(b'.');
            let end = text.len() + usize::from(self.display_scale);
            let mut place = weight + 1;
            while text.len() < end {
                text.extend_from_slice(&four_digits(digit_at(place)));
                place += 1;
            }
            text.truncate(end);
        }
    }
}

fn digit_of(digit: &[u8; 2]) -> u16 {
    u16::from_be_bytes(*digit)
}

/// The four decimal digits of a number below 10000.
fn four_digits(number: u16) -> [u8; 4] {
    let ascii = |number: u16| b'0' + u8::try_from(number % 10).unwrap_or(0);
    [ascii(number / 1000), ascii(number / 100), ascii(number / 10), ascii(number)]
}

/// The text of a jsonb, after its version.
pub(crate) fn jsonb(bytes: &[u8]) -> Result<&[u8], Malformed> {
    bytes.strip_prefix(&[1]).ok_or(Malformed)
}

/// A date as days since 1970-01-01, of the years 1 to 9999.
pub(crate) fn date(bytes: &[u8]) -> Result<Held<i32>, Malformed> {
    Ok(match i32::from_be_bytes(whole(bytes)?) {
        i32::MAX => Held::Clamped(DAY_MAX, Loss::Infinity),
        i32::MIN => Held::Clamped(DAY_MIN, Loss::Infinity),
        day => held_day(i64::from(day) + UNIX_TO_PG_EPOCH_DAYS),
    })
}

/// A timestamp, or an instant, as microseconds since 1970-01-01, of the years 1 to 9999.
pub(crate) fn timestamp(bytes: &[u8]) -> Result<Held<i64>, Malformed> {
    Ok(match i64::from_be_bytes(whole(bytes)?) {
        i64::MAX => Held::Clamped(MICROS_MAX, Loss::Infinity),
        i64::MIN => Held::Clamped(MICROS_MIN, Loss::Infinity),
        micros => held_micros(micros.checked_add(pgoutput::UNIX_TO_PG_EPOCH_MICROS), micros),
    })
}

/// A time as `HH:MM:SS.ffffff`.
pub(crate) fn time(bytes: &[u8]) -> Result<[u8; 15], Malformed> {
    micros_of_day(bytes).map(clock_text)
}

/// A time as microseconds since midnight, of which 24:00:00 is the last.
pub(crate) fn micros_of_day(bytes: &[u8]) -> Result<i64, Malformed> {
    match i64::from_be_bytes(whole(bytes)?) {
        micros @ 0..=MICROS_PER_DAY => Ok(micros),
        _ => Err(Malformed),
    }
}

/// A UUID's text.
pub(crate) fn uuid(bytes: &[u8]) -> Result<[u8; 36], Malformed> {
    let bytes: [u8; 16] = whole(bytes)?;
    let mut digits = [[0; 8]; 4];
    for (digits, word) in digits.iter_mut().zip(bytes.as_chunks().0) {
        *digits = hex_word(u32::from_be_bytes(*word));
    }
    let mut text = [b'-'; 36];
    for (group, places) in UUID_GROUPS {
        if let (Some(digits), Some(places)) = (digits.as_flattened().get(group), text.get_mut(places)) {
            places.copy_from_slice(digits);
        }
    }
    Ok(text)
}

/// The two hexadecimal digits of a byte.
pub(crate) fn hex(byte: u8) -> [u8; 2] {
    let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
    [digit(byte >> 4), digit(byte & 0x0F)]
}

/// The eight hexadecimal digits of a word, all at once.
fn hex_word(word: u32) -> [u8; 8] {
    // A digit in each byte: halves apart, then bytes, then digits.
    let apart = u64::from(word);
    let apart = (apart << 16 | apart) & 0x0000_FFFF_0000_FFFF;
    let apart = (apart << 8 | apart) & 0x00FF_00FF_00FF_00FF;
    let apart = (apart << 4 | apart) & 0x0F0F_0F0F_0F0F_0F0F;
    // 1 in each byte whose digit is a letter: six more than nine is the first that carries.
    let letters = (apart + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let past_nine = u64::from(b'a' - b'0' - 10);
    (apart + 0x3030_3030_3030_3030 + letters * past_nine).to_be_bytes()
}

/// An array in its send form.
pub(crate) struct ArrayBinary<'a> {
    dimensions: &'a [[u8; 8]],
    rest: &'a [u8],
}

impl<'a> ArrayBinary<'a> {
    /// Reads up to the first element.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<ArrayBinary<'a>, Malformed> {
        let mut rest = bytes;
        let dimension_count = u32::from_be_bytes(take(&mut rest)?);
        // A flag for NULLs, and the element type, which the column knows better (it may be a domain).
        let _: [u8; 8] = take(&mut rest)?;
        if dimension_count > DIMENSIONS_MAX {
            return Err(Malformed);
        }
        let dimension_bytes = usize::try_from(dimension_count).map_err(|_| Malformed)? * 8;
        let (dimensions, rest) = rest.split_at_checked(dimension_bytes).ok_or(Malformed)?;
        let (dimensions, _) = dimensions.as_chunks();
        Ok(ArrayBinary { dimensions, rest })
    }

    /// It has more dimensions than a list.
    pub(crate) fn is_nested(&self) -> bool {
        self.dimensions.len() > 1
    }

    /// The first subscript is 1, as that of a list.
    pub(crate) fn starts_at_one(&self) -> bool {
        self.dimensions.iter().all(|dimension| Dimension::of(dimension).lower == 1)
    }

    /// The elements of all dimensions, `None` for NULL.
    pub(crate) fn elements(
        &self,
    ) -> Result<impl Iterator<Item = Result<Option<&'a [u8]>, Malformed>> + use<'a>, Malformed> {
        Ok(counted(self.rest, self.element_count()?, element))
    }

    fn element_count(&self) -> Result<usize, Malformed> {
        let mut count = usize::from(!self.dimensions.is_empty());
        for dimension in self.dimensions {
            let size = usize::try_from(Dimension::of(dimension).size).map_err(|_| Malformed)?;
            count = count.checked_mul(size).ok_or(Malformed)?;
        }
        Ok(count)
    }

    /// As `array_out` of Postgres prints it, with the element type's delimiter and text.
    pub(crate) fn render(
        &self,
        delimiter: u8,
        mut element_text: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), Malformed>,
        text: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        if self.element_count()? == 0 {
            text.extend_from_slice(b"{}");
            return Ok(());
        }
        if !self.starts_at_one() {
            for dimension in self.dimensions {
                let Dimension { lower, size } = Dimension::of(dimension);
                let upper = i64::from(lower) + i64::from(size) - 1;
                write(text, format_args!("[{lower}:{upper}]"));
            }
            text.push(b'=');
        }
        let mut plain = Vec::new();
        // How many elements of the innermost dimension, and so on outwards, are done.
        let mut done = vec![0_i32; self.dimensions.len()];
        text.extend(std::iter::repeat_n(b'{', done.len()));
        for element in self.elements()? {
            match element? {
                None => text.extend_from_slice(b"NULL"),
                Some(bytes) => {
                    plain.clear();
                    element_text(bytes, &mut plain)?;
                    quote_element(&plain, delimiter, text);
                }
            }
            let mut closed = 0;
            for (done, dimension) in done.iter_mut().zip(self.dimensions).rev() {
                *done += 1;
                if *done < Dimension::of(dimension).size {
                    break;
                }
                *done = 0;
                closed += 1;
                text.push(b'}');
            }
            if closed < self.dimensions.len() {
                text.push(delimiter);
                text.extend(std::iter::repeat_n(b'{', closed));
            }
        }
        Ok(())
    }
}

struct Dimension {
    size: i32,
    lower: i32,
}

impl Dimension {
    fn of(bytes: &[u8; 8]) -> Dimension {
        let [s1, s2, s3, s4, l1, l2, l3, l4] = *bytes;
        Dimension { size: i32::from_be_bytes([s1, s2, s3, s4]), lower: i32::from_be_bytes([l1, l2, l3, l4]) }
    }
}

/// So many parts that follow each other, and nothing behind them; an error ends them.
pub(crate) fn counted<'a, T>(
    bytes: &'a [u8],
    count: usize,
    part: impl Fn(&mut &'a [u8]) -> Result<T, Malformed>,
) -> impl Iterator<Item = Result<T, Malformed>> {
    let (mut rest, mut left) = (bytes, count);
    std::iter::from_fn(move || {
        let Some(after) = left.checked_sub(1) else {
            // What follows the last part is an error, once.
            return (!std::mem::take(&mut rest).is_empty()).then_some(Err(Malformed));
        };
        left = after;
        let read = part(&mut rest);
        if read.is_err() {
            (left, rest) = (0, &[]);
        }
        Some(read)
    })
}

/// The number of parts that a send form begins with.
pub(crate) fn take_count(rest: &mut &[u8]) -> Result<usize, Malformed> {
    usize::try_from(u32::from_be_bytes(take(rest)?)).map_err(|_| Malformed)
}

pub(crate) fn element<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let length = i32::from_be_bytes(take(rest)?);
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (element, after) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    Ok(Some(element))
}

/// Writes an element as `array_out` does, which quotes what a reader would take for something else.
fn quote_element(element: &[u8], delimiter: u8, text: &mut Vec<u8>) {
    let is_special =
        |byte: &u8| *byte == delimiter || matches!(byte, b'"' | b'\\' | b'{' | b'}' | b' ' | b'\t'..=b'\r');
    if !element.is_empty() && !element.eq_ignore_ascii_case(b"NULL") && !element.iter().any(is_special) {
        return text.extend_from_slice(element);
    }
    text.push(b'"');
    for byte in element {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text.push(b'"');
}

/// Writes the text that Postgres would have sent for a binary cell.
pub(crate) fn render(codec: &Codec, bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    match codec {
        Codec::Bool => text.push(if boolean(bytes)? { b't' } else { b'f' }),
        Codec::Int2 | Codec::Int4 | Codec::Int8 => write(text, format_args!("{}", int64(bytes)?)),
        Codec::Oid => write(text, format_args!("{}", uint32(bytes)?)),
        Codec::Float4 => render_float(float32(bytes)?, text),
        Codec::Float8 if bytes.len() == 4 => render_float(float32(bytes)?, text),
        Codec::Float8 => render_float(float64(bytes)?, text),
        Codec::Decimal { .. } | Codec::NumericText => numeric_text(bytes, text)?,
        Codec::Text | Codec::Bpchar | Codec::Json | Codec::Enum => text.extend_from_slice(bytes),
        Codec::Jsonb => text.extend_from_slice(jsonb(bytes)?),
        Codec::Bytea => {
            text.extend_from_slice(b"\\x");
            text.extend(bytes.iter().flat_map(|byte| hex(*byte)));
        }
        Codec::Date => match i32::from_be_bytes(whole(bytes)?) {
            i32::MAX => text.extend_from_slice(b"infinity"),
            i32::MIN => text.extend_from_slice(b"-infinity"),
            day => {
                let era = render_day(i64::from(day) + UNIX_TO_PG_EPOCH_DAYS, text);
                text.extend_from_slice(era);
            }
        },
        Codec::Timestamp => render_timestamp(i64::from_be_bytes(whole(bytes)?), b"", text),
        Codec::Timestamptz => render_timestamp(i64::from_be_bytes(whole(bytes)?), b"+00", text),
        Codec::Time => render_clock(&time(bytes)?, text),
        Codec::Uuid => text.extend_from_slice(&uuid(bytes)?),
        Codec::Array(element) => {
            let element_text = |bytes: &[u8], text: &mut Vec<u8>| render(element, bytes, text);
            ArrayBinary::read(bytes)?.render(element.delimiter(), element_text, text)?;
        }
        Codec::Range(bound) => forms::ranges::range(bytes, |bytes, text| render(bound, bytes, text), text)?,
        Codec::Multirange(bound) => {
            forms::ranges::multirange(bytes, |bytes, text| render(bound, bytes, text), text)?;
        }
        Codec::Record(fields) => render_record(fields, bytes, text)?,
        Codec::As { of, .. } => render(of, bytes, text)?,
        Codec::Timetz => forms::timetz::timetz(bytes, text)?,
        Codec::Interval => forms::interval::interval(bytes, text)?,
        // From 0x80 on Postgres 15 and later print `\351`, and earlier ones the byte: only the text tells.
        Codec::Char => match bytes {
            [0x80..=0xFF] => return Err(Malformed),
            bytes => forms::system::char(bytes, text)?,
        },
        Codec::Money => forms::money::money(bytes, text)?,
        Codec::Bit | Codec::Varbit => forms::bits::bits(bytes, text)?,
        Codec::Xid8 => forms::system::xid8(bytes, text)?,
        Codec::PgLsn => forms::system::pg_lsn(bytes, text)?,
        Codec::Tid => forms::system::tid(bytes, text)?,
        Codec::Int2Vector => forms::system::int2vector(bytes, text)?,
        Codec::OidVector => forms::system::oidvector(bytes, text)?,
        Codec::Snapshot => forms::system::pg_snapshot(bytes, text)?,
        Codec::Inet => forms::network::inet(bytes, text)?,
        Codec::Cidr => forms::network::cidr(bytes, text)?,
        Codec::Macaddr => forms::network::macaddr(bytes, text)?,
        Codec::Macaddr8 => forms::network::macaddr8(bytes, text)?,
        Codec::Point => forms::geometric::point(bytes, text)?,
        Codec::Line => forms::geometric::line(bytes, text)?,
        Codec::Lseg => forms::geometric::lseg(bytes, text)?,
        Codec::Box => forms::geometric::r#box(bytes, text)?,
        Codec::Path => forms::geometric::path(bytes, text)?,
        Codec::Polygon => forms::geometric::polygon(bytes, text)?,
        Codec::Circle => forms::geometric::circle(bytes, text)?,
        Codec::Tsvector => forms::search::tsvector(bytes, text)?,
        Codec::Tsquery => forms::search::tsquery(bytes, text)?,
        Codec::VersionedText => forms::versioned::versioned(bytes, text)?,
        Codec::Hstore => forms::hstore::hstore(bytes, text)?,
        Codec::Cube => forms::cube::cube(bytes, text)?,
        Codec::Vector => forms::vectors::vector(bytes, text)?,
        Codec::Halfvec => forms::vectors::halfvec(bytes, text)?,
        Codec::Sparsevec => forms::vectors::sparsevec(bytes, text)?,
        Codec::Geometry { .. } => forms::postgis::ewkb(bytes, text)?,
        Codec::Unsent | Codec::Other => return Err(Malformed),
    }
    Ok(())
}

/// A row type whose fields are those that it had when the column was made.
fn render_record(fields: &[RecordField], bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut count = 0;
    let field_text = |place: usize, type_oid: Oid, bytes: &[u8], text: &mut Vec<u8>| {
        let field = fields.get(place).filter(|field| field.type_oid == type_oid).ok_or(Malformed)?;
        render(&field.codec, bytes, text)
    };
    for field in forms::records::fields_from_binary(bytes)? {
        let Field { type_oid, .. } = field?;
        if fields.get(count).is_none_or(|field| field.type_oid != type_oid) {
            return Err(Malformed);
        }
        count += 1;
    }
    if count != fields.len() {
        return Err(Malformed);
    }
    forms::records::record(bytes, field_text, text)
}

fn render_timestamp(micros: i64, zone: &[u8], text: &mut Vec<u8>) {
    match micros {
        i64::MAX => return text.extend_from_slice(b"infinity"),
        i64::MIN => return text.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let day = micros.div_euclid(MICROS_PER_DAY) + UNIX_TO_PG_EPOCH_DAYS;
    let era = render_day(day, text);
    text.push(b' ');
    render_clock(&clock_text(micros.rem_euclid(MICROS_PER_DAY)), text);
    text.extend_from_slice(zone);
    text.extend_from_slice(era);
}

/// Writes a clock without the zeros that Postgres leaves out.
pub(crate) fn render_clock(clock: &[u8; 15], text: &mut Vec<u8>) {
    let end = clock.iter().rposition(|byte| *byte != b'0').unwrap_or(0);
    // Either a digit of the fraction, or the point, or a digit of the seconds.
    let length = if end > 8 { end + 1 } else { 8 };
    text.extend(clock.iter().take(length));
}

/// Writes the date of a day since 1970-01-01, and gives the era that goes behind the time.
fn render_day(day: i64, text: &mut Vec<u8>) -> &'static [u8] {
    let (year, month, day) = civil_from_days(day);
    let (year, era): (i64, &[u8]) = if year > 0 { (year, b"") } else { (1 - year, b" BC") };
    write(text, format_args!("{year:04}-{month:02}-{day:02}"));
    era
}

/// The inverse of `text`'s `days_from_civil`.
fn civil_from_days(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_month)
}

/// A float that can be printed in its shortest form.
pub(crate) trait Float:
    Copy + PartialEq + std::fmt::LowerExp + std::fmt::Display + std::str::FromStr
{
    /// Decimal exponents from here on are printed with an exponent.
    const EXPONENT_MIN: i32;
    /// The text of what has no digits to choose.
    fn special(self) -> Option<&'static [u8]>;
}

impl Float for f32 {
    const EXPONENT_MIN: i32 = 6;
    fn special(self) -> Option<&'static [u8]> {
        f64::from(self).special()
    }
}

impl Float for f64 {
    const EXPONENT_MIN: i32 = 15;
    fn special(self) -> Option<&'static [u8]> {
        match self {
            _ if self.is_nan() => Some(b"NaN"),
            f64::INFINITY => Some(b"Infinity"),
            f64::NEG_INFINITY => Some(b"-Infinity"),
            0.0 if self.is_sign_negative() => Some(b"-0"),
            0.0 => Some(b"0"),
            _ => None,
        }
    }
}

/// As `float8out` of Postgres prints it with `extra_float_digits` above zero.
pub(crate) fn render_float<F: Float>(value: F, text: &mut Vec<u8>) {
    if let Some(special) = value.special() {
        return text.extend_from_slice(special);
    }
    let decimal = shortest_decimal(value);
    let (digits, exponent) = decimal.split_once('e').unwrap_or((&decimal, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..F::EXPONENT_MIN).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return write(text, format_args!("{digits}e{sign}{:02}", exponent.unsigned_abs()));
    }
    if digits.starts_with('-') {
        text.push(b'-');
    }
    let mut place = exponent;
    if place < 0 {
        text.extend_from_slice(b"0.");
        text.extend((place..-1).map(|_| b'0'));
    }
    for digit in digits.bytes().filter(u8::is_ascii_digit) {
        if place == -1 && exponent >= 0 {
            text.push(b'.');
        }
        text.push(digit);
        place -= 1;
    }
    text.extend((0..=place).map(|_| b'0'));
}

/// The decimal with the least digits that rounds to the float, as Postgres chooses among several: the nearest, the
/// even one of two, and never one that lies half-way to the next float. Rust differs in the last two.
fn shortest_decimal<F: Float>(value: F) -> String {
    let shortest = format!("{value:e}");
    let (digits, _) = shortest.split_once('e').unwrap_or((&shortest, ""));
    let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let nearest = format!("{value:.fraction$e}");
    let longer = (fraction + 1..=FLOAT_DIGITS_MAX).map(|fraction| format!("{value:.fraction$e}"));
    [nearest, shortest.clone()]
        .into_iter()
        .chain(longer)
        .find(|decimal| is_inside(decimal, value))
        .unwrap_or(shortest)
}

/// Whether a decimal lies strictly within the interval that rounds to the float: decimals just beside it do too.
fn is_inside<F: Float>(decimal: &str, value: F) -> bool {
    let (digits, exponent) = decimal.split_once('e').unwrap_or((decimal, "0"));
    let point = if digits.contains('.') { "" } else { "." };
    let above = format!("{digits}{point}{:0>40}e{exponent}", 1);
    let rounds_back = above.parse::<F>().is_ok_and(|above| above == value);
    let below = below(digits).map(|digits| format!("{digits}{:9>40}e{exponent}", ""));
    rounds_back && below.is_none_or(|below| below.parse::<F>().is_ok_and(|below| below == value))
}

/// The digits with one less in the last place; `None` for zero.
fn below(digits: &str) -> Option<String> {
    let mut bytes = digits.as_bytes().to_vec();
    let mut is_borrowing = true;
    for byte in bytes.iter_mut().rev().filter(|byte| byte.is_ascii_digit()) {
        if is_borrowing {
            (*byte, is_borrowing) = if *byte == b'0' { (b'9', true) } else { (*byte - 1, false) };
        }
    }
    let point = if digits.contains('.') { "" } else { "." };
    (!is_borrowing).then(|| format!("{}{point}", String::from_utf8_lossy(&bytes)))
}

/// All of the bytes, in this width.
pub(crate) fn whole<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    <[u8; N]>::try_from(bytes).map_err(|_| Malformed)
}

/// The first bytes, in this width.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (first, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
    *bytes = rest;
    Ok(*first)
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

pub(crate) fn write(text: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a vector takes every byte");
}

/// Days between 1970-01-01 and 2000-01-01.
const UNIX_TO_PG_EPOCH_DAYS: i64 = 10_957;

/// `MAXDIM`
const DIMENSIONS_MAX: u32 = 6;

/// `NUMERIC_DSCALE_MAX`
const DISPLAY_SCALE_MAX: u16 = 0x3FFF;

/// Digits after the first: seventeen tell any two floats apart.
const FLOAT_DIGITS_MAX: usize = 16;

/// Which digits of a UUID stand together, and where in its text.
const UUID_GROUPS: [(Range<usize>, Range<usize>); 5] =
    [(0..8, 0..8), (8..12, 9..13), (12..16, 14..18), (16..20, 19..23), (20..32, 24..36)];

/// Four digits of base 10000 fit into 64 bits, and none of their multiples is beyond these.
const TINY_NUMERIC_DIGITS: usize = 4;
const TINY_POWERS_OF_TEN: [u64; 5] = [1, 10, 100, 1_000, 10_000];

/// Nine digits of base 10000 are 36 decimal ones, which fit into 128 bits whatever their point is.
const SHORT_NUMERIC_DIGITS: usize = 9;

#[cfg(test)]
mod tests;
