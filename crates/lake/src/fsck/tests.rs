//! Lakes that the writer made, and damage that is done to them by hand.

use std::sync::Arc;

use bytes::Bytes;
use pgoutput::Lsn;
use serde_json::{Value, json};

use super::*;
use crate::gauge::Gauge;
use crate::layout::{self, Hour, Partition};
use crate::log::{self, Author, Entry, EntryKind, Event, FileEntry, TableFiles};
use crate::store::memory::MemoryStore;
use crate::store::{Listed, Unfinished};
use crate::watermark::{self, Watermark};
use crate::writer::tests::{cut, rows, spec, writer};
use crate::writer::{Layout, Writer};

const SHALLOW: Options = Options { deep: false, repair: false, log_from: 0 };
const DEEP: Options = Options { deep: true, ..SHALLOW };
const REPAIR: Options = Options { repair: true, ..SHALLOW };

/// A lake of an `open` entry and so many cuts of one file each; the first has the schema.
async fn lake(cuts: u64) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let gauge = Gauge::new(1 << 26);
    let mut writer = writer(&store, &gauge, u64::MAX).await;
    let identity = json!({"format": 1, "system_id": "7", "slot": "tributary"});
    store.put(layout::LAKE, Bytes::from(identity.to_string())).await.unwrap();
    for number in 0..cuts {
        one_cut(&mut writer, &gauge, number).await;
    }
    writer.abandon().await;
    store
}

async fn one_cut(writer: &mut Writer, gauge: &Arc<Gauge>, number: u64) {
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    let lsn = 110 + number * 10;
    file.write(rows(gauge, i64::try_from(lsn).unwrap(), 3, 20));
    let mut cut = cut(lsn + 5);
    if number == 0 {
        cut.events.push(schema());
    }
    writer.cut(cut, vec![file]).unwrap();
    writer.published().await.unwrap();
}

fn schema() -> Event {
    Event::Schema {
        table: "public.t".to_owned(),
        schema_name: "public".to_owned(),
        table_name: "t".to_owned(),
        relation: 7,
        path: "public/t".to_owned(),
        schema_id: 1,
        document: json!({"fields": []}),
    }
}

async fn report(store: &MemoryStore, options: Options) -> Report {
    check(store, options).await.unwrap().unwrap()
}

/// What is found: the fault and the key of each.
async fn found(store: &MemoryStore, options: Options) -> Vec<(Severity, Fault, String)> {
    let report = report(store, options).await;
    report.findings.into_iter().map(|finding| (finding.severity, finding.fault, finding.key)).collect()
}

async fn faults(store: &MemoryStore, options: Options) -> Vec<Fault> {
    found(store, options).await.into_iter().map(|(_, fault, _)| fault).collect()
}

fn damage(fault: Fault, key: impl Into<String>) -> Vec<(Severity, Fault, String)> {
    vec![(Severity::Damage, fault, key.into())]
}

async fn entry(store: &MemoryStore, seq: u64) -> Entry {
    log::read(store, layout::log_key(seq)).await.unwrap()
}

async fn change(store: &MemoryStore, seq: u64, change: impl FnOnce(&mut Entry)) {
    let mut entry = entry(store, seq).await;
    change(&mut entry);
    store.put(&layout::log_key(seq), Bytes::from(log::to_json(&entry).unwrap())).await.unwrap();
}

/// The file of the entry with this number.
async fn file(store: &MemoryStore, seq: u64) -> FileEntry {
    entry(store, seq).await.tables[0].files[0].clone()
}

async fn append(store: &MemoryStore, kind: EntryKind, change: impl FnOnce(&mut Entry)) -> Entry {
    let state = log::load(store).await.unwrap().unwrap();
    let takes_over = matches!(kind, EntryKind::Open | EntryKind::Void);
    let author = Author { epoch: state.epoch + u64::from(takes_over), owner: "test:2".to_owned() };
    let mut entry = state.next_entry(&author, kind).unwrap();
    change(&mut entry);
    log::append(store, &entry).await.unwrap();
    entry
}

async fn upload(store: &MemoryStore, seq: u64, number: u32) -> FileEntry {
    let partition = Partition::Hour(Hour { hour: 1 });
    let key = layout::data_key("public/t", &partition, seq, Lsn(200), Some(Lsn(200)), number);
    let content = Bytes::from_static(b"whatever");
    let upload_id = store.create_upload(&key).await.unwrap();
    let part = store.upload_part(&key, &upload_id, 1, 0, content.clone()).await.unwrap();
    FileEntry {
        key,
        upload_id,
        parts: vec![part],
        bytes: 8,
        rows: 3,
        ops: BTreeMap::from([("I".to_owned(), 3)]),
        partition,
        lsn_range: [Lsn(200), Lsn(200)],
        ts_range: [String::new(), String::new()],
        crc: format!("{:08x}", crc32fast::hash(&content)),
    }
}

/// A cut that is logged and not published.
async fn unpublished_cut(store: &MemoryStore) -> FileEntry {
    let seq = log::load(store).await.unwrap().unwrap().seq + 1;
    let file = upload(store, seq, 0).await;
    let files = vec![file.clone()];
    append(store, EntryKind::Commit, |entry| {
        entry.to_lsn = Lsn(entry.to_lsn.0 + 100);
        entry.tables.push(TableFiles { table: "public.t".to_owned(), relation: 7, schema_id: 1, files });
    })
    .await;
    file
}

async fn watermark(store: &MemoryStore) -> Watermark {
    serde_json::from_slice(&store.get(layout::WATERMARK).await.unwrap().unwrap().bytes).unwrap()
}

async fn put_watermark(store: &MemoryStore, change: impl FnOnce(&mut Watermark)) {
    let mut watermark = watermark(store).await;
    change(&mut watermark);
    let bytes = serde_json::to_vec(&watermark).unwrap();
    store.put(layout::WATERMARK, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn a_whole_lake_has_no_findings() {
    let store = lake(4).await;
    let report = report(&store, DEEP).await;
    assert!(report.findings.is_empty() && report.left_out.is_empty(), "{report:?}");
    assert_eq!((report.entries, report.last_entry, report.damage), (5, 5, 0));
    assert_eq!((report.files, report.files_read), (4, 4));
    assert!(report.bytes > 400);
    assert!(check(&MemoryStore::new(), DEEP).await.unwrap().is_none(), "without a log there is no lake");
}

#[tokio::test]
async fn an_entry_that_is_gone_or_broken_is_told_and_its_files_are_not_called_unlogged() {
    let store = lake(5).await;
    let third = file(&store, 3).await.key;
    store.delete(&layout::log_key(3)).await.unwrap();
    let mut expected = damage(Fault::EntryMissing, layout::log_key(3));
    expected.push((Severity::Warning, Fault::Unjudged, third.clone()));
    assert_eq!(found(&store, DEEP).await, expected);

    store.put(&layout::log_key(3), Bytes::from_static(b"{\"format\":1,")).await.unwrap();
    expected[0].1 = Fault::EntryUnreadable;
    assert_eq!(found(&store, DEEP).await, expected);

    // An orphan of another entry is told from it, and is not to be deleted lightly while one is missing behind it.
    let orphan = third.replace("00000000000000000003-", "00000000000000000002-").replace("-0000.", "-0009.");
    store.put(&orphan, Bytes::from_static(b"x")).await.unwrap();
    let report = report(&store, SHALLOW).await;
    let unlogged = report.findings.iter().find(|finding| finding.fault == Fault::Unlogged).unwrap();
    assert_eq!(
        (unlogged.key.as_str(), &unlogged.mend),
        (orphan.as_str(), &Mend::Say("keep it, and mend the log first"))
    );
}

#[tokio::test]
async fn the_first_entries_may_be_gone_on_purpose_behind_a_checkpoint() {
    let from = |log_from| Options { log_from, ..DEEP };
    let store = lake(6).await;
    for seq in [1, 2] {
        store.delete(&layout::log_key(seq)).await.unwrap();
    }
    let expected = damage(Fault::EntryMissing, layout::log_key(1));
    assert_eq!(found(&store, SHALLOW).await[..1], expected);
    assert_eq!(found(&store, from(3)).await[..1], expected, "nothing has what they fold to");

    let store = lake(6).await;
    let mut state = log::load(store.as_ref()).await.unwrap().unwrap();
    log::write_checkpoint(store.as_ref(), &mut state).await.unwrap();
    let first = file(&store, 2).await.key;
    for seq in [1, 2] {
        store.delete(&layout::log_key(seq)).await.unwrap();
    }
    // A checkpoint names no files, so that whoever has not said that they are to be gone has lost them.
    let mut lost = expected.clone();
    lost.push((Severity::Warning, Fault::Unjudged, first.clone()));
    for options in [SHALLOW, DEEP, from(2)] {
        assert_eq!(found(&store, options).await, lost);
    }
    let told = report(&store, SHALLOW).await;
    assert!(told.findings[0].what.starts_with("log entries 1 to 2 are missing"), "{told:?}");
    assert_eq!(told.findings[1].mend, Mend::Say("keep them, and mend the log first"));

    let notes = [Fault::EntriesNotKept, Fault::Unjudged].map(|fault| (Severity::Note, fault));
    let expected: Vec<_> = notes.into_iter().zip([layout::log_key(1), first]).collect();
    let found_now: Vec<_> = found(&store, from(3)).await.into_iter().map(|(s, f, k)| ((s, f), k)).collect();
    assert_eq!(found_now, expected);
    for seq in 3..=7 {
        store.delete(&layout::log_key(seq)).await.unwrap();
    }
    assert_eq!(report(&store, from(8)).await.damage, 0, "nothing but a checkpoint is a log, too");
    assert_eq!(report(&store, DEEP).await.damage, 1);
    // What goes on behind the checkpoint is checked against it.
    append(&store, EntryKind::Idle, |entry| entry.to_lsn = Lsn(entry.to_lsn.0 + 1)).await;
    assert_eq!(report(&store, from(8)).await.damage, 0);
    change(&store, 8, |entry| entry.from_lsn = Lsn(1)).await;
    assert_eq!(found(&store, from(8)).await[..1], damage(Fault::EntryDisagrees, layout::log_key(8)));
}

/// Behind entries that are not there, a checkpoint tells what tables there are.
#[tokio::test]
async fn behind_a_checkpoint_entries_are_held_to_its_tables() {
    let store = lake(3).await;
    let mut state = log::load(store.as_ref()).await.unwrap().unwrap();
    log::write_checkpoint(store.as_ref(), &mut state).await.unwrap();
    unpublished_cut(&store).await;
    for seq in 1..=4 {
        store.delete(&layout::log_key(seq)).await.unwrap();
    }
    let options = Options { log_from: 5, ..DEEP };
    assert_eq!(report(&store, options).await.damage, 0);
    change(&store, 5, |entry| entry.tables[0].schema_id = 2).await;
    assert_eq!(found(&store, options).await[..1], damage(Fault::EntryDisagrees, layout::log_key(5)));
}

/// What `fsck` says, without and with `--deep`, of an entry that was edited.
#[tokio::test]
async fn an_entry_that_says_what_cannot_be_is_told() {
    type Change = fn(&mut Entry);
    let changes: [(&str, Change); 14] = [
        ("relation 7 is public.t, and it calls it public.u", |entry| {
            entry.tables[0].table = "public.u".to_owned();
        }),
        ("files of public.t, relation 8, of which no entry has a schema", |entry| {
            entry.tables[0].relation = 8
        }),
        ("schema 2, and no entry has that", |entry| entry.tables[0].schema_id = 2),
        ("schema 0, and no entry has that", |entry| entry.tables[0].schema_id = 0),
        ("says 99 rows, and 3 by their operations", |entry| entry.tables[0].files[0].rows = 99),
        ("says 3 rows, and 1 by their operations", |entry| {
            entry.tables[0].files[0].ops = BTreeMap::from([("I".to_owned(), 1)]);
        }),
        ("says 3 rows, and 18446744073709551615 by their operations", |entry| {
            let ops = [("I", u64::MAX), ("U", u64::MAX)].map(|(op, count)| (op.to_owned(), count));
            entry.tables[0].files[0].ops = BTreeMap::from(ops);
        }),
        ("says 1 bytes, and ", |entry| entry.tables[0].files[0].bytes = 1),
        ("says commits 0/1 to 0/78", |entry| entry.tables[0].files[0].lsn_range[0] = Lsn(1)),
        ("says commits 0/78 to 0/79", |entry| entry.tables[0].files[0].lsn_range[1] = Lsn(0x79)),
        (
            "is not in the folder of its table and partition, `public/t/data/cdc_date=1970-01-01/cdc_hour=02/`",
            |entry| {
                entry.tables[0].files[0].partition = Partition::Hour(Hour { hour: 2 });
            },
        ),
        ("is not in the folder of its table", |entry| {
            let key = &mut entry.tables[0].files[0].key;
            *key = key.replace("public/t/", "public/u/");
        }),
        ("was begun for entry 4 or a later one", |entry| {
            let key = &mut entry.tables[0].files[0].key;
            *key = key.replace("/00000000000000000003-", "/00000000000000000004-");
        }),
        ("is a name that no daemon gives", |entry| {
            let key = &mut entry.tables[0].files[0].key;
            *key = key.replace("-0000.parquet", ".parquet");
        }),
    ];
    for (words, damage) in changes {
        for options in [SHALLOW, DEEP] {
            let store = lake(4).await;
            change(&store, 3, damage).await;
            let report = report(&store, options).await;
            let of_third = report.findings.iter().filter(|finding| finding.fault == Fault::EntryDisagrees);
            let texts: Vec<_> =
                of_third.map(|finding| (finding.key.clone(), finding.what.as_str())).collect();
            let is_told = |(key, text): &(String, &str)| *key == layout::log_key(3) && text.contains(words);
            assert!(texts.iter().any(is_told), "{words}: {:?}", report.findings);
            // Nothing is deleted on the word of an entry that was changed.
            let deletes = report.findings.iter().find(|finding| {
                matches!(finding.mend, Mend::Delete | Mend::Replace { .. }) || finding.repaired
            });
            assert!(deletes.is_none(), "{words}: {deletes:?}");
        }
    }
}

/// A file that was begun early does not know where it ends, and what follows may be of an older position.
#[tokio::test]
async fn a_file_that_was_begun_early_has_a_looser_name() {
    let store = lake(3).await;
    let early = |first: u64| {
        let partition = Partition::Hour(Hour { hour: 1 });
        layout::data_key("public/t", &partition, 2, Lsn(first), None, 0)
    };
    let FileEntry { key, .. } = file(&store, 3).await;
    let content = store.get(&key).await.unwrap().unwrap().bytes;
    store.delete(&key).await.unwrap();
    for (first, is_right) in [(0x78, true), (0x90, true), (0x77, false)] {
        change(&store, 3, |entry| entry.tables[0].files[0].key = early(first)).await;
        store.put(&early(first), content.clone()).await.unwrap();
        assert_eq!(report(&store, DEEP).await.damage == 0, is_right, "{first}");
        store.delete(&early(first)).await.unwrap();
    }
}

/// The checksum is right, so that the file is what was written; it is the entry that is not.
#[tokio::test]
async fn where_a_whole_file_says_otherwise_its_entry_was_changed() {
    type Change = fn(&mut Entry);
    let changes: [(&str, Change); 5] = [
        ("it says 4 rows, and the file has 3", |entry| {
            let file = &mut entry.tables[0].files[0];
            (file.rows, file.ops) = (4, BTreeMap::from([("I".to_owned(), 4)]));
        }),
        ("that it has schema 2, and the file says 1", |entry| {
            entry.tables[0].schema_id = 2;
        }),
        ("that it is of public.u, and the file says public.t", |entry| {
            entry.tables[0].table = "public.u".to_owned();
        }),
        ("commits 0/78 to 0/79, and the file has 0/78 to 0/78", |entry| {
            entry.tables[0].files[0].lsn_range[1] = Lsn(0x79);
        }),
        ("commits 0/1 to 0/78, and the file has 0/78 to 0/78", |entry| {
            entry.tables[0].files[0].lsn_range[0] = Lsn(1);
        }),
    ];
    for (words, damage) in changes {
        let store = lake(3).await;
        change(&store, 3, damage).await;
        let report = report(&store, DEEP).await;
        assert!(report.findings.iter().any(|finding| finding.what.contains(words)), "{words}: {report:?}");
        for finding in &report.findings {
            assert_eq!((finding.fault, finding.key.clone()), (Fault::EntryDisagrees, layout::log_key(3)));
            assert!(!matches!(finding.mend, Mend::Delete | Mend::Replace { .. }), "{finding:?}");
        }
    }
    // A schema that the table has, and these rows have not: only the file tells.
    let store = lake(3).await;
    let mut other = schema();
    if let Event::Schema { schema_id, .. } = &mut other {
        *schema_id = 2;
    }
    change(&store, 2, |entry| entry.events.push(other)).await;
    report(&store, REPAIR).await;
    change(&store, 3, |entry| entry.tables[0].schema_id = 2).await;
    assert_eq!(found(&store, SHALLOW).await, []);
    assert_eq!(found(&store, DEEP).await, damage(Fault::EntryDisagrees, layout::log_key(3)));
}

#[tokio::test]
async fn an_entry_that_does_not_fit_the_one_before_is_told() {
    type Change = fn(&mut Entry);
    let changes: [(&str, Change); 8] = [
        ("it begins at 0/1 and", |entry| entry.from_lsn = Lsn(1)),
        ("it goes from 0/73 back to 0/5", |entry| entry.to_lsn = Lsn(5)),
        ("it says that its number is 9", |entry| entry.seq = 9),
        ("its epoch is 2 behind 1 (commit entry)", |entry| entry.epoch = 2),
        ("its epoch is 0 behind 1", |entry| entry.epoch = 0),
        ("it is of system 8 and the one before of 7", |entry| entry.system_id = "8".to_owned()),
        ("it is on timeline 2 and the one before on 1", |entry| entry.timeline = 2),
        ("it is of slot `other`", |entry| entry.slot = "other".to_owned()),
    ];
    for (words, damage) in changes {
        let store = lake(4).await;
        change(&store, 3, damage).await;
        let report = report(&store, SHALLOW).await;
        let of_third = report.findings.iter().filter(|finding| finding.key == layout::log_key(3));
        let texts: Vec<&str> = of_third.map(|finding| finding.what.as_str()).collect();
        assert!(texts.iter().any(|text| text.contains(words)), "{words}: {:?}", report.findings);
        assert!(report.damage > 0);
    }
}

#[tokio::test]
async fn a_newer_timeline_comes_with_an_open_entry() {
    let store = lake(2).await;
    append(&store, EntryKind::Open, |entry| entry.timeline = 2).await;
    assert_eq!(faults(&store, SHALLOW).await, []);
}

#[tokio::test]
async fn a_checkpoint_is_what_the_log_folds_to() {
    let store = lake(4).await;
    let mut state = log::load(store.as_ref()).await.unwrap().unwrap();
    log::write_checkpoint(store.as_ref(), &mut state).await.unwrap();
    append(&store, EntryKind::Idle, |_| {}).await;
    watermark::write(store.as_ref(), &entry(&store, 6).await, None).await.unwrap();
    assert_eq!(faults(&store, DEEP).await, []);
    let head = layout::checkpoint_key(5);
    let part =
        store.objects().into_iter().find(|key| key.starts_with(layout::CHECKPOINT_PARTS_PREFIX)).unwrap();
    let (kept_head, kept_part) =
        (store.get(&head).await.unwrap().unwrap().bytes, store.get(&part).await.unwrap().unwrap().bytes);

    store.delete(&part).await.unwrap();
    assert_eq!(found(&store, SHALLOW).await, damage(Fault::CheckpointPartMissing, &part));
    store.put(&part, Bytes::from_static(b"no zstd")).await.unwrap();
    assert_eq!(found(&store, SHALLOW).await, damage(Fault::CheckpointUnreadable, &head));
    store.put(&part, kept_part).await.unwrap();
    store.put(&head, Bytes::from_static(b"{")).await.unwrap();
    assert_eq!(found(&store, SHALLOW).await, damage(Fault::CheckpointUnreadable, &head));

    let mut document: Value = serde_json::from_slice(&kept_head).unwrap();
    document["state"]["to_lsn"] = json!("0/99");
    store.put(&head, Bytes::from(document.to_string())).await.unwrap();
    let report = report(&store, SHALLOW).await;
    assert_eq!(report.findings[0].fault, Fault::CheckpointDiffers);
    assert!(report.findings[0].what.ends_with("up to its entry: position"), "{}", report.findings[0].what);
    // In the parts, too.
    store.put(&head, kept_head).await.unwrap();
    let rows = async |rows: u64| {
        change(&store, 3, |entry| {
            let file = &mut entry.tables[0].files[0];
            (file.rows, file.ops) = (rows, BTreeMap::from([("I".to_owned(), rows)]));
        })
        .await;
    };
    rows(4).await;
    assert_eq!(found(&store, SHALLOW).await, damage(Fault::CheckpointDiffers, &head));
    rows(3).await;
    assert_eq!(faults(&store, SHALLOW).await, []);
    // The end of the log is gone.
    put_watermark(&store, |watermark| watermark.seq = 5).await;
    let mut state = log::load(store.as_ref()).await.unwrap().unwrap();
    log::write_checkpoint(store.as_ref(), &mut state).await.unwrap();
    store.delete(&layout::log_key(6)).await.unwrap();
    assert!(faults(&store, SHALLOW).await.contains(&Fault::EntryMissing));
}

#[tokio::test]
async fn a_file_that_is_gone_cut_off_or_changed_is_told_with_its_table() {
    let store = lake(4).await;
    let FileEntry { key, .. } = file(&store, 3).await;
    let content = store.get(&key).await.unwrap().unwrap().bytes;

    store.delete(&key).await.unwrap();
    let gone = report(&store, DEEP).await;
    assert_eq!((gone.damage, gone.findings.len()), (1, 1));
    assert_eq!((gone.findings[0].fault, gone.findings[0].key.as_str()), (Fault::FileMissing, key.as_str()));
    assert_eq!(gone.findings[0].mend, Mend::Resync { table: "public.t".to_owned() });
    assert_eq!(
        gone.findings[0].what,
        "is not there; log entry 3 names it: 3 rows of public.t, partition cdc_date=1970-01-01/cdc_hour=01, of commits 0/78 to 0/78"
    );

    store.put(&key, content.slice(..content.len() - 20)).await.unwrap();
    assert_eq!(found(&store, DEEP).await, damage(Fault::FileSize, &key));
    let mut forged = content.to_vec();
    forged[30] ^= 1;
    store.put(&key, forged.into()).await.unwrap();
    assert_eq!(found(&store, SHALLOW).await, []);
    assert_eq!(found(&store, DEEP).await, damage(Fault::FileChecksum, &key));
    store.put(&key, content).await.unwrap();
    assert_eq!(found(&store, DEEP).await, []);
}

#[tokio::test]
async fn a_missing_file_is_no_damage_once_its_table_was_read_again() {
    let store = lake(3).await;
    let (first, last) = (file(&store, 2).await, file(&store, 4).await);
    store.delete(&first.key).await.unwrap();
    store.delete(&last.key).await.unwrap();
    // Between the two: what was written behind the point is as missing as before.
    let lsn = Lsn(last.lsn_range[0].0);
    append(&store, EntryKind::Idle, |entry| {
        let (table, relation) = ("public.t".to_owned(), 7);
        entry.events.push(Event::SnapshotStart {
            table: table.clone(),
            relation,
            root: None,
            supersedes: true,
            anew: true,
        });
        entry.events.push(Event::SnapshotEnd { table, relation, lsn, rows: 3, reason: None });
    })
    .await;
    let expected = [
        (Severity::Damage, Fault::FileMissing, last.key.clone()),
        (Severity::Warning, Fault::FileMissing, first.key.clone()),
    ];
    assert_eq!(found(&store, DEEP).await, expected);
    // A snapshot that was only asked for supersedes nothing yet.
    change(&store, 5, |entry| drop(entry.events.pop())).await;
    assert!(found(&store, DEEP).await.iter().all(|(severity, _, _)| *severity == Severity::Damage));
}

#[tokio::test]
async fn a_file_without_a_footer_is_told_though_its_checksum_is_right() {
    let contents: [&[u8]; 3] =
        [b"no Parquet file at all", b"x\x10\0\0\0PAR1", b"\xff\xff\xff\xff\xff\x04\0\0\0PAR1"];
    for content in contents {
        let store = lake(2).await;
        let FileEntry { key, .. } = file(&store, 2).await;
        store.put(&key, Bytes::from_static(content)).await.unwrap();
        change(&store, 2, |entry| {
            let file = &mut entry.tables[0].files[0];
            (file.bytes, file.crc) = (content.len() as u64, format!("{:08x}", crc32fast::hash(content)));
            file.parts[0].bytes = file.bytes;
        })
        .await;
        assert_eq!(found(&store, DEEP).await, damage(Fault::FileUnreadable, &key), "{content:?}");
    }
}

#[tokio::test]
async fn what_no_entry_names_is_told() {
    let store = lake(3).await;
    let FileEntry { key, .. } = file(&store, 3).await;
    let content = store.get(&key).await.unwrap().unwrap().bytes;
    let copies = [
        key.replace(".parquet", "-copy.parquet"),
        "public/t/data/x.parquet".to_owned(),
        "zzz.parquet".to_owned(),
    ];
    for copy in &copies {
        store.put(copy, content.clone()).await.unwrap();
    }
    for hidden in ["public/t/data/_SUCCESS", "public/t/data/cdc_date=2026-01-01/.part.tmp", "README.md"] {
        store.put(hidden, content.clone()).await.unwrap();
    }
    store.put("public/t/data/part.tmp", content).await.unwrap();
    let report = report(&store, SHALLOW).await;
    let unlogged = report.findings.iter().filter(|finding| finding.fault == Fault::Unlogged);
    let unlogged: Vec<_> = unlogged.map(|finding| (finding.key.as_str(), &finding.mend)).collect();
    assert_eq!(unlogged, copies.each_ref().map(|copy| (copy.as_str(), &Mend::Delete)));
    let others: Vec<_> = report.findings.iter().filter(|finding| finding.fault != Fault::Unlogged).collect();
    assert_eq!(others.len(), 1);
    assert_eq!((others[0].fault, others[0].key.as_str()), (Fault::Foreign, "public/t/data/part.tmp"));
    assert_eq!(report.damage, 3);
}

#[tokio::test]
async fn two_entries_that_name_one_file_are_told() {
    let store = lake(3).await;
    let first = file(&store, 2).await;
    change(&store, 4, |entry| entry.tables[0].files.push(first)).await;
    assert_eq!(found(&store, SHALLOW).await, damage(Fault::LoggedTwice, layout::log_key(4)));
}

#[tokio::test]
async fn nothing_of_a_void_entry_may_be_left() {
    let store = lake(2).await;
    let file = unpublished_cut(&store).await;
    let cut = entry(&store, 4).await;
    append(&store, EntryKind::Void, |entry| {
        entry.to_lsn = cut.from_lsn;
        entry.events.push(Event::Void { seq: 4, reason: "a test".to_owned() });
    })
    .await;
    // Its upload must be aborted whatever became of who began it.
    assert_eq!(found(&store, REPAIR).await, [(Severity::Warning, Fault::UploadAbandoned, file.key.clone())]);
    assert_eq!(store.list_uploads("").await.unwrap(), []);
    assert_eq!(faults(&store, DEEP).await, []);
    store.put(&file.key, Bytes::from_static(b"whatever")).await.unwrap();
    let report = report(&store, DEEP).await;
    assert_eq!((report.findings[0].fault, &report.findings[0].mend), (Fault::OfVoidEntry, &Mend::Delete));
    assert_eq!((report.findings.len(), report.files), (1, 2));
    // A void entry that takes back something else.
    change(&store, 5, |entry| entry.to_lsn = Lsn(101)).await;
    assert_eq!(found(&store, SHALLOW).await[0], damage(Fault::EntryDisagrees, layout::log_key(5))[0]);
}

#[tokio::test]
async fn the_last_cut_may_be_on_its_way() {
    let store = lake(2).await;
    let file = unpublished_cut(&store).await;
    let note = (Severity::Note, Fault::BeingPublished, layout::log_key(4));
    assert_eq!(found(&store, DEEP).await, std::slice::from_ref(&note));
    // Also if another daemon has opened the lake meanwhile and ended; and nothing is aborted.
    append(&store, EntryKind::Open, |_| {}).await;
    assert_eq!(found(&store, REPAIR).await, [note]);
    assert_eq!(store.list_uploads("").await.unwrap().len(), 1);
    store.abort_upload(&file.key, &file.upload_id).await.unwrap();
    assert_eq!(found(&store, DEEP).await, damage(Fault::FileLost, &file.key));
}

/// The slot was told of what the watermark stands for, so that no cut is streamed again.
#[tokio::test]
async fn what_is_missing_of_a_published_cut_is_lost_though_it_is_the_last() {
    let store = lake(2).await;
    let FileEntry { key, .. } = file(&store, 3).await;
    store.delete(&key).await.unwrap();
    for end in ["the cut", "an open entry"] {
        let report = report(&store, DEEP).await;
        assert_eq!(report.findings.len(), 1, "{end}: {report:?}");
        let Finding { fault, key: of, mend, .. } = &report.findings[0];
        assert_eq!((*fault, of), (Fault::FileMissing, &key), "behind {end}");
        assert_eq!(*mend, Mend::Resync { table: "public.t".to_owned() });
        append(&store, EntryKind::Open, |_| {}).await;
    }
    // Its schema was written before, too.
    let store = lake(1).await;
    store.delete(&layout::schema_key("public/t", 1)).await.unwrap();
    assert_eq!(faults(&store, SHALLOW).await, [Fault::SchemaMissing]);

    // Without a watermark nobody can tell.
    let store = lake(2).await;
    let file = unpublished_cut(&store).await;
    store.abort_upload(&file.key, &file.upload_id).await.unwrap();
    let mend = async || {
        let report = report(&store, SHALLOW).await;
        let lost = report.findings.into_iter().find(|finding| finding.fault == Fault::FileLost).unwrap();
        let Mend::Say(words) = lost.mend else { panic!("{lost:?}") };
        words
    };
    assert!(mend().await.starts_with("nothing is lost"));
    store.delete(layout::WATERMARK).await.unwrap();
    assert!(mend().await.starts_with("if the slot has its range still"));
}

/// What is at hand of entries that are gone may be the only copy of its rows.
#[tokio::test]
async fn files_of_a_lost_end_of_the_log_are_kept() {
    let keep = Mend::Say("keep them, and mend the log first");
    let store = lake(4).await;
    let (last, before) = (file(&store, 5).await.key, file(&store, 3).await.key);
    store.delete(&layout::log_key(5)).await.unwrap();
    // One that was begun for an older entry, as a snapshot does, could be named by the one that is gone.
    let begun = before.replace("-0000.parquet", "-0001.parquet");
    store.put(&begun, Bytes::from_static(b"x")).await.unwrap();
    let told = async || {
        let report = report(&store, REPAIR).await;
        let told = report.findings.into_iter().map(|finding| (finding.fault, finding.key, finding.mend));
        told.collect::<Vec<_>>()
    };
    let unlogged = (Fault::Unlogged, begun.clone(), Mend::Say("keep it, and mend the log first"));
    let unjudged = (Fault::Unjudged, last.clone(), keep);
    let found = told().await;
    assert_eq!((&found[0], &found[2], found.len()), (&unlogged, &unjudged, 3));
    assert_eq!((found[1].0, found[1].1.as_str()), (Fault::WatermarkAhead, layout::WATERMARK));

    // The watermark is older, so that only the file shows it.
    let third = Watermark::of(&entry(&store, 4).await, watermark(&store).await.to_commit_ts);
    third.put(store.as_ref()).await.unwrap();
    let found = told().await;
    assert_eq!((found[0].0, found[0].1.as_str()), (Fault::EntryMissing, layout::log_key(5).as_str()));
    assert_eq!((&found[1], &found[2], found.len()), (&unlogged, &unjudged, 3));

    // Once the log is whole again, the one that nobody names can go.
    store.delete(&last).await.unwrap();
    assert_eq!(told().await, [(Fault::Unlogged, begun, Mend::Delete)]);
}

/// An upload could be named by an entry that is gone.
#[tokio::test]
async fn uploads_are_kept_while_the_end_of_the_log_is_lost() {
    let store = lake(2).await;
    upload(&store, 3, 7).await;
    append(&store, EntryKind::Open, |_| {}).await;
    put_watermark(&store, |watermark| watermark.seq = 9).await;
    report(&store, REPAIR).await;
    assert_eq!(store.list_uploads("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_logged_upload_that_nobody_completed_is_completed() {
    let store = lake(2).await;
    let file = unpublished_cut(&store).await;
    append(&store, EntryKind::Idle, |entry| entry.to_lsn = Lsn(900)).await;
    put_watermark(&store, |watermark| (watermark.seq, watermark.to_lsn) = (5, Lsn(900))).await;
    assert_eq!(found(&store, DEEP).await, damage(Fault::FileNotPublished, &file.key));
    let repaired = report(&store, REPAIR).await;
    assert!(repaired.findings[0].repaired && repaired.damage == 0, "{repaired:?}");
    assert_eq!(store.head(&file.key).await.unwrap(), Some(8));
    assert_eq!(faults(&store, SHALLOW).await, []);
}

#[tokio::test]
async fn only_uploads_that_nobody_can_log_are_aborted() {
    let store = lake(2).await;
    let before = upload(&store, 3, 7).await;
    append(&store, EntryKind::Open, |_| {}).await;
    // At its number, by who was fenced with it; and behind it, by who took over.
    let fenced = upload(&store, 4, 0).await;
    let running = upload(&store, 5, 0).await;
    let probe = store.create_upload("_tributary/probe/1").await.unwrap();
    let expected: Vec<_> = [before.key.clone(), fenced.key.clone()]
        .map(|key| (Severity::Warning, Fault::UploadAbandoned, key))
        .into_iter()
        .chain([(Severity::Note, Fault::UploadOpen, "_tributary/probe/1".to_owned())])
        .collect();
    assert_eq!(found(&store, SHALLOW).await, expected);
    assert_eq!(store.list_uploads("").await.unwrap().len(), 4, "without --repair nothing is done");

    // An entry that cannot be read could name those before it.
    let kept = store.get(&layout::log_key(3)).await.unwrap().unwrap().bytes;
    store.delete(&layout::log_key(3)).await.unwrap();
    report(&store, REPAIR).await;
    let left = async || {
        let left = store.list_uploads("").await.unwrap().into_iter();
        left.map(|Unfinished { upload_id, .. }| upload_id).collect::<Vec<_>>()
    };
    assert!(left().await.contains(&before.upload_id) && !left().await.contains(&fenced.upload_id));
    store.put(&layout::log_key(3), kept).await.unwrap();
    let repaired = report(&store, REPAIR).await;
    assert!(
        repaired.findings.iter().all(|finding| finding.repaired == (finding.fault == Fault::UploadAbandoned))
    );
    assert_eq!(left().await, [probe, running.upload_id]);
}

#[tokio::test]
async fn the_watermark_stands_for_a_published_cut() {
    let store = lake(4).await;
    let right = watermark(&store).await;
    let check = async |expected: Option<(Severity, Fault)>, is_mended: bool| {
        let expected: Vec<_> =
            expected.map(|(s, f)| (s, f, layout::WATERMARK.to_owned())).into_iter().collect();
        assert_eq!(found(&store, SHALLOW).await, expected);
        let repaired = report(&store, REPAIR).await;
        assert!(repaired.findings.iter().all(|finding| finding.repaired == is_mended), "{repaired:?}");
        assert_eq!(found(&store, SHALLOW).await.is_empty(), is_mended);
        store.put(layout::WATERMARK, serde_json::to_vec(&right).unwrap().into()).await.unwrap();
    };
    store.delete(layout::WATERMARK).await.unwrap();
    check(Some((Severity::Damage, Fault::WatermarkMissing)), true).await;
    store.put(layout::WATERMARK, Bytes::from_static(b"{")).await.unwrap();
    check(Some((Severity::Damage, Fault::WatermarkUnreadable)), true).await;
    put_watermark(&store, |watermark| watermark.seq = 6).await;
    check(Some((Severity::Damage, Fault::WatermarkAhead)), false).await;
    put_watermark(&store, |watermark| watermark.to_lsn = Lsn(9_999)).await;
    check(Some((Severity::Damage, Fault::WatermarkDiffers)), true).await;
    // One behind is written next, or was not when its daemon ended.
    let fourth = Watermark::of(&entry(&store, 4).await, right.to_commit_ts.clone());
    fourth.put(store.as_ref()).await.unwrap();
    check(None, true).await;
    let third = Watermark::of(&entry(&store, 3).await, right.to_commit_ts.clone());
    third.put(store.as_ref()).await.unwrap();
    check(Some((Severity::Warning, Fault::WatermarkBehind)), true).await;
}

#[tokio::test]
async fn schema_documents_are_there_and_as_logged() {
    let store = lake(3).await;
    let key = layout::schema_key("public/t", 1);
    let content = store.get(&key).await.unwrap().unwrap().bytes;
    store.delete(&key).await.unwrap();
    assert_eq!(found(&store, SHALLOW).await, damage(Fault::SchemaMissing, &key));
    assert_eq!(report(&store, REPAIR).await.damage, 0);
    assert_eq!(store.get(&key).await.unwrap().unwrap().bytes, content);
    store.put(&key, Bytes::from_static(b"{\"fields\":[1]}")).await.unwrap();
    assert_eq!(found(&store, SHALLOW).await, []);
    assert_eq!(found(&store, DEEP).await, damage(Fault::SchemaDiffers, &key));
    report(&store, Options { deep: true, ..REPAIR }).await;
    assert_eq!(store.get(&key).await.unwrap().unwrap().bytes, content);
}

#[tokio::test]
async fn the_identity_is_the_logs() {
    let store = lake(1).await;
    store
        .put(layout::LAKE, Bytes::from_static(b"{\"system_id\":\"8\",\"slot\":\"tributary\"}"))
        .await
        .unwrap();
    assert_eq!(found(&store, SHALLOW).await, damage(Fault::IdentityDiffers, layout::LAKE));
    store.delete(layout::LAKE).await.unwrap();
    assert_eq!(
        found(&store, SHALLOW).await,
        [(Severity::Warning, Fault::IdentityMissing, layout::LAKE.to_owned())]
    );
}

#[tokio::test]
async fn a_thousand_findings_are_listed_and_the_others_counted() {
    let store = lake(1).await;
    for number in 0..FINDINGS_MAX + 5 {
        store.put(&format!("public/t/data/{number}.parquet"), Bytes::new()).await.unwrap();
    }
    let report = report(&store, SHALLOW).await;
    assert_eq!((report.findings.len() as u64, report.damage), (FINDINGS_MAX, FINDINGS_MAX + 5));
    assert_eq!(report.left_out, BTreeMap::from([(Fault::Unlogged, 5)]));
}

/// Beside a writer that goes on: whatever is read when, nothing is wrong with the lake.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lake_that_is_being_written_is_never_called_damaged() {
    let store = Arc::new(MemoryStore::new());
    let gauge = Gauge::new(1 << 26);
    let mut writer = writer(&store, &gauge, u64::MAX).await;
    let identity = json!({"system_id": "7", "slot": "tributary"});
    store.put(layout::LAKE, Bytes::from(identity.to_string())).await.unwrap();
    let writing = tokio::spawn(async move {
        for number in 0..400 {
            one_cut(&mut writer, &gauge, number).await;
        }
        writer.abandon().await;
    });
    let mut checks = 0;
    while !writing.is_finished() {
        let report = report(&store, Options { deep: checks % 2 == 0, ..REPAIR }).await;
        let loud: Vec<_> =
            report.findings.iter().filter(|finding| finding.severity != Severity::Note).collect();
        assert!(loud.is_empty(), "{loud:?}");
        checks += 1;
    }
    writing.await.unwrap();
    assert!(checks > 2, "the writer was too quick: {checks}");
    let report = report(&store, DEEP).await;
    assert!(report.findings.is_empty() && report.files == 400, "{report:?}");
}

#[test]
fn names_say_from_which_entry_on_a_file_can_be_named() {
    let partition = Partition::Hour(Hour { hour: 1 });
    let key = layout::data_key("public/t", &partition, 12, Lsn(1), None, 3);
    assert_eq!(layout::data_seq(&key), Some(12));
    for other in ["public/t/data/x.parquet", "public/t/data/1-2-3.parquet", &layout::log_key(3), "x"] {
        assert_eq!(layout::data_seq(other), None, "{other}");
    }
}

/// Ranges of keys that are listed at once lose and double nothing, whatever lies between the tables.
#[tokio::test]
async fn listings_in_ranges_show_every_key_once() {
    let store = lake(2).await;
    let mut keys: Vec<String> =
        ["0.parquet", "A/b.parquet", "_a.parquet", "_tributary.parquet", "public/t.parquet"]
            .map(str::to_owned)
            .into();
    keys.extend(["public/t/data/a.parquet", "public/t0/data/a.parquet", "zz/a.parquet"].map(str::to_owned));
    for key in &keys {
        store.put(key, Bytes::from_static(b"1")).await.unwrap();
    }
    let unlogged: Vec<String> = found(&store, SHALLOW).await.into_iter().map(|(_, _, key)| key).collect();
    keys.sort();
    assert_eq!(unlogged, keys);
    let all: Vec<Listed> = store.list("", None, usize::MAX).await.unwrap();
    assert!(all.len() > keys.len() + 5);
}
