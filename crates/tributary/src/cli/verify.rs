//! `tributary verify`: proves that the lake equals its source.
//!
//! Owns: the arguments, the progress on a terminal, how the answer is said, and the file of metrics.
//! Does not: compare; `verify` does.
//! Holds: keys and names of columns of what differs are shown, at most `--keys` a table; no other value of a row is, and none is logged or in a metric.
//! Fails: when the proof cannot be made. A difference is an answer, with exit code 1; so is that nothing could be compared, or not a table that was named.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pgoutput::Lsn;
use serde_json::{Value, json};

use super::{Answer, text};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline;
use crate::verify::{self, Difference, Progress, Report, Request, RowDifference, RowFault, Verdict};

/// Arguments of `verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Tables as schema.table, partitioned ones by their root; `*` and `?` are wild. All published tables, if there are none
    #[arg(value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Compare at this position or a later one: wait until the server has come to it. A standby that stopped there is compared there
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub at: Option<Lsn>,
    /// How long the lake may take to come to the point
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub wait: u64,
    /// Read no more bytes a second than this, of the source and of the lake each: `50MiB`; `snapshot.max_rate`, if it is not given
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_rate: Option<u64>,
    /// How many rows that differ are shown of a table, by their keys; 0 shows none
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub keys: usize,
    /// Also write what came out as metrics, for the textfile collector of Prometheus
    #[arg(long, value_name = "PATH")]
    pub metrics_file: Option<PathBuf>,
}

pub(super) async fn run(args: &VerifyArgs, config: &Config, bars: Option<MultiProgress>) -> Result<Answer> {
    let store = pipeline::open_store(config).await?;
    let configured = Some(config.snapshot.max_rate.as_u64()).filter(|rate| *rate > 0);
    let request = Request {
        tables: args.tables.clone(),
        at: args.at,
        wait: Duration::from_secs(args.wait),
        max_rate: args.max_rate.or(configured),
        keys: args.keys,
    };
    let progress = Progress::new(&request);
    let proof = Box::pin(verify::verify(config, &store, &request, &progress));
    let report = match bars {
        None => proof.await?,
        Some(bars) => tokio::select! {
            report = proof => report?,
            () = follow(&bars, &progress) => return Err(Error::bug("the progress of a proof ended before it")),
        },
    };
    if let Some(path) = &args.metrics_file {
        write_metrics(path, &metrics(&report))?;
    }
    let code = u8::from(!is_proved(&report, &args.tables));
    Ok(Answer { text: render(&report), document: document(&report, &args.tables), code })
}

/// Whether something was compared, nothing differs, and whatever was named was compared.
fn is_proved(report: &Report, named: &[String]) -> bool {
    let is_equal = |table: &verify::TableReport| matches!(table.verdict, Verdict::Equal { .. });
    report.tables.iter().any(is_equal)
        && report.tables.iter().all(|table| match &table.verdict {
            Verdict::Equal { .. } => true,
            Verdict::Different(_) => false,
            Verdict::Skipped { .. } => !named.contains(&table.table),
        })
}

fn render(report: &Report) -> String {
    let mut out = String::new();
    let (mut rows, mut counts) = (0_i64, [0_usize; 3]);
    let [equal, different, skipped] = &mut counts;
    for table in &report.tables {
        match &table.verdict {
            Verdict::Equal { rows: of_table } => {
                *equal += 1;
                rows += of_table;
                out.push_str(&format!("equal      {}  {} rows\n", table.table, count(*of_table)));
            }
            Verdict::Different(difference) => {
                *different += 1;
                out.push_str(&format!("DIFFERENT  {}\n", table.table));
                render_difference(difference, &mut out);
            }
            Verdict::Skipped { reason } => {
                *skipped += 1;
                out.push_str(&format!("skipped    {}  {reason}\n", table.table));
            }
        }
        for note in &table.notes {
            out.push_str(&format!("           note: {note}\n"));
        }
    }
    out.push_str(&format!(
        "\nat {}: {equal} tables with {} rows are equal, {different} differ, {skipped} were not compared\n",
        report.lsn,
        count(rows)
    ));
    out
}

fn render_difference(difference: &Difference, out: &mut String) {
    let (source, lake) = (count(difference.source_rows), count(difference.lake_rows));
    out.push_str(&match difference.buckets {
        0 => format!("           {source} rows at the source, {lake} in the lake; the rows that can be read do not differ\n"),
        buckets => format!(
            "           {source} rows at the source, {lake} in the lake; {buckets} of {} buckets differ\n",
            difference.of_buckets
        ),
    });
    for (file, why) in &difference.files {
        out.push_str(&format!("           file {file}: {why}\n"));
    }
    for row in &difference.rows {
        out.push_str(&format!("           {}\n", said(row)));
    }
    if difference.has_more {
        out.push_str("           and more\n");
    }
    out.push_str("           `tributary fsck --deep` tells which files were damaged or do not belong there; `tributary resync` heals the current state\n");
}

fn said(row: &RowDifference) -> String {
    let key: Vec<String> = row.key.iter().map(|(column, value)| format!("{column} = {value}")).collect();
    let key = if key.is_empty() { "a row".to_owned() } else { key.join(", ") };
    match row.what {
        RowFault::Missing => format!("{key}: only at the source"),
        RowFault::Extra => format!("{key}: only in the lake"),
        RowFault::Values => format!("{key}: differs in {}", row.columns.join(", ")),
    }
}

fn document(report: &Report, named: &[String]) -> Value {
    let of = |is: fn(&Verdict) -> bool| report.tables.iter().filter(|table| is(&table.verdict)).count();
    json!({
        "lsn": report.lsn,
        "time": report.time,
        "proved": is_proved(report, named),
        "equal": of(|verdict| matches!(verdict, Verdict::Equal { .. })),
        "different": of(|verdict| matches!(verdict, Verdict::Different(_))),
        "skipped": of(|verdict| matches!(verdict, Verdict::Skipped { .. })),
        "tables": report.tables,
    })
}

/// In the text format of Prometheus.
fn metrics(report: &Report) -> String {
    let (mut equal, mut different, mut skipped, mut rows) = (0, 0, 0, 0);
    for table in &report.tables {
        match &table.verdict {
            Verdict::Equal { rows: of_table } => (equal, rows) = (equal + 1, rows + of_table),
            Verdict::Different(_) => different += 1,
            Verdict::Skipped { .. } => skipped += 1,
        }
    }
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, lines: &[(&str, i64)]| {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        lines.iter().for_each(|(labels, value)| out.push_str(&format!("{name}{labels} {value}\n")));
    };
    gauge(
        "tributary_verify_tables",
        "Tables of the last proof, by what came out.",
        &[
            ("{verdict=\"equal\"}", equal),
            ("{verdict=\"different\"}", different),
            ("{verdict=\"skipped\"}", skipped),
        ],
    );
    gauge("tributary_verify_rows", "Rows of the tables that were equal.", &[("", rows)]);
    gauge(
        "tributary_verify_point_seconds",
        "When the point of the last proof was taken, since 1970.",
        &[("", report.time)],
    );
    let lsn = i64::try_from(report.lsn.0).unwrap_or(i64::MAX);
    gauge("tributary_verify_lsn_bytes", "The position of that point.", &[("", lsn)]);
    out
}

/// Whoever reads the file sees the old one or the new one.
fn write_metrics(path: &Path, metrics: &str) -> Result<()> {
    let beside = path.with_extension("prom.new");
    let written = std::fs::write(&beside, metrics).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| Error::definite(format!("metrics file {}", path.display())).caused_by(error))
}

/// Draws how far it is; ends only with the proof.
async fn follow(bars: &MultiProgress, progress: &Progress) {
    let bar = bars.add(ProgressBar::new(1_000));
    if let Ok(style) = ProgressStyle::with_template("  {prefix:30}  {bar:16.cyan/blue}  {wide_msg}") {
        bar.set_style(style);
    }
    let _cleared = Cleared(&bar);
    loop {
        let (source, lake) = (progress.source.progress(), progress.lake.progress());
        let (moved, total) = (source.0.saturating_add(lake.0), source.1.saturating_add(lake.1));
        bar.set_position(moved.saturating_mul(1_000) / total.max(1));
        bar.set_prefix(progress.doing());
        bar.set_message(format!(
            "{} of the source, {} of the lake",
            text::bytes(source.0),
            text::bytes(lake.0)
        ));
        tokio::time::sleep(DRAW_EVERY).await;
    }
}

/// What comes next stands where the bar was.
struct Cleared<'a>(&'a ProgressBar);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn count(number: i64) -> String {
    match u64::try_from(number) {
        Ok(number) => text::grouped(number),
        Err(_) => number.to_string(),
    }
}

fn parse_lsn(text: &str) -> Result<Lsn, String> {
    Lsn::from_str(text).map_err(|error| error.to_string())
}

fn parse_size(text: &str) -> Result<u64, String> {
    let size: crate::config::ByteSize =
        serde_json::from_value(Value::String(text.to_owned())).map_err(|error| error.to_string())?;
    match size.as_u64() {
        0 => Err("it would never end".to_owned()),
        size => Ok(size),
    }
}

const DRAW_EVERY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
