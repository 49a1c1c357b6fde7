//! Signing in: passwords, TLS, and what is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tributary::error::{Error, Kind};
use tributary::source::{ConnectOptions, Session, Sql, connect_sql};

use super::{Server, servers};

/// Only one test at a time changes who may sign in, and with which certificate.
static SERVER_FILES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn set_up_roles(sql: &Sql) {
    for (name, method) in [
        ("t_scram", "scram-sha-256"),
        ("t_md5", "md5"),
        ("t_clear", "scram-sha-256"),
        ("t_cert", "scram-sha-256"),
        ("t_ssl_only", "scram-sha-256"),
        ("t_plain_only", "scram-sha-256"),
    ] {
        sql.execute("role", &format!("DROP ROLE IF EXISTS {name}")).await.unwrap();
        let create = format!(
            "SET password_encryption = '{method}'; CREATE ROLE {name} LOGIN REPLICATION PASSWORD 'pa ss@wörd'"
        );
        sql.execute("role", &create).await.unwrap();
    }
}

const HBA: &str = "host all t_scram 127.0.0.1/32 scram-sha-256
host all t_md5 127.0.0.1/32 md5
host all t_clear 127.0.0.1/32 password
hostssl all t_cert 127.0.0.1/32 cert
hostssl all t_ssl_only 127.0.0.1/32 scram-sha-256
hostnossl all t_plain_only 127.0.0.1/32 scram-sha-256
host all t_cert,t_ssl_only,t_plain_only 127.0.0.1/32 reject
local all all trust
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust";

/// Writes a file in the data directory, as the server itself.
async fn write_server_file(sql: &Sql, name: &str, text: &str) {
    let lines: Vec<String> = text.lines().map(|line| format!("('{}')", line.replace('\'', "''"))).collect();
    let copy = format!(
        "COPY (SELECT * FROM (VALUES {}) AS lines) TO PROGRAM 'umask 077; cat > {name}'",
        lines.join(", ")
    );
    sql.execute("server file", &copy).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
}

async fn reload(sql: &Sql) {
    sql.execute("reload", "SELECT pg_reload_conf()").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

/// Both kinds of session.
async fn sign_in(options: &ConnectOptions) -> Result<(), Error> {
    Session::connect(options).await?.identify_system().await?;
    connect_sql(options).await?.query("one", "SELECT 1", &[]).await.map(|_| ())
}

async fn expect_refusal(options: &ConnectOptions, kind: Kind, what: &str) {
    let session = Session::connect(options).await.map(|_| ()).expect_err(what);
    let sql = connect_sql(options).await.map(|_| ()).expect_err(what);
    for error in [session, sql] {
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
        assert!(!format!("{error:?}").contains("pa ss@w"), "{what}");
    }
}

/// Options of a user with a password.
fn with_password(server: &Server, host: &str, user: &str, password: &str, query: &str) -> ConnectOptions {
    let password: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url = format!("postgresql://{user}:{password}@{host}:{}/postgres?{query}", server.port);
    ConnectOptions::parse(&url, None).unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

const PASSWORD: &str = "pa ss@wörd";

#[tokio::test]
async fn passwords_of_every_kind() {
    let _guard = SERVER_FILES.lock().await;
    for server in servers() {
        let sql = server.sql("postgres").await;
        set_up_roles(&sql).await;
        write_server_file(&sql, "pg_hba.conf", HBA).await;
        reload(&sql).await;
        for user in ["t_scram", "t_md5", "t_clear"] {
            let options = |password| with_password(&server, "127.0.0.1", user, password, "sslmode=disable");
            sign_in(&options(PASSWORD)).await.unwrap_or_else(|error| panic!("{user}: {error:?}"));
            expect_refusal(&options("wrong"), Kind::Config, user).await;
            expect_refusal(&server.options(user, "postgres", "sslmode=disable"), Kind::Config, "no password")
                .await;
        }
        expect_refusal(&server.options("postgres", "no_such_database", ""), Kind::Config, "no database")
            .await;
        expect_refusal(&server.options("no_such_role", "postgres", ""), Kind::Config, "no role").await;
        let bound = with_password(
            &server,
            "127.0.0.1",
            "t_scram",
            PASSWORD,
            "sslmode=disable&channel_binding=require",
        );
        expect_refusal(&bound, Kind::Config, "nothing to bind to").await;

        let error =
            Session::connect(&with_password(&server, "127.0.0.1", "t_scram", "wrong", "sslmode=disable"))
                .await
                .err()
                .expect("a wrong password");
        assert!(error.chain().contains("password authentication failed for user \"t_scram\""), "{error:?}");

        sql.execute("role", "DROP ROLE IF EXISTS t_no_replication; CREATE ROLE t_no_replication LOGIN")
            .await
            .unwrap();
        let error = Session::connect(&server.options("t_no_replication", "postgres", ""))
            .await
            .err()
            .expect("no right");
        assert_eq!(error.kind(), Kind::Config, "{error:?}");
        connect_sql(&server.options("t_no_replication", "postgres", ""))
            .await
            .expect("SQL needs no such right");
    }
}

#[tokio::test]
async fn only_allowed_methods_are_answered() {
    let _guard = SERVER_FILES.lock().await;
    for server in servers() {
        let sql = server.sql("postgres").await;
        set_up_roles(&sql).await;
        write_server_file(&sql, "pg_hba.conf", HBA).await;
        reload(&sql).await;
        for (user, method) in [("t_scram", "scram-sha-256"), ("t_md5", "md5"), ("t_clear", "password")] {
            let options = |list: &str| {
                with_password(
                    &server,
                    "127.0.0.1",
                    user,
                    PASSWORD,
                    &format!("sslmode=disable&require_auth={list}"),
                )
            };
            for allowed in [method, "scram-sha-256,md5,password", "!none,!gss"] {
                sign_in(&options(allowed))
                    .await
                    .unwrap_or_else(|error| panic!("{user}, {allowed}: {error:?}"));
            }
            for refused in [format!("!{method}"), "none".to_owned()] {
                expect_refusal(&options(&refused), Kind::Config, user).await;
            }
        }
        let trusted = server.options("postgres", "postgres", "require_auth=scram-sha-256");
        expect_refusal(&trusted, Kind::Config, "let in without a question").await;
        sign_in(&server.options("postgres", "postgres", "require_auth=none")).await.expect("let in");
    }
}

/// Whoever answers in a server's place, and would like to have the password.
#[tokio::test]
async fn a_server_that_asks_for_what_is_not_allowed_is_sent_nothing() {
    let cleartext: &[u8] = &[b'R', 0, 0, 0, 8, 0, 0, 0, 3];
    let md5: &[u8] = &[b'R', 0, 0, 0, 12, 0, 0, 0, 5, 1, 2, 3, 4];
    for question in [cleartext, md5] {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = Server { major: 0, port: listener.local_addr().unwrap().port() };
        let thief = tokio::spawn(async move {
            let mut caught = Vec::new();
            for _ in 0..2 {
                let (mut peer, _) = listener.accept().await.unwrap();
                let length = peer.read_u32().await.unwrap() as usize;
                peer.read_exact(&mut vec![0; length - 4]).await.unwrap();
                peer.write_all(question).await.unwrap();
                peer.read_to_end(&mut caught).await.unwrap();
            }
            caught
        });
        let query = "sslmode=disable&require_auth=scram-sha-256";
        let options = with_password(&server, "127.0.0.1", "postgres", PASSWORD, query);
        expect_refusal(&options, Kind::Config, "not allowed").await;
        assert_eq!(thief.await.unwrap(), b"", "{question:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_silent_is_transient() {
    let closed = Server { major: 0, port: 1 };
    let error =
        Session::connect(&closed.options("postgres", "postgres", "")).await.err().expect("nobody listens");
    assert_eq!(error.kind(), Kind::Transient);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let silent = Server { major: 0, port: listener.local_addr().unwrap().port() };
    for sslmode in ["disable", "require"] {
        let query = format!("connect_timeout=1&sslmode={sslmode}");
        let options = silent.options("postgres", "postgres", &query);
        let error = Session::connect(&options).await.err().expect("nobody answers");
        assert_eq!(error.kind(), Kind::Transient);
        assert!(error.chain().contains("connect_timeout"), "{error:?}");
        let error = connect_sql(&options).await.expect_err("nobody answers");
        assert_eq!(error.kind(), Kind::Transient);
    }
}

#[tokio::test]
async fn unix_sockets() {
    for server in servers() {
        let sql = server.sql("postgres").await;
        let rows =
            sql.query("sockets", "SELECT current_setting('unix_socket_directories')", &[]).await.unwrap();
        let directory: String =
            rows[0].get::<_, &str>(0).split(',').next().unwrap_or_default().trim().to_owned();
        if directory.is_empty() {
            println!("skipped: {server:?} has no Unix socket");
            continue;
        }
        let url = format!(
            "postgresql:///postgres?user=postgres&host={directory}&port={}&sslmode=verify-full",
            server.port
        );
        sign_in(&ConnectOptions::parse(&url, None).unwrap()).await.expect("a socket");
    }
}

/// Makes certificates with the `openssl` command.
struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Option<Authority> {
        let authority = Authority { directory: tempfile::tempdir().unwrap() };
        let made = authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=test authority",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ]);
        made.then_some(authority)
    }

    fn openssl(&self, arguments: &[&str]) -> bool {
        let run = Command::new("openssl").args(arguments).current_dir(self.directory.path()).output();
        run.is_ok_and(|output| output.status.success())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// A certificate that the authority signed, with these extensions; without any it has version 1.
    fn sign(&self, name: &str, subject: &str, key: &[&str], extensions: &str, hash: &str) {
        let (key_file, request, certificate) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let mut arguments =
            vec!["req", "-new", "-nodes", "-subj", subject, "-keyout", &key_file, "-out", &request];
        arguments.extend(key);
        assert!(self.openssl(&arguments), "{arguments:?}");
        let mut arguments = vec![
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "30",
            hash,
            "-out",
            &certificate,
        ];
        let extension_file = format!("{name}.ext");
        if !extensions.is_empty() {
            std::fs::write(self.path(&extension_file), extensions).unwrap();
            arguments.extend(["-extfile", &extension_file]);
        }
        assert!(self.openssl(&arguments), "{arguments:?}");
    }

    async fn install(&self, sql: &Sql, name: &str) {
        write_server_file(sql, "server.crt", &self.read(&format!("{name}.pem"))).await;
        write_server_file(sql, "server.key", &self.read(&format!("{name}.key"))).await;
        sql.execute("tls", "ALTER SYSTEM SET ssl = on").await.unwrap();
        reload(sql).await;
    }
}

const RSA: &[&str] = &["-newkey", "rsa:2048"];

fn root(path: &Path, mode: &str) -> String {
    format!("sslmode={mode}&sslrootcert={}&channel_binding=require", path.display())
}

#[tokio::test]
async fn tls_in_every_mode() {
    let _guard = SERVER_FILES.lock().await;
    let servers = servers();
    let Some(authority) = Authority::new() else {
        println!("skipped: no openssl command");
        return;
    };
    authority.sign("named", "/CN=localhost", RSA, "subjectAltName=DNS:localhost", "-sha384");
    authority.sign("addressed", "/CN=whatever", RSA, "subjectAltName=IP:127.0.0.1", "-sha256");
    authority.sign("common", "/CN=localhost", RSA, "basicConstraints=CA:FALSE", "-sha256");
    authority.sign("version1", "/CN=localhost", RSA, "", "-sha256");
    authority.sign("client", "/CN=t_cert", RSA, "basicConstraints=CA:FALSE", "-sha256");
    let elliptic: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    authority.sign("elliptic", "/CN=localhost", elliptic, "subjectAltName=DNS:localhost", "-sha512");
    // As the Postgres manual makes one: an authority that is its own server.
    assert!(authority.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "own.key",
        "-out",
        "own.pem",
    ]));
    assert!(authority.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ed25519",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        "edwards.key",
        "-out",
        "edwards.pem",
    ]));
    assert!(authority.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=other",
        "-keyout",
        "other.key",
        "-out",
        "other.pem",
    ]));
    for server in servers {
        let sql = server.sql("postgres").await;
        set_up_roles(&sql).await;
        write_server_file(&sql, "pg_hba.conf", HBA).await;
        write_server_file(&sql, "root.crt", &authority.read("ca.pem")).await;
        sql.execute("tls", "ALTER SYSTEM SET ssl_ca_file = 'root.crt'").await.unwrap();
        try_modes(&server, &sql, &authority).await;
        sql.execute("tls", "ALTER SYSTEM RESET ssl").await.unwrap();
        sql.execute("tls", "ALTER SYSTEM RESET ssl_ca_file").await.unwrap();
        reload(&sql).await;
        let options = server.options("postgres", "postgres", "sslmode=require");
        expect_refusal(&options, Kind::Config, "no TLS at all").await;
        sign_in(&server.options("postgres", "postgres", "sslmode=prefer")).await.expect("plain text will do");
        expect_refusal(
            &with_password(&server, "127.0.0.1", "t_ssl_only", PASSWORD, "sslmode=prefer"),
            Kind::Config,
            "only with TLS",
        )
        .await;
    }
}

async fn try_modes(server: &Server, sql: &Sql, authority: &Authority) {
    let (ca, other) = (authority.path("ca.pem"), authority.path("other.pem"));
    let options = |host: &str, query: &str| with_password(server, host, "t_scram", PASSWORD, query);

    authority.install(sql, "named").await;
    // SCRAM bound to the certificate, whatever is verified of it.
    sign_in(&options("localhost", "sslmode=require&channel_binding=require")).await.expect("require");
    sign_in(&options("localhost", &root(&ca, "verify-full"))).await.expect("verify-full");
    sign_in(&options("127.0.0.1", &root(&ca, "verify-ca"))).await.expect("verify-ca with another name");
    sign_in(&options("localhost", "sslmode=require&channel_binding=disable")).await.expect("not bound");
    expect_refusal(&options("127.0.0.1", &root(&ca, "verify-full")), Kind::Config, "wrong host").await;
    expect_refusal(&options("localhost", &root(&other, "verify-full")), Kind::Config, "unknown authority")
        .await;
    expect_refusal(
        &options("localhost", &root(&other, "require")),
        Kind::Config,
        "require verifies with a root",
    )
    .await;
    expect_refusal(&options("localhost", "sslmode=verify-full&sslrootcert=system"), Kind::Config, "system")
        .await;
    expect_refusal(&options("localhost", "sslmode=verify-full&sslrootcert=/none"), Kind::Config, "no file")
        .await;
    let error =
        Session::connect(&options("127.0.0.1", &root(&ca, "verify-full"))).await.err().expect("wrong host");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("name")), "{error:?}");

    // What pg_hba.conf wants decides between TLS and not.
    sign_in(&with_password(server, "127.0.0.1", "t_ssl_only", PASSWORD, "sslmode=allow"))
        .await
        .expect("allow");
    sign_in(&with_password(server, "127.0.0.1", "t_plain_only", PASSWORD, "sslmode=prefer"))
        .await
        .expect("prefer");
    let encrypted = with_password(server, "127.0.0.1", "t_plain_only", PASSWORD, "sslmode=require");
    expect_refusal(&encrypted, Kind::Config, "plain text only").await;

    let (certificate, key) = (authority.path("client.pem"), authority.path("client.key"));
    let client = format!("sslmode=require&sslcert={}&sslkey={}", certificate.display(), key.display());
    sign_in(&server.options("t_cert", "postgres", &client)).await.expect("by certificate");
    expect_refusal(&server.options("t_cert", "postgres", "sslmode=require"), Kind::Config, "no certificate")
        .await;

    authority.install(sql, "addressed").await;
    sign_in(&options("127.0.0.1", &root(&ca, "verify-full"))).await.expect("an address as name");
    expect_refusal(&options("localhost", &root(&ca, "verify-full")), Kind::Config, "wrong name").await;

    authority.install(sql, "common").await;
    sign_in(&options("localhost", &root(&ca, "verify-full"))).await.expect("a common name will do");
    expect_refusal(&options("127.0.0.1", &root(&ca, "verify-full")), Kind::Config, "wrong common name").await;

    authority.install(sql, "version1").await;
    sign_in(&options("localhost", "sslmode=require&channel_binding=require"))
        .await
        .expect("version 1, unverified");
    expect_refusal(&options("localhost", &root(&ca, "verify-ca")), Kind::Config, "version 1, verified").await;

    authority.install(sql, "elliptic").await;
    sign_in(&options("localhost", &root(&ca, "verify-full"))).await.expect("elliptic curve");

    authority.install(sql, "own").await;
    let own = authority.path("own.pem");
    sign_in(&options("localhost", &root(&own, "verify-full"))).await.expect("its own authority");
    expect_refusal(&options("127.0.0.1", &root(&own, "verify-full")), Kind::Config, "its own, wrong host")
        .await;

    authority.install(sql, "edwards").await;
    sign_in(&options("localhost", "sslmode=require")).await.expect("nothing to bind to, and not asked to");
}
