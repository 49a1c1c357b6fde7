//! What is in the files: `--deep`.
//!
//! Owns: the checksum of whole files, what their footers say against what the log says, and the content of schema documents.
//! Does not: decode rows. A file whose checksum is right is what the daemon wrote: where an entry says other things than such a file, it is
//! the entry that was changed.
//! Holds: a piece of a few files is in memory at once, however large they are. Files that are not there, or have another size, were reported before.
//! Fails: as the store does.

use std::collections::HashSet;

use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use ::parquet::file::statistics::Statistics;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use pgoutput::Lsn;
use serde_json::Value;

use super::chain::{self, Chain};
use super::repair::Action;
use super::{Fault, Finding, Findings, KEEP, Mend, Severity};
use crate::error::Error;
use crate::log::{Entry, FileEntry, TableFiles};
use crate::publish;
use crate::retry::transient;
use crate::store::Store;

/// Reads every file that counts; gives back how many.
pub(super) async fn check(store: &dyn Store, chain: &Chain, findings: &mut Findings) -> Result<u64, Error> {
    let resized: HashSet<String> = findings.keys_of(Fault::FileSize).map(str::to_owned).collect();
    let is_there = |file: &FileEntry| chain.files.is_seen(&file.key) && !resized.contains(&file.key);
    let entries = chain.known().filter(|seq| chain.counts(*seq));
    let pieces = stream::iter(entries)
        .map(|seq| pieces(store, seq))
        .buffered(ENTRIES_IN_FLIGHT)
        .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok::<Piece, Error>)))
        .try_flatten();
    let looks = pieces.map(|piece| async {
        match piece? {
            Piece::File(logged) if is_there(&logged.file) => Ok((1, look(store, chain, &logged).await?)),
            Piece::File(_) => Ok((0, None)),
            Piece::Document(finding) => Ok::<_, Error>((0, Some(*finding))),
        }
    });
    let mut looks = looks.buffer_unordered(FILES_IN_FLIGHT).boxed_local();
    let mut read = 0;
    while let Some((count, finding)) = looks.try_next().await? {
        read += count;
        if let Some(finding) = finding {
            findings.add(finding);
        }
    }
    Ok(read)
}

/// What an entry names.
enum Piece {
    File(Box<Logged>),
    /// A schema document that is not as logged.
    Document(Box<Finding>),
}

/// A file, and what the entry that names it says of it.
struct Logged {
    seq: u64,
    table: String,
    schema_id: u32,
    file: FileEntry,
}

async fn pieces(store: &dyn Store, seq: u64) -> Result<Vec<Piece>, Error> {
    let Some(entry) = chain::again(store, seq).await? else { return Ok(Vec::new()) };
    let mut pieces = Vec::new();
    for finding in check_documents(store, &entry).await? {
        pieces.push(Piece::Document(Box::new(finding)));
    }
    for table in entry.tables {
        let TableFiles { table, relation: _, schema_id, files } = table;
        let logged = |file| Logged { seq, table: table.clone(), schema_id, file };
        pieces.extend(files.into_iter().map(|file| Piece::File(Box::new(logged(file)))));
    }
    Ok(pieces)
}

async fn look(store: &dyn Store, chain: &Chain, logged: &Logged) -> Result<Option<Finding>, Error> {
    let Logged { seq, table, file, .. } = logged;
    let broken = |fault, what: String| {
        let mend = match chain.is_doubtful(*seq) {
            true => KEEP,
            false => Mend::Replace { table: table.clone() },
        };
        Ok(Some(Finding::new(Severity::Damage, fault, &file.key, what, mend)))
    };
    let Some(footer) = footer(store, file).await? else { return Ok(None) };
    // Where the store keeps a checksum and it is right, the file need not be read.
    let is_as_uploaded = transient(|| store.is_made_of(&file.key, &file.parts)).await? == Some(true);
    let crc = match is_as_uploaded {
        true => Some(file.crc.clone()),
        false => checksum(store, file).await?.map(|crc| format!("{crc:08x}")),
    };
    let Some(crc) = crc else { return Ok(None) };
    if crc != file.crc {
        return broken(
            Fault::FileChecksum,
            format!("has checksum {crc}, and log entry {seq} says {}: it was changed", file.crc),
        );
    }
    match footer {
        Err(reason) => {
            broken(Fault::FileUnreadable, format!("is no Parquet file that can be read: {reason}"))
        }
        Ok(footer) => Ok(footer.disagreement(logged).map(|what| chain::changed(*seq, &what))),
    }
}

/// What a file says of itself.
struct Footer {
    rows: u64,
    /// Those of files that somebody else wrote are absent.
    table: Option<String>,
    schema_id: Option<String>,
    lsn_range: Option<[Lsn; 2]>,
}

impl Footer {
    fn of(metadata: &ParquetMetaData) -> Footer {
        let words = metadata.file_metadata().key_value_metadata();
        let word = |key: &str| {
            words.into_iter().flatten().find(|word| word.key == key).and_then(|word| word.value.clone())
        };
        Footer {
            rows: u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0),
            table: word(TABLE),
            schema_id: word(SCHEMA_ID),
            lsn_range: lsn_range(metadata),
        }
    }

    /// What the log says otherwise of a file that is as it was written.
    fn disagreement(&self, logged: &Logged) -> Option<String> {
        let Logged { table, schema_id, file, .. } = logged;
        let [first, last] = file.lsn_range;
        let mut found = Vec::new();
        if self.rows != file.rows {
            found.push(format!("{} rows, and the file has {}", file.rows, self.rows));
        }
        if let Some(own) = self.table.as_ref().filter(|own| *own != table) {
            found.push(format!("that it is of {table}, and the file says {own}"));
        }
        if let Some(own) = self.schema_id.as_ref().filter(|own| **own != schema_id.to_string()) {
            found.push(format!("that it has schema {schema_id}, and the file says {own}"));
        }
        if let Some([own_first, own_last]) = self.lsn_range.filter(|own| *own != file.lsn_range) {
            found.push(format!("commits {first} to {last}, and the file has {own_first} to {own_last}"));
        }
        let what = format!("of `{}`, whose checksum is right, it says {}", file.key, found.join("; "));
        (!found.is_empty()).then_some(what)
    }
}

/// The lowest and the highest `_cdc_lsn`, as the statistics of all row groups have them.
fn lsn_range(metadata: &ParquetMetaData) -> Option<[Lsn; 2]> {
    let mut range: Option<[i64; 2]> = None;
    for group in metadata.row_groups() {
        let column = group.columns().iter().find(|column| column.column_path().string() == "_cdc_lsn")?;
        let Some(Statistics::Int64(values)) = column.statistics() else { return None };
        let (low, high) = (*values.min_opt()?, *values.max_opt()?);
        range = Some(range.map_or([low, high], |[first, last]| [first.min(low), last.max(high)]));
    }
    range.map(|range| range.map(|lsn| Lsn(lsn.cast_unsigned())))
}

/// What the footer says, or why it cannot be read; `None` if there is no such file.
async fn footer(store: &dyn Store, file: &FileEntry) -> Result<Option<Result<Footer, String>>, Error> {
    let Some(trailer) = tail(store, file, TRAILER_BYTES).await? else { return Ok(None) };
    let Some((length, MAGIC)) = trailer.split_first_chunk::<4>() else {
        return Ok(Some(Err("it does not end as one".to_owned())));
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let whole = length.saturating_add(TRAILER_BYTES);
    if u64::try_from(whole).unwrap_or(u64::MAX) > file.bytes {
        return Ok(Some(Err(format!("its footer of {length} bytes does not fit into it"))));
    }
    let Some(bytes) = tail(store, file, whole).await? else { return Ok(None) };
    let metadata = ParquetMetaDataReader::decode_metadata(bytes.get(..length).unwrap_or_default());
    Ok(Some(metadata.map(|metadata| Footer::of(&metadata)).map_err(|error| error.to_string())))
}

/// The last bytes.
async fn tail(store: &dyn Store, file: &FileEntry, length: usize) -> Result<Option<Bytes>, Error> {
    let offset = file.bytes.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
    Ok(transient(|| store.get_range(&file.key, offset, length)).await?)
}

/// CRC-32 of the whole file; `None` if there is no such file.
async fn checksum(store: &dyn Store, file: &FileEntry) -> Result<Option<u32>, Error> {
    let mut hasher = crc32fast::Hasher::new();
    let mut offset = 0;
    while offset < file.bytes {
        let Some(piece) = transient(|| store.get_range(&file.key, offset, PIECE_BYTES)).await? else {
            return Ok(None);
        };
        hasher.update(&piece);
        offset += u64::try_from(piece.len()).unwrap_or(u64::MAX);
    }
    Ok(Some(hasher.finalize()))
}

async fn check_documents(store: &dyn Store, entry: &Entry) -> Result<Vec<Finding>, Error> {
    let mut differing = Vec::new();
    for (key, document) in entry.events.iter().filter_map(publish::schema_document) {
        // What is not there was reported before.
        let Some(object) = transient(|| store.get(&key)).await? else { continue };
        let what = match serde_json::from_slice::<Value>(&object.bytes) {
            Ok(found) if found == document => continue,
            Ok(_) => format!("says something else than log entry {}", entry.seq),
            Err(error) => format!("cannot be read: {error}"),
        };
        let action = Action::WriteSchema(document);
        differing.push(Finding::repairable(Severity::Damage, Fault::SchemaDiffers, key, what, action));
    }
    Ok(differing)
}

/// The length of the footer, and the magic.
const TRAILER_BYTES: usize = 8;
const MAGIC: &[u8] = b"PAR1";
/// What `parquet::Encoder` writes into every footer.
const TABLE: &str = "tributary.table";
const SCHEMA_ID: &str = "tributary.schema_id";
/// As much as a request carries well; a piece of each file that is read is in memory.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
const FILES_IN_FLIGHT: usize = 8;
const ENTRIES_IN_FLIGHT: usize = 8;
