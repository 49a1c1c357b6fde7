//! Where the rows of a relation go: worked out once, at the first row after an announcement.
//!
//! Owns: the way from a relation to its table and the columns of it, and the making of tables and schema versions.
//! Does not: run for a relation that sends no row, or a second time for a plan that holds.
//! Holds: looking for what is missing changes nothing, so that a message can be applied again.
//! Fails: [`FoldError`], when a number has no room.

use std::sync::{Arc, Weak};

use pgoutput::{Oid, ReplicaIdentity};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Fold, FoldError, FoldEvent, GroupProblem, Table};
use crate::change::{Landing, Plan, TableIndex};
use crate::relation::{Shape, ShapeColumn, Target};
use crate::schema::{Catalog, ColumnSpec, Evolution, History, TableSchema};

/// What must be looked up before a relation's rows can go anywhere.
#[derive(Default)]
pub(super) struct Missing {
    pub(super) relations: Vec<Oid>,
    pub(super) types: Vec<Oid>,
    /// Relations whose columns have to be looked up.
    pub(super) columns: Vec<Oid>,
}

impl Missing {
    pub(super) fn is_empty(&self) -> bool {
        self.relations.is_empty() && self.types.is_empty() && self.columns.is_empty()
    }

    pub(super) fn sorted(mut self) -> Missing {
        for oids in [&mut self.relations, &mut self.types, &mut self.columns] {
            oids.sort_unstable();
            oids.dedup();
        }
        self
    }
}

/// Whose rows a relation's rows are.
enum Owner {
    /// This table's: its root's, or its own.
    Table(Oid),
    /// Nobody knows; it gets a table of its own.
    Orphan,
    /// To be asked of the catalogs.
    Ask(Oid),
}

impl Fold {
    /// Adds what is not known of a relation. Changes nothing.
    pub(super) fn missing_for(&self, oid: Oid, missing: &mut Missing) {
        match self.owner(oid) {
            Owner::Ask(relation) => missing.relations.push(relation),
            Owner::Table(owner) if !self.is_selected(owner) => return,
            Owner::Table(owner) => {
                self.missing_columns_for(oid, owner, missing);
                self.missing_leaves_for(oid, owner, missing);
            }
            Owner::Orphan => {}
        }
        let columns = self.relations.shape(oid).map(|shape| shape.columns.iter()).unwrap_or_default();
        let unknown = columns.filter_map(|column| self.types.missing(column.type_oid));
        missing.types.extend(unknown.filter(|unknown| !self.types_gone.contains(unknown)));
    }

    /// The catalogs are asked for the columns of a table that is new, or whose names changed: only they tell a renamed column from one that
    /// was dropped and another that was added. Of a leaf they tell what older rows of it have.
    fn missing_columns_for(&self, oid: Oid, owner: Oid, missing: &mut Missing) {
        let Some(shape) = self.relations.shape(oid) else { return };
        if let Some(&table) = self.table_of.get(&owner) {
            let names = shape.columns.iter().map(|column| &*column.name);
            if self.plans.shared(shape.id, table).is_some() || self.table(table).current.is_settled(names) {
                return;
            }
        }
        // Columns of a leaf that has its own are none of the table's.
        let relations = if self.is_loose(owner) { [oid, oid] } else { [owner, oid] };
        let unknown = relations.into_iter().filter(|relation| !self.columns.contains_key(relation));
        missing.columns.extend(unknown);
    }

    /// A relation that was announced and is in no catalog that was read may be a leaf whose rows come under this name (T24).
    fn missing_leaves_for(&self, oid: Oid, owner: Oid, missing: &mut Missing) {
        let is_full = self.relations.shape(oid).is_some_and(|shape| shape.identity == ReplicaIdentity::Full);
        if is_full && oid == owner && self.keeps_before(owner) {
            let unknown = self.partial.iter().copied().filter(|leaf| self.is_unknown(*leaf));
            missing.relations.extend(unknown.filter(|leaf| !self.lineage.is_gone(*leaf)));
        }
    }

    /// Whether nobody knows yet if the relation is a leaf.
    pub(super) fn is_unknown(&self, oid: Oid) -> bool {
        self.lineage.name(oid).is_none() && !self.table_of.contains_key(&oid)
    }

    /// Whether an old row of the relation that looks whole may not be: it comes from a leaf with another identity than FULL (T24).
    fn may_have_partial_leaf(&self, oid: Oid, owner: Oid) -> bool {
        let is_leaf = |leaf: Oid| {
            let is_partition = self.lineage.root_of(leaf) == oid && !self.lineage.is_by_rule(leaf);
            leaf != oid && (is_partition || self.is_unknown(leaf))
        };
        oid == owner && self.keeps_before(owner) && self.partial.iter().any(|leaf| is_leaf(*leaf))
    }

    /// Whether the files of a table have the column of old rows.
    fn keeps_before(&self, owner: Oid) -> bool {
        self.names(owner).any(|(schema, name)| self.settings.before.includes(schema, name))
    }

    /// The name that a table has in the lake, and the one that it has now.
    fn names(&self, owner: Oid) -> impl Iterator<Item = (&str, &str)> + Clone {
        let in_lake = self.table_of.get(&owner).map(|&index| self.table(index));
        let in_lake = in_lake.map(|table| (table.schema_name.as_str(), table.name.as_str()));
        in_lake.into_iter().chain(self.lineage.name(owner).or_else(|| self.relations.name(owner)))
    }

    /// What the catalogs said of the columns of a table, when one of its relations was announced. Used up: the next change is asked for anew.
    fn take_catalog(&mut self, oid: Oid, owner: Oid, shape: &Shape) -> Catalog {
        let names = shape.columns.iter().map(|column| &*column.name);
        let of_relation = self.columns.remove(&oid).unwrap_or_default();
        if self.is_loose(owner) {
            let is_written = oid == owner || self.written.contains(&oid);
            return Catalog::by_name(of_relation, if is_written { History::Written } else { History::New });
        }
        if oid == owner {
            return Catalog::new(of_relation, None, names);
        }
        let mut columns = self.columns.remove(&owner).unwrap_or_default();
        // A partitioned table stores no rows, so that only its leaves know what older ones have.
        for column in columns.iter_mut().filter(|column| column.missing.is_none()) {
            let same = of_relation.iter().find(|other| other.name == column.name);
            column.missing = same.and_then(|other| other.missing.clone());
        }
        Catalog::new(columns, Some(&of_relation), names)
    }

    /// Works out where the rows of a relation go. Call only when nothing is missing for it.
    pub(super) fn plan(&mut self, oid: Oid) -> Result<Target, FoldError> {
        let (owner, orphan) = match self.owner(oid) {
            Owner::Table(owner) => (owner, false),
            Owner::Orphan => (oid, true),
            Owner::Ask(_) => return Err(FoldError::UnknownRelation { relation: oid }),
        };
        let selected = if orphan { !self.is_unwanted(oid) } else { self.is_selected(owner) };
        if !selected {
            return Ok(Target::Excluded);
        }
        let (index, shared) = self.landing(oid, owner)?;
        let told = self.told_by_name(oid, owner, index);
        let table = self.table(index);
        let own_name = (table.schema_name.as_str(), table.name.as_str());
        let leaf_name = self.lineage.name(oid).filter(|_| owner != oid);
        let (schema, name) = leaf_name.unwrap_or(own_name);
        let relation: Arc<str> = format!("{schema}.{name}").into();
        if orphan {
            self.events.push(FoldEvent::Orphan { oid, name: relation.to_string() });
        }
        let old_is_whole = !self.may_have_partial_leaf(oid, owner);
        let is_own = !told.is_empty() || old_is_whole != shared.old_is_whole;
        let landing = if is_own {
            let text = |place: &u32| told.get(place).cloned();
            let absent = shared.absent.iter().map(|(place, _)| (*place, text(place))).collect();
            Arc::new(Landing { absent, old_is_whole, ..(*shared).clone() })
        } else {
            shared
        };
        if self.is_loose(owner) {
            self.written.insert(oid);
        }
        let plan = Plan { relation, landing };
        let number = self.plans.insert(index, plan);
        let number = number.ok_or(FoldError::TooMany { what: "plans" })?;
        if owner == oid && self.lineage.has_leaves(oid) {
            let leaves = self.relations.shapes().map(|(leaf, _)| leaf);
            let leaves: Vec<Oid> =
                leaves.filter(|leaf| *leaf != oid && self.lineage.root_of(*leaf) == oid).collect();
            self.clashes.remove(&oid);
            leaves.into_iter().for_each(|leaf| self.compare_identity(oid, leaf));
        }
        if let Some(leaf) = self.lineage.mixed_leaf(oid).filter(|_| owner == oid) {
            self.events.push(FoldEvent::IdentityDiffers { root: oid, leaf });
        }
        Ok(Target::Plan(number))
    }

    /// What the name of a leaf says of all of its rows: texts, by the places of their columns in the table.
    fn told_by_name(&mut self, oid: Oid, owner: Oid, table: TableIndex) -> FxHashMap<u32, Arc<str>> {
        let mut told = FxHashMap::default();
        let groups = if owner == oid { Vec::new() } else { self.groups(owner) };
        if groups.is_empty() {
            return told;
        }
        let patterns = &self.settings.patterns;
        let values = |name| patterns.values(self.names(owner), name);
        let values = self.lineage.telling_names(oid).find_map(values);
        let values: FxHashMap<String, String> =
            values.unwrap_or_default().into_iter().map(|(group, text)| (group.to_owned(), text)).collect();
        for group in groups {
            let shape = self.relations.shape(oid);
            let is_own = shape.is_some_and(|shape| shape.columns.iter().any(|column| *column.name == *group));
            let schema = &self.table(table).current;
            let is_text = |at: &usize| {
                schema.columns.get(*at).is_some_and(|column| {
                    column.codec == ColumnSpec::of_group(&self.types, &group).resolved.codec
                })
            };
            let place = schema.position(&group).filter(is_text).and_then(|at| u32::try_from(at).ok());
            let problem = match (place, values.get(&group)) {
                _ if is_own => GroupProblem::HasColumn,
                (None, _) => GroupProblem::OtherType,
                (Some(_), None) => GroupProblem::NotInName,
                (Some(place), Some(text)) => {
                    told.insert(place, Arc::from(text.as_str()));
                    continue;
                }
            };
            if self.group_problems.insert((table, group.clone(), problem)) {
                let relation = self.lineage.name(oid).map(|(schema, name)| format!("{schema}.{name}"));
                let relation = relation.unwrap_or_default();
                self.events.push(FoldEvent::Group { table, relation, column: group, problem });
            }
        }
        told
    }

    /// The columns that a table has by the patterns that lead to it.
    fn groups(&self, owner: Oid) -> Vec<String> {
        let groups = self.settings.patterns.groups_of(self.names(owner));
        groups.into_iter().map(str::to_owned).collect()
    }

    /// Whether the leaves of a table have columns of their own, so that these are known by their names alone.
    fn is_loose(&self, owner: Oid) -> bool {
        self.lineage.is_loose(owner) || self.settings.patterns.lead_to(self.names(owner))
    }

    /// Rows that come under the root's name hold, of an old row, what the leaf's identity has: that must be the root's key, or all.
    pub(super) fn compare_identity(&mut self, root: Oid, leaf: Oid) {
        let (Some(&table), Some(shape), Some(of_root)) =
            (self.table_of.get(&root), self.relations.shape(leaf), self.relations.shape(root))
        else {
            return;
        };
        if self.lineage.is_by_rule(leaf) {
            return;
        }
        // What a leaf was announced with before its columns were altered tells nothing; it is announced again before its
        // next row.
        let names = |shape: &Shape| -> FxHashSet<Box<str>> {
            shape.columns.iter().map(|column| column.name.clone()).collect()
        };
        let is_of_now = names(shape) == names(of_root);
        let key = &self.table(table).current.key;
        let flagged = shape.columns.iter().filter(|column| column.is_identity);
        let is_clash = match shape.identity {
            // All columns are there; or updates and deletes fail at the source.
            ReplicaIdentity::Full | ReplicaIdentity::Nothing => false,
            ReplicaIdentity::Default | ReplicaIdentity::Index => {
                let mut flagged_count = 0;
                let all_in_key = flagged
                    .inspect(|_| flagged_count += 1)
                    .all(|column| key.iter().any(|name| *name == *column.name));
                flagged_count > 0 && !key.is_empty() && !(all_in_key && flagged_count == key.len())
            }
        };
        if is_clash && is_of_now {
            self.clashes.insert(root, leaf);
        } else if self.clashes.get(&root) == Some(&leaf) {
            self.clashes.remove(&root);
        }
    }

    pub(super) fn clash(&self, root: Oid, leaf: Oid) -> FoldError {
        let name = |oid| {
            self.lineage
                .name(oid)
                .map_or_else(|| format!("relation {oid}"), |(schema, name)| format!("{schema}.{name}"))
        };
        let key = self.table_of.get(&root).map(|&table| self.table(table).current.key.join(", "));
        FoldError::IdentityClash { root: name(root), leaf: name(leaf), key: key.unwrap_or_default() }
    }

    fn owner(&self, oid: Oid) -> Owner {
        let has_table = |oid: Oid| self.table_of.contains_key(&oid);
        if !self.settings.fold_to_root {
            let known = self.lineage.name(oid).is_some() || has_table(oid);
            return match self.lineage.is_gone(oid) {
                _ if known => Owner::Table(oid),
                true => Owner::Orphan,
                false => Owner::Ask(oid),
            };
        }
        let root = self.lineage.root_of(oid);
        match self.lineage.is_gone(root) {
            _ if self.lineage.has_root(root) || has_table(root) => Owner::Table(root),
            true => Owner::Orphan,
            false => Owner::Ask(root),
        }
    }

    /// Whether a table is wanted: under its name of now, or the one it has in the lake, so that a rename does
    /// not end it (T28).
    pub(super) fn is_selected(&self, owner: Oid) -> bool {
        let selection = &self.settings.selection;
        let Some((schema, name)) = self.lineage.name(owner) else { return !self.is_unwanted(owner) };
        let in_lake = self.table_of.get(&owner).map(|&index| self.table(index));
        selection.includes(schema, name)
            || in_lake.is_some_and(|table| selection.includes(&table.schema_name, &table.name))
    }

    /// Whether a relation that the catalogs do not know is unwanted. It may have been a leaf of any table, so it is
    /// not for `include` to leave it out.
    fn is_unwanted(&self, oid: Oid) -> bool {
        let in_lake = self.table_of.get(&oid).map(|&index| self.table(index));
        let in_lake = in_lake.map(|table| (table.schema_name.as_str(), table.name.as_str()));
        let name = in_lake.or_else(|| self.lineage.name(oid)).or_else(|| self.relations.name(oid));
        name.is_some_and(|(schema, name)| self.settings.selection.excludes(schema, name))
    }

    /// Where the cells of the relation's shape land, in a table that has a column for each: as all relations have it that know no better.
    fn landing(&mut self, oid: Oid, owner: Oid) -> Result<(TableIndex, Arc<Landing>), FoldError> {
        let shape = self.relations.shape(oid).ok_or(FoldError::UnknownRelation { relation: oid })?;
        let shape = Arc::clone(shape);
        let known = self.table_of.get(&owner).copied();
        let groups = self.groups(owner);
        // A root has no twin to share with, and its word on the key counts for more than a leaf's.
        let is_leaf = owner != oid;
        let shared = |table| Some((table, self.plans.shared(shape.id, table)?));
        if let Some(shared) = known.filter(|_| is_leaf).and_then(shared) {
            return Ok(shared);
        }
        let has = |name: &str| shape.columns.iter().any(|column| *column.name == *name);
        let mut specs: Vec<ColumnSpec> = groups
            .iter()
            .filter(|group| !has(group))
            .map(|group| ColumnSpec::of_group(&self.types, group))
            .collect();
        specs.extend(self.specs(owner, &shape));
        let key = self.key(oid, owner, &shape, &groups);
        let positions = positions(&shape, &key)?;
        let catalog = self.take_catalog(oid, owner, &shape);
        let table = match known {
            Some(table) => self.evolve(table, &specs, key, is_leaf, &catalog),
            None => {
                let schema = TableSchema::first(&specs, key, &catalog, self.reserved.of(self.names(owner)));
                self.add_table(oid, owner, TableSchema { before: self.keeps_before(owner), ..schema })?
            }
        };
        let (columns, schema) = (self.columns(oid, table, &shape)?, Arc::clone(&self.table(table).current));
        let absent = Landing::absent(&schema, &columns);
        let landing = Arc::new(Landing { schema, columns, absent, key: positions, old_is_whole: true });
        if is_leaf {
            self.plans.share(shape.id, table, &landing);
        }
        Ok((table, landing))
    }

    /// The columns of a shape with their lake types; rules for columns name the table as the lake does, or as it is now.
    fn specs(&self, owner: Oid, shape: &Shape) -> Vec<ColumnSpec> {
        let names = self.names(owner);
        let spec = |column: &ShapeColumn| {
            let (oid, modifier) = (column.type_oid, column.type_modifier);
            let names = names.clone();
            ColumnSpec {
                name: column.name.to_string(),
                type_oid: oid,
                type_modifier: modifier,
                resolved: self.types.resolve_column(names, &column.name, oid, modifier),
            }
        };
        shape.columns.iter().map(spec).collect()
    }

    /// What identifies a row of this shape, by Postgres names. FULL flags every column (T07), so there only
    /// the catalogs know the key; without one a row is identified by all that it holds.
    /// What the names of leaves tell (`groups`) comes before it.
    fn key(&self, oid: Oid, owner: Oid, shape: &Shape, groups: &[String]) -> Vec<String> {
        let has = |name: &str| shape.columns.iter().any(|column| *column.name == *name);
        let current = self.table_of.get(&owner).map(|&index| self.table(index).current.key.as_slice());
        let current = current.unwrap_or_default().iter().filter(|name| has(name) || !groups.contains(name));
        let current: Vec<String> = current.cloned().collect();
        let mut primary = self.lineage.primary_key(owner);
        if primary.is_empty() {
            primary = self.lineage.primary_key(self.lineage.root_of(owner));
        }
        if primary.is_empty() && !self.lineage.has_root(owner) {
            primary = current.iter().map(String::as_str).collect();
        }
        if !primary.iter().all(|name| has(name)) {
            // The catalogs are of another time than the stream: the key of before, if it is still there.
            primary = match current.is_empty() {
                true => self.names_of_then(oid, shape, &primary).unwrap_or_default(),
                false => current
                    .iter()
                    .map(String::as_str)
                    .filter(|_| current.iter().all(|name| has(name)))
                    .collect(),
            };
        }
        let flagged = || shape.columns.iter().filter(|column| column.is_identity).map(|column| &*column.name);
        let key: Vec<&str> = match shape.identity {
            ReplicaIdentity::Full => primary.clone(),
            ReplicaIdentity::Default | ReplicaIdentity::Nothing | ReplicaIdentity::Index
                if flagged().next().is_none() =>
            {
                primary.clone()
            }
            ReplicaIdentity::Default | ReplicaIdentity::Nothing | ReplicaIdentity::Index => {
                flagged().collect()
            }
        };
        let key = if key.is_empty() && shape.identity != ReplicaIdentity::Full {
            self.leaf_key(owner).into_iter().filter(|name| has(name)).collect()
        } else {
            key
        };
        // Leaves have their columns in any order; a key does not change with it.
        let same = |other: &[&str]| other.len() == key.len() && other.iter().all(|name| key.contains(name));
        let current: Vec<&str> = current.iter().map(String::as_str).collect();
        let ordered = [current, primary].into_iter().find(|known| same(known)).unwrap_or(key);
        if ordered.is_empty() {
            return Vec::new();
        }
        let told = groups.iter().map(String::as_str).filter(|group| !ordered.contains(group));
        told.chain(ordered.iter().copied()).map(str::to_owned).collect()
    }

    /// What columns of now were called when the relation was announced with this shape (T28), where their neighbours tell: columns keep their
    /// order for ever, and ADD puts new ones at the end, so that what stands between two others stood there under any name.
    fn names_of_then<'s>(&self, oid: Oid, shape: &'s Shape, names: &[&str]) -> Option<Vec<&'s str>> {
        let columns = self.columns.get(&oid)?.iter().filter(|facts| !facts.is_generated);
        let now: Vec<&str> = columns.map(|facts| facts.name.as_str()).collect();
        let then = |name: &str| shape.columns.iter().position(|column| *column.name == *name);
        // Where those that kept their names stand now, and where they stood.
        let kept = now.iter().enumerate().filter_map(|(at, name)| Some((at, then(name)?)));
        let kept: Vec<(usize, usize)> = kept.collect();
        if !kept.is_sorted_by_key(|(_, then)| *then) {
            return None;
        }
        let name_of_then = |name: &&str| {
            if let Some(kept) = then(name) {
                return shape.columns.get(kept).map(|column| &*column.name);
            }
            let at = now.iter().position(|other| other == name)?;
            let before = kept.iter().rfind(|(kept, _)| *kept < at);
            let (begin_now, begin_then) = before.map_or((0, 0), |(now, then)| (now + 1, then + 1));
            let (end_now, end_then) = *kept.iter().find(|(kept, _)| *kept > at)?;
            let is_alike = end_now - begin_now == end_then - begin_then;
            let column = shape.columns.get(begin_then + (at - begin_now)).filter(|_| is_alike)?;
            Some(&*column.name)
        };
        names.iter().map(name_of_then).collect()
    }

    /// A root without a key may have leaves with one, whose columns are then all that its old rows hold (T25). They
    /// are announced beside it.
    fn leaf_key(&self, root: Oid) -> Vec<&str> {
        if !self.lineage.has_leaves(root) {
            return Vec::new();
        }
        let leaves = self.relations.shapes().filter(|(oid, shape)| {
            let flagged = shape.columns.iter().any(|column| column.is_identity);
            flagged && shape.identity != ReplicaIdentity::Full && self.lineage.root_of(*oid) == root
        });
        let first = leaves.min_by_key(|(oid, _)| *oid).map(|(_, shape)| shape.columns.iter());
        let flagged = first.unwrap_or_default().filter(|column| column.is_identity);
        flagged.map(|column| &*column.name).collect()
    }

    /// Brings a table up to the columns and the key of a relation.
    fn evolve(
        &mut self,
        index: TableIndex,
        specs: &[ColumnSpec],
        key: Vec<String>,
        is_leaf: bool,
        catalog: &Catalog,
    ) -> TableIndex {
        let owner = self.table(index).oid;
        let (before, is_loose) = (self.keeps_before(owner), self.is_loose(owner));
        let current = &self.table(index).current;
        // One leaf without a key does not take the key of all others away.
        let key = if (is_leaf || is_loose) && key.is_empty() { current.key.clone() } else { key };
        let Some(Evolution { schema, stale }) = current.evolve(specs, &key, before, catalog) else {
            return index;
        };
        let (from, to) = (current.id, schema.id);
        let schema = Arc::new(schema);
        self.plans.change_schema(index, &schema);
        if let Some(table) = usize::try_from(index.0).ok().and_then(|at| self.tables.get_mut(at)) {
            table.current = schema;
        }
        self.events.push(FoldEvent::SchemaChanged { table: index, from, to });
        self.events.extend(stale.into_iter().map(|stale| FoldEvent::Stale { table: index, stale }));
        index
    }

    fn add_table(&mut self, oid: Oid, owner: Oid, schema: TableSchema) -> Result<TableIndex, FoldError> {
        let name = self.lineage.name(owner).or_else(|| self.relations.name(oid));
        let (schema_name, name) = match name {
            // The wire has no name for it.
            Some(("", name)) => ("pg_catalog".to_owned(), name.to_owned()),
            Some((schema, name)) => (schema.to_owned(), name.to_owned()),
            None => ("unknown".to_owned(), format!("relation_{owner}")),
        };
        let free_name = self.free_name(&schema_name, name.clone(), owner);
        let schema = self.shared(schema);
        let table = self.push_table(owner, schema_name.clone(), free_name, schema);
        let table = table.ok_or(FoldError::TooMany { what: "tables" })?;
        self.events.push(FoldEvent::TableAppeared { table });
        self.note_name(owner, &schema_name, &name);
        Ok(table)
    }

    /// The same schema, held once: where there are very many tables, many have the same columns.
    fn shared(&mut self, schema: TableSchema) -> Arc<TableSchema> {
        if let Some(known) = self.schemas.iter().filter_map(Weak::upgrade).find(|known| **known == schema) {
            return known;
        }
        if self.schemas.len() >= SCHEMAS_MAX {
            self.schemas.pop_front();
        }
        let schema = Arc::new(schema);
        self.schemas.push_back(Arc::downgrade(&schema));
        schema
    }

    /// A table that was dropped and created again is another table (T41), and so is one that took the name of a
    /// renamed one (T28): their rows must not meet under one name.
    fn free_name(&self, schema_name: &str, name: String, owner: Oid) -> String {
        let taken = |name: &str| self.names_taken.contains(&(schema_name.to_owned(), name.to_owned()));
        if !taken(&name) {
            return name;
        }
        let mut free = format!("{name}_{owner}");
        while taken(&free) {
            free.push('_');
        }
        free
    }

    pub(super) fn push_table(
        &mut self,
        oid: Oid,
        schema_name: String,
        name: String,
        current: Arc<TableSchema>,
    ) -> Option<TableIndex> {
        let index = TableIndex(u32::try_from(self.tables.len()).ok()?);
        self.names_taken.insert((schema_name.clone(), name.clone()));
        self.table_of.insert(oid, index);
        self.tables.push(Table { index, oid, schema_name, name, renamed: None, current });
        Some(index)
    }

    /// For every column of the shape, its place in the table's schema.
    fn columns(&self, oid: Oid, table: TableIndex, shape: &Shape) -> Result<Vec<u32>, FoldError> {
        let live = self.table(table).current.columns.iter().enumerate().filter(|(_, column)| !column.dropped);
        let places: FxHashMap<&str, usize> =
            live.map(|(at, column)| (column.source_name.as_str(), at)).collect();
        let place = |name: &str| places.get(name).and_then(|&at| u32::try_from(at).ok());
        let columns = shape.columns.iter().map(|column| {
            place(&column.name)
                .ok_or_else(|| FoldError::NoColumn { relation: oid, column: column.name.to_string() })
        });
        columns.collect()
    }
}

/// The tuple positions of the key, ascending.
fn positions(shape: &Shape, key: &[String]) -> Result<Vec<u16>, FoldError> {
    let columns = shape.columns.iter().enumerate();
    let keys = columns.filter(|(_, column)| key.iter().any(|name| *name.as_str() == *column.name));
    keys.map(|(at, _)| u16::try_from(at).map_err(|_| FoldError::TooMany { what: "columns" })).collect()
}

/// Schemas that a new table's is compared with: a few kilobytes each.
const SCHEMAS_MAX: usize = 64;
