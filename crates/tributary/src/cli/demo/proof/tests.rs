use super::*;

fn equal_table() -> TableProof {
    let ops = Ops { inserts: 2, updates: 1, deletes: 1, truncates: 0 };
    TableProof {
        table: "shop.orders".to_owned(),
        changes_made: ops,
        changes_in_files: ops,
        rows_in_postgres: 1,
        rows_in_lake: 1,
        ..TableProof::default()
    }
}

#[test]
fn equal_means_every_count_and_cell() {
    let proof = Proof { tables: vec![equal_table()], ..Proof::default() };
    assert!(proof.is_equal());
    assert!(proof.complaints().is_empty());
}

#[test]
fn every_difference_is_named() {
    let mut table = equal_table();
    table.changes_in_files.inserts = 1;
    table.missing.add(|| "tenant=1, id=7".to_owned());
    let mut proof = Proof { tables: vec![table], ..Proof::default() };
    proof.duplicates.add(|| "(10, 1) in shop.orders".to_owned());
    assert!(!proof.is_equal());
    let complaints = proof.complaints().join("\n");
    assert!(
        complaints.contains("shop.orders: rows that the lake lacks: 1, first tenant=1, id=7"),
        "{complaints}"
    );
    assert!(complaints.contains("found twice: 1, first (10, 1) in shop.orders"), "{complaints}");
    assert!(complaints.contains("changes made 2 I, 1 U, 1 D, 0 T; in the files 1 I"), "{complaints}");
}

#[test]
fn only_the_first_findings_are_kept() {
    let mut findings = Findings::default();
    for number in 0..100 {
        findings.add(|| number.to_string());
    }
    assert_eq!((findings.count, findings.first.len()), (100, FIRST_MAX));
}
