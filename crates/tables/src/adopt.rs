//! Rows in the lake of a table that was a leaf all along: what they are under its root's schema.
//!
//! Owns: which column of the one is which of the other.
//! Does not: read or write files.
//! Holds: a row keeps its place in the order of all changes, its relation and every value.
//! Fails: [`Misfit`] before the first row, where a value could end in a column that means something else.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, make_array, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

use crate::schema::TableSchema;

/// Puts rows of files of one table under the schema of another one.
#[derive(Clone, Debug)]
pub struct Adoption {
    schema: SchemaRef,
}

/// Why rows of one table cannot be rows of another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Old rows of the one do not say which rows of the other they are.
    #[error("the leaf has the key ({}) and the root ({})", leaf.join(", "), root.join(", "))]
    Key {
        /// By Postgres names.
        leaf: Vec<String>,
        /// By Postgres names.
        root: Vec<String>,
    },
    /// The other one has no such column, or another type of it.
    #[error("the leaf has the column {column} as {leaf}, and the root {}", root.as_deref().map_or("has none".to_owned(), |root| format!("as {root}")))]
    Column {
        /// By its name in the lake.
        column: String,
        /// Its type in Postgres.
        leaf: String,
        /// That of the other one.
        root: Option<String>,
    },
    /// Old rows would be lost.
    #[error("the leaf has the old rows of its changes (`tables.before`), and the root does not")]
    Before,
}

impl Adoption {
    /// How rows of a leaf become rows of its root.
    pub fn new(leaf: &TableSchema, root: &TableSchema) -> Result<Adoption, Misfit> {
        let has_same_key =
            leaf.key.len() == root.key.len() && leaf.key.iter().all(|name| root.key.contains(name));
        if !has_same_key {
            return Err(Misfit::Key { leaf: leaf.key.clone(), root: root.key.clone() });
        }
        if leaf.before && !root.before {
            return Err(Misfit::Before);
        }
        for column in &leaf.columns {
            // `_cdc_unchanged` and `_cdc_raw` have names of the lake, so that these have to be the same.
            let of_root = root.columns.iter().find(|other| other.name == column.name);
            let is_same = |other: &&crate::schema::Column| {
                (&other.source_name, &other.codec, &other.lake)
                    == (&column.source_name, &column.codec, &column.lake)
            };
            if of_root.filter(is_same).is_none() {
                return Err(Misfit::Column {
                    column: column.name.clone(),
                    leaf: column.type_name.clone(),
                    root: of_root.map(|other| other.type_name.clone()),
                });
            }
        }
        Ok(Adoption { schema: root.arrow() })
    }

    /// The columns that the rows get.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows of the leaf, as they were in one of its files, as rows of the root. A column that the file does not have reads NULL.
    pub fn rows(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = self.schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
            Some(array) => relabelled(array, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        });
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)
    }
}

/// The same values under a type that has other field ids in it.
fn relabelled(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    if !array.data_type().equals_datatype(to) {
        let reason = format!("a file has {} where its schema has {to}", array.data_type());
        return Err(ArrowError::SchemaError(reason));
    }
    Ok(make_array(with_type(array.to_data(), to)?))
}

fn with_type(values: ArrayData, to: &DataType) -> Result<ArrayData, ArrowError> {
    let inner: Vec<&DataType> = match to {
        DataType::List(field) | DataType::Map(field, _) => vec![field.data_type()],
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
        _ => Vec::new(),
    };
    let children = values.child_data().to_vec().into_iter().zip(inner);
    let children = children.map(|(child, to)| with_type(child, to)).collect::<Result<_, _>>()?;
    values.into_builder().data_type(to.clone()).child_data(children).build()
}

#[cfg(test)]
mod tests;
