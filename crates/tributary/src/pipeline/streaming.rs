//! One stream, from its first frame to its end.
//!
//! Owns: the fold, the open cut, the writer and the positions of one attempt.
//! Does not: open or reconnect; it ends, and says why.
//! Holds: I1 and I2. `apply` is synchronous: no frame waits for I/O but one that needs the catalogs.
//! Fails: transient when the source went away, as its parts fail otherwise. What was not logged is streamed again.

use std::sync::Arc;
use std::time::Duration;

use lake::gauge::Use;
use lake::kill_points::kill_point;
use lake::log::{Event, Totals};
use lake::writer::{Cut, Published, Settings, Step, Steps, Writer};
use pgoutput::{Decoder, Lsn, Message, Oid, Options, PgTimestamp, StreamStart, Xid};
use tables::change::{Change, TxStamp};
use tables::fold::{Fold, FoldError, Folded};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info, warn};

use super::opening::Opened;
use super::partitions::Cause;
use super::publication::{self, Difference};
use super::{CommitsOnly, Context, Until, bootstrap, stopped};
use crate::buffers::{self, Buffers};
use crate::clock;
use crate::config::PartitionPolicies;
use crate::error::{Error, Result};
use crate::metrics::Stage;
use crate::source::catalog::Reach;
use crate::source::standby::Follower;
use crate::source::{self, DDL_PREFIX, Folding, Received, Sql, Stream, catalog};
use crate::status::{Shared, State};
use crate::transactions::{Replay, Transactions};
use crate::wal_budget::Level;

mod events;
mod partitions;
mod positions;
mod snapshots;

use partitions::Watched;
use positions::Positions;
use snapshots::Beside;

/// What the loop owns.
pub(super) struct Streaming<'c> {
    context: &'c mut Context,
    stream: Option<Stream>,
    sql: Sql,
    source_sql: Sql,
    decoder: Decoder,
    fold: Fold,
    folding: Arc<Folding>,
    buffers: Buffers,
    writer: Writer,
    positions: Positions,
    stamp: Option<TxStamp>,
    /// The last transaction that the catalogs were known to show.
    seen: Option<Xid>,
    transactions: Transactions,
    streamed_from: Option<Xid>,
    /// Of a standby: a cut waits until it has vouched for what came.
    follower: Option<Follower>,
    wants_cut: bool,
    /// Something was read since the last tick.
    has_read: bool,
    /// The streamed transaction that is being folded; what the stream brings meanwhile waits.
    replay: Option<Replay>,
    publication: Event,
    reach: Reach,
    partitions: Watched,
    policies: PartitionPolicies,
    /// Cuts that no reader can see yet. A cut of a snapshot alone moves no position that would tell.
    unpublished: usize,
    /// For the log entry of the next cut.
    events: Vec<Event>,
    beside: Beside,
    phase: Phase,
    /// When the first row of the open cut came.
    cut_begun: Option<Instant>,
    last_idle: Instant,
    last_relief: Instant,
    last_publication_check: Instant,
    /// Since when something is received that no reader can see.
    behind_since: Option<Instant>,
    reply_requests: ReplyRequests,
    target: Option<Lsn>,
}

/// How an attempt ends that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing is left to do.
    Done,
    /// The stream has to begin anew, at once.
    Anew,
}

/// What the loop is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Reads, cuts, publishes.
    Streaming,
    /// Told to stop, or everything asked for is here: publish what is whole and go.
    Draining { deadline: Option<Instant> },
    /// What the server keeps of partitions is out of date: publish what is whole, then stream anew.
    Renewing,
    /// The source ended the stream: publish what is whole, then reconnect.
    Ended,
}

/// The server asks for replies again and again when it waits for us to confirm everything: it is shutting down (T63).
#[derive(Debug)]
struct ReplyRequests {
    count: u32,
    since: Instant,
}

/// What a frame needs to know before it can be folded.
struct Needs {
    relations: Vec<Oid>,
    types: Vec<Oid>,
    columns: Vec<Oid>,
}

impl<'c> Streaming<'c> {
    pub(super) fn new(context: &'c mut Context, opened: Opened) -> Result<Streaming<'c>> {
        let Opened {
            state,
            author,
            stream,
            proto_version,
            sql,
            source_sql,
            fold,
            folding,
            follower,
            streamed_from,
            publication,
            reach,
        } = opened;
        let (layouts, refuses_loss) = (context.config.tables.layouts()?, context.config.types.refuses_loss());
        let buffers = Buffers::new(Arc::clone(&context.gauge), &state, layouts, refuses_loss);
        for table in state.tables.values() {
            let Totals { rows, files, bytes } = table.totals;
            context.shared.table_published(&table.table, rows, bytes, files);
            for (column, reason) in &table.needs_resync {
                context.shared.needs_resync(&table.table, column, reason);
            }
        }
        let settings = Settings {
            file_bytes: context.config.cut.file_size.as_u64(),
            encoders: lake::ambient::parallelism(),
            uploads: UPLOADS,
            steps: steps(&context.shared),
        };
        let positions = Positions::at(state.to_lsn);
        let beside = Beside::start(context, &state, &folding)?;
        let partitions = Watched::start(context, &state, &fold, &folding, reach.via_root)?;
        let policies = context.config.partition_policies()?;
        let options = Options { proto_version, streaming_parallel: false };
        let store = Arc::clone(&context.store);
        let writer = Writer::start(store, Arc::clone(&context.gauge), settings, state, author);
        let transactions = Transactions::new(&context.gauge, context.config.source.spool());
        let now = Instant::now();
        Ok(Streaming {
            target: match context.until {
                Until::Lsn(lsn) => Some(lsn),
                Until::Forever | Until::Now => None,
            },
            context,
            stream: Some(stream),
            sql,
            source_sql,
            decoder: Decoder::new(options),
            fold,
            folding,
            buffers,
            writer,
            positions,
            stamp: None,
            seen: None,
            transactions,
            streamed_from,
            follower,
            wants_cut: false,
            has_read: false,
            replay: None,
            publication,
            reach,
            partitions,
            policies,
            unpublished: 0,
            events: Vec::new(),
            beside,
            phase: Phase::Streaming,
            cut_begun: None,
            last_idle: now,
            last_relief: now,
            last_publication_check: now,
            behind_since: None,
            reply_requests: ReplyRequests { count: 0, since: now },
        })
    }

    /// Streams until told to stop, the target is reached, or the stream ends.
    pub(super) async fn run(mut self) -> Result<Ending> {
        if self.context.until == Until::Now {
            // Kept over reconnects: what had committed when the command was given is what was asked for.
            let now = catalog::written_lsn(&self.source_sql).await?.unwrap_or(self.positions.received);
            self.context.until = Until::Lsn(now);
            self.target = Some(now);
        }
        self.context.shared.state(State::Streaming);
        self.context.shared.ready(true);
        let outcome = self.stream_on().await.map_err(|error| self.without_streaming(error));
        self.observe();
        self.context.text_only |= self.buffers.wants_text();
        let outcome = match outcome {
            // A type without a send form within another one: only as text can the server send it.
            Err(error) if source::is_undefined_function(&error) && !self.context.text_only => {
                self.context.text_only = true;
                Err(Error::transient(
                    "the server has no binary form of a value, so the stream is asked for text",
                )
                .caused_by(error))
            }
            outcome => outcome,
        };
        // Nothing of this attempt goes on beside the next one.
        let Streaming { writer, stream, .. } = self;
        writer.abandon().await;
        if outcome.is_ok()
            && let Some(stream) = stream
        {
            kill_point("drained");
            stream.stop().await?;
        }
        outcome
    }

    /// Where open transactions are the trouble, the next stream has none: it would only meet the same again.
    fn without_streaming(&mut self, error: Error) -> Error {
        if self.transactions.is_out_of_room() {
            self.context.commits_only = CommitsOnly::Always;
        } else if self.streamed_from.is_some() && source::is_internal(&error) {
            self.context.commits_only = CommitsOnly::Always;
            return Error::new(error.kind(), "Postgres failed while it sent open transactions").caused_by(error).hint(
                "until the next start transactions are read once they have committed, as with `source.streaming = \"off\"`; nothing is lost",
            );
        }
        error
    }

    async fn stream_on(&mut self) -> Result<Ending> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = self.context.shutdown.clone();
        let gauge = Arc::clone(&self.context.gauge);
        let mut next_status = Instant::now();
        let status_interval = self.stream.as_ref().map_or(super::STATUS_INTERVAL, Stream::status_interval);
        loop {
            if self.is_done() {
                return self.end();
            }
            let (reads, may_stop) = (self.wants_to_read(), !self.has_deadline());
            let takes_requests = self.phase == Phase::Streaming;
            let stream = self.stream.as_mut().ok_or_else(|| Error::bug("the stream is gone"))?;
            tokio::select! {
                biased;
                () = stopped(&mut shutdown), if may_stop => {
                    self.begin_drain("told to stop", Some(Instant::now() + DRAIN))?;
                }
                // Before all reading, tell Postgres what is safe: it frees its disk.
                published = self.writer.published() => self.on_published(published?).await?,
                () = tokio::time::sleep_until(next_status) => {
                    // Keeps the walsender alive while reading is paused, and asks where it is if we have to know.
                    let asks = (self.target.is_some() || self.beside.awaits_stream() || self.partitions.awaits_stream()) && self.phase == Phase::Streaming;
                    if self.phase != Phase::Ended {
                        stream.send_status(asks).await?;
                    }
                    let interval = if asks { TARGET_STATUS_INTERVAL.min(status_interval) } else { status_interval };
                    next_status = Instant::now() + interval;
                }
                () = std::future::ready(()), if self.wants_cut => self.cut_once_vouched_for().await?,
                _ = tick.tick() => self.on_tick().await?,
                request = self.beside.snapshots.requests.recv(), if takes_requests => self.on_snapshot(request).await?,
                news = self.partitions.task.news.recv(), if takes_requests => self.on_partitions(news)?,
                resync = Beside::resync(&mut self.beside.resyncs), if takes_requests => self.on_resync(resync),
                () = std::future::ready(()), if reads && self.replay.is_some() => self.replay_on().await?,
                filled = stream.fill(), if reads => self.on_filled(filled.map(drop)).await?,
                () = gauge.shrunk(), if !reads => {}
            }
        }
    }

    fn has_deadline(&self) -> bool {
        matches!(self.phase, Phase::Draining { deadline: Some(_) })
    }

    fn wants_to_read(&self) -> bool {
        let gauge = &self.context.gauge;
        let has_room = gauge.has_room() && gauge.encoders_keep_up() && !self.wants_cut;
        match self.phase {
            Phase::Streaming => has_room,
            // A transaction that is half here is read to its end, so that the cut can hold it.
            Phase::Draining { .. } | Phase::Renewing => has_room && self.fold.in_transaction(),
            Phase::Ended => false,
        }
    }

    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Streaming => false,
            Phase::Renewing => self.is_clean(),
            Phase::Draining { deadline } => {
                self.is_clean() || deadline.is_some_and(|deadline| Instant::now() >= deadline)
            }
            // Rows of a transaction that broke off can be in no cut.
            Phase::Ended => self.is_clean() || (self.fold.in_transaction() && self.unpublished == 0),
        }
    }

    /// Everything received is published: nothing buffered, nothing on its way.
    fn is_clean(&self) -> bool {
        !self.has_rows()
            && self.events.is_empty()
            && self.unpublished == 0
            && !self.fold.in_transaction()
            && self.positions.is_clean()
    }

    /// Whether the open cut has a row.
    fn has_rows(&self) -> bool {
        !self.buffers.is_empty() || !self.beside.files.is_empty()
    }

    fn end(&self) -> Result<Ending> {
        match self.phase {
            Phase::Ended => {
                Err(Error::transient("the server ended the stream: it is shutting down, or was asked to"))
            }
            Phase::Renewing => Ok(Ending::Anew),
            Phase::Draining { .. } | Phase::Streaming => {
                if !self.is_clean() {
                    info!("the grace time is over; what is not published yet is streamed again next time");
                }
                Ok(Ending::Done)
            }
        }
    }

    /// Before 15 pgoutput remembers for as long as its session lives whether it sends the changes of a relation, whatever becomes of the relation
    /// (`rel_sync_cache_relation_cb`): of a table that changed before it was attached it sends nothing. A session that begins behind the
    /// attachment has nothing to remember.
    fn renew(&mut self) -> Result<()> {
        info!(published = %self.positions.published, "partitions changed, which this version of Postgres does not notice while it streams: streaming anew");
        self.phase = Phase::Renewing;
        self.cut_if_due()
    }

    fn begin_drain(&mut self, reason: &'static str, deadline: Option<Instant>) -> Result<()> {
        info!(reason, received = %self.positions.received, published = %self.positions.published, "stopping");
        kill_point("draining");
        self.context.shared.state(State::Stopping);
        self.phase = Phase::Draining { deadline };
        self.cut_if_due()
    }

    async fn on_published(&mut self, published: Published) -> Result<()> {
        // I1: what is confirmed was published, and what was published was cut.
        assert!(
            published.to_lsn <= self.positions.cut,
            "published {} beyond the cut {}",
            published.to_lsn,
            self.positions.cut
        );
        self.positions.published = published.to_lsn;
        self.unpublished = self.unpublished.saturating_sub(1);
        if self.unpublished == 0 {
            self.behind_since = self.cut_begun;
        }
        self.context.shared.published(&published);
        if self.phase != Phase::Ended
            && let Some(stream) = self.stream.as_mut()
        {
            stream.set_positions(self.positions.received, self.positions.published);
            stream.send_status(false).await?;
            self.positions.confirmed = self.positions.published;
            self.context.shared.metrics().stage(Stage::Confirm, published.published_at.elapsed());
            kill_point("confirmed");
        }
        self.cut_if_due()
    }

    /// Everything that came with one read.
    async fn on_filled(&mut self, filled: Result<()>) -> Result<()> {
        self.has_read = true;
        if let Err(error) = filled {
            if self.fold.in_transaction() || !self.has_rows() {
                return Err(error);
            }
            // What is whole and buffered is worth keeping; the rest comes again.
            warn!(error = error.chain(), "the connection broke, publishing what is whole");
            self.phase = Phase::Ended;
            return self.cut_if_due();
        }
        let mut stream = self.stream.take().ok_or_else(|| Error::bug("the stream is gone"))?;
        let outcome = self.drain(&mut stream).await;
        self.stream = Some(stream);
        outcome?;
        self.transactions.settle().await?;
        self.buffers.account();
        self.relieve()?;
        if self.phase == Phase::Ended {
            return self.cut_if_due();
        }
        self.beside.reached(self.positions.clean);
        if std::mem::take(&mut self.partitions.has_ddl) {
            self.partitions.task.look(Cause::Ddl);
        }
        self.settle_partitions()?;
        self.drain_if_done()
    }

    async fn drain(&mut self, stream: &mut Stream) -> Result<()> {
        let begun = Instant::now();
        let mut reply = false;
        let mut last_sent_at = None;
        while self.replay.is_none()
            && !self.wants_cut
            && (self.phase == Phase::Streaming || self.fold.in_transaction())
        {
            let Some(received) = stream.pop()? else { break };
            match received {
                Received::Wal { message, sent_at, .. } => {
                    last_sent_at = Some(sent_at);
                    if let Some(needs) = self.apply(message)? {
                        self.learn_and_apply(needs, message).await?;
                    }
                }
                Received::Keepalive { wal_end, reply_requested } => {
                    // An open streamed transaction is no obstacle: it is in no cut before its commit, which is still to come.
                    let is_inside = self.fold.in_transaction() || self.decoder.in_stream();
                    self.positions.keepalive(wal_end, is_inside);
                    reply |= reply_requested;
                }
                Received::Ended => {
                    self.phase = Phase::Ended;
                    return Ok(());
                }
            }
        }
        // Of a read within a large row nothing is known that was not before.
        if let Some(sent_at) = last_sent_at {
            stream.set_late(self.is_late(sent_at));
            let decoded = begun.elapsed();
            let since_sent = u64::try_from(clock::unix_micros() - sent_at.unix_micros()).unwrap_or(0);
            let metrics = self.context.shared.metrics();
            metrics.stage(Stage::Read, Duration::from_micros(since_sent).saturating_sub(decoded));
            metrics.stage(Stage::Decode, decoded);
        }
        stream.set_positions(self.positions.received, self.positions.published);
        if reply {
            self.on_reply_request()?;
            stream.send_status(false).await?;
        }
        Ok(())
    }

    /// Whether what the server sent then had committed long before, by its own clock. Of an open transaction nobody can see a row yet.
    fn is_late(&self, sent_at: PgTimestamp) -> bool {
        let committed_at =
            self.stamp.map(|stamp| stamp.commit_time_unix_micros).or(self.positions.commit_time);
        self.decoder.in_stream()
            || committed_at.is_some_and(|at| sent_at.unix_micros().saturating_sub(at) > LATE_MICROS)
    }

    /// Folds the next piece of a streamed transaction that has committed, or its end.
    async fn replay_on(&mut self) -> Result<()> {
        self.has_read = true;
        let Some(mut replay) = self.replay.take() else { return Ok(()) };
        if !replay.untold().is_empty() {
            self.ask_how_parts_ended(&mut replay).await?;
        }
        if !replay.fill().await? {
            self.fold(&Message::Commit(replay.commit()))?;
            drop(replay);
            // What came behind the commit is in the stream's buffer.
            return self.on_filled(Ok(())).await;
        }
        kill_point("replaying");
        while let Some(message) = replay.pop()? {
            if let Some(needs) = self.apply(message)? {
                self.learn_and_apply(needs, message).await?;
            }
        }
        self.replay = Some(replay);
        self.buffers.account();
        self.relieve()
    }

    /// Postgres does not tell of every part of a streamed transaction that it rolled back, so it is asked.
    async fn ask_how_parts_ended(&mut self, replay: &mut Replay) -> Result<()> {
        let asked = catalog::rolled_back(&self.source_sql, replay.untold());
        let rolled_back = tokio::time::timeout(CATALOG_TIMEOUT, asked).await.map_err(|_elapsed| {
            Error::transient("the server did not tell in time how subtransactions ended")
        })??;
        let Some(rolled_back) = rolled_back else {
            self.context.commits_only = CommitsOnly::Always;
            return Err(Error::transient("the server does not know any more how subtransactions of a streamed transaction ended").hint(
                "until the next start transactions are read once they have committed, as with `source.streaming = \"off\"`; nothing is lost",
            ));
        };
        if !rolled_back.is_empty() {
            info!(
                parts = rolled_back.len(),
                "parts rolled back and the stream did not tell, as after a restart; they are left out"
            );
        }
        replay.settle(rolled_back);
        Ok(())
    }

    /// Applies a frame again once what it needs is known.
    async fn learn_and_apply(&mut self, mut needs: Needs, frame: &[u8]) -> Result<()> {
        for _ in 0..FACTS_ROUNDS {
            self.learn(&needs).await?;
            // One read may bring thousands of tables that are new.
            self.context.shared.pulse().beat();
            let Some(more) = self.apply(frame)? else { return Ok(()) };
            needs = more;
        }
        Err(Error::bug("the catalogs were asked again and again for the same message"))
    }

    /// One frame: no I/O. `Some` means that nothing was changed and the catalogs have to be asked first.
    fn apply(&mut self, frame: &[u8]) -> Result<Option<Needs>> {
        let after = self.positions.received;
        let undecodable = |error| {
            unreadable(format!("a message of the stream cannot be decoded, after {after}")).caused_by(error)
        };
        if let Some(streamed) = self.decoder.split(frame).map_err(undecodable)? {
            self.transactions.push(&streamed).map_err(|error| senseless(after, error))?;
            return Ok(None);
        }
        let message = self.decoder.decode(frame).map_err(undecodable)?;
        match &message {
            Message::StreamStart(start) => {
                self.refuse_older(start)?;
                self.transactions.start(start).map_err(|error| senseless(after, error))?;
            }
            Message::StreamStop => self.transactions.stop(),
            Message::StreamAbort(abort) => self.transactions.abort(abort),
            Message::StreamCommit(commit) => {
                let replay = self.transactions.commit(commit).map_err(|error| senseless(after, error))?;
                let begin = replay.begin();
                self.replay = Some(replay);
                return self.fold(&Message::Begin(begin));
            }
            message => return self.fold(message),
        }
        Ok(None)
    }

    /// Of a transaction that it reads again from before the start of the stream, Postgres (14 to 18) may not see its own DDL while it is
    /// open: it sends rows without a new column, or cannot find a truncated table (`could not map filenumber`). At the commit it does.
    fn refuse_older(&mut self, start: &StreamStart) -> Result<()> {
        let Some(from) = self.streamed_from else { return Ok(()) };
        // Ids wrap around.
        if !start.first_segment || start.xid.0.wrapping_sub(from.0).cast_signed() >= 0 {
            return Ok(());
        }
        self.context.commits_only = CommitsOnly::NextStream;
        Err(Error::transient(format!(
            "transaction {} was open when the stream began: it is read once it has committed, as all are until the stream begins anew",
            start.xid.0
        )))
    }

    fn fold(&mut self, message: &Message<'_>) -> Result<Option<Needs>> {
        let after = self.positions.received;
        let folded = self.fold.apply(message).map_err(|error| match error {
            FoldError::IdentityClash { .. } => clash(error, after),
            error => senseless(after, error),
        })?;
        match folded {
            Folded::Nothing => {}
            Folded::Logical { prefix, .. } => self.partitions.has_ddl |= prefix == DDL_PREFIX,
            Folded::Begin(stamp) => self.stamp = Some(stamp),
            Folded::Commit { end_lsn, time, .. } => {
                self.stamp = None;
                self.positions.committed(end_lsn, time.unix_micros());
                self.cut_if_due()?;
            }
            Folded::One(change) => append(&mut self.buffers, self.stamp, &[change])?,
            Folded::Two(first, second) => append(&mut self.buffers, self.stamp, &[first, second])?,
            Folded::Many(changes) => append(&mut self.buffers, self.stamp, &changes)?,
            Folded::NeedFacts { relations, types, columns } => {
                return Ok(Some(Needs { relations, types, columns }));
            }
        }
        if self.buffers.has_full() {
            self.buffers.hand_over_full(&mut self.writer, self.fold.tables())?;
        }
        if self.cut_begun.is_none() && !self.buffers.is_empty() {
            self.cut_begun = Some(Instant::now());
            self.behind_since = self.behind_since.or(self.cut_begun);
        }
        Ok(None)
    }

    async fn learn(&mut self, needs: &Needs) -> Result<()> {
        let Needs { relations, types, columns } = needs;
        debug!(
            relations = relations.len(),
            types = types.len(),
            columns = columns.len(),
            "asking the catalogs"
        );
        self.wait_until_seen().await?;
        let asked = catalog::facts_for(&self.sql, &self.folding, relations, types, columns);
        let facts = tokio::time::timeout(CATALOG_TIMEOUT, asked)
            .await
            .map_err(|_elapsed| Error::transient("the catalogs did not answer in time"))??;
        // Whether it had rows before is for the other task to find out.
        let news = facts.leaves.iter().filter(|leaf| self.fold.root_of(leaf.oid) != leaf.root);
        let mut leaves: Vec<Oid> = news.map(|leaf| leaf.oid).collect();
        leaves.extend(self.fold.learn(facts));
        if !leaves.is_empty() {
            self.partitions.task.look(Cause::Leaves(leaves));
        }
        Ok(())
    }

    /// Waits until the catalogs have what the transaction at hand did to them.
    async fn wait_until_seen(&mut self) -> Result<()> {
        let Some(xid) = self.stamp.map(|stamp| stamp.xid).filter(|xid| self.seen != Some(*xid)) else {
            return Ok(());
        };
        let sees = async {
            while !catalog::sees(&self.sql, xid).await? {
                tokio::time::sleep(SEEN_PAUSE).await;
            }
            Ok::<_, Error>(())
        };
        tokio::time::timeout(CATALOG_TIMEOUT, sees).await.map_err(|_elapsed| {
            Error::transient(format!("transaction {} has committed, and the catalogs do not show it yet", xid.0)).hint(
                "its session may wait for a synchronous standby, which must not be this stream (`*` in `synchronous_standby_names` is any), or the replay of `source.catalog_url` may lag; nothing is lost",
            )
        })??;
        self.seen = Some(xid);
        Ok(())
    }

    async fn on_tick(&mut self) -> Result<()> {
        self.context.shared.pulse().beat();
        self.relieve()?;
        self.cut_if_due()?;
        self.observe();
        if self.phase == Phase::Streaming && self.last_publication_check.elapsed() >= PUBLICATION_INTERVAL {
            self.last_publication_check = Instant::now();
            let names = &self.context.config.source.publication;
            let found = tokio::time::timeout(CATALOG_TIMEOUT, bootstrap::publication_event(&self.sql, names))
                .await
                .map_err(|_elapsed| Error::transient("the catalogs did not answer in time"))??;
            if let Difference::Added(members) = publication::compare(&self.publication, &found)? {
                publication::tell_added(self.context.config.snapshot.mode, members);
                self.beside.look();
                self.publication = found.clone();
                self.events.push(found);
            }
        }
        Ok(())
    }

    /// Cuts if a cut is wanted and may be made.
    fn cut_if_due(&mut self) -> Result<()> {
        if self.fold.in_transaction() || !self.writer.has_room() {
            return Ok(());
        }
        let is_due = match self.phase {
            Phase::Streaming if !self.has_rows() && self.cut_begun.is_none() => {
                self.positions.is_idle_behind() && self.last_idle.elapsed() >= IDLE_INTERVAL
            }
            Phase::Streaming => {
                let interval = self.context.config.cut.interval;
                // What is published sooner is removed sooner.
                let is_tight = self.context.wal.level() >= Level::Tight;
                let interval = if is_tight { interval.min(TIGHT_INTERVAL) } else { interval };
                self.cut_begun.is_some_and(|begun| begun.elapsed() >= interval)
            }
            Phase::Draining { .. } | Phase::Renewing | Phase::Ended => {
                self.has_rows() || !self.events.is_empty() || self.positions.is_behind()
            }
        };
        if is_due { self.cut() } else { Ok(()) }
    }

    /// Ends the open cut. What came from a standby has to be vouched for first; nothing is read until then.
    fn cut(&mut self) -> Result<()> {
        if self.follower.is_none() {
            return self.end_cut();
        }
        self.wants_cut = true;
        Ok(())
    }

    /// Ends the open cut if all of it is of the timeline that the log has.
    async fn cut_once_vouched_for(&mut self) -> Result<()> {
        if let Some(follower) = &mut self.follower {
            follower.vouch().await?;
        }
        self.wants_cut = false;
        self.end_cut()?;
        // What came behind the cut is in the stream's buffer.
        if self.phase == Phase::Streaming { self.on_filled(Ok(())).await } else { Ok(()) }
    }

    /// Ends the open cut at the last commit; without rows, at the last position that is known to be clean.
    fn end_cut(&mut self) -> Result<()> {
        // I2: no transaction is half in a cut.
        assert!(!self.fold.in_transaction(), "a cut inside a transaction");
        let mut files = self.buffers.seal(&mut self.writer, self.fold.tables())?;
        let has_changes = !files.is_empty();
        files.append(&mut self.beside.files);
        let mut events = std::mem::take(&mut self.events);
        events.extend(self.buffers.take_schema_events());
        events.extend(events::of_fold(&mut self.fold));
        for event in &events {
            if let Event::NeedsResync { table, column, reason, .. } = event {
                self.context.shared.needs_resync(table, column, reason);
            }
        }
        let from_commit_time = self.positions.first_commit_time().filter(|_| has_changes);
        let (to_lsn, to_commit_time) = self.positions.seal(has_changes);
        self.last_idle = Instant::now();
        self.cut_begun = None;
        let written_at = lake::time::rfc3339(clock::unix_micros());
        self.unpublished += 1;
        self.writer.cut(Cut { to_lsn, from_commit_time, to_commit_time, written_at, events }, files)?;
        Ok(())
    }

    /// Gives memory back before the budget is used up.
    fn relieve(&mut self) -> Result<()> {
        let gauge = Arc::clone(&self.context.gauge);
        if !gauge.is_short() || self.last_relief.elapsed() < RELIEF_INTERVAL {
            return Ok(());
        }
        self.last_relief = Instant::now();
        let of_open_cut =
            gauge.used_for(Use::Buffers) + gauge.used_for(Use::Waiting) + gauge.used_for(Use::Encoders);
        if of_open_cut <= gauge.budget() / 4 {
            // The rest is parts in flight; only the store can give that back.
            return Ok(());
        }
        self.buffers.hand_over_largest(&mut self.writer, self.fold.tables())?;
        if self.fold.in_transaction() || !self.writer.has_room() {
            self.buffers.relieve_encoders(self.context.store.part_size());
        } else if self.has_rows() {
            debug!("the memory budget is short, cutting early");
            self.cut()?;
        }
        Ok(())
    }

    /// A server that asks again and again waits for us to confirm all it sent; it is told as soon as it is true (T63).
    fn on_reply_request(&mut self) -> Result<()> {
        if self.reply_requests.since.elapsed() > REPLY_WINDOW {
            self.reply_requests = ReplyRequests { count: 0, since: Instant::now() };
        }
        self.reply_requests.count += 1;
        let may_cut = !self.fold.in_transaction() && self.writer.has_room();
        let has_something = self.has_rows() || self.positions.is_idle_behind();
        if self.reply_requests.count >= REPLY_STORM && may_cut && has_something {
            self.reply_requests = ReplyRequests { count: 0, since: Instant::now() };
            return self.cut();
        }
        Ok(())
    }

    fn observe(&mut self) {
        let shared = &self.context.shared;
        let positions = self.positions;
        shared.positions(|shown| {
            shown.received = positions.received;
            shown.cut = positions.cut;
            shown.published = positions.published;
            shown.confirmed = positions.confirmed;
        });
        let seconds = self.behind_since.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        shared.lag(positions.received.0.saturating_sub(positions.published.0), seconds);
        let gauge = &self.context.gauge;
        // Encoders that are busy let some of it be read within every tick; those that wait for the store do not.
        let has_read = std::mem::take(&mut self.has_read);
        let may_read = gauge.has_room() && (gauge.encoders_keep_up() || has_read);
        let paused = self.phase == Phase::Streaming && !may_read;
        shared.memory(gauge, paused);
        shared.cuts(self.buffers.rows(), self.unpublished);
        shared.spool(self.transactions.count(), self.transactions.spooled_bytes());
        for ((table, column, loss), cells) in self.buffers.take_lossy() {
            shared.lossy_cells(&buffers::name_of(self.fold.tables(), table), &column, loss, cells);
        }
        for (table, rows) in self.buffers.take_not_inserts() {
            shared.not_inserts(&buffers::name_of(self.fold.tables(), table), rows);
        }
    }
}

/// Where the writer tells how long it took.
fn steps(shared: &Arc<Shared>) -> Steps {
    let shared = Arc::clone(shared);
    Steps::new(move |step, took| {
        let stage = match step {
            Step::Encode => Stage::Encode,
            Step::Upload => Stage::Upload,
        };
        shared.metrics().stage(stage, took);
    })
}

fn append(buffers: &mut Buffers, stamp: Option<TxStamp>, changes: &[Change<'_, '_>]) -> Result<()> {
    let stamp = stamp.ok_or_else(|| Error::bug("a change outside a transaction"))?;
    changes.iter().try_for_each(|change| buffers.append(&stamp, change))?;
    kill_point("mid-transaction");
    Ok(())
}

fn clash(error: FoldError, after: Lsn) -> Error {
    Error::halted(format!("a change cannot be attributed to its row, after {after}: {error}")).hint(
        "nothing is lost. Give the partition the identity of its root (ALTER TABLE … REPLICA IDENTITY DEFAULT), or publish with \
         publish_via_partition_root = false; what was written before stays unclear, so exclude the table (`tables.exclude`) to go on",
    )
}

fn senseless(after: Lsn, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    unreadable(format!("a message of the stream makes no sense, after {after}")).caused_by(error)
}

fn unreadable(message: String) -> Error {
    Error::definite(message)
        .hint("nothing is lost: the slot stays where the lake is. Please report this with the version of the server")
}

/// How often ages are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long a stop waits for the transaction that is half here, and for the last cut; below Kubernetes' default of 30 s.
const DRAIN: Duration = Duration::from_secs(20);
/// How often an idle position is logged, so that a busy database beside quiet tables frees its WAL (T58).
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// How old a buffered row gets while the slot keeps nearly as much log as it may.
const TIGHT_INTERVAL: Duration = Duration::from_secs(5);
/// What is sent so long after its commit is no later for being read some milliseconds later.
const LATE_MICROS: i64 = 100_000;
/// How often the server is asked for its position while a target is waited for.
const TARGET_STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// How often the publications are compared with what the log recorded (T52).
const PUBLICATION_INTERVAL: Duration = Duration::from_secs(60);
/// How long a catalog query may take before the attempt is given up.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the catalogs are asked for a transaction that they do not show yet.
const SEEN_PAUSE: Duration = Duration::from_millis(10);
/// Rounds of questions for one message: a domain over an array over an enum needs three.
const FACTS_ROUNDS: u32 = 16;
/// Least time between two reliefs: commands take a moment to show in the gauge.
const RELIEF_INTERVAL: Duration = Duration::from_millis(50);
/// So many reply requests...
const REPLY_STORM: u32 = 3;
/// ...within this time mean a server that waits for us.
const REPLY_WINDOW: Duration = Duration::from_secs(2);
/// Parts uploaded at once.
const UPLOADS: usize = 8;
