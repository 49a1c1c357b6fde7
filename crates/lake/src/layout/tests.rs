use std::collections::BTreeSet;

use super::*;

#[test]
fn a_data_file_lies_in_the_hour_of_its_commit() {
    let partition = Partition::Hour(Hour::of(1_785_545_999_123_456));
    assert_eq!(
        data_key("public/orders", &partition, 1, Lsn(0x150), Some(Lsn(0x180)), 0),
        "public/orders/data/cdc_date=2026-08-01/cdc_hour=00/00000000000000000001-0000000000000150-0000000000000180-0000.parquet"
    );
    assert_eq!(Partition::Hour(Hour::of(-1)).path(), "cdc_date=1969-12-31/cdc_hour=23");
}

#[test]
fn a_file_whose_end_is_not_known_is_bounded_by_the_highest_lsn() {
    let key = data_key("public/orders", &Partition::Hour(Hour { hour: 0 }), 7, Lsn(1), None, 2);
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

#[test]
fn a_file_may_lie_by_the_values_of_its_rows() {
    let values = |pairs: &[(&str, Option<&str>)]| {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)));
        Partition::Values(Values::new(pairs.collect()))
    };
    let partition = values(&[("created_at_day", Some("2026-11-24")), ("id_bucket", Some("3"))]);
    assert_eq!(partition.path(), "created_at_day=2026-11-24/id_bucket=3");
    // Hive's names, so that its readers find NULL, and every other value as it was.
    let path = |value: Option<&str>| values(&[("s", value)]).path();
    assert_eq!(path(None), "s=__HIVE_DEFAULT_PARTITION__");
    assert_eq!(path(Some("")), "s=__HIVE_DEFAULT_PARTITION__");
    assert_eq!(path(Some("__HIVE_DEFAULT_PARTITION__")), "s=%5F_HIVE_DEFAULT_PARTITION__");
    assert_eq!(path(Some("a/b:c=d%e\\f\n\u{7f}")), "s=a%2Fb%3Ac%3Dd%25e%5Cf%0A%7F");
    assert_eq!(path(Some("..")), "s=..");
    assert_eq!(path(Some("Ünï 日本.x-y_z~")), "s=Ünï 日本.x-y_z~");
}

#[test]
fn long_values_are_cut_and_told_apart() {
    let path = |value: &str| Values::new(vec![("s".to_owned(), Some(value.to_owned()))]).path();
    let short = "x".repeat(100);
    assert_eq!(path(&short), format!("s={short}"));
    let (one, other) = (path(&"x".repeat(1_000)), path(&"x".repeat(1_001)));
    assert_ne!(one, other);
    for path in [one, other, path(&"%".repeat(500)), path(&"日".repeat(500))] {
        assert!((80..=119).contains(&path.len()), "{path}");
    }
}

/// A partition in the log is a number, as it always was, or the values by their keys, in order.
#[test]
fn the_log_tells_the_partition() {
    let round = |partition: &Partition| {
        let text = serde_json::to_string(partition).unwrap();
        assert_eq!(serde_json::from_str::<Partition>(&text).unwrap(), *partition);
        text
    };
    assert_eq!(round(&Partition::Hour(Hour { hour: -3 })), "-3");
    let values = vec![("z".to_owned(), Some("a/b".to_owned())), ("a".to_owned(), None)];
    assert_eq!(round(&Partition::Values(Values::new(values))), r#"{"z":"a/b","a":null}"#);
}

#[test]
fn keys_are_plain_names_of_their_own() {
    let names = ["created_at", "Created At", "_created", "a:b", "A:b", "ä", "data", ""];
    let key = |name: &&str| PartitionBy { transform: Transform::Day, column: (*name).to_owned() }.key();
    let keys: BTreeSet<String> = names.iter().map(key).collect();
    assert_eq!(keys.len(), names.len(), "{keys:?}");
    assert!(keys.contains("created_at_day"), "{keys:?}");
    for key in keys {
        assert!(key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{key}");
        assert!(!key.starts_with('_'), "{key}");
    }
}
