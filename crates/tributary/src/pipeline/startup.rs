//! Whether the slot, the log and the server fit together: the table of situations at start-up.
//!
//! Owns: the decision, as a function of what was read.
//! Does not: read anything, or mend anything.
//! Holds: I10, a doubt about the source halts; nothing is skipped and no slot is ever made silently.
//! Fails: [`Kind::SourceHalted`](crate::error::Kind::SourceHalted) with what to do, or `Config` for a slot that is not ours to read.

use lake::log::State;
use pgoutput::Lsn;

use crate::error::{Error, Result};
use crate::source::session::{System, TimelineSwitch};
use crate::source::slot::{self, Slot};

/// What the server says of itself and of our slot.
#[derive(Debug)]
pub struct Situation<'a> {
    /// What the log folds to: C is its `to_lsn`.
    pub log: &'a State,
    /// IDENTIFY_SYSTEM of the server that we stream from.
    pub system: &'a System,
    /// W: how far its log is flushed, or replayed on a standby.
    pub server_lsn: Lsn,
    /// The slot, S by its `confirmed_flush`; `None` if it is missing.
    pub slot: Option<&'a Slot>,
    /// Where the timelines since the log's began; read only when the server's is newer.
    pub history: &'a [TimelineSwitch],
    /// The database of the connection.
    pub database: &'a str,
}

/// How to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// START_REPLICATION at the log's `to_lsn`.
    Start,
    /// The same, and the change of timeline is recorded.
    StartOnTimeline {
        /// The timeline of the log.
        from: u32,
        /// The timeline of the server.
        to: u32,
    },
    /// The server has not got as far as the log yet: a standby that may still replay it.
    WaitForReplay,
}

/// Decides; every halt says what disagrees and what mends it.
pub fn decide(situation: &Situation<'_>, in_recovery: bool) -> Result<Decision> {
    let Situation { log, system, server_lsn, .. } = *situation;
    if system.id != log.system_id {
        return Err(Error::halted(format!(
            "the server's system identifier is {}, and the log was written from {}: this is another database cluster",
            system.id, log.system_id
        ))
        .hint("point `source.url` at the right host, or give this pipeline a new `lake.url` prefix and slot"));
    }
    let decision = timeline(situation)?;
    let slot = check_slot(situation)?;
    let confirmed = slot.confirmed_flush.unwrap_or(Lsn::ZERO);
    if confirmed > log.to_lsn {
        return Err(Error::halted(format!(
            "slot `{}` was moved to {confirmed}, beyond the lake's {}: somebody consumed, advanced or recreated it, and the changes in between never reached the lake",
            log.slot, log.to_lsn
        ))
        .hint(format!(
            "find who read the slot (`select * from pg_replication_slots where slot_name = '{}'`); then start anew: drop the slot, and set up a new `lake.url` prefix",
            log.slot
        )));
    }
    if log.to_lsn > server_lsn {
        if in_recovery {
            return Ok(Decision::WaitForReplay);
        }
        return Err(Error::halted(format!(
            "the lake is at {} and the server only at {server_lsn}: it was restored from a backup, or is the wrong host",
            log.to_lsn
        ))
        .hint("point `source.url` at the server that wrote the lake; after a restore, set up a new `lake.url` prefix and slot"));
    }
    Ok(decision)
}

fn timeline(situation: &Situation<'_>) -> Result<Decision> {
    let Situation { log, system, history, .. } = *situation;
    if system.timeline == log.timeline {
        return Ok(Decision::Start);
    }
    if system.timeline < log.timeline {
        return Err(Error::halted(format!(
            "the server is on timeline {} and the log was written on {}: it is an old primary or an old backup",
            system.timeline, log.timeline
        ))
        .hint("point `source.url` at the server that was promoted"));
    }
    // The entry of the log's timeline says where that timeline was left.
    let left = history.iter().find(|switch| switch.timeline == log.timeline).map(|switch| switch.switch_lsn);
    match left {
        Some(switch_lsn) if switch_lsn >= log.to_lsn => {
            Ok(Decision::StartOnTimeline { from: log.timeline, to: system.timeline })
        }
        Some(switch_lsn) => Err(Error::halted(format!(
            "timeline {} was left at {switch_lsn}, before the lake's {}: the lake holds transactions that the promoted server never had",
            log.timeline, log.to_lsn
        ))
        .hint("the lake must be built anew: set up a new `lake.url` prefix and slot. To avoid it, name the standby in `synchronized_standby_slots`")),
        None => Err(Error::halted(format!(
            "the server is on timeline {} and its history does not contain the log's timeline {}",
            system.timeline, log.timeline
        ))
        .hint("point `source.url` at a server that descends from the one that wrote the lake")),
    }
}

fn check_slot<'a>(situation: &Situation<'a>) -> Result<&'a Slot> {
    let name = &situation.log.slot;
    let Some(slot) = situation.slot else {
        return Err(Error::halted(format!(
            "slot `{name}` does not exist, and the log ends at {}: what committed since then cannot be read any more",
            situation.log.to_lsn
        ))
        .hint("it was dropped, or this server was promoted without it. A slot is never created silently beside a log: set up a new `lake.url` prefix and slot"));
    };
    refuse_foreign(name, slot, situation.database)?;
    if let Some(reason) = lost(slot) {
        return Err(Error::halted(format!(
            "slot `{name}` is lost ({reason}): the server can send nothing from it any more"
        ))
        .hint(format!("{}, then drop the slot and set up a new `lake.url` prefix", mend(reason))));
    }
    Ok(slot)
}

/// Why the slot can give nothing any more (T68).
pub fn lost(slot: &Slot) -> Option<&str> {
    match (slot.invalidation.as_deref(), slot.wal_status.as_deref()) {
        (Some(reason), _) => Some(reason),
        (None, Some("lost")) => Some("wal_removed"),
        (None, _) => None,
    }
}

/// What keeps the server from doing it again.
fn mend(reason: &str) -> &'static str {
    match reason {
        "idle_timeout" => {
            "raise `idle_replication_slot_timeout` above the longest time that the daemon may be down"
        }
        "wal_level_insufficient" => {
            "set `wal_level = logical` at the source, and at the primary of a standby"
        }
        "rows_removed" => {
            "turn `hot_standby_feedback` on at the standby, and give it a physical slot at its primary (`primary_slot_name`)"
        }
        // 16 does not tell which of the two.
        slot::CONFLICT => {
            "turn `hot_standby_feedback` on at the standby, give it a physical slot (`primary_slot_name`), and keep `wal_level = logical` at its primary"
        }
        _ => "raise `max_slot_wal_keep_size`, or set `source.wal_budget` below it",
    }
}

/// A slot that we could not read as we have to, whatever its position.
pub fn refuse_foreign(name: &str, slot: &Slot, database: &str) -> Result<()> {
    let reason = if slot.plugin.as_deref() != Some("pgoutput") {
        format!(
            "it is not a pgoutput slot (plugin: {})",
            slot.plugin.as_deref().unwrap_or("none, a physical slot")
        )
    } else if slot.database.as_deref() != Some(database) {
        format!(
            "it belongs to database `{}`, and `source.url` names `{database}`",
            slot.database.as_deref().unwrap_or("")
        )
    } else if slot.two_phase {
        "it has two_phase on, with which prepared transactions that are rolled back later would reach the lake".to_owned()
    } else if slot.synced == Some(true) {
        "it is a copy that the primary keeps on this standby, and can be read only after promotion".to_owned()
    } else if slot.temporary {
        "it is temporary, and would be gone with its session".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::halted(format!("slot `{name}` cannot be used: {reason}"))
        .hint("choose another name in `source.slot`, and run `tributary setup --apply`"))
}

#[cfg(test)]
mod tests;
