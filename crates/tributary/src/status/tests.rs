use std::time::Duration;

use lake::log::Totals;
use serde_json::json;

use super::*;

fn shared() -> Arc<Shared> {
    Shared::new(&Config::default())
}

#[test]
fn the_document_has_the_documented_form() {
    let shared = shared();
    shared.state(State::Streaming);
    shared.positions(|positions| {
        positions.received = Lsn(0x16_0000_0040);
        positions.cut = Lsn(0x16_0000_0030);
    });
    shared.lag(16, 0.5);
    shared.table_published("public.orders", 10, 1_000, 1);
    shared.published(&Published {
        seq: 2,
        kind: EntryKind::Commit,
        to_lsn: Lsn(0x16_0000_0030),
        from_commit_time: None,
        to_commit_time: None,
        published_at: tokio::time::Instant::now(),
        tables: vec![("public.orders".to_owned(), Totals { rows: 5, files: 1, bytes: 700 })],
        log_duration: Duration::from_millis(20),
        publish_duration: Duration::from_millis(30),
    });
    let expected = json!({
        "pipeline": "tributary",
        "version": VERSION,
        "state": "streaming",
        "lake": "",
        "positions": {
            "received": "16/40", "cut": "16/30", "logged": "16/30", "published": "16/30", "confirmed": "0/0"
        },
        "lag": {"bytes": 16, "seconds": 0.5},
        "slot": {
            "name": "tributary", "active": null, "wal_status": null, "confirmed_flush": null, "restart_lsn": null,
            "retained_bytes": null, "safe_wal_bytes": null, "invalidation": null, "budget_bytes": null, "level": "calm",
            "held": [], "drop_frees_bytes": null, "catalog_xmin_age": null
        },
        "snapshot": {"state": "none", "total": {"rows": 0, "bytes": 0}, "tables": []},
        "tables": [{"table": "public.orders", "rows": 15, "files": 2, "bytes": 1_700, "state": "streaming"}],
        "rows": 15,
        "errors": []
    });
    assert_eq!(shared.document(), expected);
    let read: Document = serde_json::from_value(expected).expect("it reads back");
    assert_eq!(read, shared.snapshot());
    let metrics = shared.metrics().render();
    assert!(metrics.contains("tributary_rows_total{table=\"public.orders\"} 5"), "{metrics}");
    assert!(metrics.contains(&format!("tributary_received_lsn {}", 0x16_0000_0040_i64)), "{metrics}");
}

#[test]
fn of_very_many_tables_some_are_listed_and_those_that_need_something() {
    let shared = shared();
    for number in 0..TABLES_LISTED + 10 {
        shared.table_published(&format!("public.t{number:06}"), 2, 10, 1);
    }
    shared.needs_resync("public.t002005", "c", "r");
    let document = shared.snapshot();
    assert_eq!((document.tables.len(), document.tables_not_listed), (TABLES_LISTED + 1, 9));
    assert_eq!(document.tables.last().map(|table| table.table.as_str()), Some("public.t002005"));
    assert_eq!(document.rows, 2 * 2_010);
}

#[test]
fn only_the_last_errors_are_kept() {
    let shared = shared();
    for number in 0..ERRORS_MAX + 5 {
        shared.error(&Error::transient(format!("error {number}")).hint("wait"));
    }
    let errors = shared.snapshot().errors;
    assert_eq!(errors.len(), ERRORS_MAX);
    assert_eq!(errors.first().map(|error| error.error.as_str()), Some("error 5"));
    assert_eq!(errors.first().and_then(|error| error.hint.as_deref()), Some("wait"));
    assert!(shared.metrics().render().contains("tributary_errors_total{kind=\"transient\"} 25"));
}

#[test]
fn a_full_budget_shows_as_paused() {
    let shared = shared();
    shared.state(State::Streaming);
    let gauge = Gauge::new(100);
    let _parts = gauge.reserve(Use::Parts, 30);
    shared.memory(&gauge, true);
    assert_eq!(shared.snapshot().state, State::Paused);
    assert!(shared.metrics().render().contains("tributary_reading_paused 1"));
    shared.memory(&gauge, false);
    assert_eq!(shared.snapshot().state, State::Streaming);
    shared.state(State::Stopping);
    shared.memory(&gauge, true);
    assert_eq!(shared.snapshot().state, State::Stopping);
    assert!(shared.metrics().render().contains("tributary_memory_bytes{part=\"parts\"} 30"));
}
