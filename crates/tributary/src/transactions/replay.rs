//! A streamed transaction that has committed, on its way to the fold.
//!
//! Owns: reading its messages back, piece by piece.
//! Does not: decode or fold them, or say when to read on: a transaction may be far larger than memory. It does not ask the server
//! which parts rolled back, either.
//! Holds: messages come out in order; those of a subtransaction that rolled back do not (T17).
//! Fails: transient when what is read is not what was written; nothing of the transaction is in a cut then.

use std::sync::Arc;

use lake::gauge::{Gauge, Reservation, Use};
use pgoutput::{Begin, Commit, StreamCommit, Xid};
use rustc_hash::FxHashSet;

use super::Open;
use super::spool::{self, Found, Kept, Spool, SpoolFile};
use crate::error::{Error, Result};

/// The messages of a committed transaction.
#[derive(Debug)]
pub(crate) struct Replay {
    commit: StreamCommit,
    rolled_back: FxHashSet<Xid>,
    /// Subtransactions of which the stream did not say how they ended.
    untold: Vec<Xid>,
    left_out: FxHashSet<Xid>,
    file: Option<SpoolFile>,
    /// Bytes of the file that were read.
    read: u64,
    /// What comes behind the file.
    memory: Vec<u8>,
    buffer: Vec<u8>,
    /// Everything of the buffer before was handed out.
    start: usize,
    reservation: Reservation,
}

impl Replay {
    pub(super) fn new(commit: StreamCommit, open: Open, gauge: &Arc<Gauge>) -> Replay {
        let Open { spool: Spool { file, memory }, rolled_back, parts, last_part: _ } = open;
        let reservation = gauge.reserve(Use::Spool, memory.capacity());
        let untold = parts.difference(&rolled_back).copied().collect();
        let left_out = FxHashSet::default();
        Replay {
            commit,
            rolled_back,
            untold,
            left_out,
            file,
            read: 0,
            memory,
            buffer: Vec::new(),
            start: 0,
            reservation,
        }
    }

    /// The subtransactions that the stream says nothing more of: they committed with the transaction, or else they rolled back and
    /// Postgres did not tell.
    ///
    /// It does not when their changes were on its disk before they were streamed: `ReorderBufferTruncateTXN` takes a subtransaction
    /// for streamed only if it had changes in memory, and `ReorderBufferAbort` tells of streamed ones (14 to 18). That happens to
    /// what was read again behind a restart, and to what was written to disk because it could not be streamed at the time.
    pub(crate) fn untold(&self) -> &[Xid] {
        &self.untold
    }

    /// Leaves out those of [`Replay::untold`] that rolled back; the others count.
    pub(crate) fn settle(&mut self, rolled_back: FxHashSet<Xid>) {
        self.untold = Vec::new();
        self.left_out = rolled_back;
    }

    /// How the transaction would have begun, had it not been streamed.
    pub(crate) fn begin(&self) -> Begin {
        let StreamCommit { xid, commit_lsn, commit_time, .. } = self.commit;
        Begin { final_lsn: commit_lsn, commit_time, xid }
    }

    /// How it would have ended.
    pub(crate) fn commit(&self) -> Commit {
        let StreamCommit { commit_lsn, end_lsn, commit_time, .. } = self.commit;
        Commit { commit_lsn, end_lsn, commit_time }
    }

    /// Reads the next piece; `false` if there is none.
    pub(crate) async fn fill(&mut self) -> Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.capacity() > KEPT_BYTES_MAX {
            // A large message was here.
            self.buffer.shrink_to(PIECE_BYTES);
        }
        let missing = match spool::find(&self.buffer, 0) {
            Some(Found::Part { missing }) => missing,
            Some(Found::Kept(_)) => return Ok(true),
            None => return Err(damaged()),
        };
        if let Some(file) = self.file.take() {
            // A length that a disk made up is no reason to ask for more memory than the file has bytes.
            let (at, mut buffer) = (self.read, std::mem::take(&mut self.buffer));
            let reading = lake::ambient::blocking(move || {
                let read = file.read(at, missing.max(PIECE_BYTES), &mut buffer);
                (file, buffer, read)
            });
            let (file, buffer, read) =
                reading.await.map_err(|error| Error::bug("a spool's reader ended").caused_by(error))?;
            self.buffer = buffer;
            self.reservation.resize(self.memory.capacity() + self.buffer.capacity());
            let read = read.map_err(|error| damaged().caused_by(error))?;
            self.read += u64::try_from(read).unwrap_or_default();
            // Read to its end, it gives its room back.
            self.file = (self.read < file.bytes()).then_some(file);
            return Ok(true);
        }
        if !self.buffer.is_empty() {
            return Err(damaged());
        }
        self.buffer = std::mem::take(&mut self.memory);
        self.reservation.resize(self.buffer.capacity());
        Ok(!self.buffer.is_empty())
    }

    /// The next message that counts in what was read; `None` asks for [`Replay::fill`].
    pub(crate) fn pop(&mut self) -> Result<Option<&[u8]>> {
        loop {
            match spool::find(&self.buffer, self.start) {
                Some(Found::Kept(Kept { xid, message })) => {
                    self.start = message.end;
                    let message = self.buffer.get(message).unwrap_or_default();
                    // What Postgres does not tell of, its output plugin does not know either: it counts on the tables and types that it
                    // announced inside, where it announces them again after a rollback that it tells of.
                    let counts = !self.left_out.contains(&xid)
                        || message.first().is_some_and(|tag| ANNOUNCEMENTS.contains(tag));
                    if counts && !self.rolled_back.contains(&xid) {
                        // Borrowed anew: a borrow that may be returned would last for the whole loop.
                        return Ok(self.buffer.get(self.start - message.len()..self.start));
                    }
                }
                Some(Found::Part { .. }) => return Ok(None),
                None => return Err(damaged()),
            }
        }
    }
}

fn damaged() -> Error {
    Error::transient("a transaction that was kept on disk until its commit cannot be read back as it was written")
        .hint("nothing is lost, it is streamed again; if it happens more than once, the disk of `source.spool_directory` is failing")
}

/// Tags of Relation and Type.
const ANNOUNCEMENTS: [u8; 2] = [b'R', b'Y'];
/// What is read at once.
const PIECE_BYTES: usize = 256 << 10;
/// A buffer of more than this is given back once it is empty enough.
const KEPT_BYTES_MAX: usize = 4 * PIECE_BYTES;
