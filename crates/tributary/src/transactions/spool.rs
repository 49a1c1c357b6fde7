//! The messages of one open transaction: in memory, then in a file.
//!
//! Owns: the form of a kept message, the files, and how much all files may take.
//! Does not: decide when to move messages to disk, or whose messages count.
//! Holds: a file has no name from its first moment on, so that it is gone with the process, however that ends. It ends at the
//! end of a message. A message is kept with a checksum: what a disk changed is found before it is a row.
//! Fails: transient when a file cannot be made or written, or all together would take more than they may.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pgoutput::{Streamed, Xid};

use crate::config::ByteSize;
use crate::error::{Error, Result};

/// Where the files are, and how much they may take together.
#[derive(Clone, Debug)]
pub struct Room {
    directory: PathBuf,
    size: ByteSize,
    taken: Arc<AtomicU64>,
}

impl Room {
    /// The room in a directory.
    pub fn new(directory: PathBuf, size: ByteSize) -> Room {
        Room { directory, size, taken: Arc::default() }
    }

    /// Makes the directory if it has to, and sees whether a file can be made in it.
    pub fn probe(&self) -> Result<()> {
        fs::create_dir_all(&self.directory).and_then(|()| self.create()).map(drop).map_err(|error| {
            Error::config(format!("no file can be made in {}", self.directory.display())).caused_by(error).hint(
                "`source.spool_directory` names a folder on a local disk that the daemon may write to; with `source.streaming = \"off\"` none is needed",
            )
        })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How much the files may take together.
    pub fn size(&self) -> ByteSize {
        self.size
    }

    /// How much they take.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// A file without a name.
    fn create(&self) -> io::Result<File> {
        let path = self.directory.join(format!(".tributary-{}-{}", std::process::id(), next_number()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }
}

/// The messages of a transaction, in order.
#[derive(Debug, Default)]
pub(super) struct Spool {
    pub(super) file: Option<SpoolFile>,
    /// What comes behind the file.
    pub(super) memory: Vec<u8>,
}

impl Spool {
    /// Keeps a message without its xid, which stands in front.
    pub(super) fn push(&mut self, message: &Streamed<'_>) {
        let length = u32::try_from(message.body.len() + 1).expect("a frame is at most 1 GiB");
        let mut head = [0_u8; HEAD_BYTES];
        let fields = [length, message.xid.0, checksum(length, message.xid, &[&[message.tag], message.body])];
        for (slot, byte) in head.iter_mut().zip(fields.into_iter().flat_map(u32::to_be_bytes)) {
            *slot = byte;
        }
        self.memory.extend_from_slice(&head);
        self.memory.push(message.tag);
        self.memory.extend_from_slice(message.body);
    }

    /// Heap held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory.capacity()
    }

    /// Moves what is in memory to the file.
    pub(super) async fn spill(&mut self, room: &Room) -> Result<()> {
        let (file, memory, room) = (self.file.take(), std::mem::take(&mut self.memory), room.clone());
        let written = lake::ambient::blocking(move || -> Result<SpoolFile> {
            let mut file = file.map_or_else(|| SpoolFile::create(&room), Ok)?;
            file.append(&memory, &room)?;
            Ok(file)
        });
        let written = written.await.map_err(|error| Error::bug("a spool's writer ended").caused_by(error))?;
        self.file = Some(written?);
        Ok(())
    }
}

/// The file of a transaction.
#[derive(Debug)]
pub(super) struct SpoolFile {
    file: File,
    bytes: u64,
    taken: Arc<AtomicU64>,
}

impl SpoolFile {
    fn create(room: &Room) -> Result<SpoolFile> {
        let file = room.create().map_err(|error| no_room(room, "a file cannot be made").caused_by(error))?;
        Ok(SpoolFile { file, bytes: 0, taken: Arc::clone(&room.taken) })
    }

    fn append(&mut self, messages: &[u8], room: &Room) -> Result<()> {
        let bytes = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        if room.taken().saturating_add(bytes) > room.size.as_u64() {
            return Err(no_room(room, &format!("more than `source.spool_size` of {}", room.size)));
        }
        let written = self.file.write_all_at(messages, self.bytes);
        written.map_err(|error| no_room(room, "a file cannot be written").caused_by(error))?;
        self.bytes += bytes;
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads up to `wanted` bytes behind `at`. Blocks.
    pub(super) fn read(&self, at: u64, wanted: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let (begin, wanted) = (buffer.len(), wanted.min(left));
        buffer.resize(begin + wanted, 0);
        self.file.read_exact_at(buffer.get_mut(begin..).unwrap_or_default(), at)?;
        Ok(wanted)
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A kept message in a buffer.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) xid: Xid,
    pub(super) message: Range<usize>,
}

/// What a buffer has at a position.
#[derive(Debug)]
pub(super) enum Found {
    /// A message.
    Kept(Kept),
    /// A part of one; that many bytes are missing, or at least one.
    Part { missing: usize },
}

/// Looks for a message at a position of a buffer; `None` if it is not what was written.
pub(super) fn find(buffer: &[u8], at: usize) -> Option<Found> {
    let rest = buffer.get(at..)?;
    let Some((head, body)) = rest.split_first_chunk::<HEAD_BYTES>() else {
        return Some(Found::Part { missing: HEAD_BYTES - rest.len() });
    };
    let mut fields = head.as_chunks::<4>().0.iter().map(|field| u32::from_be_bytes(*field));
    let (length, xid, sum) = (fields.next()?, Xid(fields.next()?), fields.next()?);
    let bytes = usize::try_from(length).ok()?;
    let Some(message) = body.get(..bytes) else { return Some(Found::Part { missing: bytes - body.len() }) };
    let begin = at + HEAD_BYTES;
    let kept = Kept { xid, message: begin..begin + bytes };
    (checksum(length, xid, &[message]) == sum).then_some(Found::Kept(kept))
}

fn checksum(length: u32, xid: Xid, message: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_be_bytes());
    hasher.update(&xid.0.to_be_bytes());
    message.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn no_room(room: &Room, what: &str) -> Error {
    Error::transient(format!("transactions that are not committed have no room in {}: {what}", room.directory.display()))
        .hint("until the next start transactions are read once they have committed, as with `source.streaming = \"off\"`; nothing is lost. Give `source.spool_directory` and `source.spool_size` what the largest transactions need")
}

/// Tells the files of a process apart for the moment that they have a name.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Length, xid and checksum.
const HEAD_BYTES: usize = 12;

#[cfg(test)]
mod tests;
