//! A busy, partitioned database.
//!
//! Owns: the tables, and connections that change them in all the ways that Postgres can.
//! Does not: remember what it did; the source's tables are the truth.
//! Holds: the same seed does the same, as far as the connections' interleaving allows; a connection that breaks is made anew.
//! Fails: on SQL that is wrong; conflicts, deadlocks and broken connections only undo their own transaction.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::{JoinSet, LocalSet};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::client::{connected, refuse_wrong_sql};
use crate::large;
use crate::postgres::{Cluster, DATABASE};
use crate::random::Random;
use crate::wait;

/// What a workload does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Printed by the test.
    pub seed: u64,
    /// Connections.
    pub workers: u64,
    /// Pause of a connection between two transactions.
    pub pause: Duration,
    /// Leaves are truncated too. Postgres does not send that under `publish_via_partition_root`.
    pub truncate_leaves: bool,
    /// Leaves and columns are added on the way.
    pub ddl: bool,
    /// More connections, whose transactions are large and stay open for a while.
    pub large: u64,
}

impl Load {
    /// All there is.
    pub fn new(seed: u64) -> Load {
        Load {
            seed,
            workers: 4,
            pause: Duration::from_millis(10),
            truncate_leaves: true,
            ddl: true,
            large: 0,
        }
    }
}

/// Makes the database, the tables and the publication.
pub async fn create(cluster: &Cluster, via_root: bool) -> Result<()> {
    cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
    let mut schema = SCHEMA.to_owned();
    if cluster.version < 15 {
        // Before 15, a scale lies between 0 and the precision.
        schema = schema.replace("numeric(5, -2)", "numeric(7, 0)").replace("numeric(3, 5)", "numeric(5, 5)");
    }
    cluster.execute(&schema).await?;
    let publish = format!(
        "create publication tributary for table {} with (publish_via_partition_root = {via_root})",
        TABLES.join(", ")
    );
    cluster.execute(&publish).await
}

/// The published tables.
pub const TABLES: [&str; 7] = ["orders", "events", "readings", "customers", "profiles", "ledger", "oddities"];
/// A table that is not published.
pub const UNPUBLISHED: &str = "public.unpublished";

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Transactions that committed.
    pub committed: u64,
    /// Transactions that were undone, on purpose or not.
    pub undone: u64,
}

/// A running workload. It runs on the test's thread.
#[derive(Debug)]
pub struct Workload {
    stop: Rc<AtomicBool>,
    shared: Rc<Counters>,
    workers: JoinSet<Result<()>>,
    local: LocalSet,
}

#[derive(Debug, Default)]
struct Counters {
    committed: AtomicU64,
    undone: AtomicU64,
    /// Keys that nobody else has.
    fresh: AtomicU64,
}

impl Workload {
    /// Gets ready. It works while [`Workload::during`] waits for something else.
    pub fn new(cluster: &Cluster, load: Load) -> Workload {
        let (stop, shared) = (Rc::new(AtomicBool::new(false)), Rc::new(Counters::default()));
        let local = LocalSet::new();
        let mut workers = JoinSet::new();
        for number in 0..load.workers + load.large {
            let worker = Worker {
                url: cluster.url(DATABASE),
                csv: cluster.data.join(format!("load-{number}.csv")),
                load,
                number,
                random: Random::new(load.seed.wrapping_mul(1_000_003).wrapping_add(number)),
                shared: Rc::clone(&shared),
                stop: Rc::clone(&stop),
            };
            workers.spawn_local_on(worker.work(), &local);
        }
        Workload { stop, shared, workers, local }
    }

    /// Works until `other` is done.
    pub async fn during<T>(&self, other: impl Future<Output = Result<T>>) -> Result<T> {
        self.local.run_until(other).await
    }

    /// Works for some time.
    pub async fn during_seconds(&self, seconds: u64) -> Result<()> {
        self.during(async {
            wait::pause(Duration::from_secs(seconds)).await;
            Ok(())
        })
        .await
    }

    /// Ends every transaction, and tells what was done.
    pub async fn finish(mut self) -> Result<Done> {
        self.stop.store(true, Ordering::Relaxed);
        let workers = &mut self.workers;
        self.local
            .run_until(async {
                while let Some(ended) = workers.join_next().await {
                    ended??;
                }
                anyhow::Ok(())
            })
            .await?;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Done { committed: count(&self.shared.committed), undone: count(&self.shared.undone) })
    }
}

struct Worker {
    url: String,
    csv: std::path::PathBuf,
    load: Load,
    number: u64,
    random: Random,
    shared: Rc<Counters>,
    stop: Rc<AtomicBool>,
}

impl Worker {
    async fn work(mut self) -> Result<()> {
        let mut client: Option<Client> = None;
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            turn += 1;
            let Some(connected) = connected(client.take(), &self.url).await else { continue };
            if self.number >= self.load.workers {
                let fresh = self.fresh();
                let committed = large::run(&connected, &mut self.random, fresh, turn).await?;
                let counter = if committed { &self.shared.committed } else { &self.shared.undone };
                counter.fetch_add(1, Ordering::Relaxed);
                client = Some(connected);
                continue;
            }
            let sql = if self.load.ddl && self.number == 0 && turn % 60 == 30 {
                self.ddl()
            } else {
                self.transaction()?
            };
            match connected.batch_execute(&sql).await {
                Ok(()) => self.shared.committed.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    refuse_wrong_sql(&error, &EXPECTED)
                        .with_context(|| sql.chars().take(300).collect::<String>())?;
                    connected.batch_execute("rollback").await.ok();
                    self.shared.undone.fetch_add(1, Ordering::Relaxed)
                }
            };
            client = Some(connected);
            wait::pause(self.load.pause).await;
        }
        Ok(())
    }

    /// One transaction of some changes.
    fn transaction(&mut self) -> Result<String> {
        if self.random.below(1000) < 3 {
            return Ok(self.truncate());
        }
        if self.random.chance(3) {
            return self.copy();
        }
        let mut sql = String::from("begin;");
        for _ in 0..self.random.between(1, 8) {
            if self.random.chance(10) {
                let undone = self.change();
                sql.push_str(&format!("savepoint s; {undone} rollback to s;"));
            }
            let change = self.change();
            sql.push_str(&change);
        }
        sql.push_str(if self.random.chance(5) { "rollback;" } else { "commit;" });
        Ok(sql)
    }

    fn change(&mut self) -> String {
        match self.random.below(10) {
            0..=3 => self.orders(),
            4 | 5 => self.events(),
            6 => self.readings(),
            7 => self.customers(),
            8 => self.profiles_and_oddities(),
            _ => self.ledger(),
        }
    }

    fn orders(&mut self) -> String {
        let id = self.random.between(1, KEYS);
        let n = self.random.below(1_000_000);
        match self.random.below(12) {
            0..=3 => self.insert_orders(id, 1),
            4 => {
                let rows = self.random.between(5, 60);
                self.insert_orders(id, rows)
            }
            5 => format!(
                "update orders set amount = {n} / 100.0, price = {n} / 7.0, paid = not paid where id = {id};"
            ),
            6 => format!(
                "update orders set doc = repeat(md5('{n}'), {}), note = null where id = {id};",
                self.random.between(1, 300)
            ),
            7 => format!(
                "update orders set note = 'note {n}', tags = array['a', null, 'b,\"c'] where id between {id} and {};",
                id + 10
            ),
            8 => format!("delete from orders where id = {id};"),
            9 => format!("delete from orders where id between {id} and {};", id + self.random.below(15)),
            // A change of key.
            10 => format!("update orders set id = {} where id = {id};", self.fresh()),
            // A row that moves to another leaf.
            _ => format!("update orders set bucket = {} where id = {id};", self.random.below(LEAVES)),
        }
    }

    fn insert_orders(&mut self, id: u64, rows: u64) -> String {
        let n = self.random.below(1_000_000);
        let size = if self.random.chance(40) { self.random.between(60, 300) } else { 1 };
        format!(
            "insert into orders (id, bucket, customer, amount, price, note, doc, tags, placed_at, day, at, paid, token, blob, payload, mood, f4, f8, small)
             select g, g % {LEAVES}, 'customer ' || g, (g + {n}) / 100.0, (g + {n}) / 3.0, case when g % 5 = 0 then null else 'n' || {n} end,
               repeat(md5(g::text || '{n}'), {size}), array['t' || g, null], timestamptz '2026-08-01 00:00:00+00' + g * interval '1.000001 s',
               date '2026-01-01' + (g % 365)::int, time '00:00' + g * interval '0.1 s', g % 2 = 0, md5(g::text || '{n}')::uuid,
               decode(md5('{n}'), 'hex'), jsonb_build_object('n', {n}, 'x', null, 's', 'ü\"'), (array['sad', 'ok', 'happy'])[1 + g % 3]::mood,
               g / 3.0, {n} / 7.0, g % 100
             from generate_series({id}::bigint, {}::bigint) g on conflict do nothing;",
            id + rows - 1
        )
    }

    fn events(&mut self) -> String {
        let id = self.random.between(1, KEYS);
        let kind = self.random.pick(&["click", "view", "buy"]).copied().unwrap_or("view");
        let n = self.random.below(1_000_000);
        match self.random.below(8) {
            0..=3 => format!(
                "insert into events (id, kind, body, seen) select g, '{kind}', repeat(md5(g::text || '{n}'), {}), now()
                 from generate_series({id}, {}) g on conflict do nothing;",
                self.random.between(1, 120),
                id + self.random.below(20)
            ),
            4 => format!("update events set seen = now() where id = {id};"),
            5 => format!("update events set body = '{n}' where id = {id} and kind = '{kind}';"),
            6 => format!("update events set kind = '{kind}' where id = {id} and kind <> '{kind}';"),
            _ => format!("delete from events where id = {id};"),
        }
    }

    /// Root with a full replica identity, of whose leaves only some have one too.
    fn readings(&mut self) -> String {
        let id = self.random.between(1, KEYS / 4);
        let n = self.random.below(1_000_000);
        match self.random.below(6) {
            0..=2 => format!(
                "insert into readings values ({id}, {}, {n} / 10.0, repeat(md5('{n}'), {})) on conflict do nothing;",
                id % 4,
                self.random.between(1, 200)
            ),
            3 => format!("update readings set value = {n} where id = {id};"),
            4 => format!("update readings set id = {} where id = {id};", self.fresh()),
            _ => format!("delete from readings where id = {id};"),
        }
    }

    fn customers(&mut self) -> String {
        let key = self.random.between(1, KEYS / 4);
        let n = self.random.below(1_000_000);
        match self.random.below(7) {
            0..=2 => format!(
                "insert into customers (email, name, doc) values ('c{key}@x', 'name {n}', repeat(md5('{n}'), {})) on conflict do nothing;",
                self.random.between(1, 250)
            ),
            3 => format!("update customers set name = 'renamed {n}' where email = 'c{key}@x';"),
            4 => format!("update customers set doc = null where email = 'c{key}@x';"),
            // The key changes beside a document that is not sent.
            5 => format!("update customers set email = 'c{}@x' where email = 'c{key}@x';", self.fresh()),
            _ => format!("delete from customers where email = 'c{key}@x';"),
        }
    }

    fn profiles_and_oddities(&mut self) -> String {
        let id = self.random.between(1, KEYS / 8);
        let n = self.random.below(1_000_000);
        let odd = self.random.pick(&ODDITIES).copied().unwrap_or("default values");
        match self.random.below(6) {
            0 | 1 => format!(
                "insert into profiles values ({id}, 'p{n}', repeat(md5('{n}'), {})) on conflict do nothing;",
                self.random.between(1, 250)
            ),
            2 => format!("update profiles set name = 'q{n}' where id = {id};"),
            3 => format!("delete from profiles where id = {id};"),
            4 => format!("delete from oddities where id % 7 = {};", n % 7),
            _ => format!("insert into oddities {odd};"),
        }
    }

    /// No key: every row is told by all its cells.
    fn ledger(&mut self) -> String {
        let account = self.random.below(40);
        let n = self.random.below(5);
        match self.random.below(5) {
            0..=2 => format!(
                "insert into ledger values ({account}, 'entry {n}', {n}.50, {});",
                if n == 0 { "null".to_owned() } else { format!("repeat(md5('{account}'), {})", n * 60) }
            ),
            3 => format!("update ledger set amount = amount + 1 where account = {account};"),
            _ => format!("delete from ledger where account = {account} and amount > 5;"),
        }
    }

    /// Many rows at once, all of which Postgres logs in one record.
    fn copy(&mut self) -> Result<String> {
        let mut csv = String::new();
        for _ in 0..self.random.between(50, 400) {
            let id = self.fresh();
            csv.push_str(&format!(
                "{id},{},copied {},{}.25\n",
                id % LEAVES,
                self.random.below(1000),
                id % 1000
            ));
        }
        std::fs::write(&self.csv, csv)?;
        Ok(format!(
            "copy orders (id, bucket, customer, amount) from '{}' with (format csv);",
            self.csv.display()
        ))
    }

    fn truncate(&mut self) -> String {
        let leaf = self.random.below(LEAVES);
        match self.random.below(if self.load.truncate_leaves { 6 } else { 3 }) {
            0 => "truncate events;".to_owned(),
            1 => "begin; insert into ledger values (0, 'before', 1, null); truncate ledger, customers; insert into ledger values (0, 'after', 1, null); commit;".to_owned(),
            2 => "truncate readings;".to_owned(),
            3 | 4 => format!("truncate orders_{leaf};"),
            _ => "truncate events_click;".to_owned(),
        }
    }

    /// Under a name that another workload with another seed does not have.
    fn ddl(&mut self) -> String {
        let (id, n) = (self.fresh(), self.random.below(1_000_000_000));
        format!(
            "begin; alter table customers add column extra_{n} int; insert into customers (email, extra_{n}) values ('d{id}@x', {n});
             create table if not exists orders_new_{n} partition of orders for values in ({});
             insert into orders (id, bucket, customer) values ({id}, {}, 'in a new leaf'); analyze customers; commit;",
            1000 + n,
            1000 + n
        )
    }

    fn fresh(&mut self) -> u64 {
        KEYS * 1000 + self.shared.fresh.fetch_add(1, Ordering::Relaxed)
    }
}

/// What happens to transactions that meet each other.
pub(crate) const EXPECTED: [SqlState; 3] = [
    SqlState::T_R_DEADLOCK_DETECTED,
    // A row that another transaction moves to another leaf.
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::CHECK_VIOLATION,
];

/// Keys that are used over and over.
const KEYS: u64 = 600;
/// Leaves of `orders` at first.
const LEAVES: u64 = 6;

/// Values that no lake type holds, and their neighbours.
const ODDITIES: [&str; 8] = [
    "(n, d, ts, tz, t) values ('NaN', 'infinity', '-infinity', 'infinity', '24:00')",
    "(n, d, ts, tz, t) values (-0.00, '0044-03-15 BC', '0001-01-01 BC', '294276-12-31 23:59:59.999999+00', '00:00:00.000001')",
    "(un, f4, f8, ints) values ('Infinity', 'NaN', '-Infinity', '{{1,2},{3,4}}')",
    "(un, f4, f8, ints) values (123456789012345678901234567890.000100, '-0', 1e-300, '[5:6]={1,2}')",
    "(ints, texts, iv, ip, box, range, bits) values ('{}', '{\"NULL\",NULL,\"\"}', '1 mon -2 days 00:00:00.5', '10.0.0.0/8', '(1,1),(0,0)', '[1,5)', '101')",
    "(padded, c, js, m, tags, tztz) values ('ab', 'x', '{\"b\": 1,  \"a\": null, \"a\": 2}', 'happy', '{sad,ok}', '12:00:00+05:30')",
    "(neg, small_scale, money, xid, pair) values (12345, 0.00123, 1234.5, '7', row(1, 'a,b'))",
    "default values",
];

const SCHEMA: &str = "
create type mood as enum ('sad', 'ok', 'happy');
create type pair as (a int, b text);
create domain positive as int check (value > 0);
create table orders (
  id bigint, bucket int, customer text not null, amount numeric(12, 2), price numeric, note text, doc text, tags text[],
  placed_at timestamptz, day date, at time, paid bool, token uuid, blob bytea, payload jsonb, mood mood, f4 real, f8 double precision,
  small smallint, primary key (id, bucket)) partition by list (bucket);
alter table orders alter doc set storage external;
create table orders_0 partition of orders for values in (0);
create table orders_1 partition of orders for values in (1);
-- A leaf with another order of columns, and one that was dropped.
create table orders_2 (gone int, small smallint, f8 double precision, f4 real, mood mood, payload jsonb, blob bytea, token uuid, paid bool,
  at time, day date, placed_at timestamptz, tags text[], doc text, note text, price numeric, amount numeric(12, 2), customer text not null,
  bucket int not null, id bigint not null, primary key (id, bucket));
alter table orders_2 drop gone;
alter table orders attach partition orders_2 for values in (2);
create table orders_3 partition of orders for values in (3);
create table orders_4 partition of orders for values in (4);
create table orders_5 partition of orders for values in (5);
create table events (id int, kind text, body text, seen timestamptz, primary key (id, kind)) partition by list (kind);
create table events_click partition of events for values in ('click') partition by hash (id);
create table events_click_0 partition of events_click for values with (modulus 2, remainder 0);
create table events_click_1 partition of events_click for values with (modulus 2, remainder 1);
create table events_rest partition of events default partition by range (id);
create table events_rest_low partition of events_rest for values from (minvalue) to (300);
create table events_rest_high partition of events_rest for values from (300) to (maxvalue);
create table readings (id int, sensor int, value double precision, trace text, primary key (id, sensor)) partition by list (sensor);
alter table readings alter trace set storage external;
alter table readings replica identity full;
create table readings_0 partition of readings for values in (0);
create table readings_1 partition of readings for values in (1);
create table readings_2 partition of readings for values in (2);
create table readings_3 partition of readings for values in (3);
alter table readings_0 replica identity full;
alter table readings_1 replica identity full;
create table customers (email text primary key, name text, doc text);
alter table customers alter doc set storage external;
create table profiles (id int primary key, name text, doc text);
alter table profiles alter doc set storage external;
alter table profiles replica identity full;
create table ledger (account int, entry text, amount numeric(10, 2), memo text);
alter table ledger alter memo set storage external;
alter table ledger replica identity full;
create table oddities (id bigserial primary key, n numeric(10, 2), un numeric, neg numeric(5, -2), small_scale numeric(3, 5), d date, ts timestamp,
  tz timestamptz, t time, tztz timetz, f4 real, f8 double precision, ints int[], texts text[], tags mood[], iv interval, ip inet, box box,
  range int4range, bits varbit, padded char(5), c \"char\", js json, m mood, money money, xid xid, pair pair, pos positive);
create table unpublished (id bigserial primary key, body text);
";
