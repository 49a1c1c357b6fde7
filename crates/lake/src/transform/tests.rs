use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};

use super::*;

/// 2017-11-16T22:31:08, the instant of the specification.
const INSTANT: i64 = 1_510_871_468_000_000;

fn texts(transform: Transform, column: &dyn Array) -> Vec<String> {
    let keys = transform.keys(column).expect("the type is taken");
    let text = |key| transform.text(column.data_type(), key).unwrap_or_else(|| "NULL".to_owned());
    keys.into_iter().map(text).collect()
}

fn decimals(values: &[i128], precision: u8, scale: i8) -> Decimal128Array {
    Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).unwrap()
}

/// <https://iceberg.apache.org/spec/#appendix-b-32-bit-hash-requirements>
#[test]
fn hashes_are_those_of_the_specification() {
    let uuid =
        [0xf7, 0x9c, 0x3e, 0x09, 0x67, 0x7c, 0x4b, 0xbd, 0xa4, 0x79, 0x3f, 0x34, 0x9c, 0xb7, 0x85, 0xe7];
    let bytes: &[u8] = &[0, 1, 2, 3];
    let cases: Vec<(ArrayRef, i32)> = vec![
        (Arc::new(Int32Array::from(vec![34])), 2_017_239_379),
        (Arc::new(Int64Array::from(vec![34])), 2_017_239_379),
        (Arc::new(decimals(&[1_420], 9, 2)), -500_754_589),
        (Arc::new(Date32Array::from(vec![17_486])), -653_330_422),
        (Arc::new(Time64MicrosecondArray::from(vec![81_068_000_000])), -662_762_989),
        (Arc::new(TimestampMicrosecondArray::from(vec![INSTANT])), -2_047_944_441),
        (Arc::new(TimestampMicrosecondArray::from(vec![INSTANT + 1])), -1_207_196_810),
        (Arc::new(TimestampMicrosecondArray::from(vec![INSTANT]).with_timezone("UTC")), -2_047_944_441),
        (Arc::new(StringArray::from(vec!["iceberg"])), 1_210_000_089),
        (Arc::new(FixedSizeBinaryArray::try_from(vec![&uuid]).unwrap()), 1_488_055_340),
        (Arc::new(BinaryArray::from(vec![bytes])), -188_683_207),
    ];
    for (column, hash) in cases {
        // All bits but the sign come out of the largest number of buckets.
        let expected = i128::from(hash.cast_unsigned() & 0x7fff_ffff);
        let keys = Transform::Bucket(0x8000_0000).keys(column.as_ref()).unwrap();
        assert_eq!(keys, [Key::Number(expected)], "{:?}", column.data_type());
    }
    assert_eq!(texts(Transform::Bucket(16), &Int32Array::from(vec![Some(34), None])), ["3", "NULL"]);
}

/// Java's `BigInteger.toByteArray`, which the specification means by minimal: the sign has a bit of its own.
#[test]
fn decimals_hash_as_their_fewest_bytes() {
    for (value, bytes) in [
        (0, &[0x00][..]),
        (127, &[0x7f]),
        (128, &[0x00, 0x80]),
        (-1, &[0xff]),
        (-128, &[0x80]),
        (-129, &[0xff, 0x7f]),
        (1_420, &[0x05, 0x8c]),
    ] {
        let all = Transform::Bucket(0x8000_0000);
        let (decimal, bytes) = (decimals(&[value], 38, 0), BinaryArray::from(vec![bytes]));
        assert_eq!(all.keys(&decimal), all.keys(&bytes), "{value}");
    }
}

#[test]
fn truncation_is_that_of_the_specification() {
    let width = Transform::Truncate(10);
    assert_eq!(texts(width, &Int32Array::from(vec![1, -1, 10, -10, -11])), ["0", "-10", "10", "-10", "-20"]);
    assert_eq!(texts(width, &Int64Array::from(vec![i64::MIN])), ["-9223372036854775810"]);
    assert_eq!(texts(Transform::Truncate(50), &decimals(&[1_065, -1], 9, 2)), ["10.50", "-0.50"]);
    let column = StringArray::from(vec![Some("iceberg"), Some("ic"), Some("añb日c"), Some(""), None]);
    assert_eq!(texts(Transform::Truncate(3), &column), ["ice", "ic", "añb", "", "NULL"]);
}

#[test]
fn times_go_down_to_their_unit_before_1970_too() {
    let column = TimestampMicrosecondArray::from(vec![
        Some(INSTANT),
        Some(-1),
        Some(-86_400_000_001),
        Some(0),
        Some(-62_135_596_800_000_000),
        None,
    ]);
    for (transform, expected) in [
        (Transform::Year, ["2017", "1969", "1969", "1970", "0001", "NULL"]),
        (Transform::Month, ["2017-11", "1969-12", "1969-12", "1970-01", "0001-01", "NULL"]),
        (Transform::Day, ["2017-11-16", "1969-12-31", "1969-12-30", "1970-01-01", "0001-01-01", "NULL"]),
        (
            Transform::Hour,
            ["2017-11-16-22", "1969-12-31-23", "1969-12-30-23", "1970-01-01-00", "0001-01-01-00", "NULL"],
        ),
    ] {
        assert_eq!(texts(transform, &column), expected);
    }
    // As numbers: those that the specification gives its result types for.
    let two = TimestampMicrosecondArray::from(vec![INSTANT, -1]);
    for (transform, number) in
        [(Transform::Year, 47), (Transform::Month, 574), (Transform::Day, 17_486), (Transform::Hour, 419_686)]
    {
        assert_eq!(transform.keys(&two), Some(vec![Key::Number(number), Key::Number(-1)]));
    }
    let dates = Date32Array::from(vec![17_486, -1]);
    assert_eq!(texts(Transform::Month, &dates), ["2017-11", "1969-12"]);
    assert_eq!(texts(Transform::Day, &dates), ["2017-11-16", "1969-12-31"]);
    assert_eq!(texts(Transform::Year, &dates), ["2017", "1969"]);
}

#[test]
fn values_print_as_iceberg_prints_them() {
    let of = |column: &dyn Array| texts(Transform::Identity, column);
    assert_eq!(of(&Int32Array::from(vec![Some(-5), None])), ["-5", "NULL"]);
    assert_eq!(of(&decimals(&[-5, 1_420], 9, 2)), ["-0.05", "14.20"]);
    assert_eq!(of(&Date32Array::from(vec![-1])), ["1969-12-31"]);
    assert_eq!(of(&BooleanArray::from(vec![true, false])), ["true", "false"]);
    assert_eq!(of(&StringArray::from(vec!["a/b"])), ["a/b"]);
}

#[test]
fn types_without_a_use_are_refused() {
    let floats = Float64Array::from(vec![1.0]);
    for transform in [Transform::Day, Transform::Bucket(4), Transform::Truncate(4), Transform::Identity] {
        assert!(transform.keys(&floats).is_none(), "{transform:?}");
    }
    assert!(Transform::Hour.keys(&Date32Array::from(vec![1])).is_none());
    assert!(Transform::Day.keys(&StringArray::from(vec!["2026-01-01"])).is_none());
    assert!(Transform::Identity.keys(&BinaryArray::from(vec![&b"x"[..]])).is_none());
    assert!(Transform::Bucket(2).keys(&BooleanArray::from(vec![true])).is_none());
}

#[test]
fn transforms_are_read_as_they_are_written() {
    let texts =
        ["year(a)", "month(a)", "day(a)", "hour(a)", "bucket(16, a b)", "truncate(4, a,b)", "identity(A(x))"];
    for text in texts {
        let read: PartitionBy = text.parse().unwrap();
        assert_eq!(read.to_string(), text);
    }
    let read: PartitionBy = " bucket( 8 ,  id ) ".parse().unwrap();
    assert_eq!((read.transform, read.column.as_str()), (Transform::Bucket(8), "id"));
    for (text, what) in [
        ("created_at", "`created_at`: this is no transform; there are year(c), "),
        ("dya(a)", "`dya(a)`: there is no transform `dya`; there are "),
        ("bucket(a)", "`bucket(a)`: a number comes first; "),
        ("bucket(a, 16)", "`bucket(a, 16)`: a number comes first; "),
        ("bucket(0, a)", "`bucket(0, a)`: 0 is not between 1 and 100000; "),
        ("truncate(-1, a)", "`truncate(-1, a)`: a number comes first; "),
        ("day( )", "`day( )`: it names no column; "),
    ] {
        let error = text.parse::<PartitionBy>().unwrap_err();
        assert!(error.starts_with(what), "{error}");
    }
}
