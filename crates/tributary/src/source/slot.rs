//! The replication slot, seen from beside the stream.
//!
//! Owns: [`Slot`], in one form for every server version.
//! Does not: create slots (`session`), or decide what a slot's state means for us.
//! Holds: a column that a version lacks reads as unknown, never as harmless.
//! Fails: as `fault` classifies the server's errors.

use pgoutput::Lsn;
use serde::Deserialize;

use super::sql::{Sql, check_slot_name, get};
use crate::error::{Error, Result};

/// A slot as `pg_replication_slots` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// `pgoutput`, if it is ours; `None` for a physical slot.
    pub plugin: Option<String>,
    /// Whose changes it holds.
    pub database: Option<String>,
    /// A session uses it.
    pub active: bool,
    /// That session's process.
    pub active_pid: Option<i32>,
    /// Confirmed up to here. `None` while the slot is being created (T70).
    pub confirmed_flush: Option<Lsn>,
    /// WAL is kept from here.
    pub restart_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Why the slot is of no use any more (T68).
    pub invalidation: Option<String>,
    /// Prepared transactions are decoded at PREPARE (T19); not ours then.
    pub two_phase: bool,
    /// Vanishes with its session.
    pub temporary: bool,
    /// How much may be written before the slot is in danger; `None` for no bound.
    pub safe_wal_size: Option<i64>,
    /// WAL kept for it, in bytes.
    pub retained_bytes: Option<u64>,
    /// How much of that is not confirmed; the rest is kept for transactions that were open there.
    pub behind_bytes: Option<u64>,
    /// How many transactions old the catalog rows are that it keeps (T73).
    pub catalog_xmin_age: Option<u32>,
    /// Carried over to standbys. `None` before 17.
    pub failover: Option<bool>,
    /// A copy of a primary's slot, of no use until promotion; behind it, it is a slot like any other. `None` before 17.
    pub synced: Option<bool>,
}

/// The slot of this name.
pub async fn slot(sql: &Sql, name: &str) -> Result<Option<Slot>> {
    check_slot_name(name)?;
    let rows = sql.query("replication slot", SLOT, &[&name]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let columns: Columns = serde_json::from_str(get(row, 0)?)
        .map_err(|error| Error::definite("pg_replication_slots is not what it was").caused_by(error))?;
    let retained: Option<i64> = get(row, 1)?;
    let age: Option<i32> = get(row, 2)?;
    let behind: Option<i64> = get(row, 4)?;
    Ok(Some(Slot {
        behind_bytes: behind.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
        ..columns.into_slot(retained, age, get(row, 3)?)?
    }))
}

/// The reason that 16 tells for every conflict of a slot on a standby.
pub const CONFLICT: &str = "conflict with recovery";

/// As JSON, since every version has other columns.
const SLOT: &str = "SELECT to_jsonb(s)::text, pg_wal_lsn_diff(now.lsn, s.restart_lsn)::int8, age(s.catalog_xmin)::int4, \
      pg_is_in_recovery(), pg_wal_lsn_diff(now.lsn, s.confirmed_flush_lsn)::int8 \
      FROM pg_replication_slots s, (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
      ELSE pg_current_wal_lsn() END) AS now(lsn) WHERE s.slot_name = $1::text";

/// Drops the slot of this name. One that does not exist is dropped already.
pub async fn drop_slot(sql: &Sql, name: &str) -> Result<()> {
    check_slot_name(name)?;
    let drop = "SELECT pg_drop_replication_slot(s.slot_name) FROM pg_replication_slots s WHERE s.slot_name = $1::text";
    sql.query("replication slot to drop", drop, &[&name]).await.map(|_| ())
}

#[derive(Deserialize)]
struct Columns {
    plugin: Option<String>,
    database: Option<String>,
    active: bool,
    active_pid: Option<i32>,
    confirmed_flush_lsn: Option<String>,
    restart_lsn: Option<String>,
    wal_status: Option<String>,
    safe_wal_size: Option<i64>,
    temporary: bool,
    #[serde(default)]
    two_phase: bool,
    /// Since 16.
    conflicting: Option<bool>,
    /// Since 17.
    invalidation_reason: Option<String>,
    failover: Option<bool>,
    synced: Option<bool>,
}

impl Columns {
    fn into_slot(self, retained: Option<i64>, age: Option<i32>, in_recovery: bool) -> Result<Slot> {
        let invalidation = self
            .invalidation_reason
            .or_else(|| self.conflicting.filter(|yes| *yes).map(|_| CONFLICT.to_owned()))
            .or_else(|| {
                self.wal_status.as_deref().filter(|s| *s == "lost").map(|_| "wal_removed".to_owned())
            });
        Ok(Slot {
            plugin: self.plugin,
            database: self.database,
            active: self.active,
            active_pid: self.active_pid,
            confirmed_flush: self.confirmed_flush_lsn.as_deref().map(parse_lsn).transpose()?,
            restart_lsn: self.restart_lsn.as_deref().map(parse_lsn).transpose()?,
            wal_status: self.wal_status,
            invalidation,
            two_phase: self.two_phase,
            temporary: self.temporary,
            safe_wal_size: self.safe_wal_size,
            retained_bytes: retained.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
            behind_bytes: None,
            catalog_xmin_age: age.map(|age| u32::try_from(age).unwrap_or(0)),
            failover: self.failover,
            // A standby that was promoted goes on saying so; on a primary it means nothing.
            synced: self.synced.map(|synced| synced && in_recovery),
        })
    }
}

/// A position as the server prints it.
pub(super) fn parse_lsn(text: &str) -> Result<Lsn> {
    text.parse().map_err(|error: pgoutput::lsn::ParseLsnError| {
        Error::definite("a position of the server").caused_by(error)
    })
}

#[cfg(test)]
mod tests;
