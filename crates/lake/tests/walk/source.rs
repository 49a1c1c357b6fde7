//! The database, as far as the protocol knows of it: a WAL, and a slot.
//!
//! Owns: transactions, how far the slot is, and whose session has it.
//! Does not: send bytes; a transaction comes whole.
//! Holds: the slot is of one session at a time, which the server may end without a word to the other side.
//! Fails: never.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pgoutput::Lsn;

/// A transaction with so many rows in each table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) final_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    pub(crate) rows: [u64; TABLES],
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) transactions: Vec<Transaction>,
    /// How far the WAL is, with what is of no concern to us.
    pub(crate) written: Lsn,
    pub(crate) confirmed: Lsn,
    /// All that the slot ever was at, the last one apart.
    pub(crate) confirmed_before: Vec<Lsn>,
    /// The session that has the slot.
    pub(crate) holder: Option<u64>,
    sessions: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<Mutex<Server>>);

/// A stream that was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) number: u64,
    /// What ended up to here is not sent.
    pub(crate) sent_from: Lsn,
}

impl Source {
    /// One whose slot was just made.
    pub(crate) fn new() -> Source {
        let server = Server {
            transactions: Vec::new(),
            written: START,
            confirmed: START,
            confirmed_before: Vec::new(),
            holder: None,
            sessions: 0,
        };
        Source(Arc::new(Mutex::new(server)))
    }

    pub(crate) fn look(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// START_REPLICATION; `None` while another session has the slot.
    pub(crate) fn start(&self, from: Lsn) -> Option<Session> {
        let mut server = self.look();
        if server.holder.is_some() {
            return None;
        }
        server.sessions += 1;
        server.holder = Some(server.sessions);
        Some(Session { number: server.sessions, sent_from: from.max(server.confirmed) })
    }

    /// A status; whether the session still lives.
    pub(crate) fn confirm(&self, session: Session, flushed: Lsn) -> bool {
        let mut server = self.look();
        let lives = server.holder == Some(session.number);
        if lives && flushed > server.confirmed {
            let before = std::mem::replace(&mut server.confirmed, flushed);
            server.confirmed_before.push(before);
        }
        lives
    }

    /// The session ends by its own will.
    pub(crate) fn end(&self, session: Session) {
        let mut server = self.look();
        if server.holder == Some(session.number) {
            server.holder = None;
        }
    }
}

impl Server {
    pub(crate) fn commit(&mut self, rows: [u64; TABLES]) {
        let final_lsn = Lsn(self.written.0 + 10);
        let end_lsn = Lsn(final_lsn.0 + 5);
        self.transactions.push(Transaction { final_lsn, end_lsn, rows });
        self.written = end_lsn;
    }

    /// A crash: the slot is where it was once, and nobody has it.
    pub(crate) fn crash(&mut self, choice: u64) {
        self.holder = None;
        let before: Vec<Lsn> = self.confirmed_before.iter().copied().chain([self.confirmed]).collect();
        self.confirmed = before[usize::try_from(choice).unwrap() % before.len()];
    }
}

/// Tables with rows in every transaction, or in some.
pub(crate) const TABLES: usize = 2;
/// Where the slot was made.
pub(crate) const START: Lsn = Lsn(100);
