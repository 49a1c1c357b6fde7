//! Messages out of the bytes of the stream.
//!
//! Owns: the receive buffer, and how it grows and shrinks.
//! Does not: read the socket, or look into a message.
//! Holds: an announced length is only ever believed as far as bytes have arrived; a big message costs its own size and
//! not twice it, and its memory is given back after it.
//! Fails: transient on a length that no server sends.

use std::ops::Range;

use crate::error::{Error, Result};

/// What is read at once, and what an idle buffer holds.
const CHUNK_BYTES: usize = 256 << 10;

/// Below this much room the buffer is compacted or grown.
const ROOM_BYTES_MIN: usize = 32 << 10;

/// A buffer of more than this is given back once it is empty enough.
const KEPT_BYTES_MAX: usize = 4 * CHUNK_BYTES;

/// Postgres builds no message of more than 1 GiB; its envelope comes on top.
const MESSAGE_BYTES_MAX: usize = (1 << 30) + (1 << 16);

/// Tag and length.
const HEADER_BYTES: usize = 5;

/// A receive buffer.
#[derive(Debug)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// Everything before was handed out.
    start: usize,
}

/// A whole message in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) body: Range<usize>,
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames { buffer: Vec::with_capacity(CHUNK_BYTES), start: 0 }
    }

    /// The buffer to append received bytes to, with some room. Ends the life of every frame handed out before.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        let unread = self.unread();
        let pending = self.pending_bytes();
        if self.buffer.capacity() > KEPT_BYTES_MAX && unread.max(pending) <= CHUNK_BYTES {
            let mut smaller = Vec::with_capacity(2 * CHUNK_BYTES);
            smaller.extend_from_slice(self.buffer.get(self.start..).unwrap_or_default());
            self.buffer = smaller;
            self.start = 0;
        } else if self.start > 0 && (unread == 0 || self.spare() < ROOM_BYTES_MIN) {
            self.buffer.copy_within(self.start.., 0);
            self.buffer.truncate(unread);
            self.start = 0;
        }
        if self.spare() < ROOM_BYTES_MIN {
            // As much as the message still needs, but never more than doubling what has really arrived.
            let wanted = pending.saturating_sub(unread).saturating_add(CHUNK_BYTES);
            self.buffer.reserve_exact(wanted.min(unread.max(CHUNK_BYTES)));
        }
        &mut self.buffer
    }

    /// The next whole message, if it is there. Its bytes stay until [`Frames::room`] is called.
    pub(super) fn next(&mut self) -> Result<Option<Frame>> {
        let Some((tag, length)) = self.header()? else { return Ok(None) };
        if self.unread() < length {
            return Ok(None);
        }
        let body = self.start + HEADER_BYTES..self.start + length;
        self.start = body.end;
        Ok(Some(Frame { tag, body }))
    }

    /// Bytes of a frame.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// Bytes received and not handed out yet.
    pub(super) fn unread(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Heap held.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    fn spare(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }

    /// Length of the message that is not whole yet, 0 if it is not known.
    fn pending_bytes(&self) -> usize {
        self.header().ok().flatten().map_or(0, |(_, length)| length)
    }

    /// Tag and length, envelope included, of the message at the start.
    fn header(&self) -> Result<Option<(u8, usize)>> {
        let unread = self.buffer.get(self.start..).unwrap_or_default();
        let Some(([tag, length @ ..], _)) = unread.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let announced = i32::from_be_bytes(*length);
        let length = usize::try_from(announced).unwrap_or(0).saturating_add(1);
        if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(Error::transient(format!("the stream announced a message of {announced} bytes")));
        }
        Ok(Some((*tag, length)))
    }
}

#[cfg(test)]
mod tests;
