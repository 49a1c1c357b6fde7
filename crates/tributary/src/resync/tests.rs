use lake::log::{Author, Entry, EntryKind, Event};
use pgoutput::Lsn;

use super::*;

fn state() -> State {
    let schema = |relation: u32, name: &str| Event::Schema {
        table: format!("public.{name}"),
        schema_name: "public".to_owned(),
        table_name: name.to_owned(),
        relation,
        path: format!("public/{name}"),
        schema_id: 1,
        document: serde_json::Value::Null,
    };
    let entry = Entry {
        format: lake::log::FORMAT,
        seq: 1,
        nonce: String::new(),
        epoch: 1,
        owner: String::new(),
        kind: EntryKind::Open,
        system_id: "1".to_owned(),
        timeline: 1,
        slot: "tributary".to_owned(),
        from_lsn: Lsn(5),
        to_lsn: Lsn(5),
        to_commit_ts: None,
        written_at: None,
        tables: Vec::new(),
        events: vec![
            schema(1, "orders"),
            schema(2, "customers"),
            Event::Attach { root: 1, leaves: vec![(10, "parts.orders_1".to_owned())] },
            Event::Rename {
                table: "public.customers".to_owned(),
                relation: 2,
                schema_name: "sales".to_owned(),
                table_name: "clients".to_owned(),
            },
        ],
    };
    let mut state = None;
    State::fold(&mut state, &entry).expect("the first entry");
    state.expect("it makes the state")
}

fn chosen(globs: &[&str], exclude: &[&str]) -> Result<Vec<String>, String> {
    chosen_by(globs, exclude, false)
}

fn chosen_by(globs: &[&str], exclude: &[&str], via_root: bool) -> Result<Vec<String>, String> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let wanted = Selection::new(&["*.*".to_owned()], &owned(exclude)).expect("good globs");
    choose(&state(), &wanted, &owned(globs), via_root)
        .map(|found| found.iter().map(ToString::to_string).collect())
}

#[test]
fn a_leaf_is_itself_or_means_its_root_and_says_so() {
    assert_eq!(chosen(&["public.orders"], &[]), Ok(vec!["public.orders".to_owned()]));
    assert_eq!(chosen(&["parts.*"], &[]), Ok(vec!["parts.orders_1".to_owned()]));
    let for_leaf = vec!["public.orders (all of it, for parts.orders_1)".to_owned()];
    assert_eq!(chosen_by(&["parts.*"], &[], true), Ok(for_leaf));
    // Both at once are the root.
    assert_eq!(chosen(&["public.orders", "parts.*"], &[]), Ok(vec!["public.orders".to_owned()]));
}

#[test]
fn a_renamed_table_is_known_by_its_name_of_now() {
    assert_eq!(chosen(&["sales.*"], &[]), Ok(vec!["public.customers".to_owned()]));
    assert!(chosen(&["public.customers"], &[]).is_err());
}

#[test]
fn nothing_is_said_to_match_nothing() {
    let why = chosen(&["public.other", "x.*"], &[]).expect_err("there is no such table");
    assert!(why.starts_with("no table of the lake matches public.other, x.*;"), "{why}");
    assert!(chosen(&["public.orders"], &["public.orders"]).is_err(), "an excluded table is not in the lake");
    assert!(chosen(&["orders"], &[]).is_err());
}

#[test]
fn what_the_log_takes_makes_the_table_run_again() {
    let mut state = state();
    let author = Author { epoch: 2, owner: String::new() };
    let mut entry = state.next_entry(&author, EntryKind::Open).expect("an entry");
    entry.events = vec![Event::SnapshotStart {
        root: None,
        table: "public.orders".to_owned(),
        relation: 1,
        supersedes: true,
        anew: true,
    }];
    state.advance(&entry).expect("it follows");
    let snapshot = state.snapshots.get(&1).expect("it is asked for");
    assert_eq!((snapshot.state, snapshot.supersedes), (lake::log::Reading::Running, true));
}
