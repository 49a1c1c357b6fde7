//! Composites of any fields.
//!
//! Owns: the fields of a composite, from text and from binary, and its text.
//! Does not: know the fields' types: the caller renders and reads them. Only a send form brings their OIDs.
//! Holds: NULL and the empty text differ.
//! Fails: [`Malformed`] on fields that are not as many as announced, or text that Postgres does not print.

use pgoutput::Oid;

use crate::binary::{counted, element, take, take_count};
use crate::text::Malformed;

use super::quoting::{Piece, read_piece, write_piece};

/// A field in its send form, `None` for NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) type_oid: Oid,
    pub(crate) value: Option<&'a [u8]>,
}

/// Writes a composite as `record_out` does, with the text of each field that is not NULL by its place and type.
pub(crate) fn record(
    bytes: &[u8],
    mut field_text: impl FnMut(usize, Oid, &[u8], &mut Vec<u8>) -> Result<(), Malformed>,
    text: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut plain = Vec::new();
    text.push(b'(');
    for (place, field) in fields_from_binary(bytes)?.enumerate() {
        if place > 0 {
            text.push(b',');
        }
        let Field { type_oid, value } = field?;
        let Some(value) = value else { continue };
        plain.clear();
        field_text(place, type_oid, value, &mut plain)?;
        write_piece(&plain, |byte| matches!(byte, b'(' | b')' | b','), text);
    }
    text.push(b')');
    Ok(())
}

/// The fields of a send form. Dropped attributes are not sent.
pub(crate) fn fields_from_binary(
    bytes: &[u8],
) -> Result<impl Iterator<Item = Result<Field<'_>, Malformed>>, Malformed> {
    let mut rest = bytes;
    let count = take_count(&mut rest)?;
    Ok(counted(rest, count, take_field))
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, Malformed> {
    let type_oid = Oid(u32::from_be_bytes(take(rest)?));
    Ok(Field { type_oid, value: element(rest)? })
}

/// The fields of a text, `None` for NULL. A composite without fields prints as one whose only field is NULL does, and is
/// read so.
pub(crate) fn fields_from_text(
    text: &[u8],
) -> Result<impl Iterator<Item = Result<Piece<'_>, Malformed>>, Malformed> {
    let mut rest = Some(text.strip_prefix(b"(").ok_or(Malformed)?);
    Ok(std::iter::from_fn(move || {
        let (field, after) = match read_piece(rest.take()?, |byte| matches!(byte, b',' | b')')) {
            Ok((field, after)) => (field, after),
            Err(Malformed) => return Some(Err(Malformed)),
        };
        match after {
            [b')'] => {}
            [b',', after @ ..] => rest = Some(after),
            _ => return Some(Err(Malformed)),
        }
        Some(Ok(field))
    }))
}
