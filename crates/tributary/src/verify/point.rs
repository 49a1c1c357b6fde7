//! The point at which source and lake are compared.
//!
//! Owns: the session that keeps the source's snapshot, its position, and what of the lake's rows that snapshot sees.
//! Does not: wait for the lake.
//! Holds: nothing is stopped and no slot is needed, so that any standby will do. Whatever the snapshot sees has its commit record before the position,
//! and so is in a lake that has come there.
//! Fails: as the source does; transient when a standby never pauses between two transactions.

use std::time::Duration;

use pgoutput::Lsn;
use rustc_hash::FxHashSet;

use crate::error::{Error, Result};
use crate::source::catalog::{server, written_lsn};
use crate::source::sql::get;
use crate::source::{ConnectOptions, Sql, connect_sql};

/// A snapshot of the source, kept until it is dropped.
#[derive(Debug)]
pub struct Point {
    /// For `SET TRANSACTION SNAPSHOT`.
    pub snapshot: String,
    /// Which rows of the lake it sees.
    pub seen: Seen,
    keeper: Sql,
}

/// What a snapshot sees, told by position and transaction id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whatever it sees committed before this.
    pub lsn: Lsn,
    /// A primary's snapshot does not see some transactions whose commit record is written: those that wait for a standby, or that have just not
    /// told yet. A standby's sees what it has replayed.
    pub by_transaction: Option<Open>,
}

/// The transactions that a primary's snapshot does not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// None from here on, without its epoch.
    pub xmax: u32,
    /// Nor these.
    pub xids: FxHashSet<u32>,
}

impl Seen {
    /// Whether the snapshot sees what a row of the lake says.
    pub fn has(&self, commit_lsn: i64, seq: i64, xid: i64) -> bool {
        let commit_lsn = Lsn(commit_lsn.cast_unsigned());
        if seq < 0 {
            // Read by a snapshot, or a marker of one: its position is that of a consistent point.
            return commit_lsn <= self.lsn;
        }
        if commit_lsn >= self.lsn {
            return false;
        }
        let Some(open) = &self.by_transaction else { return true };
        let Ok(xid) = u32::try_from(xid) else { return true };
        // Ids come round again, but not within so little log.
        if self.lsn.0 - commit_lsn.0 > XIDS_COME_ROUND_BYTES {
            return true;
        }
        let is_later = xid.wrapping_sub(open.xmax).cast_signed() >= 0;
        !is_later && !open.xids.contains(&xid)
    }
}

impl Point {
    /// Takes a snapshot, once the server has come to `at`.
    pub async fn take(options: &ConnectOptions, at: Option<Lsn>, wait: Duration) -> Result<Point> {
        let keeper = connect_sql(options).await?;
        if let Some(at) = at {
            reach(&keeper, options, at, wait).await?;
        }
        match server(&keeper).await?.in_recovery {
            false => Point::of_primary(keeper).await,
            true => Point::of_standby(keeper, wait).await,
        }
    }

    /// Whether the snapshot is still kept.
    pub async fn check(&self) -> Result<()> {
        self.keeper.query("snapshot of the source", "SELECT 1", &[]).await.map(drop)
    }

    async fn of_primary(keeper: Sql) -> Result<Point> {
        keeper.execute("snapshot of the source", BEGIN).await?;
        let rows = keeper.query("snapshot of the source", SNAPSHOT, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::transient("the source told nothing of its snapshot"))?;
        // `xid8`, of which the stream tells the lower half.
        let low = |text: &str| -> Result<u32> {
            let xid: u64 = text.parse().map_err(|_| Error::bug("a transaction id that is no number"))?;
            u32::try_from(xid & 0xFFFF_FFFF).map_err(|_| Error::bug("half of 64 bits are 32"))
        };
        let xids: Vec<String> = get(row, 2)?;
        let open =
            Open { xmax: low(get(row, 1)?)?, xids: xids.iter().map(|xid| low(xid)).collect::<Result<_>>()? };
        // Behind the snapshot, so that it is behind every commit record that the snapshot sees.
        let lsn = written_lsn(&keeper).await?.ok_or_else(|| Error::transient("a position of the source"))?;
        Ok(Point { snapshot: get(row, 0)?, seen: Seen { lsn, by_transaction: Some(open) }, keeper })
    }

    /// A standby's snapshot does not tell transactions in progress, but it sees exactly what was replayed. So it has to be taken
    /// while nothing is replayed, which is most of the time.
    async fn of_standby(keeper: Sql, wait: Duration) -> Result<Point> {
        let took = tokio::time::timeout(wait, async {
            loop {
                let before = written_lsn(&keeper).await?;
                keeper.execute("snapshot of the standby", BEGIN).await?;
                let rows =
                    keeper.query("snapshot of the standby", "SELECT pg_export_snapshot()", &[]).await?;
                // What is visible is told a moment before the position is.
                tokio::time::sleep(SETTLE).await;
                let after = written_lsn(&keeper).await?;
                if let (Some(lsn), Some(row)) = (after.filter(|_| before == after), rows.first()) {
                    return Ok::<_, Error>((lsn, get(row, 0)?));
                }
                keeper.execute("snapshot of the standby", "ROLLBACK").await?;
            }
        });
        match took.await {
            Ok(took) => {
                let (lsn, snapshot) = took?;
                Ok(Point { snapshot, seen: Seen { lsn, by_transaction: None }, keeper })
            }
            Err(_) => Err(Error::transient(format!(
                "the standby replayed without a pause of {} ms for {} s",
                SETTLE.as_millis(),
                wait.as_secs()
            ))
            .hint("compare with the primary (`snapshot.url`), or pause its replay: SELECT pg_wal_replay_pause()")),
        }
    }
}

/// Waits until the server has come to a position.
async fn reach(sql: &Sql, options: &ConnectOptions, at: Lsn, wait: Duration) -> Result<()> {
    let reached = tokio::time::timeout(wait, async {
        while written_lsn(sql).await?.is_none_or(|lsn| lsn < at) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    });
    match reached.await {
        Ok(reached) => reached,
        Err(_) => {
            let lsn = written_lsn(sql).await?.unwrap_or_default();
            let (address, wait) = (options.address(), wait.as_secs());
            Err(Error::transient(format!("{address} is at {lsn}, and did not come to {at} within {wait} s"))
                .hint("is --at a position of this server? --wait takes more time"))
        }
    }
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const SNAPSHOT: &str = "SELECT pg_export_snapshot(), pg_snapshot_xmax(s)::text, \
      ARRAY(SELECT x::text FROM pg_snapshot_xip(s) AS x) FROM pg_current_snapshot() AS s";
/// A transaction id takes four bytes of log at least, in a commit record as one of many subtransactions, and there are 2^32.
const XIDS_COME_ROUND_BYTES: u64 = 16 << 30;
const SETTLE: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(lsn: u64, xmax: u32, open: &[u32]) -> Seen {
        let open = Open { xmax, xids: open.iter().copied().collect() };
        Seen { lsn: Lsn(lsn), by_transaction: Some(open) }
    }

    #[test]
    fn what_committed_later_is_not_seen() {
        let seen = seen(1_000, 50, &[40]);
        assert!(seen.has(999, 1, 49));
        assert!(!seen.has(1_000, 1, 49));
        // Its commit record is there, and it waits for a standby.
        assert!(!seen.has(999, 1, 40));
        // It began and committed between the snapshot and the look at the position.
        assert!(!seen.has(999, 1, 50) && !seen.has(999, 1, 51));
    }

    #[test]
    fn transaction_ids_come_round() {
        let around = seen(XIDS_COME_ROUND_BYTES * 2, 3, &[u32::MAX]);
        let now = i64::try_from(XIDS_COME_ROUND_BYTES * 2).unwrap() - 1;
        assert!(around.has(now, 1, i64::from(u32::MAX) - 1));
        assert!(!around.has(now, 1, i64::from(u32::MAX)));
        assert!(!around.has(now, 1, 3));
        // The same ids, four thousand million transactions ago.
        assert!(around.has(5, 1, i64::from(u32::MAX)) && around.has(5, 1, 3));
    }

    #[test]
    fn rows_of_a_snapshot_count_by_their_point() {
        let seen = seen(1_000, 50, &[]);
        assert!(seen.has(1_000, -1, 0) && seen.has(1_000, -2, 0));
        assert!(!seen.has(1_001, -1, 0));
        let standby = Seen { lsn: Lsn(1_000), by_transaction: None };
        assert!(standby.has(999, 1, 4_000_000_000) && !standby.has(1_000, 1, 5));
    }
}
