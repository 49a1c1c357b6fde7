//! From one version of a table's columns to the next.
//!
//! Owns: what an announced column is: a known one, a known one under a new name or type, or a new one.
//! Does not: resolve types, or ask the catalogs; the caller brings both.
//! Holds: a column is known by its `attnum` where the catalogs tell it, else by its name, else by its place between columns that stayed; where
//! none of them tells, it is a new column, and what older rows cannot show is said ([`Stale`]).
//! Fails: never; any set of columns has a next version.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Column, ColumnSpec, LakeNames, TableSchema};
use crate::lineage::ColumnFacts;

/// What the catalogs say of a table's columns now. The default knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The columns of the table.
    pub columns: Vec<ColumnFacts>,
    /// The announced relation, which may be a leaf, has there the columns that it was announced with, in that order, and perhaps newer
    /// ones. Otherwise the catalogs are of a later time than the stream, or a column list leaves columns out.
    pub agrees: bool,
    /// The announced relation is the table itself, so that its columns are in the table's order.
    pub is_of_table: bool,
    /// The announced relation has columns of its own, which are known by their names alone: neither their numbers nor their order nor what is
    /// missing says anything of the table's.
    pub by_name: Option<History>,
}

/// Whether the lake may have rows of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// It has none.
    New,
    /// It may have some, so that a column that is new to the table may be new to them.
    Written,
}

impl Catalog {
    /// Of the columns of a table, those of one of its relations if that is another one, and the names that were announced of that.
    pub fn new<'n>(
        columns: Vec<ColumnFacts>,
        of_leaf: Option<&[ColumnFacts]>,
        announced: impl Iterator<Item = &'n str>,
    ) -> Catalog {
        let of_relation = of_leaf.unwrap_or(&columns);
        let attnum = |name| of_relation.iter().find(|facts| facts.name == name).map(|facts| facts.attnum);
        let attnums: Option<Vec<i16>> = announced.map(attnum).collect();
        // One that is older than an announced one, and not announced itself, may have had that one's name.
        let is_missing = |facts: &ColumnFacts, attnums: &[i16]| {
            let is_older = attnums.last().is_some_and(|last| facts.attnum < *last);
            is_older && !facts.is_generated && !attnums.contains(&facts.attnum)
        };
        let agrees = attnums.is_some_and(|attnums| {
            attnums.is_sorted() && !of_relation.iter().any(|facts| is_missing(facts, &attnums))
        });
        Catalog { agrees, is_of_table: of_leaf.is_none(), columns, by_name: None }
    }

    /// Of the columns of a relation that has its own.
    pub fn by_name(columns: Vec<ColumnFacts>, history: History) -> Catalog {
        Catalog { columns, by_name: Some(history), ..Catalog::default() }
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
    /// The column is of the key now, or was of it until now: rows from before are told apart by another key.
    KeyChanged,
    /// The column came when the catalogs had moved on already, so that they do not tell what older rows have.
    Unclear,
}

impl StaleReason {
    /// For people and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            StaleReason::AddedWithDefault => "added with a default",
            StaleReason::TypeChanged => "its type changed",
            StaleReason::KeyChanged => "the key changed, so that rows of before are not superseded",
            StaleReason::Unclear => "what older rows have is unclear",
        }
    }
}

impl TableSchema {
    /// The version that also holds the announced `columns`, has this key and the column of old rows or not, or `None` if this one does.
    ///
    /// A column that is not among `columns` ends only if it is not in the catalogs either: a column list may leave it out, for one leaf or
    /// for all.
    pub fn evolve(
        &self,
        columns: &[ColumnSpec],
        key: &[String],
        before: bool,
        catalog: &Catalog,
    ) -> Option<Evolution> {
        let is_laid_out_so = self.before == before && same_members(&self.key, key);
        let tells_nothing = catalog.columns.is_empty() || catalog.by_name.is_some();
        if tells_nothing && self.fits(columns) && is_laid_out_so {
            return None;
        }
        let mut step = Step {
            next: TableSchema { key: key.to_vec(), before, ..self.clone() },
            names: LakeNames::taken_in(self),
            catalog,
            announced: columns,
            stale: Vec::new(),
        };
        step.rename_and_end();
        columns.iter().for_each(|spec| step.place(spec));
        let Step { mut next, mut stale, .. } = step;
        let is_same = next.columns.iter().map(Column::told).eq(self.columns.iter().map(Column::told));
        if is_same && is_laid_out_so {
            return None;
        }
        stale.extend(self.key_changed(&next));
        next.id = self.id.saturating_add(1);
        next.number_elements();
        Some(Evolution { schema: next, stale })
    }

    /// The columns of another key than before. Renamed columns are the same key, and rows without a key have all that a key needs.
    fn key_changed(&self, next: &TableSchema) -> Vec<Stale> {
        let renamed = |name: &String| {
            let column = self.position(name).and_then(|at| next.columns.get(at));
            column.map_or(name, |column| &column.source_name).clone()
        };
        let former: Vec<String> = self.key.iter().map(renamed).collect();
        if former.is_empty() || same_members(&former, &next.key) {
            return Vec::new();
        }
        let columns = if next.key.is_empty() { &former } else { &next.key };
        let stale = |name: &String| Stale { column: name.clone(), reason: StaleReason::KeyChanged };
        columns.iter().map(stale).collect()
    }

    /// The first version of a table, with what the catalogs say of its columns.
    pub fn first(
        columns: &[ColumnSpec],
        key: Vec<String>,
        catalog: &Catalog,
        reserved: Vec<String>,
    ) -> TableSchema {
        let mut schema = TableSchema::with_reserved(columns, key, reserved);
        for column in schema.columns.iter_mut().filter(|_| catalog.agrees) {
            column.attnum = catalog.of(&column.source_name).map(|facts| facts.attnum);
        }
        schema
    }

    /// Whether the live columns are known to be exactly these, in this order. Otherwise the catalogs should be asked: columns may have
    /// been renamed, dropped, or dropped and added again.
    pub fn is_settled<'n>(&self, names: impl Iterator<Item = &'n str>) -> bool {
        let live = self.in_order();
        let columns = || live.iter().filter_map(|at| self.columns.get(*at));
        names.eq(columns().map(|column| column.source_name.as_str()))
            && columns().all(|column| column.attnum.is_some())
    }

    /// The live columns, by index, in the order that they have in Postgres.
    fn in_order(&self) -> Vec<usize> {
        let live = self.columns.iter().enumerate().filter(|(_, column)| !column.dropped);
        // A column whose number is not known yet came after all whose numbers are.
        let mut order: Vec<(i16, u32, usize)> =
            live.map(|(at, column)| (column.attnum.unwrap_or(i16::MAX), column.ordinal, at)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, at)| at).collect()
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

impl Step<'_> {
    /// Gives columns that were renamed their new names, so that their values go on in the same column, and ends those that are gone.
    fn rename_and_end(&mut self) {
        if self.catalog.by_name.is_some() {
            return;
        }
        let matches = self.matches();
        self.end_removed(&matches);
        // A name may go from one column to another (a swap), so all of them are given at once.
        for (at, place) in matches {
            let Some(spec) = self.announced.get(place) else { continue };
            let Some(column) = self.next.columns.get(at).filter(|column| column.source_name != spec.name)
            else {
                continue;
            };
            let is_own = column.former_names.contains(&spec.name);
            let lake_name = if is_own { spec.name.clone() } else { self.lake_name(&spec.name) };
            if let Some(column) = self.next.columns.get_mut(at) {
                column.rename(&spec.name, lake_name);
            }
        }
    }

    /// Which live column each announced one is, under whatever name; those without are new. Both by index.
    fn matches(&self) -> Vec<(usize, usize)> {
        let mut matches: Vec<(usize, usize)> = Vec::new();
        for (place, spec) in self.announced.iter().enumerate() {
            let known = self.catalog.of(&spec.name).and_then(|facts| self.live_of(facts.attnum));
            let by_name = self.next.position(&spec.name);
            let found = match (self.catalog.agrees, known, by_name) {
                (true, Some(known), _) => Some(known),
                // It has a number, and no column has that: the one of its name is another one, if its own number is known.
                (true, None, Some(at)) => Some(at).filter(|at| self.attnum_of(*at).is_none()),
                (false, _, Some(at)) => Some(at),
                // A column that is not announced under its own name. Its number never changes, whatever the time.
                (false, Some(known), None) => Some(known).filter(|at| !self.is_announced(*at)),
                (_, None, None) => None,
            };
            matches.extend(
                found.filter(|at| matches.iter().all(|(taken, _)| taken != at)).map(|at| (at, place)),
            );
        }
        if self.catalog.agrees && self.live().all(|(_, column)| column.attnum.is_some()) {
            return matches;
        }
        let order = self.next.in_order();
        let is_ordered = |matches: &[(usize, usize)]| {
            matches.is_sorted_by_key(|(at, _)| order.iter().position(|other| other == at))
        };
        if is_ordered(&matches) {
            matches = self.fill_gaps(&order, &matches);
        } else if self.catalog.agrees || self.catalog.is_of_table {
            // Columns without a number are known by name only, and names may have been swapped.
            let numbered = |(at, _): &&(usize, usize)| self.catalog.agrees && self.attnum_of(*at).is_some();
            let anchors: Vec<(usize, usize)> = matches.iter().filter(numbered).copied().collect();
            let by_place = self.fill_gaps(&order, &anchors);
            if is_ordered(&anchors) && by_place.len() >= matches.len() {
                return by_place;
            }
        }
        self.match_lone(&order, &mut matches);
        matches
    }

    /// Columns keep their order for ever, and ADD puts new ones at the end: what stands between two that are known is known as well.
    fn fill_gaps(&self, order: &[usize], anchors: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let mut matches = Vec::new();
        let (mut columns, mut place) = (order.iter().copied(), 0);
        for (anchor, to) in anchors.iter().copied() {
            let gone: Vec<usize> = columns.by_ref().take_while(|at| *at != anchor).collect();
            matches.extend(self.fill_gap(&gone, place..to, false));
            matches.push((anchor, to));
            place = to + 1;
        }
        let gone: Vec<usize> = columns.collect();
        matches.extend(self.fill_gap(&gone, place..self.announced.len(), true));
        matches
    }

    fn fill_gap(&self, gone: &[usize], come: Range<usize>, is_tail: bool) -> Vec<(usize, usize)> {
        // What is still in the catalogs, under any name, must have been there at the stream's time too.
        let staying: Vec<usize> = gone.iter().copied().filter(|at| self.is_in_catalog(*at)).collect();
        let pairs = match () {
            () if gone.len() == come.len() || (is_tail && gone.len() < come.len()) => gone,
            () if staying.len() == come.len() || (is_tail && staying.len() < come.len()) => {
                staying.as_slice()
            }
            () => return Vec::new(),
        };
        let pairs = pairs.iter().copied().zip(come);
        pairs.filter(|(at, place)| self.may_be(*at, *place) && (!is_tail || self.is_known())).collect()
    }

    /// In a leaf that has its own order only a lone column can be told.
    fn match_lone(&self, order: &[usize], matches: &mut Vec<(usize, usize)>) {
        let gone: Vec<usize> =
            order.iter().copied().filter(|at| matches.iter().all(|(taken, _)| taken != at)).collect();
        let come: Vec<usize> = (0..self.announced.len())
            .filter(|place| matches.iter().all(|(_, taken)| taken != place))
            .collect();
        if let ([at], [place]) = (gone.as_slice(), come.as_slice())
            && self.is_known()
            && self.may_be(*at, *place)
        {
            matches.push((*at, *place));
        }
    }

    /// Whether nothing speaks against a column being the announced one.
    fn may_be(&self, at: usize, place: usize) -> bool {
        let (Some(column), Some(spec)) = (self.next.columns.get(at), self.announced.get(place)) else {
            return false;
        };
        let numbers = column.attnum.zip(self.attnum(&spec.name));
        column.codec == spec.resolved.codec && numbers.is_none_or(|(known, now)| known == now)
    }

    /// Ends the columns that Postgres does not have any more.
    fn end_removed(&mut self, matches: &[(usize, usize)]) {
        if !self.is_known() {
            return;
        }
        let ended: Vec<usize> = self
            .live()
            .map(|(at, _)| at)
            .filter(|at| matches.iter().all(|(matched, _)| matched != at) && !self.is_in_catalog(*at))
            .collect();
        for at in ended {
            if let Some(column) = self.next.columns.get_mut(at) {
                (column.dropped, column.removed) = (true, true);
            }
        }
    }

    /// Whether the catalogs have the table.
    fn is_known(&self) -> bool {
        !self.catalog.columns.is_empty()
    }

    fn is_in_catalog(&self, at: usize) -> bool {
        let Some(column) = self.next.columns.get(at) else { return false };
        match column.attnum {
            Some(attnum) => self.catalog.columns.iter().any(|facts| facts.attnum == attnum),
            None => self.catalog.of(&column.source_name).is_some(),
        }
    }

    fn is_announced(&self, at: usize) -> bool {
        let column = self.next.columns.get(at);
        column.is_some_and(|column| self.announced.iter().any(|spec| spec.name == column.source_name))
    }

    fn live(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.next.columns.iter().enumerate().filter(|(_, column)| !column.dropped)
    }

    fn live_of(&self, attnum: i16) -> Option<usize> {
        self.live().find(|(_, column)| column.attnum == Some(attnum)).map(|(at, _)| at)
    }

    fn attnum_of(&self, at: usize) -> Option<i16> {
        self.next.columns.get(at)?.attnum
    }

    /// Makes room for a column: the one that has its name, one that had it before, or a new one.
    fn place(&mut self, spec: &ColumnSpec) {
        let attnum = self.attnum(&spec.name);
        let live = self.next.position(&spec.name);
        let mut is_type_change = false;
        let missing = self.catalog.of(&spec.name).and_then(|facts| facts.missing.clone());
        if let Some(column) = live.and_then(|index| self.next.columns.get_mut(index)) {
            if column.attnum.is_none() && attnum.is_some() {
                column.attnum = attnum;
                column.initial_default =
                    column.initial_default.take().or(missing.filter(|_| column.came_later));
            }
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
        self.add(spec, attnum, live.filter(|_| is_type_change));
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

    /// Adds a column, in the place of another one whose type changed or as the last.
    fn add(&mut self, spec: &ColumnSpec, attnum: Option<i16>, replaced: Option<usize>) {
        let is_type_change = replaced.is_some();
        let name = self.lake_name(&spec.name);
        let facts = self.catalog.of(&spec.name).filter(|_| self.catalog.agrees);
        let missing = facts.and_then(|facts| facts.missing.clone()).filter(|_| !is_type_change);
        let reason = match facts {
            _ if is_type_change => Some(StaleReason::TypeChanged),
            None if self.catalog.by_name.is_some() => self.reason_by_name(spec),
            None => Some(StaleReason::Unclear),
            Some(facts) if facts.has_default || facts.missing.is_some() => {
                Some(StaleReason::AddedWithDefault)
            }
            Some(_) => None,
        };
        if let Some(reason) = reason {
            self.note(spec, reason);
        }
        self.next.add(spec, name);
        let ordinal = replaced.and_then(|at| self.next.columns.get(at)).map(|column| column.ordinal);
        if let Some(column) = self.next.columns.last_mut() {
            column.ordinal = ordinal.unwrap_or(column.ordinal);
            (column.attnum, column.initial_default, column.came_later) = (attnum, missing, !is_type_change);
        }
    }

    /// A column that a relation has for itself says nothing of the rows of others. Rows of its own may be older than the column, or have it under
    /// the name of one that is missing now.
    fn reason_by_name(&self, spec: &ColumnSpec) -> Option<StaleReason> {
        if self.catalog.by_name == Some(History::New) {
            return None;
        }
        let may_be_old =
            |(at, column): (usize, &Column)| column.codec == spec.resolved.codec && !self.is_announced(at);
        match self.catalog.of(&spec.name) {
            Some(facts) if facts.has_default || facts.missing.is_some() => {
                Some(StaleReason::AddedWithDefault)
            }
            Some(_) if !self.live().any(may_be_old) => None,
            Some(_) | None => Some(StaleReason::Unclear),
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

    fn note(&mut self, spec: &ColumnSpec, reason: StaleReason) {
        self.stale.push(Stale { column: spec.name.clone(), reason });
    }

    /// The number of a column of the stream, unless the catalogs are of a later time, when another column may have its name.
    fn attnum(&self, name: &str) -> Option<i16> {
        self.catalog.of(name).filter(|_| self.catalog.agrees).map(|facts| facts.attnum)
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
        } else if codec.reads(&self.codec)
            || (self.lake == spec.resolved.lake && self.codec.means_what(codec))
        {
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
