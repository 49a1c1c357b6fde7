use super::*;

/// The password of a URL, or of the environment.
fn password(options: &ConnectOptions) -> Option<&str> {
    match &options.credentials {
        Credentials::Password(secret) => Some(secret.expose()),
        Credentials::Nothing | Credentials::File(_) | Credentials::RdsIam => None,
    }
}

fn parse(url: &str) -> Result<ConnectOptions> {
    ConnectOptions::parse_with(url, None, None)
}

fn parsed(url: &str) -> ConnectOptions {
    parse(url).unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

fn refused(url: &str) -> String {
    let error = parse(url).expect_err(url);
    assert_eq!(error.kind(), crate::error::Kind::Config, "{url}");
    format!("{error:?}")
}

#[test]
fn the_parts_of_a_url() {
    let options = parsed("postgresql://cdc:p%40ss%2F@db.example:6543/shop%20one?sslmode=verify-full");
    assert_eq!(options.host, Host::Tcp("db.example".into()));
    assert_eq!(options.port, 6543);
    assert_eq!(options.user, "cdc");
    assert_eq!(password(&options), Some("p@ss/"));
    assert_eq!(options.database, "shop one");
    assert_eq!(options.sslmode, SslMode::VerifyFull);
    assert_eq!(options.address(), "db.example:6543/shop one");
}

#[test]
fn defaults_are_libpqs_but_for_a_server_that_has_to_prove_who_it_is() {
    let options = parsed("postgres://cdc@db");
    assert_eq!((options.port, options.database.as_str()), (5432, "cdc"));
    for away in ["db", "10.0.0.1", "[fe80::1]", "localhost.example.com"] {
        assert_eq!(parsed(&format!("postgres://cdc@{away}")).sslmode, SslMode::VerifyFull, "{away}");
    }
    for here in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "%2Frun%2Fpostgresql"] {
        assert_eq!(parsed(&format!("postgres://cdc@{here}")).sslmode, SslMode::Prefer, "{here}");
    }
    assert_eq!(parsed("postgres://cdc@db?sslmode=disable").sslmode, SslMode::Disable);
    assert_eq!(options.connect_timeout, Some(Duration::from_secs(10)));
    assert!(options.keepalive.enabled);
    assert_eq!(parsed("postgres://cdc@db?connect_timeout=0").connect_timeout, None);
}

#[test]
fn addresses_and_sockets() {
    assert_eq!(parsed("postgres://cdc@[::1]:5433/x").host, Host::Tcp("::1".into()));
    assert_eq!(parsed("postgres://cdc@[::1]:5433/x").port, 5433);
    let socket = Host::Unix("/run/postgresql".into());
    assert_eq!(parsed("postgres://cdc@%2Frun%2Fpostgresql/x").host, socket);
    assert_eq!(parsed("postgres:///x?host=/run/postgresql&user=cdc").host, socket);
}

#[test]
fn a_password_is_never_printed() {
    let options = parsed("postgres://cdc:hunter2@db/x");
    assert!(!format!("{options:?}").contains("hunter2"));
    assert!(!refused("postgres://cdc:hunter2%@db/x").contains("hunter2"));
    assert!(!refused("postgres://cdc:hunter2@db/x?what=1").contains("hunter2"));
    // Not escaped, so that its end is taken for a port, a parameter or a database.
    for unescaped in [
        "hun/ter2",
        "hun?ter2",
        "hun?ter2=x",
        "hun?sslmode&ter2",
        "hun?a=ter%",
        "#hunter2",
        "hun[ter2",
        "hun,ter2?",
    ] {
        let text = refused(&format!("postgres://cdc:{unescaped}@db/x?what=1"));
        assert!(!text.contains("ter2") && !text.contains("hun"), "{text}");
    }
}

#[test]
fn tokens_of_rds_are_never_sent_in_plain_text_nor_beside_another_password() {
    let by_iam = |url: &str| parsed(url).by_rds_iam();
    assert_eq!(by_iam("postgres://cdc@db").expect("verify-full").credentials, Credentials::RdsIam);
    by_iam("postgres://cdc@db?sslmode=require").expect("encrypted");
    for plain in ["disable", "allow", "prefer"] {
        by_iam(&format!("postgres://cdc@db?sslmode={plain}")).expect_err(plain);
    }
    by_iam("postgres://cdc@%2Frun%2Fpostgresql").expect_err("a socket");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "x").expect("written");
    let options =
        ConnectOptions::parse_with("postgres://cdc@db", Some(file.path()), None).expect("a password");
    options.by_rds_iam().expect_err("two passwords");
}

#[test]
fn the_password_file_wins_over_the_environment_and_not_over_the_url() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "from file\n").expect("written");
    let read = |url: &str| ConnectOptions::parse_with(url, Some(file.path()), Some("environment".into()));
    let options = read("postgres://cdc@db").expect("a password");
    assert_eq!(options.credentials, Credentials::File(PasswordFile::new(file.path()).expect("a password")));
    read("postgres://cdc:other@db").expect_err("two passwords");
    let options = ConnectOptions::parse_with("postgres://cdc@db", None, Some("environment".into()))
        .expect("a password");
    assert_eq!(password(&options), Some("environment"));
    std::fs::write(file.path(), "two\nlines\n").expect("written");
    read("postgres://cdc@db").expect_err("two lines");
}

#[test]
fn what_is_not_understood_is_refused() {
    assert!(refused("postgres://cdc@db?sslmod=require").contains("`sslmod`"));
    assert!(refused("postgres://cdc@db?sslpassword=x").contains("`sslpassword`"));
    assert!(refused("postgres://cdc@db?require_auth=scram").contains("`scram`"));
    assert!(refused("postgres://cdc@a,b/x").contains("several hosts"));
    assert!(refused("postgres://cdc@db?target_session_attrs=primary").contains("primary"));
    parsed("postgres://cdc@db?target_session_attrs=any&gssencmode=disable");
    refused("mysql://cdc@db");
    refused("postgres://db");
    refused("postgres://cdc@/x");
    refused("postgres://cdc@db:0");
    refused("postgres://cdc@db:port");
    refused("postgres://cdc@db?sslmode=on");
    refused("postgres://cdc@db?sslcert=/c");
    refused("postgres://cdc@db?keepalives_idle=soon");
    refused("postgres://cdc@db/x%00");
    refused("postgres://cdc@db/x%zz");
    refused("postgres://cdc@db/x#y");
}

#[test]
fn system_roots_need_the_name_too() {
    assert_eq!(parsed("postgres://cdc@db?sslrootcert=system").sslmode, SslMode::VerifyFull);
    refused("postgres://cdc@db?sslrootcert=system&sslmode=verify-ca");
    let options = parsed("postgres://cdc@db?sslrootcert=/etc/ca.pem&sslmode=require");
    assert_eq!(options.sslrootcert, Some(RootCertificates::File("/etc/ca.pem".into())));
}

#[test]
fn a_url_of_random_bytes_never_panics() {
    let alphabet: Vec<char> = "a:/@?&=%[]#.,0é\0".chars().collect();
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut url = String::from("postgres://");
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            url.push(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        let _ = parse(&url);
    }
}
