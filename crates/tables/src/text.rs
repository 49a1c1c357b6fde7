//! Values from their Postgres output text.
//!
//! Owns: the grammar of every text form that becomes more than text, as `DateStyle=ISO`, `TimeZone=UTC`,
//! `bytea_output=hex` and `extra_float_digits=3` print it.
//! Does not: know columns or builders (`columns`), or the binary forms (`binary`).
//! Holds: nothing is rounded; a value the lake type cannot hold is [`Held::Clamped`] or [`Held::Nothing`].
//! Fails: [`Malformed`] on bytes that are not of the type's grammar.

use crate::types::Loss;

/// Bytes that are no value of their type, in text or binary form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a lake type makes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held<T> {
    /// The value.
    Exact(T),
    /// The nearest one that it has.
    Clamped(T, Loss),
    /// Nothing near.
    Nothing(Loss),
}

pub(crate) fn boolean(text: &[u8]) -> Result<bool, Malformed> {
    match text {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(Malformed),
    }
}

pub(crate) fn int16(text: &[u8]) -> Result<i16, Malformed> {
    i16::try_from(int64(text)?).map_err(|_| Malformed)
}

pub(crate) fn int32(text: &[u8]) -> Result<i32, Malformed> {
    i32::try_from(int64(text)?).map_err(|_| Malformed)
}

pub(crate) fn uint32(text: &[u8]) -> Result<u32, Malformed> {
    u32::try_from(natural(text)?).map_err(|_| Malformed)
}

pub(crate) fn int64(text: &[u8]) -> Result<i64, Malformed> {
    match text {
        [b'-', digits @ ..] => 0_i64.checked_sub_unsigned(natural(digits)?).ok_or(Malformed),
        digits => i64::try_from(natural(digits)?).map_err(|_| Malformed),
    }
}

/// Decimal digits, at least one.
pub(crate) fn natural(digits: &[u8]) -> Result<u64, Malformed> {
    match digits.len() {
        0 => Err(Malformed),
        // 10^19 is below 2^64.
        1..=19 => digits.iter().try_fold(0, |value: u64, &byte| Ok(value * 10 + u64::from(digit(byte)?))),
        _ => digits.iter().try_fold(0, |value: u64, &byte| {
            value.checked_mul(10).and_then(|tens| tens.checked_add(digit(byte).ok()?.into())).ok_or(Malformed)
        }),
    }
}

fn digit(byte: u8) -> Result<u8, Malformed> {
    match byte.wrapping_sub(b'0') {
        digit @ 0..=9 => Ok(digit),
        _ => Err(Malformed),
    }
}

fn are_digits(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

pub(crate) fn float32(text: &[u8]) -> Result<f32, Malformed> {
    match text {
        b"NaN" => Ok(f32::NAN),
        b"Infinity" => Ok(f32::INFINITY),
        b"-Infinity" => Ok(f32::NEG_INFINITY),
        _ => {
            let value: f32 = float_literal(text)?.parse().map_err(|_| Malformed)?;
            let is_kept = value.is_finite() && (value != 0.0 || is_zero_literal(text));
            is_kept.then_some(value).ok_or(Malformed)
        }
    }
}

pub(crate) fn float64(text: &[u8]) -> Result<f64, Malformed> {
    match text {
        b"NaN" => Ok(f64::NAN),
        b"Infinity" => Ok(f64::INFINITY),
        b"-Infinity" => Ok(f64::NEG_INFINITY),
        _ => {
            let value: f64 = float_literal(text)?.parse().map_err(|_| Malformed)?;
            let is_kept = value.is_finite() && (value != 0.0 || is_zero_literal(text));
            is_kept.then_some(value).ok_or(Malformed)
        }
    }
}

/// Only what Postgres prints: Rust's own parser also takes `inf`, `nan` and a leading plus.
fn float_literal(text: &[u8]) -> Result<&str, Malformed> {
    let is_ours = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e');
    match text {
        [b'0'..=b'9' | b'-', rest @ ..] if rest.iter().all(is_ours) => {
            std::str::from_utf8(text).map_err(|_| Malformed)
        }
        _ => Err(Malformed),
    }
}

/// Whether a float's digits are all zero, so that it may be read as zero.
fn is_zero_literal(text: &[u8]) -> bool {
    text.iter().take_while(|byte| **byte != b'e').all(|byte| matches!(byte, b'0' | b'.' | b'-'))
}

/// A numeric as the unscaled integer of `Decimal128(precision, scale)`.
pub(crate) fn decimal(text: &[u8], precision: u8, scale: i8) -> Result<Held<i128>, Malformed> {
    let scale = usize::try_from(scale).map_err(|_| Malformed)?;
    if let Some((is_negative, unscaled)) = short_decimal(text, scale) {
        return Ok(signed(Some(unscaled.into()), is_negative, precision));
    }
    let Some(number) = Number::read(text)? else { return Ok(Held::Nothing(loss_of_special(text))) };
    let (kept, rest) = number.fraction.split_at_checked(scale).unwrap_or((number.fraction, &[]));
    if rest.iter().any(|digit| *digit != b'0') {
        return Ok(Held::Nothing(Loss::Precision));
    }
    let mut digits = number.whole.iter().chain(kept);
    let unscaled = digits.try_fold(0, |value: u128, digit| {
        value.checked_mul(10)?.checked_add(u128::from(digit.wrapping_sub(b'0')))
    });
    let padding = POWERS_OF_TEN.get(scale - kept.len()).copied();
    let unscaled = unscaled.zip(padding).and_then(|(value, padding)| value.checked_mul(padding));
    Ok(signed(unscaled, number.is_negative, precision))
}

/// The sign and unscaled magnitude of a number that 64 bits hold, in one pass over its bytes. `None` leaves the
/// verdict to [`Number`]: the number may be long, have more digits after the point than the scale, or be none.
fn short_decimal(text: &[u8], scale: usize) -> Option<(bool, u64)> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // 10^19 is below 2^64.
    if digits.len() > 19 {
        return None;
    }
    let mut value = 0_u64;
    let mut point = None;
    for (place, byte) in digits.iter().enumerate() {
        match byte.wrapping_sub(b'0') {
            digit @ 0..=9 => value = value.wrapping_mul(10).wrapping_add(u64::from(digit)),
            _ if *byte == b'.' && point.is_none() => point = Some(place),
            _ => return None,
        }
    }
    let (whole, fraction) = match point {
        None => (digits.len(), 0),
        Some(point) => (point, digits.len() - point - 1),
    };
    if whole == 0 || (point.is_some() && fraction == 0) {
        return None;
    }
    let padding = POWERS_OF_TEN_64.get(scale.checked_sub(fraction)?)?;
    Some((is_negative, value.checked_mul(*padding)?))
}

/// The decimal of that magnitude, if it has no more than `precision` digits.
pub(crate) fn signed(magnitude: Option<u128>, is_negative: bool, precision: u8) -> Held<i128> {
    let limit = POWERS_OF_TEN.get(usize::from(precision)).copied();
    let value = magnitude.filter(|value| limit.is_some_and(|limit| *value < limit));
    match value.and_then(|value| i128::try_from(value).ok()) {
        Some(value) => Held::Exact(if is_negative { -value } else { value }),
        None => Held::Nothing(Loss::OutOfRange),
    }
}

/// Why what is no finite number has no decimal.
fn loss_of_special(text: &[u8]) -> Loss {
    if text == b"NaN" { Loss::NotANumber } else { Loss::Infinity }
}

/// Checks the grammar of a numeric that is kept as text.
pub(crate) fn numeric(text: &[u8]) -> Result<(), Malformed> {
    Number::read(text).map(|_| ())
}

/// The parts of a finite numeric; its digits are checked.
struct Number<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Number<'a> {
    /// `None` for `NaN` and the infinities.
    fn read(text: &'a [u8]) -> Result<Option<Number<'a>>, Malformed> {
        let (is_negative, digits) = match text {
            b"NaN" | b"Infinity" | b"-Infinity" => return Ok(None),
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
            None => (digits, None),
            Some(point) => match digits.split_at_checked(point) {
                Some((whole, [_, fraction @ ..])) => (whole, Some(fraction)),
                _ => return Err(Malformed),
            },
        };
        let is_number = !whole.is_empty()
            && are_digits(whole)
            && fraction.is_none_or(|fraction| !fraction.is_empty() && are_digits(fraction));
        let number = Number { is_negative, whole, fraction: fraction.unwrap_or_default() };
        is_number.then_some(Some(number)).ok_or(Malformed)
    }
}

/// A date as days since 1970-01-01, of the years 1 to 9999.
pub(crate) fn date(text: &[u8]) -> Result<Held<i32>, Malformed> {
    let day = match text {
        b"infinity" => return Ok(Held::Clamped(DAY_MAX, Loss::Infinity)),
        b"-infinity" => return Ok(Held::Clamped(DAY_MIN, Loss::Infinity)),
        _ => match text.strip_suffix(b" BC") {
            Some(text) => day_of(text, Era::BeforeChrist)?,
            None => day_of(text, Era::Common)?,
        },
    };
    Ok(held_day(day))
}

/// A day, in days since 1970-01-01, within the years 1 to 9999.
pub(crate) fn held_day(day: i64) -> Held<i32> {
    match i32::try_from(day) {
        Ok(day @ DAY_MIN..=DAY_MAX) => Held::Exact(day),
        _ if day < 0 => Held::Clamped(DAY_MIN, Loss::OutOfRange),
        _ => Held::Clamped(DAY_MAX, Loss::OutOfRange),
    }
}

/// A timestamp as microseconds since 1970-01-01 00:00:00, of the years 1 to 9999.
pub(crate) fn timestamp(text: &[u8]) -> Result<Held<i64>, Malformed> {
    point_in_time(text, false)
}

/// An instant as microseconds since 1970-01-01 00:00:00 UTC, of the years 1 to 9999 in UTC.
pub(crate) fn timestamptz(text: &[u8]) -> Result<Held<i64>, Malformed> {
    point_in_time(text, true)
}

fn point_in_time(text: &[u8], has_offset: bool) -> Result<Held<i64>, Malformed> {
    let (date, rest) = match text.split_at_checked(10) {
        Some((date, [b' ', rest @ ..])) => (date, rest),
        // A year of more than four digits, or no year at all.
        _ => match text {
            b"infinity" => return Ok(Held::Clamped(MICROS_MAX, Loss::Infinity)),
            b"-infinity" => return Ok(Held::Clamped(MICROS_MIN, Loss::Infinity)),
            text => split_once(text, |byte| byte == b' ').ok_or(Malformed)?,
        },
    };
    let (micros, rest) = clock(rest)?;
    let (offset, era) = match rest {
        [offset @ .., b' ', b'B', b'C'] => (offset, Era::BeforeChrist),
        offset => (offset, Era::Common),
    };
    let offset = match (has_offset, offset) {
        (false, []) | (true, b"+00") => 0,
        (true, offset) => offset_micros(offset)?,
        (false, _) => return Err(Malformed),
    };
    if micros >= MICROS_PER_DAY {
        return Err(Malformed);
    }
    let day = day_of(date, era)?;
    let midnight = day.checked_mul(MICROS_PER_DAY);
    Ok(held_micros(midnight.and_then(|midnight| midnight.checked_add(micros - offset)), day))
}

/// A point in time within the years 1 to 9999; `None` if it overflowed, to the side that `sign` is on.
pub(crate) fn held_micros(micros: Option<i64>, sign: i64) -> Held<i64> {
    match micros {
        Some(micros @ MICROS_MIN..=MICROS_MAX) => Held::Exact(micros),
        micros if micros.unwrap_or(sign) < 0 => Held::Clamped(MICROS_MIN, Loss::OutOfRange),
        _ => Held::Clamped(MICROS_MAX, Loss::OutOfRange),
    }
}

#[derive(Clone, Copy)]
enum Era {
    Common,
    BeforeChrist,
}

/// Days since 1970-01-01 of `YYYY-MM-DD`, where the year has four digits or more.
fn day_of(text: &[u8], era: Era) -> Result<i64, Malformed> {
    let (year, month, day) = match text {
        [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] => {
            (pair(*y1, *y2)? * 100 + pair(*y3, *y4)?, pair(*m1, *m2)?, pair(*d1, *d2)?)
        }
        _ => match text.split_last_chunk() {
            Some((year, [b'-', m1, m2, b'-', d1, d2])) if (5..=7).contains(&year.len()) => {
                (i64::try_from(natural(year)?).map_err(|_| Malformed)?, pair(*m1, *m2)?, pair(*d1, *d2)?)
            }
            _ => return Err(Malformed),
        },
    };
    if year == 0 {
        return Err(Malformed);
    }
    // There is no year zero: 1 BC comes before 1.
    let year = match era {
        Era::Common => year,
        Era::BeforeChrist => 1 - year,
    };
    let month_days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        1..=12 => 31,
        _ => return Err(Malformed),
    };
    if !(1..=month_days).contains(&day) {
        return Err(Malformed);
    }
    Ok(days_from_civil(year, month, day))
}

/// Days since 1970-01-01 of a proleptic Gregorian date, by years that begin in March
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A time as `HH:MM:SS.ffffff`, always in this width.
pub(crate) fn time(text: &[u8]) -> Result<[u8; 15], Malformed> {
    Ok(clock_text(micros_of_day(text)?))
}

/// Microseconds since midnight of `HH:MM:SS[.f…]`.
pub(crate) fn micros_of_day(text: &[u8]) -> Result<i64, Malformed> {
    match clock(text)? {
        (micros, []) => Ok(micros),
        _ => Err(Malformed),
    }
}

/// Microseconds since midnight of a clock, of which 24:00:00 is the last, and what follows it.
fn clock(text: &[u8]) -> Result<(i64, &[u8]), Malformed> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else { return Err(Malformed) };
    let (hours, minutes, seconds) = (pair(*h1, *h2)?, pair(*m1, *m2)?, pair(*s1, *s2)?);
    let (fraction, rest) = match rest {
        [b'.', digits @ ..] => fraction_micros(digits)?,
        rest => (0, rest),
    };
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    let is_on_clock = minutes < 60 && seconds < 60 && micros <= MICROS_PER_DAY;
    is_on_clock.then_some((micros, rest)).ok_or(Malformed)
}

/// Microseconds of one to six digits after the point, and what follows them.
pub(crate) fn fraction_micros(text: &[u8]) -> Result<(i64, &[u8]), Malformed> {
    let mut micros = 0;
    let mut unit = 1_000_000;
    let mut rest = text;
    while let [byte @ b'0'..=b'9', after @ ..] = rest {
        unit /= 10;
        if unit == 0 {
            return Err(Malformed);
        }
        micros += i64::from(byte - b'0') * unit;
        rest = after;
    }
    if unit == 1_000_000 { Err(Malformed) } else { Ok((micros, rest)) }
}

/// Microseconds east of UTC of `+HH[:MM[:SS]]`.
fn offset_micros(text: &[u8]) -> Result<i64, Malformed> {
    let (sign, hours, rest) = match text {
        [b'+', h1, h2, rest @ ..] => (1, pair(*h1, *h2)?, rest),
        [b'-', h1, h2, rest @ ..] => (-1, pair(*h1, *h2)?, rest),
        _ => return Err(Malformed),
    };
    let (minutes, seconds) = match rest {
        [] => (0, 0),
        [b':', m1, m2] => (pair(*m1, *m2)?, 0),
        [b':', m1, m2, b':', s1, s2] => (pair(*m1, *m2)?, pair(*s1, *s2)?),
        _ => return Err(Malformed),
    };
    let seconds = (hours * 60 + minutes) * 60 + seconds;
    Ok(sign * seconds * 1_000_000)
}

pub(crate) fn pair(tens: u8, ones: u8) -> Result<i64, Malformed> {
    Ok(i64::from(digit(tens)? * 10 + digit(ones)?))
}

/// `HH:MM:SS.ffffff` of microseconds since midnight, at most 24 hours.
pub(crate) fn clock_text(micros: i64) -> [u8; 15] {
    let [h1, h2] = two_digits(micros / 3_600_000_000);
    let [m1, m2] = two_digits(micros / 60_000_000 % 60);
    let [s1, s2] = two_digits(micros / 1_000_000 % 60);
    let [f1, f2] = two_digits(micros / 10_000 % 100);
    let [f3, f4] = two_digits(micros / 100 % 100);
    let [f5, f6] = two_digits(micros % 100);
    [h1, h2, b':', m1, m2, b':', s1, s2, b'.', f1, f2, f3, f4, f5, f6]
}

/// The last two digits of a number that is not negative.
fn two_digits(number: i64) -> [u8; 2] {
    let number = u8::try_from(number.rem_euclid(100)).unwrap_or(0);
    [b'0' + number / 10, b'0' + number % 10]
}

/// A UUID in lower case.
pub(crate) fn uuid(text: &[u8]) -> Result<[u8; 36], Malformed> {
    let mut lower = <[u8; 36]>::try_from(text).map_err(|_| Malformed)?;
    let mut is_uuid = true;
    for (byte, pattern) in lower.iter_mut().zip(UUID_PATTERN) {
        let is_hyphen = *byte == b'-';
        is_uuid &= is_hyphen == (*pattern == b'-') && (is_hyphen | byte.is_ascii_hexdigit());
        byte.make_ascii_lowercase();
    }
    is_uuid.then_some(lower).ok_or(Malformed)
}

/// The hexadecimal digits of a bytea, two a byte.
pub(crate) fn bytea_digits(text: &[u8]) -> Result<&[u8], Malformed> {
    match text {
        [b'\\', b'x', digits @ ..] if digits.len().is_multiple_of(2) => Ok(digits),
        _ => Err(Malformed),
    }
}

/// Writes the bytes of at most 64 hexadecimal digits; how many there are.
pub(crate) fn unhex(digits: &[u8], bytes: &mut [u8; 32]) -> Result<usize, Malformed> {
    let (pairs, _) = digits.as_chunks::<2>();
    let mut seen = 0;
    for ([high, low], byte) in pairs.iter().zip(bytes) {
        let (high, low) = (hex_digit(*high), hex_digit(*low));
        seen |= high | low;
        *byte = (high << 4) | (low & 0x0F);
    }
    if seen > 0x0F { Err(Malformed) } else { Ok(pairs.len()) }
}

pub(crate) fn hex_digit(byte: u8) -> u8 {
    HEX_DIGITS.get(usize::from(byte)).copied().unwrap_or(0xFF)
}

/// Walks the elements of `array_out`'s text.
pub(crate) struct ArrayElements<'a> {
    rest: &'a [u8],
    delimiter: u8,
    state: ArrayState,
}

enum ArrayState {
    First,
    Later,
    Ended,
}

/// What an array's text turned out to be.
pub(crate) enum ArrayText<'a> {
    /// One dimension or none.
    Flat {
        /// The first subscript is 1, as that of a list.
        starts_at_one: bool,
        /// The elements.
        elements: ArrayElements<'a>,
    },
    /// More dimensions than a list has.
    Nested,
}

/// One element of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element<'a> {
    Null,
    Value(&'a [u8]),
}

/// Reads up to an array's first element. Between elements stands the `typdelim` of their type: that of a box is `;`, that of a
/// geometry `:`.
pub(crate) fn array(text: &[u8], delimiter: u8) -> Result<ArrayText<'_>, Malformed> {
    let mut rest = text;
    let mut dimensions = 0_u32;
    let mut starts_at_one = true;
    while let [b'[', after @ ..] = rest {
        let (bounds, after) = split_once(after, |byte| byte == b']').ok_or(Malformed)?;
        let (lower, upper) = split_once(bounds, |byte| byte == b':').ok_or(Malformed)?;
        starts_at_one = int32(lower)? == 1;
        int32(upper)?;
        dimensions = dimensions.saturating_add(1);
        rest = after;
    }
    if dimensions > 0 {
        rest = rest.strip_prefix(b"=").ok_or(Malformed)?;
    }
    match rest {
        [b'{', b'{', ..] => Ok(ArrayText::Nested),
        [b'{', rest @ ..] if dimensions <= 1 => Ok(ArrayText::Flat {
            starts_at_one,
            elements: ArrayElements { rest, delimiter, state: ArrayState::First },
        }),
        _ => Err(Malformed),
    }
}

impl<'a> ArrayElements<'a> {
    /// The next element, unescaped into `scratch` if need be.
    pub(crate) fn next<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<Option<Element<'s>>, Malformed>
    where
        'a: 's,
    {
        if let (ArrayState::First, [b'}', rest @ ..]) = (&self.state, self.rest) {
            (self.rest, self.state) = (rest, ArrayState::Ended);
        }
        if let ArrayState::Ended = self.state {
            return if self.rest.is_empty() { Ok(None) } else { Err(Malformed) };
        }
        let element = match self.rest {
            [b'"', rest @ ..] => self.quoted(rest, scratch)?,
            rest => self.bare(rest)?,
        };
        match self.rest {
            [byte, rest @ ..] if *byte == self.delimiter => {
                (self.rest, self.state) = (rest, ArrayState::Later);
            }
            [b'}', rest @ ..] => (self.rest, self.state) = (rest, ArrayState::Ended),
            _ => return Err(Malformed),
        }
        Ok(Some(element))
    }

    fn bare(&mut self, text: &'a [u8]) -> Result<Element<'a>, Malformed> {
        let delimiter = self.delimiter;
        let is_end = |byte: &u8| *byte == delimiter || matches!(byte, b'}' | b'{' | b'"' | b'\\');
        let end = text.iter().position(is_end);
        let (element, rest) = end.and_then(|end| text.split_at_checked(end)).ok_or(Malformed)?;
        self.rest = rest;
        match element {
            [] => Err(Malformed),
            b"NULL" => Ok(Element::Null),
            element => Ok(Element::Value(element)),
        }
    }

    fn quoted<'s>(&mut self, text: &'a [u8], scratch: &'s mut Vec<u8>) -> Result<Element<'s>, Malformed>
    where
        'a: 's,
    {
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
        let end = text.iter().position(is_special).ok_or(Malformed)?;
        if let Some((element, [b'"', rest @ ..])) = text.split_at_checked(end) {
            self.rest = rest;
            return Ok(Element::Value(element));
        }
        scratch.clear();
        let mut text = text;
        loop {
            let end = text.iter().position(is_special).ok_or(Malformed)?;
            let (plain, special) = text.split_at_checked(end).ok_or(Malformed)?;
            scratch.extend_from_slice(plain);
            match special {
                [b'\\', escaped, rest @ ..] => {
                    scratch.push(*escaped);
                    text = rest;
                }
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Ok(Element::Value(scratch));
                }
                _ => return Err(Malformed),
            }
        }
    }
}

/// The parts before and after the first byte that is meant.
pub(crate) fn split_once(bytes: &[u8], is_meant: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| is_meant(*byte))?;
    match bytes.split_at_checked(at) {
        Some((before, [_, after @ ..])) => Some((before, after)),
        _ => None,
    }
}

/// 0001-01-01
pub(crate) const DAY_MIN: i32 = -719_162;
/// 9999-12-31
pub(crate) const DAY_MAX: i32 = 2_932_896;
pub(crate) const MICROS_PER_DAY: i64 = 86_400_000_000;
/// 0001-01-01 00:00:00
pub(crate) const MICROS_MIN: i64 = -719_162 * MICROS_PER_DAY;
/// 9999-12-31 23:59:59.999999
pub(crate) const MICROS_MAX: i64 = 2_932_897 * MICROS_PER_DAY - 1;

#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const POWERS_OF_TEN_64: [u64; 19] = {
    let mut powers = [1; 19];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

const UUID_PATTERN: &[u8; 36] = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

/// Up to the 38 digits of the widest decimal.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
pub(crate) const POWERS_OF_TEN: [u128; 39] = {
    let mut powers = [1; 39];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// The value of each hexadecimal digit, 0xFF for every other byte.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
static HEX_DIGITS: [u8; 256] = {
    let mut digits = [0xFF; 256];
    let mut value = 0;
    while value < 10 {
        digits[b'0' as usize + value as usize] = value;
        value += 1;
    }
    while value < 16 {
        digits[b'a' as usize + value as usize - 10] = value;
        digits[b'A' as usize + value as usize - 10] = value;
        value += 1;
    }
    digits
};

#[cfg(test)]
mod tests;
