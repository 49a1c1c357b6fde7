//! What came to pass, so that nobody believes in a fault that never happens.
//!
//! Owns: the counts, of this thread, and the list of what must be met.
//! Does not: judge a run.
//! Holds: whatever is noted is on the list.
//! Fails: with what was not met.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// How often each thing happened.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

thread_local! {
    static SEEN: RefCell<Counts> = const { RefCell::new(Counts::new()) };
}

pub(crate) fn note(what: &'static str) {
    assert!(ALL.contains(&what), "{what} is not on the list");
    SEEN.with_borrow_mut(|seen| *seen.entry(what).or_default() += 1);
}

pub(crate) fn take() -> Counts {
    SEEN.with_borrow_mut(std::mem::take)
}

/// What some hundred runs have to meet.
pub(crate) fn missing(counts: &Counts) -> Vec<&'static str> {
    ALL.iter().copied().filter(|what| !counts.contains_key(what)).collect()
}

const ALL: &[&str] = &[
    "a transaction was sent while it was open",
    "such a transaction rolled back",
    "a value was left out for its size",
    "a row left for another key",
    "a table was truncated",
    "a column was added",
    "a column was dropped",
    "a column was renamed",
    "one commit began where another ended",
    "a slot went back",
    "a standby was promoted",
    "the server's clock jumped",
    "a wire broke by itself",
    "a request landed late",
    "an answer was lost",
    "a request was refused for now",
    "a daemon was killed",
    "a daemon died at an await",
    "a daemon stopped when it was told to",
    "a daemon was frozen",
    "a daemon was frozen before a log entry",
    "a daemon was fenced",
    "two daemons ran at once",
    "no slot",
    "an advanced slot",
    "another cluster",
    "an old backup",
    "a timeline that left before",
];
