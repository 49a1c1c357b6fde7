use std::collections::BTreeMap;

use super::*;
use crate::error::Kind;

fn event(names: &[&str], definition: &str, members: &[(&str, &str)]) -> Event {
    let members: BTreeMap<String, String> =
        members.iter().map(|(member, hash)| ((*member).to_owned(), (*hash).to_owned())).collect();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Event::Publication { names, definition: definition.to_owned(), members }
}

/// T36, T46, T52: another list of publications, via-root, a row filter, a table or a publication that is gone: each may have left
/// changes out or sent them elsewhere, so a person has to look.
#[test]
fn t36_t46_t52_a_definition_that_changed_halts() {
    let recorded = event(&["p", "q"], "1+2", &[("p options", "o"), ("p table 1", "f"), ("q options", "o")]);
    assert_eq!(compare(&recorded, &recorded).unwrap(), Difference::None);
    for (what, found) in [
        ("another list", event(&["q", "p"], "1+2", &[])),
        (
            "via root",
            event(&["p", "q"], "3+2", &[("p options", "via"), ("p table 1", "f"), ("q options", "o")]),
        ),
        (
            "row filter",
            event(&["p", "q"], "4+2", &[("p options", "o"), ("p table 1", "g"), ("q options", "o")]),
        ),
        ("table gone", event(&["p", "q"], "5+2", &[("p options", "o"), ("q options", "o")])),
        ("publication gone", event(&["p", "q"], "1", &[("p options", "o"), ("p table 1", "f")])),
        (
            "filter and another table",
            event(
                &["p", "q"],
                "6+2",
                &[("p options", "o"), ("p table 1", "g"), ("p table 2", "f"), ("q options", "o")],
            ),
        ),
    ] {
        let error = compare(&recorded, &found).expect_err(what);
        assert_eq!(error.kind(), Kind::SourceHalted, "{what}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("--accept-publication")), "{what}");
    }
}

/// T49: the rows that an added table has are in no change; a snapshot reads them.
#[test]
fn t49_an_added_table_needs_nobody() {
    let recorded = event(&["p"], "1", &[("p options", "o"), ("p table 1", "f")]);
    let found = event(&["p"], "2", &[("p options", "o"), ("p table 1", "f"), ("p table 2", "f")]);
    assert_eq!(compare(&recorded, &found).unwrap(), Difference::Added(1));
    // A log of before members were recorded cannot tell an addition from another change.
    let old = event(&["p"], "1", &[]);
    compare(&old, &found).expect_err("unknown");
}
