use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::layout::Hour;
use crate::store::memory::MemoryStore;
use crate::store::{Completed, Listed, Object, StoreError, Unfinished};

fn entry(seq: u64, epoch: u64, kind: EntryKind, from: u64, to: u64) -> Entry {
    Entry {
        format: FORMAT,
        seq,
        nonce: nonce().unwrap(),
        epoch,
        owner: format!("test:{epoch}"),
        kind,
        system_id: "7".to_owned(),
        timeline: 1,
        slot: "tributary".to_owned(),
        from_lsn: Lsn(from),
        to_lsn: Lsn(to),
        to_commit_ts: None,
        written_at: None,
        tables: Vec::new(),
        events: Vec::new(),
    }
}

/// A store whose next conditional creations lose their reply, after or before they were applied.
#[derive(Debug)]
struct LosesReplies {
    inner: MemoryStore,
    applied_then_lost: AtomicUsize,
    lost_before: AtomicUsize,
}

fn lost(key: &str) -> StoreError {
    StoreError::Transient {
        operation: "PutObject",
        key: key.to_owned(),
        reason: "the reply was lost".to_owned(),
        source: None,
    }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl Store for LosesReplies {
    fn url(&self) -> String {
        self.inner.url()
    }
    fn part_size(&self) -> usize {
        self.inner.part_size()
    }
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        self.inner.get_range(key, offset, length).await
    }
    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.inner.head(key).await
    }
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        if take_one(&self.lost_before) {
            return Err(lost(key));
        }
        let outcome = self.inner.put_if_absent(key, bytes).await;
        if take_one(&self.applied_then_lost) { Err(lost(key)) } else { outcome }
    }
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put(key, bytes).await
    }
    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(prefix, start_after, limit).await
    }
    async fn create_upload(&self, key: &str) -> Result<String, StoreError> {
        self.inner.create_upload(key).await
    }
    async fn upload_part(
        &self,
        key: &str,
        id: &str,
        number: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Part, StoreError> {
        self.inner.upload_part(key, id, number, offset, bytes).await
    }
    async fn complete_upload(&self, key: &str, id: &str, parts: &[Part]) -> Result<Completed, StoreError> {
        self.inner.complete_upload(key, id, parts).await
    }
    async fn abort_upload(&self, key: &str, id: &str) -> Result<(), StoreError> {
        self.inner.abort_upload(key, id).await
    }
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        self.inner.list_uploads(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

fn losing(lost_before: usize, applied_then_lost: usize) -> LosesReplies {
    LosesReplies {
        inner: MemoryStore::new(),
        applied_then_lost: AtomicUsize::new(applied_then_lost),
        lost_before: AtomicUsize::new(lost_before),
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_whose_reply_was_lost_is_ours_whether_it_was_applied_or_not() {
    for store in [losing(0, 1), losing(1, 0), losing(2, 1), losing(0, 0)] {
        append(&store, &entry(1, 1, EntryKind::Open, 5, 5)).await.unwrap();
        assert_eq!(load(&store).await.unwrap().unwrap().seq, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_another_daemon_wrote_first_fences_us_even_if_our_reply_was_lost() {
    for store in [losing(0, 0), losing(0, 1), losing(1, 0)] {
        store
            .inner
            .put_if_absent(
                &layout::log_key(1),
                Bytes::from(to_json(&entry(1, 9, EntryKind::Open, 5, 5)).unwrap()),
            )
            .await
            .unwrap();
        let error = append(&store, &entry(1, 3, EntryKind::Open, 5, 5)).await.unwrap_err();
        assert!(matches!(error, Error::Fenced { seq: 1, epoch: 9, ours: 3, .. }), "{error}");
    }
}

#[tokio::test]
async fn sixteen_writers_of_one_entry_have_one_winner() {
    let store = Arc::new(MemoryStore::new());
    let mut tasks = tokio::task::JoinSet::new();
    for epoch in 0..16 {
        let store = Arc::clone(&store);
        tasks.spawn(
            async move { append(store.as_ref(), &entry(1, epoch, EntryKind::Open, 0, 0)).await.is_ok() },
        );
    }
    let winners = tasks.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn the_log_folds_alike_with_and_without_a_checkpoint() {
    let plain = MemoryStore::new();
    let checkpointed = MemoryStore::new();
    let mut state = None;
    for seq in 1..=1_250 {
        let entry = entry(seq, 1 + seq / 100, EntryKind::Idle, seq - 1, seq);
        append(&plain, &entry).await.unwrap();
        append(&checkpointed, &entry).await.unwrap();
        State::fold(&mut state, &entry).unwrap();
        if seq.is_multiple_of(CHECKPOINT_INTERVAL) {
            write_checkpoint(&checkpointed, state.as_mut().unwrap()).await.unwrap();
        }
    }
    assert_eq!(load(&plain).await.unwrap(), state);
    assert_eq!(load(&checkpointed).await.unwrap(), state);
    let kept = checkpointed.list(layout::CHECKPOINT_PREFIX, None, 100).await.unwrap();
    assert_eq!(kept.len(), 2, "older checkpoints are deleted");
}

#[tokio::test]
async fn an_empty_prefix_has_no_log_and_a_gap_is_told() {
    let store = MemoryStore::new();
    assert_eq!(load(&store).await.unwrap(), None);
    append(&store, &entry(1, 1, EntryKind::Open, 0, 0)).await.unwrap();
    append(&store, &entry(3, 1, EntryKind::Idle, 0, 1)).await.unwrap();
    let error = load(&store).await.unwrap_err();
    assert_eq!(error.to_string(), "log entry 3 does not continue the log: entry 2 is missing");
    assert!(error.hint().is_some());
}

#[test]
fn an_entry_that_does_not_begin_where_the_log_ends_is_refused() {
    let mut state = None;
    State::fold(&mut state, &entry(1, 1, EntryKind::Open, 10, 10)).unwrap();
    let error = State::fold(&mut state, &entry(2, 1, EntryKind::Idle, 11, 12)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "log entry 2 does not continue the log: it begins at 0/B and the one before ends at 0/A"
    );
    State::fold(&mut state, &entry(2, 2, EntryKind::Open, 10, 10)).unwrap();
    assert!(
        State::fold(&mut state, &entry(3, 1, EntryKind::Idle, 10, 12)).is_err(),
        "an older epoch writes no more"
    );
}

#[test]
fn a_void_entry_takes_back_the_cut_before_it() {
    let mut state = None;
    State::fold(&mut state, &entry(1, 1, EntryKind::Open, 10, 10)).unwrap();
    let mut cut = entry(2, 1, EntryKind::Commit, 10, 20);
    cut.events.push(Event::Schema {
        table: "public.t".to_owned(),
        schema_name: "public".to_owned(),
        table_name: "t".to_owned(),
        relation: 7,
        path: "public/t".to_owned(),
        schema_id: 1,
        document: Value::Null,
    });
    cut.tables.push(TableFiles {
        table: "public.t".to_owned(),
        relation: 7,
        schema_id: 1,
        files: vec![FileEntry {
            key: "k".to_owned(),
            upload_id: "u".to_owned(),
            parts: Vec::new(),
            bytes: 5,
            rows: 3,
            ops: BTreeMap::new(),
            partition: Partition::Hour(Hour { hour: 0 }),
            lsn_range: [Lsn(11), Lsn(12)],
            ts_range: [String::new(), String::new()],
            crc: String::new(),
        }],
    });
    State::fold(&mut state, &cut).unwrap();
    assert_eq!(state.as_ref().unwrap().tables[&7].totals, Totals { rows: 3, files: 1, bytes: 5 });
    State::fold(&mut state, &entry(3, 2, EntryKind::Open, 20, 20)).unwrap();
    State::fold(&mut state, &entry(4, 2, EntryKind::Void, 20, 10)).unwrap();
    let state = state.unwrap();
    assert_eq!((state.to_lsn, state.tables[&7].totals), (Lsn(10), Totals::default()));
    assert_eq!(state.last_cut, None, "a voided cut is never rolled forward");
}

#[test]
fn entries_survive_their_json_and_events_of_later_versions_are_kept() {
    let mut written = entry(4, 2, EntryKind::Commit, 10, 20);
    written.events.push(Event::Attach { root: 5, leaves: vec![(6, "public.leaf".to_owned())] });
    written.events.push(Event::Timeline { from: 1, to: 2 });
    let json = String::from_utf8(to_json(&written).unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), written);

    let later = json.replace("\"events\":[", "\"events\":[{\"kind\":\"teleport\",\"to\":\"moon\"},");
    let read: Entry = serde_json::from_str(&later).unwrap();
    assert!(matches!(&read.events[0], Event::Other(value) if value["to"] == "moon"));
    assert_eq!(read.events[1..], written.events[..]);
}

#[tokio::test]
async fn a_log_of_another_format_is_not_guessed_at() {
    let store = MemoryStore::new();
    let mut foreign = entry(1, 1, EntryKind::Open, 0, 0);
    foreign.format = 2;
    store.put(&layout::log_key(1), Bytes::from(to_json(&foreign).unwrap())).await.unwrap();
    let error = load(&store).await.unwrap_err().to_string();
    assert!(error.contains("format 2") && error.contains("format 1"), "{error}");
}
