//! The table of faults and their tests.
//!
//! Owns: that every test that `tests/README.md` names is there.
//! Does not: know what a fault is.
//! Holds: a test that is renamed or removed takes its line with it.
//! Fails: with every name that leads nowhere.

use std::path::Path;

#[test]
fn every_test_of_the_matrix_is_there() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    let table = std::fs::read_to_string(tests.join("README.md")).expect("the table");
    let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    // Every odd piece is in backquotes.
    let named: Vec<&str> = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect();
    assert!(named.len() > 50, "{} names", named.len());
    let wrong: Vec<&&str> = named.iter().filter(|name| !is_test(&tests, name)).collect();
    assert!(wrong.is_empty(), "no such tests: {wrong:#?}");
}

fn is_test(tests: &Path, name: &str) -> bool {
    let Some((file, test)) = name.split_once("::") else { return false };
    let text = std::fs::read_to_string(tests.join(file)).unwrap_or_default();
    let before = text.split(&format!("fn {test}(")).next().unwrap_or_default();
    // The attribute is the line above.
    before.len() < text.len()
        && before
            .lines()
            .rev()
            .take(2)
            .any(|line| line.trim_start().starts_with("#[") && line.contains("test"))
}
