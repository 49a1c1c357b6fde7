//! The messages of pgoutput, as types that cannot be wrong.
//!
//! Owns: one struct a message, in the order of the protocol page.
//! Does not: keep relations, transactions or anything else between two messages.
//! Holds: `'a` is the frame; names and cells borrow from it, and a [`Tuple`] was walked once when it was decoded.
//! Fails: never; a value of these types was decoded whole.

use crate::lsn::Lsn;
use crate::reader::CellIter;

/// Object identifier of a relation or type.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Oid(pub u32);

impl std::fmt::Display for Oid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Transaction identifier, 32 bits as the wire has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u32);

/// Microseconds since 2000-01-01 00:00:00 UTC, Postgres's own epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTimestamp(pub i64);

/// Microseconds between 1970-01-01 and 2000-01-01.
pub const UNIX_TO_PG_EPOCH_MICROS: i64 = 946_684_800_000_000;

impl PgTimestamp {
    /// Microseconds since 1970-01-01 UTC; saturates at the ends of `i64`.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(UNIX_TO_PG_EPOCH_MICROS)
    }
}

/// One decoded pgoutput message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// `B`
    Begin(Begin),
    /// `C`
    Commit(Commit),
    /// `O`
    Origin(Origin<'a>),
    /// `R`
    Relation(Relation<'a>),
    /// `Y`
    Type(Type<'a>),
    /// `I`
    Insert(Insert<'a>),
    /// `U`
    Update(Update<'a>),
    /// `D`
    Delete(Delete<'a>),
    /// `T`
    Truncate(Truncate),
    /// `M`
    Logical(Logical<'a>),
    /// `S`
    StreamStart(StreamStart),
    /// `E`
    StreamStop,
    /// `c`
    StreamCommit(StreamCommit),
    /// `A`
    StreamAbort(StreamAbort),
    /// `b`
    BeginPrepare(Prepared<'a>),
    /// `P`
    Prepare(Prepared<'a>),
    /// `K`
    CommitPrepared(Prepared<'a>),
    /// `r`
    RollbackPrepared(RollbackPrepared<'a>),
    /// `p`
    StreamPrepare(Prepared<'a>),
}

/// Start of a transaction, sent when it has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Position of the commit record: the `commit_lsn` of the transaction.
    pub final_lsn: Lsn,
    /// When it committed.
    pub commit_time: PgTimestamp,
    /// Its transaction id.
    pub xid: Xid,
}

/// End of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Position of the commit record, equal to `Begin::final_lsn`.
    pub commit_lsn: Lsn,
    /// Position after the commit record: where a resume starts.
    pub end_lsn: Lsn,
    /// When it committed.
    pub commit_time: PgTimestamp,
}

/// The transaction was replayed from another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Commit position on that server.
    pub commit_lsn: Lsn,
    /// Name of the replication origin.
    pub name: &'a str,
}

/// What rows of a relation will look like from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// Inside a stream block, the (sub)transaction that saw it so.
    pub xid: Option<Xid>,
    /// The relation.
    pub oid: Oid,
    /// Its schema; empty on the wire for `pg_catalog`, and kept so.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// How old rows are identified.
    pub replica_identity: ReplicaIdentity,
    /// The published columns, in the order of every tuple that follows.
    pub columns: Vec<RelationColumn<'a>>,
}

/// One column of a [`Relation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Part of the replica identity (not: of the primary key; under FULL every column has it).
    pub is_identity: bool,
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub type_oid: Oid,
    /// Its type modifier, -1 for none.
    pub type_modifier: i32,
}

/// `pg_class.relreplident`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaIdentity {
    /// `d`: the primary key, if there is one.
    Default,
    /// `n`
    Nothing,
    /// `f`: the whole row.
    Full,
    /// `i`: a chosen unique index.
    Index,
}

/// Name of a type that is not built in; for a domain its base type's name under the domain's OID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type<'a> {
    /// Inside a stream block, the (sub)transaction.
    pub xid: Option<Xid>,
    /// The type.
    pub oid: Oid,
    /// Its schema; empty for `pg_catalog`.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// A row was inserted.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert<'a> {
    /// Inside a stream block, the (sub)transaction.
    pub xid: Option<Xid>,
    /// The relation.
    pub relation: Oid,
    /// The row.
    pub new: Tuple<'a>,
}

/// A row was updated.
#[derive(Clone, Debug, PartialEq)]
pub struct Update<'a> {
    /// Inside a stream block, the (sub)transaction.
    pub xid: Option<Xid>,
    /// The relation.
    pub relation: Oid,
    /// What was sent of the row before.
    pub old: Option<OldTuple<'a>>,
    /// The row after.
    pub new: Tuple<'a>,
}

/// A row was deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete<'a> {
    /// Inside a stream block, the (sub)transaction.
    pub xid: Option<Xid>,
    /// The relation.
    pub relation: Oid,
    /// What was sent of the row.
    pub old: OldTuple<'a>,
}

/// The row before an update or delete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OldTuple<'a> {
    /// `K`: only the identity columns have values; every other column is sent as null.
    Key(Tuple<'a>),
    /// `O`: the published relation has identity FULL. With a publication via the root this does not prove
    /// that the leaf had it too.
    Full(Tuple<'a>),
}

impl<'a> OldTuple<'a> {
    /// The tuple, whichever kind it is.
    pub fn tuple(&self) -> Tuple<'a> {
        match self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => *tuple,
        }
    }
}

/// Relations were truncated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// Inside a stream block, the (sub)transaction.
    pub xid: Option<Xid>,
    /// `CASCADE` was given.
    pub cascade: bool,
    /// `RESTART IDENTITY` was given.
    pub restart_identity: bool,
    /// The relations.
    pub relations: Vec<Oid>,
}

/// `pg_logical_emit_message`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical<'a> {
    /// Inside a stream block, the (sub)transaction.
    pub xid: Option<Xid>,
    /// It belongs to a transaction; otherwise it comes at once, outside of any.
    pub transactional: bool,
    /// Its position.
    pub lsn: Lsn,
    /// The prefix that names its kind.
    pub prefix: &'a str,
    /// Its content.
    pub content: &'a [u8],
}

/// Changes of an open transaction follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStart {
    /// The top transaction.
    pub xid: Xid,
    /// This is its first block.
    pub first_segment: bool,
}

/// A streamed transaction committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCommit {
    /// The top transaction.
    pub xid: Xid,
    /// As in [`Commit`].
    pub commit_lsn: Lsn,
    /// As in [`Commit`].
    pub end_lsn: Lsn,
    /// As in [`Commit`].
    pub commit_time: PgTimestamp,
}

/// A streamed transaction, or a subtransaction of it, rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAbort {
    /// The top transaction.
    pub xid: Xid,
    /// What rolled back; equal to `xid` if it is the whole.
    pub subxid: Xid,
    /// Position and time, sent only with `streaming = parallel`.
    pub at: Option<(Lsn, PgTimestamp)>,
}

/// A step of a two-phase transaction: begin-prepare, prepare, commit-prepared or stream-prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared<'a> {
    /// Position of the prepare (or commit) record.
    pub lsn: Lsn,
    /// Position after it.
    pub end_lsn: Lsn,
    /// When.
    pub time: PgTimestamp,
    /// The transaction.
    pub xid: Xid,
    /// Its global identifier.
    pub gid: &'a str,
}

/// A prepared transaction rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackPrepared<'a> {
    /// Position after the prepare record.
    pub prepare_end_lsn: Lsn,
    /// Position after the rollback record.
    pub rollback_end_lsn: Lsn,
    /// When it was prepared.
    pub prepare_time: PgTimestamp,
    /// When it rolled back.
    pub rollback_time: PgTimestamp,
    /// The transaction.
    pub xid: Xid,
    /// Its global identifier.
    pub gid: &'a str,
}

/// A row on the wire: a count of cells, and their bytes, walked once at decoding so that iterating cannot fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuple<'a> {
    pub(crate) cell_count: u16,
    pub(crate) bytes: &'a [u8],
    pub(crate) layout: Layout<'a>,
}

/// How cells follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout<'a> {
    /// In the stream a letter before each says what it is.
    Lettered,
    /// In `COPY … (FORMAT binary)` there is a length alone; here is, for each, whether the query made a text of it.
    Copied(&'a [bool]),
}

impl<'a> Tuple<'a> {
    /// How many cells it has.
    pub fn len(&self) -> usize {
        usize::from(self.cell_count)
    }

    /// Whether it has no cell: a table without columns.
    pub fn is_empty(&self) -> bool {
        self.cell_count == 0
    }

    /// Its size on the wire in bytes.
    pub fn wire_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Its cells, in the order of the relation's columns.
    pub fn cells(&self) -> CellIter<'a> {
        CellIter::new(*self)
    }
}

/// One column's content in a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// `n`
    Null,
    /// `u`: a TOASTed value that the change did not touch and the stream does not carry.
    Unchanged,
    /// `t`: the type's output text, in the client encoding; not checked to be UTF-8.
    Text(&'a [u8]),
    /// `b`: the type's send form.
    Binary(&'a [u8]),
}
