//! TLS and passwords, as libpq means them.
//!
//! Owns: servers with certificates of every kind, and certificates of ours.
//! Does not: test every sslmode; sessions with real servers do (`crates/tributary/tests/session`).
//! Holds: `verify-full` with channel binding works; whatever is wrong with a certificate or password is a matter of configuration, and
//! is told with what mends it.
//! Fails: with the outcome of the command.

use anyhow::{Context as _, Result, ensure};
use std::process::Command;
use testkit::daemon::Settings;
use testkit::postgres::DATABASE;
use testkit::wait::seconds;
use testkit::{Cluster, Pipeline, Stage, scenario};

use crate::rig;

#[test]
fn postgres_15_scram_over_tls() -> Result<()> {
    scram_over_tls(15)
}

#[test]
fn postgres_18_scram_over_tls() -> Result<()> {
    scram_over_tls(18)
}

fn scram_over_tls(version: u32) -> Result<()> {
    scenario(seconds(120), async |stage| {
        let mut cluster = rig::cluster(stage, version, false, &[]).await?;
        cluster
            .execute(
                "set password_encryption = 'scram-sha-256'; create role cdc login superuser replication password 'se cret'",
            )
            .await?;
        secure(stage, &mut cluster).await?;
        let url = |root: &str| {
            format!(
                "postgresql://cdc@127.0.0.1:{}/{DATABASE}?sslmode=verify-full&channel_binding=require&sslrootcert={}",
                cluster.port,
                stage.path(root).display()
            )
        };
        let mut settings = Settings::new(url("ca.crt"), rig::directory(stage));
        settings.env.push(("PGPASSWORD".to_owned(), "se cret".to_owned()));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        pipeline.setup().await?;
        rig::some_rows(&cluster, 1000).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        let wrong = pipeline
            .variant(stage, "wrong-password", |s| s.env = vec![("PGPASSWORD".to_owned(), "x".to_owned())])?;
        let outcome = wrong.run(&["run", "--until", "now"]).await?.expect(2).context("a wrong password")?;
        ensure!(!outcome.text().contains("se cret"), "the password is in the output");
        let stranger =
            pipeline.variant(stage, "wrong-authority", |settings| settings.source = url("other.crt"))?;
        stranger
            .run(&["run", "--until", "now"])
            .await?
            .expect(2)
            .context("a certificate of another authority")
            .map(drop)
    })
}

/// What is wrong with a server's certificate, as a person is told it.
#[test]
fn certificates_that_are_wrong_are_told_apart() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let mut cluster = rig::cluster(stage, 18, false, &[]).await?;
        cluster.execute("create role cdc login superuser replication password 'x'").await?;
        secure(stage, &mut cluster).await?;
        // In time, and then not any more; for somebody else; and by nobody but itself.
        certify(stage, "expired", "IP:127.0.0.1", "-1")?;
        certify(stage, "elsewhere", "DNS:db.example", "2")?;
        revoke(stage, "server")?;
        let port = cluster.port;
        let url = |more: &str| {
            format!(
                "postgresql://cdc:x@127.0.0.1:{}/{DATABASE}?sslmode=verify-full&sslrootcert={}{more}",
                port,
                stage.path("ca.crt").display()
            )
        };
        let revocations = |name: &str| format!("&sslcrl={}", stage.path(name).display());
        let pipeline = Pipeline::new(stage, "pipeline", Settings::new(url(""), rig::directory(stage)))?;
        pipeline.setup().await?;
        let list = revocations("revoked.pem");
        let cases = [
            ("server", list.as_str(), "Revoked", "sslcrl says"),
            ("expired", "", "expired", "needs a new certificate"),
            ("elsewhere", "", "not valid for name", "sslmode=verify-ca"),
            ("other", "", "CaUsedAsEndEntity", "an authority has to sign"),
            ("elsewhere", "&sslcrl=/nowhere.pem", "/nowhere.pem", ""),
        ];
        for (certificate, more, what, remedy) in cases {
            install(stage, &mut cluster, certificate).await?;
            let name = format!("{certificate}-{}", more.len());
            let refused = pipeline.variant(stage, &name, |settings| settings.source = url(more))?;
            let outcome = refused.run(&["run", "--until", "now"]).await?.expect(2)?;
            let text = outcome.text();
            stage.say(&text);
            for part in [what, remedy] {
                ensure!(text.contains(part), "{certificate}{more}: no `{part}` in {text}");
            }
        }
        // With a list that does not name it, the same certificate is good.
        certify(stage, "good", "IP:127.0.0.1", "2")?;
        install(stage, &mut cluster, "good").await?;
        let good = pipeline.variant(stage, "good", |settings| settings.source = url(&list))?;
        good.run(&["run", "--until", "now"]).await?.success().map(drop)
    })
}

/// Our own certificate, where the server wants one.
#[test]
fn a_certificate_of_ours_lets_us_in_until_it_is_taken_back() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let mut cluster = rig::cluster(stage, 18, false, &[]).await?;
        cluster.execute("create role cdc login superuser replication").await?;
        secure(stage, &mut cluster).await?;
        for (name, days) in [("client", "2"), ("old", "-1")] {
            certify_as(stage, name, "/CN=cdc", "DNS:nobody", days)?;
        }
        cluster.authenticate("hostssl all,replication cdc 127.0.0.1/32 cert")?;
        cluster.write("ca.crt", &std::fs::read_to_string(stage.path("ca.crt"))?)?;
        cluster.configure("ssl_ca_file = 'ca.crt'")?;
        cluster.restart(testkit::postgres::Stop::Fast).await?;
        let url = |name: &str| {
            let path = |file: String| stage.path(&file).display().to_string();
            format!(
                "postgresql://cdc@127.0.0.1:{}/{DATABASE}?sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
                cluster.port,
                path("ca.crt".to_owned()),
                path(format!("{name}.crt")),
                path(format!("{name}.key"))
            )
        };
        let pipeline = Pipeline::new(stage, "pipeline", Settings::new(url("client"), rig::directory(stage)))?;
        pipeline.setup().await?;
        rig::some_rows(&cluster, 1000).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        let refused =
            |name: &str, url: String| pipeline.variant(stage, name, |settings| settings.source = url);
        for (name, what) in [("old", "expired"), ("other", "trusts")] {
            let outcome = refused(name, url(name))?.run(&["run", "--until", "now"]).await?.expect(2)?;
            stage.say(outcome.text());
            ensure!(outcome.text().contains(what), "no `{what}` in {}", outcome.text());
        }
        revoke(stage, "client")?;
        cluster.write("revoked.pem", &std::fs::read_to_string(stage.path("revoked.pem"))?)?;
        cluster.configure("ssl_crl_file = 'revoked.pem'")?;
        cluster.restart(testkit::postgres::Stop::Fast).await?;
        let outcome = pipeline.run(&["run", "--until", "now"]).await?.expect(2)?;
        ensure!(outcome.text().contains("taken back"), "{}", outcome.text());
        Ok(())
    })
}

/// A certificate for 127.0.0.1, and only passwords over TLS for role `cdc`.
async fn secure(stage: &Stage, cluster: &mut Cluster) -> Result<()> {
    authority(stage)?;
    certify(stage, "server", "IP:127.0.0.1", "2")?;
    cluster.configure("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'")?;
    cluster.authenticate(
        "hostssl all,replication cdc 127.0.0.1/32 scram-sha-256\nhostnossl all,replication cdc 127.0.0.1/32 reject",
    )?;
    install(stage, cluster, "server").await
}

/// `ca`, which signs, and `other`, which nobody trusts.
pub(crate) fn authority(stage: &Stage) -> Result<()> {
    for name in ["ca", "other"] {
        let subject = format!("/CN={name}");
        let (key, crt) = (format!("{name}.key"), format!("{name}.crt"));
        let authority = [
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject, "-keyout",
            &key, "-out", &crt,
        ];
        openssl(stage, &authority)?;
    }
    Ok(())
}

/// A server's certificate that the authority signed.
pub(crate) fn certify(stage: &Stage, name: &str, alternative: &str, days: &str) -> Result<()> {
    certify_as(stage, name, "/CN=server", alternative, days)
}

fn certify_as(stage: &Stage, name: &str, subject: &str, alternative: &str, days: &str) -> Result<()> {
    let [key, csr, crt, san] = ["key", "csr", "crt", "san"].map(|kind| format!("{name}.{kind}"));
    openssl(
        stage,
        &["req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", &key, "-out", &csr],
    )?;
    std::fs::write(stage.path(&san), format!("subjectAltName={alternative}\n"))?;
    openssl(
        stage,
        &[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            days,
            "-extfile",
            &san,
            "-out",
            &crt,
        ],
    )
}

/// Has the authority take a certificate back: its list is `revoked.pem`.
fn revoke(stage: &Stage, name: &str) -> Result<()> {
    let settings =
        "[ca]\ndefault_ca = here\n[here]\ndatabase = index.txt\ncrlnumber = crlnumber\ndefault_md = sha256\n";
    std::fs::write(stage.path("ca.cnf"), settings)?;
    std::fs::write(stage.path("index.txt"), "")?;
    std::fs::write(stage.path("crlnumber"), "01\n")?;
    let crt = format!("{name}.crt");
    let authority = ["ca", "-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.crt"];
    openssl(stage, &[&authority[..], &["-revoke", &crt]].concat())?;
    openssl(stage, &[&authority[..], &["-gencrl", "-crldays", "2", "-out", "revoked.pem"]].concat())
}

/// Has the server show that certificate.
pub(crate) async fn install(stage: &Stage, cluster: &mut Cluster, name: &str) -> Result<()> {
    for kind in ["crt", "key"] {
        cluster.write(
            &format!("server.{kind}"),
            &std::fs::read_to_string(stage.path(&format!("{name}.{kind}")))?,
        )?;
    }
    cluster.restart(testkit::postgres::Stop::Fast).await
}

fn openssl(stage: &Stage, arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("openssl").args(arguments).current_dir(stage.folder()).output().context("openssl")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
