//! Connections that change a database whatever becomes of it.
//!
//! Owns: how they are made and made again, and which refusals are no mistake of whoever uses them.
//! Does not: know what is run.
//! Holds: a server that is away is waited for, not reported.
//! Fails: on SQL that is wrong.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::wait;

pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move { connection.await.ok() });
    // A transaction that waits behind a lock for long must not hold up the test's end.
    client.batch_execute("set lock_timeout = '5s'; set synchronous_commit = off").await?;
    Ok(client)
}

/// The client, or another one if its connection broke; none, after a pause, while the server is away.
pub(crate) async fn connected(client: Option<Client>, url: &str) -> Option<Client> {
    if let Some(client) = client.filter(|client| !client.is_closed()) {
        return Some(client);
    }
    match connect(url).await {
        Ok(client) => Some(client),
        Err(_) => {
            wait::pause(Duration::from_millis(200)).await;
            None
        }
    }
}

/// What a busy, restarted database does to its clients is no mistake, and neither is what they expect besides.
pub(crate) fn refuse_wrong_sql(error: &tokio_postgres::Error, expected: &[SqlState]) -> Result<()> {
    let Some(code) = error.code() else { return Ok(()) };
    let always = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    if !always.contains(code) && !expected.contains(code) {
        bail!("the SQL is wrong: {error}: {code:?}");
    }
    Ok(())
}

/// Runs the same again and again for some time, on a connection that is made anew when it breaks; returns how often it succeeded.
pub async fn again_and_again(url: &str, sql: &str, time: Duration) -> Result<u64> {
    let begun = Instant::now();
    let (mut client, mut times) = (None, 0);
    while begun.elapsed() < time {
        client = connected(client, url).await;
        let Some(client) = &client else { continue };
        match client.batch_execute(sql).await {
            Ok(()) => times += 1,
            Err(error) => refuse_wrong_sql(&error, &[SqlState::T_R_SERIALIZATION_FAILURE])?,
        }
    }
    Ok(times)
}
