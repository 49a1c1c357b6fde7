//! Ranges and multiranges over any type.
//!
//! Owns: the bounds of a range and the ranges of a multirange, from text and from binary, and their text.
//! Does not: know the bounds' type: the caller renders and reads them.
//! Holds: an empty range has no bounds; an infinite bound has no value.
//! Fails: [`Malformed`] on flags that Postgres does not send, or text that it does not print.

use std::borrow::Cow;

use crate::binary::{counted, element, take, take_count};
use crate::text::Malformed;

use super::quoting::{Piece, read_piece, write_piece};

/// A range whose bounds' values are in their text or send form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Range<'a> {
    Empty,
    Between { lower: Bound<'a>, upper: Bound<'a> },
}

/// One side of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound<'a> {
    /// `None` is infinite.
    pub(crate) value: Piece<'a>,
    /// The value belongs to the range.
    pub(crate) is_inclusive: bool,
}

impl<'a> Range<'a> {
    pub(crate) fn from_binary(bytes: &'a [u8]) -> Result<Range<'a>, Malformed> {
        let mut rest = bytes;
        let [flags] = take(&mut rest)?;
        if flags & !(EMPTY | LOWER_INCLUSIVE | UPPER_INCLUSIVE | LOWER_INFINITE | UPPER_INFINITE) != 0 {
            return Err(Malformed);
        }
        let range = if flags & EMPTY != 0 {
            Range::Empty
        } else {
            let mut bound = |infinite: u8, inclusive: u8| {
                let value = match flags & infinite {
                    0 => Some(Cow::Borrowed(element(&mut rest)?.ok_or(Malformed)?)),
                    _ => None,
                };
                Ok(Bound { value, is_inclusive: flags & inclusive != 0 })
            };
            Range::Between {
                lower: bound(LOWER_INFINITE, LOWER_INCLUSIVE)?,
                upper: bound(UPPER_INFINITE, UPPER_INCLUSIVE)?,
            }
        };
        if rest.is_empty() { Ok(range) } else { Err(Malformed) }
    }

    pub(crate) fn from_text(text: &'a [u8]) -> Result<Range<'a>, Malformed> {
        match read_range(text)? {
            (range, []) => Ok(range),
            _ => Err(Malformed),
        }
    }

    /// As `range_deparse` of Postgres does it, with the bounds' texts.
    fn render(&self, bound_text: &mut BoundText<'_>, text: &mut Vec<u8>) -> Result<(), Malformed> {
        let Range::Between { lower, upper } = self else {
            text.extend_from_slice(b"empty");
            return Ok(());
        };
        text.push(if lower.is_inclusive { b'[' } else { b'(' });
        lower.render(bound_text, text)?;
        text.push(b',');
        upper.render(bound_text, text)?;
        text.push(if upper.is_inclusive { b']' } else { b')' });
        Ok(())
    }
}

/// Writes the text of a bound's send form.
type BoundText<'a> = dyn FnMut(&[u8], &mut Vec<u8>) -> Result<(), Malformed> + 'a;

impl Bound<'_> {
    fn render(&self, bound_text: &mut BoundText<'_>, text: &mut Vec<u8>) -> Result<(), Malformed> {
        let Some(value) = &self.value else { return Ok(()) };
        let mut plain = Vec::new();
        bound_text(value, &mut plain)?;
        write_piece(&plain, |byte| matches!(byte, b'(' | b')' | b'[' | b']' | b','), text);
        Ok(())
    }
}

/// Writes a range, with the subtype's text for a bound.
pub(crate) fn range(
    bytes: &[u8],
    mut bound_text: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), Malformed>,
    text: &mut Vec<u8>,
) -> Result<(), Malformed> {
    Range::from_binary(bytes)?.render(&mut bound_text, text)
}

/// Writes a multirange, with the subtype's text for a bound.
pub(crate) fn multirange(
    bytes: &[u8],
    mut bound_text: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), Malformed>,
    text: &mut Vec<u8>,
) -> Result<(), Malformed> {
    text.push(b'{');
    for (place, range) in ranges_from_binary(bytes)?.enumerate() {
        if place > 0 {
            text.push(b',');
        }
        range?.render(&mut bound_text, text)?;
    }
    text.push(b'}');
    Ok(())
}

/// The ranges of a multirange's send form.
pub(crate) fn ranges_from_binary(
    bytes: &[u8],
) -> Result<impl Iterator<Item = Result<Range<'_>, Malformed>>, Malformed> {
    let mut rest = bytes;
    let count = take_count(&mut rest)?;
    Ok(counted(rest, count, take_range))
}

fn take_range<'a>(rest: &mut &'a [u8]) -> Result<Range<'a>, Malformed> {
    Range::from_binary(element(rest)?.ok_or(Malformed)?)
}

/// The ranges of a multirange's text.
pub(crate) fn ranges_from_text(
    text: &[u8],
) -> Result<impl Iterator<Item = Result<Range<'_>, Malformed>>, Malformed> {
    let ranges = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}")).ok_or(Malformed)?;
    let mut rest = (!ranges.is_empty()).then_some(ranges);
    Ok(std::iter::from_fn(move || {
        let (range, after) = match read_range(rest.take()?) {
            Ok((range, after)) => (range, after),
            Err(Malformed) => return Some(Err(Malformed)),
        };
        match after {
            [] => {}
            [b',', after @ ..] => rest = Some(after),
            _ => return Some(Err(Malformed)),
        }
        Some(Ok(range))
    }))
}

/// Reads a range, and gives what follows it.
fn read_range(text: &[u8]) -> Result<(Range<'_>, &[u8]), Malformed> {
    if let Some(rest) = text.strip_prefix(b"empty") {
        return Ok((Range::Empty, rest));
    }
    let (lower_inclusive, rest) = match text {
        [b'[', rest @ ..] => (true, rest),
        [b'(', rest @ ..] => (false, rest),
        _ => return Err(Malformed),
    };
    let (lower, rest) = read_piece(rest, |byte| byte == b',')?;
    let rest = rest.strip_prefix(b",").ok_or(Malformed)?;
    let (upper, rest) = read_piece(rest, |byte| matches!(byte, b']' | b')'))?;
    let (upper_inclusive, rest) = match rest {
        [b']', rest @ ..] => (true, rest),
        [b')', rest @ ..] => (false, rest),
        _ => return Err(Malformed),
    };
    let lower = Bound { value: lower, is_inclusive: lower_inclusive };
    let upper = Bound { value: upper, is_inclusive: upper_inclusive };
    Ok((Range::Between { lower, upper }, rest))
}

// The flags of `rangetypes.h` that are sent.
const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;
