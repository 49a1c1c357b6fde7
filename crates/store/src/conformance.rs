//! One suite that every store passes.
//!
//! Owns: what the [`Store`] trait promises, as requests and expected outcomes.
//! Does not: test what only one store does, or durability across a power cut.
//! Holds: every run works under a prefix of its own, so that it can run against a bucket that is in use.
//! Fails: by panic, with the store's URL.

use std::sync::Arc;

use bytes::Bytes;
use lake::store::memory::MemoryStore;
use lake::store::{Completed, Created, Part, Store, StoreError, Unfinished};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// Runs the suite; parts but the last have `part_bytes`.
pub(crate) async fn check(store: Arc<dyn Store>, part_bytes: usize) {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).unwrap();
    let base = format!("conformance/{:016x}", u64::from_be_bytes(random));
    println!("{} {base}", store.url());
    absent(&*store, &format!("{base}/absent")).await;
    puts(&*store, &format!("{base}/puts")).await;
    creates(&*store, &format!("{base}/creates")).await;
    races(&store, &format!("{base}/races")).await;
    lists(&*store, &format!("{base}/lists")).await;
    uploads(&*store, &format!("{base}/uploads"), part_bytes).await;
    aborts(&*store, &format!("{base}/aborts")).await;
    lists_uploads(&*store, &format!("{base}/unfinished")).await;
    for listed in store.list(&format!("{base}/"), None, usize::MAX).await.unwrap() {
        store.delete(&listed.key).await.unwrap();
    }
    assert_eq!(store.list(&format!("{base}/"), None, 1).await.unwrap(), []);
}

async fn absent(store: &dyn Store, base: &str) {
    let key = format!("{base}/nothing/here.json");
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(store.head(&key).await.unwrap(), None);
    assert_eq!(store.get_range(&key, 0, 8).await.unwrap(), None);
    assert_eq!(store.list(&format!("{base}/"), None, 10).await.unwrap(), []);
    assert_eq!(unfinished(store, &format!("{base}/")).await, []);
    store.delete(&key).await.unwrap();
}

async fn puts(store: &dyn Store, base: &str) {
    let key = format!("{base}/watermark.json");
    for content in [&b"one"[..], b"two and more", b""] {
        store.put(&key, Bytes::copy_from_slice(content)).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().unwrap().bytes, content);
        assert_eq!(store.head(&key).await.unwrap(), Some(content.len() as u64));
    }
    store.delete(&key).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
    store.delete(&key).await.unwrap();
}

async fn creates(store: &dyn Store, base: &str) {
    let key = format!("{base}/log/00000000000000000001.json");
    assert_eq!(store.put_if_absent(&key, Bytes::from_static(b"ours")).await.unwrap(), Created::New);
    assert_eq!(store.put_if_absent(&key, Bytes::from_static(b"theirs")).await.unwrap(), Created::Exists);
    assert_eq!(store.get(&key).await.unwrap().unwrap().bytes, "ours");
    store.delete(&key).await.unwrap();
    assert_eq!(store.put_if_absent(&key, Bytes::from_static(b"again")).await.unwrap(), Created::New);
    let replaced = format!("{base}/replaced");
    store.put(&replaced, Bytes::from_static(b"put")).await.unwrap();
    assert_eq!(store.put_if_absent(&replaced, Bytes::new()).await.unwrap(), Created::Exists);
}

/// Sixteen writers create the same object at once; exactly one may win, and its content must stand.
async fn races(store: &Arc<dyn Store>, base: &str) {
    for round in 0..8 {
        let key = format!("{base}/{round}.json");
        let start = Arc::new(Barrier::new(16));
        let mut writers = JoinSet::new();
        for writer in 0..16_u8 {
            let (store, key, start) = (Arc::clone(store), key.clone(), Arc::clone(&start));
            writers.spawn(async move {
                start.wait().await;
                (writer, store.put_if_absent(&key, Bytes::copy_from_slice(&[writer; 100])).await)
            });
        }
        let mut winners = Vec::new();
        while let Some(outcome) = writers.join_next().await {
            match outcome.unwrap() {
                (writer, Ok(Created::New)) => winners.push(writer),
                (_, Ok(Created::Exists)) => {}
                (_, Err(error)) => assert!(error.is_transient(), "{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert_eq!(store.get(&key).await.unwrap().unwrap().bytes, [winners[0]; 100].as_slice());
    }
}

async fn lists(store: &dyn Store, base: &str) {
    // In the order of their bytes: `-` comes before `/`, which comes before letters.
    let names = ["a-b/1", "a/b/1", "a/b/2", "a/c", "a0", "aa/1", "b/00000000000000000001.json", "c"];
    for name in names.iter().rev() {
        store.put(&format!("{base}/{name}"), Bytes::from_static(b"12345")).await.unwrap();
    }
    let list = async |prefix: &str, after: Option<&str>, limit: usize| {
        let after = after.map(|after| format!("{base}/{after}"));
        let listed = store.list(&format!("{base}/{prefix}"), after.as_deref(), limit).await.unwrap();
        assert!(listed.iter().all(|listed| listed.bytes == 5));
        let strip = |key: &str| key.strip_prefix(&format!("{base}/")).unwrap().to_owned();
        listed.iter().map(|listed| strip(&listed.key)).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, usize::MAX).await, names);
    assert_eq!(list("", None, 3).await, names[..3]);
    assert_eq!(list("", None, 0).await, names[..0]);
    for (position, name) in names.iter().enumerate() {
        assert_eq!(list("", Some(name), 100).await, names[position + 1..], "after {name}");
    }
    assert_eq!(list("", Some("a/b/11"), 2).await, ["a/b/2", "a/c"]);
    assert_eq!(list("", Some("a/b/"), 1).await, ["a/b/1"]);
    assert_eq!(list("", Some("zzz"), 10).await, names[..0]);
    assert_eq!(list("a", None, 10).await, names[..6]);
    assert_eq!(list("a/", None, 10).await, names[1..4]);
    assert_eq!(list("a/b", None, 10).await, names[1..3]);
    assert_eq!(list("a/", Some("a/b/1"), 10).await, names[2..4]);
    assert_eq!(list("b/0000", None, 10).await, names[6..7]);
    assert_eq!(list("b/", Some("a"), 10).await, names[6..7]);
    assert_eq!(list("b/", Some("c"), 10).await, names[..0]);
    assert_eq!(list("nothing/", None, 10).await, names[..0]);
}

async fn uploads(store: &dyn Store, base: &str, part_bytes: usize) {
    let key = format!("{base}/data/cdc_date=2026-08-01/cdc_hour=00/1.parquet");
    let upload = store.create_upload(&key).await.unwrap();
    let content: Vec<u8> = (0..part_bytes * 2 + 777).map(|i| (i % 251) as u8).collect();
    let content = Bytes::from(content);
    let part = async |number: u32, length: usize| {
        let from = (number as usize - 1) * part_bytes;
        let bytes = content.slice(from..from + length);
        store.upload_part(&key, &upload, number, from as u64, bytes).await.unwrap()
    };
    // In any order, and the last one again: once longer, once shorter than it will be.
    let third = part(3, 777).await;
    let second = part(2, part_bytes).await;
    let first = part(1, part_bytes).await;
    let third_again = part(3, 333).await;
    assert_ne!(third.bytes, third_again.bytes);
    assert_eq!(store.head(&key).await.unwrap(), None, "visible before it is completed");
    let visible = store.list(&format!("{base}/"), None, 10).await.unwrap();
    assert_eq!(visible, []);
    let parts = serde_round_trip(&[first, second, third_again]);
    assert_eq!(store.complete_upload(&key, &upload, &parts).await.unwrap(), Completed::Done);
    let expected = content.slice(..part_bytes * 2 + 333);
    assert!(store.get(&key).await.unwrap().unwrap().bytes == expected, "other content");
    for (offset, length) in [(0, 5), (part_bytes - 3, 7), (expected.len() - 8, 8), (expected.len() - 1, 100)]
    {
        let range = store.get_range(&key, offset as u64, length).await.unwrap().unwrap();
        assert_eq!(range, expected[offset..(offset + length).min(expected.len())], "{offset}, {length}");
    }
    assert!(store.get_range(&key, expected.len() as u64, 1).await.is_err(), "a range behind the end");
    assert_eq!(store.head(&key).await.unwrap(), Some(expected.len() as u64));
    // S3 itself may also answer `Done` for some time; either way the object stays.
    let again = store.complete_upload(&key, &upload, &parts).await.unwrap();
    println!("completed again: {again:?}");
    store.abort_upload(&key, &upload).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap(), Some(expected.len() as u64));
    let late = store.upload_part(&key, &upload, 1, 0, Bytes::from_static(b"late")).await;
    assert!(late.is_err(), "{late:?}");

    // One small part is a file, too; and completing replaces what was there.
    for content in [&b"small"[..], b"smaller still"] {
        let small = format!("{base}/small.parquet");
        let upload = store.create_upload(&small).await.unwrap();
        let bytes = Bytes::copy_from_slice(content);
        let only = store.upload_part(&small, &upload, 1, 0, bytes).await.unwrap();
        assert_eq!(store.complete_upload(&small, &upload, &[only]).await.unwrap(), Completed::Done);
        assert_eq!(store.get(&small).await.unwrap().unwrap().bytes, content);
    }
}

async fn aborts(store: &dyn Store, base: &str) {
    let key = format!("{base}/1.parquet");
    let upload = store.create_upload(&key).await.unwrap();
    let part = store.upload_part(&key, &upload, 1, 0, Bytes::from_static(b"x")).await.unwrap();
    store.abort_upload(&key, &upload).await.unwrap();
    store.abort_upload(&key, &upload).await.unwrap();
    let completed = store.complete_upload(&key, &upload, std::slice::from_ref(&part)).await.unwrap();
    assert_eq!(completed, Completed::NoSuchUpload);
    assert_eq!(store.head(&key).await.unwrap(), None);
    // Parts that were never uploaded make no object.
    let upload = store.create_upload(&key).await.unwrap();
    let invented = store.complete_upload(&key, &upload, &[part]).await;
    assert!(matches!(invented, Err(StoreError::Refused { .. })), "{invented:?}");
    assert_eq!(store.head(&key).await.unwrap(), None);
    store.abort_upload(&key, &upload).await.unwrap();
}

async fn lists_uploads(store: &dyn Store, base: &str) {
    let keys = ["a/1", "a/2", "a/2", "b/1", "b/2"];
    let mut begun = Vec::new();
    for key in keys {
        let key = format!("{base}/{key}");
        let upload_id = store.create_upload(&key).await.unwrap();
        begun.push((key, upload_id));
    }
    begun.sort();
    let list = async |prefix: &str| match store.list_uploads(&format!("{base}/{prefix}")).await {
        Ok(uploads) => {
            let mut found: Vec<_> =
                uploads.into_iter().map(|upload| (upload.key, upload.upload_id)).collect();
            found.sort();
            Some(found)
        }
        Err(StoreError::Unsupported { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    if let Some(all) = list("").await {
        assert_eq!(all, begun);
        assert_eq!(list("a/").await.unwrap(), begun[..3]);
        assert_eq!(list("b/2").await.unwrap(), begun[4..]);
        assert_eq!(list("c").await.unwrap(), []);
    }
    for (key, upload_id) in &begun {
        store.abort_upload(key, upload_id).await.unwrap();
    }
    assert!(list("").await.is_none_or(|left| left.is_empty()));
}

/// Parts go through the log before an upload is completed.
fn serde_round_trip(parts: &[Part]) -> Vec<Part> {
    serde_json::from_slice(&serde_json::to_vec(parts).unwrap()).unwrap()
}

/// What the store lists, or nothing if it cannot.
async fn unfinished(store: &dyn Store, prefix: &str) -> Vec<Unfinished> {
    match store.list_uploads(prefix).await {
        Ok(uploads) => uploads,
        Err(StoreError::Unsupported { .. }) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    check(Arc::new(MemoryStore::new()), 10).await;
}
