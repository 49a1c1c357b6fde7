//! What the loop of the stream does when partitions were attached, detached or dropped.
//!
//! Owns: changes that were found and wait for the stream to come to where they were found.
//! Does not: look at the catalogs (`pipeline::partitions`), or read rows (`pipeline::snapshots`).
//! Holds: when a leaf is detached, all its changes from before are folded and none is half here. What is said of a change, what is marked, and what is
//! to be read enter the log together.
//! Fails: as the fold does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lake::log::{Event, State as LogState};
use pgoutput::Oid;
use tables::fold::Fold;
use tables::lineage::{Facts, Link};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Phase, Streaming};
use crate::clock;
use crate::config::{OnAttach, OnGone, SnapshotMode};
use crate::error::{Error, Result};
use crate::pipeline::Context;
use crate::pipeline::partitions::{Changes, Existence, News, Partitions, Settings};
use crate::source::Folding;

/// The partitions, as the loop sees them.
pub(super) struct Watched {
    pub(super) task: Partitions,
    waiting: Option<(Changes, oneshot::Sender<()>)>,
    /// Leaves that were detached and are leaves again. The lake may have rows of them that were deleted meanwhile.
    back: BTreeSet<Oid>,
    /// Everything that had changed when the stream began is known.
    pub(super) is_settled: bool,
    /// The stream told of DDL, and nobody has looked since.
    pub(super) has_ddl: bool,
}

impl Watched {
    pub(super) fn start(
        context: &Context,
        state: &LogState,
        fold: &Fold,
        folding: &Arc<Folding>,
        via_root: bool,
    ) -> Result<Watched> {
        let config = &context.config;
        let settings = Settings {
            options: context.catalog_options.clone(),
            refresh: config.partitions.refresh,
            publications: config.source.publication.clone(),
            folding: Arc::clone(folding),
            selection: config.tables.selection()?,
            names_leaves: !via_root,
            retries: context.shared.metrics().retries("partitions"),
        };
        // A root that is new to the log is read as a whole, with all leaves that it has now.
        let is_whole = |leaf: &Oid| {
            config.snapshot.mode == SnapshotMode::Initial
                && fold.is_by_rule(*leaf)
                && !state.snapshots.contains_key(&fold.root_of(*leaf).0)
        };
        let task = Partitions::start(settings, state, fold.leaves(), fold.leaves().filter(is_whole));
        // The fold has them as what they are now.
        let detached = state.detached.values().flat_map(|leaves| leaves.keys()).map(|leaf| Oid(*leaf));
        let back = detached.filter(|leaf| fold.root_of(*leaf) != *leaf).collect();
        Ok(Watched { task, waiting: None, back, is_settled: false, has_ddl: false })
    }

    fn note_back(&mut self, fold: &Fold, facts: &Facts) {
        self.back.extend(facts.leaves.iter().map(|leaf| leaf.oid).filter(|leaf| fold.was_leaf(*leaf)));
    }

    /// Whether the stream has to come to a position.
    pub(super) fn awaits_stream(&self) -> bool {
        self.waiting.is_some()
    }
}

/// Leaves that have the same root and the same end.
type Ends = BTreeMap<(Oid, Existence), BTreeSet<Oid>>;

impl Streaming<'_> {
    pub(super) fn on_partitions(&mut self, news: Option<News>) -> Result<()> {
        match news.ok_or_else(|| Error::bug("the task that looks at partitions ended"))? {
            News::Early(facts) => self.learn_early(facts),
            News::Changed(changes, done) => {
                self.partitions.waiting = Some((changes, done));
                self.settle_partitions()?;
            }
            News::Settled => {
                self.partitions.is_settled = true;
                self.drain_if_done()?;
            }
        }
        Ok(())
    }

    /// Leaves that nobody knew. What was known as something else is that, up to where it changed.
    fn learn_early(&mut self, mut facts: Facts) {
        let fold = &self.fold;
        facts.leaves.retain(|leaf| {
            fold.root_of(leaf.oid) == leaf.oid
                && fold.table_of(leaf.oid).is_none()
                && fold.is_wanted_root(leaf.root)
        });
        facts.roots.clear();
        self.partitions.note_back(&self.fold, &facts);
        self.fold.learn(facts);
    }

    /// Takes what changed once the stream is there, between two transactions.
    pub(super) fn settle_partitions(&mut self) -> Result<()> {
        let is_there = |(changes, _): &mut (Changes, _)| changes.lsn <= self.positions.clean;
        if self.fold.in_transaction() || self.replay.is_some() {
            return Ok(());
        }
        let Some((changes, done)) = self.partitions.waiting.take_if(is_there) else { return Ok(()) };
        let is_other_stream = self.partitions_changed(changes)?;
        // The task may be gone.
        let _ = done.send(());
        if is_other_stream && self.overlooks_attaching() && self.phase == Phase::Streaming {
            return self.renew();
        }
        Ok(())
    }

    /// Whether the server may go on as if nothing had been attached or detached.
    fn overlooks_attaching(&self) -> bool {
        self.source_sql.server_version() < FIRST_THAT_NOTICES
    }

    /// Returns whether a table is streamed as somebody's leaf from here on that may have been a table of its own, or the other way round.
    fn partitions_changed(&mut self, changes: Changes) -> Result<bool> {
        let Changes { lsn: _, attached, gone, detached, facts, to_read, unborn } = changes;
        let config = &self.context.config;
        if !config.partitions.folds_to_root() {
            // Every partition is a table of its own.
            self.beside.look();
            let is_other_stream =
                !unborn.is_empty() || detached.iter().any(|(_, existence)| *existence == Existence::Exists);
            self.events.push(Event::Partitions { attached, gone });
            self.something_to_cut();
            return Ok(is_other_stream);
        }
        let reads_tables = config.snapshot.mode == SnapshotMode::Initial;
        let mut ends = Ends::new();
        let mut end = |root: Oid, leaf: Oid, existence| {
            ends.entry((root, existence)).or_default().insert(leaf);
        };
        for (leaf, existence) in detached {
            let root = self.fold.root_of(leaf);
            if root != leaf {
                end(root, leaf, existence);
            }
        }
        for leaf in &facts.leaves {
            let root = self.fold.root_of(leaf.oid);
            if root != leaf.oid && root != leaf.root {
                end(root, leaf.oid, Existence::Exists);
            }
        }
        // Tables of their own that appear or come back: all of their rows have to be read.
        let mut has_new_tables = false;
        let mut is_other_stream = false;
        for ((root, existence), leaves) in ends {
            has_new_tables |= existence == Existence::Exists;
            is_other_stream |= existence == Existence::Exists && self.fold.is_wanted_root(root);
            self.detach(root, existence, leaves)?;
        }
        let Facts { mut leaves, mut roots, types, .. } = facts;
        // What is a leaf by a rule is published itself.
        let by_rule: BTreeSet<Oid> =
            leaves.iter().filter(|leaf| leaf.link != Link::Partition).map(|leaf| leaf.root).collect();
        roots.retain(|root| {
            (self.reach.is_open || by_rule.contains(&root.oid)) && !self.fold.is_known(root.oid)
        });
        let new_roots: BTreeSet<Oid> = roots.iter().map(|root| root.oid).collect();
        has_new_tables |= !new_roots.is_empty();
        leaves.retain(|leaf| self.fold.is_wanted_root(leaf.root) || new_roots.contains(&leaf.root));
        let facts = Facts { roots, leaves, types, ..Facts::default() };
        self.partitions.note_back(&self.fold, &facts);
        self.fold.learn(facts);
        is_other_stream |= unborn.iter().any(|leaf| self.wanted_root_of(*leaf).is_some());
        // One that is empty now may have got rows by the time that the server hears of it.
        let is_overlooked = |leaf: &Oid| self.overlooks_attaching() && unborn.contains(leaf);
        let has_rows = |(leaf, is_empty): &(Oid, bool)| {
            !is_empty || is_overlooked(leaf) || self.fold.is_announced(*leaf)
        };
        let mut to_read: BTreeSet<Oid> = to_read.into_iter().filter(has_rows).map(|(leaf, _)| leaf).collect();
        to_read.append(&mut self.partitions.back);
        for leaf in to_read {
            let Some(root) = self.wanted_root_of(leaf) else { continue };
            // What is new as a whole is read as a whole.
            if self.policies.on_attach.of(self.fold.names_of(root)) == OnAttach::Backfill
                && !(reads_tables && new_roots.contains(&root))
            {
                self.read_leaf(leaf, root);
            }
        }
        if has_new_tables && (self.reach.is_open || !new_roots.is_empty()) {
            self.beside.look();
        }
        if !(attached.is_empty() && gone.is_empty()) {
            self.events.push(Event::Partitions { attached, gone });
            self.something_to_cut();
        }
        Ok(is_other_stream)
    }

    /// The wanted root of a leaf; nothing of any other relation.
    fn wanted_root_of(&self, leaf: Oid) -> Option<Oid> {
        let root = self.fold.root_of(leaf);
        (root != leaf && self.fold.is_wanted_root(root)).then_some(root)
    }

    /// Leaves are nobody's leaves from here on.
    fn detach(&mut self, root: Oid, existence: Existence, leaves: BTreeSet<Oid>) -> Result<()> {
        let policies = match existence {
            Existence::Exists => &self.policies.on_detach,
            Existence::Dropped => &self.policies.on_drop,
        };
        let policy = policies.of(self.fold.names_of(root));
        let is_wanted = self.fold.is_wanted_root(root);
        // Rows that come by way of the root do not tell their leaf.
        let tell_themselves = !self.reach.via_root || leaves.iter().all(|leaf| self.fold.is_by_rule(*leaf));
        let is_marked = policy == OnGone::Mark && tell_themselves && is_wanted;
        let (lsn, commit_time) = (self.positions.clean, self.positions.commit_time);
        let relations: Vec<Oid> = leaves.into_iter().collect();
        if is_marked {
            let time_unix_micros = commit_time.unwrap_or_else(clock::unix_micros);
            self.mark_relations(root, &relations, lsn, time_unix_micros)?;
        }
        let mut named = Vec::with_capacity(relations.len());
        for leaf in relations {
            if let Some((_, name)) = self.fold.detach(leaf) {
                named.push((leaf.0, name));
            }
            self.beside.forget_leaf(leaf);
            if existence == Existence::Exists && self.fold.table_of(leaf).is_some() && self.reach.is_open {
                // It goes on as the table of its own that it was before, and that lacks what came meanwhile.
                let table = self.fold.display_name(leaf);
                self.read_anew(leaf, None, table, true);
            }
        }
        if !is_wanted {
            return Ok(());
        }
        let table = self.fold.display_name(root);
        let dropped = existence == Existence::Dropped;
        let (count, first) = (named.len(), named.first().map_or("", |(_, name)| name));
        if policy == OnGone::Mark && !is_marked {
            warn!(
                table,
                partitions = count,
                first,
                dropped,
                "partitions are gone; with publish_via_partition_root their rows cannot be told from others and stay: tributary resync"
            );
        } else {
            info!(table, partitions = count, first, dropped, marked = is_marked, "partitions are gone");
        }
        self.events.push(Event::Detach {
            table,
            root: root.0,
            leaves: named,
            dropped,
            lsn,
            commit_ts: commit_time.map(lake::time::rfc3339),
            marked: is_marked,
        });
        self.something_to_cut();
        Ok(())
    }
}

/// The first version whose walsender notices that a partition was attached or detached.
const FIRST_THAT_NOTICES: u32 = 150_000;
