//! TLS and passwords, as libpq means them.
//!
//! Owns: a server with a certificate that only lets SCRAM over TLS in.
//! Does not: test every sslmode; unit tests do.
//! Holds: `verify-full` with channel binding works, and a wrong authority or password is a matter of configuration.
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

/// A certificate for 127.0.0.1, and only passwords over TLS for role `cdc`.
async fn secure(stage: &Stage, cluster: &mut Cluster) -> Result<()> {
    for name in ["ca", "other"] {
        let subject = format!("/CN={name}");
        let (key, crt) = (format!("{name}.key"), format!("{name}.crt"));
        let authority = [
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject, "-keyout",
            &key, "-out", &crt,
        ];
        openssl(stage, &authority)?;
    }
    openssl(
        stage,
        &[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=server",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ],
    )?;
    std::fs::write(stage.path("san"), "subjectAltName=IP:127.0.0.1\n")?;
    openssl(
        stage,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "san",
            "-out",
            "server.crt",
        ],
    )?;
    for name in ["server.crt", "server.key"] {
        cluster.write(name, &std::fs::read_to_string(stage.path(name))?)?;
    }
    cluster.configure("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'")?;
    cluster.authenticate(
        "hostssl all,replication cdc 127.0.0.1/32 scram-sha-256\nhostnossl all,replication cdc 127.0.0.1/32 reject",
    )?;
    cluster.restart(testkit::postgres::Stop::Fast).await
}

fn openssl(stage: &Stage, arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("openssl").args(arguments).current_dir(stage.folder()).output().context("openssl")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
