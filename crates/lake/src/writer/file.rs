//! One table's files within one cut: encode, collect parts, upload them.
//!
//! Owns: the encoder of the file, its parts in flight, and the sequence of files as each reaches its size.
//! Does not: complete an upload; nothing that this task does is visible.
//! Holds: encoding runs on blocking threads; every part but the last has the store's part size.
//! Fails: store errors that a retry cannot mend, and encoder errors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use ::parquet::errors::ParquetError;
use bytes::Bytes;
use pgoutput::Lsn;
use tokio::sync::{AcquireError, Notify, SemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::{FileSpec, Rows, Shared};
use crate::error::Error;
use crate::gauge::{Reservation, Use};
use crate::layout;
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
    target: Target,
    finished: Vec<FileEntry>,
    open: Option<Open>,
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

/// The file that is being written.
struct Open {
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
        let target = Target { shared, spec, seq, numbers, memory };
        FileTask { target, finished: Vec::new(), open: None }
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
                Command::End => self.finish().await?,
            }
        }
        self.finish().await?;
        Ok(self.finished)
    }

    /// Encodes rows. An encoder is made only once it may run: of a thousand tables that wait for their turn, each holds its few rows
    /// and not the megabyte that an encoder is.
    async fn write(&mut self, rows: Rows, commands: &mpsc::UnboundedReceiver<Command>) -> Result<(), Error> {
        let permit = self.target.shared.encoders.acquire().await;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.target.begin(&rows)?,
        };
        open.account(&rows);
        let Rows { batch, reservation, .. } = rows;
        let work = move |encoder: &mut Encoder| {
            encoder.write(&batch)?;
            drop((batch, reservation));
            Ok(())
        };
        open = self.target.encode(open, work).await?;
        let is_last = commands.is_closed() && commands.is_empty();
        if is_last || open.encoder.file_bytes() >= self.target.shared.settings.file_bytes {
            self.finished.push(self.target.finish(open, permit).await?);
            return Ok(());
        }
        drop(permit);
        self.open = Some(self.target.upload_ready(open).await?);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if let Some(open) = self.open.take() {
            let permit = self.target.shared.encoders.acquire().await;
            let open = self.target.encode(open, Encoder::flush).await?;
            drop(permit);
            self.open = Some(self.target.upload_ready(open).await?);
        }
        Ok(())
    }

    /// Ends the file, and leaves its entry in `finished`.
    async fn finish(&mut self) -> Result<(), Error> {
        if let Some(open) = self.open.take() {
            let permit = self.target.shared.encoders.acquire().await;
            self.finished.push(self.target.finish(open, permit).await?);
        }
        Ok(())
    }
}

impl Target {
    fn begin(&self, rows: &Rows) -> Result<Open, Error> {
        let encoder = Encoder::new(&self.spec.schema, &self.spec.table, self.spec.schema_id)
            .map_err(|source| Error::Encode { table: self.spec.table.clone(), source })?;
        Ok(Open {
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
        open = blocking(&self.spec.table, move || work(&mut open.encoder).map(|()| open)).await?;
        self.account(&mut open);
        Ok(open)
    }

    fn account(&self, open: &mut Open) {
        let held = open.encoder.memory_bytes();
        open.encoder_memory.resize(held);
        self.memory.store(held, Ordering::Relaxed);
    }

    /// Uploads what fills whole parts.
    async fn upload_ready(&self, mut open: Open) -> Result<Open, Error> {
        let part_size = self.shared.store.part_size();
        while open.encoder.ready_bytes() >= part_size {
            let bytes = open.encoder.take(part_size);
            let mut begun = match open.upload.take() {
                Some(begun) => begun,
                None => self.begin_upload(open.part, open.first_lsn, None).await?,
            };
            self.upload_part(&mut begun, bytes);
            open.upload = Some(begun);
        }
        self.account(&mut open);
        Ok(open)
    }

    async fn finish(&self, open: Open, permit: Permit<'_>) -> Result<FileEntry, Error> {
        let Open { encoder, mut encoder_memory, part, first_lsn, last_lsn, ts_range, ops, rows, upload } =
            open;
        let finished = blocking(&self.spec.table, move || encoder.finish()).await?;
        drop(permit);
        let Finished { mut rest, bytes, crc } = finished;
        encoder_memory.resize(rest.len());
        self.memory.store(0, Ordering::Relaxed);
        let mut upload = match upload {
            Some(upload) => upload,
            // The whole file is at hand, so its name can say where it ends.
            None => self.begin_upload(part, first_lsn, Some(last_lsn)).await?,
        };
        let part_size = self.shared.store.part_size();
        while rest.len() > part_size {
            self.upload_part(&mut upload, rest.split_to(part_size));
        }
        if !rest.is_empty() {
            self.upload_part(&mut upload, rest);
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
            partition: self.spec.partition,
            lsn_range: [first_lsn, last_lsn],
            ts_range: [time::rfc3339(ts_range.0), time::rfc3339(ts_range.1)],
            crc: format!("{crc:08x}"),
        })
    }

    async fn begin_upload(&self, part: u32, first_lsn: Lsn, last_lsn: Option<Lsn>) -> Result<Upload, Error> {
        let key = layout::data_key(&self.spec.path, self.spec.partition, self.seq, first_lsn, last_lsn, part);
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
            let permit = shared.uploads.acquire().await;
            let part = transient(|| shared.store.upload_part(&key, &id, number, offset, bytes.clone())).await;
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
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|source| Error::Encode { table: table.to_owned(), source }),
        Err(error) => Err(Error::Bug(format!("the encoder of {table} ended: {error}"))),
    }
}
