use super::*;

#[test]
fn names_are_quoted_as_postgres_quotes_them() {
    assert_eq!(quote_identifier("we\"ird, 'q'"), "\"we\"\"ird, 'q'\"");
    assert_eq!(quote_literal("it's"), "'it''s'");
}

#[test]
fn slot_names() {
    for good in ["tributary", "a", "slot_2", &"x".repeat(63)] {
        check_slot_name(good).expect(good);
    }
    for bad in ["", "Upper", "a b", "a;b", "ü", "a\"", &"x".repeat(64)] {
        assert_eq!(check_slot_name(bad).expect_err(bad).kind(), crate::error::Kind::Config);
    }
}

#[test]
fn old_servers_are_refused() {
    check_version(140_000).expect("14");
    check_version(130_021).expect_err("13");
}
