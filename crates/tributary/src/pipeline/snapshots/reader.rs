//! One reader of a snapshot: tasks in, files and what they have out.
//!
//! Owns: a session on the point's snapshot, and the files of the task at hand.
//! Does not: decide what is read, or put a file into a cut.
//! Holds: the rows of a task are in files that enter a cut together with the word that they were read, or nowhere. Memory is counted (I8): a
//! reader waits while it is short, and gives up what its files hold.
//! Fails: a connection that breaks is opened anew; a relation that cannot be read again and again is set aside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lake::gauge::{BATCH_BYTES, Gauge, Reservation, Use};
use lake::kill_points::kill_point;
use lake::log::{Chunk, ReadPiece};
use lake::writer::{OpenFile, Rows};
use pgoutput::{Lsn, Oid, Tuple, Xid};
use tables::batch::{BatchBuilder, CellError, Lossy};
use tables::change::{Change, Image, Op, TableIndex, TxStamp};
use tables::fold::Pattern;
use tables::schema::TableSchema;
use tables::types::{Loss, TypeCatalog};
use tokio::sync::mpsc;
use tracing::warn;

use super::{Announced, Part, Placement, Request, Settings, Work, ask, gone, lock};
use crate::buffers::{BATCH_ROWS, Finish};
use crate::error::{Error, Result};
use crate::retry::Backoff;
use crate::snapshot::query::{Announcement, Shape};
use crate::snapshot::worker::{Begun, Patience, Reading, Verdict, Worker, is_recovery_conflict, verdict};
use crate::source::{Folding, Sql};

/// What became of a task, or of a part of it.
pub(super) enum Outcome {
    /// Its rows are on their way into a cut.
    Read { chunk: Chunk, parts: usize },
    /// It is not what it was at the point: it is read at the next one.
    Changed { root: Oid },
    /// It cannot be read.
    SetAside { root: Oid, reason: String },
    /// It is not to be read any more.
    Skipped { root: Oid },
    /// Nobody can read at this point any more.
    PointLost(Error),
}

/// A reader.
pub(super) struct Reader {
    pub(super) settings: Arc<Settings>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) outcomes: mpsc::Sender<Outcome>,
    pub(super) queue: Arc<Mutex<VecDeque<Work>>>,
    /// Roots that are set aside.
    pub(super) aside: Arc<Mutex<BTreeSet<Oid>>>,
    pub(super) catalogs: Arc<Sql>,
    /// What is read, by the OIDs of roots and single leaves.
    pub(super) subjects: Arc<BTreeMap<Oid, Subject>>,
    pub(super) snapshot: String,
    pub(super) lsn: Lsn,
    pub(super) time_unix_micros: i64,
    pub(super) xmin: u64,
    pub(super) converts: bool,
}

/// A table, or a leaf that is read by itself.
pub(super) struct Subject {
    pub(super) name: String,
    /// The table that the rows belong to, if leaves fold at all.
    pub(super) root: Option<Oid>,
    /// Its schema and name.
    pub(super) root_name: (String, String),
}

impl Subject {
    /// Whether a relation is the table or a leaf of it by what it was at the point.
    fn has(&self, shape: &Shape, folding: &Folding) -> Result<bool> {
        let Some(root) = self.root else { return Ok(true) };
        if shape.root == root || !folding.has_rules() {
            return Ok(shape.root == root);
        }
        if shape.above.iter().any(|above| above.oid == root) {
            return Ok(true);
        }
        let names = shape.above.iter().map(|above| (above.schema.as_str(), above.name.as_str()));
        for (schema, name) in names.chain([(shape.schema.as_str(), shape.name.as_str())]) {
            let (root_schema, root_name) = (self.root_name.0.as_str(), self.root_name.1.as_str());
            let target = folding.pattern_of(schema, name)?.map(Pattern::target);
            // Also what has the name of a table that is in no catalog.
            if target == Some((root_schema, root_name)) || (schema, name) == (root_schema, root_name) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Why a task ended early.
enum Trouble {
    /// Without this part the task can be done.
    Part { root: Oid, relation: Oid, outcome: Outcome },
    /// With a part at hand, or none.
    Error(Error, Option<(Oid, Oid)>),
}

/// A file that the task fills.
struct TaskFile {
    root: Oid,
    table: TableIndex,
    schema: Arc<TableSchema>,
    time_unix_micros: i64,
    builder: BatchBuilder,
    gauge: Arc<Gauge>,
    /// What the builder holds.
    reservation: Reservation,
    file: OpenFile,
}

/// What a task has so far.
#[derive(Default)]
struct Taken {
    open: Option<TaskFile>,
    files: BTreeMap<Oid, Vec<OpenFile>>,
    chunks: BTreeMap<Oid, Chunk>,
    losses: BTreeMap<Oid, BTreeMap<(TableIndex, String, Loss), u64>>,
    parts: BTreeMap<Oid, usize>,
}

impl Reader {
    pub(super) async fn run(self) {
        let mut worker: Option<Worker> = None;
        let mut wal = self.settings.wal.clone();
        loop {
            crate::pipeline::wal::until_snapshots_may_read(&mut wal).await;
            let Some(mut work) = lock(&self.queue).pop_front() else { break };
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
            let mut tries: BTreeMap<Oid, u32> = BTreeMap::new();
            while !work.pieces.is_empty() {
                if let Err(outcome) = self.work(&mut worker, &mut work, &mut backoff, &mut tries).await {
                    drop(self.outcomes.send(outcome).await);
                    return;
                }
            }
        }
        if let Some(worker) = worker {
            worker.close().await;
        }
    }

    /// Tries the rest of a task. An error ends the reader.
    async fn work(
        &self,
        worker: &mut Option<Worker>,
        work: &mut Work,
        backoff: &mut Backoff,
        tries: &mut BTreeMap<Oid, u32>,
    ) -> Result<(), Outcome> {
        let set_aside = lock(&self.aside).clone();
        let (skipped, pieces): (VecDeque<Part>, VecDeque<Part>) =
            work.pieces.drain(..).partition(|part| set_aside.contains(&part.root));
        work.pieces = pieces;
        for part in skipped {
            self.tell(Outcome::Skipped { root: part.root }).await?;
        }
        match self.attempt(worker, work).await {
            Ok(taken) => {
                work.pieces.clear();
                self.hand_over(taken).await
            }
            Err(Trouble::Part { root, relation, outcome }) => {
                self.leave_out(work, root, relation, outcome).await
            }
            Err(Trouble::Error(error, at)) => {
                if worker.as_ref().is_some_and(Worker::is_closed) {
                    *worker = None;
                }
                // The catalogs are asked on a session that all readers share, and the next point brings another one. Without the stream nobody
                // takes what is read.
                if self.catalogs.is_closed() || self.requests.is_closed() {
                    return Err(Outcome::PointLost(error));
                }
                match (verdict(&error), at) {
                    (Verdict::NewPoint, _) => Err(Outcome::PointLost(error)),
                    (Verdict::SetAside, Some((root, relation))) => {
                        let outcome = Outcome::SetAside { root, reason: error.chain() };
                        self.leave_out(work, root, relation, outcome).await
                    }
                    (Verdict::SetAside | Verdict::Retry, at) => {
                        let at = at.unwrap_or_default();
                        let tried = tries.entry(at.1).or_default();
                        *tried += 1;
                        if *tried >= TRIES_MAX {
                            let (root, relation) = at;
                            if relation == Oid::default() || is_recovery_conflict(&error) {
                                return Err(Outcome::PointLost(error));
                            }
                            let outcome = Outcome::SetAside { root, reason: error.chain() };
                            return self.leave_out(work, root, relation, outcome).await;
                        }
                        let delay = backoff.next_delay();
                        self.settings.retries.inc();
                        warn!(error = error.chain(), ?delay, "a part of the snapshot is tried again");
                        tokio::time::sleep(delay).await;
                        Ok(())
                    }
                }
            }
        }
    }

    async fn tell(&self, outcome: Outcome) -> Result<(), Outcome> {
        self.outcomes.send(outcome).await.map_err(|_| Outcome::PointLost(gone()))
    }

    /// Takes the parts of a relation out of the task.
    async fn leave_out(
        &self,
        work: &mut Work,
        root: Oid,
        relation: Oid,
        outcome: Outcome,
    ) -> Result<(), Outcome> {
        let is_aside = matches!(outcome, Outcome::SetAside { .. });
        if is_aside {
            lock(&self.aside).insert(root);
        }
        let mut outcome = Some(outcome);
        let mut kept = VecDeque::new();
        for part in work.pieces.drain(..) {
            if part.piece.relation != relation {
                kept.push_back(part);
                continue;
            }
            let told = outcome.take().unwrap_or(Outcome::Skipped { root });
            self.tell(told).await?;
        }
        work.pieces = kept;
        Ok(())
    }

    /// What was read enters the next cut, root by root.
    async fn hand_over(&self, taken: Taken) -> Result<(), Outcome> {
        let Taken { open: _, mut files, chunks, mut losses, parts } = taken;
        for (root, chunk) in chunks {
            let files = files.remove(&root).unwrap_or_default();
            let losses = losses.remove(&root).unwrap_or_default();
            let losses = losses
                .into_iter()
                .map(|((table, column, loss), cells)| (table, column, loss, cells))
                .collect();
            let parts = parts.get(&root).copied().unwrap_or_default();
            let request = Request::Chunk { chunk: chunk.clone(), files, losses };
            self.requests.send(request).await.map_err(|_| Outcome::PointLost(gone()))?;
            self.tell(Outcome::Read { chunk, parts }).await?;
        }
        Ok(())
    }

    /// Reads a whole task.
    async fn attempt(&self, worker: &mut Option<Worker>, work: &Work) -> Result<Taken, Trouble> {
        let of_none = |error| Trouble::Error(error, None);
        let worker = match worker {
            Some(worker) => worker,
            None => {
                let Settings { options, .. } = &*self.settings;
                let catalogs = Arc::clone(&self.catalogs);
                let opened = Worker::open(options, &self.snapshot, catalogs, Patience::default()).await;
                worker.insert(opened.map_err(of_none)?)
            }
        };
        let mut relations: Vec<Oid> = work.pieces.iter().map(|part| part.piece.relation).collect();
        relations.dedup();
        let shapes = worker.shapes(&self.settings.publications, &relations).await.map_err(of_none)?;
        let shapes: BTreeMap<Oid, Shape> = shapes.into_iter().map(|shape| (shape.relation, shape)).collect();
        let mut announced: Vec<Oid> = shapes.values().map(|shape| shape.announced).collect();
        announced.sort_unstable();
        announced.dedup();
        let found = worker.announcements(&announced).await.map_err(of_none)?;
        let announcements: BTreeMap<Oid, Arc<Announcement>> =
            found.into_iter().map(|found| (found.relation, Arc::new(found))).collect();
        let mut taken = Taken::default();
        for part in &work.pieces {
            let at = (part.root, part.piece.relation);
            taken.begin(self, part, &shapes).map_err(of_none)?;
            // Not there yet at the point, or not published: the stream has its rows, or nobody wants them.
            let Some(shape) = shapes.get(&at.1) else { continue };
            let Some(announcement) = announcements.get(&shape.announced) else { continue };
            // Detached at the point: its rows are no rows of the root.
            if let Some(subject) = self.subjects.get(&part.root)
                && !subject.has(shape, &self.settings.folding).map_err(of_none)?
            {
                continue;
            }
            self.read_part(worker, part, shape, announcement, &mut taken).await.map_err(|trouble| {
                match trouble {
                    Trouble::Error(error, None) => Trouble::Error(error, Some(at)),
                    trouble => trouble,
                }
            })?;
        }
        taken.close().map_err(of_none)?;
        Ok(taken)
    }

    async fn read_part(
        &self,
        worker: &mut Worker,
        part: &Part,
        shape: &Shape,
        announcement: &Arc<Announcement>,
        taken: &mut Taken,
    ) -> Result<(), Trouble> {
        let plain = |error| Trouble::Error(error, None);
        let (root, relation) = (part.root, shape.relation);
        let changed = || Trouble::Part { root, relation, outcome: Outcome::Changed { root } };
        if shape.filenode != part.filenode {
            return Err(changed());
        }
        let texts = shape.texts(&TypeCatalog::default(), self.converts);
        let mut reading =
            match worker.read(shape, &texts, part.piece.blocks, part.since).await.map_err(plain)? {
                Begun::Reading(reading) => reading,
                Begun::Changed => return Err(changed()),
                Begun::Gone => {
                    return Err(Trouble::Part { root, relation, outcome: Outcome::Skipped { root } });
                }
            };
        let announced = Announced { announcement: Arc::clone(announcement), columns: shape.columns.clone() };
        let place = ask(&self.requests, |answer| Request::Place { relation: announced, answer }).await;
        let Some(placement) = place.map_err(plain)? else { return Ok(()) };
        let mut paid = 0;
        while reading.fill().await.map_err(plain)? {
            self.open_file(root, &placement, taken).await?;
            self.append_rows((root, relation), &mut reading, &placement, taken)?;
            kill_point("chunk-reading");
            self.wait_for_room(taken).await.map_err(plain)?;
            self.keep_pace(reading.bytes() - paid).await;
            paid = reading.bytes();
        }
        let bytes = reading.bytes();
        let rows = reading.end().await.map_err(plain)?;
        if let Some(chunk) = taken.chunks.get_mut(&root) {
            chunk.rows += rows;
            chunk.bytes += bytes;
        }
        Ok(())
    }

    /// Opens the file that the rows go into, if another one or none is open.
    async fn open_file(&self, root: Oid, placement: &Placement, taken: &mut Taken) -> Result<(), Trouble> {
        let plain = |error| Trouble::Error(error, None);
        let Placement { table, plan, refuses_loss } = placement;
        let is_open = |open: &TaskFile| (open.table, open.schema.id) == (*table, plan.schema.id);
        if !taken.open.as_ref().is_some_and(is_open) {
            taken.close().map_err(plain)?;
            let (schema, time_unix_micros) = (Arc::clone(&plan.schema), self.time_unix_micros);
            let open = |answer| Request::Open { table: *table, schema, time_unix_micros, answer };
            let file = ask(&self.requests, open).await.map_err(plain)?;
            let mut builder = BatchBuilder::new(Arc::clone(&plan.schema));
            if *refuses_loss {
                builder.refuse_loss();
            }
            let reservation = self.settings.gauge.reserve(Use::Buffers, 0);
            let schema = Arc::clone(&plan.schema);
            let (gauge, table) = (Arc::clone(&self.settings.gauge), *table);
            taken.open =
                Some(TaskFile { root, table, schema, time_unix_micros, builder, gauge, reservation, file });
        }
        Ok(())
    }

    /// Appends the rows that are there.
    fn append_rows(
        &self,
        (root, relation): (Oid, Oid),
        reading: &mut Reading<'_>,
        placement: &Placement,
        taken: &mut Taken,
    ) -> Result<(), Trouble> {
        let plain = |error| Trouble::Error(error, None);
        let Placement { table, plan, refuses_loss: _ } = placement;
        let Taken { open: Some(open), losses, .. } = taken else {
            return Err(plain(Error::bug("a file of the snapshot was just opened and is not there")));
        };
        let stamp = TxStamp {
            commit_lsn: self.lsn,
            commit_time_unix_micros: self.time_unix_micros,
            xid: Xid::default(),
        };
        let losses = losses.entry(root).or_default();
        let append = |tuple: Tuple<'_>| {
            let image = Image::Row { tuple, fill: None };
            let change = Change { table: *table, op: Op::Row, seq: SNAPSHOT_SEQ, plan, image };
            let appended =
                open.builder.append(&stamp, &change).map_err(|error| unreadable(&plan.relation, error))?;
            if appended.raw_cells > 0 {
                for Lossy { column, loss, cells } in open.builder.take_losses() {
                    let name = plan.schema.columns.get(column).map(|column| column.source_name.clone());
                    *losses.entry((*table, name.unwrap_or_default(), loss)).or_default() += cells;
                }
            }
            if open.builder.rows() >= BATCH_ROWS || open.builder.bytes() >= BATCH_BYTES {
                open.hand_over(BatchBuilder::finish_full)?;
            }
            Ok(())
        };
        let drained = reading.drain(append);
        open.reservation.resize(open.builder.held_bytes());
        match drained {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == crate::error::Kind::Definite => {
                let outcome = Outcome::SetAside { root, reason: error.chain() };
                Err(Trouble::Part { root, relation, outcome })
            }
            Err(error) => Err(plain(error)),
        }
    }

    /// Waits for the encoder, and while memory is short; what is open gives up what it holds first.
    async fn wait_for_room(&self, taken: &mut Taken) -> Result<()> {
        if let Some(open) = &taken.open {
            open.file.keep_up(READ_AHEAD_BATCHES).await;
        }
        while self.settings.gauge.is_short() {
            if let Some(open) = &mut taken.open {
                open.give_up()?;
            }
            tokio::time::sleep(SHORT_PAUSE).await;
        }
        Ok(())
    }

    /// Reads no faster than is wanted.
    async fn keep_pace(&self, bytes: u64) {
        let Some(rate) = self.settings.max_rate else { return };
        let workers = u64::try_from(self.settings.workers).unwrap_or(1);
        let micros = bytes.saturating_mul(1_000_000).saturating_mul(workers) / rate.max(1);
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

impl Taken {
    /// A part is about to be read.
    fn begin(&mut self, reader: &Reader, part: &Part, shapes: &BTreeMap<Oid, Shape>) -> Result<()> {
        if self.open.as_ref().is_some_and(|open| open.root != part.root) {
            self.close()?;
        }
        *self.parts.entry(part.root).or_default() += 1;
        let chunk = self.chunks.entry(part.root).or_insert_with(|| Chunk {
            table: reader.subjects.get(&part.root).map_or(String::new(), |subject| subject.name.clone()),
            relation: part.root.0,
            lsn: reader.lsn,
            xmin: reader.xmin,
            pieces: Vec::new(),
            rows: 0,
            bytes: 0,
        });
        chunk.pieces.push(ReadPiece {
            relation: part.piece.relation.0,
            filenode: part.filenode,
            definition: shapes.get(&part.piece.relation).map_or(0, |shape| shape.definition),
            from: part.piece.blocks.from,
            until: part.piece.blocks.until,
        });
        Ok(())
    }

    /// Ends the open file.
    fn close(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.hand_over(BatchBuilder::finish)?;
        // Nothing more comes: its memory becomes an upload.
        open.file.end();
        self.files.entry(open.root).or_default().push(open.file);
        Ok(())
    }
}

impl TaskFile {
    /// Gives up all that it holds, rows and the room for them included: others wait for the memory.
    fn give_up(&mut self) -> Result<()> {
        self.hand_over(BatchBuilder::finish)?;
        if self.file.memory_bytes() > 0 {
            self.file.end();
        }
        Ok(())
    }

    fn hand_over(&mut self, finish: Finish) -> Result<()> {
        if self.builder.held_bytes() == 0 {
            return Ok(());
        }
        let lsn_range = self.builder.lsn_range();
        let batch = finish(&mut self.builder)
            .map_err(|error| Error::bug("a batch of a snapshot cannot be built").caused_by(error))?;
        self.reservation.resize(self.builder.held_bytes());
        // All of one point; nothing if there was only room.
        let Some((lsn, _)) = lsn_range else { return Ok(()) };
        let op = Op::Row.as_str();
        self.file.write(Rows::alike(batch, lsn, self.time_unix_micros, op, &self.gauge));
        Ok(())
    }
}

fn unreadable(relation: &str, error: CellError) -> Error {
    Error::definite(format!("{relation}: a cell cannot be read")).caused_by(error)
}

/// `_cdc_seq` of a row that a snapshot read: before everything that committed at the point.
const SNAPSHOT_SEQ: i64 = -1;
/// Tries of one relation, before it is set aside.
const TRIES_MAX: u32 = 8;
/// Batches that are read ahead of their encoder. The server waits meanwhile; memory that is used again is warm, and files stay whole.
const READ_AHEAD_BATCHES: usize = 4;
/// How often a reader looks whether there is memory again.
const SHORT_PAUSE: Duration = Duration::from_millis(20);
