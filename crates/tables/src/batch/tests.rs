mod before;

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::datatypes::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Repetition;
use parquet::schema::types::Type;
use pgoutput::encode::TupleBuilder;
use pgoutput::{Oid, Xid};
use proptest::prelude::*;

use super::*;
use crate::change::{Landing, Op, TableIndex};
use crate::schema::{BEFORE_COLUMN, ColumnSpec};
use crate::types::{Codec, LakeType, RecordField, Resolved, TypeCatalog};

const BYTEA: u32 = 17;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const FLOAT4: u32 = 700;
const DATE: u32 = 1082;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const REGCLASS: u32 = 2205;
const TEXT_ARRAY: u32 = 1009;
const DATE_ARRAY: u32 = 1182;

const STAMP: TxStamp =
    TxStamp { commit_lsn: Lsn(0x150), commit_time_unix_micros: 1_785_600_000_000_000, xid: Xid(u32::MAX) };

fn plan_of(columns: &[(&str, u32)]) -> Plan {
    let columns: Vec<ColumnSpec> = columns
        .iter()
        .map(|(name, oid)| ColumnSpec {
            name: (*name).to_owned(),
            type_oid: Oid(*oid),
            type_modifier: -1,
            resolved: TypeCatalog::default().resolve(Oid(*oid), -1),
        })
        .collect();
    let schema = Arc::new(TableSchema::new(&columns, vec![]));
    let columns = (0..).take(columns.len()).collect();
    let landing = Landing { schema, columns, absent: vec![], key: vec![0], old_is_whole: true };
    Plan::new("public.orders_1", landing)
}

/// The plan with another landing.
fn plan_with(mut plan: Plan, change: impl FnOnce(&mut Landing)) -> Plan {
    change(Arc::make_mut(&mut plan.landing));
    plan
}

/// The plan of a leaf that has only these columns of the table.
fn plan_of_leaf(plan: &Plan, columns: Vec<u32>) -> Plan {
    plan_with(plan.clone(), |landing| {
        landing.absent = Landing::absent(&landing.schema, &columns);
        landing.columns = columns;
    })
}

fn change<'f, 'a>(plan: &'f Plan, op: Op, seq: i64, image: Image<'a>) -> Change<'f, 'a> {
    Change { table: TableIndex(0), op, seq, plan, image }
}

fn row(tuple: &TupleBuilder) -> Image<'_> {
    Image::Row { tuple: tuple.tuple(), fill: None }
}

/// A batch of inserts.
fn batch_of(plan: &Plan, rows: &[TupleBuilder]) -> RecordBatch {
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    for (seq, tuple) in (1..).zip(rows) {
        builder.append(&STAMP, &change(plan, Op::Insert, seq, row(tuple))).unwrap();
    }
    builder.finish().unwrap()
}

fn text(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let array = batch.column_by_name(column).unwrap().as_string::<i32>();
    (!array.is_null(row)).then(|| array.value(row).to_owned())
}

fn unchanged(batch: &RecordBatch, row: usize) -> Option<Vec<String>> {
    let lists = batch.column_by_name("_cdc_unchanged").unwrap().as_list::<i32>();
    let names =
        |list: ArrayRef| list.as_string::<i32>().iter().map(|name| name.unwrap().to_owned()).collect();
    (!lists.is_null(row)).then(|| names(lists.value(row)))
}

fn raw(batch: &RecordBatch, row: usize) -> Option<Vec<(String, String)>> {
    let maps = batch.column_by_name("_cdc_raw").unwrap().as_map();
    (!maps.is_null(row)).then(|| {
        let entries = maps.value(row);
        let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        let entry =
            |(key, value): (Option<&str>, Option<&str>)| (key.unwrap().to_owned(), value.unwrap().to_owned());
        keys.iter().zip(values).map(entry).collect()
    })
}

fn pairs(entries: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn a_row_with_its_metadata() {
    let plan = plan_of(&[("id", INT4), ("note", TEXT)]);
    let batch = batch_of(&plan, &[TupleBuilder::new().text("7").null()]);
    let int64 = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(0);
    assert_eq!(text(&batch, "_cdc_op", 0).as_deref(), Some("I"));
    assert_eq!((int64("_cdc_lsn"), int64("_cdc_seq"), int64("_cdc_xid")), (0x150, 1, 4_294_967_295));
    let time: &PrimitiveArray<TimestampMicrosecondType> =
        batch.column_by_name("_cdc_commit_ts").unwrap().as_primitive();
    assert_eq!(time.value(0), 1_785_600_000_000_000);
    assert_eq!(text(&batch, "_cdc_relation", 0).as_deref(), Some("public.orders_1"));
    assert_eq!((unchanged(&batch, 0), raw(&batch, 0)), (None, None));
    assert_eq!(batch.column_by_name("id").unwrap().as_primitive::<Int32Type>().value(0), 7);
    assert_eq!(text(&batch, "note", 0), None);
}

#[test]
fn every_op_and_many_relations() {
    let plan = plan_of(&[("id", INT4)]);
    let other = Plan { relation: "public.orders_2".into(), ..plan.clone() };
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let tuple = TupleBuilder::new().text("1");
    let plans = [&plan, &plan, &other, &plan, &other];
    let ops = [Op::Insert, Op::Update, Op::Delete, Op::Truncate, Op::Row];
    for ((plan, op), number) in plans.into_iter().zip(ops).zip(1..) {
        let image = if op == Op::Truncate { Image::Empty } else { row(&tuple) };
        let stamp = TxStamp { commit_lsn: Lsn(100 - number), ..STAMP };
        builder.append(&stamp, &change(plan, op, 1, image)).unwrap();
    }
    assert_eq!((builder.rows(), builder.lsn_range()), (5, Some((Lsn(95), Lsn(99)))));
    let batch = builder.finish().unwrap();
    assert_eq!((builder.rows(), builder.bytes(), builder.lsn_range()), (0, 0, None));
    let letters: String = (0..5).filter_map(|row| text(&batch, "_cdc_op", row)).collect();
    assert_eq!(letters, "IUDTR");
    let relations: Vec<_> = (0..5).filter_map(|row| text(&batch, "_cdc_relation", row)).collect();
    let names =
        ["public.orders_1", "public.orders_1", "public.orders_2", "public.orders_1", "public.orders_2"];
    assert_eq!(relations, names);
    assert!(batch.column_by_name("id").unwrap().is_null(3));
    assert_eq!(builder.finish().unwrap().num_rows(), 0);
}

/// T11, T12
#[test]
fn t11_t12_unchanged_values_are_named() {
    let plan = plan_of(&[("id", INT4), ("Big Doc", TEXT), ("more", TEXT)]);
    let rows = [
        TupleBuilder::new().text("1").text("a").text("b"),
        TupleBuilder::new().text("2").unchanged().unchanged(),
        TupleBuilder::new().text("3").null().null(),
        TupleBuilder::new().text("4").text("").unchanged(),
    ];
    let batch = batch_of(&plan, &rows);
    let doc = plan.schema.columns[1].name.clone();
    assert!(doc.starts_with("big_doc_"));
    assert_eq!(unchanged(&batch, 0), None);
    assert_eq!(unchanged(&batch, 1), Some(vec![doc.clone(), "more".to_owned()]));
    assert_eq!(unchanged(&batch, 2), None);
    assert_eq!(unchanged(&batch, 3), Some(vec!["more".to_owned()]));
    assert_eq!((text(&batch, &doc, 1), text(&batch, &doc, 3)), (None, Some(String::new())));
}

/// T10, T24
#[test]
fn t10_t24_an_old_value_fills_and_an_old_null_does_not() {
    let plan = plan_of(&[("id", INT4), ("a", TEXT), ("b", TEXT), ("c", TEXT), ("d", TEXT)]);
    let new = TupleBuilder::new().text("1").unchanged().unchanged().unchanged().null();
    let old = TupleBuilder::new().text("9").text("old").null().unchanged().text("was");
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let image = Image::Row { tuple: new.tuple(), fill: Some(OldTuple::Key(old.tuple())) };
    builder.append(&STAMP, &change(&plan, Op::Update, 1, image)).unwrap();
    let batch = builder.finish().unwrap();
    assert_eq!(batch.column_by_name("id").unwrap().as_primitive::<Int32Type>().value(0), 1);
    assert_eq!(text(&batch, "a", 0).as_deref(), Some("old"));
    assert_eq!((text(&batch, "b", 0), text(&batch, "c", 0), text(&batch, "d", 0)), (None, None, None));
    assert_eq!(unchanged(&batch, 0), Some(vec!["b".to_owned(), "c".to_owned()]));
}

#[test]
fn what_does_not_fit_is_kept_as_text() {
    let plan = plan_of(&[
        ("id", INT4),
        ("Day Off", DATE),
        ("note", TEXT),
        ("days", DATE_ARRAY),
        ("tags", TEXT_ARRAY),
    ]);
    let infinity = i32::MAX.to_be_bytes();
    let rows = [
        TupleBuilder::new()
            .text("1")
            .text("0044-03-15 BC")
            .text(b"a\\b\xe9\xff")
            .text("{infinity,NULL}")
            .text("[0:0]={x}"),
        TupleBuilder::new().text("2").text("2026-08-01").text("\\").text("{}").text(r#"{{"a\\",NULL}}"#),
        TupleBuilder::new().text("3").binary(infinity).binary("caf\u{e9}").null().text(b"{caf\xe9}"),
    ];
    let batch = batch_of(&plan, &rows);
    let day = plan.schema.columns[1].name.as_str();
    let expected = [
        (day, "0044-03-15 BC"),
        ("note", r"a\\b\xe9\xff"),
        ("days", "{infinity,NULL}"),
        ("tags", "[0:0]={x}"),
    ];
    assert_eq!(raw(&batch, 0), pairs(&expected));
    assert_eq!(raw(&batch, 1), pairs(&[("tags", r#"{{"a\\",NULL}}"#)]));
    assert_eq!(raw(&batch, 2), pairs(&[(day, "infinity"), ("tags", r"{caf\xe9}")]));
    let days = batch.column_by_name(day).unwrap().as_primitive::<Date32Type>();
    assert_eq!((days.value(0), days.value(2)), (-719_162, 2_932_896));
    assert_eq!((text(&batch, "note", 0), text(&batch, "note", 1).as_deref()), (None, Some("\\")));
}

#[test]
fn growth_is_counted_for_every_row() {
    let plan = plan_of(&[("id", INT4), ("note", TEXT), ("day", DATE)]);
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let mut sum = 0;
    for number in 0..1000 {
        let note = "x".repeat(number % 50);
        let tuple = TupleBuilder::new().text(number.to_string()).text(note).text("infinity");
        let appended = builder.append(&STAMP, &change(&plan, Op::Insert, 1, row(&tuple))).unwrap();
        assert_eq!(appended.raw_cells, 1);
        sum += appended.bytes;
        assert_eq!(builder.bytes(), sum);
    }
    let batch = builder.finish().unwrap();
    let held: usize =
        batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap()).sum();
    assert!((held..held * 5 / 4).contains(&sum), "{sum} counted, {held} held");
}

/// Room is neither unknown to the memory budget, nor another type, nor a row.
#[test]
fn a_full_batch_leaves_counted_room_for_another() {
    let plan = plan_of(&[
        ("id", INT4),
        ("note", TEXT),
        ("day", DATE),
        ("at", TIMESTAMPTZ),
        ("amount", NUMERIC),
        ("raw", BYTEA),
        ("rate", FLOAT4),
    ]);
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let fill = |builder: &mut BatchBuilder| {
        for number in 0..1_000 {
            let note = "x".repeat(number % 50);
            let day = if number == 500 { "infinity" } else { "2026-11-30" };
            let tuple = TupleBuilder::new().text(number.to_string()).text(note).text(day);
            let tuple = tuple.text("2026-11-30 12:00:00+00").text("1.5").text("\\x00ff").text("0.5");
            builder.append(&STAMP, &change(&plan, Op::Insert, 1, row(&tuple))).unwrap();
        }
    };
    fill(&mut builder);
    let bytes = builder.bytes();
    assert_eq!(builder.held_bytes(), bytes);
    let first = builder.finish_full().unwrap();
    assert_eq!((builder.rows(), builder.bytes(), builder.lsn_range()), (0, 0, None));
    assert!((bytes..bytes * 5 / 4).contains(&builder.held_bytes()), "{bytes}, {}", builder.held_bytes());
    fill(&mut builder);
    assert!(builder.held_bytes() >= builder.bytes());
    assert_eq!(builder.finish_full().unwrap(), first);
    fill(&mut builder);
    assert_eq!(builder.finish().unwrap(), first);
    assert_eq!(builder.held_bytes(), 0);
}

#[test]
fn columns_that_a_leaf_lacks_read_null() {
    let plan = plan_of(&[("id", INT4), ("note", TEXT), ("day", DATE)]);
    let leaf = plan_of_leaf(&plan, vec![2, 0]);
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let tuple = TupleBuilder::new().text("1970-01-02").text("5");
    builder.append(&STAMP, &change(&leaf, Op::Insert, 1, row(&tuple))).unwrap();
    let batch = builder.finish().unwrap();
    assert_eq!(batch.column_by_name("id").unwrap().as_primitive::<Int32Type>().value(0), 5);
    assert_eq!(batch.column_by_name("day").unwrap().as_primitive::<Date32Type>().value(0), 1);
    assert_eq!(text(&batch, "note", 0), None);
}

#[test]
fn columns_that_a_leaf_has_by_its_name_read_the_same_in_all_rows() {
    let plan = plan_of(&[("number", TEXT), ("id", INT4), ("note", TEXT)]);
    let leaf = plan_of_leaf(&plan, vec![1]);
    assert_eq!(leaf.absent, [(0, None), (2, None)]);
    let leaf = plan_with(leaf, |landing| landing.absent = vec![(0, Some("7".into())), (2, None)]);
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let tuple = TupleBuilder::new().text("5");
    let bytes = builder.append(&STAMP, &change(&leaf, Op::Insert, 1, row(&tuple))).unwrap().bytes;
    let old = Image::Old(OldTuple::Key(tuple.tuple()));
    builder.append(&STAMP, &change(&leaf, Op::Delete, 2, old)).unwrap();
    builder.append(&STAMP, &change(&leaf, Op::Truncate, 3, Image::Empty)).unwrap();
    assert!(builder.bytes() > bytes);
    let batch = builder.finish().unwrap();
    let numbers = [0, 1, 2].map(|at| text(&batch, "number", at));
    assert_eq!(numbers, [Some("7".to_owned()), Some("7".to_owned()), None]);
    assert_eq!(text(&batch, "note", 0), None);
}

fn check_refused(plan: &Plan, batch_plan: &Plan, tuple: &TupleBuilder, message: &str) {
    let mut builder = BatchBuilder::new(Arc::clone(&batch_plan.schema));
    let change = change(plan, Op::Insert, 1, row(tuple));
    let error = builder.append(&STAMP, &change).unwrap_err();
    assert_eq!(error.to_string(), message);
    assert!(matches!(builder.append(&STAMP, &change), Err(CellError::Broken)));
    assert!(matches!(builder.finish(), Err(CellError::Broken)));
}

#[test]
fn errors_name_everything_but_the_value() {
    let plan = plan_of(&[("id", INT4), ("note", REGCLASS)]);
    let check = |tuple: TupleBuilder, message: &str| check_refused(&plan, &plan, &tuple, message);
    let builder = TupleBuilder::new;
    check(builder().text("secret").null(), "public.orders_1.id: text of 6 bytes is not a int4");
    check(builder().binary([1, 2, 3]).null(), "public.orders_1.id: binary of 3 bytes is not a int4");
    check(
        builder().null().binary([0; 16]),
        "public.orders_1.note: binary of 16 bytes, but regclass is read as text only",
    );
    check(builder().text("1"), "public.orders_1: 1 cells in a row that is planned for 2");
    let narrow = plan_with(plan.clone(), |landing| {
        (landing.columns, landing.absent) = (vec![7], vec![(0, None)]);
    });
    check_refused(
        &narrow,
        &plan,
        &builder().text("1"),
        "public.orders_1: planned for column 7, which the schema does not have",
    );
    let newer = plan_with(plan.clone(), |landing| Arc::make_mut(&mut landing.schema).id = 2);
    check_refused(
        &newer,
        &plan,
        &builder().null().null(),
        "public.orders_1: planned for schema 2, but the batch has schema 1",
    );
}

#[test]
fn a_schema_at_odds_with_itself_is_refused() {
    let plan = plan_of(&[("id", INT4)]);
    let mut schema = (*plan.schema).clone();
    schema.columns[0].lake = LakeType::Utf8;
    let mut builder = BatchBuilder::new(Arc::new(schema.clone()));
    builder.append(&STAMP, &change(&plan, Op::Insert, 1, Image::Empty)).unwrap();
    assert!(matches!(builder.finish(), Err(CellError::Arrow(_))));
    schema.columns[0].codec = Codec::Array(Box::new(Codec::Int4));
    let mut builder = BatchBuilder::new(Arc::new(schema));
    builder.append(&STAMP, &change(&plan, Op::Insert, 1, Image::Empty)).unwrap();
    assert!(builder.finish().is_err());
}

#[test]
fn a_table_without_columns() {
    let plan = plan_of(&[]);
    let batch = batch_of(&plan, &[TupleBuilder::new(), TupleBuilder::new()]);
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, 8));
}

/// One column of every lake type, by an OID of a built-in type.
const ONE_OF_EACH: [(&str, u32, &str); 20] = [
    ("bool", 16, "t"),
    ("bytea", 17, "\\x00ff"),
    ("int8", 20, "-1"),
    ("int2", 21, "1"),
    ("int4", 23, "2"),
    ("oid", 26, "4294967295"),
    ("json", 114, "{}"),
    ("float4", 700, "1.5"),
    ("float8", 701, "NaN"),
    ("date", 1082, "2026-08-01"),
    ("time", 1083, "12:00:00"),
    ("timestamp", 1114, "2026-08-01 12:00:00"),
    ("timestamptz", 1184, "infinity"),
    ("interval", 1186, "1 day"),
    ("numeric", 1700, "1.10"),
    ("uuid", 2950, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("text[]", 1009, "{a,NULL}"),
    ("timestamptz[]", 1185, "{}"),
    ("bytea[]", 1001, "{\"\\\\x00\"}"),
    ("float8[]", 1022, "{{1}}"),
];

#[test]
fn the_parquet_writer_takes_every_type() {
    let plan = plan_with(plan_of(&ONE_OF_EACH.map(|(name, oid, _)| (name, oid))), |landing| {
        let schema = Arc::make_mut(&mut landing.schema);
        for (precision, scale) in [(9, 2), (18, 0), (38, 38)] {
            let codec = Codec::Decimal { precision, scale };
            let (name, lake) = (format!("d{precision}"), codec.lake());
            schema.columns.push(Column { name, lake, codec, ..schema.columns[0].clone() });
            landing.columns.push(u32::try_from(landing.columns.len()).unwrap());
        }
    });
    let row = ONE_OF_EACH.iter().fold(TupleBuilder::new(), |row, (_, _, text)| row.text(text));
    let rows = [
        row.text("0").text("0").text("0"),
        plan.columns.iter().fold(TupleBuilder::new(), |row, _| row.null()),
    ];
    let batch = batch_of(&plan, &rows);
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let metadata = writer.finish().unwrap();
    assert_eq!(metadata.file_metadata().num_rows(), 2);
    let root = metadata.file_metadata().schema_descr().root_schema();
    let id = |name: &str| {
        let field = root.get_fields().iter().find(|field| field.name() == name).unwrap();
        field.get_basic_info().has_id().then(|| field.get_basic_info().id())
    };
    assert_eq!((id("_cdc_op"), id("_cdc_unchanged"), id("_cdc_raw")), (Some(1), Some(7), Some(8)));
    assert_eq!((id("bool"), id("text[]")), (Some(100), Some(116)));
    let paths = metadata.file_metadata().schema_descr();
    let paths: Vec<String> = paths.columns().iter().map(|column| column.path().string()).collect();
    for path in [
        "_cdc_unchanged.list.element",
        "_cdc_raw.key_value.key",
        "_cdc_raw.key_value.value",
        "text[].list.element",
    ] {
        assert!(paths.iter().any(|there| there == path), "{path} in {paths:?}");
    }
}

/// A plan with the columns of these types in these forms.
fn plan_of_forms(columns: &[(&str, Codec, &str)]) -> Plan {
    let spec = |(name, codec, form): &(&str, Codec, &str)| ColumnSpec {
        name: (*name).to_owned(),
        type_oid: Oid(0),
        type_modifier: -1,
        resolved: Resolved::new(codec.in_form(form.parse().unwrap()).unwrap(), (*name).to_owned()),
    };
    let specs: Vec<ColumnSpec> = columns.iter().map(spec).collect();
    let schema = Arc::new(TableSchema::new(&specs, vec![]));
    let columns = (0..).take(columns.len()).collect();
    Plan::new("public.t", Landing { schema, columns, absent: vec![], key: vec![0], old_is_whole: true })
}

/// Every field of a written file with its id, what marks it, and how often it may be there.
fn fields_of(field: &Type, depth: usize, lines: &mut Vec<String>) {
    let basic = field.get_basic_info();
    let id = if basic.has_id() { format!(" {}", basic.id()) } else { String::new() };
    let mark = basic.logical_type_ref().map(|mark| format!(" {mark:?}")).unwrap_or_default();
    let physical =
        if field.is_primitive() { format!(" {:?}", field.get_physical_type()) } else { String::new() };
    let repetition = if basic.repetition() == Repetition::REPEATED { " repeated" } else { "" };
    lines.push(format!("{}{}{id}{physical}{mark}{repetition}", "  ".repeat(depth), basic.name()));
    if field.is_group() {
        field.get_fields().iter().for_each(|field| fields_of(field, depth + 1, lines));
    }
}

#[test]
fn forms_have_ids_and_annotations_in_parquet() {
    let field = |name: &str, codec| RecordField {
        source_name: name.to_owned(),
        name: name.to_owned(),
        type_oid: Oid(23),
        codec,
    };
    let tags = Codec::Array(Box::new(Codec::Text));
    let pair = Codec::Record(vec![field("a", Codec::Int4), field("tags", tags), field("b", Codec::Int4)]);
    let columns = [
        ("uuid", Codec::Uuid, "native", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (
            "uuids",
            Codec::Array(Box::new(Codec::Uuid)),
            "native",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}",
        ),
        ("bytes", Codec::Uuid, "binary", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("doc", Codec::Jsonb, "json", "{}"),
        ("at", Codec::Time, "time", "12:00:00"),
        ("pair", pair, "struct", "(1,\"{x,y}\",2)"),
        ("store", Codec::Hstore, "map", "\"a\"=>NULL"),
        ("ranges", Codec::Multirange(Box::new(Codec::Int4)), "list<struct>", "{[1,3)}"),
        ("wait", Codec::Interval, "struct", "1 mon"),
    ];
    let plan = plan_of_forms(&columns.clone().map(|(name, codec, form, _)| (name, codec, form)));
    let row = columns.iter().fold(TupleBuilder::new(), |row, (_, _, _, text)| row.text(text));
    let nulls = columns.iter().fold(TupleBuilder::new(), |row, _| row.null());
    let batch = batch_of(&plan, &[row, nulls]);
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let file = writer.into_inner().unwrap();
    let read = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    let mut lines = Vec::new();
    let root = read.parquet_schema().root_schema_ptr();
    root.get_fields().iter().skip(8).for_each(|field| fields_of(field, 0, &mut lines));
    let expected = "uuid 100 FIXED_LEN_BYTE_ARRAY Uuid
uuids 101 List
  list repeated
    element 109 FIXED_LEN_BYTE_ARRAY Uuid
bytes 102 FIXED_LEN_BYTE_ARRAY
doc 103 BYTE_ARRAY Json
at 104 INT64 Time(TimestampType { is_adjusted_to_u_t_c: false, unit: MICROS })
pair 105
  a 110 INT32
  tags 111 List
    list repeated
      element 113 BYTE_ARRAY String
  b 112 INT32
store 106 Map
  key_value repeated
    key 114 BYTE_ARRAY String
    value 115 BYTE_ARRAY String
ranges 107 List
  list repeated
    element 116
      lower 117 INT32
      upper 118 INT32
      lower_inc 119 BOOLEAN
      upper_inc 120 BOOLEAN
      empty 121 BOOLEAN
wait 108
  months 122 INT32
  days 123 INT32
  micros 124 INT64";
    assert_eq!(lines.join("\n"), expected);
    let batches: Vec<RecordBatch> = read.build().unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(batches[0].num_rows(), 2);
    for (name, ..) in &columns {
        let (written, read) = (batch.column_by_name(name).unwrap(), batches[0].column_by_name(name).unwrap());
        assert!(!read.is_null(0) && read.is_null(1), "{name}");
        assert_eq!(format!("{written:?}"), format!("{read:?}"), "{name}");
    }
}

#[test]
fn losses_are_counted_by_column_and_reason() {
    let plan = plan_of(&[("id", INT4), ("day", DATE), ("days", DATE_ARRAY)]);
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    for (day, days) in
        [("infinity", "{}"), ("10000-01-01", "{{2026-08-01}}"), ("-infinity", "[0:0]={infinity}")]
    {
        let tuple = TupleBuilder::new().text("1").text(day).text(days);
        builder.append(&STAMP, &change(&plan, Op::Insert, 1, row(&tuple))).unwrap();
    }
    let lossy = |column, loss, cells| Lossy { column, loss, cells };
    let expected = [
        lossy(1, Loss::Infinity, 2),
        lossy(1, Loss::OutOfRange, 1),
        lossy(2, Loss::NestedArray, 1),
        lossy(2, Loss::LowerBound, 1),
    ];
    assert_eq!(builder.take_losses(), expected);
    assert!(builder.take_losses().is_empty());
}

#[test]
fn a_loss_that_is_not_wanted_is_an_error_without_the_value() {
    let plan = plan_of(&[("id", INT4), ("day", DATE)]);
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    builder.refuse_loss();
    let tuple = TupleBuilder::new().text("1").text("infinity");
    let error = builder.append(&STAMP, &change(&plan, Op::Insert, 1, row(&tuple))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "public.orders_1.day: the lake type of date does not hold a value (infinity; text of 8 bytes)"
    );
    // The same for one column, by its form.
    let plan = plan_of_forms(&[("day", Codec::Date, "error")]);
    let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
    let tuple = TupleBuilder::new().text("-infinity");
    let refused = builder.append(&STAMP, &change(&plan, Op::Insert, 1, row(&tuple)));
    assert!(matches!(refused, Err(CellError::Unrepresentable { loss: Loss::Infinity, .. })));
}

#[test]
fn raw_text_is_that_of_the_whole_cell() {
    let range = Codec::Range(Box::new(Codec::Date));
    let plan = plan_of_forms(&[("during", range, "struct")]);
    let text_row = TupleBuilder::new().text("[2026-08-01,infinity)");
    let mut bytes = vec![2, 0, 0, 0, 4];
    bytes.extend(9709_i32.to_be_bytes());
    bytes.extend([0, 0, 0, 4]);
    bytes.extend(i32::MAX.to_be_bytes());
    let batch = batch_of(&plan, &[text_row, TupleBuilder::new().binary(bytes)]);
    for place in 0..2 {
        assert_eq!(raw(&batch, place), pairs(&[("during", "[2026-08-01,infinity)")]));
    }
}

proptest! {
    /// Whatever the cells, a NULL is Postgres's own, or named, or beside its text.
    #[test]
    fn no_null_is_silent(
        cells in prop::collection::vec((0..4_u8, prop::collection::vec(any::<u8>(), 0..12)), ONE_OF_EACH.len()),
        plain in prop::collection::vec(any::<bool>(), ONE_OF_EACH.len()),
    ) {
        let plan = plan_of(&ONE_OF_EACH.map(|(name, oid, _)| (name, oid)));
        let mut tuple = TupleBuilder::new();
        for (((kind, bytes), plain), (_, _, text)) in cells.iter().zip(&plain).zip(&ONE_OF_EACH) {
            tuple = match (kind, plain) {
                (0, _) => tuple.null(),
                (1, _) => tuple.unchanged(),
                (_, true) => tuple.text(text),
                (2, false) => tuple.text(bytes),
                (_, false) => tuple.binary(bytes),
            };
        }
        let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
        if builder.append(&STAMP, &change(&plan, Op::Insert, 1, row(&tuple))).is_ok() {
            let batch = builder.finish().unwrap();
            let (unchanged, raw) = (unchanged(&batch, 0).unwrap_or_default(), raw(&batch, 0).unwrap_or_default());
            for ((kind, _), (name, _, _)) in cells.iter().zip(&ONE_OF_EACH) {
                let is_null = batch.column_by_name(name).unwrap().is_null(0);
                let is_named = unchanged.iter().any(|unchanged| unchanged == name);
                let is_raw = raw.iter().any(|(key, _)| key == name);
                prop_assert_eq!(*kind == 1, is_named);
                prop_assert_eq!(is_null, *kind == 0 || is_named || (is_raw && is_null));
            }
        }
    }
}
