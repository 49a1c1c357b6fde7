//! Rows out of the chunks of a binary COPY.
//!
//! Owns: the chunks that have arrived, and the one row that lies across them.
//! Does not: read the connection, or know what a cell means.
//! Holds: a row that lies in one chunk is not copied; of one that does not, as much is kept as has arrived.
//! Fails: transient, since a copy that breaks the format is a broken connection; never panics on any bytes.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use pgoutput::Tuple;
use pgoutput::copy::{self, CopyError, Part, Split};

use crate::error::{Error, Result};

/// The rows of one COPY.
#[derive(Debug)]
pub struct Rows {
    /// For every column, whether the query made a text of it.
    texts: Box<[bool]>,
    chunks: VecDeque<Bytes>,
    chunk_bytes: usize,
    /// A part that began in a chunk before; it ends in none of those that have been looked at.
    carried: Vec<u8>,
    expects: Expects,
    rows: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Header,
    /// The rest of the header's extension.
    Extension(usize),
    Rows,
    Nothing,
}

impl Rows {
    /// Of a query whose columns these are: true for one that the query made a text of.
    pub fn new(texts: Box<[bool]>) -> Rows {
        Rows {
            texts,
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            carried: Vec::new(),
            expects: Expects::Header,
            rows: 0,
        }
    }

    /// Adds what came next.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunk_bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Bytes that have arrived and were not handed out yet.
    pub fn pending_bytes(&self) -> usize {
        self.chunk_bytes + self.carried.len()
    }

    /// How many rows were handed out.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Hands out every row that is whole. After an error there is nothing more to be had.
    pub fn drain(&mut self, mut row: impl FnMut(Tuple<'_>) -> Result<()>) -> Result<()> {
        while let Some(mut chunk) = self.chunks.pop_front() {
            self.chunk_bytes -= chunk.len();
            self.drain_chunk(&mut chunk, &mut row)?;
        }
        Ok(())
    }

    /// Nothing follows: the trailer must have come.
    pub fn finish(&self) -> Result<()> {
        match self.expects {
            Expects::Nothing => Ok(()),
            Expects::Header | Expects::Extension(_) | Expects::Rows => {
                Err(broken(CopyError::Truncated { rows: self.rows, left: self.pending_bytes() }))
            }
        }
    }

    fn drain_chunk(
        &mut self,
        chunk: &mut Bytes,
        row: &mut impl FnMut(Tuple<'_>) -> Result<()>,
    ) -> Result<()> {
        while chunk.has_remaining() {
            match self.expects {
                Expects::Header => self.read_header(chunk)?,
                Expects::Extension(left) => {
                    let skipped = left.min(chunk.len());
                    chunk.advance(skipped);
                    self.expects = expects_after(left - skipped);
                }
                Expects::Rows if self.carried.is_empty() => self.read_rows(chunk, row)?,
                Expects::Rows => self.read_carried(chunk, row)?,
                Expects::Nothing => return Err(broken(CopyError::Trailing { left: chunk.len() })),
            }
        }
        Ok(())
    }

    fn read_header(&mut self, chunk: &mut Bytes) -> Result<()> {
        // Twenty bytes, once: it may as well lie across chunks as not.
        match copy::header(&self.carried).map_err(broken)? {
            Split::Short { need } => self.carry(chunk, need),
            Split::Whole { .. } => {}
        }
        match copy::header(&self.carried).map_err(broken)? {
            Split::Short { .. } => {}
            Split::Whole { part, .. } => {
                self.carried.clear();
                self.expects = expects_after(part);
            }
        }
        Ok(())
    }

    /// Rows that begin in this chunk.
    fn read_rows(&mut self, chunk: &mut Bytes, row: &mut impl FnMut(Tuple<'_>) -> Result<()>) -> Result<()> {
        let mut bytes: &[u8] = chunk;
        while !bytes.is_empty() {
            match copy::part(bytes, &self.texts).map_err(broken)? {
                Split::Whole { part: Part::Row(tuple), rest } => {
                    bytes = rest;
                    self.rows += 1;
                    row(tuple)?;
                }
                Split::Whole { part: Part::Trailer, rest } => {
                    bytes = rest;
                    self.expects = Expects::Nothing;
                    break;
                }
                Split::Short { .. } => {
                    self.carried.extend_from_slice(bytes);
                    bytes = &[];
                }
            }
        }
        let left = bytes.len();
        chunk.advance(chunk.len() - left);
        Ok(())
    }

    /// The row that began in a chunk before: what is missing is added to it, and nothing of the next.
    fn read_carried(
        &mut self,
        chunk: &mut Bytes,
        row: &mut impl FnMut(Tuple<'_>) -> Result<()>,
    ) -> Result<()> {
        loop {
            match copy::part(&self.carried, &self.texts).map_err(broken)? {
                Split::Short { need } if self.carried.len() < need && chunk.has_remaining() => {
                    self.carry(chunk, need);
                }
                Split::Short { .. } => return Ok(()),
                Split::Whole { part, .. } => {
                    match part {
                        Part::Row(tuple) => {
                            self.rows += 1;
                            row(tuple)?;
                        }
                        Part::Trailer => self.expects = Expects::Nothing,
                    }
                    // The memory of a large one is given back.
                    self.carried = Vec::new();
                    return Ok(());
                }
            }
        }
    }

    /// Moves bytes from the chunk, until `need` of them are carried or the chunk is used up.
    fn carry(&mut self, chunk: &mut Bytes, need: usize) {
        let moved = chunk.split_to(need.saturating_sub(self.carried.len()).min(chunk.len()));
        self.carried.extend_from_slice(&moved);
    }
}

fn expects_after(extension: usize) -> Expects {
    if extension == 0 { Expects::Rows } else { Expects::Extension(extension) }
}

fn broken(error: CopyError) -> Error {
    Error::transient("rows of the source").caused_by(error)
}

#[cfg(test)]
mod tests;
