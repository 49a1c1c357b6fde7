//! Tables that are leaves of another one by their names.
//!
//! Owns: the regular expressions of `[[partitions.pattern]]`, what their named groups say of a table, and the OIDs of tables that only they make.
//! Does not: know which tables exist; the caller brings names.
//! Holds: an expression matches a whole `schema.table`; the table that a pattern leads to is none of its leaves; the same names get the same
//! OIDs, and no table of a database has one of them.
//! Fails: [`PatternError`] says which key is wrong and why; [`Overlap`] names a table that two patterns claim.

use std::ops::Range;

use pgoutput::Oid;
use regex::Regex;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

/// A rule by which tables are leaves of another one.
#[derive(Clone, Debug)]
pub struct Pattern {
    whole: Regex,
    schema: String,
    name: String,
    groups: Vec<String>,
    root: Oid,
    is_logged: bool,
}

/// A pattern that cannot be what its author meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PatternError {
    /// `match` or `into`.
    pub key: &'static str,
    what: String,
}

/// A table that is a leaf of two tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table} matches two patterns, that of {first} and that of {second}")]
pub struct Overlap {
    /// The `schema.table`.
    pub table: String,
    /// Where the first pattern leads.
    pub first: String,
    /// Where the next one leads.
    pub second: String,
    /// Which that is, from 0.
    pub place: usize,
}

impl Pattern {
    /// Tables whose whole `schema.table` matches `expression` are leaves of `into`, which is a `schema.table`.
    pub fn new(expression: &str, into: &str) -> Result<Pattern, PatternError> {
        let (schema, name) = match into.split_once('.') {
            Some((schema, name)) if !schema.is_empty() && !name.is_empty() => (schema, name),
            Some(_) | None => {
                let what = format!("`{into}` is not a schema.table, for example public.orders");
                return Err(PatternError { key: "into", what });
            }
        };
        let wrong = |error: regex::Error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            let why = last.strip_prefix("error: ").unwrap_or(last);
            PatternError { key: "match", what: format!("`{expression}` is not a regular expression: {why}") }
        };
        // By itself first: a parenthesis that closes too much would be closed by ours.
        Regex::new(expression).map_err(wrong)?;
        let whole = Regex::new(&format!(r"\A(?:{expression})\z")).map_err(wrong)?;
        let groups = whole.capture_names().flatten().map(str::to_owned).collect();
        let (schema, name) = (schema.to_owned(), name.to_owned());
        Ok(Pattern { whole, schema, name, groups, root: Oid::default(), is_logged: false })
    }

    /// Schema and name of the table that it leads to.
    pub fn target(&self) -> (&str, &str) {
        (&self.schema, &self.name)
    }

    /// The OID that this table has if it is in no catalog, and whether the log has it so.
    pub fn root(&self) -> (Oid, bool) {
        (self.root, self.is_logged)
    }

    /// Its named groups: columns of the table.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(String::as_str)
    }

    fn leads_to(&self, schema: &str, name: &str) -> bool {
        self.schema == schema && self.name == name
    }

    /// Each named group with what it is in a name; not those that took no part. `None` if the name does not match.
    fn values(&self, schema: &str, name: &str) -> Option<Vec<(&str, String)>> {
        let table = format!("{schema}.{name}");
        let captures = self.whole.captures(&table)?;
        let value = |group| Some((group, captures.name(group)?.as_str().to_owned()));
        Some(self.groups().filter_map(value).collect())
    }
}

/// All patterns of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// These patterns. `logged` are tables of an earlier run, which keep their OIDs.
    pub fn new<'n>(
        mut patterns: Vec<Pattern>,
        logged: impl Iterator<Item = (Oid, &'n str, &'n str)>,
    ) -> Patterns {
        let mut roots: FxHashMap<(String, String), Oid> = FxHashMap::default();
        for (oid, schema, name) in logged.filter(|(oid, ..)| is_made_up(*oid)) {
            roots.insert((schema.to_owned(), name.to_owned()), oid);
        }
        for pattern in &mut patterns {
            let key = (pattern.schema.clone(), pattern.name.clone());
            pattern.is_logged = roots.contains_key(&key);
            pattern.root = roots.get(&key).copied().unwrap_or_default();
        }
        for pattern in patterns.iter_mut().filter(|pattern| !pattern.is_logged) {
            let key = (pattern.schema.clone(), pattern.name.clone());
            let root = roots.get(&key).copied();
            pattern.root =
                root.unwrap_or_else(|| free_oid(&key, |oid| roots.values().any(|taken| *taken == oid)));
            roots.insert(key, pattern.root);
        }
        Patterns(patterns)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter()
    }

    /// The pattern by which a table that is no partition is a leaf.
    pub fn of(&self, schema: &str, name: &str) -> Result<Option<&Pattern>, Overlap> {
        if self.is_empty() {
            return Ok(None);
        }
        let table = format!("{schema}.{name}");
        let mut found = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, pattern)| !pattern.leads_to(schema, name) && pattern.whole.is_match(&table));
        let Some((_, first)) = found.next() else { return Ok(None) };
        let Some((place, second)) = found.next() else { return Ok(Some(first)) };
        let target = |pattern: &Pattern| format!("{}.{}", pattern.schema, pattern.name);
        Err(Overlap { first: target(first), second: target(second), table, place })
    }

    /// Whether a pattern leads to a table that has any of these names.
    pub(crate) fn lead_to<'n>(&self, mut names: impl Iterator<Item = (&'n str, &'n str)>) -> bool {
        !self.is_empty()
            && names.any(|(schema, name)| self.0.iter().any(|pattern| pattern.leads_to(schema, name)))
    }

    /// The columns that a table that has any of these names gets by the patterns that lead to it, each once.
    pub fn groups_of<'n>(&self, names: impl Iterator<Item = (&'n str, &'n str)> + Clone) -> Vec<&str> {
        let mut groups = Vec::new();
        for group in self.leading_to(names).flat_map(Pattern::groups) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// What the named groups are in the name of a leaf of a table that has any of `names`; `None` if no pattern that leads there matches.
    pub(crate) fn values<'n>(
        &self,
        names: impl Iterator<Item = (&'n str, &'n str)> + Clone,
        (schema, name): (&str, &str),
    ) -> Option<Vec<(&str, String)>> {
        self.leading_to(names).find_map(|pattern| pattern.values(schema, name))
    }

    fn leading_to<'n>(
        &self,
        names: impl Iterator<Item = (&'n str, &'n str)> + Clone,
    ) -> impl Iterator<Item = &Pattern> {
        let leads_there =
            move |pattern: &&Pattern| names.clone().any(|(schema, name)| pattern.leads_to(schema, name));
        self.0.iter().filter(leads_there)
    }
}

/// Whether it is the OID of a table that is in no catalog.
pub fn is_made_up(oid: Oid) -> bool {
    MADE_UP.contains(&oid.0)
}

/// The same for the same name, as long as no other has it.
fn free_oid((schema, name): &(String, String), is_taken: impl Fn(Oid) -> bool) -> Oid {
    let hash = Sha256::digest(format!("{schema}.{name}"));
    let hash = hash.iter().take(4).fold(0_u32, |hash, byte| (hash << 8) | u32::from(*byte));
    let span = MADE_UP.end - MADE_UP.start;
    let nth = |tries: u32| Oid(MADE_UP.start + (hash % span + tries) % span);
    (0..span).map(nth).find(|oid| !is_taken(*oid)).unwrap_or_else(|| nth(0))
}

/// What initdb itself numbers, which is no relation: those of the system have lower OIDs or, like the information schema, begin
/// at 12000 (`FirstUnpinnedObjectId`), and those of users at 16384 (`FirstNormalObjectId`).
const MADE_UP: Range<u32> = 10_000..12_000;

#[cfg(test)]
mod tests;
