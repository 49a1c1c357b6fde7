//! A large table whose rows move.
//!
//! Owns: `large`, with values out of line, `heap`, without a key, and a connection that changes both until it is stopped.
//! Does not: remember what it did; the source's tables are the truth.
//! Holds: updates move rows to other blocks, often beside values that the stream does not send; keys change, rows go.
//! Fails: never; a connection that breaks is made anew.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::client::connected;
use crate::postgres::{Cluster, DATABASE};
use crate::random::Random;
use crate::wait;

/// Makes and fills the tables, and publishes them.
pub async fn create(cluster: &Cluster) -> Result<()> {
    cluster.execute(TABLES).await
}

/// A connection that changes the tables.
#[derive(Debug)]
pub struct Shuffle {
    task: JoinSet<()>,
}

impl Shuffle {
    /// Begins.
    pub fn start(cluster: &Cluster, seed: u64) -> Shuffle {
        let mut task = JoinSet::new();
        task.spawn(shuffle(cluster.url(DATABASE), Random::new(seed)));
        Shuffle { task }
    }

    /// Ends, and undoes what is open.
    pub async fn stop(mut self) {
        self.task.shutdown().await;
    }
}

async fn shuffle(url: String, mut random: Random) {
    let mut fresh = 10_000_000_u64;
    loop {
        let Some(client) = connected(None, &url).await else { continue };
        while !client.is_closed() {
            fresh += 1;
            // Conflicts with nobody; what breaks with the connection is undone.
            client.batch_execute(&change(&mut random, fresh)).await.ok();
            wait::pause(Duration::from_millis(5)).await;
        }
    }
}

fn change(random: &mut Random, fresh: u64) -> String {
    let id = random.between(1, ROWS);
    let account = id % 5000;
    match random.below(6) {
        0 => format!("update large set note = repeat('n', 300) where id between {id} and {id} + 40"),
        1 => format!("update large set n = n + 1 where id between {id} and {id} + 5"),
        // A change of key beside a value that is not sent.
        2 => format!("update large set id = {fresh} where id = {id}"),
        3 => format!("delete from large where id between {id} and {id} + 3"),
        4 => format!("insert into large values ({fresh}, 1, 'fresh', repeat('d', 4000))"),
        _ => format!(
            "update heap set amount = amount + 1 where account = {account}; insert into heap values ({account}, 1);
             delete from heap where account = {account} + 1 and amount > 2"
        ),
    }
}

const ROWS: u64 = 300_000;

const TABLES: &str = "
create table large (id bigint primary key, n int, note text, doc text);
alter table large alter doc set storage external;
insert into large select g, g, repeat('n', 100), repeat(md5(g::text), case when g % 10 = 0 then 160 else 3 end) from generate_series(1, 300000) g;
create table heap (account int, amount int);
alter table heap replica identity full;
create index on heap (account);
insert into heap select g % 5000, 1 from generate_series(1, 60000) g;
analyze large, heap;
alter publication tributary add table large, heap;
";
