//! Progress of a snapshot on a terminal, below the log lines.
//!
//! Owns: the bars, and what each of them says.
//! Does not: know how far anything is; `status` does. `logging` writes the lines above.
//! Holds: a few lines, whatever the number of tables; none while nothing is read.
//! Fails: never; a terminal that is gone is no reason to stop.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text;
use crate::status::{Shared, SnapshotProgress, SnapshotStatus};

/// Where bars are drawn: on standard error, if that is a terminal.
pub(super) fn target() -> MultiProgress {
    // A change of one line is a drawing of its own.
    MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(60))
}

/// Draws how far the snapshot is, until it is dropped.
pub(super) async fn follow(target: MultiProgress, shared: Arc<Shared>) {
    let mut bars = Bars::new(target);
    loop {
        bars.show(&shared.snapshot_status());
        tokio::time::sleep(DRAW_EVERY).await;
    }
}

/// The lines at the bottom of the terminal.
struct Bars {
    target: MultiProgress,
    drawn: Vec<ProgressBar>,
}

/// One of them.
#[derive(Debug, PartialEq)]
struct Line {
    name: String,
    percent: f64,
    words: String,
}

impl Bars {
    fn new(target: MultiProgress) -> Bars {
        Bars { target, drawn: Vec::new() }
    }

    fn show(&mut self, status: &SnapshotStatus) {
        let lines = lines(status);
        self.shorten(lines.len());
        let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        for (index, line) in lines.into_iter().enumerate() {
            let (name, position) = (format!("{:<width$}", line.name), whole(line.percent * 10.0));
            let Some(bar) = self.drawn.get(index) else {
                let bar = ProgressBar::new(1_000).with_prefix(name).with_position(position);
                if let Ok(style) = ProgressStyle::with_template("  {prefix}  {bar:16.cyan/blue}  {wide_msg}")
                {
                    bar.set_style(style);
                }
                let bar = self.target.add(bar);
                bar.set_message(line.words);
                self.drawn.push(bar);
                continue;
            };
            // Each change is drawn.
            if bar.prefix() != name {
                bar.set_prefix(name);
            }
            if bar.position() != position {
                bar.set_position(position);
            }
            if bar.message() != line.words {
                bar.set_message(line.words);
            }
        }
    }

    /// Takes lines away.
    fn shorten(&mut self, length: usize) {
        for bar in self.drawn.drain(length.min(self.drawn.len())..) {
            bar.finish_and_clear();
            self.target.remove(&bar);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // What comes next stands where they were.
        self.shorten(0);
    }
}

/// All tables together, and those that are at work.
fn lines(status: &SnapshotStatus) -> Vec<Line> {
    let running = status.running();
    // Of those whose turn has not come it is not known how much there is.
    if running.iter().all(|table| table.chunks.is_none()) {
        return Vec::new();
    }
    let count = text::grouped(u64::try_from(running.len()).unwrap_or(u64::MAX));
    let all = line(&format!("snapshot, {count} to go"), &status.total);
    let at_work = running.into_iter().filter(|table| table.chunks.is_some()).take(TABLES_SHOWN);
    std::iter::once(all).chain(at_work.map(|table| line(&table.table, &table.progress()))).collect()
}

/// What matters most comes first: a narrow terminal cuts the rest.
fn line(name: &str, progress: &SnapshotProgress) -> Line {
    let SnapshotProgress { rows, bytes, percent, rows_per_second, eta_seconds } = *progress;
    let read = percent.map_or_else(String::new, |percent| format!("{percent:.1} %"));
    let left = eta_seconds.map_or_else(String::new, |seconds| format!("{} left", text::duration(seconds)));
    let speed =
        rows_per_second.map_or_else(String::new, |rows| format!("{} rows/s", text::grouped(whole(rows))));
    let (rows, bytes) = (format!("{} rows", text::grouped(rows)), text::bytes(bytes));
    Line {
        name: shortened(name),
        percent: percent.unwrap_or(0.0),
        words: format!("{read:>7}  {left:>15}  {speed:>16}  {rows:>16}  {bytes:>10}"),
    }
}

/// The end of a name tells more than its beginning.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME_MAX {
        return name.to_owned();
    }
    std::iter::once('…').chain(name.chars().skip(length + 1 - NAME_MAX)).collect()
}

/// Without what is behind the point.
fn whole(number: f64) -> u64 {
    Duration::try_from_secs_f64(number).unwrap_or_default().as_secs()
}

const DRAW_EVERY: Duration = Duration::from_millis(500);
/// Below the line for all of them.
const TABLES_SHOWN: usize = 5;
const NAME_MAX: usize = 30;

#[cfg(test)]
mod tests;
