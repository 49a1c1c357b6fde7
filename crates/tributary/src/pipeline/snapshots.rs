//! Snapshots beside the stream: which tables are read, at which point, and what is left of them.
//!
//! Owns: rounds of reading. A round finds a consistent point, plans what is missing, and gives tasks to readers until all are done.
//! Does not: touch the fold, the log or the open cut; it asks the loop of the stream (`streaming::snapshots`), which owns them.
//! Holds: what the log says was read is read once, whatever ends the daemon. A table whose rows have no key is read at one point as a
//! whole: there its rows tell nothing of each other. Of another one that is read at several points, what was read before is looked through again for
//! rows that were written since: a value that an update left out would be in no row otherwise.
//! Fails: never as a whole; a round that fails is made again after a while, and a table that cannot be read is set aside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lake::gauge::Gauge;
use lake::log::{Chunk, Reading, TableSnapshot};
use lake::writer::OpenFile;
use pgoutput::{Lsn, Oid, Relation, RelationColumn, ReplicaIdentity};
use tables::change::{Plan, TableIndex};
use tables::fold::Selection;
use tables::lineage::Facts;
use tables::schema::TableSchema;
use tables::types::Loss;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::error::{Error, Result};
use crate::retry::Backoff;
use crate::snapshot::plan::{self, Limits, Piece, Task};
use crate::snapshot::point::{Point, slot_name};
use crate::snapshot::query::{Announcement, Column, Since};
use crate::snapshot::worker::{self, Patience};
use crate::source::{ConnectOptions, Sql, catalog, connect_sql};

mod reader;

use reader::{Outcome, Reader};

/// What the loop of the stream is asked for, or told.
pub(super) enum Request {
    /// Answers once the stream has come to this position.
    Reach { lsn: Lsn, answer: oneshot::Sender<()> },
    /// A table is going to be read; `anew` says that what was read of it counts no more.
    Start { root: Oid, table: String, supersedes: bool, anew: bool, chunks: u64, bytes: u64 },
    /// Where the rows of a relation go; `None` for nowhere.
    Place { relation: Announced, answer: oneshot::Sender<Option<Placement>> },
    /// A file for rows of the point's time.
    Open {
        table: TableIndex,
        schema: Arc<TableSchema>,
        time_unix_micros: i64,
        answer: oneshot::Sender<OpenFile>,
    },
    /// These files have what the chunk says.
    Chunk { chunk: Chunk, files: Vec<OpenFile>, losses: Vec<(TableIndex, String, Loss, u64)> },
    /// A table is read, or cannot be.
    End(End),
    /// Nothing is left to read.
    Idle,
}

/// The end of a table's snapshot.
pub(super) struct End {
    pub(super) root: Oid,
    pub(super) table: String,
    /// The oldest point of rows that count.
    pub(super) lsn: Lsn,
    pub(super) time_unix_micros: i64,
    pub(super) rows: u64,
    /// Rows of these relations that the lake had before count no more.
    pub(super) supersedes: Option<Vec<Oid>>,
    /// Why it cannot be read.
    pub(super) reason: Option<String>,
}

/// Where rows go.
pub(super) struct Placement {
    pub(super) table: TableIndex,
    pub(super) plan: Plan,
    pub(super) refuses_loss: bool,
}

/// A relation as the stream would announce it.
pub(super) struct Announced {
    pub(super) announcement: Arc<Announcement>,
    pub(super) columns: Vec<Column>,
}

impl Announced {
    /// The message.
    pub(super) fn relation(&self) -> Relation<'_> {
        let Announcement { relation, schema, name, replica_identity, identity } = &*self.announcement;
        let is_full = *replica_identity == ReplicaIdentity::Full;
        let columns = self.columns.iter().map(|column| RelationColumn {
            is_identity: is_full || identity.contains(&column.name),
            name: &column.name,
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
        });
        Relation {
            xid: None,
            oid: *relation,
            namespace: schema,
            name,
            replica_identity: *replica_identity,
            columns: columns.collect(),
        }
    }
}

/// What a snapshot reads with.
pub(super) struct Settings {
    pub(super) options: ConnectOptions,
    pub(super) slot: String,
    pub(super) publications: Vec<String>,
    pub(super) selection: Selection,
    pub(super) fold_to_root: bool,
    /// Tables that no snapshot was asked for are read as well.
    pub(super) initial: bool,
    pub(super) workers: usize,
    /// Bytes a second over all workers.
    pub(super) max_rate: Option<u64>,
    pub(super) gauge: Arc<Gauge>,
}

/// The task beside the stream; it ends when this is dropped.
pub(super) struct Snapshots {
    pub(super) requests: mpsc::Receiver<Request>,
    orders: mpsc::UnboundedSender<Order>,
    _task: JoinSet<()>,
}

/// What the loop tells the task.
enum Order {
    /// Look again: there may be new tables.
    Look,
    /// This table is to be read anew.
    Anew(Oid),
}

impl Snapshots {
    /// Starts the task; `known` is what the log says.
    pub(super) fn start(settings: Settings, known: BTreeMap<u32, TableSnapshot>) -> Snapshots {
        let (requests, received) = mpsc::channel(REQUESTS);
        let (orders, ordered) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        let settings = Arc::new(settings);
        task.spawn(Rounds { settings, known, requests, orders: ordered, points: 0 }.run());
        Snapshots { requests: received, orders, _task: task }
    }

    /// There may be new tables.
    pub(super) fn look(&self) {
        drop(self.orders.send(Order::Look));
    }

    /// A table is to be read anew.
    pub(super) fn read_anew(&self, root: Oid) {
        drop(self.orders.send(Order::Anew(root)));
    }
}

/// The task.
struct Rounds {
    settings: Arc<Settings>,
    /// By the root's OID.
    known: BTreeMap<u32, TableSnapshot>,
    requests: mpsc::Sender<Request>,
    orders: mpsc::UnboundedReceiver<Order>,
    points: u64,
}

/// A table that is read in this round.
#[derive(Default)]
struct Table {
    name: String,
    supersedes: bool,
    /// The point of the oldest rows that count, and its time.
    since: Option<(Lsn, i64)>,
    pieces_left: usize,
    /// What is to be read, about.
    bytes: u64,
    rows: u64,
    /// A relation of it changed: the rest is for the next round.
    is_unfinished: bool,
    reason: Option<String>,
}

impl Table {
    /// What became of so many of its parts.
    fn note(&mut self, outcome: Outcome, parts: usize) {
        self.pieces_left = self.pieces_left.saturating_sub(parts);
        match outcome {
            Outcome::Read { chunk, .. } => self.rows += chunk.rows,
            Outcome::Changed { .. } => self.is_unfinished = true,
            Outcome::SetAside { reason, .. } => {
                warn!(
                    table = self.name,
                    reason, "a table cannot be read, and is set aside; once that is mended: tributary resync"
                );
                self.reason.get_or_insert(reason);
            }
            Outcome::Skipped { .. } | Outcome::PointLost(_) => {}
        }
    }

    fn is_done(&self) -> bool {
        self.pieces_left == 0 && (!self.is_unfinished || self.reason.is_some())
    }
}

/// What a reader is to do: pieces, each with its root, and since when its rows are new.
#[derive(Clone)]
pub(super) struct Work {
    pieces: VecDeque<Part>,
}

/// A piece of the work.
#[derive(Clone)]
pub(super) struct Part {
    root: Oid,
    piece: Piece,
    filenode: u32,
    since: Option<Since>,
}

impl Rounds {
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            while let Ok(order) = self.orders.try_recv() {
                self.obey(&order);
            }
            match self.round().await {
                Ok(true) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Ok(false) => {
                    backoff.reset();
                    if self.requests.send(Request::Idle).await.is_err() {
                        return;
                    }
                    let Some(order) = self.orders.recv().await else { return };
                    self.obey(&order);
                }
                Err(error) => {
                    let delay = backoff.next_delay();
                    warn!(
                        error = error.chain(),
                        hint = error.hint_text(),
                        ?delay,
                        "the snapshot waits, and is tried again"
                    );
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    fn obey(&mut self, order: &Order) {
        match order {
            Order::Look => {}
            Order::Anew(root) => {
                self.known.insert(root.0, TableSnapshot { supersedes: true, ..TableSnapshot::default() });
            }
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T> {
        ask(&self.requests, request).await
    }

    async fn tell(&self, request: Request) -> Result<()> {
        self.requests.send(request).await.map_err(|_| gone())
    }

    /// Reads what is missing at one point. Whether something is left.
    async fn round(&mut self) -> Result<bool> {
        let settings = Arc::clone(&self.settings);
        let is_running = |known: &TableSnapshot| known.state == Reading::Running;
        if !settings.initial && !self.known.values().any(is_running) {
            return Ok(false);
        }
        let sql = connect_sql(&settings.options).await?;
        let facts = catalog::facts_all(&sql, &settings.publications, settings.fold_to_root).await?;
        let wanted = self.wanted(&facts);
        if wanted.is_empty() {
            return Ok(false);
        }
        self.points += 1;
        let name = slot_name(&settings.slot, self.points)?;
        let point = Box::pin(Point::find(&settings.options, &name, POINT_WAIT)).await?;
        info!(lsn = %point.lsn, tables = wanted.len(), "reading the rows that tables have already");
        self.ask(|answer| Request::Reach { lsn: point.lsn, answer }).await?;
        let (tables, work) = self.plan(&point, &facts, wanted).await?;
        for (root, table) in &tables {
            if table.pieces_left == 0 {
                self.end(*root, table, &point).await?;
            }
        }
        let tables: BTreeMap<Oid, Table> =
            tables.into_iter().filter(|(_, table)| table.pieces_left > 0).collect();
        let converts =
            !crate::pipeline::mapping::UNCONVERTED.contains(&catalog::server(&sql).await?.encoding.as_str());
        let is_whole = self.read(&point, Arc::new(sql), converts, tables, work).await?;
        Ok(!is_whole)
    }

    /// The roots that are to be read, with their names and whether their rows have a key.
    fn wanted(&self, facts: &Facts) -> BTreeMap<Oid, (String, bool)> {
        let is_wanted = |oid: Oid| match self.known.get(&oid.0) {
            Some(known) => known.state == Reading::Running,
            None => self.settings.initial,
        };
        let named =
            facts.roots.iter().filter(|root| self.settings.selection.includes(&root.schema, &root.name));
        named
            .filter(|root| is_wanted(root.oid))
            .map(|root| {
                let has_key = !root.primary_key.is_empty() || root.replica_identity == ReplicaIdentity::Index;
                (root.oid, (format!("{}.{}", root.schema, root.name), has_key))
            })
            .collect()
    }

    /// What is left to read of the wanted tables.
    async fn plan(
        &mut self,
        point: &Point,
        facts: &Facts,
        wanted: BTreeMap<Oid, (String, bool)>,
    ) -> Result<(BTreeMap<Oid, Table>, VecDeque<Work>)> {
        let relations = facts.relations_of(|root| wanted.contains_key(&root));
        let sql = worker::transaction(&self.settings.options, &point.snapshot, Patience::default()).await?;
        let found = plan::relations(&sql, &relations).await?;
        drop(sql);
        let mut tables: BTreeMap<Oid, Table> = BTreeMap::new();
        let mut anews: BTreeSet<Oid> = BTreeSet::new();
        for (root, (name, has_key)) in &wanted {
            let known = self.known.entry(root.0).or_default();
            let supersedes = known.supersedes || !has_key;
            let anew = !has_key && !known.relations.is_empty();
            if anew {
                *known = TableSnapshot::default();
            }
            known.supersedes = supersedes;
            known.table.clone_from(name);
            let since = known.lsn.map(|lsn| (lsn, point.time_unix_micros));
            let since = Some(since.unwrap_or((point.lsn, point.time_unix_micros)));
            let rows = known.rows;
            tables.insert(*root, Table { name: name.clone(), supersedes, since, rows, ..Table::default() });
            anews.extend(anew.then_some(*root));
        }
        let filenodes: BTreeMap<Oid, (Oid, u32)> =
            found.iter().map(|relation| (relation.oid, (relation.root, relation.filenode))).collect();
        let mut work = VecDeque::new();
        for Task { pieces, .. } in plan::tasks(found, Limits::default()) {
            let mut parts = VecDeque::with_capacity(pieces.len());
            for piece in pieces {
                let Some((root, filenode)) = filenodes.get(&piece.relation).copied() else { continue };
                let since = self.since(root, &piece, filenode, point);
                if let Some(table) = tables.get_mut(&root) {
                    table.pieces_left += 1;
                    table.bytes += piece.bytes;
                }
                parts.push_back(Part { root, piece, filenode, since });
            }
            work.push_back(Work { pieces: parts });
        }
        for (root, table) in &tables {
            self.tell(Request::Start {
                root: *root,
                table: table.name.clone(),
                supersedes: table.supersedes,
                anew: anews.contains(root),
                chunks: u64::try_from(table.pieces_left).unwrap_or(u64::MAX),
                bytes: table.bytes,
            })
            .await?;
        }
        Ok((tables, work))
    }

    /// Since when rows of a piece are new, if it was read before.
    fn since(&self, root: Oid, piece: &Piece, filenode: u32, point: &Point) -> Option<Since> {
        let read = self.known.get(&root.0)?.relations.get(&piece.relation.0)?;
        let (from, until) = (piece.blocks.from, piece.blocks.until);
        let covers = |range: &(u32, Option<u32>)| {
            range.0 <= from && range.1.is_none_or(|end| until.is_some_and(|until| until <= end))
        };
        (read.filenode == filenode && read.ranges.iter().any(covers))
            .then(|| Since::point(read.xmin, point))?
    }

    /// Lets readers work. Whether everything was read or set aside.
    async fn read(
        &mut self,
        point: &Point,
        catalogs: Arc<Sql>,
        converts: bool,
        mut tables: BTreeMap<Oid, Table>,
        work: VecDeque<Work>,
    ) -> Result<bool> {
        let queue = Arc::new(Mutex::new(work));
        let (outcomes, mut ended) = mpsc::channel(self.settings.workers * 2);
        let mut readers = JoinSet::new();
        let aside: Arc<Mutex<BTreeSet<Oid>>> = Arc::default();
        let names: Arc<BTreeMap<Oid, String>> =
            Arc::new(tables.iter().map(|(root, table)| (*root, table.name.clone())).collect());
        for _ in 0..self.settings.workers {
            let reader = Reader {
                settings: Arc::clone(&self.settings),
                requests: self.requests.clone(),
                outcomes: outcomes.clone(),
                queue: Arc::clone(&queue),
                aside: Arc::clone(&aside),
                catalogs: Arc::clone(&catalogs),
                names: Arc::clone(&names),
                snapshot: point.snapshot.clone(),
                lsn: point.lsn,
                time_unix_micros: point.time_unix_micros,
                xmin: point.xmin,
                converts,
            };
            readers.spawn(reader.run());
        }
        drop(outcomes);
        let mut is_whole = true;
        while let Some(outcome) = ended.recv().await {
            let (root, parts) = match &outcome {
                Outcome::Read { chunk, parts } => (Oid(chunk.relation), *parts),
                Outcome::Changed { root } | Outcome::SetAside { root, .. } | Outcome::Skipped { root } => {
                    (*root, 1)
                }
                Outcome::PointLost(error) => {
                    readers.shutdown().await;
                    warn!(
                        error = error.chain(),
                        "the snapshot's point is lost; what is left is read at a new one"
                    );
                    return Ok(false);
                }
            };
            is_whole &= !matches!(outcome, Outcome::Changed { .. });
            if let Outcome::Read { chunk, .. } = &outcome
                && let Some(known) = self.known.get_mut(&chunk.relation)
            {
                known.add(chunk);
            }
            let Some(table) = tables.get_mut(&root) else { continue };
            table.note(outcome, parts);
            if table.is_done()
                && let Some(table) = tables.remove(&root)
            {
                self.end(root, &table, point).await?;
            }
        }
        while let Some(ended) = readers.join_next().await {
            ended.map_err(|error| Error::bug("a reader of the snapshot ended").caused_by(error))?;
        }
        Ok(is_whole && tables.is_empty())
    }

    async fn end(&mut self, root: Oid, table: &Table, point: &Point) -> Result<()> {
        let (lsn, time_unix_micros) = table.since.unwrap_or((point.lsn, point.time_unix_micros));
        let mut read = Vec::new();
        if let Some(known) = self.known.get_mut(&root.0) {
            read.extend(known.relations.keys().map(|relation| Oid(*relation)));
            known.end(lsn, table.reason.as_deref());
        }
        self.tell(Request::End(End {
            root,
            table: table.name.clone(),
            lsn,
            time_unix_micros,
            rows: table.rows,
            supersedes: table.supersedes.then_some(read),
            reason: table.reason.clone(),
        }))
        .await
    }
}

/// Asks the loop of the stream.
async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    requests.send(request(answer)).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())
}

fn gone() -> Error {
    Error::transient("the stream that the snapshot goes beside has ended")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a point waits for open transactions to end.
const POINT_WAIT: Duration = Duration::from_secs(60);
/// Requests that wait for the loop.
const REQUESTS: usize = 16;
