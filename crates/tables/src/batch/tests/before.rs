//! `_cdc_before`: what is known of the old row, and nothing else.

use arrow::array::AsArray;
use parquet::arrow::ArrowWriter;
use pgoutput::encode::TupleBuilder;
use proptest::prelude::*;

use super::*;

/// A plan of a table whose rows have the old row beside them.
fn plan_with_before(columns: &[(&str, u32)]) -> Plan {
    plan_with(plan_of(columns), |landing| Arc::make_mut(&mut landing.schema).before = true)
}

type Map = Vec<(String, Option<String>)>;

fn before(batch: &RecordBatch, row: usize) -> Option<Map> {
    let maps = batch.column_by_name(BEFORE_COLUMN).unwrap().as_map();
    (!maps.is_null(row)).then(|| {
        let entries = maps.value(row);
        let (names, texts) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        let entry = |(name, text): (Option<&str>, Option<&str>)| {
            (name.unwrap().to_owned(), text.map(ToOwned::to_owned))
        };
        names.iter().zip(texts).map(entry).collect()
    })
}

fn map(entries: &[(&str, Option<&str>)]) -> Option<Map> {
    let entry = |(name, text): &(&str, Option<&str>)| ((*name).to_owned(), text.map(ToOwned::to_owned));
    Some(entries.iter().map(entry).collect())
}

fn update<'a>(new: &'a TupleBuilder, old: Option<OldTuple<'a>>) -> Image<'a> {
    Image::Row { tuple: new.tuple(), fill: old }
}

#[test]
fn t08_t10_the_old_row_as_far_as_it_was_sent() {
    let plan = plan_with_before(&[("id", INT4), ("Big Doc", TEXT), ("note", TEXT)]);
    let doc = plan.schema.columns[1].name.clone();
    let new = TupleBuilder::new().text("1").text("new").null();
    let old = TupleBuilder::new().text("1").unchanged().null();
    let key = TupleBuilder::new().text("7").null().null();
    let nothing = TupleBuilder::new().null().null().null();
    let rows = [
        (Op::Insert, row(&new)),
        (Op::Update, update(&new, None)),
        (Op::Update, update(&new, Some(OldTuple::Full(old.tuple())))),
        (Op::Update, update(&new, Some(OldTuple::Key(key.tuple())))),
        (Op::Delete, Image::Old(OldTuple::Key(key.tuple()))),
        // The row of another key, whose old row is the deletion just before.
        (Op::Insert, update(&new, Some(OldTuple::Key(key.tuple())))),
        (Op::Delete, Image::Old(OldTuple::Full(new.tuple()))),
        (Op::Delete, Image::Old(OldTuple::Key(nothing.tuple()))),
        (Op::Truncate, Image::Empty),
        (Op::Row, row(&new)),
    ];
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    for (seq, (op, image)) in (1..).zip(rows) {
        builder.append(&STAMP, &change(&plan, op, seq, image)).unwrap();
    }
    let batch = builder.finish().unwrap();
    let known: Vec<Option<Map>> = (0..batch.num_rows()).map(|row| before(&batch, row)).collect();
    let key = map(&[("id", Some("7"))]);
    let expected = [
        None,
        None,
        map(&[("id", Some("1")), ("note", None)]),
        key.clone(),
        key,
        None,
        map(&[("id", Some("1")), (&doc, Some("new")), ("note", None)]),
        None,
        None,
        None,
    ];
    assert_eq!(known, expected);
    // The rows themselves are as they are without the column.
    assert_eq!((text(&batch, &doc, 2).as_deref(), text(&batch, &doc, 4)), (Some("new"), None));
    assert_eq!(batch.column_by_name("id").unwrap().as_primitive::<Int32Type>().value(4), 7);
}

/// T24
#[test]
fn t24_nulls_that_nobody_vouches_for_are_left_out() {
    let plan = plan_with_before(&[("id", INT4), ("note", TEXT), ("more", TEXT)]);
    let plan = plan_with(plan, |landing| landing.old_is_whole = false);
    let old = TupleBuilder::new().text("1").null().text("x");
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let image = Image::Old(OldTuple::Full(old.tuple()));
    builder.append(&STAMP, &change(&plan, Op::Delete, 1, image)).unwrap();
    assert_eq!(before(&builder.finish().unwrap(), 0), map(&[("id", Some("1")), ("more", Some("x"))]));
}

#[test]
fn old_text_is_that_of_raw() {
    let plan = plan_with_before(&[("day", DATE), ("note", TEXT), ("class", REGCLASS)]);
    let old = TupleBuilder::new().binary(i32::MAX.to_be_bytes()).text(b"a\\b\xe9").text("pg_class");
    let new = TupleBuilder::new().null().null().null();
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    // A value that no lake type holds is no loss here.
    builder.refuse_loss();
    let image = update(&new, Some(OldTuple::Full(old.tuple())));
    builder.append(&STAMP, &change(&plan, Op::Update, 1, image)).unwrap();
    let batch = builder.finish().unwrap();
    let expected = [("day", Some("infinity")), ("note", Some(r"a\\b\xe9")), ("class", Some("pg_class"))];
    assert_eq!((before(&batch, 0), raw(&batch, 0)), (map(&expected), None));
    // A binary cell that nobody can render asks for a stream of text, as everywhere.
    let old = TupleBuilder::new().null().null().binary([0; 4]);
    let image = update(&new, Some(OldTuple::Full(old.tuple())));
    let refused = builder.append(&STAMP, &change(&plan, Op::Update, 1, image));
    assert!(matches!(refused, Err(CellError::NoBinaryReader { .. })));
    let old = TupleBuilder::new().binary([0; 3]).null().null();
    let image = update(&new, Some(OldTuple::Full(old.tuple())));
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let refused = builder.append(&STAMP, &change(&plan, Op::Update, 1, image));
    assert!(matches!(refused, Err(CellError::Malformed { .. })));
    let old = TupleBuilder::new().null();
    let image = update(&new, Some(OldTuple::Full(old.tuple())));
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let refused = builder.append(&STAMP, &change(&plan, Op::Update, 1, image));
    assert!(matches!(refused, Err(CellError::CellCount { cells: 1, columns: 3, .. })));
}

#[test]
fn a_leaf_in_another_order_names_the_columns_of_its_table() {
    let plan = plan_with_before(&[("id", INT4), ("note", TEXT), ("day", DATE)]);
    let leaf = plan_of_leaf(&plan, vec![2, 0]);
    let old = TupleBuilder::new().text("1970-01-02").text("5");
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let image = Image::Old(OldTuple::Full(old.tuple()));
    builder.append(&STAMP, &change(&leaf, Op::Delete, 1, image)).unwrap();
    let expected = map(&[("day", Some("1970-01-02")), ("id", Some("5"))]);
    assert_eq!(before(&builder.finish().unwrap(), 0), expected);
}

#[test]
fn old_rows_are_counted() {
    let plan = plan_with_before(&[("id", INT4), ("note", TEXT), ("more", TEXT)]);
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let mut sum = 0;
    for number in 0..1000 {
        let old = TupleBuilder::new().text(number.to_string()).text("x".repeat(number % 50)).null();
        let image = Image::Old(OldTuple::Full(old.tuple()));
        sum += builder.append(&STAMP, &change(&plan, Op::Delete, 1, image)).unwrap().bytes;
        assert_eq!(builder.bytes(), sum);
    }
    let batch = builder.finish().unwrap();
    let held: usize =
        batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap()).sum();
    assert!((held..held * 5 / 4).contains(&sum), "{sum} counted, {held} held");
    assert_eq!(builder.finish().unwrap().num_rows(), 0);
}

#[test]
fn the_column_stands_behind_the_others_with_ids_of_its_own() {
    let plan = plan_with_before(&[("id", INT4), ("note", TEXT)]);
    let batch = batch_of(&plan, &[TupleBuilder::new().text("1").null()]);
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let metadata = writer.finish().unwrap();
    let mut lines = Vec::new();
    let root = metadata.file_metadata().schema_descr().root_schema();
    root.get_fields().iter().skip(7).for_each(|field| fields_of(field, 0, &mut lines));
    let expected = "_cdc_raw 8 Map
  key_value repeated
    key 10 BYTE_ARRAY String
    value 11 BYTE_ARRAY String
_cdc_before 12 Map
  key_value repeated
    key 13 BYTE_ARRAY String
    value 14 BYTE_ARRAY String
id 100 INT32
note 101 BYTE_ARRAY String";
    assert_eq!(lines.join("\n"), expected);
}

/// A value as a server printed and sent it.
type Golden = (String, Vec<u8>);

/// Those of the types of [`ONE_OF_EACH`].
fn goldens_of_each() -> Vec<Vec<Golden>> {
    let lines = include_str!("../../columns/golden.tsv").lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
    let golden = |line: &Vec<&str>| {
        let text = line[1].replace("<TAB>", "\t").replace("<LF>", "\n").replace("<VT>", "\u{b}");
        let digits = line[2].as_bytes().chunks(2).map(|digits| std::str::from_utf8(digits).unwrap());
        (text, digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect())
    };
    let of = |name: &str| lines.iter().filter(|line| line[0] == name).map(golden).collect();
    ONE_OF_EACH.map(|(name, ..)| of(name)).to_vec()
}

proptest! {
    /// Whatever the old row, its map is what the server printed of it, in both formats.
    #[test]
    fn text_and_binary_give_the_same_map(
        kinds in prop::collection::vec((0..5_u8, any::<prop::sample::Index>()), ONE_OF_EACH.len()),
        is_full: bool,
        old_is_whole: bool,
        is_update: bool,
    ) {
        let goldens = goldens_of_each();
        let plan = plan_with_before(&ONE_OF_EACH.map(|(name, oid, _)| (name, oid)));
        let plan = plan_with(plan, |landing| landing.old_is_whole = old_is_whole);
        let (mut text, mut binary, mut expected) = (TupleBuilder::new(), TupleBuilder::new(), Vec::new());
        for (((kind, index), goldens), (name, ..)) in kinds.iter().zip(&goldens).zip(ONE_OF_EACH) {
            (text, binary) = match kind {
                0 => (text.null(), binary.null()),
                1 => (text.unchanged(), binary.unchanged()),
                _ if goldens.is_empty() => (text.unchanged(), binary.unchanged()),
                _ => {
                    let (printed, sent) = index.get(goldens);
                    expected.push((name.to_owned(), Some(printed.clone())));
                    (text.text(printed), binary.binary(sent))
                }
            };
            if *kind == 0 && is_full && old_is_whole {
                expected.push((name.to_owned(), None));
            }
        }
        let expected = (!expected.is_empty()).then_some(expected);
        let new = ONE_OF_EACH.iter().fold(TupleBuilder::new(), |row, _| row.null());
        for old in [&text, &binary] {
            let old = if is_full { OldTuple::Full(old.tuple()) } else { OldTuple::Key(old.tuple()) };
            let (op, image) = match is_update {
                true => (Op::Update, update(&new, Some(old))),
                false => (Op::Delete, Image::Old(old)),
            };
            let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
            builder.append(&STAMP, &change(&plan, op, 1, image)).unwrap();
            prop_assert_eq!(&before(&builder.finish().unwrap(), 0), &expected);
        }
    }
}

#[test]
fn most_types_have_goldens() {
    let empty = goldens_of_each().iter().filter(|goldens| goldens.is_empty()).count();
    assert!(empty <= 4, "{empty} types without a golden value");
}
