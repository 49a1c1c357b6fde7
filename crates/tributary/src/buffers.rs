//! The open cut: rows of every table and hour between Postgres and the lake.
//!
//! Owns: the batch builders and the files of the open cut, and the memory that the builders hold.
//! Does not: decide when to cut or when to stop reading; it says how much it holds.
//! Holds: every row appended since the last cut is in exactly one file of the next (I2); what the builders hold is counted in
//! the shared budget (I8).
//! Fails: with the cell that cannot be read, which stops the daemon before anything of the cut is logged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use lake::gauge::{BATCH_BYTES, Gauge, Reservation, Use};
use lake::layout::{self, Hour};
use lake::log::{Event, State};
use lake::writer::{FileSpec, Layout, OpenFile, Rows, Writer};
use pgoutput::Lsn;
use rustc_hash::FxHashMap;
use tables::batch::{BatchBuilder, CellError, Lossy};
use tables::change::{Change, Op, TableIndex, TxStamp};
use tables::fold::Table;
use tables::schema::TableSchema;
use tables::types::Loss;

use crate::error::{Error, Result};
use crate::layouts::Layouts;

/// What one builder of the open cut holds, and mostly one file: never more than one schema version or hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BufferKey {
    table: TableIndex,
    schema_id: u32,
    hour: Hour,
}

/// How a builder gives up its rows: it keeps room for as many again, or none.
pub(crate) type Finish = fn(&mut BatchBuilder) -> Result<RecordBatch, CellError>;

/// The rows of one file that are not handed to the lake yet.
struct Buffer {
    builder: BatchBuilder,
    schema: Arc<TableSchema>,
    hour: Hour,
    table: TableIndex,
    ts_range: (i64, i64),
    ops: [u64; Op::ALL.len()],
    file: Option<OpenFile>,
}

/// All buffers of the open cut.
pub struct Buffers {
    gauge: Arc<Gauge>,
    held: usize,
    reservation: Reservation,
    buffers: Vec<Buffer>,
    index: FxHashMap<BufferKey, usize>,
    last: Option<(BufferKey, usize)>,
    full: Vec<usize>,
    paths: Paths,
    layouts: Layouts,
    /// The files of tables that are laid out by their columns, by table and schema version: rows of all hours go into them.
    by_values: FxHashMap<(TableIndex, u32), OpenFile>,
    /// Updates, deletions and truncations of such tables.
    not_inserts: FxHashMap<TableIndex, u64>,
    /// By the OID of a table, the versions that the log or the open cut knows.
    schemas_logged: FxHashMap<u32, BTreeSet<u32>>,
    schema_news: Vec<(u32, u32, Event)>,
    rows: u64,
    lossy: FxHashMap<(TableIndex, String, Loss), u64>,
    /// A value that its lake type does not hold stops the daemon.
    refuses_loss: bool,
    wants_text: bool,
}

impl Buffers {
    /// No rows; the folders of known tables come from the log.
    pub fn new(gauge: Arc<Gauge>, state: &State, layouts: Layouts, refuses_loss: bool) -> Buffers {
        let reservation = gauge.reserve(Use::Buffers, 0);
        Buffers {
            gauge,
            held: 0,
            reservation,
            buffers: Vec::new(),
            index: FxHashMap::default(),
            last: None,
            full: Vec::new(),
            paths: Paths::from_log(state),
            layouts,
            by_values: FxHashMap::default(),
            not_inserts: FxHashMap::default(),
            schemas_logged: state
                .tables
                .iter()
                .map(|(oid, table)| (*oid, (1..=table.schema_id).collect()))
                .collect(),
            schema_news: Vec::new(),
            rows: 0,
            lossy: FxHashMap::default(),
            refuses_loss,
            wants_text: false,
        }
    }

    /// Whether the open cut has no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// A cell came in binary whose type is read as text only: the stream has to be asked for text.
    pub fn wants_text(&self) -> bool {
        self.wants_text
    }

    /// Rows of the open cut.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends one change of the transaction.
    pub fn append(&mut self, stamp: &TxStamp, change: &Change<'_, '_>) -> Result<()> {
        let key = BufferKey {
            table: change.table,
            schema_id: change.plan.schema.id,
            hour: Hour::of(stamp.commit_time_unix_micros),
        };
        let position = match self.last {
            Some((last, position)) if last == key => position,
            _ => self.position(key, &change.plan.schema),
        };
        self.last = Some((key, position));
        let Some(buffer) = self.buffers.get_mut(position) else {
            return Err(Error::bug("a buffer is indexed and not there"));
        };
        let before = buffer.builder.held_bytes();
        let appended = buffer.builder.append(stamp, change).map_err(|error| {
            if matches!(error, CellError::NoBinaryReader { .. }) {
                self.wants_text = true;
                return Error::transient(
                    "a published type is read as text only, so the stream is asked for text",
                )
                .caused_by(error);
            }
            unreadable(change, stamp, error)
        })?;
        buffer.note(stamp, change.op);
        self.held += buffer.builder.held_bytes().saturating_sub(before);
        if appended.raw_cells > 0 {
            let columns = &change.plan.schema.columns;
            for Lossy { column, loss, cells } in buffer.builder.take_losses() {
                let name = columns.get(column).map(|column| column.source_name.clone()).unwrap_or_default();
                *self.lossy.entry((change.table, name, loss)).or_default() += cells;
            }
        }
        self.rows += 1;
        if buffer.builder.rows() >= BATCH_ROWS || buffer.builder.bytes() >= BATCH_BYTES {
            // The rows of one message may fill it twice.
            if self.full.last() != Some(&position) {
                self.full.push(position);
            }
        }
        Ok(())
    }

    /// Whether a builder has enough rows for its encoder.
    pub fn has_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Gives such builders to their encoders.
    pub fn hand_over_full(&mut self, writer: &mut Writer, tables: &[Table]) -> Result<()> {
        while let Some(position) = self.full.pop() {
            self.hand_over(position, writer, tables, BatchBuilder::finish_full)?;
        }
        Ok(())
    }

    /// Counts what the builders hold in the shared budget. Called once for every batch of frames, not for every row.
    pub fn account(&mut self) {
        self.reservation.resize(self.held);
    }

    /// Cells that needed `_cdc_raw` since the last call, by table, column and reason.
    pub fn take_lossy(&mut self) -> impl Iterator<Item = ((TableIndex, String, Loss), u64)> {
        std::mem::take(&mut self.lossy).into_iter()
    }

    /// Updates, deletions and truncations of tables that are said to have none, since the last call.
    pub fn take_not_inserts(&mut self) -> impl Iterator<Item = (TableIndex, u64)> {
        std::mem::take(&mut self.not_inserts).into_iter()
    }

    /// Gives the largest builders to their encoders, until those keep at most half of what all keep now.
    pub fn hand_over_largest(&mut self, writer: &mut Writer, tables: &[Table]) -> Result<()> {
        let mut sizes: Vec<(usize, usize)> = self
            .buffers
            .iter()
            .enumerate()
            .map(|(position, buffer)| (buffer.builder.held_bytes(), position))
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let mut excess = sizes.iter().map(|(bytes, _)| bytes).sum::<usize>() / 2;
        for (bytes, position) in sizes {
            if excess == 0 || bytes == 0 {
                break;
            }
            self.hand_over(position, writer, tables, BatchBuilder::finish)?;
            excess = excess.saturating_sub(bytes);
        }
        Ok(())
    }

    /// Makes the largest encoders give up their memory: a long transaction holds the cut open and the budget is short.
    ///
    /// A file with enough bytes for a part only ends its row group; a smaller one is ended, since its bytes cannot be
    /// uploaded in any other way.
    pub fn relieve_encoders(&mut self, part_size: usize) {
        let of_hours = self.buffers.iter().filter_map(|buffer| buffer.file.as_ref());
        let mut files: Vec<&OpenFile> = of_hours.chain(self.by_values.values()).collect();
        files.sort_unstable_by_key(|file| std::cmp::Reverse(file.memory_bytes()));
        let mut excess = files.iter().map(|file| file.memory_bytes()).sum::<usize>() / 2;
        for file in files {
            let bytes = file.memory_bytes();
            if excess == 0 || bytes == 0 {
                break;
            }
            if bytes >= part_size {
                file.flush()
            } else {
                file.end()
            }
            excess = excess.saturating_sub(bytes);
        }
    }

    /// What a file is of that is filled elsewhere. Its schema is in the log before the file is, or with it.
    pub fn file_spec(&mut self, table: &Table, schema: &TableSchema, hour: Hour) -> Result<FileSpec> {
        let renamed = table.renamed.iter().map(|(schema, name)| (schema.as_str(), name.as_str()));
        let names = std::iter::once((table.schema_name.as_str(), table.name.as_str())).chain(renamed);
        let layout = match self.layouts.of(names) {
            Some(rule) => Layout::Values(rule.spec(&display_name(table), schema)?),
            None => Layout::Hour(hour),
        };
        self.note_schema(table, schema)?;
        Ok(FileSpec {
            table: display_name(table),
            relation: table.oid.0,
            path: self.paths.of(table),
            schema_id: schema.id,
            layout,
        })
    }

    /// Whether a value that its lake type does not hold stops the daemon.
    pub fn refuses_loss(&self) -> bool {
        self.refuses_loss
    }

    /// Ends the open cut: every row goes to its file, and the files to the caller.
    pub fn seal(&mut self, writer: &mut Writer, tables: &[Table]) -> Result<Vec<OpenFile>> {
        for position in 0..self.buffers.len() {
            self.hand_over(position, writer, tables, BatchBuilder::finish)?;
        }
        self.index.clear();
        self.full.clear();
        self.last = None;
        self.rows = 0;
        let of_hours = self.buffers.drain(..).filter_map(|buffer| buffer.file);
        Ok(of_hours.chain(self.by_values.drain().map(|(_, file)| file)).collect())
    }

    /// The schema versions that files of the open cut have and the log does not know yet, oldest first.
    pub fn take_schema_events(&mut self) -> Vec<Event> {
        let mut news = std::mem::take(&mut self.schema_news);
        news.sort_by_key(|(oid, id, _)| (*oid, *id));
        news.into_iter().map(|(_, _, event)| event).collect()
    }

    /// Remembers the version for the log if this cut is the first that has it.
    fn note_schema(&mut self, table: &Table, schema: &TableSchema) -> Result<()> {
        let logged = self.schemas_logged.entry(table.oid.0).or_default();
        if !logged.insert(schema.id) {
            return Ok(());
        }
        let document = serde_json::to_value(schema)
            .map_err(|error| Error::bug("a schema cannot be written").caused_by(error))?;
        let event = Event::Schema {
            table: display_name(table),
            schema_name: table.schema_name.clone(),
            table_name: table.name.clone(),
            relation: table.oid.0,
            path: self.paths.of(table),
            schema_id: schema.id,
            document,
        };
        self.schema_news.push((table.oid.0, schema.id, event));
        Ok(())
    }

    fn position(&mut self, key: BufferKey, schema: &Arc<TableSchema>) -> usize {
        if let Some(position) = self.index.get(&key) {
            return *position;
        }
        let position = self.buffers.len();
        let mut builder = BatchBuilder::new(Arc::clone(schema));
        if self.refuses_loss {
            builder.refuse_loss();
        }
        self.buffers.push(Buffer {
            builder,
            schema: Arc::clone(schema),
            hour: key.hour,
            table: key.table,
            ts_range: (i64::MAX, i64::MIN),
            ops: [0; Op::ALL.len()],
            file: None,
        });
        self.index.insert(key, position);
        position
    }

    fn hand_over(
        &mut self,
        position: usize,
        writer: &mut Writer,
        tables: &[Table],
        finish: Finish,
    ) -> Result<()> {
        let Some(buffer) = self.buffers.get(position) else { return Ok(()) };
        let Some(lsn_range) = buffer.builder.lsn_range() else {
            return self.give_room_back(position, tables);
        };
        let by_values = (buffer.table, buffer.schema.id);
        if buffer.file.is_none() && !self.by_values.contains_key(&by_values) {
            let Some(table) = table_of(tables, buffer.table) else {
                return Err(Error::bug("rows of a table that the fold does not know"));
            };
            let (schema, hour) = (Arc::clone(&buffer.schema), buffer.hour);
            let spec = self.file_spec(table, &schema, hour)?;
            let is_of_hour = matches!(spec.layout, Layout::Hour(_));
            let file = writer.open_file(spec);
            let Some(buffer) = self.buffers.get_mut(position) else { return Ok(()) };
            if is_of_hour {
                buffer.file = Some(file);
            } else {
                self.by_values.insert(by_values, file);
            }
        }
        let Some(buffer) = self.buffers.get_mut(position) else { return Ok(()) };
        let before = buffer.builder.held_bytes();
        let not_inserts = buffer.not_inserts();
        let rows = buffer
            .take(finish, lsn_range, &self.gauge)
            .map_err(|error| unbuildable(tables, buffer.table, error))?;
        self.held = self.held.saturating_sub(before) + buffer.builder.held_bytes();
        self.reservation.resize(self.held);
        if let Some(file) = &buffer.file {
            file.write(rows);
        } else if let Some(file) = self.by_values.get(&by_values) {
            if not_inserts > 0 {
                *self.not_inserts.entry(buffer.table).or_default() += not_inserts;
            }
            file.write(rows);
        }
        Ok(())
    }

    /// Gives up what a builder without rows keeps room for.
    fn give_room_back(&mut self, position: usize, tables: &[Table]) -> Result<()> {
        let Some(buffer) = self.buffers.get_mut(position) else { return Ok(()) };
        let room = buffer.builder.held_bytes();
        if room > 0 {
            buffer.builder.finish().map_err(|error| unbuildable(tables, buffer.table, error))?;
            self.held = self.held.saturating_sub(room);
            self.reservation.resize(self.held);
        }
        Ok(())
    }
}

fn unbuildable(tables: &[Table], table: TableIndex, error: CellError) -> Error {
    Error::bug(format!("{}: a batch cannot be built", name_of(tables, table))).caused_by(error)
}

impl Buffer {
    fn note(&mut self, stamp: &TxStamp, op: Op) {
        let time = stamp.commit_time_unix_micros;
        self.ts_range = (self.ts_range.0.min(time), self.ts_range.1.max(time));
        for (count, counted) in self.ops.iter_mut().zip(Op::ALL) {
            if counted == op {
                *count += 1;
            }
        }
    }

    /// Rows that are no insertions.
    fn not_inserts(&self) -> u64 {
        let counted = Op::ALL.iter().zip(self.ops).filter(|(op, _)| !matches!(op, Op::Insert | Op::Row));
        counted.map(|(_, count)| count).sum()
    }

    fn take(&mut self, finish: Finish, lsn_range: (Lsn, Lsn), gauge: &Arc<Gauge>) -> Result<Rows, CellError> {
        let ops = Op::ALL.iter().zip(self.ops).map(|(op, count)| (op.as_str(), count)).collect();
        let batch = finish(&mut self.builder)?;
        // By capacity: a buffer that grew by doubling holds up to twice its bytes.
        let reservation = gauge.reserve(Use::Waiting, batch.get_array_memory_size());
        let rows = Rows { batch, lsn_range, ts_range: self.ts_range, ops, reservation };
        self.ts_range = (i64::MAX, i64::MIN);
        self.ops = [0; Op::ALL.len()];
        Ok(rows)
    }
}

/// Which folder each table has; assigned once, then read from the log.
struct Paths {
    by_oid: FxHashMap<u32, String>,
    taken: BTreeMap<String, u32>,
}

impl Paths {
    fn from_log(state: &State) -> Paths {
        let mut paths = Paths { by_oid: FxHashMap::default(), taken: BTreeMap::new() };
        for (oid, table) in &state.tables {
            paths.by_oid.insert(*oid, table.path.clone());
            paths.taken.insert(table.path.clone(), *oid);
        }
        paths
    }

    /// The folder of a table. A table that took the name of another one (dropped and made anew, or renamed away) gets a
    /// folder of its own, told apart by its OID: two incarnations never mix in one folder (T41).
    fn of(&mut self, table: &Table) -> String {
        if let Some(path) = self.by_oid.get(&table.oid.0) {
            return path.clone();
        }
        let plain = layout::table_path(&table.schema_name, &table.name);
        let path = if self.taken.contains_key(&plain) { format!("{plain}_{}", table.oid.0) } else { plain };
        self.taken.insert(path.clone(), table.oid.0);
        self.by_oid.insert(table.oid.0, path.clone());
        path
    }
}

/// What a row that cannot be appended means for the daemon.
fn unreadable(change: &Change<'_, '_>, stamp: &TxStamp, error: CellError) -> Error {
    let (relation, commit_lsn) = (&change.plan.relation, stamp.commit_lsn);
    if matches!(error, CellError::Unrepresentable { .. }) {
        return Error::definite(format!("{relation}: a value cannot be kept as it is, in the transaction that commits at {commit_lsn}"))
            .caused_by(error)
            .hint("nothing of this transaction was exported and nothing is lost; `types.on_unrepresentable = \"raw\"` keeps the exact text in _cdc_raw, and [types.columns] gives the column another form");
    }
    Error::definite(format!("{relation}: a cell cannot be read, in the transaction that commits at {commit_lsn}"))
        .caused_by(error)
        .hint("nothing of this transaction was exported and nothing is lost; please report the column's type, and exclude the table with `tables.exclude` to go on without it")
}

/// `schema.table` as Postgres names it.
pub fn display_name(table: &Table) -> String {
    format!("{}.{}", table.schema_name, table.name)
}

/// The name of a table by its index, for messages.
pub fn name_of(tables: &[Table], index: TableIndex) -> String {
    table_of(tables, index).map_or_else(|| "an unknown table".to_owned(), display_name)
}

fn table_of(tables: &[Table], index: TableIndex) -> Option<&Table> {
    tables.get(usize::try_from(index.0).ok()?)
}

/// Rows after which a builder is handed to its encoder: enough for the encoder to work by columns.
pub(crate) const BATCH_ROWS: usize = 32_768;

#[cfg(test)]
mod tests;
