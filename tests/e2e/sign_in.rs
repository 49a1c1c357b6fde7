//! How the daemon proves who it is, and what it does when that is not enough any more.
//!
//! Owns: methods that are not allowed, passwords that expire or change, tokens of Amazon RDS.
//! Does not: look at certificates (`tls`).
//! Holds: what cannot get better by itself ends with exit code 2 and says what mends it; what can is tried again.
//! Fails: with the outcome of the command, or the end of the daemon's log.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::Settings;
use testkit::postgres::{DATABASE, free_port};
use testkit::process::{Process, User, command, tail};
use testkit::wait::{self, seconds};
use testkit::{Cluster, Pipeline, Stage, place, scenario};

use crate::{rig, tls};

/// `cdc` signs in by this method, from 127.0.0.1.
async fn sign_in_by(cluster: &mut Cluster, method: &str) -> Result<()> {
    cluster.authenticate(&format!("host all,replication cdc 127.0.0.1/32 {method}"))?;
    cluster.restart(testkit::postgres::Stop::Fast).await
}

fn url(cluster: &Cluster, more: &str) -> String {
    format!("postgresql://cdc@127.0.0.1:{}/{DATABASE}?{more}", cluster.port)
}

fn with_password(source: String, stage: &Stage, file: &Path) -> Settings {
    let mut settings = Settings::new(source, rig::directory(stage));
    settings.env.push(("TRIBUTARY_SOURCE__PASSWORD_FILE".to_owned(), file.display().to_string()));
    settings
}

#[test]
fn a_method_that_is_not_allowed_is_refused() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let mut cluster = rig::cluster(stage, 18, false, &[]).await?;
        cluster.execute("create role cdc login superuser replication password 'right'").await?;
        let file = stage.path("secret");
        std::fs::write(&file, "right\n")?;
        let settings = with_password(url(&cluster, "require_auth=scram-sha-256"), stage, &file);
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        sign_in_by(&mut cluster, "scram-sha-256").await?;
        pipeline.setup().await?;
        pipeline.run(&["run", "--until", "now"]).await?.success().context("the method that is allowed")?;
        for (method, what) in [
            ("password", "authentication by `password`, which require_auth=scram-sha-256 does not allow"),
            ("trust", "without any authentication, which require_auth=scram-sha-256 does not allow"),
        ] {
            sign_in_by(&mut cluster, method).await?;
            for arguments in [&["run", "--until", "now"][..], &["check"], &["inspect", "types"]] {
                let outcome = pipeline.run(arguments).await?;
                let text = outcome.text();
                ensure!(outcome.code != 0 && text.contains(what), "{arguments:?}, {method}: {text}");
                ensure!(text.contains("pg_hba.conf"), "no remedy in {text}");
            }
            let lax = pipeline.variant(stage, method, |settings| settings.source = url(&cluster, ""))?;
            lax.run(&["run", "--until", "now"]).await?.success().context("nothing is required")?;
        }
        Ok(())
    })
}

#[test]
fn a_password_that_has_expired_is_configuration() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let mut cluster = rig::cluster(stage, 18, false, &[]).await?;
        cluster.execute("create role cdc login superuser replication password 'right'").await?;
        let file = stage.path("secret");
        std::fs::write(&file, "right\n")?;
        let pipeline = Pipeline::new(stage, "pipeline", with_password(url(&cluster, ""), stage, &file))?;
        sign_in_by(&mut cluster, "scram-sha-256").await?;
        pipeline.setup().await?;
        cluster.execute("alter role cdc valid until '2020-01-01'").await?;
        let text = pipeline.run(&["run", "--until", "now"]).await?.expect(2)?.text();
        ensure!(text.contains("password authentication failed for user"), "{text}");
        ensure!(text.contains("VALID UNTIL"), "{text}");
        cluster.execute("alter role cdc valid until 'infinity'").await?;
        pipeline.run(&["run", "--until", "now"]).await?.success().map(drop)
    })
}

#[test]
fn a_password_that_changes_under_the_daemon_is_read_again() -> Result<()> {
    scenario(seconds(150), async |stage| {
        let mut cluster = rig::cluster(stage, 18, false, &[]).await?;
        cluster.execute("create role cdc login superuser replication password 'first'").await?;
        let file = stage.path("secret");
        std::fs::write(&file, "first\n")?;
        let pipeline = Pipeline::new(stage, "pipeline", with_password(url(&cluster, ""), stage, &file))?;
        sign_in_by(&mut cluster, "scram-sha-256").await?;
        pipeline.setup().await?;
        let mut daemon = pipeline.start_streaming().await?;
        // First the role, then the file, and a while in between in which nothing fits.
        cluster
            .execute(
                "alter role cdc password 'second'; select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cdc'",
            )
            .await?;
        wait::until("a refusal", seconds(30), async || {
            ensure!(daemon.tail().contains("does not take the password any more"), "{}", daemon.tail());
            Ok(())
        })
        .await?;
        std::fs::write(&file, "second\n")?;
        rig::some_rows(&cluster, 1000).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        daemon.stop().await?;
        rig::compare(stage, &cluster, &pipeline, &[]).await
    })
}

/// A server that has somebody else judge passwords, as RDS has.
#[test]
fn every_connection_has_a_token_of_amazon_rds_of_its_own() -> Result<()> {
    scenario(seconds(180), async |stage| {
        if !has_ldap(15)? {
            stage.say("SKIP: this Postgres 15 cannot ask LDAP");
            return Ok(());
        }
        let mut cluster = rig::cluster(stage, 15, false, &[]).await?;
        cluster.execute("create role cdc login superuser replication").await?;
        let (port, log) = (free_port()?, stage.path("rds.log"));
        let mut judge = command(place::python("python")?, User::Own);
        judge.arg(place::repository()?.join("tests/oracle/rds.py")).arg(port.to_string());
        judge.args(["127.0.0.1", &cluster.port.to_string(), REGION, ACCESS_KEY, SECRET_KEY, SESSION_TOKEN]);
        let _judge = Process::spawn("rds", judge, &log)?;
        wait::until("the judge", seconds(30), async || {
            ensure!(tail(&log).contains("listening"), "{}", tail(&log));
            Ok(())
        })
        .await?;
        tls::authority(stage)?;
        tls::certify(stage, "server", "IP:127.0.0.1", "2")?;
        cluster.configure("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'")?;
        cluster.authenticate(&format!(
            "hostssl all,replication cdc 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport={port} ldapprefix=\"cn=\" ldapsuffix=\"\""
        ))?;
        tls::install(stage, &mut cluster, "server").await?;

        let root = stage.path("ca.crt");
        let by_iam = |key: &str| {
            let source = url(&cluster, &format!("sslmode=verify-full&sslrootcert={}", root.display()));
            let mut settings = Settings::new(source, rig::directory(stage));
            for (name, value) in [
                ("TRIBUTARY_SOURCE__AUTH", "rds-iam"),
                ("AWS_REGION", REGION),
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
                ("AWS_SECRET_ACCESS_KEY", key),
                ("AWS_SESSION_TOKEN", SESSION_TOKEN),
            ] {
                settings.env.push((name.to_owned(), value.to_owned()));
            }
            settings
        };
        let pipeline = Pipeline::new(stage, "pipeline", by_iam(SECRET_KEY))?;
        pipeline.setup().await?;
        let mut daemon = pipeline.start_streaming().await?;
        rig::some_rows(&cluster, 1000).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        let dates = |log: &Path| -> Result<Vec<String>> {
            let text = std::fs::read_to_string(log)?;
            Ok(text.lines().filter_map(|line| line.strip_prefix("let in cdc ")).map(str::to_owned).collect())
        };
        let before = dates(&log)?;
        wait::pause(seconds(2)).await;
        cluster
            .execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cdc'")
            .await?;
        rig::some_rows(&cluster, 2000).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
        daemon.stop().await?;
        rig::compare(stage, &cluster, &pipeline, &[]).await?;
        let all = dates(&log)?;
        let anew: Vec<&String> = all.iter().skip(before.len()).collect();
        ensure!(
            !anew.is_empty() && anew.iter().all(|date| !before.contains(date)),
            "{before:?}, then {anew:?}"
        );
        ensure!(!tail(&log).contains("refused"), "{}", tail(&log));

        let wrong = Pipeline::new(stage, "wrong", by_iam("another key"))?;
        let text = wrong.run(&["run", "--until", "now"]).await?.expect(2)?.text();
        ensure!(text.contains("GRANT rds_iam") && text.contains("rds-db:connect"), "{text}");
        for secret in [SECRET_KEY, SESSION_TOKEN, "X-Amz-Signature"] {
            ensure!(!text.contains(secret), "{text}");
        }
        Ok(())
    })
}

fn has_ldap(version: u32) -> Result<bool> {
    let postgres = std::fs::canonicalize(place::postgres(version)?.join("bin/postgres"))?;
    let libraries = Command::new("ldd").arg(postgres).output().context("ldd")?;
    Ok(String::from_utf8_lossy(&libraries.stdout).contains("libldap"))
}

const REGION: &str = "eu-central-1";
const ACCESS_KEY: &str = "AKIDOFTHETEST";
const SECRET_KEY: &str = "canary-secret-key-of-the-test";
const SESSION_TOKEN: &str = "canary/session+token==of-the-test";
