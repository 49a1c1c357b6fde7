use super::*;

#[test]
fn warnings_errors_and_panics_are_loud() {
    for (line, expected) in [
        (r#"{"timestamp":"2026-08-01T00:00:00Z","level":"INFO","fields":{"message":"no WARN"}}"#, false),
        (r#"{"timestamp":"2026-08-01T00:00:00Z","level":"WARN","fields":{"message":"x"}}"#, true),
        (r#"{"level":"ERROR"}"#, true),
        ("thread 'main' panicked at src/main.rs:1:1:", true),
        ("error: source.url is missing", false),
    ] {
        assert_eq!(is_loud(line), expected, "{line}");
    }
}
