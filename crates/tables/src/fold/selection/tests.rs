use super::*;

fn selection(include: &[&str], exclude: &[&str]) -> Result<Selection, GlobError> {
    let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
    Selection::new(&owned(include), &owned(exclude))
}

fn check(glob: &str, schema: &str, table: &str, expected: bool) {
    let matches = selection(&[glob], &[]).unwrap().includes(schema, table);
    assert_eq!(matches, expected, "{glob} on {schema}.{table}");
}

#[test]
fn globs() {
    check("*.*", "public", "orders", true);
    check("*.*", "we.ird", "or.ders", true);
    check("public.orders", "public", "orders", true);
    check("public.orders", "public", "orders_2026", false);
    check("public.orders", "public", "order", false);
    check("public.orders", "publi", "corders", false);
    check("public.orders_*", "public", "orders_", true);
    check("public.orders_*_p?", "public", "orders_2026_p1_p2", true);
    check("public.orders_*_p?", "public", "orders_2026_p", false);
    check("*.orders_????", "shop", "orders_2026", true);
    check("*.orders_????", "shop", "orders_20266", false);
    check("p*.a*b*c", "public", "aXbYbZc", true);
    check("p*.a*b*c", "public", "aXbYcZ", false);
    check("*.*.*", "public", "a.b", true);
    check("*.*.*", "public", "ab", false);
    check(r"my\.schema.t\*", "my.schema", "t*", true);
    check(r"my\.schema.t\*", "my.schema", "tx", false);
    check("*.?", "public", "ü", true);
    check("**.**", "public", "x", true);
    check("*.ORDERS", "public", "orders", false);
}

#[test]
fn exclude_wins() {
    let selection = selection(&["public.*", "shop.*"], &["*.tmp_*", "shop.audit"]).unwrap();
    assert!(selection.includes("public", "orders"));
    assert!(selection.includes("shop", "orders"));
    assert!(!selection.includes("shop", "audit"));
    assert!(!selection.includes("public", "tmp_1"));
    assert!(!selection.includes("private", "orders"));
    assert!(!super::tests::selection(&[], &[]).unwrap().includes("public", "orders"));
}

#[test]
fn what_is_no_glob() {
    let error = |glob: &str| selection(&["*.*"], &[glob]).unwrap_err().to_string();
    assert_eq!(
        error("orders"),
        "glob `orders` has too few dots; write schema.table, for example public.orders or *.orders"
    );
    assert_eq!(
        error("public."),
        "glob `public.` has nothing before or after a dot; write schema.table, for example public.orders or *.orders"
    );
    assert!(error(".orders").starts_with("glob `.orders` has nothing"));
    assert!(error("").starts_with("glob `` has too few dots"));
    assert_eq!(error(r"a.b\"), r"glob `a.b\` ends in a lone backslash");
    assert!(error("public.{a,b}").starts_with("glob `public.{a,b}` has a bracket"));
}

#[test]
fn globs_of_columns() {
    let check = |glob: &str, column: (&str, &str, &str), expected: bool| {
        let (schema, table, name) = column;
        assert_eq!(ColumnGlob::parse(glob).unwrap().matches(schema, table, name), expected, "{glob}");
    };
    check("public.orders.price", ("public", "orders", "price"), true);
    check("public.*.pri?e", ("public", "orders", "price"), true);
    check("*.*.*", ("a", "b", "c.d"), true);
    check("public.orders.a.b", ("public", "orders", "a.b"), true);
    check(r"public.or\.ders.a", ("public", "or.ders", "a"), true);
    check("public.orders.price", ("public", "orders", "prices"), false);
    assert!(ColumnGlob::parse("public.orders").unwrap_err().to_string().contains("too few dots"));
    assert!(ColumnGlob::parse("public..a").unwrap_err().to_string().contains("nothing before or after"));
}

#[test]
fn a_hostile_glob_is_quick() {
    let glob = format!("*.{}b", "*a".repeat(200));
    let table = "a".repeat(5000);
    assert!(!selection(&[&glob], &[]).unwrap().includes("public", &table));
}
