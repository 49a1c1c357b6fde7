//! The proof that a lake equals its source, at one point and beside everything that goes on.
//!
//! Owns: the order of the proof: a snapshot of the source, the lake's coming to its position, both sides' sums of each table, and a closer look at what differs.
//! Does not: parse arguments or print (`cli::verify`); change anything on either side.
//! Holds: a table is called equal only if for every bucket of its keys the number of rows and two sums of 64 bits over their hashes are equal, of texts that both
//! sides print by themselves: Postgres by its output functions, and we from the files. What differs is looked at again at a second point before it is said to
//! differ, since partitions that come and go are found by looking, and a table may be truncated under a snapshot.
//! Fails: transient when the lake does not come to the point in time; otherwise as the source and the store do. A difference is an answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use lake::log::{self, State};
use lake::store::Store;
use pgoutput::Lsn;
use serde::Serialize;
use tables::fold::Selection;
use tables::lineage::RootFacts;
use tokio::sync::watch;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline::bootstrap;
use crate::snapshot::worker::{self, Patience};
use crate::source::catalog::{self, server};
use crate::source::{Sql, connect_sql};

pub mod files;
pub mod lake_fold;
pub mod pace;
pub mod point;
pub mod render;
pub mod scope;
pub mod source_sums;
pub mod strays;
pub mod sums;

use lake_fold::Lake;
use pace::Pace;
use point::Point;
use scope::{CHANGED, Known, Planned, Table};
use source_sums::{Encoding, Shown, Source, Unread};
use strays::Strays;
use sums::{Hash, Sums};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Globs of tables; all, if there are none.
    pub tables: Vec<String>,
    /// The point is not before this.
    pub at: Option<Lsn>,
    /// How long the source and the lake are waited for.
    pub wait: Duration,
    /// Bytes a second, of the source and of the lake each.
    pub max_rate: Option<u64>,
    /// How many rows that differ are shown of a table.
    pub keys: usize,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The position of the (last) point.
    pub lsn: Lsn,
    /// When it was taken, in seconds since 1970.
    pub time: i64,
    /// By name.
    pub tables: Vec<TableReport>,
}

/// What was found of a table.
#[derive(Clone, Debug, Serialize)]
pub struct TableReport {
    /// `schema.table`
    pub table: String,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What a reader should know: columns that are not compared, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How the comparison of a table ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing differs.
    Equal {
        /// The rows of either side.
        rows: i64,
    },
    /// Something does.
    Different(Difference),
    /// It was not compared.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// Whoever reads the folder of the table by a pattern reads strays, too.
    fn with_strays(self, strays: BTreeMap<String, String>, notes: &mut Vec<String>) -> Verdict {
        if strays.is_empty() {
            return self;
        }
        match self {
            Verdict::Equal { rows } => Verdict::Different(Difference {
                source_rows: rows,
                lake_rows: rows,
                files: strays,
                ..Difference::default()
            }),
            Verdict::Different(mut difference) => {
                difference.files.extend(strays);
                Verdict::Different(difference)
            }
            Verdict::Skipped { reason } => {
                notes.extend(strays.into_iter().map(|(file, why)| format!("file {file}: {why}")));
                Verdict::Skipped { reason }
            }
        }
    }
}

/// How source and lake differ in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Rows of the source.
    pub source_rows: i64,
    /// Rows of the lake.
    pub lake_rows: i64,
    /// Buckets that differ.
    pub buckets: usize,
    /// Of so many.
    pub of_buckets: usize,
    /// Files that cannot be read, or that nobody named, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Some of the rows that differ.
    pub rows: Vec<RowDifference>,
    /// There are more.
    pub has_more: bool,
}

/// How a row differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowDifference {
    /// Its key, by column; none in a table without a key.
    pub key: BTreeMap<String, String>,
    /// What is wrong.
    pub what: RowFault,
    /// The columns whose values differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowFault {
    /// Only the source has it.
    Missing,
    /// Only the lake has it.
    Extra,
    /// Both have it, with other values.
    Values,
}

/// How far it is.
#[derive(Debug)]
pub struct Progress {
    /// What is being done.
    doing: watch::Sender<String>,
    /// How the source is read.
    pub source: Arc<Pace>,
    /// How the lake is.
    pub lake: Arc<Pace>,
}

impl Progress {
    /// Nothing was done yet.
    pub fn new(request: &Request) -> Arc<Progress> {
        let pace = || Arc::new(Pace::new(request.max_rate));
        Arc::new(Progress { doing: watch::Sender::new(String::new()), source: pace(), lake: pace() })
    }

    /// What is being done.
    pub fn doing(&self) -> String {
        self.doing.borrow().clone()
    }

    fn say(&self, doing: &str) {
        self.doing.send_replace(doing.to_owned());
    }
}

/// Compares source and lake.
pub async fn verify(
    config: &Config,
    store: &Arc<dyn Store>,
    request: &Request,
    progress: &Progress,
) -> Result<Report> {
    let wanted = match request.tables.as_slice() {
        [] => None,
        globs => Some(
            Selection::new(globs, &[])
                .map_err(|error| Error::config("tables are named as schema.table").caused_by(error))?,
        ),
    };
    let proof = Proof { config, store, request, progress };
    let mut seen_to_differ = BTreeSet::new();
    let mut report = proof
        .at_a_point(&|root| wanted.as_ref().is_none_or(|wanted| wanted.includes(&root.schema, &root.name)))
        .await?;
    for _ in 1..LOOKS_MAX {
        // Partitions that came or went are found with the next look. What is said to differ has been so twice.
        let doubtful: BTreeSet<String> = report.doubtful(&seen_to_differ).map(str::to_owned).collect();
        if doubtful.is_empty() {
            break;
        }
        seen_to_differ.extend(report.different().map(str::to_owned));
        let is_doubtful = |root: &RootFacts| doubtful.contains(&format!("{}.{}", root.schema, root.name));
        let again = proof.at_a_point(&is_doubtful).await?;
        report.tables.retain(|table| !doubtful.contains(&table.table));
        report.tables.extend(again.tables);
        report.tables.sort_by(|a, b| a.table.cmp(&b.table));
        (report.lsn, report.time) = (again.lsn, again.time);
    }
    if report.tables.is_empty() && !request.tables.is_empty() {
        return Err(Error::definite(format!("no published table is called {}", request.tables.join(" or ")))
            .hint("tables are named as schema.table, partitioned ones by their root; `tributary inspect types` lists them"));
    }
    Ok(report)
}

impl Report {
    /// The tables of which another look may say otherwise.
    fn doubtful<'r>(&'r self, seen_to_differ: &'r BTreeSet<String>) -> impl Iterator<Item = &'r str> {
        let is_doubtful = move |table: &&TableReport| match &table.verdict {
            Verdict::Different(_) => !seen_to_differ.contains(&table.table),
            Verdict::Skipped { reason } => reason.starts_with(CHANGED),
            Verdict::Equal { .. } => false,
        };
        self.tables.iter().filter(is_doubtful).map(|table| table.table.as_str())
    }

    fn different(&self) -> impl Iterator<Item = &str> {
        let differs = |table: &&TableReport| matches!(table.verdict, Verdict::Different(_));
        self.tables.iter().filter(differs).map(|table| table.table.as_str())
    }
}

struct Proof<'a> {
    config: &'a Config,
    store: &'a Arc<dyn Store>,
    request: &'a Request,
    progress: &'a Progress,
}

/// What all tables of one point have in common.
struct AtPoint<'a> {
    source: Source<'a>,
    lake: Lake<'a>,
}

impl Proof<'_> {
    /// Compares the chosen tables at one point.
    async fn at_a_point(&self, is_chosen: &dyn Fn(&RootFacts) -> bool) -> Result<Report> {
        let options = self.config.snapshot_options()?;
        let before = bootstrap::require_log(self.store.as_ref()).await?;
        self.progress.say("taking a snapshot of the source");
        let point = Point::take(&options, self.request.at, self.request.wait).await?;
        let time = crate::clock::unix_micros() / 1_000_000;
        let catalogs = connect_sql(&options).await?;
        self.refuse_another_source(&catalogs, &before).await?;
        let sql = worker::transaction(&options, &point.snapshot, Patience::default()).await?;
        self.progress.say(&format!("waiting for the lake to come to {}", point.seen.lsn));
        let now = self.lake_at(before.clone(), point.seen.lsn).await?;
        let server = server(&sql).await?;
        let encoding = Encoding::of(&server.encoding);
        let prints_bytes = encoding == Encoding::Utf8 && server.version < 150_000;
        let at = AtPoint {
            source: Source { sql: &sql, catalogs: &catalogs, encoding, pace: &self.progress.source },
            lake: Lake {
                store: self.store,
                pace: &self.progress.lake,
                seen: &point.seen,
                encoding,
                // A half for keys, the other one for what is read.
                keys_max: self.config.memory.budget.as_u64() / 2 / BYTES_A_KEY,
            },
        };
        let publications = &self.config.source.publication;
        let folding = self.config.partitions.folding(Some(&now))?;
        let facts = catalog::facts_all(&sql, publications, &folding).await?;
        let included = self.config.tables.selection()?;
        let chosen = scope::chosen(&facts, &included, is_chosen);
        let oids: BTreeSet<u32> = chosen.iter().map(|root| root.oid.0).collect();
        self.progress.say("reading the log of the lake");
        let mut files = files::list(self.store.as_ref(), now.seq, &oids).await?;
        let counts = |file: &files::DataFile| file.lsns[0] <= point.seen.lsn;
        let counted = files.values().flatten().filter(|file| counts(file));
        self.progress.lake.expect(counted.map(|file| file.bytes).sum());
        let mut strays = Strays::new(self.store.as_ref(), &now);
        let via_root = catalog::reach(&sql, publications).await?.via_root;
        let leaves_out = left_out(&sql, publications).await?;
        let known = Known::new(&sql, publications, (&before, &now), &facts, (via_root, prints_bytes));
        let mut tables = Vec::with_capacity(chosen.len());
        for root in chosen {
            point.check().await?;
            let name = format!("{}.{}", root.schema, root.name);
            self.progress.say(&name);
            let mut files = files.remove(&root.oid.0).unwrap_or_default();
            let beside = match now.tables.get(&root.oid.0) {
                Some(state) => strays.find(&state.path, &files).await?,
                None => BTreeMap::new(),
            };
            files.retain(counts);
            let planned = match &leaves_out {
                Some(reason) => Planned::Skip(reason.clone()),
                None => known.plan(root).await?,
            };
            let (verdict, mut notes) = match planned {
                Planned::Skip(reason) => (Verdict::Skipped { reason }, Vec::new()),
                Planned::Compare(table) => {
                    self.progress.source.expect(table.bytes());
                    let is_known =
                        now.tables.contains_key(&table.oid) || now.snapshots.contains_key(&table.oid);
                    let verdict = at.compare(&table, &files, is_known, self.request.keys).await?;
                    let Table { mut notes, doubts, .. } = *table;
                    if matches!(verdict, Verdict::Different(_)) {
                        notes.extend(doubts);
                    }
                    (verdict, notes)
                }
            };
            let verdict = verdict.with_strays(beside, &mut notes);
            tables.push(TableReport { table: name, verdict, notes });
        }
        Ok(Report { lsn: point.seen.lsn, time, tables })
    }

    /// Waits until the log has come to a position.
    async fn lake_at(&self, mut state: State, lsn: Lsn) -> Result<State> {
        let came = tokio::time::timeout(self.request.wait, async {
            while state.to_lsn < lsn {
                tokio::time::sleep(LOOK_EVERY).await;
                log::follow_on(self.store.as_ref(), &mut state).await?;
            }
            Ok::<_, Error>(())
        });
        match came.await {
            Ok(came) => came.map(|()| state),
            Err(_) => Err(Error::transient(format!(
                "the lake is at {}, and did not come to the source's {lsn} within {} s",
                state.to_lsn,
                self.request.wait.as_secs()
            ))
            .hint("does a daemon run, and does it keep up? `tributary status` says; `tributary run --until now` brings the lake up to date; --wait takes more time")),
        }
    }

    /// The lake of another database would differ in everything.
    async fn refuse_another_source(&self, sql: &Sql, state: &State) -> Result<()> {
        let rows = sql
            .query("identity of the source", "SELECT system_identifier::text FROM pg_control_system()", &[])
            .await?;
        let found: String =
            rows.first().map(|row| crate::source::sql::get(row, 0)).transpose()?.unwrap_or_default();
        if found == state.system_id {
            return Ok(());
        }
        Err(Error::halted(format!(
            "the lake is one of system {}, and the source is {found}",
            state.system_id
        ))
        .hint("is `source.url`, or `snapshot.url`, the right one?"))
    }
}

impl AtPoint<'_> {
    async fn compare(
        &self,
        table: &Table,
        files: &[files::DataFile],
        is_known: bool,
        keys: usize,
    ) -> Result<Verdict> {
        let (source, lake) =
            tokio::try_join!(Box::pin(self.source.sums(table)), Box::pin(self.lake.fold(table, files, &[])))?;
        let source = match source {
            Ok(source) => source,
            Err(Unread::Changed(how)) => return Ok(Verdict::Skipped { reason: format!("{CHANGED}: {how}") }),
            Err(Unread::Refused(why)) => {
                return Ok(Verdict::Skipped { reason: format!("it cannot be read: {why}") });
            }
        };
        let differing: Vec<u32> = (0..)
            .zip(source.iter().zip(&lake.sums))
            .filter(|(_, (source, lake))| source != lake)
            .map(|(bucket, _)| bucket)
            .collect();
        let rows = |sums: &[Sums]| sums.iter().map(|sums| sums.rows).sum();
        let (source_rows, lake_rows) = (rows(&source), rows(&lake.sums));
        if differing.is_empty() && lake.broken.is_empty() {
            return Ok(Verdict::Equal { rows: source_rows });
        }
        if !is_known {
            return Ok(Verdict::Skipped { reason: "the lake does not have it (yet)".to_owned() });
        }
        let shown = differing.get(..BUCKETS_SHOWN.min(differing.len())).unwrap_or_default();
        let mut difference = Difference {
            source_rows,
            lake_rows,
            buckets: differing.len(),
            of_buckets: source.len(),
            files: lake.broken,
            ..Difference::default()
        };
        if !shown.is_empty() {
            let numbers: Vec<i32> = shown.iter().filter_map(|bucket| i32::try_from(*bucket).ok()).collect();
            let (source, lake) = tokio::try_join!(
                Box::pin(self.source.rows(table, &numbers)),
                Box::pin(self.lake.fold(table, files, shown))
            )?;
            if let Ok(source) = source {
                difference.rows = row_differences(table, &source, &lake.shown);
            }
        }
        difference.has_more = difference.rows.len() > keys || differing.len() > shown.len();
        difference.rows.truncate(keys);
        Ok(Verdict::Different(difference))
    }
}

/// The rows that differ, and in which columns.
fn row_differences(
    table: &Table,
    source: &HashMap<Hash, Shown>,
    lake: &HashMap<Hash, Shown>,
) -> Vec<RowDifference> {
    let names = || table.key.iter().filter_map(|at| table.columns.get(*at)).map(|column| column.name.clone());
    let of = |shown: &Shown, what, columns| RowDifference {
        key: names().zip(shown.key.iter().cloned()).collect(),
        what,
        columns,
    };
    let mut found = Vec::new();
    for (hash, ours) in source {
        match lake.get(hash) {
            None => found.push(of(ours, RowFault::Missing, Vec::new())),
            Some(theirs) if theirs.count < ours.count => found.push(of(ours, RowFault::Missing, Vec::new())),
            Some(theirs) if theirs.count > ours.count => found.push(of(ours, RowFault::Extra, Vec::new())),
            Some(theirs) if theirs.cells != ours.cells => {
                let cells = ours.cells.iter().zip(&theirs.cells).zip(&table.columns);
                let columns = cells.filter(|((ours, theirs), _)| ours != theirs);
                let columns = columns.map(|(_, column)| column.name.clone()).collect();
                found.push(of(ours, RowFault::Values, columns));
            }
            Some(_) => {}
        }
    }
    let extra = lake.iter().filter(|(hash, _)| !source.contains_key(*hash));
    found.extend(extra.map(|(_, theirs)| of(theirs, RowFault::Extra, Vec::new())));
    found.sort_by(|a, b| (&a.key, a.what).cmp(&(&b.key, b.what)));
    found
}

/// Why no table can equal its source, if the publications leave changes out.
async fn left_out(sql: &Sql, publications: &[String]) -> Result<Option<String>> {
    let found = catalog::publication(sql, publications).await?;
    let missing: Vec<&str> = [
        ("inserts", found.iter().any(|publication| publication.insert)),
        ("updates", found.iter().any(|publication| publication.update)),
        ("deletions", found.iter().any(|publication| publication.delete)),
    ]
    .into_iter()
    .filter(|(_, is_published)| !is_published)
    .map(|(what, _)| what)
    .collect();
    Ok((!missing.is_empty()).then(|| format!("the publication leaves out {}", missing.join(" and "))))
}

/// A table that is truncated all the time may need several.
const LOOKS_MAX: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Of what differs, so many buckets are looked at row by row.
const BUCKETS_SHOWN: usize = 8;
/// A key, its last row, and the room that a table of hashes leaves.
const BYTES_A_KEY: u64 = 96;

#[cfg(test)]
mod tests;
