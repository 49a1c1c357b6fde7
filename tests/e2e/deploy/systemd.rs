//! The unit, installed from the package and run by a systemd as PID 1.
//!
//! Owns: start, stop, watchdog, credentials, the set-up that is documented, and which ends are followed by another start.
//! Does not: run where the small system of `scripts/test-servers.sh` cannot be had.
//! Holds: what the unit's comments say.
//! Fails: with the state of the unit and the end of its journal.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::Lake;
use testkit::postgres::{DATABASE, Stop};
use testkit::s3::{ACCESS_KEY, SECRET_KEY, Server};
use testkit::wait::{self, pause, seconds};
use testkit::{Cluster, Machine, Pipeline, Stage, place, scenario};

use super::package;
use crate::rig;

const UNIT: &str = "tributary@shop";
const PASSWORD: &str = "canary-of-the-password";

/// A machine with the package, and a pipeline that is set up and installed there.
struct Installed {
    machine: Machine,
    cluster: Cluster,
    pipeline: Pipeline,
    _server: Server,
}

impl Installed {
    async fn new(stage: &Stage) -> Result<Installed> {
        let mut cluster = rig::cluster(stage, 17, false, &[]).await?;
        cluster
            .execute(&format!(
                "create role tributary login replication password '{PASSWORD}';
                 grant usage on schema public to tributary; grant select on all tables in schema public to tributary"
            ))
            .await?;
        cluster.authenticate("host all tributary all scram-sha-256")?;
        cluster.restart(Stop::Fast).await?;
        let server = Server::ministack(stage).await?;
        let lake = Lake::S3 {
            server: server.port,
            daemon: server.port,
            prefix: "shop".to_owned(),
            checksums: "always",
        };
        let pipeline = rig::pipeline(stage, &cluster, lake, |settings| {
            settings.source = cluster.url(DATABASE).replace("postgres@", "tributary@");
            settings.streaming = "on";
            // Nothing is published before a stop.
            settings.interval = "10m";
            settings.env.push(("PGPASSWORD".to_owned(), PASSWORD.to_owned()));
        })
        .await?;
        let machine = Machine::boot(stage).await?;
        let package = machine.bring(&package::build(stage).await?)?;
        machine.run(&["dpkg", "--install", &package]).await?.success()?;
        let installed = Installed { machine, cluster, pipeline, _server: server };
        installed.configure("shop", &installed.configuration()?).await?;
        installed.machine.write("/etc/tributary/shop.password", &format!("{PASSWORD}\n")).await?;
        let keys =
            format!("[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
        installed.machine.write("/etc/tributary/shop.aws", &keys).await?;
        Ok(installed)
    }

    /// The pipeline's, with secrets and disk as the unit has them.
    fn configuration(&self) -> Result<String> {
        let text = fs::read_to_string(self.pipeline.config())?;
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("spool_directory")).collect();
        lines.insert(1, "password_file = \"/run/credentials/tributary@shop.service/password\"");
        Ok(lines.join("\n"))
    }

    async fn configure(&self, name: &str, text: &str) -> Result<()> {
        let path = format!("/etc/tributary/{name}.toml");
        self.machine.write(&path, text).await?;
        self.machine.run(&["chmod", "640", &path]).await?.success()?;
        self.machine.run(&["chgrp", "tributary", &path]).await?.success().map(drop)
    }

    async fn systemctl(&self, arguments: &[&str]) -> Result<()> {
        let outcome = self.machine.run(&[&["systemctl"], arguments].concat()).await?;
        if outcome.code != 0 {
            let journal =
                self.machine.run(&["journalctl", "--no-pager", "--lines=40", "--output=cat"]).await?;
            anyhow::bail!("{arguments:?}: {}\n{}", outcome.text(), journal.stdout);
        }
        Ok(())
    }

    async fn property(&self, unit: &str, name: &str) -> Result<String> {
        let shown =
            self.machine.run(&["systemctl", "show", "--value", "--property", name, unit]).await?.success()?;
        Ok(shown.stdout.trim().to_owned())
    }

    async fn is_streaming(&self) -> Result<()> {
        let reply = self.pipeline.get("/readyz").await?;
        ensure!(reply.status == 200, "/readyz answers {}", reply.status);
        Ok(())
    }

    async fn journal(&self, unit: &str) -> Result<String> {
        Ok(self.machine.run(&["journalctl", "--no-pager", "--unit", unit]).await?.success()?.stdout)
    }
}

fn cannot_run() -> Result<bool> {
    let cannot = !place::has_machine()?;
    if cannot {
        eprintln!(
            "SKIP: there is no small system to boot (scripts/test-servers.sh deploy), so the unit is not run"
        );
    }
    Ok(cannot)
}

#[test]
fn the_unit_starts_is_watched_and_stops_in_time() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    scenario(seconds(240), async |stage| {
        let installed = Installed::new(stage).await?;
        let Installed { machine, cluster, pipeline, .. } = &installed;
        let dropin = "/etc/systemd/system/tributary@.service.d/test.conf";
        machine.write(dropin, "[Service]\nWatchdogSec=3s\nRestartSec=1s\n").await?;
        installed.systemctl(&["daemon-reload"]).await?;
        // `systemctl start` comes back once it streams, and not before.
        installed.systemctl(&["start", UNIT]).await?;
        installed.is_streaming().await?;
        is_confined(&installed).await?;
        // Three times as long as a silent loop may live.
        pause(seconds(9)).await;
        ensure!(installed.property(UNIT, "NRestarts").await? == "0", "a loop that lives was ended");
        wait::until("the status line", seconds(10), async || {
            let status = installed.property(UNIT, "StatusText").await?;
            ensure!(status.starts_with("streaming; published up to "), "{status}");
            Ok(())
        })
        .await?;
        rig::some_rows(cluster, 1000).await?;
        let before = installed.property(UNIT, "MainPID").await?;
        installed.systemctl(&["kill", "--kill-whom=main", "--signal=STOP", UNIT]).await?;
        wait::until("the start behind a watchdog", seconds(30), async || {
            ensure!(installed.property(UNIT, "NRestarts").await? == "1", "it is not started again");
            ensure!(installed.property(UNIT, "MainPID").await? != before, "it is the same process");
            installed.is_streaming().await
        })
        .await?;
        let journal = installed.journal(UNIT).await?;
        ensure!(journal.contains("Watchdog timeout"), "{journal}");
        rig::some_rows(cluster, 2000).await?;
        let end = cluster.wal_lsn().await?;
        wait::until("receiving", seconds(30), async || {
            let received = pipeline.position("received").await?;
            ensure!(received + 256 >= end, "received {received:X} of {end:X}");
            Ok(())
        })
        .await?;
        let begun = Instant::now();
        installed.systemctl(&["stop", UNIT]).await?;
        ensure!(begun.elapsed() < seconds(20), "the stop took {:?}", begun.elapsed());
        ensure!(installed.property(UNIT, "Result").await? == "success", "{}", installed.journal(UNIT).await?);
        // Everything was published by the stop.
        rig::compare(stage, cluster, pipeline, &[]).await?;
        let journal = installed.journal(UNIT).await?;
        ensure!(!journal.contains(PASSWORD) && !journal.contains(SECRET_KEY), "a secret is in the journal");
        // Who removes the program ends what runs of it.
        installed.systemctl(&["start", UNIT]).await?;
        machine.run(&["dpkg", "--remove", "tributary"]).await?.success()?;
        ensure!(pipeline.get("/readyz").await.is_err(), "the daemon outlives its package");
        Ok(())
    })
}

/// Whom it runs as, what it may, and what others may see of its secrets.
async fn is_confined(installed: &Installed) -> Result<()> {
    let Installed { machine, .. } = installed;
    let pid = installed.property(UNIT, "MainPID").await?;
    let user = machine.run(&["id", "-u", "tributary"]).await?.success()?.stdout;
    let read = async |name: &str| {
        Ok::<_, anyhow::Error>(machine.run(&["cat", &format!("/proc/{pid}/{name}")]).await?.success()?.stdout)
    };
    let status = read("status").await?;
    let line = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    ensure!(line("Uid:").split_whitespace().all(|uid| uid == user.trim()), "{status}");
    ensure!(
        line("CapBnd:") == "0000000000000000" && line("NoNewPrivs:") == "1" && line("Seccomp:") == "2",
        "{status}"
    );
    ensure!(read("oom_score_adj").await?.trim() == "800", "it would outlive Postgres");
    let seen = read("environ").await? + &read("cmdline").await?;
    ensure!(
        !seen.contains(PASSWORD) && !seen.contains(SECRET_KEY),
        "a secret is in the environment or the command line"
    );
    let folder = machine
        .run(&["stat", "--format=%U:%G %a", "/etc/tributary", "/var/lib/tributary/shop"])
        .await?
        .success()?;
    ensure!(folder.stdout == "root:tributary 750\ntributary:tributary 700\n", "{}", folder.stdout);
    Ok(())
}

#[test]
fn only_what_may_pass_is_started_again() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    scenario(seconds(240), async |stage| {
        let mut installed = Installed::new(stage).await?;
        // 1: it cannot write there, which may be mended while it tries.
        let elsewhere =
            installed.configuration()?.replace(&installed.pipeline.lake_url(), "file:///usr/lake");
        installed.configure("elsewhere", &elsewhere.replace("@shop", "@elsewhere")).await?;
        installed.machine.write("/etc/tributary/elsewhere.password", PASSWORD).await?;
        ended_with(&installed, "tributary@elsewhere", "1").await?;
        wait::until("another attempt", seconds(20), async || {
            ensure!(
                installed.property("tributary@elsewhere", "NRestarts").await? != "0",
                "it is not started again"
            );
            Ok(())
        })
        .await?;
        installed.systemctl(&["stop", "tributary@elsewhere"]).await?;
        // 2: the configuration is wrong.
        installed.configure("wrong", "[source]\nurll = 1\n").await?;
        ended_with(&installed, "tributary@wrong", "2").await?;
        // A server that is down is waited for, and the machine's start is not.
        installed.cluster.stop(Stop::Fast).await?;
        let begun = Instant::now();
        installed.systemctl(&["start", UNIT]).await?;
        ensure!((25..60).contains(&begun.elapsed().as_secs()), "the start took {:?}", begun.elapsed());
        let status = installed.property(UNIT, "StatusText").await?;
        ensure!(status.starts_with("starting; "), "{status}");
        installed.cluster.resume().await?;
        wait::until("streaming", seconds(60), async || installed.is_streaming().await).await?;
        // 4: the source is in doubt.
        installed.systemctl(&["stop", UNIT]).await?;
        installed.cluster.execute("select pg_drop_replication_slot('tributary')").await?;
        ended_with(&installed, UNIT, "4").await?;
        let status = installed.property(UNIT, "StatusText").await?;
        ensure!(status.starts_with("source halted: ") && status.contains("slot"), "{status}");
        // Longer than the pause before a start.
        pause(seconds(7)).await;
        for unit in ["tributary@wrong", UNIT] {
            let state = (
                installed.property(unit, "ActiveState").await?,
                installed.property(unit, "NRestarts").await?,
            );
            ensure!(state == ("failed".to_owned(), "0".to_owned()), "{unit}: {state:?}");
        }
        let prevented = installed.property(UNIT, "RestartPreventExitStatus").await?;
        ensure!(prevented.starts_with("2 3 4"), "{prevented}");
        Ok(())
    })
}

/// By the commands of docs/deployment.md, behind a first start that failed and a `setup --apply` that root typed: what that left is root's.
#[test]
fn a_lake_in_a_folder_is_set_up_whatever_root_did_before() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    scenario(seconds(240), async |stage| {
        let installed = Installed::new(stage).await?;
        let Installed { machine, cluster, pipeline, .. } = &installed;
        let lake = "/var/lib/tributary/shop/lake";
        cluster.execute("select pg_drop_replication_slot('tributary')").await?;
        // 2: whatever is wrong at the first start, what the unit made belongs to its user from then on, and no other start mends what is below.
        installed.configure("shop", "[source]\nurll = 1\n").await?;
        ended_with(&installed, UNIT, "2").await?;
        let text = installed.configuration()?.replace(&pipeline.lake_url(), &format!("file://{lake}"));
        installed.configure("shop", &text).await?;
        let by_root = [
            "env",
            "TRIBUTARY_CONFIG=/etc/tributary/shop.toml",
            "TRIBUTARY_SOURCE__PASSWORD_FILE=/etc/tributary/shop.password",
            "tributary",
            "setup",
            "--apply",
        ];
        machine.run(&by_root).await?.success()?;
        let log = format!("{lake}/_tributary/log");
        let owner = machine.run(&["stat", "--format=%U", &log]).await?.success()?.stdout;
        ensure!(owner.trim() == "root", "{owner}");
        ended_with(&installed, UNIT, "1").await?;
        installed.systemctl(&["stop", UNIT]).await?;
        machine.run(&["bash", "-euo", "pipefail", "-c", &documented()?]).await?.success()?;
        installed.systemctl(&["start", UNIT]).await?;
        rig::some_rows(cluster, 1000).await?;
        installed.systemctl(&["stop", UNIT]).await?;
        ensure!(installed.property(UNIT, "Result").await? == "success", "{}", installed.journal(UNIT).await?);
        let entries = machine.run(&["find", &log, "-type", "f", "-user", "tributary"]).await?.success()?;
        ensure!(entries.stdout.lines().count() >= 2, "{}", entries.stdout);
        Ok(())
    })
}

/// How docs/deployment.md has a pipeline set up.
fn documented() -> Result<String> {
    let text = fs::read_to_string(place::repository()?.join("docs/deployment.md"))?;
    let from = text.find("export TRIBUTARY_CONFIG=").context("no configuration is named")?;
    let commands =
        text.get(from..).and_then(|rest| rest.split("systemctl enable").next()).context("commands")?;
    ensure!(commands.contains("tributary setup --apply && tributary check\n"), "{commands}");
    Ok(commands.to_owned())
}

/// Starts what will not start, and looks at its exit code.
async fn ended_with(installed: &Installed, unit: &str, code: &str) -> Result<()> {
    let started = installed.machine.run(&["systemctl", "start", unit]).await?;
    ensure!(started.code != 0, "{unit} starts");
    let found = installed.property(unit, "ExecMainStatus").await?;
    ensure!(found == code, "{unit} ended with {found}: {}", installed.journal(unit).await?);
    Ok(())
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() -> Result<()> {
    if cannot_run()? {
        return Ok(());
    }
    scenario(seconds(120), async |stage| {
        let machine = Machine::boot(stage).await?;
        let package = machine.bring(&package::build(stage).await?)?;
        machine.run(&["dpkg", "--install", &package]).await?.success()?;
        let verified =
            machine.run(&["systemd-analyze", "verify", "tributary@shop.service"]).await?.success()?;
        ensure!(verified.text().is_empty(), "{}", verified.text());
        let unit = "/usr/lib/systemd/system/tributary@.service";
        let judged =
            machine.run(&["systemd-analyze", "security", "--offline=true", "--threshold=15", unit]).await?;
        let overall = judged.text().lines().last().unwrap_or_default().to_owned();
        stage.say(&overall);
        judged.success().context("exposed by more than 1.5")?;
        Ok(())
    })
}
