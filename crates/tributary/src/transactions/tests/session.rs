//! A database of the mind: sessions change tables, and a server sends that in both ways.
//!
//! Owns: locks, savepoints and columns as Postgres has them, and when pgoutput repeats a relation.
//! Does not: know what is right; both ways are folded, and have to come to the same.
//! Holds: a table whose columns a transaction changed is that transaction's until its end.
//! Fails: never; a step that Postgres would let wait is left out.

use std::collections::BTreeMap;

use pgoutput::{Commit, Decoder, Options, encode};
use tables::change::Image;
use tables::fold::{ByTable, Fold, FoldSettings, Folded, Patterns, Selection};
use tables::lineage::Facts;
use tables::types::TypeRules;

use super::*;
use crate::config::ByteSize;

/// What a session does, or the server with what it holds of one.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Insert {
        session: usize,
        table: usize,
    },
    AddColumn {
        session: usize,
        table: usize,
    },
    Savepoint {
        session: usize,
    },
    Release {
        session: usize,
    },
    RollbackTo {
        session: usize,
    },
    Commit {
        session: usize,
    },
    Rollback {
        session: usize,
    },
    /// The server has too much of it in memory.
    Stream {
        session: usize,
    },
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (session, table) = (|| 0_usize..3, || 0_usize..TABLES);
    let step = prop_oneof![
        16 => (session(), table()).prop_map(|(session, table)| Step::Insert { session, table }),
        4 => (session(), table()).prop_map(|(session, table)| Step::AddColumn { session, table }),
        8 => session().prop_map(|session| Step::Savepoint { session }),
        2 => session().prop_map(|session| Step::Release { session }),
        4 => session().prop_map(|session| Step::RollbackTo { session }),
        2 => session().prop_map(|session| Step::Commit { session }),
        1 => session().prop_map(|session| Step::Rollback { session }),
        14 => session().prop_map(|session| Step::Stream { session }),
    ];
    prop::collection::vec(step, 0..250)
}

/// Tables, sessions, and what was sent to two subscribers.
#[derive(Default)]
pub(super) struct Database {
    columns: [usize; TABLES],
    sessions: BTreeMap<usize, Session>,
    xids: u32,
    rows: u32,
    lsn: u64,
    pub(super) off: Sent,
    pub(super) on: Sent,
}

/// An open transaction.
struct Session {
    xid: u32,
    /// Open subtransactions, innermost last: xid, columns before, and the released ones inside.
    parts: Vec<Part>,
    /// Columns as it sees them.
    columns: [usize; TABLES],
    holds: [Lock; TABLES],
    /// Not rolled back.
    changes: Vec<Change>,
    /// How many of `changes` were streamed.
    streamed: usize,
    has_started: bool,
    relations: [Option<usize>; TABLES],
    xids_streamed: Vec<u32>,
}

struct Part {
    xid: u32,
    columns: [usize; TABLES],
    released: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    None,
    Shared,
    Exclusive,
}

#[derive(Clone, Copy)]
struct Change {
    xid: u32,
    table: usize,
    columns: usize,
    row: u32,
}

/// What one subscriber was sent.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) part_aborts: usize,
    pub(super) stream_commits: usize,
    pub(super) relations: usize,
    known: [Option<usize>; TABLES],
}

impl Database {
    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Insert { session, table } => self.insert(session, table),
            Step::AddColumn { session, table } => self.add_column(session, table),
            Step::Savepoint { session } => {
                let xid = self.next_xid();
                if let Some(open) = self.sessions.get_mut(&session) {
                    open.parts.push(Part { xid, columns: open.columns, released: Vec::new() });
                }
            }
            Step::Release { session } => {
                let Some(open) = self.sessions.get_mut(&session) else { return };
                let Some(part) = open.parts.pop() else { return };
                if let Some(outer) = open.parts.last_mut() {
                    outer.released.extend(part.released);
                    outer.released.push(part.xid);
                }
            }
            Step::RollbackTo { session } => self.rollback_to(session),
            Step::Commit { session } => self.commit(session),
            Step::Rollback { session } => {
                let Some(open) = self.sessions.remove(&session) else { return };
                if open.has_started {
                    self.on.message(&abort(open.xid, open.xid), false);
                }
            }
            Step::Stream { session } => {
                if let Some(open) = self.sessions.get_mut(&session) {
                    open.stream(&mut self.on);
                }
            }
        }
    }

    fn next_xid(&mut self) -> u32 {
        self.xids += 1;
        self.xids
    }

    fn take_lock(&mut self, session: usize, table: usize, lock: Lock) -> bool {
        let others = self.sessions.iter().filter(|(number, _)| **number != session);
        let held: Vec<Lock> = others.map(|(_, other)| other.holds[table]).collect();
        let free = match lock {
            Lock::Exclusive => held.iter().all(|held| *held == Lock::None),
            Lock::Shared | Lock::None => held.iter().all(|held| *held != Lock::Exclusive),
        };
        if free {
            let xid = self.next_xid();
            let columns = self.columns.map(|columns| columns.max(1));
            let open = self.sessions.entry(session).or_insert_with(|| Session::new(xid, columns));
            if open.holds[table] == Lock::None {
                // What others committed before it had the lock.
                open.columns[table] = columns[table];
                open.parts.iter_mut().for_each(|part| part.columns[table] = columns[table]);
            }
            if open.holds[table] != Lock::Exclusive {
                open.holds[table] = lock;
            }
        }
        free
    }

    fn insert(&mut self, session: usize, table: usize) {
        if !self.take_lock(session, table, Lock::Shared) {
            return;
        }
        self.rows += 1;
        let row = self.rows;
        let Some(open) = self.sessions.get_mut(&session) else { return };
        let xid = open.parts.last().map_or(open.xid, |part| part.xid);
        open.changes.push(Change { xid, table, columns: open.columns[table], row });
    }

    fn add_column(&mut self, session: usize, table: usize) {
        if !self.take_lock(session, table, Lock::Exclusive) {
            return;
        }
        if let Some(open) = self.sessions.get_mut(&session) {
            open.columns[table] = (open.columns[table] + 1).min(NAMES.len());
        }
    }

    fn rollback_to(&mut self, session: usize) {
        let Some(open) = self.sessions.get_mut(&session) else { return };
        let Some(part) = open.parts.pop() else { return };
        let gone = [part.released, vec![part.xid]].concat();
        open.columns = part.columns;
        let streamed = open.changes[..open.streamed].iter();
        open.streamed -= streamed.filter(|change| gone.contains(&change.xid)).count();
        open.changes.retain(|change| !gone.contains(&change.xid));
        for xid in gone {
            if open.xids_streamed.contains(&xid) {
                self.on.part_aborts += 1;
                self.on.message(&abort(open.xid, xid), false);
                // pgoutput forgets what it sent in the whole transaction.
                open.relations = [None; TABLES];
            }
        }
    }

    fn commit(&mut self, session: usize) {
        let Some(mut open) = self.sessions.remove(&session) else { return };
        self.lsn += 0x10;
        for (table, columns) in self.columns.iter_mut().enumerate() {
            if open.holds[table] == Lock::Exclusive {
                *columns = open.columns[table];
            }
        }
        open.send(&mut self.off, self.lsn);
        if !open.has_started {
            open.send(&mut self.on, self.lsn);
            return;
        }
        open.stream(&mut self.on);
        self.on.stream_commits += 1;
        self.on.message(&commit(open.xid, self.lsn), false);
        for (known, sent) in self.on.known.iter_mut().zip(open.relations) {
            *known = sent.or(*known);
        }
    }
}

impl Session {
    fn new(xid: u32, columns: [usize; TABLES]) -> Session {
        Session {
            xid,
            parts: Vec::new(),
            columns,
            holds: [Lock::None; TABLES],
            changes: Vec::new(),
            streamed: 0,
            has_started: false,
            relations: [None; TABLES],
            xids_streamed: Vec::new(),
        }
    }

    /// What it holds, in a block.
    fn stream(&mut self, sent: &mut Sent) {
        let pending: Vec<Change> = self.changes[self.streamed..].to_vec();
        if pending.is_empty() {
            return;
        }
        sent.message(&start(self.xid, !self.has_started), false);
        self.has_started = true;
        for change in pending {
            sent.change(&change, Some(change.xid), &mut self.relations);
            self.xids_streamed.push(change.xid);
        }
        sent.message(&Message::StreamStop, true);
        self.streamed = self.changes.len();
    }

    /// All of it, at its commit.
    fn send(&self, sent: &mut Sent, lsn: u64) {
        // Nothing came of the transactions that streaming shows as empty ones either.
        if self.changes.is_empty() {
            return;
        }
        let (final_lsn, commit_time) = (Lsn(lsn), PgTimestamp(0));
        sent.message(&Message::Begin(Begin { final_lsn, commit_time, xid: Xid(self.xid) }), false);
        let mut known = sent.known;
        for change in &self.changes {
            sent.change(change, None, &mut known);
        }
        sent.known = known;
        let commit = Commit { commit_lsn: final_lsn, end_lsn: Lsn(lsn + 8), commit_time };
        sent.message(&Message::Commit(commit), false);
    }
}

impl Sent {
    fn message(&mut self, message: &Message<'_>, in_stream: bool) {
        self.frames.push(encoded(message, in_stream));
    }

    fn change(&mut self, change: &Change, xid: Option<u32>, known: &mut [Option<usize>; TABLES]) {
        let oid = u32::try_from(change.table).unwrap() + 1;
        if known[change.table] != Some(change.columns) {
            known[change.table] = Some(change.columns);
            self.relations += 1;
            self.message(&relation(xid, oid, change.columns), xid.is_some());
        }
        let row = row(change.columns, change.row);
        self.message(&insert(xid, oid, &row), xid.is_some());
    }
}

pub(super) fn encoded(message: &Message<'_>, in_stream: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    encode(message, in_stream, &mut frame);
    frame
}

/// With a room of their own.
pub(super) fn transactions(gauge: &Arc<Gauge>) -> Transactions {
    Transactions::new(gauge, Room::new(std::env::temp_dir(), ByteSize::mebibytes(1 << 10)))
}

/// What the fold makes of frames. A line each; events too.
pub(super) fn fold(frames: &[Vec<u8>], resume_lsn: Lsn) -> Result<Vec<String>> {
    fold_asking(frames, resume_lsn, &[])
}

/// The server would say, if it was asked, that these parts rolled back.
pub(super) fn fold_asking(frames: &[Vec<u8>], resume_lsn: Lsn, rolled_back: &[Xid]) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let selection = Selection::new(&["*.*".to_owned()], &[]).expect("a glob");
        let types = TypeRules::default();
        let before = Selection::new(&[], &[]).expect("no glob");
        let settings = FoldSettings {
            selection,
            before,
            fold_to_root: true,
            patterns: Patterns::default(),
            mark_truncate: ByTable::same(true),
            types,
        };
        let mut fold = Fold::new(settings);
        // The catalogs know none of the tables, so that each is what the stream says of it.
        fold.learn(Facts { gone: (1..).map(Oid).take(TABLES).collect(), ..Facts::default() });
        fold.start_session(resume_lsn);
        // So little memory that most goes through a file.
        let mut transactions = transactions(&Gauge::new(MEMORY_SHARE * 150));
        let mut decoder = Decoder::new(Options { proto_version: 2, streaming_parallel: false });
        let mut lines = Vec::new();
        for frame in frames {
            if let Some(streamed) = decoder.split(frame).expect("a frame") {
                transactions.push(&streamed).expect("in a block");
                transactions.settle().await?;
                continue;
            }
            match decoder.decode(frame).expect("a frame") {
                Message::StreamStart(start) => transactions.start(&start).expect("in order"),
                Message::StreamStop => transactions.stop(),
                Message::StreamAbort(abort) => transactions.abort(&abort),
                Message::StreamCommit(commit) => {
                    let mut replay = transactions.commit(&commit).expect("it began");
                    let untold =
                        replay.untold().iter().filter(|xid| rolled_back.contains(xid)).copied().collect();
                    replay.settle(untold);
                    line(&mut fold, &Message::Begin(replay.begin()), &mut lines);
                    while replay.fill().await? {
                        while let Some(message) = replay.pop()? {
                            line(&mut fold, &decoder.decode(message).expect("a frame"), &mut lines);
                        }
                    }
                    line(&mut fold, &Message::Commit(replay.commit()), &mut lines);
                }
                message => line(&mut fold, &message, &mut lines),
            }
        }
        Ok(lines)
    })
}

/// Leaves out transactions without a change: Postgres shows them only if they were streamed, and nothing comes of them.
pub(super) fn without_empty(lines: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for line in lines {
        let is_empty = line.starts_with("commit") && line.ends_with(" of 0");
        if !is_empty {
            kept.push(line);
        } else if let Some(at) = kept.iter().rposition(|line| line.starts_with("begin")) {
            kept.remove(at);
        }
    }
    kept
}

fn line(fold: &mut Fold, message: &Message<'_>, lines: &mut Vec<String>) {
    let line = match fold.apply(message).expect("it makes sense") {
        Folded::Nothing => None,
        Folded::Begin(stamp) => Some(format!("begin {} at {}", stamp.xid.0, stamp.commit_lsn)),
        Folded::Commit { end_lsn, changes, .. } => Some(format!("commit {end_lsn} of {changes}")),
        Folded::One(change) => {
            let Image::Row { tuple, .. } = change.image else { panic!("an insert has a row") };
            let cells = tuple.cells().map(|cell| match cell {
                pgoutput::Cell::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => panic!("{other:?}"),
            });
            let (op, plan) = (change.op.as_str(), change.plan);
            let cells: Vec<String> = cells.collect();
            let line =
                format!("{op} {} v{} {} {}", change.seq, plan.schema.id, plan.relation, cells.join(" "));
            Some(line)
        }
        // The catalogs do not know the tables' columns either.
        Folded::NeedFacts { columns, .. } if !columns.is_empty() => {
            let columns = columns.into_iter().map(|oid| (oid, Vec::new())).collect();
            fold.learn(Facts { columns, ..Facts::default() });
            return self::line(fold, message, lines);
        }
        other => panic!("{other:?}"),
    };
    lines.extend(fold.take_events().iter().map(|event| format!("event {event:?}")));
    lines.extend(line);
}

const TABLES: usize = 3;
