//! What the published columns become in the lake, known before a row comes.
//!
//! Owns: the rules for types and layouts judged against the columns that there are, and whether the stream can be binary.
//! Does not: decide a mapping (`tables::types`), or write one.
//! Holds: reads only; shows what a table that is new to the lake gets.
//! Fails: `Config`, for a form that a column's type does not have, and a table that cannot be laid out by its columns; otherwise as the source does.

use std::collections::BTreeMap;

use lake::log::State;
use pgoutput::Oid;
use tables::fold::is_made_up;
use tables::lineage::{Facts, Link, RootFacts};
use tables::schema::ColumnSpec;
use tables::types::{Resolved, TypeCatalog, TypeRules};

use crate::config::{Config, Format};
use crate::error::{Error, Result};
use crate::source::{Folding, Sql, catalog};

/// A published table with its columns.
pub(crate) struct Mapped {
    pub(crate) root: RootFacts,
    pub(crate) columns: Vec<ColumnSpec>,
}

/// The published and included tables, by name.
pub(crate) async fn of_published(sql: &Sql, config: &Config, facts: Facts) -> Result<Vec<Mapped>> {
    let selection = config.tables.selection()?;
    let Facts { mut roots, types, leaves, .. } = facts;
    let mut catalog = TypeCatalog::new(config.types.rules()?);
    types.into_iter().for_each(|facts| catalog.learn(facts));
    roots.retain(|root| selection.includes(&root.schema, &root.name));
    roots.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    // A table that is in no catalog has the columns of its leaves; those of the first will do.
    let mut firsts: BTreeMap<Oid, Oid> = BTreeMap::new();
    for leaf in leaves.iter().filter(|leaf| leaf.link == Link::Rule && is_made_up(leaf.root)) {
        let first = firsts.entry(leaf.root).or_insert(leaf.oid);
        *first = leaf.oid.min(*first);
    }
    let shown = |root: &RootFacts| firsts.get(&root.oid).copied().unwrap_or(root.oid);
    let relations: Vec<Oid> = roots.iter().map(shown).collect();
    let mut columns: BTreeMap<Oid, Vec<catalog::PublishedColumn>> = BTreeMap::new();
    for column in catalog::columns_of(sql, &relations).await? {
        columns.entry(column.table).or_default().push(column);
    }
    let folding = config.partitions.folding(None)?;
    let mapped = roots.into_iter().map(|mut root| {
        let own = columns.remove(&shown(&root)).unwrap_or_default();
        let own: Vec<ColumnSpec> = own.into_iter().map(|column| spec(&catalog, &root, column)).collect();
        let name = (root.schema.as_str(), root.name.as_str());
        let groups = folding.patterns().groups_of(std::iter::once(name));
        let groups: Vec<String> = groups.into_iter().map(str::to_owned).collect();
        let mut columns: Vec<ColumnSpec> =
            groups.iter().map(|group| ColumnSpec::of_group(&catalog, group)).collect();
        columns.extend(own);
        if !root.primary_key.is_empty() {
            drop(root.primary_key.splice(0..0, groups));
        }
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
    let folding = config.partitions.folding(log)?;
    let has_groups = folding.patterns().iter().any(|pattern| pattern.groups().next().is_some());
    if !config.types.rules()?.need_catalogs() && config.tables.r#override.is_empty() && !has_groups {
        return Ok(());
    }
    let facts = catalog::facts_all(sql, &config.source.publication, &folding).await?;
    refuse_groups(sql, &folding, &facts).await?;
    let tables = of_published(sql, config, facts).await?;
    refuse_misfits(config, &tables)?;
    refuse_layouts(sql, config, &tables, log).await
}

/// A column that a table has, and that the names of its leaves would tell as well, would have two meanings.
pub(crate) async fn refuse_groups(sql: &Sql, folding: &Folding, facts: &Facts) -> Result<()> {
    let Facts { roots, leaves, .. } = facts;
    for root in roots {
        let groups =
            folding.patterns().groups_of(std::iter::once((root.schema.as_str(), root.name.as_str())));
        if groups.is_empty() {
            continue;
        }
        let of_root = leaves.iter().filter(|leaf| leaf.root == root.oid);
        let relations = of_root.map(|leaf| (leaf.oid, &leaf.schema, &leaf.name));
        let names: BTreeMap<Oid, (&String, &String)> = relations
            .chain([(root.oid, &root.schema, &root.name)])
            .map(|(oid, schema, name)| (oid, (schema, name)))
            .collect();
        let relations: Vec<Oid> = names.keys().copied().filter(|oid| !is_made_up(*oid)).collect();
        let found = catalog::columns_named(sql, &relations, &groups).await?;
        if let Some((relation, column)) = found.first() {
            let (schema, name) = names.get(relation).copied().unwrap_or((&root.schema, &root.name));
            return Err(Error::config(format!(
                "{schema}.{name} has a column `{column}`, which is a named group of the pattern that leads to {}.{}, too",
                root.schema, root.name
            ))
            .hint("give the group in `partitions.pattern` another name"));
        }
    }
    Ok(())
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
    let (selection, folding) = (config.tables.selection()?, config.partitions.folding(None)?);
    let published = catalog::published_types(sql, &config.source.publication, &usual).await?;
    let mut oids: Vec<Oid> = published
        .into_iter()
        .filter(|found| {
            found.is_partition
                || selection.includes(&found.schema, &found.table)
                || folding.may_be_leaf(&found.schema, &found.table)
        })
        .map(|found| found.oid)
        .collect();
    oids.sort_unstable();
    oids.dedup();
    let learnt: Vec<Oid> = oids.iter().copied().filter(|oid| !catalog.knows(*oid)).collect();
    if !learnt.is_empty() {
        let facts = catalog::facts_for(sql, &folding, &[], &learnt, &[]).await?;
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
