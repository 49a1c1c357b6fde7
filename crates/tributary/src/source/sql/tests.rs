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

/// Whoever quotes a name by hand forgets one some day. `reading` writes SQL for engines and not for Postgres; the demo's own data is no name, and the
/// page's quotes are those of HTML.
#[test]
fn names_are_quoted_in_two_modules_and_nowhere_else() {
    let allowed = ["source/sql.rs", "reading/dialect.rs", "cli/demo/", "http/page.rs"];
    let mut looked_at = 0;
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(&source).expect("below").display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && !name.contains("tests/") {
                let text = std::fs::read_to_string(&path).expect("a text");
                let quotes = [r#", "\"\"")"#, r#", "''")"#, r#"\"{}\""#, r#"\"{name}\""#];
                let found = quotes.iter().find(|quote| text.contains(**quote));
                let is_allowed = allowed.iter().any(|place| name.starts_with(place));
                assert!(found.is_none() || is_allowed, "{name} quotes by itself: {}", found.unwrap_or(&""));
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 50, "{looked_at}");
}
