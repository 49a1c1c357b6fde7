//! The quotes of ranges and composites.
//!
//! Owns: a piece of text that may hold what separates it from the next, as `range_out` and `record_out` write it.
//! Does not: know the quotes of arrays, `hstore` or text search, which differ.
//! Holds: reading a written piece gives it back; an empty piece is not a missing one. A space is what `isspace` says on
//! Linux, in any encoding.
//! Fails: [`Malformed`] on quotes that do not end.

use std::borrow::Cow;

use crate::text::Malformed;

/// A value between separators, `None` if there is none; the empty text is one.
pub(crate) type Piece<'a> = Option<Cow<'a, [u8]>>;

/// Writes a piece, in quotes if it is empty, holds a space or has a byte that means something; quotes and backslashes
/// are doubled.
pub(super) fn write_piece(piece: &[u8], is_special: impl Fn(u8) -> bool, text: &mut Vec<u8>) {
    let needs_quotes = |byte: &u8| is_special(*byte) || matches!(byte, b'"' | b'\\' | b' ' | b'\t'..=b'\r');
    if !piece.is_empty() && !piece.iter().any(needs_quotes) {
        return text.extend_from_slice(piece);
    }
    text.push(b'"');
    for byte in piece {
        if matches!(byte, b'"' | b'\\') {
            text.push(*byte);
        }
        text.push(*byte);
    }
    text.push(b'"');
}

/// A piece without its quotes, `None` if it is missing, and the text from the byte that ends it.
pub(super) fn read_piece(text: &[u8], is_end: impl Fn(u8) -> bool) -> Result<(Piece<'_>, &[u8]), Malformed> {
    if let [b'"', quoted @ ..] = text {
        let (piece, rest) = read_quoted(quoted)?;
        return Ok((Some(piece), rest));
    }
    let end = text.iter().position(|byte| is_end(*byte) || matches!(byte, b'"' | b'\\')).ok_or(Malformed)?;
    let (piece, rest) = text.split_at_checked(end).ok_or(Malformed)?;
    Ok(((!piece.is_empty()).then_some(Cow::Borrowed(piece)), rest))
}

/// Reads behind an opening quote.
fn read_quoted(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), Malformed> {
    let mut piece = Cow::Borrowed(&[][..]);
    let mut text = text;
    loop {
        let special = text.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(Malformed)?;
        let (plain, rest) = text.split_at_checked(special).ok_or(Malformed)?;
        if piece.is_empty() {
            piece = Cow::Borrowed(plain);
        } else {
            piece.to_mut().extend_from_slice(plain);
        }
        text = match rest {
            [b'"', b'"', rest @ ..] => {
                piece.to_mut().push(b'"');
                rest
            }
            [b'\\', escaped, rest @ ..] => {
                piece.to_mut().push(*escaped);
                rest
            }
            [b'"', rest @ ..] => return Ok((piece, rest)),
            _ => return Err(Malformed),
        };
    }
}
