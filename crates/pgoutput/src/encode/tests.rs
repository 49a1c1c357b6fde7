use proptest::prelude::*;

use super::*;
use crate::decode::Options;
use crate::golden::{KEY, ROW, decoder, goldens};
use crate::lsn::Lsn;

fn encoded(message: &Message<'_>, in_stream: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    encode(message, in_stream, &mut frame);
    frame
}

#[test]
fn writes_the_bytes_of_the_protocol_page() {
    for golden in goldens() {
        assert_eq!(encoded(&golden.message, golden.in_stream), golden.frame, "{}", golden.name);
    }
}

#[test]
fn appends_to_what_is_there() {
    let mut out = b"before".to_vec();
    encode(&Message::StreamStop, true, &mut out);
    assert_eq!(out, b"beforeE");
}

#[test]
fn a_row_is_built_cell_by_cell() {
    let row = TupleBuilder::new().text("1").null().unchanged().binary([0x00, 0xff]);
    assert_eq!(row.tuple(), ROW);
    assert_eq!(TupleBuilder::from_cells(ROW.cells()), row);
    assert_eq!(TupleBuilder::new().text(b"1").null().null().null().tuple(), KEY);
    assert!(TupleBuilder::new().tuple().is_empty());
}

#[test]
#[should_panic = "an xid field is inside stream blocks and nowhere else"]
fn an_xid_outside_of_a_stream_block_is_a_mistake() {
    encoded(&Message::Insert(Insert { xid: Some(Xid(7)), relation: Oid(1), new: ROW }), false);
}

#[test]
#[should_panic = "an xid field is inside stream blocks and nowhere else"]
fn a_missing_xid_inside_a_stream_block_is_a_mistake() {
    encoded(&Message::Insert(Insert { xid: None, relation: Oid(1), new: ROW }), true);
}

#[test]
#[should_panic = "a name on the wire ends at its first zero byte"]
fn a_zero_byte_in_a_name_is_a_mistake() {
    encoded(&Message::Origin(Origin { commit_lsn: Lsn(1), name: "a\0b" }), false);
}

/// What messages are made of.
#[derive(Debug)]
struct Parts {
    names: (String, String),
    content: Vec<u8>,
    columns: Vec<(bool, String, u32, i32)>,
    relations: Vec<u32>,
    new: TupleBuilder,
    old: TupleBuilder,
    identity: ReplicaIdentity,
    flags: (bool, bool),
    lsns: (u64, u64),
    times: (i64, i64),
    oid: u32,
    xids: (u32, u32),
}

fn parts() -> impl Strategy<Value = Parts> {
    let name = || "[^\\x00]{0,12}";
    let identity = prop::sample::select(vec![
        ReplicaIdentity::Default,
        ReplicaIdentity::Nothing,
        ReplicaIdentity::Full,
        ReplicaIdentity::Index,
    ]);
    let columns = prop::collection::vec((any::<bool>(), name(), any::<u32>(), any::<i32>()), 0..8);
    let relations = prop::collection::vec(any::<u32>(), 0..8);
    let content = prop::collection::vec(any::<u8>(), 0..40);
    (
        ((name(), name()), content, columns, relations),
        (row(), row(), identity, any::<(bool, bool)>()),
        ((1_u64.., 1_u64..), any::<(i64, i64)>(), any::<u32>(), any::<(u32, u32)>()),
    )
        .prop_map(|(lists, rows, numbers)| {
            let (names, content, columns, relations) = lists;
            let (new, old, identity, flags) = rows;
            let (lsns, times, oid, xids) = numbers;
            Parts { names, content, columns, relations, new, old, identity, flags, lsns, times, oid, xids }
        })
}

fn row() -> impl Strategy<Value = TupleBuilder> {
    let value = prop::collection::vec(any::<u8>(), 0..20);
    prop::collection::vec((0..4_u8, value), 0..20).prop_map(|cells| {
        TupleBuilder::from_cells(cells.iter().map(|(kind, value)| match kind {
            0 => Cell::Null,
            1 => Cell::Unchanged,
            2 => Cell::Text(value),
            _ => Cell::Binary(value),
        }))
    })
}

/// What can be inside a stream block and outside.
fn changes(parts: &Parts, in_stream: bool) -> Vec<Message<'_>> {
    let xid = in_stream.then_some(Xid(parts.xids.0));
    let (namespace, name) = (parts.names.0.as_str(), parts.names.1.as_str());
    let (oid, relation) = (Oid(parts.oid), Oid(parts.oid));
    let (new, old) = (parts.new.tuple(), parts.old.tuple());
    let columns = parts.columns.iter().map(|(is_identity, name, oid, type_modifier)| RelationColumn {
        is_identity: *is_identity,
        name,
        type_oid: Oid(*oid),
        type_modifier: *type_modifier,
    });
    vec![
        Message::Logical(Logical {
            xid,
            transactional: parts.flags.0,
            lsn: Lsn(parts.lsns.0),
            prefix: name,
            content: &parts.content,
        }),
        Message::Origin(Origin { commit_lsn: Lsn(parts.lsns.0), name }),
        Message::Relation(Relation {
            xid,
            oid,
            namespace,
            name,
            replica_identity: parts.identity,
            columns: columns.collect(),
        }),
        Message::Type(Type { xid, oid, namespace, name }),
        Message::Insert(Insert { xid, relation, new }),
        Message::Update(Update { xid, relation, old: None, new }),
        Message::Update(Update { xid, relation, old: Some(OldTuple::Key(old)), new }),
        Message::Update(Update { xid, relation, old: Some(OldTuple::Full(old)), new }),
        Message::Delete(Delete { xid, relation, old: OldTuple::Key(old) }),
        Message::Delete(Delete { xid, relation, old: OldTuple::Full(old) }),
        Message::Truncate(Truncate {
            xid,
            cascade: parts.flags.0,
            restart_identity: parts.flags.1,
            relations: parts.relations.iter().map(|oid| Oid(*oid)).collect(),
        }),
    ]
}

/// What can only be outside of stream blocks.
fn transactions(parts: &Parts, streaming_parallel: bool) -> Vec<Message<'_>> {
    let (lsn, end_lsn) = (Lsn(parts.lsns.0), Lsn(parts.lsns.1));
    let (time, later) = (PgTimestamp(parts.times.0), PgTimestamp(parts.times.1));
    let (xid, subxid) = (Xid(parts.xids.0), Xid(parts.xids.1));
    let gid = parts.names.0.as_str();
    let prepared = Prepared { lsn, end_lsn, time, xid, gid };
    vec![
        Message::Begin(Begin { final_lsn: lsn, commit_time: time, xid }),
        Message::Commit(Commit { commit_lsn: lsn, end_lsn, commit_time: time }),
        Message::StreamCommit(StreamCommit { xid, commit_lsn: lsn, end_lsn, commit_time: time }),
        Message::StreamAbort(StreamAbort { xid, subxid, at: streaming_parallel.then_some((lsn, time)) }),
        Message::BeginPrepare(prepared.clone()),
        Message::Prepare(prepared.clone()),
        Message::CommitPrepared(prepared.clone()),
        Message::RollbackPrepared(RollbackPrepared {
            prepare_end_lsn: lsn,
            rollback_end_lsn: end_lsn,
            prepare_time: time,
            rollback_time: later,
            xid,
            gid,
        }),
        Message::StreamPrepare(prepared),
        Message::StreamStart(StreamStart { xid, first_segment: parts.flags.0 }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_decodes_to_the_same(parts in parts(), streaming_parallel: bool) {
        let options = Options { proto_version: 4, streaming_parallel };
        let outside = [changes(&parts, false), transactions(&parts, streaming_parallel)].concat();
        let inside = [changes(&parts, true), vec![Message::StreamStop]].concat();
        for (messages, in_stream) in [(outside, false), (inside, true)] {
            // One decoder for all: the stream start and stop are the last of their list.
            let mut decoder = decoder(options, in_stream);
            for message in messages {
                let frame = encoded(&message, in_stream);
                prop_assert_eq!(decoder.decode(&frame), Ok(message));
            }
        }
    }

    /// T15: the xid is all that a stream block adds.
    #[test]
    fn without_its_xid_a_message_of_a_stream_block_is_like_any_other(parts in parts()) {
        let options = Options { proto_version: 2, streaming_parallel: false };
        for (inside, outside) in changes(&parts, true).iter().zip(&changes(&parts, false)) {
            let (frame, expected) = (encoded(inside, true), encoded(outside, false));
            let split = decoder(options, true).split(&frame).expect("it is whole");
            let joined = split.map(|split| (split.xid, [&[split.tag], split.body].concat()));
            let expected = (!matches!(inside, Message::Origin(_))).then_some((Xid(parts.xids.0), expected));
            prop_assert_eq!(joined, expected);
            prop_assert_eq!(decoder(options, false).split(&frame), Ok(None));
        }
        for length in 1..5 {
            prop_assert!(decoder(options, true).split(b"I1234".get(..length).unwrap_or_default()).is_err());
        }
    }

    #[test]
    fn cells_survive_a_row(row in row()) {
        prop_assert_eq!(TupleBuilder::from_cells(row.tuple().cells()), row);
    }
}
