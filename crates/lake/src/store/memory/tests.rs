//! Owns: what only the store in memory does; the shared conformance suite lives in the `store` crate.
//! Does not: repeat that suite.
//! Holds: nothing.
//! Fails: never.

use bytes::Bytes;

use super::MemoryStore;
use crate::store::{Completed, Created, Store, StoreError};

#[tokio::test]
async fn clones_share_their_content() {
    let store = MemoryStore::new();
    let clone = store.clone();
    assert_eq!(store.put_if_absent("a/b", Bytes::from_static(b"1")).await.unwrap(), Created::New);
    drop(store);
    assert_eq!(clone.put_if_absent("a/b", Bytes::from_static(b"2")).await.unwrap(), Created::Exists);
    assert_eq!(clone.objects(), ["a/b"]);
    assert_eq!(clone.contents()["a/b"], Bytes::from_static(b"1"));
}

#[tokio::test]
async fn parts_must_lie_end_to_end() {
    let store = MemoryStore::new();
    let upload = store.create_upload("f").await.unwrap();
    let first = store.upload_part("f", &upload, 1, 0, Bytes::from_static(b"abc")).await.unwrap();
    let second = store.upload_part("f", &upload, 2, 4, Bytes::from_static(b"d")).await.unwrap();
    let error = store.complete_upload("f", &upload, &[first.clone(), second]).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    let second = store.upload_part("f", &upload, 2, 3, Bytes::from_static(b"d")).await.unwrap();
    assert_eq!(store.complete_upload("f", &upload, &[first, second]).await.unwrap(), Completed::Done);
    assert_eq!(store.contents()["f"], Bytes::from_static(b"abcd"));
}

#[test]
fn debug_shows_no_content() {
    let store = MemoryStore::new();
    store.lock().store("key", Bytes::from_static(b"secret"));
    assert!(!format!("{store:?}").contains("secret"));
}
