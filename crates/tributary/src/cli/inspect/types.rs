//! `tributary inspect types`: the lake type of every published column, before a row is written.
//!
//! Owns: reading the columns from the catalogs, and showing what `tables` makes of them.
//! Does not: decide a mapping.
//! Holds: shows what a table that is new to the lake gets; one that is there already may have older columns beside.
//! Fails: as the source does.

use std::collections::BTreeMap;

use serde_json::json;
use tables::lineage::RootFacts;
use tables::schema::{ColumnSpec, TableSchema};
use tables::types::{LakeType, TypeCatalog};
use tokio_postgres::Row;

use super::super::{Answer, text};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::source::{catalog, connect_sql};

pub(super) async fn run(config: &Config) -> Result<Answer> {
    let selection = config.tables.selection()?;
    let sql = connect_sql(&config.catalog_options()?).await?;
    let facts =
        catalog::facts_all(&sql, &config.source.publication, config.partitions.folds_to_root()).await?;
    let mut catalog = TypeCatalog::default();
    facts.types.into_iter().for_each(|facts| catalog.learn(facts));
    let mut roots = facts.roots;
    roots.retain(|root| selection.includes(&root.schema, &root.name));
    roots.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    let oids: Vec<u32> = roots.iter().map(|root| root.oid.0).collect();
    let rows = sql.query("columns of the published tables", COLUMNS, &[&oids]).await?;
    let mut columns: BTreeMap<u32, Vec<ColumnSpec>> = BTreeMap::new();
    for row in &rows {
        let (relation, spec) = column(row, &catalog)?;
        columns.entry(relation).or_default().push(spec);
    }
    let (mut lines, mut documents) = (Vec::new(), Vec::new());
    for root in &roots {
        let schema =
            TableSchema::new(&columns.remove(&root.oid.0).unwrap_or_default(), root.primary_key.clone());
        show(root, &schema, &mut lines, &mut documents);
    }
    let header = ["table", "column", "Postgres type", "lake column", "lake type", "field id"];
    Ok(Answer::new(text::columns(&header, &[5], &lines), json!({"tables": documents})))
}

fn column(row: &Row, catalog: &TypeCatalog) -> Result<(u32, ColumnSpec)> {
    let broken = |error: tokio_postgres::Error| Error::bug("a column of a catalog query").caused_by(error);
    let type_oid = pgoutput::Oid(row.try_get(2).map_err(broken)?);
    let type_modifier: i32 = row.try_get(3).map_err(broken)?;
    let name: String = row.try_get(1).map_err(broken)?;
    let resolved = catalog.resolve(type_oid, type_modifier);
    Ok((row.try_get(0).map_err(broken)?, ColumnSpec { name, type_oid, type_modifier, resolved }))
}

fn show(
    root: &RootFacts,
    schema: &TableSchema,
    lines: &mut Vec<Vec<String>>,
    documents: &mut Vec<serde_json::Value>,
) {
    let table = format!("{}.{}", root.schema, root.name);
    let mut columns = Vec::new();
    for column in &schema.columns {
        let lake = lake_type(&column.lake);
        lines.push(vec![
            table.clone(),
            column.source_name.clone(),
            column.type_name.clone(),
            column.name.clone(),
            lake.clone(),
            column.field_id.to_string(),
        ]);
        columns.push(json!({
            "column": column.source_name, "type": column.type_name, "lake_column": column.name, "lake_type": lake,
            "field_id": column.field_id,
        }));
    }
    documents.push(json!({"table": table, "key": schema.key, "columns": columns}));
}

fn lake_type(lake: &LakeType) -> String {
    let name = match lake {
        LakeType::Boolean => "boolean",
        LakeType::Int32 => "int32",
        LakeType::Int64 => "int64",
        LakeType::Float32 => "float32",
        LakeType::Float64 => "float64",
        LakeType::Decimal { precision, scale } => return format!("decimal({precision},{scale})"),
        LakeType::Utf8 => "string",
        LakeType::Binary => "binary",
        LakeType::Date => "date",
        LakeType::Timestamp => "timestamp(us)",
        LakeType::TimestampTz => "timestamp(us, UTC)",
        LakeType::List(element) => return format!("list<{}>", lake_type(element)),
    };
    name.to_owned()
}

/// Generated columns are not in the stream, unless a publication of 18 says so, and then a Relation message does.
const COLUMNS: &str = "SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod FROM pg_attribute a \
      WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
      ORDER BY a.attrelid, a.attnum";
