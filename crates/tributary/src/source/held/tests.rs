use super::*;

const MIB: u64 = 1 << 20;

/// Our slot, with so much kept and so much of it not confirmed.
fn ours(retained: u64, behind: u64) -> Slot {
    Slot {
        active: true,
        confirmed_flush: Some(Lsn(0x1000)),
        retained_bytes: Some(retained),
        behind_bytes: Some(behind),
        ..Slot::default()
    }
}

fn session(open_seconds: Option<f64>) -> Holders {
    let application = Some("nightly".to_owned());
    Holders {
        oldest: Some(OpenTransaction::Session { pid: 42, application, open_seconds }),
        ..Holders::default()
    }
}

fn other(name: &str, is_physical: bool, retained_bytes: u64, xmin_age: u32) -> OtherSlot {
    OtherSlot { name: name.to_owned(), is_physical, active: false, retained_bytes, xmin_age }
}

fn by(held: &[Held]) -> Vec<By> {
    held.iter().map(|held| held.by).collect()
}

#[test]
fn what_a_server_keeps_anyhow_has_no_reason() {
    assert_eq!(why(None, &ours(63 * MIB, 63 * MIB), &session(None), None), []);
    assert_eq!(
        why(None, &Slot::default(), &Holders::default(), None),
        [],
        "a slot of which nothing is known"
    );
}

#[test]
fn a_daemon_that_is_behind_is_named_with_the_stage_that_waits() {
    let at = |received, cut, logged, published| Stages {
        received: Lsn(received),
        cut: Lsn(cut),
        logged: Lsn(logged),
        published: Lsn(published),
    };
    for (stages, words) in [
        (at(0x4000, 0x3000, 0x2000, 0x2000), "uploaded and logged"),
        (at(0x4000, 0x3000, 0x3000, 0x2000), "waits to be published"),
        (at(0x4000, 0x3000, 0x3000, 0x3000), "the next cut"),
        (at(0x3000, 0x3000, 0x3000, 0x3000), "being confirmed"),
        (at(0x1000, 0x1000, 0x1000, 0x1000), "has not brought it yet"),
    ] {
        let held = why(None, &ours(200 * MIB, 200 * MIB), &session(None), Some(stages));
        assert_eq!(by(&held), [By::Daemon], "{stages:?}: an open transaction holds nothing of it");
        assert!(held[0].what.contains(words), "{words}: {}", held[0]);
        assert_eq!(held[0].bytes, Some(200 * MIB));
    }
}

#[test]
fn a_slot_that_nobody_reads_is_told_from_a_daemon_that_is_behind() {
    let idle = Slot { active: false, ..ours(100 * MIB, 100 * MIB) };
    assert_eq!(by(&why(None, &idle, &Holders::default(), None)), [By::Nobody]);
    assert_eq!(by(&why(None, &idle, &Holders::default(), Some(Stages::default()))), [By::Daemon]);
    let read = why(None, &ours(100 * MIB, 100 * MIB), &Holders::default(), None);
    assert_eq!(by(&read), [By::Daemon]);
    assert!(read[0].what.contains("tributary status"), "{}", read[0]);
}

#[test]
fn what_is_confirmed_and_kept_is_held_by_the_oldest_transaction() {
    let pinned = ours(100 * MIB, MIB);
    let held = why(None, &pinned, &session(Some(3600.0)), None);
    assert_eq!(by(&held), [By::Transaction]);
    assert_eq!(held[0].bytes, Some(99 * MIB));
    assert!(held[0].what.contains("process 42 (application nightly, open for 3600 s)"), "{}", held[0]);
    assert_eq!(
        by(&why(None, &pinned, &session(None), None)),
        [By::Transaction],
        "how long it is open may be hidden"
    );
    let oldest = Some(OpenTransaction::Prepared { gid: "two".to_owned(), open_seconds: 60.0 });
    let held = why(None, &pinned, &Holders { oldest, ..Holders::default() }, None);
    assert_eq!(by(&held), [By::PreparedTransaction]);
    assert!(held[0].what.contains("`two`"), "{}", held[0]);
    for young in [session(Some(1.0)), Holders::default()] {
        assert_eq!(by(&why(None, &pinned, &young, None)), [By::Pending], "{young:?}");
    }
}

#[test]
fn other_slots_and_old_rows_are_named_and_the_largest_comes_first() {
    let slots = vec![
        other("small", true, 63 * MIB, 0),
        other("standby", true, 500 * MIB, AGE_WORTH_A_WORD),
        other("etl", false, 300 * MIB, AGE_WORTH_A_WORD - 1),
    ];
    let holders = Holders { slots, ..Holders::default() };
    let slot = ours(400 * MIB, 400 * MIB);
    let held = why(None, &slot, &holders, Some(Stages::default()));
    assert_eq!(by(&held), [By::Slot, By::Daemon, By::Slot, By::Feedback]);
    assert!(held[0].what.contains("`standby` (of a standby, not in use"), "{}", held[0]);
    assert!(held[3].what.contains("hot_standby_feedback"), "{}", held[3]);
    assert_eq!(holders.freed_without(&slot), 0, "another one keeps more");
    assert_eq!(holders.freed_without(&ours(700 * MIB, 0)), 200 * MIB);
}

#[test]
fn of_a_small_budget_less_is_worth_a_word() {
    let slot = ours(50 * MIB, 50 * MIB);
    assert!(why(None, &slot, &Holders::default(), None).is_empty());
    let held = why(Some(64 * MIB), &slot, &Holders::default(), None);
    assert_eq!(held.first().and_then(|held| held.bytes), Some(50 * MIB), "{held:?}");
}
