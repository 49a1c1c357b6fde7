use super::*;
use crate::source::fault::ServerError;

fn error(code: &str, message: &str) -> Error {
    let server = ServerError { code: code.to_owned(), message: message.to_owned(), ..ServerError::default() };
    Error::transient("public.t").caused_by(server)
}

#[test]
fn what_to_do_about_an_error() {
    for (code, verdict_of_it) in [
        ("42501", Verdict::SetAside),
        ("XX001", Verdict::SetAside),
        ("XX002", Verdict::SetAside),
        ("58P01", Verdict::SetAside),
        ("58030", Verdict::SetAside),
        ("22021", Verdict::SetAside),
        ("22012", Verdict::SetAside),
        ("42883", Verdict::SetAside),
        ("0A000", Verdict::SetAside),
        ("54000", Verdict::SetAside),
        ("55P03", Verdict::Retry),
        ("57014", Verdict::Retry),
        ("40001", Verdict::Retry),
        ("40P01", Verdict::Retry),
        ("57P01", Verdict::Retry),
        ("57P03", Verdict::Retry),
        ("53200", Verdict::Retry),
        ("25P02", Verdict::Retry),
        ("08006", Verdict::Retry),
        ("XX000", Verdict::Retry),
        ("72000", Verdict::NewPoint),
    ] {
        assert_eq!(verdict(&error(code, "…")), verdict_of_it, "{code}");
    }
    assert!(is_recovery_conflict(&error("40001", "canceling statement due to conflict with recovery")));
    assert!(!is_recovery_conflict(&error("57014", "canceling statement due to user request")));
    let too_long = error("XX000", "invalid memory alloc request size 1080000003");
    assert_eq!(verdict(&too_long), Verdict::SetAside);
    assert_eq!(verdict(&Error::transient("connection lost")), Verdict::Retry);
    assert_eq!(verdict(&Error::transient("rows").caused_by(std::io::Error::other("reset"))), Verdict::Retry);
}

#[test]
fn a_snapshot_that_is_gone_is_known_by_where_it_was_asked_for() {
    for code in ["22023", "42704", "55000", "72000"] {
        let error = lost(error(code, "in any language"));
        assert_eq!(verdict(&error), Verdict::NewPoint, "{code}");
        assert!(server_error(&error).is_some(), "the cause is kept");
    }
    assert_eq!(verdict(&lost(error("53300", "too many clients"))), Verdict::Retry);
    assert_eq!(verdict(&error("22023", "of a row filter")), Verdict::SetAside);
}
