use super::*;

#[test]
fn the_configuration_is_toml_whatever_the_paths_are() {
    let text = configuration(5432, Path::new("/tmp/a \"b\"/password"), Path::new("/tmp/a \"b\"/lake"), 9187);
    let parsed: toml::Table = text.parse().unwrap();
    let source = parsed.get("source").and_then(toml::Value::as_table).unwrap();
    assert_eq!(source.get("password_file").and_then(toml::Value::as_str), Some("/tmp/a \"b\"/password"));
    let lake = parsed.get("lake").and_then(|lake| lake.get("url")).and_then(toml::Value::as_str);
    assert_eq!(lake, Some("file:///tmp/a \"b\"/lake"));
}

#[test]
fn status_documents_may_say_more_or_less() {
    let full = r#"{"pipeline": "demo", "state": "streaming", "lag": {"bytes": 1, "seconds": 0.5},
        "positions": {"received": "0/2", "published": "0/1"}, "tables": []}"#;
    let status: Status = serde_json::from_str(full).unwrap();
    assert_eq!((status.state.as_str(), status.positions.published), ("streaming", Some(Lsn(1))));
    let status: Status = serde_json::from_str(r#"{"positions": {"published": null}}"#).unwrap();
    assert_eq!((status.lag.seconds, status.positions.published), (None, None));
}
