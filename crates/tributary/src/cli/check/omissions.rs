//! What the publications will not send, or not as it happened.
//!
//! Owns: which of it is worth a warning, and what mends it.
//! Does not: ask the catalogs; `source::omissions` does.
//! Holds: says of a kind of omission some tables and how many there are, never thousands of lines.
//! Fails: never; failures go to the report.

use tables::fold::Selection;

use super::Report;
use crate::error::{Kind, Result};
use crate::source::Sql;
use crate::source::omissions::{Filtered, disagreeing_column_lists, filtered, unlogged};

pub(super) async fn look(report: &mut Report, sql: &Sql, names: &[String], selection: &Selection) {
    let found = async || -> Result<Omissions> {
        Ok(Omissions {
            disagreeing: disagreeing_column_lists(sql, names).await?,
            filtered: filtered(sql, names).await?,
            unlogged: unlogged(sql, names).await?,
        })
    };
    if let Some(found) = report.take("omissions", found().await) {
        tell(report, &found, selection);
    }
}

struct Omissions {
    disagreeing: Vec<String>,
    filtered: Vec<Filtered>,
    unlogged: Vec<(String, String)>,
}

fn tell(report: &mut Report, found: &Omissions, selection: &Selection) {
    // T45: the walsender ends with an error at the first change, and again at every try.
    if let Some(tables) = some(found.disagreeing.iter().map(String::as_str)) {
        report.fail(
            "column lists",
            Kind::Definite,
            format!(
                "the publications name different columns of {tables}: Postgres cannot decode its changes"
            ),
            "ALTER PUBLICATION … SET TABLE … (…);  -- the same columns in each, or one publication only",
        );
    }
    // T46
    if let Some(tables) = some(found.filtered.iter().map(|filtered| filtered.table.as_str())) {
        report.warn(
            "row filters",
            format!(
                "{tables}: rows come and go with the filter, and TRUNCATE ignores it; the lake holds what passes"
            ),
            "nothing needs to be done if that is meant",
        );
    }
    // T12
    let lacking = found.filtered.iter().filter(|filtered| filtered.may_lack_values);
    if let Some(tables) = some(lacking.map(|filtered| filtered.table.as_str())) {
        report.warn(
            "row filters",
            format!(
                "{tables}: a row that an UPDATE brings through the filter comes without its values that are stored out of line; they are named in _cdc_unchanged"
            ),
            "ALTER TABLE … REPLICA IDENTITY FULL;  -- brings them",
        );
    }
    // T48
    let unlogged: Vec<String> = found
        .unlogged
        .iter()
        .filter(|(schema, name)| selection.includes(schema, name))
        .map(|(schema, name)| format!("{schema}.{name}"))
        .collect();
    if let Some(tables) = some(unlogged.iter().map(String::as_str)) {
        report.warn(
            "unlogged tables",
            format!("{tables}: unlogged, so that no change of it is ever sent"),
            "ALTER TABLE … SET LOGGED;  -- its rows until then stay unsent; or exclude it (tables.exclude)",
        );
    }
}

/// The first ones by name, and how many there are; `None` if there are none.
pub(super) fn some<'t>(tables: impl Iterator<Item = &'t str>) -> Option<String> {
    let tables: Vec<&str> = tables.collect();
    let named = tables.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match tables.len() {
        0 => None,
        count if count <= NAMED => Some(named),
        count => Some(format!("{named} and {} more", count - NAMED)),
    }
}

/// Tables that are named in a line.
const NAMED: usize = 5;

#[cfg(test)]
mod tests;
