use proptest::prelude::*;

use super::*;
use crate::encode::encode;
use crate::golden::{KEY, ROW, V1, V2, V3, V4, V4_PARALLEL, decoder, goldens, wire};
use crate::lsn::Lsn;

fn decoded_cells<'a>(decoder: &mut Decoder, frame: &'a [u8]) -> Vec<Cell<'a>> {
    match decoder.decode(frame).unwrap() {
        Message::Insert(insert) => insert.new.cells().collect(),
        other => panic!("not an insert: {other:?}"),
    }
}

fn problem(decoder: &mut Decoder, frame: &str) -> Problem {
    decoder.decode(&wire(frame)).unwrap_err().problem()
}

/// Whatever the bytes: no panic; what decodes was read to its last byte and is written the same again.
fn check_any_bytes(mut decoder: Decoder, frame: &[u8]) {
    let in_stream = decoder.in_stream();
    let Ok(message) = decoder.decode(frame) else {
        assert_eq!(decoder.in_stream(), in_stream, "an error changed the state");
        return;
    };
    for tuple in tuples(&message) {
        assert_eq!(tuple.cells().count(), tuple.len());
    }
    let mut encoded = Vec::new();
    encode(&message, in_stream, &mut encoded);
    assert_eq!(encoded, frame, "{message:?}");
}

fn tuples<'a>(message: &Message<'a>) -> Vec<Tuple<'a>> {
    match message {
        Message::Insert(insert) => vec![insert.new],
        Message::Update(update) => update.old.iter().map(OldTuple::tuple).chain([update.new]).collect(),
        Message::Delete(delete) => vec![delete.old.tuple()],
        _ => vec![],
    }
}

#[test]
fn decodes_the_bytes_of_the_protocol_page() {
    for golden in goldens() {
        assert_eq!(golden.decoder().decode(&golden.frame), Ok(golden.message), "{}", golden.name);
    }
}

#[test]
fn the_goldens_have_every_tag() {
    let tags: std::collections::BTreeSet<u8> = goldens().iter().map(|golden| golden.frame[0]).collect();
    assert_eq!(tags.into_iter().collect::<Vec<u8>>(), b"ABCDEIKMOPRSTUYbcpr");
}

#[test]
fn every_prefix_is_refused() {
    for golden in goldens() {
        for length in 0..golden.frame.len() {
            let error = golden.decoder().decode(&golden.frame[..length]).unwrap_err();
            let expected = matches!(
                error.problem(),
                Problem::Empty | Problem::Short { .. } | Problem::Unterminated { .. }
            );
            assert!(expected, "{} cut to {length} bytes: {error}", golden.name);
        }
    }
}

#[test]
fn trailing_bytes_are_refused() {
    for golden in goldens() {
        let mut frame = golden.frame.clone();
        frame.push(0);
        let error = golden.decoder().decode(&frame).unwrap_err();
        assert_eq!(error.problem(), Problem::Trailing { left: 1 }, "{}", golden.name);
        assert_eq!(error.tag(), Some(golden.frame[0]));
    }
}

/// What real servers sent, recorded by `transcripts/record.sh`: every frame decodes, its rows have the columns of
/// the last relation message (T06), and it is written back byte for byte.
#[test]
fn transcripts_of_real_servers_decode() {
    let mut decoder = Decoder::new(V1);
    let mut columns = std::collections::BTreeMap::new();
    let mut tags = std::collections::BTreeSet::new();
    for line in
        include_str!("../../transcripts/postgres-15.txt").lines().filter(|line| !line.starts_with('#'))
    {
        if let Some(version) = line.strip_prefix("! ") {
            decoder = Decoder::new(Options { proto_version: version.parse().unwrap(), ..V1 });
            columns.clear();
            continue;
        }
        let frame = wire(line);
        check_any_bytes(decoder.clone(), &frame);
        let message = decoder.decode(&frame).unwrap_or_else(|error| panic!("{error}: {line}"));
        if let Message::Relation(relation) = &message {
            columns.insert(relation.oid, relation.columns.len());
        }
        for tuple in tuples(&message) {
            let announced = relation_of(&message).and_then(|relation| columns.get(&relation));
            assert_eq!(announced, Some(&tuple.len()), "{line}");
        }
        tags.insert(frame[0]);
    }
    assert_eq!(tags.into_iter().collect::<Vec<u8>>(), b"ABCDEIKMOPRSTUYbcpr");
}

fn relation_of(message: &Message<'_>) -> Option<Oid> {
    match message {
        Message::Insert(Insert { relation, .. })
        | Message::Update(Update { relation, .. })
        | Message::Delete(Delete { relation, .. }) => Some(*relation),
        _ => None,
    }
}

/// Every byte of every message, replaced by every other byte.
#[test]
fn a_wrong_byte_never_panics_nor_goes_unseen() {
    for golden in goldens() {
        for position in 0..golden.frame.len() {
            let mut frame = golden.frame.clone();
            for byte in 0..=u8::MAX {
                frame[position] = byte;
                check_any_bytes(golden.decoder(), &frame);
            }
        }
    }
}

#[test]
fn unknown_flags_and_kinds_are_refused() {
    let mut v3 = decoder(V3, false);
    for (frame, byte) in [
        ("'C' 01", 0x01),
        ("'c' 00000001 04", 0x04),
        ("'P' 01", 0x01),
        ("'K' 01", 0x01),
        ("'r' 01", 0x01),
        ("'p' 01", 0x01),
        ("'M' 02", 0x02),
        ("'T' 00000000 04", 0x04),
        ("'S' 00000001 02", 0x02),
        ("'R' 00000001 00 00 'd' 0001 02 00 00000014 ffffffff", 0x02),
        ("'R' 00000001 00 00 'x'", b'x'),
        ("'I' 00000001 'K' 0000", b'K'),
        ("'U' 00000001 'X' 0000", b'X'),
        ("'U' 00000001 'K' 0000 'O' 0000", b'O'),
        ("'D' 00000001 'N' 0000", b'N'),
        ("'I' 00000001 'N' 0001 'x'", b'x'),
    ] {
        assert_eq!(problem(&mut v3, frame), Problem::Unexpected { byte }, "{frame}");
    }
}

#[test]
fn positions_that_decide_are_not_zero() {
    let (zero, one) = ("0000000000000000", "0000000000000001");
    let mut v3 = decoder(V3, false);
    for frame in [
        format!("'B' {zero} {one} 00000001"),
        format!("'b' {zero} {one} {one} 00000001 'gid' 00"),
        format!("'P' 00 {one} {zero} {one} 00000001 'gid' 00"),
        format!("'r' 00 {zero} {one} {one} {one} 00000001 'gid' 00"),
    ] {
        assert_eq!(problem(&mut v3, &frame), Problem::ZeroLsn, "{frame}");
    }
}

/// T15: The same bytes are an insert into 735 inside a block and into 16402 outside, off by the four bytes of the xid.
#[test]
fn t15_xid_only_inside_stream_blocks() {
    let outside = wire("'I' 00004012 'N' 0001 't' 00000001 '1'");
    let inside = wire("'I' 000002df 00004012 'N' 0001 't' 00000001 '1'");
    let insert = |xid| {
        Ok(Message::Insert(Insert {
            xid,
            relation: Oid(16402),
            new: Tuple { cell_count: 1, bytes: b"t\0\0\0\x011", layout: Layout::Lettered },
        }))
    };
    let mut decoder = Decoder::new(V2);
    assert_eq!(decoder.decode(&outside), insert(None));
    assert!(decoder.decode(&inside).is_err());
    decoder.decode(&wire("'S' 000002de 01")).unwrap();
    assert!(decoder.in_stream());
    assert_eq!(decoder.decode(&inside), insert(Some(Xid(735))));
    assert!(decoder.decode(&outside).is_err());
    decoder.decode(b"E").unwrap();
    assert!(!decoder.in_stream());
    assert_eq!(decoder.decode(&outside), insert(None));
}

/// T16: A small transaction comes whole between two blocks of a big one.
#[test]
fn t16_stream_blocks_interleave_with_whole_transactions() {
    let mut decoder = Decoder::new(V2);
    for (frame, in_stream) in [
        ("'S' 000002de 01", true),
        ("'I' 000002de 00004012 'N' 0001 'n'", true),
        ("'E'", false),
        ("'B' 00000016b374d848 0002a1b2c3d4e5f6 000002e0", false),
        ("'I' 00004012 'N' 0001 'n'", false),
        ("'C' 00 00000016b374d848 00000016b374d878 0002a1b2c3d4e5f6", false),
        ("'S' 000002de 00", true),
        ("'I' 000002de 00004012 'N' 0001 'n'", true),
        ("'E'", false),
        ("'c' 000002de 00 00000016b374d848 00000016b374d878 0002a1b2c3d4e5f6", false),
    ] {
        decoder.decode(&wire(frame)).unwrap();
        assert_eq!(decoder.in_stream(), in_stream, "{frame}");
    }
}

/// T18: The abort's length follows the option, not the version.
#[test]
fn t18_stream_abort_length_follows_the_option() {
    let short = wire("'A' 000002de 000002df");
    let long = wire("'A' 000002de 000002df 00000016b374d848 0002a1b2c3d4e5f6");
    for (options, good, bad) in [(V2, &short, &long), (V4, &short, &long), (V4_PARALLEL, &long, &short)] {
        assert!(Decoder::new(options).decode(good).is_ok());
        assert!(Decoder::new(options).decode(bad).is_err());
    }
    // No server sends the long form below version 4, whatever it was asked for.
    let impossible = Options { proto_version: 3, streaming_parallel: true };
    assert!(Decoder::new(impossible).decode(&short).is_ok());
}

/// T19
#[test]
fn t19_two_phase_messages_need_version_3() {
    for golden in goldens().into_iter().filter(|golden| golden.options == V3 && golden.frame[0] != b'A') {
        let error = Decoder::new(V2).decode(&golden.frame).unwrap_err();
        assert_eq!(error.problem(), Problem::NotInVersion { since: 3, negotiated: 2 }, "{}", golden.name);
    }
}

#[test]
fn stream_messages_need_version_2_and_their_place() {
    for frame in ["'S' 000002de 01", "'E'", "'c' 000002de 00", "'A' 000002de 000002df"] {
        let expected = Problem::NotInVersion { since: 2, negotiated: 1 };
        assert_eq!(problem(&mut decoder(V1, false), frame), expected, "{frame}");
    }
    assert_eq!(problem(&mut decoder(V3, false), "'E'"), Problem::OutsideStream);
    for golden in goldens() {
        if b"BCScAbPKrp".contains(&golden.frame[0]) {
            let error = decoder(golden.options.max_version(), true).decode(&golden.frame).unwrap_err();
            assert_eq!(error.problem(), Problem::InsideStream, "{}", golden.name);
        }
    }
}

impl Options {
    fn max_version(self) -> Options {
        Options { proto_version: 4, ..self }
    }
}

/// T20: Non-transactional messages come before any begin, and with a position that is nobody's progress.
#[test]
fn t20_logical_message_needs_no_transaction() {
    let frame = wire("'M' 00 00000016b374d848 'p' 00 00000001 'x'");
    let Ok(Message::Logical(logical)) = Decoder::new(V1).decode(&frame) else { panic!() };
    assert!(!logical.transactional);
    assert_eq!((logical.prefix, logical.content), ("p", b"x".as_slice()));
}

/// T21
#[test]
fn t21_origin_has_no_xid_even_inside_a_stream_block() {
    let frame = wire("'O' 00000016b374d848 'pg_16389' 00");
    for in_stream in [false, true] {
        let expected = Origin { commit_lsn: Lsn(0x16_b374_d848), name: "pg_16389" };
        assert_eq!(decoder(V2, in_stream).decode(&frame), Ok(Message::Origin(expected)));
    }
}

/// T08
#[test]
fn t08_key_tuple_has_a_null_for_every_other_column() {
    let frame = wire("'D' 00004012 'K' 0004 't' 00000001 '1' 'n' 'n' 'n'");
    let Ok(Message::Delete(delete)) = Decoder::new(V1).decode(&frame) else { panic!() };
    assert_eq!(delete.old, OldTuple::Key(KEY));
    let cells: Vec<Cell<'_>> = delete.old.tuple().cells().collect();
    assert_eq!(cells, [Cell::Text(b"1"), Cell::Null, Cell::Null, Cell::Null]);
}

/// T09, T10
#[test]
fn t09_t10_an_unchanged_cell_stays_apart_from_null_beside_an_old_tuple() {
    for (kind, old) in [("'K'", OldTuple::Key as fn(_) -> _), ("'O'", OldTuple::Full as fn(_) -> _)] {
        let frame = wire(&format!("'U' 00004012 {kind} 0002 't' 00000001 '1' 'n' 'N' 0002 'u' 'n'"));
        let Ok(Message::Update(update)) = Decoder::new(V1).decode(&frame) else { panic!() };
        assert_eq!(
            update.old,
            Some(old(Tuple { cell_count: 2, bytes: b"t\0\0\0\x011n", layout: Layout::Lettered }))
        );
        assert_eq!(update.new.cells().collect::<Vec<_>>(), [Cell::Unchanged, Cell::Null]);
    }
}

/// T12, T13
#[test]
fn t12_t13_an_insert_may_mix_text_binary_and_unchanged() {
    let frame = wire("'I' 00004012 'N' 0004 't' 00000001 '1' 'n' 'u' 'b' 00000002 00ff");
    assert_eq!(
        decoded_cells(&mut Decoder::new(V1), &frame),
        [Cell::Text(b"1"), Cell::Null, Cell::Unchanged, Cell::Binary(b"\x00\xff")]
    );
}

/// T47
#[test]
fn t47_rows_of_no_columns_and_of_very_many() {
    for cells in [0_u16, 1_600, u16::MAX] {
        let mut frame = wire("'I' 00004012 'N'");
        frame.extend(cells.to_be_bytes());
        for _ in 0..cells {
            frame.extend(wire("'t' 00000001 '1'"));
        }
        let decoded = decoded_cells(&mut Decoder::new(V1), &frame);
        assert_eq!(decoded, vec![Cell::Text(b"1"); usize::from(cells)]);
    }
    let mut frame = wire("'R' 00004012 00 'wide' 00 'd' ffff");
    for _ in 0..u16::MAX {
        frame.extend(wire("00 00 00000014 ffffffff"));
    }
    let Ok(Message::Relation(relation)) = Decoder::new(V1).decode(&frame) else { panic!() };
    assert_eq!(relation.columns.len(), 65_535);
    assert_eq!(relation.columns.capacity(), 65_535);
}

/// T94: In an SQL_ASCII database names may hold any byte; a value's bytes are passed on as they are.
#[test]
fn t94_names_that_are_not_utf8_are_refused_and_named() {
    for (frame, field, index) in [
        ("'R' 00000001 ff 00 'r' 00 'd' 0000", "namespace", None),
        ("'R' 00000001 00 'r' ff 00 'd' 0000", "name", None),
        (
            "'R' 00000001 00 'r' 00 'd' 0002 00 'a' 00 00000014 ffffffff 00 e9 00 00000014 ffffffff",
            "columns.name",
            Some(1),
        ),
        ("'Y' 00000001 ff 00 'mood' 00", "namespace", None),
        ("'Y' 00000001 00 ff 00", "name", None),
        ("'O' 0000000000000001 ff 00", "name", None),
        ("'M' 00 0000000000000001 ff 00 00000000", "prefix", None),
        ("'b' 0000000000000001 0000000000000001 0000000000000001 00000001 ff 00", "gid", None),
    ] {
        let error = Decoder::new(V3).decode(&wire(frame)).unwrap_err();
        assert_eq!((error.field(), error.index()), (field, index), "{frame}");
        assert!(matches!(error.problem(), Problem::NotUtf8 { .. }), "{error}");
    }
    let frame = wire("'I' 00000001 'N' 0001 't' 00000001 e9");
    assert_eq!(decoded_cells(&mut Decoder::new(V1), &frame), [Cell::Text(b"\xe9")]);
}

/// T99
#[test]
fn t99_names_are_kept_exactly() {
    for name in [" ", "we/ird \"q\" Ünï\n..", "_cdc_op", "A=%", "漢字"] {
        let mut frame = wire("'Y' 00000001 00");
        frame.extend(name.as_bytes());
        frame.push(0);
        let expected = Type { xid: None, oid: Oid(1), namespace: "", name };
        assert_eq!(Decoder::new(V1).decode(&frame), Ok(Message::Type(expected)));
    }
}

#[test]
fn an_error_leaves_the_state_as_it_was() {
    let mut decoder = decoder(V2, true);
    for frame in ["'E' 00", "'S' 000002de 01", "'I' 00", "'?'"] {
        assert!(decoder.decode(&wire(frame)).is_err());
        assert!(decoder.in_stream(), "{frame}");
    }
    assert_eq!(decoder.decode(b"E"), Ok(Message::StreamStop));
    for frame in ["'S' 000002de", "'S' 000002de 01 00"] {
        assert!(decoder.decode(&wire(frame)).is_err());
        assert!(!decoder.in_stream(), "{frame}");
    }
}

#[test]
fn rows_borrow_the_frame() {
    let frame = wire("'I' 00004012 'N' 0001 't' 00000003 'abc'");
    let message = Decoder::new(V1).decode(&frame).unwrap();
    let Message::Insert(Insert { new, .. }) = message else { panic!() };
    let Some(Cell::Text(value)) = new.cells().next() else { panic!() };
    assert!(frame.as_ptr_range().contains(&value.as_ptr()));
    assert_ne!(new, ROW);
}

proptest! {
    /// A known tag and anything behind it.
    #[test]
    fn any_bytes_decode_or_are_refused(
        tag in prop::sample::select(b"ABCDEIKMOPRSTUYbcpr".to_vec()),
        body in prop::collection::vec(prop_oneof![Just(0_u8), Just(b'n'), Just(b't'), Just(b'N'), any::<u8>()], 0..200),
        in_stream: bool,
        streaming_parallel: bool,
    ) {
        let options = Options { proto_version: 4, streaming_parallel };
        let frame = [&[tag], body.as_slice()].concat();
        check_any_bytes(decoder(options, in_stream), &frame);
    }
}
