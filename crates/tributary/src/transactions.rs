//! Transactions that Postgres streams before they have committed.
//!
//! Owns: the messages of every open one, and which of its subtransactions rolled back.
//! Does not: read a message beyond whose it is, or know tables: a transaction is folded once it has committed.
//! Holds: a transaction comes out whole, in order and without what was rolled back (T17), in the frames that it would have
//! come in had it not been streamed. What is in memory is bounded and counted in the shared budget (I8). The stream does not tell
//! of every part that rolled back (see [`Replay::untold`]).
//! Fails: [`StreamError`] when the stream contradicts itself; transient when the spool has no room. Nothing is lost then: Postgres
//! sends an open transaction from its start again.

use std::sync::Arc;

use lake::gauge::{Gauge, Reservation, Use};
use lake::kill_points::kill_point;
use pgoutput::{StreamAbort, StreamCommit, StreamStart, Streamed, Xid};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::error::Result;

mod replay;
mod spool;

pub(crate) use replay::Replay;
pub use spool::Room;
use spool::Spool;

/// The open streamed transactions of one replication session. Blocks of several take turns (T16).
#[derive(Debug)]
pub(crate) struct Transactions {
    open: FxHashMap<Xid, Open>,
    /// Whose block is open.
    block: Option<Xid>,
    room: Room,
    gauge: Arc<Gauge>,
    /// How much all spools together keep in memory between two reads.
    memory_max: usize,
    reservation: Reservation,
    out_of_room: bool,
}

/// A transaction that has neither committed nor rolled back.
#[derive(Debug, Default)]
struct Open {
    spool: Spool,
    /// Subtransactions that were streamed and rolled back. Postgres keeps far more for each until the transaction ends.
    rolled_back: FxHashSet<Xid>,
    /// Subtransactions that messages are of.
    parts: FxHashSet<Xid>,
    last_part: Option<Xid>,
}

/// The stream contradicts itself; going on could lose rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamError {
    /// Its first block was never here.
    #[error("transaction {} is streamed on or committed, and its beginning never came", xid.0)]
    NoBeginning {
        /// The top transaction.
        xid: Xid,
    },
    /// Two first blocks.
    #[error("transaction {} begins a second time", xid.0)]
    BeginsAgain {
        /// The top transaction.
        xid: Xid,
    },
    /// A change that belongs to no block.
    #[error("a change of transaction {} outside of a stream block", xid.0)]
    OutsideBlock {
        /// The (sub)transaction.
        xid: Xid,
    },
}

impl Transactions {
    /// None is open.
    pub(crate) fn new(gauge: &Arc<Gauge>, room: Room) -> Transactions {
        Transactions {
            open: FxHashMap::default(),
            block: None,
            room,
            gauge: Arc::clone(gauge),
            memory_max: gauge.budget() / MEMORY_SHARE,
            reservation: gauge.reserve(Use::Spool, 0),
            out_of_room: false,
        }
    }

    /// A block opens.
    pub(crate) fn start(&mut self, start: &StreamStart) -> Result<(), StreamError> {
        let StreamStart { xid, first_segment } = *start;
        match (first_segment, self.open.contains_key(&xid)) {
            (true, true) => return Err(StreamError::BeginsAgain { xid }),
            (false, false) => return Err(StreamError::NoBeginning { xid }),
            (true, false) => drop(self.open.insert(xid, Open::default())),
            (false, true) => {}
        }
        self.block = Some(xid);
        Ok(())
    }

    /// Keeps a message of the open block.
    pub(crate) fn push(&mut self, message: &Streamed<'_>) -> Result<(), StreamError> {
        let open = self.block.and_then(|xid| Some((xid, self.open.get_mut(&xid)?)));
        let Some((top, open)) = open else { return Err(StreamError::OutsideBlock { xid: message.xid }) };
        if message.xid != top && open.last_part != Some(message.xid) {
            open.last_part = Some(message.xid);
            open.parts.insert(message.xid);
        }
        open.spool.push(message);
        Ok(())
    }

    /// The block closes.
    pub(crate) fn stop(&mut self) {
        self.block = None;
    }

    /// A transaction rolled back, or a part of one.
    pub(crate) fn abort(&mut self, abort: &StreamAbort) {
        if abort.subxid == abort.xid {
            self.open.remove(&abort.xid);
        } else if let Some(open) = self.open.get_mut(&abort.xid) {
            open.rolled_back.insert(abort.subxid);
        }
    }

    /// A transaction committed: what is to be folded now.
    pub(crate) fn commit(&mut self, commit: &StreamCommit) -> Result<Replay, StreamError> {
        let open = self.open.remove(&commit.xid).ok_or(StreamError::NoBeginning { xid: commit.xid })?;
        Ok(Replay::new(*commit, open, &self.gauge))
    }

    /// Moves messages from memory to disk until little enough is left. Called once for every read, not for every message.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        while self.memory_bytes() > self.memory_max {
            let largest = self.open.values_mut().max_by_key(|open| open.spool.memory_bytes());
            let Some(largest) = largest.filter(|open| open.spool.memory_bytes() > 0) else { break };
            if let Err(error) = largest.spool.spill(&self.room).await {
                self.out_of_room = true;
                return Err(error);
            }
            kill_point("transaction-spooled");
        }
        self.reservation.resize(self.memory_bytes());
        Ok(())
    }

    /// Whether messages could not be kept, so that the next stream had better hold transactions back until they commit.
    pub(crate) fn is_out_of_room(&self) -> bool {
        self.out_of_room
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    /// Bytes of messages in memory and on disk, those of a running replay included.
    pub(crate) fn spooled_bytes(&self) -> u64 {
        u64::try_from(self.memory_bytes()).unwrap_or(u64::MAX).saturating_add(self.room.taken())
    }

    fn memory_bytes(&self) -> usize {
        self.open.values().map(Open::memory_bytes).sum()
    }
}

impl Open {
    fn memory_bytes(&self) -> usize {
        self.spool.memory_bytes() + (self.rolled_back.capacity() + self.parts.capacity()) * XID_BYTES
    }
}

/// A 32nd of the memory budget is enough for writes of a good size, and for the many transactions that stay small.
const MEMORY_SHARE: usize = 32;
/// An entry of a hash set.
const XID_BYTES: usize = 5;

#[cfg(test)]
mod tests;
