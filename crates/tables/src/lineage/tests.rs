use super::*;

fn root(oid: u32, name: &str, key: &[&str]) -> RootFacts {
    RootFacts {
        oid: Oid(oid),
        schema: "public".to_owned(),
        name: name.to_owned(),
        primary_key: key.iter().map(|column| (*column).to_owned()).collect(),
        replica_identity: ReplicaIdentity::Default,
    }
}

fn leaf(oid: u32, name: &str, root: u32) -> LeafFacts {
    LeafFacts {
        oid: Oid(oid),
        schema: "public".to_owned(),
        name: name.to_owned(),
        root: Oid(root),
        link: Link::default(),
        replica_identity: ReplicaIdentity::Default,
    }
}

fn learn(lineage: &mut Lineage, roots: Vec<RootFacts>, leaves: Vec<LeafFacts>, gone: &[u32]) -> Learned {
    let gone = gone.iter().map(|oid| Oid(*oid)).collect();
    lineage.learn(&Facts { roots, leaves, gone, ..Facts::default() }, |_| false)
}

#[test]
fn leaves_follow_to_the_topmost_root() {
    let mut lineage = Lineage::default();
    let leaves = vec![leaf(3, "c", 2), leaf(2, "b", 1), leaf(5, "e", 6), leaf(6, "f", 5), leaf(7, "g", 7)];
    learn(&mut lineage, vec![root(1, "a", &["id", "at"])], leaves, &[]);
    assert_eq!(lineage.root_of(Oid(3)), Oid(1));
    assert_eq!(lineage.root_of(Oid(2)), Oid(1));
    assert_eq!(lineage.root_of(Oid(1)), Oid(1));
    assert_eq!(lineage.root_of(Oid(9)), Oid(9));
    // A circle ends somewhere, and a leaf of itself is none.
    lineage.root_of(Oid(5));
    assert_eq!(lineage.name(Oid(7)), None);
    assert_eq!(lineage.name(Oid(3)), Some(("public", "c")));
    assert_eq!(lineage.name(Oid(1)), Some(("public", "a")));
    assert_eq!(lineage.primary_key(Oid(1)), ["id", "at"]);
    assert!(lineage.primary_key(Oid(2)).is_empty());
}

#[test]
fn the_same_facts_again_are_no_news() {
    let mut lineage = Lineage::default();
    let (roots, leaves) = (vec![root(1, "a", &["id"])], vec![leaf(2, "b", 1), leaf(3, "c", 1)]);
    let first = learn(&mut lineage, roots.clone(), leaves.clone(), &[]);
    assert_eq!(
        first.news,
        [(Oid(1), vec![(Oid(2), "public.b".to_owned()), (Oid(3), "public.c".to_owned())])]
    );
    assert!(!first.replan);
    let bytes = lineage.heap_bytes();
    let again = learn(&mut lineage, roots, leaves, &[]);
    assert!(again.news.is_empty() && !again.replan);
    assert_eq!(lineage.heap_bytes(), bytes);
    // Absence is no news either.
    assert!(!learn(&mut lineage, Vec::new(), Vec::new(), &[2]).replan);
    assert!(!lineage.is_gone(Oid(2)));
    assert_eq!(lineage.root_of(Oid(2)), Oid(1));
}

#[test]
fn later_facts_win_save_for_a_leafs_name() {
    let mut lineage = Lineage::default();
    learn(&mut lineage, vec![root(1, "a", &["id"]), root(4, "d", &[])], vec![leaf(2, "b", 1)], &[]);
    let renamed = learn(&mut lineage, vec![root(1, "a2", &["id"])], vec![leaf(2, "b2", 1)], &[]);
    assert!(renamed.replan && renamed.news.is_empty());
    assert_eq!(lineage.name(Oid(1)), Some(("public", "a2")));
    assert_eq!(lineage.name(Oid(2)), Some(("public", "b")));
    let moved = learn(&mut lineage, Vec::new(), vec![leaf(2, "b2", 4)], &[]);
    assert!(moved.replan);
    assert_eq!(moved.news, [(Oid(4), vec![(Oid(2), "public.b".to_owned())])]);
    assert_eq!(lineage.root_of(Oid(2)), Oid(4));
    assert!(learn(&mut lineage, vec![root(1, "a2", &["id", "at"])], Vec::new(), &[]).replan);
    assert_eq!(lineage.primary_key(Oid(1)), ["id", "at"]);
}

/// T31, T41
#[test]
fn a_detached_leaf_keeps_its_name_and_no_other_gets_it() {
    let mut lineage = Lineage::default();
    learn(&mut lineage, vec![root(1, "a", &["id"])], vec![leaf(2, "b", 1)], &[]);
    assert_eq!(lineage.detach(Oid(2)), Some(Oid(1)));
    assert_eq!(lineage.detach(Oid(2)), None);
    assert_eq!(lineage.root_of(Oid(2)), Oid(2));
    assert!(!lineage.is_leaf(Oid(2)) && lineage.name(Oid(2)).is_none());
    assert_eq!(lineage.relations().collect::<Vec<_>>(), [Oid(1)]);
    let next = learn(&mut lineage, Vec::new(), vec![leaf(3, "b", 1)], &[]);
    assert_eq!(next.news, [(Oid(1), vec![(Oid(3), "public.b_3".to_owned())])]);
    assert_eq!(lineage.name(Oid(3)), Some(("public", "b_3")));
    let again = learn(&mut lineage, Vec::new(), vec![leaf(2, "renamed", 1)], &[]);
    assert_eq!(again.news, [(Oid(1), vec![(Oid(2), "public.b".to_owned())])]);
    assert_eq!((lineage.root_of(Oid(2)), lineage.name(Oid(2))), (Oid(1), Some(("public", "b"))));
    // The next run knows of it from the log.
    let mut lineage = Lineage::default();
    lineage.restore_detached(Oid(2), ("public", "b"));
    learn(&mut lineage, Vec::new(), vec![leaf(3, "b", 1)], &[]);
    assert_eq!(lineage.name(Oid(3)), Some(("public", "b_3")));
    // As a table of its own it is what it is called now.
    learn(&mut lineage, vec![root(2, "old_b", &[])], Vec::new(), &[]);
    assert_eq!(lineage.name(Oid(2)), Some(("public", "old_b")));
}

#[test]
fn gone_until_found() {
    let mut lineage = Lineage::default();
    learn(&mut lineage, Vec::new(), Vec::new(), &[8, 9]);
    assert!(lineage.is_gone(Oid(8)) && lineage.is_gone(Oid(9)));
    assert!(learn(&mut lineage, vec![root(8, "h", &[])], vec![leaf(9, "i", 8)], &[]).replan);
    assert!(!lineage.is_gone(Oid(8)) && !lineage.is_gone(Oid(9)));
}

/// T24
#[test]
fn t24_a_leaf_with_another_identity() {
    let mut lineage = Lineage::default();
    let full = LeafFacts { replica_identity: ReplicaIdentity::Full, ..leaf(2, "b", 1) };
    learn(&mut lineage, vec![root(1, "a", &["id"])], vec![full, leaf(3, "c", 1)], &[]);
    assert_eq!(lineage.mixed_leaf(Oid(1)), Some(Oid(2)));
    learn(&mut lineage, Vec::new(), vec![leaf(2, "b", 1)], &[]);
    assert_eq!(lineage.mixed_leaf(Oid(1)), None);
}

#[test]
fn a_hundred_thousand_leaves_cost_little() {
    let mut lineage = Lineage::default();
    let leaves =
        (0..100_000).map(|at| leaf(1000 + at, &format!("measurements_2026_08_p{at:06}"), 1)).collect();
    learn(&mut lineage, vec![root(1, "measurements", &["id"])], leaves, &[]);
    let bytes = lineage.heap_bytes();
    assert!(bytes < 100 * 100_000, "{bytes} bytes");
    // Learnt one by one they may cost twice their names.
    let mut lineage = Lineage::default();
    for at in 0..100_000 {
        learn(&mut lineage, Vec::new(), vec![leaf(1000 + at, &format!("orders_2026_p{at:06}"), 1)], &[]);
    }
    let bytes = lineage.heap_bytes();
    assert!(bytes < 100 * 100_000, "{bytes} bytes one by one");
}

#[test]
fn a_root_without_a_key_goes_on_with_the_one_that_a_leaf_lent_it() {
    let mut lineage = Lineage::default();
    let by_rule = |oid, name, root| LeafFacts { link: Link::Rule, ..leaf(oid, name, root) };
    let leaves = vec![by_rule(2, "orders_1", 10_500), by_rule(3, "events_1", 1)];
    let roots = vec![root(10_500, "orders", &["id"]), root(1, "events", &["id"])];
    learn(&mut lineage, roots, leaves, &[]);
    assert!(lineage.is_loose(Oid(1)) && lineage.is_by_rule(Oid(2)) && !lineage.is_by_rule(Oid(1)));
    // Another leaf has another key, and the root itself has none.
    let again =
        learn(&mut lineage, vec![root(10_500, "orders", &["at"]), root(1, "events", &[])], vec![], &[]);
    assert!(!again.replan);
    assert_eq!((lineage.primary_key(Oid(10_500)), lineage.primary_key(Oid(1))), (vec!["id"], vec!["id"]));
    // A key of its own counts.
    assert!(learn(&mut lineage, vec![root(1, "events", &["at"])], vec![], &[]).replan);
    assert_eq!(lineage.primary_key(Oid(1)), ["at"]);
    assert_eq!(lineage.root_named(("public", "orders")), Some(Oid(10_500)));
}

#[test]
fn the_name_that_tells_is_that_of_the_leaf_as_it_was_or_of_what_lies_above() {
    let mut lineage = Lineage::default();
    let leaves = vec![
        LeafFacts { link: Link::Rule, ..leaf(2, "orders_1", 10_500) },
        LeafFacts { link: Link::Below(Oid(2)), ..leaf(3, "part", 10_500) },
        // The second one of its name, and the table that has the root's.
        LeafFacts { link: Link::Rule, ..leaf(4, "orders_1", 10_500) },
        LeafFacts { link: Link::Rule, ..leaf(5, "orders", 10_500) },
    ];
    learn(&mut lineage, vec![root(10_500, "orders", &["id"])], leaves, &[]);
    let names = |oid| lineage.telling_names(Oid(oid)).map(|(_, name)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(2), ["orders_1"]);
    assert_eq!(names(3), ["part", "orders_1"]);
    assert_eq!(names(4), ["orders_1", "orders_1_4"]);
    assert_eq!(lineage.name(Oid(5)), Some(("public", "orders_5")));
}
