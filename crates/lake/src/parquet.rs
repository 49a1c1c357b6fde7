//! The one place with Parquet writer properties: batches in, bytes of a file out as they are ready.
//!
//! Owns: the encoding choices, and the file's size and checksum.
//! Does not: upload, name files, or choose when a row group or file ends.
//! Holds: what query engines need (format version 1, data page v1, page index, zstd; lake.md in words: PLAIN and dictionary
//! encodings only). Rows are sorted by `_cdc_lsn`, `_cdc_seq`.
//! Fails: with the encoder's error, which would be a bug in our batches.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_writer::ArrowWriterOptions;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{KeyValue, SortingColumn};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use ::parquet::schema::types::ColumnPath;
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use bytes::Bytes;

use self::pages::InBlocks;
use self::sample::samples;

mod pages;
mod sample;

/// Encodes one file; encoded bytes are taken out as they come.
#[derive(Debug)]
pub struct Encoder {
    writer: ArrowWriter<Parts>,
    /// What the codecs of all columns hold while a row group is open: each by itself, and for pages.
    codec_bytes: (usize, usize),
    /// The most that the writer held since the row group was begun.
    peak_bytes: usize,
    row_group_bytes: usize,
}

/// A file that was encoded to its end.
#[derive(Debug)]
pub struct Finished {
    /// What was not taken before, in parts; the last one may be smaller.
    pub parts: VecDeque<Bytes>,
    /// The size of the whole file.
    pub bytes: u64,
    /// CRC-32 of the whole file.
    pub crc: u32,
}

impl Encoder {
    /// A file of one schema, in parts of `part_bytes`; table and version go into its footer for people who find it without the log.
    ///
    /// `first` are rows as they will come, of which how they are encoded is chosen; they are not written.
    pub fn new(
        first: &RecordBatch,
        table: &str,
        schema_id: u32,
        part_bytes: usize,
    ) -> Result<Encoder, ParquetError> {
        let schema = first.schema();
        let columns = schema.flattened_fields().len();
        let row_group_bytes = ROW_GROUP_BYTES.max(columns * COLUMN_CHUNK_BYTES);
        let choices = Choices::of(first, row_group_bytes);
        let page_bytes = choices.columns.iter().map(|choice| choice.page_bytes).sum();
        let options = ArrowWriterOptions::new()
            .with_properties(choices.properties(table, schema_id)?)
            .with_page_store_factory(Arc::new(InBlocks))
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Parts::new(part_bytes), schema, options)?;
        Ok(Encoder {
            writer,
            codec_bytes: (columns * CODEC_BYTES, page_bytes),
            peak_bytes: 0,
            row_group_bytes,
        })
    }

    /// Encodes a batch; ends the row group once it is as large as scans like it.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.writer.write(batch)?;
        // What a batch brought has gone through pages at the latest once it is compressed.
        self.peak_bytes = self.peak_bytes.max(self.writer.memory_size()).max(batch.get_array_memory_size());
        if self.writer.in_progress_size() >= self.row_group_bytes { self.flush() } else { Ok(()) }
    }

    /// Ends the row group now, which turns its buffers into bytes to take.
    pub fn flush(&mut self) -> Result<(), ParquetError> {
        let size = self.writer.in_progress_size();
        self.writer.inner_mut().expect(size + size / 64);
        self.peak_bytes = 0;
        self.writer.flush()
    }

    /// Memory held by the row group that is open and by bytes that nobody took yet.
    pub fn memory_bytes(&self) -> usize {
        let written = self.writer.memory_size();
        // A codec touches no more than as much as a page has that it met, and keeps that.
        let (codecs, pages) = self.codec_bytes;
        let codec_bytes =
            if self.writer.in_progress_rows() > 0 { codecs + pages.min(self.peak_bytes) } else { 0 };
        written + codec_bytes + self.writer.inner().memory_bytes()
    }

    /// The size that the file would have about now.
    pub fn file_bytes(&self) -> u64 {
        let in_progress = u64::try_from(self.writer.in_progress_size()).unwrap_or(u64::MAX);
        self.writer.inner().written.saturating_add(in_progress)
    }

    /// Whether a whole part can be taken.
    pub fn has_part(&self) -> bool {
        !self.writer.inner().full.is_empty()
    }

    /// The next whole part, if it is there.
    pub fn take_part(&mut self) -> Option<Bytes> {
        self.writer.inner_mut().full.pop_front()
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<Finished, ParquetError> {
        self.flush()?;
        self.writer.finish()?;
        let Parts { full: mut parts, open, written: bytes, checksum, .. } =
            std::mem::replace(self.writer.inner_mut(), Parts::new(0));
        if !open.is_empty() {
            parts.push_back(open.into());
        }
        Ok(Finished { parts, bytes, crc: checksum.finalize() })
    }
}

/// Where a file is written: buffers of the size that is uploaded, so that nothing is copied to be cut, and a part holds no more than itself.
#[derive(Debug)]
struct Parts {
    part_bytes: usize,
    full: VecDeque<Bytes>,
    open: Vec<u8>,
    /// How much is about to come.
    expected: usize,
    written: u64,
    checksum: crc32fast::Hasher,
}

impl Parts {
    fn new(part_bytes: usize) -> Parts {
        let checksum = crc32fast::Hasher::new();
        Parts { part_bytes, full: VecDeque::new(), open: Vec::new(), expected: 0, written: 0, checksum }
    }

    /// Says how much is about to come: buffers that grow by doubling would be copied again and again, and hold twice as much meanwhile.
    fn expect(&mut self, bytes: usize) {
        self.expected = bytes;
        self.make_room();
    }

    fn make_room(&mut self) {
        self.open.reserve_exact(self.expected.min(self.part_bytes.saturating_sub(self.open.len())));
    }

    fn memory_bytes(&self) -> usize {
        self.open.capacity() + self.full.iter().map(Bytes::len).sum::<usize>()
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.part_bytes.saturating_sub(self.open.len());
        let (taken, _) = bytes.split_at(bytes.len().min(room));
        if self.open.capacity() - self.open.len() < taken.len() {
            // Nobody said how much there would be. Never more than a part, which doubling would be.
            self.open.reserve_exact(self.open.capacity().max(taken.len()).min(room));
        }
        self.open.extend_from_slice(taken);
        self.checksum.update(taken);
        self.written += u64::try_from(taken.len()).unwrap_or(u64::MAX);
        self.expected = self.expected.saturating_sub(taken.len());
        if self.open.len() >= self.part_bytes {
            self.full.push_back(std::mem::take(&mut self.open).into());
            self.make_room();
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How the columns of a file are encoded.
struct Choices {
    columns: Vec<Choice>,
}

struct Choice {
    path: ColumnPath,
    page_bytes: usize,
    /// 0 for no dictionary.
    dictionary_bytes: usize,
}

impl Choices {
    fn of(first: &RecordBatch, row_group_bytes: usize) -> Choices {
        let samples = samples(first);
        let row_bytes: usize = samples.iter().filter_map(|sample| sample.value_bytes).sum();
        let schema = first.schema();
        let columns = schema.fields().iter().zip(samples).map(|(field, sample)| {
            let name = field.name().as_str();
            let bytes = sample.value_bytes.unwrap_or(row_bytes).saturating_mul(row_group_bytes);
            let chunk_bytes = bytes.checked_div(row_bytes).unwrap_or(row_group_bytes);
            let dictionary_bytes = match field.data_type() {
                // Of names that are not in the sample there are more files.
                _ if name == "_cdc_relation" => TEXT_DICTIONARY_BYTES,
                _ if sample.is_diverse || PLAIN_COLUMNS.contains(&name) => 0,
                DataType::Utf8 | DataType::Binary => TEXT_DICTIONARY_BYTES,
                _ => DICTIONARY_BYTES,
            };
            Choice {
                path: ColumnPath::from(name),
                page_bytes: (chunk_bytes / CHUNK_PAGES).clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX),
                dictionary_bytes,
            }
        });
        Choices { columns: columns.collect() }
    }

    fn properties(&self, table: &str, schema_id: u32) -> Result<WriterProperties, ParquetError> {
        let sorted = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
        let mut properties = WriterProperties::builder();
        for Choice { path, page_bytes, dictionary_bytes } in &self.columns {
            properties = properties
                .set_column_data_page_size_limit(path.clone(), *page_bytes)
                .set_column_dictionary_enabled(path.clone(), *dictionary_bytes > 0)
                .set_column_dictionary_page_size_limit(path.clone(), *dictionary_bytes);
        }
        Ok(properties
            .set_created_by(concat!("tributary version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_statistics_enabled(EnabledStatistics::Page)
            // What is within a list, a map or a struct.
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_data_page_size_limit(NESTED_PAGE_BYTES)
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
}

/// Numbers of rows, and numbers that come in runs, of which zstd makes as little as a dictionary would, without a look into it for every row.
const PLAIN_COLUMNS: [&str; 4] = ["_cdc_lsn", "_cdc_seq", "_cdc_commit_ts", "_cdc_xid"];
/// Level 1 compresses change logs within a few percent of level 3 at twice the speed.
const ZSTD_LEVEL: i32 = 1;
/// What zstd keeps for a column, apart from its pages; the writer does not count it.
const CODEC_BYTES: usize = 32 << 10;
/// A row group ends at this encoded size: large enough for scans, and small enough that it fits the budget twice, since it is written out while
/// the next one begins.
const ROW_GROUP_BYTES: usize = 10 << 20;
/// And with no less than this of each column on average: of 1,600 columns few rows would be in it otherwise.
const COLUMN_CHUNK_BYTES: usize = 32 << 10;
/// No row group has more rows, so that row numbers in it stay small.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// A page of values ends at this size at the latest: zstd takes a tenth less time for the same bytes in such pages than in small ones.
const PAGE_BYTES_MAX: usize = 512 << 10;
/// And here at the earliest. A codec holds as much again for every column: a hundred, of which each has little in a row group, need no large ones.
const PAGE_BYTES_MIN: usize = 16 << 10;
/// Of what is within a list, a map or a struct.
const NESTED_PAGE_BYTES: usize = 64 << 10;
/// Pages of a column in a row group, if they are of neither bound.
const CHUNK_PAGES: usize = 8;
/// A dictionary that grew past this does not pay: of values in thousands an index takes as much as zstd leaves of the value, and every value has
/// to be looked up. The column goes on in plain encoding. One that looks as if it would come to that begins so.
const DICTIONARY_BYTES: usize = 16 << 10;
/// The same for texts, whose dictionary saves more.
const TEXT_DICTIONARY_BYTES: usize = 64 << 10;
/// Of a column with NULLs the encoder looks at page limits only between such slices: few rows, so that megabyte cells do not pile up in one page.
/// Columns without are cut by bytes, so that a page is less than twice as large as its limit.
const WRITE_BATCH_ROWS: usize = 256;

#[cfg(test)]
mod tests {
    use ::parquet::basic::{ColumnOrder, Encoding};
    use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
    use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, StringArray};

    use super::*;

    const PART: usize = 64 << 10;

    /// Numbers that repeat as rarely as `distinct` says, and a text of each.
    fn batch(rows: i64, distinct: i64) -> RecordBatch {
        let scattered = || (0..rows).map(move |row| row * 0x9E37_79B9 % distinct * 0x1001);
        let columns: [(&str, ArrayRef); 4] = [
            ("_cdc_op", Arc::new(StringArray::from_iter_values((0..rows).map(|_| "I")))),
            ("_cdc_lsn", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row / 1_000)))),
            ("n", Arc::new(Int64Array::from_iter_values(scattered()))),
            ("t", Arc::new(StringArray::from_iter_values(scattered().map(|n| format!("{n:x}"))))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// Newer writers order floats by IEEE 754's total order, of which Polars 1.41 and older Rust readers say that the file is broken.
    #[test]
    fn every_column_has_the_order_of_its_type_and_statistics_leave_nan_out() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 1.5, -2.5]));
        let nothing: ArrayRef = Arc::new(Float32Array::from(vec![f32::NAN; 3]));
        let batch = RecordBatch::try_from_iter([("f", floats), ("nan", nothing)]).unwrap();
        let mut encoder = Encoder::new(&batch, "public.t", 1, PART).unwrap();
        encoder.write(&batch).unwrap();
        let file = Vec::from(encoder.finish().unwrap().parts).concat();
        let read = SerializedFileReader::new(Bytes::from(file)).unwrap();
        let orders = read.metadata().file_metadata().column_orders().unwrap();
        assert!(orders.iter().all(|order| matches!(order, ColumnOrder::TYPE_DEFINED_ORDER(_))), "{orders:?}");
        let group = read.metadata().row_group(0);
        let bounds: Vec<Option<(&[u8], &[u8])>> = group
            .columns()
            .iter()
            .map(|column| {
                let statistics = column.statistics()?;
                Some((statistics.min_bytes_opt()?, statistics.max_bytes_opt()?))
            })
            .collect();
        let (least, most) = ((-2.5_f64).to_le_bytes(), 1.5_f64.to_le_bytes());
        assert_eq!(bounds, [Some((&least[..], &most[..])), None]);
    }

    #[test]
    fn a_file_comes_in_parts_of_the_size_that_is_asked_for() {
        let batch = batch(40_000, 1 << 30);
        let mut encoder = Encoder::new(&batch, "public.t", 1, PART).unwrap();
        let mut parts = Vec::new();
        for _ in 0..3 {
            encoder.write(&batch).unwrap();
            encoder.flush().unwrap();
            assert!(encoder.memory_bytes() > 0);
            parts.extend(std::iter::from_fn(|| encoder.take_part()));
        }
        let finished = encoder.finish().unwrap();
        parts.extend(finished.parts);
        let (last, whole) = parts.split_last().unwrap();
        assert!(whole.len() > 10 && whole.iter().all(|part| part.len() == PART) && last.len() <= PART);
        let file = parts.concat();
        assert_eq!(finished.bytes, u64::try_from(file.len()).unwrap());
        assert_eq!(finished.crc, crc32fast::hash(&file));
        let read = SerializedFileReader::new(Bytes::from(file)).unwrap();
        assert_eq!(read.metadata().file_metadata().num_rows(), 120_000);
        assert_eq!(read.metadata().num_row_groups(), 3);
    }

    #[test]
    fn only_values_that_repeat_have_a_dictionary() {
        for (distinct, expected) in [(500, [true, false, true, true]), (1 << 30, [true, false, false, false])]
        {
            let batch = batch(40_000, distinct);
            let mut encoder = Encoder::new(&batch, "public.t", 1, PART).unwrap();
            encoder.write(&batch).unwrap();
            let file = Vec::from(encoder.finish().unwrap().parts).concat();
            let read = SerializedFileReader::new(Bytes::from(file)).unwrap();
            let group = read.metadata().row_group(0);
            let all_by_dictionary: Vec<bool> = group
                .columns()
                .iter()
                .map(|column| column.page_encoding_stats_mask().unwrap().is_only(Encoding::RLE_DICTIONARY))
                .collect();
            assert_eq!(all_by_dictionary, expected, "{distinct} distinct values");
        }
    }

    /// A hundred columns hold little each; a column that is most of the row has large pages.
    #[test]
    fn pages_are_as_large_as_what_a_column_has() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..1_000).map(|n| format!("{n:01000}"))));
        let mut columns: Vec<(String, ArrayRef)> =
            (0..100).map(|n| (format!("c{n}"), Arc::clone(&numbers))).collect();
        columns.push(("doc".to_owned(), texts));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let pages = |batch: &RecordBatch| -> Vec<usize> {
            Choices::of(batch, ROW_GROUP_BYTES).columns.iter().map(|choice| choice.page_bytes).collect()
        };
        let wide = pages(&batch);
        assert!(wide[..100].iter().all(|bytes| *bytes == PAGE_BYTES_MIN), "{wide:?}");
        assert_eq!(wide[100], PAGE_BYTES_MAX);
        // Of no rows nothing is known, and lists have no size of their own.
        assert!(
            pages(&batch.slice(0, 0)).iter().all(|bytes| (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(bytes))
        );
    }
}
