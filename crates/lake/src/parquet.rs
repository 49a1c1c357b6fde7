//! The one place with Parquet writer properties: batches in, bytes of a file out as they are ready.
//!
//! Owns: the encoding choices, and the file's size and checksum.
//! Does not: upload, name files, or choose when a row group or file ends.
//! Holds: what query engines need (format version 1, data page v1, page index, zstd; lake.md in words: PLAIN and dictionary
//! encodings only). Rows are sorted by `_cdc_lsn`, `_cdc_seq`.
//! Fails: with the encoder's error, which would be a bug in our batches.

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_writer::ArrowWriterOptions;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{KeyValue, SortingColumn};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use ::parquet::schema::types::ColumnPath;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

/// Encodes one file; encoded bytes are taken out as they come.
#[derive(Debug)]
pub struct Encoder {
    writer: ArrowWriter<Vec<u8>>,
    /// What the codecs of all columns hold.
    codec_bytes: usize,
    /// Encoded, and out of the writer.
    rest: Bytes,
    checksum: crc32fast::Hasher,
    taken_bytes: u64,
}

/// A file that was encoded to its end.
#[derive(Debug)]
pub struct Finished {
    /// What was not taken before.
    pub rest: Bytes,
    /// The size of the whole file.
    pub bytes: u64,
    /// CRC-32 of the whole file.
    pub crc: u32,
}

impl Encoder {
    /// A file of one schema; table and version go into its footer for people who find it without the log.
    pub fn new(schema: &SchemaRef, table: &str, schema_id: u32) -> Result<Encoder, ParquetError> {
        let options = ArrowWriterOptions::new()
            .with_properties(properties(table, schema_id)?)
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(schema), options)?;
        let codec_bytes = schema.flattened_fields().len() * CODEC_BYTES;
        let (rest, checksum) = (Bytes::new(), crc32fast::Hasher::new());
        Ok(Encoder { writer, codec_bytes, rest, checksum, taken_bytes: 0 })
    }

    /// Encodes a batch; ends the row group once it is as large as scans like it.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.writer.write(batch)?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    /// Ends the row group now, which turns its buffers into bytes to take.
    pub fn flush(&mut self) -> Result<(), ParquetError> {
        // Once, to its size: growing by doubling would hold the row group two more times while it is copied.
        let size = self.writer.in_progress_size();
        self.writer.inner_mut().reserve_exact(size + size / 64);
        self.writer.flush()
    }

    /// Memory held by the row group that is open and by bytes that nobody took yet.
    pub fn memory_bytes(&self) -> usize {
        self.writer.memory_size() + self.codec_bytes + self.writer.inner().capacity() + self.rest.len()
    }

    /// Bytes that can be taken.
    pub fn ready_bytes(&self) -> usize {
        self.rest.len() + self.writer.inner().len()
    }

    /// The size that the file would have about now.
    pub fn file_bytes(&self) -> u64 {
        self.taken_bytes
            + u64::try_from(self.ready_bytes() + self.writer.in_progress_size()).unwrap_or(u64::MAX)
    }

    /// Takes exactly `bytes`, or everything that is ready if that is less. A row group is not copied to be cut into parts;
    /// only what two of them share of a part is.
    pub fn take(&mut self, bytes: usize) -> Bytes {
        let taken = if self.rest.len() >= bytes {
            self.rest.split_to(bytes)
        } else {
            let mut fresh = Bytes::from(std::mem::take(self.writer.inner_mut()));
            let head = fresh.split_to((bytes - self.rest.len()).min(fresh.len()));
            let rest = std::mem::replace(&mut self.rest, fresh);
            if rest.is_empty() { head } else { [rest, head].concat().into() }
        };
        self.checksum.update(&taken);
        self.taken_bytes += u64::try_from(taken.len()).unwrap_or(u64::MAX);
        taken
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<Finished, ParquetError> {
        self.writer.finish()?;
        let rest = self.take(usize::MAX);
        Ok(Finished { rest, bytes: self.taken_bytes, crc: self.checksum.finalize() })
    }
}

fn properties(table: &str, schema_id: u32) -> Result<WriterProperties, ParquetError> {
    let sorted = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
    let mut properties = WriterProperties::builder();
    for column in PLAIN_COLUMNS {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    Ok(properties
        .set_created_by(concat!("tributary version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        // `_cdc_lsn` and `_cdc_seq` are the second and third leaf column: true by construction, so readers may rely on it.
        .set_sorting_columns(Some(vec![sorted(1), sorted(2)]))
        .set_key_value_metadata(Some(vec![
            KeyValue::new("tributary.table".to_owned(), table.to_owned()),
            KeyValue::new("tributary.schema_id".to_owned(), schema_id.to_string()),
        ]))
        .build())
}

/// Numbers of rows, and numbers that come in runs, of which zstd makes as little as a dictionary would, without a look into it for every row.
const PLAIN_COLUMNS: [&str; 4] = ["_cdc_lsn", "_cdc_seq", "_cdc_commit_ts", "_cdc_xid"];
/// Level 1 compresses change logs within a few percent of level 3 at twice the speed.
const ZSTD_LEVEL: i32 = 1;
/// What zstd keeps for a column, most of it to decompress, which nobody will; the writer does not count it.
const CODEC_BYTES: usize = 96 << 10;
/// A row group ends at this encoded size: large enough for scans, small enough that many tables fit the budget.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// No row group has more rows, so that row numbers in it stay small.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// A dictionary that grew past this does not pay; the column goes on in plain encoding.
const DICTIONARY_BYTES: usize = 256 << 10;
/// The encoder looks at page limits only between such slices: few rows, so that megabyte cells do not pile up in one page.
const WRITE_BATCH_ROWS: usize = 256;
