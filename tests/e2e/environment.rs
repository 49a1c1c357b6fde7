//! The machine below the daemon: its disk is full, its clock jumps, its credentials expire, or it gives the daemon little time to stop.
//!
//! Owns: a file system of some megabytes for a lake; clocks; a program that hands out credentials; SIGTERM that is followed by SIGKILL.
//! Does not: limit memory; `memory` does.
//! Holds: a full disk is waited for, and nothing half written is seen; whatever time a stop has, nothing is lost or doubled.
//! Fails: with the oracle's differences, or the end of the daemon's log.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::{Daemon, Lake};
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Clock, Cluster, Lister, Stage, place, scenario};

use crate::rig;
use crate::snapshot::LEAVES_DIFFER;

#[test]
fn a_full_disk_is_waited_for() -> Result<()> {
    if !place::is_root() {
        eprintln!(
            "SKIP: a file system of its own takes root to mount, so nothing is known about a full disk"
        );
        return Ok(());
    }
    scenario(seconds(180), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 16, false, &[]).await?;
        let disk = SmallDisk::mount(stage.path("disk"), "96m")?;
        let lake = Lake::Directory(disk.0.join("lake"));
        let pipeline = rig::pipeline(stage, &cluster, lake, |_| {}).await?;
        let lister = Lister::start(pipeline.place())?;
        let mut daemon = pipeline.start_streaming().await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        workload
            .during(async {
                pause(seconds(2)).await;
                for round in 0..2 {
                    let ballast = disk.0.join("ballast");
                    fill(&ballast)?;
                    pause(seconds(5)).await;
                    ensure!(daemon.exited()?.is_none(), "a full disk ended the daemon: {}", daemon.tail());
                    if round == 1 {
                        // Dead, and started again without room.
                        daemon.kill()?;
                        daemon = pipeline.start()?;
                        pause(seconds(3)).await;
                        ensure!(daemon.exited()?.is_none(), "without room it ends: {}", daemon.tail());
                    }
                    std::fs::remove_file(&ballast)?;
                    pause(seconds(2)).await;
                }
                daemon.wait_until_streaming(seconds(60)).await
            })
            .await?;
        workload.finish().await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        lister.finish()?;
        ensure!(pipeline.log()?.contains("the disk is full"), "the disk was never full");
        pipeline.refuse_unexpected_lines(&["the disk is full", LEAVES_DIFFER])
    })
}

/// Until no byte more can be written.
fn fill(path: &Path) -> Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path)?;
    for block in [&[0_u8; 65536][..], &[0_u8; 512]] {
        while file.write_all(block).is_ok() {}
    }
    Ok(())
}

/// Unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf, size: &str) -> Result<SmallDisk> {
        std::fs::create_dir(&folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "tmpfs"]).arg(&folder);
        ensure!(mount.status().context("mount")?.success(), "mounting {}", folder.display());
        Ok(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that still has it open ends with the test.
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

/// What stops a container says so, waits for a while, and kills.
#[test]
fn a_stop_may_take_no_time_a_second_or_all_it_needs() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 17, false, &[]).await?;
        // Nothing is published before the stop.
        let pipeline = rig::pipeline(stage, &cluster, rig::directory(stage), |s| s.interval = "60s").await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        for (grace, rounds) in [(0, 3), (1, 3), (30, 2)] {
            for _ in 0..rounds {
                let mut daemon = pipeline.start_streaming().await?;
                workload.during_seconds(2).await?;
                let begun = daemon.position("received").await?;
                daemon.tell_to_stop()?;
                let ended = workload.during(daemon.exit_code(seconds(grace))).await;
                stage.say(format!("{grace} s: {ended:?}"));
                daemon.kill()?;
                if grace == 30 {
                    ensure!(ended? == 0, "not an orderly end: {}", daemon.tail());
                    let confirmed = cluster.confirmed("tributary").await?;
                    ensure!(confirmed >= begun, "received {begun:X}, and confirmed only {confirmed:X}");
                }
            }
        }
        workload.finish().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[LEAVES_DIFFER])
    })
}

/// Rows are a function of the WAL, and so is where they lie: what the daemon's wall clock says decides nothing.
#[test]
fn clocks_that_jump_lose_nothing() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let seed = rig::seed(stage)?;
        let Some(clock) = Clock::new(stage, "clock")? else {
            eprintln!("SKIP: without libfaketime nothing is known about clocks that jump");
            return Ok(());
        };
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        let lake = rig::LakeRig::new(stage, rig::Kind::S3).await?;
        let pipeline = rig::pipeline(stage, &cluster, lake.lake.clone(), |s| s.env = clock.env()).await?;
        let lister = Lister::start(pipeline.place())?;
        let mut daemon = pipeline.start_streaming().await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        workload
            .during(async {
                for hours in [3, -48, 24 * 40, 0] {
                    clock.jump(hours * HOUR)?;
                    still_publishes(stage, &cluster, &mut daemon).await?;
                    still_publishes(stage, &cluster, &mut daemon).await?;
                    daemon.kill()?;
                    daemon = pipeline.start_streaming().await?;
                }
                Ok(())
            })
            .await?;
        workload.finish().await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        lister.finish()?;
        // The daemon believed in it: its log tells of another month.
        ensure!(days_of(&pipeline.log()?).len() > 2, "the daemon never saw another time");
        pipeline.refuse_unexpected_lines(&[LEAVES_DIFFER])
    })
}

/// The days on which lines of a log were written.
fn days_of(log: &str) -> BTreeSet<&str> {
    log.lines().filter_map(|line| line.split_once("\"timestamp\":\"")?.1.get(..10)).collect()
}

const HOUR: i64 = 3600;

/// Within the time that it usually takes: nothing waits for a clock to come back.
async fn still_publishes(stage: &Stage, cluster: &Cluster, daemon: &mut Daemon) -> Result<()> {
    let lsn = cluster.wal_lsn().await?;
    stage.say(format!("waits for {lsn:X}"));
    daemon.wait_until_published(lsn, seconds(20)).await?;
    pause(seconds(1)).await;
    Ok(())
}

/// Keys that live for some seconds, as those of roles do, only shorter.
#[test]
fn credentials_are_fetched_again_before_they_expire() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 17, false, &[]).await?;
        let lake = rig::LakeRig::new(stage, rig::Kind::S3).await?;
        let (program, config, calls) = (stage.path("credentials"), stage.path("aws"), stage.path("calls"));
        std::fs::write(
            &program,
            format!(
                "#!/bin/sh\necho >>{}\nprintf '{{\"Version\":1,\"AccessKeyId\":\"{}\",\"SecretAccessKey\":\"{}\",\"SessionToken\":\"t\",\"Expiration\":\"%s\"}}' \"$(date -u -d '+13 seconds' +%Y-%m-%dT%H:%M:%SZ)\"\n",
                calls.display(),
                testkit::s3::ACCESS_KEY,
                testkit::s3::SECRET_KEY
            ),
        )?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        std::fs::write(&config, format!("[default]\ncredential_process = {}\n", program.display()))?;
        let pipeline = rig::pipeline(stage, &cluster, lake.lake.clone(), |s| {
            let text = |path: &Path| path.display().to_string();
            for (name, value) in [
                ("AWS_ACCESS_KEY_ID", String::new()),
                ("AWS_SECRET_ACCESS_KEY", String::new()),
                ("AWS_CONFIG_FILE", text(&config)),
                ("AWS_SHARED_CREDENTIALS_FILE", text(&config)),
            ] {
                s.env.push((name.to_owned(), value));
            }
        })
        .await?;
        let mut daemon = pipeline.start_streaming().await?;
        let fetched = || std::fs::read_to_string(&calls).map_or(0, |text| text.lines().count());
        // The client fetches them anew some seconds before they end, at random, and only when it has something to ask.
        let (before, mut rounds) = (fetched(), 0);
        while rounds < 4 || (fetched() < before + 2 && rounds < 12) {
            rig::some_rows(&cluster, 1 + rounds * 100).await?;
            pause(seconds(4)).await;
            daemon.wait_until_published(cluster.wal_lsn().await?, seconds(10)).await?;
            rounds += 1;
        }
        let during = fetched() - before;
        ensure!((2..40).contains(&during), "{during} times in {rounds} rounds of 4 seconds");
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[LEAVES_DIFFER])
    })
}
