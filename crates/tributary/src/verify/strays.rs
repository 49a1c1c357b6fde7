//! Data files that lie in a table's folder and that no log entry names.
//!
//! Owns: the listing of a table's folder, and what it has beyond the log.
//! Does not: read them; their rows are no part of the lake. Whoever reads the folder by a pattern counts them, though.
//! Holds: what is being written is no stray. A file is named before it is visible (I4), so the rest of the log, read behind the listing, names it.
//! Memory: the names that the log has of one table, and what it named since the proof began.
//! Fails: as the store does.

use std::collections::{BTreeMap, HashSet};

use lake::layout;
use lake::log::{self, State};
use lake::retry::transient;
use lake::store::Store;

use super::files::DataFile;
use crate::error::Result;

/// What the log named since it was read for the proof.
pub struct Strays<'a> {
    store: &'a dyn Store,
    /// The last entry that was read.
    seq: u64,
    named: HashSet<String>,
}

impl<'a> Strays<'a> {
    /// What the log names up to `now` is known to whoever asks.
    pub fn new(store: &'a dyn Store, now: &State) -> Strays<'a> {
        Strays { store, seq: now.seq, named: HashSet::new() }
    }

    /// Those in the folder of a table, of which the log named `files`.
    pub async fn find(&mut self, path: &str, files: &[DataFile]) -> Result<BTreeMap<String, String>> {
        let known: HashSet<&str> = files.iter().map(|file| file.key.as_str()).collect();
        let folder = layout::data_folder(path);
        let mut odd = Vec::new();
        let mut after = None;
        loop {
            let page = transient(|| self.store.list(&folder, after.as_deref(), PAGE)).await;
            let page = page.map_err(lake::Error::from)?;
            after = page.last().filter(|_| page.len() == PAGE).map(|last| last.key.clone());
            let data = page.into_iter().filter(|object| object.key.ends_with(layout::DATA_SUFFIX));
            odd.extend(data.map(|object| object.key).filter(|key| !known.contains(key.as_str())));
            if after.is_none() {
                break;
            }
        }
        if odd.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.read_on().await?;
        let mut strays = BTreeMap::new();
        for key in odd.into_iter().filter(|key| !self.named.contains(key)) {
            // Of an entry that was taken back the files are deleted.
            if transient(|| self.store.head(&key)).await.map_err(lake::Error::from)?.is_some() {
                strays.insert(key, STRAY.to_owned());
            }
        }
        Ok(strays)
    }

    async fn read_on(&mut self) -> Result<()> {
        while let Some(entry) = log::read_if_there(self.store, self.seq + 1).await? {
            let files = entry.tables.into_iter().flat_map(|table| table.files);
            self.named.extend(files.map(|file| file.key));
            self.seq += 1;
        }
        Ok(())
    }
}

const STRAY: &str = "no log entry that counts names it, so its rows are not compared; whoever reads the folder counts them, too";
/// Objects of a listing; a folder on a disk is read anew for each.
const PAGE: usize = 10_000;
