//! Runs a command beside real Postgres servers, for tests that share them:
//!
//! ```text
//! servers cargo test -p tributary --test session
//! ```
//!
//! `TRIBUTARY_TEST_PG` and `TRIBUTARY_TEST_PG_DOWN`, servers that may be shut down, name them: `15=5432,18=5433`. They end with the command, whose
//! exit code is this program's.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use testkit::wait::seconds;
use testkit::{Cluster, Stage, scenario};
use tokio::process::Command;

fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context("usage: servers COMMAND [ARGUMENT…]")?;
    let arguments: Vec<OsString> = words.collect();
    let mut code = 1;
    scenario(seconds(3600), async |stage| {
        let shared = start(stage, &[14, 15, 16, 17, 18]).await?;
        let to_shut_down = start(stage, &[14, 18]).await?;
        let status = Command::new(&program)
            .args(&arguments)
            .env("TRIBUTARY_TEST_PG", ports(&shared))
            .env("TRIBUTARY_TEST_PG_DOWN", ports(&to_shut_down))
            .kill_on_drop(true)
            .status()
            .await
            .with_context(|| format!("{} cannot be run", program.display()))?;
        code = status.code().unwrap_or(1);
        Ok(())
    })?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

async fn start(stage: &Stage, versions: &[u32]) -> Result<Vec<Cluster>> {
    let mut clusters = Vec::new();
    for version in versions {
        clusters.push(
            Cluster::start(stage, *version, &["max_replication_slots = 40", "max_wal_senders = 40"]).await?,
        );
    }
    Ok(clusters)
}

fn ports(clusters: &[Cluster]) -> String {
    let ports: Vec<String> =
        clusters.iter().map(|cluster| format!("{}={}", cluster.version, cluster.port)).collect();
    ports.join(",")
}
