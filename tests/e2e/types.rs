//! Every type of Postgres and the values at its edges arrive exactly, in both formats.
//!
//! Owns: databases full of types on every version and in several encodings, two or three pipelines over the same log, one kill.
//! Does not: compare; `tests/oracle/matrix.py` knows what Postgres prints for every cell.
//! Holds: text and binary pipelines have the same rows, column by column, and the same old rows beside them; what the database says of output changes nothing (T87).
//! Fails: with the cells that are neither exact nor in `_cdc_raw`.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::daemon::{Lake, Settings};
use testkit::wait::{pause, seconds};
use testkit::{Cluster, Pipeline, Stage, oracle, scenario};

#[test]
fn postgres_14_types() -> Result<()> {
    matrix(14, "UTF8", &["text", "binary"])
}

#[test]
fn postgres_15_types() -> Result<()> {
    matrix(15, "UTF8", &["text", "binary"])
}

#[test]
fn postgres_16_types() -> Result<()> {
    matrix(16, "UTF8", &["text", "binary"])
}

#[test]
fn postgres_17_types() -> Result<()> {
    matrix(17, "UTF8", &["text", "binary"])
}

#[test]
fn postgres_18_types() -> Result<()> {
    matrix(18, "UTF8", &["text", "binary"])
}

/// T94
#[test]
fn t94_latin1_types() -> Result<()> {
    matrix(15, "LATIN1", &["text", "auto"])
}

/// T94: Before 15, `"char"` is printed as a byte of its own.
#[test]
fn t94_sql_ascii_types_14() -> Result<()> {
    matrix(14, "SQL_ASCII", &["text", "auto"])
}

/// T94
#[test]
fn t94_sql_ascii_types_18() -> Result<()> {
    matrix(18, "SQL_ASCII", &["text", "auto"])
}

#[test]
fn the_matrix_finds_what_it_must() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let outcome = oracle::script(stage, "matrix_selftest.py", &[]).await?;
        ensure!(outcome.code == 0, "{}", outcome.text());
        Ok(())
    })
}

fn matrix(version: u32, encoding: &str, formats: &[&'static str]) -> Result<()> {
    scenario(seconds(1200), async |stage| {
        let cluster = Cluster::start(stage, version, &[]).await?;
        let locale = if encoding == "UTF8" { "C.UTF-8" } else { "C" };
        let create =
            format!("create database matrix encoding '{encoding}' locale '{locale}' template template0");
        cluster.execute_in("postgres", &create).await?;
        let dsn = format!("host=127.0.0.1 port={} user=postgres dbname=matrix", cluster.port);
        let journal = stage.path("journal").display().to_string();
        let run = async |arguments: &[&str]| -> Result<()> {
            let fixed = ["--dsn", &dsn, "--encoding", encoding, "--journal", &journal];
            let outcome = oracle::script(stage, "matrix.py", &[arguments, &fixed].concat()).await?;
            stage.say(outcome.text().trim());
            ensure!(outcome.code == 0, "matrix.py {arguments:?} fails");
            Ok(())
        };
        run(&["create"]).await?;
        let mut wanted: Vec<(&str, &'static str)> =
            formats.iter().map(|format| ("matrix", *format)).collect();
        // Types that are read as text only turn a whole pipeline into a text one: here are none.
        wanted.push(("core", "binary"));
        // Everything, on request: it takes its time.
        if std::env::var_os("TRIBUTARY_MATRIX").is_some() {
            wanted.extend([("core", "auto"), ("core", "text"), ("matrix", "auto")]);
            // A pipeline each; some are wanted anyway.
            wanted.sort_unstable();
            wanted.dedup();
        }
        let mut pipelines = Vec::new();
        for (publication, format) in wanted {
            let name = format!("{publication}_{format}");
            let lake = Lake::Directory(stage.path(&format!("lake-{name}")));
            let mut settings = Settings::new(cluster.url("matrix"), lake);
            settings.slot.clone_from(&name);
            settings.publication = publication.to_owned();
            settings.format = format;
            settings.before = vec!["*.*".to_owned()];
            // A cell of some MB must fit beside the others.
            settings.budget = "256MiB";
            let pipeline = Pipeline::new(stage, &name, settings)?;
            pipeline.setup().await?;
            pipelines.push(pipeline);
        }
        let mut daemons = Vec::new();
        for pipeline in &pipelines {
            daemons.push(pipeline.start()?);
        }
        run(&["change", "--round", "1"]).await?;
        pause(std::time::Duration::from_millis(300)).await;
        for daemon in &mut daemons {
            daemon.kill()?;
        }
        if encoding == "UTF8" {
            run(&["change", "--round", "2"]).await?;
        }
        let mut check = vec!["check".to_owned()];
        for pipeline in &pipelines {
            pipeline.run_within(&["run", "--until", "now"], seconds(120)).await?.success()?;
            let is_core = pipeline.settings.publication == "core";
            let expected: &[&str] = if is_core { &[] } else { &["a published type is read as text only"] };
            pipeline.refuse_unexpected_lines(expected)?;
            let option = if is_core { "--core" } else { "--lake" };
            check.extend([option.to_owned(), pipeline.lake_url()]);
        }
        let check: Vec<&str> = check.iter().map(String::as_str).collect();
        run(&check).await?;
        // Those of the other formats are equal to it, as was just seen.
        prove(stage, pipelines.first().context("a pipeline")?, encoding).await?;
        // Large, and slow to start: on request.
        if version == 18 && std::env::var_os("TRIBUTARY_ENGINES").is_some() {
            let pipeline = pipelines.first().context("a pipeline")?;
            for engine in ["spark", "iceberg"] {
                stage.say(oracle::engine(stage, engine, &pipeline.lake_url()).await?);
            }
        }
        Ok(())
    })
}

/// What prints values back into Postgres's text by itself agrees as well, but for labels of enums that were renamed behind the rows that have them.
async fn prove(stage: &Stage, pipeline: &Pipeline, encoding: &str) -> Result<()> {
    let daemon = pipeline.start_streaming().await?;
    let outcome = pipeline.run_within(&["verify", "--json", "--wait", "60"], seconds(240)).await?;
    daemon.stop().await?;
    let report: Value = serde_json::from_str(&outcome.stdout).with_context(|| outcome.text())?;
    let of = |verdict: &str| -> Vec<&Value> {
        let tables = report.get("tables").and_then(Value::as_array).into_iter().flatten();
        tables.filter(|table| table.get("verdict").and_then(Value::as_str) == Some(verdict)).collect()
    };
    let renamed: &[&str] = match encoding {
        "UTF8" => {
            &["core_default", "core_full", "core_keyless", "other_default", "other_full", "other_keyless"]
        }
        _ => &[],
    };
    let renamed: Vec<String> = renamed.iter().map(|name| format!("m.t_composed_{name}")).collect();
    let different = of("different");
    let names: Vec<&str> = different.iter().filter_map(|table| table.get("table")?.as_str()).collect();
    ensure!(names == renamed, "{different:#?}");
    for table in &different {
        let rows: Vec<&Value> = table.get("rows").and_then(Value::as_array).into_iter().flatten().collect();
        let columns: Vec<&Value> = rows.iter().filter_map(|row| row.get("columns")).collect();
        let is_one = rows.len() == 1
            && columns.iter().all(|columns| **columns == json!(["c0"]) || **columns == json!(["c2"]));
        // Without a key the old row is one too many, and the new one is missing.
        ensure!(is_one || (rows.len() == 2 && columns.is_empty()), "{table:#}");
    }
    ensure!(of("skipped").is_empty(), "{:#?}", of("skipped"));
    stage.say(format!(
        "{} tables are proved, {} have labels from before",
        of("equal").len(),
        different.len()
    ));
    Ok(())
}
