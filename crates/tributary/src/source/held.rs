//! Why the server keeps its log: who holds it, and how much of it.
//!
//! Owns: [`Holders`], as the catalogs show them, and [`why`], which reads a reason off them.
//! Does not: act; `pipeline::budget` does.
//! Holds: only asked while much is kept, so that a quiet source is spared; works for a role that may only log in, which is shown less.
//! Fails: as `fault` classifies the server's errors.

use std::fmt;

use pgoutput::Lsn;
use serde::{Deserialize, Serialize};

use super::options::ConnectOptions;
use super::server::{OpenTransaction, oldest_transaction};
use super::slot::Slot;
use super::sql::{Sql, get};
use super::standby;
use crate::error::Result;

/// Who else has a part in what the server keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holders {
    /// The slots that are not ours.
    pub slots: Vec<OtherSlot>,
    /// The oldest transaction that has written and is open. On a standby, that of its primary, if that can be asked.
    pub oldest: Option<OpenTransaction>,
}

/// A slot that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherSlot {
    /// Its name.
    pub name: String,
    /// Of a standby, and not of logical decoding.
    pub is_physical: bool,
    /// A session uses it.
    pub active: bool,
    /// Log that is kept for it; none if it was invalidated.
    pub retained_bytes: u64,
    /// How many transactions old the rows are that it keeps, by `hot_standby_feedback` if it is physical.
    pub xmin_age: u32,
}

impl Holders {
    /// The most that another slot keeps.
    pub fn others_retain(&self) -> u64 {
        self.slots.iter().map(|slot| slot.retained_bytes).max().unwrap_or(0)
    }

    /// What the server could remove at most, if our slot were dropped.
    pub fn freed_without(&self, ours: &Slot) -> u64 {
        ours.retained_bytes.unwrap_or(0).saturating_sub(self.others_retain())
    }
}

/// Reads [`Holders`] but for our own slot. The transactions of a standby are those of its primary, which is asked if it answers.
pub async fn holders(sql: &Sql, primary: Option<&ConnectOptions>, ours: &str) -> Result<Holders> {
    let rows = sql.query("other replication slots", OTHERS, &[&ours]).await?;
    let slots = rows.iter().map(|row| {
        Ok(OtherSlot {
            name: get(row, 0)?,
            is_physical: get(row, 1)?,
            active: get(row, 2)?,
            retained_bytes: u64::try_from(get::<i64>(row, 3)?).unwrap_or(0),
            xmin_age: u32::try_from(get::<i32>(row, 4)?).unwrap_or(0),
        })
    });
    let slots = slots.collect::<Result<_>>()?;
    let mut writer = None;
    if let Some(primary) = primary
        && standby::is_one(sql).await?
    {
        writer = standby::reach_primary(primary).await;
    }
    Ok(Holders { slots, oldest: oldest_transaction(writer.as_ref().unwrap_or(sql)).await? })
}

/// Those of our own snapshots end with them.
const OTHERS: &str = "SELECT s.slot_name::text, s.slot_type = 'physical', s.active, \
      coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, \
      s.restart_lsn)::int8, 0), \
      greatest(coalesce(age(s.xmin), 0), coalesce(age(s.catalog_xmin), 0))::int4 \
      FROM pg_replication_slots s WHERE s.slot_name <> $1::text \
      AND NOT (s.temporary AND starts_with(s.slot_name::text, $1::text || '_snapshot_'))";

/// How far the daemon is, as far as that tells where it hangs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Came from the server.
    pub received: Lsn,
    /// Is in a cut.
    pub cut: Lsn,
    /// Has a log entry.
    pub logged: Lsn,
    /// Every reader can see it.
    pub published: Lsn,
}

impl Stages {
    /// The stage that waits, the one nearest to the lake first: what is before it waits for it.
    fn waiting(&self, confirmed: Lsn) -> &'static str {
        let Stages { received, cut, logged, published } = *self;
        if cut > logged {
            "what is cut waits to be uploaded and logged: is the store slow, or away?"
        } else if logged > published {
            "what is logged waits to be published: is the store slow, or away?"
        } else if received > cut {
            "what is received waits for the end of its transaction, or for the next cut"
        } else if published > confirmed {
            "what is published is being confirmed"
        } else {
            "the stream has not brought it yet: a large transaction is being decoded, or the network is slow"
        }
    }
}

/// Who keeps the log from being removed, or rows from being vacuumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The daemon is behind.
    Daemon,
    /// No session reads our slot.
    Nobody,
    /// A transaction of a session.
    Transaction,
    /// A prepared transaction.
    PreparedTransaction,
    /// Nobody: the slot follows with what the server logs of its transactions every few seconds.
    Pending,
    /// Another slot.
    Slot,
    /// A standby, by `hot_standby_feedback`.
    Feedback,
}

/// A reason why log, or old rows, are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Who it is.
    pub by: By,
    /// How much log; unknown for old rows.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// For people, with what ends it.
    pub what: String,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Why the log is kept, the reason that holds most first. What is no more than a server keeps anyhow has no reason. `stages` are those of the
/// daemon, if one answers.
pub fn why(budget: Option<u64>, ours: &Slot, holders: &Holders, stages: Option<Stages>) -> Vec<Held> {
    let least = worth_a_word(budget);
    let retained = ours.retained_bytes.unwrap_or(0);
    let behind = ours.behind_bytes.unwrap_or(0).min(retained);
    let pinned = retained - behind;
    let mut held = Vec::new();
    if behind >= least {
        held.push(behind_of_us(ours, behind, stages));
    }
    if pinned >= least {
        held.push(pinned_by(holders.oldest.as_ref(), pinned));
    }
    for slot in &holders.slots {
        if slot.retained_bytes >= least {
            let (kind, user) = (
                if slot.is_physical { "of a standby" } else { "of logical decoding" },
                if slot.active { "in use" } else { "not in use: drop it if nobody needs it" },
            );
            held.push(Held {
                by: By::Slot,
                bytes: Some(slot.retained_bytes),
                what: format!("slot `{}` ({kind}, {user})", slot.name),
            });
        }
        if slot.xmin_age >= AGE_WORTH_A_WORD {
            let (by, why) = match slot.is_physical {
                true => (By::Feedback, "by hot_standby_feedback of its standby"),
                false => (By::Slot, "of the catalogs"),
            };
            held.push(Held {
                by,
                bytes: None,
                what: format!(
                    "slot `{}` keeps rows {why} that are {} transactions old: vacuum cannot remove them",
                    slot.name, slot.xmin_age
                ),
            });
        }
    }
    held.sort_by_key(|held| std::cmp::Reverse(held.bytes));
    held
}

fn behind_of_us(ours: &Slot, bytes: u64, stages: Option<Stages>) -> Held {
    let confirmed = ours.confirmed_flush.unwrap_or_default();
    let (by, what) = match (ours.active, stages) {
        (true, Some(stages)) => (By::Daemon, format!("this daemon: {}", stages.waiting(confirmed))),
        (true, None) => (
            By::Daemon,
            "the daemon that reads our slot is behind: `tributary status` on its host".to_owned(),
        ),
        (false, Some(_)) => {
            (By::Daemon, "this daemon does not stream now: its last errors say why".to_owned())
        }
        (false, None) => (By::Nobody, "our slot, which nobody reads: `tributary run`".to_owned()),
    };
    Held { by, bytes: Some(bytes), what }
}

/// Everything is confirmed, and the server still keeps it: from the begin of the oldest transaction that was open.
fn pinned_by(oldest: Option<&OpenTransaction>, bytes: u64) -> Held {
    let (by, what) = match oldest {
        Some(OpenTransaction::Prepared { gid, open_seconds }) if *open_seconds >= OPEN_WORTH_A_WORD => (
            By::PreparedTransaction,
            format!("transaction `{gid}`, prepared {open_seconds:.0} s ago: COMMIT PREPARED or ROLLBACK PREPARED"),
        ),
        Some(OpenTransaction::Session { pid, application, open_seconds })
            if open_seconds.is_none_or(|seconds| seconds >= OPEN_WORTH_A_WORD) =>
        {
            let open = open_seconds.map_or_else(String::new, |seconds| format!(", open for {seconds:.0} s"));
            let application = application.as_deref().filter(|name| !name.is_empty()).unwrap_or("-");
            (
                By::Transaction,
                format!("the transaction of process {pid} (application {application}{open}): commit it, or end its session"),
            )
        }
        Some(OpenTransaction::Prepared { .. } | OpenTransaction::Session { .. }) | None => (
            By::Pending,
            "no transaction that is still open: our slot follows within seconds, as the server logs which transactions run"
                .to_owned(),
        ),
    };
    Held { by, bytes: Some(bytes), what }
}

/// How much log is worth a word: what a server does not keep anyhow, and of a small budget a quarter.
pub fn worth_a_word(budget: Option<u64>) -> u64 {
    budget.map_or(WORTH_A_WORD, |bytes| (bytes / 4).clamp(1, WORTH_A_WORD))
}

/// Four segments of the log: a server keeps as much without any slot.
const WORTH_A_WORD: u64 = 64 << 20;
/// As many transactions old rows that nobody can vacuum are worth a word.
const AGE_WORTH_A_WORD: u32 = 10_000_000;
/// A transaction that is open for longer can be what holds the log.
const OPEN_WORTH_A_WORD: f64 = 10.0;

#[cfg(test)]
mod tests;
