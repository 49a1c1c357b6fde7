use super::*;

fn read(json: &str) -> Slot {
    let columns: Columns = serde_json::from_str(json).expect("columns");
    columns.into_slot(Some(7), None, false).expect("a slot")
}

#[test]
fn slots_of_old_and_new_versions() {
    let old = read(
        r#"{"slot_name":"s","plugin":"pgoutput","database":"d","active":false,"active_pid":null,"temporary":false,
            "confirmed_flush_lsn":"0/16B374D8","restart_lsn":"0/10","wal_status":"reserved","safe_wal_size":null,
            "two_phase":false}"#,
    );
    assert_eq!(old.confirmed_flush, Some(Lsn(0x16B3_74D8)));
    assert_eq!((old.failover, old.invalidation.as_deref()), (None, None));
    let new = read(
        r#"{"plugin":"pgoutput","active":true,"active_pid":12,"temporary":false,"wal_status":"unreserved",
            "two_phase":true,"conflicting":false,"invalidation_reason":"idle_timeout","failover":true,"synced":false}"#,
    );
    assert_eq!(new.invalidation.as_deref(), Some("idle_timeout"));
    assert_eq!((new.failover, new.two_phase, new.confirmed_flush), (Some(true), true, None));
}

#[test]
fn a_lost_slot_is_invalid_in_every_version() {
    let lost = read(r#"{"active":false,"temporary":false,"wal_status":"lost"}"#);
    assert_eq!(lost.invalidation.as_deref(), Some("wal_removed"));
    let conflict = read(r#"{"active":false,"temporary":false,"wal_status":"reserved","conflicting":true}"#);
    assert!(conflict.invalidation.is_some());
}

/// Postgres never takes the mark off a synced slot, so that promotion is told by the end of recovery.
#[test]
fn a_synced_slot_is_a_slot_behind_promotion() {
    let json = r#"{"active":false,"temporary":false,"wal_status":"reserved","synced":true}"#;
    let synced = |in_recovery| {
        let columns: Columns = serde_json::from_str(json).expect("columns");
        columns.into_slot(None, None, in_recovery).expect("a slot").synced
    };
    assert_eq!((synced(true), synced(false)), (Some(true), Some(false)));
}
