//! The columns of a table in the lake, version by version.
//!
//! Owns: field ids, lake names, and what an altered column becomes.
//! Does not: resolve types (`types`), or decide when a table changes (`fold`).
//! Holds: a field id means one column of one type (or of a promotion of it) for ever; lake names are unique
//! ignoring case; versions only ever add columns.
//! Fails: never; any set of columns has a schema.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use pgoutput::Oid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::types::{Codec, LakeType, Resolved};

/// One column of a [`TableSchema`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its Parquet and Iceberg field id.
    pub field_id: i32,
    /// The field id of a list's elements.
    pub element_field_id: Option<i32>,
    /// Its name in the lake.
    pub name: String,
    /// Its name in Postgres.
    pub source_name: String,
    /// Its type in Postgres.
    pub type_oid: Oid,
    /// The type's modifier, -1 for none.
    pub type_modifier: i32,
    /// The type as people write it, `numeric(10,2)`.
    pub type_name: String,
    /// How its cells are read.
    pub codec: Codec,
    /// What it is in the lake.
    pub lake: LakeType,
    /// Its type changed and another column took over; it reads NULL from then on.
    pub dropped: bool,
}

/// One version of a table's columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// The version, from 1.
    pub id: u32,
    /// The columns, without the metadata columns that every file begins with.
    pub columns: Vec<Column>,
    /// What identifies a row, by source names; empty for a table without a key.
    pub key: Vec<String>,
    /// The next field id that was never given out.
    pub next_field_id: i32,
}

/// A column as a relation announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Its name in Postgres.
    pub name: String,
    /// Its type in Postgres.
    pub type_oid: Oid,
    /// The type's modifier, -1 for none.
    pub type_modifier: i32,
    /// What the catalog makes of the type.
    pub resolved: Resolved,
}

impl TableSchema {
    /// The first version of a table.
    pub fn new(columns: &[ColumnSpec], key: Vec<String>) -> TableSchema {
        let mut schema =
            TableSchema { id: 1, columns: Vec::new(), key, next_field_id: FIRST_COLUMN_FIELD_ID };
        let mut names = LakeNames::default();
        for spec in columns {
            let name = names.of(&spec.name);
            schema.add(spec, name);
        }
        schema.number_elements();
        schema
    }

    /// The version that also holds `columns` and has this key, or `None` if this one does.
    ///
    /// A column that is not among `columns` stays as it is: another leaf may still have it.
    pub fn evolve(&self, columns: &[ColumnSpec], key: &[String]) -> Option<TableSchema> {
        if self.fits(columns) && same_members(&self.key, key) {
            return None;
        }
        let mut next = TableSchema { id: self.id.saturating_add(1), key: key.to_vec(), ..self.clone() };
        let mut names = LakeNames::taken_by(&self.columns);
        for spec in columns {
            next.place(spec, &mut names);
        }
        next.number_elements();
        Some(next)
    }

    /// The Arrow schema of a file: metadata columns, then these.
    pub fn arrow(&self) -> SchemaRef {
        let mut fields = metadata_fields();
        fields.extend(self.columns.iter().map(Column::arrow));
        Arc::new(Schema::new(fields))
    }

    /// The index of the live column of that Postgres name.
    pub fn position(&self, source_name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.is_live_as(source_name))
    }

    /// Whether every one of these columns has a live column that reads it.
    fn fits(&self, columns: &[ColumnSpec]) -> bool {
        columns.iter().enumerate().all(|(place, spec)| {
            // Most relations have the order of their table.
            let column = self.columns.get(place).filter(|column| column.is_live_as(&spec.name));
            let column = column.or_else(|| self.columns.get(self.position(&spec.name)?));
            column.is_some_and(|column| column.judge(spec) == Verdict::Fits)
        })
    }

    /// Makes room for a column: the one that has its name, one that had it before, or a new one.
    fn place(&mut self, spec: &ColumnSpec, names: &mut LakeNames) {
        let live = self.position(&spec.name);
        if let Some(column) = live.and_then(|index| self.columns.get_mut(index)) {
            match column.judge(spec) {
                Verdict::Fits => return,
                Verdict::Adopts => return column.adopt(spec),
                Verdict::Replaces => column.dropped = true,
            }
        }
        // A type that the column had before comes back: after a restart the stream may repeat rows from
        // before the change, and neither they nor what follows may add a column each time.
        let before = self.columns.iter_mut().enumerate().find(|(index, column)| {
            column.dropped
                && Some(*index) != live
                && column.source_name == spec.name
                && column.judge(spec) != Verdict::Replaces
        });
        if let Some((_, column)) = before {
            column.dropped = false;
            if column.judge(spec) == Verdict::Adopts {
                column.adopt(spec);
            }
            return;
        }
        let first = self.columns.iter().find(|column| column.source_name == spec.name);
        let name = match first {
            Some(first) => names.numbered(&first.name),
            None => names.of(&spec.name),
        };
        self.add(spec, name);
    }

    fn add(&mut self, spec: &ColumnSpec, name: String) {
        let field_id = self.take_field_id();
        self.columns.push(Column {
            field_id,
            element_field_id: None,
            name,
            source_name: spec.name.clone(),
            type_oid: spec.type_oid,
            type_modifier: spec.type_modifier,
            type_name: spec.resolved.type_name.clone(),
            codec: spec.resolved.codec.clone(),
            lake: spec.resolved.lake.clone(),
            dropped: false,
        });
    }

    /// Gives the elements of new list columns their ids: top level first, as Iceberg numbers.
    fn number_elements(&mut self) {
        let mut next = self.next_field_id;
        for column in &mut self.columns {
            if matches!(column.lake, LakeType::List(_)) && column.element_field_id.is_none() {
                column.element_field_id = Some(next);
                next = next.saturating_add(1);
            }
        }
        self.next_field_id = next;
    }

    fn take_field_id(&mut self) -> i32 {
        let field_id = self.next_field_id;
        self.next_field_id = field_id.saturating_add(1);
        field_id
    }
}

/// What a column does with an announced one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Reads its cells as it is.
    Fits,
    /// Takes its type over, and keeps its field id.
    Adopts,
    /// Ends; a new column takes the cells.
    Replaces,
}

impl Column {
    fn is_live_as(&self, source_name: &str) -> bool {
        !self.dropped && self.source_name == source_name
    }

    fn judge(&self, spec: &ColumnSpec) -> Verdict {
        let codec = &spec.resolved.codec;
        if self.codec == *codec {
            // Leaves, and rows repeated after a restart, may lag behind: only a wider one is news.
            let is_known =
                self.type_oid == spec.type_oid && !is_wider_modifier(spec.type_modifier, self.type_modifier);
            return if is_known { Verdict::Fits } else { Verdict::Adopts };
        }
        if self.codec.reads(codec) {
            Verdict::Fits
        } else if codec.reads(&self.codec) || self.lake == spec.resolved.lake {
            Verdict::Adopts
        } else {
            Verdict::Replaces
        }
    }

    fn adopt(&mut self, spec: &ColumnSpec) {
        self.type_oid = spec.type_oid;
        self.type_modifier = spec.type_modifier;
        self.type_name = spec.resolved.type_name.clone();
        self.codec = spec.resolved.codec.clone();
        self.lake = spec.resolved.lake.clone();
    }

    fn arrow(&self) -> Field {
        let data_type = self.lake.arrow(self.element_field_id);
        field(&self.name, data_type, true, Some(self.field_id))
    }
}

impl LakeType {
    /// The Arrow type; `element_field_id` is for the elements of a list.
    fn arrow(&self, element_field_id: Option<i32>) -> DataType {
        match self {
            LakeType::Boolean => DataType::Boolean,
            LakeType::Int32 => DataType::Int32,
            LakeType::Int64 => DataType::Int64,
            LakeType::Float32 => DataType::Float32,
            LakeType::Float64 => DataType::Float64,
            LakeType::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            LakeType::Utf8 => DataType::Utf8,
            LakeType::Binary => DataType::Binary,
            LakeType::Date => DataType::Date32,
            LakeType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            LakeType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from(UTC))),
            LakeType::List(element) => {
                DataType::List(Arc::new(field("element", element.arrow(None), true, element_field_id)))
            }
        }
    }
}

fn metadata_fields() -> Vec<Field> {
    let [op, lsn, seq, commit_ts, xid, relation, unchanged, raw] = METADATA_COLUMNS;
    let instant = LakeType::TimestampTz.arrow(None);
    let entry = Fields::from(vec![
        field("key", DataType::Utf8, false, Some(10)),
        field("value", DataType::Utf8, true, Some(11)),
    ]);
    let entries = Arc::new(field("key_value", DataType::Struct(entry), false, None));
    vec![
        field(op, DataType::Utf8, false, Some(1)),
        field(lsn, DataType::Int64, false, Some(2)),
        field(seq, DataType::Int64, false, Some(3)),
        field(commit_ts, instant, false, Some(4)),
        field(xid, DataType::Int64, false, Some(5)),
        field(relation, DataType::Utf8, false, Some(6)),
        field(unchanged, LakeType::List(Box::new(LakeType::Utf8)).arrow(Some(9)), true, Some(7)),
        field(raw, DataType::Map(entries, false), true, Some(8)),
    ]
}

fn field(name: &str, data_type: DataType, is_nullable: bool, field_id: Option<i32>) -> Field {
    let metadata = field_id.map(|id| (FIELD_ID.to_owned(), id.to_string()));
    Field::new(name, data_type, is_nullable).with_metadata(HashMap::from_iter(metadata))
}

fn is_wider_modifier(modifier: i32, than: i32) -> bool {
    than >= 0 && (modifier < 0 || modifier > than)
}

fn same_members(one: &[String], other: &[String]) -> bool {
    one == other || one.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>()
}

/// The names that columns of one table have, in lower case: engines do not tell case.
#[derive(Default)]
struct LakeNames {
    taken: HashSet<String>,
}

impl LakeNames {
    fn taken_by(columns: &[Column]) -> LakeNames {
        LakeNames { taken: columns.iter().map(|column| column.name.to_lowercase()).collect() }
    }

    /// The lake name of a Postgres name: itself, or what is legal of it and a hash of it.
    fn of(&mut self, source_name: &str) -> String {
        if is_safe(source_name) && self.take(source_name) {
            return source_name.to_owned();
        }
        let legal: String = source_name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        let hash: String = Sha256::digest(source_name).iter().map(|byte| format!("{byte:02x}")).collect();
        let short: String = hash.chars().take(HASH_DIGITS).collect();
        let name = format!("{legal}_{short}");
        if self.take(&name) { name } else { self.numbered(&name) }
    }

    /// The first free one of `name_2`, `name_3` and so on.
    fn numbered(&mut self, name: &str) -> String {
        let mut number = 2_u32;
        loop {
            let candidate = format!("{name}_{number}");
            if self.take(&candidate) {
                return candidate;
            }
            number = number.saturating_add(1);
        }
    }

    fn take(&mut self, name: &str) -> bool {
        self.taken.insert(name.to_lowercase())
    }
}

/// Whether every engine takes the name as it is (apart from collisions).
fn is_safe(name: &str) -> bool {
    let is_legal = |c: char| !c.is_control() && !ILLEGAL.contains(c);
    let lower = name.to_lowercase();
    let is_reserved = METADATA_COLUMNS.contains(&lower.as_str()) || PARTITION_KEYS.contains(&lower.as_str());
    !name.trim().is_empty() && name.chars().all(is_legal) && !is_reserved
}

/// The columns that every file begins with; their field ids count from 1.
pub const METADATA_COLUMNS: [&str; 8] = [
    "_cdc_op",
    "_cdc_lsn",
    "_cdc_seq",
    "_cdc_commit_ts",
    "_cdc_xid",
    "_cdc_relation",
    "_cdc_unchanged",
    "_cdc_raw",
];

/// The keys of the partition directories, which no column may be called.
pub const PARTITION_KEYS: [&str; 2] = ["cdc_date", "cdc_hour"];

/// The first field id of a table's own columns; those below are for metadata columns and their elements.
pub const FIRST_COLUMN_FIELD_ID: i32 = 100;

/// Where the Parquet writer looks for a field's id (`parquet::arrow::PARQUET_FIELD_ID_META_KEY`).
const FIELD_ID: &str = "PARQUET:field_id";

/// What Spark refuses in the names of Parquet columns.
const ILLEGAL: &str = " ,;{}()\n\t=";

/// Of the 64 of SHA-256: 32 bits tell the columns of one table apart, and `numbered` is there for the rest.
const HASH_DIGITS: usize = 8;

/// The zone of instants, by the name that every reader of Arrow knows.
pub(crate) const UTC: &str = "UTC";

#[cfg(test)]
mod tests;
