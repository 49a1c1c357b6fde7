//! A database whose partitions come and go all the time.
//!
//! Owns: partitioned tables of up to three levels, with and without a key, and a connection that attaches, detaches, drops, truncates and renames
//! their partitions and changes rows in between, also those of partitions that are detached.
//! Does not: check anything; the source's tables are the truth.
//! Holds: the same seed tries the same. What fails for a reason of its own is undone.
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

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// The partitioned tables, by partition.
    Leaves,
    /// The partitioned tables, via the root.
    Roots,
    /// All tables, so that detached partitions are tables of their own.
    All,
}

/// Makes the database, the tables and their publication.
pub async fn create(cluster: &Cluster, publish: Publish) -> Result<()> {
    cluster.execute_in("postgres", &format!("create database {DATABASE}")).await?;
    cluster.execute(SCHEMA).await?;
    let tables = match publish {
        Publish::Leaves | Publish::Roots => "table flat, deep, keyless",
        Publish::All => "all tables",
    };
    let via_root = publish == Publish::Roots;
    let publish =
        format!("create publication tributary for {tables} with (publish_via_partition_root = {via_root})");
    cluster.execute(&publish).await
}

/// Changes partitions until it is dropped.
#[derive(Debug)]
pub struct Partitions {
    random: Random,
    url: String,
    /// Rows come by way of their root: only what can be seen there is done.
    via_root: bool,
    /// Numbers that nobody else has.
    fresh: u64,
    /// How often each kind of step was done.
    done: BTreeMap<&'static str, u64>,
}

/// A partition that exists, attached or not.
#[derive(Clone, Debug)]
struct Partition {
    name: String,
    /// `flat`, `deep` or `keyless`.
    root: String,
    /// The table that it is attached to.
    parent: Option<String>,
    is_middle: bool,
    bound: Option<String>,
    tenant: u64,
}

impl Partitions {
    /// A storm with a seed.
    pub fn new(cluster: &Cluster, seed: u64, publish: Publish) -> Partitions {
        let (url, via_root) = (cluster.url(DATABASE), publish == Publish::Roots);
        Partitions { random: Random::new(seed), url, via_root, fresh: 0, done: BTreeMap::new() }
    }

    /// Storms for some time, beside something else.
    pub async fn during<T>(&mut self, time: Duration, other: impl Future<Output = Result<T>>) -> Result<T> {
        let (raged, done) = tokio::join!(self.rage(time), other);
        raged?;
        done
    }

    async fn rage(&mut self, time: Duration) -> Result<()> {
        let until = tokio::time::Instant::now() + time;
        let mut client: Option<Client> = None;
        while tokio::time::Instant::now() < until {
            let Some(connected) = connected(client.take(), &self.url).await else { continue };
            self.step(&connected).await?;
            client = Some(connected);
            wait::pause(Duration::from_millis(15)).await;
        }
        Ok(())
    }

    /// What was done, for the test's log.
    pub fn done(&self) -> String {
        let done = self.done.iter().map(|(what, times)| format!("{what} {times}"));
        done.collect::<Vec<_>>().join(", ")
    }

    async fn step(&mut self, client: &Client) -> Result<()> {
        let Ok(partitions) = partitions(client).await else { return Ok(()) };
        for _ in 0..self.random.below(4) {
            let change = self.change(&partitions);
            self.run(client, "change", &change).await?;
        }
        let (what, sql) =
            if self.via_root { self.visible_alteration(&partitions) } else { self.alteration(&partitions) };
        // Every line is a transaction of its own.
        for sql in sql.lines() {
            self.run(client, what, sql).await?;
        }
        Ok(())
    }

    async fn run(&mut self, client: &Client, what: &'static str, sql: &str) -> Result<()> {
        match client.batch_execute(sql).await {
            Ok(()) => *self.done.entry(what).or_default() += 1,
            Err(error) => {
                // A row without a partition, a bound that is taken, a connection that broke.
                refuse_wrong_sql(&error, &EXPECTED).with_context(|| sql.to_owned())?;
                client.batch_execute("rollback").await.ok();
            }
        }
        Ok(())
    }

    fn fresh(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    /// Changes of rows of roots or of partitions, detached ones included.
    fn change(&mut self, partitions: &[Partition]) -> String {
        let id = self.random.between(1, self.fresh.max(1) * 10);
        let root = *self.random.pick(&["flat", "deep", "keyless"]).unwrap_or(&"flat");
        let table = match self.random.pick(partitions) {
            Some(partition) if self.random.chance(50) => partition.name.clone(),
            Some(_) | None => root.to_owned(),
        };
        let tenant = self.random.between(1, TENANTS);
        match self.random.below(6) {
            0 | 1 => {
                let first = self.fresh() * 10;
                format!(
                    "insert into {root} select g, {tenant}, g % 4, 'v' || g, repeat('x', 3000) from generate_series({first}, {first} + 9) g"
                )
            }
            2 => format!("update {table} set v = v || 'u' where id between {id} and {id} + 5"),
            3 => format!("delete from {table} where id between {id} and {id} + 3"),
            // Rows move to another partition.
            4 => format!("update {root} set tenant = {tenant} where id between {id} and {id} + 5"),
            _ => format!("update {root} set part = (part + 1) % 4 where id between {id} and {id} + 5"),
        }
    }

    fn alteration(&mut self, partitions: &[Partition]) -> (&'static str, String) {
        let number = self.fresh();
        let Some(any) = self.random.pick(partitions).cloned() else {
            return ("create", self.creation(number));
        };
        let Partition { name, root, parent, is_middle, bound, tenant } = any;
        match (self.random.below(12), parent, bound) {
            (0, _, _) => ("create", self.creation(number)),
            (1, _, _) => ("attach with rows", self.filled(number)),
            (2 | 3, Some(parent), _) => ("detach", format!("alter table {parent} detach partition {name}")),
            (4, Some(parent), _) => {
                ("detach concurrently", format!("alter table {parent} detach partition {name} concurrently"))
            }
            (2..=6, None, _) => {
                let (parent, bound) = match (root.as_str(), name.contains("_part_")) {
                    ("deep", true) => (format!("deep_{tenant}"), format!("in ({})", self.random.below(4))),
                    _ => (root.clone(), format!("in ({tenant})")),
                };
                ("attach again", format!("alter table {parent} attach partition {name} for values {bound}"))
            }
            (5, Some(parent), Some(bound)) => (
                "swap",
                format!(
                    "begin; alter table {parent} detach partition {name}; alter table {name} rename to {name}_old{number}; \
                     create table {name} (like {name}_old{number} including all) {}; {} \
                     alter table {parent} attach partition {name} {bound}; commit",
                    if is_middle { "partition by list (part)" } else { "" },
                    identity(&root, &name),
                ),
            ),
            (7, _, _) => ("drop", format!("drop table {name}")),
            (8, _, _) => ("truncate", format!("truncate {name}")),
            (9, _, _) => ("rename", format!("alter table {name} rename to {root}_{tenant}_r{number}")),
            (10, Some(parent), Some(bound)) => (
                "detach and attach",
                format!(
                    "alter table {parent} detach partition {name}; delete from {name} where id % 3 = 0; update {name} set v = 'detached'; \
                     alter table {parent} attach partition {name} {bound}"
                ),
            ),
            (11, _, _) if self.random.chance(20) => ("truncate root", format!("truncate {root}")),
            _ => ("nothing", String::new()),
        }
    }

    /// What leaves no row behind that its root has no more.
    fn visible_alteration(&mut self, partitions: &[Partition]) -> (&'static str, String) {
        let number = self.fresh();
        let Some(any) = self.random.pick(partitions).cloned() else {
            return ("create", self.creation(number));
        };
        let Partition { name, root, parent, bound, tenant, .. } = any;
        match (self.random.below(8), parent, bound) {
            (0 | 1, _, _) => ("create", self.creation(number)),
            (2, _, _) => ("attach with rows", self.filled(number)),
            (3, _, _) => ("rename", format!("alter table {name} rename to {root}_{tenant}_r{number}")),
            (4 | 5, Some(parent), Some(bound)) => {
                let first = number * 10;
                let next = *self.random.pick(&[";", ";\n"]).unwrap_or(&";");
                (
                    "detach and attach",
                    format!(
                        "alter table {parent} detach partition {name} {next} \
                         insert into {name} (id, tenant, part, v) select g, tenant, part, 'apart' from (select tenant, part from {name} limit 1) as one, \
                         generate_series({first}, {first} + 4) g {next} update {name} set v = 'detached' where id % 2 = 0 {next} \
                         alter table {parent} attach partition {name} {bound}"
                    ),
                )
            }
            (6, _, _) if self.random.chance(20) => ("truncate root", format!("truncate {root}")),
            _ => ("nothing", String::new()),
        }
    }

    /// A partition that is one from the beginning.
    fn creation(&mut self, number: u64) -> String {
        let tenant = self.random.between(1, TENANTS);
        match self.random.below(4) {
            0 | 1 => {
                format!("create table flat_{tenant}_n{number} partition of flat for values in ({tenant})")
            }
            2 => {
                let name = format!("keyless_{tenant}_n{number}");
                format!(
                    "create table {name} partition of keyless for values in ({tenant}); {}",
                    identity("keyless", &name)
                )
            }
            _ => format!(
                "begin; create table deep_{tenant} partition of deep for values in ({tenant}) partition by list (part); \
                 create table deep_{tenant}_part_{number}a partition of deep_{tenant} for values in (0, 1); \
                 create table deep_{tenant}_part_{number}b partition of deep_{tenant} for values in (2, 3); commit"
            ),
        }
    }

    /// A table with rows that becomes a partition, in one transaction or in several.
    fn filled(&mut self, number: u64) -> String {
        let tenant = self.random.between(1, TENANTS);
        let first = self.fresh() * 10;
        let (root, key) = *self.random.pick(&[("flat", true), ("keyless", false)]).unwrap_or(&("flat", true));
        let name = format!("{root}_{tenant}_f{number}");
        let key = if key { ", primary key (id, tenant, part)" } else { "" };
        let (begin, commit) = if self.random.chance(50) { ("begin;", "; commit") } else { ("", "") };
        // Its columns come in another order, and one is missing that was dropped.
        format!(
            "{begin} create table {name} (v text, junk int, part int not null, doc text, id bigint not null, tenant int not null {key}); \
             alter table {name} drop column junk; {} \
             insert into {name} select 'f' || g, g % 4, repeat('f', 3000), g, {tenant} from generate_series({first}, {first} + 9) g; \
             alter table {root} attach partition {name} for values in ({tenant}) {commit}",
            identity(root, &name)
        )
    }
}

fn identity(root: &str, name: &str) -> String {
    if root == "keyless" { format!("alter table {name} replica identity full;") } else { String::new() }
}

async fn partitions(client: &Client) -> Result<Vec<Partition>> {
    let mut found = Vec::new();
    for message in client.simple_query(PARTITIONS).await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let text = |at: usize| row.get(at).map(str::to_owned);
        let name = text(0).context("a name")?;
        let mut words = name.split('_');
        let root = words.next().context("a root")?.to_owned();
        let tenant = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
        found.push(Partition {
            parent: text(1),
            is_middle: text(2).as_deref() == Some("p"),
            bound: text(3),
            name,
            root,
            tenant,
        });
    }
    Ok(found)
}

/// Steps are taken blindly, so that many are refused; what is misspelt is not.
const EXPECTED: [SqlState; 9] = [
    SqlState::CHECK_VIOLATION,
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::DUPLICATE_TABLE,
    SqlState::UNDEFINED_TABLE,
    // Bounds that overlap, or do not fit.
    SqlState::INVALID_OBJECT_DEFINITION,
    SqlState::WRONG_OBJECT_TYPE,
    SqlState::DATATYPE_MISMATCH,
    // A partition that is being detached.
    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
];

/// Few, so that bounds are taken and become free.
const TENANTS: u64 = 8;

const PARTITIONS: &str = "select c.relname, i.inhparent::regclass, c.relkind, pg_get_expr(c.relpartbound, c.oid)
from pg_class c left join pg_inherits i on i.inhrelid = c.oid
where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace and c.relname not in ('flat', 'deep', 'keyless')
order by c.relname";

const SCHEMA: &str = "
create table flat (id bigint, tenant int, part int, v text, doc text, primary key (id, tenant, part)) partition by list (tenant);
create table deep (id bigint, tenant int, part int, v text, doc text, primary key (id, tenant, part)) partition by list (tenant);
create table keyless (id bigint, tenant int, part int, v text, doc text) partition by list (tenant);
alter table keyless replica identity full;
create table flat_1_n0 partition of flat for values in (1);
create table keyless_1_n0 partition of keyless for values in (1);
alter table keyless_1_n0 replica identity full;
create table deep_1 partition of deep for values in (1) partition by list (part);
create table deep_1_part_0a partition of deep_1 for values in (0, 1);
create table deep_1_part_0b partition of deep_1 for values in (2, 3);
insert into flat select g, 1, abs(g) % 4, 'before', repeat('x', 3000) from generate_series(-100, -1) g;
insert into deep select g, 1, abs(g) % 4, 'before', repeat('x', 3000) from generate_series(-100, -1) g;
insert into keyless select g, 1, abs(g) % 4, 'before', 'd' from generate_series(-100, -1) g;
";
