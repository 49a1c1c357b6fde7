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
use prometheus::IntCounter;
use tables::change::{Plan, TableIndex};
use tables::fold::Selection;
use tables::lineage::{Facts, RootFacts};
use tables::schema::TableSchema;
use tables::types::Loss;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::error::{Error, Result};
use crate::pipeline::wal;
use crate::retry::Backoff;
use crate::snapshot::plan::{self, Limits, Piece, Task};
use crate::snapshot::point::{Point, slot_name};
use crate::snapshot::query::{Announcement, Column, Since};
use crate::snapshot::replica::{self, Replica};
use crate::snapshot::worker::{self, Patience};
use crate::source::{ConnectOptions, Folding, Sql, catalog, connect_sql, partitions};

mod reader;

use reader::{Outcome, Reader, Subject};

/// What the loop of the stream is asked for, or told.
pub(super) enum Request {
    /// Answers once the stream has come to this position.
    Reach { lsn: Lsn, answer: oneshot::Sender<()> },
    /// A table is going to be read; `anew` says that what was read of it counts no more.
    Start {
        subject: Oid,
        root: Option<Oid>,
        table: String,
        supersedes: bool,
        anew: bool,
        chunks: u64,
        bytes: u64,
    },
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
    /// Nothing is left to read of what so many orders asked for.
    Idle { orders: u64 },
}

/// The end of the snapshot of a table, or of a leaf.
pub(super) struct End {
    pub(super) subject: Oid,
    /// Of a leaf.
    pub(super) root: Option<Oid>,
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
    /// Where rows are read.
    pub(super) options: ConnectOptions,
    /// Where changes are, if elsewhere.
    pub(super) replica_of: Option<ConnectOptions>,
    pub(super) slot: String,
    pub(super) publications: Vec<String>,
    pub(super) selection: Selection,
    pub(super) folding: Arc<Folding>,
    /// Tables that no snapshot was asked for are read as well.
    pub(super) initial: bool,
    pub(super) workers: usize,
    /// Bytes a second over all workers.
    pub(super) max_rate: Option<u64>,
    pub(super) gauge: Arc<Gauge>,
    /// Counts what is tried again.
    pub(super) retries: IntCounter,
    /// While the slot keeps nearly as much log as it may, nothing more is begun.
    pub(super) wal: tokio::sync::watch::Receiver<wal::Look>,
    /// Asked for the record that a point on a standby waits for.
    pub(super) primary: Option<ConnectOptions>,
}

/// The task beside the stream; it ends when this is dropped.
pub(super) struct Snapshots {
    pub(super) requests: mpsc::Receiver<Request>,
    orders: mpsc::UnboundedSender<Order>,
    /// How many were given.
    given: u64,
    _task: JoinSet<()>,
}

/// What the loop tells the task.
enum Order {
    /// Look again: there may be new tables.
    Look,
    /// This is to be read anew.
    Anew(Oid, TableSnapshot),
    /// This is not to be read any more.
    Forget(Oid),
}

impl Snapshots {
    /// Starts the task; `known` is what the log says.
    pub(super) fn start(settings: Settings, known: BTreeMap<u32, TableSnapshot>) -> Snapshots {
        let (requests, received) = mpsc::channel(REQUESTS);
        let (orders, ordered) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        let settings = Arc::new(settings);
        let looks = settings.initial;
        let unwanted = BTreeSet::new();
        let rounds =
            Rounds { settings, known, unwanted, looks, requests, orders: ordered, obeyed: 0, points: 0 };
        task.spawn(rounds.run());
        Snapshots { requests: received, orders, given: 0, _task: task }
    }

    /// There may be new tables.
    pub(super) fn look(&mut self) {
        self.order(Order::Look);
    }

    /// Whether nobody was given an order after so many.
    pub(super) fn are_all(&self, orders: u64) -> bool {
        self.given == orders
    }

    fn order(&mut self, order: Order) {
        self.given += 1;
        // The task may have ended; the loop hears of that from `requests`.
        let _ = self.orders.send(order);
    }

    /// A table, or a leaf of `root`, is to be read anew.
    pub(super) fn read_anew(&mut self, subject: Oid, root: Option<Oid>, table: String, supersedes: bool) {
        let root = root.map(|root| root.0);
        let snapshot = TableSnapshot { table, root, supersedes, ..TableSnapshot::default() };
        self.order(Order::Anew(subject, snapshot));
    }

    /// What was a leaf is not to be read any more.
    pub(super) fn forget(&mut self, subject: Oid) {
        self.order(Order::Forget(subject));
    }
}

/// The task.
struct Rounds {
    settings: Arc<Settings>,
    /// By the OIDs of roots, and of leaves that are read by themselves.
    known: BTreeMap<u32, TableSnapshot>,
    /// Roots that the configuration leaves out.
    unwanted: BTreeSet<Oid>,
    /// There may be tables that nobody knows.
    looks: bool,
    requests: mpsc::Sender<Request>,
    orders: mpsc::UnboundedReceiver<Order>,
    obeyed: u64,
    points: u64,
}

/// A table, or a leaf by itself, that is wanted in this round.
struct Wanted {
    name: String,
    /// Of a leaf.
    root: Option<Oid>,
    /// Schema and name of the root.
    root_name: (String, String),
    has_key: bool,
}

/// A table that is read in this round.
#[derive(Default)]
struct Table {
    name: String,
    /// Of a leaf.
    root: Option<Oid>,
    /// Schema and name of the root.
    root_name: (String, String),
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
                    backoff.reset();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Ok(false) => {
                    backoff.reset();
                    self.looks = false;
                    if self.requests.send(Request::Idle { orders: self.obeyed }).await.is_err() {
                        return;
                    }
                    let Some(order) = self.orders.recv().await else { return };
                    self.obey(&order);
                }
                // The next stream begins another snapshot, if need be.
                Err(_) if self.requests.is_closed() => return,
                Err(error) => {
                    let delay = backoff.next_delay();
                    self.settings.retries.inc();
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
        self.obeyed += 1;
        match order {
            Order::Look => self.looks = self.settings.initial,
            Order::Anew(subject, snapshot) => {
                self.known.insert(subject.0, snapshot.clone());
            }
            Order::Forget(subject) => {
                self.known.remove(&subject.0);
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
        if !self.looks && self.running().next().is_none() {
            return Ok(false);
        }
        let sql = connect_sql(&settings.options).await?;
        let replica = match &settings.replica_of {
            // Before anything is asked: what the stream made us look for may not be there yet.
            Some(source) => Some(
                Replica::caught_up(source, settings.primary.as_ref(), &settings.options, &sql, POINT_WAIT)
                    .await?,
            ),
            None => None,
        };
        if self.running().next().is_none() && self.knows_all(&sql).await? {
            return Ok(false);
        }
        let facts = self.facts(&sql).await?;
        let selection = &settings.selection;
        let unwanted = facts.roots.iter().filter(|root| !selection.includes(&root.schema, &root.name));
        self.unwanted.extend(unwanted.map(|root| root.oid));
        self.end_what_is_no_leaf(&facts).await?;
        let mut wanted = self.wanted(&facts);
        // Rows of a leaf that were read twice at one point would be there twice if they have no key.
        let roots: BTreeSet<Oid> = wanted.keys().copied().collect();
        let all = wanted.len();
        wanted.retain(|_, wanted| wanted.root.is_none_or(|root| !roots.contains(&root)));
        let is_all = wanted.len() == all;
        if wanted.is_empty() {
            return Ok(false);
        }
        wal::until_snapshots_may_read(&mut settings.wal.clone()).await;
        self.points += 1;
        let name = slot_name(&settings.slot, self.points)?;
        let point = match &replica {
            Some(replica) => Box::pin(replica.find(&name, POINT_WAIT)).await?,
            None => {
                let primary = settings.primary.as_ref();
                Box::pin(replica::find(primary, &settings.options, &name, POINT_WAIT)).await?
            }
        };
        info!(lsn = %point.lsn, tables = wanted.len(), "reading the rows that tables have already");
        self.ask(|answer| Request::Reach { lsn: point.lsn, answer }).await?;
        let mut relations = facts.relations_of(|root| wanted.contains_key(&root));
        let leaves: Vec<Oid> =
            wanted.iter().filter(|(_, wanted)| wanted.root.is_some()).map(|(leaf, _)| *leaf).collect();
        relations.extend(partitions::leaves_below(&sql, &leaves).await?);
        let (tables, work) = self.plan(&point, &each_once(relations), wanted).await?;
        for (subject, table) in &tables {
            if table.pieces_left == 0 {
                self.end(*subject, table, &point).await?;
            }
        }
        let tables: BTreeMap<Oid, Table> =
            tables.into_iter().filter(|(_, table)| table.pieces_left > 0).collect();
        let converts =
            !crate::pipeline::mapping::UNCONVERTED.contains(&catalog::server(&sql).await?.encoding.as_str());
        let is_whole = self.read(&point, Arc::new(sql), converts, tables, work).await?;
        Ok(!(is_whole && is_all))
    }

    fn running(&self) -> impl Iterator<Item = (Oid, &TableSnapshot)> {
        let running = self.known.iter().filter(|(_, known)| known.state == Reading::Running);
        running.map(|(subject, known)| (Oid(*subject), known))
    }

    /// Whether no table is new. Only OIDs are asked for: at most starts that is all there is to find out.
    async fn knows_all(&self, sql: &Sql) -> Result<bool> {
        let Settings { publications, folding, .. } = &*self.settings;
        let roots = catalog::published_roots(sql, publications, folding).await?;
        Ok(roots.iter().all(|root| self.known.contains_key(&root.0) || self.unwanted.contains(root)))
    }

    /// What the catalogs say of what may be wanted.
    async fn facts(&self, sql: &Sql) -> Result<Facts> {
        let Settings { publications, folding, .. } = &*self.settings;
        if self.looks || self.running().any(|(_, known)| known.root.is_none()) {
            return catalog::facts_all(sql, publications, folding).await;
        }
        let leaves: Vec<Oid> = self.running().map(|(leaf, _)| leaf).collect();
        catalog::facts_for(sql, folding, &leaves, &[], &[]).await
    }

    /// Leaves that were to be read by themselves, and are none any more.
    async fn end_what_is_no_leaf(&mut self, facts: &Facts) -> Result<()> {
        let leaves: BTreeMap<Oid, Oid> = facts.leaves.iter().map(|leaf| (leaf.oid, leaf.root)).collect();
        let is_over = |leaf: Oid, root: u32| leaves.get(&leaf) != Some(&Oid(root));
        let over: Vec<Oid> = self
            .running()
            .filter(|(leaf, known)| known.root.is_some_and(|root| is_over(*leaf, root)))
            .map(|(leaf, _)| leaf)
            .collect();
        for leaf in over {
            let Some(known) = self.known.remove(&leaf.0) else { continue };
            self.tell(Request::End(End {
                subject: leaf,
                root: known.root.map(Oid),
                table: known.table,
                lsn: known.lsn.unwrap_or_default(),
                time_unix_micros: 0,
                rows: known.rows,
                supersedes: None,
                reason: None,
            }))
            .await?;
        }
        Ok(())
    }

    /// What is to be read.
    fn wanted(&self, facts: &Facts) -> BTreeMap<Oid, Wanted> {
        let selection = &self.settings.selection;
        let roots = facts.roots.iter().filter(|root| selection.includes(&root.schema, &root.name));
        let roots: BTreeMap<Oid, &RootFacts> = roots.map(|root| (root.oid, root)).collect();
        let has_key = |root: &RootFacts| {
            !root.primary_key.is_empty() || root.replica_identity == ReplicaIdentity::Index
        };
        let name_of = |root: &RootFacts| (root.schema.clone(), root.name.clone());
        let mut wanted = BTreeMap::new();
        for (oid, root) in &roots {
            let is_wanted = match self.known.get(&oid.0) {
                Some(known) => known.state == Reading::Running && known.root.is_none(),
                None => self.looks && self.settings.initial,
            };
            if is_wanted {
                let name = format!("{}.{}", root.schema, root.name);
                let (root_name, has_key) = (name_of(root), has_key(root));
                wanted.insert(*oid, Wanted { name, root: None, root_name, has_key });
            }
        }
        for (leaf, known) in self.running() {
            if let Some(root) = known.root.and_then(|root| roots.get(&Oid(root))) {
                let (name, root_name, has_key) = (known.table.clone(), name_of(root), has_key(root));
                wanted.insert(leaf, Wanted { name, root: Some(root.oid), root_name, has_key });
            }
        }
        wanted
    }

    /// What is left to read of the wanted tables.
    async fn plan(
        &mut self,
        point: &Point,
        relations: &[(Oid, Oid)],
        wanted: BTreeMap<Oid, Wanted>,
    ) -> Result<(BTreeMap<Oid, Table>, VecDeque<Work>)> {
        let sql = worker::transaction(&self.settings.options, &point.snapshot, Patience::default()).await?;
        let found = plan::relations(&sql, relations).await?;
        drop(sql);
        let mut tables: BTreeMap<Oid, Table> = BTreeMap::new();
        let mut anews: BTreeSet<Oid> = BTreeSet::new();
        for (subject, Wanted { name, root, root_name, has_key }) in &wanted {
            let known = self.known.entry(subject.0).or_default();
            let supersedes = known.supersedes || !has_key;
            let anew = !has_key && !known.relations.is_empty();
            if anew {
                *known = TableSnapshot::default();
            }
            known.supersedes = supersedes;
            known.root = root.map(|root| root.0);
            known.table.clone_from(name);
            let since = known.lsn.map(|lsn| (lsn, point.time_unix_micros));
            let since = Some(since.unwrap_or((point.lsn, point.time_unix_micros)));
            let rows = known.rows;
            let (name, root, root_name) = (name.clone(), *root, root_name.clone());
            let table = Table { name, root, root_name, supersedes, since, rows, ..Table::default() };
            tables.insert(*subject, table);
            anews.extend(anew.then_some(*subject));
        }
        let filenodes: BTreeMap<Oid, u32> =
            found.iter().map(|relation| (relation.oid, relation.filenode)).collect();
        let mut work = VecDeque::new();
        for Task { pieces, .. } in plan::tasks(found, Limits::default()) {
            let mut parts = VecDeque::with_capacity(pieces.len());
            for piece in pieces {
                let Some(filenode) = filenodes.get(&piece.relation).copied() else { continue };
                let root = piece.root;
                let since = self.since(root, &piece, filenode, point);
                if let Some(table) = tables.get_mut(&root) {
                    table.pieces_left += 1;
                    table.bytes += piece.bytes;
                }
                parts.push_back(Part { root, piece, filenode, since });
            }
            work.push_back(Work { pieces: parts });
        }
        for (subject, table) in &tables {
            self.tell(Request::Start {
                subject: *subject,
                root: table.root,
                table: table.name.clone(),
                supersedes: table.supersedes,
                anew: anews.contains(subject),
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
        let folds = self.settings.folding.to_root;
        let subject = |(oid, table): (&Oid, &Table)| {
            let root = folds.then(|| table.root.unwrap_or(*oid));
            (*oid, Subject { name: table.name.clone(), root, root_name: table.root_name.clone() })
        };
        let subjects: Arc<BTreeMap<Oid, Subject>> = Arc::new(tables.iter().map(subject).collect());
        for _ in 0..self.settings.workers {
            let reader = Reader {
                settings: Arc::clone(&self.settings),
                requests: self.requests.clone(),
                outcomes: outcomes.clone(),
                queue: Arc::clone(&queue),
                aside: Arc::clone(&aside),
                catalogs: Arc::clone(&catalogs),
                subjects: Arc::clone(&subjects),
                snapshot: point.snapshot.clone(),
                lsn: point.lsn,
                time_unix_micros: point.time_unix_micros,
                xmin: point.xmin,
                converts,
            };
            readers.spawn(reader.run());
        }
        drop(outcomes);
        let (mut is_whole, mut has_read) = (true, false);
        while let Some(outcome) = ended.recv().await {
            let outcome = match outcome {
                // What ended it may end the next one as well: a standby that is busy, for example.
                Outcome::PointLost(error) if !has_read || self.requests.is_closed() => {
                    readers.shutdown().await;
                    return Err(error);
                }
                outcome => outcome,
            };
            let (root, parts) = match &outcome {
                Outcome::Read { chunk, parts } => (Oid(chunk.relation), *parts),
                Outcome::Changed { root } | Outcome::SetAside { root, .. } | Outcome::Skipped { root } => {
                    (*root, 1)
                }
                Outcome::PointLost(error) => {
                    readers.shutdown().await;
                    self.settings.retries.inc();
                    warn!(
                        error = error.chain(),
                        "the snapshot's point is lost; what is left is read at a new one"
                    );
                    return Ok(false);
                }
            };
            is_whole &= !matches!(outcome, Outcome::Changed { .. });
            has_read |= matches!(outcome, Outcome::Read { .. });
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

    async fn end(&mut self, subject: Oid, table: &Table, point: &Point) -> Result<()> {
        let (lsn, time_unix_micros) = table.since.unwrap_or((point.lsn, point.time_unix_micros));
        let mut read = Vec::new();
        if let Some(known) = self.known.get_mut(&subject.0) {
            read.extend(known.relations.keys().map(|relation| Oid(*relation)));
            known.end(lsn, table.reason.as_deref());
            if table.root.is_some() && table.reason.is_none() {
                self.known.remove(&subject.0);
            }
        }
        self.tell(Request::End(End {
            subject,
            root: table.root,
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

/// Every relation for one subject: a leaf that is wanted, and lies below a partition that is, is read for itself.
fn each_once(relations: Vec<(Oid, Oid)>) -> Vec<(Oid, Oid)> {
    let mut subjects: BTreeMap<Oid, Oid> = BTreeMap::new();
    for (relation, subject) in relations {
        let chosen = subjects.entry(relation).or_insert(subject);
        if subject == relation {
            *chosen = subject;
        }
    }
    subjects.into_iter().collect()
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
