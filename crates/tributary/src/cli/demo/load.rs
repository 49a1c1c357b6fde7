//! The live load.
//!
//! Owns: the connections that write, what they write, and the ledger of what Postgres said it did.
//! Does not: look at the lake.
//! Holds: the ledger counts only rows of committed statements, as Postgres counted them; workers never touch one
//!   another's rows.
//! Fails: [`Error`] when Postgres refuses a statement, but for deadlocks, which are rolled back and forgotten.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_postgres::SimpleQueryMessage;

use super::cluster::{Cluster, Link, refused};
use super::daemon::DATABASE;
use super::random::Random;
use super::shop::{Leaf, Shop, Table};
use crate::error::{Error, Result};

/// Change rows that the lake must show, by operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Ops {
    pub(super) inserts: u64,
    pub(super) updates: u64,
    pub(super) deletes: u64,
    pub(super) truncates: u64,
}

impl Ops {
    pub(super) fn total(self) -> u64 {
        self.inserts + self.updates + self.deletes + self.truncates
    }
}

impl std::fmt::Display for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ops { inserts, updates, deletes, truncates } = self;
        write!(f, "{inserts} I, {updates} U, {deletes} D, {truncates} T")
    }
}

/// What was done, as Postgres acknowledged it.
pub(super) struct Ledger {
    tables: Vec<Counts>,
    pub(super) transactions: AtomicU64,
    pub(super) rolled_back: AtomicU64,
    pub(super) key_changes: AtomicU64,
    pub(super) moves: AtomicU64,
}

#[derive(Default)]
struct Counts {
    inserts: AtomicU64,
    updates: AtomicU64,
    deletes: AtomicU64,
    truncates: AtomicU64,
}

impl Ledger {
    fn new(shop: &Shop) -> Ledger {
        Ledger {
            tables: shop.tables.iter().map(|_| Counts::default()).collect(),
            transactions: AtomicU64::new(0),
            rolled_back: AtomicU64::new(0),
            key_changes: AtomicU64::new(0),
            moves: AtomicU64::new(0),
        }
    }

    /// What was done to a table so far.
    pub(super) fn ops(&self, table: usize) -> Ops {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.tables.get(table).map_or_else(Ops::default, |counts| Ops {
            inserts: read(&counts.inserts),
            updates: read(&counts.updates),
            deletes: read(&counts.deletes),
            truncates: read(&counts.truncates),
        })
    }

    /// Change rows so far, over all tables.
    pub(super) fn total(&self) -> u64 {
        (0..self.tables.len()).map(|table| self.ops(table).total()).sum()
    }

    fn record(&self, step: &Step, rows: u64) {
        let Some(counts) = self.tables.get(step.table) else { return };
        let add = |counter: &AtomicU64| {
            counter.fetch_add(rows, Ordering::Relaxed);
        };
        match step.what {
            What::Insert => add(&counts.inserts),
            What::Update => add(&counts.updates),
            What::Delete => add(&counts.deletes),
            // The lake shows a key change as the old key's deletion and the new key's insertion.
            What::Rekey | What::Move => {
                add(&counts.deletes);
                add(&counts.inserts);
                add(if step.what == What::Move { &self.moves } else { &self.key_changes });
            }
            What::Truncate { leaves } => {
                counts.truncates.fetch_add(leaves, Ordering::Relaxed);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Insert,
    Update,
    Delete,
    Rekey,
    Move,
    Truncate { leaves: u64 },
}

/// One statement of a transaction.
#[derive(Debug)]
struct Step {
    table: usize,
    what: What,
    /// The row's id, for statements that meet one row.
    id: Option<i64>,
}

/// A transaction: one round trip.
#[derive(Default)]
struct Transaction {
    sql: String,
    steps: Vec<Step>,
}

/// The load while it runs.
pub(super) struct Load {
    pub(super) ledger: Arc<Ledger>,
    tasks: JoinSet<Result<()>>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Starts the workers, and the one that truncates, spread over `length`.
    pub(super) async fn start(cluster: &Cluster, shop: &Arc<Shop>, length: Duration) -> Result<Load> {
        let ledger = Arc::new(Ledger::new(shop));
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for number in 0..=WORKERS {
            let link = cluster.connect(DATABASE).await?;
            let worker = Worker::new(number, link, Arc::clone(shop), Arc::clone(&ledger));
            let stopped = stopped.clone();
            if number == WORKERS {
                tasks.spawn(worker.truncate(length, stopped));
            } else {
                tasks.spawn(worker.write(stopped));
            }
        }
        Ok(Load { ledger, tasks, stop })
    }

    /// Fails if a worker failed.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            Some(ended) => ended_well(ended),
            None => Ok(()),
        }
    }

    /// Lets every worker finish its transaction.
    pub(super) async fn finish(mut self) -> Result<Arc<Ledger>> {
        // Without receivers they have ended already, and are asked why below.
        let _ = self.stop.send(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended_well(ended)?;
        }
        Ok(self.ledger)
    }
}

fn ended_well(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.unwrap_or_else(|error| Err(Error::bug("a worker of the load panicked").caused_by(error)))
}

/// A row that a worker wrote: its partition columns and its id.
#[derive(Clone, Debug)]
struct Key {
    place: Vec<String>,
    id: i64,
}

struct Worker {
    link: Link,
    shop: Arc<Shop>,
    ledger: Arc<Ledger>,
    random: Random,
    next_id: i64,
    /// A table each: what this worker believes to be there. A row that is not costs an empty statement.
    rows: Vec<Vec<Key>>,
}

impl Worker {
    fn new(number: i64, link: Link, shop: Arc<Shop>, ledger: Arc<Ledger>) -> Worker {
        let random = Random::new(u64::from_ne_bytes(number.to_ne_bytes()));
        let rows = shop.tables.iter().map(|_| Vec::new()).collect();
        Worker { link, shop, ledger, random, next_id: number, rows }
    }

    /// Inserts, updates, deletes and moves rows until stopped.
    async fn write(mut self, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let mut tick = interval(TRANSACTION_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stopped.changed() => return Ok(()),
                _ = tick.tick() => {}
            }
            let mut transaction = Transaction::default();
            for _ in 0..4 + self.random.below(8) {
                self.add_step(&mut transaction);
            }
            let keep = !self.random.once_in(ROLL_BACK_ONE_IN);
            self.run(transaction, keep).await?;
        }
    }

    /// Truncates leaves now and then, and a whole root once, until stopped.
    async fn truncate(mut self, length: Duration, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let start = Instant::now();
        for number in 1..=TRUNCATES {
            let at = start + length.mul_f64(f64::from(number) / f64::from(TRUNCATES + 1));
            tokio::select! {
                biased;
                _ = stopped.changed() => return Ok(()),
                () = sleep(at.saturating_duration_since(Instant::now())) => {}
            }
            let mut transaction = Transaction::default();
            if number == TRUNCATES / 3 {
                self.add_root_truncate(&mut transaction);
            } else {
                self.add_leaf_truncate(&mut transaction, number);
            }
            self.run(transaction, true).await?;
        }
        Ok(())
    }

    /// Runs a transaction and records what Postgres says it did.
    async fn run(&mut self, transaction: Transaction, keep: bool) -> Result<()> {
        let end = if keep { "commit" } else { "rollback" };
        let sql = format!("begin; {}{end}", transaction.sql);
        let messages = match self.link.client.simple_query(&sql).await {
            Ok(messages) => messages,
            Err(error) if is_deadlock(&error) => {
                self.ledger.rolled_back.fetch_add(1, Ordering::Relaxed);
                return self.link.execute("rollback").await;
            }
            Err(error) => return Err(refused(error)),
        };
        if !keep {
            self.ledger.rolled_back.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let counts = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        });
        let mut gone: HashSet<i64> = HashSet::new();
        // The first count is that of `begin`.
        for (step, rows) in transaction.steps.iter().zip(counts.skip(1)) {
            self.ledger.record(step, rows);
            gone.extend(step.id.filter(|_| rows == 0));
        }
        self.ledger.transactions.fetch_add(1, Ordering::Relaxed);
        if !gone.is_empty() {
            for rows in &mut self.rows {
                rows.retain(|key| !gone.contains(&key.id));
            }
        }
        Ok(())
    }

    fn add_step(&mut self, transaction: &mut Transaction) {
        let shop = Arc::clone(&self.shop);
        let number = self.random.below(shop.tables.len());
        let Some(table) = shop.tables.get(number) else { return };
        let known = self.rows.get(number).map_or(0, Vec::len);
        let dice = self.random.below(100);
        if known == 0 || dice < 35 {
            let leaf = self.random.skewed(table.leaves.len());
            let count = 1 + self.random.below(6);
            if let Some(leaf) = table.leaves.get(leaf) {
                self.insert(transaction, number, table, leaf, count);
            }
            return;
        }
        let position = self.random.below(known);
        let Some(key) = self.rows.get(number).and_then(|rows| rows.get(position)).cloned() else { return };
        match dice {
            35..=74 => self.update(transaction, number, table, &key),
            75..=84 => {
                self.replace(number, position, None);
                transaction.add(number, What::Delete, Some(key.id), |sql| {
                    write!(sql, "delete from {} where {}", table.qualified(), condition(table, &key))
                });
            }
            85..=91 => {
                let changed = Key { place: key.place.clone(), id: self.new_id() };
                self.rekey(transaction, (number, position), table, (&key, changed), What::Rekey);
            }
            _ => self.move_row(transaction, (number, position), table, &key),
        }
    }

    fn insert(
        &mut self,
        transaction: &mut Transaction,
        number: usize,
        table: &Table,
        leaf: &Leaf,
        count: usize,
    ) {
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            let key = Key { place: leaf.place.literals(&mut self.random), id: self.new_id() };
            let mut row = key.place.clone();
            row.push(key.id.to_string());
            row.extend(table.spec.body().map(|column| self.random.literal(column.kind)));
            values.push(format!("({})", row.join(", ")));
            if let Some(rows) = self.rows.get_mut(number) {
                rows.push(key);
            }
        }
        let names: Vec<&str> =
            table.spec.key.iter().copied().chain(table.spec.body().map(|column| column.name)).collect();
        transaction.add(number, What::Insert, None, |sql| {
            let (table, names, values) = (table.qualified(), names.join(", "), values.join(", "));
            write!(sql, "insert into {table} ({names}) values {values}")
        });
    }

    fn update(&mut self, transaction: &mut Transaction, number: usize, table: &Table, key: &Key) {
        let body: Vec<_> = table.spec.body().collect();
        let mut set: Vec<String> = Vec::new();
        let first = self.random.below(body.len());
        for column in body.iter().cycle().skip(first).take(1 + self.random.below(3)) {
            set.push(format!("{} = {}", column.name, self.random.literal(column.kind)));
        }
        transaction.add(number, What::Update, Some(key.id), |sql| {
            write!(sql, "update {} set {} where {}", table.qualified(), set.join(", "), condition(table, key))
        });
    }

    /// Gives a row other partition columns, so that it moves to another leaf.
    fn move_row(&mut self, transaction: &mut Transaction, at: (usize, usize), table: &Table, key: &Key) {
        let target = self.random.skewed(table.leaves.len());
        let place =
            table.leaves.get(target).map_or_else(Vec::new, |leaf| leaf.place.literals(&mut self.random));
        // The plain table has no other place; and a row that is there already would only be updated.
        if place != key.place {
            let changed = Key { place, id: key.id };
            self.rekey(transaction, at, table, (key, changed), What::Move);
        }
    }

    fn rekey(
        &mut self,
        transaction: &mut Transaction,
        (number, position): (usize, usize),
        table: &Table,
        (key, changed): (&Key, Key),
        what: What,
    ) {
        let values = changed.place.iter().cloned().chain([changed.id.to_string()]);
        let mut set: Vec<String> =
            table.spec.key.iter().zip(values).map(|(name, value)| format!("{name} = {value}")).collect();
        // Sometimes another column changes with the key; the long text mostly does not travel.
        if let Some(column) = table.spec.body().nth(self.random.below(20)) {
            set.push(format!("{} = {}", column.name, self.random.literal(column.kind)));
        }
        transaction.add(number, what, Some(changed.id), |sql| {
            write!(sql, "update {} set {} where {}", table.qualified(), set.join(", "), condition(table, key))
        });
        self.replace(number, position, Some(changed));
    }

    /// One leaf of each table in turn, with rows before and after in the same transaction.
    fn add_leaf_truncate(&mut self, transaction: &mut Transaction, turn: u32) {
        let shop = Arc::clone(&self.shop);
        let turn = usize::try_from(turn).unwrap_or(0);
        let Some((number, table)) = shop.tables.iter().enumerate().cycle().nth(turn) else { return };
        let leaf = self.random.skewed(table.leaves.len());
        let Some(leaf) = table.leaves.get(leaf) else { return };
        self.insert(transaction, number, table, leaf, 3);
        transaction.add(number, What::Truncate { leaves: 1 }, None, |sql| {
            write!(sql, "truncate {}", leaf.qualified())
        });
        self.insert(transaction, number, table, leaf, 2);
    }

    /// The root of the two-level table: Postgres truncates, and reports, each of its leaves.
    fn add_root_truncate(&mut self, transaction: &mut Transaction) {
        let shop = Arc::clone(&self.shop);
        let two_level =
            shop.tables.iter().enumerate().find(|(_, table)| table.spec.place_columns().len() > 1);
        let Some((number, table)) = two_level else { return };
        let leaves = u64::try_from(table.leaves.len()).unwrap_or(u64::MAX);
        transaction.add(number, What::Truncate { leaves }, None, |sql| {
            write!(sql, "truncate {}", table.qualified())
        });
    }

    fn replace(&mut self, number: usize, position: usize, with: Option<Key>) {
        let Some(rows) = self.rows.get_mut(number) else { return };
        match (with, rows.get_mut(position)) {
            (Some(key), Some(slot)) => *slot = key,
            (None, Some(_)) => drop(rows.swap_remove(position)),
            (_, None) => {}
        }
    }

    /// Ids are never used twice, and no two workers use the same.
    fn new_id(&mut self) -> i64 {
        self.next_id += ID_STRIDE;
        self.next_id
    }
}

impl Transaction {
    fn add(
        &mut self,
        table: usize,
        what: What,
        id: Option<i64>,
        statement: impl FnOnce(&mut String) -> std::fmt::Result,
    ) {
        // Writing to a String does not fail.
        let _ = statement(&mut self.sql);
        self.sql.push_str("; ");
        self.steps.push(Step { table, what, id });
    }
}

fn condition(table: &Table, key: &Key) -> String {
    let values = key.place.iter().cloned().chain([key.id.to_string()]);
    let parts: Vec<String> =
        table.spec.key.iter().zip(values).map(|(name, value)| format!("{name} = {value}")).collect();
    parts.join(" and ")
}

/// A deadlock or a serialization failure: rolled back by Postgres, and nobody's fault.
fn is_deadlock(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "40P01" | "40001"))
}

/// Connections that write; one more truncates.
const WORKERS: i64 = 4;
/// More than there are workers, so that ids never meet.
const ID_STRIDE: i64 = 16;
/// 4 workers, 20 transactions a second each, about 15 change rows each: some 1,200 a second.
const TRANSACTION_EVERY: Duration = Duration::from_millis(50);
const ROLL_BACK_ONE_IN: usize = 40;
/// How many truncates; the one a third in is that of a root.
const TRUNCATES: u32 = 15;
