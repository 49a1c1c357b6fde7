//! A lake in a local folder (`file://`), with the same promises as S3.
//!
//! Owns: the folder; uploads and unfinished writes lie under `_tributary/uploads/`, outside every listing.
//! Does not: lock anything: that a file is created once is decided by the file system, as `link` fails if the name is taken.
//! Holds: what was acknowledged survives a power cut (files and the folders that name them are synced); a name never
//!     shows half a file.
//! Fails: `Transient` when the disk is full or in trouble, `Refused` for permissions and wrong requests.
//!
//! An upload is a folder `_tributary/uploads/<id>/` with two files: `key` (where it is to go) and `bytes`, into which
//! parts are written in place. It exists as long as `bytes` does: completing moves that file to its key.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lake::store::{Completed, Created, Listed, Object, Part, Store, StoreError, Unfinished};

use crate::keys::{check_key, check_prefix};
use failure::Failure;
use walk::Walk;

mod failure;
mod walk;

/// A folder as a store.
#[derive(Clone, Debug)]
pub struct Directory {
    root: Arc<Root>,
}

/// The folder, on threads that may block.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Folders whose entry in their parent is known to be synced.
    synced: Mutex<HashSet<PathBuf>>,
}

impl Directory {
    /// Opens the folder, and creates it if there is none.
    pub fn open(path: PathBuf) -> Result<Directory, StoreError> {
        let shown = path.display().to_string();
        let opened = open_root(&path).map_err(|error| Failure::from(error).of("open", &shown))?;
        let root = Root { path: opened, synced: Mutex::default() };
        root.sweep();
        Ok(Directory { root: Arc::new(root) })
    }

    /// Runs file I/O where it may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&Root, &str) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let root = Arc::clone(&self.root);
        let key = key.to_owned();
        let task = tokio::task::spawn_blocking(move || {
            work(&root, &key).map_err(|failure| failure.of(operation, &key))
        });
        match task.await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(StoreError::Transient {
                operation,
                key: String::new(),
                reason: "the runtime is shutting down".to_owned(),
                source: Some(Box::new(error)),
            }),
        }
    }
}

#[async_trait]
impl Store for Directory {
    fn url(&self) -> String {
        format!("file://{}", self.root.path.display())
    }

    fn part_size(&self) -> usize {
        PART_SIZE
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        check_object_key("get", key)?;
        self.on_disk("get", key, Root::get).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        check_object_key("get_range", key)?;
        self.on_disk("get_range", key, move |root, key| root.get_range(key, offset, length)).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        check_object_key("head", key)?;
        self.on_disk("head", key, Root::head).await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        check_object_key("put_if_absent", key)?;
        self.on_disk("put_if_absent", key, move |root, key| root.put_if_absent(key, &bytes)).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        check_object_key("put", key)?;
        self.on_disk("put", key, move |root, key| root.put(key, &bytes)).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        check_prefix("list", prefix)?;
        let start_after = start_after.map(str::to_owned);
        self.on_disk("list", prefix, move |root, prefix| {
            Ok(Walk::new(&root.path, prefix, start_after.as_deref(), limit).run()?)
        })
        .await
    }

    async fn create_upload(&self, key: &str) -> Result<String, StoreError> {
        check_object_key("create_upload", key)?;
        self.on_disk("create_upload", key, Root::create_upload).await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Part, StoreError> {
        let upload_id = upload_id.to_owned();
        self.on_disk("upload_part", key, move |root, key| {
            root.upload_part(key, &upload_id, number, offset, &bytes)
        })
        .await
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Completed, StoreError> {
        check_object_key("complete_upload", key)?;
        let (upload_id, parts) = (upload_id.to_owned(), parts.to_vec());
        self.on_disk("complete_upload", key, move |root, key| root.complete_upload(key, &upload_id, &parts))
            .await
    }

    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        let upload_id = upload_id.to_owned();
        self.on_disk("abort_upload", key, move |root, key| root.abort_upload(key, &upload_id)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        check_prefix("list_uploads", prefix)?;
        self.on_disk("list_uploads", prefix, Root::list_uploads).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_object_key("delete", key)?;
        self.on_disk("delete", key, Root::delete).await
    }
}

impl Root {
    fn get(&self, key: &str) -> Result<Option<Object>, Failure> {
        let bytes = absent_as_none(fs::read(self.path.join(key)))?;
        Ok(bytes.map(|bytes| Object { bytes: Bytes::from(bytes), etag: None }))
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, Failure> {
        let Some(mut file) = absent_as_none(File::open(self.path.join(key)))? else { return Ok(None) };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let Some(read) = absent_as_none(file.take(length).read_to_end(&mut bytes))? else { return Ok(None) };
        if read == 0 {
            return Err(Failure::refused(format!("byte {offset} is not in it")));
        }
        Ok(Some(bytes.into()))
    }

    fn head(&self, key: &str) -> Result<Option<u64>, Failure> {
        let metadata = absent_as_none(fs::metadata(self.path.join(key)))?;
        Ok(metadata.filter(fs::Metadata::is_file).map(|metadata| metadata.len()))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Created, Failure> {
        let target = self.path.join(key);
        let folder = self.folder_of(&target)?;
        let temporary = self.write_temporary(bytes)?;
        let linked = fs::hard_link(&temporary, &target);
        let _ = fs::remove_file(&temporary); // A leftover is harmless, and swept at the next start.
        let created = match linked {
            Ok(()) => Created::New,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Created::Exists,
            Err(error) => return Err(Failure::of_link(error)),
        };
        // Also when the file was there: it may be our own, from an attempt that died before this sync.
        sync_folder(&folder)?;
        Ok(created)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), Failure> {
        let target = self.path.join(key);
        let folder = self.folder_of(&target)?;
        let temporary = self.write_temporary(bytes)?;
        if let Err(error) = fs::rename(&temporary, &target) {
            let _ = fs::remove_file(&temporary);
            return Err(error.into());
        }
        Ok(sync_folder(&folder)?)
    }

    fn create_upload(&self, key: &str) -> Result<String, Failure> {
        let uploads = self.uploads();
        self.make_folder(&uploads)?;
        let upload_id = random_name()?;
        let folder = uploads.join(&upload_id);
        fs::create_dir(&folder)?;
        let written = write_synced(&folder.join(KEY_FILE), key.as_bytes())
            .and_then(|()| write_synced(&folder.join(BYTES_FILE), b""))
            .and_then(|()| sync_folder(&folder))
            .and_then(|()| sync_folder(&uploads));
        if let Err(error) = written {
            let _ = remove_upload(&folder);
            return Err(error.into());
        }
        Ok(upload_id)
    }

    fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Part, Failure> {
        let Some(folder) = self.find_upload(key, upload_id)? else {
            return Err(Failure::refused(format!("there is no upload {upload_id}")));
        };
        let mut file = OpenOptions::new().write(true).open(folder.join(BYTES_FILE))?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)?;
        file.sync_data()?;
        let length = length(bytes);
        let etag = format!("{offset}-{:08x}", crc32fast::hash(bytes));
        Ok(Part { number, etag, crc32: None, bytes: length })
    }

    fn complete_upload(&self, key: &str, upload_id: &str, parts: &[Part]) -> Result<Completed, Failure> {
        let target = self.path.join(key);
        let Some(upload) = self.find_upload(key, upload_id)? else {
            // It may have been completed by an attempt that died before it synced the folder.
            if let Some(folder) = target.parent() {
                absent_as_none(sync_folder(folder))?;
            }
            self.discard_upload(key, upload_id);
            return Ok(Completed::NoSuchUpload);
        };
        let bytes = upload.join(BYTES_FILE);
        seal(&bytes, parts)?;
        let folder = self.folder_of(&target)?;
        match fs::rename(&bytes, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && !bytes.exists() => {
                sync_folder(&folder)?;
                return Ok(Completed::NoSuchUpload);
            }
            Err(error) => return Err(error.into()),
        }
        sync_folder(&folder)?;
        sync_folder(&upload)?;
        let _ = remove_upload(&upload); // Without `bytes` it is no upload any more.
        Ok(Completed::Done)
    }

    fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), Failure> {
        if let Some(folder) = self.find_upload(key, upload_id)? {
            remove_upload(&folder)?;
            sync_folder(&self.uploads())?;
        }
        Ok(())
    }

    fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, Failure> {
        let mut unfinished = Vec::new();
        for folder in self.upload_folders()? {
            let Some(upload_id) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(key) = absent_as_none(fs::read_to_string(folder.join(KEY_FILE)))? else { continue };
            if key.starts_with(prefix) && folder.join(BYTES_FILE).try_exists()? {
                unfinished.push(Unfinished { key, upload_id: upload_id.to_owned() });
            }
        }
        unfinished.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
        Ok(unfinished)
    }

    fn delete(&self, key: &str) -> Result<(), Failure> {
        let target = self.path.join(key);
        if absent_as_none(fs::remove_file(&target))?.is_some()
            && let Some(folder) = target.parent()
        {
            sync_folder(folder)?;
        }
        Ok(())
    }

    fn uploads(&self) -> PathBuf {
        self.path.join(UPLOADS)
    }

    /// The folder of this upload, if it is one and of this key.
    fn find_upload(&self, key: &str, upload_id: &str) -> Result<Option<PathBuf>, Failure> {
        if !is_upload_id(upload_id) {
            return Ok(None);
        }
        let folder = self.uploads().join(upload_id);
        let of_this_key =
            absent_as_none(fs::read(folder.join(KEY_FILE)))?.is_some_and(|of| of == key.as_bytes());
        let found = of_this_key && folder.join(BYTES_FILE).try_exists()?;
        Ok(found.then_some(folder))
    }

    /// What is left of an upload that was completed.
    fn discard_upload(&self, key: &str, upload_id: &str) {
        let folder = self.uploads().join(upload_id);
        if is_upload_id(upload_id) && fs::read(folder.join(KEY_FILE)).is_ok_and(|of| of == key.as_bytes()) {
            let _ = remove_upload(&folder);
        }
    }

    fn upload_folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        let Some(entries) = absent_as_none(fs::read_dir(self.uploads()))? else { return Ok(folders) };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_upload_id) {
                folders.push(entry.path());
            }
        }
        Ok(folders)
    }

    /// A synced file that no listing shows, on the same file system as everything else.
    fn write_temporary(&self, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let uploads = self.uploads();
        self.make_folder(&uploads)?;
        let path = uploads.join(format!("{}{TEMPORARY_SUFFIX}", random_name()?));
        if let Err(error) = write_synced(&path, bytes) {
            let _ = fs::remove_file(&path);
            return Err(error.into());
        }
        Ok(path)
    }

    /// The folder of a file that is about to be named, created and synced.
    fn folder_of(&self, target: &Path) -> Result<PathBuf, Failure> {
        let folder = target.parent().unwrap_or(&self.path);
        self.make_folder(folder)?;
        Ok(folder.to_owned())
    }

    /// Creates what is missing of the way to this folder, and syncs every step of it once.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mut path = self.path.clone();
        for part in folder.strip_prefix(&self.path).unwrap_or(Path::new("")) {
            let parent = path.clone();
            path.push(part);
            let created = match fs::create_dir(&path) {
                Ok(()) => true,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
                Err(error) => return Err(error),
            };
            // A folder that was there may have been made by one who died before the sync.
            if created || !self.is_synced(&path) {
                sync_folder(&parent)?;
                self.remember_synced(&path);
            }
        }
        Ok(())
    }

    fn is_synced(&self, folder: &Path) -> bool {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner).contains(folder)
    }

    fn remember_synced(&self, folder: &Path) {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.len() >= SYNCED_MAX {
            synced.clear(); // Forgetting costs a few syncs.
        }
        synced.insert(folder.to_owned());
    }

    /// Removes what crashes left behind: temporary files, and the folders of uploads without content. Best effort.
    fn sweep(&self) {
        // The age is measured against a file written now, by the clock of the file system.
        let Ok(fresh) = self.write_temporary(b"") else { return };
        let now = fs::metadata(&fresh).and_then(|metadata| metadata.modified());
        let _ = fs::remove_file(&fresh);
        let (Ok(now), Ok(entries)) = (now, fs::read_dir(self.uploads())) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
            if age.is_none_or(|age| age < LEFTOVER_AGE_MIN) {
                continue;
            }
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(TEMPORARY_SUFFIX) {
                let _ = fs::remove_file(&path);
            } else if is_upload_id(name) && !path.join(BYTES_FILE).exists() {
                let _ = remove_upload(&path);
            }
        }
    }
}

fn open_root(path: &Path) -> io::Result<PathBuf> {
    if !path.try_exists()? {
        fs::create_dir_all(path)?;
        for parent in path.ancestors().skip(1) {
            // Parents that we may not read were there before us.
            let _ = sync_folder(parent);
        }
    }
    let root = path.canonicalize()?;
    if root.is_dir() { Ok(root) } else { Err(ErrorKind::NotADirectory.into()) }
}

/// The key of an object, which is never among the uploads.
fn check_object_key(operation: &'static str, key: &str) -> Result<(), StoreError> {
    check_key(operation, key)?;
    let inside = key.strip_prefix(UPLOADS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if inside {
        return Err(Failure::refused(format!("`{UPLOADS}` holds unfinished uploads only")).of(operation, key));
    }
    Ok(())
}

/// Checks that the parts lie end to end and make up the file, and syncs it.
fn seal(path: &Path, parts: &[Part]) -> Result<(), Failure> {
    if parts.is_empty() {
        return Err(Failure::refused("an object needs at least one part".to_owned()));
    }
    let mut end = 0_u64;
    for part in parts {
        let offset = part.etag.split_once('-').and_then(|(offset, _)| offset.parse::<u64>().ok());
        if offset != Some(end) {
            return Err(Failure::refused(format!("part {} does not start at byte {end}", part.number)));
        }
        end = end.saturating_add(part.bytes);
    }
    let file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    if length < end {
        return Err(Failure::refused(format!("{length} bytes were uploaded, the parts make up {end}")));
    }
    if length > end {
        file.set_len(end)?; // The last part was uploaded again, and shorter.
    }
    Ok(file.sync_all()?)
}

/// Removes the folder of an upload; first `bytes`, without which it is no upload.
fn remove_upload(folder: &Path) -> io::Result<()> {
    absent_as_none(fs::remove_file(folder.join(BYTES_FILE)))?;
    absent_as_none(fs::remove_file(folder.join(KEY_FILE)))?;
    absent_as_none(fs::remove_dir(folder))?;
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// An object that is absent, or whose key names a folder or lies below a file, is no error.
fn absent_as_none<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => Ok(None),
            _ => Err(error),
        },
    }
}

/// 32 hexadecimal digits.
fn random_name() -> Result<String, Failure> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::from(io::Error::other(error.to_string())))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn is_upload_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Where unfinished uploads and temporary files lie.
const UPLOADS: &str = "_tributary/uploads";
const KEY_FILE: &str = "key";
const BYTES_FILE: &str = "bytes";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// One write and one sync for so much; larger parts only hold more memory.
const PART_SIZE: usize = 8 * 1024 * 1024;

/// No request lasts so long, so what is older is nobody's.
const LEFTOVER_AGE_MIN: Duration = Duration::from_secs(60 * 60);

/// Paths of about 100 bytes: half a megabyte at most.
const SYNCED_MAX: usize = 4096;

#[cfg(test)]
mod tests;
