//! Messages in, the bytes that Postgres would send out.
//!
//! Owns: the inverse of `decode`, field by field, and [`TupleBuilder`], which makes rows.
//! Does not: exist in the daemon; the feature `encode` is for tests, the fuzzer and scripted sources.
//! Holds: what it writes decodes to the same message, given the same options and stream state.
//! Fails: panics on a message that no server could send (a name with a zero byte, a missing or surplus xid).

use crate::decode::{
    COLUMN_IDENTITY, LOGICAL_TRANSACTIONAL, STREAM_FIRST_SEGMENT, TRUNCATE_CASCADE, TRUNCATE_RESTART_IDENTITY,
};
use crate::message::*;

/// Appends the frame of `message` to `out`. `in_stream` says whether it stands between stream start and stream
/// stop: then, and only then, must a message that can be there carry an xid.
pub fn encode(message: &Message<'_>, in_stream: bool, out: &mut Vec<u8>) {
    let mut writer = Writer { in_stream, out };
    let w = &mut writer;
    match message {
        Message::Begin(message) => begin(w, message),
        Message::Logical(message) => logical(w, message),
        Message::Commit(message) => commit(w, message),
        Message::Origin(message) => origin(w, message),
        Message::Relation(message) => relation(w, message),
        Message::Type(message) => type_(w, message),
        Message::Insert(message) => insert(w, message),
        Message::Update(message) => update(w, message),
        Message::Delete(message) => delete(w, message),
        Message::Truncate(message) => truncate(w, message),
        Message::StreamStart(message) => stream_start(w, message),
        Message::StreamStop => w.u8(b'E'),
        Message::StreamCommit(message) => stream_commit(w, message),
        Message::StreamAbort(message) => stream_abort(w, message),
        Message::BeginPrepare(message) => {
            w.u8(b'b');
            prepared(w, message);
        }
        Message::Prepare(message) => flagged_prepared(w, b'P', message),
        Message::CommitPrepared(message) => flagged_prepared(w, b'K', message),
        Message::RollbackPrepared(message) => rollback_prepared(w, message),
        Message::StreamPrepare(message) => flagged_prepared(w, b'p', message),
    }
}

/// The bytes of a row, cell by cell; [`TupleBuilder::tuple`] lends it to a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TupleBuilder {
    cell_count: u16,
    bytes: Vec<u8>,
}

impl TupleBuilder {
    /// A row without cells.
    pub fn new() -> TupleBuilder {
        TupleBuilder::default()
    }

    /// A row of these cells.
    pub fn from_cells<'c>(cells: impl IntoIterator<Item = Cell<'c>>) -> TupleBuilder {
        let mut builder = TupleBuilder::new();
        for cell in cells {
            builder.push(cell);
        }
        builder
    }

    /// Appends a null.
    #[must_use]
    pub fn null(mut self) -> TupleBuilder {
        self.push(Cell::Null);
        self
    }

    /// Appends a TOASTed value that the change did not touch.
    #[must_use]
    pub fn unchanged(mut self) -> TupleBuilder {
        self.push(Cell::Unchanged);
        self
    }

    /// Appends a value as text.
    #[must_use]
    pub fn text(mut self, value: impl AsRef<[u8]>) -> TupleBuilder {
        self.push(Cell::Text(value.as_ref()));
        self
    }

    /// Appends a value in its type's send form.
    #[must_use]
    pub fn binary(mut self, value: impl AsRef<[u8]>) -> TupleBuilder {
        self.push(Cell::Binary(value.as_ref()));
        self
    }

    /// Appends any cell.
    pub fn push(&mut self, cell: Cell<'_>) {
        self.cell_count = self.cell_count.checked_add(1).expect("a row has at most 65535 cells");
        let w = &mut Writer { in_stream: false, out: &mut self.bytes };
        match cell {
            Cell::Null => w.u8(b'n'),
            Cell::Unchanged => w.u8(b'u'),
            Cell::Text(value) => {
                w.u8(b't');
                w.counted(value);
            }
            Cell::Binary(value) => {
                w.u8(b'b');
                w.counted(value);
            }
        }
    }

    /// The row, for a message.
    pub fn tuple(&self) -> Tuple<'_> {
        Tuple { cell_count: self.cell_count, bytes: &self.bytes, layout: Layout::Lettered }
    }
}

struct Writer<'o> {
    in_stream: bool,
    out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    fn u8(&mut self, byte: u8) {
        self.out.push(byte);
    }

    fn u16(&mut self, number: u16) {
        self.out.extend(number.to_be_bytes());
    }

    fn i32(&mut self, number: i32) {
        self.out.extend(number.to_be_bytes());
    }

    fn oid(&mut self, oid: Oid) {
        self.out.extend(oid.0.to_be_bytes());
    }

    fn xid(&mut self, xid: Xid) {
        self.out.extend(xid.0.to_be_bytes());
    }

    fn timestamp(&mut self, time: PgTimestamp) {
        self.out.extend(time.0.to_be_bytes());
    }

    fn lsn(&mut self, lsn: crate::Lsn) {
        self.out.extend(lsn.0.to_be_bytes());
    }

    fn name(&mut self, name: &str) {
        assert!(!name.contains('\0'), "a name on the wire ends at its first zero byte");
        self.out.extend(name.as_bytes());
        self.out.push(0);
    }

    fn counted(&mut self, bytes: &[u8]) {
        self.i32(i32::try_from(bytes.len()).expect("a value is below 1 GB"));
        self.out.extend(bytes);
    }

    fn tuple(&mut self, kind: u8, tuple: &Tuple<'_>) {
        self.u8(kind);
        self.u16(tuple.cell_count);
        match tuple.layout {
            Layout::Lettered => self.out.extend(tuple.bytes),
            Layout::Copied(_) => self.out.extend(TupleBuilder::from_cells(tuple.cells()).bytes),
        }
    }

    fn old_tuple(&mut self, old: &OldTuple<'_>) {
        match old {
            OldTuple::Key(tuple) => self.tuple(b'K', tuple),
            OldTuple::Full(tuple) => self.tuple(b'O', tuple),
        }
    }

    fn stream_xid(&mut self, xid: Option<Xid>) {
        assert_eq!(xid.is_some(), self.in_stream, "an xid field is inside stream blocks and nowhere else");
        if let Some(xid) = xid {
            self.xid(xid);
        }
    }
}

fn begin(w: &mut Writer<'_>, message: &Begin) {
    w.u8(b'B');
    w.lsn(message.final_lsn);
    w.timestamp(message.commit_time);
    w.xid(message.xid);
}

fn logical(w: &mut Writer<'_>, message: &Logical<'_>) {
    w.u8(b'M');
    w.stream_xid(message.xid);
    w.u8(if message.transactional { LOGICAL_TRANSACTIONAL } else { 0 });
    w.lsn(message.lsn);
    w.name(message.prefix);
    w.counted(message.content);
}

fn commit(w: &mut Writer<'_>, message: &Commit) {
    w.u8(b'C');
    w.u8(0);
    w.lsn(message.commit_lsn);
    w.lsn(message.end_lsn);
    w.timestamp(message.commit_time);
}

fn origin(w: &mut Writer<'_>, message: &Origin<'_>) {
    w.u8(b'O');
    w.lsn(message.commit_lsn);
    w.name(message.name);
}

fn relation(w: &mut Writer<'_>, message: &Relation<'_>) {
    w.u8(b'R');
    w.stream_xid(message.xid);
    w.oid(message.oid);
    w.name(message.namespace);
    w.name(message.name);
    w.u8(match message.replica_identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Nothing => b'n',
        ReplicaIdentity::Full => b'f',
        ReplicaIdentity::Index => b'i',
    });
    w.u16(u16::try_from(message.columns.len()).expect("a relation has at most 65535 columns"));
    for column in &message.columns {
        w.u8(if column.is_identity { COLUMN_IDENTITY } else { 0 });
        w.name(column.name);
        w.oid(column.type_oid);
        w.i32(column.type_modifier);
    }
}

fn type_(w: &mut Writer<'_>, message: &Type<'_>) {
    w.u8(b'Y');
    w.stream_xid(message.xid);
    w.oid(message.oid);
    w.name(message.namespace);
    w.name(message.name);
}

fn insert(w: &mut Writer<'_>, message: &Insert<'_>) {
    w.u8(b'I');
    w.stream_xid(message.xid);
    w.oid(message.relation);
    w.tuple(b'N', &message.new);
}

fn update(w: &mut Writer<'_>, message: &Update<'_>) {
    w.u8(b'U');
    w.stream_xid(message.xid);
    w.oid(message.relation);
    if let Some(old) = &message.old {
        w.old_tuple(old);
    }
    w.tuple(b'N', &message.new);
}

fn delete(w: &mut Writer<'_>, message: &Delete<'_>) {
    w.u8(b'D');
    w.stream_xid(message.xid);
    w.oid(message.relation);
    w.old_tuple(&message.old);
}

fn truncate(w: &mut Writer<'_>, message: &Truncate) {
    w.u8(b'T');
    w.stream_xid(message.xid);
    w.i32(i32::try_from(message.relations.len()).expect("a truncate names fewer than 2^31 relations"));
    let cascade = if message.cascade { TRUNCATE_CASCADE } else { 0 };
    let restart_identity = if message.restart_identity { TRUNCATE_RESTART_IDENTITY } else { 0 };
    w.u8(cascade | restart_identity);
    for relation in &message.relations {
        w.oid(*relation);
    }
}

fn stream_start(w: &mut Writer<'_>, message: &StreamStart) {
    w.u8(b'S');
    w.xid(message.xid);
    w.u8(if message.first_segment { STREAM_FIRST_SEGMENT } else { 0 });
}

fn stream_commit(w: &mut Writer<'_>, message: &StreamCommit) {
    w.u8(b'c');
    w.xid(message.xid);
    w.u8(0);
    w.lsn(message.commit_lsn);
    w.lsn(message.end_lsn);
    w.timestamp(message.commit_time);
}

fn stream_abort(w: &mut Writer<'_>, message: &StreamAbort) {
    w.u8(b'A');
    w.xid(message.xid);
    w.xid(message.subxid);
    if let Some((lsn, time)) = message.at {
        w.lsn(lsn);
        w.timestamp(time);
    }
}

fn prepared(w: &mut Writer<'_>, message: &Prepared<'_>) {
    w.lsn(message.lsn);
    w.lsn(message.end_lsn);
    w.timestamp(message.time);
    w.xid(message.xid);
    w.name(message.gid);
}

fn flagged_prepared(w: &mut Writer<'_>, tag: u8, message: &Prepared<'_>) {
    w.u8(tag);
    w.u8(0);
    prepared(w, message);
}

fn rollback_prepared(w: &mut Writer<'_>, message: &RollbackPrepared<'_>) {
    w.u8(b'r');
    w.u8(0);
    w.lsn(message.prepare_end_lsn);
    w.lsn(message.rollback_end_lsn);
    w.timestamp(message.prepare_time);
    w.timestamp(message.rollback_time);
    w.xid(message.xid);
    w.name(message.gid);
}

#[cfg(test)]
mod tests;
