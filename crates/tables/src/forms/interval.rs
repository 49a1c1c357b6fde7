//! Intervals.
//!
//! Owns: `interval` in `IntervalStyle=postgres`, ISO 8601 and binary.
//! Does not: normalise; thirty days are not a month.
//! Holds: the three parts are independent, each with its own sign.
//! Fails: [`Malformed`] on another style, or parts out of their order.

use crate::binary::{take, write};
use crate::text::{Held, Malformed, fraction_micros, int32, natural, pair, split_once};
use crate::types::Loss;

/// An interval as Postgres stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) months: i32,
    pub(crate) days: i32,
    pub(crate) micros: i64,
}

impl Interval {
    /// Since Postgres 17. Before, these were an interval like others: the bytes do not tell.
    const INFINITY: Interval = Interval { months: i32::MAX, days: i32::MAX, micros: i64::MAX };
    const MINUS_INFINITY: Interval = Interval { months: i32::MIN, days: i32::MIN, micros: i64::MIN };

    pub(crate) fn from_binary(bytes: &[u8]) -> Result<Interval, Malformed> {
        let mut rest = bytes;
        let micros = i64::from_be_bytes(take(&mut rest)?);
        let days = i32::from_be_bytes(take(&mut rest)?);
        let months = i32::from_be_bytes(take(&mut rest)?);
        rest.is_empty().then_some(Interval { months, days, micros }).ok_or(Malformed)
    }

    pub(crate) fn from_text(text: &[u8]) -> Result<Interval, Malformed> {
        match text {
            b"infinity" => return Ok(Interval::INFINITY),
            b"-infinity" => return Ok(Interval::MINUS_INFINITY),
            _ => {}
        }
        let mut rest = Some(text);
        let years = part(&mut rest, b"year")?.unwrap_or(0);
        let months = part(&mut rest, b"mon")?.unwrap_or(0);
        let days = part(&mut rest, b"day")?.unwrap_or(0);
        let months = i64::from(years) * 12 + i64::from(months);
        let months = i32::try_from(months).map_err(|_| Malformed)?;
        let micros = rest.map_or(Ok(0), signed_clock)?;
        Ok(Interval { months, days, micros })
    }

    /// The parts, of which infinity has none.
    pub(crate) fn held(self) -> Held<Interval> {
        match self {
            Interval::INFINITY | Interval::MINUS_INFINITY => Held::Nothing(Loss::Infinity),
            interval => Held::Exact(interval),
        }
    }

    fn infinite_text(self) -> Option<&'static [u8]> {
        match self {
            Interval::INFINITY => Some(b"infinity"),
            Interval::MINUS_INFINITY => Some(b"-infinity"),
            _ => None,
        }
    }

    /// As `EncodeInterval` of Postgres prints it with `IntervalStyle=postgres`.
    fn render(self, text: &mut Vec<u8>) {
        if let Some(infinite) = self.infinite_text() {
            return text.extend_from_slice(infinite);
        }
        let parts = [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")];
        let mut separator = "";
        // A part is told to be positive if the one before was not.
        let mut plus = "";
        for (value, unit) in parts.into_iter().filter(|(value, _)| *value != 0) {
            let sign = if value > 0 { plus } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            write(text, format_args!("{separator}{sign}{value} {unit}{plural}"));
            separator = " ";
            plus = if value < 0 { "+" } else { "" };
        }
        if self.micros != 0 || separator.is_empty() {
            let sign = if self.micros < 0 { "-" } else { plus };
            let micros = self.micros.unsigned_abs();
            let (hours, minutes) = (micros / 3_600_000_000, micros / 60_000_000 % 60);
            let seconds = micros / 1_000_000 % 60;
            write(text, format_args!("{separator}{sign}{hours:02}:{minutes:02}:{seconds:02}"));
            render_fraction(micros % 1_000_000, text);
        }
    }

    /// As Postgres prints it with `IntervalStyle=iso_8601`.
    pub(crate) fn iso8601(self, text: &mut Vec<u8>) {
        if let Some(infinite) = self.infinite_text() {
            return text.extend_from_slice(infinite);
        }
        if self == (Interval { months: 0, days: 0, micros: 0 }) {
            return text.extend_from_slice(b"PT0S");
        }
        text.push(b'P');
        render_designated((self.months / 12).into(), 'Y', text);
        render_designated((self.months % 12).into(), 'M', text);
        render_designated(self.days.into(), 'D', text);
        if self.micros == 0 {
            return;
        }
        text.push(b'T');
        render_designated(self.micros / 3_600_000_000, 'H', text);
        render_designated(self.micros / 60_000_000 % 60, 'M', text);
        let seconds = self.micros % 60_000_000;
        if seconds != 0 {
            let sign = if seconds < 0 { "-" } else { "" };
            let micros = seconds.unsigned_abs();
            write(text, format_args!("{sign}{}", micros / 1_000_000));
            render_fraction(micros % 1_000_000, text);
            text.push(b'S');
        }
    }
}

/// Writes the text of an interval's send form.
pub(crate) fn interval(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    Interval::from_binary(bytes)?.render(text);
    Ok(())
}

fn render_designated(value: i64, unit: char, text: &mut Vec<u8>) {
    if value != 0 {
        write(text, format_args!("{value}{unit}"));
    }
}

/// Writes the digits after the point without the zeros at their end.
fn render_fraction(micros: u64, text: &mut Vec<u8>) {
    if micros == 0 {
        return;
    }
    write(text, format_args!(".{micros:06}"));
    while text.pop_if(|byte| *byte == b'0').is_some() {}
}

/// Reads `3 mons` or `-1 day` off the front, if that is what comes next, and the space behind it.
fn part(rest: &mut Option<&[u8]>, unit: &[u8]) -> Result<Option<i32>, Malformed> {
    let Some((number, after)) = rest.and_then(|rest| split_once(rest, |byte| byte == b' ')) else {
        return Ok(None);
    };
    let Some(after) = after.strip_prefix(unit) else { return Ok(None) };
    let after = after.strip_prefix(b"s").unwrap_or(after);
    *rest = match after {
        [] => None,
        [b' ', after @ ..] => Some(after),
        _ => return Err(Malformed),
    };
    let number = number.strip_prefix(b"+").unwrap_or(number);
    int32(number).map(Some)
}

/// Microseconds of `[+-]HH:MM:SS[.f…]`, where the hours have two digits or more.
fn signed_clock(text: &[u8]) -> Result<i64, Malformed> {
    let (is_negative, clock) = match text {
        [b'-', clock @ ..] => (true, clock),
        [b'+', clock @ ..] => (false, clock),
        clock => (false, clock),
    };
    let (hours, rest) = split_once(clock, |byte| byte == b':').ok_or(Malformed)?;
    let [m1, m2, b':', s1, s2, rest @ ..] = rest else { return Err(Malformed) };
    let (minutes, seconds) = (pair(*m1, *m2)?, pair(*s1, *s2)?);
    let fraction = match rest {
        [] => 0,
        [b'.', digits @ ..] => match fraction_micros(digits)? {
            (fraction, []) => fraction,
            _ => return Err(Malformed),
        },
        _ => return Err(Malformed),
    };
    let hours = i128::from(natural(hours)?);
    let seconds = i128::from(minutes * 60 + seconds) + hours * 3600;
    let micros = seconds * 1_000_000 + i128::from(fraction);
    let is_clock = minutes < 60 && text.len() >= 8;
    // The longest interval backwards has no counterpart forwards.
    let micros = i64::try_from(if is_negative { -micros } else { micros }).map_err(|_| Malformed)?;
    is_clock.then_some(micros).ok_or(Malformed)
}
