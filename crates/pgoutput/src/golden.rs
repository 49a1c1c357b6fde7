//! Every message as the protocol page has it: bytes written by hand, and what they mean.
//!
//! Owns: one [`Golden`] a message and variant, shared by the tests of `decode` and `encode`.
//! Does not: use the encoder; the bytes are the page's fields in hexadecimal, with letters in quotes.
//! Holds: together the goldens contain every tag, every optional field and every kind of cell.
//! Fails: panics on a hexadecimal text that is none.

use crate::decode::{Decoder, Options};
use crate::lsn::Lsn;
use crate::message::*;

pub(crate) const V1: Options = Options { proto_version: 1, streaming_parallel: false };
pub(crate) const V2: Options = Options { proto_version: 2, streaming_parallel: false };
pub(crate) const V3: Options = Options { proto_version: 3, streaming_parallel: false };
pub(crate) const V4: Options = Options { proto_version: 4, streaming_parallel: false };
pub(crate) const V4_PARALLEL: Options = Options { proto_version: 4, streaming_parallel: true };

pub(crate) struct Golden {
    pub(crate) name: &'static str,
    pub(crate) options: Options,
    pub(crate) in_stream: bool,
    pub(crate) frame: Vec<u8>,
    pub(crate) message: Message<'static>,
}

impl Golden {
    /// A decoder in the state in which this message comes.
    pub(crate) fn decoder(&self) -> Decoder {
        decoder(self.options, self.in_stream)
    }
}

/// A decoder inside or outside of a stream block.
pub(crate) fn decoder(options: Options, in_stream: bool) -> Decoder {
    let mut decoder = Decoder::new(options);
    if in_stream {
        decoder.decode(&wire("'S' 000002de 01")).unwrap();
    }
    decoder
}

/// Bytes from words that are hexadecimal, or text in single quotes.
pub(crate) fn wire(words: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words.split_whitespace() {
        match word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
            Some(text) => bytes.extend(text.as_bytes()),
            None => {
                assert!(word.len() % 2 == 0, "{word}");
                let digits = |at: usize| u8::from_str_radix(&word[at..at + 2], 16).unwrap();
                bytes.extend((0..word.len()).step_by(2).map(digits));
            }
        }
    }
    bytes
}

pub(crate) fn goldens() -> Vec<Golden> {
    let mut goldens = Vec::new();
    for in_stream in [false, true] {
        changes(in_stream, &mut goldens);
    }
    transactions(&mut goldens);
    streams(&mut goldens);
    two_phase(&mut goldens);
    goldens
}

/// The row `('1', null, unchanged, \x00ff)`.
pub(crate) const ROW: Tuple<'static> =
    Tuple { cell_count: 4, bytes: b"t\0\0\0\x011nub\0\0\0\x02\x00\xff", layout: Layout::Lettered };
/// The row `('1', null, null, null)`, as a key tuple has it.
pub(crate) const KEY: Tuple<'static> =
    Tuple { cell_count: 4, bytes: b"t\0\0\0\x011nnn", layout: Layout::Lettered };

const ROW_WIRE: &str = "0004 't' 00000001 '1' 'n' 'u' 'b' 00000002 00ff";
const KEY_WIRE: &str = "0004 't' 00000001 '1' 'n' 'n' 'n'";
const TIME: PgTimestamp = PgTimestamp(0x0002_a1b2_c3d4_e5f6);

/// What can be inside a stream block and outside.
fn changes(in_stream: bool, goldens: &mut Vec<Golden>) {
    let xid = in_stream.then_some(Xid(735));
    let options = if in_stream { V2 } else { V1 };
    let mut add = |name, frame: &str, message| {
        // The tag, then inside a stream block the xid.
        let (tag, rest) = frame.split_once(' ').unwrap();
        let frame = wire(&format!("{tag} {} {rest}", if in_stream { "000002df" } else { "" }));
        goldens.push(Golden { name, options, in_stream, frame, message });
    };

    add(
        "logical",
        "'M' 01 00000016b374d848 'prefix' 00 00000003 'a' 00 ff",
        Message::Logical(Logical {
            xid,
            transactional: true,
            lsn: Lsn(0x16_b374_d848),
            prefix: "prefix",
            content: b"a\0\xff",
        }),
    );
    add(
        "relation",
        "'R' 00004012 'public' 00 'orders' 00 'd' 0003
         01 'id' 00 00000014 ffffffff
         00 'note' 00 00000019 ffffffff
         00 'price' 00 000006a4 000a0006",
        Message::Relation(Relation {
            xid,
            oid: Oid(16402),
            namespace: "public",
            name: "orders",
            replica_identity: ReplicaIdentity::Default,
            columns: vec![
                RelationColumn { is_identity: true, name: "id", type_oid: Oid(20), type_modifier: -1 },
                RelationColumn { is_identity: false, name: "note", type_oid: Oid(25), type_modifier: -1 },
                RelationColumn {
                    is_identity: false,
                    name: "price",
                    type_oid: Oid(1700),
                    type_modifier: 655_366,
                },
            ],
        }),
    );
    for (letter, replica_identity) in
        [('n', ReplicaIdentity::Nothing), ('f', ReplicaIdentity::Full), ('i', ReplicaIdentity::Index)]
    {
        add(
            "relation without columns, in pg_catalog",
            &format!("'R' 00004012 00 'empty' 00 '{letter}' 0000"),
            Message::Relation(Relation {
                xid,
                oid: Oid(16402),
                namespace: "",
                name: "empty",
                replica_identity,
                columns: vec![],
            }),
        );
    }
    add(
        "type",
        "'Y' 00004020 'public' 00 'mood' 00",
        Message::Type(Type { xid, oid: Oid(16416), namespace: "public", name: "mood" }),
    );
    let relation = Oid(16402);
    let mut add_row = |name, frame: &str, message| {
        add(name, &frame.replace("ROW", ROW_WIRE).replace("KEY", KEY_WIRE), message);
    };
    add_row("insert", "'I' 00004012 'N' ROW", Message::Insert(Insert { xid, relation, new: ROW }));
    add_row(
        "insert of no cells",
        "'I' 00004012 'N' 0000",
        Message::Insert(Insert {
            xid,
            relation,
            new: Tuple { cell_count: 0, bytes: b"", layout: Layout::Lettered },
        }),
    );
    for (name, frame, old) in [
        ("update", "'U' 00004012 'N' ROW", None),
        ("update with key", "'U' 00004012 'K' KEY 'N' ROW", Some(OldTuple::Key(KEY))),
        ("update with row", "'U' 00004012 'O' ROW 'N' ROW", Some(OldTuple::Full(ROW))),
    ] {
        add_row(name, frame, Message::Update(Update { xid, relation, old, new: ROW }));
    }
    for (name, frame, old) in [
        ("delete with key", "'D' 00004012 'K' KEY", OldTuple::Key(KEY)),
        ("delete with row", "'D' 00004012 'O' ROW", OldTuple::Full(ROW)),
    ] {
        add_row(name, frame, Message::Delete(Delete { xid, relation, old }));
    }
    for (flags, cascade, restart_identity) in
        [("00", false, false), ("01", true, false), ("02", false, true), ("03", true, true)]
    {
        add(
            "truncate",
            &format!("'T' 00000002 {flags} 00004012 00004013"),
            Message::Truncate(Truncate {
                xid,
                cascade,
                restart_identity,
                relations: vec![Oid(16402), Oid(16403)],
            }),
        );
    }
}

fn transactions(goldens: &mut Vec<Golden>) {
    let mut add = |name, options, in_stream, frame: &str, message| {
        goldens.push(Golden { name, options, in_stream, frame: wire(frame), message });
    };
    add(
        "begin",
        V1,
        false,
        "'B' 00000016b374d848 0002a1b2c3d4e5f6 000002de",
        Message::Begin(Begin { final_lsn: Lsn(0x16_b374_d848), commit_time: TIME, xid: Xid(734) }),
    );
    add(
        "commit",
        V1,
        false,
        "'C' 00 00000016b374d848 00000016b374d878 0002a1b2c3d4e5f6",
        Message::Commit(Commit {
            commit_lsn: Lsn(0x16_b374_d848),
            end_lsn: Lsn(0x16_b374_d878),
            commit_time: TIME,
        }),
    );
    for (options, in_stream) in [(V1, false), (V2, true)] {
        add(
            "origin",
            options,
            in_stream,
            "'O' 0000000000000000 'pg_16389' 00",
            Message::Origin(Origin { commit_lsn: Lsn::ZERO, name: "pg_16389" }),
        );
    }
    add(
        "logical outside of any transaction",
        V1,
        false,
        "'M' 00 00000016b374d848 00 00000000",
        Message::Logical(Logical {
            xid: None,
            transactional: false,
            lsn: Lsn(0x16_b374_d848),
            prefix: "",
            content: b"",
        }),
    );
}

fn streams(goldens: &mut Vec<Golden>) {
    let mut add = |name, options, in_stream, frame: &str, message| {
        goldens.push(Golden { name, options, in_stream, frame: wire(frame), message });
    };
    for (flag, first_segment) in [("01", true), ("00", false)] {
        add(
            "stream start",
            V2,
            false,
            &format!("'S' 000002de {flag}"),
            Message::StreamStart(StreamStart { xid: Xid(734), first_segment }),
        );
    }
    add("stream stop", V2, true, "'E'", Message::StreamStop);
    add(
        "stream commit",
        V2,
        false,
        "'c' 000002de 00 00000016b374d848 00000016b374d878 0002a1b2c3d4e5f6",
        Message::StreamCommit(StreamCommit {
            xid: Xid(734),
            commit_lsn: Lsn(0x16_b374_d848),
            end_lsn: Lsn(0x16_b374_d878),
            commit_time: TIME,
        }),
    );
    for options in [V2, V3, V4] {
        add(
            "stream abort",
            options,
            false,
            "'A' 000002de 000002df",
            Message::StreamAbort(StreamAbort { xid: Xid(734), subxid: Xid(735), at: None }),
        );
    }
    add(
        "stream abort of a parallel stream",
        V4_PARALLEL,
        false,
        "'A' 000002de 000002df 00000016b374d848 0002a1b2c3d4e5f6",
        Message::StreamAbort(StreamAbort {
            xid: Xid(734),
            subxid: Xid(735),
            at: Some((Lsn(0x16_b374_d848), TIME)),
        }),
    );
}

fn two_phase(goldens: &mut Vec<Golden>) {
    let mut add = |name, frame: &str, message| {
        goldens.push(Golden { name, options: V3, in_stream: false, frame: wire(frame), message });
    };
    let prepared = Prepared {
        lsn: Lsn(0x16_b374_d848),
        end_lsn: Lsn(0x16_b374_d878),
        time: TIME,
        xid: Xid(734),
        gid: "gid",
    };
    let frame = "00000016b374d848 00000016b374d878 0002a1b2c3d4e5f6 000002de 'gid' 00";
    add("begin prepare", &format!("'b' {frame}"), Message::BeginPrepare(prepared.clone()));
    add("prepare", &format!("'P' 00 {frame}"), Message::Prepare(prepared.clone()));
    add("commit prepared", &format!("'K' 00 {frame}"), Message::CommitPrepared(prepared.clone()));
    add(
        "rollback prepared",
        "'r' 00 00000016b374d848 00000016b374d878 0002a1b2c3d4e5f6 0002a1b2c3d4e5f7 000002de 'gid' 00",
        Message::RollbackPrepared(RollbackPrepared {
            prepare_end_lsn: Lsn(0x16_b374_d848),
            rollback_end_lsn: Lsn(0x16_b374_d878),
            prepare_time: TIME,
            rollback_time: PgTimestamp(TIME.0 + 1),
            xid: Xid(734),
            gid: "gid",
        }),
    );
    add("stream prepare", &format!("'p' 00 {frame}"), Message::StreamPrepare(prepared));
}
