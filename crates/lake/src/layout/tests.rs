use std::collections::BTreeSet;

use super::*;

#[test]
fn a_data_file_lies_in_the_hour_of_its_commit() {
    let partition = Partition::of(1_785_545_999_123_456);
    assert_eq!(
        data_key("public/orders", partition, 1, Lsn(0x150), Some(Lsn(0x180)), 0),
        "public/orders/data/cdc_date=2026-08-01/cdc_hour=00/00000000000000000001-0000000000000150-0000000000000180-0000.parquet"
    );
    assert_eq!(Partition::of(-1).path(), "cdc_date=1969-12-31/cdc_hour=23");
}

#[test]
fn a_file_whose_end_is_not_known_is_bounded_by_the_highest_lsn() {
    let key = data_key("public/orders", Partition { hour: 0 }, 7, Lsn(1), None, 2);
    assert!(key.ends_with("00000000000000000007-0000000000000001-ffffffffffffffff-0002.parquet"), "{key}");
}

#[test]
fn log_keys_sort_as_their_numbers_and_parse_back() {
    assert_eq!(log_seq(&log_key(42)), Some(42));
    assert!(log_key(9) < log_key(10));
    assert_eq!(log_seq(&checkpoint_key(42)), None);
    assert_eq!(log_seq(WATERMARK), None);
}

/// T99: hostile identifiers neither leave their folder, nor hide, nor meet.
#[test]
fn t99_table_paths_are_plain_and_injective() {
    assert_eq!(table_path("public", "orders"), "public/orders");
    let names = [
        "orders",
        "Orders",
        "ORDERS",
        "_orders",
        "__orders",
        "or/ders",
        "../orders",
        "or ders",
        " ",
        "",
        "Ünï",
        "ünï",
        "a=b",
        "a%b",
        "a\nb",
        ".hidden",
        "data",
        "日本",
    ];
    let paths: BTreeSet<String> = names.iter().map(|name| table_path("public", name)).collect();
    assert_eq!(paths.len(), names.len(), "two names met: {paths:?}");
    for path in &paths {
        let (schema, table) = path.split_once('/').unwrap();
        assert_eq!(schema, "public");
        assert!(!table.is_empty() && !table.starts_with('_'), "{path}");
        assert!(table.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{path}");
    }
}
