//! From nothing to a stream: fold the log, check the source, take the slot, fence whoever was before, roll forward.
//!
//! Owns: the order of these steps, which keeps a second daemon from fencing a healthy one.
//! Does not: read a change.
//! Holds: the slot is the first mutex, the log the second: our `open` entry is appended only once START_REPLICATION holds the slot.
//! Fails: as `startup` decides; `Fenced` when another daemon opened the lake since we last did.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lake::kill_points::kill_point;
use lake::log::{self, Author, Document, Entry, EntryKind, Event, State};
use lake::{publish, watermark};
use pgoutput::{Lsn, Oid, ReplicaIdentity, Xid};
use tables::fold::{Fold, FoldSettings};
use tables::lineage::{LeafFacts, Link};
use tables::schema::TableSchema;
use tracing::{info, warn};

use super::publication::Difference;
use super::startup::{self, Decision, Situation};
use super::{CommitsOnly, Context, bootstrap, mapping};
use crate::clock;
use crate::error::{Error, Result};
use crate::retry::Backoff;
use crate::source::catalog::Reach;
use crate::source::standby::Follower;
use crate::source::{self, Folding, Session, Sql, Start, Stream, catalog, connect_sql, slot, standby};
use crate::status;

/// A lake and a stream that are ours.
pub(super) struct Opened {
    pub(super) state: State,
    pub(super) author: Author,
    pub(super) stream: Stream,
    /// What the stream speaks.
    pub(super) proto_version: u8,
    pub(super) sql: Sql,
    /// To the server that we stream from, which need not be the one that catalogs are read from.
    pub(super) source_sql: Sql,
    pub(super) fold: Fold,
    pub(super) folding: Arc<Folding>,
    /// Of a standby: vouches for the timeline of what came.
    pub(super) follower: Option<Follower>,
    /// Transactions are taken while they are open if they are this one or began behind it.
    pub(super) streamed_from: Option<Xid>,
    /// The publications as they were found; polled for changes.
    pub(super) publication: Event,
    /// What they do beyond the tables that they name.
    pub(super) reach: Reach,
}

/// Opens lake and stream.
pub(super) async fn open(context: &mut Context) -> Result<Opened> {
    let store = Arc::clone(&context.store);
    let sql = connect_sql(&context.catalog_options).await?;
    let found = log::load(store.as_ref()).await?;
    mapping::check_rules(&sql, &context.config, found.as_ref()).await?;
    let mut state = match found {
        Some(state) => state,
        None => {
            let source_sql = connect_sql(&context.options).await?;
            let made =
                bootstrap::create(store.as_ref(), &context.config, &context.options, &source_sql, false)
                    .await;
            match (made, log::load(store.as_ref()).await?) {
                (_, Some(state)) => state,
                // Two first starts at once: the other one has the slot and is about to write the first entry.
                (Err(error), None) if source::is_duplicate(&error) => {
                    return Err(
                        Error::transient("another start of this pipeline creates the slot").caused_by(error)
                    );
                }
                (Err(error), None) => return Err(error),
                (Ok(_), None) => {
                    return Err(Error::transient("the log was just written and cannot be found"));
                }
            }
        }
    };
    refuse_other_slot(context, &state)?;
    watermark::refuse_lost_entries(store.as_ref(), &mut state).await?;
    let taken = take_slot(context, &mut state, &sql).await?;
    kill_point("slot-taken");
    let publication = bootstrap::publication_event(&sql, &context.config.source.publication).await?;
    if let Difference::Added(members) = super::publication::compare_with_log(&state, &publication)? {
        super::publication::tell_added(context.config.snapshot.mode, members);
    }
    let reach = catalog::reach(&sql, &context.config.source.publication).await?;
    let author = append_open(context, &mut state, taken.decision, &publication).await?;
    kill_point("open-logged");
    context.epoch = Some(author.epoch);
    refuse_gap(&taken, &state)?;
    context.shared.metrics().log_entry(EntryKind::Open.label());
    let aborted = publish::roll_forward(store.as_ref(), &state).await?;
    if aborted > 0 {
        info!(uploads = aborted, "aborted uploads that no log entry names");
    }
    kill_point("rolled-forward");
    let folding = Arc::new(context.config.partitions.folding(Some(&state))?);
    let fold = restore(context, &state, &sql, &folding).await?;
    let Taken { mut stream, proto_version, source_sql, follower, streamed_from, .. } = taken;
    stream.set_positions(state.to_lsn, state.to_lsn);
    stream.send_status(false).await?;
    info!(resume_lsn = %state.to_lsn, epoch = author.epoch, slot = state.slot, lake = store.url(), "streaming");
    Ok(Opened {
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
    })
}

fn refuse_other_slot(context: &Context, state: &State) -> Result<()> {
    if state.slot == context.config.source.slot {
        return Ok(());
    }
    Err(Error::config(format!(
        "the lake at {} is written from slot `{}`, and `source.slot` is `{}`",
        context.store.url(),
        state.slot,
        context.config.source.slot
    ))
    .hint("every pipeline needs a `lake.url` prefix of its own"))
}

/// `repair` takes a cut back, also one that was the log's end when the stream was started behind it: that stream never sends its range. Nothing was
/// confirmed on it yet, and the next one begins where the log ends now.
fn refuse_gap(taken: &Taken, state: &State) -> Result<()> {
    if state.to_lsn >= taken.from {
        return Ok(());
    }
    Err(Error::transient(format!(
        "the stream was started at {}, and meanwhile `tributary repair` took the log back to {}",
        taken.from, state.to_lsn
    )))
}

/// What looking at the source told.
struct Checked {
    decision: Decision,
    /// How often the server has to hear of us.
    status_interval: Duration,
    /// The timeline of a standby.
    follows: Option<u32>,
}

/// The slot, held by our stream.
struct Taken {
    stream: Stream,
    /// Where the log ended when the stream was started: the server leaves out what committed before.
    from: Lsn,
    proto_version: u8,
    source_sql: Sql,
    follower: Option<Follower>,
    streamed_from: Option<Xid>,
    decision: Decision,
}

/// Checks the source and starts the stream; waits while another session has the slot.
async fn take_slot(context: &mut Context, state: &mut State, sql: &Sql) -> Result<Taken> {
    let mut backoff = Backoff::new(Duration::from_millis(500), SLOT_WAIT_MAX);
    let mut replay_waits = 0_u32;
    loop {
        let mut session = Session::connect(&context.options).await?;
        let proto_version = source::session::proto_version(session.server_version());
        let source_sql = connect_sql(&context.options).await?;
        let Checked { decision, status_interval, follows } =
            check(context, &mut session, state, sql, &source_sql).await?;
        let binary = !context.text_only && mapping::speaks_binary(sql, &context.config).await?;
        match decision {
            Decision::WaitForReplay if replay_waits >= REPLAY_WAITS_MAX => {
                return Err(Error::halted(format!(
                    "the standby has not replayed up to the lake's {} in {} seconds",
                    state.to_lsn, REPLAY_WAITS_MAX
                ))
                .hint("check that it follows the right primary and that replay is not paused"));
            }
            Decision::WaitForReplay => {
                replay_waits += 1;
                context.pause(Duration::from_secs(1)).await?;
            }
            decision => {
                let start = start(context, state, binary, status_interval);
                let follower = match follows {
                    Some(timeline) => Some(Box::pin(Follower::open(&context.options, timeline)).await?),
                    None => None,
                };
                // Asked before the stream begins: what has an id from here on has no change before that.
                let streamed_from =
                    if start.streaming { Some(catalog::next_xid(&source_sql).await?) } else { None };
                match session.start(&start).await {
                    Ok(stream) => {
                        if context.commits_only == CommitsOnly::NextStream {
                            context.commits_only = CommitsOnly::Not;
                        }
                        let from = start.from;
                        return Ok(Taken {
                            stream,
                            from,
                            proto_version,
                            source_sql,
                            follower,
                            streamed_from,
                            decision,
                        });
                    }
                    Err(error) if source::is_slot_active(&error) => {
                        context.shared.state(status::State::WaitingForSlot);
                        let delay = backoff.next_delay();
                        info!(
                            slot = state.slot,
                            ?delay,
                            reason = error.chain(),
                            "the slot is in use by another session, waiting"
                        );
                        context.pause(delay).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

fn start(context: &Context, state: &State, binary: bool, status_interval: Duration) -> Start {
    Start {
        slot: state.slot.clone(),
        from: state.to_lsn,
        publications: context.config.source.publication.clone(),
        binary,
        streaming: context.streams(),
        status_interval,
    }
}

/// Reads the slot, then the log, then the server: while another daemon has the slot all three move on, and in this order what
/// is read can only look safer than it is at the end.
async fn check(
    context: &Context,
    session: &mut Session,
    state: &mut State,
    sql: &Sql,
    source_sql: &Sql,
) -> Result<Checked> {
    bootstrap::refuse_missing_publications(sql, &context.config).await?;
    // Slots belong to the server that we stream from, which need not be the one that catalogs are read from.
    let slot = slot::slot(source_sql, &state.slot).await?;
    log::follow_on(context.store.as_ref(), state).await?;
    state.refuse_fenced(context.epoch)?;
    let found = bootstrap::publication_event(sql, &context.config.source.publication).await?;
    super::publication::compare_with_log(state, &found)?;
    let system = session.identify_system().await?;
    let history = if system.timeline > state.timeline {
        session.timeline_history(system.timeline).await?
    } else {
        Vec::new()
    };
    let server = catalog::server(source_sql).await?;
    if let Some(error) = standby::unfit(&server) {
        return Err(error);
    }
    let situation = Situation {
        log: state,
        system: &system,
        server_lsn: server.current_lsn.unwrap_or(system.wal_lsn),
        slot: slot.as_ref(),
        history: &history,
        database: &context.options.database,
    };
    let decision = startup::decide(&situation, server.in_recovery)?;
    // T57: a walsender that hears nothing for wal_sender_timeout ends the session, also while we do not read.
    let third = server.wal_sender_timeout.map_or(super::STATUS_INTERVAL, |timeout| timeout / 3);
    let status_interval = third.clamp(STATUS_INTERVAL_MIN, super::STATUS_INTERVAL);
    Ok(Checked { decision, status_interval, follows: server.in_recovery.then_some(system.timeline) })
}

/// Appends our `open` entry behind whatever the log's end is now that we hold the slot.
async fn append_open(
    context: &Context,
    state: &mut State,
    decision: Decision,
    publication: &Event,
) -> Result<Author> {
    let fill = |state: &State, entry: Entry| {
        let (timeline, events) = events_of_opening(state, decision, publication);
        let written_at = Some(lake::time::rfc3339(clock::unix_micros()));
        Entry { timeline, written_at, events, ..entry }
    };
    let opened = log::open(context.store.as_ref(), state, context.epoch, super::owner(), fill).await?;
    opened
        .ok_or_else(|| Error::transient("the log keeps growing while it is opened: another daemon writes it"))
}

fn events_of_opening(state: &State, decision: Decision, publication: &Event) -> (u32, Vec<Event>) {
    let mut events = Vec::new();
    let timeline = match decision {
        Decision::StartOnTimeline { from, to } => {
            events.push(Event::Timeline { from, to });
            to
        }
        Decision::Start | Decision::WaitForReplay => state.timeline,
    };
    if !is_recorded(state, publication) {
        events.push(publication.clone());
    }
    (timeline, events)
}

/// Whether the log has the publications as they are. What is not has been accepted: an addition, or by a person.
fn is_recorded(state: &State, publication: &Event) -> bool {
    let Event::Publication { names, definition, members } = publication else { return true };
    let is_same =
        state.publication.as_ref().is_some_and(|(known, hash)| known == names && hash == definition);
    is_same && state.publication_members == *members
}

/// The fold as the log remembers it, with what the catalogs say now.
async fn restore(context: &Context, state: &State, sql: &Sql, folding: &Folding) -> Result<Fold> {
    let config = &context.config;
    let mut fold = Fold::new(FoldSettings {
        selection: config.tables.selection()?,
        before: config.tables.with_before()?,
        fold_to_root: folding.to_root,
        patterns: folding.patterns().clone(),
        mark_truncate: config.partition_policies()?.marks_truncate,
        types: config.types.rules()?,
    });
    fold.reserve(config.tables.layouts()?.reserved());
    // Many tables have the same columns.
    let mut schemas: HashMap<&Document, Arc<TableSchema>> = HashMap::new();
    for (oid, table) in &state.tables {
        let schema = match schemas.get(&table.document) {
            Some(known) => Arc::clone(known),
            None => {
                let schema: TableSchema = table.document.read().map_err(|error| {
                    Error::definite(format!("the schema of {} in the log cannot be read", table.table))
                        .caused_by(error)
                })?;
                Arc::clone(schemas.entry(&table.document).or_insert(Arc::new(schema)))
            }
        };
        let index =
            fold.restore_table(Oid(*oid), table.schema_name.clone(), table.table_name.clone(), schema);
        if let Some((schema, name)) = &table.renamed {
            fold.restore_name(index, schema.clone(), name.clone());
        }
    }
    fold.restore_leaves(logged_leaves(state));
    for (leaf, name) in state.detached.values().flatten() {
        fold.restore_detached(Oid(*leaf), name);
    }
    // What the log told is no news.
    fold.take_events();
    let facts = catalog::facts_all(sql, &config.source.publication, folding).await?;
    if facts.roots.is_empty() {
        warn!(publications = ?config.source.publication, "the publication has no table yet");
    }
    fold.learn(facts);
    fold.start_session(state.to_lsn);
    Ok(fold)
}

/// The leaves that the log knows, so that rows of a leaf that is gone by now still find their root.
fn logged_leaves(state: &State) -> Vec<LeafFacts> {
    let leaf = |root: u32, oid: u32, relation: &str| {
        let (schema, name) = relation.split_once('.').unwrap_or(("", relation));
        LeafFacts {
            oid: Oid(oid),
            schema: schema.to_owned(),
            name: name.to_owned(),
            root: Oid(root),
            // The catalogs tell better.
            link: Link::Partition,
            replica_identity: ReplicaIdentity::Default,
        }
    };
    let roots = state.lineage.iter();
    roots.flat_map(|(root, leaves)| leaves.iter().map(move |(oid, name)| leaf(*root, *oid, name))).collect()
}

/// Longest wait between two tries for a slot that another session has: an old walsender lives up to `wal_sender_timeout`.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(5);
/// However short `wal_sender_timeout` is, no more status updates than these.
const STATUS_INTERVAL_MIN: Duration = Duration::from_millis(200);
/// Seconds to wait for a standby to replay what the lake already has.
const REPLAY_WAITS_MAX: u32 = 60;
