//! Why the lake cannot go on.
//!
//! Owns: [`Error`] and its [`Kind`], which is the caller's next action.
//! Does not: retry; transient store errors were retried before one of these is made.
//! Holds: messages name the object and what disagrees; no row value is ever in one.
//! Fails: never.

use pgoutput::Lsn;

use crate::store::StoreError;

/// What the caller has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Try again later.
    Transient,
    /// Tell the user; it does not get better by itself.
    Definite,
    /// Stop all I/O at once: another writer owns the lake.
    Fenced,
    /// A broken invariant of ours.
    Bug,
}

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed for good, or the caller asked not to wait any longer.
    #[error("object store")]
    Store(#[from] StoreError),
    /// I5: the number of our next log entry was taken by somebody else.
    #[error(
        "log entry {seq} was written by another daemon ({owner}, epoch {epoch}); this one has epoch {ours}"
    )]
    Fenced {
        /// The number of the entry.
        seq: u64,
        /// Who wrote it.
        owner: String,
        /// Its epoch.
        epoch: u64,
        /// The epoch of this daemon.
        ours: u64,
    },
    /// A control object is not what this version writes.
    #[error("`{key}` cannot be read: {reason}")]
    Unreadable {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two neighbouring log entries do not fit together.
    #[error("log entry {seq} does not continue the log: {reason}")]
    Chain {
        /// The number of the entry.
        seq: u64,
        /// Which two values disagree.
        reason: String,
    },
    /// A logged file can be published no more: its upload is gone and it is not there.
    #[error("file `{key}` of log entry {seq} is neither published nor uploaded any more")]
    UploadGone {
        /// The entry that names it.
        seq: u64,
        /// The file.
        key: String,
        /// Where the entry begins; the slot has not moved past it.
        from_lsn: Lsn,
    },
    /// The Parquet encoder refused a batch.
    #[error("table {table}: Parquet encoding")]
    Encode {
        /// The table.
        table: String,
        /// The cause.
        #[source]
        source: ::parquet::errors::ParquetError,
    },
    /// A task of the writer ended in a way it never should.
    #[error("{0}")]
    Bug(String),
}

impl Error {
    /// What the caller has to do next.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Store(error) if error.is_transient() => Kind::Transient,
            Error::Store(_) | Error::Unreadable { .. } | Error::Chain { .. } | Error::UploadGone { .. } => {
                Kind::Definite
            }
            Error::Fenced { .. } => Kind::Fenced,
            Error::Encode { .. } | Error::Bug(_) => Kind::Bug,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Store(StoreError::Refused { hint, .. }) => *hint,
            Error::Store(_) | Error::Encode { .. } | Error::Bug(_) => None,
            Error::Fenced { .. } => Some(
                "another daemon took over this lake; only one may run per slot and prefix, so let that one run or stop it first",
            ),
            Error::Unreadable { .. } | Error::Chain { .. } => Some(
                "the log under `_tributary/log/` was damaged or written by another version: `tributary fsck` says where; restore it, or start a new prefix",
            ),
            Error::UploadGone { .. } => Some(
                "nothing is lost: Postgres still holds this range. Run `tributary repair`, which voids the entry so that the range is streamed again, \
                 and let the bucket's lifecycle rule keep unfinished uploads for at least 7 days",
            ),
        }
    }
}
