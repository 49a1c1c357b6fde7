use lake::log::{self, Author, Entry};
use lake::store::memory::MemoryStore;
use lake::writer::{Settings, Steps};
use pgoutput::encode::TupleBuilder;
use pgoutput::{Oid, Xid};
use tables::change::{Image, Landing, Plan};
use tables::schema::ColumnSpec;
use tables::types::TypeCatalog;

use super::*;

const TEXT: u32 = 25;
const STAMP: TxStamp =
    TxStamp { commit_lsn: Lsn(200), commit_time_unix_micros: 1_785_600_000_000_000, xid: Xid(7) };

async fn state(store: &MemoryStore) -> State {
    let entry = Entry::first("test:1".to_owned(), "7", 1, "tributary", Lsn(100)).unwrap();
    log::append(store, &entry).await.unwrap();
    let mut state = None;
    log::follow(store, &mut state).await.unwrap();
    state.unwrap()
}

fn table(index: u32, name: &str) -> Table {
    let note = ColumnSpec {
        name: "note".to_owned(),
        type_oid: Oid(TEXT),
        type_modifier: -1,
        resolved: TypeCatalog::default().resolve(Oid(TEXT), -1),
    };
    Table {
        index: TableIndex(index),
        oid: Oid(16_384 + index),
        schema_name: "public".to_owned(),
        name: name.to_owned(),
        renamed: None,
        current: Arc::new(TableSchema::new(&[note], Vec::new())),
    }
}

fn plan(table: &Table) -> Plan {
    let schema = Arc::clone(&table.current);
    let landing =
        Landing { schema, columns: vec![0], absent: Vec::new(), key: Vec::new(), old_is_whole: true };
    Plan::new(display_name(table), landing)
}

/// A table that was read in large batches and then no more must not keep the memory that others wait for.
#[tokio::test]
async fn room_for_rows_that_did_not_come_is_counted_and_given_back() {
    let store = Arc::new(MemoryStore::new());
    let gauge = Gauge::new(1 << 30);
    let state = state(&store).await;
    let mut buffers = Buffers::new(Arc::clone(&gauge), &state, Layouts::default(), false);
    let settings = Settings { file_bytes: 1 << 30, encoders: 1, uploads: 1, steps: Steps::default() };
    let author = Author { epoch: 1, owner: "test:1".to_owned() };
    let mut writer = Writer::start(store, Arc::clone(&gauge), settings, state, author);
    let tables = [table(0, "busy"), table(1, "quiet")];
    let note = "x".repeat(100_000);
    let cells = TupleBuilder::new().text(note);
    let append = |buffers: &mut Buffers, table: &Table| {
        let image = Image::Row { tuple: cells.tuple(), fill: None };
        let plan = plan(table);
        buffers
            .append(&STAMP, &Change { table: table.index, op: Op::Insert, seq: 1, plan: &plan, image })
            .unwrap();
    };
    let mut rows = 0;
    while !buffers.has_full() {
        append(&mut buffers, &tables[0]);
        rows += 1;
    }
    buffers.hand_over_full(&mut writer, &tables).unwrap();
    buffers.account();
    let room = gauge.used_for(Use::Buffers);
    assert!(room >= BATCH_BYTES, "{room} bytes are counted");
    // Rows that come into the room take nothing more; those of another table do.
    append(&mut buffers, &tables[0]);
    buffers.account();
    assert_eq!(gauge.used_for(Use::Buffers), room);
    append(&mut buffers, &tables[1]);
    buffers.account();
    assert!(gauge.used_for(Use::Buffers) > room);

    buffers.hand_over_largest(&mut writer, &tables).unwrap();
    assert!(gauge.used_for(Use::Buffers) < BATCH_BYTES / 2, "the largest gave up its room with its rows");
    for _ in 0..rows {
        append(&mut buffers, &tables[0]);
    }
    buffers.hand_over_full(&mut writer, &tables).unwrap();
    buffers.hand_over_largest(&mut writer, &tables).unwrap();
    assert!(gauge.used_for(Use::Buffers) < BATCH_BYTES / 2, "room without a row is given up as well");
    assert_eq!(buffers.rows(), 2 * rows + 2);
    let files = buffers.seal(&mut writer, &tables).unwrap();
    assert_eq!((files.len(), gauge.used_for(Use::Buffers)), (2, 0));
}
