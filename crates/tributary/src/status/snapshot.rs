//! How far the reading of rows that tables have already is, as people see it.
//!
//! Owns: the snapshot's part of the status document, percent, and the estimate of the time that is left.
//! Does not: know what is read when; the pipeline tells.
//! Holds: every call costs little, whatever the number of tables; the document lists running tables first, and of those that are done only some.
//! Fails: never.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use lake::log::{Reading, TableSnapshot};
use serde::{Deserialize, Serialize};

/// What is known of the snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// `none`, `running` or `done`.
    pub state: String,
    /// Running tables first, then those that were set aside, then those that are done.
    pub tables: Vec<SnapshotTable>,
    /// How many tables that are done are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_listed: usize,
}

impl Default for SnapshotStatus {
    fn default() -> SnapshotStatus {
        SnapshotStatus::of(Vec::new())
    }
}

/// The snapshot of one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotTable {
    /// `schema.table`
    pub table: String,
    /// How far it is.
    pub state: Reading,
    /// Rows read.
    pub rows: u64,
    /// Bytes read, as Postgres sent them.
    pub bytes: u64,
    /// How many of its parts are read since the daemon runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks_done: Option<u64>,
    /// How many there are of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<u64>,
    /// What is read of it, about, when all is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_expected: Option<u64>,
    /// How much of it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Rows in a second, over the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_second: Option<f64>,
    /// How long the rest takes at the speed of the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Why it was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl SnapshotTable {
    /// What the log knows.
    pub fn logged(snapshot: &TableSnapshot) -> SnapshotTable {
        SnapshotTable {
            table: snapshot.table.clone(),
            state: snapshot.state,
            rows: snapshot.rows,
            bytes: snapshot.bytes,
            chunks_done: None,
            chunks: None,
            bytes_expected: None,
            percent: None,
            rows_per_second: None,
            eta_seconds: None,
            reason: snapshot.reason.clone(),
        }
    }
}

impl SnapshotStatus {
    /// Of all tables that have or had a snapshot, in any order.
    pub fn of(mut tables: Vec<SnapshotTable>) -> SnapshotStatus {
        let place = |state: Reading| match state {
            Reading::Running => 0,
            Reading::SetAside => 1,
            Reading::Done => 2,
        };
        tables.sort_by(|a, b| place(a.state).cmp(&place(b.state)).then_with(|| a.table.cmp(&b.table)));
        let state = match tables.first().map(|table| table.state) {
            None => "none",
            Some(Reading::Running) => "running",
            Some(Reading::SetAside | Reading::Done) => "done",
        };
        let remarkable = tables.partition_point(|table| table.state != Reading::Done);
        let not_listed = tables.len().saturating_sub(remarkable.max(TABLES_LISTED));
        tables.truncate(tables.len() - not_listed);
        SnapshotStatus { state: state.to_owned(), tables, not_listed }
    }
}

/// The snapshots of all tables, by name.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    tables: BTreeMap<String, Progress>,
    /// What is left to read is still being found out.
    pub(super) is_planning: bool,
}

#[derive(Debug)]
struct Progress {
    state: Reading,
    rows: u64,
    bytes: u64,
    /// What was read before this reading of the rest began.
    bytes_before: u64,
    chunks_done: u64,
    chunks: Option<u64>,
    bytes_expected: u64,
    reason: Option<String>,
    /// How far it was when, over the last minute.
    marks: VecDeque<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    chunks_done: u64,
    rows: u64,
}

/// The states before and after a change.
pub(super) type Turn = (Option<Reading>, Reading);

impl Snapshots {
    /// What the log knew when the stream began.
    pub(super) fn known(&mut self, table: &str, snapshot: &TableSnapshot) -> Turn {
        let progress = Progress {
            state: snapshot.state,
            rows: snapshot.rows,
            bytes: snapshot.bytes,
            reason: snapshot.reason.clone(),
            ..Progress::new()
        };
        let before = self.tables.insert(table.to_owned(), progress);
        (before.map(|before| before.state), snapshot.state)
    }

    /// So much is still to be read.
    pub(super) fn begun(&mut self, table: &str, chunks: u64, bytes_expected: u64, now: Instant) -> Turn {
        let before = self.tables.get(table).map(|known| known.state);
        let known = self.tables.entry(table.to_owned()).or_insert_with(Progress::new);
        if known.state != Reading::Running {
            *known = Progress::new();
        }
        known.bytes_before = known.bytes;
        known.chunks_done = 0;
        known.chunks = Some(chunks);
        known.bytes_expected = bytes_expected;
        known.marks.clear();
        known.mark(now);
        (before, Reading::Running)
    }

    /// One part more is read.
    pub(super) fn chunk(&mut self, table: &str, rows: u64, bytes: u64, now: Instant) {
        let Some(known) = self.tables.get_mut(table) else { return };
        known.rows += rows;
        known.bytes += bytes;
        known.chunks_done += 1;
        known.mark(now);
    }

    /// All is read, or nothing more of it can be.
    pub(super) fn ended(&mut self, table: &str, rows: u64, reason: Option<&str>) -> Turn {
        let before = self.tables.get(table).map(|known| known.state);
        let known = self.tables.entry(table.to_owned()).or_insert_with(Progress::new);
        known.state = if reason.is_some() { Reading::SetAside } else { Reading::Done };
        known.rows = rows;
        known.reason = reason.map(str::to_owned);
        known.marks = VecDeque::new();
        (before, known.state)
    }

    /// Parts that are read and parts that there are.
    pub(super) fn chunks(&self, table: &str) -> (u64, u64) {
        self.tables.get(table).map_or((0, 0), |known| (known.chunks_done, known.chunks.unwrap_or(0)))
    }

    pub(super) fn status(&self, now: Instant) -> SnapshotStatus {
        let tables = self.tables.iter().map(|(table, known)| known.status(table, now)).collect();
        let mut status = SnapshotStatus::of(tables);
        if self.is_planning {
            // What is known to be done may not be all.
            "running".clone_into(&mut status.state);
        }
        status
    }
}

impl Progress {
    fn new() -> Progress {
        Progress {
            state: Reading::Running,
            rows: 0,
            bytes: 0,
            bytes_before: 0,
            chunks_done: 0,
            chunks: None,
            bytes_expected: 0,
            reason: None,
            marks: VecDeque::new(),
        }
    }

    fn mark(&mut self, now: Instant) {
        // The first of a minute ago stays: parts that take longer than a minute have a speed, too.
        while self.marks.get(1).is_some_and(|second| now.duration_since(second.at) > WINDOW) {
            self.marks.pop_front();
        }
        let mark = Mark { at: now, chunks_done: self.chunks_done, rows: self.rows };
        match self.marks.back_mut() {
            // Never the first: it is what is measured from.
            Some(last) if mark.at.duration_since(last.at) < MARK_EVERY && last.chunks_done > 0 => {
                (last.chunks_done, last.rows) = (mark.chunks_done, mark.rows);
            }
            Some(_) | None => self.marks.push_back(mark),
        }
    }

    fn status(&self, table: &str, now: Instant) -> SnapshotTable {
        let is_running = self.state == Reading::Running;
        let measured = self.marks.front().filter(|_| is_running).and_then(|first| {
            let seconds = now.duration_since(first.at).as_secs_f64();
            let chunks = self.chunks_done - first.chunks_done;
            (chunks > 0 && seconds > 0.0).then_some((chunks, self.rows - first.rows, seconds))
        });
        let left = self.chunks.map(|chunks| chunks.saturating_sub(self.chunks_done));
        let eta = measured.zip(left).and_then(|((chunks, _, seconds), left)| {
            let each = seconds / number(chunks);
            Duration::try_from_secs_f64(each * number(left)).ok().map(|left| left.as_secs())
        });
        SnapshotTable {
            table: table.to_owned(),
            state: self.state,
            rows: self.rows,
            bytes: self.bytes,
            chunks_done: self.chunks.map(|_| self.chunks_done),
            chunks: self.chunks,
            bytes_expected: self.chunks.map(|_| self.bytes_before + self.bytes_expected),
            percent: self.percent(),
            rows_per_second: measured
                .map(|(_, rows, seconds)| (number(rows) / seconds * 10.0).round() / 10.0),
            eta_seconds: eta,
            reason: self.reason.clone(),
        }
    }

    /// By parts, which are about as large as each other: what Postgres sends of a block is not as long as the block.
    fn percent(&self) -> Option<f64> {
        match self.state {
            Reading::Done => return Some(100.0),
            Reading::SetAside => return None,
            Reading::Running => {}
        }
        let chunks = self.chunks.filter(|chunks| *chunks > 0)?;
        let read = number(self.chunks_done.min(chunks)) / number(chunks);
        let (before, rest) = (number(self.bytes_before), number(self.bytes_expected.max(1)));
        let part = (before + read * rest) / (before + rest);
        Some((part * 1_000.0).floor() / 10.0)
    }
}

/// As a float; exact up to 2^53, and more than good enough beyond.
fn number(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Speed is measured over so long.
const WINDOW: Duration = Duration::from_secs(60);
/// At most so often it is noted how far a table is.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// Tables that are listed although they are done.
const TABLES_LISTED: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "public.orders";

    fn first(snapshots: &Snapshots, now: Instant) -> SnapshotTable {
        snapshots.status(now).tables.into_iter().next().expect("a table")
    }

    #[test]
    fn percent_and_the_time_that_is_left_follow_the_parts() {
        let mut snapshots = Snapshots::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(snapshots.begun(TABLE, 4, 400, begin), (None, Reading::Running));
        let begun = first(&snapshots, at(5));
        assert_eq!((begun.percent, begun.eta_seconds, begun.chunks), (Some(0.0), None, Some(4)));
        snapshots.chunk(TABLE, 1_000, 70, at(10));
        let quarter = first(&snapshots, at(10));
        assert_eq!((quarter.percent, quarter.eta_seconds), (Some(25.0), Some(30)));
        assert_eq!((quarter.rows_per_second, quarter.bytes_expected), (Some(100.0), Some(400)));
        // Slower since: the estimate grows while nothing comes.
        assert_eq!(first(&snapshots, at(20)).eta_seconds, Some(60));
        assert_eq!(snapshots.ended(TABLE, 4_000, None), (Some(Reading::Running), Reading::Done));
        let done = first(&snapshots, at(40));
        assert_eq!((done.rows, done.percent, done.eta_seconds), (4_000, Some(100.0), None));
        assert_eq!(snapshots.status(at(40)).state, "done");
    }

    #[test]
    fn the_speed_is_that_of_the_last_minute() {
        let mut snapshots = Snapshots::default();
        let begin = Instant::now();
        snapshots.begun(TABLE, 1_000, 1, begin);
        // A part in a second for ten minutes, then one in ten seconds.
        let mut now = begin;
        for _ in 0..600 {
            now += Duration::from_secs(1);
            snapshots.chunk(TABLE, 1, 1, now);
        }
        assert_eq!(first(&snapshots, now).eta_seconds, Some(400));
        for _ in 0..20 {
            now += Duration::from_secs(10);
            snapshots.chunk(TABLE, 1, 1, now);
        }
        assert_eq!(first(&snapshots, now).eta_seconds, Some(3_800));
        assert!(snapshots.tables.values().all(|known| known.marks.len() < 70));
    }

    #[test]
    fn what_was_read_before_a_restart_counts() {
        let mut snapshots = Snapshots::default();
        let now = Instant::now();
        let logged = TableSnapshot { rows: 30, bytes: 300, ..TableSnapshot::default() };
        snapshots.known(TABLE, &logged);
        assert_eq!(first(&snapshots, now).percent, None);
        snapshots.begun(TABLE, 2, 100, now);
        assert_eq!(first(&snapshots, now).percent, Some(75.0));
        snapshots.chunk(TABLE, 5, 50, now);
        let read = first(&snapshots, now);
        assert_eq!((read.rows, read.percent, read.bytes_expected), (35, Some(87.5), Some(400)));
        snapshots.ended(TABLE, 40, None);
        // Read anew: from nothing.
        snapshots.begun(TABLE, 2, 100, now);
        assert_eq!((first(&snapshots, now).rows, first(&snapshots, now).percent), (0, Some(0.0)));
    }

    #[test]
    fn of_many_tables_those_that_are_done_are_left_out() {
        let mut snapshots = Snapshots::default();
        for table in 0..TABLES_LISTED + 10 {
            snapshots.ended(&format!("public.t{table}"), 1, None);
        }
        snapshots.ended("public.z", 0, Some("permission denied"));
        snapshots.begun("public.zz", 1, 1, Instant::now());
        let status = snapshots.status(Instant::now());
        let names: Vec<&str> = status.tables.iter().take(2).map(|table| table.table.as_str()).collect();
        assert_eq!((names, status.state.as_str()), (vec!["public.zz", "public.z"], "running"));
        assert_eq!((status.tables.len(), status.not_listed), (TABLES_LISTED, 12));
    }
}
