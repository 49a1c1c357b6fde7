use lake::store::memory::MemoryStore;

use super::*;
use crate::config::Config;

#[tokio::test]
async fn every_request_is_counted_and_timed_and_answers_as_before() {
    let shared = Shared::new(&Config::default());
    let store = Measured::around(Arc::new(MemoryStore::new()), Arc::clone(&shared));
    assert_eq!(store.put_if_absent("a", Bytes::from_static(b"123")).await.unwrap(), Created::New);
    assert_eq!(store.put_if_absent("a", Bytes::from_static(b"45")).await.unwrap(), Created::Exists);
    let object = store.get("a").await.unwrap().expect("it is there");
    assert_eq!(object.bytes.as_ref(), b"123");
    let upload = store.create_upload("b").await.unwrap();
    let part = store.upload_part("b", &upload, 1, 0, Bytes::from_static(b"4567")).await.unwrap();
    assert_eq!(store.complete_upload("b", &upload, &[part]).await.unwrap(), Completed::Done);
    assert_eq!(store.head("b").await.unwrap(), Some(4));
    assert_eq!(store.list("", None, 10).await.unwrap().len(), 2);
    let text = shared.metrics().render();
    for line in [
        "tributary_store_requests_total{operation=\"put_if_absent\",outcome=\"ok\"} 2",
        "tributary_store_requests_total{operation=\"upload_part\",outcome=\"ok\"} 1",
        "tributary_store_requests_total{operation=\"list\",outcome=\"ok\"} 1",
        "tributary_store_requests_total{operation=\"delete\",outcome=\"ok\"} 0",
        "tributary_store_request_seconds_count{operation=\"head\"} 1",
        "tributary_store_sent_bytes_total 9",
        "tributary_retries_total{cause=\"store\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

#[tokio::test]
async fn what_is_in_trouble_counts_as_a_retry_and_what_is_refused_does_not() {
    let shared = Shared::new(&Config::default());
    let store = Measured { store: Arc::new(MemoryStore::new()), shared: Arc::clone(&shared) };
    let transient = StoreError::Transient {
        operation: "PutObject",
        key: "a".to_owned(),
        reason: "503".to_owned(),
        source: None,
    };
    assert!(store.ask("put", async { Err::<(), _>(transient) }).await.is_err());
    let unsupported = StoreError::Unsupported { operation: "ListMultipartUploads" };
    assert!(store.ask("list_uploads", async { Err::<(), _>(unsupported) }).await.is_err());
    let text = shared.metrics().render();
    for line in [
        "tributary_store_requests_total{operation=\"put\",outcome=\"transient\"} 1",
        "tributary_store_requests_total{operation=\"list_uploads\",outcome=\"unsupported\"} 1",
        "tributary_retries_total{cause=\"store\"} 1",
        "tributary_store_sent_bytes_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}
