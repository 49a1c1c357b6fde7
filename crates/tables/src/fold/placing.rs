//! Where rows go that no message brought: those that a snapshot reads.
//!
//! Owns: the plan for a relation's rows whose columns come in an order of their own.
//! Does not: read rows, or know at which point of the stream they were read.
//! Holds: a relation that the stream announced as it is read is placed as its own changes are; placing changes no position.
//! Fails: [`FoldError`], when a number has no room.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgoutput::{Oid, Relation, RelationColumn};

use super::planning::Missing;
use super::plans::Planned;
use super::{Fold, FoldError, Selection, Table};
use crate::change::{Landing, Plan, TableIndex};
use crate::relation::{ShapeColumn, Target};

/// Where rows go.
#[derive(Clone, Debug)]
pub enum Placed {
    /// Into this table, by this plan.
    Rows {
        /// The table.
        table: TableIndex,
        /// Its cells are in the order of the columns that were asked for.
        plan: Plan,
    },
    /// Nowhere: the table is not selected.
    Excluded,
    /// Nothing was done: these must be learnt ([`Fold::learn`]) first. Sorted.
    NeedFacts {
        /// Relations to look up, with their roots.
        relations: Vec<Oid>,
        /// Types to look up.
        types: Vec<Oid>,
        /// Relations whose columns are to be looked up.
        columns: Vec<Oid>,
    },
}

/// A table or a leaf that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The relation.
    pub relation: Oid,
    /// Its root; itself, if it is nobody's leaf.
    pub root: Oid,
    /// Its `schema.name`.
    pub name: String,
}

impl Fold {
    /// Where rows of a relation go that is at this point of the stream as `relation` says, its cells in the order of its columns.
    ///
    /// The stream announces a relation at its first change only; where it has not, or with other columns, this is the announcement. If
    /// the rows come under the name of their root, `relation` is the root, in whatever order of columns.
    pub fn place(&mut self, relation: &Relation<'_>) -> Result<Placed, FoldError> {
        let oid = relation.oid;
        if !self.is_announced_so(relation) {
            self.announce(relation);
        }
        let number = match self.relations.target(oid) {
            Some(Target::Plan(number)) => number,
            Some(Target::Excluded) => return Ok(Placed::Excluded),
            Some(Target::Unplanned) | None => {
                let mut missing = Missing::default();
                self.missing_for(oid, &mut missing);
                if !missing.is_empty() {
                    let Missing { relations, types, columns } = missing.sorted();
                    return Ok(Placed::NeedFacts { relations, types, columns });
                }
                self.forget_plans_if_full();
                match self.plan_now(oid)? {
                    Target::Plan(number) => number,
                    Target::Excluded | Target::Unplanned => return Ok(Placed::Excluded),
                }
            }
        };
        let unknown = FoldError::UnknownRelation { relation: oid };
        let Some(Planned { table, plan, .. }) = self.plans.get(number) else { return Err(unknown) };
        let Some(shape) = self.relations.shape(oid) else { return Err(unknown) };
        let place = |column: &RelationColumn<'_>| {
            let at = shape.columns.iter().position(|known| *known.name == *column.name)?;
            plan.columns.get(at).copied()
        };
        let in_order =
            shape.columns.iter().zip(&relation.columns).all(|(known, column)| *known.name == *column.name);
        let columns = match in_order {
            true => plan.columns.clone(),
            false => relation.columns.iter().map(place).collect::<Option<_>>().ok_or(unknown)?,
        };
        let landing = Landing { columns, key: Vec::new(), ..(*plan.landing).clone() };
        Ok(Placed::Rows { table: *table, plan: Plan::new(Arc::clone(&plan.relation), landing) })
    }

    /// The wanted tables that `asked` names, and of the others the leaves that it names.
    pub fn named(&self, asked: &Selection) -> Vec<Named> {
        let mut roots = BTreeMap::new();
        let mut leaves = Vec::new();
        for relation in self.lineage.relations() {
            let name = self.lineage.name(relation);
            let Some((schema, name)) = name.filter(|(schema, name)| asked.includes(schema, name)) else {
                continue;
            };
            let root = self.root_of(relation);
            if !self.is_selected(root) {
                continue;
            }
            let named = Named { relation, root, name: format!("{schema}.{name}") };
            if root == relation {
                roots.insert(root, named);
            } else {
                leaves.push(named);
            }
        }
        leaves.retain(|leaf| !roots.contains_key(&leaf.root));
        leaves.sort_unstable_by_key(|leaf| leaf.relation);
        roots.into_values().chain(leaves).collect()
    }

    /// The table of a root, and plans for rows without cells of these relations of it, under the names that their own rows have; `None` if it
    /// has no table yet. The root is one of them if it is named.
    pub fn place_markers(&self, root: Oid, relations: &[Oid]) -> Option<(TableIndex, Vec<Plan>)> {
        let index = *self.table_of.get(&root)?;
        let Table { schema_name, name, current, .. } = self.table(index);
        let landing = Arc::new(Landing::of_markers(Arc::clone(current)));
        let plan = |relation| Plan { relation, landing: Arc::clone(&landing) };
        let name = |relation: &Oid| -> Option<Arc<str>> {
            let (schema, name) = match *relation == root {
                true => (schema_name.as_str(), name.as_str()),
                false => self.lineage.name(*relation)?,
            };
            Some(format!("{schema}.{name}").into())
        };
        Some((index, relations.iter().filter_map(name).map(plan).collect()))
    }

    /// Whether the last announcement had these columns, in whatever order.
    fn is_announced_so(&self, relation: &Relation<'_>) -> bool {
        let Some(shape) = self.relations.shape(relation.oid) else { return false };
        let is = |known: &ShapeColumn, column: &RelationColumn<'_>| {
            *known.name == *column.name
                && known.type_oid == column.type_oid
                && known.type_modifier == column.type_modifier
        };
        let (known, asked) = (&shape.columns, &relation.columns);
        known.len() == asked.len()
            && (known.iter().zip(asked).all(|(known, column)| is(known, column))
                || asked.iter().all(|column| known.iter().any(|known| is(known, column))))
    }
}
