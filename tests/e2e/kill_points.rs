//! Every place where a daemon can die, and what must not follow from its death.
//!
//! Owns: the table of kill points with the visit that is the last, by the phase of a lake's life: first start, rows that are there
//! already, stream, large transaction, recovery, stop. Most come twice in a row.
//! Does not: kill at random; the round trips do.
//! Holds: after each phase the lake is the source, row by row. Meanwhile a reader never sees a file change or disappear.
//! Fails: with the point at which a daemon did not die, or the oracle's differences.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::daemon::{FAULTS, Settings};
use testkit::postgres::DATABASE;
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Cluster, Daemon, Lister, Pipeline, Stage, scenario, wait};

use crate::rig::{self, Kind, LakeRig};
use crate::snapshot::{LEAVES_DIFFER, SNAPSHOT_FAULTS, fill, only_our_slot, wait_until_read};

/// Where a daemon dies: `entry-logged:3` is at the third visit, `log-put-sent:1:5` 5 ms after the first of these requests began.
type Deaths = &'static [&'static str];

/// A lake that nobody has written to yet. The slot can be made only once.
const FIRST_START: Deaths = &[
    "publication-checked",
    "publication-checked",
    "identity-written",
    "identity-written",
    "slot-created",
    "log-put-sent",
];

/// Behind the first entry, and before the first row.
const SECOND_START: Deaths = &["slot-taken", "open-logged", "point-found", "point-found"];

/// Three tables are asked to be read anew before each pair.
const SNAPSHOT: Deaths = &[
    "chunk-reading",
    "chunk-reading:5",
    "chunk-read",
    "chunk-read:2",
    "part-uploading:1:1",
    "parts-uploaded",
    "entry-logged",
    "file-completed:2",
    "snapshot-ended",
    "snapshot-ended:2",
];

/// The first log entry of a start opens the log; the second is a cut.
const STREAM: Deaths = &[
    "mid-transaction:41",
    "mid-transaction:6",
    "part-uploading",
    "part-uploading:3:2",
    "part-uploaded",
    "part-uploaded:3",
    "parts-uploaded",
    "parts-uploaded:2",
    "log-put-sent:2",
    "log-put-sent:2:1",
    "log-put-sent:3:4",
    "entry-logged",
    "entry-logged",
    "file-completing",
    "file-completing:2:1",
    "file-completed",
    "file-completed:3",
    "files-published",
    "files-published",
    "watermark-written",
    "watermark-written:2",
    "confirmed",
    "confirmed:2",
    "checkpoint-parts-written",
];

/// Of a transaction of 12,000 rows: while it is streamed, and when it is read whole because it was open before the stream.
const LARGE: Deaths = &[
    "transaction-spooled",
    "mid-transaction:6001",
    "replaying",
    "part-uploaded",
    "replaying:2",
    "entry-logged",
];

/// One cut is logged and not published, and no daemon comes as far as to stream; then a cut is uploaded and not logged.
const RECOVERY: Deaths = &[
    "entry-logged",
    "slot-taken",
    "slot-taken",
    "log-put-sent",
    "log-put-sent:1:2",
    "open-logged",
    "open-logged",
    "file-completing",
    "file-completed",
    "rolling-forward",
    "rolling-forward",
    "rolled-forward",
    "rolled-forward",
    "parts-uploaded",
    "rolled-forward",
    "rolled-forward",
];

/// Behind SIGTERM, which makes the first cut.
const STOP: Deaths = &[
    "draining",
    "draining",
    "parts-uploaded",
    "entry-logged",
    "file-completed",
    "watermark-written",
    "confirmed",
    "drained",
];

/// Behind SIGTERM, when only a table that is not published was written to.
const IDLE_STOP: Deaths = &["idle-logged", "idle-logged", "drained"];

#[test]
fn postgres_15_directory() -> Result<()> {
    die_everywhere(15, Kind::Directory)
}

#[test]
fn postgres_15_s3() -> Result<()> {
    die_everywhere(15, Kind::S3)
}

#[test]
fn postgres_18_directory() -> Result<()> {
    die_everywhere(18, Kind::Directory)
}

#[test]
fn postgres_18_s3() -> Result<()> {
    die_everywhere(18, Kind::S3)
}

fn die_everywhere(version: u32, kind: Kind) -> Result<()> {
    scenario(seconds(600), async |stage| {
        let settings = ["logical_decoding_work_mem = 4MB"];
        let cluster = rig::cluster(stage, version, false, &settings).await?;
        let lake = LakeRig::new(stage, kind).await?;
        let run = Run::new(stage, cluster, &lake).await?;
        run.first_start().await?;
        run.snapshot().await?;
        run.under_load("stream", &run.quick, STREAM).await?;
        run.large().await?;
        run.under_load("recovery", &run.quick, RECOVERY).await?;
        run.stop().await?;
        run.finish().await
    })
}

/// A lake on its way through all phases.
struct Run<'s> {
    stage: &'s Stage,
    cluster: Cluster,
    lister: Lister,
    seed: u64,
    /// Cuts several times a second.
    quick: Pipeline,
    /// Cuts when it is told to stop.
    patient: Pipeline,
    /// Takes transactions that are open.
    streaming: Pipeline,
}

impl<'s> Run<'s> {
    async fn new(stage: &'s Stage, cluster: Cluster, lake: &LakeRig) -> Result<Run<'s>> {
        let seed = rig::seed(stage)?;
        fill(&cluster, seed, false).await?;
        let mut settings = Settings::new(cluster.url(DATABASE), lake.lake.clone());
        settings.snapshot = "initial";
        settings.interval = "200ms";
        // Nothing is set up: the first start makes slot and log.
        let quick = Pipeline::new(stage, "quick", settings)?;
        let patient = quick.variant(stage, "patient", |settings| settings.interval = "60s")?;
        let streaming = quick.variant(stage, "streaming", |settings| settings.streaming = "on")?;
        let lister = Lister::start(quick.place())?;
        Ok(Run { stage, cluster, lister, seed, quick, patient, streaming })
    }

    async fn first_start(&self) -> Result<()> {
        let workload = self.workload("first start");
        for deaths in [FIRST_START, SECOND_START] {
            workload.during(die_at_all(&self.quick, deaths)).await?;
        }
        // Read to its end what it may have begun to read.
        let daemon = self.quick.start_streaming().await?;
        workload.during(async { wait_until_read(&daemon, seconds(60)).await }).await?;
        daemon.stop().await?;
        self.compare("first start", workload).await
    }

    async fn snapshot(&self) -> Result<()> {
        let workload = self.workload("snapshot");
        for deaths in SNAPSHOT.chunks(2) {
            workload
                .during(async {
                    let again = ["resync", "public.orders", "public.ledger", "public.customers"];
                    self.quick.run(&again).await?.success()?;
                    die_at_all(&self.quick, deaths).await
                })
                .await?;
        }
        let daemon = self.quick.start_streaming().await?;
        workload.during(async { wait_until_read(&daemon, seconds(60)).await }).await?;
        daemon.stop().await?;
        self.compare("snapshot", workload).await
    }

    async fn under_load(&self, phase: &str, pipeline: &Pipeline, deaths: Deaths) -> Result<()> {
        let workload = self.workload(phase);
        workload.during(die_at_all(pipeline, deaths)).await?;
        self.compare(phase, workload).await
    }

    async fn large(&self) -> Result<()> {
        let workload = self.workload("large");
        for deaths in LARGE.chunks(2) {
            workload
                .during(async {
                    // A transaction that the stream is to take while it is open must not be older than the stream.
                    self.streaming.run(&["run", "--until", "now"]).await?.success()?;
                    for (round, at) in deaths.iter().enumerate() {
                        let mut daemon = self.streaming.start_to_die(at)?;
                        if round == 0 {
                            daemon.wait_until_streaming(seconds(30)).await?;
                            self.cluster.execute(LARGE_TRANSACTION).await?;
                        }
                        daemon.wait_until_killed(at, DEATH).await?;
                    }
                    Ok(())
                })
                .await?;
        }
        self.compare("large", workload).await
    }

    async fn stop(&self) -> Result<()> {
        let workload = self.workload("stop");
        for at in STOP {
            workload
                .during(self.die_stopping(at, "insert into ledger values (1, 'the last', 1, null)"))
                .await?;
        }
        self.compare("stop", workload).await?;
        for at in IDLE_STOP {
            self.die_stopping(at, "insert into unpublished (body) values ('x')").await?;
        }
        rig::finish(self.stage, &self.cluster, &self.quick, &[]).await
    }

    /// A daemon that has received what was committed is told to stop, and dies. Where the one before left something to do, it may die of that.
    async fn die_stopping(&self, at: &str, commit: &str) -> Result<()> {
        let mut daemon = self.patient.start_to_die(at)?;
        if streams(&mut daemon).await? {
            self.cluster.execute(commit).await?;
            let committed = self.cluster.wal_lsn().await?;
            wait::until("a commit", seconds(30), async || {
                let received = daemon.position("received").await?;
                ensure!(received >= committed, "received up to {received:X} of {committed:X}");
                Ok(())
            })
            .await?;
            daemon.tell_to_stop()?;
        }
        daemon.wait_until_killed(at, DEATH).await
    }

    /// Every phase does something else. Little, as all of it is compared after each.
    fn workload(&self, phase: &str) -> Workload {
        let seed =
            phase.bytes().fold(self.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Workload::new(&self.cluster, Load { workers: 2, pause: Duration::from_millis(25), ..Load::new(seed) })
    }

    async fn compare(&self, phase: &str, workload: Workload) -> Result<()> {
        let done = workload.finish().await?;
        self.stage.say(format!("{phase}: {} transactions committed", done.committed));
        rig::finish(self.stage, &self.cluster, &self.quick, &[]).await
    }

    async fn finish(self) -> Result<()> {
        let seen = self.lister.finish()?;
        self.stage.say(format!("{} files, listed {} times", seen.files, seen.listings));
        only_our_slot(&self.cluster).await?;
        for pipeline in [&self.quick, &self.patient, &self.streaming] {
            pipeline.refuse_unexpected_lines(&[FAULTS, SNAPSHOT_FAULTS, &[LEAVES_DIFFER]].concat())?;
        }
        Ok(())
    }
}

/// One start after the other, each until its death.
async fn die_at_all(pipeline: &Pipeline, deaths: &[&str]) -> Result<()> {
    for at in deaths {
        pipeline.start_to_die(at)?.wait_until_killed(at, DEATH).await?;
    }
    Ok(())
}

/// Whether it streams, or has ended before.
async fn streams(daemon: &mut Daemon) -> Result<bool> {
    wait::until("streaming, or the end", seconds(30), async || {
        if daemon.exited()?.is_some() {
            return Ok(false);
        }
        ensure!(daemon.get("/readyz").await?.status == 200, "not ready");
        Ok(true)
    })
    .await
}

/// A slot is made once older transactions have ended. The server goes on with it although nobody waits for it any more.
#[test]
fn who_died_while_the_slot_was_made_finds_it() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 16, false, &[]).await?;
        let settings = Settings::new(cluster.url(DATABASE), rig::directory(stage));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        let older = cluster.connect(DATABASE).await?;
        older.batch_execute("begin; insert into ledger values (1, 'older', 1, null)").await?;
        let mut daemon = pipeline.start_to_die("slot-creating:1:500")?;
        daemon.wait_until_killed("slot-creating", DEATH).await?;
        let mut daemon = pipeline.start()?;
        pause(seconds(2)).await;
        ensure!(daemon.exited()?.is_none(), "the daemon does not wait for its slot: {}", daemon.tail());
        older.batch_execute("commit").await?;
        daemon.wait_until_streaming(seconds(60)).await?;
        rig::some_rows(&cluster, 1000).await?;
        daemon.wait_until_published(cluster.wal_lsn().await?, seconds(30)).await?;
        daemon.stop().await?;
        only_our_slot(&cluster).await?;
        // What had committed before the slot is not of the stream.
        rig::finish(stage, &cluster, &pipeline, &["--exclude", "public.ledger"]).await
    })
}

/// A first start whose log entry nobody acknowledged, and one that nobody knew of: both find what they left.
#[test]
fn the_first_entry_is_found_by_who_did_not_see_it() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 14, false, &[]).await?;
        let settings = Settings::new(cluster.url(DATABASE), rig::directory(stage));
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        die_at_all(&pipeline, &["log-begun", "open-logged", "open-logged"]).await?;
        rig::some_rows(&cluster, 1000).await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await
    })
}

/// The longest that a daemon may take to its death.
const DEATH: Duration = seconds(60);

const LARGE_TRANSACTION: &str = "insert into ledger select 1000 + g, 'large', g % 7, repeat(md5(g::text), 40) from generate_series(1, 12000) g";
