//! What the lake must say of a transaction.
//!
//! Owns: the rows of a change, by the words of the documentation and of nothing else.
//! Does not: know how the daemon gets there.
//! Holds: made from rows before and after, not from what the wire says of them.
//! Fails: never.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::postgres::database::{Change, Row as Values, Shape, Transaction, Value};
use crate::seen;

/// A row of the lake. A value that is not here is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) table: String,
    pub(crate) op: String,
    pub(crate) lsn: i64,
    pub(crate) seq: i64,
    pub(crate) commit_ts: i64,
    pub(crate) xid: i64,
    pub(crate) relation: String,
    pub(crate) unchanged: Vec<String>,
    pub(crate) values: BTreeMap<String, String>,
}

/// The rows of a transaction, in order.
pub(crate) fn rows(transaction: &Transaction, names: &BTreeMap<u32, String>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (_, change) in &transaction.changes {
        for (op, shape, values, unchanged) in images(change) {
            let root = shape.root.map_or(shape.oid, |(root, _)| root);
            rows.push(Row {
                table: names[&root.0].clone(),
                op: op.to_owned(),
                lsn: i64::try_from(transaction.final_lsn.0).expect("a small position"),
                seq: i64::try_from(rows.len()).expect("few rows") + 1,
                commit_ts: transaction.time,
                xid: i64::from(transaction.xid),
                relation: format!("public.{}", shape.name),
                unchanged,
                values,
            });
        }
    }
    rows
}

type Image<'c> = (&'static str, &'c Arc<Shape>, BTreeMap<String, String>, Vec<String>);

fn images(change: &Change) -> Vec<Image<'_>> {
    match change {
        Change::Insert { shape, new } => vec![("I", shape, all(shape, new), Vec::new())],
        Change::Delete { shape, old } => vec![("D", shape, known_of(shape, old), Vec::new())],
        Change::Truncate { shapes } => {
            seen::note("a table was truncated");
            shapes.iter().map(|shape| ("T", shape, BTreeMap::new(), Vec::new())).collect()
        }
        Change::Update { shape, old, new } => {
            // What is stored out of line, and was not touched, is only known if the old row tells.
            let mut values = all(shape, new);
            let mut unchanged = Vec::new();
            for ((column, old), new) in shape.columns.iter().zip(old).zip(new) {
                if !shape.is_full && old == new && new.is_toasted() {
                    seen::note("a value was left out for its size");
                    values.remove(&column.name);
                    unchanged.push(column.name.clone());
                }
            }
            let key = |row: &Values| -> Vec<Value> {
                let cells = shape.columns.iter().zip(row).filter(|(column, _)| column.is_key);
                cells.map(|(_, value)| value.clone()).collect()
            };
            if shape.has_key() && key(old) == key(new) {
                return vec![("U", shape, values, unchanged)];
            }
            seen::note("a row left for another key");
            // A row that gets another key, or has none, leaves and comes.
            vec![("D", shape, known_of(shape, old), Vec::new()), ("I", shape, values, unchanged)]
        }
    }
}

fn all(shape: &Shape, row: &Values) -> BTreeMap<String, String> {
    let cells = shape.columns.iter().zip(row);
    cells.filter_map(|(column, value)| Some((column.name.clone(), text(value)?))).collect()
}

/// Of a row that was there before: all of it under REPLICA IDENTITY FULL, its key otherwise.
fn known_of(shape: &Shape, row: &Values) -> BTreeMap<String, String> {
    let cells = shape.columns.iter().zip(row).filter(|(column, _)| column.is_key || shape.is_full);
    cells.filter_map(|(column, value)| Some((column.name.clone(), text(value)?))).collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Int(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.clone()),
    }
}
