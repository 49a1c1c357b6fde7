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
    /// All tables together that are read in one go; those that were read long before do not make it look nearly done.
    #[serde(default)]
    pub total: SnapshotProgress,
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

/// How far one table is, or several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotProgress {
    /// Rows read.
    pub rows: u64,
    /// Bytes read, as Postgres sent them.
    pub bytes: u64,
    /// How much is read; by the size of the tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Rows in a second, over the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_per_second: Option<f64>,
    /// How long the rest takes at the speed of the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
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

    /// How far it is.
    pub fn progress(&self) -> SnapshotProgress {
        let SnapshotTable { rows, bytes, percent, rows_per_second, eta_seconds, .. } = *self;
        SnapshotProgress { rows, bytes, percent, rows_per_second, eta_seconds }
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
        let total = SnapshotProgress {
            rows: tables.iter().map(|table| table.rows).sum(),
            bytes: tables.iter().map(|table| table.bytes).sum(),
            ..SnapshotProgress::default()
        };
        let remarkable = tables.partition_point(|table| table.state != Reading::Done);
        let not_listed = tables.len().saturating_sub(remarkable.max(TABLES_LISTED));
        tables.truncate(tables.len() - not_listed);
        SnapshotStatus { state: state.to_owned(), total, tables, not_listed }
    }

    /// Those that are being read, the ones that are at work before those that wait for their turn.
    pub fn running(&self) -> Vec<&SnapshotTable> {
        let mut tables: Vec<&SnapshotTable> =
            self.tables.iter().filter(|table| table.state == Reading::Running).collect();
        tables.sort_by_key(|table| table.chunks_done.unwrap_or(0) == 0);
        tables
    }

    /// Those that were set aside.
    pub fn aside(&self) -> impl Iterator<Item = &SnapshotTable> {
        self.tables.iter().filter(|table| table.state == Reading::SetAside)
    }

    /// How many tables are read.
    pub fn done(&self) -> usize {
        self.tables.iter().filter(|table| table.state == Reading::Done).count() + self.not_listed
    }
}

/// The snapshots of all tables, by name.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    tables: BTreeMap<String, Progress>,
    /// What is left to read is still being found out.
    pub(super) is_planning: bool,
    /// Tables that are read in one go have the same number.
    go: u64,
    /// How many of this go are being read.
    running: usize,
    /// Of this go, in bytes as they were expected.
    work: u64,
    rows: u64,
    pace: Pace,
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
    /// The go that it was read in; `None` if that was before the daemon started.
    go: Option<u64>,
    pace: Pace,
}

/// How far something was when, over the last minute.
#[derive(Debug, Default)]
struct Pace {
    marks: VecDeque<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    work: u64,
    rows: u64,
}

/// What was done in some time.
struct Measured {
    work: f64,
    rows: f64,
    seconds: f64,
}

impl Pace {
    fn begin(&mut self, mark: Mark) {
        self.marks.clear();
        self.marks.push_back(mark);
    }

    fn note(&mut self, mark: Mark) {
        // The first of a minute ago stays: parts that take longer than a minute have a speed, too.
        while self.marks.get(1).is_some_and(|second| mark.at.duration_since(second.at) > WINDOW) {
            self.marks.pop_front();
        }
        let is_first = self.marks.len() < 2;
        match self.marks.back_mut() {
            // Never the first: it is what is measured from.
            Some(last) if mark.at.duration_since(last.at) < MARK_EVERY && !is_first => {
                (last.work, last.rows) = (mark.work, mark.rows);
            }
            Some(_) | None => self.marks.push_back(mark),
        }
    }

    /// Since the first mark.
    fn measured(&self, now: Mark) -> Option<Measured> {
        let first = self.marks.front()?;
        let measured = Measured {
            work: number(now.work.saturating_sub(first.work)),
            rows: number(now.rows.saturating_sub(first.rows)),
            seconds: now.at.duration_since(first.at).as_secs_f64(),
        };
        (measured.work > 0.0 && measured.seconds > 0.0).then_some(measured)
    }
}

impl Measured {
    fn rows_per_second(&self) -> f64 {
        (self.rows / self.seconds * 10.0).round() / 10.0
    }

    /// How long so much work takes.
    fn seconds_for(&self, work: u64) -> Option<u64> {
        let each = self.seconds / self.work;
        Duration::try_from_secs_f64(each * number(work)).ok().map(|left| left.as_secs())
    }
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
        self.leave(table);
        let before = self.tables.insert(table.to_owned(), progress);
        (before.map(|before| before.state), snapshot.state)
    }

    /// So much is still to be read.
    pub(super) fn begun(&mut self, table: &str, chunks: u64, bytes_expected: u64, now: Instant) -> Turn {
        let is_first = self.running == 0;
        self.leave(table);
        if is_first {
            self.go += 1;
            (self.work, self.rows) = (0, 0);
            self.pace.begin(Mark { at: now, work: 0, rows: 0 });
        }
        self.running += 1;
        let before = self.tables.get(table).map(|known| known.state);
        let known = self.tables.entry(table.to_owned()).or_insert_with(Progress::new);
        if known.state != Reading::Running {
            *known = Progress::new();
        }
        known.go = Some(self.go);
        known.bytes_before = known.bytes;
        known.chunks_done = 0;
        known.chunks = Some(chunks);
        known.bytes_expected = bytes_expected;
        known.pace.begin(known.mark(now));
        (before, Reading::Running)
    }

    /// One part more is read.
    pub(super) fn chunk(&mut self, table: &str, rows: u64, bytes: u64, now: Instant) {
        let Some(known) = self.tables.get_mut(table) else { return };
        let work_before = known.work().0;
        known.rows += rows;
        known.bytes += bytes;
        known.chunks_done += 1;
        known.pace.note(known.mark(now));
        self.work += known.work().0.saturating_sub(work_before);
        self.rows += rows;
        self.pace.note(Mark { at: now, work: self.work, rows: self.rows });
    }

    /// All is read, or nothing more of it can be.
    pub(super) fn ended(&mut self, table: &str, rows: u64, reason: Option<&str>) -> Turn {
        self.leave(table);
        let before = self.tables.get(table).map(|known| known.state);
        let known = self.tables.entry(table.to_owned()).or_insert_with(Progress::new);
        known.state = if reason.is_some() { Reading::SetAside } else { Reading::Done };
        known.rows = rows;
        known.reason = reason.map(str::to_owned);
        known.pace = Pace::default();
        (before, known.state)
    }

    /// A table is not read any more, or not as it was.
    fn leave(&mut self, table: &str) {
        let is_read = |known: &Progress| known.state == Reading::Running && known.go == Some(self.go);
        if self.tables.get(table).is_some_and(is_read) {
            self.running = self.running.saturating_sub(1);
        }
    }

    /// Parts that are read and parts that there are.
    pub(super) fn chunks(&self, table: &str) -> (u64, u64) {
        self.tables.get(table).map_or((0, 0), |known| (known.chunks_done, known.chunks.unwrap_or(0)))
    }

    pub(super) fn status(&self, now: Instant) -> SnapshotStatus {
        let tables = self.tables.iter().map(|(table, known)| known.status(table, now)).collect();
        let mut status = SnapshotStatus::of(tables);
        if self.go > 0 {
            status.total = self.total(now);
        }
        if self.is_planning {
            // What is known to be done may not be all.
            "running".clone_into(&mut status.state);
        }
        status
    }

    fn total(&self, now: Instant) -> SnapshotProgress {
        let of_this_go = || self.tables.values().filter(|known| known.go == Some(self.go));
        let (mut read, mut whole) = (0_u64, 0_u64);
        for known in of_this_go() {
            let (part, all) = known.work();
            (read, whole) = (read.saturating_add(part), whole.saturating_add(all));
        }
        let measured = self.pace.measured(Mark { at: now, work: self.work, rows: self.rows });
        let measured = measured.filter(|_| self.running > 0);
        SnapshotProgress {
            rows: of_this_go().map(|known| known.rows).sum(),
            bytes: of_this_go().map(|known| known.bytes).sum(),
            percent: (whole > 0).then(|| tenths_of_percent(number(read) / number(whole))),
            rows_per_second: measured.as_ref().map(Measured::rows_per_second),
            eta_seconds: measured.and_then(|measured| measured.seconds_for(whole - read)),
        }
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
            go: None,
            pace: Pace::default(),
        }
    }

    fn mark(&self, now: Instant) -> Mark {
        Mark { at: now, work: self.chunks_done, rows: self.rows }
    }

    /// How much of how much is read, in bytes as they were expected: not as many as those that came.
    fn work(&self) -> (u64, u64) {
        let whole = self.bytes_before.saturating_add(self.bytes_expected.max(1));
        match (self.state, self.chunks) {
            (Reading::Done, _) => (whole, whole),
            (Reading::Running, Some(chunks)) if chunks > 0 => {
                let read = u128::from(self.bytes_expected) * u128::from(self.chunks_done.min(chunks));
                let read = u64::try_from(read / u128::from(chunks)).unwrap_or(self.bytes_expected);
                (self.bytes_before + read, whole)
            }
            (Reading::Running, Some(_) | None) => (self.bytes_before, whole),
            (Reading::SetAside, _) => (0, 0),
        }
    }

    fn status(&self, table: &str, now: Instant) -> SnapshotTable {
        let is_running = self.state == Reading::Running;
        let measured = if is_running { self.pace.measured(self.mark(now)) } else { None };
        let left = self.chunks.map(|chunks| chunks.saturating_sub(self.chunks_done));
        SnapshotTable {
            table: table.to_owned(),
            state: self.state,
            rows: self.rows,
            bytes: self.bytes,
            chunks_done: self.chunks.map(|_| self.chunks_done),
            chunks: self.chunks,
            bytes_expected: self.chunks.map(|_| self.bytes_before + self.bytes_expected),
            percent: self.percent(),
            rows_per_second: measured.as_ref().map(Measured::rows_per_second),
            eta_seconds: measured.zip(left).and_then(|(measured, left)| measured.seconds_for(left)),
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
        Some(tenths_of_percent(part))
    }
}

/// Rounded down, so that 100 means the end.
fn tenths_of_percent(part: f64) -> f64 {
    (part * 1_000.0).floor() / 10.0
}

/// As a float; exact up to 2^53, and more than good enough beyond.
pub(crate) fn number(count: u64) -> f64 {
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
        assert!(snapshots.tables.values().all(|known| known.pace.marks.len() < 70));
    }

    /// What was read long before is no progress of what is read now, and neither is what was set aside.
    #[test]
    fn all_tables_together_are_those_of_one_go() {
        let mut snapshots = Snapshots::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let old = TableSnapshot { rows: 7, bytes: 1 << 40, state: Reading::Done, ..TableSnapshot::default() };
        snapshots.known("public.old", &old);
        assert_eq!(snapshots.status(begin).total.rows, 7, "of the log");
        for (table, bytes) in [("public.a", 300), ("public.b", 100), ("public.c", 1 << 30)] {
            snapshots.begun(table, 2, bytes, begin);
        }
        snapshots.ended("public.c", 0, Some("permission denied"));
        snapshots.chunk("public.a", 1_000, 50, at(10));
        let SnapshotProgress { rows, bytes, percent, rows_per_second, eta_seconds } =
            snapshots.status(at(10)).total;
        assert_eq!((rows, bytes, percent), (1_000, 50, Some(37.5)));
        // 150 in 10 seconds, 250 to go.
        assert_eq!((rows_per_second, eta_seconds), (Some(100.0), Some(16)));
        snapshots.chunk("public.a", 1_000, 50, at(20));
        snapshots.ended("public.a", 2_000, None);
        // The rest at a new point.
        snapshots.chunk("public.b", 10, 5, at(20));
        snapshots.begun("public.b", 1, 50, at(20));
        assert_eq!(snapshots.status(at(20)).total.percent, Some(85.9));
        snapshots.ended("public.b", 20, None);
        let ended = snapshots.status(at(30)).total;
        assert_eq!((ended.rows, ended.percent, ended.eta_seconds), (2_020, Some(100.0), None));
        // Read anew later, alone: as asked for, and then begun.
        snapshots.known("public.a", &TableSnapshot::default());
        snapshots.begun("public.a", 4, 400, at(90));
        snapshots.chunk("public.a", 5, 5, at(91));
        let anew = snapshots.status(at(91)).total;
        assert_eq!((anew.rows, anew.percent, anew.eta_seconds), (5, Some(25.0), Some(3)));
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
