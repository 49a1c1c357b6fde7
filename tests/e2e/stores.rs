//! Other stores than the everyday one.
//!
//! Owns: a store that ignores conditions, which must be refused, and an older real one, which must do.
//! Does not: test the S3 client; its own tests do.
//! Holds: without conditional creation there is no fencing, and so no daemon.
//! Fails: when the one is accepted or the other is not.

use anyhow::{Result, ensure};
use testkit::daemon::{FAULTS, Lake, Settings};
use testkit::postgres::DATABASE;
use testkit::s3::Server;
use testkit::wait::{pause, seconds};
use testkit::workload::{Load, Workload};
use testkit::{Pipeline, place, scenario};

use crate::rig;

#[test]
fn a_store_that_ignores_conditions_is_refused() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        let server = Server::s3rver(stage).await?;
        let lake = s3(&server, "when_required");
        let mut settings = Settings::new(cluster.url(DATABASE), lake);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            settings.env.push((name.to_owned(), "S3RVER".to_owned()));
        }
        let pipeline = Pipeline::new(stage, "pipeline", settings)?;
        for arguments in [&["setup", "--apply"][..], &["run"]] {
            let outcome = pipeline.run(arguments).await?;
            let text = outcome.text().to_lowercase();
            ensure!(matches!(outcome.code, 1 | 2), "{arguments:?} ends with {}: {text}", outcome.code);
            ensure!(
                text.contains("condition") || text.contains("if-none-match"),
                "{arguments:?} does not say why: {text}"
            );
        }
        let slots = cluster.value("select count(*) from pg_replication_slots").await?;
        ensure!(slots.as_deref() == Some("0"), "a slot was made although the store was refused");
        Ok(())
    })
}

#[test]
fn an_older_real_store_works() -> Result<()> {
    if !place::has_radosgw()? {
        eprintln!("SKIP: Ceph's packages could not be had, so nothing is known about radosgw");
        return Ok(());
    }
    scenario(seconds(300), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 15, false, &["wal_sender_timeout = 5s"]).await?;
        let server = Server::radosgw(stage).await?;
        let pipeline = rig::pipeline(stage, &cluster, s3(&server, "when_required"), |_| {}).await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        workload
            .during(async {
                for _ in 0..4 {
                    let mut daemon = pipeline.start()?;
                    pause(seconds(4)).await;
                    daemon.kill()?;
                }
                Ok(())
            })
            .await?;
        workload.finish().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(FAULTS)
    })
}

fn s3(server: &Server, checksums: &'static str) -> Lake {
    Lake::S3 { server: server.port, daemon: server.port, prefix: "p".to_owned(), checksums }
}
