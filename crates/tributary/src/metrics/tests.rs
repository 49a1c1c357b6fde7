use super::*;
use crate::status::SlotStatus;

mod documents;

/// As Prometheus's own clients name them.
const PROCESS: [&str; 6] = [
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_threads",
];

#[test]
fn names_end_in_their_unit() {
    for Declared { name, kind, unit, help, section, .. } in Metrics::new().declared() {
        assert!(help.ends_with('.') && !section.is_empty(), "{name}: {help}");
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name} is a {kind}");
        let base = name.trim_end_matches("_total");
        let fits = match unit {
            Unit::Lsn => base.ends_with("_lsn"),
            Unit::Bytes => base.ends_with("_bytes"),
            Unit::Seconds => base.ends_with("_seconds"),
            Unit::Time => base.ends_with("_time_seconds") || base.ends_with("_timestamp_seconds"),
            Unit::Flag | Unit::Count(_) => !base.ends_with("_bytes") && !base.ends_with("_seconds"),
        };
        assert!(fits, "{name} in {}", unit.label());
    }
}

#[test]
fn what_the_server_does_not_tell_has_no_series() {
    let metrics = Metrics::new();
    assert!(!metrics.render().contains("\ntributary_slot_safe_wal_bytes"));
    let known = SlotStatus {
        wal_status: Some("extended".to_owned()),
        restart_lsn: Some(Lsn(100)),
        confirmed_flush: Some(Lsn(150)),
        retained_bytes: Some(80),
        safe_wal_bytes: Some(7),
        catalog_xmin_age: Some(3),
        ..SlotStatus::default()
    };
    metrics.slot.set(&known);
    let text = metrics.render();
    for line in [
        "tributary_slot_wal_status{wal_status=\"extended\"} 1",
        "tributary_slot_wal_status{wal_status=\"lost\"} 0",
        "tributary_slot_retained_bytes 80",
        "tributary_slot_lag_bytes 30",
        "tributary_slot_safe_wal_bytes 7",
        "tributary_slot_catalog_xmin_age_transactions 3",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
    metrics.slot.set(&SlotStatus { safe_wal_bytes: None, ..known });
    let text = metrics.render();
    assert!(
        !text.contains("\ntributary_slot_safe_wal_bytes") && text.contains("\ntributary_slot_lag_bytes 30")
    );
}

#[test]
fn each_state_is_the_only_one() {
    let metrics = Metrics::new();
    for state in State::ALL {
        metrics.state(state);
        let text = metrics.render();
        let ones: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("tributary_state{") && line.ends_with(" 1"))
            .collect();
        assert_eq!(ones, [format!("tributary_state{{state=\"{}\"}} 1", state.label())]);
    }
}

#[test]
fn every_metric_has_help_a_unit_and_a_value() {
    let metrics = Metrics::new();
    metrics.published("public.orders", 3, 100, 1);
    metrics.lossy_cells("public.orders", "at", Loss::Infinity, 2);
    metrics.snapshot_read("public.orders", 7, 70);
    metrics.snapshot_chunks("public.orders", (0, 0), (1, 4));
    metrics.snapshot_turned("public.orders", None, Reading::Running);
    metrics.snapshot_turned("public.orders", Some(Reading::Running), Reading::SetAside);
    let text = metrics.render();
    for name in
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|rest| rest.split(' ').next())
    {
        assert!(name.starts_with("tributary_") || PROCESS.contains(&name), "{name}");
        let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        assert!(help.is_some_and(|help| help.ends_with('.')), "{name}: {help:?}");
    }
    for line in [
        "# TYPE tributary_rows_total counter",
        "tributary_rows_total{table=\"public.orders\"} 3",
        "tributary_bytes_total{table=\"public.orders\"} 100",
        "tributary_files_total{table=\"public.orders\"} 1",
        "tributary_lossy_cells_total{column=\"at\",reason=\"infinity\",table=\"public.orders\"} 2",
        "tributary_snapshot_rows_total{table=\"public.orders\"} 7",
        "tributary_snapshot_bytes_total{table=\"public.orders\"} 70",
        "tributary_snapshot_chunks{chunks=\"done\",table=\"public.orders\"} 1",
        "tributary_snapshot_chunks{chunks=\"expected\",table=\"public.orders\"} 4",
        "tributary_snapshot_state{table=\"public.orders\"} 3",
        "tributary_snapshot_tables{state=\"running\"} 0",
        "tributary_snapshot_tables{state=\"set_aside\"} 1",
        "tributary_memory_bytes{part=\"encoders\"} 0",
        "tributary_log_entries_total{kind=\"idle\"} 0",
        "tributary_errors_total{kind=\"source_halted\"} 0",
        "tributary_reading_paused 0",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
    assert!(text.contains("tributary_build_info{version=\""));
    assert!(!text.contains("\ntributary_lag_seconds"), "nobody knows it before there is a stream");
}

#[test]
fn the_labels_of_a_million_tables_are_bounded() {
    let metrics = Metrics::new();
    for table in 0..TABLES_MAX + 50 {
        metrics.published(&format!("public.t{table}"), 1, 1, 1);
    }
    let text = metrics.render();
    let series = text.lines().filter(|line| line.starts_with("tributary_rows_total{")).count();
    assert_eq!(series, TABLES_MAX + 1);
    assert!(text.contains("tributary_rows_total{table=\"(others)\"} 50"));
}

#[test]
fn the_labels_of_a_million_columns_are_bounded() {
    let metrics = Metrics::new();
    for column in 0..LOSSY_COLUMNS_MAX + 50 {
        metrics.lossy_cells("public.t", &format!("c{column}"), Loss::OutOfRange, 1);
    }
    let text = metrics.render();
    let series = text.lines().filter(|line| line.starts_with("tributary_lossy_cells_total{")).count();
    assert_eq!(series, LOSSY_COLUMNS_MAX + 1);
    let others =
        "tributary_lossy_cells_total{column=\"(others)\",reason=\"out_of_range\",table=\"(others)\"} 50";
    assert!(text.contains(others));
}
