//! Lists a folder tree in the order of S3: by the bytes of the whole key.
//!
//! Owns: the walk; it reads only folders that can hold a key of the answer.
//! Does not: follow symbolic links, or show the uploads.
//! Holds: keys come in order, so the walk stops as soon as the answer is full.
//! Fails: with the I/O error; a folder or file that vanishes meanwhile is no error.

use std::fs;
use std::io;
use std::path::Path;

use lake::store::Listed;

use super::{UPLOADS, absent_as_none};

/// One listing.
pub(super) struct Walk<'a> {
    root: &'a Path,
    prefix: &'a str,
    start_after: Option<&'a str>,
    limit: usize,
    listed: Vec<Listed>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        root: &'a Path,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> Walk<'a> {
        Walk { root, prefix, start_after, limit, listed: Vec::new() }
    }

    pub(super) fn run(mut self) -> io::Result<Vec<Listed>> {
        let folder = self.prefix.rfind('/').map_or("", |slash| self.prefix.get(..=slash).unwrap_or(""));
        let hidden = folder.strip_prefix(UPLOADS).is_some_and(|rest| rest.starts_with('/'));
        if !hidden {
            self.folder(folder)?;
        }
        Ok(self.listed)
    }

    /// `folder` is empty or ends with a slash.
    fn folder(&mut self, folder: &str) -> io::Result<()> {
        let Some(entries) = absent_as_none(fs::read_dir(self.root.join(folder)))? else { return Ok(()) };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 is not ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some(kind) = absent_as_none(entry.file_type())? else { continue };
            // With its slash a folder sorts where its keys do: `a-b` comes before `a/c`.
            let slash = if kind.is_dir() { "/" } else { "" };
            let key = format!("{folder}{name}{slash}");
            if (kind.is_dir() || kind.is_file()) && self.may_hold(&key) {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        for key in keys {
            if self.listed.len() >= self.limit {
                return Ok(());
            }
            if key.ends_with('/') {
                self.folder(&key)?;
            } else {
                self.file(key)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, key: String) -> io::Result<()> {
        if let Some(metadata) = absent_as_none(fs::symlink_metadata(self.root.join(&key)))? {
            self.listed.push(Listed { key, bytes: metadata.len() });
        }
        Ok(())
    }

    /// Whether this file, or a file in this folder (it ends with a slash), belongs to the answer.
    fn may_hold(&self, key: &str) -> bool {
        let is_folder = key.ends_with('/');
        let in_prefix = key.starts_with(self.prefix) || (is_folder && self.prefix.starts_with(key));
        let is_after =
            self.start_after.is_none_or(|after| key > after || (is_folder && after.starts_with(key)));
        in_prefix && is_after && key.strip_suffix('/') != Some(UPLOADS)
    }
}
