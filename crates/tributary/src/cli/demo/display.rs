//! What the demo shows.
//!
//! Owns: progress on a terminal and elsewhere, the table of the proof, and the tree of files.
//! Does not: decide anything.
//! Holds: with `--json`, standard output holds one document and nothing else.
//! Fails: never; a terminal that is gone is no reason to stop.

use std::fmt::Write as _;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::proof::{Proof, TableProof};
use super::shop::Table;

/// Where words go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Display {
    json: bool,
}

impl Display {
    pub(super) fn new(json: bool) -> Display {
        Display { json }
    }

    /// A line, or several, for people.
    pub(super) fn say(self, text: &str) {
        let _ = if self.json {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }

    /// The document for machines, if it was asked for.
    pub(super) fn document(self, document: &serde_json::Value) {
        if self.json {
            let _ = writeln!(std::io::stdout(), "{document:#}");
        }
    }

    /// Progress of something that is done when it reaches `length`.
    pub(super) fn progress(self, length: u64) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress::Lines { display: self, last: None };
        }
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template("  {bar:10.cyan/blue}  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress::Bar { display: self, bar }
    }
}

/// A bar on a terminal, a line every few seconds elsewhere.
pub(super) enum Progress {
    Bar { display: Display, bar: ProgressBar },
    Lines { display: Display, last: Option<Instant> },
}

impl Progress {
    /// How far it is, and what there is to say.
    pub(super) fn update(&mut self, position: u64, message: &str) {
        match self {
            Progress::Bar { bar, .. } => {
                bar.set_position(position);
                bar.set_message(message.to_owned());
            }
            Progress::Lines { display, last } => {
                if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                    *last = Some(Instant::now());
                    display.say(&format!("  {message}"));
                }
            }
        }
    }

    /// Something that happened meanwhile.
    pub(super) fn note(&self, text: &str) {
        match self {
            Progress::Bar { display, bar } => bar.suspend(|| display.say(text)),
            Progress::Lines { display, .. } => display.say(text),
        }
    }

    /// It is over; the last message stays.
    pub(super) fn finish(self, message: &str) {
        let display = match &self {
            Progress::Bar { display, bar } => {
                bar.finish_and_clear();
                *display
            }
            Progress::Lines { display, .. } => *display,
        };
        display.say(&format!("  {message}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Progress::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

/// The proof as a table.
pub(super) fn proof_table(proof: &Proof) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(proof.tables.iter().map(proof_row));
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (position, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match position {
                0 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
        if number == 0 {
            let line: usize = widths.iter().map(|width| width + 2).sum();
            let _ = writeln!(text, "  {}", "-".repeat(line - 2));
        }
    }
    text
}

/// The proof's findings over all tables.
pub(super) fn summary(proof: &Proof) -> String {
    let sum = |count: fn(&TableProof) -> u64| grouped(proof.tables.iter().map(count).sum());
    format!(
        "  {} rows in {} files ({}); (_cdc_lsn, _cdc_seq) found twice: {}\n  \
         {} cells compared with Postgres; {} changes came without their TOAST cells, taken from the row before\n  \
         files looked at {} times while the lake grew: {} changed or went away",
        grouped(proof.rows),
        grouped(proof.files),
        bytes(proof.bytes),
        grouped(proof.duplicates.count),
        sum(|table| table.cells_compared),
        sum(|table| table.carried_over),
        grouped(proof.looks),
        grouped(proof.disturbed_files.count),
    )
}

const COLUMNS: usize = 11;
const HEADINGS: [&str; COLUMNS] = [
    "table",
    "leaves",
    "files",
    "changes made",
    "in files",
    "I",
    "U",
    "D",
    "T",
    "rows Postgres/lake",
    "equal",
];

fn proof_row(table: &TableProof) -> [String; COLUMNS] {
    let ops = table.changes_in_files;
    [
        table.table.clone(),
        match table.leaves {
            0 => "-".to_owned(),
            leaves => format!("{} of {leaves}", table.leaves_seen),
        },
        grouped(table.files),
        grouped(table.changes_made.total()),
        grouped(ops.total()),
        grouped(ops.inserts),
        grouped(ops.updates),
        grouped(ops.deletes),
        grouped(ops.truncates),
        format!("{} / {}", grouped(table.rows_in_postgres), grouped(table.rows_in_lake)),
        if table.is_equal() { "yes" } else { "NO" }.to_owned(),
    ]
}

/// Digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with one decimal and a unit.
pub(super) fn bytes(number: u64) -> String {
    let mut unit = 1_u64;
    let mut name = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if number / unit < 1024 {
            break;
        }
        unit *= 1024;
        name = next;
    }
    if unit == 1 {
        return format!("{number} B");
    }
    let tenths = number.saturating_mul(10) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// The files of a lake, each folder shortened to its first few entries.
pub(super) fn tree(lake: &Path) -> String {
    let mut text = format!("  {}/\n", lake.display());
    branch(lake, "  ", &mut text);
    text
}

fn branch(folder: &Path, indent: &str, text: &mut String) {
    let mut entries: Vec<(String, bool, u64)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let facts = entry.metadata().ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), facts.is_dir(), facts.len()))
        })
        .collect();
    entries.sort();
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(_, is_dir, _)| *is_dir);
    let shown = folders.iter().take(FOLDERS_SHOWN).chain(files.iter().take(FILES_SHOWN)).count();
    let hidden = folders.len() + files.len() - shown;
    let entries = folders.iter().take(FOLDERS_SHOWN).chain(files.iter().take(FILES_SHOWN));
    for (number, (name, is_dir, length)) in entries.enumerate() {
        let last = number + 1 == shown && hidden == 0;
        let (tick, below) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        if *is_dir {
            let _ = writeln!(text, "{indent}{tick}{name}/");
            branch(&folder.join(name), &format!("{indent}{below}"), text);
        } else {
            let _ = writeln!(text, "{indent}{tick}{name}  {}", bytes(*length));
        }
    }
    if hidden > 0 {
        let length: u64 = files.iter().skip(FILES_SHOWN).map(|(_, _, length)| length).sum();
        let _ = writeln!(text, "{indent}└── … {hidden} more, {}", bytes(length));
    }
}

const FOLDERS_SHOWN: usize = 6;
const FILES_SHOWN: usize = 2;

/// A query that derives a table's number of rows from its files, by the lake's reading rules.
pub(super) fn query(lake: &Path, table: &Table) -> String {
    let (name, key) = (table.spec.name, table.spec.key.join(", "));
    let files = lake.join("shop").join(name).join("data/**/*.parquet");
    let files = files.display().to_string().replace('\'', "''");
    format!(
        "with changes as (from read_parquet('{files}', hive_partitioning = true)),\n\
         truncates as (select _cdc_relation, max((_cdc_lsn, _cdc_seq)) as position\n  \
         from changes where _cdc_op = 'T' group by all),\n\
         latest as (select changes.*, row_number() over (partition by {key} order by _cdc_lsn desc, _cdc_seq desc) n\n  \
         from changes left join truncates using (_cdc_relation)\n  \
         where _cdc_op <> 'T' and (position is null or (_cdc_lsn, _cdc_seq) > position))\n\
         select count(*) as rows, count(distinct _cdc_relation) as leaves from latest where n = 1 and _cdc_op <> 'D';"
    )
}

const LINE_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
