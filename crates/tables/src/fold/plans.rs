//! The plans of the relations that sent rows.
//!
//! Owns: the plans, by a number that a relation's target names, and the landings that leaves of one shape share.
//! Does not: make a plan (`planning`).
//! Holds: a plan's schema is always its table's current one; the numbers in it stay right when that changes, for
//! a schema only ever adds columns.
//! Fails: never.

use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap;

use crate::change::{Landing, Plan, TableIndex};
use crate::relation::Target;
use crate::schema::TableSchema;

#[derive(Default)]
pub(super) struct Plans {
    slots: Vec<Option<Planned>>,
    free: Vec<u32>,
    /// What all landings hold, in column numbers.
    cells: usize,
    /// Those that leaves have now, for leaves of the same shape that come.
    shared: FxHashMap<(u64, TableIndex), Weak<Landing>>,
}

/// The plan of a relation, and the table it leads to.
pub(super) struct Planned {
    pub(super) table: TableIndex,
    pub(super) plan: Plan,
}

impl Plans {
    /// Keeps a plan; `None` if there are more than can be numbered.
    pub(super) fn insert(&mut self, table: TableIndex, plan: Plan) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number =
                    u32::try_from(self.slots.len()).ok().filter(|number| *number < Target::PLANS_MAX)?;
                self.slots.push(None);
                number
            }
        };
        let planned = Planned { table, plan };
        self.cells += planned.cells_alone();
        *self.slots.get_mut(usize::try_from(number).ok()?)? = Some(planned);
        Some(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Planned> {
        self.slots.get(usize::try_from(number).ok()?)?.as_ref()
    }

    pub(super) fn remove(&mut self, number: u32) {
        let slot = usize::try_from(number).ok().and_then(|number| self.slots.get_mut(number));
        if let Some(planned) = slot.and_then(Option::take) {
            self.cells = self.cells.saturating_sub(planned.cells_alone());
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

    #[cfg(test)]
    pub(super) fn landings(&self) -> usize {
        let plans = self.slots.iter().flatten();
        plans.map(|planned| Arc::as_ptr(&planned.plan.landing)).collect::<rustc_hash::FxHashSet<_>>().len()
    }

    /// The plans of a table go on under its new schema.
    pub(super) fn change_schema(&mut self, table: TableIndex, schema: &Arc<TableSchema>) {
        // A shape that comes anew must meet the new schema: what was dropped may be back.
        self.shared.retain(|(_, of), _| *of != table);
        // Plans that shared a landing share the one that comes of it. The old one is kept meanwhile, so that its address is nobody else's.
        let mut extended: FxHashMap<*const Landing, (Arc<Landing>, Arc<Landing>)> = FxHashMap::default();
        for planned in self.slots.iter_mut().flatten().filter(|planned| planned.table == table) {
            let landing = &mut planned.plan.landing;
            if let Some(own) = Arc::get_mut(landing) {
                self.cells += extend(own, schema);
                continue;
            }
            let (_, now) = extended.entry(Arc::as_ptr(landing)).or_insert_with(|| {
                let mut now = (**landing).clone();
                self.cells += extend(&mut now, schema);
                (Arc::clone(landing), Arc::new(now))
            });
            *landing = Arc::clone(now);
        }
    }

    /// The landing of a shape that another leaf of the table had before.
    pub(super) fn shared(&self, shape: u64, table: TableIndex) -> Option<Arc<Landing>> {
        self.shared.get(&(shape, table))?.upgrade()
    }

    pub(super) fn share(&mut self, shape: u64, table: TableIndex, landing: &Arc<Landing>) {
        if self.shared.len() >= SHARED_MAX {
            self.shared.clear();
        }
        self.shared.insert((shape, table), Arc::downgrade(landing));
    }
}

impl Planned {
    /// What nobody else's plan holds as well.
    fn cells_alone(&self) -> usize {
        if Arc::strong_count(&self.plan.landing) == 1 { cells(&self.plan.landing) } else { 0 }
    }
}

/// Gives a landing the columns that its table has got, and tells how much larger that made it.
fn extend(landing: &mut Landing, schema: &Arc<TableSchema>) -> usize {
    let before = cells(landing);
    landing.extend_to(schema);
    cells(landing) - before
}

/// What a landing holds, in column numbers.
fn cells(landing: &Landing) -> usize {
    landing.columns.len() + size_of_val(landing.absent.as_slice()) / size_of::<u32>()
}

/// 32 MiB of column numbers: 100,000 tables of 80 columns.
const CELLS_MAX: usize = 8 << 20;

/// Leaves of a table have a handful of shapes, and some tables have leaves.
const SHARED_MAX: usize = 4096;
