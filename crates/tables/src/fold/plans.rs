//! The plans of the relations that sent rows.
//!
//! Owns: the plans, by a number that a relation's target names, and the mappings that leaves of one shape share.
//! Does not: make a plan (`planning`).
//! Holds: a plan's schema is always its table's current one; the numbers in it stay right when that changes, for
//! a schema only ever adds columns.
//! Fails: never.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::change::{Plan, TableIndex};
use crate::schema::TableSchema;

#[derive(Default)]
pub(super) struct Plans {
    slots: Vec<Option<Planned>>,
    free: Vec<u32>,
    /// Entries of `Plan::columns` over all plans.
    cells: usize,
    mappings: FxHashMap<(u64, TableIndex), Arc<Mapping>>,
}

/// The plan of a relation, and the table it leads to.
pub(super) struct Planned {
    pub(super) table: TableIndex,
    pub(super) plan: Plan,
}

/// Where the cells of one shape land in one table, whichever leaf has the shape.
pub(super) struct Mapping {
    pub(super) table: TableIndex,
    pub(super) columns: Vec<u32>,
    pub(super) key: Vec<u16>,
}

impl Plans {
    /// Keeps a plan; `None` if there are more than can be numbered.
    pub(super) fn insert(&mut self, planned: Planned) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(None);
                number
            }
        };
        self.cells += planned.plan.columns.len();
        *self.slots.get_mut(usize::try_from(number).ok()?)? = Some(planned);
        Some(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Planned> {
        self.slots.get(usize::try_from(number).ok()?)?.as_ref()
    }

    pub(super) fn remove(&mut self, number: u32) {
        let slot = usize::try_from(number).ok().and_then(|number| self.slots.get_mut(number));
        if let Some(planned) = slot.and_then(Option::take) {
            self.cells = self.cells.saturating_sub(planned.plan.columns.len());
            self.free.push(number);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Plans::default();
    }

    /// Whether plans should be forgotten before more are made.
    pub(super) fn is_full(&self) -> bool {
        self.cells > CELLS_MAX
    }

    #[cfg(test)]
    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    /// The plans of a table go on under its new schema.
    pub(super) fn change_schema(&mut self, table: TableIndex, schema: &Arc<TableSchema>) {
        for planned in self.slots.iter_mut().flatten().filter(|planned| planned.table == table) {
            planned.plan.extend_to(schema);
        }
        // A shape that comes anew must meet the new schema: what was dropped may be back.
        self.mappings.retain(|(_, of), _| *of != table);
    }

    /// The mapping of a shape that another leaf of the table had before.
    pub(super) fn mapping(&self, shape: u64, table: TableIndex) -> Option<Arc<Mapping>> {
        self.mappings.get(&(shape, table)).cloned()
    }

    pub(super) fn share(&mut self, shape: u64, mapping: &Arc<Mapping>) {
        if self.mappings.len() >= MAPPINGS_MAX {
            self.mappings.clear();
        }
        self.mappings.insert((shape, mapping.table), Arc::clone(mapping));
    }
}

/// 32 MiB of column numbers: 100,000 leaves of 80 columns. A plan costs a copy of its mapping to make again.
const CELLS_MAX: usize = 8 << 20;

/// Leaves of a table have a handful of shapes, and some tables have leaves.
const MAPPINGS_MAX: usize = 4096;
