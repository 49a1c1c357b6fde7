use pgoutput::Lsn;
use serde_json::json;

use super::*;
use crate::log::{Author, Entry, EntryKind, Event, TableFiles, append, load};
use crate::store::memory::MemoryStore;

/// A log that is appended to, and what it folds to.
struct Script {
    store: MemoryStore,
    state: Option<State>,
}

impl Script {
    fn new() -> Script {
        Script { store: MemoryStore::new(), state: None }
    }

    fn state(&mut self) -> &mut State {
        self.state.as_mut().unwrap()
    }

    async fn entry(&mut self, kind: EntryKind, tables: Vec<TableFiles>, events: Vec<Event>) {
        let author = Author { epoch: 1, owner: "test:1".to_owned() };
        let entry = match &self.state {
            Some(state) => Entry { tables, events, ..state.next_entry(&author, kind).unwrap() },
            None => {
                let json = json!({"format": 1, "seq": 1, "nonce": "n", "epoch": 1, "owner": "test:1", "kind": "open", "system_id": "7",
                    "timeline": 1, "slot": "s", "from_lsn": Lsn(1), "to_lsn": Lsn(1)});
                Entry { tables, events, ..serde_json::from_value(json).unwrap() }
            }
        };
        append(&self.store, &entry).await.unwrap();
        State::fold(&mut self.state, &entry).unwrap();
    }

    async fn events(&mut self, events: Vec<Event>) {
        self.entry(EntryKind::Idle, Vec::new(), events).await;
    }

    async fn checkpoint(&mut self) {
        let store = self.store.clone();
        write_checkpoint(&store, self.state()).await.unwrap();
    }

    /// What a start finds is what was folded, wherever it begins.
    async fn check(&self) {
        assert_eq!(load(&self.store).await.unwrap(), self.state);
    }

    fn parts(&self) -> Vec<String> {
        let keys = self.store.objects().into_iter();
        keys.filter(|key| key.starts_with(layout::CHECKPOINT_PARTS_PREFIX)).collect()
    }

    fn heads(&self) -> Vec<String> {
        let keys = self.store.objects().into_iter();
        keys.filter(|key| key.starts_with(layout::CHECKPOINT_PREFIX)).collect()
    }
}

fn schema(relation: u32, columns: u32) -> Event {
    Event::Schema {
        table: format!("public.t{relation}"),
        schema_name: "public".to_owned(),
        table_name: format!("t{relation}"),
        relation,
        path: format!("public/t{relation}"),
        schema_id: columns,
        document: json!({"columns": columns}),
    }
}

fn files(relation: u32) -> TableFiles {
    let file = json!({"key": "k", "upload_id": "u", "parts": [], "bytes": 10, "rows": 2, "ops": {}, "partition": 0,
        "lsn_range": [Lsn(1), Lsn(1)], "ts_range": ["", ""], "crc": ""});
    let files = vec![serde_json::from_value(file).unwrap()];
    TableFiles { table: format!("public.t{relation}"), relation, schema_id: 1, files }
}

fn leaves(numbers: std::ops::Range<u32>) -> Vec<(u32, String)> {
    numbers.map(|leaf| (leaf, format!("public.leaf{leaf}"))).collect()
}

fn attached(root: u32, numbers: std::ops::Range<u32>) -> [Event; 2] {
    let attached = numbers.clone().map(|leaf| (leaf, 700)).collect();
    [Event::Attach { root, leaves: leaves(numbers) }, Event::Partitions { attached, gone: Vec::new() }]
}

fn detached(root: u32, numbers: std::ops::Range<u32>) -> [Event; 2] {
    let gone = numbers.clone().collect();
    let leaves = leaves(numbers);
    let detach = Event::Detach {
        table: format!("public.t{root}"),
        root,
        leaves,
        dropped: false,
        lsn: Lsn(1),
        commit_ts: None,
        marked: false,
    };
    [detach, Event::Partitions { attached: Vec::new(), gone }]
}

fn begins(relation: u32, root: Option<u32>) -> Event {
    let table = format!("public.t{relation}");
    Event::SnapshotStart { table, relation, root, supersedes: false, anew: false }
}

fn ends(relation: u32) -> Event {
    let table = format!("public.t{relation}");
    Event::SnapshotEnd { table, relation, lsn: Lsn(1), rows: 3, reason: None }
}

#[tokio::test]
async fn what_every_kind_of_event_changes_is_in_the_next_checkpoint() {
    let mut script = Script::new();
    let many: Vec<Event> = (1..=50).flat_map(|table| [schema(table, 1), begins(table, None)]).collect();
    script.events(many).await;
    script.events(attached(1, 1000..1100).into()).await;
    script.checkpoint().await;
    let rename = |relation| Event::Rename {
        table: format!("public.t{relation}"),
        relation,
        schema_name: "public".to_owned(),
        table_name: "other".to_owned(),
    };
    let stale = |relation| Event::NeedsResync {
        table: format!("public.t{relation}"),
        relation,
        column: "c".to_owned(),
        reason: "r".to_owned(),
    };
    let steps: Vec<Vec<Event>> = vec![
        vec![schema(3, 2)],
        vec![schema(60, 1)],
        vec![rename(4)],
        vec![stale(5)],
        vec![ends(6)],
        vec![begins(1005, Some(1))],
        detached(1, 1000..1010).into(),
        // Elsewhere, and back.
        attached(2, 1000..1003).into(),
        attached(1, 1050..1051).into(),
        attached(2, 1060..1061).into(),
        detached(2, 1000..1061).into(),
        vec![Event::Publication {
            names: vec!["p".to_owned()],
            definition: "d".to_owned(),
            members: BTreeMap::new(),
        }],
        vec![begins(1020, Some(1))],
        vec![ends(1020)],
    ];
    for events in steps {
        script.events(events).await;
        script.checkpoint().await;
        script.check().await;
    }
    script.entry(EntryKind::Commit, vec![files(7), files(60)], detached(1, 1070..1071).into()).await;
    script.checkpoint().await;
    script.check().await;
    script.entry(EntryKind::Void, Vec::new(), Vec::new()).await;
    script.checkpoint().await;
    script.check().await;
    // A daemon that starts from one goes on with it.
    script.state = load(&script.store).await.unwrap();
    script.events(vec![schema(8, 2)]).await;
    script.checkpoint().await;
    script.check().await;
}

#[tokio::test]
async fn a_checkpoint_writes_what_changed_and_not_what_there_is() {
    let mut script = Script::new();
    script.events((1..=45_000).map(|table| schema(table, 1)).collect()).await;
    script.checkpoint().await;
    let base = script.parts();
    assert_eq!(base.len(), 3, "{base:?}");
    let mut sizes = Vec::new();
    for _ in 0..6 {
        script.entry(EntryKind::Commit, (1..=1_000).map(files).collect(), Vec::new()).await;
        script.checkpoint().await;
        let parts = script.parts();
        assert!(base.iter().all(|part| parts.contains(part)), "what did not change stays where it is");
        let newest = format!("{}{:020}", layout::CHECKPOINT_PARTS_PREFIX, script.state().seq);
        let fresh: Vec<_> = parts.iter().filter(|part| part.starts_with(&newest)).collect();
        assert_eq!(fresh.len(), 1);
        let contents = script.store.contents();
        sizes.push((contents[&base[0]].len(), contents[fresh[0]].len()));
    }
    assert!(sizes.iter().all(|(base, fresh)| fresh * 10 < *base), "{sizes:?}");
    // The base, and what the two newest heads have beside it.
    assert_eq!((script.parts().len(), script.heads().len()), (5, 2));
    script.check().await;
    // Nothing changed: nothing but a head is written.
    let before = script.parts();
    script.events(Vec::new()).await;
    script.checkpoint().await;
    assert!(script.parts().iter().all(|part| before.contains(part)));
    script.check().await;
    // Half of it changed: it is written anew, and the base is gone once no head names it.
    script.events((1..=30_000).map(|table| schema(table, 2)).collect()).await;
    script.checkpoint().await;
    script.events(Vec::new()).await;
    script.checkpoint().await;
    assert_eq!(script.parts().len(), 3);
    assert!(script.parts().iter().all(|part| !base.contains(part)));
    script.check().await;
}

#[tokio::test]
async fn there_are_few_parts_however_many_checkpoints() {
    let mut script = Script::new();
    let mut next = 1;
    for round in 0..120_u32 {
        // Tables appear one by one, and some old ones change.
        script.events(vec![schema(next, 1), schema(1 + round % next, 2)]).await;
        next += 1;
        script.checkpoint().await;
    }
    script.check().await;
    assert!(script.state().marks.parts.len() <= 8, "{:?}", script.state().marks.parts);
    script.state = load(&script.store).await.unwrap();
    script.events(vec![schema(next, 1)]).await;
    script.checkpoint().await;
    script.check().await;
    assert!(script.state().marks.parts.len() <= 8, "{:?}", script.state().marks.parts);
}

#[tokio::test]
async fn a_head_whose_part_is_gone_is_no_checkpoint() {
    let mut script = Script::new();
    script.events((1..=10).map(|table| schema(table, 1)).collect()).await;
    script.checkpoint().await;
    let first = script.parts();
    script.events(vec![schema(3, 2)]).await;
    script.checkpoint().await;
    let second: Vec<String> = script.parts().into_iter().filter(|part| !first.contains(part)).collect();
    assert_eq!((first.len(), second.len()), (1, 1));
    script.store.delete(&second[0]).await.unwrap();
    script.check().await;
    script.store.delete(&first[0]).await.unwrap();
    script.check().await;
    // From the log alone, the next one is whole.
    script.state = load(&script.store).await.unwrap();
    script.events(Vec::new()).await;
    script.checkpoint().await;
    script.check().await;
    assert_eq!(script.state().marks.parts.len(), 1);
}

#[tokio::test]
async fn parts_without_a_head_are_nothing_but_space() {
    let mut script = Script::new();
    script.events((1..=10).map(|table| schema(table, 1)).collect()).await;
    script.checkpoint().await;
    script.events(vec![schema(3, 2)]).await;
    // It died before the head.
    let mut dying = script.state.clone();
    write_checkpoint(&script.store, dying.as_mut().unwrap()).await.unwrap();
    script.store.delete(&layout::checkpoint_key(2)).await.unwrap();
    script.check().await;
    script.state = load(&script.store).await.unwrap();
    script.checkpoint().await;
    script.check().await;
}

#[tokio::test]
async fn checkpoints_of_one_object_are_still_read() {
    let mut script = Script::new();
    script.events(vec![schema(1, 1), schema(2, 1)]).await;
    script.events(attached(1, 10..12).into()).await;
    // As versions before wrote it.
    let object = Bytes::from(to_json(script.state()).unwrap());
    assert!(object.starts_with(br#"{"format":1,"seq":2,"#));
    script.store.put(&layout::checkpoint_key(2), object).await.unwrap();
    // Only there: the log itself was cut off.
    script.store.delete(&layout::log_key(1)).await.unwrap();
    script.check().await;
    script.state = load(&script.store).await.unwrap();
    script.events(vec![schema(2, 2)]).await;
    script.checkpoint().await;
    script.check().await;
}

#[tokio::test]
async fn a_checkpoint_of_a_later_form_is_not_guessed_at() {
    let mut script = Script::new();
    script.events(vec![schema(1, 1)]).await;
    let later = Bytes::from_static(br#"{"format":3,"anything":true}"#);
    script.store.put(&layout::checkpoint_key(1), later).await.unwrap();
    let error = load(&script.store).await.unwrap_err().to_string();
    assert!(error.contains("format 3") && error.contains("format 2"), "{error}");
}

#[tokio::test]
async fn tables_with_the_same_columns_share_their_document() {
    let mut script = Script::new();
    script.events((1..=3).map(|table| schema(table, 1)).collect()).await;
    script.checkpoint().await;
    for state in [load(&script.store).await.unwrap(), script.state.take()] {
        let mut state = state.unwrap();
        assert_eq!(state.marks.documents.len(), 1);
        for table in 1..=3 {
            assert_eq!(state.tables[&table].document, Document::of(&json!({"columns": 1})));
        }
        state.tables.clear();
        assert!(state.marks.documents.iter().all(Document::is_alone));
    }
}
