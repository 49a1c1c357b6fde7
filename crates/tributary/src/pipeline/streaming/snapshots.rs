//! What the loop of the stream does for a snapshot beside it.
//!
//! Owns: the answers to its requests; files that were filled beside the stream, until a cut takes them.
//! Does not: read a row, or decide what is read.
//! Holds: a table's columns are placed by what they were at the snapshot's point only once the stream has come there, so that the stream cannot
//! take them back. Files enter a cut together with the word that their rows were read.
//! Fails: as the fold and the catalogs do.

use std::sync::Arc;

use lake::kill_points::kill_point;
use lake::layout::Hour;
use lake::log::{Event, Reading, State as LogState, TableSnapshot};
use lake::writer::{OpenFile, Rows};
use pgoutput::{Lsn, Oid, Xid};
use rustc_hash::FxHashSet;
use tables::batch::BatchBuilder;
use tables::change::{Change, Image, MARKER_SEQ, Op, TxStamp};
use tables::fold::{Named, Placed, Selection};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use super::{FACTS_ROUNDS, Needs, Phase, Streaming, senseless};
use crate::buffers;
use crate::config::SnapshotMode;
use crate::error::{Error, Result};
use crate::pipeline::Context;
use crate::pipeline::snapshots::{Announced, End, Placement, Request, Settings, Snapshots};
use crate::resync::{self, Chosen, Resync, nothing_matches};
use crate::source::Folding;

/// The snapshot, as the loop sees it.
pub(super) struct Beside {
    pub(super) snapshots: Snapshots,
    /// Where people ask for tables to be read anew.
    pub(super) resyncs: Option<mpsc::Receiver<Resync>>,
    /// Who waits until the stream has come to a position.
    waiting: Vec<(Lsn, oneshot::Sender<()>)>,
    /// Whole files for the next cut.
    pub(super) files: Vec<OpenFile>,
    /// Nothing is left to read.
    pub(super) is_idle: bool,
    /// Tables whose start is in the log, by OID.
    begun: FxHashSet<u32>,
    /// Under whose names rows were placed.
    placed: FxHashSet<Oid>,
}

impl Beside {
    pub(super) fn start(context: &Context, state: &LogState, folding: &Arc<Folding>) -> Result<Beside> {
        let config = &context.config;
        let initial = config.snapshot.mode == SnapshotMode::Initial;
        let is_running = |reading: Reading| reading == Reading::Running;
        let begun = state.snapshots.iter().filter(|(_, known)| is_running(known.state));
        let begun: FxHashSet<u32> = begun.map(|(root, _)| *root).collect();
        let settings = Settings {
            options: context.snapshot_options.clone(),
            replica_of: Some(context.options.clone()).filter(|source| *source != context.snapshot_options),
            slot: config.source.slot.clone(),
            publications: config.source.publication.clone(),
            selection: config.tables.selection()?,
            folding: Arc::clone(folding),
            initial,
            workers: usize::try_from(config.snapshot.workers).unwrap_or(1).max(1),
            max_rate: Some(config.snapshot.max_rate.as_u64()).filter(|rate| *rate > 0),
            gauge: Arc::clone(&context.gauge),
            retries: context.shared.metrics().retries("snapshot"),
            wal: context.wal.looks(),
            primary: context.primary_options.clone(),
        };
        for known in state.snapshots.values() {
            context.shared.snapshot_known(&known.table, known);
        }
        let is_idle = !initial && begun.is_empty();
        context.shared.snapshot_planning(!is_idle);
        Ok(Beside {
            resyncs: context.shared.resyncs(),
            is_idle,
            begun,
            snapshots: Snapshots::start(settings, state.snapshots.clone()),
            waiting: Vec::new(),
            placed: FxHashSet::default(),
            files: Vec::new(),
        })
    }

    /// The next request to read tables anew.
    pub(super) async fn resync(resyncs: &mut Option<mpsc::Receiver<Resync>>) -> Resync {
        if let Some(receiver) = resyncs
            && let Some(resync) = receiver.recv().await
        {
            return resync;
        }
        std::future::pending().await
    }

    /// Whether somebody waits for the stream to come to a position.
    pub(super) fn awaits_stream(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// There may be new tables to read.
    pub(super) fn look(&mut self) {
        self.is_idle = false;
        self.snapshots.look();
    }

    /// A leaf is none any more: nothing of it is to be read as one.
    pub(super) fn forget_leaf(&mut self, leaf: Oid) {
        if self.begun.remove(&leaf.0) {
            self.snapshots.forget(leaf);
        }
    }

    /// The stream has come to here.
    pub(super) fn reached(&mut self, lsn: Lsn) {
        for (_, answer) in self.waiting.extract_if(.., |(wanted, _)| *wanted <= lsn) {
            let _ = answer.send(());
        }
    }
}

impl Streaming<'_> {
    pub(super) async fn on_snapshot(&mut self, request: Option<Request>) -> Result<()> {
        match request.ok_or_else(|| Error::bug("the task of the snapshot ended"))? {
            Request::Reach { lsn, answer } => {
                self.beside.waiting.push((lsn, answer));
                self.beside.reached(self.positions.clean);
            }
            Request::Start { subject, root, table, supersedes, anew, chunks, bytes } => {
                self.beside.is_idle = false;
                self.context.shared.snapshot_begun(&table, chunks, bytes);
                if self.beside.begun.insert(subject.0) || anew {
                    let (relation, root) = (subject.0, root.map(|root| root.0));
                    self.events.push(Event::SnapshotStart { table, relation, root, supersedes, anew });
                }
            }
            Request::Place { relation, answer } => {
                let placement = self.place(&relation).await?;
                drop(answer.send(placement));
            }
            Request::Open { table, schema, time_unix_micros, answer } => {
                let hour = Hour::of(time_unix_micros);
                let spec = self.buffers.file_spec(self.fold.table(table), &schema, hour)?;
                drop(answer.send(self.writer.open_file_apart(spec)));
            }
            // A leaf that was detached meanwhile.
            Request::Chunk { chunk, .. } if !self.beside.begun.contains(&chunk.relation) => {}
            Request::Chunk { chunk, files, losses } => {
                for (table, column, loss, cells) in losses {
                    let name = buffers::name_of(self.fold.tables(), table);
                    self.context.shared.lossy_cells(&name, &column, loss, cells);
                }
                files.into_iter().for_each(|file| self.take_file(file));
                kill_point("chunk-read");
                self.context.shared.snapshot_chunk(&chunk.table, chunk.rows, chunk.bytes);
                self.events.push(Event::SnapshotChunk(chunk));
                self.something_to_cut();
            }
            Request::End(end) => self.end_snapshot(end)?,
            // Whoever was given an order since will say so again.
            Request::Idle { orders } if !self.beside.snapshots.are_all(orders) => {}
            Request::Idle { .. } => {
                self.beside.is_idle = true;
                self.context.shared.snapshot_planning(false);
                self.drain_if_done()?;
            }
        }
        Ok(())
    }

    /// People ask for tables to be read anew. The log has it with the next cut, so that a restart does not forget it.
    pub(super) fn on_resync(&mut self, resync: Resync) {
        let Resync { globs, answer } = resync;
        let named = Selection::new(&globs, &[]).map(|asked| self.fold.named(&asked));
        let named = match named {
            Ok(named) if named.is_empty() => Err(nothing_matches(&globs)),
            Ok(named) => Ok(named),
            Err(error) => Err(error.to_string()),
        };
        let answered = named.map(|named| {
            let via_root = self.reach.via_root;
            let chosen = named.into_iter().map(|Named { relation, root, name }| {
                let table = self.fold.display_name(root);
                Chosen::new(relation.0, name, (root != relation).then_some((root.0, table)), via_root)
            });
            let chosen = resync::distinct(chosen);
            for Chosen { relation, root, table, .. } in &chosen {
                self.read_anew(Oid(*relation), (*root).map(Oid), table.clone(), true);
            }
            chosen.iter().map(ToString::to_string).collect()
        });
        // Who asked may have gone.
        let _ = answer.send(answered);
    }

    /// A table, or a leaf of `root`, is to be read; what was read of it before counts no more.
    pub(super) fn read_anew(&mut self, subject: Oid, root: Option<Oid>, table: String, supersedes: bool) {
        self.beside.is_idle = false;
        self.beside.begun.insert(subject.0);
        self.context.shared.snapshot_known(&table, &TableSnapshot::default());
        self.beside.snapshots.read_anew(subject, root, table.clone(), supersedes);
        let (relation, root, anew) = (subject.0, root.map(|root| root.0), true);
        self.events.push(Event::SnapshotStart { table, relation, root, supersedes, anew });
        self.something_to_cut();
    }

    /// The rows of a leaf are to be read that was attached. By way of the root its rows do not tell that they are its own, so that
    /// none can be superseded alone.
    pub(super) fn read_leaf(&mut self, leaf: Oid, root: Oid) {
        let (table, partition) = (self.fold.display_name(root), self.fold.display_name(leaf));
        info!(table, partition, "a partition was attached, its rows are read");
        if self.reach.via_root && self.fold.is_keyless(root) {
            self.read_anew(root, None, table, true);
        } else {
            self.read_anew(leaf, Some(root), partition, !self.reach.via_root);
        }
    }

    async fn place(&mut self, relation: &Announced) -> Result<Option<Placement>> {
        self.beside.placed.insert(relation.announcement.relation);
        for _ in 0..=FACTS_ROUNDS {
            let placed = self.fold.place(&relation.relation());
            let placed = placed.map_err(|error| senseless(self.positions.received, error))?;
            match placed {
                Placed::Rows { table, plan } => {
                    let refuses_loss = self.buffers.refuses_loss();
                    return Ok(Some(Placement { table, plan, refuses_loss }));
                }
                Placed::Excluded => return Ok(None),
                Placed::NeedFacts { relations, types, columns } => {
                    self.learn(&Needs { relations, types, columns }).await?;
                }
            }
        }
        Err(Error::bug("the catalogs were asked again and again for the same table"))
    }

    fn take_file(&mut self, file: OpenFile) {
        self.writer.adopt(&file);
        self.beside.files.push(file);
    }

    fn end_snapshot(&mut self, end: End) -> Result<()> {
        let End { subject, root, table, lsn, time_unix_micros, rows, supersedes, reason } = end;
        if !self.beside.begun.remove(&subject.0) {
            // A leaf that was detached meanwhile; that counts.
            return Ok(());
        }
        self.context.shared.snapshot_ended(&table, rows, reason.as_deref());
        if let Some(relations) = supersedes.filter(|_| reason.is_none()) {
            match root {
                Some(root) => self.mark_relations(root, &relations, lsn, time_unix_micros)?,
                None => self.mark_table(subject, &relations, lsn, time_unix_micros)?,
            }
        }
        kill_point("snapshot-ended");
        self.events.push(Event::SnapshotEnd { table, relation: subject.0, lsn, rows, reason });
        self.something_to_cut();
        Ok(())
    }

    /// Writes the rows that say that older rows of a table count no more, of whose relations these were read.
    fn mark_table(&mut self, root: Oid, relations: &[Oid], lsn: Lsn, time_unix_micros: i64) -> Result<()> {
        let mut relations = relations.to_vec();
        let placed = &self.beside.placed;
        // Rows of leaves come under their own names or, via the root, under its name; of parts that an earlier run read nobody knows.
        if !relations.contains(&root)
            && (placed.contains(&root) || !relations.iter().any(|leaf| placed.contains(leaf)))
        {
            relations.push(root);
        }
        self.mark_relations(root, &relations, lsn, time_unix_micros)
    }

    /// Writes the rows that say that older rows of these relations of a table count no more.
    pub(super) fn mark_relations(
        &mut self,
        root: Oid,
        relations: &[Oid],
        lsn: Lsn,
        time_unix_micros: i64,
    ) -> Result<()> {
        // A table that is in no file has nothing that could count.
        let Some((table, plans)) = self.fold.place_markers(root, relations) else { return Ok(()) };
        let Some(schema) = plans.first().map(|plan| Arc::clone(&plan.schema)) else { return Ok(()) };
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        let stamp =
            TxStamp { commit_lsn: lsn, commit_time_unix_micros: time_unix_micros, xid: Xid::default() };
        let bug = |error| Error::bug("the markers of a snapshot cannot be built").caused_by(error);
        for plan in &plans {
            let change = Change { table, op: Op::Truncate, seq: MARKER_SEQ, plan, image: Image::Empty };
            builder.append(&stamp, &change).map_err(bug)?;
        }
        let batch = builder.finish().map_err(bug)?;
        let spec = self.buffers.file_spec(self.fold.table(table), &schema, Hour::of(time_unix_micros))?;
        let file = self.writer.open_file_apart(spec);
        file.write(Rows::alike(batch, lsn, time_unix_micros, Op::Truncate.as_str(), &self.context.gauge));
        self.take_file(file);
        Ok(())
    }

    /// The open cut has something that is not of the stream.
    pub(super) fn something_to_cut(&mut self) {
        if self.cut_begun.is_none() {
            self.cut_begun = Some(tokio::time::Instant::now());
        }
    }

    /// Ends the run if all that was asked for is here.
    pub(super) fn drain_if_done(&mut self) -> Result<()> {
        let is_reached = self.target.is_some_and(|target| self.positions.clean >= target);
        let is_settled = self.beside.is_idle && self.partitions.is_settled;
        if self.phase == Phase::Streaming && is_reached && is_settled {
            return self.begin_drain("everything asked for is here", None);
        }
        Ok(())
    }
}
