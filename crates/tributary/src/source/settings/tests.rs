use super::*;

fn row() -> Vec<Option<String>> {
    PINNED.iter().map(|(_, value)| Some((*value).to_owned())).chain([Some("UTF8".to_owned())]).collect()
}

/// T87: what a role or a database set does not reach the values.
#[test]
fn t87_a_row_of_the_pinned_values_passes_and_any_other_value_halts() {
    verify(&row(), "UTF8").expect("all as pinned");
    for position in 0..row().len() {
        let mut changed = row();
        changed[position] = Some("German, DMY".to_owned());
        let error = verify(&changed, "UTF8").expect_err("a changed setting");
        assert_eq!(error.kind(), crate::error::Kind::SourceHalted);
    }
    verify(&row()[1..], "UTF8").expect_err("a missing setting");
}

#[test]
fn the_order_of_day_and_month_is_left_to_the_role() {
    assert!(still_pinned("DateStyle", "ISO, DMY"));
    assert!(!still_pinned("DateStyle", "German, DMY"));
    assert!(still_pinned("application_name", "anything"));
}

#[test]
fn newer_timeouts_are_set_only_where_they_exist() {
    assert!(!after_startup(160_004, "UTF8").contains("transaction_timeout"));
    assert!(after_startup(170_001, "UTF8").contains("transaction_timeout"));
}
