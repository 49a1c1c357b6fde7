//! The objects that the log names, in little memory.
//!
//! Owns: one short record a name, and which of them were seen in the store.
//! Does not: keep the names; where one is needed, the log entry is read again.
//! Holds: two names that differ have different fingerprints, by SHA-256.
//! Fails: never.

use sha2::{Digest, Sha256};

/// What the log says of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logged {
    print: [u64; 2],
    /// Its size; zero where the log does not say it.
    pub(super) bytes: u64,
    /// The entry that names it.
    pub(super) seq: u64,
    /// It was in a listing.
    pub(super) seen: bool,
}

/// All that the log names, of one kind.
#[derive(Debug, Default)]
pub(super) struct Expected {
    logged: Vec<Logged>,
    /// So many are sorted.
    sorted: usize,
}

impl Expected {
    pub(super) fn add(&mut self, key: &str, bytes: u64, seq: u64) {
        self.logged.push(Logged { print: print(key), bytes, seq, seen: false });
    }

    /// What was added can be found from here on.
    pub(super) fn sort(&mut self) {
        if self.sorted < self.logged.len() {
            self.logged.sort_unstable_by_key(|logged| (logged.print, logged.seq));
            self.sorted = self.logged.len();
        }
    }

    /// All with this name, of those that were sorted.
    pub(super) fn find(&mut self, key: &str) -> &mut [Logged] {
        let (from, to) = self.place(key);
        self.logged.get_mut(from..to).unwrap_or_default()
    }

    fn range(&self, key: &str) -> &[Logged] {
        let (from, to) = self.place(key);
        self.logged.get(from..to).unwrap_or_default()
    }

    fn place(&self, key: &str) -> (usize, usize) {
        let print = print(key);
        let sorted = self.logged.get(..self.sorted).unwrap_or_default();
        (
            sorted.partition_point(|logged| logged.print < print),
            sorted.partition_point(|logged| logged.print <= print),
        )
    }

    /// The entries that name this.
    pub(super) fn named_by(&self, key: &str) -> impl Iterator<Item = u64> + '_ {
        self.range(key).iter().map(|logged| logged.seq)
    }

    /// Whether one with this name was seen.
    pub(super) fn is_seen(&self, key: &str) -> bool {
        self.range(key).iter().any(|logged| logged.seen)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Logged> {
        self.logged.iter()
    }

    /// Entries that name something that another one named before, each with that other one.
    pub(super) fn twice(&self, counts: impl Fn(u64) -> bool) -> Vec<(u64, u64)> {
        let mut twice = Vec::new();
        let mut before: Option<&Logged> = None;
        for logged in self.logged.iter().filter(|logged| counts(logged.seq)) {
            if let Some(before) = before.filter(|before| before.print == logged.print) {
                twice.push((before.seq, logged.seq));
            }
            before = Some(logged);
        }
        twice
    }
}

fn print(key: &str) -> [u64; 2] {
    let digest = Sha256::digest(key.as_bytes());
    let mut halves =
        digest.chunks_exact(8).map(|half| half.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)));
    [halves.next().unwrap_or_default(), halves.next().unwrap_or_default()]
}
