//! The table of faults and their tests, and the bugs that are put in on purpose.
//!
//! Owns: that every test that `tests/README.md` names is there, and the code that every patch of `scripts/mutations` changes.
//! Does not: know what a fault is, or put a bug in: `make mutations` does.
//! Holds: a test that is renamed or removed takes its line with it, and code that moves takes its bug with it.
//! Fails: with every name and every patch that leads nowhere.

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

#[test]
fn every_mutation_can_be_made() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let patches = std::fs::read_dir(root.join("scripts/mutations")).expect("the bugs");
    let paths: Vec<_> = patches.map(|patch| patch.expect("a bug").path()).collect();
    assert!(paths.len() > 10, "{} bugs", paths.len());
    for path in paths {
        let patch = std::fs::read_to_string(&path).expect("a patch");
        let mut hunks = 0;
        for part in patch.split("\n--- a/").skip(1) {
            let name = part.lines().next().expect("the name of a file");
            let changed = std::fs::read_to_string(root.join(name)).expect("a file that is changed");
            for hunk in part.split("\n@@ ").skip(1) {
                let before: Vec<&str> =
                    hunk.lines().skip(1).filter_map(|line| line.strip_prefix([' ', '-'])).collect();
                assert!(changed.contains(&before.join("\n")), "{} does not apply to {name}", path.display());
                hunks += 1;
            }
        }
        assert!(hunks > 0, "{} changes nothing", path.display());
    }
}
