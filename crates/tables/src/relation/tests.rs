use super::*;

fn message<'a>(oid: u32, name: &'a str, columns: &[(&'a str, u32)]) -> Relation<'a> {
    Relation {
        xid: None,
        oid: Oid(oid),
        namespace: "public",
        name,
        replica_identity: ReplicaIdentity::Default,
        columns: columns
            .iter()
            .map(|(name, type_oid)| RelationColumn {
                is_identity: false,
                name,
                type_oid: Oid(*type_oid),
                type_modifier: -1,
            })
            .collect(),
    }
}

/// T26
#[test]
fn t26_a_storm_changes_nothing() {
    let mut relations = Relations::default();
    let leaves: Vec<String> = (0..1000).map(|at| format!("orders_{at}")).collect();
    let columns = [("id", 20), ("at", 1184), ("note", 25)];
    for (oid, leaf) in (0..).zip(&leaves) {
        assert_eq!(relations.announce(&message(oid, leaf, &columns), || false), Some(Target::Unplanned));
        relations.set_target(Oid(oid), Target::Plan(oid));
    }
    assert_eq!(relations.shapes_held, 1);
    let shape = Arc::clone(relations.shape(Oid(7)).unwrap());
    for _ in 0..200 {
        for (oid, leaf) in (0..).zip(&leaves) {
            let again = relations.announce(&message(oid, leaf, &columns), || panic!("asked for a name"));
            assert_eq!(again, None);
        }
    }
    assert_eq!(relations.target(Oid(7)), Some(Target::Plan(7)));
    assert!(Arc::ptr_eq(&shape, relations.shape(Oid(7)).unwrap()));
    // One for this test, one for the table of shapes, and one a leaf.
    assert_eq!(Arc::strong_count(&shape), 1002);
}

#[test]
fn what_makes_another_shape() {
    let base = message(1, "orders", &[("id", 20), ("note", 25)]);
    let check = |changed: Relation<'_>, expected: Option<Target>| {
        let mut relations = Relations::default();
        relations.announce(&base, || false);
        relations.set_target(Oid(1), Target::Excluded);
        assert_eq!(relations.announce(&changed, || false), expected, "{changed:?}");
    };
    let is_new = Some(Target::Excluded);
    check(base.clone(), None);
    check(message(1, "renamed", &[("id", 20), ("note", 25)]), None);
    check(message(1, "orders", &[("id", 20)]), is_new);
    check(message(1, "orders", &[("id", 20), ("note", 25), ("more", 25)]), is_new);
    check(message(1, "orders", &[("note", 25), ("id", 20)]), is_new);
    check(message(1, "orders", &[("id", 23), ("note", 25)]), is_new);
    check(message(1, "orders", &[("id", 20), ("notes", 25)]), is_new);
    check(Relation { replica_identity: ReplicaIdentity::Full, ..base.clone() }, is_new);
    let mut flagged = base.clone();
    flagged.columns[0].is_identity = true;
    check(flagged, is_new);
    let mut modified = base.clone();
    modified.columns[1].type_modifier = 36;
    check(modified, is_new);
    check(message(2, "orders", &[("id", 20), ("note", 25)]), Some(Target::Unplanned));
}

#[test]
fn shapes_that_nobody_has_are_forgotten() {
    let mut relations = Relations::default();
    for version in 0..10_000 {
        let columns: Vec<String> = vec![format!("c{version}")];
        relations.announce(&message(1, "orders", &[(&columns[0], 25)]), || false);
    }
    assert!(relations.shapes_held <= SHAPES_MIN, "{} shapes", relations.shapes_held);
    assert_eq!(&*relations.shape(Oid(1)).unwrap().columns[0].name, "c9999");
}

#[test]
fn names_only_for_strangers() {
    let mut relations = Relations::default();
    relations.announce(&message(1, "known", &[]), || false);
    relations.announce(&message(2, "stranger", &[]), || true);
    assert_eq!(relations.name(Oid(1)), None);
    assert_eq!(relations.name(Oid(2)), Some(("public", "stranger")));
    assert_eq!(relations.target(Oid(3)), None);
    relations.clear();
    assert_eq!(relations.target(Oid(1)), None);
}
