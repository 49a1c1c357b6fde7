//! The arithmetic of `source.wal_budget`: how much of it is used, and what has to be done then.
//!
//! Owns: [`Level`], [`Budget`] and [`Action`].
//! Does not: look at a slot, or do what has to be done; `pipeline::wal` does.
//! Holds: a daemon that begins above its budget may catch up. No slot is to be dropped while another one keeps as much.
//! Fails: never.

use serde::{Deserialize, Serialize};

use crate::config::OnWalBudget;

/// How much of the budget is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Less than 60 %, or there is no budget.
    #[default]
    Calm,
    /// 60 %: people are told.
    High,
    /// 80 %: cuts are made early, snapshots pause.
    Tight,
    /// All of it.
    Over,
}

impl Level {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::High => "high",
            Level::Tight => "tight",
            Level::Over => "over",
        }
    }
}

/// The arithmetic of `source.wal_budget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    bytes: u64,
    /// Above the budget while a backlog from before the start is worked off.
    limit: u64,
    has_looked: bool,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Budget {
        Budget { bytes, limit: bytes, has_looked: false }
    }

    /// Takes what the slot keeps now.
    ///
    /// Who was down for a weekend begins above the budget, and to stop it then would help nobody: it may grow by another tenth of the
    /// budget. Once below the budget, the budget counts.
    pub(crate) fn look(&mut self, retained: u64) -> Level {
        if retained < self.bytes {
            self.limit = self.bytes;
        } else if !self.has_looked {
            self.limit = retained.saturating_add(self.bytes / 10).max(retained.saturating_add(1));
        }
        self.has_looked = true;
        if retained >= self.limit { Level::Over } else { self.level(retained).min(Level::Tight) }
    }

    /// The level of what a slot keeps, for who does nothing about it.
    pub(crate) fn level(&self, retained: u64) -> Level {
        let percent = |percent: u64| u128::from(self.bytes) * u128::from(percent) / 100;
        match u128::from(retained) {
            bytes if bytes >= percent(100) => Level::Over,
            bytes if bytes >= percent(80) => Level::Tight,
            bytes if bytes >= percent(60) => Level::High,
            _ => Level::Calm,
        }
    }
}

/// What is to be done at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing but what the level says.
    None,
    /// The daemon ends.
    Halt,
    /// And its slot with it.
    DropSlot,
    /// It would be dropped if that freed anything.
    KeptForNothing,
}

/// What the policy says, where another slot keeps `others`.
pub(crate) fn action(level: Level, policy: OnWalBudget, budget: u64, others: u64) -> Action {
    match (level, policy) {
        (Level::Over, OnWalBudget::Halt) => Action::Halt,
        (Level::Over, OnWalBudget::DropSlot) if others >= budget => Action::KeptForNothing,
        (Level::Over, OnWalBudget::DropSlot) => Action::DropSlot,
        (Level::Calm | Level::High | Level::Tight, _) => Action::None,
    }
}

#[cfg(test)]
mod tests;
