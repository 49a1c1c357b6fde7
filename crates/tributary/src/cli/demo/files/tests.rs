use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Int64Array, ListBuilder, StringBuilder, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;

use super::super::shop::Shop;
use super::*;

/// A file of `readings` with one row an operation, all of the key `r01, 1970-01-03, 9`.
fn write(path: &Path, ops: &[&'static str], first_seq: i64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let rows = ops.len();
    let mut unchanged = ListBuilder::new(StringBuilder::new());
    for op in ops {
        if *op == "U" {
            unchanged.values().append_value("comment");
        }
        unchanged.append(*op == "U");
    }
    let seq: Vec<i64> = (first_seq..).take(rows).collect();
    let commit = TimestampMicrosecondArray::from(vec![1_785_585_600_000_000; rows]).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("_cdc_op", Arc::new(StringArray::from(ops.to_vec()))),
        ("_cdc_lsn", Arc::new(Int64Array::from(vec![100; rows]))),
        ("_cdc_seq", Arc::new(Int64Array::from(seq))),
        ("_cdc_commit_ts", Arc::new(commit)),
        ("_cdc_relation", Arc::new(StringArray::from(vec!["shop.readings_r01_2000_01"; rows]))),
        ("_cdc_unchanged", Arc::new(unchanged.finish())),
        ("id", Arc::new(Int64Array::from(vec![9; rows]))),
        ("region", Arc::new(StringArray::from(vec!["r01"; rows]))),
        ("taken_on", Arc::new(Date32Array::from(vec![2; rows]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn reads_what_the_files_say() {
    let lake = tempfile::tempdir().unwrap();
    let file = lake.path().join("shop/readings/data/cdc_date=2026-08-01/cdc_hour=12/1.parquet");
    write(&file, &["I", "U", "D", "T"], 1);
    let shop = Shop::new(3);
    let readings = shop.tables.get(2).unwrap();
    let files = walk(lake.path()).unwrap();
    assert_eq!(table_of(lake.path(), &files[0]).as_deref(), Some("shop.readings"));
    let table = read_table(readings.spec, &files).unwrap();
    assert_eq!((table.files, table.changes.len(), table.misplaced), (1, 4, 0));
    let [insert, update, delete, truncate] = table.changes.as_slice() else { panic!("four changes") };
    assert_eq!(&*insert.key, "id=9, region=r01, taken_on=2");
    assert_eq!((insert.op, insert.position, insert.unchanged), (Op::Insert, (100, 1), 0));
    assert_eq!((update.op, update.unchanged), (Op::Update, 1 << 8));
    assert_eq!((delete.op, &delete.key), (Op::Delete, &insert.key));
    assert_eq!((truncate.op, &*truncate.key), (Op::Truncate, ""));
    assert_eq!(table.relations, ["shop.readings_r01_2000_01"]);
}

#[test]
fn a_row_in_the_wrong_hour_is_noticed() {
    let lake = tempfile::tempdir().unwrap();
    let file = lake.path().join("shop/readings/data/cdc_date=2026-08-01/cdc_hour=13/1.parquet");
    write(&file, &["I"], 1);
    let shop = Shop::new(3);
    let table = read_table(shop.tables.get(2).unwrap().spec, &[file]).unwrap();
    assert_eq!(table.misplaced, 1);
}

#[test]
fn the_watch_counts_rows_and_notices_changed_and_vanished_files() {
    let lake = tempfile::tempdir().unwrap();
    let (one, two) = (lake.path().join("a/b/data/1.parquet"), lake.path().join("a/b/data/2.parquet"));
    write(&one, &["I", "U"], 1);
    let mut watch = Watch::default();
    watch.look(lake.path()).unwrap();
    write(&two, &["D"], 3);
    watch.look(lake.path()).unwrap();
    assert_eq!((watch.rows(), watch.looks(), watch.disturbed.len()), (3, 2, 0));
    fs::remove_file(&one).unwrap();
    write(&two, &["D", "I", "U"], 3);
    watch.look(lake.path()).unwrap();
    assert_eq!(watch.disturbed, [one, two]);
}

#[test]
fn a_lake_that_is_not_there_yet_is_empty() {
    assert!(walk(Path::new("/nonexistent/lake")).unwrap().is_empty());
}

#[test]
fn dates_and_hours_are_those_of_the_calendar() {
    assert_eq!(date_and_hour(0), ("1970-01-01".to_owned(), 0));
    assert_eq!(date_and_hour(951_825_599_999_999), ("2000-02-29".to_owned(), 11));
    assert_eq!(date_and_hour(1_785_585_600_000_000), ("2026-08-01".to_owned(), 12));
}
