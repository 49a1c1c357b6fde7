//! The kill points of the daemon and their tests.
//!
//! Owns: that every named place is in the code, and that an end-to-end test dies there.
//! Does not: die.
//! Holds: a place that is renamed or added takes the tests with it.
//! Fails: with every name that is missing somewhere.

use std::path::{Path, PathBuf};

#[test]
fn every_kill_point_is_in_the_code_and_in_the_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let list = read("crates/lake/src/kill_points.rs");
    let (_, list) = list.split_once("KILL_POINTS").expect("the list");
    let names = quoted(list.split("];").next().expect("its end"));
    assert!(names.len() > 20, "{names:?}");
    let sources = ["crates/lake/src", "crates/store/src", "crates/tributary/src"].map(|path| root.join(path));
    let code: String = sources.iter().flat_map(|path| files(path)).map(|path| text_of(&path)).collect();
    let died = read("tests/e2e/kill_points.rs");
    let died: Vec<&str> = quoted(&died).into_iter().filter_map(|at| at.split(':').next()).collect();
    let is_visited =
        |name: &str| ["kill_point", "within"].iter().any(|call| code.contains(&format!("{call}(\"{name}\"")));
    let missing = names.iter().filter(|name| !is_visited(name) || !died.contains(name));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "not in the code, or nobody dies there: {missing:?}");
}

/// What stands in quotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a source")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| self::files(folder))).collect()
}
