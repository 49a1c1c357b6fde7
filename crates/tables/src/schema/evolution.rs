//! From one version of a table's columns to the next.
//!
//! Owns: what an announced column is: a known one, a known one under a new name or type, or a new one.
//! Does not: resolve types, or ask the catalogs; the caller brings both.
//! Holds: a column is known by its `attnum` where the catalogs tell it, else by its name, else by its place between columns that stayed; where
//! none of them tells, it is a new column, and what older rows cannot show is said ([`Stale`]).
//! Fails: never; any set of columns has a next version.

use std::collections::BTreeSet;

use super::{Column, ColumnSpec, LakeNames, TableSchema};
use crate::lineage::ColumnFacts;

/// What the catalogs say of a table's columns now. The default knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The columns of the table.
    pub columns: Vec<ColumnFacts>,
    /// The announced relation, which may be a leaf, has there all columns that it was announced with, in that order. Otherwise the catalogs
    /// are of a later time than the stream.
    pub agrees: bool,
}

impl Catalog {
    /// Of the columns of a table, those of the announced relation, and the announced names.
    pub fn new<'n>(
        columns: Vec<ColumnFacts>,
        of_relation: &[ColumnFacts],
        announced: impl Iterator<Item = &'n str>,
    ) -> Catalog {
        let attnum = |name| of_relation.iter().find(|facts| facts.name == name).map(|facts| facts.attnum);
        let attnums: Option<Vec<i16>> = announced.map(attnum).collect();
        Catalog { columns, agrees: attnums.is_some_and(|attnums| attnums.is_sorted()) }
    }

    fn of(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns.iter().find(|facts| facts.name == name)
    }
}

/// The next version of a table's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evolution {
    /// The version.
    pub schema: TableSchema,
    /// What rows written before may have wrong by now.
    pub stale: Vec<Stale>,
}

/// Rows in the lake may differ from Postgres in a column, and no change will ever say how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The column, by its Postgres name.
    pub column: String,
    /// Why.
    pub reason: StaleReason,
}

/// Why rows in the lake may differ from Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReason {
    /// The column was added with a default, which older rows have without a change of theirs (T39).
    AddedWithDefault,
    /// The column's type changed, which rewrote older rows without a change of theirs (T40).
    TypeChanged,
    /// The column took the place of another one, and nobody can tell whether it is that one under a new name.
    PerhapsRenamed,
}

impl StaleReason {
    /// For people and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            StaleReason::AddedWithDefault => "added with a default",
            StaleReason::TypeChanged => "its type changed",
            StaleReason::PerhapsRenamed => "perhaps renamed",
        }
    }
}

impl TableSchema {
    /// The version that also holds the announced `columns` and has this key, or `None` if this one does.
    ///
    /// A column that is not among `columns` ends only if it is not in the catalogs either: a column list may leave it out, for one leaf or
    /// for all.
    pub fn evolve(&self, columns: &[ColumnSpec], key: &[String], catalog: &Catalog) -> Option<Evolution> {
        if catalog.columns.is_empty() && self.fits(columns) && same_members(&self.key, key) {
            return None;
        }
        let mut step = Step {
            next: TableSchema { key: key.to_vec(), ..self.clone() },
            names: LakeNames::taken_by(&self.columns),
            catalog,
            announced: columns,
            stale: Vec::new(),
        };
        step.rename();
        step.end_removed();
        columns.iter().for_each(|spec| step.place(spec));
        let Step { mut next, stale, .. } = step;
        let is_same = next.columns.iter().map(Column::told).eq(self.columns.iter().map(Column::told));
        if is_same && same_members(&self.key, key) {
            return None;
        }
        next.id = self.id.saturating_add(1);
        next.number_elements();
        Some(Evolution { schema: next, stale })
    }

    /// The first version of a table, with what the catalogs say of its columns.
    pub fn first(columns: &[ColumnSpec], key: Vec<String>, catalog: &Catalog) -> TableSchema {
        let mut schema = TableSchema::new(columns, key);
        for column in &mut schema.columns {
            column.attnum = catalog.of(&column.source_name).map(|facts| facts.attnum);
        }
        schema
    }

    /// Whether the live columns have exactly these names, in this order. Otherwise the catalogs should be asked: columns may have been
    /// renamed, dropped, or dropped and added again.
    pub fn has_names<'n>(&self, names: impl Iterator<Item = &'n str>) -> bool {
        names.eq(self
            .columns
            .iter()
            .filter(|column| !column.dropped)
            .map(|column| column.source_name.as_str()))
    }

    /// Whether every one of these columns has a live column that reads it.
    fn fits(&self, columns: &[ColumnSpec]) -> bool {
        columns.iter().enumerate().all(|(place, spec)| {
            // Most relations have the order of their table.
            let column = self.columns.get(place).filter(|column| column.is_live_as(&spec.name));
            let column = column.or_else(|| self.columns.get(self.position(&spec.name)?));
            column.is_some_and(|column| column.judge(spec) == Verdict::Fits)
        })
    }
}

/// A version in the making.
struct Step<'s> {
    next: TableSchema,
    names: LakeNames,
    catalog: &'s Catalog,
    announced: &'s [ColumnSpec],
    stale: Vec<Stale>,
}

impl<'s> Step<'s> {
    /// Gives columns that were renamed their new names, so that their values go on in the same column.
    fn rename(&mut self) {
        let mut renames: Vec<(usize, &ColumnSpec)> = Vec::new();
        for spec in self.announced {
            if self.next.position(&spec.name).is_some_and(|at| !self.is_reused_name(at)) {
                continue;
            }
            let Some(attnum) = self.attnum(&spec.name) else { continue };
            let known =
                self.next.columns.iter().position(|column| !column.dropped && column.attnum == Some(attnum));
            if let Some(at) = known {
                renames.push((at, spec));
            }
        }
        if renames.is_empty() {
            renames = self.renamed_by_place();
        }
        // A name may go from one column to another (a swap), so all of them are given at once.
        for (at, spec) in renames {
            let is_own =
                self.next.columns.get(at).is_some_and(|column| column.former_names.contains(&spec.name));
            let lake_name = if is_own { spec.name.clone() } else { self.lake_name(&spec.name) };
            if let Some(column) = self.next.columns.get_mut(at) {
                column.rename(&spec.name, lake_name);
            }
        }
    }

    /// Whether the name of a live column is by now the name of another column that is live too (two names were swapped).
    fn is_reused_name(&self, at: usize) -> bool {
        let Some(column) = self.next.columns.get(at) else { return false };
        let (Some(known), Some(now)) = (column.attnum, self.attnum(&column.source_name)) else {
            return false;
        };
        let is_live =
            |attnum| self.next.columns.iter().any(|other| !other.dropped && other.attnum == Some(attnum));
        known != now && is_live(now) && self.catalog.agrees
    }

    /// Without the catalogs, a new name between two columns that stayed is the old column there: ADD puts columns at the end.
    fn renamed_by_place(&self) -> Vec<(usize, &'s ColumnSpec)> {
        let live = || self.next.columns.iter().enumerate().filter(|(_, column)| !column.dropped);
        let is_announced = |name: &str| self.announced.iter().any(|spec| spec.name == name);
        let stayed = |name: &str| self.next.position(name).is_some();
        let before = live().map(|(_, column)| column.source_name.as_str()).filter(|name| is_announced(name));
        let after = self.announced.iter().map(|spec| spec.name.as_str()).filter(|name| stayed(name));
        if !before.eq(after) {
            // A leaf whose columns are in another order says nothing about places.
            return Vec::new();
        }
        let mut renames = Vec::new();
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        let mut columns = live();
        for spec in self.announced {
            if !stayed(&spec.name) {
                come.push(spec);
                continue;
            }
            for (at, column) in columns.by_ref().take_while(|(_, column)| column.source_name != spec.name) {
                gone.push((at, column));
            }
            let agree = |((_, column), spec): (&(usize, &Column), &&ColumnSpec)| {
                self.attnum(&spec.name).is_none() && column.judge(spec) != Verdict::Replaces
            };
            if gone.len() == come.len() && gone.iter().zip(&come).all(agree) {
                renames.extend(gone.iter().map(|(at, _)| *at).zip(come.iter().copied()));
            }
            gone.clear();
            come.clear();
        }
        renames
    }

    /// Ends the columns that Postgres does not have any more.
    fn end_removed(&mut self) {
        if self.catalog.columns.is_empty() {
            return;
        }
        for at in 0..self.next.columns.len() {
            let Some(column) = self.next.columns.get(at).filter(|column| !column.dropped) else { continue };
            let is_announced = self.announced.iter().any(|spec| spec.name == column.source_name);
            let in_catalog = match column.attnum {
                Some(attnum) => self.catalog.columns.iter().any(|facts| facts.attnum == attnum),
                None => self.catalog.of(&column.source_name).is_some(),
            };
            // Dropped and made anew under its name: only a catalog of the stream's own time can tell.
            let is_another = is_announced && !in_catalog && self.catalog.agrees;
            if (!is_announced && !in_catalog) || is_another {
                if let Some(column) = self.next.columns.get_mut(at) {
                    column.dropped = true;
                    column.removed = true;
                }
            }
        }
    }

    /// Makes room for a column: the one that has its name, one that had it before, or a new one.
    fn place(&mut self, spec: &ColumnSpec) {
        let attnum = self.attnum(&spec.name);
        let live = self.next.position(&spec.name);
        let mut is_type_change = false;
        if let Some(column) = live.and_then(|index| self.next.columns.get_mut(index)) {
            column.attnum = column.attnum.or(attnum);
            let was_read = column.codec == spec.resolved.codec;
            match column.judge(spec) {
                Verdict::Fits => return,
                Verdict::Adopts => {
                    column.adopt(spec);
                    if !was_read {
                        self.note(spec, StaleReason::TypeChanged);
                    }
                    return;
                }
                Verdict::Replaces => {
                    column.dropped = true;
                    is_type_change = true;
                }
            }
        }
        let attnum = attnum.or_else(|| live.and_then(|at| self.next.columns.get(at)?.attnum));
        if let Some(at) = self.column_of_before(spec, live, attnum) {
            let Some(column) = self.next.columns.get_mut(at) else { return };
            (column.dropped, column.removed) = (false, false);
            if column.judge(spec) == Verdict::Adopts {
                column.adopt(spec);
            }
            if is_type_change {
                self.note(spec, StaleReason::TypeChanged);
            }
            return;
        }
        self.add(spec, attnum, is_type_change);
    }

    /// A column that ended and is back. After a restart the stream may repeat rows from before a change, and neither they nor what follows
    /// may add a column each time; a column list may leave a column out and take it back.
    fn column_of_before(&self, spec: &ColumnSpec, live: Option<usize>, attnum: Option<i16>) -> Option<usize> {
        self.next.columns.iter().enumerate().position(|(index, column)| {
            let is_same = !column.removed || (attnum.is_some() && column.attnum == attnum);
            column.dropped
                && Some(index) != live
                && is_same
                && column.source_name == spec.name
                && column.judge(spec) != Verdict::Replaces
        })
    }

    fn add(&mut self, spec: &ColumnSpec, attnum: Option<i16>, is_type_change: bool) {
        let name = self.lake_name(&spec.name);
        let facts = self.catalog.of(&spec.name);
        let missing = facts.and_then(|facts| facts.missing.clone()).filter(|_| !is_type_change);
        if is_type_change {
            self.note(spec, StaleReason::TypeChanged);
        } else if facts.is_some_and(|facts| facts.has_default || facts.missing.is_some()) {
            self.note(spec, StaleReason::AddedWithDefault);
        } else if facts.is_none() && self.lost_a_column() {
            self.note(spec, StaleReason::PerhapsRenamed);
        }
        self.next.add(spec, name);
        if let Some(column) = self.next.columns.last_mut() {
            (column.attnum, column.initial_default) = (attnum, missing);
        }
    }

    /// The lake name of a new or renamed column: never one that another column has or had.
    fn lake_name(&mut self, source_name: &str) -> String {
        let of_same_name = self.next.columns.iter().find(|column| column.source_name == source_name);
        let holds = |column: &&Column| {
            column.name == source_name || column.former_names.iter().any(|name| name == source_name)
        };
        let holder = self.next.columns.iter().find(holds).map(|_| source_name);
        match of_same_name.map(|column| column.name.as_str()).or(holder) {
            Some(taken) => self.names.numbered(taken),
            None => self.names.of(source_name),
        }
    }

    /// Whether a live column is not announced.
    fn lost_a_column(&self) -> bool {
        let is_announced = |name: &str| self.announced.iter().any(|spec| spec.name == name);
        self.next.columns.iter().any(|column| !column.dropped && !is_announced(&column.source_name))
    }

    fn note(&mut self, spec: &ColumnSpec, reason: StaleReason) {
        self.stale.push(Stale { column: spec.name.clone(), reason });
    }

    fn attnum(&self, name: &str) -> Option<i16> {
        self.catalog.of(name).map(|facts| facts.attnum)
    }
}

/// What a column does with an announced one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Reads its cells as it is.
    Fits,
    /// Takes its type over, and keeps its field id.
    Adopts,
    /// Ends; a new column takes the cells.
    Replaces,
}

impl Column {
    fn judge(&self, spec: &ColumnSpec) -> Verdict {
        let codec = &spec.resolved.codec;
        if self.codec == *codec {
            // Leaves, and rows repeated after a restart, may lag behind: only a wider one is news.
            let is_known =
                self.type_oid == spec.type_oid && !is_wider_modifier(spec.type_modifier, self.type_modifier);
            return if is_known { Verdict::Fits } else { Verdict::Adopts };
        }
        if self.codec.reads(codec) {
            Verdict::Fits
        } else if codec.reads(&self.codec) || self.lake == spec.resolved.lake {
            Verdict::Adopts
        } else {
            Verdict::Replaces
        }
    }

    fn adopt(&mut self, spec: &ColumnSpec) {
        self.type_oid = spec.type_oid;
        self.type_modifier = spec.type_modifier;
        self.type_name = spec.resolved.type_name.clone();
        self.codec = spec.resolved.codec.clone();
        self.lake = spec.resolved.lake.clone();
    }

    fn rename(&mut self, source_name: &str, lake_name: String) {
        source_name.clone_into(&mut self.source_name);
        let former = std::mem::replace(&mut self.name, lake_name);
        self.former_names.retain(|name| *name != self.name);
        self.former_names.push(former);
    }

    /// All that a version tells of it; an `attnum` that became known is no news.
    fn told(&self) -> Column {
        Column { attnum: None, ..self.clone() }
    }
}

fn is_wider_modifier(modifier: i32, than: i32) -> bool {
    than >= 0 && (modifier < 0 || modifier > than)
}

fn same_members(one: &[String], other: &[String]) -> bool {
    one == other || one.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>()
}

#[cfg(test)]
mod tests;
