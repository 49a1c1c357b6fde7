//! Tables whose UPDATE and DELETE a publication breaks, each with the statement that mends it (T47).
//!
//! Owns: choosing the cheapest replica identity that works.
//! Does not: run the statement: it changes what the application's tables log, so a person decides.
//! Holds: FULL only where there is neither a primary key nor a fitting unique index.
//! Fails: as the source does.

use std::collections::HashMap;

use serde_json::{Value, json};
use tables::fold::Selection;

use super::statements;
use crate::error::{Error, Result};
use crate::source::Sql;
use crate::source::catalog::{self, IdentityProblem, IdentityReason};
use crate::source::sql::quote_identifier;

/// A table and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remedy {
    pub(crate) schema: String,
    pub(crate) table: String,
    /// What is wrong, for people.
    pub(crate) what: String,
    pub(crate) sql: String,
    pub(crate) relations: u64,
}

impl Remedy {
    pub(crate) fn document(&self) -> Value {
        json!({
            "table": format!("{}.{}", self.schema, self.table), "problem": self.what, "sql": self.sql,
            "relations": self.relations,
        })
    }

    fn of(problem: IdentityProblem, usable: Option<&str>) -> Remedy {
        let reason = match problem.reason {
            IdentityReason::NoPrimaryKey => "no primary key",
            IdentityReason::Nothing => "replica identity nothing",
            IdentityReason::IndexGone => "the index of its replica identity is gone",
        };
        let name = format!("{}.{}", problem.schema, problem.table);
        let is_alone = problem.relations == 1 && problem.example == name;
        let (what, sql) = if is_alone {
            let identity = usable.unwrap_or("FULL");
            (format!("{name}: {reason}"), statements::identity(&problem.schema, &problem.table, identity))
        } else {
            // Every partition has an index of its own name, so only FULL can be said for all at once.
            let identity = if usable == Some("DEFAULT") { "DEFAULT" } else { "FULL" };
            let what = format!(
                "{name}: {reason} in {} of its partitions ({} …)",
                problem.relations, problem.example
            );
            (what, statements::identity_of_partitions(&problem.schema, &problem.table, identity))
        };
        Remedy { schema: problem.schema, table: problem.table, what, sql, relations: problem.relations }
    }
}

/// The broken tables of these publications; without names, those that would be if they were published.
pub(crate) async fn remedies(
    sql: &Sql,
    publications: &[String],
    selection: Option<&Selection>,
) -> Result<Vec<Remedy>> {
    let mut problems = catalog::identity_problems(sql, publications).await?;
    if let Some(selection) = selection {
        problems.retain(|problem| selection.includes(&problem.schema, &problem.table));
    }
    if problems.is_empty() {
        return Ok(Vec::new());
    }
    let usable = usable_identities(sql, &problems).await?;
    let remedy = |problem: IdentityProblem| {
        let key = (problem.schema.clone(), problem.table.clone());
        Remedy::of(problem, usable.get(&key).map(String::as_str))
    };
    Ok(problems.into_iter().map(remedy).collect())
}

/// `DEFAULT` where there is a primary key, `USING INDEX …` where there is a fitting unique index.
async fn usable_identities(
    sql: &Sql,
    problems: &[IdentityProblem],
) -> Result<HashMap<(String, String), String>> {
    let schemas: Vec<&str> = problems.iter().map(|problem| problem.schema.as_str()).collect();
    let tables: Vec<&str> = problems.iter().map(|problem| problem.table.as_str()).collect();
    let rows = sql.query("indexes that can be a replica identity", USABLE, &[&schemas, &tables]).await?;
    let broken = |error: tokio_postgres::Error| Error::bug("a column of a catalog query").caused_by(error);
    let mut usable = HashMap::new();
    for row in &rows {
        let index: String = row.try_get(2).map_err(broken)?;
        let is_primary: bool = row.try_get(3).map_err(broken)?;
        let identity = if is_primary {
            "DEFAULT".to_owned()
        } else {
            format!("USING INDEX {}", quote_identifier(&index))
        };
        usable.insert((row.try_get(0).map_err(broken)?, row.try_get(1).map_err(broken)?), identity);
    }
    Ok(usable)
}

/// Unique, not partial, not deferrable, no expressions, all columns NOT NULL. The primary key comes last, and so wins.
const USABLE: &str = "SELECT n.nspname::text, c.relname::text, x.relname::text, i.indisprimary \
      FROM unnest($1::text[], $2::text[]) AS wanted(schema, name) \
      JOIN pg_namespace n ON n.nspname = wanted.schema \
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name \
      JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class x ON x.oid = i.indexrelid \
      WHERE i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attnotnull \
        AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])) \
      ORDER BY i.indisprimary, x.relname DESC";
