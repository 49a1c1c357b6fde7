use std::sync::Arc;

use pgoutput::encode::TupleBuilder;
use pgoutput::{Cell, Lsn, Oid, Xid};
use proptest::prelude::*;
use tables::batch::BatchBuilder;
use tables::change::{Change, Image, Landing, Op, Plan, TableIndex, TxStamp};
use tables::schema::{ColumnSpec, TableSchema};
use tables::types::TypeCatalog;

use super::*;

/// Lands a text in the lake as the daemon does, and prints what is there: the value, or what `_cdc_raw` has.
fn there_and_back(oid: u32, modifier: i32, text: &str) -> String {
    let resolved = TypeCatalog::default().resolve(Oid(oid), modifier);
    let spec = ColumnSpec { name: "c".to_owned(), type_oid: Oid(oid), type_modifier: modifier, resolved };
    let schema = Arc::new(TableSchema::new(&[spec], Vec::new()));
    let (columns, schema_of_plan) = (vec![0], Arc::clone(&schema));
    let plan = Plan::new(
        "s.t",
        Landing { schema: schema_of_plan, columns, absent: Vec::new(), key: Vec::new(), old_is_whole: true },
    );
    let row = TupleBuilder::from_cells([Cell::Text(text.as_bytes())]);
    let image = Image::Row { tuple: row.tuple(), fill: None };
    let change = Change { table: TableIndex(0), op: Op::Insert, seq: 1, plan: &plan, image };
    let stamp = TxStamp { commit_lsn: Lsn(5), commit_time_unix_micros: 0, xid: Xid(1) };
    let mut batches = BatchBuilder::new(Arc::clone(&schema));
    batches.append(&stamp, &change).unwrap();
    let batch = batches.finish().unwrap();
    let column = &schema.columns[0];
    let canon = Canon::of(&column.codec, modifier).unwrap();
    let raw = batch.column_by_name("_cdc_raw").unwrap().as_map();
    let mut out = Vec::new();
    if raw.is_valid(0) {
        let entries = raw.value(0);
        let text = entries.column(1).as_string::<i32>().value(0).to_owned();
        out = canon.of_text(text.as_bytes()).unwrap();
    } else {
        let values = batch.column_by_name("c").unwrap();
        render(canon, &column.codec, modifier, values.as_ref(), 0, &mut out).unwrap();
    }
    // What is compared of a float is no text: both sides' bits are.
    if matches!(canon, Canon::Float4 | Canon::Float8) {
        assert_eq!(out, canon.of_text(text.as_bytes()).unwrap(), "{text}");
        return text.to_owned();
    }
    String::from_utf8(out).unwrap()
}

fn numeric(precision: i32, scale: i32) -> i32 {
    (precision << 16 | scale & 0x7FF) + 4
}

/// The types of the goldens, without those of extensions and row types.
fn type_of(name: &str) -> Option<(u32, i32)> {
    let plain = |oid| Some((oid, -1));
    if let Some(numbers) = name.strip_prefix("numeric(").and_then(|rest| rest.strip_suffix(')')) {
        let (precision, scale) = numbers.split_once(',')?;
        return Some((1700, numeric(precision.parse().ok()?, scale.parse().ok()?)));
    }
    match name {
        "bool" => plain(16),
        "bytea" => plain(17),
        "name" => plain(19),
        "int8" => plain(20),
        "int2" => plain(21),
        "int4" => plain(23),
        "text" => plain(25),
        "oid" => plain(26),
        "xid" => plain(28),
        "json" => plain(114),
        "xml" => plain(142),
        "float4" => plain(700),
        "float8" => plain(701),
        "char(5)" => Some((1042, 9)),
        "varchar(5)" => Some((1043, 9)),
        "date" => plain(1082),
        "time" => plain(1083),
        "timestamp" => plain(1114),
        "timestamptz" => plain(1184),
        "numeric" => plain(1700),
        "uuid" => plain(2950),
        "jsonb" => plain(3802),
        "bool[]" => plain(1000),
        "bytea[]" => plain(1001),
        "int2[]" => plain(1005),
        "int4[]" => plain(1007),
        "text[]" => plain(1009),
        "int8[]" => plain(1016),
        "float4[]" => plain(1021),
        "float8[]" => plain(1022),
        "timestamp[]" => plain(1115),
        "date[]" => plain(1182),
        "time[]" => plain(1183),
        "timestamptz[]" => plain(1185),
        "numeric[]" => plain(1231),
        "uuid[]" => plain(2951),
        "jsonb[]" => plain(3807),
        _ => None,
    }
}

/// Every line is a value as Postgres itself printed it.
#[test]
fn what_servers_printed_comes_back() {
    let mut count = 0;
    let goldens = include_str!("../../../../tables/src/columns/golden.tsv");
    for line in goldens.lines().filter(|line| !line.starts_with('#')) {
        let [name, text, _send] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let text = text.replace("<TAB>", "\t").replace("<LF>", "\n").replace("<VT>", "\u{b}");
        let Some((oid, modifier)) = type_of(name) else { continue };
        assert_eq!(there_and_back(oid, modifier, &text), text, "{line}");
        count += 1;
    }
    assert!(count > 200, "{count}");
}

/// The floats of the goldens, printed.
#[test]
fn floats_print_as_servers_print_them() {
    let mut count = 0;
    let goldens = include_str!("../../../../tables/src/columns/golden.tsv");
    for line in goldens.lines().filter(|line| line.starts_with("float")) {
        let [name, text, _send] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        match name {
            "float4" => assert_eq!(numbers::float4(text.parse().unwrap()), text),
            "float8" => assert_eq!(numbers::float8(text.parse().unwrap()), text),
            _ => continue,
        }
        count += 1;
    }
    assert!(count > 40, "{count}");
    // Half-way between two floats: Postgres never prints that, though it reads back by rounding to the even one.
    assert_eq!(numbers::float8(9_007_199_254_740_992.0), "9.007199254740992e+15");
    assert_eq!(numbers::float4(8_589_934_592.0), "8.589935e+09");
    assert_eq!(numbers::float8(5e-324), "5e-324");
    assert_eq!(numbers::float8(1e23), "9.999999999999999e+22");
}

#[test]
fn numbers_without_their_display_scale() {
    assert_eq!(numbers::trimmed("1.500"), "1.5");
    assert_eq!(numbers::trimmed("100"), "100");
    assert_eq!(numbers::trimmed("0.000"), "0");
    assert_eq!(numbers::trimmed(&numbers::decimal(-150_000, 5)), "-1.5");
    assert_eq!(numbers::decimal(5, 3), "0.005");
    assert_eq!(numbers::decimal(-5, 0), "-5");
    assert_eq!(numbers::plain(1e21), "1000000000000000000000");
    assert_eq!(numbers::plain(-0.0), "0");
    assert_eq!(numbers::money(-123_456_789), "-$1,234,567.89");
    assert_eq!(numbers::money(5), "$0.05");
}

#[test]
fn base64_and_bits() {
    for (text, bytes) in
        [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("/+A=", b"\xff\xe0")]
    {
        assert_eq!(quotes::base64(text).as_deref(), Some(bytes));
    }
    assert_eq!(quotes::base64("Zm9*"), None);
    let column = BinaryArray::from(vec![&[0b1010_0000_u8][..]]);
    let codec = Codec::As { form: Form::Binary, of: Box::new(Codec::Bit) };
    let mut out = Vec::new();
    render(Canon::Text, &codec, 3, &column, 0, &mut out).unwrap();
    assert_eq!(out, b"101");
}

#[test]
fn intervals_by_their_parts() {
    let send = times::interval_send(-14_706_000_000 - 789_000, -3, 14);
    assert_eq!(times::interval_of_iso8601("P1Y2M-3DT-4H-5M-6.789S"), Some(send));
    assert_eq!(times::interval_of_iso8601("PT0S"), Some([0; 16]));
    assert_eq!(times::interval_of_iso8601("PT-0.000001S"), Some(times::interval_send(-1, 0, 0)));
    assert_eq!(times::interval_of_iso8601("P1"), None);
    // Of the goldens: text, send form, ISO 8601.
    let mut count = 0;
    for line in include_str!("../../../../tables/src/forms/goldens.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        if let ["interval", text, send, iso] = fields.as_slice() {
            let found = times::interval_of_iso8601(iso).or_else(|| times::interval_of_text(text));
            assert_eq!(found.map(|send| hex(&send)).as_deref(), Some(*send), "{line}");
            count += 1;
        }
    }
    assert!(count > 5, "{count}");
}

/// Geometries of the goldens: EWKB as text, and ISO WKB.
#[test]
fn geometries_come_back() {
    let mut count = 0;
    for line in include_str!("../../../../tables/src/forms/goldens.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let ["geometry" | "geography", text, _send, iso] = fields.as_slice() else { continue };
        let bytes: Vec<u8> = iso
            .as_bytes()
            .chunks(2)
            .filter_map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
            .collect();
        let has_srid = &text[8..10].chars().next().is_some_and(|digit| "2367ABEF".contains(digit));
        let srid = if *has_srid {
            let digits: Vec<u8> =
                (0..4).map(|at| u8::from_str_radix(&text[10 + 2 * at..12 + 2 * at], 16).unwrap()).collect();
            i32::from_le_bytes(digits.try_into().unwrap())
        } else {
            0
        };
        let Some(back) = wkb::ewkb(&bytes, srid) else { panic!("{line}") };
        assert_eq!(hex(&back).to_uppercase(), text.to_uppercase(), "{line}");
        count += 1;
    }
    assert!(count > 5, "{count}");
}

#[test]
fn pieces_are_quoted_as_postgres_quotes_them() {
    let element = |text: &str| {
        let mut out = Vec::new();
        quotes::array(&[Some(text.as_bytes().to_vec()), None], b',', &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(element("plain"), "{plain,NULL}");
    assert_eq!(element("null"), r#"{"null",NULL}"#);
    assert_eq!(element(""), r#"{"",NULL}"#);
    assert_eq!(element(r#"a"b\c"#), r#"{"a\"b\\c",NULL}"#);
    assert_eq!(element("a b"), r#"{"a b",NULL}"#);
    assert_eq!(element("a;b"), "{a;b,NULL}");
    let piece = |text: &str| {
        let mut out = Vec::new();
        quotes::piece(text.as_bytes(), b"\"\\(),", &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(piece("plain"), "plain");
    assert_eq!(piece(r#"a"b\c"#), r#""a""b\\c""#);
    assert_eq!(piece(""), r#""""#);
}

#[test]
fn forms_that_do_not_keep_the_text_are_not_compared() {
    let json = Codec::As { form: Form::Json, of: Box::new(Codec::Array(Box::new(Codec::Int4))) };
    assert_eq!(Canon::of(&json, -1), None);
    let doubles = Codec::Array(Box::new(Codec::As { form: Form::Double, of: Box::new(Codec::NumericText) }));
    assert_eq!(Canon::of(&doubles, -1), None);
    assert_eq!(
        Canon::of(&Codec::As { form: Form::Double, of: Box::new(Codec::NumericText) }, -1),
        Some(Canon::Number)
    );
    let decimal = Codec::Decimal { precision: 38, scale: 9 };
    assert_eq!(Canon::of(&decimal, -1), Some(Canon::Number));
    assert_eq!(Canon::of(&decimal, numeric(38, 9)), Some(Canon::Text));
    // Another scale than the lake's is printed.
    assert_eq!(Canon::of(&decimal, numeric(60, 20)), Some(Canon::Number));
    assert_eq!(Canon::of(&Codec::Array(Box::new(decimal.clone())), numeric(38, 9)), Some(Canon::Text));
    assert_eq!(Canon::of(&Codec::Array(Box::new(decimal)), -1), None);
    let moment = Codec::As { form: Form::Null, of: Box::new(Codec::Timestamp) };
    assert_eq!(Canon::of(&moment, -1), Some(Canon::Text));
}

proptest! {
    #[test]
    fn a_printed_float_reads_back(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(!value.is_nan());
        let text = numbers::float8(value);
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
        let small = f32::from_bits(u32::try_from(bits >> 32).unwrap());
        prop_assume!(!small.is_nan());
        prop_assert_eq!(numbers::float4(small).parse::<f32>().unwrap().to_bits(), small.to_bits());
    }

    #[test]
    fn every_day_and_microsecond_comes_back(micros in -62_135_596_800_000_000_i64..=253_402_300_799_999_999) {
        let text = times::timestamp(micros);
        prop_assert_eq!(there_and_back(1114, -1, &text), text);
    }

    #[test]
    fn any_text_array_comes_back(texts in prop::collection::vec(prop::option::of("[ -~\n\t]{0,6}"), 0..5)) {
        let mut text = Vec::new();
        let elements: Vec<Option<Vec<u8>>> = texts.into_iter().map(|text| text.map(String::into_bytes)).collect();
        quotes::array(&elements, b',', &mut text);
        let text = String::from_utf8(text).unwrap();
        prop_assert_eq!(there_and_back(1009, -1, &text), text);
    }
}

#[test]
fn a_byte_that_is_no_text_is_octal() {
    let of = |text: &str| Canon::Char.of_text(text.as_bytes()).map(|text| String::from_utf8(text).unwrap());
    assert_eq!(of(r"\x80").as_deref(), Some(r"\200"));
    assert_eq!(of(r"\xff").as_deref(), Some(r"\377"));
    assert_eq!(of("x").as_deref(), Some("x"));
    assert_eq!(of(r"\").as_deref(), Some(r"\"));
}
