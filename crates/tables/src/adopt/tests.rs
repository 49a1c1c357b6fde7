use std::collections::HashMap;

use arrow::array::{AsArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Int32Type, Schema};
use pgoutput::Oid;

use super::*;
use crate::schema::ColumnSpec;
use crate::types::TypeCatalog;

const INT4: u32 = 23;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const INT4_ARRAY: u32 = 1007;

fn schema(columns: &[(&str, u32)], key: &[&str]) -> TableSchema {
    let spec = |(name, oid): &(&str, u32)| ColumnSpec {
        name: (*name).to_owned(),
        type_oid: Oid(*oid),
        type_modifier: -1,
        resolved: TypeCatalog::default().resolve(Oid(*oid), -1),
    };
    let specs: Vec<ColumnSpec> = columns.iter().map(spec).collect();
    TableSchema::new(&specs, key.iter().map(|name| (*name).to_owned()).collect())
}

/// A batch as a reader of a file has it: nested fields bear the ids of the file, by other names than ours.
fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn metadata(rows: usize) -> Vec<(&'static str, ArrayRef)> {
    let texts = |text: &str| Arc::new(StringArray::from(vec![text; rows])) as ArrayRef;
    let numbers = |number: i64| Arc::new(Int64Array::from(vec![number; rows])) as ArrayRef;
    let times = arrow::array::TimestampMicrosecondArray::from(vec![1; rows]).with_timezone("UTC");
    vec![
        ("_cdc_op", texts("I")),
        ("_cdc_lsn", numbers(5)),
        ("_cdc_seq", numbers(1)),
        ("_cdc_commit_ts", Arc::new(times)),
        ("_cdc_xid", numbers(7)),
        ("_cdc_relation", texts("public.leaf")),
    ]
}

#[test]
fn columns_go_by_their_names() {
    let leaf = schema(&[("numbers", INT4_ARRAY), ("id", INT4)], &["id"]);
    let root = schema(&[("id", INT4), ("note", TEXT), ("numbers", INT4_ARRAY)], &["id"]);
    let adoption = Adoption::new(&leaf, &root).unwrap();
    let element = Field::new("element", DataType::Int32, true)
        .with_metadata(HashMap::from([("PARQUET:field_id".to_owned(), "77".to_owned())]));
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let (_, offsets, values, nulls) = lists.into_parts();
    let lists = ListArray::new(Arc::new(element), offsets, values, nulls);
    let mut columns = metadata(2);
    columns.push(("numbers", Arc::new(lists)));
    columns.push(("id", Arc::new(Int32Array::from(vec![3, 4]))));
    let rows = adoption.rows(&batch(columns)).unwrap();
    assert_eq!(rows.schema(), root.arrow());
    let ids = rows.column_by_name("id").unwrap().as_primitive::<Int32Type>();
    assert_eq!(ids.values(), &[3, 4]);
    assert_eq!(rows.column_by_name("note").unwrap().null_count(), 2);
    let lists = rows.column_by_name("numbers").unwrap().as_list::<i32>();
    assert_eq!(lists.value(0).as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
    assert!(lists.is_null(1));
    assert_eq!(rows.column_by_name("_cdc_relation").unwrap().as_string::<i32>().value(1), "public.leaf");
}

#[test]
fn what_does_not_fit_is_refused() {
    let root = schema(&[("id", INT4), ("note", TEXT)], &["id"]);
    let refused = |leaf: &TableSchema| Adoption::new(leaf, &root).unwrap_err();
    let more = refused(&schema(&[("id", INT4), ("more", TEXT)], &["id"]));
    assert_eq!(more.to_string(), "the leaf has the column more as text, and the root has none");
    let wider = refused(&schema(&[("id", INT8), ("note", TEXT)], &["id"]));
    assert_eq!(wider.to_string(), "the leaf has the column id as int8, and the root as int4");
    let keyless = refused(&schema(&[("id", INT4), ("note", TEXT)], &[]));
    assert_eq!(keyless.to_string(), "the leaf has the key () and the root (id)");
    let mut before = schema(&[("id", INT4)], &["id"]);
    before.before = true;
    assert_eq!(refused(&before), Misfit::Before);
    assert!(Adoption::new(&schema(&[("id", INT4)], &["id"]), &root).is_ok());
}

#[test]
fn a_file_that_is_not_what_its_schema_says_is_an_error() {
    let leaf = schema(&[("id", INT4)], &["id"]);
    let adoption = Adoption::new(&leaf, &leaf).unwrap();
    let mut columns = metadata(1);
    columns.push(("id", Arc::new(StringArray::from(vec!["1"]))));
    assert!(adoption.rows(&batch(columns)).is_err());
}
