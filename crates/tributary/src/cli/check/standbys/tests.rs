use super::*;

/// What was found, without what is well.
fn found(check: impl FnOnce(&mut Report)) -> Vec<String> {
    let mut report = Report::default();
    check(&mut report);
    let bad = report.checks.iter().filter(|check| check.state.label() != "ok");
    bad.map(|check| format!("{}: {}", check.state.label(), check.found)).collect()
}

fn primary() -> AtPrimary {
    AtPrimary { waits_for: vec!["standby".to_owned()], physical: vec![("standby".to_owned(), true)] }
}

fn standby() -> AtStandby {
    AtStandby {
        in_recovery: true,
        version: 170_006,
        syncs_slots: true,
        feedback: true,
        primary_slot_name: "standby".to_owned(),
        primary_conninfo: Some("host=primary user=replicator dbname=postgres".to_owned()),
        slot: Some(Slot { synced: Some(true), failover: Some(true), ..Slot::default() }),
    }
}

/// T74: each condition by itself.
#[test]
fn t74_each_condition_of_a_copy_is_found() {
    let judged = |change: &dyn Fn(&mut AtStandby)| {
        let mut at = standby();
        change(&mut at);
        found(|report| at.judge(report, "host:5432", "tributary", &primary()))
    };
    assert_eq!(judged(&|_| {}), Vec::<String>::new());
    type Change<'a> = &'a dyn Fn(&mut AtStandby);
    let changes: [(Change<'_>, &str); 9] = [
        (&|at| at.syncs_slots = false, "sync_replication_slots is off"),
        (&|at| at.feedback = false, "hot_standby_feedback is off"),
        (&|at| at.primary_slot_name.clear(), "primary_slot_name is not set"),
        (&|at| at.primary_slot_name = "other".to_owned(), "not in synchronized_standby_slots"),
        (&|at| at.primary_conninfo = Some("host=primary".to_owned()), "names no dbname"),
        (&|at| at.slot = None, "no copy of slot"),
        (&|at| at.slot = Some(Slot { synced: Some(false), ..Slot::default() }), "its own"),
        (&|at| at.slot.as_mut().unwrap().temporary = true, "not complete yet"),
        (
            &|at| at.slot.as_mut().unwrap().invalidation = Some("rows_removed".to_owned()),
            "invalid (rows_removed)",
        ),
    ];
    for (change, words) in changes {
        let found = judged(change);
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    }
    assert_eq!(judged(&|at| at.primary_conninfo = None), Vec::<String>::new(), "what is hidden is no fault");
    assert_eq!(judged(&|at| (at.in_recovery, at.slot) = (false, None)), Vec::<String>::new(), "a primary");
}

/// T75: without the setting, what is in the lake may be missing behind a promotion.
#[test]
fn t75_the_primary_waits_for_slots_that_are_there() {
    let judged = |waits_for: &[&str], physical: &[(&str, bool)]| {
        let at = AtPrimary {
            waits_for: waits_for.iter().map(ToString::to_string).collect(),
            physical: physical.iter().map(|(name, used)| ((*name).to_owned(), *used)).collect(),
        };
        found(|report| at.judge(report))
    };
    assert_eq!(judged(&[], &[]), Vec::<String>::new());
    assert_eq!(judged(&["a"], &[("a", true)]), Vec::<String>::new());
    for (found, words) in [
        (judged(&[], &[("a", true)]), "warn: synchronized_standby_slots is empty"),
        (
            judged(&["a"], &[("a", false)]),
            "warn: synchronized_standby_slots names `a`, which no standby uses",
        ),
        (judged(&["b"], &[("a", true)]), "fail: synchronized_standby_slots names `b`"),
    ] {
        assert!(found.len() == 1 && found[0].starts_with(words), "{words}: {found:?}");
    }
}

#[test]
fn a_connection_string_names_a_database_or_not() {
    for yes in ["host=a dbname=b", "dbname = b", "postgresql://u@h:1/db", "postgres://h?dbname=x"] {
        assert!(names_a_database(yes), "{yes}");
    }
    for no in ["", "host=a user=dbnamed", "postgresql://u@h:1/", "postgresql://u@h?sslmode=require"] {
        assert!(!names_a_database(no), "{no}");
    }
}
