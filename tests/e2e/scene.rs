//! A source that a script makes and changes, and the lakes that a journal of these changes is compared with.
//!
//! Owns: a database, a pipeline for each publication, two rounds of changes with a kill in between.
//! Does not: know tables; the script has them, and notes what Postgres prints for each cell that it changes.
//! Holds: a lake has exactly the changes that were made, in their order, cell by cell.
//! Fails: with the rows and cells that differ.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::daemon::{Lake, NO_IDENTITY, Settings};
use testkit::wait::{pause, seconds};
use testkit::{Cluster, Pipeline, oracle, scenario};

/// What the log may say, beside nothing.
const LEAVES_DIFFER: &str = "a leaf has another replica identity than its root";

/// How a script is played.
#[derive(Clone, Copy, Default)]
struct Play<'a> {
    /// The lakes have `_cdc_before`.
    before: bool,
    /// The daemon halts and says these words.
    halts_with: Option<&'a str>,
}

/// Plays a script of `tests/oracle` into one lake for each of its publications.
pub(crate) fn play(version: u32, script: &str, publications: &[&str], format: &'static str) -> Result<()> {
    play_until(version, script, publications, format, Play::default())
}

/// The same with the old rows beside the new ones.
pub(crate) fn play_with_before(
    version: u32,
    script: &str,
    publications: &[&str],
    format: &'static str,
) -> Result<()> {
    play_until(version, script, publications, format, Play { before: true, halts_with: None })
}

/// Plays a script whose changes no lake can hold: the daemon halts, and says these words.
pub(crate) fn play_and_halt(version: u32, script: &str, publication: &str, words: &str) -> Result<()> {
    play_until(version, script, &[publication], "text", Play { before: false, halts_with: Some(words) })
}

fn play_until(
    version: u32,
    script: &str,
    publications: &[&str],
    format: &'static str,
    Play { before, halts_with }: Play<'_>,
) -> Result<()> {
    scenario(seconds(240), async |stage| {
        let cluster = Cluster::start(stage, version, &[]).await?;
        let dsn = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", cluster.port);
        let journal = stage.path("journal").display().to_string();
        let run = async |arguments: &[&str]| -> Result<()> {
            let fixed = ["--dsn", &dsn, "--journal", &journal];
            let outcome = oracle::script(stage, script, &[arguments, &fixed].concat()).await?;
            stage.say(outcome.text().trim());
            ensure!(outcome.code == 0, "{script} {arguments:?} fails");
            Ok(())
        };
        run(&["create"]).await?;
        let mut pipelines = Vec::new();
        for publication in publications {
            let lake = Lake::Directory(stage.path(&format!("lake-{publication}")));
            let mut settings = Settings::new(cluster.url("postgres"), lake);
            (*publication).clone_into(&mut settings.publication);
            (*publication).clone_into(&mut settings.slot);
            settings.format = format;
            settings.before = if before { vec!["*.*".to_owned()] } else { Vec::new() };
            // What is made while nobody looks is read as well; the journal has changes only.
            settings.on_attach = "ignore";
            let pipeline = Pipeline::new(stage, publication, settings)?;
            // Some tables have no identity, and only ever get inserts: then this is no success, and goes on.
            pipeline.run(&["setup", "--apply"]).await?;
            pipelines.push(pipeline);
        }
        let mut daemons = Vec::new();
        for pipeline in &pipelines {
            daemons.push(pipeline.start()?);
        }
        run(&["change", "--round", "1"]).await?;
        pause(Duration::from_millis(300)).await;
        for daemon in &mut daemons {
            daemon.kill()?;
        }
        run(&["change", "--round", "2"]).await?;
        if let Some(words) = halts_with {
            for pipeline in &pipelines {
                let outcome =
                    pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.expect(4)?;
                ensure!(outcome.text().contains(words), "no {words:?} in: {}", outcome.text());
            }
            return Ok(());
        }
        let mut check = vec!["check".to_owned()];
        for pipeline in &pipelines {
            pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.success()?;
            pipeline.refuse_unexpected_lines(&[LEAVES_DIFFER, NO_IDENTITY, CHANGED_KEY])?;
            check.extend([
                "--lake".to_owned(),
                format!("{}={}", pipeline.settings.publication, pipeline.lake_url()),
            ]);
        }
        check.extend(before.then(|| "--before".to_owned()));
        let check: Vec<&str> = check.iter().map(String::as_str).collect();
        run(&check).await
    })
}

/// Of tables that are called so their key changes, which is warned of.
const CHANGED_KEY: &str = "_changed\",\"column\"";
