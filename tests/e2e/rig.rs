//! What most tests begin and end with.
//!
//! Owns: a cluster with the workload's tables, a lake, a pipeline that is set up, and the final comparison.
//! Does not: load or break anything.
//! Holds: a lake that is compared was first brought up to date by `run --until now`, and `fsck --deep` found no damage.
//! Fails: with the outcome of the command concerned.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use testkit::daemon::{Lake, Settings};
use testkit::s3::Server;
use testkit::wait::seconds;
use testkit::{Cluster, Pipeline, Proxy, Stage, oracle, workload};

/// The kind of a lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    S3,
}

/// A lake with what belongs to it.
pub(crate) struct LakeRig {
    pub(crate) lake: Lake,
    pub(crate) server: Option<Server>,
    pub(crate) proxy: Option<Proxy>,
}

impl LakeRig {
    pub(crate) async fn new(stage: &Stage, kind: Kind) -> Result<LakeRig> {
        match kind {
            Kind::Directory => Ok(LakeRig { lake: directory(stage), server: None, proxy: None }),
            Kind::S3 => {
                let server = Server::ministack(stage).await?;
                let proxy = Proxy::start(server.port)?;
                let lake = Lake::S3 {
                    server: server.port,
                    daemon: proxy.port,
                    prefix: "some/prefix".to_owned(),
                    checksums: "always",
                };
                Ok(LakeRig { lake, server: Some(server), proxy: Some(proxy) })
            }
        }
    }
}

pub(crate) fn directory(stage: &Stage) -> Lake {
    Lake::Directory(stage.path("lake"))
}

/// A server with the workload's tables and its publication.
pub(crate) async fn cluster(
    stage: &Stage,
    version: u32,
    via_root: bool,
    settings: &[&str],
) -> Result<Cluster> {
    let cluster = Cluster::start(stage, version, settings).await?;
    workload::create(&cluster, via_root).await?;
    Ok(cluster)
}

/// A pipeline that is set up.
pub(crate) async fn pipeline(
    stage: &Stage,
    cluster: &Cluster,
    lake: Lake,
    change: impl FnOnce(&mut Settings),
) -> Result<Pipeline> {
    let mut settings = Settings::new(cluster.url(testkit::postgres::DATABASE), lake);
    change(&mut settings);
    let pipeline = Pipeline::new(stage, "pipeline", settings)?;
    pipeline.setup().await?;
    Ok(pipeline)
}

/// Brings the lake up to date and compares it with the source.
pub(crate) async fn finish(
    stage: &Stage,
    cluster: &Cluster,
    pipeline: &Pipeline,
    options: &[&str],
) -> Result<()> {
    pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.success()?;
    // Whatever happened to it: a lake that daemons wrote is whole.
    pipeline.run_within(&["fsck", "--deep"], seconds(120)).await?.success()?;
    compare(stage, cluster, pipeline, options).await
}

/// Compares the lake with the source as it is.
pub(crate) async fn compare(
    stage: &Stage,
    cluster: &Cluster,
    pipeline: &Pipeline,
    options: &[&str],
) -> Result<()> {
    let mut all = vec!["--exclude", workload::UNPUBLISHED];
    all.extend(options);
    stage.say(oracle::verify(stage, cluster, pipeline, &all).await?);
    Ok(())
}

/// Some rows in some tables.
pub(crate) async fn some_rows(cluster: &Cluster, first: u64) -> Result<()> {
    cluster
        .execute(&format!(
            "insert into orders (id, bucket, customer, doc) select g, g % 6, 'c' || g, repeat('x', 3000) from generate_series({first}, {first} + 99) g;
             update orders set note = 'n' where id = {first};
             delete from orders where id = {first} + 1;
             insert into ledger values (1, 'e', {first}, null);
             insert into events (id, kind, body) values ({first}, 'click', 'b');"
        ))
        .await
}

/// Where chance begins; printed, and repeated with `TRIBUTARY_SEED`.
#[expect(clippy::disallowed_methods, reason = "a seed should differ from run to run")]
pub(crate) fn seed(stage: &Stage) -> Result<u64> {
    let seed = match std::env::var("TRIBUTARY_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
    };
    stage.say(format!("TRIBUTARY_SEED={seed}"));
    Ok(seed)
}
