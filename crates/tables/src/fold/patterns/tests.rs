use super::*;

fn patterns(rules: &[(&str, &str)]) -> Patterns {
    let rules = rules.iter().map(|(expression, into)| Pattern::new(expression, into).unwrap());
    Patterns::new(rules.collect(), std::iter::empty())
}

#[test]
fn a_whole_name_matches() {
    let found = patterns(&[(r"public\.orders_(\d+|default)", "public.orders"), ("a.b|a.bc", "x.y")]);
    let into = |schema, name| found.of(schema, name).unwrap().map(Pattern::target);
    assert_eq!(into("public", "orders_20000"), Some(("public", "orders")));
    assert_eq!(into("public", "orders_default"), Some(("public", "orders")));
    assert_eq!(into("public", "orders_1_old"), None);
    assert_eq!(into("nonpublic", "orders_1"), None);
    // The first alternative that matches may be too short.
    assert_eq!(into("a", "bc"), Some(("x", "y")));
    assert_eq!(into("public", "orders_1\n"), None);
}

#[test]
fn a_table_is_no_leaf_of_itself() {
    let found = patterns(&[(r"public\.orders.*", "public.orders")]);
    assert!(found.of("public", "orders").unwrap().is_none());
    assert!(found.of("public", "orders_1").unwrap().is_some());
}

#[test]
fn two_patterns_for_a_table_are_one_too_many() {
    let found = patterns(&[("a.*", "x.one"), ("b.*", "x.two"), (".*c", "x.three")]);
    assert!(found.of("a", "b").unwrap().is_some());
    let overlap = found.of("a", "c").unwrap_err();
    assert_eq!(overlap.to_string(), "a.c matches two patterns, that of x.one and that of x.three");
    assert_eq!(overlap.place, 2);
}

#[test]
fn what_is_wrong_is_said_with_its_key() {
    let wrong = |expression, into| {
        let error = Pattern::new(expression, into).unwrap_err();
        (error.key, error.to_string())
    };
    assert_eq!(
        wrong("a", "orders"),
        ("into", "`orders` is not a schema.table, for example public.orders".to_owned())
    );
    assert_eq!(wrong("a", ".orders").0, "into");
    let (key, what) = wrong(r"public\.(orders", "a.b");
    assert_eq!(key, "match");
    assert_eq!(what, r"`public\.(orders` is not a regular expression: unclosed group");
    assert_eq!(wrong("a)|(b", "a.b").0, "match");
    assert_eq!(wrong("(?P<n>a)(?P<n>b)", "a.b").0, "match");
}

#[test]
fn named_groups_are_values() {
    let found = patterns(&[
        (r"public\.orders_(?<region>eu|us)(?:_(?<number>\d+))?", "public.orders"),
        (r"old\.orders_(?P<number>\d+)", "public.orders"),
        (r"old\.other_(?P<else>\d+)", "public.other"),
    ]);
    let orders = std::iter::once(("public", "orders"));
    assert_eq!(found.groups_of(orders.clone()), ["region", "number"]);
    let values = |schema, name| found.values(orders.clone(), (schema, name));
    let both = vec![("region", "eu".to_owned()), ("number", "7".to_owned())];
    assert_eq!(values("public", "orders_eu_7"), Some(both));
    assert_eq!(values("public", "orders_us"), Some(vec![("region", "us".to_owned())]));
    assert_eq!(values("old", "orders_12"), Some(vec![("number", "12".to_owned())]));
    assert_eq!(values("old", "other_12"), None);
}

#[test]
fn tables_in_no_catalog_keep_their_numbers() {
    let rules = || [("a.*", "public.orders"), ("b.*", "public.orders"), ("c.*", "public.events")];
    let oids = |found: &Patterns| found.iter().map(Pattern::root).collect::<Vec<_>>();
    let found = patterns(&rules());
    let [(orders, false), (same, false), (events, false)] = oids(&found)[..] else { panic!("{found:?}") };
    assert_eq!(orders, same);
    assert_ne!(orders, events);
    assert!(is_made_up(orders) && is_made_up(events) && !is_made_up(Oid(16_384)));
    let rules = rules().iter().map(|(expression, into)| Pattern::new(expression, into).unwrap()).collect();
    // Somebody else has the number that it would get, and the log another one for the other.
    let logged =
        [(orders, "public", "others"), (Oid(11_999), "public", "events"), (Oid(20_000), "public", "orders")];
    let [(moved, false), _, (known, true)] = oids(&Patterns::new(rules, logged.into_iter()))[..] else {
        panic!("{found:?}")
    };
    assert_eq!(known, Oid(11_999));
    assert_ne!(moved, orders);
}
