use tables::lineage::{LeafFacts, Link, RootFacts};

use super::*;

fn told(before: &[&str]) -> Vec<(&'static str, String)> {
    let root = |oid, name: &str, replica_identity| RootFacts {
        oid: Oid(oid),
        schema: "public".to_owned(),
        name: name.to_owned(),
        primary_key: Vec::new(),
        replica_identity,
    };
    let leaf = |oid, root, replica_identity| LeafFacts {
        oid: Oid(oid),
        schema: "public".to_owned(),
        name: format!("leaf_{oid}"),
        root: Oid(root),
        link: Link::default(),
        replica_identity,
    };
    let facts = Facts {
        roots: vec![
            root(1, "whole", ReplicaIdentity::Full),
            root(2, "keyed", ReplicaIdentity::Default),
            root(3, "tree", ReplicaIdentity::Default),
            root(4, "mixed_tree", ReplicaIdentity::Full),
            root(5, "scratch", ReplicaIdentity::Default),
        ],
        leaves: vec![
            leaf(11, 4, ReplicaIdentity::Full),
            leaf(12, 3, ReplicaIdentity::Full),
            leaf(13, 4, ReplicaIdentity::Default),
        ],
        ..Facts::default()
    };
    let selection = Selection::new(&["*.*".to_owned()], &["public.scratch".to_owned()]).unwrap();
    let globs: Vec<String> = before.iter().map(|glob| (*glob).to_owned()).collect();
    let mut report = Report::default();
    look(&mut report, &Selection::new(&globs, &[]).unwrap(), &selection, &facts);
    report.checks.into_iter().map(|check| (check.state.label(), check.found)).collect()
}

/// T24: a root says nothing of the old rows of its leaves.
#[test]
fn t24_tables_whose_old_rows_are_not_whole_are_named() {
    assert_eq!(told(&[]), []);
    let warning = "public.keyed, public.mixed_tree: _cdc_before has at most the key of an old row";
    assert_eq!(told(&["*.*"]), [("warn", warning.to_owned())]);
    assert_eq!(told(&["public.whole", "*.tree"]), [("ok", "2 tables have them whole".to_owned())]);
    let none = "`tables.before` names no published table".to_owned();
    assert_eq!(told(&["public.scratch", "sales.*"]), [("warn", none)]);
}
