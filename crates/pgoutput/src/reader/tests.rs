use super::*;
use crate::golden::{ROW, V1, decoder, wire};

fn error_of(frame: &str) -> DecodeError {
    decoder(V1, false).decode(&wire(frame)).unwrap_err()
}

#[test]
fn errors_name_the_message_and_the_field() {
    for (frame, text) in [
        ("", "pgoutput message: the frame is empty"),
        ("ff", "pgoutput message `\\xff`: no message begins so"),
        (
            "'S' 00000001 01",
            "pgoutput message `S`: belongs to protocol version 2, and version 1 was asked for",
        ),
        ("'B' 00", "pgoutput message `B`, final_lsn: 8 bytes needed, 1 left"),
        ("'B' 0000000000000000", "pgoutput message `B`, final_lsn: position is not set"),
        ("'C' 80", "pgoutput message `C`, flags: unexpected byte 0x80"),
        (
            "'O' 0000000000000001 'ab'",
            "pgoutput message `O`, name: no zero byte ends the name in the 2 bytes left",
        ),
        (
            "'O' 0000000000000001 'ab' ff 00",
            "pgoutput message `O`, name: name of 3 bytes is not UTF-8 after byte 2",
        ),
        ("'T' ffffffff 00", "pgoutput message `T`, relations: length -1 is negative"),
        (
            "'I' 00000001 'N' 0002 'n' 't' 00000007 'secret'",
            "pgoutput message `I`, new[1]: 7 bytes needed, 6 left",
        ),
        ("'I' 00000001 'N' 0001 'n' 'n'", "pgoutput message `I`: 1 bytes too many at the end"),
        (
            "'R' 00000001 00 'r' 00 'd' 0001 00 'column' ff 00 00000014 ffffffff",
            "pgoutput message `R`, columns.name[0]: name of 7 bytes is not UTF-8 after byte 6",
        ),
    ] {
        assert_eq!(error_of(frame).to_string(), text);
    }
}

#[test]
fn an_error_is_small_and_says_where() {
    assert!(size_of::<DecodeError>() <= 48, "{}", size_of::<DecodeError>());
    let error = error_of("'D' 00000001 'K' 0001 'x'");
    assert_eq!((error.tag(), error.field(), error.index()), (Some(b'D'), "old", Some(0)));
    assert_eq!(error.problem(), Problem::Unexpected { byte: b'x' });
}

#[test]
fn cells_come_in_order_and_are_counted() {
    let mut cells = ROW.cells();
    assert_eq!(cells.len(), 4);
    assert_eq!(cells.next(), Some(Cell::Text(b"1")));
    assert_eq!(cells.len(), 3);
    let rest: Vec<Cell<'_>> = cells.clone().collect();
    assert_eq!(rest, [Cell::Null, Cell::Unchanged, Cell::Binary(b"\x00\xff")]);
    assert_eq!(cells.by_ref().count(), 3);
    assert_eq!(cells.next(), None);
    assert_eq!(cells.len(), 0);
}

#[test]
fn a_tuple_knows_its_size() {
    assert_eq!((ROW.len(), ROW.is_empty(), ROW.wire_bytes()), (4, false, 15));
    let empty = Tuple { cell_count: 0, bytes: b"", layout: Layout::Lettered };
    assert_eq!((empty.len(), empty.is_empty(), empty.wire_bytes()), (0, true, 0));
    assert_eq!(empty.cells().next(), None);
}

#[test]
fn a_tuple_borrows_only_its_own_bytes() {
    let mut reader = Reader::new(b'U', b"\x00\x01nN\x00\x00");
    assert_eq!(reader.tuple("old"), Ok(Tuple { cell_count: 1, bytes: b"n", layout: Layout::Lettered }));
    assert_eq!(reader.u8("new"), Ok(b'N'));
    assert_eq!(reader.tuple("new"), Ok(Tuple { cell_count: 0, bytes: b"", layout: Layout::Lettered }));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn an_empty_value_is_not_a_null() {
    let mut reader = Reader::new(b'I', b"\x00\x02t\0\0\0\0b\0\0\0\0");
    let cells: Vec<Cell<'_>> = reader.tuple("new").unwrap().cells().collect();
    assert_eq!(cells, [Cell::Text(b""), Cell::Binary(b"")]);
}

/// Hostile lengths are refused by the bytes that are there, before anything is allocated.
#[test]
fn hostile_lengths_are_refused() {
    let short = |need, left| Problem::Short { need, left };
    let negative = |length| Problem::Negative { length };
    for (frame, field, index, problem) in [
        // A value of 2 GB, or of less than nothing.
        ("'I' 00000001 'N' 0001 't' 7fffffff 'ab'", "new", Some(0), short(0x7fff_ffff, 2)),
        ("'I' 00000001 'N' 0001 'b' 7fffffff", "new", Some(0), short(0x7fff_ffff, 0)),
        ("'I' 00000001 'N' 0001 't' ffffffff 'ab'", "new", Some(0), negative(-1)),
        ("'I' 00000001 'N' 0001 'b' 80000000 'ab'", "new", Some(0), negative(i32::MIN)),
        ("'M' 00 0000000000000001 00 7fffffff 'ab'", "content", None, short(0x7fff_ffff, 2)),
        ("'M' 00 0000000000000001 00 ffffffff 'ab'", "content", None, negative(-1)),
        // 65535 cells or columns.
        ("'I' 00000001 'N' ffff", "new", Some(0), short(1, 0)),
        ("'I' 00000001 'N' ffff 'n' 'u'", "new", Some(2), short(1, 0)),
        ("'R' 00000001 00 00 'd' ffff 00", "columns", None, short(655_350, 1)),
        // 2^31 - 1 relations, or less than none.
        ("'T' 7fffffff 00 00000001", "relations", None, short(8_589_934_588, 4)),
        ("'T' 80000000 00 00000001", "relations", None, negative(i32::MIN)),
    ] {
        let error = error_of(frame);
        assert_eq!((error.field(), error.index(), error.problem()), (field, index, problem), "{frame}");
    }
}
