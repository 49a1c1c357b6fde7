use super::*;

#[test]
fn versions_of_packages_and_betas_are_understood() {
    let debian = parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n");
    assert_eq!(debian, Some((15, "15.18".to_owned())));
    assert_eq!(parse_version("postgres (PostgreSQL) 19beta1\n"), Some((19, "19beta1".to_owned())));
    assert_eq!(parse_version("postgres: command not found"), None);
}

#[test]
fn a_directory_without_both_programs_is_no_installation() {
    let bin = tempfile::tempdir().unwrap();
    assert_eq!(home_of(bin.path()), None);
    fs::write(bin.path().join("postgres"), "").unwrap();
    assert_eq!(home_of(bin.path()), None);
    fs::write(bin.path().join("initdb"), "").unwrap();
    assert_eq!(home_of(bin.path()), Some(fs::canonicalize(bin.path()).unwrap()));
}
