//! The server itself: what it is set to, and who is in the way.
//!
//! Owns: [`ServerFacts`], [`OpenTransaction`] and how transactions ended.
//! Does not: judge them; `check` and the pipeline do.
//! Holds: nothing here needs more than a role that may log in.
//! Fails: as `fault` classifies the server's errors.

use std::time::Duration;

use pgoutput::{Lsn, Xid};
use rustc_hash::FxHashSet;

use super::slot::parse_lsn;
use super::sql::{Sql, get};
use crate::error::{Error, Result};

/// What matters of a server's settings and state.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerFacts {
    /// `server_version_num`.
    pub version: u32,
    /// A standby.
    pub in_recovery: bool,
    /// Must be `logical`; on a standby its primary's must be, too.
    pub wal_level: String,
    /// Bound of slots.
    pub max_replication_slots: u32,
    /// Slots that exist.
    pub replication_slots: u32,
    /// Bound of replication sessions.
    pub max_wal_senders: u32,
    /// After this long without a status the server ends a session; `None` for never.
    pub wal_sender_timeout: Option<Duration>,
    /// The database's encoding.
    pub encoding: String,
    /// Flushed up to here, or replayed on a standby. `None` on a standby that has replayed nothing.
    pub current_lsn: Option<Lsn>,
    /// A slot that holds back more WAL than this is invalidated; `None` for no bound.
    pub max_slot_wal_keep_bytes: Option<u64>,
    /// A slot that is idle for longer is invalidated (T69); `None` for never.
    pub idle_replication_slot_timeout: Option<Duration>,
    /// A standby that tells its primary which rows it needs (T81).
    pub hot_standby_feedback: bool,
    /// The standby's own slot at its primary; empty if it has none.
    pub primary_slot_name: String,
    /// Our role may replicate.
    pub may_replicate: bool,
    /// Our role is a superuser.
    pub is_superuser: bool,
}

/// Reads [`ServerFacts`].
pub async fn server(sql: &Sql) -> Result<ServerFacts> {
    let rows = sql.query("settings of the source", SERVER, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::transient("the source told nothing of its settings"))?;
    let count = |column: usize| -> Result<u32> { Ok(u32::try_from(get::<i64>(row, column)?).unwrap_or(0)) };
    let positive = |column: usize| -> Result<Option<u64>> {
        Ok(get::<Option<i64>>(row, column)?.and_then(|number| u64::try_from(number).ok()))
    };
    let idle = positive(9)?.filter(|amount| *amount > 0);
    let idle_unit = if get::<Option<&str>>(row, 10)? == Some("min") { 60 } else { 1 };
    Ok(ServerFacts {
        version: sql.server_version(),
        in_recovery: get(row, 0)?,
        wal_level: get(row, 1)?,
        max_replication_slots: count(2)?,
        replication_slots: count(3)?,
        max_wal_senders: count(4)?,
        wal_sender_timeout: positive(5)?.filter(|millis| *millis > 0).map(Duration::from_millis),
        encoding: get(row, 6)?,
        current_lsn: get::<Option<&str>>(row, 7)?.map(parse_lsn).transpose()?,
        // Told in MiB, -1 for no bound.
        max_slot_wal_keep_bytes: positive(8)?.map(|mebibytes| mebibytes << 20),
        idle_replication_slot_timeout: idle.map(|amount| Duration::from_secs(amount * idle_unit)),
        hot_standby_feedback: get(row, 11)?,
        primary_slot_name: get(row, 12)?,
        may_replicate: get(row, 13)?,
        is_superuser: get(row, 14)?,
    })
}

const SERVER: &str = "SELECT pg_is_in_recovery(), current_setting('wal_level'), \
      current_setting('max_replication_slots')::int8, (SELECT count(*) FROM pg_replication_slots), \
      current_setting('max_wal_senders')::int8, \
      (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'), \
      current_setting('server_encoding'), \
      CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text, \
      (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), \
      (SELECT setting::int8 FROM pg_settings WHERE name = 'idle_replication_slot_timeout'), \
      (SELECT unit FROM pg_settings WHERE name = 'idle_replication_slot_timeout'), \
      current_setting('hot_standby_feedback')::bool, coalesce(current_setting('primary_slot_name', true), ''), \
      r.rolreplication, r.rolsuper FROM pg_roles r WHERE r.rolname = current_user";

/// Behind everything that has committed by now, flushed or not: a commit with `synchronous_commit = off` is done before its
/// WAL is flushed, and is streamed once it is. On a standby, how far it has replayed.
pub async fn written_lsn(sql: &Sql) -> Result<Option<Lsn>> {
    let rows = sql.query("position of the source", WRITTEN, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::transient("the source told nothing of its position"))?;
    let block_bytes = u64::try_from(get::<i64>(row, 1)?).unwrap_or(0);
    Ok(get::<Option<&str>>(row, 0)?.map(parse_lsn).transpose()?.map(|lsn| record_end(lsn, block_bytes)))
}

/// Where the last record ends, of the position where the next one will begin: on a new page that is behind the page's header, to
/// which no decoded position ever points. No record ends at or right behind a page's header for another reason but one that
/// crosses onto that page, and such a record is not complete before either position.
fn record_end(next_record: Lsn, block_bytes: u64) -> Lsn {
    let in_block = next_record.0.checked_rem(block_bytes).unwrap_or(0);
    if PAGE_HEADER_BYTES.contains(&in_block) { Lsn(next_record.0 - in_block) } else { next_record }
}

const WRITTEN: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
      ELSE pg_current_wal_insert_lsn() END::text, current_setting('wal_block_size')::int8";

/// `SizeOfXLogShortPHD` and, on the first page of a segment, `SizeOfXLogLongPHD` of `xlog_internal.h`.
const PAGE_HEADER_BYTES: [u64; 2] = [24, 40];

/// The id that the next transaction gets, or one that a transaction got meanwhile.
pub async fn next_xid(sql: &Sql) -> Result<Xid> {
    let rows = sql.query("next transaction id", NEXT_XID, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::transient("the source told no transaction id"))?;
    Ok(Xid(FIRST_NORMAL_XID.wrapping_add_signed(get(row, 0)?)))
}

/// An age is the distance to the next id, and the smaller ids are never any age.
const NEXT_XID: &str = "SELECT age('3'::xid)";
/// `FirstNormalTransactionId` of `transam.h`.
const FIRST_NORMAL_XID: u32 = 3;

/// Which of these (sub)transactions rolled back, of a top transaction whose commit was streamed. `None` if the server has forgotten.
///
/// The wire has the low half of a transaction id only, so the ids have to be of the last two billion. One that committed may still
/// be called in progress: its session waits for a synchronous standby, for example.
pub async fn rolled_back(sql: &Sql, xids: &[Xid]) -> Result<Option<FxHashSet<Xid>>> {
    let mut found = FxHashSet::default();
    for xids in xids.chunks(XIDS_AT_ONCE) {
        let asked: Vec<i64> = xids.iter().map(|xid| i64::from(xid.0)).collect();
        let query = format!("{WHOLE_IDS}{ROLLED_BACK}");
        let rows = sql.query("how subtransactions ended", &query, &[&asked]).await?;
        for row in rows {
            if get::<Option<&str>>(&row, 1)?.is_none() {
                return Ok(None);
            }
            found.extend(u32::try_from(get::<i64>(&row, 0)?).ok().map(Xid));
        }
    }
    Ok(Some(found))
}

/// The distance to the next id, as a signed number of 32 bits, makes whole ids of the halves.
const WHOLE_IDS: &str = "WITH next AS MATERIALIZED (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 AS xid), \
      asked AS MATERIALIZED (SELECT half, (next.xid \
        + (half - (next.xid & 4294967295) + 6442450944) % 4294967296 - 2147483648)::text::xid8 AS whole \
        FROM next, unnest($1::int8[]) half)";
const ROLLED_BACK: &str = ", ended AS MATERIALIZED (SELECT half, pg_xact_status(whole) AS status FROM asked) \
      SELECT half, status FROM ended WHERE status IS NULL OR status = 'aborted'";

/// Whether the session sees what a transaction did, of which the stream has told that it committed.
///
/// It may not, since a commit can be streamed as soon as it is flushed: its session may still wait for a synchronous standby, for how long that
/// takes. A standby that the session is with may have to replay it.
pub async fn sees(sql: &Sql, xid: Xid) -> Result<bool> {
    let query = format!("{WHOLE_IDS}{IS_SEEN}");
    let rows = sql.query("a transaction of the stream", &query, &[&[i64::from(xid.0)].as_slice()]).await?;
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

/// By its status, since on a standby `pg_current_snapshot` leaves out what is in progress. An id of the future is an error there, and one of which the
/// server has forgotten ended long ago.
const IS_SEEN: &str = " SELECT CASE WHEN whole >= pg_snapshot_xmax(pg_current_snapshot()) THEN false \
      ELSE coalesce(pg_xact_status(whole), 'committed') = 'committed' END FROM asked";

/// How many are asked for in one query.
const XIDS_AT_ONCE: usize = 10_000;

/// A transaction that a new slot has to wait for (T70).
#[derive(Clone, Debug, PartialEq)]
pub enum OpenTransaction {
    /// Of a session.
    Session {
        /// Its process.
        pid: i32,
        /// Its `application_name`, as far as our role may see it.
        application: Option<String>,
        /// How long it has been open, as far as our role may see it.
        open_seconds: Option<f64>,
    },
    /// Prepared, and neither committed nor rolled back.
    Prepared {
        /// Its name.
        gid: String,
        /// How long ago it was prepared.
        open_seconds: f64,
    },
}

/// The oldest transaction that has written something and is open.
pub async fn oldest_transaction(sql: &Sql) -> Result<Option<OpenTransaction>> {
    let rows = sql.query("open transactions", OLDEST_TRANSACTION, &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(match get::<Option<String>>(row, 0)? {
        Some(gid) => {
            OpenTransaction::Prepared { gid, open_seconds: get::<Option<f64>>(row, 3)?.unwrap_or(0.0) }
        }
        None => OpenTransaction::Session {
            pid: get(row, 1)?,
            application: get(row, 2)?,
            open_seconds: get(row, 3)?,
        },
    }))
}

const OLDEST_TRANSACTION: &str = "SELECT gid, pid, application, open_seconds FROM ( \
      SELECT NULL::text AS gid, a.pid, a.application_name::text AS application, \
      extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS open_seconds, age(a.backend_xid) AS age \
      FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid() \
      UNION ALL SELECT p.gid, NULL, NULL, extract(epoch FROM clock_timestamp() - p.prepared)::float8, age(p.transaction) \
      FROM pg_prepared_xacts p) AS open ORDER BY age DESC LIMIT 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_behind_a_page_header_is_where_the_page_begins() {
        for (next, end) in [
            (0x2000, 0x2000),
            (0x2018, 0x2000),
            (0x0100_0028, 0x0100_0000),
            (0x2019, 0x2019),
            (0x3FFF, 0x3FFF),
        ] {
            assert_eq!(record_end(Lsn(next), 8192), Lsn(end), "{next:#x}");
        }
        assert_eq!(record_end(Lsn(24), 0), Lsn(24), "a server that tells no block size");
    }
}
