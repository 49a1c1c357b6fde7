//! What is there of what Postgres needs, and what is missing.
//!
//! Owns: [`Plan`], the steps that are done with SQL.
//! Does not: create anything, or look at slot and log.
//! Holds: an existing publication is never altered; what it lacks is a warning.
//! Fails: `Config` when the globs name no table, or a publication besides the first is missing.

use std::collections::BTreeSet;

use super::identity::{self, Remedy};
use super::statements;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::source::sql::get;
use crate::source::{ConnectOptions, Sql, catalog, standby};

/// The steps, and what to be warned of.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Tables that the publication breaks, or would.
    pub(super) broken: Vec<Remedy>,
    pub(super) warnings: Vec<String>,
}

/// One thing that Postgres needs.
#[derive(Debug)]
pub(super) struct Step {
    /// For machines.
    pub(super) name: &'static str,
    /// For people.
    pub(super) title: String,
    pub(super) state: StepState,
    pub(super) sql: Vec<String>,
}

/// Whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepState {
    Present,
    Missing,
    /// Missing, and not ours to create.
    Administrator,
}

impl StepState {
    pub(super) fn label(self) -> &'static str {
        match self {
            StepState::Present => "present",
            StepState::Missing => "missing",
            StepState::Administrator => "needs an administrator",
        }
    }
}

/// Looks, and plans.
pub(super) async fn make(
    sql: &Sql,
    config: &Config,
    options: &ConnectOptions,
    ddl_events: bool,
) -> Result<Plan> {
    let selection = config.tables.selection()?;
    let wanted = candidates(sql, config).await?;
    let mut steps = vec![role(sql, options).await?, grants(sql, options, &wanted).await?];
    let names = &config.source.publication;
    let found = catalog::publication(sql, names).await?;
    let mut warnings = Vec::new();
    let broken =
        if let Some(missing) = names.iter().find(|name| !found.iter().any(|found| found.name == **name)) {
            if Some(missing) != names.first() {
                return Err(Error::config(format!("publication `{missing}` does not exist")).hint(
                "setup creates the first of `source.publication` only; create the others, or leave them out",
            ));
            }
            steps.push(publication(config, missing, &wanted)?);
            identity::remedies(sql, &[], Some(&selection)).await?
        } else {
            steps.push(Step {
                name: "publication",
                title: format!("publication {}", names.join(", ")),
                state: StepState::Present,
                sql: Vec::new(),
            });
            warnings.extend(unpublished(sql, config, &wanted).await?);
            identity::remedies(sql, names, None).await?
        };
    if ddl_events {
        steps.push(events(sql).await?);
    }
    let server = catalog::server(sql).await?;
    warnings
        .extend(standby::lacks(&server).into_iter().map(|lack| format!("{}: {}", lack.found, lack.remedy)));
    Ok(Plan { steps, broken, warnings })
}

/// Event triggers are for superusers to make.
async fn events(sql: &Sql) -> Result<Step> {
    let is_superuser = catalog::server(sql).await?.is_superuser;
    let state = match ddl_events(sql).await? {
        DdlEvents::All => StepState::Present,
        DdlEvents::None | DdlEvents::Some if is_superuser => StepState::Missing,
        DdlEvents::None | DdlEvents::Some => StepState::Administrator,
    };
    let title = "event triggers that tell the stream of DDL".to_owned();
    Ok(Step { name: "ddl_events", title, state, sql: statements::ddl_events() })
}

/// Which event triggers are there that tell the stream of DDL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DdlEvents {
    None,
    /// One of them is missing, or disabled.
    Some,
    All,
}

pub(crate) async fn ddl_events(sql: &Sql) -> Result<DdlEvents> {
    let query = "SELECT count(*), count(*) FILTER (WHERE evtenabled IN ('O', 'A')) FROM pg_event_trigger WHERE evtname = ANY($1::text[])";
    let rows = sql.query("event triggers", query, &[&statements::TRIGGERS.as_slice()]).await?;
    let row =
        rows.first().ok_or_else(|| Error::transient("the source told nothing of its event triggers"))?;
    let (there, enabled): (i64, i64) = (get(row, 0)?, get(row, 1)?);
    Ok(match there {
        0 => DdlEvents::None,
        _ if usize::try_from(enabled) == Ok(statements::TRIGGERS.len()) => DdlEvents::All,
        _ => DdlEvents::Some,
    })
}

/// What creates a publication for the globs.
pub(crate) async fn publication_statement(sql: &Sql, config: &Config, name: &str) -> Result<String> {
    let step = publication(config, name, &candidates(sql, config).await?)?;
    Ok(step.sql.join("\n"))
}

/// The tables that the globs name and that can be published: roots, or with `fold = "none"` every leaf. What is a leaf by the pattern of its name is
/// wanted if its root is; what is one by inheritance is for its own name to say.
async fn candidates(sql: &Sql, config: &Config) -> Result<Vec<(String, String)>> {
    let (selection, folding) = (config.tables.selection()?, config.partitions.folding(None)?);
    let rows =
        sql.query("tables that can be published", CANDIDATES, &[&config.partitions.folds_to_root()]).await?;
    let broken = |error: tokio_postgres::Error| Error::bug("a column of a catalog query").caused_by(error);
    let mut tables = Vec::new();
    for row in &rows {
        let (schema, table): (String, String) =
            (row.try_get(0).map_err(broken)?, row.try_get(1).map_err(broken)?);
        let is_wanted = match folding.pattern_of(&schema, &table)? {
            Some(pattern) => selection.includes(pattern.target().0, pattern.target().1),
            None => selection.includes(&schema, &table),
        };
        if is_wanted {
            tables.push((schema, table));
        }
    }
    Ok(tables)
}

async fn role(sql: &Sql, options: &ConnectOptions) -> Result<Step> {
    let server = catalog::server(sql).await?;
    let may = server.may_replicate || server.is_superuser;
    Ok(Step {
        name: "role",
        title: format!("role {} with REPLICATION", options.user),
        state: if may { StepState::Present } else { StepState::Administrator },
        sql: vec![if may {
            statements::create_role(&options.user)
        } else {
            statements::alter_role(&options.user)
        }],
    })
}

async fn grants(sql: &Sql, options: &ConnectOptions, wanted: &[(String, String)]) -> Result<Step> {
    let schemas: BTreeSet<&str> = wanted.iter().map(|(schema, _)| schema.as_str()).collect();
    let schemas: Vec<&str> = schemas.into_iter().collect();
    let (names, tables): (Vec<&str>, Vec<&str>) =
        wanted.iter().map(|(schema, table)| (schema.as_str(), table.as_str())).unzip();
    let rows = sql.query("privileges of the role", UNREADABLE, &[&names, &tables]).await?;
    let broken = |error: tokio_postgres::Error| Error::bug("a column of a catalog query").caused_by(error);
    let unreadable: i64 = match rows.first() {
        Some(row) => row.try_get(0).map_err(broken)?,
        None => 0,
    };
    let mut statements = vec![statements::grant_connect(&options.database, &options.user)];
    for schema in schemas {
        statements.extend(statements::grant_schema(schema, &options.user));
    }
    Ok(Step {
        name: "grants",
        title: "privileges to read catalogs and tables (streaming needs none on tables, a snapshot SELECT)"
            .to_owned(),
        state: if unreadable == 0 { StepState::Present } else { StepState::Administrator },
        sql: statements,
    })
}

fn publication(config: &Config, name: &str, wanted: &[(String, String)]) -> Result<Step> {
    let is_everything =
        config.tables.include.iter().any(|glob| glob == "*.*") && config.tables.exclude.is_empty();
    let sql = if is_everything {
        statements::publish_all(name)
    } else if wanted.is_empty() {
        return Err(Error::config("`tables.include` and `tables.exclude` leave no table to publish")
            .hint("globs are on schema.table of root tables: a partition is published with its parent"));
    } else {
        statements::publish_tables(name, wanted)
    };
    let tables = if is_everything { "all tables".to_owned() } else { format!("{} tables", wanted.len()) };
    Ok(Step {
        name: "publication",
        title: format!("publication {name} for {tables}"),
        state: StepState::Missing,
        sql: vec![sql],
    })
}

/// Included tables that no publication has.
async fn unpublished(sql: &Sql, config: &Config, wanted: &[(String, String)]) -> Result<Option<String>> {
    // A leaf that is none by being a partition is published by itself.
    let folding = config.partitions.folding(None)?;
    let facts = catalog::facts_all(sql, &config.source.publication, &folding).await?;
    let roots = facts.roots.iter().map(|root| (root.schema.as_str(), root.name.as_str()));
    let leaves = facts.leaves.iter().map(|leaf| (leaf.schema.as_str(), leaf.name.as_str()));
    let published: BTreeSet<(&str, &str)> = roots.chain(leaves).collect();
    let missing: Vec<String> = wanted
        .iter()
        .filter(|(schema, table)| !published.contains(&(schema.as_str(), table.as_str())))
        .map(|(schema, table)| statements::qualified(schema, table))
        .collect();
    let Some(example) = missing.first() else { return Ok(None) };
    let names = config.source.publication.join(", ");
    Ok(Some(format!(
        "{} tables are included and not published by {names}, {example} for one: ALTER PUBLICATION … ADD TABLE, then `tributary setup --accept-publication`",
        missing.len()
    )))
}

const CANDIDATES: &str = "SELECT n.nspname::text, c.relname::text \
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE c.relpersistence = 'p' AND c.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
      AND CASE WHEN $1 THEN c.relkind IN ('r', 'p') AND NOT c.relispartition ELSE c.relkind = 'r' END ORDER BY 1, 2";

const UNREADABLE: &str = "SELECT count(*) FROM unnest($1::text[], $2::text[]) AS wanted(schema, name) \
      JOIN pg_namespace n ON n.nspname = wanted.schema \
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name \
      WHERE NOT has_schema_privilege(n.oid, 'USAGE') OR NOT has_table_privilege(c.oid, 'SELECT')";
