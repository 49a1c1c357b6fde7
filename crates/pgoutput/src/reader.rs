//! A cursor over one frame, and an iterator over the cells of a tuple.
//!
//! Owns: [`DecodeError`], the only error of this crate's decoding, and the one function that takes a cell apart.
//! Does not: know which message has which fields (`decode`).
//! Holds: nothing is allocated by an announced length or count before that many bytes are known to be there.
//! Fails: every read names its field; [`CellIter`] cannot fail, since `Reader::tuple` walked the same bytes.

use std::ffi::CStr;
use std::fmt;
use std::iter::FusedIterator;

use crate::lsn::Lsn;
use crate::message::{Cell, Layout, Oid, PgTimestamp, Tuple, Xid};

/// Why a frame is not a message. Names the message and the field, and never holds a value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    tag: Option<u8>,
    field: &'static str,
    index: Option<u16>,
    problem: Problem,
}

impl DecodeError {
    pub(crate) fn new(tag: Option<u8>, field: &'static str, problem: Problem) -> DecodeError {
        DecodeError { tag, field, index: None, problem }
    }

    /// The frame's first byte, if it has one.
    pub fn tag(&self) -> Option<u8> {
        self.tag
    }

    /// The field, as the protocol page and the structs of `message` call it; empty if it is the message as a whole.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// Which column of the relation or cell of the tuple, from 0.
    pub fn index(&self) -> Option<u16> {
        self.index
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Problem {
        self.problem
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pgoutput message")?;
        if let Some(tag) = self.tag {
            write!(f, " `{}`", tag.escape_ascii())?;
        }
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for DecodeError {}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The frame has no bytes at all.
    Empty,
    /// No message begins with this byte.
    UnknownTag,
    /// The message exists, but not in the protocol version that was asked for.
    NotInVersion {
        /// The first version that has it.
        since: u8,
        /// The version that was asked for.
        negotiated: u8,
    },
    /// The message came between stream start and stream stop, where it cannot be.
    InsideStream,
    /// The message came outside of any stream block, where it cannot be.
    OutsideStream,
    /// The frame ends too early.
    Short {
        /// Bytes the field needs.
        need: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// The frame goes on after the message's last field.
    Trailing {
        /// Bytes that are left.
        left: usize,
    },
    /// A length or count is below zero.
    Negative {
        /// As announced.
        length: i32,
    },
    /// A name has no terminating zero byte.
    Unterminated {
        /// Bytes that are left.
        left: usize,
    },
    /// A name is not UTF-8.
    NotUtf8 {
        /// Its length in bytes.
        length: usize,
        /// How many of them are valid.
        valid_up_to: usize,
    },
    /// A flag or kind byte has a value that the protocol does not know.
    Unexpected {
        /// The byte.
        byte: u8,
    },
    /// A position that must be set is zero.
    ZeroLsn,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Problem::Empty => f.write_str("the frame is empty"),
            Problem::UnknownTag => f.write_str("no message begins so"),
            Problem::NotInVersion { since, negotiated } => {
                write!(f, "belongs to protocol version {since}, and version {negotiated} was asked for")
            }
            Problem::InsideStream => f.write_str("cannot be inside a stream block"),
            Problem::OutsideStream => f.write_str("cannot be outside a stream block"),
            Problem::Short { need, left } => write!(f, "{need} bytes needed, {left} left"),
            Problem::Trailing { left } => write!(f, "{left} bytes too many at the end"),
            Problem::Negative { length } => write!(f, "length {length} is negative"),
            Problem::Unterminated { left } => {
                write!(f, "no zero byte ends the name in the {left} bytes left")
            }
            Problem::NotUtf8 { length, valid_up_to } => {
                write!(f, "name of {length} bytes is not UTF-8 after byte {valid_up_to}")
            }
            Problem::Unexpected { byte } => write!(f, "unexpected byte 0x{byte:02X}"),
            Problem::ZeroLsn => f.write_str("position is not set"),
        }
    }
}

/// The part of a message that is still unread.
pub(crate) struct Reader<'a> {
    tag: u8,
    index: Option<u16>,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `body`, the frame without its tag.
    pub(crate) fn new(tag: u8, body: &'a [u8]) -> Reader<'a> {
        Reader { tag, index: None, bytes: body }
    }

    /// Says which element of a list the next fields belong to.
    pub(crate) fn set_index(&mut self, index: Option<u16>) {
        self.index = index;
    }

    /// Ends the message: nothing may be left.
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(self.fail("", Problem::Trailing { left })),
        }
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(crate) fn oid(&mut self, field: &'static str) -> Result<Oid, DecodeError> {
        self.array(field).map(|bytes| Oid(u32::from_be_bytes(bytes)))
    }

    pub(crate) fn xid(&mut self, field: &'static str) -> Result<Xid, DecodeError> {
        self.array(field).map(|bytes| Xid(u32::from_be_bytes(bytes)))
    }

    pub(crate) fn timestamp(&mut self, field: &'static str) -> Result<PgTimestamp, DecodeError> {
        self.array(field).map(|bytes| PgTimestamp(i64::from_be_bytes(bytes)))
    }

    pub(crate) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        self.array(field).map(|bytes| Lsn(u64::from_be_bytes(bytes)))
    }

    /// A position by which transactions are kept or dropped; Postgres's own receiver refuses a zero here too.
    pub(crate) fn lsn_set(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        match self.lsn(field)? {
            Lsn::ZERO => Err(self.fail(field, Problem::ZeroLsn)),
            lsn => Ok(lsn),
        }
    }

    /// A byte of flags, none of them outside `known`: a new flag may change what the rest means.
    pub(crate) fn flags(&mut self, field: &'static str, known: u8) -> Result<u8, DecodeError> {
        match self.u8(field)? {
            flags if flags & !known == 0 => Ok(flags),
            byte => Err(self.fail(field, Problem::Unexpected { byte })),
        }
    }

    /// A name: bytes up to a zero byte. In an SQL_ASCII database it need not be UTF-8; then it is refused.
    pub(crate) fn name(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let Ok(name) = CStr::from_bytes_until_nul(self.bytes) else {
            return Err(self.fail(field, Problem::Unterminated { left: self.bytes.len() }));
        };
        let name = name.to_bytes();
        let text = std::str::from_utf8(name).map_err(|error| {
            self.fail(field, Problem::NotUtf8 { length: name.len(), valid_up_to: error.valid_up_to() })
        })?;
        // The name and its zero byte were found in `bytes`, so this is never the empty default.
        self.bytes = self.bytes.get(name.len() + 1..).unwrap_or_default();
        Ok(text)
    }

    /// Bytes behind their length.
    pub(crate) fn counted(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((content, rest)) = split_counted(self.bytes) else {
            return Err(self.fail(field, counted_problem(self.bytes)));
        };
        self.bytes = rest;
        Ok(content)
    }

    /// A count of 32 bits.
    pub(crate) fn count(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let length = self.i32(field)?;
        usize::try_from(length).map_err(|_| self.fail(field, Problem::Negative { length }))
    }

    /// Refuses a list of `count` elements if the bytes that are left cannot hold it. To be called before anything
    /// is allocated for the list.
    pub(crate) fn fits(
        &self,
        field: &'static str,
        count: usize,
        element_bytes_min: usize,
    ) -> Result<(), DecodeError> {
        let need = count.saturating_mul(element_bytes_min);
        if need > self.bytes.len() {
            return Err(self.fail(field, short(need, self.bytes)));
        }
        Ok(())
    }

    /// A row: walked once here, so that iterating over its cells cannot fail.
    pub(crate) fn tuple(&mut self, field: &'static str) -> Result<Tuple<'a>, DecodeError> {
        let cell_count = self.u16(field)?;
        let start = self.bytes;
        let mut rest = start;
        for index in 0..cell_count {
            match split_cell(rest) {
                Some((_, after)) => rest = after,
                None => return Err(self.cell_failure(field, index, rest)),
            }
        }
        self.bytes = rest;
        // `rest` is a suffix of `start`, so this is never the empty default.
        let bytes = start.get(..start.len() - rest.len()).unwrap_or_default();
        Ok(Tuple { cell_count, bytes, layout: Layout::Lettered })
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        match self.bytes.split_first_chunk::<N>() {
            Some((array, rest)) => {
                self.bytes = rest;
                Ok(*array)
            }
            None => Err(self.fail(field, short(N, self.bytes))),
        }
    }

    #[cold]
    pub(crate) fn fail(&self, field: &'static str, problem: Problem) -> DecodeError {
        DecodeError { tag: Some(self.tag), field, index: self.index, problem }
    }

    #[cold]
    fn cell_failure(&self, field: &'static str, index: u16, bytes: &[u8]) -> DecodeError {
        let problem = match bytes.split_first() {
            None => short(1, bytes),
            Some((b't' | b'b', rest)) => counted_problem(rest),
            Some((byte, _)) => Problem::Unexpected { byte: *byte },
        };
        DecodeError { tag: Some(self.tag), field, index: Some(index), problem }
    }
}

/// The cells of a [`Tuple`], in the order of the relation's columns.
#[derive(Clone)]
pub struct CellIter<'a> {
    cells_left: u16,
    bytes: &'a [u8],
    layout: Layout<'a>,
}

impl<'a> CellIter<'a> {
    pub(crate) fn new(tuple: Tuple<'a>) -> CellIter<'a> {
        CellIter { cells_left: tuple.cell_count, bytes: tuple.bytes, layout: tuple.layout }
    }
}

impl<'a> Iterator for CellIter<'a> {
    type Item = Cell<'a>;

    #[inline]
    fn next(&mut self) -> Option<Cell<'a>> {
        self.cells_left = self.cells_left.checked_sub(1)?;
        let (cell, rest) = match &mut self.layout {
            Layout::Lettered => split_cell(self.bytes)?,
            Layout::Copied(texts) => {
                let (is_text, texts_after) = texts.split_first()?;
                *texts = texts_after;
                split_copied(self.bytes, *is_text)?
            }
        };
        self.bytes = rest;
        Some(cell)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let cells_left = usize::from(self.cells_left);
        (cells_left, Some(cells_left))
    }
}

impl ExactSizeIterator for CellIter<'_> {}

impl FusedIterator for CellIter<'_> {}

/// The first cell and what follows it; the one place that knows what a cell looks like.
#[inline]
fn split_cell(bytes: &[u8]) -> Option<(Cell<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    match kind {
        b't' => split_counted(rest).map(|(value, rest)| (Cell::Text(value), rest)),
        b'b' => split_counted(rest).map(|(value, rest)| (Cell::Binary(value), rest)),
        b'n' => Some((Cell::Null, rest)),
        b'u' => Some((Cell::Unchanged, rest)),
        _ => None,
    }
}

/// The same for a cell that has a length alone, which is -1 for NULL.
#[inline]
fn split_copied(bytes: &[u8], is_text: bool) -> Option<(Cell<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = i32::from_be_bytes(*length);
    if length == -1 {
        return Some((Cell::Null, rest));
    }
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((if is_text { Cell::Text(value) } else { Cell::Binary(value) }, rest))
}

/// The bytes behind a length, and what follows them.
#[inline]
fn split_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

/// Why `split_counted` gave nothing.
#[cold]
fn counted_problem(bytes: &[u8]) -> Problem {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return short(4, bytes) };
    let length = i32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(length) => short(length, rest),
        Err(_) => Problem::Negative { length },
    }
}

fn short(need: usize, bytes: &[u8]) -> Problem {
    Problem::Short { need, left: bytes.len() }
}

#[cfg(test)]
mod tests;
