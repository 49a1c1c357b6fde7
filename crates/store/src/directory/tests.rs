//! Owns: what only a directory does: leftovers of crashes, keys that would leave it, two openers, its errors.
//! Does not: repeat the conformance suite.
//! Holds: every test has a folder of its own.
//! Fails: never.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lake::store::{Completed, Created, Store, StoreError};

use super::failure::Failure;
use super::{Directory, UPLOADS};
use crate::{conformance, probe};

fn open(path: &Path) -> Directory {
    Directory::open(path.to_owned()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("made/on/open"));
    conformance::check(Arc::new(store), 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_probe() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let found = probe(&store).await.unwrap();
    assert!(found.lists_uploads && found.deletes, "{found:?}");
    assert_eq!(store.list("", None, 10).await.unwrap(), []);
    assert_eq!(fs::read_dir(folder.path().join(UPLOADS)).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_openers_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()), open(folder.path()));
    assert_eq!(one.put_if_absent("log/1", Bytes::from_static(b"1")).await.unwrap(), Created::New);
    assert_eq!(two.put_if_absent("log/1", Bytes::from_static(b"2")).await.unwrap(), Created::Exists);
    let upload = one.create_upload("t/f.parquet").await.unwrap();
    let part = one.upload_part("t/f.parquet", &upload, 1, 0, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(two.list_uploads("t/").await.unwrap()[0].upload_id, upload);
    assert_eq!(two.complete_upload("t/f.parquet", &upload, &[part]).await.unwrap(), Completed::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_unfinished_is_ever_listed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let upload = store.create_upload("t/f.parquet").await.unwrap();
    store.upload_part("t/f.parquet", &upload, 1, 0, Bytes::from_static(b"x")).await.unwrap();
    fs::write(folder.path().join(UPLOADS).join("0.tmp"), b"x").unwrap();
    for prefix in ["", "_", "_tributary/", "_tributary/uploads", "_tributary/uploads/", "t/"] {
        assert_eq!(store.list(prefix, None, 10).await.unwrap(), [], "{prefix}");
    }
    let mut paths = vec![folder.path().to_owned()];
    while let Some(path) = paths.pop() {
        assert!(!path.to_string_lossy().ends_with(".parquet"), "{}", path.display());
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// As a crash between the rename and the removal of the upload's folder leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_cleaned_upload_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let upload = store.create_upload("f").await.unwrap();
    let part = store.upload_part("f", &upload, 1, 0, Bytes::from_static(b"x")).await.unwrap();
    let upload_folder = folder.path().join(UPLOADS).join(&upload);
    fs::rename(upload_folder.join("bytes"), folder.path().join("f")).unwrap();
    assert_eq!(store.list_uploads("").await.unwrap(), []);
    assert_eq!(store.complete_upload("f", &upload, &[part]).await.unwrap(), Completed::NoSuchUpload);
    assert_eq!(store.head("f").await.unwrap(), Some(1));
    assert!(!upload_folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_with_a_gap_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let upload = store.create_upload("f").await.unwrap();
    let first = store.upload_part("f", &upload, 1, 0, Bytes::from_static(b"abc")).await.unwrap();
    let second = store.upload_part("f", &upload, 2, 4, Bytes::from_static(b"d")).await.unwrap();
    for parts in [vec![first.clone(), second.clone()], vec![second], vec![]] {
        let error = store.complete_upload("f", &upload, &parts).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    }
    // Of another key it is no upload at all.
    let other = store.complete_upload("g", &upload, std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(other, Completed::NoSuchUpload);
    assert_eq!(store.complete_upload("f", &upload, &[first]).await.unwrap(), Completed::Done);
    assert_eq!(store.get("f").await.unwrap().unwrap().bytes, "abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_do_not_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("lake"));
    for key in ["../x", "/etc/passwd", "a/../../x", "", "_tributary/uploads/x", "_tributary/uploads"] {
        assert!(store.put(key, Bytes::new()).await.is_err(), "{key}");
        assert!(store.put_if_absent(key, Bytes::new()).await.is_err(), "{key}");
        assert!(store.get(key).await.is_err(), "{key}");
        assert!(store.create_upload(key).await.is_err(), "{key}");
        assert!(store.delete(key).await.is_err(), "{key}");
    }
    assert!(store.list("../", None, 10).await.is_err());
    // An upload id is no path either.
    fs::create_dir_all(folder.path().join("lake/x")).unwrap();
    fs::write(folder.path().join("lake/x/key"), "k").unwrap();
    fs::write(folder.path().join("lake/x/bytes"), "b").unwrap();
    store.abort_upload("k", "../../x").await.unwrap();
    assert!(folder.path().join("lake/x/bytes").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn symbolic_links_are_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.put("a/1", Bytes::new()).await.unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/loop")).unwrap();
    assert_eq!(store.list("", None, 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_way_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.put("a", Bytes::new()).await.unwrap();
    assert_eq!(store.get("a/b").await.unwrap(), None);
    assert_eq!(store.head("a/b").await.unwrap(), None);
    let error = store.put("a/b", Bytes::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    store.put("b/c", Bytes::new()).await.unwrap();
    assert_eq!(store.get("b").await.unwrap(), None);
    assert_eq!(store.head("b").await.unwrap(), None);
    let error = Directory::open(folder.path().join("a")).unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_swept_when_they_are_old() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let kept = store.create_upload("f").await.unwrap();
    let uploads = folder.path().join(UPLOADS);
    let (old, new) = (uploads.join("0.tmp"), uploads.join("1.tmp"));
    let abandoned = uploads.join("0123456789abcdef0123456789abcdef");
    fs::write(&old, b"x").unwrap();
    fs::write(&new, b"x").unwrap();
    fs::create_dir(&abandoned).unwrap();
    let two_hours_ago = fs::metadata(&new).unwrap().modified().unwrap() - Duration::from_secs(7200);
    for path in [&old, &abandoned, &uploads.join(&kept)] {
        File::open(path).unwrap().set_modified(two_hours_ago).unwrap();
    }
    open(folder.path());
    assert!(!old.exists() && !abandoned.exists() && new.exists());
    assert_eq!(store.list_uploads("").await.unwrap().len(), 1);
}

#[test]
fn errors_say_what_to_do() {
    let of = |kind: ErrorKind| Failure::from(io::Error::from(kind)).of("put", "a");
    let full = of(ErrorKind::StorageFull);
    assert!(full.is_transient());
    assert_eq!(full.to_string(), "put of `a`: the disk is full");
    assert!(of(ErrorKind::QuotaExceeded).is_transient());
    assert!(of(ErrorKind::Other).is_transient());
    for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
        assert!(matches!(of(kind), StoreError::Refused { hint: Some(_), .. }), "{kind}");
    }
    let no_links = Failure::of_link(io::Error::from_raw_os_error(1)).of("put_if_absent", "a");
    assert!(matches!(no_links, StoreError::Refused { hint: Some(_), .. }), "{no_links}");
}
