//! Reading tables again: what was asked for, and which tables that means.
//!
//! Owns: [`Resync`], and the match of globs with tables and leaves that the log knows.
//! Does not: read anything; the pipeline does, or the next daemon.
//! Holds: a leaf is read again by itself where its rows tell that they are its own; else it means its root, and the answer says so.
//! Fails: with a text for whoever asked, if nothing matches.

use std::collections::BTreeMap;
use std::fmt;

use lake::log::State;
use tables::fold::Selection;
use tokio::sync::oneshot;

/// A request to read tables anew.
#[derive(Debug)]
pub struct Resync {
    /// Globs on `schema.table` of roots or leaves.
    pub globs: Vec<String>,
    /// Takes what will be read, for people; or why nothing matches.
    pub answer: oneshot::Sender<Result<Vec<String>, String>>,
}

/// A table or a leaf that is to be read anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The OID of the root, or of the leaf.
    pub relation: u32,
    /// The root, if it is a leaf.
    pub root: Option<u32>,
    /// Its `schema.table`.
    pub table: String,
    /// The leaf that was named, if the root is read for it.
    pub leaf: Option<String>,
}

impl Chosen {
    /// What a relation means that was named: with `publish_via_partition_root` rows do not tell their leaf, so that a leaf means its root.
    pub fn new(relation: u32, name: String, root: Option<(u32, String)>, via_root: bool) -> Chosen {
        match root {
            Some((root, table)) if via_root => Chosen { relation: root, root: None, table, leaf: Some(name) },
            root => Chosen { relation, root: root.map(|(root, _)| root), table: name, leaf: None },
        }
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.leaf {
            Some(leaf) => write!(f, "{} (all of it, for {leaf})", self.table),
            None => f.write_str(&self.table),
        }
    }
}

/// Each once, in the order of their OIDs.
pub fn distinct(chosen: impl IntoIterator<Item = Chosen>) -> Vec<Chosen> {
    let mut found: BTreeMap<u32, Chosen> = BTreeMap::new();
    for chosen in chosen {
        found.entry(chosen.relation).or_insert(chosen);
    }
    found.into_values().collect()
}

/// The tables of the log that globs mean, among those that are wanted at all, and of the others the leaves.
pub fn choose(
    state: &State,
    wanted: &Selection,
    globs: &[String],
    via_root: bool,
) -> Result<Vec<Chosen>, String> {
    let asked = Selection::new(globs, &[]).map_err(|error| error.to_string())?;
    let mut chosen = Vec::new();
    for (relation, known) in &state.tables {
        let (schema, name) = match &known.renamed {
            Some((schema, name)) => (schema, name),
            None => (&known.schema_name, &known.table_name),
        };
        if !wanted.includes(schema, name) {
            continue;
        }
        if asked.includes(schema, name) {
            chosen.push(Chosen::new(*relation, known.table.clone(), None, via_root));
            continue;
        }
        let leaves = state.lineage.get(relation).into_iter().flatten();
        let named = leaves.filter(|(_, leaf)| {
            leaf.split_once('.').is_some_and(|(schema, name)| asked.includes(schema, name))
        });
        chosen.extend(named.map(|(leaf, name)| {
            let root = (*relation, known.table.clone());
            Chosen::new(*leaf, name.clone(), Some(root), via_root)
        }));
    }
    if chosen.is_empty() {
        return Err(nothing_matches(globs));
    }
    Ok(distinct(chosen))
}

/// What to say if no table has such a name.
pub fn nothing_matches(globs: &[String]) -> String {
    format!(
        "no table of the lake matches {}; globs are on schema.table, and `tributary status` lists the tables",
        globs.join(", ")
    )
}

#[cfg(test)]
mod tests;
