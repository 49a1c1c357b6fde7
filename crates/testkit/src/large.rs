//! Large transactions that stay open while others commit.
//!
//! Owns: what such a transaction does: thousands of rows, savepoints that are rolled back and released in each other, columns,
//! types, partitions and a truncate inside.
//! Does not: open connections, or count.
//! Holds: with `logical_decoding_work_mem = 64kB` most of them are streamed in many blocks.
//! Fails: on SQL that is wrong; a conflict only undoes the transaction.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_postgres::Client;

use crate::client::refuse_wrong_sql;
use crate::random::Random;
use crate::{wait, workload};

/// Runs one, statement by statement. Says whether it committed. `fresh` is a number that nobody else has.
pub(crate) async fn run(client: &Client, random: &mut Random, fresh: u64, turn: u64) -> Result<bool> {
    let mut transaction = Transaction { random, fresh, turn, statements: vec!["begin".to_owned()] };
    transaction.body(0);
    let commits = transaction.random.chance(75);
    let mut statements = transaction.statements;
    statements.push(if commits { "commit" } else { "rollback" }.to_owned());
    for statement in &statements {
        if let Err(error) = client.batch_execute(statement).await {
            refuse_wrong_sql(&error, &workload::EXPECTED)
                .with_context(|| statement.chars().take(300).collect::<String>())?;
            client.batch_execute("rollback").await.ok();
            return Ok(false);
        }
        wait::pause(Duration::from_millis(random.below(60))).await;
    }
    Ok(commits)
}

struct Transaction<'r> {
    random: &'r mut Random,
    fresh: u64,
    turn: u64,
    statements: Vec<String>,
}

impl Transaction<'_> {
    /// Some statements, with savepoints inside savepoints.
    fn body(&mut self, depth: u64) {
        for _ in 0..self.random.between(1, 4) {
            if depth < 3 && self.random.chance(45) {
                let name = format!("s{depth}");
                self.statements.push(format!("savepoint {name}"));
                self.body(depth + 1);
                let end = if self.random.chance(50) { "rollback to" } else { "release" };
                self.statements.push(format!("{end} {name}"));
            } else {
                let statement = self.statement();
                self.statements.push(statement);
            }
        }
    }

    fn statement(&mut self) -> String {
        // Millions apart from the keys of small transactions.
        let first = 1_000_000_000 + self.fresh * 100_000 + self.random.below(90_000);
        let rows = self.random.between(100, 1500);
        let last = first + rows;
        match self.random.below(12) {
            0..=3 => format!(
                "insert into orders (id, bucket, customer, amount, doc) select g, g % 6, 'large ' || g, g % 1000, repeat(md5(g::text), (g % 90)::int)
                 from generate_series({first}::bigint, {last}) g on conflict do nothing"
            ),
            4 => format!("update orders set note = 'large {first}' where id between {} and {}", first - rows, last),
            5 => format!("delete from orders where id between {} and {last}", first - rows / 3),
            6 => format!("insert into ledger select g % 40, 'entry', g % 7, repeat(md5(g::text), 5) from generate_series(1, {rows}) g"),
            7 => "update ledger set amount = amount + 1 where account < 5".to_owned(),
            // A subtransaction a row, every third of which rolls back.
            8 => format!(
                "do $$ begin for g in {}..{} loop begin insert into profiles (id, name, doc) values (g, 'loop', repeat(md5(g::text), 9)) on conflict do nothing;
                 if g % 3 = 0 then raise exception 'undone'; end if; exception when raise_exception then null; end; end loop; end $$",
                first % 1_000_000_000,
                first % 1_000_000_000 + rows / 5
            ),
            // Without a default: the rows that are there already would get it without a word in the log.
            9 => format!("alter table {} add column if not exists large_{}_{} text", self.table(), self.turn, self.fresh),
            10 => self.new_type_and_leaf(first),
            _ => "truncate ledger".to_owned(),
        }
    }

    fn table(&mut self) -> &'static str {
        self.random.pick(&["customers", "profiles", "ledger"]).copied().unwrap_or("ledger")
    }

    /// Nobody else can see these before the commit.
    fn new_type_and_leaf(&mut self, first: u64) -> String {
        let (fresh, bucket) = (self.fresh, 1_000_000 + self.random.below(900_000_000));
        let type_name = format!("weather_{fresh}_{first}");
        format!(
            "create type {type_name} as enum ('sun', 'rain'); alter table customers add column w_{first} {type_name};
             insert into customers (email, name, w_{first}) values ('large{first}@x', 'new type', 'rain');
             create table orders_large_{first} partition of orders for values in ({bucket});
             insert into orders (id, bucket, customer, doc) select g, {bucket}, 'new leaf', repeat('y', 100) from generate_series({first}::bigint, {}) g",
            first + 700
        )
    }
}
