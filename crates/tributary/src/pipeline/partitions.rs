//! Looking for partitions that were attached, detached or dropped: the stream tells of none of it.
//!
//! Owns: what was seen last, and the comparison with what the catalogs have.
//! Does not: touch the fold or the log, or read a row; it tells the loop of the stream (`streaming::partitions`).
//! Holds: what changed is told once the stream has come to where it was seen, so that everything from before is folded. A change counts as seen
//! only when the loop has it for the log.
//! Fails: never as a whole; a look that fails is made again with the next one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lake::log::State as LogState;
use pgoutput::{Lsn, Oid, Xid};
use prometheus::IntCounter;
use rustc_hash::{FxHashMap, FxHashSet};
use tables::fold::Selection;
use tables::lineage::{Facts, Link};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::audit::Audit;
use crate::error::Result;
use crate::source::partitions::{self, Attached};
use crate::source::{ConnectOptions, Folding, Sql, catalog, connect_sql};

/// What the loop of the stream is told.
pub(super) enum News {
    /// Leaves as they are now: the stream may bring rows of new ones before it comes to where they were seen.
    Early(Facts),
    /// Something changed. Answered once the loop has it for the log.
    Changed(Changes, oneshot::Sender<()>),
    /// Everything that there was at the start is told.
    Settled,
}

/// What changed since the last look.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// All of it had happened when the stream came here.
    pub(super) lsn: Lsn,
    /// For the log: what is there now, and by which transaction.
    pub(super) attached: Vec<(u32, u32)>,
    /// For the log: what is no partition any more.
    pub(super) gone: Vec<u32>,
    /// What is no leaf any more of what it was a leaf of.
    pub(super) detached: Vec<(Oid, Existence)>,
    /// What the catalogs say of what was attached, and of all leaves below it.
    pub(super) facts: Facts,
    /// Leaves of which the lake may not have all rows, or have rows that are gone; and whether one is empty, and was so from its first moment
    /// unless the stream has brought rows of it.
    pub(super) to_read: BTreeSet<(Oid, bool)>,
    /// Leaves that may have been tables of their own before.
    pub(super) unborn: BTreeSet<Oid>,
}

/// Whether a former partition exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Existence {
    /// As a table of its own, or as a partition of another.
    Exists,
    /// It was dropped.
    Dropped,
}

/// Why somebody should look.
pub(super) enum Cause {
    /// The stream told of DDL.
    Ddl,
    /// It brought rows of these leaves, which nobody knew.
    Leaves(Vec<Oid>),
}

/// The task beside the stream; it ends when this is dropped.
pub(super) struct Partitions {
    pub(super) news: mpsc::Receiver<News>,
    looks: mpsc::UnboundedSender<Cause>,
    _task: JoinSet<()>,
}

impl Partitions {
    /// Starts the task. `leaves` are those that the fold knows; `whole` those of them whose roots are going to be read as a whole.
    pub(super) fn start(
        settings: Settings,
        state: &LogState,
        leaves: impl Iterator<Item = Oid>,
        whole: impl Iterator<Item = Oid>,
    ) -> Partitions {
        let (news, received) = mpsc::channel(4);
        let (looks, asked) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        let lately = leaves.map(|leaf| (leaf, Seen::Lately));
        let logged = state.lineage.values().flat_map(|leaves| leaves.keys());
        let before = logged.map(|leaf| (Oid(*leaf), Seen::Before));
        let attached = state.partitions.iter().map(|(partition, by)| (Oid(*partition), Seen::By(*by)));
        let whole = whole.map(|leaf| (leaf, Seen::WithRoot));
        // What comes later counts.
        let seen = lately.chain(before).chain(whole).chain(attached).collect();
        let Settings { publications, selection, refresh, .. } = &settings;
        let audit = Audit::new(publications.clone(), selection.clone(), (*refresh).min(AUDIT_INTERVAL_MAX));
        task.spawn(Watch { settings, seen, fingerprint: None, audit, news, looks: asked }.run());
        Partitions { news: received, looks, _task: task }
    }

    /// Looks without waiting for the next time.
    pub(super) fn look(&self, cause: Cause) {
        // The task may have ended; the loop hears of that from `news`.
        let _ = self.looks.send(cause);
    }
}

/// What is looked at, and how.
pub(super) struct Settings {
    pub(super) options: ConnectOptions,
    pub(super) refresh: Duration,
    pub(super) publications: Vec<String>,
    pub(super) folding: Arc<Folding>,
    pub(super) selection: Selection,
    /// Rows come under the names of their leaves. By way of the root a marker of the root stands before the rows of a leaf, too, that its reader did not know.
    pub(super) names_leaves: bool,
    /// Counts what is tried again.
    pub(super) retries: IntCounter,
}

struct Watch {
    settings: Settings,
    seen: FxHashMap<Oid, Seen>,
    /// Of the last look.
    fingerprint: Option<String>,
    audit: Audit,
    news: mpsc::Sender<News>,
    looks: mpsc::UnboundedReceiver<Cause>,
}

/// What is known of a partition.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// The log has it, as attached by this transaction.
    By(u32),
    /// The log has it as a leaf, by whomever it was attached.
    Before,
    /// Its root is new to the log, and is read with all that it has now.
    WithRoot,
    /// Only the fold has it: the stream brought rows of it, or the catalogs had it at the start.
    Lately,
}

/// A session with the catalogs.
struct Looking {
    sql: Sql,
    /// The next transaction's id when it began; `None` with a standby.
    since: Option<Xid>,
}

/// Why a look ended early.
enum Stop {
    /// Nobody listens any more.
    Gone,
    Failed(crate::error::Error),
}

impl From<crate::error::Error> for Stop {
    fn from(error: crate::error::Error) -> Stop {
        Stop::Failed(error)
    }
}

impl Watch {
    async fn run(mut self) {
        let mut is_settled = false;
        let mut session = None;
        loop {
            let begun = Instant::now();
            match self.look(&mut session).await {
                Ok(()) => {
                    if !is_settled && self.news.send(News::Settled).await.is_err() {
                        return;
                    }
                    is_settled = true;
                    if let Some(looking) = &session {
                        self.audit.look(&looking.sql).await;
                    }
                }
                Err(Stop::Gone) => return,
                Err(Stop::Failed(error)) => {
                    session = None;
                    self.settings.retries.inc();
                    warn!(
                        error = error.chain(),
                        hint = error.hint_text(),
                        "partitions cannot be looked at, and are looked at again"
                    );
                }
            }
            let took = begun.elapsed().min(self.settings.refresh / LOOKS_SHARE);
            tokio::select! {
                biased;
                () = tokio::time::sleep(self.settings.refresh) => {}
                asked = self.looks.recv() => match asked {
                    // Whoever changes one changes many, and some do so all the time: a look costs the source something.
                    Some(Cause::Ddl) => tokio::time::sleep(BURST.max(took * LOOKS_SHARE)).await,
                    Some(Cause::Leaves(leaves)) => self.note(leaves),
                    None => return,
                },
            }
            while let Ok(cause) = self.looks.try_recv() {
                if let Cause::Leaves(leaves) = cause {
                    self.note(leaves);
                }
            }
        }
    }

    /// Leaves that the fold knows, and nobody here.
    fn note(&mut self, leaves: impl IntoIterator<Item = Oid>) {
        self.fingerprint = None;
        for leaf in leaves {
            self.seen.entry(leaf).or_insert(Seen::Lately);
        }
    }

    async fn look(&mut self, session: &mut Option<Looking>) -> Result<(), Stop> {
        let looking = match session {
            Some(looking) if !looking.sql.is_closed() => looking,
            session => session.insert(Looking::begin(&self.settings.options).await?),
        };
        let sql = &looking.sql;
        let fingerprint = self.settings.fingerprint(sql).await?;
        if self.fingerprint.as_ref() == Some(&fingerprint) {
            return Ok(());
        }
        let found = self.settings.attached(sql).await?;
        let changes = self.compare(looking, &found).await?;
        if changes.is_nothing() {
            self.fingerprint = Some(fingerprint);
            return Ok(());
        }
        debug!(
            attached = changes.attached.len(),
            gone = changes.gone.len(),
            to_read = changes.to_read.len(),
            "partitions changed"
        );
        let early = Facts { leaves: changes.facts.leaves.clone(), ..Facts::default() };
        self.news.send(News::Early(early)).await.map_err(|_| Stop::Gone)?;
        let mut known: FxHashSet<Oid> = found.iter().map(|found| found.partition).collect();
        let (attached, gone) = (changes.attached.clone(), changes.gone.clone());
        let (done, mut is_done) = oneshot::channel();
        let mut early = Vec::new();
        self.news.send(News::Changed(changes, done)).await.map_err(|_| Stop::Gone)?;
        // The stream may be hours behind; what appears meanwhile may be gone when it comes here.
        loop {
            match tokio::time::timeout(self.settings.refresh, &mut is_done).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return Err(Stop::Gone),
                Err(_elapsed) => early.extend(self.look_early(sql, &mut known).await?),
            }
        }
        self.seen.extend(attached.into_iter().map(|(partition, by)| (Oid(partition), Seen::By(by))));
        for partition in gone {
            self.seen.remove(&Oid(partition));
        }
        self.note(early);
        self.audit.set_due();
        self.fingerprint = Some(fingerprint);
        Ok(())
    }

    /// Tells of partitions that appeared meanwhile, and which they are.
    async fn look_early(&self, sql: &Sql, known: &mut FxHashSet<Oid>) -> Result<Vec<Oid>, Stop> {
        let found = self.settings.attached(sql).await?.into_iter().map(|found| found.partition);
        let fresh: Vec<Oid> = found.filter(|partition| !known.contains(partition)).collect();
        for fresh in fresh.chunks(RELATIONS_A_QUERY) {
            let Facts { leaves, .. } =
                catalog::facts_for(sql, &self.settings.folding, fresh, &[], &[]).await?;
            known.extend(fresh);
            let early = Facts { leaves, ..Facts::default() };
            self.news.send(News::Early(early)).await.map_err(|_| Stop::Gone)?;
        }
        Ok(fresh)
    }

    async fn compare(&self, looking: &Looking, found: &[Attached]) -> Result<Changes> {
        let Looking { sql, since } = looking;
        let folding = &self.settings.folding;
        let mut changes = Changes::default();
        let mut anew = Vec::new();
        let mut fresh = FxHashSet::default();
        for Attached { partition, by } in found {
            match self.seen.get(partition) {
                Some(Seen::By(known)) if known == by => continue,
                Some(Seen::WithRoot) => {
                    changes.attached.push((partition.0, *by));
                    continue;
                }
                Some(Seen::By(_) | Seen::Before) => {}
                Some(Seen::Lately) | None => {
                    fresh.insert(*partition);
                }
            }
            anew.push(*partition);
            changes.attached.push((partition.0, *by));
        }
        let there: FxHashSet<Oid> = found.iter().map(|found| found.partition).collect();
        let gone: Vec<Oid> = self.seen.keys().copied().filter(|oid| !there.contains(oid)).collect();
        for anew in anew.chunks(RELATIONS_A_QUERY) {
            let facts = catalog::facts_for(sql, folding, anew, &[], &[]).await?;
            let by_rule = facts.leaves.iter().filter(|leaf| leaf.link == Link::Rule).map(|leaf| leaf.oid);
            let by_rule: FxHashSet<Oid> = by_rule.collect();
            changes.facts.roots.extend(facts.roots);
            changes.facts.leaves.extend(facts.leaves);
            changes.facts.types.extend(facts.types);
            let below = partitions::leaves_below(sql, anew).await?;
            // A leaf below a partition that was attached as a whole may have been known as somebody else's.
            let moved: Vec<Oid> = below
                .iter()
                .filter(|(leaf, top)| leaf != top && !fresh.contains(leaf))
                .map(|(leaf, _)| *leaf)
                .collect();
            if !moved.is_empty() {
                changes.facts.leaves.extend(catalog::facts_for(sql, folding, &moved, &[], &[]).await?.leaves);
            }
            let mut relations: Vec<Oid> = below.iter().flat_map(|(leaf, top)| [*leaf, *top]).collect();
            relations.sort_unstable();
            relations.dedup();
            // All rows of what was made as a partition, of one that was made as a partition, are in the stream.
            let born: FxHashSet<Oid> = match since {
                Some(since) => {
                    let publications = &self.settings.publications;
                    partitions::born(sql, &relations, publications, *since).await?.into_iter().collect()
                }
                None => FxHashSet::default(),
            };
            // One that was there before may have had rows, whatever it has now.
            relations.retain(|relation| fresh.contains(relation));
            let empty: FxHashSet<Oid> = partitions::empty(sql, &relations).await?.into_iter().collect();
            for (leaf, top) in &below {
                let is_born = born.contains(leaf) && born.contains(top);
                // To the server it is nobody's leaf.
                if !is_born && !by_rule.contains(top) {
                    changes.unborn.insert(*leaf);
                }
                if !(is_born && self.settings.names_leaves) {
                    changes.to_read.insert((*leaf, empty.contains(leaf)));
                }
            }
        }
        for gone in gone.chunks(RELATIONS_A_QUERY) {
            let below = partitions::leaves_below(sql, gone).await?;
            let exist: FxHashSet<Oid> = partitions::existing(sql, gone).await?.into_iter().collect();
            let existence =
                |oid: &Oid| if exist.contains(oid) { Existence::Exists } else { Existence::Dropped };
            changes.gone.extend(gone.iter().map(|oid| oid.0));
            changes.detached.extend(gone.iter().map(|oid| (*oid, existence(oid))));
            // Of a partition that was detached with all below it. They are still partitions, of what was detached.
            let still = below.into_iter().filter(|(leaf, top)| leaf != top && there.contains(leaf));
            changes.detached.extend(still.map(|(leaf, _)| (leaf, Existence::Exists)));
        }
        // Asked last: all of the above had happened before.
        changes.lsn = catalog::written_lsn(sql).await?.unwrap_or_default();
        Ok(changes)
    }
}

impl Settings {
    /// Every partition of the database, and what is a published leaf by a rule.
    async fn attached(&self, sql: &Sql) -> Result<Vec<Attached>> {
        let mut found = partitions::attached(sql).await?;
        found.extend(partitions::folded(sql, &self.publications, &self.folding, None).await?);
        Ok(found)
    }

    /// Another one once that is something else.
    async fn fingerprint(&self, sql: &Sql) -> Result<String> {
        match self.folding.has_rules() {
            true => partitions::names_fingerprint(sql).await,
            false => partitions::fingerprint(sql).await,
        }
    }
}

impl Looking {
    async fn begin(options: &ConnectOptions) -> Result<Looking> {
        let sql = connect_sql(options).await?;
        sql.execute("wait for locks", &format!("SET lock_timeout = {LOCK_WAIT_MILLIS}")).await?;
        let is_standby = catalog::server(&sql).await?.in_recovery;
        let since = if is_standby { None } else { Some(catalog::next_xid(&sql).await?) };
        Ok(Looking { sql, since })
    }
}

impl Changes {
    fn is_nothing(&self) -> bool {
        self.attached.is_empty() && self.gone.is_empty()
    }
}

const RELATIONS_A_QUERY: usize = 5_000;

/// How long more DDL is waited for before a look at what it did.
const BURST: Duration = Duration::from_millis(500);

/// Looks take at most one part in so many of the time, whatever the stream tells.
const LOOKS_SHARE: u32 = 10;

/// However seldom partitions are looked at, what is wrong with new ones is said so soon.
const AUDIT_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How long somebody else's lock on a partition is waited for.
const LOCK_WAIT_MILLIS: u32 = 5_000;
