//! A source that is a standby, and standbys that keep a copy of the slot.
//!
//! Owns: every condition of decoding on a standby (T81, T82, T84), and of a fail-over that the lake survives (T74 to T76).
//! Does not: set anything, there or at the primary.
//! Holds: what a role may not see is said to be unknown, never to be well.
//! Fails: never; failures go to the report.

use super::Report;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::pipeline::bootstrap::FIRST_WITH_FAILOVER;
use crate::source::catalog::{self, ServerFacts};
use crate::source::slot::{self, Slot};
use crate::source::sql::get;
use crate::source::standby::{self, Replay};
use crate::source::{ConnectOptions, Session, Sql, connect_sql};

/// The source is a standby: it and its primary.
pub(super) async fn source(
    report: &mut Report,
    sql: &Sql,
    config: &Config,
    options: &ConnectOptions,
    server: &ServerFacts,
) {
    let major = server.version / 10_000;
    match standby::unfit(server) {
        Some(error) => return report.error("standby", &error),
        None => report.ok(
            "standby",
            format!("the source is a standby of Postgres {major}: changes come once it has replayed them"),
        ),
    }
    for lack in standby::lacks(server) {
        report.warn("standby", lack.found, lack.remedy);
    }
    if let Some(replay) = report.take("standby", standby::replay(sql).await) {
        replayed(report, &replay);
    }
    let Some(primary) = report.take("primary", config.primary_options()) else { return };
    let Some(primary) = primary else {
        report.warn(
            "primary",
            "`source.primary_url` is not set: `setup` cannot create the publication, and a new slot or snapshot waits for what the primary logs by itself",
            "primary_url = \"postgresql://…\"  -- in [source]; or run what `tributary setup` prints on the primary yourself",
        );
        return;
    };
    look_at_primary(report, options, &primary, server).await;
}

/// T84
fn replayed(report: &mut Report, replay: &Replay) {
    if replay.is_paused {
        report.warn("replay", "replay is paused: nothing new comes", "SELECT pg_wal_replay_resume();");
    }
    if replay.apply_delay_millis > 0 {
        report.warn(
            "replay",
            format!(
                "recovery_min_apply_delay is {} ms: so much later everything comes",
                replay.apply_delay_millis
            ),
            "ALTER SYSTEM SET recovery_min_apply_delay = 0;",
        );
    }
    if let Some(seconds) = replay.seconds_behind.filter(|seconds| *seconds >= REPLAY_LATE_SECONDS) {
        report.warn(
            "replay",
            format!("the last transaction that was replayed committed {seconds:.0} s ago: either nothing is written, or replay is behind"),
            "look for a conflict with a query there (max_standby_streaming_delay), a slow disk, or a primary that is out of reach",
        );
    }
}

async fn look_at_primary(
    report: &mut Report,
    options: &ConnectOptions,
    primary: &ConnectOptions,
    standby: &ServerFacts,
) {
    let Some(sql) = report.take("primary", connect_sql(primary).await) else { return };
    let Some(facts) = report.take("primary", catalog::server(&sql).await) else { return };
    let identities = async || -> Result<bool> {
        let [ours, theirs] = [
            Box::pin(Session::connect(options)).await?.identify_system().await?,
            Box::pin(Session::connect(primary)).await?.identify_system().await?,
        ];
        Ok(ours.id == theirs.id)
    };
    match report.take("primary", Box::pin(identities()).await) {
        Some(true) => {}
        Some(false) => {
            return report.fail(
                "primary",
                Kind::Config,
                format!(
                    "{} is not the primary of {}: another database cluster",
                    primary.address(),
                    options.address()
                ),
                "`source.primary_url` names the server that the standby follows",
            );
        }
        None => return,
    }
    if facts.in_recovery {
        report.warn(
            "primary",
            format!("{} is a standby itself: publications cannot be created there", primary.address()),
            "`source.primary_url` names the primary, not a standby between",
        );
    }
    if facts.wal_level != "logical" {
        report.fail(
            "primary",
            Kind::SourceHalted,
            format!(
                "wal_level is {} at the primary; nothing can be decoded from that, on the standby neither",
                facts.wal_level
            ),
            "ALTER SYSTEM SET wal_level = 'logical';  -- at the primary, then restart it",
        );
    }
    physical_slot(report, &sql, &standby.primary_slot_name).await;
    match report.take("primary", may_log(&sql).await) {
        Some(true) => report.ok(
            "primary",
            format!("{}: logs what new slots of the standby wait for when it is asked", primary.address()),
        ),
        Some(false) => {
            let role = crate::source::sql::quote_identifier(&primary.user);
            report.warn(
                "primary",
                "our role may not call pg_log_standby_snapshot there: a new slot or snapshot begins some 15 seconds later",
                format!("GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO {role};  -- at the primary"),
            );
        }
        None => {}
    }
}

/// T81: without it, a standby that is away for a moment loses what its own slots need.
async fn physical_slot(report: &mut Report, primary: &Sql, name: &str) {
    if name.is_empty() {
        return;
    }
    let Some(found) = report.take("physical slot", slot::slot(primary, name).await) else { return };
    match found {
        None => report.fail(
            "physical slot",
            Kind::SourceHalted,
            format!("the standby's primary_slot_name is `{name}`, and the primary has no such slot"),
            format!("SELECT pg_create_physical_replication_slot('{name}', true);  -- at the primary"),
        ),
        Some(slot) if slot.plugin.is_some() => report.fail(
            "physical slot",
            Kind::SourceHalted,
            format!("`{name}` is a logical slot; a standby needs a physical one"),
            "primary_slot_name = '…'  -- of the standby",
        ),
        Some(slot) if !slot.active => report.warn(
            "physical slot",
            format!("`{name}` at the primary is not in use: is the standby connected?"),
            "look at the standby's log, and at its primary_conninfo",
        ),
        Some(_) => {
            report.ok("physical slot", format!("`{name}` at the primary keeps what the standby needs"))
        }
    }
}

/// Whether our role may ask for the record that a new slot of a standby waits for.
pub(super) async fn may_log(sql: &Sql) -> Result<bool> {
    let rows = sql.query("privileges", MAY_LOG, &[]).await?;
    Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(false))
}

/// Fail-over of a primary of 17 or newer: what the primary says, then each standby that is named.
pub(super) async fn failover(
    report: &mut Report,
    sql: &Sql,
    config: &Config,
    server: &ServerFacts,
    slot: Option<&Slot>,
    standbys: &[ConnectOptions],
) {
    if server.in_recovery || server.version < FIRST_WITH_FAILOVER || !config.source.failover {
        return;
    }
    let name = &config.source.slot;
    let is_wanted = slot.is_none_or(|slot| slot.failover == Some(true));
    if !is_wanted {
        report.warn(
            "failover",
            format!("slot `{name}` is not kept by standbys: behind a promotion it would be missing, and the lake could not be continued"),
            format!("tributary setup --apply  -- while no daemon runs: ALTER_REPLICATION_SLOT {name} (FAILOVER true); or source.failover = false"),
        );
    }
    let Some(at_primary) = report.take("failover", AtPrimary::read(sql).await) else { return };
    at_primary.judge(report);
    for standby in standbys {
        let Some(at_standby) = report.take("failover", Box::pin(AtStandby::read(standby, name)).await) else {
            continue;
        };
        at_standby.judge(report, &standby.address(), name, &at_primary);
    }
}

/// What a primary tells of its standbys.
#[derive(Clone, Debug, Default, PartialEq)]
struct AtPrimary {
    /// Those of `synchronized_standby_slots`, for which a fail-over slot waits.
    waits_for: Vec<String>,
    /// Physical slots, and whether they are in use.
    physical: Vec<(String, bool)>,
}

impl AtPrimary {
    async fn read(sql: &Sql) -> Result<AtPrimary> {
        let rows = sql.query("standbys of the source", AT_PRIMARY, &[]).await?;
        let Some(row) = rows.first() else { return Ok(AtPrimary::default()) };
        let names: &str = get(row, 0)?;
        let waits_for = names.split(',').map(|name| name.trim().trim_matches('"').to_owned());
        let (slots, used): (Vec<String>, Vec<bool>) = (get(row, 1)?, get(row, 2)?);
        Ok(AtPrimary {
            waits_for: waits_for.filter(|name| !name.is_empty()).collect(),
            physical: slots.into_iter().zip(used).collect(),
        })
    }

    /// T75: without it we may publish what a promoted standby never had.
    fn judge(&self, report: &mut Report) {
        if self.waits_for.is_empty() {
            if self.physical.is_empty() {
                // No standby of whom the primary knows.
                return;
            }
            let names: Vec<&str> = self.physical.iter().map(|(name, _)| name.as_str()).collect();
            return report.warn(
                "failover",
                "synchronized_standby_slots is empty: the lake may get transactions that a promoted standby never had, and halts then",
                format!("ALTER SYSTEM SET synchronized_standby_slots = '{}';  -- the physical slots of those that may be promoted; then SELECT pg_reload_conf()", names.join(", ")),
            );
        }
        for name in &self.waits_for {
            match self.physical.iter().find(|(known, _)| known == name) {
                Some((_, true)) => {}
                Some((_, false)) => report.warn(
                    "failover",
                    format!("synchronized_standby_slots names `{name}`, which no standby uses now: the stream waits for it"),
                    "connect that standby, or take its slot out of synchronized_standby_slots",
                ),
                None => report.fail(
                    "failover",
                    Kind::SourceHalted,
                    format!("synchronized_standby_slots names `{name}`, and there is no such physical slot: the stream waits for it for ever"),
                    format!("SELECT pg_create_physical_replication_slot('{name}', true);  -- or take it out of synchronized_standby_slots"),
                ),
            }
        }
    }
}

/// What a standby that may be promoted tells.
#[derive(Clone, Debug, Default, PartialEq)]
struct AtStandby {
    in_recovery: bool,
    version: u32,
    syncs_slots: bool,
    feedback: bool,
    primary_slot_name: String,
    /// Hidden from ordinary roles.
    primary_conninfo: Option<String>,
    slot: Option<Slot>,
}

impl AtStandby {
    async fn read(options: &ConnectOptions, name: &str) -> Result<AtStandby> {
        let sql = connect_sql(options).await?;
        let server = catalog::server(&sql).await?;
        let rows = sql.query("settings of a standby", AT_STANDBY, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::transient("a standby told nothing of its settings"))?;
        Ok(AtStandby {
            in_recovery: server.in_recovery,
            version: server.version,
            feedback: server.hot_standby_feedback,
            primary_slot_name: server.primary_slot_name,
            syncs_slots: get::<Option<&str>>(row, 0)? == Some("on"),
            primary_conninfo: get(row, 1)?,
            slot: slot::slot(&sql, name).await?,
        })
    }

    /// T74
    fn judge(&self, report: &mut Report, address: &str, name: &str, primary: &AtPrimary) {
        if !self.in_recovery || self.version < FIRST_WITH_FAILOVER {
            return;
        }
        let before = report.checks.len();
        let mut lacks =
            |found: String, remedy: String| report.warn("failover", format!("{address}: {found}"), remedy);
        if !self.syncs_slots {
            lacks(
                "sync_replication_slots is off: it keeps no copy of our slot".to_owned(),
                "ALTER SYSTEM SET sync_replication_slots = on;  -- on the standby; then SELECT pg_reload_conf()".to_owned(),
            );
        }
        if !self.feedback {
            lacks(
                "hot_standby_feedback is off, without which no slot is copied".to_owned(),
                "ALTER SYSTEM SET hot_standby_feedback = on;  -- on the standby; then SELECT pg_reload_conf()".to_owned(),
            );
        }
        if self.primary_slot_name.is_empty() {
            lacks(
                "primary_slot_name is not set, without which no slot is copied".to_owned(),
                "ALTER SYSTEM SET primary_slot_name = '…';  -- on the standby: a physical slot of its own at the primary".to_owned(),
            );
        } else if !primary.waits_for.is_empty() && !primary.waits_for.contains(&self.primary_slot_name) {
            lacks(
                format!(
                    "its slot `{}` is not in synchronized_standby_slots of the primary: it may lack what the lake has",
                    self.primary_slot_name
                ),
                format!(
                    "ALTER SYSTEM SET synchronized_standby_slots = '{}, …';  -- at the primary",
                    self.primary_slot_name
                ),
            );
        }
        match self.primary_conninfo.as_deref() {
            Some(conninfo) if !names_a_database(conninfo) => lacks(
                "primary_conninfo names no dbname, without which no slot is copied".to_owned(),
                "ALTER SYSTEM SET primary_conninfo = '… dbname=postgres';  -- on the standby".to_owned(),
            ),
            Some(_) | None => {}
        }
        match &self.slot {
            None => lacks(
                format!("it has no copy of slot `{name}` yet"),
                "it comes once the conditions are met and the primary's slot has moved on; until then no promotion".to_owned(),
            ),
            Some(slot) if slot.synced != Some(true) => lacks(
                format!("slot `{name}` there is its own, and no copy of the primary's"),
                format!("SELECT pg_drop_replication_slot('{name}');  -- on the standby, if nobody uses it"),
            ),
            Some(Slot { invalidation: Some(reason), .. }) => lacks(
                format!("the copy of slot `{name}` there is invalid ({reason})"),
                "it is made anew by itself once the standby has caught up; until then no promotion".to_owned(),
            ),
            Some(slot) if slot.temporary => lacks(
                format!("the copy of slot `{name}` there is not complete yet"),
                "it is once the standby has replayed up to the primary's slot; until then no promotion".to_owned(),
            ),
            Some(_) => {}
        }
        if report.checks.len() == before {
            let unseen = if self.primary_conninfo.is_none() {
                "; our role may not see whether primary_conninfo names a dbname"
            } else {
                ""
            };
            report.ok(
                "failover",
                format!("{address} keeps a copy of slot `{name}` that is good for a promotion{unseen}"),
            );
        }
    }
}

/// Whether a libpq connection string names a database.
fn names_a_database(conninfo: &str) -> bool {
    match conninfo.split_once("://") {
        Some((_, rest)) => {
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            path.split_once('/').is_some_and(|(_, database)| !database.is_empty())
                || query.contains("dbname=")
        }
        None => conninfo.split("dbname").skip(1).any(|rest| rest.trim_start().starts_with('=')),
    }
}

const AT_PRIMARY: &str = "SELECT coalesce(current_setting('synchronized_standby_slots', true), ''), \
      coalesce(array_agg(s.slot_name::text ORDER BY s.slot_name) FILTER (WHERE s.slot_type = 'physical'), '{}'), \
      coalesce(array_agg(s.active ORDER BY s.slot_name) FILTER (WHERE s.slot_type = 'physical'), '{}') \
      FROM pg_replication_slots s";
const AT_STANDBY: &str = "SELECT current_setting('sync_replication_slots', true), \
      (SELECT setting FROM pg_settings WHERE name = 'primary_conninfo')";
const MAY_LOG: &str = "SELECT has_function_privilege('pg_log_standby_snapshot()', 'EXECUTE')";
/// As long as a quiet primary may write nothing that anybody would miss.
const REPLAY_LATE_SECONDS: f64 = 300.0;

#[cfg(test)]
mod tests;
