//! Turns batches into durable objects, in order.
//!
//! Owns: files being encoded, uploads in flight, and the order in which cuts are logged and published.
//! Does not: decide when to cut (the pipeline's buffers do), or speak to Postgres.
//! Holds: I3, entries are appended and files published in cut order; entry N+1 is created only after N is published; at most
//! `CUTS_IN_FLIGHT_MAX` cuts wait. I4, no file is completed before its entry is durable.
//! Fails: the first error ends the writer and comes out of [`Writer::published`]; `Fenced` when another writer took the next entry.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use pgoutput::Lsn;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::gauge::{Gauge, Reservation, Use};
use crate::layout::{Hour, PartitionSpec};
use crate::log::{Author, Event, State};
use crate::store::Store;

mod committer;
mod file;
mod split;
mod steps;

pub use committer::Published;
use committer::{Committer, Sealed, SealedFile};
use file::{Backlog, Command, FileTask};
pub use steps::{Step, Steps};

/// What a writer is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A file ends at this size.
    pub file_bytes: u64,
    /// Batches encoded at once.
    pub encoders: usize,
    /// Parts uploaded at once.
    pub uploads: usize,
    /// Who is told how long it took.
    pub steps: Steps,
}

/// Writes files and log entries of one daemon start.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    next_seq: u64,
    open_files: usize,
    /// How many files each folder has in the open cut, or each table that is laid out by values. Two schema versions of one transaction
    /// have the same range of LSNs, so that only this number tells their names apart (T38).
    numbers: HashMap<(String, Option<Hour>), Arc<AtomicU32>>,
    cuts: mpsc::Sender<Sealed>,
    published: mpsc::Receiver<Result<Published, Error>>,
    committer: JoinSet<()>,
}

/// What all tasks of a writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) settings: Settings,
    pub(crate) encoders: Semaphore,
    pub(crate) uploads: Semaphore,
    /// Tables of which was said that too few of their files may be open.
    pub(crate) crowded: Mutex<HashSet<u32>>,
}

/// Of what a file is.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// `schema.table` as Postgres names it.
    pub table: String,
    /// The OID of the root table.
    pub relation: u32,
    /// The table's folder in the lake.
    pub path: String,
    /// The version of its schema.
    pub schema_id: u32,
    /// Where its rows lie.
    pub layout: Layout,
}

/// Which folders rows go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All to the one of this hour.
    Hour(Hour),
    /// Each to that of its values. One [`OpenFile`] is then several files.
    Values(Arc<PartitionSpec>),
}

impl Layout {
    fn hour(&self) -> Option<Hour> {
        match self {
            Layout::Hour(hour) => Some(*hour),
            Layout::Values(_) => None,
        }
    }
}

/// Rows on their way into a file.
#[derive(Debug)]
pub struct Rows {
    /// The rows.
    pub batch: RecordBatch,
    /// Lowest and highest `_cdc_lsn`.
    pub lsn_range: (Lsn, Lsn),
    /// Lowest and highest `_cdc_commit_ts` in microseconds since 1970.
    pub ts_range: (i64, i64),
    /// Rows by `_cdc_op`.
    pub ops: Vec<(&'static str, u64)>,
    /// The memory that the rows hold; given back once they are encoded.
    pub reservation: Reservation,
}

impl Rows {
    /// Rows of one position, one time in microseconds since 1970 and one `_cdc_op`. By capacity, they count as buffers from here on.
    pub fn alike(batch: RecordBatch, lsn: Lsn, time: i64, op: &'static str, gauge: &Arc<Gauge>) -> Rows {
        let reservation = gauge.reserve(Use::Buffers, batch.get_array_memory_size());
        let count = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        Rows { batch, lsn_range: (lsn, lsn), ts_range: (time, time), ops: vec![(op, count)], reservation }
    }
}

/// The files of one table, schema version and hour within the open cut, or of all its values: rows go in, files come out at the cut.
#[derive(Debug)]
pub struct OpenFile {
    commands: mpsc::UnboundedSender<Command>,
    backlog: Arc<Backlog>,
    memory: Arc<AtomicUsize>,
    task: JoinSet<Result<Vec<crate::log::FileEntry>, Error>>,
    spec: FileSpec,
}

impl OpenFile {
    /// Hands over rows. They count against the memory budget until they are encoded, which is what bounds the channel.
    pub fn write(&self, rows: Rows) {
        // A closed channel means that the task failed; its error comes out at the cut.
        drop(self.commands.send(Command::Rows(rows, self.backlog.add())));
    }

    /// Waits until no more than so many batches wait to be encoded. Who can wait does not fill the budget with what is to be encoded.
    pub async fn keep_up(&self, batches: usize) {
        self.backlog.wait_for(batches).await;
    }

    /// Ends the row group, so that its memory becomes parts to upload. Of several files, those end that are smaller than a part.
    pub fn flush(&self) {
        drop(self.commands.send(Command::Flush));
    }

    /// Ends the file and uploads it; rows that follow go into another file of the same cut.
    pub fn end(&self) {
        drop(self.commands.send(Command::End));
    }

    /// Memory that the encoder holds, or all of them.
    pub fn memory_bytes(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }
}

/// What a cut says besides its files.
#[derive(Debug)]
pub struct Cut {
    /// Where a resume starts after it: the `end_lsn` of its last transaction.
    pub to_lsn: Lsn,
    /// Commit time of its first transaction in microseconds since 1970, if it has one; for whoever measures how fresh the lake is.
    pub from_commit_time: Option<i64>,
    /// Commit time of its last transaction in microseconds since 1970, if it has one.
    pub to_commit_time: Option<i64>,
    /// When it is written, for people.
    pub written_at: String,
    /// What else happened.
    pub events: Vec<Event>,
}

impl Writer {
    /// A writer that continues a log whose last entry is the author's `open`.
    pub fn start(
        store: Arc<dyn Store>,
        gauge: Arc<Gauge>,
        settings: Settings,
        state: State,
        author: Author,
    ) -> Writer {
        let encoders = Semaphore::new(settings.encoders);
        let uploads = Semaphore::new(settings.uploads);
        let shared =
            Arc::new(Shared { store, gauge, settings, encoders, uploads, crowded: Mutex::default() });
        let (cuts, sealed) = mpsc::channel(CUTS_IN_FLIGHT_MAX);
        let (announce, published) = mpsc::channel(CUTS_IN_FLIGHT_MAX * 2);
        let next_seq = state.seq + 1;
        let mut committer = JoinSet::new();
        committer.spawn(Committer::new(Arc::clone(&shared), state, author).run(sealed, announce));
        Writer { shared, next_seq, open_files: 0, numbers: HashMap::new(), cuts, published, committer }
    }

    /// Opens the file of a table and hour in the open cut.
    pub fn open_file(&mut self, spec: FileSpec) -> OpenFile {
        self.open_files += 1;
        self.open_file_apart(spec)
    }

    /// Opens a file that belongs to no cut yet; to the one that is open when [`Writer::adopt`] is called, or to none if it is dropped.
    pub fn open_file_apart(&mut self, spec: FileSpec) -> OpenFile {
        let (commands, received) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        let memory = Arc::new(AtomicUsize::new(0));
        let numbers = self.numbers.entry((spec.path.clone(), spec.layout.hour())).or_default();
        let (shared, numbers) = (Arc::clone(&self.shared), Arc::clone(numbers));
        let file = FileTask::new(shared, spec.clone(), self.next_seq, numbers, Arc::clone(&memory));
        task.spawn(file.run(received));
        OpenFile { commands, backlog: Arc::default(), memory, task, spec }
    }

    /// Such a file belongs to the open cut from here on: it has to be among the files of [`Writer::cut`].
    pub fn adopt(&mut self, _file: &OpenFile) {
        self.open_files += 1;
    }

    /// Whether another cut would be taken at once.
    pub fn has_room(&self) -> bool {
        self.cuts.capacity() > 0
    }

    /// Ends the open cut: its files are finished, logged and published behind the cuts before it.
    ///
    /// Without files it becomes an idle entry. Call it only if [`Writer::has_room`].
    pub fn cut(&mut self, cut: Cut, files: Vec<OpenFile>) -> Result<(), Error> {
        assert_eq!(files.len(), self.open_files, "every file of the open cut belongs to it");
        self.open_files = 0;
        self.numbers.clear();
        let sealed = Sealed {
            seq: self.next_seq,
            cut,
            files: files.into_iter().map(|file| SealedFile { spec: file.spec, task: file.task }).collect(),
        };
        self.next_seq += 1;
        match self.cuts.try_send(sealed) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Error::Bug("a cut was made without room for it".to_owned()))
            }
            // The committer failed; its error is waiting in `published`.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// The next cut that is published, in order; or why the writer ended.
    pub async fn published(&mut self) -> Result<Published, Error> {
        match self.published.recv().await {
            Some(outcome) => outcome,
            None => Err(Error::Bug("the committer ended without a word".to_owned())),
        }
    }

    /// Stops everything that is in flight and waits until it stands still. What was logged stays logged.
    pub async fn abandon(mut self) {
        self.committer.shutdown().await;
    }
}

/// Cuts that are sealed and not published: while one is logged, one is uploaded and one is filled.
const CUTS_IN_FLIGHT_MAX: usize = 3;

#[cfg(test)]
pub(crate) mod tests;
