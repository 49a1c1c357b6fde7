//! `tributary inspect types`: the lake type of every published column, before a row is written.
//!
//! Owns: showing what `tables` makes of the published columns.
//! Does not: decide a mapping.
//! Holds: shows what a table that is new to the lake gets; one that is there already may have older columns beside.
//! Fails: as the source does, and on a form that a column's type does not have.

use serde_json::{Value, json};
use tables::fold::Reserved;
use tables::schema::{Column, ColumnSpec, TableSchema};
use tables::types::{ChosenBy, Loss};

use super::super::{Answer, text};
use crate::config::Config;
use crate::error::Result;
use crate::pipeline::mapping::{self, Mapped};
use crate::source::{catalog, connect_sql};

pub(super) async fn run(config: &Config) -> Result<Answer> {
    let sql = connect_sql(&config.catalog_options()?).await?;
    let folding = config.partitions.folding(None)?;
    let facts = catalog::facts_all(&sql, &config.source.publication, &folding).await?;
    let tables = mapping::of_published(&sql, config, facts).await?;
    mapping::refuse_misfits(config, &tables)?;
    Ok(answer(&tables, &config.tables.layouts()?.reserved()))
}

fn answer(tables: &[Mapped], reserved: &Reserved) -> Answer {
    let (mut lines, mut documents) = (Vec::new(), Vec::new());
    for Mapped { root, columns } in tables {
        let table = format!("{}.{}", root.schema, root.name);
        let reserved = reserved.of(std::iter::once((root.schema.as_str(), root.name.as_str())));
        let schema = TableSchema::with_reserved(columns, root.primary_key.clone(), reserved);
        let pairs = || schema.columns.iter().zip(columns);
        lines.extend(pairs().map(|(column, spec)| line(&table, column, spec)));
        let shown: Vec<Value> = pairs().map(|(column, spec)| document(column, spec)).collect();
        documents.push(json!({"table": table, "key": schema.key, "columns": shown}));
    }
    let header = [
        "table",
        "column",
        "Postgres type",
        "lake column",
        "Iceberg",
        "Parquet",
        "form",
        "chosen by",
        "stream",
        "may go to _cdc_raw",
    ];
    Answer::new(text::columns(&header, &[], &lines), json!({"tables": documents}))
}

fn line(table: &str, column: &Column, spec: &ColumnSpec) -> Vec<String> {
    let losses = losses(column);
    vec![
        table.to_owned(),
        column.source_name.clone(),
        column.type_name.clone(),
        column.name.clone(),
        short(column.lake.iceberg()),
        short(column.lake.parquet()),
        column.codec.form(),
        chosen_by(&spec.resolved.chosen_by),
        stream(spec).to_owned(),
        if losses.is_empty() { "-".to_owned() } else { losses.join(", ") },
    ]
}

/// Structs within structs have long names; `--json` has them whole.
fn short(lake_type: String) -> String {
    match lake_type.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", lake_type.get(..end).unwrap_or_default()),
        None => lake_type,
    }
}

fn document(column: &Column, spec: &ColumnSpec) -> Value {
    json!({
        "column": column.source_name,
        "type": column.type_name,
        "lake_column": column.name,
        "field_id": column.field_id,
        "nested_field_ids": column.nested_field_ids,
        "iceberg": column.lake.iceberg(),
        "parquet": column.lake.parquet(),
        "form": column.codec.form(),
        "forms": column.codec.forms(),
        "chosen_by": chosen_by(&spec.resolved.chosen_by),
        "binary": spec.resolved.has_binary_decoder,
        "may_go_to_raw": losses(column),
    })
}

/// Bytes that are not text, which any text may have in a SQL_ASCII database, are not told of.
fn losses(column: &Column) -> Vec<&'static str> {
    column.codec.losses().into_iter().map(Loss::label).collect()
}

fn chosen_by(chosen_by: &ChosenBy) -> String {
    match chosen_by {
        ChosenBy::Default => "default".to_owned(),
        ChosenBy::Profile => "types.profile".to_owned(),
        ChosenBy::Override(key) => format!("types.override {key}"),
        ChosenBy::Column(key) => format!("types.columns {key}"),
    }
}

/// What the stream may carry for it.
fn stream(spec: &ColumnSpec) -> &'static str {
    if spec.resolved.has_binary_decoder { "binary" } else { "text only" }
}

/// How much of a lake type the list shows.
const SHOWN: usize = 28;

#[cfg(test)]
mod tests;
