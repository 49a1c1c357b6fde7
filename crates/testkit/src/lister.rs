//! A reader that lists the lake all the time.
//!
//! Owns: a thread that looks for every `*.parquet` every 50 ms.
//! Does not: read rows; the oracle does.
//! Holds: whoever globs the lake must never see a file change, disappear, or be incomplete.
//! Fails: [`Lister::finish`] with the first such file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::http;
use crate::s3::BUCKET;

/// Where to look.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder.
    Directory(PathBuf),
    /// A prefix of the bucket of a server that takes unsigned requests.
    Bucket {
        /// Its port.
        port: u16,
        /// The prefix, without slash at its end.
        prefix: String,
    },
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// How often the lake was listed.
    pub listings: u64,
    /// How many files there were at the end.
    pub files: usize,
}

/// A running lister.
#[derive(Debug)]
pub struct Lister {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Result<Seen>>,
}

impl Lister {
    /// Begins to look.
    pub fn start(place: Place) -> Result<Lister> {
        let (stop, stopped) = mpsc::channel();
        let thread =
            thread::Builder::new().name("lister".to_owned()).spawn(move || watch(&place, &stopped))?;
        Ok(Lister { stop, thread })
    }

    /// Looks once more, and tells what was seen.
    pub fn finish(self) -> Result<Seen> {
        self.stop.send(()).ok();
        self.thread.join().map_err(|_| anyhow!("the lister panicked"))?
    }
}

/// By which a file is told to be the same: size, and etag or inode with the time of its last change.
type Identity = (u64, String);

fn watch(place: &Place, stopped: &mpsc::Receiver<()>) -> Result<Seen> {
    let mut known: HashMap<String, Identity> = HashMap::new();
    let mut listings = 0;
    loop {
        let is_last = !matches!(stopped.recv_timeout(INTERVAL), Err(RecvTimeoutError::Timeout));
        match list(place) {
            Ok(now) => {
                listings += 1;
                compare(place, &mut known, now)?;
            }
            // The server is down, and so is every other reader.
            Err(_) if !is_last && matches!(place, Place::Bucket { .. }) => {}
            Err(error) => return Err(error),
        }
        if is_last {
            return Ok(Seen { listings, files: known.len() });
        }
    }
}

fn compare(
    place: &Place,
    known: &mut HashMap<String, Identity>,
    now: HashMap<String, Identity>,
) -> Result<()> {
    for (name, before) in known.iter() {
        match now.get(name) {
            Some(after) => ensure!(after == before, "{name} changed from {before:?} to {after:?}"),
            None => bail!("{name} disappeared"),
        }
    }
    for (name, identity) in now {
        let Entry::Vacant(vacant) = known.entry(name) else { continue };
        if let Place::Directory(folder) = place {
            refuse_incomplete(&folder.join(vacant.key())).with_context(|| vacant.key().clone())?;
        }
        vacant.insert(identity);
    }
    Ok(())
}

/// A Parquet file begins and ends with the same four bytes.
fn refuse_incomplete(path: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    let (mut first, mut last) = ([0; 4], [0; 4]);
    file.read_exact(&mut first)?;
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut last)?;
    ensure!(&first == b"PAR1" && &last == b"PAR1", "visible before it is complete");
    Ok(())
}

/// The keys of all data files that are visible now.
pub fn files(place: &Place) -> Result<Vec<String>> {
    let mut keys: Vec<String> = list(place)?.into_keys().collect();
    keys.sort();
    Ok(keys)
}

fn list(place: &Place) -> Result<HashMap<String, Identity>> {
    let mut found = HashMap::new();
    match place {
        Place::Directory(folder) => {
            if folder.exists() {
                list_folder(folder, folder, &mut found)?;
            }
        }
        Place::Bucket { port, prefix } => list_bucket(*port, prefix, &mut found)?,
    }
    Ok(found)
}

fn list_folder(base: &Path, folder: &Path, found: &mut HashMap<String, Identity>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // A temporary folder may go; a file that went with it is missed by the comparison.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            list_folder(base, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            let metadata = entry.metadata()?;
            let changed = format!("{} {}.{:09}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
            found.insert(path.strip_prefix(base)?.display().to_string(), (metadata.len(), changed));
        }
    }
    Ok(())
}

fn list_bucket(port: u16, prefix: &str, found: &mut HashMap<String, Identity>) -> Result<()> {
    let mut after = String::new();
    loop {
        let path =
            format!("/{BUCKET}?list-type=2&prefix={}%2F&start-after={}", escaped(prefix), escaped(&after));
        let reply = http::request("GET", port, &path)?;
        ensure!(reply.status == 200, "listing: {} {}", reply.status, reply.text());
        let text = reply.text();
        for object in text.split("<Contents>").skip(1) {
            let key = tag(object, "Key")?;
            after = key.clone();
            if key.ends_with(".parquet") {
                let changed = format!("{} {}", tag(object, "ETag")?, tag(object, "LastModified")?);
                found.insert(key, (tag(object, "Size")?.parse()?, changed));
            }
        }
        if !text.contains("<IsTruncated>true</IsTruncated>") {
            return Ok(());
        }
    }
}

fn tag(text: &str, name: &str) -> Result<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let begun = text.split_once(&open).map(|(_, rest)| rest);
    let value = begun.and_then(|rest| rest.split_once(&close)).map(|(value, _)| value.to_owned());
    value.with_context(|| format!("a listing without {open}"))
}

fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

const INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
