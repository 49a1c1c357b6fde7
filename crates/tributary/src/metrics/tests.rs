use super::*;

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
        assert!(name.starts_with("tributary_"), "{name}");
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
        "tributary_lag_seconds 0",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
    assert!(text.contains("tributary_build_info{version=\""));
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
