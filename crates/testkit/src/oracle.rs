//! The independent oracle: `tests/oracle/verify.py`.
//!
//! Owns: its command line.
//! Does not: read Parquet; a reader that is not ours does.
//! Holds: the source must not change while it looks.
//! Fails: with the differences that it found.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::daemon::{Lake, Pipeline};
use crate::place;
use crate::postgres::Cluster;
use crate::process::{self, Outcome, User, command};
use crate::s3::{ACCESS_KEY, SECRET_KEY, endpoint};
use crate::stage::Stage;
use crate::wait::seconds;

/// Compares a pipeline's lake with its source; returns what it says of an equal one.
pub async fn verify(
    stage: &Stage,
    cluster: &Cluster,
    pipeline: &Pipeline,
    options: &[&str],
) -> Result<String> {
    let mut python = command(place::python("python")?, User::Own);
    python.arg(place::repository()?.join("tests/oracle/verify.py"));
    python.args(["--dsn", &cluster.dsn(), "--lake", &pipeline.lake_url()]).args(options);
    python.env("TMPDIR", stage.folder());
    if let Lake::S3 { server, .. } = &pipeline.settings.lake {
        python.args([
            "--endpoint",
            &endpoint(*server),
            "--access-key",
            ACCESS_KEY,
            "--secret-key",
            SECRET_KEY,
        ]);
    }
    let outcome = process::run("verify", python, &pipeline.folder, seconds(240)).await?;
    ensure!(outcome.code == 0, "the lake at {} is not the source:\n{}", pipeline.lake_url(), outcome.text());
    Ok(outcome.stdout.trim().to_owned())
}

/// Runs a script of `tests/oracle`.
pub async fn script(stage: &Stage, name: &str, arguments: &[&str]) -> Result<Outcome> {
    run_script(stage, place::python("python")?, name, arguments, seconds(240)).await
}

/// Runs one that needs an engine of `scripts/requirements-engines.txt`.
pub async fn script_of_engines(stage: &Stage, name: &str, arguments: &[&str]) -> Result<Outcome> {
    run_script(stage, place::python_of_engines()?, name, arguments, seconds(600)).await
}

async fn run_script(
    stage: &Stage,
    python: PathBuf,
    name: &str,
    arguments: &[&str],
    limit: Duration,
) -> Result<Outcome> {
    let mut python = command(python, User::Own);
    python.arg(place::repository()?.join("tests/oracle").join(name)).args(arguments);
    python.env("TMPDIR", stage.folder());
    process::run(name, python, stage.folder(), limit).await.with_context(|| name.to_owned())
}

/// Lets another engine, `spark` or `iceberg`, read a lake in a folder; returns what is said of one that it reads exactly.
pub async fn engine(stage: &Stage, engine: &str, lake: &str) -> Result<String> {
    let mut python = command(place::python_of_engines()?, User::Own);
    python.arg(place::repository()?.join("tests/oracle/engines.py")).args([engine, lake]);
    python.env("TMPDIR", stage.folder());
    let outcome = process::run(engine, python, stage.folder(), seconds(600)).await?;
    ensure!(outcome.code == 0, "{engine} does not read {lake} as PyArrow does:\n{}", outcome.text());
    Ok(outcome.stdout.trim().to_owned())
}
