use std::collections::HashMap;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::*;
use crate::gauge::Use;
use crate::layout::{self, Hour};
use crate::log::{self, Entry, EntryKind};
use crate::store::memory::MemoryStore;
use crate::{publish, watermark};

const HOUR: i64 = 3_600_000_000;

pub(crate) fn first_entry() -> Entry {
    Entry::first("test:1".to_owned(), "7", 1, "tributary", Lsn(100)).unwrap()
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type, id: &str| {
        Field::new(name, data_type, true)
            .with_metadata(HashMap::from([("PARQUET:field_id".to_owned(), id.to_owned())]))
    };
    Arc::new(Schema::new(vec![
        field("_cdc_op", DataType::Utf8, "1"),
        field("_cdc_lsn", DataType::Int64, "2"),
        field("_cdc_seq", DataType::Int64, "3"),
        field("_cdc_commit_ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), "4"),
        field("note", DataType::Utf8, "100"),
    ]))
}

pub(crate) fn spec(layout: Layout) -> FileSpec {
    FileSpec { table: "public.t".to_owned(), relation: 7, path: "public/t".to_owned(), schema_id: 1, layout }
}

pub(crate) fn rows(gauge: &Arc<Gauge>, lsn: i64, count: i64, note_bytes: usize) -> Rows {
    // Letters that no codec can shorten much.
    let mut random = u64::try_from(lsn).unwrap() | 1;
    let mut letter = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + u8::try_from((random >> 33) % 90).unwrap())
    };
    let notes: Vec<String> = (0..count).map(|_| (0..note_bytes).map(|_| letter()).collect()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((0..count).map(|_| "I"))),
        Arc::new(Int64Array::from_iter_values((0..count).map(|_| lsn))),
        Arc::new(Int64Array::from_iter_values(1..=count)),
        Arc::new(TimestampMicrosecondArray::from_iter_values((0..count).map(|_| HOUR)).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(notes)),
    ];
    let lsn = Lsn(u64::try_from(lsn).unwrap());
    Rows {
        batch: RecordBatch::try_new(schema(), columns).unwrap(),
        lsn_range: (lsn, lsn),
        ts_range: (HOUR, HOUR),
        ops: vec![("I", u64::try_from(count).unwrap()), ("U", 0)],
        reservation: gauge.reserve(Use::Buffers, 1_000),
    }
}

pub(crate) fn cut(to_lsn: u64) -> Cut {
    Cut {
        to_lsn: Lsn(to_lsn),
        from_commit_time: Some(HOUR),
        to_commit_time: Some(HOUR),
        written_at: String::new(),
        events: Vec::new(),
    }
}

pub(crate) async fn writer(store: &Arc<MemoryStore>, gauge: &Arc<Gauge>, file_bytes: u64) -> Writer {
    let mut state = None;
    log::append(store.as_ref(), &first_entry()).await.unwrap();
    log::follow(store.as_ref(), &mut state).await.unwrap();
    let settings = Settings { file_bytes, encoders: 2, uploads: 4, steps: Steps::default() };
    let author = Author { epoch: 1, owner: "test:1".to_owned() };
    Writer::start(Arc::clone(store) as Arc<dyn Store>, Arc::clone(gauge), settings, state.unwrap(), author)
}

fn parquet_files(store: &MemoryStore) -> Vec<String> {
    store.objects().into_iter().filter(|key| key.ends_with(".parquet")).collect()
}

fn read_rows(store: &MemoryStore) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    for (key, bytes) in store.contents() {
        if !key.ends_with(".parquet") {
            continue;
        }
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column =
                |index: usize| batch.column(index).as_any().downcast_ref::<Int64Array>().unwrap().clone();
            found.extend(column(1).values().iter().copied().zip(column(2).values().iter().copied()));
        }
    }
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_cut_becomes_files_a_log_entry_and_a_watermark_in_that_order() {
    let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    file.write(rows(&gauge, 150, 3, 10));
    file.write(rows(&gauge, 160, 2, 10));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(parquet_files(&store), Vec::<String>::new(), "I4: nothing is visible before the cut");

    writer.cut(cut(180), vec![file]).unwrap();
    let published = writer.published().await.unwrap();
    assert_eq!((published.seq, published.kind, published.to_lsn), (2, EntryKind::Commit, Lsn(180)));
    assert_eq!(
        parquet_files(&store),
        [
            "public/t/data/cdc_date=1970-01-01/cdc_hour=01/00000000000000000002-0000000000000096-00000000000000a0-0000.parquet"
        ]
    );
    assert_eq!(read_rows(&store), [(150, 1), (150, 2), (150, 3), (160, 1), (160, 2)]);
    let state = log::load(store.as_ref()).await.unwrap().unwrap();
    let entry = state.last_cut.unwrap();
    let file = &entry.tables[0].files[0];
    assert_eq!((file.rows, file.ops["I"], file.lsn_range), (5, 5, [Lsn(150), Lsn(160)]));
    let bytes = &store.contents()[&file.key];
    assert_eq!(file.bytes, u64::try_from(bytes.len()).unwrap());
    assert_eq!(file.crc, format!("{:08x}", crc32fast::hash(bytes)));
    assert!(store.objects().contains(&layout::WATERMARK.to_owned()));
    assert_eq!(gauge.used(), 0, "I8: all memory is given back");
}

#[tokio::test]
async fn cuts_are_logged_in_order_and_a_cut_without_rows_is_an_idle_entry() {
    let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    file.write(rows(&gauge, 150, 1_000, 100));
    writer.cut(cut(180), vec![file]).unwrap();
    writer.cut(Cut { to_commit_time: None, ..cut(500) }, Vec::new()).unwrap();
    let kinds = [writer.published().await.unwrap().kind, writer.published().await.unwrap().kind];
    assert_eq!(kinds, [EntryKind::Commit, EntryKind::Idle]);
    let state = log::load(store.as_ref()).await.unwrap().unwrap();
    assert_eq!((state.seq, state.to_lsn, state.last_cut), (3, Lsn(500), None));
}

#[tokio::test]
async fn large_files_roll_and_upload_their_parts_before_the_cut() {
    let (store, gauge) = (Arc::new(MemoryStore::with_part_size(20_000)), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 200_000).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    for lsn in 150..170 {
        file.write(rows(&gauge, lsn, 200, 400));
        file.flush();
    }
    writer.cut(cut(180), vec![file]).unwrap();
    writer.published().await.unwrap();
    let files = parquet_files(&store);
    assert!(files.len() >= 2, "{files:?}");
    assert!(files[0].contains("-ffffffffffffffff-0000.parquet"), "begun before its end was known: {files:?}");
    assert_eq!(read_rows(&store).len(), 20 * 200);
    let entry = log::load(store.as_ref()).await.unwrap().unwrap().last_cut.unwrap();
    for file in &entry.tables[0].files {
        assert_eq!(file.parts.iter().map(|part| part.bytes).sum::<u64>(), file.bytes);
        assert_eq!(file.crc, format!("{:08x}", crc32fast::hash(&store.contents()[&file.key])));
    }
    assert_eq!(gauge.used(), 0);
}

/// A transaction over many wide tables would else hold the budget for ever: what codecs of a hundred columns hold is a part's worth, and is no
/// part.
#[tokio::test]
async fn a_file_that_has_no_part_to_give_ends_to_give_its_memory_back() {
    let (store, gauge) = (Arc::new(MemoryStore::with_part_size(100_000)), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    file.write(rows(&gauge, 150, 3, 10));
    while file.memory_bytes() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert!(file.memory_bytes() > 100_000, "{}", file.memory_bytes());
    file.flush();
    while file.memory_bytes() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    file.write(rows(&gauge, 151, 3, 10));
    writer.cut(cut(180), vec![file]).unwrap();
    writer.published().await.unwrap();
    assert_eq!((parquet_files(&store).len(), read_rows(&store).len()), (2, 6));
    assert_eq!(gauge.used(), 0);
}

#[tokio::test]
async fn an_ended_file_is_followed_by_another_of_the_same_cut() {
    let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    file.write(rows(&gauge, 150, 3, 10));
    file.end();
    file.write(rows(&gauge, 151, 3, 10));
    writer.cut(cut(180), vec![file]).unwrap();
    writer.published().await.unwrap();
    assert_eq!(parquet_files(&store).len(), 2);
    assert_eq!(read_rows(&store).len(), 6);
}

#[tokio::test]
async fn a_daemon_that_lost_the_log_is_fenced_and_shows_nothing() {
    let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    file.write(rows(&gauge, 150, 3, 10));
    let usurper = Entry {
        seq: 2,
        epoch: 2,
        owner: "other:2".to_owned(),
        nonce: log::nonce().unwrap(),
        ..first_entry()
    };
    log::append(store.as_ref(), &usurper).await.unwrap();
    writer.cut(cut(180), vec![file]).unwrap();
    let error = writer.published().await.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Fenced, "{error}");
    assert_eq!(parquet_files(&store), Vec::<String>::new());
}

/// Found by a simulation: the store only says that there is no such upload.
#[tokio::test]
async fn a_daemon_whose_uploads_the_next_owner_aborted_is_fenced() {
    let (store, gauge) = (Arc::new(MemoryStore::with_part_size(1_000)), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    file.write(rows(&gauge, 150, 200, 400));
    file.flush();
    while store.list_uploads("").await.unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut state = log::load(store.as_ref()).await.unwrap().unwrap();
    let fill = |_: &State, entry| entry;
    log::open(store.as_ref(), &mut state, None, "test:2".to_owned(), fill).await.unwrap().unwrap();
    publish::roll_forward(store.as_ref(), &state).await.unwrap();

    file.write(rows(&gauge, 160, 200, 400));
    writer.cut(cut(180), vec![file]).unwrap();
    let error = writer.published().await.unwrap_err();
    assert!(matches!(&error, Error::Fenced { seq: 2, epoch: 2, ours: 1, .. }), "{error}");
}

/// T38: a transaction that changes columns leaves files whose rows all have its one LSN.
#[tokio::test]
async fn two_schema_versions_of_one_transaction_are_two_files() {
    let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let old = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    let new = writer.open_file(FileSpec { schema_id: 2, ..spec(Layout::Hour(Hour { hour: 1 })) });
    let elsewhere =
        writer.open_file(FileSpec { path: "public/u".to_owned(), ..spec(Layout::Hour(Hour { hour: 1 })) });
    old.write(rows(&gauge, 150, 3, 10));
    old.end();
    old.write(rows(&gauge, 150, 4, 10));
    new.write(rows(&gauge, 150, 5, 10));
    elsewhere.write(rows(&gauge, 150, 6, 10));
    writer.cut(cut(180), vec![old, new, elsewhere]).unwrap();
    writer.published().await.unwrap();
    let numbers = |folder: &str| {
        let files = parquet_files(&store).into_iter().filter(|key| key.starts_with(folder));
        let numbers = files.map(|key| key[key.len() - 12..key.len() - 8].to_owned());
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(
        (numbers("public/t/"), numbers("public/u/")),
        (vec!["0000".into(), "0001".into(), "0002".into()], vec!["0000".into()])
    );
    assert_eq!(read_rows(&store).len(), 3 + 4 + 5 + 6);
}

#[tokio::test]
async fn what_was_logged_and_not_published_is_rolled_forward_by_anybody() {
    let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    file.write(rows(&gauge, 150, 3, 10));
    writer.cut(cut(180), vec![file]).unwrap();
    writer.published().await.unwrap();
    let entry = log::load(store.as_ref()).await.unwrap().unwrap().last_cut.unwrap();

    publish::publish(store.as_ref(), &entry).await.unwrap();
    publish::publish(store.as_ref(), &entry).await.unwrap();
    assert_eq!(read_rows(&store).len(), 3, "publishing again changes nothing");

    let key = &entry.tables[0].files[0].key;
    store.delete(key).await.unwrap();
    let error = publish::publish(store.as_ref(), &entry).await.unwrap_err();
    assert!(matches!(&error, Error::UploadGone { seq: 2, from_lsn: Lsn(100), .. }), "{error}");
    assert!(error.hint().unwrap().contains("tributary repair"));
}

#[tokio::test]
async fn what_is_lost_of_a_published_cut_stops_nobody_and_a_lost_end_of_the_log_does() {
    let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    file.write(rows(&gauge, 150, 3, 10));
    writer.cut(cut(180), vec![file]).unwrap();
    writer.published().await.unwrap();
    let mut state = log::load(store.as_ref()).await.unwrap().unwrap();
    watermark::refuse_lost_entries(store.as_ref(), &mut state).await.unwrap();
    let entry = state.last_cut.clone().unwrap();
    watermark::write(store.as_ref(), &entry, None).await.unwrap();
    store.delete(&entry.tables[0].files[0].key).await.unwrap();
    publish::roll_forward(store.as_ref(), &state).await.unwrap();

    store.delete(&layout::log_key(entry.seq)).await.unwrap();
    let mut state = log::load(store.as_ref()).await.unwrap().unwrap();
    let error = watermark::refuse_lost_entries(store.as_ref(), &mut state).await.unwrap_err();
    assert!(matches!(&error, Error::Chain { seq, .. } if seq == &entry.seq), "{error}");
}

#[tokio::test]
async fn uploads_that_no_entry_names_are_aborted_by_the_next_owner() {
    let (store, gauge) = (Arc::new(MemoryStore::with_part_size(1_000)), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(spec(Layout::Hour(Hour { hour: 1 })));
    file.write(rows(&gauge, 150, 200, 400));
    file.flush();
    for _ in 0..1_000 {
        if !store.list_uploads("").await.unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    drop(file);
    writer.abandon().await;
    let state = log::load(store.as_ref()).await.unwrap().unwrap();
    assert_eq!(publish::roll_forward(store.as_ref(), &state).await.unwrap(), 1);
    assert!(store.list_uploads("").await.unwrap().is_empty());
}

/// Rolling forward may take longer than the slot is ours, and whoever has it by then has begun to upload.
#[tokio::test]
async fn uploads_of_whoever_took_the_log_over_are_left_alone() {
    let store = MemoryStore::new();
    log::append(&store, &first_entry()).await.unwrap();
    let mut state = log::load(&store).await.unwrap().unwrap();
    let (mut slow, fill) = (state.clone(), |_: &State, entry| entry);
    log::open(&store, &mut slow, None, "test:2".to_owned(), fill).await.unwrap().unwrap();
    let left_behind = store.create_upload("a").await.unwrap();
    let author = log::open(&store, &mut state, None, "test:3".to_owned(), fill).await.unwrap().unwrap();
    let begun = store.create_upload("b").await.unwrap();

    let error = publish::roll_forward(&store, &slow).await.unwrap_err();
    assert!(matches!(&error, Error::Fenced { seq: 3, epoch: 3, ours: 2, .. }), "{error}");
    let ids = |uploads: Vec<crate::store::Unfinished>| {
        uploads.into_iter().map(|upload| upload.upload_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(store.list_uploads("").await.unwrap()), [left_behind, begun]);
    assert_eq!((author.epoch, state.seq), (3, 3));
}

#[tokio::test]
async fn schemas_without_files_are_rolled_forward() {
    let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(1 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let event = Event::Schema {
        table: "public.t".to_owned(),
        schema_name: "public".to_owned(),
        table_name: "t".to_owned(),
        relation: 7,
        path: "public/t".to_owned(),
        schema_id: 1,
        document: serde_json::json!({}),
    };
    writer.cut(Cut { events: vec![event], ..cut(180) }, Vec::new()).unwrap();
    assert_eq!(writer.published().await.unwrap().kind, EntryKind::Idle);
    // As if the daemon had ended once that was logged.
    let key = layout::schema_key("public/t", 1);
    store.delete(&key).await.unwrap();

    let mut state = log::load(store.as_ref()).await.unwrap().unwrap();
    log::open(store.as_ref(), &mut state, None, "test:2".to_owned(), |_, entry| entry)
        .await
        .unwrap()
        .unwrap();
    publish::roll_forward(store.as_ref(), &state).await.unwrap();
    assert!(
        store.head(&key).await.unwrap().is_some(),
        "files of that version come later, and readers look for it"
    );
}

/// Rows whose notes are these, each with its number as `_cdc_seq`.
fn noted(gauge: &Arc<Gauge>, lsn: i64, notes: &[Option<String>]) -> Rows {
    let count = i64::try_from(notes.len()).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((0..count).map(|row| if row % 2 == 0 { "I" } else { "U" }))),
        Arc::new(Int64Array::from_iter_values((0..count).map(|row| lsn + row / 100))),
        Arc::new(Int64Array::from_iter_values(1..=count)),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values((0..count).map(|row| HOUR * row))
                .with_timezone("UTC"),
        ),
        Arc::new(StringArray::from_iter(notes.iter().map(Option::as_deref))),
    ];
    let whole = |value: i64| Lsn(u64::try_from(value).unwrap());
    let batch = RecordBatch::try_new(schema(), columns).unwrap();
    let reservation = gauge.reserve(Use::Buffers, batch.get_array_memory_size());
    let half = u64::try_from(count / 2).unwrap();
    Rows {
        batch,
        lsn_range: (whole(lsn), whole(lsn + (count - 1) / 100)),
        ts_range: (0, HOUR * (count - 1)),
        ops: vec![("I", half), ("U", half)],
        reservation,
    }
}

fn by_note(open_max: usize) -> FileSpec {
    let transform = crate::transform::Transform::Identity;
    let field =
        layout::PartitionField { key: "note_identity".to_owned(), column: "note".to_owned(), transform };
    spec(Layout::Values(Arc::new(PartitionSpec { fields: vec![field], open_max })))
}

/// LSN, number and note of a row.
type Placed = (i64, i64, Option<String>);

/// Every row of every file: its folder, LSN, number and note, in the order of the file.
fn placed_rows(store: &MemoryStore) -> Vec<(String, Vec<Placed>)> {
    let mut files = Vec::new();
    for (key, bytes) in store.contents().into_iter().filter(|(key, _)| key.ends_with(".parquet")) {
        let mut rows = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let number =
                |index: usize| batch.column(index).as_any().downcast_ref::<Int64Array>().unwrap().clone();
            let notes = batch.column(4).as_any().downcast_ref::<StringArray>().unwrap();
            let notes = notes.iter().map(|note| note.map(str::to_owned));
            let (lsns, seqs) = (number(1), number(2));
            let positions = lsns.values().iter().zip(seqs.values()).map(|(lsn, seq)| (*lsn, *seq));
            rows.extend(positions.zip(notes).map(|((lsn, seq), note)| (lsn, seq, note)));
        }
        files.push((key, rows));
    }
    files
}

/// 300 partitions in each of three batches: with room for all of them each is one file; otherwise the files that are open take their
/// rows first, and all others end.
#[tokio::test]
async fn rows_go_to_the_folders_of_their_values_and_few_files_are_open() {
    for (open_max, files_expected) in [(1_000, 300), (7, 300 + 2 * 293), (1, 300 + 2 * 299)] {
        let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(1 << 30));
        let mut writer = writer(&store, &gauge, 1 << 30).await;
        let file = writer.open_file(by_note(open_max));
        let notes: Vec<Option<String>> =
            (0..900).map(|row| (row % 300 != 0).then(|| format!("n/{}", row % 300))).collect();
        for lsn in [150, 200, 250] {
            file.write(noted(&gauge, lsn, &notes));
        }
        writer.cut(cut(400), vec![file]).unwrap();
        writer.published().await.unwrap();
        let files = placed_rows(&store);
        assert_eq!(files.len(), files_expected, "at most {open_max} are open");
        let mut seen = Vec::new();
        for (key, rows) in &files {
            let folder = |note: &Option<String>| match note {
                Some(note) => format!("/data/note_identity={}/", note.replace('/', "%2F")),
                None => "/data/note_identity=__HIVE_DEFAULT_PARTITION__/".to_owned(),
            };
            assert!(rows.iter().all(|(_, _, note)| key.contains(&folder(note))), "{key}: {rows:?}");
            assert!(rows.is_sorted_by_key(|(lsn, seq, _)| (*lsn, *seq)), "{key}: {rows:?}");
            seen.extend(rows.iter().map(|(lsn, seq, _)| (*lsn, *seq)));
        }
        seen.sort_unstable();
        let expected = [150, 200, 250]
            .into_iter()
            .flat_map(|lsn| (1..=900).map(move |seq| (lsn + (seq - 1) / 100, seq)));
        assert_eq!(seen, expected.collect::<Vec<_>>());
        let entry = log::load(store.as_ref()).await.unwrap().unwrap().last_cut.unwrap();
        for file in &entry.tables[0].files {
            let (_, rows) = files.iter().find(|(key, _)| *key == file.key).unwrap();
            let (first, last) = (rows.first().unwrap(), rows.last().unwrap());
            let lsn = |value: i64| Lsn(u64::try_from(value).unwrap());
            assert_eq!(file.lsn_range, [lsn(first.0), lsn(last.0)]);
            assert_eq!(file.rows, u64::try_from(rows.len()).unwrap());
            let updates = rows.iter().filter(|(_, seq, _)| seq % 2 == 0).count();
            assert_eq!(file.ops.get("U").copied().unwrap_or(0), u64::try_from(updates).unwrap());
            let values = vec![("note_identity".to_owned(), first.2.clone())];
            assert_eq!(file.partition, layout::Partition::Values(layout::Values::new(values)));
            assert_eq!(file.ts_range[0], crate::time::rfc3339(HOUR * (first.1 - 1)));
        }
        assert_eq!(gauge.used(), 0, "I8: all memory is given back");
    }
}

/// I8: rows that go everywhere cost files, and not memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spray_over_ten_thousand_partitions_stays_small() {
    let (store, gauge) = (Arc::new(MemoryStore::new()), Gauge::new(64 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(by_note(20));
    let notes: Vec<Option<String>> = (0..10_000).map(|row| Some(format!("{row}"))).collect();
    file.write(noted(&gauge, 150, &notes));
    writer.cut(cut(400), vec![file]).unwrap();
    let watched = Arc::clone(&gauge);
    let watch = tokio::spawn(async move {
        let mut most = 0;
        loop {
            most = watched.used().max(most);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            if watched.used() == 0 {
                return most;
            }
        }
    });
    writer.published().await.unwrap();
    assert_eq!(parquet_files(&store).len(), 10_000);
    let most = watch.await.unwrap();
    // 20 files that are open and 16 on their way, each with what its encoder keeps for 5 columns: 17 MiB of 5 GiB.
    assert!(most < 24 << 20, "{most} bytes at once");
}

/// A file that is smaller than a part can give up its memory only at its end.
#[tokio::test]
async fn files_of_many_partitions_give_up_their_memory() {
    let (store, gauge) = (Arc::new(MemoryStore::with_part_size(1 << 20)), Gauge::new(64 << 20));
    let mut writer = writer(&store, &gauge, 1 << 30).await;
    let file = writer.open_file(by_note(100));
    let notes: Vec<Option<String>> = (0..900).map(|row| Some(format!("{}", row % 50))).collect();
    file.write(noted(&gauge, 150, &notes));
    for wanted in [true, false] {
        for _ in 0..2_000 {
            if (file.memory_bytes() > 0) == wanted {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert_eq!(file.memory_bytes() > 0, wanted);
        file.flush();
    }
    file.write(noted(&gauge, 200, &notes));
    writer.cut(cut(400), vec![file]).unwrap();
    writer.published().await.unwrap();
    assert_eq!((parquet_files(&store).len(), read_rows(&store).len()), (100, 1_800));
    assert_eq!(gauge.used(), 0);
}
