use super::*;

fn server(code: &str, message: &str) -> ServerError {
    ServerError {
        severity: "ERROR".into(),
        code: code.into(),
        message: message.into(),
        ..ServerError::default()
    }
}

#[test]
fn the_kind_follows_the_sqlstate() {
    let cases = [
        ("55006", Kind::Transient),
        ("55000", Kind::SourceHalted),
        ("42704", Kind::SourceHalted),
        ("58P01", Kind::SourceHalted),
        ("28P01", Kind::Config),
        ("28000", Kind::Config),
        ("3D000", Kind::Config),
        ("42501", Kind::Config),
        ("57P01", Kind::Transient),
        ("57P03", Kind::Transient),
        ("08006", Kind::Transient),
        ("53300", Kind::Transient),
        ("22021", Kind::SourceHalted),
        ("XX000", Kind::Transient),
        ("XX001", Kind::SourceHalted),
        ("42710", Kind::Definite),
        ("0A000", Kind::Definite),
        ("54000", Kind::Definite),
        ("", Kind::Transient),
    ];
    for (code, kind) in cases {
        assert_eq!(server(code, "m").kind(), kind, "{code}");
    }
    assert_eq!(server("XX000", "invalid memory alloc request size 1080000003").kind(), Kind::SourceHalted);
}

#[test]
fn fields_are_read_and_a_cut_body_does_not_panic() {
    let body = b"SFEHLER\0VERROR\0C55006\0Mslot is active\0Dfor PID 7\0\0";
    let error = ServerError::parse(body);
    assert_eq!(error.severity, "ERROR");
    assert_eq!(error.code, "55006");
    assert_eq!(error.to_string(), "slot is active (SQLSTATE 55006), for PID 7");
    for end in 0..body.len() {
        ServerError::parse(&body[..end]);
    }
}

#[test]
fn a_data_exception_does_not_quote_the_data() {
    let mut error = server("22021", "invalid byte sequence for encoding \"UTF8\": 0xe9 0x74");
    error.context =
        Some("slot \"s\", output plugin \"pgoutput\", in the change callback, associated LSN 0/1".into());
    let text = error.to_string();
    assert!(!text.contains("0xe9"), "{text}");
    assert!(text.contains("associated LSN 0/1"), "{text}");
}

#[test]
fn an_active_slot_is_told_apart() {
    assert!(is_slot_active(&server("55006", "x").into_error("start")));
    assert!(!is_slot_active(&server("55000", "x").into_error("start")));
    assert!(!is_slot_active(&Error::transient("x")));
}

/// T23, T52
#[test]
fn only_the_warning_of_skipped_changes_counts() {
    let mut notice = server("55000", "skipped loading publication \"p\"");
    notice.severity = "WARNING".into();
    assert!(notice.tells_of_skipped_changes());
    notice.code = "01000".into();
    assert!(notice.tells_of_skipped_changes());
    notice.message = "something else".into();
    assert!(!notice.tells_of_skipped_changes());
    notice.code = "55000".into();
    assert!(notice.tells_of_skipped_changes(), "translated");
    // T76: the stream waits for a standby that is away.
    notice.message = "replication slot \"a\" specified in parameter \"synchronized_standby_slots\" does not have active_pid".into();
    assert!(!notice.tells_of_skipped_changes());
}

/// T45, T51, T52, T93, T94: what Postgres says when its next try will end the same. None of it is retried.
#[test]
fn t45_t51_t52_t93_t94_what_comes_again_at_every_try_is_not_retried() {
    for (code, message, kind) in [
        (
            "0A000",
            "cannot use different column lists for table \"public.a\" in different publications",
            Kind::Definite,
        ),
        ("42704", "publication \"p\" does not exist", Kind::SourceHalted),
        ("XX000", "invalid memory alloc request size 1080000003", Kind::SourceHalted),
        ("22021", "invalid byte sequence for encoding \"UTF8\": 0xe9", Kind::SourceHalted),
    ] {
        assert_eq!(server(code, message).kind(), kind, "{message}");
    }
}

#[test]
fn internal_errors_are_told_by_their_class() {
    let of = |code| server(code, "could not map filenumber to relation OID").into_error("the stream");
    assert!(is_internal(&of("XX000")) && of("XX000").kind() == Kind::Transient);
    assert!(!is_internal(&of("57P01")));
    assert!(!is_internal(&Error::transient("the server closed the connection")));
}
