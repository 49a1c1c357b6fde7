//! Tables that are leaves of another one without being its partitions: by inheritance, and by the patterns of their names.
//!
//! Owns: what `[partitions]` says of that, and what it makes of an answer of the catalogs.
//! Does not: keep what it found.
//! Holds: a table has one root: where a pattern matches, inheritance does not count; a root is nobody's leaf. A root that is in no catalog has
//! an OID that no table has, the same in every run.
//! Fails: `Config` when two patterns claim a table; otherwise as `fault` classifies the server's errors.

use std::collections::{BTreeMap, HashMap};

use pgoutput::{Oid, ReplicaIdentity};
use tables::fold::{Overlap, Pattern, Patterns, Selection, is_made_up};
use tables::lineage::{Facts, LeafFacts, Link, RootFacts};

use super::catalog::{IS_TABLE, ROOT, root, root_columns};
use super::sql::{Sql, get};
use crate::error::{Error, Result};

/// Whose rows belong to whose table.
#[derive(Clone, Debug)]
pub struct Folding {
    /// The rows of leaves belong to their roots; otherwise every relation is its own root.
    pub to_root: bool,
    inherit: Selection,
    patterns: Patterns,
    /// Where each pattern was written.
    places: Vec<Option<String>>,
}

impl Folding {
    /// By partitions, by inheritance from the tables that `inherit` names, and by patterns, each with the place where it was written.
    pub fn new(
        to_root: bool,
        inherit: Selection,
        patterns: Patterns,
        places: Vec<Option<String>>,
    ) -> Folding {
        Folding { to_root, inherit, patterns, places }
    }

    /// The patterns.
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// Whether leaves may be anything but partitions.
    pub fn has_rules(&self) -> bool {
        self.to_root && !(self.inherit.is_empty() && self.patterns.is_empty())
    }

    /// Whether a table of this name may be a leaf without being a partition.
    pub fn may_be_leaf(&self, schema: &str, name: &str) -> bool {
        self.has_rules() && (!self.inherit.is_empty() || !matches!(self.patterns.of(schema, name), Ok(None)))
    }

    /// The pattern that makes a table of this name a leaf.
    pub fn pattern_of(&self, schema: &str, name: &str) -> Result<Option<&Pattern>> {
        self.patterns.of(schema, name).map_err(|overlap| self.refuse(overlap))
    }

    fn refuse(&self, overlap: Overlap) -> Error {
        let error = match self.places.get(overlap.place).cloned().flatten() {
            Some(place) => Error::config(format!("{place}: {overlap}")),
            None => Error::config(overlap.to_string()),
        };
        error.hint("a table is a leaf of one table: make the patterns of `partitions.pattern` narrower")
    }

    /// Makes leaves of the roots that are some by a rule, and tells of the tables that they belong to.
    pub(super) async fn apply(&self, sql: &Sql, facts: &mut Facts) -> Result<()> {
        if !self.has_rules() {
            return Ok(());
        }
        let parents = Parents(self.parents(sql, &facts.roots).await?);
        if parents.0.is_empty() {
            return Ok(());
        }
        for leaf in facts.leaves.iter_mut().filter(|leaf| parents.0.contains_key(&leaf.root)) {
            (leaf.link, leaf.root) = (Link::Below(leaf.root), parents.top(leaf.root));
        }
        let (mut children, mut roots): (Vec<RootFacts>, Vec<RootFacts>) =
            std::mem::take(&mut facts.roots).into_iter().partition(|root| parents.0.contains_key(&root.oid));
        // The first that has a key is the one whose key counts where the root has none.
        children.sort_unstable_by_key(|child| (child.primary_key.is_empty(), child.oid));
        let mut firsts: BTreeMap<Oid, RootFacts> = BTreeMap::new();
        for child in children {
            let root = parents.top(child.oid);
            let link = match parents.0.get(&child.oid) {
                Some(parent) if *parent != root => Link::Below(*parent),
                Some(_) | None => Link::Rule,
            };
            firsts.entry(root).or_insert_with(|| child.clone());
            let RootFacts { oid, schema, name, primary_key: _, replica_identity } = child;
            facts.leaves.push(LeafFacts { oid, schema, name, root, link, replica_identity });
        }
        let missing = firsts.keys().filter(|root| roots.iter().all(|known| known.oid != **root));
        let missing: Vec<u32> = missing.map(|root| root.0).collect();
        roots.extend(tables(sql, &missing).await?);
        for root in &mut roots {
            if let Some(first) = firsts.remove(&root.oid)
                && root.primary_key.is_empty()
            {
                root.primary_key = first.primary_key;
            }
        }
        // What is left is in no catalog.
        for (oid, first) in firsts {
            let made_up = self.made_up(oid);
            roots.extend(made_up.map(|root| RootFacts {
                primary_key: first.primary_key,
                replica_identity: first.replica_identity,
                ..root
            }));
        }
        facts.roots = roots;
        Ok(())
    }

    /// A table that only patterns make, as far as it is known without a leaf of it.
    pub(super) fn made_up(&self, oid: Oid) -> Option<RootFacts> {
        let pattern = self.patterns.iter().find(|pattern| pattern.root().0 == oid)?;
        let (schema, name) = pattern.target();
        Some(RootFacts {
            oid,
            schema: schema.to_owned(),
            name: name.to_owned(),
            primary_key: Vec::new(),
            replica_identity: ReplicaIdentity::Default,
        })
    }

    /// Of the tables that are leaves by a rule, what each is a leaf of.
    async fn parents(&self, sql: &Sql, tables: &[RootFacts]) -> Result<HashMap<Oid, Oid>> {
        let mut parents =
            if self.inherit.is_empty() { HashMap::new() } else { self.inherited(sql, tables).await? };
        if self.patterns.is_empty() {
            return Ok(parents);
        }
        let targets = self.targets(sql).await?;
        let root_of = |pattern: &Pattern| match pattern.root() {
            (made_up, true) => made_up,
            (made_up, false) => targets.get(&pattern.target()).copied().unwrap_or(made_up),
        };
        for table in tables {
            let name = (table.schema.as_str(), table.name.as_str());
            let pattern = match self.pattern_of(name.0, name.1)? {
                Some(pattern) => Some(pattern),
                // It got the name of a table that the log had made up before.
                None => self.patterns.iter().find(|pattern| pattern.target() == name && pattern.root().1),
            };
            if let Some(root) = pattern.map(root_of).filter(|root| *root != table.oid) {
                parents.insert(table.oid, root);
            }
        }
        Ok(parents)
    }

    /// The topmost of a table's ancestors that is to have the rows of its children.
    async fn inherited(&self, sql: &Sql, tables: &[RootFacts]) -> Result<HashMap<Oid, Oid>> {
        let oids: Vec<u32> = tables.iter().map(|table| table.oid.0).collect();
        let mut topmost: HashMap<Oid, (i32, Oid)> = HashMap::new();
        for row in sql.query("tables that others inherit from", ABOVE, &[&oids]).await? {
            let (child, ancestor, level) = (Oid(get(&row, 0)?), Oid(get(&row, 1)?), get::<i32>(&row, 2)?);
            if self.inherit.includes(get(&row, 3)?, get(&row, 4)?) {
                // Of two that are as high, the older one.
                let known = topmost.entry(child).or_insert((level, ancestor));
                if level > known.0 || (level == known.0 && ancestor < known.1) {
                    *known = (level, ancestor);
                }
            }
        }
        Ok(topmost.into_iter().map(|(child, (_, ancestor))| (child, ancestor)).collect())
    }

    /// The tables that patterns lead to and that exist; of a partition, its root.
    async fn targets(&self, sql: &Sql) -> Result<HashMap<(&str, &str), Oid>> {
        let (schemas, names): (Vec<&str>, Vec<&str>) = self.patterns.iter().map(Pattern::target).unzip();
        let query = format!(
            "SELECT n.nspname::text, c.relname::text, CASE WHEN c.relispartition THEN {ROOT} ELSE c.oid END \
             FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[])) AS wanted(schema, name) \
             JOIN pg_namespace n ON n.nspname = wanted.schema \
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name WHERE {IS_TABLE}"
        );
        let rows = sql.query("tables that patterns lead to", &query, &[&schemas, &names]).await?;
        let mut targets = HashMap::new();
        for row in &rows {
            let (schema, name): (&str, &str) = (get(row, 0)?, get(row, 1)?);
            let wanted = self.patterns.iter().map(Pattern::target).find(|target| *target == (schema, name));
            if let Some(wanted) = wanted {
                targets.insert(wanted, Oid(get(row, 2)?));
            }
        }
        Ok(targets)
    }
}

/// Leaf to what it is a leaf of, by rules.
struct Parents(HashMap<Oid, Oid>);

impl Parents {
    fn top(&self, oid: Oid) -> Oid {
        let mut at = oid;
        // As deep as there are leaves at most, so that contradicting rules end.
        for _ in 0..self.0.len() {
            match self.0.get(&at) {
                Some(parent) => at = *parent,
                None => break,
            }
        }
        at
    }
}

/// Those of the relations that are tables.
async fn tables(sql: &Sql, relations: &[u32]) -> Result<Vec<RootFacts>> {
    let relations: Vec<u32> = relations.iter().copied().filter(|oid| !is_made_up(Oid(*oid))).collect();
    if relations.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!("{} WHERE {IS_TABLE} AND c.oid = ANY($1::oid[])", root_columns());
    let rows = sql.query("tables that have leaves", &query, &[&relations]).await?;
    rows.iter().map(root).collect()
}

/// A partition inherits, too, and is none of these.
const ABOVE: &str = "WITH RECURSIVE above(oid, ancestor, level) AS ( \
        SELECT i.inhrelid, i.inhparent, 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
        WHERE i.inhrelid = ANY($1::oid[]) AND NOT c.relispartition \
        UNION ALL SELECT a.oid, i.inhparent, a.level + 1 FROM above a JOIN pg_inherits i ON i.inhrelid = a.ancestor) \
      SELECT a.oid, a.ancestor, max(a.level), n.nspname::text, c.relname::text \
      FROM above a JOIN pg_class c ON c.oid = a.ancestor JOIN pg_namespace n ON n.oid = c.relnamespace GROUP BY 1, 2, 4, 5";
