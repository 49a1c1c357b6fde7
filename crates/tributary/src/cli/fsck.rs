//! `tributary fsck`: checks the lake by itself, without Postgres.
//!
//! Owns: how findings are said, with the commands that mend them, and the exit code.
//! Does not: look at anything; `lake::fsck` does.
//! Holds: nothing is changed without `--repair`; no data file is deleted with it, either.
//! Fails: when there is no log, or as the store does. Damage is an answer, with exit code 1.

use lake::fsck::{self, Finding, Mend, Options, Report, Severity};
use serde_json::{Value, json};

use super::{Answer, text};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline;

/// Arguments of `fsck`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FsckArgs {
    /// Mend what can be mended without losing anything: uploads that nobody needs or completed, the watermark, schema documents
    #[arg(long)]
    pub repair: bool,
    /// Read every data file, too: checksum, Parquet footer, and whether the log says of it what it holds
    #[arg(long)]
    pub deep: bool,
    /// The log begins with this entry: those before it were removed on purpose, which is no damage behind a checkpoint
    #[arg(long, value_name = "ENTRY", default_value_t = 0, hide_default_value = true)]
    pub log_from: u64,
}

pub(super) async fn run(args: &FsckArgs, config: &Config) -> Result<Answer> {
    let store = pipeline::open_store(config).await?;
    let options = Options { deep: args.deep, repair: args.repair, log_from: args.log_from };
    let url = store.url();
    let Some(report) = fsck::check(store.as_ref(), options).await? else {
        return Err(
            Error::definite(format!("the lake at {url} has no log")).hint("is `lake.url` the right one?")
        );
    };
    let place = Place { url: url.trim_end_matches('/'), endpoint: config.lake.s3.endpoint.as_deref() };
    let code = u8::from(report.damage > 0);
    Ok(Answer { text: render(&report, &place), document: document(&report, &place, options), code })
}

/// Where the objects are, for commands that name one.
struct Place<'a> {
    url: &'a str,
    endpoint: Option<&'a str>,
}

impl Place<'_> {
    /// The shell command that deletes an object.
    fn delete(&self, key: &str) -> String {
        match self.url.strip_prefix("file://") {
            Some(folder) => format!("rm {}", quoted(&format!("{folder}/{key}"))),
            None => {
                let endpoint =
                    self.endpoint.map_or_else(String::new, |url| format!(" --endpoint-url {}", quoted(url)));
                format!("aws s3 rm{endpoint} {}", quoted(&format!("{}/{key}", self.url)))
            }
        }
    }
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn mend(finding: &Finding, place: &Place<'_>) -> Option<String> {
    match &finding.mend {
        Mend::Nothing => None,
        Mend::Repair => Some("tributary fsck --repair".to_owned()),
        Mend::Delete => Some(place.delete(&finding.key)),
        Mend::Resync { table } => Some(format!(
            "tributary resync {}   (heals the current state; changes that only this file had are lost)",
            quoted(table)
        )),
        Mend::Replace { table } => Some(format!(
            "tributary resync {}   (heals the current state), then, so that no reader stumbles over it: {}",
            quoted(table),
            place.delete(&finding.key)
        )),
        Mend::Say(words) => Some((*words).to_owned()),
    }
}

fn render(report: &Report, place: &Place<'_>) -> String {
    let mut out = String::new();
    for finding in &report.findings {
        let label = finding.severity.label();
        out.push_str(&format!("{label:<8} {}\n         {}\n", finding.key, finding.what));
        match mend(finding, place) {
            _ if finding.repaired => out.push_str("         repaired\n"),
            Some(mend) => out.push_str(&format!("         mend: {mend}\n")),
            None => {}
        }
    }
    for (fault, count) in &report.left_out {
        out.push_str(&format!(
            "         and {} more of {}\n",
            text::grouped(*count),
            json!(fault).as_str().unwrap_or_default()
        ));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&format!(
        "{}: {} log entries up to {}, {} files of {}",
        place.url,
        text::grouped(report.entries),
        report.last_entry,
        text::grouped(report.files),
        text::bytes(report.bytes)
    ));
    if report.files_read > 0 {
        out.push_str(&format!(", {} of them read", text::grouped(report.files_read)));
    }
    out.push_str(&match report.damage {
        0 => "; no damage\n".to_owned(),
        damage => format!("; {} damaged\n", text::grouped(damage)),
    });
    out
}

fn document(report: &Report, place: &Place<'_>, options: Options) -> Value {
    let warnings = report.findings.iter().filter(|finding| finding.severity == Severity::Warning);
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "severity": finding.severity, "fault": finding.fault, "key": finding.key, "what": finding.what,
                "mend": mend(finding, place), "repaired": finding.repaired,
            })
        })
        .collect();
    json!({
        "lake": place.url, "clean": report.damage == 0, "damage": report.damage, "warnings": warnings.count(),
        "deep": options.deep, "repair": options.repair,
        "entries": report.entries, "last_entry": report.last_entry,
        "files": report.files, "bytes": report.bytes, "files_read": report.files_read,
        "findings": findings, "left_out": report.left_out,
    })
}

#[cfg(test)]
mod tests {
    use lake::store::Store;

    use super::*;

    #[test]
    fn a_command_names_the_object_as_a_shell_takes_it() {
        let folder = Place { url: "file:///data/it's", endpoint: None };
        assert_eq!(folder.delete("public/t/data/x.parquet"), r"rm '/data/it'\''s/public/t/data/x.parquet'");
        let bucket = Place { url: "s3://bucket/shop", endpoint: None };
        assert_eq!(
            bucket.delete("public/t/data/a=%20/x.parquet"),
            "aws s3 rm 's3://bucket/shop/public/t/data/a=%20/x.parquet'"
        );
        let other = Place { endpoint: Some("http://minio:9000"), ..bucket };
        assert_eq!(other.delete("x"), "aws s3 rm --endpoint-url 'http://minio:9000' 's3://bucket/shop/x'");
    }

    #[tokio::test]
    async fn what_is_found_is_said_with_what_mends_it() {
        let store = lake::store::memory::MemoryStore::new();
        assert!(fsck::check(&store, Options::default()).await.unwrap().is_none());
        let entry = json!({
            "format": 1, "seq": 1, "nonce": "n", "epoch": 1, "owner": "o", "kind": "open", "system_id": "7", "timeline": 1,
            "slot": "s", "from_lsn": "0/1", "to_lsn": "0/1",
        });
        let identity = json!({"system_id": "7", "slot": "s"});
        store.put(&lake::layout::log_key(1), entry.to_string().into()).await.unwrap();
        store.put(lake::layout::LAKE, identity.to_string().into()).await.unwrap();
        let place = Place { url: "s3://b/p", endpoint: None };
        let clean = fsck::check(&store, Options::default()).await.unwrap().unwrap();
        assert_eq!(render(&clean, &place), "s3://b/p: 1 log entries up to 1, 0 files of 0 B; no damage\n");
        store.put("public/t/data/x.parquet", "12345".into()).await.unwrap();
        let damaged = fsck::check(&store, Options::default()).await.unwrap().unwrap();
        assert_eq!(
            render(&damaged, &place),
            "damage   public/t/data/x.parquet\n         \
             is named by no log entry: whoever reads all files counts its rows twice, or rows that never were (5 bytes)\n         \
             mend: aws s3 rm 's3://b/p/public/t/data/x.parquet'\n\n\
             s3://b/p: 1 log entries up to 1, 0 files of 0 B; 1 damaged\n"
        );
        let document = document(&damaged, &place, Options::default());
        assert_eq!((&document["clean"], &document["damage"]), (&json!(false), &json!(1)));
        assert_eq!(document["findings"][0]["fault"], "unlogged");
        assert_eq!(document["findings"][0]["mend"], "aws s3 rm 's3://b/p/public/t/data/x.parquet'");
    }
}
