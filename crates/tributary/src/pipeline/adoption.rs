//! Folds a table of the lake onto the root that it was a leaf of all along, once a person has said which that is.
//!
//! Owns: the copy of its rows under the root's schema, in one cut with the word that it is a leaf, and with a `T` where they were.
//! Does not: decide who belongs to whom, or delete the files of before.
//! Holds: nobody streams meanwhile. The rows are in the root, all of them, or none is: one log entry decides. Each keeps its place in the
//! order of all changes, so that a later `T` of the root or of the leaf counts for it.
//! Fails: `Definite` before anything is written where a row would not fit; `Fenced` if another writer was quicker.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use lake::gauge::{Gauge, Use};
use lake::layout::{self, Hour};
use lake::log::{Author, EntryKind, Event, State, TableState};
use lake::publish;
use lake::store::Store;
use lake::writer::{Cut, FileSpec, Layout, OpenFile, Rows, Settings, Steps, Writer};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pgoutput::{Lsn, Xid};
use tables::adopt::Adoption;
use tables::batch::BatchBuilder;
use tables::change::{Change, Image, Landing, MARKER_SEQ, Op, Plan, TableIndex, TxStamp};
use tables::schema::TableSchema;

use super::offline;
use crate::clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::layouts::Layouts;

/// Who is to belong to whom, by the OIDs that the log knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) leaf: u32,
    pub(crate) root: u32,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copied {
    pub(crate) files: u64,
    pub(crate) rows: u64,
}

/// Copies the leaf's rows to the root, and says in the log that it is one.
pub(crate) async fn adopt(
    config: &Config,
    store: Arc<dyn Store>,
    mut state: State,
    pair: Pair,
) -> Result<Copied> {
    let target = Target::new(config, &state, pair)?;
    let (leaf, path) = (known(&state, pair.leaf)?.table.clone(), known(&state, pair.leaf)?.path.clone());
    let to_lsn = state.to_lsn;
    let author: Author =
        offline::append(store.as_ref(), &mut state, EntryKind::Open, to_lsn, Vec::new()).await?;
    // Files of the last cut may be the leaf's.
    publish::roll_forward(store.as_ref(), &state).await?;
    let gauge = Gauge::new(usize::try_from(config.memory.budget.as_u64()).unwrap_or(usize::MAX));
    let settings = Settings {
        file_bytes: config.cut.file_size.as_u64(),
        encoders: ENCODERS,
        uploads: UPLOADS,
        steps: Steps::default(),
    };
    let writer = Writer::start(Arc::clone(&store), Arc::clone(&gauge), settings, state, author);
    let mut copy =
        Copy { target, gauge, writer, open: BTreeMap::new(), newest: 0, copied: Copied::default() };
    copy.table(store.as_ref(), &path).await?;
    let attach = Event::Attach { root: pair.root, leaves: vec![(pair.leaf, leaf)] };
    copy.log(to_lsn, attach).await
}

fn known(state: &State, relation: u32) -> Result<&TableState> {
    state.tables.get(&relation).ok_or_else(|| Error::bug("a table is in the log and has no state"))
}

/// Both tables, as their files are written.
struct Target {
    adoption: Adoption,
    root: FileSpec,
    leaf: FileSpec,
    leaf_schema: Arc<TableSchema>,
}

impl Target {
    fn new(config: &Config, state: &State, pair: Pair) -> Result<Target> {
        let (leaf, root) = (known(state, pair.leaf)?, known(state, pair.root)?);
        let (leaf_schema, root_schema) = (schema_of(leaf)?, schema_of(root)?);
        let adoption = Adoption::new(&leaf_schema, &root_schema).map_err(|misfit| {
            let hint =
                format!("{} stays a table of its own; it can be read beside {}", leaf.table, root.table);
            Error::definite(format!("{} cannot be folded onto {}", leaf.table, root.table))
                .caused_by(misfit)
                .hint(hint)
        })?;
        let layouts = config.tables.layouts()?;
        Ok(Target {
            adoption,
            root: file_spec(&layouts, pair.root, root, &root_schema)?,
            leaf: file_spec(&layouts, pair.leaf, leaf, &leaf_schema)?,
            leaf_schema: Arc::new(leaf_schema),
        })
    }
}

fn file_spec(layouts: &Layouts, relation: u32, table: &TableState, schema: &TableSchema) -> Result<FileSpec> {
    let renamed = table.renamed.iter().map(|(schema, name)| (schema.as_str(), name.as_str()));
    let names = std::iter::once((table.schema_name.as_str(), table.table_name.as_str())).chain(renamed);
    let layout = match layouts.of(names) {
        Some(rule) => Layout::Values(rule.spec(&table.table, schema)?),
        // Each hour gets its own.
        None => Layout::Hour(Hour::of(0)),
    };
    Ok(FileSpec {
        table: table.table.clone(),
        relation,
        path: table.path.clone(),
        schema_id: table.schema_id,
        layout,
    })
}

/// Of the file that rows of an hour go to.
fn at_hour(spec: &FileSpec, hour: Hour) -> FileSpec {
    let layout = match &spec.layout {
        Layout::Hour(_) => Layout::Hour(hour),
        Layout::Values(values) => Layout::Values(Arc::clone(values)),
    };
    FileSpec { layout, ..spec.clone() }
}

fn schema_of(table: &TableState) -> Result<TableSchema> {
    table.document.read().map_err(|error| {
        Error::definite(format!("the schema of {} in the log cannot be read", table.table)).caused_by(error)
    })
}

/// Rows on their way.
struct Copy {
    target: Target,
    gauge: Arc<Gauge>,
    writer: Writer,
    /// By hour; all under one where the values of rows say where they go.
    open: BTreeMap<i64, OpenFile>,
    /// Of the newest row, in microseconds since 1970.
    newest: i64,
    copied: Copied,
}

impl Copy {
    /// Every file that is visible: each of them is logged (I4), and nobody writes another.
    async fn table(&mut self, store: &dyn Store, path: &str) -> Result<()> {
        let prefix = layout::data_folder(path);
        let mut after = None;
        loop {
            let listed = lake::retry::transient(|| store.list(&prefix, after.as_deref(), LIST_LIMIT)).await;
            let listed = listed.map_err(lake::Error::from)?;
            let Some(last) = listed.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for object in listed.iter().filter(|object| object.key.ends_with(".parquet")) {
                self.file(store, &object.key).await?;
            }
        }
    }

    async fn file(&mut self, store: &dyn Store, key: &str) -> Result<()> {
        let unreadable = |reason: String| Error::definite(format!("`{key}` cannot be read: {reason}"));
        let object = lake::retry::transient(|| store.get(key)).await.map_err(lake::Error::from)?;
        let object = object.ok_or_else(|| unreadable("it was listed and is gone".to_owned()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(object.bytes)
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
            .map_err(|error| unreadable(error.to_string()))?;
        for batch in reader {
            let batch = batch.map_err(|error| unreadable(error.to_string()))?;
            let rows = self.target.adoption.rows(&batch).map_err(|error| unreadable(error.to_string()))?;
            self.rows(&rows).await?;
        }
        self.copied.files += 1;
        Ok(())
    }

    async fn rows(&mut self, batch: &RecordBatch) -> Result<()> {
        let times = batch.column(COMMIT_TS).as_primitive::<TimestampMicrosecondType>();
        self.newest = times.values().iter().copied().fold(self.newest, i64::max);
        let hour = |time: i64| match self.target.root.layout {
            Layout::Hour(_) => Hour::of(time).hour,
            Layout::Values(_) => 0,
        };
        let hours: Vec<i64> = times.values().iter().map(|time| hour(*time)).collect();
        let mut distinct = hours.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for hour in distinct {
            let is_of_hour = BooleanArray::from_iter(hours.iter().map(|other| Some(*other == hour)));
            let rows = arrow::compute::filter_record_batch(batch, &is_of_hour)
                .map_err(|error| Error::bug("rows of one hour cannot be taken").caused_by(error))?;
            let spec = at_hour(&self.target.root, Hour { hour });
            let writer = &mut self.writer;
            let file = self.open.entry(hour).or_insert_with(|| writer.open_file(spec));
            self.copied.rows += u64::try_from(rows.num_rows()).unwrap_or_default();
            file.write(counted(rows, &self.gauge));
            file.keep_up(BATCHES_WAITING).await;
        }
        Ok(())
    }

    /// Ends the cut, in which the rows count no more where they were: nobody who reads both tables finds one twice.
    async fn log(mut self, to_lsn: Lsn, attach: Event) -> Result<Copied> {
        let marker = self.marker(to_lsn)?;
        let file = self.writer.open_file(at_hour(&self.target.leaf, Hour::of(self.newest)));
        file.write(Rows::alike(marker, to_lsn, self.newest, Op::Truncate.as_str(), &self.gauge));
        let written_at = lake::time::rfc3339(clock::unix_micros());
        let cut =
            Cut { to_lsn, from_commit_time: None, to_commit_time: None, written_at, events: vec![attach] };
        self.writer.cut(cut, self.open.into_values().chain([file]).collect())?;
        self.writer.published().await?;
        Ok(self.copied)
    }

    fn marker(&self, lsn: Lsn) -> Result<RecordBatch> {
        let bug = |error| Error::bug("a marker cannot be built").caused_by(error);
        let landing = Landing::of_markers(Arc::clone(&self.target.leaf_schema));
        let plan = Plan::new(self.target.leaf.table.as_str(), landing);
        let table = TableIndex::default();
        let marker = Change { table, op: Op::Truncate, seq: MARKER_SEQ, plan: &plan, image: Image::Empty };
        let stamp = TxStamp { commit_lsn: lsn, commit_time_unix_micros: self.newest, xid: Xid::default() };
        let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
        builder.append(&stamp, &marker).map_err(bug)?;
        builder.finish().map_err(bug)
    }
}

fn counted(batch: RecordBatch, gauge: &Arc<Gauge>) -> Rows {
    let range = |values: &[i64]| (values.iter().min().copied(), values.iter().max().copied());
    let lsns = range(batch.column(LSN).as_primitive::<Int64Type>().values());
    let times = range(batch.column(COMMIT_TS).as_primitive::<TimestampMicrosecondType>().values());
    let lsn = |lsn: Option<i64>| Lsn(lsn.unwrap_or_default().cast_unsigned());
    let ops = batch.column(OP).as_string::<i32>();
    let count = |op: &Op| ops.iter().filter(|found| *found == Some(op.as_str())).count();
    let ops = Op::ALL.iter().map(|op| (op.as_str(), u64::try_from(count(op)).unwrap_or_default()));
    Rows {
        lsn_range: (lsn(lsns.0), lsn(lsns.1)),
        ts_range: (times.0.unwrap_or_default(), times.1.unwrap_or_default()),
        ops: ops.filter(|(_, count)| *count > 0).collect(),
        reservation: gauge.reserve(Use::Buffers, batch.get_array_memory_size()),
        batch,
    }
}

/// Places of metadata columns.
const OP: usize = 0;
const LSN: usize = 1;
const COMMIT_TS: usize = 3;

/// What a listing asks for at once: what S3 gives at most.
const LIST_LIMIT: usize = 1_000;
const BATCH_ROWS: usize = 8_192;
/// Batches that wait for the encoder of a file: the next one is read meanwhile.
const BATCHES_WAITING: usize = 2;
const ENCODERS: usize = 2;
const UPLOADS: usize = 8;
