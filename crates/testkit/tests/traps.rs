//! The table of traps and their tests.
//!
//! Owns: that `tests/TRAPS.md` has a line for each trap, and that what a line names is there and bears the trap's id.
//! Does not: know what a trap is.
//! Holds: a test that is renamed or removed takes its line with it.
//! Fails: with every trap that lacks one.

use std::path::Path;

/// Wire format, partitions, schema changes and publications; fail-over and standbys; values and names. Those between are of positions and slots.
fn traps() -> impl Iterator<Item = u32> {
    (1..=52).chain(74..=75).chain(81..=99)
}

#[test]
fn every_trap_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = std::fs::read_to_string(root.join("tests/TRAPS.md")).expect("the table");
    let mut wrong = Vec::new();
    for trap in traps() {
        let id = format!("T{trap:02}");
        let lines: Vec<&str> = table.lines().filter(|line| line.starts_with(&format!("| {id} |"))).collect();
        let [line] = lines.as_slice() else {
            wrong.push(format!("{id} has {} lines", lines.len()));
            continue;
        };
        // Every odd piece is in backquotes: `file::test`, or the file of a golden script.
        let named: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            wrong.push(format!("{id} names no test"));
        }
        wrong.extend(named.iter().filter_map(|name| problem(&root, &id, name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn problem(root: &Path, id: &str, name: &str) -> Option<String> {
    let (file, test) = name.split_once("::").map_or((name, None), |(file, test)| (file, Some(test)));
    let Ok(text) = std::fs::read_to_string(root.join(file)) else {
        return Some(format!("{id}: no file {file}"));
    };
    // The text of the test: its comment, its name and its body.
    let text = match test {
        None => text,
        Some(test) => {
            let Some(at) = text.find(&format!("fn {test}(")) else { return Some(format!("{id}: no {name}")) };
            let (before, after) = text.split_at(at);
            let comment = before.rsplit("\n\n").next().unwrap_or_default();
            let body = after.split("\n}\n").next().unwrap_or_default();
            format!("{comment}{body}")
        }
    };
    (!text.contains(id)).then(|| format!("{id}: {name} does not bear its id"))
}
