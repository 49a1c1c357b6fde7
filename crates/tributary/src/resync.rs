//! Reading tables again: what was asked for, and which tables that means.
//!
//! Owns: [`Resync`], and the match of globs with tables and leaves that the log knows.
//! Does not: read anything; the pipeline does, or the next daemon.
//! Holds: only roots are read again; a leaf means its root, and the answer says so.
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

/// A table that is to be read anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The OID of the root.
    pub relation: u32,
    /// `schema.table` as the lake knows it.
    pub table: String,
    /// The leaf that was named, if the root itself was not.
    pub leaf: Option<String>,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.leaf {
            Some(leaf) => write!(f, "{} (all of it, for {leaf})", self.table),
            None => f.write_str(&self.table),
        }
    }
}

/// The tables of the log that globs mean, among those that are wanted at all.
pub fn choose(state: &State, wanted: &Selection, globs: &[String]) -> Result<Vec<Chosen>, String> {
    let asked = Selection::new(globs, &[]).map_err(|error| error.to_string())?;
    let mut chosen: BTreeMap<u32, Chosen> = BTreeMap::new();
    for (relation, known) in &state.tables {
        let (schema, name) = match &known.renamed {
            Some((schema, name)) => (schema, name),
            None => (&known.schema_name, &known.table_name),
        };
        if !wanted.includes(schema, name) {
            continue;
        }
        let leaf = if asked.includes(schema, name) {
            None
        } else {
            let leaves = state.lineage.get(relation).into_iter().flatten();
            let mut named = leaves.filter(|(_, leaf)| {
                leaf.split_once('.').is_some_and(|(schema, name)| asked.includes(schema, name))
            });
            match named.next() {
                Some((_, leaf)) => Some(leaf.clone()),
                None => continue,
            }
        };
        chosen.insert(*relation, Chosen { relation: *relation, table: known.table.clone(), leaf });
    }
    if chosen.is_empty() {
        return Err(nothing_matches(globs));
    }
    Ok(chosen.into_values().collect())
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
