use pgoutput::Oid;
use proptest::prelude::*;

use super::*;
use crate::binary::{self, ArrayBinary};
use crate::text::{self, ArrayText, Element, Held, Malformed};
use crate::types::{Codec, Loss};

/// What servers print and send, by type.
fn goldens() -> impl Iterator<Item = (&'static str, Vec<u8>, Vec<u8>, Option<&'static str>)> {
    include_str!("goldens.tsv").lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.split('\t');
        let (kind, text, digits) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        (kind, copied(text), unhex(digits), fields.next())
    })
}

/// The text that COPY escaped.
fn copied(text: &str) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next().unwrap() {
                b'n' => b'\n',
                b't' => b'\t',
                b'\\' => b'\\',
                other => panic!("COPY does not write \\{}", char::from(other)),
            },
            byte => byte,
        });
    }
    plain
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// Writes the text of a type's send form, if we have a renderer for it.
fn render(kind: &str, bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    if let Some(element) = kind.strip_suffix("[]") {
        // `pg_type.typdelim`
        let delimiter = match element {
            "box" => b';',
            "geometry" => b':',
            _ => b',',
        };
        return ArrayBinary::read(bytes)?.render(delimiter, |bytes, text| render(element, bytes, text), text);
    }
    if let Some(subtype) = subtype(kind) {
        let bound = |bytes: &[u8], text: &mut Vec<u8>| binary::render(&subtype, bytes, text);
        return match kind.ends_with("multirange") {
            true => ranges::multirange(bytes, bound, text),
            false => ranges::range(bytes, bound, text),
        };
    }
    let render = match kind {
        "pair" | "nested" | "lone" | "bare" => return records::record(bytes, render_field, text),
        "interval" => interval::interval,
        "timetz" => timetz::timetz,
        "bit(1)" | "bit(3)" | "bit(8)" | "bit(9)" | "varbit" => bits::bits,
        "money" => money::money,
        "\"char\"" => system::char,
        "xid8" => system::xid8,
        "pg_lsn" => system::pg_lsn,
        "tid" => system::tid,
        "int2vector" => system::int2vector,
        "oidvector" => system::oidvector,
        "pg_snapshot" | "txid_snapshot" => system::pg_snapshot,
        "inet" => network::inet,
        "cidr" => network::cidr,
        "macaddr" => network::macaddr,
        "macaddr8" => network::macaddr8,
        "point" => geometric::point,
        "line" => geometric::line,
        "lseg" => geometric::lseg,
        "box" => geometric::r#box,
        "path" => geometric::path,
        "polygon" => geometric::polygon,
        "circle" => geometric::circle,
        "hstore" => hstore::hstore,
        "jsonpath" | "ltree" | "lquery" | "ltxtquery" => versioned::versioned,
        "tsvector" => search::tsvector,
        "tsquery" => search::tsquery,
        "cube" => cube::cube,
        "vector" => vectors::vector,
        "halfvec" => vectors::halfvec,
        "sparsevec" => vectors::sparsevec,
        "geometry" | "geography" => postgis::ewkb,
        _ => panic!("no renderer for {kind}"),
    };
    render(bytes, text)
}

/// The type of a range's bounds.
fn subtype(kind: &str) -> Option<Codec> {
    Some(match kind {
        "int4range" | "int4multirange" => Codec::Int4,
        "int8range" => Codec::Int8,
        "numrange" | "nummultirange" => Codec::NumericText,
        "tsrange" => Codec::Timestamp,
        "tstzrange" | "tstzmultirange" => Codec::Timestamptz,
        "daterange" | "datemultirange" => Codec::Date,
        "textrange" | "textmultirange" => Codec::Text,
        "floatrange" => Codec::Float8,
        _ => return None,
    })
}

fn render_field(_: usize, type_oid: Oid, bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    match type_oid.0 {
        23 => binary::render(&Codec::Int4, bytes, text),
        25 => binary::render(&Codec::Text, bytes, text),
        1009 => binary::render(&Codec::Array(Box::new(Codec::Text)), bytes, text),
        1184 => binary::render(&Codec::Timestamptz, bytes, text),
        _ => records::record(bytes, render_field, text),
    }
}

/// T14, and of many types T89, T92 and T97.
#[test]
fn t14_a_binary_cell_renders_to_the_text_of_the_server() {
    for (kind, text, bytes, _) in goldens() {
        let mut rendered = Vec::new();
        render(kind, &bytes, &mut rendered).unwrap();
        assert_eq!(String::from_utf8_lossy(&rendered), String::from_utf8_lossy(&text), "{kind}");
    }
}

/// T90
#[test]
fn t90_intervals() {
    for (kind, text, bytes, iso8601) in goldens() {
        if kind != "interval" {
            continue;
        }
        let interval = interval::Interval::from_binary(&bytes).unwrap();
        assert_eq!(interval::Interval::from_text(&text), Ok(interval), "{}", String::from_utf8_lossy(&text));
        let mut rendered = Vec::new();
        interval.iso8601(&mut rendered);
        assert_eq!(String::from_utf8(rendered).unwrap(), iso8601.unwrap());
        let is_infinite = text.ends_with(b"infinity");
        assert_eq!(
            interval.held(),
            if is_infinite { Held::Nothing(Loss::Infinity) } else { Held::Exact(interval) }
        );
    }
    for bad in [
        "",
        " ",
        "1",
        "1 mon ",
        "1 day 1 mon",
        "1 mon 1 mon",
        "00:60:00",
        "0:00:00",
        "1 month",
        "00:00:00 1 day",
        "2562047788:00:54.775808",
    ] {
        assert_eq!(interval::Interval::from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
}

#[test]
fn readers_of_text_and_binary_agree() {
    for (kind, text, bytes, _) in goldens() {
        match kind {
            "varbit" | "bit(9)" => {
                let mut packed = Vec::new();
                bits::bytes_from_text(&text, &mut packed).unwrap();
                assert_eq!(bits::bytes_from_binary(&bytes), Ok(&*packed));
            }
            "money" => {
                assert_eq!(money::hundredths_from_text(&text), money::hundredths_from_binary(&bytes));
            }
            "xid8" => assert_eq!(system::xid8_from_text(&text), system::xid8_from_binary(&bytes)),
            "pg_lsn" => assert_eq!(system::lsn_from_text(&text), system::lsn_from_binary(&bytes)),
            "point" => {
                let [text, binary] =
                    [geometric::Point::from_text(&text), geometric::Point::from_binary(&bytes)]
                        .map(Result::unwrap);
                assert_eq!((text.x.to_bits(), text.y.to_bits()), (binary.x.to_bits(), binary.y.to_bits()));
            }
            _ => {}
        }
    }
}

#[test]
fn texts_that_are_none() {
    for bad in [
        "",
        "$",
        "1.00",
        "$1.0",
        "$,1.00",
        "$1,00.00",
        "$1234.00",
        "$1,234,.00",
        "-$92,233,720,368,547,758.09",
        "$1.00 ",
    ] {
        assert_eq!(money::hundredths_from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
    for bad in ["", "/", "0/", "0/123456789", "0/G", "0", "0/0/0"] {
        assert_eq!(system::lsn_from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
    assert_eq!(bits::bytes_from_text(b"012", &mut Vec::new()), Err(Malformed));
    for bad in ["", "()", "(1)", "(1,)", "(1,2", "(1,2,3)", "1,2"] {
        assert_eq!(geometric::Point::from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
}

/// A range with its bounds in text.
fn rendered_bounds<'a>(range: ranges::Range<'a>, subtype: &Codec) -> ranges::Range<'a> {
    let rendered = |bound: ranges::Bound<'a>| {
        let value = bound.value.map(|bytes| {
            let mut text = Vec::new();
            binary::render(subtype, &bytes, &mut text).unwrap();
            text.into()
        });
        ranges::Bound { value, ..bound }
    };
    match range {
        ranges::Range::Empty => ranges::Range::Empty,
        ranges::Range::Between { lower, upper } => {
            ranges::Range::Between { lower: rendered(lower), upper: rendered(upper) }
        }
    }
}

/// T96
#[test]
fn t96_ranges() {
    for (kind, text, bytes, _) in goldens() {
        let Some(subtype) = subtype(kind) else { continue };
        if kind.ends_with("multirange") {
            let binary = ranges::ranges_from_binary(&bytes).unwrap();
            let binary: Vec<_> = binary.map(|range| rendered_bounds(range.unwrap(), &subtype)).collect();
            let text: Vec<_> = ranges::ranges_from_text(&text).unwrap().map(Result::unwrap).collect();
            assert_eq!(text, binary);
        } else {
            let binary = rendered_bounds(ranges::Range::from_binary(&bytes).unwrap(), &subtype);
            assert_eq!(ranges::Range::from_text(&text), Ok(binary));
        }
    }
    for bad in ["", "[", "[1", "[1,", "[1,2", "[1,2)x", "[\"1,2)", "[1\"\",2)", "[1\\,2)", "emptyx", "1,2)"] {
        assert_eq!(ranges::Range::from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
    for bad in ["", "{", "}", "{[1,2)", "{[1,2),}", "{,}", "{[1,2)[3,4)}", "{[1,2)}}"] {
        let ranges = ranges::ranges_from_text(bad.as_bytes());
        assert!(ranges.is_err() || ranges.unwrap().any(|range| range.is_err()), "{bad}");
    }
    // A bound without a length, bytes that are left, a NULL bound, and a flag that only an index has.
    for bad in [&[0x02, 0, 0][..], &[0x01, 0], &[0x08, 0xFF, 0xFF, 0xFF, 0xFF], &[0x81]] {
        assert_eq!(ranges::Range::from_binary(bad), Err(Malformed), "{bad:?}");
    }
}

/// T96
#[test]
fn t96_composites() {
    for (kind, text, bytes, _) in goldens() {
        if !matches!(kind, "pair" | "nested" | "lone") {
            continue;
        }
        let texts: Vec<_> = records::fields_from_text(&text).unwrap().map(Result::unwrap).collect();
        let fields: Vec<_> = records::fields_from_binary(&bytes).unwrap().map(Result::unwrap).collect();
        assert_eq!(texts.len(), fields.len());
        for (text, field) in texts.iter().zip(fields) {
            let rendered = field.value.map(|bytes| {
                let mut text = Vec::new();
                render_field(0, field.type_oid, bytes, &mut text).unwrap();
                text
            });
            assert_eq!(text.as_deref(), rendered.as_deref());
        }
    }
    for bad in ["", "(", ")", "(a", "(a)b", "(\"a)", "(a\"b)", "(a,", "a,b)"] {
        let fields = records::fields_from_text(bad.as_bytes());
        assert!(fields.is_err() || fields.unwrap().any(|field| field.is_err()), "{bad}");
    }
}

/// T95
#[test]
fn t95_boxes_are_separated_by_semicolons() {
    let two = b"{(1,1),(0,0);(2,2),(1,1);NULL}";
    let Ok(ArrayText::Flat { mut elements, .. }) = text::array(two, b';') else { panic!() };
    let mut scratch = Vec::new();
    assert_eq!(elements.next(&mut scratch), Ok(Some(Element::Value(b"(1,1),(0,0)"))));
    assert_eq!(elements.next(&mut scratch), Ok(Some(Element::Value(b"(2,2),(1,1)"))));
    assert_eq!(elements.next(&mut scratch), Ok(Some(Element::Null)));
    assert_eq!(elements.next(&mut scratch), Ok(None));
}

/// T96
#[test]
fn t96_hstore() {
    for (kind, text, bytes, _) in goldens() {
        if kind == "hstore" {
            let text: Vec<_> = hstore::pairs_from_text(&text).map(Result::unwrap).collect();
            let binary: Vec<_> = hstore::pairs_from_binary(&bytes).unwrap().map(Result::unwrap).collect();
            assert_eq!(text, binary);
        }
    }
    for bad in [
        " ",
        "\"a\"",
        "\"a\"=>",
        "\"a\"=>\"b",
        "\"a\"=>\"b\",",
        "\"a\"=>\"b\", ",
        "a=>b",
        "NULL=>\"a\"",
        "\"a\"=>null",
    ] {
        assert!(hstore::pairs_from_text(bad.as_bytes()).any(|pair| pair.is_err()), "{bad}");
    }
}

/// T96
#[test]
fn t96_vectors() {
    for (kind, text, bytes, _) in goldens() {
        let floats = |floats: &mut dyn Iterator<Item = f32>| floats.map(f32::to_bits).collect::<Vec<_>>();
        let text = || vectors::floats_from_text(&text).unwrap().map(Result::unwrap);
        match kind {
            "vector" => {
                assert_eq!(floats(&mut text()), floats(&mut vectors::vector_from_binary(&bytes).unwrap()));
            }
            "halfvec" => {
                assert_eq!(floats(&mut text()), floats(&mut vectors::halfvec_from_binary(&bytes).unwrap()));
            }
            _ => {}
        }
    }
    for (kind, text, bytes, _) in goldens().filter(|(kind, ..)| *kind == "sparsevec") {
        assert_eq!(vectors::Sparse::from_text(&text), vectors::Sparse::from_binary(&bytes), "{kind}");
    }
    for bad in ["", "[", "[]", "[1", "[1,]", "[,1]", "1,2", "[1 ,2]"] {
        let floats = vectors::floats_from_text(bad.as_bytes());
        assert!(floats.is_err() || floats.unwrap().any(|float| float.is_err()), "{bad}");
    }
    for bad in ["", "{}", "{}/", "{1}/2", "{1:}/2", "{1:1,}/2", "{1:1}/2 ", "{1:1/2"] {
        assert_eq!(vectors::Sparse::from_text(bad.as_bytes()), Err(Malformed), "{bad}");
    }
}

/// T96
#[test]
fn t96_geometries_become_iso_wkb() {
    for (kind, text, bytes, wkb) in goldens() {
        let ("geometry" | "geography") = kind else { continue };
        let mut ewkb = Vec::new();
        postgis::ewkb_from_text(&text, &mut ewkb).unwrap();
        assert_eq!(ewkb, bytes);
        let mut rendered = Vec::new();
        let srid = postgis::iso_wkb(&ewkb, &mut rendered).unwrap();
        assert_eq!(rendered, unhex(wkb.unwrap()));
        let has_srid = bytes[4] & 0x20 != 0;
        let expected = if has_srid { i32::from_le_bytes(bytes[5..9].try_into().unwrap()) } else { 0 };
        assert_eq!(srid, Held::Exact(expected));
    }
}

/// T96
#[test]
fn t96_geometries_of_either_byte_order() {
    let iso = |ewkb: &[u8]| {
        let mut wkb = Vec::new();
        postgis::iso_wkb(ewkb, &mut wkb).map(|srid| (srid, wkb))
    };
    let big = unhex("0020000001000010e63ff00000000000004000000000000000");
    let little = unhex("0101000020e6100000000000000000f03f0000000000000040");
    assert_eq!(iso(&big), iso(&little));
    assert_eq!(iso(&big).unwrap().0, Held::Exact(4326));
    // The floats of NaN are kept to the bit, and a collection may mix the orders.
    let mixed = unhex("0000000007000000010101000000010000000000f87ff0ffffffffff00ff");
    assert_eq!(iso(&mixed).unwrap().1, unhex("0107000000010000000101000000010000000000f87ff0ffffffffff00ff"));
    // A kind that is to come, a collection that has none of its geometries, and one byte more.
    assert_eq!(iso(&unhex("0112000000")).unwrap().0, Held::Nothing(Loss::Shape));
    assert_eq!(iso(&unhex("0107000000ffffffff")), Err(Malformed));
    assert_eq!(iso(&[&*little, &[0]].concat()), Err(Malformed));
    // Collections in collections, as deep as the bytes go.
    let deep = unhex(&"010700000001000000".repeat(100_000));
    assert_eq!(iso(&deep), Err(Malformed));
    assert_eq!(iso(&[&*deep, &unhex("010700000000000000")].concat()).unwrap().0, Held::Exact(0));
}

#[test]
fn queries_of_any_depth() {
    let negations = 100_000_u32;
    let mut bytes = (negations + 1).to_be_bytes().to_vec();
    bytes.extend([2, 1].repeat(100_000));
    bytes.extend([1, 0, 0, b'a', 0]);
    let mut text = Vec::new();
    search::tsquery(&bytes, &mut text).unwrap();
    assert_eq!(text.len(), 100_003);
    // Two roots, an operator without operands, and one that there is not.
    for bad in
        [&[0, 0, 0, 2, 1, 0, 0, b'a', 0, 1, 0, 0, b'b', 0][..], &[0, 0, 0, 1, 2, 2], &[0, 0, 0, 1, 2, 5]]
    {
        assert_eq!(search::tsquery(bad, &mut Vec::new()), Err(Malformed), "{bad:?}");
    }
}

/// Runs every reader of text, and every reader and renderer of binary.
fn read_everything(kind: &str, bytes: &[u8]) {
    let mut text = Vec::new();
    let _ = render(kind, bytes, &mut text);
    // A numeric has up to 147,456 digits, whatever its bytes.
    assert!(kind.starts_with("num") || text.len() <= 64 * (bytes.len() + 1), "{kind} {bytes:?}");
    let mut out = Vec::new();
    let _ = interval::Interval::from_text(bytes).map(|interval| interval.iso8601(&mut out));
    let _ = interval::Interval::from_binary(bytes).map(|interval| interval.iso8601(&mut out));
    let _ = bits::bytes_from_text(bytes, &mut out);
    let _ = bits::bytes_from_binary(bytes);
    let _ = money::hundredths_from_text(bytes);
    let _ = (system::xid8_from_text(bytes), system::lsn_from_text(bytes));
    let _ = geometric::Point::from_text(bytes);
    let _ = ranges::Range::from_text(bytes);
    let _ = ranges::ranges_from_text(bytes).map(Iterator::count);
    let _ = records::fields_from_text(bytes).map(Iterator::count);
    let _ = records::fields_from_binary(bytes).map(Iterator::count);
    let _ = (hstore::pairs_from_text(bytes).count(), hstore::pairs_from_binary(bytes).map(Iterator::count));
    let _ = vectors::floats_from_text(bytes).map(Iterator::count);
    let _ = (vectors::Sparse::from_text(bytes), vectors::Sparse::from_binary(bytes));
    let _ = postgis::ewkb_from_text(bytes, &mut out);
    let mut wkb = Vec::new();
    let _ = postgis::iso_wkb(bytes, &mut wkb);
    assert!(wkb.len() <= bytes.len(), "{bytes:?}");
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused(
        place in 0..goldens().count(),
        is_text in any::<bool>(),
        at in any::<prop::sample::Index>(),
        replacement in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xFF), Just(b'"')], 0..6),
        removed in 0_usize..6,
    ) {
        let (kind, text, binary, _) = goldens().nth(place).unwrap();
        let mut bytes = if is_text { text } else { binary };
        let start = at.index(bytes.len() + 1);
        let end = (start + removed).min(bytes.len());
        bytes.splice(start..end, replacement);
        read_everything(kind, &bytes);
    }

    #[test]
    fn any_bytes_are_refused(place in 0..goldens().count(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let (kind, ..) = goldens().nth(place).unwrap();
        read_everything(kind, &bytes);
    }

    /// T96
    #[test]
    fn t96_what_is_quoted_reads_back(fields in prop::collection::vec(prop::option::of("[a\"\\\\(),\\[\\] {}\t]{0,4}"), 1..4)) {
        let mut record = u32::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        let mut pairs = record.clone();
        let sized = |bytes: &mut Vec<u8>, value: &Option<String>| match value {
            Some(value) => {
                bytes.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                bytes.extend(value.as_bytes());
            }
            None => bytes.extend([0xFF; 4]),
        };
        for field in &fields {
            record.extend(25_u32.to_be_bytes());
            sized(&mut record, field);
            sized(&mut pairs, &Some(field.clone().unwrap_or_default()));
            sized(&mut pairs, field);
        }
        let (mut record_text, mut hstore_text) = (Vec::new(), Vec::new());
        render("lone", &record, &mut record_text).unwrap();
        render("hstore", &pairs, &mut hstore_text).unwrap();
        let bytes = |field: &Option<String>| field.as_ref().map(|field| field.clone().into_bytes());
        let expected: Vec<_> = fields.iter().map(bytes).collect();
        let read: Vec<_> = records::fields_from_text(&record_text).unwrap()
            .map(|field| field.unwrap().map(|field| field.into_owned())).collect();
        prop_assert_eq!(&read, &expected);
        let read: Vec<_> = hstore::pairs_from_text(&hstore_text)
            .map(|pair| pair.unwrap().1.map(|value| value.into_owned())).collect();
        prop_assert_eq!(&read, &expected);
    }
}
