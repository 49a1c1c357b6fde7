use proptest::prelude::*;

use super::*;
use crate::text;

fn rendered(codec: &Codec, bytes: &[u8]) -> String {
    let mut text = Vec::new();
    render(codec, bytes, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// `numeric_send` of the number that a text is.
fn numeric_send(text: &str) -> Vec<u8> {
    let (sign, text) = text.strip_prefix('-').map_or((0_u16, text), |text| (0x4000, text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let padded = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let all = format!("{whole}{padded}");
    let mut digits: Vec<u16> =
        all.as_bytes().chunks(4).map(|digit| std::str::from_utf8(digit).unwrap().parse().unwrap()).collect();
    let mut weight = i16::try_from(whole.len() / 4).unwrap() - 1;
    while digits.first() == Some(&0) {
        digits.remove(0);
        weight -= 1;
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let (sign, weight) = if digits.is_empty() { (0, 0) } else { (sign, weight) };
    let mut bytes = u16::try_from(digits.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(weight.to_be_bytes());
    bytes.extend(sign.to_be_bytes());
    bytes.extend(u16::try_from(fraction.len()).unwrap().to_be_bytes());
    bytes.extend(digits.iter().flat_map(|digit| digit.to_be_bytes()));
    bytes
}

/// T91
#[test]
fn t91_numerics_keep_their_display_scale() {
    for text in ["0", "0.00", "1.10", "10000", "0.00010000", "-123456.7890000", "100000000.000000001"] {
        assert_eq!(rendered(&Codec::NumericText, &numeric_send(text)), text);
    }
    // The text leaves out digits beyond the display scale; so does the decimal.
    let hidden = [0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0x09, 0x29];
    assert_eq!(rendered(&Codec::NumericText, &hidden), "1.2");
    assert_eq!(decimal(&hidden, 10, 4), Ok(Held::Exact(12_000)));
}

/// T91
#[test]
fn t91_numerics_that_are_none() {
    let bad: [&[u8]; 7] = [
        b"",
        &[0, 0, 0, 0, 0, 0, 0],
        &[0, 1, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10],
        &[0, 0, 0, 0, 0x80, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0x40, 0],
    ];
    for bytes in bad {
        assert_eq!(decimal(bytes, 38, 0), Err(Malformed), "{bytes:?}");
        assert_eq!(numeric_text(bytes, &mut Vec::new()), Err(Malformed), "{bytes:?}");
    }
    // The greatest weight is long, and ends.
    let wide = [0, 1, 0x7F, 0xFF, 0, 0, 0x3F, 0xFF, 0, 1];
    assert_eq!(rendered(&Codec::NumericText, &wide).len(), 1 + 4 * 32_767 + 1 + 16_383);
    assert_eq!(decimal(&wide, 38, 0), Ok(Held::Nothing(Loss::OutOfRange)));
}

/// T88, T89
#[test]
fn t88_t89_ends_of_time() {
    let date_text = |day: i32| rendered(&Codec::Date, &day.to_be_bytes());
    assert_eq!(date_text(i32::MAX), "infinity");
    assert_eq!(date_text(i32::MIN), "-infinity");
    assert_eq!(date(&i32::MAX.to_be_bytes()), Ok(Held::Clamped(DAY_MAX, Loss::Infinity)));
    assert_eq!(date(&(i32::MAX - 1).to_be_bytes()), Ok(Held::Clamped(DAY_MAX, Loss::OutOfRange)));
    assert_eq!(date(&(i32::MIN + 1).to_be_bytes()), Ok(Held::Clamped(DAY_MIN, Loss::OutOfRange)));
    let text = |micros: i64| rendered(&Codec::Timestamp, &micros.to_be_bytes());
    assert_eq!(text(i64::MAX), "infinity");
    assert_eq!(text(i64::MIN), "-infinity");
    // The last one that Postgres has overflows when the epoch is moved to 1970.
    assert_eq!(
        timestamp(&9_223_371_331_199_999_999_i64.to_be_bytes()),
        Ok(Held::Clamped(MICROS_MAX, Loss::OutOfRange))
    );
    assert_eq!(text(9_223_371_331_199_999_999), "294276-12-31 23:59:59.999999");
    assert_eq!(timestamp(&(i64::MAX - 1).to_be_bytes()), Ok(Held::Clamped(MICROS_MAX, Loss::OutOfRange)));
    assert_eq!(timestamp(&(i64::MIN + 1).to_be_bytes()), Ok(Held::Clamped(MICROS_MIN, Loss::OutOfRange)));
}

#[test]
fn widths_are_exact_but_for_narrower_numbers() {
    assert_eq!(int64(&[0xFF, 0xFE]), Ok(-2));
    assert_eq!(int64(&[0xFF, 0xFF, 0xFF, 0xFE]), Ok(-2));
    assert_eq!(int32(&[0xFF, 0xFE]), Ok(-2));
    assert_eq!(float64(&1.5_f32.to_be_bytes()), Ok(1.5));
    for length in (0..20).filter(|length| ![2, 4, 8].contains(length)) {
        let bytes = vec![0; length];
        assert!(int64(&bytes).is_err() && int32(&bytes).is_err() && int16(&bytes).is_err());
        assert!(float64(&bytes).is_err() && float32(&bytes).is_err() && uint32(&bytes).is_err());
        assert!(date(&bytes).is_err() && timestamp(&bytes).is_err() && time(&bytes).is_err());
        assert_eq!(uuid(&bytes).is_ok(), length == 16);
        assert_eq!(boolean(&bytes).is_ok(), length == 1);
    }
    assert_eq!(boolean(&[2]), Err(Malformed));
    assert_eq!(jsonb(&[2, b'1']), Err(Malformed));
    assert_eq!(time(&86_400_000_001_i64.to_be_bytes()), Err(Malformed));
    assert_eq!(time(&(-1_i64).to_be_bytes()), Err(Malformed));
}

/// T92
#[test]
fn t92_floats_are_shortest_but_never_half_way() {
    let text = |value: f64| rendered(&Codec::Float8, &value.to_be_bytes());
    assert_eq!(text(1e23), "9.999999999999999e+22");
    assert_eq!(text(1e15), "1e+15");
    assert_eq!(text(1e14), "100000000000000");
    assert_eq!(text(-0.0), "-0");
    assert_eq!(text(0.00001), "1e-05");
    assert_eq!(text(-0.00012345), "-0.00012345");
    // -682097043695826.25, half-way between two decimals of sixteen digits.
    assert_eq!(text(f64::from_bits(0xC303_62E8_BFEF_4692)), "-682097043695826.2");
    let text = |value: f32| rendered(&Codec::Float4, &value.to_be_bytes());
    assert_eq!(text(1e6), "1e+06");
    assert_eq!(text(8_589_934_592.0), "8.589935e+09");
}

fn codec() -> impl Strategy<Value = Codec> {
    let leaf = prop::sample::select(vec![
        Codec::Bool,
        Codec::Int2,
        Codec::Int4,
        Codec::Int8,
        Codec::Oid,
        Codec::Float4,
        Codec::Float8,
        Codec::Decimal { precision: 10, scale: 2 },
        Codec::NumericText,
        Codec::Text,
        Codec::Jsonb,
        Codec::Bytea,
        Codec::Date,
        Codec::Timestamp,
        Codec::Timestamptz,
        Codec::Time,
        Codec::Uuid,
        Codec::Other,
    ]);
    prop_oneof![leaf.clone(), leaf.prop_map(|codec| Codec::Array(Box::new(codec)))]
}

proptest! {
    #[test]
    fn rendering_never_panics(codec in codec(), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = render(&codec, &bytes, &mut Vec::new());
    }

    #[test]
    fn arrays_never_panic(
        header in prop::collection::vec(0_u8..4, 12..20),
        rest in prop::collection::vec(0_u8..4, 0..60),
    ) {
        let words = header.iter().chain(&rest).flat_map(|word| u32::from(*word).to_be_bytes());
        let bytes: Vec<u8> = words.collect();
        let _ = render(&Codec::Array(Box::new(Codec::Int4)), &bytes, &mut Vec::new());
        let array = ArrayBinary::read(&bytes);
        let _ = array.and_then(|array| Ok(array.elements()?.count()));
    }

    #[test]
    fn numerics_are_the_same_as_text(number in "-?(0|[1-9][0-9]{0,24})([.][0-9]{1,24})?", precision in 1_u8..=38, scale in 0_i8..=38) {
        let negative_zero = number.starts_with('-') && number.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
        prop_assume!(!negative_zero);
        let bytes = numeric_send(&number);
        prop_assert_eq!(rendered(&Codec::NumericText, &bytes), number.clone());
        let scale = scale.min(i8::try_from(precision).unwrap());
        prop_assert_eq!(decimal(&bytes, precision, scale), text::decimal(number.as_bytes(), precision, scale));
    }

    #[test]
    fn dates_are_the_same_as_text(day in prop_oneof![-2_451_545..2_145_031_949_i32, -800_000..3_000_000]) {
        let bytes = day.to_be_bytes();
        prop_assert_eq!(date(&bytes), text::date(rendered(&Codec::Date, &bytes).as_bytes()));
    }

    #[test]
    fn timestamps_are_the_same_as_text(
        micros in prop_oneof![
            -211_813_488_000_000_000..9_223_371_331_200_000_000_i64,
            -64_000_000_000_000_000..253_000_000_000_000_000_i64,
            (-64_000_000_000..253_000_000_000_i64).prop_map(|seconds| seconds * 1_000_000),
        ],
    ) {
        let bytes = micros.to_be_bytes();
        let text = rendered(&Codec::Timestamp, &bytes);
        prop_assert_eq!(timestamp(&bytes), text::timestamp(text.as_bytes()), "{}", text);
        let text = rendered(&Codec::Timestamptz, &bytes);
        prop_assert_eq!(timestamp(&bytes), text::timestamptz(text.as_bytes()), "{}", text);
    }

    #[test]
    fn times_are_the_same_as_text(micros in 0..=MICROS_PER_DAY) {
        let bytes = micros.to_be_bytes();
        prop_assert_eq!(time(&bytes), text::time(rendered(&Codec::Time, &bytes).as_bytes()));
    }

    #[test]
    fn floats_are_the_same_as_text(bits: u64, short in any::<f32>()) {
        let bytes = bits.to_be_bytes();
        let value = text::float64(rendered(&Codec::Float8, &bytes).as_bytes()).unwrap();
        prop_assert!(value.to_bits() == bits || (value.is_nan() && f64::from_bits(bits).is_nan()));
        let read = text::float32(rendered(&Codec::Float4, &short.to_be_bytes()).as_bytes()).unwrap();
        prop_assert!(read.to_bits() == short.to_bits() || (read.is_nan() && short.is_nan()));
    }

    #[test]
    fn the_rest_is_the_same_as_text(bytes: [u8; 16], number: i64, word: u32) {
        prop_assert_eq!(uuid(&bytes), text::uuid(rendered(&Codec::Uuid, &bytes).as_bytes()));
        prop_assert_eq!(text::int64(rendered(&Codec::Int8, &number.to_be_bytes()).as_bytes()), Ok(number));
        prop_assert_eq!(text::uint32(rendered(&Codec::Oid, &word.to_be_bytes()).as_bytes()), Ok(word));
        let hex = rendered(&Codec::Bytea, &bytes);
        let mut read = [0; 32];
        prop_assert_eq!(text::unhex(text::bytea_digits(hex.as_bytes()).unwrap(), &mut read), Ok(16));
        prop_assert_eq!(&read[..16], &bytes[..]);
    }
}

#[test]
fn the_digits_of_a_word_are_those_of_its_bytes() {
    for byte in 0..=u8::MAX {
        let bytes = [byte, !byte, byte.rotate_left(4), byte.wrapping_mul(37)];
        assert_eq!(hex_word(u32::from_be_bytes(bytes)), *bytes.map(hex).as_flattened());
    }
}
