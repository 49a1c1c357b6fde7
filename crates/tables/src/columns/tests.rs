use std::collections::HashMap;

use arrow::array::{
    Array, AsArray, Date32Array, Decimal128Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Date32Type, Decimal128Type, TimestampMicrosecondType};
use pgoutput::{Cell, Oid};
use proptest::prelude::*;

use super::*;
use crate::schema::{ColumnSpec, TableSchema};
use crate::text::{DAY_MAX, DAY_MIN, MICROS_MAX, MICROS_MIN};
use crate::types::TypeCatalog;

fn column_of(codec: &Codec) -> ColumnBuilder {
    let resolved = crate::types::Resolved {
        codec: codec.clone(),
        lake: codec.lake(),
        type_name: String::new(),
        has_binary_decoder: codec.has_binary_decoder(),
    };
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
    Ok((array, landed.is_exact))
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

#[test]
fn t13_types_without_a_binary_reader_take_text() {
    assert_eq!(land(&Codec::Other, Cell::Binary(b"x")), Err(Refusal::NoBinaryReader));
    let mut array = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    array.extend([0, 0, 0, 1, b'x']);
    assert_eq!(land(&list(Codec::Other), Cell::Binary(&array)), Err(Refusal::NoBinaryReader));
    assert_eq!(text_of(&Codec::Other, "1 year 2 mons"), "1 year 2 mons");
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
        let mut rendered = Vec::new();
        binary::render(&codec, &bytes, &mut rendered).unwrap();
        assert_eq!(String::from_utf8(rendered).unwrap(), text, "{line}");
        count += 1;
    }
    assert!(count > 200);
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
        Codec::Json,
        Codec::Jsonb,
        Codec::Bytea,
        Codec::Date,
        Codec::Timestamp,
        Codec::Timestamptz,
        Codec::Time,
        Codec::Uuid,
        Codec::Enum,
        Codec::Other,
    ]);
    prop_oneof![leaf.clone(), leaf.prop_map(list)]
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
