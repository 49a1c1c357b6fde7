use std::collections::BTreeMap;

use crate::verify::TableReport;

use super::*;

fn report() -> Report {
    let row = |what, columns: &[&str]| RowDifference {
        key: BTreeMap::from([("id".to_owned(), "5".to_owned())]),
        what,
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
    };
    let difference = Difference {
        source_rows: 1_234,
        lake_rows: 1_233,
        buckets: 1,
        of_buckets: 2,
        files: BTreeMap::from([("public/b/data/x.parquet".to_owned(), "it is missing".to_owned())]),
        rows: vec![row(RowFault::Missing, &[]), row(RowFault::Values, &["note", "doc"])],
        has_more: true,
    };
    let table = |table: &str, verdict| TableReport { table: table.to_owned(), verdict, notes: Vec::new() };
    Report {
        lsn: Lsn(0x16_B374_D848),
        time: 1_790_000_000,
        tables: vec![
            table("public.a", Verdict::Equal { rows: 10_000 }),
            table("public.b", Verdict::Different(difference)),
            table("public.c", Verdict::Skipped { reason: "it is being read".to_owned() }),
        ],
    }
}

#[test]
fn an_answer_for_people() {
    assert_eq!(
        render(&report()),
        "equal      public.a  10,000 rows\n\
         DIFFERENT  public.b\n           \
         1,234 rows at the source, 1,233 in the lake; 1 of 2 buckets differ\n           \
         file public/b/data/x.parquet: it is missing\n           \
         id = 5: only at the source\n           \
         id = 5: differs in note, doc\n           \
         and more\n           \
         `tributary fsck --deep` tells which files were damaged or do not belong there; `tributary resync` heals the current state\n\
         skipped    public.c  it is being read\n\n\
         at 16/B374D848: 1 tables with 10,000 rows are equal, 1 differ, 1 were not compared\n"
    );
}

#[test]
fn an_answer_for_machines() {
    let document = document(&report(), &[]);
    assert_eq!(document["proved"], false);
    assert_eq!(
        (&document["equal"], &document["different"], &document["skipped"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(document["tables"][0], json!({"table": "public.a", "verdict": "equal", "rows": 10_000}));
    assert_eq!(
        document["tables"][1]["rows"][1],
        json!({"key": {"id": "5"}, "what": "values", "columns": ["note", "doc"]})
    );
}

#[test]
fn what_was_named_must_be_compared() {
    let mut report = report();
    report.tables.remove(1);
    assert!(is_proved(&report, &[]));
    assert!(is_proved(&report, &["public.*".to_owned()]));
    assert!(!is_proved(&report, &["public.c".to_owned()]));
    report.tables.remove(0);
    assert!(!is_proved(&report, &[]), "nothing was compared");
}

#[test]
fn metrics_of_a_proof() {
    let text = metrics(&report());
    for line in [
        "tributary_verify_tables{verdict=\"different\"} 1",
        "tributary_verify_rows 10000",
        "tributary_verify_point_seconds 1790000000",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[test]
fn a_rate_is_a_size() {
    assert_eq!(parse_size("50MiB"), Ok(50 << 20));
    assert!(parse_size("50").is_err() && parse_size("0MiB").is_err());
}
