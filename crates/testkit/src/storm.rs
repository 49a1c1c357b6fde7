//! A database whose tables change their columns all the time.
//!
//! Owns: the tables, and a connection that alters them and changes their rows in between.
//! Does not: check anything. Rows that a rewrite changed without a word are touched afterwards, so that the lake can know them.
//! Holds: the same seed tries the same; every kind of alteration is tried on plain, partitioned, fully identified and keyless tables.
//! Fails: on SQL that is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::client::{connected, refuse_wrong_sql};
use crate::postgres::{Cluster, DATABASE};
use crate::random::Random;
use crate::wait;

/// Makes the database, the tables and a publication of all tables.
pub async fn create(cluster: &Cluster, via_root: bool) -> Result<()> {
    cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
    cluster.execute(SCHEMA).await?;
    let publish =
        format!("create publication tributary for all tables with (publish_via_partition_root = {via_root})");
    cluster.execute(&publish).await
}

/// Alters and changes until it is dropped.
#[derive(Debug)]
pub struct Storm {
    random: Random,
    url: String,
    /// Numbers that nobody else has.
    fresh: u64,
    /// How often each kind of alteration was done.
    done: BTreeMap<&'static str, u64>,
}

/// A table as it is at the moment.
struct Table {
    /// Quoted.
    name: String,
    oid: String,
    kind: Kind,
    /// Without those of the key.
    columns: Vec<Column>,
    key: Option<String>,
}

#[derive(Clone)]
struct Column {
    name: String,
    type_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Partitioned,
    Keyless,
}

impl Storm {
    /// A storm with a seed.
    pub fn new(cluster: &Cluster, seed: u64) -> Storm {
        Storm { random: Random::new(seed), url: cluster.url(DATABASE), fresh: 0, done: BTreeMap::new() }
    }

    /// Storms for some time, beside something else.
    pub async fn during<T>(&mut self, time: Duration, other: impl Future<Output = Result<T>>) -> Result<T> {
        let (raged, done) = tokio::join!(self.rage(time), other);
        raged?;
        done
    }

    /// Storms until the time is over. A broken connection is made anew.
    async fn rage(&mut self, time: Duration) -> Result<()> {
        let until = tokio::time::Instant::now() + time;
        let mut client: Option<Client> = None;
        while tokio::time::Instant::now() < until {
            let Some(connected) = connected(client.take(), &self.url).await else { continue };
            if let Err(error) = self.step(&connected).await {
                let database = error.chain().find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>());
                if let Some(refused) = database {
                    refuse_wrong_sql(refused, &EXPECTED).with_context(|| format!("{error:#}"))?;
                }
                connected.batch_execute("rollback").await.ok();
            }
            client = Some(connected);
            wait::pause(PAUSE).await;
        }
        Ok(())
    }

    /// A row of every table, so that the stream speaks of all columns once more.
    pub async fn calm(&mut self, cluster: &Cluster) -> Result<()> {
        let client = cluster.connect(DATABASE).await?;
        for table in tables(&client).await? {
            let insert = self.new_row(&table);
            client.batch_execute(&insert).await?;
        }
        Ok(())
    }

    /// What was done, for the test's log.
    pub fn done(&self) -> String {
        let done = self.done.iter().map(|(what, times)| format!("{what} {times}"));
        done.collect::<Vec<_>>().join(", ")
    }

    /// One alteration, with changes of rows before, within and after it.
    async fn step(&mut self, client: &Client) -> Result<()> {
        let tables = tables(client).await?;
        let table = self.random.pick(&tables).context("a table")?;
        for _ in 0..self.random.below(4) {
            let changes = self.changes(table);
            client.batch_execute(&changes).await?;
        }
        let Some((what, alteration)) = self.alteration(table) else { return Ok(()) };
        let is_undone = self.random.chance(15);
        let before = self.changes(table);
        let sql = match (is_undone, self.random.below(3)) {
            (true, _) => {
                let after = self.changes(table);
                format!("begin; {before} savepoint s; {alteration}; rollback to s; {after} commit;")
            }
            (false, 0) => format!("begin; {before} {alteration}; commit;"),
            (false, _) => format!("{alteration};"),
        };
        client.batch_execute(&sql).await.with_context(|| sql.clone())?;
        if !is_undone {
            *self.done.entry(what).or_default() += 1;
        }
        let tables = self::tables(client).await?;
        let Some(table) = tables.iter().find(|after| after.oid == table.oid) else { return Ok(()) };
        if let ("default drawn" | "type", Some(column)) = (what, table.columns.first()) {
            // Older rows were rewritten, and no change said so.
            let touch = format!("update {} set {} = {};", table.name, column.name, column.name);
            client.batch_execute(&touch).await.with_context(|| touch.clone())?;
        }
        // The stream speaks of a table's columns before a row of it only, so every step of theirs is followed by one.
        let insert = self.new_row(table);
        client.batch_execute(&insert).await.with_context(|| insert.clone())?;
        Ok(())
    }

    fn new_row(&mut self, table: &Table) -> String {
        self.fresh += 1;
        self.insert(table, KEYS * 100 + self.fresh)
    }

    /// Changes of some rows.
    fn changes(&mut self, table: &Table) -> String {
        let mut sql = String::new();
        for _ in 0..self.random.between(1, 4) {
            let change = self.change(table);
            sql.push_str(&change);
        }
        sql
    }

    fn change(&mut self, table: &Table) -> String {
        let id = self.random.between(1, KEYS);
        let some = match &table.key {
            Some(key) => format!("{key} = {id}"),
            // Few enough to be told apart by what they hold.
            None => format!("k % 7 = {}", id % 7),
        };
        let name = &table.name;
        let column = self.random.pick(&table.columns).cloned();
        match (self.random.below(6), column) {
            (0, _) => format!("delete from {name} where {some};"),
            (1 | 2, Some(column)) => {
                let value = self.value(&column.type_name);
                format!("update {name} set {} = {value} where {some};", column.name)
            }
            (3, _) if table.key.is_some() => {
                self.fresh += 1;
                let key = table.key.as_deref().unwrap_or_default();
                format!("update {name} set {key} = {} where {some};", KEYS * 100 + self.fresh)
            }
            _ => self.insert(table, id),
        }
    }

    fn insert(&mut self, table: &Table, id: u64) -> String {
        let mut names = vec!["k".to_owned()];
        let mut values = vec![(id % 4).to_string()];
        if let Some(key) = &table.key {
            names.push(key.clone());
            values.push(id.to_string());
        }
        for column in &table.columns {
            if self.random.chance(80) {
                values.push(self.value(&column.type_name));
                names.push(column.name.clone());
            }
        }
        let (name, names, values) = (&table.name, names.join(", "), values.join(", "));
        format!("insert into {name} ({names}) values ({values}) on conflict do nothing;")
    }

    fn value(&mut self, type_name: &str) -> String {
        let n = self.random.below(10_000);
        if self.random.chance(15) {
            return "null".to_owned();
        }
        match type_name {
            "boolean" => n.is_multiple_of(2).to_string(),
            "smallint" => (n % 100).to_string(),
            "integer" | "bigint" => n.to_string(),
            "real" | "double precision" => format!("{n} / 8.0"),
            "uuid" => format!("md5('{n}')::uuid"),
            "jsonb" => format!("'{{\"n\": {n}}}'"),
            "text[]" => format!("array['a {n}', null]"),
            "date" => format!("date '2026-01-01' + {}", n % 900),
            "timestamptz" | "timestamp with time zone" => {
                format!("timestamptz '2026-01-01 00:00+00' + interval '{n} s'")
            }
            name if name.starts_with("numeric") => format!("{n} / 100.0"),
            _ => format!("'t{n}'"),
        }
    }

    /// Something that alters the table, and what it is called.
    fn alteration(&mut self, table: &Table) -> Option<(&'static str, String)> {
        let name = &table.name;
        let alter = |what: String| format!("alter table {name} {what}");
        let fresh = {
            self.fresh += 1;
            format!("c{}", self.fresh)
        };
        let column = self.random.pick(&table.columns)?.clone();
        let other = self.random.pick(&table.columns)?.clone();
        let type_name = self.random.pick(&TYPES).copied().unwrap_or("text");
        let many = table.columns.len() > 8;
        Some(match self.random.below(19) {
            0 | 1 if !many => ("add", alter(format!("add column {fresh} {type_name}"))),
            2 | 3 if !many => {
                let value = self.value(type_name);
                ("default", alter(format!("add column {fresh} {type_name} default {value}")))
            }
            // A name that was in use once.
            4 if !many => {
                let name = format!("c{}", self.random.between(1, self.fresh));
                let exists = table.columns.iter().any(|column| column.name == name);
                ("add again", alter(format!("add column {} text", if exists { fresh } else { name })))
            }
            5 if !many && table.kind != Kind::Keyless => {
                ("default drawn", alter(format!("add column {fresh} double precision default random()")))
            }
            6 | 7 if table.columns.len() > 2 => ("drop", alter(format!("drop column {}", column.name))),
            8 | 9 => ("rename", alter(format!("rename column {} to {fresh}", column.name))),
            // A leaf of another order does not tell a swap from another step.
            10 if column.name != other.name && table.kind != Kind::Partitioned => {
                let (a, b) = (&column.name, &other.name);
                let steps = [(a, &fresh), (b, a), (&fresh, b)];
                let steps = steps.map(|(from, to)| alter(format!("rename column {from} to {to}")));
                ("swap", steps.join("; "))
            }
            11 | 12 if table.kind != Kind::Keyless => {
                let to = match column.type_name.as_str() {
                    "smallint" => "integer",
                    "integer" => "bigint",
                    "real" => "double precision",
                    "numeric(10,2)" => "numeric(14,2)",
                    "numeric(14,2)" => "numeric(14,3)",
                    "date" => "timestamptz",
                    _ => "text",
                };
                ("type", alter(format!("alter column {0} type {to} using {0}::{to}", column.name)))
            }
            13 => {
                let schema = if name.starts_with("public.") { "other" } else { "public" };
                ("schema", alter(format!("set schema {schema}")))
            }
            14 => ("table", alter(format!("rename to t{fresh}"))),
            15 if table.key.is_some() => {
                let key = table.key.as_deref().unwrap_or_default();
                ("rename key", alter(format!("rename column {key} to id{fresh}")))
            }
            16 if table.kind == Kind::Plain => {
                let identity = if self.random.chance(50) { "full" } else { "default" };
                ("identity", alter(format!("replica identity {identity}")))
            }
            17 if table.kind == Kind::Plain => {
                let create = format!("create table {name} (id bigint primary key, k int, {fresh} text)");
                let insert = format!("insert into {name} (id, k, {fresh}) values (1, 1, 'anew')");
                ("anew", format!("drop table {name}; {create}; {insert}"))
            }
            18 => ("analyze", format!("analyze {name}")),
            _ => return None,
        })
    }
}

/// The tables as they are now.
async fn tables(client: &Client) -> Result<Vec<Table>> {
    let rows = client.simple_query(TABLES).await?;
    let mut tables: Vec<Table> = Vec::new();
    for row in &rows {
        let SimpleQueryMessage::Row(row) = row else { continue };
        let cell = |at: usize| row.get(at).unwrap_or_default().to_owned();
        if tables.last().is_none_or(|table| table.oid != cell(0)) {
            let (name, key) = (cell(1), row.get(2).map(str::to_owned));
            let kind = match (row.get(3), &key) {
                (Some("p"), _) => Kind::Partitioned,
                (_, None) => Kind::Keyless,
                (_, Some(_)) => Kind::Plain,
            };
            tables.push(Table { oid: cell(0), name, key, kind, columns: Vec::new() });
        }
        let (name, type_name) = (cell(4), cell(5));
        if let Some(table) =
            tables.last_mut().filter(|table| table.key.as_ref() != Some(&name) && name != "k")
        {
            table.columns.push(Column { name, type_name });
        }
    }
    Ok(tables)
}

/// What a value does that a type does not take, and a table that is gone.
const EXPECTED: [SqlState; 2] = [SqlState::NUMERIC_VALUE_OUT_OF_RANGE, SqlState::UNDEFINED_TABLE];

const KEYS: u64 = 60;
const PAUSE: Duration = Duration::from_millis(200);

const TYPES: [&str; 11] = [
    "text",
    "integer",
    "bigint",
    "boolean",
    "numeric(10,2)",
    "timestamptz",
    "uuid",
    "jsonb",
    "text[]",
    "date",
    "real",
];

const TABLES: &str = "select c.oid, format('%I.%I', n.nspname, c.relname), \
    (select quote_ident(a.attname) from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] \
     where i.indrelid = c.oid and i.indisprimary), c.relkind, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod) \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid \
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('public', 'other') and a.attnum > 0 and not a.attisdropped \
    order by c.oid, a.attnum";

/// `k` is never altered, and small.
const SCHEMA: &str = "
create schema other;
create table plain (id bigint primary key, k int, a text, n int);
create table complete (a text, id bigint primary key, k int, n numeric(10, 2));
alter table complete replica identity full;
create table keyless (k int, a text, n int);
alter table keyless replica identity full;
create table parted (id bigint, k int, a text, n int, primary key (id, k)) partition by list (k);
create table parted_0 partition of parted for values in (0);
create table parted_1 partition of parted for values in (1) partition by list (k);
create table parted_1_1 partition of parted_1 for values in (1);
-- A leaf with another order of columns, and one that was dropped.
create table parted_2 (n int, gone text, a text, k int not null, id bigint not null, primary key (id, k));
alter table parted_2 drop gone;
alter table parted attach partition parted_2 for values in (2);
create table parted_rest partition of parted default;
";
