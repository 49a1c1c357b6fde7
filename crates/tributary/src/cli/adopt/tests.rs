use lake::log::{Entry, EntryKind, Event, FORMAT};
use pgoutput::Lsn;

use super::*;

/// A lake with these tables, by OID, and the leaves of some.
fn state(tables: &[(u32, &str)], leaves: &[(u32, u32)]) -> State {
    let schema = |(oid, name): &(u32, &str)| Event::Schema {
        table: format!("public.{name}"),
        schema_name: "public".to_owned(),
        table_name: (*name).to_owned(),
        relation: *oid,
        path: format!("public/{name}"),
        schema_id: 1,
        document: json!({}),
    };
    let attach = |(root, leaf): &(u32, u32)| Event::Attach {
        root: *root,
        leaves: vec![(*leaf, format!("public.leaf_{leaf}"))],
    };
    let entry = Entry {
        format: FORMAT,
        seq: 1,
        nonce: String::new(),
        epoch: 1,
        owner: String::new(),
        kind: EntryKind::Open,
        system_id: String::new(),
        timeline: 1,
        slot: String::new(),
        from_lsn: Lsn(0),
        to_lsn: Lsn(0),
        to_commit_ts: None,
        written_at: None,
        tables: Vec::new(),
        events: tables.iter().map(schema).chain(leaves.iter().map(attach)).collect(),
    };
    let mut state = None;
    State::fold(&mut state, &entry).unwrap();
    state.unwrap()
}

fn refusal(state: &State, leaf: u32, root: u32) -> String {
    refuse_relatives(state, Pair { leaf, root }).unwrap_err().to_string()
}

#[test]
fn tables_are_found_by_their_names() {
    let mut state = state(&[(1, "orders"), (2, "orders_us"), (3, "twice"), (4, "other")], &[]);
    state.tables.get_mut(&2).unwrap().renamed = Some(("sales".to_owned(), "us".to_owned()));
    state.tables.get_mut(&4).unwrap().renamed = Some(("public".to_owned(), "twice".to_owned()));
    assert_eq!(find(&state, "public.orders_us").unwrap(), 2);
    assert_eq!(find(&state, "sales.us").unwrap(), 2);
    assert_eq!(
        find(&state, "public.nothing").unwrap_err().to_string(),
        "the lake has no table public.nothing"
    );
    assert_eq!(
        find(&state, "public.twice").unwrap_err().to_string(),
        "two tables of the lake are called public.twice"
    );
}

#[test]
fn relatives_are_refused() {
    let state = state(&[(1, "orders"), (2, "orders_us"), (3, "events")], &[(3, 2), (1, 9)]);
    assert!(refusal(&state, 1, 1).ends_with("they are one table"));
    assert!(refusal(&state, 2, 1).ends_with("it is one of public.events"));
    assert!(refusal(&state, 1, 2).ends_with("that is a leaf of public.events itself"));
    assert!(refusal(&state, 1, 3).ends_with("it has leaves of its own"));
    let fresh = self::state(&[(1, "orders"), (2, "orders_us")], &[]);
    assert!(refuse_relatives(&fresh, Pair { leaf: 2, root: 1 }).is_ok());
}
