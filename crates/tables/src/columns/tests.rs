use std::collections::HashMap;

use arrow::array::{
    Array, AsArray, Date32Array, Decimal128Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Date32Type, Decimal128Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use pgoutput::{Cell, Oid};
use proptest::prelude::*;

use super::*;
use crate::schema::{ColumnSpec, TableSchema};
use crate::text::{DAY_MAX, DAY_MIN, MICROS_MAX, MICROS_MIN};
use crate::types::{RecordField, TypeCatalog};

fn column_of(codec: &Codec) -> ColumnBuilder {
    let resolved = crate::types::Resolved::new(codec.clone(), String::new());
    let spec = ColumnSpec { name: "c".to_owned(), type_oid: Oid(0), type_modifier: -1, resolved };
    let schema = TableSchema::new(&[spec], vec![]).arrow();
    ColumnBuilder::new(codec, schema.field(8).data_type())
}

/// A column of one cell, and whether it landed exactly.
fn land(codec: &Codec, cell: Cell<'_>) -> Result<(ArrayRef, bool), Refusal> {
    let mut column = column_of(codec);
    let landed = match cell {
        Cell::Text(text) => column.text(text)?,
        Cell::Binary(bytes) => column.binary(bytes)?,
        Cell::Null | Cell::Unchanged => panic!("no value"),
    };
    let array = column.finish().unwrap();
    assert_eq!(array.len(), 1);
    Ok((array, landed.loss.is_none()))
}

fn land_text(codec: &Codec, text: &str) -> (ArrayRef, bool) {
    land(codec, Cell::Text(text.as_bytes())).unwrap_or_else(|refusal| panic!("{codec:?} {text}: {refusal:?}"))
}

fn list(codec: Codec) -> Codec {
    Codec::Array(Box::new(codec))
}

/// The value that a column holds for a text.
fn text_of(codec: &Codec, text: &str) -> String {
    let (array, is_exact) = land_text(codec, text);
    assert!(is_exact, "{text}");
    array.as_string::<i32>().value(0).to_owned()
}

#[test]
fn texts_stay_as_they_are() {
    // T98: json is not written anew.
    for codec in [Codec::Text, Codec::Json, Codec::Jsonb, Codec::Enum, Codec::Other] {
        assert_eq!(text_of(&codec, "{\"b\": 1,  \"a\": \"\\u0000\"}"), "{\"b\": 1,  \"a\": \"\\u0000\"}");
    }
    let numerics = ["1.10", "NaN", "-Infinity", "0.00", "123456789012345678901234567890123456789012.5"];
    for text in numerics {
        assert_eq!(text_of(&Codec::NumericText, text), text);
    }
    assert_eq!(text_of(&Codec::Time, "24:00:00"), "24:00:00.000000");
    assert_eq!(
        text_of(&Codec::Uuid, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    );
    // Labels may be added at any time (T42).
    assert_eq!(text_of(&Codec::Enum, "new"), "new");
}

/// T94
#[test]
fn t94_bytes_that_are_no_text() {
    for codec in [Codec::Text, Codec::Json, Codec::Jsonb, Codec::Enum, Codec::Other] {
        let (array, is_exact) = land(&codec, Cell::Text(b"caf\xe9")).unwrap();
        assert!(array.is_null(0) && !is_exact);
    }
    let (array, is_exact) = land(&list(Codec::Text), Cell::Text(b"{a,caf\xe9}")).unwrap();
    let element = array.as_list::<i32>().value(0);
    assert_eq!(element.as_ref(), &StringArray::from(vec![Some("a"), None]));
    assert!(!is_exact);
}

/// T91
#[test]
fn t91_decimals() {
    let codec = Codec::Decimal { precision: 10, scale: 2 };
    for (text, value) in [("12.30", Some(1230)), ("NaN", None), ("0.001", None), ("100000000.00", None)] {
        let (array, is_exact) = land_text(&codec, text);
        let expected = Decimal128Array::from(vec![value]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(array.as_primitive::<Decimal128Type>(), &expected);
        assert_eq!(is_exact, value.is_some(), "{text}");
    }
}

/// T88, T89
#[test]
fn t88_t89_what_is_out_of_range_is_clamped() {
    let dates =
        [("infinity", DAY_MAX, false), ("0044-03-15 BC", DAY_MIN, false), ("9999-12-31", DAY_MAX, true)];
    for (text, value, expected) in dates {
        let (array, is_exact) = land_text(&Codec::Date, text);
        assert_eq!(array.as_primitive::<Date32Type>(), &Date32Array::from(vec![value]));
        assert_eq!(is_exact, expected, "{text}");
    }
    let instants = [
        ("-infinity", MICROS_MIN, false),
        ("294276-12-31 23:59:59.999999+00", MICROS_MAX, false),
        ("0001-01-01 00:00:00+00", MICROS_MIN, true),
        ("1970-01-01 00:00:00.000001+00", 1, true),
    ];
    for (text, value, expected) in instants {
        let (array, is_exact) = land_text(&Codec::Timestamptz, text);
        let instant = TimestampMicrosecondArray::from(vec![value]).with_timezone(UTC);
        assert_eq!(array.as_primitive::<TimestampMicrosecondType>(), &instant);
        assert_eq!(is_exact, expected, "{text}");
    }
}

/// T93
#[test]
fn t93_bytea() {
    let (array, _) = land_text(&Codec::Bytea, "\\x00ffAb");
    assert_eq!(array.as_binary::<i32>().value(0), [0, 0xFF, 0xAB]);
    let long = "\\x".to_owned() + &"5a".repeat(1000);
    assert_eq!(land_text(&Codec::Bytea, &long).0.as_binary::<i32>().value(0), [0x5A; 1000]);
    assert!(land_text(&Codec::Bytea, "\\x").0.as_binary::<i32>().value(0).is_empty());
    for text in [b"".as_slice(), b"\\x0", b"\\x0g", b"abc", b"\\000", b"\\X00", "\\xü0".as_bytes()] {
        assert_eq!(land(&Codec::Bytea, Cell::Text(text)), Err(Refusal::Malformed));
    }
}

/// T95
#[test]
fn t95_lists() {
    let ints = |text: &str| {
        let (array, is_exact) = land_text(&list(Codec::Int4), text);
        let lists = array.as_list::<i32>();
        let values = (!lists.is_null(0)).then(|| {
            let list = lists.value(0);
            list.as_any().downcast_ref::<Int32Array>().unwrap().iter().collect::<Vec<_>>()
        });
        (values, is_exact)
    };
    assert_eq!(ints("{}"), (Some(vec![]), true));
    assert_eq!(ints("{1,NULL,-3}"), (Some(vec![Some(1), None, Some(-3)]), true));
    assert_eq!(ints("[0:1]={1,2}"), (Some(vec![Some(1), Some(2)]), false));
    assert_eq!(ints("{{1,2},{3,4}}"), (None, false));
    let (array, is_exact) = land_text(&list(Codec::Date), "{2026-08-01,infinity,NULL}");
    let days = array.as_list::<i32>().value(0);
    assert_eq!(days.as_ref(), &Date32Array::from(vec![Some(20_666), Some(DAY_MAX), None]));
    assert!(!is_exact);
}

#[test]
fn lists_of_many_rows() {
    let mut column = column_of(&list(Codec::Text));
    let rows = ["{a,b}", "{}", "{NULL}", "{{x}}", "{c}"];
    for (place, text) in rows.iter().enumerate() {
        if place == 2 {
            column.null();
        }
        column.text(text.as_bytes()).unwrap();
    }
    for _ in 0..2 {
        let array = column.finish().unwrap();
        let lists = array.as_list::<i32>();
        let shape: Vec<Option<Vec<Option<String>>>> = lists
            .iter()
            .map(|list| {
                list.map(|list| list.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
            })
            .collect();
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            Some(vec![text("a"), text("b")]),
            Some(vec![]),
            None,
            Some(vec![None]),
            None,
            Some(vec![text("c")]),
        ];
        assert_eq!(shape, expected);
        // A finished builder starts anew.
        column.text(b"{a,b}").unwrap();
        column.text(b"{}").unwrap();
        column.null();
        column.text(b"{NULL}").unwrap();
        column.null();
        column.text(b"{c}").unwrap();
    }
}

/// T13
#[test]
fn t13_types_without_a_binary_reader_take_text() {
    assert_eq!(land(&Codec::Other, Cell::Binary(b"x")), Err(Refusal::NoBinaryReader));
    let mut array = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    array.extend([0, 0, 0, 1, b'x']);
    assert_eq!(land(&list(Codec::Other), Cell::Binary(&array)), Err(Refusal::NoBinaryReader));
    assert_eq!(text_of(&Codec::Other, "1 year 2 mons"), "1 year 2 mons");
}

/// T94, T97
#[test]
fn t94_binary_that_only_the_text_explains() {
    // What a byte beyond ASCII prints as depends on the server's version.
    assert_eq!(land(&Codec::Char, Cell::Binary(&[0xE9])), Err(Refusal::NoBinaryReader));
    assert_eq!(text_of(&Codec::Char, "\\351"), "\\351");
    let (array, is_exact) = land(&Codec::Char, Cell::Text(&[0xE9])).unwrap();
    assert!(array.is_null(0) && !is_exact);
    // A database of LATIN1 announces one byte for an é and sends two.
    let hstore = [0, 0, 0, 1, 0, 0, 0, 1, 0xC3, 0xA9, 0xFF, 0xFF, 0xFF, 0xFF];
    for form in ["map", "string", "json"] {
        let land = land(&in_form(&Codec::Hstore, form), Cell::Binary(&hstore));
        assert_eq!(land, Err(Refusal::NoBinaryReader), "{form}");
    }
    assert!(list(Codec::Hstore).is_sent_unconverted());
}

#[test]
fn widened_columns_read_the_narrower_type() {
    let (array, _) = land(&Codec::Int8, Cell::Binary(&7_i32.to_be_bytes())).unwrap();
    assert_eq!(array.as_any().downcast_ref::<Int64Array>().unwrap().value(0), 7);
    // An unsigned one is not a narrower signed one.
    assert_eq!(land(&Codec::Oid, Cell::Binary(&[0, 1])), Err(Refusal::Malformed));
    let (array, _) = land(&Codec::Oid, Cell::Binary(&[0xFF; 4])).unwrap();
    assert_eq!(array.as_any().downcast_ref::<Int64Array>().unwrap().value(0), 4_294_967_295);
}

fn in_form(codec: &Codec, form: &str) -> Codec {
    codec.in_form(form.parse().unwrap()).unwrap_or_else(|| panic!("{codec:?} has no form {form}"))
}

/// What a text becomes in a form: the value as Arrow prints it, and what was lost.
fn shown(codec: &Codec, form: &str, text: &str) -> (String, Option<Loss>) {
    let mut column = column_of(&in_form(codec, form));
    let landed = column.text(text.as_bytes()).unwrap_or_else(|refusal| panic!("{form} {text}: {refusal:?}"));
    let array = column.finish().unwrap();
    let options = FormatOptions::new().with_null("NULL");
    let shown = ArrayFormatter::try_new(array.as_ref(), &options).unwrap().value(0).to_string();
    (shown, landed.loss)
}

#[track_caller]
fn check_form(codec: &Codec, form: &str, text: &str, expected: &str, loss: Option<Loss>) {
    assert_eq!(shown(codec, form, text), (expected.to_owned(), loss), "{form} of {text}");
}

/// T91
#[test]
fn t91_numerics_in_other_forms() {
    let numeric = Codec::NumericText;
    check_form(&numeric, "double", "0.1", "0.1", None);
    check_form(&numeric, "double", "-12300.00", "-12300.0", None);
    check_form(&numeric, "double", "9007199254740993", "9007199254740992.0", Some(Loss::Precision));
    check_form(&numeric, "double", "0.1000000000000000000001", "0.1", Some(Loss::Precision));
    check_form(&numeric, "double", "NaN", "NaN", None);
    check_form(&numeric, "double", &format!("1{}", "0".repeat(400)), "NULL", Some(Loss::OutOfRange));
    check_form(&numeric, "double", &format!("0.{}1", "0".repeat(400)), "0.0", Some(Loss::Precision));
    check_form(&numeric, "decimal(10,2)", "1.5", "1.50", None);
    check_form(&numeric, "decimal(10,2)", "1.555", "NULL", Some(Loss::Precision));
    check_form(&numeric, "decimal(10,2)", "123456789.00", "NULL", Some(Loss::OutOfRange));
    check_form(&numeric, "decimal(10,2)", "NaN", "NULL", Some(Loss::NotANumber));
    check_form(&numeric, "decimal(10,2)", "-Infinity", "NULL", Some(Loss::Infinity));
    check_form(&Codec::Decimal { precision: 10, scale: 2 }, "string", "1.50", "1.50", None);
    check_form(&Codec::Money, "decimal(19,2)", "-$1,234.56", "-1234.56", None);
    check_form(&Codec::Xid8, "decimal(20,0)", "18446744073709551615", "18446744073709551615", None);
    check_form(&Codec::PgLsn, "long", "16/B374D848", "97500059720", None);
    check_form(&Codec::PgLsn, "long", "FFFFFFFF/0", "NULL", Some(Loss::OutOfRange));
}

/// T88
#[test]
fn t88_dates_and_times_in_other_forms() {
    check_form(&Codec::Date, "null", "infinity", "NULL", Some(Loss::Infinity));
    check_form(&Codec::Date, "null", "2026-08-01", "2026-08-01", None);
    check_form(&Codec::Timestamp, "null", "294276-01-01 00:00:00", "NULL", Some(Loss::OutOfRange));
    check_form(&Codec::Date, "string", "0044-03-15 BC", "0044-03-15 BC", None);
    let refuses = land(&in_form(&Codec::Date, "error"), Cell::Text(b"infinity"));
    assert_eq!(refuses, Err(Refusal::Unrepresentable(Loss::Infinity)));
    check_form(&Codec::Time, "time", "12:34:56.5", "12:34:56.500", None);
    check_form(&Codec::Time, "time", "24:00:00", "23:59:59.999999", Some(Loss::OutOfRange));
    check_form(&Codec::Time, "micros", "24:00:00", "86400000000", None);
    let interval = "1 year 2 mons -3 days +04:05:06.789";
    check_form(&Codec::Interval, "struct", interval, "{months: 14, days: -3, micros: 14706789000}", None);
    check_form(&Codec::Interval, "struct", "infinity", "NULL", Some(Loss::Infinity));
    check_form(&Codec::Interval, "iso8601", interval, "P1Y2M-3DT4H5M6.789S", None);
}

#[test]
fn bytes_in_other_forms() {
    check_form(&Codec::Bytea, "base64", "\\x", "", None);
    check_form(&Codec::Bytea, "base64", "\\x00", "AA==", None);
    check_form(&Codec::Bytea, "base64", "\\x00ff", "AP8=", None);
    check_form(&Codec::Bytea, "base64", "\\xfbff00", "+/8A", None);
    let long = format!("\\x{}", "666f6f626172".repeat(20));
    check_form(&Codec::Bytea, "base64", &long, &"Zm9vYmFy".repeat(20), None);
    check_form(&Codec::Bit, "binary", "101", "a0", None);
    check_form(&Codec::Varbit, "binary", "101", "a0", Some(Loss::BitWidth));
    check_form(&Codec::Varbit, "binary", "1010000000000001", "a001", None);
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    for form in ["native", "binary"] {
        check_form(&Codec::Uuid, form, uuid, "a0eebc999c0b4ef8bb6d6bb9bd380a11", None);
    }
    check_form(&Codec::Bpchar, "trim", "a b \t  ", "a b \t", None);
    let point = "0101000020E6100000000000000000F03F0000000000000040";
    let iso = "0101000000000000000000f03f0000000000000040";
    let geometry = |srid| Codec::Geometry { srid };
    check_form(&geometry(4326), "binary", point, iso, None);
    check_form(&geometry(0), "binary", point, iso, Some(Loss::Srid));
    check_form(&geometry(4326), "string", point, point, None);
}

#[test]
fn structs_maps_and_lists() {
    check_form(&Codec::Point, "struct", "(1,-2.5)", "{x: 1.0, y: -2.5}", None);
    let range = Codec::Range(Box::new(Codec::Int4));
    let fields = "lower_inc: true, upper_inc: false, empty: false";
    check_form(&range, "struct", "[1,5)", &format!("{{lower: 1, upper: 5, {fields}}}"), None);
    check_form(&range, "struct", "[1,)", &format!("{{lower: 1, upper: NULL, {fields}}}"), None);
    let empty = "{lower: NULL, upper: NULL, lower_inc: false, upper_inc: false, empty: true}";
    check_form(&range, "struct", "empty", empty, None);
    let days = Codec::Range(Box::new(Codec::Date));
    let clamped = format!("{{lower: 2026-08-01, upper: 9999-12-31, {fields}}}");
    check_form(&days, "struct", "[2026-08-01,infinity)", &clamped, Some(Loss::Infinity));
    let ranges = Codec::Multirange(Box::new(Codec::Int4));
    check_form(&ranges, "list<struct>", "{}", "[]", None);
    let one = format!("[{{lower: 1, upper: 3, {fields}}}]");
    check_form(&ranges, "list<struct>", "{[1,3)}", &one, None);
    check_form(&Codec::Hstore, "map", r#""a"=>"1", "b"=>NULL"#, "{a: 1, b: NULL}", None);
    check_form(&Codec::Hstore, "json", r#""a"=>"1", "b\"c"=>NULL"#, r#"{"a":"1","b\"c":null}"#, None);
    check_form(&Codec::Vector, "list", "[1,2.5]", "[1.0, 2.5]", None);
    check_form(&Codec::Sparsevec, "struct", "{1:0.5,3:2}/5", "{dim: 5, idx: [1, 3], val: [0.5, 2.0]}", None);
    check_form(&Codec::Sparsevec, "struct", "{}/5", "{dim: 5, idx: [], val: []}", None);
}

fn pair() -> Codec {
    let field = |name: &str, oid: u32, codec| RecordField {
        source_name: name.to_owned(),
        name: name.to_owned(),
        type_oid: Oid(oid),
        codec,
    };
    Codec::Record(vec![field("a", 23, Codec::Int4), field("b", 25, Codec::Text)])
}

/// T96
#[test]
fn t96_row_types() {
    check_form(&pair(), "string", r#"(1,"x y")"#, r#"(1,"x y")"#, None);
    check_form(&pair(), "struct", r#"(1,"x ""y""")"#, "{a: 1, b: x \"y\"}", None);
    check_form(&pair(), "struct", "(,)", "{a: NULL, b: NULL}", None);
    check_form(&pair(), "json", r#"(1,"x ""y""")"#, r#"{"a":1,"b":"x \"y\""}"#, None);
    // The type was altered since.
    check_form(&pair(), "struct", "(1,x,2)", "NULL", Some(Loss::Shape));
    check_form(&pair(), "json", "(1,x,2)", r#""(1,x,2)""#, Some(Loss::Shape));
    let altered = [0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7];
    for codec in [pair(), in_form(&pair(), "struct"), in_form(&pair(), "json"), list(pair())] {
        let bytes = match &codec {
            Codec::Array(_) => array_send(&[Some(altered.to_vec())], 1),
            _ => altered.to_vec(),
        };
        assert_eq!(land(&codec, Cell::Binary(&bytes)), Err(Refusal::NoBinaryReader));
    }
    // A row type with the fields of its text but another number of them lands as text all the same.
    assert_eq!(text_of(&pair(), "(1,x,2)"), "(1,x,2)");
}

/// T95
#[test]
fn t95_arrays_in_other_forms() {
    let ints = list(Codec::Int4);
    check_form(&ints, "json", "{}", "[]", None);
    check_form(&ints, "json", "{1,NULL,-3}", "[1,null,-3]", None);
    check_form(&ints, "json", "{{1,2},{3,4}}", "[[1,2],[3,4]]", None);
    check_form(&ints, "json", "[0:1]={1,2}", "[1,2]", Some(Loss::LowerBound));
    check_form(&ints, "string", "[0:1]={1,2}", "[0:1]={1,2}", None);
    check_form(
        &list(Codec::Text),
        "json",
        r#"{a,"NULL","x \"y\"",NULL}"#,
        r#"["a","NULL","x \"y\"",null]"#,
        None,
    );
    check_form(&list(Codec::Float8), "json", "{NaN,-0,1e+20}", r#"["NaN",-0,1e+20]"#, None);
    check_form(&list(Codec::Jsonb), "json", r#"{"{\"a\": 1}"}"#, r#"[{"a": 1}]"#, None);
    check_form(&list(pair()), "json", r#"{"(1,x)","(,)"}"#, r#"[{"a":1,"b":"x"},{"a":null,"b":null}]"#, None);
    check_form(&list(Codec::Box), "list", "{(1,1),(0,0);(2,2),(1,1)}", "[(1,1),(0,0), (2,2),(1,1)]", None);
    // A form that lists have not is one of their elements.
    check_form(
        &list(Codec::Date),
        "null",
        "{infinity,2026-08-01}",
        "[NULL, 2026-08-01]",
        Some(Loss::Infinity),
    );
    check_form(
        &list(Codec::Uuid),
        "native",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        "[a0eebc999c0b4ef8bb6d6bb9bd380a11]",
        None,
    );
}

#[test]
fn offsets_end_at_two_gibibytes() {
    let end = usize::try_from(i32::MAX).unwrap();
    assert_eq!(reserve(0, end), Ok(()));
    assert_eq!(reserve(1, end), Err(Refusal::Full));
    assert_eq!(reserve(usize::MAX, usize::MAX), Err(Refusal::Full));
}

/// The built-in types by their names.
fn type_names() -> HashMap<String, u32> {
    let catalog = TypeCatalog::default();
    (1..7000).map(|oid| (catalog.resolve(Oid(oid), -1).type_name, oid)).collect()
}

fn codec_named(names: &HashMap<String, u32>, name: &str) -> Codec {
    let (element, array) = name.strip_suffix("[]").map_or((name, ""), |element| (element, "[]"));
    let (base, modifiers) = element.split_once('(').unwrap_or((element, ""));
    let mut numbers =
        modifiers.trim_end_matches(')').split(',').filter_map(|number| number.parse::<i32>().ok());
    let modifier = match (numbers.next(), numbers.next()) {
        (Some(precision), Some(scale)) => ((precision << 16) | (scale & 0x7FF)) + 4,
        (Some(length), None) => length + 4,
        _ => -1,
    };
    TypeCatalog::default().resolve(Oid(names[&format!("{base}{array}")]), modifier).codec
}

/// Every line is a value as Postgres itself sends it in both formats.
#[test]
fn golden_values_are_the_same_in_both_formats() {
    let names = type_names();
    let mut count = 0;
    for line in include_str!("golden.tsv").lines().filter(|line| !line.starts_with('#')) {
        let [type_name, text, hex] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let text = text.replace("<TAB>", "\t").replace("<LF>", "\n").replace("<VT>", "\u{b}");
        let digits = hex.as_bytes().chunks(2).map(|digits| std::str::from_utf8(digits).unwrap());
        let bytes: Vec<u8> = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
        let codec = codec_named(&names, type_name);
        let from_text = land(&codec, Cell::Text(text.as_bytes()));
        let from_binary = land(&codec, Cell::Binary(&bytes));
        // Arrow compares floats by their bits, NaN with NaN.
        assert_eq!(from_text, from_binary, "{line}");
        assert!(from_text.is_ok(), "{line}");
        for form in codec.forms() {
            let codec = in_form(&codec, &form);
            let from_text = land(&codec, Cell::Text(text.as_bytes()));
            assert_eq!(from_text, land(&codec, Cell::Binary(&bytes)), "{form} {line}");
        }
        let mut rendered = Vec::new();
        binary::render(&codec, &bytes, &mut rendered).unwrap();
        assert_eq!(String::from_utf8(rendered).unwrap(), text, "{line}");
        count += 1;
    }
    assert!(count > 200);
}

/// The type of a line of `forms/goldens.tsv`; a row type is as its send form says.
fn golden_codec(names: &HashMap<String, u32>, name: &str, bytes: &[u8]) -> Codec {
    if let Some(element) = name.strip_suffix("[]").filter(|element| !names.contains_key(*element)) {
        let array = crate::binary::ArrayBinary::read(bytes).unwrap();
        let first = array.elements().unwrap().find_map(|element| element.unwrap());
        return list(first.map_or(Codec::Text, |first| golden_codec(names, element, first)));
    }
    match name {
        "pair" | "nested" | "lone" | "bare" => record_codec(bytes),
        "textrange" => Codec::Range(Box::new(Codec::Text)),
        "floatrange" => Codec::Range(Box::new(Codec::Float8)),
        "textmultirange" => Codec::Multirange(Box::new(Codec::Text)),
        _ => TypeCatalog::of_extension(name).unwrap_or_else(|| codec_named(names, name)),
    }
}

fn record_codec(bytes: &[u8]) -> Codec {
    let fields =
        crate::forms::records::fields_from_binary(bytes).unwrap().enumerate().map(|(place, field)| {
            let field = field.unwrap();
            let codec = match field.type_oid.0 {
                oid @ ..16384 => TypeCatalog::default().resolve(Oid(oid), -1).codec,
                _ => field.value.map_or(Codec::Other, record_codec),
            };
            let name = format!("f{place}");
            RecordField { source_name: name.clone(), name, type_oid: field.type_oid, codec }
        });
    Codec::Record(fields.collect())
}

/// T13, T14: Every line is a value as Postgres itself sends it in both formats; it lands the same in every form of its type.
#[test]
fn t13_t14_golden_forms_are_the_same_in_both_formats() {
    let names = type_names();
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut asked = 0;
    for line in include_str!("../forms/goldens.tsv").lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let text = fields[1].replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\");
        let digits = fields[2].as_bytes().chunks(2).map(|digits| std::str::from_utf8(digits).unwrap());
        let bytes: Vec<u8> = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
        let codec = golden_codec(&names, fields[0], &bytes);
        let forms = codec.forms().into_iter().map(|form| codec.in_form(form.parse().unwrap()).unwrap());
        for codec in std::iter::once(codec.clone()).chain(forms) {
            let from_text = land(&codec, Cell::Text(text.as_bytes()));
            let from_binary = land(&codec, Cell::Binary(&bytes));
            // A byte that versions print differently.
            let is_asked_as_text = codec.prefers_text() && from_binary == Err(Refusal::NoBinaryReader);
            asked += usize::from(is_asked_as_text);
            if !is_asked_as_text {
                assert_eq!(from_text, from_binary, "{codec:?} {line}");
            }
            assert!(from_text.is_ok(), "{codec:?} {line}");
            *counts.entry(codec.form()).or_default() += 1;
        }
    }
    for form in
        ["string", "struct", "list<struct>", "json", "binary", "iso8601", "long", "list", "decimal(19,2)"]
    {
        assert!(counts.get(form).is_some_and(|count| *count > 1), "{form}: {counts:?}");
    }
    assert!((1..40).contains(&asked), "{asked}");
}

fn any_codec() -> impl Strategy<Value = Codec> {
    let leaf = prop::sample::select(vec![
        Codec::Bool,
        Codec::Int2,
        Codec::Int4,
        Codec::Int8,
        Codec::Oid,
        Codec::Float4,
        Codec::Float8,
        Codec::Decimal { precision: 38, scale: 10 },
        Codec::NumericText,
        Codec::Text,
        Codec::Bpchar,
        Codec::Json,
        Codec::Jsonb,
        Codec::Bytea,
        Codec::Date,
        Codec::Timestamp,
        Codec::Timestamptz,
        Codec::Time,
        Codec::Timetz,
        Codec::Interval,
        Codec::Uuid,
        Codec::Char,
        Codec::Money,
        Codec::Bit,
        Codec::Varbit,
        Codec::Xid8,
        Codec::PgLsn,
        Codec::Int2Vector,
        Codec::Inet,
        Codec::Point,
        Codec::Box,
        Codec::Path,
        Codec::Tsquery,
        Codec::Hstore,
        Codec::Vector,
        Codec::Halfvec,
        Codec::Sparsevec,
        Codec::Geometry { srid: 4326 },
        Codec::Enum,
        Codec::Unsent,
        Codec::Other,
    ]);
    let part = leaf.clone().prop_map(Box::new);
    let field = |codec| RecordField {
        source_name: "a b".to_owned(),
        name: "a_b".to_owned(),
        type_oid: Oid(23),
        codec,
    };
    let natural = prop_oneof![
        leaf.clone(),
        leaf.clone().prop_map(list),
        part.clone().prop_map(Codec::Range),
        part.prop_map(Codec::Multirange),
        prop::collection::vec(leaf.prop_map(field), 0..3).prop_map(Codec::Record),
    ];
    (natural, any::<prop::sample::Index>()).prop_map(|(codec, form)| {
        let forms = codec.forms();
        match forms.is_empty() {
            true => codec,
            false => codec.in_form(form.get(&forms).parse().unwrap()).unwrap(),
        }
    })
}

/// `array_send` of a one-dimensional array.
fn array_send(elements: &[Option<Vec<u8>>], lower: i32) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, u8::from(!elements.is_empty()), 0, 0, 0, 1, 0, 0, 0, 25];
    if !elements.is_empty() {
        bytes.extend(u32::try_from(elements.len()).unwrap().to_be_bytes());
        bytes.extend(lower.to_be_bytes());
    }
    for element in elements {
        let length = element.as_ref().map_or(-1, |element| i32::try_from(element.len()).unwrap());
        bytes.extend(length.to_be_bytes());
        bytes.extend(element.iter().flatten());
    }
    bytes
}

proptest! {
    #[test]
    fn no_bytes_panic(codec in any_codec(), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        for cell in [Cell::Text(&bytes), Cell::Binary(&bytes)] {
            if let Ok((array, is_exact)) = land(&codec, cell) {
                // Never a silent NULL.
                prop_assert!(!array.is_null(0) || !is_exact);
            }
        }
    }

    #[test]
    fn text_arrays_are_the_same_in_both_formats(
        elements in prop::collection::vec(prop::option::of(r#"[a\\" ,{}NULnul\t]{0,6}"#), 0..6),
        lower in -1..3_i32,
    ) {
        let elements: Vec<Option<Vec<u8>>> = elements.into_iter().map(|text| text.map(String::into_bytes)).collect();
        let bytes = array_send(&elements, lower);
        let codec = list(Codec::Text);
        let mut text = Vec::new();
        binary::render(&codec, &bytes, &mut text).unwrap();
        let (array, is_exact) = land(&codec, Cell::Text(&text)).unwrap();
        prop_assert_eq!(land(&codec, Cell::Binary(&bytes)), Ok((Arc::clone(&array), is_exact)));
        prop_assert_eq!(is_exact, elements.is_empty() || lower == 1);
        let lists = array.as_list::<i32>().value(0);
        let read: Vec<Option<Vec<u8>>> =
            lists.as_string::<i32>().iter().map(|text| text.map(|text| text.as_bytes().to_vec())).collect();
        prop_assert_eq!(read, elements);
    }
}
