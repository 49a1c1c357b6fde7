//! One frame in, one message out.
//!
//! Owns: which message has which fields, one function a tag in the order of the protocol page, and whether a
//! stream block is open.
//! Does not: keep relations or transactions (`tables`), or take the copy-data header off the frame.
//! Holds: a `Message` was read to the frame's last byte; the xid field is read inside stream blocks and nowhere else.
//! Fails: [`DecodeError`] for anything the negotiated protocol does not allow; the state is then as before.
//!
//! The formats: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

use crate::message::*;
use crate::reader::{DecodeError, Problem, Reader};

/// What was asked for with START_REPLICATION; the frames look accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `proto_version`, 1 to 4.
    pub proto_version: u8,
    /// `streaming = parallel`, from version 4: a stream abort says where and when.
    pub streaming_parallel: bool,
}

/// A message of a stream block, apart from the field that says whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streamed<'a> {
    /// The (sub)transaction.
    pub xid: Xid,
    /// The message's tag.
    pub tag: u8,
    /// What follows the xid: behind the tag, the frame that the message has outside of a stream block.
    pub body: &'a [u8],
}

/// Decodes the frames of one replication session, in order.
#[derive(Clone, Debug)]
pub struct Decoder {
    options: Options,
    /// Between stream start and stream stop.
    in_stream: bool,
}

impl Decoder {
    /// A decoder for a session that has just started.
    pub fn new(options: Options) -> Decoder {
        Decoder { options, in_stream: false }
    }

    /// Whether a stream block is open, so that changes carry an xid of their own.
    pub fn in_stream(&self) -> bool {
        self.in_stream
    }

    /// Takes the xid out of a message of a stream block, without reading the rest. `None` for a frame that has none
    /// and is to be decoded: every frame outside of a block, and those that open, close or head one.
    pub fn split<'a>(&self, frame: &'a [u8]) -> Result<Option<Streamed<'a>>, DecodeError> {
        let Some((&tag, body)) = frame.split_first().filter(|_| self.in_stream) else { return Ok(None) };
        if !matches!(tag, b'M' | b'R' | b'Y' | b'I' | b'U' | b'D' | b'T') {
            return Ok(None);
        }
        let xid = Reader::new(tag, body).xid("xid")?;
        Ok(Some(Streamed { xid, tag, body: body.get(XID_BYTES..).unwrap_or_default() }))
    }

    /// Decodes one frame: the payload of a `w` copy-data message.
    pub fn decode<'a>(&mut self, frame: &'a [u8]) -> Result<Message<'a>, DecodeError> {
        let Some((&tag, body)) = frame.split_first() else {
            return Err(DecodeError::new(None, "", Problem::Empty));
        };
        self.admit(tag)?;
        let in_stream = self.in_stream;
        let mut reader = Reader::new(tag, body);
        let r = &mut reader;
        let message = match tag {
            b'B' => Message::Begin(begin(r)?),
            b'M' => Message::Logical(logical(r, in_stream)?),
            b'C' => Message::Commit(commit(r)?),
            b'O' => Message::Origin(origin(r)?),
            b'R' => Message::Relation(relation(r, in_stream)?),
            b'Y' => Message::Type(type_(r, in_stream)?),
            b'I' => Message::Insert(insert(r, in_stream)?),
            b'U' => Message::Update(update(r, in_stream)?),
            b'D' => Message::Delete(delete(r, in_stream)?),
            b'T' => Message::Truncate(truncate(r, in_stream)?),
            b'S' => Message::StreamStart(stream_start(r)?),
            b'E' => Message::StreamStop,
            b'c' => Message::StreamCommit(stream_commit(r)?),
            b'A' => Message::StreamAbort(stream_abort(r, self.options)?),
            b'b' => Message::BeginPrepare(prepared(r)?),
            b'P' => Message::Prepare(prepare(r)?),
            b'K' => Message::CommitPrepared(commit_prepared(r)?),
            b'r' => Message::RollbackPrepared(rollback_prepared(r)?),
            b'p' => Message::StreamPrepare(stream_prepare(r)?),
            _ => return Err(r.fail("", Problem::UnknownTag)),
        };
        reader.finish()?;
        match tag {
            b'S' => self.in_stream = true,
            b'E' => self.in_stream = false,
            _ => {}
        }
        Ok(message)
    }

    /// Whether a message of this tag can come now.
    fn admit(&self, tag: u8) -> Result<(), DecodeError> {
        let (since, belongs_in_stream) = match tag {
            b'M' | b'O' | b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' => return Ok(()),
            b'B' | b'C' => (1, false),
            b'S' | b'c' | b'A' => (2, false),
            b'E' => (2, true),
            b'b' | b'P' | b'K' | b'r' | b'p' => (3, false),
            _ => return Err(DecodeError::new(Some(tag), "", Problem::UnknownTag)),
        };
        let negotiated = self.options.proto_version;
        let problem = if negotiated < since {
            Problem::NotInVersion { since, negotiated }
        } else if self.in_stream && !belongs_in_stream {
            Problem::InsideStream
        } else if !self.in_stream && belongs_in_stream {
            Problem::OutsideStream
        } else {
            return Ok(());
        };
        Err(DecodeError::new(Some(tag), "", problem))
    }
}

/// The xid that precedes every other field inside a stream block, and is absent outside.
fn stream_xid(r: &mut Reader<'_>, in_stream: bool) -> Result<Option<Xid>, DecodeError> {
    if in_stream { r.xid("xid").map(Some) } else { Ok(None) }
}

/// `B`
fn begin(r: &mut Reader<'_>) -> Result<Begin, DecodeError> {
    Ok(Begin {
        final_lsn: r.lsn_set("final_lsn")?,
        commit_time: r.timestamp("commit_time")?,
        xid: r.xid("xid")?,
    })
}

/// `M`
fn logical<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Logical<'a>, DecodeError> {
    Ok(Logical {
        xid: stream_xid(r, in_stream)?,
        transactional: r.flags("flags", LOGICAL_TRANSACTIONAL)? != 0,
        lsn: r.lsn("lsn")?,
        prefix: r.name("prefix")?,
        content: r.counted("content")?,
    })
}

/// `C`
fn commit(r: &mut Reader<'_>) -> Result<Commit, DecodeError> {
    r.flags("flags", 0)?;
    Ok(Commit {
        commit_lsn: r.lsn("commit_lsn")?,
        end_lsn: r.lsn("end_lsn")?,
        commit_time: r.timestamp("commit_time")?,
    })
}

/// `O`
fn origin<'a>(r: &mut Reader<'a>) -> Result<Origin<'a>, DecodeError> {
    Ok(Origin { commit_lsn: r.lsn("commit_lsn")?, name: r.name("name")? })
}

/// `R`
fn relation<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Relation<'a>, DecodeError> {
    Ok(Relation {
        xid: stream_xid(r, in_stream)?,
        oid: r.oid("oid")?,
        namespace: r.name("namespace")?,
        name: r.name("name")?,
        replica_identity: replica_identity(r)?,
        columns: relation_columns(r)?,
    })
}

fn replica_identity(r: &mut Reader<'_>) -> Result<ReplicaIdentity, DecodeError> {
    match r.u8("replica_identity")? {
        b'd' => Ok(ReplicaIdentity::Default),
        b'n' => Ok(ReplicaIdentity::Nothing),
        b'f' => Ok(ReplicaIdentity::Full),
        b'i' => Ok(ReplicaIdentity::Index),
        byte => Err(r.fail("replica_identity", Problem::Unexpected { byte })),
    }
}

fn relation_columns<'a>(r: &mut Reader<'a>) -> Result<Vec<RelationColumn<'a>>, DecodeError> {
    let count = r.u16("columns")?;
    r.fits("columns", usize::from(count), RELATION_COLUMN_BYTES_MIN)?;
    let mut columns = Vec::with_capacity(usize::from(count));
    for index in 0..count {
        r.set_index(Some(index));
        columns.push(RelationColumn {
            is_identity: r.flags("columns.flags", COLUMN_IDENTITY)? != 0,
            name: r.name("columns.name")?,
            type_oid: r.oid("columns.type_oid")?,
            type_modifier: r.i32("columns.type_modifier")?,
        });
    }
    r.set_index(None);
    Ok(columns)
}

/// `Y`
fn type_<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Type<'a>, DecodeError> {
    Ok(Type {
        xid: stream_xid(r, in_stream)?,
        oid: r.oid("oid")?,
        namespace: r.name("namespace")?,
        name: r.name("name")?,
    })
}

/// `I`
fn insert<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Insert<'a>, DecodeError> {
    let xid = stream_xid(r, in_stream)?;
    let relation = r.oid("relation")?;
    match r.u8("new")? {
        b'N' => Ok(Insert { xid, relation, new: r.tuple("new")? }),
        byte => Err(r.fail("new", Problem::Unexpected { byte })),
    }
}

/// `U`
fn update<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Update<'a>, DecodeError> {
    let xid = stream_xid(r, in_stream)?;
    let relation = r.oid("relation")?;
    let mut kind = r.u8("old")?;
    let old = match kind {
        b'K' => Some(OldTuple::Key(r.tuple("old")?)),
        b'O' => Some(OldTuple::Full(r.tuple("old")?)),
        _ => None,
    };
    if old.is_some() {
        kind = r.u8("new")?;
    }
    match kind {
        b'N' => Ok(Update { xid, relation, old, new: r.tuple("new")? }),
        byte => Err(r.fail("new", Problem::Unexpected { byte })),
    }
}

/// `D`
fn delete<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Delete<'a>, DecodeError> {
    let xid = stream_xid(r, in_stream)?;
    let relation = r.oid("relation")?;
    let old = match r.u8("old")? {
        b'K' => OldTuple::Key(r.tuple("old")?),
        b'O' => OldTuple::Full(r.tuple("old")?),
        byte => return Err(r.fail("old", Problem::Unexpected { byte })),
    };
    Ok(Delete { xid, relation, old })
}

/// `T`
fn truncate(r: &mut Reader<'_>, in_stream: bool) -> Result<Truncate, DecodeError> {
    let xid = stream_xid(r, in_stream)?;
    let count = r.count("relations")?;
    let flags = r.flags("flags", TRUNCATE_CASCADE | TRUNCATE_RESTART_IDENTITY)?;
    r.fits("relations", count, OID_BYTES)?;
    let mut relations = Vec::with_capacity(count);
    for _ in 0..count {
        relations.push(r.oid("relations")?);
    }
    Ok(Truncate {
        xid,
        cascade: flags & TRUNCATE_CASCADE != 0,
        restart_identity: flags & TRUNCATE_RESTART_IDENTITY != 0,
        relations,
    })
}

/// `S`
fn stream_start(r: &mut Reader<'_>) -> Result<StreamStart, DecodeError> {
    Ok(StreamStart {
        xid: r.xid("xid")?,
        first_segment: r.flags("first_segment", STREAM_FIRST_SEGMENT)? != 0,
    })
}

/// `c`
fn stream_commit(r: &mut Reader<'_>) -> Result<StreamCommit, DecodeError> {
    let xid = r.xid("xid")?;
    let Commit { commit_lsn, end_lsn, commit_time } = commit(r)?;
    Ok(StreamCommit { xid, commit_lsn, end_lsn, commit_time })
}

/// `A`
fn stream_abort(r: &mut Reader<'_>, options: Options) -> Result<StreamAbort, DecodeError> {
    let xid = r.xid("xid")?;
    let subxid = r.xid("subxid")?;
    let at = if options.streaming_parallel && options.proto_version >= 4 {
        Some((r.lsn("abort_lsn")?, r.timestamp("abort_time")?))
    } else {
        None
    };
    Ok(StreamAbort { xid, subxid, at })
}

/// `b`, and what the other steps have after their flags.
fn prepared<'a>(r: &mut Reader<'a>) -> Result<Prepared<'a>, DecodeError> {
    Ok(Prepared {
        lsn: r.lsn_set("lsn")?,
        end_lsn: r.lsn_set("end_lsn")?,
        time: r.timestamp("time")?,
        xid: r.xid("xid")?,
        gid: r.name("gid")?,
    })
}

/// `P`
fn prepare<'a>(r: &mut Reader<'a>) -> Result<Prepared<'a>, DecodeError> {
    r.flags("flags", 0)?;
    prepared(r)
}

/// `K`
fn commit_prepared<'a>(r: &mut Reader<'a>) -> Result<Prepared<'a>, DecodeError> {
    r.flags("flags", 0)?;
    prepared(r)
}

/// `r`
fn rollback_prepared<'a>(r: &mut Reader<'a>) -> Result<RollbackPrepared<'a>, DecodeError> {
    r.flags("flags", 0)?;
    Ok(RollbackPrepared {
        prepare_end_lsn: r.lsn_set("prepare_end_lsn")?,
        rollback_end_lsn: r.lsn_set("rollback_end_lsn")?,
        prepare_time: r.timestamp("prepare_time")?,
        rollback_time: r.timestamp("rollback_time")?,
        xid: r.xid("xid")?,
        gid: r.name("gid")?,
    })
}

/// `p`
fn stream_prepare<'a>(r: &mut Reader<'a>) -> Result<Prepared<'a>, DecodeError> {
    r.flags("flags", 0)?;
    prepared(r)
}

/// Flag of [`Logical`].
pub(crate) const LOGICAL_TRANSACTIONAL: u8 = 0x01;
/// Flag of [`RelationColumn`].
pub(crate) const COLUMN_IDENTITY: u8 = 0x01;
/// Flag of [`Truncate`].
pub(crate) const TRUNCATE_CASCADE: u8 = 0x01;
/// Flag of [`Truncate`].
pub(crate) const TRUNCATE_RESTART_IDENTITY: u8 = 0x02;
/// Flag of [`StreamStart`].
pub(crate) const STREAM_FIRST_SEGMENT: u8 = 0x01;

/// Flags, an empty name's zero byte, type and modifier.
const RELATION_COLUMN_BYTES_MIN: usize = 1 + 1 + 4 + 4;
const OID_BYTES: usize = 4;
const XID_BYTES: usize = 4;

#[cfg(test)]
mod tests;
