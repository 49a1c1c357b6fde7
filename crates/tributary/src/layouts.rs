//! Which tables are laid out by their own columns, and whether they can be.
//!
//! Owns: the rules of `[[tables.override]]`, judged against the columns of a table.
//! Does not: compute a partition (`lake`), or choose a row's (it is a function of the row, I7).
//! Holds: folders keep their names for ever: a renamed column keeps its folders, and no column that comes later gets the name of a key.
//! Fails: `Config`, naming the table, the column, and where the rule is written.

use std::sync::Arc;

use lake::layout::{PartitionField, PartitionSpec};
use lake::transform::{PartitionBy, Transform};
use tables::fold::{Reserved, Selection};
use tables::schema::{Column, ColumnSpec, TableSchema};
use tables::types::{Codec, LakeType};

use crate::error::{Error, Result};

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct Layouts(Vec<LayoutRule>);

/// How the tables of one `[[tables.override]]` are laid out.
#[derive(Clone, Debug)]
pub struct LayoutRule {
    /// What it matches, as it was written.
    pub glob: String,
    /// The tables.
    pub selection: Selection,
    /// They are said to have insertions only.
    pub insert_only: bool,
    /// The levels of folders; none for commit time.
    pub partition_by: Vec<PartitionBy>,
    /// Files that are open at once, at most.
    pub open_max: usize,
    /// Where it was written.
    pub place: Option<String>,
}

impl Layouts {
    /// In the order of the configuration: the last one that matches counts.
    pub fn new(rules: Vec<LayoutRule>) -> Layouts {
        Layouts(rules)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All rules.
    pub fn iter(&self) -> impl Iterator<Item = &LayoutRule> {
        self.0.iter()
    }

    /// The rule of a table that has any of these names, if it is laid out by columns.
    pub fn of<'n>(&self, names: impl Iterator<Item = (&'n str, &'n str)> + Clone) -> Option<&LayoutRule> {
        let matches =
            |rule: &&LayoutRule| names.clone().any(|(schema, name)| rule.selection.includes(schema, name));
        self.0.iter().rev().find(matches).filter(|rule| !rule.partition_by.is_empty())
    }

    /// The names that columns of such tables may not get.
    pub fn reserved(&self) -> Reserved {
        let keys = |rule: &LayoutRule| {
            let keys = rule.partition_by.iter().map(PartitionBy::key);
            keys.flat_map(|key| [numbered(&key), key]).collect()
        };
        Reserved::new(self.0.iter().map(|rule| (rule.selection.clone(), keys(rule))).collect())
    }
}

impl LayoutRule {
    /// How files with these columns are laid out.
    pub fn spec(&self, table: &str, schema: &TableSchema) -> Result<Arc<PartitionSpec>> {
        let field = |by: &PartitionBy| {
            let column = column_of(schema, &by.column).ok_or_else(|| self.missing(table, by))?;
            self.judge(table, by, &column.codec, &column.lake)?;
            let key = by.key();
            // It was there before the table was laid out by columns.
            let is_taken = schema.columns.iter().any(|column| {
                std::iter::once(&column.name)
                    .chain(&column.former_names)
                    .any(|name| name.eq_ignore_ascii_case(&key))
            });
            let key = if is_taken { numbered(&key) } else { key };
            Ok(PartitionField { key, column: column.name.clone(), transform: by.transform })
        };
        let fields = self.partition_by.iter().map(field).collect::<Result<_>>()?;
        Ok(Arc::new(PartitionSpec { fields, open_max: self.open_max }))
    }

    /// Whether a table with these columns in Postgres, and perhaps some in the lake already, can be laid out so.
    pub fn check(&self, table: &str, columns: &[ColumnSpec], known: Option<&TableSchema>) -> Result<()> {
        self.partition_by.iter().try_for_each(|by| {
            if let Some(column) = columns.iter().find(|column| column.name == by.column) {
                return self.judge(table, by, &column.resolved.codec, &column.resolved.lake);
            }
            // Renamed or dropped since, or about to be.
            match known.and_then(|schema| column_of(schema, &by.column)) {
                Some(column) => self.judge(table, by, &column.codec, &column.lake),
                None => Err(self.missing(table, by)),
            }
        })
    }

    /// Rows of other tables than insert-only ones cannot be found again by their values: an update may change them, and a deletion
    /// does not know them.
    pub fn check_inserts(&self, table: &str, published_inserts_only: bool) -> Result<()> {
        if self.insert_only || published_inserts_only {
            return Ok(());
        }
        Err(self.error(format!("{table} is laid out by columns, and may have updates and deletions")).hint(
            "only insert-only tables can be: say `insert_only = true` beside `partition_by`, or publish insertions alone; change logs stay by commit time",
        ))
    }

    fn judge(&self, table: &str, by: &PartitionBy, codec: &Codec, lake: &LakeType) -> Result<()> {
        let is_json = matches!(codec, Codec::Json | Codec::Jsonb);
        if !is_json && takes(by.transform, lake) {
            return Ok(());
        }
        let lake = if is_json { "JSON".to_owned() } else { lake.iceberg() };
        let what = format!("{table}.{} is {lake} in the lake, which `{by}` does not take", by.column);
        Err(self.error(what).hint(format!("it takes {}", by.transform.taken())))
    }

    fn missing(&self, table: &str, by: &PartitionBy) -> Error {
        self.error(format!("{table} has no column `{}`, which `{by}` names", by.column))
            .hint("columns go by their Postgres names, as they are written in pg_attribute")
    }

    fn error(&self, what: String) -> Error {
        match &self.place {
            Some(place) => Error::config(format!("{place}: {what}")),
            None => Error::config(what),
        }
    }
}

/// The column that Postgres calls so, or called so once, or had.
fn column_of<'s>(schema: &'s TableSchema, name: &str) -> Option<&'s Column> {
    let position = schema.position(name);
    let live = position.and_then(|at| schema.columns.get(at));
    let is_former =
        |column: &&Column| !column.dropped && column.former_names.iter().any(|former| former == name);
    live.or_else(|| schema.columns.iter().find(is_former))
        .or_else(|| schema.columns.iter().find(|column| column.source_name == name))
}

fn takes(transform: Transform, lake: &LakeType) -> bool {
    *lake != LakeType::Json && transform.takes(&lake.data_type())
}

fn numbered(key: &str) -> String {
    format!("{key}_2")
}

#[cfg(test)]
mod tests;
