//! A database of the mind: tables, transactions, a log and a slot.
//!
//! Owns: what committed, in order; rows as they are now; and the catalogs as they are now.
//! Does not: speak (`session`, `walsender`).
//! Holds: positions grow; a row belongs to one open transaction at a time, as its lock would have it.
//! Fails: never; a change that would wait for a lock is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgoutput::{Lsn, Oid};

use crate::random::{EPOCH_MICROS, Random};
use crate::seen;

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(String),
}

impl Value {
    /// Whether Postgres would store it out of line, and leave it out of an update that does not touch it.
    pub(crate) fn is_toasted(&self) -> bool {
        matches!(self, Value::Text(text) if text.len() >= TOAST_BYTES)
    }
}

const TOAST_BYTES: usize = 48;

/// A type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int4,
    Int8,
    Text,
}

/// A column, as it is called now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) attnum: i16,
    pub(crate) is_key: bool,
}

/// A relation, as it was between two statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    /// Of a leaf: its root, and the transaction that attached it.
    pub(crate) root: Option<(Oid, u32)>,
    pub(crate) is_partitioned: bool,
    /// REPLICA IDENTITY FULL.
    pub(crate) is_full: bool,
    pub(crate) columns: Vec<Column>,
}

impl Shape {
    pub(crate) fn has_key(&self) -> bool {
        self.columns.iter().any(|column| column.is_key)
    }
}

/// The values of a row, in the order of its relation's columns.
pub(crate) type Row = Vec<Value>;

/// What a transaction did to a row.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Insert { shape: Arc<Shape>, new: Row },
    Update { shape: Arc<Shape>, old: Row, new: Row },
    Delete { shape: Arc<Shape>, old: Row },
    Truncate { shapes: Vec<Arc<Shape>> },
}

/// A transaction that committed.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) xid: u32,
    pub(crate) changes: Vec<(Lsn, Change)>,
    pub(crate) final_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    /// Microseconds since 1970.
    pub(crate) time: i64,
}

/// What the log says, in the order of positions.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Change { xid: u32, at: Lsn, change: Change },
    Commit(Arc<Transaction>),
    Abort { xid: u32, at: Lsn },
}

impl Record {
    /// Where it begins.
    pub(crate) fn at(&self) -> Lsn {
        match self {
            Record::Change { at, .. } | Record::Abort { at, .. } => *at,
            Record::Commit(transaction) => transaction.final_lsn,
        }
    }
}

/// A transaction that is open.
#[derive(Debug)]
pub(crate) struct Open {
    xid: u32,
    changes: Vec<(Lsn, Change)>,
    /// By relation, the rows that it wrote, as they were before; none that it inserted.
    undo: Vec<(u32, u64, Option<Row>)>,
}

/// A relation with its rows, by a number that no other row ever has.
#[derive(Clone, Debug)]
struct Table {
    shape: Arc<Shape>,
    rows: BTreeMap<u64, Row>,
    attnums: i16,
}

/// The replication slot.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) confirmed: Lsn,
    /// As it is on disk: what a crash leaves of it (T59).
    pub(crate) saved: Lsn,
    /// Which session streams from it.
    pub(crate) active: Option<u64>,
}

/// A database, with the server under it.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) version: u32,
    pub(crate) system_id: String,
    pub(crate) timeline: u32,
    /// Where the timelines before ended.
    pub(crate) history: Vec<(u32, Lsn)>,
    pub(crate) log: Vec<Record>,
    /// What committed, in order.
    pub(crate) wal: Vec<Arc<Transaction>>,
    pub(crate) written: Lsn,
    pub(crate) slot: Option<Slot>,
    /// Where the slot was made.
    pub(crate) consistent_point: Lsn,
    pub(crate) next_xid: u32,
    tables: BTreeMap<u32, Table>,
    open: Vec<Open>,
    rows: u64,
    last_time: i64,
}

impl Database {
    pub(crate) fn new(version: u32) -> Database {
        let mut database = Database {
            version,
            system_id: "7000000000000000001".to_owned(),
            timeline: 1,
            history: Vec::new(),
            log: Vec::new(),
            wal: Vec::new(),
            written: Lsn(0x0150_0000),
            slot: None,
            consistent_point: Lsn(u64::MAX),
            next_xid: 1_000,
            tables: BTreeMap::new(),
            open: Vec::new(),
            rows: 0,
            last_time: EPOCH_MICROS,
        };
        use Kind::{Int4, Int8, Text};
        database.create(
            16_400,
            "orders",
            None,
            false,
            &[("id", Int8, true), ("note", Text, false), ("amount", Int4, false)],
        );
        database.create(16_401, "journal", None, true, &[("line", Text, false), ("level", Int4, false)]);
        database.create(
            16_402,
            "documents",
            None,
            true,
            &[("id", Int8, true), ("title", Text, false), ("body", Text, false)],
        );
        database.create(
            16_410,
            "events",
            None,
            false,
            &[("id", Int8, true), ("kind", Int4, false), ("payload", Text, false)],
        );
        database.create(
            16_411,
            "events_a",
            Some(16_410),
            false,
            &[("id", Int8, true), ("kind", Int4, false), ("payload", Text, false)],
        );
        database.create(
            16_412,
            "events_b",
            Some(16_410),
            false,
            &[("payload", Text, false), ("id", Int8, true), ("kind", Int4, false)],
        );
        database
    }

    fn create(
        &mut self,
        oid: u32,
        name: &str,
        root: Option<u32>,
        is_full: bool,
        columns: &[(&str, Kind, bool)],
    ) {
        let columns: Vec<Column> = (1..)
            .zip(columns)
            .map(|(attnum, (name, kind, is_key))| Column {
                name: (*name).to_owned(),
                kind: *kind,
                attnum,
                is_key: *is_key,
            })
            .collect();
        let attnums = i16::try_from(columns.len()).expect("few columns");
        let shape = Shape {
            oid: Oid(oid),
            name: name.to_owned(),
            root: root.map(|root| (Oid(root), 900)),
            is_partitioned: oid == 16_410,
            is_full,
            columns,
        };
        self.tables.insert(oid, Table { shape: Arc::new(shape), rows: BTreeMap::new(), attnums });
    }

    /// The relations as the catalogs have them.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = &Arc<Shape>> {
        self.tables.values().map(|table| &table.shape)
    }

    /// By OID.
    pub(crate) fn names(&self) -> BTreeMap<u32, String> {
        self.tables.iter().map(|(oid, table)| (*oid, table.shape.name.clone())).collect()
    }

    /// The relations that have rows.
    fn stored(&self) -> Vec<u32> {
        let stored = self.tables.iter().filter(|(_, table)| !table.shape.is_partitioned);
        stored.map(|(oid, _)| *oid).collect()
    }

    /// So many bytes of records.
    pub(crate) fn write(&mut self, bytes: u64) -> Lsn {
        let at = self.written;
        self.written = Lsn(self.written.0 + bytes);
        at
    }

    fn xid(&mut self) -> u32 {
        self.next_xid += 1;
        self.next_xid - 1
    }

    /// Begins a transaction, or goes on with one.
    pub(crate) fn session(&mut self, random: &mut Random) -> usize {
        if self.open.len() < SESSIONS && (self.open.is_empty() || random.chance(40)) {
            let xid = self.xid();
            self.open.push(Open { xid, changes: Vec::new(), undo: Vec::new() });
            return self.open.len() - 1;
        }
        random.index(self.open.len())
    }

    /// A change of a random row.
    pub(crate) fn change(&mut self, session: usize, random: &mut Random) {
        let stored = self.stored();
        let oid = *random.pick(&stored);
        let at = self.write(random.between(40, 300));
        let locked: BTreeSet<u64> = self
            .open
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != session)
            .flat_map(|(_, open)| &open.undo)
            .filter(|(table, _, _)| *table == oid)
            .map(|(_, row, _)| *row)
            .collect();
        let table = &self.tables[&oid];
        let shape = Arc::clone(&table.shape);
        let free: Vec<u64> = table.rows.keys().copied().filter(|row| !locked.contains(row)).collect();
        let dice = random.below(100);
        if free.is_empty() || dice < 50 {
            self.rows += 1;
            let (number, new) = (self.rows, new_row(&shape, self.rows, random));
            self.table(oid).rows.insert(number, new.clone());
            self.note(session, at, (oid, number, None), Change::Insert { shape, new });
            return;
        }
        let number = *random.pick(&free);
        let old = table.rows[&number].clone();
        if dice < 62 {
            self.table(oid).rows.remove(&number);
            return self.note(session, at, (oid, number, Some(old.clone())), Change::Delete { shape, old });
        }
        let new = if dice < 70 && shape.has_key() {
            self.rows += 1;
            moved(&shape, &old, self.rows)
        } else {
            updated(&shape, &old, random)
        };
        self.table(oid).rows.insert(number, new.clone());
        self.note(session, at, (oid, number, Some(old.clone())), Change::Update { shape, old, new });
    }

    fn table(&mut self, oid: u32) -> &mut Table {
        self.tables.get_mut(&oid).expect("a table")
    }

    fn note(&mut self, session: usize, at: Lsn, undo: (u32, u64, Option<Row>), change: Change) {
        let open = &mut self.open[session];
        open.undo.push(undo);
        self.log.push(Record::Change { xid: open.xid, at, change: change.clone() });
        open.changes.push((at, change));
    }

    /// Commits; gives the position behind it.
    pub(crate) fn commit(&mut self, session: usize, micros: i64, random: &mut Random) -> Lsn {
        let Open { xid, changes, .. } = self.open.remove(session);
        let final_lsn = self.write(random.between(34, 60));
        let end_lsn = self.written;
        if self.wal.last().is_some_and(|before| before.end_lsn == final_lsn) {
            seen::note("one commit began where another ended");
        }
        // T66: of backends that took their time, not in the order of commits.
        self.last_time = if random.chance(10) { self.last_time - 1_000 } else { micros };
        let transaction = Transaction { xid, changes, final_lsn, end_lsn, time: self.last_time };
        let transaction = Arc::new(transaction);
        self.log.push(Record::Commit(Arc::clone(&transaction)));
        self.wal.push(transaction);
        end_lsn
    }

    pub(crate) fn roll_back(&mut self, session: usize) {
        let Open { xid, undo, .. } = self.open.remove(session);
        let at = self.write(34);
        self.log.push(Record::Abort { xid, at });
        for (oid, number, before) in undo.into_iter().rev() {
            let rows = &mut self.table(oid).rows;
            match before {
                Some(row) => drop(rows.insert(number, row)),
                None => drop(rows.remove(&number)),
            }
        }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.open.len()
    }

    /// A crash: what was open is gone, and of the slot is what was on disk.
    pub(crate) fn crash(&mut self) {
        while !self.open.is_empty() {
            self.roll_back(0);
        }
        if let Some(slot) = &mut self.slot {
            if slot.saved < slot.confirmed {
                seen::note("a slot went back");
            }
            slot.confirmed = slot.saved;
            slot.active = None;
        }
    }

    /// A standby is promoted that had replayed everything, and the slot as it was a while ago.
    pub(crate) fn promote(&mut self) {
        self.crash();
        self.history.push((self.timeline, self.written));
        self.timeline += 1;
        self.write(200);
    }

    /// TRUNCATE, alone in its transaction with whatever comes behind it. Nobody else may have the table.
    pub(crate) fn truncate(&mut self, session: usize, random: &mut Random) {
        let roots: Vec<u32> =
            self.tables.iter().filter(|(_, t)| t.shape.root.is_none()).map(|(oid, _)| *oid).collect();
        let root = *random.pick(&roots);
        let mut relations = self.stored_below(root);
        if relations.len() > 1 && random.chance(50) {
            relations.truncate(1);
        }
        if self.is_locked(session, &relations) {
            return;
        }
        let at = self.write(100);
        let shapes = relations.iter().map(|oid| Arc::clone(&self.tables[oid].shape)).collect();
        for oid in relations {
            let rows = std::mem::take(&mut self.table(oid).rows);
            let open = &mut self.open[session];
            open.undo.extend(rows.into_iter().map(|(number, row)| (oid, number, Some(row))));
        }
        let change = Change::Truncate { shapes };
        let open = &mut self.open[session];
        self.log.push(Record::Change { xid: open.xid, at, change: change.clone() });
        open.changes.push((at, change));
    }

    fn stored_below(&self, root: u32) -> Vec<u32> {
        let is_below = |table: &Table| {
            !table.shape.is_partitioned
                && (table.shape.oid.0 == root || table.shape.root.is_some_and(|(above, _)| above.0 == root))
        };
        self.tables.iter().filter(|(_, table)| is_below(table)).map(|(oid, _)| *oid).collect()
    }

    /// Whether another open transaction has written to one of these.
    fn is_locked(&self, session: usize, relations: &[u32]) -> bool {
        let others = self.open.iter().enumerate().filter(|(other, _)| *other != session);
        others.flat_map(|(_, open)| &open.undo).any(|(table, _, _)| relations.contains(table))
    }

    /// ALTER TABLE of a root with all its leaves, where no open transaction has rows of it: its own transaction commits at once.
    pub(crate) fn alter(&mut self, micros: i64, random: &mut Random) -> Option<String> {
        let roots: Vec<u32> =
            self.tables.iter().filter(|(_, t)| t.shape.root.is_none()).map(|(oid, _)| *oid).collect();
        let root = *random.pick(&roots);
        let mut relations = self.stored_below(root);
        if self.is_locked(usize::MAX, &relations) {
            return None;
        }
        if !relations.contains(&root) {
            relations.push(root);
        }
        let xid = self.xid();
        self.open.push(Open { xid, changes: Vec::new(), undo: Vec::new() });
        let session = self.open.len() - 1;
        let columns = &self.tables[&root].shape.columns;
        let droppable: Vec<String> = columns.iter().filter(|c| !c.is_key).map(|c| c.name.clone()).collect();
        let said = if droppable.len() > 1 && random.chance(40) {
            let name = random.pick(&droppable).clone();
            for oid in &relations {
                self.drop_column(*oid, &name);
            }
            seen::note("a column was dropped");
            format!("ALTER TABLE {root} DROP {name}")
        } else if random.chance(30) {
            let columns = &self.tables[&root].shape.columns;
            let from = random.pick(columns).name.clone();
            self.rows += 1;
            let to = format!("r{}", self.rows);
            for oid in &relations {
                self.rename_column(*oid, &from, &to);
            }
            seen::note("a column was renamed");
            format!("ALTER TABLE {root} RENAME {from} TO {to}")
        } else {
            let kind = *random.pick(&[Kind::Int4, Kind::Int8, Kind::Text]);
            self.rows += 1;
            let name = format!("c{}", self.rows);
            for oid in &relations {
                self.add_column(*oid, &name, kind);
            }
            seen::note("a column was added");
            format!("ALTER TABLE {root} ADD {name} {kind:?}")
        };
        self.write(500);
        self.commit(session, micros, random);
        Some(said)
    }

    fn add_column(&mut self, oid: u32, name: &str, kind: Kind) {
        let table = self.table(oid);
        table.attnums += 1;
        let column = Column { name: name.to_owned(), kind, attnum: table.attnums, is_key: false };
        Arc::make_mut(&mut table.shape).columns.push(column);
        table.rows.values_mut().for_each(|row| row.push(Value::Null));
    }

    fn rename_column(&mut self, oid: u32, from: &str, to: &str) {
        let columns = &mut Arc::make_mut(&mut self.table(oid).shape).columns;
        let column = columns.iter_mut().find(|column| column.name == from).expect("a column");
        column.name = to.to_owned();
    }

    fn drop_column(&mut self, oid: u32, name: &str) {
        let table = self.table(oid);
        let at = table.shape.columns.iter().position(|column| column.name == name).expect("a column");
        Arc::make_mut(&mut table.shape).columns.remove(at);
        table.rows.values_mut().for_each(|row| drop(row.remove(at)));
    }
}

/// A row with a new key.
fn new_row(shape: &Shape, number: u64, random: &mut Random) -> Row {
    let value = |column: &Column| match column {
        Column { is_key: true, .. } => Value::Int(i64::try_from(number).expect("few rows")),
        Column { kind, .. } => new_value(*kind, random),
    };
    shape.columns.iter().map(value).collect()
}

fn new_value(kind: Kind, random: &mut Random) -> Value {
    if random.chance(15) {
        return Value::Null;
    }
    match kind {
        Kind::Int4 => Value::Int(i64::try_from(random.below(1_000)).expect("small") - 500),
        Kind::Int8 => Value::Int(i64::try_from(random.next() >> 1).expect("63 bits")),
        Kind::Text if random.chance(40) => {
            Value::Text(format!("{:016x}", random.next()).repeat(TOAST_BYTES / 8))
        }
        Kind::Text => Value::Text(format!("t{}", random.below(100_000))),
    }
}

fn moved(shape: &Shape, old: &Row, number: u64) -> Row {
    let key = Value::Int(i64::try_from(number).expect("few rows"));
    let cells = shape.columns.iter().zip(old);
    cells.map(|(column, old)| if column.is_key { key.clone() } else { old.clone() }).collect()
}

/// Some of the columns but the key are new.
fn updated(shape: &Shape, old: &Row, random: &mut Random) -> Row {
    let cells = shape.columns.iter().zip(old);
    cells
        .map(
            |(column, old)| {
                if column.is_key || random.chance(60) { old.clone() } else { new_value(column.kind, random) }
            },
        )
        .collect()
}

const SESSIONS: usize = 4;
