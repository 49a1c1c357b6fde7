//! Text and binary cells give the same lake.
//!
//! Owns: two pipelines on one source, one for each format.
//! Does not: compare types one by one; unit tests do.
//! Holds: rows are a pure function of the log, so two lakes of one publication are the same, row by row.
//! Fails: with the rows that only one of them has.

use anyhow::{Result, ensure};
use testkit::wait::seconds;
use testkit::workload::{Load, Workload};
use testkit::{oracle, scenario, workload};

use crate::rig;

#[test]
fn text_and_binary_are_the_same() -> Result<()> {
    scenario(seconds(180), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        // Types without a binary form of ours would turn the binary pipeline into a text one.
        let tables: Vec<&str> = workload::TABLES.into_iter().filter(|table| *table != "oddities").collect();
        cluster.execute(&format!("create publication plain for table {}", tables.join(", "))).await?;
        let text = rig::pipeline(stage, &cluster, rig::directory(stage), |settings| {
            settings.publication = "plain".to_owned();
            settings.format = "text";
            // When somebody looks, and so what is read of a partition that appears, is not the same twice.
            settings.on_attach = "ignore";
        });
        let text = text.await?;
        let binary = text.variant(stage, "binary", |settings| {
            settings.slot = "binary".to_owned();
            settings.format = "binary";
            settings.lake = testkit::daemon::Lake::Directory(stage.path("lake-binary"));
        })?;
        // The text slot sees a little more: what happens between the two.
        binary.setup().await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        workload.during_seconds(12).await?;
        workload.finish().await?;
        for pipeline in [&text, &binary] {
            rig::finish(stage, &cluster, pipeline, &["--exclude", "public.oddities"]).await?;
            pipeline.refuse_unexpected_lines(&[])?;
        }
        let outcome = oracle::script(stage, "same.py", &[&text.lake_url(), &binary.lake_url()]).await?;
        stage.say(outcome.text().trim());
        ensure!(outcome.code == 0, "the lakes differ");
        Ok(())
    })
}
