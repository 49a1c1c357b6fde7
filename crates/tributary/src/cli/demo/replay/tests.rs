use super::*;

fn change(position: (i64, i64), op: Op, key: &str, cells: [&str; 2]) -> Change {
    let cells = cells.iter().map(|text| Fingerprint::of((!text.is_empty()).then_some(text))).collect();
    Change { position, op, relation: 0, key: key.into(), cells, unchanged: 0 }
}

fn state(changes: Vec<Change>) -> State {
    let relations = vec!["shop.leaf_a".to_owned(), "shop.leaf_b".to_owned(), "shop.root".to_owned()];
    replay(&mut TableChanges { changes, relations, ..TableChanges::default() }, "shop.root")
}

fn cells(state: &State, key: &str) -> Option<Vec<Fingerprint>> {
    state.rows.get(key).map(|row| row.cells.to_vec())
}

fn prints(texts: [&str; 2]) -> Vec<Fingerprint> {
    texts.iter().map(|text| Fingerprint::of(Some(text))).collect()
}

#[test]
fn the_last_change_of_a_key_wins_wherever_it_stood() {
    let state = state(vec![
        change((20, 1), Op::Update, "1", ["1", "new"]),
        change((10, 1), Op::Insert, "1", ["1", "old"]),
        change((10, 2), Op::Insert, "2", ["2", "gone"]),
        change((30, 1), Op::Delete, "2", ["2", ""]),
    ]);
    assert_eq!(cells(&state, "1"), Some(prints(["1", "new"])));
    assert_eq!(cells(&state, "2"), None);
    assert!(state.oddities.is_empty());
}

#[test]
fn unchanged_cells_come_from_the_row_before_through_a_key_change_too() {
    let mut update = change((20, 1), Op::Update, "1", ["1", ""]);
    update.unchanged = 2;
    let mut moved = change((30, 2), Op::Insert, "9", ["9", ""]);
    moved.unchanged = 2;
    let state = state(vec![
        change((10, 1), Op::Insert, "1", ["1", "long"]),
        update,
        change((30, 1), Op::Delete, "1", ["1", ""]),
        moved,
    ]);
    assert_eq!(cells(&state, "9"), Some(prints(["9", "long"])));
    assert!(state.oddities.is_empty(), "{:?}", state.oddities);
}

#[test]
fn an_unchanged_cell_after_an_unrelated_delete_is_odd() {
    let mut insert = change((30, 3), Op::Insert, "9", ["9", ""]);
    insert.unchanged = 2;
    let state = state(vec![
        change((10, 1), Op::Insert, "1", ["1", "long"]),
        change((30, 1), Op::Delete, "1", ["1", ""]),
        insert,
    ]);
    assert_eq!(state.oddities.len(), 1);
}

#[test]
fn a_truncate_supersedes_its_leaf_or_everything() {
    let in_leaf_b = |mut change: Change| {
        change.relation = 1;
        change
    };
    let mut root = change((40, 1), Op::Truncate, "", ["", ""]);
    root.relation = 2;
    let mut changes = vec![
        change((10, 1), Op::Insert, "1", ["1", "a"]),
        in_leaf_b(change((10, 2), Op::Insert, "2", ["2", "b"])),
        change((20, 1), Op::Truncate, "", ["", ""]),
        change((20, 2), Op::Insert, "3", ["3", "later"]),
    ];
    let one = state(changes.clone());
    assert_eq!(cells(&one, "1"), None);
    assert_eq!((one.rows.len(), cells(&one, "2")), (2, Some(prints(["2", "b"]))));
    changes.push(root);
    assert!(state(changes).rows.is_empty());
}

#[test]
fn rows_that_were_lost_or_doubled_on_the_way_are_odd() {
    let state = state(vec![
        change((10, 1), Op::Insert, "1", ["1", "a"]),
        change((11, 1), Op::Insert, "1", ["1", "b"]),
        change((12, 1), Op::Update, "2", ["2", "b"]),
        change((13, 1), Op::Delete, "3", ["3", ""]),
    ]);
    assert_eq!(state.oddities.len(), 3);
    assert_eq!(
        state.oddities.first().map(String::as_str),
        Some("1 inserted although it is there (_cdc_lsn 11, _cdc_seq 1)")
    );
}
