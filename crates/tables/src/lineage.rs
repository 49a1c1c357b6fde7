//! Which root table a leaf belongs to, and what the catalogs said of both.
//!
//! Owns: the words in which the caller reports the catalogs ([`Facts`]), and the map from leaf to root.
//! Does not: ask a server, know what the stream announced (`relation`), or choose tables (`fold`).
//! Holds: a leaf that was known once keeps the name it was first known by, also when it is detached and attached again, and no other leaf gets
//! that name, so that rows of before and after a rename, and the `T` that supersedes them, agree; a leaf costs its name and some 45 bytes.
//! Fails: never; what is unknown is answered so, and the caller looks it up.

use std::hash::BuildHasher as _;

use pgoutput::{Oid, ReplicaIdentity};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use crate::fold::is_made_up;
use crate::types::TypeFacts;

/// What the catalogs say of a table that is nobody's leaf: partitioned or plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFacts {
    /// The table.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The columns of its primary key; empty if it has none.
    pub primary_key: Vec<String>,
    /// How its old rows are identified.
    pub replica_identity: ReplicaIdentity,
}

/// What the catalogs say of a table whose rows belong to a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafFacts {
    /// The leaf.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its root; a parent that is itself a leaf of another root is followed upwards.
    pub root: Oid,
    /// How it belongs to that.
    pub link: Link,
    /// How its old rows are identified.
    pub replica_identity: ReplicaIdentity,
}

/// How a leaf belongs to its root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// It is a partition of it.
    #[default]
    Partition,
    /// By a rule of the configuration: by its name, or by inheritance. It has columns of its own.
    Rule,
    /// It lies below this table, which is a leaf of the root by a rule.
    Below(Oid),
}

/// What the catalogs say of one column, as it is now; the stream may speak of an earlier time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// `pg_attribute.attnum`, which stays the same through renames and never comes back after a DROP.
    pub attnum: i16,
    /// The text of the value that rows from before the column have (`attmissingval`).
    pub missing: Option<String>,
    /// Postgres fills it in by itself: a default, an identity or a generation expression.
    pub has_default: bool,
    /// Its values are generated, so that it may not be published.
    pub is_generated: bool,
}

/// An answer of the catalogs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Tables that are nobody's leaf.
    pub roots: Vec<RootFacts>,
    /// Leaves.
    pub leaves: Vec<LeafFacts>,
    /// Types that are not built in.
    pub types: Vec<TypeFacts>,
    /// The columns of relations that were asked for, by `attnum`; none for a relation that is gone.
    pub columns: Vec<(Oid, Vec<ColumnFacts>)>,
    /// What was asked for and is not in the catalogs (any more): relations or types.
    pub gone: Vec<Oid>,
}

impl Facts {
    /// The wanted roots and their leaves, each relation with its root.
    pub fn relations_of(&self, is_wanted: impl Fn(Oid) -> bool) -> Vec<(Oid, Oid)> {
        let leaves = self.leaves.iter().map(|leaf| (leaf.oid, leaf.root));
        let roots = self.roots.iter().map(|root| (root.oid, root.oid));
        leaves.chain(roots).filter(|(_, root)| is_wanted(*root)).collect()
    }
}

/// Leaf to root, for every relation that the catalogs ever named.
#[derive(Default)]
pub(crate) struct Lineage {
    /// Where the record of a root begins in `text`.
    roots: FxHashMap<Oid, usize>,
    leaves: FxHashMap<Oid, Leaf>,
    /// Hashes of the names of all leaves that ever were, to tell whether a name is free.
    names: FxHashSet<u64>,
    /// What `leaves` name as a root.
    parents: FxHashSet<Oid>,
    gone: FxHashSet<Oid>,
    /// Roots with a leaf whose replica identity is another than the root's, and that leaf.
    mixed: FxHashMap<Oid, Oid>,
    /// Roots with leaves that have columns of their own.
    loose: FxHashSet<Oid>,
    /// Leaves below a table whose name tells more than theirs, and that table.
    below: FxHashMap<Oid, Oid>,
    /// Records of NUL-terminated texts, which no Postgres name can hold. A leaf: schema, name. A root: schema,
    /// name, identity, the columns of the primary key, and an empty text. One arena instead of an allocation
    /// a name, since there may be millions.
    text: String,
}

/// 24 bytes with its key.
struct Leaf {
    /// [`DETACHED`] once it is nobody's leaf.
    root: Oid,
    /// As no partition of it, so that its rows never come under the root's name.
    is_by_rule: bool,
    text_at: usize,
}

/// What an answer changed.
#[derive(Default)]
pub(crate) struct Learned {
    /// New leaves, or leaves of another root than before, by root.
    pub(crate) news: Vec<(Oid, Vec<(Oid, String)>)>,
    /// Relations that were known before now belong, or are keyed, differently.
    pub(crate) replan: bool,
}

impl Lineage {
    /// Adds an answer. Later facts win, save for a leaf's name. `has_table` tells what the caller knew of a
    /// relation without facts.
    pub(crate) fn learn(&mut self, facts: &Facts, has_table: impl Fn(Oid) -> bool) -> Learned {
        let Facts { roots, leaves, types: _, columns: _, gone } = facts;
        let mut learned = Learned::default();
        for root in roots {
            learned.replan |= self.learn_root(root, &has_table);
        }
        self.leaves.reserve(leaves.len().saturating_sub(self.leaves.len()));
        let unknown = leaves.iter().filter(|leaf| !self.leaves.contains_key(&leaf.oid));
        let text_bytes: usize = unknown.map(|leaf| leaf.schema.len() + leaf.name.len() + 2).sum();
        self.text.reserve(text_bytes);
        let mut news_of: FxHashMap<Oid, Vec<(Oid, String)>> = FxHashMap::default();
        let mut order = Vec::new();
        for leaf in leaves {
            let Some(replan) = self.learn_leaf(leaf, &has_table) else { continue };
            learned.replan |= replan;
            let name = self.first_name(leaf.oid).map(|(schema, name)| format!("{schema}.{name}"));
            let news = news_of.entry(leaf.root).or_insert_with(|| {
                order.push(leaf.root);
                Vec::new()
            });
            news.push((leaf.oid, name.unwrap_or_default()));
        }
        for root in order {
            learned.news.push((root, news_of.remove(&root).unwrap_or_default()));
        }
        for &oid in gone {
            if !self.roots.contains_key(&oid) && !self.is_leaf(oid) {
                self.gone.insert(oid);
            }
        }
        learned
    }

    /// Whether this changed what was known of the relation.
    fn learn_root(&mut self, root: &RootFacts, has_table: impl Fn(Oid) -> bool) -> bool {
        let was_gone = self.gone.remove(&root.oid);
        let known = self.roots.get(&root.oid).copied();
        let of_before;
        let root = match self.key_of_before(root) {
            Some(primary_key) => {
                of_before = RootFacts { primary_key, ..root.clone() };
                &of_before
            }
            None => root,
        };
        if is_made_up(root.oid) {
            // A table that has the name now is another one.
            self.names.insert(hash((root.schema.as_str(), root.name.as_str())));
        }
        if known.is_some_and(|at| self.says(at, root)) {
            return false;
        }
        let at = self.text.len();
        self.push(&root.schema);
        self.push(&root.name);
        self.push(identity_text(root.replica_identity));
        for column in root.primary_key.iter().filter(|column| !column.is_empty()) {
            self.push(column);
        }
        self.push("");
        self.roots.insert(root.oid, at);
        known.is_some() || was_gone || has_table(root.oid)
    }

    /// The key that a root goes on with, if its own is none, or is only that of a leaf: that of another leaf makes no difference.
    fn key_of_before(&self, root: &RootFacts) -> Option<Vec<String>> {
        let is_lent = is_made_up(root.oid) || (root.primary_key.is_empty() && self.loose.contains(&root.oid));
        let known = if is_lent { self.primary_key(root.oid) } else { Vec::new() };
        (!known.is_empty()).then(|| known.into_iter().map(str::to_owned).collect())
    }

    /// `None` if nothing changed; else whether the relation was known as something else before.
    fn learn_leaf(&mut self, leaf: &LeafFacts, has_table: impl Fn(Oid) -> bool) -> Option<bool> {
        if leaf.root == leaf.oid {
            return None;
        }
        self.parents.insert(leaf.root);
        match leaf.link {
            Link::Partition => self.compare_identity(leaf),
            Link::Rule => {
                self.loose.insert(leaf.root);
            }
            Link::Below(table) => {
                self.loose.insert(leaf.root);
                self.below.insert(leaf.oid, table);
            }
        }
        let was_gone = self.gone.remove(&leaf.oid);
        let is_by_rule = leaf.link != Link::Partition;
        if let Some(known) = self.leaves.get_mut(&leaf.oid) {
            let moved = known.root != leaf.root;
            (known.root, known.is_by_rule) = (leaf.root, is_by_rule);
            return moved.then_some(true);
        }
        self.insert(leaf.oid, leaf.root, (&leaf.schema, &leaf.name));
        if let Some(new) = self.leaves.get_mut(&leaf.oid) {
            new.is_by_rule = is_by_rule;
        }
        Some(was_gone || self.roots.contains_key(&leaf.oid) || has_table(leaf.oid))
    }

    /// Adds a leaf, under a name that no leaf ever had: the rows of one that was dropped may have to be told from those of its successor.
    fn insert(&mut self, oid: Oid, root: Oid, (schema, name): (&str, &str)) {
        let text_at = self.text.len();
        self.push(schema);
        if self.names.insert(hash((schema, name))) {
            self.push(name);
        } else {
            let name = format!("{name}_{oid}");
            self.names.insert(hash((schema, &name)));
            self.push(&name);
        }
        self.leaves.insert(oid, Leaf { root, is_by_rule: false, text_at });
    }

    /// Brings back a leaf that was detached or dropped in an earlier run.
    pub(crate) fn restore_detached(&mut self, oid: Oid, name: (&str, &str)) {
        if !self.leaves.contains_key(&oid) {
            self.insert(oid, DETACHED, name);
        }
    }

    /// The leaf is nobody's leaf any more. Its root and the name that its rows have there, if it was one.
    pub(crate) fn detach(&mut self, oid: Oid) -> Option<Oid> {
        let leaf = self.leaves.get_mut(&oid).filter(|leaf| leaf.root != DETACHED)?;
        let root = std::mem::replace(&mut leaf.root, DETACHED);
        if self.mixed.get(&root) == Some(&oid) {
            self.mixed.remove(&root);
        }
        Some(root)
    }

    /// Whether it is a leaf now.
    pub(crate) fn is_leaf(&self, oid: Oid) -> bool {
        self.leaves.get(&oid).is_some_and(|leaf| leaf.root != DETACHED)
    }

    /// Whether it was a leaf, and was detached.
    pub(crate) fn was_leaf(&self, oid: Oid) -> bool {
        self.leaves.get(&oid).is_some_and(|leaf| leaf.root == DETACHED)
    }

    /// The name that the rows of a leaf have, now or when it was one.
    pub(crate) fn first_name(&self, oid: Oid) -> Option<(&str, &str)> {
        self.names_at(self.leaves.get(&oid)?.text_at)
    }

    /// Whether it is a leaf without being a partition of its root.
    pub(crate) fn is_by_rule(&self, leaf: Oid) -> bool {
        self.leaves.get(&leaf).is_some_and(|leaf| leaf.is_by_rule)
    }

    /// Whether the root has, or had, leaves with columns of their own.
    pub(crate) fn is_loose(&self, root: Oid) -> bool {
        self.loose.contains(&root)
    }

    /// The names of a leaf that may match a pattern, as the catalogs had them when it was first known: its own, and that of a table above.
    pub(crate) fn telling_names(&self, leaf: Oid) -> impl Iterator<Item = (&str, &str)> {
        let above = self.below.get(&leaf).copied();
        std::iter::once(leaf).chain(above).filter_map(|oid| Some((oid, self.first_name(oid)?))).flat_map(
            |(oid, (schema, name))| {
                // The second one of its name.
                let plain = name.strip_suffix(&format!("_{oid}"));
                plain.into_iter().chain([name]).map(move |name| (schema, name))
            },
        )
    }

    /// The root that has this name.
    pub(crate) fn root_named(&self, name: (&str, &str)) -> Option<Oid> {
        self.roots.iter().find(|(_, at)| self.names_at(**at) == Some(name)).map(|(oid, _)| *oid)
    }

    fn names_at(&self, at: usize) -> Option<(&str, &str)> {
        let mut texts = self.texts(at);
        Some((texts.next()?, texts.next()?))
    }

    fn compare_identity(&mut self, leaf: &LeafFacts) {
        let Some(identity) = self.roots.get(&leaf.root).and_then(|&at| self.texts(at).nth(2)) else { return };
        if identity != identity_text(leaf.replica_identity) {
            self.mixed.entry(leaf.root).or_insert(leaf.oid);
        } else if self.mixed.get(&leaf.root) == Some(&leaf.oid) {
            self.mixed.remove(&leaf.root);
        }
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\0');
    }

    /// The topmost relation above, which is the relation itself if it is nobody's leaf.
    pub(crate) fn root_of(&self, oid: Oid) -> Oid {
        let mut at = oid;
        for _ in 0..DEPTH_MAX {
            match self.leaves.get(&at) {
                Some(leaf) if leaf.root != DETACHED => at = leaf.root,
                Some(_) | None => break,
            }
        }
        at
    }

    /// Every relation that is a root or a leaf as far as is known, in no order.
    pub(crate) fn relations(&self) -> impl Iterator<Item = Oid> {
        let leaves = self.leaves.iter().filter(|(_, leaf)| leaf.root != DETACHED).map(|(oid, _)| oid);
        self.roots.keys().chain(leaves).copied()
    }

    /// Whether the catalogs named it as a root.
    pub(crate) fn has_root(&self, oid: Oid) -> bool {
        self.roots.contains_key(&oid)
    }

    /// Whether it is, or ever was, the root of a leaf.
    pub(crate) fn has_leaves(&self, oid: Oid) -> bool {
        self.parents.contains(&oid)
    }

    /// Whether the catalogs were asked for it and did not have it.
    pub(crate) fn is_gone(&self, oid: Oid) -> bool {
        self.gone.contains(&oid)
    }

    /// Schema and name: of a leaf as first known, of a root as last known. Of what was a leaf once nothing is known.
    pub(crate) fn name(&self, oid: Oid) -> Option<(&str, &str)> {
        let leaf = self.leaves.get(&oid).filter(|leaf| leaf.root != DETACHED);
        let leaf_at = leaf.map(|leaf| leaf.text_at);
        let at = leaf_at.or_else(|| self.roots.get(&oid).copied())?;
        self.names_at(at)
    }

    /// The columns of a root's primary key; none if it has none, or is not known as a root.
    pub(crate) fn primary_key(&self, oid: Oid) -> Vec<&str> {
        let Some(&at) = self.roots.get(&oid) else { return Vec::new() };
        self.texts(at).skip(3).take_while(|column| !column.is_empty()).collect()
    }

    /// A leaf of the root with another replica identity.
    pub(crate) fn mixed_leaf(&self, root: Oid) -> Option<Oid> {
        self.mixed.get(&root).copied()
    }

    fn texts(&self, at: usize) -> impl Iterator<Item = &str> {
        self.text.get(at..).unwrap_or_default().split('\0')
    }

    /// Whether the record at `at` is what these facts would write.
    fn says(&self, at: usize, root: &RootFacts) -> bool {
        let head = [root.schema.as_str(), &root.name, identity_text(root.replica_identity)];
        let key = root.primary_key.iter().map(String::as_str).filter(|column| !column.is_empty());
        self.texts(at).take(head.len()).eq(head) && self.primary_key(root.oid).into_iter().eq(key)
    }

    /// What is held on the heap, by capacity.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        // A hash table has 8 slots for every 7 it offers, and a control byte for each.
        let slots = |capacity: usize, slot: usize| capacity * 8 / 7 * (slot + 1);
        slots(self.leaves.capacity(), size_of::<(Oid, Leaf)>())
            + slots(self.names.capacity(), size_of::<u64>())
            + slots(self.roots.capacity(), size_of::<(Oid, usize)>())
            + self.text.capacity()
    }
}

fn hash(name: (&str, &str)) -> u64 {
    FxBuildHasher.hash_one(name)
}

fn identity_text(identity: ReplicaIdentity) -> &'static str {
    match identity {
        ReplicaIdentity::Default => "d",
        ReplicaIdentity::Nothing => "n",
        ReplicaIdentity::Full => "f",
        ReplicaIdentity::Index => "i",
    }
}

/// `InvalidOid`, which no relation has.
const DETACHED: Oid = Oid(0);

/// Levels of partitioning that are followed upwards; more can only be a circle of contradicting facts.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests;
