use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

#[test]
fn a_secret_never_prints() {
    let secret = Secret::new("hunter2");
    assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    assert!(!format!("{:?}", Credentials::Password(secret)).contains("hunter2"));
}

#[test]
fn a_file_is_read_again_every_time() {
    let on_disk = file("first\n");
    let password = PasswordFile::new(on_disk.path()).expect("a password");
    assert_eq!(password.read().expect("a password").expose(), "first");
    std::fs::write(on_disk.path(), "second\r\n").expect("written");
    assert_eq!(password.read().expect("a password").expose(), "second");
}

#[test]
fn a_file_that_was_never_right_is_configuration_and_one_that_was_may_become_so_again() {
    for wrong in ["", "\n", "two\nlines\n", "nul\0"] {
        let error = PasswordFile::new(file(wrong).path()).expect_err(wrong);
        assert_eq!(error.kind(), Kind::Config, "{wrong:?}");
    }
    PasswordFile::new(Path::new("/nonexistent/password")).expect_err("no file");

    let on_disk = file("right");
    let password = PasswordFile::new(on_disk.path()).expect("a password");
    let clone = Credentials::File(password.clone());
    clone.was_taken();
    std::fs::write(on_disk.path(), "").expect("written");
    assert_eq!(password.read().expect_err("empty").kind(), Kind::Transient);
    // What has happened to a file is no part of what the options are.
    let anew = PasswordFile { path: password.path.clone(), worked: Worked::default() };
    assert_eq!(Credentials::File(anew), clone);
}
