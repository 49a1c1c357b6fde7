//! Rows out of the chunks of a binary COPY.
//!
//! Owns: the one row that lies across chunks.
//! Does not: read the connection, or know what a cell means.
//! Holds: a row that lies in one chunk is not copied; of one that does not, as much is kept as has arrived.
//! Fails: transient, since a copy that breaks the format is a broken connection; never panics on any bytes.

use pgoutput::Tuple;
use pgoutput::copy::{self, CopyError, Part, Split};

use crate::error::{Error, Result};

/// The rows of one COPY.
#[derive(Debug)]
pub struct Rows {
    /// For every column, whether the query made a text of it.
    texts: Box<[bool]>,
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
        Rows { texts, carried: Vec::new(), expects: Expects::Header, rows: 0 }
    }

    /// Bytes that have arrived and were not handed out yet.
    pub fn pending_bytes(&self) -> usize {
        self.carried.len()
    }

    /// How many rows were handed out.
    pub fn rows(&self) -> u64 {
        self.rows
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

    /// Takes what came next, and hands out every row that is whole now. After an error there is nothing more to be had.
    pub fn take(&mut self, mut chunk: &[u8], mut row: impl FnMut(Tuple<'_>) -> Result<()>) -> Result<()> {
        while !chunk.is_empty() {
            match self.expects {
                Expects::Header => self.read_header(&mut chunk)?,
                Expects::Extension(left) => {
                    let (skipped, rest) = chunk.split_at(left.min(chunk.len()));
                    chunk = rest;
                    self.expects = expects_after(left - skipped.len());
                }
                Expects::Rows if self.carried.is_empty() => self.read_rows(&mut chunk, &mut row)?,
                Expects::Rows => self.read_carried(&mut chunk, &mut row)?,
                Expects::Nothing => return Err(broken(CopyError::Trailing { left: chunk.len() })),
            }
        }
        Ok(())
    }

    fn read_header(&mut self, chunk: &mut &[u8]) -> Result<()> {
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
    fn read_rows(&mut self, chunk: &mut &[u8], row: &mut impl FnMut(Tuple<'_>) -> Result<()>) -> Result<()> {
        while !chunk.is_empty() && self.expects == Expects::Rows {
            let left = match copy::part(chunk, &self.texts).map_err(broken)? {
                Split::Whole { part: Part::Row(tuple), rest } => {
                    self.rows += 1;
                    row(tuple)?;
                    rest.len()
                }
                Split::Whole { part: Part::Trailer, rest } => {
                    self.expects = Expects::Nothing;
                    rest.len()
                }
                Split::Short { .. } => {
                    self.carried.extend_from_slice(chunk);
                    0
                }
            };
            *chunk = chunk.get(chunk.len() - left..).unwrap_or_default();
        }
        Ok(())
    }

    /// The row that began in a chunk before: what is missing is added to it, and nothing of the next.
    fn read_carried(
        &mut self,
        chunk: &mut &[u8],
        row: &mut impl FnMut(Tuple<'_>) -> Result<()>,
    ) -> Result<()> {
        loop {
            match copy::part(&self.carried, &self.texts).map_err(broken)? {
                Split::Short { need } if self.carried.len() < need && !chunk.is_empty() => {
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
    fn carry(&mut self, chunk: &mut &[u8], need: usize) {
        let (moved, rest) = chunk.split_at(need.saturating_sub(self.carried.len()).min(chunk.len()));
        self.carried.extend_from_slice(moved);
        *chunk = rest;
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
