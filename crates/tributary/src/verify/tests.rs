use tables::types::Codec;

use super::scope::Compared;
use super::*;

fn table() -> Table {
    let column = |name: &str| Compared {
        name: name.to_owned(),
        field_id: 100,
        codec: Codec::Text,
        modifier: -1,
        canon: render::Canon::Text,
        initial: None,
    };
    Table {
        oid: 1,
        name: "s.t".to_owned(),
        columns: vec![column("id"), column("note"), column("doc")],
        key: vec![0],
        relations: Vec::new(),
        names: None,
        own_names: Vec::new(),
        buckets: 1,
        notes: Vec::new(),
        doubts: Vec::new(),
    }
}

fn shown(key: &str, cells: [&str; 3]) -> (Hash, Shown) {
    let cells = cells.map(|cell| sums::hash(cell.as_bytes()));
    (sums::hash(key.as_bytes()), Shown { cells: cells.into(), key: vec![key.to_owned()], count: 1 })
}

#[test]
fn what_differs_is_narrowed_to_keys_and_columns() {
    let source = HashMap::from([
        shown("1", ["1", "a", "x"]),
        shown("2", ["2", "b", "y"]),
        shown("3", ["3", "c", "z"]),
    ]);
    let lake = HashMap::from([
        shown("1", ["1", "a", "x"]),
        shown("2", ["2", "B", "Y"]),
        shown("4", ["4", "d", "w"]),
    ]);
    let found = row_differences(&table(), &source, &lake);
    let said: Vec<(&str, RowFault, Vec<&str>)> = found
        .iter()
        .map(|row| (row.key["id"].as_str(), row.what, row.columns.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(
        said,
        [
            ("2", RowFault::Values, vec!["note", "doc"]),
            ("3", RowFault::Missing, vec![]),
            ("4", RowFault::Extra, vec![]),
        ]
    );
}

#[test]
fn rows_that_are_there_twice_are_found_without_a_key() {
    let source = HashMap::from([shown("1", ["1", "a", "x"])]);
    let mut twice = shown("1", ["1", "a", "x"]);
    twice.1.count = 2;
    let found = row_differences(&table(), &source, &HashMap::from([twice]));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].what, RowFault::Extra);
}

#[test]
fn only_what_changed_meanwhile_or_differs_for_the_first_time_is_looked_at_again() {
    let table = |name: &str, verdict| TableReport { table: name.to_owned(), verdict, notes: Vec::new() };
    let report = Report {
        lsn: Lsn(1),
        time: 0,
        tables: vec![
            table("differs", Verdict::Different(Difference::default())),
            table("differed", Verdict::Different(Difference::default())),
            table("changed", Verdict::Skipped { reason: format!("{CHANGED}: it was altered") }),
            table("read", Verdict::Skipped { reason: "it is being read".to_owned() }),
            table("equal", Verdict::Equal { rows: 5 }),
        ],
    };
    let before = BTreeSet::from(["differed".to_owned()]);
    assert_eq!(report.doubtful(&before).collect::<Vec<_>>(), ["differs", "changed"]);
}
