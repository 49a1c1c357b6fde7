//! One table's files within one cut: encode, collect parts, upload them.
//!
//! Owns: the encoders of its open files, their parts in flight, and the sequence of files as each reaches its size.
//! Does not: complete an upload; nothing that this task does is visible.
//! Holds: encoding runs on blocking threads; every part but the last has the store's part size. Of files that are laid out by values no more
//! are open at once than their layout allows, and than a part of the budget holds (I8).
//! Fails: store errors that a retry cannot mend, and encoder errors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use ::parquet::errors::ParquetError;
use bytes::Bytes;
use pgoutput::Lsn;
use rustc_hash::FxHashMap;
use tokio::sync::{AcquireError, Notify, SemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tracing::warn;

use super::split::{Part as Piece, split};
use super::{FileSpec, Layout, Rows, Shared, Step};
use crate::ambient;
use crate::error::Error;
use crate::gauge::{Reservation, Use};
use crate::kill_points::{kill_point, within};
use crate::layout::{self, Partition, PartitionSpec};
use crate::log::FileEntry;
use crate::parquet::{Encoder, Finished};
use crate::retry::transient;
use crate::store::{Part, StoreError};
use crate::time;

/// What a file task is told; the end of the channel means: finish.
#[derive(Debug)]
pub(super) enum Command {
    Rows(Rows, Waiting),
    Flush,
    End,
}

/// How many batches of a file wait to be encoded.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    batches: AtomicUsize,
    shrunk: Notify,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Backlog>);

impl Backlog {
    pub(super) fn add(self: &Arc<Backlog>) -> Waiting {
        self.batches.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }

    pub(super) async fn wait_for(&self, batches: usize) {
        loop {
            let mut shrunk = std::pin::pin!(self.shrunk.notified());
            // Before the look, so that what shrinks it behind the look wakes us.
            shrunk.as_mut().enable();
            if self.batches.load(Ordering::Relaxed) <= batches {
                return;
            }
            shrunk.await;
        }
    }
}

impl Drop for Waiting {
    /// Also when the task that was to encode it fails.
    fn drop(&mut self) {
        self.0.batches.fetch_sub(1, Ordering::Relaxed);
        self.0.shrunk.notify_waiters();
    }
}

/// The task of one [`super::OpenFile`].
pub(super) struct FileTask {
    target: Arc<Target>,
    finished: Vec<FileEntry>,
    open: FxHashMap<Partition, Open>,
    /// Files that take no more rows, on their way to the store.
    ending: JoinSet<Result<FileEntry, Error>>,
    /// Counts up with every batch of rows.
    clock: u64,
}

/// Where the files of a task go. Apart from the encoder, which may be used by one thread at a time only.
struct Target {
    shared: Arc<Shared>,
    spec: FileSpec,
    seq: u64,
    /// Of the next file in the folder, whichever task begins it.
    numbers: Arc<AtomicU32>,
    memory: Arc<AtomicUsize>,
}

/// A file that is being written.
struct Open {
    partition: Partition,
    /// When rows came last, by the clock of the task.
    used: u64,
    encoder: Encoder,
    encoder_memory: Reservation,
    part: u32,
    first_lsn: Lsn,
    last_lsn: Lsn,
    ts_range: (i64, i64),
    ops: BTreeMap<String, u64>,
    rows: u64,
    upload: Option<Upload>,
}

/// To encode: there are as many as encoders that may run at once.
type Permit<'s> = Result<SemaphorePermit<'s>, AcquireError>;

/// An upload that was begun.
struct Upload {
    key: String,
    id: String,
    next_number: u32,
    offset: u64,
    parts: JoinSet<Result<Part, StoreError>>,
}

impl FileTask {
    pub(super) fn new(
        shared: Arc<Shared>,
        spec: FileSpec,
        seq: u64,
        numbers: Arc<AtomicU32>,
        memory: Arc<AtomicUsize>,
    ) -> FileTask {
        let target = Arc::new(Target { shared, spec, seq, numbers, memory });
        let (finished, open, ending) = (Vec::new(), FxHashMap::default(), JoinSet::new());
        FileTask { target, finished, open, ending, clock: 0 }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<Vec<FileEntry>, Error> {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Rows(rows, waiting) => {
                    self.write(rows, &commands).await?;
                    drop(waiting);
                }
                Command::Flush => self.flush().await?,
                Command::End => self.end_all().await?,
            }
        }
        self.end_all().await?;
        Ok(self.finished)
    }

    async fn write(&mut self, rows: Rows, commands: &mpsc::UnboundedReceiver<Command>) -> Result<(), Error> {
        let spec = match &self.target.spec.layout {
            Layout::Hour(hour) => return self.write_to(Partition::Hour(*hour), rows, commands).await,
            Layout::Values(spec) => Arc::clone(spec),
        };
        let mut pieces = self.target.split(rows, &spec).await?;
        // Files that are open take their rows before any of them has to end for another one.
        pieces.sort_by_key(|piece| !self.open.contains_key(&piece.partition));
        for Piece { partition, rows } in pieces {
            if !self.open.contains_key(&partition) {
                self.make_room(spec.open_max).await?;
            }
            self.write_to(partition, rows, commands).await?;
        }
        Ok(())
    }

    /// Ends the files that wait longest for rows, until another one may be open.
    async fn make_room(&mut self, open_max: usize) -> Result<(), Error> {
        // Encoders that hold little still hold something, and a table may have 1,600 columns.
        let memory_max = self.target.shared.gauge.budget() / 4;
        while self.open.len() >= open_max || self.target.memory.load(Ordering::Relaxed) > memory_max {
            self.target.say_crowded(self.open.len());
            let oldest = self.open.values().min_by_key(|open| open.used).map(|open| open.partition.clone());
            let Some(oldest) = oldest.and_then(|oldest| self.open.remove(&oldest)) else { return Ok(()) };
            self.end(oldest).await?;
        }
        Ok(())
    }

    /// Encodes rows. An encoder is made only once it may run: of a thousand tables that wait for their turn, each holds its few rows
    /// and not the megabyte that an encoder is.
    async fn write_to(
        &mut self,
        partition: Partition,
        rows: Rows,
        commands: &mpsc::UnboundedReceiver<Command>,
    ) -> Result<(), Error> {
        self.clock += 1;
        let target = Arc::clone(&self.target);
        let permit = target.shared.encoders.acquire().await;
        let mut open = match self.open.remove(&partition) {
            Some(open) => open,
            None => self.target.begin(partition, &rows)?,
        };
        open.used = self.clock;
        open.account(&rows);
        let Rows { batch, reservation, .. } = rows;
        let work = move |encoder: &mut Encoder| {
            encoder.write(&batch)?;
            drop((batch, reservation));
            Ok(())
        };
        let open = self.target.encode(open, work).await?;
        if commands.is_closed() && commands.is_empty() && self.target.spec.layout.hour().is_some() {
            self.target.memory.fetch_sub(open.encoder_memory.bytes(), Ordering::Relaxed);
            self.finished.push(self.target.finish(open, permit).await?);
            return Ok(());
        }
        drop(permit);
        if open.encoder.file_bytes() >= self.target.shared.settings.file_bytes {
            return self.end(open).await;
        }
        let open = self.target.upload_ready(open).await?;
        self.open.insert(open.partition.clone(), open);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let part_size = self.target.shared.store.part_size();
        let is_one = self.target.spec.layout.hour().is_some();
        for (partition, open) in std::mem::take(&mut self.open) {
            // The bytes of a file that is smaller than a part can be uploaded only at its end.
            if is_one || open.encoder.memory_bytes() >= part_size {
                let permit = self.target.shared.encoders.acquire().await;
                let open = self.target.encode(open, Encoder::flush).await?;
                drop(permit);
                if open.encoder.has_part() {
                    self.open.insert(partition, self.target.upload_ready(open).await?);
                } else {
                    // What it holds can be given back in no other way.
                    self.end(open).await?;
                }
            } else {
                self.end(open).await?;
            }
        }
        Ok(())
    }

    /// Ends a file, whose entry is in `finished` once it is uploaded.
    async fn end(&mut self, open: Open) -> Result<(), Error> {
        let in_flight = if self.target.spec.layout.hour().is_some() { 1 } else { ENDING_MAX };
        let target = Arc::clone(&self.target);
        // It gives back by itself what it holds.
        target.memory.fetch_sub(open.encoder_memory.bytes(), Ordering::Relaxed);
        self.ending.spawn(async move {
            let permit = target.shared.encoders.acquire().await;
            target.finish(open, permit).await
        });
        self.settle(in_flight - 1).await
    }

    async fn end_all(&mut self) -> Result<(), Error> {
        for (_, open) in std::mem::take(&mut self.open) {
            self.end(open).await?;
        }
        self.settle(0).await
    }

    /// Waits until no more files than these are ending.
    async fn settle(&mut self, in_flight: usize) -> Result<(), Error> {
        while self.ending.len() > in_flight
            && let Some(ended) = self.ending.join_next().await
        {
            let entry = ended.map_err(|error| Error::Bug(format!("the end of a file was lost: {error}")))?;
            self.finished.push(entry?);
        }
        Ok(())
    }
}

impl Target {
    /// Takes rows apart by their values.
    async fn split(&self, rows: Rows, spec: &Arc<PartitionSpec>) -> Result<Vec<Piece>, Error> {
        let (spec, gauge) = (Arc::clone(spec), Arc::clone(&self.shared.gauge));
        let permit = self.shared.encoders.acquire().await;
        let pieces = blocking(&self.spec.table, move || Ok(split(rows, &spec, &gauge)?)).await;
        drop(permit);
        pieces
    }

    /// Once a table.
    fn say_crowded(&self, open: usize) {
        let mut crowded = self.shared.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        if crowded.insert(self.spec.relation) {
            warn!(
                table = self.spec.table,
                open,
                "rows go to more partitions at once than may be open, so that files end early and are small; \
                 see `open_partitions` and `memory.budget`"
            );
        }
    }

    fn begin(&self, partition: Partition, rows: &Rows) -> Result<Open, Error> {
        let part_bytes = self.shared.store.part_size();
        let encoder = Encoder::new(&rows.batch, &self.spec.table, self.spec.schema_id, part_bytes)
            .map_err(|source| Error::Encode { table: self.spec.table.clone(), source })?;
        Ok(Open {
            partition,
            used: 0,
            encoder,
            encoder_memory: self.shared.gauge.reserve(Use::Encoders, 0),
            part: self.numbers.fetch_add(1, Ordering::Relaxed),
            first_lsn: rows.lsn_range.0,
            last_lsn: rows.lsn_range.1,
            ts_range: rows.ts_range,
            ops: BTreeMap::new(),
            rows: 0,
            upload: None,
        })
    }

    /// Encodes; call it with a permit.
    async fn encode(
        &self,
        mut open: Open,
        work: impl FnOnce(&mut Encoder) -> Result<(), ParquetError> + Send + 'static,
    ) -> Result<Open, Error> {
        let steps = self.shared.settings.steps.clone();
        let work = move || {
            let begun = Instant::now();
            work(&mut open.encoder)?;
            steps.tell(Step::Encode, begun.elapsed());
            Ok(open)
        };
        open = blocking(&self.spec.table, work).await?;
        self.account(&mut open);
        Ok(open)
    }

    fn account(&self, open: &mut Open) {
        let held = open.encoder.memory_bytes();
        self.memory.fetch_add(held, Ordering::Relaxed);
        self.memory.fetch_sub(open.encoder_memory.bytes(), Ordering::Relaxed);
        open.encoder_memory.resize(held);
    }

    /// Uploads what fills whole parts.
    async fn upload_ready(&self, mut open: Open) -> Result<Open, Error> {
        while let Some(bytes) = open.encoder.take_part() {
            let mut begun = match open.upload.take() {
                Some(begun) => begun,
                None => self.begin_upload(&open.partition, open.part, open.first_lsn, None).await?,
            };
            self.upload_part(&mut begun, bytes);
            open.upload = Some(begun);
        }
        self.account(&mut open);
        Ok(open)
    }

    async fn finish(&self, open: Open, permit: Permit<'_>) -> Result<FileEntry, Error> {
        let Open {
            partition,
            used: _,
            encoder,
            mut encoder_memory,
            part,
            first_lsn,
            last_lsn,
            ts_range,
            ops,
            rows,
            upload,
        } = open;
        let steps = self.shared.settings.steps.clone();
        let finish = move || {
            let begun = Instant::now();
            let finished = encoder.finish()?;
            steps.tell(Step::Encode, begun.elapsed());
            Ok(finished)
        };
        let finished = blocking(&self.spec.table, finish).await?;
        drop(permit);
        let Finished { parts, bytes, crc } = finished;
        encoder_memory.resize(parts.iter().map(Bytes::len).sum());
        let mut upload = match upload {
            Some(upload) => upload,
            // The whole file is at hand, so its name can say where it ends.
            None => self.begin_upload(&partition, part, first_lsn, Some(last_lsn)).await?,
        };
        for part in parts {
            self.upload_part(&mut upload, part);
        }
        drop(encoder_memory);
        let parts = upload.settle().await?;
        Ok(FileEntry {
            key: upload.key,
            upload_id: upload.id,
            parts,
            bytes,
            rows,
            ops,
            partition,
            lsn_range: [first_lsn, last_lsn],
            ts_range: [time::rfc3339(ts_range.0), time::rfc3339(ts_range.1)],
            crc: format!("{crc:08x}"),
        })
    }

    async fn begin_upload(
        &self,
        partition: &Partition,
        part: u32,
        first_lsn: Lsn,
        last_lsn: Option<Lsn>,
    ) -> Result<Upload, Error> {
        let key = layout::data_key(&self.spec.path, partition, self.seq, first_lsn, last_lsn, part);
        let permit = self.shared.uploads.acquire().await;
        let id = transient(|| self.shared.store.create_upload(&key)).await?;
        drop(permit);
        Ok(Upload { key, id, next_number: 1, offset: 0, parts: JoinSet::new() })
    }

    /// Starts to upload a part, beside the encoding of the next ones. The memory budget bounds how many there are.
    fn upload_part(&self, upload: &mut Upload, bytes: Bytes) {
        let reservation = self.shared.gauge.reserve(Use::Parts, bytes.len());
        let shared = Arc::clone(&self.shared);
        let (key, id) = (upload.key.clone(), upload.id.clone());
        let (number, offset) = (upload.next_number, upload.offset);
        upload.next_number += 1;
        upload.offset += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        upload.parts.spawn(async move {
            let begun = Instant::now();
            let permit = shared.uploads.acquire().await;
            let sent = transient(|| shared.store.upload_part(&key, &id, number, offset, bytes.clone()));
            let part = within("part-uploading", sent).await;
            kill_point("part-uploaded");
            shared.settings.steps.tell(Step::Upload, begun.elapsed());
            drop((permit, reservation));
            part
        });
    }
}

impl Open {
    fn account(&mut self, rows: &Rows) {
        self.first_lsn = self.first_lsn.min(rows.lsn_range.0);
        self.last_lsn = self.last_lsn.max(rows.lsn_range.1);
        self.ts_range = (self.ts_range.0.min(rows.ts_range.0), self.ts_range.1.max(rows.ts_range.1));
        for (op, count) in rows.ops.iter().filter(|(_, count)| *count > 0) {
            *self.ops.entry((*op).to_owned()).or_default() += count;
        }
        self.rows += u64::try_from(rows.batch.num_rows()).unwrap_or(u64::MAX);
    }
}

impl Upload {
    /// Waits for every part, and gives them in order.
    async fn settle(&mut self) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        while let Some(part) = self.parts.join_next().await {
            parts.push(part.map_err(|error| Error::Bug(format!("an upload task ended: {error}")))??);
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }
}

/// Runs encoding where blocking is allowed.
async fn blocking<T: Send + 'static>(
    table: &str,
    work: impl FnOnce() -> Result<T, ParquetError> + Send + 'static,
) -> Result<T, Error> {
    match ambient::blocking(work).await {
        Ok(outcome) => outcome.map_err(|source| Error::Encode { table: table.to_owned(), source }),
        Err(error) => Err(Error::Bug(format!("the encoder of {table} ended: {error}"))),
    }
}

/// Files of one table that end at once: each is two small requests, and all of the writer share few.
const ENDING_MAX: usize = 16;
