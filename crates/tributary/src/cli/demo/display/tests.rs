use super::super::load::Ops;
use super::*;

#[test]
fn numbers_are_grouped_and_bytes_have_units() {
    assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([0, 1023, 1024, 1_572_864].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
}

#[test]
fn the_table_says_who_is_equal() {
    let equal = TableProof { table: "shop.orders".to_owned(), leaves: 400, ..TableProof::default() };
    let unequal = TableProof {
        table: "shop.events".to_owned(),
        changes_made: Ops { inserts: 1, ..Ops::default() },
        ..TableProof::default()
    };
    let text = proof_table(&Proof { tables: vec![equal, unequal], ..Proof::default() });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[2].contains("shop.orders") && lines[2].ends_with("yes"), "{text}");
    assert!(lines[3].contains("shop.events") && lines[3].ends_with("NO"), "{text}");
}

#[test]
fn long_folders_are_shortened() {
    let lake = tempfile::tempdir().unwrap();
    let hour = lake.path().join("shop/orders/data/cdc_date=2026-08-01/cdc_hour=12");
    fs::create_dir_all(&hour).unwrap();
    for number in 0..9 {
        fs::write(hour.join(format!("{number}.parquet")), "1234").unwrap();
    }
    let text = tree(lake.path());
    assert!(text.contains("0.parquet  4 B") && text.contains("1.parquet"), "{text}");
    assert!(!text.contains("2.parquet") && text.contains("└── … 7 more, 28 B"), "{text}");
}
