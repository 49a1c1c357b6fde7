//! The log that our slot keeps at the server: watched beside the stream, and bounded.
//!
//! Owns: [`Watch`], and what is done when the budget is used up.
//! Does not: cut or pause by itself; the loop and the snapshot look at [`Watch::level`].
//! Holds: a slot that another session uses is never dropped, and none is dropped while another slot keeps as much: that would free
//! nothing. A daemon that begins above the budget may catch up.
//! Fails: never while it watches; the end is [`Kind::SourceHalted`](crate::error::Kind::SourceHalted).

use std::sync::Arc;
use std::time::Duration;

use pgoutput::Lsn;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::config::{ByteSize, Config};
use crate::error::{Error, Result};
use crate::source::held::{self, Holders};
use crate::source::slot;
use crate::source::{self, ConnectOptions, Sql, connect_sql};
use crate::status::{Shared, SlotStatus};
use crate::wal_budget::{Action, Budget, Level, action};

/// One look at the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) level: Level,
    retained: u64,
    action: Action,
}

impl Look {
    const NONE: Look = Look { level: Level::Calm, retained: 0, action: Action::None };
}

/// Looks at the slot beside the stream, on a session of its own, also while nothing can be streamed.
pub(crate) struct Watch {
    looks: watch::Receiver<Look>,
    /// It ends with this.
    _task: JoinSet<()>,
}

impl Watch {
    pub(super) fn start(
        config: &Arc<Config>,
        options: &ConnectOptions,
        primary: Option<&ConnectOptions>,
        shared: &Arc<Shared>,
    ) -> Watch {
        let (told, looks) = watch::channel(Look::NONE);
        let watcher = Watcher {
            config: Arc::clone(config),
            options: options.clone(),
            primary: primary.cloned(),
            shared: Arc::clone(shared),
            budget: config.source.wal_budget().map(Budget::new),
            told,
        };
        let mut task = JoinSet::new();
        task.spawn(watcher.run());
        Watch { looks, _task: task }
    }

    /// How much of the budget is used.
    pub(crate) fn level(&self) -> Level {
        self.looks.borrow().level
    }

    /// For others that have to know the level.
    pub(crate) fn looks(&self) -> watch::Receiver<Look> {
        self.looks.clone()
    }
}

/// Waits until snapshots may read.
pub(crate) async fn until_snapshots_may_read(looks: &mut watch::Receiver<Look>) {
    // Without a watch nobody pauses.
    looks.wait_for(|look| look.level < Level::Tight).await.ok();
}

/// Resolves once the policy has to be followed.
pub(super) async fn used_up(looks: &mut watch::Receiver<Look>) -> Look {
    let found = looks.wait_for(|look| matches!(look.action, Action::Halt | Action::DropSlot)).await;
    match found.map(|look| *look) {
        Ok(look) => look,
        Err(_) => std::future::pending().await,
    }
}

struct Watcher {
    config: Arc<Config>,
    options: ConnectOptions,
    primary: Option<ConnectOptions>,
    shared: Arc<Shared>,
    budget: Option<Budget>,
    told: watch::Sender<Look>,
}

impl Watcher {
    async fn run(mut self) {
        let mut sql: Option<Sql> = None;
        loop {
            let begun = Instant::now();
            let looked = tokio::time::timeout(LOOK_TIME_MAX, self.look(&mut sql)).await;
            let pause = match looked {
                Ok(Ok(true)) => LOOK_EVERY,
                // Not there yet, or not any more.
                Ok(Ok(false)) => {
                    self.forget();
                    LOOK_FOR_EVERY
                }
                Ok(Err(error)) => {
                    debug!(error = error.chain(), "the slot cannot be looked at, and is looked at again");
                    sql = None;
                    self.forget();
                    LOOK_EVERY
                }
                Err(_elapsed) => {
                    debug!("the source does not tell of the slot, and is asked again");
                    sql = None;
                    self.forget();
                    LOOK_EVERY
                }
            };
            tokio::time::sleep_until(begun + pause).await;
        }
    }

    /// What was seen before is not how it is now.
    fn forget(&self) {
        let level = self.told.borrow().level;
        let budget_bytes = self.config.source.wal_budget();
        self.shared.slot(SlotStatus { budget_bytes, level, ..SlotStatus::unknown(&self.config.source.slot) });
    }

    /// Whether there is a slot.
    async fn look(&mut self, session: &mut Option<Sql>) -> Result<bool> {
        let sql = match session.take().filter(|sql| !sql.is_closed()) {
            Some(sql) => session.insert(sql),
            None => session.insert(connect_sql(&self.options).await?),
        };
        let name = &self.config.source.slot;
        let Some(found) = slot::slot(sql, name).await? else { return Ok(false) };
        let retained = found.retained_bytes.unwrap_or(0);
        let level = self.budget.as_mut().map_or(Level::Calm, |budget| budget.look(retained));
        let budget = self.config.source.wal_budget();
        let asks = retained >= held::worth_a_word(budget) || level > Level::Calm;
        let holders = match asks {
            true => held::holders(sql, self.primary.as_ref(), name).await?,
            false => Holders::default(),
        };
        let status = SlotStatus::of(name, &found).held(budget, &found, &holders, Some(self.shared.stages()));
        let bytes = budget.unwrap_or(0);
        let action = action(level, self.config.source.on_wal_budget, bytes, holders.others_retain());
        self.tell(Look { level, retained, action }, &status);
        self.shared.slot(SlotStatus { budget_bytes: budget, level, ..status });
        Ok(true)
    }

    /// Says what changed, once.
    fn tell(&self, look: Look, status: &SlotStatus) {
        let before = self.told.send_replace(look);
        if (before.level, before.action) == (look.level, look.action) {
            return;
        }
        let (slot, level) = (&self.config.source.slot, look.level.label());
        let kept = ByteSize::new(look.retained).rounded();
        let why = reasons(status);
        match look.level {
            Level::High if before.level >= Level::Tight => {
                info!(slot, level, kept, "the slot keeps less log again");
            }
            Level::Calm => info!(slot, level, kept, "the slot keeps less log again"),
            Level::High => warn!(slot, kept, why, "the slot keeps more than 60 % of `source.wal_budget`"),
            Level::Tight => warn!(
                slot,
                kept,
                why,
                "the slot keeps more than 80 % of `source.wal_budget`: cutting early, and snapshots pause"
            ),
            Level::Over if look.action == Action::KeptForNothing => warn!(
                slot,
                kept,
                why,
                "the slot keeps more than `source.wal_budget`, and is not dropped while another slot keeps as much"
            ),
            // What is done about it is the error that follows.
            Level::Over => {}
        }
    }
}

fn reasons(status: &SlotStatus) -> String {
    let reasons: Vec<String> = status.held.iter().map(ToString::to_string).collect();
    reasons.join("; ")
}

/// Follows the policy; the stream has ended before. The error says what was done and how to go on.
pub(super) async fn act(look: Look, config: &Config, options: &ConnectOptions, shared: &Shared) -> Error {
    let document = shared.snapshot();
    let published = document.positions.published;
    let used = Used {
        slot: &config.source.slot,
        kept: ByteSize::new(look.retained).rounded(),
        budget: config.source.wal_budget,
        why: reasons(&document.slot),
        published,
    };
    match look.action {
        Action::None | Action::Halt | Action::KeptForNothing => used.halted(),
        Action::DropSlot => match drop_slot(options, &config.source.slot).await {
            Ok(()) => used.dropped(),
            Err(error) => used.not_dropped(error),
        },
    }
}

/// A budget that is used up.
struct Used<'a> {
    slot: &'a str,
    kept: String,
    budget: ByteSize,
    why: String,
    published: Lsn,
}

impl Used<'_> {
    fn begins(&self, keeps: &str) -> String {
        let Used { slot, kept, budget, why, .. } = self;
        let why = if why.is_empty() { String::new() } else { format!(", held by {why}") };
        format!(
            "slot `{slot}` {keeps} {kept} of log at the server, more than `source.wal_budget` = {budget}{why}"
        )
    }

    fn halted(&self) -> Error {
        let published = self.published;
        Error::halted(format!(
            "{}; as `source.on_wal_budget` = \"halt\" says, the slot stays, and the lake is whole up to {published}",
            self.begins("keeps")
        ))
        .hint(
            "mend what holds it, then `tributary run`, which may catch up from above the budget; with a larger `source.wal_budget` it may keep more. \
             If the server's disk cannot wait: `tributary teardown` drops the slot, and what follows for the lake is in the README under \"Begin anew\"",
        )
    }

    fn dropped(&self) -> Error {
        let published = self.published;
        Error::halted(format!(
            "{}; as `source.on_wal_budget` = \"drop-slot\" says, it was dropped: the lake is intact up to {published}, and cannot be continued from there",
            self.begins("kept")
        ))
        .hint(BEGIN_ANEW)
    }

    fn not_dropped(&self, error: Error) -> Error {
        Error::halted(format!("{}, and could not be dropped", self.begins("keeps")))
            .caused_by(error)
            .hint(format!("SELECT pg_drop_replication_slot('{}');  -- once nobody uses it", self.slot))
    }
}

/// The way on without the slot that the log goes with.
pub(crate) const BEGIN_ANEW: &str =
    "to begin anew: `tributary setup --apply` with a new `lake.url` prefix; its first `run` reads all rows";

/// Waits for the server to notice that our session is gone.
async fn drop_slot(options: &ConnectOptions, name: &str) -> Result<()> {
    let until = Instant::now() + DROP_WAIT;
    loop {
        let dropped = async {
            let sql = connect_sql(options).await?;
            slot::drop_slot(&sql, name).await
        };
        match dropped.await {
            Ok(()) => {
                warn!(slot = name, "dropped the slot, as `source.on_wal_budget` says");
                return Ok(());
            }
            Err(error) if source::is_slot_active(&error) && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A row of the catalogs: no burden.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// While there is no slot yet.
const LOOK_FOR_EVERY: Duration = Duration::from_secs(1);
const LOOK_TIME_MAX: Duration = Duration::from_secs(30);
/// Longer than a default `wal_sender_timeout`, after which the server gives up our session at the latest.
const DROP_WAIT: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests;
