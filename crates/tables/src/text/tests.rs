use proptest::prelude::*;

use super::*;

/// An unscaled decimal, `None` for what does not fit.
fn unscaled(text: &str, precision: u8, scale: i8) -> Option<i128> {
    match decimal(text.as_bytes(), precision, scale).unwrap() {
        Held::Exact(value) => Some(value),
        Held::Clamped(..) => panic!("a decimal is never clamped"),
        Held::Nothing(_) => None,
    }
}

/// Whether the array starts at one, and its elements.
type Elements = (bool, Vec<Option<Vec<u8>>>);

fn elements(text: &str) -> Result<Elements, Malformed> {
    let ArrayText::Flat { starts_at_one, mut elements } = array(text.as_bytes(), b',')? else {
        return Err(Malformed);
    };
    let (mut scratch, mut list) = (Vec::new(), Vec::new());
    while let Some(element) = elements.next(&mut scratch)? {
        list.push(match element {
            Element::Null => None,
            Element::Value(value) => Some(value.to_vec()),
        });
    }
    Ok((starts_at_one, list))
}

#[test]
fn integers() {
    assert_eq!(int64(b"-9223372036854775808"), Ok(i64::MIN));
    assert_eq!(int64(b"9223372036854775807"), Ok(i64::MAX));
    assert_eq!(int32(b"-2147483648"), Ok(i32::MIN));
    assert_eq!(int16(b"32767"), Ok(i16::MAX));
    assert_eq!(uint32(b"4294967295"), Ok(u32::MAX));
    let bad: [&[u8]; 10] = [
        b"",
        b"-",
        b"+1",
        b" 1",
        b"1 ",
        b"--1",
        b"1.0",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"99999999999999999999999",
    ];
    for text in bad {
        assert_eq!(int64(text), Err(Malformed), "{text:?}");
    }
    assert_eq!(int32(b"2147483648"), Err(Malformed));
    assert_eq!(int16(b"-32769"), Err(Malformed));
    assert_eq!(uint32(b"-1"), Err(Malformed));
    assert_eq!(uint32(b"4294967296"), Err(Malformed));
}

/// T92
#[test]
fn t92_floats() {
    assert_eq!(float64(b"-0").unwrap().to_bits(), (-0.0_f64).to_bits());
    assert_eq!(float64(b"5e-324"), Ok(5e-324));
    assert_eq!(float64(b"1.7976931348623157e+308"), Ok(f64::MAX));
    assert_eq!(float64(b"-Infinity"), Ok(f64::NEG_INFINITY));
    assert!(float64(b"NaN").unwrap().is_nan());
    assert_eq!(float32(b"1e-45"), Ok(f32::from_bits(1)));
    for text in [b"".as_slice(), b"inf", b"nan", b"-nan", b"+1", b"1e", b"1e400", b"1e-400", b"0x1", b"-"] {
        assert_eq!(float64(text), Err(Malformed), "{text:?}");
    }
    assert_eq!(float32(b"1e39"), Err(Malformed));
    assert_eq!(float32(b"0.000e5"), Ok(0.0));
}

/// T91
#[test]
fn t91_decimals_are_exact_or_nothing() {
    assert_eq!(unscaled("12.30", 10, 2), Some(1230));
    assert_eq!(unscaled("-0.01", 10, 2), Some(-1));
    assert_eq!(unscaled("7", 10, 2), Some(700));
    assert_eq!(unscaled("0", 38, 38), Some(0));
    assert_eq!(unscaled("99999999.99", 10, 2), Some(9_999_999_999));
    assert_eq!(unscaled("100000000.00", 10, 2), None);
    assert_eq!(unscaled("0.001", 10, 2), None);
    assert_eq!(unscaled("0.010", 10, 2), Some(1));
    assert_eq!(unscaled("NaN", 10, 2), None);
    assert_eq!(unscaled("Infinity", 10, 2), None);
    assert_eq!(unscaled("-Infinity", 10, 2), None);
    let nines = "9".repeat(38);
    assert_eq!(unscaled(&nines, 38, 0), Some(10_i128.pow(38) - 1));
    assert_eq!(unscaled(&format!("-{nines}"), 38, 0), Some(1 - 10_i128.pow(38)));
    assert_eq!(unscaled(&format!("0.{nines}"), 38, 38), Some(10_i128.pow(38) - 1));
    assert_eq!(unscaled(&format!("{nines}9"), 38, 0), None);
    assert_eq!(unscaled("1", 38, 38), None);
    assert_eq!(unscaled(&"9".repeat(131_072), 38, 0), None);
    for text in ["", "-", ".", "1.", ".5", "+1", "1e5", "1.2.3", "--1", "nan", "1 ", "0x1"] {
        assert_eq!(decimal(text.as_bytes(), 38, 2), Err(Malformed), "{text}");
        assert_eq!(numeric(text.as_bytes()), Err(Malformed), "{text}");
    }
}

fn loss_of(text: &[u8]) -> Loss {
    if text.ends_with(b"infinity") { Loss::Infinity } else { Loss::OutOfRange }
}

/// T89
#[test]
fn t89_dates() {
    assert_eq!(date(b"1970-01-01"), Ok(Held::Exact(0)));
    assert_eq!(date(b"1969-12-31"), Ok(Held::Exact(-1)));
    assert_eq!(date(b"2000-02-29"), Ok(Held::Exact(11_016)));
    assert_eq!(date(b"0001-01-01"), Ok(Held::Exact(DAY_MIN)));
    assert_eq!(date(b"9999-12-31"), Ok(Held::Exact(DAY_MAX)));
    for text in [b"10000-01-01".as_slice(), b"5874897-12-31", b"infinity"] {
        assert_eq!(date(text), Ok(Held::Clamped(DAY_MAX, loss_of(text))), "{text:?}");
    }
    for text in [b"0001-12-31 BC".as_slice(), b"0044-03-15 BC", b"4713-01-01 BC", b"-infinity"] {
        assert_eq!(date(text), Ok(Held::Clamped(DAY_MIN, loss_of(text))), "{text:?}");
    }
    let bad: [&[u8]; 14] = [
        b"",
        b"2026-13-01",
        b"2026-00-01",
        b"2026-02-29",
        b"1900-02-29",
        b"2026-04-31",
        b"2026-01-00",
        b"0000-01-01",
        b"26-01-01",
        b"2026-1-1",
        b"2026/01/01",
        b"01-02-2026",
        b"2026-01-01 AD",
        b"-2026-01-01",
    ];
    for text in bad {
        assert_eq!(date(text), Err(Malformed), "{text:?}");
    }
    assert_eq!(date(b"0001-02-29 BC"), Ok(Held::Clamped(DAY_MIN, Loss::OutOfRange)));
    assert_eq!(date(b"0002-02-29 BC"), Err(Malformed));
}

/// T88
#[test]
fn t88_timestamps() {
    assert_eq!(timestamp(b"1970-01-01 00:00:00"), Ok(Held::Exact(0)));
    assert_eq!(timestamp(b"1969-12-31 23:59:59.999999"), Ok(Held::Exact(-1)));
    assert_eq!(timestamp(b"1970-01-01 00:00:01.5"), Ok(Held::Exact(1_500_000)));
    assert_eq!(timestamp(b"1970-01-01 00:00:00.000001"), Ok(Held::Exact(1)));
    assert_eq!(timestamp(b"0001-01-01 00:00:00"), Ok(Held::Exact(MICROS_MIN)));
    assert_eq!(timestamp(b"9999-12-31 23:59:59.999999"), Ok(Held::Exact(MICROS_MAX)));
    for text in [b"10000-01-01 00:00:00".as_slice(), b"294276-12-31 23:59:59.999999", b"infinity"] {
        assert_eq!(timestamp(text), Ok(Held::Clamped(MICROS_MAX, loss_of(text))), "{text:?}");
    }
    for text in [b"0001-12-31 23:59:59.999999 BC".as_slice(), b"4713-11-24 00:00:00 BC", b"-infinity"] {
        assert_eq!(timestamp(text), Ok(Held::Clamped(MICROS_MIN, loss_of(text))), "{text:?}");
    }
    let bad: [&[u8]; 10] = [
        b"",
        b"2026-01-01",
        b"2026-01-01T00:00:00",
        b"2026-01-01 24:00:00",
        b"2026-01-01 00:60:00",
        b"2026-01-01 00:00:60",
        b"2026-01-01 00:00:00.",
        b"2026-01-01 00:00:00.1234567",
        b"2026-01-01 00:00",
        b"2026-01-01 00:00:00+00",
    ];
    for text in bad {
        assert_eq!(timestamp(text), Err(Malformed), "{text:?}");
    }
}

/// T88
#[test]
fn t88_instants() {
    assert_eq!(timestamptz(b"1970-01-01 00:00:00+00"), Ok(Held::Exact(0)));
    assert_eq!(timestamptz(b"1970-01-01 02:00:00.5+02"), Ok(Held::Exact(500_000)));
    assert_eq!(timestamptz(b"1969-12-31 18:30:00-05:30"), Ok(Held::Exact(0)));
    assert_eq!(timestamptz(b"1970-01-01 00:19:32+00:19:32"), Ok(Held::Exact(0)));
    assert_eq!(timestamptz(b"10000-01-01 00:30:00+01"), Ok(Held::Exact(MICROS_MAX - 1_799_999_999)));
    assert_eq!(timestamptz(b"0001-01-01 00:30:00+01"), Ok(Held::Clamped(MICROS_MIN, Loss::OutOfRange)));
    assert_eq!(timestamptz(b"0001-12-31 23:30:00-01 BC"), Ok(Held::Exact(MICROS_MIN + 1_800_000_000)));
    assert_eq!(
        timestamptz(b"294276-12-31 23:59:59.999999+00"),
        Ok(Held::Clamped(MICROS_MAX, Loss::OutOfRange))
    );
    for text in [b"1970-01-01 00:00:00".as_slice(), b"1970-01-01 00:00:00Z", b"1970-01-01 00:00:00+0"] {
        assert_eq!(timestamptz(text), Err(Malformed), "{text:?}");
    }
}

/// T89
#[test]
fn t89_times_have_one_width() {
    assert_eq!(&time(b"24:00:00").unwrap(), b"24:00:00.000000");
    assert_eq!(&time(b"01:02:03.5").unwrap(), b"01:02:03.500000");
    assert_eq!(&time(b"23:59:59.999999").unwrap(), b"23:59:59.999999");
    for text in [b"24:00:00.000001".as_slice(), b"24:00:01", b"1:2:3", b"12:00", b"12:00:00+00", b"-1:00:00"]
    {
        assert_eq!(time(text), Err(Malformed), "{text:?}");
    }
}

#[test]
fn uuids_are_lower_case() {
    let lower = b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    assert_eq!(uuid(lower), Ok(*lower));
    assert_eq!(uuid(&lower.to_ascii_uppercase()), Ok(*lower));
    assert_eq!(uuid(b"a0eebc999c0b4ef8bb6d6bb9bd380a11"), Err(Malformed));
    assert_eq!(uuid(b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g"), Err(Malformed));
    assert_eq!(uuid(b"a0eebc9-99c0b-4ef8-bb6d-6bb9bd380a11"), Err(Malformed));
}

/// T95
#[test]
fn t95_array_texts() {
    let some = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(elements("{}"), Ok((true, vec![])));
    assert_eq!(elements("{1,NULL,3}"), Ok((true, vec![some("1"), None, some("3")])));
    assert_eq!(elements(r#"{"NULL","",null}"#), Ok((true, vec![some("NULL"), some(""), some("null")])));
    assert_eq!(
        elements(r#"{"a\"b","c\\d","e,f","{g}"}"#),
        Ok((true, vec![some("a\"b"), some(r"c\d"), some("e,f"), some("{g}")]))
    );
    assert_eq!(elements("[0:1]={a,b c}"), Ok((false, vec![some("a"), some("b c")])));
    assert_eq!(elements("[1:2]={a,b}"), Ok((true, vec![some("a"), some("b")])));
    assert_eq!(elements("[-5:-5]={a}"), Ok((false, vec![some("a")])));
    for text in ["{{1},{2}}", "[0:1][0:0]={{1},{2}}"] {
        assert!(matches!(array(text.as_bytes(), b','), Ok(ArrayText::Nested)), "{text}");
    }
    let bad = [
        "",
        "{",
        "}",
        "1",
        "{1",
        "{1,",
        "{1,}",
        "{,1}",
        "{,}",
        "{1}}",
        "{1}x",
        "{}x",
        "{\"a}",
        "{\"a\"b}",
        "{a\"b\"}",
        "{a\\",
        "{\"a\\",
        "{\"a\\\"}",
        "{1,{2}}",
        "[0:1]{1}",
        "[0]={1}",
        "[a:b]={1}",
        "[0:1={1}",
        "[0:1]=",
        "[0:0][0:0]={1}",
        "{} ",
    ];
    for text in bad {
        assert_eq!(elements(text), Err(Malformed), "{text}");
    }
}

/// Any bytes, and often ones that are nearly right.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[-+0-9.:eE BC]{0,40}".prop_map(String::into_bytes),
        r#"[\[]?[-0-9:]{0,4}\]?=?[{}",\\a1 NULL]{0,20}"#.prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn nothing_panics(text in noise(), precision: u8, scale: i8) {
        let _ = (boolean(&text), int64(&text), uint32(&text), float32(&text), float64(&text));
        let _ = (decimal(&text, precision, scale), numeric(&text), date(&text), timestamp(&text));
        let _ = (timestamptz(&text), time(&text), uuid(&text), bytea_digits(&text));
        let _ = String::from_utf8(text).map(|text| elements(&text));
    }

    #[test]
    fn integers_read_what_is_printed(value: i64) {
        prop_assert_eq!(int64(value.to_string().as_bytes()), Ok(value));
    }

    #[test]
    fn floats_read_what_is_printed(bits: u64) {
        let value = f64::from_bits(bits);
        if value.is_finite() {
            prop_assert_eq!(float64(format!("{value:e}").as_bytes()).map(f64::to_bits), Ok(bits));
        }
    }

    #[test]
    fn decimals_read_what_is_printed(unscaled in -(10_i128.pow(38) - 1)..10_i128.pow(38), scale in 0_i8..=38) {
        let digits = format!("{:0>39}", unscaled.unsigned_abs());
        let (whole, fraction) = digits.split_at(39 - usize::try_from(scale).unwrap());
        let whole = match whole.trim_start_matches('0') { "" => "0", whole => whole };
        let sign = if unscaled < 0 { "-" } else { "" };
        let point = if scale == 0 { "" } else { "." };
        let text = format!("{sign}{whole}{point}{fraction}");
        prop_assert_eq!(decimal(text.as_bytes(), 38, scale), Ok(Held::Exact(unscaled)));
        prop_assert_eq!(numeric(text.as_bytes()), Ok(()));
        // One digit less in the type, and either it fits or there is nothing; there is no rounding.
        if scale > 0 {
            let expected = if unscaled % 10 == 0 { Held::Exact(unscaled / 10) } else { Held::Nothing(Loss::Precision) };
            prop_assert_eq!(decimal(text.as_bytes(), 38, scale - 1), Ok(expected));
        }
    }

    #[test]
    fn hexadecimal(bytes in prop::collection::vec(any::<u8>(), 0..32)) {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut read = [0; 32];
        prop_assert_eq!(unhex(digits.as_bytes(), &mut read), Ok(bytes.len()));
        prop_assert_eq!(&read[..bytes.len()], &bytes[..]);
        for at in 0..digits.len() {
            let mut wrong = digits.clone().into_bytes();
            wrong[at] = b'g';
            prop_assert_eq!(unhex(&wrong, &mut read), Err(Malformed));
        }
    }
}
