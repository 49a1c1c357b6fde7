//! From the changes in the files to the current state.
//!
//! Owns: the reading rules of the lake: last change of a key wins, truncates supersede, unchanged cells are carried over.
//! Does not: read files or ask Postgres.
//! Holds: changes are applied in the order of `(_cdc_lsn, _cdc_seq)`, wherever they stood.
//! Fails: never; what does not fit (an update of a row that is not there) is noted as an oddity.

use std::collections::HashMap;

use super::cells::Fingerprint;
use super::files::{Change, Op, TableChanges};

/// A row of the current state.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) relation: usize,
    pub(super) cells: Box<[Fingerprint]>,
}

/// The current state of a table, and what was strange on the way.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) rows: HashMap<Box<str>, Row>,
    pub(super) oddities: Vec<String>,
    /// The row that the change just before deleted, for a key change.
    departed: Option<Departed>,
}

#[derive(Debug)]
struct Departed {
    position: (i64, i64),
    row: Row,
}

/// Derives the current state. `root` is the relation whose truncate supersedes everything.
pub(super) fn replay(table: &mut TableChanges, root: &str) -> State {
    table.changes.sort_unstable_by_key(|change| change.position);
    let root = table.relation(root);
    let mut state = State::default();
    for change in &table.changes {
        state.apply(change, root);
    }
    state
}

impl State {
    fn apply(&mut self, change: &Change, root: Option<usize>) {
        let departed = self.departed.take();
        match change.op {
            Op::Insert => {
                // A key change is `D` then `I`: cells that did not travel are those of the old key.
                let (lsn, seq) = change.position;
                let old = departed
                    .filter(|departed| departed.position == (lsn, seq - 1))
                    .map(|departed| departed.row);
                let row = self.completed(change, old.as_ref());
                if self.rows.insert(change.key.clone(), row).is_some() {
                    self.odd(change, "inserted although it is there");
                }
            }
            Op::Update => {
                let old = self.rows.remove(&change.key);
                if old.is_none() {
                    self.odd(change, "updated although it is not there");
                }
                let row = self.completed(change, old.as_ref());
                self.rows.insert(change.key.clone(), row);
            }
            Op::Delete => match self.rows.remove(&change.key) {
                Some(row) => self.departed = Some(Departed { position: change.position, row }),
                None => self.odd(change, "deleted although it is not there"),
            },
            Op::Truncate if Some(change.relation) == root => self.rows.clear(),
            Op::Truncate => self.rows.retain(|_, row| row.relation != change.relation),
        }
    }

    /// The row of a change, its unchanged cells taken from the row before.
    fn completed(&mut self, change: &Change, old: Option<&Row>) -> Row {
        let mut cells = change.cells.clone();
        for (position, cell) in cells.iter_mut().enumerate() {
            if change.unchanged & (1 << position) == 0 {
                continue;
            }
            match old.and_then(|row| row.cells.get(position)) {
                Some(carried) => *cell = *carried,
                None => self.odd(change, "says unchanged of a cell that no row before carries"),
            }
        }
        Row { relation: change.relation, cells }
    }

    fn odd(&mut self, change: &Change, what: &str) {
        let (lsn, seq) = change.position;
        self.oddities.push(format!("{} {what} (_cdc_lsn {lsn}, _cdc_seq {seq})", change.key));
    }
}

#[cfg(test)]
mod tests;
