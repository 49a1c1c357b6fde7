//! `tributary demo`: a throw-away Postgres, a live load, the daemon killed in the middle, and the proof.
//!
//! Owns: the order of the demo's acts, its directory, and that nothing of it stays behind unless it was asked to.
//! Does not: share anything with the daemon but its program file, its command line, its configuration and its HTTP.
//! Holds: whatever ends the demo (its own end, an error, Ctrl-C, even `kill -9`), its processes end with it.
//! Fails: [`Error`] unless the files in the lake and the tables in Postgres are equal in every cell.

mod cells;
mod children;
mod cluster;
mod daemon;
mod display;
mod files;
mod load;
mod proof;
mod random;
mod replay;
mod shop;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pgoutput::Lsn;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use cluster::{Cluster, Link};
use daemon::{DATABASE, Daemon, SLOT};
use display::{Display, Progress, grouped};
use files::Watch;
use load::{Ledger, Load};
use proof::Proof;
use shop::Shop;
use stage::Stage;

/// See Tributary work, from nothing: needs only the programs of a Postgres server.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Leave the cluster, the daemon and the files in place at the end
    #[arg(long)]
    pub keep: bool,
    /// How long the load lasts
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub seconds: u64,
    /// Where everything goes, instead of a temporary directory; must be absent or empty
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// How many leaves the three partitioned tables have in all
    #[arg(long, default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(3..=20_000))]
    pub leaves: u64,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo. It succeeds only if the lake equals Postgres.
pub async fn run(args: &DemoArgs) -> Result<()> {
    let display = Display::new(args.json);
    let mut stage = Stage::open(args.dir.as_deref()).await?;
    let outcome = tokio::select! {
        biased;
        interruption = interrupted() => Err(interruption),
        outcome = Box::pin(play(args, display, &mut stage)) => outcome.map_err(End::Failed),
    };
    match outcome {
        Ok(proof) if args.keep => {
            display.say(&stage.left_running()?);
            stage.leave().await;
            judge(&proof)
        }
        Ok(proof) if proof.is_equal() => {
            stage.clear(true).await;
            Ok(())
        }
        Ok(proof) => {
            stage.clear(false).await;
            display.say(&format!(
                "The lake, the configuration and the logs stay in {}.",
                stage.home().display()
            ));
            judge(&proof)
        }
        Err(End::Interrupted(name)) => {
            display.say(&format!("{name}: stopping and removing everything"));
            stage.clear(true).await;
            Err(Error::definite("interrupted"))
        }
        Err(End::Failed(error)) => {
            stage.clear(false).await;
            display.say(&format!("What there is of the demo stays in {}.", stage.home().display()));
            Err(error)
        }
    }
}

/// Why there is no proof.
enum End {
    Interrupted(&'static str),
    Failed(Error),
}

async fn interrupted() -> End {
    let wait_for = async |kind: SignalKind| match signal(kind) {
        Ok(mut stream) => stream.recv().await,
        Err(_) => std::future::pending().await,
    };
    let name = tokio::select! {
        _ = wait_for(SignalKind::interrupt()) => "interrupted",
        _ = wait_for(SignalKind::terminate()) => "terminated",
        _ = wait_for(SignalKind::hangup()) => "hung up",
    };
    End::Interrupted(name)
}

fn judge(proof: &Proof) -> Result<()> {
    if proof.is_equal() {
        return Ok(());
    }
    Err(Error::definite(format!("the lake differs from Postgres:\n  {}", proof.complaints().join("\n  "))))
}

/// The acts, in order.
async fn play(args: &DemoArgs, display: Display, stage: &mut Stage) -> Result<Proof> {
    let shop = Arc::new(Shop::new(usize::try_from(args.leaves).unwrap_or(usize::MAX)));
    let installation = cluster::find().await?;
    display.say(&format!("Postgres {} from {}", installation.version, installation.bin.display()));
    stage.start_cluster(installation).await?;
    let link = create_tables(stage.cluster()?, &shop, display).await?;

    let daemon = Daemon::configure(stage.cluster()?, stage.home(), &stage.lake())?;
    daemon.setup().await?;
    display.say("setup --apply: role, publication, slot and the first log entry are there");
    stage.set_daemon(daemon);
    stage.start_daemon().await?;

    let mut watch = Watch::default();
    let length = Duration::from_secs(args.seconds);
    let ledger = load_and_kill(stage, &shop, &link, length, display, &mut watch).await?;
    catch_up(stage, &link, &ledger, display, &mut watch).await?;
    let status = stage.stop_daemon().await?;
    display.say(&format!("SIGTERM to the daemon: it ended with {status}"));
    if !status.success() {
        return Err(stage.daemon()?.failed(&format!("the daemon ended with {status} after a SIGTERM")));
    }
    watch.look(&stage.lake())?;

    let proof = proof::prove(stage.cluster()?, &shop, &ledger, &stage.lake(), &watch).await?;
    report(args, display, stage, &shop, &ledger, &proof);
    if args.keep {
        stage.start_daemon().await?;
    }
    Ok(proof)
}

async fn create_tables(cluster: &Cluster, shop: &Shop, display: Display) -> Result<Link> {
    cluster.connect("postgres").await?.execute(&format!("create database {DATABASE}")).await?;
    let link = cluster.connect(DATABASE).await?;
    let total = u64::try_from(shop.leaf_count()).unwrap_or(u64::MAX);
    let mut progress = display.progress(total);
    let mut done = 0;
    for (sql, leaves) in shop.ddl() {
        link.execute(&sql).await?;
        done += u64::try_from(leaves).unwrap_or(0);
        progress
            .update(done, &format!("tables and partitions created: {} of {}", grouped(done), grouped(total)));
    }
    let summary: Vec<String> = shop
        .tables
        .iter()
        .map(|table| match table.is_partitioned() {
            true => {
                format!("{} ({}: {} leaves)", table.qualified(), table.spec.partitioning, table.leaves.len())
            }
            false => format!("{} ({})", table.qualified(), table.spec.partitioning),
        })
        .collect();
    progress.finish(&format!("created {}", summary.join(", ")));
    Ok(link)
}

/// The load, with a `kill -9` of the daemon in its middle.
async fn load_and_kill(
    stage: &mut Stage,
    shop: &Arc<Shop>,
    link: &Link,
    length: Duration,
    display: Display,
    watch: &mut Watch,
) -> Result<Arc<Ledger>> {
    display.say(&format!("Live load for {} s; the daemon is killed in the middle", length.as_secs()));
    let mut load = Load::start(stage.cluster()?, shop, length).await?;
    let mut progress = display.progress(length.as_secs());
    let start = Instant::now();
    let (kill_at, mut act) = (length / 2, Act::BeforeKill);
    while start.elapsed() < length {
        load.check()?;
        match act {
            Act::BeforeKill if start.elapsed() >= kill_at => {
                let pid = stage.kill_daemon().await?;
                progress.note(&format!("  kill -9 of the daemon (process {pid})"));
                act = Act::Down { since: Instant::now() };
            }
            Act::Down { since } if since.elapsed() >= DOWN_TIME => {
                let pid = stage.spawn_daemon().await?;
                progress.note(&format!("  started it again (process {pid})"));
                act = Act::After;
            }
            Act::Down { .. } => {}
            Act::BeforeKill | Act::After => stage.daemon()?.must_run()?,
        }
        show(stage, link, &load.ledger, &mut progress, start, watch).await?;
        sleep(LOOK_EVERY).await;
    }
    if matches!(act, Act::Down { .. }) {
        stage.spawn_daemon().await?;
    }
    let ledger = load.finish().await?;
    let (transactions, rolled_back) =
        (ledger.transactions.load(Ordering::Relaxed), ledger.rolled_back.load(Ordering::Relaxed));
    progress.finish(&format!(
        "load done: {} change rows in {} transactions, {} more rolled back",
        grouped(ledger.total()),
        grouped(transactions),
        grouped(rolled_back)
    ));
    Ok(ledger)
}

#[derive(Clone, Copy, Debug)]
enum Act {
    BeforeKill,
    Down { since: Instant },
    After,
}

/// Waits until the daemon has published everything that was committed.
async fn catch_up(
    stage: &mut Stage,
    link: &Link,
    ledger: &Ledger,
    display: Display,
    watch: &mut Watch,
) -> Result<()> {
    let end: Lsn = link
        .value("select pg_current_wal_insert_lsn()")
        .await?
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::bug("Postgres gives no position"))?;
    let mut progress = display.progress(1);
    let start = Instant::now();
    let mut nudged = start;
    loop {
        stage.daemon()?.must_run()?;
        let published = stage.daemon()?.status().await.and_then(|status| status.positions.published);
        if published.is_some_and(|published| published >= end) {
            break;
        }
        if start.elapsed() > CATCH_UP_LIMIT {
            return Err(stage.daemon()?.failed(&format!("the daemon has not published {end} in time")));
        }
        if nudged.elapsed() >= NUDGE_EVERY {
            // A transaction that changes no row, so that there is one beyond the end of the load.
            link.execute("select pg_logical_emit_message(true, 'demo', 'the load is over')").await?;
            nudged = Instant::now();
        }
        show(stage, link, ledger, &mut progress, start, watch).await?;
        sleep(LOOK_EVERY).await;
    }
    watch.look(&stage.lake())?;
    progress.finish(&format!(
        "everything up to {end} is published, {:.1} s after the load",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Shows one moment: elapsed, rows written, rows in the lake, lag.
async fn show(
    stage: &mut Stage,
    link: &Link,
    ledger: &Ledger,
    progress: &mut Progress,
    start: Instant,
    watch: &mut Watch,
) -> Result<()> {
    watch.look(&stage.lake())?;
    let unconfirmed = format!(
        "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn)::bigint \
         from pg_replication_slots where slot_name = '{SLOT}'"
    );
    let behind = link.value(&unconfirmed).await?.and_then(|text| text.parse().ok()).unwrap_or(0);
    let lag = match stage.daemon()?.status().await {
        Some(status) => status.lag.seconds.map_or_else(String::new, |seconds| format!("{seconds:.1} s, ")),
        None => "daemon down, ".to_owned(),
    };
    let seconds = start.elapsed().as_secs();
    progress.update(
        seconds,
        &format!(
            "{seconds:>3} s  rows written {:>7}  in the lake {:>7}  lag {lag}{}",
            grouped(ledger.total()),
            grouped(watch.rows()),
            display::bytes(behind)
        ),
    );
    Ok(())
}

fn report(args: &DemoArgs, display: Display, stage: &Stage, shop: &Shop, ledger: &Ledger, proof: &Proof) {
    let lake = stage.lake();
    let key_changes = ledger.key_changes.load(Ordering::Relaxed);
    let moves = ledger.moves.load(Ordering::Relaxed);
    display.say(
        "\nThe proof: every *.parquet under the lake, read by itself (no log, no status), against Postgres\n",
    );
    display.say(&display::proof_table(proof));
    display.say(&display::summary(proof));
    display.say(&format!(
        "  {key_changes} keys changed and {moves} rows moved to another leaf: a D and an I each"
    ));
    let verdict =
        if proof.is_equal() { "EQUAL: nothing is missing, nothing is double." } else { "NOT EQUAL." };
    display.say(&format!("\n  {verdict}\n\n{}", display::tree(&lake)));
    if let Some(orders) = shop.tables.first() {
        let removed = if args.keep { "" } else { " (with --keep, the files stay)" };
        display.say(&format!("One query to try, in DuckDB{removed}:\n\n{}\n", display::query(&lake, orders)));
    }
    display.document(&serde_json::json!({
        "equal": proof.is_equal(),
        "proof": proof,
        "complaints": proof.complaints(),
        "key_changes": key_changes,
        "moves": moves,
        "directory": stage.home(),
        "lake": lake,
    }));
}

/// How long the daemon stays down after its `kill -9`.
const DOWN_TIME: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const NUDGE_EVERY: Duration = Duration::from_secs(2);
const CATCH_UP_LIMIT: Duration = Duration::from_secs(180);
