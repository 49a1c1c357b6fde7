//! The stream of changes, in bytes.
//!
//! Owns: which transactions are sent from a position, the messages of each, and keepalives.
//! Does not: invent changes (`database`).
//! Holds: a transaction is sent once it has committed, whole, if its commit record is not before the start; a relation is announced
//! before its first row and again once it changed, and sometimes for no reason (T27).
//! Fails: by a connection that breaks after any number of bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgoutput::encode::{TupleBuilder, encode};
use pgoutput::{
    Begin, Commit, Delete, Insert, Lsn, Message, Oid, OldTuple, PgTimestamp, Relation, RelationColumn,
    ReplicaIdentity, StreamAbort, StreamCommit, StreamStart, Truncate, UNIX_TO_PG_EPOCH_MICROS, Update, Xid,
};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::Server;
use super::catalog::parse_lsn;
use super::database::{Change, Kind, Record, Row, Shape, Transaction, Value};
use super::session::{Wire, put};
use crate::random::Random;
use crate::seen;

/// A stream that is about to begin.
pub(super) struct Walsender {
    server: Server,
    session: u64,
    start: Lsn,
    binary: bool,
    streaming: bool,
    random: Random,
    /// The next record of the log.
    next: usize,
    /// Changes of transactions that are open as far as the log is read.
    unsent: BTreeMap<u32, Vec<(Lsn, Change)>>,
    /// Transactions that began to be sent while they were open, and what each has announced.
    streamed: BTreeMap<u32, BTreeMap<Oid, Arc<Shape>>>,
    announced: BTreeMap<Oid, Arc<Shape>>,
    sent: bool,
    out: Vec<u8>,
    copy_done: bool,
}

/// Takes the slot, from nobody.
pub(super) fn start(server: &Server, command: &str) -> Result<Walsender, (&'static str, String)> {
    let mut words = command.split(' ');
    let from = words.nth(3).map(parse_lsn).expect("SLOT name LOGICAL position");
    let mut random = Random::new(server.random().next());
    let session = random.next() >> 40;
    let mut database = server.database();
    let next_xid = database.next_xid;
    let Some(slot) = &mut database.slot else {
        return Err(("42704", "replication slot \"tributary\" does not exist".to_owned()));
    };
    if let Some(pid) = slot.active {
        return Err(("55006", format!("replication slot \"tributary\" is active for PID {pid}")));
    }
    slot.active = Some(session);
    // T60: forwarded in silence.
    let start = from.max(slot.confirmed);
    server.trace.say(format!(
        "postgres: streams from {start}, asked for {from}, slot at {}, next xid {next_xid}",
        slot.confirmed
    ));
    Ok(Walsender {
        server: server.clone(),
        session,
        start,
        binary: command.contains("binary 'true'"),
        streaming: command.contains("streaming 'on'"),
        random,
        next: 0,
        unsent: BTreeMap::new(),
        streamed: BTreeMap::new(),
        announced: BTreeMap::new(),
        sent: false,
        out: Vec::new(),
        copy_done: false,
    })
}

impl Drop for Walsender {
    fn drop(&mut self) {
        let mut database = self.server.database();
        if let Some(slot) = &mut database.slot
            && slot.active == Some(self.session)
        {
            slot.active = None;
            self.server.trace.say("postgres: the stream ended");
        }
    }
}

impl Walsender {
    pub(super) async fn run(mut self, mut wire: Wire) -> Option<()> {
        put(&mut self.out, b'W', &[0, 0, 0]);
        let mut keepalive = Instant::now() + self.random.millis(0, 3_000);
        let mut written = self.server.news.subscribe();
        let mut heard = Instant::now();
        loop {
            // T37: it does not look up from what it has to send.
            if self.out.is_empty() {
                self.fill();
            }
            let end = self.out.len().min(self.random.index(2_000) + 1);
            let Wire { incoming, outgoing } = &mut wire;
            tokio::select! {
                biased;
                message = incoming.message() => {
                    heard = Instant::now();
                    self.on_message(message?)?;
                }
                () = tokio::time::sleep_until(heard + WAL_SENDER_TIMEOUT) => {
                    self.server.trace.say("postgres: terminating walsender process due to replication timeout");
                    return None;
                }
                written = outgoing.write(&self.out[..end]), if end > 0 => {
                    self.out.drain(..written.ok()?);
                    self.sent = true;
                }
                () = tokio::time::sleep_until(keepalive), if end == 0 && !self.copy_done => {
                    let wants_reply = self.random.chance(20);
                    self.keepalive(wants_reply);
                    keepalive = Instant::now() + self.random.millis(500, 12_000);
                }
                changed = written.changed(), if end == 0 => changed.ok()?,
            }
        }
    }

    /// What the client says; `None` ends the session.
    fn on_message(&mut self, (tag, body): (u8, Vec<u8>)) -> Option<()> {
        match (tag, body.split_first()) {
            (b'd', Some((b'r', rest))) => {
                let flush = Lsn(u64::from_be_bytes(*rest[8..].first_chunk().expect("a position")));
                self.server.confirmed(flush);
                if rest.last() == Some(&1) && !self.copy_done {
                    self.keepalive(false);
                }
                Some(())
            }
            (b'c', _) => {
                self.copy_done = true;
                put(&mut self.out, b'c', &[]);
                put(&mut self.out, b'C', b"COPY 0\0");
                put(&mut self.out, b'Z', b"I");
                Some(())
            }
            (b'X', _) => None,
            (tag, _) => panic!("the client sent a message of type {} into the stream", char::from(tag)),
        }
    }

    /// Tells how far the log is read: everything before has been sent, if it committed.
    fn keepalive(&mut self, reply: bool) {
        let at = {
            let database = self.server.database();
            // T55: the first one tells where it begins.
            if self.sent {
                database.log.get(self.next).map_or(database.written, Record::at)
            } else {
                self.start
            }
        };
        self.put_keepalive(at, reply);
    }

    fn put_keepalive(&mut self, at: Lsn, reply: bool) {
        let mut body = vec![b'k'];
        body.extend(at.0.to_be_bytes());
        body.extend(self.server.pg_micros().to_be_bytes());
        body.push(u8::from(reply));
        put(&mut self.out, b'd', &body);
    }

    /// Reads the log up to something that is to be sent.
    fn fill(&mut self) {
        while self.out.is_empty() && !self.copy_done {
            let Some(record) = self.server.database().log.get(self.next).cloned() else { return };
            self.next += 1;
            match record {
                Record::Change { xid, at, change } => {
                    let unsent = self.unsent.entry(xid).or_default();
                    unsent.push((at, change));
                    // Of one that is large as much is sent as there is.
                    if self.streaming && at >= self.start && unsent.len() >= STREAMED_CHANGES {
                        self.send_block(xid);
                    }
                }
                Record::Commit(transaction) => self.commit(&transaction),
                Record::Abort { xid, .. } => {
                    self.unsent.remove(&xid);
                    if self.streamed.remove(&xid).is_some() {
                        seen::note("such a transaction rolled back");
                        let abort = StreamAbort { xid: Xid(xid), subxid: Xid(xid), at: None };
                        self.message(&Message::StreamAbort(abort), false, Lsn::ZERO);
                    }
                }
            }
        }
    }

    /// A piece of an open transaction.
    fn send_block(&mut self, xid: u32) {
        let changes = self.unsent.remove(&xid).unwrap_or_default();
        seen::note("a transaction was sent while it was open");
        let first_segment = !self.streamed.contains_key(&xid);
        self.streamed.entry(xid).or_default();
        let start = StreamStart { xid: Xid(xid), first_segment };
        self.message(&Message::StreamStart(start), false, Lsn::ZERO);
        for (at, change) in &changes {
            self.send_change(*at, change, Some(xid));
        }
        self.message(&Message::StreamStop, false, Lsn::ZERO);
    }

    fn commit(&mut self, transaction: &Transaction) {
        let Transaction { xid, final_lsn: commit_lsn, end_lsn, time, .. } = *transaction;
        let commit_time = PgTimestamp(time - UNIX_TO_PG_EPOCH_MICROS);
        if self.streamed.contains_key(&xid) {
            if self.unsent.contains_key(&xid) {
                self.send_block(xid);
            }
            let commit = StreamCommit { xid: Xid(xid), commit_lsn, end_lsn, commit_time };
            self.message(&Message::StreamCommit(commit), false, end_lsn);
            // What it announced is announced for all.
            self.announced.extend(self.streamed.remove(&xid).unwrap_or_default());
            return;
        }
        self.unsent.remove(&xid);
        // T05; and 15 and newer leave out what is empty (T22).
        let is_left_out = transaction.changes.is_empty() && self.server.database().version >= 150_000;
        if commit_lsn < self.start || is_left_out {
            return;
        }
        self.message(
            &Message::Begin(Begin { final_lsn: commit_lsn, commit_time, xid: Xid(xid) }),
            false,
            commit_lsn,
        );
        for (at, change) in &transaction.changes {
            self.send_change(*at, change, None);
            if self.random.chance(2) {
                // It tells how far it has read also in the middle of a transaction.
                let wants_reply = self.random.chance(50);
                self.put_keepalive(*at, wants_reply);
            }
        }
        self.message(&Message::Commit(Commit { commit_lsn, end_lsn, commit_time }), false, end_lsn);
    }

    fn send_change(&mut self, at: Lsn, change: &Change, xid: Option<u32>) {
        let in_stream = xid.is_some();
        match change {
            Change::Insert { shape, new } => {
                self.announce(shape, xid);
                let new = self.tuple(shape, new, None);
                let insert = Insert { xid: xid.map(Xid), relation: shape.oid, new: new.tuple() };
                self.message(&Message::Insert(insert), in_stream, at);
            }
            Change::Update { shape, old, new } => {
                self.announce(shape, xid);
                let old_tuple = self.old_tuple(shape, old);
                let mut cells = shape.columns.iter().zip(old.iter().zip(new));
                let key_moved = cells.any(|(column, (old, new))| column.is_key && old != new);
                let tuple = self.tuple(shape, new, Some(old));
                let old = if shape.is_full {
                    Some(OldTuple::Full(old_tuple.tuple()))
                } else {
                    key_moved.then(|| OldTuple::Key(old_tuple.tuple()))
                };
                let update = Update { xid: xid.map(Xid), relation: shape.oid, old, new: tuple.tuple() };
                self.message(&Message::Update(update), in_stream, at);
            }
            Change::Delete { shape, old } => {
                self.announce(shape, xid);
                let old = self.old_tuple(shape, old);
                let old =
                    if shape.is_full { OldTuple::Full(old.tuple()) } else { OldTuple::Key(old.tuple()) };
                let delete = Delete { xid: xid.map(Xid), relation: shape.oid, old };
                self.message(&Message::Delete(delete), in_stream, at);
            }
            Change::Truncate { shapes } => {
                shapes.iter().for_each(|shape| self.announce(shape, xid));
                let relations = shapes.iter().map(|shape| shape.oid).collect();
                let truncate =
                    Truncate { xid: xid.map(Xid), cascade: false, restart_identity: false, relations };
                self.message(&Message::Truncate(truncate), in_stream, at);
            }
        }
    }

    fn announce(&mut self, shape: &Arc<Shape>, xid: Option<u32>) {
        let again = self.random.chance(3);
        let announced = match xid {
            Some(xid) => self.streamed.entry(xid).or_default(),
            None => &mut self.announced,
        };
        if announced.get(&shape.oid).is_some_and(|known| known == shape) && !again {
            return;
        }
        announced.insert(shape.oid, Arc::clone(shape));
        let columns = shape.columns.iter().map(|column| RelationColumn {
            is_identity: column.is_key || shape.is_full,
            name: &column.name,
            type_oid: Oid(match column.kind {
                Kind::Int4 => 23,
                Kind::Int8 => 20,
                Kind::Text => 25,
            }),
            type_modifier: -1,
        });
        let relation = Relation {
            xid: xid.map(Xid),
            oid: shape.oid,
            namespace: "public",
            name: &shape.name,
            replica_identity: if shape.is_full { ReplicaIdentity::Full } else { ReplicaIdentity::Default },
            columns: columns.collect(),
        };
        // T04
        self.message(&Message::Relation(relation), xid.is_some(), Lsn::ZERO);
    }

    /// The row before: all of it, or its key alone.
    fn old_tuple(&self, shape: &Shape, row: &Row) -> TupleBuilder {
        let cells = shape.columns.iter().zip(row);
        cells.fold(TupleBuilder::new(), |tuple, (column, value)| {
            if column.is_key || shape.is_full { self.cell(tuple, column.kind, value) } else { tuple.null() }
        })
    }

    fn tuple(&self, shape: &Shape, row: &Row, old: Option<&Row>) -> TupleBuilder {
        let cells = shape.columns.iter().zip(row).enumerate();
        cells.fold(TupleBuilder::new(), |tuple, (at, (column, value))| {
            let is_untouched = old.is_some_and(|old| old[at] == *value);
            if is_untouched && value.is_toasted() {
                tuple.unchanged()
            } else {
                self.cell(tuple, column.kind, value)
            }
        })
    }

    fn cell(&self, tuple: TupleBuilder, kind: Kind, value: &Value) -> TupleBuilder {
        match (value, kind) {
            (Value::Null, _) => tuple.null(),
            (Value::Text(text), _) if self.binary => tuple.binary(text),
            (Value::Text(text), _) => tuple.text(text),
            (Value::Int(number), _) if !self.binary => tuple.text(number.to_string()),
            (Value::Int(number), Kind::Int4) => {
                tuple.binary(i32::try_from(*number).expect("an int4").to_be_bytes())
            }
            (Value::Int(number), _) => tuple.binary(number.to_be_bytes()),
        }
    }

    fn message(&mut self, message: &Message<'_>, in_stream: bool, at: Lsn) {
        let mut body = vec![b'w'];
        body.extend(at.0.to_be_bytes());
        body.extend(at.0.to_be_bytes());
        body.extend(self.server.pg_micros().to_be_bytes());
        encode(message, in_stream, &mut body);
        put(&mut self.out, b'd', &body);
    }
}

/// The default.
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(60);

/// A transaction with so many changes is large, where it may be sent while it is open.
const STREAMED_CHANGES: usize = 12;
