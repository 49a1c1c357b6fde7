use super::*;
use crate::message::Cell;

/// As Postgres 15 wrote `COPY (SELECT 1, NULL::text, 'ab') TO STDOUT (FORMAT binary)`.
const COPIED: &[u8] =
    b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\x04\0\0\0\x01\xff\xff\xff\xff\0\0\0\x02ab\xff\xff";

fn whole<T>(split: Split<'_, T>) -> (T, &[u8]) {
    match split {
        Split::Whole { part, rest } => (part, rest),
        Split::Short { need } => panic!("needs {need} bytes"),
    }
}

#[test]
fn a_copy_of_a_server() {
    let (extension, rest) = whole(header(COPIED).unwrap());
    assert_eq!(extension, 0);
    let (row, rest) = whole(part(rest, &[false, false, true]).unwrap());
    let Part::Row(row) = row else { panic!("{row:?}") };
    let cells: Vec<Cell<'_>> = row.cells().collect();
    assert_eq!(cells, [Cell::Binary(&[0, 0, 0, 1]), Cell::Null, Cell::Text(b"ab")]);
    assert_eq!((row.len(), row.wire_bytes()), (3, 18));
    assert_eq!(whole(part(rest, &[false, false, true]).unwrap()), (Part::Trailer, [].as_slice()));
}

#[test]
fn what_is_cut_short_says_how_much_it_needs() {
    let (_, rows) = whole(header(COPIED).unwrap());
    for cut in 0..COPIED.len() - rows.len() {
        assert_eq!(header(&COPIED[..cut]).unwrap(), Split::Short { need: 19 });
    }
    for cut in 0..20 {
        let Split::Short { need } = part(&rows[..cut], &[false; 3]).unwrap() else {
            panic!("whole at {cut}")
        };
        assert!(cut < need && need <= 20, "{need} at {cut}");
    }
    // Believed as a number, and nothing more.
    assert_eq!(part(b"\0\x01\x7f\xff\xff\xff", &[false]).unwrap(), Split::Short { need: (1 << 31) + 5 });
}

#[test]
fn what_is_no_copy_is_refused() {
    assert_eq!(header(b"PGCOPY\r\n\xff\n\0\0"), Err(CopyError::Signature));
    let header_of = |flags: &[u8; 4], length: &[u8; 4]| [SIGNATURE.as_slice(), flags, length].concat();
    assert_eq!(
        header(&header_of(&[0, 1, 0, 0], &[0; 4])),
        Err(CopyError::Flags { flags: 1 << 16 }),
        "row OIDs"
    );
    assert!(header(&header_of(&[0, 0, 255, 255], &[0; 4])).is_ok(), "flags that may be ignored");
    assert_eq!(header(&header_of(&[0; 4], &[255; 4])), Err(CopyError::Extension { length: -1 }));
    assert_eq!(part(b"\0\x02", &[false]), Err(CopyError::CellCount { found: 2, expected: 1 }));
    assert_eq!(part(b"\xff\xfe", &[false]), Err(CopyError::CellCount { found: -2, expected: 1 }));
    assert_eq!(
        part(b"\0\x02\0\0\0\0\xff\xff\xff\xfe", &[false; 2]),
        Err(CopyError::CellLength { cell: 1, length: -2 })
    );
}

#[test]
fn a_table_without_columns_has_rows() {
    let (row, rest) = whole(part(b"\0\0\0\0\xff\xff", &[]).unwrap());
    let Part::Row(row) = row else { panic!("{row:?}") };
    assert!(row.is_empty());
    assert_eq!(row.cells().count(), 0);
    assert_eq!(rest, b"\0\0\xff\xff");
}
