use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, ListArray,
    StringArray, TimestampMicrosecondArray,
};

use super::*;

fn text(column: ArrayRef) -> Option<String> {
    let mut text = "left over".to_owned();
    render(&column, 0, &mut text).unwrap().then_some(text)
}

fn decimal(value: i128) -> Option<String> {
    text(Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(12, 2).unwrap()))
}

#[test]
fn decimals_print_as_postgres_prints_them() {
    assert_eq!(decimal(0).as_deref(), Some("0.00"));
    assert_eq!(decimal(5).as_deref(), Some("0.05"));
    assert_eq!(decimal(-5).as_deref(), Some("-0.05"));
    assert_eq!(decimal(-12345).as_deref(), Some("-123.45"));
    assert_eq!(decimal(999_999_999_999).as_deref(), Some("9999999999.99"));
}

#[test]
fn other_types_print_as_the_sql_expressions_do() {
    assert_eq!(text(Arc::new(BooleanArray::from(vec![true]))).as_deref(), Some("true"));
    assert_eq!(text(Arc::new(Int32Array::from(vec![-7]))).as_deref(), Some("-7"));
    assert_eq!(text(Arc::new(Date32Array::from(vec![-1]))).as_deref(), Some("-1"));
    assert_eq!(text(Arc::new(StringArray::from(vec!["☃"]))).as_deref(), Some("☃"));
    assert_eq!(text(Arc::new(BinaryArray::from(vec![&[0_u8, 255][..]]))).as_deref(), Some("00ff"));
    let instant = TimestampMicrosecondArray::from(vec![1_000_001]).with_timezone("UTC");
    assert_eq!(text(Arc::new(instant)).as_deref(), Some("1000001"));
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None, Some(3)])]);
    assert_eq!(text(Arc::new(list)).as_deref(), Some("[1,null,3]"));
    let empty = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(Vec::new())]);
    assert_eq!(text(Arc::new(empty)).as_deref(), Some("[]"));
}

#[test]
fn null_is_not_the_empty_string() {
    assert_eq!(text(Arc::new(StringArray::from(vec![None::<&str>]))), None);
    assert_eq!(text(Arc::new(StringArray::from(vec![""]))).as_deref(), Some(""));
    assert_ne!(Fingerprint::of(Some("")), Fingerprint::NULL);
    assert_eq!(Fingerprint::of(None), Fingerprint::NULL);
}

#[test]
fn a_type_that_does_not_belong_is_refused() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    assert!(render(&floats, 0, &mut String::new()).is_err());
}
