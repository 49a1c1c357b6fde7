//! SQL for the engines that read the lake: a table over the files, and a view of the current state.
//!
//! Owns: what a table of the lake looks like to an engine ([`LakeTable`]), and the list of statements for it.
//! Does not: run them, or touch a store.
//! Holds: every name and text is quoted in `dialect`; the view has the rules of the README: the latest row of a key counts, unless it
//! is a deletion or a `T` came after it, a cell that the stream did not send has the value of the row before, and rows are told apart by their
//! exact values, also where those stand in `_cdc_raw`.
//! Fails: never; what an engine cannot read is left out, with a remark.

use lake::log::TableState;
use tables::schema::{Column, TableSchema};
use tables::types::{Codec, Form, LakeType};

mod create;
mod current;
mod dialect;

pub use dialect::Engine;

/// A table of the lake, as an engine needs to know it.
#[derive(Clone, Debug)]
pub struct LakeTable {
    /// `public.orders`
    pub name: String,
    /// What `_cdc_relation` is in a `T` of the whole table.
    pub whole: Vec<String>,
    /// Its schema and its table in the engine: the folders that it lies in.
    pub schema: String,
    /// See `schema`.
    pub table: String,
    /// The name of the table over the files.
    pub changes: String,
    /// The folder of its files, as a URL without a slash at its end.
    pub location: String,
    /// All columns that files have, ended ones included.
    pub columns: Vec<LakeColumn>,
    /// The names of those that identify a row.
    pub key: Vec<String>,
    /// Whether the files have `_cdc_before`.
    pub has_before: bool,
    /// How the folders are named.
    pub folders: Folders,
    /// Whether there are files.
    pub has_files: bool,
}

/// A column of a [`LakeTable`].
#[derive(Clone, Debug)]
pub struct LakeColumn {
    /// Its name in the lake.
    pub name: String,
    /// The names that it had in older files.
    pub former: Vec<String>,
    /// Its type in the lake.
    pub lake: LakeType,
    /// It ended: only older rows have it.
    pub has_ended: bool,
    /// Postgres may keep it outside of the row, and leave it out of an update that does not change it.
    pub may_be_unchanged: bool,
    /// Its type has values that the lake's has not: several of them are one there, and only their exact text in `_cdc_raw` tells which.
    pub may_be_raw: bool,
    /// What rows of before the column have in Postgres.
    pub initial_default: Option<String>,
}

/// The folders of a table's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folders {
    /// `cdc_date` and `cdc_hour`, of this day (`2026-11-29`) and later ones.
    ByCommit {
        /// The first day.
        since: String,
    },
    /// The table's own columns, by these keys.
    ByColumns(Vec<String>),
}

impl Folders {
    fn keys(&self) -> Vec<&str> {
        match self {
            Folders::ByCommit { .. } => vec!["cdc_date", "cdc_hour"],
            Folders::ByColumns(keys) => keys.iter().map(String::as_str).collect(),
        }
    }
}

impl LakeTable {
    /// What the log knows of a table, under this URL of the lake.
    pub fn new(state: &TableState, document: &TableSchema, lake_url: &str, folders: Folders) -> LakeTable {
        let (schema, table) = state.path.split_once('/').unwrap_or(("public", &state.path));
        let renamed = state.renamed.as_ref().map(|(schema, name)| format!("{schema}.{name}"));
        let key = document.key.iter().filter_map(|name| document.position(name));
        let key = key.filter_map(|position| document.columns.get(position)).map(|column| column.name.clone());
        let key: Vec<String> = key.collect();
        let columns = document.columns.iter().map(|column| LakeColumn::new(column, &key)).collect();
        LakeTable {
            name: state.table.clone(),
            whole: std::iter::once(state.table.clone()).chain(renamed).collect(),
            schema: schema.to_owned(),
            table: table.to_owned(),
            changes: format!("{table}_changes"),
            location: format!("{}/{}/data", lake_url.trim_end_matches('/'), state.path),
            columns,
            key,
            has_before: document.before,
            folders,
            has_files: state.totals.files > 0,
        }
    }

    /// The columns that the table has now.
    fn live(&self) -> impl Iterator<Item = &LakeColumn> {
        self.columns.iter().filter(|column| !column.has_ended)
    }
}

impl LakeColumn {
    fn new(column: &Column, key: &[String]) -> LakeColumn {
        LakeColumn {
            name: column.name.clone(),
            former: column.former_names.clone(),
            lake: column.lake.clone(),
            has_ended: column.dropped,
            may_be_unchanged: !key.contains(&column.name) && !FIXED_SIZE.contains(&column.type_oid.0),
            may_be_raw: may_be_raw(&column.codec),
            initial_default: column.initial_default.clone(),
        }
    }

    /// All names that files have it under.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.former).map(String::as_str)
    }
}

/// Gives no table over files the name of another table.
pub fn tell_apart(tables: &mut [LakeTable]) {
    let taken: Vec<(String, String)> =
        tables.iter().map(|table| (table.schema.clone(), table.table.clone())).collect();
    for table in tables {
        while taken.contains(&(table.schema.clone(), table.changes.clone())) {
            table.changes.push_str("_of");
        }
    }
}

/// One statement, with what is to be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Lines before it.
    pub remarks: Vec<String>,
    /// The statement, without a semicolon.
    pub sql: String,
}

impl Statement {
    fn new(sql: impl Into<String>) -> Statement {
        Statement { remarks: Vec::new(), sql: sql.into() }
    }

    fn remark(mut self, line: impl Into<String>) -> Statement {
        self.remarks.push(line.into());
        self
    }
}

/// The names of a table's view, and of the table over its files, as a query has them.
pub fn names(engine: Engine, table: &LakeTable) -> (String, String) {
    (current::name(engine, table), create::changes(engine, table))
}

/// What makes a table and its view in an engine.
pub fn statements(engine: Engine, table: &LakeTable) -> Vec<Statement> {
    let mut all = create::statements(engine, table);
    all.push(current::view(engine, table));
    all
}

/// Whether files may have a cell's exact text in `_cdc_raw`. Bytes that are not text, which any text of a SQL_ASCII database may have, are not
/// meant: the schema does not tell of them, and all other databases would pay for it.
fn may_be_raw(codec: &Codec) -> bool {
    // `losses` is about the cells to come. What is refused now may have been let in before.
    let is_more = |part: &Codec| matches!(part, Codec::Char | Codec::As { form: Form::Error, .. });
    !codec.losses().is_empty() || codec.has(&is_more)
}

/// Built-in types whose values are never kept outside of a row: boolean, "char", name, numbers, identifiers, dates and times, uuid,
/// pg_lsn, xid8, network hardware and plain geometric ones.
const FIXED_SIZE: [u32; 31] = [
    16, 18, 19, 20, 21, 23, 24, 26, 27, 28, 29, 600, 601, 603, 628, 700, 701, 718, 774, 790, 829, 1082, 1083,
    1114, 1184, 1186, 1266, 2205, 2950, 3220, 5069,
];

#[cfg(test)]
mod tests;
