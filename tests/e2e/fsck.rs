//! The check of a lake by itself: what was damaged is found, and what was not is not.
//!
//! Owns: damage done to objects by hand, in a folder and in S3; and checks beside a daemon under load.
//! Does not: test every finding; the unit tests of the check do.
//! Holds: once the damage is undone, the lake is clean again, and no check has changed a row of it.
//! Fails: with what the check said.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::daemon::FAULTS;
use testkit::lister::{self, Place};
use testkit::s3::BUCKET;
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Lister, Pipeline, http, scenario};

use crate::rig::{self, Kind, LakeRig};

#[test]
fn damage_is_found_in_a_directory() -> Result<()> {
    damage_is_found(Kind::Directory)
}

#[test]
fn damage_is_found_in_s3() -> Result<()> {
    damage_is_found(Kind::S3)
}

#[test]
fn a_running_daemon_causes_no_alarm_in_a_directory() -> Result<()> {
    beside_a_daemon(Kind::Directory)
}

#[test]
fn a_running_daemon_causes_no_alarm_in_s3() -> Result<()> {
    beside_a_daemon(Kind::S3)
}

fn damage_is_found(kind: Kind) -> Result<()> {
    scenario(seconds(300), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 18, false, &["wal_sender_timeout = 5s"]).await?;
        let lake = LakeRig::new(stage, kind).await?;
        let pipeline = rig::pipeline(stage, &cluster, lake.lake.clone(), |_| {}).await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        workload
            .during(async {
                for _ in 0..3 {
                    let mut daemon = pipeline.start_streaming().await?;
                    pause(seconds(3)).await;
                    daemon.kill()?;
                    // What a kill leaves is no damage.
                    refuse_findings(&fsck(&pipeline, &["--deep"], 0).await?, &["damage"])?;
                }
                Ok(())
            })
            .await?;
        workload.finish().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        let clean = fsck(&pipeline, &["--deep"], 0).await?;
        refuse_findings(&clean, &["damage", "warning"])?;
        let files = lister::files(&pipeline.place())?.len();
        ensure!(
            clean.get("files_read").and_then(Value::as_u64) == u64::try_from(files).ok(),
            "{files} files, and {clean}"
        );

        let objects = Objects(pipeline.place());
        damage_files(&pipeline, &objects).await?;
        damage_log(&pipeline, &objects).await?;
        leave_an_upload(&pipeline, &objects).await?;
        refuse_findings(&fsck(&pipeline, &["--deep"], 0).await?, &["damage", "warning"])?;
        rig::compare(stage, &cluster, &pipeline, &[]).await
    })
}

/// One file after the other is damaged and mended.
async fn damage_files(pipeline: &Pipeline, objects: &Objects) -> Result<()> {
    let files = lister::files(&objects.0)?;
    let key = files.get(files.len() / 2).context("no file")?;
    let content = objects.get(key)?;

    objects.delete(key)?;
    let report = fsck(pipeline, &[], 1).await?;
    must_find(&report, "file_missing", key)?;
    let mend = report.pointer("/findings/0/mend").and_then(Value::as_str).unwrap_or_default();
    ensure!(mend.contains("tributary resync 'public."), "{report}");

    objects.put(key, content.get(..content.len() - 100).context("a short file")?)?;
    must_find(&fsck(pipeline, &[], 1).await?, "file_size", key)?;

    let mut forged = content.clone();
    *forged.get_mut(100).context("a short file")? ^= 0x10;
    objects.put(key, &forged)?;
    refuse_findings(&fsck(pipeline, &[], 0).await?, &["damage"])?;
    must_find(&fsck(pipeline, &["--deep"], 1).await?, "file_checksum", key)?;
    objects.put(key, &content)?;

    let copy = key.replace(".parquet", "-copy.parquet");
    objects.put(&copy, &content)?;
    // Nothing deletes a data file but a person.
    let report = fsck(pipeline, &["--repair"], 1).await?;
    must_find(&report, "unlogged", &copy)?;
    let mend = report.pointer("/findings/0/mend").and_then(Value::as_str).unwrap_or_default();
    ensure!(mend.starts_with("rm '/") || mend.starts_with("aws s3 rm "), "{report}");
    objects.delete(&copy)?;
    refuse_findings(&fsck(pipeline, &["--deep"], 0).await?, &["damage", "warning"])
}

async fn damage_log(pipeline: &Pipeline, objects: &Objects) -> Result<()> {
    let clean = fsck(pipeline, &[], 0).await?;
    let last = clean.get("last_entry").and_then(Value::as_u64).context("no last entry")?;
    ensure!(last > 4, "too few entries for a middle: {clean}");
    let key = objects.control(&format!("log/{:020}.json", last - 2));
    let content = objects.get(&key)?;
    objects.delete(&key)?;
    must_find(&fsck(pipeline, &[], 1).await?, "entry_missing", &key)?;
    objects.put(&key, content.get(..content.len() / 2).context("an empty entry")?)?;
    must_find(&fsck(pipeline, &[], 1).await?, "entry_unreadable", &key)?;
    objects.put(&key, &content)?;

    let key = objects.control("watermark.json");
    let content = objects.get(&key)?;
    objects.delete(&key)?;
    must_find(&fsck(pipeline, &["--repair"], 0).await?, "watermark_missing", &key)?;
    refuse_findings(&fsck(pipeline, &[], 0).await?, &["damage", "warning"])?;
    objects.put(&key, &content)
}

/// An upload that a daemon began which was fenced long ago.
async fn leave_an_upload(pipeline: &Pipeline, objects: &Objects) -> Result<()> {
    let name = "public/orders/data/cdc_date=2026-08-01/cdc_hour=00/00000000000000000001-0000000000000001-0000000000000002-0000.parquet";
    objects.begin_upload(name)?;
    must_find(&fsck(pipeline, &[], 0).await?, "upload_abandoned", name)?;
    must_find(&fsck(pipeline, &["--repair"], 0).await?, "upload_abandoned", name)?;
    let after = fsck(pipeline, &[], 0).await?;
    ensure!(find(&after, "upload_abandoned").is_none(), "it was not aborted: {after}");
    Ok(())
}

fn beside_a_daemon(kind: Kind) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        rig::some_rows(&cluster, 1_000_000).await?;
        let lake = LakeRig::new(stage, kind).await?;
        let pipeline = rig::pipeline(stage, &cluster, lake.lake.clone(), |s| s.snapshot = "initial").await?;
        let lister = Lister::start(pipeline.place())?;
        let workload = Workload::new(&cluster, Load::new(seed));
        let mut daemon = pipeline.start_streaming().await?;
        workload
            .during(async {
                for round in 0..ROUNDS {
                    let arguments: &[&str] = match round % 3 {
                        0 => &[],
                        1 => &["--deep"],
                        _ => &["--repair"],
                    };
                    refuse_findings(&fsck(&pipeline, arguments, 0).await?, &["damage", "warning"])?;
                }
                Ok(())
            })
            .await?;
        workload.finish().await?;
        let ended = daemon.exited()?;
        ensure!(ended.is_none(), "the daemon ended with {ended:?}: {}", daemon.tail());
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        refuse_findings(&fsck(&pipeline, &["--deep"], 0).await?, &["damage", "warning"])?;
        lister.finish()?;
        pipeline.refuse_unexpected_lines(FAULTS)
    })
}

async fn fsck(pipeline: &Pipeline, arguments: &[&str], code: i32) -> Result<Value> {
    let outcome = pipeline.run(&[&["fsck", "--json"][..], arguments].concat()).await?.expect(code)?;
    serde_json::from_str(&outcome.stdout).with_context(|| outcome.text())
}

fn findings(report: &Value) -> impl Iterator<Item = &Value> {
    report.get("findings").and_then(Value::as_array).into_iter().flatten()
}

fn said<'a>(finding: &'a Value, name: &str) -> &'a str {
    finding.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn find<'a>(report: &'a Value, fault: &str) -> Option<&'a Value> {
    findings(report).find(|finding| said(finding, "fault") == fault)
}

fn must_find(report: &Value, fault: &str, key: &str) -> Result<()> {
    let found = find(report, fault).with_context(|| format!("no {fault} in {report}"))?;
    // Keys of a bucket have the lake's prefix here.
    let found = said(found, "key");
    ensure!(!found.is_empty() && key.ends_with(found), "{fault} of {found} and not of {key}");
    Ok(())
}

fn refuse_findings(report: &Value, severities: &[&str]) -> Result<()> {
    let loud = |finding: &&Value| severities.contains(&said(finding, "severity"));
    let loud: Vec<&Value> = findings(report).filter(loud).collect();
    ensure!(loud.is_empty(), "found {loud:?}");
    Ok(())
}

/// The objects of a lake, by the keys that the lister gives.
struct Objects(Place);

impl Objects {
    fn control(&self, name: &str) -> String {
        match &self.0 {
            Place::Directory(_) => format!("_tributary/{name}"),
            Place::Bucket { prefix, .. } => format!("{prefix}/_tributary/{name}"),
        }
    }

    fn get(&self, key: &str) -> Result<Vec<u8>> {
        match &self.0 {
            Place::Directory(folder) => Ok(fs::read(folder.join(key))?),
            Place::Bucket { .. } => self.request("GET", key, "", &[]),
        }
    }

    fn put(&self, key: &str, content: &[u8]) -> Result<()> {
        match &self.0 {
            Place::Directory(folder) => Ok(fs::write(folder.join(key), content)?),
            Place::Bucket { .. } => self.request("PUT", key, "", content).map(drop),
        }
    }

    fn delete(&self, key: &str) -> Result<()> {
        match &self.0 {
            Place::Directory(folder) => Ok(fs::remove_file(folder.join(key))?),
            Place::Bucket { .. } => self.request("DELETE", key, "", &[]).map(drop),
        }
    }

    /// Of a key without the prefix.
    fn begin_upload(&self, key: &str) -> Result<()> {
        match &self.0 {
            Place::Directory(folder) => {
                let folder = folder.join("_tributary/uploads/0123456789abcdef0123456789abcdef");
                fs::create_dir_all(&folder)?;
                write(&folder, "key", key.as_bytes())?;
                write(&folder, "bytes", b"")
            }
            Place::Bucket { prefix, .. } => {
                self.request("POST", &format!("{prefix}/{key}"), "?uploads", &[]).map(drop)
            }
        }
    }

    fn request(&self, method: &str, key: &str, query: &str, body: &[u8]) -> Result<Vec<u8>> {
        let Place::Bucket { port, .. } = &self.0 else { return Ok(Vec::new()) };
        let reply = http::send(method, *port, &format!("/{BUCKET}/{key}{query}"), body)?;
        ensure!(matches!(reply.status, 200 | 204), "{method} {key}: {} {}", reply.status, reply.text());
        Ok(reply.body)
    }
}

fn write(folder: &Path, name: &str, content: &[u8]) -> Result<()> {
    Ok(fs::write(folder.join(name), content)?)
}

const ROUNDS: u32 = 24;
