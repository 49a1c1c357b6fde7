use super::*;

#[test]
fn the_first_failure_gives_the_exit_code_and_every_check_is_listed() {
    let mut report = Report::default();
    report.ok("source", "signed in");
    report.warn("slot limit", "unlimited", "ALTER SYSTEM …");
    report.fail("wal_level", Kind::SourceHalted, "replica", "one line\nand another");
    report.error("lake", &Error::config("no bucket"));
    let answer = report.answer();
    assert_eq!(answer.code, 4);
    assert_eq!(
        answer.text,
        "ok    source              signed in\n\
         warn  slot limit          unlimited\n                          -> ALTER SYSTEM …\n\
         fail  wal_level           replica\n                          -> one line\n                          -> and another\n\
         fail  lake                no bucket\n\
         \n1 ok, 1 warnings, 2 failures\n"
    );
    assert_eq!(answer.document["ok"], false);
    assert_eq!(answer.document["checks"][2]["remedy"], "one line\nand another");
}

#[test]
fn warnings_alone_are_no_failure() {
    let mut report = Report::default();
    report.warn("slot limit", "unlimited", "ALTER SYSTEM …");
    assert_eq!(report.answer().code, 0);
}
