//! The wire of `COPY … TO STDOUT (FORMAT binary)`.
//!
//! Owns: the header, the rows and the trailer of that format.
//! Does not: keep bytes that are not a whole part yet; the caller has them.
//! Holds: nothing is allocated, and no announced length is believed before that many bytes are there.
//! Fails: [`CopyError`], which names the cell and never holds a value of a row.
//!
//! The format: <https://www.postgresql.org/docs/current/sql-copy.html>

use crate::message::{Layout, Tuple};

/// What bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Split<'a, T> {
    /// It is not all there: at least this many bytes are needed from where it begins.
    Short {
        /// That many.
        need: usize,
    },
    /// It is there.
    Whole {
        /// The part.
        part: T,
        /// What follows it.
        rest: &'a [u8],
    },
}

/// A part of a copy behind its header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part<'a> {
    /// A row.
    Row(Tuple<'a>),
    /// The trailer; nothing comes after it.
    Trailer,
}

/// Why bytes are not a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// It begins with something else.
    #[error("the copy does not begin with the signature of the binary format")]
    Signature,
    /// It has a feature that changes what follows.
    #[error("the copy has flags {flags:#010x}, of which the upper half must be zero")]
    Flags {
        /// As announced.
        flags: u32,
    },
    /// A length is below zero where it cannot be.
    #[error("the copy's header extension has length {length}")]
    Extension {
        /// As announced.
        length: i32,
    },
    /// A row has more or fewer cells than columns were asked for.
    #[error("a row of the copy has {found} cells where {expected} columns were asked for")]
    CellCount {
        /// As announced.
        found: i16,
        /// As asked for.
        expected: usize,
    },
    /// A cell has a length below -1.
    #[error("cell {cell} of a row of the copy has length {length}")]
    CellLength {
        /// Which cell, from 0.
        cell: usize,
        /// As announced.
        length: i32,
    },
    /// Bytes follow the trailer.
    #[error("{left} bytes follow the trailer of the copy")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// The server ended the copy within a row, or without a trailer.
    #[error("the copy ends after {rows} rows without its trailer, with {left} bytes of another part")]
    Truncated {
        /// Whole rows before.
        rows: u64,
        /// Bytes of what was begun.
        left: usize,
    },
}

/// The header; the part is the length of the extension that follows it, and is to be skipped.
pub fn header(bytes: &[u8]) -> Result<Split<'_, usize>, CopyError> {
    let Some((signature, rest)) = bytes.split_first_chunk::<11>() else {
        return Ok(Split::Short { need: HEADER_BYTES });
    };
    if signature != SIGNATURE {
        return Err(CopyError::Signature);
    }
    let Some((flags, rest)) = rest.split_first_chunk::<4>() else {
        return Ok(Split::Short { need: HEADER_BYTES });
    };
    let flags = u32::from_be_bytes(*flags);
    if flags >> 16 != 0 {
        return Err(CopyError::Flags { flags });
    }
    let Some((length, rest)) = rest.split_first_chunk::<4>() else {
        return Ok(Split::Short { need: HEADER_BYTES });
    };
    let length = i32::from_be_bytes(*length);
    let part = usize::try_from(length).map_err(|_| CopyError::Extension { length })?;
    Ok(Split::Whole { part, rest })
}

/// The next row, or the trailer. `texts` has an entry for every column, true for one that the query made a text of: its cells
/// are [`crate::Cell::Text`].
pub fn part<'a>(bytes: &'a [u8], texts: &'a [bool]) -> Result<Split<'a, Part<'a>>, CopyError> {
    let Some((count, cells)) = bytes.split_first_chunk::<2>() else {
        return Ok(Split::Short { need: 2 });
    };
    let found = i16::from_be_bytes(*count);
    if found == -1 {
        return Ok(Split::Whole { part: Part::Trailer, rest: cells });
    }
    let expected = texts.len();
    let cell_count = match u16::try_from(found) {
        Ok(count) if usize::from(count) == expected => count,
        _ => return Err(CopyError::CellCount { found, expected }),
    };
    let mut rest = cells;
    for cell in 0..expected {
        let Some((length, after)) = rest.split_first_chunk::<4>() else {
            return Ok(short(bytes, rest, 4));
        };
        rest = match i32::from_be_bytes(*length) {
            -1 => after,
            length => {
                let length = usize::try_from(length).map_err(|_| CopyError::CellLength { cell, length })?;
                match after.split_at_checked(length) {
                    Some((_, after)) => after,
                    None => return Ok(short(bytes, after, length)),
                }
            }
        };
    }
    // `rest` is a suffix of `cells`, so this is never the empty default.
    let walked = cells.get(..cells.len() - rest.len()).unwrap_or_default();
    let tuple = Tuple { cell_count, bytes: walked, layout: Layout::Copied(texts) };
    Ok(Split::Whole { part: Part::Row(tuple), rest })
}

fn short<'a, T>(bytes: &[u8], rest: &[u8], wanted: usize) -> Split<'a, T> {
    let behind = bytes.len().saturating_sub(rest.len());
    Split::Short { need: behind.saturating_add(wanted) }
}

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Signature, flags, and the length of the extension.
const HEADER_BYTES: usize = 19;

#[cfg(test)]
mod tests;
