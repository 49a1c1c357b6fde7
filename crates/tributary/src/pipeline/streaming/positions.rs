//! How far everything is: `confirmed <= published <= cut <= received`.
//!
//! Owns: the positions of one stream.
//! Does not: move anything; it is told.
//! Holds: no position goes back, whatever a keepalive says (T55).
//! Fails: never.

use pgoutput::Lsn;

/// The positions of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Positions {
    /// The highest position that the server told us of.
    pub(super) received: Lsn,
    /// Every transaction that ended up to here is buffered or further, and none is half here.
    pub(super) clean: Lsn,
    /// `end_lsn` and commit time of the last transaction.
    commit: Option<(Lsn, i64)>,
    /// Commit time of the first transaction that no cut has.
    first_commit_time: Option<i64>,
    /// Commit time of the last transaction, whatever became of it.
    pub(super) commit_time: Option<i64>,
    /// Where the last cut ends.
    pub(super) cut: Lsn,
    /// What every reader can see.
    pub(super) published: Lsn,
    /// What Postgres was told.
    pub(super) confirmed: Lsn,
}

impl Positions {
    pub(super) fn at(resume_lsn: Lsn) -> Positions {
        Positions {
            received: resume_lsn,
            clean: resume_lsn,
            commit: None,
            first_commit_time: None,
            commit_time: None,
            cut: resume_lsn,
            published: resume_lsn,
            confirmed: resume_lsn,
        }
    }

    /// A transaction ended. One that is in the lake already was dropped, and moves nothing back.
    pub(super) fn committed(&mut self, end_lsn: Lsn, commit_time: i64) {
        self.received = self.received.max(end_lsn);
        self.commit_time = Some(commit_time);
        if end_lsn > self.clean {
            self.clean = end_lsn;
        }
        if end_lsn > self.cut {
            self.commit = Some((end_lsn, commit_time));
            self.first_commit_time.get_or_insert(commit_time);
        }
    }

    /// The server has sent everything up to here. Inside a transaction that says nothing of what may be confirmed.
    pub(super) fn keepalive(&mut self, wal_end: Lsn, in_transaction: bool) {
        self.received = self.received.max(wal_end);
        if !in_transaction {
            self.clean = self.clean.max(wal_end);
        }
    }

    /// Commit time of the first transaction of the open cut.
    pub(super) fn first_commit_time(&self) -> Option<i64> {
        self.first_commit_time
    }

    /// Ends the open cut: with rows at the last commit (I2), without rows where everything is clean.
    pub(super) fn seal(&mut self, has_rows: bool) -> (Lsn, Option<i64>) {
        let commit = self.commit.take();
        self.first_commit_time = None;
        let (to_lsn, commit_time) = match commit {
            Some((end_lsn, time)) if has_rows => (end_lsn, Some(time)),
            Some(_) | None => (self.clean, None),
        };
        assert!(to_lsn >= self.cut, "a cut at {to_lsn} before the last one at {}", self.cut);
        self.cut = to_lsn;
        (to_lsn, commit_time)
    }

    /// Something clean is not cut yet.
    pub(super) fn is_behind(&self) -> bool {
        self.clean > self.cut
    }

    /// The same, and nothing is on its way that will move the slot anyway.
    pub(super) fn is_idle_behind(&self) -> bool {
        self.is_behind() && self.published == self.cut
    }

    /// Everything clean is published.
    pub(super) fn is_clean(&self) -> bool {
        self.published == self.cut && !self.is_behind()
    }
}

#[cfg(test)]
mod tests;
