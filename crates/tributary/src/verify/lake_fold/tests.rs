//! Random histories, spread over files in any way, against a plain walk through them in order.

use std::collections::HashSet;

use arrow::array::{
    Int32Builder, Int64Builder, ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use lake::store::memory::MemoryStore;
use parquet::arrow::ArrowWriter;
use pgoutput::{Lsn, Oid};
use proptest::prelude::*;
use tables::schema::{ColumnSpec, TableSchema};
use tables::types::{Codec, TypeCatalog};

use super::*;
use crate::verify::point::Open;
use crate::verify::render::Canon;
use crate::verify::scope::Compared;
use crate::verify::sums::{append_cell, hex};

/// A row of the lake: of two leaves, with a value that updates may leave alone.
#[derive(Clone, Debug)]
struct Change {
    op: &'static str,
    lsn: i64,
    seq: i64,
    xid: i64,
    relation: &'static str,
    id: Option<i32>,
    doc: Option<String>,
    is_unchanged: bool,
}

const LEAVES: [&str; 2] = ["s.t_1", "s.t_2"];

/// What becomes of a table, step by step; every step is a transaction.
#[derive(Clone, Debug)]
enum Step {
    Insert(i32),
    Update(i32, bool),
    Delete(i32),
    /// To another key; whether its value is sent.
    Move(i32, i32, bool),
    /// To the other leaf.
    Hop(i32),
    Truncate(Option<usize>),
    /// All rows are read again.
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..5_i32;
    prop_oneof![
        4 => key.clone().prop_map(Step::Insert),
        4 => (key.clone(), any::<bool>()).prop_map(|(key, sent)| Step::Update(key, sent)),
        1 => key.clone().prop_map(Step::Delete),
        3 => (key.clone(), key.clone(), any::<bool>()).prop_map(|(from, to, sent)| Step::Move(from, to, sent)),
        1 => key.prop_map(Step::Hop),
        1 => prop::option::of(0..2_usize).prop_map(Step::Truncate),
        1 => Just(Step::Read),
    ]
}

/// The history, and the rows that a snapshot at `point` sees.
fn play(steps: &[Step], point: usize) -> (Vec<Change>, BTreeMap<i32, String>) {
    let mut changes = Vec::new();
    let mut state: BTreeMap<i32, (usize, String)> = BTreeMap::new();
    let mut at_point = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        if number == point {
            at_point = state.clone();
        }
        let lsn = 100 * (i64::try_from(number).unwrap() + 1);
        let xid = i64::try_from(number).unwrap() + 10;
        let mut change = |op, seq, leaf: Option<usize>, id: Option<i32>, doc: Option<&str>, is_unchanged| {
            let relation = leaf.map_or("s.t", |leaf| LEAVES[leaf]);
            let xid = if seq < 0 { 0 } else { xid };
            changes.push(Change {
                op,
                lsn,
                seq,
                xid,
                relation,
                id,
                doc: doc.map(str::to_owned),
                is_unchanged,
            });
        };
        let fresh = format!("doc {number}");
        match step {
            Step::Insert(key) if !state.contains_key(key) => {
                let leaf = number % 2;
                change("I", 1, Some(leaf), Some(*key), Some(&fresh), false);
                state.insert(*key, (leaf, fresh));
            }
            Step::Update(key, sent) => {
                if let Some((leaf, doc)) = state.get_mut(key) {
                    change("U", 1, Some(*leaf), Some(*key), sent.then_some(&fresh), !sent);
                    if *sent {
                        *doc = fresh;
                    }
                }
            }
            Step::Delete(key) => {
                if let Some((leaf, _)) = state.remove(key) {
                    change("D", 1, Some(leaf), Some(*key), None, false);
                }
            }
            Step::Move(from, to, sent) if !state.contains_key(to) => {
                if let Some((leaf, doc)) = state.remove(from) {
                    change("D", 1, Some(leaf), Some(*from), None, false);
                    change("I", 2, Some(leaf), Some(*to), sent.then_some(&fresh), !sent);
                    state.insert(*to, (leaf, if *sent { fresh } else { doc }));
                }
            }
            Step::Hop(key) => {
                if let Some((leaf, doc)) = state.get_mut(key) {
                    change("D", 1, Some(*leaf), Some(*key), None, false);
                    *leaf = 1 - *leaf;
                    change("I", 2, Some(*leaf), Some(*key), Some(doc), false);
                }
            }
            Step::Truncate(leaf) => {
                change("T", 1, *leaf, None, None, false);
                state.retain(|_, (of, _)| leaf.is_some_and(|leaf| leaf != *of));
            }
            Step::Read => {
                change("T", -2, None, None, None, false);
                for (key, (leaf, doc)) in &state {
                    change("R", -1, Some(*leaf), Some(*key), Some(doc), false);
                }
            }
            Step::Insert(_) | Step::Move(..) => {}
        }
    }
    let at_point = if point >= steps.len() { state } else { at_point };
    (changes, at_point.into_iter().map(|(key, (_, doc))| (key, doc)).collect())
}

fn schema() -> TableSchema {
    let column = |name: &str, oid| {
        let resolved = TypeCatalog::default().resolve(Oid(oid), -1);
        ColumnSpec { name: name.to_owned(), type_oid: Oid(oid), type_modifier: -1, resolved }
    };
    TableSchema::new(&[column("id", 23), column("doc", 25)], vec!["id".to_owned()])
}

fn table(key: &[usize], buckets: u32) -> Table {
    let columns = schema().columns.into_iter().map(|column| Compared {
        name: column.source_name,
        field_id: column.field_id,
        codec: column.codec,
        modifier: -1,
        canon: Canon::Text,
        initial: None,
    });
    Table {
        oid: 1,
        name: "s.t".to_owned(),
        columns: columns.collect(),
        key: key.to_vec(),
        relations: Vec::new(),
        names: Some(HashSet::from(["s.t".to_owned(), LEAVES[0].to_owned(), LEAVES[1].to_owned()])),
        own_names: vec!["s.t".to_owned()],
        buckets,
        notes: Vec::new(),
        doubts: Vec::new(),
    }
}

fn batch(schema: &SchemaRef, changes: &[Change]) -> RecordBatch {
    let (mut op, mut relation, mut doc) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let (mut lsn, mut seq, mut xid) = (Int64Builder::new(), Int64Builder::new(), Int64Builder::new());
    let (mut id, mut time) = (Int32Builder::new(), TimestampMicrosecondBuilder::new().with_timezone("UTC"));
    let field = |name: &str| schema.field_with_name(name).unwrap().data_type().clone();
    let arrow::datatypes::DataType::List(element) = field("_cdc_unchanged") else { panic!() };
    let mut unchanged = ListBuilder::new(StringBuilder::new()).with_field(element);
    let arrow::datatypes::DataType::Map(entry, _) = field("_cdc_raw") else { panic!() };
    let arrow::datatypes::DataType::Struct(parts) = entry.data_type() else { panic!() };
    let names =
        MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut raw = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(parts[0].clone())
        .with_values_field(parts[1].clone());
    for change in changes {
        op.append_value(change.op);
        lsn.append_value(change.lsn);
        seq.append_value(change.seq);
        time.append_value(0);
        xid.append_value(change.xid);
        relation.append_value(change.relation);
        if change.is_unchanged {
            unchanged.values().append_value("doc");
        }
        unchanged.append(change.is_unchanged);
        raw.append(false).unwrap();
        id.append_option(change.id);
        doc.append_option(change.doc.as_deref());
    }
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(op.finish()),
        Arc::new(lsn.finish()),
        Arc::new(seq.finish()),
        Arc::new(time.finish()),
        Arc::new(xid.finish()),
        Arc::new(relation.finish()),
        Arc::new(unchanged.finish()),
        Arc::new(raw.finish()),
        Arc::new(id.finish()),
        Arc::new(doc.finish()),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

/// Puts every change into one of a few files, at random.
async fn write(store: &dyn Store, changes: &[Change], places: &[usize]) -> Vec<DataFile> {
    let schema = schema().arrow();
    let mut files = Vec::new();
    for number in 0..3 {
        let mut of_file: Vec<Change> = changes
            .iter()
            .zip(places.iter().cycle())
            .filter(|(_, place)| **place == number)
            .map(|(change, _)| change.clone())
            .collect();
        of_file.sort_by_key(|change| (change.lsn, change.seq));
        let (Some(first), Some(last)) = (of_file.first(), of_file.last()) else { continue };
        let lsns = [first.lsn, last.lsn].map(|lsn| Lsn(lsn.cast_unsigned()));
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), None).unwrap();
        writer.write(&batch(&schema, &of_file)).unwrap();
        writer.close().unwrap();
        let key = format!("s/t/data/{number}.parquet");
        let size = u64::try_from(bytes.len()).unwrap();
        store.put(&key, bytes.into()).await.unwrap();
        files.push(DataFile {
            key,
            bytes: size,
            rows: u64::try_from(of_file.len()).unwrap(),
            has_markers: of_file.iter().any(|change| change.op == "T"),
            lsns,
            is_newest: false,
        });
    }
    files
}

/// The sums of plain rows.
fn expected(rows: impl Iterator<Item = (i32, String)>, table: &Table) -> Vec<Sums> {
    let mut sums = vec![Sums::default(); usize::try_from(table.buckets).unwrap()];
    for (id, doc) in rows {
        let (mut key, mut row) = (Vec::new(), Vec::new());
        let id = id.to_string();
        append_cell(Some(id.as_bytes()), Encoding::Utf8.lengths(), &mut key);
        append_cell(Some(id.as_bytes()), Encoding::Utf8.lengths(), &mut row);
        append_cell(Some(doc.as_bytes()), Encoding::Utf8.lengths(), &mut row);
        let of = if table.key.is_empty() { hash(&row) } else { hash(&key) };
        let bucket = usize::try_from(bucket(&of, table.buckets)).unwrap();
        sums[bucket].add(&hash(&row), 1);
    }
    sums
}

async fn fold(
    store: &Arc<dyn Store>,
    table: &Table,
    files: &[DataFile],
    seen: &Seen,
    keys_max: u64,
) -> Found {
    let pace = Arc::new(Pace::new(None));
    let lake = Lake { store, pace: &pace, seen, encoding: Encoding::Utf8, keys_max };
    let found = lake.fold(table, files, &[]).await.unwrap();
    let all: Vec<u32> = (0..table.buckets).collect();
    // What is looked at row by row is the same.
    let shown = lake.fold(table, files, &all).await.unwrap();
    assert_eq!(shown.sums, found.sums);
    assert_eq!(found.broken, BTreeMap::new());
    let rows: i64 = found.sums.iter().map(|sums| sums.rows).sum();
    assert_eq!(shown.shown.values().map(|row| row.count).sum::<i64>(), rows);
    found
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_fold_is_what_a_walk_through_the_changes_gives(
        steps in prop::collection::vec(step(), 1..40),
        places in prop::collection::vec(0..3_usize, 1..20),
        at in 0..45_usize,
        keys_max in 1..20_u64,
    ) {
        let point = at.min(steps.len());
        let (mut changes, state) = play(&steps, point);
        let lsn = 100 * (u64::try_from(point).unwrap() + 1) - 1;
        // A transaction whose commit is logged and which still waits for a standby: the snapshot does not see it.
        let waits = Change { op: "I", lsn: 1, seq: 1, xid: 5, relation: LEAVES[0], id: Some(99), doc: None, is_unchanged: false };
        changes.push(waits);
        let seen = Seen { lsn: Lsn(lsn), by_transaction: Some(Open { xmax: 1_000, xids: [5].into_iter().collect() }) };
        run(async {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
            let files = write(store.as_ref(), &changes, &places).await;
            let table = table(&[0], 4);
            let found = fold(&store, &table, &files, &seen, keys_max).await;
            prop_assert_eq!(found.sums, expected(state.into_iter(), &table));
            Ok(())
        })?;
    }

    #[test]
    fn without_a_key_every_deletion_takes_one_row(
        rows in prop::collection::vec((0..3_i32, any::<bool>()), 1..40),
        places in prop::collection::vec(0..3_usize, 1..20),
    ) {
        let mut state: BTreeMap<i32, usize> = BTreeMap::new();
        let mut changes = Vec::new();
        for (number, (id, is_insert)) in rows.iter().enumerate() {
            let count = state.entry(*id).or_default();
            let op = match (is_insert, *count) {
                (true, _) => { *count += 1; "I" }
                (false, 0) => continue,
                (false, _) => { *count -= 1; "D" }
            };
            let lsn = i64::try_from(number).unwrap() + 1;
            let doc = Some(format!("d{id}"));
            changes.push(Change { op, lsn, seq: 1, xid: 1, relation: "s.t", id: Some(*id), doc, is_unchanged: false });
        }
        let seen = Seen { lsn: Lsn(1_000), by_transaction: None };
        run(async {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
            let files = write(store.as_ref(), &changes, &places).await;
            let table = table(&[], 4);
            let found = fold(&store, &table, &files, &seen, 5).await;
            let rows = state.into_iter().flat_map(|(id, count)| std::iter::repeat_n((id, format!("d{id}")), count));
            prop_assert_eq!(found.sums, expected(rows, &table));
            Ok(())
        })?;
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_rest_goes_on() {
    run(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let steps = [Step::Insert(1), Step::Insert(2), Step::Insert(3)];
        let (changes, _) = play(&steps, 3);
        let files = write(store.as_ref(), &changes, &[0, 1, 2]).await;
        store.put(&files[1].key, "no Parquet".into()).await.unwrap();
        store.delete(&files[2].key).await.unwrap();
        let seen = Seen { lsn: Lsn(1_000), by_transaction: None };
        let pace = Arc::new(Pace::new(None));
        let lake = Lake { store: &store, pace: &pace, seen: &seen, encoding: Encoding::Utf8, keys_max: 100 };
        let found = lake.fold(&table(&[0], 1), &files, &[]).await.unwrap();
        assert_eq!(found.sums[0].rows, 1);
        assert_eq!(found.broken.keys().collect::<Vec<_>>(), [&files[1].key, &files[2].key]);
        assert_eq!(found.broken[&files[2].key], "it is missing");
    });
}

#[test]
fn rows_of_before_a_column_have_its_initial_default() {
    run(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (changes, _) = play(&[Step::Insert(1)], 1);
        let files = write(store.as_ref(), &changes, &[0]).await;
        let mut table = table(&[0], 1);
        table.columns.push(Compared {
            name: "later".to_owned(),
            field_id: 777,
            codec: Codec::Int4,
            modifier: -1,
            canon: Canon::Text,
            initial: Some(b"42".to_vec()),
        });
        let seen = Seen { lsn: Lsn(1_000), by_transaction: None };
        let pace = Arc::new(Pace::new(None));
        let lake = Lake { store: &store, pace: &pace, seen: &seen, encoding: Encoding::Utf8, keys_max: 100 };
        let found = lake.fold(&table, &files, &[0]).await.unwrap();
        let row = found.shown.values().next().unwrap();
        assert_eq!(hex(&row.cells[2]), hex(&hash(b"2:42")));
        assert_eq!(row.key, ["1"]);
    });
}
