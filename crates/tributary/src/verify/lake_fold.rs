//! The current state of a table in the lake, as a snapshot of the source sees it.
//!
//! Owns: which row of a key is its last, where values lie that it left alone, and the sums of the rows that are left.
//! Does not: print values (`render`) or read files (`files`).
//! Holds: the rules that readers of the lake have: a `T` supersedes what is older of its relation; of a key the row with the highest position counts, and none if
//! that is a `D`; an unchanged value is that of the latest earlier row of the key that carries it, and, where the row came from another key, of that one. Without a key every
//! `D` takes one row away.
//! Memory: 64 bytes a key of the buckets that are looked at in one pass; there are as many passes as that needs.
//! Fails: as the store does. A file that cannot be read is a finding, and the rest goes on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use lake::store::Store;
use rustc_hash::FxHashMap;

use super::files::{self, Broken, DataFile, Opened};
use super::pace::Pace;
use super::point::Seen;
use super::scope::Table;
use super::source_sums::{Encoding, Shown};
use super::sums::{Hash, Sums, bucket, hash};
use crate::error::{Error, Result};

mod carried;
mod rows;

use carried::Carried;
use rows::{Markers, Rows};

/// The lake's side of a comparison.
pub struct Lake<'a> {
    /// Where it is.
    pub store: &'a Arc<dyn Store>,
    /// How fast it is read, and how far it is.
    pub pace: &'a Arc<Pace>,
    /// What the source's snapshot sees.
    pub seen: &'a Seen,
    /// The encoding of the source.
    pub encoding: Encoding,
    /// How many keys are in memory at once.
    pub keys_max: u64,
}

/// What was found of a table.
#[derive(Debug, Default)]
pub struct Found {
    /// By bucket.
    pub sums: Vec<Sums>,
    /// The rows of the buckets that were to be shown.
    pub shown: HashMap<Hash, Shown>,
    /// What is wrong with files, by their keys.
    pub broken: BTreeMap<String, String>,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    file: u32,
    row: u32,
}

/// Where it stands among all changes.
type Position = (i64, i64);

/// The last row of a key.
#[derive(Clone, Copy, Debug)]
struct Last {
    position: Position,
    place: Place,
    is_deleted: bool,
    has_unchanged: bool,
}

/// A table on its way through its files.
struct Folding<'a> {
    lake: &'a Lake<'a>,
    table: &'a Table,
    files: &'a [DataFile],
    markers: Markers,
    /// The buckets whose rows are kept.
    shown_of: BTreeSet<u32>,
    found: Found,
}

impl Lake<'_> {
    /// Folds a table. The rows of the buckets in `show` are kept; if there are any, nothing else is looked at.
    pub async fn fold(&self, table: &Table, files: &[DataFile], show: &[u32]) -> Result<Found> {
        let buckets = usize::try_from(table.buckets).unwrap_or(1);
        let mut folding = Folding {
            lake: self,
            table,
            files,
            markers: Markers::default(),
            shown_of: show.iter().copied().collect(),
            found: Found { sums: vec![Sums::default(); buckets], ..Found::default() },
        };
        folding.read_markers().await?;
        if table.key.is_empty() {
            folding.keyless().await?;
            return Ok(folding.found);
        }
        for buckets in folding.passes() {
            folding.pass(&buckets).await?;
        }
        Ok(folding.found)
    }
}

impl Folding<'_> {
    /// What supersedes what: only few files have that.
    async fn read_markers(&mut self) -> Result<()> {
        let with_markers = self.files.iter().enumerate().filter(|(_, file)| file.has_markers);
        let wanted: Vec<Wanted> = with_markers.filter_map(|(at, _)| Wanted::all(at)).collect();
        let mut markers = Markers::default();
        let own_names = &self.table.own_names;
        let seen = self.lake.seen;
        self.scan(wanted, &rows::METADATA, |rows, row, _| {
            if rows.op(row) == "T" && rows.is_seen(seen, row) {
                markers.add(rows.relation(row), rows.position(row), own_names);
            }
            Ok(())
        })
        .await?;
        self.markers = markers;
        Ok(())
    }

    /// Ranges of buckets whose keys fit into memory, if they are spread evenly.
    fn passes(&self) -> Vec<BTreeSet<u32>> {
        if !self.shown_of.is_empty() {
            return vec![self.shown_of.clone()];
        }
        let rows: u64 = self.files.iter().map(|file| file.rows).sum();
        let buckets = u64::from(self.table.buckets);
        let passes = rows.div_ceil(self.lake.keys_max.max(1)).clamp(1, buckets);
        let each = u32::try_from(buckets.div_ceil(passes)).unwrap_or(u32::MAX);
        let firsts = (0..self.table.buckets).step_by(usize::try_from(each).unwrap_or(usize::MAX));
        firsts.map(|first| (first..first.saturating_add(each).min(self.table.buckets)).collect()).collect()
    }

    /// Every row counts for itself.
    async fn keyless(&mut self) -> Result<()> {
        let all: BTreeSet<i32> = self.columns(0..self.table.columns.len());
        let mut found = std::mem::take(&mut self.found);
        let (table, markers) = (self.table, &self.markers);
        let (seen, shown_of) = (self.lake.seen, &self.shown_of);
        let mut cells = rows::Cells::default();
        let mut broken = std::mem::take(&mut found.broken);
        let every = (0..self.files.len()).filter_map(Wanted::all).collect();
        let add = |rows: &Rows<'_>, row: usize, _| {
            if !rows.counts(table, seen, markers, row) {
                return Ok(());
            }
            let sign = if rows.op(row) == "D" { -1 } else { 1 };
            rows.cells(row, &mut cells)?;
            let whole = hash(&cells.text);
            add_row(&mut found, table, shown_of, &whole, &cells, sign);
            Ok(())
        };
        scan(self.lake, table, self.files, &mut broken, every, &all, add).await?;
        found.broken = broken;
        found.shown.retain(|_, row| row.count != 0);
        self.found = found;
        Ok(())
    }

    /// Finds the last row of each key of some buckets, then reads these.
    async fn pass(&mut self, buckets: &BTreeSet<u32>) -> Result<()> {
        let lasts = self.lasts(buckets).await?;
        let mut carried = Carried::default();
        if lasts.values().any(|last| last.has_unchanged && !last.is_deleted) {
            carried = carried::find(self, &lasts).await?;
        }
        let mut wanted: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for last in lasts.into_values().filter(|last| !last.is_deleted) {
            wanted.entry(last.place.file).or_default().push(last.place.row);
        }
        let all: BTreeSet<i32> = self.columns(0..self.table.columns.len());
        let mut found = std::mem::take(&mut self.found);
        let mut broken = std::mem::take(&mut found.broken);
        let (table, shown_of) = (self.table, &self.shown_of);
        let (mut cells, mut scratch) = (rows::Cells::default(), Vec::new());
        let add = |rows: &Rows<'_>, row: usize, place: Place| {
            let key = rows.key(row, &mut scratch)?;
            rows.cells(row, &mut cells)?;
            if rows.has_unchanged(row) {
                carried.fill(rows, row, place, &mut cells)?;
            }
            add_row(&mut found, table, shown_of, &key, &cells, 1);
            Ok(())
        };
        scan(self.lake, table, self.files, &mut broken, Wanted::rows(wanted), &all, add).await?;
        found.broken = broken;
        self.found = found;
        Ok(())
    }

    async fn lasts(&mut self, buckets: &BTreeSet<u32>) -> Result<FxHashMap<u128, Last>> {
        let keys = self.columns(self.table.key.iter().copied());
        let mut lasts: FxHashMap<u128, Last> = FxHashMap::default();
        let (table, seen) = (self.table, self.lake.seen);
        let markers = std::mem::take(&mut self.markers);
        let is_all = u32::try_from(buckets.len()) == Ok(table.buckets);
        let mut scratch = Vec::new();
        let every = (0..self.files.len()).filter_map(Wanted::all).collect();
        self.scan(every, &keys, |rows, row, place| {
            if !rows.counts(table, seen, &markers, row) {
                return Ok(());
            }
            let key = rows.key(row, &mut scratch)?;
            if !is_all && !buckets.contains(&bucket(&key, table.buckets)) {
                return Ok(());
            }
            let position = rows.position(row);
            let last = Last {
                position,
                place,
                is_deleted: rows.op(row) == "D",
                has_unchanged: rows.has_unchanged(row),
            };
            let known = lasts.entry(u128::from_be_bytes(key)).or_insert(last);
            if known.position < position {
                *known = last;
            }
            Ok(())
        })
        .await?;
        self.markers = markers;
        Ok(lasts)
    }

    /// Reads files; what cannot be read is kept as a finding.
    async fn scan(
        &mut self,
        wanted: Vec<Wanted>,
        fields: &BTreeSet<i32>,
        visit: impl FnMut(&Rows<'_>, usize, Place) -> Result<(), Broken>,
    ) -> Result<()> {
        let mut broken = std::mem::take(&mut self.found.broken);
        let scanned = scan(self.lake, self.table, self.files, &mut broken, wanted, fields, visit).await;
        self.found.broken = broken;
        scanned
    }

    /// The field ids of columns, with those that every row needs.
    fn columns(&self, columns: impl IntoIterator<Item = usize>) -> BTreeSet<i32> {
        let ids =
            columns.into_iter().filter_map(|at| self.table.columns.get(at)).map(|column| column.field_id);
        ids.chain(rows::METADATA.iter().copied()).collect()
    }
}

/// Which rows of a file.
struct Wanted {
    file: u32,
    /// All, if there are none.
    rows: Option<Vec<u32>>,
}

impl Wanted {
    fn all(file: usize) -> Option<Wanted> {
        Some(Wanted { file: u32::try_from(file).ok()?, rows: None })
    }

    fn rows(wanted: BTreeMap<u32, Vec<u32>>) -> Vec<Wanted> {
        let in_order = |(file, mut rows): (u32, Vec<u32>)| {
            rows.sort_unstable();
            rows.dedup();
            Wanted { file, rows: Some(rows) }
        };
        wanted.into_iter().map(in_order).collect()
    }
}

/// Reads rows of files, in any order; a few files are opened ahead.
async fn scan(
    lake: &Lake<'_>,
    table: &Table,
    files: &[DataFile],
    broken: &mut BTreeMap<String, String>,
    wanted: Vec<Wanted>,
    fields: &BTreeSet<i32>,
    mut visit: impl FnMut(&Rows<'_>, usize, Place) -> Result<(), Broken>,
) -> Result<()> {
    let named = wanted.into_iter().filter_map(|wanted| {
        let file = files.get(usize::try_from(wanted.file).ok()?)?.clone();
        Some((wanted, file))
    });
    let (store, pace) = (lake.store, lake.pace);
    let open = move |(wanted, file): (Wanted, DataFile)| {
        async move { Ok::<_, Error>((files::open(store, pace, &file).await?, wanted, file)) }.boxed()
    };
    let mut opened = stream::iter(named).map(open).buffered(FILES_AHEAD);
    while let Some(next) = opened.next().await {
        let (found, wanted, file) = next?;
        let read = match found {
            Ok(found) => read(lake, table, found, &wanted, &file, fields, &mut visit).await,
            Err(why) => Err(why),
        };
        if let Err(Broken(why)) = read {
            broken.insert(file.key, why);
        }
    }
    Ok(())
}

async fn read(
    lake: &Lake<'_>,
    table: &Table,
    opened: Opened,
    wanted: &Wanted,
    file: &DataFile,
    fields: &BTreeSet<i32>,
    visit: &mut impl FnMut(&Rows<'_>, usize, Place) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let columns = opened.columns();
    if opened.rows() != file.rows {
        return Err(Broken(format!("it has {} rows, and the log says {}", opened.rows(), file.rows)));
    }
    let layout = rows::Layout::new(table, columns, lake.encoding);
    let mut batches =
        opened.read(fields, wanted.rows.as_deref()).map_err(|error| Broken(error.to_string()))?;
    let mut at = 0_usize;
    while let Some(batch) = files::next(&mut batches).await? {
        let rows = Rows::new(&layout, &batch)?;
        for row in 0..batch.num_rows() {
            let number = match &wanted.rows {
                Some(rows) => rows.get(at).copied(),
                None => u32::try_from(at).ok(),
            };
            let number = number.ok_or_else(|| Broken("it has more rows than it says".to_owned()))?;
            visit(&rows, row, Place { file: wanted.file, row: number })?;
            at += 1;
        }
    }
    Ok(())
}

/// A row that is there.
fn add_row(
    found: &mut Found,
    table: &Table,
    shown_of: &BTreeSet<u32>,
    key: &Hash,
    cells: &rows::Cells,
    sign: i64,
) {
    let bucket = bucket(key, table.buckets);
    if let Some(sums) = usize::try_from(bucket).ok().and_then(|at| found.sums.get_mut(at)) {
        sums.add(&hash(&cells.text), sign);
    }
    if shown_of.contains(&bucket) {
        let shown = found.shown.entry(*key).or_default();
        shown.count += sign;
        shown.cells = cells.hashes();
        shown.key = table.key.iter().map(|at| cells.shown(*at)).collect();
    }
}

const FILES_AHEAD: usize = 8;

#[cfg(test)]
mod tests;
