//! What the published columns become in the lake, known before a row comes.
//!
//! Owns: the rules for types and layouts judged against the columns that there are, and whether the stream can be binary.
//! Does not: decide a mapping (`tables::types`), or write one.
//! Holds: reads only; shows what a table that is new to the lake gets.
//! Fails: `Config`, for a form that a column's type does not have, and a table that cannot be laid out by its columns; otherwise as the source does.

use std::collections::BTreeMap;

use lake::log::State;
use pgoutput::Oid;
use tables::lineage::{Facts, RootFacts};
use tables::schema::ColumnSpec;
use tables::types::{Resolved, TypeCatalog, TypeRules};

use crate::config::{Config, Format};
use crate::error::Result;
use crate::source::{Sql, catalog};

/// A published table with its columns.
pub(crate) struct Mapped {
    pub(crate) root: RootFacts,
    pub(crate) columns: Vec<ColumnSpec>,
}

/// The published and included tables, by name.
pub(crate) async fn of_published(sql: &Sql, config: &Config, facts: Facts) -> Result<Vec<Mapped>> {
    let selection = config.tables.selection()?;
    let Facts { mut roots, types, .. } = facts;
    let mut catalog = TypeCatalog::new(config.types.rules()?);
    types.into_iter().for_each(|facts| catalog.learn(facts));
    roots.retain(|root| selection.includes(&root.schema, &root.name));
    roots.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    let mut columns: BTreeMap<Oid, Vec<catalog::PublishedColumn>> = BTreeMap::new();
    for column in catalog::columns_of(sql, &roots).await? {
        columns.entry(column.table).or_default().push(column);
    }
    let mapped = roots.into_iter().map(|root| {
        let columns = columns.remove(&root.oid).unwrap_or_default();
        let columns = columns.into_iter().map(|column| spec(&catalog, &root, column)).collect();
        Mapped { root, columns }
    });
    Ok(mapped.collect())
}

fn spec(catalog: &TypeCatalog, root: &RootFacts, column: catalog::PublishedColumn) -> ColumnSpec {
    let catalog::PublishedColumn { name, type_oid, type_modifier, .. } = column;
    let table = (root.schema.as_str(), root.name.as_str());
    let resolved = catalog.resolve_column([table], &name, type_oid, type_modifier);
    ColumnSpec { name, type_oid, type_modifier, resolved }
}

/// A form that its column's type does not have would be a setting without an effect.
pub(crate) fn refuse_misfits(config: &Config, tables: &[Mapped]) -> Result<()> {
    for Mapped { root, columns } in tables {
        for column in columns {
            if let Some(misfit) = &column.resolved.misfit {
                let name = format!("{}.{}.{}", root.schema, root.name, column.name);
                return Err(config.types.misfit(&name, &column.resolved.type_name, misfit));
            }
        }
    }
    Ok(())
}

/// The same at the start of the daemon, which asks only if there is a rule that needs it.
pub(super) async fn check_rules(sql: &Sql, config: &Config, log: Option<&State>) -> Result<()> {
    if !config.types.rules()?.need_catalogs() && config.tables.r#override.is_empty() {
        return Ok(());
    }
    let folds_to_root = config.partitions.folds_to_root();
    let facts = catalog::facts_all(sql, &config.source.publication, folds_to_root).await?;
    let tables = of_published(sql, config, facts).await?;
    refuse_misfits(config, &tables)?;
    refuse_layouts(sql, config, &tables, log).await
}

/// A table that cannot be laid out as it should be would stop the daemon at its first row.
pub(crate) async fn refuse_layouts(
    sql: &Sql,
    config: &Config,
    tables: &[Mapped],
    log: Option<&State>,
) -> Result<()> {
    let layouts = config.tables.layouts()?;
    if layouts.is_empty() {
        return Ok(());
    }
    let publications = catalog::publication(sql, &config.source.publication).await?;
    let inserts_only = publications.iter().all(|publication| !publication.update && !publication.delete);
    for Mapped { root, columns } in tables {
        if let Some(rule) = layouts.of(std::iter::once((root.schema.as_str(), root.name.as_str()))) {
            let table = format!("{}.{}", root.schema, root.name);
            let known = log.and_then(|state| state.tables.get(&root.oid.0));
            let known = known.and_then(|known| known.document.read().ok());
            rule.check(&table, columns, known.as_ref())?;
            rule.check_inserts(&table, inserts_only)?;
        }
    }
    Ok(())
}

/// The keys of `types.columns` that name no column.
pub(crate) fn unused<'r>(rules: &'r TypeRules, tables: &[Mapped]) -> Vec<&'r str> {
    let named = |glob: &tables::fold::ColumnGlob| {
        tables.iter().any(|Mapped { root, columns }| {
            columns.iter().any(|column| glob.matches(&root.schema, &root.name, &column.name))
        })
    };
    rules.column_keys().filter(|(_, glob)| !named(glob)).map(|(key, _)| key).collect()
}

/// Whether the stream is asked for binary cells: if every published type's are understood. What a type that is met
/// later cannot do is found out then.
pub(super) async fn speaks_binary(sql: &Sql, config: &Config) -> Result<bool> {
    if config.source.format == Format::Text {
        return Ok(false);
    }
    let converts = !UNCONVERTED.contains(&catalog::server(sql).await?.encoding.as_str());
    let mut catalog = TypeCatalog::default();
    let is_unread =
        |found: &Resolved| !found.has_binary_decoder || (converts && found.codec.is_sent_unconverted());
    // Most columns have one of these. What is left of 200,000 tables is a short list.
    let usual: Vec<Oid> = (1..BUILT_IN_MAX)
        .map(Oid)
        .filter(|oid| catalog.knows(*oid) && !is_unread(&catalog.resolve(*oid, -1)))
        .collect();
    let selection = config.tables.selection()?;
    let published = catalog::published_types(sql, &config.source.publication, &usual).await?;
    let mut oids: Vec<Oid> = published
        .into_iter()
        .filter(|found| found.is_partition || selection.includes(&found.schema, &found.table))
        .map(|found| found.oid)
        .collect();
    oids.sort_unstable();
    oids.dedup();
    let learnt: Vec<Oid> = oids.iter().copied().filter(|oid| !catalog.knows(*oid)).collect();
    if !learnt.is_empty() {
        let facts = catalog::facts_for(sql, &[], &learnt, &[]).await?;
        facts.types.into_iter().for_each(|facts| catalog.learn(facts));
    }
    let unread = oids.iter().map(|oid| catalog.resolve(*oid, -1)).find(is_unread);
    if let Some(unread) = &unread {
        tracing::info!(
            r#type = unread.type_name,
            "a published type is read as text only, so the stream is text"
        );
    }
    Ok(unread.is_none())
}

/// Built-in types that are of any use have lower OIDs.
const BUILT_IN_MAX: u32 = 10_000;
/// Encodings of databases that our session, which asks for UTF8 or the same, needs no conversion from.
pub(crate) const UNCONVERTED: [&str; 2] = ["UTF8", "SQL_ASCII"];
