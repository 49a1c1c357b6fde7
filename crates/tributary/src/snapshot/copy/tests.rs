use pgoutput::Cell;
use proptest::prelude::*;

use super::*;
use crate::error::Kind;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Null,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

impl Value {
    fn of(cell: Cell<'_>) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Unchanged => panic!("a copy leaves nothing out"),
            Cell::Text(bytes) => Value::Text(bytes.to_vec()),
            Cell::Binary(bytes) => Value::Binary(bytes.to_vec()),
        }
    }
}

/// As the page of COPY describes it, with an extension to skip.
fn written(rows: &[Cells], extension: &[u8]) -> Vec<u8> {
    let length = |count: usize| u32::try_from(count).unwrap().to_be_bytes();
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0".to_vec();
    out.extend(length(extension.len()));
    out.extend(extension);
    for row in rows {
        out.extend(u16::try_from(row.len()).unwrap().to_be_bytes());
        for cell in row {
            match cell {
                None => out.extend([255; 4]),
                Some(value) => {
                    out.extend(length(value.len()));
                    out.extend(value);
                }
            }
        }
    }
    out.extend([255, 255]);
    out
}

/// What comes of chunks, and whether they are a whole copy.
fn read<'c>(texts: &[bool], chunks: impl IntoIterator<Item = &'c [u8]>) -> Result<Vec<Vec<Value>>> {
    let mut rows = Rows::new(texts.into());
    let mut found = Vec::new();
    for chunk in chunks {
        rows.take(chunk, |tuple| {
            let row: Vec<Value> = tuple.cells().map(Value::of).collect();
            assert_eq!((row.len(), tuple.cells().len()), (texts.len(), texts.len()));
            found.push(row);
            Ok(())
        })?;
        assert!(rows.carried.capacity() <= 4 * rows.pending_bytes().max(64), "more is held than has arrived");
    }
    rows.finish()?;
    assert_eq!(rows.rows(), u64::try_from(found.len()).unwrap());
    assert_eq!(rows.pending_bytes(), 0);
    Ok(found)
}

/// Cuts at these places.
fn chunks<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// The cells of a row, NULL or a value.
type Cells = Vec<Option<Vec<u8>>>;

fn table() -> impl Strategy<Value = (Vec<bool>, Vec<Cells>)> {
    prop::collection::vec(any::<bool>(), 0..5).prop_flat_map(|texts| {
        let cell = prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
        let row = prop::collection::vec(cell, texts.len());
        (Just(texts), prop::collection::vec(row, 0..8))
    })
}

proptest! {
    #[test]
    fn rows_are_the_same_however_they_arrive(
        (texts, rows) in table(),
        extension in prop::collection::vec(any::<u8>(), 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes = written(&rows, &extension);
        let expected: Vec<Vec<Value>> = rows.iter().map(|row| {
            row.iter().zip(&texts).map(|(cell, is_text)| match cell {
                None => Value::Null,
                Some(value) if *is_text => Value::Text(value.clone()),
                Some(value) => Value::Binary(value.clone()),
            }).collect()
        }).collect();
        prop_assert_eq!(read(&texts, chunks(&bytes, &cuts)).unwrap(), expected.clone());
        prop_assert_eq!(read(&texts, bytes.chunks(1)).unwrap(), expected);
    }

    #[test]
    fn a_copy_that_is_cut_or_goes_on_is_refused(
        (texts, rows) in table(),
        cut in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut bytes = written(&rows, b"");
        bytes.push(0);
        prop_assert!(read(&texts, chunks(&bytes, &cuts)).is_err());
        bytes.pop();
        bytes.truncate(cut.index(bytes.len()));
        let error = read(&texts, chunks(&bytes, &cuts)).unwrap_err();
        prop_assert_eq!(error.kind(), Kind::Transient);
    }

    #[test]
    fn damage_never_panics(
        (texts, rows) in table(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = written(&rows, b"");
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        // Whatever it gives, `read` has checked the counts.
        let _ = read(&texts, chunks(&bytes, &cuts));
        let _ = read(&texts, chunks(&bytes[bytes.len() / 2..], &cuts));
    }
}

#[test]
fn a_large_value_costs_what_has_arrived_of_it() {
    let mut rows = Rows::new([false].into());
    let mut bytes = written(&[], b"");
    bytes.truncate(19);
    bytes.extend([0, 1, 0x3f, 0xff, 0xff, 0xff]);
    rows.take(&bytes, |_| panic!("it has no row")).unwrap();
    for _ in 0..100 {
        rows.take(&[7; 1000], |_| panic!("it is not whole")).unwrap();
    }
    assert_eq!(rows.pending_bytes(), 100_006);
    assert!(rows.carried.capacity() <= 200_012, "{}", rows.carried.capacity());
    assert_eq!(
        rows.finish().unwrap_err().chain(),
        "rows of the source: the copy ends after 0 rows without its trailer, with 100006 bytes of another part"
    );
}

#[test]
fn an_error_of_the_taker_ends_it() {
    let mut rows = Rows::new([].into());
    let copy = written(&[vec![], vec![]], b"");
    let error = rows.take(&copy, |_| Err(Error::bug("enough"))).unwrap_err();
    assert_eq!(error.kind(), Kind::Bug);
    assert_eq!(rows.rows(), 1);
}
