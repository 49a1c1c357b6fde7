//! Types that are sent as their text behind a version.
//!
//! Owns: `jsonpath`, `ltree`, `lquery` and `ltxtquery`.
//! Does not: read what they say.
//! Holds: the text is the one that the output function prints.
//! Fails: [`Malformed`] on a version that is not 1.

use crate::text::Malformed;

/// Writes the text behind the version.
pub(crate) fn versioned(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    text.extend_from_slice(text_of(bytes)?);
    Ok(())
}

/// The text behind the version.
pub(crate) fn text_of(bytes: &[u8]) -> Result<&[u8], Malformed> {
    bytes.strip_prefix(&[1]).ok_or(Malformed)
}
