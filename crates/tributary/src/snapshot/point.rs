//! A consistent point: a position in the log, and a snapshot of everything that committed before it.
//!
//! Owns: the temporary slot that finds the point, and the session that keeps its snapshot.
//! Does not: read tables.
//! Holds: when a [`Point`] is there, its slot is gone, so that it keeps no WAL; its snapshot lives as long as it does, and what it shows is
//! there, on a standby as well. The stream has every transaction that the snapshot does not show, at a position not below the point (T71, T72).
//! Fails: transient when open transactions do not end in time (T70), naming the oldest; otherwise as the source does.

use std::time::Duration;

use lake::kill_points::kill_point;
use pgoutput::Lsn;

use crate::error::{Error, Result};
use crate::source::catalog::{OpenTransaction, oldest_transaction, server};
use crate::source::session::is_slot_wait;
use crate::source::sql::{check_slot_name, get, quote_literal};
use crate::source::{ConnectOptions, Session, Sql, connect_sql};

/// A consistent point, kept until it is dropped.
#[derive(Debug)]
pub struct Point {
    /// What commits at this position or behind it is in the stream and not in the snapshot.
    pub lsn: Lsn,
    /// For `SET TRANSACTION SNAPSHOT`.
    pub snapshot: String,
    /// The source's time when it was kept, in microseconds since 1970-01-01 UTC.
    pub time_unix_micros: i64,
    /// Every transaction below is done, and shown if it committed. With its epoch, as `xid8`.
    pub xmin: u64,
    /// No transaction from here on is shown. With its epoch, as `xid8`.
    pub xmax: u64,
    keeper: Sql,
}

impl Point {
    /// Finds a point. `slot` is the name of the temporary slot; waits for open transactions that have written, up to `wait`.
    pub async fn find(options: &ConnectOptions, slot: &str, wait: Duration) -> Result<Point> {
        Point::find_waiting_for(None, options, slot, wait).await
    }

    /// Finds a point on a standby, which waits for transactions of its primary: that is asked which they are.
    pub(super) async fn find_waiting_for(
        primary: Option<&Sql>,
        options: &ConnectOptions,
        slot: &str,
        wait: Duration,
    ) -> Result<Point> {
        // First: it says who is in the way, and the snapshot must not wait for it.
        let keeper = connect_sql(options).await?;
        let guard = if server(&keeper).await?.in_recovery { Some(Guard::open(options).await?) } else { None };
        let mut session = Box::pin(Session::connect(options)).await?;
        let created = match session.create_temporary_slot(slot, wait).await {
            Ok(created) => created,
            Err(error) if is_slot_wait(&error) => {
                return Err(in_the_way(primary.unwrap_or(&keeper), wait, error).await);
            }
            Err(error) => return Err(error),
        };
        kill_point("point-found");
        let exported = created.snapshot.ok_or_else(|| Error::bug("the slot exported no snapshot"))?;
        let point = Point::keep(keeper, created.consistent_point, &exported).await?;
        if let Some(guard) = guard {
            guard.check().await?;
        }
        // It would end with its session, but only once the server notices that.
        session.drop_slot(slot).await?;
        Ok(point)
    }

    /// Keeps a snapshot that another session exported, which may end after this.
    pub async fn keep(keeper: Sql, lsn: Lsn, exported: &str) -> Result<Point> {
        keeper.execute("snapshot to keep", &begin(exported)).await?;
        let rows = keeper.query("snapshot to keep", KEEP, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::transient("the source told nothing of its snapshot"))?;
        let xid = |column: usize| -> Result<u64> {
            let text: &str = get(row, column)?;
            text.parse().map_err(|_| Error::bug("a transaction id that is no number"))
        };
        Ok(Point {
            lsn,
            snapshot: get(row, 0)?,
            time_unix_micros: get(row, 1)?,
            xmin: xid(2)?,
            xmax: xid(3)?,
            keeper,
        })
    }

    /// Whether the snapshot is still kept: the session may have been ended, by a person or by a conflict on a standby.
    pub async fn check(&self) -> Result<()> {
        self.keeper.query("snapshot that is kept", "SELECT 1", &[]).await.map(drop)
    }
}

/// Knows whether a standby removed rows while a point was found.
///
/// On a primary the slot itself keeps what its snapshot shows. On a standby it keeps catalog rows only, and what is replayed between the
/// point and the taking of the snapshot may remove rows that the point shows. A row that is missing leaves holes: an update of
/// it does not bring the large values that it left alone. Such a replay has to end this session first, which is older.
struct Guard(Sql);

impl Guard {
    async fn open(options: &ConnectOptions) -> Result<Guard> {
        let sql = connect_sql(options).await?;
        sql.execute("rows to keep", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1").await?;
        Ok(Guard(sql))
    }

    async fn check(self) -> Result<()> {
        let asked = self.0.query("rows to keep", "SELECT 1", &[]).await;
        asked.map(drop).map_err(|error| {
            Error::transient("the standby removed rows while a point was found")
                .hint("hot_standby_feedback = on, on the standby, makes the primary keep them")
                .caused_by(error)
        })
    }
}

/// Begins a transaction that sees what the snapshot shows.
pub(super) fn begin(snapshot: &str) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
        quote_literal(snapshot)
    )
}

/// The name of the slot of the `number`th point of the pipeline that owns `slot`.
pub fn slot_name(slot: &str, number: u64) -> Result<String> {
    check_slot_name(slot)?;
    let suffix = format!("_snapshot_{number}");
    // Lower-case letters, digits and underscores: a byte is a character.
    let kept: String = slot.chars().take(SLOT_NAME_MAX - suffix.len()).collect();
    Ok(format!("{kept}{suffix}"))
}

/// `NAMEDATALEN - 1`
const SLOT_NAME_MAX: usize = 63;

const KEEP: &str = "SELECT pg_export_snapshot(), (extract(epoch FROM now()) * 1000000)::int8, \
      pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() AS s";

async fn in_the_way(sql: &Sql, wait: Duration, error: Error) -> Error {
    let waited = wait.as_secs();
    if matches!(server(sql).await, Ok(facts) if facts.in_recovery) {
        // T82
        return Error::transient(format!("the primary did not log its running transactions within {waited} s"))
            .hint("a standby finds a consistent point in what its primary logs; on an idle one: SELECT pg_log_standby_snapshot()")
            .caused_by(error);
    }
    let who = match oldest_transaction(sql).await {
        Ok(Some(OpenTransaction::Session { pid, application, open_seconds })) => {
            let application = application.filter(|name| !name.is_empty()).unwrap_or_else(|| "-".to_owned());
            let open = open_seconds.map_or_else(String::new, |seconds| format!(", open for {seconds:.0} s"));
            format!("the oldest is of process {pid} (application {application}{open})")
        }
        Ok(Some(OpenTransaction::Prepared { gid, open_seconds })) => {
            format!("the oldest is prepared transaction `{gid}`, open for {open_seconds:.0} s")
        }
        Ok(None) => "there is none any more".to_owned(),
        Err(_) => "which is the oldest is not known".to_owned(),
    };
    Error::transient(format!("transactions that were open did not end within {waited} s; {who}"))
        .hint(
            "a snapshot begins when every transaction that was open has ended: commit it, or end its session",
        )
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_a_name_that_fits() {
        assert_eq!(slot_name("tributary", 7).unwrap(), "tributary_snapshot_7");
        let long = slot_name(&"x".repeat(63), u64::MAX).unwrap();
        assert_eq!(long.len(), 63);
        assert!(long.ends_with("x_snapshot_18446744073709551615"), "{long}");
        assert!(slot_name("no slot", 1).is_err());
    }
}
