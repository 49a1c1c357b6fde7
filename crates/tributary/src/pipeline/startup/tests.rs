use super::*;
use crate::error::Kind;

fn log() -> State {
    State {
        format: 1,
        seq: 5,
        epoch: 2,
        owner: "test:1".to_owned(),
        system_id: "7000".to_owned(),
        timeline: 2,
        slot: "tributary".to_owned(),
        to_lsn: Lsn(0x200),
        to_commit_ts: None,
        publication: None,
        publication_members: Default::default(),
        tables: Default::default(),
        lineage: Default::default(),
        detached: Default::default(),
        partitions: Default::default(),
        snapshots: Default::default(),
        last_cut: None,
        marks: Default::default(),
    }
}

fn slot() -> Slot {
    Slot {
        plugin: Some("pgoutput".to_owned()),
        database: Some("shop".to_owned()),
        active: false,
        active_pid: None,
        confirmed_flush: Some(Lsn(0x100)),
        restart_lsn: Some(Lsn(0x80)),
        wal_status: Some("reserved".to_owned()),
        invalidation: None,
        two_phase: false,
        temporary: false,
        safe_wal_size: None,
        retained_bytes: None,
        behind_bytes: None,
        catalog_xmin_age: None,
        failover: None,
        synced: None,
    }
}

fn system(id: &str, timeline: u32) -> System {
    System { id: id.to_owned(), timeline, wal_lsn: Lsn(0x300) }
}

fn decide_with(
    change: impl FnOnce(&mut State, &mut Option<Slot>, &mut System, &mut Lsn, &mut Vec<TimelineSwitch>),
) -> Result<Decision> {
    let (mut log, mut slot, mut system, mut server_lsn, mut history) =
        (log(), Some(slot()), system("7000", 2), Lsn(0x300), Vec::new());
    change(&mut log, &mut slot, &mut system, &mut server_lsn, &mut history);
    let situation = Situation {
        log: &log,
        system: &system,
        server_lsn,
        slot: slot.as_ref(),
        history: &history,
        database: "shop",
    };
    decide(&situation, false)
}

fn halted(outcome: Result<Decision>, words: &str) {
    let error = outcome.expect_err(words);
    assert_eq!(error.kind(), Kind::SourceHalted, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.hint_text().is_some(), "{error}: what can the user do?");
}

#[test]
fn a_slot_behind_the_log_behind_the_server_starts() {
    assert_eq!(decide_with(|_, _, _, _, _| {}).unwrap(), Decision::Start);
    assert_eq!(
        decide_with(|log, slot, _, server, _| {
            log.to_lsn = Lsn(0x300);
            slot.as_mut().unwrap().confirmed_flush = Some(Lsn(0x300));
            *server = Lsn(0x300);
        })
        .unwrap(),
        Decision::Start
    );
}

/// T62, T79: the slot was consumed or advanced by somebody, or made anew.
#[test]
fn t79_a_slot_beyond_the_log_halts() {
    halted(
        decide_with(|_, slot, _, _, _| slot.as_mut().unwrap().confirmed_flush = Some(Lsn(0x201))),
        "beyond the lake's 0/200",
    );
}

/// T61: a restored server accepts any start, and skips everything.
#[test]
fn t61_a_server_behind_the_log_halts_and_a_standby_may_still_replay() {
    halted(decide_with(|_, _, _, server, _| *server = Lsn(0x1FF)), "restored from a backup");
    let (log, slot, system) = (log(), slot(), system("7000", 2));
    let situation = Situation {
        log: &log,
        system: &system,
        server_lsn: Lsn(0x1FF),
        slot: Some(&slot),
        history: &[],
        database: "shop",
    };
    assert_eq!(decide(&situation, true).unwrap(), Decision::WaitForReplay);
}

#[test]
fn another_cluster_halts() {
    halted(decide_with(|_, _, system, _, _| system.id = "7001".to_owned()), "another database cluster");
}

/// T74, T75, T77: only a promotion after the lake's end goes on.
#[test]
fn t75_a_newer_timeline_goes_on_only_if_it_was_left_behind_the_lake() {
    let left_at = |lsn| TimelineSwitch { timeline: 2, switch_lsn: Lsn(lsn) };
    let newer = |at: Option<TimelineSwitch>| {
        decide_with(move |_, _, system, _, history| {
            system.timeline = 3;
            history.extend(at);
        })
    };
    assert_eq!(newer(Some(left_at(0x200))).unwrap(), Decision::StartOnTimeline { from: 2, to: 3 });
    halted(newer(Some(left_at(0x1FF))), "the promoted server never had");
    halted(newer(None), "does not contain");
    halted(decide_with(|_, _, system, _, _| system.timeline = 1), "old primary");
}

/// T19: a slot with two_phase on would bring what is rolled back later. T68: a lost slot never comes back.
#[test]
fn t19_t68_a_missing_lost_or_foreign_slot_halts() {
    halted(decide_with(|_, slot, _, _, _| *slot = None), "does not exist");
    halted(
        decide_with(|_, slot, _, _, _| slot.as_mut().unwrap().wal_status = Some("lost".to_owned())),
        "is lost",
    );
    halted(
        decide_with(|_, slot, _, _, _| slot.as_mut().unwrap().invalidation = Some("rows_removed".to_owned())),
        "rows_removed",
    );
    for (reason, setting) in [
        ("idle_timeout", "idle_replication_slot_timeout"),
        ("wal_removed", "max_slot_wal_keep_size"),
        ("wal_level_insufficient", "wal_level"),
        ("rows_removed", "hot_standby_feedback"),
        ("conflict with recovery", "wal_level"),
    ] {
        let outcome =
            decide_with(|_, slot, _, _, _| slot.as_mut().unwrap().invalidation = Some(reason.to_owned()));
        let error = outcome.expect_err(reason);
        let hint = error.hint_text().unwrap_or_default();
        assert!(hint.contains(setting), "{reason}: {hint}");
    }
    halted(
        decide_with(|_, slot, _, _, _| slot.as_mut().unwrap().plugin = Some("wal2json".to_owned())),
        "wal2json",
    );
    halted(decide_with(|_, slot, _, _, _| slot.as_mut().unwrap().plugin = None), "physical");
    halted(
        decide_with(|_, slot, _, _, _| slot.as_mut().unwrap().database = Some("other".to_owned())),
        "other",
    );
    halted(decide_with(|_, slot, _, _, _| slot.as_mut().unwrap().two_phase = true), "two_phase");
    halted(decide_with(|_, slot, _, _, _| slot.as_mut().unwrap().temporary = true), "temporary");
}
