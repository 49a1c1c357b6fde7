//! The files of the lake, as the log names them, and their batches.
//!
//! Owns: the list of files, and reading parts of one: a footer, some columns, some rows.
//! Does not: know what a row means.
//! Holds: only what the log names is read, whatever else lies there (`strays` tells of that). Of a file the pages of a row group that are wanted are in
//! memory, not more.
//! Fails: as the store does; [`Broken`] for a file that is gone or is no Parquet file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use lake::log::{self, Entry, EntryKind, Event, FileEntry};
use lake::retry::transient;
use lake::store::Store;
use lake::watermark;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use pgoutput::Lsn;

use super::pace::Pace;
use crate::error::{Error, Result};

/// A file that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// It has rows `T`.
    pub has_markers: bool,
    /// Lowest and highest `_cdc_lsn`.
    pub lsns: [Lsn; 2],
    /// It may be about to become visible.
    pub is_newest: bool,
}

/// A file that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// The files of some tables, up to an entry of the log, by the OID of the table.
pub async fn list(
    store: &dyn Store,
    last: u64,
    tables: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, Vec<DataFile>>> {
    let mut files: BTreeMap<u32, Vec<(u64, DataFile)>> = BTreeMap::new();
    let mut voided = BTreeSet::new();
    let reads = stream::iter(1..=last).map(|seq| log::read(store, lake::layout::log_key(seq)).boxed());
    let mut entries = reads.buffered(ENTRIES_IN_FLIGHT);
    let mut newest = 0;
    while let Some(entry) = entries.try_next().await.map_err(|error| {
        Error::definite("the log of the lake is not whole, so that it does not tell which files count")
            .hint("`tributary fsck` names what is missing, and what to do")
            .caused_by(error)
    })? {
        if entry.kind == EntryKind::Void {
            voided.extend(voids(&entry));
        }
        if !entry.tables.is_empty() {
            newest = entry.seq;
        }
        for of_table in entry.tables.into_iter().filter(|of_table| tables.contains(&of_table.relation)) {
            let named = of_table.files.into_iter().map(|file| (entry.seq, of_entry(file)));
            files.entry(of_table.relation).or_default().extend(named);
        }
    }
    // A file is visible before the watermark is that of its entry.
    let is_published = watermark::stands_for(store, newest).await?;
    let count = |(seq, mut file): (u64, DataFile)| {
        file.is_newest = seq == newest && !is_published;
        (!voided.contains(&seq)).then_some(file)
    };
    Ok(files
        .into_iter()
        .map(|(table, of_table)| (table, of_table.into_iter().filter_map(count).collect()))
        .collect())
}

fn voids(entry: &Entry) -> impl Iterator<Item = u64> {
    entry.events.iter().filter_map(|event| match event {
        Event::Void { seq, .. } => Some(*seq),
        _ => None,
    })
}

fn of_entry(file: FileEntry) -> DataFile {
    DataFile {
        has_markers: file.ops.contains_key("T"),
        key: file.key,
        bytes: file.bytes,
        rows: file.rows,
        lsns: file.lsn_range,
        is_newest: false,
    }
}

/// A file whose footer is read.
#[derive(Debug)]
pub struct Opened {
    reader: Ranges,
    metadata: ArrowReaderMetadata,
    bytes: u64,
}

/// Reads the footer. A file of the newest entry may still be on its way.
pub async fn open(
    store: &Arc<dyn Store>,
    pace: &Arc<Pace>,
    file: &DataFile,
) -> Result<Result<Opened, Broken>> {
    let mut tries = if file.is_newest { NEWEST_TRIES } else { 1 };
    let size = loop {
        match transient(|| store.head(&file.key)).await.map_err(lake::Error::from)? {
            Some(size) => break size,
            None if tries > 1 => tokio::time::sleep(NEWEST_PAUSE).await,
            None => return Ok(Err(Broken("it is missing".to_owned()))),
        }
        tries -= 1;
    };
    let mut reader = Ranges {
        store: Arc::clone(store),
        pace: Arc::clone(pace),
        key: file.key.clone(),
        bytes: size,
        tail: Bytes::new(),
    };
    if let Err(error) = reader.fetch_tail().await {
        return Ok(Err(Broken(error.to_string())));
    }
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    match ArrowReaderMetadata::load_async(&mut reader, options).await {
        Ok(metadata) => Ok(Ok(Opened { reader, metadata, bytes: size })),
        Err(error) => Ok(Err(Broken(error.to_string()))),
    }
}

impl Opened {
    /// The field ids of its columns, with their names.
    pub fn columns(&self) -> Vec<(i32, String)> {
        let fields = self.metadata.parquet_schema().root_schema().get_fields();
        fields
            .iter()
            .map(|field| {
                let info = field.get_basic_info();
                (if info.has_id() { info.id() } else { 0 }, info.name().to_owned())
            })
            .collect()
    }

    /// Its rows, as its footer counts them.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// The columns with these field ids, of all rows or of these, in their order.
    pub fn read(self, fields: &BTreeSet<i32>, rows: Option<&[u32]>) -> Result<Batches, ParquetError> {
        let columns = self.columns();
        let wanted = columns.iter().enumerate().filter(|(_, (id, _))| fields.contains(id)).map(|(at, _)| at);
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), wanted);
        let total = usize::try_from(self.rows()).unwrap_or(usize::MAX);
        let batch = self.batch_rows();
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader, self.metadata)
            .with_projection(mask)
            .with_batch_size(batch);
        if let Some(rows) = rows {
            let ranges = rows.iter().filter_map(|row| usize::try_from(*row).ok()).map(|row| row..row + 1);
            builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges, total));
        }
        builder.build()
    }

    /// Few, where rows are large.
    fn batch_rows(&self) -> usize {
        let groups = self.metadata.metadata().row_groups();
        let raw: u64 = groups.iter().map(|group| u64::try_from(group.total_byte_size()).unwrap_or(0)).sum();
        let row = raw.max(self.bytes) / self.rows().max(1);
        usize::try_from((BATCH_BYTES / row.max(1)).clamp(1, BATCH_ROWS)).unwrap_or(1)
    }
}

/// What comes of a file.
pub type Batches = ParquetRecordBatchStream<Ranges>;

/// The next batch.
pub async fn next(batches: &mut Batches) -> Result<Option<RecordBatch>, Broken> {
    batches.try_next().await.map_err(|error| Broken(error.to_string()))
}

/// An object, read by ranges. Its end is read at once: with it most files are there.
#[derive(Debug)]
pub struct Ranges {
    store: Arc<dyn Store>,
    pace: Arc<Pace>,
    key: String,
    bytes: u64,
    tail: Bytes,
}

impl Ranges {
    async fn fetch_tail(&mut self) -> Result<(), ParquetError> {
        let start = self.bytes.saturating_sub(TAIL_BYTES);
        self.tail = self.fetch(start..self.bytes).await?;
        Ok(())
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, ParquetError> {
        let tail_start = self.bytes - u64::try_from(self.tail.len()).unwrap_or(0);
        if range.start >= tail_start && range.end <= self.bytes && !self.tail.is_empty() {
            let part = |at: u64| usize::try_from(at - tail_start).unwrap_or(usize::MAX);
            return Ok(self.tail.slice(part(range.start)..part(range.end)));
        }
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let found = transient(|| self.store.get_range(&self.key, range.start, wanted)).await;
        let found = found.map_err(|error| ParquetError::External(Box::new(error)))?;
        let bytes = found.ok_or_else(|| ParquetError::General("it is missing".to_owned()))?;
        if bytes.len() != wanted {
            return Err(ParquetError::EOF(format!("{} bytes where {wanted} should be", bytes.len())));
        }
        self.pace.moved(length).await;
        Ok(bytes)
    }
}

impl AsyncFileReader for Ranges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.fetch(range).boxed()
    }

    /// Pages that lie beside each other come in one request.
    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let mut order: Vec<&Range<u64>> = ranges.iter().collect();
            order.sort_by_key(|range| range.start);
            let mut joined: Vec<Range<u64>> = Vec::new();
            for range in order {
                match joined.last_mut() {
                    Some(last)
                        if range.start <= last.end + GAP_BYTES && range.end - last.start <= REQUEST_BYTES =>
                    {
                        last.end = last.end.max(range.end);
                    }
                    Some(_) | None => joined.push(range.clone()),
                }
            }
            let this = &*self;
            let fetched: Vec<(Range<u64>, Bytes)> = stream::iter(joined)
                .map(|range| async move { Ok::<_, ParquetError>((range.clone(), this.fetch(range).await?)) })
                .buffered(REQUESTS_IN_FLIGHT)
                .try_collect()
                .await?;
            let part = |range: &Range<u64>| {
                let (whole, bytes) =
                    fetched.iter().find(|(whole, _)| whole.start <= range.start && range.end <= whole.end)?;
                let at = |position: u64| usize::try_from(position - whole.start).ok();
                Some(bytes.slice(at(range.start)?..at(range.end)?))
            };
            let lost = || ParquetError::General("a range that was not fetched".to_owned());
            ranges.iter().map(|range| part(range).ok_or_else(lost)).collect()
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size = self.bytes;
            let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
            Ok(Arc::new(reader.load_and_finish(&mut *self, size).await?))
        }
        .boxed()
    }
}

const ENTRIES_IN_FLIGHT: usize = 32;
const TAIL_BYTES: u64 = 256 << 10;
const GAP_BYTES: u64 = 64 << 10;
const REQUEST_BYTES: u64 = 16 << 20;
const REQUESTS_IN_FLIGHT: usize = 4;
const BATCH_ROWS: u64 = 4_096;
const BATCH_BYTES: u64 = 8 << 20;
const NEWEST_TRIES: u32 = 30;
const NEWEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
