//! `hstore`.
//!
//! Owns: the pairs of an `hstore`, from text and from binary, and its text.
//! Does not: sort; the server did, by the length of the keys.
//! Holds: a value that is NULL is not the text `NULL`.
//! Fails: [`Malformed`] on pairs that are not as many as announced, or text that `hstore_out` does not print.

use std::borrow::Cow;

use crate::binary::{counted, element, take_count};
use crate::text::Malformed;

use super::quoting::Piece;

/// A key, and its value unless that is NULL.
pub(crate) type Pair<'a> = (Cow<'a, [u8]>, Piece<'a>);

/// Writes `"a"=>"1", "b"=>NULL`.
pub(crate) fn hstore(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    for (place, pair) in pairs_from_binary(bytes)?.enumerate() {
        if place > 0 {
            text.extend_from_slice(b", ");
        }
        let (key, value) = pair?;
        write_quoted(&key, text);
        text.extend_from_slice(b"=>");
        match value {
            Some(value) => write_quoted(&value, text),
            None => text.extend_from_slice(b"NULL"),
        }
    }
    Ok(())
}

fn write_quoted(plain: &[u8], text: &mut Vec<u8>) {
    text.push(b'"');
    for byte in plain {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text.push(b'"');
}

/// The pairs of a send form.
pub(crate) fn pairs_from_binary(
    bytes: &[u8],
) -> Result<impl Iterator<Item = Result<Pair<'_>, Malformed>>, Malformed> {
    let mut rest = bytes;
    let count = take_count(&mut rest)?;
    Ok(counted(rest, count, take_pair))
}

fn take_pair<'a>(rest: &mut &'a [u8]) -> Result<Pair<'a>, Malformed> {
    let key = element(rest)?.ok_or(Malformed)?;
    Ok((key.into(), element(rest)?.map(Cow::from)))
}

/// The pairs of a text.
pub(crate) fn pairs_from_text(text: &[u8]) -> impl Iterator<Item = Result<Pair<'_>, Malformed>> {
    let mut rest = (!text.is_empty()).then_some(text);
    std::iter::from_fn(move || {
        let (pair, after) = match read_pair(rest.take()?) {
            Ok((pair, after)) => (pair, after),
            Err(Malformed) => return Some(Err(Malformed)),
        };
        match after {
            [] => {}
            [b',', b' ', after @ ..] => rest = Some(after),
            _ => return Some(Err(Malformed)),
        }
        Some(Ok(pair))
    })
}

fn read_pair(text: &[u8]) -> Result<(Pair<'_>, &[u8]), Malformed> {
    let (key, rest) = read_quoted(text)?;
    match rest.strip_prefix(b"=>").ok_or(Malformed)? {
        [b'N', b'U', b'L', b'L', rest @ ..] => Ok(((key, None), rest)),
        rest => {
            let (value, rest) = read_quoted(rest)?;
            Ok(((key, Some(value)), rest))
        }
    }
}

/// What stands in quotes, and what follows them.
fn read_quoted(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), Malformed> {
    let mut text = text.strip_prefix(b"\"").ok_or(Malformed)?;
    let mut plain = Cow::Borrowed(&[][..]);
    loop {
        let special = text.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(Malformed)?;
        let (run, rest) = text.split_at_checked(special).ok_or(Malformed)?;
        if plain.is_empty() {
            plain = Cow::Borrowed(run);
        } else {
            plain.to_mut().extend_from_slice(run);
        }
        match rest {
            [b'\\', escaped, rest @ ..] => {
                plain.to_mut().push(*escaped);
                text = rest;
            }
            [b'"', rest @ ..] => return Ok((plain, rest)),
            _ => return Err(Malformed),
        }
    }
}
